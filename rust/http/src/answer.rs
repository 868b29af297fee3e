//! The answer that a client gets, made from the upstream's: its head, and a query's watermark in its body.

use crate::head;
use crate::render::{line, number};
use crate::response::Response;

/// More white space than this behind an answer's last brace, and its body is left as it is.
const TAIL_BYTES: usize = 64;
/// The upstream puts the billing behind the rows, before `performance`.
const BILLING_TAIL_BYTES: usize = 2048;
const DIGITS_MAX: usize = 20;

/// Hop-by-hop headers, and the length of a body that we frame ourselves.
const DROPPED: [&[u8]; 10] = [
    b"te",
    b"trailer",
    b"upgrade",
    b"connection",
    b"keep-alive",
    b"content-length",
    b"proxy-connection",
    b"transfer-encoding",
    b"proxy-authenticate",
    b"proxy-authorization",
];
const HARMLESS: [&[u8]; 3] = [b"keep-alive", b"close", b""];

/// Logical bytes billed for one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billing {
    pub written: u64,
    pub queried: u64,
    pub returned: u64,
}

/// What is added to an answer.
pub struct AnswerParts<'a> {
    /// `HTTP/1.1 200 OK` and its CRLF.
    pub status_line: &'a [u8],
    /// Header lines of the gateway's.
    pub own: &'a [u8],
    /// The date's line, for an answer without one.
    pub date: &'a [u8],
    /// `connection: …` and its CRLF, or nothing.
    pub connection: &'a [u8],
    pub stable_as_of_ms: Option<u64>,
}

/// An answer as it goes to the client: its head, and its body in three parts.
pub struct Rendered<'a> {
    pub head: Vec<u8>,
    pub body: (&'a [u8], Vec<u8>, &'a [u8]),
    /// None where the body is compressed or has none.
    pub billing: Option<Billing>,
}

impl Rendered<'_> {
    pub fn body_bytes(&self) -> usize {
        self.body.0.len() + self.body.1.len() + self.body.2.len()
    }

    /// The whole message, in order.
    pub fn parts(&self) -> [&[u8]; 4] {
        [&self.head, self.body.0, &self.body.1, self.body.2]
    }
}

/// The upstream's headers in order, without those for one hop, then ours; and the body, in which `stable_as_of` is put
/// before the last brace unless it is compressed.
pub fn client_answer<'a>(response: &Response, text: &[u8], body: &'a [u8], given: &AnswerParts<'_>) -> Rendered<'a> {
    let encoding = response.header(text, b"content-encoding");
    let is_plain = encoding.is_none_or(|encoding| encoding == b"identity");
    let (body, billing) = match given.stable_as_of_ms {
        Some(at) if is_plain => (with_stable_as_of(body, at), self::billing(body)),
        _ => ((body, Vec::new(), &b""[..]), if is_plain { self::billing(body) } else { None }),
    };
    let body_bytes = body.0.len() + body.1.len() + body.2.len();
    let mut out = Vec::with_capacity(text.len() + given.own.len() + 160);
    out.extend_from_slice(given.status_line);
    let named = named_by_connection(response, text);
    let mut has_date = false;
    for header in &response.headers {
        let name = header.name.of(text);
        if DROPPED.iter().any(|dropped| name.eq_ignore_ascii_case(dropped))
            || named.iter().any(|hop| name.eq_ignore_ascii_case(hop))
        {
            continue;
        }
        has_date |= name.eq_ignore_ascii_case(b"date");
        line(&mut out, name, header.value.of(text));
    }
    out.extend_from_slice(given.own);
    if !has_date {
        out.extend_from_slice(given.date);
    }
    out.extend_from_slice(b"content-length: ");
    number(&mut out, body_bytes as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(given.connection);
    out.extend_from_slice(b"\r\n");
    Rendered { head: out, body, billing }
}

/// Headers that a `Connection` header declares to be for this hop only.
fn named_by_connection<'a>(response: &Response, text: &'a [u8]) -> Vec<&'a [u8]> {
    let mut named = Vec::new();
    for header in &response.headers {
        if header.name.of(text).eq_ignore_ascii_case(b"connection") {
            let is_harmless = |token: &[u8]| HARMLESS.iter().any(|harmless| token.eq_ignore_ascii_case(harmless));
            named.extend(head::tokens(header.value.of(text)).filter(|token| !is_harmless(token)));
        }
    }
    named
}

