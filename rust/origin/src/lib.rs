//! The local origin: an engine with the semantics of the upstream, for development and tests.

pub mod analyze;
pub mod apply;
pub mod filter;
pub mod filter_bitmap;
pub mod filter_fuzzy;
pub mod filter_parse;
pub mod filter_scan;
pub mod fts;
pub mod input;
pub mod knn;
#[cfg(test)]
mod query_testing;
pub mod rank_topk;
pub mod reply;
pub mod schema;
pub mod schema_json;
pub mod store_codec;
pub mod table;
#[cfg(test)]
mod testing;
pub mod value;
pub mod view;
pub mod wal;
