//! Look-ups: made by the caller's thread from a snapshot of the index and from mapped memory, one document or a batch.
//!
//! A batch is read from one snapshot, which is let go of before any row is read, since a row may have to come from the
//! disk.

use std::io;
use std::sync::atomic::Ordering;

use hevlayer_doc::View;

use crate::engine::{length, ticket, Engine, MOMENT, WAIT_MAX};
use crate::entry::{self, Entry, Glance, Known, Namespace, Slot};
use crate::error::CacheError;
use crate::frame::Frame;
use crate::lmdb::{Read, Table};
use crate::record::{IdType, Projection};
use crate::segments::Mapping;
use crate::shared;
use crate::writer::{Call, KEY_BYTES_MAX};

/// How many rows ahead of the one that is written a batch fetches.
const AHEAD: usize = 4;
/// Shorter rows are hashed each time: that takes less than to look up whether it was done.
const VERIFIED_BYTES_MIN: usize = 2048;
/// Snapshots that a look-up takes: marks may end and rows may move while it looks.
const ATTEMPTS: usize = 3;

type Result<T> = std::result::Result<T, CacheError>;

/// What a look-up gives.
#[derive(Debug)]
pub enum Lookup {
    /// The document as JSON text.
    Hit(Vec<u8>),
    /// A ticket: over 0, what a read that begins now finds may be filled with it; under 0 it may not, since a write is
    /// open; 0 says nothing.
    Ticket(i64),
    /// The answer needs the disk, or the writer for longer than a moment.
    WouldWait,
}

/// As [`Lookup`], with the text of a hit elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    Hit,
    Ticket(i64),
    WouldWait,
}

/// What the index says of an id.
enum Found {
    Row(u32, Slot),
    /// A row that is too old.
    Expired(Slot, i64),
    Ticket(i64),
    /// A write is in the way whose time is over.
    Overdue,
}

impl Engine {
    /// A snapshot with what it says of a namespace; None: somebody owes it, and nothing of it may be said.
    fn place_of(&self, name: &str) -> Result<Option<(Read<'_>, Option<Glance>)>> {
        let Some(txn) = self.read_unless_owed(name)? else { return Ok(None) };
        let glance = txn.get(Table::Facts, &entry::namespace_key(name))?.map(Namespace::glance).transpose()?;
        Ok(Some((txn, glance)))
    }

    fn find(&self, txn: &Read<'_>, glance: Option<Glance>, key: &[u8], now_ms: u64) -> Result<Found> {
        let shared = &self.writer.home.store.shared;
        if key.len() > KEY_BYTES_MAX {
            return Ok(Found::Ticket(0));
        }
        let Some(glance) = glance else {
            return Ok(Found::Ticket(self.fresh_ticket(txn, now_ms)));
        };
        let entry = txn.get(Table::Ids, &entry::id_key(glance.number, key))?.map(Entry::decode).transpose()?;
        let is_old = |slot: &Slot| now_ms.saturating_sub(slot.filled_ms) >= self.ttl_ms();
        if let Some(Entry::Known(Known::Row(slot))) = entry {
            if !glance.is_closed && slot.epoch == glance.epoch && !is_old(&slot) {
                return Ok(Found::Row(glance.number, slot));
            }
        }
        // Read after the snapshot was taken, so never older than it.
        let generation = shared.touched(shared::hash(glance.number, key)).max(glance.fence);
        if glance.is_closed || matches!(entry, Some(Entry::Guard { .. })) {
            return Ok(if has_overdue(txn, now_ms)? { Found::Overdue } else { Found::Ticket(-ticket(generation)) });
        }
        let seen = if now_ms < shared.quiet_until_ms() { 0 } else { ticket(generation.min(txn.id())) };
        match entry {
            Some(Entry::Known(Known::Row(slot))) if slot.epoch == glance.epoch => Ok(Found::Expired(slot, seen)),
            _ => Ok(Found::Ticket(seen)),
        }
    }

    /// Looks one document up and projects it. Without `wait` it waits neither for the disk nor for the writer.
    ///
    /// # Errors
    /// [`CacheError::Corrupt`] when the row is damaged; it is missing from then on.
    pub fn lookup(
        &self,
        namespace: &str,
        key: &[u8],
        projection: &Projection,
        id_type: Option<IdType>,
        now_ms: u64,
        wait: bool,
    ) -> Result<Lookup> {
        let mut text = Vec::new();
        Ok(match self.lookup_into(namespace, key, (projection, id_type), now_ms, wait, &mut text)? {
            Looked::Hit => Lookup::Hit(text),
            Looked::Ticket(ticket) => Lookup::Ticket(ticket),
            Looked::WouldWait => Lookup::WouldWait,
        })
    }

