"""Snapshots that somebody asks for: one field, from the latest kept body, the document cache or the upstream."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from hevlayer.errors import NotFoundError, ValidationError
from hevlayer.gateway.jobs import JobKind, JobRecord, Jobs, RunningJob
from hevlayer.gateway.reads import Reads, ReadTarget
from hevlayer.gateway.scan.cached import CachedScan, CachedScanError
from hevlayer.gateway.scan.filters import check_filters
from hevlayer.gateway.scan.request import FilterSelector, Mode, ScanRequest
from hevlayer.gateway.scan.request import Source as ScanSource
from hevlayer.gateway.scan.service import Caller
from hevlayer.gateway.scanning import check_parts
from hevlayer.gateway.snapshots.body import BrokenSnapshotError, Facet, Histogram, Snapshot, facet_of
from hevlayer.gateway.snapshots.latest import LatestSnapshots
from hevlayer.gateway.snapshots.materialise import PAGE_ROWS, Materialiser, field_type
from hevlayer.gateway.snapshots.place import place_of
from hevlayer.gateway.snapshots.policy import FIELD_BYTES_MAX
from hevlayer.gateway.snapshots.store import AD_HOC, SnapshotStore
from hevlayer.stores.objects import ObjectStoreError
from hevlayer.wire.bodies import decode_body
from hevlayer.wire.reserved import RESERVED_PREFIX

PAGE_SIZE_MAX = 10_000
CACHED_COUNT_SECONDS = 300.0
_KEYS = ("field", "source", "filters", "page_size")


class Source(Enum):
    """Where a snapshot comes from."""

    AUTO = "auto"
    STORED = "stored"
    CACHE = "cache"
    ORIGIN = "origin"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller asks for. `filters` is a checked filter of the upstream's grammar or None."""

    field: str
    source: Source
    filters: list[Any] | None = None
    page_rows: int = PAGE_ROWS


def read_wanted(body: bytes) -> Wanted:
    """Reads the body of POST …/snapshots. Raises: MalformedJsonError. ValidationError: names the key and its rule."""
    check_parts(body, "the body")
    read = decode_body(body)
    if not isinstance(read, dict):
        raise ValidationError("the body must be a JSON object")
    unknown = [key for key in read if key not in _KEYS]
    if unknown:
        raise ValidationError(f"{unknown[0][:80]}: not a key of this request; known are {', '.join(_KEYS)}")
    field, filters, page_rows = read.get("field"), read.get("filters"), read.get("page_size")
    if not isinstance(field, str) or not 1 <= len(field.encode("utf-8", "replace")) <= FIELD_BYTES_MAX:
        raise ValidationError(f"field: required, the name of an attribute, a text of 1..{FIELD_BYTES_MAX} bytes")
    if field.startswith(RESERVED_PREFIX):
        raise ValidationError(f"field: '{field}' is the gateway's own; its values are not counted")
    try:
        source = Source(read.get("source") or "auto")
    except ValueError:
        raise ValidationError(f"source: must be one of {', '.join(each.value for each in Source)}") from None
    if filters is not None:
        check_filters(filters)
        if source is Source.STORED:
            raise ValidationError("filters: a stored snapshot counts all rows; use source auto, cache or origin")
    if page_rows is None:
        page_rows = PAGE_ROWS
    if type(page_rows) is not int or not 1 <= page_rows <= PAGE_SIZE_MAX:
        raise ValidationError(f"page_size: must be an integer in 1..{PAGE_SIZE_MAX}")
    return Wanted(field, source, filters, page_rows)


