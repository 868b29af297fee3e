//! The document cache: marks, settles and fills rows by compare-and-set, on a local directory.
//!
//! * [`json`] walks JSON text without building a tree.
//! * [`record`] is the binary layout of one cached row and its projection to a document's JSON text.
//! * [`rows`] splits the upstream's query answer into records.
//! * [`fences`] is the write clock: which ids were touched since a read began. Memory only, never fails.
//! * [`log`] is the segmented file that rows and marks are appended to.
//! * [`table`] is the state in memory: rows by namespace and id, marks, open writes. Pure, driven by the log.
//! * [`engine`] joins them behind one lock: lookup, fill, mark, settle, new epoch, trim.

pub mod engine;
pub mod error;
pub mod fences;
pub mod json;
pub mod log;
pub mod record;
pub mod replay;
pub mod rows;
pub mod table;

pub use engine::{Engine, Lookup, Options, Stats};
pub use error::CacheError;
pub use record::{IdType, Projection};
pub use rows::Rows;
pub use table::Outcome;
