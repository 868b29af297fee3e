"""The augmented listing of namespaces: the upstream's page, each row with its metadata, freshness and cache state."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

import orjson

from hevlayer.clock import Clock, SingleFlight
from hevlayer.errors import LayerError, UpstreamError, ValidationError
from hevlayer.gateway.auth import Credential
from hevlayer.gateway.consistency import NamespaceView, Registry
from hevlayer.gateway.consistency.facts import read_schema
from hevlayer.gateway.namespaces.exchange import Exchanges
from hevlayer.gateway.observe.cache_state import CacheState, CacheStates
from hevlayer.gateway.responses import json_response
from hevlayer.gateway.router import RouteContext
from hevlayer.http.messages import Response
from hevlayer.metrics import Metrics

CACHE_TTL_MS = 10_000
CACHED_PAGES_MAX = 256
FANOUT_MAX = 16
ROW_SECONDS = 5.0
FANOUT_SECONDS = 20.0
PAGE_SIZE_MAX = 1_000
_PARAMETERS = ("prefix", "cursor", "page_size")


def read_page_parameters(query: Mapping[str, str]) -> dict[str, str]:
    """The listing's parameters; others are ignored.

    Raises: ValidationError: `page_size` is not an integer in 1..1000.
    """
    chosen = {name: query[name] for name in _PARAMETERS if query.get(name)}
    size = chosen.get("page_size", "1")
    if not (size.isascii() and size.isdigit() and len(size) <= 4 and 1 <= int(size) <= PAGE_SIZE_MAX):
        raise ValidationError(f"page_size must be an integer in 1..{PAGE_SIZE_MAX}")
    return chosen


def describe_row(
    name: str, metadata: Mapping[str, object], view: NamespaceView, cache: CacheState
) -> dict[str, object]:
    """One row of the listing from the upstream's metadata and what the gateway knows."""
    facts = read_schema(metadata.get("schema"))
    summary: dict[str, object] = {"fields": list(facts.fields)}
    if facts.vectors:
        summary["vector_dim"] = facts.vectors[0].dimensions
    row: dict[str, object] = {
        "name": name,
        "row_count": metadata.get("approx_row_count"),
        "size_bytes": metadata.get("approx_logical_bytes"),
        **_known(view),
        "schema_summary": summary,
        "cache_state": cache.as_json(),
        "last_write_ms": epoch_ms(metadata.get("last_write_at")),
        "shadow": False,
        "labels": {},
    }
    index = metadata.get("index")
    # Clients know these two states only.
    if isinstance(index, Mapping) and index.get("status") in ("updating", "up-to-date"):
        row["index"] = {key: index[key] for key in ("status", "unindexed_bytes") if key in index}
    return row


def describe_failure(name: str, reason: str, view: NamespaceView, cache: CacheState) -> dict[str, object]:
    """The row of a namespace whose metadata could not be read."""
    return {
        "name": name,
        **_known(view),
        "cache_state": cache.as_json(),
        "shadow": False,
        "labels": {},
        "metadata_error": reason,
    }


def _known(view: NamespaceView) -> dict[str, object]:
    return {"stable_as_of_ms": view.watermark_ms, "is_stable": view.is_stable}


