//! Makes a record of the texts of a row's members.

use std::ops::Range;

use crate::error::DocError;
use crate::id;
use crate::json::{self, Cursor};
use crate::layout::{
    name_hash, put_length, BARE, BOOLS, DATETIME, DATETIMES, EMPTY, ESCAPED, ESCAPED_STRS, F32, F64, FALSE, FIXED,
    FLOATS, HIDDEN, I16, I32, I64, I8, INTS, JSON, KEY, LONG_NAME, NARROW_HEAP_MAX, STR, STRS, TEXT, TRUE, U64, UINTS,
    UUID, UUIDS, VECTOR, VERSION, WIDE,
};
use crate::number::Number;
use crate::record::{Record, EMBEDDED_PREFIX, RESERVED_PREFIX};
use crate::schema::{AttributeType, Scalar, Schema};
use crate::value::{self, parse_datetime, parse_uuid};
use crate::vector::{self, Encoded, Form};

type Result<T> = std::result::Result<T, DocError>;

/// What is known of attributes beyond their text.
#[derive(Clone, Copy, Debug)]
pub enum Types<'a> {
    /// The names of those that are vectors.
    Vectors(&'a [String]),
    Schema(&'a Schema),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    None,
    Vector,
    Uuid,
    Datetime,
}

impl Types<'_> {
    fn hint(&self, name: &[u8]) -> Hint {
        match self {
            Self::Vectors(vectors) if vectors.iter().any(|vector| vector.as_bytes() == name) => Hint::Vector,
            Self::Vectors(_) => Hint::None,
            Self::Schema(schema) => {
                let attribute = std::str::from_utf8(name).ok().and_then(|name| schema.get(name));
                attribute.map_or(Hint::None, |attribute| hint_of(&attribute.kind))
            }
        }
    }

    fn id_hint(&self) -> Hint {
        match self {
            Self::Schema(Schema { id_type: Some(crate::record::IdType::Uuid), .. }) => Hint::Uuid,
            _ => Hint::None,
        }
    }
}

fn hint_of(kind: &AttributeType) -> Hint {
    match kind.scalar() {
        Some(Scalar::Uuid) => Hint::Uuid,
        Some(Scalar::Datetime) => Hint::Datetime,
        _ if kind.is_vector() => Hint::Vector,
        _ => Hint::None,
    }
}

/// A record in the making. It may be used again after [`Builder::finish`], which keeps its buffers.
#[derive(Debug, Default)]
pub struct Builder {
    hashes: Vec<u8>,
    kinds: Vec<u8>,
    name_bytes: Vec<u8>,
    places: Vec<usize>,
    heap: Vec<u8>,
    tail: Vec<u8>,
    key: Option<Vec<u8>>,
    id_kind: u8,
    id: Vec<u8>,
    scratch: Vec<u8>,
    elements: Vec<Range<usize>>,
}

impl Builder {
    /// Reads one row, the JSON object at the cursor; what was begun before is dropped.
    ///
    /// # Errors
    /// It is not a JSON object, has no usable id, or is too large for the layout.
    pub fn read(&mut self, cursor: &mut Cursor<'_>, text: &str, types: Types<'_>) -> Result<Record> {
        self.clear();
        let bytes = text.as_bytes();
        cursor.object(|cursor, key| {
            let key = &bytes[key];
            let name = json::decode(key);
            if name.as_ref() == b"id" {
                let value = cursor.value()?;
                return self.id(&bytes[value], types);
            }
            let embedded = name.starts_with(EMBEDDED_PREFIX);
            if name.first() == Some(&b'$') && !embedded {
                return cursor.value().map(drop);
            }
            let hint = if embedded { Hint::Vector } else { types.hint(&name) };
            let start = cursor.at();
            if hint == Hint::Vector && bytes.get(start) == Some(&b'[') {
                if let Some((vector, length)) = vector::read_dense(&bytes[start..]) {
                    cursor.advance(length);
                    return self.vector(key, &name, &vector);
                }
            }
            let value = cursor.value()?;
            self.typed(key, &name, &bytes[value], hint)
        })?;
        self.finish()
    }

    /// Drops what was begun.
    pub fn clear(&mut self) {
        self.hashes.clear();
        self.kinds.clear();
        self.name_bytes.clear();
        self.places.clear();
        self.heap.clear();
        self.tail.clear();
        self.key = None;
        self.id.clear();
    }

