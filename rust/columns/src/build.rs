//! Builds the columns of a namespace from its rows.

use std::time::Instant;

use hevlayer_cache::Engine;
use hevlayer_filter::columns::build::{Built, SegmentBuilder};
use hevlayer_filter::columns::segment::Origin;
use hevlayer_filter::compile::Used;
use hevlayer_filter::scan::Limits;
use hevlayer_filter::schema::Kind;
use hevlayer_filter::ScanError;

use crate::error::ColumnsError;
use crate::rows::ScanRows;
use crate::shelf::Shelf;

type Result<T> = std::result::Result<T, ColumnsError>;

/// What to build.
pub struct Request<'a> {
    pub namespace: &'a str,
    pub id_kind: Kind,
    pub attributes: Vec<Used>,
    pub now_ms: u64,
}

/// What was built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuiltColumns {
    pub rows: usize,
    pub bytes: u64,
    /// Attributes without a column; see [`Built`].
    pub left_out: Vec<String>,
    pub seconds: f64,
}

impl Shelf {
    /// Builds the columns of a namespace and puts them in the place of those that were there. A build that fails, or
    /// whose process dies, leaves those.
    ///
    /// # Errors
    /// [`ColumnsError::Busy`] when another process builds; of the rows, the index, or the directory.
    pub fn build(&self, engine: &Engine, request: Request<'_>, limits: &Limits) -> Result<BuiltColumns> {
        let begun = Instant::now();
        let Some(lock) = self.files.lock()? else { return Err(ColumnsError::Busy) };
        self.files.remove_unfinished(&lock)?;
        let namespace = request.namespace;
        // From before the scan, so that no change falls between the two.
        engine.begin_feed(namespace)?;
        let built = self.write(engine, request, limits);
        if built.is_err() && self.files.latest(namespace)?.is_none() {
            engine.end_feed(namespace)?;
        }
        let built = built?;
        drop(lock);
        let Built { rows, bytes, left_out } = built;
        Ok(BuiltColumns { rows, bytes, left_out, seconds: begun.elapsed().as_secs_f64() })
    }

    fn write(&self, engine: &Engine, request: Request<'_>, limits: &Limits) -> Result<Built> {
        let namespace = request.namespace;
        let scan = engine.scan(namespace, request.now_ms, &|| limits.check().is_err())?;
        let rows = ScanRows { scan: &scan, with_marked: true };
        let sequence = hevlayer_cache::NamespaceScan::sequence(&scan);
        let mut builder = SegmentBuilder::new(request.id_kind, request.attributes);
        builder.read(&rows, limits)?;
        if hevlayer_cache::NamespaceScan::missing(&scan) > 0 {
            return Err(ScanError::Source("rows were found too old or unreadable".to_owned()).into());
        }
        let origin = Origin {
            namespace: namespace.to_owned(),
            number: scan.number,
            epoch: scan.facts.epoch,
            oldest_filled_ms: scan.oldest_filled_ms,
        };
        let place = self.files.place(namespace, scan.facts.epoch, sequence);
        let built = builder.finish(&place, sequence, origin)?;
        self.files.remove(namespace, Some(&place))?;
        engine.drop_changes(namespace, sequence)?;
        Ok(built)
    }
}
