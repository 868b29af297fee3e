//! The document cache: marks, settles and fills rows by compare-and-set, on a local directory that processes share.
//!
//! * [`record`] and [`rows`], of `hevlayer-doc`, are the rows that it keeps.
//! * [`lmdb`] is the door to the index, [`entry`] what stands in it.
//! * [`segments`] are the files of rows, [`frame`] a row in one of them.
//! * [`shared`] is what all processes see at once without the disk: the write clock, debts, reads.
//! * [`home`] is the directory: who may use it and whether it may be believed.
//! * [`change`] is one step of the protocol in one transaction; [`writer`] makes them, in a thread of its own.
//! * [`feed`] tells which rows of a namespace changed since a transaction.
//! * [`engine`] is what a gateway asks, [`lookup`] how it reads, [`upkeep`] evicts and gives room back, [`scan`] visits a namespace's rows.

pub mod change;
pub mod engine;
pub mod entry;
pub mod error;
pub mod feed;
pub mod frame;
pub mod home;
pub mod lmdb;
pub mod lookup;
pub mod scan;
pub mod segments;
pub mod shared;
pub mod upkeep;
pub mod writer;

pub use change::{Key, Outcome};
pub use engine::{distrust, Engine, Facts, Options, Stats, MOMENT, WAIT_MAX};
pub use error::CacheError;
pub use feed::{ChangedRow, Changes};
pub use hevlayer_doc::{record, rows};
pub use home::COLUMNS;
pub use lookup::{Looked, Lookup};
pub use record::{IdType, Projection, Record};
pub use rows::Rows;
pub use scan::{NamespaceScan, RowsScan, Scan, ScannedRow};
pub use writer::{distinct, Call, Pending, Reply, Settle};
