//! Makes a segment in one pass over rows.

use crate::columns::ids::IdBuilder;
use crate::columns::segment::{ColumnEntry, Directory, DomainSections, Origin, SegmentWriter, ROWS_MAX};
use crate::compile::{Filter, Node, Used};
use crate::error::ScanError;
use crate::row::{Hints, Reading};
use crate::scan::{Limits, RowSource};
use crate::schema::{AttributeType, Kind, ScalarRef};
use hashbrown::{HashSet, HashTable};
use hevlayer_doc::View;
use std::ops::ControlFlow;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// Most elements of all arrays of one column: places are 32-bit.
const ELEMENTS_MAX: usize = u32::MAX as usize - 1;
/// Most bytes of the different texts of one column, which are in memory while it is built.
pub const DICTIONARY_BYTES_MAX: usize = 256 << 20;
/// A dictionary of numbers pays when there are at least this many rows to an entry.
const ROWS_PER_ENTRY_MIN: usize = 4;

/// Rows between two looks at the clock.
const ROWS_PER_CHECK: usize = 1024;

/// Collects rows, then writes them as a segment.
pub struct SegmentBuilder {
    /// Reads the columns' attributes of a row.
    reader: Filter,
    hints: Hints,
    ids: IdBuilder,
    id_kind: Kind,
    columns: Vec<Values>,
    left_out: Vec<bool>,
    /// Most bytes of the different texts of one column; one with more is left out.
    pub dictionary_bytes_max: usize,
}

/// What a build made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    pub rows: usize,
    pub bytes: u64,
    /// Attributes that got no column: a row holds a value that is not of the attribute's type, all arrays together have
    /// more elements than places can count, or different texts take too much memory. They are read from the rows;
    /// nothing is lost but speed.
    pub left_out: Vec<String>,
}

/// The values of one attribute, in the order of the rows.
enum Values {
    Numbers(Vec<Option<i64>>),
    /// Codes into a dictionary in the order of appearance, from 1; 0 is null.
    Coded(Vec<u32>, Dictionary),
    Arrays {
        ends: Vec<u32>,
        nulls: Vec<u8>,
        elements: Elements,
        repeats: bool,
    },
}

enum Elements {
    Numbers(Vec<i64>),
    Coded(Vec<u32>, Dictionary),
}

/// Distinct byte strings (texts, or uuids).
#[derive(Default)]
struct Dictionary {
    places: Vec<usize>,
    bytes: Vec<u8>,
    index: HashTable<u32>,
}

impl Dictionary {
    fn entry(&self, index: usize) -> &[u8] {
        let from = if index == 0 { 0 } else { self.places[index - 1] };
        &self.bytes[from..self.places[index]]
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    /// The value's code, from 1.
    fn code(&mut self, value: &[u8]) -> u32 {
        let hash = xxh3_64(value);
        let (places, bytes) = (&self.places, &self.bytes);
        let entry = |index: u32| {
            let index = index as usize;
            let from = if index == 0 { 0 } else { places[index - 1] };
            &bytes[from..places[index]]
        };
        let found = self.index.entry(hash, |index| entry(*index) == value, |index| xxh3_64(entry(*index)));
        match found {
            hashbrown::hash_table::Entry::Occupied(found) => *found.get() + 1,
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                // As many rows as fit are fewer than codes.
                let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
                vacant.insert(index);
                self.bytes.extend_from_slice(value);
                self.places.push(self.bytes.len());
                index + 1
            }
        }
    }

    /// The order of the entries, and for each code (0 first) its place in that order, from 1.
    fn sorted(&self) -> (Vec<u32>, Vec<u32>) {
        let mut order: Vec<u32> = (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).collect();
        order.sort_unstable_by(|left, right| self.entry(*left as usize).cmp(self.entry(*right as usize)));
        let mut ranks = vec![0; self.len() + 1];
        for (rank, index) in (1..).zip(&order) {
            ranks[*index as usize + 1] = rank;
        }
        (order, ranks)
    }
}

fn bytes_of(value: ScalarRef<'_>, use_bytes: &mut dyn FnMut(&[u8]) -> u32) -> u32 {
    match value {
        ScalarRef::Text(text) => use_bytes(text.as_bytes()),
        ScalarRef::Uuid(bits) => use_bytes(&bits.to_be_bytes()),
        ScalarRef::Number(_) => 0,
    }
}

fn is_number(kind: Kind) -> bool {
    !matches!(kind, Kind::Text | Kind::Uuid)
}

