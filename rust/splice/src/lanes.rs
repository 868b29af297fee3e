//! Byte classes of a whole window at once. SSE2 is part of every x86-64; elsewhere a plain loop does the same.

/// One bit a byte: the byte is `0`..`9`.
#[inline(always)]
pub(crate) fn digit_bits(window: &[u8; 32]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        let (low, high) = split(window);
        u32::from(sse2::digits(low)) | (u32::from(sse2::digits(high)) << 16)
    }
    #[cfg(not(target_arch = "x86_64"))]
    plain::bits(window, |byte| byte.is_ascii_digit())
}

/// Two masks, one bit a byte: the byte ends a plain run of a string (quote, backslash or control character); the byte
/// is not ASCII.
#[inline(always)]
pub(crate) fn string_bits(window: &[u8; 32]) -> (u32, u32) {
    #[cfg(target_arch = "x86_64")]
    {
        let (low, high) = split(window);
        let (low_stops, low_wide) = sse2::string(low);
        let (high_stops, high_wide) = sse2::string(high);
        (u32::from(low_stops) | (u32::from(high_stops) << 16), u32::from(low_wide) | (u32::from(high_wide) << 16))
    }
    #[cfg(not(target_arch = "x86_64"))]
    (plain::bits(window, |byte| byte == b'"' || byte == b'\\' || byte < 0x20), plain::bits(window, |byte| byte >= 0x80))
}

/// Bytes of a block of numbers.
pub(crate) const BLOCK: usize = 64;

/// The bytes that lists of plain numbers are made of, one bit a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NumberBits {
    pub digit: u64,
    pub zero: u64,
    pub minus: u64,
    pub point: u64,
    pub comma: u64,
    pub space: u64,
}

#[inline(always)]
pub(crate) fn number_bits(block: &[u8; BLOCK]) -> NumberBits {
    #[cfg(target_arch = "x86_64")]
    {
        let mut bits = NumberBits::default();
        let (quarters, _) = block.as_chunks::<16>();
        for (index, quarter) in quarters.iter().enumerate() {
            let shift = 16 * index;
            bits.digit |= u64::from(sse2::digits(quarter)) << shift;
            bits.zero |= u64::from(sse2::equal(quarter, b'0')) << shift;
            bits.minus |= u64::from(sse2::equal(quarter, b'-')) << shift;
            bits.point |= u64::from(sse2::equal(quarter, b'.')) << shift;
            bits.comma |= u64::from(sse2::equal(quarter, b',')) << shift;
            bits.space |= u64::from(sse2::equal(quarter, b' ')) << shift;
        }
        bits
    }
    #[cfg(not(target_arch = "x86_64"))]
    plain::number_bits(block)
}

/// The bytes that tell where an object ends, one bit a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectBits {
    pub quote: u64,
    pub backslash: u64,
    pub open: u64,
    pub close: u64,
}