def epoch_ms(text: object) -> int | None:
    """An RFC 3339 time as epoch milliseconds; None when it is not one. Without a zone it is UTC."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class _Page:
    response: Response
    expires_at: float


_PageKey = tuple[bytes, str]


class ListingRoutes:
    """GET /v2/namespaces, kept for a short time per credential and page."""

    def __init__(
        self,
        exchanges: Exchanges,
        registry: Registry,
        cache_states: CacheStates,
        metrics: Metrics,
        clock: Clock,
        *,
        ttl_ms: int = CACHE_TTL_MS,
    ) -> None:
        self._exchanges = exchanges
        self._registry = registry
        self._cache_states = cache_states
        self._metrics = metrics
        self._clock = clock
        self._ttl_seconds = ttl_ms / 1000
        self._pages: OrderedDict[_PageKey, _Page] = OrderedDict()
        self._generation = 0
        self._flights: SingleFlight[tuple[_PageKey, int], Response] = SingleFlight()

    async def list_namespaces(self, context: RouteContext) -> Response:
        """GET /v2/namespaces: the upstream's errors as they are; a row that cannot be described says so."""
        parameters = read_page_parameters(context.query_parameters())
        query = urlencode(parameters, errors="surrogatepass")
        key = (context.credential.digest, query)
        page = self._pages.get(key)
        if page is not None and page.expires_at > self._clock.monotonic():
            return _copy(page.response)
        generation = self._generation

        async def fetch() -> Response:
            return await self._fetch(context, query, key, generation)

        return _copy(await self._flights.run((key, generation), fetch))

    def forget(self) -> None:
        """Drops every page, also those being put together: a namespace was deleted."""
        self._generation += 1
        self._pages.clear()

    async def _fetch(self, context: RouteContext, query: str, key: _PageKey, generation: int) -> Response:
        started = self._clock.monotonic()
        target = b"/v1/namespaces" + (b"?" + query.encode("ascii") if query else b"")
        answer = await self._exchanges.call(context, target=target)
        if not answer.ok:
            self._metrics.observe_list(answer.status, self._clock.monotonic() - started)
            return answer.relayed()
        names, cursor = read_names(answer.body)
        rows = await self._describe(names, context.credential)
        response = json_response(200, {"namespaces": rows, "next_cursor": cursor})
        now = self._clock.monotonic()
        self._metrics.observe_list(200, now - started)
        if self._ttl_seconds > 0 and generation == self._generation:
            self._pages[key] = _Page(response, now + self._ttl_seconds)
            self._pages.move_to_end(key)
            if len(self._pages) > CACHED_PAGES_MAX:
                self._pages.popitem(last=False)
        return response

    async def _describe(self, names: list[str], credential: Credential) -> list[dict[str, object]]:
        """Rows in the order of `names`, at most FANOUT_MAX metadata reads at once."""
        rows: list[dict[str, object] | None] = [None] * len(names)
        pending = iter(enumerate(names))

        async def work() -> None:
            for index, name in pending:
                rows[index] = await self._row(name, credential)

        try:
            async with asyncio.timeout(FANOUT_SECONDS), asyncio.TaskGroup() as workers:
                for _ in range(min(FANOUT_MAX, len(names))):
                    workers.create_task(work())
        except TimeoutError:
            pass
        return [
            row if row is not None else await self._failed(name, credential, f"not read within {FANOUT_SECONDS:g} s")
            for row, name in zip(rows, names, strict=True)
        ]

    async def _row(self, name: str, credential: Credential) -> dict[str, object]:
        try:
            async with asyncio.timeout(ROW_SECONDS):
                status, body = await self._exchanges.metadata(name, credential.bearer)
        except LayerError as error:
            return await self._failed(name, credential, error.message)
        except TimeoutError:
            return await self._failed(name, credential, f"the upstream did not answer within {ROW_SECONDS:g} s")
        if status != 200:
            return await self._failed(name, credential, f"the upstream answered {status}")
        try:
            metadata = orjson.loads(body)
        except orjson.JSONDecodeError:
            metadata = None
        if not isinstance(metadata, dict):
            return await self._failed(name, credential, "the upstream's metadata is not a JSON object")
        view = self._registry.view(name, credential.scope)
        return describe_row(name, metadata, view, await self._cache_states.cache_state(name, view.watermark_ms))

    async def _failed(self, name: str, credential: Credential, reason: str) -> dict[str, object]:
        view = self._registry.view(name, credential.scope)
        return describe_failure(name, reason, view, await self._cache_states.cache_state(name, view.watermark_ms))


def read_names(body: bytes) -> tuple[list[str], str | None]:
    """The names and the cursor of one page of the upstream's listing.

    Raises: UpstreamError: it is not such a page.
    """
    try:
        page = orjson.loads(body)
        names = [row["id"] for row in page["namespaces"]]
        cursor = page.get("next_cursor")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UpstreamError("the upstream's listing has another shape than expected") from error
    if not all(isinstance(name, str) for name in names) or not isinstance(cursor, str | None):
        raise UpstreamError("the upstream's listing has another shape than expected")
    return names, cursor


def _copy(response: Response) -> Response:
    """Each request gets headers of its own: middleware adds to them."""
    return Response(response.status, list(response.headers), response.body)
