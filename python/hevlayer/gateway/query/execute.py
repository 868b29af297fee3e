"""Carries a query's plan out: bytes spliced, one upstream call, bytes relayed."""

import asyncio
import zlib
from dataclasses import dataclass
from typing import Protocol, assert_never

from hevlayer.clock import Clock
from hevlayer.errors import UpstreamError
from hevlayer.gateway.consistency import NamespaceView
from hevlayer.gateway.query.answer import stream_with_stable_as_of, with_stable_as_of
from hevlayer.gateway.query.nearest import StoredVectors, UpstreamRefusedError
from hevlayer.gateway.query.plan import Consistency, Filtered, Mode, NearestToId, Read, plan_query
from hevlayer.gateway.query.plan import Relay as RelayPlan
from hevlayer.gateway.relay import Relay
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.scanning import OFF_LOOP_BYTES, scan_query
from hevlayer.gateway.spool import Intake, is_gzipped
from hevlayer.http.messages import Headers, Response
from hevlayer.kernels.splice import QueryScan, SpliceError, layer_results, strip_rows
from hevlayer.metrics.billing import read_billing
from hevlayer.stores.turbopuffer import Answer
from hevlayer.wire.headers import CONSISTENCY, STABLE_AS_OF, response_headers

TOO_MANY_REQUESTS = 429
# The caller may not know that the namespace exists, so nothing of it is told.
_HIDING_STATUSES = frozenset({401, 403, 404})
_CONSISTENCY_HEADERS = {each: (CONSISTENCY, each.value.encode()) for each in Consistency}
GZIP_LEVEL = 1


class Views(Protocol):
    """What is known of namespaces."""

    def view(self, namespace: str) -> NamespaceView: ...


class QueryMetrics(Protocol):
    """What queries count."""

    def count_throttle_retry(self, namespace: str, status: int) -> None: ...

    def add_billing(self, namespace: str, *, written: int = 0, queried: int = 0, returned: int = 0) -> None: ...


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """What configuration decides about queries."""

    mode: Mode
    watermark_age_ms_max: int


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
        settings: QuerySettings,
    ) -> None:
        self._relay = relay
        self._intake = intake
        self._views = views
        self._vectors = vectors
        self._metrics = metrics
        self._now_ms = clock.now_ms
        self._settings = settings

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
        context.legs = scan.legs if scan.multi else 0
        view = self._views.view(context.namespace)
        settings = self._settings
        plan = plan_query(scan, view, settings.mode, self._now_ms(), settings.watermark_age_ms_max)
        call = _Call(self, context, scan, body, gzipped=gzipped, touched=settings.mode is not Mode.UPSTREAM)
        if isinstance(plan, NearestToId):
            try:
                call.vector = await self._vectors.mean(context, plan.ids, view)
            except UpstreamRefusedError as refusal:
                return self._relay.respond(context, refusal.answer)
            read: Read = plan.read
        else:
            read = plan
        consistency, answer = await self._carry_out(call, read)
        return await self._respond(call, answer, consistency, view.watermark_ms)

    async def _carry_out(self, call: "_Call", read: Read) -> tuple[Consistency, Answer]:
        match read:
            case Filtered(watermark_ms):
                return Consistency.FILTERED, await call.send(eventual=True, watermark_ms=watermark_ms)
            case RelayPlan(consistency, eventual, retry_watermark_ms):
                answer = await call.send(eventual=eventual, watermark_ms=None)
                if answer.status != TOO_MANY_REQUESTS or retry_watermark_ms is None:
                    return consistency, answer
                if answer.stream is not None:
                    await answer.stream.aclose()
                answer = await call.send(eventual=True, watermark_ms=retry_watermark_ms)
                self._metrics.count_throttle_retry(call.context.namespace, answer.status)
                return Consistency.FILTERED, answer
            case _:
                assert_never(read)

    async def _respond(
        self, call: "_Call", answer: Answer, consistency: Consistency, stable_as_of_ms: int | None
    ) -> Response:
        context = call.context
        context.consistency = consistency.value
        status = answer.status
        if status != 200:
            response = self._relay.respond(context, answer)
            if status not in _HIDING_STATUSES:
                _tell(response.headers, consistency, stable_as_of_ms)
            return response
        headers = response_headers(answer.headers)
        compressed = answer.header(b"content-encoding") not in (None, b"identity")
        if call.changes_answer:
            body = await call.changed_answer(self._relay, answer)
            headers = [pair for pair in headers if pair[0] != b"content-encoding"]
            compressed = False
        elif answer.stream is not None:
            stream = answer.stream
            if compressed or stable_as_of_ms is None:
                response = self._relay.respond(context, answer)
                _tell(response.headers, consistency, stable_as_of_ms)
                return response
            _tell(headers, consistency, stable_as_of_ms)
            return Response(200, headers, stream_with_stable_as_of(stream, stable_as_of_ms))
        else:
            body = answer.body or b""
        if not compressed:
            billing = read_billing(body)
            if billing is not None:
                self._metrics.add_billing(context.namespace, queried=billing.queried, returned=billing.returned)
            if stable_as_of_ms is not None:
                body = with_stable_as_of(body, stable_as_of_ms)
        _tell(headers, consistency, stable_as_of_ms)
        return Response(200, headers, body)

    async def send(self, call: "_Call", body: bytes, headers: Headers) -> Answer:
        return await self._relay.send(call.context, headers, body)

    def headers(self, call: "_Call") -> Headers:
        return self._relay.headers(call.context, identity=call.changes_answer)


