//! Marks, settles and new epochs.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use hevlayer_doc::{Record, Rows};
use parking_lot::Mutex;

use crate::engine::{before, seconds, Engine, AFTERLIFE_SECONDS, BATCHES_AT_ONCE};
use crate::error::Failure;
use crate::heads::{next_epoch, standing, Renewed, Standing, CAS_TRIES_MAX};
use crate::layout::{
    self, blob, head_bins, read_head, read_slot, same_nonce, scan_bins, Head, Place, Row, Tally, When,
};
use crate::state::{live, plan_mark, plan_settle, Bytes, Change, End, Entry, Kind, Slot, Wholes};
use crate::store::{Expect, Write, Written, BATCH_KEYS_MAX};

/// How a write ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Applied,
    Refused,
    Unknown,
}

/// What is known of a write that ended.
pub struct Settled<'a> {
    pub outcome: Outcome,
    /// The ids that the upstream said it changed; None: it did not say.
    pub changed: Option<&'a [Vec<u8>]>,
    /// What the upstream stores now.
    pub rows: Option<&'a Rows>,
    pub deleted: &'a [Vec<u8>],
}

/// A record that is not of this version or not of this id: replaced as if a write had touched it.
const UNREADABLE: Slot =
    Slot { kind: Kind::Hole, entries: Vec::new(), filled_ms: 0, moment: 0, bytes: 0, nonce: 0, is_current: false };

/// What to do with an id's record, or nothing.
type Plan<'a> = dyn Fn(&[u8], Option<&Slot>, &Wholes) -> Option<Change> + Sync + 'a;

/// One change of many ids.
struct Work<'a> {
    place: &'a Place,
    plan: &'a Plan<'a>,
    rows: Option<&'a Rows>,
    /// Counted for each id before anything is changed.
    each: Tally,
    now_ms: u64,
    deadline: Instant,
}

impl Engine {
    /// Marks ids (None: the namespace) for a write that has not gone upstream yet and has ended by `until_ms`.
    pub async fn mark(
        &self,
        token: u64,
        namespace: &str,
        keys: Option<&[Vec<u8>]>,
        (now_ms, until_ms): (u64, u64),
        deadline: Instant,
    ) -> Result<(), Failure> {
        let until_ms = until_ms + self.clock_skew_ms;
        let place = self.place(namespace);
        let Some(keys) = keys else {
            return self.mark_whole(&place, Entry { token, until_ms, whole: 0 }, now_ms, deadline).await;
        };
        let plan = |_: &[u8], slot: Option<&Slot>, wholes: &Wholes| {
            plan_mark(slot, Entry { token, until_ms, whole: wholes.at_mark() }, now_ms)
        };
        let each = Tally { marked: 1, ..Tally::default() };
        self.change(keys, &Work { place: &place, plan: &plan, rows: None, each, now_ms, deadline }).await
    }

    /// Closes a namespace until the entry is taken away or runs out, which ends the epoch.
    pub(crate) async fn mark_whole(
        &self,
        place: &Place,
        entry: Entry,
        now_ms: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let plan = |head: &Head, _: bool| {
            let mut next = head.clone();
            next.entries.retain(|other| other.token != entry.token);
            if next.entries.len() == head.entries.len() {
                next = touched(next);
            }
            next.entries.push(entry);
            Some(next)
        };
        self.renew(place, now_ms, deadline, plan).await.map(drop)
    }

