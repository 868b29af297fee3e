"""Rules of single kinds of attributes: vectors, full text, pre-tokenised text, sparse vectors, fuzzy and uuid."""

import pytest

NOT_PARSED = "Failed to deserialize the JSON body into the target type: "
VECTOR_ROW = {"id": 1, "vector": [1.0, 2.0]}


DECLARATIONS = [
    pytest.param(
        {"upsert_rows": [VECTOR_ROW], "distance_metric": "cosine_distance", "schema": {"vector": {"type": "[2]f32"}}},
        400,
        "💔 the `vector` attribute must have `ann` set to `true`",
        id="vector-without-ann",
    ),
    pytest.param(
        {
            "upsert_rows": [{"id": 1, "embedding": [1, 2]}],
            "distance_metric": "cosine_distance",
            "schema": {"embedding": {"type": "[2]f32", "ann": False}},
        },
        400,
        "💔 vector attribute 'embedding' must have ann:true",
        id="embedding-without-ann",
    ),
    pytest.param(
        {"upsert_rows": [VECTOR_ROW, {"id": 2, "vector": [1.0]}], "distance_metric": "cosine_distance"},
        400,
        "vector",
        id="two-lengths",
    ),
    pytest.param(
        {"upsert_rows": [VECTOR_ROW, {"id": 2}], "distance_metric": "cosine_distance"},
        400,
        "vector",
        id="a-row-without-its-vector",
    ),
    pytest.param(
        {"upsert_rows": [{"id": 1, "vector": "!!!"}], "distance_metric": "cosine_distance"},
        400,
        "vector",
        id="bad-base64",
    ),
    pytest.param(
        {"upsert_rows": [{"id": 1, "vector": [0.1] * 10_753}], "distance_metric": "cosine_distance"},
        400,
        "10752",
        id="too-many-dimensions",
    ),
    pytest.param(
        {"upsert_rows": [{"id": 1, "t": "x"}], "schema": {"t": {"type": "string", "embed": "some-model"}}},
        400,
        "embed",
        id="native-embedding",
    ),
    pytest.param(
        {"upsert_rows": [{"id": 1, "t": "x"}], "schema": {"t": {"type": "int", "full_text_search": True}}},
        400,
        "t",
        id="full-text-of-numbers",
    ),
    pytest.param(
        {
            "upsert_rows": [{"id": 1, "t": "x"}],
            "schema": {"t": {"type": "string", "full_text_search": {"max_token_length": 255}}},
        },
        400,
        "max_token_length",
        id="token-length",
    ),
    pytest.param(
        {
            "upsert_rows": [{"id": 1, "t": "x"}],
            "schema": {"t": {"type": "string", "full_text_search": {"tokenizer": "pre_tokenized_array"}}},
        },
        400,
        "pre_tokenized_array",
        id="pre-tokenised-needs-an-array",
    ),
    pytest.param(
        {
            "upsert_rows": [{"id": 1, "s": "x" * (8 * 1024 * 1024 + 1)}],
            "schema": {"s": {"type": "string", "filterable": False}},
        },
        400,
        "s",
        id="value-over-8-mib",
    ),
    pytest.param({"upsert_rows": [{"id": 1, "s": "x" * 4097}]}, 400, "s", id="filterable-value-over-4-kib"),
    pytest.param(
        {"upsert_rows": [{"id": 1, **{f"a{i}": 1 for i in range(1025)}}]}, 400, "1024", id="too-many-attributes"
    ),
]


@pytest.mark.parametrize(("body", "status", "part"), DECLARATIONS)
def test_declarations_are_checked(api, ns, body, status, part):
    assert part in api.refused(status, "POST", f"/v2/namespaces/{ns}", body)
    assert api.call("GET", f"/v1/namespaces/{ns}/schema").status == 404


