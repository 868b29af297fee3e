"""Queries: every form of ranking, every filter operator with its null rules, aggregates, pages and refusals."""

import base64
import struct

import pytest
from contract_support import Whole

NOT_PARSED = "Failed to deserialize the JSON body into the target type: "

ROWS = [
    {
        "id": 1,
        "vector": [1.0, 0.0],
        "name": "apple",
        "n": 10,
        "f": 1.5,
        "ok": True,
        "tags": ["red", "round"],
        "nums": [1, 2],
        "body": "the quick brown fox jumps over the lazy dog",
        "at": "2024-01-01T00:00:00Z",
        "who": "11111111-1111-1111-1111-111111111111",
    },
    {
        "id": 2,
        "vector": [0.0, 1.0],
        "name": "banana",
        "n": 20,
        "f": -2.5,
        "ok": False,
        "tags": ["yellow"],
        "nums": [3],
        "body": "a fox and another fox, foxes everywhere",
        "at": "2024-02-01T00:00:00Z",
        "who": "22222222-2222-2222-2222-222222222222",
    },
    {
        "id": 3,
        "vector": [1.0, 1.0],
        "name": "cherry pie",
        "n": 20,
        "f": 0.0,
        "ok": True,
        "tags": ["red", "sweet"],
        "nums": [2, 4],
        "body": "dogs chase cats",
        "at": "2024-03-01T00:00:00Z",
    },
    {"id": 4, "vector": [-1.0, 0.0], "name": "Date", "n": -5, "tags": []},
    {"id": 5, "vector": [0.6, 0.8]},
]

SCHEMA = {
    "name": {"type": "string", "glob": True, "regex": True, "filterable": True},
    "n": "int",
    "f": "float",
    "body": {"type": "string", "full_text_search": True},
    "at": "datetime",
    "who": "uuid",
}


@pytest.fixture(scope="module")
def data(api):
    name = "contract-query-data"
    api.call("DELETE", f"/v2/namespaces/{name}")
    api.write(name, upsert_rows=ROWS, distance_metric="cosine_distance", schema=SCHEMA)
    yield name
    api.call("DELETE", f"/v2/namespaces/{name}")


FILTERS = [
    (["n", "Eq", 20], [2, 3]),
    (["n", "Eq", None], [5]),
    (["n", "NotEq", 20], [1, 4, 5]),
    (["n", "NotEq", None], [1, 2, 3, 4]),
    (["ok", "Eq", False], [2]),
    (["who", "Eq", "22222222222222222222222222222222"], [2]),
    (["f", "Eq", 0], [3]),
    (["n", "In", [10, -5]], [1, 4]),
    (["n", "In", []], []),
    (["name", "In", "banana"], [2]),
    (["n", "NotIn", [10, -5]], [2, 3, 5]),
    (["nums", "In", [2, 4]], [1, 3]),
    (["n", "Lt", 10], [4, 5]),
    (["n", "Lte", 10], [1, 4, 5]),
    (["n", "Gt", 10], [2, 3]),
    (["n", "Gte", 10], [1, 2, 3]),
    (["n", "Lt", None], []),
    (["f", "Lt", 0], [2, 4, 5]),
    (["name", "Gt", "apple"], [2, 3]),
    (["at", "Gte", "2024-02-01"], [2, 3]),
    (["id", "Gt", 3], [4, 5]),
    (["id", "In", [1, 5, 99]], [1, 5]),
    (["id", "NotIn", [1, 2]], [3, 4, 5]),
    (["tags", "Contains", "red"], [1, 3]),
    (["tags", "NotContains", "red"], [2, 4, 5]),
    (["tags", "ContainsAny", ["yellow", "sweet"]], [2, 3]),
    (["tags", "NotContainsAny", ["yellow", "sweet"]], [1, 4, 5]),
    (["nums", "AnyLt", 2], [1]),
    (["nums", "AnyLte", 2], [1, 3]),
    (["nums", "AnyGt", 2], [2, 3]),
    (["nums", "AnyGte", 4], [3]),
    (["name", "Glob", "*a*"], [1, 2, 4]),
    (["name", "Glob", "[ab]*"], [1, 2]),
    (["name", "IGlob", "D*"], [4]),
    (["name", "Glob", "d*"], []),
    (["name", "NotGlob", "*p*"], [2, 4, 5]),
    (["name", "NotIGlob", "d*"], [1, 2, 3, 5]),
    (["name", "Regex", "^[a-c].*e$"], [1, 3]),
    (["name", "Regex", "an"], [2]),
    (["body", "ContainsAllTokens", "fox quick"], [1]),
    (["body", "ContainsAllTokens", "FOX"], [1, 2]),
    (["body", "ContainsAnyToken", "cats quick"], [1, 3]),
    (["body", "ContainsTokenSequence", "brown fox"], [1]),
    (["body", "ContainsTokenSequence", "fox brown"], []),
    (["body", "ContainsAllTokens", "qui", {"last_as_prefix": True}], [1]),
    (["And", []], [1, 2, 3, 4, 5]),
    (["And", [["n", "Eq", 20], ["ok", "Eq", True]]], [3]),
    (["Or", [["n", "Eq", 10], ["id", "Eq", 5]]], [1, 5]),
    (["Not", ["n", "Lt", 10]], [1, 2, 3]),
    (["Not", ["Or", [["n", "Eq", 20], ["tags", "Contains", "red"]]]], [4, 5]),
]


