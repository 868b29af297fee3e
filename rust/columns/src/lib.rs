//! Columns of the namespaces that the document cache holds: built from its rows, kept beside them, brought up to date
//! with what changed since.
//!
//! * [`rows`] shows a scan of the cache to the filter engine.
//! * [`files`] are the segments of a directory that processes share, [`shelf`] what one process has open of them.
//! * [`build`] makes one.

pub mod build;
pub mod error;
pub mod files;
pub mod rows;
pub mod shelf;

pub use build::{BuiltColumns, Request};
pub use error::ColumnsError;
pub use files::FileFacts;
pub use rows::ScanRows;
pub use shelf::{Shelf, Snapshot};
