//! A scan of cached rows, as the filter engine reads rows.

use std::ops::ControlFlow;

use hevlayer_cache::{NamespaceScan, ScannedRow};
use hevlayer_doc::View;
use hevlayer_filter::scan::RowSource;

/// The rows of a scan.
#[derive(Clone, Copy)]
pub struct ScanRows<'a> {
    pub scan: &'a dyn NamespaceScan,
    /// Rows with an open write are there too, as they were before it.
    pub with_marked: bool,
}

impl RowSource for ScanRows<'_> {
    fn visit(
        &self,
        part: usize,
        parts: usize,
        visit: &mut dyn FnMut(&[u8], &View<'_>) -> ControlFlow<()>,
    ) -> Result<(), String> {
        let mut damage = None;
        let mut each = |row: &ScannedRow<'_>| {
            if row.is_marked && !self.with_marked {
                return ControlFlow::Continue(());
            }
            match View::new(row.head, None) {
                Ok(view) => visit(row.key, &view),
                Err(error) => {
                    damage = Some(error.to_string());
                    ControlFlow::Break(())
                }
            }
        };
        self.scan.visit(part, parts, &mut each).map_err(|error| error.to_string())?;
        damage.map_or(Ok(()), Err)
    }
}
