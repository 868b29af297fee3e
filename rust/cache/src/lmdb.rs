//! A narrow, safe door to LMDB: one environment, two tables, read snapshots that are kept for reuse, one writer.
//!
//! LMDB is the index because it is shared between processes, because a reader takes no lock, and because a writer that
//! is killed leaves the last committed state and a mutex that the next writer recovers. Nothing is synced while running:
//! what a process committed is in the page cache, and a machine that crashed is not believed (see [`crate::home`]).

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use lmdb_master_sys as ffi;
use parking_lot::Mutex;

use crate::error::CacheError;

/// Address space for the index; the file takes what is used. At about 100 bytes a row, room for 160 million rows.
const MAP_BYTES: usize = 16 << 30;
/// Snapshots that may be open at one time, over all processes.
const READERS_MAX: u32 = 2048;
/// Snapshots that one process keeps for reuse.
const READERS_KEPT_MAX: usize = 16;
/// The longest key.
pub const KEY_BYTES_MAX: usize = 511;
/// The name that LMDB gives the index.
pub const FILE: &str = "data.mdb";
const FILE_MODE: ffi::mdb_mode_t = 0o600;

type Result<T> = std::result::Result<T, CacheError>;

/// The two tables of the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// What is known of each id.
    Ids,
    /// Namespaces, open writes, segments, owners.
    Facts,
}

fn check(code: libc::c_int) -> Result<()> {
    match code {
        ffi::MDB_SUCCESS => Ok(()),
        ffi::MDB_MAP_FULL | ffi::MDB_TXN_FULL => Err(io::Error::from(io::ErrorKind::StorageFull).into()),
        ffi::MDB_READERS_FULL => Err(io::Error::from(io::ErrorKind::WouldBlock).into()),
        ffi::MDB_BAD_VALSIZE => Err(CacheError::Shape("a key over the limit of the index")),
        code if code > 0 => Err(io::Error::from_raw_os_error(code).into()),
        _ => Err(CacheError::Broken),
    }
}

struct Handle(*mut ffi::MDB_txn);

// SAFETY: the environment is opened with MDB_NOTLS, so a read transaction may move between threads; one user at a time.
unsafe impl Send for Handle {}

/// The open index.
pub struct Env {
    env: *mut ffi::MDB_env,
    ids: ffi::MDB_dbi,
    facts: ffi::MDB_dbi,
    kept: Mutex<Vec<Handle>>,
}

// SAFETY: LMDB environments are made for use from many threads; the handles are never changed after the opening.
unsafe impl Send for Env {}
// SAFETY: as above.
unsafe impl Sync for Env {}

impl Env {
    /// Opens or makes the index in `directory`. A process may have one directory open once at a time.
    ///
    /// # Errors
    /// [`CacheError::Broken`] when `is_alone` and the file is shorter than its own account of itself: to read past its
    /// end would end the process. While others write, its length and its account need not agree.
    pub fn open(directory: &Path, is_alone: bool) -> Result<Self> {
        let path = CString::new(directory.as_os_str().as_bytes()).map_err(io::Error::other)?;
        let mut env = ptr::null_mut();
        // SAFETY: `env` receives a new environment.
        check(unsafe { ffi::mdb_env_create(&raw mut env) })?;
        let mut opened = Self { env, ids: 0, facts: 0, kept: Mutex::new(Vec::new()) };
        let flags = ffi::MDB_NOSYNC | ffi::MDB_NOMETASYNC | ffi::MDB_NOTLS;
        // SAFETY: `env` is new and not shared; `path` is a C string. A failure leaves it to be closed, which drop does.
        unsafe {
            check(ffi::mdb_env_set_mapsize(env, MAP_BYTES))?;
            check(ffi::mdb_env_set_maxdbs(env, 2))?;
            check(ffi::mdb_env_set_maxreaders(env, READERS_MAX))?;
            check(ffi::mdb_env_open(env, path.as_ptr(), flags, FILE_MODE))?;
        }
        if is_alone && std::fs::metadata(directory.join(FILE))?.len() < opened.bytes() {
            return Err(CacheError::Broken);
        }
        opened.clear_stale_readers();
        let mut txn = opened.write()?;
        let (ids, facts) = (txn.table(c"ids")?, txn.table(c"facts")?);
        txn.changed = true;
        txn.commit()?;
        (opened.ids, opened.facts) = (ids, facts);
        Ok(opened)
    }

