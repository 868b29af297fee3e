"""How quickly a warm fills the document cache, beside a bare client that drains the same pages of the same origin.

A local origin holds the documents: text, numbers, a list and a vector of 32 dimensions, about a kilobyte of JSON each.
The bare client (the peer) sends the very queries that a warm sends, noted from a walk like its: whole rows in ascending
order of ids, as many bytes a page, as many at a time, on keep-alive connections, by `http.client` in threads; it knows
all of them beforehand, and throws the answers away. The warm is `POST …/warm` at a gateway
with an empty cache, until its job is completed and the namespace is called warm. Both take turns; the report has the
medians. It also tells what the gateway holds in memory by itself, files that it has mapped left out, and what the cache
takes on disk for each byte of JSON. The origin has core 0 to itself, as if it were another machine; client and gateway
have core 1. With `--together` all of them have both: then the gateway may read pages while it puts others, as far as
the origin leaves it time.

    python benches/gateway/warm.py [--rows 1000000] [--runs 3] [--together] [--out FILE]
"""

import asyncio
import base64
import contextlib
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "benches")]

from loopback import WORDS, Caller, free_port  # noqa: E402
from reporting import arguments, write_report  # noqa: E402

from hevlayer.gateway.reads import PageEnd, Span, Walk  # noqa: E402
from hevlayer.gateway.warm.pages import PageSizer, highest_body, page_body  # noqa: E402
from hevlayer.gateway.warm.warmer import READERS_MAX  # noqa: E402

ORIGIN_CORE, OUR_CORE = "0", "1"
ALL_CORES = "0,1"
DIMENSIONS = 32
BATCH_ROWS = 5_000
START_SECONDS_MAX = 120
WARM_SECONDS_MAX = 1_800
POLL_SECONDS = 0.02
# How often the job and the gateway's memory are looked at, which costs the gateway's core as well.
WATCH_SECONDS = 0.05
CHECKED_IDS = 1_000
TICKS = os.sysconf("SC_CLK_TCK")
PATH = "/v2/namespaces/documents"


def batch(start: int, count: int, rng: np.random.Generator) -> bytes:
    """Rows from `start` on, as columns."""
    picked = rng.integers(0, len(WORDS), (count, 60))
    vectors = rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
    columns = {
        "id": list(range(start, start + count)),
        "vector": [base64.b64encode(vector.tobytes()).decode() for vector in vectors],
        "title": [" ".join(WORDS[each] for each in row[:5]) for row in picked],
        "text": [" ".join(WORDS[each] for each in row[5:]) for row in picked],
        "year": rng.integers(1900, 2027, count).tolist(),
        "price": rng.random(count).tolist(),
        "tags": [[WORDS[each] for each in row[:3]] for row in picked],
    }
    return json.dumps({"upsert_columns": columns, "distance_metric": "cosine_distance"}).encode()


