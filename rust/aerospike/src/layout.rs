//! How a cached id and a cached namespace lie in Aerospike: sets, keys, bins and tickets.
//!
//! A row's key is a digest of namespace and typed id; the id stands in the record too, and is compared when it is read.
//! A row counts only with the namespace's present epoch in it, so a new epoch voids every row without touching one; its
//! marks count in every epoch. All of a namespace lies in one of `SETS` sets: there may be 4095 in an Aerospike
//! namespace and none is ever given back, so a set for each of our namespaces would run out, while one set for all
//! would make every scan read everybody's rows.
//!
//! | bin | row's record                                | namespace's record                                 |
//! |-----|---------------------------------------------|----------------------------------------------------|
//! | e   | epoch                                       |                                                    |
//! | n   |                                             | epoch                                              |
//! | k   |                                             | the cluster's key when the epoch began             |
//! | s   | state, see [`Kind`]                         |                                                    |
//! | t   | marks, 24 bytes each, see [`Entry`]         | marks of writes whose ids are not known            |
//! | z   |                                             | the moment at which the last of them began or ended|
//! | f   | when the row was filled, ms                 |                                                    |
//! | w   | the moment at which it last changed         | the last moment                                    |
//! | i   | the id's key                                |                                                    |
//! | x   | a number drawn anew at each change          |                                                    |
//! | y   | the row's size, bytes                       |                                                    |
//! | h, l| the row's head and tail                     |                                                    |
//! | b   |                                             | when the epoch began, ms                           |
//! | c   |                                             | its share of the capacity, bytes                   |
//! | o   |                                             | the policy's note                                  |
//! | v   |                                             | the losses that the note was written at            |
//!
//! A moment is a number that grows with every fill of unknown ids and every write of unknown ids. A row, a hole or a mark
//! with a smaller moment than such a fill's is from before it.
//!
//! A generation begins anew with its record, so it cannot tell a record from one that was lost and made again: `x` can.
//!
//! Further records count, for one epoch: marked ids `m`, holes `h`, rows `r`, their bytes `y`, losses `l`. They are only ever
//! added to, so many writers of one namespace do not fail each other, and are several, because the server lets few writes
//! wait for one record. Ids are counted as marked or as holes before they
//! are, and no longer only after they were: a process that dies in between leaves a count too high, never too low.

use aerospike::operations::{scalar, Operation};
use aerospike::{Bin, Bins, Key, Record, Value};
use xxhash_rust::xxh64::xxh64;

use crate::error::Failure;
use crate::state::{live, read_entries, write_entries, Bytes, Change, Entry, Kind, Slot, HOLE_BENEATH};
use crate::store::Same;

/// Records that share the counts of one namespace and epoch.
pub const TALLY_PARTS: u64 = 16;
/// Sets that one prefix may use, and one more.
pub const SETS: u64 = 1024;
const SET_BYTES_MAX: usize = 63;
const SET_SUFFIX_BYTES: usize = 4;
const EVERYTHING_SUFFIX: &str = "-all";
const HEAD_TAG: u8 = 0;
const ROW_TAG: u8 = 1;
const TALLY_TAG: u8 = 2;
const EVERYTHING_TAG: u8 = 3;

/// In the entry of a namespace's record that closes it for a process that owes it something, where a write has 0.
pub const OWED: u64 = 1;

/// Epochs are drawn from 1..2^EPOCH_BITS.
pub const EPOCH_BITS: u32 = 62;
const NONCE_BITS: u32 = 62;

/// Where one of our namespaces lies.
#[derive(Clone, Debug)]
pub struct Place {
    pub namespace: String,
    pub set: String,
    /// Whose it is; see [`crate::store::Settings`].
    pub scope: String,
    pub name: String,
}

impl Place {
    pub fn new(aerospike_namespace: &str, prefix: &str, scope: &str, name: &str) -> Self {
        let set = format!("{prefix}-{:03x}", xxh64(name.as_bytes(), xxh64(scope.as_bytes(), 0)) % SETS);
        Self { namespace: aerospike_namespace.to_owned(), set, scope: scope.to_owned(), name: name.to_owned() }
    }

