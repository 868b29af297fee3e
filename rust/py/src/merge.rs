//! Bindings of `hevlayer-merge`.

use std::panic::{catch_unwind, AssertUnwindSafe};

use hevlayer_merge as merge;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

create_exception!(
    hevlayer._native,
    MergeError,
    PyException,
    "Answers that cannot be merged. `args` are the index of the answer and the reason."
);

#[pyclass(frozen, get_all, module = "hevlayer._native")]
struct MergedLegs {
    rows: Py<PyBytes>,
    row_count: usize,
    legs: usize,
    billing: Py<PyList>,
    performance: Py<PyList>,
}

#[pyfunction]
#[pyo3(signature = (answers, *, offset, limit, descending))]
fn merge_legs(
    py: Python<'_>,
    answers: Vec<Bound<'_, PyBytes>>,
    offset: usize,
    limit: usize,
    descending: bool,
) -> PyResult<MergedLegs> {
    let bodies: Vec<&[u8]> = answers.iter().map(|answer| answer.as_bytes()).collect();
    let order = if descending { merge::Order::Descending } else { merge::Order::Ascending };
    let job = || catch_unwind(AssertUnwindSafe(|| merge::merge(&bodies, offset, limit, order)));
    let merged = py
        .detach(job)
        .map_err(|_| PyRuntimeError::new_err("the merge failed on these answers"))?
        .map_err(|error| MergeError::new_err((error.answer, error.reason)))?;
    let texts = |ranges: &[merge::Text]| {
        PyList::new(py, ranges.iter().map(|text| PyBytes::new(py, &bodies[text.answer][text.range.clone()])))
    };
    Ok(MergedLegs {
        rows: PyBytes::new(py, &merged.rows).unbind(),
        row_count: merged.row_count,
        legs: merged.legs,
        billing: texts(&merged.billing)?.unbind(),
        performance: texts(&merged.performance)?.unbind(),
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("MergeError", module.py().get_type::<MergeError>())?;
    module.add_class::<MergedLegs>()?;
    module.add_function(wrap_pyfunction!(merge_legs, module)?)?;
    Ok(())
}
