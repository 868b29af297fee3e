//! Numbers of JSON text: what they are, exactly, and how the upstream prints them.
//!
//! The canonical text of a float is the shortest decimal that reads back as the same bits, with a point or an exponent
//! (`1.0`, `0.1`, `1e+16`); of an integer its decimal digits.

/// A JSON number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Int(i64),
    /// Over `i64::MAX`.
    Uint(u64),
    /// Any other, read to the nearest double: a fraction, an exponent, `-0`, an integer over 64 bits.
    Float(f64),
}

impl Number {
    /// Reads the text of a JSON number that was walked before; None when it is over the largest double.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if text != "-0" {
            if let Ok(number) = text.parse() {
                return Some(Self::Int(number));
            }
            if let Ok(number) = text.parse() {
                return Some(Self::Uint(number));
            }
        }
        text.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Float)
    }
}

/// Appends the canonical text of a finite double.
pub fn write_f64(number: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
}

/// Appends the canonical text of a finite single.
pub fn write_f32(number: f32, out: &mut Vec<u8>) {
    out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
}

/// Appends the digits of an integer.
pub fn write_int(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A decimal as JSON spells it: `digits * 10^exponent`, the sign apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    pub negative: bool,
    pub digits: u64,
    pub exponent: i32,
    /// Bytes of its text.
    pub length: usize,
    /// It has neither point nor exponent.
    pub is_integer: bool,
    /// It has no exponent.
    pub is_plain: bool,
}

/// Digits that a `u64` holds whatever they are.
const DIGITS_MAX: usize = 19;
const EXPONENT_DIGITS_MAX: usize = 4;

impl Decimal {
    /// Reads a number by the JSON grammar from the start of `text`; None when there is none, or one of over 19 digits
    /// or 4 digits of exponent.
    #[inline]
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let negative = text.first() == Some(&b'-');
        let start = usize::from(negative);
        let (whole, mut digits) = run(&text[start..], 0);
        if whole == 0 || whole > DIGITS_MAX || (whole > 1 && text[start] == b'0') {
            return None;
        }
        let mut at = start + whole;
        let mut exponent = 0;
        let (mut is_integer, mut is_plain) = (true, true);
        if text.get(at) == Some(&b'.') {
            is_integer = false;
            let (fraction, all) = run(&text[at + 1..], digits);
            if fraction == 0 || whole + fraction > DIGITS_MAX {
                return None;
            }
            digits = all;
            exponent = -i32::try_from(fraction).ok()?;
            at += 1 + fraction;
        }
        if matches!(text.get(at), Some(b'e' | b'E')) {
            (is_integer, is_plain) = (false, false);
            at += 1;
            let minus = text.get(at) == Some(&b'-');
            at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
            let (length, power) = run(&text[at..], 0);
            if length == 0 || length > EXPONENT_DIGITS_MAX {
                return None;
            }
            let power = i32::try_from(power).ok()?;
            exponent += if minus { -power } else { power };
            at += length;
        }
        Some(Self { negative, digits, exponent, length: at, is_integer, is_plain })
    }

    /// The nearest double, when one exact operation gives it, as every reader of decimals then does.
    #[inline]
    #[must_use]
    pub fn exact_f64(&self) -> Option<f64> {
        if self.digits >= 1 << 53 {
            return None;
        }
        #[allow(clippy::cast_precision_loss)] // under 2^53
        let digits = self.digits as f64;
        let power = *POWERS.get(usize::try_from(self.exponent.unsigned_abs()).ok()?)?;
        let number = if self.exponent < 0 { digits / power } else { digits * power };
        Some(if self.negative { -number } else { number })
    }

    /// The nearest single, by the double: None when that is too near the middle between two singles to tell.
    #[inline]
    #[must_use]
    pub fn nearest_f32(&self) -> Option<f32> {
        const LOST_BITS: u64 = (1 << 29) - 1;
        const MIDDLE: u64 = 1 << 28;
        let double = self.exact_f64()?;
        // Below, singles lose bits one by one.
        if double != 0.0 && double.abs() < f64::from(f32::MIN_POSITIVE) {
            return None;
        }
        if (double.to_bits() & LOST_BITS).abs_diff(MIDDLE) <= 1 {
            return None;
        }
        #[allow(clippy::cast_possible_truncation)] // it is meant
        let single = double as f32;
        single.is_finite().then_some(single)
    }
}

