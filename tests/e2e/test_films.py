"""Real films with real embeddings through the gateway, every answer compared with one computed here."""

import hashlib
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dev_process import API_KEY, Dev

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "tests" / "data" / "films-sample.jsonl.gz"
EXAMPLE = ROOT / "examples" / "movies"
FILMS = 500
"""Every second film of the sample: all decades, and embedded within seconds."""
RUN_SECONDS_MAX = 120
DISTANCE_TOLERANCE = 1e-4
SCORE_TOLERANCE = 1e-4
RRF_CONSTANT = 60
TOP = 10
QUESTIONS = (
    "a robot that learns to feel",
    "two strangers meet on a train",
    "a bank robbery goes wrong",
    "a detective hunts a serial killer",
    "the rise and fall of a boxer",
)
TITLES = ("the last night", "love", "man of the house", "the girl and the king", "don't")

sys.path.insert(0, str(EXAMPLE))

import films as example  # noqa: E402
from embed import DIMENSIONS, Embedder  # noqa: E402

Film = dict[str, Any]


@pytest.fixture(scope="module")
def films() -> list[Film]:
    return example.read_films(SAMPLE)[::2]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture(scope="module")
def vectors(films, embedder, pytestconfig):
    """Of all films; kept between runs under the digest of the texts and of the code that embeds them."""
    texts = [example.text_of(film) for film in films]
    digest = hashlib.sha256("\0".join(texts).encode() + (EXAMPLE / "embed.py").read_bytes()).hexdigest()
    cache = getattr(pytestconfig, "cache", None)
    kept = None if cache is None else cache.mkdir("film-vectors") / f"{digest[:16]}.npy"
    if kept is not None and kept.exists():
        return np.load(kept)
    made = embedder.embed(texts)
    if kept is not None:
        np.save(kept, made)
    return made


@pytest.fixture(scope="module")
def questions(embedder):
    return embedder.embed(QUESTIONS)


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    with Dev(tmp_path_factory.mktemp("films") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def namespace(dev, films, vectors):
    loaded = dev.client().namespace("films")
    assert example.load(loaded, films, vectors) == len(films)
    return loaded


def ids(rows: Any) -> list[str]:
    return [row.id for row in rows]


def exact(films, vectors, question, keep=lambda _film: True) -> list[tuple[float, str]]:
    """Cosine distance and id of all films that are kept, nearest first."""
    distances = 1 - vectors @ question
    return sorted((float(distances[i]), film["id"]) for i, film in enumerate(films) if keep(film))


def agree(rows: Any, expected: list[tuple[float, str]]) -> None:
    """The same distances in order, and the same ids wherever distances are apart."""
    assert len(rows) == min(TOP, len(expected))
    by_id = {each: distance for distance, each in expected}
    for row, (distance, _) in zip(rows, expected, strict=False):
        assert row.model_extra["$dist"] == pytest.approx(distance, abs=DISTANCE_TOLERANCE)
        assert by_id[row.id] == pytest.approx(distance, abs=DISTANCE_TOLERANCE)
    assert len({row.id for row in rows}) == len(rows)


def test_the_vectors_are_those_of_the_model(embedder, vectors):
    assert vectors.shape == (FILMS, DIMENSIONS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    person, *others = embedder.embed(
        ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    )
    # The similarities that the model's authors publish with it, to three digits.
    assert [float(person @ other) for other in others] == pytest.approx([0.695, 0.943, 0.257], abs=2e-3)


def test_every_film_comes_back_as_it_was_written(namespace, films):
    rows = namespace.query(rank_by=("id", "asc"), top_k=1_200, exclude_attributes=["vector"]).rows
    assert ids(rows) == sorted(film["id"] for film in films)
    names = {name for film in films for name in film} - {"id"}
    by_id = {film["id"]: film for film in films}
    for row in rows:
        seen = {name: value for name, value in row.model_extra.items() if value is not None}
        assert seen.keys() <= names
        assert seen == {name: value for name, value in by_id[row.id].items() if name != "id"}


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_vector_queries_agree_with_numpy(namespace, films, vectors, questions, number):
    question = questions[number]
    rank_by = ("vector", "ANN", question.tolist())
    agree(namespace.query(rank_by=rank_by, top_k=TOP).rows, exact(films, vectors, question))
    found = namespace.query(
        rank_by=rank_by, top_k=TOP, filters=("And", [("year", "Gte", 1960), ("genres", "Contains", "Drama")])
    )
    agree(found.rows, exact(films, vectors, question, lambda film: film["year"] >= 1960 and "Drama" in film["genres"]))


def tokens(text: str) -> list[str]:
    """Words as Unicode separates them, for the scripts of the sample's titles that the tests ask for."""
    return re.findall(r"\w+(?:['’.](?=\w)\w+)*", text.lower())


def bm25(
    documents: dict[str, list[str]], question: list[str], k1: float = 1.2, b: float = 0.75, k3: float = 8.0
) -> list[tuple[float, str]]:
    """Okapi BM25 with the idf that is never negative; score and id, best first, without those that score 0."""
    average = sum(map(len, documents.values())) / len(documents)
    frequency = Counter(token for words in documents.values() for token in set(words))
    asked = Counter(question)
    scored = []
    for document_id, words in documents.items():
        counts = Counter(words)
        score = 0.0
        for token, times in asked.items():
            count = counts[token]
            idf = math.log(1 + (len(documents) - frequency[token] + 0.5) / (frequency[token] + 0.5))
            weight = count * (k1 + 1) / (count + k1 * (1 - b + b * len(words) / average))
            score += idf * weight * (k3 + 1) * times / (k3 + times)
        if score > 0:
            scored.append((score, document_id))
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))


