//! What a record keeps of a query and of its answer: the shape of the one, the first ids of the other.

use memchr::{memchr, memchr3, memchr_iter};

use crate::error::{Fault, Parsed};
use crate::reader::{Kind, Reader};
use crate::{skim, text};

/// A longer body is told by its size only.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// A longer shape is told by the names of its keys.
pub const SHAPE_BYTES_MAX: usize = 8 << 10;
pub const TEXT_CHARS_MAX: usize = 256;
pub const ITEMS_MAX: usize = 32;
pub const DEPTH_MAX: usize = 12;
/// A list of at least so many numbers, a vector or a set in a filter, is told by its length.
pub const NUMBERS_MIN: usize = 3;
const ROW_START: &[u8] = b"{\"id\":";

/// A query's JSON text with lists of numbers told by their length, and long texts and lists cut. What is not one
/// object, or too large, is told by its size.
#[must_use]
pub fn query_shape(body: &[u8]) -> Vec<u8> {
    let size = format!("{{\"bytes\":{}", body.len());
    if body.len() <= BODY_BYTES_MAX {
        let mut digest = Digest { body, out: Vec::with_capacity(512), keys: Vec::new() };
        if digest.top(&mut Reader::new(body)).is_ok() {
            if digest.out.len() <= SHAPE_BYTES_MAX {
                return digest.out;
            }
            return [size.as_bytes(), b",\"keys\":[", &digest.keys.join(&b','), b"]}"].concat();
        }
    }
    [size.as_bytes(), b"}"].concat()
}

struct Digest<'a> {
    body: &'a [u8],
    out: Vec<u8>,
    /// Names of the top level, quoted.
    keys: Vec<Vec<u8>>,
}

impl<'a> Digest<'a> {
    fn top(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        reader.skip_blank();
        if reader.kind() != Kind::Object {
            return Err(Fault { at: reader.at, reason: "not an object" });
        }
        self.object(reader, 0)?;
        reader.finish()
    }

    /// The members of an object; `depth` is that of their values.
    fn object(&mut self, reader: &mut Reader<'a>, depth: usize) -> Parsed<()> {
        let mut members = 0;
        self.out.push(b'{');
        reader.members(|reader, key| {
            members += 1;
            if members > ITEMS_MAX {
                return reader.skip_value();
            }
            if members > 1 {
                self.out.push(b',');
            }
            let raw = &self.body[key.start + 1..key.end - 1];
            let start = self.out.len();
            self.out.extend_from_slice(&cut_text(raw, ""));
            if depth == 0 {
                self.keys.push(self.out[start..].to_vec());
            }
            self.out.push(b':');
            self.value(reader, matches!(raw, b"vector" | b"vectors"), depth)
        })?;
        self.out.push(b'}');
        Ok(())
    }

    fn value(&mut self, reader: &mut Reader<'a>, is_vector: bool, depth: usize) -> Parsed<()> {
        let start = reader.at;
        match reader.kind() {
            Kind::String => {
                reader.string()?;
                let raw = &self.body[start + 1..reader.at - 1];
                if is_vector && raw.len() > TEXT_CHARS_MAX && is_base64(raw) {
                    self.say(&format!("[{} characters of base64]", raw.len()));
                } else {
                    self.out.extend_from_slice(&cut_text(raw, "…"));
                }
            }
            Kind::Array => self.array(reader, is_vector, depth)?,
            Kind::Object if depth >= DEPTH_MAX => {
                reader.skip_value()?;
                self.say("{…}");
            }
            Kind::Object => self.object(reader, depth + 1)?,
            _ => {
                reader.skip_value()?;
                self.out.extend_from_slice(&self.body[start..reader.at]);
            }
        }
        Ok(())
    }

    fn array(&mut self, reader: &mut Reader<'a>, is_vector: bool, depth: usize) -> Parsed<()> {
        let start = reader.at;
        reader.skip_value()?;
        if let Some(numbers) = numbers_of(&self.body[start + 1..reader.at - 1]) {
            self.say(&format!("[{numbers} numbers]"));
            return Ok(());
        }
        if depth >= DEPTH_MAX {
            self.say("[…]");
            return Ok(());
        }
        reader.at = start;
        let mut items = 0;
        self.out.push(b'[');
        reader.elements(|reader, index| {
            items = index + 1;
            if index >= ITEMS_MAX {
                return reader.skip_value();
            }
            if index > 0 {
                self.out.push(b',');
            }
            self.value(reader, is_vector, depth + 1)
        })?;
        if items > ITEMS_MAX {
            self.out.push(b',');
            self.say(&format!("… {} more", items - ITEMS_MAX));
        }
        self.out.push(b']');
        Ok(())
    }

    fn say(&mut self, text: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }
}

