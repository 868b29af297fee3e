"""Films into a namespace and back: the same job that an application does, with the vendor's own client.

A film is a row: its id, the MiniLM vector of title and extract, and the attributes as they are in the file. Nothing
here knows that a gateway is in between, except for `fetch`, which is the gateway's own route.
"""

import base64
import gzip
import json
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from turbopuffer.lib.namespace import Namespace

Film = dict[str, Any]
Floats = npt.NDArray[np.float32]

BATCH_ROWS = 1_000

SCHEMA: dict[str, Any] = {
    "title": {"type": "string", "full_text_search": True, "filterable": True},
    "extract": {"type": "string", "full_text_search": {"stemming": True, "remove_stopwords": True}},
    "genres": "[]string",
    "cast": "[]string",
    "year": "int",
    "decade": "string",
}


def read_films(path: Path, limit: int | None = None) -> list[Film]:
    """The films of a gzipped file with one JSON object a line."""
    films: list[Film] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if limit is not None and len(films) >= limit:
                break
            films.append(json.loads(line))
    return films


def text_of(film: Film) -> str:
    """What is embedded: title and, where there is one, the extract."""
    return f"{film['title']}. {film['extract']}" if film.get("extract") else str(film["title"])


def batches(films: Sequence[Film], vectors: Floats) -> Iterator[list[dict[str, Any]]]:
    """Rows to upsert, `BATCH_ROWS` at a time; vectors travel as base64 of little-endian float32."""
    for start in range(0, len(films), BATCH_ROWS):
        yield [
            {**film, "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode()}
            for film, vector in zip(films[start : start + BATCH_ROWS], vectors[start : start + BATCH_ROWS], strict=True)
        ]


def load(namespace: Namespace, films: Sequence[Film], vectors: Floats) -> int:
    """Upserts all films. Returns: the rows that the service says it wrote."""
    written = 0
    for rows in batches(films, vectors):
        answer = namespace.write(upsert_rows=rows, distance_metric="cosine_distance", schema=SCHEMA)
        written += answer.rows_affected
    return written


def fetch(base_url: str, api_key: str, namespace: str, document_id: str) -> tuple[dict[str, Any], str]:
    """One document by id. Returns: the document, and the header `x-layer-cache` (hit, miss, miss-on-error).

    Raises: urllib.error.HTTPError: with status 404 when there is no such document.
    """
    request = urllib.request.Request(
        f"{base_url}/v2/namespaces/{quote(namespace, safe='')}/documents/{quote(document_id, safe='')}",
        headers={"Authorization": f"Bearer {api_key}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer), answer.headers["x-layer-cache"]
