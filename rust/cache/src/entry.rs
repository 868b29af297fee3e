//! What the index says, as bytes: one entry an id, one record a namespace, an open write, a segment.
//!
//! ```text
//! table Ids     namespace's number (u32, big-endian), key     ->  Entry
//! table Facts   'N' name                                      ->  Namespace
//!               'I' number                                    ->  name
//!               'W' token, part                               ->  Write
//!               'D' deadline, token                           ->  nothing: writes by the time that they end of themselves
//!               'S' segment                                   ->  Segment
//!               'G' number                                    ->  nothing: namespaces with entries of earlier epochs
//!               'T' number                                    ->  Feed: the changes of this namespace are noted; see `crate::feed`
//!               'C' number, transaction                       ->  keys of ids whose row it changed
//!               'M'                                           ->  Meta
//! ```
//!
//! Numbers in keys are big-endian, so that they sort; numbers in values are little-endian.

use crate::error::CacheError;

pub const NAMESPACE: u8 = b'N';
pub const NUMBER: u8 = b'I';
pub const WRITE: u8 = b'W';
pub const DEADLINE: u8 = b'D';
pub const SEGMENT: u8 = b'S';
pub const SWEEP: u8 = b'G';
pub const FEED: u8 = b'T';
pub const CHANGES: u8 = b'C';
pub const META: &[u8] = b"M";

/// No process appends to the segment.
pub const NOBODY: u16 = u16::MAX;

/// Where a frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    pub segment: u32,
    pub offset: u32,
}

/// A row in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub epoch: u32,
    pub place: Place,
    pub prefix_bytes: u32,
    pub tail_bytes: u32,
    pub filled_ms: u64,
    /// The transaction that put it.
    pub sequence: u64,
}

impl Slot {
    pub fn bytes(&self) -> u64 {
        u64::from(self.prefix_bytes) + u64::from(self.tail_bytes)
    }
}

/// What is known of an id when no write is open, or was before one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    Row(Slot),
    /// A write left the id missing, and nobody has read it since.
    Hole {
        epoch: u32,
        sequence: u64,
    },
}

impl Known {
    /// Its epoch; nothing has none.
    pub fn epoch(&self) -> Option<u32> {
        match self {
            Self::Nothing => None,
            Self::Row(slot) => Some(slot.epoch),
            Self::Hole { epoch, .. } => Some(*epoch),
        }
    }
}

/// The entry of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Known(Known),
    /// Open writes of the id. What was known is kept beneath, for the case that all of them are refused.
    Guard {
        writes: u32,
        /// The outcome of no single write says what the id is now.
        contended: bool,
        /// The transaction that marked it first.
        since: u64,
        /// The transaction that touched it last.
        sequence: u64,
        beneath: Known,
    },
}

/// Reads numbers off the front of a value.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], CacheError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CacheError::Broken)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn u8(&mut self) -> Result<u8, CacheError> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Result<u16, CacheError> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into().map_err(|_| CacheError::Broken)?))
    }

    pub fn u32(&mut self) -> Result<u32, CacheError> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| CacheError::Broken)?))
    }

    pub fn u64(&mut self) -> Result<u64, CacheError> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| CacheError::Broken)?))
    }
}

/// Appends numbers to a value.
#[derive(Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
}

const KIND_NOTHING: u8 = 0;
const KIND_ROW: u8 = 1;
const KIND_HOLE: u8 = 3;
const KIND_GUARD: u8 = 4;

impl Known {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Nothing => {
                out.u8(KIND_NOTHING);
            }
            Self::Row(slot) => {
                out.u8(KIND_ROW).u32(slot.epoch).u32(slot.place.segment).u32(slot.place.offset);
                out.u32(slot.prefix_bytes).u32(slot.tail_bytes).u64(slot.filled_ms).u64(slot.sequence);
            }
            Self::Hole { epoch, sequence } => {
                out.u8(KIND_HOLE).u32(*epoch).u64(*sequence);
            }
        }
    }

    fn decode(kind: u8, reader: &mut Reader<'_>) -> Result<Self, CacheError> {
        Ok(match kind {
            KIND_NOTHING => Self::Nothing,
            KIND_ROW => Self::Row(Slot {
                epoch: reader.u32()?,
                place: Place { segment: reader.u32()?, offset: reader.u32()? },
                prefix_bytes: reader.u32()?,
                tail_bytes: reader.u32()?,
                filled_ms: reader.u64()?,
                sequence: reader.u64()?,
            }),
            KIND_HOLE => Self::Hole { epoch: reader.u32()?, sequence: reader.u64()? },
            _ => return Err(CacheError::Broken),
        })
    }
}

/// No entry is longer.
const ENTRY_BYTES: usize = 64;

