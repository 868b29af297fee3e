"""A scattered query gives what the whole query gives, whatever shards the rows carry, on the local origin's engine."""

import json
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hevlayer.gateway.shards.gather import merge_answers
from hevlayer.gateway.shards.scatter import plan_scatter
from hevlayer.kernels.origin import OriginEngine
from hevlayer.kernels.splice import shard_of
from hevlayer.wire.reserved import SHARD_ATTRIBUTE

PERMITS_MAX = 8
WORDS = ("red", "green", "blue", "old", "new")
ID_TYPES = {
    "uint": lambda number: number * 7919 % 10_007,
    "string": lambda number: f"id-{number}",
    "uuid": lambda number: str(uuid.UUID(int=number * 0x1_0001_0001_0001)),
}
SCHEMA = {
    "v": {"type": "[2]f32", "ann": True},
    "t": {"type": "string", "full_text_search": True},
    "n": "int",
    "s": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}},
    SHARD_ATTRIBUTE: "int",
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OriginEngine]:
    opened = OriginEngine(str(tmp_path_factory.mktemp("origin")))
    yield opened
    opened.close()


@st.composite
def worlds(draw):
    """Rows, some with their shard, some without (not backfilled yet), some with another namespace's."""
    shards = draw(st.sampled_from([2, 3, 5, 16, 17, 40]))
    id_type = draw(st.sampled_from(sorted(ID_TYPES)))
    rows = []
    for number in range(draw(st.integers(0, 30))):
        row = {
            "id": ID_TYPES[id_type](number),
            # Few values, so that distances and scores tie.
            "v": [draw(st.sampled_from([0.0, 1.0, 2.0, -1.5])), draw(st.sampled_from([0.5, 3.0]))],
            "t": " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))),
            "n": draw(st.integers(0, 3)),
            "s": draw(st.dictionaries(st.sampled_from(["1", "2", "70000"]), st.sampled_from([0.5, 1.0, 2.0]))),
        }
        carried = draw(st.sampled_from(["own", "own", "none", "foreign"]))
        if carried == "own":
            row[SHARD_ATTRIBUTE] = shard_of(row["id"], shards)
        elif carried == "foreign":
            row[SHARD_ATTRIBUTE] = draw(st.integers(0, 300))
        rows.append(row)
    return shards, id_type, rows, draw(st.sampled_from(["euclidean_squared", "cosine_distance"]))


filters = st.none() | st.sampled_from(
    [["n", "Gte", 1], ["And", [["n", "Lt", 3], ["t", "ContainsAllTokens", "red"]]], ["Not", ["n", "Eq", 2]]]
)
rankings = st.sampled_from(
    [
        ["v", "ANN", [0.25, 1.0]],
        ["v", "kNN", [0.25, 1.0]],
        ["s", "SparseKNN", {"1": 1.0, "70000": 0.25}],
        ["t", "BM25", "red old"],
        ["Sum", [["t", "BM25", "red"], ["n", "Eq", 1]]],
        ["Product", 2.0, ["t", "BM25", "new"]],
        ["Max", [["n", "Eq", 1], ["t", "BM25", "blue"]]],
    ]
)


@st.composite
def queries(draw):
    query = {"rank_by": draw(rankings)}
    total = draw(st.integers(1, 40))
    query.update(draw(st.sampled_from([{"limit": total}, {"top_k": total}, {"limit": {"total": total}}])))
    condition = draw(filters)
    if condition is not None or query["rank_by"][1] == "kNN":
        query["filters"] = condition or ["n", "Gte", 0]
    query.update(
        draw(
            st.sampled_from(
                [{}, {"include_attributes": ["n", "t"]}, {"exclude_attributes": ["v", "s", SHARD_ATTRIBUTE]}]
            )
        )
    )
    query.update(draw(st.sampled_from([{}, {"offset": 1}, {"offset": 7}, {"consistency": {"level": "strong"}}])))
    return query


