"""The client's operations against the gateway's routes."""

from hevlayer.client.api import OPERATIONS
from hevlayer.gateway.routes import ROUTES

# What the client leaves to others.
NOT_OFFERED = {
    "PATCH /v2/namespaces/{namespace}": "write_namespace patches too",
    "POST /v1/vectors/{namespace}/query": "an alias",
    "GET /v1/namespaces/{namespace}/search-history": "an alias",
    "GET /v1/namespaces/{namespace}/clickstream": "an alias",
    "POST /v1/namespaces/{namespace}": "the older write, which is not stamped",
    "GET /v1/namespaces/{namespace}": "the older export",
    "HEAD /v1/namespaces/{namespace}": "get_namespace_metadata tells it too",
    "GET /v1/namespaces/{namespace}/_debug/purge_cache": "debugging",
    "GET /v1/namespaces/{namespace}/_debug/warm_cache": "debugging",
    "POST /v2/namespaces/{namespace}/read_only_optimize": "undocumented upstream",
    "POST /v2/metrics/query": "get does the same",
    "POST /v2/metrics/query_range": "get does the same",
    "POST /v2/metrics/api/v1/query": "get does the same",
    "POST /v2/metrics/api/v1/query_range": "get does the same",
    "GET /ready": "for load balancers",
    "GET /openapi.json": "for tools",
}


def plain(method, path):
    """A route without the names of its parameters, but for the namespace's."""
    parts = [part if part in ("", "{namespace}") or part[0] != "{" else "{}" for part in path.split("/")]
    return f"{method} {'/'.join(parts)}"


OFFERED = {plain(each.method, each.path) for each in OPERATIONS.values()}
SERVED = {plain(each.method, each.pattern) for each in ROUTES}
# Snapshots are served from the next version on.
AWAITED = {plain(each.method, each.path) for each in OPERATIONS.values() if each.group == "snapshots"}


def test_every_operation_has_a_route():
    assert OFFERED - SERVED <= AWAITED


def test_every_route_has_an_operation_or_a_reason():
    assert set(NOT_OFFERED) == SERVED - OFFERED


def test_names_and_parameters_are_told_once():
    for operation in OPERATIONS.values():
        names = [*operation.path_parameters, *(each.name for each in operation.params), *operation.context]
        assert len(set(names)) == len(names)
        assert operation.summary.endswith(".")
        assert all(each.text for each in operation.params)
