//! Binding of cached documents given at once: a request's head in, the whole answer out.

use std::collections::HashMap;

use hevlayer_cache::{IdType, Looked};
use hevlayer_doc::id;
use hevlayer_http as http;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::cache::{id_type_named, raise, PyProjection};
use crate::cache_engine::{with_scratch, PyEngine};
use crate::http::{ascii, RequestHead};

/// What the answer needs beside the row.
struct Known {
    id_type: IdType,
    note: Py<PyAny>,
}

/// (message, note, bytes of the document, trace id, request id)
type Hit<'py> = (Bound<'py, PyBytes>, Py<PyAny>, usize, Bound<'py, PyString>, Bound<'py, PyString>);

#[pyclass(module = "hevlayer._native")]
struct FetchHits {
    /// Every caller shows this key; without one each is known by its own authorization.
    gateway_key: Option<Vec<u8>>,
    trace_ids: http::TraceIds,
    vouchers: http::Vouchers<Known>,
    projections: HashMap<String, Py<PyProjection>>,
    projections_max: usize,
}

/// Of all who show the gateway's key.
const KEY_HOLDERS: &[u8] = b"";

#[pymethods]
impl FetchHits {
    #[new]
    #[pyo3(signature = (seed, gateway_key, *, vouchers_max, projections_max))]
    fn new(seed: u64, gateway_key: Option<Vec<u8>>, vouchers_max: usize, projections_max: usize) -> Self {
        Self {
            gateway_key,
            trace_ids: http::TraceIds::new(seed),
            vouchers: http::Vouchers::new(vouchers_max),
            projections: HashMap::new(),
            projections_max,
        }
    }

    #[pyo3(signature = (authorization, namespace, id_type, until, note, /))]
    fn admit(
        &mut self,
        authorization: Option<&[u8]>,
        namespace: &str,
        id_type: &str,
        until: f64,
        note: Py<PyAny>,
    ) -> PyResult<()> {
        let caller = if self.gateway_key.is_some() { Some(KEY_HOLDERS) } else { authorization };
        if let (Some(caller), Some(id_type)) = (caller, id_type_named(Some(id_type))?) {
            self.vouchers.put(caller, namespace, until, Known { id_type, note });
        }
        Ok(())
    }

    #[pyo3(signature = (query, projection, /))]
    fn learn(&mut self, query: &str, projection: Py<PyProjection>) {
        if self.projections.contains_key(query) {
            return;
        }
        if self.projections.len() >= self.projections_max {
            self.projections.clear();
        }
        self.projections.insert(query.to_owned(), projection);
    }

    #[pyo3(signature = (namespace, /))]
    fn forget(&mut self, namespace: &str) {
        self.vouchers.forget(namespace);
    }

    #[pyo3(signature = (engine, head, now, now_ms, date_line, /))]
    fn answer<'py>(
        &mut self,
        py: Python<'py>,
        engine: &PyEngine,
        head: &RequestHead,
        now: f64,
        now_ms: u64,
        date_line: &[u8],
    ) -> PyResult<Option<Hit<'py>>> {
        let text = head.text.bytes(py);
        let request = &head.request;
        let Some(fetch) = http::PlainFetch::read(request, text) else { return Ok(None) };
        let caller = match &self.gateway_key {
            Some(key) => request.bearer(text).filter(|bearer| http::same_secret(bearer, key)).map(|_| KEY_HOLDERS),
            None => request.header(text, b"authorization"),
        };
        let Some(caller) = caller else { return Ok(None) };
        let Some(known) = self.vouchers.get(caller, fetch.namespace, now) else { return Ok(None) };
        let Some(projection) = self.projections.get(fetch.query) else { return Ok(None) };
        let Some(key) = id::path_key(fetch.id, known.id_type) else { return Ok(None) };
        let found = with_scratch(|document| {
            let form = (&projection.get().0, Some(known.id_type));
            let looked = engine.0.lookup_into(fetch.namespace, &key, form, now_ms, false, document);
            if looked.map_err(|error| raise(&error))? != Looked::Hit {
                return Ok(None);
            }
            let traceparent = self.trace_ids.mint();
            let answer_head = http::hit_head(&traceparent, date_line, document.len());
            let message = PyBytes::new_with(py, answer_head.len() + document.len(), |out| {
                let (first, second) = out.split_at_mut(answer_head.len());
                first.copy_from_slice(&answer_head);
                second.copy_from_slice(document);
                Ok(())
            })?;
            Ok::<_, PyErr>(Some((message, document.len(), traceparent)))
        })?;
        let Some((message, document_bytes, traceparent)) = found else { return Ok(None) };
        let trace_id = ascii(py, &traceparent[3..35]);
        let sent = request.header(text, b"x-request-id").and_then(http::accept_request_id);
        let request_id = sent.map_or_else(|| trace_id.clone(), |sent| PyString::new(py, sent));
        Ok(Some((message, known.note.clone_ref(py), document_bytes, trace_id, request_id)))
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<FetchHits>()?;
    Ok(())
}
