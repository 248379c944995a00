//! Follows what other nodes do to sessions: what changed is read again, and streams whose session is gone
//! are cut.
//!
//! Sessions that nothing runs under are read at their next request. Decides nothing about sessions.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::authority::Authority;
use super::cache::Cache;
use super::ports::Watcher;
use super::token::SessionId;
use crate::clock::Clock;

/// For how long a session may go on without a proof, until it is read again.
pub(super) const GRACE: Duration = Duration::from_millis(800);
/// Sessions that wait to be read; with one more, all are looked at.
const QUEUE: usize = 4096;
/// Sessions that are read at once.
const TOGETHER: usize = 64;
/// How long to wait when the store does not answer.
const PAUSE: Duration = Duration::from_millis(50);

/// What the store tells of, for [`Authority::tend`] to see to.
#[derive(Debug)]
pub(super) struct Follower {
    cache: Arc<Cache>,
    clock: Clock,
    changed: mpsc::Sender<SessionId>,
    /// Taken by the one that tends.
    queue: Mutex<Option<mpsc::Receiver<SessionId>>>,
    /// Whether all sessions in use are to be looked at.
    all: AtomicBool,
    wake: Notify,
}

impl Follower {
    pub(super) fn new(cache: Arc<Cache>, clock: Clock) -> Self {
        let (changed, queue) = mpsc::channel(QUEUE);
        let queue = Mutex::new(Some(queue));
        Self { cache, clock, changed, queue, all: AtomicBool::new(false), wake: Notify::new() }
    }

    fn look_at_all(&self) {
        self.all.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

impl Watcher for Follower {
    fn changed(&self, id: SessionId) {
        let in_use = self.cache.question(id, self.clock.now().plus(GRACE));
        if in_use && self.changed.try_send(id).is_err() {
            self.look_at_all();
        }
    }

    fn flushed(&self) {
        self.cache.question_all(self.clock.now().plus(GRACE));
        self.look_at_all();
    }

    fn reconnected(&self) {
        self.look_at_all();
    }
}

impl Authority {
    /// Writes last uses, drops what is over, and follows what other nodes do, until the future is
    /// dropped. Runs once for each process that serves.
    pub async fn tend(self: Arc<Self>) {
        let queue = self.follower.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(queue) = queue else { return };
        let keep = async {
            let mut ticks = interval(self.upkeep_period());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.upkeep().await;
            }
        };
        tokio::join!(keep, self.follow(queue));
    }

    async fn follow(self: &Arc<Self>, mut queue: mpsc::Receiver<SessionId>) {
        let mut pending = HashSet::new();
        loop {
            if pending.is_empty() {
                tokio::select! {
                    id = queue.recv() => pending.extend(id),
                    () = self.follower.wake.notified() => {}
                }
            }
            if self.follower.all.swap(false, Ordering::AcqRel) {
                pending.extend(self.cache.doubtful(self.clock.now()));
            }
            while pending.len() < QUEUE
                && let Ok(id) = queue.try_recv()
            {
                pending.insert(id);
            }
            if !self.read_again(&mut pending).await {
                self.recover().await;
            }
        }
    }

    /// Reads these sessions; those stay of which the store did not tell. Whether it told of all.
    async fn read_again(self: &Arc<Self>, pending: &mut HashSet<SessionId>) -> bool {
        let ids: Vec<_> = pending.iter().copied().collect();
        for some in ids.chunks(TOGETHER) {
            let mut reads = JoinSet::new();
            for id in some.iter().copied() {
                let core = Arc::clone(self);
                reads.spawn(async move { (id, core.read(id).await.is_ok()) });
            }
            let mut all = true;
            while let Some(read) = reads.join_next().await {
                match read {
                    Ok((id, true)) => drop(pending.remove(&id)),
                    _ => all = false,
                }
            }
            if !all {
                return false;
            }
        }
        true
    }

    /// Waits until the store answers again.
    async fn recover(&self) {
        loop {
            sleep(PAUSE).await;
            if self.store.ready().await.is_ok() {
                return;
            }
        }
    }
}
