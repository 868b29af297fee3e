"""One connection to an upstream: one request at a time, its answer whole or streamed."""

import asyncio
import select
from collections.abc import AsyncIterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final, cast

import httptools

from hevlayer.http.client_response import ClientResponse, ResponseStream
from hevlayer.http.errors import (
    ConnectionReset,
    FirstByteTimeout,
    HttpClientError,
    ProtocolError,
    RequestBodyError,
    TotalTimeout,
    TruncatedBody,
)
from hevlayer.http.framing import BODILESS_STATUSES
from hevlayer.http.messages import Headers

if TYPE_CHECKING:
    from hevlayer.http.client import HttpClient

JOIN_BYTES_MAX: Final = 4096
INFINITE: Final = float("inf")


class State(IntEnum):
    """What the connection is doing."""

    IDLE = 0
    WAITING = 1
    """A request is out and no byte of its answer has come."""
    RECEIVING = 2
    CLOSED = 3


IDLE, WAITING, RECEIVING, CLOSED = State.IDLE, State.WAITING, State.RECEIVING, State.CLOSED


class UpstreamConnection(asyncio.Protocol):
    """Owned by an `HttpClient`; llhttp parses. After any doubt about its state it is closed, never reused."""

    __slots__ = (
        "_chunks", "_complete", "_dirty", "_first_byte_at", "_first_byte_seconds", "_head_bytes", "_head_done",
        "_headers", "_is_head", "_length_known", "_overhead", "_parser", "_pool", "_progress", "_read_at", "_reading",
        "_received", "_response", "_sender", "_state", "_stream", "_total_at", "_transport", "_uploading", "_waiter",
        "_whole_bytes_max", "_write_paused", "_write_waiter", "answered", "idle_since", "requests",
    )  # fmt: skip

    def __init__(self, pool: "HttpClient") -> None:
        self._pool = pool
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpResponseParser(self)
        self._state = IDLE
        self._headers: Headers = []
        self._chunks: list[bytes] = []
        self._received = 0
        self._response: ClientResponse | None = None
        self._stream: ResponseStream | None = None
        self._waiter: asyncio.Future[ClientResponse] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._is_head = False
        self._head_done = False
        self._head_bytes = 0
        self._overhead = 0
        self._length_known = False
        self._complete = False
        self._dirty = False
        self._reading = True
        self._uploading = False
        self._write_paused = False
        self._write_waiter: asyncio.Future[None] | None = None
        self._first_byte_at = INFINITE
        self._first_byte_seconds = INFINITE
        self._total_at = INFINITE
        self._whole_bytes_max = 0
        self._read_at = 0.0
        self._progress: tuple[int, float] = (0, 0.0)
        self.answered = False
        self.idle_since = 0.0
        self.requests = 0

    # --- sending ---

    @property
    def usable(self) -> bool:
        return self._state is IDLE and self._transport is not None and not self._transport.is_closing()

    def alive(self) -> bool:
        """Asks the socket itself: an idle peer that has closed or spoken makes it readable."""
        raw = self._transport.get_extra_info("socket")
        if raw is None or raw.fileno() < 0:
            return False
        poller = select.poll()
        poller.register(raw.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poller.poll(0)

    def send(
        self,
        head: bytes,
        body: bytes | Sequence[bytes] | AsyncIterator[bytes],
        *,
        is_head: bool,
        content_length: int | None,
        now: float,
        first_byte_seconds: float,
        total_at: float,
        whole_bytes_max: int,
    ) -> "asyncio.Future[ClientResponse]":
        """Writes a request; the future holds its answer or the error."""
        loop = self._pool.loop
        self._state = WAITING
        self.requests += 1
        self._is_head = is_head
        self._whole_bytes_max = whole_bytes_max
        self._first_byte_seconds = first_byte_seconds
        self._first_byte_at = now + first_byte_seconds
        self._total_at = total_at
        self._waiter = waiter = loop.create_future()
        if type(body) is bytes:
            if len(body) <= JOIN_BYTES_MAX:
                self._transport.write(head + body)
            else:
                self._transport.writelines((head, body))
        elif isinstance(body, AsyncIterator):
            self._uploading = True
            self._transport.write(head)
            self._sender = loop.create_task(self._send_stream(body, content_length))
        else:
            self._transport.writelines((head, *cast(Sequence[bytes], body)))
        if self._write_paused:
            self._uploading = True
            self._progress = (self._transport.get_write_buffer_size(), now)
        return waiter

    async def _send_stream(self, body: AsyncIterator[bytes], content_length: int | None) -> None:
        transport = self._transport
        written = 0
        try:
            async for chunk in body:
                if not chunk:
                    continue
                written += len(chunk)
                if content_length is None:
                    transport.writelines((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
                elif written > content_length:
                    raise RequestBodyError(f"request body: longer than its content-length of {content_length} bytes")
                else:
                    transport.write(chunk)
                while self._write_paused and self._state is not CLOSED:
                    self._write_waiter = self._pool.loop.create_future()
                    await self._write_waiter
                if self._state is CLOSED:
                    return
            if content_length is None:
                transport.write(b"0\r\n\r\n")
            elif written < content_length:
                raise RequestBodyError(f"request body: {written} bytes, its content-length says {content_length}")
            self._sender = None
            self._sent()
        except Exception as error:
            # The peer must not take a part for the whole: the connection ends before the body does.
            self._sender = None
            self._fail_with(error)
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    def _sent(self) -> None:
        """The request has left; from here on the peer is on the clock."""
        self._uploading = False
        self._first_byte_at = self._pool.now() + self._first_byte_seconds

    # --- the transport's callbacks ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._pool.config.write_buffer_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state is CLOSED:
            return
        if self._state is RECEIVING and self._head_done and not self._length_known and exc is None:
            # A body without a length ends with the connection.
            self._finish(reusable=False)
            return
        reason = str(exc) or type(exc).__name__ if exc is not None else "closed by the peer"
        if self._state is RECEIVING and self._head_done:
            self._fail(TruncatedBody(f"response body: the connection ended before it was complete ({reason})"))
        else:
            self._fail(ConnectionReset(f"connection lost before an answer: {reason}"))

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._write_paused = True
        self._progress = (self._transport.get_write_buffer_size(), self._pool.now())

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)
        elif self._sender is None and self._uploading:
            self._sent()

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state is WAITING:
            self._state = RECEIVING
            self.answered = True
        elif state is not RECEIVING:
            # Nothing was asked; whatever this is must not become the answer to the next request.
            self._drop()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self._parsing_failed(error)
                return
            self._dirty = True
        if self._complete:
            self._finish(reusable=not self._dirty)
        elif not self._head_done:
            self._head_bytes += len(data)
            if self._head_bytes > self._pool.config.head_bytes_max:
                self._fail(ProtocolError(f"response head: at most {self._pool.config.head_bytes_max} bytes"))
        else:
            self._read_at = self._pool.sweep_time
            self._overhead = 0 if self._overhead < 0 else self._overhead + len(data)
            if self._overhead > self._pool.config.head_bytes_max:
                self._fail(ProtocolError("response body: chunk extensions or trailers too long"))

    def _parsing_failed(self, error: Exception) -> None:
        cause = error.__context__
        if isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
            self._fail(cause)
        elif self._head_done:
            self._fail(ProtocolError(f"response body: broken framing: {error}"))
        else:
            self._fail(ProtocolError(f"response: not HTTP/1.1: {error}"))

    # --- the parser's callbacks ---

    def on_message_begin(self) -> None:
        if self._complete:
            self._dirty = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        if self._complete:
            self._dirty = True
            return
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        config = self._pool.config
        if len(headers) > config.header_count_max:
            raise ProtocolError(f"response headers: at most {config.header_count_max}, has {len(headers)}")
        if status < 200:
            if status == 101:
                raise ProtocolError("response: status 101 to a request that asked for no upgrade")
            return
        if not self._parser.should_keep_alive():
            self._dirty = True
            if self._parser.get_http_version() not in ("1.1", "1.0"):
                raise ProtocolError(f"response: HTTP/{self._parser.get_http_version()}")
        length: int | None = None
        chunked = False
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise ProtocolError("response: transfer-encoding is neither absent nor chunked")
                chunked = True
        self._head_done = True
        self._head_bytes = 0
        self._read_at = self._pool.sweep_time
        self._response = ClientResponse(status, headers, None)
        if self._is_head or status in BODILESS_STATUSES:
            self._length_known = True
            if self._is_head:
                # The parser would wait for a body; it is replaced before the next request.
                self._complete = True
            return
        self._length_known = chunked or length is not None
        if length is not None and length > self._whole_bytes_max:
            self._begin_stream()

    def on_body(self, chunk: bytes) -> None:
        if self._is_head:
            self._dirty = True
            return
        # Below zero: this read brought a part of the body.
        self._overhead = -1
        if self._stream is not None:
            self._stream.feed(chunk)
            return
        self._chunks.append(chunk)
        self._received += len(chunk)
        if self._received > self._whole_bytes_max:
            self._begin_stream()

    def on_message_complete(self) -> None:
        if self._head_done:
            self._complete = True

    def _begin_stream(self) -> None:
        response = self._response
        assert response is not None
        self._stream = response.stream = ResponseStream(self, self._chunks, self._pool.config.stream_buffer_bytes)
        self._chunks = []
        if self._stream.full:
            self.update_reading()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(response)

    # --- the end of a request ---

    def _finish(self, *, reusable: bool) -> None:
        """The answer is complete: hands it over, and the connection back to the pool when it can serve again."""
        response, stream, waiter = self._response, self._stream, self._waiter
        if reusable and (
            self._sender is not None or self._transport.is_closing() or self._transport.get_write_buffer_size()
        ):
            # Answered before the request was sent whole: what is left of it would stand before the next one.
            reusable = False
        if stream is not None:
            stream.finish()
        elif response is not None:
            chunks = self._chunks
            response.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            if waiter is not None and not waiter.done():
                waiter.set_result(response)
        if not reusable:
            self._drop()
            return
        if self._is_head:
            self._parser = httptools.HttpResponseParser(self)
        if stream is not None:
            self._stream = None
            if not self._reading:
                self._reading = True
                self._transport.resume_reading()
        self._state = IDLE
        self._response = None
        self._waiter = None
        self._headers = []
        self._chunks = []
        self._received = 0
        self._head_done = False
        self._complete = False
        self._overhead = 0
        self.answered = False
        self._pool.release(self)

    def _fail(self, error: BaseException) -> None:
        stream, waiter = self._stream, self._waiter
        if stream is not None:
            stream.fail(error if isinstance(error, HttpClientError) else ProtocolError(str(error)))
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self._drop()

    _fail_with = _fail

    def _drop(self) -> None:
        """Closes the connection and gives its place back, once."""
        if self._state is CLOSED:
            return
        self._state = CLOSED
        if self._sender is not None:
            self._sender.cancel()
            self._sender = None
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)
        if self._transport is not None:
            self._transport.abort()
        self._pool.forget(self)

    def abandon(self) -> None:
        """Closes the connection; whoever waited no longer does."""
        self._drop()

    def close(self, error: HttpClientError) -> None:
        """Closes the connection from the pool's side; a request on it fails with `error`."""
        self._fail(error)

    def update_reading(self) -> None:
        if self._state is CLOSED or self._stream is None:
            return
        wanted = not self._stream.full
        if wanted is not self._reading:
            self._reading = wanted
            self._read_at = self._pool.sweep_time
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def sweep(self, now: float) -> None:
        """Ends what has waited too long."""
        config = self._pool.config
        state = self._state
        if state is IDLE:
            return
        if now > self._total_at:
            self._fail(TotalTimeout("request: not answered in the whole time allowed"))
        elif state is WAITING and self._uploading:
            self._sweep_upload(now)
        elif state is WAITING or not self._head_done:
            if now > self._first_byte_at:
                self._fail(FirstByteTimeout(f"no answer within {self._first_byte_seconds:g} s"))
        elif self._reading:
            if now - self._read_at > config.body_stall_timeout_seconds:
                self._fail(TotalTimeout(f"response body: no data for {config.body_stall_timeout_seconds:g} s"))
        elif now - self._read_at > config.consumer_stall_timeout_seconds:
            self._fail(TotalTimeout(f"response body: unread for {config.consumer_stall_timeout_seconds:g} s"))

    def _sweep_upload(self, now: float) -> None:
        if not self._write_paused:
            # Waiting for our own body, whose source has deadlines of its own.
            return
        size, since = self._progress
        left = self._transport.get_write_buffer_size()
        stall = self._pool.config.body_stall_timeout_seconds
        if left < size:
            self._progress = (left, now)
        elif now - since > stall:
            self._fail(FirstByteTimeout(f"request body: the peer took nothing for {stall:g} s"))