@pytest.mark.parametrize(("condition", "ids"), FILTERS, ids=lambda value: str(value)[:60])
def test_filters(api, data, condition, ids):
    assert api.ids(data, filters=condition) == ids


RANKINGS = [
    (["vector", "ANN", [1, 0]], [1, 3, 5, 2, 4]),
    (["id", "asc"], [1, 2, 3, 4, 5]),
    (["id", "desc"], [5, 4, 3, 2, 1]),
    (["n", "asc"], [5, 4, 1, 2, 3]),
    (["n", "desc"], [2, 3, 1, 4, 5]),
    ([["n", "desc"], ["id", "desc"]], [3, 2, 1, 4, 5]),
    ([["ok", "asc"], ["name", "desc"]], [4, 5, 2, 3, 1]),
    (["body", "BM25", "fox"], [2, 1]),
    (["body", "BM25", "cats"], [3]),
    (["body", "BM25", "nothing"], []),
    (["Sum", [["body", "BM25", "fox"], ["body", "BM25", "lazy quick"]]], [1, 2]),
    (["Max", [["body", "BM25", "fox"], ["body", "BM25", "cats"]]], None),
    (["Product", 2, ["body", "BM25", "fox"]], [2, 1]),
    (["Product", ["body", "BM25", "fox"], 2], [2, 1]),
    (["tags", "Contains", "red"], [1, 3]),
    (["Sum", [["Product", 3, ["n", "Eq", 20]], ["tags", "Contains", "red"]]], [3, 2, 1]),
]


@pytest.mark.parametrize(("rank_by", "ids"), RANKINGS, ids=lambda value: str(value)[:60])
def test_rankings(api, data, rank_by, ids):
    found = api.ids(data, rank_by=rank_by)
    if ids is None:
        assert set(found) == {1, 2, 3}
    else:
        assert found == ids


def test_null_order_is_by_id_within_equals(api, data):
    assert api.ids(data, rank_by=["f", "asc"]) == [4, 5, 2, 3, 1]
    assert api.ids(data, rank_by=["f", "desc"]) == [1, 3, 2, 4, 5]


