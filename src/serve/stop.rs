//! Telling every connection of a worker that the gateway stops, without a lock on the way of requests.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// One worker's sign; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Rc<State>);

#[derive(Debug, Default)]
struct State {
    stopping: Cell<bool>,
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, Waker>>,
    open: Cell<usize>,
}

impl Stop {
    /// Gives the sign.
    pub(super) fn stop(&self) {
        self.0.stopping.set(true);
        let waiting = std::mem::take(&mut *self.0.waiting.borrow_mut());
        waiting.into_values().for_each(Waker::wake);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.stopping.get()
    }

    /// How many connections and tunnels are open.
    pub(super) fn open(&self) -> usize {
        self.0.open.get()
    }

    /// One more connection or tunnel.
    pub(super) fn enter(&self) -> Member {
        let state = &self.0;
        state.next.set(state.next.get() + 1);
        state.open.set(state.open.get() + 1);
        Member { stop: self.clone(), key: state.next.get(), waits: false }
    }
}

/// A connection or tunnel; counts as open until dropped.
#[derive(Debug)]
pub struct Member {
    stop: Stop,
    key: u64,
    waits: bool,
}

impl Member {
    /// Ready once the sign is given. A task registers once; its waker stays the same.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.stop.is_stopping() {
            return Poll::Ready(());
        }
        if !self.waits {
            self.waits = true;
            self.stop.0.waiting.borrow_mut().insert(self.key, cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let state = &self.stop.0;
        state.open.set(state.open.get().saturating_sub(1));
        if self.waits {
            state.waiting.borrow_mut().remove(&self.key);
        }
    }
}
