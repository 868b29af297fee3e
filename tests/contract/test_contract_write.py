"""Writes: what they change, what they answer, and what is refused without changing anything."""

import base64
import struct

import pytest
from contract_support import Text, Whole

NOT_PARSED = "Failed to deserialize the JSON body into the target type: "


def f32(*values):
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def test_the_answer_of_an_upsert(api, ns):
    answer = api.write(ns, upsert_rows=[{"id": 1}, {"id": 2}])
    assert answer == {
        "status": "OK",
        "message": "documents committed successfully",
        "rows_affected": 2,
        "rows_upserted": 2,
        "billing": {"billable_logical_bytes_written": Whole(1)},
        "performance": {"server_total_ms": Whole()},
    }


def test_kinds_of_operations_are_counted_apart(api, ns):
    api.write(ns, upsert_rows=[{"id": i, "n": i} for i in range(1, 6)])
    answer = api.write(
        ns,
        upsert_rows=[{"id": 9, "n": 9}],
        patch_rows=[{"id": 1, "n": 10}, {"id": 77, "n": 1}],
        deletes=[2, 3],
        return_affected_ids=True,
    )
    assert (answer["rows_affected"], answer["rows_upserted"], answer["rows_patched"], answer["rows_deleted"]) == (
        4,
        1,
        1,
        2,
    )
    assert answer["upserted_ids"] == [9]
    assert answer["patched_ids"] == [1]
    assert sorted(answer["deleted_ids"]) == [2, 3]
    assert "query" in answer["billing"]
    assert api.ids(ns) == [1, 4, 5, 9]


def test_affected_ids_only_of_kinds_that_affected_rows(api, ns):
    api.write(ns, upsert_rows=[{"id": 1}])
    answer = api.write(ns, patch_rows=[{"id": 5, "n": 1}], return_affected_ids=True)
    assert answer["rows_patched"] == 0
    assert not {"patched_ids", "upserted_ids", "deleted_ids"} & answer.keys()


def test_columns_are_rows(api, ns):
    api.write(
        ns,
        upsert_columns={"id": [1, 2, 3], "vector": [[1, 0], f32(0, 1), [0.5, 0.5]], "name": ["a", None, "c"]},
        distance_metric="cosine_distance",
    )
    assert api.rows(ns, include_attributes=True) == [
        {"id": 1, "vector": [1, 0], "name": "a"},
        {"id": 2, "vector": [0, 1]},
        {"id": 3, "vector": [0.5, 0.5], "name": "c"},
    ]
    api.write(ns, patch_columns={"id": [2, 3], "name": ["b", None]})
    assert api.rows(ns, include_attributes=["name"]) == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3}]


def test_an_upsert_replaces_and_a_patch_merges(api, ns):
    api.write(ns, upsert_rows=[{"id": 1, "a": 1, "b": "x"}, {"id": 2, "a": 2, "b": "y"}])
    api.write(ns, upsert_rows=[{"id": 1, "a": 5}], patch_rows=[{"id": 2, "a": 6}])
    assert api.rows(ns, include_attributes=True) == [{"id": 1, "a": 5}, {"id": 2, "a": 6, "b": "y"}]


def test_vectors_as_base64_and_shortest_floats(api, ns):
    api.write(
        ns,
        upsert_rows=[{"id": 1, "vector": f32(0.7, 1.1)}, {"id": 2, "vector": [0.1, 1e-7]}],
        distance_metric="euclidean_squared",
    )
    rows = api.rows(ns, include_attributes=["vector"])
    assert [row["vector"] for row in rows] == [[0.7, 1.1], [0.1, 1e-7]]
    encoded = api.rows(ns, include_attributes=["vector"], vector_encoding="base64")
    assert encoded[0]["vector"] == f32(0.7, 1.1)


def test_half_precision_is_rounded(api, ns):
    api.write(
        ns,
        upsert_rows=[{"id": 1, "vector": [0.1, 1.0]}],
        distance_metric="cosine_distance",
        schema={"vector": {"type": "[2]f16", "ann": True}},
    )
    (row,) = api.rows(ns, include_attributes=["vector"])
    assert row["vector"] != [0.1, 1.0]
    assert row["vector"] == pytest.approx([0.1, 1.0], abs=1e-3)


