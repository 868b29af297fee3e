//! Bindings of `hevlayer-filter` and `hevlayer-facet`.

use std::ops::Deref;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hevlayer_facet as facet;
use hevlayer_filter::columns::build::SegmentBuilder;
use hevlayer_filter::columns::ids::IdList;
use hevlayer_filter::columns::segment::{Origin, Segment};
use hevlayer_filter::columns::table::Table;
use hevlayer_filter::compile::{Filter, Used};
use hevlayer_filter::scan::{count_rows, ids_of_rows, Limits, Records, RowSource};
use hevlayer_filter::schema::Kind;
use hevlayer_filter::{schema, FilterError, ScanError};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::cache::PyRows;
use crate::cache_scan::PyScan;

create_exception!(hevlayer._native, FilterRefusedError, PyException);
create_exception!(hevlayer._native, ScanStoppedError, PyException);

fn refused(py: Python<'_>, error: &FilterError) -> PyErr {
    let raised = FilterRefusedError::new_err(error.message.clone());
    let value = raised.value(py);
    let set = value
        .setattr("code", error.code.as_str())
        .and_then(|()| value.setattr("pointer", &error.pointer))
        .and_then(|()| value.setattr("message", &error.message));
    set.err().unwrap_or(raised)
}

pub(crate) fn stopped(py: Python<'_>, error: &ScanError) -> PyErr {
    let code = match error {
        ScanError::TimedOut => "timed_out",
        ScanError::Cancelled => "cancelled",
        ScanError::Mistyped { .. } => "mistyped",
        ScanError::Source(_) => "source",
    };
    let raised = ScanStoppedError::new_err(error.to_string());
    let set = raised.value(py).setattr("code", code);
    set.err().unwrap_or(raised)
}

/// Works without the GIL. A panic becomes an ordinary exception.
fn work<T: Send>(py: Python<'_>, job: impl FnOnce() -> Result<T, ScanError> + Send) -> PyResult<T> {
    let done = py.detach(|| catch_unwind(AssertUnwindSafe(job)));
    let done = done.map_err(|_| PyRuntimeError::new_err("the scan failed"))?;
    done.map_err(|error| stopped(py, &error))
}

#[pyclass(frozen, name = "CancelFlag", module = "hevlayer._native")]
#[derive(Default)]
pub(crate) struct PyCancelFlag(Arc<AtomicBool>);

