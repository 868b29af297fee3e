//! The document cache: marks, settles and fills rows by compare-and-set.
