//! Bindings of `hevlayer-cache`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hevlayer_cache::fences::Fences;
use hevlayer_cache::table::Key;
use hevlayer_cache::{CacheError, Engine, IdType, Lookup, Options, Outcome, Projection, Record, Rows};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::rows::PySchema;

/// Answers over this size are split without the GIL.
const DETACH_BYTES: usize = 16 << 10;
const MARKED: i64 = 0;
const WOULD_WAIT: i64 = -1;
/// No id has this key: every one begins with a tag.
const WHOLE: &[u8] = b"";

create_exception!(_native, DocCacheError, PyException);

pub(crate) fn raise(error: &CacheError) -> PyErr {
    let code = match error {
        CacheError::Locked => "locked",
        CacheError::Closed => "closed",
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
pub(crate) struct PyRows(pub(crate) Rows);

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
        rows.map(Self).map_err(|error| raise(&error.into()))
    }

    #[staticmethod]
    fn typed(py: Python<'_>, answer: &[u8], schema: &PySchema) -> PyResult<Self> {
        let read = || Rows::read_typed(answer, &schema.0);
        let rows = if answer.len() > DETACH_BYTES { py.detach(read) } else { read() };
        rows.map(Self).map_err(|error| raise(&error.into()))
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
        Self(self.0.get(key).cloned().into_iter().collect())
    }

    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // extracted from Python lists
    fn joined(parts: Vec<PyRef<'_, Self>>) -> Self {
        Self(parts.iter().flat_map(|part| part.0.records.iter().cloned()).collect())
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

#[pyclass(frozen, name = "DocCacheEngine", module = "hevlayer._native")]
struct PyEngine(Engine);

#[pymethods]
impl PyEngine {
    #[new]
    #[pyo3(signature = (directory, *, identity, capacity_bytes, ttl_ms, unknown_write_ms, now_ms))]
    fn new(
        py: Python<'_>,
        directory: PathBuf,
        identity: String,
        capacity_bytes: u64,
        ttl_ms: u64,
        unknown_write_ms: u64,
        now_ms: u64,
    ) -> PyResult<Self> {
        let options = Options { directory, identity, capacity_bytes, ttl_ms, unknown_write_ms };
        py.detach(|| Engine::open(options, now_ms)).map(Self).map_err(|error| raise(&error))
    }

    #[pyo3(signature = (namespace, key, projection, id_type, now_ms, *, wait))]
    #[allow(clippy::too_many_arguments)]
    fn lookup<'py>(
        &self,
        py: Python<'py>,
        namespace: &str,
        key: &[u8],
        projection: &PyProjection,
        id_type: Option<&str>,
        now_ms: u64,
        wait: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let id_type = id_type_named(id_type)?;
        let find = || self.0.lookup(namespace, key, &projection.0, id_type, now_ms, wait);
        let found = if wait { py.detach(find) } else { find() };
        found_object(py, found)
    }

    #[pyo3(signature = (namespace, keys, projection, now_ms, *, wait))]
    #[allow(clippy::needless_pass_by_value)] // extracted from Python lists
    fn lookup_many<'py>(
        &self,
        py: Python<'py>,
        namespace: &str,
        keys: Vec<Vec<u8>>,
        projection: &PyProjection,
        now_ms: u64,
        wait: bool,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let find = || -> Vec<_> {
            keys.iter().map(|key| self.0.lookup(namespace, key, &projection.0, None, now_ms, wait)).collect()
        };
        let found: Vec<_> = if wait { py.detach(find) } else { find() };
        found.into_iter().map(|found| found_object(py, found)).collect()
    }

    fn owe(&self, py: Python<'_>, owing: bool) -> PyResult<()> {
        py.detach(|| self.0.owe(owing)).map_err(|error| raise(&error))
    }

    #[pyo3(signature = (namespace, rows, ticket, now_ms, *, wait))]
    fn fill(
        &self,
        py: Python<'_>,
        namespace: &str,
        rows: &PyRows,
        ticket: u64,
        now_ms: u64,
        wait: bool,
    ) -> PyResult<Option<(usize, bool)>> {
        let put = || self.0.fill(namespace, &rows.0, ticket, now_ms, wait);
        let put = if wait { py.detach(put) } else { put() };
        put.map_err(|error| raise(&error))
    }

    #[pyo3(signature = (token, namespace, keys, deadline_ms, *, wait))]
    fn mark(
        &self,
        py: Python<'_>,
        token: u64,
        namespace: &str,
        keys: Option<Vec<Vec<u8>>>,
        deadline_ms: u64,
        wait: bool,
    ) -> PyResult<bool> {
        let keys = keys.map(|keys| keys.into_iter().map(Key::from).collect());
        let mark = || self.0.mark(token, namespace, keys, deadline_ms, wait);
        let marked = if wait { py.detach(mark) } else { mark() };
        marked.map_err(|error| raise(&error))
    }

    #[pyo3(signature = (token, outcome, now_ms, *, wait))]
    fn settle(&self, py: Python<'_>, token: u64, outcome: &str, now_ms: u64, wait: bool) -> PyResult<Option<bool>> {
        let outcome = match outcome {
            "applied" => Outcome::Applied,
            "refused" => Outcome::Refused,
            "unknown" => Outcome::Unknown,
            other => return Err(PyValueError::new_err(format!("no outcome {other:?}"))),
        };
        let settle = || self.0.settle(token, outcome, now_ms, wait);
        let settled = if wait { py.detach(settle) } else { settle() };
        settled.map_err(|error| raise(&error))
    }

    fn clear(&self, py: Python<'_>, namespace: &str, now_ms: u64) -> PyResult<()> {
        py.detach(|| self.0.clear(namespace, now_ms)).map_err(|error| raise(&error))
    }

    fn trim(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.trim()).map_err(|error| raise(&error))
    }

    fn state<'py>(&self, py: Python<'py>, namespace: &str) -> PyResult<Bound<'py, PyDict>> {
        let state = py.detach(|| self.0.state(namespace)).map_err(|error| raise(&error))?;
        let fields = PyDict::new(py);
        fields.set_item("rows", state.rows)?;
        fields.set_item("bytes", state.bytes)?;
        fields.set_item("marked", state.marked)?;
        fields.set_item("closed", state.closed)?;
        Ok(fields)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.0.stats()).map_err(|error| raise(&error))?;
        let fields = PyDict::new(py);
        fields.set_item("rows", stats.rows)?;
        fields.set_item("bytes", stats.bytes)?;
        fields.set_item("capacity_bytes", stats.capacity_bytes)?;
        fields.set_item("open_writes", stats.open_writes)?;
        fields.set_item("evicted_rows", stats.evicted_rows)?;
        fields.set_item("evicted_segments", stats.evicted_segments)?;
        fields.set_item("refused_fills", stats.refused_fills)?;
        fields.set_item("io_errors", stats.io_errors)?;
        Ok(fields)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.close()).map_err(|error| raise(&error))
    }
}

