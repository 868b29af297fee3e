//! A write: what it will do, decided against the namespace as it is, before anything is changed.

use crate::apply::{Commit, Meta, Patch, Puts, State, VectorColumn};
use crate::filter::{self, Filter, FiltersInput, NewRow};
use crate::filter_scan::visible;
use crate::reply::{ApiError, ApiResult};
use crate::schema::Schema;
use crate::schema_json::{merge, SchemaContext};
use crate::table::{row_bytes, Table};
use crate::value::{Id, Value};
use crate::write_body::WriteBody;
use crate::write_rows::Draft;
use hashbrown::HashSet;
use serde_json::{json, Value as Json};

/// Most rows that one by-filter operation may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteLimits {
    pub delete_by_filter_rows_max: usize,
    pub patch_by_filter_rows_max: usize,
}

impl Default for WriteLimits {
    fn default() -> Self {
        Self { delete_by_filter_rows_max: 5_000_000, patch_by_filter_rows_max: 50_000 }
    }
}

/// Most shards that a namespace can ask for.
const SHARDS_MAX: u32 = 256;

/// A write that was found valid. What is left to decide are its conditions, and those cannot fail.
#[derive(Debug)]
pub struct Prepared {
    /// What the namespace is told beside its rows, when that changes.
    meta: Option<Meta>,
    filtered_deletes: Vec<Id>,
    filtered_patch: Option<Patch>,
    puts: Puts,
    patches: Vec<Patch>,
    deletes: Vec<Id>,
    upsert_condition: Option<Filter>,
    patch_condition: Option<Filter>,
    delete_condition: Option<Filter>,
    kinds: Kinds,
    rows_remaining: bool,
    return_ids: bool,
}

/// Which kinds of operation a request has.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    upserts: bool,
    patches: bool,
    deletes: bool,
    by_filter: bool,
    conditional: bool,
}

/// What a write did.
#[derive(Debug, Default)]
pub struct Outcome {
    kinds: Kinds,
    rows_remaining: bool,
    return_ids: bool,
    upserted: Vec<Id>,
    patched: Vec<Id>,
    deleted: Vec<Id>,
    written_bytes: u64,
}

