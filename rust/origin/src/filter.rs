//! Filters: a typed condition on a row, and whether a row meets it.
//!
//! Parsing (`filter_parse`) resolves attributes and types, so evaluation cannot fail. The negated operators are plain
//! complements: a null attribute fails `Eq x` and therefore meets `NotEq x`.

use crate::analyze::Analysis;
use crate::filter_bitmap::Bitmap;
use crate::filter_fuzzy::Fuzzy;
use crate::fts::{text_matches, TokenQuery, TokenRule};
use crate::table::Table;
use crate::value::{Id, Value};
use globset::GlobMatcher;
use regex::Regex;
use std::cmp::Ordering;

pub use crate::filter_parse::{parse, FiltersInput};

/// The row that a conditional write brings, for `{"$ref_new": …}`.
pub trait NewRow {
    /// Null if the row does not set the attribute.
    fn value(&self, ordinal: usize) -> &Value;
    fn vector(&self, ordinal: usize) -> Option<&[f32]>;
}

/// A condition on a row whose attributes and types fit the schema that it was parsed against.
#[derive(Clone, Debug)]
pub struct Filter {
    pub(crate) root: Node,
    /// The token conditions in the tree; each knows its place among them.
    pub(crate) token_leaves: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Always(bool),
    Id(IdTest),
    Attribute(usize, Test),
    Vector(usize, VectorOperand),
}

#[derive(Clone, Debug)]
pub(crate) enum IdTest {
    /// Sorted.
    In(Vec<Id>),
    Compare(Comparison, Id),
    Pattern(TextTest),
}

