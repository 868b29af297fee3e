//! The embedded engine: an index that processes share, rows in segments, and what a gateway asks of them.
//!
//! Look-ups are made by the caller's thread, from a snapshot of the index and from mapped memory, without a lock that a
//! writer holds. Changes are handed to the engine's writer. A row that was read is as old as the moment the look-up
//! began, never older.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::change::Key;
use crate::entry::{self, Entry, Known, Meta, Namespace};
use crate::error::CacheError;
use crate::frame::Frame;
use crate::home::{self, Home};
use crate::lmdb::{Read, Table};
use crate::record::Record;
use crate::rows::Rows;
use crate::shared;
use crate::writer::{epoch_of, Call, Pending, Reply, Writer};

/// How long a caller that must not wait waits for a call that was handed over.
pub const MOMENT: Duration = Duration::from_micros(300);
/// How long a caller that may wait does; longer than any budget of a gateway.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long the end of an engine waits for its writer, whose disk may hang.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How often one that waits long looks whether the engine was closed.
const LOOK_UP: Duration = Duration::from_millis(100);

type Result<T> = std::result::Result<T, CacheError>;

/// How the engine runs.
#[derive(Clone, Debug)]
pub struct Options {
    pub directory: PathBuf,
    /// The upstream whose rows these are; rows of another one are thrown away.
    pub identity: String,
    pub capacity_bytes: u64,
    /// What a namespace without a bound of its own may hold; 0: all of the capacity.
    pub namespace_capacity_bytes: u64,
    pub ttl_ms: u64,
    /// How long a write without a definite outcome may still take effect.
    pub unknown_write_ms: u64,
}

/// What is held of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub epoch: u64,
    pub rows: u64,
    pub bytes: u64,
    pub marked: u64,
    pub closed: bool,
    pub holes: u64,
    pub lost: u64,
    pub capacity_bytes: u64,
    pub note: Vec<u8>,
}

/// Counters since the start, and sizes now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub rows: u64,
    pub bytes: u64,
    pub index_bytes: u64,
    pub capacity_bytes: u64,
    pub open_writes: u64,
    pub evicted_rows: u64,
    pub evicted_segments: u64,
    pub refused_fills: u64,
    pub io_errors: u64,
}

/// One gateway's engine. Several, of this and other processes, may share a directory.
pub struct Engine {
    pub(crate) writer: Arc<Writer>,
    pub(crate) upkeep: Mutex<crate::upkeep::Upkeep>,
    debts: Mutex<std::collections::HashMap<i64, Option<Vec<u64>>>>,
    is_closed: AtomicBool,
    /// Hangs up when the writer's thread is gone, with all that it held.
    has_ended: Mutex<Receiver<()>>,
}

