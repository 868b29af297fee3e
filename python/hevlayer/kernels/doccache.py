"""The document cache's kernels: records, rows, schemas, the embedded engine and the write clock."""

from hevlayer._native import (
    DocCacheEngine,
    DocCacheError,
    DocProjection,
    DocRows,
    DocSchema,
    WriteClock,
    WrittenRows,
)

__all__ = [
    "DocCacheEngine",
    "DocCacheError",
    "DocProjection",
    "DocRows",
    "DocSchema",
    "WriteClock",
    "WrittenRows",
]
