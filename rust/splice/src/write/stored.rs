//! Rows that an acknowledged write has made, as far as their stored forms are known.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use hevlayer_doc::build::Builder;
use hevlayer_doc::patch::{tells_rows, Members, Patch};
use hevlayer_doc::{id, json, AttributeType, IdType, Rows, Schema};

use super::field::Field;
use super::{read_id, Id, WriteScan};
use crate::error::Parsed;
use crate::reader::{Key, Kind, Reader};
use crate::text;
use crate::STAMP_ATTRIBUTE;

/// What is known of a write's rows once the upstream has acknowledged it. A written id that is in none of the fields is
/// one whose row is not known.
#[derive(Debug, Default)]
pub struct Written {
    /// Rows as they now are, whatever they were.
    pub rows: Rows,
    /// Changes of rows; what the row is now is told by the row before, see [`Patch::apply`].
    pub patches: Vec<Patch>,
    /// Keys of rows that are no more.
    pub deleted: Vec<Vec<u8>>,
}

/// What the gateway knows beside the body.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The stamp that the body went upstream with, epoch milliseconds.
    pub stamp_ms: u64,
    /// The namespace's, read in its present epoch and before this write.
    pub schema: &'a Arc<Schema>,
    /// Keys of the ids that the upstream says it wrote or deleted; without it only unconditional operations are known.
    pub affected: Option<&'a HashSet<Vec<u8>>>,
    /// Rows are made up to here, in bytes of their records; later ones are not known.
    pub bytes_max: usize,
}

impl WriteScan {
    /// The rows that this body has made. `body` is the one that was scanned.
    #[must_use]
    pub fn written(&self, body: &[u8], facts: &Facts<'_>) -> Written {
        let mut gather = Gather::new(body, facts);
        let tells = self.ids_known && self.exclusive.is_none() && !self.drops_attribute && tells_rows(facts.schema);
        if tells && gather.body(&mut Reader::new(body)).is_ok() && !gather.in_doubt {
            return gather.written;
        }
        Written::default()
    }
}

/// One pass over a body, which was read before.
struct Gather<'a> {
    body: &'a [u8],
    facts: &'a Facts<'a>,
    stamp: String,
    builder: Builder,
    /// Nothing of this write is known.
    in_doubt: bool,
    bytes: usize,
    written: Written,
}

/// The operations of a body that decide which rows are known.
#[derive(Default)]
struct Operations {
    by_filter: bool,
    upsert_condition: bool,
    patch_condition: bool,
    delete_condition: bool,
}

impl<'a> Gather<'a> {
    fn new(body: &'a [u8], facts: &'a Facts<'a>) -> Self {
        let stamp = facts.stamp_ms.to_string();
        let written = Written::default();
        Self { body, facts, stamp, builder: Builder::default(), in_doubt: false, bytes: 0, written }
    }

    fn name(&self, key: Key) -> String {
        text::decode(&self.body[key.start + 1..key.end - 1]).text.into_owned()
    }

    fn body(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        let mut operations = Operations::default();
        let mut fields: Vec<(Field, usize)> = Vec::new();
        reader.skip_blank();
        reader.members(|reader, key| {
            let is_null = reader.kind() == Kind::Null;
            if let Some(field) = Field::named(self.name(key).as_bytes()).filter(|_| !is_null) {
                match field {
                    Field::DeleteByFilter | Field::PatchByFilter => operations.by_filter = true,
                    Field::UpsertCondition => operations.upsert_condition = true,
                    Field::PatchCondition => operations.patch_condition = true,
                    Field::DeleteCondition => operations.delete_condition = true,
                    _ => fields.push((field, reader.at)),
                }
            }
            reader.skip_value()
        })?;
        for (field, at) in fields {
            let mut reader = Reader::resume(self.body, at);
            let conditional = match field {
                Field::UpsertRows | Field::UpsertColumns | Field::Upserts => operations.upsert_condition,
                // A patch by filter goes before, and may have changed the row beneath.
                Field::PatchRows | Field::PatchColumns | Field::Patches if operations.by_filter => continue,
                Field::PatchRows | Field::PatchColumns | Field::Patches => operations.patch_condition,
                Field::Deletes => operations.delete_condition,
                Field::Schema => {
                    self.schema(&mut reader)?;
                    continue;
                }
                _ => continue,
            };
            if conditional && self.facts.affected.is_none() {
                continue;
            }
            match field {
                Field::Deletes => self.deletes(&mut reader)?,
                Field::UpsertColumns | Field::PatchColumns => self.columns(&mut reader, field)?,
                _ => self.rows(&mut reader, field)?,
            }
        }
        Ok(())
    }

    /// A schema in the body casts doubt on everything, unless it only says types that were there before.
    fn schema(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        if reader.kind() != Kind::Object {
            self.in_doubt = true;
            return Ok(());
        }
        let mut agrees = true;
        reader.members(|reader, key| {
            let name = self.name(key);
            let mut kind = None;
            match reader.kind() {
                Kind::Object => {
                    reader.members(|reader, inner| {
                        let start = reader.at;
                        reader.skip_value()?;
                        let value = &self.body[start..reader.at];
                        match self.name(inner).as_str() {
                            "type" => kind = string(value),
                            "drop" => agrees &= matches!(value, b"null" | b"false"),
                            "embed" => agrees = false,
                            _ => {}
                        }
                        Ok(())
                    })?;
                }
                _ => {
                    let start = reader.at;
                    reader.skip_value()?;
                    kind = string(&self.body[start..reader.at]);
                }
            }
            let schema = self.facts.schema;
            agrees &= match (kind, schema.get(&name)) {
                (None, _) => false,
                (Some(kind), _) if name == "id" => IdType::parse(&kind) == schema.id_type,
                (Some(kind), Some(attribute)) => AttributeType::parse(&kind) == attribute.kind,
                // A new attribute; rows that have it are not known.
                (Some(_), None) => true,
            };
            Ok(())
        })?;
        self.in_doubt |= !agrees;
        Ok(())
    }

