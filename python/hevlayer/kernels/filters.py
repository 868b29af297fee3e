"""Filters over cached rows: parsed and compiled once, evaluated in Rust over rows or over typed columns.

The upstream's rules for nulls, arrays and types hold; `reference.filters` says them in plain Python.
"""

from hevlayer._native import (
    CancelFlag,
    ColumnTable,
    CompiledFilter,
    FilterRefusedError,
    FilterSchema,
    IdList,
    ScanStoppedError,
)

FILTER_DEPTH_MAX = 48
FILTER_VALUES_MAX = 65_536
FILTER_BYTES_MAX = 8 << 20
PATTERNS_MAX = 100
SCAN_THREADS_MAX = 64

__all__ = [
    "FILTER_BYTES_MAX",
    "FILTER_DEPTH_MAX",
    "FILTER_VALUES_MAX",
    "PATTERNS_MAX",
    "SCAN_THREADS_MAX",
    "CancelFlag",
    "ColumnTable",
    "CompiledFilter",
    "FilterRefusedError",
    "FilterSchema",
    "IdList",
    "ScanStoppedError",
]
