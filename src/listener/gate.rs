//! The bound on open connections, shared by all listeners and workers, and what is counted there.
//!
//! Decides only how many, never who.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets a bounded number of connections in at a time; cheap to clone, one for the process.
///
/// At the bound a worker holds the connection it has just accepted and accepts no other until a slot
/// is free, for which idle connections are closed (see [`ConnectionGate::waiting`]); the rest wait in the
/// kernel's queue, and nobody is turned away. So at most one connection
/// per listener and worker is open beyond the bound. Slots go to the workers in the order in which
/// they asked, so none starves.
#[derive(Clone, Debug)]
pub struct ConnectionGate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cap: usize,
    slots: Arc<Semaphore>,
    accepted: AtomicU64,
    waited: AtomicU64,
    waiting: AtomicUsize,
    accept_errors: AtomicU64,
    proxy_refused: AtomicU64,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that got a slot.
    pub accepted: u64,
    /// Connections that had to wait for one.
    pub waited: u64,
    /// Failed calls of `accept`.
    pub accept_errors: u64,
    /// Connections closed for an untrusted peer or a bad PROXY header.
    pub proxy_refused: u64,
}

/// The slot of one connection; dropping it frees the slot.
#[derive(Debug)]
pub struct ConnectionPermit(
    #[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit,
);

impl ConnectionGate {
    /// A gate for `cap` connections, at least one.
    pub fn new(cap: usize) -> Self {
        let cap = cap.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            cap,
            slots: Arc::new(Semaphore::new(cap)),
            accepted: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            accept_errors: AtomicU64::new(0),
            proxy_refused: AtomicU64::new(0),
        }))
    }

    /// A slot at once, if one is free and nobody waits for it.
    pub fn try_enter(&self) -> Option<ConnectionPermit> {
        let permit = Arc::clone(&self.0.slots).try_acquire_owned().ok()?;
        count(&self.0.accepted);
        Some(ConnectionPermit(permit))
    }

    /// A slot, as soon as one is free.
    pub async fn enter(&self) -> ConnectionPermit {
        if let Some(permit) = self.try_enter() {
            return permit;
        }
        count(&self.0.waited);
        let _waits = Waits::begin(&self.0.waiting);
        match Arc::clone(&self.0.slots).acquire_owned().await {
            Ok(permit) => {
                count(&self.0.accepted);
                ConnectionPermit(permit)
            }
            // Only after `close`, which nobody calls: no slot, ever.
            Err(_) => std::future::pending().await,
        }
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.0.cap.saturating_sub(self.0.slots.available_permits())
    }

    /// How many wait for a slot: the time to close idle connections.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// The counts so far.
    pub fn tally(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            accepted: read(&self.0.accepted),
            waited: read(&self.0.waited),
            accept_errors: read(&self.0.accept_errors),
            proxy_refused: read(&self.0.proxy_refused),
        }
    }

    pub(super) fn count_accept_error(&self) {
        count(&self.0.accept_errors);
    }

    pub(super) fn count_proxy_refused(&self) {
        count(&self.0.proxy_refused);
    }
}

/// Counts as waiting until dropped: who waits may be told to stop.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
