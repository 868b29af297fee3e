//! Rows as the answer shows them: id, score, attributes, computed values.

use crate::filter::{Filter, Row};
use crate::filter_bitmap::Bitmap;
use crate::filter_parse::{has_filter_shape, parse};
use crate::highlight::{parse_highlight, Highlight};
use crate::input::Input;
use crate::knn::Probe;
use crate::query_body::{IncludeAttributes, Named, VectorEncoding};
use crate::rank::{parse_expression, parse_vector_query, Expression, Ranking};
use crate::rank_run::{Ranked, Snapshot};
use crate::rank_score::Scorer;
use crate::reply::{ApiError, ApiResult};
use crate::schema::Schema;
use crate::table::Metric;
use crate::value::{write_base64_vector, write_json_f32, write_json_str, write_json_vector, AttrType};

/// Most computed attributes of one query.
const COMPUTED_MAX: usize = 256;
const SCORE_BYTES: u64 = 4;

/// Which attributes rows carry, by ordinal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection(pub Vec<usize>);

#[derive(Clone, Debug)]
pub enum Computed {
    VectorDistance { ordinal: usize, query: Vec<f32> },
    Highlight(Highlight),
    Match(Filter),
    Score(Expression),
}

/// # Errors
/// 400 when both lists are given, or an included attribute is missing.
pub fn parse_projection(
    include: Option<&IncludeAttributes>,
    exclude: Option<&Vec<String>>,
    schema: &Schema,
) -> ApiResult<Projection> {
    match (include, exclude) {
        (Some(_), Some(_)) => Err(ApiError::invalid("cannot specify both include_attributes and exclude_attributes")),
        (None | Some(IncludeAttributes::All(false)), None) => Ok(Projection::default()),
        (Some(IncludeAttributes::All(true)), None) => {
            Ok(Projection(schema.living().map(|(ordinal, _)| ordinal).collect()))
        }
        (None, Some(names)) => {
            let kept = schema.living().filter(|(_, attribute)| !names.contains(&attribute.name));
            Ok(Projection(kept.map(|(ordinal, _)| ordinal).collect()))
        }
        (Some(IncludeAttributes::Names(names)), None) => {
            let mut ordinals = Vec::with_capacity(names.len());
            for name in names.iter().filter(|name| *name != "id") {
                let ordinal = schema.ordinal(name).ok_or_else(|| {
                    ApiError::invalid(format!(
                        "attribute \"{name}\" not found in schema, cannot be part of `include_attributes`. consider \
                         passing `include_attributes=True` to return all attribute data instead"
                    ))
                })?;
                if !ordinals.contains(&ordinal) {
                    ordinals.push(ordinal);
                }
            }
            Ok(Projection(ordinals))
        }
    }
}

/// # Errors
/// 400 when there are too many, a name is taken, or an expression does not fit the schema.
pub fn parse_computed(
    computed: Option<&Named<'_>>,
    schema: &Schema,
    ranking: &Ranking,
) -> ApiResult<Vec<(String, Computed)>> {
    let Some(Named(entries)) = computed else { return Ok(Vec::new()) };
    if entries.len() > COMPUTED_MAX {
        return Err(ApiError::invalid(format!("compute_attributes is limited to {COMPUTED_MAX} entries")));
    }
    let parse_one = |(name, input): &(String, Input<'_>)| {
        if name == "id" || name.starts_with('$') {
            return Err(ApiError::invalid(format!("compute_attributes cannot define `{name}`")));
        }
        Ok((name.clone(), parse_computed_one(input, schema, ranking)?))
    };
    entries.iter().map(parse_one).collect()
}

fn parse_computed_one(input: &Input<'_>, schema: &Schema, ranking: &Ranking) -> ApiResult<Computed> {
    let Input::Array(parts) = input else {
        return Err(ApiError::invalid(format!(
            "invalid input '{}' in compute_attributes, expecting an expression",
            input.shown()
        )));
    };
    match parts.as_slice() {
        [Input::Str(name), Input::Str(operator), query]
            if operator == "VectorDist" || operator == "ANN" || operator == "kNN" =>
        {
            let (ordinal, query) = parse_vector_query(name, query, schema)?;
            Ok(Computed::VectorDistance { ordinal, query })
        }
        [Input::Str(name), Input::Str(function), rest @ ..] if function == "Highlight" && rest.len() <= 1 => {
            parse_highlight(name, rest.first(), schema, ranking).map(Computed::Highlight)
        }
        [Input::Str(function), Input::Str(name), rest @ ..] if function == "Highlight" && rest.len() <= 1 => {
            parse_highlight(name, rest.first(), schema, ranking).map(Computed::Highlight)
        }
        _ if has_filter_shape(input, 0) => Ok(Computed::Match(parse(input, schema, false)?)),
        _ => Ok(Computed::Score(parse_expression(input, schema)?)),
    }
}

