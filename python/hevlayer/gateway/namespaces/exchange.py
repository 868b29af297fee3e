"""One upstream exchange of a namespace route: asked uncompressed, read whole, so that a block can be added."""

from dataclasses import dataclass
from typing import Protocol

from hevlayer.clock import Clock
from hevlayer.gateway.auth import BackgroundBearers
from hevlayer.gateway.relay import Relay
from hevlayer.gateway.router import RouteContext
from hevlayer.http.messages import Headers, Response
from hevlayer.wire.headers import response_headers, without

# Metadata of 1,024 attributes and a listing of 1,000 names are far below it.
ANSWER_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Exchanged:
    """An upstream answer: the headers that may be relayed, and the whole plain body."""

    status: int
    headers: Headers
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def relayed(self, body: bytes | None = None) -> Response:
        """The answer as it is, or with another body."""
        return Response(self.status, list(self.headers), self.body if body is None else body)


class Exchanges(Protocol):
    """The upstream as the namespace routes use it. Failures of transport raise UpstreamError."""

    async def call(
        self, context: RouteContext, *, method: str = "", target: bytes = b"", body: bytes = b""
    ) -> Exchanged:
        """The context's request under its credential; `method` and `target` (path and query) may differ from it."""

    async def metadata(self, namespace: str, bearer: bytes | None) -> tuple[int, bytes]:
        """One metadata read: (status, plain body)."""


class RelayedExchanges:
    """Exchanges over the gateway's relay."""

    def __init__(self, relay: Relay, bearers: BackgroundBearers, clock: Clock) -> None:
        self._relay = relay
        self._bearers = bearers
        self._now = clock.monotonic

    async def call(
        self, context: RouteContext, *, method: str = "", target: bytes = b"", body: bytes = b""
    ) -> Exchanged:
        upstream = self._relay.upstream
        headers = self._relay.headers(context, identity=True)
        started = self._now()
        try:
            answer = await upstream.send(
                method or context.request.method, target or context.upstream_target, headers, body
            )
            plain = await upstream.whole(answer, ANSWER_BYTES_MAX)
        finally:
            context.upstream_seconds += self._now() - started
        if context.namespace and 200 <= answer.status < 300:
            self._bearers.note_success(context.namespace, context.credential)
        return Exchanged(answer.status, without(response_headers(answer.headers), b"content-encoding"), plain)

    async def metadata(self, namespace: str, bearer: bytes | None) -> tuple[int, bytes]:
        return await self._relay.upstream.metadata(namespace, bearer)