    /// As [`Engine::lookup`], with the document's text appended to `out`.
    ///
    /// # Errors
    /// As [`Engine::lookup`].
    pub fn lookup_into(
        &self,
        namespace: &str,
        key: &[u8],
        form: (&Projection, Option<IdType>),
        now_ms: u64,
        wait: bool,
        out: &mut Vec<u8>,
    ) -> Result<Looked> {
        self.check()?;
        let mut unread = None;
        for _ in 0..ATTEMPTS {
            let found = match self.place_of(namespace)? {
                Some((txn, glance)) => self.find(&txn, glance, key, now_ms)?,
                None => Found::Ticket(0),
            };
            if let Some(looked) = self.take(namespace, key, &found, form, now_ms, wait, out)? {
                return Ok(looked);
            }
            unread = if let Found::Row(_, slot) = found { Some(slot) } else { None };
        }
        match unread {
            // Its segment is gone, and the index does not hear of it: somebody else removed the file.
            Some(slot) if !self.drop_row(namespace, key, &slot, wait)? => Ok(Looked::WouldWait),
            _ => Ok(Looked::Ticket(0)),
        }
    }

    /// Looks documents up in one snapshot and calls `make` with what was found of each key and, for a hit, its text, in
    /// the order of the keys. None: one of them would have to wait.
    ///
    /// # Errors
    /// As [`Engine::lookup`].
    pub fn lookup_many<T>(
        &self,
        namespace: &str,
        keys: &[&[u8]],
        projection: &Projection,
        now_ms: u64,
        wait: bool,
        mut make: impl FnMut(&Looked, &[u8]) -> T,
    ) -> Result<Option<Vec<T>>> {
        self.check()?;
        let found: Vec<Found> = match self.place_of(namespace)? {
            Some((txn, glance)) => {
                keys.iter().map(|key| self.find(&txn, glance, key, now_ms)).collect::<Result<_>>()?
            }
            None => keys.iter().map(|_| Found::Ticket(0)).collect(),
        };
        if wait {
            self.prefetch(&found);
        }
        let mut text = Vec::new();
        let mut made = Vec::with_capacity(keys.len());
        for (index, (key, each)) in keys.iter().zip(&found).enumerate() {
            if let Some(Found::Row(number, slot)) = found.get(index + AHEAD) {
                self.fetch_ahead(*number, keys[index + AHEAD], slot);
            }
            text.clear();
            let form = (projection, None);
            let looked = match self.take(namespace, key, each, form, now_ms, wait, &mut text)? {
                Some(looked) => looked,
                // The snapshot is too old for it.
                None => self.lookup_into(namespace, key, form, now_ms, wait, &mut text)?,
            };
            if matches!(looked, Looked::WouldWait) {
                return Ok(None);
            }
            made.push(make(&looked, &text));
        }
        Ok(Some(made))
    }

    /// The rows of a batch stand anywhere in memory: while one is written, one of the next is fetched.
    fn fetch_ahead(&self, number: u32, key: &[u8], slot: &Slot) {
        let store = &self.writer.home.store;
        store.shared.prefetch_read(shared::hash(number, key));
        if let Ok(mapping) = store.segments.mapping(slot.place.segment) {
            mapping.prefetch(slot.place.offset, slot.prefix_bytes as usize);
        }
    }

