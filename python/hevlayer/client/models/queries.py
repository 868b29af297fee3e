"""Queries, counts of ranked queries, recall, and their answers."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from hevlayer.client.models.base import LayerModel


class QueryRequest(LayerModel):
    """A query: the Layer dialect (`vector` or `nearest_to_id` with `top_k`) or a native one (`rank_by`, …).

    `filters` and `rank_by` are written as Turbopuffer has them: `["year", "Gte", 1990]`, `["vector", "ANN", […]]`.
    """

    vector: Sequence[float] | None = None
    nearest_to_id: str | int | Sequence[str | int] | None = None
    top_k: int | None = None
    limit: int | dict[str, Any] | None = None
    filters: Any = None
    rank_by: Sequence[Any] | None = None
    include_attributes: bool | Sequence[str] | None = None


class TurbopufferQueryRequest(LayerModel):
    """One native query; its fields are Turbopuffer's."""


class BatchQueryRequest(LayerModel):
    """Up to 16 native queries that see the same data."""

    queries: list[TurbopufferQueryRequest | dict[str, Any]]
    rerank_by: Any = None
    limit: int | dict[str, Any] | None = None
    consistency: dict[str, Any] | None = None
    vector_encoding: str | None = None


class TurbopufferQueryResponse(LayerModel):
    """The answer to one native query. `rows` is None when only aggregates were asked for.

    Rows are flat: `id`, `$dist` and the attributes that were asked for.
    """

    rows: list[dict[str, Any]] | None = None
    aggregations: dict[str, Any] | None = None
    aggregation_groups: list[dict[str, Any]] | None = None
    billing: dict[str, Any] | None = None
    performance: dict[str, Any] | None = None
    stable_as_of: int | None = None


class QueryResponse(LayerModel):
    """The answer to `query_namespace`. `rows` is empty when only aggregates were asked for.

    `stable_as_of` is in epoch milliseconds: every write up to then is in the answer.
    """

    rows: list[dict[str, Any]] = Field(default_factory=list)
    # Of the Layer dialect, `{id, dist, attributes}`; of several queries in one body, one answer each.
    results: list[dict[str, Any]] | None = None
    aggregations: dict[str, Any] | None = None
    aggregation_groups: list[dict[str, Any]] | None = None
    billing: dict[str, Any] | None = None
    performance: dict[str, Any] | None = None
    stable_as_of: int | None = None
    next_cursor: str | None = None


class BatchQueryResponse(LayerModel):
    """One answer for each query, in order; one in all where they were fused."""

    results: list[TurbopufferQueryResponse]
    billing: dict[str, Any] | None = None
    performance: dict[str, Any] | None = None
    stable_as_of: int | None = None


class TurbopufferExplainQueryResponse(LayerModel):
    plan_text: str | None = None


class TurbopufferRecallRequest(LayerModel):
    """How many sampled vectors (`num`) to search for `top_k` neighbours, once by index and once by looking at all."""

    num: int | None = None
    top_k: int | None = None
    filters: Any = None
    rank_by: Any = None
    include_ground_truth: bool | None = None


class TurbopufferRecallResponse(LayerModel):
    avg_recall: float
    avg_exhaustive_count: float
    avg_ann_count: float
    ground_truth: list[dict[str, Any]] | None = None


class TextCountQuery(LayerModel):
    """Rows whose `field` holds at least one token of `fts`."""

    field: str
    fts: str


class VectorCountQuery(LayerModel):
    """Rows whose vector is at most `max_distance` away."""

    vector: Sequence[float]
    max_distance: float
    field: str | None = None


class ResultCountRequest(LayerModel):
    """Counts the rows of a ranked query. `bounded` asks once; `exhaustive` goes on until the number is exact."""

    query: TextCountQuery | VectorCountQuery | dict[str, Any]
    filters: Any = None
    mode: Literal["bounded", "exhaustive"] | None = None
    timeout_seconds: float | None = None


class ResultCountResponse(LayerModel):
    """`bounded`: the count is a lower bound. `timed_out`: the count is what was found in the time."""

    count: int
    bounded: bool
    timed_out: bool
    shards_saturated: int
    shards_total: int
    elapsed_ms: int
    approximate: bool | None = None
