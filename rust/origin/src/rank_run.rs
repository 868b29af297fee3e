//! Carrying out a ranking over one snapshot of a table.

use crate::filter::{compare, Filter, Row};
use crate::filter_bitmap::Bitmap;
use crate::filter_scan::visible;
use crate::knn::{nearest, scan_in_parts, Probe};
use crate::rank::{Direction, Expression, OrderKey, Ranking};
use crate::rank_score::Scorer;
use crate::rank_topk::TopK;
use crate::table::{Metric, Table};
use crate::value::Value;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::cmp::Ordering;
use std::hash::{BuildHasher, Hash, Hasher};

/// A table as a reader at one sequence sees it.
pub struct Snapshot<'a> {
    pub table: &'a Table,
    pub seq: u64,
    /// None when every slot is visible.
    pub visible: Option<Bitmap>,
    pub rows: usize,
}

impl<'a> Snapshot<'a> {
    #[must_use]
    pub fn new(table: &'a Table, seq: u64) -> Self {
        let visible = visible(table, seq);
        let rows = visible.as_ref().map_or(table.slots.len(), Bitmap::count);
        Self { table, seq, visible, rows }
    }

    /// The slots that meet the filter; None when that is every slot.
    #[must_use]
    pub fn candidates(&self, filter: Option<&Filter>) -> Option<Bitmap> {
        match filter {
            Some(filter) => Some(filter.scan(self.table, self.seq, self.visible.as_ref())),
            None => self.visible.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    pub slot: u32,
    /// The distance or the score; attribute orders have neither.
    pub score: Option<f32>,
}

/// At most `limit` rows for each combination of the keys' values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitPerKey {
    pub keys: Vec<OrderKey>,
    pub limit: usize,
}

/// The first `window` rows of the ranking. Equal rows come by ascending id.
#[must_use]
pub fn run(
    ranking: &Ranking,
    snapshot: &Snapshot<'_>,
    filter: Option<&Filter>,
    window: usize,
    per: Option<&LimitPerKey>,
) -> Vec<Ranked> {
    match ranking {
        Ranking::Nearest { ordinal, query } => nearest_rows(*ordinal, query, snapshot, filter, window),
        Ranking::Score(expression) => scored_rows(expression, snapshot, filter, window),
        Ranking::Order(orders) => {
            let slots = match per {
                None => ordered_slots(orders, snapshot, filter, window),
                Some(per) => ordered_slots_per_key(orders, snapshot, filter, window, per),
            };
            slots.into_iter().map(|slot| Ranked { slot, score: None }).collect()
        }
    }
}

fn by_id(table: &Table, left: u32, right: u32) -> Ordering {
    table.slots[left as usize].id.cmp(&table.slots[right as usize].id)
}

fn nearest_rows(
    ordinal: usize,
    query: &[f32],
    snapshot: &Snapshot<'_>,
    filter: Option<&Filter>,
    window: usize,
) -> Vec<Ranked> {
    let table = snapshot.table;
    let Some(matrix) = table.vectors.get(&ordinal) else { return Vec::new() };
    let probe = Probe::new(query, table.metric.unwrap_or(Metric::Cosine));
    let candidates = snapshot.candidates(filter);
    nearest(matrix, &probe, window, candidates.as_ref(), &|left, right| by_id(table, left, right))
        .into_iter()
        .map(|hit| Ranked { slot: hit.slot, score: Some(hit.distance) })
        .collect()
}

fn scored_rows(
    expression: &Expression,
    snapshot: &Snapshot<'_>,
    filter: Option<&Filter>,
    window: usize,
) -> Vec<Ranked> {
    let table = snapshot.table;
    let scorer = Scorer::new(expression, table, snapshot.visible.as_ref());
    let skips_zero = expression.has_search();
    let tokens = filter.map(|filter| filter.token_bitmaps(table)).unwrap_or_default();
    let keeps = |slot: u32| {
        let row = Row { table, slot, new: None, tokens: Some(&tokens) };
        filter.is_none_or(|filter| filter.root.matches(row))
    };
    let order =
        |left: &(f32, u32), right: &(f32, u32)| right.0.total_cmp(&left.0).then_with(|| by_id(table, left.1, right.1));
    // The score comes first: a search leaves few rows, and only those are worth filtering.
    let best = best_of_parts(snapshot, window, order, snapshot.visible.as_ref(), |slot| {
        let score = scorer.score(slot);
        ((score != 0.0 || !skips_zero) && keeps(slot)).then_some((score, slot))
    });
    best.into_iter().map(|(score, slot)| Ranked { slot, score: Some(score) }).collect()
}

fn best_of_parts<T: Send>(
    snapshot: &Snapshot<'_>,
    window: usize,
    order: impl Fn(&T, &T) -> Ordering + Sync + Copy,
    candidates: Option<&Bitmap>,
    item: impl Fn(u32) -> Option<T> + Sync,
) -> Vec<T> {
    let parts = scan_in_parts(snapshot.table.slots.len(), |start, end| {
        let mut top = TopK::new(window, order);
        let mut visit = |slot: u32| {
            if let Some(item) = item(slot) {
                top.push(item);
            }
        };
        match candidates {
            None => (start..end).for_each(&mut visit),
            Some(bitmap) => bitmap.iter_range(start, end).for_each(&mut visit),
        }
        top.into_sorted()
    });
    let mut best = TopK::new(window, order);
    parts.into_iter().flatten().for_each(|item| best.push(item));
    best.into_sorted()
}

fn compare_rows(table: &Table, orders: &[(OrderKey, Direction)], left: u32, right: u32) -> Ordering {
    for (key, direction) in orders {
        let order = match key {
            OrderKey::Id => by_id(table, left, right),
            OrderKey::Attribute(ordinal) => compare(table.value(left, *ordinal), table.value(right, *ordinal)),
        };
        let order = if *direction == Direction::Descending { order.reverse() } else { order };
        if order.is_ne() {
            return order;
        }
    }
    by_id(table, left, right)
}

fn ordered_slots(
    orders: &[(OrderKey, Direction)],
    snapshot: &Snapshot<'_>,
    filter: Option<&Filter>,
    window: usize,
) -> Vec<u32> {
    let candidates = snapshot.candidates(filter);
    let order = |left: &u32, right: &u32| compare_rows(snapshot.table, orders, *left, *right);
    best_of_parts(snapshot, window, order, candidates.as_ref(), Some)
}

fn ordered_slots_per_key(
    orders: &[(OrderKey, Direction)],
    snapshot: &Snapshot<'_>,
    filter: Option<&Filter>,
    window: usize,
    per: &LimitPerKey,
) -> Vec<u32> {
    let table = snapshot.table;
    let mut slots: Vec<u32> = match snapshot.candidates(filter) {
        Some(bitmap) => bitmap.iter().collect(),
        None => (0..u32::try_from(table.slots.len()).unwrap_or(u32::MAX)).collect(),
    };
    slots.sort_unstable_by(|left, right| compare_rows(table, orders, *left, *right));
    let hasher = DefaultHashBuilder::default();
    // One representative slot per combination of values, and how often the combination was taken.
    let mut taken: HashTable<(u32, usize)> = HashTable::new();
    let mut chosen = Vec::with_capacity(window);
    for slot in slots {
        let hash = hash_keys(table, &per.keys, slot, &hasher);
        let same = |other: &(u32, usize)| per.keys.iter().all(|key| same_key(table, *key, slot, other.0));
        let entry = taken.entry(hash, same, |other| hash_keys(table, &per.keys, other.0, &hasher));
        let mut entry = entry.or_insert((slot, 0));
        let (_, count) = entry.get_mut();
        if *count < per.limit {
            *count += 1;
            chosen.push(slot);
            if chosen.len() == window {
                break;
            }
        }
    }
    chosen
}

fn same_key(table: &Table, key: OrderKey, left: u32, right: u32) -> bool {
    match key {
        OrderKey::Id => by_id(table, left, right).is_eq(),
        OrderKey::Attribute(ordinal) => table.value(left, ordinal) == table.value(right, ordinal),
    }
}

fn hash_keys(table: &Table, keys: &[OrderKey], slot: u32, builder: &DefaultHashBuilder) -> u64 {
    let mut hasher = builder.build_hasher();
    for key in keys {
        match key {
            OrderKey::Id => table.slots[slot as usize].id.hash(&mut hasher),
            OrderKey::Attribute(ordinal) => hash_value(table.value(slot, *ordinal), &mut hasher),
        }
    }
    hasher.finish()
}

/// Feeds a value to a hasher; equal values feed equal bytes.
pub fn hash_value(value: &Value, hasher: &mut impl Hasher) {
    match value {
        Value::Null => hasher.write_u8(0),
        Value::Str(text) => text.hash(hasher),
        Value::Int(number) | Value::Datetime(number) => number.hash(hasher),
        Value::Uint(number) => number.hash(hasher),
        // Minus zero equals zero.
        Value::Float(number) => (number + 0.0).to_bits().hash(hasher),
        Value::Bool(flag) => flag.hash(hasher),
        Value::Uuid(bits) => bits.hash(hasher),
        Value::Array(items) => items.iter().for_each(|item| hash_value(item, hasher)),
        Value::Sparse(entries) => entries.iter().for_each(|(dim, weight)| {
            dim.hash(hasher);
            weight.to_bits().hash(hasher);
        }),
    }
}
