//! The client: one connection to the cluster, batches in and checked answers out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aerospike::expressions::{eq, int_bin, int_val, Expression};
use aerospike::operations::Operation;
use aerospike::{
    AdminPolicy, AuthMode, BatchOperation, BatchPolicy, BatchReadPolicy, BatchWritePolicy, Bins, Client, ClientPolicy,
    Concurrency, Expiration, GenerationPolicy, Key, ReadTouchTTL, Record, RecordExistsAction, ResultCode,
};
use parking_lot::Mutex;

use crate::error::Failure;
use crate::layout::{everything_bins, read_everything, Everything, Place};

/// Records in one batch call; larger work is cut up.
pub const BATCH_KEYS_MAX: usize = 500;
/// Bytes of rows in one batch call.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// A read that meets a broken connection may try this often again; it ends with its time budget all the same.
const READ_RETRIES_MAX: usize = 2;
/// Sockets to one node.
const CONNECTIONS_PER_NODE_MAX: usize = 128;
/// How often the client looks for nodes that came and went.
const TEND: Duration = Duration::from_millis(500);
/// A client that has not answered for this long is made anew.
const RENEW_AFTER: Duration = Duration::from_secs(10);
/// What the server needs to find out that a call has no time left at all.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// Where the cluster is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port`, comma-separated; the port is 3000 unless given.
    pub hosts: String,
    pub namespace: String,
    pub set_prefix: String,
    /// Whose rows these are; another scope's namespaces are others, whatever their names.
    pub scope: String,
    pub user: String,
    pub password: String,
    pub connect: Duration,
}

/// One record's write in a batch.
pub struct Write {
    pub key: Key,
    pub operations: Vec<Operation>,
    pub expect: Expect,
    /// Also taken for granted, because a generation begins anew with a record that was lost.
    pub same: Option<Same>,
    pub expiration: Expiration,
    /// The row's, for the size of a call.
    pub bytes: usize,
}

/// What a write takes for granted; it changes nothing when that is not so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    Absent,
    /// Nothing: whatever is there is added to, or made.
    Any,
    /// The record is there with this generation; its bins are updated.
    Generation(u32),
    /// Likewise; its bins are replaced.
    Replaces(u32),
}

/// A bin that still holds a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Same {
    pub bin: &'static str,
    pub number: u64,
}

impl Same {
    pub fn expression(self) -> Expression {
        eq(int_bin(self.bin.to_owned()), int_val(i64::try_from(self.number).unwrap_or(i64::MAX)))
    }
}

/// How one record of a batch ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    Done,
    /// The record is not as it was expected to be.
    Changed,
    /// Larger than the server takes.
    TooLarge,
    Failed(Failure),
}

struct Connected {
    client: Arc<Client>,
    answered: Instant,
}

pub struct Store {
    settings: Settings,
    connected: Mutex<Option<Connected>>,
}

impl Store {
    pub fn new(settings: Settings) -> Self {
        Self { settings, connected: Mutex::new(None) }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn client(&self) -> Result<Arc<Client>, Failure> {
        let connected = self.connected.lock();
        let missing = || Failure::Unreachable("not connected".to_owned());
        connected.as_ref().map(|connected| connected.client.clone()).ok_or_else(missing)
    }

    /// Makes a client where there is none, or one that has been silent for so long that it may be stuck, or `anew`, to be
    /// rid of a pool of broken connections. Not within a call's budget: it takes as long as the settings allow.
    pub async fn connect(&self, anew: bool) -> Result<(), Failure> {
        if !anew && self.silent().is_some_and(|silent| silent < RENEW_AFTER) {
            return Ok(());
        }
        let auth_mode = if self.settings.user.is_empty() {
            AuthMode::None
        } else {
            AuthMode::Internal(self.settings.user.clone(), self.settings.password.clone())
        };
        let policy = ClientPolicy {
            auth_mode,
            timeout: millis(self.settings.connect),
            max_conns_per_node: CONNECTIONS_PER_NODE_MAX,
            tend_interval: millis(TEND),
            // Who calls has a breaker, which opens on a rate and tries again with one call; the client's would refuse reads
            // because writes ran out of time.
            max_error_rate: 0,
            ..ClientPolicy::default()
        };
        let client = Arc::new(Client::new(&policy, &self.settings.hosts).await?);
        let before = self.connected.lock().replace(Connected { client, answered: Instant::now() });
        if let Some(before) = before {
            before.client.close().await?;
        }
        Ok(())
    }

    /// For how long nothing has been answered; None: never connected.
    pub fn silent(&self) -> Option<Duration> {
        self.connected.lock().as_ref().map(|connected| connected.answered.elapsed())
    }

    /// Notes that the cluster has answered.
    fn answered(&self) {
        if let Some(connected) = self.connected.lock().as_mut() {
            connected.answered = Instant::now();
        }
    }

    pub fn is_connected(&self) -> bool {
        self.connected.lock().as_ref().is_some_and(|it| it.client.is_connected())
    }

    pub async fn close(&self) -> Result<(), Failure> {
        let connected = self.connected.lock().take();
        match connected {
            Some(connected) => Ok(connected.client.close().await?),
            None => Ok(()),
        }
    }

    /// Records in the order of the keys, None where there is none. One missing answer fails the call.
    /// A write `beside` them is carried out in the same call, perhaps more than once, and fails it if it fails.
    pub async fn read(
        &self,
        wanted: Vec<(Key, Bins)>,
        beside: Option<Write>,
        deadline: Instant,
    ) -> Result<Vec<Option<Record>>, Failure> {
        if wanted.is_empty() && beside.is_none() {
            return Ok(Vec::new());
        }
        let reads = wanted.len();
        // A server that prolongs what is read would write at each look-up, and the row's own time runs out all the same.
        let policy = BatchReadPolicy { read_touch_ttl: ReadTouchTTL::DontReset, ..BatchReadPolicy::default() };
        let mut operations: Vec<_> =
            wanted.into_iter().map(|(key, bins)| BatchOperation::read(&policy, key, bins)).collect();
        operations.extend(beside.map(write_operation));
        let client = self.client()?;
        let mut answers = client.batch(&batch_policy(deadline, READ_RETRIES_MAX)?, &operations).await?;
        if answers.len() != operations.len() {
            return Err(Failure::Unanswered);
        }
        self.answered();
        for answer in answers.drain(reads..) {
            match answer.result_code {
                Some(ResultCode::Ok) => {}
                Some(code) => return Err(Failure::from_code(code)),
                None => return Err(Failure::Unanswered),
            }
        }
        answers
            .into_iter()
            .map(|answer| match answer.result_code {
                Some(ResultCode::Ok) => answer.record.map(Some).ok_or(Failure::Unanswered),
                Some(ResultCode::KeyNotFoundError) => Ok(None),
                Some(code) => Err(Failure::from_code(code)),
                None => Err(Failure::Unanswered),
            })
            .collect()
    }

    /// How each write ended, in order. A write whose answer was lost counts as failed: whoever needs to know reads.
    pub async fn write(&self, wanted: Vec<Write>, deadline: Instant) -> Result<Vec<Written>, Failure> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let count = wanted.len();
        let operations: Vec<_> = wanted.into_iter().map(write_operation).collect();
        let client = self.client()?;
        // Never sent twice by the client: a compare-and-set that was carried out would then be told as refused.
        let answers = client.batch(&batch_policy(deadline, 0)?, &operations).await?;
        if answers.len() != count {
            return Err(Failure::Unanswered);
        }
        self.answered();
        Ok(answers
            .into_iter()
            .map(|answer| match answer.result_code {
                Some(ResultCode::Ok) => Written::Done,
                Some(
                    ResultCode::GenerationError
                    | ResultCode::KeyExistsError
                    | ResultCode::KeyNotFoundError
                    | ResultCode::FilteredOut,
                ) => Written::Changed,
                Some(ResultCode::RecordTooBig) => Written::TooLarge,
                Some(code) => Written::Failed(Failure::from_code(code)),
                None => Written::Failed(Failure::Unanswered),
            })
            .collect())
    }

