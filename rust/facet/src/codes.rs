//! Histograms from columns, by code; a value is looked up once per group, not once per row.

use crate::rows::Tally;
use crate::{Histogram, Seen, VALUES_HELD_MAX};
use hashbrown::HashMap;
use hevlayer_filter::columns::codes::{count, Code};
use hevlayer_filter::columns::domain::Domain;
use hevlayer_filter::columns::plan::Step;
use hevlayer_filter::columns::run::{for_chunks, for_set, over_rows, VALUES_COST};
use hevlayer_filter::columns::segment::{Arrays, Column};
use hevlayer_filter::columns::table::Table;
use hevlayer_filter::compile::Filter;
use hevlayer_filter::error::ScanError;
use hevlayer_filter::scan::Limits;
use hevlayer_filter::schema::{AttributeType, Scalar};
use hevlayer_filter::with_codes;
use std::ops::Range;

/// Domains up to this many values are counted in a table of as many counters, larger ones in a map.
const TABLE_VALUES_MAX: u64 = 1 << 22;
/// Up to this many values there are several counters each: equal neighbours then do not wait for one another.
const LANES_VALUES_MAX: usize = 1 << 12;
const LANES: usize = 4;

/// Counts by code of one part of the rows.
struct Counts {
    tables: Vec<Vec<u32>>,
    map: HashMap<u64, u64>,
    /// There were more values than can be held.
    full: bool,
    rows: u64,
    nulls: u64,
}

impl Counts {
    fn new(domain: &Domain<'_>) -> Self {
        let values = domain.len();
        let tables = if values > TABLE_VALUES_MAX {
            Vec::new()
        } else {
            let counters = usize::try_from(values).unwrap_or(0) + 1;
            vec![vec![0; counters]; if counters <= LANES_VALUES_MAX { LANES } else { 1 }]
        };
        Self { tables, map: HashMap::new(), full: false, rows: 0, nulls: 0 }
    }

    fn map_one(&mut self, code: u64) {
        if let Some(known) = self.map.get_mut(&code) {
            *known += 1;
        } else if self.map.len() < VALUES_HELD_MAX {
            self.map.insert(code, 1);
        } else {
            self.full = true;
        }
    }

    /// Counts the codes, those whose byte in the mask is set if there is a mask.
    fn scalars<T: Code>(&mut self, codes: &[T], mask: Option<&[u8]>) {
        if self.tables.is_empty() {
            match mask {
                None => codes.iter().for_each(|code| self.map_one(code.widened())),
                Some(mask) => {
                    for_set(mask, &mut |place| {
                        self.map_one(codes[place].widened());
                        true
                    });
                }
            }
            return;
        }
        match (mask, self.tables.as_mut_slice()) {
            (None, [first, second, third, fourth]) => {
                let (fours, rest) = codes.as_chunks::<LANES>();
                for [a, b, c, d] in fours {
                    first[index(*a)] += 1;
                    second[index(*b)] += 1;
                    third[index(*c)] += 1;
                    fourth[index(*d)] += 1;
                }
                rest.iter().for_each(|code| first[index(*code)] += 1);
            }
            (Some(mask), [first, second, third, fourth]) if is_dense(mask) => {
                let ((fours, rest), (wanted, rest_wanted)) = (codes.as_chunks::<LANES>(), mask.as_chunks::<LANES>());
                for ([a, b, c, d], [e, f, g, h]) in fours.iter().zip(wanted) {
                    first[index(*a)] += u32::from(*e);
                    second[index(*b)] += u32::from(*f);
                    third[index(*c)] += u32::from(*g);
                    fourth[index(*d)] += u32::from(*h);
                }
                for (code, byte) in rest.iter().zip(rest_wanted) {
                    first[index(*code)] += u32::from(*byte);
                }
            }
            (None, tables) => codes.iter().for_each(|code| tables[0][index(*code)] += 1),
            (Some(mask), tables) => {
                for_set(mask, &mut |place| {
                    tables[0][index(codes[place])] += 1;
                    true
                });
            }
        }
    }

