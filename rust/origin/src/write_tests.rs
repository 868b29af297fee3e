//! What writes mean, rule by rule, through the routes.

// Bodies read best where they are used.
#![allow(clippy::needless_pass_by_value)]

use crate::engine::{Engine, Options};
use crate::testing::TempDir;
use crate::write::WriteLimits;
use serde_json::{json, Value as Json};

struct Fixture {
    engine: Engine,
    _dir: TempDir,
}

fn fixture() -> Fixture {
    let dir = TempDir::new("write");
    let limits = WriteLimits { delete_by_filter_rows_max: 3, patch_by_filter_rows_max: 2 };
    let options = Options { background: false, limits, ..Options::default() };
    let (engine, _) = Engine::open(dir.path(), options).expect("opens");
    Fixture { engine, _dir: dir }
}

impl Fixture {
    fn call(&self, path: &str, body: &Json) -> (u16, Json) {
        let reply = self.engine.handle("POST", path, "", body.to_string().as_bytes());
        (reply.status, serde_json::from_slice(&reply.body).expect("JSON"))
    }

    fn write(&self, body: Json) -> Json {
        let (status, answer) = self.call("/v2/namespaces/a", &body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn refused(&self, body: Json) -> String {
        let (status, answer) = self.call("/v2/namespaces/a", &body);
        assert_eq!(status, 400, "{answer}");
        answer["error"].as_str().expect("a message").to_owned()
    }

    fn rows(&self) -> Json {
        let query = json!({"rank_by": ["id", "asc"], "limit": 1000, "include_attributes": true});
        let (status, answer) = self.call("/v2/namespaces/a/query", &query);
        assert_eq!(status, 200, "{answer}");
        answer["rows"].clone()
    }

    fn types(&self) -> Json {
        let reply = self.engine.handle("GET", "/v1/namespaces/a/schema", "", b"");
        let schema: Json = serde_json::from_slice(&reply.body).expect("JSON");
        let attributes = schema.as_object().expect("a map").iter();
        attributes.map(|(name, attribute)| (name.clone(), attribute["type"].clone())).collect()
    }
}

#[test]
fn types_are_inferred_from_values() {
    let fixture = fixture();
    fixture.write(json!({"upsert_rows": [
        {"id": 1, "nothing": null, "empty": [], "s": "x", "i": -1, "u": u64::MAX, "f": 0.5, "b": false, "ss": ["x"],
         "ii": [1], "ff": [0.5, 1], "bb": [true]},
        {"id": 2, "empty": ["later"]},
    ]}));
    assert_eq!(
        fixture.types(),
        json!({"id": "uint", "s": "string", "i": "int", "u": "uint", "f": "float", "b": "bool", "ss": "[]string",
            "ii": "[]int", "ff": "[]float", "bb": "[]bool", "empty": "[]string"})
    );
    assert_eq!(
        fixture.rows(),
        json!([
            {"id": 1, "s": "x", "i": -1, "u": u64::MAX, "f": 0.5, "b": false, "ss": ["x"], "ii": [1], "ff": [0.5, 1.0],
             "bb": [true]},
            {"id": 2, "empty": ["later"]},
        ])
    );
    for (name, value) in [("n", json!([[1]])), ("n", json!({"a": 1})), ("n", json!([null]))] {
        let message = fixture.refused(json!({"upsert_rows": [{"id": 3, name: value}]}));
        assert!(message.starts_with("💔 cannot infer a type for attribute 'n'"), "{message}");
    }
    let message = fixture.refused(json!({"upsert_rows": [{"id": 3, "i": "x"}]}));
    assert_eq!(message, "💔 type mismatch for attribute 'i': expected int, but got 'x'");
    let message = fixture.refused(json!({"patch_rows": [{"id": 1, "ss": ["x", 1]}]}));
    assert_eq!(message, "💔 type mismatch for attribute 'ss': expected []string, but got '[x, 1]'");
}

#[test]
fn every_row_has_every_vector_in_the_right_size() {
    let fixture = fixture();
    let metric = "euclidean_squared";
    let schema = json!({"e": {"type": "[1]i8", "ann": true}});
    fixture.write(json!({"upsert_columns": {"id": [1, 2], "vector": "AACAPwAAAEAAAEBAAACAQA==", "e": [[7.4], [200]]},
        "distance_metric": metric, "schema": schema}));
    assert_eq!(
        fixture.rows(),
        json!([{"id": 1, "vector": [1.0, 2.0], "e": [7.0]}, {"id": 2, "vector": [3.0, 4.0], "e": [127.0]}])
    );
    for (row, message) in [
        (json!({"id": 3, "e": [1]}), "💔 document '3' has no value for vector attribute 'vector'"),
        (json!({"id": 3, "vector": null, "e": [1]}), "💔 document '3' has no value for vector attribute 'vector'"),
        (json!({"id": 3, "vector": [1], "e": [1]}), "💔 vector attribute 'vector' has 2 dimensions, but got 1"),
        (json!({"id": 3, "vector": "x", "e": [1]}), "💔 vector attribute 'vector' is not base64 of little-endian f32"),
        (json!({"id": 3, "vector": [1, 1e39], "e": [1]}), "💔 vector attribute 'vector' must hold finite numbers only"),
        (
            json!({"id": 3, "vector": {"0": 1}, "e": [1]}),
            "💔 vector attribute 'vector' must be an array of numbers or base64 of little-endian f32",
        ),
    ] {
        assert_eq!(fixture.refused(json!({"upsert_rows": [{"id": 9, "vector": [1, 1], "e": [1]}, row]})), message);
    }
    let columns = json!({"id": [3, 4], "vector": [null, [1, 1]], "e": [[1], [1]]});
    assert_eq!(
        fixture.refused(json!({"upsert_columns": columns})),
        "💔 document '3' has no value for vector attribute 'vector'"
    );
    assert_eq!(fixture.rows().as_array().map(Vec::len), Some(2));
}

#[test]
fn limits_are_named() {
    let fixture = fixture();
    let schema = json!({"long": {"type": "string", "filterable": false}, "words": "[]string",
        "sparse": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}}});
    let wide: serde_json::Map<String, Json> = (0..1025).map(|dim| (dim.to_string(), json!(1))).collect();
    for (row, part) in [
        (json!({"id": "x".repeat(65)}), "is too long: 65 bytes, the limit is 64 bytes"),
        (
            json!({"id": "a", "s": "x".repeat(4097)}),
            "filterable value of attribute 's' is too large: 4097 bytes, the limit is 4096",
        ),
        (
            json!({"id": "a", "words": ["x".repeat(4097)]}),
            "filterable value of attribute 'words' is too large: 4097 bytes",
        ),
        (json!({"id": "a", "long": "x".repeat((8 << 20) + 1)}), "value of attribute 'long' is too large"),
        (json!({"id": "a", "sparse": wide}), "has 1025 non-zero weights, the limit is 1024"),
        (json!({"id": "a", "$x": 1}), "must not start with '$'"),
        (json!({"id": "a", "vector": vec![1; 10_753]}), "10753 dimensions, the limit is 10752"),
    ] {
        let message =
            fixture.refused(json!({"upsert_rows": [row], "schema": schema, "distance_metric": "cosine_distance"}));
        assert!(message.contains(part), "{message}");
    }
    let words: Vec<String> = (0..10).map(|_| "x".repeat(4096)).collect();
    fixture.write(
        json!({"upsert_rows": [{"id": "x".repeat(64), "words": words, "long": "x".repeat(5000)}], "schema": schema}),
    );
}

