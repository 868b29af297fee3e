//! The segments of a directory, by the names of their files.
//!
//! ```text
//! build                                                 locked by whoever builds
//! <hash of the namespace>-<epoch>-<sequence>.columns    a segment, whole
//! <the same>.building                                   one that is being written, or whose builder died
//! ```
//!
//! The file's time of change is when it was last of use, so that all processes agree on which is used least.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hevlayer_filter::columns::segment::{read_directory, Origin};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

const SUFFIX: &str = "columns";
const BUILDING: &str = "building";
const LOCK: &str = "build";
/// A listing that is made this soon after the directory changed may miss a change that comes within the same tick.
const SETTLED: Duration = Duration::from_millis(200);

/// One segment's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    pub path: PathBuf,
    pub origin: Origin,
    pub sequence: u64,
    pub rows: u64,
    pub bytes: u64,
    pub columns: Vec<String>,
}

impl FileFacts {
    /// When it was last of use.
    ///
    /// # Errors
    /// The file is gone.
    pub fn used(&self) -> io::Result<SystemTime> {
        fs::metadata(&self.path)?.modified()
    }
}

struct Listing {
    /// When the directory had changed last; None: look again.
    changed: Option<SystemTime>,
    files: Arc<Vec<FileFacts>>,
}

/// A directory of segments.
pub struct Files {
    pub directory: PathBuf,
    listing: Mutex<Listing>,
}

/// Held while columns are built; the kernel gives it back however the process ends.
pub struct BuildLock(#[allow(dead_code)] File);

impl Files {
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, listing: Mutex::new(Listing { changed: None, files: Arc::default() }) }
    }

    #[must_use]
    pub fn place(&self, namespace: &str, epoch: u64, sequence: u64) -> PathBuf {
        let name = format!("{:016x}-{epoch:016x}-{sequence:016x}.{SUFFIX}", xxh3_64(namespace.as_bytes()));
        self.directory.join(name)
    }

    /// The segments that are there. Those that cannot be read are left out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> io::Result<Arc<Vec<FileFacts>>> {
        let changed = match fs::metadata(&self.directory) {
            Ok(found) => found.modified()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(error),
        };
        let mut listing = self.listing.lock();
        if listing.changed == Some(changed) {
            return Ok(Arc::clone(&listing.files));
        }
        let known: HashMap<&Path, &FileFacts> =
            listing.files.iter().map(|facts| (facts.path.as_path(), facts)).collect();
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|suffix| suffix != SUFFIX) {
                continue;
            }
            match known.get(path.as_path()) {
                Some(facts) => files.push((*facts).clone()),
                None => files.extend(facts_of(path)),
            }
        }
        files.sort_by(|left, right| left.path.cmp(&right.path));
        listing.files = Arc::new(files);
        let is_settled = SystemTime::now().duration_since(changed).is_ok_and(|age| age > SETTLED);
        listing.changed = is_settled.then_some(changed);
        Ok(Arc::clone(&listing.files))
    }

    /// The latest segment of a namespace.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn latest(&self, namespace: &str) -> io::Result<Option<FileFacts>> {
        let files = self.list()?;
        let of = files.iter().filter(|facts| facts.origin.namespace == namespace);
        Ok(of.max_by_key(|facts| facts.sequence).cloned())
    }

    /// Takes the right to build; None when somebody has it.
    ///
    /// # Errors
    /// The directory cannot be made or written to.
    pub fn lock(&self) -> io::Result<Option<BuildLock>> {
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(LOCK);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // SAFETY: the descriptor is open; the call takes no memory of ours.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(Some(BuildLock(file)));
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        }
    }

    /// Removes what builders that died have left. The lock says that none is at work.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn remove_unfinished(&self, _lock: &BuildLock) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == BUILDING) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the segments of a namespace, but for one if it is given.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(&self, namespace: &str, but: Option<&Path>) -> io::Result<()> {
        let files = self.list()?;
        let of = files.iter().filter(|facts| facts.origin.namespace == namespace);
        of.filter(|facts| but != Some(facts.path.as_path())).try_for_each(|facts| remove(&facts.path))
    }
}

/// Removes a file; who has it mapped may read on.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn facts_of(path: PathBuf) -> Option<FileFacts> {
    let (directory, bytes) = read_directory(&path).ok()?;
    let columns = directory.columns.into_iter().map(|column| column.name).collect();
    Some(FileFacts {
        path,
        origin: directory.origin,
        sequence: directory.sequence,
        rows: directory.rows,
        bytes,
        columns,
    })
}
