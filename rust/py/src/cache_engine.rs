//! Bindings of the embedded engine of the document cache.

use std::cell::RefCell;
use std::collections::HashSet;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use hevlayer_cache::COLUMNS;
use hevlayer_cache::{
    distinct, CacheError, Call, Engine, Facts, Key, Looked, Options, Outcome, Pending, Reply, Settle, MOMENT,
};
use hevlayer_columns::{ColumnsError, FileFacts, Request, Shelf, Snapshot};
use hevlayer_filter::ScanError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::cache::{id_type_named, raise, PyProjection, PyRows};
use crate::cache_scan::PyScan;
use crate::filter::{limits, stopped, wanted_columns, PyCancelFlag, PyColumns, PySchema};

/// A text longer than this is not kept room for.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `make` with an empty buffer that has room from the calls before.
pub(crate) fn with_scratch<T>(make: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    SCRATCH.with(|scratch| {
        let mut text = scratch.take();
        text.clear();
        let made = make(&mut text);
        if text.capacity() <= SCRATCH_BYTES_MAX {
            scratch.replace(text);
        }
        made
    })
}

fn keys_of(keys: Vec<Vec<u8>>) -> Vec<Key> {
    keys.into_iter().map(Key::from).collect()
}

/// A change that was handed over and is not made yet.
#[pyclass(frozen, name = "DocCachePending", module = "hevlayer._native")]
struct PyPending(Mutex<Option<(Pending, Answer)>>);

/// What a change answers with.
#[derive(Clone, Copy)]
enum Answer {
    Nothing,
    Found,
    Put,
    Page,
}

impl Answer {
    fn object(self, py: Python<'_>, reply: Reply) -> PyResult<Bound<'_, PyAny>> {
        let absent = |keys: Vec<Key>| keys.iter().map(|key| PyBytes::new(py, key)).collect::<Vec<_>>();
        Ok(match self {
            Self::Nothing => true.into_pyobject(py)?.to_owned().into_any(),
            Self::Found => reply.found.into_pyobject(py)?.to_owned().into_any(),
            Self::Put => reply.put.into_pyobject(py)?.into_any(),
            Self::Page => (reply.put, absent(reply.absent)).into_pyobject(py)?.into_any(),
        })
    }
}

#[pymethods]
impl PyPending {
    /// What the change answers with, once; None while it is not made.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut pending = self.0.lock().map_err(|_| raise(&CacheError::Closed))?;
        let Some((call, answer)) = pending.as_ref() else {
            return Err(raise(&CacheError::Closed));
        };
        let Some(ended) = call.look() else {
            return Ok(None);
        };
        let answer = *answer;
        *pending = None;
        answer.object(py, ended.map_err(|error| raise(&error))?).map(Some)
    }
}

#[pyclass(frozen, name = "DocCacheEngine", module = "hevlayer._native")]
pub(crate) struct PyEngine(pub(crate) Engine, Shelf);

impl PyEngine {
    fn hand_over<'py>(
        &self,
        py: Python<'py>,
        call: Call,
        answer: Answer,
        in_place: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let ended = if in_place {
            let pending = self.0.submit(call).map_err(|error| raise(&error))?;
            py.detach(|| pending.wait(MOMENT)).ok_or(pending)
        } else {
            Err(self.0.queue(call).map_err(|error| raise(&error))?)
        };
        let pending = match ended {
            Ok(ended) => return answer.object(py, ended.map_err(|error| raise(&error))?),
            Err(pending) => pending,
        };
        match pending.look() {
            Some(ended) => answer.object(py, ended.map_err(|error| raise(&error))?),
            None => Ok(Bound::new(py, PyPending(Mutex::new(Some((pending, answer)))))?.into_any()),
        }
    }
}

