//! Wakers that say what of a connection has something to do.
//!
//! All requests of a connection run in its one task. With the task's own waker, whatever woke it would
//! have everything looked at: each request in progress, the frames, the socket.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// A part of a connection that can have something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part(u8);

impl Part {
    /// Frames are to be sent, or were waited for.
    pub(super) const FRAMES: Self = Self(1);
    /// The socket may have something to read.
    pub(super) const INPUT: Self = Self(1 << 1);
    /// Streams that were waiting for something.
    pub(super) const STREAMS: Self = Self(1 << 2);
    /// What keeps the connection alive.
    pub(super) const KEEP_ALIVE: Self = Self(1 << 3);
}

/// Set while the task is being polled: it will look once more before it rests.
const POLLING: u8 = 1 << 7;

/// What the wakers of a connection share with its task.
#[derive(Debug)]
pub(super) struct Signals {
    raised: AtomicU8,
    task: Mutex<Option<Waker>>,
    /// Streams that were woken, each once.
    woken: Mutex<Vec<usize>>,
}

impl Signals {
    /// Nothing is raised.
    pub(super) fn new() -> Arc<Self> {
        let raised = AtomicU8::new(0);
        Arc::new(Self { raised, task: Mutex::default(), woken: Mutex::default() })
    }

    /// The task begins to look.
    pub(super) fn begin(&self, task: &Waker) {
        let known = &mut *lock(&self.task);
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
        self.raised.fetch_or(POLLING, Ordering::AcqRel);
    }

    /// Whether `part` was raised since the last look at it.
    pub(super) fn take(&self, part: Part) -> bool {
        self.raised.load(Ordering::Relaxed) & part.0 != 0
            && self.raised.fetch_and(!part.0, Ordering::AcqRel) & part.0 != 0
    }

    /// Whether the task may rest: nothing was raised since the last look.
    pub(super) fn rest(&self) -> bool {
        self.raised.compare_exchange(POLLING, 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Ends looking, although something was raised: others get their turn first.
    pub(super) fn pause(&self, task: &Waker) {
        self.raised.fetch_and(!POLLING, Ordering::AcqRel);
        task.wake_by_ref();
    }

    /// Streams that were woken, into `into`, which is empty.
    pub(super) fn take_woken(&self, into: &mut Vec<usize>) {
        std::mem::swap(&mut *lock(&self.woken), into);
    }

    /// A waker that raises `part`.
    pub(super) fn waker(self: &Arc<Self>, part: Part) -> Waker {
        Waker::from(Arc::new(PartWaker { signals: Arc::clone(self), part }))
    }

    /// `part` has something to do.
    pub(super) fn raise(&self, part: Part) {
        // With anything raised before, the task is woken already or will look again by itself.
        if self.raised.fetch_or(part.0, Ordering::AcqRel) == 0
            && let Some(task) = &*lock(&self.task)
        {
            task.wake_by_ref();
        }
    }
}

/// What another thread left behind in a panic is whole: nothing here panics half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct PartWaker {
    signals: Arc<Signals>,
    part: Part,
}

impl Wake for PartWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.signals.raise(self.part);
    }
}

/// The waker of one stream after the other that has this place.
#[derive(Debug)]
pub(super) struct StreamWaker {
    signals: Arc<Signals>,
    place: usize,
    /// Whether the place is among those that were woken.
    woken: AtomicBool,
}

impl StreamWaker {
    pub(super) fn new(signals: &Arc<Signals>, place: usize) -> Arc<Self> {
        Arc::new(Self { signals: Arc::clone(signals), place, woken: AtomicBool::new(false) })
    }

    /// The place was taken from those that were woken.
    pub(super) fn reset(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Whether the place is among those that were woken.
    pub(super) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            lock(&self.signals.woken).push(self.place);
            self.signals.raise(Part::STREAMS);
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
    fn the_task_is_woken_once_and_not_while_it_looks() {
        let (signals, count) = (Signals::new(), Arc::new(Count::default()));
        let task = Waker::from(Arc::clone(&count));
        let woken = || count.0.load(Ordering::SeqCst);
        signals.begin(&task);
        assert!(signals.rest());
        let (frames, input) = (signals.waker(Part::FRAMES), signals.waker(Part::INPUT));
        frames.wake_by_ref();
        frames.wake_by_ref();
        input.wake_by_ref();
        assert_eq!(woken(), 1);
        signals.begin(&task);
        assert!(signals.take(Part::FRAMES));
        assert!(!signals.take(Part::FRAMES));
        assert!(!signals.rest(), "input was not looked at");
        frames.wake_by_ref();
        assert_eq!(woken(), 1);
        assert!(signals.take(Part::FRAMES) && signals.take(Part::INPUT));
        assert!(!signals.take(Part::STREAMS));
        assert!(signals.rest());
        frames.wake_by_ref();
        assert_eq!(woken(), 2);
    }

    #[test]
    fn what_is_left_after_a_pause_is_seen() {
        let (signals, count) = (Signals::new(), Arc::new(Count::default()));
        let task = Waker::from(Arc::clone(&count));
        signals.begin(&task);
        signals.raise(Part::STREAMS);
        signals.pause(&task);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        signals.begin(&task);
        assert!(signals.take(Part::STREAMS));
    }

    #[test]
    fn no_signal_of_another_thread_is_lost() {
        const ROUNDS: usize = 10_000;
        let (signals, count) = (Signals::new(), Arc::new(Count::default()));
        let task = Waker::from(Arc::clone(&count));
        let frames = signals.waker(Part::FRAMES);
        let seen = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    frames.wake_by_ref();
                    while seen.load(Ordering::SeqCst) <= round {
                        std::hint::spin_loop();
                    }
                }
            });
            // Looks once at the start and then only when it was woken.
            let mut polls = 0;
            let mut due = true;
            while seen.load(Ordering::SeqCst) < ROUNDS {
                let woken = count.0.load(Ordering::SeqCst);
                if !due && woken == polls {
                    std::thread::yield_now();
                    continue;
                }
                (due, polls) = (false, woken);
                signals.begin(&task);
                loop {
                    if signals.take(Part::FRAMES) {
                        seen.fetch_add(1, Ordering::SeqCst);
                    }
                    if signals.rest() {
                        break;
                    }
                }
            }
        });
    }
}
