//! What the cache holds of a namespace, what the server says of itself, and the upkeep.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::Weak;
use std::time::{Duration, Instant};

use aerospike::Expiration;

use crate::engine::{before, Engine};
use crate::error::Failure;
use crate::guard::{Key, BELIEVED, REFRESH};
use crate::heads::{standing, Standing, CAS_TRIES_MAX};
use crate::layout::{
    head_bins, read_head, read_tally, tally_bins, write_everything, Everything, Head, Tally, OWED, TALLY_PARTS,
};
use crate::state::Entry;
use crate::store::{Expect, Same, Write, Written};

/// An idle engine asks the cluster this often whether it is there.
const IDLE: Duration = Duration::from_secs(3);
/// Between tries to reach a cluster that cannot be reached.
const RECONNECT: Duration = Duration::from_secs(1);
/// Between looks at the server's limits.
const LIMITS: Duration = Duration::from_secs(10);
/// For what the upkeep asks.
const UPKEEP: Duration = Duration::from_secs(2);
/// For how long a namespace stays closed for a process that does not say any more that it must be.
pub const OWED_MS: u64 = 30_000;

/// What the cache holds of one namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// 0: there is none.
    pub epoch: u64,
    pub rows: u64,
    pub bytes: u64,
    pub marked: u64,
    pub closed: bool,
    pub holes: u64,
    pub lost: u64,
    pub note: Vec<u8>,
}

/// What the server says of the Aerospike namespace, added up over the nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Server {
    pub expires: bool,
    pub stop_writes: bool,
    pub record_bytes_max: usize,
    pub evicted: u64,
    pub bytes: u64,
    pub capacity_bytes: u64,
    pub objects: u64,
}

impl Engine {
    pub async fn facts(&self, namespace: &str, now_ms: u64, deadline: Instant) -> Result<Facts, Failure> {
        self.flush(deadline).await?;
        let place = self.place(namespace);
        let cluster = self.cluster(now_ms, deadline).await?;
        let found = self.read(vec![(place.head()?, head_bins())], None, deadline).await?;
        let head = found.into_iter().next().flatten().as_ref().and_then(read_head);
        let (epoch, closed) = match (standing(head.as_ref(), &cluster.text, now_ms), &head) {
            (Standing::Open { epoch }, Some(_)) => (epoch, false),
            (Standing::Closed { epoch }, Some(_)) => (epoch, true),
            _ => return Ok(Facts::default()),
        };
        let parts: Result<Vec<_>, Failure> =
            (0..TALLY_PARTS).map(|part| Ok((place.tally(epoch, part)?, tally_bins()))).collect();
        let mut tally = Tally::default();
        for part in self.read(parts?, None, deadline).await?.iter().flatten() {
            tally.add(read_tally(part));
        }
        self.tallies.learn(namespace, epoch, tally);
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        let head = head.unwrap_or_default();
        let lost = self.lost(&head, count(tally.lost), now_ms).await?;
        Ok(Facts {
            epoch,
            rows: count(tally.rows),
            bytes: count(tally.bytes),
            marked: count(tally.marked),
            closed,
            holes: count(tally.holes),
            lost,
            note: if head.note_lost == lost { head.note } else { Vec::new() },
        })
    }

    /// Losses of an epoch: those counted, what the server evicted since it started (of anybody's), and one for each
    /// whole life of a row that the epoch has lasted, after which rows have begun to expire unnoticed.
    async fn lost(&self, head: &Head, counted: u64, now_ms: u64) -> Result<u64, Failure> {
        let lives = now_ms.saturating_sub(head.begun_ms) / self.ttl_ms().max(1);
        Ok(counted + self.server().await?.evicted + lives)
    }

    /// Keeps a note, if the namespace's epoch and losses are these still.
    pub async fn note(
        &self,
        namespace: &str,
        note: &[u8],
        (epoch, lost): (u64, u64),
        now_ms: u64,
        deadline: Instant,
    ) -> Result<bool, Failure> {
        let facts = self.facts(namespace, now_ms, deadline).await?;
        if epoch == 0 || (facts.epoch, facts.lost) != (epoch, lost) {
            return Ok(false);
        }
        let plan = |head: &Head, void: bool| {
            (!void && head.epoch == epoch).then(|| Head { note: note.to_vec(), note_lost: lost, ..head.clone() })
        };
        let renewed = self.renew(&self.place(namespace), now_ms, deadline, plan).await?;
        Ok(renewed.epoch == epoch)
    }

