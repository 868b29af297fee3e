"""Runs scans: counts while the caller waits, ids and values as jobs."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from hevlayer.clock import Clock
from hevlayer.errors import LayerError, ValidationError
from hevlayer.gateway.auth import Credential
from hevlayer.gateway.consistency import Registry
from hevlayer.gateway.consistency.facts import ID_TYPES
from hevlayer.gateway.jobs import JobKind, JobRecord, Jobs, JobValue, RunningJob
from hevlayer.gateway.permits import BACKGROUND_PERMITS
from hevlayer.gateway.query.plan import Mode as ReadMode
from hevlayer.gateway.reads import Reads, ReadTarget
from hevlayer.gateway.scan.bodies import ValueCount
from hevlayer.gateway.scan.cached import (
    CachedScan,
    CachedScanError,
    CachedScans,
    Question,
    check_question,
    is_short,
    told,
)
from hevlayer.gateway.scan.origin import Counted, OriginScan, plan_cut
from hevlayer.gateway.scan.plan import FromCache, plan_source
from hevlayer.gateway.scan.request import (
    FilterSelector,
    Mode,
    ResultCountRequest,
    ScanRequest,
    Selector,
    VectorSelector,
)
from hevlayer.gateway.scan.request import Source as ScanSource
from hevlayer.gateway.scan.results import Results
from hevlayer.gateway.scan.schemas import SCHEMA_SECONDS, Schemas
from hevlayer.gateway.scan.snapshot import CountedBefore, SnapshotScans, values_of
from hevlayer.gateway.snapshots.place import place_of
from hevlayer.kernels.filters import FilterRefusedError

log = logging.getLogger("hevlayer.scan")

ORIGIN, CACHE, SNAPSHOT = "origin", "cache", "snapshot"
# A schema that knows an attribute too little is asked for again at most this often.
SCHEMA_SECONDS_MIN = 1.0
DEFAULT_ID_TYPE = "string"
# A job that fails at once is told as an error of its request; a longer one goes on by itself.
FIRST_ANSWER_SECONDS = 2.0
_ARRAY = "[]"
_UNCOUNTABLE = ("[]f", "{}f", "bytes")


class ScanMetrics(Protocol):
    """What scans count."""

    def observe_scan(
        self, namespace: str, mode: str, selector: str, served_by: str, status: str, seconds: float, documents: int
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose scan it is."""

    namespace: str
    credential: Credential
    traceparent: bytes = b""
    identity: str | None = None
    """The namespace's `created_at`, as the upstream told it to this caller."""

    @property
    def scope(self) -> str:
        return self.credential.scope.hex()


@dataclass(frozen=True, slots=True)
class FieldType:
    """An attribute's type. `name` is that of its elements."""

    name: str
    is_array: bool


def read_id_type(metadata: Mapping[str, Any]) -> str:
    found = _declared(metadata, "id")
    return found if found in ID_TYPES else DEFAULT_ID_TYPE


def read_field_type(metadata: Mapping[str, Any], field: str) -> FieldType:
    """Raises: ValidationError: there is no such attribute, or its values cannot be counted."""
    declared = _declared(metadata, field)
    if declared is None:
        raise ValidationError(f"field: the namespace has no attribute '{field}'")
    is_array = declared.startswith(_ARRAY)
    name = declared.removeprefix(_ARRAY)
    if name.startswith(("[", "{")) or name == "bytes":
        raise ValidationError(f"field: the values of '{field}', of type {declared}, cannot be counted")
    return FieldType(name, is_array)


def _declared(metadata: Mapping[str, Any], name: str) -> str | None:
    schema = metadata.get("schema")
    config = schema.get(name) if isinstance(schema, Mapping) else None
    declared = config.get("type") if isinstance(config, Mapping) else config
    return declared if isinstance(declared, str) else None