#[test]
fn by_filter_operations_stop_at_their_limit() {
    let fixture = fixture();
    let rows: Vec<Json> = (0..10).map(|id| json!({"id": id, "n": id})).collect();
    fixture.write(json!({"upsert_rows": rows}));
    let message = fixture.refused(json!({"delete_by_filter": ["n", "Gte", 0], "upsert_rows": [{"id": 99, "n": 99}]}));
    assert!(message.contains("delete_by_filter matched 10 rows, the limit is 3"), "{message}");
    assert_eq!(fixture.rows().as_array().map(Vec::len), Some(10));
    let answer = fixture.write(json!({"delete_by_filter": ["n", "Gte", 0], "delete_by_filter_allow_partial": true,
        "return_affected_ids": true}));
    assert_eq!((&answer["rows_deleted"], &answer["rows_remaining"]), (&json!(3), &json!(true)));
    assert_eq!(answer["deleted_ids"], json!([0, 1, 2]));
    let patch = json!({"filters": ["n", "Gte", 8], "patch": {"n": 80, "new": "x"}});
    let answer = fixture.write(json!({"patch_by_filter": patch, "return_affected_ids": true}));
    assert_eq!((&answer["rows_patched"], &answer["rows_remaining"]), (&json!(2), &json!(false)));
    assert_eq!(fixture.rows()[6], json!({"id": 9, "n": 80, "new": "x"}));
    let message = fixture.refused(json!({"patch_by_filter": {"filters": ["n", "Gte", 0], "patch": {"n": 1}}}));
    assert!(message.contains("patch_by_filter matched 7 rows, the limit is 2"), "{message}");
}