    /// Counts the elements of rows; `places` are those of the rows.
    fn arrays<T: Code>(&mut self, codes: &[T], array: &Arrays<'_>, rows: Range<usize>, mask: Option<&[u8]>) {
        let places = &array.places[rows.start..=rows.end];
        if mask.is_none() && !array.repeats {
            self.scalars(&codes[places[0] as usize..places[places.len() - 1] as usize], None);
        } else {
            let mut row = |at: usize| {
                let elements = &codes[places[at] as usize..places[at + 1] as usize];
                for (place, code) in elements.iter().enumerate() {
                    if !array.repeats || !elements[..place].contains(code) {
                        if self.tables.is_empty() {
                            self.map_one(code.widened());
                        } else {
                            let lane = place % self.tables.len();
                            self.tables[lane][index(*code)] += 1;
                        }
                    }
                }
                true
            };
            match mask {
                None => (0..rows.len()).for_each(|at| {
                    row(at);
                }),
                Some(mask) => {
                    for_set(mask, &mut row);
                }
            }
        }
        if !array.nulls.is_empty() {
            let nulls = &array.nulls[rows];
            self.nulls += match mask {
                None => count(nulls),
                Some(mask) => nulls.iter().zip(mask).map(|(null, byte)| u64::from(null & byte)).sum(),
            };
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn index<T: Code>(code: T) -> usize {
    usize::try_from(code.widened()).unwrap_or(0)
}

/// Whether so many rows are wanted that looking for them costs more than adding zeros.
fn is_dense(mask: &[u8]) -> bool {
    count(mask) * 8 >= mask.len() as u64
}

/// The histogram of the filter's attribute at `place` over the rows that meet it; None when an attribute that it reads
/// has no column.
///
/// # Errors
/// See [`ScanError`].
pub fn of_table(
    filter: &Filter,
    place: usize,
    table: &Table,
    groups_max: usize,
    limits: &Limits,
) -> Result<Option<Histogram>, ScanError> {
    Ok(counted(filter, place, table, limits)?.map(|counted| counted.histogram(groups_max)))
}

/// As [`of_table`], as [`Histogram::json`] writes it: values are copied once, from the column into the text.
///
/// # Errors
/// See [`ScanError`].
pub fn json_of_table(
    filter: &Filter,
    place: usize,
    table: &Table,
    groups_max: usize,
    limits: &Limits,
) -> Result<Option<Vec<u8>>, ScanError> {
    Ok(counted(filter, place, table, limits)?.map(|counted| counted.json(groups_max)))
}

/// What was counted over a table.
enum Counted<'t> {
    /// More values than can be held.
    TooMany(Histogram),
    Held {
        kind: AttributeType,
        domain: Domain<'t>,
        by_code: ByCode,
        /// Values of changed rows that have no code.
        others: Vec<(Scalar, u64)>,
        rows: u64,
        nulls: u64,
    },
}

fn counted<'t>(
    filter: &Filter,
    place: usize,
    table: &'t Table,
    limits: &Limits,
) -> Result<Option<Counted<'t>>, ScanError> {
    limits.check()?;
    let used = &filter.attributes[place];
    let Some(column) = table.segment.column(used.name.as_str(), used.kind) else { return Ok(None) };
    let Some(step) = table.plan(filter, limits)? else { return Ok(None) };
    let cost = step.cost() + VALUES_COST;
    let parts = over_rows(table.segment.rows(), cost, limits, |range| part(&step, &column, table, range, limits))?;

    let mut changed = Tally::default();
    table.for_changed(filter, limits, &mut |_, reading, row| changed.add(place, used.kind.array, reading, row))?;
    if changed.full || parts.iter().any(|part| part.full) {
        let observed = parts.iter().map(|part| part.map.len()).max().unwrap_or(0).max(changed.counts.len());
        let rows = parts.iter().map(|part| part.rows).sum::<u64>() + changed.rows;
        let seen = (rows, changed.nulls);
        return Ok(Some(Counted::TooMany(Histogram::too_many(used.kind, observed as u64, seen))));
    }

    let mut by_code = sum(&parts);
    let nulls_of_codes = if column.array.is_none() { by_code.remove_null() } else { 0 };
    let rows = parts.iter().map(|part| part.rows).sum::<u64>() + changed.rows;
    let nulls = parts.iter().map(|part| part.nulls).sum::<u64>() + nulls_of_codes + changed.nulls;
    let mut others = Vec::new();
    for (value, count) in changed.counts {
        match column.domain.find(value.borrowed()) {
            Some(code) => by_code.add(code, count),
            None => others.push((value, count)),
        }
    }
    Ok(Some(Counted::Held { kind: used.kind, domain: column.domain, by_code, others, rows, nulls }))
}

impl Counted<'_> {
    fn histogram(self, groups_max: usize) -> Histogram {
        let (kind, domain, by_code, others, seen) = match self {
            Self::TooMany(histogram) => return histogram,
            Self::Held { kind, domain, by_code, others, rows, nulls } => (kind, domain, by_code, others, (rows, nulls)),
        };
        let pairs = by_code.pairs();
        let observed = (pairs.len() + others.len()) as u64;
        let pairs = most_frequent(pairs, groups_max);
        let groups = pairs.into_iter().map(|(code, count)| (domain.value(code).to_owned(), count)).chain(others);
        Histogram { observed, ..Histogram::of(kind, groups.collect(), groups_max, seen) }
    }

    fn json(self, groups_max: usize) -> Vec<u8> {
        match self {
            Self::Held { kind, domain, by_code, others, rows, nulls } if others.is_empty() => {
                let pairs = by_code.pairs();
                let seen = Seen { observed: pairs.len() as u64, exact: true, nulls, rows };
                let pairs = most_frequent(pairs, groups_max);
                seen.json(kind, pairs.into_iter().map(|(code, count)| (domain.value(code), count)))
            }
            counted => counted.histogram(groups_max).json(),
        }
    }
}

