//! What the session core needs from outside: a store, a directory, login methods.
//!
//! Traits and plain data only; `store`, `directory` and `login` implement them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::Counters;
use super::name::canonical;
use super::principal::{Key, Partner, Principal};
use super::record::Record;
use super::token::{SecretHash, SessionId};
use crate::clock::UnixMs;
use crate::metrics::StoreMetrics;
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
    /// The store is down, and has said so in the log: nothing was tried.
    #[error("the session store is down: {0}")]
    Down(&'static str),
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

/// Until when what was read from the store may be trusted without asking again.
///
/// The store renews it for as long as it can prove that every invalidation arrives; an embedded
/// store's lease never ends. Each connection to a store has a lease of its own: what was read by a
/// connection that is gone is never trusted again.
#[derive(Clone, Debug)]
pub struct Lease(pub(super) Arc<Proof>);

/// The state of a lease.
#[derive(Debug)]
pub(super) struct Proof {
    /// Cached sessions are trusted before this time.
    trusted: AtomicU64,
    /// Open streams go on before this time.
    proven: AtomicU64,
}

impl Lease {
    /// A lease that never ends.
    pub fn endless() -> Self {
        Self::until(UnixMs::NEVER)
    }

    /// A lease that has ended until it is renewed.
    pub fn ended() -> Self {
        Self::until(UnixMs(0))
    }

    /// A lease that ends at `until` unless it is renewed.
    pub(super) fn until(until: UnixMs) -> Self {
        Self(Arc::new(Proof { trusted: AtomicU64::new(until.0), proven: AtomicU64::new(until.0) }))
    }

    /// Renews the lease until `until`.
    pub fn renew(&self, until: UnixMs) {
        self.0.proven.store(until.0, Ordering::Release);
        self.0.trusted.store(until.0, Ordering::Release);
    }

    /// The store must be asked from now on: for good, unless it is renewed. Streams that are open go on
    /// for as long as was proven, so that there is time to ask.
    pub fn lapse(&self) {
        self.0.trusted.store(0, Ordering::Release);
    }

    /// Whether cached sessions may be trusted at `now`.
    pub fn holds(&self, now: UnixMs) -> bool {
        now.0 < self.0.trusted.load(Ordering::Acquire)
    }

    /// Whether a stream may go on at `now`.
    pub fn covers(&self, now: UnixMs) -> bool {
        self.0.covers(now)
    }
}

impl Proof {
    pub(super) fn covers(&self, now: UnixMs) -> bool {
        now.0 < self.proven.load(Ordering::Acquire)
    }
}

/// A record as it was read, and for how long it may be trusted.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The record.
    pub record: Record,
    /// The lease of the connection by which it was read.
    pub lease: Lease,
}

impl Deref for Leased {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

/// What a shared store tells of changes that others make. Called on the store's thread, in the order in
/// which the store learns of them: must be quick and must not block.
pub trait Watcher: Send + Sync + fmt::Debug {
    /// This session was changed, or has ended.
    fn changed(&self, id: SessionId);

    /// Any session may have changed or ended.
    fn flushed(&self);

    /// A lease has lapsed, and the store can be asked again.
    fn reconnected(&self);
}

/// A server of a shared store.
#[derive(Clone, Debug)]
pub struct StoreLink {
    /// Where it is.
    pub server: String,
    /// Whether it answers: the breaker is closed.
    pub ready: bool,
    /// How long ago it has last proven that it tells of every change, in ms; `None` when it never has.
    pub lease_age: Option<u64>,
}

/// Keeps session records. Every change to a session is one atomic operation.
///
/// A change is answered when it is durable or refused for certain, however long that takes: whoever
/// asks limits their own waiting. Of a change whose future is dropped nobody knows.
pub trait Store: Send + Sync + fmt::Debug {
    /// Adds a session; durable when the future is done.
    fn create(&self, record: Record) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The record of a session, also when it has expired but is not yet swept; `None` when there is none.
    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Leased>, StoreError>>;

    /// Writes `record` if the stored generation is still `record.generation - 1`.
    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Replaced, StoreError>>;

