"""Queries that are sent upstream before they become requests.

A **voucher** stands for what the general way has just established: that a caller may ask, and how queries on a
namespace are read while what is known of it stays the same. With one, a native call makes the upstream's message of a
request's head, and others make the client's message, the log's line and the history's record of the answer. Anything
unusual about the request is left to the general way; when the answer is unusual, the request is made after all and goes
on there.
"""

import random
from collections.abc import Callable
from typing import Protocol

from hevlayer.clock import Clock
from hevlayer.gateway.access_log import AccessLog
from hevlayer.gateway.auth import Credential
from hevlayer.gateway.consistency import NamespaceView
from hevlayer.gateway.drain import Drain
from hevlayer.gateway.query.execute import QueryRoutes
from hevlayer.gateway.query.plan import Consistency, Filtered, Mode, Read
from hevlayer.gateway.relay import FORWARDED
from hevlayer.gateway.router import Finisher, RouteContext
from hevlayer.gateway.scanning import OFF_LOOP_BYTES
from hevlayer.http.client import ClientResponse, Receiver
from hevlayer.http.messages import Reply, Request
from hevlayer.kernels.http import QueryRelays, RelayedQuery, RequestHead, ResponseHead
from hevlayer.metrics.recorder import Metrics, QueryMeter

# How long a voucher stands for what it says, at most. Every so often one query goes the general way, which looks again
# and notes that the namespace and the credential are in use.
VOUCHER_SECONDS = 1.0
VOUCHERS_MAX = 10_000
# Of a caller's authorization and a namespace's name together. Vouchers are made before the upstream has judged either,
# so whoever makes them up must not fill the memory with them.
VOUCHED_BYTES_MAX = 1024


class Around(Finisher, Protocol):
    """What a query that goes on in the general way needs of the middleware."""

    def resume(
        self, request: Request, reply: Reply, credential: Credential, identity: tuple[bytes, str, str], started: float
    ) -> RouteContext:
        """The context of a request that has passed; `identity` is its traceparent, trace id and request id."""


class RelayTrail(Protocol):
    """Who is told of queries that were served in this way."""

    def relayed(self, namespace: str, query: RelayedQuery, answer: ResponseHead) -> None:
        """As `Trail.queried`."""


Resume = Callable[[RouteContext, Finisher, bytes, Read, int | None, float], Receiver]
"""Who receives the answer in the general way: context, middleware, body, how it was read, the watermark that is told,
and when it was sent."""


class Voucher:
    """What is known of one caller's queries on one namespace."""

    __slots__ = ("_meters", "_metrics", "_operation", "credential", "namespace", "read", "scope", "view")

    def __init__(
        self, metrics: Metrics, operation: str, credential: Credential, namespace: str, view: NamespaceView, read: Read
    ) -> None:
        self._metrics = metrics
        self._operation = operation
        self.credential = credential
        self.namespace = namespace
        self.scope = credential.scope
        self.view = view
        self.read = read
        self._meters: dict[tuple[bool, bool], QueryMeter] = {}

    def meter(self, has_filter: bool, has_rank_by: bool) -> QueryMeter:
        """Bound at the first answer, since names of namespaces that nobody has must not take a label's place."""
        key = (has_filter, has_rank_by)
        meter = self._meters.get(key)
        if meter is None:
            consistency = consistency_of(self.read).value
            meter = self._metrics.query_meter(self._operation, self.namespace, *key, consistency)
            self._meters[key] = meter
        return meter


def consistency_of(read: Read) -> Consistency:
    return Consistency.FILTERED if isinstance(read, Filtered) else read.consistency


