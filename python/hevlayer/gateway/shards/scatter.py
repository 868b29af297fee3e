"""A ranked query cut into legs, one a shard: which queries can be, and what each leg asks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from hevlayer.wire.reserved import SHARD_ATTRIBUTE

# Sub-queries that the upstream takes in one body, and rows that it gives to one.
LEGS_PER_REQUEST_MAX = 16
ROWS_MAX = 10_000
KNN_PERMITS = 2

_VECTOR_RANKINGS = ("ANN", "kNN", "SparseKNN")
_SCORES = ("Sum", "Max", "Product", "Attribute", "Saturate", "Decay")
# Keys that a leg keeps; `_TOP` ones stand once, beside the legs. With any other key the query goes up as it is.
_KEPT = ("rank_by", "include_attributes", "exclude_attributes", "compute_attributes", "distance_metric")
_TOP = ("consistency", "vector_encoding")
_READ = ("limit", "top_k", "offset", "filters")


class Scatter(NamedTuple):
    """Bodies that together ask what the query asks, and how their answers become one.

    `permits` is what each of them takes of the upstream's.
    """

    bodies: tuple[bytes, ...]
    permits: tuple[int, ...]
    offset: int
    limit: int
    descending: bool


def plan_scatter(body: bytes, shards: int, *, text: bool, permits_max: int) -> Scatter | None:
    """How a query is scattered; None: it goes up as the one request that it is.

    Args:
        body: the native body as it would go upstream.
        text: full-text and score rankings scatter too.
        permits_max: what one request may take of the upstream's permits.
    """
    try:
        query = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(query, dict):
        return None
    query = {key: value for key, value in query.items() if value is not None}
    if not query.keys() <= {*_KEPT, *_TOP, *_READ}:
        return None
    descending = _descending(query.get("rank_by"), text)
    window = _window(query)
    if descending is None or window is None:
        return None
    is_knn = query["rank_by"][1] == "kNN"
    # A leg's own filter must not make up for the one that an exhaustive search has to have.
    if is_knn and "filters" not in query:
        return None
    cost = KNN_PERMITS if is_knn else 1
    offset, limit = window
    return Scatter(*_bodies(query, shards, offset + limit, cost, permits_max), offset, limit, descending)


def _descending(rank_by: object, text: bool) -> bool | None:
    """Whether the best rows have the largest `$dist`; None: this ranking does not scatter."""
    if not isinstance(rank_by, list) or len(rank_by) < 2 or not isinstance(rank_by[0], str):
        return None
    operator = rank_by[1]
    if operator in _VECTOR_RANKINGS and len(rank_by) == 3:
        value = rank_by[2]
        # Text to be embedded would be embedded, and paid for, once a leg.
        if isinstance(value, list) and value and isinstance(value[0], str):
            return None
        return bool(operator == "SparseKNN")
    if not text:
        return None
    if operator == "BM25" and len(rank_by) in (3, 4):
        return True
    return True if rank_by[0] in _SCORES and not isinstance(operator, str) else None


def _window(query: Mapping[str, Any]) -> tuple[int, int] | None:
    """(offset, limit) of a total limit; None: another kind, or one that the upstream refuses."""
    if "limit" in query and "top_k" in query:
        return None
    limit = query.get("limit", query.get("top_k"))
    if isinstance(limit, dict):
        if limit.keys() != {"total"}:
            return None
        limit = limit["total"]
    offset = query.get("offset", 0)
    if type(limit) is not int or type(offset) is not int:
        return None
    return (offset, limit) if limit >= 1 and offset >= 0 and offset + limit <= ROWS_MAX else None


def _bodies(
    query: Mapping[str, Any], shards: int, rows: int, cost: int, permits_max: int
) -> tuple[tuple[bytes, ...], tuple[int, ...]]:
    # The query's own parts are written once: a vector is long.
    kept = orjson.dumps({**{key: query[key] for key in _KEPT if key in query}, "limit": rows})[:-1]
    top = orjson.dumps({key: query[key] for key in _TOP if key in query})[1:-1]
    filters = orjson.dumps(query["filters"]) if "filters" in query else None
    legs = [b'%b,"filters":%b}' % (kept, _joined(filters, leg_filter(shard, shards))) for shard in range(shards)]
    size = max(1, min(LEGS_PER_REQUEST_MAX, permits_max // cost))
    batches = [legs[start : start + size] for start in range(0, shards, size)]
    tail = b"," + top if top else b""
    bodies = tuple(b'{"queries":[%b]%b}' % (b",".join(batch), tail) for batch in batches)
    return bodies, tuple(len(batch) * cost for batch in batches)


def leg_filter(shard: int, shards: int) -> Sequence[object]:
    """The filter of one leg. The last one takes what no other does: rows without a shard and with a foreign one."""
    if shard < shards - 1:
        return [SHARD_ATTRIBUTE, "Eq", shard]
    return [SHARD_ATTRIBUTE, "NotIn", list(range(shards - 1))]


def _joined(filters: bytes | None, own: Sequence[object]) -> bytes:
    if filters is None:
        return orjson.dumps(own)
    return b'["And",[%b,%b]]' % (filters, orjson.dumps(own))
