"""The merge of a scattered query's legs beside parsing them: medians and ratios.

Run it with a release build of the extension: `PYTHONPATH=python python benches/kernels/merge.py`.
"""

import heapq
import operator
import random
import statistics
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reporting import arguments, write_report

from hevlayer.kernels.merge import merge_legs

SEED = 23
LEGS = 16
ROWS = 10_000
LIMIT = 100
ROUNDS = 7
WORDS = [
    "amber",
    "basalt",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "granite",
    "harbour",
    "islet",
    "juniper",
    "kelp",
    "lagoon",
]


def leg(number: int, dice: random.Random) -> dict[str, object]:
    """One leg's answer: rows in order, 20 attributes each."""
    distances = sorted(dice.random() for _ in range(ROWS))
    return {"rows": [row(number + LEGS * index, distance, dice) for index, distance in enumerate(distances)]}


def row(identity: int, distance: float, dice: random.Random) -> dict[str, object]:
    out: dict[str, object] = {"$dist": distance, "id": identity}
    for column in range(8):
        out[f"text_{column}"] = " ".join(dice.choices(WORDS, k=4))
    for column in range(6):
        out[f"number_{column}"] = dice.randrange(1_000_000)
    for column in range(4):
        out[f"ratio_{column}"] = dice.random()
    out["tags"] = dice.choices(WORDS, k=3)
    out["active"] = dice.random() < 0.5
    return out


def by_heap(answer: bytes) -> list[dict[str, object]]:
    legs = [each["rows"] for each in orjson.loads(answer)["results"]]
    return list(islice(heapq.merge(*legs, key=operator.itemgetter("$dist", "id")), LIMIT))


def median_ms(job: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3


def main() -> None:
    options = arguments(__doc__).parse_args()
    dice = random.Random(SEED)
    legs = [leg(number, dice) for number in range(LEGS)]
    answer = orjson.dumps({"results": legs})
    one = orjson.dumps(legs[0])
    small = orjson.dumps({"results": [{"rows": each["rows"][:LIMIT]} for each in legs]})  # type: ignore[index]

    def merge(body: bytes) -> bytes:
        return merge_legs([body], offset=0, limit=LIMIT, descending=False).rows

    for body in (answer, small):
        assert orjson.loads(merge(body)) == by_heap(body), "the two merges differ"
    merge_ms, parse_ms = median_ms(lambda: merge(answer)), median_ms(lambda: orjson.loads(one))
    heap_ms = median_ms(lambda: orjson.dumps(by_heap(answer)))
    small_merge_ms, small_heap_ms = median_ms(lambda: merge(small)), median_ms(lambda: orjson.dumps(by_heap(small)))
    write_report(
        "merge",
        {
            "legs": LEGS,
            "rows_a_leg": ROWS,
            "attributes": 20,
            "limit": LIMIT,
            "answer_bytes": len(answer),
            "rounds": ROUNDS,
            "merge_ms": round(merge_ms, 2),
            "merge_gigabytes_per_second": round(len(answer) / merge_ms / 1e6, 2),
            "orjson_loads_of_one_leg_ms": round(parse_ms, 2),
            "ratio 16 orjson parses / merge": round(LEGS * parse_ms / merge_ms, 1),
            "orjson_and_heapq_merge_ms": round(heap_ms, 2),
            "ratio orjson and heapq.merge / merge": round(heap_ms / merge_ms, 1),
            "with_100_rows_a_leg": {
                "answer_bytes": len(small),
                "merge_ms": round(small_merge_ms, 3),
                "orjson_and_heapq_merge_ms": round(small_heap_ms, 3),
                "ratio": round(small_heap_ms / small_merge_ms, 1),
            },
        },
        options.out,
    )


if __name__ == "__main__":
    main()
