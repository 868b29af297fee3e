"""Matches that the router keeps: the same answer as a first look, and never more of them than the limit."""

from hevlayer.gateway.router import KEPT_MATCHES_MAX, KEPT_PATH_CHARS_MAX, Access, RouteContext, Router, RouteSpec
from hevlayer.http.messages import Response

SPECS = [
    RouteSpec("GET", "/v2/a/{name}", "handler", "read", Access.OPEN),
    RouteSpec("POST", "/v2/a/{name}", "handler", "write", Access.OPEN),
]


async def handler(context: RouteContext) -> Response:
    raise AssertionError("routing runs no handler")


def test_a_kept_match_serves_every_method_of_its_path():
    router = Router(SPECS, {"handler": handler})
    first, match = router.route("GET", "/v2/a/x")
    again, same = router.route("GET", "/v2/a/x")
    other, shared = router.route("POST", "/v2/a/x")
    assert (first.operation, again.operation, other.operation) == ("read", "read", "write")
    assert same is match
    assert shared is match
    assert match.parameters == {"name": "x"}


def test_kept_matches_are_bounded():
    router = Router(SPECS, {"handler": handler})
    for number in range(2 * KEPT_MATCHES_MAX + 1):
        _, match = router.route("GET", f"/v2/a/{number}")
        assert match.parameters == {"name": str(number)}
        assert len(router._matches) <= KEPT_MATCHES_MAX
    before = len(router._matches)
    router.route("GET", "/v2/a/" + "x" * KEPT_PATH_CHARS_MAX)
    assert len(router._matches) == before