    fn dbi(&self, table: Table) -> ffi::MDB_dbi {
        match table {
            Table::Ids => self.ids,
            Table::Facts => self.facts,
        }
    }

    /// A snapshot of what was committed when it began.
    pub fn read(&self) -> Result<Read<'_>> {
        if let Some(handle) = self.kept.lock().pop() {
            // SAFETY: the handle is a read transaction of this environment that was reset.
            let code = unsafe { ffi::mdb_txn_renew(handle.0) };
            if code == ffi::MDB_SUCCESS {
                return Ok(Read { txn: Txn { env: self, txn: handle.0 } });
            }
            // SAFETY: a transaction that could not be renewed is still to be freed, once.
            unsafe { ffi::mdb_txn_abort(handle.0) };
        }
        let mut txn = ptr::null_mut();
        // SAFETY: the environment is open; `txn` receives a new transaction.
        check(unsafe { ffi::mdb_txn_begin(self.env, ptr::null_mut(), ffi::MDB_RDONLY, &raw mut txn) })?;
        Ok(Read { txn: Txn { env: self, txn } })
    }

    /// The one writer over all processes; waits until the one before it is done.
    pub fn write(&self) -> Result<Write<'_>> {
        let mut txn = ptr::null_mut();
        // SAFETY: the environment is open; `txn` receives a new transaction, which never leaves this thread.
        check(unsafe { ffi::mdb_txn_begin(self.env, ptr::null_mut(), 0, &raw mut txn) })?;
        Ok(Write { txn: Txn { env: self, txn }, ids: None, changed: false, on_one_thread: PhantomData })
    }

    /// Writes all that was committed to the disk.
    pub fn sync(&self) -> Result<()> {
        // SAFETY: the environment is open.
        check(unsafe { ffi::mdb_env_sync(self.env, 1) })
    }

    /// Forgets the snapshots of processes that died; they would keep old pages from being used again.
    pub fn clear_stale_readers(&self) {
        let mut dead = 0;
        // SAFETY: the environment is open; `dead` receives a count.
        unsafe { ffi::mdb_reader_check(self.env, &raw mut dead) };
    }

    /// Bytes of the index on disk.
    pub fn bytes(&self) -> u64 {
        // SAFETY: both structures are plain numbers, for which zero is a value.
        let (mut info, mut stat): (ffi::MDB_envinfo, ffi::MDB_stat) = unsafe { std::mem::zeroed() };
        // SAFETY: the environment is open and fills in the structures.
        unsafe {
            ffi::mdb_env_info(self.env, &raw mut info);
            ffi::mdb_env_stat(self.env, &raw mut stat);
        }
        (info.me_last_pgno as u64 + 1) * u64::from(stat.ms_psize)
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        for handle in self.kept.get_mut().drain(..) {
            // SAFETY: a reset read transaction of this environment, freed once.
            unsafe { ffi::mdb_txn_abort(handle.0) };
        }
        // SAFETY: no transaction is left, since each borrows the environment.
        unsafe { ffi::mdb_env_close(self.env) };
    }
}

/// What a snapshot and the writer have in common.
pub struct Txn<'e> {
    env: &'e Env,
    txn: *mut ffi::MDB_txn,
}

fn value(bytes: &[u8]) -> ffi::MDB_val {
    ffi::MDB_val { mv_size: bytes.len(), mv_data: bytes.as_ptr().cast_mut().cast() }
}

