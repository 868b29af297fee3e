//! The inverted index of one full-text attribute, and BM25 over it.
//!
//! Slots only ever grow, so each term's postings are one append-only byte string: for each slot the distance from the
//! slot before, the term's count, and the distances between its positions, all as variable-length integers. Terms
//! live in one arena. Statistics (document count, document frequency, average length) count the rows that the reader
//! sees and that have the attribute; dead versions weigh nothing.

use crate::analyze::{Analysis, QueryToken};
use crate::filter_bitmap::Bitmap;
use crate::schema::FullText;
use crate::value::Value;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// The length of a row that has no value, to tell it from an empty text.
const ABSENT: u32 = u32::MAX;
/// In a map of slots: the slot is gone.
pub const SLOT_GONE: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
struct Postings {
    bytes: Vec<u8>,
    last_slot: u32,
}

/// Postings of one attribute over slots.
#[derive(Clone, Debug)]
pub struct TextIndex {
    analysis: Analysis,
    k1: f64,
    b: f64,
    k3: f64,
    arena: String,
    /// Where each term ends in the arena.
    term_ends: Vec<u32>,
    terms: HashTable<u32>,
    hasher: DefaultHashBuilder,
    postings: Vec<Postings>,
    /// Tokens per slot, or [`ABSENT`].
    lengths: Vec<u32>,
    scratch: Vec<(u32, u32)>,
}

/// What a row must contain.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenQuery {
    pub tokens: Vec<QueryToken>,
    /// The last token stands for every term that begins with it.
    pub last_as_prefix: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRule {
    All,
    Any,
    Sequence,
}

impl TextIndex {
    /// Settings must have passed [`Analysis::new`]; others are read as the default analysis.
    #[must_use]
    pub fn new(config: &FullText) -> Self {
        let analysis = Analysis::new(config)
            .unwrap_or_else(|_| Analysis::new(&FullText::default()).unwrap_or(Analysis::PreTokenized));
        Self {
            analysis,
            k1: config.k1,
            b: config.b,
            k3: config.k3,
            arena: String::new(),
            term_ends: Vec::new(),
            terms: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            postings: Vec::new(),
            lengths: Vec::new(),
            scratch: Vec::new(),
        }
    }

    #[must_use]
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// Indexes the value of a slot. Slots come in ascending order; a slot that is left out counts as null.
    pub fn insert(&mut self, slot: u32, value: &Value) {
        debug_assert!(slot as usize >= self.lengths.len(), "slots come in ascending order");
        if matches!(value, Value::Null) {
            return;
        }
        let mut found = std::mem::take(&mut self.scratch);
        let analysis = self.analysis.clone();
        analysis.each_token(value, |token, position| found.push((self.intern(token), position)));
        self.lengths.resize(slot as usize, ABSENT);
        self.lengths.push(u32::try_from(found.len()).unwrap_or(ABSENT - 1));
        found.sort_unstable();
        for run in found.chunk_by(|left, right| left.0 == right.0) {
            let postings = &mut self.postings[run[0].0 as usize];
            postings.begin(slot, run.len());
            let mut previous = 0;
            for (_, position) in run {
                put_varint(&mut postings.bytes, position - previous);
                previous = *position;
            }
        }
        found.clear();
        self.scratch = found;
    }

