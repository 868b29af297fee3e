//! Histograms from rows as they are stored.

use crate::{Histogram, VALUES_HELD_MAX};
use hashbrown::HashMap;
use hevlayer_doc::View;
use hevlayer_filter::compile::Filter;
use hevlayer_filter::error::ScanError;
use hevlayer_filter::row::Reading;
use hevlayer_filter::scan::{fold_rows, Limits, RowSource};
use hevlayer_filter::schema::{Scalar, ScalarRef};

/// Counts of values, from rows.
#[derive(Debug, Default)]
pub struct Tally {
    pub(crate) counts: HashMap<Scalar, u64>,
    pub(crate) rows: u64,
    pub(crate) nulls: u64,
    /// There were more values than can be held; none is counted any more.
    pub(crate) full: bool,
    seen: Vec<Scalar>,
}

impl Tally {
    /// Counts the values of a row's attribute.
    pub fn add(&mut self, place: usize, array: bool, reading: &Reading<'_>, row: &View<'_>) {
        self.rows += 1;
        if array {
            let mut seen = std::mem::take(&mut self.seen);
            seen.clear();
            let present = reading.elements(place, row, &mut |value| {
                if !seen.iter().any(|known| known.borrowed() == value) {
                    seen.push(value.to_owned());
                }
                true
            });
            seen.iter().for_each(|value| self.count(value.borrowed(), 1));
            self.seen = seen;
            self.nulls += u64::from(!present);
        } else {
            match reading.scalar(place, row) {
                Some(value) => self.count(value, 1),
                None => self.nulls += 1,
            }
        }
    }

    pub(crate) fn count(&mut self, value: ScalarRef<'_>, count: u64) {
        let value = value.to_owned();
        if let Some(known) = self.counts.get_mut(&value) {
            *known += count;
        } else if self.counts.len() < VALUES_HELD_MAX {
            self.counts.insert(value, count);
        } else {
            self.full = true;
        }
    }

    fn join(&mut self, other: Self) {
        self.rows += other.rows;
        self.nulls += other.nulls;
        self.full |= other.full;
        for (value, count) in other.counts {
            self.count(value.borrowed(), count);
        }
    }
}

/// The histogram of the filter's attribute at `place` over the rows that meet it.
///
/// # Errors
/// See [`ScanError`].
pub fn of_rows(
    filter: &Filter,
    place: usize,
    source: &dyn RowSource,
    groups_max: usize,
    limits: &Limits,
) -> Result<Histogram, ScanError> {
    let kind = filter.attributes[place].kind;
    let parts = fold_rows(filter, source, limits, Tally::default, |tally, _, reading, row| {
        tally.add(place, kind.array, reading, row);
        Ok(())
    })?;
    let mut whole = Tally::default();
    parts.into_iter().for_each(|(part, _)| whole.join(part));
    let seen = (whole.rows, whole.nulls);
    if whole.full {
        return Ok(Histogram::too_many(kind, whole.counts.len() as u64, seen));
    }
    Ok(Histogram::of(kind, whole.counts.into_iter().collect(), groups_max, seen))
}
