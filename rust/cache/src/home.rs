//! The directory: who may use it, whether what is in it may be believed, and what stands in it.
//!
//! ```text
//! lock        held shared by every engine, exclusively while the first one looks around or the last one leaves
//! owners/NNN  held exclusively by one engine each: whoever can lock one of these knows that its engine is gone
//! upkeep      held by the engine that evicts and sweeps
//! state       for whom the directory was written, under which boot of the machine, whether it was closed
//! shared      see `crate::shared`
//! data.mdb    the index, see `crate::lmdb`; lock.mdb is its own
//! *.seg       rows, see `crate::segments`
//! columns/    what was made of them, for whoever makes it; it goes with them
//! ```
//!
//! A directory of the same boot is whole, because the kernel kept what the processes wrote. One of another boot may
//! have lost any part, unless the last engine closed it, so it is thrown away; so is one that somebody owes something.
//! The locks are the kernel's (`flock`), which gives them back however a process ends.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::entry::{self, Meta, Segment};
use crate::error::CacheError;
use crate::lmdb::{self, Env, Table};
use crate::record::VERSION;
use crate::segments::{Segments, SUFFIX};
use crate::shared::{Shared, OWNERS_MAX};

const STATE: &str = "state";
/// The directory of what is made of the rows.
pub const COLUMNS: &str = "columns";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const FORMAT: u32 = 3;
const CLOSED: &str = "closed";
const QUIET: &str = "quiet until ";
/// Another engine may be looking around; an engine of an earlier version holds the lock for as long as it lives.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

type Result<T> = std::result::Result<T, CacheError>;

/// Everything that the engines of one process share of one directory.
pub struct Store {
    pub directory: PathBuf,
    pub env: Env,
    pub shared: Shared,
    pub segments: Segments,
}

/// LMDB may be opened once a process, so engines on one directory share the opening.
fn stores() -> &'static Mutex<HashMap<PathBuf, Weak<Store>>> {
    static STORES: OnceLock<Mutex<HashMap<PathBuf, Weak<Store>>>> = OnceLock::new();
    STORES.get_or_init(Mutex::default)
}