@pytest.mark.parametrize(
    ("metric", "distances"),
    [("cosine_distance", {1: 0.0, 2: 1.0, 4: 2.0}), ("euclidean_squared", {1: 0.0, 2: 2.0, 4: 4.0})],
)
def test_distances(api, ns, metric, distances):
    rows = [{"id": row["id"], "vector": row["vector"]} for row in ROWS if row["id"] in distances]
    api.write(ns, upsert_rows=rows, distance_metric=metric)
    found = api.rows(ns, rank_by=["vector", "ANN", [1.0, 0.0]])
    assert {row["id"]: row["$dist"] for row in found} == pytest.approx(distances)


def test_an_exhaustive_search_wants_a_filter(api, data):
    body = {"rank_by": ["vector", "kNN", [1, 0]], "limit": 3}
    assert "kNN requires filters" in api.refused(400, "POST", f"/v2/namespaces/{data}/query", body)
    assert api.ids(data, rank_by=["vector", "kNN", [1, 0]], filters=["n", "Gte", 10]) == [1, 3, 2]


def test_query_vectors_may_be_base64(api, data):
    encoded = base64.b64encode(struct.pack("<2f", 0.0, 1.0)).decode()
    assert api.ids(data, rank_by=["vector", "ANN", encoded], limit=1) == [2]


def test_sparse_vectors(api, ns):
    api.write(
        ns,
        upsert_rows=[{"id": 1, "s": {"1": 1.0, "7": 0.5}}, {"id": 2, "s": {"7": 2.0}}, {"id": 3, "s": {"9": 1.0}}],
        schema={"s": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}}},
    )
    rows = api.rows(ns, rank_by=["s", "SparseKNN", {"7": 1.0, "1": 0.25}])
    assert [(row["id"], row["$dist"]) for row in rows] == [(2, 2.0), (1, 0.75)]


def test_distance_is_there_only_for_scores(api, data):
    assert api.rows(data, limit=1) == [{"id": 1}]
    (row,) = api.rows(data, rank_by=["vector", "ANN", [1, 0]], limit=1)
    assert row == {"id": 1, "$dist": pytest.approx(0)}


INCLUDED = [
    ({}, {"id"}),
    ({"include_attributes": False}, {"id"}),
    ({"include_attributes": []}, {"id"}),
    ({"include_attributes": ["n", "id"]}, {"id", "n"}),
    ({"include_attributes": True}, set(ROWS[0])),
    ({"exclude_attributes": ["vector", "missing"]}, set(ROWS[0]) - {"vector"}),
]


@pytest.mark.parametrize(("body", "keys"), INCLUDED, ids=str)
def test_attributes_that_come_back(api, data, body, keys):
    assert set(api.rows(data, limit=1, **body)[0]) == keys


def test_limits_and_offsets_make_pages(api, data):
    assert api.ids(data, limit=2, offset=1) == [2, 3]
    assert api.ids(data, limit={"total": 2}) == [1, 2]
    assert [row["id"] for row in api.query(data, rank_by=["id", "asc"], top_k=3)["rows"]] == [1, 2, 3]
    assert api.ids(data, limit=2, filters=["id", "Gt", 2]) == [3, 4]
    limit = {"total": 10, "per": {"attributes": ["n"], "limit": 1}}
    assert api.ids(data, limit=limit, rank_by=["id", "asc"], filters=["n", "NotEq", None]) == [1, 2, 4]


def test_the_envelope_of_an_answer(api, data):
    answer = api.query(data, rank_by=["vector", "ANN", [1, 0]], limit=2)
    assert set(answer) == {"rows", "billing", "performance"}
    performance = answer["performance"]
    assert isinstance(performance["cache_hit_ratio"], float)
    assert performance["cache_temperature"] in {"hot", "warm", "cold"}
    assert performance["server_total_ms"] == Whole(3)
    assert performance["query_execution_ms"] == Whole(3)
    assert performance["exhaustive_search_count"] == 5
    assert performance["approx_namespace_size"] == 5
    assert answer["billing"]["billable_logical_bytes_queried"] in (256_000_000, 1_280_000_000)
    assert answer["billing"]["billable_logical_bytes_returned"] == 24


