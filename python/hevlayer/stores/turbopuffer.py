"""The upstream: one HTTP client, named deadlines, and its failures as our errors."""

import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit

from hevlayer.clock import Clock
from hevlayer.errors import GatewayTimeoutError, UpstreamError
from hevlayer.http.client import ClientConfig, ClientResponse, HttpClient, Origin, Receiver
from hevlayer.http.errors import ConnectError, HttpClientError, PoolTimeout, ProtocolError, TruncatedBody
from hevlayer.http.messages import Headers

__all__ = ["Answer", "AnswerTooLongError", "Deadlines", "Gauge", "Upstream", "inflate", "namespace_path"]

Answer = ClientResponse
Body = bytes | Sequence[bytes] | AsyncIterator[bytes]

# An answer that we read whole ourselves (metadata, schema, a page of rows); beyond it something is wrong.
READ_BYTES_MAX = 256 * 1024 * 1024
_USER_AGENT = (b"user-agent", b"hevlayer-gateway")
_JSON = (b"content-type", b"application/json")
_NAME_SAFE = "-_.~"


class AnswerTooLongError(UpstreamError):
    """The upstream's answer is longer than we take in whole."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long one kind of request may take, in seconds: until the first byte of the answer, and as a whole."""

    first_byte_seconds: float
    total_seconds: float


class Gauge(Protocol):
    """A number that goes up and down."""

    value: float


class _Count:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Upstream:
    """The Turbopuffer API behind `base_url`, which may have a path.

    Must be made inside the running loop. Paths and targets are given as the API has them (`/v2/namespaces/…`); the
    base URL's path is put in front.
    """

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        *,
        deadlines: Deadlines,
        connect_seconds: float,
        connections_max: int,
        ca_file: str | None = None,
        inflight: Gauge | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        self.base_path = parts.path.rstrip("/").encode("ascii")
        self.deadlines = deadlines
        self._connect_seconds = connect_seconds
        self._inflight: Gauge = inflight if inflight is not None else _Count()
        config = ClientConfig(
            connections_max=connections_max,
            idle_connections_max=connections_max,
            connect_timeout_seconds=connect_seconds,
            # The named deadlines rule: a long answer of a slow operation must not end as a stall of some other kind.
            first_byte_timeout_seconds=deadlines.first_byte_seconds,
            total_timeout_seconds=deadlines.total_seconds,
            tls_ca_file=ca_file,
        )
        origin = Origin.parse(base_url)
        self.authority = origin.authority
        """What goes into the `host` header."""
        self._client = HttpClient(origin, config, clock)

    @property
    def connections(self) -> int:
        """Open connections to the upstream."""
        return self._client.connections

    async def send(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        body: Body = b"",
        *,
        deadlines: Deadlines | None = None,
        content_length: int | None = None,
        whole_bytes_max: int | None = None,
        idempotent: bool | None = None,
    ) -> Answer:
        """One request, one answer; never repeated once the upstream may have acted on it.

        Args:
            target: path and query as they go on the wire, without the base URL's path.
            content_length: bytes of an iterator body.
            whole_bytes_max: a longer answer comes as a stream, which must be closed.
        Raises: UpstreamError: unreachable, reset or not HTTP. GatewayTimeoutError: not in time. Both say by
            `outcome_known` whether the request certainly had no effect.
        """
        limits = deadlines or self.deadlines
        if self.base_path:
            target = self.base_path + target
        self._inflight.value += 1
        try:
            return await self._client.request(
                method,
                target,
                headers,
                body,
                content_length=content_length,
                first_byte_timeout=limits.first_byte_seconds,
                total_timeout=limits.total_seconds,
                max_buffer_bytes=whole_bytes_max,
                idempotent=idempotent,
            )
        except HttpClientError as error:
            raise upstream_error(error) from error
        finally:
            self._inflight.value -= 1

    def begin(self, message: bytes, receiver: Receiver) -> bool:
        """Sends a whole message under the usual deadlines when an idle connection can take it now.

        The receiver gets the answer, or an HttpClientError (see `upstream_error`); then `ended` must be called. False:
        nothing was sent, and `send` must wait for a connection.
        """
        limits = self.deadlines
        if not self._client.begin(
            message, receiver, first_byte_seconds=limits.first_byte_seconds, total_seconds=limits.total_seconds
        ):
            return False
        self._inflight.value += 1
        return True

    def ended(self) -> None:
        """What was begun is over."""
        self._inflight.value -= 1

    async def read(
        self,
        method: str,
        target: bytes,
        bearer: bytes | None,
        body: bytes = b"",
        *,
        traceparent: bytes = b"",
        deadlines: Deadlines | None = None,
        limit_bytes: int = READ_BYTES_MAX,
    ) -> tuple[int, bytes]:
        """A request of our own that changes nothing: (status, whole inflated body).

        Raises: UpstreamError, GatewayTimeoutError: as `send`; also for a body over `limit_bytes`.
        """
        headers: Headers = [_USER_AGENT, (b"accept", b"application/json"), (b"accept-encoding", b"identity")]
        if bearer is not None:
            headers.append((b"authorization", b"Bearer " + bearer))
        if traceparent:
            headers.append((b"traceparent", traceparent))
        if body:
            headers.append(_JSON)
        answer = await self.send(method, target, headers, body, deadlines=deadlines, idempotent=True)
        return answer.status, await self.whole(answer, limit_bytes)

    async def metadata(self, namespace: str, bearer: bytes | None) -> tuple[int, bytes]:
        """`GET /v2/namespaces/{namespace}/metadata` under a bearer: (status, body)."""
        return await self.read("GET", namespace_path(namespace) + b"/metadata", bearer)

    async def whole(self, answer: Answer, limit_bytes: int = READ_BYTES_MAX) -> bytes:
        """An answer's whole body without its gzip encoding; the stream is used up.

        Raises: AnswerTooLongError: longer than `limit_bytes`. UpstreamError: broken off, or not what its headers say.
        """
        try:
            body = await answer.read(limit_bytes)
        except ValueError as error:
            raise AnswerTooLongError(f"the upstream's answer is longer than {limit_bytes} bytes") from error
        except HttpClientError as error:
            raise upstream_error(error) from error
        encoding = answer.header(b"content-encoding")
        if encoding is None or encoding.lower() == b"identity" or not body:
            return body
        if encoding.lower() not in (b"gzip", b"x-gzip"):
            raise UpstreamError("the upstream's answer has a content-encoding that was not asked for")
        return inflate(body, limit_bytes)

    async def close(self) -> None:
        """Closes every connection; requests in flight fail."""
        await self._client.close()


