//! The engine: all namespaces below one data directory, written by one process.
//!
//! A write is parsed without any lock, decided under its namespace's writer lock, put in the log, applied, and
//! acknowledged once the log is on disk; only then do readers see it. Readers take a namespace's read lock.

use crate::apply::{Commit, LagReport, State};
use crate::engine_maintain::Maintenance;
use crate::namespaces::sort_key;
use crate::reply::{ApiError, ApiResult, Reply};
use crate::store::Manifest;
use crate::store_codec::{CommitsWriter, Record};
use crate::view::{QueryOptions, View};
use crate::wal::{frame, Log, LogFailed};
use crate::write::WriteLimits;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::Arc;

/// Epoch milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

#[derive(Clone)]
pub struct Options {
    /// How long a write stays unindexed. Milliseconds.
    pub index_lag_ms: i64,
    pub query: QueryOptions,
    pub limits: WriteLimits,
    /// The log is folded into snapshots when it is larger than this, and larger than half of the snapshots. Bytes.
    pub checkpoint_bytes_min: u64,
    /// Slots of dead rows are reclaimed when there are more of them than this, and more than half as many as there are
    /// living rows.
    pub compact_slots_min: usize,
    /// Checkpoints and reclaims happen in the background; tests do them by hand.
    pub background: bool,
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            index_lag_ms: 0,
            query: QueryOptions::default(),
            limits: WriteLimits::default(),
            checkpoint_bytes_min: 64 << 20,
            compact_slots_min: 4096,
            background: true,
            clock: Arc::new(system_now_ms),
        }
    }
}

fn system_now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    pub namespaces: usize,
    pub rows: usize,
    pub records_replayed: u64,
    pub torn_bytes: u64,
}

/// A namespace. It exists for readers once a write to it is on disk.
pub struct Namespace {
    pub name: String,
    /// Tells apart namespaces that had the same name at different times.
    pub incarnation: u64,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) state: RwLock<State>,
    /// Overrides the engine's lag unless negative. Milliseconds.
    pub(crate) lag_ms: AtomicI64,
}

#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// The namespace is gone: whoever held on to it must look its name up again.
    pub deleted: bool,
    /// The log's ticket of the last write.
    pub ticket: u64,
}

/// `Namespace::lag_ms` that means: the engine's.
const LAG_INHERITED: i64 = -1;

impl Namespace {
    pub(crate) fn new(name: &str, incarnation: u64, state: State) -> Self {
        Self {
            name: name.to_owned(),
            incarnation,
            writer: Mutex::default(),
            state: RwLock::new(state),
            lag_ms: AtomicI64::new(LAG_INHERITED),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.state.read().table.seq > 0
    }
}

pub struct Engine {
    pub(crate) inner: Arc<Inner>,
    maintenance: Mutex<Option<Maintenance>>,
}

pub(crate) struct Inner {
    pub dir: PathBuf,
    pub options: Options,
    pub log: Log,
    pub namespaces: RwLock<BTreeMap<String, Arc<Namespace>>>,
    pub next_incarnation: AtomicU64,
    pub index_lag_ms: AtomicI64,
    /// Lags of namespaces that may not exist yet, by name.
    pub named_lags: Mutex<HashMap<String, i64>>,
    /// The manifest on disk. Held during a checkpoint.
    pub manifest: Mutex<Manifest>,
    /// Namespaces that were written to since maintenance last looked.
    pub touched: Mutex<HashMap<u64, Arc<Namespace>>>,
    pub operations: Mutex<VecDeque<Operation>>,
    /// Locked for as long as the engine is open.
    pub _lock_file: File,
}

/// An asynchronous operation that has finished.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub namespace: String,
    pub number: u64,
    pub token: String,
    pub report: serde_json::Value,
}

/// Namespaces that may be given a lag of their own.
const NAMED_LAGS_MAX: usize = 10_000;
/// How often a request looks a name up again whose namespace was deleted under it.
const LOOKUPS_MAX: usize = 100;

