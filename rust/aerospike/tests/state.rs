//! What a mark, a settle and a time do to one id's record.

use hevlayer_aerospike::layout::{check_set_prefix, Head, Place, Ticket, SETS};
use hevlayer_aerospike::state::{
    plan_mark, plan_settle, read_entries, write_entries, Bytes, Change, End, Entry, Kind, Readable, Settle, Slot,
    Wholes, ENTRIES_MAX,
};

const NOW: u64 = 1_000_000;
const TTL: u64 = 10_000;
const OPEN: Wholes = Wholes { moment: 3, open: false };
const CLOSED: Wholes = Wholes { moment: 3, open: true };
const ENDS: [End; 5] = [End::Row, End::Gone, End::Applied, End::Refused, End::Unknown { until_ms: NOW + 5 }];

fn entry(token: u64, wholes: Wholes) -> Entry {
    Entry { token, until_ms: NOW + 100, whole: wholes.at_mark() }
}

fn row() -> Slot {
    let filled_ms = NOW - 10;
    Slot { kind: Kind::Row, entries: vec![], filled_ms, moment: 1, bytes: 9, nonce: 7, is_current: true }
}

/// The record after a change, as a later read sees it.
fn after(slot: Option<&Slot>, change: &Change) -> Slot {
    let filled_ms = match change.bytes {
        Bytes::Keep => slot.map_or(0, |slot| slot.filled_ms),
        Bytes::Drop => 0,
        Bytes::Hole => 1,
        Bytes::New => NOW,
    };
    Slot {
        kind: change.kind,
        entries: change.entries.clone(),
        filled_ms,
        moment: 2,
        bytes: 9,
        nonce: 8,
        is_current: true,
    }
}

fn marked(slot: Option<&Slot>, token: u64, wholes: Wholes) -> Slot {
    let change = plan_mark(slot, entry(token, wholes), NOW);
    change.map_or_else(|| slot.cloned().unwrap_or_else(row), |change| after(slot, &change))
}

fn settled(slot: &Slot, token: u64, end: End, wholes: Wholes) -> (Slot, bool) {
    let Settle { change, found } = plan_settle(Some(slot), token, end, wholes, NOW);
    (change.map_or_else(|| slot.clone(), |change| after(Some(slot), &change)), found)
}

#[test]
fn a_mark_hides_whatever_is_there_until_its_time_is_over() {
    let gone = Slot { kind: Kind::Gone, filled_ms: 0, ..row() };
    for before in [None, Some(row()), Some(gone), Some(marked(Some(&row()), 9, OPEN))] {
        let slot = marked(before.as_ref(), 1, OPEN);
        assert_eq!(slot.readable(NOW, TTL), Readable::Marked);
        assert_eq!(slot.readable(NOW + 100, TTL), Readable::Empty);
    }
}

#[test]
fn a_write_alone_ends_as_it_did() {
    let slot = marked(Some(&row()), 1, OPEN);
    let kinds = ENDS.map(|end| settled(&slot, 1, end, OPEN));
    assert_eq!(kinds.each_ref().map(|(slot, _)| slot.kind), [Kind::Row, Kind::Gone, Kind::Hole, Kind::Row, Kind::Mark]);
    assert!(kinds.iter().all(|(_, found)| *found));
    assert_eq!(kinds[0].0.filled_ms, NOW);
    assert_eq!(kinds[3].0.filled_ms, NOW - 10);
    assert!(!kinds[4].0.has_row());
}

#[test]
fn writes_that_met_leave_nothing_whatever_their_ends() {
    for first in ENDS {
        for second in ENDS {
            let both = marked(Some(&marked(Some(&row()), 1, OPEN)), 2, OPEN);
            let (one, _) = settled(&both, 1, first, OPEN);
            assert_eq!(one.readable(NOW, TTL), Readable::Marked);
            let (none, _) = settled(&one, 2, second, OPEN);
            assert_ne!(none.readable(NOW, TTL), Readable::Row, "{first:?} {second:?}");
            assert!(!none.has_row());
        }
    }
}

