//! What one id's record says, and how a mark, a settle and a fill change it. Pure: no clock, no store.
//!
//! ```text
//!            mark                settle, last of the write's marks
//!  absent ──────────┐        ┌── applied, with the row ──► row
//!  row ─────────────┤        ├── applied, deleted ───────► gone
//!  hole, gone ──────┴► mark ─┼── applied otherwise ──────► hole
//!                       │    ├── refused ────────────────► as it was (an absent one: gone)
//!                       │    └── unknown ────────────────► mark until its time is over, then it counts as a hole
//!                       └ another write's mark ──────────► contended mark, ends as a hole
//!
//!  absent, hole, gone, a row that is too old ── fill, if unchanged since the read's ticket ──► row
//! ```
//!
//! No change removes a record: a hole or a gone id is a small record that outlives the longest read, so that an id
//! without a record is one that no write has touched. A removed record would also come back when a Community server
//! starts cold.

/// A write's mark on an id: whose, and when it stops to count, in ms since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub token: u64,
    pub until_ms: u64,
    /// See [`Wholes`]: the moment at which this mark was set.
    pub whole: u64,
}

/// More writes than this on one id at once share the last entry, which then lasts as long as any of them may.
pub const ENTRIES_MAX: usize = 32;
const ENTRY_BYTES: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Row,
    Mark,
    /// Marked by several writes at once, so that none of them knows which came last upstream.
    Contended,
    /// Touched by a write; what the upstream has now is not known here.
    Hole,
    /// Touched, but nothing is missing: it did not exist upstream when that was last known, or nobody ever looked.
    Gone,
}

impl Kind {
    pub fn code(self) -> i64 {
        match self {
            Self::Row => 0,
            Self::Mark => 1,
            Self::Contended => 2,
            Self::Hole => 3,
            Self::Gone => 4,
        }
    }

    pub fn from_code(code: i64) -> Option<Self> {
        [Self::Row, Self::Mark, Self::Contended, Self::Hole, Self::Gone].into_iter().find(|kind| kind.code() == code)
    }
}

/// In the place of a time of filling: there is no row, and the id was a hole before it was marked.
pub const HOLE_BENEATH: u64 = 1;

/// One id's record without the row's bytes, as it counts in the namespace's present epoch: what it says of an older one
/// is void, except for its marks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    pub kind: Kind,
    /// Empty unless marked.
    pub entries: Vec<Entry>,
    /// When the row, also one beneath a mark, was filled, in ms; 0 (or [`HOLE_BENEATH`]): there is none.
    pub filled_ms: u64,
    /// The namespace's moment at which the record last changed, or a later one.
    pub moment: u64,
    /// The row's size, for the counts.
    pub bytes: u64,
    /// Drawn anew at each change; 0: the record is not ours.
    pub nonce: u64,
    /// Whether the record is of this epoch, and so was counted in it.
    pub is_current: bool,
}

/// What a reader may do with an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readable {
    /// Serve the row.
    Row,
    /// Neither serve nor fill.
    Marked,
    /// Nothing here; may be filled.
    Empty,
}

impl Slot {
    pub fn has_row(&self) -> bool {
        self.filled_ms > HOLE_BENEATH
    }

    /// Whether it counts as a hole: it is one, or ends as one unless its write brings the row.
    pub fn is_hole(&self) -> bool {
        match self.kind {
            Kind::Hole => true,
            Kind::Mark | Kind::Contended => self.filled_ms == HOLE_BENEATH,
            Kind::Row | Kind::Gone => false,
        }
    }

    pub fn is_marked(&self, now_ms: u64) -> bool {
        live(&self.entries, now_ms).next().is_some()
    }

    /// `ttl_ms`: the longest life of a row.
    pub fn readable(&self, now_ms: u64, ttl_ms: u64) -> Readable {
        match self.kind {
            Kind::Row if self.filled_ms.saturating_add(ttl_ms) > now_ms => Readable::Row,
            Kind::Mark | Kind::Contended if live(&self.entries, now_ms).next().is_some() => Readable::Marked,
            _ => Readable::Empty,
        }
    }
}

/// What becomes of the row's bytes in a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bytes {
    Keep,
    Drop,
    /// Likewise, and what is marked now counts as a hole.
    Hole,
    /// The row that the write itself brought.
    New,
}

/// A record's next state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub kind: Kind,
    pub entries: Vec<Entry>,
    pub bytes: Bytes,
}

impl Change {
    fn to(kind: Kind, bytes: Bytes) -> Self {
        Self { kind, entries: Vec::new(), bytes }
    }
}

/// How a write ended for one id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Applied, and the stored row is at hand.
    Row,
    /// Applied, and the id does not exist any more.
    Gone,
    /// Applied; the stored form is not known.
    Applied,
    Refused,
    /// It may still take effect until then.
    Unknown {
        until_ms: u64,
    },
}

