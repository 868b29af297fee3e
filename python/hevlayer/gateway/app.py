"""The composition root of the gateway: makes every part, starts the loops, serves, and stops in order."""

import asyncio
import gc
import logging
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hevlayer import __version__
from hevlayer.clock import Clock, Supervisor, SystemClock
from hevlayer.gateway.access_log import OFF, AccessLog
from hevlayer.gateway.adapters import open_cache, open_objects, open_spans
from hevlayer.gateway.auth import Authenticator, BackgroundBearers, Credential, Grants
from hevlayer.gateway.config import GatewayConfig
from hevlayer.gateway.consistency import FloorKeeper, Registry, Stamper, Watcher
from hevlayer.gateway.consistency.decide import plan_watermark
from hevlayer.gateway.consistency.facts import read_created_at
from hevlayer.gateway.consistency.stamps import lower
from hevlayer.gateway.drain import Drain, Phase
from hevlayer.gateway.fetch import CachedHits, CacheOwners, FetchRoutes
from hevlayer.gateway.fetch.owners import STORE_SECONDS, Owners
from hevlayer.gateway.fetch.shared_owners import SharedOwners
from hevlayer.gateway.heap import keep_heap
from hevlayer.gateway.history import History, checked, quick_checked
from hevlayer.gateway.jobs import Jobs
from hevlayer.gateway.logs import configure_logging
from hevlayer.gateway.middleware import Pipeline
from hevlayer.gateway.namespaces import CleanupStep, Deletion, NamespaceRoutes, RelayedExchanges
from hevlayer.gateway.observe import (
    DocumentCacheStates,
    attach_access_log,
    attach_cache,
    attach_columns,
    attach_consistency,
    attach_own_work,
    attach_process,
    attach_server,
    observe_handlers,
    scheduled_work_note,
)
from hevlayer.gateway.openapi import OpenApiRoutes
from hevlayer.gateway.permits import PermitLedger
from hevlayer.gateway.query.execute import QueryRoutes
from hevlayer.gateway.query.nearest import StoredVectors
from hevlayer.gateway.query.plan import Mode
from hevlayer.gateway.query.quick import QuickQueries
from hevlayer.gateway.query.vouched import VouchedQueries
from hevlayer.gateway.reads import Reads
from hevlayer.gateway.relay import Relay, RelayRoutes
from hevlayer.gateway.router import QuickHandler, RouteHandler, Router
from hevlayer.gateway.routes import ROUTES
from hevlayer.gateway.scan import CacheAccess, CachedScans, Columns, Results, ScanRoutes, Scans, SnapshotScans
from hevlayer.gateway.shards.backfill import LEASE as BACKFILL_LEASE
from hevlayer.gateway.shards.backfill import Backfill
from hevlayer.gateway.shards.defaults import WriteShards
from hevlayer.gateway.shards.directory import ShardDirectory
from hevlayer.gateway.shards.gather import Scatterer
from hevlayer.gateway.shards.routes import ShardRoutes
from hevlayer.gateway.shared import SharedState
from hevlayer.gateway.snapshots.assembly import Snapshots
from hevlayer.gateway.snapshots.step import SnapshotStep
from hevlayer.gateway.spool import BodyMemory, Intake, Spool
from hevlayer.gateway.trail import Trail
from hevlayer.gateway.warm import AutoWarm, HintRoutes, WarmRoutes, Warms
from hevlayer.gateway.write.execute import WriteRoutes
from hevlayer.gateway.write.mirror import CacheMirror, WriteMirror
from hevlayer.http.server import HttpServer, ServerConfig, serve
from hevlayer.kernels.splice import strip_schema
from hevlayer.metrics import Metrics
from hevlayer.stopping import stop_event
from hevlayer.stores.doccache import DocumentCache
from hevlayer.stores.doccache_aerospike import AerospikeEngine
from hevlayer.stores.doccache_engine import Engine
from hevlayer.stores.leases import run_leased
from hevlayer.stores.objects import LocalObjects, MeasuredObjects
from hevlayer.stores.turbopuffer import Deadlines, Upstream

__all__ = ["Gateway", "configure_logging", "run_gateway"]

log = logging.getLogger("hevlayer.gateway")

_ACCESS_LOG_DESCRIPTORS = {"stdout": 1, "stderr": 2, "off": OFF}


