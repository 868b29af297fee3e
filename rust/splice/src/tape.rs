//! Edits of a body, packed: a few bytes a row, so that a body of 512 MB with small rows needs no second body of memory.

use crate::text::quote;
use crate::{SHARD_ATTRIBUTE, STAMP_ATTRIBUTE};

/// What stands in place of the bytes that an edit cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Nothing,
    /// `"_hevlayer_upserted_at":N`
    StampMember {
        comma: bool,
    },
    /// `N`
    StampValue,
    /// `"_hevlayer_upserted_at":[N,…]`
    StampColumn {
        comma: bool,
        rows: usize,
    },
    /// `[N,…]`
    StampColumnValue {
        rows: usize,
    },
    /// `"upsert_rows"`
    UpsertRowsKey,
    /// `"patch_rows"`
    PatchRowsKey,
    /// `"distance_metric":M`
    MetricMember {
        comma: bool,
    },
    /// `M`
    MetricValue,
    /// `,"_hevlayer_shard":S`; a row that has an id has a member before it.
    ShardMember {
        shard: usize,
    },
    /// `,"_hevlayer_shard":[`
    ShardColumn,
    /// `S,` or at the end `S]`; of an id that cannot be read `null`.
    ShardElement {
        shard: Option<usize>,
        last: bool,
    },
}

impl Piece {
    fn pack(self) -> (u8, usize) {
        match self {
            Self::Nothing => (0, 0),
            Self::StampMember { comma: false } => (1, 0),
            Self::StampMember { comma: true } => (2, 0),
            Self::StampValue => (3, 0),
            Self::StampColumn { comma: false, rows } => (4, rows),
            Self::StampColumn { comma: true, rows } => (5, rows),
            Self::StampColumnValue { rows } => (6, rows),
            Self::UpsertRowsKey => (7, 0),
            Self::PatchRowsKey => (8, 0),
            Self::MetricMember { comma: false } => (9, 0),
            Self::MetricMember { comma: true } => (10, 0),
            Self::MetricValue => (11, 0),
            Self::ShardMember { shard } => (12, shard),
            Self::ShardColumn => (13, 0),
            Self::ShardElement { shard, last: false } => (14, shard.map_or(0, |shard| shard + 1)),
            Self::ShardElement { shard, last: true } => (15, shard.map_or(0, |shard| shard + 1)),
        }
    }

    fn unpack(tag: u8, rows: usize) -> Self {
        match tag {
            1 => Self::StampMember { comma: false },
            2 => Self::StampMember { comma: true },
            3 => Self::StampValue,
            4 => Self::StampColumn { comma: false, rows },
            5 => Self::StampColumn { comma: true, rows },
            6 => Self::StampColumnValue { rows },
            7 => Self::UpsertRowsKey,
            8 => Self::PatchRowsKey,
            9 => Self::MetricMember { comma: false },
            10 => Self::MetricMember { comma: true },
            11 => Self::MetricValue,
            12 => Self::ShardMember { shard: rows },
            13 => Self::ShardColumn,
            14 | 15 => Self::ShardElement { shard: rows.checked_sub(1), last: tag == 15 },
            _ => Self::Nothing,
        }
    }
}

/// A tag's bit: an edit that cuts, whose length follows.
const CUTS: u8 = 0x10;
const TAG: u8 = 0x0f;

/// A number follows the tag: rows of a column, or a shard.
fn has_number(tag: u8) -> bool {
    matches!(tag, 4..=6 | 12 | 14 | 15)
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit {
    pub at: usize,
    pub cut: usize,
    pub piece: Piece,
}

/// Edits in the order of the text, none overlapping.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    packed: Vec<u8>,
    /// End of the last edit's cut; the next one's position counts from here.
    end: usize,
}

impl Tape {
    pub fn push(&mut self, at: usize, cut: usize, piece: Piece) {
        debug_assert!(at >= self.end, "edits are pushed in order");
        push_number(&mut self.packed, at - self.end);
        let (tag, rows) = piece.pack();
        if cut == 0 {
            self.packed.push(tag);
        } else {
            self.packed.push(tag | CUTS);
            push_number(&mut self.packed, cut);
        }
        if has_number(tag) {
            push_number(&mut self.packed, rows);
        }
        self.end = at + cut;
    }

    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    fn edit(&self, from: &mut usize, end: usize) -> Option<Edit> {
        if *from >= self.packed.len() {
            return None;
        }
        let at = end + read_number(&self.packed, from);
        let tag = self.packed[*from];
        *from += 1;
        let cut = if tag & CUTS == 0 { 0 } else { read_number(&self.packed, from) };
        let rows = if has_number(tag & TAG) { read_number(&self.packed, from) } else { 0 };
        Some(Edit { at, cut, piece: Piece::unpack(tag & TAG, rows) })
    }
}

/// Increasing positions, packed.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    packed: Vec<u8>,
    last: usize,
}

