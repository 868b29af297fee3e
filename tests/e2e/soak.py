"""Mixed load with faults, and a ledger that knows what every row may be.

Starts a local origin with faults on and a gateway before it, as a user would, then reads and writes at a few hundred
requests a second. One writer at a time owns an id, so the ledger knows for each row which states the answers allow: an
acknowledged write leaves exactly one, an unknown outcome leaves two, and the id is not written again until a read
around the gateway, late enough for any commit, has told which. At the end it asserts that

* no acknowledged write is missing and no row is duplicated, read through the gateway and read around it;
* no fetch that began after an acknowledged write showed an older row, a deleted one, or half of one;
* the gateway's memory is flat, and no connection or request is left open.

    python tests/e2e/soak.py [--seconds 600] [--rate 300] [--seed 1]
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hevlayer.clock import SystemClock
from hevlayer.http.client import ClientConfig, HttpClient, Origin
from hevlayer.http.errors import HttpClientError

NAMESPACE = "soak"
IDS = 4_000
DIMENSIONS = 8
BATCH_ROWS_MAX = 20
RESOLVE_IDS_MAX = 50
WORKERS = 24
START_SECONDS_MAX = 60
LATE_COMMIT_SECONDS = 10.0
"""After an unknown outcome: by then the upstream has committed it or never will, and a read tells which."""
QUIET_SECONDS = 8.0
"""After the load: longer than the gateway's deadline and the origin's longest fault, so that late commits are in."""
CALL_TIMEOUT_SECONDS = 30.0
INDEX_LAG_MS = 1_500
INDEX_SWAY_SECONDS = 4.0
GROWTH_BYTES_MAX = 24 << 20
GROWTH_FRACTION_MAX = 0.15
EXPORT_PAGE_ROWS = 1_000

FAULTS = {
    "seed": 11,
    "rules": [
        {"effect": {"kind": "latency_log_normal", "mu": 1.2, "sigma": 0.9, "cap_ms": 400}},
        {"effect": {"kind": "status", "status": 429}, "probability": 0.02},
        {"effect": {"kind": "status", "status": 503}, "probability": 0.01},
        {"effect": {"kind": "status", "status": 500, "when": "after"}, "probability": 0.005},
        {"effect": {"kind": "reset", "when": "before"}, "probability": 0.01},
        {"effect": {"kind": "reset", "when": "after"}, "probability": 0.01},
        {"effect": {"kind": "truncated_body"}, "probability": 0.005},
        {"effect": {"kind": "slow_body", "bytes_per_second": 20_000}, "probability": 0.005},
        {"effect": {"kind": "latency", "ms": 4_000, "when": "before"}, "probability": 0.001},
        {"effect": {"kind": "latency", "ms": 4_000, "when": "after"}, "probability": 0.001},
    ],
}

Row = dict[str, Any]
ABSENT: Row = {}


def row_of(number: int, version: int) -> Row:
    """A whole row of one version: every attribute says which, so that half a row gives itself away."""
    rng = random.Random(number * 1_000_003 + version)
    return {
        "id": f"doc-{number}",
        "vector": [round(rng.random(), 4) for _ in range(DIMENSIONS)],
        "title": f"version {version} of document {number}",
        "version": version,
        "patched": 0,
        "tags": [f"t{version % 7}", f"v{version}"],
    }


@dataclass(slots=True)
class Entry:
    """What one id may be. `settled` is false after an unknown outcome: then any of `allowed` may show up."""

    number: int
    allowed: list[Row] = field(default_factory=lambda: [ABSENT])
    settled: bool = True
    unknown_since: float = 0.0
    version: int = 0
    changes: int = 0
    busy: bool = False


def own_attributes(row: Row) -> Row:
    return {name: value for name, value in row.items() if not name.startswith("_hevlayer_")}


def attributes_of(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("id", "vector", "$dist")}


class Caller:
    def __init__(self, base_url: str) -> None:
        config = ClientConfig(connections_max=WORKERS * 2)
        self._client = HttpClient(Origin.parse(base_url), config, SystemClock())

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[bytes, bytes], Any]:
        """Status, headers and the decoded body. Raises: HttpClientError."""
        text = b"" if body is None else json.dumps(body).encode()
        answer = await self._client.request(
            method,
            path.encode(),
            [(b"authorization", b"Bearer tpuf_soak"), (b"content-type", b"application/json")],
            text,
            first_byte_timeout=CALL_TIMEOUT_SECONDS,
            total_timeout=CALL_TIMEOUT_SECONDS,
        )
        content = await answer.read(64 << 20)
        try:
            decoded = json.loads(content) if content else None
        except ValueError:
            decoded = content
        return answer.status, dict(answer.headers), decoded

    async def close(self) -> None:
        await self._client.close()


class Soak:
    def __init__(self, gateway: Caller, origin: Caller, rng: random.Random) -> None:
        self.gateway = gateway
        self.origin = origin
        self.rng = rng
        self.entries = [Entry(number) for number in range(IDS)]
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def problem(self, text: str) -> None:
        if len(self.problems) < 50:
            self.problems.append(text)
            print(f"PROBLEM: {text}", file=sys.stderr, flush=True)

    # --- load ---

    async def run(self, seconds: float, rate: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        await asyncio.gather(*(self._work(end, rate / WORKERS) for _ in range(WORKERS)))

    async def _work(self, end: float, rate: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self.rng.random() / rate
        while due < end:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due + 1 / rate, loop.time() - 1)
            action = self.rng.choices(
                (
                    self.upsert,
                    self.patch,
                    self.delete,
                    self.resolve,
                    self.fetch,
                    self.fetch_batch,
                    self.query,
                    self.look,
                ),
                (12, 8, 3, 6, 40, 6, 25, 6),
            )[0]
            try:
                await action()
            except HttpClientError as error:
                # The gateway itself must answer: only a fault between it and the origin may break a body in flight.
                self.counts[f"broken:{type(error).__name__}"] += 1

    def _own(self, count: int) -> list[Entry]:
        chosen = [entry for entry in self.rng.sample(self.entries, count) if entry.settled and not entry.busy]
        for entry in chosen:
            entry.busy = True
        return chosen

    async def _write(self, kind: str, entries: list[Entry], after: list[Row], body: Row) -> None:
        before = [entry.allowed[0] for entry in entries]
        for entry, new in zip(entries, after, strict=True):
            entry.allowed = [entry.allowed[0], new]
            entry.changes += 1
        outcome = "unknown"
        try:
            status, _, answer = await self.gateway.call("POST", f"/v2/namespaces/{NAMESPACE}", body)
            self.counts[f"{kind}:{status}"] += 1
            if status == 200:
                outcome = "ok"
            elif status in (400, 401, 403, 404, 409, 422):
                outcome = "refused"
                self.problem(f"{kind} was refused: {status} {answer}")
            elif status == 429:
                outcome = "refused"
        except HttpClientError as error:
            self.counts[f"{kind}:{type(error).__name__}"] += 1
        finally:
            for entry, old, new in zip(entries, before, after, strict=True):
                entry.changes += 1
                entry.busy = False
                if outcome == "unknown":
                    entry.settled = False
                    entry.unknown_since = asyncio.get_running_loop().time()
                else:
                    entry.allowed = [new if outcome == "ok" else old]

    async def upsert(self) -> None:
        entries = self._own(self.rng.randint(1, BATCH_ROWS_MAX))
        if not entries:
            return
        rows = []
        for entry in entries:
            entry.version += 1
            rows.append(row_of(entry.number, entry.version))
        schema = {"title": {"type": "string", "full_text_search": True}}
        body = {"upsert_rows": rows, "distance_metric": "cosine_distance", "schema": schema}
        await self._write("upsert", entries, rows, body)

    async def patch(self) -> None:
        entries = self._own(self.rng.randint(1, 5))
        if not entries:
            return
        value = self.rng.randint(1, 1_000_000)
        after = [{**entry.allowed[0], "patched": value} if entry.allowed[0] else ABSENT for entry in entries]
        rows = [{"id": f"doc-{entry.number}", "patched": value} for entry in entries]
        await self._write("patch", entries, after, {"patch_rows": rows})

    async def delete(self) -> None:
        entries = self._own(self.rng.randint(1, 3))
        if entries:
            ids = [f"doc-{entry.number}" for entry in entries]
            await self._write("delete", entries, [ABSENT] * len(entries), {"deletes": ids})

    async def resolve(self) -> None:
        """Finds out, around the gateway, what became of writes with an unknown outcome."""
        horizon = asyncio.get_running_loop().time() - LATE_COMMIT_SECONDS
        # One resolver at a time owns an id, as one writer does: the late answer of a second one would describe the row
        # from before the writes that the first one's answer allowed.
        entries = [
            entry for entry in self.entries if not entry.settled and not entry.busy and entry.unknown_since < horizon
        ][:RESOLVE_IDS_MAX]
        if not entries:
            return
        for entry in entries:
            entry.busy = True
        try:
            await self._resolve(entries)
        finally:
            for entry in entries:
                entry.busy = False

    async def _resolve(self, entries: list[Entry]) -> None:
        body = {
            "rank_by": ["id", "asc"],
            "limit": len(entries),
            "include_attributes": True,
            "filters": ["id", "In", [f"doc-{entry.number}" for entry in entries]],
            "consistency": {"level": "strong"},
        }
        status, _, answer = await self.origin.call("POST", f"/v2/namespaces/{NAMESPACE}/query", body)
        self.counts[f"resolve:{status}"] += 1
        if status != 200:
            return
        found = {row["id"]: own_attributes(row) for row in answer["rows"]}
        for entry in entries:
            seen = found.get(f"doc-{entry.number}", ABSENT)
            if seen not in entry.allowed:
                self.problem(f"after an unknown outcome doc-{entry.number} is {seen}, allowed {entry.allowed}")
            entry.allowed, entry.settled = [seen], True
            entry.changes += 1

    async def fetch(self) -> None:
        # The busy ids are read most: that is where a cache goes wrong.
        entry = self.entries[int(IDS * self.rng.random() ** 3)]
        names = ",".join(["title", "version", "patched", "tags"])
        before, allowed = entry.changes, list(entry.allowed)
        status, headers, answer = await self.gateway.call(
            "GET", f"/v2/namespaces/{NAMESPACE}/documents/doc-{entry.number}?include_attributes={names}"
        )
        self.counts[f"fetch:{status}:{headers.get(b'x-layer-cache', b'-').decode()}"] += 1
        if status == 200:
            self._judge(entry, answer["attributes"], before, allowed, "fetch")
        elif status == 404:
            self._judge(entry, ABSENT, before, allowed, "fetch")

    def _judge(self, entry: Entry, seen: Row, changes: int, allowed: list[Row], how: str) -> None:
        if entry.changes != changes:
            # A write was under way meanwhile: what it left is allowed as well.
            allowed = allowed + entry.allowed
        if seen not in [attributes_of(row) for row in allowed]:
            self.problem(f"{how} of doc-{entry.number} shows {seen}, allowed {[attributes_of(row) for row in allowed]}")

    async def fetch_batch(self) -> None:
        entries = self.rng.sample(self.entries, 30)
        before = [(entry.changes, list(entry.allowed)) for entry in entries]
        status, headers, answer = await self.gateway.call(
            "POST",
            f"/v2/namespaces/{NAMESPACE}/documents",
            {
                "ids": [f"doc-{entry.number}" for entry in entries],
                "include_attributes": ["title", "version", "patched", "tags"],
            },
        )
        self.counts[f"fetch_batch:{status}:{headers.get(b'x-layer-cache', b'-').decode()}"] += 1
        if status != 200:
            return
        found = {document["id"]: document["attributes"] for document in answer["documents"]}
        if len(found) != len(answer["documents"]) or len(found) + len(answer["missing"]) != len(entries):
            self.problem(f"fetch of {len(entries)} ids: {len(found)} documents, {len(answer['missing'])} missing")
        for entry, (changes, allowed) in zip(entries, before, strict=True):
            self._judge(entry, found.get(f"doc-{entry.number}", ABSENT), changes, allowed, "batch fetch")

    async def query(self) -> None:
        vector = [round(self.rng.random(), 3) for _ in range(DIMENSIONS)]
        body = self.rng.choice(
            (
                {"rank_by": ["vector", "ANN", vector], "limit": 20, "include_attributes": ["title", "version"]},
                {"rank_by": ["title", "BM25", f"version {self.rng.randint(1, 9)}"], "limit": 20},
                {"rank_by": ["version", "desc"], "limit": 20, "filters": ["patched", "Gt", 0]},
                {"aggregate_by": {"n": ["Count"]}},
                {
                    "queries": [
                        {"rank_by": ["vector", "ANN", vector], "limit": 10},
                        {"rank_by": ["title", "BM25", "document"], "limit": 10},
                    ],
                    "rerank_by": ["RRF"],
                    "limit": 10,
                },
            )
        )
        status, headers, answer = await self.gateway.call("POST", f"/v2/namespaces/{NAMESPACE}/query", body)
        self.counts[f"query:{status}:{headers.get(b'x-layer-consistency', b'-').decode()}"] += 1
        if status != 200:
            return
        for result in answer.get("results", [answer]):
            ids = [row["id"] for row in result.get("rows", [])]
            if len(ids) != len(set(ids)):
                self.problem(f"a query answers an id twice: {ids}")
            if any(name.startswith("_hevlayer_") for row in result.get("rows", []) for name in row):
                self.problem("a query answers a reserved attribute")

    async def look(self) -> None:
        path = self.rng.choice(
            (
                f"/v2/namespaces/{NAMESPACE}/metadata",
                "/v2/namespaces",
                "/v1/namespaces",
                f"/v1/namespaces/{NAMESPACE}/schema",
                "/health",
                "/metrics",
            )
        )
        status, _, _ = await self.gateway.call("GET", path)
        self.counts[f"look:{status}"] += 1

    # --- verdict ---

    async def export(self, caller: Caller, how: str) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        last: str | None = None
        while True:
            body: Row = {
                "rank_by": ["id", "asc"],
                "limit": EXPORT_PAGE_ROWS,
                "include_attributes": True,
                "consistency": {"level": "strong"},
            }
            if last is not None:
                body["filters"] = ["id", "Gt", last]
            status, _, answer = await caller.call("POST", f"/v2/namespaces/{NAMESPACE}/query", body)
            if status != 200:
                raise SystemExit(f"the export {how} answers {status}: {answer}")
            for row in answer["rows"]:
                if row["id"] in rows:
                    self.problem(f"{how}: {row['id']} is there twice")
                rows[row["id"]] = own_attributes(row)
            if len(answer["rows"]) < EXPORT_PAGE_ROWS:
                return rows
            last = answer["rows"][-1]["id"]

    async def verify(self) -> None:
        for how, caller in (("through the gateway", self.gateway), ("around the gateway", self.origin)):
            rows = await self.export(caller, how)
            for entry in self.entries:
                seen = rows.pop(f"doc-{entry.number}", ABSENT)
                if seen not in entry.allowed:
                    self.problem(f"{how}: doc-{entry.number} is {seen}, allowed {entry.allowed}")
            for unknown in rows:
                self.problem(f"{how}: {unknown} was never written")
        unsettled = sum(not entry.settled for entry in self.entries)
        print(f"  {unsettled} of {IDS} ids end with an unknown outcome")
        for entry in self.entries[::10]:
            status, _, answer = await self.gateway.call(
                "GET", f"/v2/namespaces/{NAMESPACE}/documents/doc-{entry.number}"
            )
            seen = answer["attributes"] if status == 200 else ABSENT
            if status not in (200, 404) or seen not in [attributes_of(row) for row in entry.allowed]:
                self.problem(f"the last fetch of doc-{entry.number}: {status} {seen}, allowed {entry.allowed}")


# --- processes ---


def listening_url(text: str) -> str | None:
    """From the line that a process prints once it listens."""
    for line in text.splitlines():
        if line.startswith("{") and line.endswith("}"):
            fields = json.loads(line)
            if str(fields.get("event", "")).endswith(" listening"):
                return str(fields.get("url") or f"http://{fields['host']}:{fields['port']}")
    return None


@contextlib.asynccontextmanager
async def process(
    *arguments: str, log: Path, **environment: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A `hevlayer` process and its base URL, which it prints at the start."""
    with log.open("wb") as sink:
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hevlayer.cli.main", *arguments,
            stdout=sink, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **environment},
        )  # fmt: skip
    try:
        for _ in range(START_SECONDS_MAX * 20):
            if running.returncode is not None:
                raise SystemExit(f"{arguments[0]} ended with {running.returncode}:\n{log.read_text()[-2000:]}")
            url = listening_url(log.read_text())
            if url is not None:
                break
            await asyncio.sleep(0.05)
        else:
            raise SystemExit(f"{arguments[0]} did not say where it listens:\n{log.read_text()[-2000:]}")
        yield running, url
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(running.wait(), 30)
            except TimeoutError:
                running.kill()
                raise SystemExit(f"{arguments[0]} did not stop within 30 s of SIGTERM") from None


