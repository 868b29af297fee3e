//! Rows, columns and patches: ids noted, stamps put in, the Layer dialect's rows flattened.

use super::field::Field;
use super::walk::Walk;
use super::{read_id, Id};
use hevlayer_doc::shard::{text_shard, uint_shard};

use crate::error::{Parsed, SpliceError};
use crate::prune::Pruner;
use crate::reader::{Key, Kind, Reader};
use crate::tape::Piece;
use crate::text::shown;
use crate::{RESERVED_PREFIX, STAMP_ATTRIBUTE};

/// What a key of a row means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowKey {
    Id,
    Vector,
    Attributes,
    Stamp,
    Reserved,
    Other,
}

impl RowKey {
    #[inline]
    fn of(name: &[u8]) -> Self {
        match name {
            b"id" => Self::Id,
            b"vector" => Self::Vector,
            b"attributes" => Self::Attributes,
            _ if !name.starts_with(RESERVED_PREFIX.as_bytes()) => Self::Other,
            _ if name == STAMP_ATTRIBUTE.as_bytes() => Self::Stamp,
            _ => Self::Reserved,
        }
    }
}

/// Where a refused thing stood: `upsert_rows[3]`.
fn place(field: &str, index: Option<usize>) -> String {
    index.map_or_else(|| field.to_owned(), |index| format!("{field}[{index}]"))
}

impl<'a> Walk<'a> {
    fn row_key(&self, key: Key) -> RowKey {
        RowKey::of(&self.name(key))
    }

    #[cold]
    fn refuse_reserved(&mut self, field: &str, index: Option<usize>, key: Key) {
        let name = self.name(key);
        self.refuse(|| {
            SpliceError::validation(format!(
                "{}: `{}` is reserved: names that begin with `{RESERVED_PREFIX}` cannot be written",
                place(field, index),
                shown(&String::from_utf8_lossy(&name))
            ))
        });
    }

    /// The shard of the id that was just read from `start`, in a namespace that has shards.
    fn shard(&self, reader: &Reader<'a>, start: usize) -> Option<usize> {
        let shards = self.shards?;
        let shard = match read_id(&self.body[start..reader.at])? {
            Id::Uint(number) => uint_shard(number, shards),
            Id::String(name) => text_shard(&name, shards),
        };
        Some(shard as usize)
    }

    /// Puts the shard of a row behind its stamp.
    fn shard_member(&mut self, at: usize, shard: Option<usize>) {
        if let Some(shard) = shard {
            self.scan.tape.push(at, 0, Piece::ShardMember { shard });
        }
    }

    /// Notes the id at the current position.
    #[inline]
    fn id(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        let start = reader.at;
        let known = if reader.kind() == Kind::String {
            !reader.string()? || read_id(&self.body[start..reader.at]).is_some()
        } else {
            reader.skip_value()?;
            read_id(&self.body[start..reader.at]).is_some()
        };
        if known {
            self.scan.ids.push(start);
        } else {
            self.scan.ids_known = false;
        }
        Ok(())
    }

    /// Puts the stamp in place of the caller's value.
    fn overwrite_stamp(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        let start = reader.at;
        reader.skip_value()?;
        self.scan.tape.push(start, reader.at - start, Piece::StampValue);
        Ok(())
    }

    fn count(&mut self, field: Field, rows: usize) {
        let counter = match field {
            Field::UpsertRows | Field::UpsertColumns | Field::Upserts => &mut self.scan.upserts,
            Field::Deletes => &mut self.scan.deletes,
            _ => &mut self.scan.patches,
        };
        *counter += rows as u64;
    }

    pub(super) fn rows(&mut self, reader: &mut Reader<'a>, field: Field) -> Parsed<()> {
        let mut rows = 0;
        reader.elements(|reader, index| {
            rows = index + 1;
            match reader.kind() {
                Kind::Object => self.row(reader, field, index),
                kind => {
                    if kind == Kind::Array {
                        self.refuse_array(field.name(), Some(index));
                    }
                    self.scan.ids_known = false;
                    reader.skip_value()
                }
            }
        })?;
        self.count(field, rows);
        Ok(())
    }

    #[inline]
    fn row(&mut self, reader: &mut Reader<'a>, field: Field, index: usize) -> Parsed<()> {
        let mut has_id = false;
        let mut stamped = false;
        let mut shard = None;
        let span = reader.members(|reader, key| match self.row_key(key) {
            RowKey::Id => {
                if has_id {
                    self.refuse_duplicate(key.start, "id");
                }
                has_id = true;
                let start = reader.at;
                self.id(reader)?;
                shard = self.shard(reader, start);
                Ok(())
            }
            RowKey::Stamp => {
                stamped = true;
                self.overwrite_stamp(reader)
            }
            RowKey::Reserved => {
                self.refuse_reserved(field.name(), Some(index), key);
                reader.skip_value()
            }
            _ => reader.skip_value(),
        })?;
        self.scan.ids_known &= has_id;
        if !stamped {
            let comma = span.last_end.is_some();
            self.scan.tape.push(span.close, 0, Piece::StampMember { comma });
        }
        self.shard_member(span.close, shard);
        Ok(())
    }

