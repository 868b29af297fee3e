//! The chunked transfer coding, undone.

use crate::head::{self, EndFinder, Limits};

/// Why a chunked body cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub enum ChunkError {
    Malformed(&'static str),
    /// Chunk extensions or trailers over the limit for a head.
    TooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: u8 },
    Extension,
    SizeFeed,
    Data,
    DataReturn,
    DataFeed,
    Trailers,
    Done,
}

/// Reads one body. Everything but the data is counted against the limit for a head, anew after each piece of data.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    /// Of the chunk's size while it is read, then of its data that is still to come.
    left: u64,
    overhead: usize,
    trailers: Vec<u8>,
    end: EndFinder,
}

const SIZE_DIGITS_MAX: u8 = 16;

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size { digits: 0 }, left: 0, overhead: 0, trailers: Vec::new(), end: EndFinder::default() }
    }
}

impl Chunked {
    /// The last chunk and the trailers have been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on in `input`, adds data to `out` and gives how many bytes of the input were of this body.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, limits: &Limits) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < input.len() {
            match self.state {
                State::Data => {
                    let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                    out.extend_from_slice(&input[at..at + room]);
                    at += room;
                    self.left -= room as u64;
                    self.overhead = 0;
                    if self.left == 0 {
                        self.state = State::DataReturn;
                    }
                    continue;
                }
                State::Trailers => {
                    at += self.trailer(&input[at..], limits)?;
                    continue;
                }
                State::Done => break,
                _ => {}
            }
            self.framing(input[at])?;
            at += 1;
            self.overhead += 1;
            if self.overhead > limits.head_bytes_max {
                return Err(ChunkError::TooLong);
            }
        }
        Ok(at)
    }

    fn framing(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(digit);
                State::Size { digits: digits + 1 }
            }
            (State::Size { digits: 1.. }, b'\r') | (State::Extension, b'\r') => State::SizeFeed,
            (State::Size { digits: 1.. }, b';') => State::Extension,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => State::Extension,
            (State::SizeFeed, b'\n') if self.left == 0 => State::Trailers,
            (State::SizeFeed, b'\n') => State::Data,
            (State::DataReturn, b'\r') => State::DataFeed,
            (State::DataFeed, b'\n') => {
                self.left = 0;
                State::Size { digits: 0 }
            }
            (State::Size { .. }, _) => return Err(ChunkError::Malformed("invalid chunk size")),
            (State::DataReturn | State::DataFeed, _) => {
                return Err(ChunkError::Malformed("a chunk is longer than its size"));
            }
            _ => return Err(ChunkError::Malformed("invalid chunk extension")),
        };
        Ok(())
    }

    /// Reads on in the trailers; gives how many bytes were theirs. Nothing in them is kept.
    fn trailer(&mut self, input: &[u8], limits: &Limits) -> Result<usize, ChunkError> {
        let before = self.trailers.len();
        self.trailers.extend_from_slice(input);
        let found = self.end.find(&self.trailers).map_err(|_| ChunkError::Malformed("a bare line feed"))?;
        let size = found.unwrap_or(self.trailers.len());
        if size + self.overhead > limits.head_bytes_max {
            return Err(ChunkError::TooLong);
        }
        let Some(end) = found else {
            return Ok(input.len());
        };
        self.trailers.truncate(end);
        if end > 2 {
            head::trailer_lines(&self.trailers, limits)
                .map_err(|()| ChunkError::Malformed("the trailers are not headers"))?;
        }
        self.trailers = Vec::new();
        self.state = State::Done;
        Ok(end - before)
    }
}
