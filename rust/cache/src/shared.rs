//! What all processes of one directory see at once, in a small mapped file.
//!
//! ```text
//!     0  u64 x 8       magic, broken, quiet until (epoch ms), bytes of the segments, owing (4 words, one bit an owner)
//!  4096  u64 x 256 x 16  what each owner owes: hashes of namespaces, or everything
//!  then  u64 x 2^17    the write clock: by the id's hash, the transaction that last touched it
//!  then  u8 x 2^22     by the id's hash, how often it was read since an eviction last passed by, up to 3
//! ```
//!
//! A read that began before an id was last touched may not fill it. Two ids that share a bucket of the clock cost a
//! refused fill, never a wrong one, so nothing has to be kept per id and nothing expires. The words are written without
//! the disk, so that what a process owes can be told also when the disk is full.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};

use xxhash_rust::xxh3::xxh3_64_with_seed;

const NAME: &str = "shared";
const MAGIC: u64 = 0x6865_766c_6361_6302;
const PAGE: usize = 4096;
const FENCES: usize = 1 << 17;
const READS: usize = 1 << 22;
const OWED_BYTES: usize = OWNERS_MAX * OWED_MAX * 8;
const FENCES_AT: usize = PAGE + OWED_BYTES;
const READS_AT: usize = FENCES_AT + FENCES * 8;
const BYTES: usize = READS_AT + READS;
/// An id that was read more often since an eviction passed by counts as read this often.
const READS_MAX: u8 = 3;

const BROKEN: usize = 1;
const QUIET_UNTIL: usize = 2;
const SEGMENT_BYTES: usize = 3;
const OWING: usize = 4;
const OWING_WORDS: usize = 4;
/// Engines that may have one directory open.
pub const OWNERS_MAX: usize = OWING_WORDS * 64;
/// Namespaces that one owner may owe one by one; with more of them it owes everything.
const OWED_MAX: usize = 16;
const EVERYTHING: u64 = u64::MAX;

/// The hash of an id, by which the clock and the counts of reads are kept.
pub fn hash(namespace: u32, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, u64::from(namespace))
}

/// The hash of a namespace's name, by which it is owed.
pub fn name_hash(name: &str) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), 0).clamp(1, EVERYTHING - 1)
}

/// What an owner owes.
pub struct Owed(Vec<u64>);

impl Owed {
    pub fn is_everything(&self) -> bool {
        self.0.contains(&EVERYTHING)
    }

    /// Whether every name that is owed is one of these.
    pub fn is_within(&self, names: &[u64]) -> bool {
        self.0.iter().all(|owed| *owed == 0 || names.contains(owed))
    }

    pub fn covers(&self, name: u64) -> bool {
        self.0.iter().any(|owed| *owed == name || *owed == EVERYTHING)
    }
}

/// The mapped file.
pub struct Shared {
    base: *mut u8,
}

