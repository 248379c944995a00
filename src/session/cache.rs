//! Validated sessions in memory, shared by all workers without a lock.
//!
//! Trusts nothing by itself: the caller checks lease, epoch, pulse and secret. A read that raced with
//! an invalidation is never made visible.

use std::collections::hash_map::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use papaya::HashMap;

use super::live::{Live, Pulse};
use super::token::SessionId;
use crate::clock::UnixMs;

/// Invalidation counters; sessions that share one only cause a needless second read.
const SLOTS: usize = 1024;

/// The cache of live sessions.
#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<SessionId, Arc<Live>, RandomState>,
    invalidations: Box<[AtomicU64]>,
    limit: usize,
}

/// The state of invalidations before a store read; see [`Cache::before_read`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(u64);

impl Cache {
    /// A cache of at most about `limit` sessions.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            invalidations: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            limit,
        }
    }

    /// The cached session, if there is one.
    pub(super) fn find(&self, id: SessionId) -> Option<Arc<Live>> {
        self.entries.pin().get(&id).filter(|live| live.is_confirmed()).cloned()
    }

    /// To be called before the store is read.
    pub(super) fn before_read(&self, id: SessionId) -> Ticket {
        Ticket(self.slot(id).load(Ordering::SeqCst))
    }

    /// Makes what was read visible, unless the session was invalidated since `ticket`: then the caller
    /// must read again. Over the limit the session is served without being kept.
    pub(super) fn insert(&self, live: &Arc<Live>, ticket: Ticket) -> bool {
        let id = live.id();
        let pinned = self.entries.pin();
        if pinned.len() >= self.limit && !pinned.contains_key(&id) {
            return self.slot(id).load(Ordering::SeqCst) == ticket.0;
        }
        pinned.insert(id, Arc::clone(live));
        if self.slot(id).load(Ordering::SeqCst) == ticket.0 && live.confirm() {
            return true;
        }
        let _ = pinned.remove_if(&id, |_, found| Arc::ptr_eq(found, live));
        false
    }

    /// The session has changed: its entry must not be trusted any more. It stays in place for its
    /// pulse, so that streams opened before can still be found; the next read replaces it.
    pub(super) fn change(&self, id: SessionId) {
        self.slot(id).fetch_add(1, Ordering::SeqCst);
        if let Some(live) = self.entries.pin().get(&id) {
            live.distrust();
        }
    }

    /// The session is over: forgets it and ends what runs under it.
    pub(super) fn stop(&self, id: SessionId) {
        self.slot(id).fetch_add(1, Ordering::SeqCst);
        if let Some(live) = self.entries.pin().remove(&id) {
            live.pulse().stop();
        }
    }

    /// Whether the next insertion would not be kept.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.limit
    }

    /// The pulse of a session, also when its entry must not be trusted.
    pub(super) fn pulse(&self, id: SessionId) -> Option<Arc<Pulse>> {
        self.entries.pin().get(&id).map(|live| Arc::clone(live.pulse()))
    }

    /// Calls `each` for every cached session.
    pub(super) fn visit(&self, mut each: impl FnMut(&Arc<Live>)) {
        for (_, live) in &self.entries.pin() {
            each(live);
        }
    }

    /// Drops sessions that are over and, when nearly full, the longest unused ones without open streams.
    pub(super) fn sweep(&self, now: UnixMs) {
        let pinned = self.entries.pin();
        let mut idle = Vec::new();
        for (id, live) in &pinned {
            if live.pulse().is_over(now) {
                live.pulse().stop();
                pinned.remove(id);
            } else {
                idle.push((live.pulse().seen(), *id));
            }
        }
        let keep = self.limit - self.limit / 10;
        if idle.len() <= keep {
            return;
        }
        idle.sort_unstable();
        let surplus = idle.len() - keep;
        for (_, id) in idle.into_iter().take(surplus) {
            // A pulse that others hold belongs to an open stream: it must be found at revocation.
            let _ = pinned.remove_if(&id, |_, live| Arc::strong_count(live.pulse()) == 1);
        }
    }

    /// Number of cached sessions.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn slot(&self, id: SessionId) -> &AtomicU64 {
        let [.., high, low] = *id.as_bytes();
        let index = usize::from(u16::from_be_bytes([high, low])) % SLOTS;
        #[expect(clippy::indexing_slicing, reason = "SLOTS counters, index taken modulo SLOTS")]
        &self.invalidations[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::identity::Identity;
    use crate::session::record::tests::sample;

    fn live(seen: u64) -> Arc<Live> {
        let (mut record, _) = sample("u1", UnixMs(0));
        record.seen = UnixMs(seen);
        Arc::new(Live::new(record, Identity::default(), 0, None))
    }

    #[test]
    fn a_read_that_raced_with_an_invalidation_is_not_kept() {
        let cache = Cache::new(10);
        let live = live(0);
        let ticket = cache.before_read(live.id());
        cache.stop(live.id());
        assert!(!cache.insert(&live, ticket));
        assert!(cache.find(live.id()).is_none());
        let ticket = cache.before_read(live.id());
        assert!(cache.insert(&live, ticket));
        assert!(cache.find(live.id()).is_some());
    }

    #[test]
    fn stopping_a_session_reaches_those_who_hold_it() {
        let cache = Cache::new(10);
        let live = live(0);
        assert!(cache.insert(&live, cache.before_read(live.id())));
        let held = cache.find(live.id()).unwrap();
        cache.stop(live.id());
        assert!(held.pulse().is_over(UnixMs(0)));
        assert!(cache.find(live.id()).is_none());
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_open_streams() {
        let cache = Cache::new(20);
        let all: Vec<_> = (0..25).map(live).collect();
        let streaming = Arc::clone(all[0].pulse());
        for live in &all {
            assert!(cache.insert(live, cache.before_read(live.id())));
        }
        assert_eq!(cache.len(), 20);
        cache.sweep(UnixMs(1_000));
        assert!(cache.len() <= 19);
        assert!(cache.find(all[0].id()).is_some(), "has an open stream");
        assert!(cache.find(all[1].id()).is_none(), "longest unused");
        drop(streaming);
        cache.sweep(UnixMs(4_000_000));
        assert_eq!(cache.len(), 0);
    }
}
