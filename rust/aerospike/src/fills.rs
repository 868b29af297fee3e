//! Rows from the upstream, put where nothing changed since they were read.

use std::sync::atomic::Ordering;
use std::time::Instant;

use hevlayer_doc::Record;

use crate::engine::{seconds, Engine, AFTERLIFE_SECONDS, EMPTY_SECONDS};
use crate::error::Failure;
use crate::layout::{self, read_slot, same_nonce, Head, Place, Row, Tally, Ticket, When};
use crate::state::{Bytes, Change, Kind, Readable, Slot};
use crate::store::{Expect, Same, Write, Written, BATCH_KEYS_MAX};

/// How one id of a fill ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filled {
    Put,
    /// The id does not exist upstream, and is known not to be a hole.
    Absent,
    /// Another row, as new or newer, stands there.
    Held,
    /// Something touched it since, or it is marked.
    Refused,
    /// Too large for the server or for the namespace's share.
    Lost,
}

/// A write that is about to be made, what it replaces and which id of the call it is.
struct Planned {
    index: usize,
    replaced: Tally,
    ends: Filled,
    write: Write,
}

impl Engine {
    /// Puts rows where nothing changed since each id's look-up; an id without a row does not exist upstream.
    pub async fn fill(
        &self,
        namespace: &str,
        wanted: &[(&[u8], Option<&Record>, Ticket)],
        now_ms: u64,
        deadline: Instant,
    ) -> Result<Vec<Filled>, Failure> {
        let mut filled = Vec::with_capacity(wanted.len());
        for chunk in wanted.chunks(BATCH_KEYS_MAX) {
            filled.extend(self.fill_batch(namespace, chunk, now_ms, deadline).await?);
        }
        Ok(filled)
    }

    async fn fill_batch(
        &self,
        namespace: &str,
        wanted: &[(&[u8], Option<&Record>, Ticket)],
        now_ms: u64,
        deadline: Instant,
    ) -> Result<Vec<Filled>, Failure> {
        let place = self.place(namespace);
        let mut filled = vec![Filled::Refused; wanted.len()];
        let keys: Vec<&[u8]> = wanted.iter().map(|(key, ..)| *key).collect();
        let seen = self.see(&place, &keys, false, None, now_ms, deadline).await?;
        let Some(epoch) = seen.epoch().filter(|_| !seen.is_closed() && !seen.is_quiet) else {
            self.counters.refused_fills.fetch_add(wanted.len() as u64, Ordering::Relaxed);
            return Ok(filled);
        };
        let mut planned = Vec::new();
        for (index, (key, row, ticket)) in wanted.iter().enumerate() {
            let (key, row) = (*key, *row);
            let Some(record) = seen.records[index].as_ref() else { continue };
            let Some(slot) = read_slot(record, Some(key), Some(epoch)) else { continue };
            // A row that cannot be read is replaced; its ticket says that nothing else has happened to it.
            let is_free = slot.kind == Kind::Row || slot.readable(now_ms, self.ttl_ms()) == Readable::Empty;
            if seen.ticket(slot.nonce) != Some(*ticket) || !is_free {
                continue;
            }
            let when = When { epoch, moment: seen.moment.max(slot.moment), now_ms };
            let expect = replaces(record);
            let replaced = replaced(Some(&slot));
            match row {
                Some(row) if !self.keepable(&place, epoch, row) => filled[index] = Filled::Lost,
                Some(row) => {
                    let write = self.row_write(&place, row, expect, when)?;
                    planned.push(Planned { index, replaced, ends: Filled::Put, write });
                }
                None => {
                    let write = self.gone_write(&place, key, expect, when)?;
                    planned.push(Planned { index, replaced, ends: Filled::Absent, write });
                }
            }
        }
        self.put(&place, epoch, planned, &mut filled, deadline).await?;
        Ok(filled)
    }

    /// Begins a fill of ids that are not known beforehand: the epoch to fill and a moment in it; None: a write of
    /// unknown ids is open.
    pub async fn begin_fill(
        &self,
        namespace: &str,
        now_ms: u64,
        deadline: Instant,
    ) -> Result<Option<(u64, u64)>, Failure> {
        let plan = |head: &Head, _: bool| Some(Head { moment: head.moment + 1, ..head.clone() });
        let renewed = self.renew(&self.place(namespace), now_ms, deadline, plan).await?;
        let cluster = self.cluster(now_ms, deadline).await?;
        let is_open = !renewed.closed && !cluster.owed && now_ms >= cluster.quiet_until_ms;
        Ok(is_open.then_some((renewed.epoch, renewed.moment)))
    }

    /// Puts rows that the upstream was asked for after `began`, where no write changed the id since.
    pub async fn fill_page(
        &self,
        namespace: &str,
        rows: &[&Record],
        began: (u64, u64),
        now_ms: u64,
        deadline: Instant,
    ) -> Result<Vec<Filled>, Failure> {
        let mut filled = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(BATCH_KEYS_MAX) {
            filled.extend(self.fill_page_batch(namespace, chunk, began, now_ms, deadline).await?);
        }
        Ok(filled)
    }