@contextlib.contextmanager
def running(*command: str, core: str, port: int, log: Path, env: dict[str, str] | None = None) -> Iterator[int]:
    """A process of ours that listens on a port. Gives its id."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            ["taskset", "-c", core, sys.executable, "-m", "hevlayer.cli.main", *command, "--port", str(port)],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "python"), **(env or {})},
        )
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start:\n{log.read_text()}")
            time.sleep(POLL_SECONDS)
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def own_mib(pid: int) -> float:
    """Resident, without the pages of files."""
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(status.split(f"{name}:")[1].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024


def disk_bytes(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def load(port: int, rows: int) -> None:
    rng = np.random.default_rng(7)
    caller = Caller(port)
    for start in range(0, rows, BATCH_ROWS):
        caller.call("POST", PATH, batch(start, min(BATCH_ROWS, rows - start), rng))


def pages(port: int) -> list[bytes]:
    """The bodies of the pages of one walk over the namespace, as a warm makes it."""
    bodies: list[bytes] = []
    sizer = PageSizer()
    callers = [Caller(port) for _ in range(READERS_MAX)]

    async def read_page(span: Span) -> PageEnd:
        wanted = sizer.rows
        body = page_body(span, wanted)
        bodies.append(body)
        caller = callers.pop()
        answer = await asyncio.to_thread(caller.call, "POST", f"{PATH}/query", body)
        callers.append(caller)
        found = json.loads(answer)["rows"]
        sizer.saw(len(found), len(answer))
        if not found:
            return PageEnd(0, None, None, more=False)
        return PageEnd(len(found), found[0]["id"], found[-1]["id"], more=len(found) >= wanted)

    async def highest() -> int | None:
        found = json.loads(Caller(port).call("POST", f"{PATH}/query", highest_body()))["rows"]
        return int(found[0]["id"]) if found else None

    walk = Walk(read_page, highest, lambda share, rows: None, id_type="uint", readers_max=READERS_MAX)
    asyncio.run(walk.run())
    return bodies


def drain(port: int, bodies: list[bytes]) -> tuple[float, int]:
    """Seconds and bytes of all pages, `READERS_MAX` at a time."""
    waiting = iter(bodies)

    def reader(caller: Caller) -> int:
        return sum(len(caller.call("POST", f"{PATH}/query", body)) for body in waiting_bodies())

    def waiting_bodies() -> Iterator[bytes]:
        while (body := next(waiting, None)) is not None:
            yield body

    callers = [Caller(port) for _ in range(READERS_MAX)]
    started = time.perf_counter()
    with ThreadPoolExecutor(READERS_MAX) as pool:
        total = sum(pool.map(reader, callers))
    return time.perf_counter() - started, total


def warm(origin_port: int, rows: int, folder: Path, core: str) -> dict[str, float]:
    """One warm of an empty cache."""
    port = free_port()
    settings = {
        "LAYER_UPSTREAM_URL": f"http://127.0.0.1:{origin_port}",
        "LAYER_CACHE_CAPACITY_BYTES": str(16 << 30),
        "LAYER_ACCESS_LOG": "off",
    }
    with running("gateway", "--data-dir", str(folder), core=core, port=port, log=folder / "log", env=settings) as pid:
        caller = Caller(port)
        # The watcher's first poll is over before the clock runs.
        caller.call("GET", f"{PATH}/metadata")
        before = cpu_seconds(pid)
        started = time.perf_counter()
        job = json.loads(caller.call("POST", f"{PATH}/warm", status=202))
        own = own_mib(pid)
        while job["status"] == "running" and time.perf_counter() < started + WARM_SECONDS_MAX:
            time.sleep(WATCH_SECONDS)
            own = max(own, own_mib(pid))
            job = json.loads(caller.call("GET", f"{PATH}/warm-jobs/{job['id']}"))
        seconds = time.perf_counter() - started
        cpu = cpu_seconds(pid) - before
        state = json.loads(caller.call("GET", f"{PATH}/metadata"))["layer"]["cache_state"]
        if (job["status"], job["documents_scanned"], state["state"]) != ("completed", rows, "warm"):
            raise SystemExit(f"the warm came to {job}, the cache to {state}")
        check(port, rows)
        return {
            "seconds": seconds,
            "gateway_cpu_seconds": cpu,
            "gateway_own_mib_max": max(own, own_mib(pid)),
            "gateway_own_mib_after": own_mib(pid),
            "disk_bytes": disk_bytes(folder / "cache"),
        }


def check(port: int, rows: int) -> None:
    """Some of the rows are fetched: all must come from the cache."""
    ids = random.Random(3).sample(range(rows), min(rows, CHECKED_IDS))
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    caller.request("POST", f"{PATH}/documents", json.dumps({"ids": ids}), {"Authorization": "Bearer bench"})
    answer = caller.getresponse()
    found = json.loads(answer.read())
    if answer.getheader("x-layer-cache") != "hit" or len(found["documents"]) != len(ids):
        raise SystemExit(f"fetches after the warm are {answer.getheader('x-layer-cache')}")


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--together", action="store_true", help="every process may use both cores")
    options = parser.parse_args()
    origin_core, our_core = (ALL_CORES, ALL_CORES) if options.together else (ORIGIN_CORE, OUR_CORE)
    os.sched_setaffinity(0, set(map(int, our_core.split(","))))
    with tempfile.TemporaryDirectory(prefix="bench-warm-") as made:
        folder = Path(made)
        port = free_port()
        with running(
            "origin", "--data-dir", str(folder / "origin"), core=origin_core, port=port, log=folder / "origin.log"
        ):
            load(port, options.rows)
            bodies = pages(port)
            drained: list[float] = []
            warmed: list[dict[str, float]] = []
            total = 0
            for number in range(options.runs):
                seconds, total = drain(port, bodies)
                drained.append(seconds)
                place = folder / f"gateway-{number}"
                place.mkdir()
                warmed.append(warm(port, options.rows, place, our_core))
                print(f"bench: drain {seconds:.1f} s, warm {warmed[-1]}", file=sys.stderr)
    drain_seconds = statistics.median(drained)
    middle = {name: statistics.median(run[name] for run in warmed) for name in warmed[0]}
    report = {
        "rows": options.rows,
        "pages": len(bodies),
        "json_bytes": total,
        "readers": READERS_MAX,
        "runs": options.runs,
        "cores": {"origin": origin_core, "client and gateway": our_core},
        "bare_client": {
            "seconds": round(drain_seconds, 2),
            "rows_per_second": round(options.rows / drain_seconds),
            "all_seconds": [round(each, 2) for each in drained],
        },
        "warm": {
            "seconds": round(middle["seconds"], 2),
            "rows_per_second": round(options.rows / middle["seconds"]),
            "all_seconds": [round(run["seconds"], 2) for run in warmed],
            "gateway_cpu_seconds": round(middle["gateway_cpu_seconds"], 2),
            "gateway_own_mib_max": round(middle["gateway_own_mib_max"]),
            "gateway_own_mib_after": round(middle["gateway_own_mib_after"]),
            "disk_bytes": round(middle["disk_bytes"]),
        },
        "ratio warm / bare client": round(drain_seconds / middle["seconds"], 3),
        "ratio disk / JSON": round(middle["disk_bytes"] / total, 3),
    }
    write_report("warm", report, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
