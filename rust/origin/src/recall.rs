//! The recall route: the search that queries use, compared with the distances of all rows.

use crate::filter_parse::FiltersInput;
use crate::knn::Probe;
use crate::query::{parse_filters, ROWS_MAX};
use crate::query_body::{RankInput, VectorEncoding};
use crate::query_rows::{Projection, RowWriter};
use crate::rank::{parse_ranking, Ranking};
use crate::rank_run::{run, Ranked, Snapshot};
use crate::reply::{parse_body, ApiError, ApiResult, Reply};
use crate::table::Metric;
use crate::value::{write_json_f64, write_json_vector};
use crate::view::View;
use hashbrown::HashSet;

const SAMPLES_DEFAULT: usize = 25;
const SAMPLES_MAX: usize = 200;
const TOP_K_DEFAULT: usize = 10;

#[derive(Default, serde::Deserialize)]
struct RecallBody<'a> {
    num: Option<usize>,
    top_k: Option<usize>,
    #[serde(borrow, default)]
    filters: Option<FiltersInput<'a>>,
    #[serde(borrow, default)]
    rank_by: Option<RankInput<'a>>,
    include_ground_truth: Option<bool>,
}

/// Answers `POST /v1/namespaces/{ns}/_debug/recall`. An empty body asks for the defaults.
///
/// # Errors
/// 400 or 422 as the body deserves.
pub fn handle(view: &View<'_>, body: &[u8]) -> ApiResult<Reply> {
    let body: RecallBody<'_> = if body.is_empty() { RecallBody::default() } else { parse_body(body)? };
    let schema = &view.table.schema;
    if body.rank_by.is_some() && body.num.is_some_and(|num| num != 1) {
        return Err(ApiError::invalid("rank_by and num cannot be specified together"));
    }
    let samples = body.num.unwrap_or(SAMPLES_DEFAULT);
    if !(1..=SAMPLES_MAX).contains(&samples) {
        return Err(ApiError::invalid(format!("samples must be between 1 and {SAMPLES_MAX}")));
    }
    let top_k = body.top_k.unwrap_or(TOP_K_DEFAULT);
    if !(1..=ROWS_MAX).contains(&top_k) {
        return Err(ApiError::invalid(format!("top_k must be between 1 and {ROWS_MAX}")));
    }
    let filter = parse_filters(body.filters.as_ref(), schema)?;
    let snapshot = Snapshot::new(view.table, view.strong_seq);
    let (ordinal, queries) = match &body.rank_by {
        Some(rank_by) => match parse_ranking(&rank_by.0, schema, filter.is_some())? {
            Ranking::Nearest { ordinal, query } => (ordinal, vec![query]),
            _ => return Err(ApiError::invalid("recall can only be measured for a vector rank_by")),
        },
        None => {
            let ordinal = schema.vectors().next().map(|(ordinal, _, _)| ordinal);
            let ordinal = ordinal.ok_or_else(|| ApiError::invalid("recall requires a vector attribute"))?;
            (ordinal, sample_vectors(&snapshot, ordinal, samples))
        }
    };
    let candidates = snapshot.candidates(filter.as_ref());
    let projection = Projection(vec![ordinal]);
    let writer = RowWriter::new(&snapshot, &projection, &[], VectorEncoding::Float);
    let (mut recall, mut exhaustive_count, mut search_count) = (0.0, 0, 0);
    let mut ground_truth = Vec::new();
    for query in &queries {
        let ranking = Ranking::Nearest { ordinal, query: query.clone() };
        let found = run(&ranking, &snapshot, filter.as_ref(), top_k, None);
        let slots = candidates.as_ref().map_or_else(|| all_slots(&snapshot), |bitmap| bitmap.iter().collect());
        let truth = nearest_of_all(&snapshot, ordinal, query, slots, top_k);
        recall += overlap(&found, &truth);
        exhaustive_count += truth.len();
        search_count += found.len();
        if body.include_ground_truth == Some(true) {
            ground_truth.extend_from_slice(if ground_truth.is_empty() { b"{" } else { b",{" });
            ground_truth.extend_from_slice(b"\"query_vector\":");
            write_json_vector(&mut ground_truth, query);
            ground_truth.extend_from_slice(b",\"nearest_neighbors\":");
            writer.write_all(&mut ground_truth, &truth);
            ground_truth.push(b'}');
        }
    }
    let runs = queries.len().max(1) as f64;
    let mut out = b"{\"avg_recall\":".to_vec();
    write_json_f64(&mut out, if queries.is_empty() { 1.0 } else { recall / runs });
    out.extend_from_slice(b",\"avg_exhaustive_count\":");
    write_json_f64(&mut out, exhaustive_count as f64 / runs);
    out.extend_from_slice(b",\"avg_ann_count\":");
    write_json_f64(&mut out, search_count as f64 / runs);
    if body.include_ground_truth == Some(true) {
        out.extend_from_slice(b",\"ground_truth\":[");
        out.extend_from_slice(&ground_truth);
        out.push(b']');
    }
    out.push(b'}');
    Ok(Reply::ok(out))
}

fn all_slots(snapshot: &Snapshot<'_>) -> Vec<u32> {
    (0..u32::try_from(snapshot.table.slots.len()).unwrap_or(u32::MAX)).collect()
}

/// Vectors of rows at even distances, so that a repeated call measures the same searches.
fn sample_vectors(snapshot: &Snapshot<'_>, ordinal: usize, samples: usize) -> Vec<Vec<f32>> {
    let stride = snapshot.rows.div_ceil(samples).max(1);
    let slots = snapshot.visible.as_ref().map_or_else(|| all_slots(snapshot), |bitmap| bitmap.iter().collect());
    let vectors = slots.iter().step_by(stride).filter_map(|slot| snapshot.table.vector(*slot, ordinal));
    vectors.map(<[f32]>::to_vec).collect()
}

fn nearest_of_all(
    snapshot: &Snapshot<'_>,
    ordinal: usize,
    query: &[f32],
    slots: Vec<u32>,
    top_k: usize,
) -> Vec<Ranked> {
    let table = snapshot.table;
    let probe = Probe::new(query, table.metric.unwrap_or(Metric::Cosine));
    let mut rows: Vec<(f32, u32)> = slots
        .into_iter()
        .filter_map(|slot| table.vector(slot, ordinal).map(|vector| (probe.distance(vector), slot)))
        .collect();
    let nearer = |left: &(f32, u32), right: &(f32, u32)| {
        let id = |row: &(f32, u32)| &table.slots[row.1 as usize].id;
        left.0.total_cmp(&right.0).then_with(|| id(left).cmp(id(right)))
    };
    if rows.len() > top_k {
        rows.select_nth_unstable_by(top_k - 1, nearer);
        rows.truncate(top_k);
    }
    rows.sort_unstable_by(nearer);
    rows.into_iter().map(|(distance, slot)| Ranked { slot, score: Some(distance) }).collect()
}

/// The share of the true neighbours that were found; 1 when there are none.
fn overlap(found: &[Ranked], truth: &[Ranked]) -> f64 {
    if truth.is_empty() {
        return 1.0;
    }
    let found: HashSet<u32> = found.iter().map(|row| row.slot).collect();
    truth.iter().filter(|row| found.contains(&row.slot)).count() as f64 / truth.len() as f64
}
