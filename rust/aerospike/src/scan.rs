//! Every row of a namespace, in the server's order.

use std::collections::HashMap;
use std::time::Instant;

use aerospike::expressions::{and, Expression};
use aerospike::{Bins, PartitionFilter, QueryPolicy, Record, Statement};
use futures_util::StreamExt;

use crate::engine::{before, Engine};
use crate::error::Failure;
use crate::fills::replaces;
use crate::heads::Standing;
use crate::layout::{blob, read_slot, scan_bins, slot_bins, Place, Tally, When};
use crate::state::{Kind, Readable, Slot};
use crate::store::{millis, Expect, Same, Written, BATCH_KEYS_MAX};

/// Records on their way from the server; the server waits beyond them.
const QUEUE_RECORDS: usize = 256;
/// Rows that one trim looks at, so that it needs a bounded memory; the next goes on.
const TRIM_ROWS_MAX: usize = 200_000;

/// One id of a scan.
pub struct Scanned {
    pub key: Vec<u8>,
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
    /// A write of it is open; the row is the one beneath its mark.
    pub is_marked: bool,
}

impl Engine {
    /// Gives every row of the namespace's present epoch to `visit`, until that says to stop (false). A row that is there
    /// throughout is given exactly once; one that is put, written or cleared meanwhile at most once.
    ///
    /// Returns: ids that are missing: holes, and marks without a row beneath.
    pub async fn scan(
        &self,
        namespace: &str,
        now_ms: u64,
        deadline: Instant,
        mut visit: impl FnMut(Scanned) -> bool,
    ) -> Result<u64, Failure> {
        let place = self.place(namespace);
        let seen = self.see(&place, &[], false, None, now_ms, deadline).await?;
        let Standing::Open { epoch } = seen.standing else { return Ok(0) };
        let mut missing = 0;
        self.each(&place, of_epoch(epoch), scan_bins(), deadline, |record| {
            let (Some(slot), Some(key)) = (read_slot(&record, None, Some(epoch)), blob(&record, "i")) else {
                return true;
            };
            let is_marked = slot.is_marked(now_ms);
            let is_fresh = slot.filled_ms.saturating_add(self.ttl_ms()) > now_ms;
            let has_row = slot.has_row() && is_fresh && (is_marked || slot.kind == Kind::Row);
            match blob(&record, "h").filter(|_| has_row) {
                Some(head) => {
                    let tail = blob(&record, "l").unwrap_or_default().to_vec();
                    visit(Scanned { key: key.to_vec(), head: head.to_vec(), tail, is_marked })
                }
                None => {
                    missing += u64::from(slot.kind != Kind::Gone);
                    true
                }
            }
        })
        .await?;
        // An epoch that ended meanwhile may have hidden rows from the rest of the scan.
        let after = self.see(&place, &[], false, None, now_ms, deadline).await?;
        if after.standing != seen.standing || after.wholes != seen.wholes {
            return Err(Failure::Contended);
        }
        Ok(missing)
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
        let statement = Statement::new(&place.namespace, &place.set, bins);
        let _permit = self.permit(deadline).await?;
        let client = self.store.client()?;
        let records =
            before(deadline, async { Ok(client.query(&policy, PartitionFilter::all(), statement).await?) }).await?;
        let mut stream = records.clone().into_stream();
        let outcome = before(deadline, async {
            while let Some(record) = stream.next().await {
                if !visit(record?) {
                    break;
                }
            }
            Ok(())
        })
        .await;
        // Also what stopped early or failed: the nodes then stop sending.
        records.close();
        outcome
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