#[pymethods]
impl PyEngine {
    #[new]
    #[pyo3(signature = (directory, *, identity, capacity_bytes, ttl_ms, unknown_write_ms, now_ms, namespace_capacity_bytes=0))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        directory: PathBuf,
        identity: String,
        capacity_bytes: u64,
        ttl_ms: u64,
        unknown_write_ms: u64,
        now_ms: u64,
        namespace_capacity_bytes: u64,
    ) -> PyResult<Self> {
        let shelf = Shelf::new(directory.join(COLUMNS));
        let options =
            Options { directory, identity, capacity_bytes, namespace_capacity_bytes, ttl_ms, unknown_write_ms };
        let engine = py.detach(|| Engine::open(&options, now_ms)).map_err(|error| raise(&error))?;
        Ok(Self(engine, shelf))
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
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let form = (&projection.0, id_type_named(id_type)?);
        with_scratch(|text| {
            let mut find = || self.0.lookup_into(namespace, key, form, now_ms, wait, text);
            let looked = if wait { py.detach(find) } else { find() }.map_err(|error| raise(&error))?;
            Ok(match looked {
                Looked::Hit => Some(PyBytes::new(py, text).into_any()),
                Looked::Ticket(ticket) => Some(ticket.into_pyobject(py)?.into_any()),
                Looked::WouldWait => None,
            })
        })
    }

    /// In the order of the keys, with the number of documents that were found.
    #[pyo3(signature = (namespace, keys, projection, now_ms, *, wait))]
    #[allow(clippy::needless_pass_by_value)] // extracted from a Python list
    fn lookup_many<'py>(
        &self,
        py: Python<'py>,
        namespace: &str,
        keys: Vec<PyBackedBytes>,
        projection: &PyProjection,
        now_ms: u64,
        wait: bool,
    ) -> PyResult<Option<(Bound<'py, PyList>, usize)>> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        let mut hits = 0;
        let found = PyList::empty(py);
        if wait {
            let look = || {
                self.0.lookup_many(namespace, &keys, &projection.0, now_ms, true, |looked, text| {
                    (*looked, if *looked == Looked::Hit { text.to_vec() } else { Vec::new() })
                })
            };
            let Some(made) = py.detach(look).map_err(|error| raise(&error))? else { return Ok(None) };
            for (looked, text) in made {
                hits += usize::from(looked == Looked::Hit);
                found.append(looked_object(py, looked, &text)?)?;
            }
            return Ok(Some((found, hits)));
        }
        let make = |looked: &Looked, text: &[u8]| {
            hits += usize::from(*looked == Looked::Hit);
            found.append(looked_object(py, *looked, text)?)
        };
        let made = self.0.lookup_many(namespace, &keys, &projection.0, now_ms, false, make);
        let Some(made) = made.map_err(|error| raise(&error))? else { return Ok(None) };
        made.into_iter().collect::<PyResult<()>>()?;
        Ok(Some((found, hits)))
    }

    #[pyo3(signature = (namespace, rows, keys, tickets, now_ms, *, in_place))]
    #[allow(clippy::too_many_arguments)]
    fn fill<'py>(
        &self,
        py: Python<'py>,
        namespace: &str,
        rows: &PyRows,
        keys: Vec<Vec<u8>>,
        tickets: Vec<i64>,
        now_ms: u64,
        in_place: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        if keys.len() != tickets.len() {
            return Err(PyValueError::new_err("as many tickets as keys are needed"));
        }
        let (namespace, rows, keys) = (namespace.into(), rows.0.clone(), keys_of(keys));
        self.hand_over(py, Call::Fill { namespace, rows, keys, tickets, now_ms }, Answer::Put, in_place)
    }

    fn begin_fill(&self, namespace: &str, now_ms: u64) -> PyResult<i64> {
        self.0.begin_fill(namespace, now_ms).map_err(|error| raise(&error))
    }

    #[pyo3(signature = (namespace, rows, ticket, now_ms, *, in_place))]
    fn fill_page<'py>(
        &self,
        py: Python<'py>,
        namespace: &str,
        rows: &PyRows,
        ticket: i64,
        now_ms: u64,
        in_place: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (namespace, rows) = (namespace.into(), rows.0.clone());
        self.hand_over(py, Call::FillPage { namespace, rows, ticket, now_ms }, Answer::Page, in_place)
    }

    #[pyo3(signature = (token, namespace, keys, deadline_ms, *, in_place))]
    fn mark<'py>(
        &self,
        py: Python<'py>,
        token: u64,
        namespace: &str,
        keys: Option<Vec<Vec<u8>>>,
        deadline_ms: u64,
        in_place: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let keys = keys.map(|keys| distinct(keys_of(keys)));
        let call = Call::Mark { token, namespace: namespace.into(), keys, deadline_ms };
        self.hand_over(py, call, Answer::Nothing, in_place)
    }

    #[pyo3(signature = (token, namespace, outcome, now_ms, *, changed=None, rows=None, deleted=None, in_place))]
    #[allow(clippy::too_many_arguments)]
    fn settle<'py>(
        &self,
        py: Python<'py>,
        token: u64,
        namespace: &str,
        outcome: &str,
        now_ms: u64,
        changed: Option<Vec<Vec<u8>>>,
        rows: Option<&PyRows>,
        deleted: Option<Vec<Vec<u8>>>,
        in_place: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let outcome = match outcome {
            "applied" => Outcome::Applied,
            "refused" => Outcome::Refused,
            "unknown" => Outcome::Unknown,
            other => return Err(PyValueError::new_err(format!("no outcome {other:?}"))),
        };
        let set = |keys: Vec<Vec<u8>>| keys_of(keys).into_iter().collect::<HashSet<_>>();
        let settle = Settle {
            token,
            namespace: namespace.into(),
            outcome,
            changed: changed.map(set),
            rows: rows.map(|rows| rows.0.clone()),
            deleted: deleted.map(set).unwrap_or_default(),
            now_ms,
        };
        self.hand_over(py, Call::Settle(settle), Answer::Found, in_place)
    }

    /// Has the writer begin with the changes that were handed over and not waited for in place.
    fn begin(&self) {
        self.0.begin();
    }

    /// An event (`os.eventfd`) that is raised when a change was made that is waited for.
    fn set_bell(&self, descriptor: RawFd) -> PyResult<()> {
        // SAFETY: it is only copied, and a number that is no open descriptor makes that fail.
        let bell = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()?;
        self.0.set_bell(bell.into());
        Ok(())
    }

    fn beneath(&self, py: Python<'_>, namespace: &str, keys: Vec<Vec<u8>>) -> PyResult<PyRows> {
        let keys = keys_of(keys);
        let found = py.detach(|| self.0.beneath(namespace, &keys));
        found.map(|rows| PyRows(rows.into())).map_err(|error| raise(&error))
    }

    #[pyo3(signature = (namespace, *, in_place))]
    fn clear<'py>(&self, py: Python<'py>, namespace: &str, in_place: bool) -> PyResult<Bound<'py, PyAny>> {
        self.hand_over(py, Call::Clear { namespace: namespace.into() }, Answer::Nothing, in_place)
    }

    #[pyo3(signature = (owner, namespaces=None))]
    fn owe(&self, owner: i64, namespaces: Option<Vec<String>>) {
        self.0.owe(owner, namespaces.as_deref());
    }

    fn facts<'py>(&self, py: Python<'py>, namespace: &str) -> PyResult<Bound<'py, PyDict>> {
        let facts = py.detach(|| self.0.facts(namespace)).map_err(|error| raise(&error))?;
        facts_object(py, &facts)
    }

    /// Begins a scan of a namespace, with what was held of it at that moment. Releases the GIL.
    #[pyo3(signature = (namespace, now_ms, *, timeout_ms=None, cancel=None))]
    fn scan<'py>(
        &self,
        py: Python<'py>,
        namespace: &str,
        now_ms: u64,
        timeout_ms: Option<u64>,
        cancel: Option<&PyCancelFlag>,
    ) -> PyResult<(PyScan, Bound<'py, PyDict>)> {
        let limits = limits(1, timeout_ms, cancel);
        let begun = py.detach(|| self.0.scan(namespace, now_ms, &|| limits.check().is_err()));
        let scan = match begun {
            Ok(scan) => scan,
            Err(CacheError::Stopped) => return Err(stopped(py, &limits.check().err().unwrap_or(ScanError::TimedOut))),
            Err(error) => return Err(raise(&error)),
        };
        let facts = facts_object(py, &scan.facts)?;
        Ok((PyScan::new(Arc::new(scan)), facts))
    }

    /// The columns of a namespace as it is now, with what is held of it; None without columns that can be brought up to
    /// date. Releases the GIL.
    fn columns<'py>(
        &self,
        py: Python<'py>,
        namespace: &str,
        now_ms: u64,
    ) -> PyResult<Option<(PyColumns, Bound<'py, PyDict>)>> {
        let shown = py.detach(|| self.1.now(&self.0, namespace, now_ms));
        let Some(Snapshot { table, facts }) = shown.map_err(|error| columns_error(py, error))? else { return Ok(None) };
        Ok(Some((PyColumns::new(table), facts_object(py, &facts)?)))
    }

    /// As `columns`, when that waits for nobody. Holds the GIL.
    fn columns_at_once<'py>(
        &self,
        py: Python<'py>,
        namespace: &str,
        now_ms: u64,
    ) -> PyResult<Option<(PyColumns, Bound<'py, PyDict>)>> {
        let Some(Snapshot { table, facts }) = self.1.at_once(&self.0, namespace, now_ms) else { return Ok(None) };
        Ok(Some((PyColumns::new(table), facts_object(py, &facts)?)))
    }

    /// Builds columns; None when another process builds. Releases the GIL.
    #[pyo3(signature = (namespace, schema, attributes, now_ms, *, timeout_ms=None, cancel=None))]
    #[allow(clippy::too_many_arguments)]
    fn build_columns<'py>(
        &self,
        py: Python<'py>,
        namespace: &str,
        schema: &PySchema,
        attributes: Vec<String>,
        now_ms: u64,
        timeout_ms: Option<u64>,
        cancel: Option<&PyCancelFlag>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let (id_kind, attributes) = wanted_columns(py, schema, &attributes)?;
        let limits = limits(1, timeout_ms, cancel);
        let request = Request { namespace, id_kind, attributes, now_ms };
        let built = match py.detach(|| self.1.build(&self.0, request, &limits)) {
            Ok(built) => built,
            Err(ColumnsError::Busy) => return Ok(None),
            Err(error) => return Err(columns_error(py, error)),
        };
        let report = PyDict::new(py);
        report.set_item("rows", built.rows)?;
        report.set_item("bytes", built.bytes)?;
        report.set_item("left_out", built.left_out)?;
        report.set_item("seconds", built.seconds)?;
        Ok(Some(report))
    }

    /// The segments of all processes, each with what this one reads beside it.
    fn column_files<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let files = py.detach(|| self.1.list()).map_err(|error| columns_error(py, error))?;
        let object = |file: &FileFacts| {
            let overlay = self.1.overlay(&file.origin.namespace).unwrap_or_default();
            let fields = PyDict::new(py);
            fields.set_item("namespace", &file.origin.namespace)?;
            fields.set_item("rows", file.rows)?;
            fields.set_item("bytes", file.bytes)?;
            fields.set_item("columns", &file.columns)?;
            let used = file.used().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            fields.set_item("used_ms", used.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0)))?;
            fields.set_item("changed_rows", overlay.changed_rows)?;
            fields.set_item("superseded_rows", overlay.superseded_rows)?;
            fields.set_item("changed_bytes", overlay.bytes)?;
            Ok(fields)
        };
        files.iter().map(object).collect()
    }

    /// Removes the columns of a namespace.
    fn drop_columns(&self, py: Python<'_>, namespace: &str) -> PyResult<()> {
        py.detach(|| self.1.remove(&self.0, namespace)).map_err(|error| columns_error(py, error))
    }

    /// Removes columns that nobody can use any more.
    fn tidy_columns(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.1.tidy(&self.0)).map_err(|error| columns_error(py, error))
    }

    fn holes<'py>(&self, py: Python<'py>, namespace: &str, limit: usize) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let found = py.detach(|| self.0.holes(namespace, limit)).map_err(|error| raise(&error))?;
        Ok(found.iter().map(|key| PyBytes::new(py, key)).collect())
    }

    #[pyo3(signature = (namespace, text, epoch, lost, *, in_place))]
    fn note<'py>(
        &self,
        py: Python<'py>,
        namespace: &str,
        text: String,
        epoch: u64,
        lost: u64,
        in_place: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let call = Call::Note { namespace: namespace.into(), text: text.into_bytes(), epoch, lost };
        self.hand_over(py, call, Answer::Found, in_place)
    }

    #[pyo3(signature = (namespace, capacity_bytes, *, in_place))]
    fn limit<'py>(
        &self,
        py: Python<'py>,
        namespace: &str,
        capacity_bytes: Option<u64>,
        in_place: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let capacity_bytes = capacity_bytes.map_or(0, |bytes| bytes.max(1));
        self.hand_over(py, Call::Limit { namespace: namespace.into(), capacity_bytes }, Answer::Nothing, in_place)
    }

    fn set_ttl(&self, ttl_ms: u64) {
        self.0.set_ttl(ttl_ms);
    }

    fn maintain(&self, py: Python<'_>, now_ms: u64) -> PyResult<()> {
        py.detach(|| self.0.maintain(now_ms)).map_err(|error| raise(&error))
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

    fn close(&self, py: Python<'_>, now_ms: u64) -> PyResult<()> {
        py.detach(|| self.0.close(now_ms)).map_err(|error| raise(&error))
    }
}

