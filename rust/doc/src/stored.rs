//! Which form the upstream gives to a value that is written, where that is known.
//!
//! A write's text is not what a later read answers: numbers are read and printed again, strings lose needless escapes,
//! some types are rewritten altogether. Here is what can be told of it, and nothing else: a value of which any part is
//! in doubt has no known form, and its row is left to be read.
//!
//! Not known: datetimes, `f16` and `i8` vectors, sparse and multi-vectors, uuids not in canonical form, floats written
//! as integers, with an exponent, or not in their canonical text, arrays that are empty or hold a null, and every type
//! that is newer than this reader.

use crate::id;
use crate::json::{self, Cursor};
use crate::number::{write_f32, write_f64, Decimal};
use crate::schema::{AttributeType, Element, Scalar};

/// Appends the text in which the upstream answers a value that was written as `text`, JSON that was walked before and
/// not null; None when that is not known. `out` may then have grown.
pub fn write_stored(kind: &AttributeType, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match kind {
        AttributeType::Scalar(scalar) => write_scalar(*scalar, text, out),
        AttributeType::Array(scalar) => {
            let start = out.len();
            let mut known = Some(());
            Cursor::over(text, 0)
                .array(|cursor| {
                    let element = cursor.value()?;
                    out.push(if out.len() == start { b'[' } else { b',' });
                    known = known.and_then(|()| write_scalar(*scalar, &text[element], out));
                    Ok(())
                })
                .ok()?;
            out.push(b']');
            known.filter(|()| out.len() - start > 1)
        }
        AttributeType::Vector { .. } => {
            for (index, number) in stored_vector(kind, text)?.into_iter().enumerate() {
                out.push(if index == 0 { b'[' } else { b',' });
                write_f32(number, out);
            }
            out.push(b']');
            Some(())
        }
        AttributeType::MultiVector { .. } | AttributeType::Sparse | AttributeType::Other(_) => None,
    }
}

fn write_scalar(scalar: Scalar, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let first = *text.first()?;
    match scalar {
        Scalar::Bool if matches!(text, b"true" | b"false") => out.extend_from_slice(text),
        Scalar::String if first == b'"' => json::encode(&inner(text)?, out),
        Scalar::Uuid if first == b'"' => {
            let uuid = std::str::from_utf8(&text[1..text.len() - 1]).ok()?;
            id::canonical_uuid(uuid).filter(|canonical| canonical == uuid.as_bytes())?;
            out.extend_from_slice(text);
        }
        Scalar::Int => {
            number_text(text)?.parse::<i64>().ok()?;
            out.extend_from_slice(text);
        }
        Scalar::Uint => {
            number_text(text)?.parse::<u64>().ok()?;
            out.extend_from_slice(text);
        }
        Scalar::Float => {
            let decimal = Decimal::read(text).filter(|decimal| decimal.length == text.len() && !decimal.is_integer)?;
            if text.iter().any(|byte| matches!(byte, b'e' | b'E')) {
                return None;
            }
            let start = out.len();
            write_f64(decimal.exact_f64()?, out);
            (&out[start..] == text).then_some(())?;
        }
        _ => return None,
    }
    Some(())
}

/// The text of an integer; `-0` is none.
fn number_text(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok().filter(|text| *text != "-0")
}

/// The characters of a string; None when it has a surrogate without its other half.
fn inner(text: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    let inner = &text[1..text.len() - 1];
    let decoded = json::decode(inner);
    // What stands in for a lone surrogate may also have been written as itself.
    let replaced = decoded.len() != inner.len() && decoded.windows(3).any(|three| three == "\u{FFFD}".as_bytes());
    (!replaced).then_some(decoded)
}

