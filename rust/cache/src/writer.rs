//! The thread that changes the index: calls queue up for it, and small ones share a transaction.
//!
//! A caller that must not wait for the disk hands its call over and waits for a moment only; the call is made all the
//! same. The queue is bounded in calls and in bytes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::change::{Change, Content, Effect, Key, Outcome, NOTE_BYTES_MAX};
use crate::engine::Options;
use crate::entry::{self, Place, Segment, NOBODY};
use crate::error::CacheError;
use crate::frame;
use crate::home::Home;
use crate::lmdb::Table;
use crate::rows::Rows;
use crate::segments::{segment_bytes, Active};
use crate::shared;

/// Ids of a write that are marked or settled in one transaction, so that other writers are not held up.
pub const PART_KEYS: usize = 1_000;
/// Bytes of rows that are put in one transaction.
const PART_BYTES: u64 = 4 << 20;
/// Small calls that share a transaction.
const BATCH_CALLS_MAX: usize = 64;
const QUEUE_CALLS_MAX: usize = 4_096;
const QUEUE_BYTES_MAX: usize = 256 << 20;
/// What a call counts for in the queue beside its rows and ids.
const CALL_BYTES: usize = 256;
/// Writes that are ended in one transaction because their time is over.
const EXPIRED_WRITES_MAX: usize = 16;

type Result<T> = std::result::Result<T, CacheError>;

/// What the writer is asked to do. Times are epoch milliseconds.
pub enum Call {
    Mark {
        token: u64,
        namespace: Box<str>,
        keys: Option<Vec<Key>>,
        deadline_ms: u64,
    },
    Settle(Settle),
    Fill {
        namespace: Box<str>,
        rows: Arc<Rows>,
        keys: Vec<Key>,
        tickets: Vec<i64>,
        now_ms: u64,
    },
    FillPage {
        namespace: Box<str>,
        rows: Arc<Rows>,
        ticket: i64,
        now_ms: u64,
    },
    Clear {
        namespace: Box<str>,
    },
    Note {
        namespace: Box<str>,
        text: Vec<u8>,
        epoch: u64,
        lost: u64,
    },
    Limit {
        namespace: Box<str>,
        capacity_bytes: u64,
    },
    /// A row was found to be damaged or too old.
    Evict {
        namespace: Box<str>,
        key: Key,
        place: Place,
    },
    Expire {
        now_ms: u64,
    },
    /// Marks of engines that are gone end as unknown, and what they owe is paid.
    Adopt {
        owners: Vec<u16>,
        now_ms: u64,
    },
}

/// The end of a write.
pub struct Settle {
    pub token: u64,
    pub namespace: Box<str>,
    pub outcome: Outcome,
    pub changed: Option<HashSet<Key>>,
    pub rows: Option<Arc<Rows>>,
    pub deleted: HashSet<Key>,
    pub now_ms: u64,
}

/// What came of a call.
#[derive(Debug, Default)]
pub struct Reply {
    /// Whether what was asked for was there.
    pub found: bool,
    /// Rows put.
    pub put: usize,
    /// Keys of rows that are not held.
    pub absent: Vec<Key>,
}

impl Call {
    fn bytes(&self) -> usize {
        let keys = |keys: &[Key]| keys.iter().map(|key| key.len() + 16).sum::<usize>();
        let rows = |rows: &Rows| rows.records.iter().map(|record| record.head.len() + record.tail.len()).sum::<usize>();
        CALL_BYTES
            + match self {
                Self::Mark { keys: Some(marked), .. } => keys(marked),
                Self::Settle(settle) => settle.rows.as_deref().map_or(0, rows),
                Self::Fill { rows: filled, keys: asked, .. } => rows(filled) + keys(asked),
                Self::FillPage { rows: filled, .. } => rows(filled),
                _ => 0,
            }
    }

    /// Room for rows that it may need in a segment.
    fn row_bytes(&self) -> u64 {
        let rows = match self {
            Self::Settle(settle) => settle.rows.as_deref(),
            Self::Fill { rows, .. } | Self::FillPage { rows, .. } => Some(&**rows),
            _ => None,
        };
        rows.map_or(0, |rows| rows.records.iter().map(frame_bytes).sum())
    }