impl Engine {
    /// Opens a data directory, recovering what is in it.
    ///
    /// # Errors
    /// Another process has it open, it cannot be read or written, or its data are damaged other than at the end of the
    /// log.
    pub fn open(dir: &std::path::Path, options: Options) -> std::io::Result<(Self, Recovery)> {
        let (inner, recovery) = crate::engine_recover::recover(dir, options)?;
        let inner = Arc::new(inner);
        let maintenance = inner.options.background.then(|| Maintenance::start(&inner)).transpose()?;
        Ok((Self { inner, maintenance: Mutex::new(maintenance) }, recovery))
    }

    /// Stops the background work. Reads and writes are still answered.
    pub fn close(&self) {
        if let Some(maintenance) = self.maintenance.lock().take() {
            maintenance.stop();
        }
    }

    /// Sets how long writes stay unindexed: of one namespace, which need not exist, or of all without a lag of their
    /// own. Takes effect at once, also for writes that are waiting.
    pub fn set_index_lag(&self, namespace: Option<&str>, lag_ms: u64) {
        let lag_ms = i64::try_from(lag_ms).unwrap_or(i64::MAX);
        let Some(name) = namespace else {
            self.inner.index_lag_ms.store(lag_ms, Ordering::Relaxed);
            return;
        };
        let mut named = self.inner.named_lags.lock();
        if named.len() < NAMED_LAGS_MAX || named.contains_key(name) {
            named.insert(name.to_owned(), lag_ms);
        }
        if let Some(namespace) = self.inner.lookup(name) {
            namespace.lag_ms.store(lag_ms, Ordering::Relaxed);
        }
    }

