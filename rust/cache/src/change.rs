//! One step of the protocol: what a mark, a settle, a fill or a clear changes, in one transaction of the index.
//!
//! Time is an argument. What other processes must agree on is read and written here and nowhere else.

use std::collections::HashMap;

use crate::entry::{self, Entry, Known, Meta, Namespace, Place, Segment, Slot, Write};
use crate::error::CacheError;
use crate::feed::Noted;
use crate::frame;
use crate::lmdb::{self, Table};
use crate::segments::Active;
use crate::shared::{self, Shared};

/// Ids that are remembered as holes, a namespace; beyond them they count as lost.
pub const HOLES_MAX: u64 = 100_000;
/// The longest note.
pub const NOTE_BYTES_MAX: usize = 4_000;

pub type Key = Box<[u8]>;

type Result<T> = std::result::Result<T, CacheError>;

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

/// A row to be put: its head and tail.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    pub head: &'a [u8],
    pub tail: &'a [u8],
}

/// What an acknowledged write made of an id.
#[derive(Clone, Copy)]
pub enum Effect<'a> {
    /// Nothing: it was refused, or the upstream did not change this one.
    None,
    /// This row, which is what the upstream now stores.
    Row(Content<'a>, u64),
    /// It does not exist any more.
    Deleted,
    /// It changed, to what is not known.
    Changed,
}

/// A transaction with what it has read so far.
pub struct Change<'e> {
    txn: lmdb::Write<'e>,
    shared: &'e Shared,
    /// Where rows are appended; without it none is put.
    active: Option<&'e mut Active>,
    row_bytes_max: u64,
    pending: Vec<u8>,
    segments: HashMap<u32, (i64, i64)>,
    names: HashMap<Box<str>, Namespace>,
    meta: Option<Meta>,
    pub(crate) noted: Noted,
}

impl<'e> Change<'e> {
    pub fn begin(
        env: &'e lmdb::Env,
        shared: &'e Shared,
        active: Option<&'e mut Active>,
        row_bytes_max: u64,
    ) -> Result<Self> {
        let txn = env.write()?;
        Ok(Self {
            txn,
            shared,
            active,
            row_bytes_max,
            pending: Vec::new(),
            segments: HashMap::new(),
            names: HashMap::new(),
            meta: None,
            noted: Noted::default(),
        })
    }

    /// The number of this transaction.
    pub fn now(&self) -> u64 {
        self.txn.id()
    }

