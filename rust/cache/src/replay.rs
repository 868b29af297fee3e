//! What a start finds: whether the log may be trusted, and the state it describes.
//!
//! The file `state` says for whom the log was written, under which boot of the machine, and whether it was closed. An
//! open log of the same boot is whole, because the kernel kept what the process wrote; an open log of another boot may
//! have lost any part, so it is thrown away. Without the file nothing is trusted.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::CacheError;
use crate::log::{Header, Kind, Log, Place, Segment, HEADER};
use crate::record::VERSION;
use crate::table::{Key, Outcome, Slot, Table, Write};

const STATE: &str = "state";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const FORMAT: u32 = 1;
const CLOSED: &str = "closed";
const QUIET: &str = "quiet until ";
/// Frames are read through a buffer of this size.
const READ_BYTES: usize = 1 << 20;

/// What the `state` file says of the log beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// There is nothing: a new directory.
    Fresh,
    /// Every frame that was written is there.
    Whole,
    /// Frames may be missing, or it is another upstream's: start empty.
    Lost,
}

/// Judges the log in `directory` for the upstream called `identity`; with the time until which nothing may be filled,
/// if an earlier start said so.
pub fn judge(directory: &Path, identity: &str) -> io::Result<(Trust, u64)> {
    let text = match fs::read(directory.join(STATE)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let used = fs::read_dir(directory)?
                .any(|entry| entry.is_ok_and(|entry| entry.path().extension().is_some_and(|suffix| suffix == "seg")));
            return Ok((if used { Trust::Lost } else { Trust::Fresh }, 0));
        }
        Err(error) => return Err(error),
    };
    let quiet_until_ms = text.lines().find_map(|line| line.strip_prefix(QUIET)?.parse().ok()).unwrap_or(0);
    let is = |condition: &str| text == state_text(identity, condition, quiet_until_ms);
    let trusted = is(CLOSED) || boot_id().is_some_and(|boot| is(&boot));
    Ok((if trusted { Trust::Whole } else { Trust::Lost }, quiet_until_ms))
}

fn state_text(identity: &str, condition: &str, quiet_until_ms: u64) -> String {
    format!("format {FORMAT} record {VERSION}\nupstream {identity}\n{condition}\n{QUIET}{quiet_until_ms}\n")
}

fn boot_id() -> Option<String> {
    fs::read_to_string(BOOT_ID).ok().map(|text| format!("boot {}", text.trim()))
}

/// What to note of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// It is being written to.
    Open,
    /// It is whole and on the disk.
    Closed,
    /// It is about to be thrown away; a start that finds this does so.
    Lost,
}

/// Notes the log's condition durably.
pub fn note(directory: &Path, identity: &str, condition: Condition, quiet_until_ms: u64) -> io::Result<()> {
    let condition = match condition {
        Condition::Open => boot_id().unwrap_or_else(|| "open".to_owned()),
        Condition::Closed => CLOSED.to_owned(),
        Condition::Lost => "lost".to_owned(),
    };
    let draft = directory.join("state.new");
    let mut file = File::create(&draft)?;
    file.write_all(state_text(identity, &condition, quiet_until_ms).as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, directory.join(STATE))?;
    File::open(directory)?.sync_all()
}

/// Takes back the trust in the log: the next start throws it away.
pub fn distrust(directory: &Path) -> io::Result<()> {
    let path = directory.join(STATE);
    match fs::remove_file(&path) {
        // A directory that may not be written to can hold a file that may be: one that says nothing is not trusted.
        Err(error) if error.kind() != io::ErrorKind::NotFound => File::create(path).map(drop),
        _ => Ok(()),
    }
}

/// The payload of a mark: the token, whether all of the namespace is meant, and the keys.
pub fn encode_mark(token: u64, keys: Option<&[Key]>) -> Vec<u8> {
    let mut out = token.to_le_bytes().to_vec();
    out.push(u8::from(keys.is_none()));
    for key in keys.unwrap_or_default() {
        // Keys are bounded by the engine well below 64 KiB.
        out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(key);
    }
    out
}

fn decode_mark(payload: &[u8]) -> Option<(u64, Option<Vec<Key>>)> {
    let token = u64::from_le_bytes(payload.get(..8)?.try_into().ok()?);
    if *payload.get(8)? != 0 {
        return Some((token, None));
    }
    let mut rest = &payload[9..];
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?));
        keys.push(rest.get(2..2 + length)?.into());
        rest = &rest[2 + length..];
    }
    Some((token, Some(keys)))
}

