"""Histories of the protocol's model, played on two whole gateways over one directory and the local origin.

The origin's faults make the upstream do what the history says: each request stops there before it is carried out and
before it is answered, until its next sentence comes; it is refused, or its answer is lost before its commit or after it
(late commits are in `test_two_gateways.py`). After each sentence both gateways' caches are asked for the row, and every
fetch is looked at: it must be what a dictionary of the upstream allows.
"""

import asyncio
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from gateways_stage import Caller, Row, Stage, staged

from hevlayer.clock import SystemClock
from hevlayer.http.errors import HttpClientError
from hevlayer.kernels.doccache import DocProjection
from hevlayer.stores.doccache_embedded import EmbeddedEngine

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from model_history import History, walk
from model_scenarios import ideal
from model_state import INITIAL
from model_steps import written

SCENARIOS = {
    "two writes, two reads": ideal("upsert", "patch"),
    "a delete": ideal("delete", "upsert", reads=(("read", 0), ("read", 1), ("read", 1))),
    "a patch by filter": ideal("by_filter_ids", "patch"),
    "three writes": ideal("upsert", "patch", "delete", reads=(("read", 1),)),
}
SEED = 5
ROUNDS = 7
WAIT_SECONDS = 10.0
# A read that joins another one neither ends nor reaches the origin.
JOINS_SECONDS = 0.05
LOOK_SECONDS = 0.005
LOOKS_MAX = 1_000
WRITE_SECONDS = 8.0
# No poll but the first one.
POLL_MS = 60_000
# The wait by which the origin knows where to stop.
STOP_MS = {"write": 1.0, "read": 2.0}
SETTINGS = {"write_timeout_seconds": WRITE_SECONDS, "consistency_poll_interval_ms": POLL_MS}
KEY = b"\x02a"
PLAIN = DocProjection()
Document = tuple[int, int] | None


class GateClock(SystemClock):
    """The origin's clock: the waits that the faults ask for end when the test says so."""

    gates: "dict[float, asyncio.Queue[asyncio.Event]]"
    """Those that were reached, by the milliseconds that were asked for."""

    async def sleep(self, seconds: float) -> None:
        reached = self.gates.get(seconds * 1000)
        if reached is None:
            await super().sleep(seconds)
            return
        gate = asyncio.Event()
        reached.put_nowait(gate)
        await gate.wait()


def _stops(kind: str, *sides: str) -> list[Row]:
    return [{"kind": "latency", "ms": STOP_MS[kind], "when": side} for side in sides]


FATES: dict[str, list[Row]] = {
    "answered": _stops("write", "before", "after"),
    "refused": [*_stops("write", "before"), {"kind": "status", "status": 400}],
    "lost after its commit": [*_stops("write", "before"), {"kind": "reset", "when": "after"}],
    "never committed": [*_stops("write", "before"), {"kind": "reset", "when": "before"}],
}


@dataclass
class Request:
    """A write or a read that is under way."""

    kind: str
    task: "asyncio.Task[Any]"
    fate: str = ""
    gate: asyncio.Event | None = None
    oldest: int = 0
    position: int = 0


