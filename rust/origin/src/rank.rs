//! What `rank_by` asks for, with names and types resolved.

use crate::analyze::{Analysis, PRE_TOKENIZED};
use crate::filter::Filter;
use crate::filter_parse::{has_filter_shape, items, member, parse, text_query, TextQueryError, TEXT_QUERY_BYTES_MAX};
use crate::fts::TokenQuery;
use crate::input::{Input, VectorError};
use crate::reply::{ApiError, ApiResult};
use crate::schema::{Attribute, Schema};
use crate::value::{parse_datetime, AttrType, Scalar, Value};

/// Deepest nesting of score functions.
const EXPRESSION_DEPTH_MAX: usize = 32;

#[derive(Clone, Debug)]
pub enum Ranking {
    /// Nearest vectors first.
    Nearest {
        ordinal: usize,
        query: Vec<f32>,
    },
    /// Highest score first.
    Score(Expression),
    Order(Vec<(OrderKey, Direction)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKey {
    Id,
    Attribute(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

#[derive(Clone, Debug)]
pub enum Expression {
    Constant(f64),
    Bm25 {
        ordinal: usize,
        query: TokenQuery,
    },
    /// Dot product; the query's entries are sorted by dimension.
    Sparse {
        ordinal: usize,
        query: Box<[(u32, f32)]>,
    },
    /// 1 where the filter matches, else 0.
    Match(Filter),
    /// The attribute's number; nothing where it is null.
    Attribute(usize),
    Sum(Vec<Expression>),
    Max(Vec<Expression>),
    Product(Vec<Expression>),
    /// `xᵉ/(xᵉ+mᵉ)`
    Saturate {
        of: Box<Expression>,
        midpoint: f64,
        exponent: f64,
    },
    /// `mᵉ/(xᵉ+mᵉ)`
    Decay {
        of: Box<Expression>,
        midpoint: f64,
        exponent: f64,
    },
    /// Absolute distance from the origin.
    Distance {
        of: Box<Expression>,
        origin: f64,
    },
}

impl Expression {
    /// Whether a document with a total score of zero is a document that did not match: some part of the expression is
    /// a search (text, sparse, filter). Expressions of attributes alone rank every document.
    #[must_use]
    pub fn has_search(&self) -> bool {
        match self {
            Self::Bm25 { .. } | Self::Sparse { .. } | Self::Match(_) => true,
            Self::Constant(_) | Self::Attribute(_) => false,
            Self::Sum(parts) | Self::Max(parts) | Self::Product(parts) => parts.iter().any(Self::has_search),
            Self::Saturate { of, .. } | Self::Decay { of, .. } | Self::Distance { of, .. } => of.has_search(),
        }
    }
}

/// Resolves a ranking.
///
/// # Errors
/// 400 when an attribute is missing or cannot be ranked by, or an argument is of the wrong type.
pub fn parse_ranking(input: &Input<'_>, schema: &Schema, has_filters: bool) -> ApiResult<Ranking> {
    let Input::Array(parts) = input else { return Err(shape_error()) };
    match parts.as_slice() {
        [] => Err(ApiError::invalid("rank_by cannot be empty")),
        [Input::Array(_), ..] => {
            let orders = parts.iter().map(|part| match part {
                Input::Array(pair) => parse_order(pair, schema),
                _ => Err(shape_error()),
            });
            Ok(Ranking::Order(orders.collect::<ApiResult<_>>()?))
        }
        [Input::Str(_), Input::Str(second)] if second == "asc" || second == "desc" => {
            Ok(Ranking::Order(vec![parse_order(parts, schema)?]))
        }
        [Input::Str(name), Input::Str(operator), query] if operator == "ANN" || operator == "kNN" => {
            if operator == "kNN" && !has_filters {
                return Err(ApiError::invalid("kNN requires filters"));
            }
            let (ordinal, query) = parse_vector_query(name, query, schema)?;
            Ok(Ranking::Nearest { ordinal, query })
        }
        _ => Ok(Ranking::Score(parse_expression(input, schema)?)),
    }
}

/// Resolves a score expression.
///
/// # Errors
/// As [`parse_ranking`].
pub fn parse_expression(input: &Input<'_>, schema: &Schema) -> ApiResult<Expression> {
    Parser { schema }.expression(input, Sign::Unsigned, 0)
}

/// The attribute and the components of a query vector, whose length must fit.
///
/// # Errors
/// As [`parse_ranking`].
pub fn parse_vector_query(name: &str, query: &Input<'_>, schema: &Schema) -> ApiResult<(usize, Vec<f32>)> {
    let (ordinal, attribute) = find(name, schema)?;
    let AttrType::Vector { dims, .. } = attribute.kind else {
        return Err(ApiError::invalid(format!(
            "attribute \"{name}\" is not a vector attribute, it is {}",
            attribute.kind
        )));
    };
    if let Input::Array(parts) = query {
        match parts.first() {
            Some(Input::Str(function)) if function == "Embed" => {
                let reason = format!("cannot embed the query: attribute \"{name}\" has no embedding model configured");
                return Err(ApiError::invalid(reason));
            }
            Some(Input::Floats(_) | Input::Ints(_) | Input::Array(_)) => {
                let reason =
                    format!("multi-vector queries need a late interaction attribute, \"{name}\" is {}", attribute.kind);
                return Err(ApiError::invalid(reason));
            }
            _ => {}
        }
    }
    let vector = query.vector().map_err(|problem| {
        let reason = match problem {
            VectorError::NotAVector => format!("invalid input '{}'", query.shown()),
            VectorError::BadBase64 => "invalid base64".to_owned(),
            VectorError::NotFinite => "a component that is not finite".to_owned(),
        };
        ApiError::invalid(format!("{reason} for rank_by field \"{name}\", expecting {}", attribute.kind))
    })?;
    if vector.len() != dims as usize {
        return Err(ApiError::invalid(format!(
            "vector dimension mismatch for rank_by field \"{name}\", expected {dims}, got {}",
            vector.len()
        )));
    }
    Ok((ordinal, vector))
}

fn shape_error() -> ApiError {
    ApiError::shape("rank_by", "data did not match any variant of enum a valid variant of RankInput")
}

fn find<'s>(name: &str, schema: &'s Schema) -> ApiResult<(usize, &'s Attribute)> {
    match schema.ordinal(name) {
        Some(ordinal) => Ok((ordinal, &schema.attributes[ordinal])),
        None => Err(ApiError::invalid(format!("attribute \"{name}\" not found in schema"))),
    }
}

fn parse_order(pair: &[Input<'_>], schema: &Schema) -> ApiResult<(OrderKey, Direction)> {
    let [Input::Str(name), Input::Str(direction)] = pair else { return Err(shape_error()) };
    let direction = match direction.as_ref() {
        "asc" => Direction::Ascending,
        "desc" => Direction::Descending,
        _ => return Err(shape_error()),
    };
    Ok((order_key(name, schema)?, direction))
}

/// The key that a name sorts or groups by.
///
/// # Errors
/// 400 when there is no such attribute, or it is an array, a vector or not filterable.
pub fn order_key(name: &str, schema: &Schema) -> ApiResult<OrderKey> {
    if name == "id" {
        return Ok(OrderKey::Id);
    }
    let (ordinal, attribute) = find(name, schema)?;
    if !matches!(attribute.kind, AttrType::Scalar(_)) {
        return Err(ApiError::invalid(format!("cannot order by attribute \"{name}\" of type {}", attribute.kind)));
    }
    if !attribute.filterable {
        return Err(ApiError::invalid(format!("cannot order by attribute \"{name}\", it is not filterable")));
    }
    Ok(OrderKey::Attribute(ordinal))
}

/// Whether the place in the expression can bear negative numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Signed,
    Unsigned,
}

struct Parser<'s> {
    schema: &'s Schema,
}

impl Parser<'_> {
    fn expression(&self, input: &Input<'_>, sign: Sign, depth: usize) -> ApiResult<Expression> {
        if depth > EXPRESSION_DEPTH_MAX {
            return Err(ApiError::invalid(format!("rank_by is nested deeper than {EXPRESSION_DEPTH_MAX} levels")));
        }
        if let Some(number) = number(input) {
            if number < 0.0 && sign == Sign::Unsigned {
                return Err(ApiError::invalid(format!("constants in rank_by must be non-negative, got {number}")));
            }
            return Ok(Expression::Constant(number));
        }
        let Input::Array(parts) = input else { return Err(shape_error()) };
        match parts.as_slice() {
            [Input::Str(name), Input::Str(operator), query, rest @ ..] if operator == "BM25" && rest.len() <= 1 => {
                self.bm25(name, query, rest.first())
            }
            [Input::Str(name), Input::Str(operator), query] if operator == "SparseKNN" => self.sparse(name, query),
            [Input::Str(name), Input::Str(operator), ..] if operator == "ANN" || operator == "kNN" => {
                Err(ApiError::invalid(format!("{operator} on \"{name}\" cannot be part of a score expression")))
            }
            _ if has_filter_shape(input, 0) => Ok(Expression::Match(parse(input, self.schema, false)?)),
            [Input::Str(name), arguments @ ..] => self.function(name, arguments, sign, depth),
            _ => Err(shape_error()),
        }
    }

    fn function(&self, name: &str, arguments: &[Input<'_>], sign: Sign, depth: usize) -> ApiResult<Expression> {
        match (name, arguments) {
            ("Sum", _) => Ok(Expression::Sum(self.parts(arguments, sign, depth)?)),
            ("Max", _) => {
                // A constant floor makes signed numbers safe.
                let floored = operands(arguments).iter().any(|part| number(part).is_some_and(|floor| floor >= 0.0));
                let sign = if floored { Sign::Signed } else { sign };
                Ok(Expression::Max(self.parts(arguments, sign, depth)?))
            }
            ("Product", [left, right]) => {
                for weight in [left, right] {
                    if number(weight).is_some_and(|weight| weight < 0.0) {
                        return Err(ApiError::invalid("Product weights must be non-negative"));
                    }
                }
                let (left, right) = (self.expression(left, sign, depth + 1)?, self.expression(right, sign, depth + 1)?);
                Ok(Expression::Product(vec![left, right]))
            }
            ("Attribute", [Input::Str(name)]) => self.attribute(name, sign),
            ("Saturate" | "Decay", [of, params]) => {
                let of = Box::new(self.expression(of, Sign::Signed, depth + 1)?);
                let (midpoint, exponent) = curve(name, params)?;
                Ok(if name == "Saturate" {
                    Expression::Saturate { of, midpoint, exponent }
                } else {
                    Expression::Decay { of, midpoint, exponent }
                })
            }
            ("Dist", [of, origin]) => {
                let of = Box::new(self.expression(of, Sign::Signed, depth + 1)?);
                let origin = match origin {
                    Input::Str(text) => parse_datetime(text).map(|ms| ms as f64),
                    other => number(other),
                };
                let reason = || ApiError::invalid("Dist expects a number or a datetime as its origin");
                Ok(Expression::Distance { of, origin: origin.ok_or_else(reason)? })
            }
            _ => Err(shape_error()),
        }
    }

    fn parts(&self, arguments: &[Input<'_>], sign: Sign, depth: usize) -> ApiResult<Vec<Expression>> {
        let parts = operands(arguments);
        if parts.is_empty() {
            return Err(shape_error());
        }
        parts.iter().map(|part| self.expression(part, sign, depth + 1)).collect()
    }

    fn attribute(&self, name: &str, sign: Sign) -> ApiResult<Expression> {
        let (ordinal, attribute) = find(name, self.schema)?;
        match attribute.kind {
            AttrType::Scalar(Scalar::Uint | Scalar::Bool) => {}
            AttrType::Scalar(Scalar::Int | Scalar::Float | Scalar::Datetime) if sign == Sign::Signed => {}
            AttrType::Scalar(Scalar::Int | Scalar::Float | Scalar::Datetime) => {
                return Err(ApiError::invalid(format!(
                    "scores must be non-negative: wrap the signed attribute \"{name}\" in [\"Max\", [0, ...]], Saturate \
                     or Decay"
                )));
            }
            kind => return Err(ApiError::invalid(format!("attribute \"{name}\" of type {kind} is not a number"))),
        }
        if !attribute.filterable {
            return Err(ApiError::invalid(format!("cannot rank by attribute \"{name}\", it is not filterable")));
        }
        Ok(Expression::Attribute(ordinal))
    }

    fn bm25(&self, name: &str, query: &Input<'_>, params: Option<&Input<'_>>) -> ApiResult<Expression> {
        let (ordinal, attribute) = find(name, self.schema)?;
        let Some(config) = &attribute.full_text_search else {
            return Err(ApiError::invalid(format!("attribute \"{name}\" does not have full_text_search enabled")));
        };
        let text = text_query(query, config.tokenizer == PRE_TOKENIZED).map_err(|problem| match problem {
            TextQueryError::Expected(kind) => ApiError::invalid(format!(
                "invalid input '{}' for rank_by field \"{name}\", expecting {kind}",
                query.shown()
            )),
            TextQueryError::TooLong => ApiError::invalid(format!(
                "the query for rank_by field \"{name}\" is longer than {TEXT_QUERY_BYTES_MAX} bytes"
            )),
        })?;
        let last_as_prefix = match params.map(|params| (params, member(params, "last_as_prefix"))) {
            None | Some((Input::Object(_), None)) => false,
            Some((_, Some(Input::Bool(flag)))) => *flag,
            Some(_) => return Err(ApiError::invalid("BM25 parameter `last_as_prefix` expects bool")),
        };
        let analysis = Analysis::new(config).map_err(ApiError::invalid)?;
        Ok(Expression::Bm25 { ordinal, query: TokenQuery { tokens: analysis.query_tokens(&text), last_as_prefix } })
    }

    fn sparse(&self, name: &str, query: &Input<'_>) -> ApiResult<Expression> {
        let (ordinal, attribute) = find(name, self.schema)?;
        if attribute.kind != AttrType::Sparse || !attribute.sparse_knn {
            return Err(ApiError::invalid(format!("attribute \"{name}\" does not have sparse_knn enabled")));
        }
        match query.to_value(AttrType::Sparse) {
            Some(Value::Sparse(query)) => Ok(Expression::Sparse { ordinal, query }),
            _ => Err(ApiError::invalid(format!(
                "invalid input '{}' for rank_by field \"{name}\", expecting {}",
                query.shown(),
                attribute.kind
            ))),
        }
    }
}

/// The operands of a function that takes a list, or the list's elements as its arguments.
fn operands<'a>(arguments: &[Input<'a>]) -> Vec<Input<'a>> {
    if let [only] = arguments {
        match items(only) {
            Some(listed) if !matches!(listed.first(), Some(Input::Str(_))) => return listed,
            _ => {}
        }
    }
    arguments.to_vec()
}

