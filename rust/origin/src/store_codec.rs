//! The bytes of a record: little-endian, lengths before contents. Frames around records carry their checksum, so bytes
//! that do not decode are of another version, not damaged.

use crate::apply::{Commit, Meta, Patch, Puts, VectorColumn};
use crate::value::{Id, Value};

/// One entry of the log or of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Commits {
        namespace: String,
        incarnation: u64,
        /// More records follow that belong to the same write; without the last of them none counts.
        more: bool,
        commits: Vec<Commit>,
    },
    Delete {
        namespace: String,
        incarnation: u64,
    },
    /// The last record of a snapshot: how many rows it holds.
    End {
        rows: u64,
    },
}

/// The bytes are not a record of this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(pub &'static str);

const COMMITS: u8 = 1;
const DELETE: u8 = 2;
const END: u8 = 3;

impl Record {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Commits { namespace, incarnation, more, commits } => {
                let mut writer = CommitsWriter::new(namespace, *incarnation, *more);
                commits.iter().for_each(|commit| writer.push(commit));
                return writer.finish();
            }
            Self::Delete { namespace, incarnation } => {
                out.u8(DELETE);
                out.text(namespace);
                out.u64(*incarnation);
            }
            Self::End { rows } => {
                out.u8(END);
                out.u64(*rows);
            }
        }
        out.bytes
    }

    /// # Errors
    /// The bytes are not a record of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader { bytes };
        let record = match reader.u8()? {
            COMMITS => {
                let namespace = reader.text()?.to_owned();
                let incarnation = reader.u64()?;
                let more = reader.u8()? != 0;
                let count = reader.length()?;
                let commits = (0..count).map(|_| reader.commit()).collect::<Result<_, _>>()?;
                Self::Commits { namespace, incarnation, more, commits }
            }
            DELETE => Self::Delete { namespace: reader.text()?.to_owned(), incarnation: reader.u64()? },
            END => Self::End { rows: reader.u64()? },
            _ => return Err(DecodeError("unknown kind of record")),
        };
        if reader.bytes.is_empty() {
            Ok(record)
        } else {
            Err(DecodeError("bytes after the record"))
        }
    }
}

/// A [`Record::Commits`] in the making, from borrowed commits.
pub struct CommitsWriter {
    out: Writer,
    count_at: usize,
    count: u32,
}

impl CommitsWriter {
    #[must_use]
    pub fn new(namespace: &str, incarnation: u64, more: bool) -> Self {
        let mut out = Writer::default();
        out.u8(COMMITS);
        out.text(namespace);
        out.u64(incarnation);
        out.u8(u8::from(more));
        let count_at = out.bytes.len();
        out.u32(0);
        Self { out, count_at, count: 0 }
    }

    pub fn push(&mut self, commit: &Commit) {
        self.out.commit(commit);
        self.count += 1;
        self.out.bytes[self.count_at..self.count_at + 4].copy_from_slice(&self.count.to_le_bytes());
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out.bytes
    }
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn u8(&mut self, number: u8) {
        self.bytes.push(number);
    }