impl SegmentBuilder {
    /// Columns for the given attributes (`id` is always kept and is none of them).
    #[must_use]
    pub fn new(id_kind: Kind, attributes: Vec<Used>) -> Self {
        let columns = attributes
            .iter()
            .map(|used| match (used.kind.array, is_number(used.kind.kind)) {
                (false, true) => Values::Numbers(Vec::new()),
                (false, false) => Values::Coded(Vec::new(), Dictionary::default()),
                (true, numbers) => Values::Arrays {
                    ends: Vec::new(),
                    nulls: Vec::new(),
                    elements: if numbers {
                        Elements::Numbers(Vec::new())
                    } else {
                        Elements::Coded(Vec::new(), Dictionary::default())
                    },
                    repeats: false,
                },
            })
            .collect();
        let left_out = vec![false; attributes.len()];
        let reader = Filter { root: Node::Always(true), attributes };
        let hints = Hints::new(&reader);
        let dictionary_bytes_max = DICTIONARY_BYTES_MAX;
        Self { reader, hints, ids: IdBuilder::default(), id_kind, columns, left_out, dictionary_bytes_max }
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Takes every row of a source.
    ///
    /// # Errors
    /// As [`SegmentBuilder::push`], and when the rows cannot be read or the limits are reached.
    pub fn read(&mut self, source: &dyn RowSource, limits: &Limits) -> Result<(), ScanError> {
        let mut stopped = Ok(());
        let mut visit = |key: &[u8], row: &View<'_>| {
            let rows = self.rows();
            let wanted = if rows.is_multiple_of(ROWS_PER_CHECK) { limits.check() } else { Ok(()) };
            stopped = wanted.and_then(|()| self.push(key, row));
            if stopped.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        source.visit(0, 1, &mut visit).map_err(ScanError::Source)?;
        stopped
    }

    /// Takes one row.
    ///
    /// # Errors
    /// More rows than a segment can have, or an id of another type.
    pub fn push(&mut self, key: &[u8], row: &View<'_>) -> Result<(), ScanError> {
        if self.ids.len() >= ROWS_MAX {
            return Err(ScanError::Source(format!("a segment has at most {ROWS_MAX} rows")));
        }
        self.ids.push(key)?;
        for (place, values) in self.columns.iter_mut().enumerate() {
            if self.left_out[place] {
                continue;
            }
            let reading = Reading::new(&self.reader, &self.hints);
            let fits = values.push(&reading, place, row) && values.dictionary_bytes() <= self.dictionary_bytes_max;
            if !fits || reading.mistyped().is_some() {
                self.left_out[place] = true;
                *values = Values::Numbers(Vec::new());
            }
        }
        Ok(())
    }

    /// Sorts the rows by id and writes the segment.
    ///
    /// # Errors
    /// Two rows have one id, or the file cannot be written.
    pub fn finish(self, place: &Path, sequence: u64, origin: Origin) -> Result<Built, ScanError> {
        let failed = |error: std::io::Error| ScanError::Source(error.to_string());
        let order = self.ids.order()?;
        let mut writer = SegmentWriter::create(place).map_err(failed)?;
        let ids = self.ids.write(order.as_deref(), &mut writer).map_err(failed)?;
        let rows = self.ids.len();
        let mut columns = Vec::new();
        let mut built = Built { rows, ..Built::default() };
        for ((used, values), left_out) in self.reader.attributes.into_iter().zip(self.columns).zip(self.left_out) {
            if left_out {
                built.left_out.push(used.name.as_str().to_owned());
            } else {
                columns.push(values.write(&used, order.as_deref(), &mut writer).map_err(failed)?);
            }
        }
        let id_kind = self.id_kind.name().to_owned();
        let directory = Directory { rows: rows as u64, sequence, id_kind, ids, columns, origin };
        built.bytes = writer.finish(&directory).map_err(failed)?;
        Ok(built)
    }
}

impl Values {
    fn dictionary_bytes(&self) -> usize {
        match self {
            Self::Coded(_, dictionary) | Self::Arrays { elements: Elements::Coded(_, dictionary), .. } => {
                dictionary.bytes.len()
            }
            _ => 0,
        }
    }