fn number(input: &Input<'_>) -> Option<f64> {
    match input {
        Input::Int(number) => Some(*number as f64),
        Input::Uint(number) => Some(*number as f64),
        Input::Float(number) => Some(*number),
        _ => None,
    }
}

fn curve(name: &str, params: &Input<'_>) -> ApiResult<(f64, f64)> {
    let positive = |key: &str, found: Option<f64>| {
        found
            .filter(|number| *number > 0.0 && number.is_finite())
            .ok_or_else(|| ApiError::invalid(format!("{name} expects a positive `{key}`")))
    };
    let midpoint = member(params, "midpoint").and_then(|midpoint| match midpoint {
        Input::Str(text) => duration_ms(text),
        other => number(other),
    });
    let exponent = member(params, "exponent").map_or(Some(1.0), number);
    Ok((positive("midpoint", midpoint)?, positive("exponent", exponent)?))
}

/// Milliseconds of `"<n>{s,m,h,d,w}"`.
fn duration_ms(text: &str) -> Option<f64> {
    let unit_ms = match text.chars().last()? {
        's' => 1_000.0,
        'm' => 60_000.0,
        'h' => 3_600_000.0,
        'd' => 86_400_000.0,
        'w' => 604_800_000.0,
        _ => return None,
    };
    let count: f64 = text[..text.len() - 1].parse().ok()?;
    Some(count * unit_ms)
}
