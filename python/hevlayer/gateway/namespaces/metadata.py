"""Namespace metadata: the upstream's answer with `id` and the `layer` block added."""

from collections.abc import Callable, Mapping

from hevlayer.clock import Clock
from hevlayer.gateway.consistency import NamespaceView, Registry
from hevlayer.gateway.namespaces.exchange import Exchanged, Exchanges
from hevlayer.gateway.namespaces.splice import add_members
from hevlayer.gateway.observe.cache_state import CacheState, CacheStates
from hevlayer.gateway.router import RouteContext
from hevlayer.http.messages import Response
from hevlayer.metrics import Metrics

# `{pinning, read_only}` and whatever the upstream may add to them.
PATCH_BYTES_MAX = 1024 * 1024

SchemaStripper = Callable[[bytes, str | None], bytes]
"""Removes reserved attributes from a schema map: (body, the top-level key that holds it)."""


ShardBlock = Callable[[str], Mapping[str, object]]
"""What is told of a namespace's shards."""


def no_shards(_namespace: str) -> Mapping[str, object]:
    return {}


def layer_block(view: NamespaceView, cache: CacheState, shards: Mapping[str, object]) -> dict[str, object]:
    """What we add to a namespace's metadata: the watermark, whether the last poll found the index up to date, how much
    of it the document cache holds, and its shards."""
    return {"stable_as_of": view.watermark_ms, "is_stable": view.is_stable, "cache_state": cache.as_json(), **shards}


class MetadataRoutes:
    """GET v2 and v1 metadata, and PATCH v1 metadata, which answers with metadata too."""

    def __init__(
        self,
        exchanges: Exchanges,
        registry: Registry,
        cache_states: CacheStates,
        strip_schema: SchemaStripper,
        metrics: Metrics,
        clock: Clock,
        shard_block: ShardBlock = no_shards,
    ) -> None:
        self._shard_block = shard_block
        self._exchanges = exchanges
        self._registry = registry
        self._cache_states = cache_states
        self._strip_schema = strip_schema
        self._metrics = metrics
        self._now = clock.monotonic

    async def metadata(self, context: RouteContext) -> Response:
        """GET …/metadata: native fields as they are, reserved attributes out of the schema, `id` and `layer` added."""
        started = self._now()
        answer = await self._exchanges.call(context)
        if answer.ok:
            self._registry.touch(context.namespace, context.credential.scope)
        self._metrics.observe_head(context.namespace, answer.status, self._now() - started)
        return await self._enriched(context, answer)

    async def update_metadata(self, context: RouteContext) -> Response:
        """PATCH …/metadata: the body goes up as it came."""
        body = await context.request.body.read(PATCH_BYTES_MAX)
        answer = await self._exchanges.call(context, body=body)
        return await self._enriched(context, answer)

    async def _enriched(self, context: RouteContext, answer: Exchanged) -> Response:
        if not answer.ok:
            return answer.relayed()
        view = self._registry.view(context.namespace, context.credential.scope)
        cache = await self._cache_states.cache_state(context.namespace, view.watermark_ms)
        members = {
            "id": _printable(context.namespace),
            "layer": layer_block(view, cache, self._shard_block(context.namespace)),
        }
        enriched = add_members(answer.body, members)
        return answer.relayed(None if enriched is None else self._strip_schema(enriched, "schema"))


def _printable(namespace: str) -> str:
    """The name as JSON can carry it: lone surrogates have no UTF-8."""
    return namespace.encode("utf-8", "replace").decode()
