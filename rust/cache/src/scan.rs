//! All rows of a namespace, as they were at one moment, in the order in which they stand.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::engine::{Engine, Facts};
use crate::entry::{Entry, Known};
use crate::error::CacheError;
use crate::frame::Frame;
use crate::lmdb::Table;
use crate::record::Record;
use crate::rows::Rows;
use crate::segments::Mapping;
use crate::writer::Call;

/// The kernel is told of this many bytes ahead of the scan.
const AHEAD_BYTES: u32 = 4 << 20;
/// Entries between two looks at whether to go on.
const ENTRIES_PER_CHECK: usize = 4_096;
const ATTEMPTS: usize = 3;

type Result<T> = std::result::Result<T, CacheError>;

/// One row of a scan.
pub struct ScannedRow<'a> {
    pub key: &'a [u8],
    pub head: &'a [u8],
    tail: Tail<'a>,
    /// A write of it was open when the scan began: the row is what it was before.
    pub is_marked: bool,
    /// The change that put it: of two scans, rows with a later one than the first scan's `sequence` are new.
    pub sequence: u64,
}

/// The second half of a row.
#[derive(Clone, Copy)]
pub enum Tail<'a> {
    Bytes(&'a [u8]),
    /// Verified when it is asked for.
    Framed(&'a Frame<'a>),
}

impl<'a> ScannedRow<'a> {
    /// A row of an engine that shows no tails.
    #[must_use]
    pub fn without_tail(key: &'a [u8], head: &'a [u8], is_marked: bool, sequence: u64) -> Self {
        Self { key, head, tail: Tail::Bytes(&[]), is_marked, sequence }
    }

    /// Vectors and reserved attributes.
    ///
    /// # Errors
    /// [`CacheError::Corrupt`]
    pub fn tail(&self) -> Result<&'a [u8]> {
        match self.tail {
            Tail::Bytes(bytes) => Ok(bytes),
            Tail::Framed(frame) => frame.tail(),
        }
    }
}

/// What a scan holds on to; an engine of any kind gives one.
pub trait NamespaceScan: Send + Sync {
    /// Rows that will be visited, all parts together.
    fn rows(&self) -> u64;

    /// Those of them with an open write.
    fn marked(&self) -> u64;

    /// The last change that the scan sees.
    fn sequence(&self) -> u64;

    /// Rows that ought to be there and are not: too old, or found unreadable by a visit so far (counted by each visit).
    /// When there are any, the scan does not show the whole namespace.
    fn missing(&self) -> u64;

