//! Rows of a write, from what was sent to typed values: ids, inference of types, vectors, limits.

use crate::apply::{Patch, Puts, VectorColumn};
use crate::input::{Input, VectorError};
use crate::reply::{ApiError, ApiResult};
use crate::schema::{Attribute, Schema};
use crate::schema_json::{check_counts, check_name};
use crate::value::{AttrType, Element, Id, IdType, Scalar, Value, ID_BYTES_MAX, VECTOR_DIMS_MAX};
use crate::write_body::{Column, ColumnsInput, IdInput, IdVec, RowInput};
use std::borrow::Cow;

/// Largest value of an attribute, in bytes.
pub const VALUE_BYTES_MAX: usize = 8 << 20;
/// Largest value, or element of an array, of an attribute that can be filtered, in bytes.
pub const FILTERABLE_BYTES_MAX: usize = 4 << 10;
/// Largest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 64 << 20;
/// Most non-zero weights of a sparse vector.
pub const SPARSE_WEIGHTS_MAX: usize = 1024;

/// A schema as it grows with the rows of one request.
#[derive(Debug)]
pub struct Draft {
    pub schema: Schema,
    /// The namespace exists already: it cannot gain a vector attribute.
    pub is_old: bool,
}

type Named<'a> = (Cow<'a, str>, Input<'a>);

impl Draft {
    /// # Errors
    /// 400: an id is of another type than the namespace's, too long, or not a uuid.
    pub fn ids(&mut self, inputs: &IdVec<'_>) -> ApiResult<Vec<Id>> {
        inputs.0.iter().map(|input| self.id(input)).collect()
    }

    fn id(&mut self, input: &IdInput<'_>) -> ApiResult<Id> {
        let sent = match input {
            IdInput::Uint(_) => IdType::Uint,
            IdInput::Str(_) => IdType::Str,
        };
        let expected = *self.schema.id_type.get_or_insert(sent);
        match (expected, input) {
            (IdType::Uint, IdInput::Uint(number)) => Ok(Id::Uint(*number)),
            (IdType::Str, IdInput::Str(text)) if text.len() > ID_BYTES_MAX => Err(ApiError::invalid(format!(
                "ID '{text}' is too long: {} bytes, the limit is {ID_BYTES_MAX} bytes",
                text.len()
            ))),
            (IdType::Str, IdInput::Str(text)) => Ok(Id::Str(text.as_ref().into())),
            (IdType::Uuid, IdInput::Str(text)) => crate::value::parse_uuid(text).map(Id::Uuid).ok_or_else(|| {
                ApiError::invalid("namespace ID type is uuid, but a written ID could not be parsed as uuid")
            }),
            _ => Err(ApiError::invalid(format!(
                "namespace ID type is {}, but you sent {}; you are not allowed to mix ID types in the same namespace",
                expected.name(),
                sent.name()
            ))),
        }
    }

    /// The ordinal of an attribute; one that is new gets a type from its value. None when neither the schema nor the
    /// value says one: for null, and for an empty array, which is then as good as null.
    fn ordinal(&mut self, name: &str, input: &Input<'_>) -> ApiResult<Option<usize>> {
        if let Some(ordinal) = self.schema.ordinal(name) {
            return Ok(Some(ordinal));
        }
        check_name(name)?;
        let Some(kind) = infer(name, input)? else { return Ok(None) };
        if kind.is_vector() && self.is_old {
            return Err(ApiError::invalid("Vector provided for namespace without vector attribute"));
        }
        self.schema.attributes.push(Attribute::new(name, kind));
        check_counts(&self.schema)?;
        Ok(Some(self.schema.attributes.len() - 1))
    }

