"""Warms and scans, their requests and their results."""

from collections.abc import Sequence
from typing import Any, Literal

from hevlayer.client.models.base import LayerModel

JobStatus = Literal["running", "completed", "failed"]
WarmStepStatus = Literal["skipped", "completed", "started", "no_snapshot"]


class JobBase(LayerModel):
    """A job. `progress` is a fraction that only grows; times are RFC 3339; `error` says why it failed."""

    id: str
    namespace: str
    status: JobStatus
    progress: float
    documents_scanned: int
    stable_as_of: int | None = None
    created_at: str
    completed_at: str | None = None
    error: str | None = None


class WarmJob(JobBase):
    """A warm of the document cache."""


class WarmJobList(LayerModel):
    warm_jobs: list[WarmJob]


class WarmStepResponse(LayerModel):
    """A step of the warm hint; `reason` says why it was skipped."""

    enabled: bool
    status: WarmStepStatus
    reason: str | None = None


class WarmDocumentsResponse(WarmStepResponse):
    job: WarmJob | None = None


class WarmSnapshotsResponse(WarmStepResponse):
    key: str | None = None
    watermark_ms: int | None = None
    sha: str | None = None


class HintCacheWarmResponse(LayerModel):
    """The upstream's status and message, and what each step of the gateway did."""

    status: str | None = None
    message: str | None = None
    namespace: str | None = None
    turbopuffer: WarmStepResponse | None = None
    documents: WarmDocumentsResponse | None = None
    snapshots: WarmSnapshotsResponse | None = None


class FtsScan(LayerModel):
    """Rows whose `field` holds at least one token of `query`."""

    field: str
    query: str


class AnnScan(LayerModel):
    """Rows whose vector is at most `radius` away."""

    vector: Sequence[float]
    radius: float
    field: str | None = None


class CreateScanRequest(LayerModel):
    """Which rows to count or to list. `ids` is the mode when none is given, `auto` the source.

    In mode `values`, `field` names the attribute whose values are counted.
    """

    mode: Literal["ids", "count", "values"] | None = None
    source: Literal["auto", "snapshot", "cache", "origin"] | None = None
    filters: Any = None
    fts: FtsScan | None = None
    ann: AnnScan | None = None
    field: str | None = None
    exhaustive: bool | None = None
    threads: int | None = None
    page_size: int | None = None
    timeout_seconds: float | None = None


class ScanCountResponse(LayerModel):
    """A count. `bounded`: it is a lower bound. `approximate`: found by an approximate search."""

    count: int
    served_by: Literal["snapshot", "cache", "origin"]
    snapshot_sha: str | None = None
    watermark_ms: int | None = None
    bounded: bool | None = None
    timed_out: bool | None = None
    shards_saturated: int | None = None
    shards_total: int | None = None
    approximate: bool | None = None
    threads: int | None = None
    elapsed_ms: int


class ScanJob(JobBase):
    """A scan that lists ids, or counts values."""

    mode: Literal["ids", "count", "values"]
    source: Literal["auto", "cache", "origin", "snapshot"]
    effective_source: Literal["auto", "snapshot", "cache", "origin"] | None = None
    field: str | None = None
    unique_values: int | None = None
    truncated: bool | None = None
    bounded: bool | None = None
    approximate: bool | None = None
    snapshot_sha: str | None = None
    watermark_ms: int | None = None
    threads: int | None = None


class ScanJobList(LayerModel):
    scans: list[ScanJob]


class ScanIdsResponse(LayerModel):
    """A slice of a scan's ids, ascending; `total` is the number of all."""

    ids: list[str]
    total: int
    id_type: str | None = None


class ScanValue(LayerModel):
    """A value, as text, and the number of its rows."""

    v: str
    n: int


class ScanValuesResponse(LayerModel):
    """A slice of a scan's values, the most frequent first; `total` is the number of different ones."""

    values: list[ScanValue]
    total: int
    truncated: bool
    type: str | None = None
