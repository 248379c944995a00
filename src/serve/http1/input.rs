//! Tells whether a client may have sent something.
//!
//! A connection's task is also woken by the app that answers; a read in vain each time would cost as
//! much as taking in a small request. So reads wait with a waker of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// What one connection's reads wait with.
pub(super) struct Input {
    signal: Arc<Signal>,
    waker: Waker,
    /// The task that is woken, as the signal knows it.
    task: Option<Waker>,
    /// The last read found nothing, and nobody has read since.
    waits: bool,
}

struct Signal {
    /// Something may have come since the last read.
    raised: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Input {
    pub(super) fn new() -> Self {
        let signal = Arc::new(Signal { raised: AtomicBool::new(false), task: Mutex::default() });
        let waker = Waker::from(Arc::clone(&signal));
        Self { signal, waker, task: None, waits: false }
    }

    /// The waker to read with, or `None` when there is nothing to be read yet: the task is woken then.
    pub(super) fn begin(&mut self, cx: &Context<'_>) -> Option<Waker> {
        let known = self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker()));
        if known && self.waits && !self.signal.raised.load(Ordering::Acquire) {
            return None;
        }
        if !known {
            self.task = Some(cx.waker().clone());
            *self.signal.task.lock().unwrap_or_else(PoisonError::into_inner) = self.task.clone();
        }
        self.signal.raised.store(false, Ordering::Release);
        Some(self.waker.clone())
    }

    /// What came of a read with that waker.
    pub(super) fn end<T>(&mut self, read: Poll<T>) -> Poll<T> {
        self.waits = read.is_pending();
        read
    }

    /// Somebody reads with another waker.
    pub(super) fn forget(&mut self) {
        self.waits = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn nothing_is_read_before_something_may_have_come() {
        let mut input = Input::new();
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&task);
        let waker = input.begin(&cx).unwrap();
        assert!(input.end(Poll::<()>::Pending).is_pending());
        assert!(input.begin(&cx).is_none());
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(input.begin(&cx).is_some());
        assert!(input.end(Poll::Ready(())).is_ready());
        // A read that gave something may have left more.
        assert!(input.begin(&cx).is_some());
    }

    #[test]
    fn another_task_and_another_reader_look_for_themselves() {
        let mut input = Input::new();
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (one, two) = (Waker::from(first), Waker::from(Arc::clone(&second)));
        let waker = input.begin(&Context::from_waker(&one)).unwrap();
        let _ = input.end(Poll::<()>::Pending);
        assert!(input.begin(&Context::from_waker(&two)).is_some());
        let _ = input.end(Poll::<()>::Pending);
        waker.wake_by_ref();
        assert_eq!(second.0.load(Ordering::SeqCst), 1);
        assert!(input.begin(&Context::from_waker(&two)).is_some());
        let _ = input.end(Poll::<()>::Pending);
        input.forget();
        assert!(input.begin(&Context::from_waker(&two)).is_some());
    }

    #[test]
    fn what_comes_during_a_read_is_not_lost() {
        let mut input = Input::new();
        let task = Waker::noop();
        let cx = Context::from_waker(task);
        let waker = input.begin(&cx).unwrap();
        waker.wake_by_ref();
        let _ = input.end(Poll::<()>::Pending);
        assert!(input.begin(&cx).is_some());
    }
}
