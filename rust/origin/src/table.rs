//! One namespace in memory: append-only slots, versions by sequence number, one dense matrix per vector attribute.
//!
//! A write appends a slot and ends the life of the one it replaces. A reader at sequence `s` sees the slots with
//! `born <= s < dead`, so one read lock gives a snapshot, and a lagging index is a reader at an older sequence.

use crate::fts::{TextIndex, SLOT_GONE};
use crate::schema::Schema;
use crate::value::{AttrType, Id, Value};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub const ALIVE: u64 = u64::MAX;
/// In [`Slot::prev`]: there is no older version.
pub const NO_SLOT: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    Cosine,
    EuclideanSquared,
    Euclidean,
}

impl Metric {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine_distance",
            Self::EuclideanSquared => "euclidean_squared",
            Self::Euclidean => "euclidean",
        }
    }
}

/// One version of one row. `attrs` is indexed by the attribute's ordinal in the schema (shorter rows end in nulls);
/// vectors are not here but in [`Table::vectors`].
#[derive(Clone, Debug)]
pub struct Slot {
    pub id: Id,
    pub born: u64,
    pub dead: u64,
    /// When the version was written, for index lag. Epoch milliseconds.
    pub written_at_ms: i64,
    /// Logical size, for billing and `unindexed_bytes`.
    pub logical_bytes: u32,
    /// The version of the same id before this one, or [`NO_SLOT`].
    pub prev: u32,
    pub attrs: Box<[Value]>,
}

/// Rows per chunk of a [`Matrix`]: growing never copies what is there.
pub const MATRIX_CHUNK_ROWS: usize = 4096;

/// f32 vectors by slot, in chunks of [`MATRIX_CHUNK_ROWS`] rows, row-major. `f16` and `i8` attributes are rounded to
/// their element type on the way in and kept as f32.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    pub dims: usize,
    pub chunks: Vec<Vec<f32>>,
    pub rows: usize,
}

impl Matrix {
    #[must_use]
    pub fn new(dims: usize) -> Self {
        Self { dims, chunks: Vec::new(), rows: 0 }
    }

    /// Appends one row; `row.len()` is `dims`.
    pub fn push(&mut self, row: &[f32]) {
        debug_assert_eq!(row.len(), self.dims);
        self.last_chunk().extend_from_slice(row);
        self.rows += 1;
    }

    /// Appends a copy of a row that is already here.
    pub fn push_copy(&mut self, slot: u32) {
        let row = self.row(slot).to_vec();
        self.push(&row);
    }

    fn last_chunk(&mut self) -> &mut Vec<f32> {
        if self.rows.is_multiple_of(MATRIX_CHUNK_ROWS) {
            // The first chunk grows as it fills: most namespaces are small.
            let rows = if self.chunks.is_empty() { 0 } else { MATRIX_CHUNK_ROWS };
            self.chunks.push(Vec::with_capacity(rows * self.dims));
        }
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }

    #[must_use]
    pub fn row(&self, slot: u32) -> &[f32] {
        let (chunk, range) = self.place(slot);
        &self.chunks[chunk][range]
    }

    fn place(&self, slot: u32) -> (usize, Range<usize>) {
        let slot = slot as usize;
        let start = (slot % MATRIX_CHUNK_ROWS) * self.dims;
        (slot / MATRIX_CHUNK_ROWS, start..start + self.dims)
    }

    /// Moves a row towards the front, over one that is not needed any more.
    fn move_row(&mut self, from: u32, to: u32) {
        let (from_chunk, from_range) = self.place(from);
        let (to_chunk, to_range) = self.place(to);
        if from_chunk == to_chunk {
            self.chunks[to_chunk].copy_within(from_range, to_range.start);
        } else {
            let (before, after) = self.chunks.split_at_mut(from_chunk);
            before[to_chunk][to_range].copy_from_slice(&after[0][from_range]);
        }
    }

