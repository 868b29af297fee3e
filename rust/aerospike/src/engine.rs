//! The cache's engine: its limits, its settings and its door to the store. Its operations are in `reads`, `fills`,
//! `writes` and `facts`.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aerospike::{Bins, Expiration, Key, Record};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::Failure;
use crate::guard::Guard;
use crate::heads::Heads;
use crate::held::ScanMemory;
use crate::layout::{add_tally, check_set_prefix, Place, Tally, Ticket, TALLY_PARTS};
use crate::store::{Expect, Settings, Store, Write, Written, BATCH_BYTES_MAX, BATCH_KEYS_MAX};
use crate::tallies::Tallies;

/// Calls to the store at once; more wait.
pub const PERMITS: usize = 64;
/// Calls that wait for a permit; more fail.
pub const WAITING_MAX: usize = 4096;
/// Batches of one operation at once.
pub(crate) const BATCHES_AT_ONCE: usize = 4;
/// Scans at once; more wait. Each holds what it found.
const SCANS_AT_ONCE: usize = 2;
/// How long the server keeps the empty record that a look-up left for the fill after it.
pub(crate) const EMPTY_SECONDS: u32 = 600;
/// How much longer than a row a mark, a hole or a gone id is kept by the server. Longer than any read takes, and long
/// enough that what the server evicts first, the shortest-lived, is always a row.
pub(crate) const AFTERLIFE_SECONDS: u32 = 7_200;
/// What a record needs beside the row's bytes and its id.
const RECORD_OVERHEAD_BYTES: usize = 512;

#[derive(Clone, Debug)]
pub struct Options {
    pub store: Settings,
    pub ttl_ms: u64,
    pub unknown_write_ms: u64,
    /// By how much the clocks of gateways may differ; marks last longer by that.
    pub clock_skew_ms: u64,
    /// What scans may hold in memory together, bytes.
    pub scan_bytes_max: u64,
}

/// What a look-up found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// The document's JSON text.
    Hit(Vec<u8>),
    /// Nothing; may be filled with this ticket.
    Empty(Ticket),
    /// Not to be served or filled. With a ticket, look-ups can be told apart.
    Marked(Option<Ticket>),
}

#[derive(Default)]
pub struct Counters {
    pub refused_fills: AtomicU64,
    pub lost_rows: AtomicU64,
    pub failures: AtomicU64,
    pub epochs: AtomicU64,
    pub connects: AtomicU64,
}

pub struct Engine {
    pub store: Store,
    pub guard: Guard,
    pub counters: Counters,
    pub(crate) heads: Heads,
    pub(crate) tallies: Tallies,
    pub(crate) scans: Semaphore,
    pub(crate) scan_memory: Arc<ScanMemory>,
    pub(crate) scanned: AtomicU64,
    permits: Semaphore,
    waiting: AtomicUsize,
    ttl_ms: AtomicU64,
    unknown_write_ms: u64,
    pub(crate) clock_skew_ms: u64,
    /// The server's largest record, less what a record needs beside a row.
    record_bytes_max: AtomicUsize,
    /// Whether the server takes records with a time to live.
    pub(crate) expires: AtomicBool,
    /// Whether a write was forbidden, so that the limits are to be learned again.
    pub(crate) forbidden: AtomicBool,
    pub(crate) used: AtomicBool,
}

impl Engine {
    pub fn new(options: &Options) -> Result<Self, Failure> {
        check_set_prefix(&options.store.set_prefix)?;
        if options.store.namespace.is_empty() {
            return Err(Failure::Setting { name: "AEROSPIKE_NAMESPACE", rule: "must not be empty".to_owned() });
        }
        Ok(Self {
            store: Store::new(options.store.clone()),
            guard: Guard::default(),
            counters: Counters::default(),
            heads: Heads::new(seconds(options.ttl_ms)),
            tallies: Tallies::default(),
            scans: Semaphore::new(SCANS_AT_ONCE),
            scan_memory: Arc::new(ScanMemory::new(options.scan_bytes_max)),
            scanned: AtomicU64::new(0),
            permits: Semaphore::new(PERMITS),
            waiting: AtomicUsize::new(0),
            ttl_ms: AtomicU64::new(options.ttl_ms),
            unknown_write_ms: options.unknown_write_ms,
            clock_skew_ms: options.clock_skew_ms,
            record_bytes_max: AtomicUsize::new(0),
            expires: AtomicBool::new(false),
            forbidden: AtomicBool::new(false),
            used: AtomicBool::new(true),
        })
    }

    pub fn place(&self, namespace: &str) -> Place {
        self.store.place(namespace)
    }

    pub fn ttl_ms(&self) -> u64 {
        self.ttl_ms.load(Ordering::Relaxed)
    }

    pub fn set_ttl_ms(&self, ttl_ms: u64) {
        self.ttl_ms.store(ttl_ms, Ordering::Relaxed);
    }

