"""The local origin at its promised size: 500,000 documents of 384 dimensions and six attributes.

Reports the time to load, the resident memory, the time to start again, and the latency of queries, beside an exact
scan of the same vectors by numpy in this process (the peer for the unfiltered top-10).

    python benches/origin/scale.py [--rows 500000] [--out FILE]
"""

import argparse
import base64
import json
import os
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from loopback import WORDS, Caller, free_port

DIMENSIONS = 384
BATCH_ROWS = 5_000
QUERIES = 21
START_SECONDS_MAX = 300
GENRES = ["drama", "comedy", "western", "crime", "horror", "musical"]


def rows(start: int, vectors: np.ndarray, rng: np.random.Generator) -> bytes:
    years = rng.integers(1900, 2024, len(vectors))
    words = rng.integers(0, len(WORDS), (len(vectors), 8))
    batch = [
        {
            "id": start + n,
            "vector": base64.b64encode(vector.tobytes()).decode(),
            "title": " ".join(WORDS[word] for word in words[n]),
            "year": int(years[n]),
            "genre": GENRES[n % len(GENRES)],
            "tags": [WORDS[words[n][0]], WORDS[words[n][1]]],
            "seen": bool(n % 2),
            "rating": int(words[n][2]),
        }
        for n, vector in enumerate(vectors)
    ]
    body = {
        "upsert_rows": batch,
        "distance_metric": "cosine_distance",
        "schema": {"title": {"type": "string", "full_text_search": True}},
    }
    return json.dumps(body).encode()


def resident_bytes(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


def start(folder: str, port: int) -> tuple[subprocess.Popen[bytes], float]:
    """Returns: the process, and the seconds until it answered."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "hevlayer.cli.main", "origin", "--port", str(port), "--data-dir", folder],
        stdout=subprocess.DEVNULL,
    )
    while time.monotonic() - begun < START_SECONDS_MAX:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                raise SystemExit(f"the origin ended with code {process.returncode}") from None
            time.sleep(0.02)
        else:
            return process, time.monotonic() - begun
    raise SystemExit(f"the origin did not answer within {START_SECONDS_MAX} s")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(300)


def median_ms(work: object) -> float:
    times = []
    for _ in range(QUERIES):
        begun = time.perf_counter()
        work()  # type: ignore[operator]
        times.append((time.perf_counter() - begun) * 1e3)
    return round(statistics.median(times), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((options.rows, DIMENSIONS), dtype=np.float32)
    question = rng.standard_normal(DIMENSIONS, dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="hevlayer-scale-") as folder:
        port = free_port()
        process, _ = start(folder, port)
        path = "/v2/namespaces/scale"
        begun = time.monotonic()
        with ThreadPoolExecutor(1) as sender:  # the next batch is made while the last one is written
            caller, waiting = Caller(port), None
            for first in range(0, options.rows, BATCH_ROWS):
                body = rows(first, vectors[first : first + BATCH_ROWS], rng)
                if waiting is not None:
                    waiting.result()
                waiting = sender.submit(caller.call, "POST", path, body)
            if waiting is not None:
                waiting.result()
        load_seconds = time.monotonic() - begun
        loaded_bytes = resident_bytes(process.pid)
        print(f"loaded {options.rows} rows in {load_seconds:.0f} s, {loaded_bytes / 2**30:.2f} GiB", file=sys.stderr)
        vector = question.tolist()

        def ask(**query: object) -> list[dict[str, object]]:
            answer = json.loads(caller.call("POST", f"{path}/query", json.dumps(query).encode()))
            return list(answer.get("rows") or answer.get("aggregation_groups") or [])

        exact = 1 - vectors @ (question / np.linalg.norm(question)) / np.linalg.norm(vectors, axis=1)
        expected = [int(n) for n in np.argsort(exact)[:10]]
        found = [row["id"] for row in ask(rank_by=["vector", "ANN", vector], limit=10)]
        if found != expected:
            raise SystemExit(f"the unfiltered top-10 is {found}, numpy says {expected}")
        queries_ms = {
            "vector top-10": median_ms(lambda: ask(rank_by=["vector", "ANN", vector], limit=10)),
            "vector top-10, filter passes 1 %": median_ms(
                lambda: ask(rank_by=["vector", "ANN", vector], limit=10, filters=["year", "Eq", 1950])
            ),
            "BM25 top-10, two words": median_ms(lambda: ask(rank_by=["title", "BM25", "amber quartz"], limit=10)),
            "attribute order, filtered": median_ms(
                lambda: ask(rank_by=["year", "desc"], limit=10, filters=["genre", "Eq", "crime"])
            ),
            "count by genre": median_ms(lambda: ask(aggregate_by={"n": ["Count"]}, group_by=["genre"], limit=10)),
        }
        unit = question / np.linalg.norm(question)
        numpy_ms = median_ms(lambda: np.argpartition(-(vectors @ unit), 10)[:10])
        busy_bytes = resident_bytes(process.pid)
        stop(process)
        disk_bytes = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        process, restart_seconds = start(folder, port)
        caller = Caller(port)
        again = [row["id"] for row in ask(rank_by=["vector", "ANN", vector], limit=10)]
        restarted_bytes = resident_bytes(process.pid)
        stop(process)
        if again != expected:
            raise SystemExit(f"after the restart the top-10 is {again}, before it was {expected}")
    report = {
        "suite": "origin",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "rows": options.rows,
        "dimensions": DIMENSIONS,
        "load_seconds": round(load_seconds, 1),
        "rows_per_second": round(options.rows / load_seconds),
        "resident_gib_loaded": round(loaded_bytes / 2**30, 2),
        "resident_gib_after_queries": round(busy_bytes / 2**30, 2),
        "resident_gib_restarted": round(restarted_bytes / 2**30, 2),
        "disk_gib": round(disk_bytes / 2**30, 2),
        "restart_seconds": round(restart_seconds, 1),
        "query_median_ms": queries_ms,
        "numpy_scan_median_ms": numpy_ms,
        "ratio vector top-10 / numpy scan": round(queries_ms["vector top-10"] / numpy_ms, 2),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
