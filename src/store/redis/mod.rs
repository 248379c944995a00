//! The Redis store: many nodes over one Redis or Valkey, standalone, with Sentinel, or a Cluster.
//!
//! One key per session, every change one atomic operation on it. Connections live on one thread of their
//! own (see `link`); workers hand commands over to it and wait for the answer on their own runtime.

mod backoff;
mod checkup;
mod cluster;
mod connect;
mod error;
mod find;
mod keys;
mod link;
mod recent;
mod route;
mod script;
mod settings;
mod stats;
#[cfg(test)]
mod tests;
mod throttle;
mod value;

use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};

use redis::{Pipeline, Value, from_redis_value};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::error::Failure;
use self::link::{Common, Lane};
use self::recent::Recent;
use self::route::Router;
use self::settings::Settings;
use super::{Open, OpenError};
use crate::clock::{Clock, UnixMs};
use crate::section::Section;
use crate::session::{
    BoxFuture, Counters, Leased, Record, Replaced, SessionId, Store, StoreError, Watcher,
};

/// Sessions that are read, and uses that are written, in one go.
const BATCH: usize = 128;
/// Sessions of one user that are looked at.
const PER_USER: isize = 10_000;
/// Sessions or users that are listed at most.
const LISTED: usize = 1_000_000;
/// An index entry is older than this before it is taken for one whose session is gone: a session that
/// is being created is in the index first.
const SETTLED: u64 = 60_000;

/// Reads the settings of the `[store]` table.
pub(super) fn read(section: &mut Section) -> Arc<dyn Open> {
    Arc::new(Settings::read(section))
}

impl Open for Settings {
    fn open(&self, clock: Clock) -> Result<Arc<dyn Store>, OpenError> {
        let store = Redis::start(self, clock)?;
        Ok(Arc::new(store))
    }
}

