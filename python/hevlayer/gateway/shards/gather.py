"""Sends the legs of a scattered query and makes one answer of theirs."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from hevlayer.clock import Clock
from hevlayer.errors import UpstreamError
from hevlayer.gateway.permits import PermitLedger, PermitMetrics, PermitTimeoutError
from hevlayer.gateway.relay import Relay
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.scanning import OFF_LOOP_BYTES
from hevlayer.gateway.shards.directory import ShardDirectory
from hevlayer.gateway.shards.limits import SCATTER_PERMITS
from hevlayer.gateway.shards.manifest import ShardState
from hevlayer.gateway.shards.scatter import Scatter, plan_scatter
from hevlayer.http.messages import Headers
from hevlayer.kernels.merge import MergedLegs, MergeError, merge_legs
from hevlayer.stores.turbopuffer import Answer
from hevlayer.wire.headers import without

# Waiting longer for permits than this, a query goes up as one request.
PERMIT_WAIT_SECONDS = 5.0
OK = 200
# What the upstream says of a body that it cannot take; of a leg, it is asked again as the caller put it.
_REFUSALS = (400, 422)
_TEMPERATURES = ("cold", "warm", "hot")


class ScatterMetrics(PermitMetrics, Protocol):
    """What scattered queries count."""

    def count_scatter(self, namespace: str) -> None: ...


class Scatterer:
    """Queries of sharded namespaces."""

    def __init__(
        self,
        directory: ShardDirectory,
        relay: Relay,
        metrics: ScatterMetrics,
        clock: Clock,
        *,
        permits: int = SCATTER_PERMITS,
        text: bool = False,
    ) -> None:
        self.directory = directory
        self._relay = relay
        self._metrics = metrics
        self._permits = permits
        self._text = text
        # Of all scattered queries of a namespace together; the rest of the upstream's stays for other requests.
        self._ledger = PermitLedger(clock, metrics, permits=permits, background_permits=1)

    def scatters(self, namespace: str) -> bool:
        return self.directory.manifest(namespace) is not None

    async def query(self, context: RouteContext, body: bytes) -> Answer | None:
        """The answer of a query that scatters, or the first leg's error; None: send it as the one request that it is.

        Raises: UpstreamError, GatewayTimeoutError.
        """
        manifest = self.directory.manifest(context.namespace)
        if manifest is None:
            return None
        shards = manifest.shard_count
        context.shards = 1
        plan = plan_scatter(body, shards, text=self._text, permits_max=self._permits)
        if plan is None:
            return None
        # The backfill moves rows from leg to leg; only legs of one request see one moment.
        if manifest.state is ShardState.BACKFILLING and len(plan.bodies) > 1:
            return None
        headers = without(self._relay.headers(context, identity=True), b"content-encoding")
        self._metrics.count_scatter(context.namespace)
        answer = await self._gather(context, headers, plan)
        if answer is not None:
            context.shards = shards
        return answer

    async def _gather(self, context: RouteContext, headers: Headers, plan: Scatter) -> Answer | None:
        legs = [
            asyncio.ensure_future(self._send(context, headers, body, permits))
            for body, permits in zip(plan.bodies, plan.permits, strict=True)
        ]
        try:
            answers = await asyncio.gather(*legs)
        except PermitTimeoutError:
            return None
        finally:
            # The first failure decides; nobody reads the others.
            for leg in legs:
                leg.cancel()
            await asyncio.gather(*legs, return_exceptions=True)
        failed = next((answer for answer in answers if answer.status != OK), None)
        if failed is not None:
            return None if failed.status in _REFUSALS else failed
        bodies = [answer.body or b"" for answer in answers]
        if sum(map(len, bodies)) < OFF_LOOP_BYTES:
            body = merge_answers(bodies, plan)
        else:
            body = await asyncio.to_thread(merge_answers, bodies, plan)
        kept = without(answers[0].headers, b"content-encoding", b"content-length")
        return Answer(OK, kept, body)

    async def _send(self, context: RouteContext, headers: Headers, body: bytes, permits: int) -> Answer:
        permit = self._ledger.foreground(
            context.namespace, context.credential.scope, permits, seconds=PERMIT_WAIT_SECONDS
        )
        async with permit:
            answer = await self._relay.send(context, headers, body)
            whole = await self._relay.upstream.whole(answer)
        return Answer(answer.status, without(answer.headers, b"content-encoding"), whole)


def merge_answers(bodies: Sequence[bytes], plan: Scatter) -> bytes:
    """One answer of the legs' answers. Raises: UpstreamError: one of them is not an answer to a multi-query."""
    try:
        merged = merge_legs(list(bodies), offset=plan.offset, limit=plan.limit, descending=plan.descending)
    except MergeError as error:
        raise UpstreamError("the upstream's answer to a leg of the query has no ranked rows") from error
    parts = [b'{"rows":%b' % merged.rows]
    parts += [b',"%b":%b' % (name, orjson.dumps(block)) for name, block in _blocks(merged).items() if block]
    return b"".join([*parts, b"}"])


def _blocks(merged: MergedLegs) -> dict[bytes, dict[str, Any]]:
    return {
        b"billing": _combined(merged.billing, billing=True),
        b"performance": _combined(merged.performance, billing=False),
    }


def _combined(texts: Sequence[bytes], *, billing: bool) -> dict[str, Any]:
    """What the requests cost together. Times are the longest, ratios the lowest, the cache as cold as the coldest."""
    blocks = [orjson.loads(text) for text in texts]
    combined: dict[str, Any] = {}
    for block in blocks:
        for key, value in block.items() if isinstance(block, dict) else ():
            if key not in combined:
                combined[key] = value
            elif value in _TEMPERATURES and combined[key] in _TEMPERATURES:
                combined[key] = min(value, combined[key], key=_TEMPERATURES.index)
            elif _is_number(value) and _is_number(combined[key]):
                combined[key] = _together(key, combined[key], value, billing=billing)
    return combined


def _together(key: str, one: float, other: float, *, billing: bool) -> float:
    if billing or key.endswith("_count"):
        return one + other
    if key.endswith("_ratio"):
        return min(one, other)
    return max(one, other)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
