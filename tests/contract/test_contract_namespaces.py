"""Schema, metadata, listing, warming, recall and deletion."""

from datetime import UTC, datetime

import pytest
from contract_support import Text, Whole

FULL_TEXT = {
    "k1": 1.2,
    "k3": 8,
    "b": 0.75,
    "language": "english",
    "stemming": True,
    "max_token_length": 39,
    "remove_stopwords": True,
    "ascii_folding": False,
    "case_sensitive": False,
    "tokenizer": "word_v4",
}


@pytest.fixture
def namespace(api, ns):
    api.write(
        ns,
        upsert_rows=[{"id": i, "vector": [i, 1], "title": "a b", "private": False, "tags": ["x"]} for i in range(1, 5)],
        distance_metric="cosine_distance",
        schema={
            "vector": {"type": "[2]f16", "ann": True},
            "title": {"type": "string", "full_text_search": {"stemming": True, "remove_stopwords": True}},
        },
    )
    return ns


def test_schema_has_explicit_nulls(api, namespace):
    assert api.ok("GET", f"/v1/namespaces/{namespace}/schema") == {
        "id": {"type": "uint", "filterable": None, "full_text_search": None},
        "title": {"type": "string", "filterable": False, "full_text_search": FULL_TEXT},
        "private": {"type": "bool", "filterable": True, "full_text_search": None},
        "tags": {"type": "[]string", "filterable": True, "full_text_search": None},
        "vector": {"type": "[2]f16", "ann": True, "filterable": None, "full_text_search": None},
    }


def test_metadata_of_a_small_namespace(api, namespace):
    metadata = api.ok("GET", f"/v2/namespaces/{namespace}/metadata")
    assert metadata == {
        "schema": {
            "id": {"type": "uint"},
            "title": {"type": "string", "filterable": False, "full_text_search": FULL_TEXT},
            "private": {"type": "bool", "filterable": True},
            "tags": {"type": "[]string", "filterable": True},
            "vector": {"type": "[2]f16", "ann": {"distance_metric": "cosine_distance"}},
        },
        "approx_row_count": 0,
        "approx_logical_bytes": 0,
        "created_at": Text(),
        "updated_at": Text(),
        "last_write_at": Text(),
        "encryption": {"mode": "default"},
        "index": {"status": "up-to-date"},
    }
    age = datetime.now(UTC) - datetime.fromisoformat(metadata["created_at"])
    assert -5 < age.total_seconds() < 60


def test_metadata_v1_is_served(api, namespace):
    assert set(api.ok("GET", f"/v1/namespaces/{namespace}/metadata")) >= {"schema", "created_at", "index"}


def test_times_move_with_what_changed(api, ns):
    def read():
        metadata = api.ok("GET", f"/v2/namespaces/{ns}/metadata")
        return [datetime.fromisoformat(metadata[key]) for key in ("created_at", "updated_at", "last_write_at")]

    api.write(ns, upsert_rows=[{"id": 1, "a": "x"}])
    created, updated, written = read()
    api.ok("POST", f"/v1/namespaces/{ns}/schema", {"a": {"type": "string", "filterable": False}})
    assert read()[0] == created
    assert read()[1] >= updated
    assert read()[2] == written


SCHEMA_CHANGES = [
    ({"a": {"type": "string", "filterable": False}}, {"type": "string", "filterable": False, "full_text_search": None}),
    (
        {"a": {"type": "string", "full_text_search": False}},
        {"type": "string", "filterable": True, "full_text_search": None},
    ),
    (
        {"a": {"type": "string", "regex": True}},
        {"type": "string", "filterable": False, "full_text_search": None, "regex": True},
    ),
    (
        {"a": {"type": "string", "glob": True, "filterable": True}},
        {"type": "string", "filterable": True, "full_text_search": None, "glob": True},
    ),
    ({"a": {"type": "string", "future_key": 1}}, {"type": "string", "filterable": True, "full_text_search": None}),
]


@pytest.mark.parametrize(("change", "shown"), SCHEMA_CHANGES)
def test_schema_changes_answer_the_whole_schema(api, ns, change, shown):
    api.write(ns, upsert_rows=[{"id": 1, "a": "x", "b": 1}])
    answer = api.ok("POST", f"/v1/namespaces/{ns}/schema", change)
    assert answer["a"] == shown
    assert set(answer) == {"id", "a", "b"}
    assert api.ok("GET", f"/v1/namespaces/{ns}/schema") == answer


