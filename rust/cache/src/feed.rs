//! Which rows of a namespace changed since a transaction: for those who keep something that was made of the rows.
//!
//! The keys are noted in the transactions that change the rows, so that nothing is missing whatever ends a process, and
//! every process reads them. Nothing is noted of a namespace until somebody begins to, or when too much has been noted
//! that nobody has dropped: whoever asks for changes that are not noted is told so, and makes its thing anew.

use std::collections::{BTreeSet, HashMap};
use std::io;

use crate::change::{Change, Key};
use crate::engine::{length, Engine, Facts};
use crate::entry::{self, keyed, Entry, Known, Reader, Writer, CHANGES, FEED};
use crate::error::CacheError;
use crate::frame::Frame;
use crate::lmdb::{Read, Table, Txn, Write};

/// Keys that are noted of a namespace; past them the noting ends.
pub const KEYS_NOTED_MAX: u64 = 1_000_000;
/// Transactions whose notes are dropped in one transaction.
const DROPPED_MAX: usize = 1_000;
/// Steps of that size in one upkeep.
const SWEEP_STEPS_MAX: usize = 16;
const ATTEMPTS: usize = 3;

type Result<T> = std::result::Result<T, CacheError>;

/// Which changes of a namespace are noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Feed {
    /// All of later transactions are.
    from: u64,
    /// Keys that are noted.
    keys: u64,
}

impl Feed {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u64(self.from).u64(self.keys);
        out.0
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        Ok(Self { from: reader.u64()?, keys: reader.u64()? })
    }
}

/// Appends a key to those that a transaction changed.
fn note_key(noted: &mut Vec<u8>, key: &[u8]) {
    // Keys are shorter than the index's limit, which fits.
    noted.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    noted.extend_from_slice(key);
}

/// The keys that a transaction changed.
fn noted_keys(noted: &[u8], mut visit: impl FnMut(&[u8])) -> Result<()> {
    let mut reader = Reader(noted);
    while !reader.0.is_empty() {
        let length = reader.u16()?;
        visit(reader.take(usize::from(length))?);
    }
    Ok(())
}

fn feed_key(number: u32) -> Vec<u8> {
    keyed(FEED, &[&number.to_be_bytes()])
}

fn changes_prefix(number: u32) -> Vec<u8> {
    keyed(CHANGES, &[&number.to_be_bytes()])
}

fn changes_key(number: u32, transaction: u64) -> Vec<u8> {
    keyed(CHANGES, &[&number.to_be_bytes(), &transaction.to_be_bytes()])
}

/// What a transaction notes of the rows that it changes.
#[derive(Default)]
pub struct Noted {
    feeds: HashMap<u32, Option<Feed>>,
    keys: HashMap<u32, (u64, Vec<u8>)>,
    is_off: bool,
}

impl Noted {
    pub(crate) fn note(&mut self, txn: &Txn<'_>, number: u32, key: &[u8]) -> Result<()> {
        if self.is_off || self.feed(txn, number)?.is_none() {
            return Ok(());
        }
        let (count, keys) = self.keys.entry(number).or_default();
        *count += 1;
        note_key(keys, key);
        Ok(())
    }

    fn feed(&mut self, txn: &Txn<'_>, number: u32) -> Result<Option<Feed>> {
        if let Some(known) = self.feeds.get(&number) {
            return Ok(*known);
        }
        let found = txn.get(Table::Facts, &feed_key(number))?.map(Feed::decode).transpose()?;
        self.feeds.insert(number, found);
        Ok(found)
    }

    /// Nothing is noted of a namespace any more; what was goes with the upkeep.
    pub(crate) fn stop(&mut self, txn: &mut Write<'_>, number: u32) -> Result<()> {
        self.keys.remove(&number);
        self.feeds.insert(number, None);
        txn.delete(Table::Facts, &feed_key(number)).map(drop)
    }

    pub(crate) fn write(self, txn: &mut Write<'_>) -> Result<()> {
        let now = txn.id();
        for (number, (count, keys)) in self.keys {
            let Some(mut feed) = self.feeds.get(&number).copied().flatten() else { continue };
            feed.keys += count;
            if feed.keys > KEYS_NOTED_MAX {
                txn.delete(Table::Facts, &feed_key(number))?;
                continue;
            }
            txn.put(Table::Facts, &changes_key(number, now), &keys)?;
            txn.put(Table::Facts, &feed_key(number), &feed.encode())?;
        }
        Ok(())
    }
}

