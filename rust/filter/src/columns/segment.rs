//! A segment's file: written whole under another name, renamed, mapped, never changed.
//!
//! ```text
//!  0  8 bytes  magic and version        16  u64  bytes of the directory
//!  8  u64      place of the directory   24  u64  xxh3 of the directory
//! 32  sections, each beginning at a multiple of 64: arrays of little-endian integers, or bytes
//!     directory, JSON: rows, sequence, ids and columns, each section with its place, length and xxh3
//! ```

use crate::columns::codes::Codes;
use crate::columns::domain::Domain;
use crate::schema::AttributeType;
use bytemuck::{AnyBitPattern, NoUninit};
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 8] = *b"hevcol\0\x01";
const FIXED: usize = 32;
const ALIGN: usize = 64;
/// Most rows of a segment: places of rows are 32-bit.
pub const ROWS_MAX: usize = u32::MAX as usize - 1;

#[cfg(target_endian = "big")]
compile_error!("segments are mapped, and their integers are little-endian");

/// Where an array stands in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    pub at: u64,
    pub bytes: u64,
    pub xxh3: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum IdSections {
    /// u64 each.
    Uints(Section),
    /// Places (u64, one more than rows) and bytes.
    Texts(Section, Section),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum DomainSections {
    Range { base: i64, count: u64 },
    Numbers(Section),
    Uuids(Section),
    Texts(Section, Section),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ColumnEntry {
    pub name: String,
    /// The attribute's type string.
    pub kind: String,
    /// Bytes of one code.
    pub width: u8,
    pub codes: Section,
    pub domain: DomainSections,
    /// For arrays: where each row's elements begin, u32, one more than rows.
    pub places: Option<Section>,
    /// For arrays, when some row has none: one byte per row, 1 for null.
    pub nulls: Option<Section>,
    /// For arrays: some row has an element twice.
    pub repeats: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Directory {
    pub rows: u64,
    /// The sequence number of the source as of which the rows are.
    pub sequence: u64,
    pub id_kind: String,
    pub ids: IdSections,
    pub columns: Vec<ColumnEntry>,
    #[serde(default)]
    pub origin: Origin,
}

/// Whose rows they are, for those who keep segments of many namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub namespace: String,
    pub number: u32,
    pub epoch: u64,
    /// When the oldest of the rows was read from the upstream, epoch milliseconds.
    pub oldest_filled_ms: u64,
}

/// Writes sections one after the other, then the directory and the header.
pub struct SegmentWriter {
    file: BufWriter<File>,
    path: PathBuf,
    place: PathBuf,
    at: usize,
}

impl SegmentWriter {
    /// Begins a segment that will stand at `place`.
    ///
    /// # Errors
    /// The file beside it cannot be made.
    pub fn create(place: &Path) -> io::Result<Self> {
        let path = place.with_extension("building");
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
        file.write_all(&[0; FIXED])?;
        Ok(Self { file, path, place: place.to_owned(), at: FIXED })
    }

    /// # Errors
    /// Writing failed.
    pub fn section<T: NoUninit>(&mut self, values: &[T]) -> io::Result<Section> {
        let padding = self.at.next_multiple_of(ALIGN) - self.at;
        self.file.write_all(&[0; ALIGN][..padding])?;
        self.at += padding;
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.file.write_all(bytes)?;
        let section = Section { at: self.at as u64, bytes: bytes.len() as u64, xxh3: xxh3_64(bytes) };
        self.at += bytes.len();
        Ok(section)
    }

    /// Finishes the file and puts it in its place. Gives its length.
    ///
    /// # Errors
    /// Writing or renaming failed.
    pub fn finish(mut self, directory: &Directory) -> io::Result<u64> {
        let text = serde_json::to_vec(directory)?;
        self.file.write_all(&text)?;
        let mut header = Vec::with_capacity(FIXED);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&(self.at as u64).to_le_bytes());
        header.extend_from_slice(&(text.len() as u64).to_le_bytes());
        header.extend_from_slice(&xxh3_64(&text).to_le_bytes());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header)?;
        self.file.flush()?;
        std::fs::rename(&self.path, &self.place)?;
        Ok((self.at + text.len()) as u64)
    }
}

