"""One client's connection: requests in, answers out, in order."""

import asyncio
import contextlib
import logging
import socket
import struct
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, cast

from hevlayer.errors import BadRequestError, RequestTimeoutError
from hevlayer.http.answers import AnswerWriter
from hevlayer.http.errors import AbortConnection
from hevlayer.http.framing import error_body
from hevlayer.http.messages import ArrivedRequest, Request, Response
from hevlayer.http.request_body import EMPTY_BODY, ArrivingBody, WholeBody
from hevlayer.kernels.http import EXPECTS, HTTP_1_0, KEEP_ALIVE, RefusedError, RequestHead, RequestReader

if TYPE_CHECKING:
    from hevlayer.http.server import HttpServer

log = logging.getLogger("hevlayer.http")

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
CONTENT_TYPE_JSON: Final = (b"content-type", b"application/json")
INTERNAL_ERROR: Final = Response(
    500, [CONTENT_TYPE_JSON], error_body("internal_error", "the request could not be served")
)
# In the place of a request that is answered without having been made.
TAKEN_ON: Final = Request("POST", b"", "", "", [], EMPTY_BODY, "")
# The reader's phases.
IDLE, HEAD, BODY = 0, 1, 2


class ServerConnection(AnswerWriter, asyncio.Protocol):
    """Owned by an `HttpServer`. Keeps order, time limits and back-pressure.

    A request is under way from `_start` until `_ended`. Either a task serves it, or whoever started it has this
    connection as its `Reply`.
    """

    __slots__ = (
        "_accepting", "_arriving_flags", "_busy", "_close_at", "_discarding", "_flags", "_keep",
        "_queue",
        "_read_at", "_reader", "_reading", "_refusal", "_request", "_task", "_tls", "_write_progress", "peer",
    )  # fmt: skip

    def __init__(self, server: "HttpServer") -> None:
        super().__init__(server)
        config = server.config
        self._reader = RequestReader(
            config.head_bytes_max, config.header_count_max, config.whole_body_bytes_max, server.body_room
        )
        self._tls = False
        self.peer = ""
        self._read_at = 0.0
        self._queue: deque[tuple[Request, int]] = deque()
        self._busy = False
        self._request: Request | None = None
        self._flags = 0
        self._keep = False
        self._arriving_flags = 0
        self._task: asyncio.Task[None] | None = None
        self._refusal: bytes | None = None
        self._accepting = True
        self._reading = True
        self._discarding = False
        self._close_at: float | None = None
        self._write_progress: tuple[int, float] = (0, 0.0)

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
        if not self._busy or self._discarding:
            return False
        # A client that closes and one that only stops sending look the same; whoever still writes an answer keeps
        # the connection, and whoever asked to be told stops working on it.
        self._gone = True
        self._accepting = False
        self._reading = False
        self._fail_bodies(BadRequestError("the client went away before the request body was complete"))
        if self._cancel_allowed and self._task is not None:
            self._task.cancel()
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
        reader = self._reader
        try:
            event = reader.feed(data, now)
            while event is not None:
                if type(event) is RequestHead:
                    if self._busy or not self._hasten(event):
                        self._open(event)
                elif type(event) is bytes:
                    if self._arriving is not None:
                        self._arriving.feed(event)
                else:
                    self._body_complete()
                if not self._accepting:
                    return
                event = reader.next()
        except RefusedError as error:
            self._refuse(*error.args)
        except Exception:
            log.exception("connection failed", extra={"peer": self.peer})
            self._transport.abort()

    # --- reading ---

    def _hasten(self, head: RequestHead) -> bool:
        """Answers a request on an idle connection without more ado, or has it answered, if that can be."""
        server = self._server
        if head.flags != KEEP_ALIVE or self._gone or server.draining:
            return False
        if head.length:
            take_on = server.take_on
            if take_on is None or not take_on(head, self.peer, self):
                return False
            server.inflight += 1
            self._busy = True
            self._request = TAKEN_ON
            self._flags = KEEP_ALIVE
            self._cancel_allowed = False
            return True
        at_once = server.at_once
        message = at_once(head, self.peer, server.date_line) if at_once is not None else None
        if message is None:
            return False
        server.requests += 1
        self._transport.write(message)
        if self._write_paused:
            self._keep = True
            self._busy = True
            server.inflight += 1
            self._request = request = ArrivedRequest(head, EMPTY_BODY, self.peer, self)
            self._task = server.loop.create_task(self._send_whole(request))
        return True

    def _open(self, head: RequestHead) -> None:
        flags = head.flags
        whole = head.body
        if whole is not None:
            self._enqueue(ArrivedRequest(head, WholeBody(whole) if whole else EMPTY_BODY, self.peer, self), flags)
            return
        expects = flags & (EXPECTS | HTTP_1_0) == EXPECTS
        self._arriving = body = ArrivingBody(self, head.length, continue_owed=expects)
        self._arriving_flags = flags
        self._enqueue(ArrivedRequest(head, body, self.peer, self), flags)

    def _body_complete(self) -> None:
        if self._arriving is not None:
            self._arriving.finish()
            self._arriving = None
            if not self._arriving_flags & KEEP_ALIVE:
                self._accepting = False

    def _enqueue(self, request: Request, flags: int) -> None:
        if not flags & KEEP_ALIVE and self._arriving is None:
            # What follows the last request is not read; one whose body arrives is not at its end yet.
            self._accepting = False
        if not self._busy:
            self._start(request, flags)
            return
        if len(self._queue) >= self._server.config.pipelined_requests_max:
            # The client sees its first requests answered and the connection closed; the rest it must send again.
            raise RefusedError(503, "service_unavailable", "too many pipelined requests")
        self._queue.append((request, flags))
        self.update_reading()

    def update_reading(self) -> None:
        """Reads or stops reading, as the buffers now demand."""
        if self._gone or self._transport.is_closing():
            return
        wanted = self._discarding or not (
            self._queue or self._write_paused or (self._arriving is not None and self._arriving.full)
        )
        if wanted is not self._reading:
            self._reading = wanted
            if wanted:
                # The time in which the client could not send is not its own.
                self._reader.since += self._server.now - self._read_at
                self._read_at = self._server.now
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def send_continue(self) -> None:
        """Tells a client that waits for it to send the body."""
        if not self._gone:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _fail_bodies(self, error: BadRequestError | RequestTimeoutError) -> None:
        if self._arriving is not None:
            self._arriving.fail(error)

    # --- the request in flight ---

    @property
    def disconnected(self) -> bool:
        """The client closed its side of the connection."""
        return self._gone

    def cancel_on_disconnect(self, allowed: bool) -> None:
        """Lets the handler's task be cancelled when the client goes away, or forbids it again."""
        self._cancel_allowed = allowed
        if allowed and self._gone and self._task is not None:
            self._task.cancel()

    def _start(self, request: Request, flags: int) -> None:
        server = self._server
        server.inflight += 1
        self._busy = True
        self._request = request
        self._flags = flags
        self._cancel_allowed = False
        try:
            answering = server.starter(request, self)
        except Exception as error:
            answering = _raising(error)
        if answering is not None:
            self._task = server.loop.create_task(self._serve(request, answering, flags))

    async def _serve(self, request: Request, answering: Awaitable[Response], flags: int) -> None:
        try:
            try:
                response = await answering
            except AbortConnection:
                raise
            except Exception:
                log.exception("handler failed", extra={"method": request.method, "path": request.path})
                response = INTERNAL_ERROR
            body = response.body
            if type(body) is bytes:
                keep = self.write_whole(request, response, body, flags)
            else:
                keep = await self.write_parts(request, response, flags)
            if self._write_paused:
                await self.writable()
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
        self._busy = False
        self._request = None
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
            # From the loop: a starter that answers at once would come back here, deeper for each queued request.
            self._busy = True
            self._server.loop.call_soon(self._start_queued)
        elif self._refusal is not None:
            self._transport.write(self._refusal)
            self._linger()
        elif not self._reading:
            self.update_reading()

    def _start_queued(self) -> None:
        self._busy = False
        if not self._queue or self._transport.is_closing():
            return
        following, flags = self._queue.popleft()
        self._start(following, flags)
        self.update_reading()

    # --- the reply to a request that no task serves ---

    @property
    def date_line(self) -> bytes:
        return self._server.date_line

    def connection_line(self) -> bytes:
        request = self._request
        self._keep = keep = request is not None and self.keeps(request, self._flags)
        return self.line_of(keep, self._flags)

    def send(self, message: bytes) -> None:
        request = self._request
        if request is None or self._task is not None:
            # The server was closed meanwhile.
            return
        self._transport.write(message)
        if self._write_paused:
            self._task = self._server.loop.create_task(self._send_whole(request))
            return
        self._ended()
        self._next(request, self._keep)

    def request_of(self, head: RequestHead) -> Request:
        request = ArrivedRequest(head, WholeBody(head.body or b""), self.peer, self)
        if self._request is TAKEN_ON:
            self._request = request
        return request

    async def _send_whole(self, request: Request) -> None:
        """Waits until an answer that is written has left."""
        try:
            await self.writable()
        except BaseException:
            self._ended()
            self._transport.abort()
            raise
        self._ended()
        self._next(request, self._keep)

    def answer(self, answering: Awaitable[Response]) -> None:
        """Serves the request by a task after all."""
        if self._request is not None and self._task is None:
            self._task = self._server.loop.create_task(self._serve(self._request, answering, self._flags))
        else:
            # Nobody waits any more, but the work may have effects.
            self._server.keep_on(answering)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answers what cannot be served, after the answers before it, and closes."""
        self._accepting = False
        timed_out = status == 408
        self._fail_bodies(RequestTimeoutError(message) if timed_out else BadRequestError(message))
        body = error_body(code, message)
        response = Response(status, [CONTENT_TYPE_JSON])
        refusal = self.head(response, 0, False, b"content-length: %d\r\n" % len(body)) + body
        if self._busy:
            # A body that broke off is told to its own handler, which answers.
            if self._arriving is None:
                self._refusal = refusal
            return
        self._transport.write(refusal)
        self._linger()

    # --- the end ---

    def close_if_idle(self) -> None:
        """Closes a connection on which nothing is under way."""
        if not self._busy and self._reader.phase == IDLE and not self._discarding:
            self._close()

    def abort(self) -> None:
        """Drops the connection and cancels what is under way."""
        if self._task is not None:
            self._task.cancel()
        elif self._request is not None:
            self._ended()
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
            return
        if self._write_paused:
            size, since = self._write_progress
            left = self._transport.get_write_buffer_size()
            if left < size:
                self._write_progress = (left, now)
            elif now - since > config.write_stall_timeout_seconds:
                self._transport.abort()
            return
        phase = self._reader.phase
        if phase == HEAD:
            if self._accepting and now - self._reader.since > config.head_timeout_seconds:
                self._refuse(408, "request_timeout", f"request head: not complete in {config.head_timeout_seconds} s")
        elif phase == BODY:
            self._sweep_body(now)
        elif not self._busy and now - self._read_at > config.keep_alive_timeout_seconds:
            self._close()

    def _sweep_body(self, now: float) -> None:
        config = self._server.config
        stalled = self._reading and now - self._read_at > config.body_stall_timeout_seconds
        body = self._arriving
        since = self._reader.since
        if body is not None:
            allowed = config.body_grace_seconds + body.received / config.body_bytes_per_second_min
            if stalled and not body.continue_owed:
                reason = f"request body: no data for {config.body_stall_timeout_seconds} s"
            elif self._reading and now - since > allowed and not body.continue_owed:
                reason = f"request body: fewer than {config.body_bytes_per_second_min} bytes a second"
            else:
                return
            body.fail(RequestTimeoutError(reason))
            if not self._busy:
                self._transport.abort()
        elif self._accepting and (stalled or now - since > config.whole_body_timeout_seconds):
            self._refuse(408, "request_timeout", "request body: not complete in time")


async def _raising(error: Exception) -> Response:
    raise error
