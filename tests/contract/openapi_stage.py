"""A gateway with documents in it, and the document narrowed to them: so that generated requests find something."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from contract_support import CALL_TIMEOUT_SECONDS, Target

from hevlayer.gateway.openapi import build_document
from hevlayer.gateway.openapi.shapes import array, boolean, either, fixed, integer, number, obj, ref, string, words

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
    year, score = integer(minimum=1940, maximum=1980), number(minimum=0, maximum=12)
    title, tag = words("film", "the film number 3", "number", "x"), words("odd", "even", "film")
    film_id, vector = integer(minimum=1, maximum=25), array(number(minimum=-9, maximum=9), least=2, most=2)
    ordered = words("Eq", "NotEq", "Lt", "Lte", "Gt", "Gte")
    comparisons = [fixed({"const": name}, ordered, value) for name, value in (("year", year), ("score", score))]
    comparisons += [
        fixed({"const": "id"}, words("In", "NotIn"), array(film_id, least=1, most=3)),
        fixed({"const": "title"}, words("Glob", "IGlob", "NotGlob"), words("*film*", "the ?ilm*", "[x-z]*")),
        fixed({"const": "title"}, words("ContainsAllTokens", "ContainsAnyToken", "ContainsTokenSequence"), title),
        fixed({"const": "tags"}, words("Contains", "NotContains"), tag),
        fixed({"const": "tags"}, words("ContainsAny", "NotContainsAny"), array(tag, least=1, most=2)),
        fixed({"const": "year"}, words("Eq", "NotEq"), {"type": "null"}),
    ]
    bm25 = fixed({"const": "title"}, {"const": "BM25"}, title)
    ranking = either(
        fixed({"const": "vector"}, {"const": "ANN"}, vector),
        bm25,
        fixed({"const": "Sum"}, array(bm25, least=1, most=3)),
        fixed({"const": "Product"}, number(minimum=0, maximum=3), bm25),
        fixed(words("year", "score", "id"), words("asc", "desc")),
        array(fixed(words("year", "score"), words("asc", "desc")), least=1, most=2),
    )
    shown = either(boolean(), array(words("title", "year", "tags", "vector"), most=3))
    limit = integer(minimum=1, maximum=30)
    ranked = {"rank_by": ranking, "limit": limit, "filters": ref("Filter"), "include_attributes": shown}
    counted = {
        "aggregate_by": obj({"n": fixed({"const": "Count"}), "s": fixed({"const": "Sum"}, {"const": "year"})}, ["n"]),
        "filters": ref("Filter"),
    }
    grouped = {"group_by": array(words("year", "title"), least=1, most=1), "limit": limit}
    row = obj({"id": film_id, "vector": vector, "title": string(), "year": year, "tags": array(tag)}, ["id", "vector"])
    patch = obj({"id": film_id, "title": string(), "year": year}, ["id"])
    attributes = obj({"title": string(), "year": year})
    native_query = either(
        _closed(ranked, "rank_by", "limit"),
        _closed(counted, "aggregate_by"),
        _closed({**counted, **grouped}, "aggregate_by", "group_by", "limit"),
    )
    return {
        "Filter": either(
            *comparisons,
            fixed(words("And", "Or"), array(either(*comparisons), most=3)),
            fixed({"const": "Not"}, either(*comparisons)),
        ),
        "NativeQuery": native_query,
        "MultiQuery": _closed({"queries": array(native_query, least=1, most=4)}, "queries"),
        "LayerQuery": either(
            _closed({"vector": vector, "top_k": limit, "include_attributes": shown}, "vector", "top_k"),
            _closed({"nearest_to_id": film_id, "top_k": limit, "filters": ref("Filter")}, "nearest_to_id", "top_k"),
        ),
        "LegacyQuery": native_query,
        "RecallRequest": _closed({"num": integer(minimum=1, maximum=5), "top_k": limit}),
        "NativeWrite": either(
            _closed({"upsert_rows": _distinct(row), "return_affected_ids": boolean()}, "upsert_rows"),
            _closed({"patch_rows": _distinct(patch)}, "patch_rows"),
            _closed({"deletes": array(film_id, most=1), "delete_condition": ref("Filter")}, "deletes"),
            _closed({"delete_by_filter": ref("Filter"), "return_affected_ids": boolean()}, "delete_by_filter"),
            _closed({"patch_by_filter": obj({"filters": ref("Filter"), "patch": attributes}, ["filters", "patch"])}),
        ),
        "LayerWrite": either(
            _closed({"upserts": _distinct(_closed({"id": film_id, "vector": vector, "attributes": attributes}, "id", "vector"))}, "upserts"),
            _closed({"patches": _distinct(_closed({"id": film_id, "attributes": attributes}, "id"))}, "patches"),
        ),
        "PatchRequest": _closed({"patches": _distinct(_closed({"id": film_id, "attributes": attributes}, "id"))}, "patches"),
        "SchemaChange": _closed({"year": obj({"type": {"const": "int"}, "filterable": boolean()}, ["type", "filterable"])}),
        "FetchRequest": _closed({"ids": array(film_id), "include_attributes": array(words(*ATTRIBUTES))}, "ids"),
    }  # fmt: skip


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {**obj(properties, required), "additionalProperties": False}


def _distinct(row: dict[str, Any]) -> dict[str, Any]:
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
