"""Two gateways over one cache and an origin that resets, delays, refuses and loses answers: no fetch shows a stale row.

One writer at a time owns an id, so that a ledger knows what each row may be: an acknowledged write leaves exactly one
state, an unknown outcome leaves two, and the id is written again only after a look around the gateways, late enough for
any commit, has told which.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from gateways_stage import NAMESPACE, POLL_SECONDS, WRITE_SECONDS, Caller, Row, Stage, faults, staged

from hevlayer.http.errors import HttpClientError

IDS = 12
GROUPS = 4
WORKERS = 6
CALLS = 900
# A write that was cut off has reached the origin by then, or never will: the longest fault is half of it.
LATE_SECONDS = 2 * WRITE_SECONDS
ABSENT: Row = {}
SCHEMA = {"title": "string", "group": "int", "version": "int", "patched": "int"}

FAULTS: list[Row] = [
    {"effect": {"kind": "latency_log_normal", "mu": 0.5, "sigma": 0.8, "cap_ms": 20}},
    {"effect": {"kind": "status", "status": 429}, "match": {"method": "POST"}, "probability": 0.02},
    {"effect": {"kind": "status", "status": 500, "when": "after"}, "match": {"route": "write"}, "probability": 0.02},
    {"effect": {"kind": "reset", "when": "before"}, "match": {"method": "POST"}, "probability": 0.02},
    {"effect": {"kind": "reset", "when": "after"}, "match": {"route": "write"}, "probability": 0.03},
    {"effect": {"kind": "truncated_body"}, "match": {"method": "POST"}, "probability": 0.01},
    {"effect": {"kind": "latency", "ms": 400, "when": "before"}, "match": {"route": "write"}, "probability": 0.01},
    {"effect": {"kind": "latency", "ms": 400, "when": "after"}, "match": {"route": "write"}, "probability": 0.01},
]


@dataclass
class Entry:
    """What one id may be; after an unknown outcome (`since` says when) any of `allowed`."""

    number: int
    allowed: list[Row] = field(default_factory=lambda: [ABSENT])
    since: float | None = None
    changes: int = 0
    busy: bool = False

    @property
    def id(self) -> str:
        return f"doc-{self.number}"

    @property
    def group(self) -> int:
        return self.number % GROUPS


@dataclass
class Ledger:
    stage: Stage
    random: Random
    entries: list[Entry] = field(default_factory=lambda: [Entry(number) for number in range(IDS)])
    counts: Counter[str] = field(default_factory=Counter)
    version: int = 0
    calls: int = 0
    late_seconds: float = LATE_SECONDS

    def caller(self) -> Caller:
        return self.random.choice(self.stage.callers)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        actions, weights = zip(*self.actions(), strict=True)
        while self.calls < CALLS:
            self.calls += 1
            action = self.random.choices(actions, weights)[0]
            with contextlib.suppress(HttpClientError):
                await action()

    def actions(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        """What may happen, and how often."""
        return [
            (self.fetch, 40),
            (self.fetch_batch, 8),
            (self.upsert, 14),
            (self.patch, 10),
            (self.delete, 4),
            (self.by_filter, 3),
            (self.conditional, 4),
            (self.resolve, 20),
        ]

    def _own(self, entries: list[Entry]) -> list[Entry]:
        chosen = [entry for entry in entries if entry.since is None and not entry.busy]
        for entry in chosen:
            entry.busy = True
        return chosen

    async def _write(self, kind: str, entries: list[Entry], after: list[Row], body: Row) -> None:
        async def call() -> int:
            status, answer = await self.caller().write(body)
            if status == 200:
                assert not {"upserted_ids", "patched_ids", "deleted_ids"} & answer.keys()
            return status

        await self._change(kind, entries, after, call)

    async def _change(
        self, kind: str, entries: list[Entry], after: list[Row], call: Callable[[], Awaitable[int]]
    ) -> None:
        """A call that turns rows into `after`, unless it is refused."""
        before = [entry.allowed[0] for entry in entries]
        for entry, new in zip(entries, after, strict=True):
            entry.allowed = [entry.allowed[0], new]
            entry.changes += 1
        outcome = "unknown"
        try:
            status = await call()
            self.counts[f"{kind} {status}"] += 1
            if status == 200:
                outcome = "ok"
            elif 400 <= status < 500 and status != 408:
                outcome = "refused"
        finally:
            for entry, old, new in zip(entries, before, after, strict=True):
                entry.changes += 1
                entry.busy = False
                if outcome == "unknown":
                    entry.since = asyncio.get_running_loop().time()
                else:
                    entry.allowed = [new if outcome == "ok" else old]

    def _some(self, count: int) -> list[Entry]:
        return self._own(self.random.sample(self.entries, self.random.randint(1, count)))

    def _row(self, entry: Entry) -> Row:
        self.version += 1
        return {"title": f"title {self.version}", "group": entry.group, "version": self.version, "patched": 0}

    async def upsert(self) -> None:
        if entries := self._some(3):
            after = [self._row(entry) for entry in entries]
            rows = [{"id": entry.id, **row} for entry, row in zip(entries, after, strict=True)]
            await self._write("upsert", entries, after, {"upsert_rows": rows, "schema": SCHEMA})

    async def patch(self) -> None:
        if entries := self._some(2):
            self.version += 1
            after = [{**entry.allowed[0], "patched": self.version} if entry.allowed[0] else ABSENT for entry in entries]
            rows = [{"id": entry.id, "patched": self.version} for entry in entries]
            await self._write("patch", entries, after, {"patch_rows": rows})

    async def delete(self) -> None:
        if entries := self._some(2):
            await self._write("delete", entries, [ABSENT] * len(entries), {"deletes": [each.id for each in entries]})

    async def conditional(self) -> None:
        """Only rows that were never patched are replaced."""
        if entries := self._some(2):
            rows = [self._row(entry) for entry in entries]
            after = [
                entry.allowed[0] if entry.allowed[0].get("patched") else row
                for entry, row in zip(entries, rows, strict=True)
            ]
            body = {
                "upsert_rows": [{"id": entry.id, **row} for entry, row in zip(entries, rows, strict=True)],
                "upsert_condition": ["patched", "Eq", 0],
            }
            await self._write("conditional", entries, after, body)

    async def by_filter(self) -> None:
        """Changes a whole group, if nobody else writes to it."""
        group = self.random.randrange(GROUPS)
        members = [entry for entry in self.entries if entry.group == group]
        if any(entry.busy or entry.since is not None for entry in members):
            return
        entries = self._own(members)
        if not entries:
            return
        self.version += 1
        if self.random.random() < 0.3:
            await self._write(
                "by filter", entries, [ABSENT] * len(entries), {"delete_by_filter": ["group", "Eq", group]}
            )
            return
        after = [{**entry.allowed[0], "patched": self.version} if entry.allowed[0] else ABSENT for entry in entries]
        body = {"patch_by_filter": {"filters": ["group", "Eq", group], "patch": {"patched": self.version}}}
        await self._write("by filter", entries, after, body)

    async def resolve(self) -> None:
        """Looks around the gateways what became of writes with an unknown outcome."""
        horizon = asyncio.get_running_loop().time() - self.late_seconds
        entries = [
            each
            for each in self.entries
            if each.since is not None
            and each.since < horizon
            and not each.busy
            and not self.stage.carries_out(each.since)
        ]
        if not entries:
            await asyncio.sleep(0.005)
            return
        for entry in entries:
            entry.busy = True
        try:
            found = await self._resolved(entries)
            if found is None:
                return
            for entry in entries:
                seen = found.get(entry.id, ABSENT)
                assert seen in entry.allowed, f"{entry.id} is {seen}, allowed {entry.allowed}"
                entry.allowed, entry.since = [seen], None
                entry.changes += 1
        finally:
            for entry in entries:
                entry.busy = False

    async def _resolved(self, entries: list[Entry]) -> dict[str, Row] | None:
        body = {
            "rank_by": ["id", "asc"],
            "limit": len(entries),
            "include_attributes": True,
            "filters": ["id", "In", [entry.id for entry in entries]],
        }
        status, _, answer = await self.stage.origin.call("POST", f"/v2/namespaces/{NAMESPACE}/query", body)
        return {row["id"]: attributes_of(row) for row in answer["rows"]} if status == 200 else None

    async def fetch(self) -> None:
        entry = self.random.choice(self.entries)
        changes, allowed = entry.changes, list(entry.allowed)
        status, headers, answer = await self.caller().call("GET", f"/v2/namespaces/{NAMESPACE}/documents/{entry.id}")
        self.counts[f"fetch {headers.get(b'x-layer-cache', b'-').decode()}"] += 1
        if status in (200, 404):
            self._judge(entry, answer["attributes"] if status == 200 else ABSENT, changes, allowed)

    async def fetch_batch(self) -> None:
        entries = self.random.sample(self.entries, 5)
        before = [(entry.changes, list(entry.allowed)) for entry in entries]
        body = {"ids": [entry.id for entry in entries]}
        status, _, answer = await self.caller().call("POST", f"/v2/namespaces/{NAMESPACE}/documents", body)
        if status == 200:
            found = {document["id"]: document["attributes"] for document in answer["documents"]}
            for entry, (changes, allowed) in zip(entries, before, strict=True):
                self._judge(entry, found.get(entry.id, ABSENT), changes, allowed)

    def _judge(self, entry: Entry, seen: Row, changes: int, allowed: list[Row]) -> None:
        if entry.changes != changes:
            # A write was under way meanwhile: what it left is allowed as well.
            allowed = allowed + entry.allowed
        assert seen in allowed, f"a fetch of {entry.id} shows {seen}, allowed {allowed}"


def attributes_of(row: dict[str, Any]) -> Row:
    return {name: value for name, value in row.items() if name != "id" and not name.startswith("_hevlayer_")}


@pytest.mark.parametrize(("engine", "seed"), [("twin", 1), ("embedded", 2)])
async def test_no_fetch_shows_a_stale_row(engine: str, seed: int, tmp_path: Path) -> None:
    async with staged(tmp_path, engine=engine, rules=faults(FAULTS, seed)) as stage:
        ledger = Ledger(stage, Random(seed))
        await ledger.upsert()
        await asyncio.sleep(2 * POLL_SECONDS)
        await ledger.run()
        left = sum(gateway.cache.written_rows for gateway in stage.gateways)
    # Without hits, and rows that writes left, nothing was shown.
    assert ledger.counts["fetch hit"] > CALLS / 100, ledger.counts
    assert left > CALLS / 100, ledger.counts
