//! A segment with what has changed since: rows that do not stand any more, and rows that are read as they are stored.

use crate::columns::ids::IdList;
use crate::columns::plan::{plan, NoPlan, Step};
use crate::columns::run::{count, for_chunks, over_rows, Living, SetRows, LIST_COST};
use crate::columns::segment::{Ids, Segment};
use crate::compile::Filter;
use crate::error::ScanError;
use crate::row::{Hints, Reading};
use crate::scan::{Counted, Limits};
use hevlayer_doc::View;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Changed rows between two looks at the clock: a row may take each of a filter's patterns a millisecond.
const CHANGED_PER_CHECK: usize = 32;

type Heads = BTreeMap<Box<[u8]>, Arc<[u8]>>;

/// The columns of a namespace as of its latest known change. A copy stays as it is when the other one changes; what
/// neither of them changed they share.
#[derive(Clone, Debug)]
pub struct Table {
    pub segment: Arc<Segment>,
    /// One byte per row of the segment; empty while every row stands.
    living: Arc<Vec<u8>>,
    living_rows: usize,
    /// Heads of rows that were written since, by key.
    changed: Arc<Heads>,
    changed_bytes: usize,
    /// The sequence number up to which changes are in.
    pub sequence: u64,
}

impl Table {
    #[must_use]
    pub fn new(segment: Arc<Segment>) -> Self {
        let (living_rows, sequence) = (segment.rows(), segment.directory.sequence);
        Self { segment, living: Arc::default(), living_rows, changed: Arc::default(), changed_bytes: 0, sequence }
    }

