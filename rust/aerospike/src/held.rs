//! What a scan brought, held in memory for as long as somebody reads it: the server's own scan cannot be read twice, and
//! its next one would show another moment.
//!
//! Only keys and heads are held, one after another in large blocks: filters read nothing else. All scans of a process
//! together hold a bounded number of bytes; one that needs more fails, and its question goes elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::error::Failure;
use crate::facts::Facts;

/// Bytes of one block, unless a row needs more.
const BLOCK_BYTES: usize = 1 << 20;

/// What the scans of one process hold together.
pub struct ScanMemory {
    held: AtomicU64,
    bytes_max: u64,
}

impl ScanMemory {
    pub fn new(bytes_max: u64) -> Self {
        Self { held: AtomicU64::new(0), bytes_max }
    }

    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// One scan's part of the memory, given back when it is dropped.
struct Share {
    memory: Arc<ScanMemory>,
    bytes: u64,
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        let bytes = bytes as u64;
        let held = self.memory.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        if held > self.memory.bytes_max {
            return Err(Failure::ScanTooLarge { bytes_max: self.memory.bytes_max });
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy)]
struct Place {
    block: u32,
    start: u32,
    key_bytes: u32,
    head_bytes: u32,
    is_marked: bool,
}

/// One row of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldRow<'a> {
    pub key: &'a [u8],
    pub head: &'a [u8],
    /// A write of it is open; the row is the one beneath its mark.
    pub is_marked: bool,
}

/// All rows of a namespace, each once.
pub struct HeldScan {
    blocks: Vec<Vec<u8>>,
    places: Vec<Place>,
    share: Share,
    pub marked: u64,
    /// Rows that ought to be there and are not: too old, or of another version.
    pub missing: u64,
    pub sequence: u64,
    pub facts: Facts,
}

impl HeldScan {
    pub fn new(memory: Arc<ScanMemory>, sequence: u64) -> Self {
        Self {
            blocks: Vec::new(),
            places: Vec::new(),
            share: Share { memory, bytes: 0 },
            marked: 0,
            missing: 0,
            sequence,
            facts: Facts::default(),
        }
    }

    pub(crate) fn push(&mut self, key: &[u8], head: &[u8], is_marked: bool) -> Result<(), Failure> {
        let bytes = key.len() + head.len();
        let has_room = self.blocks.last().is_some_and(|block| block.capacity() - block.len() >= bytes);
        if !has_room {
            let capacity = bytes.max(BLOCK_BYTES);
            self.share.grow(capacity)?;
            self.blocks.push(Vec::with_capacity(capacity));
        }
        self.share.grow(size_of::<Place>())?;
        let number = self.blocks.len() - 1;
        let block = &mut self.blocks[number];
        let narrow = |count: usize| u32::try_from(count).map_err(|_| Failure::ScanTooLarge { bytes_max: u64::MAX });
        self.places.push(Place {
            block: narrow(number)?,
            start: narrow(block.len())?,
            key_bytes: narrow(key.len())?,
            head_bytes: narrow(head.len())?,
            is_marked,
        });
        block.extend_from_slice(key);
        block.extend_from_slice(head);
        self.marked += u64::from(is_marked);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Rows of part `part` of `parts`; each row is in exactly one part.
    pub fn rows(&self, part: usize, parts: usize) -> impl Iterator<Item = HeldRow<'_>> {
        let (from, to) = (self.places.len() * part / parts, self.places.len() * (part + 1) / parts);
        self.places[from..to].iter().map(|place| {
            let (_, bytes) = self.blocks[place.block as usize].split_at(place.start as usize);
            let (key, rest) = bytes.split_at(place.key_bytes as usize);
            HeldRow { key, head: &rest[..place.head_bytes as usize], is_marked: place.is_marked }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(scan: &mut HeldScan, number: usize, bytes: usize) -> Result<(), Failure> {
        scan.push(
            format!("key{number}").as_bytes(),
            &vec![u8::try_from(number % 251).unwrap_or(0); bytes],
            number.is_multiple_of(3),
        )
    }

    #[test]
    fn every_row_is_in_one_part_as_it_was_put() {
        let mut scan = HeldScan::new(Arc::new(ScanMemory::new(64 << 20)), 1);
        // Some fill a block, some need one of their own.
        let sizes: Vec<usize> = (0..200).map(|number| [10, 300_000, 0, BLOCK_BYTES + 5][number % 4]).collect();
        let mut scanned = 0;
        for (number, bytes) in sizes.iter().enumerate() {
            if pushed(&mut scan, number, *bytes).is_err() {
                break;
            }
            scanned = number + 1;
        }
        assert!(scanned > 100);
        for parts in [1, 3, 7] {
            let found: Vec<_> = (0..parts).flat_map(|part| scan.rows(part, parts)).collect();
            assert_eq!(found.len(), scan.len());
            for (number, row) in found.into_iter().enumerate() {
                assert_eq!(row.key, format!("key{number}").as_bytes());
                assert_eq!(row.head, vec![u8::try_from(number % 251).unwrap_or(0); sizes[number]]);
                assert_eq!(row.is_marked, number.is_multiple_of(3));
            }
        }
    }

    #[test]
    fn scans_share_a_bound_and_give_back_what_they_held() {
        let memory = Arc::new(ScanMemory::new(3 * BLOCK_BYTES as u64));
        let mut first = HeldScan::new(memory.clone(), 1);
        let mut second = HeldScan::new(memory.clone(), 2);
        assert_eq!(pushed(&mut first, 1, 2 * BLOCK_BYTES - 100), Ok(()));
        assert_eq!(
            pushed(&mut second, 1, 2 * BLOCK_BYTES),
            Err(Failure::ScanTooLarge { bytes_max: 3 * BLOCK_BYTES as u64 })
        );
        assert!(second.is_empty());
        drop(second);
        drop(first);
        assert_eq!(memory.held_bytes(), 0);
        let mut third = HeldScan::new(memory.clone(), 3);
        assert_eq!(pushed(&mut third, 1, 2 * BLOCK_BYTES), Ok(()));
        assert_eq!((third.len(), third.marked), (1, 0));
    }
}
