//! The explain route: how a query would be carried out, in words.

use crate::query::Plan;
use crate::query_body::{ConsistencyLevel, MultiQuery, QueryKind, QueryRankBy};
use crate::rank::{Expression, OrderKey, Ranking};
use crate::reply::{parse_body, ApiError, ApiResult, Reply};
use crate::schema::Schema;
use crate::view::View;
use serde_json::json;

/// Answers `POST /v2/namespaces/{ns}/explain_query`.
///
/// # Errors
/// 400 when the namespace is too small to have an index; 400 or 422 as the query deserves.
pub fn handle(view: &View<'_>, body: &[u8]) -> ApiResult<Reply> {
    let schema = &view.table.schema;
    let kind: QueryKind = parse_body(body)?;
    let (plans, consistency) = if kind.queries.is_some() {
        let body: MultiQuery<'_> = parse_body(body)?;
        let plans = body.queries.iter().map(|query| Plan::parse(query, schema)).collect::<ApiResult<Vec<_>>>()?;
        (plans, body.consistency)
    } else {
        let body: QueryRankBy<'_> = parse_body(body)?;
        (vec![Plan::parse(&body, schema)?], body.consistency)
    };
    if !view.is_indexed() {
        return Err(ApiError::invalid("index does not exist, cannot explain"));
    }
    let eventual = consistency.is_some_and(|consistency| consistency.level == ConsistencyLevel::Eventual);
    let sequence = if eventual { view.eventual_seq } else { view.strong_seq };
    let mut lines = vec![format!("Snapshot at sequence {sequence}, {} rows", view.table.living_rows)];
    for plan in &plans {
        describe(plan, schema, &mut lines);
    }
    Ok(Reply::json(200, &json!({"plan_text": lines.join("\n")})))
}

fn describe(plan: &Plan, schema: &Schema, lines: &mut Vec<String>) {
    match plan {
        Plan::Aggregate(plan) => {
            lines.push("Aggregate".to_owned());
            lines.push(format!("  {}", filter_line(plan.filter.is_some())));
        }
        Plan::Rows(plan) => {
            lines.push(format!("TopK limit={} offset={}", plan.limit, plan.offset));
            describe_ranking(&plan.ranking, schema, lines);
            lines.push(format!("  {}", filter_line(plan.filter.is_some())));
        }
    }
}

fn filter_line(filtered: bool) -> &'static str {
    if filtered {
        "Scan rows that meet the filters"
    } else {
        "Scan all rows"
    }
}

fn describe_ranking(ranking: &Ranking, schema: &Schema, lines: &mut Vec<String>) {
    let name = |ordinal: usize| schema.attributes[ordinal].name.as_str();
    match ranking {
        Ranking::Nearest { ordinal, query } => {
            lines.push(format!("  Exact vector distance on {} ({} dimensions)", name(*ordinal), query.len()));
        }
        Ranking::Score(expression) => describe_expression(expression, schema, 1, lines),
        Ranking::Order(orders) => {
            let keys = orders.iter().map(|(key, direction)| match key {
                OrderKey::Id => format!("id {direction:?}"),
                OrderKey::Attribute(ordinal) => format!("{} {direction:?}", name(*ordinal)),
            });
            lines.push(format!("  Order by {}", keys.collect::<Vec<_>>().join(", ")));
        }
    }
}

fn describe_expression(expression: &Expression, schema: &Schema, depth: usize, lines: &mut Vec<String>) {
    let name = |ordinal: usize| schema.attributes[ordinal].name.as_str();
    let (line, parts): (String, &[Expression]) = match expression {
        Expression::Constant(number) => (format!("Constant {number}"), &[]),
        Expression::Bm25 { ordinal, query } => {
            let terms: Vec<&str> = query.tokens.iter().map(|token| token.text.as_str()).collect();
            (format!("BM25 on {} for [{}]", name(*ordinal), terms.join(", ")), &[])
        }
        Expression::Sparse { ordinal, query } => {
            (format!("Sparse dot product on {} ({} dimensions)", name(*ordinal), query.len()), &[])
        }
        Expression::Match(_) => ("Filter match".to_owned(), &[]),
        Expression::Attribute(ordinal) => (format!("Attribute {}", name(*ordinal)), &[]),
        Expression::Sum(parts) => ("Sum".to_owned(), parts),
        Expression::Max(parts) => ("Max".to_owned(), parts),
        Expression::Product(parts) => ("Product".to_owned(), parts),
        Expression::Saturate { of, midpoint, exponent } => {
            (format!("Saturate midpoint={midpoint} exponent={exponent}"), std::slice::from_ref(&**of))
        }
        Expression::Decay { of, midpoint, exponent } => {
            (format!("Decay midpoint={midpoint} exponent={exponent}"), std::slice::from_ref(&**of))
        }
        Expression::Distance { of, origin } => (format!("Distance from {origin}"), std::slice::from_ref(&**of)),
    };
    lines.push(format!("{}{line}", "  ".repeat(depth)));
    parts.iter().for_each(|part| describe_expression(part, schema, depth + 1, lines));
}
