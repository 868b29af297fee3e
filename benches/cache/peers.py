"""Documents by id from the embedded cache, as a gateway calls it, beside LMDB, RocksDB and Redis on the same rows.

All are called from one Python process with the same key, bytes that are made beforehand, and give `bytes`, a batch a
list of them. The cache looks for marks, epochs and age, makes sure that the row is in memory, and composes the
document's JSON text from its typed row; the peers copy the same text as they were given it: LMDB by py-lmdb, one
transaction a get or batch, RocksDB by rocksdict, Redis by redis-py with hiredis over loopback. Point gets and batches
of 100, ids drawn evenly; `warm` after every row was read once, `cold` with the pages of all files dropped and
everything opened anew (Redis holds its rows in its own memory, so that it has no cold). Rounds go through the
candidates in turn; the report has the medians of the rounds.

    python benches/cache/peers.py [--mebibytes 256] [--rounds 3] [--out FILE]
"""

import asyncio
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import lmdb
import redis
import redis.asyncio
import rocksdict

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "benches")]

from loopback import WORDS, free_port  # noqa: E402
from reporting import arguments, write_report  # noqa: E402

from hevlayer.clock import SystemClock  # noqa: E402
from hevlayer.kernels.doccache import DocProjection, DocRows  # noqa: E402
from hevlayer.stores.doccache_embedded import EmbeddedEngine  # noqa: E402

SIZES = (1 << 10, 4 << 10, 20 << 10)
BATCH_IDS = 100
WARM_GETS = 10_000
WARM_BATCHES = 200
COLD_GETS = 500
COLD_BATCHES = 20
FILL_ROWS = 200
START_SECONDS_MAX = 30
NAMESPACE = "documents"
GIVES = {
    "hevlayer": "JSON text composed from a typed row, after a look at marks, epoch, age and residence; one snapshot",
    "lmdb": "a copy of the text that was put, in one read transaction",
    "rocksdb": "a copy of the text that was put, decompressed",
    "redis": "the text that was put, over loopback",
}
PLAIN = DocProjection()
MIB = 1 << 20


def key_of(number: int) -> bytes:
    return b"\x02doc-%08d" % number


