//! Bindings of `hevlayer-splice`.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hevlayer_doc::{id, shard};
use hevlayer_splice as splice;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString};

use crate::rows::{PySchema, PyWritten};

create_exception!(
    hevlayer._native,
    SpliceError,
    PyException,
    "A body that is refused. `code` is one of `bad_json`, `validation_error`, `not_supported`."
);

/// Bodies longer than this are worked on without the GIL; shorter ones take less time than handing it over.
const DETACH_BYTES: usize = 16 * 1024;

/// Rows of one write are told up to here; those of a larger write are read again instead.
const WRITTEN_BYTES_MAX: usize = 64 << 20;

fn refusal(py: Python<'_>, error: &splice::SpliceError) -> PyErr {
    let raised = SpliceError::new_err(error.message.clone());
    let value = raised.value(py);
    let set = value.setattr("code", error.code.as_str()).and_then(|()| value.setattr("message", &error.message));
    set.err().unwrap_or(raised)
}

/// Does work on a body, without the GIL when it is long. A panic becomes an ordinary exception.
fn work<T: Send>(py: Python<'_>, body: &[u8], job: impl FnOnce() -> T + Send) -> PyResult<T> {
    if body.len() > DETACH_BYTES {
        py.detach(|| in_place(job))
    } else {
        in_place(job)
    }
}

/// The same with the GIL held, for what is over in a moment.
pub(crate) fn in_place<T>(job: impl FnOnce() -> T) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(job)).map_err(|_| PyRuntimeError::new_err("the splicer failed on this body"))
}

fn work_or_refuse<T: Send>(
    py: Python<'_>,
    body: &[u8],
    job: impl FnOnce() -> Result<T, splice::SpliceError> + Send,
) -> PyResult<T> {
    work(py, body, job)?.map_err(|error| refusal(py, &error))
}

/// The edited body, or the very object when nothing changed.
fn edited<'py>(body: &Bound<'py, PyBytes>, edit: Option<Vec<u8>>) -> Bound<'py, PyBytes> {
    edit.map_or_else(|| body.clone(), |bytes| PyBytes::new(body.py(), &bytes))
}

enum Body {
    Bytes(Py<PyBytes>),
    File(splice::Mapped),
}

#[pyclass(frozen, module = "hevlayer._native")]
struct WriteScan {
    body: Body,
    scan: splice::WriteScan,
    chunks: Mutex<splice::RenderState>,
}

impl WriteScan {
    fn bytes<'a>(&'a self, py: Python<'a>) -> &'a [u8] {
        match &self.body {
            Body::Bytes(bytes) => bytes.as_bytes(py),
            Body::File(mapped) => mapped,
        }
    }
}

#[pymethods]
impl WriteScan {
    #[new]
    #[pyo3(signature = (body, *, patch_method = false, shards = None))]
    fn new(body: Bound<'_, PyBytes>, patch_method: bool, shards: Option<u32>) -> PyResult<Self> {
        let bytes = body.as_bytes();
        let scan = work_or_refuse(body.py(), bytes, || splice::WriteScan::sharded(bytes, patch_method, shards))?;
        Ok(Self { scan, body: Body::Bytes(body.unbind()), chunks: Mutex::default() })
    }

    #[staticmethod]
    #[pyo3(signature = (path, *, patch_method = false, shards = None))]
    fn open(py: Python<'_>, path: PathBuf, patch_method: bool, shards: Option<u32>) -> PyResult<Self> {
        let mapped = py.detach(|| splice::Mapped::open(&path))?;
        let scan = work_or_refuse(py, &mapped, || splice::WriteScan::sharded(&mapped, patch_method, shards))?;
        Ok(Self { scan, body: Body::File(mapped), chunks: Mutex::default() })
    }

