//! Ids, attribute types and attribute values as the engine stores them, and their JSON forms.

use crate::input::Input;
use serde::{Deserialize, Serialize};
use std::fmt;
use time::format_description::well_known::Iso8601;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

/// Longest string id, in bytes.
pub const ID_BYTES_MAX: usize = 64;
/// Most components of one vector.
pub const VECTOR_DIMS_MAX: u32 = 10_752;

/// A document id. One namespace holds one kind only. The order is the upstream's: numeric for `Uint`, bytewise for
/// `Str`, and by the 16 bytes for `Uuid`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    Uint(u64),
    Str(Box<str>),
    Uuid(u128),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IdType {
    Uint,
    Str,
    Uuid,
}

impl IdType {
    /// The type string of `id` in a schema.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uint => "uint",
            Self::Str => "string",
            Self::Uuid => "uuid",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "uint" => Some(Self::Uint),
            "string" => Some(Self::Str),
            "uuid" => Some(Self::Uuid),
            _ => None,
        }
    }

    /// The scalar that an id of this type compares as.
    #[must_use]
    pub fn scalar(self) -> Scalar {
        match self {
            Self::Uint => Scalar::Uint,
            Self::Str => Scalar::Str,
            Self::Uuid => Scalar::Uuid,
        }
    }
}

impl Id {
    #[must_use]
    pub fn kind(&self) -> IdType {
        match self {
            Self::Uint(_) => IdType::Uint,
            Self::Str(_) => IdType::Str,
            Self::Uuid(_) => IdType::Uuid,
        }
    }

    /// Reads an id of the given type from JSON; None when it is not one.
    #[must_use]
    pub fn from_json(json: &serde_json::Value, kind: IdType) -> Option<Self> {
        match (kind, json) {
            (IdType::Uint, serde_json::Value::Number(number)) => number.as_u64().map(Self::Uint),
            (IdType::Str, serde_json::Value::String(text)) => Some(Self::Str(text.as_str().into())),
            (IdType::Uuid, serde_json::Value::String(text)) => parse_uuid(text).map(Self::Uuid),
            _ => None,
        }
    }

    /// The id as an attribute value, for filters and orders on `id`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Uint(number) => Value::Uint(*number),
            Self::Str(text) => Value::Str(text.clone()),
            Self::Uuid(bits) => Value::Uuid(*bits),
        }
    }

    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Uint(number) => write_display(out, number),
            Self::Str(text) => write_json_str(out, text),
            Self::Uuid(bits) => write_uuid(out, *bits),
        }
    }

    /// Billed size in bytes.
    #[must_use]
    pub fn logical_bytes(&self) -> usize {
        match self {
            Self::Uint(_) => 8,
            Self::Str(text) => text.len(),
            Self::Uuid(_) => 16,
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uint(number) => number.fmt(formatter),
            Self::Str(text) => text.fmt(formatter),
            Self::Uuid(bits) => uuid::Uuid::from_u128(*bits).hyphenated().fmt(formatter),
        }
    }
}

/// The scalar kinds of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scalar {
    Str,
    Int,
    Uint,
    Float,
    Bool,
    Uuid,
    Datetime,
}

