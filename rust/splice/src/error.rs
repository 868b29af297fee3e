//! Why a body is refused.

use std::fmt;

/// The kind of a refusal; the gateway maps it to a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Not JSON, or a key that decides something stands twice.
    BadJson,
    /// JSON that breaks a rule of ours.
    ValidationError,
    /// A documented feature that is not built.
    NotSupported,
}

impl Code {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::ValidationError => "validation_error",
            Self::NotSupported => "not_supported",
        }
    }
}

/// A refused body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpliceError {
    pub code: Code,
    pub message: String,
}

impl fmt::Display for SpliceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for SpliceError {}

impl SpliceError {
    #[must_use]
    pub fn validation(message: impl Into<String>) -> Self {
        Self { code: Code::ValidationError, message: message.into() }
    }

    #[must_use]
    pub fn not_supported(message: impl Into<String>) -> Self {
        Self { code: Code::NotSupported, message: message.into() }
    }

    /// A refusal in the words of the upstream, which counts lines from 1 and columns in bytes up to and with the
    /// offending one.
    #[must_use]
    pub fn bad_json(body: &[u8], at: usize, reason: &str) -> Self {
        let before = &body[..body.len().min(at.saturating_add(1))];
        let line_start = memchr::memrchr(b'\n', &body[..at.min(body.len())]).map_or(0, |newline| newline + 1);
        let line = 1 + memchr::memchr_iter(b'\n', &body[..line_start]).count();
        let column = before.len() - line_start;
        Self {
            code: Code::BadJson,
            message: format!("Failed to parse the request body as JSON: {reason} at line {line} column {column}"),
        }
    }
}

/// A syntax error: where, and what was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: usize,
    pub reason: &'static str,
}

impl Fault {
    pub fn explain(self, body: &[u8]) -> SpliceError {
        SpliceError::bad_json(body, self.at, self.reason)
    }
}

pub type Parsed<T> = Result<T, Fault>;