/// A mapped segment, checked against its checksums when it was opened.
#[derive(Debug)]
pub struct Segment {
    map: Mmap,
    pub directory: Directory,
    kinds: Vec<AttributeType>,
}

/// A column of a segment.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    pub kind: AttributeType,
    pub codes: Codes<'a>,
    pub domain: Domain<'a>,
    pub array: Option<Arrays<'a>>,
}

/// How a column of arrays is divided into rows.
#[derive(Clone, Copy, Debug)]
pub struct Arrays<'a> {
    pub places: &'a [u32],
    /// One byte per row; empty when no row is null.
    pub nulls: &'a [u8],
    pub repeats: bool,
}

/// The ids of a segment's rows, sorted.
#[derive(Clone, Copy, Debug)]
pub enum Ids<'a> {
    Uints(&'a [u64]),
    Texts { places: &'a [u64], bytes: &'a [u8] },
}

fn bad(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a segment of columns: {reason}"))
}

/// What a segment holds, without a look at its arrays, and its length in bytes.
///
/// # Errors
/// As [`Segment::open`].
pub fn read_directory(path: &Path) -> io::Result<(Directory, u64)> {
    let file = File::open(path)?;
    let mut header = [0; FIXED];
    file.read_exact_at(&mut header, 0)?;
    let section = directory_section(&header)?;
    let bytes = file.metadata()?.len();
    if section.at.checked_add(section.bytes) != Some(bytes) {
        return Err(bad("it ends too early"));
    }
    let mut text = vec![0; usize::try_from(section.bytes).map_err(io::Error::other)?];
    file.read_exact_at(&mut text, section.at)?;
    if xxh3_64(&text) != section.xxh3 {
        return Err(bad("a checksum does not fit"));
    }
    Ok((serde_json::from_slice(&text).map_err(|_| bad("its directory cannot be read"))?, bytes))
}

fn directory_section(header: &[u8]) -> io::Result<Section> {
    if header[..8] != MAGIC {
        return Err(bad("another kind of file, or another version"));
    }
    let word = |from: usize| u64::from_le_bytes(header[from..from + 8].try_into().unwrap_or_default());
    Ok(Section { at: word(8), bytes: word(16), xxh3: word(24) })
}