    fn truncate(&mut self, rows: usize) {
        self.rows = rows;
        self.chunks.truncate(rows.div_ceil(MATRIX_CHUNK_ROWS));
        if let Some(last) = self.chunks.last_mut() {
            let full_rows = (rows - 1) / MATRIX_CHUNK_ROWS * MATRIX_CHUNK_ROWS;
            last.truncate((rows - full_rows) * self.dims);
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Table {
    pub schema: Schema,
    pub metric: Option<Metric>,
    /// The sequence of the last committed write: what a strong read reads at. Rows of later writes, which are not on
    /// disk yet, may already have slots.
    pub seq: u64,
    /// The sequence of the last applied write; `head >= seq`.
    pub head: u64,
    pub slots: Vec<Slot>,
    /// The newest slot of each id, which may be dead or not yet committed: look ids up with [`Table::get`].
    pub by_id: HashMap<Id, u32>,
    /// Slots that are alive at `head`.
    pub living_rows: usize,
    /// Sum of `logical_bytes` of the living.
    pub living_bytes: u64,
    /// By attribute ordinal; every matrix has one row per slot. Every row of a namespace with vector attributes has
    /// all of them.
    pub vectors: HashMap<usize, Matrix>,
    /// By attribute ordinal; maintained on every write for attributes with full-text search.
    pub texts: HashMap<usize, TextIndex>,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
    pub last_write_at_ms: i64,
}

static NULL: Value = Value::Null;

impl Table {
    #[must_use]
    pub fn is_visible(&self, slot: u32, seq: u64) -> bool {
        let slot = &self.slots[slot as usize];
        slot.born <= seq && seq < slot.dead
    }

    /// The slots that a reader at `seq` sees, ascending.
    pub fn visible(&self, seq: u64) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.slots).filter(move |(_, slot)| slot.born <= seq && seq < slot.dead).map(|(index, _)| index)
    }

    /// The slot of an id as a reader at `seq` sees it.
    #[must_use]
    pub fn get(&self, id: &Id, seq: u64) -> Option<u32> {
        let mut slot = *self.by_id.get(id)?;
        while self.slots[slot as usize].born > seq {
            slot = self.slots[slot as usize].prev;
            if slot == NO_SLOT {
                return None;
            }
        }
        (seq < self.slots[slot as usize].dead).then_some(slot)
    }

    /// The slot of an id after the last applied write.
    #[must_use]
    pub fn living(&self, id: &Id) -> Option<u32> {
        self.get(id, ALIVE - 1)
    }

    /// An attribute of a row; `Null` for what the row does not have, and for vectors.
    #[must_use]
    pub fn value(&self, slot: u32, ordinal: usize) -> &Value {
        self.slots[slot as usize].attrs.get(ordinal).unwrap_or(&NULL)
    }

    #[must_use]
    pub fn vector(&self, slot: u32, ordinal: usize) -> Option<&[f32]> {
        self.vectors.get(&ordinal).map(|matrix| matrix.row(slot))
    }

    /// Takes on a schema: makes matrices for new vector attributes, text indexes where search was switched on or its
    /// settings changed, and forgets those of attributes that were dropped.
    pub fn set_schema(&mut self, schema: Schema) {
        let old = std::mem::take(&mut self.schema);
        for (ordinal, attribute) in schema.attributes.iter().enumerate() {
            let before = old.attributes.get(ordinal);
            match (attribute.dropped, attribute.kind) {
                (true, _) => {
                    self.vectors.remove(&ordinal);
                    if before.is_some_and(|before| !before.dropped) {
                        self.forget_values(ordinal);
                    }
                }
                (false, AttrType::Vector { dims, .. }) => {
                    self.vectors.entry(ordinal).or_insert_with(|| Matrix::new(dims as usize));
                }
                (false, _) => {}
            }
            let wanted = attribute.full_text_search.as_ref().filter(|_| !attribute.dropped);
            match wanted {
                None => {
                    self.texts.remove(&ordinal);
                }
                Some(settings) if before.and_then(|before| before.full_text_search.as_ref()) != Some(settings) => {
                    let mut index = TextIndex::new(settings);
                    for (slot, row) in (0u32..).zip(&self.slots) {
                        if let Some(value) = row.attrs.get(ordinal) {
                            index.insert(slot, value);
                        }
                    }
                    self.texts.insert(ordinal, index);
                }
                Some(_) => {}
            }
        }
        self.schema = schema;
    }

    fn forget_values(&mut self, ordinal: usize) {
        for slot in &mut self.slots {
            if let Some(value) = slot.attrs.get_mut(ordinal) {
                *value = Value::Null;
            }
        }
    }

    /// Appends a version of a row and ends the one before it. `vectors` gives each living vector attribute's
    /// components; a row that is written without one of them is filled with zeros.
    pub fn insert<'a>(
        &mut self,
        id: Id,
        attrs: Box<[Value]>,
        vectors: impl Fn(usize) -> Option<&'a [f32]>,
        seq: u64,
        written_at_ms: i64,
    ) -> u32 {
        for (ordinal, matrix) in &mut self.vectors {
            match vectors(*ordinal) {
                Some(row) if row.len() == matrix.dims => matrix.push(row),
                _ => matrix.push(&vec![0.0; matrix.dims]),
            }
        }
        self.append(id, attrs, seq, written_at_ms)
    }

