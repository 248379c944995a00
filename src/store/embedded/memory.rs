//! The sessions in memory: sharded by id, indexed by user and by end.
//!
//! Shows what is durable, and nothing else: only the writer adds and removes. Knows no file.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::UnixMs;
use crate::session::{Record, SessionId};

/// Locks over the sessions; two cores seldom meet on one.
const SHARDS: usize = 64;

/// Users that are listed under one lock.
const USERS_STEP: usize = 256;

/// All sessions.
#[derive(Debug)]
pub(super) struct Memory {
    shards: Box<[Mutex<Shard>]>,
    index: Mutex<Index>,
    count: AtomicUsize,
}

type Shard = HashMap<SessionId, Entry>;

#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    /// Where the entry stands in the index of ends; never later than the true end.
    due: UnixMs,
    /// Ends under way: the session is hidden while they last.
    ending: u32,
}

#[derive(Debug, Default)]
struct Index {
    users: BTreeSet<(Arc<str>, SessionId)>,
    ends: BTreeSet<(UnixMs, SessionId)>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            index: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }

    /// Number of sessions, expired and hidden ones included.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The ids of all sessions, expired and hidden ones included.
    pub(super) fn ids(&self) -> Vec<SessionId> {
        self.shards
            .iter()
            .flat_map(|shard| lock(shard).keys().copied().collect::<Vec<_>>())
            .collect()
    }

    /// The record as the writer sees it: also when the session is about to end.
    pub(super) fn get(&self, id: SessionId) -> Option<Arc<Record>> {
        lock(self.shard(id)).get(&id).map(|entry| Arc::clone(&entry.record))
    }

    /// The record as everybody sees it.
    pub(super) fn visible(&self, id: SessionId) -> Option<Arc<Record>> {
        let shard = lock(self.shard(id));
        shard.get(&id).filter(|entry| entry.ending == 0).map(|entry| Arc::clone(&entry.record))
    }

    /// Adds or replaces a record. A later `seen` that was noted meanwhile is kept.
    pub(super) fn put(&self, mut record: Record) {
        let (id, user) = (record.id, Arc::from(record.user.as_str()));
        let mut shard = lock(self.shard(id));
        let former = shard.remove(&id);
        if let Some(former) = &former {
            record.seen = record.seen.max(former.record.seen);
        }
        let due = record.ends();
        let mut index = lock(&self.index);
        let ending = match former {
            Some(former) => {
                index.forget(&former);
                former.ending
            }
            None => {
                self.count.fetch_add(1, Ordering::Relaxed);
                0
            }
        };
        index.users.insert((user, id));
        index.ends.insert((due, id));
        shard.insert(id, Entry { record: Arc::new(record), due, ending });
    }

    /// Takes a session out.
    pub(super) fn remove(&self, id: SessionId) {
        let mut shard = lock(self.shard(id));
        if let Some(entry) = shard.remove(&id) {
            self.count.fetch_sub(1, Ordering::Relaxed);
            lock(&self.index).forget(&entry);
        }
    }

    /// Hides a session that is about to end; every call needs a removal or a [`Memory::unhide`].
    pub(super) fn hide(&self, id: SessionId) {
        if let Some(entry) = lock(self.shard(id)).get_mut(&id) {
            entry.ending = entry.ending.saturating_add(1);
        }
    }

    /// The end did not come about.
    pub(super) fn unhide(&self, id: SessionId) {
        if let Some(entry) = lock(self.shard(id)).get_mut(&id) {
            entry.ending = entry.ending.saturating_sub(1);
        }
    }

    /// Moves `seen` forward; whether it moved.
    pub(super) fn touch(&self, id: SessionId, at: UnixMs) -> bool {
        let mut shard = lock(self.shard(id));
        match shard.get_mut(&id) {
            Some(entry) if entry.record.seen < at => {
                // Copies only when somebody is just reading the record.
                Arc::make_mut(&mut entry.record).seen = at;
                true
            }
            _ => false,
        }
    }

    /// The live sessions of a user, newest first.
    pub(super) fn of_user(&self, user: &str, now: UnixMs) -> Vec<Record> {
        let from = (Arc::from(user), SessionId::from_bytes([0; 16]));
        let ids: Vec<_> = lock(&self.index)
            .users
            .range((Bound::Included(from), Bound::Unbounded))
            .take_while(|(name, _)| **name == *user)
            .map(|(_, id)| *id)
            .collect();
        let mut records: Vec<_> = ids
            .into_iter()
            .filter_map(|id| self.visible(id))
            .filter(|record| record.ends() > now && record.is_listed())
            .map(Arc::unwrap_or_clone)
            .collect();
        records.sort_by_key(|record| (std::cmp::Reverse(record.created), record.id));
        records
    }

    /// Those who have sessions, expired and hidden ones included.
    pub(super) fn users(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let last = SessionId::from_bytes([u8::MAX; 16]);
        loop {
            let index = lock(&self.index);
            let known = found.len();
            // From user to user, some at a time: a long list must not hold up logins.
            while found.len() < known + USERS_STEP {
                let next = match found.last() {
                    None => index.users.first(),
                    Some(user) => {
                        let from = (Arc::from(user.as_str()), last);
                        index.users.range((Bound::Excluded(from), Bound::Unbounded)).next()
                    }
                };
                let Some((user, _)) = next else { return found };
                found.push(user.to_string());
            }
        }
    }

    /// At most `limit` live sessions, in no order.
    pub(super) fn list(&self, limit: usize, now: UnixMs) -> Vec<Record> {
        let mut records = Vec::new();
        for shard in &self.shards {
            // Copied after the lock is released: a long list must not hold up requests.
            let found: Vec<_> = lock(shard)
                .values()
                .filter(|entry| entry.ending == 0 && entry.record.ends() > now)
                .filter(|entry| entry.record.is_listed())
                .take(limit.saturating_sub(records.len()))
                .map(|entry| Arc::clone(&entry.record))
                .collect();
            records.extend(found.into_iter().map(Arc::unwrap_or_clone));
        }
        records
    }

    /// Up to `limit` sessions that ended `grace` ago or earlier. Looks at no more than `limit`
    /// sessions, so a second call may find more.
    pub(super) fn expired(&self, now: UnixMs, grace: Duration, limit: usize) -> Vec<SessionId> {
        let is_over = |end: UnixMs| end.plus(grace) <= now;
        let due: Vec<_> = lock(&self.index)
            .ends
            .iter()
            .take(limit)
            .take_while(|e| is_over(e.0))
            .copied()
            .collect();
        let mut expired = Vec::new();
        for (_, id) in due {
            let mut shard = lock(self.shard(id));
            let Some(entry) = shard.get_mut(&id) else { continue };
            let end = entry.record.ends();
            if is_over(end) {
                expired.push(id);
                continue;
            }
            // Touches do not move the index, so that they stay cheap: it is moved here.
            let mut index = lock(&self.index);
            index.ends.remove(&(entry.due, id));
            index.ends.insert((end, id));
            entry.due = end;
        }
        expired
    }

    fn shard(&self, id: SessionId) -> &Mutex<Shard> {
        let [.., low] = *id.as_bytes();
        let index = usize::from(low) % SHARDS;
        #[expect(clippy::indexing_slicing, reason = "SHARDS locks, index taken modulo SHARDS")]
        &self.shards[index]
    }
}

