//! Arrays of codes and the loops over them. A mask has one byte per row, 0 or 1, so that the compiler can vectorise
//! every loop here.

/// Codes of one width, borrowed from a segment.
#[derive(Clone, Copy, Debug)]
pub enum Codes<'a> {
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
}

/// How a test's answer meets the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    Set,
    And,
    Or,
}

/// An unsigned integer that a column may be made of.
pub trait Code: Copy + Eq + Ord + Send + Sync + 'static {
    fn truncated(code: u64) -> Self;
    fn widened(self) -> u64;
    /// Whether `self - low < span`, the difference wrapping.
    fn within(self, low: Self, span: Self) -> bool;
}

macro_rules! code {
    ($($kind:ty),*) => {$(
        impl Code for $kind {
            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, clippy::inline_always)] // the width was chosen to fit
            fn truncated(code: u64) -> Self {
                code as Self
            }
            #[inline(always)]
            #[allow(clippy::inline_always)]
            fn widened(self) -> u64 {
                self.into()
            }
            #[inline(always)]
            #[allow(clippy::inline_always)]
            fn within(self, low: Self, span: Self) -> bool {
                self.wrapping_sub(low) < span
            }
        }
    )*};
}
code!(u8, u16, u32, u64);

/// Runs `$body` with `$slice` bound to the typed slice of `$codes`.
#[macro_export]
macro_rules! with_codes {
    ($codes:expr, $slice:ident => $body:expr) => {
        match $codes {
            $crate::columns::codes::Codes::U8($slice) => $body,
            $crate::columns::codes::Codes::U16($slice) => $body,
            $crate::columns::codes::Codes::U32($slice) => $body,
            $crate::columns::codes::Codes::U64($slice) => $body,
        }
    };
}

impl<'a> Codes<'a> {
    #[must_use]
    pub fn len(self) -> usize {
        with_codes!(self, slice => slice.len())
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[must_use]
    pub fn slice(self, from: usize, to: usize) -> Codes<'a> {
        match self {
            Self::U8(codes) => Self::U8(&codes[from..to]),
            Self::U16(codes) => Self::U16(&codes[from..to]),
            Self::U32(codes) => Self::U32(&codes[from..to]),
            Self::U64(codes) => Self::U64(&codes[from..to]),
        }
    }

    #[must_use]
    pub fn get(self, index: usize) -> u64 {
        with_codes!(self, slice => slice[index].widened())
    }

    /// Bits of one code.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::U8(_) => 8,
            Self::U16(_) => 16,
            Self::U32(_) => 32,
            Self::U64(_) => 64,
        }
    }
}

/// Codes that a test accepts, when they are no single range.
#[derive(Clone, Debug)]
pub enum CodeSet {
    /// One byte for each code.
    Table(Vec<u8>),
    /// Sorted; for domains too large for a table.
    Sorted(Vec<u64>),
}

