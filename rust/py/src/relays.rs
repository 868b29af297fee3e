//! Binding of queries relayed before they become requests: a head with its body in, the upstream's message out; then
//! the upstream's answer in, the client's message out, with what the log and the history say of both.

use std::sync::Arc;

use hevlayer_http as http;
use hevlayer_splice as splice;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::http::{ascii, ForwardRules, Relayed, RequestHead, ResponseHead};
use crate::splice::in_place;

/// Of all who show the gateway's key.
const KEY_HOLDERS: &[u8] = b"";
const STATUS_LINE: &[u8] = b"HTTP/1.1 200 OK\r\n";
const OK: u16 = 200;

/// How a caller's queries on one namespace are read.
struct Reading {
    namespace: String,
    /// What the upstream is shown.
    authorization: Option<Vec<u8>>,
    eventual: bool,
    watermark_ms: Option<u64>,
    /// Reserved attributes are kept out of answers that would show them unnamed.
    excludes: bool,
    consistency: String,
    stable_as_of_ms: Option<u64>,
    /// Hexadecimal digits.
    scope: String,
    note: Py<PyAny>,
}

#[pyclass(module = "hevlayer._native")]
struct QueryRelays {
    /// Every caller shows this key; without one each is known by its own authorization.
    gateway_key: Option<Vec<u8>>,
    trace_ids: http::TraceIds,
    vouchers: http::Vouchers<Arc<Reading>>,
    rules: Py<ForwardRules>,
    base: Vec<u8>,
    host: Vec<u8>,
    body_bytes_max: usize,
}

#[pymethods]
impl QueryRelays {
    #[new]
    #[pyo3(signature = (seed, gateway_key, rules, base, host, *, body_bytes_max, vouchers_max))]
    fn new(
        seed: u64,
        gateway_key: Option<Vec<u8>>,
        rules: Py<ForwardRules>,
        base: Vec<u8>,
        host: Vec<u8>,
        body_bytes_max: usize,
        vouchers_max: usize,
    ) -> Self {
        let (trace_ids, vouchers) = (http::TraceIds::new(seed), http::Vouchers::new(vouchers_max));
        Self { gateway_key, trace_ids, vouchers, rules, base, host, body_bytes_max }
    }

    #[allow(clippy::too_many_arguments, reason = "all that a voucher says, in one call")]
    #[pyo3(signature = (authorization, namespace, until, note, *, eventual, watermark_ms, excludes, consistency, stable_as_of_ms, scope))]
    fn admit(
        &mut self,
        authorization: Option<Vec<u8>>,
        namespace: String,
        until: f64,
        note: Py<PyAny>,
        eventual: bool,
        watermark_ms: Option<u64>,
        excludes: bool,
        consistency: String,
        stable_as_of_ms: Option<u64>,
        scope: String,
    ) {
        let caller = match &authorization {
            _ if self.gateway_key.is_some() => KEY_HOLDERS.to_vec(),
            Some(authorization) => authorization.clone(),
            None => return,
        };
        let named = namespace.clone();
        let reading = Reading {
            namespace,
            authorization,
            eventual,
            watermark_ms,
            excludes,
            consistency,
            stable_as_of_ms,
            scope,
            note,
        };
        self.vouchers.put(&caller, &named, until, Arc::new(reading));
    }

