//! The inverted index of one full-text attribute.

/// Postings of one attribute over slots.
#[derive(Clone, Debug, Default)]
pub struct TextIndex {}
