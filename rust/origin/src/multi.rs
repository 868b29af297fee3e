//! Multi-queries: several queries over one snapshot, their results side by side or fused by reciprocal rank.

use crate::filter_parse::{items, member};
use crate::input::Input;
use crate::query::{snapshot_of, write_footer, Plan, RowsPlan, ROWS_MAX};
use crate::query_body::{LimitInput, MultiQuery, QueryRankBy, VectorEncoding};
use crate::rank_run::{Ranked, Snapshot};
use crate::reply::{parse_body, ApiError, ApiResult, Reply};
use crate::view::View;
use hashbrown::HashMap;
use std::time::Instant;

/// Most queries that one namespace runs at once, and so most parts of a multi-query.
const QUERIES_MAX: usize = 16;
const RANK_CONSTANT_DEFAULT: f64 = 60.0;

/// # Errors
/// 400 or 422 as the body deserves.
pub fn handle(view: &View<'_>, body: &[u8], started: Instant) -> ApiResult<Reply> {
    let body: MultiQuery<'_> = parse_body(body)?;
    let plans = parse_plans(view, &body)?;
    let fusion = Fusion::parse(&body, plans.len())?;
    let snapshot = snapshot_of(view, body.consistency);
    let encoding = body.vector_encoding.unwrap_or_default();
    let mut out = b"{\"results\":[".to_vec();
    let mut returned_bytes = 0;
    match fusion {
        Some(fusion) => returned_bytes += fusion.write(&mut out, &snapshot, &plans, encoding)?,
        None => {
            for (index, plan) in plans.iter().enumerate() {
                out.extend_from_slice(if index > 0 { b",{" } else { b"{" });
                returned_bytes += plan.write(&mut out, &snapshot, encoding);
                out.push(b'}');
            }
        }
    }
    out.push(b']');
    write_footer(&mut out, view, &snapshot, plans.len(), returned_bytes, started);
    Ok(Reply::ok(out))
}

fn parse_plans(view: &View<'_>, body: &MultiQuery<'_>) -> ApiResult<Vec<Plan>> {
    if body.queries.is_empty() {
        return Err(ApiError::invalid("must send at least one sub-query"));
    }
    if body.queries.len() > QUERIES_MAX {
        return Err(ApiError::invalid(format!(
            "multi-query exceeds per-namespace concurrency budget: requires {} permits, max is {QUERIES_MAX} (see \
             https://turbopuffer.com/docs/limits)",
            body.queries.len()
        )));
    }
    let parse = |query: &QueryRankBy<'_>| {
        for (given, field) in
            [(query.vector_encoding.is_some(), "vector_encoding"), (query.consistency.is_some(), "consistency")]
        {
            if given {
                return Err(ApiError::invalid(format!("{field} must be set on the multi-query, not on a sub-query")));
            }
        }
        Plan::parse(query, &view.table.schema)
    };
    body.queries.iter().map(parse).collect()
}

/// The refusal of what this server has no models for.
#[must_use]
pub fn model_rerank_error() -> ApiError {
    ApiError::invalid(
        "rerank_by: model reranking is not available for this namespace, no reranking model is configured",
    )
}

/// Reciprocal rank fusion: a row's score is `Σ wᵢ/(k+rankᵢ)` over the lists that it is in, ranks from 1.
/// Source: Cormack, Clarke and Büttcher, SIGIR 2009.
struct Fusion {
    rank_constant: f64,
    weights: Vec<f64>,
    /// None: all fused rows.
    limit: Option<usize>,
    offset: usize,
}