def test_two_vector_columns_share_the_metric(api, ns):
    api.write(
        ns,
        upsert_rows=[{"id": 1, "vector": [1, 0], "small": [1]}, {"id": 2, "vector": [0, 1], "small": [3]}],
        distance_metric="euclidean_squared",
        schema={"small": {"type": "[1]f32", "ann": True}},
    )
    assert api.ids(ns, rank_by=["small", "ANN", [2.9]]) == [2, 1]
    assert api.ids(ns, rank_by=["vector", "ANN", [1, 0]]) == [1, 2]
    metadata = api.ok("GET", f"/v2/namespaces/{ns}/metadata")
    assert metadata["schema"]["small"] == {"type": "[1]f32", "ann": {"distance_metric": "euclidean_squared"}}


def test_vectors_in_conditions(api, ns):
    api.write(ns, upsert_rows=[VECTOR_ROW], distance_metric="cosine_distance")
    changed = {"upsert_condition": ["vector", "NotEq", {"$ref_new": "vector"}]}
    assert api.write(ns, upsert_rows=[VECTOR_ROW], **changed)["rows_upserted"] == 0
    assert api.write(ns, upsert_rows=[{"id": 1, "vector": [2, 2]}], **changed)["rows_upserted"] == 1


@pytest.fixture(scope="module")
def text(api):
    name = "contract-text"
    api.call("DELETE", f"/v2/namespaces/{name}")
    api.write(
        name,
        upsert_rows=[
            {
                "id": 1,
                "plain": "The Runner runs",
                "stemmed": "The Runner runs",
                "tokens": ["Red", "fox"],
                "parts": ["a b", "c d"],
            },
            {"id": 2, "plain": "the résumé", "stemmed": "walking home", "tokens": ["red"], "parts": ["b c"]},
            {"id": 3, "plain": "example.com won't do", "stemmed": "the the", "tokens": ["blue", "Red", "Red"]},
        ],
        schema={
            "plain": {"type": "string", "full_text_search": {"ascii_folding": True}},
            "stemmed": {"type": "string", "full_text_search": {"stemming": True, "remove_stopwords": True}},
            "tokens": {"type": "[]string", "full_text_search": {"tokenizer": "pre_tokenized_array"}},
            "parts": {"type": "[]string", "full_text_search": True},
        },
    )
    yield name
    api.call("DELETE", f"/v2/namespaces/{name}")


SEARCHES = [
    (["plain", "BM25", "THE"], {1, 2}),
    (["plain", "BM25", "resume"], {2}),
    (["plain", "BM25", "run"], set()),
    (["plain", "BM25", "example.com"], {3}),
    (["plain", "BM25", "won't"], {3}),
    (["plain", "BM25", "_ ! ?"], set()),
    (["stemmed", "BM25", "running"], {1}),
    (["stemmed", "BM25", "the"], set()),
    (["stemmed", "BM25", "walked homes"], {2}),
    (["tokens", "BM25", ["Red"]], {1, 3}),
    (["tokens", "BM25", ["red", "blue"]], {2, 3}),
    (["parts", "BM25", "c"], {1, 2}),
]


@pytest.mark.parametrize(("rank_by", "ids"), SEARCHES, ids=str)
def test_analysis(api, text, rank_by, ids):
    assert set(api.ids(text, rank_by=rank_by)) == ids


TOKEN_FILTERS = [
    (["tokens", "ContainsAllTokens", ["Red", "fox"]], [1]),
    (["tokens", "ContainsAnyToken", ["fox", "blue"]], [1, 3]),
    (["tokens", "ContainsTokenSequence", ["Red", "Red"]], [3]),
    (["parts", "ContainsTokenSequence", "b c"], [1, 2]),
    (["stemmed", "ContainsAllTokens", "run"], [1]),
]


@pytest.mark.parametrize(("condition", "ids"), TOKEN_FILTERS, ids=str)
def test_token_filters(api, text, condition, ids):
    assert api.ids(text, filters=condition) == ids


