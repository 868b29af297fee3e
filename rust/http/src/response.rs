//! An answer's head, and what RFC 9112 makes of its body.

use crate::head::{self, Header, HeaderError, Limits};
use crate::request::CHUNKED;

/// An answer without its body. Ranges are of the head's text.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<Header>,
    /// [`CHUNKED`] or nothing.
    pub flags: u32,
    pub length: Option<u64>,
    /// The connection may carry another request.
    pub is_kept: bool,
}

impl Response {
    pub fn header<'a>(&self, text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        head::find(&self.headers, text, name)
    }

    /// Reads a whole head, the empty line included. The error says what is wrong with it.
    pub(crate) fn parse(text: &[u8], limits: &Limits) -> Result<Self, String> {
        let line = head::first_line(text);
        let is_1_0 = match line.get(..9) {
            Some(b"HTTP/1.1 ") => false,
            Some(b"HTTP/1.0 ") => true,
            _ => return Err("response: not HTTP/1.1".into()),
        };
        let digits = line.get(9..12).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let status = digits.map_or(0, |digits| digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')));
        if status < 100 || !matches!(line.get(12), None | Some(b' ')) {
            return Err("response: not HTTP/1.1: invalid status".into());
        }
        let headers = head::answer_headers(text, limits).map_err(|error| match error {
            HeaderError::TooMany => format!("response headers: at most {}", limits.header_count_max),
            HeaderError::Malformed(error) => format!("response: not HTTP/1.1: {error}"),
        })?;
        let mut response = Self { status, headers, flags: 0, length: None, is_kept: false };
        response.frame(text, is_1_0)?;
        Ok(response)
    }

    fn frame(&mut self, text: &[u8], is_1_0: bool) -> Result<(), String> {
        let (mut says_close, mut says_keep_alive) = (false, false);
        for header in &self.headers {
            let (name, value) = (header.name.of(text), header.value.of(text));
            if name.eq_ignore_ascii_case(b"content-length") {
                if self.length.is_some() {
                    return Err("response: content-length stands twice".into());
                }
                self.length = Some(head::decimal(value).ok_or("response: content-length is no number")?);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                if self.flags & CHUNKED != 0 || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err("response: transfer-encoding is neither absent nor chunked".into());
                }
                self.flags |= CHUNKED;
            } else if name.eq_ignore_ascii_case(b"connection") {
                for token in head::tokens(value) {
                    says_close |= token.eq_ignore_ascii_case(b"close");
                    says_keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        if self.length.is_some() && self.flags & CHUNKED != 0 {
            return Err("response: content-length stands beside transfer-encoding".into());
        }
        self.is_kept = !says_close && (!is_1_0 || says_keep_alive);
        Ok(())
    }
}
