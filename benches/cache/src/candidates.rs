//! The engines that are measured: one trait, the same calls, durability up to the page cache in each.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fjall::{Database as FjallDatabase, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, WithoutTls};
use memmap2::Mmap;

const MAP_BYTES: usize = 16 << 30;
const SEGMENT_BYTES: u64 = 64 << 20;

pub trait Candidate {
    /// Puts rows in one atomic step.
    fn put(&mut self, rows: &[(Vec<u8>, Vec<u8>)]);
    /// Copies a value out, as an answer would; false when it is missing.
    fn get(&self, key: &[u8], out: &mut Vec<u8>) -> bool;
    /// Sums one byte in 64 of each value, in whatever order is quickest; gives bytes visited.
    fn scan(&self) -> (u64, u64);
    /// Makes room: what a cache does at its cap. Gives how many rows went.
    fn evict_a_tenth(&mut self, keys: &[Vec<u8>]) -> usize;
    fn close(self: Box<Self>);
}

pub fn touch(value: &[u8]) -> u64 {
    value.iter().step_by(64).map(|byte| u64::from(*byte)).sum()
}

pub fn open(name: &str, directory: &Path) -> Box<dyn Candidate> {
    fs::create_dir_all(directory).expect("a directory");
    match name {
        "fjall" => Box::new(Fjall::open(directory)),
        "lmdb" => Box::new(Lmdb::open(directory)),
        "memory-index+log" => Box::new(MemoryLog::open(directory)),
        "lmdb-index+log" => Box::new(LmdbLog::open(directory)),
        other => panic!("no candidate {other}"),
    }
}

struct Fjall {
    database: FjallDatabase,
    rows: Keyspace,
}

impl Fjall {
    fn open(directory: &Path) -> Self {
        let database = FjallDatabase::builder(directory).cache_size(256 << 20).open().expect("fjall");
        let options = || KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()));
        let rows = database.keyspace("rows", options).expect("a keyspace");
        Self { database, rows }
    }
}

impl Candidate for Fjall {
    fn put(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) {
        let mut batch = self.database.batch();
        for (key, value) in rows {
            batch.insert(&self.rows, key.as_slice(), value.as_slice());
        }
        batch.commit().expect("a commit");
    }

    fn get(&self, key: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(value) = self.rows.get(key).expect("a get") else { return false };
        out.extend_from_slice(&value);
        true
    }

    fn scan(&self) -> (u64, u64) {
        self.rows.iter().fold((0, 0), |(bytes, sum), guard| {
            let value = guard.value().expect("a value");
            (bytes + value.len() as u64, sum.wrapping_add(touch(&value)))
        })
    }

    fn evict_a_tenth(&mut self, keys: &[Vec<u8>]) -> usize {
        let going = &keys[..keys.len() / 10];
        for chunk in going.chunks(100) {
            let mut batch = self.database.batch();
            chunk.iter().for_each(|key| batch.remove(&self.rows, key.as_slice()));
            batch.commit().expect("a commit");
        }
        going.len()
    }

    fn close(self: Box<Self>) {
        self.rows.rotate_memtable_and_wait().expect("a flush");
    }
}

fn environment(directory: &Path) -> Env<WithoutTls> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(MAP_BYTES).max_dbs(4).max_readers(512);
    // SAFETY: nobody but this process has the directory, and it opens it once at a time.
    unsafe { options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC | EnvFlags::NO_READ_AHEAD).open(directory) }
        .expect("lmdb")
}

fn table(env: &Env<WithoutTls>) -> Database<Bytes, Bytes> {
    let mut txn = env.write_txn().expect("a transaction");
    let rows = env.create_database(&mut txn, Some("rows")).expect("a database");
    txn.commit().expect("a commit");
    rows
}

/// LMDB with the values in its pages.
struct Lmdb {
    env: Env<WithoutTls>,
    rows: Database<Bytes, Bytes>,
}

impl Lmdb {
    fn open(directory: &Path) -> Self {
        let env = environment(directory);
        let rows = table(&env);
        Self { env, rows }
    }
}

impl Candidate for Lmdb {
    fn put(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) {
        let mut txn = self.env.write_txn().expect("a transaction");
        for (key, value) in rows {
            self.rows.put(&mut txn, key, value).expect("a put");
        }
        txn.commit().expect("a commit");
    }

