//! The engine's files: damage, capacity, room that is given back.

mod stage;

use std::fs;

use hevlayer_cache::{CacheError, Call, Engine, Looked, Lookup, Options, Projection};
use stage::{fill, flip, id_key, is_shut, look, mark, segments, served, ticket, Home, A, KEY, TTL_MS};

const SMALL: u64 = 8 << 20;

fn body() -> String {
    "x".repeat(10_000)
}

/// Fills rows that nobody reads, with an upkeep whenever there is too much.
fn fill_past_capacity(engine: &Engine, rows: usize) {
    for number in 0..rows {
        fill(engine, &format!("row{number}"), &body(), 0);
        if number % 50 == 0 {
            engine.maintain(0).expect("an upkeep");
        }
    }
    engine.maintain(0).expect("an upkeep");
}

#[test]
fn a_damaged_row_is_an_error_once_and_then_missing() {
    let home = Home::new();
    let engine = home.open(0);
    fill(&engine, "a", "a value", 0);
    flip(&segments(&home.0)[0], b"a value");
    assert!(matches!(engine.lookup("ns", KEY, &Projection::Plain, None, 0, true), Err(CacheError::Corrupt)));
    ticket(&engine, KEY, 0);
    assert_eq!(engine.facts("ns").expect("facts").lost, 1);
}

#[test]
fn damage_to_a_long_row_that_was_read_a_moment_ago_is_found_when_it_is_read_later() {
    let home = Home::new();
    let engine = home.open(0);
    fill(&engine, "a", &body(), 0);
    assert!(served(&engine, KEY, 0).is_some());
    flip(&segments(&home.0)[0], b"xxx");
    // Longer than a verification is good for.
    let found = engine.lookup("ns", KEY, &Projection::Plain, None, 60_000, true);
    assert!(matches!(found, Err(CacheError::Corrupt)));
    ticket(&engine, KEY, 60_000);
}

#[test]
fn a_segment_cut_short_loses_its_last_rows_only() {
    let home = Home::new();
    {
        let engine = home.open(0);
        fill(&engine, "a", "x", 0);
        fill(&engine, "b", "x", 0);
    }
    let path = segments(&home.0).pop().expect("a segment");
    let length = fs::metadata(&path).expect("a segment").len();
    fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(length - 1)).expect("a cut");
    let engine = home.open(1);
    assert!(served(&engine, KEY, 1).is_some());
    assert!(engine.lookup("ns", b"\x02b", &Projection::Named(vec!["vector".to_owned()]), None, 1, true).is_err());
    ticket(&engine, b"\x02b", 1);
    assert_eq!(fill(&engine, "b", "y", 1), 1);
    assert!(served(&engine, b"\x02b", 1).is_some());
}

#[test]
fn any_damage_to_a_segment_serves_a_true_row_or_none() {
    let home = Home::new();
    fill(&home.open(0), "a", "x", 0);
    let path = segments(&home.0).pop().expect("a segment");
    let bytes = fs::read(&path).expect("a segment");
    let mut seen = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        fs::write(&path, damaged).expect("a segment");
        // A row that was found damaged is forgotten, so that each turn begins with an engine that knows it.
        let engine = home.open(1);
        match engine.lookup("ns", KEY, &Projection::Plain, None, 1, true) {
            Ok(Lookup::Hit(text)) => {
                // Only the vector's part, which this projection does not read, may be damaged unseen.
                assert_eq!(text, A.as_bytes(), "byte {at}");
                let named = Projection::Named(vec!["vector".to_owned()]);
                if let Ok(Lookup::Hit(text)) = engine.lookup("ns", KEY, &named, None, 1, true) {
                    assert_eq!(text, br#"{"id":"a","attributes":{"vector":[1.5]}}"#, "byte {at}");
                }
            }
            Ok(Lookup::Ticket(_) | Lookup::WouldWait) | Err(_) => seen += 1,
        }
        fs::write(&path, &bytes).expect("a segment");
        if served(&engine, KEY, 1).is_none() {
            clear_and_fill(&engine);
        }
    }
    assert!(seen > 0, "damage was found");
}