    #[getter]
    fn dialect(&self) -> &'static str {
        self.scan.dialect.as_str()
    }

    #[getter]
    fn upserts(&self) -> u64 {
        self.scan.upserts
    }

    #[getter]
    fn patches(&self) -> u64 {
        self.scan.patches
    }

    #[getter]
    fn deletes(&self) -> u64 {
        self.scan.deletes
    }

    #[getter]
    fn has_vectors(&self) -> bool {
        self.scan.has_vectors
    }

    #[getter]
    fn by_filter(&self) -> bool {
        self.scan.by_filter
    }

    #[getter]
    fn conditional(&self) -> bool {
        self.scan.conditional
    }

    #[getter]
    fn exclusive(&self) -> Option<&'static str> {
        self.scan.exclusive.map(|exclusive| match exclusive {
            splice::Exclusive::Copy => "copy",
            splice::Exclusive::Branch => "branch",
        })
    }

    #[getter]
    fn drops_attribute(&self) -> bool {
        self.scan.drops_attribute
    }

    #[getter]
    fn writes_rows(&self) -> bool {
        self.scan.writes_rows
    }

    #[getter]
    fn ids_known(&self) -> bool {
        self.scan.ids_known
    }

    #[getter]
    fn affected_ids(&self) -> Option<bool> {
        self.scan.affected_ids
    }

    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let body = self.bytes(py);
        let keys = work(py, body, || self.scan.ids(body))?;
        PyList::new(py, keys.iter().map(|key| PyBytes::new(py, key)))
    }

    #[pyo3(signature = (stamp_ms, schema, *, affected = None, bytes_max = WRITTEN_BYTES_MAX))]
    fn rows(
        &self,
        py: Python<'_>,
        stamp_ms: u64,
        schema: &PySchema,
        affected: Option<Vec<Vec<u8>>>,
        bytes_max: usize,
    ) -> PyResult<PyWritten> {
        let body = self.bytes(py);
        let affected = affected.map(|keys| keys.into_iter().collect());
        let facts = splice::Facts { stamp_ms, schema: &schema.0, affected: affected.as_ref(), bytes_max };
        PyWritten::new(py, work(py, body, || self.scan.written(body, &facts))?)
    }

    #[pyo3(signature = (stamp_ms, *, distance_metric = None))]
    fn render<'py>(
        &self,
        py: Python<'py>,
        stamp_ms: u64,
        distance_metric: Option<&str>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let Body::Bytes(object) = &self.body else {
            return Err(PyTypeError::new_err("the scan of a file is rendered with render_chunk"));
        };
        if self.scan.is_untouched() {
            return Ok(object.bind(py).clone());
        }
        let body = object.as_bytes(py);
        let bytes = work(py, body, || self.scan.render(body, stamp_ms, distance_metric))?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[pyo3(signature = (stamp_ms, *, distance_metric = None))]
    fn rendered_length(&self, py: Python<'_>, stamp_ms: u64, distance_metric: Option<&str>) -> PyResult<usize> {
        let body = self.bytes(py);
        work(py, body, || self.scan.rendered_length(body, stamp_ms, distance_metric))
    }

    #[pyo3(signature = (stamp_ms, offset, size, *, distance_metric = None))]
    fn render_chunk<'py>(
        &self,
        py: Python<'py>,
        stamp_ms: u64,
        offset: usize,
        size: usize,
        distance_metric: Option<&str>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let body = self.bytes(py);
        let bytes = work(py, body, || {
            let mut state = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
            let mut out = Vec::with_capacity(size.min(body.len()));
            self.scan.render_chunk(body, &mut state, stamp_ms, distance_metric, (offset, size), &mut out);
            out
        })?;
        Ok(PyBytes::new(py, &bytes))
    }
}

#[pyclass(frozen, module = "hevlayer._native")]
struct QueryScan {
    body: Py<PyBytes>,
    scan: splice::QueryScan,
}

#[pymethods]
impl QueryScan {
    #[new]
    fn new(body: Bound<'_, PyBytes>) -> PyResult<Self> {
        let bytes = body.as_bytes();
        let scan = work_or_refuse(body.py(), bytes, || splice::QueryScan::new(bytes))?;
        Ok(Self { scan, body: body.unbind() })
    }