    /// Appends a version of a living row with some attributes changed; its vectors stay. None when there is no such
    /// row.
    pub fn patch(&mut self, id: &Id, changes: &[(usize, Value)], seq: u64, written_at_ms: i64) -> Option<u32> {
        let old = self.living(id)?;
        let mut attrs = self.slots[old as usize].attrs.to_vec();
        for (ordinal, value) in changes {
            if attrs.len() <= *ordinal {
                attrs.resize(*ordinal + 1, Value::Null);
            }
            attrs[*ordinal] = value.clone();
        }
        for matrix in self.vectors.values_mut() {
            matrix.push_copy(old);
        }
        Some(self.append(id.clone(), attrs.into(), seq, written_at_ms))
    }

    fn append(&mut self, id: Id, attrs: Box<[Value]>, seq: u64, written_at_ms: i64) -> u32 {
        let slot = u32::try_from(self.slots.len()).unwrap_or(NO_SLOT);
        let prev = self.by_id.insert(id.clone(), slot).unwrap_or(NO_SLOT);
        if prev != NO_SLOT {
            self.end(prev, seq);
        }
        for (ordinal, index) in &mut self.texts {
            if let Some(value) = attrs.get(*ordinal) {
                index.insert(slot, value);
            }
        }
        let logical_bytes = row_bytes(&self.schema, &id, &attrs);
        self.living_rows += 1;
        self.living_bytes += u64::from(logical_bytes);
        self.slots.push(Slot { id, born: seq, dead: ALIVE, written_at_ms, logical_bytes, prev, attrs });
        slot
    }

    fn end(&mut self, slot: u32, seq: u64) -> bool {
        let slot = &mut self.slots[slot as usize];
        if slot.dead != ALIVE {
            return false;
        }
        slot.dead = seq;
        self.living_rows -= 1;
        self.living_bytes -= u64::from(slot.logical_bytes);
        true
    }

    /// Ends a row's life; false when it was not alive.
    pub fn kill(&mut self, id: &Id, seq: u64) -> bool {
        match self.by_id.get(id) {
            Some(slot) => self.end(*slot, seq),
            None => false,
        }
    }

    /// Slots that no reader at `floor` or later can see.
    #[must_use]
    pub fn dead_slots(&self, floor: u64) -> usize {
        self.slots.iter().filter(|slot| slot.dead <= floor).count()
    }

    /// Removes the slots that died at `floor` or before, in place and in order. Readers at `floor` and later see what
    /// they saw; slot numbers change.
    pub fn compact(&mut self, floor: u64) {
        let mut map = vec![SLOT_GONE; self.slots.len()];
        let mut kept = 0u32;
        for (old, slot) in self.slots.iter().enumerate() {
            if slot.dead > floor {
                map[old] = kept;
                kept += 1;
            }
        }
        for (from, to) in (0u32..).zip(&map) {
            if *to != SLOT_GONE && *to != from {
                for matrix in self.vectors.values_mut() {
                    matrix.move_row(from, *to);
                }
            }
        }
        for matrix in self.vectors.values_mut() {
            matrix.truncate(kept as usize);
        }
        for index in self.texts.values_mut() {
            *index = index.remap(&map);
        }
        self.by_id.retain(|_, slot| {
            *slot = map[*slot as usize];
            *slot != SLOT_GONE
        });
        let mut slots = std::mem::take(&mut self.slots);
        slots.retain(|slot| slot.dead > floor);
        for slot in &mut slots {
            if slot.prev != NO_SLOT {
                // An older version is gone for good: what came before it died earlier still.
                slot.prev = map[slot.prev as usize];
            }
        }
        slots.shrink_to(kept as usize + kept as usize / 4);
        self.slots = slots;
    }
}

