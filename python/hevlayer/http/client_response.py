"""What a client's request returns."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Protocol

from hevlayer.http.chunks import ChunkBuffer, ChunkSource
from hevlayer.http.messages import Headers, find_header
from hevlayer.kernels.http import ResponseHead


class StreamSource(ChunkSource, Protocol):
    """The connection that an answer arrives on."""

    def abandon(self) -> None:
        """Closes the connection: nobody wants the rest."""


class ResponseStream(ChunkBuffer):
    """An answer's body as it arrives: an async iterator for one reader, which must be closed.

    Raises while iterated: TruncatedBody, ProtocolError, TotalTimeout.
    """

    __slots__ = ("_closed", "_peer")

    def __init__(self, source: StreamSource, bytes_max: int) -> None:
        super().__init__(source, bytes_max)
        self._peer = source
        self._closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while (chunk := self.take()) is None:
            if self._closed:
                raise StopAsyncIteration
            try:
                if not await self.wait():
                    raise StopAsyncIteration
            except asyncio.CancelledError:
                await self.aclose()
                raise
        return chunk

    def unread(self, chunks: Sequence[bytes]) -> None:
        """Puts chunks back that were just read, first first."""
        self.put_back(chunks)

    async def read(self, limit_bytes: int) -> bytes:
        """The rest of the body. Raises: ValueError: longer than `limit_bytes`; the stream is closed then."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self:
            size += len(chunk)
            if size > limit_bytes:
                await self.aclose()
                raise ValueError(f"response body: more than {limit_bytes} bytes")
            parts.append(chunk)
        return b"".join(parts)

    async def aclose(self) -> None:
        """Lets go of the connection: it is closed unless the body has already arrived. Any number of times."""
        if self._closed:
            return
        self._closed = True
        self.drop()
        if not self.ended:
            self._peer.abandon()

    async def __aenter__(self) -> "ResponseStream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class ClientResponse:
    """An answer. Either `body` holds all of it, or `stream` gives it and must be closed. Names are lower-case.

    `head` is what a connection read, and None for an answer that was made in another way.
    """

    __slots__ = ("body", "head", "headers", "status", "stream")

    body: bytes | None
    headers: Headers

    def __init__(self, status: int, headers: Headers, body: bytes | None, stream: ResponseStream | None = None) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.stream = stream
        self.head: ResponseHead | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of `name` (lower-case), or None."""
        return find_header(self.headers, name)

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body, however it comes. Raises: ValueError: longer than `limit_bytes`."""
        if self.stream is not None:
            return await self.stream.read(limit_bytes)
        body = self.body or b""
        if len(body) > limit_bytes:
            raise ValueError(f"response body: more than {limit_bytes} bytes")
        return body


class ArrivedResponse(ClientResponse):
    """An answer that a connection read: taken out of its head when somebody looks."""

    __slots__ = ()

    def __init__(self, head: ResponseHead, stream: ResponseStream | None) -> None:
        self.status = head.status
        self.head = head
        self.stream = stream

    def __getattr__(self, name: str) -> object:
        """Called for a slot that is still empty."""
        head = self.head
        assert head is not None
        if name == "headers":
            value: object = head.headers()
        elif name == "body":
            value = head.body
        else:
            raise AttributeError(name)
        setattr(self, name, value)
        return value

    def header(self, name: bytes) -> bytes | None:
        assert self.head is not None
        return self.head.header(name)
