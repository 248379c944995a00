//! What the session core needs from outside: a store, a directory, login methods.
//!
//! Traits and plain data only; `store`, `directory` and `login` implement them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::Counters;
use super::record::Record;
use super::token::SessionId;
use crate::clock::UnixMs;
use crate::secret::Secret;

/// A boxed future: one allocation per store or login call, never on the hot path.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the store did not do what was asked. None of these means "no such session".
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store's bound on sessions is reached.
    #[error("the session store is full ({limit} sessions)")]
    Full {
        /// The bound, in sessions.
        limit: u64,
    },
    /// The store cannot be reached or cannot write.
    #[error("the session store is unavailable: {0}")]
    Unavailable(String),
}

/// What a compare-and-set did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The record is written.
    Done,
    /// Somebody else changed the session first: read it again.
    Conflict,
    /// The session is over.
    Gone,
}

/// Until when cached sessions may be trusted without asking the store.
///
/// The store renews it for as long as it can prove that every invalidation arrives; an embedded
/// store's lease never ends.
#[derive(Clone, Debug)]
pub struct Lease(Arc<AtomicU64>);

impl Lease {
    /// A lease that never ends.
    pub fn endless() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// A lease that has ended until it is renewed.
    pub fn ended() -> Self {
        Self(Arc::new(AtomicU64::new(0)))
    }

    /// Renews the lease until `until`.
    pub fn renew(&self, until: UnixMs) {
        self.0.store(until.0, Ordering::Release);
    }

    /// Whether cached sessions may be trusted at `now`.
    pub fn holds(&self, now: UnixMs) -> bool {
        now.0 < self.0.load(Ordering::Acquire)
    }
}

/// Keeps session records. Every change to a session is one atomic operation.
///
/// A change is answered when it is durable or refused for certain, however long that takes: whoever
/// asks limits their own waiting. Of a change whose future is dropped nobody knows.
pub trait Store: Send + Sync + fmt::Debug {
    /// Adds a session; durable when the future is done.
    fn create(&self, record: Record) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The record of a session, also when it has expired but is not yet swept; `None` when there is none.
    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>>;

    /// Writes `record` if the stored generation is still `record.generation - 1`.
    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Replaced, StoreError>>;

    /// Ends a session; the ended record when it was there. Durable when the future is done.
    fn end(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>>;

    /// Moves `seen` forward; unknown sessions are skipped.
    fn touch(&self, seen: Vec<(SessionId, UnixMs)>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The live sessions of a user, newest first.
    fn of_user<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Vec<Record>, StoreError>>;

    /// The live sessions of everybody, at most `limit`: for operators.
    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// The stable ids of those who have sessions, each once: to compare them with the directory.
    fn users(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;

    /// The lease of cached sessions.
    fn lease(&self) -> Lease;

    /// The counters of failed logins.
    fn counters(&self) -> Arc<dyn Counters>;

    /// Whether the store answers now: for readiness.
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A person as the directory knows them.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Stable id, never reused.
    pub id: String,
    /// Login name.
    pub identifier: String,
    /// Name for people, may be empty.
    pub name: String,
    /// E-mail address, may be empty.
    pub email: String,
    /// Names of the groups that list this person, sorted, without duplicates.
    pub groups: Vec<String>,
    /// Whether the account may not be used.
    pub disabled: bool,
    /// Password hash as a PHC string.
    pub password: Option<Secret>,
}

/// A group as the directory knows it.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Name, without the `group/` prefix.
    pub name: String,
    /// Name for people, may be empty.
    pub description: String,
    /// Names of the groups that this one is a sub-group of.
    pub parents: Vec<String>,
}

/// Knows people and groups. Answers from memory.
pub trait Directory: Send + Sync + fmt::Debug {
    /// Changes with every change of the content: cached sessions are derived anew then.
    fn epoch(&self) -> u64;

    /// The account that `identifier` (login name, or e-mail where unique) names.
    fn by_login(&self, identifier: &str) -> Option<Arc<Account>>;

    /// The account with this stable id.
    fn by_id(&self, id: &str) -> Option<Arc<Account>>;

    /// The group with this name.
    fn group(&self, name: &str) -> Option<Arc<Group>>;

    /// Names of all groups below `name`, over any number of levels, sorted.
    fn below(&self, name: &str) -> Vec<String>;

    /// The accounts that a group lists.
    fn members(&self, group: &str) -> Vec<Arc<Account>>;

    /// Replaces a user's stored password hash, if it still is `old`. Best effort: a directory that
    /// cannot write answers an error, which is logged.
    ///
    /// # Errors
    /// A sentence for the log.
    fn rehash(&self, id: &str, old: &Secret, new: &Secret) -> Result<(), String>;
}

/// What somebody shows to log in.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Login name and password.
    Password {
        /// Login name as typed.
        identifier: String,
        /// Password as typed.
        password: Secret,
    },
}

impl Credentials {
    /// The name that the caller typed: for throttling and audit.
    pub fn identifier(&self) -> &str {
        match self {
            Self::Password { identifier, .. } => identifier,
        }
    }
}

/// Why a login method did not accept the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Too many logins are being checked: try again soon.
    #[error("too many logins at once")]
    Busy,
    /// Wrong, unknown or disabled; deliberately one answer.
    #[error("the credentials are not valid")]
    Invalid,
    /// The method does not handle this kind of credentials.
    #[error("this kind of login is not enabled")]
    Unsupported,
}

/// Checks credentials; says who somebody is, never opens a session.
pub trait Method: Send + Sync + fmt::Debug {
    /// Name in records and configuration, such as `password`.
    fn name(&self) -> &'static str;

    /// The account that the credentials prove.
    fn verify<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> BoxFuture<'a, Result<Arc<Account>, LoginError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_until_its_end_only() {
        let lease = Lease::ended();
        assert!(!lease.holds(UnixMs(0)));
        lease.renew(UnixMs(1_000));
        assert!(lease.holds(UnixMs(999)));
        assert!(!lease.holds(UnixMs(1_000)));
        assert!(Lease::endless().holds(UnixMs(u64::MAX - 1)));
    }
}
