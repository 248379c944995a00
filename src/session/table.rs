//! Counts of failed logins in memory: bounded, the oldest go first.
//!
//! Notes what has changed for a store that writes it down; knows no file.

use std::collections::{HashMap, HashSet};
use std::future::ready;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::counters::{Count, Counted, CounterKey, Counters, Step};
use super::ports::{BoxFuture, StoreError};
use crate::clock::{Clock, UnixMs};

/// Bound on counts, about 200 bytes each.
pub(super) const LIMIT: usize = 65_536;

/// The counts of one process.
#[derive(Debug)]
pub struct CounterTable {
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: HashMap<CounterKey, Count>,
    /// Counts that differ from what is written down; `None` when nobody writes.
    changed: Option<HashSet<CounterKey>>,
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub struct Stepped {
    /// The count before.
    pub before: Count,
    /// The time of the step.
    pub now: UnixMs,
}

impl CounterTable {
    /// An empty table that nobody writes down.
    pub fn new(clock: Clock) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    /// An empty table that notes what has changed.
    pub fn noting_changes(clock: Clock) -> Self {
        let inner = Inner { changed: Some(HashSet::new()), ..Inner::default() };
        Self { clock, inner: Mutex::new(inner) }
    }

    /// Adds a count that was written down; one that is forgotten meanwhile is noted as a change.
    pub fn load(&self, key: CounterKey, count: Count) {
        let (now, mut inner) = (self.clock.now(), self.lock());
        let count = count.not_after(now).without_places();
        if count.is_empty(&key, now) {
            inner.note(&key);
        } else {
            inner.make_room(now);
            inner.counts.insert(key, count);
        }
    }

    /// The count under `key`, and the time.
    pub fn get(&self, key: &CounterKey) -> (Count, UnixMs) {
        (self.lock().counts.get(key).copied().unwrap_or_default(), self.clock.now())
    }

    /// Applies a step.
    pub fn step(&self, key: &CounterKey, step: Step) -> Stepped {
        let now = self.clock.now();
        let mut inner = self.lock();
        let before = inner.counts.get(key).copied().unwrap_or_default();
        let after = before.after(step, key, now);
        let failures = before.failures(key, now);
        if step.counts() || after.failures(key, now) != failures {
            inner.note(key);
        }
        if after.is_empty(key, now) {
            if inner.counts.remove(key).is_some_and(|gone| gone.last() != UnixMs::default()) {
                inner.note(key);
            }
        } else {
            if !inner.counts.contains_key(key) {
                inner.make_room(now);
            }
            inner.counts.insert(key.clone(), after);
        }
        Stepped { before, now }
    }

    /// Removes counts that are forgotten.
    pub fn sweep(&self) {
        let now = self.clock.now();
        self.lock().drop_unless(|key, count| !count.is_empty(key, now));
    }

    /// Forgets a count; whether there was one.
    pub fn remove(&self, key: &CounterKey) -> bool {
        let mut inner = self.lock();
        let found = inner.counts.remove(key).is_some();
        if found {
            inner.note(key);
        }
        found
    }

    /// At most `limit` counts, in no order, and the time.
    pub fn some(&self, limit: usize) -> Counted {
        let now = self.clock.now();
        let inner = self.lock();
        let live = inner.counts.iter().filter(|(key, count)| !count.is_empty(key, now));
        (live.take(limit).map(|(key, count)| (key.clone(), *count)).collect(), now)
    }

    /// What has to be written down: counts without places, `None` for those that are gone. They are
    /// as good as written unless they are given to [`CounterTable::again`].
    pub fn changes(&self) -> Vec<(CounterKey, Option<Count>)> {
        let mut inner = self.lock();
        let keys = inner.changed.as_mut().map(std::mem::take).unwrap_or_default();
        let count = |key: &CounterKey| inner.counts.get(key).map(|count| count.without_places());
        keys.into_iter().map(|key| (count(&key), key)).map(|(count, key)| (key, count)).collect()
    }

    /// Whether anything has to be written down.
    pub fn has_changes(&self) -> bool {
        self.lock().changed.as_ref().is_some_and(|changed| !changed.is_empty())
    }

    /// These could not be written down.
    pub fn again(&self, keys: impl IntoIterator<Item = CounterKey>) {
        if let Some(changed) = &mut self.lock().changed {
            changed.extend(keys);
        }
    }

    /// Nothing of this table is known to be written down.
    pub fn all_again(&self) {
        let mut inner = self.lock();
        let Inner { counts, changed } = &mut *inner;
        if let Some(changed) = changed {
            changed.extend(counts.keys().cloned());
        }
    }

    /// Number of counts.
    pub fn len(&self) -> usize {
        self.lock().counts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, key: &CounterKey) {
        if let Some(changed) = &mut self.changed {
            changed.insert(key.clone());
        }
    }

    fn drop_unless(&mut self, keep: impl Fn(&CounterKey, &Count) -> bool) {
        let Self { counts, changed } = self;
        counts.retain(|key, count| {
            let keep = keep(key, count);
            if !keep && let Some(changed) = changed {
                changed.insert(key.clone());
            }
            keep
        });
    }

    fn make_room(&mut self, now: UnixMs) {
        if self.counts.len() < LIMIT {
            return;
        }
        self.drop_unless(|key, count| !count.is_empty(key, now));
        if self.counts.len() < LIMIT {
            return;
        }
        let mut ages: Vec<_> = self.counts.values().map(Count::last).collect();
        ages.sort_unstable();
        let middle = ages.get(ages.len() / 2).copied().unwrap_or(now);
        self.drop_unless(|key, count| count.last() > middle || count.is_held(key, now));
    }
}

impl Counters for CounterTable {
    fn read<'a>(
        &'a self,
        key: &'a CounterKey,
    ) -> BoxFuture<'a, Result<(Count, UnixMs), StoreError>> {
        Box::pin(ready(Ok(self.get(key))))
    }

    fn apply<'a>(
        &'a self,
        key: &'a CounterKey,
        step: Step,
    ) -> BoxFuture<'a, Result<(Count, UnixMs), StoreError>> {
        let Stepped { before, now } = self.step(key, step);
        Box::pin(ready(Ok((before, now))))
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Counted, StoreError>> {
        Box::pin(ready(Ok(self.some(limit))))
    }

    fn forget<'a>(&'a self, key: &'a CounterKey) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(ready(Ok(self.remove(key))))
    }
}
