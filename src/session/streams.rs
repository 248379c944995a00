//! The open streams of one worker: WebSockets, event streams, long answers; cut when their session ends.
//!
//! Lives on one thread, so registering costs no lock; the worker sweeps it several times a second.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::live::Pulse;
use crate::clock::{Clock, UnixMs};

/// One worker's registry; cheap to clone.
#[derive(Clone, Debug)]
pub struct Streams {
    clock: Clock,
    open: Rc<RefCell<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    waiting: HashMap<u64, (Arc<Pulse>, Waker)>,
}

impl Streams {
    /// An empty registry.
    pub fn new(clock: Clock) -> Self {
        Self { clock, open: Rc::default() }
    }

    /// Puts a stream under the session with this pulse.
    pub fn enter(&self, pulse: Arc<Pulse>) -> Entry {
        let mut open = self.open.borrow_mut();
        open.next += 1;
        Entry { streams: self.clone(), key: open.next, pulse, waits: false }
    }

    /// Wakes every stream whose session is over at `now`.
    pub fn sweep(&self, now: UnixMs) {
        let mut over = Vec::new();
        self.open.borrow_mut().waiting.retain(|_, (pulse, waker)| {
            let cut = pulse.is_cut(now);
            if cut {
                over.push(waker.clone());
            }
            !cut
        });
        over.into_iter().for_each(Waker::wake);
    }

    /// Number of streams that wait.
    pub fn len(&self) -> usize {
        self.open.borrow().waiting.len()
    }

    /// Whether no stream waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One open stream; leaves the registry when dropped.
#[derive(Debug)]
pub struct Entry {
    streams: Streams,
    key: u64,
    pulse: Arc<Pulse>,
    waits: bool,
}

impl Entry {
    /// Ready once the session is over. The waker is registered only when the stream has to wait, so
    /// a short answer costs nothing.
    pub fn poll_over(&mut self, cx: &Context<'_>, waits: bool) -> Poll<()> {
        if self.pulse.is_cut(self.streams.clock.now()) {
            return Poll::Ready(());
        }
        if !waits {
            return Poll::Pending;
        }
        let mut open = self.streams.open.borrow_mut();
        match open.waiting.get_mut(&self.key) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => {
                let waiting = (Arc::clone(&self.pulse), cx.waker().clone());
                open.waiting.insert(self.key, waiting);
            }
        }
        self.waits = true;
        Poll::Pending
    }

    /// Whether the session is over, or not known to be going on.
    pub fn is_over(&self) -> bool {
        self.pulse.is_cut(self.streams.clock.now())
    }

    /// Whether the session is over for certain.
    pub fn has_ended(&self) -> bool {
        self.pulse.is_over(self.streams.clock.now())
    }

    /// Notes use of the session: the peer has sent something.
    pub fn note(&self) {
        self.pulse.note(self.streams.clock.now());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.waits {
            self.streams.open.borrow_mut().waiting.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::session::identity::Identity;
    use crate::session::live::Live;
    use crate::session::ports::Lease;
    use crate::session::record::tests::sample;

    #[tokio::test]
    async fn a_waiting_stream_is_woken_when_its_session_ends() {
        let clock = Clock::manual(UnixMs(0));
        let streams = Streams::new(clock.clone());
        let (record, _) = sample("u1", UnixMs(0));
        let live = Live::new(record, Identity::default(), 0, None, Lease::endless());
        let mut entry = streams.enter(Arc::clone(live.pulse()));
        let wait = poll_fn(|cx| entry.poll_over(cx, true));
        let end = async {
            tokio::task::yield_now().await;
            assert_eq!(streams.len(), 1);
            streams.sweep(clock.now());
            assert_eq!(streams.len(), 1, "a live session's stream stays");
            live.pulse().stop();
            streams.sweep(clock.now());
        };
        tokio::join!(wait, end);
        drop(entry);
        assert!(streams.is_empty());
    }

    #[tokio::test]
    async fn expiry_cuts_like_revocation() {
        let clock = Clock::manual(UnixMs(0));
        let streams = Streams::new(clock.clone());
        let (record, _) = sample("u1", UnixMs(0));
        let live = Live::new(record, Identity::default(), 0, None, Lease::endless());
        let mut entry = streams.enter(Arc::clone(live.pulse()));
        clock.advance(std::time::Duration::from_secs(3600));
        poll_fn(|cx| entry.poll_over(cx, true)).await;
    }
}
