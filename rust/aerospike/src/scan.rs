//! Every row of a namespace, in the server's order.
//!
//! The server's scan does not stand still: it shows each record as it is when it comes to it. That is enough. A row's
//! stamp says when it was written, and whoever asks for the namespace as of a stamp leaves later rows out, whether they
//! were written before the scan came by or long ago. What a moving scan must not do is to miss a row that nobody touched:
//! so it counts what it finds missing, and the namespace must be in one epoch, without a loss and without a write of
//! unknown ids, from before it to after it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use aerospike::expressions::{and, Expression};
use aerospike::{Bins, PartitionFilter, QueryPolicy, Record, Statement};
use futures_util::stream::{select_all, StreamExt};
use hevlayer_doc::View;

use crate::engine::{before, Engine};
use crate::error::Failure;
use crate::facts::Facts;
use crate::fills::replaces;
use crate::held::HeldScan;
use crate::layout::{blob, held_bins, read_slot, slot_bins, Place, Tally, When};
use crate::reads::Seen;
use crate::state::{Kind, Readable, Slot};
use crate::store::{millis, Expect, Same, Written, BATCH_KEYS_MAX};

/// Records on their way from the server, of each range; the server waits beyond them.
const QUEUE_RECORDS: usize = 256;
/// Rows that one trim looks at, so that it needs a bounded memory; the next goes on.
const TRIM_ROWS_MAX: usize = 200_000;
/// Ranges of partitions that one scan reads at a time, each on a connection of its own to each node.
const RANGES: usize = 4;
/// Partitions of an Aerospike namespace.
const PARTITIONS: usize = 4096;

impl Engine {
    /// Every row of the namespace's present epoch, each once. `should_stop` is asked for each.
    ///
    /// The facts are of the scan: a note stands in them only if nothing was lost from before it to after it, and their
    /// counts of rows, marks and holes are what it saw.
    pub async fn scan(
        &self,
        namespace: &str,
        now_ms: u64,
        deadline: Instant,
        should_stop: impl Fn() -> bool,
    ) -> Result<HeldScan, Failure> {
        let _turn = before(deadline, async { self.scans.acquire().await.map_err(|_| Failure::Closed) }).await?;
        let place = self.place(namespace);
        let mut held = HeldScan::new(self.scan_memory.clone(), self.scanned.fetch_add(1, Ordering::Relaxed) + 1);
        let seen = self.scannable(&place, now_ms, deadline).await?;
        let Some(epoch) = seen.epoch() else { return Ok(held) };
        let is_closed = seen.is_closed();
        let before_it = self.facts(namespace, now_ms, deadline).await?;
        let (mut marked, mut holes) = (0, 0);
        let mut outcome = Ok(());
        let visit = |record: Record| {
            if should_stop() {
                outcome = Err(Failure::Stopped);
                return false;
            }
            let (Some(slot), Some(key)) = (read_slot(&record, None, Some(epoch)), blob(&record, "i")) else {
                return true;
            };
            let is_marked = slot.is_marked(now_ms);
            marked += u64::from(is_marked);
            if slot.kind == Kind::Gone {
                return true;
            }
            // A mark whose time is over hides a row that is not to be believed.
            if slot.is_hole() || (slot.kind != Kind::Row && !is_marked) {
                holes += 1;
                return true;
            }
            if !slot.has_row() {
                return true;
            }
            let is_fresh = slot.filled_ms.saturating_add(self.ttl_ms()) > now_ms;
            match blob(&record, "h").filter(|head| is_fresh && View::new(head, None).is_ok()) {
                Some(head) => outcome = held.push(key, head, is_marked || is_closed),
                None => held.missing += 1,
            }
            outcome.is_ok()
        };
        self.each(&place, of_epoch(epoch), held_bins(), deadline, visit).await?;
        outcome?;
        let after = self.facts(namespace, now_ms, deadline).await?;
        let seen_after = self.scannable(&place, now_ms, deadline).await?;
        // An epoch that ended meanwhile may have hidden rows from the rest of the scan.
        if seen_after.standing != seen.standing || seen_after.wholes != seen.wholes || after.epoch != epoch {
            return Err(Failure::Contended);
        }
        let stood = (before_it.epoch, before_it.lost, &before_it.note) == (after.epoch, after.lost, &after.note);
        let note = if stood { after.note } else { Vec::new() };
        let rows = held.len() as u64 - held.marked;
        held.facts = Facts { rows, marked, holes, note, ..after };
        Ok(held)
    }

    /// What the namespace's record says, unless some process owes the namespace something: then rows may be older than a
    /// write that was acknowledged.
    async fn scannable(&self, place: &Place, now_ms: u64, deadline: Instant) -> Result<Seen, Failure> {
        let seen = self.see(place, &[], false, None, now_ms, deadline).await?;
        if seen.owed || seen.head.is_owed(now_ms) {
            return Err(Failure::Owed);
        }
        Ok(seen)
    }

    /// The keys of some ids that a write left missing.
    pub async fn holes(
        &self,
        namespace: &str,
        limit: usize,
        now_ms: u64,
        deadline: Instant,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let place = self.place(namespace);
        let seen = self.see(&place, &[], false, None, now_ms, deadline).await?;
        let Some(epoch) = seen.epoch() else { return Ok(Vec::new()) };
        let hole = Same { bin: "s", number: Kind::Hole.code().unsigned_abs() };
        let mut keys = Vec::new();
        self.each(&place, and(vec![of_epoch(epoch), hole.expression()]), slot_bins(), deadline, |record| {
            keys.extend(blob(&record, "i").map(<[u8]>::to_vec));
            keys.len() < limit
        })
        .await?;
        Ok(keys)
    }

