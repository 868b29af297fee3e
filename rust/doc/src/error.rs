//! What a row can be refused for.

use std::fmt;

/// A text that is not a row, or bytes that are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocError {
    /// The text is not the JSON that was expected: what was, and at which byte.
    Json { expected: &'static str, at: usize },
    /// A row, an answer or a record breaks a rule.
    Shape(&'static str),
}

impl fmt::Display for DocError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json { expected, at } => write!(formatter, "expected {expected} at byte {at}"),
            Self::Shape(rule) => formatter.write_str(rule),
        }
    }
}

impl std::error::Error for DocError {}
