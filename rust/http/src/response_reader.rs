//! The answers on one connection to an upstream, from the bytes that arrive on it.

use crate::chunked::{ChunkError, Chunked};
use crate::head::{EndFinder, Limits};
use crate::reader::Source;
use crate::request::CHUNKED;
use crate::response::Response;

/// What was read.
#[derive(Debug)]
pub enum ResponseEvent {
    /// An answer; without a `body` when that comes in pieces.
    Response { response: Response, text: Source, body: Option<Source> },
    /// A part of the body; never empty.
    Piece(Source),
    /// That body is complete.
    End,
}

/// What the connection's end means.
#[derive(Debug)]
pub enum Ended {
    /// There was no answer, or not its whole head.
    NoAnswer,
    /// The body is shorter than its framing says.
    Truncated,
    /// The body was as long as the connection lived: the answer is complete.
    Complete(ResponseEvent),
}

#[derive(Debug)]
enum Framing {
    Sized(u64),
    Chunks(Chunked),
    UntilClose,
}

#[derive(Debug)]
enum State {
    Head,
    Body { framing: Framing, held: Option<(Response, Vec<u8>)> },
    Complete,
}

/// Reads one answer after another; `begin` before each.
#[derive(Debug)]
pub struct ResponseReader {
    limits: Limits,
    whole_body_bytes_max: u64,
    is_head: bool,
    state: State,
    buffer: Vec<u8>,
    end: EndFinder,
    /// Bytes of interim answers and of the head that is not complete.
    head_bytes: usize,
    is_reusable: bool,
}

