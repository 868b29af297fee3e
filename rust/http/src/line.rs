//! A line of the access log.

use std::fmt::Write;

/// One answered request.
pub struct Access<'a> {
    pub time_ms: u64,
    pub method: &'a str,
    pub path: &'a str,
    pub operation: &'a str,
    pub status: u16,
    /// None for a body whose length is not known.
    pub bytes: Option<u64>,
    pub seconds: f64,
    pub upstream_seconds: f64,
    pub request_id: &'a str,
    pub trace_id: &'a str,
    pub peer: &'a str,
    /// Empty for what is not a query.
    pub consistency: &'a str,
    /// The error's code; empty without one.
    pub failure: &'a str,
}

/// The line as JSON, without its line break.
pub fn access_line(access: &Access<'_>) -> String {
    let mut out = String::with_capacity(352 + access.path.len());
    let level = if access.status >= 500 { "error" } else { "info" };
    // Writing to a string cannot fail.
    let _ = write!(out, r#"{{"time_ms":{},"level":"{level}","event":"request","method":"#, access.time_ms);
    quoted(&mut out, access.method);
    out.push_str(r#","path":"#);
    quoted(&mut out, access.path);
    out.push_str(r#","operation":"#);
    quoted(&mut out, access.operation);
    let _ = write!(out, r#","status":{},"bytes":"#, access.status);
    match access.bytes {
        Some(bytes) => {
            let _ = write!(out, "{bytes}");
        }
        None => out.push_str("null"),
    }
    let (total, upstream) = (microseconds(access.seconds), microseconds(access.upstream_seconds));
    let _ = write!(out, r#","us":{total},"upstream_us":{upstream},"request_id":"#);
    quoted(&mut out, access.request_id);
    out.push_str(r#","trace_id":"#);
    quoted(&mut out, access.trace_id);
    out.push_str(r#","peer":"#);
    quoted(&mut out, access.peer);
    for (name, value) in [(r#","consistency":"#, access.consistency), (r#","error":"#, access.failure)] {
        if !value.is_empty() {
            out.push_str(name);
            quoted(&mut out, value);
        }
    }
    out.push('}');
    out
}

#[allow(clippy::cast_possible_truncation, reason = "a float that is out of range becomes the nearest integer")]
fn microseconds(seconds: f64) -> i64 {
    (seconds * 1e6) as i64
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        out.push_str(text);
    } else {
        for character in text.chars() {
            match character {
                '"' | '\\' => out.extend(['\\', character]),
                '\u{8}' => out.push_str("\\b"),
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\u{c}' => out.push_str("\\f"),
                '\r' => out.push_str("\\r"),
                '\0'..='\u{1f}' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(character));
                }
                _ => out.push(character),
            }
        }
    }
    out.push('"');
}