    pub(super) fn columns(&mut self, reader: &mut Reader<'a>, field: Field) -> Parsed<()> {
        let mut has_id = false;
        let mut rows = None;
        // A caller's stamps may stand before the ids, whose number they take.
        let mut stamps = Vec::new();
        let mut shards = Vec::new();
        let span = reader.members(|reader, key| match self.row_key(key) {
            RowKey::Id => {
                if has_id {
                    self.refuse_duplicate(key.start, "id");
                }
                has_id = true;
                if reader.kind() != Kind::Array {
                    return reader.skip_value();
                }
                let mut ids = 0;
                reader.elements(|reader, index| {
                    ids = index + 1;
                    let start = reader.at;
                    self.id(reader)?;
                    if self.shards.is_some() {
                        shards.push(self.shard(reader, start));
                    }
                    Ok(())
                })?;
                rows = Some(ids);
                Ok(())
            }
            RowKey::Stamp => {
                let start = reader.at;
                reader.skip_value()?;
                stamps.push((start, reader.at));
                Ok(())
            }
            RowKey::Reserved => {
                self.refuse_reserved(field.name(), None, key);
                reader.skip_value()
            }
            _ => reader.skip_value(),
        })?;
        let Some(rows) = rows else {
            // Columns without ids are the upstream's to refuse.
            self.scan.ids_known = false;
            self.scan.writes_rows = true;
            return Ok(());
        };
        self.count(field, rows);
        if stamps.is_empty() {
            let comma = span.last_end.is_some();
            self.scan.tape.push(span.close, 0, Piece::StampColumn { comma, rows });
        }
        for (start, end) in stamps {
            self.scan.tape.push(start, end - start, Piece::StampColumnValue { rows });
        }
        if let Some(last) = shards.len().checked_sub(1) {
            self.scan.tape.push(span.close, 0, Piece::ShardColumn);
            for (row, shard) in shards.into_iter().enumerate() {
                self.scan.tape.push(span.close, 0, Piece::ShardElement { shard, last: row == last });
            }
        }
        Ok(())
    }

    pub(super) fn deletes(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        let mut rows = 0;
        reader.elements(|reader, index| {
            rows = index + 1;
            self.id(reader)
        })?;
        self.count(Field::Deletes, rows);
        Ok(())
    }

    pub(super) fn patch_by_filter(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        let mut has_patch = false;
        reader.members(|reader, key| {
            if *self.name(key) != *b"patch" {
                return reader.skip_value();
            }
            if has_patch {
                self.refuse_duplicate(key.start, "patch");
            }
            has_patch = true;
            match reader.kind() {
                Kind::Object => self.patch(reader),
                kind => {
                    if kind == Kind::Array {
                        self.refuse_array("patch_by_filter.patch", None);
                    }
                    reader.skip_value()
                }
            }
        })?;
        Ok(())
    }

    fn patch(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        let mut stamped = false;
        let span = reader.members(|reader, key| match self.row_key(key) {
            RowKey::Stamp => {
                stamped = true;
                self.overwrite_stamp(reader)
            }
            RowKey::Reserved => {
                self.refuse_reserved("patch_by_filter.patch", None, key);
                reader.skip_value()
            }
            _ => reader.skip_value(),
        })?;
        if !stamped {
            let comma = span.last_end.is_some();
            self.scan.tape.push(span.close, 0, Piece::StampMember { comma });
        }
        Ok(())
    }

    pub(super) fn schema(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        reader.members(|reader, key| {
            // Also the stamp: a schema that drops or retypes it would break stable reads.
            if matches!(self.row_key(key), RowKey::Stamp | RowKey::Reserved) {
                self.refuse_reserved("schema", None, key);
            }
            if reader.kind() != Kind::Object {
                return reader.skip_value();
            }
            reader.members(|reader, inner| {
                if *self.name(inner) == *b"drop" && reader.kind() == Kind::True {
                    self.scan.drops_attribute = true;
                }
                reader.skip_value()
            })?;
            Ok(())
        })?;
        Ok(())
    }

    /// Rows of the Layer dialect; false when there are none, so that the key goes too.
    pub(super) fn layer_rows(&mut self, reader: &mut Reader<'a>, field: Field, key: Key) -> Parsed<bool> {
        if reader.opens_empty() {
            reader.skip_value()?;
            return Ok(false);
        }
        let native_key = match field {
            Field::Upserts => Piece::UpsertRowsKey,
            _ => Piece::PatchRowsKey,
        };
        self.scan.tape.push(key.start, key.end - key.start, native_key);
        let mut rows = 0;
        reader.elements(|reader, index| {
            rows = index + 1;
            if reader.kind() == Kind::Object {
                return self.layer_row(reader, field, index);
            }
            self.refuse(|| SpliceError::validation(format!("{}[{index}]: expected an object", field.name())));
            reader.skip_value()
        })?;
        self.count(field, rows);
        Ok(true)
    }

