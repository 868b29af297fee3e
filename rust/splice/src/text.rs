//! Strings and integers of text that the reader has checked.

use std::borrow::Cow;

/// How many commas of a JSON text stand outside its strings: what reading it will cost, whatever it says. Of a text that
/// is no JSON the number says nothing.
#[must_use]
pub fn separators(text: &[u8]) -> usize {
    let mut rest = text;
    let mut found = 0;
    while let Some(quote) = memchr::memchr(b'"', rest) {
        found += memchr::memchr_iter(b',', &rest[..quote]).count();
        rest = &rest[quote + 1..];
        loop {
            match memchr::memchr2(b'"', b'\\', rest) {
                Some(end) if rest[end] == b'"' => {
                    rest = &rest[end + 1..];
                    break;
                }
                Some(escape) => rest = rest.get(escape + 2..).unwrap_or_default(),
                None => return found,
            }
        }
    }
    found + memchr::memchr_iter(b',', rest).count()
}

/// What a string says. A lone surrogate, which has no UTF-8, is replaced; `exact` is false then.
pub struct Decoded<'a> {
    pub text: Cow<'a, str>,
    pub exact: bool,
}

/// Decodes a string from its text between the quotes.
pub fn decode(raw: &[u8]) -> Decoded<'_> {
    let text = String::from_utf8_lossy(raw);
    if memchr::memchr(b'\\', raw).is_none() {
        return Decoded { text, exact: true };
    }
    let mut out = String::with_capacity(raw.len());
    let mut exact = true;
    let mut rest = &*text;
    while let Some(backslash) = rest.find('\\') {
        out.push_str(&rest[..backslash]);
        let escape = rest.as_bytes()[backslash + 1];
        rest = &rest[backslash + 2..];
        let plain = match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = hex_unit(rest);
                rest = &rest[4..];
                let low = match unit {
                    0xd800..=0xdbff if rest.starts_with("\\u") => Some(hex_unit(&rest[2..])),
                    _ => None,
                };
                match (low, char::from_u32(unit)) {
                    (Some(low @ 0xdc00..=0xdfff), _) => {
                        rest = &rest[6..];
                        let point = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER)
                    }
                    (_, Some(plain)) => plain,
                    (_, None) => {
                        exact = false;
                        char::REPLACEMENT_CHARACTER
                    }
                }
            }
            other => char::from(other),
        };
        out.push(plain);
    }
    out.push_str(rest);
    Decoded { text: Cow::Owned(out), exact }
}

fn hex_unit(text: &str) -> u32 {
    text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// An integer in 0..2^64 from a number's text; `None` for any other number, also for `1.0`, `1e3` and `-0`.
pub fn uint(raw: &[u8]) -> Option<u64> {
    if raw.is_empty() || raw.len() > 20 {
        return None;
    }
    raw.iter().try_fold(0_u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// `text` as a JSON string with its quotes.
pub fn quote(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
    out
}

/// Characters of a caller's name that an error message repeats.
const NAME_SHOWN_MAX: usize = 128;

/// A caller's name for an error message, cut when it is long.
pub fn shown(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(NAME_SHOWN_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}…", &name[..end])),
        None => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_decode() {
        let decoded = decode(br#"a\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00z"#);
        assert_eq!(decoded.text, "a\"\\/\u{8}\u{c}\n\r\tA\u{e9}\u{1f600}z");
        assert!(decoded.exact);
    }

    #[test]
    fn separators_are_the_commas_outside_strings() {
        let texts: [(&[u8], usize); 8] = [
            (b"", 0),
            (b"[1,2,3]", 2),
            (br#"["a,b","c"]"#, 1),
            (br#"["a\",","\\",{"x,":1,"y":","}]"#, 3),
            (br#"["\"",1]"#, 1),
            (br#"",,,"#, 0),
            (br#","\"#, 1),
            (br#"[,,"x",,]"#, 4),
        ];
        for (text, found) in texts {
            assert_eq!(separators(text), found, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn lone_surrogates_are_replaced_and_told() {
        for raw in [r"\ud83d", r"\ude00", r"\ud83dx", r"\ud83d\n", r"\ud83d\ud83d", r"\ud83d\u0041"] {
            assert!(!decode(raw.as_bytes()).exact, "{raw}");
        }
        assert_eq!(decode(br"\ud83d\u0041").text, "\u{fffd}A");
        assert_eq!(decode(br"\ud83d\ud83d\ude00").text, "\u{fffd}\u{1f600}");
    }

    #[test]
    fn only_plain_integers_are_uints() {
        assert_eq!(uint(b"18446744073709551615"), Some(u64::MAX));
        for raw in ["18446744073709551616", "99999999999999999999", "-1", "-0", "1.0", "1e3", ""] {
            assert_eq!(uint(raw.as_bytes()), None, "{raw}");
        }
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        assert_eq!(shown("abc"), "abc");
        assert_eq!(shown(&"é".repeat(200)).chars().count(), NAME_SHOWN_MAX + 1);
    }
}