/// Decides everything about a write that can be refused.
///
/// # Errors
/// 400 with the upstream's message.
pub fn prepare(body: &WriteBody<'_>, state: &State, now_ms: i64, limits: WriteLimits) -> ApiResult<Prepared> {
    let table = &state.table;
    let is_old = table.head > 0;
    if let Some(key) = body.encryption.as_ref().and_then(|encryption| encryption.key_name()) {
        return Err(ApiError::invalid(format!("Malformed Cloud KMS crypto key: {key}")));
    }
    let mut meta = state.meta();
    merge_sharding(body, &mut meta, is_old)?;
    let asked_metric = body.distance_metric.and_then(|metric| metric.metric());
    let mut draft = Draft { schema: meta.schema.clone(), is_old };
    if let Some(changes) = &body.schema {
        let context = SchemaContext { metric: meta.metric.or(asked_metric), is_old };
        merge(&mut draft.schema, &changes.0, context)?;
    }

    let mut puts = Puts::default();
    if let Some(rows) = &body.upsert_rows {
        draft.upsert_rows(rows, &mut puts)?;
    }
    if let Some(columns) = &body.upsert_columns {
        draft.upsert_columns(columns, &mut puts)?;
    }
    let mut patches = Vec::new();
    if let Some(rows) = &body.patch_rows {
        draft.patch_rows(rows, &mut patches)?;
    }
    if let Some(columns) = &body.patch_columns {
        draft.patch_columns(columns, &mut patches)?;
    }
    let deletes = body.deletes.as_ref().map(|ids| draft.ids(ids)).transpose()?.unwrap_or_default();
    let changes = body.patch_by_filter.as_ref().map(|patch| draft.changes(&patch.patch.0)).transpose()?;
    refuse_duplicates(&puts, &patches, &deletes)?;

    let schema = draft.schema;
    if schema.vectors().next().is_some() {
        meta.metric = match (meta.metric, asked_metric) {
            (None, None) => {
                return Err(ApiError::invalid("distance_metric must be specified for write to namespace with a vector"))
            }
            (Some(old), Some(asked)) if old != asked => {
                let (old, asked) = (old.name(), asked.name());
                return Err(ApiError::invalid(format!("distance metric mismatch, expected {old}, got {asked}")));
            }
            (old, asked) => old.or(asked),
        };
    }
    let condition = |input: &Option<FiltersInput<'_>>| {
        input.as_ref().map(|input| filter::parse(&input.0, &schema, true)).transpose()
    };
    let (upsert_condition, patch_condition, delete_condition) =
        (condition(&body.upsert_condition)?, condition(&body.patch_condition)?, condition(&body.delete_condition)?);

    let mut rows_remaining = false;
    let filtered_deletes = match &body.delete_by_filter {
        Some(filters) => {
            let filter = filter::parse(&filters.0, &schema, false)?;
            let limit = ByFilterLimit {
                operation: "delete_by_filter",
                rows_max: limits.delete_by_filter_rows_max,
                allow_partial: body.delete_by_filter_allow_partial == Some(true),
            };
            limit.apply(matching(table, &filter, &HashSet::new()), &mut rows_remaining)?
        }
        None => Vec::new(),
    };
    let filtered_patch = match (&body.patch_by_filter, changes) {
        (Some(patch), Some(changes)) => {
            let filter = filter::parse(&patch.filters.0, &schema, false)?;
            let gone: HashSet<&Id> = filtered_deletes.iter().collect();
            let limit = ByFilterLimit {
                operation: "patch_by_filter",
                rows_max: limits.patch_by_filter_rows_max,
                allow_partial: body.patch_by_filter_allow_partial == Some(true),
            };
            let ids = limit.apply(matching(table, &filter, &gone), &mut rows_remaining)?;
            Some(Patch { ids, changes })
        }
        _ => None,
    };
    let kinds = Kinds {
        upserts: body.upsert_rows.is_some() || body.upsert_columns.is_some(),
        patches: body.patch_rows.is_some() || body.patch_columns.is_some() || body.patch_by_filter.is_some(),
        deletes: body.deletes.is_some() || body.delete_by_filter.is_some(),
        by_filter: body.delete_by_filter.is_some() || body.patch_by_filter.is_some(),
        conditional: upsert_condition.is_some() || patch_condition.is_some() || delete_condition.is_some(),
    };
    let meta = finish_meta(meta, schema, state, now_ms);
    Ok(Prepared {
        meta,
        filtered_deletes,
        filtered_patch,
        puts,
        patches,
        deletes,
        upsert_condition,
        patch_condition,
        delete_condition,
        kinds,
        rows_remaining,
        return_ids: body.return_affected_ids == Some(true),
    })
}

/// The new meta, or None when the write leaves it as it is.
fn finish_meta(mut meta: Meta, schema: Schema, state: &State, now_ms: i64) -> Option<Meta> {
    let old = &state.table;
    meta.schema = schema;
    if old.head == 0 {
        meta.created_at_ms = now_ms;
        meta.updated_at_ms = now_ms;
        meta.last_write_at_ms = now_ms;
        return Some(meta);
    }
    if meta == state.meta() {
        return None;
    }
    if meta.schema != old.schema {
        meta.updated_at_ms = now_ms;
    }
    Some(meta)
}

fn merge_sharding(body: &WriteBody<'_>, meta: &mut Meta, is_old: bool) -> ApiResult<()> {
    let Some(sharding) = &body.sharding else { return Ok(()) };
    let asked = sharding.num_shards;
    if !(1..=SHARDS_MAX).contains(&asked) {
        return Err(ApiError::invalid(format!("num_shards must be between 1 and {SHARDS_MAX}, was {asked}")));
    }
    match meta.settings.num_shards {
        Some(old) if old == asked => {}
        None if !is_old => meta.settings.num_shards = Some(asked),
        _ => return Err(ApiError::invalid("sharding can only be set by the first write to a namespace")),
    }
    Ok(())
}

