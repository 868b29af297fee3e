"""Request bodies on the server's side: whole ones, and those that still arrive."""

from collections.abc import AsyncIterator
from typing import Protocol

from hevlayer.errors import PayloadTooLargeError
from hevlayer.http.chunks import ChunkBuffer, ChunkSource

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


class BodySource(ChunkSource, Protocol):
    """The connection that a body arrives on."""

    def send_continue(self) -> None:
        """Tells a client that waits for it to send the body."""


class ArrivingBody(ChunkBuffer):
    """A body that the handler reads while it arrives. One reader at a time; each byte is handed out once."""

    __slots__ = ("_client", "_continue_owed", "_discarding", "content_length", "received")

    def __init__(self, source: BodySource, content_length: int | None, *, continue_owed: bool) -> None:
        super().__init__(source, BUFFER_BYTES_MAX)
        self.content_length = content_length
        self.received = 0
        self._client = source
        self._continue_owed = continue_owed
        self._discarding = False

    @property
    def whole(self) -> bytes | None:
        return None

    @property
    def continue_owed(self) -> bool:
        """The client waits to be told that it may send, and has not been."""
        return self._continue_owed

    @property
    def remaining(self) -> int | None:
        """Bytes that have not arrived yet, None when the client did not say."""
        return None if self.content_length is None else self.content_length - self.received

    def feed(self, chunk: bytes) -> None:
        self.received += len(chunk)
        self._continue_owed = False
        if not self._discarding and not self.failed:
            self.put(chunk)

    def discard(self) -> None:
        """Drops what is there and what still comes; nobody will read it."""
        self._discarding = True
        self.drop()

    def ask(self) -> None:
        """Tells a client that waits for it to send the body; no more than once."""
        if self._continue_owed:
            self._continue_owed = False
            self._client.send_continue()

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
        while True:
            while (chunk := self.take()) is not None:
                yield chunk
            if not self.ended and not self.failed:
                self.ask()
            if not await self.wait():
                return
