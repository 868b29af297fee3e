//! Bindings of `hevlayer-http`.

use std::ops::Range;

use hevlayer_http as http;
use http::{Ended, Event, Phase, ResponseEvent, Source};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyList, PyString, PyTuple};

create_exception!(
    hevlayer._native,
    RefusedError,
    PyException,
    "A request that cannot be served; `args` are (status, code, message) of the answer to it."
);
create_exception!(hevlayer._native, BrokenAnswerError, PyException, "An answer that is not the HTTP/1.1 we accept.");

fn refused(refusal: http::Refusal) -> PyErr {
    RefusedError::new_err((refusal.status, refusal.code, refusal.message))
}

fn limits(head_bytes_max: usize, header_count_max: usize) -> PyResult<http::Limits> {
    if header_count_max > http::HEADERS_MAX {
        return Err(PyValueError::new_err(format!("header_count_max: at most {}", http::HEADERS_MAX)));
    }
    Ok(http::Limits { head_bytes_max, header_count_max })
}

/// Bytes that stand in a Python object.
pub(crate) struct Text {
    object: Py<PyBytes>,
    range: Range<usize>,
}

impl Text {
    fn new(py: Python<'_>, source: Source, input: &Bound<'_, PyBytes>) -> Self {
        match source {
            Source::Input(range) => Self { object: input.clone().unbind(), range },
            Source::Owned(bytes) => Self { object: PyBytes::new(py, &bytes).unbind(), range: 0..bytes.len() },
        }
    }

    pub(crate) fn bytes<'a>(&'a self, py: Python<'a>) -> &'a [u8] {
        &self.object.as_bytes(py)[self.range.clone()]
    }

    /// The very object where these bytes are all of it, else a copy.
    fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let object = self.object.bind(py);
        if self.range == (0..object.as_bytes().len()) {
            return object.clone();
        }
        PyBytes::new(py, self.bytes(py))
    }
}

fn piece<'py>(py: Python<'py>, source: Source, input: &Bound<'py, PyBytes>) -> Bound<'py, PyAny> {
    Text::new(py, source, input).object(py).into_any()
}

fn end(py: Python<'_>) -> Bound<'_, PyAny> {
    PyBool::new(py, true).to_owned().into_any()
}

pub(crate) fn ascii<'py>(py: Python<'py>, text: &[u8]) -> Bound<'py, PyString> {
    PyString::new(py, std::str::from_utf8(text).unwrap_or_default())
}

fn header_list<'py>(py: Python<'py>, headers: &[http::Header], text: &[u8]) -> PyResult<Bound<'py, PyList>> {
    let pairs = headers.iter().map(|header| {
        let name = header.name.of(text).to_ascii_lowercase();
        (PyBytes::new(py, &name), PyBytes::new(py, header.value.of(text)))
    });
    PyList::new(py, pairs.collect::<Vec<_>>())
}