fn refuse_duplicates(puts: &Puts, patches: &[Patch], deletes: &[Id]) -> ApiResult<()> {
    let patched = patches.iter().flat_map(|patch| &patch.ids);
    let ids = puts.rows.iter().map(|(id, _)| id).chain(patched).chain(deletes);
    let mut seen = HashSet::with_capacity(puts.rows.len() + patches.len() + deletes.len());
    let mut duplicates: Vec<&Id> = ids.filter(|id| !seen.insert(*id)).collect();
    if duplicates.is_empty() {
        return Ok(());
    }
    duplicates.sort();
    duplicates.dedup();
    let shown: Vec<String> = duplicates.iter().take(DUPLICATES_SHOWN_MAX).map(ToString::to_string).collect();
    Err(ApiError::invalid(format!(
        "This upsert contains duplicate document IDs and was not written. You should ensure that individual upserts \
         do not include duplicate documents. The duplicated IDs in this batch were the following: {}",
        shown.join(", ")
    )))
}

/// Most ids that the message about duplicates repeats.
const DUPLICATES_SHOWN_MAX: usize = 100;

/// The living rows that meet a filter, without those that are gone.
fn matching(table: &Table, filter: &Filter, gone: &HashSet<&Id>) -> Vec<Id> {
    let visible = visible(table, table.head);
    let found = filter.scan(table, table.head, visible.as_ref());
    found.iter().map(|slot| &table.slots[slot as usize].id).filter(|id| !gone.contains(id)).cloned().collect()
}

struct ByFilterLimit {
    operation: &'static str,
    rows_max: usize,
    allow_partial: bool,
}

impl ByFilterLimit {
    fn apply(&self, mut ids: Vec<Id>, rows_remaining: &mut bool) -> ApiResult<Vec<Id>> {
        if ids.len() > self.rows_max {
            if !self.allow_partial {
                return Err(ApiError::invalid(format!(
                    "{operation} matched {} rows, the limit is {}; set {operation}_allow_partial to write up to it",
                    ids.len(),
                    self.rows_max,
                    operation = self.operation,
                )));
            }
            ids.truncate(self.rows_max);
            *rows_remaining = true;
        }
        Ok(ids)
    }
}

impl Prepared {
    /// The namespace's id type is, or will be, known.
    #[must_use]
    pub fn knows_id_type(&self) -> bool {
        self.meta.as_ref().is_none_or(|meta| meta.schema.id_type.is_some())
    }

    /// The by-filter operations, which conditions and rows of the same request already see done. None when there are
    /// none.
    pub fn first_commit(&mut self, seq: u64, at_ms: i64) -> Option<Commit> {
        if self.filtered_deletes.is_empty() && self.filtered_patch.as_ref().is_none_or(|patch| patch.ids.is_empty()) {
            return None;
        }
        Some(Commit {
            seq,
            at_ms,
            meta: self.meta.take(),
            deletes: self.filtered_deletes.clone(),
            patches: self.filtered_patch.clone().into_iter().collect(),
            puts: Puts::default(),
        })
    }

    /// Everything else, with the conditions decided against the table. The commit is None when nothing is left to do.
    #[must_use]
    pub fn second_commit(mut self, table: &Table, seq: u64, at_ms: i64) -> (Option<Commit>, Outcome) {
        let schema = self.meta.as_ref().map_or(&table.schema, |meta| &meta.schema);
        if let Some(condition) = &self.upsert_condition {
            self.puts = conditional_puts(table, condition, self.puts);
        }
        let condition = self.patch_condition.as_ref();
        self.patches.retain(|patch| patch.ids.iter().all(|id| may_patch(table, condition, id, &patch.changes)));
        if let Some(condition) = &self.delete_condition {
            let may_delete = |id: &Id| table.living(id).is_some_and(|slot| condition.matches(table, slot, None));
            self.deletes.retain(may_delete);
        }

        let mut outcome = Outcome {
            kinds: self.kinds,
            rows_remaining: self.rows_remaining,
            return_ids: self.return_ids,
            upserted: self.puts.rows.iter().map(|(id, _)| id.clone()).collect(),
            ..Outcome::default()
        };
        outcome.written_bytes +=
            self.puts.rows.iter().map(|(id, attrs)| u64::from(row_bytes(schema, id, attrs))).sum::<u64>();
        for patch in self.filtered_patch.iter().chain(&self.patches) {
            outcome.written_bytes += patch_bytes(patch);
            outcome.patched.extend_from_slice(&patch.ids);
        }
        for id in self.filtered_deletes.iter().chain(&self.deletes) {
            outcome.written_bytes += id.logical_bytes() as u64;
            outcome.deleted.push(id.clone());
        }
        let commit =
            Commit { seq, at_ms, meta: self.meta, deletes: self.deletes, patches: self.patches, puts: self.puts };
        let does_something = commit.meta.is_some() || commit.changes_rows();
        (does_something.then_some(commit), outcome)
    }
}