    pub fn place(&self, namespace: &str) -> Place {
        let Settings { namespace: outer, set_prefix, scope, .. } = &self.settings;
        Place::new(outer, set_prefix, scope, namespace)
    }

    /// The key of the record that is of every namespace.
    pub fn everything_key(&self) -> Result<Key, Failure> {
        Place::everything(&self.settings.namespace, &self.settings.set_prefix, &self.settings.scope)
    }

    /// The record that is of every namespace.
    pub async fn everything(&self) -> Result<Everything, Failure> {
        let deadline = Instant::now() + self.settings.connect;
        let found = self.read(vec![(self.everything_key()?, everything_bins())], None, deadline).await?;
        Ok(read_everything(found.into_iter().next().flatten().as_ref()))
    }

    /// Nodes of the cluster that are there.
    pub fn nodes(&self) -> usize {
        let client = self.connected.lock().as_ref().map(|connected| connected.client.clone());
        client.map_or(0, |client| client.nodes().iter().filter(|node| node.is_active()).count())
    }

    /// One info command's answer from every node.
    pub async fn info(&self, command: &str) -> Result<Vec<String>, Failure> {
        let client = self.client()?;
        let policy = AdminPolicy { timeout: millis(self.settings.connect) };
        let nodes = client.nodes();
        if nodes.is_empty() {
            return Err(Failure::Unreachable("no node is known".to_owned()));
        }
        let mut answers = Vec::with_capacity(nodes.len());
        for node in nodes {
            let answer = node.info(&policy, &[command]).await?;
            answers.push(answer.get(command).cloned().ok_or(Failure::Unanswered)?);
        }
        self.answered();
        Ok(answers)
    }
}

fn write_operation(write: Write) -> BatchOperation {
    let mut policy = BatchWritePolicy { expiration: write.expiration, ..BatchWritePolicy::default() };
    let (action, generation) = match write.expect {
        Expect::Absent => (RecordExistsAction::CreateOnly, None),
        Expect::Any => (RecordExistsAction::Update, None),
        Expect::Generation(generation) => (RecordExistsAction::UpdateOnly, Some(generation)),
        Expect::Replaces(generation) => (RecordExistsAction::ReplaceOnly, Some(generation)),
    };
    policy.record_exists_action = action;
    policy.filter_expression = write.same.map(Same::expression);
    if let Some(generation) = generation {
        policy.generation_policy = GenerationPolicy::ExpectGenEqual;
        policy.generation = generation;
    }
    BatchOperation::write(&policy, write.key, write.operations)
}

fn batch_policy(deadline: Instant, retries: usize) -> Result<BatchPolicy, Failure> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left < TIMEOUT_MIN {
        return Err(Failure::Timeout);
    }
    let mut policy = BatchPolicy {
        concurrency: Concurrency::Sequential,
        // Only the master of a partition has every acknowledged write.
        replica: aerospike::policy::Replica::Master,
        ..BatchPolicy::default()
    };
    policy.base_policy.total_timeout = millis(left);
    policy.base_policy.socket_timeout = millis(left);
    policy.base_policy.max_retries = retries;
    Ok(policy)
}

pub fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}