    /// The same index over renumbered slots. `map[old]` is the new slot or [`SLOT_GONE`], ascending. Terms that no
    /// slot holds any more are forgotten.
    #[must_use]
    pub fn remap(&self, map: &[u32]) -> Self {
        let mut fresh = Self {
            arena: String::new(),
            term_ends: Vec::new(),
            terms: HashTable::new(),
            postings: Vec::new(),
            lengths: Vec::new(),
            scratch: Vec::new(),
            analysis: self.analysis.clone(),
            hasher: self.hasher,
            ..*self
        };
        for (old, length) in self.lengths.iter().enumerate() {
            let slot = map.get(old).copied().unwrap_or(SLOT_GONE);
            if slot != SLOT_GONE && *length != ABSENT {
                fresh.lengths.resize(slot as usize, ABSENT);
                fresh.lengths.push(*length);
            }
        }
        for (term, postings) in self.postings.iter().enumerate() {
            let mut kept = Postings::default();
            let mut reader = postings.reader();
            while let Some((old, count)) = reader.next_slot() {
                let slot = map.get(old as usize).copied().unwrap_or(SLOT_GONE);
                if slot != SLOT_GONE {
                    kept.begin(slot, count as usize);
                    kept.bytes.extend_from_slice(reader.raw_positions());
                }
            }
            if !kept.bytes.is_empty() {
                kept.bytes.shrink_to_fit();
                let fresh_term = fresh.intern(self.term(term));
                fresh.postings[fresh_term as usize] = kept;
            }
        }
        fresh
    }

