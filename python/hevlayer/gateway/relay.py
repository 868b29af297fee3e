"""Requests that go upstream as they came, and answers that come back as they are."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from hevlayer.clock import Clock
from hevlayer.errors import PayloadTooLargeError
from hevlayer.gateway.auth import BackgroundBearers
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.trail import ServedQuery, Trail
from hevlayer.http.client import Receiver
from hevlayer.http.messages import Headers, Request, Response
from hevlayer.kernels.http import ForwardRules
from hevlayer.stores.turbopuffer import Answer, Deadlines, Upstream
from hevlayer.wire.headers import (
    REQUEST_ALLOWED,
    REQUEST_ALLOWED_PREFIXES,
    replaced,
    request_headers,
    response_headers,
)

IDENTITY = (b"accept-encoding", b"identity")
_API_ROOTS = (b"/v1/", b"/v2/")
FORWARDED = ForwardRules(sorted(REQUEST_ALLOWED), list(REQUEST_ALLOWED_PREFIXES))


class NamespaceUse(Protocol):
    """Who wants to know that a namespace is in use."""

    def touch(self, namespace: str, scope: bytes) -> object: ...


class Relay:
    """Sends a context's request upstream and turns the answer into ours."""

    def __init__(
        self, upstream: Upstream, clock: Clock, bearers: BackgroundBearers, uses: NamespaceUse, *, body_bytes_max: int
    ) -> None:
        self.upstream = upstream
        self._now = clock.monotonic
        self._bearers = bearers
        self._uses = uses
        self._body_bytes_max = body_bytes_max

    def headers(self, context: RouteContext, *, identity: bool = False) -> Headers:
        """The headers to send upstream; with `identity` the answer must not be compressed, because we change it."""
        headers = request_headers(context.request.headers, context.credential.authorization, context.traceparent)
        return replaced(headers, *IDENTITY) if identity else headers

    async def send(
        self,
        context: RouteContext,
        headers: Headers,
        body: bytes | Sequence[bytes] | AsyncIterator[bytes],
        *,
        method: str = "",
        deadlines: Deadlines | None = None,
        content_length: int | None = None,
    ) -> Answer:
        """One upstream call of a request, at its own target; its time is noted on the context.

        Raises: UpstreamError, GatewayTimeoutError.
        """
        started = self._now()
        context.upstream_calls += 1
        try:
            answer = await self.upstream.send(
                method or context.request.method,
                context.upstream_target,
                headers,
                body,
                deadlines=deadlines,
                content_length=content_length,
            )
        finally:
            context.upstream_seconds += self._now() - started
        self.note(context, answer.status)
        return answer

    def begin(self, context: RouteContext, body: bytes, receiver: Receiver) -> bool:
        """Sends a request that came whole, with another body, when an idle connection can take it now.

        The receiver gets the answer or an HttpClientError; then `ended` must be called. False: nothing was sent.
        """
        head = context.request.head
        if head is None:
            return False
        upstream, credential = self.upstream, context.credential
        message = head.forwarded(
            FORWARDED,
            upstream.base_path,
            len(context.prefix),
            upstream.authority,
            credential.authorization,
            context.traceparent,
            False,
            body,
        )
        if not upstream.begin(message, receiver):
            return False
        context.upstream_calls += 1
        return True

    def ended(self, context: RouteContext, started: float) -> None:
        """A request of `begin` is over."""
        self.upstream.ended()
        context.upstream_seconds += self._now() - started

    def note(self, context: RouteContext, status: int) -> None:
        """An answer came: a good one shows that its bearer works and that its namespace is in use."""
        if 200 <= status < 300 and context.namespace:
            self._bearers.note_success(context.namespace, context.credential)
            self._uses.touch(context.namespace, context.credential.scope)

    async def forward(self, context: RouteContext, *, deadlines: Deadlines | None = None) -> Answer:
        """The request exactly as it came, its body streamed when it is large.

        Raises: as `send`; PayloadTooLargeError.
        """
        body, length = self._body_of(context.request)
        return await self.send(context, self.headers(context), body, deadlines=deadlines, content_length=length)

    def respond(self, context: RouteContext, answer: Answer) -> Response:
        """The answer as it is: status, headers save hop-by-hop ones, body byte for byte."""
        headers = response_headers(answer.headers)
        if answer.status in (201, 202) or 300 <= answer.status < 400:
            headers = [(key, self._location(context, value) if key == b"location" else value) for key, value in headers]
        stream = answer.stream
        if stream is None:
            body = answer.body or b""
            if not body:
                _keep_length(answer, headers)
            return Response(answer.status, headers, body)
        _keep_length(answer, headers)
        return Response(answer.status, headers, stream)

    def _location(self, context: RouteContext, value: bytes) -> bytes:
        """A `Location` as our client must follow it.

        An absolute one becomes a path, which a client resolves against the very address that it called: the scheme
        and port that it sees are unknown behind a load balancer.
        """
        path = value
        base = self.upstream.base_path
        if b"://" in value[:10]:
            rest = value.split(b"://", 1)[1]
            path = b"/" + rest.partition(b"/")[2]
        if base and path.startswith(base + b"/"):
            path = path[len(base) :]
        return context.prefix + path if path.startswith(_API_ROOTS) else value

    def _body_of(self, request: Request) -> tuple[bytes | AsyncIterator[bytes], int | None]:
        body = request.body
        if body.whole is not None:
            return body.whole, None
        length = body.content_length
        if length is not None and length > self._body_bytes_max:
            raise PayloadTooLargeError(f"request body: at most {self._body_bytes_max} bytes")
        return self._bounded(body.chunks()), length

    async def _bounded(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self._body_bytes_max:
                raise PayloadTooLargeError(f"request body: at most {self._body_bytes_max} bytes")
            yield chunk


def _keep_length(answer: Answer, headers: Headers) -> None:
    """Keeps the length of a body that is streamed unchanged, or that a HEAD answer only announces."""
    length = answer.header(b"content-length")
    if length is not None:
        headers.append((b"content-length", length))


class RelayRoutes:
    """Routes that add nothing."""

    def __init__(self, relay: Relay, *, slow: Deadlines, trail: Trail | None = None) -> None:
        self._relay = relay
        self._slow = slow
        self._trail = trail

    async def relay(self, context: RouteContext) -> Response:
        """Any route as it came."""
        return self._relay.respond(context, await self._relay.forward(context))

    async def relay_slow(self, context: RouteContext) -> Response:
        """A route whose work may take long upstream."""
        return self._relay.respond(context, await self._relay.forward(context, deadlines=self._slow))

    async def relay_query(self, context: RouteContext) -> Response:
        """POST /v1/…/query: the older query, untouched."""
        context.consistency = "upstream"
        answer = await self._relay.forward(context)
        if self._trail is not None and answer.status == 200:
            self._trail.queried(context, ServedQuery(None, context.request.body.whole or b"", answer, None))
        return self._relay.respond(context, answer)