    /// Whether it may share a transaction in which so many bytes of rows are put.
    fn is_small(&self, row_bytes_max: u64) -> bool {
        if self.row_bytes() > row_bytes_max {
            return false;
        }
        let few = |keys: usize| keys <= PART_KEYS;
        match self {
            Self::Mark { keys, .. } => few(keys.as_ref().map_or(0, Vec::len)),
            Self::Settle(settle) => few(settle.changed.as_ref().map_or(0, HashSet::len)),
            Self::Fill { keys, .. } => few(keys.len()),
            Self::FillPage { rows, .. } => few(rows.records.len()),
            Self::Clear { .. } | Self::Note { .. } | Self::Limit { .. } | Self::Evict { .. } => true,
            Self::Expire { .. } | Self::Adopt { .. } => false,
        }
    }
}

fn frame_bytes(record: &crate::record::Record) -> u64 {
    (frame::HEADER + record.key.len() + record.head.len() + record.tail.len()) as u64
}

#[derive(Default)]
struct State {
    made: Option<Result<Reply>>,
    /// Who waits is told through the writer's bell.
    rings: bool,
}

type Answer = Arc<(Mutex<State>, Condvar)>;

/// A call that was handed over.
pub struct Pending(Answer);

impl Pending {
    /// Waits for the end of the call, at most for so long; None when it is not over.
    pub fn wait(&self, patience: Duration) -> Option<Result<Reply>> {
        let (state, changed) = &*self.0;
        let deadline = Instant::now() + patience;
        let mut state = state.lock();
        while state.made.is_none() {
            if changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.made.take()
    }

    /// What came of the call; None when it is not over: then the bell rings once it is.
    pub fn look(&self) -> Option<Result<Reply>> {
        let mut state = self.0 .0.lock();
        state.rings = state.made.is_none();
        state.made.take()
    }
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<(Call, Answer)>,
    bytes: usize,
    is_closed: bool,
}

/// Counters since the engine was opened.
#[derive(Default)]
pub struct Counters {
    pub evicted_rows: AtomicU64,
    pub evicted_segments: AtomicU64,
    pub refused_fills: AtomicU64,
    pub io_errors: AtomicU64,
}

/// The writer's side of an engine.
pub struct Writer {
    pub home: Home,
    pub capacity_bytes: u64,
    namespace_capacity_bytes: u64,
    pub ttl_ms: AtomicU64,
    pub unknown_write_ms: u64,
    pub counters: Counters,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// An event's descriptor: it is raised after calls whose callers look for their end.
    bell: Mutex<Option<File>>,
}

impl Writer {
    pub fn new(home: Home, options: &Options) -> Self {
        Self {
            home,
            capacity_bytes: options.capacity_bytes,
            namespace_capacity_bytes: options.namespace_capacity_bytes,
            ttl_ms: AtomicU64::new(options.ttl_ms),
            unknown_write_ms: options.unknown_write_ms,
            counters: Counters::default(),
            queue: Mutex::default(),
            changed: Condvar::new(),
            bell: Mutex::default(),
        }
    }

    /// Hands a call over.
    ///
    /// # Errors
    /// [`CacheError::Busy`] when too much is waiting, [`CacheError::Closed`].
    pub fn submit(&self, call: Call) -> Result<Pending> {
        let pending = self.queue(call)?;
        self.begin();
        Ok(pending)
    }

    /// Has the writer begin with what is queued.
    pub fn begin(&self) {
        self.changed.notify_one();
    }

    /// What is raised for those who look for the end of their calls.
    pub fn set_bell(&self, bell: File) {
        *self.bell.lock() = Some(bell);
    }

    /// Whether there is one: who listens to it also says when to begin.
    pub fn has_bell(&self) -> bool {
        self.bell.lock().is_some()
    }

    fn ring(&self) {
        if let Some(bell) = &mut *self.bell.lock() {
            // It fails only when it rings already.
            let _ = bell.write(&1_u64.to_ne_bytes());
        }
    }

