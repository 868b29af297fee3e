//! The log: what is in it is on disk. Writers append and then wait; one of those who wait writes and syncs for all.
//!
//! A segment is a header and frames; a frame is a length, a checksum and a record. Only the end of the last segment can
//! be torn, and nothing in a torn tail was ever acknowledged.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"HEVLOG01";
const HEADER_BYTES: usize = 16;
const FRAME_HEADER_BYTES: usize = 8;

/// Bytes that may wait to be written before an appender of many records should wait for the disk.
pub const PENDING_BYTES_SOFT_MAX: usize = 64 << 20;

/// The log cannot be written any more. Nothing is known about what a failed sync left on disk, so the log stays
/// closed until it is opened anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFailed(pub String);

pub struct Log {
    dir: PathBuf,
    state: Mutex<LogState>,
    progress: Condvar,
}

struct LogState {
    segment: u64,
    /// None while a writer is at it.
    file: Option<File>,
    pending: Vec<u8>,
    /// Frames handed in, and frames on disk.
    appended: u64,
    durable: u64,
    /// Bytes of all segments that exist.
    bytes: u64,
    syncs: u64,
    failed: Option<LogFailed>,
}

/// What reading a segment found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentRead {
    pub records: u64,
    /// Bytes that are whole, header included.
    pub good_bytes: u64,
    /// Bytes after those.
    pub torn_bytes: u64,
}

#[must_use]
pub fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("log-{segment:016x}"))
}

/// The segments in a directory, ascending.
///
/// # Errors
/// The directory cannot be read.
pub fn list_segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("log-"));
        segments.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Makes new and removed names in a directory durable.
///
/// # Errors
/// The directory cannot be synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A record as it is in a file.
#[must_use]
pub fn frame(record: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(record.len() + FRAME_HEADER_BYTES);
    framed.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
    framed.extend_from_slice(&crc32fast::hash(record).to_le_bytes());
    framed.extend_from_slice(record);
    framed
}

