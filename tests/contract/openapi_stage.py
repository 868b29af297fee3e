"""A gateway with documents in it, and the document narrowed to them: so that generated requests find something."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from contract_support import CALL_TIMEOUT_SECONDS, Target

from hevlayer.gateway.openapi import build_document
from hevlayer.gateway.openapi.shapes import array, boolean, either, fixed, number, obj, ref, string, words

NAMESPACES = ("films", "notes", "missing")
ATTRIBUTES = ("id", "vector", "title", "year", "tags", "score", "nowhere")
_PATH_VALUES = {"namespace": NAMESPACES, "doc_id": ("1", "20", "a/b", "ü", "unheard of"), "name": ("up", "a b/c", "%")}

_FILMS = {
    "upsert_rows": [
        {
            "id": number,
            "vector": [number % 3 + 0.5, number % 5 - 1.0],
            "title": f"the film number {number}",
            "year": 1950 + number,
            "tags": ["odd" if number % 2 else "even", "film"],
            "score": number / 2,
        }
        for number in range(1, 21)
    ],
    "distance_metric": "cosine_distance",
    "schema": {
        "title": {"type": "string", "full_text_search": True, "filterable": True},
        "score": {"type": "float", "filterable": True},
    },
}
_NOTES = {"upsert_rows": [{"id": "a/b", "title": "one"}, {"id": "ü", "title": "two", "year": 3}, {"id": "c"}]}


def narrowed_document() -> dict[str, Any]:
    """The document, with the names of namespaces and attributes taken from those that `fill` makes."""
    document = build_document()
    document["components"]["schemas"]["AttributeName"] = {"enum": list(ATTRIBUTES)}
    for item in document["paths"].values():
        for parameter in item.get("parameters", []):
            if parameter["name"] in _PATH_VALUES:
                parameter["schema"] = {"enum": list(_PATH_VALUES[parameter["name"]])}
    return document


def sharpened_document() -> dict[str, Any]:
    """The narrowed document, with bodies that agree with the documents there: most of such requests succeed."""
    document = narrowed_document()
    document["components"]["schemas"].update(_sharp_schemas())
    for item in document["paths"].values():
        for parameter in item.get("parameters", []):
            if parameter["name"] == "namespace":
                parameter["schema"] = {"const": NAMESPACES[0]}
    return document


def _sharp_schemas() -> dict[str, Any]:
    title, tag = words("film", "the film number 3", "number", "x"), words("odd", "even", "film")
    year, film_id, limit = _whole(1940, 1980), _whole(1, 25), _whole(1, 30)
    score, vector = number(minimum=0, maximum=12), array(number(minimum=-9, maximum=9), least=2, most=2)
    ordered, direction, wanted = words("Eq", "NotEq", "Lt", "Lte", "Gt", "Gte"), words("asc", "desc"), ref("Filter")
    comparison = either(
        fixed({"const": "year"}, ordered, year),
        fixed({"const": "year"}, words("Eq", "NotEq"), {"type": "null"}),
        fixed({"const": "score"}, ordered, score),
        fixed({"const": "id"}, words("In", "NotIn"), array(film_id, least=1, most=3)),
        fixed({"const": "title"}, words("Glob", "IGlob", "NotGlob"), words("*film*", "the ?ilm*", "[x-z]*")),
        fixed({"const": "title"}, words("ContainsAllTokens", "ContainsAnyToken", "ContainsTokenSequence"), title),
        fixed({"const": "tags"}, words("Contains", "NotContains"), tag),
        fixed({"const": "tags"}, words("ContainsAny", "NotContainsAny"), array(tag, least=1, most=2)),
    )
    bm25 = fixed({"const": "title"}, {"const": "BM25"}, title)
    ranking = either(
        fixed({"const": "vector"}, {"const": "ANN"}, vector),
        bm25,
        fixed({"const": "Sum"}, array(bm25, least=1, most=3)),
        fixed({"const": "Product"}, number(minimum=0, maximum=3), bm25),
        fixed(words("year", "score", "id"), direction),
        array(fixed(words("year", "score"), direction), least=1, most=2),
    )
    shown = either(boolean(), array(words("title", "year", "tags", "vector"), most=3))
    aggregates = _closed({"n": fixed({"const": "Count"}), "s": fixed({"const": "Sum"}, {"const": "year"})}, "n")
    counted = {"aggregate_by": aggregates, "filters": wanted}
    grouped = {**counted, "group_by": array(words("year", "title"), least=1, most=1), "limit": limit}
    ranked = {"rank_by": ranking, "limit": limit, "filters": wanted, "include_attributes": shown}
    query = either(
        _closed(ranked, "rank_by", "limit"),
        _closed(counted, "aggregate_by"),
        _closed(grouped, "aggregate_by", "group_by", "limit"),
    )
    attributes = {"title": string(), "year": year}
    row = _closed({"id": film_id, "vector": vector, "tags": array(tag), **attributes}, "id", "vector")
    patch = _closed({"id": film_id, **attributes}, "id")
    layer_row = _closed({"id": film_id, "vector": vector, "attributes": _closed(attributes)}, "id", "vector")
    layer_patch = _closed({"id": film_id, "attributes": _closed(attributes)}, "id")
    by_filter = _closed({"filters": wanted, "patch": _closed(attributes)}, "filters", "patch")
    nearest = {"nearest_to_id": _whole(1, 20), "top_k": limit, "filters": wanted}
    text, near = _closed({"field": {"const": "title"}, "query": title}, "field", "query"), number(minimum=0, maximum=50)
    close = _closed({"vector": vector, "radius": near}, "vector", "radius")
    scan = {"source": words("auto", "origin"), "filters": wanted, "threads": _whole(1, 4), "page_size": _whole(1, 30)}
    return {
        "Filter": either(
            comparison,
            fixed(words("And", "Or"), array(comparison, least=1, most=3)),
            fixed({"const": "Not"}, comparison),
        ),
        "NativeQuery": query,
        "MultiQuery": _closed({"queries": array(query, least=1, most=4)}, "queries"),
        "LayerQuery": either(
            _closed({"vector": vector, "top_k": limit, "include_attributes": shown}, "vector", "top_k"),
            _closed(nearest, "nearest_to_id", "top_k"),
        ),
        "LegacyQuery": query,
        "RecallRequest": _closed({"num": _whole(1, 5), "top_k": limit}),
        "NativeWrite": either(
            _closed({"upsert_rows": _one(row), "return_affected_ids": boolean()}, "upsert_rows"),
            _closed({"patch_rows": _one(patch)}, "patch_rows"),
            _closed({"deletes": array(film_id, most=1), "delete_condition": wanted}, "deletes"),
            _closed({"delete_by_filter": wanted, "return_affected_ids": boolean()}, "delete_by_filter"),
            _closed({"patch_by_filter": by_filter}, "patch_by_filter"),
        ),
        "LayerWrite": either(
            _closed({"upserts": _one(layer_row)}, "upserts"), _closed({"patches": _one(layer_patch)}, "patches")
        ),
        "PatchRequest": _closed({"patches": _one(layer_patch)}, "patches"),
        "SchemaChange": _closed(
            {"year": _closed({"type": {"const": "int"}, "filterable": boolean()}, "type", "filterable")}
        ),
        "ScanRequest": either(
            _closed({"mode": words("ids", "count"), **scan}),
            _closed({"mode": words("ids", "count"), "fts": text, **scan}, "fts"),
            _closed({"mode": words("ids", "count"), "ann": close, **scan}, "ann"),
            _closed({"mode": {"const": "values"}, "field": words("year", "title", "tags"), **scan}, "mode", "field"),
        ),
        "SnapshotRequest": _closed(
            {"field": words("year", "title", "tags", "score"), "source": words("auto", "origin"), "filters": wanted},
            "field",
        ),
        "ResultCountRequest": _closed(
            {
                "query": either(
                    _closed({"field": {"const": "title"}, "fts": title}, "field", "fts"),
                    _closed({"vector": vector, "max_distance": near}, "vector", "max_distance"),
                ),
                "filters": wanted,
                "mode": words("bounded", "exhaustive"),
            },
            "query",
        ),
        "MetadataChange": _closed({"pinning": boolean(), "read_only": {"const": False}}),
        "CopyRequest": _closed({"copy_from_namespace": words(*NAMESPACES)}, "copy_from_namespace"),
        "FetchRequest": _closed({"ids": array(film_id), "include_attributes": array(words(*ATTRIBUTES))}, "ids"),
    }


def _whole(minimum: int, maximum: int) -> dict[str, Any]:
    """Numbers that are written without a fraction: JSON Schema takes 3.0 for an integer, the API does not."""
    return {"enum": list(range(minimum, maximum + 1))}


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {**obj(properties, required), "additionalProperties": False}


def _one(row: dict[str, Any]) -> dict[str, Any]:
    """One row: an id may not stand twice in a request."""
    return array(row, least=1, most=1)


def fill(target: Target) -> None:
    """Puts documents into the namespaces; what a run did to them is gone."""
    _call(target, "PATCH", "/v1/namespaces/films/metadata", {"read_only": False, "pinning": None})
    for name in NAMESPACES:
        _call(target, "DELETE", f"/v2/namespaces/{name}")
    assert _call(target, "POST", "/v2/namespaces/films", _FILMS) == 200
    assert _call(target, "POST", "/v2/namespaces/notes", _NOTES) == 200


def _call(target: Target, method: str, path: str, body: object = None) -> int:
    parts = urlsplit(target.base_url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=CALL_TIMEOUT_SECONDS)
    try:
        headers = {"authorization": f"Bearer {target.token}"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse().status
    finally:
        connection.close()
