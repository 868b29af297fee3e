"""The document cache's kernels: records, rows, schemas, the engines and the write clock."""

from hevlayer._native import (
    AerospikeEngine,
    DocCacheEngine,
    DocCacheError,
    DocProjection,
    DocRows,
    DocSchema,
    WriteClock,
    WrittenRows,
)

__all__ = [
    "AerospikeEngine",
    "DocCacheEngine",
    "DocCacheError",
    "DocProjection",
    "DocRows",
    "DocSchema",
    "WriteClock",
    "WrittenRows",
]