class OpensScans(Protocol):
    """The part of the scans that snapshots need."""

    async def open_cached(self, caller: Caller, request: ScanRequest) -> CachedScan | None: ...

    async def metadata(self, caller: Caller) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a job does: the stored snapshot is there, or a scan of the cache is open, or the upstream counts."""

    stored: Snapshot | None = None
    kind: str = ""
    cached: CachedScan | None = None


class SnapshotJobs:
    """Makes snapshot jobs."""

    def __init__(
        self, store: SnapshotStore, latest: LatestSnapshots, jobs: Jobs, reads: Reads, scans: OpensScans
    ) -> None:
        self._store = store
        self._latest = latest
        self._jobs = jobs
        self._reads = reads
        self._scans = scans

    async def start(self, caller: Caller, wanted: Wanted, through_ms: int) -> JobRecord:
        """`through_ms`: every write stamped up to there has its answer.

        Raises: ValidationError: the field cannot be counted, or the filter not there. CacheColdError.
        NotFoundError: no stored snapshot has the field. RefusedReadError: the upstream's answer to the metadata read.
        UpstreamError; ObjectStoreError; JobTableFullError, JobStoreError.
        """
        place = place_of(caller.namespace, caller.credential.trusted, caller.identity)
        plan = await self._plan(caller, place, wanted)

        async def work(job: RunningJob) -> None:
            if plan.stored is not None:
                _report(job, plan.stored, Source.STORED)
                return
            if plan.cached is not None:
                try:
                    await self._keep(job, caller, place, await _count_cached(plan.cached, wanted, plan.kind), wanted)
                    return
                except CachedScanError:
                    if wanted.source is Source.CACHE:
                        raise
            await self._from_origin(job, caller, place, wanted, plan.kind, through_ms)

        return await self._jobs.start(
            JobKind.SNAPSHOT,
            caller.namespace,
            caller.scope,
            work,
            details={"field": wanted.field, "source": wanted.source.value},
            stable_as_of_ms=through_ms,
        )

    async def _plan(self, caller: Caller, place: str, wanted: Wanted) -> _Plan:
        if wanted.filters is None and wanted.source in (Source.AUTO, Source.STORED):
            stored = await self._stored(place, wanted)
            if stored is not None:
                return _Plan(stored=stored)
        schema = (await self._scans.metadata(caller)).get("schema")
        schema = schema if isinstance(schema, Mapping) else {}
        kind = field_type(schema, wanted.field)
        cached = None
        if wanted.source in (Source.AUTO, Source.CACHE):
            cached = await self._scans.open_cached(caller, _as_scan(wanted))
        return _Plan(kind=kind, cached=cached)

    async def _stored(self, place: str, wanted: Wanted) -> Snapshot | None:
        try:
            latest = await self._latest.get(place)
        except (ObjectStoreError, BrokenSnapshotError):
            if wanted.source is Source.STORED:
                raise
            return None
        if latest is not None and latest.facet(wanted.field) is not None:
            return latest
        if wanted.source is Source.STORED:
            raise NotFoundError(f"no stored snapshot has the field '{wanted.field}'; is it a watched field?")
        return None

    async def _from_origin(
        self,
        job: RunningJob,
        caller: Caller,
        place: str,
        wanted: Wanted,
        kind: str,
        through_ms: int,
    ) -> None:
        target = ReadTarget.of(caller.namespace, caller.credential, job=job.id)
        work = Materialiser(self._reads, target, page_rows=wanted.page_rows)

        def progress(share: float, rows: int) -> None:
            job.report(progress=share, documents_scanned=rows)

        # Without a cut: a strongly consistent read sees every write that has its answer.
        histogram = await work.count({wanted.field: kind}, None, wanted.filters, progress)
        counted = _Counted(histogram, through_ms, Source.ORIGIN)
        await self._keep(job, caller, place, counted, wanted)

    async def _keep(self, job: RunningJob, caller: Caller, place: str, counted: "_Counted", wanted: Wanted) -> None:
        snapshot = Snapshot.of(
            place,
            counted.at_ms,
            counted.histogram,
            identity=caller.identity,
            filtered=wanted.filters is not None,
        )
        await self._store.publish(snapshot, where=AD_HOC)
        _report(job, snapshot, counted.source)


@dataclass(frozen=True, slots=True)
class _Counted:
    histogram: Histogram
    at_ms: int
    source: Source


def _report(job: RunningJob, snapshot: Snapshot, source: Source) -> None:
    job.report(
        stable_as_of_ms=snapshot.watermark_ms,
        documents_scanned=snapshot.histogram.row_count,
        effective_source=source.value,
        sha=snapshot.sha,
    )


def _as_scan(wanted: Wanted) -> ScanRequest:
    """The scan of the cache that gives the values."""
    source = ScanSource.CACHE if wanted.source is Source.CACHE else ScanSource.AUTO
    return ScanRequest(
        mode=Mode.VALUES,
        source=source,
        selector=FilterSelector(),
        filters=wanted.filters,
        field=wanted.field,
        exhaustive=False,
        threads=None,
        page_rows=None,
        timeout_seconds=CACHED_COUNT_SECONDS,
    )


async def _count_cached(scan: CachedScan, wanted: Wanted, kind: str) -> _Counted:
    values, more = await scan.values()
    rows = await scan.count(CACHED_COUNT_SECONDS)
    if rows.timed_out:
        raise CachedScanError("the rows of the cache could not be counted in time")
    missing = None if kind.startswith("[]") else rows.count - sum(each.count for each in values)
    facet = facet_of(wanted.field, kind, [(each.value, each.count) for each in values], missing, more=more)
    fields, skipped = ((facet,), ()) if isinstance(facet, Facet) else ((), (facet,))
    return _Counted(Histogram(rows.count, fields, skipped), scan.watermark_ms, Source.CACHE)
