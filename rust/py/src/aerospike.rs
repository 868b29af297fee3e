//! Bindings of `hevlayer-aerospike`. A call starts an operation; its end is taken later, when the file descriptor says
//! that there is one. No call waits.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hevlayer_aerospike::bridge::Bridge;
use hevlayer_aerospike::engine::{Engine, Lookup, Options};
use hevlayer_aerospike::error::Failure;
use hevlayer_aerospike::facts::{upkeep, Facts, Server};
use hevlayer_aerospike::fills::Filled;
use hevlayer_aerospike::held::HeldScan;
use hevlayer_aerospike::layout::Ticket;
use hevlayer_aerospike::store::Settings;
use hevlayer_aerospike::writes::{Outcome, Settled};
use hevlayer_cache::{CacheError, NamespaceScan, Rows, ScannedRow};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::cache::{id_type_named, DocCacheError, PyProjection, PyRows};
use crate::cache_scan::PyScan;
use crate::filter::{limits, PyCancelFlag};

enum Answer {
    Found(Lookup),
    FoundMany(Vec<Lookup>),
    Nothing,
    Flag(bool),
    Keys(Vec<Vec<u8>>),
    Count(usize),
    Page(usize, Vec<Vec<u8>>),
    Began(Option<(u64, u64)>),
    Rows(Rows),
    Facts(Facts),
    Scan(HeldScan),
    Server(Server),
}

fn raise(failure: &Failure) -> PyErr {
    DocCacheError::new_err((failure.code(), failure.to_string()))
}

/// When a call that may take so many milliseconds is over.
fn deadline(budget_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(budget_ms)
}

fn outcome_named(name: &str) -> PyResult<Outcome> {
    match name {
        "applied" => Ok(Outcome::Applied),
        "refused" => Ok(Outcome::Refused),
        "unknown" => Ok(Outcome::Unknown),
        other => Err(PyValueError::new_err(format!("no outcome {other:?}"))),
    }
}

#[pyclass(frozen, name = "AerospikeEngine", module = "hevlayer._native")]
struct PyAerospike {
    engine: Arc<Engine>,
    bridge: Bridge<Answer>,
}