impl Scalar {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Str => "string",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Uuid => "uuid",
            Self::Datetime => "datetime",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::Str,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "float" => Self::Float,
            "bool" => Self::Bool,
            "uuid" => Self::Uuid,
            "datetime" => Self::Datetime,
            _ => return None,
        })
    }

    /// Reads a non-null scalar of this kind; None when the input is of another type.
    #[must_use]
    pub fn coerce(self, input: &Input<'_>) -> Option<Value> {
        Some(match (self, input) {
            (Self::Str, Input::Str(text)) => Value::Str(text.as_ref().into()),
            (Self::Int, Input::Int(number)) => Value::Int(*number),
            (Self::Int, Input::Uint(number)) => Value::Int(i64::try_from(*number).ok()?),
            (Self::Uint, Input::Uint(number)) => Value::Uint(*number),
            (Self::Float, Input::Float(number)) => Value::Float(*number),
            #[allow(clippy::cast_precision_loss)] // A JSON integer in a float attribute is read as the nearest double.
            (Self::Float, Input::Int(number)) => Value::Float(*number as f64),
            #[allow(clippy::cast_precision_loss)]
            (Self::Float, Input::Uint(number)) => Value::Float(*number as f64),
            (Self::Bool, Input::Bool(flag)) => Value::Bool(*flag),
            (Self::Uuid, Input::Str(text)) => Value::Uuid(parse_uuid(text)?),
            (Self::Datetime, Input::Str(text)) => Value::Datetime(parse_datetime(text)?),
            _ => return None,
        })
    }
}

/// How the components of a vector are kept and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Element {
    F32,
    F16,
    I8,
}

impl Element {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "i8",
        }
    }

    /// Bytes of one component, for billing.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::I8 => 1,
        }
    }

    /// The nearest number that the element type can hold.
    #[must_use]
    pub fn round(self, number: f32) -> f32 {
        match self {
            Self::F32 => number,
            Self::F16 => half::f16::from_f32(number).to_f32(),
            Self::I8 => number.round_ties_even().clamp(-128.0, 127.0),
        }
    }
}

/// The type of an attribute, as its type string says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AttrType {
    Scalar(Scalar),
    Array(Scalar),
    Vector {
        dims: u32,
        element: Element,
    },
    /// `{}f16`
    Sparse,
}

impl AttrType {
    /// Reads a type string; None when it names no type that the engine has.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "{}f16" {
            return Some(Self::Sparse);
        }
        let Some(rest) = name.strip_prefix('[') else { return Scalar::parse(name).map(Self::Scalar) };
        let (dims, element) = rest.split_once(']')?;
        if dims.is_empty() {
            return Scalar::parse(element).map(Self::Array);
        }
        let dims: u32 = dims.parse().ok().filter(|dims| (1..=VECTOR_DIMS_MAX).contains(dims))?;
        let element = match element {
            "f32" => Element::F32,
            "f16" => Element::F16,
            "i8" => Element::I8,
            _ => return None,
        };
        Some(Self::Vector { dims, element })
    }

    #[must_use]
    pub fn is_vector(self) -> bool {
        matches!(self, Self::Vector { .. })
    }
}

impl fmt::Display for AttrType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(scalar) => formatter.write_str(scalar.name()),
            Self::Array(scalar) => write!(formatter, "[]{}", scalar.name()),
            Self::Vector { dims, element } => write!(formatter, "[{dims}]{}", element.name()),
            Self::Sparse => formatter.write_str("{}f16"),
        }
    }
}

/// One attribute of one row. Absent and null are the same state: `Null`.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    #[default]
    Null,
    Str(Box<str>),
    Int(i64),
    Uint(u64),
    Float(f64),
    Bool(bool),
    Uuid(u128),
    /// Milliseconds since the epoch, UTC.
    Datetime(i64),
    /// Elements are non-null and all of the attribute's scalar kind.
    Array(Box<[Value]>),
    /// Sorted by dimension, weights non-zero.
    Sparse(Box<[(u32, f32)]>),
}

