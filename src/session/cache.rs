//! Validated sessions in memory, shared by all workers without a lock.
//!
//! Trusts nothing by itself: the caller checks lease, epoch, pulse and secret. A read that raced with
//! an invalidation is never made visible.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use papaya::{Compute, HashMap, Operation};

use super::live::{Live, Pulse};
use super::token::SessionId;
use crate::clock::UnixMs;

/// Invalidation counters; sessions that share one only cause a needless second read.
const SLOTS: usize = 1024;

/// Folds the bytes of a session id, which are random or of SHA-256: nobody can choose them so that many
/// fall on the same place.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, _) = bytes.as_chunks();
        self.0 = words.iter().fold(self.0, |hash, word| hash ^ u64::from_le_bytes(*word));
    }
}

/// The cache of live sessions.
#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<SessionId, Arc<Live>, BuildHasherDefault<IdHasher>>,
    invalidations: Box<[AtomicU64]>,
    limit: usize,
    /// The length from which on room is to be made: `limit`, or more when all are in use.
    crowded: AtomicUsize,
}

/// The state of invalidations before a store read; see [`Cache::before_read`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(u64);

impl Cache {
    /// A cache of about `limit` sessions, and of those above it that are in use: a request or a stream
    /// whose session is not to be found could not be ended.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::default(),
            invalidations: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            limit,
            crowded: AtomicUsize::new(limit),
        }
    }

    /// The cached session, if there is one.
    pub(super) fn find(&self, id: SessionId) -> Option<Arc<Live>> {
        let live = self.entries.pin().get(&id).cloned()?;
        // Pairs with the one in `evict`: either it sees that the session is in use, or this sees that
        // it is not to be trusted any more.
        fence(Ordering::SeqCst);
        live.is_confirmed().then_some(live)
    }

    /// To be called before the store is read.
    pub(super) fn before_read(&self, id: SessionId) -> Ticket {
        Ticket(self.slot(id).load(Ordering::SeqCst))
    }

    /// Makes what was read visible, unless the session was invalidated since `ticket`, or somebody else
    /// read it at the same time and gave it another pulse: then the caller must read again.
    pub(super) fn insert(&self, live: &Arc<Live>, ticket: Ticket) -> bool {
        let id = live.id();
        let pinned = self.entries.pin();
        let placed = pinned.compute(id, |entry| match entry {
            Some((_, other)) if !Arc::ptr_eq(other.pulse(), live.pulse()) => Operation::Abort(()),
            _ => Operation::Insert(Arc::clone(live)),
        });
        if matches!(placed, Compute::Aborted(())) {
            return false;
        }
        if self.slot(id).load(Ordering::SeqCst) == ticket.0 && live.confirm() {
            return true;
        }
        live.distrust();
        // It may have taken the place of one whose streams must still be found.
        let _ = pinned.remove_if(&id, |_, found| {
            Arc::ptr_eq(found, live) && Arc::strong_count(found.pulse()) == 1
        });
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

    /// Somebody else changed the session: as [`Cache::change`], and what runs under it stops at `until`
    /// unless the session is read again until then. Whether something does.
    pub(super) fn question(&self, id: SessionId, until: UnixMs) -> bool {
        self.slot(id).fetch_add(1, Ordering::SeqCst);
        let Some(live) = self.entries.pin().get(&id).cloned() else { return false };
        live.distrust();
        let in_use = live.is_in_use();
        if in_use {
            live.pulse().question(until);
        }
        in_use
    }

    /// As [`Cache::question`] for all sessions.
    pub(super) fn question_all(&self, until: UnixMs) {
        for slot in &self.invalidations {
            slot.fetch_add(1, Ordering::SeqCst);
        }
        for (_, live) in &self.entries.pin() {
            live.distrust();
            live.pulse().question(until);
        }
    }

    /// Sessions in use that are not trusted at `now`.
    pub(super) fn doubtful(&self, now: UnixMs) -> Vec<SessionId> {
        let pinned = self.entries.pin();
        // One reference less than usual: here nobody but the map holds the entry.
        let in_use =
            |live: &Arc<Live>| Arc::strong_count(live.pulse()) > 1 || Arc::strong_count(live) > 1;
        let sure = |live: &Arc<Live>| {
            live.is_confirmed()
                && live.lease().holds(now)
                && live.pulse().is_proven_by(live.lease())
        };
        let all = pinned.iter();
        all.filter(|(_, live)| !sure(live) && in_use(live)).map(|(id, _)| *id).collect()
    }

    /// The session is about to change: its entry is not trusted from now on, nor is what is read until
    /// the doubt is dropped, however the change ends.
    pub(super) fn doubt(&self, id: SessionId) -> Doubt<'_> {
        self.change(id);
        Doubt { cache: self, id }
    }

    /// The session is over: forgets it and ends what runs under it.
    pub(super) fn stop(&self, id: SessionId) {
        self.slot(id).fetch_add(1, Ordering::SeqCst);
        if let Some(live) = self.entries.pin().remove(&id) {
            live.pulse().stop();
        }
    }

    /// Whether a sweep is due before the next insertion.
    pub(super) fn is_crowded(&self) -> bool {
        self.entries.len() >= self.crowded.load(Ordering::Relaxed)
    }

    /// The pulse of a session, also when its entry must not be trusted.
    pub(super) fn pulse(&self, id: SessionId) -> Option<Arc<Pulse>> {
        self.entries.pin().get(&id).map(|live| Arc::clone(live.pulse()))
    }

    /// The entry of a session, also when it must not be trusted.
    pub(super) fn entry(&self, id: SessionId) -> Option<Arc<Live>> {
        self.entries.pin().get(&id).cloned()
    }

    /// Calls `each` for every cached session.
    pub(super) fn visit(&self, mut each: impl FnMut(&Arc<Live>)) {
        for (_, live) in &self.entries.pin() {
            each(live);
        }
    }

    /// Drops sessions that are over and, when nearly full, the longest unused ones that no
    /// request and no stream runs under.
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
        let surplus = idle.len().saturating_sub(self.limit - self.limit / 10);
        if surplus > 0 {
            idle.sort_unstable();
        }
        for (_, id) in idle.into_iter().take(surplus) {
            self.evict(id);
        }
        // When few can go, the next insertions must not look at all of them again, each.
        let crowded = self.limit.max(self.entries.len() + self.limit / 10);
        self.crowded.store(crowded, Ordering::Relaxed);
    }

    /// Drops a session that nothing runs under. What somebody holds must be found at revocation.
    fn evict(&self, id: SessionId) {
        let pinned = self.entries.pin();
        let Some(live) = pinned.get(&id) else { return };
        // First nobody new may take it, then those who have it are counted.
        live.distrust();
        fence(Ordering::SeqCst);
        let _ = pinned.remove_if(&id, |_, found| {
            Arc::ptr_eq(found, live)
                && Arc::strong_count(found) == 1
                && Arc::strong_count(found.pulse()) == 1
        });
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

/// A change of a session under way; see [`Cache::doubt`].
#[derive(Debug)]
#[must_use = "dropped at once, it covers nothing"]
pub(super) struct Doubt<'a> {
    cache: &'a Cache,
    id: SessionId,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.cache.change(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::identity::Identity;
    use crate::session::ports::Lease;
    use crate::session::record::tests::sample;

    fn live(seen: u64) -> Arc<Live> {
        let (mut record, _) = sample("u1", UnixMs(0));
        record.seen = UnixMs(seen);
        Arc::new(Live::new(record, Identity::default(), 0, None, Lease::endless()))
    }

    #[test]
    fn a_read_that_raced_with_an_invalidation_is_not_kept() {
        let cache = Cache::new(10);
        let live = live(0);
        let ticket = cache.before_read(live.id());
        cache.stop(live.id());
        assert!(!cache.insert(&live, ticket));
        assert!(cache.find(live.id()).is_none());
        let live = Arc::new(Live::new(
            live.record().clone(),
            Identity::default(),
            0,
            None,
            Lease::endless(),
        ));
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

    /// Inserts a session that nobody holds.
    fn put(cache: &Cache, seen: u64) -> SessionId {
        let live = live(seen);
        assert!(cache.insert(&live, cache.before_read(live.id())));
        live.id()
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_open_streams() {
        let cache = Cache::new(20);
        let all: Vec<_> = (0..20).map(|seen| put(&cache, seen)).collect();
        assert!(cache.is_crowded());
        let streaming = cache.pulse(all[0]).unwrap();
        cache.sweep(UnixMs(1_000));
        assert!(!cache.is_crowded());
        assert_eq!(cache.len(), 19, "one of two could go");
        let kept = cache.pulse(all[0]).expect("has an open stream");
        assert!(Arc::ptr_eq(&kept, &streaming));
        assert!(cache.find(all[1]).is_none(), "longest unused");
        drop((kept, streaming));
        cache.sweep(UnixMs(4_000_000));
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn a_session_that_a_request_holds_is_not_dropped_from_a_full_cache() {
        let cache = Cache::new(10);
        let id = put(&cache, 0);
        // A request that has not opened its stream yet holds the session, not the pulse.
        let request = cache.find(id).unwrap();
        for seen in 1..20 {
            put(&cache, seen);
        }
        cache.sweep(UnixMs(1_000));
        assert!(cache.len() <= 10);
        cache.stop(id);
        assert!(request.pulse().is_over(UnixMs(0)), "its end reaches the request");
    }

    #[test]
    fn a_session_that_comes_when_all_are_in_use_can_be_ended() {
        let cache = Cache::new(10);
        let held: Vec<_> = (0..10).map(|seen| cache.find(put(&cache, seen)).unwrap()).collect();
        assert!(cache.is_crowded());
        cache.sweep(UnixMs(1_000));
        assert!(!cache.is_crowded(), "not swept again for the next one");
        let one_more = live(11);
        assert!(cache.insert(&one_more, cache.before_read(one_more.id())));
        cache.stop(one_more.id());
        assert!(one_more.pulse().is_over(UnixMs(0)));
        drop(held);
    }

    #[test]
    fn a_read_that_lost_a_race_leaves_the_streams_of_the_session_in_reach() {
        let cache = Cache::new(10);
        let id = put(&cache, 0);
        let streaming = cache.pulse(id).unwrap();
        let record = cache.find(id).unwrap().record().clone();
        let ticket = cache.before_read(id);
        cache.change(id);
        let late =
            Arc::new(Live::new(record, Identity::default(), 0, cache.pulse(id), Lease::endless()));
        assert!(!cache.insert(&late, ticket));
        assert!(cache.find(id).is_none());
        cache.stop(id);
        assert!(streaming.is_over(UnixMs(0)));
    }

    #[test]
    fn two_reads_of_a_session_at_once_share_its_pulse() {
        let cache = Cache::new(10);
        let one = live(0);
        // Both looked for a pulse before the other had one.
        let other = Arc::new(Live::new(
            one.record().clone(),
            Identity::default(),
            0,
            None,
            Lease::endless(),
        ));
        assert!(cache.insert(&one, cache.before_read(one.id())));
        assert!(!cache.insert(&other, cache.before_read(one.id())), "must read again");
        let pulse = cache.pulse(one.id());
        let again = Arc::new(Live::new(
            one.record().clone(),
            Identity::default(),
            0,
            pulse,
            Lease::endless(),
        ));
        assert!(cache.insert(&again, cache.before_read(one.id())));
        cache.stop(one.id());
        assert!(one.pulse().is_over(UnixMs(0)) && again.pulse().is_over(UnixMs(0)));
    }
}
