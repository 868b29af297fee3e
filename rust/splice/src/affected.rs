//! The ids that a write's answer says it wrote, and the answer without them.

use std::collections::HashSet;

use hevlayer_doc::id;

use crate::error::Parsed;
use crate::prune::Pruner;
use crate::reader::{Kind, Reader};
use crate::text;
use crate::write::{read_id, Id};
use crate::SpliceError;

/// What an answer to `return_affected_ids` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Keys of all upserted, patched and deleted ids; `None` when the answer does not name every row that it counts.
    pub keys: Option<Vec<Vec<u8>>>,
    /// Those of them that were deleted and not written again.
    pub deleted: Vec<Vec<u8>>,
    /// The answer without its lists of ids; `None` when it has none.
    pub stripped: Option<Vec<u8>>,
}

/// Reads a write's answer.
///
/// # Errors
/// The answer is not JSON.
pub fn affected_ids(answer: &[u8]) -> Result<Affected, SpliceError> {
    read(answer).map_err(|fault| fault.explain(answer))
}

fn read(answer: &[u8]) -> Parsed<Affected> {
    let mut reader = Reader::new(answer);
    reader.skip_blank();
    if reader.kind() != Kind::Object {
        reader.skip_value()?;
        reader.finish()?;
        return Ok(Affected::default());
    }
    let mut keys = Vec::new();
    let mut deleted = Vec::new();
    let mut readable = true;
    let mut counted = None;
    let mut cuts = Vec::new();
    let mut pruner = Pruner::default();
    reader.members(|reader, key| {
        cuts.extend(pruner.begin(key.start));
        let name = text::decode(&answer[key.start + 1..key.end - 1]).text;
        let start = reader.at;
        if !matches!(&*name, "upserted_ids" | "patched_ids" | "deleted_ids") {
            reader.skip_value()?;
            if name == "rows_affected" {
                counted = text::uint(&answer[start..reader.at]);
            }
            pruner.keep(reader.at);
            return Ok(());
        }
        let list = if name == "deleted_ids" { &mut deleted } else { &mut keys };
        if reader.kind() == Kind::Array {
            reader.elements(|reader, _| {
                let start = reader.at;
                reader.skip_value()?;
                match read_id(&answer[start..reader.at]) {
                    Some(Id::Uint(number)) => list.push(id::uint_key(number)),
                    Some(Id::String(name)) => list.push(id::string_key(&name)),
                    None => readable = false,
                }
                Ok(())
            })?;
        } else {
            readable &= reader.kind() == Kind::Null;
            reader.skip_value()?;
        }
        cuts.extend(pruner.drop(key.start, reader.at));
        Ok(())
    })?;
    cuts.extend(pruner.end().0);
    reader.finish()?;
    let stripped = (!cuts.is_empty()).then(|| without(answer, &cuts));
    if !readable || counted != Some((keys.len() + deleted.len()) as u64) {
        return Ok(Affected { stripped, ..Affected::default() });
    }
    let written: HashSet<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    deleted.retain(|key| !written.contains(key.as_slice()));
    keys.extend_from_slice(&deleted);
    Ok(Affected { keys: Some(keys), deleted, stripped })
}

fn without(text: &[u8], cuts: &[(usize, usize)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut read = 0;
    for &(start, end) in cuts {
        out.extend_from_slice(&text[read..start]);
        read = end;
    }
    out.extend_from_slice(&text[read..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(answer: &str) -> Option<Vec<Vec<u8>>> {
        affected_ids(answer.as_bytes()).expect("JSON").keys
    }

    fn stripped(answer: &str) -> Option<String> {
        let stripped = affected_ids(answer.as_bytes()).expect("JSON").stripped;
        stripped.map(|text| String::from_utf8(text).expect("UTF-8"))
    }

    #[test]
    fn ids_of_all_kinds_come_as_keys() {
        let answer = r#"{"rows_affected":3,"upserted_ids":[7],"patched_ids":["a"],"deleted_ids":["\u0062"]}"#;
        assert_eq!(keys(answer), Some(vec![id::uint_key(7), id::string_key("a"), id::string_key("b")]));
        assert_eq!(keys(r#"{"rows_affected":0}"#), Some(vec![]));
    }

    #[test]
    fn what_was_written_again_is_not_deleted() {
        let answer = br#"{"deleted_ids":[1,2],"upserted_ids":[2],"rows_affected":3}"#;
        let affected = affected_ids(answer).expect("JSON");
        assert_eq!(affected.keys, Some(vec![id::uint_key(2), id::uint_key(1)]));
        assert_eq!(affected.deleted, vec![id::uint_key(1)]);
    }

    #[test]
    fn an_answer_that_does_not_name_every_row_names_none() {
        for answer in [
            r#"{"rows_affected":2,"deleted_ids":[7]}"#,
            r#"{"rows_affected":1}"#,
            r#"{"deleted_ids":[7]}"#,
            r#"{"rows_affected":1,"deleted_ids":[-7]}"#,
            r#"{"rows_affected":1,"deleted_ids":[[]]}"#,
            r#"{"rows_affected":1,"deleted_ids":["\ud800"]}"#,
            r#"{"rows_affected":0,"deleted_ids":"x"}"#,
            "[]",
            "7",
        ] {
            assert_eq!(keys(answer), None, "{answer}");
        }
    }

    #[test]
    fn the_lists_go_and_every_other_byte_stays() {
        assert_eq!(stripped(r#"{"rows_affected":0}"#), None);
        for (answer, wanted) in [
            (r#"{"a":1, "deleted_ids" : [1,2] ,"b":2}"#, r#"{"a":1 ,"b":2}"#),
            (r#"{"upserted_ids":[1], "a":1}"#, r#"{"a":1}"#),
            (r#"{ "a":1,"patched_ids":[] }"#, r#"{ "a":1 }"#),
            (r#"{"upserted_ids":[],"patched_ids":null,"deleted_ids":[1]}"#, "{}"),
            (r#"{"upserted_\u0069ds":[1],"nested":{"deleted_ids":[1]}}"#, r#"{"nested":{"deleted_ids":[1]}}"#),
        ] {
            assert_eq!(stripped(answer).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        assert!(affected_ids(br#"{"deleted_ids":[1"#).is_err());
        assert!(affected_ids(b"").is_err());
    }
}