impl Positions {
    pub fn push(&mut self, at: usize) {
        push_number(&mut self.packed, at - self.last);
        self.last = at;
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let mut from = 0;
        let mut last = 0;
        std::iter::from_fn(move || {
            if from >= self.packed.len() {
                return None;
            }
            last += read_number(&self.packed, &mut from);
            Some(last)
        })
    }
}

/// Seven bits a byte, lowest first, the high bit on all but the last.
#[allow(clippy::cast_possible_truncation)] // seven bits fit
fn push_number(packed: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        packed.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    packed.push((number & 0x7f) as u8);
}

fn read_number(packed: &[u8], from: &mut usize) -> usize {
    let mut number = 0;
    let mut shift = 0;
    loop {
        let byte = packed[*from];
        *from += 1;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return number;
        }
        shift += 7;
    }
}

/// The texts that edits put in, for one stamp and metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Texts {
    stamp: Vec<u8>,
    stamp_key: Vec<u8>,
    /// The metric's JSON text.
    metric: Option<Vec<u8>>,
}

impl Texts {
    pub fn new(stamp_ms: u64, metric: Option<&str>) -> Self {
        let mut stamp_key = quote(STAMP_ATTRIBUTE);
        stamp_key.push(b':');
        Self { stamp: stamp_ms.to_string().into_bytes(), stamp_key, metric: metric.map(quote) }
    }

    /// Appends the piece; of a column only its opening bracket, its rows follow from `put_rows`.
    fn put(&self, piece: Piece, out: &mut Vec<u8>) {
        if let Piece::StampMember { comma: true }
        | Piece::StampColumn { comma: true, .. }
        | Piece::MetricMember { comma: true } = piece
        {
            out.push(b',');
        }
        match piece {
            Piece::Nothing => {}
            Piece::StampMember { .. } => {
                out.extend_from_slice(&self.stamp_key);
                out.extend_from_slice(&self.stamp);
            }
            Piece::StampValue => out.extend_from_slice(&self.stamp),
            Piece::StampColumn { .. } => {
                out.extend_from_slice(&self.stamp_key);
                out.push(b'[');
            }
            Piece::StampColumnValue { .. } => out.push(b'['),
            Piece::UpsertRowsKey => out.extend_from_slice(b"\"upsert_rows\""),
            Piece::PatchRowsKey => out.extend_from_slice(b"\"patch_rows\""),
            Piece::MetricMember { .. } => {
                out.extend_from_slice(b"\"distance_metric\":");
                out.extend_from_slice(self.metric());
            }
            Piece::MetricValue => out.extend_from_slice(self.metric()),
            Piece::ShardMember { shard } => {
                put_shard_key(out);
                put_number(shard, out);
            }
            Piece::ShardColumn => {
                put_shard_key(out);
                out.push(b'[');
            }
            Piece::ShardElement { shard, last } => {
                match shard {
                    Some(shard) => put_number(shard, out),
                    None => out.extend_from_slice(b"null"),
                }
                out.push(if last { b']' } else { b',' });
            }
        }
    }

    fn metric(&self) -> &[u8] {
        self.metric.as_deref().unwrap_or(b"null")
    }

    fn put_rows(&self, rows: usize, last: bool, out: &mut Vec<u8>) {
        for row in 0..rows {
            out.extend_from_slice(&self.stamp);
            out.push(if last && row + 1 == rows { b']' } else { b',' });
        }
    }

    /// The edit with the metric left alone when there is none to put in.
    fn settle(&self, edit: Edit) -> Edit {
        match edit.piece {
            Piece::MetricMember { .. } | Piece::MetricValue if self.metric.is_none() => {
                Edit { cut: 0, piece: Piece::Nothing, ..edit }
            }
            _ => edit,
        }
    }
}