def test_bytes_returned_count_id_distance_and_attributes(api, ns):
    rows = [{"id": i, "vector": [0.1 * i, 0.1]} for i in range(1, 6)]
    rows[0]["hello"] = "world"
    api.write(ns, upsert_rows=rows, distance_metric="euclidean_squared")
    answer = api.query(ns, rank_by=["vector", "ANN", [0.1, 0.1]], limit=5, include_attributes=["hello", "vector"])
    assert answer["billing"]["billable_logical_bytes_returned"] == 105


AGGREGATES = [
    ({"aggregate_by": {"c": ["Count"]}}, "aggregations", {"c": 5}),
    ({"aggregate_by": {"c": ["Count"]}, "filters": ["n", "Eq", 20]}, "aggregations", {"c": 2}),
    ({"aggregate_by": {"s": ["Sum", "n"], "c": ["Count"]}}, "aggregations", {"s": 45, "c": 5}),
    (
        {"aggregate_by": {"c": ["Count"]}, "group_by": ["n"]},
        "aggregation_groups",
        [{"c": 1}, {"n": -5, "c": 1}, {"n": 10, "c": 1}, {"n": 20, "c": 2}],
    ),
    (
        {"aggregate_by": {"c": ["Count"]}, "group_by": ["n"], "limit": 2, "filters": ["n", "NotEq", None]},
        "aggregation_groups",
        [{"n": -5, "c": 1}, {"n": 10, "c": 1}],
    ),
    (
        {
            "aggregate_by": {"c": ["Count"]},
            "group_by": [{"tag": ["ForEachUnique", "tags"]}],
            "filters": ["id", "Lte", 3],
        },
        "aggregation_groups",
        [{"tag": "red", "c": 2}, {"tag": "round", "c": 1}, {"tag": "sweet", "c": 1}, {"tag": "yellow", "c": 1}],
    ),
]


@pytest.mark.parametrize(("body", "key", "value"), AGGREGATES, ids=lambda value: str(value)[:60])
def test_aggregates(api, data, body, key, value):
    answer = api.query(data, **body)
    found = answer[key]
    if key == "aggregation_groups":
        # Whether a group's null key is left out or spelled out is the server's choice.
        found = [{name: part for name, part in group.items() if part is not None} for group in found]
    assert found == value
    assert "rows" not in answer


def test_a_multi_query_answers_in_order(api, data):
    answer = api.query(
        data,
        queries=[
            {"rank_by": ["id", "desc"], "limit": 1},
            {"aggregate_by": {"c": ["Count"]}},
            {"rank_by": ["body", "BM25", "fox"], "limit": 5, "include_attributes": ["n"]},
        ],
    )
    assert set(answer) == {"results", "billing", "performance"}
    first, second, third = answer["results"]
    assert first["rows"] == [{"id": 5}]
    assert second["aggregations"] == {"c": 5}
    assert [row["id"] for row in third["rows"]] == [2, 1]
    assert third["rows"][0]["n"] == 20


FUSIONS = [
    (["RRF"], {}, [(1, 1 / 61 + 1 / 62), (2, 1 / 61), (3, 1 / 62), (5, 1 / 63)]),
    (["RRF", {"rank_constant": 1}], {}, [(1, 1 / 2 + 1 / 3), (2, 1 / 2), (3, 1 / 3), (5, 1 / 4)]),
    (["RRF", {"weights": [0.1, 4]}], {"limit": 2}, [(2, 4 / 61), (1, 0.1 / 61 + 4 / 62)]),
    (["RRF"], {"limit": 1, "offset": 1}, [(2, 1 / 61)]),
]


