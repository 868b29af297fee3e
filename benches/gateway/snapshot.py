"""What an automatic snapshot of three fields takes: upstream requests, seconds and bytes; and when nothing has changed.

A local origin holds the rows, written through the gateway. Then a policy names the fields, and the snapshot is waited
for; its time is the writer's own, from its first request to the durable body. After that a row is written again as it
is, and the writer looks once more. The peer is a bare client that sends the three grouped counts and nothing else, one
after the other, in the same run. The origin has core 0 to itself, as if it were another machine.

    python benches/gateway/snapshot.py [--rows 1000000] [--runs 3] [--out FILE]
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

from counted import CountingRelay, batch, bytes_under, gateway_settings, load, metric  # noqa: E402
from loopback import Caller, free_port  # noqa: E402
from reporting import arguments, write_report  # noqa: E402
from warm import OUR_CORE, running  # noqa: E402

ORIGIN_CORE = "0"
PATH = "/v2/namespaces/documents"
FIELDS = ["category", "tags", "year"]
WAIT_SECONDS_MAX = 300
POLL_SECONDS = 0.05


def looks(port: int, outcome: str, what: str) -> float:
    sample = f'layer_snapshot_duration_seconds_{what}{{namespace="documents",outcome="{outcome}"}} '
    return metric(port, sample)


def until(port: int, outcome: str) -> float:
    """Seconds that the writer took for its first look of this outcome."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not looks(port, outcome, "count"):
        if time.monotonic() > deadline:
            raise SystemExit(f"no snapshot was {outcome} within {WAIT_SECONDS_MAX} s")
        time.sleep(POLL_SECONDS)
    return looks(port, outcome, "sum") / looks(port, outcome, "count")


def bare(port: int) -> float:
    """Seconds of the grouped counts alone."""
    caller = Caller(port)
    started = time.perf_counter()
    for field in FIELDS:
        key: object = {"value": ["ForEachUnique", field]} if field == "tags" else field
        query = {"aggregate_by": {"n": ["Count"]}, "group_by": [key], "limit": 10_000}
        caller.call("POST", f"{PATH}/query", json.dumps({**query, "consistency": {"level": "strong"}}).encode())
    return time.perf_counter() - started


def snapshot(origin_port: int, folder: Path, rows: int) -> dict[str, float]:
    """One gateway, from its start to the look that finds nothing new."""
    relay, port = CountingRelay(origin_port), free_port()
    settings = gateway_settings(
        relay.port,
        LAYER_OBJECTS_DIR=str(folder / "objects"),
        LAYER_SNAPSHOT_MIN_INTERVAL_MS="3000",
        LAYER_FACET_FIELDS=json.dumps({"documents": FIELDS}),
    )
    with running(
        *("gateway", "--data-dir", str(folder / "gateway")),
        core=OUR_CORE,
        port=port,
        log=folder / "gateway.log",
        env=settings,
    ):
        seconds = until(port, "written")
        requests = relay.queries
        (body,) = (folder / "objects").rglob("snapshots/documents/*.json")
        held = body.stat().st_size
        facets = json.loads(body.read_bytes())
        if facets["row_count"] != rows:
            raise SystemExit(f"the snapshot counts {facets['row_count']} rows")
        before = bytes_under(folder / "objects")
        # The first row, as it is.
        Caller(port).call("POST", PATH, batch(0, 1, np.random.default_rng(5)))
        unchanged_requests = relay.queries
        unchanged_seconds = until(port, "unchanged")
        return {
            "seconds": seconds,
            "upstream_requests": requests,
            "bytes_written": held,
            "unchanged_seconds": unchanged_seconds,
            "unchanged_upstream_requests": relay.queries - unchanged_requests,
            "unchanged_bytes_written": bytes_under(folder / "objects") - before,
            "grouped_counts_alone_seconds": bare(origin_port),
        }


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    os.sched_setaffinity(0, {int(OUR_CORE)})
    with tempfile.TemporaryDirectory() as name:
        folder, origin_port, port = Path(name), free_port(), free_port()
        with running(
            *("origin", "--data-dir", str(folder / "origin")),
            core=ORIGIN_CORE,
            port=origin_port,
            log=folder / "origin.log",
        ):
            with running(
                *("gateway", "--data-dir", str(folder / "loader")),
                core=OUR_CORE,
                port=port,
                log=folder / "loader.log",
                env=gateway_settings(origin_port),
            ):
                load(port, PATH, options.rows)
                # Written as the look at nothing new writes it again.
                Caller(port).call("POST", PATH, batch(0, 1, np.random.default_rng(5)))
            runs = []
            for number in range(options.runs):
                where = folder / f"run-{number}"
                where.mkdir()
                runs.append(snapshot(origin_port, where, options.rows))
    report: dict[str, object] = {"rows": options.rows, "runs": options.runs, "fields": FIELDS}
    for key in runs[0]:
        report[key] = round(statistics.median(each[key] for each in runs), 3)
    report["seconds_to_grouped_counts_alone"] = round(
        statistics.median(each["seconds"] / each["grouped_counts_alone_seconds"] for each in runs), 2
    )
    write_report("snapshot", report, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
