"""Request bodies on the server's side: whole ones, and those that still arrive."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

from hevlayer.errors import LayerError, PayloadTooLargeError

# The socket is not read while more than this waits for the handler.
BUFFER_BYTES_MAX = 256 * 1024


class WholeBody:
    """A body that was complete before the handler started."""

    __slots__ = ("whole",)

    def __init__(self, whole: bytes) -> None:
        self.whole: bytes = whole

    @property
    def content_length(self) -> int | None:
        return len(self.whole)

    async def read(self, limit_bytes: int) -> bytes:
        if len(self.whole) > limit_bytes:
            raise PayloadTooLargeError(f"request body: at most {limit_bytes} bytes, has {len(self.whole)}")
        return self.whole

    async def chunks(self) -> AsyncIterator[bytes]:
        if self.whole:
            yield self.whole


EMPTY_BODY = WholeBody(b"")


class BodySource(Protocol):
    """The connection that a body arrives on."""

    def update_reading(self) -> None:
        """Reads or stops reading, as the buffers now demand."""

    def send_continue(self) -> None:
        """Tells a client that waits for it to send the body."""


class ArrivingBody:
    """A body that the handler reads while it arrives. One reader at a time; each byte is handed out once."""

    __slots__ = ("_buffer", "_continue_owed", "_discarding", "_error", "_source", "_waiter", "content_length",
                 "ended", "received", "size")  # fmt: skip

    def __init__(self, source: BodySource, content_length: int | None, *, continue_owed: bool) -> None:
        self.content_length = content_length
        self.ended = False
        self.received = 0
        self.size = 0
        self._source = source
        self._continue_owed = continue_owed
        self._buffer: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: LayerError | None = None
        self._discarding = False

    @property
    def whole(self) -> bytes | None:
        return None

    @property
    def full(self) -> bool:
        return self.size > BUFFER_BYTES_MAX

    @property
    def continue_owed(self) -> bool:
        """The client waits to be told that it may send, and has not been."""
        return self._continue_owed

    @property
    def failed(self) -> bool:
        return self._error is not None

    @property
    def remaining(self) -> int | None:
        """Bytes that have not arrived yet, None when the client did not say."""
        return None if self.content_length is None else self.content_length - self.received

    def feed(self, chunk: bytes) -> None:
        self.received += len(chunk)
        self._continue_owed = False
        if self._discarding or self._error is not None:
            return
        self._buffer.append(chunk)
        self.size += len(chunk)
        self._wake()
        if self.full:
            self._source.update_reading()

    def finish(self) -> None:
        self.ended = True
        self._wake()

    def fail(self, error: LayerError) -> None:
        if not self.ended and self._error is None:
            self._error = error
            self._wake()

    def discard(self) -> None:
        """Drops what is there and what still comes; nobody will read it."""
        self._discarding = True
        self._buffer.clear()
        self.size = 0

    def ask(self) -> None:
        """Tells a client that waits for it to send the body; no more than once."""
        if self._continue_owed:
            self._continue_owed = False
            self._source.send_continue()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def read(self, limit_bytes: int) -> bytes:
        if self.content_length is not None and self.content_length > limit_bytes:
            raise PayloadTooLargeError(f"request body: at most {limit_bytes} bytes, has {self.content_length}")
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit_bytes:
                raise PayloadTooLargeError(f"request body: at most {limit_bytes} bytes")
            parts.append(chunk)
        return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        buffer = self._buffer
        while True:
            while buffer:
                was_full = self.full
                chunk = buffer.popleft()
                self.size -= len(chunk)
                if was_full and not self.full:
                    self._source.update_reading()
                yield chunk
            if self._error is not None:
                raise self._error
            if self.ended:
                return
            self.ask()
            # Bounded by the server's sweep, which fails a body that stalls.
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
