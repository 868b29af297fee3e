"""Byte-level JSON: bodies are scanned once and edited in place, no tree is built.

Every function releases the GIL for bodies over 16 KiB. A body that is refused raises `SpliceError`; its `code` is
`bad_json` (400), `validation_error` (422) or `not_supported` (422).
"""

from hevlayer._native import (
    QueryScan,
    SpliceError,
    WriteScan,
    affected_ids,
    answer_ids,
    id_key,
    layer_results,
    query_shape,
    separators,
    shard_of,
    strip_rows,
    strip_schema,
    top_level,
    uuid_key,
)
from hevlayer.kernels.reserved import RESERVED_PREFIX, SHARD_ATTRIBUTE, STAMP_ATTRIBUTE

JSON_DEPTH_MAX = 128
SUBQUERIES_MAX = 1024

__all__ = [
    "JSON_DEPTH_MAX",
    "RESERVED_PREFIX",
    "SHARD_ATTRIBUTE",
    "STAMP_ATTRIBUTE",
    "SUBQUERIES_MAX",
    "QueryScan",
    "SpliceError",
    "WriteScan",
    "affected_ids",
    "answer_ids",
    "id_key",
    "layer_results",
    "query_shape",
    "separators",
    "shard_of",
    "strip_rows",
    "strip_schema",
    "top_level",
    "uuid_key",
]
