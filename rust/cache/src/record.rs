//! One cached row: a head that answers most fetches by one copy, and a tail with what is returned only when named.
//!
//! ```text
//! head   0  u8   version                 tail   hidden members, joined by commas
//!        1  u8   tag of the id (1 integer, 2 string)
//!        2  u16  members
//!        4  u32  bytes of the id
//!        8  u32  bytes of the plain members
//!       12  members x { u32 offset, u32 bytes, u16 bytes of the key, u8 kind, u8 hash of the name }
//!           the id, a JSON string
//!           plain members, joined by commas
//! ```
//!
//! A member is the text `"key":value` as the upstream sent it, white space around the colon removed. Offsets count from
//! the start of the member's part: plain members from the first plain byte, hidden ones (vectors, reserved attributes)
//! from the start of the tail. The hash tells, but for one name in 256, whether the tail must be read for a named
//! attribute. Integers are little-endian. A JSON null is not stored: null and absent are one state.

use std::ops::Range;

use crate::error::CacheError;
use crate::json::{self, Cursor};

pub const VERSION: u8 = 1;
const FIXED: usize = 12;
const ENTRY: usize = 12;
const PLAIN: u8 = 0;
const HIDDEN: u8 = 1;

/// Attributes of this prefix are ours; a reader sees them only by naming them.
pub const RESERVED_PREFIX: &[u8] = b"_hevlayer_";
const EMBEDDED_PREFIX: &[u8] = b"$embed_";

const TAG_UINT: u8 = 1;
const TAG_STRING: u8 = 2;

type Result<T> = std::result::Result<T, CacheError>;

/// A namespace's id type, as an answer names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdType {
    Uint,
    String,
    Uuid,
}

impl IdType {
    pub fn name(self) -> &'static str {
        match self {
            Self::Uint => "uint",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Uint, Self::String, Self::Uuid].into_iter().find(|kind| kind.name() == name)
    }
}

/// Which attributes a reader asked for.
#[derive(Clone, Debug)]
pub enum Projection {
    /// All but vectors and reserved attributes.
    Plain,
    /// Exactly these.
    Named(Vec<String>),
}

/// A row as it is stored.
#[derive(Clone, Debug)]
pub struct Record {
    pub key: Vec<u8>,
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
}

impl Record {
    /// Reads one row of a query answer, the JSON object at the cursor.
    ///
    /// `vectors` names the vector attributes; an attribute whose value is an object (a sparse vector) or whose name
    /// marks it as an embedding is one as well.
    pub fn read(cursor: &mut Cursor<'_>, text: &str, vectors: &[String]) -> Result<Self> {
        let bytes = text.as_bytes();
        let mut id = None;
        let mut entries: Vec<(Range<usize>, Range<usize>, [u8; 2])> = Vec::new();
        cursor.object(|cursor, key| {
            let value = cursor.value()?;
            let name = json::decode(&bytes[key.clone()]);
            if name.as_ref() == b"id" {
                id = Some(value);
            } else if bytes[value.start] != b'n' && (name.first() != Some(&b'$') || name.starts_with(EMBEDDED_PREFIX)) {
                let hidden = bytes[value.start] == b'{'
                    || name.starts_with(EMBEDDED_PREFIX)
                    || name.starts_with(RESERVED_PREFIX)
                    || vectors.iter().any(|vector| vector.as_bytes() == name.as_ref());
                entries.push((key, value, [if hidden { HIDDEN } else { PLAIN }, name_hash(&name)]));
            }
            Ok(())
        })?;
        let id = id.ok_or(CacheError::Shape("a row without an id"))?;
        let (tag, key, id_text) = read_id(&bytes[id])?;

        let mut directory = Vec::with_capacity(entries.len() * ENTRY);
        let mut plain = Vec::new();
        let mut tail = Vec::new();
        for (name, value, kind) in &entries {
            let part = if kind[0] == PLAIN { &mut plain } else { &mut tail };
            if !part.is_empty() {
                part.push(b',');
            }
            let start = part.len();
            part.push(b'"');
            part.extend_from_slice(&bytes[name.clone()]);
            part.extend_from_slice(b"\":");
            part.extend_from_slice(&bytes[value.clone()]);
            directory.extend_from_slice(&small(start)?.to_le_bytes());
            directory.extend_from_slice(&small(part.len() - start)?.to_le_bytes());
            let length = u16::try_from(name.len()).map_err(|_| CacheError::Shape("an attribute name over 64 KiB"))?;
            directory.extend_from_slice(&length.to_le_bytes());
            directory.extend_from_slice(kind);
        }
        let count = u16::try_from(entries.len()).map_err(|_| CacheError::Shape("a row with over 65,535 attributes"))?;
        let mut head = Vec::with_capacity(FIXED + directory.len() + id_text.len() + plain.len());
        head.extend_from_slice(&[VERSION, tag]);
        head.extend_from_slice(&count.to_le_bytes());
        head.extend_from_slice(&small(id_text.len())?.to_le_bytes());
        head.extend_from_slice(&small(plain.len())?.to_le_bytes());
        head.extend_from_slice(&directory);
        head.extend_from_slice(&id_text);
        head.extend_from_slice(&plain);
        Ok(Self { key, head, tail })
    }

