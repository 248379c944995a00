//! A session in use: what the cache holds and the hot path reads.
//!
//! Immutable but for its pulse; a change of the session makes a new `Live` with the same pulse.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::identity::Identity;
use super::ports::{Lease, Proof};
use super::record::{Kind, Record};
use super::token::{SessionId, Token};
use crate::clock::UnixMs;

/// How much later than the last noted use a new use is noted: keeps the hot path from writing to
/// shared memory on every request.
const NOTE_AFTER: Duration = Duration::from_millis(500);

/// Read from the store, not yet known to be current.
const READ: u8 = 0;
/// Known to be current.
const CONFIRMED: u8 = 1;
/// The session has changed since.
const CHANGED: u8 = 2;

/// Whether a session is still going, shared by everything that runs under it.
#[derive(Debug)]
pub struct Pulse {
    over: AtomicBool,
    seen: AtomicU64,
    written: AtomicU64,
    expires: AtomicU64,
    idle_ms: AtomicU64,
    /// How long the session is proven to be going on.
    proof: ArcSwap<Proof>,
    /// Of the session that this one ends with.
    parent: Option<Arc<Self>>,
}

impl Pulse {
    fn new(record: &Record, lease: &Lease, parent: Option<Arc<Self>>) -> Self {
        Self {
            over: AtomicBool::new(false),
            seen: AtomicU64::new(record.seen.0),
            written: AtomicU64::new(record.seen.0),
            expires: AtomicU64::new(record.expires.0),
            idle_ms: AtomicU64::new(record.idle_ms),
            proof: ArcSwap::new(Arc::clone(&lease.0)),
            parent,
        }
    }

    /// Whether what runs under the session must stop at `now`: it has ended or expired, or nobody knows
    /// any more that it has not.
    pub fn is_cut(&self, now: UnixMs) -> bool {
        self.is_over(now)
            || !self.proof.load().covers(now)
            || self.parent.as_ref().is_some_and(|parent| parent.is_cut(now))
    }

    /// The session was read from the store and is going on.
    pub(super) fn prove(&self, lease: &Lease) {
        self.proof.store(Arc::clone(&lease.0));
    }

    pub(super) fn is_proven_by(&self, lease: &Lease) -> bool {
        Arc::ptr_eq(&self.proof.load(), &lease.0)
    }

    /// Somebody changed the session: what runs under it stops at `until` unless it is proven until then.
    pub(super) fn question(&self, until: UnixMs) {
        if self.proof.load().covers(until) {
            self.proof.store(Lease::until(until).0);
        }
    }

    /// Whether the session, or the one that it ends with, has ended or expired at `now`.
    pub fn is_over(&self, now: UnixMs) -> bool {
        self.over.load(Ordering::Acquire)
            || now >= self.ends()
            || self.parent.as_ref().is_some_and(|parent| parent.is_over(now))
    }

    /// When the session ends if nobody uses it from now on.
    pub fn ends(&self) -> UnixMs {
        let seen = UnixMs(self.seen.load(Ordering::Relaxed));
        UnixMs(self.expires.load(Ordering::Relaxed)).min(seen.plus(self.idle()))
    }

    /// Ends everything that runs under the session.
    pub fn stop(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Notes a use at `now`.
    pub fn note(&self, now: UnixMs) {
        let seen = UnixMs(self.seen.load(Ordering::Relaxed));
        if now.since(seen) >= NOTE_AFTER {
            self.seen.fetch_max(now.0, Ordering::Relaxed);
        }
    }

    /// Last use.
    pub fn seen(&self) -> UnixMs {
        UnixMs(self.seen.load(Ordering::Relaxed))
    }

    /// The last use, if it was not handed out before, nor another one less than `apart` ago: for the
    /// write behind.
    pub(super) fn unwritten(&self, now: UnixMs, apart: Duration) -> Option<UnixMs> {
        let seen = self.seen.load(Ordering::Relaxed);
        let written = UnixMs(self.written.load(Ordering::Relaxed));
        if written.0 >= seen || now.since(written) < apart {
            return None;
        }
        (self.written.swap(seen, Ordering::Relaxed) < seen).then_some(UnixMs(seen))
    }

    /// Idle limit.
    pub(super) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms.load(Ordering::Relaxed))
    }

    /// Forgets that `seen` was handed out: the write failed.
    pub(super) fn unwrite(&self) {
        self.written.store(0, Ordering::Relaxed);
    }

    fn adopt(&self, record: &Record) {
        self.expires.store(record.expires.0, Ordering::Relaxed);
        self.idle_ms.store(record.idle_ms, Ordering::Relaxed);
        self.seen.fetch_max(record.seen.0, Ordering::Relaxed);
        // Another node may have written a later use: this one need not follow at once.
        self.written.fetch_max(record.seen.0, Ordering::Relaxed);
    }
}

