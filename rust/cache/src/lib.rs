//! The document cache: marks, settles and fills rows by compare-and-set, on a local directory.
//!
//! * [`record`] and [`rows`], of `hevlayer-doc`, are the rows that it keeps.
//! * [`fences`] is the write clock: which ids were touched since a read began. Memory only, never fails.
//! * [`log`] is the segmented file that rows and marks are appended to.
//! * [`table`] is the state in memory: rows by namespace and id, marks, open writes. Pure, driven by the log.
//! * [`engine`] joins them behind one lock: lookup, fill, mark, settle, new epoch, trim.

pub mod engine;
pub mod error;
pub mod fences;
pub mod log;
pub mod replay;
pub mod table;

pub use engine::{Engine, Lookup, Options, Stats};
pub use error::CacheError;
pub use hevlayer_doc::{record, rows};
pub use record::{IdType, Projection, Record};
pub use rows::Rows;
pub use table::Outcome;
