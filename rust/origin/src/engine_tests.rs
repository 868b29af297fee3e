// Bodies read best where they are used.
#![allow(clippy::needless_pass_by_value)]

use crate::engine::{Engine, Options, Recovery};
use crate::reply::Reply;
use crate::store::Manifest;
use crate::testing::TempDir;
use crate::view::QueryOptions;
use crate::wal::{list_segments, segment_path};
use serde_json::{json, Value as Json};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;

struct Fixture {
    engine: Engine,
    recovery: Recovery,
    dir: TempDir,
    clock: Arc<AtomicI64>,
}

const START_MS: i64 = 1_700_000_000_000;

fn options(clock: &Arc<AtomicI64>) -> Options {
    let clock = Arc::clone(clock);
    Options { background: false, clock: Arc::new(move || clock.load(Ordering::Relaxed)), ..Options::default() }
}

fn fixture() -> Fixture {
    let (dir, clock) = (TempDir::new("engine"), Arc::new(AtomicI64::new(START_MS)));
    let (engine, recovery) = Engine::open(dir.path(), options(&clock)).expect("opens");
    Fixture { engine, recovery, dir, clock }
}

fn json_of(reply: &Reply) -> Json {
    serde_json::from_slice(&reply.body).expect("JSON")
}

impl Fixture {
    fn call(&self, method: &str, path: &str, body: &Json) -> (u16, Json) {
        let reply = self.engine.handle(method, path, "", body.to_string().as_bytes());
        (reply.status, json_of(&reply))
    }

