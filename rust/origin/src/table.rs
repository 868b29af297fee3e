//! One namespace in memory: append-only slots, versions by sequence number, one dense matrix per vector attribute.
//!
//! A write appends a slot and ends the life of the one it replaces. A reader at sequence `s` sees the slots with
//! `born <= s < dead`, so one read lock gives a snapshot, and a lagging index is a reader at an older sequence.

use crate::schema::Schema;
use crate::value::{Id, Value};
use hashbrown::HashMap;

pub const ALIVE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Cosine,
    EuclideanSquared,
    Euclidean,
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
        if self.rows % MATRIX_CHUNK_ROWS == 0 {
            self.chunks.push(Vec::with_capacity(MATRIX_CHUNK_ROWS * self.dims));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.extend_from_slice(row);
        }
        self.rows += 1;
    }

    #[must_use]
    pub fn row(&self, slot: u32) -> &[f32] {
        let slot = slot as usize;
        let start = (slot % MATRIX_CHUNK_ROWS) * self.dims;
        &self.chunks[slot / MATRIX_CHUNK_ROWS][start..start + self.dims]
    }
}

#[derive(Clone, Debug, Default)]
pub struct Table {
    pub schema: Schema,
    pub metric: Option<Metric>,
    /// The sequence of the last committed write.
    pub seq: u64,
    pub slots: Vec<Slot>,
    /// The living slot of each id.
    pub by_id: HashMap<Id, u32>,
    /// By attribute ordinal; every matrix has one row per slot.
    pub vectors: HashMap<usize, Matrix>,
    /// By attribute ordinal; maintained on every write for attributes with full-text search.
    pub texts: HashMap<usize, crate::fts::TextIndex>,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
    pub last_write_at_ms: i64,
}
