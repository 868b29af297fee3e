"""Request bodies: small ones in memory, large ones in files on bounded disk, gzip undone on the way in."""

import asyncio
import contextlib
import os
import tempfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

from hevlayer.errors import BadRequestError, NotSupportedError, PayloadTooLargeError, ServiceUnavailableError
from hevlayer.http.messages import Request

SPOOL_PREFIX = "hevlayer-spool-"
# Disk is written in pieces of this size, each from a worker thread.
FLUSH_BYTES = 1 << 20
# One inflating step gives at most this much, so that a small body cannot stop the event loop for long.
INFLATE_STEP_BYTES = 1 << 20


class BodyMemory:
    """The memory that the bodies of all requests may take together. `used_bytes` never exceeds `bytes_max`.

    Bodies that came whole with their heads do not count here: the server has a bound of its own for them.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used_bytes = 0


class BodyLease:
    """One request's part of it, given back by `close`."""

    __slots__ = ("_memory", "size")

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.size = 0

    def grow(self, size: int) -> bool:
        """False: there is no room for so many bytes more."""
        memory = self._memory
        if memory.used_bytes + size > memory.bytes_max:
            return False
        memory.used_bytes += size
        self.size += size
        return True

    def close(self) -> None:
        self._memory.used_bytes -= self.size
        self.size = 0


class Spool:
    """The disk that large bodies may use. `used_bytes` never exceeds `bytes_max`."""

    def __init__(self, directory: Path | None, bytes_max: int) -> None:
        self.directory = directory or Path(tempfile.gettempdir())
        self.bytes_max = bytes_max
        self.used_bytes = 0
        self.files = 0

    def prepare(self) -> None:
        """Makes the directory and removes what processes that no longer run have left there. Raises: OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for leftover in self.directory.glob(f"{SPOOL_PREFIX}*"):
            owner = leftover.name.removeprefix(SPOOL_PREFIX).partition("-")[0]
            if owner.isdigit() and not _runs(int(owner)):
                leftover.unlink(missing_ok=True)

    def reserve(self, size: int) -> None:
        """Raises: ServiceUnavailableError: all the space is taken by other requests."""
        if self.used_bytes + size > self.bytes_max:
            raise ServiceUnavailableError(
                f"the gateway's space for large request bodies ({self.bytes_max} bytes) is full; send it again later"
            )
        self.used_bytes += size

    def open(self) -> "SpooledBody":
        """A new empty file. Raises: ServiceUnavailableError: it cannot be made."""
        try:
            descriptor, name = tempfile.mkstemp(prefix=f"{SPOOL_PREFIX}{os.getpid()}-", dir=self.directory)
        except OSError as error:
            raise ServiceUnavailableError("the gateway cannot store a large request body") from error
        self.files += 1
        return SpooledBody(self, os.fdopen(descriptor, "wb", buffering=0), Path(name))


def _runs(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class SpooledBody:
    """A request body in a file. Close it: the file is removed and its space given back."""

    __slots__ = ("_file", "_pending", "_pending_bytes", "_spool", "path", "size")

    def __init__(self, spool: Spool, file: BinaryIO, path: Path) -> None:
        self._spool = spool
        self._file = file
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self.path = path
        self.size = 0

    async def append(self, chunk: bytes) -> None:
        """Raises: ServiceUnavailableError: the disk or our part of it is full."""
        self._spool.reserve(len(chunk))
        self.size += len(chunk)
        self._pending.append(chunk)
        self._pending_bytes += len(chunk)
        if self._pending_bytes >= FLUSH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if not pending:
            return
        try:
            await asyncio.to_thread(self._write, pending)
        except OSError as error:
            raise ServiceUnavailableError("the gateway cannot store a large request body") from error

    def _write(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]

    async def chunks(self, size: int = FLUSH_BYTES) -> AsyncIterator[bytes]:
        """The file's content, read in worker threads."""
        with await asyncio.to_thread(self.path.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, size):
                yield chunk

    def close(self) -> None:
        if self._file.closed:
            return
        self._file.close()
        self._spool.used_bytes -= self.size
        self._spool.files -= 1
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


class _Inflater:
    """Undoes gzip step by step; several members one after the other are one body."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._fed = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Raises: BadRequestError: not gzip."""
        while chunk:
            self._fed = True
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            try:
                piece = self._member.decompress(chunk, INFLATE_STEP_BYTES)
            except zlib.error as error:
                raise BadRequestError("the request body is not the gzip that its content-encoding says") from error
            chunk = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if piece:
                yield piece

    def finish(self) -> None:
        """Raises: BadRequestError: the last member is not complete."""
        if self._fed and not self._member.eof:
            raise BadRequestError("the request body is broken off in the middle of its gzip encoding")


