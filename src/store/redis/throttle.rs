//! Counts of failed logins in Redis: one key each, changed by compare-and-set.
//!
//! What a step does to a count is the core's business, so the script only sees whether a count is still
//! the one that the step was worked out from. Times are those of the server's clock. A count expires by
//! itself when it is empty.

use std::sync::Arc;

use redis::{Cmd, Value, cmd, from_redis_value};
use tokio::time::Instant;

use super::error::Failure;
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

/// The counters of the Redis store. They go by the connections that change things: what they read
/// must not be tracked.
#[derive(Debug)]
pub(super) struct Counts(pub(super) Arc<Inner>);

impl Counts {
    async fn read_now(&self, key: &CounterKey) -> Result<(Count, UnixMs), Failure> {
        let (name, ours) = (self.0.common.keys.count(key), self.0.common.clock.now());
        let get = |_: &Up| super::script::get(&name);
        let (found, up) = self.0.router.ask(&name, Lane::Write, self.0.deadline(), get).await?;
        Ok((count(&text(found)?), up.theirs(ours)))
    }

    /// Works the step out anew for as long as others come first. One of those who come together always
    /// gets through.
    async fn apply_now(&self, key: &CounterKey, step: Step) -> Result<(Count, UnixMs), Failure> {
        let (name, deadline) = (self.0.common.keys.count(key), self.0.deadline());
        // Most counts are empty: a wrong guess costs one more round.
        let mut found = Vec::new();
        while Instant::now() < deadline {
            let (before, ours) = (count(&found), self.0.common.clock.now());
            let swap = |up: &Up| {
                let now = up.theirs(ours);
                swap(&name, &found, key, &before.after(step, key, now), now)
            };
            let (answer, up) = self.0.router.ask(&name, Lane::Write, deadline, swap).await?;
            if answer == Value::Int(1) {
                return Ok((before, up.theirs(ours)));
            }
            found = text(answer)?;
        }
        Err(Failure::Busy)
    }

    async fn list_now(&self, limit: usize) -> Result<Counted, Failure> {
        let (mut all, mut now) = (Vec::new(), self.0.common.clock.now());
        let mut scan = self.0.router.scan(self.0.common.keys.counts());
        while all.len() < limit
            && let Some(names) = scan.next(self.0.common.timeout).await?
        {
            let keys: Vec<_> =
                names.iter().filter_map(|name| self.0.common.keys.count_of(name)).collect();
            for some in keys.chunks(BATCH) {
                let ours = self.0.common.clock.now();
                let names: Vec<_> = some.iter().map(|key| self.0.common.keys.count(key)).collect();
                let get = |_: &Up, index: usize| names.get(index).map(|n| super::script::get(n));
                let deadline = self.0.deadline();
                let found = self.0.router.ask_each(&names, Lane::Write, deadline, get).await?;
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
        let name = self.0.common.keys.count(key);
        let take = |_: &Up| super::script::end(&name);
        let (found, _) = self.0.router.ask(&name, Lane::Write, self.0.deadline(), take).await?;
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

fn swap(name: &str, from: &[u8], key: &CounterKey, to: &Count, now: UnixMs) -> Cmd {
    let document = match to.is_empty(key, now) {
        true => Vec::new(),
        false => serde_json::to_vec(to).unwrap_or_default(),
    };
    let mut command = cmd("EVAL");
    command.arg(SWAP).arg(1).arg(name).arg(from).arg(document);
    command.arg(millis(to.expires_in(key, now)));
    command
}

impl Counters for Counts {
    fn read<'a>(
        &'a self,
        key: &'a CounterKey,
    ) -> BoxFuture<'a, Result<(Count, UnixMs), StoreError>> {
        Box::pin(async move { self.0.count(self.read_now(key)).await })
    }

    fn apply<'a>(
        &'a self,
        key: &'a CounterKey,
        step: Step,
    ) -> BoxFuture<'a, Result<(Count, UnixMs), StoreError>> {
        Box::pin(async move { self.0.count(self.apply_now(key, step)).await })
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Counted, StoreError>> {
        Box::pin(async move { self.0.count(self.list_now(limit)).await })
    }

    fn forget<'a>(&'a self, key: &'a CounterKey) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { self.0.count(self.forget_now(key)).await })
    }
}
