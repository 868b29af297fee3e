//! The walk over a write body's top level.

use std::borrow::Cow;

use super::field::{touches_no_rows, Field, RETURN_AFFECTED_IDS};
use super::{Exclusive, WriteScan};
use crate::error::{Parsed, SpliceError};
use crate::prune::Pruner;
use crate::reader::{Key, Kind, Reader};
use crate::tape::{Piece, Positions, Tape};
use crate::text;
use crate::Dialect;

pub(super) struct Walk<'a> {
    pub(super) body: &'a [u8],
    patch_method: bool,
    /// The namespace's number of shards, when its rows are to be stamped with theirs.
    pub(super) shards: Option<u32>,
    pub(super) scan: WriteScan,
    /// Fields that stand in the body, also as null.
    seen: u32,
    /// Fields that are not null.
    present: u32,
    /// A key stands in the body that may change rows in a way that we do not know.
    foreign: bool,
    /// The first rule that the body breaks; broken JSON goes before it, wherever it stands.
    refusal: Option<SpliceError>,
}

impl<'a> Walk<'a> {
    pub fn new(body: &'a [u8], patch_method: bool, shards: Option<u32>) -> Self {
        let scan = WriteScan {
            dialect: Dialect::Native,
            upserts: 0,
            patches: 0,
            deletes: 0,
            has_vectors: false,
            by_filter: false,
            conditional: false,
            exclusive: None,
            drops_attribute: false,
            writes_rows: false,
            ids_known: true,
            affected_ids: None,
            tape: Tape::default(),
            ids: Positions::default(),
        };
        Self { body, patch_method, shards, scan, seen: 0, present: 0, foreign: false, refusal: None }
    }

    #[cold]
    pub(super) fn refuse(&mut self, error: impl FnOnce() -> SpliceError) {
        if self.refusal.is_none() {
            self.refusal = Some(error());
        }
    }

    #[cold]
    pub(super) fn refuse_duplicate(&mut self, at: usize, name: &str) {
        let body = self.body;
        self.refuse(|| SpliceError::bad_json(body, at, &format!("duplicate field `{name}`")));
    }

    fn has(&self, field: Field) -> bool {
        self.present & field.bit() != 0
    }

