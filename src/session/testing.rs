//! Doubles for unit tests of the core and of dialects: a directory of one, a store that can be made to
//! fail, a login method, and an authority over them.

mod shelf;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::authority::{Authority, Settings};
use super::counters::Counters;
use super::ports::{
    Account, BoxFuture, Credentials, Directory, Group, Lease, Leased, LoginError, Method, Proven,
    Replaced, Store, StoreError, Watcher,
};
use super::principal::{Key, Partner, Principal};
use super::record::Record;
use super::table::CounterTable;
use super::token::{SecretHash, SessionId};
use crate::audit::Audit;
use crate::clock::{Clock, UnixMs};
use crate::secret::Secret;

pub(crate) use self::shelf::Shelf;
/// A record that lives for an hour, and the token that opens it.
pub(crate) use super::record::tests::sample;

/// `u1` is in `staff`; `ops` is below `staff`, `night` below `ops`, and `staff` below `night`: a loop.
#[derive(Debug)]
pub(crate) struct People {
    account: Mutex<Account>,
    partners: Mutex<BTreeMap<String, Arc<Partner>>>,
    keys: Mutex<Vec<Arc<Key>>>,
    epoch: AtomicU64,
}

impl People {
    pub(crate) fn new() -> Self {
        let account = Account {
            id: "u1".to_owned(),
            identifier: "alice".to_owned(),
            groups: vec!["staff".to_owned()],
            ..Account::default()
        };
        Self {
            account: Mutex::new(account),
            partners: Mutex::default(),
            keys: Mutex::default(),
            epoch: AtomicU64::new(0),
        }
    }

    pub(crate) fn change(&self, with: impl FnOnce(&mut Account)) {
        with(&mut self.account.lock().unwrap());
    }

