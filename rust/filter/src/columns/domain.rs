//! What the codes of a column stand for.

use crate::compile::ScalarTest;
use crate::parse::Comparison;
use crate::schema::{Scalar, ScalarRef};

#[derive(Clone, Copy, Debug)]
pub enum Domain<'a> {
    /// Code `c` is `base + (c − 1)`; `count` codes.
    Range { base: i64, count: u64 },
    /// Sorted, each once.
    Numbers(&'a [i64]),
    /// Big-endian.
    Uuids(&'a [[u8; 16]]),
    /// Sorted by bytes; entry `i` is `bytes[places[i]..places[i + 1]]`.
    Texts { places: &'a [u64], bytes: &'a [u8] },
}

/// Codes from the first to before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeRange {
    pub from: u64,
    pub to: u64,
}

impl<'a> Domain<'a> {
    /// How many values there are; the codes are `1..=len`.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Range { count, .. } => *count,
            Self::Numbers(numbers) => numbers.len() as u64,
            Self::Uuids(uuids) => uuids.len() as u64,
            Self::Texts { places, .. } => places.len().saturating_sub(1) as u64,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a code other than 0.
    #[must_use]
    pub fn value(&self, code: u64) -> ScalarRef<'a> {
        let index = usize::try_from(code.wrapping_sub(1)).unwrap_or(usize::MAX);
        match self {
            Self::Range { base, .. } => ScalarRef::Number(base.wrapping_add_unsigned(code.wrapping_sub(1))),
            Self::Numbers(numbers) => ScalarRef::Number(numbers[index]),
            Self::Uuids(uuids) => ScalarRef::Uuid(u128::from_be_bytes(uuids[index])),
            Self::Texts { places, bytes } => {
                let text = usize::try_from(places[index])
                    .ok()
                    .zip(usize::try_from(places[index + 1]).ok())
                    .and_then(|(from, to)| bytes.get(from..to))
                    .unwrap_or_default();
                ScalarRef::Text(std::str::from_utf8(text).unwrap_or_default())
            }
        }
    }

    /// How many values are smaller.
    fn below(&self, value: ScalarRef<'_>) -> u64 {
        self.partition(|entry| entry < value)
    }

    /// How many values are not larger.
    fn up_to(&self, value: ScalarRef<'_>) -> u64 {
        self.partition(|entry| entry <= value)
    }

    fn partition(&self, before: impl Fn(ScalarRef<'_>) -> bool) -> u64 {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.value(middle + 1)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The codes that meet a comparison with a value; null's code is among them for `Lt` and `Lte` when `null` is set.
    #[must_use]
    pub fn compare(&self, comparison: Comparison, value: ScalarRef<'_>, null: bool) -> CodeRange {
        let first = u64::from(!null);
        let end = self.len() + 1;
        match comparison {
            Comparison::Lt => CodeRange { from: first, to: 1 + self.below(value) },
            Comparison::Lte => CodeRange { from: first, to: 1 + self.up_to(value) },
            Comparison::Gt => CodeRange { from: 1 + self.up_to(value), to: end },
            Comparison::Gte => CodeRange { from: 1 + self.below(value), to: end },
        }
    }

    /// The code of a value; None when no row has it.
    #[must_use]
    pub fn find(&self, value: ScalarRef<'_>) -> Option<u64> {
        let below = self.below(value);
        (below < self.len() && self.value(below + 1) == value).then_some(below + 1)
    }

    /// The codes that a test accepts, sorted; for tests that are no comparison.
    ///
    /// # Errors
    /// `keep_on` said no: it is asked every so many values.
    pub fn accepted(&self, test: &ScalarTest, keep_on: &dyn Fn() -> bool) -> Option<Vec<u64>> {
        match test {
            ScalarTest::Eq(value) => Some(self.find(value.borrowed()).into_iter().collect()),
            ScalarTest::In(list) => {
                Some(list.iter().map(Scalar::borrowed).filter_map(|value| self.find(value)).collect())
            }
            ScalarTest::Compare(comparison, value) => {
                let range = self.compare(*comparison, value.borrowed(), false);
                Some((range.from..range.to).collect())
            }
            ScalarTest::Pattern(_) => {
                let mut codes = Vec::new();
                for code in 1..=self.len() {
                    if code % CHECK_EVERY == 0 && !keep_on() {
                        return None;
                    }
                    if test.matches(self.value(code)) {
                        codes.push(code);
                    }
                }
                Some(codes)
            }
        }
    }
}

/// Patterns are tried on so many values between two looks at the clock: a value may take a pattern a millisecond.
const CHECK_EVERY: u64 = 32;
