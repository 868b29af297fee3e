//! The namespace's own record: which epoch it is in, and which writes with unknown ids are open.

use std::collections::HashMap;
use std::time::Instant;

use aerospike::{Expiration, Record};
use parking_lot::Mutex;

use crate::error::Failure;
use crate::guard::Guard;
use crate::layout::{head_bins, read_head, write_head, Head, Place, EPOCH_BITS};
use crate::state::live;
use crate::store::{Expect, Store, Write, Written};

/// Tries at one compare-and-set before the operation fails.
pub const CAS_TRIES_MAX: usize = 16;
/// Namespaces whose epoch is remembered between calls; past it all are forgotten, which costs a call each.
const REMEMBERED_MAX: usize = 100_000;
/// A namespace that nobody uses for this long is forgotten by the server, so that names that were only ever asked for
/// once do not pile up. It begins a new epoch when it is used again.
const IDLE_SECONDS_MIN: u32 = 30 * 86_400;

/// What a namespace's record says to an operation that has just read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// There is none, or it began before the cluster lost something, or a write with unknown ids ran out: no row may
    /// be served, and the next write to the cache begins an epoch.
    Void,
    /// A write whose ids are not known is open: every id counts as marked.
    Closed {
        epoch: u64,
    },
    Open {
        epoch: u64,
    },
}

pub fn standing(head: Option<&Head>, cluster: &str, now_ms: u64) -> Standing {
    match head {
        Some(head) if head.cluster == cluster => {
            let count = live(&head.entries, now_ms).count();
            if count < head.entries.len() {
                Standing::Void
            } else if count > 0 {
                Standing::Closed { epoch: head.epoch }
            } else {
                Standing::Open { epoch: head.epoch }
            }
        }
        _ => Standing::Void,
    }
}

/// A namespace's record as it was left by an operation.
pub struct Renewed {
    pub epoch: u64,
    /// Whether this operation began the epoch.
    pub begun: bool,
    pub closed: bool,
    pub moment: u64,
}

/// Reads and changes namespaces' records.
pub struct Heads {
    /// Shares of the capacity, of namespaces that have one.
    capacities: Mutex<HashMap<String, u64>>,
    /// Epochs as they were last seen, to guess which counts a call will change.
    epochs: Mutex<HashMap<String, u64>>,
    idle: u32,
}

impl Heads {
    pub fn new(ttl_seconds: u32) -> Self {
        Self {
            capacities: Mutex::default(),
            epochs: Mutex::default(),
            idle: IDLE_SECONDS_MIN.max(ttl_seconds.saturating_mul(2)),
        }
    }

    pub fn idle_seconds(&self) -> u32 {
        self.idle
    }

    pub fn last_epoch(&self, place: &Place) -> Option<u64> {
        self.epochs.lock().get(&place.name).copied()
    }

    pub fn learn_epoch(&self, place: &Place, epoch: u64) {
        let mut epochs = self.epochs.lock();
        if epochs.get(&place.name) != Some(&epoch) {
            if epochs.len() >= REMEMBERED_MAX {
                epochs.clear();
            }
            epochs.insert(place.name.clone(), epoch);
        }
    }

    /// 0: no bound of its own.
    pub fn capacity(&self, place: &Place) -> u64 {
        self.capacities.lock().get(&place.name).copied().unwrap_or(0)
    }

    pub fn learn_capacity(&self, place: &Place, bytes: u64) {
        let mut capacities = self.capacities.lock();
        if bytes == 0 {
            capacities.remove(&place.name);
        } else if capacities.get(&place.name) != Some(&bytes) {
            capacities.insert(place.name.clone(), bytes);
        }
    }

    /// Makes the record say what `plan` wants; None: it says so already. `plan` is given the record and whether it is
    /// void; a void one is given as what it has to become.
    pub async fn change(
        &self,
        store: &Store,
        guard: &Guard,
        place: &Place,
        (now_ms, never): (u64, bool),
        deadline: Instant,
        plan: impl Fn(&Head, bool) -> Option<Head> + Sync,
    ) -> Result<Renewed, Failure> {
        for _ in 0..CAS_TRIES_MAX {
            // The quiet time of the key was begun by the operation that this is part of.
            let cluster = guard.key(store).await?.text;
            let mut found = store.read(vec![(place.head()?, head_bins())], None, deadline).await?;
            let record = found.pop().flatten();
            let head = record.as_ref().and_then(read_head);
            let is_void = standing(head.as_ref(), &cluster, now_ms) == Standing::Void;
            if head.as_ref().is_some_and(|head| head.cluster != cluster) {
                // Somebody may know a newer key than this process.
                let newer = guard.key_since(store, Some(Instant::now())).await?;
                if newer.text != cluster {
                    if !newer.is_noted {
                        return Err(Failure::Unstable);
                    }
                    continue;
                }
            }
            let current = match &head {
                Some(head) if !is_void => head.clone(),
                Some(head) => {
                    let entries = live(&head.entries, now_ms).collect();
                    Head { cluster, entries, ..next_epoch(head, now_ms) }
                }
                None => Head { cluster, epoch: new_epoch(), begun_ms: now_ms, ..Head::default() },
            };
            let renewed = |head: &Head| Renewed {
                epoch: head.epoch,
                begun: is_void,
                closed: live(&head.entries, now_ms).next().is_some(),
                moment: head.moment,
            };
            let planned = plan(&current, is_void);
            if planned.is_none() && !is_void && !self.is_waning(record.as_ref()) {
                return Ok(renewed(&current));
            }
            let next = planned.unwrap_or(current);
            let write = Write {
                key: place.head()?,
                operations: write_head(&next),
                expect: record.as_ref().map_or(Expect::Absent, |record| Expect::Replaces(record.generation)),
                same: head.as_ref().map(Head::same_epoch),
                bytes: 0,
                expiration: if never { Expiration::Never } else { Expiration::Seconds(self.idle) },
            };
            match store.write(vec![write], deadline).await?.pop() {
                Some(Written::Done) => return Ok(renewed(&next)),
                Some(Written::Failed(failure)) => return Err(failure),
                Some(Written::Changed | Written::TooLarge) | None => {}
            }
        }
        Err(Failure::Contended)
    }

    /// Whether the server will soon forget a record that is in use.
    fn is_waning(&self, record: Option<&Record>) -> bool {
        let left = record.and_then(Record::time_to_live);
        left.is_some_and(|left| left.as_secs() < u64::from(self.idle / 2))
    }
}

/// The same namespace in a new epoch.
pub fn next_epoch(head: &Head, now_ms: u64) -> Head {
    Head { epoch: new_epoch(), begun_ms: now_ms, note: Vec::new(), note_lost: 0, ..head.clone() }
}

fn new_epoch() -> u64 {
    rand::random_range(1..1_u64 << EPOCH_BITS)
}
