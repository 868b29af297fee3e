"""Writes: scanned whole, stamped, sent upstream once, settled by what the upstream answered."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Protocol

import orjson

from hevlayer.errors import LayerError, PayloadTooLargeError, UpstreamError, ValidationError
from hevlayer.gateway.consistency import NamespaceView, Outcome
from hevlayer.gateway.encoding import gzip
from hevlayer.gateway.relay import Relay
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.scanning import OFF_LOOP_BYTES, scan_spooled_write, scan_write
from hevlayer.gateway.spool import Intake, SpooledBody, is_gzipped
from hevlayer.gateway.write.affected import (
    ASK,
    Affected,
    asking,
    asking_pieces,
    is_told_upstream,
    plan_ask,
    read_affected,
)
from hevlayer.gateway.write.effect import Acknowledged
from hevlayer.gateway.write.mirror import WriteMirror
from hevlayer.gateway.write.outcome import outcome_of, outcome_of_failure
from hevlayer.http.messages import Headers, Response
from hevlayer.kernels.splice import SpliceError, WriteScan, strip_schema
from hevlayer.metrics.billing import read_billing
from hevlayer.stores.doccache import MARKED_IDS_MAX
from hevlayer.stores.turbopuffer import Answer, Deadlines
from hevlayer.wire.headers import response_headers, without
from hevlayer.wire.reserved import RESERVED_PREFIX

DEFAULT_DISTANCE_METRIC = "cosine_distance"
RENDER_CHUNK_BYTES = 1 << 20
# A schema has at most 1024 attributes with names of at most 128 bytes.
SCHEMA_BYTES_MAX = 1 << 20
OK = 200
# The route whose 2xx tells of a copy that goes on.
START_COPY = "start_copy"


class Ticket(Protocol):
    """A write in flight and its stamp."""

    @property
    def stamp_ms(self) -> int: ...

    def settle(self, outcome: Outcome) -> None: ...


class Tickets(Protocol):
    """Stamps writes."""

    def begin(self, namespace: str) -> Ticket: ...


class Views(Protocol):
    """What is known of namespaces."""

    def view(self, namespace: str, scope: bytes) -> NamespaceView: ...


class Shards(Protocol):
    """The number of shards that a namespace's rows are stamped for, None for none."""

    async def shard_count(self, namespace: str, bearer: bytes | None) -> int | None: ...


class WriteMetrics(Protocol):
    """What writes count."""

    def add_billing(self, namespace: str, *, written: int = 0, queried: int = 0, returned: int = 0) -> None: ...


