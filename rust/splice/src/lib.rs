//! Byte-level JSON: finds keys, splices edits in, and never builds a tree.
//!
//! A body is read once, strictly, and only positions are kept. Every output is the input's bytes in order, with the
//! edits between them.

mod affected;
mod answer;
mod digest;
mod error;
mod file;
mod lanes;
mod prune;
mod query;
pub mod reader;
mod skim;
mod tape;
pub mod text;
mod write;

pub use affected::{affected_ids, Affected};
pub use answer::{layer_results, strip_rows, strip_schema, top_level};
pub use digest::{answer_ids, query_shape};
pub use error::{Code, Fault, Parsed, SpliceError};
pub use file::Mapped;
pub use query::{NearestId, QueryRender, QueryScan, LEGS_MAX};
pub use reader::DEPTH_MAX;
pub use text::separators;
pub use write::{Exclusive, Facts, RenderState, WriteScan, Written};

/// Attributes that begin so are ours.
pub const RESERVED_PREFIX: &str = "_hevlayer_";
/// When a row was last written, in epoch milliseconds.
pub const STAMP_ATTRIBUTE: &str = "_hevlayer_upserted_at";
/// Which shard a row is in.
pub const SHARD_ATTRIBUTE: &str = "_hevlayer_shard";

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Native,
    Layer,
}

impl Dialect {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Layer => "layer",
        }
    }
}