/// A JSON object with `stable_as_of` as its last key, in three parts; anything else as it is.
fn with_stable_as_of(body: &[u8], at_ms: u64) -> (&[u8], Vec<u8>, &[u8]) {
    let end = body.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    if end == 0 || body[end - 1] != b'}' {
        return (body, Vec::new(), b"");
    }
    let mut put = Vec::with_capacity(40);
    let before = &body[..end - 1];
    // An empty object has no key to put a comma behind.
    if end < TAIL_BYTES && before.iter().filter(|byte| !is_space(**byte)).eq([&b'{']) {
        put.extend_from_slice(b"{\"stable_as_of\":");
        number(&mut put, at_ms);
        put.push(b'}');
        return (b"", put, b"");
    }
    put.extend_from_slice(b",\"stable_as_of\":");
    number(&mut put, at_ms);
    put.push(b'}');
    (before, put, &body[end..])
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The logical bytes billed for one answer; None when its end has no billing.
///
/// An unescaped `"billing"` cannot stand inside a JSON string, so the last one in the body is a key; rows that have an
/// attribute of that name come before it.
pub fn billing(body: &[u8]) -> Option<Billing> {
    let tail = &body[body.len().saturating_sub(BILLING_TAIL_BYTES)..];
    let start = memchr::memmem::rfind(tail, b"\"billing\"")?;
    let tail = &tail[start..];
    Some(as_written_today(tail).unwrap_or_else(|| number_by_number(tail)))
}

/// `"billing":{"billable_logical_bytes_queried":…,"billable_logical_bytes_returned":…}` and nothing else in it.
fn as_written_today(tail: &[u8]) -> Option<Billing> {
    let rest = after(tail, b"\"billing\"")?;
    let rest = after(after(rest, b":")?, b"{")?;
    let (queried, rest) = digits(after(after(rest, b"\"billable_logical_bytes_queried\"")?, b":")?)?;
    let rest = after(after(after(rest, b",")?, b"\"billable_logical_bytes_returned\"")?, b":")?;
    let (returned, rest) = digits(rest)?;
    after(rest, b"}")?;
    Some(Billing { written: 0, queried, returned })
}

fn after<'a>(text: &'a [u8], token: &[u8]) -> Option<&'a [u8]> {
    text.trim_ascii_start().strip_prefix(token)
}

fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let text = text.trim_ascii_start();
    let count = text.iter().take(DIGITS_MAX).take_while(|byte| byte.is_ascii_digit()).count();
    let value = std::str::from_utf8(&text[..count]).ok()?;
    if value.is_empty() {
        return None;
    }
    Some((value.parse().unwrap_or(u64::MAX), &text[count..]))
}

fn number_by_number(tail: &[u8]) -> Billing {
    let mut sum = Billing::default();
    for at in memchr::memmem::find_iter(tail, b"\"billable_logical_bytes_") {
        let rest = &tail[at + b"\"billable_logical_bytes_".len()..];
        let fields: [(&[u8], &mut u64); 3] =
            [(b"written\"", &mut sum.written), (b"queried\"", &mut sum.queried), (b"returned\"", &mut sum.returned)];
        for (name, field) in fields {
            let amount = rest.strip_prefix(name).and_then(|rest| after(rest, b":")).and_then(digits);
            if let Some((amount, _)) = amount {
                *field = field.saturating_add(amount);
            }
        }
    }
    sum
}