@pytest.mark.parametrize(
    ("type_", "value", "stored"),
    [
        ("string", "a/b 🙂", "a/b 🙂"),
        ("int", -(2**63), -(2**63)),
        ("uint", 2**64 - 1, 2**64 - 1),
        ("float", 1.5, 1.5),
        ("bool", False, False),
        ("uuid", "A3BB189E-8BF9-3888-9912-ACE4E6543002", "a3bb189e-8bf9-3888-9912-ace4e6543002"),
        ("[]string", ["a", "b"], ["a", "b"]),
        ("[]int", [1, -2], [1, -2]),
        ("[]uint", [1, 2], [1, 2]),
        ("[]float", [0.5, 2.5], [0.5, 2.5]),
        ("[]bool", [True, False], [True, False]),
        ("[]uuid", ["a3bb189e8bf938889912ace4e6543002"], ["a3bb189e-8bf9-3888-9912-ace4e6543002"]),
    ],
)
def test_each_type_comes_back(api, ns, type_, value, stored):
    api.write(ns, upsert_rows=[{"id": 1, "a": value}, {"id": 2, "a": None}], schema={"a": {"type": type_}})
    assert api.rows(ns, include_attributes=True) == [{"id": 1, "a": stored}, {"id": 2}]


def test_datetimes_are_utc(api, ns):
    api.write(
        ns,
        upsert_rows=[{"id": 1, "at": "2024-03-02"}, {"id": 2, "at": "2024-03-02T01:30:00+02:00"}],
        schema={"at": "datetime"},
    )
    rows = api.rows(ns, include_attributes=["at"])
    assert rows[0]["at"].startswith("2024-03-02T00:00:00")
    assert rows[1]["at"].startswith("2024-03-01T23:30:00")
    assert api.ids(ns, filters=["at", "Lt", "2024-03-02T00:00:00Z"]) == [2]


def test_types_are_inferred(api, ns):
    api.write(
        ns,
        upsert_rows=[{"id": "k", "s": "x", "n": 1, "b": True, "ss": ["x"], "nn": [1], "bb": [True], "vector": [1, 2]}],
        distance_metric="cosine_distance",
    )
    schema = api.ok("GET", f"/v1/namespaces/{ns}/schema")
    assert {name: attribute["type"] for name, attribute in schema.items()} == {
        "id": "string",
        "s": "string",
        "n": "int",
        "b": "bool",
        "ss": "[]string",
        "nn": "[]int",
        "bb": "[]bool",
        "vector": "[2]f32",
    }


@pytest.mark.parametrize(
    "form",
    [
        "A3BB189E-8BF9-3888-9912-ACE4E6543002",
        "a3bb189e8bf938889912ace4e6543002",
        "{a3bb189e-8bf9-3888-9912-ace4e6543002}",
        "urn:uuid:a3bb189e-8bf9-3888-9912-ace4e6543002",
    ],
)
def test_uuid_ids_are_canonical(api, ns, form):
    api.write(ns, upsert_rows=[{"id": form}], schema={"id": "uuid"})
    assert api.ids(ns) == ["a3bb189e-8bf9-3888-9912-ace4e6543002"]
    assert api.ids(ns, filters=["id", "Eq", form]) == ["a3bb189e-8bf9-3888-9912-ace4e6543002"]


def test_a_uuid_in_a_string_namespace_stays_text(api, ns):
    api.write(ns, upsert_rows=[{"id": "A3BB189E-8BF9-3888-9912-ACE4E6543002"}])
    assert api.ids(ns) == ["A3BB189E-8BF9-3888-9912-ACE4E6543002"]


def test_ids_of_64_bits_keep_their_value(api, ns):
    api.write(ns, upsert_rows=[{"id": 2**64 - 1}, {"id": 0}])
    assert api.ids(ns) == [0, 2**64 - 1]