    /// Bytes on the heap, roughly.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let postings: usize = self.postings.iter().map(|postings| postings.bytes.capacity()).sum();
        postings
            + self.postings.capacity() * size_of::<Postings>()
            + self.arena.capacity()
            + self.lengths.capacity() * size_of::<u32>()
            + self.term_ends.capacity() * size_of::<u32>()
            + self.terms.capacity() * size_of::<u32>() * 2
    }

    /// BM25 by slot for the slots in `visible` (all of them if None); zero where nothing matches.
    ///
    /// Per term: `idf · tf(k1+1)/(tf+k1(1−b+b·dl/avgdl)) · (k3+1)q/(k3+q)` with `idf = ln(1+(N−df+½)/(df+½))`. A
    /// prefix adds 1 for each row that has a term beginning with it.
    #[must_use]
    pub fn bm25(&self, query: &TokenQuery, visible: Option<&Bitmap>) -> Vec<f32> {
        let sees = |slot: u32| visible.is_none_or(|bitmap| bitmap.get(slot));
        let mut scores = vec![0.0_f32; self.lengths.len()];
        let (rows, mean_length) = self.statistics(&sees);
        let mut counted = query.tokens.clone();
        let prefix = if query.last_as_prefix { counted.pop() } else { None };
        counted.sort_by(|left, right| left.text.cmp(&right.text));
        let mut matches: Vec<(u32, u32)> = Vec::new();
        for run in counted.chunk_by(|left, right| left.text == right.text) {
            let Some(term) = self.find(&run[0].text) else { continue };
            matches.clear();
            let mut reader = self.postings[term as usize].reader();
            while let Some((slot, count)) = reader.next_slot() {
                if sees(slot) {
                    matches.push((slot, count));
                }
            }
            let frequency = matches.len() as f64;
            let idf = (1.0 + (rows as f64 - frequency + 0.5) / (frequency + 0.5)).ln();
            let repeats = run.len() as f64;
            let weight = idf * (self.k3 + 1.0) * repeats / (self.k3 + repeats) * (self.k1 + 1.0);
            for (slot, count) in &matches {
                let count = f64::from(*count);
                let length = f64::from(self.lengths[*slot as usize]) / mean_length;
                let score = weight * count / (count + self.k1 * (1.0 - self.b + self.b * length));
                #[allow(clippy::cast_possible_truncation)] // Scores are answered as singles.
                let score = score as f32;
                scores[*slot as usize] += score;
            }
        }
        if let Some(prefix) = prefix {
            for slot in self.slots_with_prefix(&prefix.text).iter().filter(|slot| sees(*slot)) {
                scores[slot as usize] += 1.0;
            }
        }
        scores
    }

    /// The slots, dead ones among them, that satisfy the rule.
    #[must_use]
    pub fn matching(&self, query: &TokenQuery, rule: TokenRule) -> Bitmap {
        match rule {
            TokenRule::Sequence => self.matching_sequence(&query.tokens),
            TokenRule::Any => {
                let mut union = Bitmap::empty(self.lengths.len());
                for slots in self.slots_by_token(query) {
                    slots.iter().for_each(|slot| union.set(slot));
                }
                union
            }
            TokenRule::All => {
                let each = self.slots_by_token(query);
                let mut all = Bitmap::empty(self.lengths.len());
                match each.split_first() {
                    None => self.slots_with_value().for_each(|slot| all.set(slot)),
                    Some((first, others)) => first
                        .iter()
                        .filter(|slot| others.iter().all(|other| other.get(*slot)))
                        .for_each(|slot| all.set(slot)),
                }
                all
            }
        }
    }

    fn matching_sequence(&self, tokens: &[QueryToken]) -> Bitmap {
        let mut found = Bitmap::empty(self.lengths.len());
        let Some(first) = tokens.first() else {
            self.slots_with_value().for_each(|slot| found.set(slot));
            return found;
        };
        let mut readers = Vec::with_capacity(tokens.len());
        for token in tokens {
            let Some(term) = self.find(&token.text) else { return found };
            readers.push((token.position - first.position, self.postings[term as usize].reader()));
        }
        let mut target = 0;
        let mut positions = vec![Vec::new(); tokens.len()];
        'slots: loop {
            let mut aligned = true;
            for (_, reader) in &mut readers {
                while reader.slot.is_none_or(|slot| slot < target) {
                    if reader.next_slot().is_none() {
                        break 'slots;
                    }
                }
                if let Some(slot) = reader.slot.filter(|slot| *slot > target) {
                    target = slot;
                    aligned = false;
                }
            }
            if !aligned {
                continue;
            }
            for ((_, reader), places) in readers.iter().zip(&mut positions) {
                reader.positions(places);
            }
            let (head, rest) = positions.split_at(1);
            let starts_here = |start: u32| {
                rest.iter()
                    .zip(&readers[1..])
                    .all(|(places, (offset, _))| places.binary_search(&(start + offset)).is_ok())
            };
            if head[0].iter().any(|start| starts_here(*start)) {
                found.set(target);
            }
            target += 1;
        }
        found
    }

    fn slots_by_token(&self, query: &TokenQuery) -> Vec<Bitmap> {
        let last = query.tokens.len().wrapping_sub(1);
        query
            .tokens
            .iter()
            .enumerate()
            .map(|(index, token)| {
                if query.last_as_prefix && index == last {
                    return self.slots_with_prefix(&token.text);
                }
                let mut slots = Bitmap::empty(self.lengths.len());
                if let Some(term) = self.find(&token.text) {
                    self.postings[term as usize].each_slot(|slot| slots.set(slot));
                }
                slots
            })
            .collect()
    }

    fn slots_with_prefix(&self, prefix: &str) -> Bitmap {
        let mut slots = Bitmap::empty(self.lengths.len());
        for (term, postings) in self.postings.iter().enumerate() {
            if self.term(term).as_bytes().starts_with(prefix.as_bytes()) {
                postings.each_slot(|slot| slots.set(slot));
            }
        }
        slots
    }

    fn slots_with_value(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.lengths).filter(|(_, length)| **length != ABSENT).map(|(slot, _)| slot)
    }

    /// How many visible rows have the attribute, and their mean length in tokens (at least a token, to divide by).
    fn statistics(&self, sees: &impl Fn(u32) -> bool) -> (u64, f64) {
        let (mut rows, mut tokens) = (0_u64, 0_u64);
        for (slot, length) in (0..).zip(&self.lengths) {
            if *length != ABSENT && sees(slot) {
                rows += 1;
                tokens += u64::from(*length);
            }
        }
        (rows, (tokens as f64 / rows.max(1) as f64).max(1.0))
    }

    fn term(&self, term: usize) -> &str {
        let start = if term == 0 { 0 } else { self.term_ends[term - 1] };
        &self.arena[start as usize..self.term_ends[term] as usize]
    }

    fn find(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        self.terms.find(hash, |term| self.term(*term as usize) == text).copied()
    }

    fn intern(&mut self, text: &str) -> u32 {
        if let Some(term) = self.find(text) {
            return term;
        }
        let term = u32::try_from(self.postings.len()).unwrap_or(u32::MAX);
        self.arena.push_str(text);
        self.term_ends.push(u32::try_from(self.arena.len()).unwrap_or(u32::MAX));
        self.postings.push(Postings::default());
        let (arena, ends, hasher) = (&self.arena, &self.term_ends, &self.hasher);
        let text_of = |term: u32| {
            let start = if term == 0 { 0 } else { ends[term as usize - 1] };
            &arena[start as usize..ends[term as usize] as usize]
        };
        self.terms.insert_unique(hasher.hash_one(text), term, |term| hasher.hash_one(text_of(*term)));
        term
    }
}

