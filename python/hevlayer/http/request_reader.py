"""From bytes to requests: llhttp's callbacks, and the rules of RFC 9112 that llhttp leaves to us."""

from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Final

import httptools

from hevlayer.http.messages import Headers, Request
from hevlayer.http.request_body import EMPTY_BODY, ArrivingBody, WholeBody
from hevlayer.http.server_config import ServerConfig

# What of a request its answer depends on, besides the method.
KEEP_ALIVE: Final = 1
HTTP_1_0: Final = 2


class Phase(IntEnum):
    """What the reader waits for."""

    IDLE = 0
    HEAD = 1
    BODY = 2


IDLE, HEAD, BODY = Phase.IDLE, Phase.HEAD, Phase.BODY


class RefusedError(Exception):
    """A request that the parser lets through and we do not."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class RequestReader(ABC):
    """Reads the requests of one connection. What a request becomes is the connection's affair (`enqueue`)."""

    __slots__ = (
        "_arriving", "_chunked", "_chunks", "_config", "_fed_bytes", "_feed_bytes", "_headers", "_parser", "_pending",
        "_phase", "_phase_since", "_resyncing", "_upgrading", "_url", "peer",
    )  # fmt: skip

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._parser = httptools.HttpRequestParser(self)
        self.peer = ""
        self._url = b""
        self._headers: Headers = []
        self._chunks: list[bytes] = []
        self._pending: tuple[Request, int] | None = None
        self._arriving: ArrivingBody | None = None
        self._chunked = False
        self._phase = IDLE
        self._phase_since = 0.0
        # Bytes read that have become no part of a message yet; below zero when the last read held such a part.
        self._fed_bytes = 0
        self._feed_bytes = 0
        self._upgrading = False
        self._resyncing = False

    # --- for the connection to fill in ---

    @abstractmethod
    def enqueue(self, request: Request, flags: int) -> None:
        """A request whose head, and whose body if it is small, has been read."""

    @abstractmethod
    def update_reading(self) -> None:
        """Reads or stops reading, as the buffers now demand."""

    @abstractmethod
    def send_continue(self) -> None:
        """Tells a client that waits for it to send the body."""

    @property
    @abstractmethod
    def disconnected(self) -> bool:
        """The client closed its side of the connection."""

    @abstractmethod
    def cancel_on_disconnect(self, allowed: bool) -> None:
        """Lets the handler's task be cancelled when the client goes away, or forbids it again."""

    # --- the parser's callbacks ---

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, []
        self._phase = BODY
        if self._resyncing:
            return
        parser = self._parser
        index = dict(reversed(headers))
        flags = self._check_head(headers, index)
        target = self._url
        text = target.decode("ascii")
        if text[:1] == "/":
            path, _, query = text.partition("?")
        else:
            path, query = _split_target(text)
        request = Request(
            parser.get_method().decode("ascii"), target, path, query, headers, EMPTY_BODY, self.peer, index, self
        )
        declared = index.get(b"content-length")
        if declared is None and b"transfer-encoding" not in index:
            self._pending = (request, flags)
            return
        length = None if declared is None else int(declared)
        expects = b"expect" in index and index[b"expect"].lower() == b"100-continue" and not flags & HTTP_1_0
        if length is not None and length <= self._config.whole_body_bytes_max and not expects:
            self._pending = (request, flags)
            return
        self._chunked = length is None
        body = ArrivingBody(self, length, continue_owed=expects)
        if length == 0:
            body.finish()
        self._arriving = body
        request.body = body
        self.enqueue(request, flags)

    def on_body(self, chunk: bytes) -> None:
        if self._arriving is not None:
            # Below zero: this read brought a part of a message.
            self._fed_bytes = -1
            self._arriving.feed(chunk)
        else:
            self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        if self._upgrading and not self._resyncing:
            # The parser takes everything after an Upgrade for another protocol; the body is read afterwards.
            return
        self._upgrading = False
        self._fed_bytes = -1
        self._resyncing = False
        self._phase = IDLE
        self._url = b""
        self._chunked = False
        if self._headers:
            self._headers = []
        if self._pending is not None:
            (request, flags), self._pending = self._pending, None
            chunks = self._chunks
            if chunks:
                request.body = WholeBody(chunks[0] if len(chunks) == 1 else b"".join(chunks))
                self._chunks = []
            self.enqueue(request, flags)
        elif self._arriving is not None:
            self._arriving.finish()
            self._arriving = None

    # --- rules ---

    def _check_head(self, headers: Headers, index: dict[bytes, bytes]) -> int:
        """The request's flags. Raises RefusedError."""
        config = self._config
        if len(headers) > config.header_count_max:
            raise RefusedError(431, "request_header_fields_too_large", f"headers: at most {config.header_count_max}")
        if self._fed_bytes + self._feed_bytes > config.head_bytes_max:
            size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers)
            if size > config.head_bytes_max:
                limit = config.head_bytes_max
                raise RefusedError(431, "request_header_fields_too_large", f"request head: at most {limit} bytes")
        self._fed_bytes = 0
        flags = KEEP_ALIVE if self._parser.should_keep_alive() else 0
        if not flags or b"connection" in index or b"host" not in index:
            version = self._parser.get_http_version()
            if version == "1.0":
                flags |= HTTP_1_0
                if b"transfer-encoding" in index:
                    raise RefusedError(400, "bad_request", "transfer-encoding: not part of HTTP/1.0")
            elif version != "1.1":
                raise RefusedError(505, "http_version_not_supported", "only HTTP/1.0 and HTTP/1.1 are spoken here")
            elif b"host" not in index:
                raise RefusedError(400, "bad_request", "host: an HTTP/1.1 request must have one")
        if len(index) != len(headers) and sum(1 for name, _ in headers if name == b"host") > 1:
            raise RefusedError(400, "bad_request", "host: must not be repeated")
        if b"transfer-encoding" in index and index[b"transfer-encoding"].lower() != b"chunked":
            raise RefusedError(501, "not_implemented", "transfer-encoding: only chunked is supported")
        if self._parser.get_method() == b"CONNECT":
            raise RefusedError(405, "method_not_allowed", "CONNECT is not supported")
        self._upgrading = b"upgrade" in index and self._parser.should_upgrade()
        return flags

    def _count_unframed(self, size: int, status: int, code: str, what: str) -> None:
        """Bounds what arrives without becoming part of a body; the parser keeps some of it."""
        self._fed_bytes = 0 if self._fed_bytes < 0 else self._fed_bytes + size
        limit = self._config.head_bytes_max
        if self._fed_bytes > limit:
            raise RefusedError(status, code, f"{what}: at most {limit} bytes")

    def read_on_after_upgrade(self) -> None:
        """Ignores an Upgrade, as any server may: reads on as the request's head framed its body.

        Raises: httptools.HttpParserError: what a request in the queue makes of it.
        """
        self._parser = httptools.HttpRequestParser(self)
        request = self._pending[0] if self._pending is not None else None
        framing = b"content-length: 0\r\n"
        if self._chunked:
            framing = b"transfer-encoding: chunked\r\n"
        elif self._arriving is not None:
            framing = b"content-length: %d\r\n" % (self._arriving.content_length or 0)
        elif request is not None:
            framing = b"content-length: %d\r\n" % int(request.header(b"content-length") or b"0")
        self._resyncing = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")


def _split_target(target: str) -> tuple[str, str]:
    """Path and query of a target in absolute form (`http://host/path?query`), or of `*`."""
    _, scheme, rest = target.partition("://")
    if scheme:
        slash = rest.find("/")
        mark = rest.find("?")
        if slash < 0 or 0 <= mark < slash:
            return "/", rest[mark + 1 :] if mark >= 0 else ""
        target = rest[slash:]
    path, _, query = target.partition("?")
    return path, query