def test_by_filter_writes_come_first(api, ns):
    api.write(ns, upsert_rows=[{"id": i, "n": i} for i in range(6)])
    answer = api.write(
        ns,
        delete_by_filter=["n", "Gte", 3],
        patch_by_filter={"filters": ["n", "Lte", 1], "patch": {"n": 100}},
        upsert_rows=[{"id": 5, "n": 50}],
        patch_rows=[{"id": 4, "n": 40}],
    )
    assert api.rows(ns, include_attributes=["n"]) == [
        {"id": 0, "n": 100},
        {"id": 1, "n": 100},
        {"id": 2, "n": 2},
        {"id": 5, "n": 50},
    ]
    assert (answer["rows_deleted"], answer["rows_patched"], answer["rows_upserted"]) == (3, 2, 1)


CONDITIONS = [
    pytest.param(
        {"upsert_condition": ["id", "Eq", None], "upsert_rows": [{"id": 1, "v": 9}, {"id": 3, "v": 9}]},
        [{"id": 1, "v": 5}, {"id": 2}, {"id": 3, "v": 9}],
        1,
        id="insert-if-absent",
    ),
    pytest.param(
        {
            "upsert_condition": ["Or", [["v", "Lt", {"$ref_new": "v"}], ["v", "Eq", None]]],
            "upsert_rows": [{"id": 1, "v": 4}, {"id": 2, "v": 4}],
        },
        [{"id": 1, "v": 5}, {"id": 2, "v": 4}],
        1,
        id="newer-wins-refuses-the-older",
    ),
    pytest.param(
        {"patch_condition": ["v", "Eq", 5], "patch_rows": [{"id": 1, "v": 6}, {"id": 2, "v": 6}, {"id": 8, "v": 6}]},
        [{"id": 1, "v": 6}, {"id": 2}],
        1,
        id="patch",
    ),
    pytest.param(
        {"delete_condition": ["v", "NotEq", None], "deletes": [1, 2, 8]},
        [{"id": 2}],
        1,
        id="delete",
    ),
]


@pytest.mark.parametrize(("body", "rows", "affected"), CONDITIONS)
def test_conditions_look_at_the_stored_row(api, ns, body, rows, affected):
    api.write(ns, upsert_rows=[{"id": 1, "v": 5}, {"id": 2}])
    answer = api.write(ns, **body)
    assert answer["rows_affected"] == affected
    assert api.rows(ns, include_attributes=["v"]) == rows


def test_deleting_everything_leaves_the_namespace(api, ns):
    api.write(ns, upsert_rows=[{"id": 1}])
    api.write(ns, deletes=[1])
    assert api.ids(ns) == []


@pytest.mark.parametrize("source", [lambda name: name, lambda name: {"source_namespace": name}])
@pytest.mark.parametrize("key", ["copy_from_namespace", "branch_from_namespace"])
def test_copies_are_independent(api, ns, key, source):
    rows = [{"id": 1, "vector": [1, 2], "t": "a b"}, {"id": 2, "vector": [2, 1], "t": "b c"}]
    api.write(
        ns,
        upsert_rows=rows,
        distance_metric="euclidean_squared",
        schema={"t": {"type": "string", "full_text_search": True}},
    )
    copied = f"{ns}-copied"
    answer = api.write(copied, **{key: source(ns)})
    assert answer["status"] == "OK"
    if key == "copy_from_namespace":
        assert answer["message"] == "namespace cloned successfully"
    try:
        assert api.rows(copied, include_attributes=True) == rows
        assert api.ids(copied, rank_by=["t", "BM25", "c"]) == [2]
        assert api.ok("GET", f"/v1/namespaces/{copied}/schema") == api.ok("GET", f"/v1/namespaces/{ns}/schema")
        api.write(copied, deletes=[1])
        api.write(ns, deletes=[2])
        assert (api.ids(copied), api.ids(ns)) == ([2], [1])
        assert api.refused(400, "POST", f"/v2/namespaces/{copied}", {key: ns})
    finally:
        api.call("DELETE", f"/v2/namespaces/{copied}")