/// The store. Dropping it ends its thread.
#[derive(Debug)]
struct Redis {
    inner: Arc<Inner>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What operations need.
#[derive(Debug)]
struct Inner {
    common: Arc<Common>,
    router: Router,
    recent: Recent,
    started: Instant,
}

impl Redis {
    /// Starts the thread, which connects; does not wait for that.
    fn start(settings: &Settings, clock: Clock) -> Result<Self, OpenError> {
        let dialer = settings.dialer().map_err(|problem| OpenError::Failed {
            what: format!("{}: {}", problem.file.display(), problem.what),
            remedy: problem.remedy,
        })?;
        let sentinels = settings.sentinels(&dialer);
        let common = Arc::new(Common {
            dialer,
            keys: keys::Keys::new(&settings.prefix),
            clock,
            timeout: settings.timeout,
            stale: settings.stale,
            watcher: OnceLock::new(),
            stats: stats::Stats::default(),
            astray: Notify::new(),
            back: Notify::new(),
        });
        let router = Router::new(&common, settings, sentinels);
        let inner =
            Arc::new(Inner { common, router, recent: Recent::default(), started: Instant::now() });
        let (stop, stopped) = oneshot::channel();
        let (work, failed) = (Arc::clone(&inner), |error: std::io::Error| OpenError::Failed {
            what: format!("the thread of the session store cannot start: {error}"),
            remedy: "raise the limit of threads".to_owned(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let thread = Builder::new().name("session-store".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = work.run() => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { inner, stop: Some(stop), thread: Some(thread.map_err(failed)?) })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the session store has panicked");
        }
    }
}

impl Inner {
    /// Keeps the links, and repeats ends that a failover or a restart may have undone.
    async fn run(self: Arc<Self>) {
        let repeat = async {
            loop {
                self.common.back.notified().await;
                self.end_again().await;
            }
        };
        tokio::join!(self.router.run(), repeat);
    }

    /// Operations have little time, but at the start they wait for the first connections.
    fn deadline(&self) -> Instant {
        (Instant::now() + self.common.timeout).max(self.started + link::START)
    }

    /// The outcome of an operation, noted.
    fn note<T>(&self, outcome: Result<T, Failure>) -> Result<T, StoreError> {
        outcome.map_err(|failure| {
            self.common.stats.failed(&failure);
            failure.into()
        })
    }

    async fn create(&self, record: &Record) -> Result<(), Failure> {
        let (keys, deadline) = (&self.common.keys, self.deadline());
        let (id, ours) = (record.id.to_string(), self.common.clock.now());
        // First in the index: a session that nobody can list could not be ended with the others.
        let index = keys.user(&record.user);
        let add = |up: &link::Up| script::index(&index, &id, record, up.theirs(ours), ours);
        self.router.ask(&index, Lane::Write, deadline, add).await?;
        let key = keys.session(record.id);
        let set = |up: &link::Up| {
            let value = value::write(record, up.ahead).unwrap_or_default();
            script::create(&key, &value, record, ours)
        };
        match self.router.ask(&key, Lane::Write, deadline, set).await {
            Ok((Value::Okay, _)) => Ok(()),
            Ok(_) => Err(Failure::Taken),
            Err(failure) => {
                // Nobody will hold its token: when it is there after all, it goes.
                if failure.is_uncertain() {
                    self.recent.add(record.id);
                }
                Err(failure)
            }
        }
    }

    async fn load(&self, id: SessionId) -> Result<Option<Leased>, Failure> {
        if self.recent.contains(id) {
            return Ok(None);
        }
        let key = self.common.keys.session(id);
        let get = |_: &link::Up| script::get(&key);
        let (found, up) = self.router.ask(&key, Lane::Read, self.deadline(), get).await?;
        Ok(self.record(id, found, &up).map(|record| Leased { record, lease: up.lease.clone() }))
    }

    /// The record in an answer. What is not readable is no session.
    fn record(&self, id: SessionId, found: Value, up: &link::Up) -> Option<Record> {
        let value: Option<Vec<u8>> = from_redis_value(found).ok()?;
        match value::read(id, &value?, up.ahead) {
            Ok(record) => Some(record),
            Err(error) => {
                self.common.stats.unreadable();
                tracing::error!(session = %id, %error, "a session cannot be read and counts as none");
                None
            }
        }
    }

    async fn replace(&self, record: &Record) -> Result<Replaced, Failure> {
        if self.recent.contains(record.id) {
            return Ok(Replaced::Gone);
        }
        let (key, now) = (self.common.keys.session(record.id), self.common.clock.now());
        let replace = |up: &link::Up| {
            let value = value::write(record, up.ahead).unwrap_or_default();
            script::replace(&key, &value, record, up.ahead, up.theirs(now))
        };
        let answer = self.router.change(&key, false, self.deadline(), replace).await?.0;
        match from_redis_value(answer) {
            Ok(0) => Ok(Replaced::Gone),
            Ok(1) => Ok(Replaced::Done),
            Ok(2) => Ok(Replaced::Conflict),
            _ => Err(Failure::Nonsense),
        }
    }

    async fn end(&self, id: SessionId) -> Result<Option<Record>, Failure> {
        let key = self.common.keys.session(id);
        let end = |_: &link::Up| script::end(&key);
        let outcome = self.router.change(&key, true, self.deadline(), end).await;
        let ended = |(found, _): &(Value, _)| *found != Value::Nil;
        if outcome.as_ref().map_or_else(Failure::is_uncertain, ended) {
            self.recent.add(id);
        }
        let (found, up) = outcome?;
        let Some(record) = self.record(id, found, &up) else { return Ok(None) };
        self.prune(&record.user, vec![id.to_string()]).await;
        Ok(Some(record))
    }

    /// Takes entries out of a user's index; what stays for a fault is taken out at the next read.
    async fn prune(&self, user: &str, members: Vec<String>) {
        let index = self.common.keys.user(user);
        let remove = |_: &link::Up| {
            let mut command = redis::cmd("ZREM");
            command.arg(&index).arg(&members);
            command
        };
        if let Err(failure) = self.router.ask(&index, Lane::Write, self.deadline(), remove).await {
            tracing::debug!(%failure, "a user's index keeps entries of ended sessions for now");
        }
    }

    async fn end_again(&self) {
        for id in self.recent.all() {
            if let Err(failure) = self.end(id).await {
                tracing::debug!(%failure, "sessions that have ended are not looked after yet");
                return;
            }
        }
    }

    async fn touch(&self, seen: &[(SessionId, UnixMs)]) -> Result<(), Failure> {
        let now = self.common.clock.now();
        for some in seen.chunks(BATCH) {
            let keys: Vec<_> = some.iter().map(|(id, _)| self.common.keys.session(*id)).collect();
            let touch = |up: &link::Up, index: usize| {
                let (key, at) = (keys.get(index)?, some.get(index)?.1);
                Some(script::touch(key, up.theirs(at), up.theirs(now)))
            };
            self.router.ask_each(&keys, Lane::Read, self.deadline(), touch).await?;
        }
        Ok(())
    }

    async fn load_all(&self, ids: &[SessionId]) -> Result<Vec<Option<Record>>, Failure> {
        let mut records = Vec::with_capacity(ids.len());
        for some in ids.chunks(BATCH) {
            let keys: Vec<_> = some.iter().map(|id| self.common.keys.session(*id)).collect();
            let get = |_: &link::Up, index: usize| keys.get(index).map(|key| script::get(key));
            let found = self.router.ask_each(&keys, Lane::Read, self.deadline(), get).await?;
            for (id, (value, up)) in some.iter().zip(found) {
                let record = self.record(*id, value, &up);
                records.push(record.filter(|_| !self.recent.contains(*id)));
            }
        }
        Ok(records)
    }

    async fn of_user(&self, user: &str) -> Result<Vec<Record>, Failure> {
        let index = self.common.keys.user(user);
        let range = |_: &link::Up| {
            let mut command = redis::cmd("ZREVRANGE");
            command.arg(&index).arg(0).arg(PER_USER - 1).arg("WITHSCORES");
            command
        };
        let (found, up) = self.router.ask(&index, Lane::Read, self.deadline(), range).await?;
        let entries: Vec<(String, f64)> = from_redis_value(found).map_err(|_| Failure::Nonsense)?;
        let entries: Vec<_> =
            entries.iter().filter_map(|(id, at)| Some((id.parse().ok()?, *at))).collect();
        let ids: Vec<SessionId> = entries.iter().map(|(id, _)| *id).collect();
        let (now, mut live, mut dead) = (self.common.clock.now(), Vec::new(), Vec::new());
        let settled = up.theirs(now).0.saturating_sub(SETTLED) as f64;
        for ((id, added), record) in entries.into_iter().zip(self.load_all(&ids).await?) {
            match record {
                Some(record) if record.user == user && record.ends() > now => live.push(record),
                None if added < settled => dead.push(id.to_string()),
                _ => {}
            }
        }
        if !dead.is_empty() {
            self.prune(user, dead).await;
        }
        live.sort_by_key(|record| (std::cmp::Reverse(record.created), record.id));
        Ok(live)
    }

    async fn list(&self, limit: usize) -> Result<Vec<Record>, Failure> {
        let (limit, now) = (limit.min(LISTED), self.common.clock.now());
        let mut records = Vec::new();
        let (pattern, _) = self.common.keys.patterns();
        let mut scan = self.router.scan(pattern);
        while records.len() < limit
            && let Some(keys) = scan.next(self.common.timeout).await?
        {
            let ids: Vec<_> =
                keys.iter().filter_map(|key| self.common.keys.session_of(key)).collect();
            let found = self.load_all(&ids).await?.into_iter().flatten();
            records.extend(found.filter(|record| record.ends() > now));
        }
        // A scan may name a key twice.
        records.sort_by_key(|record| record.id);
        records.dedup_by_key(|record| record.id);
        records.truncate(limit);
        Ok(records)
    }

    async fn users(&self) -> Result<Vec<String>, Failure> {
        let mut users = Vec::new();
        let (_, pattern) = self.common.keys.patterns();
        let mut scan = self.router.scan(pattern);
        while users.len() < LISTED
            && let Some(keys) = scan.next(self.common.timeout).await?
        {
            users.extend(keys.iter().filter_map(|key| self.common.keys.user_of(key)));
        }
        users.sort_unstable();
        users.dedup();
        Ok(users)
    }
}

impl Store for Redis {
    fn create(&self, record: Record) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.inner.note(self.inner.create(&record).await) })
    }

    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Leased>, StoreError>> {
        Box::pin(async move { self.inner.note(self.inner.load(id).await) })
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Replaced, StoreError>> {
        Box::pin(async move { self.inner.note(self.inner.replace(&record).await) })
    }

    fn end(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        Box::pin(async move { self.inner.note(self.inner.end(id).await) })
    }

    fn touch(&self, seen: Vec<(SessionId, UnixMs)>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.inner.note(self.inner.touch(&seen).await) })
    }

    fn of_user<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        Box::pin(async move { self.inner.note(self.inner.of_user(user).await) })
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move { self.inner.note(self.inner.list(limit).await) })
    }

    fn users(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(async move { self.inner.note(self.inner.users().await) })
    }

    fn counters(&self) -> Arc<dyn Counters> {
        Arc::new(throttle::Counts(Arc::clone(&self.inner)))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { Ok(self.inner.router.ready(self.inner.deadline()).await?) })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn watch(&self, watcher: Arc<dyn Watcher>) {
        if self.inner.common.watcher.set(watcher).is_err() {
            tracing::error!("the session store tells only one of changes");
        }
    }
}

/// Several commands for one server.
fn pipeline(commands: Vec<redis::Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}
