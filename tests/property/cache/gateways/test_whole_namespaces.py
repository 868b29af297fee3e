"""As `test_two_gateways`, with namespaces that are deleted, copied and stripped of an attribute, and warms.

What the cache counts is compared with the origin's count at the same cut."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
from gateways_stage import NAMESPACE, POLL_SECONDS, Caller, Row, Stage, faults, staged
from test_two_gateways import ABSENT, GROUPS, IDS, SCHEMA, Entry, Ledger, attributes_of

from hevlayer.http.errors import HttpClientError
from hevlayer.wire.reserved import STAMP_ATTRIBUTE

BACKUP = "films-backup"
TRIES_MAX = 20
LOOKS_MAX = 50
COPIES_MAX = 3
ROUNDS_MAX = 30
PATH = f"/v2/namespaces/{NAMESPACE}"
# No fault lasts longer: no write is carried out after its caller was told that its outcome is unknown.
SETTLED_SECONDS = 0.03
FAULTS: list[Row] = [
    {"effect": {"kind": "latency_log_normal", "mu": 0.5, "sigma": 0.8, "cap_ms": 10}},
    {"effect": {"kind": "status", "status": 429}, "match": {"method": "POST"}, "probability": 0.02},
    {"effect": {"kind": "status", "status": 500, "when": "after"}, "match": {"route": "write"}, "probability": 0.03},
    {"effect": {"kind": "reset", "when": "before"}, "match": {"method": "POST"}, "probability": 0.02},
    {"effect": {"kind": "reset", "when": "after"}, "match": {"route": "write"}, "probability": 0.03},
    {"effect": {"kind": "reset", "when": "after"}, "match": {"route": "delete"}, "probability": 0.1},
    {"effect": {"kind": "status", "status": 500, "when": "after"}, "match": {"route": "delete"}, "probability": 0.1},
    {"effect": {"kind": "reset", "when": "before"}, "match": {"route": "delete"}, "probability": 0.1},
]


class WholeLedger(Ledger):
    """`copied` is what the backup holds of each id."""

    def __init__(self, stage: Stage, random: Random, copied: list[Row]) -> None:
        super().__init__(stage, random, late_seconds=SETTLED_SECONDS)
        self.copied = copied
        self.closed = False

    def actions(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        return [
            *super().actions(),
            (self.replace_namespace, 3),
            (self.copy, 5),
            (self.drop_attribute, 4),
            (self.warm, 2),
            (self.count_cached, 5),
        ]

    def _own(self, entries: list[Entry]) -> list[Entry]:
        return [] if self.closed else super()._own(entries)

    async def _everything(self) -> list[Entry]:
        """Every id, after the writes that are under way; none when another call has asked for that before."""
        if self.closed:
            return []
        self.closed = True
        try:
            while any(entry.busy or entry.since is not None for entry in self.entries):
                await self.resolve()
            return super()._own(self.entries)
        finally:
            self.closed = False

    async def replace_namespace(self) -> None:
        await self.delete_namespace()
        for _ in range(COPIES_MAX):
            await self.copy()

    async def delete_namespace(self) -> None:
        if entries := await self._everything():

            async def call() -> int:
                status, _, _ = await self.caller().call("DELETE", PATH)
                return status

            await self._change("delete namespace", entries, [ABSENT] * len(entries), call)

    async def copy(self) -> None:
        """The upstream refuses it while the namespace has rows."""
        if any(row for entry in self.entries for row in entry.allowed):
            return
        if entries := await self._everything():
            await self._write("copy", entries, self.copied, {"copy_from_namespace": BACKUP})

    async def make_up(self) -> None:
        """Alone now, for what the walk did not come to; without it nothing was shown."""
        for _ in range(ROUNDS_MAX):
            if all(self.counts[kind] for kind in ("delete namespace 200", "copy 200", "count judged", "fetch hit")):
                return
            for action in (self.replace_namespace, self.count_cached, self.fetch, self.fetch):
                with contextlib.suppress(HttpClientError):
                    await action()
        raise AssertionError(self.counts)

    async def drop_attribute(self) -> None:
        if entries := await self._everything():
            after = [{k: v for k, v in entry.allowed[0].items() if k != "title"} for entry in entries]
            schema = {"title": {"drop": True}}
            if self.random.random() < 0.5:
                await self._write("drop", entries, after, {"schema": schema})
                return

            async def call() -> int:
                status, _, _ = await self.caller().call("POST", f"/v1/namespaces/{NAMESPACE}/schema", schema)
                return status

            await self._change("drop", entries, after, call)

    async def warm(self) -> None:
        status, _, _ = await self.caller().call("POST", f"{PATH}/warm")
        self.counts[f"warm {status}"] += 1

    async def count_cached(self) -> None:
        """While nobody writes; the rows are being fetched all the same."""
        entries = await self._everything()
        try:
            if entries:
                await self._warm_and_count(self.caller())
        finally:
            for entry in entries:
                entry.busy = False

    async def _warm_and_count(self, caller: Caller) -> None:
        status, _, job = await caller.call("POST", f"{PATH}/warm")
        for _ in range(LOOKS_MAX):
            if status != 202 or job["status"] != "running":
                break
            await asyncio.sleep(POLL_SECONDS)
            _, _, job = await caller.call("GET", f"{PATH}/warm-jobs/{job['id']}")
        status, _, answer = await caller.call("POST", f"{PATH}/scans", {"mode": "count", "source": "cache"})
        self.counts[f"count {status}"] += 1
        assert status != 500, answer
        if status != 200:
            return
        query: Row = {"aggregate_by": {"count": ["Count"]}}
        if STAMP_ATTRIBUTE in (await self.stage.origin.call("GET", f"/v1/namespaces/{NAMESPACE}/schema"))[2]:
            query["filters"] = [STAMP_ATTRIBUTE, "Lte", answer["watermark_ms"]]
        status, _, wanted = await self.stage.origin.call("POST", f"{PATH}/query", query)
        if status == 200:
            assert answer["count"] == wanted["aggregations"]["count"], (answer, wanted)
            self.counts["count judged"] += 1

    async def _resolved(self, entries: list[Entry]) -> dict[str, Row] | None:
        body = {"rank_by": ["id", "asc"], "limit": IDS, "include_attributes": True}
        status, _, answer = await self.stage.origin.call("POST", f"{PATH}/query", body)
        if status == 404:
            return {}
        return {row["id"]: attributes_of(row) for row in answer["rows"]} if status == 200 else None


async def write_backup(stage: Stage, copied: list[Row]) -> None:
    """Around the gateways, so that its rows have no stamp."""
    rows = [{"id": f"doc-{number}", **row} for number, row in enumerate(copied)]
    for _ in range(TRIES_MAX):
        with contextlib.suppress(HttpClientError):
            status, _ = await stage.origin.write({"upsert_rows": rows, "schema": SCHEMA}, BACKUP)
            if status == 200:
                return
    raise AssertionError("the origin takes no write")


@pytest.mark.parametrize(("engine", "seed"), [("twin", 1), ("embedded", 2)])
async def test_whatever_happens_to_the_namespace(engine: str, seed: int, tmp_path: Path) -> None:
    copied: list[Row] = [
        {"title": f"copy {number}", "group": number % GROUPS, "version": -number, "patched": 0} for number in range(IDS)
    ]
    async with staged(tmp_path, engine=engine, rules=faults(FAULTS, seed)) as stage:
        await write_backup(stage, copied)
        ledger = WholeLedger(stage, Random(seed), copied)
        await ledger.upsert()
        await asyncio.sleep(2 * POLL_SECONDS)
        await ledger.run()
        await ledger.make_up()
