//! Merges the answers to the legs of one scattered query, on their bytes: a row is a range of an answer, never a tree.
//!
//! ```text
//!  answers   {"results":[{"rows":[r r r]},{"rows":[r r]}],"billing":…,"performance":…}   {"results":[…],…}
//!                                 │ │ │            │ │
//!  entries                  ($dist, id, range) of every row, in no order
//!                                 └─┴─┴─────┬──────┴─┘
//!  order                    by distance or score, equal ones by id, an id once
//!  merged                   "[" rows offset..offset+limit, as they came "]"
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use hashbrown::HashSet;
use hevlayer_splice::reader::{Key, Kind, Reader};
use hevlayer_splice::{text, Parsed};

/// Rows beyond those asked for that are put in order at first, in case that some ids stand in two legs.
const SPARE: usize = 64;

/// Whether a smaller `$dist` is better (a distance) or a larger one (a score).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// Answers that cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeError {
    /// Which of the answers, counted from 0.
    pub answer: usize,
    pub reason: String,
}

impl fmt::Display for MergeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "answer {}: {}", self.answer, self.reason)
    }
}

impl std::error::Error for MergeError {}

/// What the legs gave together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// A JSON array of the rows, each as it came.
    pub rows: Vec<u8>,
    pub row_count: usize,
    /// Legs that the answers held.
    pub legs: usize,
    /// The text of `billing` and of `performance` of each answer that had one.
    pub billing: Vec<Text>,
    pub performance: Vec<Text>,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Which of the answers, counted from 0.
    pub answer: usize,
    pub range: Range<usize>,
}

#[derive(Clone, Debug)]
enum Id<'a> {
    Uint(u64),
    /// Between the quotes, without escapes.
    Plain(&'a [u8]),
    Decoded(String),
}

impl Id<'_> {
    fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Uint(_) => None,
            Self::Plain(raw) => Some(raw),
            Self::Decoded(text) => Some(text.as_bytes()),
        }
    }

    fn value(&self) -> (u64, Option<&[u8]>) {
        match self {
            Self::Uint(value) => (*value, None),
            other => (0, other.text()),
        }
    }
}

struct Entry<'a> {
    dist: f64,
    id: Id<'a>,
    row: &'a [u8],
}

/// Integers before strings, each by its own order.
fn by_id(left: &Id<'_>, right: &Id<'_>) -> Ordering {
    match (left, right) {
        (Id::Uint(left), Id::Uint(right)) => left.cmp(right),
        (Id::Uint(_), _) => Ordering::Less,
        (_, Id::Uint(_)) => Ordering::Greater,
        (left, right) => left.text().cmp(&right.text()),
    }
}

fn compare(order: Order, left: &Entry<'_>, right: &Entry<'_>) -> Ordering {
    // Numbers of JSON are never NaN.
    let by_dist = left.dist.partial_cmp(&right.dist).unwrap_or(Ordering::Equal);
    let by_dist = if order == Order::Ascending { by_dist } else { by_dist.reverse() };
    by_dist.then_with(|| by_id(&left.id, &right.id))
}

/// Merges whole answers, each to a single query (`rows`) or to a multi-query (`results`, one leg each).
///
/// # Errors
/// An answer is not JSON or has neither, or a row has no id, or no number at `$dist`.
pub fn merge(answers: &[&[u8]], offset: usize, limit: usize, order: Order) -> Result<Merged, MergeError> {
    let mut merged = Merged::default();
    let mut entries = Vec::new();
    for (index, &answer) in answers.iter().enumerate() {
        let mut walk =
            Walk { body: answer, entries: &mut entries, legs: 0, broken: None, billing: None, performance: None };
        let read = walk.read();
        if let Some(reason) = walk.broken {
            return Err(MergeError { answer: index, reason });
        }
        if let Err(fault) = read {
            return Err(MergeError { answer: index, reason: format!("{} at byte {}", fault.reason, fault.at) });
        }
        if walk.legs == 0 {
            return Err(MergeError { answer: index, reason: "it has no rows".to_owned() });
        }
        merged.legs += walk.legs;
        let text = |range: Range<usize>| Text { answer: index, range };
        merged.billing.extend(walk.billing.map(text));
        merged.performance.extend(walk.performance.map(text));
    }
    let chosen = choose(&mut entries, offset, limit, order);
    merged.row_count = chosen.len();
    let bytes: usize = chosen.iter().map(|&index| entries[index].row.len() + 1).sum();
    merged.rows.reserve_exact(bytes + 2);
    merged.rows.push(b'[');
    for (position, &index) in chosen.iter().enumerate() {
        if position > 0 {
            merged.rows.push(b',');
        }
        merged.rows.extend_from_slice(entries[index].row);
    }
    merged.rows.push(b']');
    Ok(merged)
}

