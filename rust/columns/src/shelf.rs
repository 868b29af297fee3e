//! The segments that one process has open, each with what changed since.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hevlayer_cache::{Engine, Facts};
use hevlayer_filter::columns::segment::Segment;
use hevlayer_filter::columns::table::Table;
use parking_lot::Mutex;

use crate::error::ColumnsError;
use crate::files::{remove, FileFacts, Files};

/// Changed ids that are read at one time; with more, the segment is too old to be of use.
pub const CHANGES_MAX: usize = 100_000;
/// With so many changed ids or fewer they are read in place.
const FEW_CHANGES: usize = 32;
/// Memory that the changes of one namespace may take.
pub const CHANGED_BYTES_MAX: usize = 128 << 20;
/// A file's time of use is noted this often.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, ColumnsError>;

/// The columns of a namespace as of one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub table: Table,
    /// What was held of the namespace at that moment.
    pub facts: Facts,
}

/// A segment that is open.
struct Held {
    path: PathBuf,
    table: Table,
    number: u32,
    epoch: u64,
    oldest_filled_ms: u64,
    use_noted: Option<SystemTime>,
}

type Slot = Arc<Mutex<Option<Held>>>;

/// How much is read beside a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Rows that are read as they are stored.
    pub changed_rows: usize,
    /// Rows of the segment that do not stand any more.
    pub superseded_rows: usize,
    /// Bytes of memory.
    pub bytes: usize,
}

/// What a process has open of a directory of columns.
pub struct Shelf {
    pub(crate) files: Files,
    slots: Mutex<HashMap<Box<str>, Slot>>,
}

impl Shelf {
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { files: Files::new(directory), slots: Mutex::default() }
    }

    fn slot(&self, namespace: &str) -> Slot {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(namespace) {
            return Arc::clone(slot);
        }
        let slot = Slot::default();
        slots.insert(namespace.into(), Arc::clone(&slot));
        slot
    }

    /// The columns of a namespace as it is now; None when there are none, or none that can be brought up to date.
    ///
    /// They show the rows that a scan of this moment would, rows with an open write as they were before it, and no row
    /// of them is older than `ttl_ms`. Whether those are all rows of the namespace the facts tell.
    ///
    /// # Errors
    /// Of the index, or of the directory.
    pub fn now(&self, engine: &Engine, namespace: &str, now_ms: u64) -> Result<Option<Snapshot>> {
        let latest = self.files.latest(namespace)?;
        let Some(latest) = latest else {
            self.slots.lock().remove(namespace);
            return Ok(None);
        };
        let slot = self.slot(namespace);
        let mut held = slot.lock();
        if held.as_ref().is_none_or(|held| held.path != latest.path) {
            // Another one may have been put in its place, and this one removed, since the directory was listed.
            *held = open(&latest)?;
        }
        let Some(current) = held.as_mut() else { return Ok(None) };
        // What somebody owes may have been acknowledged before this began. Looked at first: a debt that is repaid while this
        // catches up might have been repaid after the moment that the columns show.
        if engine.is_owed(namespace) {
            return Ok(None);
        }
        let facts = match catch_up(engine, namespace, current, now_ms, CHANGES_MAX) {
            Ok(Some(facts)) => facts,
            failed => {
                *held = None;
                if matches!(failed, Ok(None)) {
                    // Nobody can bring it up to date any more, or not soon enough.
                    remove(&latest.path)?;
                }
                return failed.map(|_| None);
            }
        };
        note_use(current);
        Ok(Some(Snapshot { table: current.table.clone(), facts }))
    }

    /// As [`Shelf::now`], when that waits for nobody: the segment is open and little has changed. None says nothing.
    #[must_use]
    pub fn at_once(&self, engine: &Engine, namespace: &str, now_ms: u64) -> Option<Snapshot> {
        let latest = self.files.latest(namespace).ok()??;
        let slot = self.slots.try_lock()?.get(namespace).map(Arc::clone)?;
        let mut held = slot.try_lock()?;
        let current = held.as_mut().filter(|held| held.path == latest.path)?;
        if engine.is_owed(namespace) {
            return None;
        }
        let facts = catch_up(engine, namespace, current, now_ms, FEW_CHANGES).ok()??;
        note_use(current);
        Some(Snapshot { table: current.table.clone(), facts })
    }

    /// How much is read beside the segment of a namespace that is open in this process.
    #[must_use]
    pub fn overlay(&self, namespace: &str) -> Option<Overlay> {
        let slot = self.slots.lock().get(namespace).map(Arc::clone)?;
        let held = slot.lock();
        let table = &held.as_ref()?.table;
        Some(Overlay {
            changed_rows: table.changed_rows(),
            superseded_rows: table.superseded_rows(),
            bytes: table.changed_bytes(),
        })
    }

    /// The segments of all processes.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Arc<Vec<FileFacts>>> {
        Ok(self.files.list()?)
    }

    /// Removes the columns of a namespace; nothing of it is noted any more.
    ///
    /// # Errors
    /// Of the index, or of the directory.
    pub fn remove(&self, engine: &Engine, namespace: &str) -> Result<()> {
        self.files.remove(namespace, None)?;
        self.slots.lock().remove(namespace);
        Ok(engine.end_feed(namespace)?)
    }

    /// Removes segments of earlier epochs, those that a later one replaces or whose changes are not noted any more, and
    /// what builders that died have left.
    ///
    /// # Errors
    /// Of the index, or of the directory.
    pub fn tidy(&self, engine: &Engine) -> Result<()> {
        let files = self.files.list()?;
        if !self.files.directory.exists() {
            return Ok(());
        }
        // Whoever builds has just put a file in its place, or is about to.
        let Some(lock) = self.files.lock()? else { return Ok(()) };
        self.files.remove_unfinished(&lock)?;
        for facts in files.iter() {
            let name = facts.origin.namespace.as_str();
            let is_replaced =
                files.iter().any(|other| other.origin.namespace == name && other.sequence > facts.sequence);
            let is_of_use =
                engine.facts(name)?.epoch == facts.origin.epoch && engine.notes_since(name, facts.sequence)?;
            if is_replaced || !is_of_use {
                remove(&facts.path)?;
            }
        }
        let mut slots = self.slots.lock();
        slots.retain(|name, _| files.iter().any(|facts| *facts.origin.namespace == **name));
        Ok(())
    }
}

