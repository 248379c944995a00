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
    #[error("{}", words(.0))]
    Redis(RedisError),
    /// The id is in use.
    #[error("a session with this id exists already")]
    Taken,
    /// The key holds a value of another type than ours.
    #[error("the key {0:?} in Redis holds a value of another type")]
    WrongType(String),
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
            Self::Nonsense | Self::Taken | Self::WrongType(_) => StoreFailure::Other,
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
            Self::Down(_) | Self::Busy | Self::Taken | Self::WrongType(_) => false,
        }
    }
}

/// Whether the key holds a value of another type than the command is for.
pub(super) fn is_wrong_type(error: &RedisError) -> bool {
    // Before Redis 7 a script hands it on in its words.
    let words = error.detail().unwrap_or_default();
    error.code() == Some("WRONGTYPE") || words.contains("WRONGTYPE Operation")
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
            // Told for each request, it would flood the log.
            Failure::Busy => Self::Down("too many commands wait for Redis"),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// An error in words, without what it quotes: a server that does not know a command repeats the
/// arguments, and those of signing in are secret.
fn words(error: &RedisError) -> String {
    let text = error.to_string();
    let told = text.split(", with args").next().unwrap_or_default();
    told.chars().filter(|c| !c.is_control()).take(200).collect()
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

#[cfg(test)]
mod tests {
    use redis::make_extension_error;

    use super::*;

    #[test]
    fn errors_quote_no_arguments() {
        let detail = "unknown command `AUTH`, with args beginning with: `gate`, `s3cret`, ";
        let error = make_extension_error("ERR".to_owned(), Some(detail.to_owned()));
        let told = Failure::from(error).to_string();
        assert!(told.contains("unknown command") && !told.contains("s3cret"), "{told}");
    }

    #[test]
    fn a_wrong_type_is_one_whoever_tells() {
        let error = |code: &str, detail: &str| {
            make_extension_error(code.to_owned(), Some(detail.to_owned()))
        };
        let words = "Operation against a key holding the wrong kind of value";
        assert!(is_wrong_type(&error("WRONGTYPE", words)));
        let by_script = format!("Error running script: @user_script:1: WRONGTYPE {words}");
        assert!(is_wrong_type(&error("ERR", &by_script)));
        assert!(!is_wrong_type(&error("ERR", "something else")));
    }

    #[test]
    fn kinds_are_told_apart() {
        for (code, detail, kind) in [
            (
                "OOM",
                "command not allowed when used memory > 'maxmemory'.",
                StoreFailure::OutOfMemory,
            ),
            ("ERR", "OOM command not allowed script: 12", StoreFailure::OutOfMemory),
            ("MISCONF", "Redis is configured to save", StoreFailure::NotPersisted),
            ("NOREPLICAS", "Not enough good replicas to write.", StoreFailure::NotPersisted),
            ("WRONGPASS", "invalid username-password pair", StoreFailure::Denied),
            (
                "ERR",
                "-READONLY You can't write against a read only replica.",
                StoreFailure::ReadOnly,
            ),
            ("ERR", "something else", StoreFailure::Other),
        ] {
            let error = make_extension_error(code.to_owned(), Some(detail.to_owned()));
            assert_eq!(Failure::from(error).kind(), kind, "{code} {detail}");
        }
    }
}
