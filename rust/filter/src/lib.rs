//! Filters: parsed in bounded time and memory, compiled against a namespace's schema, and evaluated over rows or over
//! typed columns, with the upstream's rules for nulls, arrays and types.

pub mod columns;
pub mod compile;
pub mod datetime;
pub mod error;
pub mod fuzzy;
pub mod guard;
pub mod parse;
pub mod pattern;
pub mod row;
pub mod scan;
pub mod schema;

pub use compile::Filter;
pub use error::{Code, FilterError, ScanError};
pub use schema::Schema;
