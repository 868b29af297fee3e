//! Typed columns of a namespace's rows, in one file that is mapped and never edited.
//!
//! Every column is an array of **codes**, 1, 2, 4 or 8 bytes each, whose order is the order of the values. Code 0 is
//! null, which the upstream counts as smaller than every value, so that each comparison, null rules included, is one
//! range of codes. A **domain** says what the other codes stand for: `base + (code − 1)`, or entry `code − 1` of a
//! sorted dictionary. Arrays are codes of their elements, with the places where rows begin.
//!
//! Rows stand in the order of their ids, so that ids come out sorted, a condition on `id` is a range of rows, and a row
//! that has changed since is found by binary search.
//!
//! * [`build`] makes a segment in one pass over rows; [`segment`] opens one.
//! * [`codes`] has the loops over codes; [`plan`] turns a filter into them; [`run`] drives them on threads.

pub mod build;
pub mod codes;
pub mod domain;
pub mod ids;
pub mod plan;
pub mod run;
pub mod segment;
pub mod table;
