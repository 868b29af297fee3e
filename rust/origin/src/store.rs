//! Checkpoints: one snapshot file per namespace, and the manifest that says which of them and which log segments make
//! up the data. The manifest is replaced as a whole, so that a crash leaves the old state or the new one.

use crate::apply::{Commit, Puts, State, VectorColumn};
use crate::store_codec::{CommitsWriter, Record};
use crate::value::{Id, Value};
use crate::wal::{frame, read_frames, sync_dir};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

const MANIFEST_VERSION: u32 = 1;
const MANIFEST: &str = "manifest.json";
const MANIFEST_DRAFT: &str = "manifest.draft";
const SNAPSHOT_MAGIC: [u8; 8] = *b"HEVSNP01";
/// Rows read under one lock, and rows per record, of a snapshot.
pub const SNAPSHOT_ROWS: usize = 2048;
/// Bytes of rows per record of a snapshot or a copy, roughly.
const RECORD_BYTES_SOFT_MAX: usize = 16 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    /// Older segments are not part of the data.
    pub first_segment: u64,
    pub next_incarnation: u64,
    pub snapshots: Vec<SnapshotRef>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotRef {
    pub namespace: String,
    pub incarnation: u64,
    /// The snapshot holds everything up to this sequence.
    pub seq: u64,
    pub bytes: u64,
}

impl SnapshotRef {
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("snapshot-{:016x}-{:016x}", self.incarnation, self.seq)
    }
}

impl Default for Manifest {
    fn default() -> Self {
        Self { version: MANIFEST_VERSION, first_segment: 1, next_incarnation: 1, snapshots: Vec::new() }
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl Manifest {
    /// Reads the manifest; a directory without one is empty.
    ///
    /// # Errors
    /// It cannot be read or is not of this version.
    pub fn load(dir: &Path) -> io::Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| invalid(format!("{}: {error}", path.display())))?;
        if manifest.version == MANIFEST_VERSION {
            Ok(manifest)
        } else {
            Err(invalid(format!("{}: version {} is not known", path.display(), manifest.version)))
        }
    }

    /// Replaces the manifest. The files that it names must be durable already.
    ///
    /// # Errors
    /// Writing failed; the old manifest stands, or the new one does.
    pub fn store(&self, dir: &Path) -> io::Result<()> {
        let draft = dir.join(MANIFEST_DRAFT);
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(&draft, dir.join(MANIFEST))?;
        sync_dir(dir)
    }

    /// Removes the snapshot files that the manifest does not name.
    ///
    /// # Errors
    /// The directory cannot be read or a file not removed.
    pub fn sweep(&self, dir: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with("snapshot-")) else { continue };
            if !self.snapshots.iter().any(|snapshot| snapshot.file_name() == name) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// The rows that a reader at `seq` sees from `start` on, about [`RECORD_BYTES_SOFT_MAX`] of them at most, and the slot
/// to go on from.
#[must_use]
pub fn rows_at(state: &State, seq: u64, start: usize) -> (Puts, usize) {
    let table = &state.table;
    let mut rows: Vec<(Id, Box<[Value]>)> = Vec::new();
    let mut vectors: Vec<VectorColumn> = table
        .schema
        .vectors()
        .map(|(ordinal, dims, _)| VectorColumn { ordinal, dims: dims as usize, components: Vec::new() })
        .collect();
    let mut bytes = 0;
    let mut slot = start;
    while slot < table.slots.len() && slot < start + SNAPSHOT_ROWS && bytes < RECORD_BYTES_SOFT_MAX {
        let version = &table.slots[slot];
        if version.born <= seq && seq < version.dead {
            rows.push((version.id.clone(), version.attrs.clone()));
            bytes += version.logical_bytes as usize;
            for column in &mut vectors {
                let number = u32::try_from(slot).unwrap_or(u32::MAX);
                column.components.extend_from_slice(table.vector(number, column.ordinal).unwrap_or_default());
            }
        }
        slot += 1;
    }
    (Puts { rows, vectors }, slot)
}

/// Writes what a reader at `seq` sees of a namespace, a part at a time: writers go on in between. Slots must not be
/// compacted meanwhile.
///
/// # Errors
/// Writing failed.
pub fn write_snapshot(
    dir: &Path,
    namespace: &str,
    incarnation: u64,
    seq: u64,
    state: &RwLock<State>,
) -> io::Result<SnapshotRef> {
    let mut snapshot = SnapshotRef { namespace: namespace.to_owned(), incarnation, seq, bytes: 0 };
    let file = File::create(dir.join(snapshot.file_name()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&SNAPSHOT_MAGIC)?;
    let mut put = |record: &[u8]| {
        snapshot.bytes += record.len() as u64;
        out.write_all(&frame(record))
    };
    // The schema may be newer than the rows: rows of older ones read the same under it.
    let meta = state.read().meta();
    let at_ms = meta.last_write_at_ms;
    let mut head = CommitsWriter::new(namespace, incarnation, true);
    head.push(&Commit { seq, at_ms, meta: Some(meta), ..Commit::default() });
    put(&head.finish())?;
    let (mut start, mut rows) = (0, 0);
    loop {
        let (puts, next) = {
            let state = state.read();
            if start >= state.table.slots.len() {
                break;
            }
            rows_at(&state, seq, start)
        };
        start = next;
        rows += puts.rows.len() as u64;
        let mut writer = CommitsWriter::new(namespace, incarnation, true);
        writer.push(&Commit { seq, at_ms, puts, ..Commit::default() });
        put(&writer.finish())?;
    }
    put(&Record::End { rows }.encode())?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(snapshot)
}

/// Reads a snapshot back.
///
/// # Errors
/// Reading failed, or the file is damaged or not whole.
pub fn load_snapshot(dir: &Path, snapshot: &SnapshotRef) -> io::Result<State> {
    let path = dir.join(snapshot.file_name());
    let damaged = |what: &str| invalid(format!("{}: {what}", path.display()));
    let mut reader = BufReader::with_capacity(1 << 20, File::open(&path)?);
    let mut magic = [0; SNAPSHOT_MAGIC.len()];
    reader.read_exact(&mut magic)?;
    if magic != SNAPSHOT_MAGIC {
        return Err(damaged("not a snapshot of this version"));
    }
    let mut state = State::default();
    let mut promised_rows = None;
    let mut times = None;
    read_frames(&mut reader, |bytes| {
        match Record::decode(bytes).map_err(|error| damaged(error.0))? {
            Record::Commits { commits, .. } => {
                for commit in commits {
                    if let Some(meta) = &commit.meta {
                        times = Some((meta.updated_at_ms, meta.last_write_at_ms));
                    }
                    state.apply(commit);
                }
            }
            Record::End { rows } => promised_rows = Some(rows),
            Record::Delete { .. } => return Err(damaged("a deletion in a snapshot")),
        }
        Ok(())
    })?;
    if promised_rows != Some(state.table.living_rows as u64) {
        return Err(damaged("the snapshot is not whole"));
    }
    if let Some((updated_at_ms, last_write_at_ms)) = times {
        state.table.updated_at_ms = updated_at_ms;
        state.table.last_write_at_ms = last_write_at_ms;
    }
    state.table.seq = snapshot.seq;
    state.lag = crate::apply::Lag::default();
    Ok(state)
}
