//! The requests of one connection, from the bytes that arrive on it.

use std::ops::Range;

use crate::chunked::{ChunkError, Chunked};
use crate::head::{EndFinder, Limits, Refusal};
use crate::request::{Request, CHUNKED, EXPECTS, HTTP_1_0};
use crate::room::{BodyRoom, BodyShare};

/// Where bytes stand: in what was read last, or in a buffer of their own.
#[derive(Debug)]
pub enum Source {
    Input(Range<usize>),
    Owned(Vec<u8>),
}

/// What was read.
#[derive(Debug)]
pub enum Event {
    /// A request; without a `body` when that arrives in pieces. The share is the body's, to be kept as long as it.
    Request { request: Request, text: Source, body: Option<Source>, share: Option<BodyShare> },
    /// A part of the body of the last request; never empty.
    Piece(Source),
    /// That body is complete.
    End,
}

/// What the reader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Head,
    Body,
}

#[derive(Debug)]
enum State {
    /// Bytes of a head that is not complete are in `buffer`.
    Head,
    /// A small body; what has come of it is in `buffer`.
    Whole {
        request: Request,
        text: Vec<u8>,
        left: usize,
        share: BodyShare,
    },
    Arriving {
        left: u64,
    },
    Chunks(Chunked),
    /// Refused; nothing that follows means anything.
    Failed,
}

/// Reads requests; what cannot be one is refused, once.
#[derive(Debug)]
pub struct RequestReader {
    limits: Limits,
    /// A body that declares at most this many bytes comes with its request, while there is room for it.
    whole_body_bytes_max: u64,
    room: BodyRoom,
    state: State,
    buffer: Vec<u8>,
    end: EndFinder,
    is_idle: bool,
    /// When the phase began, by the caller's clock.
    pub since: f64,
}

impl RequestReader {
    pub fn new(limits: Limits, whole_body_bytes_max: u64, room: BodyRoom) -> Self {
        Self {
            limits,
            whole_body_bytes_max,
            room,
            state: State::Head,
            buffer: Vec::new(),
            end: EndFinder::default(),
            is_idle: true,
            since: 0.0,
        }
    }

    pub fn phase(&self) -> Phase {
        match self.state {
            State::Head if self.is_idle => Phase::Idle,
            State::Head => Phase::Head,
            State::Failed => Phase::Idle,
            _ => Phase::Body,
        }
    }

    /// Reads on at `at` in what arrived last and moves it; None: all of it is read.
    pub fn step(&mut self, input: &[u8], at: &mut usize, now: f64) -> Result<Option<Event>, Refusal> {
        let event = match self.state {
            State::Head => self.head(input, at, now),
            State::Whole { .. } => Ok(self.whole(input, at)),
            State::Arriving { .. } => Ok(self.arriving(input, at)),
            State::Chunks(_) => self.chunks(input, at),
            State::Failed => {
                *at = input.len();
                Ok(None)
            }
        };
        if event.is_err() {
            self.state = State::Failed;
            self.buffer = Vec::new();
        }
        event
    }

