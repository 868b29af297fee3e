"""What Turbopuffer itself can answer when the gateway cannot be reached, and how it is asked.

Only what needs nothing that the gateway keeps: native bodies, and a search by a vector in the Layer dialect.
"""

from collections.abc import Mapping
from typing import Any

from hevlayer.client import models
from hevlayer.client.operation import Direct, Operation, Prepared, as_json

_LAYER_WRITE_KEYS = frozenset({"upserts", "patches"})
_LAYER_QUERY_KEYS = frozenset({"nearest_to_id", "as_of", "between", "cursor", "include_leg_breakdown"})
_LAYER_RANKINGS = frozenset({"HybridText", "Auto"})
_RESERVED_PREFIX = "_hevlayer_"
_WRITES = frozenset({"write_namespace"})
# The gateway refuses these names; a stamp that came around it would mislead every later stable read.
_RESERVED_TEXT = f'"{_RESERVED_PREFIX}'.encode()


def direct_request(operation: Operation[Any], prepared: Prepared) -> Prepared | None:
    """The same request as Turbopuffer takes it; None when it needs the gateway."""
    match operation.direct:
        case Direct.NEVER:
            return None
        case Direct.ALWAYS:
            return _without_context(prepared, prepared.body)
    if not isinstance(prepared.body, Mapping):
        return None
    body = dict(prepared.body)
    if operation.name in _WRITES:
        needs_gateway = _LAYER_WRITE_KEYS & body.keys() or _RESERVED_TEXT in (prepared.content or b"")
        return None if needs_gateway else _without_context(prepared, body)
    native = _native_query(body)
    return None if native is None else _without_context(prepared, native)


def layer_shape(prepared: Prepared, data: Any) -> None:
    """Gives an answer of Turbopuffer what the gateway would have given it; changes `data`.

    No reserved attributes unless they were named, and `results` for a query in the Layer dialect.
    """
    body = prepared.body if isinstance(prepared.body, Mapping) else {}
    if isinstance(data, models.NamespaceMetadata):
        data.schema = _without_reserved(data.schema)
    elif isinstance(data, models.TurbopufferSchema):
        data.__pydantic_extra__ = _without_reserved(data.model_extra or {})
    elif isinstance(data, models.BatchQueryResponse):
        for leg, result in zip(body.get("queries", ()), data.results, strict=False):
            _hide_reserved(leg, result.rows)
    elif isinstance(data, (models.QueryResponse, models.TurbopufferQueryResponse)):
        _hide_reserved(body, data.rows)
        if isinstance(data, models.QueryResponse):
            _complete(body, data)


def _complete(body: Mapping[str, Any], data: models.QueryResponse) -> None:
    if "queries" in body:
        for leg, result in zip(body["queries"], data.results or (), strict=False):
            _hide_reserved(leg, result.get("rows"))
    elif "vector" in body:
        data.results = [
            {
                "id": row["id"],
                "dist": row.get("$dist"),
                "attributes": {name: value for name, value in row.items() if name not in ("id", "$dist")},
            }
            for row in data.rows
        ]


def _hide_reserved(query: Mapping[str, Any], rows: list[dict[str, Any]] | None) -> None:
    wanted = query.get("include_attributes")
    named = set(wanted) if isinstance(wanted, (list, tuple)) else set()
    for row in rows or ():
        for name in [each for each in row if each.startswith(_RESERVED_PREFIX) and each not in named]:
            del row[name]


def _without_reserved(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if not name.startswith(_RESERVED_PREFIX)}


def _native_query(body: dict[str, Any]) -> dict[str, Any] | None:
    if _LAYER_QUERY_KEYS & body.keys() or _names_layer_ranking(body.get("rank_by")):
        return None
    if any(not isinstance(leg, Mapping) or _native_query(dict(leg)) != leg for leg in body.get("queries") or ()):
        return None
    if "vector" not in body:
        return body
    if "rank_by" in body:
        return None
    vector = body.pop("vector")
    return {**body, "rank_by": ["vector", "ANN", vector]}


def _names_layer_ranking(rank_by: Any) -> bool:
    if isinstance(rank_by, str):
        return rank_by in _LAYER_RANKINGS
    if not isinstance(rank_by, (list, tuple)):
        return False
    # Vectors are long and hold no names.
    return any(_names_layer_ranking(each) for each in rank_by if isinstance(each, (str, list, tuple)))


def _without_context(prepared: Prepared, body: Any) -> Prepared:
    """Tags and the text of a search are for the gateway; Turbopuffer gets none of them."""
    headers = {name: value for name, value in prepared.headers.items() if not name.startswith("x-hevlayer-")}
    if body is prepared.body:
        return Prepared(prepared.method, prepared.target, headers, body, prepared.content)
    return Prepared(prepared.method, prepared.target, headers, body, None if body is None else as_json(body))
