//! Why columns were not built, or could not be shown.

use std::fmt;
use std::io;

use hevlayer_cache::CacheError;
use hevlayer_filter::ScanError;

#[derive(Debug)]
pub enum ColumnsError {
    /// Another build goes on in the directory.
    Busy,
    /// The deadline passed, the caller gave up, or a row was not what it should be.
    Scan(ScanError),
    Cache(CacheError),
    Io(io::Error),
}

impl fmt::Display for ColumnsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => formatter.write_str("another build of columns goes on"),
            Self::Scan(error) => error.fmt(formatter),
            Self::Cache(error) => error.fmt(formatter),
            Self::Io(error) => write!(formatter, "the columns' directory failed: {error}"),
        }
    }
}

impl std::error::Error for ColumnsError {}

impl From<ScanError> for ColumnsError {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

impl From<CacheError> for ColumnsError {
    fn from(error: CacheError) -> Self {
        Self::Cache(error)
    }
}

impl From<io::Error> for ColumnsError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