    /// Takes the text of an id that was walked before.
    ///
    /// # Errors
    /// It is neither an integer in 0..2^64 nor a string.
    pub fn id(&mut self, text: &[u8], types: Types<'_>) -> Result<()> {
        let rule = DocError::Shape("an id is neither an integer in 0..2^64 nor a string");
        self.id.clear();
        if let Some(inner) = text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) {
            let decoded = json::decode(inner);
            self.key = Some([&[id::TAG_STRING], decoded.as_ref()].concat());
        } else {
            let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(rule)?;
            self.key = Some(id::uint_key(number));
        }
        let mut heap = std::mem::take(&mut self.id);
        self.id_kind = self.put(text, types.id_hint(), &mut heap);
        self.id = heap;
        Ok(())
    }

    /// Adds a member of which the text between the key's quotes and the value's text are given, both walked before.
    /// Null, and what the upstream computes (`$dist`), is passed over.
    ///
    /// # Errors
    /// A name or the row is too large for the layout.
    pub fn member(&mut self, key: &[u8], value: &[u8], types: Types<'_>) -> Result<()> {
        let name = json::decode(key);
        let hint = if name.starts_with(EMBEDDED_PREFIX) {
            Hint::Vector
        } else if name.first() == Some(&b'$') {
            return Ok(());
        } else {
            types.hint(&name)
        };
        self.typed(key, &name, value, hint)
    }

    /// As [`Builder::member`], by the name itself.
    ///
    /// # Errors
    /// As [`Builder::member`].
    pub fn named(&mut self, name: &str, value: &[u8], types: Types<'_>) -> Result<()> {
        let mut key = Vec::with_capacity(name.len() + 2);
        json::encode(name.as_bytes(), &mut key);
        self.member(&key[1..key.len() - 1], value, types)
    }

    /// Adds a dense vector that is printed as an array of canonical singles.
    ///
    /// # Errors
    /// It is empty or a component is not finite.
    pub fn dense_vector(&mut self, name: &str, numbers: &[f32]) -> Result<()> {
        let vector =
            vector::encode_dense(numbers).ok_or(DocError::Shape("a vector of which a component is not finite"))?;
        let mut key = Vec::with_capacity(name.len() + 2);
        json::encode(name.as_bytes(), &mut key);
        self.vector(&key[1..key.len() - 1], name.as_bytes(), &vector)
    }

    fn typed(&mut self, key: &[u8], name: &[u8], value: &[u8], hint: Hint) -> Result<()> {
        let first = value.first().copied().unwrap_or_default();
        if first == b'n' {
            return Ok(());
        }
        if hint == Hint::Vector || first == b'{' {
            let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
            let known = match first {
                b'[' => {
                    vector::read_dense(value).filter(|(_, length)| *length == value.len()).map(|(vector, _)| vector)
                }
                b'{' => vector::read_sparse(value),
                _ => inner.and_then(vector::read_base64),
            };
            let as_text = || Encoded { form: Form::Text, width: 4, rows: 0, dimensions: 0, bytes: value.to_vec() };
            return self.vector(key, name, &known.unwrap_or_else(as_text));
        }
        let at = self.begin(key, name);
        let mut heap = std::mem::take(&mut self.heap);
        let kind = self.put(value, hint, &mut heap);
        self.heap = heap;
        self.kinds[at] |= kind;
        Ok(())
    }

    fn vector(&mut self, key: &[u8], name: &[u8], vector: &Encoded) -> Result<()> {
        let at = self.begin(key, name);
        self.kinds[at] |= VECTOR;
        self.heap.extend_from_slice(&[vector.form.code(), vector.width]);
        for length in [vector.rows, vector.dimensions, self.tail.len(), vector.bytes.len()] {
            put_length(length, &mut self.heap);
        }
        self.tail.extend_from_slice(&vector.bytes);
        Ok(())
    }

    /// Begins a member: all but its value and the kind of that.
    fn begin(&mut self, key: &[u8], name: &[u8]) -> usize {
        let mut flags = if name.starts_with(RESERVED_PREFIX) { HIDDEN } else { 0 };
        self.hashes.extend_from_slice(&name_hash(name).to_le_bytes());
        self.places.push(self.heap.len());
        self.name_bytes.push(u8::try_from(name.len().min(LONG_NAME)).unwrap_or(u8::MAX));
        if name.len() >= LONG_NAME {
            self.heap.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
        self.heap.extend_from_slice(name);
        if key != name {
            flags |= KEY;
            put_length(key.len(), &mut self.heap);
            self.heap.extend_from_slice(key);
        }
        self.kinds.push(flags);
        self.kinds.len() - 1
    }

    /// Puts a value that is neither null nor a vector, and its text when that is not canonical; its kind and flag.
    fn put(&mut self, text: &[u8], hint: Hint, heap: &mut Vec<u8>) -> u8 {
        let start = heap.len();
        let kind = match text.first() {
            Some(b'"') => put_string(&text[1..text.len() - 1], hint, heap),
            Some(b't') => Some(TRUE),
            Some(b'f') => Some(FALSE),
            Some(b'[') => self.put_array(text, hint, heap),
            _ => put_number(text, heap),
        };
        let kind = kind.unwrap_or_else(|| {
            heap.truncate(start);
            put_length(text.len(), heap);
            heap.extend_from_slice(text);
            JSON
        });
        if matches!(kind, STR | JSON | TRUE | FALSE | I8..=U64) {
            return kind;
        }
        self.scratch.clear();
        let same = value::write(kind, &mut &heap[start..], &mut self.scratch).is_some() && self.scratch == text;
        if same {
            return kind;
        }
        put_length(text.len(), heap);
        heap.extend_from_slice(text);
        kind | TEXT
    }

    /// Puts an array whose elements have one type; None when they have not.
    fn put_array(&mut self, text: &[u8], hint: Hint, heap: &mut Vec<u8>) -> Option<u8> {
        let mut elements = std::mem::take(&mut self.elements);
        elements.clear();
        let mut cursor = Cursor::over(text, 0);
        let walked = cursor.array(|cursor| {
            elements.push(cursor.value()?);
            Ok(())
        });
        let kind = walked.ok().and_then(|()| put_elements(text, &elements, hint, heap));
        self.elements = elements;
        kind
    }

    /// The record, which ends what was begun.
    ///
    /// # Errors
    /// There was no id, or the row is too large.
    pub fn finish(&mut self) -> Result<Record> {
        let key = self.key.take().ok_or(DocError::Shape("a row without an id"))?;
        let count =
            u16::try_from(self.kinds.len()).map_err(|_| DocError::Shape("a row with over 65,535 attributes"))?;
        let wide = self.id.len() + self.heap.len() > NARROW_HEAP_MAX;
        let directory = self.kinds.len() * if wide { 8 } else { 6 };
        let length = FIXED + directory + self.id.len() + self.heap.len();
        let large = DocError::Shape("a row over 2 GiB");
        let length = u32::try_from(length).ok().filter(|length| length & WIDE == 0).ok_or(large)?;
        u32::try_from(self.tail.len()).map_err(|_| large)?;

        let mut head = Vec::with_capacity(length as usize);
        head.extend_from_slice(&[VERSION, self.id_kind]);
        head.extend_from_slice(&count.to_le_bytes());
        head.extend_from_slice(&(length | if wide { WIDE } else { 0 }).to_le_bytes());
        head.extend_from_slice(&self.hashes);
        head.extend_from_slice(&self.kinds);
        head.extend_from_slice(&self.name_bytes);
        for place in &self.places {
            let place = u32::try_from(place + self.id.len()).map_err(|_| large)?.to_le_bytes();
            head.extend_from_slice(if wide { &place } else { &place[..2] });
        }
        head.extend_from_slice(&self.id);
        head.extend_from_slice(&self.heap);
        let record = Record { key, head, tail: self.tail.clone() };
        self.clear();
        Ok(record)
    }
}

