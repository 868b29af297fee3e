"""Health, readiness, metrics and the metric catalog."""

from hevlayer.gateway.observe.assembly import observe_handlers
from hevlayer.gateway.observe.cache_state import (
    CacheConnection,
    CacheState,
    CacheStates,
    DocumentCacheStates,
    NothingCached,
)
from hevlayer.gateway.observe.exposition import MetricRoutes
from hevlayer.gateway.observe.health import HealthRoutes, ReadyRoutes, scheduled_work_note
from hevlayer.gateway.observe.promql import PromqlRoutes
from hevlayer.gateway.observe.sources import (
    attach_access_log,
    attach_cache,
    attach_columns,
    attach_consistency,
    attach_own_work,
    attach_process,
    attach_server,
)

__all__ = [
    "CacheConnection",
    "CacheState",
    "CacheStates",
    "DocumentCacheStates",
    "HealthRoutes",
    "MetricRoutes",
    "NothingCached",
    "PromqlRoutes",
    "ReadyRoutes",
    "attach_access_log",
    "attach_cache",
    "attach_columns",
    "attach_consistency",
    "attach_own_work",
    "attach_process",
    "attach_server",
    "observe_handlers",
    "scheduled_work_note",
]
