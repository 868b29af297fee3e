//! Drives a plan over a segment's rows, in chunks that stay in the processor's cache.

use crate::columns::codes::{self, Combine};
use crate::columns::plan::{Spare, Step};
use crate::error::ScanError;
use crate::scan::{in_parts, Limits};
use std::ops::Range;

/// Rows of a chunk; its mask has as many bytes.
pub const CHUNK_ROWS: usize = 8192;
/// A thread is only worth starting for this many rows.
const ROWS_PER_THREAD_MIN: usize = 128 * 1024;
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

/// Does one job for each of several consecutive parts of the rows, each part on a thread.
///
/// # Errors
/// The first part's that failed.
pub fn over_rows<T: Send>(
    rows: usize,
    limits: &Limits,
    job: impl Fn(Range<usize>) -> Result<T, ScanError> + Sync,
) -> Result<Vec<T>, ScanError> {
    let parts = limits.parts().min(rows / ROWS_PER_THREAD_MIN).max(1);
    let each = rows.div_ceil(parts).next_multiple_of(CHUNK_ROWS);
    in_parts(parts, |part| job((part * each).min(rows)..((part + 1) * each).min(rows)))
}

/// How many rows meet the step.
///
/// # Errors
/// The limits are reached.
pub fn count(step: &Step<'_>, rows: usize, living: Living<'_>, limits: &Limits) -> Result<u64, ScanError> {
    let counts = over_rows(rows, limits, |range| {
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
