//! Bindings of what every engine of the document cache has in common: rows, projections, errors.

use std::sync::Arc;

use hevlayer_cache::{CacheError, IdType, Projection, Record, Rows};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::rows::PySchema;

/// Answers over this size are split without the GIL.
const DETACH_BYTES: usize = 16 << 10;

create_exception!(_native, DocCacheError, PyException);

pub(crate) fn raise(error: &CacheError) -> PyErr {
    let code = match error {
        CacheError::Locked => "locked",
        CacheError::Closed => "closed",
        CacheError::Broken => "broken",
        CacheError::Busy => "busy",
        CacheError::Stopped => "stopped",
        CacheError::Json { .. } => "json",
        CacheError::Shape(_) => "shape",
        CacheError::Corrupt => "corrupt",
        CacheError::Io(_) => "io",
    };
    DocCacheError::new_err((code, error.to_string()))
}

pub(crate) fn id_type_named(name: Option<&str>) -> PyResult<Option<IdType>> {
    match name {
        None => Ok(None),
        Some(name) => {
            IdType::parse(name).map(Some).ok_or_else(|| PyValueError::new_err(format!("no id type {name:?}")))
        }
    }
}

#[pyclass(frozen, name = "DocProjection", module = "hevlayer._native")]
pub(crate) struct PyProjection(pub(crate) Projection);

#[pymethods]
impl PyProjection {
    #[new]
    #[pyo3(signature = (names=None))]
    fn new(names: Option<Vec<String>>) -> Self {
        Self(names.map_or(Projection::Plain, Projection::Named))
    }
}

#[pyclass(frozen, name = "DocRows", module = "hevlayer._native")]
pub(crate) struct PyRows(pub(crate) Arc<Rows>);

#[pymethods]
impl PyRows {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // extracted from Python lists
    fn new(py: Python<'_>, answer: &[u8], vectors: Vec<String>) -> PyResult<Self> {
        let rows = if answer.len() > DETACH_BYTES {
            py.detach(|| Rows::read(answer, &vectors))
        } else {
            Rows::read(answer, &vectors)
        };
        rows.map(|rows| Self(Arc::new(rows))).map_err(|error| raise(&error.into()))
    }

    #[staticmethod]
    fn typed(py: Python<'_>, answer: &[u8], schema: &PySchema) -> PyResult<Self> {
        let read = || Rows::read_typed(answer, &schema.0);
        let rows = if answer.len() > DETACH_BYTES { py.detach(read) } else { read() };
        rows.map(|rows| Self(Arc::new(rows))).map_err(|error| raise(&error.into()))
    }

    fn __len__(&self) -> usize {
        self.0.records.len()
    }

    /// Each once, in the answer's order.
    fn keys<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let stands = |record: &&Record| self.0.get(&record.key).is_some_and(|last| std::ptr::eq(last, *record));
        self.0.records.iter().filter(stands).map(|record| PyBytes::new(py, &record.key)).collect()
    }

    /// The first and the last row's key, in the answer's order.
    fn ends<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let (first, last) = (self.0.records.first()?, self.0.records.last()?);
        Some((PyBytes::new(py, &first.key), PyBytes::new(py, &last.key)))
    }

    fn only(&self, key: &[u8]) -> Self {
        Self(Arc::new(self.0.get(key).cloned().into_iter().collect()))
    }

    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // extracted from Python lists
    fn joined(parts: Vec<PyRef<'_, Self>>) -> Self {
        Self(Arc::new(parts.iter().flat_map(|part| part.0.records.iter().cloned()).collect()))
    }

    #[getter]
    fn record_bytes(&self) -> usize {
        self.0.records.iter().map(|record| record.head.len() + record.tail.len()).sum()
    }

    #[pyo3(signature = (key, projection, id_type=None))]
    fn document<'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
        projection: &PyProjection,
        id_type: Option<&str>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let id_type = id_type_named(id_type)?;
        Ok(self.0.document(key, &projection.0, id_type).map(|text| PyBytes::new(py, &text)))
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("DocCacheError", module.py().get_type::<DocCacheError>())?;
    module.add_class::<PyProjection>()?;
    module.add_class::<PyRows>()?;
    Ok(())
}
