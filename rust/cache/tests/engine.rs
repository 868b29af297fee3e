//! The engine on a real directory: restarts, crashes, several engines at once.

mod stage;

use std::fs;

use hevlayer_cache::{CacheError, Call, Engine, Looked, Lookup, Options, Outcome, Projection, Rows};
use stage::{
    clear, fill, fill_with, id_key, is_shut, look, mark, rows, served, settle, ticket, Home, A, KEY, TTL_MS, UNKNOWN_MS,
};

#[test]
fn rows_outlive_a_clean_stop_a_crash_and_a_clean_reboot() {
    let home = Home::new();
    {
        let engine = home.open(0);
        assert_eq!(fill(&engine, "a", "x", 0), 1);
        engine.close(0).expect("a close");
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
    assert!(is_shut(&home.open(1), KEY, 1));
    let engine = home.open(2);
    assert!(is_shut(&engine, KEY, UNKNOWN_MS));
    assert_eq!(fill(&engine, "a", "y", UNKNOWN_MS + 1), 1);
}

#[test]
fn a_write_in_flight_at_a_crash_stays_marked_for_its_time() {
    let home = Home::new();
    {
        let engine = home.open(0);
        fill(&engine, "a", "x", 0);
        fill(&engine, "b", "x", 0);
        mark(&engine, 7, Some(vec![KEY]), 10);
    }
    let engine = home.open(1);
    assert!(is_shut(&engine, KEY, 1));
    assert!(is_shut(&engine, KEY, UNKNOWN_MS));
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
            mark(&engine, 7, Some(vec![KEY]), 10_000);
            assert!(settle(&engine, 7, outcome, None, 0));
        }
        let engine = home.open(1);
        assert_eq!(served(&engine, KEY, 1).is_some(), back, "{outcome:?}");
        assert_eq!(is_shut(&engine, KEY, 1), outcome == Outcome::Unknown, "{outcome:?}");
    }
}

#[test]
fn a_row_that_was_written_through_outlives_a_crash() {
    let home = Home::new();
    {
        let engine = home.open(0);
        mark(&engine, 7, Some(vec![KEY]), 10_000);
        assert!(settle(&engine, 7, Outcome::Applied, Some(rows("a", "x")), 0));
    }
    assert_eq!(served(&home.open(1), KEY, 1).as_deref(), Some(A));
}

#[test]
fn a_clear_and_a_namespace_write_outlive_a_crash() {
    let home = Home::new();
    {
        let engine = home.open(0);
        fill(&engine, "a", "x", 0);
        clear(&engine);
    }
    {
        let engine = home.open(1);
        assert_eq!(fill(&engine, "a", "y", 1), 1);
        mark(&engine, 8, None, 10_000);
    }
    let engine = home.open(2);
    assert!(is_shut(&engine, KEY, 2));
    ticket(&engine, KEY, 2 + UNKNOWN_MS);
}

#[test]
fn rows_of_another_upstream_are_thrown_away() {
    let home = Home::new();
    fill(&home.open(0), "a", "x", 0);
    let options = Options { identity: "https://other".to_owned(), ..home.options() };
    let engine = Engine::open(&options, 1).expect("an engine");
    assert!(served(&engine, KEY, 1).is_none());
    // Nor can two upstreams' rows stand in one directory at a time.
    assert!(matches!(Engine::open(&home.options(), 1), Err(CacheError::Locked)));
}

