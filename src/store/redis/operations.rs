//! What can be done with sessions in Redis, each on one key.
//!
//! Knows records and their keys, not where the servers are.

use std::future::Future;
use std::sync::Arc;

use redis::{Value, from_redis_value};
use tokio::time::Instant;

use super::common::Common;
use super::error::Failure;
use super::link::{Lane, START, Up};
use super::recent::Recent;
use super::route::Router;
use super::{script, value};
use crate::clock::UnixMs;
use crate::session::{Lease, Leased, Record, Replaced, SessionId, StoreError};

/// Sessions that are read, and uses that are written, in one go.
pub(super) const BATCH: usize = 128;
/// Sessions of one user that are looked at.
const PER_USER: isize = 10_000;
/// Sessions or users that are listed at most.
const LISTED: usize = 1_000_000;
/// An index entry is older than this before it is taken for one whose session is gone: a session that
/// is being created is in the index first.
const SETTLED: u64 = 60_000;

/// What operations need.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) common: Arc<Common>,
    pub(super) router: Router,
    pub(super) recent: Recent,
    pub(super) started: Instant,
}

impl Inner {
    /// Keeps the links, and repeats ends that a failover or a restart may have undone.
    pub(super) async fn run(self: Arc<Self>) {
        let repeat = async {
            loop {
                self.common.back.notified().await;
                self.end_again().await;
            }
        };
        tokio::join!(self.router.run(), repeat);
    }

    /// Operations have little time, but at the start they wait for the first connections.
    pub(super) fn deadline(&self) -> Instant {
        (Instant::now() + self.common.timeout).max(self.started + START)
    }

