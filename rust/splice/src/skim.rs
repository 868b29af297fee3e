//! The end of an object, found by its strings and braces alone.

use crate::lanes::{self, BLOCK};

const SOUGHT: &[u8] = b"\"id\"";

/// The position behind the brace that closes an object, from a position in it that is in none of its strings. Nothing on
/// the way is judged. None: there is no such brace, or the string `"id"` stands before it.
pub(crate) fn object_end(text: &[u8], start: usize) -> Option<usize> {
    let (mut depth, mut in_string, mut is_escaped) = (1_u32, false, false);
    let mut at = start;
    while at < text.len() {
        let rest = &text[at..];
        let mut padded = [b' '; BLOCK];
        let block = if let Some(block) = rest.first_chunk() {
            block
        } else {
            padded[..rest.len()].copy_from_slice(rest);
            &padded
        };
        let bits = lanes::object_bits(block);
        let quotes = bits.quote & !escaped(bits.backslash, &mut is_escaped);
        let strings = prefix_xor(quotes) ^ if in_string { u64::MAX } else { 0 };
        in_string = strings >> (BLOCK - 1) == 1;
        let (opens, closes) = (bits.open & !strings, bits.close & !strings);
        let end = closing(opens, closes, depth);
        // What stands behind the object is another's.
        let within = end.map_or(u64::MAX, |place| (1 << place) - 1);
        if finds_sought(rest, quotes & within) {
            return None;
        }
        if let Some(place) = end {
            return Some(at + place as usize + 1);
        }
        depth = depth + opens.count_ones() - closes.count_ones();
        at += BLOCK;
    }
    None
}

/// Where in a block the object ends that `depth` open braces are in.
fn closing(opens: u64, mut closes: u64, depth: u32) -> Option<u32> {
    if closes.count_ones() < depth {
        return None;
    }
    let mut counted = 0;
    while closes != 0 {
        let place = closes.trailing_zeros();
        counted += 1;
        if depth + (opens & ((1 << place) - 1)).count_ones() == counted {
            return Some(place);
        }
        closes &= closes - 1;
    }
    None
}

/// The bytes that a backslash before them takes the meaning from; `carried`: the last byte before the block, then the
/// block's last, is such a backslash.
fn escaped(mut backslashes: u64, carried: &mut bool) -> u64 {
    let mut found = u64::from(*carried);
    backslashes &= !found;
    *carried = false;
    while backslashes != 0 {
        let place = backslashes.trailing_zeros();
        if place == 63 {
            *carried = true;
            break;
        }
        found |= 2 << place;
        backslashes &= !(3 << place);
    }
    found
}

/// Each bit and all below it, added without carry: a quote turns everything from it on.
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

fn finds_sought(text: &[u8], quotes: u64) -> bool {
    // A string of two bytes; at the block's end its other quote may stand in the next one.
    let mut candidates = quotes & ((quotes >> 3) | (7 << 61));
    while candidates != 0 {
        let place = candidates.trailing_zeros() as usize;
        if text.get(place..place + SOUGHT.len()) == Some(SOUGHT) {
            return true;
        }
        candidates &= candidates - 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Option<usize> {
        object_end(text.as_bytes(), 0)
    }

    /// Byte by byte.
    fn plain_end(text: &[u8]) -> Option<usize> {
        let (mut depth, mut in_string, mut at) = (1, false, 0);
        while at < text.len() {
            match text[at] {
                b'\\' if in_string => at += 1,
                b'"' => in_string = !in_string,
                b'{' if !in_string => depth += 1,
                b'}' if !in_string => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        None
    }

    #[test]
    fn finds_the_brace_that_closes() {
        assert_eq!(end("}"), Some(1));
        assert_eq!(end(r#","a":1},{"#), Some(7));
        assert_eq!(end(r#","a":{"b":{}},"c":"}"}x"#), Some(22));
        assert_eq!(end(r#","a":"\"}\\"}"#), Some(13));
        for broken in ["", ",", r#","a":"}"#, r#","a":{}"#] {
            assert_eq!(end(broken), None, "{broken}");
        }
    }

    #[test]
    fn agrees_with_a_plain_reading_wherever_blocks_are_cut() {
        let members = [r#""a":"\\\\\"}{""#, r#""b":{"c":{"d":"{"}}"#, r#""e":[{},{"f":"\\"}]"#, r#""é":"\u00e9\\\"""#];
        for padding in 0..130 {
            for first in 0..members.len() {
                let pad = "x".repeat(padding);
                let text = format!(r#","p":"{pad}",{},{},{}}},"#, members[first], members[(first + 1) % 4], members[0]);
                assert_eq!(end(&text), plain_end(text.as_bytes()), "{text}");
                let slashes = format!(r#","p":"{}","q":"}}"}}"#, "\\\\".repeat(padding));
                assert_eq!(end(&slashes), plain_end(slashes.as_bytes()), "{slashes}");
            }
        }
    }

    #[test]
    fn stops_at_another_id_wherever_it_stands() {
        for padding in 0..130 {
            let pad = "x".repeat(padding);
            assert_eq!(end(&format!(r#","p":"{pad}","id":1}}"#)), None);
            assert_eq!(end(&format!(r#","p":"{pad}","a":{{"id":1}}}}"#)), None);
            assert_eq!(end(&format!(r#","p":"{pad}"}},{{"id":1}}"#)), Some(padding + 8));
            let other = format!(r#","p":"{pad}","ix":"\"id\"","idx":"id-{pad}"}}"#);
            assert_eq!(end(&other), Some(other.len()));
        }
    }
}
