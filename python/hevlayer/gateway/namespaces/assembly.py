"""Puts the namespace routes together over the gateway's parts."""

from collections.abc import Mapping, Sequence

from hevlayer.clock import Clock
from hevlayer.gateway.consistency import Credentials, Registry
from hevlayer.gateway.namespaces.cleanup import Cleanup, CleanupStep, own_steps
from hevlayer.gateway.namespaces.delete import DeleteRoutes
from hevlayer.gateway.namespaces.exchange import Exchanges
from hevlayer.gateway.namespaces.listing import CACHE_TTL_MS, ListingRoutes
from hevlayer.gateway.namespaces.metadata import MetadataRoutes, SchemaStripper, ShardBlock, no_shards
from hevlayer.gateway.observe.cache_state import CacheStates
from hevlayer.gateway.router import RouteHandler
from hevlayer.metrics import Metrics
from hevlayer.stores.objects import ObjectStore


class NamespaceRoutes:
    """Every handler about namespaces, by its name in the route table. Run `deletes.run` under a supervisor.

    `steps` are the cleanup steps of other subjects: the document cache, snapshots, jobs.
    """

    def __init__(
        self,
        exchanges: Exchanges,
        registry: Registry,
        store: ObjectStore,
        credentials: Credentials,
        cache_states: CacheStates,
        strip_schema: SchemaStripper,
        metrics: Metrics,
        clock: Clock,
        *,
        listing_ttl_ms: int = CACHE_TTL_MS,
        steps: Sequence[CleanupStep] = (),
        shard_block: ShardBlock = no_shards,
    ) -> None:
        self.metadata = MetadataRoutes(exchanges, registry, cache_states, strip_schema, metrics, clock, shard_block)
        self.listing = ListingRoutes(exchanges, registry, cache_states, metrics, clock, ttl_ms=listing_ttl_ms)
        cleanup = Cleanup((*own_steps(registry, self.listing.forget), *steps), metrics)
        self.deletes = DeleteRoutes(exchanges, store, cleanup, registry, credentials, clock)
        self.handlers: Mapping[str, RouteHandler] = {
            "metadata": self.metadata.metadata,
            "update_metadata": self.metadata.update_metadata,
            "list_namespaces": self.listing.list_namespaces,
            "delete_namespace": self.deletes.delete_namespace,
        }
