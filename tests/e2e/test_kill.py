"""`kill -9` in the middle of concurrent writes, again and again: nothing acknowledged is lost, nothing cached is stale.

Each writer owns its ids and knows, for each, the state that the last acknowledgement allows; a request that the kill
cut off allows the state before it and the one after it. Writer and origin die together, so what the restarted process
shows is final.
"""

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import turbopuffer
from dev_process import Dev

NAMESPACE = "ledger"
WRITERS = 4
IDS_EACH = 12
KILLS = 4
ACKNOWLEDGED_BEFORE_KILL = 60
LOAD_SECONDS_MAX = 60

State = dict[str, Any] | None
"""The attributes of a row; None where there is none."""


@dataclass
class Writer:
    """One thread at a time runs it. `allowed` are the states of each id that what was answered permits."""

    number: int
    rng: random.Random
    allowed: dict[str, list[State]] = field(default_factory=dict)
    version: int = 0
    acknowledged: int = 0
    hits: int = 0
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.allowed = {f"w{self.number}-{index}": [None] for index in range(IDS_EACH)}

    def run(self, dev: Dev) -> None:
        """Until the process is gone."""
        namespace = dev.client().namespace(NAMESPACE)
        try:
            while True:
                self._step(dev, namespace)
        except (OSError, turbopuffer.APIConnectionError):
            return
        except Exception as error:  # A thread's exception would be lost.
            self.problems.append(f"{type(error).__name__}: {error}")

    def _step(self, dev: Dev, namespace: Any) -> None:
        document_id = self.rng.choice(list(self.allowed))
        (state,) = self.allowed[document_id]
        self.version += 1
        after: State
        match self.rng.choices(("upsert", "patch", "delete"), (5, 3, 1))[0]:
            case "patch" if state is not None:
                after = {**state, "patched": self.version}
                body = {"patch_rows": [{"id": document_id, "patched": self.version}]}
            case "delete":
                after = None
                body = {"deletes": [document_id]}
            case _:
                after = {"version": self.version, "text": f"version {self.version} " * 20, "patched": 0}
                row = {"id": document_id, "vector": [1.0, self.version / 100], **after}
                body = {"upsert_rows": [row], "distance_metric": "cosine_distance"}
        self.allowed[document_id] = [state, after]
        namespace.write(**body)
        self.allowed[document_id] = [after]
        self.acknowledged += 1
        # Twice: the first read fills the cache, so that the kill meets cached rows that are being rewritten.
        for _ in range(2):
            seen, cache = dev.fetch(NAMESPACE, document_id)
            self.hits += cache == "hit"
            if seen != after:
                self.problems.append(f"fetch of {document_id} shows {seen} after the acknowledged {after}")

    def settle(self, dev: Dev, stored: dict[str, State]) -> None:
        """After a restart: what is stored is allowed, and a fetch shows the same, cached or not."""
        for document_id, allowed in self.allowed.items():
            state = stored.get(document_id)
            if state not in allowed:
                self.problems.append(f"{document_id} is {state}, allowed {allowed}")
            for _ in range(2):
                seen, cache = dev.fetch(NAMESPACE, document_id)
                if seen != state:
                    self.problems.append(f"fetch of {document_id} ({cache}) shows {seen}, stored is {state}")
            self.allowed[document_id] = [state]


def stored_rows(dev: Dev) -> dict[str, State]:
    answer = dev.client().namespace(NAMESPACE).query(
        rank_by=("id", "asc"), top_k=WRITERS * IDS_EACH + 1, include_attributes=["version", "text", "patched"],
        consistency={"level": "strong"},
    )  # fmt: skip
    assert answer.rows is not None
    rows = {str(row.id): dict(row.model_extra or {}) for row in answer.rows}
    assert len(rows) == len(answer.rows), "an id is there twice"
    return dict(rows)


def load_then_kill(dev: Dev, writers: list[Writer]) -> None:
    goal = sum(writer.acknowledged for writer in writers) + ACKNOWLEDGED_BEFORE_KILL
    threads = [threading.Thread(target=writer.run, args=(dev,)) for writer in writers]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + LOAD_SECONDS_MAX
    while sum(writer.acknowledged for writer in writers) < goal and time.monotonic() < deadline:
        time.sleep(0.005)
    dev.kill()
    for thread in threads:
        thread.join(LOAD_SECONDS_MAX)
    assert not any(thread.is_alive() for thread in threads)
    assert sum(writer.acknowledged for writer in writers) >= goal, "too few writes were acknowledged to mean anything"


def test_what_was_acknowledged_survives_kills_and_the_cache_is_never_stale(tmp_path: Path) -> None:
    writers = [Writer(number, random.Random(number)) for number in range(WRITERS)]
    dev = Dev(tmp_path / "data")
    for _ in range(KILLS):
        load_then_kill(dev, writers)
        cut_off = sum(len(states) > 1 for writer in writers for states in writer.allowed.values())
        dev = Dev(tmp_path / "data")
        stored = stored_rows(dev)
        for writer in writers:
            writer.settle(dev, stored)
        problems = [problem for writer in writers for problem in writer.problems]
        assert not problems, "\n".join(problems[:10])
        assert cut_off <= WRITERS
    assert sum(writer.hits for writer in writers) > KILLS, "hardly a fetch was answered from the cache"
    assert dev.stop() == 0
    assert "Traceback" not in dev.output()