    /// As [`Writer::submit`], for `begin` to be called once several calls are queued: they share a transaction.
    ///
    /// # Errors
    /// As [`Writer::submit`].
    pub fn queue(&self, call: Call) -> Result<Pending> {
        let answer = Answer::default();
        let bytes = call.bytes();
        let mut queue = self.queue.lock();
        if queue.is_closed {
            return Err(CacheError::Closed);
        }
        // A call that is larger than the bound is taken when it is alone.
        if queue.calls.len() >= QUEUE_CALLS_MAX || (queue.bytes > 0 && queue.bytes + bytes > QUEUE_BYTES_MAX) {
            return Err(CacheError::Busy);
        }
        queue.bytes += bytes;
        queue.calls.push_back((call, Arc::clone(&answer)));
        Ok(Pending(answer))
    }

    /// Takes no more calls; what is queued is made.
    pub fn stop(&self) {
        self.queue.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Makes calls until it is stopped.
    pub fn run(&self) {
        let mut active = None;
        while let Some(batch) = self.next_batch() {
            self.make(&mut active, batch);
        }
        if let Some(active) = active {
            // Should this fail, the next upkeep finds that its owner is gone.
            let _ = self.leave_segment(&active);
        }
    }

    /// Answers those who are left, after the last call that is made.
    pub fn end(&self) {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        let waiting = std::mem::take(&mut queue.calls);
        drop(queue);
        for (_, answer) in waiting {
            reply(&answer, Err(CacheError::Closed));
        }
        self.ring();
    }

    fn next_batch(&self) -> Option<Vec<(Call, Answer)>> {
        let row_bytes_max = self.part_bytes();
        let mut queue = self.queue.lock();
        while queue.calls.is_empty() {
            if queue.is_closed {
                return None;
            }
            self.changed.wait(&mut queue);
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some((call, _)) = queue.calls.front() {
            bytes += call.row_bytes();
            let is_small = call.is_small(row_bytes_max);
            let fits = is_small && batch.len() < BATCH_CALLS_MAX && bytes <= row_bytes_max;
            if !batch.is_empty() && !fits {
                break;
            }
            batch.extend(queue.calls.pop_front());
            if !is_small {
                break;
            }
        }
        queue.bytes = queue.bytes.saturating_sub(batch.iter().map(|(call, _)| call.bytes()).sum());
        Some(batch)
    }

    fn make(&self, active: &mut Option<Active>, batch: Vec<(Call, Answer)>) {
        if batch.len() > 1 {
            if let Ok(replies) = self.together(active, &batch) {
                let mut rings = false;
                for ((_, answer), found) in batch.iter().zip(replies) {
                    rings |= reply(answer, Ok(found));
                }
                if rings {
                    self.ring();
                }
                return;
            }
        }
        // What one call of a batch cannot do the others may.
        for (call, answer) in batch {
            let made = self.alone(active, &call);
            if reply(&answer, made) {
                self.ring();
            }
        }
    }

    fn together(&self, active: &mut Option<Active>, batch: &[(Call, Answer)]) -> Result<Vec<Reply>> {
        let bytes = batch.iter().map(|(call, _)| call.row_bytes()).sum();
        self.change(active, bytes, |change| batch.iter().map(|(call, _)| self.apply(change, call)).collect())
    }

    fn alone(&self, active: &mut Option<Active>, call: &Call) -> Result<Reply> {
        let made = match call {
            Call::Mark { token, namespace, keys: Some(keys), deadline_ms } if keys.len() > PART_KEYS => {
                self.mark_parts(active, *token, namespace, keys, *deadline_ms)
            }
            Call::Settle(settle) => self.settle(active, settle),
            Call::Fill { namespace, rows, keys, tickets, now_ms } if !call.is_small(self.part_bytes()) => {
                let mut all = Reply::default();
                for range in self.runs(keys, |key| rows.get(key).map_or(0, frame_bytes)) {
                    let (keys, tickets) = (&keys[range.clone()], &tickets[range]);
                    let bytes = keys.iter().filter_map(|key| rows.get(key)).map(frame_bytes).sum();
                    let fill = |change: &mut Change<'_>| self.fill(change, namespace, rows, keys, tickets, *now_ms);
                    all.put += self.change(active, bytes, fill)?.put;
                }
                Ok(all)
            }
            Call::FillPage { namespace, rows, ticket, now_ms } if !call.is_small(self.part_bytes()) => {
                let mut all = Reply::default();
                for range in self.runs(&rows.records, frame_bytes) {
                    let records = &rows.records[range];
                    let bytes = records.iter().map(frame_bytes).sum();
                    let fill = |change: &mut Change<'_>| self.fill_page(change, namespace, records, *ticket, *now_ms);
                    let made = self.change(active, bytes, fill)?;
                    all.put += made.put;
                    all.absent.extend(made.absent);
                }
                Ok(all)
            }
            Call::Expire { now_ms } => {
                while self.change(active, 0, |change| change.expire(*now_ms, EXPIRED_WRITES_MAX))? {}
                Ok(Reply::default())
            }
            Call::Adopt { owners, now_ms } => self.adopt(active, owners, *now_ms),
            call => self.change(active, call.row_bytes(), |change| self.apply(change, call)),
        };
        if matches!(made, Err(CacheError::Io(_) | CacheError::Broken)) {
            self.counters.io_errors.fetch_add(1, Ordering::Relaxed);
        }
        made
    }

    /// Bytes of rows that are put in one transaction.
    fn part_bytes(&self) -> u64 {
        PART_BYTES.min(segment_bytes(self.capacity_bytes))
    }

    /// Splits items into runs that are put in one transaction each.
    fn runs<T>(&self, items: &[T], bytes_of: impl Fn(&T) -> u64) -> Vec<Range<usize>> {
        let (mut runs, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (index, item) in items.iter().enumerate() {
            bytes += bytes_of(item);
            if index > start && (bytes > self.part_bytes() || index - start >= PART_KEYS) {
                runs.push(start..index);
                (start, bytes) = (index, bytes_of(item));
            }
        }
        runs.push(start..items.len());
        runs
    }

    /// One transaction, with room for so many bytes of rows.
    ///
    /// # Errors
    /// Of the change; nothing of it was made then.
    pub fn change<T>(
        &self,
        active: &mut Option<Active>,
        row_bytes: u64,
        make: impl FnOnce(&mut Change<'_>) -> Result<T>,
    ) -> Result<T> {
        if row_bytes > 0 {
            self.make_room(active, row_bytes)?;
        }
        let store = &self.home.store;
        let target = if row_bytes > 0 { active.as_mut() } else { None };
        let mut change = Change::begin(&store.env, &store.shared, target, segment_bytes(self.capacity_bytes))
            .map_err(|error| self.judge(error))?;
        let made = make(&mut change).and_then(|made| change.commit().map(|()| made));
        if made.is_err() {
            if let Some(active) = active {
                active.forget();
            }
        }
        made.map_err(|error| self.judge(error))
    }

    fn judge(&self, error: CacheError) -> CacheError {
        if matches!(error, CacheError::Broken) {
            self.home.store.shared.set_broken(true);
        }
        error
    }

    /// Sees to it that the active segment has room, or begins another one.
    pub fn make_room(&self, active: &mut Option<Active>, row_bytes: u64) -> Result<()> {
        let length_max = segment_bytes(self.capacity_bytes);
        if active.as_ref().is_some_and(|active| active.end == 0 || active.end + row_bytes <= length_max) {
            return Ok(());
        }
        let store = &self.home.store;
        let mut change = Change::begin(&store.env, &store.shared, None, 0).map_err(|error| self.judge(error))?;
        if let Some(full) = active.take() {
            if let Some(mut segment) = change.segment(full.id)? {
                (segment.owner, segment.sealed) = (NOBODY, true);
                change.txn().put(Table::Facts, &entry::segment_key(full.id), &segment.encode())?;
            }
        }
        let mut left = None;
        change.txn().walk(Table::Facts, &[entry::SEGMENT], &[], |key, bytes| {
            let segment = Segment::decode(bytes)?;
            let fits = segment.bytes + row_bytes <= length_max;
            if segment.owner == NOBODY && !segment.sealed && fits {
                left = Some((entry::number_of(key)?, segment));
            }
            Ok(left.is_none())
        })?;
        let (id, mut segment) = if let Some(left) = left {
            left
        } else {
            let mut meta = change.meta()?;
            meta.segments += 1;
            change.set_meta(meta);
            let fresh = Segment { owner: NOBODY, sealed: false, bytes: 0, live_bytes: 0, live_rows: 0 };
            (meta.segments, fresh)
        };
        segment.owner = self.home.owner;
        change.txn().put(Table::Facts, &entry::segment_key(id), &segment.encode())?;
        let file = store.segments.writable(id)?;
        change.commit().map_err(|error| self.judge(error))?;
        *active = Some(Active::new(id, file, segment.bytes));
        Ok(())
    }

    /// Lets another engine append to a segment.
    pub fn leave_segment(&self, active: &Active) -> Result<()> {
        let store = &self.home.store;
        let mut change = Change::begin(&store.env, &store.shared, None, 0)?;
        if let Some(mut segment) = change.segment(active.id)? {
            segment.owner = NOBODY;
            change.txn().put(Table::Facts, &entry::segment_key(active.id), &segment.encode())?;
        }
        change.commit()
    }

    fn apply(&self, change: &mut Change<'_>, call: &Call) -> Result<Reply> {
        match call {
            Call::Mark { token, namespace, keys, deadline_ms } => {
                change.mark(namespace, *token, 0, self.home.owner, keys.clone(), *deadline_ms)?;
                Ok(Reply { found: true, ..Reply::default() })
            }
            Call::Settle(settle) => {
                let found = self.settle_parts(change, settle, settle.rows.as_deref(), usize::MAX)?;
                Ok(Reply { found: found > 0, ..Reply::default() })
            }
            Call::Fill { namespace, rows, keys, tickets, now_ms } => {
                self.fill(change, namespace, rows, keys, tickets, *now_ms)
            }
            Call::FillPage { namespace, rows, ticket, now_ms } => {
                self.fill_page(change, namespace, &rows.records, *ticket, *now_ms)
            }
            Call::Clear { namespace } => change.clear(namespace).map(|()| Reply::default()),
            Call::Note { namespace, text, epoch, lost } => {
                let mut facts = change.namespace(namespace)?;
                let is_valid = epoch_of(change.meta()?.incarnation, facts.epoch) == *epoch && facts.lost == *lost;
                let found = is_valid && text.len() <= NOTE_BYTES_MAX;
                if found {
                    facts.note.clone_from(text);
                    facts.note_lost = *lost;
                    change.save(namespace, facts);
                }
                Ok(Reply { found, ..Reply::default() })
            }
            Call::Limit { namespace, capacity_bytes } => {
                let mut facts = change.namespace(namespace)?;
                facts.capacity_bytes = *capacity_bytes;
                change.save(namespace, facts);
                Ok(Reply::default())
            }
            Call::Evict { namespace, key, place } => {
                let found = change.evict(namespace, key, *place)?;
                self.counters.evicted_rows.fetch_add(u64::from(found), Ordering::Relaxed);
                Ok(Reply { found, ..Reply::default() })
            }
            Call::Expire { .. } | Call::Adopt { .. } => Ok(Reply::default()),
        }
    }

    fn mark_parts(
        &self,
        active: &mut Option<Active>,
        token: u64,
        namespace: &str,
        keys: &[Key],
        deadline_ms: u64,
    ) -> Result<Reply> {
        for (part, keys) in keys.chunks(PART_KEYS).enumerate() {
            let part = u32::try_from(part).map_err(io::Error::other)?;
            self.change(active, 0, |change| {
                change.mark(namespace, token, part, self.home.owner, Some(keys.to_vec()), deadline_ms)
            })?;
        }
        Ok(Reply { found: true, ..Reply::default() })
    }

    /// Ends a write part by part. If its rows cannot be put, its ids are left missing.
    fn settle(&self, active: &mut Option<Active>, settle: &Settle) -> Result<Reply> {
        let mut found = false;
        if settle.outcome == Outcome::Applied {
            let changed: Vec<_> = settle.changed.iter().flatten().collect();
            for keys in changed.chunks(PART_KEYS) {
                self.change(active, 0, |change| leave_missing(change, settle, keys.iter().copied()))?;
            }
        }
        loop {
            let rows = settle.rows.as_deref();
            let bytes = rows.map_or(0, |rows| rows.records.iter().map(frame_bytes).sum::<u64>().min(self.part_bytes()));
            let mut ended = self.change(active, bytes, |change| self.settle_parts(change, settle, rows, 1));
            if matches!(ended, Err(CacheError::Io(_))) && rows.is_some() {
                self.counters.io_errors.fetch_add(1, Ordering::Relaxed);
                ended = self.change(active, 0, |change| self.settle_parts(change, settle, None, 1));
            }
            let ended = ended?;
            found |= ended > 0;
            if ended == 0 || settle.outcome == Outcome::Unknown {
                return Ok(Reply { found, ..Reply::default() });
            }
        }
    }

    /// Ends up to `limit` parts of a write, all of them for an unknown outcome; gives how many.
    fn settle_parts(
        &self,
        change: &mut Change<'_>,
        settle: &Settle,
        rows: Option<&Rows>,
        limit: usize,
    ) -> Result<usize> {
        // A write whose mark was lost may commit after this one, and a patch would be composed with this one's row.
        let rows = rows.filter(|_| settle.now_ms >= self.home.store.shared.quiet_until_ms());
        let parts = change.parts(settle.token)?;
        let unknown = settle.outcome == Outcome::Unknown;
        let mut ended = 0;
        for (at, write) in parts.into_iter().take(if unknown { usize::MAX } else { limit }) {
            ended += 1;
            if unknown {
                change.hold(&at, write, settle.now_ms + self.unknown_write_ms)?;
                continue;
            }
            let applied = settle.outcome == Outcome::Applied;
            if write.keys.is_none() && applied && limit > 1 {
                leave_missing(change, settle, settle.changed.iter().flatten())?;
            }
            let spare = !applied || settle.changed.is_some();
            change.settle(&at, &write, spare, |key| {
                if !applied || settle.changed.as_ref().is_some_and(|changed| !changed.contains(key)) {
                    return Effect::None;
                }
                if let Some(record) = rows.and_then(|rows| rows.get(key)) {
                    return Effect::Row(Content { head: &record.head, tail: &record.tail }, settle.now_ms);
                }
                if settle.deleted.contains(key) {
                    Effect::Deleted
                } else {
                    Effect::Changed
                }
            })?;
        }
        Ok(ended)
    }

    /// What a namespace may hold; 0: all of the capacity.
    pub fn share_of(&self, namespace: &entry::Namespace) -> u64 {
        if namespace.capacity_bytes > 0 {
            namespace.capacity_bytes
        } else {
            self.namespace_capacity_bytes
        }
    }

    /// Whether rows may be put at all.
    fn may_put(&self, change: &Change<'_>, namespace: &entry::Namespace, name: &str, now_ms: u64) -> bool {
        let shared = &self.home.store.shared;
        let bytes_max = self.capacity_bytes + 2 * segment_bytes(self.capacity_bytes);
        let share = self.share_of(namespace);
        let share_max = share + share / 8;
        now_ms >= shared.quiet_until_ms()
            && namespace.closed_by == 0
            && !shared.owes(name)
            && shared.segment_bytes() + change.pending_bytes() < bytes_max
            && (share == 0 || namespace.bytes < share_max)
    }

    fn fill(
        &self,
        change: &mut Change<'_>,
        name: &str,
        rows: &Rows,
        keys: &[Key],
        tickets: &[i64],
        now_ms: u64,
    ) -> Result<Reply> {
        let mut namespace = change.namespace(name)?;
        let mut put = 0;
        for (key, ticket) in keys.iter().zip(tickets) {
            let seen = u64::try_from(*ticket).unwrap_or(0);
            let found = change.entry(namespace.number, key)?;
            let allowed = change.generation(&namespace, key) < seen
                && !matches!(found, Some(entry::Entry::Guard { .. }))
                && self.may_put(change, &namespace, name, now_ms);
            if !allowed {
                self.counters.refused_fills.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let Some(record) = rows.get(key) else {
                change.fill_hole(&mut namespace, key)?;
                continue;
            };
            if self.is_live(found.as_ref(), namespace.epoch, now_ms) {
                continue;
            }
            let content = Content { head: &record.head, tail: &record.tail };
            put += usize::from(self.put(change, &mut namespace, key, found, content, now_ms)?);
        }
        change.save(name, namespace);
        Ok(Reply { found: true, put, absent: Vec::new() })
    }

    fn fill_page(
        &self,
        change: &mut Change<'_>,
        name: &str,
        records: &[crate::record::Record],
        ticket: i64,
        now_ms: u64,
    ) -> Result<Reply> {
        let mut namespace = change.namespace(name)?;
        let seen = u64::try_from(ticket).unwrap_or(0);
        let mut reply = Reply { found: true, ..Reply::default() };
        for record in records {
            let key = &record.key;
            let found = change.entry(namespace.number, key)?;
            let is_marked = matches!(found, Some(entry::Entry::Guard { .. })) || namespace.closed_by > 0;
            let allowed = !is_marked
                && change.generation(&namespace, key) < seen
                && self.may_put(change, &namespace, name, now_ms);
            let content = Content { head: &record.head, tail: &record.tail };
            if allowed && self.put(change, &mut namespace, key, found, content, now_ms)? {
                reply.put += 1;
                continue;
            }
            self.counters.refused_fills.fetch_add(1, Ordering::Relaxed);
            if is_marked || !self.is_live(found.as_ref(), namespace.epoch, now_ms) {
                reply.absent.push(key.as_slice().into());
            }
        }
        change.save(name, namespace);
        Ok(reply)
    }

    /// Puts a row; one that is too large to be kept counts as lost.
    fn put(
        &self,
        change: &mut Change<'_>,
        namespace: &mut entry::Namespace,
        key: &[u8],
        found: Option<entry::Entry>,
        content: Content<'_>,
        now_ms: u64,
    ) -> Result<bool> {
        let is_put = key.len() <= KEY_BYTES_MAX && change.put(namespace, key, found, content, now_ms)?;
        if !is_put {
            self.counters.refused_fills.fetch_add(1, Ordering::Relaxed);
            namespace.lost += 1;
        }
        Ok(is_put)
    }

    fn is_live(&self, found: Option<&entry::Entry>, epoch: u32, now_ms: u64) -> bool {
        let ttl_ms = self.ttl_ms.load(Ordering::Relaxed);
        matches!(found, Some(entry::Entry::Known(entry::Known::Row(slot)))
            if slot.epoch == epoch && now_ms.saturating_sub(slot.filled_ms) < ttl_ms)
    }

    fn adopt(&self, active: &mut Option<Active>, owners: &[u16], now_ms: u64) -> Result<Reply> {
        let shared = &self.home.store.shared;
        let until_ms = now_ms + self.unknown_write_ms;
        self.change(active, 0, |change| {
            for owner in owners {
                let owed = shared.owed_by(usize::from(*owner));
                if let Some(owed) = &owed {
                    // What it owed may also be in flight still.
                    let cleared = change.clear_where(|name| owed.covers(shared::name_hash(name)), *owner, until_ms)?;
                    let known: Vec<u64> = cleared.iter().map(|name| shared::name_hash(name)).collect();
                    if !owed.is_within(&known) {
                        // Of names nobody knows only the hashes: what is not there yet cannot be closed alone.
                        change.fence_unknown()?;
                        shared.set_quiet_until_ms(until_ms.max(shared.quiet_until_ms()));
                    }
                }
                change.orphan(*owner, until_ms)?;
            }
            Ok(())
        })?;
        for owner in owners {
            shared.set_owing(usize::from(*owner), &[]);
        }
        Ok(Reply::default())
    }
}

/// The longest id; longer ones are neither marked nor kept.
pub const KEY_BYTES_MAX: usize = crate::lmdb::KEY_BYTES_MAX - 8;

fn leave_missing<'k>(change: &mut Change<'_>, settle: &Settle, keys: impl Iterator<Item = &'k Key>) -> Result<()> {
    // Ids of a write that names its ids are settled with their marks.
    if change.part(settle.token)?.is_some_and(|(_, write)| write.keys.is_some()) {
        return Ok(());
    }
    for key in keys {
        change.leave_missing(&settle.namespace, key, !settle.deleted.contains(key))?;
    }
    Ok(())
}

/// Answers a call; gives whether its caller waits for the bell.
fn reply(answer: &Answer, made: Result<Reply>) -> bool {
    let mut state = answer.0.lock();
    state.made = Some(made);
    answer.1.notify_all();
    state.rings
}

/// An epoch as it is told: no two indexes ever have one in common.
pub fn epoch_of(incarnation: u32, epoch: u32) -> u64 {
    u64::from(incarnation) << 31 | u64::from(epoch)
}

/// The keys that occur, each once; ids over the limit are left out.
pub fn distinct(keys: impl IntoIterator<Item = Key>) -> Vec<Key> {
    let mut seen: HashMap<Key, ()> = HashMap::new();
    keys.into_iter().filter(|key| key.len() <= KEY_BYTES_MAX && seen.insert(key.clone(), ()).is_none()).collect()
}
