//! Opening a data directory: the manifest's snapshots, then the log after them.

use crate::apply::State;
use crate::engine::{Inner, Namespace, Options, Recovery};
use crate::namespaces::sort_key;
use crate::store::{load_snapshot, Manifest};
use crate::store_codec::Record;
use crate::wal::{list_segments, read_segment, segment_path, sync_dir, Log};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::Arc;

const LOCK_FILE: &str = "lock";

/// # Errors
/// As [`crate::engine::Engine::open`].
pub(crate) fn recover(dir: &Path, options: Options) -> io::Result<(Inner, Recovery)> {
    if !dir.is_dir() {
        std::fs::create_dir_all(dir)?;
        if let Some(parent) = dir.canonicalize()?.parent() {
            sync_dir(parent)?;
        }
    }
    let lock_file = lock(dir)?;
    let manifest = Manifest::load(dir)?;
    manifest.sweep(dir)?;

    let mut replay = Replay { next_incarnation: manifest.next_incarnation, ..Replay::default() };
    for snapshot in &manifest.snapshots {
        let state = load_snapshot(dir, snapshot)?;
        let entry = Entry { incarnation: snapshot.incarnation, state, is_partial: false };
        replay.entries.insert(snapshot.namespace.clone(), entry);
    }

    let (mut segments, mut torn_bytes, mut old_bytes, mut last) = (Vec::new(), 0, 0, None);
    for segment in list_segments(dir)? {
        if segment < manifest.first_segment {
            std::fs::remove_file(segment_path(dir, segment))?;
        } else {
            segments.push(segment);
        }
    }
    for (index, segment) in segments.iter().enumerate() {
        let read = read_segment(dir, *segment, |bytes| replay.record(bytes))?;
        replay.records += read.records;
        if index + 1 == segments.len() {
            torn_bytes = read.torn_bytes;
            last = Some((*segment, read));
        } else if read.torn_bytes > 0 {
            let path = segment_path(dir, *segment);
            return Err(damaged(format!("{} is damaged before the end of the log", path.display())));
        } else {
            old_bytes += read.good_bytes;
        }
    }
    replay.finish()?;
    let log = Log::open(dir, manifest.first_segment, last, old_bytes)?;
    sync_dir(dir)?;

    let mut recovery = Recovery { records_replayed: replay.records, torn_bytes, ..Recovery::default() };
    let mut namespaces = BTreeMap::new();
    for (name, entry) in replay.entries {
        recovery.namespaces += 1;
        recovery.rows += entry.state.table.living_rows;
        let namespace = Namespace::new(&name, entry.incarnation, entry.state);
        namespaces.insert(sort_key(&name), Arc::new(namespace));
    }
    let touched = namespaces.values().map(|namespace| (namespace.incarnation, Arc::clone(namespace))).collect();
    let inner = Inner {
        dir: dir.to_owned(),
        log,
        namespaces: RwLock::new(namespaces),
        next_incarnation: AtomicU64::new(replay.next_incarnation),
        index_lag_ms: AtomicI64::new(options.index_lag_ms),
        named_lags: Mutex::new(HashMap::new()),
        manifest: Mutex::new(manifest),
        touched: Mutex::new(touched),
        operations: Mutex::new(VecDeque::new()),
        _lock_file: lock_file,
        options,
    };
    Ok((inner, recovery))
}

fn lock(dir: &Path) -> io::Result<File> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let reason = format!("{} is locked: another process has the data directory open", path.display());
        io::Error::new(io::ErrorKind::AddrInUse, reason)
    })?;
    Ok(file)
}

fn damaged(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[derive(Default)]
struct Replay {
    entries: HashMap<String, Entry>,
    /// Namespaces that were deleted while a checkpoint ran, before their snapshot: the log has a piece of their writes
    /// and must have their deletion.
    orphans: HashSet<(String, u64)>,
    next_incarnation: u64,
    records: u64,
}

struct Entry {
    incarnation: u64,
    state: State,
    /// The last record belongs to a write of which more was to come.
    is_partial: bool,
}

impl Replay {
    fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        match Record::decode(bytes).map_err(|error| damaged(format!("a record of the log: {}", error.0)))? {
            Record::Delete { namespace, incarnation } => {
                self.orphans.remove(&(namespace.clone(), incarnation));
                if self.entries.get(&namespace).is_some_and(|entry| entry.incarnation == incarnation) {
                    self.entries.remove(&namespace);
                }
                self.next_incarnation = self.next_incarnation.max(incarnation + 1);
            }
            Record::Commits { namespace, incarnation, more, commits } => {
                self.next_incarnation = self.next_incarnation.max(incarnation + 1);
                let Some(entry) = self.entry(&namespace, incarnation) else { return Ok(()) };
                entry.is_partial = more;
                for commit in commits {
                    let head = entry.state.table.head;
                    if commit.seq <= head {
                        continue;
                    }
                    if commit.seq > head + 1 {
                        if head > 0 {
                            return Err(damaged(format!("the log lacks write {} to '{namespace}'", head + 1)));
                        }
                        self.entries.remove(&namespace);
                        self.orphans.insert((namespace, incarnation));
                        return Ok(());
                    }
                    entry.state.apply(commit);
                }
            }
            Record::End { .. } => return Err(damaged("the end of a snapshot in the log".to_owned())),
        }
        Ok(())
    }

    /// None when the log goes on about a namespace that is known to be gone.
    fn entry(&mut self, namespace: &str, incarnation: u64) -> Option<&mut Entry> {
        if self.orphans.contains(&(namespace.to_owned(), incarnation)) {
            return None;
        }
        let fresh = || Entry { incarnation, state: State::default(), is_partial: false };
        let entry = self.entries.entry(namespace.to_owned()).or_insert_with(fresh);
        if entry.incarnation < incarnation {
            *entry = fresh();
        }
        (entry.incarnation == incarnation).then_some(entry)
    }

    /// Forgets writes that never became whole, which were first writes, and makes the rest visible.
    fn finish(&mut self) -> io::Result<()> {
        if let Some((namespace, _)) = self.orphans.iter().next() {
            return Err(damaged(format!("the log lacks the first writes to '{namespace}'")));
        }
        self.entries.retain(|_, entry| !entry.is_partial && entry.state.table.head > 0);
        for entry in self.entries.values_mut() {
            entry.state.table.seq = entry.state.table.head;
        }
        Ok(())
    }
}
