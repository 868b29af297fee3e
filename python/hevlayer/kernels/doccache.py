"""The document cache's kernels: records, rows, schemas and the engines."""

from hevlayer._native import (
    AerospikeEngine,
    DocCacheEngine,
    DocCacheError,
    DocCachePending,
    DocProjection,
    DocRows,
    DocScan,
    DocSchema,
    FetchHits,
    WrittenRows,
    distrust_doccache,
)

__all__ = [
    "AerospikeEngine",
    "DocCacheEngine",
    "DocCacheError",
    "DocCachePending",
    "DocProjection",
    "DocRows",
    "DocScan",
    "DocSchema",
    "FetchHits",
    "WrittenRows",
    "distrust_doccache",
]
