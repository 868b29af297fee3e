//! Query bodies: what they ask, and how the watermark and the rest go in.

mod leg;
mod render;
mod walk;

use crate::error::SpliceError;
use crate::reader::Reader;
use crate::Dialect;
use leg::Leg;
use walk::Walk;

pub use render::QueryRender;

/// Sub-queries in one body that we read; the upstream takes 16.
pub const LEGS_MAX: usize = 1024;

/// A document named by `nearest_to_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NearestId {
    Uint(u64),
    String(String),
}

/// What a query body says. Keeps positions only; give the same body again to `render`.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts of a request
pub struct QueryScan {
    pub dialect: Dialect,
    pub multi: bool,
    pub legs: usize,
    pub has_consistency: bool,
    pub has_filter: bool,
    pub has_rank_by: bool,
    pub model_rerank: bool,
    pub wants_reserved: bool,
    pub permits: u32,
    pub nearest_to_id: Option<Vec<NearestId>>,
    /// The body's own object.
    top: Leg,
    /// The sub-queries of a multi-query.
    subqueries: Vec<Leg>,
    /// The body is an object; else nothing can be put in and the upstream refuses it.
    spliceable: bool,
}

impl QueryScan {
    /// Reads a query body.
    ///
    /// # Errors
    /// The body is not JSON, breaks a rule, or asks for what is not built.
    pub fn new(body: &[u8]) -> Result<Self, SpliceError> {
        let mut walk = Walk::new(body);
        let mut reader = Reader::new(body);
        walk.body(&mut reader).and_then(|()| reader.finish()).map_err(|fault| fault.explain(body))?;
        walk.conclude()
    }

    fn each_leg(&self) -> &[Leg] {
        if self.multi {
            &self.subqueries
        } else {
            std::slice::from_ref(&self.top)
        }
    }
}