@pytest.mark.parametrize("question", TITLES)
def test_word_queries_agree_with_an_independent_bm25(namespace, films, question):
    documents = {film["id"]: tokens(film["title"]) for film in films}
    expected = bm25(documents, tokens(question))
    by_id = {each: score for score, each in expected}
    rows = namespace.query(rank_by=("title", "BM25", question), top_k=TOP).rows
    assert len(rows) == min(TOP, len(expected))
    for row, (score, _) in zip(rows, expected, strict=False):
        assert row.model_extra["$dist"] == pytest.approx(score, rel=0.01)
        assert by_id[row.id] == pytest.approx(score, rel=0.01)


def test_stems_and_stop_words_of_the_extract(namespace, films):
    rows = namespace.query(rank_by=("extract", "BM25", "the robbers"), top_k=1_000, include_attributes=["extract"]).rows
    # Snowball English makes robber of robber, robbers and robber's, but not of robbery; "the" alone finds nothing.
    expected = {film["id"] for film in films if re.search(r"\brobbers?\b", film.get("extract", ""), re.IGNORECASE)}
    assert set(ids(rows)) == expected
    assert namespace.query(rank_by=("extract", "BM25", "the"), top_k=TOP).rows == []


@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_attribute_order(namespace, films, direction):
    westerns = [film for film in films if "Western" in film["genres"]]
    rows = namespace.query(
        rank_by=("year", direction), top_k=25, filters=("genres", "Contains", "Western"), include_attributes=["year"]
    ).rows
    years = sorted((film["year"] for film in westerns), reverse=direction == "desc")
    assert [row.year for row in rows] == years[:25]
    assert set(ids(rows)) <= {film["id"] for film in westerns}


def test_counts_and_groups_agree_with_counter(namespace, films):
    counted = namespace.query(aggregate_by={"n": ("Count",)}, filters=("year", "Lt", 1950)).aggregations
    assert counted == {"n": sum(film["year"] < 1950 for film in films)}
    groups = namespace.query(aggregate_by={"n": ("Count",)}, group_by=["decade"], top_k=100).aggregation_groups
    assert [(each["decade"], each["n"]) for each in groups] == sorted(Counter(f["decade"] for f in films).items())
    summed = namespace.query(aggregate_by={"years": ("Sum", "year")}, filters=("decade", "Eq", "1990s")).aggregations
    assert summed == {"years": sum(film["year"] for film in films if film["decade"] == "1990s")}


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_reciprocal_rank_fusion_agrees_with_our_own(namespace, questions, number):
    legs = [
        {"rank_by": ("vector", "ANN", questions[number].tolist()), "top_k": 20},
        {"rank_by": ("extract", "BM25", QUESTIONS[number]), "top_k": 20},
    ]
    fused: Counter[str] = Counter()
    for leg in legs:
        for rank, row in enumerate(namespace.query(**leg).rows, start=1):
            fused[row.id] += 1 / (RRF_CONSTANT + rank)
    expected = sorted(fused.values(), reverse=True)
    rows = namespace.multi_query(queries=legs, rerank_by=("RRF",), limit=TOP).results[0].rows
    assert len(rows) == TOP
    for row, score in zip(rows, expected, strict=False):
        assert fused[row.id] == pytest.approx(score, rel=SCORE_TOLERANCE)
        assert row.model_extra["$dist"] == pytest.approx(score, rel=SCORE_TOLERANCE)


def test_fetched_by_id_the_second_time_from_the_cache(dev, namespace, films):
    for film in films[::100]:
        expected = {name: value for name, value in film.items() if name != "id"}
        assert dev.fetch("films", film["id"]) == (expected, "miss")
        assert dev.fetch("films", film["id"]) == (expected, "hit")


def test_patched_and_deleted_films_are_so_at_once(dev, films, vectors):
    few = films[:50]
    namespace = dev.client().namespace("films-changed")
    example.load(namespace, few, vectors[:50])
    patched, deleted = few[0], few[1]
    for film in (patched, deleted):
        assert dev.fetch("films-changed", film["id"])[0] is not None
    namespace.write(patch_rows=[{"id": patched["id"], "decade": "long ago", "genres": ["Patched"]}])
    expected = {**patched, "decade": "long ago", "genres": ["Patched"]}
    assert dev.fetch("films-changed", patched["id"])[0] == {name: expected[name] for name in expected if name != "id"}
    strong = {"level": "strong"}
    found = namespace.query(
        rank_by=("id", "asc"), top_k=50, filters=("genres", "Contains", "Patched"), consistency=strong
    )
    assert ids(found.rows) == [patched["id"]]
    assert namespace.write(deletes=[deleted["id"]]).rows_affected == 1
    assert dev.fetch("films-changed", deleted["id"]) == (None, "")
    assert namespace.query(aggregate_by={"n": ("Count",)}, consistency=strong).aggregations == {"n": 49}
    left = namespace.query(rank_by=("vector", "ANN", vectors[1].tolist()), top_k=50, consistency=strong).rows
    assert set(ids(left)) == {film["id"] for film in few} - {deleted["id"]}


def test_the_example_runs_as_its_page_says(dev):
    finished = subprocess.run(
        [sys.executable, str(EXAMPLE / "run.py"), "--films", str(SAMPLE), "--limit", "40", "--repeat", "2",
         "--base-url", dev.url, "--api-key", API_KEY, "--namespace", "example"],
        capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for line in ("40 rows written", "(miss)", "(hit)", "decade is 'a long time ago'", "deleted: 0 rows with that id"):
        assert line in finished.stdout
