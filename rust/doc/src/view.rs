//! Reads records: typed values for filters, JSON text for answers.

use crate::error::DocError;
use crate::layout::{
    name_hash, take, take_length, take_sized, FIXED, HIDDEN, KEY, KIND, LONG_NAME, TEXT, VECTOR, VERSION, WIDE,
};
use crate::record::{IdType, Projection};
use crate::value::{self, Form, IdRef, ValueRef, VectorRef};

/// An attribute's name, ready to be looked up in many records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeName {
    text: Box<str>,
    hash: u16,
}

impl AttributeName {
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { text: name.into(), hash: name_hash(name.as_bytes()) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A stored record, its tail present or not. Making one and looking up in it allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    hashes: &'a [u8],
    kinds: &'a [u8],
    name_bytes: &'a [u8],
    places: &'a [u8],
    wide: bool,
    id_kind: u8,
    heap: &'a [u8],
    tail: Option<&'a [u8]>,
}

/// A member, taken apart.
struct Member<'a> {
    kind: u8,
    name: &'a [u8],
    /// The key's text between its quotes.
    key: &'a [u8],
    /// The value and what follows it.
    rest: &'a [u8],
}

impl<'a> View<'a> {
    /// A record of which the tail may be left out; see [`View::needs_tail`].
    ///
    /// # Errors
    /// The head is of another version, or not as long as it says.
    pub fn new(head: &'a [u8], tail: Option<&'a [u8]>) -> Result<Self, DocError> {
        Self::open(head, tail).ok_or(DocError::Shape("a cached record that this version cannot read"))
    }

    fn open(head: &'a [u8], tail: Option<&'a [u8]>) -> Option<Self> {
        let (fixed, mut rest) = head.split_first_chunk::<FIXED>()?;
        let [version, id_kind, n0, n1, l0, l1, l2, l3] = *fixed;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let wide = length & WIDE != 0;
        if version != VERSION || (length & !WIDE) as usize != head.len() {
            return None;
        }
        let count = usize::from(u16::from_le_bytes([n0, n1]));
        let hashes = take(&mut rest, count * 2)?;
        let kinds = take(&mut rest, count)?;
        let name_bytes = take(&mut rest, count)?;
        let places = take(&mut rest, count * if wide { 4 } else { 2 })?;
        Some(Self { hashes, kinds, name_bytes, places, wide, id_kind, heap: rest, tail })
    }

