"""Counts, ids and values of generated documents, and of films, beside other engines: medians, ratios, and growth.

Each number of threads is measured in a process of its own, since Polars fixes its threads when it is imported. Run it
with a release build of the extension and the packages of `benches/requirements.txt`:
`PYTHONPATH=python python benches/kernels/filter.py [--rows N …] [--films FILE.jsonl.gz]`.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from plotting import log_plot
from reporting import arguments, write_report

ROUNDS = 9
SECONDS_PER_QUESTION = 3.0
THREADS = (1, 2)
ROWS = (10_000, 100_000, 1_000_000)
LIMIT = "numpy on codes"
# Of stored rows without their vectors, for each core: what a count that has no column to read is meant to reach.
ROWS_AIM = 1.0


def kind_of(question: str) -> str:
    if question.startswith("values"):
        return question
    return "ids" if question.endswith("ids") else "count"


def median_ms(job: Callable[[], object]) -> float:
    """After one call that warms it; fewer rounds where a call is long."""
    job()
    seconds: list[float] = []
    begun = time.perf_counter()
    while len(seconds) < ROUNDS and (len(seconds) < 3 or time.perf_counter() - begun < SECONDS_PER_QUESTION):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3


# --- one process: so many rows, so many threads ----------------------------------------------------------------------


def measure(source: str, threads: int) -> dict[str, Any]:
    """Of so many generated documents, or of the films of a file."""
    from filter_data import Dataset, Films, generate, pages, questions
    from filter_peers import (
        FIRST_PAGE,
        ColdFiles,
        Peer,
        duckdb_peer,
        expected_answers,
        json_peers,
        numpy_peer,
        polars_peer,
        pyarrow_peer,
    )

    from hevlayer.kernels.doccache import DocRows, DocScan
    from hevlayer.kernels.filters import ColumnTable, CompiledFilter, FilterSchema

    documents: Dataset = generate(int(source)) if source.isdecimal() else Films.read(Path(source))
    count = documents.count
    asked = questions(documents)
    schema = FilterSchema(orjson.dumps(documents.schema))
    rows = DocRows.joined([DocRows(page, []) for page in pages(documents)])
    cached = CachedRows(documents)
    both, tenth = CompiledFilter(asked.both, schema), CompiledFilter(asked.tenth, schema)
    everything = CompiledFilter(None, schema)

    def ids(limit: int | None) -> Any:
        found = tenth.ids(table, limit=limit, threads=threads)
        assert found is not None
        return found

    def page() -> bytes:
        return bytes(ids(FIRST_PAGE).page(0, FIRST_PAGE))

    def values(name: str) -> bytes:
        found = everything.values(table, name, groups_max=documents.groups_max, threads=threads)
        assert found is not None
        return found

    def counted(source: ColumnTable | DocRows | DocScan) -> int:
        found = both.count(source, threads=threads)
        assert found is not None
        return found[0]

    def same(kind: str, answer: Any) -> Any:
        if kind == "count":
            return answer
        if kind == "ids" and not isinstance(answer, bytes):
            answer = answer.page(0, len(answer))
        decoded = orjson.loads(answer)
        if kind == "ids":
            return list(map(type(documents.ids[0]), decoded))
        return dict(decoded["groups"])

    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        path = folder / "columns"
        built = ColumnTable.build(path, rows, schema, documents.columns)
        table = ColumnTable.open(path)
        ours = Peer(
            "hevlayer columns",
            threads,
            {
                "count": lambda: counted(table),
                **{f"values of {each}": (lambda each=each: values(each)) for each in documents.valued},
                "first ids": page,
                # In memory, as the others' answers; what their text takes is told apart.
                "all ids": lambda: ids(None),
            },
            same,
        )
        expected = expected_answers(documents, asked)
        peers = [
            ours,
            duckdb_peer(documents, asked, threads, enum=False),
            duckdb_peer(documents, asked, threads, enum=True),
            polars_peer(documents, asked, threads, categorical=False),
            polars_peer(documents, asked, threads, categorical=True),
            pyarrow_peer(documents, asked, threads),
            numpy_peer(documents, asked),
        ]
        warm: dict[str, dict[str, float]] = {}
        for peer in peers:
            for question, answer in peer.answers.items():
                kind = kind_of(question)
                assert peer.same(kind, answer()) == expected[question], f"{peer.name} differs: {question}"
                warm.setdefault(question, {})[peer.name] = round(median_ms(answer), 4)
        begun = cached.scan()
        by_rows = {
            "hevlayer rows": median_ms(lambda: counted(rows)),
            "hevlayer rows of the cache": median_ms(lambda: counted(begun)),
            "beginning of a scan of the cache": median_ms(cached.scan),
        }
        assert counted(rows) == counted(begun) == expected["count"]
        cached.close()
        lines = [orjson.dumps(row) for row in documents.rows()]
        for peer in json_peers(lines, asked):
            answer = peer.answers["count over rows"]
            assert answer() == expected["count"], f"{peer.name} differs"
            by_rows[peer.name] = median_ms(answer)
        for each in ("DuckDB, text", "DuckDB, enum"):
            by_rows[each] = warm["count"][each]
        cold = cold_ms(path, ColdFiles(folder, documents), asked, both, threads, expected["count"])
        every = ids(None)
        as_text = round(median_ms(lambda: every.page(0, len(every))), 4)
    return {
        "rows": count,
        "threads": threads,
        "all_ids_as_json_text_ms": as_text,
        "selected": {"count": expected["count"], "all ids": len(expected["all ids"])},
        "build": {**built, "million_rows_per_second": round(count / built["seconds"] / 1e6, 2)},
        "record_bytes": rows.record_bytes,
        "warm_ms": warm,
        "count_over_rows_ms": {name: round(ms, 3) for name, ms in by_rows.items()},
        "count_over_rows_gigabytes_per_second_and_thread": {
            name: round(rows.record_bytes / by_rows[name] / 1e6 / threads, 2)
            for name in ("hevlayer rows", "hevlayer rows of the cache")
        },
        "count_over_rows_aim_gigabytes_per_second_and_thread": ROWS_AIM,
        "cold_ms": cold,
    }


class CachedRows:
    """The documents as the embedded cache keeps them."""

    NAMESPACE = "documents"
    LIFE_MS = 86_400_000

    def __init__(self, documents: Any) -> None:
        from filter_data import pages

        from hevlayer.kernels.doccache import DocCacheEngine, DocRows

        self._directory = tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"))
        self._engine = DocCacheEngine(
            self._directory.name,
            identity="bench",
            capacity_bytes=16 << 30,
            ttl_ms=self.LIFE_MS,
            unknown_write_ms=1_000,
            now_ms=1,
        )
        for page in pages(documents):
            ticket = self._engine.begin_fill(self.NAMESPACE, 1)
            change = self._engine.fill_page(self.NAMESPACE, DocRows(page, []), ticket, 1, in_place=False)
            while not isinstance(change, tuple) and change.result() is None:
                time.sleep(0.001)

    def scan(self) -> Any:
        return self._engine.scan(self.NAMESPACE, 1)[0].with_marked()

    def close(self) -> None:
        self._engine.close(1)
        self._directory.cleanup()


def cold_ms(path: Path, files: Any, asked: Any, both: Any, threads: int, expected: int) -> dict[str, float]:
    """The count with no page of the file in memory: opening it, and the first answer."""
    from hevlayer.kernels.filters import ColumnTable

    def ours() -> int:
        found = both.count(ColumnTable.open(path), threads=threads)
        assert found is not None
        return int(found[0])

    told = {}
    jobs = {
        "hevlayer columns": (path, ours),
        "DuckDB, text, its file": (files.duckdb, lambda: files.ask_duckdb(asked, threads)),
        "Polars, Parquet": (files.parquet, lambda: files.ask_polars(asked)),
    }
    for name, (file, job) in jobs.items():
        seconds = []
        for _ in range(3):
            drop_pages(file)
            start = time.perf_counter()
            found = job()
            seconds.append(time.perf_counter() - start)
            assert found == expected, f"{name} differs when cold"
        told[name] = round(statistics.median(seconds) * 1e3, 3)
    return told


def drop_pages(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


# --- all of them -----------------------------------------------------------------------------------------------------


def slope(points: list[tuple[int, float]]) -> float:
    """Of the logarithms, by least squares: 1 is in proportion to the rows, 0 is constant."""
    xs, ys = [math.log(rows) for rows, _ in points], [math.log(ms) for _, ms in points]
    return round(statistics.linear_regression(xs, ys).slope, 2)


def verdicts(run: dict[str, Any]) -> dict[str, Any]:
    """How many times as long the fastest other engine took; above 1 the aim is met."""
    told = {}
    for question, by_peer in run["warm_ms"].items():
        own = by_peer["hevlayer columns"]
        others = {name: ms for name, ms in by_peer.items() if name not in ("hevlayer columns", LIMIT)}
        best = min(others, key=others.__getitem__)
        told[question] = {
            "fastest other": best,
            "ratio fastest other / hevlayer": round(others[best] / own, 2),
            "ratio hevlayer / numpy on codes": round(own / by_peer[LIMIT], 2),
        }
    for name, speed in run["count_over_rows_gigabytes_per_second_and_thread"].items():
        told[f"count over {name.removeprefix('hevlayer ')}, GB/s and thread"] = {
            "gigabytes": speed,
            "ratio to the aim": round(speed / ROWS_AIM, 2),
        }
    return told


def in_a_process(source: str, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", source, str(threads)]
    environment = {**os.environ, "POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser: argparse.ArgumentParser = arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=list(ROWS), help="numbers of documents")
    parser.add_argument("--films", type=Path, help="a gzipped file of films, a JSON object a line, to be asked too")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        source, threads = options.measure
        sys.stdout.write(json.dumps(measure(source, int(threads))))
        return

    def asked(source: str, name: str) -> list[dict[str, Any]]:
        told = []
        for threads in THREADS:
            print(f"bench: {name}, {threads} threads", file=sys.stderr)
            run = in_a_process(source, threads)
            told.append({**run, "verdict": verdicts(run)})
        return told

    films = asked(str(options.films), "films") if options.films else []
    runs = [run for count in options.rows for run in asked(str(count), f"{count} documents")]
    growth: dict[str, Any] = {}
    lines = {}
    for threads in THREADS:
        own = [run for run in runs if run["threads"] == threads]
        for question in own[0]["warm_ms"]:
            points = [(run["rows"], run["warm_ms"][question]["hevlayer columns"]) for run in own]
            growth[f"{question}, {threads} threads"] = {
                "ms": dict(points),
                "slope": slope(points) if len(points) > 1 else None,
            }
            if len(points) > 1:
                lines[f"{question}, {threads} threads ({slope(points):.2f})"] = points
    if lines and options.out is not None:
        title = "Columns: time by documents (slope in brackets; 1 is in proportion)"
        options.out.with_suffix(".svg").write_text(log_plot(title, "documents", "ms", lines))
    write_report("filter", {"rounds": ROUNDS, "growth": growth, "runs": runs, "films": films}, options.out)


if __name__ == "__main__":
    main()