    async fn fill_page_batch(
        &self,
        namespace: &str,
        rows: &[&Record],
        (epoch, began): (u64, u64),
        now_ms: u64,
        deadline: Instant,
    ) -> Result<Vec<Filled>, Failure> {
        let place = self.place(namespace);
        let mut filled = vec![Filled::Refused; rows.len()];
        let mut planned = Vec::new();
        let keys: Vec<&[u8]> = rows.iter().map(|row| row.key.as_slice()).collect();
        let seen = self.see(&place, &keys, false, None, now_ms, deadline).await?;
        let is_void = seen.is_closed() || seen.is_quiet || seen.epoch() != Some(epoch) || seen.wholes.moment >= began;
        let when = When { epoch, moment: seen.moment, now_ms };
        for (index, (row, record)) in rows.iter().zip(&seen.records).enumerate() {
            let slot = record.as_ref().map(|record| read_slot(record, Some(&row.key), seen.epoch()));
            let replaced = match &slot {
                None => Tally::default(),
                Some(None) => continue,
                Some(Some(slot)) if slot.is_current && slot.moment >= began || is_void => {
                    if slot.readable(now_ms, self.ttl_ms()) == Readable::Row && !seen.is_closed() {
                        filled[index] = Filled::Held;
                    }
                    continue;
                }
                Some(Some(slot)) if slot.is_marked(now_ms) => continue,
                Some(Some(slot)) => replaced(Some(slot)),
            };
            if is_void {
                continue;
            }
            if self.keepable(&place, epoch, row) {
                let expect = record.as_ref().map_or((Expect::Absent, None), replaces);
                let write = self.row_write(&place, row, expect, when)?;
                planned.push(Planned { index, replaced, ends: Filled::Put, write });
            } else {
                filled[index] = Filled::Lost;
            }
        }
        self.put(&place, epoch, planned, &mut filled, deadline).await?;
        Ok(filled)
    }

    /// Whether the server and the namespace's share have room for a row.
    pub(crate) fn keepable(&self, place: &Place, epoch: u64, row: &Record) -> bool {
        let bytes = size(row);
        let share = self.heads.capacity(place);
        let held = u64::try_from(self.tallies.bytes(&place.name, epoch)).unwrap_or(0);
        bytes + row.key.len() <= self.record_bytes_max() && (share == 0 || held + bytes as u64 <= share)
    }

    fn row_write(
        &self,
        place: &Place,
        row: &Record,
        (expect, same): (Expect, Option<Same>),
        when: When,
    ) -> Result<Write, Failure> {
        let change = Change { kind: Kind::Row, entries: Vec::new(), bytes: Bytes::New };
        let bytes = Row { head: &row.head, tail: &row.tail };
        Ok(Write {
            key: place.row(&row.key)?,
            operations: layout::write_change(&row.key, true, &change, Some(&bytes), when),
            expect,
            same,
            bytes: size(row),
            expiration: self.expiration(seconds(self.ttl_ms())),
        })
    }

    pub(crate) fn gone_write(
        &self,
        place: &Place,
        key: &[u8],
        (expect, same): (Expect, Option<Same>),
        when: When,
    ) -> Result<Write, Failure> {
        let change = Change { kind: Kind::Gone, entries: Vec::new(), bytes: Bytes::Drop };
        Ok(Write {
            key: place.row(key)?,
            operations: layout::write_change(key, true, &change, None, when),
            expect,
            same,
            bytes: 0,
            expiration: self.expiration(seconds(self.ttl_ms()).saturating_add(AFTERLIFE_SECONDS)),
        })
    }

    pub(crate) fn empty_write(&self, place: &Place, key: &[u8], nonce: u64, epoch: u64) -> Result<Write, Failure> {
        Ok(Write {
            key: place.row(key)?,
            operations: layout::write_empty(key, nonce, epoch),
            expect: Expect::Absent,
            same: None,
            bytes: 0,
            expiration: self.expiration(EMPTY_SECONDS),
        })
    }

    async fn put(
        &self,
        place: &Place,
        epoch: u64,
        planned: Vec<Planned>,
        filled: &mut [Filled],
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut tally = Tally::default();
        let mut failed = None;
        let (facts, writes): (Vec<_>, Vec<_>) = planned
            .into_iter()
            .map(|planned| ((planned.index, planned.replaced, planned.ends, planned.write.bytes), planned.write))
            .unzip();
        for ((index, replaced, ends, bytes), written) in facts.into_iter().zip(self.write(writes, deadline).await?) {
            filled[index] = match written {
                Written::Done => {
                    tally.add(replaced);
                    if ends == Filled::Put {
                        tally.add(Tally { rows: 1, bytes: i64::try_from(bytes).unwrap_or(0), ..Tally::default() });
                    }
                    ends
                }
                Written::Changed => Filled::Refused,
                Written::TooLarge => Filled::Lost,
                Written::Failed(failure) => {
                    failed = Some(failure);
                    Filled::Refused
                }
            };
        }
        let count = |ends| filled.iter().filter(|end| **end == ends).count();
        let lost = count(Filled::Lost);
        tally.lost += i64::try_from(lost).unwrap_or(0);
        self.tallies.later(&place.name, epoch, tally);
        self.counters.refused_fills.fetch_add(count(Filled::Refused) as u64, Ordering::Relaxed);
        self.counters.lost_rows.fetch_add(lost as u64, Ordering::Relaxed);
        failed.map_or(Ok(()), Err)
    }
}

/// What is no longer counted once something is put in a record's place.
fn replaced(slot: Option<&Slot>) -> Tally {
    let Some(slot) = slot.filter(|slot| slot.is_current) else { return Tally::default() };
    let is_row = slot.kind == Kind::Row;
    Tally {
        marked: -i64::try_from(slot.entries.len()).unwrap_or(0),
        holes: -i64::from(slot.is_hole()),
        rows: -i64::from(is_row),
        bytes: if is_row { -i64::try_from(slot.bytes).unwrap_or(0) } else { 0 },
        lost: 0,
    }
}

fn size(row: &Record) -> usize {
    row.head.len() + row.tail.len()
}

/// A write's condition: the record is still the one that was read.
pub(crate) fn replaces(record: &aerospike::Record) -> (Expect, Option<Same>) {
    (Expect::Replaces(record.generation), same_nonce(record))
}