    /// Bounds the namespace's share of the capacity for every gateway; 0: no bound of its own.
    pub async fn limit(
        &self,
        namespace: &str,
        capacity_bytes: u64,
        now_ms: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let plan = |head: &Head, _: bool| {
            (head.capacity_bytes != capacity_bytes).then(|| Head { capacity_bytes, ..head.clone() })
        };
        self.renew(&self.place(namespace), now_ms, deadline, plan).await?;
        self.heads.learn_capacity(&self.place(namespace), capacity_bytes);
        Ok(())
    }

    /// Until when a statement holds that nobody repeats: its process died, and a write that it could not mark may still
    /// take effect for as long as any.
    fn owed_until_ms(&self, now_ms: u64) -> u64 {
        now_ms + OWED_MS + self.unknown_write_ms() + self.clock_skew_ms
    }

    /// Closes a namespace for a process that owes it something, for as long as that says so again; or ends that.
    pub async fn owe(
        &self,
        owner: u64,
        namespace: &str,
        owed: bool,
        now_ms: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let place = self.place(namespace);
        let entry = Entry { token: owner, until_ms: self.owed_until_ms(now_ms), whole: OWED };
        if owed {
            return self.mark_whole(&place, entry, now_ms, deadline).await;
        }
        let plan = |head: &Head, _: bool| {
            let mut next = head.clone();
            next.entries.retain(|entry| entry.token != owner);
            (next != *head).then_some(next)
        };
        self.renew(&place, now_ms, deadline, plan).await.map(drop)
    }

    /// As `owe`, for every namespace. Returns once every gateway knows.
    pub async fn owe_everything(&self, owner: u64, owed: bool, now_ms: u64, deadline: Instant) -> Result<(), Failure> {
        let until_ms = self.owed_until_ms(now_ms);
        let plan = |before: &Everything| {
            let mut next = before.clone();
            next.entries.retain(|entry| entry.token != owner);
            if next.entries.iter().any(|entry| entry.until_ms <= now_ms) {
                // Its process died owing: nothing from before is to be believed.
                next.entries.retain(|entry| entry.until_ms > now_ms);
                next.salt = rand::random_range(1..1 << 62);
            }
            if owed {
                next.entries.push(Entry { token: owner, until_ms, whole: 0 });
            }
            next
        };
        let (before_it, next) = self.change_everything(plan, deadline).await?;
        if next.entries.len() > before_it.entries.len() {
            tokio::time::sleep(BELIEVED).await;
        }
        Ok(())
    }

    /// The cluster's key, whose quiet time has begun.
    pub(crate) async fn cluster(&self, now_ms: u64, deadline: Instant) -> Result<Key, Failure> {
        let key = self.guard.key(&self.store).await?;
        if key.is_noted {
            return Ok(key);
        }
        let quiet_until_ms = now_ms + self.unknown_write_ms() + self.clock_skew_ms;
        let plan = |before: &Everything| {
            if before.cluster == key.cluster {
                return before.clone();
            }
            Everything { cluster: key.cluster.clone(), quiet_until_ms, ..before.clone() }
        };
        self.change_everything(plan, deadline).await?;
        let noted = before(deadline, self.guard.key_since(&self.store, Some(Instant::now()))).await?;
        if noted.is_noted {
            Ok(noted)
        } else {
            Err(Failure::Unstable)
        }
    }

    /// Returns the record as it was and as it is.
    async fn change_everything(
        &self,
        plan: impl Fn(&Everything) -> Everything,
        deadline: Instant,
    ) -> Result<(Everything, Everything), Failure> {
        let key = self.store.everything_key()?;
        for _ in 0..CAS_TRIES_MAX {
            let before_it = before(deadline, self.store.everything()).await?;
            let next = plan(&before_it);
            if next == before_it {
                return Ok((before_it, next));
            }
            let generation = before_it.generation;
            let write = Write {
                key: key.clone(),
                operations: write_everything(&next),
                expect: if generation == 0 { Expect::Absent } else { Expect::Replaces(generation) },
                same: (generation != 0).then_some(Same { bin: "a", number: before_it.salt }),
                bytes: 0,
                expiration: Expiration::Never,
            };
            match self.write(vec![write], deadline).await?.pop() {
                Some(Written::Done) => {
                    self.guard.forget();
                    return Ok((before_it, next));
                }
                Some(Written::Failed(failure)) => return Err(failure),
                _ => {}
            }
        }
        Err(Failure::Contended)
    }

