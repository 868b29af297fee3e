"""GET and POST /v2/namespaces/{ns}/documents."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import orjson

from hevlayer.clock import Clock
from hevlayer.errors import NotFoundError
from hevlayer.gateway.fetch.decode import DocumentId, Projections, read_batch, read_id, read_key
from hevlayer.gateway.fetch.flights import Flights
from hevlayer.gateway.fetch.hits import CachedHits
from hevlayer.gateway.fetch.owners import Owners
from hevlayer.gateway.fetch.reader import (
    DocumentReader,
    Facts,
    FactsOfNamespaces,
    NamespaceViews,
    ReadUpstream,
    RefusedError,
    gather_all,
)
from hevlayer.gateway.router import Finisher, RouteContext
from hevlayer.gateway.trail import FROM_CACHE, FROM_UPSTREAM, Trail
from hevlayer.http.framing import status_line
from hevlayer.http.messages import Request, Response
from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache import MARKED, DocumentCache, Miss
from hevlayer.stores.doccache_engine import Ticket
from hevlayer.wire.bodies import JSON_CONTENT_TYPE

T = TypeVar("T")

# Ids in one upstream request, and such requests at one time for one batch: the upstream has 16 permits a namespace.
CHUNK_IDS = 500
CHUNKS_AT_ONCE = 4

CACHE_HEADER = b"x-layer-cache"
_TEXT_CONTENT_TYPE = (b"content-type", b"text/plain; charset=utf-8")
_HIT = (CACHE_HEADER, b"hit")
_HIT_MESSAGE = (
    status_line(200) + b"content-type: application/json\r\nx-layer-cache: hit\r\n"
    b"traceparent: %b\r\n%bcontent-length: %d\r\n%b\r\n%b"
)

FlightKey = tuple[bytes, str, bytes, Ticket]


class FetchObserver(Protocol):
    """Where measurements go."""

    def observe_fetch(
        self, operation: str, namespace: str, cache_result: str, seconds: float, ids: int = 1
    ) -> None: ...


class BodyIntake(Protocol):
    """Takes the bodies of batches in."""

    async def in_memory(self, request: Request) -> bytes: ...


class FetchRoutes:
    """The two routes. Access to the namespace is proved before they run."""

    def __init__(
        self,
        cache: DocumentCache,
        upstream: ReadUpstream,
        views: NamespaceViews,
        intake: BodyIntake,
        clock: Clock,
        *,
        owners: Owners | None = None,
        observer: FetchObserver | None = None,
        trail: Trail | None = None,
        hits: CachedHits | None = None,
    ) -> None:
        """`hits` is told of whom it may answer."""
        self._cache = cache
        self._hits = hits
        self._intake = intake
        self._owners = owners
        self._now = clock.monotonic
        self._observer = observer
        self._trail = trail
        self._facts = FactsOfNamespaces(upstream, views, clock)
        self._reader = DocumentReader(upstream, cache)
        self._flights: Flights[FlightKey, DocRows] = Flights()
        self._projections = Projections()

    def forget(self, namespace: str) -> None:
        """The namespace was deleted or made anew."""
        self._facts.forget(namespace)
        if self._hits is not None:
            self._hits.forget(namespace)

    def start_fetch(self, context: RouteContext, around: Finisher) -> bool:
        """GET …/documents/{doc_id} when the cache has it and can give it now; see `QuickHandler`."""
        if not context.credential.trusted:
            # Others prove their access, which may take a request upstream.
            return False
        started = self._now()
        namespace = context.namespace
        raw = context.parameters["doc_id"]
        projection = self._projections.known(context.request.query)
        facts = self._facts.known(namespace, context.credential.scope)
        if projection is None or facts is None or "%" in raw:
            return False
        key = read_key(raw, facts.id_type)
        if key is None:
            return False
        document = self._cache.lookup_now(namespace, key, projection, facts.id_type)
        if document is None:
            return False
        self._observe("single", namespace, "hit", started, 1)
        size = len(document)
        around.finish(context, 200, size)
        reply = context.reply
        reply.send(_HIT_MESSAGE % (context.traceparent, reply.date_line, size, reply.connection_line(), document))
        if self._trail is not None:
            self._trail.fetched(context, (raw,), FROM_CACHE)
        if self._hits is not None:
            self._hits.admit(context.credential, namespace, facts.id_type, context.request.query, projection)
        return True

    async def fetch_document(self, context: RouteContext) -> Response:
        """GET …/documents/{doc_id}: one document; 404 when it does not exist."""
        started = self._now()
        namespace, hits = context.namespace, self._hits
        forgotten = 0 if hits is None else hits.forgotten
        projection = self._projections.of_query(context.request.query)
        text = context.parameter("doc_id")
        facts = self._facts.known(namespace, context.credential.scope)
        try:
            if facts is None:
                facts = await self._facts.ask(namespace, context.credential, context.traceparent)
            document_id = read_id(text, facts.id_type)
            if document_id is None:
                raise _not_found(text, namespace, facts)
            found: bytes | Miss = MARKED
            if await self._may_use_cache(context):
                found = await self._cache.lookup(namespace, document_id.key, projection, facts.id_type)
                if not self._still_may(context):
                    found = MARKED
            if type(found) is bytes:
                self._observe("single", namespace, "hit", started, 1)
                self._tell(context, (text,), FROM_CACHE)
                if hits is not None and hits.forgotten == forgotten:
                    until = None if context.grant is None else context.grant.expires_at
                    query, credential = context.request.query, context.credential
                    hits.admit(credential, namespace, facts.id_type, query, projection, until=until)
                return Response(200, [JSON_CONTENT_TYPE, _HIT], found)
            assert isinstance(found, Miss)
            result = "miss-on-error" if found.failed else "miss"
            document = await self._read_one(context, text, document_id, facts, projection, found)
        except RefusedError as refusal:
            return _relayed(refusal)
        self._observe("single", namespace, result, started, 1)
        self._tell(context, (text,), FROM_UPSTREAM)
        return Response(200, [JSON_CONTENT_TYPE, (CACHE_HEADER, result.encode())], document)

    async def _read_one(
        self,
        context: RouteContext,
        text: str,
        document_id: DocumentId,
        facts: Facts,
        projection: DocProjection,
        miss: Miss,
    ) -> bytes:
        """The document of an id that was not in the cache.

        Raises: NotFoundError: it does not exist. RefusedError, UpstreamError.
        """
        try:
            rows = await asyncio.shield(self._flight(context, [document_id], facts, [miss.ticket]))
        except RefusedError as refusal:
            fresh = await self._fresh_facts(context, facts, refusal)
            again = read_id(text, fresh.id_type)
            if again is None:
                raise _not_found(text, context.namespace, fresh) from refusal
            document_id, facts = again, fresh
            rows = await asyncio.shield(self._flight(context, [document_id], facts, [0]))
        document = rows.document(document_id.key, projection, facts.id_type)
        if document is None:
            raise _not_found(text, context.namespace, facts)
        return document

    async def _may_use_cache(self, context: RouteContext) -> bool:
        """Whether the rows under this name are the ones that this caller may see."""
        if context.credential.trusted:
            return True
        identity = context.grant.identity if context.grant is not None else None
        return self._owners is not None and await self._owners.admit(context.namespace, identity)

    def _still_may(self, context: RouteContext) -> bool:
        """Whether what was looked up is of the namespace that this caller may see, after `_may_use_cache` said so."""
        if context.credential.trusted or self._owners is None:
            return True
        return context.grant is not None and self._owners.holds(context.namespace, context.grant.identity)

    async def fetch_documents(self, context: RouteContext) -> Response:
        """POST …/documents: the documents of a list of ids in its order, each id once, and those that are missing."""
        started = self._now()
        namespace = context.namespace
        batch = read_batch(await self._intake.in_memory(context.request))
        try:
            facts = self._facts.known(namespace, context.credential.scope)
            if facts is None:
                facts = await self._facts.ask(namespace, context.credential, context.traceparent)
            try:
                body, result = await self._read_batch(context, batch.ids, batch.projection, facts)
            except RefusedError as refusal:
                facts = await self._fresh_facts(context, facts, refusal)
                body, result = await self._read_batch(context, batch.ids, batch.projection, facts)
        except RefusedError as refusal:
            return _relayed(refusal)
        self._observe("batch", namespace, result, started, len(batch.ids))
        return Response(200, [JSON_CONTENT_TYPE, (CACHE_HEADER, result.encode())], body)

    async def _read_batch(
        self, context: RouteContext, texts: Sequence[str], projection: DocProjection, facts: Facts
    ) -> tuple[list[bytes], str]:
        # By key, so that two spellings of one uuid are one document.
        wanted: dict[bytes, DocumentId] = {}
        spelled: dict[str, bytes | None] = {}
        for text in texts:
            document_id = read_id(text, facts.id_type)
            spelled[text] = document_id.key if document_id else None
            if document_id is not None:
                wanted.setdefault(document_id.key, document_id)
        keys = list(wanted)
        documents: dict[bytes, bytes | None] = dict.fromkeys(keys)
        tickets: dict[bytes, Ticket] = {}
        failed = False
        if await self._may_use_cache(context):
            batch = await self._cache.lookup_many(context.namespace, keys, projection)
            if self._still_may(context):
                documents = dict(zip(keys, batch.documents, strict=True))
                tickets = dict(zip(keys, batch.tickets, strict=True))
                failed = batch.failed
        absent = [wanted[key] for key in keys if documents[key] is None]
        if absent:
            for rows in await self._read_many(context, absent, facts, [tickets.get(each.key, 0) for each in absent]):
                for each in absent:
                    if documents[each.key] is None:
                        documents[each.key] = rows.document(each.key, projection)
        if self._trail is not None:
            read = {each.key for each in absent}
            given = [(text, key) for text, key in spelled.items() if key is not None and documents[key] is not None]
            self._tell(context, [text for text, key in given if key not in read], FROM_CACHE)
            self._tell(context, [text for text, key in given if key in read], FROM_UPSTREAM)
        result = batch_result(len(keys), len(absent), failed=failed)
        return render_batch(spelled, documents, facts.id_type), result

    async def _read_many(
        self, context: RouteContext, absent: Sequence[DocumentId], facts: Facts, tickets: Sequence[Ticket]
    ) -> list[DocRows]:
        """The rows of ids that were not in the cache; those that another request reads already are waited for."""
        gate = asyncio.Semaphore(CHUNKS_AT_ONCE)
        tasks: set[asyncio.Task[DocRows]] = set()
        own: list[tuple[DocumentId, Ticket]] = []
        for each, ticket in zip(absent, tickets, strict=True):
            task = self._under_way(context, each, ticket)
            if task is None:
                own.append((each, ticket))
            else:
                tasks.add(task)
        for start in range(0, len(own), CHUNK_IDS):
            chunk = own[start : start + CHUNK_IDS]
            ids, good = [each for each, _ in chunk], [ticket for _, ticket in chunk]
            tasks.add(self._flight(context, ids, facts, good, gate))
        return await gather_all(list(tasks))

    def _under_way(
        self, context: RouteContext, document_id: DocumentId, ticket: Ticket
    ) -> "asyncio.Task[DocRows] | None":
        """A read of this id with this ticket. One without a ticket is shared with nobody: a write may have been
        acknowledged since it began, by another gateway."""
        if not ticket:
            return None
        return self._flights.under_way((context.credential.digest, context.namespace, document_id.key, ticket))

    def _flight(
        self,
        context: RouteContext,
        ids: Sequence[DocumentId],
        facts: Facts,
        tickets: Sequence[Ticket],
        gate: asyncio.Semaphore | None = None,
    ) -> "asyncio.Task[DocRows]":
        if len(ids) == 1:
            under_way = self._under_way(context, ids[0], tickets[0])
            if under_way is not None:
                return under_way
        namespace, credential, traceparent = context.namespace, context.credential, context.traceparent

        async def read() -> DocRows:
            return await self._reader.read(namespace, ids, facts, tickets, credential, traceparent)

        shared = [
            (credential.digest, namespace, each.key, ticket)
            for each, ticket in zip(ids, tickets, strict=True)
            if ticket
        ]
        return self._flights.start(shared, read if gate is None else _gated(gate, read))

    async def _fresh_facts(self, context: RouteContext, facts: Facts, refusal: RefusedError) -> Facts:
        """Other facts than these, under which it is worth to ask again; else the refusal stands."""
        if not self._reader.may_be_stale(refusal):
            raise refusal
        fresh = await self._facts.ask(context.namespace, context.credential, context.traceparent)
        if fresh.id_type == facts.id_type:
            raise refusal
        return fresh

    def _tell(self, context: RouteContext, doc_ids: Sequence[str], served_from: str) -> None:
        if self._trail is not None and doc_ids:
            self._trail.fetched(context, doc_ids, served_from)

    def _observe(self, operation: str, namespace: str, result: str, started: float, ids: int) -> None:
        if self._observer is not None:
            self._observer.observe_fetch(operation, namespace, result, self._now() - started, ids)


def batch_result(ids: int, absent: int, *, failed: bool) -> str:
    """The value of the cache header: the worst case over the batch."""
    if failed:
        return "miss-on-error"
    if not absent:
        return "hit"
    return "partial" if absent < ids else "miss"


def render_batch(spelled: dict[str, bytes | None], documents: dict[bytes, bytes | None], id_type: str) -> list[bytes]:
    """`{"documents": […], "missing": […], "id_type": …}` as buffers; each document once, at its first mention."""
    parts = [b'{"documents":[']
    missing: list[str] = []
    given: set[bytes] = set()
    for text, key in spelled.items():
        document = None if key is None else documents[key]
        if key is None or document is None:
            missing.append(text)
        elif key not in given:
            given.add(key)
            parts.append(b"," if len(given) > 1 else b"")
            parts.append(document)
    tail = orjson.dumps({"missing": missing, "id_type": id_type})
    return [b"".join([*parts, b"],", tail[1:]])]


def _gated(gate: asyncio.Semaphore, read: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    async def gated() -> T:
        async with gate:
            return await read()

    return gated


def _not_found(text: str, namespace: str, facts: Facts) -> NotFoundError:
    return NotFoundError(
        f"document '{text}' was not found in namespace '{namespace}', whose ids are of type {facts.id_type}",
        fields={"id": text},
    )


def _relayed(refusal: RefusedError) -> Response:
    is_json = refusal.body[:1] in (b"{", b"[")
    return Response(refusal.status, [JSON_CONTENT_TYPE if is_json else _TEXT_CONTENT_TYPE], refusal.body)
