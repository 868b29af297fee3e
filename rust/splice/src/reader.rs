//! One strict pass over JSON text (RFC 8259): positions only, no tree.

use crate::error::{Fault, Parsed};
use crate::lanes;

/// Numbers of a list that are read one by one before whole blocks are tried.
const RUN_BEFORE_BLOCKS: u32 = 4;

/// Arrays and objects that may be open at once.
pub const DEPTH_MAX: u32 = 128;

const EOF_VALUE: &str = "EOF while parsing a value";
const EOF_LIST: &str = "EOF while parsing a list";
const EOF_OBJECT: &str = "EOF while parsing an object";
const EOF_STRING: &str = "EOF while parsing a string";
const TRAILING_COMMA: &str = "trailing comma";

/// A member's key: the range of its text with the quotes, and where the member before it ended.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub start: usize,
    pub end: usize,
    pub escaped: bool,
    /// End of the previous member's value; `None` for the first member.
    pub previous_end: Option<usize>,
}

/// Where an object or array stood.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Position of the closing bracket.
    pub close: usize,
    /// End of the last member or element; `None` when there is none.
    pub last_end: Option<usize>,
}

/// The first byte of a value tells its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
    /// No value starts with this byte; reading it gives the fault.
    Broken,
}

pub struct Reader<'a> {
    bytes: &'a [u8],
    pub at: usize,
    depth: u32,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    /// A reader that continues at a position of text that was read before.
    pub fn resume(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, depth: 0 }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fault<T>(&self, reason: &'static str) -> Parsed<T> {
        Err(Fault { at: self.at, reason })
    }

    /// A fault at the current byte, or `eof` when there is none.
    #[cold]
    fn unexpected<T>(&self, reason: &'static str, eof: &'static str) -> Parsed<T> {
        let reason = if self.at >= self.bytes.len() { eof } else { reason };
        self.fault(reason)
    }

    #[inline(always)]
    pub fn skip_blank(&mut self) {
        // Most text has no white space or a single one; only indented text enters the loop.
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    pub fn kind(&self) -> Kind {
        match self.peek() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b't') => Kind::True,
            Some(b'f') => Kind::False,
            Some(b'n') => Kind::Null,
            _ => Kind::Broken,
        }
    }

    /// The array or object at the current position closes at once.
    pub fn opens_empty(&self) -> bool {
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        let first = rest.iter().find(|byte| !matches!(byte, b' ' | b'\n' | b'\t' | b'\r'));
        matches!(first, Some(b']' | b'}'))
    }

    /// After the one value of the text: nothing but white space may follow.
    pub fn finish(&mut self) -> Parsed<()> {
        self.skip_blank();
        if self.at < self.bytes.len() {
            return self.fault("trailing characters");
        }
        Ok(())
    }

    fn enter(&mut self) -> Parsed<()> {
        if self.depth >= DEPTH_MAX {
            return self.fault("recursion limit exceeded");
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Reads the object at the current position. `each` is called at the start of each member's value and must read
    /// exactly that value.
    #[inline]
    pub fn members(&mut self, mut each: impl FnMut(&mut Self, Key) -> Parsed<()>) -> Parsed<Span> {
        self.enter()?;
        self.skip_blank();
        let mut last_end = None;
        if self.peek() != Some(b'}') {
            loop {
                let (start, escaped) = self.key(last_end.is_some())?;
                let key = Key { start, end: self.at, escaped, previous_end: last_end };
                self.colon()?;
                each(self, key)?;
                last_end = Some(self.at);
                self.skip_blank();
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.skip_blank();
                    }
                    Some(b'}') => break,
                    _ => return self.unexpected("expected `,` or `}`", EOF_OBJECT),
                }
            }
        }
        let close = self.at;
        self.at += 1;
        self.depth -= 1;
        Ok(Span { close, last_end })
    }

    /// Reads the array at the current position. `each` is called at the start of each element with its index and must
    /// read exactly that element.
    #[inline]
    pub fn elements(&mut self, mut each: impl FnMut(&mut Self, usize) -> Parsed<()>) -> Parsed<Span> {
        self.enter()?;
        self.skip_blank();
        let mut last_end = None;
        let mut index = 0;
        if self.peek() != Some(b']') {
            loop {
                if self.peek() == Some(b']') {
                    return self.fault(TRAILING_COMMA);
                }
                each(self, index)?;
                index += 1;
                last_end = Some(self.at);
                self.skip_blank();
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.skip_blank();
                    }
                    Some(b']') => break,
                    _ => return self.unexpected("expected `,` or `]`", EOF_LIST),
                }
            }
        }
        let close = self.at;
        self.at += 1;
        self.depth -= 1;
        Ok(Span { close, last_end })
    }

    #[inline]
    fn key(&mut self, after_comma: bool) -> Parsed<(usize, bool)> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => Ok((start, self.string()?)),
            Some(b'}') if after_comma => self.fault(TRAILING_COMMA),
            _ => self.unexpected("key must be a string", EOF_OBJECT),
        }
    }

    /// From the end of a key to the start of its value.
    #[inline]
    fn colon(&mut self) -> Parsed<()> {
        self.skip_blank();
        if self.peek() != Some(b':') {
            return self.unexpected("expected `:`", EOF_OBJECT);
        }
        self.at += 1;
        self.skip_blank();
        Ok(())
    }

    /// Reads one value, whatever it is.
    pub fn skip_value(&mut self) -> Parsed<()> {
        // One bit an open bracket, the innermost lowest: 1 for an object. 128 levels fit.
        let mut objects: u128 = 0;
        let outer = self.depth;
        loop {
            match self.peek() {
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'{') => {
                    self.enter()?;
                    objects = (objects << 1) | 1;
                    self.skip_blank();
                    if self.peek() != Some(b'}') {
                        self.key(false)?;
                        self.colon()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.enter()?;
                    objects <<= 1;
                    self.skip_blank();
                    if self.peek() != Some(b']') {
                        self.number_run()?;
                        continue;
                    }
                }
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return self.unexpected("expected value", EOF_VALUE),
            }
            // A value ended, or a bracket opened that closes at once.
            loop {
                if self.depth == outer {
                    return Ok(());
                }
                self.skip_blank();
                let in_object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.skip_blank();
                        if in_object {
                            self.key(true)?;
                            self.colon()?;
                        } else if self.peek() == Some(b']') {
                            return self.fault(TRAILING_COMMA);
                        }
                        break;
                    }
                    Some(b'}') if in_object => self.leave(&mut objects),
                    Some(b']') if !in_object => self.leave(&mut objects),
                    _ if in_object => return self.unexpected("expected `,` or `}`", EOF_OBJECT),
                    _ => return self.unexpected("expected `,` or `]`", EOF_LIST),
                }
            }
        }
    }

    #[inline(always)]
    fn leave(&mut self, objects: &mut u128) {
        *objects >>= 1;
        self.depth -= 1;
        self.at += 1;
    }

    /// Reads elements that are numbers, up to but not including the last of the run: the general loop takes over at
    /// any other element, and reads the closing bracket.
    #[inline]
    fn number_run(&mut self) -> Parsed<()> {
        // A short list costs less one by one.
        let mut until_blocks = RUN_BEFORE_BLOCKS;
        loop {
            let start = self.at;
            if !self.at_number() {
                return Ok(());
            }
            self.number()?;
            if self.peek() != Some(b',') {
                self.at = start;
                return Ok(());
            }
            self.at += 1;
            if self.peek() == Some(b' ') {
                self.at += 1;
            }
            if !self.at_number() {
                // Not a plain run: let the general loop see this number again, and what follows it.
                self.at = start;
                return Ok(());
            }
            until_blocks -= 1;
            if until_blocks == 0 {
                self.number_blocks();
                until_blocks = RUN_BEFORE_BLOCKS;
            }
        }
    }

    #[inline(always)]
    fn at_number(&self) -> bool {
        self.peek().is_some_and(|byte| byte.wrapping_sub(b'0') < 10 || byte == b'-')
    }

    /// From the start of a number, steps over as many as can be told to be plain and followed by a comma, a block at
    /// a time; stops at the start of one that needs a closer look, which may be the first. A fault is never told
    /// here: the closer look finds it.
    fn number_blocks(&mut self) {
        // What the byte before the block was. A number may start here as if after a comma.
        let (mut after_digit, mut after_minus, mut after_point, mut after_space) = (0, 0, 0, 0);
        let mut after_comma = 1_u64;
        let mut in_whole = 0_u64;
        let mut after_lone_zero = 0_u64;
        let mut block_at = self.at;
        while let Some(block) = self.bytes.get(block_at..).and_then(|rest| rest.first_chunk::<{ lanes::BLOCK }>()) {
            let bits = lanes::number_bits(block);
            let known = bits.digit | bits.minus | bits.point | bits.comma | bits.space;
            // The bytes before the first one of another kind.
            let valid = if known == u64::MAX { u64::MAX } else { (1 << (!known).trailing_zeros()) - 1 };
            let past_digit = (bits.digit << 1) | after_digit;
            let past_minus = (bits.minus << 1) | after_minus;
            let past_point = (bits.point << 1) | after_point;
            let past_comma = (bits.comma << 1) | after_comma;
            let past_space = (bits.space << 1) | after_space;
            // The first digit of each number. Adding it to the digits carries to the byte behind the whole part, the
            // only place for a point.
            let first = bits.digit & (past_comma | past_space | past_minus);
            let (sum, carry_a) = bits.digit.overflowing_add(first);
            let (sum, carry_b) = sum.overflowing_add(in_whole);
            let behind_whole = sum & !bits.digit;
            let lone_zero = first & bits.zero;
            let past_lone_zero = (lone_zero << 1) | after_lone_zero;
            let wrong = (bits.comma & !past_digit)
                | (bits.space & !past_comma)
                | (bits.minus & !(past_comma | past_space))
                | (bits.point & !behind_whole)
                | (bits.digit & past_lone_zero)
                | (bits.digit & !(past_digit | past_minus | past_point | past_comma | past_space));
            if wrong & valid != 0 {
                return;
            }
            let starts = (bits.minus | (bits.digit & (past_comma | past_space))) & valid;
            if starts != 0 {
                self.at = block_at + 63 - starts.leading_zeros() as usize;
            }
            if valid != u64::MAX {
                return;
            }
            after_digit = bits.digit >> 63;
            after_minus = bits.minus >> 63;
            after_point = bits.point >> 63;
            after_comma = bits.comma >> 63;
            after_space = bits.space >> 63;
            after_lone_zero = lone_zero >> 63;
            in_whole = u64::from(carry_a | carry_b);
            block_at += lanes::BLOCK;
        }
    }

    #[inline(always)]
    fn number(&mut self) -> Parsed<()> {
        let digits_at = self.at + usize::from(self.bytes[self.at] == b'-');
        if let Some(window) = self.bytes.get(digits_at..).and_then(|rest| rest.first_chunk::<32>()) {
            let other = !u64::from(lanes::digit_bits(window));
            let whole = other.trailing_zeros() as usize;
            let mut end = whole;
            let mut plain = whole != 0 && (whole == 1 || window[0] != b'0');
            if whole < 32 && window[whole] == b'.' {
                let fraction = (other >> (whole + 1)).trailing_zeros() as usize;
                plain &= fraction != 0;
                end = whole + 1 + fraction;
            }
            if plain && end < 32 && window[end] | 0x20 != b'e' {
                self.at = digits_at + end;
                return Ok(());
            }
        }
        self.any_number()
    }

    /// Numbers with an exponent, long ones, those near the end of the text, and broken ones.
    #[cold]
    fn any_number(&mut self) -> Parsed<()> {
        const INVALID: &str = "invalid number";
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => {
                self.at += 1;
                if let Some(b'0'..=b'9') = self.peek() {
                    return self.fault(INVALID);
                }
            }
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.unexpected(INVALID, EOF_VALUE),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.unexpected(INVALID, EOF_VALUE);
            }
            self.digits();
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.unexpected(INVALID, EOF_VALUE);
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &[u8]) -> Parsed<()> {
        for &expected in word {
            if self.peek() != Some(expected) {
                return self.unexpected("expected ident", EOF_VALUE);
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Reads the string at the current position; true when it holds an escape.
    #[inline]
    pub fn string(&mut self) -> Parsed<bool> {
        let start = self.at + 1;
        let mut escaped = false;
        let mut wide = false;
        self.at = start;
        loop {
            while let Some(window) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<32>()) {
                let (stops, high) = lanes::string_bits(window);
                if stops == 0 {
                    wide |= high != 0;
                    self.at += 32;
                    continue;
                }
                let run = stops.trailing_zeros();
                wide |= high & ((1 << run) - 1) != 0;
                self.at += run as usize;
                break;
            }
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..=0x1f) => {
                    return self.fault("control character (\\u0000-\\u001F) found while parsing a string");
                }
                Some(byte) => {
                    // Fewer than 32 bytes are left.
                    wide |= byte >= 0x80;
                    self.at += 1;
                }
                None => return self.fault(EOF_STRING),
            }
        }
        if wide {
            if let Err(error) = std::str::from_utf8(&self.bytes[start..self.at]) {
                self.at = start + error.valid_up_to();
                return self.fault("invalid unicode code point");
            }
        }
        self.at += 1;
        Ok(escaped)
    }

    fn escape(&mut self) -> Parsed<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    match self.peek() {
                        Some(byte) if byte.is_ascii_hexdigit() => self.at += 1,
                        _ => return self.unexpected("invalid escape", EOF_STRING),
                    }
                }
            }
            _ => return self.unexpected("invalid escape", EOF_STRING),
        }
        Ok(())
    }
}
