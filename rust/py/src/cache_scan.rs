//! Bindings of a scan of a namespace's cached rows, for the filter engine to read.

use std::ops::ControlFlow;
use std::sync::Arc;

use hevlayer_cache::{NamespaceScan, RowsScan};
use hevlayer_columns::ScanRows;
use hevlayer_doc::View;
use hevlayer_filter::scan::RowSource;
use pyo3::prelude::*;

use crate::cache::PyRows;

#[pyclass(frozen, name = "DocScan", module = "hevlayer._native")]
pub(crate) struct PyScan {
    scan: Arc<dyn NamespaceScan>,
    with_marked: bool,
}

impl PyScan {
    pub(crate) fn new(scan: Arc<dyn NamespaceScan>) -> Self {
        Self { scan, with_marked: false }
    }
}

#[pymethods]
impl PyScan {
    #[staticmethod]
    #[pyo3(signature = (rows, *, marked = None, sequence = 0))]
    fn of_rows(rows: &PyRows, marked: Option<&PyRows>, sequence: u64) -> Self {
        let marked = marked.map(|rows| Arc::clone(&rows.0)).unwrap_or_default();
        Self::new(Arc::new(RowsScan::new(Arc::clone(&rows.0), marked, sequence)))
    }

    fn with_marked(&self) -> Self {
        Self { scan: Arc::clone(&self.scan), with_marked: true }
    }

    fn __len__(&self) -> usize {
        let left_out = if self.with_marked { 0 } else { self.scan.marked() };
        usize::try_from(self.scan.rows() - left_out).unwrap_or(usize::MAX)
    }

    #[getter]
    fn marked(&self) -> u64 {
        self.scan.marked()
    }

    #[getter]
    fn missing(&self) -> u64 {
        self.scan.missing()
    }

    #[getter]
    fn sequence(&self) -> u64 {
        self.scan.sequence()
    }
}

impl RowSource for PyScan {
    fn visit(
        &self,
        part: usize,
        parts: usize,
        visit: &mut dyn FnMut(&[u8], &View<'_>) -> ControlFlow<()>,
    ) -> Result<(), String> {
        ScanRows { scan: &*self.scan, with_marked: self.with_marked }.visit(part, parts, visit)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyScan>()
}