    fn key(&self, tag: u8, parts: &[&[u8]]) -> Result<Key, Failure> {
        // Lengths stand before the names, so that no name and id can be read as another name and id.
        let mut bytes = vec![tag];
        for name in [&self.scope, &self.name] {
            bytes.extend_from_slice(&(name.len() as u64).to_be_bytes());
            bytes.extend_from_slice(name.as_bytes());
        }
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        Ok(Key::new(self.namespace.as_str(), self.set.as_str(), Value::Blob(bytes))?)
    }

    /// The key of the namespace's own record.
    pub fn head(&self) -> Result<Key, Failure> {
        self.key(HEAD_TAG, &[])
    }

    /// The key of one of the records that count, each of them in part.
    pub fn tally(&self, epoch: u64, part: u64) -> Result<Key, Failure> {
        self.key(TALLY_TAG, &[&epoch.to_be_bytes(), &part.to_be_bytes()])
    }

    pub fn row(&self, id: &[u8]) -> Result<Key, Failure> {
        self.key(ROW_TAG, &[id])
    }

    /// Where the record lies that is of every namespace of `scope`: in a set of its own.
    pub fn everything(aerospike_namespace: &str, prefix: &str, scope: &str) -> Result<Key, Failure> {
        let set = format!("{prefix}{EVERYTHING_SUFFIX}");
        let place = Self { set, ..Self::new(aerospike_namespace, prefix, scope, "") };
        place.key(EVERYTHING_TAG, &[])
    }
}

/// Raises what would be cut or refused by the server.
pub fn check_set_prefix(prefix: &str) -> Result<(), Failure> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if prefix.is_empty() || !prefix.bytes().all(allowed) || prefix.len() > SET_BYTES_MAX - SET_SUFFIX_BYTES {
        let rule = format!("must be 1 to {} characters of A-Z, a-z, 0-9, _, . and -", SET_BYTES_MAX - SET_SUFFIX_BYTES);
        return Err(Failure::Setting { name: "AEROSPIKE_SET_PREFIX", rule });
    }
    Ok(())
}

/// What a read saw of an id, in 63 bits. Two reads that saw the same had no write of the id between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket(u64);

impl Ticket {
    /// `nonce`: of the id's record.
    pub fn new(head: &Head, nonce: u64) -> Self {
        let parts = [head.epoch, head.whole_moment, nonce].map(u64::to_be_bytes);
        Self((xxh64(parts.as_flattened(), 0) >> 1) | 1)
    }

    /// Over 0.
    pub fn to_number(self) -> i64 {
        i64::try_from(self.0).unwrap_or(0)
    }

    pub fn from_number(number: i64) -> Option<Self> {
        u64::try_from(number).ok().filter(|number| number & 1 == 1).map(Self)
    }
}

pub fn new_nonce() -> u64 {
    rand::random_range(1..1_u64 << NONCE_BITS)
}

/// That an id's record is still the one that a read saw.
pub fn same_nonce(record: &Record) -> Option<Same> {
    number(record, "x").map(|nonce| Same { bin: "x", number: nonce })
}

/// The namespace's own record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Head {
    pub epoch: u64,
    pub cluster: String,
    pub entries: Vec<Entry>,
    pub moment: u64,
    /// When a write with unknown ids last began or ended.
    pub whole_moment: u64,
    pub begun_ms: u64,
    pub note: Vec<u8>,
    pub note_lost: u64,
    /// The namespace's share of the capacity; 0: none of its own.
    pub capacity_bytes: u64,
    pub generation: u32,
}

impl Head {
    /// That the namespace's record is still in the epoch that a read saw.
    pub fn same_epoch(&self) -> Same {
        Same { bin: "n", number: self.epoch }
    }

    /// Whether it is closed also for a process that owes it something.
    pub fn is_owed(&self, now_ms: u64) -> bool {
        live(&self.entries, now_ms).any(|entry| entry.whole == OWED)
    }
}