/// Billed size of a row, vectors included.
#[must_use]
pub fn row_bytes(schema: &Schema, id: &Id, attrs: &[Value]) -> u32 {
    let values: usize = attrs.iter().map(Value::logical_bytes).sum();
    u32::try_from(id.logical_bytes() + values + schema.vector_bytes()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Attribute, FullText};
    use crate::value::{Element, Scalar};

    fn table() -> Table {
        let mut table = Table::default();
        let mut schema = Schema::default();
        schema.attributes.push(Attribute::new("vector", AttrType::Vector { dims: 2, element: Element::F32 }));
        let mut title = Attribute::new("title", AttrType::Scalar(Scalar::Str));
        title.full_text_search = Some(FullText::default());
        schema.attributes.push(title);
        table.set_schema(schema);
        table
    }

    fn put(table: &mut Table, id: u64, title: &str, seq: u64) {
        #[allow(clippy::cast_precision_loss)]
        let vector = [id as f32, seq as f32];
        let attrs = vec![Value::Null, Value::Str(title.into())].into();
        table.insert(Id::Uint(id), attrs, |_| Some(&vector[..]), seq, 0);
        table.head = seq;
        table.seq = seq;
    }

    #[test]
    fn readers_see_their_own_sequence() {
        let mut table = table();
        put(&mut table, 1, "one", 1);
        put(&mut table, 2, "two", 2);
        put(&mut table, 1, "uno", 3);
        table.kill(&Id::Uint(2), 4);
        let titles = |seq| -> Vec<String> {
            table
                .visible(seq)
                .map(|slot| {
                    String::from_utf8_lossy(&{
                        let mut out = Vec::new();
                        table.value(slot, 1).write_json(&mut out);
                        out
                    })
                    .into_owned()
                })
                .collect()
        };
        assert_eq!(titles(0), Vec::<String>::new());
        assert_eq!(titles(2), ["\"one\"", "\"two\""]);
        assert_eq!(titles(3), ["\"two\"", "\"uno\""]);
        assert_eq!(titles(4), ["\"uno\""]);
        assert_eq!(table.get(&Id::Uint(1), 2), Some(0));
        assert_eq!(table.get(&Id::Uint(1), 3), Some(2));
        assert_eq!(table.get(&Id::Uint(2), 4), None);
        assert_eq!(table.get(&Id::Uint(2), 3), Some(1));
        assert_eq!((table.living_rows, table.living_bytes), (1, 8 + 8 + 3));
        assert!(!table.kill(&Id::Uint(2), 5));
    }

    #[test]
    fn compaction_keeps_what_the_floor_and_later_readers_see() {
        let mut table = table();
        let rows = u64::try_from(MATRIX_CHUNK_ROWS + 10).expect("fits");
        for round in 0..3 {
            for id in 0..rows {
                put(&mut table, id, if round == 2 { "new fox" } else { "old dog" }, round * rows + id + 1);
            }
        }
        let floor = 2 * rows;
        assert_eq!(table.dead_slots(floor), usize::try_from(rows).expect("fits"));
        let seen = |table: &Table, seq: u64| -> Vec<(Id, Vec<f32>)> {
            let mut rows: Vec<_> = table
                .visible(seq)
                .map(|slot| (table.slots[slot as usize].id.clone(), table.vector(slot, 0).expect("vector").to_vec()))
                .collect();
            rows.sort_by(|left, right| left.0.cmp(&right.0));
            rows
        };
        let before = (seen(&table, floor), seen(&table, floor + 7), seen(&table, 3 * rows));
        table.compact(floor);
        assert_eq!(table.slots.len(), 2 * usize::try_from(rows).expect("fits"));
        assert_eq!((seen(&table, floor), seen(&table, floor + 7), seen(&table, 3 * rows)), before);
        for id in 0..rows {
            let old = table.get(&Id::Uint(id), floor).expect("seen at the floor");
            let new = table.living(&Id::Uint(id)).expect("alive");
            assert_eq!(table.slots[new as usize].prev, old);
            assert_eq!(table.slots[old as usize].prev, NO_SLOT);
        }
        table.compact(3 * rows);
        assert_eq!(table.slots.len(), table.living_rows);
        assert_eq!(table.vectors[&0].rows, table.living_rows);
        assert_eq!(table.by_id.len(), table.living_rows);
        put(&mut table, 0, "newer", 3 * rows + 1);
        assert_eq!(table.get(&Id::Uint(0), 3 * rows + 1).map(|slot| slot as usize), Some(table.slots.len() - 1));
    }

    #[test]
    fn compaction_to_nothing() {
        let mut table = table();
        put(&mut table, 1, "one", 1);
        table.kill(&Id::Uint(1), 2);
        table.compact(2);
        assert!(table.slots.is_empty() && table.by_id.is_empty());
        put(&mut table, 1, "one", 3);
        assert_eq!(table.vector(0, 0), Some(&[1.0, 3.0][..]));
    }
}
