//! The body of a write, parsed: shapes are checked here, meaning in `write`.

use crate::filter::FiltersInput;
use crate::input::{Input, Key};
use crate::schema_json::AttributeSchemaInput;
use crate::table::Metric;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

#[derive(Debug, Default, serde::Deserialize)]
pub struct WriteBody<'a> {
    #[serde(borrow, default)]
    pub upsert_rows: Option<Vec<RowInput<'a>>>,
    #[serde(borrow, default)]
    pub upsert_columns: Option<ColumnsInput<'a>>,
    #[serde(borrow, default)]
    pub patch_rows: Option<Vec<RowInput<'a>>>,
    #[serde(borrow, default)]
    pub patch_columns: Option<ColumnsInput<'a>>,
    #[serde(borrow, default)]
    pub deletes: Option<IdVec<'a>>,
    #[serde(borrow, default)]
    pub delete_by_filter: Option<FiltersInput<'a>>,
    #[serde(default)]
    pub delete_by_filter_allow_partial: Option<bool>,
    #[serde(borrow, default)]
    pub patch_by_filter: Option<PatchByFilter<'a>>,
    #[serde(default)]
    pub patch_by_filter_allow_partial: Option<bool>,
    #[serde(borrow, default)]
    pub upsert_condition: Option<FiltersInput<'a>>,
    #[serde(borrow, default)]
    pub patch_condition: Option<FiltersInput<'a>>,
    #[serde(borrow, default)]
    pub delete_condition: Option<FiltersInput<'a>>,
    #[serde(default)]
    pub return_affected_ids: Option<bool>,
    #[serde(default)]
    pub distance_metric: Option<DistanceMetric>,
    #[serde(default)]
    pub schema: Option<SchemaInput>,
    #[serde(default)]
    pub encryption: Option<Encryption>,
    /// Accepted; there is no back-pressure to disable.
    #[serde(default)]
    pub disable_backpressure: Option<bool>,
    #[serde(default)]
    pub copy_from_namespace: Option<SourceInput>,
    #[serde(default)]
    pub branch_from_namespace: Option<SourceInput>,
    #[serde(default)]
    pub sharding: Option<Sharding>,
    #[serde(default)]
    pub create_namespace: Option<bool>,
}

impl WriteBody<'_> {
    /// There is a field that says something about rows or the schema.
    #[must_use]
    pub fn has_fields_beside_copy(&self) -> bool {
        self.upsert_rows.is_some()
            || self.upsert_columns.is_some()
            || self.patch_rows.is_some()
            || self.patch_columns.is_some()
            || self.deletes.is_some()
            || self.delete_by_filter.is_some()
            || self.patch_by_filter.is_some()
            || self.upsert_condition.is_some()
            || self.patch_condition.is_some()
            || self.delete_condition.is_some()
            || self.distance_metric.is_some()
            || self.schema.is_some()
    }
}

/// The order of the variants is that of the upstream's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum DistanceMetric {
    Unknown,
    #[serde(rename = "euclidean_squared")]
    EuclideanSquared,
    #[serde(rename = "cosine_distance")]
    Cosine,
    #[serde(rename = "euclidean")]
    Euclidean,
    Query,
}

impl DistanceMetric {
    /// None for the two names that no namespace can have.
    #[must_use]
    pub fn metric(self) -> Option<Metric> {
        match self {
            Self::EuclideanSquared => Some(Metric::EuclideanSquared),
            Self::Cosine => Some(Metric::Cosine),
            Self::Euclidean => Some(Metric::Euclidean),
            Self::Unknown | Self::Query => None,
        }
    }
}

#[derive(Clone, Debug, serde::Deserialize)]
pub struct PatchByFilter<'a> {
    #[serde(borrow)]
    pub filters: FiltersInput<'a>,
    #[serde(borrow)]
    pub patch: PatchInput<'a>,
}

/// Attributes by name.
#[derive(Clone, Debug)]
pub struct PatchInput<'a>(pub Vec<(Cow<'a, str>, Input<'a>)>);