impl CodeSet {
    #[must_use]
    pub fn contains(&self, code: u64) -> bool {
        match self {
            Self::Table(table) => {
                usize::try_from(code).ok().and_then(|code| table.get(code)).is_some_and(|byte| *byte != 0)
            }
            Self::Sorted(codes) => codes.binary_search(&code).is_ok(),
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)] // each caller is compiled for its own instruction set
fn combine(mask: &mut [u8], how: Combine, answers: impl Iterator<Item = u8>) {
    match how {
        Combine::Set => mask.iter_mut().zip(answers).for_each(|(place, answer)| *place = answer),
        Combine::And => mask.iter_mut().zip(answers).for_each(|(place, answer)| *place &= answer),
        Combine::Or => mask.iter_mut().zip(answers).for_each(|(place, answer)| *place |= answer),
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn range_loop<T: Code>(codes: &[T], low: T, span: T, how: Combine, mask: &mut [u8]) {
    combine(mask, how, codes.iter().map(|code| u8::from(code.within(low, span))));
}

/// Compiles a loop twice, for AVX2 and for any processor, and picks one at run time.
macro_rules! by_processor {
    ($name:ident, $wide:ident, $inner:ident, <$T:ident: Code>($($argument:ident: $kind:ty),*)) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        fn $wide<$T: Code>($($argument: $kind),*) {
            $inner($($argument),*);
        }

        pub fn $name<$T: Code>($($argument: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                return unsafe { $wide($($argument),*) };
            }
            $inner($($argument),*);
        }
    };
}

by_processor!(range_of, range_wide, range_loop, <T: Code>(codes: &[T], low: T, span: T, how: Combine, mask: &mut [u8]));

/// Rows whose code is in `low .. low + span`, wrapping in the width of the codes.
pub fn range(codes: Codes<'_>, low: u64, span: u64, how: Combine, mask: &mut [u8]) {
    with_codes!(codes, slice => range_of(slice, Code::truncated(low), Code::truncated(span), how, mask));
}

/// Rows whose code is in the set.
pub fn set(codes: Codes<'_>, set: &CodeSet, how: Combine, mask: &mut [u8]) {
    with_codes!(codes, slice => match set {
        CodeSet::Table(table) => {
            combine(mask, how, slice.iter().map(|code| table[usize::try_from(code.widened()).unwrap_or(0)]));
        }
        CodeSet::Sorted(_) => combine(mask, how, slice.iter().map(|code| u8::from(set.contains(code.widened())))),
    });
}

/// Rows with some element whose code meets the test. `places` has one more entry than rows: where each row's elements
/// begin among `codes`.
pub fn any<T: Code>(codes: &[T], places: &[u32], how: Combine, mask: &mut [u8], test: impl Fn(T) -> bool) {
    let mut at = places[0] as usize;
    let answers = places[1..].iter().map(|end| {
        let end = *end as usize;
        let mut met = false;
        for code in &codes[at..end] {
            met |= test(*code);
        }
        at = end;
        u8::from(met)
    });
    combine(mask, how, answers);
}

/// Combines one mask with another, negated or not.
pub fn merge(other: &[u8], negate: bool, how: Combine, mask: &mut [u8]) {
    let flip = u8::from(negate);
    combine(mask, how, other.iter().map(|byte| byte ^ flip));
}

/// How many bytes of a mask are set.
#[must_use]
pub fn count(mask: &[u8]) -> u64 {
    // Bytes of a word add up side by side for as long as none can overflow.
    let (words, rest) = mask.as_chunks::<8>();
    let mut total = rest.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    for block in words.chunks(255) {
        let sums = block.iter().fold(0_u64, |sums, word| sums + u64::from_le_bytes(*word));
        total += sums.to_le_bytes().iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    total
}

#[must_use]
pub fn is_zero(mask: &[u8]) -> bool {
    mask.iter().fold(0, |sum, byte| sum | byte) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_wrap_and_combine() {
        let codes: Vec<u8> = (0..=255).collect();
        let mut mask = vec![0; 256];
        range(Codes::U8(&codes), 250, 10, Combine::Set, &mut mask);
        let met: Vec<usize> = (0..256).filter(|at| mask[*at] == 1).collect();
        assert_eq!(met, [0, 1, 2, 3, 250, 251, 252, 253, 254, 255]);
        range(Codes::U8(&codes), 2, 250, Combine::And, &mut mask);
        assert_eq!(count(&mask), 4);
        range(Codes::U8(&codes), 100, 3, Combine::Or, &mut mask);
        assert_eq!(count(&mask), 7);
    }

    #[test]
    fn every_width_gives_the_same() {
        let small: Vec<u64> = (0..1000).map(|row| row * 7 % 251).collect();
        let narrow: Vec<u8> = small.iter().map(|code| Code::truncated(*code)).collect();
        let middle: Vec<u16> = small.iter().map(|code| Code::truncated(*code)).collect();
        let wide: Vec<u32> = small.iter().map(|code| Code::truncated(*code)).collect();
        let table = CodeSet::Table((0..251).map(|code| u8::from(code % 3 == 0)).collect());
        let sorted = CodeSet::Sorted((0..251).filter(|code| code % 3 == 0).collect());
        for codes in [Codes::U8(&narrow), Codes::U16(&middle), Codes::U32(&wide), Codes::U64(&small)] {
            let mut mask = vec![9; 1000];
            range(codes, 20, 60, Combine::Set, &mut mask);
            assert!(small.iter().zip(&mask).all(|(code, byte)| (20..80).contains(code) == (*byte == 1)));
            for set_of in [&table, &sorted] {
                set(codes, set_of, Combine::Set, &mut mask);
                assert!(small.iter().zip(&mask).all(|(code, byte)| (code % 3 == 0) == (*byte == 1)));
            }
        }
    }

    #[test]
    fn counts_long_masks() {
        let mask: Vec<u8> = (0..100_003).map(|row| u8::from(row % 7 != 0)).collect();
        assert_eq!(count(&mask), mask.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        assert_eq!(count(&vec![1; 8192]), 8192);
        assert!(is_zero(&[0; 9]) && !is_zero(&[0, 1]));
    }

    #[test]
    fn any_element() {
        let (codes, places) = ([3_u16, 5, 9, 5], [0, 2, 2, 3, 4]);
        let mut mask = [7; 4];
        any(&codes, &places, Combine::Set, &mut mask, |code| code == 5);
        assert_eq!(mask, [1, 0, 0, 1]);
    }
}