impl Entry {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(ENTRY_BYTES));
        match self {
            Self::Known(known) => known.encode(&mut out),
            Self::Guard { writes, contended, since, sequence, beneath } => {
                out.u8(KIND_GUARD).u32(*writes).u8(u8::from(*contended)).u64(*since).u64(*sequence);
                beneath.encode(&mut out);
            }
        }
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CacheError> {
        let mut reader = Reader(bytes);
        let kind = reader.u8()?;
        if kind != KIND_GUARD {
            return Known::decode(kind, &mut reader).map(Self::Known);
        }
        let (writes, contended) = (reader.u32()?, reader.u8()? != 0);
        let (since, sequence) = (reader.u64()?, reader.u64()?);
        let kind = reader.u8()?;
        Ok(Self::Guard { writes, contended, since, sequence, beneath: Known::decode(kind, &mut reader)? })
    }
}

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Namespace {
    pub number: u32,
    pub epoch: u32,
    /// Open writes whose ids are not known.
    pub closed_by: u32,
    /// Snapshots before this transaction may not fill.
    pub fence: u64,
    pub rows: u64,
    pub bytes: u64,
    pub marked: u64,
    pub holes: u64,
    /// Rows of this epoch that went by eviction, age, damage or size.
    pub lost: u64,
    /// 0: as much as all of the cache.
    pub capacity_bytes: u64,
    /// How many rows were lost when the note was made.
    pub note_lost: u64,
    pub note: Vec<u8>,
}

impl Namespace {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u32(self.number).u32(self.epoch).u32(self.closed_by).u64(self.fence);
        out.u64(self.rows).u64(self.bytes).u64(self.marked).u64(self.holes).u64(self.lost);
        out.u64(self.capacity_bytes).u64(self.note_lost);
        out.0.extend_from_slice(&self.note);
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CacheError> {
        let mut reader = Reader(bytes);
        Ok(Self {
            number: reader.u32()?,
            epoch: reader.u32()?,
            closed_by: reader.u32()?,
            fence: reader.u64()?,
            rows: reader.u64()?,
            bytes: reader.u64()?,
            marked: reader.u64()?,
            holes: reader.u64()?,
            lost: reader.u64()?,
            capacity_bytes: reader.u64()?,
            note_lost: reader.u64()?,
            note: reader.0.to_vec(),
        })
    }

    /// The part that a lookup needs.
    pub fn glance(bytes: &[u8]) -> Result<Glance, CacheError> {
        let mut reader = Reader(bytes);
        let (number, epoch, closed_by) = (reader.u32()?, reader.u32()?, reader.u32()?);
        Ok(Glance { number, epoch, is_closed: closed_by > 0, fence: reader.u64()? })
    }

    pub fn is_idle(&self) -> bool {
        self.rows == 0 && self.marked == 0 && self.closed_by == 0 && self.capacity_bytes == 0 && self.note.is_empty()
    }
}

/// What a lookup needs to know of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    pub number: u32,
    pub epoch: u32,
    pub is_closed: bool,
    pub fence: u64,
}

/// A part of an open write: some of its ids, or the whole namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub namespace: u32,
    pub owner: u16,
    pub unknown: bool,
    pub deadline_ms: u64,
    /// None: any row of the namespace.
    pub keys: Option<Vec<Box<[u8]>>>,
}

impl Write {
    pub fn encode(&self) -> Result<Vec<u8>, CacheError> {
        let mut out = Writer::default();
        out.u32(self.namespace).u16(self.owner).u8(u8::from(self.unknown)).u64(self.deadline_ms);
        out.u8(u8::from(self.keys.is_none()));
        for key in self.keys.as_deref().unwrap_or_default() {
            let length =
                u16::try_from(key.len()).map_err(|_| CacheError::Shape("a key over the limit of the index"))?;
            out.u16(length);
            out.0.extend_from_slice(key);
        }
        Ok(out.0)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CacheError> {
        let mut reader = Reader(bytes);
        let (namespace, owner) = (reader.u32()?, reader.u16()?);
        let (unknown, deadline_ms) = (reader.u8()? != 0, reader.u64()?);
        let mut keys = Vec::new();
        let whole = reader.u8()? != 0;
        while !reader.0.is_empty() {
            let length = reader.u16()?;
            keys.push(reader.take(usize::from(length))?.into());
        }
        Ok(Self { namespace, owner, unknown, deadline_ms, keys: (!whole).then_some(keys) })
    }
}

/// A file of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who appends to it.
    pub owner: u16,
    /// Nobody will append to it again.
    pub sealed: bool,
    pub bytes: u64,
    /// Of rows that an entry points to.
    pub live_bytes: u64,
    pub live_rows: u64,
}

impl Segment {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u16(self.owner).u8(u8::from(self.sealed)).u64(self.bytes).u64(self.live_bytes).u64(self.live_rows);
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CacheError> {
        let mut reader = Reader(bytes);
        Ok(Self {
            owner: reader.u16()?,
            sealed: reader.u8()? != 0,
            bytes: reader.u64()?,
            live_bytes: reader.u64()?,
            live_rows: reader.u64()?,
        })
    }
}

