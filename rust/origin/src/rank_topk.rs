//! The best `limit` items of a stream, in memory bounded by the limit.

use std::cmp::Ordering;

const BUFFER_ITEMS_MIN: usize = 64;

/// Keeps the items that come first by `compare`, which must be a total order.
pub struct TopK<T, F> {
    limit: usize,
    buffer: Vec<T>,
    buffer_items_max: usize,
    compare: F,
    /// The buffer begins with this many of the best items so far, the worst of them at the end of that part.
    settled: bool,
}

impl<T, F: Fn(&T, &T) -> Ordering> TopK<T, F> {
    /// `limit` is at least one.
    pub fn new(limit: usize, compare: F) -> Self {
        let limit = limit.max(1);
        let buffer_items_max = (limit * 2).max(BUFFER_ITEMS_MIN);
        Self { limit, buffer: Vec::new(), buffer_items_max, compare, settled: false }
    }

    pub fn push(&mut self, item: T) {
        if self.settled && (self.compare)(&item, &self.buffer[self.limit - 1]) != Ordering::Less {
            return;
        }
        self.buffer.push(item);
        if self.buffer.len() == self.buffer_items_max {
            self.buffer.select_nth_unstable_by(self.limit - 1, &self.compare);
            self.buffer.truncate(self.limit);
            self.settled = true;
        }
    }

    /// The items kept, best first.
    pub fn into_sorted(mut self) -> Vec<T> {
        self.buffer.sort_unstable_by(&self.compare);
        self.buffer.truncate(self.limit);
        self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::TopK;
    use crate::query_testing::Rng;

    #[test]
    fn it_keeps_what_a_full_sort_keeps() {
        let mut rng = Rng::new(7);
        for limit in [1, 2, 10, 63, 64, 200] {
            let items: Vec<u64> = (0..1000).map(|_| rng.below(500)).collect();
            let mut top = TopK::new(limit, u64::cmp);
            items.iter().for_each(|item| top.push(*item));
            let mut sorted = items;
            sorted.sort_unstable();
            sorted.truncate(limit);
            assert_eq!(top.into_sorted(), sorted, "limit {limit}");
        }
    }
}
