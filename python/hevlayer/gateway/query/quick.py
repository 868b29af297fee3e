"""A query that needs one upstream request and gets a plain answer: from callback to callback, without a task.

What is anything else (a large, compressed or Layer body, `nearest_to_id`, no idle connection, an answer that is an
error, comes in pieces or must be changed) goes the general way of `execute`, from wherever that shows.
"""

import logging
from typing import Final

from hevlayer.gateway.query.execute import OK, QueryRoutes, failed_call
from hevlayer.gateway.query.plan import Consistency, Filtered, Mode, Read, Relay, plan_read
from hevlayer.gateway.query.vouched import VouchedQueries, consistency_of
from hevlayer.gateway.router import Finisher, RouteContext
from hevlayer.gateway.scanning import OFF_LOOP_BYTES
from hevlayer.gateway.trail import ServedQuery
from hevlayer.http.client import ClientResponse
from hevlayer.http.framing import status_line
from hevlayer.kernels.http import ENCODED
from hevlayer.kernels.splice import QueryScan, SpliceError
from hevlayer.wire.headers import CONSISTENCY, STABLE_AS_OF

log = logging.getLogger("hevlayer.gateway")

_OK_LINE: Final = status_line(OK)
# The gateway's own header lines, without and with a watermark.
_OWN_LINES = {each: b"%b: %b\r\ntraceparent: %%b\r\n" % (CONSISTENCY, each.value.encode()) for each in Consistency}
_OWN_LINES_STABLE = {
    each: b"%b: %b\r\n%b: %%d\r\ntraceparent: %%b\r\n" % (CONSISTENCY, each.value.encode(), STABLE_AS_OF)
    for each in Consistency
}


class QuickQueries:
    """The quick handler of POST /v2/namespaces/{namespace}/query."""

    def __init__(self, routes: QueryRoutes, vouched: VouchedQueries | None = None, *, body_bytes_max: int) -> None:
        """`vouched`: told of how queries are read."""
        self.routes = routes
        self._vouched = vouched
        # Larger ones are scanned in a thread.
        self._body_bytes_max = min(body_bytes_max, OFF_LOOP_BYTES - 1)

    def start(self, context: RouteContext, around: Finisher) -> bool:
        """See `QuickHandler`. Raises nothing: what is refused is refused by the general way."""
        request = context.request
        head, body = request.head, request.body.whole
        if head is None or body is None or len(body) > self._body_bytes_max or head.flags & ENCODED:
            return False
        scatterer = self.routes.scatterer
        if scatterer is not None and scatterer.scatters(context.namespace):
            return False
        try:
            scan = QueryScan(body)
        except SpliceError:
            return False
        is_layer, has_consistency, has_filter, has_rank_by, legs, wants_reserved, model_rerank = scan.facts
        routes = self.routes
        mode = routes.mode
        if is_layer or (wants_reserved and (model_rerank or mode is Mode.UPSTREAM)):
            return False
        view = routes.views.view(context.namespace, context.credential.scope)
        started = routes.now()
        read = plan_read(has_consistency, view, mode, routes.now_ms(), routes.watermark_age_ms_max)
        if type(read) is Filtered:
            consistency, eventual, watermark_ms = Consistency.FILTERED, True, read.watermark_ms
        else:
            assert isinstance(read, Relay)
            consistency, eventual, watermark_ms = read.consistency, read.eventual, None
        sent = scan.render(eventual=eventual, watermark_ms=watermark_ms, exclude_reserved=wants_reserved)
        call = _Call(self, context, around, scan, body, read, consistency, view.watermark_ms, started, wants_reserved)
        if not routes.relay.begin(context, sent, call):
            return False
        context.has_filter = has_filter
        context.has_rank_by = has_rank_by
        context.legs = legs
        if self._vouched is not None and not has_consistency:
            self._vouched.admit(context, view, read)
        return True

    def resume(
        self,
        context: RouteContext,
        around: Finisher,
        body: bytes,
        read: Read,
        stable_as_of_ms: int | None,
        started: float,
    ) -> "_Call":
        """See `Resume`."""
        scan = QueryScan(body)
        return _Call(
            self, context, around, scan, body, read, consistency_of(read), stable_as_of_ms, started, scan.wants_reserved
        )


class _Call:
    """A query on its way; receives its answer."""

    __slots__ = ("around", "body", "consistency", "context", "excludes", "quick", "read", "scan", "stable_as_of_ms",
                 "started")  # fmt: skip

    def __init__(
        self,
        quick: QuickQueries,
        context: RouteContext,
        around: Finisher,
        scan: QueryScan,
        body: bytes,
        read: Read,
        consistency: Consistency,
        stable_as_of_ms: int | None,
        started: float,
        excludes: bool,
    ) -> None:
        self.quick = quick
        self.context = context
        self.around = around
        self.scan = scan
        self.body = body
        self.read = read
        self.consistency = consistency
        self.stable_as_of_ms = stable_as_of_ms
        self.started = started
        self.excludes = excludes

    def done(self) -> bool:
        return False

    def set_result(self, answer: ClientResponse, /) -> None:
        context = self.context
        routes = self.quick.routes
        routes.relay.ended(context, self.started)
        head = answer.head
        if answer.status != OK or answer.stream is not None or head is None:
            rest = routes.conclude(
                context, self.scan, self.body, self.read, answer, self.stable_as_of_ms, self.excludes
            )
            context.reply.answer(self.around.carry(context, rest))
            return
        try:
            routes.relay.note(context, OK)
            consistency, at_ms, reply = self.consistency, self.stable_as_of_ms, context.reply
            context.consistency = consistency.value
            if at_ms is None:
                own = _OWN_LINES[consistency] % context.traceparent
            else:
                own = _OWN_LINES_STABLE[consistency] % (at_ms, context.traceparent)
            message, size, queried, returned = head.relayed(
                _OK_LINE, own, reply.date_line, reply.connection_line(), at_ms
            )
            if queried is not None and returned is not None:
                routes.metrics.add_billing(context.namespace, queried=queried, returned=returned)
            self.around.finish(context, OK, size)
        except Exception as error:
            # A bug of ours; the client and the upstream's connection must not wait for its consequences.
            context.reply.answer(self.around.carry(context, failed_call(error)))
            return
        reply.send(message)
        if routes.trail is not None:
            routes.trail.queried(context, ServedQuery(self.scan, self.body, answer, at_ms))

    def set_exception(self, error: BaseException, /) -> None:
        context = self.context
        self.quick.routes.relay.ended(context, self.started)
        context.reply.answer(self.around.carry(context, failed_call(error)))
