//! The embedded engine: a table in memory and a log on a local directory behind one short lock.
//!
//! Lookups hold the lock for a hash lookup and read the file without it. A segment that is evicted meanwhile stays
//! readable, and a row that was read is as old as the moment the lookup began, never older.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::error::CacheError;
use crate::log::{Frame, Header, Kind, Log, Place, Read, Segment};
use crate::record::{IdType, Projection, View};
use crate::replay::{self, Condition, Trust};
use crate::rows::Rows;
use crate::table::{Found, Key, NamespaceState, Outcome, Slot, Table, Write};

/// Longer ids are neither marked nor cached; the upstream has none over 64 bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// A caller that must not wait gives up the lock after this long.
const LOCK_PATIENCE: Duration = Duration::from_micros(200);
/// Larger rows are read by a thread that may wait.
const NOWAIT_BYTES_MAX: usize = 1 << 20;
/// A settle that touches more ids, or a whole namespace, takes longer than a caller that must not wait has.
const IN_PLACE_KEYS_MAX: usize = 1024;
const SEGMENT_BYTES_MIN: u64 = 256 << 10;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
const SEGMENTS_IN_CAPACITY: u64 = 64;
/// Of a segment's bytes, one part in this many may survive an eviction, so that each eviction frees space.
const SURVIVORS_SHARE: u64 = 4;

/// How the engine runs.
#[derive(Clone, Debug)]
pub struct Options {
    pub directory: PathBuf,
    /// The upstream whose rows these are; rows of another one are thrown away.
    pub identity: String,
    pub capacity_bytes: u64,
    pub ttl_ms: u64,
    /// How long a write without a definite outcome may still take effect.
    pub unknown_write_ms: u64,
}

/// What a lookup gives.
#[derive(Debug)]
pub enum Lookup {
    /// The document as JSON text.
    Hit(Vec<u8>),
    /// Nothing; what a read that begins now finds may be filled with this ticket.
    Empty(u64),
    /// Nothing; a write is open, so nothing may be filled.
    Marked,
    /// The answer needs the disk or the lock for longer than the caller wants to wait.
    WouldWait,
}

/// Counters since the start, and sizes now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub rows: u64,
    pub bytes: u64,
    pub capacity_bytes: u64,
    pub open_writes: u64,
    pub evicted_rows: u64,
    pub evicted_segments: u64,
    pub refused_fills: u64,
    pub io_errors: u64,
}

struct Inner {
    table: Table,
    log: Log,
    /// Until then nothing is filled: writes of a lost earlier process may still take effect.
    quiet_until_ms: u64,
}

#[derive(Default)]
struct Counters {
    evicted_rows: AtomicU64,
    evicted_segments: AtomicU64,
    refused_fills: AtomicU64,
    io_errors: AtomicU64,
}

pub struct Engine {
    inner: Mutex<Inner>,
    trimming: Mutex<()>,
    options: Options,
    row_bytes_max: u64,
    /// A frame that a later start must see is missing from the log.
    distrusted: AtomicBool,
    owing: AtomicBool,
    dead: AtomicBool,
    counters: Counters,
    /// Held until the engine is closed or dropped.
    lock_file: Mutex<Option<File>>,
}

type Result<T> = std::result::Result<T, CacheError>;

