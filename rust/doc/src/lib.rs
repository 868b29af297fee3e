//! Typed ids and values, and the binary layout of a cached row.
//!
//! * [`id`] makes cache keys of ids.
//! * [`json`] walks JSON text without building a tree; [`number`] reads and prints numbers as the upstream does.
//! * [`shard`] says which shard a row is in.
//! * [`schema`] is what a namespace's metadata says of its attributes.
//! * [`value`] is a value that borrows from a record; [`vector`] how vectors are kept.
//! * [`layout`] is the picture of a record, [`build`] writes one, [`record`] and [`view`] read it and emit JSON.
//! * [`stored`] is the form that the upstream gives to what is written, where that is known; [`patch`] makes rows of it.
//! * [`rows`] splits the upstream's query answer into records.

pub mod build;
pub mod error;
pub mod id;
pub mod json;
pub mod layout;
pub mod number;
pub mod patch;
pub mod record;
pub mod rows;
pub mod schema;
pub mod shard;
pub mod stored;
pub mod value;
pub mod vector;
pub mod view;

pub use error::DocError;
pub use record::{IdType, Projection, Record};
pub use rows::Rows;
pub use schema::{AttributeType, Element, Scalar, Schema};
pub use value::{ArrayRef, IdRef, ValueRef, VectorRef};
pub use view::{AttributeName, View};