impl Segment {
    /// Maps a segment and checks every byte of it.
    ///
    /// # Errors
    /// It cannot be read, is of another version, or is damaged.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: a segment is renamed into its place when it is whole, and nobody writes to it after that.
        let map = unsafe { Mmap::map(&file) }?;
        let header = map.get(..FIXED).ok_or_else(|| bad("too short"))?;
        let section = directory_section(header)?;
        let text = checked(&map, section)?;
        let directory: Directory = serde_json::from_slice(text).map_err(|_| bad("its directory cannot be read"))?;
        let kinds = directory
            .columns
            .iter()
            .map(|column| AttributeType::parse(&column.kind).ok_or_else(|| bad("a column of an unknown type")))
            .collect::<io::Result<Vec<_>>>()?;
        let segment = Self { map, directory, kinds };
        segment.check()?;
        Ok(segment)
    }

    fn check(&self) -> io::Result<()> {
        let rows = usize::try_from(self.directory.rows).ok().filter(|rows| *rows <= ROWS_MAX);
        let rows = rows.ok_or_else(|| bad("too many rows"))?;
        let fits = |section: Section, width: usize, entries: usize| {
            checked(&self.map, section)?;
            let place = usize::try_from(section.at).unwrap_or(usize::MAX);
            if place % ALIGN == 0 && entries.checked_mul(width).is_some_and(|bytes| bytes as u64 == section.bytes) {
                Ok(())
            } else {
                Err(bad("an array of a wrong length"))
            }
        };
        let entries = |section: Section, width: usize| usize::try_from(section.bytes).unwrap_or(0) / width;
        let texts = |places: Section, bytes: Section| {
            fits(places, 8, entries(places, 8))?;
            fits(bytes, 1, entries(bytes, 1))?;
            let places = self.typed::<u64>(places);
            let in_order = places.first() == Some(&0) && places.is_sorted() && places.last() == Some(&bytes.bytes);
            if in_order {
                Ok(())
            } else {
                Err(bad("texts out of order"))
            }
        };
        match &self.directory.ids {
            IdSections::Uints(section) => fits(*section, 8, rows)?,
            IdSections::Texts(places, bytes) => {
                fits(*places, 8, rows + 1)?;
                texts(*places, *bytes)?;
            }
        }
        for column in &self.directory.columns {
            let values = match &column.places {
                None => rows,
                Some(places) => {
                    fits(*places, 4, rows + 1)?;
                    let values = entries(column.codes, usize::from(column.width).max(1));
                    let places = self.typed::<u32>(*places);
                    if !places.is_sorted() || places.last().is_some_and(|last| *last as usize != values) {
                        return Err(bad("arrays out of order"));
                    }
                    values
                }
            };
            if let Some(nulls) = column.nulls {
                fits(nulls, 1, rows)?;
            }
            if !matches!(column.width, 1 | 2 | 4 | 8) {
                return Err(bad("codes of an unknown width"));
            }
            fits(column.codes, usize::from(column.width), values)?;
            match &column.domain {
                DomainSections::Range { .. } => {}
                DomainSections::Numbers(numbers) => fits(*numbers, 8, entries(*numbers, 8))?,
                DomainSections::Uuids(uuids) => fits(*uuids, 16, entries(*uuids, 16))?,
                DomainSections::Texts(places, bytes) => texts(*places, *bytes)?,
            }
        }
        Ok(())
    }

    /// An array whose place, alignment and length were checked when the segment was opened.
    fn typed<T: AnyBitPattern>(&self, section: Section) -> &[T] {
        let range = range_of(section).unwrap_or(0..0);
        self.map.get(range).and_then(|bytes| bytemuck::try_cast_slice(bytes).ok()).unwrap_or_default()
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        usize::try_from(self.directory.rows).unwrap_or(0)
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    #[must_use]
    pub fn ids(&self) -> Ids<'_> {
        match &self.directory.ids {
            IdSections::Uints(section) => Ids::Uints(self.typed(*section)),
            IdSections::Texts(places, bytes) => Ids::Texts { places: self.typed(*places), bytes: self.typed(*bytes) },
        }
    }

    /// The column of an attribute; None when it has none, or one of another type.
    #[must_use]
    pub fn column(&self, name: &str, kind: AttributeType) -> Option<Column<'_>> {
        let index = self.directory.columns.iter().position(|column| column.name == name)?;
        let entry = &self.directory.columns[index];
        if self.kinds[index] != kind {
            return None;
        }
        let codes = match entry.width {
            1 => Codes::U8(self.typed(entry.codes)),
            2 => Codes::U16(self.typed(entry.codes)),
            4 => Codes::U32(self.typed(entry.codes)),
            _ => Codes::U64(self.typed(entry.codes)),
        };
        let domain = match &entry.domain {
            DomainSections::Range { base, count } => Domain::Range { base: *base, count: *count },
            DomainSections::Numbers(numbers) => Domain::Numbers(self.typed(*numbers)),
            DomainSections::Uuids(uuids) => Domain::Uuids(self.typed(*uuids)),
            DomainSections::Texts(places, bytes) => {
                Domain::Texts { places: self.typed(*places), bytes: self.typed(*bytes) }
            }
        };
        let array = entry.places.map(|places| Arrays {
            places: self.typed(places),
            nulls: entry.nulls.map(|nulls| self.typed(nulls)).unwrap_or_default(),
            repeats: entry.repeats,
        });
        Some(Column { kind, codes, domain, array })
    }
}

fn range_of(section: Section) -> Option<std::ops::Range<usize>> {
    let from = usize::try_from(section.at).ok()?;
    Some(from..from.checked_add(usize::try_from(section.bytes).ok()?)?)
}

fn checked(map: &Mmap, section: Section) -> io::Result<&[u8]> {
    let bytes = range_of(section).and_then(|range| map.get(range)).ok_or_else(|| bad("it ends too early"))?;
    if xxh3_64(bytes) == section.xxh3 {
        Ok(bytes)
    } else {
        Err(bad("a checksum does not fit"))
    }
}
