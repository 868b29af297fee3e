//! What one engine of a directory does for all of them: adopts what others left, gives room back, evicts.
//!
//! Segments go oldest first. A row in one that was read since an eviction last passed by moves to a younger segment, up
//! to half of the segment, so that rows in use stay and each eviction frees room. A segment most of whose rows were
//! replaced is emptied early. All of it is done in short transactions, so that writers are not held up.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::Ordering;

use crate::change::{Change, Content, Key};
use crate::engine::Engine;
use crate::entry::{self, Entry, Known, Namespace, Place, Segment, Slot, NOBODY};
use crate::error::CacheError;
use crate::frame::Frame;
use crate::lmdb::Table;
use crate::segments::{segment_bytes, Active, Mapping};
use crate::shared;
use crate::writer::Call;

/// Entries that are changed in one transaction.
const STEP: usize = 500;
/// Entries of earlier epochs, and rows looked at for their age, in one upkeep.
const SWEPT_MAX: usize = 200_000;
const AGED_MAX: usize = 50_000;
/// Of a segment's bytes, one part in this many may survive an eviction.
const SURVIVORS_SHARE: u64 = 2;
/// A segment that is much shorter than it might be may survive as a whole: one part of that length.
const SURVIVORS_LEAST_SHARE: u64 = 8;
/// Segments that one upkeep may empty.
const EMPTIED_MAX: usize = 64;
/// When of all bytes one part in this many is of no use, segments are emptied early.
const WASTE_SHARE: u64 = 5;
/// A segment is emptied early when less than these parts in ten of it are of use.
const USEFUL_TENTHS: u64 = 7;
/// Rows are looked at for their age this many times in a life.
const AGINGS_IN_TTL: u64 = 50;
/// Of a namespace's bound, one part in this many is made free when it is over it.
const SLACK_SHARE: u64 = 10;

type Result<T> = std::result::Result<T, CacheError>;

/// What the upkeep remembers from one time to the next.
#[derive(Default)]
pub struct Upkeep {
    /// Rows that survive an eviction are appended here.
    survivors: Option<Active>,
    /// Where the look for old rows goes on; empty: at the beginning.
    aging: Vec<u8>,
    aged_ms: u64,
}

impl Engine {
    /// Ends marks that are over, evicts what is over a capacity or too old, and gives room back. Called every second.
    ///
    /// # Errors
    /// Of the disk.
    pub fn maintain(&self, now_ms: u64) -> Result<()> {
        self.check()?;
        let mut upkeep = self.upkeep.lock();
        if !self.writer.home.is_trusted() {
            self.writer.home.store.shared.set_broken(true);
            return Err(CacheError::Broken);
        }
        self.call(Call::Expire { now_ms })?;
        let home = &self.writer.home;
        if home.begin_upkeep()? {
            let done = self.keep_up(&mut upkeep, now_ms);
            home.end_upkeep();
            done?;
        }
        let live = self.segments()?.into_iter().map(|(id, _)| id).collect();
        home.store.segments.retain(&live);
        Ok(())
    }

    fn keep_up(&self, upkeep: &mut Upkeep, now_ms: u64) -> Result<()> {
        self.adopt_gone(now_ms)?;
        self.writer.home.store.env.clear_stale_readers();
        self.sweep()?;
        self.sweep_feeds()?;
        self.age(upkeep, now_ms)?;
        self.hold_shares()?;
        self.trim(upkeep)
    }

    fn segments(&self) -> Result<Vec<(u32, Segment)>> {
        let mut found = Vec::new();
        self.read()?.walk(Table::Facts, &[entry::SEGMENT], &[], |key, bytes| {
            found.push((entry::number_of(key)?, Segment::decode(bytes)?));
            Ok(true)
        })?;
        Ok(found)
    }