fn is_base64(raw: &[u8]) -> bool {
    raw.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_'))
}

/// How many numbers stand between an array's brackets, when there is nothing else and there are enough of them.
fn numbers_of(inner: &[u8]) -> Option<usize> {
    if memchr3(b'"', b'[', b'{', inner).is_some() || memchr3(b't', b'f', b'n', inner).is_some() {
        return None;
    }
    let numbers = memchr_iter(b',', inner).count() + 1;
    (numbers >= NUMBERS_MIN).then_some(numbers)
}

/// A string of at most `TEXT_CHARS_MAX` characters, quoted; `mark` follows when it was longer.
fn cut_text(raw: &[u8], mark: &str) -> Vec<u8> {
    if raw.len() <= TEXT_CHARS_MAX && memchr(b'\\', raw).is_none() && raw.is_ascii() {
        return [b"\"", raw, b"\""].concat();
    }
    let decoded = text::decode(raw).text;
    match decoded.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => text::quote(&format!("{}{mark}", &decoded[..end])),
        None => text::quote(&decoded),
    }
}

/// The ids of an answer's rows in their order, as a JSON array of at most `most` strings: those of `rows`, else those
/// of the legs in `results`, one after the other. Empty when the text is not such an answer; what stands behind the id
/// of a row that begins with it is not judged.
#[must_use]
pub fn answer_ids(answer: &[u8], most: usize) -> Vec<u8> {
    let mut ids = Ids { answer, most, stops: true, list: List::default() };
    let mut legs = List::default();
    let mut reader = Reader::new(answer);
    reader.skip_blank();
    let mut done = false;
    if reader.kind() == Kind::Object {
        let read = reader.members(|reader, key| match &answer[key.start + 1..key.end - 1] {
            b"rows" if reader.kind() == Kind::Array => {
                ids.list = List::default();
                done = true;
                ids.rows(reader)
            }
            b"results" if reader.kind() == Kind::Array => {
                // Read to their end: `rows` may follow.
                let mut of_legs = Ids { answer, most, stops: false, list: List::default() };
                let read = of_legs.legs(reader);
                legs = of_legs.list;
                read
            }
            _ => reader.skip_value(),
        });
        if read.is_err() && !(done && ids.list.count >= most) {
            return b"[]".to_vec();
        }
    }
    let list = if done { ids.list } else { legs };
    let items = list.text.strip_suffix(b",").unwrap_or_default();
    [b"[", items, b"]"].concat()
}

/// Items of a JSON array, each with a comma behind it.
#[derive(Default)]
struct List {
    text: Vec<u8>,
    count: usize,
}

struct Ids<'a> {
    answer: &'a [u8],
    most: usize,
    /// Whether reading ends, with a fault, once there are enough.
    stops: bool,
    list: List,
}

impl<'a> Ids<'a> {
    fn legs(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        reader.elements(|reader, _| self.leg(reader)).map(|_| ())
    }

    fn leg(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        if reader.kind() != Kind::Object {
            return reader.skip_value();
        }
        let answer = self.answer;
        let read = reader.members(|reader, key| match &answer[key.start + 1..key.end - 1] {
            b"rows" if reader.kind() == Kind::Array => self.rows(reader),
            _ => reader.skip_value(),
        });
        read.map(|_| ())
    }

    fn rows(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        reader.elements(|reader, _| self.row(reader)).map(|_| ())
    }

    fn row(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        let is_enough = self.list.count >= self.most;
        if is_enough && self.stops {
            return Err(Fault { at: reader.at, reason: "enough" });
        }
        if is_enough || reader.kind() != Kind::Object {
            return reader.skip_value();
        }
        if let Some(end) = self.row_that_begins_with_its_id(reader.at) {
            reader.at = end;
            return Ok(());
        }
        let answer = self.answer;
        let read = reader.members(|reader, key| {
            let (start, kind) = (reader.at, reader.kind());
            reader.skip_value()?;
            if &answer[key.start + 1..key.end - 1] == b"id" {
                self.take(kind, &answer[start..reader.at]);
            }
            Ok(())
        });
        read.map(|_| ())
    }

    /// The end of a row as the upstream writes it; None: it is another one, and nothing is taken.
    fn row_that_begins_with_its_id(&mut self, start: usize) -> Option<usize> {
        let answer = self.answer;
        answer[start..].strip_prefix(ROW_START)?;
        let mut reader = Reader::resume(answer, start + ROW_START.len());
        reader.skip_blank();
        let (from, kind) = (reader.at, reader.kind());
        reader.skip_value().ok()?;
        let to = reader.at;
        reader.skip_blank();
        if !matches!(answer.get(reader.at), Some(b',' | b'}')) {
            return None;
        }
        let end = skim::object_end(answer, reader.at)?;
        self.take(kind, &answer[from..to]);
        Some(end)
    }