#[test]
fn engines_on_one_directory_agree_at_once() {
    let home = Home::new();
    let (one, other) = (home.open(0), home.open(0));
    assert_eq!(fill(&one, "a", "x", 0), 1);
    assert_eq!(served(&other, KEY, 0).as_deref(), Some(A));
    let early = ticket(&other, b"\x02b", 0);
    mark(&one, 1, Some(vec![KEY, b"\x02b"]), 10_000);
    assert!(is_shut(&other, KEY, 0));
    assert!(settle(&other, 1, Outcome::Applied, Some(rows("a", "y")), 0), "any engine may end a write");
    assert!(served(&one, KEY, 0).expect("a row").contains(r#""t":"y""#));
    assert_eq!(fill_with(&other, "b", "old", early, 0), 0, "a read from before the write");
    one.owe(1, Some(&["ns".to_owned()]));
    assert!(is_shut(&other, KEY, 0));
    one.owe(1, Some(&[]));
    assert!(served(&other, KEY, 0).is_some());
    clear(&other);
    assert!(served(&one, KEY, 0).is_none());
}

#[test]
fn the_marks_and_debts_of_an_engine_that_is_gone_are_taken_over() {
    let home = Home::new();
    let (one, other) = (home.open(0), home.open(0));
    fill(&one, "a", "x", 0);
    fill(&one, "b", "x", 0);
    mark(&other, 1, Some(vec![KEY]), 10);
    drop(other);
    one.maintain(0).expect("an upkeep");
    assert!(is_shut(&one, KEY, UNKNOWN_MS - 1), "its own deadline counts no more: the write may be on its way");
    assert!(served(&one, b"\x02b", 0).is_some());
    ticket(&one, KEY, UNKNOWN_MS);
    let third = home.open(0);
    third.owe(5, Some(&["ns".to_owned()]));
    drop(third);
    one.maintain(0).expect("an upkeep");
    assert!(is_shut(&one, b"\x02b", 0), "what it owed may be on its way");
    ticket(&one, b"\x02b", UNKNOWN_MS);
}

#[test]
fn what_an_engine_owed_of_a_namespace_that_is_not_known_yet_closes_it_too() {
    let home = Home::new();
    let (one, other) = (home.open(0), home.open(0));
    let early = ticket(&one, KEY, 0);
    other.owe(5, Some(&["ns".to_owned()]));
    drop(other);
    one.maintain(0).expect("an upkeep");
    assert!(is_shut(&one, KEY, UNKNOWN_MS - 1), "what it owed may be on its way");
    assert_eq!(fill_with(&one, "a", "x", early, 0), 0);
    assert_eq!(fill_with(&one, "a", "x", early, UNKNOWN_MS), 0, "it was asked for before what was owed was committed");
    assert_eq!(fill(&one, "a", "y", UNKNOWN_MS), 1);
}

#[test]
fn what_is_owed_is_not_served_by_a_later_process() {
    let home = Home::new();
    {
        let engine = home.open(0);
        fill(&engine, "a", "x", 0);
        engine.owe(1, None);
        engine.close(0).expect("a close");
    }
    assert!(served(&home.open(1), KEY, 1).is_none());
    {
        let engine = home.open(2 * UNKNOWN_MS);
        fill(&engine, "a", "x", 2 * UNKNOWN_MS);
        engine.owe(1, None);
        engine.owe(1, Some(&[]));
    }
    assert!(served(&home.open(2 * UNKNOWN_MS), KEY, 2 * UNKNOWN_MS).is_some());
}

#[test]
fn a_state_file_of_any_bytes_is_opened() {
    let home = Home::new();
    fill(&home.open(0), "a", "x", 0);
    fs::write(home.0.join("state"), b"\xff\xfe\x00").expect("a state");
    assert!(served(&home.open(1), KEY, 1).is_none());
}

#[test]
fn a_directory_without_its_state_is_not_believed() {
    let home = Home::new();
    fill(&home.open(0), "a", "x", 0);
    fs::remove_file(home.0.join("state")).expect("a removal");
    let engine = home.open(1);
    assert!(is_shut(&engine, KEY, 1), "writes may be open of which nothing is known");
    assert_eq!(fill(&engine, "a", "y", 1 + UNKNOWN_MS), 1);
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
    engine.close(0).expect("a close");
    engine.close(0).expect("a second close");
    assert!(matches!(engine.lookup("ns", KEY, &Projection::Plain, None, 0, true), Err(CacheError::Closed)));
    let marked = engine.call(Call::Mark { token: 1, namespace: "ns".into(), keys: None, deadline_ms: 0 });
    assert!(matches!(marked, Err(CacheError::Closed)));
    drop(engine);
    assert!(matches!(look(&home.open(1), KEY, 1), Lookup::Ticket(_)));
}

#[test]
fn a_batch_gives_what_its_look_ups_give_in_the_order_of_the_keys() {
    let home = Home::new();
    let engine = home.open(0);
    let names: Vec<String> = (0..40).map(|number| format!("row{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        // Every third is missing; some are long.
        if number % 3 != 0 {
            fill(&engine, name, &"x".repeat(if number % 2 == 0 { 5_000 } else { number }), 0);
        }
    }
    mark(&engine, 1, Some(vec![b"\x02row7", b"\x02row9"]), TTL_MS);
    let keys: Vec<Vec<u8>> = names.iter().rev().map(|name| id_key(name)).collect();
    let wanted: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    for wait in [true, false] {
        let made =
            engine.lookup_many("ns", &wanted, &Projection::Plain, 0, wait, |looked, text| (*looked, text.to_vec()));
        let made = made.expect("look-ups").expect("rows that are in memory");
        for (key, (looked, text)) in wanted.iter().zip(made) {
            match look(&engine, key, 0) {
                Lookup::Hit(document) => assert_eq!((looked, text), (Looked::Hit, document)),
                Lookup::Ticket(ticket) => assert_eq!(looked, Looked::Ticket(ticket)),
                Lookup::WouldWait => panic!("it waits"),
            }
        }
    }
    let none = engine.lookup_many("none", &wanted[..2], &Projection::Plain, 0, true, |looked, _| *looked);
    assert!(none.expect("look-ups").expect("tickets").iter().all(|looked| matches!(looked, Looked::Ticket(1..))));
}

#[test]
fn a_scan_during_which_a_debt_is_repaid_shows_nothing_from_before() {
    let home = Home::new();
    let engine = home.open(1_000);
    // As many as a scan looks at before it asks whether to go on.
    let listed: Vec<_> = (0..4_100).map(|id| format!(r#"{{"id":"{id}","t":"old"}}"#)).collect();
    let rows = Rows::read(format!(r#"{{"rows":[{}]}}"#, listed.join(",")).as_bytes(), &[]).expect("rows");
    let ticket = engine.begin_fill("ns", 1_000).expect("a ticket");
    let call = Call::FillPage { namespace: "ns".into(), rows: rows.into(), ticket, now_ms: 1_000 };
    assert_eq!(engine.call(call).expect("a page").put, 4_100);
    // A write that could not be marked was acknowledged; the scan begins after that.
    engine.owe(1, Some(&["ns".to_owned()]));
    let repay = || {
        clear(&engine);
        engine.owe(1, Some(&[]));
        false
    };
    assert!(matches!(engine.scan("ns", 1_000, &repay), Err(CacheError::Busy)));
}
