//! A filter over one segment's columns.

use crate::columns::codes::{self, CodeSet, Codes, Combine};
use crate::columns::domain::{CodeRange, Domain};
use crate::columns::ids::key_of;
use crate::columns::segment::{Arrays, Column, Segment};
use crate::compile::{Filter, Node, ScalarTest, Test};
use crate::parse::Comparison;
use crate::schema::Scalar;
use crate::with_codes;
use std::ops::Range;

/// Domains up to this many values get a table of what each code means to a test; larger ones a sorted list.
const TABLE_VALUES_MAX: u64 = 1 << 24;

/// What is done to a chunk of rows.
#[derive(Debug)]
pub enum Step<'a> {
    Always(bool),
    /// `code - low < span`, wrapping.
    Range {
        codes: Codes<'a>,
        low: u64,
        span: u64,
    },
    Set {
        codes: Codes<'a>,
        set: CodeSet,
    },
    AnyRange {
        codes: Codes<'a>,
        array: Arrays<'a>,
        low: u64,
        span: u64,
    },
    AnySet {
        codes: Codes<'a>,
        array: Arrays<'a>,
        set: CodeSet,
    },
    ArrayNull(&'a [u8]),
    ArrayEqual {
        codes: Codes<'a>,
        array: Arrays<'a>,
        expected: Vec<u64>,
    },
    /// Rows of the segment, by place.
    Rows(Range<usize>),
    /// Sorted.
    RowList(Vec<usize>),
    Not(Box<Step<'a>>),
    And(Vec<Step<'a>>),
    Or(Vec<Step<'a>>),
}

/// Why a filter has no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPlan {
    /// The attribute has no column.
    NoColumn(String),
    /// Asked to stop while a pattern was tried on a dictionary.
    Stopped,
}

/// Plans a filter over a segment. `keep_on` is asked now and then whether the plan is still wanted.
///
/// # Errors
/// See [`NoPlan`].
pub fn plan<'a>(filter: &Filter, segment: &'a Segment, keep_on: &dyn Fn() -> bool) -> Result<Step<'a>, NoPlan> {
    Planner { filter, segment, keep_on }.node(&filter.root)
}

struct Planner<'f, 'a> {
    filter: &'f Filter,
    segment: &'a Segment,
    keep_on: &'f dyn Fn() -> bool,
}