class WriteRoutes:
    """POST and PATCH /v2/namespaces/{namespace}, its /async, the older write, and schema changes."""

    def __init__(
        self,
        relay: Relay,
        intake: Intake,
        views: Views,
        tickets: Tickets,
        mirror: WriteMirror,
        metrics: WriteMetrics,
        *,
        deadlines: Deadlines,
        slow: Deadlines,
        shards: Shards | None = None,
    ) -> None:
        self._shards = shards
        self._relay = relay
        self._intake = intake
        self._views = views
        self._tickets = tickets
        self._mirror = mirror
        self._metrics = metrics
        self._deadlines = deadlines
        self._slow = slow

    async def write(self, context: RouteContext) -> Response:
        """A write of any kind and dialect. Goes on when its client disconnects."""
        body = await self._intake.take(context.request)
        patch_method = context.request.method == "PATCH"
        if isinstance(body, SpooledBody):
            try:
                shards = await self._shard_count(context)
                scan = await asyncio.to_thread(scan_spooled_write, body.path, patch_method=patch_method, shards=shards)
                return await self._send(context, _Spooled(scan, body))
            finally:
                body.close()
        shards = await self._shard_count(context)
        if len(body) < OFF_LOOP_BYTES:
            scan = scan_write(body, patch_method=patch_method, shards=shards)
        else:
            scan = await asyncio.to_thread(scan_write, body, patch_method=patch_method, shards=shards)
        return await self._send(context, _InMemory(scan, body))

    async def _shard_count(self, context: RouteContext) -> int | None:
        if self._shards is None:
            return None
        return await self._shards.shard_count(context.namespace, context.credential.bearer)

    async def _send(self, context: RouteContext, source: "_InMemory | _Spooled") -> Response:
        scan = source.scan
        namespace = context.namespace
        context.rows = scan.upserts + scan.patches + scan.deletes
        view = self._views.view(namespace, context.credential.scope)
        metric = (view.distance_metric or DEFAULT_DISTANCE_METRIC) if scan.has_vectors else None
        headers = self._relay.headers(context)
        deadlines = self._slow if scan.exclusive or scan.by_filter else self._deadlines
        if not scan.writes_rows and not scan.drops_attribute:
            return self._respond(context, await source.send(self, context, headers, 0, metric, deadlines))
        told = self._mirror.wants_affected and is_told_upstream(scan)
        ask = told and plan_ask(scan)
        if told:
            headers = self._relay.headers(context, identity=True)
        affected: Affected | None = None
        keys = await asyncio.to_thread(_named_keys, scan) if source.is_large else _named_keys(scan)
        async with self._mirrored(namespace, deadlines, keys, self._tickets) as flight:
            answer = await source.send(self, context, headers, flight.stamp_ms, metric, deadlines, ask=ask)
            flight.note(answer, only_begun=context.route.operation == START_COPY)
            if told and answer.status == OK:
                answer, affected = await read_affected(self._relay.upstream, answer, strip=ask)
            view = self._views.view(namespace, context.credential.scope)
            tells_rows = context.credential.trusted and source.in_memory
            flight.tell(Acknowledged(scan, flight.stamp_ms, view, affected, tells_rows, source.is_large))
        return self._respond(context, answer)

    def _mirrored(
        self,
        namespace: str,
        deadlines: Deadlines,
        keys: Sequence[bytes] | None = None,
        tickets: Tickets | None = None,
    ) -> "_Flight":
        return _Flight(self._mirror, namespace, deadlines.total_seconds, keys, tickets)

    async def relay_body(
        self,
        context: RouteContext,
        headers: Headers,
        body: bytes | AsyncIterator[bytes],
        length: int | None,
        deadlines: Deadlines,
    ) -> Answer:
        # The upstream has one method for writes; PATCH is the Layer dialect's name for it.
        return await self._relay.send(context, headers, body, method="POST", deadlines=deadlines, content_length=length)

    def _respond(self, context: RouteContext, answer: Answer) -> Response:
        if answer.status == 200 and answer.body is not None:
            billing = read_billing(answer.body)
            if billing is not None:
                self._metrics.add_billing(context.namespace, **billing._asdict())
        return self._relay.respond(context, answer)

    async def write_legacy(self, context: RouteContext) -> Response:
        """POST /v1/namespaces/{namespace}: relayed untouched. Its rows carry no stamp, so they are always visible."""
        async with self._mirrored(context.namespace, self._deadlines) as mirrored:
            answer = await self._relay.forward(context, deadlines=self._deadlines)
            mirrored.note(answer)
        return self._relay.respond(context, answer)

    async def schema(self, context: RouteContext) -> Response:
        """GET /v1/namespaces/{namespace}/schema, without reserved attributes."""
        answer = await self._relay.send(context, self._relay.headers(context, identity=True), b"")
        return await self._schema_answer(context, answer)

    async def update_schema(self, context: RouteContext) -> Response:
        """POST /v1/namespaces/{namespace}/schema; reserved attributes are neither taken nor shown."""
        body = await self._intake.in_memory(context.request)
        if len(body) > SCHEMA_BYTES_MAX:
            raise PayloadTooLargeError(f"request body: at most {SCHEMA_BYTES_MAX} bytes, has {len(body)}")
        drops = inspect_schema(body)
        headers = self._relay.headers(context, identity=True)
        if is_gzipped(context.request):
            headers = without(headers, b"content-encoding")
        if not drops:
            return await self._schema_answer(context, await self._relay.send(context, headers, body))
        async with self._mirrored(context.namespace, self._deadlines) as mirrored:
            answer = await self._relay.send(context, headers, body)
            mirrored.note(answer)
        return await self._schema_answer(context, answer)

    async def _schema_answer(self, context: RouteContext, answer: Answer) -> Response:
        if answer.status != 200:
            return self._relay.respond(context, answer)
        body = await self._relay.upstream.whole(answer)
        try:
            shown = strip_schema(body, None)
        except SpliceError as error:
            raise UpstreamError("the upstream's schema is not JSON") from error
        headers = without(response_headers(answer.headers), b"content-encoding")
        return Response(200, headers, shown)