#[test]
fn conditions_see_what_the_filters_of_the_request_did() {
    let fixture = fixture();
    fixture.write(json!({"upsert_rows": [{"id": 1, "n": 1}, {"id": 2, "n": 2}]}));
    let answer = fixture.write(json!({
        "delete_by_filter": ["n", "Eq", 1],
        "patch_by_filter": {"filters": ["n", "Eq", 2], "patch": {"n": 20}},
        "upsert_rows": [{"id": 1, "n": 100}],
        "upsert_condition": ["id", "Eq", null],
        "patch_rows": [{"id": 2, "m": 5}],
        "patch_condition": ["n", "Eq", 20],
    }));
    assert_eq!(answer["rows_affected"], json!(4));
    assert_eq!(fixture.rows(), json!([{"id": 1, "n": 100}, {"id": 2, "n": 20, "m": 5}]));
}

#[test]
fn conditions_compare_with_the_new_row() {
    let fixture = fixture();
    fixture.write(json!({"upsert_rows": [{"id": 1, "vector": [1, 2], "at": 5}, {"id": 2, "vector": [3, 4], "at": 5},
        {"id": 3, "vector": [5, 6]}], "distance_metric": "cosine_distance"}));
    let newer = json!(["Or", [["at", "Lt", {"$ref_new": "at"}], ["at", "Eq", null]]]);
    let answer = fixture.write(
        json!({"upsert_rows": [{"id": 1, "vector": [9, 9], "at": 4}, {"id": 2, "vector": [8, 8], "at": 6},
        {"id": 3, "vector": [7, 7], "at": 1}, {"id": 4, "vector": [6, 6], "at": 0}], "upsert_condition": newer,
        "return_affected_ids": true}),
    );
    assert_eq!(answer["upserted_ids"], json!([2, 3, 4]));
    assert_eq!(fixture.rows()[1]["vector"], json!([8.0, 8.0]));
    assert_eq!(fixture.rows()[3]["vector"], json!([6.0, 6.0]));
    let changed = json!(["vector", "NotEq", {"$ref_new": "vector"}]);
    let answer = fixture.write(json!({"upsert_rows": [{"id": 1, "vector": [1, 2]}, {"id": 2, "vector": [1, 1]}],
        "upsert_condition": changed, "return_affected_ids": true}));
    assert_eq!(answer["upserted_ids"], json!([2]));
    let answer =
        fixture.write(json!({"deletes": [1, 3, 77], "delete_condition": ["at", "Gt", 3], "return_affected_ids": true}));
    assert_eq!(answer["deleted_ids"], json!([1]));
}