#[derive(Clone, Debug)]
pub(crate) enum Test {
    Eq(Operand),
    Compare(Comparison, Operand),
    /// Some element of the array.
    AnyCompare(Comparison, Operand),
    Contains(Operand),
    /// The value, or some element of the array, is in this sorted list.
    In(Vec<Value>),
    Pattern(TextTest),
    Tokens {
        leaf: usize,
        query: TokenQuery,
        rule: TokenRule,
        analysis: Analysis,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum TextTest {
    Glob(GlobMatcher),
    Regex(Regex),
    /// None: the pattern is too short for any of the thresholds.
    Fuzzy(Option<Fuzzy>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Lt,
    Lte,
    Gt,
    Gte,
}

#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Value(Value),
    RefNew(usize),
}

#[derive(Clone, Debug)]
pub(crate) enum VectorOperand {
    /// `["vector", "Eq", null]`
    Null,
    Value(Vec<f32>),
    RefNew(usize),
}

/// One row and what its evaluation may look at.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub table: &'a Table,
    pub slot: u32,
    pub new: Option<&'a dyn NewRow>,
    /// Per token condition the slots that meet it, when an index has been asked; else the text is analysed.
    pub tokens: Option<&'a [Bitmap]>,
}

impl Filter {
    /// Whether the row in `slot` meets the condition. `new` is the row being written, if there is one; without it
    /// every `$ref_new` is null.
    #[must_use]
    pub fn matches(&self, table: &Table, slot: u32, new: Option<&dyn NewRow>) -> bool {
        self.root.matches(Row { table, slot, new, tokens: None })
    }
}

impl Node {
    pub(crate) fn matches(&self, row: Row<'_>) -> bool {
        match self {
            Node::And(nodes) => nodes.iter().all(|node| node.matches(row)),
            Node::Or(nodes) => nodes.iter().any(|node| node.matches(row)),
            Node::Not(node) => !node.matches(row),
            Node::Always(answer) => *answer,
            Node::Id(test) => test.matches(&row.table.slots[row.slot as usize].id),
            Node::Attribute(ordinal, test) => test.matches(row.table.value(row.slot, *ordinal), row),
            Node::Vector(ordinal, operand) => {
                let stored = row.table.vector(row.slot, *ordinal);
                match operand {
                    VectorOperand::Null => stored.is_none(),
                    VectorOperand::Value(vector) => stored == Some(vector),
                    VectorOperand::RefNew(other) => stored == row.new.and_then(|new| new.vector(*other)),
                }
            }
        }
    }
}

impl IdTest {
    fn matches(&self, id: &Id) -> bool {
        match self {
            IdTest::In(ids) => ids.binary_search(id).is_ok(),
            IdTest::Compare(comparison, operand) => comparison.holds(id.cmp(operand)),
            IdTest::Pattern(test) => matches!(id, Id::Str(text) if test.matches(text)),
        }
    }
}

impl Test {
    fn matches(&self, value: &Value, row: Row<'_>) -> bool {
        match self {
            Test::Eq(operand) => equal(value, operand.value(row)),
            Test::Compare(comparison, operand) => compare_with_null(*comparison, value, operand.value(row)),
            Test::AnyCompare(comparison, operand) => {
                let operand = operand.value(row);
                !matches!(operand, Value::Null)
                    && elements(value).iter().any(|element| compare_with_null(*comparison, element, operand))
            }
            Test::Contains(operand) => {
                let operand = operand.value(row);
                elements(value).iter().any(|element| equal(element, operand))
            }
            Test::In(list) => match value {
                Value::Null => false,
                Value::Array(elements) => elements.iter().any(|element| is_in(list, element)),
                scalar => is_in(list, scalar),
            },
            Test::Pattern(test) => match value {
                Value::Str(text) => test.matches(text),
                Value::Array(elements) => {
                    elements.iter().any(|element| matches!(element, Value::Str(text) if test.matches(text)))
                }
                _ => false,
            },
            Test::Tokens { leaf, query, rule, analysis } => match row.tokens {
                Some(bitmaps) => bitmaps[*leaf].get(row.slot),
                None => text_matches(analysis, value, query, *rule),
            },
        }
    }
}

impl TextTest {
    fn matches(&self, text: &str) -> bool {
        match self {
            TextTest::Glob(glob) => glob.is_match(text),
            TextTest::Regex(regex) => regex.is_match(text),
            TextTest::Fuzzy(fuzzy) => fuzzy.as_ref().is_some_and(|fuzzy| fuzzy.matches(text)),
        }
    }
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Comparison::Lt => ordering == Ordering::Less,
            Comparison::Lte => ordering != Ordering::Greater,
            Comparison::Gt => ordering == Ordering::Greater,
            Comparison::Gte => ordering != Ordering::Less,
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, row: Row<'a>) -> &'a Value {
        match self {
            Operand::Value(value) => value,
            Operand::RefNew(ordinal) => row.new.map_or(&Value::Null, |new| new.value(*ordinal)),
        }
    }
}

fn elements(value: &Value) -> &[Value] {
    match value {
        Value::Array(elements) => elements,
        _ => &[],
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    left == right
}

fn is_in(sorted: &[Value], value: &Value) -> bool {
    sorted.binary_search_by(|item| compare(item, value)).is_ok()
}

/// Null counts as smaller than every value: it meets `Lt` and `Lte`, and `Gt null` asks for presence.
fn compare_with_null(comparison: Comparison, value: &Value, operand: &Value) -> bool {
    comparison.holds(compare(value, operand))
}

/// The order of attribute values: nulls first, numbers by size, strings by bytes, false before true. Values of
/// different kinds never meet here; their order is arbitrary but total.
#[must_use]
pub fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Str(left), Value::Str(right)) => left.cmp(right),
        (Value::Int(left), Value::Int(right)) | (Value::Datetime(left), Value::Datetime(right)) => left.cmp(right),
        (Value::Uint(left), Value::Uint(right)) => left.cmp(right),
        // Minus zero equals zero, as `==` has it.
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right).unwrap_or_else(|| left.total_cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Uuid(left), Value::Uuid(right)) => left.cmp(right),
        (Value::Array(left), Value::Array(right)) => {
            let unequal = left.iter().zip(right.iter()).map(|(left, right)| compare(left, right));
            unequal.fold(Ordering::Equal, Ordering::then).then_with(|| left.len().cmp(&right.len()))
        }
        _ => kind_rank(left).cmp(&kind_rank(right)),
    }
}

fn kind_rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Int(_) => 2,
        Value::Uint(_) => 3,
        Value::Float(_) => 4,
        Value::Datetime(_) => 5,
        Value::Uuid(_) => 6,
        Value::Str(_) => 7,
        Value::Array(_) => 8,
        Value::Sparse(_) => 9,
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