    fn write(&self, name: &str, body: Json) -> Json {
        let (status, answer) = self.call("POST", &format!("/v2/namespaces/{name}"), &body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn refused(&self, name: &str, body: Json) -> (u16, String) {
        let (status, answer) = self.call("POST", &format!("/v2/namespaces/{name}"), &body);
        assert_ne!(status, 200, "{answer}");
        (status, answer["error"].as_str().expect("a message").to_owned())
    }

    fn rows_at(&self, name: &str, consistency: &str) -> Json {
        let body = json!({"rank_by": ["id", "asc"], "limit": 10000, "include_attributes": true,
            "consistency": {"level": consistency}});
        let (status, answer) = self.call("POST", &format!("/v2/namespaces/{name}/query"), &body);
        assert_eq!(status, 200, "{answer}");
        answer["rows"].clone()
    }

    fn rows(&self, name: &str) -> Json {
        self.rows_at(name, "strong")
    }

    fn metadata(&self, name: &str) -> Json {
        let (status, answer) = self.call("GET", &format!("/v2/namespaces/{name}/metadata"), &json!({}));
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn names(&self) -> Vec<String> {
        let reply = self.engine.handle("GET", "/v1/namespaces", "page_size=1000", b"");
        let listed = json_of(&reply)["namespaces"].clone();
        listed.as_array().expect("a list").iter().map(|entry| entry["id"].as_str().expect("id").to_owned()).collect()
    }

    fn pass(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    /// Closes and opens again.
    fn reopened(self) -> Self {
        let Self { engine, dir, clock, .. } = self;
        drop(engine);
        let (engine, recovery) = Engine::open(dir.path(), options(&clock)).expect("opens again");
        Self { engine, recovery, dir, clock }
    }

    fn namespace_slots(&self, name: &str) -> (usize, usize) {
        let namespace = self.engine.inner.lookup(name).expect("there");
        let state = namespace.state.read();
        (state.table.slots.len(), state.table.living_rows)
    }
}

fn fill(fixture: &Fixture) -> Json {
    fixture.write(
        "a",
        json!({
            "upsert_rows": [
                {"id": 1, "vector": [0.5, 1.5], "title": "red fox", "at": "2024-03-02", "tags": ["x", "y"],
                 "u": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "f": 1.5, "b": true, "s": {"3": 0.5}},
                {"id": 2, "vector": [2, 3], "title": "dog"},
                {"id": 3, "vector": [4, 5]},
            ],
            "distance_metric": "cosine_distance",
            "schema": {
                "title": {"type": "string", "full_text_search": true, "filterable": true},
                "at": "datetime", "u": "uuid",
                "s": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}},
            },
        }),
    );
    fixture.write("a", json!({"patch_rows": [{"id": 2, "n": 7}], "deletes": [3]}));
    fixture.rows("a")
}

#[test]
fn everything_is_there_after_a_restart_from_the_log_and_from_a_snapshot() {
    let fixture = fixture();
    assert_eq!(fixture.recovery, Recovery::default());
    let rows = fill(&fixture);
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    let metadata = fixture.metadata("a");
    fixture.pass(1000);
    let fixture = fixture.reopened();
    let expected = Recovery { namespaces: 1, rows: 2, records_replayed: 2, torn_bytes: 0 };
    assert_eq!(fixture.recovery, expected);
    assert_eq!((fixture.rows("a"), fixture.metadata("a")), (rows.clone(), metadata.clone()));
    fixture.engine.checkpoint().expect("written");
    let fixture = fixture.reopened();
    assert_eq!(fixture.recovery, Recovery { records_replayed: 0, ..expected });
    assert_eq!((fixture.rows("a"), fixture.metadata("a")), (rows, metadata));
    let query = json!({"rank_by": ["title", "BM25", "fox"], "limit": 5});
    let (_, found) = fixture.call("POST", "/v2/namespaces/a/query", &query);
    assert_eq!(found["rows"][0]["id"], json!(1));
    fixture.write("a", json!({"upsert_rows": [{"id": 9, "vector": [1, 1]}]}));
    let fixture = fixture.reopened();
    assert_eq!(fixture.recovery.records_replayed, 1);
    assert_eq!(fixture.rows("a").as_array().map(Vec::len), Some(3));
}

#[test]
fn a_torn_tail_is_reported_and_nothing_else_is_lost() {
    let fixture = fixture();
    let rows = fill(&fixture);
    let segment = *list_segments(fixture.dir.path()).expect("listed").last().expect("one");
    let path = segment_path(fixture.dir.path(), segment);
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes.extend_from_slice(&[17, 0, 0, 0, 1, 2, 3, 4, 5]);
    std::fs::write(&path, bytes).expect("written");
    let fixture = fixture.reopened();
    assert_eq!((fixture.recovery.torn_bytes, fixture.recovery.rows), (9, 2));
    assert_eq!(fixture.rows("a"), rows);
    let fixture = fixture.reopened();
    assert_eq!(fixture.recovery.torn_bytes, 0);
}

#[test]
fn damage_before_the_end_is_refused() {
    let fixture = fixture();
    fill(&fixture);
    fixture.engine.inner.log.rotate().expect("rotates");
    let path = segment_path(fixture.dir.path(), 1);
    let Fixture { engine, dir, clock, .. } = fixture;
    drop(engine);
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let error = Engine::open(dir.path(), options(&clock)).err().expect("refused");
    assert!(error.to_string().contains("damaged before the end of the log"), "{error}");
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let fixture = fixture();
    fill(&fixture);
    fixture.engine.checkpoint().expect("written");
    let Fixture { engine, dir, clock, .. } = fixture;
    drop(engine);
    let snapshot =
        |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("snapshot-").then(|| entry.path());
    let path =
        std::fs::read_dir(dir.path()).expect("listed").find_map(|entry| snapshot(entry.expect("entry"))).expect("one");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes.truncate(bytes.len() - 3);
    std::fs::write(&path, bytes).expect("written");
    let error = Engine::open(dir.path(), options(&clock)).err().expect("refused");
    assert!(error.to_string().contains("not whole"), "{error}");
}

#[test]
fn one_process_at_a_time() {
    let fixture = fixture();
    let error = Engine::open(fixture.dir.path(), options(&fixture.clock)).err().expect("refused");
    assert!(error.to_string().contains("another process has the data directory open"), "{error}");
}

fn snapshot_files(dir: &Path) -> usize {
    let is_snapshot = |name: std::ffi::OsString| name.to_string_lossy().starts_with("snapshot-");
    std::fs::read_dir(dir)
        .expect("listed")
        .filter(|entry| is_snapshot(entry.as_ref().expect("entry").file_name()))
        .count()
}

#[test]
fn checkpoints_bound_the_disk() {
    let fixture = fixture();
    for round in 0..5 {
        for n in 0..20 {
            fixture.write("a", json!({"upsert_rows": [{"id": 1, "n": n, "round": round}]}));
        }
        fixture.write(&format!("once-{round}"), json!({"upsert_rows": [{"id": 1}]}));
        fixture.engine.checkpoint().expect("written");
        assert_eq!(list_segments(fixture.dir.path()).expect("listed").len(), 1);
        assert_eq!(snapshot_files(fixture.dir.path()), 2 + round);
    }
    assert_eq!(fixture.engine.inner.log.bytes(), 16);
    let fixture = fixture.reopened();
    assert_eq!((fixture.recovery.namespaces, fixture.recovery.rows), (6, 6));
    assert_eq!(fixture.rows("a"), json!([{"id": 1, "n": 19, "round": 4}]));
}

#[test]
fn deletion_is_durable_and_frees_the_name_at_once() {
    for checkpoint in [false, true] {
        let fixture = fixture();
        fill(&fixture);
        if checkpoint {
            fixture.engine.checkpoint().expect("written");
        }
        assert_eq!(fixture.call("DELETE", "/v2/namespaces/a", &json!({})), (200, json!({"status": "OK"})));
        let (status, answer) = fixture.call("DELETE", "/v2/namespaces/a", &json!({}));
        assert_eq!((status, answer["error"].as_str()), (404, Some("🤷 namespace 'a' was not found")));
        let fixture = fixture.reopened();
        assert_eq!(fixture.names(), Vec::<String>::new());
        fixture.write("a", json!({"upsert_rows": [{"id": "text", "vector": 5}]}));
        let fixture = fixture.reopened();
        assert_eq!(fixture.rows("a"), json!([{"id": "text", "vector": 5}]));
        fixture.engine.checkpoint().expect("written");
        assert_eq!(snapshot_files(fixture.dir.path()), 1);
        let fixture = fixture.reopened();
        assert_eq!(fixture.rows("a"), json!([{"id": "text", "vector": 5}]));
    }
}

#[test]
fn the_index_lags_as_told() {
    let fixture = fixture();
    fixture.write("a", json!({"upsert_rows": [{"id": 1, "v": 1}, {"id": 2, "v": 1}]}));
    assert_eq!(fixture.metadata("a")["index"], json!({"status": "up-to-date"}));
    fixture.pass(1);
    fixture.engine.compact();
    fixture.engine.set_index_lag(None, 1000);
    fixture.write("a", json!({"upsert_rows": [{"id": 1, "v": 2}, {"id": 3, "v": 2}], "deletes": [2]}));
    assert_eq!(
        fixture.metadata("a")["index"],
        json!({"status": "updating", "unindexed_rows": 3, "unindexed_bytes": 16 + 16 + 8})
    );
    assert_eq!(fixture.rows("a"), json!([{"id": 1, "v": 2}, {"id": 3, "v": 2}]));
    let before = json!([{"id": 1, "v": 1}, {"id": 2, "v": 1}]);
    assert_eq!(fixture.rows_at("a", "eventual"), before);
    fixture.engine.compact();
    assert_eq!(fixture.rows_at("a", "eventual"), before);
    assert_eq!(fixture.namespace_slots("a"), (4, 2));
    fixture.pass(1000);
    assert_eq!(fixture.metadata("a")["index"], json!({"status": "up-to-date"}));
    assert_eq!(fixture.rows_at("a", "eventual"), fixture.rows("a"));
    fixture.engine.compact();
    assert_eq!(fixture.namespace_slots("a"), (2, 2));
    assert_eq!(fixture.rows("a"), json!([{"id": 1, "v": 2}, {"id": 3, "v": 2}]));
}

#[test]
fn a_namespace_can_have_a_lag_of_its_own_before_it_exists() {
    let fixture = fixture();
    fixture.engine.set_index_lag(Some("slow"), 500);
    fixture.write("slow", json!({"upsert_rows": [{"id": 1}]}));
    fixture.write("fast", json!({"upsert_rows": [{"id": 1}]}));
    assert_eq!(fixture.metadata("slow")["index"]["status"], json!("updating"));
    assert_eq!(fixture.metadata("fast")["index"]["status"], json!("up-to-date"));
    assert_eq!(fixture.rows_at("slow", "eventual"), json!([]));
    fixture.engine.set_index_lag(Some("slow"), 0);
    assert_eq!(fixture.metadata("slow")["index"]["status"], json!("up-to-date"));
}

#[test]
fn overwriting_keeps_memory_and_answers_bounded() {
    let fixture = fixture();
    for n in 0..300 {
        fixture.write(
            "a",
            json!({"upsert_rows": [{"id": n % 3, "n": n, "vector": [n, 1], "t": format!("word{n}")}],
            "distance_metric": "cosine_distance", "schema": {"t": {"type": "string", "full_text_search": true}}}),
        );
        if n % 50 == 49 {
            let namespace = fixture.engine.inner.lookup("a").expect("there");
            fixture.engine.inner.compact(&namespace, 10);
            assert_eq!(fixture.namespace_slots("a"), (3, 3));
        }
    }
    let rows = fixture.rows("a");
    assert_eq!(rows[2], json!({"id": 2, "n": 299, "vector": [299.0, 1.0], "t": "word299"}));
    let query = json!({"rank_by": ["t", "BM25", "word298 word200"], "limit": 5});
    assert_eq!(fixture.call("POST", "/v2/namespaces/a/query", &query).1["rows"][0]["id"], json!(1));
    let fixture = fixture.reopened();
    assert_eq!(fixture.rows("a"), rows);
}

#[test]
fn approximate_sizes_are_zero_until_there_is_an_index() {
    let (dir, clock) = (TempDir::new("engine"), Arc::new(AtomicI64::new(START_MS)));
    let query = QueryOptions { index_rows_min: 3, ..QueryOptions::default() };
    let (engine, recovery) = Engine::open(dir.path(), Options { query, ..options(&clock) }).expect("opens");
    let fixture = Fixture { engine, recovery, dir, clock };
    fixture.write("a", json!({"upsert_rows": [{"id": 1}, {"id": 2}]}));
    assert_eq!(fixture.metadata("a")["approx_row_count"], json!(0));
    fixture.write("a", json!({"upsert_rows": [{"id": 3}]}));
    let metadata = fixture.metadata("a");
    assert_eq!((&metadata["approx_row_count"], &metadata["approx_logical_bytes"]), (&json!(3), &json!(24)));
}

#[test]
fn copies_are_whole_or_not_there() {
    let fixture = fixture();
    let rows = fill(&fixture);
    let answer = fixture.write("b", json!({"copy_from_namespace": "a"}));
    assert_eq!(answer["message"], json!("namespace cloned successfully"));
    assert_eq!(fixture.rows("b"), rows);
    assert_eq!(fixture.refused("b", json!({"copy_from_namespace": "a"})).1, "💔 destination namespace already exists");
    assert_eq!(
        fixture.refused("c", json!({"copy_from_namespace": "none"})),
        (404, "🤷 namespace 'none' was not found".to_owned())
    );
    assert_eq!(fixture.names(), ["a", "b"]);
    fixture.write("d", json!({"branch_from_namespace": {"source_namespace": "a"}}));
    assert_eq!(fixture.metadata("d")["branching"], json!({"parent": "a"}));
    fixture.write("a", json!({"deletes": [1, 2]}));
    let fixture = fixture.reopened();
    assert_eq!((fixture.rows("b"), fixture.rows("d"), fixture.rows("a")), (rows.clone(), rows, json!([])));
}

#[test]
fn half_a_copy_does_not_survive() {
    let fixture = fixture();
    let many: Vec<Json> = (0..5000).map(|id| json!({"id": id})).collect();
    fixture.write("a", json!({"upsert_rows": many}));
    fixture.write("b", json!({"copy_from_namespace": "a"}));
    let path = segment_path(fixture.dir.path(), 1);
    let Fixture { engine, dir, clock, .. } = fixture;
    drop(engine);
    let bytes = std::fs::read(&path).expect("readable");
    std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("written");
    let (engine, recovery) = Engine::open(dir.path(), options(&clock)).expect("opens");
    assert_eq!(recovery.namespaces, 1);
    assert_eq!(recovery.rows, 5000);
    let fixture = Fixture { engine, recovery, dir, clock };
    assert_eq!(fixture.names(), ["a"]);
    fixture.write("b", json!({"upsert_rows": [{"id": "other"}]}));
    let fixture = fixture.reopened();
    assert_eq!(fixture.rows("b"), json!([{"id": "other"}]));
}

#[test]
fn an_async_copy_is_polled() {
    let fixture = fixture();
    fill(&fixture);
    let start = |source: &str| {
        let body = json!({"copy_from_namespace": {"source_namespace": source}});
        let (status, answer) = fixture.call("POST", &format!("/v2/namespaces/to-{source}/async"), &body);
        assert_eq!(status, 200, "{answer}");
        let token = answer["token"].as_str().expect("a token").to_owned();
        fixture.call("GET", &format!("/v1/namespaces/to-{source}/operations/{token}"), &json!({})).1
    };
    let done = start("a");
    assert_eq!((&done["status"], &done["result"]["success"]["status"]), (&json!("finished"), &json!("OK")));
    let failed = start("none");
    assert_eq!(failed["result"]["error"]["status_code"], json!(404));
    assert_eq!(fixture.call("GET", "/v1/namespaces/a/operations/other", &json!({})).0, 404);
}

#[test]
fn settings_survive_and_read_only_is_enforced() {
    let fixture = fixture();
    fill(&fixture);
    let body = json!({"pinning": {"replicas": 2}, "read_only": true});
    let (status, metadata) = fixture.call("PATCH", "/v1/namespaces/a/metadata", &body);
    assert_eq!((status, &metadata["pinning"]["replicas"], &metadata["read_only"]), (200, &json!(2), &json!(true)));
    let fixture = fixture.reopened();
    assert!(fixture.refused("a", json!({"deletes": [1]})).1.contains("read-only"));
    assert_eq!(fixture.call("POST", "/v1/namespaces/a/schema", &json!({"title": "string"})).0, 400);
    let (_, metadata) =
        fixture.call("PATCH", "/v1/namespaces/a/metadata", &json!({"pinning": null, "read_only": false}));
    assert!(metadata.get("pinning").is_none() && metadata.get("read_only").is_none());
    fixture.write("a", json!({"deletes": [1]}));
    fixture.write("sharded", json!({"upsert_rows": [{"id": 1}], "sharding": {"num_shards": 4}}));
    assert_eq!(fixture.metadata("sharded")["sharding"], json!({"num_shards": 4}));
    assert_eq!(fixture.refused("sharded", json!({"sharding": {"num_shards": 5}})).0, 400);
    assert_eq!(fixture.refused("other", json!({"upsert_rows": [{"id": 1}], "sharding": {"num_shards": 257}})).0, 400);
}

#[test]
fn a_refused_first_write_leaves_no_namespace() {
    let fixture = fixture();
    for body in [
        json!({"upsert_rows": [{"id": 1}, {"id": 1}]}),
        json!({"deletes": [1]}),
        json!({"upsert_rows": []}),
        json!({"schema": {"a": "int"}}),
        json!({"upsert_rows": [{"id": 1}], "create_namespace": false}),
        json!({"create_namespace": true}),
    ] {
        fixture.refused("a", body);
        assert!(fixture.engine.inner.namespaces.read().is_empty());
    }
    fixture.write("a", json!({"create_namespace": true, "schema": {"id": "uuid"}}));
    assert_eq!(fixture.names(), ["a"]);
    assert_eq!(fixture.rows("a"), json!([]));
    let fixture = fixture.reopened();
    assert_eq!(fixture.metadata("a")["schema"], json!({"id": {"type": "uuid"}}));
}

#[test]
fn concurrent_conditional_writes_are_serial() {
    const WRITERS: u64 = 4;
    const TRIES: u64 = 25;
    let fixture = fixture();
    fixture.write("a", json!({"upsert_rows": [{"id": 0, "n": 0}]}));
    let applied: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let fixture = &fixture;
                scope.spawn(move || {
                    let insert = |id: u64| {
                        let body =
                            json!({"upsert_rows": [{"id": id, "by": writer}], "upsert_condition": ["id", "Eq", null]});
                        fixture.write("a", body)["rows_affected"].as_u64().expect("a count")
                    };
                    (1..=TRIES).map(insert).sum::<u64>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(applied, TRIES);
    assert_eq!(fixture.rows("a").as_array().map(Vec::len), Some(26));
    assert!(fixture.engine.syncs() <= 1 + WRITERS * TRIES);
}

#[test]
fn names_and_routes_are_checked() {
    let fixture = fixture();
    let reply = fixture.engine.handle("GET", "/v2/namespaces/a%20b/metadata", "", b"");
    assert_eq!((reply.status, reply.content_type), (400, crate::reply::TEXT));
    for (method, path) in
        [("GET", "/v3/namespaces"), ("PUT", "/v2/namespaces/a"), ("GET", "/"), ("POST", "/v1/namespaces")]
    {
        assert_eq!(fixture.call(method, path, &json!({})).0, 404, "{method} {path}");
    }
    for path in ["schema", "metadata", "hint_cache_warm", "_debug/warm_cache"] {
        let (status, answer) = fixture.call("GET", &format!("/v1/namespaces/none/{path}"), &json!({}));
        assert_eq!((status, answer["error"].as_str()), (404, Some("🤷 namespace 'none' was not found")), "{path}");
    }
    for name in [".", "..", "lock", "manifest.json"] {
        fixture.write(name, json!({"upsert_rows": [{"id": 1}]}));
    }
    fixture.engine.checkpoint().expect("written");
    assert_eq!(fixture.reopened().names().len(), 4);
}

#[test]
fn what_is_not_on_disk_is_not_shown() {
    let fixture = fixture();
    fixture.write("a", json!({"upsert_rows": [{"id": 1, "n": 1}]}));
    fixture.engine.inner.log.fail_from_now();
    let (status, message) = fixture.refused("a", json!({"upsert_rows": [{"id": 1, "n": 2}, {"id": 2}], "deletes": []}));
    assert_eq!(status, 500);
    assert!(message.starts_with("🐡 writing the log failed"), "{message}");
    assert_eq!(fixture.rows("a"), json!([{"id": 1, "n": 1}]));
    assert_eq!(fixture.refused("b", json!({"upsert_rows": [{"id": 1}]})).0, 500);
    assert_eq!(fixture.names(), ["a"]);
    fixture.engine.compact();
    assert_eq!(fixture.rows("a"), json!([{"id": 1, "n": 1}]));
    let fixture = fixture.reopened();
    assert_eq!(fixture.rows("a"), json!([{"id": 1, "n": 1}]));
}

/// A checkpoint that finds a namespace deleted writes no snapshot of it, while the log after the checkpoint still has
/// its last writes.
#[test]
fn writes_whose_beginning_is_gone_need_their_deletion() {
    for is_deleted in [true, false] {
        let fixture = fixture();
        fixture.write("a", json!({"upsert_rows": [{"id": 1, "vector": [1]}], "distance_metric": "cosine_distance"}));
        fixture.engine.inner.log.rotate().expect("rotates");
        fixture.write("a", json!({"patch_rows": [{"id": 1, "n": 2}]}));
        fixture.write("a", json!({"upsert_rows": [{"id": 2, "vector": [1]}]}));
        if is_deleted {
            fixture.call("DELETE", "/v2/namespaces/a", &json!({}));
            fixture.write("a", json!({"upsert_rows": [{"id": "anew"}]}));
        }
        let Fixture { engine, dir, clock, .. } = fixture;
        drop(engine);
        Manifest { first_segment: 2, ..Manifest::default() }.store(dir.path()).expect("stored");
        match Engine::open(dir.path(), options(&clock)) {
            Ok((engine, recovery)) => {
                assert!(is_deleted);
                assert_eq!((recovery.namespaces, recovery.rows), (1, 1));
                let fixture = Fixture { engine, recovery, dir, clock };
                assert_eq!(fixture.rows("a"), json!([{"id": "anew"}]));
            }
            Err(error) => {
                assert!(!is_deleted);
                assert!(error.to_string().contains("the log lacks the first writes to 'a'"), "{error}");
            }
        }
    }
}

#[test]
fn a_panic_between_the_two_commits_of_a_write_leaves_a_log_that_opens() {
    let fixture = fixture();
    fixture.write("n", json!({"upsert_rows": [{"id": 1, "x": 1}, {"id": 2, "x": 2}]}));
    crate::engine_write::FAIL_BETWEEN_COMMITS.set(true);
    let body = json!({"delete_by_filter": ["x", "Eq", 1], "upsert_rows": [{"id": 3, "x": 3}]}).to_string();
    let engine = std::panic::AssertUnwindSafe(&fixture.engine);
    let panicked = std::panic::catch_unwind(|| engine.handle("POST", "/v2/namespaces/n", "", body.as_bytes()));
    assert!(panicked.map_or(true, |reply| reply.status == 500));
    fixture.write("n", json!({"upsert_rows": [{"id": 4, "x": 4}]}));
    let before = fixture.rows_at("n", "strong");
    let again = fixture.reopened();
    assert_eq!(again.rows_at("n", "strong"), before);
}
