"""Requests and responses as the server hands them out and takes them back.

Header names are lower-case bytes, values are bytes as they stood on the wire; order and repetition are kept.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Headers = list[tuple[bytes, bytes]]


def find_header(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name` (lower-case), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


class Body(Protocol):
    """A request body. Either already whole in memory (`whole` is not None) or still arriving."""

    @property
    def whole(self) -> bytes | None:
        """The body when it arrived before the handler started, else None."""

    @property
    def content_length(self) -> int | None:
        """What the client declared; None for a chunked body."""

    async def read(self, limit_bytes: int) -> bytes:
        """All of the body.

        Raises: PayloadTooLargeError: more than `limit_bytes`. RequestTimeoutError: the client stalls.
            BadRequestError: the framing broke or the client went away.
        """

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, with back-pressure on the socket. Raises as `read`."""


class Link(Protocol):
    """The client's side of a request in flight."""

    @property
    def disconnected(self) -> bool:
        """The client closed its side of the connection."""

    def cancel_on_disconnect(self, allowed: bool) -> None:
        """Lets the handler's task be cancelled when the client goes away, or forbids it again."""


@dataclass(slots=True)
class Request:
    """One HTTP request. `target` is the request target exactly as sent; `path` its part before `?`, still encoded.

    `index` maps a header's name to its first value; the server fills it in, so that `header` need not search.
    """

    method: str
    target: bytes
    path: str
    query: str
    headers: Headers
    body: Body
    peer: str
    index: dict[bytes, bytes] | None = field(default=None, repr=False, compare=False)
    link: Link | None = field(default=None, repr=False, compare=False)

    def header(self, name: bytes) -> bytes | None:
        """The first value of `name` (lower-case), or None."""
        if self.index is None:
            return find_header(self.headers, name)
        return self.index.get(name)

    @property
    def disconnected(self) -> bool:
        """The client is gone; an answer would reach nobody."""
        return self.link is not None and self.link.disconnected

    def cancel_on_disconnect(self, allowed: bool = True) -> None:
        """From now on the handler may be cancelled when the client goes away (at once, if it has). Off at the start of
        every request: work that must reach the upstream has to finish whether or not anyone waits for it."""
        if self.link is not None:
            self.link.cancel_on_disconnect(allowed)


@dataclass(slots=True)
class Response:
    """One HTTP response.

    `body` is bytes, a sequence of buffers written without joining, or an async iterator of chunks. With an iterator,
    a `content-length` among the headers is honoured, else the answer is chunked; an exception inside the iterator
    aborts the connection, so that a truncated body is never taken for a whole one.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes | Sequence[bytes] | AsyncIterator[bytes] = b""


Handler = Callable[[Request], Awaitable[Response]]