impl Engine {
    /// Opens a directory, which is made when it is missing, and replays its log.
    ///
    /// # Errors
    /// [`CacheError::Locked`] when another process has it open.
    pub fn open(options: Options, now_ms: u64) -> Result<Self> {
        fs::create_dir_all(&options.directory)?;
        let lock = File::create(options.directory.join("lock"))?;
        // SAFETY: the descriptor is open; the call takes no memory of ours. The lock goes with the descriptor.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            return Err(if error.kind() == io::ErrorKind::WouldBlock { CacheError::Locked } else { error.into() });
        }
        let (mut trust, quiet_before_ms) = replay::judge(&options.directory, &options.identity)?;
        if trust == Trust::Lost {
            Self::discard(&options)?;
        }
        let segment_bytes = (options.capacity_bytes / SEGMENTS_IN_CAPACITY).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let mut log = Log::open(&options.directory, segment_bytes)?;
        let mut table = Table::default();
        if !replay::replay(&log, &mut table)? {
            trust = Trust::Lost;
            Self::discard(&options)?;
            log = Log::open(&options.directory, segment_bytes)?;
            table = Table::default();
        }
        let unknown_until_ms = now_ms + options.unknown_write_ms;
        table.adopt(unknown_until_ms);
        // Marks went with a log that is lost, so every id counts as marked for as long as they could have held; that
        // must outlive this process as they would have.
        let quiet_until_ms = if trust == Trust::Lost { unknown_until_ms } else { quiet_before_ms };
        replay::note(&options.directory, &options.identity, Condition::Open, quiet_until_ms)?;
        Ok(Self {
            inner: Mutex::new(Inner { table, log, quiet_until_ms }),
            trimming: Mutex::new(()),
            row_bytes_max: segment_bytes,
            options,
            distrusted: AtomicBool::new(false),
            owing: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            counters: Counters::default(),
            lock_file: Mutex::new(Some(lock)),
        })
    }

    /// Throws the log away.
    fn discard(options: &Options) -> Result<()> {
        // Should the process die half-way through, the next one must not take an empty directory for a new one.
        replay::note(&options.directory, &options.identity, Condition::Lost, 0)?;
        Ok(Log::wipe(&options.directory)?)
    }

    /// Syncs and closes the log, so that the next start trusts it also after the machine's.
    pub fn close(&self) -> Result<()> {
        if self.dead.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let inner = self.inner.lock();
        // Whatever happens here, the next process may have the directory afterwards.
        let _lock = self.lock_file.lock().take();
        if self.distrusted.load(Ordering::SeqCst) || self.owing.load(Ordering::SeqCst) {
            return Ok(replay::distrust(&self.options.directory)?);
        }
        inner.log.sync()?;
        Ok(replay::note(&self.options.directory, &self.options.identity, Condition::Closed, inner.quiet_until_ms)?)
    }

    fn enter(&self, wait: bool) -> Result<Option<MutexGuard<'_, Inner>>> {
        if self.dead.load(Ordering::Relaxed) {
            return Err(CacheError::Closed);
        }
        if wait {
            return Ok(Some(self.inner.lock()));
        }
        Ok(self.inner.try_lock_for(LOCK_PATIENCE))
    }

    fn lock(&self) -> Result<MutexGuard<'_, Inner>> {
        self.enter(true)?.ok_or(CacheError::Closed)
    }

    /// Looks one document up and projects it. Without `wait` it neither waits for the disk nor for the lock.
    pub fn lookup(
        &self,
        namespace: &str,
        key: &[u8],
        projection: &Projection,
        id_type: Option<IdType>,
        now_ms: u64,
        wait: bool,
    ) -> Result<Lookup> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(Lookup::Marked);
        }
        let (slot, segment) = {
            let Some(mut inner) = self.enter(wait)? else {
                return Ok(Lookup::WouldWait);
            };
            self.expire(&mut inner, now_ms);
            let slot = match inner.table.lookup(namespace, key, now_ms, self.options.ttl_ms) {
                Found::Marked => return Ok(Lookup::Marked),
                Found::Empty(_) if now_ms < inner.quiet_until_ms => return Ok(Lookup::Marked),
                Found::Empty(ticket) => return Ok(Lookup::Empty(ticket)),
                Found::Row(slot) => slot,
            };
            let Some(segment) = inner.log.segment(slot.place.segment) else {
                inner.table.evict(namespace, key, slot.place);
                return Err(CacheError::Corrupt);
            };
            (slot, segment)
        };
        match read_document(&segment, &slot, namespace, key, projection, id_type, wait) {
            Ok(Some(text)) => Ok(Lookup::Hit(text)),
            Ok(None) => Ok(Lookup::WouldWait),
            Err(error) => {
                self.counters.io_errors.fetch_add(1, Ordering::Relaxed);
                self.lock()?.table.evict(namespace, key, slot.place);
                Err(error)
            }
        }
    }

    /// Puts the rows of an answer to a read that began with `ticket`; a row whose id was touched since is left out.
    /// Gives how many were put, and whether the log is over its capacity; None: would have waited.
    pub fn fill(
        &self,
        namespace: &str,
        rows: &Rows,
        ticket: u64,
        now_ms: u64,
        wait: bool,
    ) -> Result<Option<(usize, bool)>> {
        let mut put = 0;
        if self.enter(wait)?.is_none() {
            return Ok(None);
        }
        for record in &rows.records {
            let frame = Frame {
                kind: Kind::Row,
                time_ms: now_ms,
                namespace,
                key: &record.key,
                head: &record.head,
                tail: &record.tail,
            };
            let mut inner = self.lock()?;
            let allowed = frame.bytes() as u64 <= self.row_bytes_max
                && record.key.len() <= KEY_BYTES_MAX
                && now_ms >= inner.quiet_until_ms
                && inner.log.bytes() < self.bytes_max()
                && inner.table.may_fill(namespace, &record.key, ticket);
            if !allowed {
                self.counters.refused_fills.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let place = inner.log.append(&frame).inspect_err(|_| {
                self.counters.io_errors.fetch_add(1, Ordering::Relaxed);
            })?;
            let (Ok(tail_bytes), Ok(prefix_bytes)) =
                (u32::try_from(record.tail.len()), u32::try_from(frame.bytes() - record.tail.len()))
            else {
                continue;
            };
            let slot = Slot { place, prefix_bytes, tail_bytes, filled_ms: now_ms, referenced: false };
            inner.table.put(namespace, &record.key, slot);
            put += 1;
        }
        Ok(Some((put, self.lock()?.log.bytes() > self.options.capacity_bytes)))
    }

    /// Over this nothing is put until a trim has made room.
    fn bytes_max(&self) -> u64 {
        self.options.capacity_bytes + 2 * self.row_bytes_max
    }

    /// Marks the ids of a write before it goes upstream; without `keys` the whole namespace. False: would have waited.
    pub fn mark(
        &self,
        token: u64,
        namespace: &str,
        keys: Option<Vec<Key>>,
        deadline_ms: u64,
        wait: bool,
    ) -> Result<bool> {
        let keys = keys.map(|keys| keys.into_iter().filter(|key| key.len() <= KEY_BYTES_MAX).collect::<Vec<_>>());
        let payload = replay::encode_mark(token, keys.as_deref());
        let Some(mut inner) = self.enter(wait)? else {
            return Ok(false);
        };
        let place = self.note(&mut inner, Kind::Mark, namespace, &payload, deadline_ms);
        let segment = place.map_or(u32::MAX, |place| place.segment);
        inner.table.begin(token, Write { namespace: namespace.into(), keys, deadline_ms, unknown: false, segment });
        Ok(true)
    }

    /// Ends a write. `Ok(None)`: would have waited. `Ok(Some(false))`: its mark is not there any more.
    pub fn settle(&self, token: u64, outcome: Outcome, now_ms: u64, wait: bool) -> Result<Option<bool>> {
        let Some(mut inner) = self.enter(wait)? else {
            return Ok(None);
        };
        let is_large = |write: &Write| write.keys.as_ref().is_none_or(|keys| keys.len() > IN_PLACE_KEYS_MAX);
        if !wait && inner.table.write(token).is_some_and(is_large) {
            return Ok(None);
        }
        self.expire(&mut inner, now_ms);
        let (found, dropped) = self.end(&mut inner, token, outcome, now_ms + self.options.unknown_write_ms);
        drop(inner);
        drop(dropped);
        Ok(Some(found))
    }

    fn end(
        &self,
        inner: &mut Inner,
        token: u64,
        outcome: Outcome,
        until_ms: u64,
    ) -> (bool, Option<crate::table::Namespace>) {
        let Some(write) = inner.table.write(token) else {
            return (false, None);
        };
        let namespace = write.namespace.clone();
        self.note(inner, Kind::Settle, &namespace, &replay::encode_settle(token, outcome), until_ms);
        inner.table.settle(token, outcome, until_ms)
    }

    /// Settles the writes whose time is over; their outcome does not matter any more.
    fn expire(&self, inner: &mut Inner, now_ms: u64) {
        if !inner.table.has_overdue(now_ms) {
            return;
        }
        for token in inner.table.overdue(now_ms) {
            let _ = self.end(inner, token, Outcome::Applied, now_ms);
        }
    }

    /// Forgets every row of a namespace; reads that began before may not fill.
    pub fn clear(&self, namespace: &str, now_ms: u64) -> Result<()> {
        let mut inner = self.lock()?;
        self.note(&mut inner, Kind::Clear, namespace, &[], now_ms);
        let dropped = inner.table.clear(namespace);
        drop(inner);
        drop(dropped);
        Ok(())
    }

    /// While something is owed that only this process knows of, a start that finds the log must not trust it.
    pub fn owe(&self, owing: bool) -> Result<()> {
        let inner = self.lock()?;
        self.owing.store(owing, Ordering::SeqCst);
        if owing || self.distrusted.load(Ordering::SeqCst) {
            return Ok(replay::distrust(&self.options.directory)?);
        }
        Ok(replay::note(&self.options.directory, &self.options.identity, Condition::Open, inner.quiet_until_ms)?)
    }

    /// Writes what a later start must know. If it cannot be written, a later start must not trust the log; if not
    /// even that can be noted, this engine serves nothing more, so that nothing is lost by throwing it away.
    fn note(&self, inner: &mut Inner, kind: Kind, namespace: &str, head: &[u8], time_ms: u64) -> Option<Place> {
        match inner.log.append(&Frame { kind, time_ms, namespace, key: &[], head, tail: &[] }) {
            Ok(place) => Some(place),
            Err(_) => {
                self.counters.io_errors.fetch_add(1, Ordering::Relaxed);
                if !self.distrusted.swap(true, Ordering::SeqCst) && replay::distrust(&self.options.directory).is_err() {
                    self.dead.store(true, Ordering::SeqCst);
                }
                None
            }
        }
    }

    /// Evicts the oldest segments until the log fits its capacity. Rows that were read since they were put get a
    /// second chance. Waits for the disk, but not under the lock.
    pub fn trim(&self) -> Result<()> {
        let _one_at_a_time = self.trimming.lock();
        // Marks of open writes are written again, so what is newer than this trim is none of its business.
        let newest = self.lock()?.log.newest();
        loop {
            let segment = {
                let inner = self.lock()?;
                if !inner.log.is_over(self.options.capacity_bytes) {
                    return Ok(());
                }
                inner.log.oldest_sealed().filter(|segment| Some(segment.id) <= newest)
            };
            let Some(segment) = segment else {
                return Ok(());
            };
            self.evict(&segment)?;
        }
    }

    fn evict(&self, segment: &Segment) -> Result<()> {
        let mut spare = segment.bytes().unwrap_or(0) / SURVIVORS_SHARE;
        let mut closed = None;
        let walked = replay::walk(segment, |offset, header, prefix| {
            if header.kind == Kind::Row && closed.is_none() {
                let place = Place { segment: segment.id, offset };
                closed = self.evict_row(segment, place, header, prefix, &mut spare).err();
            }
        });
        if let Some(error) = closed {
            return Err(error);
        }
        let mut inner = self.lock()?;
        if !walked.is_ok_and(|whole| whole) {
            self.counters.io_errors.fetch_add(1, Ordering::Relaxed);
            let evicted = inner.table.evict_segment(segment.id);
            self.counters.evicted_rows.fetch_add(evicted, Ordering::Relaxed);
        }
        for token in inner.table.writes_up_to(segment.id) {
            self.renote(&mut inner, token);
        }
        inner.log.remove(segment.id)?;
        self.counters.evicted_segments.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn evict_row(
        &self,
        segment: &Segment,
        place: Place,
        header: &Header,
        prefix: &[u8],
        spare: &mut u64,
    ) -> Result<()> {
        let Ok(namespace) = std::str::from_utf8(header.namespace(prefix)) else {
            return Ok(());
        };
        let key = header.key(prefix);
        let bytes = header.frame_bytes() as u64;
        let worth_keeping = |slot: &Slot| slot.place == place && slot.referenced;
        let keep = *spare >= bytes && self.lock()?.table.slot(namespace, key).is_some_and(|slot| worth_keeping(slot));
        let tail =
            keep.then(|| segment.read(u64::from(place.offset) + header.prefix_bytes() as u64, header.tail_bytes));
        // A row that cannot be read or written again is not worth keeping: a trim must make room on a full disk too.
        if let Some(Ok(tail)) = tail.filter(|tail| tail.as_ref().is_ok_and(|tail| header.verify_tail(tail).is_ok())) {
            let frame = Frame {
                kind: Kind::Row,
                time_ms: header.time_ms,
                namespace,
                key,
                head: header.head(prefix),
                tail: &tail,
            };
            let mut inner = self.lock()?;
            // Looked at again: a write may have marked the row while its tail was read.
            if inner.table.slot(namespace, key).is_some_and(|slot| worth_keeping(slot)) {
                if let Ok(moved) = inner.log.append(&frame) {
                    if let Some(slot) = inner.table.slot(namespace, key) {
                        slot.place = moved;
                        slot.referenced = false;
                    }
                    *spare -= bytes;
                    return Ok(());
                }
                self.counters.io_errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mut inner = self.lock()?;
        inner.table.evict(namespace, key, place);
        drop(inner);
        self.counters.evicted_rows.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Writes an open write's mark again, because the segment that holds it goes.
    fn renote(&self, inner: &mut Inner, token: u64) {
        let Some(write) = inner.table.write(token) else {
            return;
        };
        let (namespace, deadline_ms, unknown) = (write.namespace.clone(), write.deadline_ms, write.unknown);
        let payload = replay::encode_mark(token, write.keys.as_deref());
        let place = self.note(inner, Kind::Mark, &namespace, &payload, deadline_ms);
        if unknown {
            self.note(inner, Kind::Settle, &namespace, &replay::encode_settle(token, Outcome::Unknown), deadline_ms);
        }
        inner.table.moved(token, place.map_or(u32::MAX, |place| place.segment));
    }

    pub fn state(&self, namespace: &str) -> Result<NamespaceState> {
        Ok(self.lock()?.table.state(namespace))
    }

    pub fn stats(&self) -> Result<Stats> {
        let inner = self.lock()?;
        Ok(Stats {
            rows: inner.table.rows(),
            bytes: inner.log.bytes(),
            capacity_bytes: self.options.capacity_bytes,
            open_writes: inner.table.open_writes(),
            evicted_rows: self.counters.evicted_rows.load(Ordering::Relaxed),
            evicted_segments: self.counters.evicted_segments.load(Ordering::Relaxed),
            refused_fills: self.counters.refused_fills.load(Ordering::Relaxed),
            io_errors: self.counters.io_errors.load(Ordering::Relaxed),
        })
    }
}

/// Reads and projects a row; None when that would wait for the disk. The tail is read only when it is asked for.
fn read_document(
    segment: &Arc<Segment>,
    slot: &Slot,
    namespace: &str,
    key: &[u8],
    projection: &Projection,
    id_type: Option<IdType>,
    wait: bool,
) -> Result<Option<Vec<u8>>> {
    let offset = u64::from(slot.place.offset);
    let read = |offset: u64, length: u32| -> Result<Option<Vec<u8>>> {
        let length = length as usize;
        if wait {
            return Ok(Some(segment.read(offset, length)?));
        }
        if length > NOWAIT_BYTES_MAX {
            return Ok(None);
        }
        match segment.read_nowait(offset, length)? {
            Read::Done(bytes) => Ok(Some(bytes)),
            Read::WouldWait => Ok(None),
        }
    };
    let Some(prefix) = read(offset, slot.prefix_bytes)? else {
        return Ok(None);
    };
    let header = Header::verified(&prefix)?;
    if header.kind != Kind::Row || header.namespace(&prefix) != namespace.as_bytes() || header.key(&prefix) != key {
        return Err(CacheError::Corrupt);
    }
    let head = header.head(&prefix);
    let mut tail = None;
    if View::new(head, None)?.needs_tail(projection) {
        let Some(bytes) = read(offset + u64::from(slot.prefix_bytes), slot.tail_bytes)? else {
            return Ok(None);
        };
        header.verify_tail(&bytes)?;
        tail = Some(bytes);
    }
    let mut out = Vec::with_capacity(head.len() + tail.as_ref().map_or(0, Vec::len) + 64);
    View::new(head, tail.as_deref())?.write(projection, id_type, &mut out);
    Ok(Some(out))
}
