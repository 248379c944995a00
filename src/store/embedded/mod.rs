//! The embedded store: all sessions in memory, every change in one file, for one machine.
//!
//! Reads never touch the disk. One thread owns the file (see `writer`); a change is answered when it
//! is on the disk, and many changes share one write. What memory shows is always what the disk
//! holds, but for the last uses of the last second, and sessions that are just about to end.
//! A session takes about 1 KiB of memory and 1.5 KiB of disk.

mod batch;
mod counts;
mod disk;
mod home;
mod memory;
#[cfg(test)]
mod tests;
mod writer;

use std::future::ready;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use self::batch::Op;
use self::counts::Counts;
use self::disk::Disk;
use self::memory::{Memory, lock};
use self::writer::{Health, Writer};
use super::{Open, OpenError};
use crate::clock::{Clock, UnixMs};
use crate::section::Section;
use crate::session::{
    BoxFuture, CounterTable, Counters, Lease, Leased, Record, Replaced, SessionId, Store,
    StoreError,
};
use crate::threads;

/// Changes that wait for the writer; one more is refused at once.
const QUEUE: usize = 8192;

/// Settings of the embedded store.
#[derive(Debug)]
struct Settings {
    /// Directory of the file.
    path: PathBuf,
    /// Bound on sessions.
    max_sessions: u64,
}

/// Reads the settings of the `[store]` table.
pub(super) fn read(section: &mut Section) -> Arc<dyn Open> {
    let path = section.path("path").unwrap_or_else(|| section.base().join("data"));
    let max_sessions = section.count("max_sessions", 1_000_000, 1..=100_000_000);
    Arc::new(Settings { path, max_sessions })
}

impl Open for Settings {
    fn open(&self, clock: Clock) -> Result<Arc<dyn Store>, OpenError> {
        let disk = Disk::open(&self.path)?;
        let store = Embedded::start(disk, clock, self.max_sessions, writer::TICK);
        Ok(Arc::new(store.map_err(|error| disk::refused(&self.path, &error))?))
    }

    fn missing(&self) -> Option<PathBuf> {
        let file = self.path.join(home::FILE);
        // One that may not be looked at is for `open` to tell of.
        matches!(file.try_exists(), Ok(false)).then_some(file)
    }
}

/// The store. Dropping it writes what is still owed and closes the file.
#[derive(Debug)]
struct Embedded {
    memory: Arc<Memory>,
    counts: Arc<CounterTable>,
    health: Arc<Health>,
    clock: Clock,
    /// Endless.
    lease: Lease,
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Loads what `disk` holds and starts the writer.
    fn start(
        mut disk: Disk,
        clock: Clock,
        max_sessions: u64,
        tick: Duration,
    ) -> Result<Self, disk::DiskError> {
        let (memory, health) = (Arc::new(Memory::new()), Arc::new(Health::default()));
        let now = clock.now();
        let (expired, unreadable) = disk.load(|record| {
            let live = record.ends() > now;
            if live {
                memory.put(record);
            }
            live
        })?;
        let counts = Arc::new(CounterTable::noting_changes(clock.clone()));
        disk.load_counts(|key, count| counts.load(key, count))?;
        tracing::info!(sessions = memory.len(), expired, unreadable, "session store is open");
        let (queue, ops) = sync_channel(QUEUE);
        let writer = Writer::new(
            disk,
            Arc::clone(&memory),
            Arc::clone(&counts),
            Arc::clone(&health),
            clock.clone(),
            max_sessions,
        );
        let writer = threads::start("session-store", move || writer.run(&ops, tick))
            .map_err(disk::DiskError::NoThread)?;
        let lease = Lease::endless();
        let queue = Arc::new(Queue(Mutex::new(Some(queue))));
        Ok(Self { memory, counts, health, clock, lease, queue, writer: Some(writer) })
    }

    fn send(&self, op: Op) -> Result<(), StoreError> {
        self.queue.send(op)
    }

    async fn change<T>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Op,
    ) -> Result<T, StoreError> {
        self.queue.change(op).await
    }
}

/// The way to the writer. Taken when the store is dropped: its end is the writer's sign to finish.
#[derive(Debug)]
struct Queue(Mutex<Option<SyncSender<Op>>>);

impl Queue {
    fn send(&self, op: Op) -> Result<(), StoreError> {
        let queue = lock(&self.0);
        let Some(queue) = &*queue else { return Err(stopped()) };
        queue.try_send(op).map_err(|error| match error {
            TrySendError::Full(_) => unavailable("too many changes wait for the disk"),
            TrySendError::Disconnected(_) => stopped(),
        })
    }

    async fn change<T>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Op,
    ) -> Result<T, StoreError> {
        let (ack, answer) = oneshot::channel();
        self.send(op(ack))?;
        wait(answer).await
    }
}

impl Store for Embedded {
    fn create(&self, record: Record) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.change(|ack| Op::Create(Box::new(record), ack)))
    }

    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Leased>, StoreError>> {
        let found = self.memory.visible(id).map(Arc::unwrap_or_clone);
        Box::pin(ready(Ok(found.map(|record| Leased { record, lease: self.lease.clone() }))))
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Replaced, StoreError>> {
        Box::pin(self.change(|ack| Op::Replace(Box::new(record), ack)))
    }

    /// The session is refused from the call on, before the disk has answered; when the disk refuses,
    /// it is back, since the caller is told that nothing has changed.
    fn end(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        Box::pin(async move {
            let (ack, answer) = oneshot::channel();
            self.memory.hide(id);
            if let Err(error) = self.send(Op::End(id, ack)) {
                self.memory.unhide(id);
                return Err(error);
            }
            wait(answer).await
        })
    }

    fn bury(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        Box::pin(self.change(|ack| Op::Bury(Box::new(record), ack)))
    }

    /// Visible at once; on the disk with the next change, or within about a second.
    fn touch(&self, seen: Vec<(SessionId, UnixMs)>) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut moved = seen;
        moved.retain(|(id, at)| self.memory.touch(*id, *at));
        let sent = if moved.is_empty() {
            Ok(())
        } else {
            self.send(Op::Touched(moved.into_iter().map(|(id, _)| id).collect()))
        };
        Box::pin(ready(sent))
    }

    fn of_user<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        Box::pin(ready(Ok(self.memory.of_user(user, self.clock.now()))))
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(ready(Ok(self.memory.list(limit, self.clock.now()))))
    }

    fn users(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(ready(Ok(self.memory.users())))
    }

    fn counters(&self) -> Arc<dyn Counters> {
        let (table, queue) = (Arc::clone(&self.counts), Arc::clone(&self.queue));
        Arc::new(Counts { table, queue, health: Arc::clone(&self.health) })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        let alive = self.writer.as_ref().is_some_and(|writer| !writer.is_finished());
        Box::pin(ready(if alive { self.health.state() } else { Err(stopped()) }))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(lock(&self.queue.0).take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the session store has panicked");
        }
    }
}

async fn wait<T>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.await.unwrap_or_else(|_| Err(stopped()))
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.to_owned())
}

fn stopped() -> StoreError {
    unavailable("its writer has stopped")
}
