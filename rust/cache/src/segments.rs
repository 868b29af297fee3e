//! The files that rows stand in: appended to by one owner each, read by everyone through a mapping.
//!
//! Nothing is synced while running: after the death of a process the kernel still has every byte, and after the death of
//! the machine the directory is thrown away (see [`crate::home`]). Bytes past what the index knows of are of no one: the
//! next owner writes over them.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::entry::{Place, Slot};
use crate::error::CacheError;

/// No segment is longer.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
pub const SEGMENT_BYTES_MIN: u64 = 256 << 10;
const SEGMENTS_IN_CAPACITY: u64 = 64;
pub const SUFFIX: &str = "seg";
const PAGE: usize = 4096;
/// Of a longer part, whether it is in memory is not looked up in place.
const RESIDENT_PAGES_MAX: usize = 260;

type Result<T> = std::result::Result<T, CacheError>;

/// How long segments may be in a cache of this capacity.
pub fn segment_bytes(capacity_bytes: u64) -> u64 {
    (capacity_bytes / SEGMENTS_IN_CAPACITY).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
}

/// A segment's bytes in memory. Stays readable while anyone holds it, also after the file's removal.
pub struct Mapping {
    base: *mut u8,
    path: PathBuf,
    /// The file was at least this long.
    length: AtomicU64,
}

// SAFETY: the mapping is read-only, and what a slot points to never changes.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

// A constant below 4 GiB.
#[allow(clippy::cast_possible_truncation)]
const MAPPED: usize = SEGMENT_BYTES_MAX as usize;

impl Mapping {
    fn open(path: PathBuf) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let file = File::open(&path)?;
        // Pages past the file's end may be mapped; they are not touched before the file has grown over them.
        // SAFETY: a new, read-only mapping of an open file.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), MAPPED, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is ours. Point reads would otherwise read sixteen pages for each one.
        unsafe { libc::madvise(base, MAPPED, libc::MADV_RANDOM) };
        Ok(Self { base: base.cast(), path, length: AtomicU64::new(file.metadata()?.len()) })
    }

    /// The bytes from `offset` on.
    ///
    /// # Errors
    /// [`CacheError::Corrupt`] when the file is shorter than that.
    pub fn bytes(&self, offset: u32, length: usize) -> Result<&[u8]> {
        let end = u64::from(offset) + length as u64;
        if end > self.length.load(Ordering::Relaxed) {
            let found = fs::metadata(&self.path)?.len();
            self.length.store(found, Ordering::Relaxed);
            if end > found.min(SEGMENT_BYTES_MAX) {
                return Err(CacheError::Corrupt);
            }
        }
        // SAFETY: within the mapping and the file; the bytes of a slot are never written again while it stands.
        Ok(unsafe { std::slice::from_raw_parts(self.base.add(offset as usize), length) })
    }

    fn pages(&self, offset: u32, length: usize) -> (*mut libc::c_void, usize) {
        let start = offset as usize & !(PAGE - 1);
        // SAFETY: below the end of the mapping, as `offset` is.
        (unsafe { self.base.add(start) }.cast(), offset as usize + length - start)
    }

    /// Whether a part is in memory, so that reading it does not wait for the disk.
    pub fn is_resident(&self, offset: u32, length: usize) -> bool {
        let (start, bytes) = self.pages(offset, length);
        let pages = bytes.div_ceil(PAGE);
        let mut found = [0_u8; RESIDENT_PAGES_MAX];
        if pages > RESIDENT_PAGES_MAX {
            return false;
        }
        // SAFETY: the range is within the mapping; `found` has room for a byte a page.
        let code = unsafe { libc::mincore(start, bytes, found.as_mut_ptr()) };
        code == 0 && found[..pages].iter().all(|page| page & 1 == 1)
    }

    /// Has the kernel read a part in one go.
    pub fn will_need(&self, offset: u32, length: usize) {
        let (start, bytes) = self.pages(offset, length);
        // SAFETY: the range is within the mapping; advice changes no byte.
        unsafe { libc::madvise(start, bytes, libc::MADV_WILLNEED) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length and is not used after this.
        unsafe { libc::munmap(self.base.cast(), MAPPED) };
    }
}

/// Pages that were found in memory a moment ago, so that not every look-up asks the kernel. One that has gone since then
/// costs its reader a wait for the disk, no more.
struct Residents {
    /// A page's number in the high bits, the tick of its sighting in the low ones; a place for pages of one remainder.
    places: Box<[AtomicU64]>,
}

/// Bits of a tick; it comes again after 18 hours, when a page that nobody looked at since may pass for one just seen.
const TICK_BITS: u32 = 18;
const TICK_MS: u64 = 256;
/// A sighting is good for this many ticks, about a second.
const SEEN_TICKS: u64 = 4;
const PLACES: usize = 4096;
const PAGE_BITS: u32 = 14;
const _: () = assert!(MAPPED / PAGE == 1 << PAGE_BITS && 32 + PAGE_BITS + TICK_BITS == 64);

impl Residents {
    fn new() -> Self {
        Self { places: (0..PLACES).map(|_| AtomicU64::new(u64::MAX)).collect() }
    }

    fn tick(now_ms: u64) -> u64 {
        (now_ms / TICK_MS) & ((1 << TICK_BITS) - 1)
    }

    fn page(segment: u32, page: usize) -> u64 {
        u64::from(segment) << PAGE_BITS | page as u64
    }

    // The remainder is below the count of places.
    #[allow(clippy::cast_possible_truncation)]
    fn place(&self, page: u64) -> &AtomicU64 {
        &self.places[(page % PLACES as u64) as usize]
    }