    /// Members, those with reserved names too, the id not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The id; None only when the bytes are not a record.
    #[must_use]
    pub fn id(&self) -> Option<IdRef<'a>> {
        match value::read(self.id_kind & KIND, &mut &*self.heap)? {
            ValueRef::Int(number) => u64::try_from(number).ok().map(IdRef::Uint),
            ValueRef::Uint(number) => Some(IdRef::Uint(number)),
            ValueRef::Str(text) => Some(IdRef::Str(text)),
            ValueRef::Uuid(bits) => Some(IdRef::Uuid(bits)),
            _ => None,
        }
    }

    /// The value of an attribute; None when the row has none, which is what null means too.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<ValueRef<'a>> {
        self.find_from(name.as_bytes(), name_hash(name.as_bytes()), 0).and_then(|(_, value)| value)
    }

    /// As [`View::attribute`], with the hash made before.
    #[inline]
    #[must_use]
    pub fn get(&self, name: &AttributeName) -> Option<ValueRef<'a>> {
        self.find_from(name.text.as_bytes(), name.hash, 0).and_then(|(_, value)| value)
    }

    /// As [`View::get`]; looks first where the attribute stood in the row before, and notes where it stands in this.
    #[inline]
    #[must_use]
    pub fn get_near(&self, name: &AttributeName, place: &mut usize) -> Option<ValueRef<'a>> {
        let text = name.text.as_bytes();
        let (found, value) = self.find_from(text, name.hash, *place).or_else(|| self.find_from(text, name.hash, 0))?;
        *place = found;
        value
    }

    /// The place of the first member of that name from `start` on, and its value.
    #[inline]
    fn find_from(&self, name: &[u8], hash: u16, start: usize) -> Option<(usize, Option<ValueRef<'a>>)> {
        let wanted = hash.to_le_bytes();
        let hashes = self.hashes.get(start * 2..)?;
        for (offset, found) in hashes.chunks_exact(2).enumerate() {
            if *found == wanted {
                let member = self.member(start + offset)?;
                if member.name == name {
                    return Some((start + offset, self.value(&member)));
                }
            }
        }
        None
    }

    /// Names and values in the order of the upstream's text. Stops at the first that cannot be read, which a record
    /// has none of.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, ValueRef<'a>)> + '_ {
        (0..self.len()).map_while(|index| {
            let member = self.member(index)?;
            Some((std::str::from_utf8(member.name).ok()?, self.value(&member)?))
        })
    }

    fn member(&self, index: usize) -> Option<Member<'a>> {
        let kind = *self.kinds.get(index)?;
        let place = if self.wide {
            let place = self.places.get(index * 4..)?.first_chunk::<4>()?;
            u32::from_le_bytes(*place) as usize
        } else {
            usize::from(u16::from_le_bytes(*self.places.get(index * 2..)?.first_chunk::<2>()?))
        };
        let mut rest = self.heap.get(place..)?;
        let mut name_bytes = usize::from(*self.name_bytes.get(index)?);
        if name_bytes == LONG_NAME {
            let (length, after) = rest.split_first_chunk::<4>()?;
            name_bytes = u32::from_le_bytes(*length) as usize;
            rest = after;
        }
        let name = take(&mut rest, name_bytes)?;
        let key = if kind & KEY == 0 { name } else { take_sized(&mut rest)? };
        Some(Member { kind, name, key, rest })
    }

    #[inline]
    fn value(&self, member: &Member<'a>) -> Option<ValueRef<'a>> {
        if member.kind & KIND == VECTOR {
            return self.vector(member.rest).map(ValueRef::Vector);
        }
        value::read(member.kind & KIND, &mut &*member.rest)
    }

    fn vector(&self, mut rest: &[u8]) -> Option<VectorRef<'a>> {
        let fixed = take(&mut rest, 2)?;
        let form = Form::of(fixed[0])?;
        let rows = take_length(&mut rest)?;
        let dimensions = take_length(&mut rest)?;
        let start = take_length(&mut rest)?;
        let length = take_length(&mut rest)?;
        let bytes = match self.tail {
            None => None,
            Some(tail) => Some(tail.get(start..start.checked_add(length)?)?),
        };
        Some(VectorRef { form, width: fixed[1], rows, dimensions, bytes })
    }

    /// Whether a head alone cannot answer: the caller reads the tail and asks again.
    #[must_use]
    pub fn needs_tail(&self, projection: &Projection) -> bool {
        let Projection::Named(names) = projection else {
            return false;
        };
        let is_vector = |index: &usize| self.kinds[*index] & KIND == VECTOR;
        self.tail.is_none()
            && (0..self.len())
                .filter(is_vector)
                .filter_map(|index| self.member(index))
                .any(|member| names.iter().any(|name| name.as_bytes() == member.name))
    }

    /// Appends `{"id":…,"attributes":{…}}`, with `"id_type"` when one is given. The id is a JSON string whatever its
    /// type; attributes have the upstream's text and order.
    pub fn write(&self, projection: &Projection, id_type: Option<IdType>, out: &mut Vec<u8>) {
        out.reserve(self.heap.len() + FRAME_BYTES);
        out.extend_from_slice(b"{\"id\":");
        self.write_id(out);
        if let Some(id_type) = id_type {
            out.extend_from_slice(b",\"id_type\":\"");
            out.extend_from_slice(id_type.name().as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b",\"attributes\":{");
        let empty = out.len();
        for index in 0..self.len() {
            let kind = self.kinds[index];
            if matches!(projection, Projection::Plain) && (kind & HIDDEN != 0 || kind & KIND == VECTOR) {
                continue;
            }
            let Some(member) = self.member(index) else {
                continue;
            };
            if let Projection::Named(names) = projection {
                if !names.iter().any(|name| name.as_bytes() == member.name) {
                    continue;
                }
            }
            let start = out.len();
            if start > empty {
                out.push(b',');
            }
            out.push(b'"');
            out.extend_from_slice(member.key);
            out.extend_from_slice(b"\":");
            if self.write_value(&member, out).is_none() {
                out.truncate(start);
            }
        }
        out.extend_from_slice(b"}}");
    }

    fn write_id(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let bare = !matches!(self.id(), Some(IdRef::Str(_) | IdRef::Uuid(_)));
        if bare {
            out.push(b'"');
        }
        let id = Member { kind: self.id_kind, name: b"id", key: b"id", rest: self.heap };
        if self.write_value(&id, out).is_none() {
            out.truncate(start);
            out.extend_from_slice(b"null");
            return;
        }
        if bare {
            out.push(b'"');
        }
    }

    /// Appends the text of a value as the upstream sent it.
    #[inline]
    fn write_value(&self, member: &Member<'a>, out: &mut Vec<u8>) -> Option<()> {
        let kind = member.kind & KIND;
        let mut rest = member.rest;
        if member.kind & TEXT != 0 {
            value::skip(kind, &mut rest)?;
            out.extend_from_slice(take_sized(&mut rest)?);
            return Some(());
        }
        if kind == VECTOR {
            self.vector(rest)?.write(out);
            return Some(());
        }
        value::write(kind, &mut rest, out)
    }

    /// Calls `each` with the text between the key's quotes and the value's text of every member, as the upstream sent
    /// them. False when the bytes are not a whole record, or a vector's are in a tail that is not there.
    #[must_use]
    pub fn texts(&self, mut each: impl FnMut(&'a [u8], &[u8])) -> bool {
        let mut text = Vec::new();
        (0..self.len()).all(|index| {
            text.clear();
            let Some(member) = self.member(index) else {
                return false;
            };
            let absent = self.tail.is_none() && member.kind & KIND == VECTOR;
            let whole = !absent && self.write_value(&member, &mut text).is_some();
            if whole {
                each(member.key, &text);
            }
            whole
        })
    }

    /// The id's text as the upstream sent it; empty when the bytes are not a record.
    #[must_use]
    pub fn id_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let id = Member { kind: self.id_kind, name: b"id", key: b"id", rest: self.heap };
        if self.write_value(&id, &mut text).is_none() {
            text.clear();
        }
        text
    }
}

/// Bytes of an answer around its attributes, about.
const FRAME_BYTES: usize = 96;