impl Value {
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Reads a JSON value as one of the given type (null reads as `Null`); None when it is of another type. Vectors are
    /// not values: see [`crate::input::Input::vector`].
    #[must_use]
    pub fn from_json(json: &serde_json::Value, kind: AttrType) -> Option<Self> {
        Input::from_json(json).to_value(kind)
    }

    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Str(text) => write_json_str(out, text),
            Self::Int(number) => write_display(out, number),
            Self::Uint(number) => write_display(out, number),
            Self::Float(number) => write_json_f64(out, *number),
            Self::Bool(flag) => write_display(out, flag),
            Self::Uuid(bits) => write_uuid(out, *bits),
            Self::Datetime(ms) => write_json_str(out, &format_datetime(*ms)),
            Self::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write_json(out);
                }
                out.push(b']');
            }
            Self::Sparse(entries) => {
                out.push(b'{');
                for (index, (dim, weight)) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.push(b'"');
                    write_display(out, dim);
                    out.extend_from_slice(b"\":");
                    write_json_f32(out, *weight);
                }
                out.push(b'}');
            }
        }
    }

    /// The value as a JSON tree, for small answers.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut text = Vec::new();
        self.write_json(&mut text);
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Billed size in bytes; null is free.
    #[must_use]
    pub fn logical_bytes(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Str(text) => text.len(),
            Self::Int(_) | Self::Uint(_) | Self::Float(_) | Self::Datetime(_) => 8,
            Self::Bool(_) => 1,
            Self::Uuid(_) => 16,
            Self::Array(items) => items.iter().map(Self::logical_bytes).sum(),
            Self::Sparse(entries) => entries.len() * 6,
        }
    }
}

/// A uuid in any of the forms that the API takes: hyphenated in any case, 32 hex digits, braced, `urn:uuid:`.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<u128> {
    uuid::Uuid::try_parse(text).ok().map(|uuid| uuid.as_u128())
}

