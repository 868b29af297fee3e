//! Values that borrow from a record, and the texts of uuids and datetimes.

use time::format_description::well_known::Iso8601;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

use crate::id;
use crate::json;
use crate::layout::{
    take, take_length, take_sized, BARE, BOOLS, DATETIME, DATETIMES, EMPTY, ESCAPED, ESCAPED_STRS, F32, F64, FALSE,
    FLOATS, I16, I32, I64, I8, INTS, JSON, STR, STRS, TRUE, U64, UINTS, UUID, UUIDS, VECTOR,
};
use crate::number::{write_f64, write_int};
pub use crate::vector::{Form, VectorRef};

/// A row's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdRef<'a> {
    Uint(u64),
    Str(&'a str),
    /// Of records that were made with the namespace's schema.
    Uuid(u128),
}

/// A value as a record has it.
///
/// A record that was made without the namespace's schema has a uuid or a datetime as a string, and knows a float from
/// an integer only by its text: compare numbers as numbers, and read strings as the attribute's type asks.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    Bool(bool),
    /// Any integer that fits.
    Int(i64),
    /// Only integers over `i64::MAX`.
    Uint(u64),
    Float(f64),
    Str(&'a str),
    Uuid(u128),
    /// Milliseconds since the epoch, UTC.
    Datetime(i64),
    Array(ArrayRef<'a>),
    /// Dense, sparse or multi-vector; its components are there when the tail was read.
    Vector(VectorRef<'a>),
    /// JSON text of what has no type here: arrays of mixed types or with nulls, numbers over the largest double.
    Json(&'a str),
}

/// An array of one scalar type.
#[derive(Clone, Copy, Debug)]
pub struct ArrayRef<'a> {
    kind: u8,
    width: u8,
    count: usize,
    bytes: &'a [u8],
}

impl<'a> ArrayRef<'a> {
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements in order, scalars all of one variant; integers may be `Int` or `Uint`.
    #[must_use]
    pub fn iter(&self) -> Items<'a> {
        Items { array: *self, rest: self.bytes }
    }

    fn item(&self, rest: &mut &'a [u8]) -> Option<ValueRef<'a>> {
        Some(match self.kind {
            BOOLS => ValueRef::Bool(take(rest, 1)?[0] != 0),
            INTS => ValueRef::Int(int(take(rest, usize::from(self.width))?)?),
            UINTS => uint(take(rest, 8)?)?,
            FLOATS => ValueRef::Float(float(take(rest, usize::from(self.width))?)?),
            STRS | ESCAPED_STRS => ValueRef::Str(std::str::from_utf8(take_sized(rest)?).ok()?),
            UUIDS => ValueRef::Uuid(u128::from_be_bytes(take(rest, 16)?.try_into().ok()?)),
            DATETIMES => ValueRef::Datetime(int(take(rest, 8)?)?),
            _ => return None,
        })
    }

    fn read(kind: u8, rest: &mut &'a [u8]) -> Option<Self> {
        if kind == EMPTY {
            return Some(Self { kind, width: 1, count: 0, bytes: &[] });
        }
        let count = take_length(rest)?;
        let (width, length) = match kind {
            BOOLS => (1, count),
            INTS | FLOATS => {
                let width = take(rest, 1)?[0];
                (width, count.checked_mul(usize::from(width & !BARE))?)
            }
            UINTS | DATETIMES => (8, count.checked_mul(8)?),
            UUIDS => (16, count.checked_mul(16)?),
            _ => (0, take_length(rest)?),
        };
        let bytes = take(rest, length)?;
        // How floats are printed does not matter to readers.
        Some(Self { kind, width: width & !BARE, count, bytes })
    }
}

impl<'a> IntoIterator for ArrayRef<'a> {
    type Item = ValueRef<'a>;
    type IntoIter = Items<'a>;

    fn into_iter(self) -> Items<'a> {
        self.iter()
    }
}

/// The elements of an array.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    array: ArrayRef<'a>,
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = ValueRef<'a>;

    fn next(&mut self) -> Option<ValueRef<'a>> {
        self.array.item(&mut self.rest)
    }
}

fn int(bytes: &[u8]) -> Option<i64> {
    Some(match *bytes {
        [byte] => i64::from(byte.cast_signed()),
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        _ => i64::from_le_bytes(bytes.try_into().ok()?),
    })
}