    /// Makes an answer of what a snapshot said of a key; None: another snapshot is needed.
    #[allow(clippy::too_many_arguments)]
    fn take(
        &self,
        namespace: &str,
        key: &[u8],
        found: &Found,
        form: (&Projection, Option<IdType>),
        now_ms: u64,
        wait: bool,
        out: &mut Vec<u8>,
    ) -> Result<Option<Looked>> {
        let store = &self.writer.home.store;
        let (number, slot) = match *found {
            Found::Row(number, slot) => (number, slot),
            Found::Ticket(ticket) => return Ok(Some(Looked::Ticket(ticket))),
            Found::Expired(slot, ticket) => {
                let is_gone = self.drop_row(namespace, key, &slot, wait)?;
                return Ok(Some(if is_gone { Looked::Ticket(ticket) } else { Looked::WouldWait }));
            }
            Found::Overdue => {
                let patience = if wait { WAIT_MAX } else { MOMENT };
                return match self.wait(&self.submit(Call::Expire { now_ms })?, patience) {
                    Some(ended) => ended.map(|_| None),
                    None => Ok(Some(Looked::WouldWait)),
                };
            }
        };
        let mapping = match store.segments.mapping(slot.place.segment) {
            Ok(mapping) => mapping,
            // The row was evicted after the snapshot: the next one knows.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        mapping.prefetch(slot.place.offset, slot.prefix_bytes as usize);
        let is_near = |mapping: &Mapping, bytes| store.segments.is_resident(mapping, slot.place, bytes, now_ms);
        match self.document(&mapping, &slot, number, key, form, now_ms, (!wait).then_some(&is_near), out) {
            Ok(true) => {
                store.shared.note_read(shared::hash(number, key));
                Ok(Some(Looked::Hit))
            }
            Ok(false) => Ok(Some(Looked::WouldWait)),
            // As above, of a segment that had grown since it was mapped.
            Err(CacheError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                if !self.drop_row(namespace, key, &slot, wait)? {
                    return Ok(Some(Looked::WouldWait));
                }
                self.writer.counters.io_errors.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Has the kernel read rows, all at once, as far as they are not in memory: a batch then waits for the disk once,
    /// not for each of its rows.
    fn prefetch(&self, found: &[Found]) {
        for each in found {
            let Found::Row(_, slot) = each else { continue };
            // A row that was evicted after the snapshot is met again by its look-up.
            if let Ok(mapping) = self.writer.home.store.segments.mapping(slot.place.segment) {
                let bytes = length(slot.bytes());
                if !mapping.is_resident(slot.place.offset, bytes) {
                    mapping.will_need(slot.place.offset, bytes);
                }
            }
        }
    }

    /// Has a row that cannot be served forgotten, so that who asks next what was lost hears of it; false when that takes
    /// longer than a moment.
    fn drop_row(&self, namespace: &str, key: &[u8], slot: &Slot, wait: bool) -> Result<bool> {
        let call = Call::Evict { namespace: namespace.into(), key: key.into(), place: slot.place };
        match self.wait(&self.submit(call)?, if wait { WAIT_MAX } else { MOMENT }) {
            Some(ended) => ended.map(|_| true),
            None => Ok(false),
        }
    }
}

fn has_overdue(txn: &Read<'_>, now_ms: u64) -> Result<bool> {
    let mut found = false;
    txn.walk(Table::Facts, &[entry::DEADLINE], &[], |key, _| {
        found = entry::deadline_of(key)?.0 <= now_ms;
        Ok(false)
    })?;
    Ok(found)
}

type IsNear<'a> = dyn Fn(&Mapping, usize) -> bool + 'a;

impl Engine {
    /// Reads and projects a row, and appends its text to `out`. The tail is read only when it is asked for. `is_near` says
    /// whether that many bytes from the row's start are in memory: with it, false when they are not; without it the disk is
    /// waited for.
    #[allow(clippy::too_many_arguments)]
    fn document(
        &self,
        mapping: &Mapping,
        slot: &Slot,
        number: u32,
        key: &[u8],
        (projection, id_type): (&Projection, Option<IdType>),
        now_ms: u64,
        is_near: Option<&IsNear<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let offset = slot.place.offset;
        let bytes = mapping.bytes(offset, length(slot.bytes()))?;
        let prefix = slot.prefix_bytes as usize;
        match is_near {
            Some(is_near) if !is_near(mapping, prefix) => return Ok(false),
            None if !mapping.is_resident(offset, prefix) => mapping.will_need(offset, bytes.len()),
            _ => {}
        }
        let is_long = prefix >= VERIFIED_BYTES_MIN;
        let segments = &self.writer.home.store.segments;
        let frame = if is_long && segments.is_verified(slot.place, now_ms) {
            Frame::read_again(bytes)?
        } else {
            let frame = Frame::read(bytes)?;
            if is_long {
                segments.note_verified(slot.place, now_ms);
            }
            frame
        };
        if frame.header.namespace != number || frame.key != key || frame.header.frame_bytes() != bytes.len() {
            return Err(CacheError::Corrupt);
        }
        let mut view = View::new(frame.head, None)?;
        if view.needs_tail(projection) {
            if is_near.is_some_and(|is_near| !is_near(mapping, bytes.len())) {
                return Ok(false);
            }
            view = View::new(frame.head, Some(frame.tail()?))?;
        }
        view.write(projection, id_type, out);
        Ok(true)
    }
}