    /// Ends a write. False: a mark of it was not there any more; what it stood for is then void all the same.
    pub async fn settle(
        &self,
        token: u64,
        namespace: &str,
        keys: Option<&[Vec<u8>]>,
        settled: &Settled<'_>,
        now_ms: u64,
        deadline: Instant,
    ) -> Result<bool, Failure> {
        let place = self.place(namespace);
        let outcome = settled.outcome;
        let until_ms = now_ms + self.unknown_write_ms() + self.clock_skew_ms;
        let changed: Option<HashSet<&[u8]>> = settled.changed.map(|keys| keys.iter().map(Vec::as_slice).collect());
        let deleted: HashSet<&[u8]> = settled.deleted.iter().map(Vec::as_slice).collect();
        let epoch = self.heads.last_epoch(&place).unwrap_or(0);
        let kept =
            |key: &[u8]| settled.rows.and_then(|rows| rows.get(key)).filter(|row| self.keepable(&place, epoch, row));
        let ends = |key: &[u8]| match outcome {
            Outcome::Unknown => End::Unknown { until_ms },
            Outcome::Refused => End::Refused,
            Outcome::Applied if changed.as_ref().is_some_and(|changed| !changed.contains(key)) => End::Refused,
            Outcome::Applied if kept(key).is_some() => End::Row,
            Outcome::Applied if deleted.contains(key) => End::Gone,
            Outcome::Applied => End::Applied,
        };
        let lost = Mutex::new(HashSet::new());
        let plan = |key: &[u8], slot: Option<&Slot>, wholes: &Wholes| {
            let settle = plan_settle(slot, token, ends(key), *wholes, now_ms);
            if !settle.found {
                lost.lock().insert(key.to_vec());
            }
            settle.change
        };
        let work = Work { place: &place, plan: &plan, rows: settled.rows, each: Tally::default(), now_ms, deadline };
        if let Some(keys) = keys {
            self.change(keys, &work).await?;
            return Ok(lost.into_inner().is_empty());
        }
        if let (Outcome::Applied, Some(changed)) = (outcome, settled.changed) {
            self.change(changed, &Work { rows: None, ..work }).await?;
        }
        let found = Mutex::new(false);
        let plan = |head: &Head, is_void: bool| {
            let mut next = head.clone();
            next.entries.retain(|entry| entry.token != token);
            *found.lock() = next.entries.len() < head.entries.len();
            match outcome {
                Outcome::Unknown => next.entries.push(Entry { token, until_ms, whole: 0 }),
                Outcome::Refused => {}
                Outcome::Applied if is_void || settled.changed.is_some() => {}
                Outcome::Applied => next = next_epoch(&next, now_ms),
            }
            (next != *head).then(|| touched(next))
        };
        self.renew(&place, now_ms, deadline, plan).await?;
        let found = *found.lock();
        Ok(found)
    }

    /// The rows beneath this write's marks, where no other write is known.
    pub async fn beneath(
        &self,
        token: u64,
        namespace: &str,
        keys: &[Vec<u8>],
        now_ms: u64,
        deadline: Instant,
    ) -> Result<Rows, Failure> {
        let place = self.place(namespace);
        let mut rows = Rows::default();
        for chunk in keys.chunks(BATCH_KEYS_MAX) {
            // Head and tail are bins of one record, so one read of it is one state of it.
            let mut wanted = vec![(place.head()?, head_bins())];
            for key in chunk {
                wanted.push((place.row(key)?, scan_bins()));
            }
            let mut records = self.read(wanted, None, deadline).await?.into_iter();
            let cluster = self.cluster(now_ms, deadline).await?;
            let head = records.next().flatten().as_ref().and_then(read_head);
            if now_ms < cluster.quiet_until_ms {
                return Ok(rows);
            }
            let Standing::Open { epoch } = standing(head.as_ref(), &cluster.text, now_ms) else { continue };
            let whole = head.map_or(0, |head| head.whole_moment);
            for (key, record) in chunk.iter().zip(records) {
                let Some(record) = record else { continue };
                let alone = read_slot(&record, Some(key), Some(epoch)).is_some_and(|slot| {
                    let own = slot
                        .entries
                        .first()
                        .is_some_and(|entry| entry.token == token && entry.until_ms > now_ms && entry.whole == whole);
                    let fresh = slot.has_row() && slot.filled_ms + self.ttl_ms() > now_ms;
                    slot.kind == Kind::Mark && own && fresh
                });
                if let (true, Some(head)) = (alone, blob(&record, "h")) {
                    let tail = blob(&record, "l").unwrap_or_default().to_vec();
                    rows.push(Record { key: key.clone(), head: head.to_vec(), tail });
                }
            }
        }
        Ok(rows)
    }

