//! Bindings of schemas, and of rows that are told from writes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use hevlayer_doc::build::Builder;
use hevlayer_doc::patch::Patch;
use hevlayer_doc::{Rows, Schema};
use hevlayer_splice::Written;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::cache::{raise, PyRows};

#[pyclass(frozen, name = "DocSchema", module = "hevlayer._native")]
pub(crate) struct PySchema(pub(crate) Arc<Schema>);

#[pymethods]
impl PySchema {
    #[new]
    fn new(schema: &[u8]) -> PyResult<Self> {
        let text = std::str::from_utf8(schema).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Schema::read(text).map(|schema| Self(Arc::new(schema))).map_err(|error| raise(&error.into()))
    }

    #[getter]
    fn id_type(&self) -> Option<&'static str> {
        self.0.id_type.map(hevlayer_doc::IdType::name)
    }

    #[getter]
    fn attributes(&self) -> Vec<&str> {
        self.0.attributes.iter().map(|attribute| attribute.name.as_str()).collect()
    }

    #[getter]
    fn vectors(&self) -> Vec<&str> {
        let vectors = self.0.attributes.iter().filter(|attribute| attribute.kind.is_vector());
        vectors.map(|attribute| attribute.name.as_str()).collect()
    }
}

#[pyclass(frozen, name = "WrittenRows", module = "hevlayer._native")]
pub(crate) struct PyWritten {
    rows: Py<PyRows>,
    patches: Vec<Patch>,
    deleted: Vec<Vec<u8>>,
    builder: Mutex<Builder>,
}

impl PyWritten {
    pub(crate) fn new(py: Python<'_>, written: Written) -> PyResult<Self> {
        let Written { rows, patches, deleted } = written;
        Ok(Self { rows: Py::new(py, PyRows(rows.into()))?, patches, deleted, builder: Mutex::default() })
    }
}

#[pymethods]
impl PyWritten {
    #[getter]
    fn rows(&self, py: Python<'_>) -> Py<PyRows> {
        self.rows.clone_ref(py)
    }

    #[getter]
    fn deleted<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.deleted.iter().map(|key| PyBytes::new(py, key)))
    }

    #[getter]
    fn patched<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.patches.iter().map(|patch| PyBytes::new(py, &patch.key)))
    }

    fn apply(&self, py: Python<'_>, beneath: &PyRows) -> PyRows {
        py.detach(|| {
            let mut builder = self.builder.lock().unwrap_or_else(PoisonError::into_inner);
            let mut rows = Rows::default();
            let mut seen = HashSet::new();
            for patch in &self.patches {
                let view = beneath.0.get(&patch.key).and_then(|record| record.view().ok());
                let record = view.and_then(|view| patch.apply(&view, &mut builder));
                if let Some(record) = record.filter(|_| seen.insert(&patch.key)) {
                    rows.push(record);
                }
            }
            PyRows(rows.into())
        })
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySchema>()?;
    module.add_class::<PyWritten>()?;
    Ok(())
}