pub fn head_bins() -> Bins {
    Bins::from(["n", "k", "t", "w", "z", "b", "o", "v", "c"])
}

pub fn slot_bins() -> Bins {
    Bins::from(["e", "s", "t", "f", "w", "i", "x", "y"])
}

pub fn row_bins() -> Bins {
    Bins::from(["e", "s", "t", "f", "w", "i", "x", "h"])
}

pub fn tail_bins() -> Bins {
    Bins::from(["l"])
}

pub fn scan_bins() -> Bins {
    Bins::from(["e", "s", "t", "f", "w", "i", "x", "h", "l"])
}

/// What a filter needs of a row.
pub fn held_bins() -> Bins {
    Bins::from(["e", "s", "t", "f", "w", "i", "x", "h"])
}

/// None: not a record of ours.
pub fn read_head(record: &Record) -> Option<Head> {
    Some(Head {
        epoch: number(record, "n")?,
        cluster: text(record, "k")?.to_owned(),
        entries: read_entries(blob(record, "t").unwrap_or_default())?,
        moment: number(record, "w")?,
        whole_moment: number(record, "z").unwrap_or(0),
        begun_ms: number(record, "b").unwrap_or(0),
        capacity_bytes: number(record, "c").unwrap_or(0),
        note: blob(record, "o").unwrap_or_default().to_vec(),
        note_lost: number(record, "v").unwrap_or(0),
        generation: record.generation,
    })
}

pub fn write_head(head: &Head) -> Vec<Operation> {
    vec![
        put("n", whole(head.epoch)),
        put("k", Value::String(head.cluster.clone())),
        put("t", Value::Blob(write_entries(&head.entries))),
        put("z", whole(head.whole_moment)),
        put("b", whole(head.begun_ms)),
        put("c", whole(head.capacity_bytes)),
        put("o", Value::Blob(head.note.clone())),
        put("v", whole(head.note_lost)),
        put("w", whole(head.moment)),
    ]
}

/// None: not a record of ours, or of another id with the same digest. `epoch`: the namespace's; None: it has none.
pub fn read_slot(record: &Record, id: Option<&[u8]>, epoch: Option<u64>) -> Option<Slot> {
    if id.is_some_and(|id| blob(record, "i") != Some(id)) {
        return None;
    }
    let mut slot = Slot {
        kind: Kind::from_code(i64::try_from(number(record, "s")?).ok()?)?,
        entries: read_entries(blob(record, "t").unwrap_or_default())?,
        filled_ms: number(record, "f")?,
        moment: number(record, "w")?,
        bytes: number(record, "y").unwrap_or(0),
        nonce: number(record, "x")?,
        is_current: number(record, "e") == epoch,
    };
    if !slot.is_current {
        slot.filled_ms = 0;
        if matches!(slot.kind, Kind::Row | Kind::Hole) {
            slot.kind = Kind::Gone;
        }
    }
    Some(slot)
}

/// A row as an operation's parts: what the record is about, and its bytes.
pub struct Row<'a> {
    pub head: &'a [u8],
    pub tail: &'a [u8],
}

/// The record that is of every namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Everything {
    /// Processes that owe something everywhere, until they say otherwise.
    pub entries: Vec<Entry>,
    /// Drawn anew to end every epoch.
    pub salt: u64,
    /// The cluster's key when somebody last looked.
    pub cluster: String,
    /// Nothing is to be filled until then, ms: marks may have been lost whose writes can still take effect.
    pub quiet_until_ms: u64,
    pub generation: u32,
}

pub fn everything_bins() -> Bins {
    Bins::from(["t", "a", "k", "q"])
}

pub fn read_everything(record: Option<&Record>) -> Everything {
    let Some(record) = record else { return Everything::default() };
    Everything {
        entries: read_entries(blob(record, "t").unwrap_or_default()).unwrap_or_default(),
        salt: number(record, "a").unwrap_or(0),
        cluster: text(record, "k").unwrap_or_default().to_owned(),
        quiet_until_ms: number(record, "q").unwrap_or(0),
        generation: record.generation,
    }
}