fn open(file: &FileFacts) -> Result<Option<Held>> {
    let segment = match Segment::open(&file.path) {
        Ok(segment) => segment,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            // Damaged: nobody can use it.
            remove(&file.path)?;
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let origin = segment.directory.origin.clone();
    Ok(Some(Held {
        path: file.path.clone(),
        table: Table::new(Arc::new(segment)),
        number: origin.number,
        epoch: origin.epoch,
        oldest_filled_ms: origin.oldest_filled_ms,
        use_noted: None,
    }))
}

/// Takes what changed since; None when that is not known any more, or too much.
fn catch_up(
    engine: &Engine,
    namespace: &str,
    held: &mut Held,
    now_ms: u64,
    changes_max: usize,
) -> Result<Option<Facts>> {
    let Some(changes) = engine.changes_since(namespace, held.table.sequence, changes_max)? else { return Ok(None) };
    if changes.number != held.number || changes.facts.epoch != held.epoch {
        return Ok(None);
    }
    held.oldest_filled_ms = held.oldest_filled_ms.min(changes.oldest_filled_ms);
    if now_ms.saturating_sub(held.oldest_filled_ms) >= engine.ttl_ms() {
        return Ok(None);
    }
    for row in &changes.rows {
        held.table.change(&row.key, row.head.as_deref());
    }
    held.table.sequence = changes.sequence;
    if held.table.changed_bytes() > CHANGED_BYTES_MAX {
        return Ok(None);
    }
    Ok(Some(changes.facts))
}

fn note_use(held: &mut Held) {
    let now = SystemTime::now();
    let is_due =
        held.use_noted.is_none_or(|noted| now.duration_since(noted).is_ok_and(|since| since > USE_NOTED_EVERY));
    if is_due {
        held.use_noted = Some(now);
        // Without it the segment only seems to be used less than it is.
        let _ = File::options().append(true).open(&held.path).and_then(|file| file.set_modified(now));
    }
}
