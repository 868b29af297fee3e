"""The OpenAPI document: true to the route table and to the errors, valid, and served."""

import re

import jsonschema_rs
import orjson
import pytest
import schemathesis

from hevlayer import errors
from hevlayer.gateway.openapi import OpenApiRoutes, build_document, operation_id
from hevlayer.gateway.openapi.answers import REFUSALS
from hevlayer.gateway.openapi.document import path_of
from hevlayer.gateway.openapi.operations import OPERATIONS
from hevlayer.gateway.openapi.values import ERROR_CODES
from hevlayer.gateway.router import Access, RouteSpec
from hevlayer.gateway.routes import ROUTES

DOCUMENT = build_document()
METHODS = {"get", "put", "post", "delete", "head", "patch"}
# Raised before anything is served.
_NEVER_ANSWERED = {"configuration_error"}


def operations() -> dict[tuple[str, str], dict]:
    return {
        (method.upper(), path): operation
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def references(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(value) for value in node))
    return set()


def error_classes(base: type[errors.LayerError] = errors.LayerError) -> set[type[errors.LayerError]]:
    return {base}.union(*(error_classes(each) for each in base.__subclasses__()))


def test_it_is_openapi_3_1():
    schemathesis.openapi.from_dict(build_document()).validate()


def test_a_broken_document_does_not_validate():
    broken = build_document()
    del broken["info"]["title"]
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(broken).validate()


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_every_schema_is_json_schema(name):
    jsonschema_rs.meta.validate(DOCUMENT["components"]["schemas"][name])


def test_it_has_the_routes_of_the_table_and_no_others():
    assert set(operations()) == {(spec.method, path_of(spec.pattern)) for spec in ROUTES}


def test_every_description_is_used():
    described = {operation["summary"] for operation in operations().values()}
    assert {operation.summary for operation in OPERATIONS.values()} == described


def test_a_route_without_a_description_is_refused():
    with pytest.raises(KeyError, match="unheard_of"):
        build_document([RouteSpec("GET", "/x", "x", "unheard_of", Access.OPEN)])


def test_operation_ids_are_unique():
    names = [operation["operationId"] for operation in operations().values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9_]+", name) for name in names)


@pytest.mark.parametrize("spec", ROUTES, ids=operation_id)
def test_what_a_route_needs_is_what_it_says(spec):
    operation = operations()[spec.method, path_of(spec.pattern)]
    bearer = {"bearer": []}
    expected = {
        Access.OPEN: [],
        Access.OBSERVE: [{}, bearer],
        Access.KEYED: [{}, bearer],
        Access.RELAY: [bearer],
        Access.HELD: [bearer],
    }
    assert operation["security"] == expected[spec.access]
    assert ("401" in operation["responses"]) == (spec.access is not Access.OPEN)


@pytest.mark.parametrize("spec", ROUTES, ids=operation_id)
def test_path_parameters_are_those_of_the_pattern(spec):
    item = DOCUMENT["paths"][path_of(spec.pattern)]
    names = [parameter["name"] for parameter in item.get("parameters", [])]
    assert names == re.findall(r"\{(\w+)\*?\}", spec.pattern)


def test_every_reference_leads_somewhere_and_every_component_is_used():
    used = references(DOCUMENT)
    for each in used:
        node = DOCUMENT
        for part in each.removeprefix("#/").split("/"):
            node = node[part]
    schemas = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert schemas <= used


def test_the_error_codes_are_those_that_are_raised():
    raised = {each.code for each in error_classes()} - _NEVER_ANSWERED
    # The HTTP server refuses some requests before there is an error class for them.
    at_the_door = {"http_version_not_supported", "not_implemented", "request_header_fields_too_large"}
    assert set(ERROR_CODES) == raised | at_the_door


def test_every_error_status_is_described():
    raised = {each.status for each in error_classes() if each.code not in _NEVER_ANSWERED}
    assert raised <= set(REFUSALS)


async def test_it_is_served_as_the_same_bytes():
    routes = OpenApiRoutes()
    first, second = await routes.openapi(None), await routes.openapi(None)
    assert first.status == 200
    assert orjson.loads(first.body) == orjson.loads(orjson.dumps(DOCUMENT))
    assert second.body is first.body