/// The canonical form, quoted.
pub fn write_uuid(out: &mut Vec<u8>, bits: u128) {
    let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = uuid::Uuid::from_u128(bits).hyphenated().encode_lower(&mut buffer);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Milliseconds since the epoch of an ISO 8601 date, or date and time; without a zone it is UTC.
#[must_use]
pub fn parse_datetime(text: &str) -> Option<i64> {
    // Python's `str(datetime)` separates by a space.
    let spaced;
    let text = match text.as_bytes().get(10) {
        Some(b' ') => {
            spaced = format!("{}T{}", text.get(..10)?, text.get(11..)?);
            spaced.as_str()
        }
        _ => text,
    };
    let moment = OffsetDateTime::parse(text, &Iso8601::DEFAULT)
        .or_else(|_| PrimitiveDateTime::parse(text, &Iso8601::DEFAULT).map(PrimitiveDateTime::assume_utc))
        .or_else(|_| Date::parse(text, &Iso8601::DEFAULT).map(|date| date.midnight().assume_utc()))
        .ok()?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

/// RFC 3339 in UTC with nine digits of the second, as attribute values are answered.
#[must_use]
pub fn format_datetime(ms: i64) -> String {
    format_moment(ms, 9)
}

/// RFC 3339 in UTC with milliseconds, as metadata answers times.
#[must_use]
pub fn format_timestamp(ms: i64) -> String {
    format_moment(ms, 3)
}

fn format_moment(ms: i64, digits: usize) -> String {
    let moment =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let fraction = format!("{:09}", moment.nanosecond());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{}Z",
        moment.year(),
        u8::from(moment.month()),
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second(),
        &fraction[..digits],
    )
}

pub fn write_json_str(out: &mut Vec<u8>, text: &str) {
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// The shortest decimal that reads back as the same double.
pub fn write_json_f64(out: &mut Vec<u8>, number: f64) {
    let _ = serde_json::to_writer(out, &number);
}

/// The shortest decimal that reads back as the same single.
pub fn write_json_f32(out: &mut Vec<u8>, number: f32) {
    let _ = serde_json::to_writer(out, &number);
}

/// A vector as a JSON array of shortest singles.
pub fn write_json_vector(out: &mut Vec<u8>, vector: &[f32]) {
    out.push(b'[');
    for (index, number) in vector.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_json_f32(out, *number);
    }
    out.push(b']');
}

/// A vector as a quoted base64 of little-endian singles.
pub fn write_base64_vector(out: &mut Vec<u8>, vector: &[f32]) {
    use base64::Engine as _;
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    out.push(b'"');
    out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

fn write_display(out: &mut Vec<u8>, value: &impl fmt::Display) {
    use std::io::Write as _;
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(value: &Value) -> String {
        let mut out = Vec::new();
        value.write_json(&mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn type_strings_round_trip() {
        for name in ["string", "uint", "[]datetime", "[384]f32", "[2]f16", "[7]i8", "{}f16"] {
            assert_eq!(AttrType::parse(name).map(|kind| kind.to_string()).as_deref(), Some(name));
        }
        for name in ["", "text", "[0]f32", "[10753]f32", "[]f32", "[2]f64", "[][2]f32", "[x]f32", "[2"] {
            assert_eq!(AttrType::parse(name), None, "{name}");
        }
    }

    #[test]
    fn uuids_are_read_in_every_form_and_written_in_one() {
        let canonical = "\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"";
        for form in [
            "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
            "6ba7b8109dad11d180b400c04fd430c8",
            "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
            "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        ] {
            let value = Value::from_json(&json!(form), AttrType::Scalar(Scalar::Uuid)).expect(form);
            assert_eq!(text(&value), canonical);
        }
        assert_eq!(parse_uuid("6ba7b810"), None);
    }

    #[test]
    fn datetimes_are_read_leniently_and_written_in_utc() {
        for (form, expected) in [
            ("2024-03-02", "2024-03-02T00:00:00.000000000Z"),
            ("2024-03-02T01:02:03", "2024-03-02T01:02:03.000000000Z"),
            ("2024-03-02 01:02:03.5+01:00", "2024-03-02T00:02:03.500000000Z"),
            ("2024-03-02T01:02:03.123456Z", "2024-03-02T01:02:03.123000000Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999000000Z"),
        ] {
            assert_eq!(parse_datetime(form).map(format_datetime).as_deref(), Some(expected), "{form}");
        }
        for form in ["", "12:00", "2024-02-30", "yesterday", "é024-03-02 é"] {
            assert_eq!(parse_datetime(form), None, "{form}");
        }
    }

    #[test]
    fn a_value_has_exactly_its_type() {
        let read = |json: serde_json::Value, kind: &str| Value::from_json(&json, AttrType::parse(kind).expect(kind));
        assert_eq!(read(json!(-1), "int"), Some(Value::Int(-1)));
        assert_eq!(read(json!(u64::MAX), "uint"), Some(Value::Uint(u64::MAX)));
        assert_eq!(read(json!(u64::MAX), "int"), None);
        assert_eq!(read(json!(-1), "uint"), None);
        assert_eq!(read(json!(1.5), "int"), None);
        assert_eq!(read(json!(1), "float"), Some(Value::Float(1.0)));
        assert_eq!(read(json!("1"), "int"), None);
        assert_eq!(read(json!(null), "int"), Some(Value::Null));
        assert_eq!(read(json!([]), "[]string"), Some(Value::Array([].into())));
        assert_eq!(read(json!(["a", 1]), "[]string"), None);
        assert_eq!(read(json!(["a", null]), "[]string"), None);
        assert_eq!(read(json!([1, 2]), "[]uint"), Some(Value::Array([Value::Uint(1), Value::Uint(2)].into())));
        assert_eq!(read(json!({"7": 0.5, "2": 1, "3": 0}), "{}f16"), Some(Value::Sparse([(2, 1.0), (7, 0.5)].into())));
        assert_eq!(read(json!({"x": 0.5}), "{}f16"), None);
    }

    #[test]
    fn singles_are_written_in_their_shortest_form() {
        let mut out = Vec::new();
        write_json_vector(&mut out, &[0.7, 1.1, 2.0, -0.0, 16_777_216.0]);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), "[0.7,1.1,2.0,-0.0,16777216.0]");
        assert_eq!(Element::F16.round(0.1), 0.099_975_586);
        assert_eq!(Element::I8.round(200.4), 127.0);
        assert_eq!(Element::I8.round(-2.5), -2.0);
    }
}
