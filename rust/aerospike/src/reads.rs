//! Look-ups.

use std::collections::HashMap;
use std::time::Instant;

use aerospike::Record;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use hevlayer_doc::{IdType, Projection, View};

use crate::engine::{Engine, Lookup, BATCHES_AT_ONCE};
use crate::error::Failure;
use crate::heads::{standing, Standing, CAS_TRIES_MAX};
use crate::layout::{
    blob, head_bins, new_nonce, read_head, read_slot, row_bins, slot_bins, tail_bins, Head, Place, Tally, Ticket,
};
use crate::state::{Readable, Wholes};
use crate::store::{Written, BATCH_KEYS_MAX};

/// What one call saw of a namespace and some of its ids.
pub(crate) struct Seen {
    pub standing: Standing,
    pub wholes: Wholes,
    pub moment: u64,
    pub head: Head,
    /// Some process owes something for every namespace.
    pub owed: bool,
    /// Marks may have been lost; see [`crate::guard`].
    pub is_quiet: bool,
    /// In the order of the ids.
    pub records: Vec<Option<Record>>,
}

impl Seen {
    pub fn epoch(&self) -> Option<u64> {
        match self.standing {
            Standing::Void => None,
            Standing::Closed { epoch } | Standing::Open { epoch } => Some(epoch),
        }
    }

    /// Whether every id counts as marked.
    pub fn is_closed(&self) -> bool {
        self.owed || matches!(self.standing, Standing::Closed { .. })
    }

    /// None: nothing may be filled now.
    pub fn ticket(&self, nonce: u64) -> Option<Ticket> {
        (self.epoch().is_some() && !self.is_quiet).then(|| Ticket::new(&self.head, nonce))
    }
}

impl Engine {
    pub async fn lookup(
        &self,
        namespace: &str,
        key: &[u8],
        projection: &Projection,
        id_type: Option<IdType>,
        now_ms: u64,
        deadline: Instant,
    ) -> Result<Lookup, Failure> {
        let found = self.lookup_batch(namespace, &[key], projection, id_type, now_ms, deadline).await?;
        found.into_iter().next().ok_or(Failure::Unanswered)
    }