/// Puts a write's mark on an id; None: it is there already.
pub fn plan_mark(slot: Option<&Slot>, entry: Entry, now_ms: u64) -> Option<Change> {
    let Some(slot) = slot else {
        return Some(Change { kind: Kind::Mark, entries: vec![entry], bytes: Bytes::Drop });
    };
    let mut entries: Vec<Entry> = live(&slot.entries, now_ms).collect();
    match entries.iter_mut().find(|other| other.token == entry.token) {
        Some(own) if own.until_ms >= entry.until_ms => return None,
        Some(own) => own.until_ms = entry.until_ms,
        None => push(&mut entries, entry),
    }
    let was_open = live(&slot.entries, now_ms).next().is_some();
    if entries.len() > 1 || (was_open && slot.kind == Kind::Contended) {
        return Some(Change { kind: Kind::Contended, entries, bytes: Bytes::Hole });
    }
    let bytes = match slot.kind {
        Kind::Row => Bytes::Keep,
        Kind::Mark if was_open => Bytes::Keep,
        // A mark whose time is over hides a row that is not to be believed.
        Kind::Hole | Kind::Mark | Kind::Contended => Bytes::Hole,
        Kind::Gone => Bytes::Drop,
    };
    Some(Change { kind: Kind::Mark, entries, bytes })
}

/// What the namespace's record says of writes with unknown ids: when the last of them began or ended, and whether one is
/// open now. Such a write has touched every id, so a mark that met one is contended. So has a store that may have lost
/// marks whose writes can still take effect: until they cannot any more it counts as one more such write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wholes {
    pub moment: u64,
    pub open: bool,
}

impl Wholes {
    /// What a mark remembers; one that begins beside such a write has met it already.
    pub fn at_mark(self) -> u64 {
        if self.open {
            u64::MAX
        } else {
            self.moment
        }
    }
}

/// How a settle goes for one id: what to change, and whether the write's mark was there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settle {
    pub change: Option<Change>,
    pub found: bool,
}

/// Ends a write on an id.
pub fn plan_settle(slot: Option<&Slot>, token: u64, end: End, wholes: Wholes, now_ms: u64) -> Settle {
    let own = slot.and_then(|slot| live(&slot.entries, now_ms).find(|entry| entry.token == token));
    let found = own.is_some();
    let others: Vec<Entry> =
        slot.map(|slot| live(&slot.entries, now_ms).filter(|entry| entry.token != token).collect()).unwrap_or_default();
    let settle = |change| Settle { change, found };
    if let End::Unknown { until_ms } = end {
        let contended = !others.is_empty() || slot.is_some_and(|slot| slot.kind == Kind::Contended && found);
        let mut entries = others;
        push(&mut entries, Entry { token, until_ms, whole: own.map_or(wholes.moment, |own| own.whole) });
        let kind = if contended { Kind::Contended } else { Kind::Mark };
        return settle(Some(Change { kind, entries, bytes: Bytes::Hole }));
    }
    if end == End::Refused && !found {
        return settle(None);
    }
    if !others.is_empty() {
        // Also a mark that was lost makes its id contended: the two writes were open at the same time.
        return settle(Some(Change { kind: Kind::Contended, entries: others, bytes: Bytes::Hole }));
    }
    // A mark that was lost (an epoch, a store that forgot) or that met another: nobody knows which write came last.
    let alone = slot.is_some_and(|slot| slot.kind == Kind::Mark)
        && own.is_some_and(|own| own.whole == wholes.moment && !wholes.open);
    let (has_row, is_hole) = slot.map_or((false, false), |slot| (slot.has_row(), slot.is_hole()));
    settle(Some(match end {
        End::Row if alone => Change::to(Kind::Row, Bytes::New),
        End::Gone if alone => Change::to(Kind::Gone, Bytes::Drop),
        End::Refused if alone && has_row => Change::to(Kind::Row, Bytes::Keep),
        End::Refused if alone && !is_hole => Change::to(Kind::Gone, Bytes::Drop),
        _ => Change::to(Kind::Hole, Bytes::Drop),
    }))
}

/// Appends; past the bound the newcomer joins the last entry under no token, which nobody can settle early.
fn push(entries: &mut Vec<Entry>, entry: Entry) {
    if entries.len() < ENTRIES_MAX {
        entries.push(entry);
    } else if let Some(last) = entries.last_mut() {
        *last = Entry { token: 0, until_ms: last.until_ms.max(entry.until_ms), whole: 0 };
    }
}

pub fn live(entries: &[Entry], now_ms: u64) -> impl Iterator<Item = Entry> + '_ {
    entries.iter().copied().filter(move |entry| entry.until_ms > now_ms)
}

pub fn write_entries(entries: &[Entry]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|entry| [entry.token.to_be_bytes(), entry.until_ms.to_be_bytes(), entry.whole.to_be_bytes()])
        .flatten()
        .collect()
}

/// None: not a list of entries.
pub fn read_entries(bytes: &[u8]) -> Option<Vec<Entry>> {
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return None;
    }
    bytes
        .chunks_exact(ENTRY_BYTES)
        .map(|chunk| {
            Some(Entry { token: number(&chunk[..8])?, until_ms: number(&chunk[8..16])?, whole: number(&chunk[16..])? })
        })
        .collect()
}