class Owners(Protocol):
    """Says whose rows the cache holds."""

    async def admit(self, namespace: str, identity: str | None) -> bool: ...

    def holds(self, namespace: str, identity: str | None) -> bool: ...


StartWarm = Callable[[str, Credential], None]
"""Starts a warm of the namespace in the background, unless one was started there lately."""


@dataclass(frozen=True, slots=True)
class CacheAccess:
    """What scans need of the document cache."""

    scans: CachedScans
    owners: Owners
    start_warm: StartWarm


class Scans:
    """Scans and result counts, at the upstream or in the document cache."""

    def __init__(
        self,
        reads: Reads,
        jobs: Jobs,
        results: Results,
        registry: Registry,
        metrics: ScanMetrics,
        clock: Clock,
        *,
        mode: ReadMode,
        watermark_age_ms_max: int,
        cache: CacheAccess | None = None,
        snapshots: SnapshotScans | None = None,
    ) -> None:
        self._reads = reads
        self._schemas = Schemas(reads, clock)
        self._cache = cache
        self._snapshots = snapshots
        self._jobs = jobs
        self._results = results
        self._registry = registry
        self._metrics = metrics
        self._clock = clock
        self._mode = mode
        self._watermark_age_ms_max = watermark_age_ms_max
        jobs.on_removed(JobKind.SCAN, self._forget)

    async def _forget(self, job: JobRecord) -> None:
        await self._results.remove(job)

    def _origin(self, caller: Caller, selector: Selector, filters: list[Any] | None, *, job: str = "") -> OriginScan:
        view = self._registry.touch(caller.namespace, caller.credential.scope)
        plan = plan_cut(view, self._mode, self._clock.now_ms(), self._watermark_age_ms_max)
        target = ReadTarget.of(caller.namespace, caller.credential, job=job, traceparent=caller.traceparent)
        return OriginScan(self._reads, self._clock, target, plan, selector, filters)

    def forget(self, namespace: str) -> None:
        """The namespace was deleted or made anew."""
        self._schemas.forget(namespace)
        if self._cache is not None:
            self._cache.scans.columns.forget(namespace)

    # --- the cache ---------------------------------------------------------------------------------------------------

    async def open_cached(self, caller: Caller, request: ScanRequest) -> CachedScan | None:
        """The scan of the cache that answers a request; None: the upstream answers it.

        Raises: CacheColdError, PreconditionFailedError, ValidationError: the source that was asked for cannot do it.
            RefusedReadError, UpstreamError: the schema could not be read.
        """
        scan, unsupported = None, None
        wanted = request.source in (ScanSource.AUTO, ScanSource.CACHE) and isinstance(request.selector, FilterSelector)
        if self._cache is not None and wanted and await self._may_use_cache(self._cache, caller):
            question, unsupported = await self._question(caller, request)
            if question is not None:
                view = self._registry.touch(caller.namespace, caller.credential.scope)
                scan = await self._cache.scans.open(
                    caller.namespace,
                    view.watermark_ms,
                    question,
                    seconds=request.timeout_seconds,
                    threads=request.threads,
                )
                if not self._still_may(self._cache, caller):
                    scan = None
        through_ms = None if scan is None else scan.watermark_ms
        plan = plan_source(request.source, request.selector, through_ms, unsupported)
        if isinstance(plan, FromCache):
            if self._cache is not None and scan is not None:
                scan.on_answer = partial(self._cache.scans.columns.answered, request.mode.value)
            return scan
        if plan.warm and self._cache is not None:
            self._cache.start_warm(caller.namespace, caller.credential)
        return None

    async def metadata(self, caller: Caller) -> Mapping[str, Any]:
        """The namespace's metadata, a second old at most. Raises: RefusedReadError, UpstreamError."""
        target = ReadTarget.of(caller.namespace, caller.credential, traceparent=caller.traceparent)
        return (await self._schemas.of(target, age_max=SCHEMA_SECONDS_MIN)).metadata

    @staticmethod
    async def _may_use_cache(cache: CacheAccess, caller: Caller) -> bool:
        return caller.credential.trusted or await cache.owners.admit(caller.namespace, caller.identity)

    @staticmethod
    def _still_may(cache: CacheAccess, caller: Caller) -> bool:
        """Whether rows that were opened after `_may_use_cache` are of the namespace that this caller may see."""
        return caller.credential.trusted or cache.owners.holds(caller.namespace, caller.identity)

    async def _question(self, caller: Caller, request: ScanRequest) -> tuple[Question | None, str | None]:
        """The request as the native engine takes it, or why it does not."""
        target = ReadTarget.of(caller.namespace, caller.credential, traceparent=caller.traceparent)
        reason = None
        for age_max in (SCHEMA_SECONDS, SCHEMA_SECONDS_MIN):
            schema = await self._schemas.of(target, age_max=age_max)
            try:
                if is_short(request.filters):
                    return check_question(request.filters, request.field, schema), None
                return await asyncio.to_thread(check_question, request.filters, request.field, schema), None
            except FilterRefusedError as error:
                reason = told(error)
                if error.code != "schema":
                    break
        return None, reason

    # --- counts ------------------------------------------------------------------------------------------------------

    async def count(self, caller: Caller, request: ScanRequest) -> dict[str, object]:
        """The answer of a scan in mode count.

        Raises: as `SnapshotScans.count`, `OriginScan.count` and `plan_source`; CachedScanError.
        """
        started = self._clock.monotonic()
        before = await self._counted_before(caller, request)
        if before is not None:
            told = Counted(before.count)
            await self._measured(caller, Mode.COUNT.value, request.selector, SNAPSHOT, lambda: _at_once(told))
            answer = {"count": before.count, "served_by": SNAPSHOT, "snapshot_sha": before.snapshot.sha}
            elapsed_ms = self._elapsed_ms(started)
            return {**answer, "watermark_ms": before.snapshot.watermark_ms, "elapsed_ms": elapsed_ms}
        cached = await self.open_cached(caller, request)
        if cached is not None:
            with _otherwise(request.source):
                work = partial(cached.count, request.timeout_seconds)
                counted = await self._measured(caller, Mode.COUNT.value, request.selector, CACHE, work)
                answer = {"count": counted.count, "served_by": CACHE, **_live(counted), "threads": cached.threads}
                return {**answer, "watermark_ms": cached.watermark_ms, "elapsed_ms": self._elapsed_ms(started)}
        scan = self._origin(caller, request.selector, request.filters)
        seconds = max(0.0, request.timeout_seconds - (self._clock.monotonic() - started))
        work = partial(scan.count, seconds, exhaustive=request.exhaustive)
        counted = await self._measured(caller, Mode.COUNT.value, request.selector, ORIGIN, work)
        answer = {"count": counted.count, "served_by": ORIGIN, **_live(counted)}
        watermark_ms = self._registry.view(caller.namespace, caller.credential.scope).watermark_ms
        if watermark_ms is not None:
            answer["watermark_ms"] = scan.watermark_ms or watermark_ms
        return {**answer, "elapsed_ms": self._elapsed_ms(started)}

    async def _counted_before(self, caller: Caller, request: ScanRequest) -> CountedBefore | None:
        if self._snapshots is None:
            return None
        return await self._snapshots.count(*self._place(caller), request)

    def _place(self, caller: Caller) -> tuple[str, str | None]:
        """What the store of snapshots calls the namespace, and the identity of the one that is there now."""
        view = self._registry.touch(caller.namespace, caller.credential.scope)
        identity = caller.identity or view.created_at
        return place_of(caller.namespace, caller.credential.trusted, identity), identity

    async def result_count(self, caller: Caller, request: ResultCountRequest) -> dict[str, object]:
        """The answer of a result count. Raises: as `OriginScan.count`."""
        started = self._clock.monotonic()
        scan = self._origin(caller, request.selector, request.filters)
        counted = await self._measured(
            caller,
            "result_count",
            request.selector,
            ORIGIN,
            lambda: scan.count(request.timeout_seconds, exhaustive=request.exhaustive),
        )
        return {"count": counted.count, **_live(counted), "elapsed_ms": self._elapsed_ms(started)}

    async def _measured(
        self, caller: Caller, mode: str, selector: Selector, served_by: str, work: Callable[[], Awaitable[Counted]]
    ) -> Counted:
        started = self._clock.monotonic()
        status, documents = "error", 0
        try:
            counted = await work()
            status, documents = "timed_out" if counted.timed_out else "ok", counted.count
        except LayerError as error:
            status = error.code
            raise
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        finally:
            seconds = self._clock.monotonic() - started
            self._metrics.observe_scan(caller.namespace, mode, selector.name, served_by, status, seconds, documents)
        return counted

    def _elapsed_ms(self, started: float) -> int:
        return int((self._clock.monotonic() - started) * 1000)

    # --- jobs --------------------------------------------------------------------------------------------------------

    async def start(self, caller: Caller, request: ScanRequest) -> JobRecord:
        """Starts a scan in mode ids or values. One that fails at once is no job: its error is raised.

        Raises: ValidationError; RefusedReadError: the upstream's answer to the metadata read, or to the first page.
            UpstreamError; JobTableFullError, JobStoreError. As `SnapshotScans.values`.
        """
        if request.source is ScanSource.SNAPSHOT and self._snapshots is not None:
            return await self._values_of_snapshot(caller, request, self._snapshots)
        cached = await self.open_cached(caller, request)
        metadata = await self.metadata(caller)
        id_type = read_id_type(metadata)
        field = None if request.field is None else read_field_type(metadata, request.field)
        readers = min(request.threads or BACKGROUND_PERMITS, BACKGROUND_PERMITS)
        settled = asyncio.Event()
        failures: list[LayerError] = []

        async def at_origin(job: RunningJob) -> None:
            scan = self._origin(caller, request.selector, request.filters, job=job.id)
            job.report(watermark_ms=scan.watermark_ms)

            def report(share: float, rows: int) -> None:
                settled.set()
                job.report(progress=share, documents_scanned=rows)

            if field is None:
                await self._ids(job, scan, request, id_type, readers, report)
            else:
                await self._values(job, scan, request, field)

        async def work(job: RunningJob) -> None:
            try:
                if cached is not None:
                    with _otherwise(request.source):
                        await self._from_cache(job, cached, id_type, field)
                        return
                    await self._results.remove(job.record)
                    job.report(effective_source=ORIGIN, threads=readers)
                await at_origin(job)
            except LayerError as error:
                failures.append(error)
                raise
            finally:
                settled.set()

        view = self._registry.view(caller.namespace, caller.credential.scope)
        details: dict[str, JobValue] = {
            "mode": request.mode.value,
            "source": request.source.value,
            "effective_source": ORIGIN if cached is None else CACHE,
            "field": request.field,
            "threads": cached.threads if cached is not None else readers if field is None else None,
        }
        if cached is not None:
            details["watermark_ms"] = cached.watermark_ms
        if isinstance(request.selector, VectorSelector):
            details["approximate"] = True
        job = await self._jobs.start(
            JobKind.SCAN,
            caller.namespace,
            caller.scope,
            self._counted(caller, request, work),
            details=details,
            stable_as_of_ms=view.watermark_ms,
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ANSWER_SECONDS):
                await settled.wait()
        if failures:
            await self._jobs.delete(JobKind.SCAN, caller.namespace, caller.scope, job.id)
            raise failures[0]
        return await self._jobs.get(JobKind.SCAN, caller.namespace, caller.scope, job.id)

    async def _values_of_snapshot(self, caller: Caller, request: ScanRequest, snapshots: SnapshotScans) -> JobRecord:
        snapshot, facet = await snapshots.values(*self._place(caller), request)

        async def work(job: RunningJob) -> None:
            await self._finish_values(job, values_of(facet), FieldType(facet.type.removeprefix(_ARRAY), False))

        return await self._jobs.start(
            JobKind.SCAN,
            caller.namespace,
            caller.scope,
            self._counted(caller, request, work),
            details={
                "mode": request.mode.value,
                "source": request.source.value,
                "effective_source": SNAPSHOT,
                "field": request.field,
                "snapshot_sha": snapshot.sha,
                "watermark_ms": snapshot.watermark_ms,
            },
            stable_as_of_ms=snapshot.watermark_ms,
        )

    async def _from_cache(self, job: RunningJob, scan: CachedScan, id_type: str, field: FieldType | None) -> None:
        writer = self._results.writer(job.record)
        if field is None:
            await scan.ids(writer, lambda share, rows: job.report(progress=share, documents_scanned=rows))
            await writer.finish_ids(id_type, truncated=False)
            job.report(documents_scanned=writer.total, truncated=False, watermark_ms=scan.watermark_ms)
        else:
            values, truncated = await scan.values()
            await self._finish_values(job, values, field, truncated=truncated)
            job.report(watermark_ms=scan.watermark_ms)

    async def _ids(
        self,
        job: RunningJob,
        scan: OriginScan,
        request: ScanRequest,
        id_type: str,
        readers: int,
        report: Callable[[float, int], None],
    ) -> None:
        writer = self._results.writer(job.record)
        truncated = await scan.ids(writer, report, id_type=id_type, page_rows=request.page_rows, readers=readers)
        await writer.finish_ids(id_type, truncated=truncated)
        job.report(documents_scanned=writer.total, truncated=truncated)

    async def _values(self, job: RunningJob, scan: OriginScan, request: ScanRequest, field: FieldType) -> None:
        assert request.field is not None
        values, truncated = await scan.values(request.field, is_array=field.is_array)
        await self._finish_values(job, values, field, truncated=truncated)

    async def _finish_values(
        self, job: RunningJob, values: list[ValueCount], field: FieldType, *, truncated: bool = False
    ) -> None:
        writer = self._results.writer(job.record)
        await writer.finish_values(values, field.name, truncated=truncated)
        job.report(documents_scanned=sum(each.count for each in values), unique_values=len(values), truncated=truncated)

    def _counted(
        self, caller: Caller, request: ScanRequest, work: Callable[[RunningJob], Awaitable[None]]
    ) -> Callable[[RunningJob], Awaitable[None]]:
        async def measured(job: RunningJob) -> None:
            started = self._clock.monotonic()
            status = "error"
            try:
                await work(job)
                status = "ok"
            except LayerError as error:
                status = error.code
                raise
            except asyncio.CancelledError:
                status = "cancelled"
                raise
            finally:
                self._metrics.observe_scan(
                    caller.namespace,
                    request.mode.value,
                    request.selector.name,
                    str(job.record.details["effective_source"]),
                    status,
                    self._clock.monotonic() - started,
                    job.record.documents_scanned,
                )

        return measured


@contextlib.contextmanager
def _otherwise(source: ScanSource) -> Iterator[None]:
    """Goes on after its block when cached rows cannot be read, unless the cache was asked for."""
    try:
        yield
    except CachedScanError as error:
        if source is ScanSource.CACHE:
            raise
        log.warning("cached rows cannot be scanned, using the upstream", extra={"error": error.message})


async def _at_once(counted: Counted) -> Counted:
    return counted


def _live(counted: Counted) -> dict[str, object]:
    told: dict[str, object] = {
        "bounded": counted.bounded,
        "timed_out": counted.timed_out,
        "shards_saturated": counted.saturated,
        "shards_total": 1,
    }
    if counted.approximate:
        told["approximate"] = True
    return told