class Gateway:
    """One gateway process. Make it inside a running loop; `start`, then `stop`."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        access_log: AccessLog | None = None,
        mirror: WriteMirror | None = None,
        trail: Trail | None = None,
        cache_engine: Engine | None = None,
    ) -> None:
        """`cache_engine` takes the place of the one that the configuration names."""
        self.config = config
        self.clock = clock or SystemClock()
        self.rng = rng or random.Random()  # noqa: S311 -- trace ids, not secrets
        self.metrics = Metrics(namespaces_max=config.metrics_namespaces_max)
        self.drain_state = Drain()
        self.supervisor = Supervisor(self.clock)
        self.access_log = access_log or AccessLog(_ACCESS_LOG_DESCRIPTORS[config.access_log])
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.data_dir = config.data_dir or self._make_temporary()
        self._cache_dir = config.cache_dir or self.data_dir / "cache"
        self._server: HttpServer | None = None

        quick = Deadlines(config.first_byte_timeout_seconds, config.total_timeout_seconds)
        write = Deadlines(config.write_timeout_seconds, config.write_timeout_seconds)
        slow = Deadlines(config.slow_timeout_seconds, config.slow_timeout_seconds)
        self.upstream = Upstream(
            config.upstream_base_url,
            self.clock,
            deadlines=quick,
            connect_seconds=config.connect_timeout_seconds,
            connections_max=config.upstream_connections_max,
            ca_file=str(config.upstream_ca_file) if config.upstream_ca_file else None,
            inflight=self.metrics.upstream_inflight,
        )
        self.authenticator = Authenticator(config.gateway_api_key, config.turbopuffer_api_key, config.metrics_token)
        self.bearers = BackgroundBearers(config.turbopuffer_api_key)
        self.grants = Grants(self._probe, self.clock)

        self.stamper = Stamper(self.clock, unknown_write_seconds=config.unknown_write_seconds)
        self.registry = Registry(
            self.clock,
            self.stamper,
            interval_seconds=config.consistency_poll_interval_ms / 1000,
            namespaces_max=config.namespaces_max,
            idle_seconds=config.namespace_idle_seconds,
        )
        self.shared = SharedState(config, self.clock, self.stamper, self.data_dir)
        self.floor = FloorKeeper(self.clock, self.stamper, self.data_dir)
        self.watcher = Watcher(
            self.clock,
            self.registry,
            self.stamper,
            self.upstream.metadata,
            self.bearers,
            self.metrics,
            margin_ms=config.consistency_safety_margin_ms,
            deadline_seconds=config.consistency_poll_timeout_seconds,
            concurrent_max=config.consistency_polls_concurrent_max,
            peer_floor=self.shared.peer_floor,
        )

        self._cache_engine = cache_engine or open_cache(config, self.clock, self._cache_dir)
        self.cache = DocumentCache(
            self._cache_engine,
            self.clock,
            observer=self.metrics,
            unknown_write_seconds=config.unknown_write_seconds,
            ttl_seconds=config.cache_ttl_seconds,
            shared_debts=self.shared.debts,
        )
        self.spool = Spool(config.spool_dir, config.spool_bytes_max)
        self.objects = MeasuredObjects(open_objects(config, self.clock, self.data_dir), self.metrics, self.clock)
        self.history = History(
            self.objects,
            self._id_type,
            self.clock,
            self.metrics,
            rng=self.rng,
            is_on=config.history == "on",
            off=[name for each in config.history_off_namespaces.split(",") if (name := each.strip())],
        )
        # Spans are made of requests, and another trail than the history wants to hear of every fetch.
        hears_of_each = trail is not None or bool(config.otlp_endpoint)
        trail = trail or self.history.trail
        self.body_memory = BodyMemory(config.body_memory_total_bytes_max)
        intake = Intake(
            self.spool,
            self.body_memory,
            memory_bytes_max=config.body_memory_bytes_max,
            bytes_max=config.body_bytes_max,
        )
        self.relay = Relay(self.upstream, self.clock, self.bearers, self.registry, body_bytes_max=config.body_bytes_max)
        relays = RelayRoutes(self.relay, slow=slow, trail=trail)
        self.shards = ShardDirectory(self.objects, self.clock)
        queries = QueryRoutes(
            self.relay,
            intake,
            self.registry,
            StoredVectors(self.relay, self.cache),
            self.metrics,
            self.clock,
            mode=Mode(config.consistency),
            watermark_age_ms_max=config.watermark_age_ms_max,
            trail=trail,
            scatterer=Scatterer(
                self.shards,
                self.relay,
                self.metrics,
                self.clock,
                permits=config.scatter_permits,
                text=config.scatter_text,
            ),
        )
        writes = WriteRoutes(
            self.relay,
            intake,
            self.registry,
            self.stamper,
            mirror or CacheMirror(self.cache, self.stamper.now_ms),
            self.metrics,
            deadlines=write,
            slow=slow,
            shards=WriteShards(self.shards, self.upstream.metadata, self.clock, default=config.shard_count),
        )
        owners = self._cache_owners = self._owners()
        self.cached_hits = CachedHits(
            self.cache,
            self.drain_state,
            self.metrics,
            self.access_log,
            self.clock,
            self.rng,
            gateway_key=config.gateway_api_key,
            operation="fetch",
        )
        self._at_once = None if hears_of_each else self.cached_hits.answer
        self.vouched_queries = VouchedQueries(
            queries,
            self.drain_state,
            self.metrics,
            self.access_log,
            self.clock,
            self.rng,
            self.history.recorder if config.history == "on" else None,
            gateway_key=config.gateway_api_key,
            operation="query",
            body_bytes_max=config.body_memory_bytes_max,
        )
        self._take_on = None if hears_of_each else self.vouched_queries.take_on
        fetches = FetchRoutes(
            self.cache,
            self.upstream,
            self.registry,
            intake,
            self.clock,
            owners=owners,
            observer=self.metrics,
            trail=trail,
            hits=self.cached_hits,
        )
        self._forget_facts = fetches.forget
        self.registry.on_epoch(self._void)
        self.jobs = Jobs(
            self.shared.jobs,
            self.clock,
            self.metrics,
            ttl_seconds=config.job_ttl_seconds,
            job_seconds_max=config.job_seconds_max,
        )
        self.permits = PermitLedger(self.clock, self.metrics)
        reads = Reads(self.upstream, self.permits, self.clock, rng=self.rng)
        warms = Warms(
            self.cache,
            self.jobs,
            reads,
            self.registry,
            owners,
            self.clock,
            self._settled_cut,
            unknown_write_seconds=config.unknown_write_seconds,
        )
        warm_routes = WarmRoutes(warms, self.jobs)
        self.scan_results = results = Results(
            self.objects,
            self.clock,
            life_seconds=config.job_seconds_max + config.job_ttl_seconds,
            bytes_max=config.scan_results_bytes_max,
        )
        auto_warm = AutoWarm(warms, self.supervisor.spawn, self.clock, rows_max=config.warm_rows_max)
        self.columns = Columns(self.cache, self.metrics, self.clock, bytes_max=config.columns_bytes_max)
        self.cached_scans = CachedScans(self.cache, self.columns)
        self.snapshots = Snapshots(
            config,
            self.objects,
            self.cache,
            reads,
            self.bearers,
            self.registry,
            self.metrics,
            self.shared.leases,
            self.clock,
            trusted=not self.authenticator.passes_through,
            rng=self.rng,
        )
        self.scans = Scans(
            reads,
            self.jobs,
            results,
            self.registry,
            self.metrics,
            self.clock,
            mode=Mode(config.consistency),
            watermark_age_ms_max=config.watermark_age_ms_max,
            cache=CacheAccess(self.cached_scans, owners, auto_warm.start),
            snapshots=SnapshotScans(self.snapshots.latest),
        )
        scan_routes = ScanRoutes(self.scans, self.jobs, results)
        exchanges = RelayedExchanges(self.relay, self.bearers, self.clock)
        hints = HintRoutes(
            exchanges, warms, SnapshotStep(self.snapshots.latest, self.grants), rows_max=config.warm_rows_max
        )
        self.backfill = Backfill(
            self.shards,
            reads,
            self.upstream,
            self.bearers,
            self.clock,
            rows_per_second=config.shard_backfill_rows_per_second,
        )
        shard_routes = ShardRoutes(exchanges, self.shards, self.backfill)
        states = DocumentCacheStates(self.cache, warms.inflight, config.cache_engine)
        self.namespaces = NamespaceRoutes(
            exchanges,
            self.registry,
            self.objects,
            self.bearers,
            states,
            strip_schema,
            self.metrics,
            self.clock,
            listing_ttl_ms=config.namespace_list_cache_ttl_ms,
            steps=(
                CleanupStep("document_cache", self._void_deleted),
                CleanupStep("jobs", self._forget_jobs),
                CleanupStep("history", self.history.purge, destroys=True),
                CleanupStep("shards", self._forget_shards, destroys=True),
                CleanupStep("snapshots", self.snapshots.forget, destroys=True),
            ),
            shard_block=shard_routes.layer_block,
        )
        self.metrics_backend = self._backend(config.metrics_backend_url, quick)
        handlers: Mapping[str, RouteHandler] = {
            "relay": relays.relay,
            "relay_slow": relays.relay_slow,
            "relay_query": checked(relays.relay_query),
            "query": checked(queries.query),
            "write": writes.write,
            "write_legacy": writes.write_legacy,
            "schema": writes.schema,
            "update_schema": writes.update_schema,
            "fetch_document": checked(fetches.fetch_document),
            "fetch_documents": checked(fetches.fetch_documents),
            **self.namespaces.handlers,
            "init_namespace": shard_routes.init,
            "hint_cache_warm": hints.hint_cache_warm,
            "warm": warm_routes.warm,
            "list_warm_jobs": warm_routes.list_warm_jobs,
            "warm_job": warm_routes.warm_job,
            "delete_warm_job": warm_routes.delete_warm_job,
            **self.history.handlers,
            **self.snapshots.serve(self.jobs, self.scans, self.grants, self._settled_cut),
            "create_scan": scan_routes.create_scan,
            "list_scans": scan_routes.list_scans,
            "scan": scan_routes.scan,
            "scan_results": scan_routes.scan_results,
            "delete_scan": scan_routes.delete_scan,
            "result_count": scan_routes.result_count,
            "openapi": OpenApiRoutes().openapi,
            **observe_handlers(
                __version__,
                self.metrics,
                self.authenticator,
                states,
                self.metrics_backend,
                blockers=(self.drain_state.reason,),
                notes=(scheduled_work_note(self.bearers.configured), self.shared.note),
                watched=self._watched,
            ),
        }
        quick_queries = QuickQueries(
            queries,
            None if hears_of_each else self.vouched_queries,
            body_bytes_max=config.body_memory_bytes_max,
        )
        quick_handlers: Mapping[str, QuickHandler] = {
            "query": quick_checked(quick_queries.start),
            "fetch_document": quick_checked(fetches.start_fetch),
        }
        attach_consistency(self.metrics, self.registry, self.stamper, self.clock)
        attach_cache(self.metrics, self.cache)
        attach_columns(self.metrics, self.columns)
        attach_server(self.metrics, self._open_connections, self._requests_in_flight)
        attach_process(self.metrics)
        attach_access_log(self.metrics, self.access_log)
        attach_own_work(self.metrics, self.jobs, self.permits)
        self.spans = open_spans(config, self.rng)
        self.metrics.history_pending.read_from(self.history.pending_samples)
        self.pipeline = Pipeline(
            Router(ROUTES, handlers, quick_handlers),
            self.authenticator,
            self.grants,
            self.drain_state,
            self.metrics,
            self.access_log,
            self.clock,
            self.rng,
            prefix_region=config.prefix_region,
            spans=self.spans,
        )
        self.vouched_queries.go_on_with(self.pipeline, quick_queries.resume)

    def _backend(self, url: str, deadlines: Deadlines) -> Upstream | None:
        """The server behind the PromQL routes, spoken to like the upstream."""
        if not url:
            return None
        config = self.config
        return Upstream(
            url,
            self.clock,
            deadlines=deadlines,
            connect_seconds=config.connect_timeout_seconds,
            connections_max=config.upstream_connections_max,
        )

    def _owners(self) -> Owners:
        if isinstance(self._cache_engine, AerospikeEngine):
            return SharedOwners(self._cache_engine, self.clock)
        store = LocalObjects(self._cache_dir / "owners", operation_seconds=STORE_SECONDS)
        return CacheOwners(self.cache, store, self.clock)

    def _void(self, namespace: str, reason: str) -> None:
        """The rows that were known of a namespace are gone, or are another namespace's."""
        self._forget(namespace)
        self.supervisor.spawn(f"void the cache, namespace {reason}", self.cache.new_epoch(namespace))

    def _forget(self, namespace: str) -> None:
        self._forget_facts(namespace)
        self.grants.forget(namespace)
        self._cache_owners.release(namespace)
        self.scans.forget(namespace)

    async def _void_deleted(self, deletion: Deletion) -> None:
        self._forget(deletion.namespace)
        await self.cache.new_epoch(deletion.namespace)

    async def _forget_jobs(self, deletion: Deletion) -> None:
        await self.jobs.delete_namespace(deletion.namespace, deletion.started_at_ms)

    async def _forget_shards(self, deletion: Deletion) -> None:
        await self.shards.delete(deletion.namespace, deletion.started_at_ms)

    async def _backfill_shards(self) -> None:
        await run_leased(self.shared.leases, BACKFILL_LEASE, self.backfill.run, self.clock)

    def _settled_cut(self, namespace: str) -> int | None:
        """The stamp up to which every write of a namespace has a definite answer now, others' as far as known."""
        now_ms = self.stamper.now_ms()
        floor_ms = lower(self.stamper.open_window(namespace).close(), self.shared.peer_floor(namespace))
        return plan_watermark(now_ms, self.config.consistency_safety_margin_ms, floor_ms)

    def _id_type(self, namespace: str, scope: bytes) -> str | None:
        return self.registry.view(namespace, scope).id_type

    def _watched(self) -> list[tuple[str, int | None]]:
        return list({entry.namespace: (entry.namespace, entry.view.watermark_ms) for entry in self.registry}.values())

    def _open_connections(self) -> int:
        return 0 if self._server is None else self._server.connections

    def _requests_in_flight(self) -> int:
        return 0 if self._server is None else self._server.inflight

    def _make_temporary(self) -> Path:
        self._temporary = tempfile.TemporaryDirectory(prefix="hevlayer-gateway-")
        return Path(self._temporary.name)

    async def _probe(self, namespace: str, credential: Credential) -> tuple[int, str | None]:
        status, body = await self.upstream.metadata(namespace, credential.bearer)
        if not 200 <= status < 300:
            return status, None
        self.bearers.note_success(namespace, credential)
        return status, read_created_at(body)

    @property
    def port(self) -> int:
        """The bound TCP port; 0 before `start`."""
        return 0 if self._server is None else self._server.port

    async def start(self) -> None:
        """Recovers what an earlier process left, starts the loops and listens. Raises: OSError."""
        config = self.config
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.spool.prepare()
        await self.floor.start()
        await self.shared.start(self.supervisor)
        if isinstance(self._cache_engine, AerospikeEngine) and (problem := await self._cache_engine.connect()):
            log.warning("document cache away, reached for in the background", extra={"cause": problem})
        self.supervisor.start("consistency watcher", self.watcher.run)
        self.supervisor.start("floor keeper", self.floor.run)
        self.supervisor.start("unfinished deletes", self.namespaces.deletes.run)
        self.supervisor.start("document cache upkeep", self.cache.run)
        self.supervisor.start("columns", self.columns.run)
        self.supervisor.start("jobs", self.jobs.run)
        self.history.start(self.supervisor)
        self.supervisor.start("results of scans", self.scan_results.run)
        await self.shards.refresh()
        self.supervisor.start("shard manifests", self.shards.run)
        self.supervisor.start("shard backfill", self._backfill_shards)
        self.snapshots.start(self.supervisor)
        if self.access_log.enabled:
            self.supervisor.start("access log", self._flush_access_log)
        self._server = await serve(
            starter=self.pipeline.start,
            at_once=self._at_once,
            take_on=self._take_on,
            host=config.host,
            port=config.port,
            config=ServerConfig(connections_max=config.connections_max),
            clock=self.clock,
        )
        log.info(
            "gateway listening",
            extra={"host": config.host, "port": self.port, "upstream": config.upstream_base_url},
        )

    async def _flush_access_log(self) -> None:
        await self.access_log.run(self.clock)

    async def stop(self) -> None:
        """Drains: /ready turns 503, requests in flight finish, loops stop, and everything is closed."""
        config = self.config
        self.drain_state.phase = Phase.LEAVING
        if config.drain_delay_seconds:
            await self.clock.sleep(config.drain_delay_seconds)
        self.drain_state.phase = Phase.REFUSING
        if self._server is not None:
            finished = await self._server.drain(config.drain_seconds)
            if not finished:
                log.warning("requests were still running at the end of the drain")
            await self._server.close()
        await self.jobs.close()
        self.cached_scans.close()
        await self.watcher.close()
        await self.supervisor.close()
        await self.history.stop()
        await self.floor.stop()
        await self.shared.stop()
        await self.cache.close()
        await self.upstream.close()
        await self.objects.close()
        if self.metrics_backend is not None:
            await self.metrics_backend.close()
        self.access_log.flush()
        await asyncio.to_thread(self.access_log.settle)
        if self.spans is not None:
            await asyncio.to_thread(self.spans.close)
        if self._temporary is not None:
            self._temporary.cleanup()
        log.info("gateway stopped")


async def run_gateway(config: GatewayConfig) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once.

    Raises: OSError: it cannot listen or write its state.
    """
    configure_logging(config.log_level)
    keep_heap()
    stopping = stop_event()
    gateway = Gateway(config)
    try:
        await gateway.start()
        # What lives as long as the process need not be looked through at every collection.
        gc.collect()
        gc.freeze()
        await stopping.wait()
    finally:
        await gateway.stop()
