"""Carries a query's plan out: bytes spliced, one upstream call, bytes relayed."""

import asyncio
from typing import NamedTuple, Protocol, assert_never

from hevlayer.clock import Clock
from hevlayer.gateway.consistency import NamespaceView
from hevlayer.gateway.encoding import compressed, gzip
from hevlayer.gateway.query.answer import stream_with_stable_as_of, with_stable_as_of
from hevlayer.gateway.query.change import Change, changed, plan_change
from hevlayer.gateway.query.nearest import StoredVectors, UpstreamRefusedError
from hevlayer.gateway.query.plan import Consistency, Filtered, Mode, NearestToId, Read, plan_query
from hevlayer.gateway.query.plan import Relay as RelayPlan
from hevlayer.gateway.relay import Relay
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.scanning import OFF_LOOP_BYTES, scan_query
from hevlayer.gateway.spool import Intake, is_gzipped
from hevlayer.gateway.trail import ServedQuery, Trail
from hevlayer.http.client import ResponseStream
from hevlayer.http.errors import HttpClientError
from hevlayer.http.messages import Headers, Response
from hevlayer.kernels.splice import QueryScan
from hevlayer.metrics.billing import read_billing
from hevlayer.stores.turbopuffer import Answer, upstream_error
from hevlayer.wire.headers import CONSISTENCY, SHARDS, STABLE_AS_OF, accepts_gzip, response_headers

OK = 200
TOO_MANY_REQUESTS = 429
# The caller may not know that the namespace exists, so nothing of it is told.
_HIDING_STATUSES = frozenset({401, 403, 404})
_CONSISTENCY_HEADERS = {each: (CONSISTENCY, each.value.encode()) for each in Consistency}
_HEADER_TEXTS = {each: each.value for each in Consistency}


class Scatterer(Protocol):
    """Sends the queries of sharded namespaces."""

    def scatters(self, namespace: str) -> bool:
        """The namespace is sharded."""

    async def query(self, context: RouteContext, body: bytes) -> Answer | None:
        """None: the query goes up as the one request that it is. Raises: UpstreamError, GatewayTimeoutError."""


class Views(Protocol):
    """What is known of namespaces."""

    def view(self, namespace: str, scope: bytes) -> NamespaceView: ...


class QueryMetrics(Protocol):
    """What queries count."""

    def count_throttle_retry(self, namespace: str, status: int) -> None: ...

    def add_billing(self, namespace: str, *, written: int = 0, queried: int = 0, returned: int = 0) -> None: ...


