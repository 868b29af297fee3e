//! Ids, attribute types and attribute values as the engine stores them.

/// A document id. One namespace holds one kind only. The order is the upstream's: numeric for `Uint`, bytewise for
/// `Str`, and by the 16 bytes for `Uuid`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    Uint(u64),
    Str(Box<str>),
    Uuid(u128),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdType {
    Uint,
    Str,
    Uuid,
}

/// The scalar kinds of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    Str,
    Int,
    Uint,
    Float,
    Bool,
    Uuid,
    Datetime,
}

/// How the components of a vector are kept and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    F32,
    F16,
    I8,
}

/// The type of an attribute, as its type string says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttrType {
    Scalar(Scalar),
    Array(Scalar),
    Vector { dims: u32, element: Element },
    /// `{}f16`
    Sparse,
}

/// One attribute of one row. Absent and null are the same state: `Null`.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    #[default]
    Null,
    Str(Box<str>),
    Int(i64),
    Uint(u64),
    Float(f64),
    Bool(bool),
    Uuid(u128),
    /// Milliseconds since the epoch, UTC.
    Datetime(i64),
    /// Elements are non-null and all of the attribute's scalar kind.
    Array(Box<[Value]>),
    /// Sorted by dimension, weights non-zero.
    Sparse(Box<[(u32, f32)]>),
}