impl Index {
    fn forget(&mut self, entry: &Entry) {
        let id = entry.record.id;
        self.users.remove(&(Arc::from(entry.record.user.as_str()), id));
        self.ends.remove(&(entry.due, id));
    }
}

/// Nothing here panics half way through a change, so a poisoned lock holds sound data.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite::{START, session};

    #[test]
    fn the_indexes_hold_each_session_once_and_forget_it() {
        let memory = Memory::new();
        let sizes = || {
            let index = lock(&memory.index);
            (index.users.len(), index.ends.len())
        };
        let mut record = session("u1", START);
        memory.put(record.clone());
        record.expires = START.plus(Duration::from_secs(60));
        memory.put(record.clone());
        assert_eq!((memory.len(), sizes()), (1, (1, 1)), "an earlier end replaces the later one");
        let now = START.plus(Duration::from_secs(60));
        assert_eq!(memory.expired(now, Duration::ZERO, 9), [record.id]);
        record.expires = START.plus(Duration::from_secs(3600));
        memory.put(record.clone());
        memory.touch(record.id, now);
        let now = START.plus(Duration::from_secs(600));
        assert!(memory.expired(now, Duration::ZERO, 9).is_empty(), "put off by its use");
        assert_eq!(sizes(), (1, 1), "moved in the index");
        memory.remove(record.id);
        memory.remove(record.id);
        assert_eq!((memory.len(), sizes()), (0, (0, 0)));
    }

    #[test]
    fn each_user_is_listed_once_however_many_there_are() {
        let memory = Memory::new();
        let names: Vec<_> = (0..USERS_STEP * 2).map(|n| format!("user{n:04}")).collect();
        for name in names.iter().chain(&names) {
            memory.put(session(name, START));
        }
        assert_eq!(memory.users(), names);
    }

    #[test]
    fn a_search_for_the_expired_is_bounded_and_goes_on() {
        let memory = Memory::new();
        for _ in 0..10 {
            memory.put(session("u1", START));
        }
        let now = START.plus(Duration::from_secs(600));
        for left in [6, 2, 0] {
            memory.expired(now, Duration::ZERO, 4).into_iter().for_each(|id| memory.remove(id));
            assert_eq!(memory.len(), left);
        }
    }
}
