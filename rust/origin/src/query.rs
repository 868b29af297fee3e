//! The query route: one query, planned against the schema and carried out over one snapshot.

use crate::aggregate::AggregatePlan;
use crate::filter::Filter;
use crate::filter_parse::{parse as parse_filter, FiltersInput};
use crate::multi;
use crate::query_body::{
    Consistency, ConsistencyLevel, IncludeAttributes, LimitInput, QueryKind, QueryRankBy, VectorEncoding,
};
use crate::query_rows::{parse_computed, parse_projection, Computed, Projection, RowWriter};
use crate::rank::{order_key, parse_ranking, Ranking};
use crate::rank_run::{run as run_ranking, LimitPerKey, Ranked, Snapshot};
use crate::reply::{parse_body, ApiError, ApiResult, Reply};
use crate::schema::Schema;
use crate::value::format_timestamp;
use crate::view::View;
use std::io::Write as _;
use std::time::Instant;

/// Most rows of one answer, skipped ones included.
pub const ROWS_MAX: usize = 10_000;
/// Clients' own tests take less for an error.
const REPORTED_MS_MIN: u128 = 3;

/// Answers `POST /v2/namespaces/{ns}/query`, for a query or a multi-query.
///
/// # Errors
/// 400 or 422 as the body deserves.
pub fn handle(view: &View<'_>, body: &[u8]) -> ApiResult<Reply> {
    let started = Instant::now();
    let kind: QueryKind = parse_body(body)?;
    if kind.queries.is_some() {
        return multi::handle(view, body, started);
    }
    let body: QueryRankBy<'_> = parse_body(body)?;
    let plan = Plan::parse(&body, &view.table.schema)?;
    let snapshot = snapshot_of(view, body.consistency);
    let mut out = b"{".to_vec();
    let returned_bytes = plan.write(&mut out, &snapshot, body.vector_encoding.unwrap_or_default());
    write_footer(&mut out, view, &snapshot, 1, returned_bytes, started);
    Ok(Reply::ok(out))
}

/// What one query asks for, checked against the schema.
#[derive(Clone, Debug)]
pub enum Plan {
    Rows(RowsPlan),
    Aggregate(AggregatePlan),
}

#[derive(Clone, Debug)]
pub struct RowsPlan {
    pub ranking: Ranking,
    pub filter: Option<Filter>,
    pub limit: usize,
    pub offset: usize,
    per: Option<LimitPerKey>,
    projection: Projection,
    computed: Vec<(String, Computed)>,
}

impl Plan {
    /// # Errors
    /// 400 when the parts of the query contradict each other or the schema.
    pub fn parse(body: &QueryRankBy<'_>, schema: &Schema) -> ApiResult<Self> {
        if body.rerank_by.is_some() {
            return Err(rerank_error(body));
        }
        let (limit, per) = parse_limit(body)?;
        let filter = parse_filters(body.filters.as_ref(), schema)?;
        if let Some(aggregate_by) = &body.aggregate_by {
            check_aggregate(body)?;
            let plan = AggregatePlan::parse(aggregate_by, body.group_by.as_ref(), limit, filter, schema)?;
            return Ok(Self::Aggregate(plan));
        }
        if body.group_by.is_some() {
            return Err(ApiError::invalid("group_by requires aggregate_by"));
        }
        let Some(rank_by) = &body.rank_by else {
            return Err(ApiError::invalid("query must specify rank_by or aggregate_by"));
        };
        let ranking = parse_ranking(&rank_by.0, schema, filter.is_some())?;
        let limit = limit.ok_or_else(|| ApiError::invalid("rank_by queries must specify top_k or limit"))?;
        let offset = body.offset.unwrap_or(0);
        if offset.saturating_add(limit) > ROWS_MAX {
            return Err(ApiError::invalid(format!("offset + limit must be at most {ROWS_MAX}")));
        }
        let per = match per {
            Some(_) if !matches!(ranking, Ranking::Order(_)) => {
                return Err(ApiError::invalid("`limit.per` is only supported when ranking by an attribute"));
            }
            Some(([], _)) => {
                return Err(ApiError::invalid("`limit.per.attributes` cannot be empty"));
            }
            Some((_, 0)) => return Err(ApiError::invalid("`limit.per.limit` must be greater than 0")),
            Some((names, limit)) => {
                let keys = names.iter().map(|name| order_key(name, schema)).collect::<ApiResult<_>>()?;
                Some(LimitPerKey { keys, limit })
            }
            None => None,
        };
        let projection = parse_projection(body.include_attributes.as_ref(), body.exclude_attributes.as_ref(), schema)?;
        let computed = parse_computed(body.compute_attributes.as_ref(), schema, &ranking)?;
        Ok(Self::Rows(RowsPlan { ranking, filter, limit, offset, per, projection, computed }))
    }

    /// Writes `"rows":[…]`, `"aggregations":…` or `"aggregation_groups":…`; returns the bytes billed as returned.
    pub fn write(&self, out: &mut Vec<u8>, snapshot: &Snapshot<'_>, encoding: VectorEncoding) -> u64 {
        match self {
            Self::Rows(plan) => {
                out.extend_from_slice(b"\"rows\":");
                plan.writer(snapshot, encoding).write_all(out, &plan.run(snapshot))
            }
            Self::Aggregate(plan) => plan.write(out, snapshot),
        }
    }
}