class VouchedQueries:
    """Takes queries on; see `TakeOn`."""

    def __init__(
        self,
        routes: QueryRoutes,
        drain: Drain,
        metrics: Metrics,
        access_log: AccessLog,
        clock: Clock,
        rng: random.Random,
        trail: RelayTrail | None,
        *,
        gateway_key: str,
        operation: str,
        body_bytes_max: int,
    ) -> None:
        """Args:
        gateway_key: what callers show as their bearer; empty: each has its own.
        operation: the metric name of the route.
        body_bytes_max: larger queries are left to the general way, as are those that are scanned in a thread.
        """
        self.routes = routes
        self.upstream = routes.relay.upstream
        self.metrics = metrics
        self.access_log = access_log
        self.trail = trail
        self.operation = operation
        self.now: Callable[[], float] = clock.monotonic
        self.now_ms: Callable[[], int] = clock.now_ms
        self._around: Around | None = None
        self._resume: Resume | None = None
        self._drain = drain
        self._relays = QueryRelays(
            rng.getrandbits(64),
            gateway_key.encode() or None,
            FORWARDED,
            self.upstream.base_path,
            self.upstream.authority,
            body_bytes_max=min(body_bytes_max, OFF_LOOP_BYTES - 1),
            vouchers_max=VOUCHERS_MAX,
        )
        self.taken = 0
        """Queries so far."""

    def go_on_with(self, around: Around, resume: Resume) -> None:
        """What takes over where an answer is unusual; to be called before the first query."""
        self._around, self._resume = around, resume

    def receiver(
        self, request: Request, reply: Reply, query: RelayedQuery, voucher: Voucher, started: float, sent: float
    ) -> Receiver:
        """Who receives the answer in the general way, as it would stand at this point."""
        around, resume = self._around, self._resume
        assert around is not None
        assert resume is not None
        identity = (query.traceparent, query.trace_id, query.request_id)
        context = around.resume(request, reply, voucher.credential, identity, started)
        context.upstream_calls = 1
        context.has_filter = query.has_filter
        context.has_rank_by = query.has_rank_by
        return resume(context, around, query.head.body or b"", voucher.read, voucher.view.watermark_ms, sent)

    def admit(self, context: RouteContext, view: NamespaceView, read: Read) -> None:
        """A query was just read so in the general way."""
        routes, credential = self.routes, context.credential
        if len(credential.authorization or b"") + len(context.namespace) > VOUCHED_BYTES_MAX:
            return
        ends = self.now() + VOUCHER_SECONDS
        watermark = view.watermark_ms
        if watermark is not None:
            # Then the watermark becomes too old, and queries are read in another way.
            fresh_ms = watermark + routes.watermark_age_ms_max - self.now_ms()
            if fresh_ms >= 0:
                ends = min(ends, self.now() + fresh_ms / 1000)
        eventual, cut = (True, read.watermark_ms) if isinstance(read, Filtered) else (read.eventual, None)
        self._relays.admit(
            credential.authorization,
            context.namespace,
            ends,
            Voucher(self.metrics, self.operation, credential, context.namespace, view, read),
            eventual=eventual,
            watermark_ms=cut,
            excludes=routes.mode is not Mode.UPSTREAM,
            consistency=consistency_of(read).value,
            stable_as_of_ms=watermark,
            scope=credential.scope.hex(),
        )

    def take_on(self, head: RequestHead, peer: str, reply: Reply) -> bool:
        """See `TakeOn`."""
        if self._drain.draining:
            return False
        started = self.now()
        found = self._relays.begin(head, started)
        if found is None:
            return False
        message, query = found
        voucher = query.note
        assert type(voucher) is Voucher
        routes, namespace = self.routes, voucher.namespace
        if routes.views.view(namespace, voucher.scope) is not voucher.view:
            return False
        if routes.scatterer is not None and routes.scatterer.scatters(namespace):
            return False
        if not self.upstream.begin(message, _Call(self, query, voucher, peer, reply, started, self.now())):
            return False
        self.taken += 1
        return True


class _Call:
    """A query on its way; receives its answer."""

    __slots__ = ("owner", "peer", "query", "reply", "sent", "started", "voucher")

    def __init__(
        self,
        owner: VouchedQueries,
        query: RelayedQuery,
        voucher: Voucher,
        peer: str,
        reply: Reply,
        started: float,
        sent: float,
    ) -> None:
        self.owner = owner
        self.query = query
        self.voucher = voucher
        self.peer = peer
        self.reply = reply
        self.started = started
        self.sent = sent

    def done(self) -> bool:
        return False

    def set_result(self, answer: ClientResponse, /) -> None:
        owner, query, voucher, reply = self.owner, self.query, self.voucher, self.reply
        upstream_seconds = owner.now() - self.sent
        try:
            head = answer.head
            made = None if head is None else query.answered(head, reply.date_line, reply.connection_line())
        except Exception as error:
            # A bug of ours; the client and the upstream's connection must not wait for its consequences.
            self._general().set_exception(error)
            return
        if made is None or head is None:
            self._general().set_result(answer)
            return
        owner.upstream.ended()
        message, size, queried, returned = made
        try:
            if queried is not None and returned is not None:
                owner.metrics.add_billing(voucher.namespace, queried=queried, returned=returned)
            seconds = owner.now() - self.started
            voucher.meter(query.has_filter, query.has_rank_by).observe(seconds, upstream_seconds)
            if owner.access_log.enabled:
                owner.access_log.add(
                    query.line(owner.now_ms(), owner.operation, size, seconds, upstream_seconds, self.peer)
                )
        finally:
            reply.send(message)
        if owner.trail is not None:
            owner.trail.relayed(voucher.namespace, query, head)

    def set_exception(self, error: BaseException, /) -> None:
        self._general().set_exception(error)

    def _general(self) -> Receiver:
        """Makes the request after all."""
        request = self.reply.request_of(self.query.head)
        return self.owner.receiver(request, self.reply, self.query, self.voucher, self.started, self.sent)
