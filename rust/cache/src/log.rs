//! The segmented log: append-only files that rows and marks are written to, oldest evicted first.
//!
//! ```text
//! frame   0  u8   kind            16  u64  time, epoch milliseconds
//!         2  u16  bytes of the namespace  24  u32  CRC-32 of the tail
//!         4  u16  bytes of the key        28  u32  CRC-32 of bytes 0..28, namespace, key and head
//!         8  u32  bytes of the head       32  namespace, key, head, tail
//!        12  u32  bytes of the tail
//! ```
//!
//! Nothing is synced while running: after the death of the process the kernel still has every byte, and after the death
//! of the machine the log is thrown away (see [`crate::replay`]). A frame that was cut short ends its segment.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::CacheError;

pub const HEADER: usize = 32;
const CHECKED: usize = 28;
const SUFFIX: &str = "seg";
/// Each start begins a segment, however short the last one is; each segment is an open file.
const SEGMENTS_MAX: usize = 256;

/// What a frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Row,
    Mark,
    Settle,
    Clear,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Row => 1,
            Self::Mark => 2,
            Self::Settle => 3,
            Self::Clear => 4,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Row, Self::Mark, Self::Settle, Self::Clear].into_iter().find(|kind| kind.code() == code)
    }
}

/// A frame to write.
pub struct Frame<'a> {
    pub kind: Kind,
    pub time_ms: u64,
    pub namespace: &'a str,
    pub key: &'a [u8],
    pub head: &'a [u8],
    pub tail: &'a [u8],
}

impl Frame<'_> {
    pub fn bytes(&self) -> usize {
        HEADER + self.namespace.len() + self.key.len() + self.head.len() + self.tail.len()
    }

    fn encode(&self) -> Result<Vec<u8>, CacheError> {
        let over = |_| CacheError::Shape("a frame part over its limit");
        let mut out = Vec::with_capacity(self.bytes());
        out.extend_from_slice(&[self.kind.code(), 0]);
        out.extend_from_slice(&u16::try_from(self.namespace.len()).map_err(over)?.to_le_bytes());
        out.extend_from_slice(&u16::try_from(self.key.len()).map_err(over)?.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&u32::try_from(self.head.len()).map_err(over)?.to_le_bytes());
        out.extend_from_slice(&u32::try_from(self.tail.len()).map_err(over)?.to_le_bytes());
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(self.tail).to_le_bytes());
        let mut check = crc32fast::Hasher::new();
        check.update(&out);
        for part in [self.namespace.as_bytes(), self.key, self.head] {
            check.update(part);
        }
        out.extend_from_slice(&check.finalize().to_le_bytes());
        for part in [self.namespace.as_bytes(), self.key, self.head, self.tail] {
            out.extend_from_slice(part);
        }
        Ok(out)
    }
}

/// The fixed part of a frame as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub kind: Kind,
    pub namespace_bytes: usize,
    pub key_bytes: usize,
    pub head_bytes: usize,
    pub tail_bytes: usize,
    pub time_ms: u64,
    tail_check: u32,
}

impl Header {
    /// Reads a header; `prefix` may be longer. None when it is none.
    pub fn read(prefix: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(prefix.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(usize::from(u16::from_le_bytes(prefix.get(at..at + 2)?.try_into().ok()?)));
        Some(Self {
            kind: Kind::of(*prefix.first()?)?,
            namespace_bytes: half(2)?,
            key_bytes: half(4)?,
            head_bytes: word(8)? as usize,
            tail_bytes: word(12)? as usize,
            time_ms: u64::from(word(16)?) | u64::from(word(20)?) << 32,
            tail_check: word(24)?,
        })
    }

    /// Bytes up to the tail.
    pub fn prefix_bytes(&self) -> usize {
        HEADER + self.namespace_bytes + self.key_bytes + self.head_bytes
    }

    pub fn frame_bytes(&self) -> usize {
        self.prefix_bytes() + self.tail_bytes
    }

    pub fn namespace<'a>(&self, prefix: &'a [u8]) -> &'a [u8] {
        &prefix[HEADER..HEADER + self.namespace_bytes]
    }

    pub fn key<'a>(&self, prefix: &'a [u8]) -> &'a [u8] {
        &prefix[HEADER + self.namespace_bytes..][..self.key_bytes]
    }

    pub fn head<'a>(&self, prefix: &'a [u8]) -> &'a [u8] {
        &prefix[self.prefix_bytes() - self.head_bytes..self.prefix_bytes()]
    }

    /// The header of `prefix`, which must hold all before the tail and have the checksum it was written with.
    pub fn verified(prefix: &[u8]) -> Result<Self, CacheError> {
        let header = Self::read(prefix).ok_or(CacheError::Corrupt)?;
        let whole = prefix.get(..header.prefix_bytes()).ok_or(CacheError::Corrupt)?;
        let mut check = crc32fast::Hasher::new();
        check.update(&whole[..CHECKED]);
        check.update(&whole[HEADER..]);
        if check.finalize().to_le_bytes() != whole[CHECKED..HEADER] {
            return Err(CacheError::Corrupt);
        }
        Ok(header)
    }

    pub fn verify_tail(&self, tail: &[u8]) -> Result<(), CacheError> {
        if tail.len() != self.tail_bytes || crc32fast::hash(tail) != self.tail_check {
            return Err(CacheError::Corrupt);
        }
        Ok(())
    }
}

