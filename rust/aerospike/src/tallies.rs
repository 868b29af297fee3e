//! Counts on their way to the store, and what the store last said.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::layout::Tally;

/// Namespaces with counts on their way; past it the oldest known counts are forgotten.
const NAMESPACES_MAX: usize = 100_000;

#[derive(Clone, Copy, Default)]
struct Entry {
    due: Tally,
    known: Tally,
}

/// By namespace and epoch.
#[derive(Default)]
pub struct Tallies(Mutex<HashMap<(String, u64), Entry>>);

impl Tallies {
    /// Notes a change that may reach the store late, because the counts are too high until then.
    pub fn later(&self, namespace: &str, epoch: u64, change: Tally) {
        if change == Tally::default() {
            return;
        }
        let mut entries = self.0.lock();
        if entries.len() >= NAMESPACES_MAX {
            entries.retain(|_, entry| entry.due != Tally::default());
        }
        entries.entry((namespace.to_owned(), epoch)).or_default().due.add(change);
    }

    /// Everything that is due, which its taker owes from now on.
    pub fn take(&self) -> Vec<(String, u64, Tally)> {
        let mut entries = self.0.lock();
        let due = entries.iter_mut().filter(|(_, entry)| entry.due != Tally::default());
        due.map(|((namespace, epoch), entry)| (namespace.clone(), *epoch, std::mem::take(&mut entry.due))).collect()
    }

    pub fn learn(&self, namespace: &str, epoch: u64, tally: Tally) {
        let mut entries = self.0.lock();
        entries.retain(|(other, older), _| other != namespace || *older == epoch);
        entries.entry((namespace.to_owned(), epoch)).or_default().known = tally;
    }

    /// The counts of every namespace that was asked about, added up.
    pub fn known(&self) -> Tally {
        let mut sum = Tally::default();
        for entry in self.0.lock().values() {
            sum.add(entry.known);
            sum.add(entry.due);
        }
        sum
    }

    /// The bytes that the namespace is known to hold.
    pub fn bytes(&self, namespace: &str, epoch: u64) -> i64 {
        let entries = self.0.lock();
        entries.get(&(namespace.to_owned(), epoch)).map_or(0, |entry| entry.known.bytes + entry.due.bytes)
    }
}
