"""Requests and responses as the server hands them out and takes them back.

Header names are lower-case bytes, values are bytes as they stood on the wire; order and repetition are kept.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hevlayer.kernels.http import RequestHead

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


class Lease(Protocol):
    """Something that a request uses up while it lasts."""

    def close(self) -> None:
        """Gives it back. Any number of times."""


class Request:
    """One HTTP request. `target` is the request target exactly as sent; `path` its part before `?`, still encoded.

    `head` is what a server read, and None for a request that was made in another way. `lease` is to be given back when
    the request is over.
    """

    __slots__ = ("body", "head", "headers", "lease", "link", "method", "path", "peer", "query", "target")

    method: str
    target: bytes
    path: str
    query: str
    headers: Headers

    def __init__(
        self, method: str, target: bytes, path: str, query: str, headers: Headers, body: Body, peer: str
    ) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.peer = peer
        self.head: RequestHead | None = None
        self.link: Link | None = None
        self.lease: Lease | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of `name` (lower-case), or None."""
        return find_header(self.headers, name)

    def header_values(self, name: bytes) -> list[bytes]:
        """Every value of `name` (lower-case), as they came."""
        return [value for key, value in self.headers if key == name]

    @property
    def disconnected(self) -> bool:
        """The client is gone; an answer would reach nobody."""
        return self.link is not None and self.link.disconnected

    def cancel_on_disconnect(self, allowed: bool = True) -> None:
        """From now on the handler may be cancelled when the client goes away (at once, if it has). Off at the start of
        every request: work that must reach the upstream has to finish whether or not anyone waits for it."""
        if self.link is not None:
            self.link.cancel_on_disconnect(allowed)


class ArrivedRequest(Request):
    """A request that a server read: taken out of its head when somebody looks."""

    __slots__ = ()

    def __init__(self, head: RequestHead, body: Body, peer: str, link: Link) -> None:
        self.head = head
        self.body = body
        self.peer = peer
        self.link = link
        self.lease = None

    def __getattr__(self, name: str) -> object:
        """Called for a slot that is still empty."""
        head = self.head
        assert head is not None
        if name == "headers":
            value: object = head.headers()
        elif name in Request.__slots__:
            value = getattr(head, name)
        else:
            raise AttributeError(name)
        setattr(self, name, value)
        return value

    def header(self, name: bytes) -> bytes | None:
        assert self.head is not None
        return self.head.header(name)

    def header_values(self, name: bytes) -> list[bytes]:
        assert self.head is not None
        return self.head.values(name)


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


class Reply(Protocol):
    """Where the answer to a request goes when no task of the server's waits for it."""

    @property
    def date_line(self) -> bytes:
        """The header line `date`, for an answer that has none."""

    def connection_line(self) -> bytes:
        """The header line `connection` that an answer sent in this same turn of the loop must have; b"" for none."""

    def send(self, message: bytes) -> None:
        """Writes a whole answer, with that line in its head."""

    def answer(self, answering: Awaitable[Response]) -> None:
        """Serves the request by a task of the server's after all."""

    def request_of(self, head: RequestHead) -> Request:
        """The request, for one that was taken on before it was made (see `TakeOn`)."""


Starter = Callable[[Request, Reply], Awaitable[Response] | None]
"""Begins to serve a request. What must wait comes back to be awaited; None: the reply gets its answer now or later."""

AtOnce = Callable[[RequestHead, str, bytes], bytes | None]
"""Called with a request that has just come, its peer and the header line `date`: the whole answer when it can be had
without waiting, or None, and nothing has happened. It answers only what has no body and keeps an HTTP/1.1 connection,
and must not raise."""

TakeOn = Callable[[RequestHead, str, Reply], bool]
"""Called with a request that has just come with its whole body and keeps an HTTP/1.1 connection, and with its peer:
True when the reply will get its answer, later than this call. False: nothing has happened. It must not raise."""