#[pyclass(frozen, name = "WriteClock", module = "hevlayer._native")]
struct PyWriteClock(Mutex<Fences>);

#[pymethods]
impl PyWriteClock {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(Fences::default()))
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python lists
    fn touch(&self, namespace: &str, keys: Option<Vec<Vec<u8>>>) {
        let mut fences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match keys {
            Some(keys) => keys.iter().for_each(|key| fences.touch(namespace, key)),
            None => fences.touch(namespace, WHOLE),
        }
    }

    fn generation(&self, namespace: &str, key: &[u8]) -> u64 {
        let fences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fences.touched(namespace, key).max(fences.touched(namespace, WHOLE))
    }
}

fn found_object(py: Python<'_>, found: Result<Lookup, CacheError>) -> PyResult<Bound<'_, PyAny>> {
    match found {
        Ok(Lookup::Hit(text)) => Ok(PyBytes::new(py, &text).into_any()),
        Ok(Lookup::Empty(ticket)) => Ok(ticket.into_pyobject(py)?.into_any()),
        Ok(Lookup::Marked) => Ok(MARKED.into_pyobject(py)?.into_any()),
        Ok(Lookup::WouldWait) => Ok(WOULD_WAIT.into_pyobject(py)?.into_any()),
        Err(error) => Err(raise(&error)),
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("DocCacheError", module.py().get_type::<DocCacheError>())?;
    module.add_class::<PyProjection>()?;
    module.add_class::<PyRows>()?;
    module.add_class::<PyEngine>()?;
    module.add_class::<PyWriteClock>()?;
    Ok(())
}