    /// Carries out an operation and counts it.
    pub(super) async fn count<T>(
        &self,
        operation: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, StoreError> {
        let begun = self.common.clock.moment().micros;
        let outcome = operation.await;
        let metrics = &self.common.metrics;
        metrics.waited(self.common.clock.moment().micros.saturating_sub(begun));
        outcome.map_err(|failure| {
            metrics.failed(failure.kind());
            failure.into()
        })
    }

    pub(super) async fn create(&self, record: &Record) -> Result<(), Failure> {
        self.indexed(&record.user, || self.create_now(record)).await
    }

    async fn create_now(&self, record: &Record) -> Result<(), Failure> {
        if self.recent.tombstone(record.id).is_some() {
            return Err(Failure::Taken);
        }
        let (keys, deadline) = (&self.common.keys, self.deadline());
        let (id, ours) = (record.id.to_string(), self.common.clock.now());
        // First in the index: a session that nobody can list could not be ended with the others.
        let index = keys.user(&record.user);
        let add = |up: &Up| script::index(&index, &id, record, up.theirs(ours), ours);
        self.router.ask(&index, Lane::Write, deadline, add).await?;
        let key = keys.session(record.id);
        let set = |up: &Up| {
            let value = value::write(record, up.ahead).unwrap_or_default();
            script::create(&key, &value, record, ours)
        };
        match self.router.ask(&key, Lane::Write, deadline, set).await {
            Ok((Value::Okay, _)) => Ok(()),
            Ok(_) => Err(Failure::Taken),
            Err(failure) => {
                // Nobody will hold its token: when it is there after all, it goes. A token that proves
                // itself is held already.
                if failure.is_uncertain() && !record.is_sealed() {
                    self.recent.add(record.id, true);
                }
                Err(failure)
            }
        }
    }

    pub(super) async fn load(&self, id: SessionId) -> Result<Option<Leased>, Failure> {
        if self.recent.contains(id) {
            self.settle(id).await?;
            let tombstone = self.recent.tombstone(id);
            return Ok(tombstone.map(|record| Leased {
                record: Arc::unwrap_or_clone(record),
                lease: Lease::ended(),
            }));
        }
        let key = self.common.keys.session(id);
        let get = |_: &Up| script::get(&key);
        let (found, up) = match self.router.ask(&key, Lane::Read, self.deadline(), get).await {
            Err(Failure::WrongType(key)) => {
                self.common.skipped(&key);
                return Ok(None);
            }
            outcome => outcome?,
        };
        Ok(self.record(id, found, &up).map(|record| Leased { record, lease: up.lease.clone() }))
    }

    /// The record in an answer. What is not readable is no session.
    fn record(&self, id: SessionId, found: Value, up: &Up) -> Option<Record> {
        let value: Option<Vec<u8>> = from_redis_value(found).ok()?;
        match value::read(id, &value?, up.ahead) {
            Ok(record) => Some(record),
            Err(error) => {
                self.common.metrics.unreadable();
                tracing::error!(session = %id, %error, "a session cannot be read and counts as none");
                None
            }
        }
    }

    pub(super) async fn replace(&self, record: &Record) -> Result<Replaced, Failure> {
        if self.recent.contains(record.id) {
            return Ok(Replaced::Gone);
        }
        let (key, now) = (self.common.keys.session(record.id), self.common.clock.now());
        let replace = |up: &Up| {
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

    pub(super) async fn end(&self, id: SessionId) -> Result<Option<Record>, Failure> {
        let key = self.common.keys.session(id);
        let unsure = self.recent.is_unsure(id);
        let end = |_: &Up| match unsure {
            true => script::end_again(&key),
            false => script::end(&key),
        };
        let outcome = self.router.change(&key, true, self.deadline(), end).await;
        match &outcome {
            Ok((found, _)) if unsure || *found != Value::Nil => self.recent.add(id, true),
            Err(failure) if failure.is_uncertain() => self.recent.add(id, false),
            _ => {}
        }
        let (found, up) = outcome?;
        let Some(record) = self.record(id, found, &up) else { return Ok(None) };
        self.prune(&record.user, vec![id.to_string()]).await;
        Ok(Some(record))
    }

    pub(super) async fn bury(&self, record: Record) -> Result<Option<Record>, Failure> {
        let record = Arc::new(record);
        let (id, now) = (record.id, self.common.clock.now());
        let key = self.common.keys.session(id);
        let bury = |up: &Up| {
            let value = value::write(&record, up.ahead).unwrap_or_default();
            script::bury(&key, &value, &record, now)
        };
        let outcome = self.router.change(&key, true, self.deadline(), bury).await;
        match &outcome {
            Ok(_) => self.recent.bury(&record, true),
            Err(failure) if failure.is_uncertain() => self.recent.bury(&record, false),
            Err(_) => {}
        }
        let (found, up) = outcome?;
        let former = self.record(id, found, &up);
        self.prune(&record.user, vec![id.to_string()]).await;
        Ok(former)
    }

    /// Carries out what needs a user's index. One of another type is made anew of all sessions first: one
    /// that is not in it could not be ended with the user's others.
    async fn indexed<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        user: &str,
        operation: impl Fn() -> F,
    ) -> Result<T, Failure> {
        match operation().await {
            Err(Failure::WrongType(_)) => {}
            outcome => return outcome,
        }
        self.reindex(user).await?;
        operation().await
    }

    async fn reindex(&self, user: &str) -> Result<(), Failure> {
        let index = self.common.keys.user(user);
        self.common.mistyped(&index, "it is replaced by a list of all sessions of the user");
        // Rather fails than misses the sessions of a server that is not there.
        self.router.ready(self.deadline()).await?;
        let records = self.walk(LISTED, |record| record.user == user).await?;
        let ours = self.common.clock.now();
        let put = |up: &Up| script::reindex(&index, &records, up, ours);
        self.router.ask(&index, Lane::Write, self.deadline(), put).await.map(drop)
    }

    /// Takes entries out of a user's index; what stays for a fault is taken out at the next read.
    async fn prune(&self, user: &str, members: Vec<String>) {
        let index = self.common.keys.user(user);
        let remove = |_: &Up| {
            let mut command = redis::cmd("ZREM");
            command.arg(&index).arg(&members);
            command
        };
        if let Err(failure) = self.router.ask(&index, Lane::Write, self.deadline(), remove).await {
            tracing::debug!(%failure, "a user's index keeps entries of ended sessions for now");
        }
    }

    /// Who is told that a session has ended is told so for good: not by the first server alone.
    async fn settle(&self, id: SessionId) -> Result<(), Failure> {
        if self.recent.is_unsure(id) { self.repeat(id).await } else { Ok(()) }
    }

    /// Ends once more what was ended here.
    async fn repeat(&self, id: SessionId) -> Result<(), Failure> {
        match self.recent.tombstone(id) {
            Some(record) => self.bury(Arc::unwrap_or_clone(record)).await.map(drop),
            None => self.end(id).await.map(drop),
        }
    }

    async fn end_again(&self) {
        for id in self.recent.all() {
            if let Err(failure) = self.repeat(id).await {
                tracing::debug!(%failure, "sessions that have ended are not looked after yet");
                return;
            }
        }
    }

    pub(super) async fn touch(&self, seen: &[(SessionId, UnixMs)]) -> Result<(), Failure> {
        let now = self.common.clock.now();
        for some in seen.chunks(BATCH) {
            let keys: Vec<_> = some.iter().map(|(id, _)| self.common.keys.session(*id)).collect();
            let touch = |up: &Up, index: usize| {
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
            for id in some {
                self.settle(*id).await?;
            }
            let keys: Vec<_> = some.iter().map(|id| self.common.keys.session(*id)).collect();
            let get = |_: &Up, index: usize| keys.get(index).map(|key| script::get(key));
            let found = self.router.ask_each(&keys, Lane::Read, self.deadline(), get).await?;
            for (id, (value, up)) in some.iter().zip(found) {
                let record = self.record(*id, value, &up);
                records.push(record.filter(|_| !self.recent.contains(*id)));
            }
        }
        Ok(records)
    }

    pub(super) async fn of_user(&self, user: &str) -> Result<Vec<Record>, Failure> {
        self.indexed(user, || self.of_user_now(user)).await
    }

    async fn of_user_now(&self, user: &str) -> Result<Vec<Record>, Failure> {
        let index = self.common.keys.user(user);
        let range = |_: &Up| {
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
                Some(record)
                    if record.user == user && record.ends() > now && record.is_listed() =>
                {
                    live.push(record);
                }
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

    pub(super) async fn list(&self, limit: usize) -> Result<Vec<Record>, Failure> {
        self.walk(limit.min(LISTED), |_| true).await
    }

    /// The sessions that are `wanted`, of all.
    async fn walk(
        &self,
        limit: usize,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Vec<Record>, Failure> {
        let now = self.common.clock.now();
        let mut records = Vec::new();
        let (pattern, _) = self.common.keys.patterns();
        let mut scan = self.router.scan(pattern);
        while records.len() < limit
            && let Some(keys) = scan.next(self.common.timeout).await?
        {
            let ids: Vec<_> =
                keys.iter().filter_map(|key| self.common.keys.session_of(key)).collect();
            let found = self.load_all(&ids).await?.into_iter().flatten();
            let live = found.filter(|record| record.ends() > now && record.is_listed());
            records.extend(live.filter(&wanted));
        }
        // A scan may name a key twice.
        records.sort_by_key(|record| record.id);
        records.dedup_by_key(|record| record.id);
        records.truncate(limit);
        Ok(records)
    }

    pub(super) async fn users(&self) -> Result<Vec<String>, Failure> {
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
