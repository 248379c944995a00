//! What the service and the scanner of one connection tell each other.
//!
//! No bytes go this way, only decisions; a service may hold a handle for longer than its connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Violation;

/// The service's side of a [`Scan`](super::Scan). Cheap to clone.
///
/// Heads are counted from 0 on each connection, which is also the order in which hyper calls the
/// service. For every HTTP/1.1 request with an `Upgrade` field (with or without
/// `Connection: upgrade`) the service has to call either [`resume`](Self::resume) or
/// [`pass_through`](Self::pass_through): until then the bytes behind that request are held back.
#[derive(Clone, Debug)]
pub struct WireHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    violation: OnceLock<(u64, Violation)>,
    /// One more than the last head that was resumed.
    resumed: AtomicU64,
    /// One more than the head that became a tunnel.
    tunnelled: AtomicU64,
    /// Whether part of a head has come.
    in_head: std::sync::atomic::AtomicBool,
    /// The reader, while it waits for a decision.
    waiting: Mutex<Option<Waker>>,
}

/// What the service decided about a request to upgrade.
pub(super) enum Decision {
    Resume,
    PassThrough,
}

impl WireHandle {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            violation: OnceLock::new(),
            resumed: AtomicU64::new(0),
            tunnelled: AtomicU64::new(0),
            in_head: std::sync::atomic::AtomicBool::new(false),
            waiting: Mutex::new(None),
        }))
    }

    /// The head that was refused and why, once there is one. The service must answer the request
    /// of that number with the violation's status and must not look at that request's content. It
    /// is the last request of the connection. Requests before it are good; the violation may be
    /// known while they are still in progress.
    pub fn violation(&self) -> Option<(u64, Violation)> {
        self.0.violation.get().copied()
    }

    /// Whether a part of a head has come and the rest has not: what a slow client is timed by.
    pub fn in_head(&self) -> bool {
        self.0.in_head.load(Ordering::Relaxed)
    }

    pub(super) fn set_in_head(&self, in_head: bool) {
        self.0.in_head.store(in_head, Ordering::Relaxed);
    }

    /// The connection becomes a tunnel behind the request of head number `head`: bytes behind it
    /// are passed on unseen, including those that were held back. Call it when the upgrade is
    /// certain and before the 101 is returned to hyper. It cannot be taken back.
    pub fn pass_through(&self, head: u64) {
        self.0.tunnelled.store(head.saturating_add(1), Ordering::Release);
        self.wake();
    }

    /// The request of head number `head` is answered without an upgrade: what comes behind it is
    /// the next request. Numbers of requests that asked for no upgrade are allowed and do nothing.
    pub fn resume(&self, head: u64) {
        self.0.resumed.fetch_max(head.saturating_add(1), Ordering::Release);
        self.wake();
    }

    pub(super) fn publish(&self, head: u64, violation: Violation) {
        // Only the first violation counts: the scanner stops at it.
        let _ = self.0.violation.set((head, violation));
    }

    pub(super) fn poll_decision(&self, head: u64, cx: &mut Context<'_>) -> Poll<Decision> {
        if let Some(decision) = self.decision(head) {
            return Poll::Ready(decision);
        }
        *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        // Again: the decision may have come before the waker was in its place.
        self.decision(head).map_or(Poll::Pending, Poll::Ready)
    }

    fn decision(&self, head: u64) -> Option<Decision> {
        if self.0.tunnelled.load(Ordering::Acquire) == head + 1 {
            return Some(Decision::PassThrough);
        }
        (self.0.resumed.load(Ordering::Acquire) > head).then_some(Decision::Resume)
    }

    fn wake(&self) {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}
