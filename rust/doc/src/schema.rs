//! What a namespace's metadata says of its attributes.

use std::collections::HashMap;

use crate::error::DocError;
use crate::json::{self, Cursor};
use crate::record::IdType;

/// The scalar types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    String,
    Int,
    Uint,
    Float,
    Bool,
    Uuid,
    Datetime,
}

impl Scalar {
    /// Reads a scalar's type string.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::String,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "float" => Self::Float,
            "bool" => Self::Bool,
            "uuid" => Self::Uuid,
            "datetime" => Self::Datetime,
            _ => return None,
        })
    }
}

/// What the components of a vector are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    F32,
    F16,
    I8,
}

/// The type of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttributeType {
    Scalar(Scalar),
    /// `[]T`
    Array(Scalar),
    /// `[N]T`
    Vector {
        dimensions: u32,
        element: Element,
    },
    /// `[][N]T`
    MultiVector {
        dimensions: u32,
        element: Element,
    },
    /// `{}f16`
    Sparse,
    /// A type that is newer than this reader.
    Other(String),
}

impl AttributeType {
    /// Reads a type string.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        Self::known(name).unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    fn known(name: &str) -> Option<Self> {
        if let Some(scalar) = Scalar::parse(name) {
            return Some(Self::Scalar(scalar));
        }
        if name.starts_with("{}") {
            return (name == "{}f16").then_some(Self::Sparse);
        }
        let rest = name.strip_prefix('[')?;
        if let Some(element) = rest.strip_prefix(']') {
            if let Some(scalar) = Scalar::parse(element) {
                return Some(Self::Array(scalar));
            }
            let (dimensions, element) = vector(element.strip_prefix('[')?)?;
            return Some(Self::MultiVector { dimensions, element });
        }
        vector(rest).map(|(dimensions, element)| Self::Vector { dimensions, element })
    }

    /// A vector of any kind: kept apart, returned only when named.
    #[must_use]
    pub fn is_vector(&self) -> bool {
        matches!(self, Self::Vector { .. } | Self::MultiVector { .. } | Self::Sparse)
    }

    /// The scalar that it is, or that its elements are.
    #[must_use]
    pub fn scalar(&self) -> Option<Scalar> {
        match self {
            Self::Scalar(scalar) | Self::Array(scalar) => Some(*scalar),
            _ => None,
        }
    }
}

/// Reads `N]f32`.
fn vector(rest: &str) -> Option<(u32, Element)> {
    let (dimensions, element) = rest.split_once(']')?;
    let element = match element {
        "f32" => Element::F32,
        "f16" => Element::F16,
        "i8" => Element::I8,
        _ => return None,
    };
    Some((dimensions.parse().ok()?, element))
}

/// One attribute, the id apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    pub kind: AttributeType,
    /// The upstream makes vectors of it.
    pub embeds: bool,
}

/// The attributes of a namespace in the order of its metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    pub id_type: Option<IdType>,
    pub attributes: Vec<Attribute>,
    by_name: HashMap<String, usize>,
}

impl Schema {
    /// Reads the `schema` member of a metadata answer: `{"id": {"type": "uint"}, "title": {"type": "string", …}, …}`.
    /// A member may also be the type string alone.
    ///
    /// # Errors
    /// It is not JSON, or a member has no type.
    pub fn read(text: &str) -> Result<Self, DocError> {
        let mut schema = Self::default();
        let mut cursor = Cursor::new(text);
        cursor.peek();
        cursor.object(|cursor, key| {
            let name = String::from_utf8_lossy(&json::decode(&text.as_bytes()[key])).into_owned();
            let (kind, embeds) = read_attribute(cursor, text)?;
            if name == "id" {
                schema.id_type = IdType::parse(&kind);
            } else {
                schema.push(Attribute { name, kind: AttributeType::parse(&kind), embeds });
            }
            Ok(())
        })?;
        cursor.end()?;
        Ok(schema)
    }

    /// Adds an attribute, or replaces the one of its name.
    pub fn push(&mut self, attribute: Attribute) {
        match self.by_name.get(&attribute.name) {
            Some(&place) => self.attributes[place] = attribute,
            None => {
                self.by_name.insert(attribute.name.clone(), self.attributes.len());
                self.attributes.push(attribute);
            }
        }
    }

    /// An attribute's place in the metadata's order.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.place(name).map(|place| &self.attributes[place])
    }
}

fn read_attribute(cursor: &mut Cursor<'_>, text: &str) -> Result<(String, bool), DocError> {
    let bytes = text.as_bytes();
    let string = |range: std::ops::Range<usize>| String::from_utf8_lossy(&json::decode(&bytes[range])).into_owned();
    if cursor.peek() == b'"' {
        return Ok((string(cursor.string()?), false));
    }
    let mut kind = None;
    let mut embeds = false;
    cursor.object(|cursor, key| {
        let name = json::decode(&bytes[key]);
        if name.as_ref() == b"type" && cursor.peek() == b'"' {
            kind = Some(string(cursor.string()?));
            return Ok(());
        }
        let value = cursor.value()?;
        embeds |= name.as_ref() == b"embed" && !matches!(&bytes[value], b"null" | b"false");
        Ok(())
    })?;
    Ok((kind.ok_or(DocError::Shape("an attribute of a schema has no type"))?, embeds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_metadata_says() {
        let text = r#"{"id":{"type":"uuid"},"title":{"type":"string","full_text_search":{"k1":1.2}},"tags":"[]string",
            "vector":{"type":"[2]f16","ann":{"distance_metric":"cosine_distance"}},"multi":{"type":"[][64]f32"},
            "sparse":{"type":"{}f16"},"body":{"type":"string","embed":{"model":"m"}},"new":{"type":"geo"},
            "none":{"embed":null,"type":"datetime"}}"#;
        let schema = Schema::read(text).expect("a schema");
        assert_eq!(schema.id_type, Some(IdType::Uuid));
        let kinds: Vec<_> = schema.attributes.iter().map(|attribute| attribute.kind.clone()).collect();
        assert_eq!(
            kinds,
            [
                AttributeType::Scalar(Scalar::String),
                AttributeType::Array(Scalar::String),
                AttributeType::Vector { dimensions: 2, element: Element::F16 },
                AttributeType::MultiVector { dimensions: 64, element: Element::F32 },
                AttributeType::Sparse,
                AttributeType::Scalar(Scalar::String),
                AttributeType::Other("geo".to_owned()),
                AttributeType::Scalar(Scalar::Datetime),
            ]
        );
        let embedding: Vec<_> = schema.attributes.iter().filter(|attribute| attribute.embeds).collect();
        assert_eq!(embedding.len(), 1);
        assert_eq!(schema.place("tags"), Some(1));
        assert_eq!(schema.get("other"), None);
    }

    #[test]
    fn refuses_anything_else() {
        for text in ["", "[]", r#"{"a":{}}"#, r#"{"a":{"type":1}}"#, r#"{"a":"int"} x"#] {
            assert!(Schema::read(text).is_err(), "{text}");
        }
    }
}
