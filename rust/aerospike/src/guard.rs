//! Whether the cluster may have lost what it acknowledged.
//!
//! A Community server keeps the last second of writes in memory. One that dies forgets them, and then finds older
//! records on its disk: rows whose marks are gone. Each time that a cluster forms, also of one node, it draws a new
//! key. An epoch remembers the key that it began under and ends with it.
//!
//! A hit therefore needs to be sure of the key. It is asked for in the background, and an answer is believed for
//! [`BELIEVED`]: a server that died takes longer than that to serve again.
//!
//! Whoever first meets a new key writes it into the record that is of every namespace, with the end of a quiet time:
//! marks may be gone whose writes can still take effect, so until then nothing is filled and no look-up gives a ticket.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use crate::error::Failure;
use crate::store::Store;

/// For how long the answer is believed.
pub const BELIEVED: Duration = Duration::from_millis(500);
/// Asked for again in the background at this age.
pub const REFRESH: Duration = Duration::from_millis(200);
/// A restarted node leaves broken connections in the pool; each try uses up one.
const TRIES_MAX: usize = 4;
const COMMAND: &str = "cluster-stable:ignore-migrations=true";

/// What the cluster said of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// Another text each time that something acknowledged may have been lost, or that everything is to be forgotten.
    pub text: String,
    /// What the server itself calls it.
    pub cluster: String,
    /// Whether some process owes something for every namespace, so that nothing may be served or filled.
    pub owed: bool,
    /// Whether the quiet time of this key was begun.
    pub is_noted: bool,
    pub quiet_until_ms: u64,
}

struct Known {
    key: Key,
    /// Before the question was sent: the key was right at some time after this.
    asked: Instant,
}

#[derive(Default)]
pub struct Guard {
    known: Mutex<Option<Known>>,
    asking: AsyncMutex<()>,
}

impl Guard {
    /// The cluster's key, known to have been right less than `BELIEVED` ago.
    pub async fn key(&self, store: &Store) -> Result<Key, Failure> {
        self.key_since(store, Instant::now().checked_sub(BELIEVED)).await
    }

    /// The cluster's key, asked for after `since` (None: ever).
    pub async fn key_since(&self, store: &Store, since: Option<Instant>) -> Result<Key, Failure> {
        if let Some(key) = self.known_since(since) {
            return Ok(key);
        }
        let _one = self.asking.lock().await;
        if let Some(key) = self.known_since(since) {
            return Ok(key);
        }
        let mut outcome = Err(Failure::Unstable);
        for _ in 0..TRIES_MAX {
            let asked = Instant::now();
            outcome = ask(store).await;
            match &outcome {
                Ok(key) => {
                    *self.known.lock() = Some(Known { key: key.clone(), asked });
                    return outcome;
                }
                Err(Failure::Unreachable(_)) => {}
                Err(_) => break,
            }
        }
        outcome
    }

    /// Asks again before the answer is too old, so that no look-up has to wait.
    pub async fn refresh(&self, store: &Store) -> Result<Key, Failure> {
        self.key_since(store, Instant::now().checked_sub(REFRESH)).await
    }

    /// Forgets the answer, so that the next call asks.
    pub fn forget(&self) {
        *self.known.lock() = None;
    }

    fn known_since(&self, since: Option<Instant>) -> Option<Key> {
        let known = self.known.lock();
        known.as_ref().filter(|known| since.is_none_or(|since| known.asked > since)).map(|known| known.key.clone())
    }
}

async fn ask(store: &Store) -> Result<Key, Failure> {
    let mut answers = store.info(COMMAND).await?;
    let first = answers.pop().unwrap_or_default();
    let is_key = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_key || answers.iter().any(|other| *other != first) {
        return Err(Failure::Unstable);
    }
    let everything = store.everything().await?;
    let owed = !everything.entries.is_empty();
    let is_noted = everything.cluster == first;
    let text = format!("{first}.{}", everything.salt);
    Ok(Key { text, cluster: first, owed, is_noted, quiet_until_ms: everything.quiet_until_ms })
}