#[pymethods]
impl PyAerospike {
    #[new]
    #[pyo3(signature = (hosts, namespace, set_prefix, *, scope, user, password, connect_ms, ttl_ms, unknown_write_ms,
                        clock_skew_ms, scan_bytes_max))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        hosts: String,
        namespace: String,
        set_prefix: String,
        scope: String,
        user: String,
        password: String,
        connect_ms: u64,
        ttl_ms: u64,
        unknown_write_ms: u64,
        clock_skew_ms: u64,
        scan_bytes_max: u64,
    ) -> PyResult<Self> {
        let connect = Duration::from_millis(connect_ms);
        let store = Settings { hosts, namespace, set_prefix, scope, user, password, connect };
        let options = Options { store, ttl_ms, unknown_write_ms, clock_skew_ms, scan_bytes_max };
        let engine = Arc::new(Engine::new(&options).map_err(|failure| raise(&failure))?);
        let bridge = Bridge::new().map_err(|failure| raise(&failure))?;
        Ok(Self { engine, bridge })
    }

    fn fileno(&self) -> i32 {
        self.bridge.fd()
    }

    /// The calls that have ended: (call, whether it failed, its answer or its failure's code and message).
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Vec<(u64, bool, Bound<'py, PyAny>)>> {
        let ended = self.bridge.take().into_iter();
        ended
            .map(|(call, end)| match end {
                Ok(answer) => Ok((call, false, answer_object(py, answer)?)),
                Err(failure) => Ok((call, true, (failure.code(), failure.to_string()).into_pyobject(py)?.into_any())),
            })
            .collect()
    }

    /// Reaches the cluster, and keeps it reached from then on, whether that worked or not.
    fn connect(&self, call: u64) {
        let engine = self.engine.clone();
        let kept = Arc::downgrade(&self.engine);
        self.bridge.start(call, async move {
            let connected = engine.connect(false).await;
            tokio_spawn(upkeep(kept));
            connected.map(Answer::Server)
        });
    }

    #[allow(clippy::too_many_arguments)]
    fn lookup(
        &self,
        call: u64,
        budget_ms: u64,
        namespace: String,
        key: Vec<u8>,
        projection: &PyProjection,
        id_type: Option<&str>,
        now_ms: u64,
    ) -> PyResult<()> {
        let (engine, projection, id_type) = (self.engine.clone(), projection.0.clone(), id_type_named(id_type)?);
        let deadline = deadline(budget_ms);
        self.bridge.start(call, async move {
            engine.lookup(&namespace, &key, &projection, id_type, now_ms, deadline).await.map(Answer::Found)
        });
        Ok(())
    }

    fn lookup_many(
        &self,
        call: u64,
        budget_ms: u64,
        namespace: String,
        keys: Vec<Vec<u8>>,
        projection: &PyProjection,
        now_ms: u64,
    ) {
        let (engine, projection, deadline) = (self.engine.clone(), projection.0.clone(), deadline(budget_ms));
        self.bridge.start(call, async move {
            engine.lookup_many(&namespace, &keys, &projection, now_ms, deadline).await.map(Answer::FoundMany)
        });
    }

    #[allow(clippy::too_many_arguments)]
    fn fill(
        &self,
        call: u64,
        budget_ms: u64,
        namespace: String,
        rows: Py<PyRows>,
        keys: Vec<Vec<u8>>,
        tickets: Vec<i64>,
        now_ms: u64,
    ) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move {
            let rows = &rows.get().0;
            let wanted: Vec<_> = keys
                .iter()
                .zip(&tickets)
                .filter_map(|(key, ticket)| Some((key.as_slice(), rows.get(key), Ticket::from_number(*ticket)?)))
                .collect();
            let filled = engine.fill(&namespace, &wanted, now_ms, deadline).await?;
            Ok(Answer::Count(filled.iter().filter(|end| **end == Filled::Put).count()))
        });
    }

    fn begin_fill(&self, call: u64, budget_ms: u64, namespace: String, now_ms: u64) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge
            .start(call, async move { engine.begin_fill(&namespace, now_ms, deadline).await.map(Answer::Began) });
    }

    fn fill_page(
        &self,
        call: u64,
        budget_ms: u64,
        namespace: String,
        rows: Py<PyRows>,
        began: (u64, u64),
        now_ms: u64,
    ) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move {
            let rows = &rows.get().0;
            // Of two rows with one id the later stands.
            let records: Vec<_> = rows
                .records
                .iter()
                .filter(|record| rows.get(&record.key).is_some_and(|last| std::ptr::eq(last, *record)))
                .collect();
            let filled = engine.fill_page(&namespace, &records, began, now_ms, deadline).await?;
            let put = filled.iter().filter(|end| **end == Filled::Put).count();
            let missing = records.iter().zip(&filled).filter(|(_, end)| !matches!(end, Filled::Put | Filled::Held));
            Ok(Answer::Page(put, missing.map(|(record, _)| record.key.clone()).collect()))
        });
    }

    #[allow(clippy::too_many_arguments)]
    fn mark(
        &self,
        call: u64,
        budget_ms: u64,
        token: u64,
        namespace: String,
        keys: Option<Vec<Vec<u8>>>,
        now_ms: u64,
        until_ms: u64,
    ) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move {
            engine.mark(token, &namespace, keys.as_deref(), (now_ms, until_ms), deadline).await?;
            Ok(Answer::Nothing)
        });
    }

    #[allow(clippy::too_many_arguments)]
    fn settle(
        &self,
        call: u64,
        budget_ms: u64,
        token: u64,
        namespace: String,
        keys: Option<Vec<Vec<u8>>>,
        outcome: &str,
        changed: Option<Vec<Vec<u8>>>,
        rows: Option<Py<PyRows>>,
        deleted: Vec<Vec<u8>>,
        now_ms: u64,
    ) -> PyResult<()> {
        let (engine, deadline, outcome) = (self.engine.clone(), deadline(budget_ms), outcome_named(outcome)?);
        self.bridge.start(call, async move {
            let rows = rows.as_ref().map(|rows| &rows.get().0);
            let settled =
                Settled { outcome, changed: changed.as_deref(), rows: rows.map(AsRef::as_ref), deleted: &deleted };
            let found = engine.settle(token, &namespace, keys.as_deref(), &settled, now_ms, deadline).await?;
            Ok(Answer::Flag(found))
        });
        Ok(())
    }

    fn beneath(&self, call: u64, budget_ms: u64, token: u64, namespace: String, keys: Vec<Vec<u8>>, now_ms: u64) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move {
            engine.beneath(token, &namespace, &keys, now_ms, deadline).await.map(Answer::Rows)
        });
    }

    fn clear(&self, call: u64, budget_ms: u64, namespace: String, now_ms: u64) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move {
            engine.clear(&namespace, now_ms, deadline).await?;
            Ok(Answer::Nothing)
        });
    }

    fn owe(&self, call: u64, budget_ms: u64, owner: u64, namespace: Option<String>, owed: bool, now_ms: u64) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move {
            match namespace {
                Some(namespace) => engine.owe(owner, &namespace, owed, now_ms, deadline).await?,
                None => engine.owe_everything(owner, owed, now_ms, deadline).await?,
            }
            Ok(Answer::Nothing)
        });
    }

    fn end_owed(&self, call: u64, budget_ms: u64, now_ms: u64) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move {
            engine.end_owed(now_ms, deadline).await?;
            Ok(Answer::Nothing)
        });
    }

    fn facts(&self, call: u64, budget_ms: u64, namespace: String, now_ms: u64) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move { engine.facts(&namespace, now_ms, deadline).await.map(Answer::Facts) });
    }

    /// All rows of a namespace, and what was held of it. Ends early, as a failure, once `cancel` is set.
    #[pyo3(signature = (call, budget_ms, namespace, now_ms, cancel=None))]
    fn scan(&self, call: u64, budget_ms: u64, namespace: String, now_ms: u64, cancel: Option<&PyCancelFlag>) {
        let (engine, deadline, cancel) = (self.engine.clone(), deadline(budget_ms), limits(1, None, cancel).cancel);
        self.bridge.start(call, async move {
            engine.scan(&namespace, now_ms, deadline, || cancel.load(Ordering::Relaxed)).await.map(Answer::Scan)
        });
    }

    fn holes(&self, call: u64, budget_ms: u64, namespace: String, limit: usize, now_ms: u64) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge
            .start(call, async move { engine.holes(&namespace, limit, now_ms, deadline).await.map(Answer::Keys) });
    }

    #[allow(clippy::too_many_arguments)]
    fn note(&self, call: u64, budget_ms: u64, namespace: String, note: Vec<u8>, epoch: u64, lost: u64, now_ms: u64) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move {
            engine.note(&namespace, &note, (epoch, lost), now_ms, deadline).await.map(Answer::Flag)
        });
    }

    fn limit(&self, call: u64, budget_ms: u64, namespace: String, capacity_bytes: u64, now_ms: u64) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move {
            engine.limit(&namespace, capacity_bytes, now_ms, deadline).await?;
            Ok(Answer::Nothing)
        });
    }

    /// Evicts what a namespace has over its share: how many rows went.
    fn trim(&self, call: u64, budget_ms: u64, namespace: String, now_ms: u64) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move { engine.trim(&namespace, now_ms, deadline).await.map(Answer::Count) });
    }

    fn server(&self, call: u64) {
        let engine = self.engine.clone();
        self.bridge.start(call, async move { engine.server().await.map(Answer::Server) });
    }

    fn set_ttl(&self, ttl_ms: u64) {
        self.engine.set_ttl_ms(ttl_ms);
    }

    /// Counters and gauges of this process.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = self.engine.counters();
        let fields = PyDict::new(py);
        for (name, count) in counters {
            fields.set_item(name, count)?;
        }
        Ok(fields)
    }

    /// Lets go of the cluster, once the counts on their way are written.
    fn close(&self, call: u64, budget_ms: u64) {
        let (engine, deadline) = (self.engine.clone(), deadline(budget_ms));
        self.bridge.start(call, async move {
            let flushed = engine.flush(deadline).await;
            engine.close().await?;
            flushed.map(|()| Answer::Nothing)
        });
    }

    /// Ends that come later are dropped.
    fn stop(&self) {
        self.bridge.close();
    }
}

