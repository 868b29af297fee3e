"""One connection to an upstream: one request at a time, its answer whole or streamed."""

import asyncio
import logging
import select
from collections.abc import AsyncIterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol, cast

from hevlayer.http.client_response import ArrivedResponse, ClientResponse, ResponseStream
from hevlayer.http.errors import (
    ConnectionReset,
    FirstByteTimeout,
    HttpClientError,
    ProtocolError,
    RequestBodyError,
    TotalTimeout,
    TruncatedBody,
)
from hevlayer.kernels.http import BrokenAnswerError, ResponseHead, ResponseReader

if TYPE_CHECKING:
    from hevlayer.http.client import HttpClient

log = logging.getLogger("hevlayer.http")

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


class Receiver(Protocol):
    """Whom an answer is given to, as to a future; any but a future hears of it at once, and must not raise."""

    def done(self) -> bool:
        """Nobody waits any more."""

    def set_result(self, response: ClientResponse, /) -> None: ...

    def set_exception(self, error: BaseException, /) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """Owned by an `HttpClient`. After any doubt about its state it is closed, never reused."""

    __slots__ = (
        "_first_byte_at", "_first_byte_seconds", "_pool", "_progress", "_read_at", "_reader", "_reading", "_receiver",
        "_sender", "_state", "_stream", "_total_at", "_transport", "_uploading", "_write_paused", "_write_waiter",
        "answered", "idle_since", "requests",
    )  # fmt: skip

    def __init__(self, pool: "HttpClient") -> None:
        self._pool = pool
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._reader = ResponseReader(pool.config.head_bytes_max, pool.config.header_count_max)
        self._state = IDLE
        self._stream: ResponseStream | None = None
        self._receiver: Receiver | None = None
        self._sender: asyncio.Task[None] | None = None
        self._reading = True
        self._uploading = False
        self._write_paused = False
        self._write_waiter: asyncio.Future[None] | None = None
        self._first_byte_at = INFINITE
        self._first_byte_seconds = INFINITE
        self._total_at = INFINITE
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

    def begin(
        self,
        message: bytes,
        receiver: Receiver,
        *,
        is_head: bool,
        now: float,
        first_byte_seconds: float,
        total_at: float,
        whole_bytes_max: int,
    ) -> None:
        """Writes a request, or its start; the receiver gets its answer or the error."""
        self._state = WAITING
        self.requests += 1
        self._first_byte_seconds = first_byte_seconds
        self._first_byte_at = now + first_byte_seconds
        self._total_at = total_at
        self._receiver = receiver
        self._reader.begin(is_head, whole_bytes_max)
        self._transport.write(message)
        if self._write_paused:
            self._wait_for_upload(now)

    def send_body(self, body: Sequence[bytes] | AsyncIterator[bytes], content_length: int | None, now: float) -> None:
        """Writes the rest of the request that was begun last."""
        if isinstance(body, AsyncIterator):
            self._uploading = True
            self._sender = self._pool.loop.create_task(self._send_stream(body, content_length))
        else:
            self._transport.writelines(body)
        if self._write_paused:
            self._wait_for_upload(now)

    def _wait_for_upload(self, now: float) -> None:
        self._uploading = True
        self._progress = (self._transport.get_write_buffer_size(), now)

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
        reason = str(exc) or type(exc).__name__ if exc is not None else "closed by the peer"
        event = None
        if self._state is RECEIVING:
            try:
                event = self._reader.finish(exc is None)
            except BrokenAnswerError as error:
                self._fail(TruncatedBody(f"response body: {error} ({reason})"))
                return
        if event is None:
            self._fail(ConnectionReset(f"connection lost before an answer: {reason}"))
        else:
            # A body without a length ends with the connection.
            self._take(event)

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
        self._read_at = self._pool.sweep_time
        reader = self._reader
        try:
            event = reader.feed(data)
            while event is not None:
                self._take(event)
                event = reader.next()
        except BrokenAnswerError as error:
            self._fail(ProtocolError(str(error)))

    def _take(self, event: ResponseHead | bytes | bool) -> None:
        """A part of the answer: its head with a small body, its head alone, a piece of its body, or its end."""
        stream = self._stream
        if isinstance(event, bytes):
            if stream is not None:
                stream.put(event)
        elif isinstance(event, bool):
            if stream is not None:
                stream.finish()
            self._finish()
        elif event.whole:
            receiver = self._receiver
            self._finish()
            if receiver is not None and not receiver.done():
                receiver.set_result(ArrivedResponse(event, None))
        else:
            self._stream = stream = ResponseStream(self, self._pool.config.stream_buffer_bytes)
            if self._receiver is not None and not self._receiver.done():
                self._receiver.set_result(ArrivedResponse(event, stream))

    # --- the end of a request ---

    def _finish(self) -> None:
        """The answer is complete: gives the connection back to the pool when it can serve again."""
        if (
            not self._reader.reusable
            or self._sender is not None
            or self._transport.is_closing()
            # Answered before the request was sent whole: what is left of it would stand before the next one.
            or self._transport.get_write_buffer_size()
        ):
            self._drop()
            return
        if self._stream is not None:
            self._stream = None
            if not self._reading:
                self._reading = True
                self._transport.resume_reading()
        self._state = IDLE
        self._receiver = None
        self.answered = False
        self._pool.release(self)

    def _fail(self, error: BaseException) -> None:
        stream, receiver = self._stream, self._receiver
        if stream is not None:
            stream.fail(error if isinstance(error, HttpClientError) else ProtocolError(str(error)))
        self._drop()
        if receiver is not None and not receiver.done():
            receiver.set_exception(error)

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
        elif state is WAITING or not self._reader.in_body:
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