impl Change<'_> {
    /// Makes a change that leaves every row what it is.
    pub(crate) fn unnoted<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> T {
        self.noted.is_off = true;
        let made = make(self);
        self.noted.is_off = false;
        made
    }
}

/// A row as it is now.
pub struct ChangedRow {
    pub key: Key,
    /// All but vectors; None: the row does not exist, or is not held.
    pub head: Option<Vec<u8>>,
}

/// What changed.
pub struct Changes {
    /// Each key once.
    pub rows: Vec<ChangedRow>,
    /// The last transaction that is in it.
    pub sequence: u64,
    pub number: u32,
    /// When the oldest of the rows was read from the upstream; `u64::MAX` without rows.
    pub oldest_filled_ms: u64,
    /// What was held of the namespace at that moment.
    pub facts: Facts,
}

impl Engine {
    /// Begins to note the changes of a namespace, unless they are noted already. Changes that begin after the return are.
    ///
    /// # Errors
    /// Of the index.
    pub fn begin_feed(&self, namespace: &str) -> Result<()> {
        self.check()?;
        self.change(|change| {
            let facts = change.namespace(namespace)?;
            let at = feed_key(facts.number);
            if change.txn().get(Table::Facts, &at)?.is_none() {
                let feed = Feed { from: change.now(), keys: 0 };
                change.txn().put(Table::Facts, &at, &feed.encode())?;
            }
            Ok(())
        })
    }

    /// Notes nothing of a namespace any more.
    ///
    /// # Errors
    /// Of the index.
    pub fn end_feed(&self, namespace: &str) -> Result<()> {
        self.check()?;
        let Some(facts) = self.namespace(&self.read()?, namespace)? else { return Ok(()) };
        self.change(|change| change.txn().delete(Table::Facts, &feed_key(facts.number)).map(drop))
    }

    /// Whether every change of a namespace after a transaction is noted.
    ///
    /// # Errors
    /// Of the index.
    pub fn notes_since(&self, namespace: &str, since: u64) -> Result<bool> {
        self.check()?;
        let txn = self.read()?;
        let Some(held) = self.namespace(&txn, namespace)? else { return Ok(false) };
        let feed = txn.get(Table::Facts, &feed_key(held.number))?.map(Feed::decode).transpose()?;
        Ok(feed.is_some_and(|feed| feed.from <= since))
    }

    /// Drops what is noted up to a transaction: nobody asks for changes since an earlier one.
    ///
    /// # Errors
    /// Of the index.
    pub fn drop_changes(&self, namespace: &str, through: u64) -> Result<()> {
        self.check()?;
        let Some(facts) = self.namespace(&self.read()?, namespace)? else { return Ok(()) };
        let at = feed_key(facts.number);
        loop {
            let is_over = self.change(|change| {
                let Some(mut feed) = change.txn().get(Table::Facts, &at)?.map(Feed::decode).transpose()? else {
                    return Ok(true);
                };
                let (dropped, is_over) = drop_step(change, facts.number, through)?;
                feed.keys = feed.keys.saturating_sub(dropped);
                feed.from = feed.from.max(through);
                change.txn().put(Table::Facts, &at, &feed.encode())?;
                Ok(is_over)
            })?;
            if is_over {
                return Ok(());
            }
        }
    }

    /// Drops what was noted of namespaces of which nothing is noted any more.
    pub(crate) fn sweep_feeds(&self) -> Result<()> {
        for _ in 0..SWEEP_STEPS_MAX {
            let Some(number) = self.ended_feed()? else { return Ok(()) };
            self.change(|change| drop_step(change, number, u64::MAX).map(drop))?;
        }
        Ok(())
    }

    fn ended_feed(&self) -> Result<Option<u32>> {
        let txn = self.read()?;
        let mut next = Some(0_u32);
        while let Some(from) = next {
            let mut found = None;
            txn.walk(Table::Facts, &[CHANGES], &changes_prefix(from), |key, _| {
                found = key.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
                Ok(false)
            })?;
            let Some(number) = found else { return Ok(None) };
            if txn.get(Table::Facts, &feed_key(number))?.is_none() {
                return Ok(found);
            }
            next = number.checked_add(1);
        }
        Ok(None)
    }