/// Locks a file; false when somebody else holds a lock that excludes it.
fn lock(file: &File, kind: libc::c_int) -> io::Result<bool> {
    // SAFETY: the descriptor is open; the call takes no memory of ours.
    if unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock {
        return Ok(false);
    }
    Err(error)
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// One engine's place in a directory. The locks go with it.
pub struct Home {
    pub store: Arc<Store>,
    pub owner: u16,
    identity: String,
    lock: File,
    _slot: File,
    upkeep: File,
}

impl Home {
    /// Takes a place in the directory, which is made when it is missing.
    ///
    /// # Errors
    /// [`CacheError::Locked`] when the directory cannot be shared with those who have it.
    pub fn open(directory: &Path, identity: &str, now_ms: u64, unknown_write_ms: u64) -> Result<Self> {
        fs::create_dir_all(directory.join("owners"))?;
        let directory = directory.canonicalize()?;
        // Held throughout, so that no other engine of this process opens or closes the index meanwhile.
        let mut stores = stores().lock();
        let file = lock_file(&directory.join("lock"))?;
        for _ in 0..LOCK_ATTEMPTS {
            if lock(&file, libc::LOCK_EX)? {
                prepare(&directory, identity, now_ms, unknown_write_ms)?;
            }
            // Between the two locks another engine may have looked around as well, to the same end.
            if lock(&file, libc::LOCK_SH)? {
                // It is another upstream's, or it was told not to be trusted and those who have it are about to leave.
                if !is_for(&directory, identity) {
                    return Err(CacheError::Locked);
                }
                return Self::enter(&mut stores, &directory, identity, file);
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Err(CacheError::Locked)
    }

    fn enter(stores: &mut HashMap<PathBuf, Weak<Store>>, directory: &Path, identity: &str, lock: File) -> Result<Self> {
        stores.retain(|_, store| store.strong_count() > 0);
        let store = match stores.get(directory).and_then(Weak::upgrade) {
            Some(store) => store,
            None => {
                let store = Arc::new(Store {
                    env: Env::open(directory, false)?,
                    shared: Shared::open(directory)?,
                    segments: Segments::new(directory),
                    directory: directory.to_owned(),
                });
                stores.insert(directory.to_owned(), Arc::downgrade(&store));
                store
            }
        };
        let upkeep = lock_file(&directory.join("upkeep"))?;
        for owner in 0..OWNERS_MAX {
            let slot = lock_file(&owner_path(directory, owner))?;
            if self::lock(&slot, libc::LOCK_EX)? {
                let owner = u16::try_from(owner).map_err(io::Error::other)?;
                return Ok(Self { store, owner, identity: identity.to_owned(), lock, _slot: slot, upkeep });
            }
        }
        Err(CacheError::Locked)
    }

    /// Takes the upkeep of the directory; false when another engine has it. Kept until `end_upkeep`.
    pub fn begin_upkeep(&self) -> io::Result<bool> {
        lock(&self.upkeep, libc::LOCK_EX)
    }

    pub fn end_upkeep(&self) {
        // SAFETY: the descriptor is open; the call takes no memory of ours.
        unsafe { libc::flock(self.upkeep.as_raw_fd(), libc::LOCK_UN) };
    }

    /// Whether the engine that had a place is gone; if so, the answer holds until the file is dropped.
    pub fn is_gone(&self, owner: usize) -> io::Result<Option<File>> {
        if owner == usize::from(self.owner) {
            return Ok(None);
        }
        let slot = lock_file(&owner_path(&self.store.directory, owner))?;
        Ok(lock(&slot, libc::LOCK_EX)?.then_some(slot))
    }

    /// Whether the directory is still trusted: somebody who could not open it may have taken that back.
    pub fn is_trusted(&self) -> bool {
        match fs::read(self.store.directory.join(STATE)) {
            Ok(text) => String::from_utf8_lossy(&text).contains(&for_whom(&self.identity)),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Leaves the directory. The last engine to leave writes everything to the disk first, so that the directory is
    /// believed also after the machine's end; `is_whole` says that this engine knows no reason against it.
    pub fn leave(&self, is_whole: bool) -> Result<()> {
        if !lock(&self.lock, libc::LOCK_EX)? || !is_whole || self.store.shared.anyone_owes() {
            return Ok(());
        }
        self.store.env.sync()?;
        self.store.segments.sync()?;
        Ok(note(&self.store.directory, &self.identity, Condition::Closed, self.store.shared.quiet_until_ms())?)
    }
}

fn owner_path(directory: &Path, owner: usize) -> PathBuf {
    directory.join("owners").join(format!("{owner:03}"))
}

/// Whether those who have a directory keep the rows of this upstream.
fn is_for(directory: &Path, identity: &str) -> bool {
    fs::read(directory.join(STATE)).is_ok_and(|text| String::from_utf8_lossy(&text).contains(&for_whom(identity)))
}

/// What the `state` file says of what is beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    /// There is nothing: a new directory.
    Fresh,
    /// Everything that was written is there.
    Whole,
    /// Parts may be missing, or it is another upstream's: begin empty.
    Lost,
}

/// Makes the directory ready for its first engine. The caller holds the lock exclusively.
fn prepare(directory: &Path, identity: &str, now_ms: u64, unknown_write_ms: u64) -> Result<()> {
    let (mut trust, quiet_before_ms) = judge(directory, identity)?;
    if trust == Trust::Whole {
        let shared = Shared::open(directory)?;
        if shared.is_broken() || shared.anyone_owes() {
            trust = Trust::Lost;
        } else if let Err(error) = recount(directory, &shared) {
            if matches!(error, CacheError::Broken | CacheError::Corrupt) {
                trust = Trust::Lost;
            } else {
                return Err(error);
            }
        }
    }
    if trust != Trust::Whole {
        // Should the process die half-way through, the next one must not take an empty directory for a new one.
        if trust == Trust::Lost {
            note(directory, identity, Condition::Lost, 0)?;
        }
        wipe(directory)?;
        let shared = Shared::open(directory)?;
        recount(directory, &shared)?;
    }
    // Marks went with an index that is lost, so every id counts as marked for as long as they could have held; that
    // must outlive this process as they would have.
    let quiet_until_ms = if trust == Trust::Lost { now_ms + unknown_write_ms } else { quiet_before_ms };
    Shared::open(directory)?.set_quiet_until_ms(quiet_until_ms);
    Ok(note(directory, identity, Condition::Open, quiet_until_ms)?)
}

/// Reads what the index says of the segments, and sets what engines that are gone left in the shared file.
fn recount(directory: &Path, shared: &Shared) -> Result<()> {
    let env = Env::open(directory, true)?;
    let mut txn = env.write()?;
    let meta = txn.get(Table::Facts, entry::META)?.map_or(Ok(Meta::default()), Meta::decode)?;
    if meta.incarnation == 0 {
        let made = Meta { incarnation: random()?, epoch: 1, ..meta };
        txn.put(Table::Facts, entry::META, &made.encode())?;
    }
    let (mut bytes, mut live) = (0, std::collections::HashSet::new());
    txn.walk(Table::Facts, &[entry::SEGMENT], &[], |key, value| {
        live.insert(entry::number_of(key)?);
        bytes += Segment::decode(value)?.bytes;
        Ok(true)
    })?;
    txn.commit()?;
    shared.set_segment_bytes(bytes);
    shared.reset_fences();
    let segments = Segments::new(directory);
    for id in segments.on_disk()? {
        if !live.contains(&id) {
            segments.remove(id)?;
        }
    }
    Ok(())
}

fn random() -> io::Result<u32> {
    let mut bytes = [0_u8; 4];
    // SAFETY: the buffer has room for the bytes asked for.
    if unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } != 4 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::from_le_bytes(bytes) | 1)
}

/// Removes everything but the locks.
fn wipe(directory: &Path) -> io::Result<()> {
    for item in fs::read_dir(directory)? {
        let path = item?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|suffix| suffix == SUFFIX) || [lmdb::FILE, "lock.mdb", "shared"].contains(&name)
        {
            fs::remove_file(&path)?;
        }
    }
    match fs::remove_dir_all(directory.join(COLUMNS)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Judges a directory for the upstream called `identity`; with the time until which nothing may be filled, if an
/// earlier start said so.
fn judge(directory: &Path, identity: &str) -> io::Result<(Trust, u64)> {
    let text = match fs::read(directory.join(STATE)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let used = |entry: io::Result<fs::DirEntry>| {
                entry.is_ok_and(|entry| {
                    entry.path().extension().is_some_and(|suffix| suffix == SUFFIX || suffix == "mdb")
                })
            };
            let is_used = fs::read_dir(directory)?.any(used);
            return Ok((if is_used { Trust::Lost } else { Trust::Fresh }, 0));
        }
        Err(error) => return Err(error),
    };
    let quiet_until_ms = text.lines().find_map(|line| line.strip_prefix(QUIET)?.parse().ok()).unwrap_or(0);
    let is = |condition: &str| text == state_text(identity, condition, quiet_until_ms);
    let trusted = is(CLOSED) || boot_id().is_some_and(|boot| is(&boot));
    Ok((if trusted { Trust::Whole } else { Trust::Lost }, quiet_until_ms))
}

fn for_whom(identity: &str) -> String {
    format!("format {FORMAT} record {VERSION}\nupstream {identity}\n")
}

fn state_text(identity: &str, condition: &str, quiet_until_ms: u64) -> String {
    format!("{}{condition}\n{QUIET}{quiet_until_ms}\n", for_whom(identity))
}

fn boot_id() -> Option<String> {
    fs::read_to_string(BOOT_ID).ok().map(|text| format!("boot {}", text.trim()))
}

/// What to note of the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Condition {
    /// It is being written to.
    Open,
    /// It is whole and on the disk.
    Closed,
    /// It is about to be thrown away; a start that finds this does so.
    Lost,
}

/// Notes the directory's condition durably.
fn note(directory: &Path, identity: &str, condition: Condition, quiet_until_ms: u64) -> io::Result<()> {
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

/// Takes back the trust in a directory: whoever opens it first the next time throws it away.
pub fn distrust(directory: &Path) -> io::Result<()> {
    let path = directory.join(STATE);
    match fs::remove_file(&path) {
        // A directory that may not be written to can hold a file that may be: one that says nothing is not trusted.
        Err(error) if error.kind() != io::ErrorKind::NotFound => File::create(path).map(drop),
        _ => Ok(()),
    }
}