// SAFETY: the mapping is only ever accessed through atomics.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Maps the file of a directory, made anew when it is missing or of another layout.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let length = libc::off_t::try_from(BYTES).map_err(io::Error::other)?;
        if file.metadata()?.len() != BYTES as u64 {
            file.set_len(0)?;
            // The room is taken now: a page that could not be had later would end the process.
            // SAFETY: the descriptor is open; the call takes no memory of ours.
            let code = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) };
            if code != 0 {
                // Short of its length, the file is made anew by whoever opens it next.
                let _ = file.set_len(0);
                return Err(io::Error::from_raw_os_error(code));
            }
        }
        let shared = Self::map(&file)?;
        if shared.word(0).load(Ordering::SeqCst) != MAGIC {
            for index in 0..PAGE / 8 {
                shared.word(index).store(0, Ordering::SeqCst);
            }
            shared.word(0).store(MAGIC, Ordering::SeqCst);
        }
        Ok(shared)
    }

    fn map(file: &File) -> io::Result<Self> {
        // SAFETY: a new mapping of an open file of at least this length; nobody shortens it while it is in use.
        let base = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(ptr::null_mut(), BYTES, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: base.cast() })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < READS_AT / 8);
        // SAFETY: within the mapping, aligned, and only ever used as an atomic.
        unsafe { AtomicU64::from_ptr(self.base.cast::<u64>().add(index)) }
    }

    /// The clock starts again with the transactions' numbers.
    pub fn reset_fences(&self) {
        for index in 0..FENCES {
            self.word(FENCES_AT / 8 + index).store(0, Ordering::Relaxed);
        }
    }

    // The mask keeps the index below the bound on every platform.
    #[allow(clippy::cast_possible_truncation)]
    fn fence(&self, hash: u64) -> &AtomicU64 {
        self.word(FENCES_AT / 8 + (hash as usize & (FENCES - 1)))
    }

    #[allow(clippy::cast_possible_truncation)]
    fn reads(&self, hash: u64) -> &AtomicU8 {
        let index = READS_AT + ((hash >> 20) as usize & (READS - 1));
        // SAFETY: within the mapping, and only ever used as an atomic.
        unsafe { AtomicU8::from_ptr(self.base.add(index)) }
    }

    /// Every snapshot before transaction `now` is too old to fill the id.
    pub fn touch(&self, hash: u64, now: u64) {
        self.fence(hash).store(now, Ordering::Release);
    }

    /// The transaction that last touched the id, or one that shares its bucket.
    pub fn touched(&self, hash: u64) -> u64 {
        self.fence(hash).load(Ordering::Acquire)
    }

    /// Has the processor fetch what `note_read` changes.
    pub fn prefetch_read(&self, hash: u64) {
        let place: *const AtomicU8 = self.reads(hash);
        // SAFETY: a prefetch never faults.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
            _mm_prefetch::<_MM_HINT_T0>(place.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = place;
    }

    pub fn note_read(&self, hash: u64) {
        let reads = self.reads(hash);
        let count = reads.load(Ordering::Relaxed);
        if count < READS_MAX {
            reads.store(count + 1, Ordering::Relaxed);
        }
    }

    /// Whether the id was read lately.
    pub fn was_read(&self, hash: u64) -> bool {
        self.reads(hash).load(Ordering::Relaxed) > 0
    }

    /// Whether the id was read lately; each call takes one read off.
    pub fn take_read(&self, hash: u64) -> bool {
        let reads = self.reads(hash);
        let count = reads.load(Ordering::Relaxed);
        reads.store(count.saturating_sub(1), Ordering::Relaxed);
        count > 0
    }

    pub fn is_broken(&self) -> bool {
        self.word(BROKEN).load(Ordering::Acquire) != 0
    }

    /// The index cannot be used any more: every process lets go of it, and the next to open it begins empty.
    pub fn set_broken(&self, broken: bool) {
        self.word(BROKEN).store(u64::from(broken), Ordering::SeqCst);
    }

    pub fn quiet_until_ms(&self) -> u64 {
        self.word(QUIET_UNTIL).load(Ordering::Acquire)
    }

    pub fn set_quiet_until_ms(&self, until_ms: u64) {
        self.word(QUIET_UNTIL).store(until_ms, Ordering::SeqCst);
    }

    /// Bytes of the segments of all processes; set from the index at the first opening and by each upkeep.
    pub fn segment_bytes(&self) -> u64 {
        self.word(SEGMENT_BYTES).load(Ordering::Relaxed)
    }

    pub fn set_segment_bytes(&self, bytes: u64) {
        self.word(SEGMENT_BYTES).store(bytes, Ordering::Relaxed);
    }

    pub fn add_segment_bytes(&self, bytes: u64) {
        self.word(SEGMENT_BYTES).fetch_add(bytes, Ordering::Relaxed);
    }

    fn owed_word(&self, owner: usize, index: usize) -> &AtomicU64 {
        self.word(PAGE / 8 + owner * OWED_MAX + index)
    }

    /// Notes what an owner owes: hashes of names. None of this needs the disk.
    pub fn set_owing(&self, owner: usize, names: &[u64]) {
        let (word, bit) = (self.word(OWING + owner / 64), 1_u64 << (owner % 64));
        if names.is_empty() {
            word.fetch_and(!bit, Ordering::SeqCst);
            return;
        }
        // Everything is owed while the list changes, so that no reader finds less than was or will be owed.
        self.owed_word(owner, 0).store(EVERYTHING, Ordering::SeqCst);
        word.fetch_or(bit, Ordering::SeqCst);
        if names.len() > OWED_MAX {
            return;
        }
        for index in 1..OWED_MAX {
            self.owed_word(owner, index).store(names.get(index).copied().unwrap_or(0), Ordering::SeqCst);
        }
        self.owed_word(owner, 0).store(names[0], Ordering::SeqCst);
    }

    /// Notes that an owner owes everything.
    pub fn owe_everything(&self, owner: usize) {
        self.set_owing(owner, &[EVERYTHING]);
    }

    /// What an owner owes, if anything.
    pub fn owed_by(&self, owner: usize) -> Option<Owed> {
        let is_owing = self.word(OWING + owner / 64).load(Ordering::SeqCst) & (1 << (owner % 64)) != 0;
        is_owing.then(|| Owed((0..OWED_MAX).map(|index| self.owed_word(owner, index).load(Ordering::SeqCst)).collect()))
    }

    pub fn anyone_owes(&self) -> bool {
        (0..OWING_WORDS).any(|index| self.word(OWING + index).load(Ordering::SeqCst) != 0)
    }

    /// Whether anyone owes the namespace of that name.
    pub fn owes(&self, name: &str) -> bool {
        self.anyone_owes() && self.is_owed(name_hash(name))
    }

    /// Whether anyone owes a namespace, by the hash of its name.
    pub fn is_owed(&self, name: u64) -> bool {
        self.anyone_owes() && (0..OWNERS_MAX).any(|owner| self.owed_by(owner).is_some_and(|owed| owed.covers(name)))
    }

    pub fn forgive_all(&self) {
        (0..OWING_WORDS).for_each(|index| self.word(OWING + index).store(0, Ordering::SeqCst));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length and is not used after this.
        unsafe { libc::munmap(self.base.cast(), BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(name: &str) -> Shared {
        let path = std::env::temp_dir().join(format!("hevlayer-shared-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory");
        let opened = Shared::open(&path).expect("a file");
        let _ = std::fs::remove_dir_all(&path);
        opened
    }

    #[test]
    fn a_touch_ages_the_reads_before_it_only() {
        let shared = shared("touch");
        shared.touch(hash(1, b"a"), 7);
        assert_eq!(shared.touched(hash(1, b"a")), 7);
        assert_eq!(shared.touched(hash(2, b"a")), 0);
    }

    #[test]
    fn what_one_owes_all_see() {
        let shared = shared("owing");
        let (one, other) = (name_hash("one"), name_hash("other"));
        shared.set_owing(70, &[one]);
        assert!(shared.is_owed(one) && !shared.is_owed(other));
        shared.set_owing(200, &[other; OWED_MAX + 1]);
        assert!(shared.is_owed(name_hash("any")));
        shared.set_owing(200, &[]);
        shared.set_owing(70, &[other]);
        assert!(!shared.is_owed(one) && shared.is_owed(other));
        shared.set_owing(70, &[]);
        assert!(!shared.anyone_owes());
    }

    #[test]
    fn reads_count_up_to_a_bound() {
        let shared = shared("reads");
        (0..9).for_each(|_| shared.note_read(5));
        assert_eq!((0..9).filter(|_| shared.take_read(5)).count(), 3);
    }
}
