"""Snapshots: the counts of attributes' values at one moment."""

from typing import Any, Literal

from hevlayer.client.models.base import LayerModel
from hevlayer.client.models.jobs import JobBase


class CreateSnapshotRequest(LayerModel):
    """Counts the values of `field`, of the rows that match `filters`."""

    field: str
    source: Literal["auto", "stored", "cache", "origin"] | None = None
    filters: Any = None
    page_size: int | None = None


class SnapshotJob(JobBase):
    """A snapshot in the making; `sha` names its body once it is completed."""

    field: str
    source: Literal["auto", "stored", "cache", "origin"]
    effective_source: Literal["auto", "stored", "cache", "origin"] | None = None
    sha: str | None = None


class SnapshotJobList(LayerModel):
    snapshot_jobs: list[SnapshotJob]


class SnapshotHistoryEntry(LayerModel):
    watermark_ms: int
    sha: str
    tags: list[str] | None = None


class SnapshotValueCount(LayerModel):
    """A value, as text, and the number of its rows."""

    v: str
    n: int


class SnapshotField(LayerModel):
    """Every value of an attribute."""

    name: str
    values: list[SnapshotValueCount]
    type: str | None = None


class SnapshotFieldSkipped(LayerModel):
    """An attribute that has more values than a snapshot keeps."""

    name: str
    reason: Literal["exceeded_cap"]
    distinct_observed: int
    cap: int


class SnapshotBody(LayerModel):
    namespace: str
    watermark_ms: int
    sha: str
    row_count: int | None = None
    fields: list[SnapshotField]
    fields_skipped: list[SnapshotFieldSkipped]


class SnapshotPolicy(LayerModel):
    """Which attributes are watched, how often (`5m`), and how long bodies are kept (`30d`)."""

    facetFields: list[str] | None = None  # noqa: N815 - the name on the wire
    interval: str | None = None
    retention: str | None = None


class SnapshotActivityEvent(LayerModel):
    ts_ms: int
    namespace: str
    sha: str


class SnapshotActivityList(LayerModel):
    events: list[SnapshotActivityEvent]
    next_cursor: str | None = None
    truncated: bool | None = None