def inflate(body: bytes, limit_bytes: int) -> bytes:
    """A gzip body inflated, all members of it.

    Raises: UpstreamError: not gzip, or longer than `limit_bytes` once inflated.
    """
    parts: list[bytes] = []
    size = 0
    while body:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            part = member.decompress(body, limit_bytes - size + 1)
        except zlib.error as error:
            raise UpstreamError("the upstream's answer is not the gzip that it says it is") from error
        size += len(part)
        if size > limit_bytes:
            raise AnswerTooLongError(f"the upstream's answer inflates to more than {limit_bytes} bytes")
        if not member.eof:
            raise UpstreamError("the upstream's gzip answer is broken off")
        parts.append(part)
        body = member.unused_data
    return b"".join(parts)


def namespace_path(namespace: str) -> bytes:
    """`/v2/namespaces/{namespace}`, encoded so that any text stays one segment.

    A name of dots only would be taken for a path step by whoever normalises paths, so its dots are encoded too.
    """
    encoded = quote(namespace, safe=_NAME_SAFE, errors="surrogatepass")
    if encoded in (".", ".."):
        encoded = encoded.replace(".", "%2E")
    return b"/v2/namespaces/" + encoded.encode("ascii")


def upstream_error(error: HttpClientError) -> UpstreamError:
    """A failed call as the error that a caller of ours sees; its text names no address."""
    kind = GatewayTimeoutError if error.timeout else UpstreamError
    return kind(f"the upstream {_what_happened(error)}", outcome_known=error.outcome_known)


def _what_happened(error: HttpClientError) -> str:
    if isinstance(error, PoolTimeout):
        return "has no free connection"
    if isinstance(error, ConnectError):
        return "did not accept a connection in time" if error.timeout else "cannot be reached"
    if error.timeout:
        return "did not answer in time"
    if isinstance(error, TruncatedBody):
        return "broke its answer off"
    if isinstance(error, ProtocolError):
        return "answered something that is not HTTP"
    return "closed the connection before it answered"