fn uint<'a>(bytes: &[u8]) -> Option<ValueRef<'a>> {
    let number = u64::from_le_bytes(bytes.try_into().ok()?);
    Some(i64::try_from(number).map_or(ValueRef::Uint(number), ValueRef::Int))
}

fn float(bytes: &[u8]) -> Option<f64> {
    match *bytes {
        [a, b, c, d] => Some(f64::from(f32::from_le_bytes([a, b, c, d]))),
        _ => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
    }
}

/// Bytes of a scalar of fixed size.
fn fixed(kind: u8) -> Option<usize> {
    Some(match kind {
        FALSE | TRUE => 0,
        I8 => 1,
        I16 => 2,
        I32 | F32 => 4,
        I64 | U64 | F64 | DATETIME => 8,
        UUID => 16,
        _ => return None,
    })
}

/// Takes a value off the front of a heap. Vectors are the view's to read: their bytes are in the tail.
#[inline]
pub(crate) fn read<'a>(kind: u8, rest: &mut &'a [u8]) -> Option<ValueRef<'a>> {
    if let Some(length) = fixed(kind) {
        let bytes = take(rest, length)?;
        return Some(match kind {
            FALSE | TRUE => ValueRef::Bool(kind == TRUE),
            U64 => uint(bytes)?,
            F32 | F64 => ValueRef::Float(float(bytes)?),
            UUID => ValueRef::Uuid(u128::from_be_bytes(bytes.try_into().ok()?)),
            DATETIME => ValueRef::Datetime(int(bytes)?),
            _ => ValueRef::Int(int(bytes)?),
        });
    }
    match kind {
        STR | ESCAPED => std::str::from_utf8(take_sized(rest)?).ok().map(ValueRef::Str),
        JSON => std::str::from_utf8(take_sized(rest)?).ok().map(ValueRef::Json),
        EMPTY..=DATETIMES => ArrayRef::read(kind, rest).map(ValueRef::Array),
        _ => None,
    }
}

/// Steps over a value.
pub(crate) fn skip(kind: u8, rest: &mut &[u8]) -> Option<()> {
    if let Some(length) = fixed(kind) {
        return take(rest, length).map(drop);
    }
    match kind {
        STR | ESCAPED | JSON => take_sized(rest).map(drop),
        EMPTY..=DATETIMES => ArrayRef::read(kind, rest).map(drop),
        VECTOR => {
            take(rest, 2)?;
            (0..4).try_for_each(|_| take_length(rest).map(drop))
        }
        _ => None,
    }
}

/// Appends the canonical text of the value at the front of a heap, vectors apart.
#[inline]
pub(crate) fn write(kind: u8, rest: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
    match kind {
        STR => quoted(take_sized(rest)?, out),
        ESCAPED => json::encode(take_sized(rest)?, out),
        JSON => out.extend_from_slice(take_sized(rest)?),
        FALSE => out.extend_from_slice(b"false"),
        TRUE => out.extend_from_slice(b"true"),
        EMPTY => out.extend_from_slice(b"[]"),
        STRS | ESCAPED_STRS => {
            let array = ArrayRef::read(kind, rest)?;
            let mut texts = array.bytes;
            elements(array.count, out, |out| {
                let text = take_sized(&mut texts)?;
                if kind == STRS {
                    quoted(text, out);
                } else {
                    json::encode(text, out);
                }
                Some(())
            })?;
        }
        BOOLS..=DATETIMES => {
            let bare = kind == FLOATS && is_bare(rest);
            let array = ArrayRef::read(kind, rest)?;
            let mut items = array.iter();
            elements(array.count, out, |out| {
                scalar(items.next()?, out)?;
                if bare && out.ends_with(b".0") {
                    out.truncate(out.len() - 2);
                }
                Some(())
            })?;
        }
        _ => scalar(read(kind, rest)?, out)?,
    }
    Some(())
}

/// Of an array of floats.
fn is_bare(mut rest: &[u8]) -> bool {
    take_length(&mut rest).and_then(|_| rest.first()).is_some_and(|width| width & BARE != 0)
}