    pub fn view(&self) -> Result<View<'_>> {
        View::new(&self.head, Some(&self.tail))
    }
}

fn small(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| CacheError::Shape("a row over 4 GiB"))
}

/// The tag, the cache key and the JSON string of an id value.
fn read_id(value: &[u8]) -> Result<(u8, Vec<u8>, Vec<u8>)> {
    if value.first() == Some(&b'"') {
        let inner = &value[1..value.len() - 1];
        let mut key = vec![TAG_STRING];
        key.extend_from_slice(&json::decode(inner));
        return Ok((TAG_STRING, key, value.to_vec()));
    }
    let number: u64 = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(CacheError::Shape("an id is neither an integer in 0..2^64 nor a string"))?;
    let mut key = vec![TAG_UINT];
    key.extend_from_slice(&number.to_be_bytes());
    Ok((TAG_UINT, key, format!("\"{number}\"").into_bytes()))
}

/// A stored record, its tail present or not.
pub struct View<'a> {
    directory: &'a [u8],
    id: &'a [u8],
    plain: &'a [u8],
    tail: Option<&'a [u8]>,
}

impl<'a> View<'a> {
    pub fn new(head: &'a [u8], tail: Option<&'a [u8]>) -> Result<Self> {
        let shape = CacheError::Shape("a cached record that this version cannot read");
        if head.len() < FIXED || head[0] != VERSION {
            return Err(shape);
        }
        let directory_end = FIXED + usize::from(u16::from_le_bytes([head[2], head[3]])) * ENTRY;
        let id_end = directory_end + read_u32(&head[4..]);
        if id_end + read_u32(&head[8..]) != head.len() {
            return Err(shape);
        }
        Ok(Self {
            directory: &head[FIXED..directory_end],
            id: &head[directory_end..id_end],
            plain: &head[id_end..],
            tail,
        })
    }

    /// Whether a head alone cannot answer: the caller reads the tail and asks again.
    pub fn needs_tail(&self, projection: &Projection) -> bool {
        match projection {
            Projection::Plain => false,
            Projection::Named(names) => {
                let hashes = || names.iter().map(|name| name_hash(name.as_bytes()));
                self.tail.is_none()
                    && self.members().any(|member| member.hidden && hashes().any(|hash| hash == member.name_hash))
            }
        }
    }

    fn key(&self, member: &Member) -> &'a [u8] {
        self.part(member).get(1..1 + member.key_bytes).unwrap_or_default()
    }

    fn part(&self, member: &Member) -> &'a [u8] {
        let part = if member.hidden { self.tail.unwrap_or_default() } else { self.plain };
        part.get(member.range.clone()).unwrap_or_default()
    }

    fn members(&self) -> impl Iterator<Item = Member> + 'a {
        self.directory.chunks_exact(ENTRY).map(|entry| {
            let start = read_u32(entry);
            Member {
                range: start..start + read_u32(&entry[4..]),
                key_bytes: usize::from(u16::from_le_bytes([entry[8], entry[9]])),
                hidden: entry[10] == HIDDEN,
                name_hash: entry[11],
            }
        })
    }

    /// Appends `{"id":…,"attributes":{…}}`, with `"id_type"` when one is given.
    pub fn write(&self, projection: &Projection, id_type: Option<IdType>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":");
        out.extend_from_slice(self.id);
        if let Some(id_type) = id_type {
            out.extend_from_slice(b",\"id_type\":\"");
            out.extend_from_slice(id_type.name().as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b",\"attributes\":{");
        match projection {
            Projection::Plain => out.extend_from_slice(self.plain),
            Projection::Named(names) => {
                let mut first = true;
                for member in self.members() {
                    if names_member(names, self.key(&member)) {
                        if !first {
                            out.push(b',');
                        }
                        first = false;
                        out.extend_from_slice(self.part(&member));
                    }
                }
            }
        }
        out.extend_from_slice(b"}}");
    }
}

