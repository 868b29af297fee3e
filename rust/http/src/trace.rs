//! W3C trace context and request ids.

const REQUEST_ID_BYTES_MAX: usize = 128;
const SUFFIX_BYTES_MAX: usize = 256;
/// Bytes of `00-{trace id}-{span id}-{flags}`.
const TRACEPARENT_BYTES: usize = 55;

/// The trace id (32 hex digits) of a valid `traceparent`.
pub fn accept_traceparent(value: &[u8]) -> Option<&[u8]> {
    let (plain, suffix) = value.split_at_checked(TRACEPARENT_BYTES)?;
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let (version, trace, span, flags) = (&plain[..2], &plain[3..35], &plain[36..52], &plain[53..]);
    let is_well_formed = plain[2] == b'-'
        && plain[35] == b'-'
        && plain[52] == b'-'
        && [version, trace, span, flags].into_iter().all(is_hex)
        && (suffix.is_empty()
            || (suffix[0] == b'-' && suffix.len() <= SUFFIX_BYTES_MAX + 1 && !suffix.contains(&b'\n')));
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    let is_known = version != b"ff" && (version != b"00" || suffix.is_empty());
    (is_well_formed && is_known && !is_zero(trace) && !is_zero(span)).then_some(trace)
}

/// A caller's request id when it is short printable ASCII: it goes into log lines.
pub fn accept_request_id(value: &[u8]) -> Option<&str> {
    let is_printable = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let is_short = (1..=REQUEST_ID_BYTES_MAX).contains(&value.len());
    std::str::from_utf8(value).ok().filter(|_| is_printable && is_short)
}

/// Mints trace ids: xoshiro256++, which is no secret and need not be.
#[derive(Debug)]
pub struct TraceIds {
    state: [u64; 4],
}

impl TraceIds {
    pub fn new(seed: u64) -> Self {
        // SplitMix64 fills the state, as the generator's authors advise; no seed gives all zeros.
        let mut at = seed;
        let state = std::array::from_fn(|_| {
            at = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (at ^ (at >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        });
        Self { state }
    }

    fn draw(&mut self) -> u64 {
        let state = &mut self.state;
        let drawn = state[0].wrapping_add(state[3]).rotate_left(23).wrapping_add(state[0]);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        drawn
    }

    /// A new `traceparent`, sampled; its trace id stands at 3..35. Neither of its ids is zero.
    pub fn mint(&mut self) -> [u8; TRACEPARENT_BYTES] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-01";
        let (high, low, span) = (self.draw(), self.draw() | 1, self.draw() | 1);
        hex(&mut out[3..19], high);
        hex(&mut out[19..35], low);
        hex(&mut out[36..52], span);
        out
    }
}

fn hex(out: &mut [u8], value: u64) {
    for (index, byte) in out.iter_mut().enumerate() {
        let digit = (value >> (60 - 4 * index)) & 15;
        *byte = b"0123456789abcdef"[usize::try_from(digit).unwrap_or_default()];
    }
}