    /// Rows, changed ones included.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.living_rows + self.changed.len()
    }

    /// Rows that are not read from columns.
    #[must_use]
    pub fn changed_rows(&self) -> usize {
        self.changed.len()
    }

    /// Rows of the segment that do not stand any more.
    #[must_use]
    pub fn superseded_rows(&self) -> usize {
        self.segment.rows() - self.living_rows
    }

    /// Bytes of memory that changes take.
    #[must_use]
    pub fn changed_bytes(&self) -> usize {
        self.changed_bytes + self.living.len()
    }

    /// Takes a change of one row: its head, or None when it is gone.
    pub fn change(&mut self, key: &[u8], head: Option<&[u8]>) {
        if let Some(row) = self.segment.ids().find(key) {
            let living = Arc::make_mut(&mut self.living);
            if living.is_empty() {
                *living = vec![1; self.segment.rows()];
            }
            self.living_rows -= usize::from(living[row]);
            living[row] = 0;
        }
        let before = match head {
            Some(head) => {
                self.changed_bytes += key.len() + head.len();
                Arc::make_mut(&mut self.changed).insert(key.into(), head.into())
            }
            None if self.changed.contains_key(key) => Arc::make_mut(&mut self.changed).remove(key),
            None => None,
        };
        if let Some(before) = before {
            self.changed_bytes -= key.len() + before.len();
        }
    }

    #[must_use]
    pub fn living(&self) -> Living<'_> {
        Living(&self.living)
    }

    /// Plans a filter over the segment; None when an attribute of it has no column.
    ///
    /// # Errors
    /// The limits are reached.
    pub fn plan(&self, filter: &Filter, limits: &Limits) -> Result<Option<Step<'_>>, ScanError> {
        match plan(filter, &self.segment, &|| limits.check().is_ok()) {
            Ok(step) => Ok(Some(step)),
            Err(NoPlan::NoColumn(_)) => Ok(None),
            Err(NoPlan::Stopped) => limits.check().and(Err(ScanError::TimedOut)),
        }
    }

    /// Calls `visit` with each changed row that meets the filter, in the order of ids.
    ///
    /// # Errors
    /// The limits are reached, or a row holds a value that is not of its attribute's type.
    pub fn for_changed(
        &self,
        filter: &Filter,
        limits: &Limits,
        visit: &mut dyn FnMut(&[u8], &Reading<'_>, &View<'_>),
    ) -> Result<(), ScanError> {
        let hints = Hints::new(filter);
        let reading = Reading::new(filter, &hints);
        for (index, (key, head)) in self.changed.iter().enumerate() {
            if index % CHANGED_PER_CHECK == 0 {
                limits.check()?;
            }
            let row = View::new(head, None).map_err(|error| ScanError::Source(error.to_string()))?;
            if reading.matches(&row) {
                visit(key, &reading, &row);
            }
            if let Some(attribute) = reading.mistyped() {
                let attribute = filter.attributes[attribute].name.as_str().to_owned();
                return Err(ScanError::Mistyped { attribute });
            }
        }
        Ok(())
    }

    /// Counts the rows that meet the filter; None when an attribute of it has no column.
    ///
    /// # Errors
    /// See [`ScanError`].
    pub fn count(&self, filter: &Filter, limits: &Limits) -> Result<Option<Counted>, ScanError> {
        limits.check()?;
        let Some(step) = self.plan(filter, limits)? else { return Ok(None) };
        let mut found = count(&step, self.segment.rows(), self.living(), limits)?;
        self.for_changed(filter, limits, &mut |_, _, _| found += 1)?;
        Ok(Some(Counted { count: found, rows: self.rows() as u64 }))
    }

    /// The ids of the rows that meet the filter, sorted: those after `after`, at most `limit`. None when an attribute of
    /// the filter has no column.
    ///
    /// # Errors
    /// See [`ScanError`].
    pub fn ids(
        &self,
        filter: &Filter,
        after: Option<&[u8]>,
        limit: usize,
        limits: &Limits,
    ) -> Result<Option<IdList>, ScanError> {
        limits.check()?;
        let Some(step) = self.plan(filter, limits)? else { return Ok(None) };
        let ids = self.segment.ids();
        let from = after.map_or(0, |key| ids.up_to(key));
        let mut changed: Vec<Box<[u8]>> = Vec::new();
        self.for_changed(filter, limits, &mut |key, _, _| {
            if after.is_none_or(|after| key > after) && changed.len() < limit {
                changed.push(key.into());
            }
        })?;
        if changed.is_empty() {
            let take = |list: &mut IdList, rows: &[u32]| ids.list_to(rows, list);
            let mut parts = self.rows_of(&step, from, limit, limits, take)?.into_iter();
            let mut list = parts.next().unwrap_or_default();
            parts.for_each(|part| list.append(&part));
            list.truncate(limit);
            return Ok(Some(list));
        }
        let rows = self.rows_of(&step, from, limit, limits, Vec::extend_from_slice)?.concat();
        Ok(Some(merged(&ids, &rows, &changed, limit)))
    }

    /// Gives the rows of the segment from `from` on that meet the step, in order, to `take`, a chunk at a time. One
    /// result for each of consecutive parts of the rows; each has the first `limit` rows of its part, or a few more.
    fn rows_of<T: Default + Send>(
        &self,
        step: &Step<'_>,
        from: usize,
        limit: usize,
        limits: &Limits,
        take: impl Fn(&mut T, &[u32]) + Sync,
    ) -> Result<Vec<T>, ScanError> {
        // Rows of a segment are fewer than 2^32.
        let row = |row: usize| u32::try_from(row).unwrap_or(u32::MAX);
        let collect = |range: std::ops::Range<usize>| {
            let (mut taken, mut found) = (T::default(), 0);
            let mut chunk_rows = SetRows::default();
            for_chunks(step, range, self.living(), limits, &mut |chunk, mask| {
                let rows = match mask {
                    None => chunk_rows.all(row(chunk.start)..row(chunk.end)),
                    Some(mask) => chunk_rows.of(mask, row(chunk.start)),
                };
                take(&mut taken, rows);
                found += rows.len();
                found < limit
            })?;
            Ok(taken)
        };
        if limit == 0 {
            return Ok(Vec::new());
        }
        // A page ends early: the threads past its end would work for nothing.
        if limit < self.segment.rows() / 4 {
            return Ok(vec![collect(from..self.segment.rows())?]);
        }
        let shift = |range: std::ops::Range<usize>| range.start + from..range.end + from;
        over_rows(self.segment.rows() - from, step.cost() + LIST_COST, limits, |range| collect(shift(range)))
    }
}

/// The ids of rows and of changed rows, both sorted, in one order.
fn merged(ids: &Ids<'_>, rows: &[u32], changed: &[Box<[u8]>], limit: usize) -> IdList {
    let mut list = IdList::default();
    let mut rows = rows.iter().map(|row| *row as usize).peekable();
    let push = |list: &mut IdList, row: usize| match ids {
        Ids::Uints(uints) => list.push_uint(uints[row]),
        Ids::Texts { places, bytes } => list.push_text(Ids::text(places, bytes, row)),
    };
    for key in changed {
        let before = ids.before(key);
        while let Some(row) = rows.next_if(|row| *row < before) {
            if list.len() < limit {
                push(&mut list, row);
            }
        }
        if list.len() == limit {
            return list;
        }
        list.push_key(key);
    }
    let room = limit - list.len();
    rows.take(room).for_each(|row| push(&mut list, row));
    list
}