def test_full_text_can_be_switched_on_and_off(api, ns):
    api.write(ns, upsert_rows=[{"id": 1, "a": "red fox"}, {"id": 2, "a": "blue dog"}])
    api.ok(
        "POST", f"/v1/namespaces/{ns}/schema", {"a": {"type": "string", "full_text_search": True, "filterable": True}}
    )
    assert api.ids(ns, rank_by=["a", "BM25", "fox"]) == [1]
    assert api.ids(ns, filters=["a", "Eq", "blue dog"]) == [2]
    api.ok("POST", f"/v1/namespaces/{ns}/schema", {"a": {"type": "string", "full_text_search": False}})
    body = {"rank_by": ["a", "BM25", "fox"], "limit": 1}
    assert api.refused(400, "POST", f"/v2/namespaces/{ns}/query", body)


def test_an_attribute_that_is_not_filterable_cannot_be_filtered(api, ns):
    api.write(ns, upsert_rows=[{"id": 1, "a": "x"}], schema={"a": {"type": "string", "filterable": False}})
    body = {"rank_by": ["id", "asc"], "limit": 1, "filters": ["a", "Eq", "x"]}
    assert "a" in api.refused(400, "POST", f"/v2/namespaces/{ns}/query", body)


def test_an_attribute_can_be_dropped(api, ns):
    api.write(ns, upsert_rows=[{"id": 1, "a": "x", "b": 1}])
    assert set(api.ok("POST", f"/v1/namespaces/{ns}/schema", {"a": {"drop": True}})) == {"id", "b"}
    assert api.rows(ns, include_attributes=True) == [{"id": 1, "b": 1}]
    api.write(ns, upsert_rows=[{"id": 2, "a": 5}])
    assert api.rows(ns, include_attributes=["a"]) == [{"id": 1}, {"id": 2, "a": 5}]


@pytest.mark.parametrize(
    ("change", "status", "part"),
    [
        (
            {"schema": {"a": {"type": "string"}}},
            422,
            "schema: data did not match any variant of untagged enum AttributeSchemaInput",
        ),
        ({"a": {"filterable": True}}, 422, "a: data did not match any variant of untagged enum AttributeSchemaInput"),
        ({"a": {"type": "int"}}, 400, "cannot change attribute type from string to int"),
        ({"a": {"type": "strong"}}, 400, "strong"),
        ({"a": {"drop": True, "type": "string"}}, 400, "drop"),
        ({"a": {"type": "string", "full_text_search": {"language": "klingon"}}}, 422, "klingon"),
        ({"a": {"type": "string", "full_text_search": {"b": 7}}}, 400, "b"),
    ],
)
def test_a_refused_schema_change_changes_nothing(api, ns, change, status, part):
    api.write(ns, upsert_rows=[{"id": 1, "a": "x"}])
    before = api.ok("GET", f"/v1/namespaces/{ns}/schema")
    answer = api.call("POST", f"/v1/namespaces/{ns}/schema", change)
    # The upstream's own choice between 400 and 422 is only known for some of these.
    assert answer.status in ({status} if status == 422 and "variant" in part else {400, 422}), answer.body
    assert part in answer.error
    assert api.ok("GET", f"/v1/namespaces/{ns}/schema") == before


def test_warm(api, namespace):
    assert api.ok("GET", f"/v1/namespaces/{namespace}/hint_cache_warm", status=202) == {
        "status": "ACCEPTED",
        "message": "cache warm hint accepted",
    }


def test_recall(api, namespace):
    answer = api.ok("POST", f"/v1/namespaces/{namespace}/_debug/recall", {"num": 1, "top_k": 2})
    assert (answer["avg_recall"], answer["avg_exhaustive_count"], answer["avg_ann_count"]) == (1, 2, 2)
    assert api.call("POST", f"/v1/namespaces/{namespace}/_debug/recall", b"").status == 200
    assert api.call("POST", f"/v1/namespaces/{namespace}/_debug/recall", {}).status == 200


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({"num": 0}, 400, "💔 samples must be between 1 and 200"),
        ({"num": 201}, 400, "💔 samples must be between 1 and 200"),
        ({"num": 2, "rank_by": ["vector", "ANN", [1, 1]]}, 400, "💔 rank_by and num cannot be specified together"),
        ({"num": "bad"}, 422, 'num: invalid type: string "bad", expected usize'),
    ],
)
def test_recall_refusals(api, namespace, body, status, part):
    assert part in api.refused(status, "POST", f"/v1/namespaces/{namespace}/_debug/recall", body)