    fn get(&self, key: &[u8], out: &mut Vec<u8>) -> bool {
        let txn = self.env.read_txn().expect("a transaction");
        let Some(value) = self.rows.get(&txn, key).expect("a get") else { return false };
        out.extend_from_slice(value);
        true
    }

    fn scan(&self) -> (u64, u64) {
        let txn = self.env.read_txn().expect("a transaction");
        self.rows.iter(&txn).expect("a scan").fold((0, 0), |(bytes, sum), row| {
            let value = row.expect("a row").1;
            (bytes + value.len() as u64, sum.wrapping_add(touch(value)))
        })
    }

    fn evict_a_tenth(&mut self, keys: &[Vec<u8>]) -> usize {
        let going = &keys[..keys.len() / 10];
        for chunk in going.chunks(100) {
            let mut txn = self.env.write_txn().expect("a transaction");
            for key in chunk {
                self.rows.delete(&mut txn, key).expect("a delete");
            }
            txn.commit().expect("a commit");
        }
        going.len()
    }

    fn close(self: Box<Self>) {
        self.env.force_sync().expect("a sync");
        self.env.prepare_for_closing().wait();
    }
}

/// Where a value stands: segment, offset, bytes.
type Place = (u32, u32, u32);

fn encode(place: Place) -> [u8; 40] {
    let mut out = [0; 40];
    out[..4].copy_from_slice(&place.0.to_le_bytes());
    out[4..8].copy_from_slice(&place.1.to_le_bytes());
    out[8..12].copy_from_slice(&place.2.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Place {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    (word(0), word(4), word(8))
}

/// Segment files of values, appended to.
struct Segments {
    directory: PathBuf,
    files: Vec<File>,
    end: u64,
}

impl Segments {
    fn open(directory: &Path) -> Self {
        let mut segments = Self { directory: directory.to_owned(), files: Vec::new(), end: SEGMENT_BYTES };
        while let Ok(file) = OpenOptions::new().read(true).write(true).open(segments.path(segments.files.len())) {
            segments.files.push(file);
        }
        segments
    }

    fn path(&self, id: usize) -> PathBuf {
        self.directory.join(format!("{id:06}.seg"))
    }

    fn append(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<Place> {
        let mut places = Vec::with_capacity(rows.len());
        let mut buffer = Vec::new();
        let bytes: usize = rows.iter().map(|(key, value)| 32 + key.len() + value.len()).sum();
        if self.end + bytes as u64 > SEGMENT_BYTES {
            let path = self.path(self.files.len());
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).expect("a segment");
            file.set_len(SEGMENT_BYTES).expect("a segment");
            self.files.push(file);
            self.end = 0;
        }
        for (key, value) in rows {
            buffer.extend_from_slice(&[0; 32]);
            buffer.extend_from_slice(key);
            let offset = self.end + buffer.len() as u64;
            places.push((self.files.len() as u32 - 1, offset as u32, value.len() as u32));
            buffer.extend_from_slice(value);
        }
        self.files.last().expect("a file").write_all_at(&buffer, self.end).expect("a write");
        self.end += buffer.len() as u64;
        places
    }

    fn sync(&self) {
        self.files.iter().for_each(|file| file.sync_all().expect("a sync"));
    }
}

/// As the engine was until now: the index in memory, one lock, values read by system call.
struct MemoryLog {
    index: Mutex<HashMap<Box<[u8]>, Place>>,
    segments: Segments,
}

impl MemoryLog {
    fn open(directory: &Path) -> Self {
        // The index comes from a walk through the log; what it costs is told by the key's place in its frame.
        let segments = Segments::open(directory);
        let index = fs::read(directory.join("index")).unwrap_or_default();
        let mut found = HashMap::new();
        let mut rest = index.as_slice();
        while let [length, ..] = rest {
            let length = usize::from(*length);
            found.insert(rest[1..=length].into(), decode(&rest[1 + length..]));
            rest = &rest[1 + length + 12..];
        }
        Self { index: Mutex::new(found), segments }
    }
}

impl Candidate for MemoryLog {
    fn put(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) {
        for row in rows {
            let place = self.segments.append(std::slice::from_ref(row))[0];
            self.index.lock().expect("a lock").insert(row.0.as_slice().into(), place);
        }
    }

    fn get(&self, key: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(place) = self.index.lock().expect("a lock").get(key).copied() else { return false };
        out.resize(place.2 as usize, 0);
        self.segments.files[place.0 as usize].read_exact_at(out, u64::from(place.1)).expect("a read");
        true
    }

    fn scan(&self) -> (u64, u64) {
        let mut places: Vec<_> = self.index.lock().expect("a lock").values().copied().collect();
        places.sort_unstable();
        let mut buffer = Vec::new();
        places.iter().fold((0, 0), |(bytes, sum), place| {
            buffer.resize(place.2 as usize, 0);
            self.segments.files[place.0 as usize].read_exact_at(&mut buffer, u64::from(place.1)).expect("a read");
            (bytes + u64::from(place.2), sum.wrapping_add(touch(&buffer)))
        })
    }

    fn evict_a_tenth(&mut self, _: &[Vec<u8>]) -> usize {
        let oldest = self.index.get_mut().expect("a lock").values().map(|place| place.0).min().unwrap_or(0);
        let _ = fs::remove_file(self.segments.path(oldest as usize));
        let index = self.index.get_mut().expect("a lock");
        let before = index.len();
        index.retain(|_, place| place.0 != oldest);
        before - index.len()
    }

    fn close(self: Box<Self>) {
        self.segments.sync();
        let mut out = Vec::new();
        for (key, place) in self.index.lock().expect("a lock").iter() {
            out.push(key.len() as u8);
            out.extend_from_slice(key);
            out.extend_from_slice(&encode(*place)[..12]);
        }
        fs::write(self.segments.directory.join("index"), out).expect("an index");
    }
}

/// LMDB as the index, values in segments that are read through a mapping.
struct LmdbLog {
    env: Env<WithoutTls>,
    rows: Database<Bytes, Bytes>,
    segments: Segments,
    maps: Vec<Mmap>,
}

impl LmdbLog {
    fn open(directory: &Path) -> Self {
        let env = environment(directory);
        let rows = table(&env);
        let mut opened = Self { env, rows, segments: Segments::open(directory), maps: Vec::new() };
        opened.map();
        opened
    }

    fn map(&mut self) {
        for file in &self.segments.files[self.maps.len()..] {
            // SAFETY: nobody shortens a segment; what is appended is never changed.
            self.maps.push(unsafe { Mmap::map(file) }.expect("a mapping"));
        }
    }

    fn value(&self, place: Place) -> &[u8] {
        &self.maps[place.0 as usize][place.1 as usize..][..place.2 as usize]
    }
}

impl Candidate for LmdbLog {
    fn put(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) {
        let places = self.segments.append(rows);
        self.map();
        let mut txn = self.env.write_txn().expect("a transaction");
        for ((key, _), place) in rows.iter().zip(places) {
            self.rows.put(&mut txn, key, &encode(place)).expect("a put");
        }
        txn.commit().expect("a commit");
    }

    fn get(&self, key: &[u8], out: &mut Vec<u8>) -> bool {
        let place = {
            let txn = self.env.read_txn().expect("a transaction");
            self.rows.get(&txn, key).expect("a get").map(decode)
        };
        let Some(place) = place else { return false };
        out.extend_from_slice(self.value(place));
        true
    }

    fn scan(&self) -> (u64, u64) {
        let mut places: Vec<Place> = {
            let txn = self.env.read_txn().expect("a transaction");
            self.rows.iter(&txn).expect("a scan").map(|row| decode(row.expect("a row").1)).collect()
        };
        places.sort_unstable();
        places.into_iter().fold((0, 0), |(bytes, sum), place| {
            (bytes + u64::from(place.2), sum.wrapping_add(touch(self.value(place))))
        })
    }

    fn evict_a_tenth(&mut self, keys: &[Vec<u8>]) -> usize {
        // The keys of the oldest segment come from its frames; here they are known.
        let oldest = self.segments.files.len() - self.maps.len();
        let mut going = 0;
        for chunk in keys.chunks(2000) {
            let mut txn = self.env.write_txn().expect("a transaction");
            for key in chunk {
                if self.rows.get(&txn, key).expect("a get").map(decode).is_some_and(|at| at.0 as usize == oldest) {
                    self.rows.delete(&mut txn, key).expect("a delete");
                    going += 1;
                }
            }
            txn.commit().expect("a commit");
        }
        let _ = fs::remove_file(self.segments.path(oldest));
        going
    }

    fn close(self: Box<Self>) {
        self.segments.sync();
        self.env.force_sync().expect("a sync");
        self.env.prepare_for_closing().wait();
    }
}