class Intake:
    """Takes request bodies in, bounded in memory, on disk and in all."""

    def __init__(self, spool: Spool, memory: BodyMemory, *, memory_bytes_max: int, bytes_max: int) -> None:
        self.spool = spool
        self.memory = memory
        self.memory_bytes_max = memory_bytes_max
        self.bytes_max = bytes_max

    async def in_memory(self, request: Request) -> bytes:
        """The whole body, inflated.

        Its memory counts until the request's lease is closed.

        Raises: PayloadTooLargeError: over the limit for bodies in memory, also after inflating. BadRequestError,
            NotSupportedError: its encoding. ServiceUnavailableError: no room beside the bodies of other requests.
        """
        body = request.body.whole
        gzipped = is_gzipped(request)
        if body is not None and not gzipped:
            if len(body) > self.memory_bytes_max:
                raise self._too_large(self.memory_bytes_max)
            return body
        parts: list[bytes] = []
        size = 0
        request.lease = lease = BodyLease(self.memory)
        async with contextlib.aclosing(self._pieces(request, gzipped, self.memory_bytes_max)) as pieces:
            async for piece in pieces:
                size += len(piece)
                if size > self.memory_bytes_max:
                    raise self._too_large(self.memory_bytes_max)
                if not lease.grow(len(piece)):
                    raise ServiceUnavailableError(
                        f"the gateway's memory for request bodies ({self.memory.bytes_max} bytes) is full; "
                        "send it again later"
                    )
                parts.append(piece)
        return b"".join(parts)

    async def take(self, request: Request) -> bytes | SpooledBody:
        """The whole body, inflated: in memory when it fits there, also beside those of other requests, else in a file
        that the caller closes. Its memory counts until the request's lease is closed.

        Raises: as `in_memory`, with the limit for all bodies; ServiceUnavailableError: no space for a large one.
        """
        body = request.body.whole
        gzipped = is_gzipped(request)
        if body is not None and not gzipped and len(body) <= self.memory_bytes_max:
            return body
        declared = request.body.content_length
        if declared is not None and declared > self.bytes_max:
            raise self._too_large(self.bytes_max)
        parts: list[bytes] = []
        size = 0
        spooled: SpooledBody | None = None
        request.lease = lease = BodyLease(self.memory)
        try:
            async with contextlib.aclosing(self._pieces(request, gzipped, self.bytes_max)) as pieces:
                async for piece in pieces:
                    size += len(piece)
                    if size > self.bytes_max:
                        raise self._too_large(self.bytes_max)
                    if spooled is None and (size > self.memory_bytes_max or not lease.grow(len(piece))):
                        spooled = self.spool.open()
                        for part in parts:
                            await spooled.append(part)
                        parts.clear()
                        lease.close()
                    if spooled is None:
                        parts.append(piece)
                    else:
                        await spooled.append(piece)
            if spooled is not None:
                await spooled.flush()
        except BaseException:
            if spooled is not None:
                spooled.close()
            raise
        return b"".join(parts) if spooled is None else spooled

    async def _pieces(self, request: Request, gzipped: bool, limit_bytes: int) -> AsyncGenerator[bytes, None]:
        whole = request.body.whole
        if whole is not None and len(whole) > limit_bytes:
            raise self._too_large(limit_bytes)
        if not gzipped:
            async for chunk in request.body.chunks():
                yield chunk
            return
        inflater = _Inflater()
        async for chunk in request.body.chunks():
            for piece in inflater.feed(chunk):
                yield piece
                # A body that inflates to much more than it is must not keep other requests waiting.
                await asyncio.sleep(0)
        inflater.finish()

    def _too_large(self, limit_bytes: int) -> PayloadTooLargeError:
        return PayloadTooLargeError(f"request body: at most {limit_bytes} bytes, also after inflating")


def is_gzipped(request: Request) -> bool:
    """Whether the body came gzipped. Raises: NotSupportedError: it has another encoding, which we cannot read."""
    encoding = request.header(b"content-encoding")
    if encoding is None or not encoding:
        return False
    lowered = encoding.strip().lower()
    if lowered in (b"gzip", b"x-gzip"):
        return True
    if lowered == b"identity":
        return False
    raise NotSupportedError("content-encoding: must be gzip or identity")