impl Txn<'_> {
    /// The number of the transaction: of a snapshot the last one that it sees, of the writer its own.
    pub fn id(&self) -> u64 {
        // SAFETY: the transaction is open.
        (unsafe { ffi::mdb_txn_id(self.txn) }) as u64
    }

    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>> {
        let (mut key, mut found) = (value(key), value(&[]));
        // SAFETY: the transaction and the table are open; the value stays valid until the transaction ends or, in a
        // writer, until it writes, which the borrow of `self` excludes.
        let code = unsafe { ffi::mdb_get(self.txn, self.env.dbi(table), &raw mut key, &raw mut found) };
        if code == ffi::MDB_NOTFOUND {
            return Ok(None);
        }
        check(code)?;
        // SAFETY: as above; LMDB gives a pointer to `mv_size` bytes.
        Ok(Some(unsafe { std::slice::from_raw_parts(found.mv_data.cast::<u8>(), found.mv_size) }))
    }

    /// Calls `visit` for each entry from `start` on whose key begins with `prefix`, until it gives false.
    pub fn walk(
        &self,
        table: Table,
        prefix: &[u8],
        start: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut cursor = ptr::null_mut();
        // SAFETY: the transaction and the table are open; the cursor is closed below, before the transaction ends.
        check(unsafe { ffi::mdb_cursor_open(self.txn, self.env.dbi(table), &raw mut cursor) })?;
        let cursor = Cursor(cursor);
        let first = if start.is_empty() { prefix } else { start };
        let mut operation = if first.is_empty() { ffi::MDB_FIRST } else { ffi::MDB_SET_RANGE };
        let (mut key, mut found) = (value(first), value(&[]));
        loop {
            // SAFETY: the cursor is open; key and value receive pointers that are valid until the next write.
            let code = unsafe { ffi::mdb_cursor_get(cursor.0, &raw mut key, &raw mut found, operation) };
            if code == ffi::MDB_NOTFOUND {
                return Ok(());
            }
            check(code)?;
            // SAFETY: LMDB gives pointers to that many bytes.
            let (at, entry) = unsafe {
                (
                    std::slice::from_raw_parts(key.mv_data.cast::<u8>(), key.mv_size),
                    std::slice::from_raw_parts(found.mv_data.cast::<u8>(), found.mv_size),
                )
            };
            if !at.starts_with(prefix) || !visit(at, entry)? {
                return Ok(());
            }
            operation = ffi::MDB_NEXT;
        }
    }
}

struct Cursor(*mut ffi::MDB_cursor);

impl Drop for Cursor {
    fn drop(&mut self) {
        // SAFETY: opened in a transaction that is still open, and closed once.
        unsafe { ffi::mdb_cursor_close(self.0) };
    }
}

/// A snapshot.
pub struct Read<'e> {
    txn: Txn<'e>,
}

impl<'e> Deref for Read<'e> {
    type Target = Txn<'e>;

    fn deref(&self) -> &Txn<'e> {
        &self.txn
    }
}

impl Drop for Read<'_> {
    fn drop(&mut self) {
        let mut kept = self.txn.env.kept.lock();
        if kept.len() < READERS_KEPT_MAX {
            // SAFETY: an open read transaction; after the reset nothing borrowed from it is left.
            unsafe { ffi::mdb_txn_reset(self.txn.txn) };
            kept.push(Handle(self.txn.txn));
        } else {
            drop(kept);
            // SAFETY: an open read transaction, freed once.
            unsafe { ffi::mdb_txn_abort(self.txn.txn) };
        }
    }
}

/// The writer's transaction. Dropped without a commit it changes nothing.
pub struct Write<'e> {
    txn: Txn<'e>,
    /// Stays where the last id was, so that ids in ascending order are found and put without a way down from the root.
    ids: Option<Cursor>,
    changed: bool,
    /// The writer's mutex belongs to its thread.
    on_one_thread: PhantomData<*mut ()>,
}

