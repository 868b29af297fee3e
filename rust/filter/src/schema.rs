//! The attributes of a namespace and their types, as the upstream's metadata shows them.

use crate::datetime;
use hevlayer_doc::value::parse_uuid;
use hevlayer_doc::{IdRef, Scalar as Stored, ValueRef};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;

/// A scalar kind. All but texts are compared as one integer each (see [`Scalar`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Text,
    Int,
    Uint,
    Float,
    Bool,
    Uuid,
    Datetime,
}

/// The type of an attribute that can be filtered on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttributeType {
    pub kind: Kind,
    pub array: bool,
}

/// One attribute of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// None: vectors, and types that are not known here.
    pub kind: Option<AttributeType>,
    pub vector: bool,
    pub filterable: bool,
    pub glob: bool,
    pub regex: bool,
    pub fuzzy: bool,
}

/// What the upstream's metadata says of the attributes.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// None while the namespace has no id type.
    pub id: Option<Kind>,
    pub attributes: HashMap<String, Attribute>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AttributeInput {
    Name(String),
    Config(ConfigInput),
}

#[derive(Deserialize)]
struct ConfigInput {
    r#type: String,
    filterable: Option<bool>,
    glob: Option<bool>,
    regex: Option<bool>,
    fuzzy: Option<bool>,
    full_text_search: Option<serde_json::Value>,
}

impl Schema {
    /// Reads `{"attribute": {"type": …, "filterable"?: …}}`, or `{"attribute": "type"}`.
    ///
    /// # Errors
    /// Says why the text is no schema.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let inputs: HashMap<String, AttributeInput> =
            serde_json::from_slice(json).map_err(|error| format!("not a schema: {error}"))?;
        let mut schema = Self::default();
        for (name, input) in inputs {
            let config = match input {
                AttributeInput::Config(config) => config,
                AttributeInput::Name(kind) => ConfigInput {
                    r#type: kind,
                    filterable: None,
                    glob: None,
                    regex: None,
                    fuzzy: None,
                    full_text_search: None,
                },
            };
            let kind = AttributeType::parse(&config.r#type);
            if name == "id" {
                schema.id = kind.map(|kind| kind.kind);
                continue;
            }
            let on = |flag: Option<bool>| flag.unwrap_or(false);
            let (glob, regex, fuzzy) = (on(config.glob), on(config.regex), on(config.fuzzy));
            let text_search = match config.full_text_search {
                None | Some(serde_json::Value::Null | serde_json::Value::Bool(false)) => false,
                Some(_) => true,
            };
            let filterable = config.filterable.unwrap_or(!(glob || regex || fuzzy || text_search));
            let vector = kind.is_none() && (config.r#type.starts_with('[') || config.r#type.starts_with('{'));
            schema.attributes.insert(name, Attribute { kind, vector, filterable, glob, regex, fuzzy });
        }
        Ok(schema)
    }
}

impl Kind {
    /// Reads a scalar's type string.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Stored::parse(name).map(|scalar| match scalar {
            Stored::String => Self::Text,
            Stored::Int => Self::Int,
            Stored::Uint => Self::Uint,
            Stored::Float => Self::Float,
            Stored::Bool => Self::Bool,
            Stored::Uuid => Self::Uuid,
            Stored::Datetime => Self::Datetime,
        })
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Uuid => "uuid",
            Self::Datetime => "datetime",
        }
    }
}

impl AttributeType {
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name.strip_prefix("[]") {
            Some(element) => Kind::parse(element).map(|kind| Self { kind, array: true }),
            None => Kind::parse(name).map(|kind| Self { kind, array: false }),
        }
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", if self.array { "[]" } else { "" }, self.kind.name())
    }
}

/// A value that is compared: texts by their bytes, everything else by an integer whose order is the values' order.
/// Values of one kind only meet each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scalar {
    Number(i64),
    Uuid(u128),
    Text(Box<str>),
}

/// A [`Scalar`] that borrows from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScalarRef<'a> {
    Number(i64),
    Uuid(u128),
    Text(&'a str),
}