/// Has the row stand where the segment has it, as at the beginning.
fn clear_and_fill(engine: &Engine) {
    let _ = engine.call(Call::Clear { namespace: "ns".into() });
    fill(engine, "a", "x", 1);
}

#[test]
fn segments_that_are_gone_take_their_rows_along() {
    let home = Home::new();
    {
        let engine = home.open(0);
        fill(&engine, "a", "x", 0);
    }
    fs::remove_file(segments(&home.0).pop().expect("a segment")).expect("a removal");
    let engine = home.open(1);
    assert!(served(&engine, KEY, 1).is_none());
}

#[test]
fn a_segment_that_cannot_be_followed_is_evicted_with_its_rows() {
    let home = Home::new();
    let engine = home.open_of(SMALL);
    for number in 0..20 {
        fill(&engine, &format!("row{number}"), &body(), 0);
    }
    flip(&segments(&home.0)[0], b"row0");
    fill_past_capacity(&engine, 0);
    for number in 20..2_000 {
        fill(&engine, &format!("row{number}"), &body(), 0);
        if number % 50 == 0 {
            engine.maintain(0).expect("an upkeep");
        }
    }
    for number in 0..20 {
        // None stands in the index without its segment: it could be neither served nor filled again.
        ticket(&engine, &id_key(&format!("row{number}")), 0);
    }
}

#[test]
fn marks_larger_than_the_capacity_do_not_hold_an_upkeep_up() {
    let home = Home::new();
    let engine = home.open_of(1 << 20);
    for token in 0..10_u64 {
        let keys: Vec<_> = (0..10_000).map(|key| format!("\x02{token}-{key}").into_bytes()).collect();
        mark(&engine, token, Some(keys.iter().map(Vec::as_slice).collect()), u64::MAX);
    }
    engine.maintain(0).expect("an upkeep that ends");
    assert!(is_shut(&engine, b"\x020-0", 0));
    drop(engine);
    assert!(is_shut(&home.open(1), b"\x020-0", 1));
}

#[test]
fn restarts_do_not_pile_up_files() {
    let home = Home::new();
    for number in 0..50 {
        let engine = home.open(0);
        fill(&engine, &format!("row{number}"), "x", 0);
    }
    assert_eq!(segments(&home.0).len(), 1, "an owner that is gone leaves its segment to the next");
    assert!(served(&home.open(0), b"\x02row0", 0).is_some());
}

#[test]
fn the_capacity_holds_and_rows_in_use_stay() {
    let home = Home::new();
    let engine = home.open_of(SMALL);
    fill(&engine, "kept", &body(), 0);
    mark(&engine, 7, Some(vec![b"\x02marked"]), u64::MAX);
    for number in 0..3_000 {
        fill(&engine, &format!("row{number}"), &body(), 0);
        assert!(served(&engine, b"\x02kept", 0).is_some(), "at row {number}");
        if engine.stats().expect("stats").bytes > SMALL {
            engine.maintain(0).expect("an upkeep");
            assert!(engine.stats().expect("stats").bytes <= SMALL);
        }
    }
    let stats = engine.stats().expect("stats");
    assert!(stats.evicted_rows > 1_000 && stats.rows > 400, "{stats:?}");
    assert_eq!(engine.facts("ns").expect("facts").lost, stats.evicted_rows);
    let on_disk: u64 = segments(&home.0).iter().map(|path| fs::metadata(path).expect("a file").len()).sum();
    assert!(on_disk <= SMALL + (1 << 20), "{on_disk}");
    drop(engine);
    let engine = home.open_of(SMALL);
    assert!(served(&engine, b"\x02kept", 0).is_some());
    assert!(is_shut(&engine, b"\x02marked", 0));
    assert_eq!(engine.stats().expect("stats").rows, stats.rows);
}

#[test]
fn without_an_upkeep_fills_stop_at_the_bound() {
    let home = Home::new();
    let engine = home.open_of(1 << 20);
    let put: usize = (0..1000).map(|number| fill(&engine, &format!("row{number}"), &body(), 0)).sum();
    assert!(put < 200 && engine.stats().expect("stats").refused_fills > 0, "{put}");
    let home = Home::new();
    let engine = home.open_of(1 << 20);
    assert_eq!(fill(&engine, "huge", &"x".repeat(300_000), 0), 0);
    assert_eq!(engine.facts("ns").expect("facts").lost, 1, "a row too large to be kept is one that is missing");
}

