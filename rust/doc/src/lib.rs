//! Typed ids and values, and the binary layout of a cached row.

pub mod id;
