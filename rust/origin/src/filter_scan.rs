//! A filter over a whole table: the set of slots that a reader sees and that meet it.

use crate::filter::{Filter, IdTest, Node, Row, Test};
use crate::filter_bitmap::Bitmap;
use crate::knn::scan_in_parts;
use crate::table::Table;
use crate::value::Id;

/// The slots of a table that a reader at `seq` sees; None stands for all of them.
#[must_use]
pub fn visible(table: &Table, seq: u64) -> Option<Bitmap> {
    if seq >= table.head && table.living_rows == table.slots.len() {
        return None;
    }
    let parts = scan_in_parts(table.slots.len(), |start, end| {
        let mut part = Bitmap::empty((end - start) as usize);
        for (offset, slot) in (0..).zip(&table.slots[start as usize..end as usize]) {
            if slot.born <= seq && seq < slot.dead {
                part.set(offset);
            }
        }
        part
    });
    Some(Bitmap::concat(parts))
}

impl Filter {
    /// The slots in `visible` (all if None) that meet the condition.
    #[must_use]
    pub fn scan(&self, table: &Table, seq: u64, visible: Option<&Bitmap>) -> Bitmap {
        let tokens = self.token_bitmaps(table);
        let row = |slot| Row { table, slot, new: None, tokens: Some(&tokens) };
        if let Some(ids) = self.pinned_ids() {
            let mut found = Bitmap::empty(table.slots.len());
            let slots = ids.iter().filter_map(|id| table.get(id, seq));
            slots.filter(|slot| self.root.matches(row(*slot))).for_each(|slot| found.set(slot));
            return found;
        }
        Bitmap::concat(scan_in_parts(table.slots.len(), |start, end| {
            let mut part = Bitmap::empty((end - start) as usize);
            let mut visit = |slot: u32| {
                if self.root.matches(row(slot)) {
                    part.set(slot - start);
                }
            };
            match visible {
                None => (start..end).for_each(&mut visit),
                Some(bitmap) => bitmap.iter_range(start, end).for_each(&mut visit),
            }
            part
        }))
    }

    /// For each token condition, the slots that meet it. Asking the index once replaces analysing each row's text.
    #[must_use]
    pub fn token_bitmaps(&self, table: &Table) -> Vec<Bitmap> {
        let mut bitmaps = vec![Bitmap::default(); self.token_leaves];
        fill_token_bitmaps(&self.root, table, &mut bitmaps);
        bitmaps
    }

    /// The ids outside of which no row can meet the condition, where the condition says so.
    fn pinned_ids(&self) -> Option<&[Id]> {
        match &self.root {
            Node::And(nodes) => nodes.iter().find_map(listed_ids),
            node => listed_ids(node),
        }
    }
}

fn listed_ids(node: &Node) -> Option<&[Id]> {
    match node {
        Node::Id(IdTest::In(ids)) => Some(ids),
        _ => None,
    }
}

fn fill_token_bitmaps(node: &Node, table: &Table, bitmaps: &mut [Bitmap]) {
    match node {
        Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| fill_token_bitmaps(node, table, bitmaps)),
        Node::Not(node) => fill_token_bitmaps(node, table, bitmaps),
        Node::Attribute(ordinal, Test::Tokens { leaf, query, rule, analysis }) => {
            bitmaps[*leaf] = match table.texts.get(ordinal) {
                Some(index) => index.matching(query, *rule),
                None => {
                    let mut found = Bitmap::empty(table.slots.len());
                    for slot in 0..u32::try_from(table.slots.len()).unwrap_or(u32::MAX) {
                        if crate::fts::text_matches(analysis, table.value(slot, *ordinal), query, *rule) {
                            found.set(slot);
                        }
                    }
                    found
                }
            };
        }
        _ => {}
    }
}