/// Reads frames until the bytes end or a frame is not whole; returns the bytes of the whole ones.
///
/// # Errors
/// Reading fails, or `each` does.
pub fn read_frames(reader: &mut impl Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<(u64, u64)> {
    let (mut frames, mut good_bytes) = (0, 0);
    let mut record = Vec::new();
    loop {
        let mut header = [0; FRAME_HEADER_BYTES];
        if read_fully(reader, &mut header)? < FRAME_HEADER_BYTES {
            return Ok((frames, good_bytes));
        }
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let checksum = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        record.clear();
        let read = reader.by_ref().take(u64::from(length)).read_to_end(&mut record)?;
        // A file that grew before its data arrived ends in zeros; there are no empty records.
        if length == 0 || read < length as usize || crc32fast::hash(&record) != checksum {
            return Ok((frames, good_bytes));
        }
        each(&record)?;
        frames += 1;
        good_bytes += (FRAME_HEADER_BYTES + record.len()) as u64;
    }
}

fn read_fully(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads one segment, record by record. A segment without a whole header holds nothing.
///
/// # Errors
/// Reading fails, the file is not a log of this version, or `each` fails.
pub fn read_segment(dir: &Path, segment: u64, each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<SegmentRead> {
    let file = File::open(segment_path(dir, segment))?;
    let length = file.metadata()?.len();
    let mut reader = io::BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADER_BYTES];
    if read_fully(&mut reader, &mut header)? < HEADER_BYTES || header == [0; HEADER_BYTES] {
        return Ok(SegmentRead { records: 0, good_bytes: 0, torn_bytes: length });
    }
    if header != segment_header(segment) {
        let reason = format!("{} is not a log of this version", segment_path(dir, segment).display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let (records, frame_bytes) = read_frames(&mut reader, each)?;
    let good_bytes = HEADER_BYTES as u64 + frame_bytes;
    Ok(SegmentRead { records, good_bytes, torn_bytes: length - good_bytes })
}

fn segment_header(segment: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&segment.to_le_bytes());
    header
}

fn create_segment(dir: &Path, segment: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().create_new(true).append(true).open(segment_path(dir, segment))?;
    file.write_all(&segment_header(segment))?;
    file.sync_all()?;
    sync_dir(dir)?;
    Ok(file)
}

impl Log {
    /// Continues `last` after its whole bytes, or starts `next` when there is none.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn open(dir: &Path, next: u64, last: Option<(u64, SegmentRead)>, old_bytes: u64) -> io::Result<Self> {
        let (segment, file, bytes) = match last {
            Some((segment, read)) if read.good_bytes > 0 => {
                let file = OpenOptions::new().append(true).open(segment_path(dir, segment))?;
                file.set_len(read.good_bytes)?;
                file.sync_all()?;
                (segment, file, old_bytes + read.good_bytes)
            }
            Some((segment, _)) => {
                std::fs::remove_file(segment_path(dir, segment))?;
                (segment, create_segment(dir, segment)?, old_bytes + HEADER_BYTES as u64)
            }
            None => (next, create_segment(dir, next)?, old_bytes + HEADER_BYTES as u64),
        };
        Ok(Self {
            dir: dir.to_owned(),
            state: Mutex::new(LogState {
                segment,
                file: Some(file),
                pending: Vec::new(),
                appended: 0,
                durable: 0,
                bytes,
                syncs: 0,
                failed: None,
            }),
            progress: Condvar::new(),
        })
    }

    /// Hands in a frame; it is on disk once [`Log::wait`] has returned for the ticket. Frames reach the disk in the
    /// order in which they were handed in.
    ///
    /// # Errors
    /// The log has failed; nothing was taken.
    pub fn append(&self, framed: &[u8]) -> Result<u64, LogFailed> {
        let mut state = self.state.lock();
        if let Some(failed) = &state.failed {
            return Err(failed.clone());
        }
        state.pending.extend_from_slice(framed);
        state.appended += 1;
        Ok(state.appended)
    }

    /// Bytes handed in and not yet written.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.state.lock().pending.len()
    }

    /// Waits until the frame of a ticket is on disk. Whoever comes first writes and syncs what has gathered, for all.
    ///
    /// # Errors
    /// Writing or syncing failed: whether the frame is on disk is not known.
    pub fn wait(&self, ticket: u64) -> Result<(), LogFailed> {
        let mut state = self.state.lock();
        while state.durable < ticket {
            if let Some(failed) = &state.failed {
                return Err(failed.clone());
            }
            match state.file.take() {
                Some(file) => self.flush(&mut state, file),
                None => self.progress.wait(&mut state),
            }
        }
        Ok(())
    }

    /// Writes and syncs what is pending, without the lock.
    fn flush(&self, state: &mut MutexGuard<'_, LogState>, mut file: File) {
        let batch = std::mem::take(&mut state.pending);
        let upto = state.appended;
        let written = MutexGuard::unlocked(state, || file.write_all(&batch).and_then(|()| file.sync_data()));
        match written {
            Ok(()) => {
                state.durable = upto;
                state.bytes += batch.len() as u64;
                state.syncs += 1;
                if state.pending.capacity() == 0 && batch.capacity() <= PENDING_BYTES_KEPT_MAX {
                    state.pending = batch;
                    state.pending.clear();
                }
            }
            Err(error) => state.failed = Some(LogFailed(format!("writing the log failed: {error}"))),
        }
        state.file = Some(file);
        self.progress.notify_all();
    }

    /// Starts a new segment; returns its number. All frames handed in so far are on disk in older ones.
    ///
    /// # Errors
    /// Writing failed.
    pub fn rotate(&self) -> Result<u64, LogFailed> {
        let mut state = self.state.lock();
        loop {
            if let Some(failed) = &state.failed {
                return Err(failed.clone());
            }
            match state.file.take() {
                None => self.progress.wait(&mut state),
                Some(file) if state.durable < state.appended => self.flush(&mut state, file),
                Some(old) => {
                    let next = state.segment + 1;
                    let created = MutexGuard::unlocked(&mut state, || create_segment(&self.dir, next));
                    match created {
                        Ok(file) => {
                            state.file = Some(file);
                            state.segment = next;
                            state.bytes += HEADER_BYTES as u64;
                        }
                        Err(error) => {
                            state.file = Some(old);
                            state.failed = Some(LogFailed(format!("starting a log segment failed: {error}")));
                        }
                    }
                    self.progress.notify_all();
                    return state.failed.clone().map_or(Ok(next), Err);
                }
            }
        }
    }

    /// Removes the segments before `first`.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove_before(&self, first: u64) -> io::Result<()> {
        for segment in list_segments(&self.dir)?.into_iter().take_while(|segment| *segment < first) {
            let path = segment_path(&self.dir, segment);
            let bytes = std::fs::metadata(&path)?.len();
            std::fs::remove_file(&path)?;
            let mut state = self.state.lock();
            state.bytes = state.bytes.saturating_sub(bytes);
        }
        sync_dir(&self.dir)
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// How often the log was synced since it was opened.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }
}

#[cfg(test)]
impl Log {
    /// Lets every write from now on find the disk full.
    pub fn fail_from_now(&self) {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("a full device");
        self.state.lock().file = Some(full);
    }
}

/// A larger buffer is given back to the allocator after use.
const PENDING_BYTES_KEPT_MAX: usize = 4 << 20;

#[cfg(test)]
#[path = "wal_tests.rs"]
mod tests;
