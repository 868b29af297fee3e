"""`kill -9` of one of two processes on one cache directory, again and again: the reads of both never show an old row.

This process is the upstream, which delays, refuses, loses answers and commits late, also for a writer that is dead by
then. It keeps every state that each id has had and judges each row that either process would have served: it must be
whole, and no older than the last commit before the look-up began. That is more than is promised to callers, who only
know of acknowledged writes: marks stand before a write goes out and end later than it can take effect.

`CACHE_KILLS=500` makes it as many rounds as that.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cache_process import IDS, NAMESPACES, UNKNOWN_SECONDS

KILLS = int(os.environ.get("CACHE_KILLS", "30"))
# Reads and writes that the one which is not killed makes in every round.
LAST_ROUNDS_MAX = 20
CALLS_A_ROUND = 60
# Guards against a test that hangs; nothing is asserted about it.
ROUND_SECONDS = 60
# A write that comes to nothing now may take effect until then: less than its mark is sure to last.
LATE_SECONDS = UNKNOWN_SECONDS / 2
TEXT_WORDS = 200
Json = dict[str, Any]
Place = tuple[str, str]


@dataclass
class Upstream:
    """All states of each id, and what was counted."""

    random: Random
    histories: dict[Place, list[Json | None]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    calls: Counter[int] = field(default_factory=Counter)
    late: set[asyncio.Task[None]] = field(default_factory=set)
    version: int = 0

    def history(self, namespace: str, name: str) -> list[Json | None]:
        return self.histories.setdefault((namespace, name), [None])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One worker's connection, which breaks when its process is killed."""
        socket = writer.get_extra_info("socket")
        pid = int.from_bytes(socket.getsockopt(1, 17, 12)[:4], sys.byteorder)  # SOL_SOCKET, SO_PEERCRED
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                question = json.loads(line)
                call = question.pop("call")
                answer = await getattr(self, call)(**question)
                self.calls[pid] += 1
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def pause(self) -> None:
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.random() * 0.004)

    async def floors(self, namespace: str, ids: list[str]) -> Json:
        return {name: len(self.history(namespace, name)) - 1 for name in ids}

    async def check(self, namespace: str, floors: Json, rows: Json) -> Json:
        for name, row in rows.items():
            allowed = self.history(namespace, name)[floors[name] :]
            self.counts["hits"] += 1
            if row not in allowed:
                known = row in self.history(namespace, name)
                self.problems.append(f"{namespace}/{name}: {'old' if known else 'no'} row {row} of {allowed}")
        return {}

    async def read(self, namespace: str, ids: list[str]) -> Json:
        await self.pause()
        rows = {name: self.history(namespace, name)[-1] for name in ids}
        await self.pause()
        return {"rows": rows}

    async def write(self, namespace: str, kind: str, ids: list[str]) -> Json:
        began = asyncio.get_running_loop().time()
        await self.pause()
        chance = self.random.random()
        if chance < 0.05:
            return {"outcome": "refused"}
        if chance < 0.1:
            task = asyncio.create_task(self.commit_late(namespace, kind, ids, began))
            self.late.add(task)
            task.add_done_callback(self.late.discard)
            return {"outcome": "unknown"}
        answer = self.commit(namespace, kind, ids)
        await self.pause()
        return answer

    async def commit_late(self, namespace: str, kind: str, ids: list[str], began: float) -> None:
        await asyncio.sleep(self.random.random() * LATE_SECONDS)
        # Looked at again, because a busy machine may wake this too late.
        if asyncio.get_running_loop().time() < began + LATE_SECONDS:
            self.commit(namespace, kind, ids)

    def commit(self, namespace: str, kind: str, ids: list[str]) -> Json:
        self.version += 1
        patch = {"two": self.version}
        changed: list[str] = []
        for name in ids:
            history = self.history(namespace, name)
            before = history[-1]
            after: Json | None = {"one": self.version, "two": self.version, "text": f"{self.version} " * TEXT_WORDS}
            if kind == "delete":
                after = None
            elif kind != "upsert":
                after = None if before is None else {**before, **patch}
            if (before, after) != (None, None):
                history.append(after)
                changed.append(name)
        self.counts[kind] += 1
        rows = {name: self.history(namespace, name)[-1] for name in ids}
        return {"outcome": "applied", "rows": rows, "patch": patch, "changed": changed}


class Starter:
    """Starts processes quickly: it forks them from one that has imported everything."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.running: set[int] = set()

    async def start(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        pid = int(await self.process.stdout.readline())
        self.running.add(pid)
        return pid

    def kill(self, pid: int) -> None:
        self.running.discard(pid)
        os.kill(pid, signal.SIGKILL)

    async def close(self) -> None:
        for pid in list(self.running):
            self.kill(pid)
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()


@pytest.fixture
async def starter(tmp_path: Path, upstream: Upstream):
    socket = tmp_path / "upstream"
    server = await asyncio.start_unix_server(upstream.serve, socket)
    program = Path(__file__).with_name("cache_process.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        program,
        tmp_path / "cache",
        socket,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    made = Starter(process)
    yield made
    await made.close()
    server.close()
    await asyncio.gather(*upstream.late)


@pytest.fixture
def upstream() -> Upstream:
    return Upstream(Random(5))


async def works(upstream: Upstream, pid: int, calls: int) -> None:
    """Until a process has made so many calls more."""
    wanted = upstream.calls[pid] + calls
    async with asyncio.timeout(ROUND_SECONDS):
        while upstream.calls[pid] < wanted and not upstream.problems:
            os.kill(pid, 0)
            await asyncio.sleep(0.002)


async def test_no_read_shows_an_old_row_however_often_a_process_is_killed(starter: Starter, upstream: Upstream) -> None:
    random = Random(6)
    pids = [await starter.start(), await starter.start()]
    for _ in range(KILLS):
        victim = random.randrange(2)
        await works(upstream, pids[victim], random.randrange(1, CALLS_A_ROUND))
        starter.kill(pids[victim])
        # The other one goes on at once, whatever the dead one held.
        await works(upstream, pids[1 - victim], CALLS_A_ROUND)
        pids[victim] = await starter.start()
        assert not upstream.problems
    for _ in range(LAST_ROUNDS_MAX):
        for pid in pids:
            await works(upstream, pid, CALLS_A_ROUND)
        # What the last of the dead left open keeps its ids out for a while.
        if upstream.counts["hits"] > KILLS:
            break
    assert not upstream.problems
    # Without rows that are served, and writes of every kind, nothing was shown.
    assert upstream.counts["hits"] > KILLS, upstream.counts
    assert min(upstream.counts[kind] for kind in ("upsert", "patch", "delete", "by_filter")) > 0
    assert len(upstream.histories) == len(NAMESPACES) * len(IDS)
    assert len(upstream.calls) == KILLS + 2