fn elements(count: usize, out: &mut Vec<u8>, mut element: impl FnMut(&mut Vec<u8>) -> Option<()>) -> Option<()> {
    for index in 0..count {
        out.push(if index == 0 { b'[' } else { b',' });
        element(out)?;
    }
    out.push(b']');
    Some(())
}

fn scalar(value: ValueRef<'_>, out: &mut Vec<u8>) -> Option<()> {
    match value {
        ValueRef::Bool(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        ValueRef::Int(number) => write_int(number, out),
        ValueRef::Uint(number) => write_int(number, out),
        ValueRef::Float(number) if number.is_finite() => write_f64(number, out),
        ValueRef::Uuid(bits) => write_uuid(bits, out),
        ValueRef::Datetime(ms) => write_datetime(ms, out),
        _ => return None,
    }
    Some(())
}

#[inline]
pub(crate) fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// The bits of a uuid in any accepted form; see [`id::canonical_uuid`].
#[must_use]
pub fn parse_uuid(text: &str) -> Option<u128> {
    let canonical = id::canonical_uuid(text)?;
    let digits = canonical.iter().filter_map(|byte| char::from(*byte).to_digit(16));
    Some(digits.fold(0, |bits, digit| bits << 4 | u128::from(digit)))
}

/// Appends the canonical form of a uuid with its quotes.
pub fn write_uuid(bits: u128, out: &mut Vec<u8>) {
    out.push(b'"');
    for place in 0..32_u32 {
        if matches!(place, 8 | 12 | 16 | 20) {
            out.push(b'-');
        }
        let digit = usize::try_from(bits >> (124 - 4 * place) & 15).unwrap_or_default();
        out.push(b"0123456789abcdef"[digit]);
    }
    out.push(b'"');
}

/// Milliseconds since the epoch of an ISO 8601 date, or date and time, the two separated by `T` or a space; without a
/// zone it is UTC. A finer fraction is cut.
#[must_use]
pub fn parse_datetime(text: &str) -> Option<i64> {
    let spaced;
    let text = match (text.get(..10), text.get(10..11)) {
        (Some(date), Some(" ")) => {
            spaced = format!("{date}T{}", text.get(11..)?);
            &spaced
        }
        _ => text,
    };
    let moment = OffsetDateTime::parse(text, &Iso8601::DEFAULT)
        .or_else(|_| PrimitiveDateTime::parse(text, &Iso8601::DEFAULT).map(PrimitiveDateTime::assume_utc))
        .or_else(|_| Date::parse(text, &Iso8601::DEFAULT).map(|date| date.midnight().assume_utc()))
        .ok()?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(NANOS_IN_MS)).ok()
}

const NANOS_IN_MS: i128 = 1_000_000;

/// Appends a datetime with its quotes as the upstream prints it: RFC 3339 in UTC, nine digits of the second.
pub fn write_datetime(ms: i64, out: &mut Vec<u8>) {
    let moment =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * NANOS_IN_MS).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let text = format!(
        "\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z\"",
        moment.year(),
        u8::from(moment.month()),
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second(),
        moment.nanosecond(),
    );
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_come_back() {
        let canonical = "0f8fad5b-d9cb-469f-a165-70867728950e";
        for text in [canonical, "{0F8FAD5B-D9CB-469F-A165-70867728950E}", "0f8fad5bd9cb469fa16570867728950e"] {
            let mut out = Vec::new();
            write_uuid(parse_uuid(text).expect(text), &mut out);
            assert_eq!(out, format!("\"{canonical}\"").into_bytes());
        }
        assert_eq!(parse_uuid("0f8fad5b"), None);
    }

    #[test]
    fn datetimes_are_milliseconds_in_utc() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:00.001Z", 1),
            ("1970-01-01 00:00:01", 1000),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31T23:59:59.9999Z", -1),
            ("2024-03-02T10:20:30.123456789Z", 1_709_374_830_123),
        ] {
            assert_eq!(parse_datetime(text), Some(ms), "{text}");
        }
        for text in ["", "now", "2024-13-01", "2024-01-01T25:00:00Z", "12:00:00", "2024-01-0\u{e9}"] {
            assert_eq!(parse_datetime(text), None, "{text}");
        }
        let mut out = Vec::new();
        write_datetime(1_709_374_830_123, &mut out);
        assert_eq!(out, b"\"2024-03-02T10:20:30.123000000Z\"");
    }
}