    /// Takes the row's value. False: there are more elements than places can count.
    fn push(&mut self, reading: &Reading<'_>, place: usize, row: &View<'_>) -> bool {
        match self {
            Self::Numbers(numbers) => numbers.push(match reading.scalar(place, row) {
                Some(ScalarRef::Number(number)) => Some(number),
                _ => None,
            }),
            Self::Coded(codes, dictionary) => {
                let value = reading.scalar(place, row);
                codes.push(value.map_or(0, |value| bytes_of(value, &mut |bytes| dictionary.code(bytes))));
            }
            Self::Arrays { ends, nulls, elements, repeats } => {
                let from = elements.len();
                let present = reading.elements(place, row, &mut |value| {
                    match (&mut *elements, value) {
                        (Elements::Numbers(numbers), ScalarRef::Number(number)) => numbers.push(number),
                        (Elements::Coded(codes, dictionary), value) => {
                            codes.push(bytes_of(value, &mut |bytes| dictionary.code(bytes)));
                        }
                        _ => {}
                    }
                    true
                });
                if elements.len() > ELEMENTS_MAX {
                    return false;
                }
                *repeats |= elements.repeats_from(from);
                ends.push(u32::try_from(elements.len()).unwrap_or(u32::MAX));
                nulls.push(u8::from(!present));
            }
        }
        true
    }

    fn write(self, used: &Used, order: Option<&[u32]>, writer: &mut SegmentWriter) -> std::io::Result<ColumnEntry> {
        let kind = used.kind;
        let entry = |coded: Coded, writer: &mut SegmentWriter| {
            let codes = coded.write_codes(writer)?;
            Ok::<_, std::io::Error>(ColumnEntry {
                name: used.name.as_str().to_owned(),
                kind: kind.to_string(),
                width: coded.width(),
                codes,
                domain: coded.domain.write(kind, writer)?,
                places: None,
                nulls: None,
                repeats: false,
            })
        };
        match self {
            Self::Numbers(numbers) => entry(code_numbers(&reordered(numbers, order)), writer),
            Self::Coded(codes, dictionary) => entry(code_bytes(&reordered(codes, order), &dictionary), writer),
            Self::Arrays { ends, nulls, elements, repeats } => {
                let rows: Vec<u32> = match order {
                    Some(order) => order.to_vec(),
                    None => (0..u32::try_from(ends.len()).unwrap_or(u32::MAX)).collect(),
                };
                let bounds = |row: u32| {
                    let row = row as usize;
                    (if row == 0 { 0 } else { ends[row - 1] as usize })..ends[row] as usize
                };
                let mut places = Vec::with_capacity(rows.len() + 1);
                let mut order_of_elements = Vec::with_capacity(elements.len());
                places.push(0_u32);
                for row in &rows {
                    order_of_elements.extend(bounds(*row).map(|place| u32::try_from(place).unwrap_or(u32::MAX)));
                    places.push(u32::try_from(order_of_elements.len()).unwrap_or(u32::MAX));
                }
                let elements_order = Some(order_of_elements.as_slice());
                let coded = match elements {
                    Elements::Numbers(numbers) => {
                        let numbers = reordered(numbers, elements_order);
                        code_numbers(&numbers.into_iter().map(Some).collect::<Vec<_>>())
                    }
                    Elements::Coded(codes, dictionary) => code_bytes(&reordered(codes, elements_order), &dictionary),
                };
                let mut entry = entry(coded, writer)?;
                entry.places = Some(writer.section(&places)?);
                if nulls.contains(&1) {
                    entry.nulls = Some(writer.section(&reordered(nulls, order))?);
                }
                entry.repeats = repeats;
                Ok(entry)
            }
        }
    }
}

impl Elements {
    fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Coded(codes, _) => codes.len(),
        }
    }

    fn repeats_from(&self, from: usize) -> bool {
        match self {
            Self::Numbers(numbers) => repeats(&numbers[from..]),
            Self::Coded(codes, _) => repeats(&codes[from..]),
        }
    }
}