_names = (f"world-{number}" for number in range(1_000_000))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(worlds(), st.lists(queries(), min_size=4, max_size=8))
def test_the_scattered_answer_is_the_whole_one(engine: OriginEngine, world, asked) -> None:
    shards, id_type, rows, distance_metric = world
    path = f"/v2/namespaces/{next(_names)}"

    def call(target: str, body: object) -> tuple[int, bytes]:
        status, _, answer = engine.handle("POST", target, "", body if isinstance(body, bytes) else dumps(body))
        return status, answer

    schema = {**SCHEMA, "id": id_type}
    metric = {"distance_metric": distance_metric, "schema": schema}
    # A row that is deleted again, so that the namespace is there, with its schema, also without rows.
    first = {"id": ID_TYPES[id_type](999), "v": [0, 0], "t": "red", "n": 0, SHARD_ATTRIBUTE: 0}
    assert call(path, {"upsert_rows": [*rows, first], **metric})[0] == 200
    assert call(path, {"deletes": [first["id"]]})[0] == 200
    for query in asked:
        status, whole = call(f"{path}/query", query)
        assert status == 200, (query, whole)
        plan = plan_scatter(dumps(query), shards, text=True, permits_max=PERMITS_MAX)
        assert plan is not None, query
        answers = []
        for body, permits in zip(plan.bodies, plan.permits, strict=True):
            assert permits <= PERMITS_MAX
            status, answer = call(f"{path}/query", body)
            assert status == 200, (body, answer)
            answers.append(answer)
        merged = json.loads(merge_answers(answers, plan))
        assert merged["rows"] == json.loads(whole)["rows"], query
        assert merged["billing"]["billable_logical_bytes_queried"] > 0


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()


UNSCATTERED = [
    {"rank_by": ["n", "asc"], "limit": 3},
    {"rank_by": [["n", "asc"], ["id", "desc"]], "limit": 3},
    {"rank_by": ["v", "ANN", [0, 1]], "limit": {"total": 3, "per": {"attributes": ["n"], "limit": 1}}},
    {"rank_by": ["v", "ANN", [0, 1]]},
    {"rank_by": ["v", "ANN", [0, 1]], "limit": 0},
    {"rank_by": ["v", "ANN", [0, 1]], "limit": True},
    {"rank_by": ["v", "ANN", [0, 1]], "limit": 3, "top_k": 3},
    {"rank_by": ["v", "ANN", [0, 1]], "limit": 9_999, "offset": 2},
    {"rank_by": ["v", "ANN", [0, 1]], "limit": 3, "offset": -1},
    {"rank_by": ["v", "ANN", ["Embed", "text"]], "limit": 3},
    {"rank_by": ["v", "kNN", [0, 1]], "limit": 3},
    {"rank_by": ["v", "kNN", [0, 1]], "limit": 3, "filters": None},
    {"rank_by": ["v", "ANN", [0, 1]], "limit": 3, "rerank_by": {"model": "m"}},
    {"rank_by": ["v", "ANN", [0, 1]], "limit": 3, "a_key_of_tomorrow": 1},
    {"aggregate_by": {"n": ["Count"]}, "filters": ["n", "Eq", 1]},
    {"aggregate_by": {"n": ["Count"]}, "group_by": ["n"], "top_k": 3},
    {"queries": [{"rank_by": ["v", "ANN", [0, 1]], "limit": 3}]},
    {"limit": 3},
    {"rank_by": "v", "limit": 3},
    {"rank_by": ["v"], "limit": 3},
    {"rank_by": [], "limit": 3},
]


@pytest.mark.parametrize("query", UNSCATTERED, ids=json.dumps)
def test_what_is_not_a_ranked_query_with_a_total_limit_goes_up_as_it_is(query) -> None:
    assert plan_scatter(dumps(query), 4, text=True, permits_max=8) is None


@pytest.mark.parametrize(
    "rank_by", [["t", "BM25", "red"], ["Sum", [["t", "BM25", "red"]]], ["Product", 2, ["t", "BM25", "red"]]]
)
def test_text_scatters_only_when_it_is_asked_for(rank_by) -> None:
    body = dumps({"rank_by": rank_by, "limit": 3})
    assert plan_scatter(body, 4, text=False, permits_max=8) is None
    assert plan_scatter(body, 4, text=True, permits_max=8) is not None


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"rank_by":["v","ANN",[1]],"limit":1e400}', b"1"])
def test_a_body_that_cannot_be_read_goes_up_as_it_is(body) -> None:
    assert plan_scatter(body, 4, text=True, permits_max=8) is None


def test_legs_share_requests_within_the_permits() -> None:
    plain, exhaustive = (
        {"rank_by": ["v", kind, [1]], "limit": 3, "filters": ["n", "Eq", 1]} for kind in ("ANN", "kNN")
    )
    assert plan_scatter(dumps(plain), 20, text=False, permits_max=8).permits == (8, 8, 4)
    assert plan_scatter(dumps(exhaustive), 20, text=False, permits_max=8).permits == (8, 8, 8, 8, 8)
    assert plan_scatter(dumps(plain), 40, text=False, permits_max=16).permits == (16, 16, 8)