/// Puts the best entries in order at the front and gives the indices of those to show, an id once.
fn choose(entries: &mut [Entry<'_>], offset: usize, limit: usize, order: Order) -> Vec<usize> {
    let wanted = offset.saturating_add(limit);
    let mut sorted = wanted.saturating_add(SPARE);
    loop {
        let front = sorted.min(entries.len());
        if front < entries.len() && front > 0 {
            entries.select_nth_unstable_by(front - 1, |left, right| compare(order, left, right));
        }
        entries[..front].sort_unstable_by(|left, right| compare(order, left, right));
        let mut seen = HashSet::with_capacity(front);
        let distinct: Vec<usize> = (0..front).filter(|&index| seen.insert(entries[index].id.value())).collect();
        if distinct.len() >= wanted || front == entries.len() {
            return distinct.into_iter().skip(offset).take(limit).collect();
        }
        sorted = sorted.saturating_mul(2);
    }
}

/// Reads one answer.
struct Walk<'a, 'e> {
    body: &'a [u8],
    entries: &'e mut Vec<Entry<'a>>,
    legs: usize,
    /// Why the answer cannot be merged although it is JSON so far.
    broken: Option<String>,
    billing: Option<Range<usize>>,
    performance: Option<Range<usize>>,
}

/// The name of a member, when it is written without escapes, as the upstream writes its own names.
fn name(body: &[u8], key: Key) -> &[u8] {
    if key.escaped {
        return b"";
    }
    &body[key.start + 1..key.end - 1]
}

impl<'a> Walk<'a, '_> {
    fn read(&mut self) -> Parsed<()> {
        let mut reader = Reader::new(self.body);
        reader.skip_blank();
        if reader.kind() == Kind::Object {
            self.answer(&mut reader)?;
        } else {
            reader.skip_value()?;
        }
        reader.finish()
    }

    fn answer(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        let body = self.body;
        reader.members(|reader, key| {
            let start = reader.at;
            match name(body, key) {
                b"rows" if reader.kind() == Kind::Array => self.rows(reader)?,
                b"results" if reader.kind() == Kind::Array => {
                    reader.elements(|reader, index| self.leg(reader, index))?;
                }
                b"billing" => {
                    reader.skip_value()?;
                    self.billing = Some(start..reader.at);
                }
                b"performance" => {
                    reader.skip_value()?;
                    self.performance = Some(start..reader.at);
                }
                _ => reader.skip_value()?,
            }
            Ok(())
        })?;
        Ok(())
    }

    fn leg(&mut self, reader: &mut Reader<'a>, index: usize) -> Parsed<()> {
        let before = self.legs;
        if reader.kind() == Kind::Object {
            let body = self.body;
            reader.members(|reader, key| {
                if name(body, key) == b"rows" && reader.kind() == Kind::Array {
                    return self.rows(reader);
                }
                reader.skip_value()
            })?;
        } else {
            reader.skip_value()?;
        }
        if self.legs != before + 1 {
            self.refuse(|| format!("results[{index}] has no rows"));
        }
        Ok(())
    }

    fn rows(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        self.legs += 1;
        reader.elements(|reader, index| self.row(reader, index))?;
        Ok(())
    }

    fn row(&mut self, reader: &mut Reader<'a>, index: usize) -> Parsed<()> {
        let (body, start) = (self.body, reader.at);
        let (mut dist, mut id) = (None, None);
        if reader.kind() == Kind::Object {
            reader.members(|reader, key| {
                let at = reader.at;
                match name(body, key) {
                    b"$dist" if reader.kind() == Kind::Number => {
                        reader.skip_value()?;
                        dist = std::str::from_utf8(&body[at..reader.at]).ok().and_then(|text| text.parse::<f64>().ok());
                    }
                    b"id" if reader.kind() == Kind::String => {
                        let escaped = reader.string()?;
                        let raw = &body[at + 1..reader.at - 1];
                        id = Some(if escaped {
                            Id::Decoded(text::decode(raw).text.into_owned())
                        } else {
                            Id::Plain(raw)
                        });
                    }
                    b"id" => {
                        reader.skip_value()?;
                        id = text::uint(&body[at..reader.at]).map(Id::Uint);
                    }
                    _ => reader.skip_value()?,
                }
                Ok(())
            })?;
        } else {
            reader.skip_value()?;
        }
        let leg = self.legs - 1;
        match (dist, id) {
            (Some(dist), Some(id)) => self.entries.push(Entry { dist, id, row: &body[start..reader.at] }),
            (None, _) => self.refuse(|| format!("row {index} of leg {leg} has no number at $dist")),
            (_, None) => self.refuse(|| format!("row {index} of leg {leg} has no id")),
        }
        Ok(())
    }

    fn refuse(&mut self, reason: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(reason());
        }
    }
}

#[cfg(test)]
mod tests;
