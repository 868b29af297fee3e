"""Documents and requests of a load run, made from a seed: the same seed gives the same bytes on any machine."""

import functools
import itertools
import random
from array import array
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import orjson

from hevlayer.bench.plan import BenchPlan, Operation

VOCABULARY_WORDS = 5000
CATEGORIES = 50
TEXT_WORDS_MIN, TEXT_WORDS_MAX = 8, 24
LOAD_ROWS_MAX = 500
# Numbers in one request body at most, so that a batch of wide vectors stays below common body limits.
BODY_NUMBERS_MAX = 500_000
POOL_BODIES = 512
# The same for the prepared requests of one operation, which stay in memory.
POOL_NUMBERS_MAX = 2_000_000
_DECIMALS = 4
_LEVELS = 1 << 16


@functools.cache
def _normal_values() -> list[float]:
    """The standard normal distribution's quantiles, one for each 16-bit number: a random number picks a value."""
    normal = NormalDist()
    return [round(normal.inv_cdf((level + 0.5) / _LEVELS), _DECIMALS) for level in range(_LEVELS)]


def _vocabulary(rng: random.Random) -> list[str]:
    """Pronounceable words without a meaning, most frequent first, none twice."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < VOCABULARY_WORDS:
        words["".join(rng.choices(syllables, k=rng.randint(2, 4)))] = None
    return list(words)


@dataclass(frozen=True, slots=True)
class Call:
    """One request of the load. `row_id` is what a fetch asks for; `body` is JSON."""

    operation: Operation
    body: bytes
    row_id: int = 0


def load_rows(dimensions: int) -> int:
    """Rows of one request while loading."""
    return max(1, min(LOAD_ROWS_MAX, BODY_NUMBERS_MAX // dimensions))


class Dataset:
    """The rows of a run, in ids from 1 to `documents`, and the requests over them."""

    def __init__(self, plan: BenchPlan) -> None:
        self._plan = plan
        rng = random.Random(f"words {plan.seed}")  # noqa: S311 -- reproducible data, not a secret
        self._values = _normal_values()
        self._words = _vocabulary(rng)
        # Zipf: the n-th word is n times rarer than the first.
        self._weights = list(itertools.accumulate(1 / rank for rank in range(1, len(self._words) + 1)))
        self._pools = self._make_pools()

    def load_bodies(self) -> Iterator[tuple[int, bytes]]:
        """Requests that write every row once: how many rows, and the body."""
        rng = random.Random(f"rows {self._plan.seed}")  # noqa: S311
        documents = self._plan.documents
        step = load_rows(self._plan.dimensions)
        for first in range(1, documents + 1, step):
            ids = range(first, min(first + step, documents + 1))
            yield len(ids), self._write(rng, ids)

    def calls(self, stream: str) -> Iterator[Call]:
        """An endless sequence of calls; the same for each target, and another one for each `stream`."""
        rng = random.Random(f"{stream} {self._plan.seed}")  # noqa: S311
        operations = [operation for operation, weight in self._plan.mix.items() if weight]
        bounds = list(itertools.accumulate(self._plan.mix[operation] for operation in operations))
        while True:
            operation = operations[bisect(bounds, rng.random() * bounds[-1])]
            pool = self._pools[operation]
            yield pool[int(rng.random() * len(pool))]

    def _make_pools(self) -> dict[Operation, list[Call]]:
        pools: dict[Operation, list[Call]] = {}
        for operation, weight in self._plan.mix.items():
            if weight:
                rng = random.Random(f"{operation.value} {self._plan.seed}")  # noqa: S311
                rows = self._plan.write_rows if operation is Operation.WRITE else 1
                count = max(1, min(POOL_BODIES, POOL_NUMBERS_MAX // (rows * self._plan.dimensions)))
                pools[operation] = [self._call(operation, rng) for _ in range(count)]
        return pools

    def _call(self, operation: Operation, rng: random.Random) -> Call:
        top_k = self._plan.top_k
        attributes = {"include_attributes": ["text", "category", "rank"]}
        match operation:
            case Operation.VECTOR:
                body: dict[str, object] = {
                    "rank_by": ["vector", "ANN", self._vector(rng)],
                    "top_k": top_k,
                    **attributes,
                }
            case Operation.TEXT:
                words = " ".join(self._draw(rng, rng.randint(2, 4)))
                body = {"rank_by": ["text", "BM25", words], "top_k": top_k, **attributes}
            case Operation.FILTER:
                rows = ["And", [["category", "Eq", rng.randrange(CATEGORIES)], ["rank", "Gte", rng.randrange(500)]]]
                body = {"rank_by": ["rank", "asc"], "filters": rows, "top_k": top_k, **attributes}
            case Operation.COUNT:
                body = {"aggregate_by": {"rows": ["Count"]}, "filters": ["category", "Eq", rng.randrange(CATEGORIES)]}
            case Operation.FETCH:
                row_id = rng.randint(1, self._plan.documents)
                body = {"rank_by": ["id", "asc"], "filters": ["id", "Eq", row_id], "top_k": 1, **attributes}
                return Call(operation, orjson.dumps(body), row_id)
            case Operation.WRITE:
                count = min(self._plan.write_rows, self._plan.documents)
                return Call(operation, self._write(rng, rng.sample(range(1, self._plan.documents + 1), count)))
        return Call(operation, orjson.dumps(body))

    def _write(self, rng: random.Random, ids: range | list[int]) -> bytes:
        return orjson.dumps(
            {
                "upsert_rows": [self._row(rng, row_id) for row_id in ids],
                "distance_metric": "cosine_distance",
                "schema": {"text": {"type": "string", "full_text_search": True}},
            }
        )

    def _row(self, rng: random.Random, row_id: int) -> dict[str, object]:
        return {
            "id": row_id,
            "vector": self._vector(rng),
            "text": " ".join(self._draw(rng, rng.randint(TEXT_WORDS_MIN, TEXT_WORDS_MAX))),
            "category": rng.randrange(CATEGORIES),
            "rank": rng.randrange(1000),
        }

    def _draw(self, rng: random.Random, count: int) -> list[str]:
        return rng.choices(self._words, cum_weights=self._weights, k=count)

    def _vector(self, rng: random.Random) -> list[float]:
        values = self._values
        levels = array("H")
        levels.frombytes(rng.randbytes(2 * self._plan.dimensions))
        return [values[level] for level in levels]