class _Flight:
    """A write from before its stamp to its outcome: whatever ends it, the cache and the ledger hear of it once.

    The cache is told first and the stamp taken last, so that a write does not hold the watermark back while the cache
    is slow.
    """

    __slots__ = ("_keys", "_mirror", "_namespace", "_outcome", "_seconds", "_ticket", "_tickets", "_token", "_write")

    def __init__(
        self,
        mirror: WriteMirror,
        namespace: str,
        seconds: float,
        keys: Sequence[bytes] | None,
        tickets: Tickets | None,
    ) -> None:
        self._mirror = mirror
        self._namespace = namespace
        self._seconds = seconds
        self._keys = keys
        self._tickets = tickets
        self._ticket: Ticket | None = None
        self._token: Any = None
        self._outcome = Outcome.UNKNOWN
        self._write: Acknowledged | None = None

    @property
    def stamp_ms(self) -> int:
        return self._ticket.stamp_ms if self._ticket is not None else 0

    def note(self, answer: Answer, *, only_begun: bool = False) -> None:
        self._outcome = outcome_of(answer.status, only_begun=only_begun)

    def tell(self, write: Acknowledged) -> None:
        self._write = write

    async def __aenter__(self) -> "_Flight":
        self._token = await self._mirror.begin_write(self._namespace, self._keys, self._seconds)
        if self._tickets is not None:
            self._ticket = self._tickets.begin(self._namespace)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UpstreamError):
            self._outcome = outcome_of_failure(error)
        elif isinstance(error, LayerError):
            # Ours, raised before the request went out.
            self._outcome = Outcome.REFUSED
        try:
            await self._mirror.settle(self._token, self._outcome, self._write)
        finally:
            # Last: what the cache holds through the watermark is then settled too.
            if self._ticket is not None:
                self._ticket.settle(self._outcome)


class _InMemory:
    """A write whose body is in memory."""

    __slots__ = ("_body", "scan")
    in_memory = True

    @property
    def is_large(self) -> bool:
        return len(self._body) >= OFF_LOOP_BYTES

    def __init__(self, scan: WriteScan, body: bytes) -> None:
        self.scan = scan
        self._body = body

    async def send(
        self,
        routes: WriteRoutes,
        context: RouteContext,
        headers: Headers,
        stamp_ms: int,
        metric: str | None,
        deadlines: Deadlines,
        *,
        ask: bool = False,
    ) -> Answer:
        small = not self.is_large
        if small:
            body = self.scan.render(stamp_ms, distance_metric=metric)
        else:
            body = await asyncio.to_thread(self.scan.render, stamp_ms, distance_metric=metric)
        if ask:
            body = asking(body)
        if is_gzipped(context.request):
            original = context.request.body.whole
            if body == self._body and original is not None:
                body = original
            else:
                body = gzip(body) if small else await asyncio.to_thread(gzip, body)
        return await routes.relay_body(context, headers, body, None, deadlines)


class _Spooled:
    """A write whose body is in a file: rendered and sent piece by piece."""

    __slots__ = ("_file", "scan")
    in_memory = False
    is_large = True

    def __init__(self, scan: WriteScan, file: SpooledBody) -> None:
        self.scan = scan
        self._file = file

    async def send(
        self,
        routes: WriteRoutes,
        context: RouteContext,
        headers: Headers,
        stamp_ms: int,
        metric: str | None,
        deadlines: Deadlines,
        *,
        ask: bool = False,
    ) -> Answer:
        # Gzipping hundreds of megabytes again would cost more time than the hop that it saves.
        headers = without(headers, b"content-encoding")
        length = self.scan.rendered_length(stamp_ms, distance_metric=metric)
        pieces = self._pieces(stamp_ms, metric)
        if ask:
            length, pieces = length + len(ASK), asking_pieces(pieces)
        return await routes.relay_body(context, headers, pieces, length, deadlines)

    async def _pieces(self, stamp_ms: int, metric: str | None) -> AsyncIterator[bytes]:
        offset = 0
        while piece := await asyncio.to_thread(
            self.scan.render_chunk, stamp_ms, offset, RENDER_CHUNK_BYTES, distance_metric=metric
        ):
            offset += len(piece)
            yield piece


def _named_keys(scan: WriteScan) -> Sequence[bytes] | None:
    """The cache keys of every row that a write can touch; None when nobody can name them, or they are too many to be
    marked one by one: reading millions of them only to count them would hold up everybody else."""
    if scan.by_filter or scan.exclusive or scan.drops_attribute or not scan.ids_known:
        return None
    if scan.upserts + scan.patches + scan.deletes > MARKED_IDS_MAX:
        return None
    return scan.ids()


def inspect_schema(body: bytes) -> bool:
    """Whether a schema change drops an attribute; a body that is not a map is the upstream's to refuse.

    Raises: ValidationError: it names a reserved attribute.
    """
    try:
        schema = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(schema, dict):
        return False
    for name in schema:
        if name.startswith(RESERVED_PREFIX):
            raise ValidationError(f"attribute {name!r}: names that begin with {RESERVED_PREFIX} are reserved")
    return any(isinstance(config, dict) and config.get("drop") is True for config in schema.values())