impl Fusion {
    fn parse(body: &MultiQuery<'_>, lists: usize) -> ApiResult<Option<Self>> {
        let Some(rerank_by) = &body.rerank_by else {
            return match body.offset {
                Some(offset) if offset > 0 => Err(ApiError::invalid("offset on a multi-query requires rerank_by")),
                _ => Ok(None),
            };
        };
        if matches!(rerank_by, Input::Object(_)) {
            return Err(model_rerank_error());
        }
        let shape = || ApiError::shape("rerank_by", "data did not match any variant of untagged enum RerankByInput");
        let Input::Array(parts) = rerank_by else { return Err(shape()) };
        let params = match parts.as_slice() {
            [Input::Str(name)] if name == "RRF" => None,
            [Input::Str(name), params @ Input::Object(_)] if name == "RRF" => Some(params),
            _ => return Err(shape()),
        };
        let limit = match &body.limit {
            None => None,
            Some(LimitInput::Object { per: Some(_), .. }) => {
                return Err(ApiError::invalid("`limit.per` is only supported when ranking by an attribute"));
            }
            Some(LimitInput::Total(total) | LimitInput::Object { total, per: None }) => Some(*total),
        };
        if limit.is_some_and(|limit| !(1..=ROWS_MAX).contains(&limit)) {
            return Err(ApiError::invalid(format!("limit must be between 1 and {ROWS_MAX}")));
        }
        let offset = body.offset.unwrap_or(0);
        if offset > 0 && limit.is_none() {
            return Err(ApiError::invalid("offset on a multi-query requires limit"));
        }
        if offset.saturating_add(limit.unwrap_or(0)) > ROWS_MAX {
            return Err(ApiError::invalid(format!("offset + limit must be at most {ROWS_MAX}")));
        }
        let rank_constant = match params.and_then(|params| member(params, "rank_constant")) {
            None => RANK_CONSTANT_DEFAULT,
            Some(constant) => number(constant)
                .filter(|constant| *constant > 0.0)
                .ok_or_else(|| ApiError::invalid("RRF rank_constant must be greater than 0"))?,
        };
        let weights = match params.and_then(|params| member(params, "weights")) {
            None => vec![1.0; lists],
            Some(weights) => {
                let weights: Option<Vec<f64>> = items(weights).and_then(|weights| weights.iter().map(number).collect());
                let weights = weights.filter(|weights| weights.iter().all(|weight| *weight > 0.0));
                weights.ok_or_else(|| ApiError::invalid("RRF weights must be positive numbers"))?
            }
        };
        if weights.len() != lists {
            return Err(ApiError::invalid(format!(
                "RRF weights must match the number of sub-queries, expected {lists}, got {}",
                weights.len()
            )));
        }
        Ok(Some(Self { rank_constant, weights, limit, offset }))
    }

    /// Writes the one fused result. A row shows what the first list that it is in asked for.
    fn write(
        &self,
        out: &mut Vec<u8>,
        snapshot: &Snapshot<'_>,
        plans: &[Plan],
        encoding: VectorEncoding,
    ) -> ApiResult<u64> {
        let mut lists: Vec<&RowsPlan> = Vec::with_capacity(plans.len());
        for plan in plans {
            match plan {
                Plan::Rows(plan) => lists.push(plan),
                Plan::Aggregate(_) => {
                    return Err(ApiError::invalid("rerank_by requires every sub-query to have a rank_by"));
                }
            }
        }
        let mut fused: HashMap<u32, (f64, usize)> = HashMap::new();
        for (list, (plan, weight)) in lists.iter().zip(&self.weights).enumerate() {
            for (index, row) in plan.run(snapshot).into_iter().enumerate() {
                let (score, _) = fused.entry(row.slot).or_insert((0.0, list));
                *score += weight / (self.rank_constant + (index + 1) as f64);
            }
        }
        #[allow(clippy::cast_possible_truncation)] // Scores are answered as singles.
        let mut rows: Vec<(f32, u32, usize)> =
            fused.into_iter().map(|(slot, (score, list))| (score as f32, slot, list)).collect();
        rows.sort_unstable_by(|left, right| {
            let id = |row: &(f32, u32, usize)| &snapshot.table.slots[row.1 as usize].id;
            right.0.total_cmp(&left.0).then_with(|| id(left).cmp(id(right)))
        });
        let writers: Vec<_> = lists.iter().map(|plan| plan.writer(snapshot, encoding)).collect();
        let shown = rows.iter().skip(self.offset).take(self.limit.unwrap_or(ROWS_MAX));
        let mut bytes = 0;
        out.extend_from_slice(b"{\"rows\":[");
        for (index, (score, slot, list)) in shown.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let row = Ranked { slot: *slot, score: Some(*score) };
            bytes += writers[*list].write(out, row);
        }
        out.extend_from_slice(b"]}");
        Ok(bytes)
    }
}

fn number(input: &Input<'_>) -> Option<f64> {
    match input {
        Input::Uint(number) => Some(*number as f64),
        Input::Int(number) => Some(*number as f64),
        Input::Float(number) => Some(*number),
        _ => None,
    }
}
