"""Loads films through the gateway with the official client, then asks for them in every way that the API has.

    python examples/movies/run.py --films movies.jsonl.gz [--base-url http://127.0.0.1:8080] [--limit 2000]

Every kind of question is asked `--repeat` times after it was shown once; the table at the end has the latencies.
"""

import argparse
import itertools
import os
import statistics
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import turbopuffer
from embed import Embedder
from films import Floats, fetch, load, read_films, text_of
from turbopuffer.lib.namespace import Namespace

CHUNK_TEXTS = 1_024
SHOWN = ["title", "year"]
QUESTIONS = (
    "a robot that learns to feel",
    "two strangers meet on a train",
    "a bank robbery goes wrong",
    "a detective hunts a serial killer",
    "lost on an island in the ocean",
    "the rise and fall of a boxer",
    "a ghost haunts an old house",
    "a war seen through the eyes of a child",
)


def embed_all(texts: list[str], cache: Path | None) -> Floats:
    """Vectors of all texts; kept in `cache` when one is named, since this is the slow part.

    Raises: SystemExit: the file holds the vectors of another number of texts.
    """
    if cache is not None and cache.exists():
        kept: Floats = np.load(cache)
        if len(kept) < len(texts):
            raise SystemExit(f"{cache} holds {len(kept)} vectors for {len(texts)} films: remove it to embed them again")
        return kept[: len(texts)]
    embedder = Embedder()
    parts = []
    started = time.monotonic()
    for start in range(0, len(texts), CHUNK_TEXTS):
        parts.append(embedder.embed(texts[start : start + CHUNK_TEXTS]))
        done = min(start + CHUNK_TEXTS, len(texts))
        print(f"  embedded {done} of {len(texts)} ({done / (time.monotonic() - started):.0f} a second)", flush=True)
    vectors: Floats = np.concatenate(parts)
    if cache is not None:
        np.save(cache, vectors)
    return vectors


def show(heading: str, rows: list[turbopuffer.types.Row] | None) -> None:
    print(heading)
    for row in rows or []:
        extra = row.model_extra or {}
        print(f"  {row.id}  {extra.get('year', '')}  {extra.get('title', '')}")
    print()


class Tour:
    """Each way to ask, as a method of the question's number; the vectors of the questions are made beforehand."""

    def __init__(self, movies: Namespace, vectors: list[list[float]]) -> None:
        self.movies = movies
        self.vectors = vectors

    def by_vector(self, number: int) -> Any:
        return self.movies.query(
            rank_by=("vector", "ANN", self.vectors[number]), top_k=5, include_attributes=SHOWN
        ).rows  # fmt: skip

    def by_vector_of_westerns(self, number: int) -> Any:
        return self.movies.query(
            rank_by=("vector", "ANN", self.vectors[number]),
            filters=("genres", "Contains", "Western"),
            top_k=5,
            include_attributes=SHOWN,
        ).rows

    def by_words(self, number: int) -> Any:
        return self.movies.query(
            rank_by=("extract", "BM25", QUESTIONS[number]),
            filters=("year", "Gte", 1990),
            top_k=5,
            include_attributes=SHOWN,
        ).rows

    def by_year(self, number: int) -> Any:
        return self.movies.query(
            rank_by=("year", "desc"),
            filters=("genres", "ContainsAny", ["Western", "Musical"][: 1 + number % 2]),
            top_k=5,
            include_attributes=SHOWN,
        ).rows

    def by_decade(self, number: int) -> Any:
        return self.movies.query(
            aggregate_by={"films": ("Count",)},
            group_by=["decade"],
            filters=("year", "Gte", 1900 + number),
            top_k=20,
        ).aggregation_groups

    def fused(self, number: int) -> Any:
        answer = self.movies.multi_query(
            queries=[
                {"rank_by": ("vector", "ANN", self.vectors[number]), "top_k": 20, "include_attributes": SHOWN},
                {"rank_by": ("extract", "BM25", QUESTIONS[number]), "top_k": 20, "include_attributes": SHOWN},
            ],
            rerank_by=("RRF",),
            limit=5,
        )
        return answer.results[0].rows


