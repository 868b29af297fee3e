"""The cache-warm hint: the upstream's answer, and what each of our steps did."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from hevlayer.errors import ValidationError
from hevlayer.gateway.namespaces.exchange import Exchanges
from hevlayer.gateway.namespaces.splice import add_members
from hevlayer.gateway.responses import json_response
from hevlayer.gateway.router import RouteContext
from hevlayer.http.messages import Response

STEPS = ("turbopuffer", "documents", "snapshots")
_SWITCH = {"true": True, "1": True, "false": False, "0": False}
_NOT_BUILT = "this version keeps no warm copy"


def read_steps(query: str) -> dict[str, bool]:
    """Which steps a query string asks for; all of them unless it says otherwise.

    Raises: ValidationError: a step is neither true nor false.
    """
    asked = dict.fromkeys(STEPS, True)
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in asked:
            switch = _SWITCH.get(value.lower())
            if switch is None:
                raise ValidationError(f"{name} must be true or false")
            asked[name] = switch
    return asked


def upstream_target(target: bytes) -> bytes:
    """The request target without our own switches; every other parameter stays as it was sent."""
    path, mark, query = target.partition(b"?")
    kept = [pair for pair in query.split(b"&") if pair and pair.partition(b"=")[0].decode("latin-1") not in STEPS]
    return path + mark + b"&".join(kept) if kept else path


def describe_steps(namespace: str, asked: Mapping[str, bool]) -> dict[str, object]:
    """The report on each step. Those that this version has not are skipped, and say why."""
    report: dict[str, object] = {"namespace": namespace.encode("utf-8", "replace").decode()}
    report["turbopuffer"] = {
        "enabled": asked["turbopuffer"],
        "status": "started" if asked["turbopuffer"] else "skipped",
    }
    for step in ("documents", "snapshots"):
        entry: dict[str, object] = {"enabled": asked[step], "status": "skipped"}
        if asked[step]:
            entry["reason"] = _NOT_BUILT
        report[step] = entry
    return report


class WarmRoutes:
    """GET /v1/namespaces/{ns}/hint_cache_warm."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    async def hint_cache_warm(self, context: RouteContext) -> Response:
        """The hint goes up unless it is switched off; an upstream error comes back as it is."""
        asked = read_steps(context.request.query)
        report = describe_steps(context.namespace, asked)
        if not asked["turbopuffer"]:
            return json_response(200, {"status": "OK", "message": "the upstream was not asked to warm", **report})
        answer = await self._exchanges.call(context, target=upstream_target(context.upstream_target))
        return answer.relayed(add_members(answer.body, report) if answer.ok else None)
