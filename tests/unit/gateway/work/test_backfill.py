"""The pace of a shard backfill, on a clock of its own."""

import math

import orjson
import pytest

from hevlayer.gateway.shards.backfill import PAGE_ROWS, Backfill
from hevlayer.gateway.shards.manifest import Manifest, ShardState
from hevlayer.kernels.splice import shard_of
from hevlayer.wire.reserved import SHARD_ATTRIBUTE

SHARDS = 4


class Pace:
    """A clock that moves when somebody sleeps."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds


class Namespace:
    """Rows at the upstream, and when how many of them were patched."""

    def __init__(self, clock, rows, write_seconds, refusals):
        self.clock = clock
        self.write_seconds = write_seconds
        self.refusals = refusals
        self.shards = dict.fromkeys(range(rows))
        self.patches = []

    def background_bearer(self, namespace):
        return b"key"

    async def metadata(self, target):
        return {"schema": {SHARD_ATTRIBUTE: {"type": "int"}}}

    async def query(self, target, body, *, cost=1):
        asked = orjson.loads(body)
        left = [row for row, shard in self.shards.items() if shard is None]
        if "aggregate_by" in asked:
            return orjson.dumps({"aggregations": {"count": len(left)}})
        filters = asked["filters"]
        after = filters[1][1][2] if filters[0] == "And" else -1
        rows = [{"id": row} for row in left if row > after]
        return orjson.dumps({"rows": rows[: asked["limit"]]})

    async def read(self, method, target, bearer, body):
        self.clock.now += self.write_seconds
        if self.refusals:
            self.refusals -= 1
            return 429, b""
        columns = orjson.loads(body)["patch_columns"]
        self.shards.update(zip(columns["id"], columns[SHARD_ATTRIBUTE], strict=True))
        self.patches.append((self.clock.now, len(columns["id"])))
        return 200, b""


@pytest.mark.parametrize("refusals", [0, 3])
@pytest.mark.parametrize("write_seconds", [0.0, 0.01, 2.5])
@pytest.mark.parametrize("rate", [1, 7, 999, 1_000, 2_000, 1_000_000])
async def test_no_more_rows_a_second_than_allowed(rate, write_seconds, refusals):
    clock, all_rows = Pace(), 300 if rate < 10 else 3_500
    upstream = Namespace(clock, all_rows, write_seconds, refusals)
    backfill = Backfill(None, upstream, upstream, upstream, clock, rows_per_second=rate)
    began = clock.now
    assert await backfill.fill("films", Manifest(SHARDS, ShardState.BACKFILLING, 1))
    assert upstream.shards == {row: shard_of(row, SHARDS) for row in range(all_rows)}
    # Of any stretch of time: what its seconds allow, and the page that it begins with.
    page = min(PAGE_ROWS, rate)
    ends = [at for at, _ in upstream.patches]
    for first in range(0, len(ends), max(1, len(ends) // 50)):
        rows = 0
        for at, count in upstream.patches[first:]:
            rows += count
            assert rows <= rate * (at - ends[first]) + page + 1e-6
    # And hardly fewer, where writes are quick.
    if not refusals:
        pages = math.ceil(all_rows / page)
        assert clock.now - began <= pages * max(page / rate, write_seconds) + 1e-6
