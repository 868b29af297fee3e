"""The rules of a plan, and the data that it stands for."""

import itertools
from collections import Counter

import orjson
import pytest

from hevlayer.bench.data import Dataset, load_rows
from hevlayer.bench.load import slice_order
from hevlayer.bench.plan import BenchPlan, Kind, Operation, Target, parse_mix, url_problems
from hevlayer.errors import ConfigurationError

DIRECT = Target(Kind.DIRECT, "http://origin:1", "secret-key")


def small(**changes) -> BenchPlan:
    return BenchPlan(**{"targets": (DIRECT,), "documents": 25, "dimensions": 4, **changes}).check()


def test_a_mix_is_read_with_its_weights():
    assert parse_mix("vector=70, fetch=30,write=0") == {Operation.VECTOR: 70, Operation.FETCH: 30, Operation.WRITE: 0}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("vectors=1", "names an operation that there is not: 'vectors'; there are vector, text, filter, count"),
        ("vector=1,vector=2", "names vector twice"),
        ("vector", "must give vector a whole weight"),
        ("vector=-1", "must give vector a whole weight"),
        ("vector=1.5", "must give vector a whole weight"),
        ("vector=0", "at least one operation a weight above 0"),
        ("", "names an operation that there is not: ''"),
    ],
)
def test_a_mix_that_breaks_a_rule_says_which(text, problem):
    with pytest.raises(ValueError, match=r"^(names|must)") as caught:
        parse_mix(text)
    assert problem in str(caught.value)


def test_every_problem_of_a_plan_is_told_at_once():
    with pytest.raises(ConfigurationError) as caught:
        BenchPlan(targets=(), documents=0, rate=-1.0, slice_seconds=float("nan")).check()
    assert caught.value.problems == [
        "documents must be from 1 to 1e+07",
        "slice must be from 0.05 to 86400",
        "rate must be above 0 and at most 1e+06",
        "direct or gateway: at least one URL is needed",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "host:80",
        "http://",
        "http://user:pass@host",
        "http://host?x=1",
        "http://host#f",
        "http://host:99999",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url):
    problems = url_problems("direct", url)
    assert len(problems) == 1
    assert "user" not in problems[0].replace("a user or a password", "")


def test_a_plan_never_shows_its_keys():
    assert "secret-key" not in repr(small())


def test_the_load_writes_every_document_once():
    plan = small(documents=1203)
    rows = [row for _, body in Dataset(plan).load_bodies() for row in orjson.loads(body)["upsert_rows"]]
    assert [row["id"] for row in rows] == list(range(1, 1204))
    assert {len(row["vector"]) for row in rows} == {4}
    assert sum(count for count, _ in Dataset(plan).load_bodies()) == 1203


def test_wide_vectors_come_in_smaller_batches():
    assert load_rows(10_752) * 10_752 <= 500_000
    assert load_rows(128) == 500


def test_the_same_seed_gives_the_same_bytes_and_another_one_others():
    def start(seed: int) -> list:
        dataset = Dataset(small(seed=seed))
        return [next(dataset.load_bodies())[1], *itertools.islice(dataset.calls("measure"), 50)]

    assert start(7) == start(7)
    assert start(7) != start(8)


def test_the_streams_of_a_run_differ():
    dataset = Dataset(small())
    first, second = (list(itertools.islice(dataset.calls(name), 50)) for name in ("warm-up", "measure"))
    assert first != second


def test_the_calls_follow_the_mix():
    mix = {Operation.VECTOR: 3, Operation.FETCH: 1, Operation.COUNT: 0}
    counts = Counter(call.operation for call in itertools.islice(Dataset(small(mix=mix)).calls("measure"), 4000))
    assert set(counts) == {Operation.VECTOR, Operation.FETCH}
    # Six standard deviations of a binomial distribution.
    assert abs(counts[Operation.VECTOR] - 3000) < 6 * (4000 * 0.75 * 0.25) ** 0.5


def test_every_operation_is_a_request_of_the_api():
    mix = dict.fromkeys(Operation, 1)
    bodies = {}
    for call in itertools.islice(Dataset(small(mix=mix, top_k=3)).calls("measure"), 200):
        bodies[call.operation] = orjson.loads(call.body)
        if call.operation is Operation.FETCH:
            assert bodies[call.operation]["filters"] == ["id", "Eq", call.row_id]
            assert 1 <= call.row_id <= 25
    assert len(bodies[Operation.VECTOR]["rank_by"][2]) == 4
    assert bodies[Operation.TEXT]["rank_by"][:2] == ["text", "BM25"]
    assert bodies[Operation.FILTER]["top_k"] == 3
    assert bodies[Operation.COUNT]["aggregate_by"] == {"rows": ["Count"]}
    assert len({row["id"] for row in bodies[Operation.WRITE]["upsert_rows"]}) == 10


def test_every_other_round_runs_backwards():
    assert [slice_order(["direct", "gateway"], number) for number in range(3)] == [
        ["direct", "gateway"],
        ["gateway", "direct"],
        ["direct", "gateway"],
    ]
