//! Vectors as records keep them: components in the narrowest exact width, or the text when no width gives it back.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use half::f16;

use crate::layout::BARE;
use crate::number::{is_canonical, write_f32, write_int, Decimal};

/// How a vector came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON text that none of the others gives back.
    Text,
    /// An array of numbers, or rows of them.
    Dense,
    /// Base64 of little-endian singles.
    Base64,
    /// An object from dimension to weight.
    Sparse,
}

impl Form {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn of(code: u8) -> Option<Self> {
        [Self::Text, Self::Dense, Self::Base64, Self::Sparse].get(usize::from(code)).copied()
    }
}

/// A vector for a record's tail.
#[derive(Debug, PartialEq)]
pub(crate) struct Encoded {
    pub form: Form,
    /// Bytes of a component, 4, 2 or 1, and [`BARE`].
    pub width: u8,
    /// 0 unless the vector is an array of vectors.
    pub rows: usize,
    /// Components of one row; weights of a sparse vector.
    pub dimensions: usize,
    pub bytes: Vec<u8>,
}

/// Room that is made for components before any is read.
const DIMENSIONS_USUAL: usize = 128;

/// Components as they are read: how whole numbers are printed must be one way throughout.
#[derive(Default)]
struct Components {
    numbers: Vec<f32>,
    pointed: bool,
    bare: bool,
}

impl Components {
    /// Reads one number; its length. None when printing it would give another text.
    #[inline]
    fn read(&mut self, text: &[u8]) -> Option<usize> {
        let decimal = Decimal::read(text)?;
        let token = &text[..decimal.length];
        let number = match decimal.nearest_f32() {
            Some(number) => number,
            None => std::str::from_utf8(token).ok()?.parse().ok().filter(|number: &f32| number.is_finite())?,
        };
        if is_canonical(&decimal, number) {
            self.numbers.push(number);
            return Some(decimal.length);
        }
        let mut buffer = zmij::Buffer::new();
        let canonical = buffer.format_finite(number).as_bytes();
        if canonical == token {
            self.pointed |= canonical.ends_with(b".0");
        } else if decimal.is_integer && canonical.strip_suffix(b".0") == Some(token) {
            self.bare = true;
        } else {
            return None;
        }
        self.numbers.push(number);
        Some(decimal.length)
    }

    /// Reads `[1.5,2.5]`; its length.
    fn read_row(&mut self, text: &[u8]) -> Option<usize> {
        let mut at = 1;
        loop {
            at += self.read(text.get(at..)?)?;
            match text.get(at)? {
                b',' => at += 1,
                b']' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    /// The width, and the components in it appended to `out`.
    fn narrow(&self, out: &mut Vec<u8>) -> Option<u8> {
        if self.pointed && self.bare {
            return None;
        }
        let style = if self.bare { BARE } else { 0 };
        Some(narrow(&self.numbers, out) | style)
    }
}

/// The bytes of the narrowest type that holds each number exactly, and the numbers in it appended to `out`.
fn narrow(numbers: &[f32], out: &mut Vec<u8>) -> u8 {
    if numbers.iter().all(|number| small(*number).is_some()) {
        out.extend(numbers.iter().filter_map(|number| small(*number)).map(i8::cast_unsigned));
        return 1;
    }
    if numbers.iter().all(|number| f16::from_f32(*number).to_f32().to_bits() == number.to_bits()) {
        out.extend(numbers.iter().flat_map(|number| f16::from_f32(*number).to_le_bytes()));
        return 2;
    }
    out.reserve(numbers.len() * 4);
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    4
}

/// The number as a small integer, when it is one.
#[allow(clippy::cast_possible_truncation)] // saturates, and is compared
fn small(number: f32) -> Option<i8> {
    let integer = number as i8;
    (f32::from(integer).to_bits() == number.to_bits()).then_some(integer)
}

/// Reads the array of numbers, or of arrays of as many numbers each, that `text` begins with, and its length. None
/// when it is anything else, or is not printed as canonical singles; it may then still be JSON.
pub(crate) fn read_dense(text: &[u8]) -> Option<(Encoded, usize)> {
    let mut components = Components { numbers: Vec::with_capacity(DIMENSIONS_USUAL), ..Components::default() };
    let (length, rows) = if text.get(1) == Some(&b'[') {
        let mut at = 1;
        let mut rows = 0;
        let mut dimensions = 0;
        loop {
            if text.get(at) != Some(&b'[') {
                return None;
            }
            at += components.read_row(&text[at..])?;
            rows += 1;
            if rows == 1 {
                dimensions = components.numbers.len();
            } else if components.numbers.len() != rows * dimensions {
                return None;
            }
            match text.get(at)? {
                b',' => at += 1,
                b']' => break,
                _ => return None,
            }
        }
        (at + 1, rows)
    } else {
        (components.read_row(text)?, 0)
    };
    let mut bytes = Vec::new();
    let width = components.narrow(&mut bytes)?;
    let dimensions = components.numbers.len() / rows.max(1);
    Some((Encoded { form: Form::Dense, width, rows, dimensions, bytes }, length))
}

/// Reads the text between the quotes of a base64 string; None when it is not one of singles.
pub(crate) fn read_base64(inner: &[u8]) -> Option<Encoded> {
    let bytes = STANDARD.decode(inner).ok().filter(|bytes| !bytes.is_empty() && bytes.len() % 4 == 0)?;
    Some(Encoded { form: Form::Base64, width: 4, rows: 0, dimensions: bytes.len() / 4, bytes })
}

/// Appends the singles of a base64 string's text between its quotes; None when it is not one of singles.
pub(crate) fn decode_base64(inner: &[u8], numbers: &mut Vec<f32>) -> Option<()> {
    let Encoded { bytes, .. } = read_base64(inner)?;
    numbers.extend(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])));
    Some(())
}

