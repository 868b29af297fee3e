//! A JSON value of a write, parsed without a tree for what comes in bulk: numbers in arrays stay unboxed and strings
//! borrow from the body.

use crate::value::{AttrType, Scalar, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub enum Input<'a> {
    Null,
    Bool(bool),
    /// Negative only; other integers are `Uint`.
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(Cow<'a, str>),
    /// A non-empty array of integers that fit.
    Ints(Vec<i64>),
    /// A non-empty array of numbers, at least one of which is not in `Ints`' range.
    Floats(Vec<f64>),
    Array(Vec<Input<'a>>),
    Object(Vec<(Cow<'a, str>, Input<'a>)>),
}

/// Why an input is not a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VectorError {
    NotAVector,
    BadBase64,
    NotFinite,
}

impl Input<'_> {
    #[must_use]
    pub fn integer(number: i64) -> Input<'static> {
        match u64::try_from(number) {
            Ok(number) => Input::Uint(number),
            Err(_) => Input::Int(number),
        }
    }

    #[must_use]
    pub fn from_json(json: &serde_json::Value) -> Input<'_> {
        Input::deserialize(json).unwrap_or(Input::Null)
    }

    /// Reads a value of the given type; None when the input is of another type. Null reads as `Value::Null`.
    #[must_use]
    pub fn to_value(&self, kind: AttrType) -> Option<Value> {
        if matches!(self, Self::Null) {
            return Some(Value::Null);
        }
        match kind {
            AttrType::Scalar(scalar) => scalar.coerce(self),
            AttrType::Array(scalar) => self.to_array(scalar),
            AttrType::Sparse => self.to_sparse(),
            AttrType::Vector { .. } => None,
        }
    }

    fn to_array(&self, scalar: Scalar) -> Option<Value> {
        let items: Option<Vec<Value>> = match self {
            Self::Ints(numbers) => numbers.iter().map(|number| scalar.coerce(&Input::integer(*number))).collect(),
            Self::Floats(numbers) => numbers.iter().map(|number| scalar.coerce(&Input::Float(*number))).collect(),
            Self::Array(items) => items.iter().map(|item| scalar.coerce(item)).collect(),
            _ => None,
        };
        items.map(|items| Value::Array(items.into()))
    }

    fn to_sparse(&self) -> Option<Value> {
        let Self::Object(entries) = self else { return None };
        let mut weights = Vec::with_capacity(entries.len());
        for (key, weight) in entries {
            let Value::Float(weight) = Scalar::Float.coerce(weight)? else { return None };
            #[allow(clippy::cast_possible_truncation)] // Weights are kept as half floats.
            let weight = crate::value::Element::F16.round(weight as f32);
            if !weight.is_finite() {
                return None;
            }
            let dim: u32 = key.parse().ok()?;
            if weight != 0.0 {
                weights.push((dim, weight));
            }
        }
        weights.sort_unstable_by_key(|(dim, _)| *dim);
        weights.windows(2).all(|pair| pair[0].0 < pair[1].0).then(|| Value::Sparse(weights.into()))
    }

    /// Reads a vector: an array of numbers, or base64 of little-endian singles.
    ///
    /// # Errors
    /// It is neither, or holds a number that is not finite.
    pub fn vector(&self) -> Result<Vec<f32>, VectorError> {
        let mut vector = Vec::new();
        self.append_vector(&mut vector)?;
        Ok(vector)
    }

    /// As [`Input::vector`], appended to `out`; returns the number of components.
    ///
    /// # Errors
    /// As [`Input::vector`]; `out` may then have grown.
    pub fn append_vector(&self, out: &mut Vec<f32>) -> Result<usize, VectorError> {
        let start = out.len();
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // Components are singles by contract.
        match self {
            Self::Ints(numbers) => out.extend(numbers.iter().map(|number| *number as f32)),
            Self::Floats(numbers) => out.extend(numbers.iter().map(|number| *number as f32)),
            Self::Str(text) => append_base64(text, out)?,
            _ => return Err(VectorError::NotAVector),
        }
        if out[start..].iter().all(|number| number.is_finite()) {
            Ok(out.len() - start)
        } else {
            Err(VectorError::NotFinite)
        }
    }

    /// The input as error messages show it: strings bare, arrays in brackets.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(flag) => flag.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Uint(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Str(text) => text.chars().take(SHOWN_CHARS_MAX).collect(),
            Self::Ints(numbers) => shown_list(numbers.iter().map(ToString::to_string)),
            Self::Floats(numbers) => shown_list(numbers.iter().map(ToString::to_string)),
            Self::Array(items) => shown_list(items.iter().map(Input::shown)),
            Self::Object(_) => "{..}".to_owned(),
        }
    }
}

/// Longest string and most elements that an error message repeats.
const SHOWN_CHARS_MAX: usize = 100;
const SHOWN_ITEMS_MAX: usize = 10;

fn shown_list(items: impl ExactSizeIterator<Item = String>) -> String {
    let dots = if items.len() > SHOWN_ITEMS_MAX { ", .." } else { "" };
    format!("[{}{dots}]", items.take(SHOWN_ITEMS_MAX).collect::<Vec<_>>().join(", "))
}