def latencies_ms(ask: Callable[[int], Any], repeat: int) -> list[float]:
    taken = []
    for number in itertools.islice(itertools.cycle(range(len(QUESTIONS))), repeat):
        begun = time.perf_counter()
        ask(number)
        taken.append((time.perf_counter() - begun) * 1e3)
    return sorted(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, required=True, help="gzipped file with one film a line, as JSON")
    parser.add_argument("--base-url", default="http://127.0.0.1:8080")
    parser.add_argument("--api-key", default=os.environ.get("TURBOPUFFER_API_KEY", "tpuf_example"))
    parser.add_argument("--namespace", default="movies")
    parser.add_argument("--limit", type=int, help="read only so many films")
    parser.add_argument("--vectors", type=Path, help="a .npy file to keep the embeddings in")
    parser.add_argument("--repeat", type=int, default=40, help="times that each question is asked for the latencies")
    options = parser.parse_args()

    films = read_films(options.films, options.limit)
    print(f"{len(films)} films; embedding title and extract")
    vectors = embed_all([text_of(film) for film in films], options.vectors)

    client = turbopuffer.Turbopuffer(base_url=options.base_url, api_key=options.api_key)
    movies = client.namespace(options.namespace)
    started = time.monotonic()
    written = load(movies, films, vectors)
    seconds = time.monotonic() - started
    print(f"{written} rows written in {seconds:.1f} s ({written / seconds:.0f} a second)\n")

    tour = Tour(movies, Embedder().embed(QUESTIONS).tolist())
    show(f"by vector: {QUESTIONS[0]}", tour.by_vector(0))
    show(f"by vector, westerns only: {QUESTIONS[1]}", tour.by_vector_of_westerns(1))
    show(f"by words, 1990 and later: {QUESTIONS[2]}", tour.by_words(2))
    show("the newest westerns", tour.by_year(0))
    print("films by decade")
    for group in tour.by_decade(0):
        print(f"  {group['decade']}  {group['films']}")
    show(f"\nvector and words, fused by reciprocal rank: {QUESTIONS[0]}", tour.fused(0))

    film = films[0]["id"]

    def look() -> tuple[dict[str, Any], str]:
        return fetch(options.base_url, options.api_key, options.namespace, film)

    for _ in range(2):
        document, cache = look()
        print(f"fetched {document['id']} ({cache}): {document['attributes']['title']}")
    fetches = latencies_ms(lambda _: look(), options.repeat)
    movies.write(patch_rows=[{"id": film, "decade": "a long time ago"}])
    document, cache = look()
    print(f"patched, fetched again ({cache}): decade is {document['attributes']['decade']!r}")
    movies.write(deletes=[film])
    try:
        look()
    except urllib.error.HTTPError as error:
        print(f"deleted: fetching it answers {error.code}")
    left = movies.query(rank_by=("id", "asc"), filters=("id", "Eq", film), top_k=1).rows
    print(f"deleted: {len(left or [])} rows with that id are left\n")

    print(f"latencies of {options.repeat} calls each, in ms      p50     max")
    for name, taken in {
        "vector": latencies_ms(tour.by_vector, options.repeat),
        "vector, filtered": latencies_ms(tour.by_vector_of_westerns, options.repeat),
        "words (BM25), filtered": latencies_ms(tour.by_words, options.repeat),
        "attribute order, filtered": latencies_ms(tour.by_year, options.repeat),
        "counts by group": latencies_ms(tour.by_decade, options.repeat),
        "vector and words, fused": latencies_ms(tour.fused, options.repeat),
        "fetch by id, cached": fetches,
    }.items():
        print(f"  {name:<34} {statistics.median(taken):7.1f} {taken[-1]:7.1f}")


if __name__ == "__main__":
    main()