#[test]
fn duplicates_are_found_across_kinds_and_uuid_forms() {
    let fixture = fixture();
    let prefix =
        "💔 This upsert contains duplicate document IDs and was not written. You should ensure that individual \
                  upserts do not include duplicate documents. The duplicated IDs in this batch were the following: ";
    let rows = json!([{"id": 1}, {"id": 2}, {"id": 3}]);
    assert_eq!(
        fixture.refused(json!({"upsert_rows": rows, "patch_rows": [{"id": 3, "a": 1}], "deletes": [2, 4]})),
        format!("{prefix}2, 3")
    );
    let forms = json!([{"id": "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"}, {"id": "6ba7b8109dad11d180b400c04fd430c8"}]);
    assert_eq!(
        fixture.refused(json!({"upsert_rows": forms, "schema": {"id": {"type": "uuid"}}})),
        format!("{prefix}6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    );
}

#[test]
fn deletes_without_a_condition_do_not_look() {
    let fixture = fixture();
    fixture.write(json!({"upsert_rows": [{"id": 1}]}));
    let answer = fixture.write(json!({"deletes": [1, 2]}));
    assert_eq!(answer["rows_deleted"], json!(2));
    assert!(answer["billing"].get("query").is_none());
    let answer = fixture.write(json!({"patch_rows": [{"id": 1, "a": 1}]}));
    assert_eq!((&answer["rows_affected"], &answer["rows_patched"]), (&json!(0), &json!(0)));
    assert!(answer["billing"].get("query").is_some());
}

#[test]
fn columns_are_even_and_may_be_null() {
    let fixture = fixture();
    let message = fixture.refused(json!({"upsert_columns": {"id": [1, 2], "a": [1]}}));
    assert_eq!(message, "💔 column 'a' has 1 values, but `id` has 2");
    fixture.write(json!({"upsert_columns": {"id": [1, 2], "a": [null, 5], "b": [null, null]}}));
    assert_eq!(fixture.rows(), json!([{"id": 1}, {"id": 2, "a": 5}]));
    fixture.write(json!({"patch_columns": {"id": [1, 2, 3], "a": [1, null, 2]}}));
    assert_eq!(fixture.rows(), json!([{"id": 1, "a": 1}, {"id": 2}]));
    assert_eq!(
        fixture.refused(json!({"patch_columns": {"id": [1], "vector": [null]}})),
        "💔 patching vectors is currently unsupported"
    );
}

#[test]
fn an_attribute_can_be_dropped_and_come_back_as_another_type() {
    let fixture = fixture();
    fixture.write(json!({"upsert_rows": [{"id": 1, "a": "x", "b": 1}]}));
    fixture.write(json!({"schema": {"a": {"drop": true}}, "upsert_rows": [{"id": 2, "a": 5}]}));
    assert_eq!(fixture.rows(), json!([{"id": 1, "b": 1}, {"id": 2, "a": 5}]));
    assert_eq!(fixture.types(), json!({"id": "uint", "b": "int", "a": "int"}));
}

#[test]
fn full_text_switched_on_later_finds_what_is_there() {
    let fixture = fixture();
    fixture.write(json!({"upsert_rows": [{"id": 1, "t": "red fox"}, {"id": 2, "t": "blue dog"}]}));
    fixture.write(json!({"schema": {"t": {"type": "string", "full_text_search": true}}, "upsert_rows": [{"id": 3, "t": "a fox"}]}));
    let query = json!({"rank_by": ["t", "BM25", "fox"], "limit": 9});
    let (_, answer) = fixture.call("/v2/namespaces/a/query", &query);
    assert_eq!(answer["rows"].as_array().map(Vec::len), Some(2));
}