    fn head(&mut self, input: &[u8], at: &mut usize, now: f64) -> Result<Option<Event>, Refusal> {
        if *at >= input.len() {
            return Ok(None);
        }
        if self.is_idle {
            self.is_idle = false;
            self.since = now;
        }
        let too_large = || Refusal::too_large(format!("request head: at most {} bytes", self.limits.head_bytes_max));
        let bare = |_| Refusal::bad("malformed HTTP: a line feed without a carriage return");
        if self.buffer.is_empty() {
            // Empty lines before a request line are skipped, as RFC 9112 asks.
            while input[*at..].starts_with(b"\r\n") {
                *at += 2;
            }
            let start = *at;
            let text = &input[start..];
            if let Some(size) = self.end.find(text).map_err(bare)? {
                if size > self.limits.head_bytes_max {
                    return Err(too_large());
                }
                *at += size;
                return self.begin(&text[..size], Source::Input(start..start + size), input, at);
            }
            self.buffer.extend_from_slice(text);
            *at = input.len();
        } else {
            let before = self.buffer.len();
            self.buffer.extend_from_slice(&input[*at..]);
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.drain(..2);
                self.end = EndFinder::default();
            }
            let gone = before + (input.len() - *at) - self.buffer.len();
            if let Some(size) = self.end.find(&self.buffer).map_err(bare)? {
                if size > self.limits.head_bytes_max {
                    return Err(too_large());
                }
                *at += size + gone - before;
                self.buffer.truncate(size);
                let text = std::mem::take(&mut self.buffer);
                return self.begin_owned(text, input, at);
            }
            *at = input.len();
        }
        if self.buffer.len() > self.limits.head_bytes_max {
            return Err(too_large());
        }
        if self.buffer != b"\r" {
            Request::judge_start(&self.buffer)?;
        }
        Ok(None)
    }

    fn begin_owned(&mut self, text: Vec<u8>, input: &[u8], at: &mut usize) -> Result<Option<Event>, Refusal> {
        let request = Request::parse(&text, &self.limits)?;
        Ok(self.open(request, Source::Owned(text), input, at))
    }

    fn begin(&mut self, text: &[u8], source: Source, input: &[u8], at: &mut usize) -> Result<Option<Event>, Refusal> {
        let request = Request::parse(text, &self.limits)?;
        Ok(self.open(request, source, input, at))
    }

    /// Goes on with the body of a request whose head is read; None: more of it must come first.
    fn open(&mut self, request: Request, text: Source, input: &[u8], at: &mut usize) -> Option<Event> {
        self.end = EndFinder::default();
        let arriving = request.flags & EXPECTS != 0 && request.flags & HTTP_1_0 == 0;
        if request.flags & CHUNKED != 0 {
            self.state = State::Chunks(Chunked::default());
            return Some(Event::Request { request, text, body: None, share: None });
        }
        let length = request.length.unwrap_or(0);
        let comes_whole = request.length.is_none() || (!arriving && length <= self.whole_body_bytes_max);
        let Some(share) = comes_whole.then(|| self.room.take(length)).flatten() else {
            self.state = State::Arriving { left: length };
            return Some(Event::Request { request, text, body: None, share: None });
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let here = input.len() - *at;
        if length <= here {
            let body = Source::Input(*at..*at + length);
            *at += length;
            self.finished();
            return Some(Event::Request { request, text, body: Some(body), share: Some(share) });
        }
        let text = match text {
            Source::Input(range) => input[range].to_vec(),
            Source::Owned(text) => text,
        };
        self.buffer = Vec::with_capacity(length);
        self.buffer.extend_from_slice(&input[*at..]);
        *at = input.len();
        self.state = State::Whole { request, text, left: length - here, share };
        None
    }

    fn whole(&mut self, input: &[u8], at: &mut usize) -> Option<Event> {
        let State::Whole { left, .. } = &mut self.state else {
            return None;
        };
        let taken = (*left).min(input.len() - *at);
        self.buffer.extend_from_slice(&input[*at..*at + taken]);
        *at += taken;
        *left -= taken;
        if *left > 0 {
            return None;
        }
        let State::Whole { request, text, share, .. } = std::mem::replace(&mut self.state, State::Head) else {
            return None;
        };
        let body = std::mem::take(&mut self.buffer);
        self.finished();
        Some(Event::Request { request, text: Source::Owned(text), body: Some(Source::Owned(body)), share: Some(share) })
    }

    fn arriving(&mut self, input: &[u8], at: &mut usize) -> Option<Event> {
        let State::Arriving { left } = &mut self.state else {
            return None;
        };
        if *left == 0 {
            self.finished();
            return Some(Event::End);
        }
        let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len() - *at);
        if taken == 0 {
            return None;
        }
        *left -= taken as u64;
        let start = *at;
        *at += taken;
        Some(Event::Piece(Source::Input(start..start + taken)))
    }

    fn chunks(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Event>, Refusal> {
        let State::Chunks(chunked) = &mut self.state else {
            return Ok(None);
        };
        if !chunked.is_done() {
            let mut data = Vec::new();
            *at += chunked.decode(&input[*at..], &mut data, &self.limits).map_err(|error| match error {
                ChunkError::Malformed(what) => Refusal::bad(format!("malformed HTTP: {what}")),
                ChunkError::TooLong => {
                    let limit = self.limits.head_bytes_max;
                    Refusal::bad(format!("chunk extensions and trailers: at most {limit} bytes"))
                }
            })?;
            if !data.is_empty() {
                return Ok(Some(Event::Piece(Source::Owned(data))));
            }
            if !chunked.is_done() {
                return Ok(None);
            }
        }
        self.finished();
        Ok(Some(Event::End))
    }

    fn finished(&mut self) {
        self.state = State::Head;
        self.is_idle = true;
    }
}
