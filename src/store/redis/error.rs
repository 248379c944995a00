//! What can go wrong with Redis, and which of it says that nothing was done.

use redis::{ErrorKind, RedisError, ServerErrorKind};

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

/// Kinds of failures, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Down,
    Busy,
    Timeout,
    Connection,
    Unconfirmed,
    ReadOnly,
    OutOfMemory,
    NotPersisted,
    Loading,
    Cluster,
    Denied,
    Other,
}

impl Trouble {
    pub(super) const ALL: [Self; 12] = [
        Self::Down,
        Self::Busy,
        Self::Timeout,
        Self::Connection,
        Self::Unconfirmed,
        Self::ReadOnly,
        Self::OutOfMemory,
        Self::NotPersisted,
        Self::Loading,
        Self::Cluster,
        Self::Denied,
        Self::Other,
    ];

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Unconfirmed => "unconfirmed",
            Self::ReadOnly => "read-only",
            Self::OutOfMemory => "out-of-memory",
            Self::NotPersisted => "not-persisted",
            Self::Loading => "loading",
            Self::Cluster => "cluster",
            Self::Denied => "denied",
            Self::Other => "other",
        }
    }

    pub(super) fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Down(_) => Self::Down,
            Failure::Busy => Self::Busy,
            Failure::Late => Self::Timeout,
            Failure::Unconfirmed => Self::Unconfirmed,
            Failure::Nonsense | Failure::Taken => Self::Other,
            Failure::Redis(error) => Self::of_redis(error),
        }
    }

    fn of_redis(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Io => Self::Connection,
            ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => {
                Self::Denied
            }
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Self::ReadOnly,
            ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => {
                Self::Loading
            }
            ErrorKind::Server(
                ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::CrossSlot,
            ) => Self::Cluster,
            _ => Self::of_code(error),
        }
    }

    fn of_code(error: &RedisError) -> Self {
        // A script hands on the error of a command under a code of its own, or in its words.
        let words = error.detail().unwrap_or_default();
        match error.code() {
            Some("OOM") => Self::OutOfMemory,
            Some("MISCONF" | "NOREPLICAS") => Self::NotPersisted,
            Some("NOAUTH" | "WRONGPASS") => Self::Denied,
            _ if words.contains("READONLY") || words.contains("read only replica") => {
                Self::ReadOnly
            }
            _ if words.contains("OOM ") || words.contains("maxmemory") => Self::OutOfMemory,
            _ => Self::Other,
        }
    }
}

impl Failure {
    /// Whether the server is a replica.
    pub(super) fn is_read_only(&self) -> bool {
        Trouble::of(self) == Trouble::ReadOnly
    }

    /// Whether the user may not do this.
    pub(super) fn is_denied(&self) -> bool {
        Trouble::of(self) == Trouble::Denied
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
