//! The bodies of the query routes as they arrive: shapes only, no names looked up yet.

use crate::filter_parse::{has_filter_shape, is_operator, FiltersInput};
use crate::input::Input;
use crate::table::Metric;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// One query, alone or inside a multi-query. (The name is the upstream's; it shows in error messages.)
#[derive(Debug, serde::Deserialize)]
pub struct QueryRankBy<'a> {
    #[serde(borrow, default)]
    pub rank_by: Option<RankInput<'a>>,
    #[serde(borrow, default)]
    pub filters: Option<FiltersInput<'a>>,
    pub limit: Option<LimitInput>,
    pub top_k: Option<usize>,
    pub offset: Option<usize>,
    pub include_attributes: Option<IncludeAttributes>,
    pub exclude_attributes: Option<Vec<String>>,
    #[serde(borrow, default)]
    pub aggregate_by: Option<Named<'a>>,
    #[serde(borrow, default)]
    pub group_by: Option<Vec<Input<'a>>>,
    #[serde(borrow, default)]
    pub compute_attributes: Option<Named<'a>>,
    #[serde(borrow, default)]
    pub rerank_by: Option<Input<'a>>,
    /// Redundant: the namespace has one metric. Only its spelling is checked.
    #[allow(dead_code)]
    pub distance_metric: Option<DistanceMetric>,
    pub vector_encoding: Option<VectorEncoding>,
    pub consistency: Option<Consistency>,
}

#[derive(Debug, serde::Deserialize)]
pub struct MultiQuery<'a> {
    #[serde(borrow)]
    pub queries: Vec<QueryRankBy<'a>>,
    pub vector_encoding: Option<VectorEncoding>,
    pub consistency: Option<Consistency>,
    #[serde(borrow, default)]
    pub rerank_by: Option<Input<'a>>,
    pub limit: Option<LimitInput>,
    pub offset: Option<usize>,
}