    /// # Errors
    /// 400: what is wrong with an id, a name or a value.
    pub fn upsert_rows(&mut self, rows: &[RowInput<'_>], out: &mut Puts) -> ApiResult<()> {
        let mut layout: Vec<(&str, usize)> = Vec::new();
        for row in rows {
            let id = self.id(&row.id)?;
            let mut attrs = Vec::with_capacity(self.schema.attributes.len());
            let mut bytes = 0;
            let place = out.rows.len();
            for (position, (name, input)) in row.attrs.iter().enumerate() {
                // Rows of one request mostly have the same names in the same order.
                let ordinal = match layout.get(position) {
                    Some((known, ordinal)) if *known == name.as_ref() => *ordinal,
                    _ => {
                        let Some(ordinal) = self.ordinal(name, input)? else { continue };
                        layout.truncate(position);
                        if layout.len() == position {
                            layout.push((name, ordinal));
                        }
                        ordinal
                    }
                };
                let attribute = &self.schema.attributes[ordinal];
                if let AttrType::Vector { dims, element } = attribute.kind {
                    if !matches!(input, Input::Null) {
                        put_vector(&mut out.vectors, ordinal, dims, element, place, input, attribute)?;
                    }
                } else {
                    let value = typed(attribute, input)?;
                    bytes += value.logical_bytes();
                    set(&mut attrs, ordinal, value);
                }
            }
            check_document(&id, bytes)?;
            out.rows.push((id, attrs.into()));
            self.check_vectors(out)?;
        }
        Ok(())
    }

    /// Every row that was put has all vectors.
    fn check_vectors(&self, out: &Puts) -> ApiResult<()> {
        for (ordinal, _, _) in self.schema.vectors() {
            let column = out.vectors.iter().find(|column| column.ordinal == ordinal);
            let complete = column.map_or(0, |column| column.components.len() / column.dims);
            if let Some((id, _)) = out.rows.get(complete) {
                return Err(missing_vector(id, &self.schema.attributes[ordinal]));
            }
        }
        Ok(())
    }

    /// # Errors
    /// 400: what is wrong with an id, a name, a column's length or a value.
    pub fn upsert_columns(&mut self, input: &ColumnsInput<'_>, out: &mut Puts) -> ApiResult<()> {
        let ids = self.ids(&input.ids)?;
        let mut rows: Vec<Vec<Value>> = vec![Vec::new(); ids.len()];
        let start = out.rows.len();
        for (name, column) in &input.columns {
            let values = self.column_values(name, column, ids.len())?;
            let Some(ordinal) = self.column_ordinal(name, &values)? else { continue };
            let attribute = &self.schema.attributes[ordinal];
            for (place, value) in values.iter().enumerate() {
                if let AttrType::Vector { dims, element } = attribute.kind {
                    if matches!(value, Input::Null) {
                        return Err(missing_vector(&ids[place], attribute));
                    }
                    put_vector(&mut out.vectors, ordinal, dims, element, start + place, value, attribute)?;
                } else {
                    set(&mut rows[place], ordinal, typed(attribute, value)?);
                }
            }
        }
        for (id, attrs) in ids.into_iter().zip(rows) {
            check_document(&id, attrs.iter().map(Value::logical_bytes).sum())?;
            out.rows.push((id, attrs.into()));
        }
        self.check_vectors(out)
    }

    /// The first value that is not null decides the type of a new attribute.
    fn column_ordinal(&mut self, name: &str, values: &[Input<'_>]) -> ApiResult<Option<usize>> {
        for value in values {
            if let Some(ordinal) = self.ordinal(name, value)? {
                return Ok(Some(ordinal));
            }
        }
        self.ordinal(name, &Input::Null)
    }

    fn column_values<'a>(&self, name: &str, column: &'a Column<'a>, rows: usize) -> ApiResult<Cow<'a, [Input<'a>]>> {
        let uneven =
            |length: usize| ApiError::invalid(format!("column '{name}' has {length} values, but `id` has {rows}"));
        match column {
            Column::Values(values) if values.len() == rows => Ok(Cow::Borrowed(values)),
            Column::Values(values) => Err(uneven(values.len())),
            Column::Packed(text) => {
                let components = Input::Str(text.clone()).vector().map_err(|error| vector_refusal(name, &error))?;
                if rows == 0 || components.len() % rows != 0 {
                    return Err(uneven(components.len()));
                }
                let one = |part: &[f32]| Input::Floats(part.iter().map(|number| f64::from(*number)).collect());
                Ok(components.chunks_exact(components.len() / rows).map(one).collect())
            }
        }
    }

    /// # Errors
    /// 400: what is wrong with an id, a name or a value; vectors cannot be patched.
    pub fn patch_rows(&mut self, rows: &[RowInput<'_>], out: &mut Vec<Patch>) -> ApiResult<()> {
        for row in rows {
            let id = self.id(&row.id)?;
            let changes = self.changes(&row.attrs)?;
            out.push(Patch { ids: vec![id], changes });
        }
        Ok(())
    }

    /// # Errors
    /// As [`Draft::patch_rows`].
    pub fn patch_columns(&mut self, input: &ColumnsInput<'_>, out: &mut Vec<Patch>) -> ApiResult<()> {
        let ids = self.ids(&input.ids)?;
        let mut changes: Vec<Vec<(usize, Value)>> = vec![Vec::new(); ids.len()];
        for (name, column) in &input.columns {
            self.refuse_vector(name)?;
            let values = self.column_values(name, column, ids.len())?;
            let Some(ordinal) = self.column_ordinal(name, &values)? else { continue };
            for (row, value) in changes.iter_mut().zip(values.iter()) {
                row.push((ordinal, typed(&self.schema.attributes[ordinal], value)?));
            }
        }
        out.extend(ids.into_iter().zip(changes).map(|(id, changes)| Patch { ids: vec![id], changes }));
        Ok(())
    }

    /// # Errors
    /// As [`Draft::patch_rows`].
    pub fn changes(&mut self, attrs: &[Named<'_>]) -> ApiResult<Vec<(usize, Value)>> {
        let mut changes = Vec::with_capacity(attrs.len());
        for (name, input) in attrs {
            if name == "id" {
                return Err(ApiError::invalid("patching `id` is not possible"));
            }
            self.refuse_vector(name)?;
            if let Some(ordinal) = self.ordinal(name, input)? {
                changes.push((ordinal, typed(&self.schema.attributes[ordinal], input)?));
            }
        }
        Ok(changes)
    }

    fn refuse_vector(&self, name: &str) -> ApiResult<()> {
        let is_vector = match self.schema.get(name) {
            Some(attribute) => attribute.kind.is_vector(),
            None => name == "vector",
        };
        if is_vector {
            return Err(ApiError::invalid("patching vectors is currently unsupported"));
        }
        Ok(())
    }
}

fn set(attrs: &mut Vec<Value>, ordinal: usize, value: Value) {
    if value.is_null() && attrs.len() <= ordinal {
        return;
    }
    if attrs.len() <= ordinal {
        attrs.resize(ordinal + 1, Value::Null);
    }
    attrs[ordinal] = value;
}

/// The type that a value gives to a new attribute.
fn infer(name: &str, input: &Input<'_>) -> ApiResult<Option<AttrType>> {
    if name == "vector" && matches!(input, Input::Ints(_) | Input::Floats(_) | Input::Str(_)) {
        let vector = input.vector().map_err(|error| vector_refusal(name, &error))?;
        let dims = u32::try_from(vector.len()).unwrap_or(u32::MAX);
        if dims > VECTOR_DIMS_MAX {
            let reason = format!("attribute 'vector' has {dims} dimensions, the limit is {VECTOR_DIMS_MAX}");
            return Err(ApiError::invalid(reason));
        }
        return Ok(Some(AttrType::Vector { dims, element: Element::F32 }));
    }
    let scalar = |input: &Input<'_>| match input {
        Input::Bool(_) => Some(Scalar::Bool),
        Input::Int(_) => Some(Scalar::Int),
        Input::Uint(number) => Some(if i64::try_from(*number).is_ok() { Scalar::Int } else { Scalar::Uint }),
        Input::Float(_) => Some(Scalar::Float),
        Input::Str(_) => Some(Scalar::Str),
        _ => None,
    };
    let kind = match input {
        Input::Null => return Ok(None),
        Input::Array(items) if items.is_empty() => return Ok(None),
        Input::Ints(_) => Some(AttrType::Array(Scalar::Int)),
        Input::Floats(_) => Some(AttrType::Array(Scalar::Float)),
        Input::Array(items) => scalar(&items[0]).map(AttrType::Array),
        input => scalar(input).map(AttrType::Scalar),
    };
    let cannot = || {
        let shown = input.shown();
        ApiError::invalid(format!("cannot infer a type for attribute '{name}' from {shown}, declare it in `schema`"))
    };
    kind.map(Some).ok_or_else(cannot)
}

/// A value of the attribute's type and within its limits.
fn typed(attribute: &Attribute, input: &Input<'_>) -> ApiResult<Value> {
    let value = input.to_value(attribute.kind).ok_or_else(|| {
        ApiError::invalid(format!(
            "type mismatch for attribute '{}': expected {}, but got '{}'",
            attribute.name,
            attribute.kind,
            input.shown()
        ))
    })?;
    let bytes = value.logical_bytes();
    if bytes > VALUE_BYTES_MAX {
        return Err(too_large(attribute, "value", bytes, VALUE_BYTES_MAX));
    }
    if attribute.filterable && bytes > FILTERABLE_BYTES_MAX {
        let largest = match &value {
            Value::Array(items) => items.iter().map(Value::logical_bytes).max().unwrap_or(0),
            _ => bytes,
        };
        if largest > FILTERABLE_BYTES_MAX {
            return Err(too_large(attribute, "filterable value", largest, FILTERABLE_BYTES_MAX));
        }
    }
    match &value {
        Value::Sparse(weights) if weights.len() > SPARSE_WEIGHTS_MAX => Err(ApiError::invalid(format!(
            "sparse vector in attribute '{}' has {} non-zero weights, the limit is {SPARSE_WEIGHTS_MAX}",
            attribute.name,
            weights.len()
        ))),
        _ => Ok(value),
    }
}

fn too_large(attribute: &Attribute, what: &str, bytes: usize, limit: usize) -> ApiError {
    ApiError::invalid(format!(
        "{what} of attribute '{}' is too large: {bytes} bytes, the limit is {limit} bytes",
        attribute.name
    ))
}

fn check_document(id: &Id, bytes: usize) -> ApiResult<()> {
    if bytes > DOCUMENT_BYTES_MAX {
        let reason = format!("document '{id}' is too large: {bytes} bytes, the limit is {DOCUMENT_BYTES_MAX} bytes");
        return Err(ApiError::invalid(reason));
    }
    Ok(())
}

fn missing_vector(id: &Id, attribute: &Attribute) -> ApiError {
    ApiError::invalid(format!("document '{id}' has no value for vector attribute '{}'", attribute.name))
}

fn vector_refusal(name: &str, error: &VectorError) -> ApiError {
    ApiError::invalid(match error {
        VectorError::NotAVector => {
            format!("vector attribute '{name}' must be an array of numbers or base64 of little-endian f32")
        }
        VectorError::BadBase64 => format!("vector attribute '{name}' is not base64 of little-endian f32"),
        VectorError::NotFinite => format!("vector attribute '{name}' must hold finite numbers only"),
    })
}

/// Writes the vector of the row at `place`, which must be the next one of its column.
fn put_vector(
    columns: &mut Vec<VectorColumn>,
    ordinal: usize,
    dims: u32,
    element: Element,
    place: usize,
    input: &Input<'_>,
    attribute: &Attribute,
) -> ApiResult<()> {
    let dims = dims as usize;
    let index = columns.iter().position(|column| column.ordinal == ordinal).unwrap_or_else(|| {
        columns.push(VectorColumn { ordinal, dims, components: Vec::new() });
        columns.len() - 1
    });
    let components = &mut columns[index].components;
    // A name that comes twice in one row counts as JSON has it: the last one wins. A row before this one may have
    // lacked its vector; then this column stays too short, which is found when the rows are complete.
    components.truncate(place * dims);
    let start = components.len();
    let found = input.append_vector(components).map_err(|error| vector_refusal(&attribute.name, &error))?;
    if found != dims {
        let reason = format!("vector attribute '{}' has {dims} dimensions, but got {found}", attribute.name);
        return Err(ApiError::invalid(reason));
    }
    if element != Element::F32 {
        for component in &mut components[start..] {
            *component = element.round(*component);
        }
        if components[start..].iter().any(|component| !component.is_finite()) {
            return Err(vector_refusal(&attribute.name, &VectorError::NotFinite));
        }
    }
    Ok(())
}