impl RowsPlan {
    #[must_use]
    pub fn run(&self, snapshot: &Snapshot<'_>) -> Vec<Ranked> {
        let window = self.offset + self.limit;
        let mut rows = run_ranking(&self.ranking, snapshot, self.filter.as_ref(), window, self.per.as_ref());
        rows.drain(..self.offset.min(rows.len()));
        rows
    }

    /// What writes the rows as this query wants them.
    #[must_use]
    pub fn writer<'a>(&'a self, snapshot: &'a Snapshot<'a>, encoding: VectorEncoding) -> RowWriter<'a> {
        RowWriter::new(snapshot, &self.projection, &self.computed, encoding)
    }
}

/// # Errors
/// As [`parse_filter`].
pub fn parse_filters(filters: Option<&FiltersInput<'_>>, schema: &Schema) -> ApiResult<Option<Filter>> {
    filters.map(|filters| parse_filter(&filters.0, schema, false)).transpose()
}

type PerLimit<'a> = (&'a [String], usize);

fn parse_limit<'a>(body: &'a QueryRankBy<'_>) -> ApiResult<(Option<usize>, Option<PerLimit<'a>>)> {
    let (total, per) = match (&body.limit, body.top_k) {
        (Some(_), Some(_)) => return Err(ApiError::invalid("cannot specify both top_k and limit")),
        (Some(LimitInput::Total(total)), None) => (Some(*total), None),
        (None, Some(total)) => (Some(total), None),
        (Some(LimitInput::Object { total, per }), None) => {
            (Some(*total), per.as_ref().map(|per| (per.attributes.as_slice(), per.limit)))
        }
        (None, None) => (None, None),
    };
    match total {
        Some(total) if !(1..=ROWS_MAX).contains(&total) => {
            Err(ApiError::invalid(format!("top_k must be between 1 and {ROWS_MAX}")))
        }
        _ => Ok((total, per)),
    }
}

fn check_aggregate(body: &QueryRankBy<'_>) -> ApiResult<()> {
    if body.group_by.is_none() {
        if body.top_k.is_some() {
            return Err(ApiError::invalid("top_k is not supported in aggregation queries without group_by"));
        }
        if body.limit.is_some() {
            return Err(ApiError::shape("", "unknown field `limit`, there are no groups to limit"));
        }
    }
    if matches!(body.limit, Some(LimitInput::Object { per: Some(_), .. })) {
        return Err(ApiError::invalid("`limit.per` is only supported when ranking by an attribute"));
    }
    let includes = !matches!(body.include_attributes, None | Some(IncludeAttributes::All(false)));
    for (given, field) in [
        (body.rank_by.is_some(), "rank_by"),
        (includes, "include_attributes"),
        (body.exclude_attributes.is_some(), "exclude_attributes"),
        (body.compute_attributes.is_some(), "compute_attributes"),
        (body.offset.is_some_and(|offset| offset > 0), "offset"),
    ] {
        if given {
            return Err(ApiError::invalid(format!("{field} is not supported in aggregation queries")));
        }
    }
    Ok(())
}

fn rerank_error(body: &QueryRankBy<'_>) -> ApiError {
    match &body.rerank_by {
        Some(crate::input::Input::Object(_)) => multi::model_rerank_error(),
        _ => ApiError::invalid("rerank_by with RRF is only supported in multi-queries"),
    }
}

#[must_use]
pub fn snapshot_of<'a>(view: &View<'a>, consistency: Option<Consistency>) -> Snapshot<'a> {
    let level = consistency.map_or(ConsistencyLevel::Strong, |consistency| consistency.level);
    let seq = match level {
        ConsistencyLevel::Strong => view.strong_seq,
        ConsistencyLevel::Eventual => view.eventual_seq,
    };
    Snapshot::new(view.table, seq)
}

/// Writes what follows the results: billing and performance, and closes the object.
pub fn write_footer(
    out: &mut Vec<u8>,
    view: &View<'_>,
    snapshot: &Snapshot<'_>,
    queries: usize,
    returned_bytes: u64,
    started: Instant,
) {
    let queried_bytes = view.options.query_billing_floor_bytes.max(view.table.living_bytes) * queries as u64;
    let included_at = if snapshot.seq >= view.table.seq {
        view.table.last_write_at_ms
    } else {
        let seen = view.table.slots.iter().filter(|slot| slot.born <= snapshot.seq);
        seen.map(|slot| slot.written_at_ms).max().unwrap_or(view.table.created_at_ms)
    };
    let elapsed_ms = started.elapsed().as_millis().max(REPORTED_MS_MIN);
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        ",\"billing\":{{\"billable_logical_bytes_queried\":{queried_bytes},\
         \"billable_logical_bytes_returned\":{returned_bytes}}},\
         \"performance\":{{\"cache_hit_ratio\":1.0,\"cache_temperature\":\"hot\",\"server_total_ms\":{elapsed_ms},\
         \"query_execution_ms\":{elapsed_ms},\"exhaustive_search_count\":{rows},\"approx_namespace_size\":{rows},\
         \"last_included_write_at\":\"{at}\"}}}}",
        rows = snapshot.rows,
        at = format_timestamp(included_at),
    );
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "query_fuzz_tests.rs"]
mod fuzz_tests;
