//! The local origin: an engine with the semantics of the upstream, for development and tests.

pub mod aggregate;
pub mod analyze;
pub mod apply;
pub mod engine;
mod engine_maintain;
mod engine_recover;
mod engine_routes;
#[cfg(test)]
mod engine_tests;
mod engine_write;
pub mod explain;
pub mod filter;
pub mod filter_bitmap;
pub mod filter_fuzzy;
pub mod filter_parse;
pub mod filter_scan;
pub mod fts;
pub mod highlight;
pub mod input;
pub mod knn;
pub mod metadata;
pub mod multi;
pub mod namespaces;
pub mod query;
pub mod query_body;
pub mod query_rows;
#[cfg(test)]
mod query_testing;
pub mod rank;
pub mod rank_run;
pub mod rank_score;
pub mod rank_topk;
pub mod recall;
pub mod reply;
pub mod schema;
pub mod schema_json;
pub mod store;
pub mod store_codec;
pub mod table;
#[cfg(test)]
mod testing;
pub mod value;
pub mod view;
pub mod wal;
pub mod write;
pub mod write_body;
pub mod write_rows;
#[cfg(test)]
mod write_tests;