    /// A new epoch: no row from before is served again, and no older ticket is good. Open writes stay open.
    pub async fn clear(&self, namespace: &str, now_ms: u64, deadline: Instant) -> Result<u64, Failure> {
        let plan = |head: &Head, void: bool| (!void).then(|| next_epoch(head, now_ms));
        let renewed = self.renew(&self.place(namespace), now_ms, deadline, plan).await?;
        Ok(renewed.epoch)
    }

    pub(crate) async fn renew(
        &self,
        place: &Place,
        now_ms: u64,
        deadline: Instant,
        plan: impl Fn(&Head, bool) -> Option<Head> + Sync,
    ) -> Result<Renewed, Failure> {
        self.cluster(now_ms, deadline).await?;
        let _permit = self.permit(deadline).await?;
        let never = !self.expires.load(Ordering::Relaxed);
        let work = self.heads.change(&self.store, &self.guard, place, (now_ms, never), deadline, plan);
        let renewed = self.count(before(deadline, work).await)?;
        self.heads.learn_epoch(place, renewed.epoch);
        if renewed.begun {
            self.counters.epochs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(renewed)
    }

    /// Carries out a plan on each id, each on the very record that it was made from.
    async fn change(&self, keys: &[Vec<u8>], work: &Work<'_>) -> Result<(), Failure> {
        // Boxed, because the compiler cannot name what borrows from the chunks otherwise.
        let each = |chunk| -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + '_>> {
            Box::pin(self.change_batch(chunk, work))
        };
        let batches: Vec<_> = keys.chunks(BATCH_KEYS_MAX).map(each).collect();
        stream::iter(batches).buffer_unordered(BATCHES_AT_ONCE).try_collect::<Vec<()>>().await.map(drop)
    }

    async fn change_batch(&self, keys: &[Vec<u8>], work: &Work<'_>) -> Result<(), Failure> {
        let Work { place, plan, rows, each, now_ms, deadline } = *work;
        let mut pending: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let count = times(each, keys.len());
        let is_counted = count != Tally::default();
        let mut counted = None;
        // Ids that are counted as holes and may not be one yet, in the epoch beside them.
        let mut ahead: HashSet<&[u8]> = HashSet::new();
        let mut ahead_epoch = 0;
        for _ in 0..CAS_TRIES_MAX {
            let guess = self.heads.last_epoch(place).filter(|epoch| is_counted && counted != Some(*epoch));
            let seen = self.see(place, &pending, false, guess.map(|epoch| (epoch, count)), now_ms, deadline).await?;
            let Some(epoch) = seen.epoch() else {
                self.renew(place, now_ms, deadline, |_, _| None).await?;
                continue;
            };
            self.heads.learn_epoch(place, epoch);
            counted = guess.or(counted);
            if is_counted && counted != Some(epoch) {
                // What was counted in another epoch is of no account any more.
                self.read(vec![], Some(self.count_write(place, epoch, count)?), deadline).await?;
                counted = Some(epoch);
            }
            if ahead_epoch != epoch {
                ahead.clear();
                ahead_epoch = epoch;
            }
            let mut tally = Tally::default();
            let mut holes = 0;
            let mut writes = Vec::new();
            let mut writing = Vec::new();
            for (key, record) in pending.iter().zip(&seen.records) {
                let slot =
                    record.as_ref().map(|record| read_slot(record, Some(key), Some(epoch)).unwrap_or(UNREADABLE));
                let is_hole = slot.as_ref().is_some_and(|slot| slot.is_current && slot.is_hole());
                let Some(change) = plan(key, slot.as_ref(), &seen.wholes) else {
                    tally.add(times_back(each));
                    tally.holes -= i64::from(ahead.remove(key) && !is_hole);
                    continue;
                };
                let row = rows.and_then(|rows| rows.get(key));
                let bytes = row.map(|row| Row { head: &row.head, tail: &row.tail });
                let moment = seen.moment.max(slot.as_ref().map_or(0, |slot| slot.moment));
                let when = When { epoch, moment, now_ms };
                let is_new = record.as_ref().is_none_or(|record| blob(record, "i").is_none());
                writes.push(Write {
                    key: place.row(key)?,
                    operations: layout::write_change(key, is_new, &change, bytes.as_ref(), when),
                    bytes: row.map_or(0, |row| row.head.len() + row.tail.len()),
                    expect: record.as_ref().map_or(Expect::Absent, |record| Expect::Generation(record.generation)),
                    same: record.as_ref().and_then(same_nonce),
                    expiration: self.expiration(self.life(&change, slot.as_ref(), now_ms)),
                });
                let difference = difference(slot.as_ref(), &change, each, row);
                if difference.holes > 0 {
                    holes += i64::from(ahead.insert(key));
                } else if ahead.remove(key) && !is_hole {
                    // An earlier try was not carried out, or somebody has filled what it left.
                    tally.holes -= 1;
                }
                writing.push((*key, difference));
            }
            if holes > 0 {
                // Before there is one: whoever reads the counts must not take the namespace for complete.
                let write = self.count_write(place, epoch, Tally { holes, ..Tally::default() })?;
                self.read(vec![], Some(write), deadline).await?;
            }
            let mut again = Vec::new();
            match self.write(writes, deadline).await {
                Ok(ends) => {
                    for ((key, difference), written) in writing.into_iter().zip(ends) {
                        match written {
                            Written::Done => {
                                ahead.remove(key);
                                tally.add(Tally { holes: difference.holes.min(0), ..difference });
                            }
                            Written::Changed => again.push(key),
                            Written::TooLarge => return Err(Failure::Server("RecordTooBig".to_owned())),
                            Written::Failed(failure) => return Err(failure),
                        }
                    }
                }
                // A broken connection does not tell; reading again does, and no plan minds being carried out twice.
                Err(Failure::Unreachable(_)) => again.extend(writing.into_iter().map(|(key, _)| key)),
                Err(failure) => return Err(failure),
            }
            self.tallies.later(&place.name, epoch, tally);
            if again.is_empty() {
                return Ok(());
            }
            pending = again;
        }
        Err(Failure::Contended)
    }

