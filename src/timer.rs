//! Coarse deadlines of one worker: a cell write to arm or to push back, no timer wheel, no lock.
//!
//! Deadlines fire at the worker's next tick after their time (see [`TICK`]): right for time-outs of
//! seconds, wrong for pacing.

use std::cell::{Cell, RefCell};
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};

use crate::clock::{Clock, UnixMs};

/// How often a worker calls [`Timer::tick`].
pub const TICK: Duration = Duration::from_millis(100);

/// One worker's deadlines; cheap to clone.
#[derive(Clone, Debug)]
pub struct Timer {
    clock: Clock,
    now: Rc<Cell<UnixMs>>,
    slots: Rc<RefCell<Slots>>,
}

#[derive(Debug, Default)]
struct Slots {
    armed: Vec<Option<(UnixMs, Waker)>>,
    free: Vec<usize>,
}

impl Timer {
    /// A timer without deadlines.
    pub fn new(clock: Clock) -> Self {
        let now = Rc::new(Cell::new(clock.now()));
        Self { clock, now, slots: Rc::default() }
    }

    /// The time of the last tick.
    pub fn now(&self) -> UnixMs {
        self.now.get()
    }

    /// Wakes what is due.
    pub fn tick(&self) {
        let now = self.clock.now();
        self.now.set(now);
        let mut due = Vec::new();
        for place in &mut self.slots.borrow_mut().armed {
            // Taken: a deadline that nobody waits for any more wakes its task once, not at every tick.
            if place.as_ref().is_some_and(|(at, _)| *at <= now)
                && let Some((_, waker)) = place.take()
            {
                due.push(waker);
            }
        }
        due.into_iter().for_each(Waker::wake);
    }

    /// A deadline `after` from now.
    pub fn deadline(&self, after: Duration) -> Deadline {
        Deadline { timer: self.clone(), after, at: self.now().plus(after), slot: None }
    }
}

/// What tells a worker that another [`TICK`] has passed.
///
/// A descriptor in place of one of the runtime's timers: while there are none of those, the runtime
/// neither asks for the time nor has the kernel wake it up, each time that it waits for sockets.
#[derive(Debug)]
pub struct Ticks {
    #[cfg(target_os = "linux")]
    timer: AsyncFd<OwnedFd>,
    #[cfg(not(target_os = "linux"))]
    timer: tokio::time::Interval,
}

#[cfg(target_os = "linux")]
impl Ticks {
    /// Ticks from now on; inside a runtime.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn start() -> io::Result<Self> {
        use rustix::time::{
            Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
            timerfd_settime,
        };
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let every = Timespec::try_from(TICK).map_err(io::Error::other)?;
        let times = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        #[expect(deprecated, reason = "unsound only for what does not own its descriptor")]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Self { timer })
    }

    /// Waits for the next tick; several that have passed are one.
    ///
    /// # Errors
    /// When the descriptor fails, which none does.
    pub async fn next(&mut self) -> io::Result<()> {
        let read = |timer: &OwnedFd| Ok(rustix::io::read(timer, &mut [0; 8])?);
        self.timer.async_io(Interest::READABLE, read).await.map(drop)
    }
}

#[cfg(not(target_os = "linux"))]
impl Ticks {
    /// Ticks from now on; inside a runtime.
    ///
    /// # Errors
    /// None.
    pub fn start() -> io::Result<Self> {
        let mut timer = tokio::time::interval(TICK);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Ok(Self { timer })
    }

    /// Waits for the next tick; several that have passed are one.
    ///
    /// # Errors
    /// None.
    pub async fn next(&mut self) -> io::Result<()> {
        self.timer.tick().await;
        Ok(())
    }
}

/// A point in time that can be waited for and pushed back.
#[derive(Debug)]
pub struct Deadline {
    timer: Timer,
    after: Duration,
    at: UnixMs,
    slot: Option<usize>,
}

impl Deadline {
    /// Starts the waiting anew.
    pub fn push_back(&mut self) {
        self.at = self.timer.now().plus(self.after);
    }

    /// Starts anew with another time.
    pub fn reset(&mut self, after: Duration) {
        self.after = after;
        self.push_back();
    }

    /// Wakes nobody until it is polled again.
    pub fn disarm(&self) {
        let slots = &mut *self.timer.slots.borrow_mut();
        if let Some(place) = self.slot.and_then(|slot| slots.armed.get_mut(slot)) {
            *place = None;
        }
    }

    /// Ready once the time has come.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.at <= self.timer.now() {
            return Poll::Ready(());
        }
        let slots = &mut *self.timer.slots.borrow_mut();
        let entry = Some((self.at, cx.waker().clone()));
        match self.slot.and_then(|slot| slots.armed.get_mut(slot)) {
            Some(place) => *place = entry,
            None => {
                let slot = slots.free.pop().unwrap_or(slots.armed.len());
                match slots.armed.get_mut(slot) {
                    Some(place) => *place = entry,
                    None => slots.armed.push(entry),
                }
                self.slot = Some(slot);
            }
        }
        Poll::Pending
    }

    /// Waits for `work`; `None` when the deadline comes first.
    pub async fn limit<F: Future>(&mut self, work: F) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(cx).map(|()| None),
        })
        .await
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let slots = &mut *self.timer.slots.borrow_mut();
        if let Some(place) = slots.armed.get_mut(slot) {
            *place = None;
            slots.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_fires_at_the_tick_after_its_time() {
        let clock = Clock::manual(UnixMs(0));
        let timer = Timer::new(clock.clone());
        let mut deadline = timer.deadline(Duration::from_secs(1));
        let ticks = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
                clock.advance(Duration::from_millis(400));
                timer.tick();
            }
        };
        let (limited, ()) = tokio::join!(deadline.limit(std::future::pending::<()>()), ticks);
        assert_eq!(limited, None);
        deadline.push_back();
        assert_eq!(deadline.limit(async { 7 }).await, Some(7));
    }

    #[tokio::test]
    async fn ticks_come_again_and_again() {
        let begun = std::time::Instant::now();
        let mut ticks = Ticks::start().unwrap();
        for _ in 0..3 {
            ticks.next().await.unwrap();
        }
        assert!(begun.elapsed() >= TICK * 2, "several at once");
    }

    #[tokio::test]
    async fn slots_are_used_again() {
        let timer = Timer::new(Clock::manual(UnixMs(0)));
        for _ in 0..100 {
            let mut deadline = timer.deadline(Duration::from_secs(1));
            let pending = std::future::poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await;
            assert!(pending.is_pending());
        }
        assert_eq!(timer.slots.borrow().armed.len(), 1);
    }
}