#[pymethods]
impl PyCancelFlag {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn limits(threads: usize, timeout_ms: Option<u64>, cancel: Option<&PyCancelFlag>) -> Limits {
    let deadline = timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
    Limits { threads, deadline, cancel: cancel.map(|flag| flag.0.clone()).unwrap_or_default() }
}

#[pyclass(frozen, name = "FilterSchema", module = "hevlayer._native")]
pub(crate) struct PySchema(schema::Schema);

#[pymethods]
impl PySchema {
    #[new]
    fn new(metadata: &[u8]) -> PyResult<Self> {
        schema::Schema::parse(metadata).map(Self).map_err(PyValueError::new_err)
    }
}

/// What a filter is evaluated over.
enum Source<'py> {
    Rows(PyRef<'py, PyRows>),
    Scan(PyRef<'py, PyScan>),
    Columns(PyRef<'py, PyColumns>),
}

impl<'py> Source<'py> {
    fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(columns) = object.cast::<PyColumns>() {
            return Ok(Self::Columns(columns.borrow()));
        }
        if let Ok(scan) = object.cast::<PyScan>() {
            return Ok(Self::Scan(scan.borrow()));
        }
        let rows = object.cast::<PyRows>();
        let rows = rows.map_err(|_| PyTypeError::new_err("source: expected DocRows, DocScan or ColumnTable"))?;
        Ok(Self::Rows(rows.borrow()))
    }
}

/// What columns are built from.
enum Either<'a> {
    Rows(Records<'a>),
    Scan(&'a PyScan),
}

impl Either<'_> {
    fn source(&self) -> &dyn RowSource {
        match self {
            Self::Rows(records) => records,
            Self::Scan(scan) => *scan,
        }
    }
}

#[pyclass(frozen, name = "CompiledFilter", module = "hevlayer._native")]
struct PyFilter {
    filter: Filter,
    schema: Py<PySchema>,
    /// Copied or compiled so quickly that giving up the GIL, and waiting for it, would take longer.
    is_short: bool,
}

/// Filters of so many bytes are short.
const SHORT_BYTES: usize = 512;

impl PyFilter {
    /// Without the GIL, unless the work is short.
    fn away<T: Send>(py: Python<'_>, is_short: bool, job: impl FnOnce() -> T + Send) -> T {
        if is_short {
            job()
        } else {
            py.detach(job)
        }
    }
}

#[pymethods]
impl PyFilter {
    #[new]
    fn new(py: Python<'_>, condition: Option<&[u8]>, schema: Py<PySchema>) -> PyResult<Self> {
        let rules = &schema.get().0;
        let is_short = condition.is_none_or(|text| text.len() <= SHORT_BYTES);
        let compiled = match condition {
            None => Ok(Filter::all()),
            Some(text) => Self::away(py, is_short, || Filter::new(text, rules)),
        };
        let filter = compiled.map_err(|error| refused(py, &error))?;
        Ok(Self { filter, schema, is_short })
    }

    fn narrowed(&self, py: Python<'_>, other: &Self) -> Self {
        let is_short = self.is_short && other.is_short;
        let filter = Self::away(py, is_short, || self.filter.clone().and(other.filter.clone()));
        Self { filter, schema: self.schema.clone_ref(py), is_short }
    }

    #[getter]
    fn attributes(&self) -> Vec<&str> {
        self.filter.attributes.iter().map(|used| used.name.as_str()).collect()
    }

    #[pyo3(signature = (source, *, threads = 1, timeout_ms = None, cancel = None))]
    fn count(
        &self,
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        threads: usize,
        timeout_ms: Option<u64>,
        cancel: Option<&PyCancelFlag>,
    ) -> PyResult<Option<(u64, u64)>> {
        let limits = limits(threads, timeout_ms, cancel);
        let filter = &self.filter;
        let counted = match Source::of(source)? {
            Source::Rows(rows) => {
                let records = Records(&rows.0.records);
                work(py, || count_rows(filter, &records, &limits).map(Some))?
            }
            Source::Scan(scan) => {
                let scan = &*scan;
                work(py, || count_rows(filter, scan, &limits).map(Some))?
            }
            Source::Columns(columns) => {
                let table = &columns.0;
                work(py, || read(table).count(filter, &limits))?
            }
        };
        Ok(counted.map(|counted| (counted.count, counted.rows)))
    }

    #[pyo3(signature = (source, *, after = None, limit = None, threads = 1, timeout_ms = None, cancel = None))]
    #[allow(clippy::too_many_arguments)] // They are Python's keyword arguments.
    fn ids(
        &self,
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        after: Option<&[u8]>,
        limit: Option<usize>,
        threads: usize,
        timeout_ms: Option<u64>,
        cancel: Option<&PyCancelFlag>,
    ) -> PyResult<Option<PyIdList>> {
        let limits = limits(threads, timeout_ms, cancel);
        let filter = &self.filter;
        let limit = limit.unwrap_or(usize::MAX);
        let ids = match Source::of(source)? {
            Source::Rows(rows) => {
                let records = Records(&rows.0.records);
                work(py, || ids_of_rows(filter, &records, after, limit, &limits).map(Some))?
            }
            Source::Scan(scan) => {
                let scan = &*scan;
                work(py, || ids_of_rows(filter, scan, after, limit, &limits).map(Some))?
            }
            Source::Columns(columns) => {
                let table = &columns.0;
                work(py, || read(table).ids(filter, after, limit, &limits))?
            }
        };
        Ok(ids.map(PyIdList))
    }

    #[pyo3(signature = (source, field, *, groups_max, threads = 1, timeout_ms = None, cancel = None))]
    #[allow(clippy::too_many_arguments)]
    fn values<'py>(
        &self,
        py: Python<'py>,
        source: &Bound<'py, PyAny>,
        field: &str,
        groups_max: usize,
        threads: usize,
        timeout_ms: Option<u64>,
        cancel: Option<&PyCancelFlag>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let limits = limits(threads, timeout_ms, cancel);
        let mut filter = self.filter.clone();
        let place = filter.read_also(field, &self.schema.get().0).map_err(|error| refused(py, &error))?;
        let filter = &filter;
        let json = match Source::of(source)? {
            Source::Rows(rows) => {
                let records = Records(&rows.0.records);
                let count = || facet::rows::of_rows(filter, place, &records, groups_max, &limits);
                Some(work(py, || count().map(|histogram| histogram.json()))?)
            }
            Source::Scan(scan) => {
                let scan = &*scan;
                let count = || facet::rows::of_rows(filter, place, scan, groups_max, &limits);
                Some(work(py, || count().map(|histogram| histogram.json()))?)
            }
            Source::Columns(columns) => {
                let table = &columns.0;
                work(py, || facet::codes::json_of_table(filter, place, &read(table), groups_max, &limits))?
            }
        };
        Ok(json.map(|json| PyBytes::new(py, &json)))
    }
}

/// The id's kind and the attributes of columns, as a build takes them. `id` always has one.
pub(crate) fn wanted_columns(py: Python<'_>, schema: &PySchema, names: &[String]) -> PyResult<(Kind, Vec<Used>)> {
    let id_kind = schema.0.id.ok_or_else(|| PyValueError::new_err("schema: the namespace has no id type yet"))?;
    let mut columns = Filter::all();
    for name in names.iter().filter(|name| *name != "id") {
        columns.read_also(name, &schema.0).map_err(|error| refused(py, &error))?;
    }
    Ok((id_kind, columns.attributes))
}

fn read(table: &RwLock<Table>) -> impl Deref<Target = Table> + '_ {
    table.read().unwrap_or_else(PoisonError::into_inner)
}

