//! Telling connections of a worker to end, without a lock on the way of requests: all when the gateway stops,
//! those that have been idle longest when others wait to be let in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::sleep;

use crate::clock::UnixMs;

/// What has been idle for less is left alone: a client that is at work asks again within that.
const YOUNG: Duration = Duration::from_secs(1);
/// How long a client that is not yet served may take when the gateway stops.
const PARTING: Duration = Duration::from_secs(2);

/// One worker's sign; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Rc<State>);

#[derive(Debug, Default)]
struct State {
    stopping: Cell<bool>,
    /// The time to drain is over: what is still open is cut.
    halted: Cell<bool>,
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, (Waker, Rc<Idle>)>>,
    open: Cell<usize>,
    /// Connections that were told to give way and are still there.
    leaving: Cell<usize>,
}

/// Since when a connection has been idle, and whether it is to give way.
#[derive(Debug, Default)]
struct Idle {
    since: Cell<Option<UnixMs>>,
    unwanted: Cell<bool>,
    /// Whether it is among those that leave.
    leaving: Cell<bool>,
}

impl Stop {
    /// Gives the sign.
    pub(super) fn stop(&self) {
        self.0.stopping.set(true);
        let waiting = std::mem::take(&mut *self.0.waiting.borrow_mut());
        waiting.into_values().for_each(|(waker, _)| waker.wake());
    }

    /// Has connections give way, those first that have been idle longest, until up to `most` are about to leave; how
    /// many were told now.
    pub(super) fn shed(&self, most: usize, now: UnixMs) -> usize {
        let most = most.saturating_sub(self.0.leaving.get());
        if most == 0 {
            return 0;
        }
        let waiting = self.0.waiting.borrow();
        let age = |idle: &Idle| idle.since.get().filter(|since| now.since(*since) >= YOUNG);
        let mut idle: Vec<_> =
            waiting.values().filter_map(|(waker, idle)| Some((age(idle)?, waker, idle))).collect();
        if let Some(last) = most.checked_sub(1).filter(|last| *last < idle.len()) {
            idle.select_nth_unstable_by_key(last, |(since, ..)| *since);
        }
        idle.truncate(most);
        for (_, waker, idle) in &idle {
            idle.since.set(None);
            idle.unwanted.set(true);
            idle.leaving.set(true);
            waker.wake_by_ref();
        }
        self.0.leaving.set(self.0.leaving.get() + idle.len());
        idle.len()
    }

    /// From here on it is the gateway that ends connections.
    pub(super) fn halt(&self) {
        self.0.halted.set(true);
    }

    pub(super) fn is_halted(&self) -> bool {
        self.0.halted.get()
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
        Member { stop: self.clone(), key: state.next.get(), waits: false, idle: Rc::default() }
    }
}

/// A connection or tunnel; counts as open until dropped.
#[derive(Debug)]
pub struct Member {
    stop: Stop,
    key: u64,
    waits: bool,
    idle: Rc<Idle>,
}

impl Member {
    /// It has been idle since then, or is at work.
    pub(super) fn set_idle(&self, since: Option<UnixMs>) {
        self.idle.since.set(since);
        if self.idle.unwanted.take() {
            // Asked for something before it could leave.
            self.stays();
        }
    }

    /// Waits for what a client that is not yet served has to send, from `now` on; `None` when it is to give way: whoever
    /// says nothing must not keep others out, nor the gateway from ending.
    pub async fn wait<T>(&mut self, now: UnixMs, sent: impl Future<Output = T>) -> Option<T> {
        self.set_idle(Some(now));
        let mut sent = pin!(sent);
        // Made when the gateway stops: what is under way is finished.
        let mut parting = None;
        poll_fn(|cx| {
            if let Poll::Ready(sent) = sent.as_mut().poll(cx) {
                return Poll::Ready(Some(sent));
            }
            let is_over = self.poll(cx).is_ready()
                && parting
                    .get_or_insert_with(|| Box::pin(sleep(PARTING)))
                    .as_mut()
                    .poll(cx)
                    .is_ready();
            if is_over || self.gives_way() { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    /// It is about to end for a reason of its own: nobody need tell it to.
    pub(super) fn ends_anyway(&self) {
        self.idle.since.set(None);
    }

    fn stays(&self) {
        if self.idle.leaving.take() {
            let leaving = &self.stop.0.leaving;
            leaving.set(leaving.get().saturating_sub(1));
        }
    }

    /// Whether it is to give way; said once.
    pub(super) fn gives_way(&self) -> bool {
        self.idle.unwanted.take()
    }

    /// Ready once the sign is given. A task registers once; its waker stays the same.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.stop.is_stopping() {
            return Poll::Ready(());
        }
        if !self.waits {
            self.waits = true;
            let entry = (cx.waker().clone(), Rc::clone(&self.idle));
            self.stop.0.waiting.borrow_mut().insert(self.key, entry);
        }
        Poll::Pending
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stays();
        let state = &self.stop.0;
        state.open.set(state.open.get().saturating_sub(1));
        if self.waits {
            state.waiting.borrow_mut().remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_give_way() {
        let stop = Stop::default();
        let cx = &Context::from_waker(Waker::noop());
        let mut members: Vec<_> = (0..10).map(|_| stop.enter()).collect();
        for (number, member) in members.iter_mut().enumerate() {
            assert!(member.poll(cx).is_pending());
            // Every other one is at work; the first have been idle longest.
            let since = UnixMs(number as u64 * 100);
            member.set_idle((number % 2 == 0).then_some(since));
        }
        let now = UnixMs(1_500);
        let gone = |members: &[Member]| -> Vec<usize> {
            (0..10).filter(|number| members[*number].gives_way()).collect()
        };
        assert_eq!((stop.shed(2, now), gone(&members)), (2, vec![0, 2]));
        // Those that were told are not counted again; what has just become idle stays.
        assert_eq!((stop.shed(9, now), gone(&members)), (1, vec![4]));
        assert_eq!((stop.shed(9, UnixMs(9_000)), gone(&members)), (2, vec![6, 8]));
        assert_eq!((stop.shed(9, UnixMs(9_000)), stop.shed(0, UnixMs(9_000))), (0, 0));
        // So many are about to leave already.
        let member = members.swap_remove(1);
        member.set_idle(Some(UnixMs(0)));
        assert_eq!(stop.shed(5, now), 0);
        drop(members);
        assert_eq!((stop.shed(1, now), stop.shed(1, now)), (1, 0));
        // Who is asked for something in time goes on.
        member.set_idle(None);
        assert!(!member.gives_way());
        member.set_idle(Some(UnixMs(0)));
        assert_eq!(stop.shed(1, now), 1);
        member.set_idle(Some(UnixMs(0)));
        member.ends_anyway();
        assert_eq!(stop.shed(1, now), 0);
    }

    #[tokio::test]
    async fn who_says_nothing_gives_way() {
        let stop = Stop::default();
        let (mut silent, mut quick) = (stop.enter(), stop.enter());
        assert_eq!(quick.wait(UnixMs(0), async { 7 }).await, Some(7));
        drop(quick);
        let mut waiting = pin!(silent.wait(UnixMs(0), std::future::pending::<()>()));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(cx).is_pending());
        assert_eq!(stop.shed(9, UnixMs(900)), 0, "it may be about to speak");
        assert!(waiting.as_mut().poll(cx).is_pending());
        assert_eq!(stop.shed(9, UnixMs(1_000)), 1);
        assert_eq!(waiting.await, None);
    }
}
