//! The state in memory: which rows are where, which ids are marked, which writes are open.
//!
//! No clock, no files: time is an argument and places are only remembered. A replay of the log drives the same
//! functions, so what a restart finds is what was there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;

use crate::fences::Fences;
use crate::log::Place;

/// With more namespaces the empty ones are forgotten.
const NAMESPACES_MAX: usize = 100_000;

pub type Key = Box<[u8]>;

/// How a write ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The upstream acknowledged it.
    Applied,
    /// It certainly had no effect.
    Refused,
    /// It may have had an effect, or may yet have one.
    Unknown,
}

/// A row in the log.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub place: Place,
    pub prefix_bytes: u32,
    pub tail_bytes: u32,
    pub filled_ms: u64,
    /// Read since it was filled or last passed over by a trim.
    pub referenced: bool,
}

impl Slot {
    fn bytes(&self) -> u64 {
        u64::from(self.prefix_bytes) + u64::from(self.tail_bytes)
    }
}

/// Ids of open writes. The row that was there is kept beneath, for the case that all of it was refused.
#[derive(Debug, Default)]
struct Guard {
    writes: u32,
    beneath: Option<Slot>,
    contended: bool,
}

#[derive(Debug, Default)]
pub struct Namespace {
    rows: HashMap<Key, Slot>,
    guards: HashMap<Key, Guard>,
    /// Reads that began before it may not fill.
    fence: u64,
    /// Open writes whose ids are not known.
    closed_by: u32,
    bytes: u64,
}

impl Namespace {
    fn is_idle(&self) -> bool {
        self.rows.is_empty() && self.guards.is_empty() && self.closed_by == 0
    }
}

/// A write from its mark to its definite end.
#[derive(Debug)]
pub struct Write {
    pub namespace: Box<str>,
    /// None: any row of the namespace.
    pub keys: Option<Vec<Key>>,
    pub deadline_ms: u64,
    pub unknown: bool,
    /// The segment that holds its mark.
    pub segment: u32,
}

/// What a lookup finds.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    Row(Slot),
    /// Nothing; a read that begins now may fill with this ticket.
    Empty(u64),
    /// Nothing that may be served or filled: a write is open.
    Marked,
}

#[derive(Debug, Default)]
pub struct Table {
    namespaces: HashMap<Box<str>, Namespace>,
    writes: HashMap<u64, Write>,
    deadlines: BinaryHeap<Reverse<(u64, u64)>>,
    fences: Fences,
    floor: u64,
    rows: u64,
}

/// What a namespace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceState {
    pub rows: u64,
    pub bytes: u64,
    pub marked: u64,
    pub closed: bool,
}

impl Table {
    pub fn lookup(&mut self, namespace: &str, key: &[u8], now_ms: u64, ttl_ms: u64) -> Found {
        let ticket = self.fences.now();
        let Some(held) = self.namespaces.get_mut(namespace) else {
            return Found::Empty(ticket);
        };
        if held.closed_by > 0 || (!held.guards.is_empty() && held.guards.contains_key(key)) {
            return Found::Marked;
        }
        let Some(slot) = held.rows.get_mut(key) else {
            return Found::Empty(ticket);
        };
        if now_ms.saturating_sub(slot.filled_ms) >= ttl_ms {
            let bytes = slot.bytes();
            held.rows.remove(key);
            held.bytes -= bytes;
            self.rows -= 1;
            return Found::Empty(ticket);
        }
        slot.referenced = true;
        Found::Row(*slot)
    }

    /// The last moment at which something was done to `key`. Reads of one generation may share one answer.
    pub fn generation(&self, namespace: &str, key: &[u8]) -> u64 {
        let fence = self.namespaces.get(namespace).map_or(0, |held| held.fence);
        fence.max(self.floor).max(self.fences.touched(namespace, key))
    }

    /// Whether a read that began with `ticket` may put `key` now.
    pub fn may_fill(&self, namespace: &str, key: &[u8], ticket: u64) -> bool {
        if ticket < self.generation(namespace, key) {
            return false;
        }
        self.namespaces
            .get(namespace)
            .is_none_or(|held| held.closed_by == 0 && !held.guards.contains_key(key) && !held.rows.contains_key(key))
    }

    /// Puts a row, unless its id is marked.
    pub fn put(&mut self, namespace: &str, key: &[u8], slot: Slot) {
        let held = self.namespace(namespace);
        if held.closed_by > 0 || held.guards.contains_key(key) {
            return;
        }
        held.bytes += slot.bytes();
        match held.rows.insert(key.into(), slot) {
            Some(before) => held.bytes -= before.bytes(),
            None => self.rows += 1,
        }
    }

