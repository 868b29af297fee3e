"""The splicer beside orjson loads and dumps of the same bytes: CPU medians and ratios.

Run it with a release build of the extension: `PYTHONPATH=python python benches/kernels/splice.py`.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reporting import arguments, write_report

from hevlayer.kernels.splice import QueryScan, WriteScan, layer_results, strip_rows

SEED = 17
ROUNDS = 25
ROUND_SECONDS = 0.02
ROUND_CALLS_MAX = 5000


def query_body() -> bytes:
    vector = [0.0125, -0.25, 0.5, 0.125]
    return orjson.dumps(
        {
            "rank_by": ["vector", "ANN", vector],
            "top_k": 10,
            "filters": ["And", [["category", "Eq", "Electronics"], ["price", "Lte", 200], ["tags", "In", ["a", "b"]]]],
            "include_attributes": ["title", "category", "price", "description", "rating", "reviews", "brand"],
            "padding": "x" * 180,
        }
    )


def answer_body(rows: int, dimensions: int, dice: random.Random, reserved: bool = False) -> bytes:
    def row(number: int) -> dict[str, object]:
        out: dict[str, object] = {"id": number, "$dist": dice.random(), "title": f"A title of row {number}"}
        if reserved:
            out["_hevlayer_upserted_at"] = 1_777_000_000_000
        if dimensions:
            out["vector"] = [round(dice.uniform(-1, 1), 8) for _ in range(dimensions)]
        else:
            out["description"] = "Some words that describe it. " * 12
        return out

    return orjson.dumps({"rows": [row(number) for number in range(rows)], "billing": {}, "performance": {}})


def upsert_body(rows: int, dimensions: int, dice: random.Random) -> bytes:
    return orjson.dumps(
        {
            "upsert_rows": [
                {"id": number, "title": f"row {number}", "vector": [dice.uniform(-1, 1) for _ in range(dimensions)]}
                for number in range(rows)
            ],
            "distance_metric": "cosine_distance",
        }
    )


def median_us(job: Callable[[], object]) -> float:
    start = time.thread_time()
    job()
    once = time.thread_time() - start
    calls = max(1, min(ROUND_CALLS_MAX, int(ROUND_SECONDS / max(once, 1e-6))))
    rounds = []
    for _ in range(ROUNDS):
        start = time.thread_time()
        for _ in range(calls):
            job()
        rounds.append((time.thread_time() - start) / calls)
    return statistics.median(rounds) * 1e6


def main() -> None:
    options = arguments(__doc__).parse_args()
    dice = random.Random(SEED)
    query = query_body()
    answer_20k = answer_body(50, 0, dice)
    answer_2m = answer_body(480, 384, dice)
    answer_2m_reserved = answer_body(480, 384, dice, reserved=True)
    upsert_10m = upsert_body(1250, 384, dice)
    write = WriteScan(upsert_10m)

    def splice_query() -> bytes:
        return QueryScan(query).render(eventual=True, watermark_ms=1_777_000_000_000, exclude_reserved=True)

    cases: list[tuple[str, bytes, Callable[[], object]]] = [
        ("query_scan_and_render", query, splice_query),
        ("query_scan", query, lambda: QueryScan(query)),
        ("answer_20k_strip_rows", answer_20k, lambda: strip_rows(answer_20k)),
        ("answer_20k_layer_results", answer_20k, lambda: layer_results(answer_20k)),
        ("answer_2m_strip_rows_none", answer_2m, lambda: strip_rows(answer_2m)),
        ("answer_2m_strip_rows_all", answer_2m_reserved, lambda: strip_rows(answer_2m_reserved)),
        ("answer_2m_layer_results", answer_2m, lambda: layer_results(answer_2m)),
        ("upsert_10m_scan", upsert_10m, lambda: WriteScan(upsert_10m)),
        ("upsert_10m_render", upsert_10m, lambda: write.render(1_777_000_000_000)),
        ("upsert_10m_ids", upsert_10m, write.ids),
    ]
    results = []
    for name, body, job in cases:
        splice_us = median_us(job)
        orjson_us = median_us(lambda body=body: orjson.dumps(orjson.loads(body)))
        copy_us = median_us(lambda body=body: bytes(bytearray(body)))
        results.append(
            {
                "case": name,
                "bytes": len(body),
                "splice_us": round(splice_us, 2),
                "gigabytes_per_second": round(len(body) / splice_us / 1e3, 2),
                "orjson_loads_dumps_us": round(orjson_us, 2),
                "orjson_over_splice": round(orjson_us / splice_us, 1),
                "two_copies_us": round(copy_us, 2),
            }
        )
    write_report("splice", {"rounds": ROUNDS, "results": results}, options.out)


if __name__ == "__main__":
    main()
