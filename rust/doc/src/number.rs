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
        let mut is_integer = true;
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
            is_integer = false;
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
        Some(Self { negative, digits, exponent, length: at, is_integer })
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
    while let Some(digit) = text.get(length).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        length += 1;
    }
    (length, value)
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