impl<'a> Planner<'_, 'a> {
    fn node(&self, node: &Node) -> Result<Step<'a>, NoPlan> {
        Ok(match node {
            Node::Always(answer) => Step::Always(*answer),
            Node::And(nodes) => self.group(nodes, true)?,
            Node::Or(nodes) => self.group(nodes, false)?,
            Node::Not(node) => negated(self.node(node)?),
            Node::Leaf { attribute, test } => self.leaf(*attribute, test)?,
        })
    }

    /// Cheap steps first; a step that decides alone decides now.
    fn group(&self, nodes: &[Node], all: bool) -> Result<Step<'a>, NoPlan> {
        let mut steps = Vec::with_capacity(nodes.len());
        let mut decided = false;
        for node in nodes {
            match self.node(node)? {
                Step::Always(answer) => decided |= answer != all,
                step => steps.push(step),
            }
        }
        if decided || steps.is_empty() {
            return Ok(Step::Always(all != decided));
        }
        steps.sort_by_key(Step::cost);
        Ok(match (steps.len(), all) {
            (1, _) => steps.swap_remove(0),
            (_, true) => Step::And(steps),
            (_, false) => Step::Or(steps),
        })
    }

    fn leaf(&self, attribute: usize, test: &Test) -> Result<Step<'a>, NoPlan> {
        let used = &self.filter.attributes[attribute];
        if used.is_id() {
            return self.id(test);
        }
        let Some(column) = self.segment.column(used.name.as_str(), used.kind) else {
            return Err(NoPlan::NoColumn(used.name.as_str().to_owned()));
        };
        match (test, column.array) {
            (Test::Null, None) => Ok(range(&column, CodeRange { from: 0, to: 1 })),
            (Test::Null, Some(array)) => {
                Ok(if array.nulls.is_empty() { Step::Always(false) } else { Step::ArrayNull(array.nulls) })
            }
            (Test::Scalar { test: ScalarTest::Compare(comparison, value), null }, None) => {
                Ok(range(&column, column.domain.compare(*comparison, value.borrowed(), *null)))
            }
            (Test::Any(ScalarTest::Compare(comparison, value)), Some(array)) => {
                let codes = column.domain.compare(*comparison, value.borrowed(), false);
                Ok(any_range(&column, array, codes))
            }
            (Test::Scalar { test, .. }, None) => Ok(match self.accepted(&column, test)? {
                Accepted::Range(codes) => range(&column, codes),
                Accepted::Set(set) => Step::Set { codes: column.codes, set },
            }),
            (Test::Any(test), Some(array)) => Ok(match self.accepted(&column, test)? {
                Accepted::Range(codes) => any_range(&column, array, codes),
                Accepted::Set(set) => Step::AnySet { codes: column.codes, array, set },
            }),
            (Test::Equal(expected), Some(array)) => {
                let expected: Option<Vec<u64>> =
                    expected.iter().map(|value| column.domain.find(value.borrowed())).collect();
                Ok(expected.map_or(Step::Always(false), |expected| Step::ArrayEqual {
                    codes: column.codes,
                    array,
                    expected,
                }))
            }
            // A scalar's test on an array's column, or the other way round: the column is of another type.
            _ => Err(NoPlan::NoColumn(used.name.as_str().to_owned())),
        }
    }

    fn accepted(&self, column: &Column<'_>, test: &ScalarTest) -> Result<Accepted, NoPlan> {
        let codes = column.domain.accepted(test, self.keep_on).ok_or(NoPlan::Stopped)?;
        let (Some(first), Some(last)) = (codes.first(), codes.last()) else {
            return Ok(Accepted::Range(CodeRange { from: 1, to: 1 }));
        };
        if last - first == codes.len() as u64 - 1 {
            return Ok(Accepted::Range(CodeRange { from: *first, to: last + 1 }));
        }
        if column.domain.len() > TABLE_VALUES_MAX {
            return Ok(Accepted::Set(CodeSet::Sorted(codes)));
        }
        let mut table = vec![0; usize::try_from(column.domain.len() + 1).unwrap_or(usize::MAX)];
        for code in codes {
            table[usize::try_from(code).unwrap_or(0)] = 1;
        }
        Ok(Accepted::Set(CodeSet::Table(table)))
    }

    fn id(&self, test: &Test) -> Result<Step<'a>, NoPlan> {
        let ids = self.segment.ids();
        let rows = |range: Range<usize>| {
            if range.is_empty() {
                Step::Always(false)
            } else {
                Step::Rows(range)
            }
        };
        Ok(match test {
            Test::Scalar { test: ScalarTest::Eq(value), .. } => {
                ids.find(&key_of(value.borrowed())).map_or(Step::Always(false), |row| Step::Rows(row..row + 1))
            }
            Test::Scalar { test: ScalarTest::In(list), .. } => {
                Step::RowList(list.iter().map(Scalar::borrowed).filter_map(|id| ids.find(&key_of(id))).collect())
            }
            Test::Scalar { test: ScalarTest::Compare(comparison, value), .. } => {
                let key = key_of(value.borrowed());
                match comparison {
                    Comparison::Lt => rows(0..ids.before(&key)),
                    Comparison::Lte => rows(0..ids.up_to(&key)),
                    Comparison::Gt => rows(ids.up_to(&key)..ids.len()),
                    Comparison::Gte => rows(ids.before(&key)..ids.len()),
                }
            }
            Test::Scalar { test: ScalarTest::Pattern(pattern), .. } => {
                let mut list = Vec::new();
                for row in 0..ids.len() {
                    if row % 1024 == 0 && !(self.keep_on)() {
                        return Err(NoPlan::Stopped);
                    }
                    let key = ids.key(row);
                    if std::str::from_utf8(&key[1..]).is_ok_and(|text| pattern.matches(text)) {
                        list.push(row);
                    }
                }
                Step::RowList(list)
            }
            Test::Null | Test::Any(_) | Test::Equal(_) => Step::Always(false),
        })
    }
}

enum Accepted {
    Range(CodeRange),
    Set(CodeSet),
}

fn range<'a>(column: &Column<'a>, codes: CodeRange) -> Step<'a> {
    bounded(&column.domain, codes, |low, span| Step::Range { codes: column.codes, low, span })
}

fn any_range<'a>(column: &Column<'a>, array: Arrays<'a>, codes: CodeRange) -> Step<'a> {
    // Elements are never null; "any element" is true of every row that has one, which is not every row.
    if codes.to <= codes.from {
        return Step::Always(false);
    }
    Step::AnyRange {
        codes: column.codes,
        array,
        low: codes.from,
        span: (codes.to - codes.from).min(column.domain.len()),
    }
}

fn bounded<'a>(domain: &Domain<'_>, codes: CodeRange, step: impl Fn(u64, u64) -> Step<'a>) -> Step<'a> {
    if codes.to <= codes.from {
        Step::Always(false)
    } else if codes.from == 0 && codes.to > domain.len() {
        // All codes and null: a span that the codes' width may not hold.
        Step::Always(true)
    } else {
        step(codes.from, codes.to - codes.from)
    }
}

