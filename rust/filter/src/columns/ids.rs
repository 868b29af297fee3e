//! The ids of rows: kept sorted in segments, found by key, and answered as JSON.

use crate::columns::segment::{IdSections, Ids, SegmentWriter};
use crate::error::ScanError;
use crate::schema::ScalarRef;
use hevlayer_doc::id::{TAG_STRING, TAG_UINT};
use std::cmp::Ordering;

/// Ids in any order, of one type: the type of the first.
#[derive(Debug, Default)]
pub struct IdBuilder {
    uints: Vec<u64>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl IdBuilder {
    #[must_use]
    pub fn len(&self) -> usize {
        self.uints.len().max(self.ends.len())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// # Errors
    /// The key is no id, or of another type than those before it.
    pub fn push(&mut self, key: &[u8]) -> Result<(), ScanError> {
        match key.split_first() {
            Some((&TAG_UINT, number)) if self.ends.is_empty() => {
                let number = number.try_into().map_err(|_| ScanError::Source("an id of a wrong length".to_owned()))?;
                self.uints.push(u64::from_be_bytes(number));
                Ok(())
            }
            Some((&TAG_STRING, text)) if self.uints.is_empty() => {
                self.bytes.extend_from_slice(text);
                self.ends.push(self.bytes.len());
                Ok(())
            }
            _ => Err(ScanError::Source("ids of more than one type".to_owned())),
        }
    }

    fn text(&self, index: usize) -> &[u8] {
        let from = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[from..self.ends[index]]
    }

    fn compare(&self, left: u32, right: u32) -> Ordering {
        let (left, right) = (left as usize, right as usize);
        if self.ends.is_empty() {
            self.uints[left].cmp(&self.uints[right])
        } else {
            self.text(left).cmp(self.text(right))
        }
    }

    /// The rows in the order of their ids; None when they stand so already.
    ///
    /// # Errors
    /// Two rows have one id.
    pub fn order(&self) -> Result<Option<Vec<u32>>, ScanError> {
        let rows = u32::try_from(self.len()).unwrap_or(u32::MAX);
        if (1..rows).all(|row| self.compare(row - 1, row) == Ordering::Less) {
            return Ok(None);
        }
        let mut order: Vec<u32> = (0..rows).collect();
        order.sort_unstable_by(|left, right| self.compare(*left, *right));
        if order.windows(2).any(|pair| self.compare(pair[0], pair[1]) == Ordering::Equal) {
            return Err(ScanError::Source("two rows with one id".to_owned()));
        }
        Ok(Some(order))
    }

    /// Writes the ids in the given order.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write(&self, order: Option<&[u32]>, writer: &mut SegmentWriter) -> std::io::Result<IdSections> {
        let rows = u32::try_from(self.len()).unwrap_or(u32::MAX);
        let row_at = |place: u32| order.map_or(place, |order| order[place as usize]) as usize;
        if self.ends.is_empty() {
            let uints: Vec<u64> = (0..rows).map(|place| self.uints[row_at(place)]).collect();
            return Ok(IdSections::Uints(writer.section(&uints)?));
        }
        let mut places = vec![0_u64];
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for place in 0..rows {
            bytes.extend_from_slice(self.text(row_at(place)));
            places.push(bytes.len() as u64);
        }
        Ok(IdSections::Texts(writer.section(&places)?, writer.section(&bytes)?))
    }
}

impl<'a> Ids<'a> {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Uints(uints) => uints.len(),
            Self::Texts { places, .. } => places.len().saturating_sub(1),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of a row's id, when ids are texts.
    #[must_use]
    pub fn text(places: &[u64], bytes: &'a [u8], row: usize) -> &'a [u8] {
        let place = |at: usize| usize::try_from(places[at]).unwrap_or(usize::MAX);
        bytes.get(place(row)..place(row + 1)).unwrap_or_default()
    }

    fn compare(&self, row: usize, key: &[u8]) -> Ordering {
        match self {
            Self::Uints(uints) => match key.split_first() {
                Some((&TAG_UINT, number)) => uints[row].to_be_bytes().as_slice().cmp(number),
                _ => TAG_UINT.cmp(key.first().unwrap_or(&0)),
            },
            Self::Texts { places, bytes } => match key.split_first() {
                Some((&TAG_STRING, text)) => Self::text(places, bytes, row).cmp(text),
                _ => TAG_STRING.cmp(key.first().unwrap_or(&0)),
            },
        }
    }

    /// How many ids come before the key's.
    #[must_use]
    pub fn before(&self, key: &[u8]) -> usize {
        self.partition(|ordering| ordering == Ordering::Less, key)
    }

    /// How many ids come before the key's, or are it.
    #[must_use]
    pub fn up_to(&self, key: &[u8]) -> usize {
        self.partition(|ordering| ordering != Ordering::Greater, key)
    }

    fn partition(&self, before: impl Fn(Ordering) -> bool, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.compare(middle, key)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The row of a key.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        let row = self.before(key);
        (row < self.len() && self.compare(row, key) == Ordering::Equal).then_some(row)
    }

    /// Appends the ids of rows.
    pub fn list_to(&self, rows: &[u32], list: &mut IdList) {
        match self {
            Self::Uints(uints) => match without_gaps(uints) {
                Some(first) => list.uints.extend(rows.iter().map(|row| first + u64::from(*row))),
                None => list.uints.extend(rows.iter().map(|row| uints[*row as usize])),
            },
            Self::Texts { places, bytes } => {
                list.ends.reserve(rows.len());
                rows.iter().for_each(|row| list.push_text(Self::text(places, bytes, *row as usize)));
            }
        }
    }

    /// The cache key of a row.
    #[must_use]
    pub fn key(&self, row: usize) -> Vec<u8> {
        match self {
            Self::Uints(uints) => hevlayer_doc::id::uint_key(uints[row]),
            Self::Texts { places, bytes } => [&[TAG_STRING], Self::text(places, bytes, row)].concat(),
        }
    }
}

/// The first of ids that are sorted, each once, and all there up to the last: then a row tells its id, and the ids need not
/// be read.
fn without_gaps(uints: &[u64]) -> Option<u64> {
    let (first, last) = (*uints.first()?, *uints.last()?);
    (last.checked_sub(first)? == uints.len() as u64 - 1).then_some(first)
}

/// The cache key of an id in a filter.
#[must_use]
pub fn key_of(value: ScalarRef<'_>) -> Vec<u8> {
    match value {
        ScalarRef::Number(number) => hevlayer_doc::id::uint_key(crate::schema::key_uint(number)),
        ScalarRef::Text(text) => hevlayer_doc::id::string_key(text),
        ScalarRef::Uuid(bits) => hevlayer_doc::id::string_key(&crate::schema::format_uuid(bits)),
    }
}

/// Ids that a scan found, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdList {
    uints: Vec<u64>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl IdList {
    #[must_use]
    pub fn len(&self) -> usize {
        self.uints.len().max(self.ends.len())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the id of a key.
    pub fn push_key(&mut self, key: &[u8]) {
        match key.split_first() {
            Some((&TAG_UINT, number)) => {
                self.uints.push(number.try_into().map(u64::from_be_bytes).unwrap_or_default());
            }
            Some((_, text)) => self.push_text(text),
            None => {}
        }
    }

    pub fn push_uint(&mut self, id: u64) {
        self.uints.push(id);
    }

    pub fn push_text(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    /// Appends another list, whose ids come after these.
    pub fn append(&mut self, other: &Self) {
        self.uints.extend_from_slice(&other.uints);
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| end + shift));
    }

    /// Keeps the first `count`.
    pub fn truncate(&mut self, count: usize) {
        self.uints.truncate(count);
        self.ends.truncate(count);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// The cache key of an id of the list.
    #[must_use]
    pub fn key(&self, index: usize) -> Option<Vec<u8>> {
        if let Some(uint) = self.uints.get(index) {
            return Some(hevlayer_doc::id::uint_key(*uint));
        }
        let end = *self.ends.get(index)?;
        let from = if index == 0 { 0 } else { self.ends[index - 1] };
        Some([&[TAG_STRING], &self.bytes[from..end]].concat())
    }

    /// The ids from `offset`, at most `limit`, as a JSON array of strings.
    #[must_use]
    pub fn json(&self, offset: usize, limit: usize) -> Vec<u8> {
        let to = offset.saturating_add(limit).min(self.len());
        let mut out = Vec::with_capacity(to.saturating_sub(offset) * 16 + 2);
        out.push(b'[');
        let mut digits = itoa::Buffer::new();
        for uint in self.uints.get(offset..to).unwrap_or_default() {
            // In one piece: a quote, up to 20 digits, a quote and a comma.
            let text = digits.format(*uint).as_bytes();
            let mut piece = [b'"'; 24];
            piece[1..=text.len()].copy_from_slice(text);
            piece[text.len() + 2] = b',';
            out.extend_from_slice(&piece[..text.len() + 3]);
        }
        for index in offset..to.min(self.ends.len()) {
            let from = if index == 0 { 0 } else { self.ends[index - 1] };
            let text = String::from_utf8_lossy(&self.bytes[from..self.ends[index]]);
            // Writing to a vector cannot fail.
            let _ = serde_json::to_writer(&mut out, text.as_ref());
            out.push(b',');
        }
        // The last comma.
        out.truncate(out.len() - usize::from(out.len() > 1));
        out.push(b']');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_listed_with_gaps_and_without() {
        for uints in [vec![7, 8, 9, 10], vec![7, 8, 10, 11], vec![u64::MAX - 1, u64::MAX], vec![0], vec![5, u64::MAX]] {
            let ids = Ids::Uints(&uints);
            let rows: Vec<u32> = (0..u32::try_from(uints.len()).expect("few")).collect();
            let mut list = IdList::default();
            ids.list_to(&rows, &mut list);
            ids.list_to(&rows[..1], &mut list);
            assert_eq!(list.uints, [&uints[..], &uints[..1]].concat());
        }
        assert_eq!(without_gaps(&[]), None);
        assert_eq!(without_gaps(&[3, 5]), None);
        assert_eq!(without_gaps(&[3, 4]), Some(3));
    }
}