    fn has(&self, page: u64, tick: u64) -> bool {
        let seen = self.place(page).load(Ordering::Relaxed);
        let age = tick.wrapping_sub(seen) & ((1 << TICK_BITS) - 1);
        seen >> TICK_BITS == page && age < SEEN_TICKS
    }

    fn note(&self, page: u64, tick: u64) {
        self.place(page).store(page << TICK_BITS | tick, Ordering::Relaxed);
    }
}

/// The segments of a directory, as one process reads them.
pub struct Segments {
    directory: PathBuf,
    maps: RwLock<HashMap<u32, Arc<Mapping>>>,
    residents: Residents,
}

impl Segments {
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), maps: RwLock::new(HashMap::new()), residents: Residents::new() }
    }

    /// Whether a part of a segment is in memory, or was a moment ago; see [`Mapping::is_resident`].
    pub fn is_resident(&self, mapping: &Mapping, place: Place, length: usize, now_ms: u64) -> bool {
        let (first, last) = (place.offset as usize / PAGE, (place.offset as usize + length.max(1) - 1) / PAGE);
        let tick = Residents::tick(now_ms);
        let pages = || (first..=last).map(|page| Residents::page(place.segment, page));
        if pages().all(|page| self.residents.has(page, tick)) {
            return true;
        }
        let is_resident = mapping.is_resident(place.offset, length);
        if is_resident {
            pages().for_each(|page| self.residents.note(page, tick));
        }
        is_resident
    }

    fn path(&self, id: u32) -> PathBuf {
        self.directory.join(format!("{id:010}.{SUFFIX}"))
    }

    pub fn mapping(&self, id: u32) -> io::Result<Arc<Mapping>> {
        if let Some(found) = self.maps.read().get(&id) {
            return Ok(Arc::clone(found));
        }
        let opened = Arc::new(Mapping::open(self.path(id))?);
        Ok(Arc::clone(self.maps.write().entry(id).or_insert(opened)))
    }

    /// The bytes before a row's tail, or all of them.
    pub fn of(&self, slot: &Slot) -> io::Result<Arc<Mapping>> {
        self.mapping(slot.place.segment)
    }

    /// Makes a file to append to, or opens one that another owner left.
    pub fn writable(&self, id: u32) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path(id))
    }

    /// Removes a file; who has it mapped may read on.
    pub fn remove(&self, id: u32) -> io::Result<()> {
        self.maps.write().remove(&id);
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets go of the files that are not in `live`, so that their room is free.
    pub fn retain(&self, live: &std::collections::HashSet<u32>) {
        self.maps.write().retain(|id, _| live.contains(id));
    }

    /// Numbers of the files that are there.
    pub fn on_disk(&self) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                found.extend(path.file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok()));
            }
        }
        Ok(found)
    }

    /// Writes all segments to the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.on_disk()?.into_iter().try_for_each(|id| File::open(self.path(id))?.sync_all())
    }
}

/// The end of the segment that an owner appends to.
pub struct Active {
    pub id: u32,
    file: File,
    /// What the index knows of.
    pub end: u64,
    /// What was written since, and is forgotten unless the index hears of it.
    pending: u64,
}

impl Active {
    pub fn new(id: u32, file: File, end: u64) -> Self {
        Self { id, file, end, pending: 0 }
    }

    /// Where the next byte goes.
    pub fn next(&self) -> u64 {
        self.end + self.pending
    }

    /// Writes after what was written before.
    ///
    /// # Errors
    /// Of the disk; nothing was appended then.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.next())?;
        self.pending += bytes.len() as u64;
        Ok(())
    }

    /// The index knows of what was appended.
    pub fn keep(&mut self) {
        self.end += std::mem::take(&mut self.pending);
    }

    /// The index will not hear of what was appended.
    pub fn forget(&mut self) {
        self.pending = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sighting_is_of_one_page_and_ends() {
        let residents = Residents::new();
        let page = Residents::page(7, 3);
        let (seen, tick) = (1_700_000_000_000, Residents::tick);
        assert!(!residents.has(page, tick(seen)));
        residents.note(page, tick(seen));
        assert!(residents.has(page, tick(seen)));
        assert!(residents.has(page, tick(seen + (SEEN_TICKS - 1) * TICK_MS)));
        assert!(!residents.has(page, tick(seen + SEEN_TICKS * TICK_MS)));
        assert!(!residents.has(Residents::page(7, 4), tick(seen)));
        assert!(!residents.has(Residents::page(8, 3), tick(seen)));
        // Another page of the same place takes it.
        residents.note(page + PLACES as u64, tick(seen));
        assert!(!residents.has(page, tick(seen)));
    }

    #[test]
    fn what_is_not_in_memory_is_asked_again() {
        let folder = std::env::temp_dir().join(format!("hevlayer-segments-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let segments = Segments::new(&folder);
        segments.writable(1).expect("a file").set_len(8 * PAGE as u64).expect("a length");
        let mapping = segments.mapping(1).expect("a mapping");
        let place = Place { segment: 1, offset: 4096 + 10 };
        assert!(!segments.is_resident(&mapping, place, PAGE, 1_000));
        // Read, so that both pages are in memory.
        assert_eq!(
            mapping.bytes(place.offset, PAGE).expect("bytes").iter().map(|byte| u32::from(*byte)).sum::<u32>(),
            0
        );
        assert!(segments.is_resident(&mapping, place, PAGE, 1_000));
        assert!(segments.residents.has(Residents::page(1, 1), Residents::tick(1_000)));
        assert!(segments.residents.has(Residents::page(1, 2), Residents::tick(1_000)));
        assert!(!segments.residents.has(Residents::page(1, 3), Residents::tick(1_000)));
        fs::remove_dir_all(&folder).expect("the folder goes");
    }
}
