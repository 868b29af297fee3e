"""Namespaces, their metadata and their documents."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

from hevlayer.client.models.base import LayerModel


class IndexState(LayerModel):
    status: Literal["updating", "up-to-date"] | None = None
    unindexed_bytes: int | None = None


class NamespaceCacheState(LayerModel):
    """Whether every row is in the document cache (`warm`); `warmed_through_ms` is the stamp of which that is true."""

    state: Literal["cold", "warming", "warm"]
    warmed_through_ms: int | None = None
    warm_inflight: bool


class NamespaceSchemaSummary(LayerModel):
    vector_dim: int | None = None
    fields: list[str] | None = None


class NamespaceListEntry(LayerModel):
    """A namespace as a listing shows it. `metadata_error` says why the rest is missing."""

    name: str
    row_count: int | None = None
    size_bytes: int | None = None
    stable_as_of_ms: int | None = None
    is_stable: bool | None = None
    schema_summary: NamespaceSchemaSummary | None = None
    index: IndexState | None = None
    cache_state: NamespaceCacheState | None = None
    last_write_ms: int | None = None
    shadow: bool | None = None
    labels: dict[str, str] | None = None
    metadata_error: str | None = None


class NamespaceList(LayerModel):
    namespaces: list[NamespaceListEntry]
    next_cursor: str | None = None


class TurbopufferNamespaceSummary(LayerModel):
    id: str


class TurbopufferNamespaceList(LayerModel):
    namespaces: list[TurbopufferNamespaceSummary]
    next_cursor: str | None = None


class NamespaceMetadataLayer(LayerModel):
    """What the gateway knows of a namespace. `stable_as_of` is in epoch milliseconds."""

    stable_as_of: int | None = None
    is_stable: bool | None = None
    indexed: bool | None = None
    index_lag_rows: int | None = None
    schema_version: int | None = None
    init_state: Literal["running", "ready"] | None = None
    init_lag_rows: int | None = None
    shard_count: int | None = None
    shard_state: Literal["unsharded", "backfilling", "ready"] | None = None
    shard_lag_rows: int | None = None
    scatter_gather_active: bool | None = None
    cache_state: NamespaceCacheState | None = None


with warnings.catch_warnings():
    # The field is called as the wire calls it; what it hides is a deprecated method of pydantic.
    warnings.filterwarnings("ignore", message='Field name "schema"', category=UserWarning)

    class NamespaceMetadata(LayerModel):
        """The upstream's metadata, and under `layer` what the gateway knows."""

        id: str
        schema: dict[str, Any]  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]
        approx_logical_bytes: int
        approx_row_count: int
        created_at: str
        updated_at: str
        last_write_at: str | None = None
        config: dict[str, Any] | None = None
        index: IndexState | None = None
        layer: NamespaceMetadataLayer | None = None


class TurbopufferMetadataPatch(LayerModel):
    """`pinning`: `{"replicas": n}`, True, or None to unpin. Only what is set is sent."""

    pinning: Any = None
    read_only: bool | None = None


class TurbopufferSchema(LayerModel):
    """A schema: each attribute by its name."""


class InitNamespaceRequest(LayerModel):
    """Without `shard_count` it tells what is."""

    schema_version: int | None = None
    shard_count: int | None = None


class InitNamespaceResponse(LayerModel):
    namespace: str
    layer: NamespaceMetadataLayer


class Document(LayerModel):
    """A document. Ids of every kind are written as text; `id_type` tells which kind it is."""

    id: str
    attributes: dict[str, Any]
    id_type: Literal["string", "uint", "uuid"] | None = None


class FetchDocumentsRequest(LayerModel):
    """Up to 10,000 ids. Vectors come only when they are named in `include_attributes`."""

    ids: Sequence[str | int]
    include_attributes: Sequence[str] | None = None


class FetchDocumentsResponse(LayerModel):
    """Each document once, at its first mention; ids that have none under `missing`."""

    documents: list[Document]
    missing: list[str]
    id_type: Literal["string", "uint", "uuid"] | None = None