    /// How often the log was synced.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.inner.log.syncs()
    }

    /// Folds the log into snapshots now.
    ///
    /// # Errors
    /// Writing failed; the log stands.
    pub fn checkpoint(&self) -> std::io::Result<()> {
        self.inner.checkpoint()
    }

    /// Reclaims the slots of dead rows now, however few.
    pub fn compact(&self) {
        let _no_checkpoint = self.inner.manifest.lock();
        let all: Vec<_> = self.inner.namespaces.read().values().cloned().collect();
        for namespace in all {
            self.inner.compact(&namespace, 0);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

impl From<LogFailed> for ApiError {
    fn from(failed: LogFailed) -> Self {
        Self::internal(failed.0)
    }
}

impl Inner {
    pub fn now_ms(&self) -> i64 {
        (self.options.clock)()
    }

    pub fn lookup(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.read().get(&sort_key(name)).cloned()
    }

    /// A namespace that readers can see.
    pub fn existing(&self, name: &str) -> ApiResult<Arc<Namespace>> {
        self.lookup(name).filter(|namespace| namespace.exists()).ok_or_else(|| ApiError::no_namespace(name))
    }

    pub fn lag_ms(&self, namespace: &Namespace) -> i64 {
        match namespace.lag_ms.load(Ordering::Relaxed) {
            LAG_INHERITED => self.index_lag_ms.load(Ordering::Relaxed),
            own => own,
        }
    }

    pub fn lag_report(&self, namespace: &Namespace, state: &State) -> LagReport {
        state.lag.report(self.now_ms(), self.lag_ms(namespace), state.table.seq)
    }

    /// The sequence that the index has caught up with.
    pub fn indexed_seq(&self, namespace: &Namespace, state: &State) -> u64 {
        let waiting = state.lag.first_waiting(self.now_ms(), self.lag_ms(namespace));
        waiting.map_or(state.table.seq, |seq| state.table.seq.min(seq - 1))
    }

    /// Answers a read on a namespace's current view.
    pub fn read(&self, name: &str, answer: impl FnOnce(&View<'_>) -> ApiResult<Reply>) -> ApiResult<Reply> {
        let namespace = self.existing(name)?;
        let state = namespace.state.read();
        let view = View {
            name,
            table: &state.table,
            strong_seq: state.table.seq,
            eventual_seq: self.indexed_seq(&namespace, &state),
            options: self.options.query,
        };
        answer(&view)
    }

    /// Runs `change` with the writer lock of a namespace; without one, of a new one if `may_create`. A namespace that
    /// is still empty when `change` fails is forgotten again.
    pub fn with_writer<T>(
        &self,
        name: &str,
        may_create: bool,
        mut change: impl FnMut(&Arc<Namespace>, &mut Writer) -> ApiResult<T>,
    ) -> ApiResult<T> {
        for _ in 0..LOOKUPS_MAX {
            let namespace = match self.lookup(name) {
                Some(namespace) => namespace,
                None if may_create => self.create(name),
                None => return Err(ApiError::no_namespace(name)),
            };
            let mut writer = namespace.writer.lock();
            if writer.deleted {
                continue;
            }
            let is_new = namespace.state.read().table.head == 0;
            if is_new && !may_create {
                // Its first write is being refused, or this one came before it.
                return Err(ApiError::no_namespace(name));
            }
            let changed = change(&namespace, &mut writer);
            if changed.is_err() && namespace.state.read().table.head == 0 {
                self.forget(&namespace, &mut writer);
            }
            return changed;
        }
        Err(ApiError::internal(format!("namespace '{name}' was deleted {LOOKUPS_MAX} times during one request")))
    }

    fn create(&self, name: &str) -> Arc<Namespace> {
        let mut namespaces = self.namespaces.write();
        let entry = namespaces.entry(sort_key(name)).or_insert_with(|| {
            let incarnation = self.next_incarnation.fetch_add(1, Ordering::Relaxed);
            let namespace = Namespace::new(name, incarnation, State::default());
            if let Some(lag_ms) = self.named_lags.lock().get(name) {
                namespace.lag_ms.store(*lag_ms, Ordering::Relaxed);
            }
            Arc::new(namespace)
        });
        Arc::clone(entry)
    }

    pub fn forget(&self, namespace: &Arc<Namespace>, writer: &mut Writer) {
        writer.deleted = true;
        let mut namespaces = self.namespaces.write();
        let key = sort_key(&namespace.name);
        if namespaces.get(&key).is_some_and(|found| Arc::ptr_eq(found, namespace)) {
            namespaces.remove(&key);
        }
    }

    /// Logs a record and applies its commits, the last of which may wait for it. Returns the log's ticket.
    pub fn commit(
        &self,
        namespace: &Arc<Namespace>,
        writer: &mut Writer,
        record: CommitsWriter,
        last: Option<Commit>,
    ) -> Result<u64, LogFailed> {
        if !record.is_empty() {
            writer.ticket = self.log.append(&frame(&record.finish()))?;
            if let Some(last) = last {
                namespace.state.write().apply(last);
            }
            self.touched.lock().insert(namespace.incarnation, Arc::clone(namespace));
        }
        Ok(writer.ticket)
    }

    /// Waits until a write is on disk, then shows it to readers.
    pub fn publish(&self, namespace: &Namespace, ticket: u64, seq: u64) -> Result<(), LogFailed> {
        self.log.wait(ticket)?;
        let mut state = namespace.state.write();
        state.table.seq = state.table.seq.max(seq);
        Ok(())
    }

    /// Deletes a namespace for good; its name is free at once.
    pub fn delete(&self, name: &str) -> ApiResult<()> {
        let namespace = self.existing(name)?;
        let ticket = {
            let mut writer = namespace.writer.lock();
            if writer.deleted {
                return Err(ApiError::no_namespace(name));
            }
            let record = Record::Delete { namespace: name.to_owned(), incarnation: namespace.incarnation };
            let ticket = self.log.append(&frame(&record.encode()))?;
            self.forget(&namespace, &mut writer);
            ticket
        };
        self.log.wait(ticket)?;
        Ok(())
    }
}
