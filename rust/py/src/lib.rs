//! The extension module `hevlayer._native`: conversions, release of the GIL and error mapping; no logic.

#![allow(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over by value")]

mod aerospike;
mod cache;
mod cache_engine;
mod cache_scan;
mod filter;
mod hits;
mod http;
mod merge;
mod origin;
mod relays;
mod rows;
mod splice;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    splice::register(module)?;
    cache::register(module)?;
    cache_engine::register(module)?;
    cache_scan::register(module)?;
    merge::register(module)?;
    http::register(module)?;
    hits::register(module)?;
    relays::register(module)?;
    aerospike::register(module)?;
    origin::register(module)?;
    filter::register(module)?;
    rows::register(module)?;
    Ok(())
}