impl ResponseReader {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            whole_body_bytes_max: 0,
            is_head: false,
            state: State::Complete,
            buffer: Vec::new(),
            end: EndFinder::default(),
            head_bytes: 0,
            is_reusable: false,
        }
    }

    /// A request is sent. `is_head`: its answer has no body; a body over `whole_body_bytes_max` comes in pieces.
    pub fn begin(&mut self, is_head: bool, whole_body_bytes_max: u64) {
        self.is_head = is_head;
        self.whole_body_bytes_max = whole_body_bytes_max;
        self.state = State::Head;
        self.buffer.clear();
        self.end = EndFinder::default();
        self.head_bytes = 0;
        self.is_reusable = false;
    }

    /// A head has been read and its body is on its way.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::Body { .. })
    }

    /// The answer is complete and its connection may carry another request.
    pub fn is_reusable(&self) -> bool {
        self.is_reusable && matches!(self.state, State::Complete)
    }

    /// Reads on at `at` in what arrived last and moves it; None: all of it is read, or the answer is complete.
    pub fn step(&mut self, input: &[u8], at: &mut usize) -> Result<Option<ResponseEvent>, String> {
        let event = match self.state {
            State::Head => self.head(input, at)?,
            State::Body { .. } => self.body(input, at)?,
            State::Complete => None,
        };
        if matches!(self.state, State::Complete) && *at < input.len() {
            // Nothing was asked; whatever this is must not become the answer to the next request.
            self.is_reusable = false;
            *at = input.len();
        }
        Ok(event)
    }

    fn head(&mut self, input: &[u8], at: &mut usize) -> Result<Option<ResponseEvent>, String> {
        let bare = |_| "response: not HTTP/1.1: a line feed without a carriage return".to_owned();
        while *at < input.len() {
            let start = *at;
            let in_place = self.buffer.is_empty();
            let before = self.buffer.len();
            if !in_place {
                self.buffer.extend_from_slice(&input[start..]);
            }
            let pending: &[u8] = if in_place { &input[start..] } else { &self.buffer };
            let found = self.end.find(pending).map_err(bare)?;
            let taken = found.map_or(input.len() - start, |size| size - before);
            *at += taken;
            self.head_bytes += taken;
            if self.head_bytes > self.limits.head_bytes_max {
                return Err(format!("response head: at most {} bytes", self.limits.head_bytes_max));
            }
            let shown = &pending[..pending.len().min(5)];
            if *shown != b"HTTP/"[..shown.len()] {
                return Err("response: not HTTP/1.1".into());
            }
            let Some(size) = found else {
                if in_place {
                    self.buffer.extend_from_slice(&input[start..]);
                }
                return Ok(None);
            };
            self.end = EndFinder::default();
            let response = Response::parse(&pending[..size], &self.limits)?;
            let text = if in_place {
                Source::Input(start..start + size)
            } else {
                let mut text = std::mem::take(&mut self.buffer);
                text.truncate(size);
                Source::Owned(text)
            };
            if response.status == 101 {
                return Err("response: status 101 to a request that asked for no upgrade".into());
            }
            if response.status >= 200 {
                return self.open(response, text, input, at);
            }
        }
        Ok(None)
    }

    fn open(
        &mut self,
        response: Response,
        text: Source,
        input: &[u8],
        at: &mut usize,
    ) -> Result<Option<ResponseEvent>, String> {
        self.is_reusable = response.is_kept;
        if self.is_head || matches!(response.status, 204 | 304) {
            self.state = State::Complete;
            return Ok(Some(ResponseEvent::Response { response, text, body: Some(Source::Owned(Vec::new())) }));
        }
        let here = input.len() - *at;
        let framing = match response.length {
            _ if response.flags & CHUNKED != 0 => Framing::Chunks(Chunked::default()),
            Some(length) if length > self.whole_body_bytes_max => {
                self.state = State::Body { framing: Framing::Sized(length), held: None };
                return Ok(Some(ResponseEvent::Response { response, text, body: None }));
            }
            Some(length) if length <= here as u64 => {
                let end = *at + usize::try_from(length).unwrap_or(here);
                let body = Source::Input(*at..end);
                *at = end;
                self.state = State::Complete;
                return Ok(Some(ResponseEvent::Response { response, text, body: Some(body) }));
            }
            Some(length) => Framing::Sized(length),
            None => {
                self.is_reusable = false;
                Framing::UntilClose
            }
        };
        let text = match text {
            Source::Input(range) => input[range].to_vec(),
            Source::Owned(text) => text,
        };
        self.buffer.clear();
        self.state = State::Body { framing, held: Some((response, text)) };
        self.body(input, at)
    }

    fn body(&mut self, input: &[u8], at: &mut usize) -> Result<Option<ResponseEvent>, String> {
        let State::Body { framing, held } = &mut self.state else {
            return Ok(None);
        };
        if held.is_none() && !self.buffer.is_empty() {
            // What had come before the body turned out to be too long to be kept.
            return Ok(Some(ResponseEvent::Piece(Source::Owned(std::mem::take(&mut self.buffer)))));
        }
        let start = *at;
        let mut data = Vec::new();
        let (piece, is_done) = match framing {
            Framing::Sized(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len() - start);
                *left -= taken as u64;
                *at += taken;
                (Source::Input(start..*at), *left == 0)
            }
            Framing::Chunks(chunked) => {
                *at += chunked.decode(&input[start..], &mut data, &self.limits).map_err(|error| match error {
                    ChunkError::Malformed(what) => format!("response body: broken framing: {what}"),
                    ChunkError::TooLong => "response body: chunk extensions or trailers too long".into(),
                })?;
                (Source::Owned(data), chunked.is_done())
            }
            Framing::UntilClose => {
                *at = input.len();
                (Source::Input(start..*at), false)
            }
        };
        let piece_length = match &piece {
            Source::Input(range) => range.len(),
            Source::Owned(data) => data.len(),
        };
        if held.is_none() {
            if piece_length > 0 {
                return Ok(Some(ResponseEvent::Piece(piece)));
            }
            if is_done {
                self.state = State::Complete;
                return Ok(Some(ResponseEvent::End));
            }
            return Ok(None);
        }
        if is_done && self.buffer.is_empty() && piece_length as u64 <= self.whole_body_bytes_max {
            return Ok(self.complete(piece));
        }
        match &piece {
            Source::Input(range) => self.buffer.extend_from_slice(&input[range.clone()]),
            Source::Owned(data) => self.buffer.extend_from_slice(data),
        }
        if self.buffer.len() as u64 > self.whole_body_bytes_max {
            let Some((response, text)) = held.take() else {
                return Ok(None);
            };
            return Ok(Some(ResponseEvent::Response { response, text: Source::Owned(text), body: None }));
        }
        if is_done {
            let body = std::mem::take(&mut self.buffer);
            return Ok(self.complete(Source::Owned(body)));
        }
        Ok(None)
    }

    fn complete(&mut self, body: Source) -> Option<ResponseEvent> {
        match std::mem::replace(&mut self.state, State::Complete) {
            State::Body { held: Some((response, text)), .. } => {
                Some(ResponseEvent::Response { response, text: Source::Owned(text), body: Some(body) })
            }
            _ => None,
        }
    }

    /// The connection has ended; `is_clean`: the peer said so.
    pub fn finish(&mut self, is_clean: bool) -> Ended {
        match &mut self.state {
            State::Head | State::Complete => Ended::NoAnswer,
            State::Body { framing: Framing::UntilClose, held } if is_clean => {
                let held = held.take();
                self.state = State::Complete;
                self.is_reusable = false;
                Ended::Complete(match held {
                    Some((response, text)) => ResponseEvent::Response {
                        response,
                        text: Source::Owned(text),
                        body: Some(Source::Owned(std::mem::take(&mut self.buffer))),
                    },
                    None => ResponseEvent::End,
                })
            }
            State::Body { .. } => Ended::Truncated,
        }
    }
}
