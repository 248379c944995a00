//! Doubles for unit tests of the core and of dialects: a directory of one, a store that can be made to
//! fail, a login method, and an authority over them.

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

/// Sessions in a map. While it is down, every operation fails; while it is held, changes wait, and
/// are made afterwards whether or not somebody still waits for them, like those of a slow disk.
pub(crate) struct Shelf {
    records: Mutex<BTreeMap<SessionId, Record>>,
    down: AtomicBool,
    held: AtomicBool,
    waiting: Mutex<Vec<Waiting>>,
    /// Of each node, when it is shared by several.
    watchers: Mutex<Vec<Arc<dyn Watcher>>>,
    shared: bool,
    counters: Arc<CounterTable>,
}

type Waiting = Box<dyn FnOnce(&Shelf) + Send>;

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf")
    }
}

impl Shelf {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self {
            records: Mutex::default(),
            down: AtomicBool::new(false),
            held: AtomicBool::new(false),
            waiting: Mutex::default(),
            watchers: Mutex::default(),
            shared: false,
            counters: Arc::new(CounterTable::new(clock.clone())),
        }
    }

    /// A store of several nodes: each is told of every change.
    pub(crate) fn shared(clock: &Clock) -> Self {
        Self { shared: true, ..Self::new(clock) }
    }

    fn tell(&self, id: SessionId) {
        self.watchers.lock().unwrap().iter().for_each(|watcher| watcher.changed(id));
    }

    /// Loses everything.
    pub(crate) fn forget(&self) {
        self.records.lock().unwrap().clear();
    }

    /// Tells every node that anything may have changed.
    pub(crate) fn flush(&self) {
        self.watchers.lock().unwrap().iter().for_each(|watcher| watcher.flushed());
    }

    pub(crate) fn fail(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Holds changes up.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// Makes the changes that wait, and the next ones at once.
    pub(crate) fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.step();
    }

    /// Makes the changes that wait; the next ones wait again.
    pub(crate) fn step(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
        waiting.into_iter().for_each(|change| change(self));
    }

    /// Number of changes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().unwrap().len()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.lock().unwrap().len()
    }

    fn now<T>(
        &self,
        act: impl FnOnce(&mut BTreeMap<SessionId, Record>) -> T,
    ) -> Result<T, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            Err(StoreError::Unavailable("switched off by the test".to_owned()))
        } else {
            Ok(act(&mut self.records.lock().unwrap()))
        }
    }

    fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut BTreeMap<SessionId, Record>) -> T,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        Box::pin(std::future::ready(self.now(act)))
    }

    fn change<T: Send + 'static>(
        &self,
        id: SessionId,
        act: impl FnOnce(&mut BTreeMap<SessionId, Record>) -> T + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        if !self.held.load(Ordering::SeqCst) {
            let done = self.now(act);
            self.tell(id);
            return Box::pin(std::future::ready(done));
        }
        let (ack, answer) = oneshot::channel();
        let change = move |shelf: &Self| {
            let done = shelf.now(act);
            shelf.tell(id);
            drop(ack.send(done));
        };
        self.waiting.lock().unwrap().push(Box::new(change));
        Box::pin(async move { answer.await.unwrap() })
    }
}

impl Store for Shelf {
    fn create(&self, record: Record) -> BoxFuture<'_, Result<(), StoreError>> {
        let created = self.change(record.id, |all| match all.entry(record.id) {
            Entry::Occupied(_) => Err(StoreError::Unavailable("the id is in use".to_owned())),
            Entry::Vacant(none) => {
                none.insert(record);
                Ok(())
            }
        });
        Box::pin(async move { created.await? })
    }

    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Leased>, StoreError>> {
        self.with(|all| {
            let record = all.get(&id).cloned()?;
            Some(Leased { record, lease: Lease::endless() })
        })
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Replaced, StoreError>> {
        self.change(record.id, |all| match all.get(&record.id) {
            None => Replaced::Gone,
            Some(old) if old.generation.checked_add(1) != Some(record.generation) => {
                Replaced::Conflict
            }
            Some(_) => {
                all.insert(record.id, record);
                Replaced::Done
            }
        })
    }

    fn end(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        self.change(id, move |all| all.remove(&id))
    }

    fn bury(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        self.change(record.id, move |all| all.insert(record.id, record))
    }

    fn touch(&self, seen: Vec<(SessionId, UnixMs)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|all| {
            for (id, at) in seen {
                if let Some(record) = all.get_mut(&id) {
                    record.seen = record.seen.max(at);
                }
            }
        })
    }

    fn of_user<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        let user = user.to_owned();
        self.with(move |all| {
            let mut own: Vec<_> =
                all.values().filter(|r| r.user == user && r.is_listed()).cloned().collect();
            own.sort_by_key(|record| std::cmp::Reverse(record.created));
            own
        })
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.with(|all| all.values().filter(|r| r.is_listed()).take(limit).cloned().collect())
    }

    fn users(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.with(|all| {
            let listed = all.values().filter(|record| record.is_listed());
            let users: BTreeSet<_> = listed.map(|record| record.user.clone()).collect();
            users.into_iter().collect()
        })
    }

    fn counters(&self) -> Arc<dyn Counters> {
        Arc::<CounterTable>::clone(&self.counters)
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|_| ())
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn watch(&self, watcher: Arc<dyn Watcher>) {
        if self.shared {
            self.watchers.lock().unwrap().push(watcher);
        }
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
    }
}
