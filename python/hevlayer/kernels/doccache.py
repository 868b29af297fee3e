"""The document cache's kernels: records, rows, the embedded engine and the write clock."""

from hevlayer._native import DocCacheEngine, DocCacheError, DocProjection, DocRows, WriteClock

__all__ = ["DocCacheEngine", "DocCacheError", "DocProjection", "DocRows", "WriteClock"]
