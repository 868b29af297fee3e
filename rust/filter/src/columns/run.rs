//! Drives a plan over a segment's rows, in chunks that stay in the processor's cache.

use crate::columns::codes::{self, Combine};
use crate::columns::plan::{Spare, Step};
use crate::error::ScanError;
use crate::scan::{in_parts, Limits};
use std::ops::Range;

/// Rows of a chunk; its mask has as many bytes.
pub const CHUNK_ROWS: usize = 8192;
/// A thread is only worth starting for so much work, of which 250 take about a nanosecond: half a millisecond of it, since
/// starting and ending one takes a third of that.
const COST_PER_THREAD_MIN: u64 = 1 << 27;
/// What it costs to count a row that meets a step, beside the step; see `Step::cost`.
const COUNT_COST: u32 = 8;
/// To list it.
pub const LIST_COST: u32 = 100;
/// To count its values: they stand anywhere in tables of counters.
pub const VALUES_COST: u32 = 1024;
/// Chunks between two looks at the clock.
const CHUNKS_PER_CHECK: usize = 16;

/// Which rows of a segment still stand: one byte per row, empty when all do.
#[derive(Clone, Copy, Debug)]
pub struct Living<'a>(pub &'a [u8]);

impl Living<'_> {
    fn keep(self, at: usize, mask: &mut [u8]) {
        if !self.0.is_empty() {
            codes::merge(&self.0[at..at + mask.len()], false, Combine::And, mask);
        }
    }
}

/// Takes a chunk's rows and its mask, None when every row is wanted; false to stop.
pub type VisitChunk<'v> = dyn FnMut(Range<usize>, Option<&[u8]>) -> bool + 'v;

/// Calls `visit` for every chunk of a part of the rows, in order. Stops early when it answers `false`.
///
/// # Errors
/// The limits are reached.
pub fn for_chunks(
    step: &Step<'_>,
    rows: Range<usize>,
    living: Living<'_>,
    limits: &Limits,
    visit: &mut VisitChunk<'_>,
) -> Result<(), ScanError> {
    let mut mask = vec![0; CHUNK_ROWS];
    let mut spare = Spare::default();
    let all = matches!(step, Step::Always(true)) && living.0.is_empty();
    let mut at = rows.start;
    let mut chunk = 0_usize;
    while at < rows.end {
        if chunk.is_multiple_of(CHUNKS_PER_CHECK) {
            limits.check()?;
        }
        chunk += 1;
        let to = (at + CHUNK_ROWS).min(rows.end);
        let keep_on = if all {
            visit(at..to, None)
        } else {
            let mask = &mut mask[..to - at];
            step.apply(at, Combine::Set, mask, &mut spare);
            living.keep(at, mask);
            visit(at..to, Some(mask))
        };
        if !keep_on {
            return Ok(());
        }
        at = to;
    }
    Ok(())
}

/// Does one job for each of several consecutive parts of the rows, each part on a thread, as far as rows of this cost
/// are worth threads.
///
/// # Errors
/// The first part's that failed.
pub fn over_rows<T: Send>(
    rows: usize,
    row_cost: u32,
    limits: &Limits,
    job: impl Fn(Range<usize>) -> Result<T, ScanError> + Sync,
) -> Result<Vec<T>, ScanError> {
    let worth = rows as u64 * u64::from(row_cost) / COST_PER_THREAD_MIN;
    let parts = limits.parts().min(usize::try_from(worth).unwrap_or(usize::MAX)).max(1);
    let each = rows.div_ceil(parts).next_multiple_of(CHUNK_ROWS);
    in_parts(parts, |part| job((part * each).min(rows)..((part + 1) * each).min(rows)))
}

/// How many rows meet the step.
///
/// # Errors
/// The limits are reached.
pub fn count(step: &Step<'_>, rows: usize, living: Living<'_>, limits: &Limits) -> Result<u64, ScanError> {
    let counts = over_rows(rows, step.cost() + COUNT_COST, limits, |range| {
        let mut total = 0;
        for_chunks(step, range, living, limits, &mut |rows, mask| {
            total += mask.map_or(rows.len() as u64, codes::count);
            true
        })?;
        Ok(total)
    })?;
    Ok(counts.into_iter().sum())
}

/// Calls `visit` with each place of the mask that is set, until it answers `false`; gives its last answer.
#[inline]
pub fn for_set(mask: &[u8], visit: &mut impl FnMut(usize) -> bool) -> bool {
    let (words, rest) = mask.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let mut word = u64::from_le_bytes(*word);
        while word != 0 {
            if !visit(index * 8 + word.trailing_zeros() as usize / 8) {
                return false;
            }
            word &= word - 1;
        }
    }
    let tail = words.len() * 8;
    for (place, byte) in rest.iter().enumerate() {
        if *byte != 0 && !visit(tail + place) {
            return false;
        }
    }
    true
}