/// Whether a text that is in no index satisfies the rule: the index's slow twin, for single rows.
#[must_use]
pub fn text_matches(analysis: &Analysis, value: &Value, query: &TokenQuery, rule: TokenRule) -> bool {
    if matches!(value, Value::Null) {
        return false;
    }
    let mut tokens = Vec::new();
    analysis.each_token(value, |text, position| tokens.push(QueryToken { text: text.to_owned(), position }));
    let last = query.tokens.len().wrapping_sub(1);
    let present = |(index, wanted): (usize, &QueryToken)| {
        tokens.iter().any(|token| {
            token.text == wanted.text || (query.last_as_prefix && index == last && token.text.starts_with(&wanted.text))
        })
    };
    match rule {
        TokenRule::All => query.tokens.iter().enumerate().all(present),
        TokenRule::Any => query.tokens.iter().enumerate().any(present),
        TokenRule::Sequence => {
            let Some(first) = query.tokens.first() else { return true };
            let at =
                |text: &str, position: u32| tokens.iter().any(|token| token.position == position && token.text == text);
            tokens.iter().any(|start| {
                query.tokens.iter().all(|wanted| at(&wanted.text, start.position + wanted.position - first.position))
            })
        }
    }
}

impl Postings {
    fn begin(&mut self, slot: u32, count: usize) {
        put_varint(&mut self.bytes, slot - self.last_slot);
        put_varint(&mut self.bytes, u32::try_from(count).unwrap_or(u32::MAX));
        self.last_slot = slot;
    }

    fn reader(&self) -> Reader<'_> {
        Reader { bytes: &self.bytes, at: 0, positions_at: 0, count: 0, slot: None }
    }

    fn each_slot(&self, mut visit: impl FnMut(u32)) {
        let mut reader = self.reader();
        while let Some((slot, _)) = reader.next_slot() {
            visit(slot);
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    positions_at: usize,
    count: u32,
    slot: Option<u32>,
}

impl Reader<'_> {
    fn next_slot(&mut self) -> Option<(u32, u32)> {
        if self.at == self.bytes.len() {
            return None;
        }
        let slot = self.slot.unwrap_or(0) + take_varint(self.bytes, &mut self.at);
        self.count = take_varint(self.bytes, &mut self.at);
        self.slot = Some(slot);
        self.positions_at = self.at;
        let mut left = self.count;
        while left > 0 {
            left -= u32::from(self.bytes[self.at] < 0x80);
            self.at += 1;
        }
        Some((slot, self.count))
    }

    fn raw_positions(&self) -> &[u8] {
        &self.bytes[self.positions_at..self.at]
    }

    fn positions(&self, places: &mut Vec<u32>) {
        places.clear();
        let (mut at, mut position) = (self.positions_at, 0);
        for _ in 0..self.count {
            position += take_varint(self.bytes, &mut at);
            places.push(position);
        }
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

fn take_varint(bytes: &[u8], at: &mut usize) -> u32 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
        shift += 7;
    }
}

#[cfg(test)]
#[path = "fts_tests.rs"]
mod tests;
