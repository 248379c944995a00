//! Counts of failed logins in Redis: one key each, changed by compare-and-set.
//!
//! What a step does to a count is the core's business, so the script only sees whether a count is still
//! the one that the step was worked out from. Times are those of the server's clock. A count expires by
//! itself when it is empty.

use std::sync::Arc;

use redis::{Cmd, Value, cmd, from_redis_value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::Failure;
use super::keys::slot;
use super::link::{Lane, Up};
use super::operations::{BATCH, Inner};
use crate::clock::{UnixMs, millis};
use crate::session::{BoxFuture, Count, Counted, CounterKey, Counters, Step, StoreError};

/// Answers 1, or with what is there instead. An empty text is no key.
const SWAP: &str = "local v = redis.call('GET', KEYS[1]) or ''
if v ~= ARGV[1] then return v end
if ARGV[2] == '' then
  redis.call('GETDEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1";

/// Locks over the counters; two that are changed at once seldom meet on one.
const SHARDS: usize = 64;

/// The counters of the Redis store. They go by the connections that change things: what they read
/// must not be tracked.
#[derive(Debug)]
pub(super) struct Counts {
    inner: Arc<Inner>,
    /// Held while a counter is changed: steps of one process must not hinder each other. With what was
    /// written last, which most often is what is still there.
    last: Box<[Mutex<Last>]>,
}

/// A key and what was written there.
#[derive(Debug, Default)]
struct Last {
    name: String,
    value: Vec<u8>,
}

impl Counts {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, last: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    async fn read_now(&self, key: &CounterKey) -> Result<(Count, UnixMs), Failure> {
        let (name, ours) = (self.inner.common.keys.count(key), self.inner.common.clock.now());
        let get = |_: &Up| super::script::get(&name);
        let (found, up) = self.inner.router.ask_text(&name, self.inner.deadline(), get).await?;
        Ok((count(&text(found)?), up.theirs(ours)))
    }

    /// Works the step out anew for as long as other processes come first. One of those who come together
    /// always gets through.
    async fn apply_now(&self, key: &CounterKey, step: Step) -> Result<(Count, UnixMs), Failure> {
        let name = self.inner.common.keys.count(key);
        let shard = usize::from(slot(name.as_bytes())) % SHARDS;
        let mut last = self.last.get(shard).ok_or(Failure::Nonsense)?.lock().await;
        // A wrong guess costs one more round. Most counts are empty.
        let mut found =
            if last.name == name { std::mem::take(&mut last.value) } else { Vec::new() };
        last.name.clear();
        let deadline = self.inner.deadline();
        while Instant::now() < deadline {
            let (before, ours) = (count(&found), self.inner.common.clock.now());
            let after = |up: &Up| before.after(step, key, up.theirs(ours));
            let swap = |up: &Up| swap(&name, &found, key, &after(up), up.theirs(ours));
            let (answer, up) = self.inner.router.ask_text(&name, deadline, swap).await?;
            let now = up.theirs(ours);
            if answer == Value::Int(1) {
                let value = document(&after(&up), key, now);
                *last = Last { name, value };
                return Ok((before, now));
            }
            found = text(answer)?;
        }
        Err(Failure::Busy)
    }

    async fn list_now(&self, limit: usize) -> Result<Counted, Failure> {
        let (mut all, mut now) = (Vec::new(), self.inner.common.clock.now());
        let mut scan = self.inner.router.scan(self.inner.common.keys.counts());
        while all.len() < limit
            && let Some(names) = scan.next(self.inner.common.timeout).await?
        {
            let keys: Vec<_> =
                names.iter().filter_map(|name| self.inner.common.keys.count_of(name)).collect();
            for some in keys.chunks(BATCH) {
                let ours = self.inner.common.clock.now();
                let names: Vec<_> =
                    some.iter().map(|key| self.inner.common.keys.count(key)).collect();
                let get = |_: &Up, index: usize| names.get(index).map(|n| super::script::get(n));
                let deadline = self.inner.deadline();
                let found = self.inner.router.ask_each(&names, Lane::Write, deadline, get).await?;
                for (key, (value, up)) in some.iter().zip(found) {
                    now = up.theirs(ours);
                    let count = count(&text(value)?);
                    if !count.is_empty(key, now) {
                        all.push((key.clone(), count));
                    }
                }
            }
        }
        // A scan may name a key twice.
        all.sort_by_cached_key(|(key, _)| key.to_string());
        all.dedup_by(|(one, _), (two, _)| one == two);
        all.truncate(limit);
        Ok((all, now))
    }

    async fn forget_now(&self, key: &CounterKey) -> Result<bool, Failure> {
        let name = self.inner.common.keys.count(key);
        let take = |_: &Up| super::script::end(&name);
        let (found, _) = self.inner.router.ask_text(&name, self.inner.deadline(), take).await?;
        Ok(found != Value::Nil)
    }
}

/// What a key holds; nothing when there is none.
fn text(found: Value) -> Result<Vec<u8>, Failure> {
    let text: Option<Vec<u8>> = from_redis_value(found).map_err(|_| Failure::Nonsense)?;
    Ok(text.unwrap_or_default())
}

/// What cannot be read counts as nothing: it is worth a few guesses, not all logins.
fn count(text: &[u8]) -> Count {
    serde_json::from_slice(text).unwrap_or_default()
}

/// The value of a count; nothing when it need not be kept.
fn document(count: &Count, key: &CounterKey, now: UnixMs) -> Vec<u8> {
    match count.is_empty(key, now) {
        true => Vec::new(),
        false => serde_json::to_vec(count).unwrap_or_default(),
    }
}

fn swap(name: &str, from: &[u8], key: &CounterKey, to: &Count, now: UnixMs) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(SWAP).arg(1).arg(name).arg(from).arg(document(to, key, now));
    command.arg(millis(to.expires_in(key, now)));
    command
}

impl Counters for Counts {
    fn read<'a>(
        &'a self,
        key: &'a CounterKey,
    ) -> BoxFuture<'a, Result<(Count, UnixMs), StoreError>> {
        Box::pin(async move { self.inner.count(self.read_now(key)).await })
    }

    fn apply<'a>(
        &'a self,
        key: &'a CounterKey,
        step: Step,
    ) -> BoxFuture<'a, Result<(Count, UnixMs), StoreError>> {
        Box::pin(async move { self.inner.count(self.apply_now(key, step)).await })
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Counted, StoreError>> {
        Box::pin(async move { self.inner.count(self.list_now(limit)).await })
    }

    fn forget<'a>(&'a self, key: &'a CounterKey) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { self.inner.count(self.forget_now(key)).await })
    }
}
