//! The engine on a real directory: restarts, crashes, damage, capacity.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use hevlayer_cache::{CacheError, Engine, Lookup, Options, Outcome, Projection, Rows};

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);
const UNKNOWN_MS: u64 = 120_000;
const TTL_MS: u64 = 1_000_000;
const KEY: &[u8] = b"\x02a";

struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hevlayer-cache-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn options(&self) -> Options {
        Options {
            directory: self.0.clone(),
            identity: "https://upstream".to_owned(),
            capacity_bytes: 1 << 30,
            ttl_ms: TTL_MS,
            unknown_write_ms: UNKNOWN_MS,
        }
    }

    fn open(&self, now_ms: u64) -> Engine {
        Engine::open(self.options(), now_ms).expect("an engine")
    }

    /// Rewrites the state file as the machine's earlier boot would have left it.
    fn reboot(&self) {
        let path = self.0.join("state");
        let text = fs::read_to_string(&path).expect("a state");
        let lines: Vec<_> =
            text.lines().map(|line| if line.starts_with("boot") { "boot earlier" } else { line }).collect();
        fs::write(path, lines.join("\n") + "\n").expect("a state");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn rows(id: &str, body: &str) -> Rows {
    Rows::read(
        format!(r#"{{"rows":[{{"id":"{id}","t":"{body}","vector":[1.5]}}]}}"#).as_bytes(),
        &["vector".to_owned()],
    )
    .expect("rows")
}

fn look(engine: &Engine, key: &[u8], now_ms: u64) -> Lookup {
    engine.lookup("ns", key, &Projection::Plain, None, now_ms, true).expect("a lookup")
}

fn ticket(engine: &Engine, key: &[u8], now_ms: u64) -> u64 {
    match look(engine, key, now_ms) {
        Lookup::Empty(ticket) => ticket,
        other => panic!("expected nothing, found {other:?}"),
    }
}

fn fill(engine: &Engine, id: &str, body: &str, now_ms: u64) -> usize {
    let key = [b"\x02", id.as_bytes()].concat();
    let ticket = ticket(engine, &key, now_ms);
    engine.fill("ns", &rows(id, body), ticket, now_ms, true).expect("a fill").map_or(0, |(put, _)| put)
}

fn served(engine: &Engine, key: &[u8], now_ms: u64) -> Option<String> {
    match look(engine, key, now_ms) {
        Lookup::Hit(text) => Some(String::from_utf8(text).expect("UTF-8")),
        _ => None,
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "seg"))
        .collect();
    found.sort();
    found
}

const A: &str = r#"{"id":"a","attributes":{"t":"x"}}"#;

#[test]
fn rows_outlive_a_clean_stop_a_crash_and_a_clean_reboot() {
    let home = Home::new();
    {
        let engine = home.open(0);
        assert_eq!(fill(&engine, "a", "x", 0), 1);
        engine.close().expect("a close");
    }
    home.reboot();
    {
        // Dropped without a close: the process died.
        let engine = home.open(1);
        assert_eq!(served(&engine, KEY, 1).as_deref(), Some(A));
    }
    let engine = home.open(2);
    assert_eq!(served(&engine, KEY, 2).as_deref(), Some(A));
    assert_eq!(served(&engine, KEY, TTL_MS), None);
}

#[test]
fn the_death_of_the_machine_leaves_nothing_and_keeps_quiet() {
    let home = Home::new();
    fill(&home.open(0), "a", "x", 0);
    home.reboot();
    // A second crash does not end the quiet.
    assert!(matches!(look(&home.open(1), KEY, 1), Lookup::Marked));
    let engine = home.open(2);
    assert!(matches!(look(&engine, KEY, UNKNOWN_MS), Lookup::Marked));
    assert_eq!(fill(&engine, "a", "y", UNKNOWN_MS + 1), 1);
}

#[test]
fn a_write_in_flight_at_a_crash_stays_marked_for_its_time() {
    let home = Home::new();
    {
        let engine = home.open(0);
        fill(&engine, "a", "x", 0);
        fill(&engine, "b", "x", 0);
        engine.mark(7, "ns", Some(vec![KEY.into()]), 10, true).expect("a mark");
    }
    let engine = home.open(1);
    assert!(matches!(look(&engine, KEY, 1), Lookup::Marked));
    assert!(matches!(look(&engine, KEY, UNKNOWN_MS), Lookup::Marked));
    assert!(served(&engine, b"\x02b", UNKNOWN_MS).is_some());
    ticket(&engine, KEY, UNKNOWN_MS + 1);
}

#[test]
fn settles_outlive_a_crash() {
    for (outcome, back) in [(Outcome::Applied, false), (Outcome::Refused, true), (Outcome::Unknown, false)] {
        let home = Home::new();
        {
            let engine = home.open(0);
            fill(&engine, "a", "x", 0);
            engine.mark(7, "ns", Some(vec![KEY.into()]), 10, true).expect("a mark");
            assert_eq!(engine.settle(7, outcome, 0, true).expect("a settle"), Some(true));
        }
        let engine = home.open(1);
        assert_eq!(served(&engine, KEY, 1).is_some(), back, "{outcome:?}");
        assert_eq!(matches!(look(&engine, KEY, 1), Lookup::Marked), outcome == Outcome::Unknown, "{outcome:?}");
    }
}

#[test]
fn a_clear_and_a_namespace_write_outlive_a_crash() {
    let home = Home::new();
    {
        let engine = home.open(0);
        fill(&engine, "a", "x", 0);
        engine.clear("ns", 0).expect("a clear");
    }
    {
        let engine = home.open(1);
        assert_eq!(fill(&engine, "a", "y", 1), 1);
        engine.mark(8, "ns", None, 10, true).expect("a mark");
    }
    let engine = home.open(2);
    assert!(matches!(look(&engine, KEY, 2), Lookup::Marked));
    ticket(&engine, KEY, 2 + UNKNOWN_MS);
}

#[test]
fn rows_of_another_upstream_are_thrown_away() {
    let home = Home::new();
    fill(&home.open(0), "a", "x", 0);
    let options = Options { identity: "https://other".to_owned(), ..home.options() };
    let engine = Engine::open(options, 1).expect("an engine");
    assert!(served(&engine, KEY, 1).is_none());
}

#[test]
fn one_process_at_a_time() {
    let home = Home::new();
    let first = home.open(0);
    assert!(matches!(Engine::open(home.options(), 0), Err(CacheError::Locked)));
    drop(first);
    home.open(0);
}

#[test]
fn what_is_owed_is_not_served_by_a_later_process() {
    let home = Home::new();
    {
        let engine = home.open(0);
        fill(&engine, "a", "x", 0);
        engine.owe(true).expect("a note");
        engine.close().expect("a close");
    }
    assert!(served(&home.open(1), KEY, 1).is_none());
    {
        let engine = home.open(2 * UNKNOWN_MS);
        fill(&engine, "a", "x", 2 * UNKNOWN_MS);
        engine.owe(true).expect("a note");
        engine.owe(false).expect("a note");
    }
    assert!(served(&home.open(2 * UNKNOWN_MS), KEY, 2 * UNKNOWN_MS).is_some());
}

#[test]
fn a_damaged_row_is_an_error_once_and_then_missing() {
    let home = Home::new();
    let engine = home.open(0);
    fill(&engine, "a", "a value", 0);
    let path = segments(&home.0).pop().expect("a segment");
    let mut bytes = fs::read(&path).expect("a segment");
    let at = bytes.windows(7).position(|window| window == b"a value").expect("the row");
    bytes[at] = b'y';
    fs::write(&path, bytes).expect("a segment");
    assert!(matches!(engine.lookup("ns", KEY, &Projection::Plain, None, 0, true), Err(CacheError::Corrupt)));
    ticket(&engine, KEY, 0);
}

#[test]
fn a_frame_cut_short_ends_the_replay_of_its_segment_only() {
    let home = Home::new();
    {
        let engine = home.open(0);
        fill(&engine, "a", "x", 0);
        fill(&engine, "b", "x", 0);
    }
    let path = segments(&home.0).pop().expect("a segment");
    let bytes = fs::read(&path).expect("a segment");
    fs::write(&path, &bytes[..bytes.len() - 1]).expect("a segment");
    {
        let engine = home.open(1);
        assert!(served(&engine, KEY, 1).is_some());
        assert!(served(&engine, b"\x02b", 1).is_none());
        fill(&engine, "c", "x", 1);
    }
    assert!(served(&home.open(2), b"\x02c", 2).is_some());
}

#[test]
fn any_damage_to_a_segment_serves_a_true_row_or_none() {
    let home = Home::new();
    fill(&home.open(0), "a", "x", 0);
    let path = segments(&home.0).pop().expect("a segment");
    let bytes = fs::read(&path).expect("a segment");
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        for segment in segments(&home.0) {
            fs::remove_file(segment).expect("a removal");
        }
        fs::write(&path, damaged).expect("a segment");
        let engine = home.open(1);
        if let Ok(Lookup::Hit(text)) = engine.lookup("ns", KEY, &Projection::Plain, None, 1, true) {
            // Only the vector's part, which this projection does not read, may be damaged unseen.
            assert_eq!(text, A.as_bytes(), "byte {at}");
            let named = Projection::Named(vec!["vector".to_owned()]);
            if let Ok(Lookup::Hit(text)) = engine.lookup("ns", KEY, &named, None, 1, true) {
                assert_eq!(text, br#"{"id":"a","attributes":{"vector":[1.5]}}"#, "byte {at}");
            }
        }
    }
}

#[test]
fn a_log_with_a_hole_is_not_believed() {
    // Damage to a mark hides that the row before it is out of date; so does a segment that is gone.
    for damage in [|path: &Path| flip(path, b"ns\x09"), |path: &Path| fs::remove_file(path).expect("a removal")] {
        let home = Home::new();
        fill(&home.open(0), "a", "x", 0);
        {
            let engine = home.open(1);
            engine.mark(9, "ns", Some(vec![KEY.into()]), u64::MAX, true).expect("a mark");
            engine.settle(9, Outcome::Applied, 1, true).expect("a settle");
        }
        let path = segments(&home.0).pop().expect("a segment");
        fill(&home.open(2), "b", "x", 2);
        damage(&path);
        let engine = home.open(3);
        assert!(matches!(look(&engine, KEY, 3), Lookup::Marked));
        assert!(matches!(look(&engine, b"\x02b", 3), Lookup::Marked), "fills wait until earlier writes are over");
        assert_eq!(fill(&engine, "a", "y", 3 + UNKNOWN_MS), 1);
    }
}

/// Changes the first byte of what is found in a file.
fn flip(path: &Path, wanted: &[u8]) {
    let mut bytes = fs::read(path).expect("a file");
    let at = bytes.windows(wanted.len()).position(|window| window == wanted).expect("a place");
    bytes[at] ^= 0x41;
    fs::write(path, bytes).expect("a file");
}

#[test]
fn a_state_file_of_any_bytes_is_opened() {
    let home = Home::new();
    fill(&home.open(0), "a", "x", 0);
    fs::write(home.0.join("state"), b"\xff\xfe\x00").expect("a state");
    assert!(served(&home.open(1), KEY, 1).is_none());
}

#[test]
fn a_segment_that_cannot_be_read_is_evicted_with_its_rows() {
    let home = Home::new();
    let capacity_bytes = 1 << 20;
    let engine = Engine::open(Options { capacity_bytes, ..home.options() }, 0).expect("an engine");
    let body = "x".repeat(10_000);
    for number in 0..20 {
        fill(&engine, &format!("row{number}"), &body, 0);
    }
    flip(&segments(&home.0)[0], b"ns\x02row0");
    for number in 20..200 {
        fill(&engine, &format!("row{number}"), &body, 0);
    }
    engine.trim().expect("a trim");
    for number in 0..20 {
        // None stands in the table without its segment: it could be neither served nor filled again.
        ticket(&engine, format!("\x02row{number}").as_bytes(), 0);
    }
}

#[test]
fn a_row_that_cannot_be_kept_does_not_hold_a_trim_up() {
    let home = Home::new();
    let capacity_bytes = 1 << 20;
    let engine = Engine::open(Options { capacity_bytes, ..home.options() }, 0).expect("an engine");
    let body = "x".repeat(10_000);
    fill(&engine, "a", "needle", 0);
    assert!(served(&engine, KEY, 0).is_some());
    flip(&segments(&home.0)[0], b"needle");
    for number in 0..200 {
        fill(&engine, &format!("row{number}"), &body, 0);
    }
    engine.trim().expect("a trim");
    assert!(engine.stats().expect("stats").bytes <= capacity_bytes);
    ticket(&engine, KEY, 0);
}

#[test]
fn marks_larger_than_the_capacity_do_not_hold_a_trim_up() {
    let home = Home::new();
    let engine = Engine::open(Options { capacity_bytes: 1 << 20, ..home.options() }, 0).expect("an engine");
    for token in 0..30_u64 {
        let keys = (0..10_000).map(|key| format!("\x02{token}-{key}").into_bytes().into()).collect();
        engine.mark(token, "ns", Some(keys), u64::MAX, true).expect("a mark");
    }
    engine.trim().expect("a trim that ends");
    assert!(matches!(look(&engine, b"\x020-0", 0), Lookup::Marked));
    drop(engine);
    assert!(matches!(look(&home.open(1), b"\x020-0", 1), Lookup::Marked));
}

#[test]
fn restarts_do_not_pile_up_files() {
    let home = Home::new();
    for _ in 0..20 {
        home.open(0);
    }
    assert_eq!(segments(&home.0).len(), 1);
    for number in 0..300 {
        let engine = home.open(0);
        fill(&engine, &format!("row{number}"), "x", 0);
        engine.trim().expect("a trim");
    }
    assert!(segments(&home.0).len() <= 256);
    assert!(served(&home.open(0), b"\x02row299", 0).is_some());
}

#[test]
fn the_capacity_holds_and_rows_in_use_stay() {
    let home = Home::new();
    let capacity_bytes = 8 << 20;
    let engine = Engine::open(Options { capacity_bytes, ..home.options() }, 0).expect("an engine");
    let body = "x".repeat(10_000);
    fill(&engine, "kept", &body, 0);
    engine.mark(7, "ns", Some(vec![b"\x02marked".as_slice().into()]), u64::MAX, true).expect("a mark");
    for number in 0..3000 {
        fill(&engine, &format!("row{number}"), &body, 0);
        assert!(served(&engine, b"\x02kept", 0).is_some(), "at row {number}");
        if engine.stats().expect("stats").bytes > capacity_bytes {
            engine.trim().expect("a trim");
            assert!(engine.stats().expect("stats").bytes <= capacity_bytes);
        }
    }
    let stats = engine.stats().expect("stats");
    assert!(stats.evicted_rows > 1000 && stats.rows > 500, "{stats:?}");
    let on_disk: u64 = segments(&home.0).iter().map(|path| fs::metadata(path).expect("a file").len()).sum();
    assert!(on_disk <= capacity_bytes + (1 << 20), "{on_disk}");
    drop(engine);
    let engine = Engine::open(Options { capacity_bytes, ..home.options() }, 0).expect("an engine");
    assert!(served(&engine, b"\x02kept", 0).is_some());
    assert!(matches!(look(&engine, b"\x02marked", 0), Lookup::Marked), "the mark was written again");
    assert_eq!(engine.stats().expect("stats").rows, stats.rows);
}

#[test]
fn without_a_trim_fills_stop_at_the_bound() {
    let home = Home::new();
    let capacity_bytes = 1 << 20;
    let engine = Engine::open(Options { capacity_bytes, ..home.options() }, 0).expect("an engine");
    let body = "x".repeat(10_000);
    let put: usize = (0..1000).map(|number| fill(&engine, &format!("row{number}"), &body, 0)).sum();
    assert!(put < 200 && engine.stats().expect("stats").refused_fills > 0, "{put}");
    assert_eq!(fill(&engine, "huge", &"x".repeat(300_000), 0), 0);
}

#[test]
fn only_the_asked_part_is_read_and_named_vectors_come() {
    let home = Home::new();
    let engine = home.open(0);
    fill(&engine, "a", "x", 0);
    let named = Projection::Named(vec!["vector".to_owned(), "t".to_owned()]);
    let found = engine.lookup("ns", KEY, &named, None, 0, true).expect("a lookup");
    assert!(matches!(found, Lookup::Hit(text) if text == br#"{"id":"a","attributes":{"t":"x","vector":[1.5]}}"#));
    let found = engine.lookup("ns", KEY, &Projection::Plain, None, 0, false).expect("a lookup");
    assert!(matches!(found, Lookup::Hit(_) | Lookup::WouldWait));
}

#[test]
fn a_closed_engine_says_so() {
    let home = Home::new();
    let engine = home.open(0);
    engine.close().expect("a close");
    engine.close().expect("a second close");
    assert!(matches!(engine.lookup("ns", KEY, &Projection::Plain, None, 0, true), Err(CacheError::Closed)));
    assert!(matches!(engine.mark(1, "ns", None, 0, true), Err(CacheError::Closed)));
    // The directory is free, although the closed engine is still there.
    home.open(1);
}
