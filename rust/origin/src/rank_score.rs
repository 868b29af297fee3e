//! Scores of slots: an expression made ready for one table and one snapshot.

use crate::filter::{Filter, Row};
use crate::filter_bitmap::Bitmap;
use crate::rank::Expression;
use crate::table::Table;
use crate::value::Value;

/// An expression whose searches have been run, so that a slot's score is a look-up and arithmetic.
pub struct Scorer<'a> {
    table: &'a Table,
    root: Prepared<'a>,
}

enum Prepared<'a> {
    Constant(f64),
    /// By slot; slots beyond the end score zero.
    Scores(Vec<f32>),
    Sparse(usize, &'a [(u32, f32)]),
    Match(&'a Filter, Vec<Bitmap>),
    Attribute(usize),
    Sum(Vec<Prepared<'a>>),
    Max(Vec<Prepared<'a>>),
    Product(Vec<Prepared<'a>>),
    Saturate(Box<Prepared<'a>>, f64, f64),
    Decay(Box<Prepared<'a>>, f64, f64),
    Distance(Box<Prepared<'a>>, f64),
}

impl<'a> Scorer<'a> {
    /// Statistics of text searches are taken over the slots in `visible` (all if None).
    #[must_use]
    pub fn new(expression: &'a Expression, table: &'a Table, visible: Option<&Bitmap>) -> Self {
        Self { table, root: prepare(expression, table, visible) }
    }

    /// The score of a row. A null attribute contributes nothing.
    #[must_use]
    pub fn score(&self, slot: u32) -> f32 {
        #[allow(clippy::cast_possible_truncation)] // Scores are answered as singles.
        let score = self.root.evaluate(self.table, slot).unwrap_or(0.0) as f32;
        // JSON has no infinity.
        score.clamp(f32::MIN, f32::MAX)
    }
}

fn prepare<'a>(expression: &'a Expression, table: &'a Table, visible: Option<&Bitmap>) -> Prepared<'a> {
    let all = |parts: &'a [Expression]| parts.iter().map(|part| prepare(part, table, visible)).collect();
    match expression {
        Expression::Constant(number) => Prepared::Constant(*number),
        Expression::Bm25 { ordinal, query } => {
            Prepared::Scores(table.texts.get(ordinal).map_or_else(Vec::new, |index| index.bm25(query, visible)))
        }
        Expression::Sparse { ordinal, query } => Prepared::Sparse(*ordinal, query),
        Expression::Match(filter) => Prepared::Match(filter, filter.token_bitmaps(table)),
        Expression::Attribute(ordinal) => Prepared::Attribute(*ordinal),
        Expression::Sum(parts) => Prepared::Sum(all(parts)),
        Expression::Max(parts) => Prepared::Max(all(parts)),
        Expression::Product(parts) => Prepared::Product(all(parts)),
        Expression::Saturate { of, midpoint, exponent } => {
            Prepared::Saturate(Box::new(prepare(of, table, visible)), *midpoint, *exponent)
        }
        Expression::Decay { of, midpoint, exponent } => {
            Prepared::Decay(Box::new(prepare(of, table, visible)), *midpoint, *exponent)
        }
        Expression::Distance { of, origin } => Prepared::Distance(Box::new(prepare(of, table, visible)), *origin),
    }
}

impl Prepared<'_> {
    fn evaluate(&self, table: &Table, slot: u32) -> Option<f64> {
        match self {
            Self::Constant(number) => Some(*number),
            Self::Scores(scores) => Some(scores.get(slot as usize).copied().unwrap_or(0.0).into()),
            Self::Sparse(ordinal, query) => match table.value(slot, *ordinal) {
                Value::Sparse(row) => Some(dot(query, row)),
                _ => None,
            },
            Self::Match(filter, tokens) => {
                let row = Row { table, slot, new: None, tokens: Some(tokens) };
                Some(f64::from(u8::from(filter.root.matches(row))))
            }
            Self::Attribute(ordinal) => number(table.value(slot, *ordinal)),
            Self::Sum(parts) => Some(parts.iter().filter_map(|part| part.evaluate(table, slot)).sum()),
            Self::Max(parts) => parts.iter().filter_map(|part| part.evaluate(table, slot)).reduce(f64::max),
            Self::Product(parts) => parts.iter().map(|part| part.evaluate(table, slot)).product(),
            Self::Saturate(of, midpoint, exponent) => {
                let ratio = (of.evaluate(table, slot)?.max(0.0) / midpoint).powf(*exponent);
                Some(if ratio.is_finite() { ratio / (1.0 + ratio) } else { 1.0 })
            }
            Self::Decay(of, midpoint, exponent) => {
                let ratio = (of.evaluate(table, slot)?.max(0.0) / midpoint).powf(*exponent);
                Some(1.0 / (1.0 + ratio))
            }
            Self::Distance(of, origin) => Some((of.evaluate(table, slot)? - origin).abs()),
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) | Value::Datetime(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        _ => None,
    }
}

/// Both sides are sorted by dimension.
fn dot(left: &[(u32, f32)], right: &[(u32, f32)]) -> f64 {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut sum = 0.0;
    while let (Some((left_dim, left_weight)), Some((right_dim, right_weight))) = (left.peek(), right.peek()) {
        match left_dim.cmp(right_dim) {
            std::cmp::Ordering::Less => drop(left.next()),
            std::cmp::Ordering::Greater => drop(right.next()),
            std::cmp::Ordering::Equal => {
                sum += f64::from(*left_weight) * f64::from(*right_weight);
                left.next();
                right.next();
            }
        }
    }
    sum
}