fn method_name(py: Python<'_>, method: usize) -> &Bound<'_, PyString> {
    static NAMES: PyOnceLock<Vec<Py<PyString>>> = PyOnceLock::new();
    let names =
        NAMES.get_or_init(py, || http::METHODS.iter().map(|name| PyString::intern(py, name).unbind()).collect());
    names[method].bind(py)
}

#[pyclass(frozen, module = "hevlayer._native")]
pub(crate) struct RequestHead {
    pub(crate) request: http::Request,
    pub(crate) text: Text,
    pub(crate) body: Option<Text>,
    /// Held as long as the body.
    _share: Option<http::BodyShare>,
}

#[pymethods]
impl RequestHead {
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        method_name(py, self.request.method).clone()
    }

    #[getter]
    fn target<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.request.target.of(self.text.bytes(py)))
    }

    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        ascii(py, self.request.path.of(self.text.bytes(py)))
    }

    #[getter]
    fn query<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        ascii(py, self.request.query.of(self.text.bytes(py)))
    }

    #[getter]
    fn flags(&self) -> u32 {
        self.request.flags
    }

    #[getter]
    fn length(&self) -> Option<u64> {
        self.request.length
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.body.as_ref().map(|body| body.object(py))
    }

    #[getter]
    fn bearer<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.request.bearer(self.text.bytes(py)).map(|token| PyBytes::new(py, token))
    }

    fn header<'py>(&self, py: Python<'py>, name: &[u8]) -> Option<Bound<'py, PyBytes>> {
        self.request.header(self.text.bytes(py), name).map(|value| PyBytes::new(py, value))
    }

    fn values<'py>(&self, py: Python<'py>, name: &[u8]) -> PyResult<Bound<'py, PyList>> {
        let text = self.text.bytes(py);
        let found = self.request.headers.iter().filter(|header| header.name.of(text).eq_ignore_ascii_case(name));
        PyList::new(py, found.map(|header| PyBytes::new(py, header.value.of(text))).collect::<Vec<_>>())
    }

    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        header_list(py, &self.request.headers, self.text.bytes(py))
    }

    #[allow(clippy::too_many_arguments, reason = "what one message is made of, in one call")]
    #[pyo3(signature = (rules, base, prefix_bytes, host, authorization, traceparent, identity, body, /))]
    fn forwarded<'py>(
        &self,
        py: Python<'py>,
        rules: &ForwardRules,
        base: &[u8],
        prefix_bytes: usize,
        host: &[u8],
        authorization: Option<&[u8]>,
        traceparent: &[u8],
        identity: bool,
        body: &[u8],
    ) -> Bound<'py, PyBytes> {
        let given = http::Forwarded { base, prefix_bytes, host, authorization, traceparent, identity, body };
        let method = http::METHODS[self.request.method].as_bytes();
        let message = http::upstream_request(&self.request, self.text.bytes(py), method, &rules.0, &given);
        PyBytes::new(py, &message)
    }
}

#[pyclass(frozen, module = "hevlayer._native")]
pub(crate) struct ForwardRules(pub(crate) http::ForwardRules);

#[pymethods]
impl ForwardRules {
    #[new]
    fn new(names: Vec<Vec<u8>>, prefixes: Vec<Vec<u8>>) -> Self {
        Self(http::ForwardRules::new(names, prefixes))
    }
}

#[pyclass(frozen, module = "hevlayer._native")]
struct BodyRoom(http::BodyRoom);

#[pymethods]
impl BodyRoom {
    #[new]
    fn new(bytes_max: u64) -> Self {
        Self(http::BodyRoom::new(bytes_max))
    }

    #[getter]
    fn used(&self) -> u64 {
        self.0.used()
    }
}

#[pyclass(module = "hevlayer._native")]
struct RequestReader {
    reader: http::RequestReader,
    input: Option<Py<PyBytes>>,
    at: usize,
    now: f64,
}

#[pymethods]
impl RequestReader {
    #[new]
    fn new(
        head_bytes_max: usize,
        header_count_max: usize,
        whole_body_bytes_max: u64,
        room: &BodyRoom,
    ) -> PyResult<Self> {
        let limits = limits(head_bytes_max, header_count_max)?;
        let reader = http::RequestReader::new(limits, whole_body_bytes_max, room.0.clone());
        Ok(Self { reader, input: None, at: 0, now: 0.0 })
    }

    #[pyo3(signature = (data, now, /))]
    fn feed<'py>(
        &mut self,
        py: Python<'py>,
        data: Bound<'py, PyBytes>,
        now: f64,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.at = 0;
        self.now = now;
        self.read(py, &data)
    }

    fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.input.take() {
            Some(input) => self.read(py, input.bind(py)),
            None => Ok(None),
        }
    }

    #[getter]
    fn phase(&self) -> u8 {
        match self.reader.phase() {
            Phase::Idle => 0,
            Phase::Head => 1,
            Phase::Body => 2,
        }
    }

    #[getter]
    fn since(&self) -> f64 {
        self.reader.since
    }

    #[setter]
    fn set_since(&mut self, since: f64) {
        self.reader.since = since;
    }
}

