"""Puts the routes about the process itself together."""

from collections.abc import Mapping, Sequence

from hevlayer.gateway.auth import Authenticator
from hevlayer.gateway.observe.cache_state import CacheStates
from hevlayer.gateway.observe.exposition import MetricRoutes
from hevlayer.gateway.observe.health import HealthRoutes, ReadyRoutes, Reason, Watched
from hevlayer.gateway.observe.promql import PromqlRoutes
from hevlayer.gateway.router import RouteHandler
from hevlayer.metrics import Metrics
from hevlayer.stores.turbopuffer import Upstream


def observe_handlers(
    version: str,
    metrics: Metrics,
    authenticator: Authenticator,
    cache_states: CacheStates,
    backend: Upstream | None,
    *,
    blockers: Sequence[Reason],
    notes: Sequence[Reason],
    watched: Watched = tuple,
) -> Mapping[str, RouteHandler]:
    """Handlers by their name in the route table.

    Args:
        backend: speaks to METRICS_BACKEND_URL; None when it is not set.
        blockers: what keeps the process from being ready.
        notes: what runs in a reduced way.
        watched: the namespaces whose cache state /health tells.
    """
    health = HealthRoutes(version, cache_states, authenticator.observes, watched)
    exposition = MetricRoutes(metrics)
    promql = PromqlRoutes(backend)
    return {
        "health": health.health,
        "ready": ReadyRoutes(blockers, notes).ready,
        "metrics": exposition.metrics,
        "metrics_catalog": exposition.metrics_catalog,
        "metrics_catalog_entry": exposition.metrics_catalog_entry,
        "promql": promql.promql,
        "promql_range": promql.promql_range,
    }
