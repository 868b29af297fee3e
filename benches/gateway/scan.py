"""A count and values over HTTP from columns, beside the kernel alone over the same file of columns.

A local origin holds the documents of `benches/kernels/filter_data.py`. A gateway warms them and builds columns of what
is asked for. Then one keep-alive connection asks for `count`, and this process evaluates the same filter, with the same
cut, over the gateway's own file of columns; they take turns. What HTTP adds is the difference of the medians.

    python benches/gateway/scan.py [--rows 200000] [--out FILE]
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "benches"), str(ROOT / "benches" / "kernels")]

from filter_data import SCHEMA, Documents, generate, questions  # noqa: E402
from loopback import Caller, free_port  # noqa: E402
from reporting import arguments, write_report  # noqa: E402
from warm import running  # noqa: E402

from hevlayer.kernels.filters import ColumnTable, CompiledFilter, FilterSchema  # noqa: E402
from hevlayer.wire.reserved import STAMP_ATTRIBUTE  # noqa: E402

PATH = "/v2/namespaces/documents"
ROUNDS = 300
THREADS = (1, 2)
WAIT_SECONDS_MAX = 300
POLL_SECONDS = 0.05
BATCH_ROWS = 5_000
ALL_CORES = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))


def load(caller: Caller, documents: Documents) -> None:
    rows: list[dict[str, Any]] = []

    def write() -> None:
        if rows:
            caller.call("POST", PATH, orjson.dumps({"upsert_rows": rows, "schema": SCHEMA}))
            rows.clear()

    for row in documents.rows():
        rows.append(row)
        if len(rows) == BATCH_ROWS:
            write()
    write()


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: never came: {what}")
        time.sleep(POLL_SECONDS)
    return found


def ask(caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
    return dict(orjson.loads(caller.call("POST", f"{PATH}/scans", orjson.dumps(body))))


def answers_from_columns(caller: Caller) -> float:
    text = caller.call("GET", "/metrics").decode()
    lines = [line for line in text.splitlines() if line.startswith("layer_columns_answers_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'source="columns"' in line)


def took_ms(job: Callable[[], object]) -> float:
    started = time.perf_counter()
    job()
    return (time.perf_counter() - started) * 1e3


def measure(caller: Caller, origin: Caller, file: Path, documents: Documents, both: list[Any]) -> list[dict[str, Any]]:
    # The gateway's own answer leaves the stamp out.
    schema = FilterSchema(orjson.dumps(orjson.loads(origin.call("GET", f"{PATH}/metadata"))["schema"]))
    columns = documents.category_names, documents.price
    expected = sum(
        columns[0][code] == both[1][0][2] and price <= both[1][1][2]
        for code, price in zip(documents.category.tolist(), columns[1].tolist(), strict=True)
    )
    table = ColumnTable.open(file)
    told = []
    for threads in THREADS:
        body = {"mode": "count", "source": "cache", "filters": both, "threads": threads}
        before, first = answers_from_columns(caller), ask(caller, body)
        cut = ["And", [both, [STAMP_ATTRIBUTE, "Lte", first["watermark_ms"]]]]
        compiled = CompiledFilter(orjson.dumps(cut), schema)
        over_http: list[float] = []
        alone: list[float] = []
        for _ in range(ROUNDS):
            over_http.append(took_ms(lambda body=body: ask(caller, body)))
            alone.append(took_ms(lambda compiled=compiled, threads=threads: compiled.count(table, threads=threads)))
        counted = compiled.count(table)
        if counted is None or not counted[0] == first["count"] == expected:
            raise SystemExit(f"bench: the counts differ: {counted}, {first['count']}, {expected}")
        if answers_from_columns(caller) - before < ROUNDS:
            raise SystemExit("bench: columns did not answer")
        ready = [took_ms(lambda: caller.call("GET", "/ready")) for _ in range(ROUNDS)]
        http_ms, kernel_ms = statistics.median(over_http), statistics.median(alone)
        told.append(
            {
                "threads": threads,
                "http_p50_ms": round(http_ms, 3),
                "kernel_p50_ms": round(kernel_ms, 3),
                "added_ms": round(http_ms - kernel_ms, 3),
                "GET /ready_p50_ms": round(statistics.median(ready), 3),
            }
        )
    return told


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    options = parser.parse_args()
    documents = generate(options.rows)
    asked = questions(documents)
    both = json.loads(asked.both)
    with tempfile.TemporaryDirectory(prefix="bench-scan-") as made:
        folder = Path(made)
        origin_port, port = free_port(), free_port()
        settings = {
            "LAYER_UPSTREAM_URL": f"http://127.0.0.1:{origin_port}",
            "TURBOPUFFER_API_KEY": "tpuf_bench",
            "LAYER_GATEWAY_API_KEY": "bench",
            "LAYER_CACHE_CAPACITY_BYTES": str(16 << 30),
        }
        origin = running(
            "origin", "--data-dir", str(folder / "origin"), core=ALL_CORES, port=origin_port, log=folder / "origin.log"
        )
        data = folder / "gateway"
        data.mkdir()
        gateway = running(
            "gateway", "--data-dir", str(data), core=ALL_CORES, port=port, log=folder / "log", env=settings
        )
        with origin, gateway:
            caller = Caller(port)
            load(caller, documents)
            job = json.loads(caller.call("POST", f"{PATH}/warm", status=202))
            until(
                lambda: json.loads(caller.call("GET", f"{PATH}/warm-jobs/{job['id']}"))["status"] != "running", "a warm"
            )
            everything = {"mode": "count", "source": "auto"}
            until(lambda: ask(caller, everything)["served_by"] == "cache", "a complete cache")
            until(lambda: ask(caller, everything)["count"] == options.rows, "a watermark past the last write")
            body = {"mode": "count", "source": "cache", "filters": both}

            def by_columns() -> bool:
                before = answers_from_columns(caller)
                ask(caller, body)
                return answers_from_columns(caller) > before

            until(by_columns, "columns")
            # A build that goes on would share the cores.
            time.sleep(3)
            (file,) = data.rglob("*.columns")
            runs = measure(caller, Caller(origin_port), file, documents, both)
            size = file.stat().st_size
    write_report("scan", {"rows": options.rows, "columns_bytes": size, "rounds": ROUNDS, "runs": runs}, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