    /// As `lookup`, in the order of the keys.
    pub async fn lookup_many(
        &self,
        namespace: &str,
        keys: &[Vec<u8>],
        projection: &Projection,
        now_ms: u64,
        deadline: Instant,
    ) -> Result<Vec<Lookup>, Failure> {
        let chunks: Vec<Vec<&[u8]>> =
            keys.chunks(BATCH_KEYS_MAX).map(|chunk| chunk.iter().map(Vec::as_slice).collect()).collect();
        let mut work = Vec::with_capacity(chunks.len());
        for chunk in &chunks {
            work.push(self.lookup_batch(namespace, chunk, projection, None, now_ms, deadline));
        }
        let found: Vec<Vec<Lookup>> = stream::iter(work).buffered(BATCHES_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn lookup_batch(
        &self,
        namespace: &str,
        keys: &[&[u8]],
        projection: &Projection,
        id_type: Option<IdType>,
        now_ms: u64,
        deadline: Instant,
    ) -> Result<Vec<Lookup>, Failure> {
        let place = self.place(namespace);
        for _ in 0..CAS_TRIES_MAX {
            let seen = self.see(&place, keys, true, None, now_ms, deadline).await?;
            if seen.is_closed() {
                return Ok(keys.iter().map(|_| Lookup::Marked(None)).collect());
            }
            if seen.epoch().is_none() && !seen.is_quiet {
                // Whoever misses the namespace's record makes it, so that there is an epoch to fill.
                match self.renew(&place, now_ms, deadline, |_, _| None).await {
                    Ok(_) => continue,
                    Err(Failure::StopWrites) => {}
                    Err(failure) => return Err(failure),
                }
            }
            let Some(tails) = self.tails(&place, keys, &seen.records, projection, deadline).await? else { continue };
            let Some(left) = self.leave(&place, &seen, keys, deadline).await? else { continue };
            let found = keys.iter().zip(&seen.records).zip(&tails);
            return Ok(found
                .map(|((key, record), tail)| match record {
                    None => empty(left.get(key).and_then(|nonce| seen.ticket(*nonce))),
                    Some(record) => self.found(&seen, key, record, tail.as_deref(), (projection, id_type), now_ms),
                })
                .collect());
        }
        Err(Failure::Contended)
    }

    /// Leaves an empty record for each id that has none: what a fill replaces is then exactly what its reader saw, also
    /// if the server loses a record in between. Returns: their nonces; None: somebody else was faster with one.
    async fn leave<'a>(
        &self,
        place: &Place,
        seen: &Seen,
        keys: &[&'a [u8]],
        deadline: Instant,
    ) -> Result<Option<HashMap<&'a [u8], u64>>, Failure> {
        let mut left = HashMap::new();
        let Some(epoch) = seen.epoch().filter(|_| !seen.is_quiet) else { return Ok(Some(left)) };
        let mut writes = Vec::new();
        for (key, _) in keys.iter().zip(&seen.records).filter(|(_, record)| record.is_none()) {
            let nonce = new_nonce();
            if left.insert(*key, nonce).is_none() {
                writes.push(self.empty_write(place, key, nonce, epoch)?);
            }
        }
        for written in self.write(writes, deadline).await? {
            match written {
                Written::Done => {}
                Written::Changed => return Ok(None),
                // A server that takes no writes can still be read.
                Written::TooLarge | Written::Failed(_) => return Ok(Some(HashMap::new())),
            }
        }
        Ok(Some(left))
    }

    /// The tails of the rows whose heads cannot answer alone; None: one changed in between.
    async fn tails(
        &self,
        place: &Place,
        keys: &[&[u8]],
        records: &[Option<Record>],
        projection: &Projection,
        deadline: Instant,
    ) -> Result<Option<Vec<Option<Vec<u8>>>>, Failure> {
        let mut tails = vec![None; keys.len()];
        let mut wanted = Vec::new();
        let mut places = Vec::new();
        for (index, (key, record)) in keys.iter().zip(records).enumerate() {
            let head = record.as_ref().and_then(|record| blob(record, "h"));
            let view = head.and_then(|head| View::new(head, None).ok());
            if view.is_some_and(|view| view.needs_tail(projection)) {
                wanted.push((place.row(key)?, tail_bins()));
                places.push((index, record.as_ref().map_or(0, |record| record.generation)));
            }
        }
        for ((index, generation), record) in places.into_iter().zip(self.read(wanted, None, deadline).await?) {
            match record {
                Some(record) if record.generation == generation => {
                    tails[index] = Some(blob(&record, "l").unwrap_or_default().to_vec());
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(tails))
    }

    fn found(
        &self,
        seen: &Seen,
        key: &[u8],
        record: &Record,
        tail: Option<&[u8]>,
        (projection, id_type): (&Projection, Option<IdType>),
        now_ms: u64,
    ) -> Lookup {
        // A record that is not ours to read is not ours to replace either; a write does.
        let Some(slot) = read_slot(record, Some(key), seen.epoch()) else { return Lookup::Marked(None) };
        let ticket = seen.ticket(slot.nonce);
        match slot.readable(now_ms, self.ttl_ms()) {
            Readable::Marked => Lookup::Marked(ticket),
            Readable::Empty => empty(ticket),
            Readable::Row => {
                let head = blob(record, "h").unwrap_or_default();
                match View::new(head, tail) {
                    Ok(view) => {
                        let mut text = Vec::with_capacity(head.len() + tail.map_or(0, <[u8]>::len) + 64);
                        view.write(projection, id_type, &mut text);
                        Lookup::Hit(text)
                    }
                    // Of another version: missing, and replaced by the next fill.
                    Err(_) => empty(ticket),
                }
            }
        }
    }

    /// Reads the namespace's record and its ids' records in one call.
    ///
    /// `count`: the epoch that the caller believes in, and a change of its counts that has to be in the store when this
    /// returns.
    pub(crate) async fn see(
        &self,
        place: &Place,
        keys: &[&[u8]],
        with_rows: bool,
        count: Option<(u64, Tally)>,
        now_ms: u64,
        deadline: Instant,
    ) -> Result<Seen, Failure> {
        let mut count = count;
        for _ in 0..CAS_TRIES_MAX {
            let mut cluster = self.cluster(now_ms, deadline).await?;
            let mut wanted = vec![(place.head()?, head_bins())];
            for key in keys {
                wanted.push((place.row(key)?, if with_rows { row_bins() } else { slot_bins() }));
            }
            let beside = match count.take() {
                Some((epoch, change)) => Some(self.count_write(place, epoch, change)?),
                None => None,
            };
            let mut records = self.read(wanted, beside, deadline).await?.into_iter();
            let head = records.next().flatten().as_ref().and_then(read_head);
            // The answer came later than the key did: what was read must be from before the cluster's next loss.
            if self.guard.key(&self.store).await? != cluster {
                continue;
            }
            if head.as_ref().is_some_and(|head| head.cluster != cluster.text) {
                cluster = self.guard.key_since(&self.store, Some(Instant::now())).await?;
                if !cluster.is_noted {
                    continue;
                }
            }
            let standing = standing(head.as_ref(), &cluster.text, now_ms);
            if let Some(head) = &head {
                self.heads.learn_capacity(place, head.capacity_bytes);
            }
            let head = head.unwrap_or_default();
            let is_quiet = now_ms < cluster.quiet_until_ms;
            return Ok(Seen {
                wholes: Wholes {
                    moment: head.whole_moment,
                    open: is_quiet || matches!(standing, Standing::Closed { .. }),
                },
                moment: head.moment,
                head,
                owed: cluster.owed,
                is_quiet,
                standing,
                records: records.collect(),
            });
        }
        Err(Failure::Contended)
    }
}

fn empty(ticket: Option<Ticket>) -> Lookup {
    ticket.map_or(Lookup::Marked(None), Lookup::Empty)
}