    fn namespace(&mut self, name: &str) -> &mut Namespace {
        if !self.namespaces.contains_key(name) {
            if self.namespaces.len() >= NAMESPACES_MAX {
                self.namespaces.retain(|_, held| !held.is_idle());
                // With a namespace goes its fence: reads under way in any namespace are too old from here on.
                self.floor = self.fences.tick();
            }
            self.namespaces.insert(name.into(), Namespace::default());
        }
        self.namespaces.entry_ref(name).or_default()
    }

    /// Marks the ids of a write (None: the whole namespace). A token that is already open changes nothing.
    pub fn begin(&mut self, token: u64, write: Write) {
        if self.writes.contains_key(&token) {
            return;
        }
        let name = write.namespace.clone();
        if let Some(keys) = &write.keys {
            for key in keys {
                self.fences.touch(&name, key);
            }
            let mut dropped = 0;
            let held = self.namespace(&name);
            for key in keys {
                let beneath = held.rows.remove(key);
                if let Some(slot) = &beneath {
                    held.bytes -= slot.bytes();
                    dropped += 1;
                }
                let guard = held.guards.entry_ref(key.as_ref()).or_default();
                guard.writes += 1;
                guard.contended |= guard.writes > 1;
                guard.beneath = if guard.contended { None } else { beneath };
            }
            self.rows -= dropped;
        } else {
            let fence = self.fences.tick();
            let held = self.namespace(&name);
            held.closed_by += 1;
            held.fence = fence;
        }
        self.deadlines.push(Reverse((write.deadline_ms, token)));
        self.writes.insert(token, write);
    }

    /// Ends a write. False when the token is not open: its mark was lost or ran out. Rows that are dropped with a
    /// namespace are handed back, to be freed outside any lock.
    pub fn settle(&mut self, token: u64, outcome: Outcome, unknown_until_ms: u64) -> (bool, Option<Namespace>) {
        if outcome == Outcome::Unknown {
            return self.hold(token, unknown_until_ms);
        }
        let Some(write) = self.writes.remove(&token) else {
            return (false, None);
        };
        let restore = outcome == Outcome::Refused;
        if let Some(keys) = &write.keys {
            for key in keys {
                self.fences.touch(&write.namespace, key);
            }
            let mut restored = 0;
            let held = self.namespace(&write.namespace);
            for key in keys {
                let Some(guard) = held.guards.get_mut(key) else {
                    continue;
                };
                guard.writes -= 1;
                guard.contended |= !restore;
                if guard.writes > 0 {
                    continue;
                }
                let beneath = held.guards.remove(key).and_then(|guard| guard.beneath.filter(|_| !guard.contended));
                if let Some(slot) = beneath {
                    held.bytes += slot.bytes();
                    held.rows.insert(key.clone(), slot);
                    restored += 1;
                }
            }
            self.rows += restored;
            return (true, None);
        }
        self.namespace(&write.namespace).closed_by -= 1;
        let dropped = if restore { None } else { Some(self.clear(&write.namespace)) };
        (true, dropped)
    }

    fn hold(&mut self, token: u64, until_ms: u64) -> (bool, Option<Namespace>) {
        let Some(write) = self.writes.get_mut(&token) else {
            return (false, None);
        };
        write.unknown = true;
        write.deadline_ms = until_ms;
        self.deadlines.push(Reverse((until_ms, token)));
        let name = write.namespace.clone();
        if let Some(keys) = &write.keys {
            if let Some(held) = self.namespaces.get_mut(&name) {
                for key in keys {
                    if let Some(guard) = held.guards.get_mut(key) {
                        guard.contended = true;
                        guard.beneath = None;
                    }
                }
            }
            return (true, None);
        }
        let dropped = self.clear(&name);
        (true, Some(dropped))
    }

    /// Forgets every row of a namespace and refuses the fills of reads that began before. Marks stay.
    pub fn clear(&mut self, namespace: &str) -> Namespace {
        let fence = self.fences.tick();
        let held = self.namespace(namespace);
        held.fence = fence;
        let dropped = Namespace { rows: std::mem::take(&mut held.rows), ..Namespace::default() };
        held.bytes = 0;
        for guard in held.guards.values_mut() {
            guard.beneath = None;
        }
        self.rows -= dropped.rows.len() as u64;
        dropped
    }