def test_an_async_copy_is_polled_by_its_token(api, ns):
    api.write(ns, upsert_rows=[{"id": 1}])
    copied = f"{ns}-copied"
    body = {"copy_from_namespace": {"source_namespace": ns}}
    started = api.call("POST", f"/v2/namespaces/{copied}/async?stainless_overload=startCopyFrom", body)
    assert started.status == 200
    assert "preference-applied" not in started.headers
    token = started.json()["token"]
    for _ in range(100):
        operation = api.ok("GET", f"/v1/namespaces/{copied}/operations/{token}?stainless_overload=pollCopyFrom")
        if operation["status"] == "finished":
            break
    assert operation["result"]["success"]["message"] == "namespace cloned successfully"
    assert operation["start_time"] == Text()
    assert operation["finish_time"] == Text()
    assert api.ids(copied) == [1]
    api.call("DELETE", f"/v2/namespaces/{copied}")


def test_create_namespace(api, ns):
    path = f"/v2/namespaces/{ns}"
    assert "not found" in api.refused(404, "POST", path, {"upsert_rows": [{"id": 1}], "create_namespace": False})
    api.ok("POST", path, {"create_namespace": True, "schema": {"id": "uint"}})
    assert api.ids(ns) == []


def test_a_schema_alone_needs_a_namespace_and_merges(api, ns):
    api.write(ns, upsert_rows=[{"id": 1, "a": "x"}])
    api.write(ns, schema={"b": "int"})
    assert set(api.ok("GET", f"/v1/namespaces/{ns}/schema")) == {"id", "a", "b"}


REFUSED = [
    # (first write or None, refused write, status, parts of the message)
    pytest.param(
        None,
        {"upsert_rows": [{"id": 1}, {"id": 2}, {"id": 1}]},
        400,
        [
            "💔 This upsert contains duplicate document IDs and was not written. You should ensure that individual "
            "upserts do not include duplicate documents. The duplicated IDs in this batch were the following: ",
            "1",
        ],
        id="duplicate-ids",
    ),
    pytest.param(
        {"upsert_rows": [{"id": 1}]},
        {"upsert_rows": [{"id": "a"}]},
        400,
        [
            "💔 namespace ID type is uint, but you sent string; "
            "you are not allowed to mix ID types in the same namespace"
        ],
        id="mixed-ids",
    ),
    pytest.param(
        None,
        {"upsert_rows": [{"id": "x"}], "schema": {"id": "uuid"}},
        400,
        ["💔 namespace ID type is uuid, but a written ID could not be parsed as uuid"],
        id="bad-uuid",
    ),
    pytest.param(
        None,
        {"upsert_rows": [{"id": 1}], "schema": {"id": "int"}},
        400,
        ["💔 int is not a valid ID type"],
        id="id-type",
    ),
    pytest.param(
        None,
        {"upsert_rows": [{"id": 1, "vector": [1, 2]}]},
        400,
        ["💔 distance_metric must be specified for write to namespace with a vector"],
        id="no-metric",
    ),
    pytest.param(
        {"upsert_rows": [{"id": 1, "vector": [1, 2]}], "distance_metric": "cosine_distance"},
        {"upsert_rows": [{"id": 2, "vector": [1, 2]}], "distance_metric": "euclidean_squared"},
        400,
        ["💔 distance metric mismatch, expected cosine_distance, got euclidean_squared"],
        id="metric-mismatch",
    ),
    pytest.param(
        {"upsert_rows": [{"id": 1}]},
        {"upsert_rows": [{"id": 2, "vector": [1, 2]}], "distance_metric": "cosine_distance"},
        400,
        ["💔 Vector provided for namespace without vector attribute"],
        id="late-vector",
    ),
    pytest.param(
        {"upsert_rows": [{"id": 1, "vector": [1, 2]}], "distance_metric": "cosine_distance"},
        {"patch_rows": [{"id": 1, "vector": None}]},
        400,
        ["💔 patching vectors is currently unsupported"],
        id="patched-vector",
    ),
    pytest.param(
        {"upsert_rows": [{"id": 1, "title": "a"}]},
        {"upsert_rows": [{"id": 2}], "schema": {"title": "int"}},
        400,
        ["🙅 invalid schema update for attribute 'title': cannot change attribute type from string to int"],
        id="type-change",
    ),
    pytest.param(
        {"upsert_rows": [{"id": 1}]},
        {"copy_from_namespace": "x", "upsert_rows": [{"id": 2}]},
        400,
        ["💔 copy_from_namespace cannot be used with other write request fields"],
        id="copy-and-rows",
    ),
    pytest.param(
        None,
        {
            "upsert_rows": [{"id": 1, "e": [1, 2]}],
            "distance_metric": "cosine_distance",
            "schema": {"e": {"type": "[2]f32"}},
        },
        400,
        ["ann"],
        id="vector-without-ann",
    ),
    pytest.param(
        None,
        {"upsert_rows": [{"id": 1}], "encryption": {"mode": "customer-managed", "key_name": "mykey"}},
        400,
        ["Malformed Cloud KMS crypto key: mykey"],
        id="cmek",
    ),
    pytest.param(None, {"upsert_rows": {}}, 422, [NOT_PARSED, "invalid type: map, expected a sequence"], id="rows-map"),
    pytest.param(
        None, {"upsert_rows": [{"a": 1}]}, 422, [NOT_PARSED, "upsert_rows[0]: missing field `id`"], id="no-id"
    ),
    pytest.param(
        None,
        {"upsert_rows": [{"id": -1}]},
        422,
        [NOT_PARSED, "upsert_rows[0].id: data did not match any variant of untagged enum Id"],
        id="negative-id",
    ),
    pytest.param(
        None,
        {"patch_rows": [{"id": 1.5}]},
        422,
        [NOT_PARSED, "patch_rows[0].id: data did not match any variant of untagged enum Id"],
        id="fraction-id",
    ),
    pytest.param(None, {"deletes": ["a", True]}, 422, [NOT_PARSED, "deletes: ", "IdVec"], id="deletes"),
    pytest.param(None, {"upsert_columns": {"id": 5}}, 422, [NOT_PARSED, "upsert_columns.id: ", "IdVec"], id="columns"),
    pytest.param(
        None,
        {"upsert_rows": [{"id": 1}], "distance_metric": "bad"},
        422,
        [NOT_PARSED, "distance_metric: unknown variant `bad`, expected one of "],
        id="unknown-metric",
    ),
    pytest.param(None, {"upsert_rows": [{"id": "x" * 65}]}, 400, ["64"], id="long-id"),
    pytest.param(None, {"upsert_rows": [{"id": 1, "$a": 1}]}, 400, ["$a"], id="dollar-name"),
    pytest.param(None, {"upsert_rows": [{"id": 1, "a" * 129: 1}]}, 400, ["128"], id="long-name"),
    pytest.param(None, {"upsert_columns": {"id": [1, 2], "a": [1]}}, 400, ["a"], id="uneven-columns"),
    pytest.param(
        {"upsert_rows": [{"id": 1, "n": 1}]}, {"upsert_rows": [{"id": 2, "n": "x"}]}, 400, ["n"], id="conflicting-value"
    ),
]