/// Puts a string from its text between the quotes.
fn put_string(inner: &[u8], hint: Hint, heap: &mut Vec<u8>) -> Option<u8> {
    let text = json::decode(inner);
    let typed = || std::str::from_utf8(&text).ok();
    match hint {
        Hint::Uuid => {
            if let Some(bits) = typed().and_then(parse_uuid) {
                heap.extend_from_slice(&bits.to_be_bytes());
                return Some(UUID);
            }
        }
        Hint::Datetime => {
            if let Some(ms) = typed().and_then(parse_datetime) {
                heap.extend_from_slice(&ms.to_le_bytes());
                return Some(DATETIME);
            }
        }
        Hint::None | Hint::Vector => {}
    }
    put_length(text.len(), heap);
    heap.extend_from_slice(&text);
    Some(if text.len() == inner.len() { STR } else { ESCAPED })
}

fn put_number(text: &[u8], heap: &mut Vec<u8>) -> Option<u8> {
    Some(match Number::read(std::str::from_utf8(text).ok()?)? {
        Number::Int(number) => {
            let width = int_width(number);
            heap.extend_from_slice(&number.to_le_bytes()[..width]);
            match width {
                1 => I8,
                2 => I16,
                4 => I32,
                _ => I64,
            }
        }
        Number::Uint(number) => {
            heap.extend_from_slice(&number.to_le_bytes());
            U64
        }
        Number::Float(number) => match single(number) {
            Some(single) => {
                heap.extend_from_slice(&single.to_le_bytes());
                F32
            }
            None => {
                heap.extend_from_slice(&number.to_le_bytes());
                F64
            }
        },
    })
}

fn int_width(number: i64) -> usize {
    if i8::try_from(number).is_ok() {
        1
    } else if i16::try_from(number).is_ok() {
        2
    } else if i32::try_from(number).is_ok() {
        4
    } else {
        8
    }
}

/// The double as a single, when that is exact.
#[allow(clippy::cast_possible_truncation)] // is compared
fn single(number: f64) -> Option<f32> {
    let single = number as f32;
    (f64::from(single).to_bits() == number.to_bits()).then_some(single)
}