@dataclass
class Player:
    stage: Stage
    clock: type[GateClock]
    story: History
    namespace: str
    counts: Counter[str]
    history: list[Document] = field(default_factory=lambda: [INITIAL])
    acknowledged: int = 0
    requests: dict[tuple[str, int], Request] = field(default_factory=dict)
    played: list[str] = field(default_factory=list)

    async def play(self) -> None:
        await self._rules([])
        first = {"upsert_rows": [{"id": "a", "one": 0, "two": 0}], "schema": {"one": "int", "two": "int"}}
        assert (await self.stage.origin.write(first, self.namespace))[0] == 200
        for caller in self.stage.callers:
            await caller.fetch("a", self.namespace)
        await self._polled()
        if not self.story.warm:
            await self.stage.gateways[0].cache.new_epoch(self.namespace)
        steps = [moment.step for moment in self.story.moments]
        try:
            for number, step in enumerate(steps):
                self.played.append(step)
                await self._step(step, steps[number + 1 :])
                await self._look_around()
            await self._finish()
        except AssertionError as error:
            raise AssertionError("\n".join([*self.played, str(error)])) from error

    async def _polled(self) -> None:
        """Until the gateways know the namespace's schema; they do not ask for it again soon, which would stop too."""
        for gateway in self.stage.gateways:
            for _ in range(LOOKS_MAX):
                entries = [each for each in gateway.registry if each.namespace == self.namespace]
                if any(each.view.polled_at_ms is not None for each in entries):
                    break
                await asyncio.sleep(LOOK_SECONDS)

    # --- the upstream ------------------------------------------------------------------------------------------------

    async def _rules(self, effects: list[Row]) -> None:
        """What becomes of the next write; reads always stop on both sides."""
        rules = [{"effect": effect, "match": {"route": "write", "namespace": self.namespace}} for effect in effects]
        if effects:
            rules += [
                {"effect": effect, "match": {"route": "query", "namespace": self.namespace}}
                for effect in _stops("read", "before", "after")
            ]
        status, _, answer = await self.stage.origin.call("PUT", "/_origin/faults", {"rules": rules, "seed": 0})
        assert status == 200, answer

    def gates(self, kind: str) -> "asyncio.Queue[asyncio.Event]":
        return self.clock.gates[STOP_MS[kind]]

    async def _reached(self, request: Request, seconds: float = WAIT_SECONDS) -> None:
        """Until a request stops at the origin, or ends."""
        arrival = asyncio.ensure_future(self.gates(request.kind).get())
        await asyncio.wait((request.task, arrival), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not arrival.done():
            arrival.cancel()
        elif request.task.done():
            # Another one's.
            self.gates(request.kind).put_nowait(arrival.result())
        else:
            request.gate = arrival.result()

    async def _let_go(self, request: Request) -> None:
        """On to where it stops next."""
        gate, request.gate = request.gate, None
        if gate is not None:
            gate.set()
            await self._reached(request)

    def _fate(self, write: int, later: list[str]) -> str:
        committed = False
        for step in later:
            if step.startswith(f"write {write} ("):
                committed = committed or step.endswith(" commits")
                if "is answered" in step:
                    return "answered"
                if "is refused" in step:
                    return "refused"
            if step.startswith(f"the answer to write {write} "):
                return "lost after its commit" if committed else "never committed"
        return "answered"

    # --- steps -------------------------------------------------------------------------------------------------------

    async def _step(self, step: str, later: list[str]) -> None:
        match = re.match(r"(?:the answer to )?(write|read) (\d) \((?:\w+, )?gateway (\d)\)", step)
        if match is None:
            return
        kind, number, gateway = match[1], int(match[2]), int(match[3])
        caller = self.stage.callers[gateway]
        if kind == "read":
            await self._read(number, caller, step)
        elif step.endswith("marks and goes out"):
            await self._begin(number, caller, later)
        elif step.endswith(" commits"):
            await self._commit(number)
        elif "it settles" in step:
            await self._end(number)

    async def _begin(self, number: int, caller: Caller, later: list[str]) -> None:
        kind = self.story.scenario.writes[number - 1][0]
        fate = self._fate(number, later)
        await self._rules(FATES[fate])
        body: Row = {"patch_by_filter": {"filters": ["id", "Eq", "a"], "patch": {"one": number}}}
        if kind == "upsert":
            body = {"upsert_rows": [{"id": "a", "one": number, "two": number}]}
        elif kind == "patch":
            body = {"patch_rows": [{"id": "a", "one": number}]}
        elif kind == "delete":
            body = {"deletes": ["a"]}
        request = Request("write", asyncio.ensure_future(caller.write(body, self.namespace)), fate)
        self.requests["write", number] = request
        await self._reached(request)
        assert request.gate is not None, "the write never came to the origin"

    async def _commit(self, number: int) -> None:
        request = self.requests["write", number]
        kind = self.story.scenario.writes[number - 1][0]
        self.history.append(written(kind, number, self.history[-1]))
        request.position = len(self.history) - 1
        await self._let_go(request)

    async def _end(self, number: int) -> None:
        request = self.requests["write", number]
        await self._let_go(request)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                status, answer = await request.task
        except HttpClientError:
            status, answer = 0, None
        self.counts[f"{request.fate}: {status}"] += 1
        # On a slow machine any of them may have waited too long for its sentence: nobody acknowledged it then.
        if status == 200:
            assert request.fate == "answered", answer
            self.acknowledged = max(self.acknowledged, request.position)

    async def _read(self, number: int, caller: Caller, step: str) -> None:
        known = ("read", number)
        if step.endswith("finds nothing") or " joins " in step:
            await self._rules(FATES["answered"])
            request = Request(
                "read", asyncio.ensure_future(caller.fetch("a", self.namespace)), oldest=self.acknowledged
            )
            self.requests[known] = request
            await self._reached(request, JOINS_SECONDS if " joins " in step else WAIT_SECONDS)
        elif known in self.requests:
            request = self.requests[known]
            await self._let_go(request)
            if not step.endswith("asks upstream"):
                await self._let_go(request)
        if known in self.requests and self.requests[known].task.done():
            self._check_read(number)

    def _check_read(self, number: int) -> None:
        request = self.requests.pop(("read", number))
        source, row = request.task.result()
        self.counts[f"fetch {source}"] += 1
        self._check(None if row is None else (row["one"], row["two"]), request.oldest, f"read {number} ({source})")

    def _check(self, row: Document, oldest: int, who: str) -> None:
        allowed = self.history[oldest:]
        assert row in allowed, f"{who} got {row}; the upstream held {allowed} since the last answer"

    async def _look_around(self) -> None:
        for number, gateway in enumerate(self.stage.gateways):
            found = await gateway.cache.lookup(self.namespace, KEY, PLAIN, None)
            if isinstance(found, bytes):
                row = orjson.loads(found)["attributes"]
                self._check((row["one"], row["two"]), self.acknowledged, f"gateway {number}")
                self.counts["served"] += 1

    async def _finish(self) -> None:
        """What is under way ends; what may have been committed by then may be read."""
        await self._rules([])
        for (kind, number), request in self.requests.items():
            if kind == "write" and not request.task.done():
                self.history.append(written(self.story.scenario.writes[number - 1][0], number, self.history[-1]))
            if request.gate is not None:
                request.gate.set()
        tasks = [request.task for request in self.requests.values()]
        async with asyncio.timeout(WAIT_SECONDS):
            while not all(task.done() for task in tasks):
                for kind in STOP_MS:
                    while not self.gates(kind).empty():
                        self.gates(kind).get_nowait().set()
                await asyncio.sleep(LOOK_SECONDS)
        for kind, number in list(self.requests):
            if kind == "read":
                self._check_read(number)
            else:
                self.requests[kind, number].task.exception()


async def play(folder: Path, clock: type[GateClock]) -> Counter[str]:
    """Raises: AssertionError: a gateway showed what it must not."""
    counts = Counter[str]()
    random, taken = Random(SEED), Counter[str]()
    async with staged(folder, engine="embedded", control=True, **SETTINGS) as stage:
        for round_number in range(ROUNDS):
            for name, scenario in SCENARIOS.items():
                story = walk(scenario, random, taken, warm=bool(round_number % 2))
                namespace = f"{name.replace(' ', '-').replace(',', '')}-{round_number}"
                await Player(stage, clock, story, namespace, counts).play()
    return counts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[GateClock]:
    GateClock.gates = {milliseconds: asyncio.Queue() for milliseconds in STOP_MS.values()}
    monkeypatch.setattr("hevlayer.origin.process.SystemClock", GateClock)
    return GateClock


async def test_no_history_shows_a_stale_row_through_two_gateways(tmp_path: Path, clock: type[GateClock]) -> None:
    counts = await play(tmp_path, clock)
    print(dict(counts))
    assert counts["served"] > ROUNDS
    for fate, statuses in {"answered": "200", "refused": "400"}.items():
        assert counts[f"{fate}: {statuses}"], counts


async def test_a_gateway_that_marks_nothing_is_found(
    tmp_path: Path, clock: type[GateClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mark(*_: Any) -> None:
        pass

    async def settle(*_: Any, **__: Any) -> bool:
        return True

    monkeypatch.setattr(EmbeddedEngine, "mark", mark)
    monkeypatch.setattr(EmbeddedEngine, "settle", settle)
    with pytest.raises(AssertionError, match="the upstream held"):
        await play(tmp_path, clock)
