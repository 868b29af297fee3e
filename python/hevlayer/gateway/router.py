"""The router: a trie over raw path segments, and the context that every handler receives.

Segments are compared and handed on percent-encoded, exactly as they came: an encoded slash never becomes a separator,
and what goes upstream is what the client sent.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, unquote

from hevlayer.errors import BadRequestError, MethodNotAllowedError, NotFoundError
from hevlayer.http.messages import Reply, Request, Response

if TYPE_CHECKING:
    from hevlayer.gateway.auth import Credential, Grant

NAMESPACE_PARAMETER = "namespace"
_ROOTS = frozenset({"v1", "v2"})
# Paths whose match is kept; all are dropped when there are more. Longer paths are not kept.
KEPT_MATCHES_MAX = 4096
KEPT_PATH_CHARS_MAX = 256


class Access(Enum):
    """What a caller must show before a handler runs."""

    OPEN = "open"
    """Nothing."""
    OBSERVE = "observe"
    """Nothing, unless a metrics token is configured."""
    RELAY = "relay"
    """The gateway's key; in pass-through mode the upstream judges the bearer, and nothing that we hold is served."""
    KEYED = "keyed"
    """The gateway's key; in pass-through mode as OBSERVE. For what belongs to the process, not to a namespace."""
    HELD = "held"
    """As RELAY; in pass-through mode the bearer must also have a grant on the namespace."""


class Family(Enum):
    """Which metrics a route feeds, beside the request counter."""

    QUERY = "query"
    WRITE = "write"
    HEAD = "head"
    LIST = "list"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One row of the route table. `{name}` in `pattern` takes one segment; a last `{name*}` takes all that is left."""

    method: str
    pattern: str
    handler: str
    operation: str
    access: Access
    family: Family = Family.OTHER


class RouteContext:
    """One request on its way through the gateway. Mutable: middleware and handlers note what the log and metrics need.

    `namespace` is the decoded name or "" (routes without one); `parameters` are raw (percent-encoded) segments by
    name; `upstream_target` is the request target without `prefix` (b"" or b"/region"), still as sent; `reply` is there
    for quick handlers. The rest are notes: what the query or write was like, how long the upstream took (seconds, all
    calls together), and what an untrusted caller has proved where that is asked for.
    """

    # Class-level defaults: most requests change few of them.
    request_id = ""
    trace_id = ""
    traceparent = b""
    upstream_seconds = 0.0
    upstream_calls = 0
    consistency = ""
    failure = ""
    has_filter = False
    has_rank_by = False
    legs = 0
    shards = 0
    rows = 0
    grant: "Grant | None" = None
    reply: Reply

    def __init__(
        self,
        request: Request,
        route: "Route",
        parameters: Mapping[str, str],
        prefix: bytes,
        credential: "Credential",
        started: float,
    ) -> None:
        self.request = request
        self.route = route
        self.parameters = parameters
        self.prefix = prefix
        self.credential = credential
        self.started = started
        raw = parameters.get(NAMESPACE_PARAMETER, "")
        self.namespace = unquote(raw) if "%" in raw else raw

    @property
    def upstream_target(self) -> bytes:
        target = self.request.target
        return target[len(self.prefix) :] if self.prefix else target

    def parameter(self, name: str) -> str:
        """A path parameter, percent-decoded as UTF-8.

        Raises: BadRequestError: the segment is not UTF-8 once decoded.
        """
        raw = self.parameters[name]
        if "%" not in raw:
            return raw
        try:
            return unquote(raw, errors="strict")
        except UnicodeDecodeError as error:
            raise BadRequestError(f"the path parameter {name} is not valid UTF-8 once percent-decoded") from error

    def query_parameters(self) -> dict[str, str]:
        """The query string, decoded; the last of a repeated name wins."""
        return dict(parse_qsl(self.request.query, keep_blank_values=True))

    def query_values(self, name: str) -> list[str]:
        """Every value of a name in the query string, decoded, as they came."""
        return [value for key, value in parse_qsl(self.request.query, keep_blank_values=True) if key == name]


RouteHandler = Callable[[RouteContext], Awaitable[Response]]


class Finisher(Protocol):
    """What a quick handler needs of the middleware around it."""

    def finish(self, context: RouteContext, status: int, size: int | None) -> None:
        """Measures and logs an answer that is about to be sent; `size` are the bytes of its body."""

    def carry(self, context: RouteContext, answering: Awaitable[Response]) -> Awaitable[Response]:
        """The rest of a request that has to wait after all: its errors become answers, its answer is finished."""


QuickHandler = Callable[[RouteContext, Finisher], bool]
"""Answers a request through `context.reply`, at once or from a callback, without a task. False: it does not, and
nothing has happened yet; the route's handler does. It may raise what a handler may raise."""