    /// Tokens of writes whose time is over, each once; the caller settles them.
    pub fn overdue(&mut self, now_ms: u64) -> Vec<u64> {
        let mut tokens = Vec::new();
        while let Some(Reverse((deadline_ms, token))) = self.deadlines.peek().copied() {
            if deadline_ms > now_ms {
                break;
            }
            self.deadlines.pop();
            if self.writes.get(&token).is_some_and(|write| write.deadline_ms == deadline_ms) {
                tokens.push(token);
            }
        }
        tokens
    }

    /// Whether any write's time may be over; cheap enough for each call.
    pub fn has_overdue(&self, now_ms: u64) -> bool {
        self.deadlines.peek().is_some_and(|Reverse((deadline_ms, _))| *deadline_ms <= now_ms)
    }

    /// Gives every open write of an earlier process until `until_ms`; it may yet take effect.
    pub fn adopt(&mut self, until_ms: u64) {
        for (token, write) in &mut self.writes {
            if !write.unknown {
                write.deadline_ms = until_ms;
                self.deadlines.push(Reverse((until_ms, *token)));
            }
        }
    }

    pub fn write(&self, token: u64) -> Option<&Write> {
        self.writes.get(&token)
    }

    /// Open writes whose mark stands in `segment` or an older one.
    pub fn writes_up_to(&self, segment: u32) -> Vec<u64> {
        self.writes.iter().filter(|(_, write)| write.segment <= segment).map(|(token, _)| *token).collect()
    }

    pub fn moved(&mut self, token: u64, segment: u32) {
        if let Some(write) = self.writes.get_mut(&token) {
            write.segment = segment;
        }
    }

    pub fn slot(&mut self, namespace: &str, key: &[u8]) -> Option<&mut Slot> {
        self.namespaces.get_mut(namespace)?.rows.get_mut(key)
    }

    /// Forgets a row, or what is beneath a mark, if it stands at `place`.
    pub fn evict(&mut self, namespace: &str, key: &[u8], place: Place) {
        let Some(held) = self.namespaces.get_mut(namespace) else {
            return;
        };
        if held.rows.get(key).is_some_and(|slot| slot.place == place) {
            if let Some(slot) = held.rows.remove(key) {
                held.bytes -= slot.bytes();
                self.rows -= 1;
            }
        } else if let Some(guard) = held.guards.get_mut(key) {
            guard.beneath = guard.beneath.filter(|slot| slot.place != place);
        }
    }