/// The places of the bits that are set in a byte, lowest first; what follows them is of no meaning.
const PLACES: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut next) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                table[byte][next] = bit;
                next += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
};
/// Takes the lowest bit of each byte of a word to the bits of its highest byte, in their order.
const GATHER_BITS: u64 = 0x0102_0408_1020_4080;
/// Adds the bytes of a word up in its highest byte.
const ADD_BYTES: u64 = 0x0101_0101_0101_0101;

/// Room for the rows of one chunk that are set, and for what is written past the last.
#[derive(Debug)]
pub struct SetRows(Vec<u32>);

impl Default for SetRows {
    fn default() -> Self {
        Self(vec![0; CHUNK_ROWS + 8])
    }
}

impl SetRows {
    /// The rows of a mask of at most `CHUNK_ROWS` that are set, in order; the first is row `at`.
    ///
    /// Which rows are set is what a processor cannot foresee. So eight places are written for every eight rows, wherever
    /// the last ones ended, and only a run of 64 without any is told apart.
    pub fn of(&mut self, mask: &[u8], at: u32) -> &[u32] {
        let mut found = 0;
        let mut base = at;
        let (blocks, rest) = mask.as_chunks::<64>();
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            let words: [u64; 8] = std::array::from_fn(|index| u64::from_le_bytes(words[index]));
            if words.iter().fold(0, |any, word| any | word) != 0 {
                for word in words {
                    self.put(word, base, &mut found);
                    base += 8;
                }
            } else {
                base += 64;
            }
        }
        for part in rest.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.put(u64::from_le_bytes(word), base, &mut found);
            base += 8;
        }
        &self.0[..found]
    }

    #[inline]
    fn put(&mut self, word: u64, base: u32, found: &mut usize) {
        let places = &PLACES[(word.wrapping_mul(GATHER_BITS) >> 56) as usize];
        if let Some(room) = self.0[*found..].first_chunk_mut::<8>() {
            for (slot, place) in room.iter_mut().zip(places) {
                *slot = base + u32::from(*place);
            }
        }
        *found += (word.wrapping_mul(ADD_BYTES) >> 56) as usize;
    }

    /// All rows of a chunk.
    pub fn all(&mut self, rows: std::ops::Range<u32>) -> &[u32] {
        let count = rows.len();
        for (slot, row) in self.0.iter_mut().zip(rows) {
            *slot = row;
        }
        &self.0[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks() -> impl Iterator<Item = Vec<u8>> {
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
        let mut roll = move |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        (0..600).map(move |length: usize| {
            let sides = 1 + roll(40);
            // Now and then a run of one kind, so that whole blocks have none or all.
            let mut run = (0, 0);
            (0..length)
                .map(|_| {
                    run = if run.1 > 0 { (run.0, run.1 - 1) } else { (roll(2), if roll(60) == 0 { 150 } else { 0 }) };
                    if run.1 > 0 {
                        u8::try_from(run.0).expect("0 or 1")
                    } else {
                        u8::from(roll(sides) == 0)
                    }
                })
                .collect()
        })
    }

    #[test]
    fn the_rows_that_are_set_are_found_in_order() {
        let mut rows = SetRows::default();
        for (at, mask) in masks().enumerate() {
            let at = u32::try_from(at).expect("small");
            let wanted: Vec<u32> = (at..).zip(&mask).filter(|(_, set)| **set != 0).map(|(row, _)| row).collect();
            assert_eq!(rows.of(&mask, at), wanted);
            let mut by_visit = Vec::new();
            for_set(&mask, &mut |place| {
                by_visit.push(at + u32::try_from(place).expect("small"));
                true
            });
            assert_eq!(by_visit, wanted);
        }
    }

    #[test]
    fn work_is_shared_out_when_it_is_worth_threads() {
        let limits = Limits { threads: 3, ..Limits::default() };
        let parts = |rows: usize, cost: u32| over_rows(rows, cost, &limits, Ok).expect("no limit");
        assert_eq!(parts(100_000, 1_000).len(), 1);
        let shared = parts(100_000, 1 << 20);
        assert_eq!(shared.len(), 3);
        assert!(shared.iter().all(|part| part.start.is_multiple_of(CHUNK_ROWS)));
        assert_eq!(shared.into_iter().flatten().collect::<Vec<_>>(), (0..100_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_whole_chunk_has_room() {
        let mut rows = SetRows::default();
        let end = 5 + u32::try_from(CHUNK_ROWS).expect("small");
        let wanted: Vec<u32> = (5..end).collect();
        assert_eq!(rows.of(&[1; CHUNK_ROWS], 5), wanted);
        assert_eq!(rows.all(5..end), wanted);
    }
}
