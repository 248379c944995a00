//! A session core without files or passwords, for targets that need somebody who is signed in.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis::audit::Audit;
use portcullis::clock::{Clock, UnixMs};
use portcullis::secret::Secret;
use portcullis::session::{
    Account, Authority, BoxFuture, Caller, Command, CounterTable, Counters, Credentials, Directory,
    Group, Lease, Leased, Live, LoginError, Method, Outcome, Proven, Record, Replaced, SessionId,
    Settings, Store, StoreError,
};

/// What `alice` logs in with.
pub(crate) const PASSWORD: &str = "correct-horse-canary";

pub(crate) fn clock() -> Clock {
    Clock::manual(UnixMs(1_700_000_000_000))
}

/// An authority over one account and a store in memory.
pub(crate) fn authority(clock: &Clock) -> Arc<Authority> {
    let settings = Settings {
        lifetime: Duration::from_secs(3600),
        idle: Duration::from_secs(600),
        per_user: 3,
        cached: 100,
        unknown: 300,
    };
    let audit = Arc::new(Audit::silent(clock.clone()));
    let (store, people) = (Arc::new(Shelf::default()), Arc::new(People));
    let methods: Vec<Box<dyn Method>> = vec![Box::new(Always)];
    Arc::new(Authority::new(settings, store, people, methods, audit, clock.clone()))
}

/// A session of `alice`.
pub(crate) async fn sign_in(authority: &Arc<Authority>) -> Arc<Live> {
    let password = Secret::new(PASSWORD.to_owned());
    let credentials = Credentials::Password { identifier: "alice".to_owned(), password };
    match authority.execute(Command::login(credentials), &Caller::default()).await {
        Ok(Outcome::Opened(live, _)) => live,
        other => panic!("alice cannot sign in: {other:?}"),
    }
}

/// Runs `future` on this thread.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

#[derive(Debug)]
struct People;

impl Directory for People {
    fn epoch(&self) -> u64 {
        0
    }

    fn by_login(&self, identifier: &str) -> Option<Arc<Account>> {
        (identifier == "alice").then(|| self.by_id("u1")).flatten()
    }

    fn by_id(&self, id: &str) -> Option<Arc<Account>> {
        let (identifier, name) = ("alice".to_owned(), "<b>Alice \u{e9}".to_owned());
        let groups = vec!["staff".to_owned()];
        let account = Account { id: id.to_owned(), identifier, name, groups, ..Account::default() };
        (id == "u1").then(|| Arc::new(account))
    }

    fn group(&self, name: &str) -> Option<Arc<Group>> {
        let group = Group { name: name.to_owned(), ..Group::default() };
        (name == "staff").then(|| Arc::new(group))
    }

    fn below(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn members(&self, group: &str) -> Vec<Arc<Account>> {
        if group == "staff" { self.by_id("u1").into_iter().collect() } else { Vec::new() }
    }

    fn rehash(&self, _: &str, _: &Secret, _: &Secret) -> Result<(), String> {
        Err("this directory cannot write".to_owned())
    }
}

/// Believes one password, without the cost of a hash.
#[derive(Debug)]
struct Always;

impl Method for Always {
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
        let good = password.expose() == PASSWORD;
        let account = People.by_login(identifier).filter(|_| good);
        Box::pin(std::future::ready(account.map(Proven::Account).ok_or(LoginError::Invalid)))
    }
}

#[derive(Debug, Default)]
struct Shelf(Mutex<BTreeMap<SessionId, Record>>);

impl Shelf {
    fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut BTreeMap<SessionId, Record>) -> T,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        Box::pin(std::future::ready(Ok(act(&mut self.0.lock().unwrap()))))
    }
}

impl Store for Shelf {
    fn create(&self, record: Record) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|all| drop(all.insert(record.id, record)))
    }

    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Leased>, StoreError>> {
        self.with(|all| {
            let record = all.get(&id).cloned()?;
            Some(Leased { record, lease: Lease::endless() })
        })
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Replaced, StoreError>> {
        self.with(|all| match all.get(&record.id) {
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
        self.with(|all| all.remove(&id))
    }

    fn bury(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        self.with(|all| all.insert(record.id, record))
    }

    fn touch(&self, _: Vec<(SessionId, UnixMs)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|_| ())
    }

    fn of_user<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        let user = user.to_owned();
        self.with(move |all| all.values().filter(|record| record.user == user).cloned().collect())
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.with(move |all| all.values().take(limit).cloned().collect())
    }

    fn users(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.with(|all| {
            let mut users: Vec<_> = all.values().map(|record| record.user.clone()).collect();
            users.sort_unstable();
            users.dedup();
            users
        })
    }

    fn counters(&self) -> Arc<dyn Counters> {
        Arc::new(CounterTable::new(Clock::manual(UnixMs(0))))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|_| ())
    }
}
