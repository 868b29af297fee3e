"""Metrics that are read when they are scraped: levels that somebody else keeps."""

import os
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Protocol

from hevlayer.clock import Clock
from hevlayer.gateway.access_log import AccessLog
from hevlayer.gateway.consistency import Registry, Stamper
from hevlayer.gateway.jobs import Jobs
from hevlayer.gateway.permits import Lane, PermitLedger
from hevlayer.metrics import Metrics
from hevlayer.metrics.registry import Samples
from hevlayer.stores.doccache import DocumentCache
from hevlayer.stores.doccache_engine import EngineStats

_STATM = Path("/proc/self/statm")
_DESCRIPTORS = Path("/proc/self/fd")
_RESIDENT_PAGES_FIELD = 1


def attach_consistency(metrics: Metrics, registry: Registry, stamper: Stamper, clock: Clock) -> None:
    """Watermark ages, watched namespaces and writes without an answer."""

    def ages() -> Samples:
        now = clock.now_ms()
        oldest: dict[str, float] = {}
        for entry in registry:
            age = entry.view.watermark_age_ms(now)
            if age is not None:
                label = metrics.namespaces.label(entry.namespace)
                oldest[label] = max(oldest.get(label, 0.0), age / 1000)
        return [((label,), age) for label, age in oldest.items()]

    metrics.watermark_age.read_from(ages)
    metrics.watched_namespaces.read_from(lambda: [((), len(registry))])
    metrics.unknown_writes.read_from(lambda: [((), stamper.unknown_total)])


def attach_cache(metrics: Metrics, cache: DocumentCache) -> None:
    """What the document cache holds, as of its last look at the engine, and what it owes."""

    def held(read: Callable[[EngineStats], float]) -> Callable[[], Samples]:
        def samples() -> Samples:
            return [((), read(cache.held))]

        return samples

    metrics.cache_written_rows.read_from(lambda: [((), cache.written_rows)])
    metrics.cache_epochs.read_from(lambda: [((), cache.epochs)])
    metrics.cache_debts.read_from(lambda: [((), cache.debts)])
    metrics.cache_breaker_open.read_from(lambda: [((), 0.0 if cache.breaker == "closed" else 1.0)])
    metrics.cache_evicted_rows.read_from(held(lambda stats: stats.evicted_rows))
    metrics.cache_refused_fills.read_from(held(lambda stats: stats.refused_fills))
    metrics.cache_rows.read_from(held(lambda stats: stats.rows))
    metrics.cache_bytes.read_from(held(lambda stats: stats.bytes))
    metrics.cache_capacity.read_from(held(lambda stats: stats.capacity_bytes))
    metrics.cache_namespace_capacity.read_from(held(lambda stats: stats.namespace_capacity_bytes))
    metrics.cache_open_writes.read_from(held(lambda stats: stats.open_writes))
    metrics.cache_connections.read_from(held(lambda stats: stats.connections))


class ColumnsFile(Protocol):
    """Columns of one namespace on disk."""

    @property
    def columns(self) -> Sized: ...

    @property
    def bytes(self) -> int: ...

    @property
    def changed_rows(self) -> int: ...


class HeldColumns(Protocol):
    """All columns on disk, and how many bytes they may take."""

    @property
    def files(self) -> Sequence[ColumnsFile]: ...

    @property
    def bytes_max(self) -> int: ...


def attach_columns(metrics: Metrics, columns: HeldColumns) -> None:
    """Columns of every process, as of the last upkeep."""
    metrics.columns.read_from(lambda: [((), sum(len(file.columns) for file in columns.files))])
    metrics.columns_bytes.read_from(lambda: [((), sum(file.bytes for file in columns.files))])
    metrics.columns_capacity.read_from(lambda: [((), columns.bytes_max)])
    metrics.columns_changed_rows.read_from(lambda: [((), sum(file.changed_rows for file in columns.files))])


def attach_server(metrics: Metrics, connections: Callable[[], int], inflight: Callable[[], int]) -> None:
    """The HTTP server's open connections and requests being served."""
    metrics.http_connections.read_from(lambda: [((), connections())])
    metrics.http_inflight.read_from(lambda: [((), inflight())])


def attach_access_log(metrics: Metrics, access_log: AccessLog) -> None:
    """Lines that did not reach the access log."""
    metrics.access_log_dropped.read_from(lambda: [((), access_log.dropped)])


def attach_own_work(metrics: Metrics, jobs: Jobs, permits: PermitLedger) -> None:
    """Jobs that run, and the upstream's permits that our own reads hold."""
    metrics.jobs_running.read_from(lambda: [((), jobs.running)])
    metrics.permits_held.read_from(lambda: [((lane.value,), permits.held(lane)) for lane in Lane])


def attach_process(metrics: Metrics) -> None:
    """CPU time everywhere; memory and descriptors where the system has /proc."""
    metrics.process_cpu.read_from(lambda: [((), time.process_time())])
    metrics.process_memory.read_from(_resident_bytes)
    metrics.process_fds.read_from(_open_descriptors)


def _resident_bytes() -> Iterator[tuple[tuple[str, ...], float]]:
    try:
        pages = int(_STATM.read_text().split()[_RESIDENT_PAGES_FIELD])
    except (OSError, ValueError, IndexError):
        return
    yield (), pages * os.sysconf("SC_PAGE_SIZE")


def _open_descriptors() -> Iterator[tuple[tuple[str, ...], float]]:
    try:
        # The listing itself holds one.
        yield (), sum(1 for _ in _DESCRIPTORS.iterdir()) - 1
    except OSError:
        return
