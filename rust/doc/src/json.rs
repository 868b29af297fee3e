//! Walks JSON text by position. Strict (RFC 8259), bounded in depth, never allocates but to decode a string.

use memchr::memchr2;
use std::borrow::Cow;
use std::ops::Range;

use crate::error::DocError;

/// Deeper nesting is refused.
pub const DEPTH_MAX: usize = 128;

type Result<T> = std::result::Result<T, DocError>;

/// A position in a text that is known to be UTF-8.
pub struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0 }
    }

    /// A cursor over a part of a text that was walked before.
    pub fn over(text: &'a [u8], at: usize) -> Self {
        Self { text, at }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// Steps over text that was walked by other means.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T> {
        Err(DocError::Json { expected, at: self.at })
    }

    pub fn peek(&mut self) -> u8 {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return *byte;
            }
            self.at += 1;
        }
        0
    }

    pub fn take(&mut self, byte: u8, expected: &'static str) -> Result<()> {
        if self.peek() != byte {
            return self.expected(expected);
        }
        self.at += 1;
        Ok(())
    }

    fn take_if(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    /// Only white space may follow.
    pub fn end(&mut self) -> Result<()> {
        if self.peek() != 0 || self.at < self.text.len() {
            return self.expected("the end of the text");
        }
        Ok(())
    }

    /// Walks an object; `member` is called with the cursor before each value and must consume it.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, Range<usize>) -> Result<()>) -> Result<()> {
        self.take(b'{', "an object")?;
        if self.take_if(b'}') {
            return Ok(());
        }
        loop {
            self.peek();
            let key = self.string()?;
            self.take(b':', "a colon")?;
            self.peek();
            member(self, key)?;
            if self.take_if(b'}') {
                return Ok(());
            }
            self.take(b',', "a comma or the end of the object")?;
        }
    }

    /// Walks an array; `element` is called with the cursor before each value and must consume it.
    pub fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.take(b'[', "an array")?;
        if self.take_if(b']') {
            return Ok(());
        }
        loop {
            self.peek();
            element(self)?;
            if self.take_if(b']') {
                return Ok(());
            }
            self.take(b',', "a comma or the end of the array")?;
        }
    }

    /// Consumes a string; the range of its text between the quotes, escapes as they stand.
    pub fn string(&mut self) -> Result<Range<usize>> {
        self.take(b'"', "a string")?;
        let start = self.at;
        loop {
            let Some(offset) = memchr2(b'"', b'\\', &self.text[self.at..]) else {
                return self.expected("the end of a string");
            };
            let run = self.at..self.at + offset;
            if let Some(control) = self.text[run.clone()].iter().position(|byte| *byte < 0x20) {
                self.at += control;
                return self.expected("an escaped control character");
            }
            self.at = run.end + 1;
            if self.text[run.end] == b'"' {
                return Ok(start..run.end);
            }
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Result<()> {
        match self.text.get(self.at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.text.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return self.expected("four hexadecimal digits");
                }
                self.at += 5;
            }
            _ => return self.expected("an escape"),
        }
        Ok(())
    }

    /// Consumes any value and gives its range.
    pub fn value(&mut self) -> Result<Range<usize>> {
        self.value_within(DEPTH_MAX)
    }

    fn value_within(&mut self, depth: usize) -> Result<Range<usize>> {
        let first = self.peek();
        let start = self.at;
        match first {
            b'"' => {
                self.string()?;
            }
            b'{' | b'[' if depth == 0 => return self.expected("less nesting"),
            b'{' => self.object(|cursor, _| cursor.value_within(depth - 1).map(drop))?,
            b'[' => self.array(|cursor| cursor.value_within(depth - 1).map(drop))?,
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => return self.expected("a value"),
        }
        Ok(start..self.at)
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<()> {
        if !self.text[self.at..].starts_with(word) {
            return self.expected("true, false or null");
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start {
            return self.expected("a digit");
        }
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        self.at += usize::from(self.text[self.at] == b'-');
        if self.text.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }
}

/// The characters of a JSON string's inner text, which was walked before. An unpaired surrogate becomes U+FFFD.
pub fn decode(inner: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        text.extend_from_slice(&rest[..at]);
        let escape = rest.get(at + 1).copied().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or_default();
        match escape {
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'u' => {
                let character = unicode(&mut rest);
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => text.push(other),
        }
    }
    text.extend_from_slice(rest);
    Cow::Owned(text)
}

fn unicode(rest: &mut &[u8]) -> char {
    let first = code_unit(rest);
    *rest = rest.get(4..).unwrap_or_default();
    if (0xD800..0xDC00).contains(&first) && rest.starts_with(b"\\u") {
        let second = code_unit(&rest[2..]);
        if (0xDC00..0xE000).contains(&second) {
            *rest = rest.get(6..).unwrap_or_default();
            return char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)).unwrap_or('\u{FFFD}');
        }
    }
    char::from_u32(first).unwrap_or('\u{FFFD}')
}

fn code_unit(text: &[u8]) -> u32 {
    text.iter().take(4).fold(0, |unit, digit| unit * 16 + char::from(*digit).to_digit(16).unwrap_or(0))
}

/// Appends `text` as a JSON string with its quotes.
///
/// Only what must be escaped is: the quote, the backslash and control characters, these by their short form where JSON
/// has one.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain = 0;
    for (at, &byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0C => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..=0x1F => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text[plain..at]);
        plain = at + 1;
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(&[b'0', b'0', b'0' + (byte >> 4), b"0123456789abcdef"[usize::from(byte & 15)]]);
        }
    }
    out.extend_from_slice(&text[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> bool {
        let mut cursor = Cursor::new(text);
        cursor.value().is_ok() && cursor.end().is_ok()
    }

    #[test]
    fn accepts_what_the_grammar_accepts() {
        for text in ["0", "-1.5e+3", " [1, {\"a\" : null} ,\"\\u00e9\"] ", "{}", "[]", "true", "\"\u{e9}\""] {
            assert!(whole(text), "{text}");
        }
    }

    #[test]
    fn refuses_what_the_grammar_refuses() {
        for text in
            ["", "01", "1.", "-", "[1,]", "{\"a\"}", "{\"a\":1,}", "\"\\x\"", "\"\n\"", "tru", "1 2", "[\u{0}]", "\"a"]
        {
            assert!(!whole(text), "{text}");
        }
    }

    #[test]
    fn bounds_the_depth() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(whole(&nested(DEPTH_MAX)));
        assert!(!whole(&nested(DEPTH_MAX + 1)));
    }

    #[test]
    fn decodes_escapes_and_surrogates() {
        assert_eq!(decode(br#"a\n\u00e9\ud83d\ude00\ud83dx"#).as_ref(), "a\n\u{e9}\u{1F600}\u{FFFD}x".as_bytes());
    }

    #[test]
    fn encodes_what_must_be_escaped() {
        let mut out = Vec::new();
        encode("a\"\\\u{1}\u{1f}\u{8}\n/\u{e9}\u{7f}".as_bytes(), &mut out);
        assert_eq!(out, "\"a\\\"\\\\\\u0001\\u001f\\b\\n/\u{e9}\u{7f}\"".as_bytes());
    }
}