/// Whether this decimal, which reads as `single`, is surely the text that [`write_f32`] gives: the shortest that reads as
/// it and, of those, the nearest. False: it may be, or not.
#[inline]
#[must_use]
pub fn is_canonical(decimal: &Decimal, single: f32) -> bool {
    const DIGITS_MAX: u64 = 1_000_000_000;
    // More than what a product of doubles is off by.
    const DOUBT: f64 = 1e-15;
    let number = f64::from(single.abs());
    let fraction = usize::try_from(-decimal.exponent).unwrap_or(0);
    // A zero at the end is not the shortest but for `.0`. Outside of these bounds there may be an exponent.
    let is_usual = decimal.is_plain && !decimal.digits.is_multiple_of(10) && (1e-3..1e6).contains(&number);
    if !is_usual || fraction == 0 || fraction >= POWERS.len() || decimal.digits >= DIGITS_MAX {
        return false;
    }
    let neighbour = |bits: u32| f64::from(f32::from_bits(bits));
    let bits = single.abs().to_bits();
    // What lies between reads as the number. In units of the last digit but one, no whole number may.
    let least = f64::midpoint(neighbour(bits - 1), number) * POWERS[fraction - 1];
    let most = f64::midpoint(number, neighbour(bits + 1)) * POWERS[fraction - 1];
    #[allow(clippy::cast_precision_loss)] // under 2^53
    let (digits, below) = (decimal.digits as f64, (decimal.digits / 10) as f64);
    let is_shortest = below < least * (1.0 - DOUBT) && below + 1.0 > most * (1.0 + DOUBT);
    is_shortest && (digits - number * POWERS[fraction]).abs() < 0.5 - 1e-6
}

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The length of a run of digits and their value after `before`; the value is void over 19 digits.
#[inline]
fn run(text: &[u8], before: u64) -> (usize, u64) {
    let mut value = before;
    let mut length = 0;
    // Eight at a time: how many digits a number has is as good as random, so that a loop over them would be guessed wrong.
    while let Some(eight) = text.get(length..).and_then(<[u8]>::first_chunk::<8>) {
        let (count, digits) = eight_digits(*eight);
        value = value.wrapping_mul(TENS[count]).wrapping_add(digits);
        length += count;
        if count < 8 {
            return (length, value);
        }
    }
    while let Some(digit) = text.get(length).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        length += 1;
    }
    (length, value)
}

