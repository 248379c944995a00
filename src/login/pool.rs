//! A few threads for slow work, with a bounded queue in front: full means "not now", at once.
//!
//! Knows nothing of the work.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::threads;

type Job = Box<dyn FnOnce() + Send>;

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The threads; they end with their queue's last job after the pool is dropped.
pub(super) struct Pool(SyncSender<Job>);

impl Pool {
    /// Starts `threads` threads behind a queue of `queue` jobs.
    pub(super) fn start(threads: usize, queue: usize) -> io::Result<Self> {
        let (sender, receiver) = sync_channel::<Job>(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..threads {
            let receiver = Arc::clone(&receiver);
            threads::start(format!("password-{number}"), move || {
                give_way();
                while step(&receiver) {}
            })?;
        }
        Ok(Self(sender))
    }

    /// Queues `job`.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Full> {
        self.0.try_send(Box::new(job)).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Full,
        })
    }
}

/// Lets other threads run first: work that takes tens of milliseconds must not hold up requests that take less than
/// one. Not at the lowest priority, which is less than a hundredth of a core while others want it all: nobody could
/// sign in for as long as the machine is busy. On Linux, a nice value is the thread's own (nice(2)).
fn give_way() {
    const BEHIND: i32 = 10;
    if let Err(error) = rustix::process::nice(BEHIND) {
        tracing::debug!(%error, "the password pool keeps its priority");
    }
}

/// Waits for a job and does it; false when there will be none any more.
fn step(receiver: &Mutex<Receiver<Job>>) -> bool {
    // Only the wait is under the lock: the next thread waits while this one works.
    let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let Ok(job) = job else { return false };
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        tracing::error!("a job of the password pool panicked");
    }
    true
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_full_queue_refuses_and_recovers() {
        let pool = Pool::start(1, 1).unwrap();
        let (started, wait_started) = channel();
        let (go, wait_go) = channel::<()>();
        pool.submit(move || {
            started.send(()).unwrap();
            wait_go.recv().unwrap();
        })
        .unwrap();
        wait_started.recv().unwrap();
        let (done, wait_done) = channel();
        pool.submit(move || done.send(()).unwrap()).unwrap();
        assert_eq!(pool.submit(|| {}), Err(Full));
        go.send(()).unwrap();
        wait_done.recv().unwrap();
        let (done, wait_done) = channel();
        pool.submit(move || done.send(()).unwrap()).unwrap();
        wait_done.recv().unwrap();
    }

    #[test]
    fn a_panic_costs_one_job_only() {
        let pool = Pool::start(1, 4).unwrap();
        pool.submit(|| panic!("on purpose")).unwrap();
        let (done, wait_done) = channel();
        pool.submit(move || done.send(()).unwrap()).unwrap();
        wait_done.recv().unwrap();
    }
}