impl<'e> Deref for Write<'e> {
    type Target = Txn<'e>;

    fn deref(&self) -> &Txn<'e> {
        &self.txn
    }
}

impl Write<'_> {
    fn table(&mut self, name: &std::ffi::CStr) -> Result<ffi::MDB_dbi> {
        let mut table = 0;
        // SAFETY: the transaction is open; `name` is a C string.
        check(unsafe { ffi::mdb_dbi_open(self.txn.txn, name.as_ptr(), ffi::MDB_CREATE, &raw mut table) })?;
        Ok(table)
    }

    fn ids(&mut self) -> Result<*mut ffi::MDB_cursor> {
        if let Some(cursor) = &self.ids {
            return Ok(cursor.0);
        }
        let mut cursor = ptr::null_mut();
        // SAFETY: the transaction and the table are open; the cursor is closed before the transaction ends, and LMDB
        // moves it along with what else the transaction writes.
        check(unsafe { ffi::mdb_cursor_open(self.txn.txn, self.txn.env.ids, &raw mut cursor) })?;
        self.ids = Some(Cursor(cursor));
        Ok(cursor)
    }

    /// As `get` of the ids, quick after the id before.
    pub fn find_id(&mut self, key: &[u8]) -> Result<Option<&[u8]>> {
        let cursor = self.ids()?;
        let (mut key, mut found) = (value(key), value(&[]));
        // SAFETY: the cursor is open; the value stays valid until the transaction writes, which the borrow excludes.
        let code = unsafe { ffi::mdb_cursor_get(cursor, &raw mut key, &raw mut found, ffi::MDB_SET) };
        if code == ffi::MDB_NOTFOUND {
            return Ok(None);
        }
        check(code)?;
        // SAFETY: as above; LMDB gives a pointer to `mv_size` bytes.
        Ok(Some(unsafe { std::slice::from_raw_parts(found.mv_data.cast::<u8>(), found.mv_size) }))
    }

    /// As `put` of an id, quick after the id before.
    pub fn put_id(&mut self, key: &[u8], entry: &[u8]) -> Result<()> {
        let cursor = self.ids()?;
        let (mut key, mut entry) = (value(key), value(entry));
        self.changed = true;
        // SAFETY: the cursor is open; LMDB copies both.
        check(unsafe { ffi::mdb_cursor_put(cursor, &raw mut key, &raw mut entry, 0) })
    }

    pub fn put(&mut self, table: Table, key: &[u8], entry: &[u8]) -> Result<()> {
        let (mut key, mut entry) = (value(key), value(entry));
        self.changed = true;
        // SAFETY: the transaction and the table are open; LMDB copies both.
        check(unsafe { ffi::mdb_put(self.txn.txn, self.txn.env.dbi(table), &raw mut key, &raw mut entry, 0) })
    }

    /// False when there was nothing.
    pub fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool> {
        let mut key = value(key);
        // SAFETY: the transaction and the table are open; without duplicates the value is not looked at.
        let code = unsafe { ffi::mdb_del(self.txn.txn, self.txn.env.dbi(table), &raw mut key, ptr::null_mut()) };
        if code == ffi::MDB_NOTFOUND {
            return Ok(false);
        }
        self.changed = true;
        check(code).map(|()| true)
    }

    pub fn commit(mut self) -> Result<()> {
        self.ids = None;
        if !self.changed {
            return Ok(());
        }
        let txn = self.txn.txn;
        std::mem::forget(self);
        // SAFETY: an open transaction of this thread; the commit frees it whatever comes of it.
        check(unsafe { ffi::mdb_txn_commit(txn) })
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.ids = None;
        // SAFETY: an open transaction that was not committed, freed once.
        unsafe { ffi::mdb_txn_abort(self.txn.txn) };
    }
}
