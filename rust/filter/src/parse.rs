//! From a filter's JSON text to its tree. Names and types are looked up later, in `compile`.

use crate::error::{Code, FilterError};
use crate::guard;
use serde_json::Value;

/// Deepest nesting of `And`, `Or` and `Not`, as the local origin has it.
pub const FILTER_DEPTH_MAX: usize = 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Lt,
    Lte,
    Gt,
    Gte,
}

/// An operator without its negation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Eq,
    In,
    Contains,
    ContainsAny,
    Compare(Comparison),
    AnyCompare(Comparison),
    Glob { any_case: bool },
    Regex,
    Fuzzy,
}

#[derive(Clone, Debug)]
pub enum Tree {
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Not(Box<Tree>),
    Leaf(Leaf),
}

#[derive(Clone, Debug)]
pub struct Leaf {
    pub key: String,
    /// As it was written, for messages.
    pub name: String,
    pub operator: Operator,
    pub value: Value,
    pub params: Option<Value>,
    pub pointer: String,
}

/// Parses a filter.
///
/// # Errors
/// The text is no JSON, no filter, or over one of the bounds; an operator is unknown or needs a text index.
pub fn parse(text: &[u8]) -> Result<Tree, FilterError> {
    guard::check(text)?;
    let json: Value =
        serde_json::from_slice(text).map_err(|error| FilterError::invalid("", format!("not JSON: {error}")))?;
    node(json, "", 0)
}

const SHAPES: &str = "expected [attribute, operator, value], [\"And\"|\"Or\", [filters…]] or [\"Not\", filter]";

fn node(json: Value, pointer: &str, depth: usize) -> Result<Tree, FilterError> {
    if depth > FILTER_DEPTH_MAX {
        return Err(FilterError::invalid(pointer, format!("filters are nested deeper than {FILTER_DEPTH_MAX} levels")));
    }
    let Value::Array(mut items) = json else { return Err(FilterError::invalid(pointer, SHAPES)) };
    match items.as_slice() {
        [Value::String(name), Value::Array(_)] if name == "And" || name == "Or" => {
            let all = name == "And";
            let Some(Value::Array(nodes)) = items.pop() else { return Err(FilterError::invalid(pointer, SHAPES)) };
            let nodes = nodes
                .into_iter()
                .enumerate()
                .map(|(index, item)| node(item, &format!("{pointer}/1/{index}"), depth + 1))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(if all { Tree::And(nodes) } else { Tree::Or(nodes) })
        }
        [Value::String(name), Value::Array(_)] if name == "Not" => {
            let inner = items.pop().unwrap_or_default();
            Ok(Tree::Not(Box::new(node(inner, &format!("{pointer}/1"), depth + 1)?)))
        }
        [Value::String(_), Value::String(_), _] => leaf(items, pointer),
        [Value::String(_), Value::String(operator), _, Value::Object(_)] => {
            if matches!(operator.as_str(), "Fuzzy" | "ContainsAllTokens" | "ContainsAnyToken") {
                leaf(items, pointer)
            } else {
                let message = format!("`{operator}` takes no parameters");
                Err(FilterError::invalid(&format!("{pointer}/3"), message))
            }
        }
        _ => Err(FilterError::invalid(pointer, SHAPES)),
    }
}

fn leaf(items: Vec<Value>, pointer: &str) -> Result<Tree, FilterError> {
    let mut items = items.into_iter();
    let (Some(Value::String(key)), Some(Value::String(name)), Some(value)) = (items.next(), items.next(), items.next())
    else {
        return Err(FilterError::invalid(pointer, SHAPES));
    };
    let (negated, operator) = operator(&name, pointer)?;
    let leaf = Tree::Leaf(Leaf { key, name, operator, value, params: items.next(), pointer: pointer.to_owned() });
    Ok(if negated { Tree::Not(Box::new(leaf)) } else { leaf })
}

/// Whether it is a negated form, and which operator. Negated forms are plain complements.
fn operator(name: &str, pointer: &str) -> Result<(bool, Operator), FilterError> {
    Ok(match name {
        "Eq" => (false, Operator::Eq),
        "NotEq" => (true, Operator::Eq),
        "In" => (false, Operator::In),
        "NotIn" => (true, Operator::In),
        "Contains" => (false, Operator::Contains),
        "NotContains" => (true, Operator::Contains),
        "ContainsAny" => (false, Operator::ContainsAny),
        "NotContainsAny" => (true, Operator::ContainsAny),
        "Lt" => (false, Operator::Compare(Comparison::Lt)),
        "Lte" => (false, Operator::Compare(Comparison::Lte)),
        "Gt" => (false, Operator::Compare(Comparison::Gt)),
        "Gte" => (false, Operator::Compare(Comparison::Gte)),
        "AnyLt" => (false, Operator::AnyCompare(Comparison::Lt)),
        "AnyLte" => (false, Operator::AnyCompare(Comparison::Lte)),
        "AnyGt" => (false, Operator::AnyCompare(Comparison::Gt)),
        "AnyGte" => (false, Operator::AnyCompare(Comparison::Gte)),
        "Glob" => (false, Operator::Glob { any_case: false }),
        "NotGlob" => (true, Operator::Glob { any_case: false }),
        "IGlob" => (false, Operator::Glob { any_case: true }),
        "NotIGlob" => (true, Operator::Glob { any_case: true }),
        "Regex" => (false, Operator::Regex),
        "Fuzzy" => (false, Operator::Fuzzy),
        "ContainsAllTokens" | "ContainsAnyToken" | "ContainsTokenSequence" => {
            let message = format!("`{name}` needs a text index");
            return Err(FilterError::new(Code::Unsupported, &format!("{pointer}/1"), message));
        }
        other => {
            let shown: String = other.chars().take(64).collect();
            return Err(FilterError::invalid(&format!("{pointer}/1"), format!("unknown operator `{shown}`")));
        }
    })
}
