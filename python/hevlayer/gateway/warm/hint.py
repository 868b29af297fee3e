"""The cache-warm hint: the upstream's answer, and what each of our steps did."""

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import parse_qsl

from hevlayer.errors import CacheColdError, LayerError, ValidationError
from hevlayer.gateway.namespaces.exchange import Exchanges
from hevlayer.gateway.namespaces.splice import add_members
from hevlayer.gateway.reads import RefusedReadError
from hevlayer.gateway.responses import json_response, relayed_answer
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.warm.pages import read_page_size
from hevlayer.gateway.warm.service import Complete, Started, TooLarge, Warms
from hevlayer.http.messages import Response

STEPS = ("turbopuffer", "documents", "snapshots")
PAGE_SIZE = "page_size"
_OURS = {*STEPS, PAGE_SIZE}
_SWITCH = {"true": True, "1": True, "false": False, "0": False}
_SKIPPED: Mapping[str, object] = {"enabled": False, "status": "skipped"}


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
    """The request target without our own parameters; every other one stays as it was sent."""
    path, mark, query = target.partition(b"?")
    kept = [pair for pair in query.split(b"&") if pair and pair.partition(b"=")[0].decode("latin-1") not in _OURS]
    return path + mark + b"&".join(kept) if kept else path


def describe_documents(outcome: Started | Complete | TooLarge | LayerError) -> dict[str, object]:
    """The report on the documents step; one that did nothing says why."""
    match outcome:
        case Started(job):
            return {"enabled": True, "status": "started", "job": job.as_json()}
        case Complete():
            return {"enabled": True, "status": "completed"}
        case TooLarge(rows):
            reason = f"the namespace has {rows} rows, more than a hint warms; POST …/warm does it all the same"
            return {"enabled": True, "status": "skipped", "reason": reason}
    return {"enabled": True, "status": "skipped", "reason": outcome.message}


class HintStep(Protocol):
    """A step that is done elsewhere."""

    async def run(self, context: RouteContext) -> dict[str, object]:
        """The report on it. Never fails."""


class HintRoutes:
    """GET /v1/namespaces/{ns}/hint_cache_warm."""

    def __init__(self, exchanges: Exchanges, warms: Warms, snapshots: HintStep, *, rows_max: int) -> None:
        self._exchanges = exchanges
        self._warms = warms
        self._snapshots = snapshots
        self._rows_max = rows_max

    async def hint_cache_warm(self, context: RouteContext) -> Response:
        """The hint goes up unless it is switched off; an upstream error comes back as it is, and nothing is started."""
        asked = read_steps(context.request.query)
        page_rows = read_page_size(context.query_parameters().get(PAGE_SIZE))
        report: dict[str, object] = {"namespace": context.namespace.encode("utf-8", "replace").decode()}
        report["turbopuffer"] = {"enabled": True, "status": "started"} if asked["turbopuffer"] else _SKIPPED
        answer = None
        if asked["turbopuffer"]:
            answer = await self._exchanges.call(context, target=upstream_target(context.upstream_target))
            if not answer.ok:
                return answer.relayed()
        try:
            report["documents"] = await self._warm(context, page_rows) if asked["documents"] else _SKIPPED
        except RefusedReadError as refusal:
            return relayed_answer(refusal.answered, refusal.answer)
        report["snapshots"] = await self._snapshots.run(context) if asked["snapshots"] else _SKIPPED
        if answer is None:
            return json_response(200, {"status": "OK", "message": "the upstream was not asked to warm", **report})
        return answer.relayed(add_members(answer.body, report))

    async def _warm(self, context: RouteContext, page_rows: int | None) -> dict[str, object]:
        """A hint never fails for what it might have done.

        Raises: RefusedReadError: the caller may not read the namespace.
        """
        try:
            outcome = await self._warms.start(
                context.namespace,
                context.credential,
                traceparent=context.traceparent,
                page_rows=page_rows,
                rows_max=self._rows_max,
            )
        except (CacheColdError, RefusedReadError) as error:
            if isinstance(error, RefusedReadError) and error.answered in (401, 403, 404):
                raise
            return describe_documents(error)
        except LayerError as error:
            return describe_documents(error)
        return describe_documents(outcome)