def test_a_pre_tokenised_attribute_wants_an_array(api, text):
    body = {"rank_by": ["tokens", "BM25", "red"], "limit": 1}
    message = api.refused(400, "POST", f"/v2/namespaces/{text}/query", body)
    assert message == "💔 invalid input 'red' for rank_by field \"tokens\", expecting []string"


def test_a_pre_tokenised_attribute_in_the_schema(api, text):
    shown = api.ok("GET", f"/v1/namespaces/{text}/schema")["tokens"]["full_text_search"]
    assert shown["tokenizer"] == "pre_tokenized_array"
    assert shown["case_sensitive"] is True
    assert shown["language"] is None
    assert shown["max_token_length"] is None


def test_more_matches_and_shorter_texts_rank_higher(api, text):
    rows = api.rows(text, rank_by=["tokens", "BM25", ["Red"]])
    assert [row["id"] for row in rows] == [3, 1]
    assert rows[0]["$dist"] > rows[1]["$dist"] > 0


def test_fuzzy(api, ns):
    api.write(
        ns,
        upsert_rows=[{"id": 1, "s": "international"}, {"id": 2, "s": "Interval"}, {"id": 3, "s": "abc"}],
        schema={"s": {"type": "string", "fuzzy": True}},
    )
    distances = {"max_edit_distance": [{"min_query_chars": 4, "distance": 0}, {"min_query_chars": 6, "distance": 1}]}
    assert api.ids(ns, filters=["s", "Fuzzy", "internacional", distances]) == [1]
    assert api.ids(ns, filters=["s", "Fuzzy", "inter", distances]) == [1]
    assert api.ids(ns, filters=["s", "Fuzzy", "inter", {**distances, "case_sensitive": False}]) == [1, 2]
    assert api.ids(ns, filters=["s", "Fuzzy", "abc", distances]) == []


def test_uuid_filters(api, ns):
    ids = ["11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"]
    api.write(ns, upsert_rows=[{"id": id_} for id_ in ids], schema={"id": "uuid"})
    assert api.ids(ns, filters=["id", "In", ids[1:]]) == ids[1:]
    body = {"rank_by": ["id", "asc"], "limit": 1, "filters": ["id", "In", ["nope"]]}
    message = api.refused(400, "POST", f"/v2/namespaces/{ns}/query", body)
    assert message.startswith("filter error in key `id`: type mismatch, In expects uuid or []uuid, but got ")


@pytest.fixture(scope="module")
def numbers(api):
    name = "contract-numbers"
    api.call("DELETE", f"/v2/namespaces/{name}")
    api.write(
        name,
        upsert_rows=[
            {"id": 1, "u": 0, "i": -4, "at": "2024-01-01"},
            {"id": 2, "u": 2, "i": 4, "at": "2024-01-02"},
            {"id": 3, "u": 6, "i": 8, "at": "2024-01-08"},
        ],
        schema={"u": "uint", "i": "int", "at": "datetime"},
    )
    yield name
    api.call("DELETE", f"/v2/namespaces/{name}")


DAY_MS = 86_400_000
SCORES = [
    (["Attribute", "u"], {3: 6, 2: 2}),
    (["Max", [0, ["Attribute", "i"]]], {3: 8, 2: 4}),
    (["Max", 0, ["Attribute", "i"]], {3: 8, 2: 4}),
    (["Saturate", ["Attribute", "u"], {"midpoint": 2}], {3: 0.75, 2: 0.5}),
    (["Saturate", ["Attribute", "u"], {"midpoint": 2, "exponent": 2}], {3: 0.9, 2: 0.5}),
    (["Decay", ["Attribute", "u"], {"midpoint": 2}], {1: 1.0, 2: 0.5, 3: 0.25}),
    (["Decay", ["Dist", ["Attribute", "at"], "2024-01-01"], {"midpoint": "1d"}], {1: 1.0, 2: 0.5, 3: 0.125}),
    (["Decay", ["Dist", ["Attribute", "at"], "2024-01-01"], {"midpoint": DAY_MS}], {1: 1.0, 2: 0.5, 3: 0.125}),
    (["Product", 2, ["Attribute", "u"]], {3: 12, 2: 4}),
    (["Sum", [["Attribute", "u"], ["Product", 10, ["u", "Eq", 0]]]], {1: 10, 3: 6, 2: 2}),
]