    #[pyo3(signature = (head, now, /))]
    fn begin<'py>(
        &mut self,
        head: &Bound<'py, RequestHead>,
        now: f64,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, RelayedQuery)>> {
        let py = head.py();
        let asked = head.get();
        let (request, text) = (&asked.request, asked.text.bytes(py));
        let Some(plain) = http::PlainQuery::read(request, text) else { return Ok(None) };
        let caller = match &self.gateway_key {
            Some(key) => request.bearer(text).filter(|bearer| http::same_secret(bearer, key)).map(|_| KEY_HOLDERS),
            None => request.header(text, b"authorization"),
        };
        let Some(caller) = caller else { return Ok(None) };
        let Some(reading) = self.vouchers.get(caller, plain.namespace, now) else { return Ok(None) };
        let Some(body) = asked.body.as_ref().map(|body| body.bytes(py)) else { return Ok(None) };
        if body.len() > self.body_bytes_max {
            return Ok(None);
        }
        let Some((scan, edit)) = in_place(|| read_and_render(body, reading))? else { return Ok(None) };
        let sent = request.header(text, b"traceparent").filter(|sent| http::accept_traceparent(sent).is_some());
        let traceparent = sent.map_or_else(|| self.trace_ids.mint().to_vec(), <[u8]>::to_vec);
        let given = http::Forwarded {
            base: &self.base,
            prefix_bytes: 0,
            host: &self.host,
            authorization: reading.authorization.as_deref(),
            traceparent: &traceparent,
            identity: false,
            body: edit.as_deref().unwrap_or(body),
        };
        let message = http::upstream_request(request, text, b"POST", &self.rules.get().0, &given);
        let message = PyBytes::new(py, &message);
        let query = RelayedQuery {
            head: head.clone().unbind(),
            reading: Arc::clone(reading),
            traceparent,
            has_filter: scan.has_filter,
            has_rank_by: scan.has_rank_by,
            excludes: scan.wants_reserved,
        };
        Ok(Some((message, query)))
    }
}

/// None: the body is refused, or is more than a plain query. The edited body, unless nothing is changed.
fn read_and_render(body: &[u8], reading: &Reading) -> Option<(splice::QueryScan, Option<Vec<u8>>)> {
    let scan = splice::QueryScan::new(body).ok()?;
    let is_layer = scan.nearest_to_id.is_some() || scan.dialect != splice::Dialect::Native;
    let is_changed = scan.wants_reserved && (scan.model_rerank || !reading.excludes);
    if is_layer || is_changed || scan.multi || scan.has_consistency {
        return None;
    }
    let wanted = splice::QueryRender {
        eventual: reading.eventual,
        watermark_ms: reading.watermark_ms,
        exclude_reserved: scan.wants_reserved,
        vector: None,
    };
    let edit = scan.render(body, &wanted);
    Some((scan, edit))
}

/// A query on its way upstream.
#[pyclass(frozen, module = "hevlayer._native")]
struct RelayedQuery {
    head: Py<RequestHead>,
    reading: Arc<Reading>,
    traceparent: Vec<u8>,
    #[pyo3(get)]
    has_filter: bool,
    #[pyo3(get)]
    has_rank_by: bool,
    #[pyo3(get)]
    excludes: bool,
}

impl RelayedQuery {
    fn trace_text(&self) -> &str {
        std::str::from_utf8(&self.traceparent[3..35]).unwrap_or_default()
    }

    fn request_text<'a>(&'a self, py: Python<'a>) -> &'a str {
        let head = self.head.get();
        let sent = head.request.header(head.text.bytes(py), b"x-request-id");
        sent.and_then(http::accept_request_id).unwrap_or_else(|| self.trace_text())
    }
}

#[pymethods]
impl RelayedQuery {
    #[getter]
    fn note(&self, py: Python<'_>) -> Py<PyAny> {
        self.reading.note.clone_ref(py)
    }

    #[getter]
    fn head(&self, py: Python<'_>) -> Py<RequestHead> {
        self.head.clone_ref(py)
    }