#[derive(Clone, Debug, serde::Deserialize)]
pub struct Sharding {
    pub num_shards: u32,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
pub enum SourceInput {
    Name(String),
    Source(Source),
}

impl SourceInput {
    #[must_use]
    pub fn source(self) -> Source {
        match self {
            Self::Name(source_namespace) => Source { source_namespace, source_region: None, dest_encryption: None },
            Self::Source(source) => source,
        }
    }
}

#[derive(Clone, Debug, serde::Deserialize)]
pub struct Source {
    pub source_namespace: String,
    pub source_region: Option<String>,
    pub dest_encryption: Option<Encryption>,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
pub enum Encryption {
    Cmek { cmek: CmekKey },
    CustomerManaged { mode: CustomerManaged, key_name: String },
    Default { mode: DefaultMode },
}

#[derive(Clone, Debug, serde::Deserialize)]
pub struct CmekKey {
    pub key_name: String,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub enum CustomerManaged {
    #[serde(rename = "customer-managed")]
    CustomerManaged,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub enum DefaultMode {
    #[serde(rename = "default")]
    Default,
}

impl Encryption {
    /// The key that the caller wants to use.
    #[must_use]
    pub fn key_name(&self) -> Option<&str> {
        match self {
            Self::Cmek { cmek } => Some(&cmek.key_name),
            Self::CustomerManaged { key_name, .. } => Some(key_name),
            Self::Default { .. } => None,
        }
    }
}

/// Changes to a schema, in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub struct SchemaInput(pub Vec<(String, AttributeSchemaInput)>);

impl<'de> Deserialize<'de> for SchemaInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SchemaVisitor;
        impl<'de> Visitor<'de> for SchemaVisitor {
            type Value = SchemaInput;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut changes = Vec::new();
                while let Some(change) = entries.next_entry()? {
                    changes.push(change);
                }
                Ok(SchemaInput(changes))
            }
        }
        deserializer.deserialize_map(SchemaVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for PatchInput<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PatchVisitor;
        impl<'de> Visitor<'de> for PatchVisitor {
            type Value = PatchInput<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut changes = Vec::new();
                while let Some((Key(name), value)) = entries.next_entry::<Key<'de>, Input<'de>>()? {
                    changes.push((name, value));
                }
                Ok(PatchInput(changes))
            }
        }
        deserializer.deserialize_map(PatchVisitor)
    }
}

/// An id as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum IdInput<'a> {
    Uint(u64),
    Str(Cow<'a, str>),
}

impl<'de: 'a, 'a> Deserialize<'de> for IdInput<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Input::deserialize(deserializer)? {
            Input::Uint(number) => Ok(Self::Uint(number)),
            Input::Str(text) => Ok(Self::Str(text)),
            _ => Err(D::Error::custom("data did not match any variant of untagged enum Id")),
        }
    }
}

/// Ids, all of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IdVec<'a>(pub Vec<IdInput<'a>>);

impl<'a> IdVec<'a> {
    fn from_input(input: Input<'a>) -> Option<Self> {
        let ids = match input {
            Input::Ints(numbers) => numbers
                .into_iter()
                .map(|number| u64::try_from(number).ok().map(IdInput::Uint))
                .collect::<Option<_>>()?,
            Input::Array(items) => {
                let are_text = matches!(items.first(), Some(Input::Str(_)));
                let read = |item| match item {
                    Input::Str(text) if are_text => Some(IdInput::Str(text)),
                    Input::Uint(number) if !are_text => Some(IdInput::Uint(number)),
                    _ => None,
                };
                items.into_iter().map(read).collect::<Option<_>>()?
            }
            _ => return None,
        };
        Some(Self(ids))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for IdVec<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let input = Input::deserialize(deserializer)?;
        Self::from_input(input).ok_or_else(|| D::Error::custom("data did not match any variant of untagged enum IdVec"))
    }
}

/// One row: its id and the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct RowInput<'a> {
    pub id: IdInput<'a>,
    pub attrs: Vec<(Cow<'a, str>, Input<'a>)>,
}

impl<'de: 'a, 'a> Deserialize<'de> for RowInput<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowVisitor;
        impl<'de> Visitor<'de> for RowVisitor {
            type Value = RowInput<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut id = None;
                let mut attrs = Vec::new();
                while let Some(Key(name)) = entries.next_key::<Key<'de>>()? {
                    if name != "id" {
                        attrs.push((name, entries.next_value()?));
                    } else if id.replace(entries.next_value()?).is_some() {
                        return Err(A::Error::duplicate_field("id"));
                    }
                }
                let id = id.ok_or_else(|| A::Error::missing_field("id"))?;
                Ok(RowInput { id, attrs })
            }
        }
        deserializer.deserialize_map(RowVisitor)
    }
}