fn append_base64(text: &str, out: &mut Vec<f32>) -> Result<(), VectorError> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| VectorError::BadBase64)?;
    if bytes.is_empty() || bytes.len() % 4 != 0 {
        return Err(VectorError::BadBase64);
    }
    out.extend(bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]])));
    Ok(())
}

impl<'de: 'a, 'a> Deserialize<'de> for Input<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = Input<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Input::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Input::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Input::integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Input::Uint(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Input::Float(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Input::Str(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Input::Str(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut gathered = Gathered::Empty;
        while let Some(item) = items.next_element::<Input<'de>>()? {
            gathered = gathered.push(item);
        }
        Ok(gathered.finish())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut object = Vec::new();
        while let Some((Key(key), value)) = entries.next_entry::<Key<'de>, Input<'de>>()? {
            object.push((key, value));
        }
        Ok(Input::Object(object))
    }
}

/// An array as it grows: unboxed for as long as its elements allow it.
enum Gathered<'a> {
    Empty,
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Mixed(Vec<Input<'a>>),
}

impl<'a> Gathered<'a> {
    fn push(self, item: Input<'a>) -> Self {
        let small = match &item {
            Input::Uint(number) => i64::try_from(*number).ok(),
            Input::Int(number) => Some(*number),
            _ => None,
        };
        match (self, small, item) {
            (Self::Empty, Some(number), _) => Self::Ints(vec![number]),
            (Self::Empty, None, Input::Float(number)) => Self::Floats(vec![number]),
            (Self::Empty, None, item) => Self::Mixed(vec![item]),
            (Self::Ints(mut numbers), Some(number), _) => {
                numbers.push(number);
                Self::Ints(numbers)
            }
            #[allow(clippy::cast_precision_loss)] // Next to a fraction, an integer is a double too.
            (Self::Ints(numbers), None, Input::Float(number)) => {
                let mut floats: Vec<f64> = Vec::with_capacity(numbers.len() * 2);
                floats.extend(numbers.iter().map(|number| *number as f64));
                floats.push(number);
                Self::Floats(floats)
            }
            #[allow(clippy::cast_precision_loss)]
            (Self::Floats(mut numbers), Some(number), _) => {
                numbers.push(number as f64);
                Self::Floats(numbers)
            }
            (Self::Floats(mut numbers), None, Input::Float(number)) => {
                numbers.push(number);
                Self::Floats(numbers)
            }
            (Self::Mixed(mut items), _, item) => {
                items.push(item);
                Self::Mixed(items)
            }
            (gathered, _, item) => {
                let mut items = gathered.into_items();
                items.push(item);
                Self::Mixed(items)
            }
        }
    }

    fn into_items(self) -> Vec<Input<'a>> {
        match self {
            Self::Empty => Vec::new(),
            Self::Ints(numbers) => numbers.into_iter().map(Input::integer).collect(),
            Self::Floats(numbers) => numbers.into_iter().map(Input::Float).collect(),
            Self::Mixed(items) => items,
        }
    }

    fn finish(self) -> Input<'a> {
        match self {
            Self::Empty => Input::Array(Vec::new()),
            Self::Ints(numbers) => Input::Ints(numbers),
            Self::Floats(numbers) => Input::Floats(numbers),
            Self::Mixed(items) => Input::Array(items),
        }
    }
}

/// An object key, borrowed where it has no escapes.
pub struct Key<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Input<'_> {
        serde_json::from_str(text).expect(text)
    }

    #[test]
    fn arrays_stay_unboxed_while_they_can() {
        assert_eq!(read("[1,-2]"), Input::Ints(vec![1, -2]));
        assert_eq!(read("[1,0.5,2]"), Input::Floats(vec![1.0, 0.5, 2.0]));
        assert_eq!(read("[0.5,null]"), Input::Array(vec![Input::Float(0.5), Input::Null]));
        assert_eq!(read("[]"), Input::Array(Vec::new()));
        assert_eq!(read("[18446744073709551615]"), Input::Array(vec![Input::Uint(u64::MAX)]));
    }

    #[test]
    fn vectors_come_as_numbers_or_base64() {
        assert_eq!(read("[1,2]").vector(), Ok(vec![1.0, 2.0]));
        assert_eq!(read("\"zczMPc3MTD6amZk+\"").vector(), Ok(vec![0.1, 0.2, 0.3]));
        assert_eq!(read("\"AAA=\"").vector(), Err(VectorError::BadBase64));
        assert_eq!(read("\"AACAfw==\"").vector(), Err(VectorError::NotFinite));
        assert_eq!(read("[[1]]").vector(), Err(VectorError::NotAVector));
        assert_eq!(read("[1e300]").vector(), Err(VectorError::NotFinite));
    }

    #[test]
    fn keys_and_strings_borrow_unless_escaped() {
        let Input::Object(entries) = read(r#"{"plain":"a\nb"}"#) else { panic!("an object") };
        assert!(matches!(entries[0].0, Cow::Borrowed("plain")));
        assert_eq!(entries[0].1, Input::Str(Cow::Borrowed("a\nb")));
    }
}