    #[getter]
    fn traceparent<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.traceparent)
    }

    #[getter]
    fn trace_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        ascii(py, self.trace_text().as_bytes())
    }

    #[getter]
    fn request_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, self.request_text(py))
    }

    #[pyo3(signature = (answer, date, connection, /))]
    fn answered<'py>(
        &self,
        py: Python<'py>,
        answer: &ResponseHead,
        date: &[u8],
        connection: &[u8],
    ) -> PyResult<Option<Relayed<'py>>> {
        if answer.response.status != OK || answer.body.is_none() {
            return Ok(None);
        }
        let reading = &*self.reading;
        let mut own = Vec::with_capacity(160);
        own.extend_from_slice(b"x-layer-consistency: ");
        own.extend_from_slice(reading.consistency.as_bytes());
        if let Some(at_ms) = reading.stable_as_of_ms {
            own.extend_from_slice(b"\r\nx-layer-stable-as-of: ");
            own.extend_from_slice(at_ms.to_string().as_bytes());
        }
        own.extend_from_slice(b"\r\ntraceparent: ");
        own.extend_from_slice(&self.traceparent);
        own.extend_from_slice(b"\r\n");
        let given = http::AnswerParts {
            status_line: STATUS_LINE,
            own: &own,
            date,
            connection,
            stable_as_of_ms: reading.stable_as_of_ms,
        };
        answer.for_client(py, &given).map(Some)
    }

    #[allow(clippy::too_many_arguments, reason = "one line's fields, in one call")]
    #[pyo3(signature = (time_ms, operation, size, seconds, upstream_seconds, peer, /))]
    fn line(
        &self,
        py: Python<'_>,
        time_ms: u64,
        operation: &str,
        size: u64,
        seconds: f64,
        upstream_seconds: f64,
        peer: &str,
    ) -> String {
        let head = self.head.get();
        http::access_line(&http::Access {
            time_ms,
            method: http::METHODS[head.request.method],
            path: std::str::from_utf8(head.request.path.of(head.text.bytes(py))).unwrap_or_default(),
            operation,
            status: OK,
            bytes: Some(size),
            seconds,
            upstream_seconds,
            request_id: self.request_text(py),
            trace_id: self.trace_text(),
            peer,
            consistency: &self.reading.consistency,
            failure: "",
        })
    }

    #[pyo3(signature = (answer, ids_max, /))]
    fn record<'py>(&self, py: Python<'py>, answer: &[u8], ids_max: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.recorded(py, answer, ids_max)
    }

    #[pyo3(signature = (answer, ids_max, /))]
    fn record_at_once<'py>(
        &self,
        py: Python<'py>,
        answer: &ResponseHead,
        ids_max: usize,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let encoding = answer.response.header(answer.text.bytes(py), b"content-encoding");
        if encoding.is_some_and(|encoding| encoding != b"identity") {
            return Ok(None);
        }
        let body = answer.body.as_ref().map_or(&b""[..], |body| body.bytes(py));
        self.recorded(py, body, ids_max).map(Some)
    }
}

impl RelayedQuery {
    fn recorded<'py>(&self, py: Python<'py>, given: &[u8], ids_max: usize) -> PyResult<Bound<'py, PyBytes>> {
        let asked = self.head.get();
        let body = asked.body.as_ref().map_or(&b""[..], |body| body.bytes(py));
        let (shape, ids) = in_place(|| (splice::query_shape(body), splice::answer_ids(given, ids_max)))?;
        let reading = &*self.reading;
        let mut out = Vec::with_capacity(200 + reading.namespace.len() + shape.len() + ids.len());
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
        // The namespace is one of those that need no escapes.
        put(&[b",\"namespace\":\"", reading.namespace.as_bytes(), b"\",\"trace_id\":\"", self.trace_text().as_bytes()]);
        if let Some(at_ms) = reading.stable_as_of_ms {
            put(&[b"\",\"stable_as_of\":", at_ms.to_string().as_bytes(), b",\"query\":"]);
        } else {
            put(&[b"\",\"query\":"]);
        }
        put(&[&shape, b",\"top_result_ids\":", &ids, b",\"tags\":[]"]);
        if reading.scope.is_empty() {
            put(&[b"}"]);
        } else {
            put(&[b",\"scope\":\"", reading.scope.as_bytes(), b"\"}"]);
        }
        Ok(PyBytes::new(py, &out))
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<QueryRelays>()?;
    module.add_class::<RelayedQuery>()?;
    Ok(())
}