/// Largest integer up to which a double holds each.
const EXACT_INT_MAX: u64 = 1 << 53;

fn put_elements(text: &[u8], elements: &[Range<usize>], hint: Hint, heap: &mut Vec<u8>) -> Option<u8> {
    let first = text[elements.first().map_or(0, |element| element.start)];
    let texts = || elements.iter().map(|element| &text[element.clone()]);
    match first {
        _ if elements.is_empty() => Some(EMPTY),
        b't' | b'f' => {
            put_length(elements.len(), heap);
            for text in texts() {
                heap.push(match text {
                    b"true" => 1,
                    b"false" => 0,
                    _ => return None,
                });
            }
            Some(BOOLS)
        }
        b'"' => {
            let strings: Option<Vec<_>> = texts()
                .map(|text| text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).map(json::decode))
                .collect();
            put_strings(&strings?, hint, memchr::memchr(b'\\', text).is_some(), heap)
        }
        b'-' | b'0'..=b'9' => {
            let numbers: Option<Vec<_>> =
                texts().map(|text| std::str::from_utf8(text).ok().and_then(Number::read)).collect();
            put_numbers(&numbers?, texts().all(|text| matches!(text[0], b'-' | b'0'..=b'9')), heap)
        }
        _ => None,
    }
}

fn put_strings(strings: &[std::borrow::Cow<'_, [u8]>], hint: Hint, escaped: bool, heap: &mut Vec<u8>) -> Option<u8> {
    put_length(strings.len(), heap);
    let start = heap.len();
    let mut each = |read: fn(&str, &mut Vec<u8>) -> Option<()>| {
        let put = strings.iter().try_for_each(|string| read(std::str::from_utf8(string).ok()?, heap));
        if put.is_none() {
            heap.truncate(start);
        }
        put.is_some()
    };
    match hint {
        Hint::Uuid if each(|text, heap| parse_uuid(text).map(|bits| heap.extend_from_slice(&bits.to_be_bytes()))) => {
            return Some(UUIDS);
        }
        Hint::Datetime
            if each(|text, heap| parse_datetime(text).map(|ms| heap.extend_from_slice(&ms.to_le_bytes()))) =>
        {
            return Some(DATETIMES);
        }
        _ => {}
    }
    let mut bytes = Vec::with_capacity(strings.iter().map(|string| string.len() + 2).sum());
    for string in strings {
        put_length(string.len(), &mut bytes);
        bytes.extend_from_slice(string);
    }
    put_length(bytes.len(), heap);
    heap.extend_from_slice(&bytes);
    Some(if escaped { ESCAPED_STRS } else { STRS })
}

fn put_numbers(numbers: &[Number], all: bool, heap: &mut Vec<u8>) -> Option<u8> {
    if !all {
        return None;
    }
    put_length(numbers.len(), heap);
    let is_float = |number: &Number| matches!(number, Number::Float(_));
    if numbers.iter().any(is_float) {
        let bare = numbers.iter().any(|number| !is_float(number));
        let floats: Option<Vec<f64>> = numbers.iter().map(|number| exact_float(*number)).collect();
        let floats = floats?;
        let style = if bare { BARE } else { 0 };
        let singles: Option<Vec<f32>> = floats.iter().map(|number| single(*number)).collect();
        if let Some(singles) = singles {
            heap.push(4 | style);
            heap.extend(singles.iter().flat_map(|number| number.to_le_bytes()));
        } else {
            heap.push(8 | style);
            heap.extend(floats.iter().flat_map(|number| number.to_le_bytes()));
        }
        return Some(FLOATS);
    }
    if numbers.iter().any(|number| matches!(number, Number::Uint(_))) {
        for number in numbers {
            let number = match number {
                Number::Int(number) => u64::try_from(*number).ok()?,
                Number::Uint(number) => *number,
                Number::Float(_) => return None,
            };
            heap.extend_from_slice(&number.to_le_bytes());
        }
        return Some(UINTS);
    }
    let ints =
        || numbers.iter().filter_map(|number| if let Number::Int(number) = number { Some(*number) } else { None });
    let width = ints().map(int_width).max().unwrap_or(1);
    heap.push(u8::try_from(width).unwrap_or(8));
    ints().for_each(|number| heap.extend_from_slice(&number.to_le_bytes()[..width]));
    Some(INTS)
}

/// A number as a double that holds it.
#[allow(clippy::cast_precision_loss)] // only exact ones
fn exact_float(number: Number) -> Option<f64> {
    match number {
        Number::Int(number) => (number.unsigned_abs() <= EXACT_INT_MAX).then_some(number as f64),
        Number::Uint(_) => None,
        Number::Float(number) => Some(number),
    }
}