/// One file of the log. Stays readable while anyone holds it, also after its removal.
#[derive(Debug)]
pub struct Segment {
    pub id: u32,
    file: File,
    path: PathBuf,
}

/// A read either happened, or would have had to wait for the disk.
pub enum Read {
    Done(Vec<u8>),
    WouldWait,
}

impl Segment {
    fn create(directory: &Path, id: u32) -> io::Result<Self> {
        let path = directory.join(format!("{id:010}.{SUFFIX}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(Self { id, file, path })
    }

    fn open(path: PathBuf, id: u32) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self { id, file, path })
    }

    pub fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reads exactly `length` bytes; waits for the disk as long as that takes.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    /// Reads exactly `length` bytes if they are in the page cache.
    pub fn read_nowait(&self, offset: u64, length: usize) -> io::Result<Read> {
        let mut buffer: Vec<u8> = Vec::with_capacity(length);
        let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: length };
        let start = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: the one buffer has room for `length` bytes and outlives the call; the descriptor is open.
        let count = unsafe { libc::preadv2(self.file.as_raw_fd(), &raw const part, 1, start, libc::RWF_NOWAIT) };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(Read::WouldWait),
                // A file system without the flag: a read that may wait belongs to a thread that may wait.
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => Ok(Read::WouldWait),
                _ => Err(error),
            };
        };
        if count < length {
            return Ok(Read::WouldWait);
        }
        // SAFETY: the kernel has written `count == length` bytes, within the capacity.
        unsafe { buffer.set_len(length) };
        Ok(Read::Done(buffer))
    }
}

/// Where a frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub segment: u32,
    pub offset: u32,
}

/// The log's files, oldest first; the last one is written to.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    segments: VecDeque<Arc<Segment>>,
    active_bytes: u64,
    sealed_bytes: u64,
    segment_bytes_max: u64,
    /// Part of a frame that failed may stand at the end of the active segment; nothing after it would be replayed.
    torn: bool,
}