pub fn encode_settle(token: u64, outcome: Outcome) -> Vec<u8> {
    let mut out = token.to_le_bytes().to_vec();
    out.push(match outcome {
        Outcome::Applied => 0,
        Outcome::Refused => 1,
        Outcome::Unknown => 2,
    });
    out
}

fn decode_settle(payload: &[u8]) -> Option<(u64, Outcome)> {
    let outcome = match payload.get(8)? {
        0 => Outcome::Applied,
        1 => Outcome::Refused,
        2 => Outcome::Unknown,
        _ => return None,
    };
    Some((u64::from_le_bytes(payload.get(..8)?.try_into().ok()?), outcome))
}

/// Rebuilds the table from the log. False: frames are missing, marks perhaps among them, so no row may be believed.
pub fn replay(log: &Log, table: &mut Table) -> Result<bool, CacheError> {
    if !log.is_contiguous() {
        return Ok(false);
    }
    for segment in log.segments() {
        let whole = walk(segment, |offset, header, prefix| {
            let Ok(namespace) = std::str::from_utf8(header.namespace(prefix)) else {
                return;
            };
            apply(table, Place { segment: segment.id, offset }, header, namespace, prefix);
        })?;
        if !whole {
            return Ok(false);
        }
    }
    Ok(true)
}

fn apply(table: &mut Table, place: Place, header: &Header, namespace: &str, prefix: &[u8]) {
    match header.kind {
        Kind::Row => {
            let sizes = (u32::try_from(header.prefix_bytes()), u32::try_from(header.tail_bytes));
            if let (Ok(prefix_bytes), Ok(tail_bytes)) = sizes {
                let slot = Slot { place, prefix_bytes, tail_bytes, filled_ms: header.time_ms, referenced: false };
                table.put(namespace, header.key(prefix), slot);
            }
        }
        Kind::Mark => {
            if let Some((token, keys)) = decode_mark(header.head(prefix)) {
                let deadline_ms = header.time_ms;
                let write =
                    Write { namespace: namespace.into(), keys, deadline_ms, unknown: false, segment: place.segment };
                table.begin(token, write);
            }
        }
        Kind::Settle => {
            if let Some((token, outcome)) = decode_settle(header.head(prefix)) {
                let _ = table.settle(token, outcome, header.time_ms);
            }
        }
        Kind::Clear => drop(table.clear(namespace)),
    }
}

/// Calls `frame` with the offset, the header and all before the tail of each frame, in order. A frame that the file's
/// end cuts short was never finished; false: another one cannot be read, and what follows it was passed over.
pub fn walk(segment: &Segment, mut frame: impl FnMut(u32, &Header, &[u8])) -> Result<bool, CacheError> {
    let end = segment.bytes()?;
    let mut buffer: Vec<u8> = Vec::new();
    let mut start = 0_u64;
    let mut offset = 0_u64;
    // Makes bytes `offset..offset + length` lie in the buffer; false when the file is shorter.
    let mut load = |buffer: &mut Vec<u8>, offset: u64, length: usize| -> io::Result<Option<usize>> {
        if offset + length as u64 > end {
            return Ok(None);
        }
        if offset < start || offset + length as u64 > start + buffer.len() as u64 {
            let wanted = (length.max(READ_BYTES) as u64).min(end - offset);
            *buffer = segment.read(offset, usize::try_from(wanted).map_err(io::Error::other)?)?;
            start = offset;
        }
        Ok(Some(usize::try_from(offset - start).map_err(io::Error::other)?))
    };
    while let Some(at) = load(&mut buffer, offset, HEADER)? {
        let Some(header) = Header::read(&buffer[at..]) else {
            return Ok(false);
        };
        let Some(at) = load(&mut buffer, offset, header.prefix_bytes())? else {
            break;
        };
        if Header::verified(&buffer[at..]).is_err() {
            return Ok(false);
        }
        if offset + header.frame_bytes() as u64 > end {
            break;
        }
        let Ok(position) = u32::try_from(offset) else {
            return Ok(false);
        };
        frame(position, &header, &buffer[at..at + header.prefix_bytes()]);
        offset += header.frame_bytes() as u64;
    }
    Ok(true)
}
