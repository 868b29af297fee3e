"""`kill -9` in the middle of a shard backfill: the next process patches what is left, and nothing twice."""

import time
from pathlib import Path
from typing import Any

from dev_process import Dev

from hevlayer.kernels.splice import shard_of
from hevlayer.wire.reserved import SHARD_ATTRIBUTE, STAMP_ATTRIBUTE

PATH = "/v2/namespaces/ledger"
ROWS = 1_500
SHARDS = 8
SLOW, QUICK = "100", "1000000"
SECONDS_MAX = 60
JSON = dict[str, Any]


def start(data_dir: Path, rate: str, before: Dev | None = None) -> Dev:
    port = "0" if before is None else before.origin_url.rpartition(":")[2]
    return Dev(
        data_dir, "--no-postgres", "--origin-port", port, LAYER_SHARD_BACKFILL_ROWS_PER_SECOND=rate
    )  # fmt: skip


def stored(dev: Dev) -> dict[int, JSON]:
    """Rows as the origin has them."""
    query = {
        "rank_by": ["id", "asc"],
        "limit": 5_000,
        "include_attributes": True,
        "consistency": {"level": "strong"},
    }
    status, _, answer = dev.call("POST", f"{PATH}/query", query, base_url=dev.origin_url)
    assert status == 200, answer
    return {row["id"]: row for row in answer["rows"]}


def layer_once(dev: Dev, wanted: Any) -> JSON:
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        layer: JSON = dev.call("GET", f"{PATH}/metadata")[2]["layer"]
        if wanted(layer):
            return layer
        assert time.monotonic() < deadline, layer
        time.sleep(0.02)


def test_a_backfill_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    with start(tmp_path / "data", SLOW) as first:
        rows = [{"id": number, "text": f"row {number}"} for number in range(ROWS)]
        assert first.call("POST", PATH, {"upsert_rows": rows})[0] == 200
        before = stored(first)
        assert first.call("POST", f"{PATH}/init", {"shard_count": SHARDS})[0] == 200
        layer_once(first, lambda layer: 0 < layer.get("shard_lag_rows", 0) < ROWS)
        first.kill()
    with start(tmp_path / "data", SLOW, first) as second:
        half = stored(second)
        done = {number for number, row in half.items() if row.get(SHARD_ATTRIBUTE) is not None}
        assert 0 < len(done) < ROWS
        # In the order of their ids, so that what is done is the beginning.
        assert done == set(range(len(done)))
        told = layer_once(second, lambda layer: "shard_lag_rows" in layer)
        assert (told["shard_state"], told["shard_lag_rows"] <= ROWS - len(done)) == ("backfilling", True)
        second.kill()
    with start(tmp_path / "data", QUICK, first) as third:
        layer = layer_once(third, lambda layer: layer["shard_state"] == "ready")
        assert (layer["shard_count"], layer["shard_lag_rows"]) == (SHARDS, 0)
        after = stored(third)
        assert {number: row[SHARD_ATTRIBUTE] for number, row in after.items()} == {
            number: shard_of(number, SHARDS) for number in range(ROWS)
        }
        # A backfill leaves the stamps alone.
        assert {number: row[STAMP_ATTRIBUTE] for number, row in after.items()} == {
            number: row[STAMP_ATTRIBUTE] for number, row in before.items()
        }