@pytest.mark.parametrize(("rerank_by", "root", "expected"), FUSIONS, ids=str)
def test_reciprocal_rank_fusion(api, data, rerank_by, root, expected):
    queries = [{"rank_by": ["vector", "ANN", [1, 0]], "limit": 3}, {"rank_by": ["body", "BM25", "fox"], "limit": 3}]
    answer = api.query(data, queries=queries, rerank_by=rerank_by, **root)
    (result,) = answer["results"]
    found = [(row["id"], row["$dist"]) for row in result["rows"]]
    expected = sorted(expected, key=lambda pair: (-pair[1], pair[0]))
    assert [id_ for id_, _ in found] == [id_ for id_, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], rel=1e-5)


def test_computed_attributes(api, data):
    rows = api.rows(
        data,
        limit=2,
        compute_attributes={"d": ["vector", "VectorDist", [1, 0]], "is_red": ["tags", "Contains", "red"]},
    )
    assert rows[0]["d"] == pytest.approx(0)
    assert rows[1]["d"] == pytest.approx(1)
    assert (rows[0]["is_red"], rows[1]["is_red"]) in ((True, False), (1, 0))


def test_highlights(api, data):
    (row,) = api.rows(
        data,
        rank_by=["body", "BM25", "cats"],
        compute_attributes={"h": ["body", "Highlight", {"fragment_by": "none"}]},
    )
    assert row["h"][0]["text"]


@pytest.mark.parametrize(
    "consistency", [{"level": "strong"}, {"level": "eventual"}, {"level": "eventual", "max_staleness_seconds": 1}]
)
def test_consistency_levels(api, data, consistency):
    assert len(api.ids(data, consistency=consistency)) == 5


def test_the_v1_query_route_takes_a_v2_body(api, data):
    answer = api.ok("POST", f"/v1/namespaces/{data}/query", {"rank_by": ["id", "asc"], "limit": 1})
    assert answer["rows"] == [{"id": 1}]


IDS = {"rank_by": ["id", "asc"], "limit": 1}

