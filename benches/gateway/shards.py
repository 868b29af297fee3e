"""A ranked query against namespaces of one, four and sixteen shards: latency, and how many requests it is upstream.

A local origin holds the same rows three times; each namespace was cut into its shards before they were written through
the gateway. The namespace without shards is the peer. The namespaces take turns, query by query; the report has the
medians of several rounds. The origin has core 0 to itself, as if it were another machine; gateway and client have
core 1. The origin scans every vector exactly: there is no index whose sublinear search more legs would multiply, nor
a second machine that they would use.

    python benches/gateway/shards.py [--rows 1000000] [--queries 60] [--runs 3] [--out FILE]
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "benches"), str(ROOT / "benches" / "gateway")]

from counted import DIMENSIONS, CountingRelay, gateway_settings, load_each  # noqa: E402
from loopback import Caller, free_port  # noqa: E402
from reporting import arguments, write_report  # noqa: E402
from warm import OUR_CORE, running  # noqa: E402

ORIGIN_CORE = "0"
SHARDS = (1, 4, 16)
LIMIT = 10


def path_of(shards: int) -> str:
    return f"/v2/namespaces/documents-{shards}"


def queries(count: int) -> list[bytes]:
    rng = np.random.default_rng(11)
    return [
        json.dumps({"rank_by": ["vector", "ANN", vector.tolist()], "limit": LIMIT}).encode()
        for vector in rng.standard_normal((count, DIMENSIONS))
    ]


def rows_of(caller: Caller, shards: int, body: bytes) -> list[object]:
    return json.loads(caller.call("POST", f"{path_of(shards)}/query", body))["rows"]


def one_round(port: int, bodies: list[bytes]) -> dict[int, list[float]]:
    """Milliseconds of each query, in turns; every namespace must give the same rows."""
    caller = Caller(port)
    took: dict[int, list[float]] = {shards: [] for shards in SHARDS}
    for body in bodies:
        answers = []
        for shards in SHARDS:
            started = time.perf_counter()
            answers.append(rows_of(caller, shards, body))
            took[shards].append((time.perf_counter() - started) * 1000)
        if any(answer != answers[0] for answer in answers):
            raise SystemExit("the namespaces give different rows")
    return took


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    os.sched_setaffinity(0, {int(OUR_CORE)})
    bodies = queries(options.queries)
    with tempfile.TemporaryDirectory() as name:
        folder, origin_port, port, counted_port = Path(name), free_port(), free_port(), free_port()
        settings = gateway_settings(origin_port, LAYER_OBJECTS_DIR=str(folder / "objects"))
        with running(
            *("origin", "--data-dir", str(folder / "origin")),
            core=ORIGIN_CORE,
            port=origin_port,
            log=folder / "origin.log",
        ):
            with running(
                *("gateway", "--data-dir", str(folder / "gateway")),
                core=OUR_CORE,
                port=port,
                log=folder / "gateway.log",
                env=settings,
            ):
                caller = Caller(port)
                for shards in SHARDS:
                    if shards > 1:
                        caller.call("POST", f"{path_of(shards)}/init", json.dumps({"shard_count": shards}).encode())
                load_each(port, [path_of(shards) for shards in SHARDS], options.rows)
                one_round(port, bodies[:5])
                rounds = []
                for number in range(options.runs):
                    rounds.append(one_round(port, bodies))
                    print(f"bench: round {number + 1} of {options.runs}", file=sys.stderr)
            relay = CountingRelay(origin_port)
            counted = {**settings, "LAYER_UPSTREAM_URL": f"http://127.0.0.1:{relay.port}"}
            with running(
                *("gateway", "--data-dir", str(folder / "counted")),
                core=OUR_CORE,
                port=counted_port,
                log=folder / "counted.log",
                env=counted,
            ):
                requests = {}
                for shards in SHARDS:
                    before = relay.queries
                    for body in bodies[:10]:
                        rows_of(Caller(counted_port), shards, body)
                    requests[shards] = (relay.queries - before) / 10
    report: dict[str, object] = {"rows": options.rows, "queries": options.queries, "runs": options.runs, "limit": LIMIT}
    p50 = {shards: statistics.median(statistics.median(took[shards]) for took in rounds) for shards in SHARDS}
    for shards in SHARDS:
        p95 = statistics.median(statistics.quantiles(took[shards], n=20)[-1] for took in rounds)
        report[f"shards_{shards}"] = {
            "p50_ms": round(p50[shards], 2),
            "p95_ms": round(p95, 2),
            "p50_to_unsharded": round(p50[shards] / p50[1], 2),
            "upstream_requests": requests[shards],
        }
    write_report("shards", report, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