impl Log {
    /// Opens the segments of a directory for replay; new frames go to a new segment.
    pub fn open(directory: &Path, segment_bytes_max: u64) -> Result<Self, CacheError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                let id = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u32>().ok());
                if let Some(id) = id {
                    found.push((id, path));
                }
            }
        }
        found.sort();
        let mut segments = VecDeque::with_capacity(found.len() + 1);
        let mut sealed_bytes = 0;
        for (id, path) in found {
            let segment = Segment::open(path, id)?;
            sealed_bytes += segment.bytes()?;
            segments.push_back(Arc::new(segment));
        }
        // A process that never wrote leaves an empty segment; restarts must not pile them up.
        if !matches!(segments.back().map(|segment: &Arc<Segment>| segment.bytes()), Some(Ok(0))) {
            let next = segments.back().map_or(1, |segment| segment.id + 1);
            segments.push_back(Arc::new(Segment::create(directory, next)?));
        }
        Ok(Self {
            directory: directory.to_owned(),
            segments,
            active_bytes: 0,
            sealed_bytes,
            segment_bytes_max,
            torn: false,
        })
    }

    /// Whether no segment is missing between the first and the last: they are removed from the front only.
    pub fn is_contiguous(&self) -> bool {
        self.segments.iter().zip(self.segments.iter().skip(1)).all(|(segment, next)| segment.id + 1 == next.id)
    }

    /// Removes every segment file of a directory.
    pub fn wipe(directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        self.sealed_bytes + self.active_bytes
    }

    pub fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter()
    }

    /// More files, or more bytes, than a log of that capacity should have.
    pub fn is_over(&self, capacity_bytes: u64) -> bool {
        self.bytes() > capacity_bytes || self.segments.len() > SEGMENTS_MAX
    }

    /// The segment that is written to.
    pub fn newest(&self) -> Option<u32> {
        self.segments.back().map(|segment| segment.id)
    }

    /// The oldest segment that is no longer written to.
    pub fn oldest_sealed(&self) -> Option<Arc<Segment>> {
        (self.segments.len() > 1).then(|| Arc::clone(&self.segments[0]))
    }

    pub fn segment(&self, id: u32) -> Option<Arc<Segment>> {
        let index = self.segments.binary_search_by_key(&id, |segment| segment.id).ok()?;
        Some(Arc::clone(&self.segments[index]))
    }

    /// Writes a frame to the end of the log.
    pub fn append(&mut self, frame: &Frame<'_>) -> Result<Place, CacheError> {
        let bytes = frame.encode()?;
        let length = bytes.len() as u64;
        if self.torn || (self.active_bytes > 0 && self.active_bytes + length > self.segment_bytes_max) {
            self.rotate()?;
        }
        let active = Arc::clone(self.segments.back().ok_or(CacheError::Closed)?);
        let offset = u32::try_from(self.active_bytes).map_err(|_| CacheError::Shape("a segment over 4 GiB"))?;
        if let Err(error) = active.file.write_all_at(&bytes, self.active_bytes) {
            // Half a frame may stand there. It is taken back rather than left behind in a segment of its own, of which
            // a full disk would soon make more than there are descriptors.
            self.torn = active.file.set_len(self.active_bytes).is_err();
            return Err(error.into());
        }
        self.active_bytes += length;
        Ok(Place { segment: active.id, offset })
    }

    fn rotate(&mut self) -> Result<(), CacheError> {
        let next = self.segments.back().map_or(1, |segment| segment.id + 1);
        let segment = Segment::create(&self.directory, next)?;
        let sealed = self.segments.back().and_then(|segment| segment.bytes().ok());
        self.sealed_bytes += sealed.unwrap_or(self.active_bytes);
        self.segments.push_back(Arc::new(segment));
        self.active_bytes = 0;
        self.torn = false;
        Ok(())
    }

    /// Removes a sealed segment.
    pub fn remove(&mut self, id: u32) -> Result<(), CacheError> {
        let Ok(index) = self.segments.binary_search_by_key(&id, |segment| segment.id) else {
            return Ok(());
        };
        if index + 1 == self.segments.len() {
            return Ok(());
        }
        let segment = Arc::clone(&self.segments[index]);
        let bytes = segment.bytes().unwrap_or(0);
        fs::remove_file(&segment.path)?;
        self.segments.remove(index);
        self.sealed_bytes = self.sealed_bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Makes all that was written outlive the machine.
    pub fn sync(&self) -> io::Result<()> {
        for segment in &self.segments {
            segment.file.sync_data()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::walk;

    fn frame(key: &[u8]) -> Frame<'_> {
        Frame { kind: Kind::Mark, time_ms: 0, namespace: "ns", key, head: b"head", tail: b"" }
    }

    #[test]
    fn nothing_is_written_behind_a_frame_that_failed() {
        let directory = std::env::temp_dir().join(format!("hevlayer-cache-log-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory");
        let mut log = Log::open(&directory, 1 << 20).expect("a log");
        log.append(&frame(b"first")).expect("a frame");
        // The device takes no byte and cannot be cut, and no other segment can be begun.
        let good = log.segments.pop_back().expect("a segment");
        let file = OpenOptions::new().read(true).write(true).open("/dev/full").expect("a full device");
        log.segments.push_back(Arc::new(Segment { id: good.id, file, path: good.path.clone() }));
        let obstacle = Segment::create(&directory, good.id + 1).expect("a file");
        log.append(&frame(b"lost")).expect_err("a full disk");
        log.segments.pop_back();
        log.segments.push_back(good);
        log.append(&frame(b"lost")).expect_err("no new segment");
        fs::remove_file(&obstacle.path).expect("a removal");
        let place = log.append(&frame(b"second")).expect("a frame");
        assert_eq!((place.segment, place.offset), (obstacle.id, 0));
        let mut keys = Vec::new();
        for segment in log.segments() {
            let whole = walk(segment, |_, header, prefix| keys.push(header.key(prefix).to_vec())).expect("a segment");
            assert!(whole);
        }
        assert_eq!(keys, [b"first".to_vec(), b"second".to_vec()]);
        fs::remove_dir_all(&directory).expect("a removal");
    }
}
