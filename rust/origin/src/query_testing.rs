//! Support for the tests of the query side: a seeded generator of numbers.

/// xorshift64*: small, seeded, good enough to make rows.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next_u64() >> 11) % bound
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[usize::try_from(self.below(items.len() as u64)).expect("fits")]
    }

    /// Between −1 and 1.
    pub fn unit(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
    }
}

use crate::input::Input;
use crate::query;
use crate::reply::ApiError;
use crate::schema::{Attribute, FullText, Schema};
use crate::table::{Metric, Table};
use crate::value::{AttrType, Id, IdType, Value};
use crate::view::{QueryOptions, View};
use serde_json::Value as Json;

/// An attribute by its type string; `"text"` is a string with full-text search that can also be filtered on.
pub fn attribute(name: &str, kind: &str) -> Attribute {
    let is_text = kind == "text";
    let kind = AttrType::parse(if is_text { "string" } else { kind }).expect("a type");
    let mut attribute = Attribute::new(name, kind);
    attribute.full_text_search = is_text.then(FullText::default);
    attribute
}

/// A table of JSON rows with numeric ids, each written at a sequence of its own: 1, 2, …
pub fn table(attributes: &[(&str, &str)], rows: &[Json]) -> Table {
    let attributes = attributes.iter().map(|(name, kind)| attribute(name, kind)).collect();
    let mut table = Table { metric: Some(Metric::EuclideanSquared), ..Table::default() };
    table.set_schema(Schema { id_type: Some(IdType::Uint), attributes });
    for row in rows {
        put(&mut table, row);
    }
    table
}

/// Writes one more row, at the next sequence.
pub fn put(table: &mut Table, row: &Json) {
    let read = |attribute: &Attribute| {
        let json = row.get(&attribute.name).unwrap_or(&Json::Null);
        if attribute.kind.is_vector() {
            return Value::Null;
        }
        Value::from_json(json, attribute.kind).unwrap_or_else(|| panic!("{} in {row}", attribute.name))
    };
    let attrs: Box<[Value]> = table.schema.attributes.iter().map(read).collect();
    let names: Vec<String> = table.schema.attributes.iter().map(|attribute| attribute.name.clone()).collect();
    let vectors: Vec<Option<Vec<f32>>> =
        names.iter().map(|name| row.get(name).and_then(|json| Input::from_json(json).vector().ok())).collect();
    let id = Id::Uint(row["id"].as_u64().expect("an id"));
    let seq = table.head + 1;
    table.insert(id, attrs, |ordinal| vectors[ordinal].as_deref(), seq, 0);
    (table.head, table.seq) = (seq, seq);
}

pub fn view(table: &Table) -> View<'_> {
    View { name: "ns", table, strong_seq: table.seq, eventual_seq: table.seq, options: QueryOptions::default() }
}

/// The answer to a query body.
pub fn ask(table: &Table, body: &Json) -> Result<Json, ApiError> {
    let reply = query::handle(&view(table), body.to_string().as_bytes())?;
    assert_eq!(reply.status, 200);
    Ok(serde_json::from_slice(&reply.body).expect("JSON"))
}

/// The ids of the rows of an answer, in order.
pub fn ids(answer: &Json) -> Vec<u64> {
    answer["rows"].as_array().expect("rows").iter().map(|row| row["id"].as_u64().expect("an id")).collect()
}

/// The message of a refusal with status 400.
pub fn refusal(table: &Table, body: &Json) -> String {
    let error = ask(table, body).expect_err("a refusal");
    assert_eq!(error.status, 400, "{}", error.message);
    error.message
}
