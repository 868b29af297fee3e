//! The binary layout of a cached row, version 2: typed for filters, exact for answers.
//!
//! A record has two parts. The **head** holds the id and every attribute that a filter or a plain fetch may want; the
//! **tail** holds vectors, which are returned only when they are named, so that neither ever reads it.
//!
//! ```text
//! head  0  u8       version, 2
//!       1  u8       kind of the id
//!       2  u16      n, the members
//!       4  u32      bytes of the head; the highest bit: places are u32, not u16
//!       8  n x u16  hashes of the names      a lookup scans these and nothing else
//!          n x u8   kinds                    what the member's value is, and three flags
//!          n x u8   bytes of the names       255: a u32 before the name says
//!          n x u16  places                   where the member begins, from the start of the heap
//!          heap     id value | member | member | ...
//!
//! member   name [key text] value [value text]        the texts only when a flag says so: varint length, bytes
//!
//!          "title": "Caf\u00e9", "year": 1999, "vector": [0.5, -0.25]
//!
//! hashes  | 5c1e | 90a2 | 77b0 |                     tail
//! kinds   | escaped+TEXT | i16 | vector |             | 0038 | b400 |   two f16
//! names   | 5    | 4    | 6    |                         ^
//! places  | 9    | ..   | ..   |                         |
//! heap    | id | title 5 Café 11 "Caf\u00e9" | year cf07 | vector dense 2 1 2 0 4 |
//! ```
//!
//! Members stand in the order of the upstream's text, and are emitted in it. A JSON null is not stored: null and absent
//! are one state. Integers are little-endian, a uuid is its 16 bytes in order, lengths are varints (seven bits a byte,
//! lowest first).
//!
//! | kind | value |
//! |---|---|
//! | false, true | nothing |
//! | i8, i16, i32, i64, u64 | 1, 2, 4, 8, 8 bytes; the narrowest that holds it |
//! | f32, f64 | 4 or 8 bytes; 4 when that is exact |
//! | text, escaped | length, UTF-8; escaped: some characters are escaped when it is emitted |
//! | uuid, datetime | 16 bytes; i64 milliseconds since the epoch, UTC |
//! | bools, ints, uints, floats | count, width (the highest bit: bare floats), then so many bytes each |
//! | texts, escaped texts | count, bytes of all, then length and UTF-8 each |
//! | uuids, datetimes | count, then 16 or 8 bytes each |
//! | empty | nothing: the array `[]` |
//! | json | length, text: whatever has no type here, mixed arrays for one |
//! | vector | form, width, rows, dimensions, place in the tail, bytes in the tail |
//!
//! **Byte exactness.** A reader gets the very text that the upstream sent. The canonical text of a value (see
//! [`crate::number`] and [`crate::json::encode`]; an array has no white space) is made from the value; where the
//! upstream's text was another one (`1e3`, `\u00e9`), the member carries that text too, and it is what is emitted.
//!
//! **Vectors.** A dense vector is kept in the narrowest of `f32`, `f16` and `i8` that holds each component exactly; a
//! bare one prints `2` where others print `2.0`. One that came as base64 stays base64. Rows of equal length, and sparse
//! vectors, are kept alike. A vector whose text none of these gives is kept as its text alone.
//!
//! A reader refuses other versions. Every access is checked against the record's bounds, so that bytes which are not a
//! record give no attributes, or wrong ones, but never a panic; checksums are the business of whoever stores it.

/// The first byte of a head.
pub const VERSION: u8 = 2;

pub(crate) const FIXED: usize = 8;
pub(crate) const WIDE: u32 = 1 << 31;
/// Heaps up to here have places of two bytes.
pub(crate) const NARROW_HEAP_MAX: usize = u16::MAX as usize;
/// A name of this many bytes or more has its length before it.
pub(crate) const LONG_NAME: usize = 255;

/// Flags of a kind byte.
pub(crate) const HIDDEN: u8 = 0x20;
pub(crate) const TEXT: u8 = 0x40;
pub(crate) const KEY: u8 = 0x80;
pub(crate) const KIND: u8 = 0x1F;

pub(crate) const FALSE: u8 = 0;
pub(crate) const TRUE: u8 = 1;
pub(crate) const I8: u8 = 2;
pub(crate) const I16: u8 = 3;
pub(crate) const I32: u8 = 4;
pub(crate) const I64: u8 = 5;
pub(crate) const U64: u8 = 6;
pub(crate) const F32: u8 = 7;
pub(crate) const F64: u8 = 8;
pub(crate) const STR: u8 = 9;
pub(crate) const ESCAPED: u8 = 10;
pub(crate) const UUID: u8 = 11;
pub(crate) const DATETIME: u8 = 12;
pub(crate) const EMPTY: u8 = 13;
pub(crate) const BOOLS: u8 = 14;
pub(crate) const INTS: u8 = 15;
pub(crate) const UINTS: u8 = 16;
pub(crate) const FLOATS: u8 = 17;
pub(crate) const STRS: u8 = 18;
pub(crate) const ESCAPED_STRS: u8 = 19;
pub(crate) const UUIDS: u8 = 20;
pub(crate) const DATETIMES: u8 = 21;
pub(crate) const JSON: u8 = 22;
pub(crate) const VECTOR: u8 = 23;

/// Of the width of an array of floats or of a vector: whole numbers are printed without `.0`.
pub(crate) const BARE: u8 = 0x80;

/// Appends a length.
#[allow(clippy::cast_possible_truncation)] // seven bits fit
pub(crate) fn put_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push((length & 0x7F) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Takes a length off the front; None when the bytes end before it does or it is over 4 GiB.
#[inline]
pub(crate) fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    let mut length = 0;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(length).is_ok().then_some(length);
        }
    }
    None
}

/// Takes `length` bytes off the front.
#[inline]
pub(crate) fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// Takes a length and so many bytes.
#[inline]
pub(crate) fn take_sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_length(bytes)?;
    take(bytes, length)
}

/// Sixteen bits of a name's hash.
#[inline]
#[allow(clippy::cast_possible_truncation)] // the low bits are what is wanted
pub(crate) fn name_hash(name: &[u8]) -> u16 {
    xxhash_rust::xxh3::xxh3_64(name) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_back() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 1 << 28, u32::MAX as usize] {
            let mut bytes = Vec::new();
            put_length(length, &mut bytes);
            let mut rest = bytes.as_slice();
            assert_eq!(take_length(&mut rest), Some(length));
            assert!(rest.is_empty());
            assert_eq!(take_length(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take_length(&mut [0xFF_u8; 9].as_slice()), None);
    }
}