    fn u32(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// A request body is at most 512 MB, and copies are cut into pieces: no length comes near 2^32.
    fn length(&mut self, length: usize) {
        self.u32(u32::try_from(length).unwrap_or(u32::MAX));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn id(&mut self, id: &Id) {
        match id {
            Id::Uint(number) => {
                self.u8(0);
                self.u64(*number);
            }
            Id::Str(text) => {
                self.u8(1);
                self.text(text);
            }
            Id::Uuid(bits) => {
                self.u8(2);
                self.bytes.extend_from_slice(&bits.to_le_bytes());
            }
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.u8(0),
            Value::Str(text) => {
                self.u8(1);
                self.text(text);
            }
            Value::Int(number) => {
                self.u8(2);
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
            Value::Uint(number) => {
                self.u8(3);
                self.u64(*number);
            }
            Value::Float(number) => {
                self.u8(4);
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
            Value::Bool(flag) => self.u8(if *flag { 6 } else { 5 }),
            Value::Uuid(bits) => {
                self.u8(7);
                self.bytes.extend_from_slice(&bits.to_le_bytes());
            }
            Value::Datetime(ms) => {
                self.u8(8);
                self.bytes.extend_from_slice(&ms.to_le_bytes());
            }
            Value::Array(items) => {
                self.u8(9);
                self.length(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Sparse(entries) => {
                self.u8(10);
                self.length(entries.len());
                for (dim, weight) in entries {
                    self.u32(*dim);
                    self.u32(weight.to_bits());
                }
            }
        }
    }

    fn commit(&mut self, commit: &Commit) {
        self.u64(commit.seq);
        self.bytes.extend_from_slice(&commit.at_ms.to_le_bytes());
        match &commit.meta {
            Some(meta) => {
                // A tree of strings, numbers and flags always serializes.
                let json = serde_json::to_vec(meta).unwrap_or_default();
                self.length(json.len());
                self.bytes.extend_from_slice(&json);
            }
            None => self.u32(0),
        }
        self.length(commit.deletes.len());
        commit.deletes.iter().for_each(|id| self.id(id));
        self.length(commit.patches.len());
        for patch in &commit.patches {
            self.length(patch.ids.len());
            patch.ids.iter().for_each(|id| self.id(id));
            self.length(patch.changes.len());
            for (ordinal, value) in &patch.changes {
                self.length(*ordinal);
                self.value(value);
            }
        }
        self.length(commit.puts.rows.len());
        for (id, attrs) in &commit.puts.rows {
            self.id(id);
            self.length(attrs.len());
            attrs.iter().for_each(|value| self.value(value));
        }
        self.length(commit.puts.vectors.len());
        for column in &commit.puts.vectors {
            self.length(column.ordinal);
            self.length(column.dims);
            self.length(column.components.len());
            self.bytes.reserve(column.components.len() * size_of::<f32>());
            for component in &column.components {
                self.bytes.extend_from_slice(&component.to_le_bytes());
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

const SHORT: DecodeError = DecodeError("the record ends early");

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.bytes.split_at_checked(length).ok_or(SHORT)?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(SHORT)?;
        self.bytes = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of things that take at least one byte each, so that a wrong one cannot make us reserve memory.
    fn length(&mut self) -> Result<usize, DecodeError> {
        let length = self.u32()? as usize;
        if length <= self.bytes.len() {
            Ok(length)
        } else {
            Err(SHORT)
        }
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError("a text is not UTF-8"))
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, DecodeError>) -> Result<Vec<T>, DecodeError> {
        let length = self.length()?;
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(read(self)?);
        }
        Ok(items)
    }

    fn id(&mut self) -> Result<Id, DecodeError> {
        Ok(match self.u8()? {
            0 => Id::Uint(self.u64()?),
            1 => Id::Str(self.text()?.into()),
            2 => Id::Uuid(u128::from_le_bytes(self.array()?)),
            _ => return Err(DecodeError("unknown kind of id")),
        })
    }

    fn value(&mut self) -> Result<Value, DecodeError> {
        Ok(match self.u8()? {
            0 => Value::Null,
            1 => Value::Str(self.text()?.into()),
            2 => Value::Int(i64::from_le_bytes(self.array()?)),
            3 => Value::Uint(self.u64()?),
            4 => Value::Float(f64::from_le_bytes(self.array()?)),
            5 => Value::Bool(false),
            6 => Value::Bool(true),
            7 => Value::Uuid(u128::from_le_bytes(self.array()?)),
            8 => Value::Datetime(i64::from_le_bytes(self.array()?)),
            // Arrays do not nest, so neither does this.
            9 => Value::Array(self.list(Self::value)?.into()),
            10 => Value::Sparse(self.list(|reader| Ok((reader.u32()?, f32::from_bits(reader.u32()?))))?.into()),
            _ => return Err(DecodeError("unknown kind of value")),
        })
    }

    fn commit(&mut self) -> Result<Commit, DecodeError> {
        let seq = self.u64()?;
        let at_ms = i64::from_le_bytes(self.array()?);
        let meta_length = self.length()?;
        let meta = match self.take(meta_length)? {
            [] => None,
            json => Some(serde_json::from_slice::<Meta>(json).map_err(|_| DecodeError("the meta is of another form"))?),
        };
        let deletes = self.list(Self::id)?;
        let patches = self.list(|reader| {
            let ids = reader.list(Self::id)?;
            let changes = reader.list(|reader| Ok((reader.u32()? as usize, reader.value()?)))?;
            Ok(Patch { ids, changes })
        })?;
        let rows = self.list(|reader| Ok((reader.id()?, reader.list(Self::value)?.into())))?;
        let vectors = self.list(|reader| {
            let (ordinal, dims) = (reader.u32()? as usize, reader.u32()? as usize);
            let length = reader.length()?;
            let bytes = reader.take(length.checked_mul(size_of::<f32>()).ok_or(SHORT)?)?;
            let components =
                bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect();
            Ok(VectorColumn { ordinal, dims, components })
        })?;
        Ok(Commit { seq, at_ms, meta, deletes, patches, puts: Puts { rows, vectors } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let values = vec![
            Value::Null,
            Value::Str("é".into()),
            Value::Int(-1),
            Value::Uint(u64::MAX),
            Value::Float(0.1),
            Value::Bool(true),
            Value::Bool(false),
            Value::Uuid(7),
            Value::Datetime(-5),
            Value::Array([Value::Int(1), Value::Int(2)].into()),
            Value::Sparse([(3, 0.5)].into()),
        ];
        let commit = Commit {
            seq: 9,
            at_ms: -3,
            meta: Some(Meta { created_at_ms: 4, ..Meta::default() }),
            deletes: vec![Id::Uint(1), Id::Str("x".into()), Id::Uuid(5)],
            patches: vec![Patch { ids: vec![Id::Uint(2)], changes: values.iter().cloned().enumerate().collect() }],
            puts: Puts {
                rows: vec![(Id::Uint(3), values.into()), (Id::Uint(4), [].into())],
                vectors: vec![VectorColumn { ordinal: 2, dims: 2, components: vec![0.5, -1.0, 2.0, 0.1] }],
            },
        };
        Record::Commits {
            namespace: "ns".to_owned(),
            incarnation: 3,
            more: true,
            commits: vec![commit, Commit { seq: 10, ..Commit::default() }],
        }
    }

    #[test]
    fn records_round_trip() {
        let delete = Record::Delete { namespace: "ns".to_owned(), incarnation: 3 };
        for record in [record(), delete, Record::End { rows: 5 }] {
            assert_eq!(Record::decode(&record.encode()).as_ref(), Ok(&record));
        }
    }

    #[test]
    fn no_prefix_and_no_flipped_byte_makes_it_panic() {
        let bytes = record().encode();
        for length in 0..bytes.len() {
            assert!(Record::decode(&bytes[..length]).is_err());
        }
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x81;
            let _ = Record::decode(&damaged);
        }
    }
}