    /// Changes the partner with this id, which is made if need be: the directory is another one then.
    pub(crate) fn partner(&self, id: &str, with: impl FnOnce(&mut Partner)) {
        let mut all = self.partners.lock().unwrap();
        let new = || Arc::new(Partner { id: id.to_owned(), ..Partner::default() });
        with(Arc::make_mut(all.entry(id.to_owned()).or_insert_with(new)));
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Adds a key.
    pub(crate) fn put_key(&self, key: Key) {
        self.keys.lock().unwrap().push(Arc::new(key));
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Removes all keys.
    pub(crate) fn revoke_keys(&self) {
        self.keys.lock().unwrap().clear();
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

impl Directory for People {
    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    fn by_login(&self, identifier: &str) -> Option<Arc<Account>> {
        (identifier == "alice").then(|| self.by_id("u1")).flatten()
    }

    fn by_id(&self, id: &str) -> Option<Arc<Account>> {
        (id == "u1").then(|| Arc::new(self.account.lock().unwrap().clone()))
    }

    fn by_alias(&self, dialect: &str, alias: &str) -> Option<Arc<Account>> {
        let account = self.by_id("u1")?;
        account.aliases.get(dialect).is_some_and(|known| known == alias).then_some(account)
    }

    fn group(&self, name: &str) -> Option<Arc<Group>> {
        let parent = match name {
            "staff" => "night",
            "ops" => "staff",
            "night" => "ops",
            "board" => return Some(Arc::new(Group { name: name.into(), ..Group::default() })),
            _ => return None,
        };
        let parents = vec![parent.to_owned()];
        Some(Arc::new(Group { name: name.to_owned(), parents, ..Group::default() }))
    }

    fn below(&self, name: &str) -> Vec<String> {
        let below: &[&str] = match name {
            "staff" => &["night", "ops"],
            "ops" => &["night", "staff"],
            "night" => &["ops", "staff"],
            _ => &[],
        };
        below.iter().map(ToString::to_string).collect()
    }

    fn members(&self, _group: &str) -> Vec<Arc<Account>> {
        self.by_id("u1").into_iter().collect()
    }

    fn partner(&self, id: &str) -> Option<Arc<Partner>> {
        self.partners.lock().unwrap().get(id).cloned()
    }

    fn partners_of(&self, user: &str) -> Vec<Arc<Partner>> {
        let all = self.partners.lock().unwrap();
        all.values().filter(|partner| partner.members.contains_key(user)).cloned().collect()
    }

    fn key(&self, id: &str) -> Option<Arc<Key>> {
        self.keys.lock().unwrap().iter().find(|key| key.id == id).cloned()
    }

    fn key_by_hash(&self, hash: &SecretHash) -> Option<Arc<Key>> {
        self.keys.lock().unwrap().iter().find(|key| key.hash.matches(hash)).cloned()
    }

    fn keys_of(&self, owner: &Principal) -> Vec<Arc<Key>> {
        self.keys.lock().unwrap().iter().filter(|key| key.owner == *owner).cloned().collect()
    }

    fn add_key(&self, key: &Key) -> Result<(), String> {
        self.put_key(key.clone());
        Ok(())
    }

    fn remove_key(&self, id: &str) -> Result<bool, String> {
        let mut keys = self.keys.lock().unwrap();
        let before = keys.len();
        keys.retain(|key| key.id != id);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        Ok(keys.len() < before)
    }

    fn rehash(&self, _id: &str, _old: &Secret, _new: &Secret) -> Result<(), String> {
        Ok(())
    }
}

/// Accepts whoever gives their login name as the password, unless it is busy.
#[derive(Debug)]
pub(crate) struct SameWord {
    people: Arc<People>,
    busy: Arc<AtomicBool>,
}

impl Method for SameWord {
    fn name(&self) -> &'static str {
        "password"
    }

    fn verify<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> BoxFuture<'a, Result<Proven, LoginError>> {
        let Credentials::Password { identifier, password } = credentials else {
            return Box::pin(std::future::ready(Err(LoginError::Unsupported)));
        };
        let found = if self.busy.load(Ordering::SeqCst) {
            Err(LoginError::Busy)
        } else if password.expose() == identifier {
            self.people.by_login(identifier).map(Proven::Account).ok_or(LoginError::Invalid)
        } else {
            Err(LoginError::Invalid)
        };
        Box::pin(std::future::ready(found))
    }
}

/// What was written to a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// The values of `key` in the lines with this event.
    pub(crate) fn of(&self, event: &str, key: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines =
            text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines
            .filter(|line| line["event"] == event)
            .map(|line| line[key].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An authority over the doubles, and the doubles. Sessions last an hour, ten minutes when idle.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) authority: Arc<Authority>,
    pub(crate) store: Arc<Shelf>,
    pub(crate) people: Arc<People>,
    pub(crate) busy: Arc<AtomicBool>,
    pub(crate) clock: Clock,
    pub(crate) audit: Lines,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::allowing(10)
    }

    /// A world in which a user may have this many sessions.
    pub(crate) fn allowing(per_user: usize) -> Self {
        let clock = Clock::manual(UnixMs(1_800_000_000_000));
        let store = Arc::new(Shelf::new(&clock));
        Self::over(store, clock, per_user)
    }

    /// A world that other nodes share: see [`World::beside`].
    pub(crate) fn shared() -> Self {
        let clock = Clock::manual(UnixMs(1_800_000_000_000));
        let store = Arc::new(Shelf::shared(&clock));
        Self::over(store, clock, 10)
    }

    /// Another node over the same store and directory.
    pub(crate) fn beside(&self) -> Arc<Authority> {
        let authority = Authority::new(
            settings(),
            Arc::clone(&self.store) as Arc<dyn Store>,
            Arc::clone(&self.people) as Arc<dyn Directory>,
            Vec::new(),
            Arc::new(Audit::new(self.clock.clone(), Box::new(self.audit.clone()))),
            self.clock.clone(),
        );
        Arc::new(authority)
    }

    fn over(store: Arc<Shelf>, clock: Clock, per_user: usize) -> Self {
        let people = Arc::new(People::new());
        let (busy, audit) = (Arc::new(AtomicBool::new(false)), Lines::default());
        let method = SameWord { people: Arc::clone(&people), busy: Arc::clone(&busy) };
        let settings = Settings { per_user, ..settings() };
        let authority = Authority::new(
            settings,
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::clone(&people) as Arc<dyn Directory>,
            vec![Box::new(method)],
            Arc::new(Audit::new(clock.clone(), Box::new(audit.clone()))),
            clock.clone(),
        );
        Self { authority: Arc::new(authority), store, people, busy, clock, audit }
    }
}

/// An authority over a real store, and its audit log.
pub(crate) fn authority_over(store: Arc<dyn Store>, clock: &Clock) -> (Arc<Authority>, Lines) {
    authority_with(store, Arc::new(People::new()), clock)
}

/// The same with this directory.
pub(crate) fn authority_with(
    store: Arc<dyn Store>,
    people: Arc<People>,
    clock: &Clock,
) -> (Arc<Authority>, Lines) {
    let audit = Lines::default();
    let method = SameWord { people: Arc::clone(&people), busy: Arc::default() };
    let authority = Authority::new(
        settings(),
        store,
        people,
        vec![Box::new(method)],
        Arc::new(Audit::new(clock.clone(), Box::new(audit.clone()))),
        clock.clone(),
    );
    (Arc::new(authority), audit)
}

fn settings() -> Settings {
    Settings {
        lifetime: Duration::from_secs(3600),
        idle: Duration::from_secs(600),
        per_user: 10,
        cached: 1000,
        unknown: 300,
    }
}