/// Whether a value stands twice in a list.
fn repeats<T: Copy + Ord>(values: &[T]) -> bool {
    /// Longer ones are sorted, so that a list of a million values takes no trillion comparisons.
    const COMPARED_MAX: usize = 32;
    if values.len() <= COMPARED_MAX {
        return values.iter().enumerate().any(|(at, value)| values[..at].contains(value));
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}

fn reordered<T: Copy>(values: Vec<T>, order: Option<&[u32]>) -> Vec<T> {
    match order {
        None => values,
        Some(order) => order.iter().map(|row| values[*row as usize]).collect(),
    }
}

/// Codes with the values they stand for, not yet written.
struct Coded {
    codes: CodesOut,
    domain: DomainOut,
}

enum CodesOut {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
}

enum DomainOut {
    Range { base: i64, count: u64 },
    Numbers(Vec<i64>),
    Bytes { places: Vec<u64>, bytes: Vec<u8> },
}

/// Makes the narrowest codes that hold `1..=largest`, and 0.
#[allow(clippy::cast_possible_truncation)] // the width is chosen by the largest code
fn narrow(codes: impl Iterator<Item = u64>, largest: u64) -> CodesOut {
    match largest {
        0..=0xFF => CodesOut::U8(codes.map(|code| code as u8).collect()),
        0x100..=0xFFFF => CodesOut::U16(codes.map(|code| code as u16).collect()),
        0x1_0000..=0xFFFF_FFFF => CodesOut::U32(codes.map(|code| code as u32).collect()),
        _ => CodesOut::U64(codes.collect()),
    }
}

fn code_numbers(numbers: &[Option<i64>]) -> Coded {
    let present = || numbers.iter().flatten().copied();
    let (Some(least), Some(most)) = (present().min(), present().max()) else {
        return Coded { codes: narrow(numbers.iter().map(|_| 0), 0), domain: DomainOut::Range { base: 0, count: 0 } };
    };
    let distance = most.wrapping_sub(least).cast_unsigned();
    // Past two bytes a code, a dictionary may be narrower than the distance; past eight it has to be.
    let dictionary = if distance < 0xFFFF { None } else { distinct(numbers, distance) };
    if let Some(entries) = dictionary {
        let code = |number: Option<i64>| {
            number.map_or(0, |number| 1 + entries.partition_point(|entry| *entry < number) as u64)
        };
        let codes = narrow(numbers.iter().map(|number| code(*number)), entries.len() as u64);
        return Coded { codes, domain: DomainOut::Numbers(entries) };
    }
    let code = |number: Option<i64>| number.map_or(0, |number| number.wrapping_sub(least).cast_unsigned() + 1);
    let codes = narrow(numbers.iter().map(|number| code(*number)), distance + 1);
    Coded { codes, domain: DomainOut::Range { base: least, count: distance + 1 } }
}

/// The distinct numbers, sorted, when a dictionary of them makes narrower codes.
fn distinct(numbers: &[Option<i64>], distance: u64) -> Option<Vec<i64>> {
    let range_width = if distance < 0xFFFF_FFFF { 4 } else { 8 };
    let forced = distance == u64::MAX;
    let entries_max = match range_width {
        _ if forced => usize::MAX,
        4 => 0xFFFF,
        _ => (numbers.len() / ROWS_PER_ENTRY_MIN).max(0xFF),
    };
    let mut entries = HashSet::new();
    for number in numbers.iter().flatten() {
        entries.insert(*number);
        if entries.len() > entries_max {
            return None;
        }
    }
    let mut entries: Vec<i64> = entries.into_iter().collect();
    entries.sort_unstable();
    Some(entries)
}

fn code_bytes(codes: &[u32], dictionary: &Dictionary) -> Coded {
    let (order, ranks) = dictionary.sorted();
    let codes = narrow(codes.iter().map(|code| u64::from(ranks[*code as usize])), dictionary.len() as u64);
    let mut places = Vec::with_capacity(order.len() + 1);
    let mut bytes = Vec::with_capacity(dictionary.bytes.len());
    places.push(0);
    for index in order {
        bytes.extend_from_slice(dictionary.entry(index as usize));
        places.push(bytes.len() as u64);
    }
    Coded { codes, domain: DomainOut::Bytes { places, bytes } }
}

impl Coded {
    fn width(&self) -> u8 {
        match self.codes {
            CodesOut::U8(_) => 1,
            CodesOut::U16(_) => 2,
            CodesOut::U32(_) => 4,
            CodesOut::U64(_) => 8,
        }
    }

    fn write_codes(&self, writer: &mut SegmentWriter) -> std::io::Result<crate::columns::segment::Section> {
        match &self.codes {
            CodesOut::U8(codes) => writer.section(codes),
            CodesOut::U16(codes) => writer.section(codes),
            CodesOut::U32(codes) => writer.section(codes),
            CodesOut::U64(codes) => writer.section(codes),
        }
    }
}

impl DomainOut {
    fn write(&self, kind: AttributeType, writer: &mut SegmentWriter) -> std::io::Result<DomainSections> {
        Ok(match self {
            Self::Range { base, count } => DomainSections::Range { base: *base, count: *count },
            Self::Numbers(numbers) => DomainSections::Numbers(writer.section(numbers)?),
            Self::Bytes { bytes, .. } if kind.kind == Kind::Uuid => DomainSections::Uuids(writer.section(bytes)?),
            Self::Bytes { places, bytes } => DomainSections::Texts(writer.section(places)?, writer.section(bytes)?),
        })
    }
}
