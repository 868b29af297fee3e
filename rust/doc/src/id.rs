//! Ids as cache keys: a tag byte and the value, so that `1` and `"1"` never share a key.

use crate::record::IdType;

/// Tag of an unsigned integer id; 8 bytes big-endian follow, so that keys sort as the ids do.
pub const TAG_UINT: u8 = 1;
/// Tag of a string id; its UTF-8 follows.
pub const TAG_STRING: u8 = 2;
/// Tag of a uuid in binary; 16 bytes follow. Keys made from text never carry it: a uuid-shaped string may be a plain
/// string id, and only the namespace's schema tells.
pub const TAG_UUID: u8 = 3;

/// The key of an unsigned integer id.
#[must_use]
pub fn uint_key(id: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(TAG_UINT);
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// The key of a string id.
#[must_use]
pub fn string_key(id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + id.len());
    key.push(TAG_STRING);
    key.extend_from_slice(id.as_bytes());
    key
}

/// The string key of the canonical form of a uuid, or `None` when `text` is not a uuid in any accepted form.
#[must_use]
pub fn uuid_text_key(text: &str) -> Option<Vec<u8>> {
    canonical_uuid(text).map(|canonical| {
        let mut key = Vec::with_capacity(37);
        key.push(TAG_STRING);
        key.extend_from_slice(&canonical);
        key
    })
}

/// The key of the id that a path's segment names in a namespace with this id type; `None` when no id of that type reads
/// so.
#[must_use]
pub fn path_key(text: &str, id_type: IdType) -> Option<Vec<u8>> {
    match id_type {
        IdType::String => Some(string_key(text)),
        IdType::Uuid => uuid_text_key(text),
        IdType::Uint => {
            let is_canonical =
                text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
            text.parse().ok().filter(|_| is_canonical).map(uint_key)
        }
    }
}

/// The lower-case hyphenated form of a uuid given hyphenated, as 32 hex digits, braced, or as `urn:uuid:`; letters in
/// any case.
#[must_use]
pub fn canonical_uuid(text: &str) -> Option<[u8; 36]> {
    let text = text.as_bytes();
    let hex = match text.len() {
        32 | 36 => text,
        38 if text[0] == b'{' && text[37] == b'}' => &text[1..37],
        45 if text[..9].eq_ignore_ascii_case(b"urn:uuid:") => &text[9..],
        _ => return None,
    };
    let hyphenated = hex.len() == 36;
    let mut canonical = [b'-'; 36];
    let mut read = 0;
    for (at, place) in canonical.iter_mut().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if hyphenated {
                if hex[read] != b'-' {
                    return None;
                }
                read += 1;
            }
        } else {
            if !hex[read].is_ascii_hexdigit() {
                return None;
            }
            *place = hex[read].to_ascii_lowercase();
            read += 1;
        }
    }
    Some(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANONICAL: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    #[test]
    fn accepted_forms_share_one_key() {
        let forms = [
            CANONICAL.to_owned(),
            CANONICAL.to_uppercase(),
            CANONICAL.replace('-', ""),
            format!("{{{CANONICAL}}}"),
            format!("urn:uuid:{CANONICAL}"),
        ];
        for form in forms {
            assert_eq!(uuid_text_key(&form), Some(string_key(CANONICAL)), "{form}");
        }
    }

    #[test]
    fn other_texts_are_not_uuids() {
        let others = [
            "",
            "0f8fad5b",
            "0f8fad5b-d9cb-469f-a165-70867728950",
            "0f8fad5b-d9cb-469f-a165-70867728950g",
            "0f8fad5bd-9cb-469f-a165-70867728950e",
            "{0f8fad5b-d9cb-469f-a165-70867728950e",
            "{0f8fad5bd9cb469fa16570867728950e}",
            "urn:uuid:0f8fad5bd9cb469fa16570867728950e",
            "0f8fad5b_d9cb_469f_a165_70867728950e",
            "\u{e9}f8fad5b-d9cb-469f-a165-7086772895",
        ];
        for other in others {
            assert_eq!(canonical_uuid(other), None, "{other}");
        }
    }

    #[test]
    fn a_path_names_ids_by_their_type() {
        assert_eq!(path_key("17", IdType::Uint), Some(uint_key(17)));
        assert_eq!(path_key("0", IdType::Uint), Some(uint_key(0)));
        assert_eq!(path_key("18446744073709551615", IdType::Uint), Some(uint_key(u64::MAX)));
        for other in ["", "00", "017", "+1", "-1", "1.0", "a", "18446744073709551616"] {
            assert_eq!(path_key(other, IdType::Uint), None, "{other}");
        }
        assert_eq!(path_key("017", IdType::String), Some(string_key("017")));
        assert_eq!(path_key(&CANONICAL.to_uppercase(), IdType::Uuid), Some(string_key(CANONICAL)));
        assert_eq!(path_key("17", IdType::Uuid), None);
    }

    #[test]
    fn types_never_share_a_key() {
        assert_eq!(uint_key(1), [1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(string_key("1"), [2, b'1']);
    }
}
