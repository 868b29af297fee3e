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
const CACHE_LINE: usize = 64;
/// Beyond this the processor sees by itself that a row is read from front to back.
const PREFETCH_BYTES_MAX: usize = 1024;
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

    /// The file was at least this long when somebody last asked.
    fn known_bytes(&self) -> usize {
        usize::try_from(self.length.load(Ordering::Relaxed)).map_or(MAPPED, |length| length.min(MAPPED))
    }

    fn pages(&self, offset: u32, length: usize) -> (*mut libc::c_void, usize) {
        let start = offset as usize & !(PAGE - 1);
        // SAFETY: below the end of the mapping, as `offset` is.
        (unsafe { self.base.add(start) }.cast(), offset as usize + length - start)
    }

    /// Has the processor fetch the beginning of a row that is read soon; pages that are not in memory stay away.
    pub fn prefetch(&self, offset: u32, length: usize) {
        let end = (offset as usize + length.min(PREFETCH_BYTES_MAX)).min(self.known_bytes());
        for at in (offset as usize..end).step_by(CACHE_LINE) {
            // SAFETY: within the mapping; a prefetch never faults.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
                _mm_prefetch::<_MM_HINT_T0>(self.base.add(at).cast());
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = at;
        }
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

/// What was found in memory a moment ago, so that not every look-up asks the kernel: whole blocks first, for one question
/// then serves many rows, and pages of blocks that are not whole. One that has gone since then costs its reader a wait
/// for the disk, no more.
struct Residents {
    /// A page's number in the high bits, the tick of its sighting in the low ones; a place for pages of one remainder.
    pages: Box<[AtomicU64]>,
    /// As above with blocks; the number's lowest bit says whether all of it was in memory.
    blocks: Box<[AtomicU64]>,
}

/// Bits of a tick; it comes again after 18 hours, when a page that nobody looked at since may pass for one just seen.
const TICK_BITS: u32 = 18;
const TICK_MS: u64 = 256;
/// A sighting is good for this many ticks, about a second.
const SEEN_TICKS: u64 = 4;
const PLACES: usize = 4096;
const PAGE_BITS: u32 = 14;
/// Pages of a block: few enough that the kernel tells of all of them in a microsecond or two.
const BLOCK_PAGES: usize = 64;
const BLOCK: usize = BLOCK_PAGES * PAGE;
/// As many as 4 GiB have.
const BLOCK_PLACES: usize = 16384;
const _: () = assert!(MAPPED / PAGE == 1 << PAGE_BITS && 32 + PAGE_BITS + TICK_BITS == 64);
const _: () = assert!(BLOCK_PAGES >= 2 && BLOCK_PAGES <= RESIDENT_PAGES_MAX && MAPPED.is_multiple_of(BLOCK));

impl Residents {
    fn new() -> Self {
        let places = |count| (0..count).map(|_| AtomicU64::new(u64::MAX)).collect();
        Self { pages: places(PLACES), blocks: places(BLOCK_PLACES) }
    }

    fn tick(now_ms: u64) -> u64 {
        (now_ms / TICK_MS) & ((1 << TICK_BITS) - 1)
    }

    fn page(segment: u32, page: usize) -> u64 {
        u64::from(segment) << PAGE_BITS | page as u64
    }

    fn block(segment: u32, block: usize) -> u64 {
        u64::from(segment) << (PAGE_BITS - 1) | block as u64
    }

    fn place(places: &[AtomicU64], number: u64) -> &AtomicU64 {
        &places[mixed(number) % places.len()]
    }

    fn is_fresh(seen: u64, tick: u64) -> bool {
        tick.wrapping_sub(seen) & ((1 << TICK_BITS) - 1) < SEEN_TICKS
    }

    fn has(&self, page: u64, tick: u64) -> bool {
        let seen = Self::place(&self.pages, page).load(Ordering::Relaxed);
        seen >> TICK_BITS == page && Self::is_fresh(seen, tick)
    }

    fn note(&self, page: u64, tick: u64) {
        Self::place(&self.pages, page).store(page << TICK_BITS | tick, Ordering::Relaxed);
    }

    /// Whether all of a block was in memory a moment ago; None: not known.
    fn is_whole(&self, block: u64, tick: u64) -> Option<bool> {
        let seen = Self::place(&self.blocks, block).load(Ordering::Relaxed);
        let found = seen >> TICK_BITS;
        (found >> 1 == block && Self::is_fresh(seen, tick)).then_some(found & 1 == 1)
    }

    fn note_block(&self, block: u64, is_whole: bool, tick: u64) {
        let noted = (block << 1 | u64::from(is_whole)) << TICK_BITS | tick;
        Self::place(&self.blocks, block).store(noted, Ordering::Relaxed);
    }
}

/// Spreads numbers that have their differences anywhere: pages of several segments must not meet in one place.
// The product's upper half is what is wanted.
#[allow(clippy::cast_possible_truncation)]
fn mixed(number: u64) -> usize {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

/// Rows whose hash was right a moment ago, so that one that is asked for again and again is not hashed each time. What
/// stands in a place never changes while the index points there; only a page that came from the disk anew may be another.
struct Verified {
    /// A place's tag in the high bits, the tick of its verification in the low ones.
    places: Box<[AtomicU64]>,
}

const VERIFIED_PLACES: usize = 1 << 16;
/// A verification is good for this many ticks, about 16 seconds.
const VERIFIED_TICKS: u64 = 64;

impl Verified {
    fn new() -> Self {
        Self { places: (0..VERIFIED_PLACES).map(|_| AtomicU64::new(u64::MAX)).collect() }
    }

    /// All bits of a place are in it: an offset has 26, and segments of one tag are 2^20 apart.
    fn tag(place: Place) -> u64 {
        (u64::from(place.segment) << 26 | u64::from(place.offset)) & ((1 << (64 - TICK_BITS)) - 1)
    }

    fn has(&self, place: Place, tick: u64) -> bool {
        let tag = Self::tag(place);
        let seen = self.places[mixed(tag) % VERIFIED_PLACES].load(Ordering::Relaxed);
        seen >> TICK_BITS == tag && tick.wrapping_sub(seen) & ((1 << TICK_BITS) - 1) < VERIFIED_TICKS
    }

    fn note(&self, place: Place, tick: u64) {
        let tag = Self::tag(place);
        self.places[mixed(tag) % VERIFIED_PLACES].store(tag << TICK_BITS | tick, Ordering::Relaxed);
    }
}

/// The segments of a directory, as one process reads them.
pub struct Segments {
    directory: PathBuf,
    maps: RwLock<HashMap<u32, Arc<Mapping>>>,
    residents: Residents,
    verified: Verified,
}

impl Segments {
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            maps: RwLock::new(HashMap::new()),
            residents: Residents::new(),
            verified: Verified::new(),
        }
    }

    /// Whether the row in a place was found whole a moment ago.
    pub fn is_verified(&self, place: Place, now_ms: u64) -> bool {
        self.verified.has(place, Residents::tick(now_ms))
    }

    pub fn note_verified(&self, place: Place, now_ms: u64) {
        self.verified.note(place, Residents::tick(now_ms));
    }

    /// Whether a part of a segment is in memory, or was a moment ago; see [`Mapping::is_resident`].
    pub fn is_resident(&self, mapping: &Mapping, place: Place, length: usize, now_ms: u64) -> bool {
        let (start, last) = (place.offset as usize, place.offset as usize + length.max(1) - 1);
        let tick = Residents::tick(now_ms);
        if (start / BLOCK..=last / BLOCK).all(|block| self.is_block_whole(mapping, place.segment, block, tick)) {
            return true;
        }
        let pages = || (start / PAGE..=last / PAGE).map(|page| Residents::page(place.segment, page));
        if pages().all(|page| self.residents.has(page, tick)) {
            return true;
        }
        let is_resident = mapping.is_resident(place.offset, length);
        if is_resident {
            pages().for_each(|page| self.residents.note(page, tick));
        }
        is_resident
    }

    /// Of the last block, as much as the file is known to have: what was appended after that is in memory.
    fn is_block_whole(&self, mapping: &Mapping, segment: u32, block: usize, tick: u64) -> bool {
        let number = Residents::block(segment, block);
        if let Some(known) = self.residents.is_whole(number, tick) {
            return known;
        }
        let start = block * BLOCK;
        let length = mapping.known_bytes().saturating_sub(start).min(BLOCK);
        let is_whole = u32::try_from(start).is_ok_and(|start| length > 0 && mapping.is_resident(start, length));
        self.residents.note_block(number, is_whole, tick);
        is_whole
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
        let is_same = |other: &u64| mixed(*other) % PLACES == mixed(page) % PLACES;
        let other = (page + 1..).find(is_same).expect("a page of the same place");
        residents.note(other, tick(seen));
        assert!(!residents.has(page, tick(seen)));
    }

    #[test]
    fn a_verification_is_of_one_place_and_ends() {
        let verified = Verified::new();
        let place = Place { segment: 7, offset: 4096 };
        verified.note(place, 5);
        assert!(verified.has(place, 5) && verified.has(place, 4 + VERIFIED_TICKS));
        assert!(!verified.has(place, 5 + VERIFIED_TICKS));
        assert!(!verified.has(Place { segment: 8, ..place }, 5));
        assert!(!verified.has(Place { offset: 4097, ..place }, 5));
    }

    #[test]
    fn pages_of_several_segments_stand_side_by_side() {
        let residents = Residents::new();
        let pages: Vec<u64> =
            (0..8).flat_map(|segment| (0..64).map(move |page| Residents::page(segment, page))).collect();
        pages.iter().for_each(|page| residents.note(*page, 1));
        let kept = pages.iter().filter(|page| residents.has(**page, 1)).count();
        assert!(kept > pages.len() * 3 / 4, "{kept} of {}", pages.len());
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

    #[test]
    fn a_whole_block_is_asked_for_once_a_moment() {
        let folder = std::env::temp_dir().join(format!("hevlayer-blocks-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let segments = Segments::new(&folder);
        let length = BLOCK + 3 * PAGE;
        let file = segments.writable(1).expect("a file");
        file.set_len(length as u64).expect("a length");
        let mapping = segments.mapping(1).expect("a mapping");
        let at = |offset: usize| Place { segment: 1, offset: u32::try_from(offset).expect("an offset") };
        let tick = Residents::tick(1_000);
        assert!(!segments.is_resident(&mapping, at(BLOCK - 10), 20, 1_000));
        assert_eq!(segments.residents.is_whole(Residents::block(1, 0), tick), Some(false));
        // Written, so that every page is in memory. A row over the edge needs both blocks.
        file.write_all_at(&vec![1; length], 0).expect("bytes");
        let later_ms = 1_000 + SEEN_TICKS * TICK_MS;
        assert!(segments.is_resident(&mapping, at(BLOCK - 10), 20, later_ms));
        let tick = Residents::tick(later_ms);
        let whole = [0, 1, 2].map(|block| segments.residents.is_whole(Residents::block(1, block), tick));
        assert_eq!(whole, [Some(true), Some(true), None]);
        // Of these pages nobody asked.
        assert!(!segments.residents.has(Residents::page(1, 7), tick));
        assert!(segments.is_resident(&mapping, at(7 * PAGE), PAGE, later_ms));
        fs::remove_dir_all(&folder).expect("the folder goes");
    }
}