def resident_bytes(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


async def sway_index(origin: Caller) -> None:
    """Lets the index fall behind and catch up by turns, so that watermarks move and predicates are applied."""
    while True:
        for lag_ms in (0, INDEX_LAG_MS):
            status, _, answer = await origin.call("PUT", "/_origin/index-lag", {"ms": lag_ms})
            if status >= 300:
                raise SystemExit(f"index lag: {status} {answer}")
            await asyncio.sleep(INDEX_SWAY_SECONDS)


async def watch(pid: int, samples: list[int]) -> None:
    while True:
        samples.append(resident_bytes(pid))
        await asyncio.sleep(1)


def judge_memory(samples: list[int]) -> str | None:
    """None when memory is flat: the last quarter's median against the second quarter's, the first being warm-up."""
    quarter = len(samples) // 4
    early = statistics.median(samples[quarter : 2 * quarter])
    late = statistics.median(samples[-quarter:])
    print(f"memory: {early / 2**20:.0f} MiB early, {late / 2**20:.0f} MiB late")
    if late - early > max(GROWTH_BYTES_MAX, GROWTH_FRACTION_MAX * early):
        return f"memory grew from {early / 2**20:.0f} to {late / 2**20:.0f} MiB"
    return None


def open_sockets(pid: int) -> int:
    return sum(1 for fd in Path(f"/proc/{pid}/fd").iterdir() if str(_target(fd)).startswith("socket:"))


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""


async def soak(seconds: float, rate: float, seed: int, folder: Path) -> int:
    origin_log, gateway_log = folder / "origin.log", folder / "gateway.log"
    async with process(
        "origin", "--port", "0", "--data-dir", str(folder / "origin"), "--control", log=origin_log
    ) as (_, origin_url), process(
        "gateway", "--port", "0",
        log=gateway_log,
        LAYER_UPSTREAM_URL=origin_url,
        LAYER_DATA_DIR=str(folder / "gateway"),
        TURBOPUFFER_API_KEY="tpuf_soak",
        LAYER_GATEWAY_API_KEY="",
        LAYER_FIRST_BYTE_TIMEOUT_SECONDS="2",
        LAYER_TOTAL_TIMEOUT_SECONDS="5",
        LAYER_WRITE_TIMEOUT_SECONDS="2",
        LAYER_UNKNOWN_WRITE_SECONDS="5",
        CONSISTENCY_POLL_INTERVAL_MS="200",
    ) as (gateway_process, gateway_url):  # fmt: skip
        gateway, origin = Caller(gateway_url), Caller(origin_url)
        test = Soak(gateway, origin, random.Random(seed))
        await test.upsert()  # the namespace exists before the faults begin
        status, _, answer = await origin.call("PUT", "/_origin/faults", FAULTS)
        if status >= 300:
            raise SystemExit(f"faults: {status} {answer}")
        samples: list[int] = []
        background = [
            asyncio.create_task(watch(gateway_process.pid, samples)),
            asyncio.create_task(sway_index(origin)),
        ]
        begun = asyncio.get_running_loop().time()
        await test.run(seconds, rate)
        elapsed = asyncio.get_running_loop().time() - begun
        for task in background:
            task.cancel()
        for end in await asyncio.gather(*background, return_exceptions=True):
            if not isinstance(end, asyncio.CancelledError):
                test.problem(f"a background task of the test ended: {end!r}")
        await origin.call("DELETE", "/_origin/faults")
        await origin.call("PUT", "/_origin/index-lag", {"ms": 0})
        await asyncio.sleep(QUIET_SECONDS)
        await test.verify()
        _, _, metrics = await gateway.call("GET", "/metrics")
        inflight = re.search(rb"^layer_tpuf_inflight ([\d.]+)", metrics if isinstance(metrics, bytes) else b"", re.M)
        if inflight is None or float(inflight.group(1)) != 0:
            test.problem(f"requests are still in flight upstream: {inflight.group(1) if inflight else 'no metric'}")
        await gateway.close()
        await origin.close()
        await asyncio.sleep(1)
        sockets = open_sockets(gateway_process.pid)
        grown = judge_memory(samples)
        if grown:
            test.problem(grown)
        if sockets > WORKERS * 4:
            test.problem(f"{sockets} sockets are open with no client left")
        requests = sum(test.counts.values())
        for name, count in sorted(test.counts.items()):
            print(f"  {count:8d}  {name}")
        if requests / elapsed < rate * 0.5:
            test.problem(f"only {requests / elapsed:.0f} requests a second were made, {rate:.0f} were asked for")
        for name in (
            "upsert:200",
            "patch:200",
            "delete:200",
            "fetch:200:hit",
            "query:200:filtered",
            "query:200:stable",
        ):
            if not test.counts[name]:
                test.problem(f"the load did not exercise what it should: no {name}")
        text = gateway_log.read_text()
        if "Traceback" in text:
            test.problem("the gateway's log has a traceback:\n" + text[text.index("Traceback") :][:3000])
        if "tpuf_soak" in text:
            test.problem("the gateway's log has a bearer")
    print(f"soak: {requests} requests in {elapsed:.0f} s, {sockets} sockets left, {len(test.problems)} problems")
    return 1 if test.problems else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hevlayer-soak-") as folder:
        sys.exit(asyncio.run(soak(options.seconds, options.rate, options.seed, Path(folder))))


if __name__ == "__main__":
    main()