REFUSED = [
    ({**IDS, "rank_by": []}, 400, "💔 rank_by cannot be empty"),
    ({"rank_by": ["id", "asc"]}, 400, "💔 rank_by queries must specify top_k or limit"),
    ({**IDS, "limit": 0}, 400, "💔 top_k must be between 1 and 10000"),
    ({**IDS, "limit": 10_001}, 400, "💔 top_k must be between 1 and 10000"),
    (
        {"rank_by": ["vector", "ANN", [1, 0]], "limit": {"total": 3, "per": {"attributes": ["n"], "limit": 1}}},
        400,
        "💔 `limit.per` is only supported when ranking by an attribute",
    ),
    (
        {**IDS, "include_attributes": ["n"], "exclude_attributes": ["f"]},
        400,
        "💔 cannot specify both include_attributes and exclude_attributes",
    ),
    (
        {**IDS, "include_attributes": ["missing_attr"]},
        400,
        '💔 attribute "missing_attr" not found in schema, cannot be part of `include_attributes`. '
        "consider passing `include_attributes=True` to return all attribute data instead",
    ),
    (
        {"rank_by": ["body", "BM25", ["rust", "hybrid"]], "limit": 1},
        400,
        "💔 invalid input '[rust, hybrid]' for rank_by field \"body\", expecting string",
    ),
    (
        {"aggregate_by": {"c": ["Count"]}, "top_k": 5},
        400,
        "💔 top_k is not supported in aggregation queries without group_by",
    ),
    ({"aggregate_by": {"c": ["Count", "n"]}}, 400, '💔 aggregate_by with attributes other than "id" not yet supported'),
    ({"queries": []}, 400, "💔 must send at least one sub-query"),
    (
        {"queries": [IDS] * 17},
        400,
        "💔 multi-query exceeds per-namespace concurrency budget: requires 17 permits, max is 16 "
        "(see https://turbopuffer.com/docs/limits)",
    ),
    (
        {**IDS, "consistency": "eventual"},
        422,
        'consistency: invalid type: string "eventual", expected struct Consistency',
    ),
    (
        {**IDS, "consistency": {"level": "nonexistentvalue"}},
        422,
        "consistency.level: unknown variant `nonexistentvalue`, expected `strong` or `eventual`",
    ),
    ({**IDS, "consistency": {}}, 422, "consistency: missing field `level`"),
    (
        {**IDS, "consistency": {"level": 1}},
        400,
        "Failed to parse the request body as JSON: consistency.level: expected",
    ),
    ({**IDS, "vector_encoding": "bad"}, 422, "vector_encoding: unknown variant `bad`, expected `float` or `base64`"),
    (
        {**IDS, "exclude_attributes": True},
        422,
        "exclude_attributes: invalid type: boolean `true`, expected a sequence",
    ),
    (
        {**IDS, "rank_by": {"a": 1}},
        422,
        "rank_by: data did not match any variant of enum a valid variant of RankInput",
    ),
    ({**IDS, "limit": "x"}, 422, "limit: data did not match any variant of untagged enum LimitInput"),
    ({"queries": "bad"}, 422, 'queries: invalid type: string "bad", expected a sequence'),
    ({"queries": ["bad"]}, 422, "expected struct QueryRankBy"),
    ({**IDS, "filters": {"a": 1}}, 422, "filters: data did not match any variant of untagged enum FiltersInput"),
    ({**IDS, "filters": ["x", "Eq", 1]}, 400, "filter error in key `x`: attribute not found"),
    (
        {**IDS, "filters": ["tags", "ContainsAny", "python"]},
        400,
        "filter error in key `tags`: type mismatch, ContainsAny expects []string, but got",
    ),
    ({**IDS, "filters": ["id", "Eq", "1"]}, 400, "filter error in key `id`: type mismatch, Eq expects "),
    ({**IDS, "filters": ["n", "Eq", "x"]}, 400, "filter error in key `n`: type mismatch, Eq expects "),
    (
        {**IDS, "filters": ["tags", "Contains", ["red"]]},
        400,
        "filter error in key `tags`: type mismatch, Contains expects string",
    ),
    (
        {**IDS, "filters": ["body", "ContainsAllTokens", ["rust", "ranking"]]},
        400,
        "filter error in key `body`: type mismatch, ContainsAllTokens expects string, but got '[rust, ranking]'",
    ),
    ({"rank_by": ["vector", "ANN", [1, 2, 3]], "limit": 1}, 400, "3"),
    ({"rank_by": ["Product", -1, ["body", "BM25", "fox"]], "limit": 1}, 400, "non-negative"),
    ({"rank_by": ["tags", "asc"], "limit": 1}, 400, "tags"),
    ({"rank_by": ["body", "asc"], "limit": 1}, 400, "body"),
    ({"rank_by": ["missing", "asc"], "limit": 1}, 400, "missing"),
    ({"rank_by": ["n", "BM25", "x"], "limit": 1}, 400, "n"),
]


@pytest.mark.parametrize(("body", "status", "part"), REFUSED, ids=lambda value: str(value)[:70])
def test_refusals(api, data, body, status, part):
    message = api.refused(status, "POST", f"/v2/namespaces/{data}/query", body)
    assert part in message
    if status == 422:
        assert message.startswith(NOT_PARSED)
        assert " at line 1 column " in message


UNSUPPORTED = [
    {"rank_by": ["vector", "ANN", ["Embed", "text"]], "limit": 1},
    {
        "rank_by": ["body", "BM25", "fox"],
        "limit": 1,
        "include_attributes": ["body"],
        "rerank_by": {"model": "m", "query": "q", "attribute": "body"},
    },
]


@pytest.mark.parametrize("body", UNSUPPORTED, ids=["embed", "model-rerank"])
def test_what_needs_a_model_is_refused_not_ignored(api, data, body):
    assert api.refused(400, "POST", f"/v2/namespaces/{data}/query", body)
