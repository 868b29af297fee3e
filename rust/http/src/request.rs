//! A request's head, and what RFC 9112 makes of its body.

use crate::head::{self, Header, HeaderError, Limits, Refusal, Span};

/// The connection may serve another request after this one.
pub const KEEP_ALIVE: u32 = 1;
/// The client speaks HTTP/1.0.
pub const HTTP_1_0: u32 = 2;
/// The body comes in chunks.
pub const CHUNKED: u32 = 4;
/// The client waits to be told that it may send the body.
pub const EXPECTS: u32 = 8;
/// The request has a `content-encoding`.
pub const ENCODED: u32 = 16;

/// Every method that is read; which of them a path has is the router's affair.
pub const METHODS: [&str; 34] = [
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "CONNECT",
    "TRACE",
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "NOTIFY",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
];
const METHOD_BYTES_MAX: usize = 10;

/// A request without its body. Ranges are of the head's text.
#[derive(Clone, Debug)]
pub struct Request {
    /// Index in [`METHODS`].
    pub method: usize,
    pub target: Span,
    /// The target's path, without scheme and authority.
    pub path: Span,
    /// What stands behind the path's `?`.
    pub query: Span,
    pub headers: Vec<Header>,
    /// [`KEEP_ALIVE`] and the others.
    pub flags: u32,
    /// The declared length of the body; None without one, and for chunks.
    pub length: Option<u64>,
}

impl Request {
    pub fn header<'a>(&self, text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        head::find(&self.headers, text, name)
    }

    /// The token of `Authorization: Bearer …`.
    pub fn bearer<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let value = self.header(text, b"authorization")?;
        let (scheme, token) = value.split_at_checked(7)?;
        let token = token.trim_ascii();
        (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
    }

    /// Reads a whole head, the empty line included.
    pub(crate) fn parse(text: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let first = head::first_line(text);
        let line = FirstLine::parse(first)?;
        let headers = head::request_headers(text, limits).map_err(|error| match error {
            HeaderError::TooMany => Refusal::too_large(format!("headers: at most {}", limits.header_count_max)),
            HeaderError::Malformed(error) => Refusal::bad(format!("malformed HTTP: {error}")),
        })?;
        let framing = Framing::of(&headers, text)?;
        let mut flags = framing.flags;
        let is_kept = if line.is_1_0 {
            if framing.flags & CHUNKED != 0 {
                return Err(Refusal::bad("transfer-encoding: not part of HTTP/1.0"));
            }
            flags = (flags | HTTP_1_0) & !EXPECTS;
            framing.says_keep_alive && !framing.says_close
        } else {
            if framing.hosts == 0 {
                return Err(Refusal::bad("host: an HTTP/1.1 request must have one"));
            }
            !framing.says_close
        };
        if is_kept {
            flags |= KEEP_ALIVE;
        }
        if METHODS[line.method] == "CONNECT" {
            return Err(Refusal::new(405, "method_not_allowed", "CONNECT is not supported"));
        }
        let (path, query) = split_target(text, line.target)?;
        Ok(Self { method: line.method, target: line.target, path, query, headers, flags, length: framing.length })
    }

    /// Refuses what cannot become a request of ours however it goes on.
    pub(crate) fn judge_start(text: &[u8]) -> Result<(), Refusal> {
        let end = text.iter().take(METHOD_BYTES_MAX + 1).position(|byte| !is_method_byte(*byte));
        match end {
            None if text.len() <= METHOD_BYTES_MAX => Ok(()),
            Some(end) if end > 0 && text[end] == b' ' => Ok(()),
            _ => Err(Refusal::bad("malformed HTTP: the request line has no method")),
        }
    }
}

fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'-'
}

struct FirstLine {
    method: usize,
    target: Span,
    is_1_0: bool,
}

impl FirstLine {
    fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let malformed = || Refusal::bad("malformed HTTP: the request line is not a method, a target and a version");
        let other_version =
            || Refusal::new(505, "http_version_not_supported", "only HTTP/1.0 and HTTP/1.1 are spoken here");
        let mut parts = line.split(|byte| *byte == b' ');
        let name = parts.next().unwrap_or_default();
        let method = METHODS.iter().position(|method| method.as_bytes() == name);
        let method = method.ok_or_else(|| Refusal::bad("malformed HTTP: unknown method"))?;
        let target = parts.next().filter(|target| !target.is_empty()).ok_or_else(malformed)?;
        if !target.iter().all(|byte| matches!(byte, 0x21..=0x7e)) {
            return Err(Refusal::bad("malformed HTTP: the target holds a byte that must be percent-encoded"));
        }
        let start = name.len() + 1;
        let target = Span::new(start, start + target.len());
        let Some(version) = parts.next() else {
            return Err(other_version());
        };
        if parts.next().is_some() {
            return Err(malformed());
        }
        match version {
            b"HTTP/1.1" => Ok(Self { method, target, is_1_0: false }),
            b"HTTP/1.0" => Ok(Self { method, target, is_1_0: true }),
            [b'H', b'T', b'T', b'P', b'/', b'0' | b'2' | b'3', b'.', b'0'..=b'9'] => Err(other_version()),
            _ => Err(Refusal::bad("malformed HTTP: invalid version")),
        }
    }
}