fn columns_error(py: Python<'_>, error: ColumnsError) -> PyErr {
    match error {
        ColumnsError::Scan(error) => stopped(py, &error),
        ColumnsError::Cache(CacheError::Stopped) => stopped(py, &ScanError::TimedOut),
        ColumnsError::Cache(error) => raise(&error),
        ColumnsError::Io(error) => raise(&error.into()),
        ColumnsError::Busy => raise(&CacheError::Busy),
    }
}

/// Has whoever opens a directory first the next time begin empty.
#[pyfunction]
fn distrust_doccache(py: Python<'_>, directory: PathBuf) -> PyResult<()> {
    py.detach(|| hevlayer_cache::distrust(&directory)).map_err(|error| raise(&error.into()))
}

fn facts_object<'py>(py: Python<'py>, facts: &Facts) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("epoch", facts.epoch)?;
    fields.set_item("rows", facts.rows)?;
    fields.set_item("bytes", facts.bytes)?;
    fields.set_item("marked", facts.marked)?;
    fields.set_item("closed", facts.closed)?;
    fields.set_item("holes", facts.holes)?;
    fields.set_item("lost", facts.lost)?;
    fields.set_item("note", String::from_utf8_lossy(&facts.note))?;
    Ok(fields)
}

/// None: would have had to wait.
fn looked_object<'py>(py: Python<'py>, looked: Looked, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Ok(match looked {
        Looked::Hit => PyBytes::new(py, text).into_any(),
        Looked::Ticket(ticket) => ticket.into_pyobject(py)?.into_any(),
        Looked::WouldWait => py.None().into_bound(py),
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyEngine>()?;
    module.add_class::<PyPending>()?;
    module.add_function(wrap_pyfunction!(distrust_doccache, module)?)?;
    Ok(())
}
