//! Bindings of `hevlayer-origin`.

use hevlayer_origin::engine::{Engine, Options, Recovery};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// The local origin's engine over one data directory. See `_native.pyi`.
#[pyclass(frozen, module = "hevlayer._native")]
struct OriginEngine {
    engine: Engine,
    recovery: Recovery,
}

#[pymethods]
impl OriginEngine {
    #[new]
    #[pyo3(signature = (
        data_dir,
        *,
        query_billing_floor_bytes = None,
        index_lag_ms = 0,
        index_rows_min = None,
        checkpoint_bytes_min = None,
        delete_by_filter_rows_max = None,
        patch_by_filter_rows_max = None,
    ))]
    #[allow(clippy::too_many_arguments)] // They are Python's keyword arguments.
    fn new(
        py: Python<'_>,
        data_dir: &str,
        query_billing_floor_bytes: Option<u64>,
        index_lag_ms: u64,
        index_rows_min: Option<usize>,
        checkpoint_bytes_min: Option<u64>,
        delete_by_filter_rows_max: Option<usize>,
        patch_by_filter_rows_max: Option<usize>,
    ) -> PyResult<Self> {
        let mut options = Options { index_lag_ms: lag(index_lag_ms)?, ..Options::default() };
        set(&mut options.query.query_billing_floor_bytes, query_billing_floor_bytes);
        set(&mut options.query.index_rows_min, index_rows_min);
        set(&mut options.checkpoint_bytes_min, checkpoint_bytes_min);
        set(&mut options.limits.delete_by_filter_rows_max, delete_by_filter_rows_max);
        set(&mut options.limits.patch_by_filter_rows_max, patch_by_filter_rows_max);
        let opened = py.detach(|| Engine::open(data_dir.as_ref(), options));
        let (engine, recovery) = opened.map_err(|error| PyOSError::new_err(format!("{data_dir}: {error}")))?;
        Ok(Self { engine, recovery })
    }

    fn handle<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> (u16, &'static str, Bound<'py, PyBytes>) {
        let reply = py.detach(|| self.engine.handle(method, path, query, body));
        (reply.status, reply.content_type, PyBytes::new(py, &reply.body))
    }

    fn recovery<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = PyDict::new(py);
        report.set_item("namespaces", self.recovery.namespaces)?;
        report.set_item("rows", self.recovery.rows)?;
        report.set_item("records_replayed", self.recovery.records_replayed)?;
        report.set_item("torn_bytes", self.recovery.torn_bytes)?;
        Ok(report)
    }

    fn set_index_lag(&self, namespace: Option<&str>, ms: u64) -> PyResult<()> {
        lag(ms)?;
        self.engine.set_index_lag(namespace, ms);
        Ok(())
    }

    fn checkpoint(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.engine.checkpoint()).map_err(|error| PyOSError::new_err(error.to_string()))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.engine.close());
    }
}

fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *option = given;
    }
}

fn lag(ms: u64) -> PyResult<i64> {
    i64::try_from(ms).map_err(|_| PyValueError::new_err("index_lag_ms: must be less than 2^63"))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<OriginEngine>()
}