fn part(
    step: &Step<'_>,
    column: &Column<'_>,
    table: &Table,
    range: Range<usize>,
    limits: &Limits,
) -> Result<Counts, ScanError> {
    let mut counts = Counts::new(&column.domain);
    for_chunks(step, range, table.living(), limits, &mut |rows, mask| {
        counts.rows += mask.map_or(rows.len() as u64, count);
        match &column.array {
            None => with_codes!(column.codes, codes => counts.scalars(&codes[rows], mask)),
            Some(array) => with_codes!(column.codes, codes => counts.arrays(codes, array, rows, mask)),
        }
        !counts.full
    })?;
    Ok(counts)
}

/// Counts by code of all parts.
enum ByCode {
    Table(Vec<u64>),
    Map(HashMap<u64, u64>),
}

impl ByCode {
    fn add(&mut self, code: u64, count: u64) {
        match self {
            Self::Table(table) => table[usize::try_from(code).unwrap_or(0)] += count,
            Self::Map(map) => *map.entry(code).or_default() += count,
        }
    }

    fn remove_null(&mut self) -> u64 {
        match self {
            Self::Table(table) => table.first_mut().map(std::mem::take).unwrap_or(0),
            Self::Map(map) => map.remove(&0).unwrap_or(0),
        }
    }

    fn pairs(self) -> Vec<(u64, u64)> {
        match self {
            Self::Table(table) => (0..).zip(table).filter(|(_, count)| *count > 0).collect(),
            Self::Map(map) => map.into_iter().collect(),
        }
    }
}

fn sum(parts: &[Counts]) -> ByCode {
    let tables: Vec<&Vec<u32>> = parts.iter().flat_map(|part| &part.tables).collect();
    if let Some(first) = tables.first() {
        let mut table = vec![0_u64; first.len()];
        for other in tables {
            table.iter_mut().zip(other).for_each(|(sum, count)| *sum += u64::from(*count));
        }
        return ByCode::Table(table);
    }
    let mut map = HashMap::new();
    for (code, count) in parts.iter().flat_map(|part| &part.map) {
        *map.entry(*code).or_default() += *count;
    }
    ByCode::Map(map)
}

/// The most frequent, in order; equally frequent ones in the order of codes, which is that of values.
fn most_frequent(mut pairs: Vec<(u64, u64)>, groups_max: usize) -> Vec<(u64, u64)> {
    // One number that sorts as wanted, where both fit into it.
    const HALF: u64 = u32::MAX as u64;
    if pairs.iter().all(|(code, count)| *code <= HALF && *count <= HALF) {
        let mut keys: Vec<u64> = pairs.iter().map(|(code, count)| (HALF - count) << 32 | code).collect();
        if groups_max < keys.len() {
            keys.select_nth_unstable(groups_max);
            keys.truncate(groups_max);
        }
        keys.sort_unstable();
        return keys.into_iter().map(|key| (key & HALF, HALF - (key >> 32))).collect();
    }
    let order = |left: &(u64, u64), right: &(u64, u64)| right.1.cmp(&left.1).then(left.0.cmp(&right.0));
    if groups_max < pairs.len() {
        pairs.select_nth_unstable_by(groups_max, order);
        pairs.truncate(groups_max);
    }
    pairs.sort_unstable_by(order);
    pairs
}

#[cfg(test)]
mod tests {
    use super::most_frequent;

    #[test]
    fn large_counts_and_codes_keep_the_order() {
        let small = vec![(3, 5), (1, 5), (2, 9), (9, 1), (4, 5)];
        let large: Vec<(u64, u64)> = small.iter().map(|(code, count)| (code + (1 << 40), count << 33)).collect();
        for groups_max in 0..=6 {
            let expected: Vec<(u64, u64)> =
                [(2, 9), (1, 5), (3, 5), (4, 5), (9, 1)].into_iter().take(groups_max).collect();
            assert_eq!(most_frequent(small.clone(), groups_max), expected);
            let expected: Vec<(u64, u64)> =
                expected.into_iter().map(|(code, count)| (code + (1 << 40), count << 33)).collect();
            assert_eq!(most_frequent(large.clone(), groups_max), expected);
        }
    }
}