impl Engine {
    /// Opens a directory, which is made when it is missing.
    ///
    /// # Errors
    /// [`CacheError::Locked`] when those who have it open cannot share it.
    pub fn open(options: &Options, now_ms: u64) -> Result<Self> {
        let home = Home::open(&options.directory, &options.identity, now_ms, options.unknown_write_ms)?;
        let writer = Writer::new(home, options);
        // Of this place's earlier owner, and of all others that are gone.
        let owner = writer.home.owner;
        let writer = Arc::new(writer);
        let thread = Arc::clone(&writer);
        let (running, has_ended) = std::sync::mpsc::channel::<()>();
        std::thread::Builder::new().name("doccache-writer".to_owned()).spawn(move || {
            // A panic must not leave callers waiting; the place is given up with the thread's hold on it.
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| thread.run()));
            if ended.is_err() {
                thread.home.store.shared.set_broken(true);
            }
            thread.end();
            // Whoever waits for this may open the directory again at once, so the thread lets go of it first.
            drop(thread);
            drop(running);
        })?;
        let engine = Self {
            writer,
            upkeep: Mutex::default(),
            debts: Mutex::default(),
            is_closed: AtomicBool::new(false),
            has_ended: Mutex::new(has_ended),
        };
        engine.call(Call::Adopt { owners: vec![owner], now_ms })?;
        engine.adopt_gone(now_ms)?;
        Ok(engine)
    }

    /// Leaves the directory, which is free once the engine is dropped. The last to leave writes everything to the disk,
    /// so that the next start trusts it also after the machine's.
    ///
    /// # Errors
    /// Of the disk.
    pub fn close(&self, now_ms: u64) -> Result<()> {
        if self.is_closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let owner = self.writer.home.owner;
        let owes = self.writer.home.store.shared.owed_by(usize::from(owner)).is_some();
        // What it owes is left to be paid by those who stay, or by the next to come.
        if !owes {
            let adopted = self.writer.submit(Call::Adopt { owners: vec![owner], now_ms })?.wait(STOP_MAX);
            let Some(adopted) = adopted else {
                // A process that stands still within a change holds up the writer. Others find that this one is gone.
                self.writer.stop();
                return Err(CacheError::Busy);
            };
            adopted?;
        }
        let has_stopped = self.stop();
        self.writer.home.leave(has_stopped && !self.writer.home.store.shared.is_broken())
    }

    /// Ends the writer and waits for it for a while; false when it has not come to its end.
    fn stop(&self) -> bool {
        self.writer.stop();
        self.has_ended.lock().recv_timeout(STOP_MAX) == Err(RecvTimeoutError::Disconnected)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(CacheError::Closed);
        }
        if self.writer.home.store.shared.is_broken() {
            return Err(CacheError::Broken);
        }
        Ok(())
    }

    /// Hands a change over to the writer.
    ///
    /// # Errors
    /// [`CacheError::Busy`], [`CacheError::Closed`], [`CacheError::Broken`]
    pub fn submit(&self, call: Call) -> Result<Pending> {
        self.check()?;
        self.writer.submit(call)
    }

    /// As [`Engine::submit`]; with a bell [`Engine::begin`] is to be called once several changes are queued, so that
    /// they share a transaction.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn queue(&self, call: Call) -> Result<Pending> {
        self.check()?;
        if self.writer.has_bell() {
            self.writer.queue(call)
        } else {
            self.writer.submit(call)
        }
    }

    /// Has the writer begin with what is queued.
    pub fn begin(&self) {
        self.writer.begin();
    }

    /// An event's descriptor (`eventfd`) that is raised when a change was made whose caller looked for it in vain.
    pub fn set_bell(&self, bell: std::fs::File) {
        self.writer.set_bell(bell);
    }

    /// Makes a change and waits for it.
    ///
    /// # Errors
    /// Of the change; [`CacheError::Busy`] when it takes too long.
    pub fn call(&self, call: Call) -> Result<Reply> {
        self.wait(&self.submit(call)?, WAIT_MAX).unwrap_or(Err(CacheError::Busy))
    }

    /// Waits for a change for so long, or until the engine is closed: the writer may stand still then.
    pub(crate) fn wait(&self, pending: &Pending, patience: Duration) -> Option<Result<Reply>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(ended) = pending.wait(left.min(LOOK_UP)) {
                return Some(ended);
            }
            if self.is_closed.load(Ordering::SeqCst) {
                return Some(Err(CacheError::Closed));
            }
            if left.is_zero() {
                return None;
            }
        }
    }

    pub(crate) fn read(&self) -> Result<Read<'_>> {
        let read = self.writer.home.store.env.read();
        if matches!(read, Err(CacheError::Broken)) {
            self.writer.home.store.shared.set_broken(true);
        }
        read
    }

    /// A snapshot in which a namespace may be looked at; None: somebody owes it.
    ///
    /// Debts come first: one that is repaid after the look is met in the snapshot as what repaid it. The other way round,
    /// the snapshot might be from before that, and rows would be shown that were void when the look-up began.
    pub(crate) fn read_unless_owed(&self, namespace: &str) -> Result<Option<Read<'_>>> {
        if self.is_owed(namespace) {
            return Ok(None);
        }
        self.read().map(Some)
    }

    /// A ticket of a moment, good for every id that is not touched after it.
    pub(crate) fn fresh_ticket(&self, txn: &Read<'_>, now_ms: u64) -> i64 {
        if now_ms < self.writer.home.store.shared.quiet_until_ms() {
            return 0;
        }
        ticket(txn.id())
    }

    /// The rows beneath the marks of a write, of ids that no other write touched.
    ///
    /// # Errors
    /// Of the index.
    pub fn beneath(&self, namespace: &str, keys: &[Key]) -> Result<Rows> {
        self.check()?;
        let store = &self.writer.home.store;
        let txn = self.read()?;
        let mut rows = Rows::default();
        let Some(facts) = self.namespace(&txn, namespace)? else {
            return Ok(rows);
        };
        for key in keys {
            let found = txn.get(Table::Ids, &entry::id_key(facts.number, key))?.map(Entry::decode).transpose()?;
            let Some(Entry::Guard { writes: 1, contended: false, since, beneath: Known::Row(slot), .. }) = found else {
                continue;
            };
            if facts.closed_by > 0 || facts.fence > since || slot.epoch != facts.epoch {
                continue;
            }
            let read = || -> Result<Record> {
                let mapping = store.segments.mapping(slot.place.segment)?;
                let frame = Frame::read(mapping.bytes(slot.place.offset, length(slot.bytes()))?)?;
                if frame.key != &**key || frame.header.namespace != facts.number {
                    return Err(CacheError::Corrupt);
                }
                Ok(Record { key: frame.key.to_vec(), head: frame.head.to_vec(), tail: frame.tail()?.to_vec() })
            };
            // A row that cannot be read is as good as none.
            if let Ok(record) = read() {
                rows.push(record);
            }
        }
        Ok(rows)
    }

    /// A ticket for reads whose ids are not known beforehand; 0: not now.
    ///
    /// # Errors
    /// Of the index.
    pub fn begin_fill(&self, namespace: &str, now_ms: u64) -> Result<i64> {
        self.check()?;
        let Some(txn) = self.read_unless_owed(namespace)? else { return Ok(0) };
        if self.namespace(&txn, namespace)?.is_some_and(|facts| facts.closed_by > 0) {
            return Ok(0);
        }
        Ok(self.fresh_ticket(&txn, now_ms))
    }

    pub(crate) fn namespace(&self, txn: &Read<'_>, name: &str) -> Result<Option<Namespace>> {
        txn.get(Table::Facts, &entry::namespace_key(name))?.map(Namespace::decode).transpose()
    }

    /// What is held of a namespace.
    ///
    /// # Errors
    /// Of the index.
    pub fn facts(&self, name: &str) -> Result<Facts> {
        self.check()?;
        self.facts_of(&self.read()?, name)
    }

    pub(crate) fn facts_of(&self, txn: &Read<'_>, name: &str) -> Result<Facts> {
        let meta = txn.get(Table::Facts, entry::META)?.map_or(Ok(Meta::default()), Meta::decode)?;
        let Some(facts) = self.namespace(txn, name)? else {
            return Ok(Facts { epoch: epoch_of(meta.incarnation, meta.epoch), ..Facts::default() });
        };
        let note = if facts.note_lost == facts.lost { facts.note } else { Vec::new() };
        Ok(Facts {
            epoch: epoch_of(meta.incarnation, facts.epoch),
            rows: facts.rows,
            bytes: facts.bytes,
            marked: facts.marked,
            closed: facts.closed_by > 0,
            holes: facts.holes,
            lost: facts.lost,
            capacity_bytes: facts.capacity_bytes,
            note,
        })
    }

    /// Some of the keys that count as holes.
    ///
    /// # Errors
    /// Of the index.
    pub fn holes(&self, name: &str, limit: usize) -> Result<Vec<Key>> {
        self.check()?;
        let txn = self.read()?;
        let mut found = Vec::new();
        let Some(facts) = self.namespace(&txn, name)?.filter(|facts| facts.holes > 0 && limit > 0) else {
            return Ok(found);
        };
        txn.walk(Table::Ids, &facts.number.to_be_bytes(), &[], |key, bytes| {
            let beneath = match Entry::decode(bytes)? {
                Entry::Known(known) => known,
                Entry::Guard { beneath, .. } => beneath,
            };
            if matches!(beneath, Known::Hole { epoch, .. } if epoch == facts.epoch) {
                found.push(key[4..].into());
            }
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }

    /// States all that one policy of this engine owes: hashes of names are kept, None is everything.
    pub fn owe(&self, owner: i64, namespaces: Option<&[String]>) {
        let mut debts = self.debts.lock();
        match namespaces {
            Some([]) => drop(debts.remove(&owner)),
            Some(names) => drop(debts.insert(owner, Some(names.iter().map(|name| shared::name_hash(name)).collect()))),
            None => drop(debts.insert(owner, None)),
        }
        let shared = &self.writer.home.store.shared;
        let place = usize::from(self.writer.home.owner);
        if debts.values().any(Option::is_none) {
            shared.owe_everything(place);
        } else {
            let mut names: Vec<u64> = debts.values().flatten().flatten().copied().collect();
            names.sort_unstable();
            names.dedup();
            shared.set_owing(place, &names);
        }
    }

    /// The longest life of a row from its fill, also for rows that are there.
    pub fn set_ttl(&self, ttl_ms: u64) {
        self.writer.ttl_ms.store(ttl_ms, Ordering::Relaxed);
    }

    /// Whether any engine of the directory owes a namespace: nothing of it may be shown.
    pub fn is_owed(&self, namespace: &str) -> bool {
        self.writer.home.store.shared.owes(namespace)
    }

    /// The longest life of a row from its fill.
    pub fn ttl_ms(&self) -> u64 {
        self.writer.ttl_ms.load(Ordering::Relaxed)
    }

    /// Sizes and counters.
    ///
    /// # Errors
    /// Of the index.
    pub fn stats(&self) -> Result<Stats> {
        self.check()?;
        let txn = self.read()?;
        let mut stats = Stats { capacity_bytes: self.writer.capacity_bytes, ..Stats::default() };
        txn.walk(Table::Facts, &[entry::NAMESPACE], &[], |_, bytes| {
            stats.rows += Namespace::decode(bytes)?.rows;
            Ok(true)
        })?;
        let mut last = None;
        txn.walk(Table::Facts, &[entry::WRITE], &[], |key, _| {
            let token = entry::token_of(key)?;
            stats.open_writes += u64::from(last != Some(token));
            last = Some(token);
            Ok(true)
        })?;
        let counters = &self.writer.counters;
        stats.index_bytes = self.writer.home.store.env.bytes();
        stats.bytes = self.writer.home.store.shared.segment_bytes() + stats.index_bytes;
        stats.evicted_rows = counters.evicted_rows.load(Ordering::Relaxed);
        stats.evicted_segments = counters.evicted_segments.load(Ordering::Relaxed);
        stats.refused_fills = counters.refused_fills.load(Ordering::Relaxed);
        stats.io_errors = counters.io_errors.load(Ordering::Relaxed);
        Ok(stats)
    }

    /// Has the engines that are gone adopted.
    pub(crate) fn adopt_gone(&self, now_ms: u64) -> Result<()> {
        let (mut owners, mut gone) = (std::collections::BTreeSet::new(), Vec::new());
        {
            let txn = self.read()?;
            txn.walk(Table::Facts, &[entry::WRITE], &[], |_, bytes| {
                let write = entry::Write::decode(bytes)?;
                if !write.unknown {
                    owners.insert(write.owner);
                }
                Ok(true)
            })?;
            txn.walk(Table::Facts, &[entry::SEGMENT], &[], |_, bytes| {
                owners.insert(entry::Segment::decode(bytes)?.owner);
                Ok(true)
            })?;
        }
        let shared = &self.writer.home.store.shared;
        owners.extend(
            (0..shared::OWNERS_MAX)
                .filter(|owner| shared.owed_by(*owner).is_some())
                .filter_map(|owner| u16::try_from(owner).ok()),
        );
        owners.remove(&entry::NOBODY);
        for owner in owners {
            gone.extend(self.writer.home.is_gone(usize::from(owner))?.map(|lock| (owner, lock)));
        }
        if gone.is_empty() {
            return Ok(());
        }
        // The locks are held until it is done: none of these places may have a new owner before that.
        self.call(Call::Adopt { owners: gone.iter().map(|(owner, _)| *owner).collect(), now_ms }).map(drop)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Without a close this is as the death of the process: marks and debts are left as they are.
        if !self.is_closed.load(Ordering::SeqCst) {
            self.stop();
        }
    }
}

pub(crate) fn ticket(generation: u64) -> i64 {
    i64::try_from(generation).unwrap_or(i64::MAX - 1) + 1
}

pub(crate) fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Has the next to open a directory begin empty, for a process that cannot open it itself.
///
/// # Errors
/// Of the disk.
pub fn distrust(directory: &std::path::Path) -> io::Result<()> {
    home::distrust(directory)
}