    /// For how many seconds the server keeps what a change leaves.
    fn life(&self, change: &Change, slot: Option<&Slot>, now_ms: u64) -> u32 {
        match (change.kind, change.bytes, slot) {
            (Kind::Row, Bytes::Keep, Some(slot)) => {
                seconds((slot.filled_ms + self.ttl_ms()).saturating_sub(now_ms)).max(1)
            }
            (Kind::Row, ..) => seconds(self.ttl_ms()),
            _ => {
                let last = live(&change.entries, now_ms).map(|entry| entry.until_ms - now_ms).max().unwrap_or(0);
                seconds(self.ttl_ms().max(last)).saturating_add(AFTERLIFE_SECONDS)
            }
        }
    }
}

/// How the counts differ once a change was made. `each` was counted for the id before.
fn difference(slot: Option<&Slot>, change: &Change, each: Tally, row: Option<&Record>) -> Tally {
    let count = |number: usize| i64::try_from(number).unwrap_or(0);
    let before = slot.filter(|slot| slot.is_current);
    let is_row = before.is_some_and(|slot| slot.kind == Kind::Row);
    let held = slot.map_or(0, |slot| i64::try_from(slot.bytes).unwrap_or(0));
    let is_hole = change.kind == Kind::Hole || change.bytes == Bytes::Hole;
    let (rows, bytes) = match (change.kind, change.bytes, row) {
        (Kind::Row, Bytes::New, Some(row)) => (1, count(row.head.len() + row.tail.len())),
        (Kind::Row, ..) => (1, held),
        _ => (0, 0),
    };
    Tally {
        marked: count(change.entries.len()) - before.map_or(0, |slot| count(slot.entries.len())) - each.marked,
        holes: i64::from(is_hole) - i64::from(before.is_some_and(Slot::is_hole)),
        rows: rows - i64::from(is_row),
        bytes: bytes - if is_row { held } else { 0 },
        lost: 0,
    }
}

/// A namespace whose ids were all touched at once.
fn touched(head: Head) -> Head {
    Head { moment: head.moment + 1, whole_moment: head.moment + 1, ..head }
}

fn times(each: Tally, count: usize) -> Tally {
    let count = i64::try_from(count).unwrap_or(0);
    Tally { marked: each.marked * count, ..Tally::default() }
}

fn times_back(each: Tally) -> Tally {
    Tally { marked: -each.marked, ..Tally::default() }
}
