//! A namespace's schema: what each attribute is, and the two ways in which the API shows it.

use crate::value::{AttrType, Element, IdType};
use serde::{Deserialize, Serialize};

/// Settings of full-text search on one attribute, defaults as in §3.1 of the contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FullText {
    pub tokenizer: String,
    /// None for `pre_tokenized_array`.
    pub language: Option<String>,
    pub stemming: bool,
    pub remove_stopwords: bool,
    pub case_sensitive: bool,
    pub ascii_folding: bool,
    /// None for `pre_tokenized_array`.
    pub max_token_length: Option<u32>,
    pub k1: f64,
    pub b: f64,
    pub k3: f64,
}

impl Default for FullText {
    fn default() -> Self {
        Self {
            tokenizer: "word_v4".to_owned(),
            language: Some("english".to_owned()),
            stemming: false,
            remove_stopwords: false,
            case_sensitive: false,
            ascii_folding: false,
            max_token_length: Some(39),
            k1: 1.2,
            b: 0.75,
            k3: 8.0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    pub name: String,
    pub kind: AttrType,
    pub filterable: bool,
    pub full_text_search: Option<FullText>,
    pub regex: bool,
    pub glob: bool,
    pub fuzzy: bool,
    pub ann: bool,
    pub sparse_knn: bool,
    /// A dropped attribute keeps its ordinal, so that rows need no rewriting; a later attribute of the same name gets
    /// a new one.
    pub dropped: bool,
}

impl Attribute {
    /// An attribute as it is when nothing but its type was said: vectors are searchable, the rest is filterable.
    #[must_use]
    pub fn new(name: &str, kind: AttrType) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            filterable: matches!(kind, AttrType::Scalar(_) | AttrType::Array(_)),
            full_text_search: None,
            regex: false,
            glob: false,
            fuzzy: false,
            ann: kind.is_vector(),
            sparse_knn: kind == AttrType::Sparse,
            dropped: false,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    pub id_type: Option<IdType>,
    /// The ordinal of an attribute is its place here.
    pub attributes: Vec<Attribute>,
}

impl Schema {
    /// The ordinal of a living attribute.
    #[must_use]
    pub fn ordinal(&self, name: &str) -> Option<usize> {
        self.attributes.iter().position(|attribute| !attribute.dropped && attribute.name == name)
    }

    /// A living attribute.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.ordinal(name).map(|ordinal| &self.attributes[ordinal])
    }

    /// Living attributes with their ordinals.
    pub fn living(&self) -> impl Iterator<Item = (usize, &Attribute)> {
        self.attributes.iter().enumerate().filter(|(_, attribute)| !attribute.dropped)
    }

    /// Living vector attributes: ordinal, dimensions, element.
    pub fn vectors(&self) -> impl Iterator<Item = (usize, u32, Element)> + '_ {
        self.living().filter_map(|(ordinal, attribute)| match attribute.kind {
            AttrType::Vector { dims, element } => Some((ordinal, dims, element)),
            _ => None,
        })
    }

    /// Billed bytes of one row's vectors.
    #[must_use]
    pub fn vector_bytes(&self) -> usize {
        self.vectors().map(|(_, dims, element)| dims as usize * element.bytes()).sum()
    }
}