/// Columns: ids, and for each attribute one value per id.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnsInput<'a> {
    pub ids: IdVec<'a>,
    pub columns: Vec<(Cow<'a, str>, Column<'a>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Column<'a> {
    Values(Vec<Input<'a>>),
    /// Base64 of all rows' vectors.
    Packed(Cow<'a, str>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Column<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Input::deserialize(deserializer)? {
            Input::Ints(numbers) => Ok(Self::Values(numbers.into_iter().map(Input::integer).collect())),
            Input::Floats(numbers) => Ok(Self::Values(numbers.into_iter().map(Input::Float).collect())),
            Input::Array(items) => Ok(Self::Values(items)),
            Input::Str(text) => Ok(Self::Packed(text)),
            _ => Err(D::Error::custom("data did not match any variant of untagged enum Column")),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ColumnsInput<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnsVisitor;
        impl<'de> Visitor<'de> for ColumnsVisitor {
            type Value = ColumnsInput<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut ids = None;
                let mut columns = Vec::new();
                while let Some(Key(name)) = entries.next_key::<Key<'de>>()? {
                    if name != "id" {
                        columns.push((name, entries.next_value()?));
                    } else if ids.replace(entries.next_value()?).is_some() {
                        return Err(A::Error::duplicate_field("id"));
                    }
                }
                let ids = ids.ok_or_else(|| A::Error::missing_field("id"))?;
                Ok(ColumnsInput { ids, columns })
            }
        }
        deserializer.deserialize_map(ColumnsVisitor)
    }
}

/// The body of a metadata update.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct MetadataBody {
    /// Absent is None; null is `Some(Null)`.
    #[serde(default, deserialize_with = "present")]
    pub pinning: Option<UpdatePinningInput>,
    #[serde(default)]
    pub read_only: Option<bool>,
}

/// The name is the upstream's: it is part of the message of a 422.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
pub enum UpdatePinningInput {
    Null(()),
    Flag(bool),
    Replicas { replicas: u32 },
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Any JSON: for routes whose body is not looked at.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub struct AnyBody(#[allow(dead_code)] IgnoredAny);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::parse_body;

    const PREFIX: &str = "Failed to deserialize the JSON body into the target type: ";

    fn refusal(body: &str) -> (u16, String) {
        let error = parse_body::<WriteBody<'_>>(body.as_bytes()).expect_err(body);
        (error.status, error.message)
    }

    #[test]
    fn shapes_are_refused_with_their_path() {
        for (body, message) in [
            (r#"{"upsert_rows":{"id":2}}"#, "upsert_rows: invalid type: map, expected a sequence at line 1 column "),
            (r#"{"upsert_rows":[{}]}"#, "upsert_rows[0]: missing field `id` at line 1 column "),
            (
                r#"{"upsert_rows":[{"id":1},{"id":-1}]}"#,
                "upsert_rows[1].id: data did not match any variant of untagged enum Id at line 1 column ",
            ),
            (r#"{"patch_rows":[{"id":1.5}]}"#, "patch_rows[0].id: data did not match any variant of untagged enum Id"),
            (
                r#"{"upsert_columns":{"id":5}}"#,
                "upsert_columns.id: data did not match any variant of untagged enum IdVec",
            ),
            (r#"{"deletes":["a",1]}"#, "deletes: data did not match any variant of untagged enum IdVec"),
            (
                r#"{"distance_metric":"bad"}"#,
                "distance_metric: unknown variant `bad`, expected one of `Unknown`, `euclidean_squared`, \
                 `cosine_distance`, `euclidean`, `Query` at line 1 column ",
            ),
            (r#"{"patch_by_filter":{"patch":{}}}"#, "patch_by_filter: missing field `filters` at line 1 column "),
            (
                r#"{"schema":{"a":{"filterable":true}}}"#,
                "schema.a: data did not match any variant of untagged enum AttributeSchemaInput at line 1 column ",
            ),
        ] {
            let (status, actual) = refusal(body);
            assert_eq!(status, 422);
            assert!(actual.starts_with(&format!("{PREFIX}{message}")), "{actual}");
        }
        assert_eq!(refusal("{").0, 400);
        assert_eq!(refusal("").0, 400);
    }

    #[test]
    fn unknown_fields_are_ignored_and_null_is_absent() {
        let body: WriteBody<'_> =
            parse_body(br#"{"future":[{}],"upsert_rows":null,"deletes":[1,18446744073709551615]}"#).expect("parsed");
        assert!(body.upsert_rows.is_none());
        assert_eq!(body.deletes, Some(IdVec(vec![IdInput::Uint(1), IdInput::Uint(u64::MAX)])));
    }

    #[test]
    fn pinning_knows_null_from_absent() {
        let read = |body: &str| parse_body::<MetadataBody>(body.as_bytes());
        assert!(read("{}").expect("absent").pinning.is_none());
        assert!(matches!(read(r#"{"pinning":null}"#).expect("null").pinning, Some(UpdatePinningInput::Null(()))));
        let error = read(r#"{"pinning":"bad"}"#).expect_err("refused");
        assert!(error.message.contains("pinning: data did not match any variant of untagged enum UpdatePinningInput"));
    }
}
