//! Evaluation of one row at a time, straight from what is stored.

use crate::compile::{input, Filter, Node, Test};
use crate::schema::ScalarRef;
use hevlayer_doc::{ValueRef, View};
use std::cell::Cell;

/// Where each attribute of a filter stood in the row before.
#[derive(Debug)]
pub struct Hints(Vec<Cell<usize>>);

impl Hints {
    #[must_use]
    pub fn new(filter: &Filter) -> Self {
        Self(vec![Cell::new(0); filter.attributes.len()])
    }
}

/// A filter at work on rows.
#[derive(Debug)]
pub struct Reading<'f> {
    filter: &'f Filter,
    hints: &'f Hints,
    mistyped: Cell<Option<usize>>,
}

impl<'f> Reading<'f> {
    #[must_use]
    pub fn new(filter: &'f Filter, hints: &'f Hints) -> Self {
        Self { filter, hints, mistyped: Cell::new(None) }
    }

    /// The place, among the filter's attributes, of one that held a value of another type than the schema's. Answers
    /// about rows have no meaning then.
    #[must_use]
    pub fn mistyped(&self) -> Option<usize> {
        self.mistyped.get()
    }

    /// Whether the row meets the condition.
    #[must_use]
    pub fn matches(&self, row: &View<'_>) -> bool {
        self.node(&self.filter.root, row)
    }

    fn node(&self, node: &Node, row: &View<'_>) -> bool {
        match node {
            Node::Always(answer) => *answer,
            Node::And(nodes) => nodes.iter().all(|node| self.node(node, row)),
            Node::Or(nodes) => nodes.iter().any(|node| self.node(node, row)),
            Node::Not(node) => !self.node(node, row),
            Node::Leaf { attribute, test } => self.leaf(*attribute, test, row),
        }
    }

    fn leaf(&self, attribute: usize, test: &Test, row: &View<'_>) -> bool {
        match test {
            Test::Null => !self.filter.attributes[attribute].is_id() && self.stored(attribute, row).is_none(),
            Test::Scalar { test, null } => self.scalar(attribute, row).map_or(*null, |value| test.matches(value)),
            Test::Any(test) => {
                let mut met = false;
                self.elements(attribute, row, &mut |value| {
                    met = test.matches(value);
                    !met
                });
                met
            }
            Test::Equal(expected) => {
                let (mut seen, mut equal) = (0, true);
                let present = self.elements(attribute, row, &mut |value| {
                    equal = expected.get(seen).is_some_and(|item| item.borrowed() == value);
                    seen += 1;
                    equal
                });
                present && equal && seen == expected.len()
            }
        }
    }

    #[inline]
    fn stored<'a>(&self, attribute: usize, row: &View<'a>) -> Option<ValueRef<'a>> {
        let mut place = self.hints.0[attribute].get();
        let value = row.get_near(&self.filter.attributes[attribute].name, &mut place);
        self.hints.0[attribute].set(place);
        value
    }

    /// A scalar attribute's value; None for null.
    #[inline]
    #[must_use]
    pub fn scalar<'a>(&self, attribute: usize, row: &View<'a>) -> Option<ScalarRef<'a>> {
        let used = &self.filter.attributes[attribute];
        let value = if used.is_id() {
            row.id().and_then(|id| used.kind.kind.id(id))
        } else {
            used.kind.kind.stored(self.stored(attribute, row)?)
        };
        if value.is_none() {
            self.mistyped.set(Some(attribute));
        }
        value
    }

    /// Calls `visit` with the elements of an array until it answers `false`. Gives false when the attribute is null.
    pub fn elements(&self, attribute: usize, row: &View<'_>, visit: &mut dyn FnMut(ScalarRef<'_>) -> bool) -> bool {
        let kind = self.filter.attributes[attribute].kind.kind;
        let Some(stored) = self.stored(attribute, row) else { return false };
        let mut take = |value: Option<ScalarRef<'_>>| match value {
            Some(value) => visit(value),
            None => {
                self.mistyped.set(Some(attribute));
                false
            }
        };
        match stored {
            ValueRef::Array(items) => {
                let _ = items.iter().all(|item| take(kind.stored(item)));
            }
            // Numbers printed in more than one way, say.
            ValueRef::Json(text) => match serde_json::from_str(text) {
                Ok(serde_json::Value::Array(items)) => {
                    let _ = items.iter().all(|item| take(input(item).and_then(|item| kind.read(item))));
                }
                _ => {
                    take(None);
                }
            },
            _ => {
                take(None);
            }
        }
        true
    }
}