    /// The cache key of an id's text; None when it is not in the form that the namespace answers.
    fn key(&self, raw: &[u8]) -> Option<Vec<u8>> {
        match (self.facts.schema.id_type?, read_id(raw)?) {
            (IdType::Uint, Id::Uint(number)) => Some(id::uint_key(number)),
            (IdType::String, Id::String(name)) => Some(id::string_key(&name)),
            (IdType::Uuid, Id::String(name)) => {
                id::canonical_uuid(&name).filter(|canonical| canonical == name.as_bytes())?;
                Some(id::string_key(&name))
            }
            _ => None,
        }
    }

    fn is_affected(&self, key: &[u8]) -> bool {
        self.facts.affected.is_none_or(|affected| affected.contains(key))
    }

    fn deletes(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        reader.elements(|reader, _| {
            let start = reader.at;
            reader.skip_value()?;
            let raw = &self.body[start..reader.at];
            // Whatever its spelling, a uuid that is deleted is gone.
            let key = match (self.facts.schema.id_type, read_id(raw)) {
                (Some(IdType::Uuid), Some(Id::String(name))) => id::uuid_text_key(&name),
                _ => self.key(raw),
            };
            if let Some(key) = key.filter(|key| self.is_affected(key)) {
                self.written.deleted.push(key);
            }
            Ok(())
        })?;
        Ok(())
    }

    fn rows(&mut self, reader: &mut Reader<'a>, field: Field) -> Parsed<()> {
        let is_layer = field.is_layer();
        reader.elements(|reader, _| {
            let mut row = Row::default();
            reader.members(|reader, key| {
                let name = self.name(key);
                if is_layer && name == "attributes" && reader.kind() == Kind::Object {
                    reader.members(|reader, key| {
                        let name = self.name(key);
                        self.member(reader, &name, &mut row)
                    })?;
                    return Ok(());
                }
                if is_layer && name == "attributes" {
                    return reader.skip_value();
                }
                self.member(reader, &name, &mut row)
            })?;
            self.finish(row, field);
            Ok(())
        })?;
        Ok(())
    }

    fn member(&self, reader: &mut Reader<'a>, name: &str, row: &mut Row) -> Parsed<()> {
        let start = reader.at;
        reader.skip_value()?;
        row.put(self.facts.schema, self.body, name, start..reader.at);
        Ok(())
    }

    fn columns(&mut self, reader: &mut Reader<'a>, field: Field) -> Parsed<()> {
        let mut columns: HashMap<String, Vec<Range<usize>>> = HashMap::new();
        let mut regular = true;
        reader.members(|reader, key| {
            if reader.kind() != Kind::Array {
                // A column of vectors may come packed; its rows are not known.
                regular = false;
                return reader.skip_value();
            }
            let mut values = Vec::new();
            reader.elements(|reader, _| {
                let start = reader.at;
                reader.skip_value()?;
                values.push(start..reader.at);
                Ok(())
            })?;
            regular &= columns.insert(self.name(key), values).is_none();
            Ok(())
        })?;
        let rows = columns.get("id").map_or(0, Vec::len);
        if !regular || columns.values().any(|column| column.len() != rows) {
            return Ok(());
        }
        for index in 0..rows {
            let mut row = Row::default();
            for (name, column) in &columns {
                row.put(self.facts.schema, self.body, name, column[index].clone());
            }
            self.finish(row, field);
        }
        Ok(())
    }

    /// Keeps a row that is known.
    fn finish(&mut self, mut row: Row, field: Field) {
        let schema = self.facts.schema;
        let Some(raw) = row.id.map(|range| &self.body[range]) else {
            return;
        };
        let Some(key) = self.key(raw) else {
            return;
        };
        row.known &= row.members.put(schema, STAMP_ATTRIBUTE, self.stamp.as_bytes());
        if !row.known || !self.is_affected(&key) || self.bytes > self.facts.bytes_max {
            return;
        }
        if matches!(field, Field::PatchRows | Field::PatchColumns | Field::Patches) {
            self.bytes += row.bytes;
            self.written.patches.push(Patch::new(key, row.members, Arc::clone(schema)));
            return;
        }
        let id = canonical_id(raw);
        if let Some(record) = row.members.record(schema, &id, &mut self.builder) {
            self.bytes += record.head.len() + record.tail.len();
            // The upstream takes no id twice; a body in which one stands twice was not understood.
            self.in_doubt |= self.written.rows.get(&record.key).is_some();
            self.written.rows.push(record);
        }
    }
}

/// A row while its members are read.
struct Row {
    id: Option<Range<usize>>,
    members: Members,
    known: bool,
    bytes: usize,
}

impl Default for Row {
    fn default() -> Self {
        Self { id: None, members: Members::default(), known: true, bytes: 0 }
    }
}

impl Row {
    fn put(&mut self, schema: &Schema, body: &[u8], name: &str, value: Range<usize>) {
        self.bytes += value.len();
        match name {
            "id" => self.id = Some(value),
            STAMP_ATTRIBUTE => {}
            _ => self.known = self.known && self.members.put(schema, name, &body[value]),
        }
    }
}

/// An id's text as the upstream answers it.
fn canonical_id(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    match read_id(raw) {
        Some(Id::String(name)) => json::encode(name.as_bytes(), &mut out),
        _ => out.extend_from_slice(raw),
    }
    out
}

/// The characters of a JSON string; None of anything else.
fn string(raw: &[u8]) -> Option<String> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(text::decode(inner).text.into_owned())
}
