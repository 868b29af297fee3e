//! A row as it stands in a segment.
//!
//! ```text
//! frame   0  u16  magic                  20  u64  time of the fill, epoch milliseconds
//!         2  u16  bytes of the key       28  u32  hash of the tail
//!         4  u32  namespace's number     32  u32  hash of bytes 0..32, key and head
//!         8  u32  namespace's epoch      36  key, head, tail
//!        12  u32  bytes of the head
//!        16  u32  bytes of the tail
//! ```
//!
//! The index says where a row stands; the frame says whose it is, so that a segment can be emptied without a second
//! index, and a wrong place is found out.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::error::CacheError;

pub const HEADER: usize = 36;
const CHECKED: usize = 32;
const MAGIC: u16 = 0x6865;

/// The fixed part of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub key_bytes: u16,
    pub namespace: u32,
    pub epoch: u32,
    pub head_bytes: u32,
    pub tail_bytes: u32,
    pub filled_ms: u64,
    tail_check: u32,
}

// The low half of a hash is a hash.
#[allow(clippy::cast_possible_truncation)]
fn low(hash: u64) -> u32 {
    hash as u32
}

/// Appends a frame; gives the bytes before its tail.
///
/// # Errors
/// [`CacheError::Shape`] when a part is over its limit.
pub fn write(
    out: &mut Vec<u8>,
    (namespace, epoch): (u32, u32),
    key: &[u8],
    head: &[u8],
    tail: &[u8],
    filled_ms: u64,
) -> Result<u32, CacheError> {
    let over = |_| CacheError::Shape("a row over 4 GiB");
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&u16::try_from(key.len()).map_err(over)?.to_le_bytes());
    out.extend_from_slice(&namespace.to_le_bytes());
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&u32::try_from(head.len()).map_err(over)?.to_le_bytes());
    out.extend_from_slice(&u32::try_from(tail.len()).map_err(over)?.to_le_bytes());
    out.extend_from_slice(&filled_ms.to_le_bytes());
    out.extend_from_slice(&low(xxh3_64(tail)).to_le_bytes());
    out.extend_from_slice(&[0; HEADER - CHECKED]);
    out.extend_from_slice(key);
    out.extend_from_slice(head);
    let check = check(&out[start..]);
    out[start + CHECKED..start + HEADER].copy_from_slice(&check.to_le_bytes());
    let prefix = u32::try_from(out.len() - start).map_err(over)?;
    out.extend_from_slice(tail);
    Ok(prefix)
}

/// The hash of a frame's bytes before its tail, without the hash's own place.
fn check(prefix: &[u8]) -> u32 {
    low(xxh3_64_with_seed(&prefix[HEADER..], xxh3_64(&prefix[..CHECKED])))
}

impl Header {
    /// Reads the header of a frame; `bytes` may be longer. None when it is none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        if half(0)? != MAGIC || bytes.len() < HEADER {
            return None;
        }
        Some(Self {
            key_bytes: half(2)?,
            namespace: word(4)?,
            epoch: word(8)?,
            head_bytes: word(12)?,
            tail_bytes: word(16)?,
            filled_ms: u64::from(word(20)?) | u64::from(word(24)?) << 32,
            tail_check: word(28)?,
        })
    }

    pub fn prefix_bytes(&self) -> usize {
        HEADER + usize::from(self.key_bytes) + self.head_bytes as usize
    }

    pub fn frame_bytes(&self) -> usize {
        self.prefix_bytes() + self.tail_bytes as usize
    }
}

/// A frame whose header, key and head were found whole.
pub struct Frame<'a> {
    pub header: Header,
    pub key: &'a [u8],
    pub head: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads the frame at the start of `bytes` and verifies all but its tail.
    ///
    /// # Errors
    /// [`CacheError::Corrupt`]
    pub fn read(bytes: &'a [u8]) -> Result<Self, CacheError> {
        let frame = Self::read_again(bytes)?;
        let prefix = &bytes[..frame.header.prefix_bytes()];
        let stored = u32::from_le_bytes([prefix[32], prefix[33], prefix[34], prefix[35]]);
        if check(prefix) != stored {
            return Err(CacheError::Corrupt);
        }
        Ok(frame)
    }

    /// Reads a frame that was verified before; only its lengths are looked at.
    ///
    /// # Errors
    /// [`CacheError::Corrupt`]
    pub fn read_again(bytes: &'a [u8]) -> Result<Self, CacheError> {
        let header = Header::read(bytes).ok_or(CacheError::Corrupt)?;
        let prefix = bytes.get(..header.prefix_bytes()).ok_or(CacheError::Corrupt)?;
        let (key, head) =
            prefix[HEADER..].split_at_checked(usize::from(header.key_bytes)).ok_or(CacheError::Corrupt)?;
        Ok(Self { header, key, head, rest: &bytes[prefix.len()..] })
    }

    /// The tail, verified.
    ///
    /// # Errors
    /// [`CacheError::Corrupt`]
    pub fn tail(&self) -> Result<&'a [u8], CacheError> {
        let tail = self.rest.get(..self.header.tail_bytes as usize).ok_or(CacheError::Corrupt)?;
        if low(xxh3_64(tail)) != self.header.tail_check {
            return Err(CacheError::Corrupt);
        }
        Ok(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written_and_no_damage_passes() {
        let mut bytes = Vec::new();
        let prefix = write(&mut bytes, (7, 9), b"key", b"the head", b"the tail", 1234).expect("a frame");
        let frame = Frame::read(&bytes).expect("a frame");
        assert_eq!(
            (frame.key, frame.head, frame.tail().expect("a tail")),
            (&b"key"[..], &b"the head"[..], &b"the tail"[..])
        );
        assert_eq!((frame.header.namespace, frame.header.epoch, frame.header.filled_ms), (7, 9, 1234));
        assert_eq!((frame.header.prefix_bytes(), frame.header.frame_bytes()), (prefix as usize, bytes.len()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x11;
            assert!(Frame::read(&damaged).and_then(|frame| frame.tail().map(drop)).is_err(), "byte {at}");
            assert!(Frame::read(&bytes[..at]).and_then(|frame| frame.tail().map(drop)).is_err(), "length {at}");
        }
    }
}