/// A dense vector that is printed as canonical singles; None when one has no text.
pub(crate) fn encode_dense(numbers: &[f32]) -> Option<Encoded> {
    if numbers.is_empty() || !numbers.iter().all(|number| number.is_finite()) {
        return None;
    }
    let mut bytes = Vec::new();
    let width = narrow(numbers, &mut bytes);
    Some(Encoded { form: Form::Dense, width, rows: 0, dimensions: numbers.len(), bytes })
}

/// Reads `{"3":1.5,"7":2.0}`, the whole text; None when it is anything else.
pub(crate) fn read_sparse(text: &[u8]) -> Option<Encoded> {
    let mut rest = text.strip_prefix(b"{")?.strip_suffix(b"}")?;
    let mut bytes = Vec::new();
    let mut weights = Components::default();
    loop {
        rest = rest.strip_prefix(b"\"")?;
        let decimal = Decimal::read(rest).filter(|decimal| decimal.is_integer && !decimal.negative)?;
        bytes.extend_from_slice(&u32::try_from(decimal.digits).ok()?.to_le_bytes());
        rest = rest[decimal.length..].strip_prefix(b"\":")?;
        rest = &rest[weights.read(rest)?..];
        if rest.is_empty() {
            break;
        }
        rest = rest.strip_prefix(b",")?;
    }
    let width = weights.narrow(&mut bytes)?;
    Some(Encoded { form: Form::Sparse, width, rows: 0, dimensions: weights.numbers.len(), bytes })
}

/// A vector of a record.
#[derive(Clone, Copy, Debug)]
pub struct VectorRef<'a> {
    pub form: Form,
    pub(crate) width: u8,
    /// 0 unless it is an array of vectors.
    pub rows: usize,
    /// Components of one row; weights of a sparse vector; 0 of one that is kept as text.
    pub dimensions: usize,
    /// None while the tail was not read.
    pub(crate) bytes: Option<&'a [u8]>,
}

impl<'a> VectorRef<'a> {
    /// The components of a dense vector, row after row. None when the tail was not read, when it is sparse, or when its
    /// text is not an array of numbers or of such arrays.
    #[must_use]
    pub fn components(&self) -> Option<Vec<f32>> {
        let bytes = self.bytes?;
        match self.form {
            Form::Dense | Form::Base64 => {
                let length = self.dimensions.checked_mul(self.rows.max(1))?;
                let bytes = bytes.get(..length.checked_mul(self.component_bytes())?)?;
                Some(self.numbers(bytes).collect())
            }
            Form::Text => numbers_of(bytes),
            Form::Sparse => None,
        }
    }

    /// The dimensions and weights of a sparse vector in the order of its text. None as with [`Self::components`].
    #[must_use]
    pub fn weights(&self) -> Option<Vec<(u32, f32)>> {
        let (dimensions, weights) = self.sparse()?;
        Some(dimensions.zip(self.numbers(weights)).collect())
    }

