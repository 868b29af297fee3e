"""What can go wrong on a connection. Nothing here knows an HTTP status that a caller of ours would see."""

from typing import ClassVar


class HttpClientError(Exception):
    """Base of what `HttpClient` raises.

    `sent` says whether a byte of the request may have reached the peer. While it is false the request certainly had
    no effect, so its outcome is known.
    """

    sent: bool = False
    timeout: ClassVar[bool] = False

    def __init__(self, message: str, *, sent: bool | None = None) -> None:
        super().__init__(message)
        if sent is not None:
            self.sent = sent

    @property
    def outcome_known(self) -> bool:
        return not self.sent


class ConnectError(HttpClientError):
    """No connection: the name does not resolve, the port is closed, the TLS handshake failed."""


class ConnectTimeout(ConnectError):  # noqa: N818 -- the names HTTP clients share
    """No connection within the time allowed for connecting."""

    timeout = True


class PoolTimeout(HttpClientError):  # noqa: N818
    """Every connection stayed busy for the time allowed, or too many requests already wait for one."""

    timeout = True


class FirstByteTimeout(HttpClientError):  # noqa: N818
    """The request was sent and no byte of an answer came in time, or the peer stopped reading the request."""

    sent = True
    timeout = True


class TotalTimeout(HttpClientError):  # noqa: N818
    """The answer was not complete within the request's whole time, or its body stalled."""

    sent = True
    timeout = True


class ConnectionReset(HttpClientError):  # noqa: N818
    """The peer closed or reset the connection before it answered."""

    sent = True


class ProtocolError(HttpClientError):
    """The peer answered something that is not the HTTP/1.1 we accept."""

    sent = True


class TruncatedBody(ProtocolError):  # noqa: N818
    """The answer's body ended before its framing said so."""


class RequestBodyError(HttpClientError):
    """The request's own body is not as long as declared; the connection was cut before the peer could take it whole."""

    sent = True


class AbortConnection(Exception):  # noqa: N818
    """Raised by a handler, or inside a response's body iterator, to break the connection without an answer.

    With `reset` the peer sees a TCP reset and unsent bytes are dropped. Without it the bytes already written are
    flushed and the connection ends early but cleanly.
    """

    def __init__(self, *, reset: bool = True) -> None:
        super().__init__("connection aborted on purpose")
        self.reset = reset
