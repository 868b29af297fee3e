//! A set of slots, one bit each.

const WORD_BITS: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    /// No slot of `len` is in the set.
    #[must_use]
    pub fn empty(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(WORD_BITS)], len }
    }

    /// Joins sets over consecutive slot ranges; every part but the last covers a multiple of 64 slots.
    #[must_use]
    pub fn concat(parts: Vec<Bitmap>) -> Self {
        let mut whole = Bitmap::default();
        for part in parts {
            debug_assert_eq!(whole.len % WORD_BITS, 0);
            whole.words.extend(part.words);
            whole.len += part.len;
        }
        whole
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub fn set(&mut self, slot: u32) {
        self.words[slot as usize / WORD_BITS] |= 1 << (slot as usize % WORD_BITS);
    }

    #[must_use]
    pub fn get(&self, slot: u32) -> bool {
        let slot = slot as usize;
        slot < self.len && self.words[slot / WORD_BITS] >> (slot % WORD_BITS) & 1 == 1
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Slots of the set below `end` and from `start`, ascending.
    pub fn iter_range(&self, start: u32, end: u32) -> impl Iterator<Item = u32> + '_ {
        let first_word = start as usize / WORD_BITS;
        let words = self.words.get(first_word..).unwrap_or_default();
        words
            .iter()
            .enumerate()
            .flat_map(move |(index, word)| OnesOf { word: *word, base: ((first_word + index) * WORD_BITS) as u64 })
            .skip_while(move |slot| *slot < start)
            .take_while(move |slot| *slot < end)
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter_range(0, u32::MAX)
    }
}

struct OnesOf {
    word: u64,
    base: u64,
}

impl Iterator for OnesOf {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.word == 0 {
            return None;
        }
        let bit = u64::from(self.word.trailing_zeros());
        self.word &= self.word - 1;
        u32::try_from(self.base + bit).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Bitmap;

    #[test]
    fn set_bits_come_back_in_order_and_only_within_the_range() {
        let mut bitmap = Bitmap::empty(200);
        for slot in [0, 63, 64, 130, 199] {
            bitmap.set(slot);
        }
        assert_eq!(bitmap.iter().collect::<Vec<_>>(), [0, 63, 64, 130, 199]);
        assert_eq!(bitmap.iter_range(63, 199).collect::<Vec<_>>(), [63, 64, 130]);
        assert_eq!(bitmap.count(), 5);
        assert!(bitmap.get(130) && !bitmap.get(131) && !bitmap.get(5000));
    }

    #[test]
    fn concat_keeps_positions() {
        let mut low = Bitmap::empty(128);
        low.set(127);
        let mut high = Bitmap::empty(3);
        high.set(2);
        assert_eq!(Bitmap::concat(vec![low, high]).iter().collect::<Vec<_>>(), [127, 130]);
    }
}