    pub fn txn(&mut self) -> &mut lmdb::Write<'e> {
        &mut self.txn
    }

    /// Makes the change, or none of it.
    pub fn commit(mut self) -> Result<()> {
        if let Some(active) = self.active.as_mut().filter(|_| !self.pending.is_empty()) {
            active.append(&self.pending)?;
            let (id, end) = (active.id, active.next());
            let mut segment = self.segment(id)?.ok_or(CacheError::Broken)?;
            segment.bytes = end;
            self.txn.put(Table::Facts, &entry::segment_key(id), &segment.encode())?;
            self.shared.add_segment_bytes(self.pending.len() as u64);
        }
        for (id, (bytes, rows)) in std::mem::take(&mut self.segments) {
            // A segment that is gone takes its counts with it.
            if let Some(mut segment) = self.segment(id)? {
                segment.live_bytes = segment.live_bytes.saturating_add_signed(bytes);
                segment.live_rows = segment.live_rows.saturating_add_signed(rows);
                self.txn.put(Table::Facts, &entry::segment_key(id), &segment.encode())?;
            }
        }
        for (name, namespace) in std::mem::take(&mut self.names) {
            self.txn.put(Table::Facts, &entry::namespace_key(&name), &namespace.encode())?;
        }
        std::mem::take(&mut self.noted).write(&mut self.txn)?;
        if let Some(meta) = self.meta {
            self.txn.put(Table::Facts, entry::META, &meta.encode())?;
        }
        let active = self.active;
        self.txn.commit()?;
        if let Some(active) = active {
            active.keep();
        }
        Ok(())
    }

    pub fn segment(&self, id: u32) -> Result<Option<Segment>> {
        self.txn.get(Table::Facts, &entry::segment_key(id))?.map(Segment::decode).transpose()
    }

    pub fn meta(&mut self) -> Result<Meta> {
        match self.meta {
            Some(meta) => Ok(meta),
            None => self.txn.get(Table::Facts, entry::META)?.map_or(Ok(Meta::default()), Meta::decode),
        }
    }

    pub fn set_meta(&mut self, meta: Meta) {
        self.meta = Some(meta);
    }

    /// A namespace, made when it is not there.
    pub fn namespace(&mut self, name: &str) -> Result<Namespace> {
        if let Some(found) = self.names.get(name) {
            return Ok(found.clone());
        }
        if let Some(bytes) = self.txn.get(Table::Facts, &entry::namespace_key(name))? {
            return Namespace::decode(bytes);
        }
        let mut meta = self.meta()?;
        meta.namespaces += 1;
        self.meta = Some(meta);
        self.txn.put(Table::Facts, &entry::number_key(meta.namespaces), name.as_bytes())?;
        let made = Namespace { number: meta.namespaces, epoch: meta.epoch, fence: meta.fence, ..Namespace::default() };
        self.save(name, made.clone());
        Ok(made)
    }

    pub fn save(&mut self, name: &str, namespace: Namespace) {
        self.names.insert(name.into(), namespace);
    }

    pub fn name_of(&self, number: u32) -> Result<Box<str>> {
        let bytes = self.txn.get(Table::Facts, &entry::number_key(number))?.ok_or(CacheError::Broken)?;
        std::str::from_utf8(bytes).map(Into::into).map_err(|_| CacheError::Broken)
    }

    pub fn entry(&mut self, number: u32, key: &[u8]) -> Result<Option<Entry>> {
        self.txn.find_id(&entry::id_key(number, key))?.map(Entry::decode).transpose()
    }

    pub fn set(&mut self, number: u32, key: &[u8], entry: Option<Entry>) -> Result<()> {
        // A row beneath a mark still counts as the row.
        if !matches!(entry, Some(Entry::Guard { beneath: Known::Row(_), .. })) {
            self.noted.note(&self.txn, number, key)?;
        }
        let at = entry::id_key(number, key);
        match entry {
            None | Some(Entry::Known(Known::Nothing)) => self.txn.delete(Table::Ids, &at).map(drop),
            Some(entry) => self.txn.put_id(&at, &entry.encode()),
        }
    }

    /// A row's bytes in its segment are of no use any more.
    pub fn release(&mut self, known: &Known) {
        if let Known::Row(slot) = known {
            self.count(slot, -1);
        }
    }

    pub fn count(&mut self, slot: &Slot, rows: i64) {
        let counts = self.segments.entry(slot.place.segment).or_default();
        counts.0 += rows * i64::try_from(slot.bytes()).unwrap_or(i64::MAX);
        counts.1 += rows;
    }

    /// The last transaction that touched an id: no look-up from before it may fill it.
    pub fn generation(&self, namespace: &Namespace, key: &[u8]) -> u64 {
        self.shared.touched(shared::hash(namespace.number, key)).max(namespace.fence)
    }

    fn touch(&self, number: u32, key: &[u8]) {
        self.shared.touch(shared::hash(number, key), self.now());
    }

    // --- writes ----------------------------------------------------------------------------------------------------

    /// Marks a part of a write's ids, or the whole namespace. A part that is there already is left alone.
    pub fn mark(
        &mut self,
        name: &str,
        token: u64,
        part: u32,
        owner: u16,
        keys: Option<Vec<Key>>,
        deadline_ms: u64,
    ) -> Result<()> {
        let at = entry::write_key(token, part);
        if self.txn.get(Table::Facts, &at)?.is_some() {
            return Ok(());
        }
        let mut namespace = self.namespace(name)?;
        if let Some(keys) = &keys {
            for key in keys {
                self.guard(&mut namespace, key)?;
            }
        } else {
            namespace.closed_by += 1;
            namespace.fence = self.now();
        }
        let write = Write { namespace: namespace.number, owner, unknown: false, deadline_ms, keys };
        self.txn.put(Table::Facts, &at, &write.encode()?)?;
        self.txn.put(Table::Facts, &entry::deadline_key(deadline_ms, token), &[])?;
        self.save(name, namespace);
        Ok(())
    }

    fn guard(&mut self, namespace: &mut Namespace, key: &[u8]) -> Result<()> {
        let (number, now) = (namespace.number, self.now());
        self.touch(number, key);
        let guard = match self.entry(number, key)? {
            Some(Entry::Guard { writes, since, beneath, .. }) => {
                let beneath = self.drop_row(beneath);
                Entry::Guard { writes: writes + 1, contended: true, since, sequence: now, beneath }
            }
            found => {
                let mut beneath = Known::Nothing;
                if let Some(Entry::Known(known)) = found {
                    if known.epoch() == Some(namespace.epoch) {
                        beneath = known;
                    } else {
                        self.release(&known);
                    }
                }
                if let Known::Row(slot) = beneath {
                    namespace.rows = namespace.rows.saturating_sub(1);
                    namespace.bytes = namespace.bytes.saturating_sub(slot.bytes());
                }
                namespace.marked += 1;
                let contended = namespace.closed_by > 0;
                Entry::Guard { writes: 1, contended, since: now, sequence: now, beneath }
            }
        };
        self.set(number, key, Some(guard))
    }

    /// A row that will not come back; that the id was a hole stays known.
    fn drop_row(&mut self, beneath: Known) -> Known {
        self.release(&beneath);
        match beneath {
            Known::Row(_) => Known::Nothing,
            other => other,
        }
    }

    /// The first part of an open write.
    pub fn part(&self, token: u64) -> Result<Option<(Vec<u8>, Write)>> {
        let mut found = None;
        self.txn.walk(Table::Facts, &entry::write_prefix(token), &[], |key, bytes| {
            found = Some((key.to_vec(), Write::decode(bytes)?));
            Ok(false)
        })?;
        Ok(found)
    }

    /// Ends one part of a write; `effect` says what became of each id. A whole namespace that was changed gets a new
    /// epoch, unless `spare_namespace`.
    pub fn settle<'a>(
        &mut self,
        at: &[u8],
        write: &Write,
        spare_namespace: bool,
        effect: impl Fn(&[u8]) -> Effect<'a>,
    ) -> Result<()> {
        let token = entry::token_of(at)?;
        let name = self.name_of(write.namespace)?;
        let mut namespace = self.namespace(&name)?;
        if let Some(keys) = &write.keys {
            for key in keys {
                self.unguard(&mut namespace, key, effect(key))?;
            }
        } else {
            namespace.closed_by = namespace.closed_by.saturating_sub(1);
            namespace.fence = self.now();
            if !spare_namespace {
                self.clear_namespace(&mut namespace)?;
            }
        }
        self.txn.delete(Table::Facts, at)?;
        if self.part(token)?.is_none() {
            self.txn.delete(Table::Facts, &entry::deadline_key(write.deadline_ms, token))?;
        }
        self.save(&name, namespace);
        Ok(())
    }

    fn unguard(&mut self, namespace: &mut Namespace, key: &[u8], effect: Effect<'_>) -> Result<()> {
        let (number, now) = (namespace.number, self.now());
        self.touch(number, key);
        let Some(Entry::Guard { writes, contended, since, beneath, .. }) = self.entry(number, key)? else {
            return Ok(());
        };
        let contended = contended || namespace.fence > since;
        if writes > 1 {
            let beneath = self.drop_row(beneath);
            let guard = Entry::Guard { writes: writes - 1, contended: true, since, sequence: now, beneath };
            return self.set(number, key, Some(guard));
        }
        namespace.marked = namespace.marked.saturating_sub(1);
        let current = if beneath.epoch() == Some(namespace.epoch) { beneath } else { self.drop_row(beneath) };
        let was_hole = matches!(current, Known::Hole { epoch, .. } if epoch == namespace.epoch);
        let now_known = match effect {
            Effect::None if !contended => {
                if let Known::Row(slot) = current {
                    namespace.rows += 1;
                    namespace.bytes += slot.bytes();
                }
                return self.set(number, key, was_hole_or_row(current, was_hole));
            }
            Effect::Row(content, filled_ms) if !contended => self.place(namespace, key, content, filled_ms)?,
            Effect::Deleted if !contended => Some(Known::Nothing),
            _ => None,
        };
        self.release(&current);
        if let Some(known) = now_known {
            namespace.holes = namespace.holes.saturating_sub(u64::from(was_hole));
            return self.set(number, key, Some(Entry::Known(known)));
        }
        self.leave_hole(namespace, key, was_hole)
    }

    fn leave_hole(&mut self, namespace: &mut Namespace, key: &[u8], was_hole: bool) -> Result<()> {
        let hole = Entry::Known(Known::Hole { epoch: namespace.epoch, sequence: self.now() });
        if was_hole {
            return self.set(namespace.number, key, Some(hole));
        }
        if namespace.holes < HOLES_MAX {
            namespace.holes += 1;
            return self.set(namespace.number, key, Some(hole));
        }
        namespace.lost += 1;
        self.set(namespace.number, key, None)
    }

    /// Of a marked namespace the upstream changed this id.
    pub fn leave_missing(&mut self, name: &str, key: &[u8], is_hole: bool) -> Result<()> {
        let mut namespace = self.namespace(name)?;
        let (number, now) = (namespace.number, self.now());
        self.touch(number, key);
        match self.entry(number, key)? {
            Some(Entry::Guard { writes, since, beneath, .. }) => {
                let known = self.drop_row(beneath);
                let was_hole = known.epoch() == Some(namespace.epoch);
                let mut beneath = Known::Nothing;
                if is_hole && (was_hole || namespace.holes < HOLES_MAX) {
                    beneath = Known::Hole { epoch: namespace.epoch, sequence: now };
                    namespace.holes += u64::from(!was_hole);
                } else {
                    namespace.holes = namespace.holes.saturating_sub(u64::from(was_hole));
                    namespace.lost += u64::from(is_hole);
                }
                self.set(number, key, Some(Entry::Guard { writes, contended: true, since, sequence: now, beneath }))?;
            }
            found => {
                let was_hole = self.take(&mut namespace, found);
                if is_hole {
                    self.leave_hole(&mut namespace, key, was_hole)?;
                } else {
                    namespace.holes = namespace.holes.saturating_sub(u64::from(was_hole));
                    self.set(number, key, None)?;
                }
            }
        }
        self.save(name, namespace);
        Ok(())
    }

    /// Counts a row out that is about to be replaced or removed; true when the id was a hole.
    fn take(&mut self, namespace: &mut Namespace, found: Option<Entry>) -> bool {
        let Some(Entry::Known(known)) = found else {
            return false;
        };
        self.release(&known);
        if known.epoch() != Some(namespace.epoch) {
            return false;
        }
        if let Known::Row(slot) = known {
            namespace.rows = namespace.rows.saturating_sub(1);
            namespace.bytes = namespace.bytes.saturating_sub(slot.bytes());
        }
        matches!(known, Known::Hole { .. })
    }

    /// Keeps a part's marks until `until_ms`: the write may have had its effect, or may yet have it.
    pub fn hold(&mut self, at: &[u8], mut write: Write, until_ms: u64) -> Result<()> {
        let token = entry::token_of(at)?;
        for key in write.keys.as_deref().unwrap_or_default() {
            if let Some(Entry::Guard { writes, since, sequence, beneath, .. }) = self.entry(write.namespace, key)? {
                let beneath = self.drop_row(beneath);
                let guard = Entry::Guard { writes, contended: true, since, sequence, beneath };
                self.set(write.namespace, key, Some(guard))?;
            }
        }
        self.txn.delete(Table::Facts, &entry::deadline_key(write.deadline_ms, token))?;
        write.unknown = true;
        write.deadline_ms = until_ms;
        self.txn.put(Table::Facts, &entry::deadline_key(until_ms, token), &[])?;
        self.txn.put(Table::Facts, at, &write.encode()?)
    }

    /// Every part of a write, by key.
    pub fn parts(&self, token: u64) -> Result<Vec<(Vec<u8>, Write)>> {
        let mut found = Vec::new();
        self.txn.walk(Table::Facts, &entry::write_prefix(token), &[], |key, bytes| {
            found.push((key.to_vec(), Write::decode(bytes)?));
            Ok(true)
        })?;
        Ok(found)
    }

    /// Ends the writes whose time is over, a part at a time and at most `limit` of them; true when there may be more.
    pub fn expire(&mut self, now_ms: u64, limit: usize) -> Result<bool> {
        let mut due = Vec::new();
        self.txn.walk(Table::Facts, &[entry::DEADLINE], &[], |key, _| {
            let (deadline_ms, token) = entry::deadline_of(key)?;
            if deadline_ms > now_ms || due.len() >= limit {
                return Ok(false);
            }
            due.push((key.to_vec(), deadline_ms, token));
            Ok(true)
        })?;
        let more = due.len() >= limit;
        for (key, deadline_ms, token) in due {
            for (at, write) in self.parts(token)? {
                if write.deadline_ms <= deadline_ms {
                    self.settle(&at, &write, false, |_| Effect::Changed)?;
                }
            }
            self.txn.delete(Table::Facts, &key)?;
        }
        Ok(more)
    }

    /// Forgets every row of a namespace and refuses the fills of reads that began before. Marks stay.
    pub fn clear(&mut self, name: &str) -> Result<()> {
        let mut namespace = self.namespace(name)?;
        self.clear_namespace(&mut namespace)?;
        self.save(name, namespace);
        Ok(())
    }

    fn clear_namespace(&mut self, namespace: &mut Namespace) -> Result<()> {
        namespace.epoch += 1;
        namespace.fence = self.now();
        (namespace.rows, namespace.bytes, namespace.holes, namespace.lost) = (0, 0, 0, 0);
        namespace.note.clear();
        self.noted.stop(&mut self.txn, namespace.number)?;
        self.txn.put(Table::Facts, &entry::sweep_key(namespace.number), &[])
    }

    // --- fills -----------------------------------------------------------------------------------------------------

    /// Appends a row and gives what the index says of it; None when it cannot be kept.
    fn place(
        &mut self,
        namespace: &mut Namespace,
        key: &[u8],
        content: Content<'_>,
        filled_ms: u64,
    ) -> Result<Option<Known>> {
        let bytes = (frame::HEADER + key.len() + content.head.len() + content.tail.len()) as u64;
        let Some(active) = self.active.as_ref() else {
            return Ok(None);
        };
        let offset = active.next() + self.pending.len() as u64;
        let (Ok(start), Ok(tail_bytes)) = (u32::try_from(offset), u32::try_from(content.tail.len())) else {
            return Ok(None);
        };
        if bytes > self.row_bytes_max || offset + bytes > crate::segments::SEGMENT_BYTES_MAX {
            return Ok(None);
        }
        let place = Place { segment: active.id, offset: start };
        let owner = (namespace.number, namespace.epoch);
        let prefix_bytes = frame::write(&mut self.pending, owner, key, content.head, content.tail, filled_ms)?;
        let slot = Slot { epoch: namespace.epoch, place, prefix_bytes, tail_bytes, filled_ms, sequence: self.now() };
        self.count(&slot, 1);
        namespace.rows += 1;
        namespace.bytes += slot.bytes();
        Ok(Some(Known::Row(slot)))
    }

    /// Puts a row in place of what was `found` of an id that is not marked; false when it cannot be kept.
    pub fn put(
        &mut self,
        namespace: &mut Namespace,
        key: &[u8],
        found: Option<Entry>,
        content: Content<'_>,
        filled_ms: u64,
    ) -> Result<bool> {
        let Some(known) = self.place(namespace, key, content, filled_ms)? else {
            return Ok(false);
        };
        let was_hole = self.take(namespace, found);
        namespace.holes = namespace.holes.saturating_sub(u64::from(was_hole));
        self.set(namespace.number, key, Some(Entry::Known(known)))?;
        Ok(true)
    }

    /// An id that does not exist upstream is no hole.
    pub fn fill_hole(&mut self, namespace: &mut Namespace, key: &[u8]) -> Result<()> {
        if let Some(Entry::Known(Known::Hole { epoch, .. })) = self.entry(namespace.number, key)? {
            namespace.holes = namespace.holes.saturating_sub(u64::from(epoch == namespace.epoch));
            self.set(namespace.number, key, None)?;
        }
        Ok(())
    }

    /// Removes a row that stands at `place`, also beneath a mark; gives whether it was there.
    pub fn evict(&mut self, name: &str, key: &[u8], place: Place) -> Result<bool> {
        let mut namespace = self.namespace(name)?;
        let found = self.entry(namespace.number, key)?;
        let removed = match found {
            Some(Entry::Known(Known::Row(slot))) if slot.place == place => {
                let is_current = slot.epoch == namespace.epoch;
                self.take(&mut namespace, found);
                namespace.lost += u64::from(is_current);
                self.set(namespace.number, key, None)?;
                is_current
            }
            Some(Entry::Guard { writes, contended, since, sequence, beneath: Known::Row(slot) })
                if slot.place == place =>
            {
                self.count(&slot, -1);
                let is_current = slot.epoch == namespace.epoch;
                namespace.lost += u64::from(is_current);
                let guard = Entry::Guard { writes, contended, since, sequence, beneath: Known::Nothing };
                self.set(namespace.number, key, Some(guard))?;
                is_current
            }
            _ => return Ok(false),
        };
        self.save(name, namespace);
        Ok(removed)
    }

    /// What an owner that is gone owed is paid: every namespace that `is_owed` gets a new epoch, and is closed for as
    /// long as its writes may still take effect.
    ///
    /// Returns: their names.
    pub fn clear_where(&mut self, is_owed: impl Fn(&str) -> bool, owner: u16, until_ms: u64) -> Result<Vec<Box<str>>> {
        let mut names = Vec::new();
        self.txn.walk(Table::Facts, &[entry::NAMESPACE], &[], |key, _| {
            let name = std::str::from_utf8(&key[1..]).map_err(|_| CacheError::Broken)?;
            if is_owed(name) {
                names.push(Box::<str>::from(name));
            }
            Ok(true)
        })?;
        for name in &names {
            self.clear(name)?;
            let token = u64::MAX - (self.now() << 16 | u64::from(owner));
            let part = self.namespace(name)?.number;
            self.mark(name, token, part, owner, None, until_ms)?;
        }
        Ok(names)
    }

    /// No look-up so far may fill a namespace that is not known yet.
    pub fn fence_unknown(&mut self) -> Result<()> {
        let mut meta = self.meta()?;
        meta.fence = self.now();
        self.meta = Some(meta);
        Ok(())
    }

    /// The open writes of an owner that is gone end as unknown ones, and anyone may append to its segments.
    pub fn orphan(&mut self, owner: u16, until_ms: u64) -> Result<()> {
        let mut writes = Vec::new();
        self.txn.walk(Table::Facts, &[entry::WRITE], &[], |key, bytes| {
            let write = Write::decode(bytes)?;
            if write.owner == owner && !write.unknown {
                writes.push((key.to_vec(), write));
            }
            Ok(true)
        })?;
        for (at, write) in writes {
            self.hold(&at, write, until_ms)?;
        }
        let mut segments = Vec::new();
        self.txn.walk(Table::Facts, &[entry::SEGMENT], &[], |key, bytes| {
            let segment = Segment::decode(bytes)?;
            if segment.owner == owner {
                segments.push((key.to_vec(), segment));
            }
            Ok(true)
        })?;
        for (key, mut segment) in segments {
            segment.owner = entry::NOBODY;
            self.txn.put(Table::Facts, &key, &segment.encode())?;
        }
        Ok(())
    }

    /// Forgets a namespace of which nothing is left. Its number is never given again; one of its name begins with a
    /// later epoch, and no earlier look-up may fill it.
    pub fn forget(&mut self, name: &str, namespace: &Namespace) -> Result<()> {
        let mut meta = self.meta()?;
        meta.epoch = meta.epoch.max(namespace.epoch + 1);
        meta.fence = meta.fence.max(namespace.fence);
        self.meta = Some(meta);
        self.names.remove(name);
        self.noted.stop(&mut self.txn, namespace.number)?;
        self.txn.delete(Table::Facts, &entry::namespace_key(name))?;
        self.txn.delete(Table::Facts, &entry::number_key(namespace.number)).map(drop)
    }

    /// Bytes of rows that this transaction will append.
    pub fn pending_bytes(&self) -> u64 {
        self.pending.len() as u64
    }
}

fn was_hole_or_row(current: Known, was_hole: bool) -> Option<Entry> {
    match current {
        Known::Row(_) => Some(Entry::Known(current)),
        Known::Hole { .. } if was_hole => Some(Entry::Known(current)),
        _ => None,
    }
}