    /// A key's text as it is compared: between the quotes, escapes resolved.
    pub(super) fn name(&self, key: Key) -> Cow<'a, [u8]> {
        let raw = &self.body[key.start + 1..key.end - 1];
        if key.escaped {
            Cow::Owned(text::decode(raw).text.into_owned().into_bytes())
        } else {
            Cow::Borrowed(raw)
        }
    }

    pub fn body(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        reader.skip_blank();
        match reader.kind() {
            Kind::Object => {}
            Kind::Array => {
                // A struct may be read from an array of its fields in order; such rows would go up without a stamp.
                self.refuse(|| SpliceError::validation("the body must be a JSON object, not an array"));
                return reader.skip_value();
            }
            _ => return reader.skip_value(),
        }
        let mut pruner = Pruner::default();
        let span = reader.members(|reader, key| {
            self.cut(pruner.begin(key.start));
            if self.member(reader, key)? {
                pruner.keep(reader.at);
            } else {
                self.cut(pruner.drop(key.start, reader.at));
            }
            Ok(())
        })?;
        let (cut, kept) = pruner.end();
        self.cut(cut);
        if self.scan.has_vectors && self.seen & Field::DistanceMetric.bit() == 0 {
            self.scan.tape.push(span.close, 0, Piece::MetricMember { comma: kept });
        }
        Ok(())
    }

    pub(super) fn cut(&mut self, cut: Option<(usize, usize)>) {
        if let Some((start, end)) = cut {
            self.scan.tape.push(start, end - start, Piece::Nothing);
        }
    }

    /// One member of the body; false when it is to be left out.
    fn member(&mut self, reader: &mut Reader<'a>, key: Key) -> Parsed<bool> {
        let name = self.name(key);
        let Some(field) = Field::named(&name) else {
            if name.as_ref() == RETURN_AFFECTED_IDS {
                self.scan.affected_ids = Some(reader.kind() == Kind::True);
            }
            // A key that only a newer upstream knows may change any row.
            self.foreign |= !touches_no_rows(&name) && reader.kind() != Kind::Null;
            reader.skip_value()?;
            return Ok(true);
        };
        if self.seen & field.bit() != 0 {
            self.refuse_duplicate(key.start, field.name());
            reader.skip_value()?;
            return Ok(true);
        }
        self.seen |= field.bit();
        let kind = reader.kind();
        if kind == Kind::Null {
            reader.skip_value()?;
            if field == Field::DistanceMetric {
                self.scan.tape.push(reader.at - 4, 4, Piece::MetricValue);
            }
            return Ok(!field.is_layer());
        }
        self.present |= field.bit();
        match (field, kind) {
            (Field::UpsertRows | Field::PatchRows, Kind::Array) => self.rows(reader, field)?,
            (Field::Upserts | Field::Patches, Kind::Array) => return self.layer_rows(reader, field, key),
            (Field::UpsertColumns | Field::PatchColumns, Kind::Object) => {
                self.columns(reader, field)?;
            }
            (Field::PatchByFilter, Kind::Object) => self.patch_by_filter(reader)?,
            (Field::Schema, Kind::Object) => self.schema(reader)?,
            (Field::Deletes, Kind::Array) => self.deletes(reader)?,
            (Field::Upserts | Field::Patches, _) => {
                self.refuse(|| SpliceError::validation(format!("{}: expected an array of rows", field.name())));
                reader.skip_value()?;
            }
            (Field::UpsertColumns | Field::PatchColumns | Field::PatchByFilter, Kind::Array) => {
                self.refuse_array(field.name(), None);
                reader.skip_value()?;
            }
            _ => {
                // A wrong type is the upstream's to refuse. Until it has, any row may have changed.
                if field.changes_rows() {
                    self.scan.writes_rows = true;
                    self.scan.ids_known &= !matches!(
                        field,
                        Field::UpsertRows
                            | Field::UpsertColumns
                            | Field::PatchRows
                            | Field::PatchColumns
                            | Field::Deletes
                    );
                }
                reader.skip_value()?;
            }
        }
        Ok(true)
    }

    #[cold]
    pub(super) fn refuse_array(&mut self, field: &str, index: Option<usize>) {
        self.refuse(|| {
            let place = index.map_or_else(|| field.to_owned(), |index| format!("{field}[{index}]"));
            SpliceError::validation(format!("{place}: expected an object, not an array"))
        });
    }

    /// The facts of the whole body, and the rules that need them.
    pub fn conclude(mut self) -> Result<WriteScan, SpliceError> {
        let is_layer = self.has(Field::Upserts) || self.has(Field::Patches);
        if is_layer {
            self.scan.dialect = Dialect::Layer;
            self.refuse_mixed();
            if self.scan.upserts + self.scan.patches + self.scan.deletes == 0 && !self.scan.writes_rows {
                self.refuse(|| SpliceError::validation("`upserts`, `patches` and `deletes` are all empty"));
            }
        }
        if self.patch_method {
            self.refuse_other_than_patches();
        }
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        self.scan.by_filter = self.has(Field::DeleteByFilter) || self.has(Field::PatchByFilter);
        self.scan.conditional = [Field::UpsertCondition, Field::PatchCondition, Field::DeleteCondition]
            .into_iter()
            .any(|field| self.has(field));
        self.scan.exclusive = if self.has(Field::CopyFrom) {
            Some(Exclusive::Copy)
        } else {
            self.has(Field::BranchFrom).then_some(Exclusive::Branch)
        };
        self.scan.writes_rows |= self.scan.upserts + self.scan.patches + self.scan.deletes > 0
            || self.scan.by_filter
            || self.scan.exclusive.is_some()
            || self.foreign;
        self.scan.ids_known &= !self.foreign;
        Ok(self.scan)
    }

    fn first_present(&self, wanted: impl Fn(Field) -> bool) -> Option<Field> {
        Field::ALL.into_iter().find(|&field| self.has(field) && wanted(field))
    }

    fn refuse_mixed(&mut self) {
        if let (Some(layer), Some(native)) = (self.first_present(Field::is_layer), self.first_present(Field::is_native))
        {
            self.refuse(|| {
                SpliceError::validation(format!(
                    "`{}` and `{}` cannot be in one body: use `upsert_rows`, `patch_rows` and `deletes`, or `upserts`, \
                     `patches` and `deletes`",
                    layer.name(),
                    native.name()
                ))
            });
        }
    }

    fn refuse_other_than_patches(&mut self) {
        if let Some(other) = self.first_present(|field| field.changes_rows() && !field.is_patch()) {
            self.refuse(|| SpliceError::validation(format!("`{}` cannot be sent with PATCH: use POST", other.name())));
        } else if self.first_present(Field::is_patch).is_none() {
            self.refuse(|| {
                SpliceError::validation(
                    "PATCH needs one of `patches`, `patch_rows`, `patch_columns` and `patch_by_filter`",
                )
            });
        }
    }
}