class QueryRoutes:
    """POST /v2/namespaces/{namespace}/query."""

    def __init__(
        self,
        relay: Relay,
        intake: Intake,
        views: Views,
        vectors: StoredVectors,
        metrics: QueryMetrics,
        clock: Clock,
        *,
        mode: Mode,
        watermark_age_ms_max: int,
        trail: Trail | None = None,
        scatterer: Scatterer | None = None,
    ) -> None:
        self.scatterer = scatterer
        self.relay = relay
        self.views = views
        self.metrics = metrics
        self.now = clock.monotonic
        self.now_ms = clock.now_ms
        self.mode = mode
        self.watermark_age_ms_max = watermark_age_ms_max
        self.trail = trail
        self._intake = intake
        self._vectors = vectors

    async def query(self, context: RouteContext) -> Response:
        """A query of any shape and dialect."""
        request = context.request
        body = request.body.whole
        gzipped = False
        if body is None or request.header(b"content-encoding") is not None:
            gzipped = is_gzipped(request)
            body = await self._intake.in_memory(request)
        scan = scan_query(body) if len(body) < OFF_LOOP_BYTES else await asyncio.to_thread(scan_query, body)
        context.has_filter = scan.has_filter
        context.has_rank_by = scan.has_rank_by
        if scan.multi:
            context.legs = scan.legs
        view = self.views.view(context.namespace, context.credential.scope)
        plan = plan_query(scan, view, self.mode, self.now_ms(), self.watermark_age_ms_max)
        if isinstance(plan, NearestToId):
            try:
                vector: bytes | None = await self._vectors.mean(context, plan.ids, view)
            except UpstreamRefusedError as refusal:
                return self.relay.respond(context, refusal.answer)
            read: Read = plan.read
        else:
            vector, read = None, plan
        change = plan_change(scan, self.mode)
        headers = self.relay.headers(context, identity=change.answer)
        call = _Call(context, scan, body, headers, change.excludes, vector, gzipped)
        consistency, answer = await self._carry_out(call, read)
        response = await self._answer(call, change, answer, consistency, view.watermark_ms)
        if context.shards:
            response.headers.append((SHARDS, b"%d" % context.shards))
        return response

    async def conclude(
        self,
        context: RouteContext,
        scan: QueryScan,
        body: bytes,
        read: Read,
        answer: Answer,
        stable_as_of_ms: int | None,
        excludes: bool,
    ) -> Response:
        """What follows the first answer to a query whose answer is not changed."""
        self.relay.note(context, answer.status)
        change = Change(excludes, strips=False, answer=False)
        call = _Call(context, scan, body, self.relay.headers(context), excludes, None, gzipped=False)
        consistency, answer = await self._after_first(call, read, answer)
        return await self._answer(call, change, answer, consistency, stable_as_of_ms)

    async def _answer(
        self, call: "_Call", change: Change, answer: Answer, consistency: Consistency, stable_as_of_ms: int | None
    ) -> Response:
        context = call.context
        context.consistency = _HEADER_TEXTS[consistency]
        if answer.status != OK:
            response = self.relay.respond(context, answer)
            if answer.status not in _HIDING_STATUSES:
                _tell(response.headers, consistency, stable_as_of_ms)
            return response
        if change.answer:
            answer = await self._changed(call.scan, change, answer)
            response = self._respond(context, answer, consistency, stable_as_of_ms)
            if accepts_gzip(context.request.header(b"accept-encoding")):
                response = await compressed(response)
        elif answer.stream is None:
            response = self._respond(context, answer, consistency, stable_as_of_ms)
        else:
            response = self._respond_in_pieces(context, answer, answer.stream, consistency, stable_as_of_ms)
        if self.trail is not None:
            self.trail.queried(context, ServedQuery(call.scan, call.body, answer, stable_as_of_ms))
        return response

    async def _carry_out(self, call: "_Call", read: Read) -> tuple[Consistency, Answer]:
        match read:
            case Filtered(watermark_ms):
                answer = await self._send(call, eventual=True, watermark_ms=watermark_ms)
            case RelayPlan(_, eventual, _):
                answer = await self._send(call, eventual=eventual, watermark_ms=None)
            case _:
                assert_never(read)
        return await self._after_first(call, read, answer)

    async def _after_first(self, call: "_Call", read: Read, answer: Answer) -> tuple[Consistency, Answer]:
        """How the query was read, and its answer: the first one, or that of the try after a 429."""
        if isinstance(read, Filtered):
            return Consistency.FILTERED, answer
        if answer.status != TOO_MANY_REQUESTS or read.retry_watermark_ms is None:
            return read.consistency, answer
        if answer.stream is not None:
            await answer.stream.aclose()
        answer = await self._send(call, eventual=True, watermark_ms=read.retry_watermark_ms)
        self.metrics.count_throttle_retry(call.context.namespace, answer.status)
        return Consistency.FILTERED, answer

    async def _send(self, call: "_Call", *, eventual: bool, watermark_ms: int | None) -> Answer:
        body = call.scan.render(
            eventual=eventual, watermark_ms=watermark_ms, exclude_reserved=call.excludes, vector=call.vector
        )
        if self.scatterer is not None:
            gathered = await self.scatterer.query(call.context, body)
            if gathered is not None:
                return gathered
        if call.gzipped:
            original = call.context.request.body.whole
            if body is call.body and original is not None:
                body = original
            else:
                body = gzip(body) if len(body) < OFF_LOOP_BYTES else await asyncio.to_thread(gzip, body)
        return await self.relay.send(call.context, call.headers, body)

    def _respond(
        self, context: RouteContext, answer: Answer, consistency: Consistency, stable_as_of_ms: int | None
    ) -> Response:
        """The answer as it is, with the watermark in its headers and, when it is not compressed, in its body."""
        headers = response_headers(answer.headers)
        _tell(headers, consistency, stable_as_of_ms)
        body = answer.body or b""
        encoding = answer.header(b"content-encoding")
        if encoding is not None and encoding != b"identity":
            return Response(OK, headers, body)
        self._bill(context, body)
        if stable_as_of_ms is None:
            return Response(OK, headers, body)
        return Response(OK, headers, with_stable_as_of(body, stable_as_of_ms))

    async def _changed(self, scan: QueryScan, change: Change, answer: Answer) -> Answer:
        body = await self.relay.upstream.whole(answer)
        if len(body) < OFF_LOOP_BYTES:
            body = changed(body, scan, change)
        else:
            body = await asyncio.to_thread(changed, body, scan, change)
        return Answer(OK, [pair for pair in answer.headers if pair[0] != b"content-encoding"], body)

    def _respond_in_pieces(
        self,
        context: RouteContext,
        answer: Answer,
        stream: ResponseStream,
        consistency: Consistency,
        stable_as_of_ms: int | None,
    ) -> Response:
        encoding = answer.header(b"content-encoding")
        if stable_as_of_ms is None or (encoding is not None and encoding != b"identity"):
            response = self.relay.respond(context, answer)
            _tell(response.headers, consistency, stable_as_of_ms)
            return response
        headers = response_headers(answer.headers)
        _tell(headers, consistency, stable_as_of_ms)
        return Response(OK, headers, stream_with_stable_as_of(stream, stable_as_of_ms))

    def _bill(self, context: RouteContext, body: bytes) -> None:
        billing = read_billing(body)
        if billing is not None:
            self.metrics.add_billing(context.namespace, queried=billing.queried, returned=billing.returned)


class _Call(NamedTuple):
    """One query on its way: its body, and what does not depend on how it is read."""

    context: RouteContext
    scan: QueryScan
    body: bytes
    headers: Headers
    excludes: bool
    vector: bytes | None
    gzipped: bool


async def failed_call(error: BaseException) -> Response:
    """Raises what an upstream call that failed means."""
    if isinstance(error, HttpClientError):
        raise upstream_error(error) from error
    raise error


def _tell(headers: Headers, consistency: Consistency, stable_as_of_ms: int | None) -> None:
    headers.append(_CONSISTENCY_HEADERS[consistency])
    if stable_as_of_ms is not None:
        headers.append((STABLE_AS_OF, b"%d" % stable_as_of_ms))