class _Call:
    """One query on its way: its body, and how the upstream is asked."""

    __slots__ = (
        "_body",
        "_excludes",
        "_gzipped",
        "_headers",
        "_routes",
        "_scan",
        "_strips",
        "changes_answer",
        "context",
        "vector",
    )

    def __init__(
        self, routes: QueryRoutes, context: RouteContext, scan: QueryScan, body: bytes, *, gzipped: bool, touched: bool
    ) -> None:
        self._routes = routes
        self._scan = scan
        self._body = body
        self._gzipped = gzipped
        self.context = context
        self.vector: bytes | None = None
        is_layer = scan.dialect == "layer"
        # The upstream cannot leave out what model reranking must include, and an untouched body cannot ask it to.
        self._excludes = scan.wants_reserved and not scan.model_rerank and (touched or is_layer)
        self._strips = scan.wants_reserved and not self._excludes
        self.changes_answer = is_layer or self._strips
        self._headers = routes.headers(self)

    async def send(self, *, eventual: bool, watermark_ms: int | None) -> Answer:
        """Renders the body with what the plan adds, and asks the upstream."""
        scan = self._scan
        body = scan.render(
            eventual=eventual,
            watermark_ms=watermark_ms,
            exclude_reserved=self._excludes,
            vector=self.vector,
        )
        if self._gzipped:
            original = self.context.request.body.whole
            if body is self._body and original is not None:
                body = original
            elif len(body) < OFF_LOOP_BYTES:
                body = gzip(body)
            else:
                body = await asyncio.to_thread(gzip, body)
        return await self._routes.send(self, body, self._headers)

    async def changed_answer(self, relay: Relay, answer: Answer) -> bytes:
        """The upstream's answer without reserved attributes, and with `results` for the Layer dialect."""
        body = await relay.upstream.whole(answer)
        if len(body) < OFF_LOOP_BYTES:
            return self._change(body)
        return await asyncio.to_thread(self._change, body)

    def _change(self, body: bytes) -> bytes:
        scan = self._scan
        try:
            if self._strips:
                body = strip_rows(body)
            return layer_results(body) if scan.dialect == "layer" else body
        except SpliceError as error:
            raise UpstreamError("the upstream's answer to the query is not JSON") from error


def _tell(headers: Headers, consistency: Consistency, stable_as_of_ms: int | None) -> None:
    headers.append(_CONSISTENCY_HEADERS[consistency])
    if stable_as_of_ms is not None:
        headers.append((STABLE_AS_OF, b"%d" % stable_as_of_ms))


def gzip(body: bytes) -> bytes:
    """The body as one gzip member, compressed lightly: it crosses one hop."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16)
    return packer.compress(body) + packer.flush()