    pub(crate) fn unknown_write_ms(&self) -> u64 {
        self.unknown_write_ms
    }

    pub(crate) fn record_bytes_max(&self) -> usize {
        self.record_bytes_max.load(Ordering::Relaxed)
    }

    /// What the server was found to take: records with a time to live, and of which size at most.
    pub(crate) fn learn_limits(&self, expires: bool, record_bytes_max: usize) {
        self.expires.store(expires, Ordering::Relaxed);
        self.record_bytes_max.store(record_bytes_max.saturating_sub(RECORD_OVERHEAD_BYTES), Ordering::Relaxed);
    }

    // --- the store, with its limits ----------------------------------------------------------------------------------

    pub(crate) fn expiration(&self, life: u32) -> Expiration {
        if self.expires.load(Ordering::Relaxed) {
            Expiration::Seconds(life)
        } else {
            Expiration::Never
        }
    }

    pub(crate) fn count_write(&self, place: &Place, epoch: u64, change: Tally) -> Result<Write, Failure> {
        Ok(Write {
            key: place.tally(epoch, rand::random_range(0..TALLY_PARTS))?,
            operations: add_tally(change),
            expect: Expect::Any,
            same: None,
            bytes: 0,
            expiration: self.expiration(self.heads.idle_seconds()),
        })
    }

    pub(crate) async fn permit(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Failure> {
        self.used.store(true, Ordering::Relaxed);
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let waiting = Waiting::new(&self.waiting);
        if waiting.count > WAITING_MAX {
            return Err(Failure::Crowded);
        }
        before(deadline, async { self.permits.acquire().await.map_err(|_| Failure::Closed) }).await
    }

    pub(crate) async fn read(
        &self,
        wanted: Vec<(Key, Bins)>,
        beside: Option<Write>,
        deadline: Instant,
    ) -> Result<Vec<Option<Record>>, Failure> {
        if wanted.is_empty() && beside.is_none() {
            return Ok(Vec::new());
        }
        let _permit = self.permit(deadline).await?;
        let read = before(deadline, self.store.read(wanted, beside, deadline)).await;
        self.count(read)
    }

    /// Writes in calls of a bounded size.
    pub(crate) async fn write(&self, writes: Vec<Write>, deadline: Instant) -> Result<Vec<Written>, Failure> {
        let mut written = Vec::with_capacity(writes.len());
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut writes = writes.into_iter().peekable();
        while let Some(write) = writes.next() {
            bytes += write.bytes;
            batch.push(write);
            if batch.len() >= BATCH_KEYS_MAX || bytes >= BATCH_BYTES_MAX || writes.peek().is_none() {
                bytes = 0;
                let _permit = self.permit(deadline).await?;
                let done = before(deadline, self.store.write(std::mem::take(&mut batch), deadline)).await;
                let done = self.count(done)?;
                if done.contains(&Written::Failed(Failure::Forbidden)) {
                    self.forbidden.store(true, Ordering::Relaxed);
                }
                written.extend(done);
            }
        }
        Ok(written)
    }

    pub(crate) fn count<T>(&self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &outcome {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            self.forbidden.fetch_or(*failure == Failure::Forbidden, Ordering::Relaxed);
        }
        outcome
    }

    /// This process's counters and gauges, by name.
    pub fn counters(&self) -> [(&'static str, u64); 12] {
        let counters = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let known = self.tallies.known();
        let whole = |count: i64| u64::try_from(count).unwrap_or(0);
        [
            ("refused_fills", read(&counters.refused_fills)),
            ("lost_rows", read(&counters.lost_rows)),
            ("failures", read(&counters.failures)),
            ("epochs", read(&counters.epochs)),
            ("connects", read(&counters.connects)),
            ("connected", u64::from(self.store.is_connected())),
            ("inflight", self.inflight() as u64),
            ("nodes", self.store.nodes() as u64),
            ("rows", whole(known.rows)),
            ("bytes", whole(known.bytes)),
            ("marked", whole(known.marked)),
            ("scan_bytes", self.scan_memory.held_bytes()),
        ]
    }

    pub async fn close(&self) -> Result<(), Failure> {
        self.store.close().await
    }

    /// Calls to the store that are under way or wait.
    pub fn inflight(&self) -> usize {
        PERMITS - self.permits.available_permits() + self.waiting.load(Ordering::Relaxed)
    }
}

/// One call that waits for a permit; counted for as long as it lives, also when its caller goes away.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    count: usize,
}

impl<'a> Waiting<'a> {
    fn new(all: &'a AtomicUsize) -> Self {
        Self { all, count: all.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX / 4).min(u32::MAX / 4)
}

pub(crate) async fn before<T>(deadline: Instant, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    tokio::time::timeout(left, work).await.unwrap_or(Err(Failure::Timeout))
}