impl RequestReader {
    fn read<'py>(&mut self, py: Python<'py>, input: &Bound<'py, PyBytes>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let bytes = input.as_bytes();
        let event = self.reader.step(bytes, &mut self.at, self.now).map_err(refused)?;
        // A body may have ended with the last byte, which is an event of its own.
        if event.is_some() && (self.at < bytes.len() || self.reader.phase() != Phase::Idle) {
            self.input = Some(input.clone().unbind());
        }
        Ok(match event {
            None => None,
            Some(Event::Request { request, text, body, share }) => {
                let text = Text::new(py, text, input);
                let body = body.map(|body| Text::new(py, body, input));
                Some(Bound::new(py, RequestHead { request, text, body, _share: share })?.into_any())
            }
            Some(Event::Piece(source)) => Some(piece(py, source, input)),
            Some(Event::End) => Some(end(py)),
        })
    }
}

#[pyclass(frozen, module = "hevlayer._native")]
pub(crate) struct ResponseHead {
    pub(crate) response: http::Response,
    pub(crate) text: Text,
    pub(crate) body: Option<Text>,
}

/// (message, bytes of its body, billed bytes that were queried, billed bytes that were returned)
pub(crate) type Relayed<'py> = (Bound<'py, PyBytes>, usize, Option<u64>, Option<u64>);

impl ResponseHead {
    /// The whole answer for the client.
    pub(crate) fn for_client<'py>(&self, py: Python<'py>, given: &http::AnswerParts<'_>) -> PyResult<Relayed<'py>> {
        let body = self.body.as_ref().map_or(&b""[..], |body| body.bytes(py));
        let rendered = http::client_answer(&self.response, self.text.bytes(py), body, given);
        let body_bytes = rendered.body_bytes();
        let message = PyBytes::new_with(py, rendered.head.len() + body_bytes, |out| {
            let mut at = 0;
            for part in rendered.parts() {
                out[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            Ok(())
        })?;
        let billing = rendered.billing;
        Ok((message, body_bytes, billing.map(|billing| billing.queried), billing.map(|billing| billing.returned)))
    }
}

#[pymethods]
impl ResponseHead {
    #[getter]
    fn status(&self) -> u16 {
        self.response.status
    }

    #[getter]
    fn whole(&self) -> bool {
        self.body.is_some()
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.body.as_ref().map(|body| body.object(py))
    }

    fn header<'py>(&self, py: Python<'py>, name: &[u8]) -> Option<Bound<'py, PyBytes>> {
        self.response.header(self.text.bytes(py), name).map(|value| PyBytes::new(py, value))
    }

    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        header_list(py, &self.response.headers, self.text.bytes(py))
    }

    #[pyo3(signature = (status_line, own, date, connection, stable_as_of_ms, /))]
    fn relayed<'py>(
        &self,
        py: Python<'py>,
        status_line: &[u8],
        own: &[u8],
        date: &[u8],
        connection: &[u8],
        stable_as_of_ms: Option<u64>,
    ) -> PyResult<Relayed<'py>> {
        self.for_client(py, &http::AnswerParts { status_line, own, date, connection, stable_as_of_ms })
    }
}

#[pyclass(module = "hevlayer._native")]
struct ResponseReader {
    reader: http::ResponseReader,
    input: Option<Py<PyBytes>>,
    at: usize,
}

#[pymethods]
impl ResponseReader {
    #[new]
    fn new(head_bytes_max: usize, header_count_max: usize) -> PyResult<Self> {
        let reader = http::ResponseReader::new(limits(head_bytes_max, header_count_max)?);
        Ok(Self { reader, input: None, at: 0 })
    }

    #[pyo3(signature = (is_head, whole_body_bytes_max, /))]
    fn begin(&mut self, is_head: bool, whole_body_bytes_max: u64) {
        self.input = None;
        self.reader.begin(is_head, whole_body_bytes_max);
    }