#[inline(always)]
pub(crate) fn object_bits(block: &[u8; BLOCK]) -> ObjectBits {
    #[cfg(target_arch = "x86_64")]
    {
        let mut bits = ObjectBits::default();
        let (quarters, _) = block.as_chunks::<16>();
        for (index, quarter) in quarters.iter().enumerate() {
            let shift = 16 * index;
            bits.quote |= u64::from(sse2::equal(quarter, b'"')) << shift;
            bits.backslash |= u64::from(sse2::equal(quarter, b'\\')) << shift;
            bits.open |= u64::from(sse2::equal(quarter, b'{')) << shift;
            bits.close |= u64::from(sse2::equal(quarter, b'}')) << shift;
        }
        bits
    }
    #[cfg(not(target_arch = "x86_64"))]
    plain::object_bits(block)
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn split(window: &[u8; 32]) -> (&[u8; 16], &[u8; 16]) {
    let (low, high) = window.split_at(16);
    match (low.first_chunk(), high.first_chunk()) {
        (Some(low), Some(high)) => (low, high),
        _ => unreachable!("a window has two halves of 16 bytes"),
    }
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
        _mm_sub_epi8,
    };

    #[inline(always)]
    fn load(bytes: &[u8; 16]) -> __m128i {
        // SAFETY: the reference covers the 16 bytes read, the load asks for no alignment, and SSE2 is always there.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the mask has 16 bits
    fn mask(lanes: __m128i) -> u16 {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_movemask_epi8(lanes) as u16 }
    }

    #[inline(always)]
    pub fn digits(bytes: &[u8; 16]) -> u16 {
        let lanes = load(bytes);
        // SAFETY: SSE2 is part of x86-64.
        unsafe {
            let offset = _mm_sub_epi8(lanes, _mm_set1_epi8(0x30));
            mask(_mm_cmpeq_epi8(_mm_min_epu8(offset, _mm_set1_epi8(9)), offset))
        }
    }

    #[inline(always)]
    pub fn equal(bytes: &[u8; 16], byte: u8) -> u16 {
        let lanes = load(bytes);
        // SAFETY: SSE2 is part of x86-64.
        unsafe { mask(_mm_cmpeq_epi8(lanes, _mm_set1_epi8(byte.cast_signed()))) }
    }

    #[inline(always)]
    pub fn string(bytes: &[u8; 16]) -> (u16, u16) {
        let lanes = load(bytes);
        // SAFETY: SSE2 is part of x86-64.
        unsafe {
            let quote = _mm_cmpeq_epi8(lanes, _mm_set1_epi8(0x22));
            let backslash = _mm_cmpeq_epi8(lanes, _mm_set1_epi8(0x5c));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(lanes, _mm_set1_epi8(0x1f)), lanes);
            (mask(_mm_or_si128(_mm_or_si128(quote, backslash), control)), mask(lanes))
        }
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod plain {
    pub fn bits(window: &[u8; 32], class: impl Fn(u8) -> bool) -> u32 {
        window.iter().enumerate().fold(0, |bits, (at, &byte)| bits | (u32::from(class(byte)) << at))
    }

    pub fn object_bits(block: &[u8; super::BLOCK]) -> super::ObjectBits {
        let mut bits = super::ObjectBits::default();
        for (at, byte) in block.iter().enumerate() {
            let bit = 1_u64 << at;
            match byte {
                b'"' => bits.quote |= bit,
                b'\\' => bits.backslash |= bit,
                b'{' => bits.open |= bit,
                b'}' => bits.close |= bit,
                _ => {}
            }
        }
        bits
    }

    pub fn number_bits(block: &[u8; super::BLOCK]) -> super::NumberBits {
        let mut bits = super::NumberBits::default();
        for (at, byte) in block.iter().enumerate() {
            let bit = 1_u64 << at;
            match byte {
                b'0' => {
                    bits.digit |= bit;
                    bits.zero |= bit;
                }
                b'1'..=b'9' => bits.digit |= bit,
                b'-' => bits.minus |= bit,
                b'.' => bits.point |= bit,
                b',' => bits.comma |= bit,
                b' ' => bits.space |= bit,
                _ => {}
            }
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_in_each_place_tells_of_objects() {
        for byte in 0..=255_u8 {
            for place in 0..BLOCK {
                let mut block = [b'a'; BLOCK];
                block[place] = byte;
                assert_eq!(object_bits(&block), plain::object_bits(&block));
            }
        }
    }

    #[test]
    fn each_byte_in_each_lane_has_its_class() {
        for byte in 0..=255_u8 {
            for lane in 0..32 {
                let mut window = [b'a'; 32];
                window[lane] = byte;
                assert_eq!(digit_bits(&window), plain::bits(&window, |byte| byte.is_ascii_digit()));
                let stops = plain::bits(&window, |byte| byte == b'"' || byte == b'\\' || byte < 0x20);
                let wide = plain::bits(&window, |byte| byte >= 0x80);
                assert_eq!(string_bits(&window), (stops, wide));
            }
            for lane in 0..BLOCK {
                let mut block = [b'a'; BLOCK];
                block[lane] = byte;
                assert_eq!(number_bits(&block), plain::number_bits(&block));
            }
        }
    }
}