    #[getter]
    fn dialect(&self) -> &'static str {
        self.scan.dialect.as_str()
    }

    #[getter]
    fn multi(&self) -> bool {
        self.scan.multi
    }

    #[getter]
    fn legs(&self) -> usize {
        self.scan.legs
    }

    #[getter]
    fn has_consistency(&self) -> bool {
        self.scan.has_consistency
    }

    #[getter]
    fn has_filter(&self) -> bool {
        self.scan.has_filter
    }

    #[getter]
    fn has_rank_by(&self) -> bool {
        self.scan.has_rank_by
    }

    #[getter]
    fn model_rerank(&self) -> bool {
        self.scan.model_rerank
    }

    #[getter]
    fn wants_reserved(&self) -> bool {
        self.scan.wants_reserved
    }

    #[getter]
    fn permits(&self) -> u32 {
        self.scan.permits
    }

    /// What the plan of a query needs to know, in one look.
    #[getter]
    fn facts(&self) -> (bool, bool, bool, bool, usize, bool, bool) {
        let scan = &self.scan;
        let is_layer = scan.nearest_to_id.is_some() || scan.dialect.as_str() == "layer";
        let legs = if scan.multi { scan.legs } else { 0 };
        let reserved = (scan.wants_reserved, scan.model_rerank);
        (is_layer, scan.has_consistency, scan.has_filter, scan.has_rank_by, legs, reserved.0, reserved.1)
    }

    #[getter]
    fn nearest_to_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        let Some(ids) = &self.scan.nearest_to_id else {
            return Ok(None);
        };
        let list = PyList::empty(py);
        for id in ids {
            match id {
                splice::NearestId::Uint(number) => list.append(number)?,
                splice::NearestId::String(name) => list.append(name)?,
            }
        }
        Ok(Some(list))
    }

    #[pyo3(signature = (*, eventual, watermark_ms, exclude_reserved, vector = None))]
    fn render<'py>(
        &self,
        py: Python<'py>,
        eventual: bool,
        watermark_ms: Option<u64>,
        exclude_reserved: bool,
        vector: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if self.scan.nearest_to_id.is_some() && vector.is_none() {
            return Err(PyValueError::new_err("a query with `nearest_to_id` is rendered with its vector"));
        }
        let body = self.body.bind(py);
        let bytes = body.as_bytes();
        let wanted = splice::QueryRender { eventual, watermark_ms, exclude_reserved, vector };
        let edit = work(py, bytes, || self.scan.render(bytes, &wanted))?;
        Ok(edited(body, edit))
    }
}

#[pyfunction]
fn layer_results<'py>(body: Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = body.as_bytes();
    let edit = work_or_refuse(body.py(), bytes, || splice::layer_results(bytes))?;
    Ok(edited(&body, edit))
}

#[pyfunction]
fn strip_rows<'py>(body: Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = body.as_bytes();
    let edit = work_or_refuse(body.py(), bytes, || splice::strip_rows(bytes))?;
    Ok(edited(&body, edit))
}

#[pyfunction]
#[pyo3(signature = (body, under))]
fn strip_schema<'py>(body: Bound<'py, PyBytes>, under: Option<&str>) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = body.as_bytes();
    let edit = work(body.py(), bytes, || splice::strip_schema(bytes, under))?;
    Ok(edited(&body, edit))
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // an argument from Python is owned
fn top_level<'py>(body: Bound<'py, PyBytes>, keys: Vec<String>) -> PyResult<Bound<'py, PyDict>> {
    let py = body.py();
    let bytes = body.as_bytes();
    let ranges = work_or_refuse(py, bytes, || splice::top_level(bytes, &keys))?;
    let members = PyDict::new(py);
    for (key, range) in keys.iter().zip(ranges) {
        if let Some((start, end)) = range {
            members.set_item(key, PyBytes::new(py, &bytes[start..end]))?;
        }
    }
    Ok(members)
}