fn tokio_spawn(work: impl std::future::Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = hevlayer_aerospike::bridge::runtime() {
        runtime.spawn(work);
    }
}

fn found_object(py: Python<'_>, found: Lookup) -> PyResult<Bound<'_, PyAny>> {
    match found {
        Lookup::Hit(text) => Ok(PyBytes::new(py, &text).into_any()),
        Lookup::Empty(ticket) => Ok(ticket.to_number().into_pyobject(py)?.into_any()),
        Lookup::Marked(ticket) => Ok(ticket.map_or(0, |ticket| -ticket.to_number()).into_pyobject(py)?.into_any()),
    }
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
    fields.set_item("note", String::from_utf8_lossy(&facts.note).as_ref())?;
    Ok(fields)
}

/// As what the filter engine reads.
struct AerospikeScan(HeldScan);

impl NamespaceScan for AerospikeScan {
    fn rows(&self) -> u64 {
        self.0.len() as u64
    }

    fn marked(&self) -> u64 {
        self.0.marked
    }

    fn sequence(&self) -> u64 {
        self.0.sequence
    }

    fn missing(&self) -> u64 {
        self.0.missing
    }

    fn visit(
        &self,
        part: usize,
        parts: usize,
        visit: &mut dyn FnMut(&ScannedRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), CacheError> {
        for row in self.0.rows(part, parts) {
            let row = ScannedRow::without_tail(row.key, row.head, row.is_marked, self.0.sequence);
            if visit(&row).is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn answer_object(py: Python<'_>, answer: Answer) -> PyResult<Bound<'_, PyAny>> {
    Ok(match answer {
        Answer::Found(found) => found_object(py, found)?,
        Answer::FoundMany(found) => {
            let objects: PyResult<Vec<_>> = found.into_iter().map(|found| found_object(py, found)).collect();
            PyList::new(py, objects?)?.into_any()
        }
        Answer::Nothing => py.None().into_bound(py),
        Answer::Flag(flag) => flag.into_pyobject(py)?.to_owned().into_any(),
        Answer::Keys(keys) => PyList::new(py, keys.iter().map(|key| PyBytes::new(py, key)))?.into_any(),
        Answer::Count(count) => count.into_pyobject(py)?.into_any(),
        Answer::Page(put, missing) => {
            let missing: Vec<_> = missing.iter().map(|key| PyBytes::new(py, key)).collect();
            (put, missing).into_pyobject(py)?.into_any()
        }
        Answer::Began(began) => began.into_pyobject(py)?.into_any(),
        Answer::Rows(rows) => Py::new(py, PyRows(rows.into()))?.into_bound(py).into_any(),
        Answer::Facts(facts) => facts_object(py, &facts)?.into_any(),
        Answer::Scan(held) => {
            let facts = facts_object(py, &held.facts)?;
            let rows = Py::new(py, PyScan::new(Arc::new(AerospikeScan(held))))?;
            (rows, facts).into_pyobject(py)?.into_any()
        }
        Answer::Server(server) => {
            let fields = PyDict::new(py);
            fields.set_item("expires", server.expires)?;
            fields.set_item("stop_writes", server.stop_writes)?;
            fields.set_item("record_bytes_max", server.record_bytes_max)?;
            fields.set_item("evicted", server.evicted)?;
            fields.set_item("bytes", server.bytes)?;
            fields.set_item("capacity_bytes", server.capacity_bytes)?;
            fields.set_item("objects", server.objects)?;
            fields.into_any()
        }
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyAerospike>()
}
