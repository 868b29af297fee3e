"""What was searched and fetched, the metric catalog, and what the process says of itself."""

from typing import Any, Literal

from pydantic import Field

from hevlayer.client.models.base import LayerModel

MetricFamily = Literal["query", "upsert", "fetch", "cache", "pipeline", "storage", "saturation"]


class SearchHistoryEntry(LayerModel):
    """A query that was served. `query` is its shape: vectors by their length, long texts and lists cut."""

    timestamp: str
    timestamp_nanos: int
    namespace: str
    trace_id: str | None = None
    raw_query: str | None = None
    stable_as_of: int | None = None
    query: dict[str, Any]
    top_result_ids: list[str]
    tags: list[str]


class SearchHistoryListResponse(LayerModel):
    """Newest first. A page may be short, or empty, and still have a `next_cursor`."""

    entries: list[SearchHistoryEntry]
    next_cursor: str | None = None


class ClickstreamEvent(LayerModel):
    """A document that was fetched; `trace_id` is that of the search it belongs to."""

    timestamp: str
    timestamp_nanos: int
    trace_id: str
    namespace: str
    doc_id: str
    tags: list[str]
    source: str
    served_from: str


class ClickstreamListResponse(LayerModel):
    """Newest first. A page may be short, or empty, and still have a `next_cursor`."""

    events: list[ClickstreamEvent]
    next_cursor: str | None = None


class MetricAlert(LayerModel):
    """An alert rule; `for_` is a Prometheus duration."""

    summary: str
    expr: str
    for_: str = Field(alias="for")


class MetricCatalogEntry(LayerModel):
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    family: MetricFamily
    labels: list[str]
    description: str
    example_promql: str
    alert: MetricAlert | None = None


class MetricCatalog(LayerModel):
    version: str
    entries: list[MetricCatalogEntry]


class PrometheusResponse(LayerModel):
    """Prometheus's own answer: `status` and `data`."""

    status: str | None = None
    data: Any = None


class HealthResponse(LayerModel):
    status: str
    version: str
