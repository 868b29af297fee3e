"""The upstream's routes as data. A request is matched by method and path; a region in front of the path is ignored."""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

NAMESPACE_CHARS_MAX = 128

_NAMESPACE = re.compile(r"[A-Za-z0-9\-_.]*")
_VERSIONS = frozenset({"v1", "v2"})


@dataclass(frozen=True, slots=True)
class Route:
    """`segments` is the path split at `/`; `{namespace}` and `{token}` stand for one segment each."""

    name: str
    method: str
    segments: tuple[str, ...]


def _route(name: str, method: str, path: str) -> Route:
    return Route(name, method, tuple(path.strip("/").split("/")))


ROUTES: tuple[Route, ...] = (
    _route("list", "GET", "/v1/namespaces"),
    _route("schema", "GET", "/v1/namespaces/{namespace}/schema"),
    _route("update_schema", "POST", "/v1/namespaces/{namespace}/schema"),
    _route("metadata", "GET", "/v2/namespaces/{namespace}/metadata"),
    _route("metadata_v1", "GET", "/v1/namespaces/{namespace}/metadata"),
    _route("update_metadata", "PATCH", "/v1/namespaces/{namespace}/metadata"),
    _route("warm", "GET", "/v1/namespaces/{namespace}/hint_cache_warm"),
    _route("recall", "POST", "/v1/namespaces/{namespace}/_debug/recall"),
    _route("warm_cache", "GET", "/v1/namespaces/{namespace}/_debug/warm_cache"),
    _route("purge_cache", "GET", "/v1/namespaces/{namespace}/_debug/purge_cache"),
    _route("write", "POST", "/v2/namespaces/{namespace}"),
    _route("write_async", "POST", "/v2/namespaces/{namespace}/async"),
    _route("operation", "GET", "/v1/namespaces/{namespace}/operations/{token}"),
    _route("delete", "DELETE", "/v2/namespaces/{namespace}"),
    _route("query", "POST", "/v2/namespaces/{namespace}/query"),
    _route("query_v1", "POST", "/v1/namespaces/{namespace}/query"),
    _route("explain_query", "POST", "/v2/namespaces/{namespace}/explain_query"),
)

ROUTE_NAMES: frozenset[str] = frozenset(route.name for route in ROUTES)
METHODS: frozenset[str] = frozenset(route.method for route in ROUTES)


@dataclass(frozen=True, slots=True)
class Matched:
    """`path` is canonical: no region, nothing percent-encoded, and safe to hand to the engine."""

    route: Route
    namespace: str
    path: str


class NamespaceNameError(Exception):
    """A namespace name that breaks the URL rule. Its text is the upstream's plain-text answer."""


def _check_namespace(segment: str) -> str:
    # Bytes that are not UTF-8 become U+FFFD, which the rule refuses like any other character outside of it.
    name = unquote_to_bytes(segment).decode("utf-8", "replace")
    if not name or _NAMESPACE.fullmatch(name) is None:
        raise NamespaceNameError("Invalid URL: Namespace contains invalid characters, must be [A-Za-z0-9-_.]")
    if len(name) > NAMESPACE_CHARS_MAX:
        raise NamespaceNameError(
            f"Invalid URL: Namespace `{name}` is too long, limit is currently {NAMESPACE_CHARS_MAX} characters"
        )
    return name


def _match_one(route: Route, segments: list[str]) -> bool:
    return len(route.segments) == len(segments) and all(
        pattern.startswith("{") or pattern == segment for pattern, segment in zip(route.segments, segments, strict=True)
    )


def match(method: str, path: str) -> Matched | None:
    """The route of a request, or None when the API has none.

    Args:
        path: the request target's path, still percent-encoded.
    Raises: NamespaceNameError: there is a route, but the name in it is not one.
    """
    segments = path.removeprefix("/").split("/")
    if len(segments) > 1 and segments[0] not in _VERSIONS and segments[1] in _VERSIONS:
        segments = segments[1:]
    for route in ROUTES:
        if route.method == method and _match_one(route, segments):
            namespace = ""
            if "{namespace}" in route.segments:
                namespace = _check_namespace(segments[2])
                segments[2] = namespace
            return Matched(route, namespace, "/" + "/".join(segments))
    return None