/// What tells a multi-query from a query.
#[derive(serde::Deserialize)]
pub struct QueryKind {
    pub queries: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistanceMetric {
    CosineDistance,
    EuclideanSquared,
    Euclidean,
}

impl DistanceMetric {
    #[must_use]
    pub fn metric(self) -> Metric {
        match self {
            Self::CosineDistance => Metric::Cosine,
            Self::EuclideanSquared => Metric::EuclideanSquared,
            Self::Euclidean => Metric::Euclidean,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VectorEncoding {
    #[default]
    Float,
    Base64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Consistency {
    pub level: ConsistencyLevel,
    /// Accepted: this server has no cached view that could be older.
    #[allow(dead_code)]
    pub max_staleness_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsistencyLevel {
    Strong,
    Eventual,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub enum LimitInput {
    Total(usize),
    Object { total: usize, per: Option<LimitPer> },
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct LimitPer {
    pub attributes: Vec<String>,
    pub limit: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub enum IncludeAttributes {
    All(bool),
    Names(Vec<String>),
}

/// An object whose keys are the caller's, in the caller's order.
#[derive(Debug, Default)]
pub struct Named<'a>(pub Vec<(String, Input<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Named<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor;
        impl<'de> Visitor<'de> for NamedVisitor {
            type Value = Named<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut named: Vec<(String, Input<'de>)> = Vec::new();
                while let Some((name, value)) = entries.next_entry::<String, Input<'de>>()? {
                    // Of two equal keys the last one counts, as in any JSON object.
                    named.retain(|(known, _)| *known != name);
                    named.push((name, value));
                }
                Ok(Named(named))
            }
        }
        deserializer.deserialize_map(NamedVisitor)
    }
}

/// A ranking in a request body, of which only the shape has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct RankInput<'a>(pub Input<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for RankInput<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let input = Input::deserialize(deserializer)?;
        if has_rank_shape(&input) {
            Ok(Self(input))
        } else {
            Err(D::Error::custom("data did not match any variant of enum a valid variant of RankInput"))
        }
    }
}

/// Names that begin a score expression.
pub const SCORE_FUNCTIONS: [&str; 7] = ["Sum", "Max", "Product", "Attribute", "Saturate", "Decay", "Dist"];
/// Second elements of rankings that are no filters.
const RANK_OPERATORS: [&str; 6] = ["ANN", "kNN", "SparseKNN", "BM25", "asc", "desc"];

/// An empty ranking has a shape; it is refused later, with a message of its own.
fn has_rank_shape(input: &Input<'_>) -> bool {
    let Input::Array(items) = input else { return false };
    match items.as_slice() {
        [] => true,
        [Input::Array(_), ..] => items.iter().all(is_order),
        [Input::Str(_), Input::Str(second), ..] if RANK_OPERATORS.contains(&second.as_ref()) || is_operator(second) => {
            true
        }
        [Input::Str(first), _, ..] if SCORE_FUNCTIONS.contains(&first.as_ref()) => true,
        _ => has_filter_shape(input, 0),
    }
}

fn is_order(input: &Input<'_>) -> bool {
    let Input::Array(items) = input else { return false };
    matches!(items.as_slice(), [Input::Str(_), Input::Str(direction)] if direction == "asc" || direction == "desc")
}

#[cfg(test)]
mod tests {
    use super::{MultiQuery, QueryRankBy};
    use crate::reply::parse_body;

    const PREFIX: &str = "Failed to deserialize the JSON body into the target type: ";

    fn refusal(body: &str) -> (u16, String) {
        let error = parse_body::<QueryRankBy>(body.as_bytes()).expect_err(body);
        (error.status, error.message)
    }

    #[test]
    fn shape_errors_have_the_upstream_texts() {
        for (body, message) in [
            (
                r#"{"consistency":"eventual"}"#,
                r#"consistency: invalid type: string "eventual", expected struct Consistency"#,
            ),
            (
                r#"{"consistency":{"level":"nonexistentvalue"}}"#,
                "consistency.level: unknown variant `nonexistentvalue`, expected `strong` or `eventual`",
            ),
            (r#"{"consistency":{}}"#, "consistency: missing field `level`"),
            (r#"{"vector_encoding":"bad"}"#, "vector_encoding: unknown variant `bad`, expected `float` or `base64`"),
            (r#"{"exclude_attributes":true}"#, "exclude_attributes: invalid type: boolean `true`, expected a sequence"),
            (r#"{"rank_by":"bad"}"#, "rank_by: data did not match any variant of enum a valid variant of RankInput"),
            (
                r#"{"rank_by":["a","b"]}"#,
                "rank_by: data did not match any variant of enum a valid variant of RankInput",
            ),
            (
                r#"{"rank_by":[["a","up"]]}"#,
                "rank_by: data did not match any variant of enum a valid variant of RankInput",
            ),
            (r#"{"limit":"ten"}"#, "limit: data did not match any variant of untagged enum LimitInput"),
            (r#"{"limit":-1}"#, "limit: data did not match any variant of untagged enum LimitInput"),
            (
                r#"{"filters":["a","Like","b"]}"#,
                "filters: data did not match any variant of untagged enum FiltersInput",
            ),
            (r#"{"filters":{}}"#, "filters: data did not match any variant of untagged enum FiltersInput"),
            (r#"{"aggregate_by":[]}"#, "aggregate_by: invalid type: sequence, expected a map"),
        ] {
            let (status, text) = refusal(body);
            assert_eq!(status, 422, "{body}");
            assert!(text.starts_with(&format!("{PREFIX}{message} at line 1 column ")), "{text}");
        }
    }

    #[test]
    fn a_number_as_level_is_a_syntax_error() {
        let (status, text) = refusal(r#"{"consistency":{"level":1}}"#);
        assert_eq!(status, 400);
        assert!(
            text.starts_with("Failed to parse the request body as JSON: consistency.level: expected value"),
            "{text}"
        );
    }

    #[test]
    fn multi_query_shapes_are_checked_by_place() {
        let refusal = |body: &str| parse_body::<MultiQuery>(body.as_bytes()).expect_err(body).message;
        let text = refusal(r#"{"queries":"bad"}"#);
        assert!(
            text.starts_with(&format!("{PREFIX}queries: invalid type: string \"bad\", expected a sequence")),
            "{text}"
        );
        let text = refusal(r#"{"queries":["bad"]}"#);
        assert!(text.contains("queries[0]: invalid type: string \"bad\", expected struct QueryRankBy"), "{text}");
    }

    #[test]
    fn every_ranking_form_has_a_shape() {
        for rank_by in [
            r#"["id","asc"]"#,
            r#"[["a","asc"],["id","desc"]]"#,
            r#"["vector","ANN",[1,2]]"#,
            r#"["vector","kNN","zczMPc3MTD6amZk+"]"#,
            r#"["text","BM25","q",{"last_as_prefix":true}]"#,
            r#"["Sum",[["text","BM25","q"]]]"#,
            r#"["Product",0.5,["text","BM25","q"]]"#,
            r#"["a","Eq",1]"#,
            r#"["Not",["a","Eq",1]]"#,
            "[]",
        ] {
            let body = format!(r#"{{"rank_by":{rank_by}}}"#);
            assert!(parse_body::<QueryRankBy>(body.as_bytes()).is_ok(), "{rank_by}");
        }
    }
}