    /// Ends a session; the ended record when it was there. Durable when the future is done.
    fn end(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>>;

    /// Writes the record of a session that has ended, which must be kept until it expires, over whatever
    /// is there, in any generation; what was there. Otherwise as [`Store::end`].
    fn bury(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, StoreError>>;

    /// Moves `seen` forward; unknown sessions are skipped.
    fn touch(&self, seen: Vec<(SessionId, UnixMs)>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The live sessions of a user that are listed (see [`Record::is_listed`]), newest first.
    fn of_user<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Vec<Record>, StoreError>>;

    /// The live sessions of everybody that are listed, at most `limit`: for operators.
    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// The stable ids of those who have sessions, each once: to compare them with the directory.
    fn users(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;

    /// The counters of failed logins.
    fn counters(&self) -> Arc<dyn Counters>;

    /// Whether the store answers now: for readiness.
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether other processes change the same sessions.
    fn is_shared(&self) -> bool {
        false
    }

    /// The servers of a shared store: for metrics.
    fn links(&self) -> Vec<StoreLink> {
        Vec::new()
    }

    /// What a shared store counts.
    fn metrics(&self) -> Option<Arc<StoreMetrics>> {
        None
    }

    /// Tells `watcher` of changes that others make, from now on. Nobody else changes the sessions of a
    /// store that is not shared.
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        drop(watcher);
    }
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
    /// What other APIs call this person: dialect (`nuvla`, `versal`, `kaltura`) to id.
    pub aliases: BTreeMap<String, String>,
    /// Whether the account may not be used.
    pub disabled: bool,
    /// Password hash as a PHC string.
    pub password: Option<Secret>,
}

impl Account {
    /// What partners call this person unless they say otherwise: the alias `kaltura`, or the login name.
    pub fn puser(&self) -> &str {
        self.aliases.get("kaltura").unwrap_or(&self.identifier)
    }
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

    /// Changes whenever something that sessions are made with (a key, a partner) is changed or gone.
    fn makers(&self) -> u64 {
        0
    }

    /// Takes up what the directory was changed to. Blocks: never call it on a worker.
    ///
    /// # Errors
    /// A sentence for the log.
    fn refresh(&self) -> Result<(), String> {
        Ok(())
    }

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

    /// The account that a dialect knows under `alias`.
    fn by_alias(&self, dialect: &str, alias: &str) -> Option<Arc<Account>> {
        let _ = (dialect, alias);
        None
    }

    /// Whether a name is somebody's in any way, also one that names no single person, as people compare names: a stable
    /// id, a login name, an e-mail address, an alias.
    fn is_taken(&self, name: &str) -> bool {
        self.by_id(name).is_some() || self.by_login(name).is_some()
    }

    /// Whether a partner calls one of its members so, as people compare names.
    fn is_members(&self, partner: &Partner, name: &str) -> bool {
        let name = canonical(name);
        partner.members.iter().any(|(user, member)| {
            self.by_id(user).is_some_and(|account| canonical(member.puser(&account)) == name)
        })
    }

    /// The partner with this id.
    fn partner(&self, id: &str) -> Option<Arc<Partner>> {
        let _ = id;
        None
    }

    /// The partners that list a user as a member, sorted by id.
    fn partners_of(&self, user: &str) -> Vec<Arc<Partner>> {
        let _ = user;
        Vec::new()
    }

    /// The key with this id.
    fn key(&self, id: &str) -> Option<Arc<Key>> {
        let _ = id;
        None
    }

    /// The key whose secret has this SHA-256.
    fn key_by_hash(&self, hash: &SecretHash) -> Option<Arc<Key>> {
        let _ = hash;
        None
    }

    /// The keys of a principal, oldest first.
    fn keys_of(&self, owner: &Principal) -> Vec<Arc<Key>> {
        let _ = owner;
        Vec::new()
    }

    /// Writes down a new key; durable when it returns. Blocks: never call it on a worker.
    ///
    /// # Errors
    /// A sentence for the log.
    fn add_key(&self, key: &Key) -> Result<(), String> {
        let _ = key;
        Err("this directory keeps no keys".to_owned())
    }

    /// Removes a key for good; whether there was one. Blocks: never call it on a worker.
    ///
    /// # Errors
    /// A sentence for the log.
    fn remove_key(&self, id: &str) -> Result<bool, String> {
        let _ = id;
        Err("this directory keeps no keys".to_owned())
    }

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
    /// Id and secret of an API key.
    ApiKey {
        /// Id, without a prefix.
        id: String,
        /// Secret as typed.
        secret: Secret,
    },
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
            Self::ApiKey { id, .. } => id,
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

/// Whom credentials prove.
#[derive(Clone, Debug)]
pub enum Proven {
    /// A person.
    Account(Arc<Account>),
    /// Whoever a key belongs to.
    Key(Arc<Key>),
}

/// Checks credentials; says who somebody is, never opens a session.
pub trait Method: Send + Sync + fmt::Debug {
    /// Name in records and configuration, such as `password`.
    fn name(&self) -> &'static str;

    /// Whom the credentials prove.
    fn verify<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> BoxFuture<'a, Result<Proven, LoginError>>;
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

    #[test]
    fn streams_outlast_a_lapse_for_as_long_as_was_proven() {
        let lease = Lease::ended();
        lease.renew(UnixMs(1_000));
        lease.lapse();
        assert!(!lease.holds(UnixMs(10)));
        assert!(lease.covers(UnixMs(999)) && !lease.covers(UnixMs(1_000)));
    }
}