def test_explain_of_a_small_namespace(api, namespace):
    body = {"rank_by": ["vector", "ANN", [1, 1]], "limit": 1}
    message = api.refused(400, "POST", f"/v2/namespaces/{namespace}/explain_query", body)
    assert "index does not exist, cannot explain" in message


def test_delete_frees_the_name(api, ns):
    api.write(ns, upsert_rows=[{"id": 1, "a": "x"}])
    assert api.ok("DELETE", f"/v2/namespaces/{ns}") == {"status": "OK"}
    assert api.refused(404, "DELETE", f"/v2/namespaces/{ns}") == f"🤷 namespace '{ns}' was not found"
    api.write(ns, upsert_rows=[{"id": "now-text", "a": 1}])
    assert api.rows(ns, include_attributes=True) == [{"id": "now-text", "a": 1}]


@pytest.mark.parametrize(
    ("pinning", "replicas"),
    [(True, 1), ({"replicas": 2}, 2), (False, None), (None, None)],
)
def test_pinning(api, namespace, pinning, replicas):
    api.ok("PATCH", f"/v1/namespaces/{namespace}/metadata", {"pinning": True})
    metadata = api.ok("PATCH", f"/v1/namespaces/{namespace}/metadata", {"pinning": pinning})
    assert metadata.get("pinning", {}).get("replicas") == replicas
    assert api.ok("GET", f"/v2/namespaces/{namespace}/metadata").get("pinning", {}).get("replicas") == replicas


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({"pinning": "bad"}, 422, "pinning: data did not match any variant of untagged enum UpdatePinningInput"),
        ({"pinning": {"replicas": 0}}, 400, "💔 replicas must be greater than 0"),
        ({"read_only": "bad"}, 422, "read_only"),
    ],
)
def test_metadata_refusals(api, namespace, body, status, part):
    assert part in api.refused(status, "PATCH", f"/v1/namespaces/{namespace}/metadata", body)


@pytest.fixture
def listed(api, ns):
    names = [f"{ns}-{suffix}" for suffix in ("a", "a-copy", "b", "b.x", "c")]
    for name in names:
        api.write(name, upsert_rows=[{"id": 1}])
    yield f"{ns}-", names
    for name in names:
        api.call("DELETE", f"/v2/namespaces/{name}")


def listing(api, **parameters):
    query = "&".join(f"{key}={value}" for key, value in parameters.items())
    return api.ok("GET", f"/v1/namespaces?{query}")


def test_a_listing_is_sorted_as_the_upstream_sorts(api, listed):
    prefix, names = listed
    page = listing(api, prefix=prefix)
    # Names are compared with `-table/` behind them, so that a name comes after those it is a prefix of when they go
    # on with `-copy`.
    assert [entry["id"] for entry in page["namespaces"]] == sorted(names, key=lambda name: f"{name}-table/")
    assert page["next_cursor"] is None


def test_pages_join_to_the_whole_and_a_full_last_page_has_a_cursor(api, listed):
    prefix, names = listed
    seen, cursor, sizes = [], None, []
    for _ in range(10):
        page = listing(api, prefix=prefix, page_size=5, **({"cursor": cursor} if cursor else {}))
        sizes.append(len(page["namespaces"]))
        seen += [entry["id"] for entry in page["namespaces"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert sizes == [5, 0]
    assert sorted(seen) == sorted(names)


def test_pages_of_two(api, listed):
    prefix, names = listed
    seen, cursor = [], None
    for _ in range(10):
        page = listing(api, prefix=prefix, page_size=2, **({"cursor": cursor} if cursor else {}))
        seen += [entry["id"] for entry in page["namespaces"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == sorted(names, key=lambda name: f"{name}-table/")


@pytest.mark.parametrize("size", [0, 1001])
def test_the_page_size_is_bounded(api, size):
    message = api.refused(400, "GET", f"/v1/namespaces?page_size={size}")
    assert message == f"💔 Page size must be in range 1..=1000, was {size}"


def test_a_page_size_that_is_no_number_is_plain_text(api):
    answer = api.call("GET", "/v1/namespaces?page_size=many")
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_bad_cursor_is_the_upstream_s_500(api):
    assert api.refused(500, "GET", "/v1/namespaces?cursor=!!") == (
        "🐡 Unknown error, if this persists, please contact support!! We'll be happy to help :)"
    )


def test_billing_of_a_query(api, namespace):
    answer = api.query(namespace, rank_by=["id", "asc"], limit=2)
    assert answer["billing"]["billable_logical_bytes_queried"] in (256_000_000, 1_280_000_000)
    assert answer["billing"]["billable_logical_bytes_returned"] == Whole(16)