/// The components of a dense vector as the upstream keeps them; None when that is not known.
#[must_use]
pub fn stored_vector(kind: &AttributeType, text: &[u8]) -> Option<Vec<f32>> {
    let AttributeType::Vector { dimensions, element: Element::F32 } = kind else {
        return None;
    };
    let dimensions = *dimensions as usize;
    let mut numbers = Vec::with_capacity(dimensions);
    if text.first() == Some(&b'"') {
        crate::vector::decode_base64(&text[1..text.len() - 1], &mut numbers)?;
    } else {
        let mut known = true;
        let mut rest = text.strip_prefix(b"[")?;
        while known {
            rest = rest.trim_ascii_start();
            let decimal = Decimal::read(rest)?;
            let token = &rest[..decimal.length];
            match component(&decimal, token) {
                Some(number) => numbers.push(number),
                None => known = false,
            }
            rest = rest[decimal.length..].trim_ascii_start();
            match rest.split_first()? {
                (b',', after) => rest = after,
                (b']', []) => break,
                _ => return None,
            }
        }
        known.then_some(())?;
    }
    (numbers.len() == dimensions && numbers.iter().all(|number| number.is_finite())).then_some(numbers)
}

/// The single that every reader makes of a number, by way of a double or not.
fn component(decimal: &Decimal, token: &[u8]) -> Option<f32> {
    if token == b"-0" {
        return None;
    }
    if let Some(number) = decimal.nearest_f32() {
        return Some(number);
    }
    let token = std::str::from_utf8(token).ok()?;
    let direct: f32 = token.parse().ok()?;
    #[allow(clippy::cast_possible_truncation)] // it is meant
    let by_double = token.parse::<f64>().ok()? as f32;
    (direct.to_bits() == by_double.to_bits()).then_some(direct)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(kind: &str, text: &str) -> Option<String> {
        let mut out = Vec::new();
        write_stored(&AttributeType::parse(kind), text.as_bytes(), &mut out)?;
        Some(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn known_forms() {
        for (kind, text, form) in [
            ("string", r#""a\u00e9\/\u0001""#, "\"a\u{e9}/\\u0001\""),
            ("string", "\"\u{FFFD}\"", "\"\u{FFFD}\""),
            ("int", "-5", "-5"),
            ("uint", "18446744073709551615", "18446744073709551615"),
            ("float", "0.1", "0.1"),
            ("float", "-7.0", "-7.0"),
            ("bool", "true", "true"),
            ("uuid", "\"0f8fad5b-d9cb-469f-a165-70867728950e\"", "\"0f8fad5b-d9cb-469f-a165-70867728950e\""),
            ("[]int", "[ 1, 2 ]", "[1,2]"),
            ("[]string", "[\"\"]", "[\"\"]"),
            ("[3]f32", "[1, 0.10000000149011612 ,-2.5e-1]", "[1.0,0.1,-0.25]"),
            ("[3]f32", "\"zczMPc3MTD6amZk+\"", "[0.1,0.2,0.3]"),
        ] {
            assert_eq!(stored(kind, text).as_deref(), Some(form), "{kind} {text}");
        }
    }

    #[test]
    fn unknown_forms() {
        for (kind, text) in [
            ("string", r#""\ud83d""#),
            ("string", "1"),
            ("int", "1.0"),
            ("int", "-0"),
            ("int", "9223372036854775808"),
            ("uint", "-1"),
            ("float", "1"),
            ("float", "1e3"),
            ("float", "0.10"),
            ("float", "0.30000000000000004"),
            ("bool", "1"),
            ("uuid", "\"0F8FAD5B-D9CB-469F-A165-70867728950E\""),
            ("datetime", "\"2024-03-02T00:00:00.000000000Z\""),
            ("[]int", "[]"),
            ("[]int", "[1,null]"),
            ("[]int", "1"),
            ("[]datetime", "[\"2024-03-02\"]"),
            ("[2]f16", "[1,2]"),
            ("[2]i8", "[1,2]"),
            ("[2]f32", "[1]"),
            ("[2]f32", "[1,1e39]"),
            ("[2]f32", "[1,\"2\"]"),
            ("[2]f32", "[-0,1]"),
            ("[2]f32", "\"AAAAAAAAwH8=\""),
            ("[][2]f32", "[[1,2]]"),
            ("{}f16", "{\"1\":1.0}"),
            ("geo", "1"),
        ] {
            assert_eq!(stored(kind, text), None, "{kind} {text}");
        }
    }
}