    pub(crate) fn change<T>(&self, make: impl FnOnce(&mut Change<'_>) -> Result<T>) -> Result<T> {
        self.writer.change(&mut None, 0, make)
    }

    /// Removes entries of earlier epochs.
    fn sweep(&self) -> Result<()> {
        let mut numbers = Vec::new();
        self.read()?.walk(Table::Facts, &[entry::SWEEP], &[], |key, _| {
            numbers.push(entry::number_of(key)?);
            Ok(true)
        })?;
        let mut swept = 0;
        for number in numbers {
            let mut start = Vec::new();
            loop {
                if swept >= SWEPT_MAX {
                    return Ok(());
                }
                let (looked, next) = self.change(|change| sweep_step(change, number, &start))?;
                swept += looked;
                match next {
                    Some(next) => start = next,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Removes rows that are too old.
    fn age(&self, upkeep: &mut Upkeep, now_ms: u64) -> Result<()> {
        let ttl_ms = self.writer.ttl_ms.load(Ordering::Relaxed);
        if upkeep.aging.is_empty() && now_ms.saturating_sub(upkeep.aged_ms) < ttl_ms / AGINGS_IN_TTL {
            return Ok(());
        }
        upkeep.aged_ms = now_ms;
        let (mut old, mut looked, mut next) = (Vec::new(), 0, Vec::new());
        self.read()?.walk(Table::Ids, &[], &upkeep.aging, |key, bytes| {
            if looked == AGED_MAX {
                next = key.to_vec();
                return Ok(false);
            }
            looked += 1;
            if let Entry::Known(Known::Row(slot)) = Entry::decode(bytes)? {
                if now_ms.saturating_sub(slot.filled_ms) >= ttl_ms {
                    old.push((key.to_vec(), slot.place));
                }
            }
            Ok(true)
        })?;
        upkeep.aging = next;
        self.evict_all(&old)
    }

    /// Evicts rows by the keys of their entries.
    fn evict_all(&self, rows: &[(Vec<u8>, Place)]) -> Result<()> {
        for step in rows.chunks(STEP) {
            let evicted = self.change(|change| {
                let (mut names, mut evicted) = (HashMap::new(), 0);
                for (at, place) in step {
                    let (number, key) = split(at)?;
                    let name = name_of(change, &mut names, number)?;
                    evicted += u64::from(change.evict(&name, key, *place)?);
                }
                Ok(evicted)
            })?;
            self.writer.counters.evicted_rows.fetch_add(evicted, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Evicts from the namespaces that are over a bound of their own.
    fn hold_shares(&self) -> Result<()> {
        let mut over = Vec::new();
        self.read()?.walk(Table::Facts, &[entry::NAMESPACE], &[], |_, bytes| {
            let facts = Namespace::decode(bytes)?;
            let share = self.writer.share_of(&facts);
            if share > 0 && facts.bytes > share {
                over.push((facts, share));
            }
            Ok(true)
        })?;
        for (facts, share) in over {
            let mut rows: Vec<(Slot, Vec<u8>)> = Vec::new();
            self.read()?.walk(Table::Ids, &facts.number.to_be_bytes(), &[], |key, bytes| {
                if let Entry::Known(Known::Row(slot)) = Entry::decode(bytes)? {
                    if slot.epoch == facts.epoch {
                        rows.push((slot, key.to_vec()));
                    }
                }
                Ok(true)
            })?;
            rows.sort_unstable_by_key(|(slot, _)| slot.place);
            let mut spare = facts.bytes.saturating_sub(share - share / SLACK_SHARE);
            let shared = &self.writer.home.store.shared;
            let (mut going, mut stay) = (Vec::new(), Vec::new());
            // Rows that were read go only when those that were not do not suffice.
            for (slot, key) in rows {
                if spare == 0 {
                    break;
                }
                if shared.take_read(shared::hash(facts.number, &key[4..])) {
                    stay.push((slot, key));
                } else {
                    spare = spare.saturating_sub(slot.bytes());
                    going.push((key, slot.place));
                }
            }
            for (slot, key) in stay {
                if spare > 0 {
                    spare = spare.saturating_sub(slot.bytes());
                    going.push((key, slot.place));
                }
            }
            self.evict_all(&going)?;
        }
        Ok(())
    }

    /// What the segments may take: the capacity without the index, which takes at most half.
    fn segment_bytes_max(&self) -> u64 {
        let capacity = self.writer.capacity_bytes;
        capacity.saturating_sub(self.writer.home.store.env.bytes()).max(capacity / 2)
    }

    fn trim(&self, upkeep: &mut Upkeep) -> Result<()> {
        for _ in 0..EMPTIED_MAX {
            let segments = self.segments()?;
            let bytes: u64 = segments.iter().map(|(_, segment)| segment.bytes).sum();
            let live: u64 = segments.iter().map(|(_, segment)| segment.live_bytes).sum();
            // Under the writer's lock, so that nothing that is appended meanwhile is forgotten.
            self.change(|change| {
                let mut counted = 0;
                change.txn().walk(Table::Facts, &[entry::SEGMENT], &[], |_, value| {
                    counted += Segment::decode(value)?.bytes;
                    Ok(true)
                })?;
                self.writer.home.store.shared.set_segment_bytes(counted);
                Ok(())
            })?;
            let survivors = upkeep.survivors.as_ref().map(|active| active.id);
            let idle =
                |id: u32, segment: &Segment| segment.sealed || (segment.owner == NOBODY && Some(id) != survivors);
            let useless =
                segments.iter().find(|(id, segment)| idle(*id, segment) && segment.bytes > 0 && segment.live_rows == 0);
            if let Some((id, _)) = useless {
                self.remove_segment(*id)?;
                continue;
            }
            let over = bytes > self.segment_bytes_max();
            let wasteful = (bytes - live.min(bytes)) * WASTE_SHARE > bytes;
            let least = segments
                .iter()
                .filter(|(_, segment)| segment.sealed && segment.live_bytes * 10 < segment.bytes * USEFUL_TENTHS)
                .min_by_key(|(_, segment)| segment.live_bytes * 1000 / segment.bytes.max(1));
            let oldest = segments.iter().find(|(id, segment)| idle(*id, segment) && segment.bytes > 0);
            match (least.filter(|_| wasteful), oldest.filter(|_| over)) {
                (Some((id, segment)), _) => self.empty(upkeep, *id, segment, u64::MAX)?,
                (None, Some((id, segment))) => {
                    let least = segment_bytes(self.writer.capacity_bytes) / SURVIVORS_LEAST_SHARE;
                    self.empty(upkeep, *id, segment, (segment.bytes / SURVIVORS_SHARE).max(least))?;
                    self.writer.counters.evicted_segments.fetch_add(1, Ordering::Relaxed);
                }
                (None, None) => return Ok(()),
            }
        }
        Ok(())
    }

    fn remove_segment(&self, id: u32) -> Result<()> {
        let store = &self.writer.home.store;
        self.change(|change| change.txn().delete(Table::Facts, &entry::segment_key(id)).map(drop))?;
        Ok(store.segments.remove(id)?)
    }

    /// Empties a segment and removes it. Rows of up to `spare` bytes that were read lately move; when `spare` is without
    /// bound, all do.
    fn empty(&self, upkeep: &mut Upkeep, id: u32, segment: &Segment, mut spare: u64) -> Result<()> {
        let is_bounded = spare < u64::MAX;
        // A segment that nobody has is not appended to while it is emptied.
        self.change(|change| {
            if let Some(found) = change.segment(id)? {
                let sealed = Segment { sealed: true, ..found };
                change.txn().put(Table::Facts, &entry::segment_key(id), &sealed.encode())?;
            }
            Ok(())
        })?;
        let whole = match self.writer.home.store.segments.mapping(id) {
            Ok(mapping) => self.empty_steps(upkeep, id, &mapping, segment.bytes, &mut spare, is_bounded)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error.into()),
        };
        if !whole {
            self.writer.counters.io_errors.fetch_add(1, Ordering::Relaxed);
            self.evict_from(id)?;
        }
        self.remove_segment(id)
    }

    /// False when the segment's frames cannot be followed to its end.
    fn empty_steps(
        &self,
        upkeep: &mut Upkeep,
        id: u32,
        mapping: &Mapping,
        end: u64,
        spare: &mut u64,
        is_bounded: bool,
    ) -> Result<bool> {
        let mut offset = 0_u32;
        mapping.will_need(0, crate::engine::length(end));
        while u64::from(offset) < end {
            let rest = crate::engine::length(end - u64::from(offset));
            let Ok(bytes) = mapping.bytes(offset, rest) else {
                return Ok(false);
            };
            let Some((frames, length)) = frames(bytes, offset) else {
                return Ok(false);
            };
            let shared = &self.writer.home.store.shared;
            let may_move =
                |frame: &Frame<'_>| !is_bounded || shared.was_read(shared::hash(frame.header.namespace, frame.key));
            let frame_bytes = |frame: &Frame<'_>| frame.header.frame_bytes() as u64;
            let moving: u64 = frames.iter().map(|(_, frame)| u64::from(may_move(frame)) * frame_bytes(frame)).sum();
            let row_bytes = moving.min(*spare);
            let step =
                |change: &mut Change<'_>, spare: &mut u64| self.empty_step(change, id, &frames, spare, is_bounded);
            let mut left = *spare;
            let made = self.writer.change(&mut upkeep.survivors, row_bytes, |change| step(change, &mut left));
            let evicted = match made {
                Ok(evicted) => {
                    *spare = left;
                    evicted
                }
                // On a full disk nothing moves; room is made all the same.
                Err(CacheError::Io(_)) => self.change(|change| step(change, &mut 0))?,
                Err(error) => return Err(error),
            };
            self.writer.counters.evicted_rows.fetch_add(evicted, Ordering::Relaxed);
            offset = offset.saturating_add(length);
        }
        Ok(true)
    }

    fn empty_step(
        &self,
        change: &mut Change<'_>,
        id: u32,
        frames: &[(u32, Frame<'_>)],
        spare: &mut u64,
        is_bounded: bool,
    ) -> Result<u64> {
        let shared = &self.writer.home.store.shared;
        let (mut names, mut evicted) = (HashMap::new(), 0);
        for (offset, frame) in frames {
            let (number, place) = (frame.header.namespace, Place { segment: id, offset: *offset });
            let Ok(name) = name_of(change, &mut names, number) else {
                continue;
            };
            let mut facts = change.namespace(&name)?;
            let found = change.entry(number, frame.key)?;
            if let Some(Entry::Known(Known::Row(slot))) = found {
                let is_here = slot.place == place && slot.epoch == facts.epoch;
                let is_wanted = is_here
                    && *spare >= slot.bytes()
                    && (!is_bounded || shared.take_read(shared::hash(number, frame.key)));
                if let Some(tail) = is_wanted.then(|| frame.tail().ok()).flatten() {
                    let content = Content { head: frame.head, tail };
                    // It moves and stays what it is.
                    if change.unnoted(|change| change.put(&mut facts, frame.key, found, content, slot.filled_ms))? {
                        *spare = if is_bounded { *spare - slot.bytes() } else { *spare };
                        change.save(&name, facts);
                        continue;
                    }
                }
            }
            evicted += u64::from(change.evict(&name, frame.key, place)?);
        }
        Ok(evicted)
    }

    /// Evicts every row of a segment that cannot be read, by looking through the index.
    fn evict_from(&self, segment: u32) -> Result<()> {
        let mut rows = Vec::new();
        self.read()?.walk(Table::Ids, &[], &[], |key, bytes| {
            let (Entry::Known(known) | Entry::Guard { beneath: known, .. }) = Entry::decode(bytes)?;
            if let Known::Row(slot) = known {
                if slot.place.segment == segment {
                    rows.push((key.to_vec(), slot.place));
                }
            }
            Ok(true)
        })?;
        self.evict_all(&rows)
    }

    /// Segments by number, with what of them is of use: for tests and for those who look into a directory.
    ///
    /// # Errors
    /// Of the index.
    pub fn segment_facts(&self) -> Result<BTreeMap<u32, Segment>> {
        Ok(self.segments()?.into_iter().collect())
    }
}

/// The frames at the start of `bytes`, with their places, as many as one transaction takes, and their length.
fn frames(bytes: &[u8], start: u32) -> Option<(Vec<(u32, Frame<'_>)>, u32)> {
    /// Rows of more bytes are not moved in one transaction.
    const STEP_BYTES: usize = 4 << 20;
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() && found.len() < STEP && at < STEP_BYTES {
        let frame = Frame::read(&bytes[at..]).ok()?;
        let length = frame.header.frame_bytes();
        if at + length > bytes.len() {
            return None;
        }
        found.push((start.checked_add(u32::try_from(at).ok()?)?, frame));
        at += length;
    }
    Some((found, u32::try_from(at).ok()?))
}

fn split(at: &[u8]) -> Result<(u32, &[u8])> {
    let (number, key) = at.split_at_checked(4).ok_or(CacheError::Broken)?;
    Ok((u32::from_be_bytes(number.try_into().map_err(|_| CacheError::Broken)?), key))
}

fn name_of(change: &Change<'_>, names: &mut HashMap<u32, Box<str>>, number: u32) -> Result<Box<str>> {
    if let Some(name) = names.get(&number) {
        return Ok(name.clone());
    }
    let name = change.name_of(number)?;
    names.insert(number, name.clone());
    Ok(name)
}

/// Looks at some entries of a namespace and removes those of earlier epochs; gives how many it looked at, and where to go
/// on. At the end the namespace is swept, and forgotten when nothing is left of it.
fn sweep_step(change: &mut Change<'_>, number: u32, start: &[u8]) -> Result<(usize, Option<Vec<u8>>)> {
    let name = change.name_of(number)?;
    let facts = change.namespace(&name)?;
    let (mut old, mut looked, mut next): (Vec<(Key, Known)>, _, _) = (Vec::new(), 0, None);
    change.txn().walk(Table::Ids, &number.to_be_bytes(), start, |key, bytes| {
        if looked >= STEP * 4 || old.len() >= STEP {
            next = Some(key.to_vec());
            return Ok(false);
        }
        looked += 1;
        if let Entry::Known(known) = Entry::decode(bytes)? {
            if known.epoch() != Some(facts.epoch) {
                old.push((key[4..].into(), known));
            }
        }
        Ok(true)
    })?;
    for (key, known) in old {
        change.release(&known);
        change.set(number, &key, None)?;
    }
    if next.is_none() {
        change.txn().delete(Table::Facts, &entry::sweep_key(number))?;
        if looked == 0 && facts.is_idle() {
            change.forget(&name, &facts)?;
        }
    }
    Ok((looked, next))
}
