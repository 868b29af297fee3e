"""`kill -9` in the middle of a warm and after it, with writes going on: a namespace is never called warm in error.

What warm means is taken at its word: every row is fetched, each must come from the cache and be what is stored.
"""

import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from dev_process import Dev

NAMESPACE = "ledger"
ROWS = 3_000
PAGE_ROWS = 100
PAGE_MS = 40
KILLED_AT = (0.05, 0.7)
SECONDS_MAX = 60
BATCH_IDS = 1_000
PATH = f"/v2/namespaces/{NAMESPACE}"
JSON = dict[str, Any]


def start(data_dir: Path, before: Dev | None = None) -> Dev:
    """The next process on the directory. The origin keeps its address: rows of another upstream are thrown away."""
    port = "0" if before is None else str(urlsplit(before.origin_url).port)
    return Dev(data_dir, "--no-postgres", "--origin-port", port, LAYER_UNKNOWN_WRITE_SECONDS="2")


def fill(dev: Dev) -> None:
    rows = [{"id": number, "version": 0, "text": f"row {number} " * 20} for number in range(ROWS)]
    status, _, answer = dev.call("POST", PATH, {"upsert_rows": rows})
    assert status == 200, answer


def start_warm(dev: Dev) -> JSON:
    status, _, job = dev.call("POST", f"{PATH}/warm?page_size={PAGE_ROWS}")
    assert status == 202, job
    return dict(job)


def cache_state(dev: Dev) -> JSON:
    _, _, answer = dev.call("GET", f"{PATH}/metadata")
    return dict(answer["layer"]["cache_state"])


def until(dev: Dev, job: JSON, progress: float) -> JSON:
    """The job, once it is so far or has ended."""
    deadline = time.monotonic() + SECONDS_MAX
    while job["status"] == "running" and job["progress"] < progress:
        assert time.monotonic() < deadline, job
        time.sleep(0.005)
        _, _, job = dev.call("GET", f"{PATH}/warm-jobs/{job['id']}")
    return job


def write_until_killed(dev: Dev, problems: list[str], unanswered: set[int]) -> None:
    number = 0
    try:
        while True:
            number = (number + 7) % ROWS
            body = {"patch_rows": [{"id": number, "version": time.monotonic_ns()}]}
            status, _, answer = dev.call("POST", PATH, body)
            if status != 200:
                problems.append(f"a write was answered {status}: {answer}")
    except OSError:
        unanswered.add(number)


def wrong_rows(dev: Dev, unanswered: Collection[int] = ()) -> list[str]:
    """Rows that a fetch shows otherwise than they are stored, and batches that are not all in the cache.

    What became of an unanswered write nobody knows, so its row is kept out for a while.
    """
    found: list[str] = []
    for first in range(0, ROWS, BATCH_IDS):
        query = {
            "rank_by": ["id", "asc"],
            "limit": BATCH_IDS,
            "filters": ["id", "Gte", first],
            "include_attributes": ["version", "text"],
            "consistency": {"level": "strong"},
        }
        status, _, answer = dev.call("POST", f"{PATH}/query", query, base_url=dev.origin_url)
        assert status == 200, answer
        stored = {row.pop("id"): row for row in answer["rows"]}
        fetched: dict[int, JSON] = {}
        for ids in ([number for number in stored if number not in unanswered], list(stored.keys() & set(unanswered))):
            if not ids:
                continue
            status, headers, answer = dev.call("POST", f"{PATH}/documents", {"ids": ids})
            assert status == 200, answer
            if headers["x-layer-cache"] != "hit" and not set(ids) & set(unanswered):
                found.append(f"the batch from {first} is a {headers['x-layer-cache']}")
            fetched |= {int(document["id"]): document["attributes"] for document in answer["documents"]}
        for number, row in stored.items():
            if fetched.get(number) != row:
                found.append(f"row {number} is {fetched.get(number)}")
    return found


def is_truly_warm(dev: Dev, unanswered: Collection[int] = ()) -> bool:
    """Whether the namespace is called warm. Asserts that it is, if so."""
    state = cache_state(dev)
    if state["state"] != "warm":
        assert state["warmed_through_ms"] is None
        return False
    assert wrong_rows(dev, unanswered) == []
    return True


@pytest.mark.parametrize("killed_at", KILLED_AT)
def test_a_warm_that_was_killed_is_not_called_complete(tmp_path: Path, killed_at: float) -> None:
    dev = start(tmp_path / "data")
    fill(dev)
    dev.set_faults({"effect": {"kind": "latency", "ms": PAGE_MS}, "match": {"route": "query"}})
    job = until(dev, start_warm(dev), killed_at)
    assert job["status"] == "running"
    assert cache_state(dev) == {"state": "warming", "warmed_through_ms": None, "warm_inflight": True}
    dev.kill()
    with start(tmp_path / "data", dev) as dev:
        assert cache_state(dev)["state"] == "cold"
        assert dev.fetch(NAMESPACE, "0")[1] == "hit", "what the warm had put should have survived"
        _, _, listed = dev.call("GET", f"{PATH}/warm-jobs")
        assert listed == {"warm_jobs": []}
        assert until(dev, start_warm(dev), 1.0)["status"] == "completed"
        assert is_truly_warm(dev)


def test_a_warm_namespace_that_was_killed_among_writes_is_warm_or_says_so(tmp_path: Path) -> None:
    problems: list[str] = []
    unanswered: set[int] = set()
    dev = start(tmp_path / "data")
    fill(dev)
    for _ in range(2):
        assert until(dev, start_warm(dev), 1.0)["status"] == "completed"
        assert is_truly_warm(dev, unanswered)
        writers = [threading.Thread(target=write_until_killed, args=(dev, problems, unanswered)) for _ in range(2)]
        for writer in writers:
            writer.start()
        job = until(dev, start_warm(dev), 0.5)
        time.sleep(0.2)
        dev.kill()
        for writer in writers:
            writer.join(SECONDS_MAX)
        assert not any(writer.is_alive() for writer in writers)
        assert not problems, problems[:3]
        assert job["status"] in ("running", "completed")
        dev = start(tmp_path / "data", dev)
        is_truly_warm(dev, unanswered)
        for _ in range(2):
            assert not [row for row in wrong_rows(dev) if row.startswith("row")]
    assert dev.stop() == 0
    assert "Traceback" not in dev.output()