    /// Every record that `condition` holds for; `visit` says false to stop.
    async fn each(
        &self,
        place: &Place,
        condition: Expression,
        bins: Bins,
        deadline: Instant,
        mut visit: impl FnMut(Record) -> bool,
    ) -> Result<(), Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut policy = QueryPolicy { record_queue_size: QUEUE_RECORDS, ..QueryPolicy::default() };
        policy.base_policy.total_timeout = millis(left);
        policy.base_policy.socket_timeout = millis(left);
        policy.replica = aerospike::policy::Replica::Master;
        policy.base_policy.filter_expression = Some(condition);
        let _permit = self.permit(deadline).await?;
        let client = self.store.client()?;
        let mut ranges = Vec::with_capacity(RANGES);
        let outcome = before(deadline, async {
            for number in 0..RANGES {
                let range = PartitionFilter::by_range(number * PARTITIONS / RANGES, PARTITIONS / RANGES);
                let statement = Statement::new(&place.namespace, &place.set, bins.clone());
                ranges.push(client.query(&policy, range, statement).await?);
            }
            let mut records = select_all(ranges.iter().map(|range| range.clone().into_stream()));
            while let Some(record) = records.next().await {
                if !visit(record?) {
                    break;
                }
            }
            Ok(())
        })
        .await;
        // Also what stopped early or failed: the nodes then stop sending.
        ranges.iter().for_each(|range| range.close());
        self.count(outcome)
    }

    /// Evicts the oldest rows of a namespace over its share. Returns: rows evicted.
    pub async fn trim(&self, namespace: &str, now_ms: u64, deadline: Instant) -> Result<usize, Failure> {
        let place = self.place(namespace);
        let share = self.heads.capacity(&place);
        let facts = self.facts(namespace, now_ms, deadline).await?;
        if share == 0 || facts.bytes <= share || facts.epoch == 0 {
            return Ok(0);
        }
        let mut rows: Vec<(u64, u64, Vec<u8>)> = Vec::new();
        self.each(&place, of_epoch(facts.epoch), slot_bins(), deadline, |record| {
            let slot = read_slot(&record, None, Some(facts.epoch));
            if let (Some(slot), Some(key)) = (slot.filter(|slot| slot.kind == Kind::Row), blob(&record, "i")) {
                rows.push((slot.filled_ms, slot.bytes, key.to_vec()));
            }
            rows.len() < TRIM_ROWS_MAX
        })
        .await?;
        rows.sort_unstable();
        let mut over = facts.bytes - share;
        let chosen = rows.into_iter().take_while(|(_, bytes, _)| {
            let more = over > 0;
            over = over.saturating_sub(*bytes);
            more
        });
        let keys: Vec<Vec<u8>> = chosen.map(|(.., key)| key).collect();
        let mut evicted = 0;
        for chunk in keys.chunks(BATCH_KEYS_MAX) {
            evicted += self.evict(&place, facts.epoch, chunk, now_ms, deadline).await?;
        }
        self.flush(deadline).await?;
        Ok(evicted)
    }

    async fn evict(
        &self,
        place: &Place,
        epoch: u64,
        keys: &[Vec<u8>],
        now_ms: u64,
        deadline: Instant,
    ) -> Result<usize, Failure> {
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let seen = self.see(place, &keys, false, None, now_ms, deadline).await?;
        if seen.epoch() != Some(epoch) {
            return Ok(0);
        }
        let rows: HashMap<usize, (Slot, (Expect, Option<Same>))> = seen
            .records
            .iter()
            .enumerate()
            .filter_map(|(index, record)| {
                let record = record.as_ref()?;
                let slot = read_slot(record, Some(keys[index]), Some(epoch))?;
                let is_row = slot.readable(now_ms, self.ttl_ms()) == Readable::Row || slot.kind == Kind::Row;
                is_row.then_some((index, (slot, replaces(record))))
            })
            .collect();
        if rows.is_empty() {
            return Ok(0);
        }
        // Counted before, as a loss must be.
        let lost = Tally { lost: i64::try_from(rows.len()).unwrap_or(0), ..Tally::default() };
        self.read(vec![], Some(self.count_write(place, epoch, lost)?), deadline).await?;
        let mut writes = Vec::with_capacity(rows.len());
        let mut sizes = Vec::with_capacity(rows.len());
        for (index, (slot, expect)) in rows {
            let when = When { epoch, moment: slot.moment.max(seen.moment), now_ms };
            writes.push(self.gone_write(place, keys[index], expect, when)?);
            sizes.push(slot.bytes);
        }
        let mut evicted = 0;
        let mut tally = Tally::default();
        for (written, bytes) in self.write(writes, deadline).await?.into_iter().zip(sizes) {
            match written {
                Written::Done => {
                    evicted += 1;
                    tally.add(Tally { rows: -1, bytes: -i64::try_from(bytes).unwrap_or(0), ..Tally::default() });
                }
                // It stays: another was faster, or the server takes no writes.
                _ => tally.add(Tally { lost: -1, ..Tally::default() }),
            }
        }
        self.tallies.later(&place.name, epoch, tally);
        Ok(evicted)
    }
}

fn of_epoch(epoch: u64) -> Expression {
    Same { bin: "e", number: epoch }.expression()
}