const TENS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// How many digits eight bytes begin with, and their value.
#[inline]
fn eight_digits(text: [u8; 8]) -> (usize, u64) {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let digits = u64::from_le_bytes(text) ^ 0x3030_3030_3030_3030;
    // A byte over 9 gets its high bit; what it carries goes to bytes after it, which do not count any more.
    let others = (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & HIGH;
    let count = others.trailing_zeros() / 8;
    // The last digit goes to the highest byte, with zeros before the first.
    let digits = digits.checked_shl(64 - 8 * count).unwrap_or(0);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let high = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    (count as usize, low.wrapping_add(high) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_they_say() {
        assert_eq!(Number::read("-9223372036854775808"), Some(Number::Int(i64::MIN)));
        assert_eq!(Number::read("9223372036854775808"), Some(Number::Uint(1 << 63)));
        assert_eq!(Number::read("18446744073709551616"), Some(Number::Float(18_446_744_073_709_551_616.0)));
        assert_eq!(Number::read("1e3"), Some(Number::Float(1000.0)));
        assert!(matches!(Number::read("-0"), Some(Number::Float(zero)) if zero.is_sign_negative()));
        assert_eq!(Number::read("1e400"), None);
    }

    #[test]
    fn decimals_read_as_the_grammar_says() {
        for text in ["0", "-0", "1", "-12.50", "1e3", "1E-7", "0.1e+2", "9999999999999999999"] {
            let decimal = Decimal::read(text.as_bytes()).expect(text);
            assert_eq!(decimal.length, text.len(), "{text}");
            if let Some(number) = decimal.exact_f64() {
                assert_eq!(number.to_bits(), text.parse::<f64>().expect(text).to_bits(), "{text}");
            }
        }
        for text in ["", "-", "01", "1.", ".5", "1e", "1e+", "12345678901234567890", "1e12345", "+1"] {
            assert_eq!(Decimal::read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Decimal::read(b"1.5,2").map(|decimal| decimal.length), Some(3));
    }

    #[test]
    fn runs_of_digits_are_read_eight_at_a_time_as_one_by_one() {
        for length in 0..=19_usize {
            for after in ["", ".", "e", ",\u{e9}12345678", "/", ":", "\u{0}", "-1234567", "\u{7f}99999999"] {
                for first in b"0159" {
                    let digits: String = (0..length)
                        .map(|at| char::from(b'0' + (first - b'0' + u8::try_from(at * 7 % 10).expect("a digit")) % 10))
                        .collect();
                    let text = format!("{digits}{after}");
                    let value = digits.parse::<u64>().unwrap_or(0);
                    assert_eq!(run(text.as_bytes(), 0), (length, value), "{text}");
                    if length < 18 {
                        let scale = 10_u64.pow(u32::try_from(length).expect("small"));
                        assert_eq!(run(text.as_bytes(), 7), (length, 7 * scale + value), "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_called_canonical_is_what_is_written() {
        let (mut seed, mut found, mut plain) = (7_u64, 0, 0);
        for round in 0..400_000_u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            #[allow(clippy::cast_possible_truncation)]
            let bits = (seed >> 32) as u32;
            // Any single; of the usual size; powers of two and what is beside them.
            let single = match round % 3 {
                0 => f32::from_bits(bits),
                1 => f32::from_bits(0x3f00_0000 ^ (bits & 0x80ff_ffff)),
                _ => f32::from_bits((bits & 0x0f80_0000 | 0x3800_0000).wrapping_add(bits % 3).wrapping_sub(1)),
            };
            if !single.is_finite() {
                continue;
            }
            let mut written = Vec::new();
            write_f32(single, &mut written);
            let written = String::from_utf8(written).expect("ASCII");
            let decimal = Decimal::read(written.as_bytes()).expect("a decimal");
            found += u32::from(is_canonical(&decimal, single));
            plain += u32::from(round % 3 == 1);
            // Others that read as the same number, and its last digit one more or less.
            let mut others = vec![format!("{written}0"), format!("{single:.7}"), format!("{single:.9}")];
            others.extend([1, -1].map(|step| {
                let mut digits = written.clone().into_bytes();
                let last = digits.len() - 1;
                digits[last] = u8::try_from(i32::from(digits[last]) + step).expect("a byte");
                String::from_utf8(digits).expect("ASCII")
            }));
            for other in others.iter().filter(|other| **other != written) {
                let Some(decimal) = Decimal::read(other.as_bytes()).filter(|found| found.length == other.len()) else {
                    continue;
                };
                if decimal.nearest_f32().map(f32::to_bits) == Some(single.to_bits()) {
                    assert!(!is_canonical(&decimal, single), "{other} for {written}");
                }
            }
        }
        assert!(found > plain * 9 / 10, "{found} of {plain}");
    }

    #[test]
    fn singles_are_the_nearest_or_none() {
        let mut seed = 1_u64;
        for round in 0..200_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            #[allow(clippy::cast_possible_truncation)]
            let single = f32::from_bits((seed >> 32) as u32);
            if !single.is_finite() {
                continue;
            }
            let mut text = Vec::new();
            if round % 2 == 0 {
                write_f32(single, &mut text);
            } else {
                // Seventeen digits lie between singles, also near their middle.
                let between = f64::midpoint(f64::from(single), f64::from(f32::from_bits(single.to_bits() ^ 1)));
                write_f64(between, &mut text);
            }
            let text = String::from_utf8(text).expect("ASCII");
            let Some(decimal) = Decimal::read(text.as_bytes()) else {
                assert!(text.len() > DIGITS_MAX, "{text}");
                continue;
            };
            if let Some(nearest) = decimal.nearest_f32() {
                assert_eq!(nearest.to_bits(), text.parse::<f32>().expect("a number").to_bits(), "{text}");
            }
        }
    }
}
