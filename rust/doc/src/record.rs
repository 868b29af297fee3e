//! One cached row: a head with what filters and plain fetches read, and a tail with the vectors. See [`crate::layout`].

use crate::build::{Builder, Types};
use crate::error::DocError;
use crate::json::Cursor;
pub use crate::layout::VERSION;
use crate::schema::Schema;
pub use crate::view::View;

/// Attributes of this prefix are ours; a reader sees them only by naming them.
pub const RESERVED_PREFIX: &[u8] = b"_hevlayer_";
/// Attributes of this prefix are vectors that the upstream made.
pub const EMBEDDED_PREFIX: &[u8] = b"$embed_";

type Result<T> = std::result::Result<T, DocError>;

/// A namespace's id type, as an answer names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdType {
    Uint,
    String,
    Uuid,
}

impl IdType {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uint => "uint",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Uint, Self::String, Self::Uuid].into_iter().find(|kind| kind.name() == name)
    }
}

/// Which attributes a reader asked for.
#[derive(Clone, Debug)]
pub enum Projection {
    /// All but vectors and reserved attributes.
    Plain,
    /// Exactly these.
    Named(Vec<String>),
}

/// A row as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The id's cache key; see [`crate::id`].
    pub key: Vec<u8>,
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
}

impl Record {
    /// Reads one row of a query answer, the JSON object at the cursor.
    ///
    /// `vectors` names the vector attributes; an attribute whose value is an object (a sparse vector) or whose name
    /// marks it as an embedding is one as well.
    ///
    /// # Errors
    /// It is not a JSON object, has no usable id, or is too large for the layout.
    pub fn read(cursor: &mut Cursor<'_>, text: &str, vectors: &[String]) -> Result<Self> {
        Builder::default().read(cursor, text, Types::Vectors(vectors))
    }

    /// As [`Record::read`], with uuids and datetimes typed as the schema says.
    ///
    /// # Errors
    /// As [`Record::read`].
    pub fn read_typed(cursor: &mut Cursor<'_>, text: &str, schema: &Schema) -> Result<Self> {
        Builder::default().read(cursor, text, Types::Schema(schema))
    }

    /// # Errors
    /// The record is not of this version.
    pub fn view(&self) -> Result<View<'_>> {
        View::new(&self.head, Some(&self.tail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Record {
        let vectors = ["vector".to_owned()];
        Record::read(&mut Cursor::new(text), text, &vectors).expect("a row")
    }

    fn write(record: &Record, projection: &Projection, id_type: Option<IdType>) -> String {
        let mut out = Vec::new();
        record.view().expect("a record").write(projection, id_type, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    const ROW: &str = r#"{ "id" : 7, "$dist":0.5, "title": "caf\u00e9", "none":null, "_hevlayer_upserted_at":12,
        "vector":[0.1, 2], "sparse":{"3":1.5}, "ta\u0067s":["a"] }"#;

    #[test]
    fn hides_vectors_reserved_attributes_and_nulls() {
        let record = read(ROW);
        assert_eq!(record.key, [1, 0, 0, 0, 0, 0, 0, 0, 7]);
        let text = write(&record, &Projection::Plain, Some(IdType::Uint));
        assert_eq!(text, r#"{"id":"7","id_type":"uint","attributes":{"title":"caf\u00e9","ta\u0067s":["a"]}}"#);
    }

    #[test]
    fn gives_what_is_named() {
        let record = read(ROW);
        let named = |names: &[&str]| Projection::Named(names.iter().map(ToString::to_string).collect());
        let text = write(&record, &named(&["vector", "tags", "_hevlayer_upserted_at", "none", "other"]), None);
        assert_eq!(text, r#"{"id":"7","attributes":{"_hevlayer_upserted_at":12,"vector":[0.1, 2],"ta\u0067s":["a"]}}"#);
        assert_eq!(write(&record, &named(&[]), None), r#"{"id":"7","attributes":{}}"#);
    }

    #[test]
    fn asks_for_the_tail_only_when_it_may_matter() {
        let record = read(ROW);
        let head = View::new(&record.head, None).expect("a head");
        assert!(!head.needs_tail(&Projection::Plain));
        assert!(!head.needs_tail(&Projection::Named(vec![])));
        assert!(head.needs_tail(&Projection::Named(vec!["vector".to_owned()])));
        assert!(!head.needs_tail(&Projection::Named(vec!["title".to_owned()])));
        let plain = read(r#"{"id":"a","x":1}"#);
        let head = View::new(&plain.head, None).expect("a head");
        assert!(!head.needs_tail(&Projection::Named(vec!["vector".to_owned()])));
    }

    #[test]
    fn decodes_string_ids() {
        assert_eq!(read(r#"{"id":"a\u00e9\/b"}"#).key, [b"\x02a".as_slice(), "\u{e9}/b".as_bytes()].concat());
    }

    #[test]
    fn refuses_rows_without_a_usable_id() {
        for text in [r#"{"x":1}"#, r#"{"id":-1}"#, r#"{"id":1.0}"#, r#"{"id":null}"#] {
            assert!(Record::read(&mut Cursor::new(text), text, &[]).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_a_head_of_another_version_or_length() {
        let record = read(ROW);
        let mut other = record.head.clone();
        other[0] = 9;
        assert!(View::new(&other, None).is_err());
        assert!(View::new(&record.head[..record.head.len() - 1], None).is_err());
        assert!(View::new(&[], None).is_err());
    }
}
