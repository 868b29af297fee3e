"""One client's connection: requests in, answers out, in order."""

import asyncio
import contextlib
import logging
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, cast

import httptools

from hevlayer.errors import BadRequestError, RequestTimeoutError
from hevlayer.http.errors import AbortConnection
from hevlayer.http.framing import (
    BODILESS_STATUSES,
    error_body,
    header_block,
    header_names,
    status_line,
    total_length,
)
from hevlayer.http.messages import Handler, Headers, Request, Response
from hevlayer.http.request_reader import BODY, HEAD, HTTP_1_0, IDLE, KEEP_ALIVE, RefusedError, RequestReader

if TYPE_CHECKING:
    from hevlayer.http.server import HttpServer

log = logging.getLogger("hevlayer.http")

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
# Below this a head and its body are copied into one buffer: cheaper than a gathered write.
JOIN_BYTES_MAX: Final = 4096
CONTENT_TYPE_JSON: Final = (b"content-type", b"application/json")
INTERNAL_ERROR: Final = Response(
    500, [CONTENT_TYPE_JSON], error_body("internal_error", "the request could not be served")
)


class ServerConnection(RequestReader, asyncio.Protocol):
    """Owned by an `HttpServer`. Keeps order, time limits and back-pressure, and writes the answers."""

    __slots__ = (
        "_accepting", "_cancel_allowed", "_close_at", "_discarding", "_gone", "_handler", "_queue", "_read_at",
        "_reading", "_refusal", "_server", "_task", "_tls", "_transport", "_write_paused", "_write_progress",
        "_write_waiter",
    )  # fmt: skip

    def __init__(self, server: "HttpServer", handler: Handler) -> None:
        super().__init__(server.config)
        self._server = server
        self._handler = handler
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._tls = False
        self._read_at = 0.0
        self._queue: deque[tuple[Request, int]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._refusal: bytes | None = None
        self._cancel_allowed = False
        self._accepting = True
        self._reading = True
        self._gone = False
        self._discarding = False
        self._close_at: float | None = None
        self._write_paused = False
        self._write_progress: tuple[int, float] = (0, 0.0)
        self._write_waiter: asyncio.Future[None] | None = None

    # --- the transport's callbacks ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._server.config.write_buffer_bytes)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self._tls = transport.get_extra_info("sslcontext") is not None
        admitted = self._server.adopt(self)
        self._read_at = self._server.now
        if not admitted:
            self._refuse(503, "service_unavailable", "too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._accepting = False
        self._server.forget(self)
        self._fail_bodies(BadRequestError("the client went away before the request body was complete"))
        self._queue.clear()
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)
        if self._cancel_allowed and self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        task = self._task
        if task is None or self._discarding:
            return False
        # A client that closes and one that only stops sending look the same; whoever still writes an answer keeps
        # the connection, and whoever asked to be told stops working on it.
        self._gone = True
        self._accepting = False
        self._reading = False
        self._fail_bodies(BadRequestError("the client went away before the request body was complete"))
        if self._cancel_allowed:
            task.cancel()
        return not self._tls

    def pause_writing(self) -> None:
        self._write_paused = True
        self._write_progress = (self._transport.get_write_buffer_size(), self._server.now)

    def resume_writing(self) -> None:
        self._write_paused = False
        waiter = self._write_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._read_at = now = self._server.now
        if not self._accepting:
            return
        self._feed_bytes = len(data)
        if self._phase is IDLE:
            self._phase = HEAD
            self._phase_since = now
            self._fed_bytes = 0
        try:
            self._parser.feed_data(data)
            if self._phase is HEAD:
                self._count_unframed(len(data), 431, "request_header_fields_too_large", "request head")
            elif self._chunked:
                self._count_unframed(len(data), 400, "bad_request", "chunk extensions and trailers")
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._parsing_failed(error)
        except RefusedError as error:
            self._refuse(error.status, error.code, error.message)

    # --- reading ---

    def _after_upgrade(self, rest: bytes) -> None:
        try:
            self.read_on_after_upgrade()
        except httptools.HttpParserError as error:
            self._parsing_failed(error)
            return
        if rest:
            self.data_received(rest)

    def _parsing_failed(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        if isinstance(cause, RefusedError):
            self._refuse(cause.status, cause.code, cause.message)
        elif isinstance(error, httptools.HttpParserCallbackError):
            log.error("connection failed", exc_info=cause or error, extra={"peer": self.peer})
            self._transport.abort()
        elif self._accepting:
            self._refuse(400, "bad_request", f"malformed HTTP: {error}")

    def enqueue(self, request: Request, flags: int) -> None:
        if not flags & KEEP_ALIVE and self._arriving is None:
            # What follows the last request is not read; one whose body arrives is not at its end yet.
            self._accepting = False
        if self._task is None:
            self._start(request, flags)
            return
        if len(self._queue) >= self._server.config.pipelined_requests_max:
            # The client sees its first requests answered and the connection closed; the rest it must send again.
            raise RefusedError(503, "service_unavailable", "too many pipelined requests")
        self._queue.append((request, flags))
        self.update_reading()

    def update_reading(self) -> None:
        if self._gone or not self._reading_possible():
            return
        wanted = self._discarding or not (
            self._queue or self._write_paused or (self._arriving is not None and self._arriving.full)
        )
        if wanted is not self._reading:
            self._reading = wanted
            if wanted:
                # The time in which the client could not send is not its own.
                self._phase_since += self._server.now - self._read_at
                self._read_at = self._server.now
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _reading_possible(self) -> bool:
        return not self._transport.is_closing()

    def send_continue(self) -> None:
        if not self._gone:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _fail_bodies(self, error: BadRequestError | RequestTimeoutError) -> None:
        if self._arriving is not None:
            self._arriving.fail(error)

    # --- the request in flight ---

    @property
    def disconnected(self) -> bool:
        return self._gone

    def cancel_on_disconnect(self, allowed: bool) -> None:
        self._cancel_allowed = allowed
        if allowed and self._gone and self._task is not None:
            self._task.cancel()

    @property
    def busy(self) -> bool:
        return self._task is not None

    def _start(self, request: Request, flags: int) -> None:
        self._server.inflight += 1
        self._cancel_allowed = False
        self._task = self._server.loop.create_task(self._serve(request, flags))

    async def _serve(self, request: Request, flags: int) -> None:
        try:
            try:
                response = await self._handler(request)
            except AbortConnection:
                raise
            except Exception:
                log.exception("handler failed", extra={"method": request.method, "path": request.path})
                response = INTERNAL_ERROR
            body = response.body
            if type(body) is bytes:
                keep = self._write_whole(request, response, body, flags)
            else:
                keep = await self._write_parts(request, response, flags)
            if self._write_paused:
                await self._writable()
        except AbortConnection as fault:
            self._ended()
            self._break(reset=fault.reset)
        except Exception as error:
            self._ended()
            if not (self._gone or self._transport.is_closing()):
                log.warning("response broken off", exc_info=error, extra={"path": request.path})
            self._transport.abort()
        except BaseException:
            self._ended()
            self._transport.abort()
            raise
        else:
            self._ended()
            self._next(request, keep)

    def _ended(self) -> None:
        self._task = None
        self._server.finished()

    def _break(self, *, reset: bool) -> None:
        if reset:
            raw = self._transport.get_extra_info("socket")
            if raw is not None and not self._gone:
                with contextlib.suppress(OSError), raw.dup() as twin:
                    twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._transport.abort()
        else:
            self._close()

    def _next(self, request: Request, keep: bool) -> None:
        """After an answer: the next request that came meanwhile, or what the connection's state asks for."""
        self._read_at = self._server.now
        if self._gone:
            self._close()
            return
        body = self._arriving
        if body is not None and body is request.body:
            body.discard()
            if not keep:
                self._linger()
                return
            self.update_reading()
        if not keep or self._server.draining:
            self._close()
        elif self._queue:
            following, flags = self._queue.popleft()
            self._start(following, flags)
            self.update_reading()
        elif self._refusal is not None:
            self._transport.write(self._refusal)
            self._linger()
        elif not self._reading:
            self.update_reading()

    # --- answers ---

    def _keeps(self, request: Request, flags: int) -> bool:
        """Whether the connection outlives this answer."""
        if not flags & KEEP_ALIVE or self._server.draining or self._gone:
            return False
        body = self._arriving
        if body is not None and body is request.body:
            remaining = body.remaining
            return (
                not (body.continue_owed or body.failed)
                and remaining is not None
                and remaining <= self._server.config.drain_body_bytes_max
            )
        return True

    def _head(self, response: Response, flags: int, keep: bool, framing: bytes) -> bytes:
        headers = response.headers
        names = header_names(headers)
        if not keep:
            framing += b"connection: close\r\n"
        elif flags & HTTP_1_0:
            framing += b"connection: keep-alive\r\n"
        date = b"" if b"date" in names else self._server.date_line
        return b"".join((status_line(response.status), header_block(headers, names), date, framing, b"\r\n"))

    def _write_whole(self, request: Request, response: Response, body: bytes, flags: int) -> bool:
        """Writes an answer whose body is in memory; returns whether the connection is kept."""
        keep = self._keeps(request, flags)
        status = response.status
        if status in BODILESS_STATUSES:
            declared = _declared_length(response.headers)
            framing = b"" if status == 204 or declared is None else b"content-length: %d\r\n" % declared
            self._transport.write(self._head(response, flags, keep, framing))
            return keep
        size = len(body)
        if request.method == "HEAD":
            declared = _declared_length(response.headers)
            size, body = (size if declared is None else declared), b""
        head = self._head(response, flags, keep, b"content-length: %d\r\n" % size)
        if len(body) <= JOIN_BYTES_MAX:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return keep

    async def _write_parts(self, request: Request, response: Response, flags: int) -> bool:
        """Writes an answer whose body is a sequence or an iterator; returns whether the connection is kept."""
        body = response.body
        if isinstance(body, (bytes, bytearray, memoryview)):
            return self._write_whole(request, response, bytes(body), flags)
        if not hasattr(body, "__aiter__"):
            if request.method == "HEAD" or response.status in BODILESS_STATUSES:
                return self._write_whole(request, response, b"".join(body), flags)
            keep = self._keeps(request, flags)
            head = self._head(response, flags, keep, b"content-length: %d\r\n" % total_length(body))
            self._transport.writelines((head, *body))
            return keep
        try:
            # An answer nobody reads may be dropped: whatever it reports has already happened.
            self.cancel_on_disconnect(True)
            return await self._write_stream(request, response, cast(AsyncIterator[bytes], body), flags)
        finally:
            self._cancel_allowed = False
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def _write_stream(self, request: Request, response: Response, body: AsyncIterator[bytes], flags: int) -> bool:
        arriving = self._arriving
        if arriving is not None and arriving is request.body and arriving.continue_owed:
            # The answer may be made from the request's body, and nothing can be asked of the client once it started.
            arriving.ask()
        keep = self._keeps(request, flags)
        length = _declared_length(response.headers)
        transport = self._transport
        if request.method == "HEAD" or response.status in BODILESS_STATUSES:
            framing = b"" if length is None else b"content-length: %d\r\n" % length
            transport.write(self._head(response, flags, keep, framing))
            return keep
        chunked = length is None and not flags & HTTP_1_0
        if chunked:
            framing = b"transfer-encoding: chunked\r\n"
        elif length is None:
            framing, keep = b"", False
        else:
            framing = b"content-length: %d\r\n" % length
        transport.write(self._head(response, flags, keep, framing))
        written = 0
        async for chunk in body:
            if not chunk:
                continue
            if transport.is_closing():
                raise ConnectionResetError("the client went away")
            written += len(chunk)
            if chunked:
                transport.writelines((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
            else:
                if length is not None and written > length:
                    raise ValueError(f"response body: longer than its content-length of {length} bytes")
                transport.write(chunk)
            if self._write_paused:
                await self._writable()
        if chunked:
            transport.write(b"0\r\n\r\n")
        elif length is not None and written < length:
            raise ValueError(f"response body: {written} bytes, its content-length says {length}")
        return keep

    async def _writable(self) -> None:
        """Until the client has read enough, or is gone. The sweep ends a wait without progress."""
        while self._write_paused and not self._transport.is_closing():
            self._write_waiter = self._server.loop.create_future()
            try:
                await self._write_waiter
            finally:
                self._write_waiter = None

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answers what cannot be served, after the answers before it, and closes."""
        self._accepting = False
        self._pending = None
        self._phase = IDLE
        timed_out = status == 408
        self._fail_bodies(RequestTimeoutError(message) if timed_out else BadRequestError(message))
        body = error_body(code, message)
        response = Response(status, [CONTENT_TYPE_JSON])
        refusal = self._head(response, 0, False, b"content-length: %d\r\n" % len(body)) + body
        if self._task is not None:
            # A body that broke off is told to its own handler, which answers.
            if self._arriving is None:
                self._refusal = refusal
            return
        self._transport.write(refusal)
        self._linger()

    # --- the end ---

    def close_if_idle(self) -> None:
        """Closes a connection on which nothing is under way."""
        if self._task is None and self._phase is IDLE and not self._discarding:
            self._close()

    def abort(self) -> None:
        """Drops the connection and cancels what is under way."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    @property
    def task(self) -> asyncio.Task[None] | None:
        return self._task

    def _close(self) -> None:
        self._accepting = False
        if self._close_at is None:
            self._close_at = self._server.now + self._server.config.write_stall_timeout_seconds
        self._transport.close()

    def _linger(self) -> None:
        """Says that nothing more comes, and reads on for a moment before it closes."""
        self._accepting = False
        self._discarding = True
        self._close_at = self._server.now + self._server.config.linger_timeout_seconds
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError):
                self._transport.write_eof()
        self.update_reading()

    def sweep(self, now: float) -> None:
        """Ends what has waited too long. Called every `sweep_seconds`."""
        config = self._server.config
        if self._close_at is not None:
            if now > self._close_at:
                self._transport.abort()
        elif self._write_paused:
            size, since = self._write_progress
            left = self._transport.get_write_buffer_size()
            if left < size:
                self._write_progress = (left, now)
            elif now - since > config.write_stall_timeout_seconds:
                self._transport.abort()
        elif self._phase is HEAD:
            if now - self._phase_since > config.head_timeout_seconds:
                self._refuse(408, "request_timeout", f"request head: not complete in {config.head_timeout_seconds} s")
        elif self._phase is BODY:
            self._sweep_body(now)
        elif self._task is None and now - self._read_at > config.keep_alive_timeout_seconds:
            self._close()

    def _sweep_body(self, now: float) -> None:
        config = self._server.config
        stalled = self._reading and now - self._read_at > config.body_stall_timeout_seconds
        body = self._arriving
        if body is not None:
            allowed = config.body_grace_seconds + body.received / config.body_bytes_per_second_min
            if stalled and not body.continue_owed:
                reason = f"request body: no data for {config.body_stall_timeout_seconds} s"
            elif self._reading and now - self._phase_since > allowed and not body.continue_owed:
                reason = f"request body: fewer than {config.body_bytes_per_second_min} bytes a second"
            else:
                return
            body.fail(RequestTimeoutError(reason))
            if self._task is None:
                self._transport.abort()
        elif stalled or now - self._phase_since > config.whole_body_timeout_seconds:
            self._refuse(408, "request_timeout", "request body: not complete in time")


def _declared_length(headers: Headers) -> int | None:
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return None