    #[pyo3(signature = (data, /))]
    fn feed<'py>(&mut self, py: Python<'py>, data: Bound<'py, PyBytes>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.at = 0;
        self.read(py, &data)
    }

    fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.input.take() {
            Some(input) => self.read(py, input.bind(py)),
            None => Ok(None),
        }
    }

    #[getter]
    fn in_body(&self) -> bool {
        self.reader.is_in_body()
    }

    #[getter]
    fn reusable(&self) -> bool {
        self.reader.is_reusable()
    }

    #[pyo3(signature = (is_clean, /))]
    fn finish<'py>(&mut self, py: Python<'py>, is_clean: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.reader.finish(is_clean) {
            Ended::NoAnswer => Ok(None),
            Ended::Truncated => Err(BrokenAnswerError::new_err("the connection ended before the body was complete")),
            Ended::Complete(event) => {
                let nothing = PyBytes::new(py, b"");
                event_object(py, event, &nothing).map(Some)
            }
        }
    }
}

impl ResponseReader {
    fn read<'py>(&mut self, py: Python<'py>, input: &Bound<'py, PyBytes>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let event = self.reader.step(input.as_bytes(), &mut self.at).map_err(BrokenAnswerError::new_err)?;
        if event.is_some() && self.reader.is_in_body() {
            self.input = Some(input.clone().unbind());
        }
        event.map(|event| event_object(py, event, input)).transpose()
    }
}

fn event_object<'py>(
    py: Python<'py>,
    event: ResponseEvent,
    input: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(match event {
        ResponseEvent::Response { response, text, body } => {
            let text = Text::new(py, text, input);
            let body = body.map(|body| Text::new(py, body, input));
            Bound::new(py, ResponseHead { response, text, body })?.into_any()
        }
        ResponseEvent::Piece(source) => piece(py, source, input),
        ResponseEvent::End => end(py),
    })
}

#[pyclass(module = "hevlayer._native")]
struct TraceIds(http::TraceIds);

#[pymethods]
impl TraceIds {
    #[new]
    fn new(seed: u64) -> Self {
        Self(http::TraceIds::new(seed))
    }

    #[pyo3(signature = (head, /))]
    fn identify<'py>(&mut self, py: Python<'py>, head: &RequestHead) -> PyResult<Bound<'py, PyTuple>> {
        let text = head.text.bytes(py);
        let sent = head.request.header(text, b"traceparent");
        let request_id = head.request.header(text, b"x-request-id").and_then(http::accept_request_id);
        let (traceparent, trace_id) = match sent.and_then(|sent| Some((sent, http::accept_traceparent(sent)?))) {
            Some((sent, trace_id)) => (PyBytes::new(py, sent), ascii(py, trace_id)),
            None => {
                let minted = self.0.mint();
                (PyBytes::new(py, &minted), ascii(py, &minted[3..35]))
            }
        };
        let request_id = request_id.map_or_else(|| trace_id.clone(), |id| PyString::new(py, id));
        (traceparent, trace_id, request_id).into_pyobject(py)
    }
}

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "one line's fields, in one call")]
#[pyo3(signature = (time_ms, method, path, operation, status, size, seconds, upstream_seconds, request_id, trace_id, peer, consistency, failure, /))]
fn access_line(
    time_ms: u64,
    method: &str,
    path: &str,
    operation: &str,
    status: u16,
    size: Option<u64>,
    seconds: f64,
    upstream_seconds: f64,
    request_id: &str,
    trace_id: &str,
    peer: &str,
    consistency: &str,
    failure: &str,
) -> String {
    http::access_line(&http::Access {
        time_ms,
        method,
        path,
        operation,
        status,
        bytes: size,
        seconds,
        upstream_seconds,
        request_id,
        trace_id,
        peer,
        consistency,
        failure,
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("RefusedError", module.py().get_type::<RefusedError>())?;
    module.add("BrokenAnswerError", module.py().get_type::<BrokenAnswerError>())?;
    module.add_class::<RequestHead>()?;
    module.add_class::<BodyRoom>()?;
    module.add_class::<RequestReader>()?;
    module.add_class::<ForwardRules>()?;
    module.add_class::<ResponseHead>()?;
    module.add_class::<ResponseReader>()?;
    module.add_class::<TraceIds>()?;
    module.add_function(wrap_pyfunction!(access_line, module)?)?;
    Ok(())
}
