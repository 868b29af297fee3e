"""Gives the rows of a namespace that has become sharded their shards.

Rows outside `0..shards-1` are read in the order of their ids and patched. The patch is one of our own: it leaves the
stamp alone, so it hides nothing from filtered reads. Whatever stops it, the next run finds what is left by the same
filter; two that run at once write the same values.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

import orjson

from hevlayer.clock import Clock
from hevlayer.errors import LayerError, UpstreamError
from hevlayer.gateway.auth import BackgroundBearers
from hevlayer.gateway.reads import Reads, ReadTarget, RefusedReadError
from hevlayer.gateway.shards.directory import ShardDirectory
from hevlayer.gateway.shards.limits import BACKFILL_ROWS_PER_SECOND
from hevlayer.gateway.shards.manifest import Manifest
from hevlayer.kernels.splice import shard_of
from hevlayer.stores.turbopuffer import Upstream, namespace_path
from hevlayer.wire.reserved import SHARD_ATTRIBUTE

LEASE = "shard-backfill"
PAGE_ROWS = 1_000
# Unfinished backfills are looked for so often, and when a namespace has become sharded.
LOOK_SECONDS = 10.0
PATCH_ATTEMPTS_MAX = 6
PATCH_PAUSE_SECONDS = 2.0
AGGREGATE_COST = 4
# A pass that comes round to rows which stay as they are gives up until the next look.
PASSES_MAX = 3

log = logging.getLogger("hevlayer.shards")


class Backfill:
    """Run `run` under the lease."""

    def __init__(
        self,
        directory: ShardDirectory,
        reads: Reads,
        upstream: Upstream,
        bearers: BackgroundBearers,
        clock: Clock,
        *,
        rows_per_second: int = BACKFILL_ROWS_PER_SECOND,
    ) -> None:
        self._directory = directory
        self._reads = reads
        self._upstream = upstream
        self._bearers = bearers
        self._clock = clock
        self._rows_per_second = rows_per_second
        # No second gets more than its share, also of a slow pace.
        self._page_rows = min(PAGE_ROWS, rows_per_second)
        self._woken = asyncio.Event()
        self._lag_rows: dict[str, int] = {}

    def wake(self) -> None:
        """A namespace has become sharded."""
        self._woken.set()

    def lag_rows(self, namespace: str) -> int | None:
        """Rows that still lack their shard, as this process last counted them; None: it has not."""
        return self._lag_rows.get(namespace)

    async def run(self) -> None:
        """Works on unfinished backfills, at once and then again and again. For one process at a time."""
        while True:
            self._woken.clear()
            await self._fill_all(self._directory.unfinished())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()

    async def _fill_all(self, unfinished: list[tuple[str, Manifest]]) -> None:
        for namespace, manifest in unfinished:
            try:
                if await self.fill(namespace, manifest):
                    await self._directory.mark_ready(namespace, manifest)
                    self._lag_rows.pop(namespace, None)
            except RefusedReadError as error:
                if error.answered == 404:
                    # Nothing is there to be filled.
                    await self._directory.mark_ready(namespace, manifest)
                else:
                    log.warning("shard backfill stopped", extra={"namespace": namespace, "reason": error.message})
            except LayerError as error:
                log.warning("shard backfill stopped", extra={"namespace": namespace, "reason": error.message})

    async def fill(self, namespace: str, manifest: Manifest) -> bool:
        """Patches every row that lacks its shard; False when that is not possible now. Raises: UpstreamError."""
        bearer = self._bearers.background_bearer(namespace)
        if bearer is None:
            return False
        target = ReadTarget(namespace, b"", bearer, job=f"shard backfill of {namespace}")
        await self._declare(target)
        foreign = [SHARD_ATTRIBUTE, "NotIn", list(range(manifest.shard_count))]
        for _ in range(PASSES_MAX):
            self._lag_rows[namespace] = await self._count(target, foreign)
            if not self._lag_rows[namespace]:
                return True
            await self._pass(target, foreign, manifest.shard_count)
        return False

    async def _pass(self, target: ReadTarget, foreign: list[Any], shards: int) -> None:
        last: object = None
        while True:
            filters = foreign if last is None else ["And", [foreign, ["id", "Gt", last]]]
            query = {"rank_by": ["id", "asc"], "limit": self._page_rows, "filters": filters}
            rows = orjson.loads(await self._reads.query(target, orjson.dumps(query)))["rows"]
            if not rows:
                return
            ids = [row["id"] for row in rows]
            last = ids[-1]
            columns = {"id": ids, SHARD_ATTRIBUTE: [shard_of(each, shards) for each in ids]}
            began = await self._write(target, {"patch_columns": columns})
            left = self._lag_rows[target.namespace] - len(ids)
            self._lag_rows[target.namespace] = max(left, 0)
            spent = self._clock.monotonic() - began
            await self._clock.sleep(max(0.0, len(ids) / self._rows_per_second - spent))

    async def _declare(self, target: ReadTarget) -> None:
        """The upstream refuses filters on an attribute that no row had yet."""
        schema = {SHARD_ATTRIBUTE: {"type": "int", "filterable": True}}
        metadata = await self._reads.metadata(target)
        if SHARD_ATTRIBUTE not in (metadata.get("schema") or {}):
            await self._write(target, {"schema": schema})

    async def _count(self, target: ReadTarget, filters: list[Any]) -> int:
        query = {"aggregate_by": {"count": ["Count"]}, "filters": filters}
        answer = await self._reads.query(target, orjson.dumps(query), cost=AGGREGATE_COST)
        return int(orjson.loads(answer)["aggregations"]["count"])

    async def _write(self, target: ReadTarget, body: Mapping[str, Any]) -> float:
        """A write that may be repeated: it says what is, not what changes. Returns: when the one that was taken began,
        in monotonic seconds."""
        for attempt in range(PATCH_ATTEMPTS_MAX):
            began = self._clock.monotonic()
            try:
                status, answer = await self._upstream.read(
                    "POST", namespace_path(target.namespace), target.bearer, orjson.dumps(body)
                )
                if status == 200:
                    return began
                if status not in (408, 409, 429) and status < 500:
                    raise RefusedReadError(status, answer)
            except RefusedReadError:
                raise
            except UpstreamError:
                if attempt + 1 == PATCH_ATTEMPTS_MAX:
                    raise
            # A steady pace is all that a busy upstream asks for.
            await self._clock.sleep(PATCH_PAUSE_SECONDS * (attempt + 1))
        raise UpstreamError("the upstream stayed busy for a shard backfill's patch", outcome_known=True)
