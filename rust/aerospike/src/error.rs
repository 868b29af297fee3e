//! What can go wrong, as facts. All of it is soft for a caller of the gateway.

use std::fmt;

use aerospike::{Error, ResultCode};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// A setting breaks a rule of the server: which, and how.
    Setting { name: &'static str, rule: String },
    /// No node answers, or the connection broke.
    Unreachable(String),
    /// The operation ran over its time budget.
    Timeout,
    /// Error 8: the server takes no writes (stop-writes, device or memory full). Reads still work.
    StopWrites,
    /// Error 18 and its like: the server is asked to do too much at once.
    Overload,
    /// The client leaves a node alone after too many errors (-14).
    Backoff,
    /// Error 22: the server forbids the write (too many sets, a TTL without nsup-period, …).
    Forbidden,
    /// The cluster is changing its members, so that it cannot be told what it may have lost.
    Unstable,
    /// Others changed the same record each time that this operation tried to.
    Contended,
    /// More calls wait than may.
    Crowded,
    /// The batch's answer did not have this record.
    Unanswered,
    /// Another refusal, by its name.
    Server(String),
    /// A scan was told to stop.
    Stopped,
    /// Some process could not tell the cache of a write of this namespace, or of every one.
    Owed,
    /// A scan needs more memory than all scans may have together.
    ScanTooLarge { bytes_max: u64 },
    /// The engine was closed.
    Closed,
    /// The client failed in a way that it should not.
    Panic,
}

impl Failure {
    /// A short name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Setting { .. } => "setting",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::StopWrites => "aerospike_stop_writes",
            Self::Overload => "overload",
            Self::Backoff => "backoff",
            Self::Forbidden => "forbidden",
            Self::Unstable => "unstable",
            Self::Contended => "contended",
            Self::Crowded => "crowded",
            Self::Unanswered => "unanswered",
            Self::Server(_) => "server",
            Self::Stopped => "stopped",
            Self::Owed => "owed",
            Self::ScanTooLarge { .. } => "scan_too_large",
            Self::Closed => "closed",
            Self::Panic => "panic",
        }
    }

    pub fn from_code(code: ResultCode) -> Self {
        match code {
            ResultCode::ServerMemError => Self::StopWrites,
            ResultCode::DeviceOverload
            | ResultCode::KeyBusy
            | ResultCode::BatchMaxRequestsExceeded
            | ResultCode::BatchQueuesFull => Self::Overload,
            ResultCode::Timeout => Self::Timeout,
            ResultCode::FailForbidden | ResultCode::AlwaysForbidden => Self::Forbidden,
            ResultCode::PartitionUnavailable => Self::Unreachable("a partition has no node".to_owned()),
            other => Self::Server(format!("{other:?}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::ServerError(code, ..) | Error::BatchError(_, code, ..) | Error::BatchLastError(_, code, ..) => {
                Self::from_code(code)
            }
            Error::Timeout(_) => Self::Timeout,
            Error::MaxErrorRate(_) => Self::Backoff,
            Error::NoMoreConnections => Self::Overload,
            Error::Async(_) => Self::Panic,
            // The outer error says how the retries ended, the inner one why.
            Error::Chain(outer, inner) => match Self::from(*inner) {
                Self::Unreachable(_) | Self::Server(_) if matches!(*outer, Error::Timeout(_)) => Self::Timeout,
                cause => cause,
            },
            Error::Connection(text) | Error::InvalidNode(text) => Self::Unreachable(text),
            Error::Io(error) => Self::Unreachable(error.to_string()),
            other => Self::Server(other.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { name, rule } => write!(formatter, "{name} {rule}"),
            Self::Unreachable(cause) => write!(formatter, "Aerospike cannot be reached: {cause}"),
            Self::Timeout => formatter.write_str("Aerospike did not answer within the time budget"),
            Self::StopWrites => formatter.write_str("Aerospike takes no writes: it is full"),
            Self::Overload => formatter.write_str("Aerospike is overloaded"),
            Self::Backoff => formatter.write_str("Aerospike is left alone after too many errors"),
            Self::Forbidden => formatter.write_str("Aerospike forbids the write"),
            Self::Unstable => formatter.write_str("the Aerospike cluster is changing"),
            Self::Contended => formatter.write_str("other writers kept changing the record"),
            Self::Crowded => formatter.write_str("the document cache has too many calls waiting"),
            Self::Unanswered => formatter.write_str("Aerospike left a record of a batch without an answer"),
            Self::Server(cause) => write!(formatter, "Aerospike refused: {cause}"),
            Self::Stopped => formatter.write_str("the scan was stopped"),
            Self::Owed => formatter.write_str("the document cache has not heard of every write of the namespace yet"),
            Self::ScanTooLarge { bytes_max } => {
                write!(formatter, "scans of the document cache may hold {bytes_max} bytes, and this one needs more")
            }
            Self::Closed => formatter.write_str("the document cache is closed"),
            Self::Panic => formatter.write_str("the Aerospike client failed"),
        }
    }
}

impl std::error::Error for Failure {}
