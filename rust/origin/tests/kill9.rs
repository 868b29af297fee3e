//! What was acknowledged survives `kill -9`: a child process writes and says what was acknowledged, is killed, and the
//! data are opened again and compared.

use hevlayer_origin::engine::{Engine, Options};
use serde_json::{json, Value as Json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DIR_VARIABLE: &str = "HEVLAYER_KILL9_DIR";
const START_VARIABLE: &str = "HEVLAYER_KILL9_START";
const WRITERS: u64 = 3;
const ROUNDS: u64 = 6;
const ACKS_PER_ROUND: usize = 300;
/// Writes of the first writer between two checkpoints; a kill may hit any step of one.
const CHECKPOINT_EVERY: u64 = 10;
/// Ids that one writer uses.
const IDS: u64 = 40;

fn options() -> Options {
    // Small enough that slots are reclaimed all the time.
    Options { compact_slots_min: 16, ..Options::default() }
}

/// Rows of a namespace by id: what `n` was written last.
type Rows = BTreeMap<u64, u64>;

/// What write number `n` of any writer does: most put three rows, some patch, delete, or replace the namespace.
fn body(n: u64) -> Json {
    let id = |offset: u64| (n * 7 + offset) % IDS;
    match n % 10 {
        3 => json!({"deletes": [id(0), id(1)]}),
        5 => json!({"patch_by_filter": {"filters": ["id", "Lt", 10], "patch": {"n": n}}}),
        7 => json!({"delete_by_filter": ["id", "Gte", 35], "upsert_rows": [row(0, n)], "distance_metric": METRIC}),
        _ => json!({"upsert_rows": [row(id(0), n), row(id(1), n), row(id(2), n)], "distance_metric": METRIC}),
    }
}

const METRIC: &str = "cosine_distance";

fn row(id: u64, n: u64) -> Json {
    json!({"id": id, "n": n, "vector": [n, id], "text": "some words to make it longer"})
}

fn apply(rows: &mut Rows, n: u64) {
    let id = |offset: u64| (n * 7 + offset) % IDS;
    match n % 10 {
        3 => [0, 1].iter().for_each(|offset| {
            rows.remove(&id(*offset));
        }),
        5 => rows.range_mut(..10).for_each(|(_, value)| *value = n),
        7 => {
            rows.retain(|id, _| *id < 35);
            rows.insert(0, n);
        }
        _ => [0, 1, 2].iter().for_each(|offset| {
            rows.insert(id(*offset), n);
        }),
    }
}

fn namespace(writer: u64) -> String {
    format!("writer-{writer}")
}

/// Not a test of its own: the process that gets killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR_VARIABLE) else { return };
    let starts: Vec<u64> = serde_json::from_str(&std::env::var(START_VARIABLE).expect("set")).expect("numbers");
    let (engine, _) = Engine::open(Path::new(&dir), options()).expect("opens");
    std::thread::scope(|scope| {
        for (writer, start) in (0..WRITERS).zip(starts) {
            let engine = &engine;
            scope.spawn(move || {
                let path = format!("/v2/namespaces/{}", namespace(writer));
                for n in start.. {
                    if writer == 0 && n % CHECKPOINT_EVERY == 0 {
                        engine.checkpoint().expect("checkpoints");
                    }
                    let reply = engine.handle("POST", &path, "", body(n).to_string().as_bytes());
                    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "ack {writer} {n}").and_then(|()| out.flush()).expect("the parent listens");
                }
            });
        }
    });
}

fn stored(engine: &Engine, writer: u64) -> Rows {
    let path = format!("/v2/namespaces/{}/query", namespace(writer));
    let query = json!({"rank_by": ["id", "asc"], "limit": 100, "include_attributes": ["n", "vector"]}).to_string();
    let reply = engine.handle("POST", &path, "", query.as_bytes());
    let body: Json = serde_json::from_slice(&reply.body).expect("JSON");
    let rows = body["rows"].as_array().cloned().unwrap_or_default();
    rows.iter()
        .map(|row| {
            let id = row["id"].as_u64().expect("an id");
            assert_eq!(row["vector"][1].as_f64(), Some(id as f64), "the vector of {row}");
            (id, row["n"].as_u64().expect("n"))
        })
        .collect()
}

/// Runs a child until it has acknowledged enough, kills it, and returns the last write acknowledged of each writer.
fn run_and_kill(dir: &Path, starts: &[u64]) -> Vec<Option<u64>> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--nocapture"])
        .env(DIR_VARIABLE, dir)
        .env(START_VARIABLE, serde_json::to_string(starts).expect("JSON"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut last: Vec<Option<u64>> = starts.iter().map(|start| start.checked_sub(1)).collect();
    let mut record = |line: &str| {
        // The test harness may write to the same line first.
        let Some((_, ack)) = line.split_once("ack ") else { return };
        let numbers: Vec<u64> = ack.split(' ').filter_map(|number| number.parse().ok()).collect();
        if let [writer, n] = numbers[..] {
            last[usize::try_from(writer).expect("small")] = Some(n);
        }
    };
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    for line in lines.by_ref().take(ACKS_PER_ROUND) {
        record(&line);
    }
    child.kill().expect("killed");
    for line in lines {
        record(&line);
    }
    child.wait().expect("gone");
    last
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_acknowledged_write_survives() {
    let dir = Dir(std::env::temp_dir().join(format!("hevlayer-kill9-{}", std::process::id())));
    let mut models: Vec<Rows> = vec![Rows::new(); 3];
    let mut starts = vec![0; 3];
    for round in 0..ROUNDS {
        let last = run_and_kill(&dir.0, &starts);
        let (engine, recovery) = Engine::open(&dir.0, options()).expect("recovers");
        for writer in 0..WRITERS {
            let index = usize::try_from(writer).expect("small");
            let model = &mut models[index];
            let next = last[index].map_or(0, |n| n + 1);
            (starts[index]..next).for_each(|n| apply(model, n));
            let found = stored(&engine, writer);
            // The write that was under way may have reached the disk, whole; its answer did not reach us.
            let mut with_next = model.clone();
            apply(&mut with_next, next);
            assert!(
                found == *model || found == with_next,
                "round {round}, writer {writer}, after {next} writes, recovered {recovery:?}: {found:?} is neither \
                 {model:?} nor {with_next:?}"
            );
            starts[index] = if found == *model && found != with_next { next } else { next + 1 };
            *model = found;
        }
    }
    assert!(starts.iter().all(|start| *start > 0), "every writer wrote: {starts:?}");
}
