//! Everything that changes a namespace: writes, copies, schema and settings.

use crate::apply::{Commit, Meta, State};
use crate::engine::{Inner, Namespace, Operation, Writer};
use crate::metadata;
use crate::namespaces::check_name;
use crate::reply::{parse_body, ApiError, ApiResult, Reply};
use crate::schema_json::{merge, show_v1, SchemaContext};
use crate::store::rows_at;
use crate::store_codec::{CommitsWriter, Record};
use crate::value::format_timestamp;
use crate::wal::{frame, PENDING_BYTES_SOFT_MAX};
use crate::write::{prepare, Outcome};
use crate::write_body::{MetadataBody, SchemaInput, Source, WriteBody};
use serde_json::{json, Value as Json};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Instant;

/// Finished operations that are remembered.
const OPERATIONS_MAX: usize = 1024;

#[cfg(test)]
thread_local! {
    /// Makes the next write of this thread panic between its two commits.
    pub(crate) static FAIL_BETWEEN_COMMITS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(test)]
fn fail_when_told() {
    assert!(!FAIL_BETWEEN_COMMITS.take(), "told to fail between the two commits of a write");
}

/// The times of the writes to one namespace never go back.
fn write_time(inner: &Inner, state: &State) -> i64 {
    inner.now_ms().max(state.table.updated_at_ms)
}

fn refuse_read_only(name: &str, state: &State) -> ApiResult<()> {
    if state.settings.read_only {
        return Err(ApiError::invalid(format!("namespace '{name}' is read-only")));
    }
    Ok(())
}

fn milliseconds_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A copy's source and what it is called in messages.
struct CopyRequest {
    source: Source,
    field: &'static str,
    is_branch: bool,
}

impl Inner {
    /// `POST /v2/namespaces/{name}`.
    pub fn write(&self, name: &str, body: &[u8]) -> ApiResult<Reply> {
        let started = Instant::now();
        let body: WriteBody<'_> = parse_body(body)?;
        if let Some(copy) = copy_request(&body)? {
            return Ok(Reply::json(200, &self.copy(name, &copy, started)?));
        }
        let writes_documents = body.upsert_rows.as_ref().is_some_and(|rows| !rows.is_empty())
            || body.upsert_columns.as_ref().is_some_and(|columns| !columns.ids.0.is_empty());
        let may_create = body.create_namespace.unwrap_or(writes_documents);
        let (namespace, ticket, seq, outcome) = self.with_writer(name, may_create, |namespace, writer| {
            let (ticket, seq, outcome) = self.write_locked(namespace, writer, &body, writes_documents)?;
            Ok((Arc::clone(namespace), ticket, seq, outcome))
        })?;
        self.publish(&namespace, ticket, seq)?;
        let floor = self.options.query.query_billing_floor_bytes;
        Ok(Reply::json(200, &outcome.body(milliseconds_since(started), floor)))
    }

