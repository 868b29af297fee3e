"""`kill -9` between flushes: what was flushed is there afterwards, and what is missing is the end."""

import time
from pathlib import Path

from dev_process import Dev

NAMESPACE = "films"
QUERY = {"rank_by": ["id", "asc"], "limit": 1}
BATCH = 30
FLUSH_SECONDS_MAX = 30
POLL_SECONDS = 0.02


def search(dev: Dev, numbers: range) -> None:
    for number in numbers:
        status, _, answer = dev.call("POST", f"/v2/namespaces/{NAMESPACE}/query", {**QUERY, "limit": number + 1})
        assert status == 200, answer


def recorded(dev: Dev) -> list[int]:
    """The numbers of the recorded searches, oldest first."""
    status, _, page = dev.call("GET", f"/v2/namespaces/{NAMESPACE}/search-history?limit=500")
    assert (status, page["next_cursor"]) == (200, None)
    return [entry["query"]["limit"] - 1 for entry in reversed(page["entries"])]


def stored_lines(data_dir: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in data_dir.rglob(f"search-history/{NAMESPACE}/*/*.jsonl"))


def test_a_crash_loses_what_waited_and_nothing_that_was_flushed(tmp_path):
    data_dir = tmp_path / "data"
    with Dev(data_dir, "--no-postgres") as dev:
        dev.call("POST", f"/v2/namespaces/{NAMESPACE}", {"upsert_rows": [{"id": 1, "title": "Metropolis"}]})
        search(dev, range(BATCH))
        deadline = time.monotonic() + FLUSH_SECONDS_MAX
        while stored_lines(data_dir) < BATCH and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        search(dev, range(BATCH, 2 * BATCH))
        assert recorded(dev) == list(range(2 * BATCH))
        dev.kill()
        assert stored_lines(data_dir) >= BATCH
        after = Dev(data_dir, "--no-postgres")
    with after:
        numbers = recorded(after)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= BATCH
        search(after, range(BATCH))
    # A clean stop has written what waited.
    assert stored_lines(data_dir) == len(numbers) + BATCH