    /// Ends what processes owed that died.
    pub async fn end_owed(&self, now_ms: u64, deadline: Instant) -> Result<(), Failure> {
        let Everything { entries, .. } = before(deadline, self.store.everything()).await?;
        if entries.iter().any(|entry| entry.until_ms <= now_ms) {
            self.owe_everything(0, false, now_ms, deadline).await?;
        }
        Ok(())
    }

    /// Writes the counts that are due.
    pub async fn flush(&self, deadline: Instant) -> Result<(), Failure> {
        let mut failed = None;
        for (namespace, epoch, change) in self.tallies.take() {
            let write = self.count_write(&self.place(&namespace), epoch, change)?;
            if let Err(failure) = self.read(vec![], Some(write), deadline).await {
                self.tallies.later(&namespace, epoch, change);
                failed = Some(failure);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Asks the server about itself.
    pub async fn server(&self) -> Result<Server, Failure> {
        let namespace = &self.store.settings().namespace;
        let mut server = Server { expires: true, record_bytes_max: usize::MAX, ..Server::default() };
        for answer in self.store.info(&format!("namespace/{namespace}")).await? {
            let facts: HashMap<&str, &str> = answer.split(';').filter_map(|fact| fact.split_once('=')).collect();
            if facts.len() < 2 {
                let rule = "names no namespace of the server".to_owned();
                return Err(Failure::Setting { name: "AEROSPIKE_NAMESPACE", rule });
            }
            let number = |name: &str| facts.get(name).and_then(|text| text.parse::<u64>().ok());
            server.expires &= number("nsup-period").is_some_and(|seconds| seconds > 0);
            server.stop_writes |= facts.get("stop_writes") == Some(&"true");
            let largest = number("max-record-size").filter(|bytes| *bytes > 0).unwrap_or(RECORD_BYTES_MAX);
            server.record_bytes_max = server.record_bytes_max.min(usize::try_from(largest).unwrap_or(usize::MAX));
            server.evicted += number("evicted_objects").unwrap_or(0);
            server.objects += number("objects").unwrap_or(0);
            server.capacity_bytes += number("data_total_bytes").unwrap_or(0);
            server.bytes += number("data_used_bytes").unwrap_or(0);
        }
        Ok(server)
    }

    /// Reaches the cluster and learns its limits, or says why not.
    pub async fn connect(&self, anew: bool) -> Result<Server, Failure> {
        if anew || !self.store.is_connected() {
            self.store.connect(anew).await?;
            self.counters.connects.fetch_add(1, Ordering::Relaxed);
        }
        let server = self.server().await?;
        self.learn_limits(server.expires, server.record_bytes_max);
        Ok(server)
    }
}

/// The server's default.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Keeps an engine connected, its guard fresh and its counts written, until the engine is gone.
pub async fn upkeep(engine: Weak<Engine>) {
    let mut asked = Instant::now();
    let mut learned: Option<Instant> = None;
    let mut key = None;
    loop {
        tokio::time::sleep(REFRESH / 2).await;
        let Some(engine) = engine.upgrade() else { return };
        let used = engine.used.swap(false, Ordering::Relaxed);
        if !used && asked.elapsed() < IDLE && learned.is_some() {
            continue;
        }
        asked = Instant::now();
        let mut outcome = engine.guard.refresh(&engine.store).await;
        // A server whose expiry was turned off forbids a time to live, which is then no longer given.
        let was_forbidden = engine.forbidden.swap(false, Ordering::Relaxed);
        if outcome.is_ok() && (was_forbidden || learned.is_none_or(|at| at.elapsed() > LIMITS)) {
            if let Err(failure) = engine.connect(false).await {
                outcome = Err(failure);
            }
            learned = Some(Instant::now());
        }
        let now_key = outcome.as_ref().ok().map(|key| key.text.clone());
        let restarted = now_key.is_some() && key.is_some() && now_key != key;
        key = now_key.or(key);
        if outcome.is_err() || restarted {
            // The pool may be full of connections to a process that is gone.
            if engine.connect(true).await.is_err() {
                drop(engine);
                tokio::time::sleep(RECONNECT).await;
                continue;
            }
            learned = Some(Instant::now());
        }
        let due = engine.flush(Instant::now() + UPKEEP).await;
        if due.is_err() {
            engine.counters.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}