/// Numbers that are given once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Meta {
    pub namespaces: u32,
    pub segments: u32,
    /// Distinguishes this index from any other that stood in the directory.
    pub incarnation: u32,
    /// The epoch that a namespace begins with; more than that of any that was forgotten.
    pub epoch: u32,
    /// Snapshots before this transaction may not fill a namespace that was forgotten.
    pub fence: u64,
}

impl Meta {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u32(self.namespaces).u32(self.segments).u32(self.incarnation).u32(self.epoch).u64(self.fence);
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CacheError> {
        let mut reader = Reader(bytes);
        Ok(Self {
            namespaces: reader.u32()?,
            segments: reader.u32()?,
            incarnation: reader.u32()?,
            epoch: reader.u32()?,
            fence: reader.u64()?,
        })
    }
}

pub(crate) fn keyed(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![tag];
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

pub fn namespace_key(name: &str) -> Vec<u8> {
    keyed(NAMESPACE, &[name.as_bytes()])
}

pub fn number_key(number: u32) -> Vec<u8> {
    keyed(NUMBER, &[&number.to_be_bytes()])
}

pub fn write_key(token: u64, part: u32) -> Vec<u8> {
    keyed(WRITE, &[&token.to_be_bytes(), &part.to_be_bytes()])
}

/// What every part of a write's key begins with.
pub fn write_prefix(token: u64) -> Vec<u8> {
    keyed(WRITE, &[&token.to_be_bytes()])
}

/// The token in the key of a write's part.
pub fn token_of(key: &[u8]) -> Result<u64, CacheError> {
    let bytes = key.get(1..9).and_then(|bytes| bytes.try_into().ok()).ok_or(CacheError::Broken)?;
    Ok(u64::from_be_bytes(bytes))
}

pub fn deadline_key(deadline_ms: u64, token: u64) -> Vec<u8> {
    keyed(DEADLINE, &[&deadline_ms.to_be_bytes(), &token.to_be_bytes()])
}

/// The deadline and the token in a key.
pub fn deadline_of(key: &[u8]) -> Result<(u64, u64), CacheError> {
    let number = |at: usize| key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    number(1).zip(number(9)).ok_or(CacheError::Broken)
}

pub fn segment_key(segment: u32) -> Vec<u8> {
    keyed(SEGMENT, &[&segment.to_be_bytes()])
}

pub fn sweep_key(number: u32) -> Vec<u8> {
    keyed(SWEEP, &[&number.to_be_bytes()])
}

/// The number at the end of a segment's or a namespace's key.
pub fn number_of(key: &[u8]) -> Result<u32, CacheError> {
    let bytes = key.get(1..5).and_then(|bytes| bytes.try_into().ok()).ok_or(CacheError::Broken)?;
    Ok(u32::from_be_bytes(bytes))
}

/// The key of an id's entry.
pub fn id_key(namespace: u32, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + key.len());
    out.extend_from_slice(&namespace.to_be_bytes());
    out.extend_from_slice(key);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot {
        epoch: 1,
        place: Place { segment: 2, offset: 3 },
        prefix_bytes: 4,
        tail_bytes: 5,
        filled_ms: 6,
        sequence: 7,
    };

    #[test]
    fn entries_are_read_as_they_were_written() {
        let known = [Known::Nothing, Known::Row(SLOT), Known::Hole { epoch: 1, sequence: 3 }];
        for beneath in known {
            let guard = Entry::Guard { writes: 3, contended: true, since: 2, sequence: 9, beneath };
            for entry in [Entry::Known(beneath), guard] {
                let bytes = entry.encode();
                assert_eq!(Entry::decode(&bytes).expect("an entry"), entry);
                assert!((0..bytes.len()).all(|end| Entry::decode(&bytes[..end]).is_err()));
            }
        }
    }

    #[test]
    fn facts_are_read_as_they_were_written() {
        let namespace = Namespace {
            number: 1,
            epoch: 2,
            closed_by: 3,
            fence: 4,
            note_lost: 6,
            note: b"note".to_vec(),
            ..Namespace::default()
        };
        assert_eq!(Namespace::decode(&namespace.encode()).expect("a namespace"), namespace);
        let glance = Glance { number: 1, epoch: 2, is_closed: true, fence: 4 };
        assert_eq!(Namespace::glance(&namespace.encode()).expect("a namespace"), glance);
        for keys in [None, Some(vec![]), Some(vec![Box::from(&b"a"[..]), Box::from(&b""[..])])] {
            let write = Write { namespace: 1, owner: 2, unknown: true, deadline_ms: 3, keys };
            assert_eq!(Write::decode(&write.encode().expect("bytes")).expect("a write"), write);
        }
        let segment = Segment { owner: 1, sealed: true, bytes: 2, live_bytes: 3, live_rows: 4 };
        assert_eq!(Segment::decode(&segment.encode()).expect("a segment"), segment);
        assert_eq!(deadline_of(&deadline_key(7, 8)).expect("a deadline"), (7, 8));
        assert_eq!(token_of(&write_key(7, 8)).expect("a token"), 7);
        assert_eq!(number_of(&segment_key(9)).expect("a number"), 9);
    }
}
