//! The local origin: an engine with the semantics of the upstream, for development and tests.

pub mod fts;
pub mod schema;
pub mod table;
pub mod value;
