//! Metadata of a namespace, shown and changed.

use crate::apply::{LagReport, Pinning, Settings, State};
use crate::reply::{ApiError, ApiResult};
use crate::schema_json::show_v2;
use crate::value::format_timestamp;
use crate::write_body::{MetadataBody, UpdatePinningInput};
use serde_json::{json, Value as Json};

/// Shows metadata. A namespace with fewer than `index_rows_min` rows has no index yet, and so no approximate sizes.
#[must_use]
pub fn show(state: &State, lag: LagReport, index_rows_min: usize) -> Json {
    let table = &state.table;
    let (rows, bytes) =
        if table.living_rows >= index_rows_min { (table.living_rows, table.living_bytes) } else { (0, 0) };
    let index = if lag.rows == 0 {
        json!({"status": "up-to-date"})
    } else {
        json!({"status": "updating", "unindexed_bytes": lag.bytes, "unindexed_rows": lag.rows})
    };
    let mut body = json!({
        "schema": show_v2(&table.schema, table.metric),
        "approx_row_count": rows,
        "approx_logical_bytes": bytes,
        "created_at": format_timestamp(table.created_at_ms),
        "updated_at": format_timestamp(table.updated_at_ms),
        "last_write_at": format_timestamp(table.last_write_at_ms),
        "encryption": {"mode": "default"},
        "index": index,
    });
    let settings = &state.settings;
    if settings.read_only {
        body["read_only"] = json!(true);
    }
    if let Some(num_shards) = settings.num_shards {
        body["sharding"] = json!({"num_shards": num_shards});
    }
    if let Some(parent) = &settings.branch_parent {
        body["branching"] = json!({"parent": parent});
    }
    if let Some(pinning) = &settings.pinning {
        body["pinning"] = json!({
            "replicas": pinning.replicas,
            "status": {
                "ready_replicas": pinning.replicas,
                "replicas": pinning.replicas,
                "updated_at": format_timestamp(pinning.updated_at_ms),
                "utilization": 0.0,
            },
        });
    }
    body
}

/// The settings after an update.
///
/// # Errors
/// 400: zero replicas.
pub fn update(old: &Settings, body: &MetadataBody, now_ms: i64) -> ApiResult<Settings> {
    let mut settings = old.clone();
    let replicas = match &body.pinning {
        None => settings.pinning.as_ref().map(|pinning| pinning.replicas),
        Some(UpdatePinningInput::Null(()) | UpdatePinningInput::Flag(false)) => None,
        Some(UpdatePinningInput::Flag(true)) => Some(1),
        Some(UpdatePinningInput::Replicas { replicas: 0 }) => {
            return Err(ApiError::invalid("replicas must be greater than 0"));
        }
        Some(UpdatePinningInput::Replicas { replicas }) => Some(*replicas),
    };
    if replicas != settings.pinning.as_ref().map(|pinning| pinning.replicas) {
        settings.pinning = replicas.map(|replicas| Pinning { replicas, updated_at_ms: now_ms });
    }
    if let Some(read_only) = body.read_only {
        settings.read_only = read_only;
    }
    Ok(settings)
}
