//! What can go wrong with Redis, and which of it says that nothing was done.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::metrics::StoreFailure;
use crate::session::StoreError;

/// Why a command was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Known before anything was sent.
    #[error("{0}")]
    Down(&'static str),
    /// Nothing was sent: too much is under way.
    #[error("too many commands wait for Redis")]
    Busy,
    /// Whether it was carried out is not known.
    #[error("Redis has not answered in time")]
    Late,
    /// Carried out by the master, but too few replicas have it.
    #[error("it is not known to be on a replica yet")]
    Unconfirmed,
    /// What Redis or the connection said.
    #[error("{0}")]
    Redis(RedisError),
    /// The id is in use.
    #[error("a session with this id exists already")]
    Taken,
    /// An answer that makes no sense.
    #[error("Redis has answered what was not asked")]
    Nonsense,
}

impl Failure {
    /// The kind, for the metrics.
    pub(super) fn kind(&self) -> StoreFailure {
        match self {
            Self::Down(_) => StoreFailure::Down,
            Self::Busy => StoreFailure::Busy,
            Self::Late => StoreFailure::Timeout,
            Self::Unconfirmed => StoreFailure::Unconfirmed,
            Self::Nonsense | Self::Taken => StoreFailure::Other,
            Self::Redis(error) => kind(error),
        }
    }

    /// Whether the server is a replica.
    pub(super) fn is_read_only(&self) -> bool {
        self.kind() == StoreFailure::ReadOnly
    }

    /// Whether the user may not do this.
    pub(super) fn is_denied(&self) -> bool {
        self.kind() == StoreFailure::Denied
    }

    /// Whether the command may have been carried out all the same.
    pub(super) fn is_uncertain(&self) -> bool {
        match self {
            Self::Late | Self::Unconfirmed | Self::Nonsense => true,
            Self::Redis(error) => error.is_io_error() || error.is_unrecoverable_error(),
            Self::Down(_) | Self::Busy | Self::Taken => false,
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Down(why) => Self::Down(why),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

fn kind(error: &RedisError) -> StoreFailure {
    match error.kind() {
        ErrorKind::Io => StoreFailure::Connection,
        ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => {
            StoreFailure::Denied
        }
        ErrorKind::Server(ServerErrorKind::ReadOnly) => StoreFailure::ReadOnly,
        ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => {
            StoreFailure::Loading
        }
        ErrorKind::Server(
            ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::CrossSlot,
        ) => StoreFailure::Cluster,
        _ => kind_by_code(error),
    }
}

fn kind_by_code(error: &RedisError) -> StoreFailure {
    // A script hands on the error of a command under a code of its own, or in its words.
    let words = error.detail().unwrap_or_default();
    match error.code() {
        Some("OOM") => StoreFailure::OutOfMemory,
        Some("MISCONF" | "NOREPLICAS") => StoreFailure::NotPersisted,
        Some("NOAUTH" | "WRONGPASS") => StoreFailure::Denied,
        _ if words.contains("READONLY") || words.contains("read only replica") => {
            StoreFailure::ReadOnly
        }
        _ if words.contains("OOM ") || words.contains("maxmemory") => StoreFailure::OutOfMemory,
        _ => StoreFailure::Other,
    }
}