/// Path and query of a target: of one in absolute form (`http://host/path?query`), of a path, or of `*`.
fn split_target(text: &[u8], target: Span) -> Result<(Span, Span), Refusal> {
    let (start, end) = (target.start as usize, target.end as usize);
    let bytes = target.of(text);
    let at = |offset: usize| start + offset;
    let mark = memchr::memchr(b'?', bytes);
    let empty = Span::new(end, end);
    let from = match bytes[0] {
        b'/' => 0,
        b'*' if bytes.len() == 1 => return Ok((target, empty)),
        _ => {
            let malformed = || Refusal::bad("malformed HTTP: the target is neither a path nor a URL");
            let scheme = memchr::memmem::find(bytes, b"://").ok_or_else(malformed)?;
            let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
            if !bytes[0].is_ascii_alphabetic() || !bytes[..scheme].iter().all(is_scheme) || scheme + 3 == bytes.len() {
                return Err(malformed());
            }
            let slash = memchr::memchr(b'/', &bytes[scheme + 3..]).map(|offset| scheme + 3 + offset);
            match (slash, mark) {
                (Some(slash), Some(mark)) if slash < mark => slash,
                (Some(slash), None) => slash,
                (_, mark) => {
                    // No path: its place is taken by the slash of the scheme.
                    let query = mark.map_or(empty, |mark| Span::new(at(mark + 1), end));
                    return Ok((Span::new(at(scheme + 1), at(scheme + 2)), query));
                }
            }
        }
    };
    Ok(match mark {
        Some(mark) => (Span::new(at(from), at(mark)), Span::new(at(mark + 1), end)),
        None => (Span::new(at(from), end), empty),
    })
}

/// What the headers say about the message's end and the connection's.
#[derive(Default)]
struct Framing {
    flags: u32,
    length: Option<u64>,
    hosts: usize,
    says_close: bool,
    says_keep_alive: bool,
}

impl Framing {
    fn of(headers: &[Header], text: &[u8]) -> Result<Self, Refusal> {
        let mut framing = Self::default();
        let mut codings = 0;
        let mut coding: &[u8] = b"";
        for header in headers {
            let name = header.name.of(text);
            let value = header.value.of(text);
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") => framing.hosts += 1,
                6 if name.eq_ignore_ascii_case(b"expect") && value.eq_ignore_ascii_case(b"100-continue") => {
                    framing.flags |= EXPECTS;
                }
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    for token in head::tokens(value) {
                        framing.says_close |= token.eq_ignore_ascii_case(b"close");
                        framing.says_keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    if framing.length.is_some() {
                        return Err(Refusal::bad("content-length: must not be repeated"));
                    }
                    let length = head::decimal(value);
                    framing.length = Some(length.ok_or_else(|| Refusal::bad("content-length: must be a number"))?);
                }
                16 if name.eq_ignore_ascii_case(b"content-encoding") => framing.flags |= ENCODED,
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    codings += 1;
                    coding = value;
                }
                _ => {}
            }
        }
        if framing.hosts > 1 {
            return Err(Refusal::bad("host: must not be repeated"));
        }
        if codings > 0 {
            judge_coding(codings, coding, framing.length)?;
            framing.flags |= CHUNKED;
        }
        Ok(framing)
    }
}

fn judge_coding(codings: usize, coding: &[u8], length: Option<u64>) -> Result<(), Refusal> {
    if codings > 1 {
        return Err(Refusal::bad("transfer-encoding: must not be repeated"));
    }
    if length.is_some() {
        return Err(Refusal::bad("content-length: must not stand beside transfer-encoding"));
    }
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_chunked = |token: &[u8]| token.eq_ignore_ascii_case(b"chunked");
    let count = head::tokens(coding).count();
    if head::tokens(coding).take(count - 1).any(is_chunked) {
        return Err(Refusal::bad("transfer-encoding: chunked must be the last coding, and once"));
    }
    Err(Refusal::new(501, "not_implemented", "transfer-encoding: only chunked is supported"))
}
