//! Splits the upstream's query answer into records.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::build::{Builder, Types};
use crate::error::DocError;
use crate::json::{self, Cursor};
use crate::record::{IdType, Projection, Record};
use crate::schema::Schema;

/// The rows of one answer, by cache key. Of two rows with one id the later stands.
#[derive(Debug, Default)]
pub struct Rows {
    pub records: Vec<Record>,
    /// Made when a row is first asked for by its key; nobody asks for one of a page that is kept whole.
    by_key: OnceLock<HashMap<Vec<u8>, usize>>,
}

impl FromIterator<Record> for Rows {
    fn from_iter<T: IntoIterator<Item = Record>>(records: T) -> Self {
        Self { records: records.into_iter().collect(), by_key: OnceLock::new() }
    }
}

impl Rows {
    /// Reads `{"rows":[{…}, …], …}`, UTF-8; `vectors` as in [`Record::read`].
    ///
    /// # Errors
    /// It is not JSON, has no rows, or a row breaks a rule of [`Record::read`].
    pub fn read(answer: &[u8], vectors: &[String]) -> Result<Self, DocError> {
        Self::read_as(answer, Types::Vectors(vectors))
    }

    /// As [`Rows::read`], with uuids and datetimes typed as the schema says.
    ///
    /// # Errors
    /// As [`Rows::read`].
    pub fn read_typed(answer: &[u8], schema: &Schema) -> Result<Self, DocError> {
        Self::read_as(answer, Types::Schema(schema))
    }

    fn read_as(answer: &[u8], types: Types<'_>) -> Result<Self, DocError> {
        let text = std::str::from_utf8(answer)
            .map_err(|error| DocError::Json { expected: "UTF-8", at: error.valid_up_to() })?;
        let mut rows = Self::default();
        let mut builder = Builder::default();
        let mut found = false;
        let mut cursor = Cursor::new(text);
        cursor.peek();
        cursor.object(|cursor, key| {
            if json::decode(&text.as_bytes()[key]).as_ref() != b"rows" {
                return cursor.value().map(drop);
            }
            found = true;
            cursor.array(|cursor| {
                rows.push(builder.read(cursor, text, types)?);
                Ok(())
            })
        })?;
        cursor.end()?;
        if !found {
            return Err(DocError::Shape("an answer without rows"));
        }
        Ok(rows)
    }

    /// Adds a record; it takes the place of an earlier one of its id.
    pub fn push(&mut self, record: Record) {
        if let Some(by_key) = self.by_key.get_mut() {
            by_key.insert(record.key.clone(), self.records.len());
        }
        self.records.push(record);
    }

    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Record> {
        let numbered = || self.records.iter().enumerate().map(|(index, record)| (record.key.clone(), index)).collect();
        self.by_key.get_or_init(numbered).get(key).map(|index| &self.records[*index])
    }

    /// The document of `key` as JSON text; None when no row has that id.
    #[must_use]
    pub fn document(&self, key: &[u8], projection: &Projection, id_type: Option<IdType>) -> Option<Vec<u8>> {
        let record = self.get(key)?;
        let mut out = Vec::with_capacity(record.head.len() + record.tail.len() + 64);
        record.view().ok()?.write(projection, id_type, &mut out);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_row() {
        let answer = br#"{"billing":{"a":[1]},"rows":[{"id":1,"t":"x"},{"id":"b"}],"performance":{}}"#;
        let rows = Rows::read(answer, &[]).expect("rows");
        assert_eq!(rows.records.len(), 2);
        let text = rows.document(b"\x02b", &Projection::Plain, None).expect("a document");
        assert_eq!(text, br#"{"id":"b","attributes":{}}"#);
        assert!(rows.document(b"\x02c", &Projection::Plain, None).is_none());
    }

    #[test]
    fn of_two_rows_with_one_id_the_later_stands() {
        let answer = br#"{"rows":[{"id":1,"t":"x"},{"id":2},{"id":1,"t":"y"}]}"#;
        let mut rows = Rows::read(answer, &[]).expect("rows");
        let key = rows.records[0].key.clone();
        assert_eq!(rows.get(&key).map(|found| &found.head), Some(&rows.records[2].head));
        // Also one that comes after somebody asked.
        let first = rows.records[0].clone();
        rows.push(first);
        assert_eq!(rows.get(&key).map(|found| &found.head), Some(&rows.records[3].head));
        assert_ne!(rows.records[2].head, rows.records[3].head);
    }

    #[test]
    fn refuses_anything_else() {
        for answer in [&b"{}"[..], b"[]", b"{\"rows\":{}}", b"{\"rows\":[{\"id\":1}]", b"\xff", b"{\"rows\":[]} x"] {
            assert!(Rows::read(answer, &[]).is_err());
        }
    }

    #[test]
    fn never_reads_a_truncated_answer() {
        let answer = br#"{"rows":[{"id":1,"t":"x\u00e9","v":[1.5,{"a":null}]}],"performance":{"x":1.0}}"#;
        for end in 0..answer.len() {
            assert!(Rows::read(&answer[..end], &[]).is_err(), "{end}");
        }
    }
}