struct Member {
    range: Range<usize>,
    key_bytes: usize,
    hidden: bool,
    name_hash: u8,
}

// The low byte is what is wanted.
#[allow(clippy::cast_possible_truncation)]
fn name_hash(name: &[u8]) -> u8 {
    xxhash_rust::xxh3::xxh3_64(name) as u8
}

fn names_member(names: &[String], key: &[u8]) -> bool {
    let key = json::decode(key);
    names.iter().any(|name| name.as_bytes() == key.as_ref())
}

fn read_u32(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Record {
        let vectors = ["vector".to_owned()];
        Record::read(&mut Cursor::new(text), text, &vectors).expect("a row")
    }

    fn write(record: &Record, projection: &Projection, id_type: Option<IdType>) -> String {
        let mut out = Vec::new();
        record.view().expect("a record").write(projection, id_type, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    const ROW: &str = r#"{ "id" : 7, "$dist":0.5, "title": "caf\u00e9", "none":null, "_hevlayer_upserted_at":12,
        "vector":[0.1, 2], "sparse":{"3":1.5}, "ta\u0067s":["a"] }"#;

    #[test]
    fn hides_vectors_reserved_attributes_and_nulls() {
        let record = read(ROW);
        assert_eq!(record.key, [1, 0, 0, 0, 0, 0, 0, 0, 7]);
        let text = write(&record, &Projection::Plain, Some(IdType::Uint));
        assert_eq!(text, r#"{"id":"7","id_type":"uint","attributes":{"title":"caf\u00e9","ta\u0067s":["a"]}}"#);
    }

    #[test]
    fn gives_what_is_named() {
        let record = read(ROW);
        let named = |names: &[&str]| Projection::Named(names.iter().map(ToString::to_string).collect());
        let text = write(&record, &named(&["vector", "tags", "_hevlayer_upserted_at", "none", "other"]), None);
        assert_eq!(text, r#"{"id":"7","attributes":{"_hevlayer_upserted_at":12,"vector":[0.1, 2],"ta\u0067s":["a"]}}"#);
        assert_eq!(write(&record, &named(&[]), None), r#"{"id":"7","attributes":{}}"#);
    }

    #[test]
    fn asks_for_the_tail_only_when_it_may_matter() {
        let record = read(ROW);
        let head = View::new(&record.head, None).expect("a head");
        assert!(!head.needs_tail(&Projection::Plain));
        assert!(!head.needs_tail(&Projection::Named(vec![])));
        assert!(head.needs_tail(&Projection::Named(vec!["vector".to_owned()])));
        assert!(!head.needs_tail(&Projection::Named(vec!["title".to_owned()])));
        let plain = read(r#"{"id":"a","x":1}"#);
        let head = View::new(&plain.head, None).expect("a head");
        assert!(!head.needs_tail(&Projection::Named(vec!["vector".to_owned()])));
    }

    #[test]
    fn decodes_string_ids() {
        assert_eq!(read(r#"{"id":"a\u00e9\/b"}"#).key, [b"\x02a".as_slice(), "\u{e9}/b".as_bytes()].concat());
    }

    #[test]
    fn refuses_rows_without_a_usable_id() {
        for text in [r#"{"x":1}"#, r#"{"id":-1}"#, r#"{"id":1.0}"#, r#"{"id":null}"#] {
            assert!(Record::read(&mut Cursor::new(text), text, &[]).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_a_head_of_another_version_or_length() {
        let record = read(ROW);
        let mut other = record.head.clone();
        other[0] = 9;
        assert!(View::new(&other, None).is_err());
        assert!(View::new(&record.head[..record.head.len() - 1], None).is_err());
        assert!(View::new(&[], None).is_err());
    }
}