def row(number: int, size: int, rng: random.Random) -> dict[str, object]:
    """A document whose JSON text has about `size` bytes, most of them in one text."""
    found: dict[str, object] = {
        "id": f"doc-{number:08d}",
        "title": " ".join(rng.choices(WORDS, k=5)),
        "year": rng.randrange(1900, 2027),
        "price": rng.random(),
        "tags": rng.choices(WORDS, k=3),
    }
    left = size - len(json.dumps(found)) - 40
    words = " ".join(rng.choices(WORDS, k=left // 4))
    return {**found, "text": words[:left]}


class Candidate(Protocol):
    """`get` and `get_many` are awaited, as a gateway would; None is a failure of the suite."""

    name: str
    has_cold: bool

    async def open(self) -> None: ...

    async def put(self, keys: list[bytes], texts: list[bytes], rows: list[dict[str, object]]) -> None: ...

    async def get(self, key: bytes) -> bytes | None: ...

    async def get_many(self, keys: list[bytes]) -> list[bytes | None]: ...

    async def close(self) -> None: ...


class Ours:
    name = "hevlayer"
    has_cold = True

    def __init__(self, directory: Path, capacity_bytes: int) -> None:
        self.directory = directory
        self.capacity_bytes = capacity_bytes

    async def open(self) -> None:
        self.engine = EmbeddedEngine.open(
            self.directory,
            SystemClock(),
            upstream="https://upstream",
            capacity_bytes=self.capacity_bytes,
            timeout_seconds=30.0,
        )

    async def put(self, keys: list[bytes], texts: list[bytes], rows: list[dict[str, object]]) -> None:
        ticket = await self.engine.begin_fill(NAMESPACE)
        found = DocRows(json.dumps({"rows": rows}).encode(), [])
        put, _ = await self.engine.fill_page(NAMESPACE, found, ticket)
        if put != len(rows):
            raise SystemExit(f"{put} of {len(rows)} rows were put")

    async def get(self, key: bytes) -> bytes | None:
        found = self.engine.lookup_now(NAMESPACE, key, PLAIN, None)
        if found is None:
            waited = await self.engine.lookup(NAMESPACE, key, PLAIN, None)
            found = waited if isinstance(waited, bytes) else None
        return found

    async def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        found = await self.engine.lookup_many(NAMESPACE, keys, PLAIN)
        return [each if isinstance(each, bytes) else None for each in found]

    async def close(self) -> None:
        await self.engine.close()


class Lmdb:
    name = "lmdb"
    has_cold = True

    def __init__(self, directory: Path, capacity_bytes: int) -> None:
        self.directory = directory
        self.capacity_bytes = capacity_bytes

    async def open(self) -> None:
        self.env = lmdb.open(str(self.directory), map_size=4 * self.capacity_bytes, sync=False, metasync=False)

    async def put(self, keys: list[bytes], texts: list[bytes], rows: list[dict[str, object]]) -> None:
        with self.env.begin(write=True) as txn:
            txn.cursor().putmulti(zip(keys, texts, strict=True))

    async def get(self, key: bytes) -> bytes | None:
        with self.env.begin() as txn:
            found: bytes | None = txn.get(key)
        return found

    async def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        with self.env.begin() as txn:
            return [txn.get(key) for key in keys]

    async def close(self) -> None:
        self.env.sync(True)
        self.env.close()


class Rocks:
    name = "rocksdb"
    has_cold = True

    def __init__(self, directory: Path, capacity_bytes: int) -> None:
        self.directory = directory
        self.capacity_bytes = capacity_bytes

    async def open(self) -> None:
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        blocks = rocksdict.BlockBasedOptions()
        # As much as the page cache holds of the others' files.
        blocks.set_block_cache(rocksdict.Cache(2 * self.capacity_bytes))
        blocks.set_bloom_filter(10, False)
        options.set_block_based_table_factory(blocks)
        self.db = rocksdict.Rdict(str(self.directory), options)

    async def put(self, keys: list[bytes], texts: list[bytes], rows: list[dict[str, object]]) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, text in zip(keys, texts, strict=True):
            batch.put(key, text)
        self.db.write(batch)

    async def get(self, key: bytes) -> bytes | None:
        found: bytes | None = self.db.get(key)
        return found

    async def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return list(self.db.get(keys))

    async def close(self) -> None:
        self.db.flush()
        self.db.close()


class Redis:
    name = "redis"
    has_cold = False

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port

    async def open(self) -> None:
        self.client = redis.asyncio.Redis(port=self.port)

    async def put(self, keys: list[bytes], texts: list[bytes], rows: list[dict[str, object]]) -> None:
        await self.client.mset(dict(zip(keys, texts, strict=True)))

    async def get(self, key: bytes) -> bytes | None:
        found: bytes | None = await self.client.get(key)
        return found

    async def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return list(await self.client.mget(keys))

    async def close(self) -> None:
        await self.client.aclose()


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """A Redis without persistence. Gives its port."""
    port = free_port()
    process = subprocess.Popen(
        [
            "redis-server",
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            folder,
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            with contextlib.suppress(redis.ConnectionError), redis.Redis(port=port) as client:
                client.ping()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("redis-server did not start")
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(START_SECONDS_MAX)


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def drop_pages(directory: Path) -> None:
    """Leaves nothing of the files in the page cache, which must not be mapped by anybody now."""
    for path in files(directory):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def summary(micros: list[float]) -> dict[str, float]:
    ordered = sorted(micros)
    return {"p50_us": statistics.median(ordered), "p99_us": ordered[int(len(ordered) * 0.99)]}


async def timed(count: int, call: Callable[[], Awaitable[bool]]) -> dict[str, float]:
    """`call` says whether it found what it should."""
    micros = []
    for _ in range(count):
        started = time.perf_counter_ns()
        good = await call()
        micros.append((time.perf_counter_ns() - started) / 1000)
        if not good:
            raise SystemExit("a document is missing")
    return summary(micros)


async def measure(candidate: Candidate, documents: int, gets: int, batches: int, rng: random.Random) -> dict[str, Any]:
    async def get() -> bool:
        return await candidate.get(key) is not None

    async def get_many() -> bool:
        return None not in await candidate.get_many(keys)

    points, groups = [], []
    for _ in range(gets):
        key = key_of(rng.randrange(documents))
        points.append(await timed(1, get))
    for _ in range(batches):
        keys = [key_of(rng.randrange(documents)) for _ in range(BATCH_IDS)]
        groups.append(await timed(1, get_many))
    return {
        "get": summary([each["p50_us"] for each in points]),
        "batch_100": summary([each["p50_us"] for each in groups]),
    }


async def check(candidate: Candidate, texts: list[bytes], rng: random.Random) -> None:
    """They give the same document."""
    for number in rng.sample(range(len(texts)), 50):
        found = await candidate.get(key_of(number))
        if found is None or json.loads(found) != json.loads(texts[number]):
            raise SystemExit(f"{candidate.name} gives another document")


async def run_size(size: int, mebibytes: int, rounds: int, folder: Path, port: int) -> dict[str, Any]:
    documents = mebibytes * MIB // size
    rng = random.Random(11)
    rows = [row(number, size, rng) for number in range(documents)]
    texts = []
    for each in rows:
        attributes = {name: value for name, value in each.items() if name != "id"}
        texts.append(json.dumps({"id": each["id"], "attributes": attributes}, separators=(",", ":")).encode())
    json_bytes = sum(map(len, texts))
    capacity = 4 * mebibytes * MIB + (256 << 20)
    candidates: list[Candidate] = [
        Ours(folder / "hevlayer", capacity),
        Lmdb(folder / "lmdb", capacity),
        Rocks(folder / "rocksdb", capacity),
        Redis(folder / "redis", port),
    ]
    found: dict[str, Any] = {}
    for candidate in candidates:
        (folder / candidate.name).mkdir()
        await candidate.open()
        started = time.perf_counter()
        for at in range(0, documents, FILL_ROWS):
            part = slice(at, at + FILL_ROWS)
            await candidate.put([key_of(number) for number in range(documents)[part]], texts[part], rows[part])
        found[candidate.name] = {"filled_rows_per_second": round(documents / (time.perf_counter() - started))}
        await check(candidate, texts, rng)
        await candidate.close()
        if candidate.has_cold:
            kept = sum(path.stat().st_blocks * 512 for path in files(folder / candidate.name))
            found[candidate.name]["space_ratio"] = round(kept / json_bytes, 3)
    measured: dict[str, list[dict[str, Any]]] = {candidate.name: [] for candidate in candidates}
    for _ in range(rounds):
        for candidate in candidates:
            result = {}
            if candidate.has_cold:
                drop_pages(folder / candidate.name)
                await candidate.open()
                result["cold"] = await measure(candidate, documents, COLD_GETS, COLD_BATCHES, rng)
            else:
                await candidate.open()
            for number in range(documents):
                await candidate.get(key_of(number))
            result["warm"] = await measure(candidate, documents, WARM_GETS, WARM_BATCHES, rng)
            await candidate.close()
            measured[candidate.name].append(result)
    for name, results in measured.items():
        found[name] |= medians(results)
    ours = found["hevlayer"]["warm"]
    peers = [found[name]["warm"] for name in found if name != "hevlayer"]
    for what in ("get", "batch_100"):
        fastest = min(peer[what]["p50_us"] for peer in peers)
        found[f"{what}: hevlayer / fastest peer, warm p50"] = round(ours[what]["p50_us"] / fastest, 2)
    for candidate in candidates:
        shutil.rmtree(folder / candidate.name)
    with redis.Redis(port=port) as client:
        client.flushall()
    print(f"bench: {size} bytes: {json.dumps(found)}", file=sys.stderr)
    return {"value_bytes": size, "documents": documents, "json_bytes": json_bytes, "results": found}


def medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The same tree with the median of every number."""
    return {
        name: medians([result[name] for result in results])
        if isinstance(value, dict)
        else round(statistics.median(result[name] for result in results), 2)
        for name, value in results[0].items()
    }


async def run(mebibytes: int, rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as made, redis_server(Path(made)) as port:
        sizes = [await run_size(size, mebibytes, rounds, Path(made), port) for size in SIZES]
    return {"mebibytes": mebibytes, "rounds": rounds, "each gives": GIVES, "sizes": sizes}


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--mebibytes", type=int, default=256, help="of JSON, for each size of a document")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    write_report("cache", asyncio.run(run(options.mebibytes, options.rounds)), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