class Route:
    """A compiled row: the spec, its handler, and its parts as plain attributes for the hot path."""

    __slots__ = ("access", "family", "handler", "operation", "quick", "spec")

    def __init__(self, spec: RouteSpec, handler: RouteHandler, quick: QuickHandler | None = None) -> None:
        self.spec = spec
        self.handler = handler
        self.quick = quick
        self.operation = spec.operation
        self.access = spec.access
        self.family = spec.family


class _Node:
    __slots__ = ("literal", "methods", "parameter", "rest")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.parameter: tuple[str, _Node] | None = None
        self.rest: tuple[str, _Node] | None = None
        self.methods: dict[str, Route] = {}


class Match:
    """What a path leads to: the routes by method, the raw parameters, and the region prefix ("" when none).

    Many requests share one: nothing in it is ever changed.
    """

    __slots__ = ("methods", "parameters", "region")

    def __init__(self, methods: Mapping[str, Route], parameters: Mapping[str, str], region: str) -> None:
        self.methods = methods
        self.parameters = parameters
        self.region = region


class Router:
    """Finds the route of a method and a raw path."""

    def __init__(
        self,
        specs: Sequence[RouteSpec],
        handlers: Mapping[str, RouteHandler],
        quick: Mapping[str, QuickHandler] | None = None,
    ) -> None:
        """`quick`: quick handlers by the name of the handler that they spare.

        Raises: ValueError: a row names a handler that is not given, or two rows share a method and pattern."""
        self._root = _Node()
        self._matches: dict[str, Match] = {}
        self.routes: list[Route] = []
        for spec in specs:
            if spec.handler not in handlers:
                raise ValueError(f"no handler {spec.handler!r} for {spec.method} {spec.pattern}")
            self._add(Route(spec, handlers[spec.handler], (quick or {}).get(spec.handler)))

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.spec.pattern.split("/")[1:]:
            if segment.endswith("*}"):
                node.rest = node.rest or (segment[1:-2], _Node())
                node = node.rest[1]
            elif segment.startswith("{"):
                node.parameter = node.parameter or (segment[1:-1], _Node())
                node = node.parameter[1]
            else:
                node = node.literal.setdefault(segment, _Node())
        if node.methods.setdefault(route.spec.method, route) is not route:
            raise ValueError(f"{route.spec.method} {route.spec.pattern} is in the table twice")
        self.routes.append(route)

    def resolve(self, path: str) -> Match | None:
        """The node a raw path leads to, with at most one leading region segment; None when there is none."""
        segments = path.split("/")
        parameters: dict[str, str] = {}
        node = self._walk(segments, 1, parameters)
        if node is not None:
            return Match(node.methods, parameters, "")
        if len(segments) > 2 and segments[2] in _ROOTS and segments[1] and segments[1] not in _ROOTS:
            parameters = {}
            node = self._walk(segments, 2, parameters)
            if node is not None:
                return Match(node.methods, parameters, segments[1])
        return None

    def _keep(self, path: str, match: Match) -> None:
        if len(path) > KEPT_PATH_CHARS_MAX:
            return
        if len(self._matches) >= KEPT_MATCHES_MAX:
            self._matches.clear()
        self._matches[path] = match

    def _walk(self, segments: list[str], position: int, parameters: dict[str, str]) -> _Node | None:
        node = self._root
        for index in range(position, len(segments)):
            segment = segments[index]
            following = node.literal.get(segment)
            if following is None:
                if node.parameter is not None and segment:
                    parameters[node.parameter[0]] = segment
                    following = node.parameter[1]
                elif node.rest is not None:
                    parameters[node.rest[0]] = "/".join(segments[index:])
                    following = node.rest[1]
                    return following if following.methods else None
                else:
                    return None
            node = following
        return node if node.methods else None

    def route(self, method: str, path: str) -> tuple[Route, Match]:
        """The route and what it matched.

        Raises: NotFoundError: no route has this path. MethodNotAllowedError: it has other methods; `fields.allow`
            lists them.
        """
        match = self._matches.get(path)
        if match is None:
            match = self.resolve(path)
            if match is None:
                raise NotFoundError(f"no route {path}")
            self._keep(path, match)
        route = match.methods.get(method)
        if route is None:
            allowed = sorted(match.methods)
            raise MethodNotAllowedError(
                f"{method} is not allowed on {path}; allowed: {', '.join(allowed)}", fields={"allow": allowed}
            )
        return route, match