    /// Forgets every row that stands in a segment, also beneath a mark; returns how many rows.
    pub fn evict_segment(&mut self, segment: u32) -> u64 {
        let before = self.rows;
        for held in self.namespaces.values_mut() {
            let (rows, bytes) = (&mut held.rows, &mut held.bytes);
            rows.retain(|_, slot| {
                let stays = slot.place.segment != segment;
                if !stays {
                    *bytes -= slot.bytes();
                    self.rows -= 1;
                }
                stays
            });
            for guard in held.guards.values_mut() {
                guard.beneath = guard.beneath.filter(|slot| slot.place.segment != segment);
            }
        }
        before - self.rows
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn open_writes(&self) -> u64 {
        self.writes.len() as u64
    }

    pub fn state(&self, namespace: &str) -> NamespaceState {
        self.namespaces.get(namespace).map_or_else(NamespaceState::default, |held| NamespaceState {
            rows: held.rows.len() as u64,
            bytes: held.bytes,
            marked: held.guards.len() as u64,
            closed: held.closed_by > 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL_MS: u64 = 1000;
    const LATER_MS: u64 = 500;

    fn slot(offset: u32) -> Slot {
        let place = Place { segment: 1, offset };
        Slot { place, prefix_bytes: 10, tail_bytes: 5, filled_ms: 0, referenced: false }
    }

    fn write(keys: Option<&[&[u8]]>) -> Write {
        let keys = keys.map(|keys| keys.iter().map(|key| Key::from(*key)).collect());
        Write { namespace: "ns".into(), keys, deadline_ms: LATER_MS, unknown: false, segment: 1 }
    }

    fn ticket(table: &mut Table, key: &[u8]) -> u64 {
        match table.lookup("ns", key, 0, TTL_MS) {
            Found::Empty(ticket) => ticket,
            other => panic!("expected an empty slot, found {other:?}"),
        }
    }

    fn has_row(table: &mut Table, key: &[u8]) -> bool {
        matches!(table.lookup("ns", key, 0, TTL_MS), Found::Row(_))
    }

    #[test]
    fn a_read_that_began_before_a_write_never_fills() {
        let mut table = Table::default();
        let early = ticket(&mut table, b"a");
        table.begin(1, write(Some(&[b"a"])));
        assert!(matches!(table.lookup("ns", b"a", 0, TTL_MS), Found::Marked));
        assert!(!table.may_fill("ns", b"a", early));
        table.settle(1, Outcome::Applied, 0);
        assert!(!table.may_fill("ns", b"a", early));
        let late = ticket(&mut table, b"a");
        assert!(table.may_fill("ns", b"a", late));
    }

    #[test]
    fn a_refusal_brings_the_row_back_and_a_success_does_not() {
        for (outcome, back) in [(Outcome::Refused, true), (Outcome::Applied, false), (Outcome::Unknown, false)] {
            let mut table = Table::default();
            table.put("ns", b"a", slot(1));
            table.begin(1, write(Some(&[b"a"])));
            table.settle(1, outcome, LATER_MS);
            assert_eq!(has_row(&mut table, b"a"), back, "{outcome:?}");
        }
    }

    #[test]
    fn contended_refusals_bring_nothing_back() {
        let mut table = Table::default();
        table.put("ns", b"a", slot(1));
        table.begin(1, write(Some(&[b"a"])));
        table.begin(2, write(Some(&[b"a"])));
        table.settle(1, Outcome::Refused, 0);
        assert!(matches!(table.lookup("ns", b"a", 0, TTL_MS), Found::Marked));
        table.settle(2, Outcome::Refused, 0);
        ticket(&mut table, b"a");
    }

    #[test]
    fn an_unknown_outcome_keeps_the_mark_for_its_time() {
        let mut table = Table::default();
        table.begin(1, write(Some(&[b"a"])));
        table.settle(1, Outcome::Unknown, 900);
        assert_eq!(table.overdue(899), Vec::<u64>::new());
        assert!(matches!(table.lookup("ns", b"a", 0, TTL_MS), Found::Marked));
        assert_eq!(table.overdue(900), vec![1]);
        table.settle(1, Outcome::Applied, 0);
        ticket(&mut table, b"a");
    }

    #[test]
    fn a_namespace_write_closes_the_namespace_and_clears_it() {
        for (outcome, back) in [(Outcome::Refused, true), (Outcome::Applied, false), (Outcome::Unknown, false)] {
            let mut table = Table::default();
            table.put("ns", b"a", slot(1));
            let early = ticket(&mut table, b"b");
            table.begin(1, write(None));
            assert!(matches!(table.lookup("ns", b"a", 0, TTL_MS), Found::Marked));
            assert!(!table.may_fill("ns", b"b", early));
            table.settle(1, outcome, LATER_MS);
            assert!(!table.may_fill("ns", b"b", early));
            assert_eq!(has_row(&mut table, b"a"), back, "{outcome:?}");
            assert_eq!(table.state("ns").closed, outcome == Outcome::Unknown);
        }
    }

    #[test]
    fn marks_outlive_a_clear() {
        let mut table = Table::default();
        table.put("ns", b"a", slot(1));
        table.begin(1, write(Some(&[b"a"])));
        let _ = table.clear("ns");
        assert!(matches!(table.lookup("ns", b"a", 0, TTL_MS), Found::Marked));
        table.settle(1, Outcome::Refused, 0);
        ticket(&mut table, b"a");
    }

    #[test]
    fn a_row_runs_out() {
        let mut table = Table::default();
        table.put("ns", b"a", slot(1));
        assert!(matches!(table.lookup("ns", b"a", TTL_MS - 1, TTL_MS), Found::Row(_)));
        assert!(matches!(table.lookup("ns", b"a", TTL_MS, TTL_MS), Found::Empty(_)));
        assert_eq!((table.rows(), table.state("ns").bytes), (0, 0));
    }

    #[test]
    fn a_settle_without_a_mark_says_so() {
        let mut table = Table::default();
        assert!(!table.settle(7, Outcome::Applied, 0).0);
        assert!(!table.settle(7, Outcome::Unknown, 9).0);
    }

    #[test]
    fn a_generation_ends_with_each_mark_and_settle() {
        let mut table = Table::default();
        let first = table.generation("ns", b"a");
        table.begin(1, write(Some(&[b"a"])));
        let second = table.generation("ns", b"a");
        table.settle(1, Outcome::Applied, 0);
        let third = table.generation("ns", b"a");
        let _ = table.clear("ns");
        assert!(first < second && second < third && third < table.generation("ns", b"a"));
    }
}