@pytest.mark.parametrize(("first", "body", "status", "parts"), REFUSED)
def test_a_refused_write_changes_nothing(api, ns, first, body, status, parts):
    before = None
    if first is not None:
        api.write(ns, **first)
        before = api.rows(ns, include_attributes=True)
    message = api.refused(status, "POST", f"/v2/namespaces/{ns}", body)
    for part in parts:
        assert part in message
    if status == 422:
        assert " at line 1 column " in message
    if before is None:
        assert api.call("GET", f"/v1/namespaces/{ns}/schema").status == 404
    else:
        assert api.rows(ns, include_attributes=True) == before


def test_a_schema_refusal_names_its_attribute(api, ns):
    api.write(ns, upsert_rows=[{"id": 1, "title": "a"}])
    answer = api.call("POST", f"/v2/namespaces/{ns}", {"schema": {"title": "int"}})
    assert answer.json()["attribute"] == "title"


def test_a_read_only_namespace_refuses_writes(api, ns):
    api.write(ns, upsert_rows=[{"id": 1}])
    api.ok("PATCH", f"/v1/namespaces/{ns}/metadata", {"read_only": True})
    answer = api.call("POST", f"/v2/namespaces/{ns}", {"upsert_rows": [{"id": 2}]})
    assert 400 <= answer.status < 500
    assert "read-only" in answer.error
    assert api.ids(ns) == [1]
    api.ok("PATCH", f"/v1/namespaces/{ns}/metadata", {"read_only": False})
    api.write(ns, upsert_rows=[{"id": 2}])
    assert api.ids(ns) == [1, 2]