pub fn write_everything(everything: &Everything) -> Vec<Operation> {
    vec![
        put("t", Value::Blob(write_entries(&everything.entries))),
        put("a", whole(everything.salt)),
        put("k", Value::String(everything.cluster.clone())),
        put("q", whole(everything.quiet_until_ms)),
    ]
}

/// When and in which epoch a change is made.
#[derive(Clone, Copy, Debug)]
pub struct When {
    pub epoch: u64,
    pub moment: u64,
    pub now_ms: u64,
}

/// What a change writes over the record that it was planned on, or in the place of none.
pub fn write_change(id: &[u8], is_new: bool, change: &Change, row: Option<&Row<'_>>, when: When) -> Vec<Operation> {
    let mut operations = Vec::with_capacity(10);
    operations.push(put("e", whole(when.epoch)));
    operations.push(put("x", whole(new_nonce())));
    operations.push(put("s", Value::Int(change.kind.code())));
    operations.push(put("t", Value::Blob(write_entries(&change.entries))));
    operations.push(put("w", whole(when.moment)));
    if is_new {
        operations.push(put("i", Value::Blob(id.to_vec())));
    }
    match (change.bytes, row) {
        (Bytes::Keep, _) => {}
        (Bytes::New, Some(row)) => {
            operations.push(put("f", whole(when.now_ms)));
            operations.push(put("h", Value::Blob(row.head.to_vec())));
            operations.push(put("l", Value::Blob(row.tail.to_vec())));
            operations.push(put("y", whole((row.head.len() + row.tail.len()) as u64)));
        }
        (bytes, _) => {
            operations.push(put("f", whole(if bytes == Bytes::Hole { HOLE_BENEATH } else { 0 })));
            if !is_new {
                operations.extend(["h", "l", "y"].map(|name| put(name, Value::Nil)));
            }
        }
    }
    operations
}

/// What a look-up writes where there is nothing. It has no moment, so that a page may replace it.
pub fn write_empty(id: &[u8], nonce: u64, epoch: u64) -> Vec<Operation> {
    vec![
        put("e", whole(epoch)),
        put("x", whole(nonce)),
        put("s", Value::Int(Kind::Gone.code())),
        put("w", whole(0)),
        put("f", whole(0)),
        put("i", Value::Blob(id.to_vec())),
    ]
}

/// Counts of one namespace and epoch, or changes of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub marked: i64,
    pub holes: i64,
    pub rows: i64,
    pub bytes: i64,
    pub lost: i64,
}

impl Tally {
    pub fn parts(self) -> [(&'static str, i64); 5] {
        [("m", self.marked), ("h", self.holes), ("r", self.rows), ("y", self.bytes), ("l", self.lost)]
    }

    pub fn add(&mut self, other: Self) {
        self.marked += other.marked;
        self.holes += other.holes;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.lost += other.lost;
    }
}

pub fn tally_bins() -> Bins {
    Bins::from(["m", "h", "r", "y", "l"])
}

pub fn read_tally(record: &Record) -> Tally {
    let count = |name: &str| match record.bins.get(name) {
        Some(Value::Int(count)) => *count,
        _ => 0,
    };
    Tally { marked: count("m"), holes: count("h"), rows: count("r"), bytes: count("y"), lost: count("l") }
}

pub fn add_tally(change: Tally) -> Vec<Operation> {
    let parts = change.parts().into_iter().filter(|(_, count)| *count != 0);
    parts.map(|(name, count)| scalar::add(&Bin::new(name.to_owned(), Value::Int(count)))).collect()
}

fn put(name: &str, value: Value) -> Operation {
    scalar::put(&Bin::new(name.to_owned(), value))
}

fn whole(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

pub fn blob<'a>(record: &'a Record, name: &str) -> Option<&'a [u8]> {
    match record.bins.get(name) {
        Some(Value::Blob(bytes)) => Some(bytes),
        _ => None,
    }
}

fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    match record.bins.get(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn number(record: &Record, name: &str) -> Option<u64> {
    match record.bins.get(name) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}