@pytest.mark.parametrize(("rank_by", "scores"), SCORES, ids=lambda value: str(value)[:70])
def test_scores_of_numbers(api, numbers, rank_by, scores):
    rows = api.rows(numbers, rank_by=rank_by)
    # Whether a row with a score of zero is listed by `Attribute` and `Dist` is not settled.
    found = {row["id"]: row["$dist"] for row in rows if row["$dist"] > 0}
    assert found == pytest.approx(scores, rel=1e-6)
    assert list(found) == list(scores)


def test_a_signed_attribute_must_be_kept_from_below_zero(api, numbers):
    body = {"rank_by": ["Attribute", "i"], "limit": 1}
    assert api.refused(400, "POST", f"/v2/namespaces/{numbers}/query", body)


def test_explain_of_an_indexed_namespace(api, ns):
    for start in (0, 5_000):
        api.write(ns, upsert_rows=[{"id": start + i, "n": i} for i in range(5_000)])
    api.write(ns, upsert_rows=[{"id": 10_000, "n": 1}])
    answer = api.ok("POST", f"/v2/namespaces/{ns}/explain_query", {"rank_by": ["n", "asc"], "limit": 1})
    assert set(answer) == {"plan_text"}
    assert answer["plan_text"]


def test_a_limit_on_an_ungrouped_aggregate_is_unknown(api, numbers):
    body = {"aggregate_by": {"c": ["Count"]}, "limit": 5}
    message = api.refused(422, "POST", f"/v2/namespaces/{numbers}/query", body)
    assert message.startswith(NOT_PARSED)
    assert "limit" in message


@pytest.mark.parametrize(
    ("rerank_by", "status"),
    [(["RRF", {"rank_constant": 0}], 400), (["RRF", {"weights": [1]}], 400), (["Best"], 422), ("RRF", 422)],
)
def test_bad_fusions_are_refused(api, numbers, rerank_by, status):
    queries = [{"rank_by": ["id", "asc"], "limit": 1}, {"rank_by": ["u", "asc"], "limit": 1}]
    body = {"queries": queries, "rerank_by": rerank_by}
    answer = api.call("POST", f"/v2/namespaces/{numbers}/query", body)
    assert answer.status in {status, 400}, answer.body
    assert answer.error


def test_the_undocumented_cache_routes(api, numbers):
    assert api.call("GET", f"/v1/namespaces/{numbers}/_debug/purge_cache").status in (200, 202, 204, 404)
    assert api.call("GET", f"/v1/namespaces/{numbers}/_debug/warm_cache").status in (200, 202, 204, 409)


def test_an_unknown_operation_is_404(api, numbers):
    answer = api.call("GET", f"/v1/namespaces/{numbers}/operations/no-such-token")
    assert answer.status == 404


def test_recall_with_its_truth(api, ns):
    api.write(ns, upsert_rows=[{"id": i, "vector": [i, 1]} for i in range(1, 9)], distance_metric="cosine_distance")
    answer = api.ok(
        "POST",
        f"/v1/namespaces/{ns}/_debug/recall",
        {"num": 2, "top_k": 3, "include_ground_truth": True, "filters": ["id", "Gt", 2]},
    )
    assert answer["avg_recall"] == 1
    for sample in answer["ground_truth"]:
        assert len(sample["query_vector"]) == 2
        assert len(sample["nearest_neighbors"]) == 3
        assert all(row["id"] > 2 for row in sample["nearest_neighbors"])