#[test]
fn a_namespace_keeps_to_its_own_bound() {
    let home = Home::new();
    let engine = home.open_of(64 << 20);
    engine.call(Call::Limit { namespace: "ns".into(), capacity_bytes: 1 << 20 }).expect("a limit");
    fill_past_capacity(&engine, 500);
    let facts = engine.facts("ns").expect("facts");
    assert!(facts.bytes <= 1 << 20, "{facts:?}");
    assert!(facts.rows > 50 && facts.lost > 0, "{facts:?}");
}

#[test]
fn a_namespace_without_a_bound_of_its_own_keeps_to_that_of_all() {
    for (own, least, most) in [(0, 1, 1 << 20), (2 << 20, 1 << 20, 2 << 20)] {
        let home = Home::new();
        let options = Options { capacity_bytes: 64 << 20, namespace_capacity_bytes: 1 << 20, ..home.options() };
        let engine = Engine::open(&options, 0).expect("an engine");
        engine.call(Call::Limit { namespace: "ns".into(), capacity_bytes: own }).expect("a limit");
        fill_past_capacity(&engine, 500);
        let facts = engine.facts("ns").expect("facts");
        assert!(facts.bytes >= least && facts.bytes <= most && facts.lost > 0, "{facts:?}");
    }
}

#[test]
fn room_of_rows_that_were_replaced_is_given_back() {
    let home = Home::new();
    let engine = home.open_of(64 << 20);
    for round in 0..40 {
        for number in 0..50 {
            let id = format!("row{number}");
            mark(&engine, round * 100 + number, Some(vec![&id_key(&id)]), 10_000);
            let rows = Some(stage::rows(&id, &body()));
            stage::settle(&engine, round * 100 + number, hevlayer_cache::Outcome::Applied, rows, 0);
        }
        engine.maintain(0).expect("an upkeep");
    }
    let live = engine.facts("ns").expect("facts").bytes;
    let held: u64 = engine.segment_facts().expect("facts").values().map(|segment| segment.bytes).sum();
    // Each owner's last segment is not emptied while it is written to.
    assert!(held <= live * 5 / 4 + 2 * (1 << 20), "{held} bytes for {live}");
    assert!((0..50).all(|number| served(&engine, &id_key(&format!("row{number}")), 0).is_some()));
}

#[test]
fn rows_that_are_too_old_are_removed_by_the_upkeep() {
    let home = Home::new();
    let engine = home.open(0);
    fill(&engine, "a", "x", 0);
    fill(&engine, "b", "x", TTL_MS / 2);
    for _ in 0..3 {
        engine.maintain(TTL_MS).expect("an upkeep");
    }
    let facts = engine.facts("ns").expect("facts");
    assert_eq!((facts.rows, facts.lost), (1, 1));
    engine.set_ttl(1);
    assert!(matches!(look(&engine, b"\x02b", TTL_MS), Lookup::Ticket(_)));
}

#[test]
fn a_row_whose_segment_somebody_removed_is_missing_and_can_be_filled_again() {
    let home = Home::new();
    let engine = home.open(1_000);
    fill(&engine, "mapped", "short", 1_000);
    assert!(served(&engine, &id_key("mapped"), 1_000).is_some());
    // Beyond what the mapping knows of the file; a batch's snapshot may be that much older than the file's removal.
    fill(&engine, "appended", "short", 1_000);
    for path in segments(&home.0) {
        fs::remove_file(path).expect("a file");
    }
    assert!(matches!(look(&engine, &id_key("appended"), 1_000), Lookup::Ticket(0)));
    assert!(ticket(&engine, &id_key("appended"), 1_000) > 0);
    let keys = [id_key("mapped"), id_key("appended")];
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let found = engine.lookup_many("ns", &keys, &Projection::Plain, 1_000, true, |looked, _| *looked);
    assert_eq!(found.expect("a batch").expect("answers")[0], Looked::Hit);
}
