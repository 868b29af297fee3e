"""A body on its way between a connection and its one reader, on either side of the gateway."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol


class ChunkSource(Protocol):
    """The connection that a body arrives on."""

    def update_reading(self) -> None:
        """Reads or stops reading, as the buffer now demands."""


class ChunkBuffer:
    """What has arrived and was not taken. `size` is in bytes; while it is over `bytes_max` the source should not read.

    Each byte is handed out once, to one reader at a time; an error comes after the chunks before it.
    """

    __slots__ = ("_bytes_max", "_chunks", "_error", "_source", "_waiter", "ended", "size")

    def __init__(self, source: ChunkSource, bytes_max: int) -> None:
        self.ended = False
        self.size = 0
        self._source = source
        self._bytes_max = bytes_max
        self._chunks: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    @property
    def full(self) -> bool:
        return self.size > self._bytes_max

    @property
    def failed(self) -> bool:
        return self._error is not None

    def put(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self.size += len(chunk)
        self._wake()
        if self.full:
            self._source.update_reading()

    def finish(self) -> None:
        self.ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """The rest will not come; the first error stands, and none after the end."""
        if not self.ended and self._error is None:
            self._error = error
            self._wake()

    def drop(self) -> None:
        """Forgets what was not taken, and wakes the reader."""
        self._chunks.clear()
        self.size = 0
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def take(self) -> bytes | None:
        """The next chunk if it is there; None: see `wait`."""
        if not self._chunks:
            return None
        was_full = self.full
        chunk = self._chunks.popleft()
        self.size -= len(chunk)
        if was_full and not self.full:
            self._source.update_reading()
        return chunk

    def put_back(self, chunks: Sequence[bytes]) -> None:
        """Chunks that were just taken, first first."""
        self._chunks.extendleft(reversed(chunks))
        self.size += sum(map(len, chunks))

    async def wait(self) -> bool:
        """Until something happens; False: the body has ended. Raises: what it failed with. Bounded by the sweeps of
        the source, which fail a body that stalls."""
        if self._error is not None:
            raise self._error
        if self.ended:
            return False
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return True
