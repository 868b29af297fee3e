"""Reads documents from the upstream: full rows by id, and the facts needed to ask for them."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from hevlayer.clock import Clock, SingleFlight
from hevlayer.errors import UpstreamError
from hevlayer.gateway.auth import Credential
from hevlayer.gateway.consistency.facts import read_schema
from hevlayer.gateway.consistency.view import NamespaceView
from hevlayer.gateway.fetch.decode import DocumentId
from hevlayer.kernels.doccache import DocCacheError, DocRows
from hevlayer.stores.doccache import DocumentCache
from hevlayer.stores.doccache_engine import Ticket
from hevlayer.stores.turbopuffer import namespace_path

FACTS_SECONDS = 60.0
FACTS_MAX = 10_000
DEFAULT_ID_TYPE = "string"

_STRONG = b'{"level":"strong"}'
_BAD_REQUEST = 400


class ReadUpstream(Protocol):
    """The part of the upstream that a fetch needs."""

    async def read(
        self, method: str, target: bytes, bearer: bytes | None, body: bytes = b"", *, traceparent: bytes = b""
    ) -> tuple[int, bytes]: ...


class NamespaceViews(Protocol):
    """What is known of namespaces; a touch says that one is in use."""

    def touch(self, namespace: str, scope: bytes) -> NamespaceView: ...


class RefusedError(Exception):
    """The upstream answered something else than 200; its status and body are the caller's answer."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Facts:
    """A namespace's id type and vector attributes."""

    id_type: str
    vectors: list[str]


class FactsOfNamespaces:
    """Facts by namespace and scope: from the watcher's view, else from the upstream's schema, asked for once and kept a
    while."""

    def __init__(self, upstream: ReadUpstream, views: NamespaceViews, clock: Clock) -> None:
        self._upstream = upstream
        self._views = views
        self._clock = clock
        self._of_views: dict[tuple[str, bytes], tuple[NamespaceView, Facts]] = {}
        self._asked: OrderedDict[tuple[str, bytes], tuple[float, Facts]] = OrderedDict()
        self._flights: SingleFlight[tuple[bytes, str], Facts] = SingleFlight()

    def known(self, namespace: str, scope: bytes) -> Facts | None:
        """What is known without asking; counts as a use of the namespace."""
        key = (namespace, scope)
        view = self._views.touch(namespace, scope)
        if view.id_type is not None:
            seen = self._of_views.get(key)
            if seen is not None and seen[0] is view:
                return seen[1]
            facts = Facts(view.id_type, [vector.name for vector in view.schema.vectors])
            if len(self._of_views) >= FACTS_MAX:
                self._of_views.clear()
            self._of_views[key] = (view, facts)
            return facts
        asked = self._asked.get(key)
        return asked[1] if asked is not None and asked[0] > self._clock.monotonic() else None

    async def ask(self, namespace: str, credential: Credential, traceparent: bytes) -> Facts:
        """Asks the upstream for the schema.

        Raises: RefusedError: it answered with an error. UpstreamError: it did not answer.
        """

        async def read() -> Facts:
            target = b"/v1" + namespace_path(namespace)[3:] + b"/schema"
            status, body = await self._upstream.read("GET", target, credential.bearer, traceparent=traceparent)
            if status != 200:
                raise RefusedError(status, body)
            try:
                schema = read_schema(orjson.loads(body))
            except orjson.JSONDecodeError as error:
                raise UpstreamError("the upstream's schema is not JSON") from error
            facts = Facts(schema.id_type or DEFAULT_ID_TYPE, [vector.name for vector in schema.vectors])
            key = (namespace, credential.scope)
            self._asked[key] = (self._clock.monotonic() + FACTS_SECONDS, facts)
            self._asked.move_to_end(key)
            if len(self._asked) > FACTS_MAX:
                self._asked.popitem(last=False)
            return facts

        return await self._flights.run((credential.digest, namespace), read)

    def forget(self, namespace: str) -> None:
        """The namespace may have been made anew."""
        for known in (self._asked, self._of_views):
            for key in [key for key in known if key[0] == namespace]:
                del known[key]


class DocumentReader:
    """Reads rows by id and fills the cache with them."""

    def __init__(self, upstream: ReadUpstream, cache: DocumentCache) -> None:
        self._upstream = upstream
        self._cache = cache

    async def read(
        self,
        namespace: str,
        ids: Sequence[DocumentId],
        facts: Facts,
        tickets: Sequence[Ticket],
        credential: Credential,
        traceparent: bytes,
    ) -> DocRows:
        """The rows of these ids that exist, with all their attributes.

        Strongly consistent, and kept under `tickets`, one for each id. A refusal is relayed, also one for load (429):
        an eventual read in its place could show a row from before an acknowledged write.

        Raises: RefusedError, UpstreamError.
        """
        target = namespace_path(namespace) + b"/query"

        body = query_body(ids)
        status, answer = await self._upstream.read("POST", target, credential.bearer, body, traceparent=traceparent)
        if status != 200:
            raise RefusedError(status, answer)
        try:
            rows = DocRows(answer, facts.vectors)
        except DocCacheError as error:
            raise UpstreamError("the upstream's answer is not a query result") from error
        if any(ticket > 0 for ticket in tickets):
            await self._cache.fill(namespace, [each.key for each in ids], tickets, rows)
        return rows

    @staticmethod
    def may_be_stale(refusal: RefusedError) -> bool:
        """The query may have been refused because the namespace's facts are another namespace's of the same name."""
        return refusal.status == _BAD_REQUEST


def query_body(ids: Sequence[DocumentId]) -> bytes:
    """The upstream query for full rows by id."""
    wanted = b",".join(each.json for each in ids)
    return (
        b'{"rank_by":["id","asc"],"limit":%d,"filters":["id","In",[%b]],"include_attributes":true,"consistency":%b}'
        % (len(ids), wanted, _STRONG)
    )


async def gather_all(tasks: "Sequence[asyncio.Task[DocRows]]") -> list[DocRows]:
    """Waits for every task; raises the first failure only when all are over, so that none is left behind unseen."""
    results = await asyncio.gather(*(asyncio.shield(task) for task in tasks), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, DocRows)]