/// A validated session with its derived identity.
pub struct Live {
    record: Record,
    identity: Identity,
    /// Epoch of the directory when the identity was derived.
    epoch: u64,
    pulse: Arc<Pulse>,
    /// For how long the record may be trusted.
    lease: Lease,
    /// The session that this one ends with.
    parent: Option<Arc<Self>>,
    /// Whether the cache may show it, one of the three values below (see `cache`).
    trust: AtomicU8,
    /// What others made of the identity, such as ready header values; see [`Live::rendering`].
    rendering: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Live {
    pub(super) fn new(
        record: Record,
        identity: Identity,
        epoch: u64,
        pulse: Option<Arc<Pulse>>,
        lease: Lease,
    ) -> Self {
        let pulse = match pulse {
            Some(pulse) => {
                pulse.adopt(&record);
                pulse
            }
            None => Arc::new(Pulse::new(&record, &lease, None)),
        };
        let trust = AtomicU8::new(READ);
        let rendering = OnceLock::new();
        Self { record, identity, epoch, pulse, lease, parent: None, trust, rendering }
    }

    /// A session that ends with its parent.
    pub(super) fn under(
        parent: Arc<Self>,
        record: Record,
        identity: Identity,
        epoch: u64,
        pulse: Option<Arc<Pulse>>,
        lease: Lease,
    ) -> Self {
        let pulse = pulse.unwrap_or_else(|| {
            Arc::new(Pulse::new(&record, &lease, Some(Arc::clone(parent.pulse()))))
        });
        let live = Self::new(record, identity, epoch, Some(pulse), lease);
        Self { parent: Some(parent), ..live }
    }

    /// Public id.
    pub fn id(&self) -> SessionId {
        self.record.id
    }

    /// The record that this was made from.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Who the session is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The session's pulse.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// When the session ends if nobody uses it from now on.
    pub fn ends(&self) -> UnixMs {
        self.pulse.ends()
    }

    /// Whether the session may do no more than choose a tenant (partner): list them, look at itself, and
    /// log in again. For everything else it counts as none.
    pub fn may_only_choose(&self) -> bool {
        // A scope that a newer version wrote allows no more than the one that is known.
        self.record.scope.is_some()
    }

    /// Whether the session counts as signed in: an anonymous one does not, nor one that may only choose a
    /// tenant.
    pub fn is_signed_in(&self) -> bool {
        self.record.kind != Kind::Widget && !self.may_only_choose()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether what is cached may be trusted at `now`, with what the session ends with.
    pub(super) fn is_trusted(&self, now: UnixMs) -> bool {
        let parent = |parent: &Arc<Self>| parent.is_confirmed() && parent.is_trusted(now);
        self.lease.holds(now) && self.parent.as_ref().is_none_or(parent)
    }

    /// Whether a request or a stream runs under the session, besides the caller's and the cache's
    /// reference.
    pub(super) fn is_in_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(&self.pulse) > 1 || Arc::strong_count(self) > 2
    }

    /// No invalidation raced with the read, unless one came just now: then false.
    pub(super) fn confirm(&self) -> bool {
        self.trust.compare_exchange(READ, CONFIRMED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// For good: a confirmation that comes late does not undo it.
    pub(super) fn distrust(&self) {
        self.trust.store(CHANGED, Ordering::SeqCst);
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.trust.load(Ordering::Acquire) == CONFIRMED
    }

    /// Whether `token` opens this session at `now`: the current secret, or the one before the last
    /// claim switch within its grace.
    pub fn opens(&self, token: &Token, now: UnixMs) -> bool {
        let hash = token.hash();
        if self.record.secret.matches(&hash) {
            return true;
        }
        match &self.record.previous {
            Some(previous) => now < previous.until && previous.hash.matches(&hash),
            None => false,
        }
    }

    /// The value that `build` makes of the identity, made once per `Live`; `None` when something of
    /// another type was made before.
    pub fn rendering<T: Any + Send + Sync>(
        &self,
        build: impl FnOnce(&Identity) -> T,
    ) -> Option<&T> {
        self.rendering.get_or_init(|| Box::new(build(&self.identity))).downcast_ref()
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("id", &self.record.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::record::tests::sample;

    #[test]
    fn idle_and_absolute_ends_hold_under_use() {
        let (record, _) = sample("u1", UnixMs(0));
        let pulse = Pulse::new(&record, &Lease::endless(), None);
        assert!(pulse.is_over(UnixMs(600_000)));
        for minute in 1..60 {
            let now = UnixMs(minute * 60_000);
            assert!(!pulse.is_over(now));
            pulse.note(now);
        }
        assert!(pulse.is_over(UnixMs(3_600_000)), "absolute end holds under constant use");
    }

    #[test]
    fn each_use_is_handed_out_once() {
        let (record, _) = sample("u1", UnixMs(0));
        let pulse = Pulse::new(&record, &Lease::endless(), None);
        assert_eq!(pulse.unwritten(UnixMs(0), Duration::ZERO), None);
        pulse.note(UnixMs(2_000));
        pulse.note(UnixMs(2_100));
        assert_eq!(pulse.unwritten(UnixMs(2_100), Duration::ZERO), Some(UnixMs(2_000)));
        assert_eq!(pulse.unwritten(UnixMs(2_100), Duration::ZERO), None);
        pulse.unwrite();
        assert_eq!(pulse.unwritten(UnixMs(2_100), Duration::ZERO), Some(UnixMs(2_000)));
    }

    #[test]
    fn a_use_is_handed_out_when_the_last_one_is_long_enough_ago() {
        let (record, _) = sample("u1", UnixMs(0));
        let pulse = Pulse::new(&record, &Lease::endless(), None);
        let apart = Duration::from_secs(30);
        pulse.note(UnixMs(2_000));
        assert_eq!(pulse.unwritten(UnixMs(2_000), apart), None);
        // Nothing came after it: it is written all the same.
        assert_eq!(pulse.unwritten(UnixMs(30_000), apart), Some(UnixMs(2_000)));
        pulse.note(UnixMs(40_000));
        let (mut elsewhere, _) = sample("u1", UnixMs(0));
        elsewhere.seen = UnixMs(39_000);
        pulse.adopt(&elsewhere);
        assert_eq!(pulse.unwritten(UnixMs(60_000), apart), None, "another node wrote one");
        assert_eq!(pulse.unwritten(UnixMs(69_000), apart), Some(UnixMs(40_000)));
    }

    #[test]
    fn a_session_in_question_is_cut_unless_it_is_proven() {
        let (record, _) = sample("u1", UnixMs(0));
        let pulse = Pulse::new(&record, &Lease::endless(), None);
        pulse.question(UnixMs(1_000));
        pulse.question(UnixMs(2_000));
        assert!(!pulse.is_cut(UnixMs(999)), "the first question counts");
        assert!(pulse.is_cut(UnixMs(1_000)) && !pulse.is_over(UnixMs(1_000)));
        pulse.prove(&Lease::endless());
        assert!(!pulse.is_cut(UnixMs(1_000)));
    }

    #[test]
    fn the_previous_secret_opens_within_its_grace_only() {
        let (mut record, old) = sample("u1", UnixMs(0));
        let new = Token::issue(record.id).unwrap();
        record.previous =
            Some(super::super::record::Previous { hash: old.hash(), until: UnixMs(5_000) });
        record.secret = new.hash();
        let live = Live::new(record, Identity::default(), 0, None, Lease::endless());
        assert!(live.opens(&new, UnixMs(9_000)));
        assert!(live.opens(&old, UnixMs(4_999)));
        assert!(!live.opens(&old, UnixMs(5_000)));
    }
}
