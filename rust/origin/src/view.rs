//! What a read gets: one table under its read lock, and the sequences to read at.

use crate::table::Table;

/// Settings that reads need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryOptions {
    /// Least bytes billed as queried, per query.
    pub query_billing_floor_bytes: u64,
    /// Namespaces with fewer rows than this are never indexed: their approximate sizes are 0 and they have no plan to
    /// explain.
    pub index_rows_min: usize,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self { query_billing_floor_bytes: 256_000_000, index_rows_min: 10_000 }
    }
}

/// A consistent view of one namespace.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub name: &'a str,
    pub table: &'a Table,
    /// What a strong read reads at.
    pub strong_seq: u64,
    /// What an eventual read reads at: what the index had caught up with. At most `strong_seq`.
    pub eventual_seq: u64,
    pub options: QueryOptions,
}

impl View<'_> {
    /// The namespace is large enough to have an index.
    #[must_use]
    pub fn is_indexed(&self) -> bool {
        self.table.living_rows >= self.options.index_rows_min
    }
}
