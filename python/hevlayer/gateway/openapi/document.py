"""Builds the document: one path item for each pattern of the route table, one operation for each row."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hevlayer import __version__
from hevlayer.gateway.openapi import (
    history_schemas,
    job_schemas,
    namespace_schemas,
    query_schemas,
    snapshot_schemas,
    values,
    write_schemas,
)
from hevlayer.gateway.openapi.answers import refusal_components
from hevlayer.gateway.openapi.operations import OPERATIONS, Operation
from hevlayer.gateway.openapi.shapes import Schema, string
from hevlayer.gateway.router import Access, RouteSpec
from hevlayer.gateway.routes import ROUTES

OPENAPI_VERSION = "3.1.0"
_BEARER = "bearer"
_INFO = """\
The Turbopuffer API with stable reads, cached documents and observability.

A path that is not listed answers 404, another method on a listed path 405 with `Allow`. One path segment in front of
`/v1` and `/v2` is taken as a region. Errors of the gateway are `{status, error, message}`; errors of the upstream come
back byte for byte, some of them as plain text. Fields that are not described pass through to the upstream."""

_PATH_PARAMETERS: dict[str, tuple[str, Schema]] = {
    "namespace": (
        "The namespace's name.",
        string(pattern="^[A-Za-z0-9._-]{1,128}$", minLength=1, maxLength=128),
    ),
    "doc_id": (
        "The document's id, percent-encoded, read by the namespace's kind of ids; it may contain slashes.",
        string(minLength=1),
    ),
    "sha": ("SHA-256 of the counts in hex, or its first seven characters.", string(pattern="^[0-9a-f]{7,64}$")),
    "job_id": ("The job's id.", string(minLength=1)),
    "token": ("What the start of the operation answered.", string(minLength=1)),
    "name": ("The metric's name.", string(minLength=1)),
}
# Rows that share an operation but not a method or a path: what their description and id are called.
_FORM_OPERATIONS = {"promql": "promql_form", "promql_range": "promql_range_form"}


def path_of(pattern: str) -> str:
    """A route's pattern as OpenAPI writes it."""
    return pattern.replace("*}", "}")


def description_key(spec: RouteSpec) -> str:
    """The key in OPERATIONS that describes a row."""
    if spec.method == "PATCH" and spec.operation == "write":
        return "write_patch"
    if spec.method == "POST":
        return _FORM_OPERATIONS.get(spec.operation, spec.operation)
    return spec.operation


def operation_id(spec: RouteSpec, routes: Sequence[RouteSpec] = ROUTES) -> str:
    """A name of its own for each row: its description's key, with the last words of its path where that is shared."""
    key = description_key(spec)
    sharing = [each for each in routes if description_key(each) == key]
    if sharing[0] == spec:
        return key
    words = [part.strip("{}*") for part in spec.pattern.split("/") if part]
    return f"{key}_{words[1]}" if words[1] != "namespaces" else f"{key}_{words[0]}"


def build_document(routes: Sequence[RouteSpec] = ROUTES) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a route table.

    Raises: KeyError: a row has no description. ValueError: two rows would have the same operation id.
    """
    paths: dict[str, dict[str, Any]] = {}
    for spec in routes:
        item = paths.setdefault(path_of(spec.pattern), {})
        parameters = _path_parameters(spec.pattern)
        if parameters:
            item["parameters"] = parameters
        item[spec.method.lower()] = _operation(spec, operation_id(spec, routes), OPERATIONS[description_key(spec)])
    shared = [each for each, count in Counter(operation_id(spec, routes) for spec in routes).items() if count > 1]
    if shared:
        raise ValueError(f"operation ids given twice: {', '.join(shared)}")
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "hevlayer gateway",
            "version": __version__,
            "description": _INFO,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This gateway."}],
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in OPERATIONS.values())],
        "paths": paths,
        "components": {
            "schemas": {
                **values.SCHEMAS,
                **query_schemas.SCHEMAS,
                **write_schemas.SCHEMAS,
                **namespace_schemas.SCHEMAS,
                **job_schemas.SCHEMAS,
                **history_schemas.SCHEMAS,
                **snapshot_schemas.SCHEMAS,
            },
            "responses": refusal_components(),
            "securitySchemes": {
                _BEARER: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The gateway's key; without one configured, the upstream's own key.",
                }
            },
        },
    }


def _path_parameters(pattern: str) -> list[dict[str, Any]]:
    names = [part.strip("{}*") for part in pattern.split("/") if part.startswith("{")]
    return [
        {"name": name, "in": "path", "required": True, "description": text, "schema": schema}
        for name in names
        for text, schema in [_PATH_PARAMETERS[name]]
    ]


def _operation(spec: RouteSpec, name: str, described: Operation) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": described.summary,
        "tags": [described.tag],
        "security": _security(spec.access),
    }
    if described.text:
        operation["description"] = described.text
    if described.parameters:
        operation["parameters"] = list(described.parameters)
    if described.body:
        operation["requestBody"] = {
            "required": described.body_required,
            "content": {kind: {"schema": schema} for kind, schema in described.body.items()},
        }
    operation["responses"] = described.responses()
    return operation


def _security(access: Access) -> list[dict[str, list[str]]]:
    match access:
        case Access.OPEN:
            return []
        case Access.OBSERVE | Access.KEYED:
            # A bearer is needed only where a key or a metrics token is configured.
            return [{}, {_BEARER: []}]
        case Access.RELAY | Access.HELD:
            return [{_BEARER: []}]
