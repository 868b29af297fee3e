//! A commit: what one accepted write does to a namespace. Live writes and recovery apply the same commits.

use crate::schema::Schema;
use crate::table::{row_bytes, Metric, Table};
use crate::value::{Id, Value};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What a namespace is told beside its rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub read_only: bool,
    /// Replicas and when they were asked for.
    pub pinning: Option<Pinning>,
    pub num_shards: Option<u32>,
    /// The namespace that this one was branched from.
    pub branch_parent: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pinning {
    pub replicas: u32,
    pub updated_at_ms: i64,
}

/// The part of a namespace that is not rows, whole, as it is after a commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    pub schema: Schema,
    pub metric: Option<Metric>,
    pub settings: Settings,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
    pub last_write_at_ms: i64,
}

/// The same changes to some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    pub ids: Vec<Id>,
    pub changes: Vec<(usize, Value)>,
}

/// Rows to put: `attrs` by ordinal, and one column per vector attribute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Puts {
    pub rows: Vec<(Id, Box<[Value]>)>,
    pub vectors: Vec<VectorColumn>,
}

/// One vector attribute of all rows, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorColumn {
    pub ordinal: usize,
    pub dims: usize,
    pub components: Vec<f32>,
}

impl Puts {
    /// The vector of a row; None when the rows have no such column.
    #[must_use]
    pub fn vector(&self, ordinal: usize, row: usize) -> Option<&[f32]> {
        let column = self.vectors.iter().find(|column| column.ordinal == ordinal)?;
        column.components.get(row * column.dims..(row + 1) * column.dims)
    }
}

/// Deletes come first, then patches, then puts. Ids that are not there are passed over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    pub seq: u64,
    pub at_ms: i64,
    /// Present when anything in it changed but the times of the last write.
    pub meta: Option<Meta>,
    pub deletes: Vec<Id>,
    pub patches: Vec<Patch>,
    pub puts: Puts,
}

impl Commit {
    #[must_use]
    pub fn changes_rows(&self) -> bool {
        !(self.deletes.is_empty() && self.patches.is_empty() && self.puts.rows.is_empty())
    }
}

/// A namespace in memory.
#[derive(Debug, Default)]
pub struct State {
    pub table: Table,
    pub settings: Settings,
    pub lag: Lag,
}

impl State {
    #[must_use]
    pub fn meta(&self) -> Meta {
        Meta {
            schema: self.table.schema.clone(),
            metric: self.table.metric,
            settings: self.settings.clone(),
            created_at_ms: self.table.created_at_ms,
            updated_at_ms: self.table.updated_at_ms,
            last_write_at_ms: self.table.last_write_at_ms,
        }
    }

    /// Carries a commit out in memory. Readers see it once `table.seq` has reached it.
    pub fn apply(&mut self, commit: Commit) {
        let table = &mut self.table;
        let (seq, at_ms) = (commit.seq, commit.at_ms);
        let changes_rows = commit.changes_rows();
        if let Some(meta) = commit.meta {
            table.set_schema(meta.schema);
            table.metric = meta.metric;
            table.created_at_ms = meta.created_at_ms;
            table.updated_at_ms = meta.updated_at_ms;
            table.last_write_at_ms = meta.last_write_at_ms;
            self.settings = meta.settings;
        }
        let mut unindexed = Unindexed { seq, at_ms, rows: 0, bytes: 0 };
        for id in &commit.deletes {
            if table.kill(id, seq) {
                unindexed.add(id.logical_bytes());
            }
        }
        for patch in &commit.patches {
            for id in &patch.ids {
                if let Some(slot) = table.patch(id, &patch.changes, seq, at_ms) {
                    unindexed.add(table.slots[slot as usize].logical_bytes as usize);
                }
            }
        }
        let Puts { rows, vectors } = commit.puts;
        let columns = Puts { rows: Vec::new(), vectors };
        for (row, (id, attrs)) in rows.into_iter().enumerate() {
            unindexed.add(row_bytes(&table.schema, &id, &attrs) as usize);
            table.insert(id, attrs, |ordinal| columns.vector(ordinal, row), seq, at_ms);
        }
        table.head = seq;
        if changes_rows {
            table.updated_at_ms = at_ms;
            table.last_write_at_ms = at_ms;
            self.lag.push(unindexed);
        }
    }
}

/// What the index has not caught up with: writes, oldest first.
#[derive(Debug, Default)]
pub struct Lag {
    waiting: VecDeque<Unindexed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unindexed {
    seq: u64,
    at_ms: i64,
    rows: u64,
    bytes: u64,
}

impl Unindexed {
    fn add(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes as u64;
    }
}

/// Most entries that [`Lag`] keeps; beyond it neighbours are merged, so that the index catches up in larger steps.
const LAG_ENTRIES_MAX: usize = 4096;

/// How far the index is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LagReport {
    pub rows: u64,
    pub bytes: u64,
}

impl Lag {
    fn push(&mut self, write: Unindexed) {
        self.waiting.push_back(write);
        if self.waiting.len() > LAG_ENTRIES_MAX {
            self.merge_neighbours();
        }
    }

    fn merge_neighbours(&mut self) {
        let old = std::mem::take(&mut self.waiting);
        let mut entries = old.into_iter();
        while let Some(first) = entries.next() {
            let second = entries.next().unwrap_or(Unindexed { rows: 0, bytes: 0, ..first });
            self.waiting.push_back(Unindexed {
                seq: first.seq,
                at_ms: second.at_ms,
                rows: first.rows + second.rows,
                bytes: first.bytes + second.bytes,
            });
        }
    }

    /// Forgets the writes that are `lag_ms` old at `now_ms`.
    pub fn advance(&mut self, now_ms: i64, lag_ms: i64) {
        while self.waiting.front().is_some_and(|write| write.at_ms.saturating_add(lag_ms) <= now_ms) {
            self.waiting.pop_front();
        }
    }

    /// The first sequence that is not indexed at `now_ms`.
    #[must_use]
    pub fn first_waiting(&self, now_ms: i64, lag_ms: i64) -> Option<u64> {
        self.still_waiting(now_ms, lag_ms).next().map(|write| write.seq)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What of the writes up to `seq` is not indexed.
    #[must_use]
    pub fn report(&self, now_ms: i64, lag_ms: i64, seq: u64) -> LagReport {
        let committed = self.still_waiting(now_ms, lag_ms).take_while(|write| write.seq <= seq);
        committed.fold(LagReport::default(), |sum, write| LagReport {
            rows: sum.rows + write.rows,
            bytes: sum.bytes + write.bytes,
        })
    }

    fn still_waiting(&self, now_ms: i64, lag_ms: i64) -> impl Iterator<Item = &Unindexed> {
        self.waiting.iter().skip_while(move |write| write.at_ms.saturating_add(lag_ms) <= now_ms)
    }
}