    fn take(&mut self, kind: Kind, value: &[u8]) {
        let out = &mut self.list.text;
        match kind {
            Kind::String if value.is_ascii() && memchr(b'\\', value).is_none() => out.extend_from_slice(value),
            Kind::String => out.extend_from_slice(&text::quote(&text::decode(&value[1..value.len() - 1]).text)),
            Kind::Number => {
                out.push(b'"');
                out.extend_from_slice(value);
                out.push(b'"');
            }
            _ => return,
        }
        out.push(b',');
        self.list.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(body: &str) -> String {
        String::from_utf8_lossy(&query_shape(body.as_bytes())).into_owned()
    }

    fn ids(answer: &str, most: usize) -> String {
        String::from_utf8_lossy(&answer_ids(answer.as_bytes(), most)).into_owned()
    }

    #[test]
    fn vectors_are_told_by_their_length() {
        assert_eq!(
            shape(r#" {"rank_by": ["vector", "ANN", [0.5, -1e3,7]], "limit":10} "#),
            r#"{"rank_by":["vector","ANN","[3 numbers]"],"limit":10}"#
        );
        assert_eq!(shape(r#"{"a":[1,2],"b":[],"c":[1,2,"x"]}"#), r#"{"a":[1,2],"b":[],"c":[1,2,"x"]}"#);
        let base64 = "A".repeat(300);
        assert_eq!(shape(&format!(r#"{{"vector":"{base64}"}}"#)), r#"{"vector":"[300 characters of base64]"}"#);
    }

    #[test]
    fn long_texts_lists_and_depths_are_cut() {
        let long = "é".repeat(300);
        assert_eq!(shape(&format!(r#"{{"a":"{long}"}}"#)), format!(r#"{{"a":"{}…"}}"#, "é".repeat(256)));
        let items = vec![r#""x""#; 40].join(",");
        assert_eq!(
            shape(&format!("{{\"a\":[{items}]}}")),
            format!("{{\"a\":[{},\"… 8 more\"]}}", vec![r#""x""#; 32].join(","))
        );
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(20), "]".repeat(20));
        assert_eq!(shape(&deep), format!("{{\"a\":{}\"[…]\"{}}}", "[".repeat(12), "]".repeat(12)));
    }

    #[test]
    fn what_is_no_query_is_told_by_its_size() {
        for body in ["", "[1]", "{", r#"{"a":1} x"#] {
            assert_eq!(shape(body), format!("{{\"bytes\":{}}}", body.len()));
        }
        let members: Vec<String> = (0..32).map(|n| format!("\"k{n}\":[\"{}\",\"\"]", "x".repeat(256))).collect();
        let body = format!("{{{}}}", members.join(","));
        assert!(shape(&body).starts_with(&format!("{{\"bytes\":{},\"keys\":[\"k0\",\"k1\"", body.len())));
    }

    #[test]
    fn ids_are_in_the_answer_s_order() {
        assert_eq!(ids(r#"{"rows":[{"x":{"id":1},"id":"a\u00e9"},{"id":7},{"$dist":1}]}"#, 9), r#"["aé","7"]"#);
        assert_eq!(
            ids(r#"{"results":[{"rows":[{"id":2}]},{"aggregations":{}},{"rows":[{"id":1}]}]}"#, 9),
            r#"["2","1"]"#
        );
        assert_eq!(ids(r#"{"results":[{"id":"b"}],"rows":[{"id":"a"}]}"#, 9), r#"["a"]"#);
        assert_eq!(ids(r#"{"rows":[{"id":1},{"id":2},{"id":3}],"billing":{}}"#, 2), r#"["1","2"]"#);
    }

    #[test]
    fn a_row_that_begins_with_its_id_is_read_like_any_other() {
        assert_eq!(
            ids(r#"{"rows":[{"id":"a","t":"}{\""},{"id":7,"x":{"y":[{}]}},{"id": "\u00e9"},{"id":null,"a":1}]}"#, 9),
            r#"["a","7","é"]"#
        );
        assert_eq!(ids(r#"{"rows":[{"id":"é","x":{"id":3}},{"id":1,"id":2}]}"#, 9), r#"["é","1","2"]"#);
        for broken in [r#"{"rows":[{"id":"a""#, r#"{"rows":[{"id":1 2}]}"#, r#"{"rows":[{"id":1,"x":"}]}"#] {
            assert_eq!(ids(broken, 9), "[]", "{broken}");
        }
    }

    #[test]
    fn what_is_no_answer_has_no_ids() {
        for answer in ["", "[]", "{}", r#"{"rows":3}"#, r#"{"rows":[{"id":1},"#, "x"] {
            assert_eq!(ids(answer, 9), "[]", "{answer}");
        }
    }
}
