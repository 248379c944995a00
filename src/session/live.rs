//! A session in use: what the cache holds and the hot path reads.
//!
//! Immutable but for its pulse; a change of the session makes a new `Live` with the same pulse.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::identity::Identity;
use super::record::Record;
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
}

impl Pulse {
    fn new(record: &Record) -> Self {
        Self {
            over: AtomicBool::new(false),
            seen: AtomicU64::new(record.seen.0),
            written: AtomicU64::new(record.seen.0),
            expires: AtomicU64::new(record.expires.0),
            idle_ms: AtomicU64::new(record.idle_ms),
        }
    }

    /// Whether the session has ended or expired at `now`.
    pub fn is_over(&self, now: UnixMs) -> bool {
        self.over.load(Ordering::Acquire) || now >= self.ends()
    }

    /// When the session ends if nobody uses it from now on.
    pub fn ends(&self) -> UnixMs {
        let idle = Duration::from_millis(self.idle_ms.load(Ordering::Relaxed));
        let seen = UnixMs(self.seen.load(Ordering::Relaxed));
        UnixMs(self.expires.load(Ordering::Relaxed)).min(seen.plus(idle))
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

    /// The last use, if it was not handed out before: for the write behind.
    pub(super) fn unwritten(&self) -> Option<UnixMs> {
        let seen = self.seen.load(Ordering::Relaxed);
        (self.written.swap(seen, Ordering::Relaxed) < seen).then_some(UnixMs(seen))
    }

    /// Forgets that `seen` was handed out: the write failed.
    pub(super) fn unwrite(&self) {
        self.written.store(0, Ordering::Relaxed);
    }

    fn adopt(&self, record: &Record) {
        self.expires.store(record.expires.0, Ordering::Relaxed);
        self.idle_ms.store(record.idle_ms, Ordering::Relaxed);
        self.seen.fetch_max(record.seen.0, Ordering::Relaxed);
    }
}

/// A validated session with its derived identity.
pub struct Live {
    record: Record,
    identity: Identity,
    /// Epoch of the directory when the identity was derived.
    epoch: u64,
    pulse: Arc<Pulse>,
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
    ) -> Self {
        let pulse = match pulse {
            Some(pulse) => {
                pulse.adopt(&record);
                pulse
            }
            None => Arc::new(Pulse::new(&record)),
        };
        let trust = AtomicU8::new(READ);
        Self { record, identity, epoch, pulse, trust, rendering: OnceLock::new() }
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

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
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
        let pulse = Pulse::new(&record);
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
        let pulse = Pulse::new(&record);
        assert_eq!(pulse.unwritten(), None);
        pulse.note(UnixMs(2_000));
        pulse.note(UnixMs(2_100));
        assert_eq!(pulse.unwritten(), Some(UnixMs(2_000)));
        assert_eq!(pulse.unwritten(), None);
        pulse.unwrite();
        assert_eq!(pulse.unwritten(), Some(UnixMs(2_000)));
    }

    #[test]
    fn the_previous_secret_opens_within_its_grace_only() {
        let (mut record, old) = sample("u1", UnixMs(0));
        let new = Token::issue(record.id).unwrap();
        record.previous =
            Some(super::super::record::Previous { hash: old.hash(), until: UnixMs(5_000) });
        record.secret = new.hash();
        let live = Live::new(record, Identity::default(), 0, None);
        assert!(live.opens(&new, UnixMs(9_000)));
        assert!(live.opens(&old, UnixMs(4_999)));
        assert!(!live.opens(&old, UnixMs(5_000)));
    }
}