#[pyclass(frozen, name = "IdList", module = "hevlayer._native")]
struct PyIdList(IdList);

#[pymethods]
impl PyIdList {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn key<'py>(&self, py: Python<'py>, index: usize) -> Option<Bound<'py, PyBytes>> {
        self.0.key(index).map(|key| PyBytes::new(py, &key))
    }

    fn page<'py>(&self, py: Python<'py>, offset: usize, limit: usize) -> Bound<'py, PyBytes> {
        let page = py.detach(|| self.0.json(offset, limit));
        PyBytes::new(py, &page)
    }
}

#[pyclass(frozen, name = "ColumnTable", module = "hevlayer._native")]
pub(crate) struct PyColumns(RwLock<Table>);

impl PyColumns {
    pub(crate) fn new(table: Table) -> Self {
        Self(RwLock::new(table))
    }
}

#[pymethods]
impl PyColumns {
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let segment = py.detach(|| Segment::open(&path))?;
        Ok(Self::new(Table::new(Arc::new(segment))))
    }

    #[staticmethod]
    #[pyo3(signature = (path, source, schema, attributes, *, sequence = 0, timeout_ms = None, cancel = None))]
    #[allow(clippy::too_many_arguments)]
    fn build<'py>(
        py: Python<'py>,
        path: PathBuf,
        source: &Bound<'py, PyAny>,
        schema: &PySchema,
        attributes: Vec<String>,
        sequence: u64,
        timeout_ms: Option<u64>,
        cancel: Option<&PyCancelFlag>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (id_kind, columns) = wanted_columns(py, schema, &attributes)?;
        let limits = limits(1, timeout_ms, cancel);
        let source = Source::of(source)?;
        let rows = match &source {
            Source::Rows(rows) => Either::Rows(Records(&rows.0.records)),
            Source::Scan(scan) => Either::Scan(scan),
            Source::Columns(_) => return Err(PyTypeError::new_err("source: expected DocRows or DocScan")),
        };
        let begun = Instant::now();
        let built = work(py, || {
            let mut builder = SegmentBuilder::new(id_kind, columns);
            builder.read(rows.source(), &limits)?;
            builder.finish(&path, sequence, Origin::default())
        })?;
        let report = PyDict::new(py);
        report.set_item("rows", built.rows)?;
        report.set_item("bytes", built.bytes)?;
        report.set_item("left_out", built.left_out)?;
        report.set_item("seconds", begun.elapsed().as_secs_f64())?;
        Ok(report)
    }

    /// Takes rows that were written since, and keys of rows that are gone.
    fn change(&self, py: Python<'_>, rows: &PyRows, gone: Vec<Vec<u8>>, sequence: u64) {
        py.detach(|| {
            let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
            rows.0.records.iter().for_each(|record| table.change(&record.key, Some(&record.head)));
            gone.iter().for_each(|key| table.change(key, None));
            table.sequence = table.sequence.max(sequence);
        });
    }

    #[getter]
    fn attributes(&self) -> Vec<String> {
        read(&self.0).segment.directory.columns.iter().map(|column| column.name.clone()).collect()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let table = read(&self.0);
        let stats = PyDict::new(py);
        stats.set_item("rows", table.rows())?;
        stats.set_item("segment_rows", table.segment.rows())?;
        stats.set_item("segment_bytes", table.segment.bytes())?;
        stats.set_item("changed_rows", table.changed_rows())?;
        stats.set_item("superseded_rows", table.superseded_rows())?;
        stats.set_item("changed_bytes", table.changed_bytes())?;
        stats.set_item("sequence", table.sequence)?;
        Ok(stats)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("FilterRefusedError", module.py().get_type::<FilterRefusedError>())?;
    module.add("ScanStoppedError", module.py().get_type::<ScanStoppedError>())?;
    module.add_class::<PyCancelFlag>()?;
    module.add_class::<PySchema>()?;
    module.add_class::<PyFilter>()?;
    module.add_class::<PyIdList>()?;
    module.add_class::<PyColumns>()?;
    Ok(())
}