#[test]
fn a_write_that_met_one_of_unknown_ids_leaves_nothing() {
    let later = Wholes { moment: 4, open: false };
    for (at_mark, at_settle) in [(OPEN, CLOSED), (CLOSED, CLOSED), (CLOSED, OPEN), (OPEN, later)] {
        for end in ENDS {
            let (slot, found) = settled(&marked(Some(&row()), 1, at_mark), 1, end, at_settle);
            assert!(found);
            assert_ne!(slot.kind, Kind::Row, "{at_mark:?} {at_settle:?} {end:?}");
        }
    }
}

#[test]
fn a_settle_without_its_mark_says_so_and_leaves_nothing_unless_refused() {
    for end in ENDS {
        for slot in [None, Some(row())] {
            let Settle { change, found } = plan_settle(slot.as_ref(), 1, end, OPEN, NOW);
            assert!(!found);
            match end {
                End::Refused => assert_eq!(change, None),
                _ => assert!(change.is_some_and(|change| change.kind != Kind::Row)),
            }
        }
    }
}

#[test]
fn a_mark_past_the_bound_is_never_ended_early() {
    let mut slot = marked(None, 1, OPEN);
    let count = ENTRIES_MAX as u64 + 5;
    for token in 2..=count {
        slot = marked(Some(&slot), token, OPEN);
    }
    assert_eq!(slot.entries.len(), ENTRIES_MAX);
    for token in 1..=count {
        slot = settled(&slot, token, End::Applied, OPEN).0;
        assert_eq!(slot.readable(NOW, TTL), Readable::Marked);
    }
    assert_eq!(slot.readable(NOW + 100, TTL), Readable::Empty);
}

#[test]
fn entries_are_read_as_they_were_written() {
    let entries = vec![entry(1, OPEN), entry(u64::MAX, CLOSED)];
    assert_eq!(read_entries(&write_entries(&entries)), Some(entries));
    assert_eq!(read_entries(&[0; 23]), None);
}

#[test]
fn keys_of_different_names_and_ids_differ() {
    let keys = [
        ("", "a", "bc"),
        ("", "ab", "c"),
        ("", "", "abc"),
        ("", "abc", ""),
        ("", "a", "b\0c"),
        ("a", "", "bc"),
        ("a", "b", "c"),
    ];
    let mut digests: Vec<_> = keys
        .iter()
        .filter_map(|(scope, name, id)| Place::new("test", "p", scope, name).row(id.as_bytes()).ok())
        .map(|key| key.digest)
        .collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), keys.len());
}

#[test]
fn sets_are_few_and_their_names_are_what_the_server_takes() {
    let prefix = "p".repeat(59);
    let names: std::collections::HashSet<_> =
        (0..20_000).map(|number| Place::new("test", &prefix, "scope", &format!("namespace {number};")).set).collect();
    assert!(names.len() as u64 <= SETS);
    assert!(names.iter().all(|name| name.len() <= 63 && name.bytes().all(|byte| byte != b';')));
    assert!(check_set_prefix(&prefix).is_ok());
    for wrong in ["", "a;b", "a b", &"p".repeat(60)] {
        assert!(check_set_prefix(wrong).is_err());
    }
}

#[test]
fn a_ticket_is_of_one_epoch_one_write_of_unknown_ids_and_one_state() {
    let head = Head { epoch: 1, whole_moment: 2, ..Head::default() };
    let ticket = Ticket::new(&head, 3);
    assert!(ticket.to_number() > 0);
    assert_eq!(Ticket::from_number(ticket.to_number()), Some(ticket));
    assert_ne!(ticket, Ticket::new(&head, 4));
    assert_ne!(ticket, Ticket::new(&Head { epoch: 2, ..head.clone() }, 3));
    assert_ne!(ticket, Ticket::new(&Head { whole_moment: 3, ..head }, 3));
    assert_eq!(Ticket::from_number(-1), None);
}
