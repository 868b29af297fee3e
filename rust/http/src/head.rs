//! What requests and answers have in common: where a head ends, and the headers in it.

use std::mem::MaybeUninit;

use memchr::memchr;

/// No head has more headers, whatever the configuration allows.
pub const HEADERS_MAX: usize = 256;

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub head_bytes_max: usize,
    /// At most [`HEADERS_MAX`].
    pub header_count_max: usize,
}

/// A message that cannot be served, with the answer that a server gives to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, "bad_request", message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(431, "request_header_fields_too_large", message)
    }
}

/// A range of a head's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    #[allow(clippy::cast_possible_truncation, reason = "a head is bounded far below 4 GiB")]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub fn of(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..self.end as usize]
    }
}

/// One header; its name as it was sent, its value without white space around it.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub name: Span,
    pub value: Span,
}

/// The first value of `name` (lower-case).
pub(crate) fn find<'a>(headers: &[Header], text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    headers.iter().find(|header| header.name.of(text).eq_ignore_ascii_case(name)).map(|header| header.value.of(text))
}

/// Looks for the empty line that ends a head and keeps its place between calls, so that each byte is seen once.
#[derive(Debug, Default)]
pub(crate) struct EndFinder {
    seen: usize,
    line: usize,
}

/// A line feed without a carriage return before it.
pub(crate) struct BareLineFeed;

impl EndFinder {
    /// Bytes of the head with its empty line; None while it is not there. `text` is all that has come of it.
    pub fn find(&mut self, text: &[u8]) -> Result<Option<usize>, BareLineFeed> {
        while let Some(offset) = memchr(b'\n', &text[self.seen..]) {
            let feed = self.seen + offset;
            if feed == 0 || text[feed - 1] != b'\r' {
                return Err(BareLineFeed);
            }
            let is_empty = feed - 1 == self.line;
            self.seen = feed + 1;
            self.line = self.seen;
            if is_empty {
                return Ok(Some(self.seen));
            }
        }
        self.seen = text.len();
        Ok(None)
    }
}

/// The end of a head's first line, its CRLF left out.
pub(crate) fn first_line(text: &[u8]) -> &[u8] {
    match memchr(b'\r', text) {
        Some(end) => &text[..end],
        None => text,
    }
}

/// Why headers are refused.
pub(crate) enum HeaderError {
    TooMany,
    Malformed(httparse::Error),
}

/// The headers of a request, whose whole head `text` is.
pub(crate) fn request_headers(text: &[u8], limits: &Limits) -> Result<Vec<Header>, HeaderError> {
    let mut space: [MaybeUninit<httparse::Header<'_>>; HEADERS_MAX] = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed: [httparse::Header<'_>; 0] = [];
    let mut request = httparse::Request::new(&mut parsed);
    match request.parse_with_uninit_headers(text, &mut space) {
        Ok(_) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeaderError::TooMany),
        Err(error) => return Err(HeaderError::Malformed(error)),
    }
    take(text, request.headers, limits)
}

/// The headers of an answer.
pub(crate) fn answer_headers(text: &[u8], limits: &Limits) -> Result<Vec<Header>, HeaderError> {
    let mut space: [MaybeUninit<httparse::Header<'_>>; HEADERS_MAX] = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed: [httparse::Header<'_>; 0] = [];
    let mut response = httparse::Response::new(&mut parsed);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, text, &mut space) {
        Ok(_) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeaderError::TooMany),
        Err(error) => return Err(HeaderError::Malformed(error)),
    }
    take(text, response.headers, limits)
}

fn take(text: &[u8], parsed: &[httparse::Header<'_>], limits: &Limits) -> Result<Vec<Header>, HeaderError> {
    if parsed.len() > limits.header_count_max {
        return Err(HeaderError::TooMany);
    }
    let place = |part: &[u8]| part.as_ptr() as usize - text.as_ptr() as usize;
    let mut found = Vec::with_capacity(parsed.len());
    for header in parsed {
        let start = place(header.name.as_bytes());
        let name = Span::new(start, start + header.name.len());
        let value = header.value.trim_ascii();
        // An empty value may point anywhere, also outside the text.
        let at = if value.is_empty() { start } else { place(value) };
        found.push(Header { name, value: Span::new(at, at + value.len()) });
    }
    Ok(found)
}

/// The tokens of a comma list.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// A length in decimal digits and nothing else.
pub(crate) fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Checks that trailers, their empty line included, are header lines.
pub(crate) fn trailer_lines(text: &[u8], limits: &Limits) -> Result<(), ()> {
    let mut space = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(text, &mut space) {
        Ok(httparse::Status::Complete((_, parsed))) if parsed.len() <= limits.header_count_max => Ok(()),
        _ => Err(()),
    }
}
