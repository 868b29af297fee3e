//! Scans: a filter over all rows of a source, on several threads, until a deadline or a cancellation.

use crate::columns::ids::IdList;
use crate::compile::Filter;
use crate::error::ScanError;
use crate::row::{Hints, Reading};
use hevlayer_doc::View;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Instant;

/// Most threads of one scan.
pub const THREADS_MAX: usize = 64;
/// A list of keys is not shortened before it has this many.
const KEYS_HELD_MIN: usize = 4096;
/// Rows between two looks at the clock: a row may take each of a filter's patterns a millisecond.
const ROWS_PER_CHECK: u64 = 32;

/// What a scan may take.
#[derive(Clone, Debug)]
pub struct Limits {
    pub threads: usize,
    /// None: no deadline.
    pub deadline: Option<Instant>,
    /// Set by another thread when nobody waits for the answer any more.
    pub cancel: Arc<AtomicBool>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { threads: 1, deadline: None, cancel: Arc::default() }
    }
}

impl Limits {
    /// # Errors
    /// The scan should stop.
    pub fn check(&self) -> Result<(), ScanError> {
        if self.cancel.load(Ordering::Relaxed) {
            Err(ScanError::Cancelled)
        } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            Err(ScanError::TimedOut)
        } else {
            Ok(())
        }
    }

    #[must_use]
    pub fn parts(&self) -> usize {
        self.threads.clamp(1, THREADS_MAX)
    }
}

/// Rows that can be visited in parts.
pub trait RowSource: Sync {
    /// Visits the rows of part `part` of `parts`, each with its cache key; each row is in exactly one part.
    ///
    /// # Errors
    /// Says why the rows could not be read.
    fn visit(
        &self,
        part: usize,
        parts: usize,
        visit: &mut dyn FnMut(&[u8], &View<'_>) -> ControlFlow<()>,
    ) -> Result<(), String>;
}

/// Does one job per part on a thread of its own, the first on this one.
///
/// # Errors
/// The first part's that failed.
pub fn in_parts<T: Send>(
    parts: usize,
    job: impl Fn(usize) -> Result<T, ScanError> + Sync,
) -> Result<Vec<T>, ScanError> {
    if parts == 1 {
        return Ok(vec![job(0)?]);
    }
    let job = &job;
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..parts).map(|part| scope.spawn(move || job(part))).collect();
        let first = job(0);
        let rest = others.into_iter().map(|other| {
            other.join().unwrap_or_else(|_| Err(ScanError::Source("a thread of the scan failed".to_owned())))
        });
        std::iter::once(first).chain(rest).collect()
    })
}

/// What a count saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub count: u64,
    pub rows: u64,
}

/// Visits the rows that meet the filter, in parts. `begin` makes a part's state, which every such row updates.
///
/// # Errors
/// See [`ScanError`].
pub fn fold_rows<S: Send>(
    filter: &Filter,
    source: &dyn RowSource,
    limits: &Limits,
    begin: impl Fn() -> S + Sync,
    update: impl Fn(&mut S, &[u8], &Reading<'_>, &View<'_>) -> Result<(), ScanError> + Sync,
) -> Result<Vec<(S, u64)>, ScanError> {
    let parts = limits.parts();
    in_parts(parts, |part| {
        limits.check()?;
        let hints = Hints::new(filter);
        let reading = Reading::new(filter, &hints);
        let (mut state, mut rows) = (begin(), 0_u64);
        let mut stopped = None;
        let mut visit = |key: &[u8], row: &View<'_>| {
            rows += 1;
            let mut step = || {
                if rows % ROWS_PER_CHECK == 0 {
                    limits.check()?;
                }
                let met = reading.matches(row);
                if met && reading.mistyped().is_none() {
                    update(&mut state, key, &reading, row)?;
                }
                reading.mistyped().map_or(Ok(()), |attribute| {
                    let attribute = filter.attributes[attribute].name.as_str().to_owned();
                    Err(ScanError::Mistyped { attribute })
                })
            };
            match step() {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    stopped = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        source.visit(part, parts, &mut visit).map_err(ScanError::Source)?;
        match stopped {
            None => Ok((state, rows)),
            Some(error) => Err(error),
        }
    })
}

/// Counts the rows that meet the filter.
///
/// # Errors
/// See [`ScanError`].
pub fn count_rows(filter: &Filter, source: &dyn RowSource, limits: &Limits) -> Result<Counted, ScanError> {
    let counts = fold_rows(
        filter,
        source,
        limits,
        || 0_u64,
        |count, _, _, _| {
            *count += 1;
            Ok(())
        },
    )?;
    Ok(counts
        .into_iter()
        .fold(Counted::default(), |sum, (count, rows)| Counted { count: sum.count + count, rows: sum.rows + rows }))
}

/// The ids of the rows that meet the filter, sorted: those after the key `after`, at most `limit`.
///
/// # Errors
/// See [`ScanError`].
pub fn ids_of_rows(
    filter: &Filter,
    source: &dyn RowSource,
    after: Option<&[u8]>,
    limit: usize,
    limits: &Limits,
) -> Result<IdList, ScanError> {
    let found = fold_rows(filter, source, limits, Vec::new, |keys: &mut Vec<Box<[u8]>>, key, _, _| {
        if after.is_none_or(|after| key > after) {
            keys.push(key.into());
            // The scan goes on to the end: rows come in no order. What cannot be in the answer is let go now and then.
            if keys.len() >= limit.saturating_mul(2).max(KEYS_HELD_MIN) {
                keys.select_nth_unstable(limit);
                keys.truncate(limit);
            }
        }
        Ok(())
    })?;
    let mut keys: Vec<Box<[u8]>> = found.into_iter().flat_map(|(keys, _)| keys).collect();
    keys.sort_unstable();
    let mut list = IdList::default();
    keys.iter().take(limit).for_each(|key| list.push_key(key));
    Ok(list)
}

/// Rows in memory. Where one key stands twice, both are visited.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a>(pub &'a [hevlayer_doc::Record]);

impl RowSource for Records<'_> {
    fn visit(
        &self,
        part: usize,
        parts: usize,
        visit: &mut dyn FnMut(&[u8], &View<'_>) -> ControlFlow<()>,
    ) -> Result<(), String> {
        let each = self.0.len().div_ceil(parts);
        let place = |part: usize| (part * each).min(self.0.len());
        for record in &self.0[place(part)..place(part + 1)] {
            let row = View::new(&record.head, None).map_err(|error| error.to_string())?;
            if visit(&record.key, &row).is_break() {
                break;
            }
        }
        Ok(())
    }
}