    fn sparse(&self) -> Option<(impl Iterator<Item = u32> + 'a, &'a [u8])> {
        let bytes = self.bytes.filter(|_| self.form == Form::Sparse)?;
        let (dimensions, weights) = bytes.split_at_checked(self.dimensions.checked_mul(4)?)?;
        let weights = weights.get(..self.dimensions.checked_mul(self.component_bytes())?)?;
        Some((dimensions.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])), weights))
    }

    fn component_bytes(&self) -> usize {
        match self.width & !BARE {
            1 => 1,
            2 => 2,
            _ => 4,
        }
    }

    fn numbers(&self, bytes: &'a [u8]) -> impl Iterator<Item = f32> + 'a {
        let width = self.component_bytes();
        bytes.chunks_exact(width).map(move |part| match width {
            1 => f32::from(part[0].cast_signed()),
            2 => f16::from_le_bytes([part[0], part[1]]).to_f32(),
            _ => f32::from_le_bytes([part[0], part[1], part[2], part[3]]),
        })
    }

    /// Appends the text that the upstream sent; `null` when the tail was not read or does not hold it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        if self.try_write(out).is_none() {
            out.truncate(start);
            out.extend_from_slice(b"null");
        }
    }

    fn try_write(&self, out: &mut Vec<u8>) -> Option<()> {
        let bytes = self.bytes?;
        match self.form {
            Form::Text => out.extend_from_slice(bytes),
            Form::Base64 => {
                out.push(b'"');
                let start = out.len();
                let length = base64::encoded_len(bytes.len(), true)?;
                out.resize(start + length, 0);
                STANDARD.encode_slice(bytes, &mut out[start..]).ok()?;
                out.push(b'"');
            }
            Form::Dense if self.rows == 0 => self.write_row(bytes, out)?,
            Form::Dense => {
                let row_bytes = self.dimensions.checked_mul(self.component_bytes())?;
                if row_bytes == 0 || bytes.len() < row_bytes.checked_mul(self.rows)? {
                    return None;
                }
                for (index, row) in bytes.chunks_exact(row_bytes).take(self.rows).enumerate() {
                    out.push(if index == 0 { b'[' } else { b',' });
                    self.write_row(row, out)?;
                }
                out.push(b']');
            }
            Form::Sparse => {
                let (dimensions, weights) = self.sparse()?;
                for (index, (dimension, weight)) in dimensions.zip(self.numbers(weights)).enumerate() {
                    out.extend_from_slice(if index == 0 { b"{\"" } else { b",\"" });
                    write_int(dimension, out);
                    out.extend_from_slice(b"\":");
                    self.write_number(weight, out)?;
                }
                out.push(b'}');
            }
        }
        Some(())
    }

    fn write_row(&self, bytes: &'a [u8], out: &mut Vec<u8>) -> Option<()> {
        let bytes = bytes.get(..self.dimensions.checked_mul(self.component_bytes())?)?;
        out.reserve(self.dimensions * TEXT_BYTES_USUAL);
        out.push(b'[');
        for (index, number) in self.numbers(bytes).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            self.write_number(number, out)?;
        }
        out.push(b']');
        Some(())
    }

    #[inline]
    fn write_number(&self, number: f32, out: &mut Vec<u8>) -> Option<()> {
        if !number.is_finite() {
            return None;
        }
        write_f32(number, out);
        if self.width & BARE != 0 && out.ends_with(b".0") {
            out.truncate(out.len() - 2);
        }
        Some(())
    }
}

/// Text of a component and its comma, for room made at once.
const TEXT_BYTES_USUAL: usize = 13;

/// The numbers of `[1, 2]` or `[[1, 2], [3, 4]]`.
fn numbers_of(text: &[u8]) -> Option<Vec<f32>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut cursor = crate::json::Cursor::new(text);
    let mut numbers = Vec::new();
    let mut odd = false;
    let mut number = |range: std::ops::Range<usize>| match text.get(range).and_then(|text| text.parse().ok()) {
        Some(single) => numbers.push(single),
        None => odd = true,
    };
    cursor
        .array(|cursor| {
            if cursor.peek() == b'[' {
                return cursor.array(|cursor| cursor.value().map(&mut number));
            }
            cursor.value().map(&mut number)
        })
        .ok()?;
    (!odd).then_some(numbers)
}
