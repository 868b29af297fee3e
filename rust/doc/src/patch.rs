//! A row that a write makes, from its members alone or over the row that was there.

use std::collections::HashSet;
use std::sync::Arc;

use crate::build::{Builder, Types};
use crate::json;
use crate::record::{Record, EMBEDDED_PREFIX};
use crate::schema::{AttributeType, Schema};
use crate::stored::{stored_vector, write_stored};
use crate::view::View;

/// An attribute's value in the form that the upstream gives it.
#[derive(Clone, Debug, PartialEq)]
enum Stored {
    Null,
    Text(Vec<u8>),
    Vector(Vec<f32>),
}

/// Values of one row whose stored forms are all known, by the attributes' places in the schema.
#[derive(Clone, Debug, Default)]
pub struct Members(Vec<(usize, Stored)>);

impl Members {
    /// Takes a member from the text of its value. False when its stored form is not known: the row is then not, either.
    #[must_use]
    pub fn put(&mut self, schema: &Schema, name: &str, text: &[u8]) -> bool {
        let Some(place) = schema.place(name) else {
            // A null changes nothing of an attribute that is not there.
            return text == b"null";
        };
        if self.0.iter().any(|(other, _)| *other == place) {
            return false;
        }
        let stored = match &schema.attributes[place].kind {
            _ if text == b"null" => Some(Stored::Null),
            kind @ AttributeType::Vector { .. } => stored_vector(kind, text).map(Stored::Vector),
            kind => {
                let mut out = Vec::with_capacity(text.len());
                write_stored(kind, text, &mut out).map(|()| Stored::Text(out))
            }
        };
        let known = stored.is_some();
        self.0.extend(stored.map(|stored| (place, stored)));
        known
    }

    /// The record of a row that has these members and no others, in the order of the schema, which need not be that of
    /// the upstream's answers; None when it cannot be one of the schema's.
    #[must_use]
    pub fn record(mut self, schema: &Schema, id: &[u8], builder: &mut Builder) -> Option<Record> {
        self.0.sort_by_key(|(place, _)| *place);
        let has = |place: usize| self.0.iter().any(|(other, stored)| *other == place && *stored != Stored::Null);
        let is_dense = |kind: &AttributeType| matches!(kind, AttributeType::Vector { .. });
        // The upstream takes no row without its vectors; one that seems to have been taken was not understood.
        if (0..schema.attributes.len()).any(|place| is_dense(&schema.attributes[place].kind) && !has(place)) {
            return None;
        }
        builder.clear();
        builder.id(id, Types::Schema(schema)).ok()?;
        for (place, stored) in &self.0 {
            let name = schema.attributes[*place].name.as_str();
            match stored {
                Stored::Null => {}
                Stored::Vector(numbers) => builder.dense_vector(name, numbers).ok()?,
                Stored::Text(text) => builder.named(name, text, Types::Schema(schema)).ok()?,
            }
        }
        builder.finish().ok()
    }
}

/// Whether the rows of a namespace can be told from what is written: not when the upstream makes vectors of them.
#[must_use]
pub fn tells_rows(schema: &Schema) -> bool {
    let embedded = |name: &str| name.as_bytes().starts_with(EMBEDDED_PREFIX);
    schema.id_type.is_some() && !schema.attributes.iter().any(|attribute| attribute.embeds || embedded(&attribute.name))
}

/// A change of some attributes of one row, all in forms that are known.
#[derive(Clone, Debug)]
pub struct Patch {
    /// The row's cache key.
    pub key: Vec<u8>,
    members: Members,
    schema: Arc<Schema>,
}

impl Patch {
    #[must_use]
    pub fn new(key: Vec<u8>, members: Members, schema: Arc<Schema>) -> Self {
        Self { key, members, schema }
    }

    /// The row after the patch, from the row before it, whose tail must be there. Attributes keep their order, new ones
    /// follow. None when it cannot be told.
    #[must_use]
    pub fn apply(&self, beneath: &View<'_>, builder: &mut Builder) -> Option<Record> {
        let schema = &*self.schema;
        if self.changes_vectors() {
            return None;
        }
        builder.clear();
        builder.id(&beneath.id_text(), Types::Schema(schema)).ok()?;
        let mut seen = HashSet::new();
        let mut known = true;
        let whole = beneath.texts(|key, value| {
            let name = json::decode(key);
            let Some(place) = std::str::from_utf8(&name).ok().and_then(|name| schema.place(name)) else {
                known = false;
                return;
            };
            seen.insert(place);
            let value = match self.members.0.iter().find(|(changed, _)| *changed == place) {
                Some((_, Stored::Text(text))) => text,
                Some(_) => return,
                None => value,
            };
            known &= builder.member(key, value, Types::Schema(schema)).is_ok();
        });
        if !whole || !known {
            return None;
        }
        for (place, stored) in self.members.0.iter().filter(|(place, _)| !seen.contains(place)) {
            if let Stored::Text(text) = stored {
                builder.named(&schema.attributes[*place].name, text, Types::Schema(schema)).ok()?;
            }
        }
        builder.finish().ok().filter(|record| record.key == self.key)
    }

    /// Whether it names a vector, which no patch may.
    fn changes_vectors(&self) -> bool {
        self.members.0.iter().any(|(place, _)| self.schema.attributes[*place].kind.is_vector())
    }
}