fn put_shard_key(out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(SHARD_ATTRIBUTE.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A shard's number, at most three digits.
#[allow(clippy::cast_possible_truncation)] // a digit fits
fn put_number(number: usize, out: &mut Vec<u8>) {
    if number >= 10 {
        put_number(number / 10, out);
    }
    out.push(b'0' + (number % 10) as u8);
}

/// Rows of a stamp column made at a time.
const COLUMN_ROWS: usize = 256;

/// Writes the edited body piece by piece, from its start; it can stop at any byte and go on.
#[derive(Debug)]
pub(crate) struct Renderer {
    texts: Texts,
    packed_at: usize,
    tape_end: usize,
    next: Option<Edit>,
    started: bool,
    input_at: usize,
    rows_left: usize,
    /// Text that did not fit, from `leftover_at`.
    leftover: Vec<u8>,
    leftover_at: usize,
    /// Bytes given out so far.
    pub offset: usize,
}

impl Renderer {
    pub fn new(texts: Texts) -> Self {
        Self {
            texts,
            packed_at: 0,
            tape_end: 0,
            next: None,
            started: false,
            input_at: 0,
            rows_left: 0,
            leftover: Vec::new(),
            leftover_at: 0,
            offset: 0,
        }
    }

    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    fn advance(&mut self, tape: &Tape) {
        self.next = tape.edit(&mut self.packed_at, self.tape_end);
        if let Some(edit) = self.next {
            self.tape_end = edit.at + edit.cut;
            self.next = Some(self.texts.settle(edit));
        }
    }

    /// Appends the next bytes, `size` of them or fewer at the end.
    pub fn fill(&mut self, body: &[u8], tape: &Tape, size: usize, out: &mut Vec<u8>) {
        let start = out.len();
        let end = start.saturating_add(size);
        if !self.started {
            self.started = true;
            self.advance(tape);
        }
        while out.len() < end {
            let room = end - out.len();
            if self.leftover_at < self.leftover.len() {
                let taken = room.min(self.leftover.len() - self.leftover_at);
                out.extend_from_slice(&self.leftover[self.leftover_at..][..taken]);
                self.leftover_at += taken;
                continue;
            }
            if self.rows_left > 0 {
                let rows = self.rows_left.min(COLUMN_ROWS);
                self.rows_left -= rows;
                self.leftover.clear();
                self.leftover_at = 0;
                self.texts.put_rows(rows, self.rows_left == 0, &mut self.leftover);
                continue;
            }
            let until = self.next.map_or(body.len(), |edit| edit.at);
            if self.input_at < until {
                let taken = room.min(until - self.input_at);
                out.extend_from_slice(&body[self.input_at..][..taken]);
                self.input_at += taken;
                continue;
            }
            let Some(edit) = self.next else { break };
            self.input_at = edit.at + edit.cut;
            self.leftover.clear();
            self.leftover_at = 0;
            self.texts.put(edit.piece, &mut self.leftover);
            if let Piece::StampColumn { rows, .. } | Piece::StampColumnValue { rows } = edit.piece {
                self.rows_left = rows;
                if rows == 0 {
                    self.leftover.push(b']');
                }
            }
            self.advance(tape);
        }
        self.offset += out.len() - start;
    }
}

/// Bytes of the edited body.
pub(crate) fn rendered_len(body: &[u8], tape: &Tape, texts: &Texts) -> usize {
    let mut packed_at = 0;
    let mut tape_end = 0;
    let mut length = body.len();
    let mut text = Vec::new();
    while let Some(edit) = tape.edit(&mut packed_at, tape_end) {
        tape_end = edit.at + edit.cut;
        let edit = texts.settle(edit);
        text.clear();
        texts.put(edit.piece, &mut text);
        length = length - edit.cut + text.len();
        if let Piece::StampColumn { rows, .. } | Piece::StampColumnValue { rows } = edit.piece {
            // Every row's stamp is followed by a comma or the bracket.
            length += if rows == 0 { 1 } else { rows * (texts.stamp.len() + 1) };
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (&'static [u8], Tape) {
        let mut tape = Tape::default();
        tape.push(2, 3, Piece::StampMember { comma: true });
        tape.push(5, 0, Piece::StampColumn { comma: false, rows: 600 });
        tape.push(300, 1, Piece::StampColumnValue { rows: 0 });
        tape.push(301, 0, Piece::MetricMember { comma: true });
        tape.push(310, 0, Piece::ShardMember { shard: 255 });
        tape.push(320, 0, Piece::ShardColumn);
        tape.push(320, 0, Piece::ShardElement { shard: Some(7), last: false });
        tape.push(320, 0, Piece::ShardElement { shard: None, last: true });
        tape.push(400, 100, Piece::Nothing);
        (&[b'x'; 500], tape)
    }

    #[test]
    fn any_chunking_gives_the_same_bytes() {
        let (body, tape) = sample();
        let texts = Texts::new(1_234, Some("cosine_distance"));
        let mut whole = Vec::new();
        Renderer::new(texts.clone()).fill(body, &tape, usize::MAX, &mut whole);
        assert_eq!(whole.len(), rendered_len(body, &tape, &texts));
        for size in [1, 2, 7, 63, 1000] {
            let mut chunks = Vec::new();
            let mut renderer = Renderer::new(texts.clone());
            loop {
                let before = chunks.len();
                renderer.fill(body, &tape, size, &mut chunks);
                if chunks.len() == before {
                    break;
                }
            }
            assert_eq!(chunks, whole, "chunks of {size}");
            assert_eq!(renderer.offset, whole.len());
        }
    }

    #[test]
    fn without_a_metric_none_is_put_in() {
        let (body, tape) = sample();
        let mut whole = Vec::new();
        let texts = Texts::new(1_234, None);
        Renderer::new(texts.clone()).fill(body, &tape, usize::MAX, &mut whole);
        assert_eq!(whole.len(), rendered_len(body, &tape, &texts));
        assert!(!whole.windows(6).any(|text| text == b"metric"));
    }

    #[test]
    fn positions_come_back() {
        let mut positions = Positions::default();
        let all = [0, 1, 127, 128, 16_384, 16_384, 5_000_000_000];
        all.iter().for_each(|&at| positions.push(at));
        assert!(positions.iter().eq(all));
    }
}