fn negated(step: Step<'_>) -> Step<'_> {
    match step {
        Step::Always(answer) => Step::Always(!answer),
        Step::Not(step) => *step,
        // What is outside a range is a range as well, in wrapping arithmetic.
        Step::Range { codes, low, span } => {
            let width = u64::MAX >> (64 - codes.bits());
            Step::Range { codes, low: low.wrapping_add(span) & width, span: span.wrapping_neg() & width }
        }
        step => Step::Not(Box::new(step)),
    }
}

impl Step<'_> {
    /// What it costs to try a row, by which steps are ordered and threads are started.
    #[must_use]
    pub fn cost(&self) -> u32 {
        match self {
            Self::Always(_) | Self::Rows(_) | Self::RowList(_) => 0,
            Self::Range { codes, .. } => codes.bits(),
            Self::ArrayNull(_) => 8,
            Self::Set { .. } => 100,
            Self::Not(step) => 1 + step.cost(),
            Self::And(steps) | Self::Or(steps) => steps.iter().map(Self::cost).sum(),
            Self::AnyRange { .. } | Self::AnySet { .. } | Self::ArrayEqual { .. } => 400,
        }
    }

    /// Combines what the step says of the rows from `at` on with the mask, which has a byte for each.
    pub fn apply(&self, at: usize, how: Combine, mask: &mut [u8], spare: &mut Spare) {
        let to = at + mask.len();
        match self {
            Self::Always(answer) => fill(*answer, how, mask),
            Self::Range { codes, low, span } => codes::range(codes.slice(at, to), *low, *span, how, mask),
            Self::Set { codes, set } => codes::set(codes.slice(at, to), set, how, mask),
            Self::AnyRange { codes, array, low, span } => {
                let places = &array.places[at..=to];
                with_codes!(*codes, slice => any_within(slice, places, *low, *span, how, mask));
            }
            Self::AnySet { codes, array, set } => {
                let places = &array.places[at..=to];
                with_codes!(*codes, slice => codes::any(slice, places, how, mask, |code| {
                    set.contains(codes::Code::widened(code))
                }));
            }
            Self::ArrayNull(nulls) => codes::merge(&nulls[at..to], false, how, mask),
            Self::ArrayEqual { codes, array, expected } => {
                self.in_turn(how, mask, spare, |place| {
                    let row = at + place;
                    let elements = array.places[row] as usize..array.places[row + 1] as usize;
                    array.nulls.get(row).is_none_or(|null| *null == 0)
                        && elements.len() == expected.len()
                        && elements.zip(expected).all(|(element, expected)| codes.get(element) == *expected)
                });
            }
            Self::Rows(rows) => self.in_turn(how, mask, spare, |place| rows.contains(&(at + place))),
            Self::RowList(rows) => {
                let mut other = spare.take(mask.len());
                let first = rows.partition_point(|row| *row < at);
                for row in rows[first..].iter().take_while(|row| **row < to) {
                    other[row - at] = 1;
                }
                codes::merge(&other, false, how, mask);
                spare.give(other);
            }
            Self::Not(step) => {
                let mut other = spare.take(mask.len());
                step.apply(at, Combine::Set, &mut other, spare);
                codes::merge(&other, true, how, mask);
                spare.give(other);
            }
            Self::And(steps) => group(steps, at, how, Combine::And, mask, spare),
            Self::Or(steps) => group(steps, at, how, Combine::Or, mask, spare),
        }
    }

    #[allow(clippy::unused_self)] // reads as the step's own way of answering
    fn in_turn(&self, how: Combine, mask: &mut [u8], spare: &mut Spare, answer: impl Fn(usize) -> bool) {
        let mut other = spare.take(mask.len());
        other.iter_mut().enumerate().for_each(|(place, byte)| *byte = u8::from(answer(place)));
        codes::merge(&other, false, how, mask);
        spare.give(other);
    }
}

fn any_within<T: codes::Code>(slice: &[T], places: &[u32], low: u64, span: u64, how: Combine, mask: &mut [u8]) {
    let (low, span) = (T::truncated(low), T::truncated(span));
    codes::any(slice, places, how, mask, |code| code.within(low, span));
}

fn fill(answer: bool, how: Combine, mask: &mut [u8]) {
    match (how, answer) {
        (Combine::Set, _) => mask.fill(u8::from(answer)),
        (Combine::And, false) => mask.fill(0),
        (Combine::Or, true) => mask.fill(1),
        (Combine::And, true) | (Combine::Or, false) => {}
    }
}

/// Steps among themselves by `inner`, the result with the mask by `outer`.
fn group(steps: &[Step<'_>], at: usize, outer: Combine, inner: Combine, mask: &mut [u8], spare: &mut Spare) {
    if outer != Combine::Set && outer != inner {
        let mut other = spare.take(mask.len());
        group(steps, at, Combine::Set, inner, &mut other, spare);
        codes::merge(&other, false, outer, mask);
        spare.give(other);
        return;
    }
    let mut how = outer;
    for step in steps {
        if how == Combine::And && codes::is_zero(mask) {
            return;
        }
        step.apply(at, how, mask, spare);
        how = inner;
    }
}

/// Masks to use again.
#[derive(Debug, Default)]
pub struct Spare(Vec<Vec<u8>>);

impl Spare {
    fn take(&mut self, length: usize) -> Vec<u8> {
        let mut mask = self.0.pop().unwrap_or_default();
        mask.clear();
        mask.resize(length, 0);
        mask
    }

    fn give(&mut self, mask: Vec<u8>) {
        self.0.push(mask);
    }
}