#[pyfunction]
fn separators(py: Python<'_>, text: &[u8]) -> PyResult<usize> {
    work(py, text, || splice::separators(text))
}

type KeysAndAnswer<'py> = (Option<Bound<'py, PyList>>, Bound<'py, PyList>, Bound<'py, PyBytes>);

fn list_of<'py>(py: Python<'py>, keys: &[Vec<u8>]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, keys.iter().map(|key| PyBytes::new(py, key)))
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // an argument from Python is owned
fn affected_ids(answer: Bound<'_, PyBytes>) -> PyResult<KeysAndAnswer<'_>> {
    let py = answer.py();
    let bytes = answer.as_bytes();
    let found = work_or_refuse(py, bytes, || splice::affected_ids(bytes))?;
    let keys = found.keys.as_deref().map(|keys| list_of(py, keys)).transpose()?;
    Ok((keys, list_of(py, &found.deleted)?, edited(&answer, found.stripped)))
}

#[pyfunction]
#[pyo3(signature = (body, /))]
fn query_shape<'py>(body: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = body.as_bytes();
    Ok(PyBytes::new(body.py(), &work(body.py(), bytes, || splice::query_shape(bytes))?))
}

#[pyfunction]
#[pyo3(signature = (answer, most, /))]
fn answer_ids<'py>(answer: &Bound<'py, PyBytes>, most: usize) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = answer.as_bytes();
    Ok(PyBytes::new(answer.py(), &work(answer.py(), bytes, || splice::answer_ids(bytes, most))?))
}

#[pyfunction]
#[pyo3(signature = (value, /))]
fn id_key<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let key = if let Ok(text) = value.cast::<PyString>() {
        id::string_key(text.to_cow()?.as_ref())
    } else if value.is_instance_of::<PyInt>() {
        id::uint_key(value.extract::<u64>()?)
    } else {
        return Err(PyTypeError::new_err("an id is a str or an int"));
    };
    Ok(PyBytes::new(value.py(), &key))
}

#[pyfunction]
#[pyo3(signature = (value, shards, /))]
fn shard_of(value: &Bound<'_, PyAny>, shards: u32) -> PyResult<u32> {
    if let Ok(text) = value.cast::<PyString>() {
        Ok(shard::text_shard(text.to_cow()?.as_ref(), shards))
    } else if value.is_instance_of::<PyInt>() {
        Ok(shard::uint_shard(value.extract::<u64>()?, shards))
    } else {
        Err(PyTypeError::new_err("an id is a str or an int"))
    }
}

#[pyfunction]
fn uuid_key<'py>(py: Python<'py>, text: &str) -> Option<Bound<'py, PyBytes>> {
    id::uuid_text_key(text).map(|key| PyBytes::new(py, &key))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SpliceError", module.py().get_type::<SpliceError>())?;
    module.add_class::<WriteScan>()?;
    module.add_class::<QueryScan>()?;
    module.add_function(wrap_pyfunction!(layer_results, module)?)?;
    module.add_function(wrap_pyfunction!(strip_rows, module)?)?;
    module.add_function(wrap_pyfunction!(strip_schema, module)?)?;
    module.add_function(wrap_pyfunction!(top_level, module)?)?;
    module.add_function(wrap_pyfunction!(separators, module)?)?;
    module.add_function(wrap_pyfunction!(affected_ids, module)?)?;
    module.add_function(wrap_pyfunction!(query_shape, module)?)?;
    module.add_function(wrap_pyfunction!(answer_ids, module)?)?;
    module.add_function(wrap_pyfunction!(id_key, module)?)?;
    module.add_function(wrap_pyfunction!(shard_of, module)?)?;
    module.add_function(wrap_pyfunction!(uuid_key, module)?)?;
    Ok(())
}
