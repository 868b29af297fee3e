"""Loads films through the gateway with the official client, then queries them in every way that the API has.

python examples/movies/run.py --films movies.jsonl.gz [--base-url http://127.0.0.1:8080] [--limit 2000]
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import turbopuffer
from embed import Embedder
from films import fetch, load, read_films, text_of

CHUNK = 1_024


def embed_all(texts: list[str], cache: Path | None) -> np.ndarray:
    """Vectors of all texts; kept in `cache` when one is named, since this is the slow part."""
    if cache is not None and cache.exists():
        vectors: np.ndarray = np.load(cache)
        if len(vectors) >= len(texts):
            return vectors[: len(texts)]
    embedder = Embedder()
    parts = []
    started = time.monotonic()
    for start in range(0, len(texts), CHUNK):
        parts.append(embedder.embed(texts[start : start + CHUNK]))
        done = min(start + CHUNK, len(texts))
        print(f"  embedded {done} of {len(texts)} ({done / (time.monotonic() - started):.0f} a second)", flush=True)
    vectors = np.concatenate(parts)
    if cache is not None:
        np.save(cache, vectors)
    return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--base-url", default="http://127.0.0.1:8080")
    parser.add_argument("--api-key", default=os.environ.get("TURBOPUFFER_API_KEY", "tpuf_example"))
    parser.add_argument("--namespace", default="movies")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--vectors", type=Path, help="a .npy file to keep the embeddings in")
    options = parser.parse_args()

    films = read_films(options.films, options.limit)
    print(f"{len(films)} films; embedding title and extract")
    vectors = embed_all([text_of(film) for film in films], options.vectors)

    client = turbopuffer.Turbopuffer(base_url=options.base_url, api_key=options.api_key)
    movies = client.namespace(options.namespace)
    started = time.monotonic()
    written = load(movies, films, vectors)
    print(f"{written} rows written in {time.monotonic() - started:.1f} s\n")

    question = "a robot that learns to feel"
    vector = Embedder().embed([question])[0].tolist()
    shown = ["title", "year"]

    def show(heading: str, rows: list[turbopuffer.types.Row] | None) -> None:
        print(heading)
        for row in rows or []:
            print(f"  {row.id}  {getattr(row, 'year', '')}  {getattr(row, 'title', '')}")
        print()

    def ask(heading: str, **query: object) -> None:
        begun = time.monotonic()
        answer = movies.query(**query)  # type: ignore[arg-type]
        show(f"{heading} ({(time.monotonic() - begun) * 1e3:.0f} ms)", answer.rows)

    ask(f"by vector: {question}", rank_by=("vector", "ANN", vector), top_k=5, include_attributes=shown)
    ask(
        "by words, filtered: heist, 1990 and later",
        rank_by=("extract", "BM25", "heist robbery bank"),
        filters=("year", "Gte", 1990),
        top_k=5,
        include_attributes=shown,
    )
    ask(
        "the newest westerns",
        rank_by=("year", "desc"),
        filters=("genres", "Contains", "Western"),
        top_k=5,
        include_attributes=shown,
    )

    groups = movies.query(aggregate_by={"films": ("Count",)}, group_by=["decade"], top_k=20).aggregation_groups or []
    print("films by decade")
    for group in groups:
        print(f"  {group['decade']}  {group['films']}")

    fused = movies.multi_query(
        queries=[
            {"rank_by": ("vector", "ANN", vector), "top_k": 20, "include_attributes": shown},
            {"rank_by": ("extract", "BM25", question), "top_k": 20, "include_attributes": shown},
        ],
        rerank_by=("RRF",),
        limit=5,
    )
    show("\nvector and words, fused by reciprocal rank", fused.results[0].rows)

    film = films[0]["id"]
    for _ in range(2):
        document, cache = fetch(options.base_url, options.api_key, options.namespace, film)
        print(f"fetched {document['id']} ({cache}): {document['attributes']['title']}")
    movies.write(patch_rows=[{"id": film, "decade": "a long time ago"}])
    document, cache = fetch(options.base_url, options.api_key, options.namespace, film)
    print(f"patched, fetched again ({cache}): decade is {document['attributes']['decade']!r}")
    movies.write(deletes=[film])
    left = movies.query(rank_by=("id", "asc"), filters=("id", "Eq", film), top_k=1).rows
    print(f"deleted: {len(left or [])} rows with that id are left")


if __name__ == "__main__":
    main()
