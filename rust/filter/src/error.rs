//! Why a filter is refused, or why its evaluation stopped.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// No filter, or values that do not fit the attributes' types.
    Validation,
    /// A filter of the upstream that cannot be evaluated here; the upstream can.
    Unsupported,
    /// The schema has no such attribute, or does not allow the operator on it; a newer schema may.
    Schema,
}

impl Code {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "validation_error",
            Self::Unsupported => "unsupported",
            Self::Schema => "schema",
        }
    }
}

/// A refusal: what kind, where in the filter, and the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    pub code: Code,
    /// JSON pointer from the filter's root; empty for the filter as a whole.
    pub pointer: String,
    pub message: String,
}

impl FilterError {
    #[must_use]
    pub fn new(code: Code, pointer: &str, message: impl Into<String>) -> Self {
        Self { code, pointer: pointer.to_owned(), message: message.into() }
    }

    #[must_use]
    pub fn invalid(pointer: &str, message: impl Into<String>) -> Self {
        Self::new(Code::Validation, pointer, message)
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at '{}': {}", self.code.as_str(), self.pointer, self.message)
    }
}

impl std::error::Error for FilterError {}

/// Why an evaluation gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// The deadline passed.
    TimedOut,
    /// The caller does not want the answer any more.
    Cancelled,
    /// A stored value is not of the type that the schema gives its attribute: the schema is not the rows'.
    Mistyped { attribute: String },
    /// The rows could not be read.
    Source(String),
}

impl fmt::Display for ScanError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => formatter.write_str("the deadline passed"),
            Self::Cancelled => formatter.write_str("cancelled"),
            Self::Mistyped { attribute } => write!(formatter, "a value of `{attribute}` is not of the schema's type"),
            Self::Source(reason) => formatter.write_str(reason),
        }
    }
}

impl std::error::Error for ScanError {}