    /// Visits part `part` of `parts`; each row is in exactly one part. Parts may be visited by threads at one time.
    ///
    /// # Errors
    /// Of the store. A visitor that breaks ends its part without one.
    fn visit(&self, part: usize, parts: usize, visit: &mut dyn FnMut(&ScannedRow<'_>) -> ControlFlow<()>)
        -> Result<()>;
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    segment: u32,
    offset: u32,
    bytes: u64,
    sequence: u64,
    is_marked: bool,
}

/// A scan of the embedded engine: it sees each row that was live when it began, exactly once, also those that are
/// replaced or evicted meanwhile.
pub struct Scan {
    /// The namespace's number in the index.
    pub number: u32,
    rows: Vec<Row>,
    segments: HashMap<u32, Arc<Mapping>>,
    sequence: u64,
    missing: AtomicU64,
    /// When the oldest of the rows was read from the upstream; that of a namespace without rows lies far ahead.
    pub oldest_filled_ms: u64,
    /// What was held of the namespace at the moment that the scan shows.
    pub facts: Facts,
}

impl Engine {
    /// Begins a scan of a namespace. `should_stop` is asked now and then.
    ///
    /// # Errors
    /// [`CacheError::Stopped`] when it was told to; [`CacheError::Busy`] when the namespace is owed; of the index.
    pub fn scan(&self, namespace: &str, now_ms: u64, should_stop: &dyn Fn() -> bool) -> Result<Scan> {
        self.check()?;
        for _ in 0..ATTEMPTS {
            let (scan, expired) = self.collect(namespace, now_ms, should_stop)?;
            for (key, place) in expired {
                // Whoever keeps count hears of it; the scan does not wait.
                drop(self.submit(Call::Evict { namespace: namespace.into(), key, place }));
            }
            if let Some(scan) = scan {
                return Ok(scan);
            }
        }
        Err(CacheError::Busy)
    }

    #[allow(clippy::type_complexity)]
    fn collect(
        &self,
        namespace: &str,
        now_ms: u64,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<(Option<Scan>, Vec<(Box<[u8]>, crate::entry::Place)>)> {
        // What somebody owes may have been acknowledged before the scan began.
        let Some(txn) = self.read_unless_owed(namespace)? else { return Err(CacheError::Busy) };
        let mut scan = Scan {
            number: 0,
            rows: Vec::new(),
            segments: HashMap::new(),
            sequence: txn.id(),
            missing: AtomicU64::new(0),
            oldest_filled_ms: u64::MAX,
            facts: self.facts_of(&txn, namespace)?,
        };
        let mut expired = Vec::new();
        let Some(facts) = self.namespace(&txn, namespace)? else {
            return Ok((Some(scan), expired));
        };
        scan.number = facts.number;
        let ttl_ms = self.writer.ttl_ms.load(Ordering::Relaxed);
        let mut looked = 0;
        txn.walk(Table::Ids, &facts.number.to_be_bytes(), &[], |key, bytes| {
            looked += 1;
            if looked % ENTRIES_PER_CHECK == 0 && should_stop() {
                return Err(CacheError::Stopped);
            }
            let (known, is_marked) = match Entry::decode(bytes)? {
                Entry::Known(known) => (known, false),
                Entry::Guard { beneath, .. } => (beneath, true),
            };
            let Known::Row(slot) = known else {
                return Ok(true);
            };
            if slot.epoch != facts.epoch {
                return Ok(true);
            }
            if now_ms.saturating_sub(slot.filled_ms) >= ttl_ms {
                expired.push((key[4..].into(), slot.place));
                return Ok(true);
            }
            scan.oldest_filled_ms = scan.oldest_filled_ms.min(slot.filled_ms);
            scan.rows.push(Row {
                segment: slot.place.segment,
                offset: slot.place.offset,
                bytes: slot.bytes(),
                sequence: slot.sequence,
                is_marked: is_marked || facts.closed_by > 0,
            });
            Ok(true)
        })?;
        scan.missing.store(expired.len() as u64, Ordering::Relaxed);
        scan.rows.sort_unstable();
        // Opened before the snapshot ends. A file that is gone by now was evicted after it began.
        let mut last = None;
        for row in &scan.rows {
            if last == Some(row.segment) {
                continue;
            }
            last = Some(row.segment);
            match self.writer.home.store.segments.mapping(row.segment) {
                Ok(mapping) => drop(scan.segments.insert(row.segment, mapping)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, expired)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((Some(scan), expired))
    }
}

impl NamespaceScan for Scan {
    fn rows(&self) -> u64 {
        self.rows.len() as u64
    }

    fn marked(&self) -> u64 {
        self.rows.iter().filter(|row| row.is_marked).count() as u64
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn missing(&self) -> u64 {
        self.missing.load(Ordering::Relaxed)
    }

    fn visit(
        &self,
        part: usize,
        parts: usize,
        visit: &mut dyn FnMut(&ScannedRow<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let (from, to) = (self.rows.len() * part / parts, self.rows.len() * (part + 1) / parts);
        let mut ahead = (u32::MAX, 0);
        let mut current: Option<(u32, &Arc<Mapping>)> = None;
        for row in &self.rows[from..to] {
            // Rows stand in the order of segments, so that one is seldom looked up.
            let mapping = match current {
                Some((segment, mapping)) if segment == row.segment => mapping,
                _ => self.segments.get(&row.segment).ok_or(CacheError::Broken)?,
            };
            current = Some((row.segment, mapping));
            if ahead.0 != row.segment || row.offset >= ahead.1 {
                let start = if ahead.0 == row.segment { ahead.1.max(row.offset) } else { row.offset };
                mapping.will_need(start, AHEAD_BYTES as usize);
                // Told again half-way, so that the disk is always ahead.
                ahead = (row.segment, start.saturating_add(AHEAD_BYTES / 2));
            }
            let read = || -> Result<Frame<'_>> {
                let frame = Frame::read(mapping.bytes(row.offset, crate::engine::length(row.bytes))?)?;
                if frame.header.namespace == self.number {
                    Ok(frame)
                } else {
                    Err(CacheError::Corrupt)
                }
            };
            let Ok(frame) = read() else {
                self.missing.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let scanned = ScannedRow {
                key: frame.key,
                head: frame.head,
                tail: Tail::Framed(&frame),
                is_marked: row.is_marked,
                sequence: row.sequence,
            };
            if visit(&scanned).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Rows in memory as a scan, each id once: for engines that have no better one.
pub struct RowsScan {
    rows: Arc<Rows>,
    /// Those with an open write.
    marked: Arc<Rows>,
    sequence: u64,
}

fn standing(rows: &Rows) -> impl Iterator<Item = &Record> {
    rows.records.iter().filter(|record| rows.get(&record.key).is_some_and(|last| std::ptr::eq(last, *record)))
}

impl RowsScan {
    pub fn new(rows: Arc<Rows>, marked: Arc<Rows>, sequence: u64) -> Self {
        Self { rows, marked, sequence }
    }
}

impl NamespaceScan for RowsScan {
    fn rows(&self) -> u64 {
        standing(&self.rows).count() as u64 + self.marked()
    }

    fn marked(&self) -> u64 {
        standing(&self.marked).count() as u64
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn missing(&self) -> u64 {
        0
    }

    fn visit(
        &self,
        part: usize,
        parts: usize,
        visit: &mut dyn FnMut(&ScannedRow<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let flagged = |rows, is_marked| standing(rows).map(move |record| (record, is_marked));
        let rows = flagged(&self.rows, false).chain(flagged(&self.marked, true));
        for (record, is_marked) in rows.skip(part).step_by(parts) {
            let tail = Tail::Bytes(&record.tail);
            let row = ScannedRow { key: &record.key, head: &record.head, tail, is_marked, sequence: self.sequence };
            if visit(&row).is_break() {
                break;
            }
        }
        Ok(())
    }
}