fn patch_bytes(patch: &Patch) -> u64 {
    let changes: usize = patch.changes.iter().map(|(_, value)| value.logical_bytes()).sum();
    patch.ids.iter().map(|id| (id.logical_bytes() + changes) as u64).sum()
}

fn may_patch(table: &Table, condition: Option<&Filter>, id: &Id, changes: &[(usize, Value)]) -> bool {
    let Some(slot) = table.living(id) else { return false };
    condition.is_none_or(|condition| condition.matches(table, slot, Some(&PatchedRow(changes))))
}

/// The puts whose row is absent or meets the condition.
fn conditional_puts(table: &Table, condition: &Filter, puts: Puts) -> Puts {
    let keep: Vec<bool> = (0..puts.rows.len())
        .map(|row| match table.living(&puts.rows[row].0) {
            None => true,
            Some(slot) => condition.matches(table, slot, Some(&PutRow { puts: &puts, row })),
        })
        .collect();
    if keep.iter().all(|keep| *keep) {
        return puts;
    }
    let kept_vector = |column: VectorColumn| VectorColumn {
        components: column
            .components
            .chunks_exact(column.dims)
            .zip(&keep)
            .filter(|(_, keep)| **keep)
            .flat_map(|(vector, _)| vector.iter().copied())
            .collect(),
        ..column
    };
    Puts {
        vectors: puts.vectors.into_iter().map(kept_vector).collect(),
        rows: puts.rows.into_iter().zip(&keep).filter(|(_, keep)| **keep).map(|(row, _)| row).collect(),
    }
}

static NULL: Value = Value::Null;

struct PutRow<'a> {
    puts: &'a Puts,
    row: usize,
}

impl NewRow for PutRow<'_> {
    fn value(&self, ordinal: usize) -> &Value {
        self.puts.rows[self.row].1.get(ordinal).unwrap_or(&NULL)
    }

    fn vector(&self, ordinal: usize) -> Option<&[f32]> {
        self.puts.vector(ordinal, self.row)
    }
}

struct PatchedRow<'a>(&'a [(usize, Value)]);

impl NewRow for PatchedRow<'_> {
    fn value(&self, ordinal: usize) -> &Value {
        self.0.iter().rev().find(|(changed, _)| *changed == ordinal).map_or(&NULL, |(_, value)| value)
    }

    fn vector(&self, _ordinal: usize) -> Option<&[f32]> {
        None
    }
}

impl Outcome {
    /// The body of the answer.
    #[must_use]
    pub fn body(&self, server_total_ms: u64, query_billing_floor_bytes: u64) -> Json {
        let mut body = json!({
            "status": "OK",
            "message": "documents committed successfully",
            "rows_affected": self.upserted.len() + self.patched.len() + self.deleted.len(),
            "billing": {"billable_logical_bytes_written": self.written_bytes},
            "performance": {"server_total_ms": server_total_ms.max(1)},
        });
        let kinds = self.kinds;
        for (kind, present, ids) in [
            ("upserted", kinds.upserts, &self.upserted),
            ("patched", kinds.patches, &self.patched),
            ("deleted", kinds.deletes, &self.deleted),
        ] {
            if present {
                body[format!("rows_{kind}")] = json!(ids.len());
            }
            if self.return_ids && !ids.is_empty() {
                body[format!("{kind}_ids")] = ids.iter().map(|id| id.to_value().to_json()).collect();
            }
        }
        if kinds.by_filter {
            body["rows_remaining"] = json!(self.rows_remaining);
        }
        if kinds.patches || kinds.by_filter || kinds.conditional {
            body["billing"]["query"] = json!({
                "billable_logical_bytes_queried": query_billing_floor_bytes,
                "billable_logical_bytes_returned": 0,
            });
        }
        body
    }
}