    /// The rows of a namespace that changed after a transaction, as they are now; None when not all of that is noted, or
    /// when it is more than `keys_max` ids.
    ///
    /// A row whose write is open is what it was before.
    ///
    /// # Errors
    /// Of the index; [`CacheError::Corrupt`] when a row cannot be read; [`CacheError::Busy`] when rows are evicted
    /// faster than they are read.
    pub fn changes_since(&self, namespace: &str, since: u64, keys_max: usize) -> Result<Option<Changes>> {
        self.check()?;
        for _ in 0..ATTEMPTS {
            match self.collect_changes(namespace, since, keys_max) {
                // A file that is gone was evicted after the snapshot: the next one knows.
                Err(CacheError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
        Err(CacheError::Busy)
    }

    fn collect_changes(&self, namespace: &str, since: u64, keys_max: usize) -> Result<Option<Changes>> {
        let txn = self.read()?;
        let Some(held) = self.namespace(&txn, namespace)? else { return Ok(None) };
        let feed = txn.get(Table::Facts, &feed_key(held.number))?.map(Feed::decode).transpose()?;
        if feed.is_none_or(|feed| feed.from > since) {
            return Ok(None);
        }
        let mut keys: BTreeSet<Key> = BTreeSet::new();
        let start = changes_key(held.number, since + 1);
        txn.walk(Table::Facts, &changes_prefix(held.number), &start, |_, noted| {
            noted_keys(noted, |key| {
                keys.insert(key.into());
            })?;
            Ok(keys.len() <= keys_max)
        })?;
        if keys.len() > keys_max {
            return Ok(None);
        }
        let mut changes = Changes {
            rows: Vec::with_capacity(keys.len()),
            sequence: txn.id(),
            number: held.number,
            oldest_filled_ms: u64::MAX,
            facts: self.facts_of(&txn, namespace)?,
        };
        for key in keys {
            let (head, filled_ms) = self.head_of(&txn, held.number, held.epoch, &key)?;
            changes.oldest_filled_ms = changes.oldest_filled_ms.min(filled_ms);
            changes.rows.push(ChangedRow { key, head });
        }
        Ok(Some(changes))
    }

    fn head_of(&self, txn: &Read<'_>, number: u32, epoch: u32, key: &[u8]) -> Result<(Option<Vec<u8>>, u64)> {
        let found = txn.get(Table::Ids, &entry::id_key(number, key))?.map(Entry::decode).transpose()?;
        let Some(Entry::Known(known) | Entry::Guard { beneath: known, .. }) = found else {
            return Ok((None, u64::MAX));
        };
        let Known::Row(slot) = known else { return Ok((None, u64::MAX)) };
        if slot.epoch != epoch {
            return Ok((None, u64::MAX));
        }
        let mapping = self.writer.home.store.segments.mapping(slot.place.segment)?;
        let frame = Frame::read(mapping.bytes(slot.place.offset, length(slot.bytes()))?)?;
        if frame.key != key || frame.header.namespace != number {
            return Err(CacheError::Corrupt);
        }
        Ok((Some(frame.head.to_vec()), slot.filled_ms))
    }
}

/// Drops the oldest notes of a namespace; gives how many keys they had, and whether none is left up to `through`.
fn drop_step(change: &mut Change<'_>, number: u32, through: u64) -> Result<(u64, bool)> {
    let (mut going, mut keys, mut is_over) = (Vec::new(), 0, true);
    change.txn().walk(Table::Facts, &changes_prefix(number), &[], |at, noted| {
        let transaction = at.get(5..).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        if transaction.ok_or(CacheError::Broken)? > through {
            return Ok(false);
        }
        if going.len() == DROPPED_MAX {
            is_over = false;
            return Ok(false);
        }
        noted_keys(noted, |_| keys += 1)?;
        going.push(at.to_vec());
        Ok(true)
    })?;
    for at in going {
        change.txn().delete(Table::Facts, &at)?;
    }
    Ok((keys, is_over))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::Options;
    use crate::rows::Rows;
    use crate::writer::Call;

    struct Home(std::path::PathBuf);

    impl Drop for Home {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn opened(name: &str) -> (Engine, Home) {
        let directory = std::env::temp_dir().join(format!("hevlayer-feed-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let options = Options {
            directory: directory.clone(),
            identity: "https://upstream".to_owned(),
            capacity_bytes: 1 << 30,
            namespace_capacity_bytes: 0,
            ttl_ms: 1_000_000,
            unknown_write_ms: 1_000,
        };
        (Engine::open(&options, 0).expect("an engine"), Home(directory))
    }

    fn put(engine: &Engine, ids: std::ops::Range<u32>) {
        let rows: Vec<String> = ids.map(|id| format!(r#"{{"id":{id},"n":1}}"#)).collect();
        let rows = Rows::read(format!(r#"{{"rows":[{}]}}"#, rows.join(",")).as_bytes(), &[]).expect("rows");
        let ticket = engine.begin_fill("ns", 0).expect("a ticket");
        let fill = Call::FillPage { namespace: "ns".into(), rows: Arc::new(rows), ticket, now_ms: 0 };
        engine.call(fill).expect("a fill");
    }

    fn changed(engine: &Engine, since: u64) -> Option<usize> {
        engine.changes_since("ns", since, 1_000).expect("changes").map(|changes| changes.rows.len())
    }

    fn now(engine: &Engine) -> u64 {
        engine.read().expect("a snapshot").id()
    }

    fn noted(engine: &Engine) -> usize {
        let mut found = 0;
        let txn = engine.read().expect("a snapshot");
        txn.walk(Table::Facts, &[CHANGES], &[], |_, _| {
            found += 1;
            Ok(true)
        })
        .expect("a walk");
        found
    }

    #[test]
    fn what_changed_after_a_transaction_is_told_until_it_is_dropped() {
        let (engine, _home) = opened("told");
        put(&engine, 0..10);
        assert_eq!((changed(&engine, 0), noted(&engine)), (None, 0));
        engine.begin_feed("ns").expect("a feed");
        let start = now(&engine);
        assert_eq!(changed(&engine, start), Some(0));
        // A second beginning is none.
        put(&engine, 5..7);
        engine.begin_feed("ns").expect("a feed");
        let between = now(&engine);
        put(&engine, 6..9);
        assert_eq!((changed(&engine, start), changed(&engine, between)), (Some(4), Some(3)));
        assert!(engine.changes_since("ns", start, 3).expect("changes").is_none());
        engine.drop_changes("ns", between).expect("a drop");
        assert_eq!((changed(&engine, start), changed(&engine, between)), (None, Some(3)));
        assert!(!engine.notes_since("ns", start).expect("notes") && engine.notes_since("ns", between).expect("notes"));
        engine.end_feed("ns").expect("an end");
        assert_eq!((changed(&engine, between), noted(&engine)), (None, 1));
        engine.maintain(0).expect("an upkeep");
        assert_eq!(noted(&engine), 0);
    }

    #[test]
    fn too_many_notes_end_the_noting() {
        let (engine, _home) = opened("many");
        put(&engine, 0..3);
        engine.begin_feed("ns").expect("a feed");
        let start = now(&engine);
        put(&engine, 0..3);
        let number = engine.changes_since("ns", start, 10).expect("changes").expect("all of them").number;
        let full = Feed { from: start, keys: KEYS_NOTED_MAX - 1 };
        let set = |change: &mut Change<'_>| change.txn().put(Table::Facts, &feed_key(number), &full.encode());
        engine.change(set).expect("a change");
        put(&engine, 0..1);
        assert_eq!(changed(&engine, start), Some(3));
        put(&engine, 0..1);
        assert_eq!(changed(&engine, start), None);
        engine.begin_feed("ns").expect("a feed");
        // What the earlier feed noted is not taken for this one's.
        assert_eq!((changed(&engine, start), changed(&engine, now(&engine))), (None, Some(0)));
    }

    #[test]
    fn a_new_epoch_ends_the_noting() {
        let (engine, _home) = opened("epoch");
        put(&engine, 0..3);
        engine.begin_feed("ns").expect("a feed");
        let start = now(&engine);
        engine.call(Call::Clear { namespace: "ns".into() }).expect("a clear");
        assert_eq!(changed(&engine, start), None);
        put(&engine, 0..3);
        assert_eq!((changed(&engine, start), noted(&engine)), (None, 0));
    }
}
