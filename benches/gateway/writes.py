"""What the document cache costs a write: the same gateway with it and without, in turns, on one origin.

Upserts of rows of about a kilobyte of JSON to a namespace of known schema, so that every acknowledged write leaves its
rows in the cache: one row a write, and ten. Latency at one connection, rate at sixteen, and the gateway's CPU a write
at that rate. The origin and the client have core 0, the gateway has core 1. The report has the medians of the rounds.

    python benches/gateway/writes.py [--seconds 5] [--rounds 5] [--out FILE]
"""

import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benches"), str(ROOT / "benches" / "gateway")]

from loopback import WORDS, Caller, free_port  # noqa: E402
from reporting import arguments, write_report  # noqa: E402
from warm import ORIGIN_CORE, OUR_CORE, cpu_seconds, running  # noqa: E402

CONNECTIONS = 16
ROWS_A_WRITE = (1, 10)
# Ids are drawn from so many, so that most writes replace a row.
IDS = 20_000
SCHEMA = {"title": "string", "text": "string", "year": "uint", "price": "float", "tags": "[]string"}
# The gateway's next poll has read the schema by then.
POLL_SECONDS = 1.0


def body(rows: int, rng: random.Random) -> bytes:
    found = [
        {
            "id": rng.randrange(IDS),
            "title": " ".join(rng.choices(WORDS, k=5)),
            "text": " ".join(rng.choices(WORDS, k=130)),
            "year": rng.randrange(1900, 2027),
            "price": rng.random(),
            "tags": rng.choices(WORDS, k=3),
        }
        for _ in range(rows)
    ]
    return json.dumps({"upsert_rows": list({row["id"]: row for row in found}.values())}).encode()


def bodies(rows: int, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    return [body(rows, rng) for _ in range(500)]


def latencies(caller: Caller, path: str, wanted: list[bytes], seconds: float) -> list[float]:
    """Milliseconds of each write, one after the other."""
    found = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        caller.call("POST", path, wanted[len(found) % len(wanted)])
        found.append((time.perf_counter() - started) * 1000)
    return found


def rate(port: int, path: str, wanted: list[list[bytes]], seconds: float) -> float:
    """Writes a second over `CONNECTIONS` connections."""
    counts = [0] * CONNECTIONS

    def work(number: int) -> None:
        counts[number] = len(latencies(Caller(port), path, wanted[number], seconds))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def measure(port: int, pid: int, path: str, rows: int, seconds: float) -> dict[str, float]:
    ordered = sorted(latencies(Caller(port), path, bodies(rows, 1), seconds))
    wanted = [bodies(rows, 2 + number) for number in range(CONNECTIONS)]
    before = cpu_seconds(pid)
    a_second = rate(port, path, wanted, seconds)
    cpu = cpu_seconds(pid) - before
    return {
        "p50_ms": statistics.median(ordered),
        "p99_ms": ordered[int(len(ordered) * 0.99)],
        "writes_per_second": a_second,
        "gateway_cpu_us_a_write": cpu / (a_second * seconds) * 1e6,
    }


def check(port: int, path: str, *, cached: bool) -> None:
    """Written rows come from where they should."""
    connection = Caller(port)
    connection.call("POST", path, json.dumps({"upsert_rows": [{"id": 1, "title": "checked"}]}).encode())
    metrics = Caller(port).call("GET", "/metrics").decode()
    lines = [line for line in metrics.splitlines() if line.startswith("layer_cache_written_rows_total")]
    left = sum(float(line.rsplit(" ", 1)[1]) for line in lines)
    if (left > 0) != cached:
        raise SystemExit(f"{left:.0f} written rows were left in the cache, cached={cached}")


@contextlib.contextmanager
def gateways(folder: Path, origin_port: int) -> Iterator[dict[str, tuple[int, int]]]:
    """Ports and process ids, by the setting of the cache."""
    with contextlib.ExitStack() as stack:
        found = {}
        for cache in ("off", "embedded"):
            place = folder / cache
            place.mkdir()
            port = free_port()
            settings = {
                "LAYER_UPSTREAM_URL": f"http://127.0.0.1:{origin_port}",
                "LAYER_CACHE": cache,
                # Rows are left only where the gateway's own key asks the upstream.
                "LAYER_GATEWAY_API_KEY": "bench",
                "TURBOPUFFER_API_KEY": "bench-upstream",
                "LAYER_ACCESS_LOG": "off",
            }
            process = running(
                "gateway", "--data-dir", str(place), core=OUR_CORE, port=port, log=place / "log", env=settings
            )
            found[cache] = (port, stack.enter_context(process))
        yield found


def run(options: Any, folder: Path) -> dict[str, object]:
    origin_port = free_port()
    origin = running(
        "origin", "--data-dir", str(folder / "origin"), core=ORIGIN_CORE, port=origin_port, log=folder / "origin.log"
    )
    results: dict[int, dict[str, list[dict[str, float]]]] = {rows: {"off": [], "embedded": []} for rows in ROWS_A_WRITE}
    with origin, gateways(folder, origin_port) as found:
        for cache, (port, _) in found.items():
            path = f"/v2/namespaces/{cache}"
            first = {"upsert_rows": [{"id": 0, "title": "first"}], "schema": SCHEMA}
            Caller(port).call("POST", path, json.dumps(first).encode())
        time.sleep(2 * POLL_SECONDS)
        for number in range(options.rounds):
            for rows in ROWS_A_WRITE:
                for cache in ("off", "embedded") if number % 2 else ("embedded", "off"):
                    port, pid = found[cache]
                    measured = measure(port, pid, f"/v2/namespaces/{cache}", rows, options.seconds)
                    results[rows][cache].append(measured)
                    print(f"bench: {rows} rows, cache {cache}: {measured}", file=sys.stderr)
        for cache, (port, _) in found.items():
            check(port, f"/v2/namespaces/{cache}", cached=cache != "off")
    return {"seconds": options.seconds, "rounds": options.rounds, "connections": CONNECTIONS, **summary(results)}


def summary(results: dict[int, dict[str, list[dict[str, float]]]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for rows, by_cache in results.items():
        middle = {
            cache: {name: round(statistics.median(each[name] for each in runs), 3) for name in runs[0]}
            for cache, runs in by_cache.items()
        }
        off, on = middle["off"], middle["embedded"]
        found[f"rows_{rows}"] = {
            "without": off,
            "with": on,
            "share of the rate": round(on["writes_per_second"] / off["writes_per_second"], 3),
            "more at p50, ms": round(on["p50_ms"] - off["p50_ms"], 3),
        }
    return found


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.sched_setaffinity(0, {int(ORIGIN_CORE)})
    with tempfile.TemporaryDirectory(prefix="bench-writes-") as made:
        write_report("writes", run(options, Path(made)), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