impl Scalar {
    #[must_use]
    pub fn borrowed(&self) -> ScalarRef<'_> {
        match self {
            Self::Number(number) => ScalarRef::Number(*number),
            Self::Uuid(bits) => ScalarRef::Uuid(*bits),
            Self::Text(text) => ScalarRef::Text(text),
        }
    }
}

impl ScalarRef<'_> {
    #[must_use]
    pub fn to_owned(self) -> Scalar {
        match self {
            Self::Number(number) => Scalar::Number(number),
            Self::Uuid(bits) => Scalar::Uuid(bits),
            Self::Text(text) => Scalar::Text(text.into()),
        }
    }
}

/// What a JSON scalar says, before its attribute's type is looked at. Non-negative integers may be `Int` or `Uint`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(&'a str),
}

impl Kind {
    /// Reads a value of this kind; None when the input is of another type. Integers are floats too.
    #[must_use]
    #[inline]
    pub fn read(self, input: Input<'_>) -> Option<ScalarRef<'_>> {
        #[allow(clippy::cast_precision_loss)] // An integer in a float attribute is the nearest double.
        Some(match (self, input) {
            (Self::Text, Input::Text(text)) => ScalarRef::Text(text),
            (Self::Int, Input::Int(number)) => ScalarRef::Number(number),
            (Self::Int, Input::Uint(number)) => ScalarRef::Number(i64::try_from(number).ok()?),
            (Self::Uint, Input::Uint(number)) => ScalarRef::Number(uint_key(number)),
            (Self::Uint, Input::Int(number)) => ScalarRef::Number(uint_key(u64::try_from(number).ok()?)),
            (Self::Float, Input::Float(number)) => ScalarRef::Number(float_key(number)),
            (Self::Float, Input::Int(number)) => ScalarRef::Number(float_key(number as f64)),
            (Self::Float, Input::Uint(number)) => ScalarRef::Number(float_key(number as f64)),
            (Self::Bool, Input::Bool(flag)) => ScalarRef::Number(i64::from(flag)),
            (Self::Uuid, Input::Text(text)) => ScalarRef::Uuid(parse_uuid(text)?),
            (Self::Datetime, Input::Text(text)) => ScalarRef::Number(datetime::parse(text)?),
            _ => return None,
        })
    }

    /// Reads a stored scalar of this kind; None when it is of another type.
    #[inline]
    #[must_use]
    pub fn stored(self, value: ValueRef<'_>) -> Option<ScalarRef<'_>> {
        match value {
            ValueRef::Int(number) => self.read(Input::Int(number)),
            ValueRef::Str(text) => self.read(Input::Text(text)),
            ValueRef::Float(number) => self.read(Input::Float(number)),
            ValueRef::Bool(flag) => self.read(Input::Bool(flag)),
            ValueRef::Uint(number) => self.read(Input::Uint(number)),
            ValueRef::Uuid(bits) if self == Self::Uuid => Some(ScalarRef::Uuid(bits)),
            ValueRef::Datetime(ms) if self == Self::Datetime => Some(ScalarRef::Number(ms)),
            _ => None,
        }
    }

    /// Reads a stored id of this kind; None when it is of another type.
    #[must_use]
    pub fn id(self, id: IdRef<'_>) -> Option<ScalarRef<'_>> {
        match (self, id) {
            (Self::Uint, IdRef::Uint(number)) => Some(ScalarRef::Number(uint_key(number))),
            (Self::Text | Self::Uuid, IdRef::Str(text)) => self.read(Input::Text(text)),
            (Self::Uuid, IdRef::Uuid(bits)) => Some(ScalarRef::Uuid(bits)),
            _ => None,
        }
    }

    /// The value as text: as JSON has it, strings bare.
    #[must_use]
    pub fn show(self, value: ScalarRef<'_>) -> String {
        match (self, value) {
            (_, ScalarRef::Text(text)) => text.to_owned(),
            (_, ScalarRef::Uuid(bits)) => format_uuid(bits),
            (Self::Uint, ScalarRef::Number(key)) => key_uint(key).to_string(),
            (Self::Float, ScalarRef::Number(key)) => {
                serde_json::to_string(&key_float(key)).unwrap_or_else(|_| "null".to_owned())
            }
            (Self::Bool, ScalarRef::Number(key)) => (key != 0).to_string(),
            (Self::Datetime, ScalarRef::Number(key)) => format_datetime(key),
            (_, ScalarRef::Number(key)) => key.to_string(),
        }
    }
}

/// An integer in whose order unsigned integers sort.
#[must_use]
pub fn uint_key(number: u64) -> i64 {
    number.cast_signed() ^ i64::MIN
}

#[must_use]
pub fn key_uint(key: i64) -> u64 {
    (key ^ i64::MIN).cast_unsigned()
}

/// An integer in whose order doubles sort; minus zero is zero, as `==` has it.
#[must_use]
pub fn float_key(number: f64) -> i64 {
    let bits = (number + 0.0).to_bits().cast_signed();
    bits ^ ((bits >> 63) & i64::MAX)
}

#[must_use]
pub fn key_float(key: i64) -> f64 {
    f64::from_bits((key ^ ((key >> 63) & i64::MAX)).cast_unsigned())
}

/// The canonical form.
#[must_use]
pub fn format_uuid(bits: u128) -> String {
    unquoted(|out| hevlayer_doc::value::write_uuid(bits, out))
}

/// RFC 3339 in UTC with nine digits of the second, as the upstream answers attribute values.
#[must_use]
pub fn format_datetime(ms: i64) -> String {
    unquoted(|out| hevlayer_doc::value::write_datetime(ms, out))
}

fn unquoted(write: impl Fn(&mut Vec<u8>)) -> String {
    let mut quoted = Vec::with_capacity(40);
    write(&mut quoted);
    String::from_utf8_lossy(&quoted).trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_of_numbers() {
        let floats = [f64::MIN, -1.5, -1.0, -f64::MIN_POSITIVE, 0.0, 5e-324, 1.0, 1.5, f64::MAX];
        assert!(floats.windows(2).all(|pair| float_key(pair[0]) < float_key(pair[1])));
        assert!(floats.iter().all(|number| key_float(float_key(*number)).to_bits() == number.to_bits()));
        assert_eq!(float_key(-0.0), float_key(0.0));
        let uints = [0, 1, i64::MAX as u64, 1 << 63, u64::MAX];
        assert!(uints.windows(2).all(|pair| uint_key(pair[0]) < uint_key(pair[1])));
        assert!(uints.iter().all(|number| key_uint(uint_key(*number)) == *number));
    }

    #[test]
    fn uuids_go_there_and_back() {
        let text = "0f8fad5b-d9cb-469f-a165-70867728950e";
        assert_eq!(parse_uuid(&text.to_uppercase()).map(format_uuid).as_deref(), Some(text));
        assert_eq!(parse_uuid("0f8fad5b"), None);
    }

    #[test]
    fn schemas_are_read_as_metadata_has_them() {
        let schema = Schema::parse(
            br#"{"id":{"type":"uint"},"title":{"type":"string","full_text_search":{"k1":1.2}},
                "tags":"[]string","vector":{"type":"[3]f32","ann":true},"new":{"type":"decimal"},
                "code":{"type":"string","glob":true,"full_text_search":null}}"#,
        )
        .expect("a schema");
        assert_eq!(schema.id, Some(Kind::Uint));
        assert!(!schema.attributes["title"].filterable && !schema.attributes["code"].filterable);
        assert!(schema.attributes["tags"].filterable && schema.attributes["code"].glob);
        assert_eq!(schema.attributes["tags"].kind, Some(AttributeType { kind: Kind::Text, array: true }));
        assert!(schema.attributes["vector"].vector && !schema.attributes["new"].vector);
        assert!(Schema::parse(b"[]").is_err());
    }
}