    fn layer_row(&mut self, reader: &mut Reader<'a>, field: Field, index: usize) -> Parsed<()> {
        let mut seen = LayerRow::default();
        let mut pruner = Pruner::default();
        let span = reader.members(|reader, key| {
            self.cut(pruner.begin(key.start));
            if self.layer_member(reader, field, index, key, &mut seen)? {
                pruner.keep(reader.at);
            } else {
                self.cut(pruner.drop(key.start, reader.at));
            }
            Ok(())
        })?;
        let (cut, kept) = pruner.end();
        self.cut(cut);
        if !seen.id {
            self.refuse(|| SpliceError::validation(format!("{}[{index}]: `id` is required", field.name())));
        }
        if !seen.stamped {
            self.scan.tape.push(span.close, 0, Piece::StampMember { comma: kept });
        }
        self.shard_member(span.close, seen.shard);
        Ok(())
    }

    /// One member of a Layer row; false when it is to be left out.
    fn layer_member(
        &mut self,
        reader: &mut Reader<'a>,
        field: Field,
        index: usize,
        key: Key,
        seen: &mut LayerRow,
    ) -> Parsed<bool> {
        let kind = reader.kind();
        match self.row_key(key) {
            RowKey::Id => {
                if std::mem::replace(&mut seen.id, true) {
                    self.refuse_duplicate(key.start, "id");
                }
                if !matches!(kind, Kind::String | Kind::Number | Kind::Broken) {
                    self.refuse_layer(field, index, "id", "expected a string or an unsigned integer");
                }
                let start = reader.at;
                self.id(reader)?;
                seen.shard = self.shard(reader, start);
            }
            RowKey::Vector => {
                if std::mem::replace(&mut seen.vector, true) {
                    self.refuse_duplicate(key.start, "vector");
                }
                if field == Field::Patches {
                    self.refuse_layer(field, index, "vector", "vectors cannot be patched: upsert the whole row");
                }
                self.scan.has_vectors |= field == Field::Upserts && kind != Kind::Null;
                reader.skip_value()?;
            }
            RowKey::Attributes => {
                if std::mem::replace(&mut seen.attributes, true) {
                    self.refuse_duplicate(key.start, "attributes");
                }
                match kind {
                    Kind::Object => return self.flatten(reader, field, index, key, seen),
                    Kind::Null => {}
                    _ => self.refuse_layer(field, index, "attributes", "expected an object"),
                }
                reader.skip_value()?;
                return Ok(false);
            }
            // The row gets a stamp of ours.
            RowKey::Stamp => {
                reader.skip_value()?;
                return Ok(false);
            }
            RowKey::Reserved => {
                self.refuse_reserved(field.name(), Some(index), key);
                reader.skip_value()?;
            }
            RowKey::Other => {
                let name = self.name(key);
                let name = String::from_utf8_lossy(&name);
                self.refuse_layer(field, index, &shown(&name), "unknown key: attributes stand in `attributes`");
                reader.skip_value()?;
            }
        }
        Ok(true)
    }

    #[cold]
    fn refuse_layer(&mut self, field: Field, index: usize, name: &str, rule: &str) {
        self.refuse(|| SpliceError::validation(format!("{}[{index}].{name}: {rule}", field.name())));
    }

    /// Takes the brackets off `attributes`, so that its members stand in the row; false when it has none.
    fn flatten(
        &mut self,
        reader: &mut Reader<'a>,
        field: Field,
        index: usize,
        key: Key,
        seen: &mut LayerRow,
    ) -> Parsed<bool> {
        let mut opened = false;
        let span = reader.members(|reader, inner| {
            if !opened {
                opened = true;
                self.scan.tape.push(key.start, inner.start - key.start, Piece::Nothing);
            }
            match self.row_key(inner) {
                RowKey::Stamp => {
                    seen.stamped = true;
                    return self.overwrite_stamp(reader);
                }
                RowKey::Id => self.refuse_layer(field, index, "attributes", "an attribute cannot be called `id`"),
                RowKey::Vector => {
                    self.refuse_layer(field, index, "attributes", "an attribute cannot be called `vector`");
                }
                RowKey::Reserved => self.refuse_reserved(field.name(), Some(index), inner),
                RowKey::Attributes | RowKey::Other => {}
            }
            reader.skip_value()
        })?;
        let Some(last_end) = span.last_end else {
            return Ok(false);
        };
        self.scan.tape.push(last_end, reader.at - last_end, Piece::Nothing);
        Ok(true)
    }
}

/// What a Layer row has so far.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // one for each key of a row
struct LayerRow {
    id: bool,
    vector: bool,
    attributes: bool,
    stamped: bool,
    shard: Option<usize>,
}