enum Prepared<'a> {
    VectorDistance(usize, Probe<'a>),
    Highlight(&'a Highlight),
    Match(&'a Filter, Vec<Bitmap>),
    Score(Scorer<'a>),
}

/// Writes rows of one query; what the computed attributes need is made ready once.
pub struct RowWriter<'a> {
    snapshot: &'a Snapshot<'a>,
    projection: &'a Projection,
    computed: Vec<(&'a str, Prepared<'a>)>,
    encoding: VectorEncoding,
}

impl<'a> RowWriter<'a> {
    #[must_use]
    pub fn new(
        snapshot: &'a Snapshot<'a>,
        projection: &'a Projection,
        computed: &'a [(String, Computed)],
        encoding: VectorEncoding,
    ) -> Self {
        let table = snapshot.table;
        let prepare = |value: &'a Computed| match value {
            Computed::VectorDistance { ordinal, query } => {
                Prepared::VectorDistance(*ordinal, Probe::new(query, table.metric.unwrap_or(Metric::Cosine)))
            }
            Computed::Highlight(highlight) => Prepared::Highlight(highlight),
            Computed::Match(filter) => Prepared::Match(filter, filter.token_bitmaps(table)),
            Computed::Score(expression) => Prepared::Score(Scorer::new(expression, table, snapshot.visible.as_ref())),
        };
        let computed = computed.iter().map(|(name, value)| (name.as_str(), prepare(value))).collect();
        Self { snapshot, projection, computed, encoding }
    }

    /// Writes rows as a JSON array; returns the bytes that are billed as returned.
    pub fn write_all(&self, out: &mut Vec<u8>, rows: &[Ranked]) -> u64 {
        let mut bytes = 0;
        out.push(b'[');
        for (index, row) in rows.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            bytes += self.write(out, *row);
        }
        out.push(b']');
        bytes
    }

    /// Writes one row as a JSON object; returns the bytes that are billed as returned.
    pub fn write(&self, out: &mut Vec<u8>, row: Ranked) -> u64 {
        let id = &self.snapshot.table.slots[row.slot as usize].id;
        let mut bytes = id.logical_bytes() as u64;
        out.extend_from_slice(b"{\"id\":");
        id.write_json(out);
        if let Some(score) = row.score {
            out.extend_from_slice(b",\"$dist\":");
            write_json_f32(out, score);
            bytes += SCORE_BYTES;
        }
        for ordinal in &self.projection.0 {
            bytes += self.write_attribute(out, row.slot, *ordinal);
        }
        for (name, value) in &self.computed {
            bytes += self.write_computed(out, row.slot, name, value);
        }
        out.push(b'}');
        bytes
    }

    fn write_attribute(&self, out: &mut Vec<u8>, slot: u32, ordinal: usize) -> u64 {
        let table = self.snapshot.table;
        let attribute = &table.schema.attributes[ordinal];
        // A computed value takes the place of an attribute of the same name.
        if self.computed.iter().any(|(name, _)| *name == attribute.name) {
            return 0;
        }
        if let AttrType::Vector { dims, element } = attribute.kind {
            let Some(vector) = table.vector(slot, ordinal) else { return 0 };
            write_key(out, &attribute.name);
            match self.encoding {
                VectorEncoding::Float => write_json_vector(out, vector),
                VectorEncoding::Base64 => write_base64_vector(out, vector),
            }
            return u64::from(dims) * element.bytes() as u64;
        }
        let value = table.value(slot, ordinal);
        if value.is_null() {
            return 0;
        }
        write_key(out, &attribute.name);
        value.write_json(out);
        value.logical_bytes() as u64
    }

    fn write_computed(&self, out: &mut Vec<u8>, slot: u32, name: &str, value: &Prepared<'_>) -> u64 {
        let table = self.snapshot.table;
        match value {
            Prepared::VectorDistance(ordinal, probe) => {
                let Some(vector) = table.vector(slot, *ordinal) else { return 0 };
                write_key(out, name);
                write_json_f32(out, probe.distance(vector));
                SCORE_BYTES
            }
            Prepared::Score(scorer) => {
                write_key(out, name);
                write_json_f32(out, scorer.score(slot));
                SCORE_BYTES
            }
            Prepared::Match(filter, tokens) => {
                let row = Row { table, slot, new: None, tokens: Some(tokens) };
                write_key(out, name);
                out.extend_from_slice(if filter.root.matches(row) { b"true" } else { b"false" });
                1
            }
            Prepared::Highlight(highlight) => {
                let text = table.value(slot, highlight.ordinal);
                if text.is_null() {
                    return 0;
                }
                write_key(out, name);
                let start = out.len();
                highlight.write_json(out, text);
                (out.len() - start) as u64
            }
        }
    }
}

fn write_key(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    write_json_str(out, name);
    out.push(b':');
}
