//! What can go wrong, as facts.

use std::fmt;
use std::io;

use hevlayer_doc::DocError;

/// An operation of the cache that did not happen. All of them are soft for a caller of the gateway.
#[derive(Debug)]
pub enum CacheError {
    /// The directory is held by an earlier version, by processes of another upstream, or by too many.
    Locked,
    /// The engine was closed.
    Closed,
    /// The index cannot be used any more: the directory is to be closed and opened again.
    Broken,
    /// As many calls wait as may, or one waited for as long as it may.
    Busy,
    /// The deadline passed, or the caller gave up.
    Stopped,
    /// The text is not the upstream's JSON: what was expected, and at which byte.
    Json {
        expected: &'static str,
        at: usize,
    },
    /// A row or an answer breaks a rule of the layout.
    Shape(&'static str),
    /// A stored record does not have the checksum it was written with.
    Corrupt,
    Io(io::Error),
}

impl fmt::Display for CacheError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => formatter.write_str("the cache directory is in use by a process that cannot share it"),
            Self::Closed => formatter.write_str("the document cache is closed"),
            Self::Broken => formatter.write_str("the index of the document cache is damaged"),
            Self::Busy => formatter.write_str("the document cache has too many calls waiting"),
            Self::Stopped => formatter.write_str("the scan was stopped before its end"),
            Self::Json { expected, at } => write!(formatter, "expected {expected} at byte {at}"),
            Self::Shape(rule) => formatter.write_str(rule),
            Self::Corrupt => formatter.write_str("a cached record has a wrong checksum"),
            Self::Io(error) => write!(formatter, "the cache directory failed: {error}"),
        }
    }
}

impl std::error::Error for CacheError {}

impl From<io::Error> for CacheError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<DocError> for CacheError {
    fn from(error: DocError) -> Self {
        match error {
            DocError::Json { expected, at } => Self::Json { expected, at },
            DocError::Shape(rule) => Self::Shape(rule),
        }
    }
}