    fn write_locked(
        &self,
        namespace: &Arc<Namespace>,
        writer: &mut Writer,
        body: &WriteBody<'_>,
        writes_documents: bool,
    ) -> ApiResult<(u64, u64, Outcome)> {
        let (mut prepared, head, at_ms) = {
            let state = namespace.state.read();
            refuse_read_only(&namespace.name, &state)?;
            let at_ms = write_time(self, &state);
            let prepared = prepare(body, &state, at_ms, self.options.limits)?;
            if state.table.head == 0 && !writes_documents && !prepared.knows_id_type() {
                return Err(ApiError::invalid("creating an empty namespace requires the type of `id` in `schema`"));
            }
            (prepared, state.table.head, at_ms)
        };
        let mut record = CommitsWriter::new(&namespace.name, namespace.incarnation, false);
        let mut seq = head;
        if let Some(first) = prepared.first_commit(seq + 1, at_ms) {
            seq += 1;
            record.push(&first);
            namespace.state.write().apply(first);
        }
        let computed = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            fail_when_told();
            prepared.second_commit(&namespace.state.read().table, seq + 1, at_ms)
        }));
        let (second, outcome) = match computed {
            Ok(computed) => computed,
            Err(panic) => {
                // The first commit is in memory already. A log without it would refuse every later write at recovery.
                if seq > head {
                    self.commit(namespace, writer, record, None)?;
                }
                resume_unwind(panic);
            }
        };
        if let Some(second) = &second {
            seq += 1;
            record.push(second);
        }
        let ticket = self.commit(namespace, writer, record, second)?;
        Ok((ticket, seq, outcome))
    }

    /// Copies a namespace into one that has no rows.
    fn copy(&self, name: &str, copy: &CopyRequest, started: Instant) -> ApiResult<Json> {
        let source_name = &copy.source.source_namespace;
        check_name(source_name).map_err(|error| ApiError { plain: false, ..error })?;
        if source_name == name {
            return Err(ApiError::invalid(format!("{} cannot name the destination itself", copy.field)));
        }
        if let Some(key) = copy.source.dest_encryption.as_ref().and_then(|encryption| encryption.key_name()) {
            return Err(ApiError::invalid(format!("Malformed Cloud KMS crypto key: {key}")));
        }
        if let Some(region) = &copy.source.source_region {
            return Err(ApiError::invalid(format!("source_region '{region}' cannot be reached from here")));
        }
        let source = self.existing(source_name)?;
        if self.lookup(name).is_some_and(|namespace| namespace.exists()) {
            return Err(ApiError::invalid("destination namespace already exists"));
        }
        // Compaction would move the source's slots. Taken before the writer's lock, as checkpoints do.
        let no_compaction = self.manifest.lock();
        let (namespace, ticket, seq, written_bytes) = self.with_writer(name, true, |namespace, writer| {
            if namespace.state.read().table.head > 0 {
                return Err(ApiError::invalid("destination namespace already exists"));
            }
            let (ticket, seq, written_bytes) = self.copy_locked(&source, namespace, writer, copy.is_branch)?;
            Ok((Arc::clone(namespace), ticket, seq, written_bytes))
        })?;
        drop(no_compaction);
        self.publish(&namespace, ticket, seq)?;
        let rows = namespace.state.read().table.living_rows;
        Ok(json!({
            "status": "OK",
            "message": "namespace cloned successfully",
            "rows_affected": rows,
            "billing": {"billable_logical_bytes_written": written_bytes},
            "performance": {"server_total_ms": milliseconds_since(started).max(1)},
        }))
    }

    fn copy_locked(
        &self,
        source: &Arc<Namespace>,
        namespace: &Arc<Namespace>,
        writer: &mut Writer,
        is_branch: bool,
    ) -> ApiResult<(u64, u64, u64)> {
        let copied = self.copy_parts(source, namespace, writer, is_branch);
        if copied.is_err() && namespace.state.read().table.head > 0 {
            let record = Record::Delete { namespace: namespace.name.clone(), incarnation: namespace.incarnation };
            self.log.append(&frame(&record.encode()))?;
            self.forget(namespace, writer);
        }
        copied
    }

    /// Logs and applies the copy a part at a time; without its last part none of it counts. Readers and writers of the
    /// source go on in between.
    fn copy_parts(
        &self,
        source: &Arc<Namespace>,
        namespace: &Arc<Namespace>,
        writer: &mut Writer,
        is_branch: bool,
    ) -> ApiResult<(u64, u64, u64)> {
        let (at_seq, end, mut meta) = {
            let state = source.state.read();
            (state.table.seq, state.table.slots.len(), state.meta())
        };
        let at_ms = self.now_ms();
        meta.settings.read_only = false;
        meta.settings.pinning = None;
        meta.settings.branch_parent = is_branch.then(|| source.name.clone());
        let schema = meta.schema.clone();
        let meta = Meta { created_at_ms: at_ms, updated_at_ms: at_ms, last_write_at_ms: at_ms, ..meta };
        let (mut seq, mut start, mut meta) = (0, 0, Some(meta));
        loop {
            let (puts, next) = {
                let state = source.state.read();
                if state.table.schema != schema {
                    return Err(ApiError::new(409, "the source's schema changed while it was copied, try again"));
                }
                rows_at(&state, at_seq, start)
            };
            start = next;
            seq += 1;
            let more = start < end;
            let commit = Commit { seq, at_ms, meta: meta.take(), puts, ..Commit::default() };
            let mut record = CommitsWriter::new(&namespace.name, namespace.incarnation, more);
            record.push(&commit);
            let ticket = self.commit(namespace, writer, record, Some(commit))?;
            if !more {
                let written_bytes = namespace.state.read().table.living_bytes;
                return Ok((ticket, seq, written_bytes));
            }
            if self.log.pending_bytes() > PENDING_BYTES_SOFT_MAX {
                self.log.wait(ticket)?;
            }
        }
    }

    /// `POST /v2/namespaces/{name}/async`: the copy is done before the token is answered, so the first poll finds it
    /// finished.
    pub fn start_copy(&self, name: &str, body: &[u8]) -> ApiResult<Reply> {
        let started = Instant::now();
        let start_ms = self.now_ms();
        let body: WriteBody<'_> = parse_body(body)?;
        let Some(copy) = copy_request(&body)? else {
            return Err(ApiError::invalid("only copy_from_namespace can be started asynchronously"));
        };
        let result = match self.copy(name, &copy, started) {
            Ok(success) => json!({"success": success}),
            Err(error) => json!({"error": {"status_code": error.status, "detail": error.detail()}}),
        };
        let mut operations = self.operations.lock();
        let number = operations.back().map_or(0, |operation| operation.number + 1);
        let token = format!("op-{start_ms:x}-{number:x}");
        if operations.len() == OPERATIONS_MAX {
            operations.pop_front();
        }
        operations.push_back(Operation {
            namespace: name.to_owned(),
            number,
            token: token.clone(),
            report: json!({
                "status": "finished",
                "start_time": format_timestamp(start_ms),
                "finish_time": format_timestamp(self.now_ms()),
                "result": result,
            }),
        });
        Ok(Reply::json(200, &json!({"token": token})))
    }

    /// `GET /v1/namespaces/{name}/operations/{token}`.
    pub fn operation(&self, name: &str, token: &str) -> ApiResult<Reply> {
        let operations = self.operations.lock();
        let found = operations.iter().find(|operation| operation.token == token && operation.namespace == name);
        match found {
            Some(operation) => Ok(Reply::json(200, &operation.report)),
            None => Err(ApiError::new(404, format!("🤷 operation '{token}' was not found"))),
        }
    }

    /// `POST /v1/namespaces/{name}/schema`.
    pub fn update_schema(&self, name: &str, body: &[u8]) -> ApiResult<Reply> {
        let changes: SchemaInput = parse_body(body)?;
        let shown = self.change_meta(
            name,
            |meta, at_ms| {
                let old = meta.schema.clone();
                merge(&mut meta.schema, &changes.0, SchemaContext { metric: meta.metric, is_old: true })?;
                if meta.settings.read_only {
                    return Err(ApiError::invalid(format!("namespace '{name}' is read-only")));
                }
                if meta.schema != old {
                    meta.updated_at_ms = at_ms;
                }
                Ok(())
            },
            |state, _| show_v1(&state.table.schema),
        )?;
        Ok(Reply::json(200, &shown))
    }

    /// `PATCH /v1/namespaces/{name}/metadata`.
    pub fn update_metadata(&self, name: &str, body: &[u8]) -> ApiResult<Reply> {
        let body: MetadataBody = parse_body(body)?;
        let shown = self.change_meta(
            name,
            |meta, at_ms| {
                meta.settings = metadata::update(&meta.settings, &body, at_ms)?;
                Ok(())
            },
            |state, namespace| {
                metadata::show(state, self.lag_report(namespace, state), self.options.query.index_rows_min)
            },
        )?;
        Ok(Reply::json(200, &shown))
    }

    fn change_meta(
        &self,
        name: &str,
        change: impl Fn(&mut Meta, i64) -> ApiResult<()>,
        show: impl Fn(&State, &Namespace) -> Json,
    ) -> ApiResult<Json> {
        let (namespace, ticket, seq) = self.with_writer(name, false, |namespace, writer| {
            let (old, head, at_ms) = {
                let state = namespace.state.read();
                (state.meta(), state.table.head, write_time(self, &state))
            };
            let mut meta = old.clone();
            change(&mut meta, at_ms)?;
            let mut record = CommitsWriter::new(&namespace.name, namespace.incarnation, false);
            if meta == old {
                return Ok((Arc::clone(namespace), self.commit(namespace, writer, record, None)?, head));
            }
            let commit = Commit { seq: head + 1, at_ms, meta: Some(meta), ..Commit::default() };
            record.push(&commit);
            Ok((Arc::clone(namespace), self.commit(namespace, writer, record, Some(commit))?, head + 1))
        })?;
        self.publish(&namespace, ticket, seq)?;
        let state = namespace.state.read();
        Ok(show(&state, &namespace))
    }
}

/// The copy or branch that a body asks for; it then may ask for nothing else.
fn copy_request(body: &WriteBody<'_>) -> ApiResult<Option<CopyRequest>> {
    let (source, field, is_branch) = match (&body.copy_from_namespace, &body.branch_from_namespace) {
        (None, None) => return Ok(None),
        (Some(source), None) => (source, "copy_from_namespace", false),
        (None, Some(source)) => (source, "branch_from_namespace", true),
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("copy_from_namespace cannot be used with other write request fields"));
        }
    };
    if body.has_fields_beside_copy() {
        return Err(ApiError::invalid(format!("{field} cannot be used with other write request fields")));
    }
    if let Some(key) = body.encryption.as_ref().and_then(|encryption| encryption.key_name()) {
        return Err(ApiError::invalid(format!("Malformed Cloud KMS crypto key: {key}")));
    }
    Ok(Some(CopyRequest { source: source.clone().source(), field, is_branch }))
}
