//! The Redis store: many nodes over one Redis or Valkey, standalone, with Sentinel, or a Cluster.
//!
//! One key per session, every change one atomic operation on it. Connections live on one thread of their
//! own (see `link`); workers hand commands over to it and wait for the answer on their own runtime.

mod backoff;
mod checkup;
mod cluster;
mod common;
mod connect;
mod error;
mod find;
mod keys;
mod link;
mod operations;
mod prove;
mod recent;
mod route;
mod script;
mod settings;
#[cfg(test)]
mod tests;
mod throttle;
mod value;

use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use redis::Pipeline;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::common::Common;
use self::operations::Inner;
use self::recent::Recent;
use self::route::Router;
use self::settings::Settings;
use super::{Open, OpenError};
use crate::clock::{Clock, UnixMs};
use crate::metrics::StoreMetrics;
use crate::secret::random;
use crate::section::{Problem, Section};
use crate::session::{
    BoxFuture, Counters, Leased, Record, Replaced, SessionId, Store, StoreError, StoreLink, Watcher,
};
use crate::threads;

/// Reads the settings of the `[store]` table.
pub(super) fn read(section: &mut Section) -> Arc<dyn Open> {
    Arc::new(Settings::read(section))
}

impl Open for Settings {
    fn open(&self, clock: Clock) -> Result<Arc<dyn Store>, OpenError> {
        let store = Redis::start(self, clock)?;
        Ok(Arc::new(store))
    }

    fn check(&self) -> Result<(), Problem> {
        self.dialer().map(drop)
    }
}

/// The store. Dropping it ends its thread.
#[derive(Debug)]
struct Redis {
    inner: Arc<Inner>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Redis {
    /// Starts the thread, which connects; does not wait for that.
    fn start(settings: &Settings, clock: Clock) -> Result<Self, OpenError> {
        let dialer = settings.dialer().map_err(|problem| OpenError::Failed {
            what: format!("{}: {}", problem.file.display(), problem.what),
            remedy: problem.remedy,
        })?;
        let sentinels = settings.sentinels(&dialer);
        let common = Arc::new(Common {
            dialer,
            keys: keys::Keys::new(&settings.prefix, &node()?),
            clock,
            timeout: settings.timeout,
            stale: settings.stale,
            watcher: OnceLock::new(),
            metrics: Arc::default(),
            astray: Notify::new(),
            back: Notify::new(),
            canaries: Mutex::default(),
        });
        let router = Router::new(&common, settings, sentinels);
        let inner =
            Arc::new(Inner { common, router, recent: Recent::default(), started: Instant::now() });
        let (stop, stopped) = oneshot::channel();
        let work = Arc::clone(&inner);
        let failed = |error: &dyn std::error::Error| OpenError::Failed {
            what: format!("cannot start the session store: {error}"),
            remedy: threads::REMEDY.to_owned(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(&error))?;
        let thread = threads::start("session-store", move || {
            runtime.block_on(async {
                tokio::select! {
                    () = work.run() => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { inner, stop: Some(stop), thread: Some(thread.map_err(|error| failed(&error))?) })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the session store has panicked");
        }
    }
}

impl Store for Redis {
    fn create(&self, record: Record) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.inner.count(self.inner.create(&record)).await })
    }

    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Leased>, StoreError>> {
        Box::pin(async move { self.inner.count(self.inner.load(id)).await })
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Replaced, StoreError>> {
        Box::pin(async move { self.inner.count(self.inner.replace(&record)).await })
    }

    fn end(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        Box::pin(async move { self.inner.count(self.inner.end(id)).await })
    }

    fn bury(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        Box::pin(async move { self.inner.count(self.inner.bury(record)).await })
    }

    fn touch(&self, seen: Vec<(SessionId, UnixMs)>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.inner.count(self.inner.touch(&seen)).await })
    }

    fn of_user<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        Box::pin(async move { self.inner.count(self.inner.of_user(user)).await })
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move { self.inner.count(self.inner.list(limit)).await })
    }

    fn users(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(async move { self.inner.count(self.inner.users()).await })
    }

    fn counters(&self) -> Arc<dyn Counters> {
        Arc::new(throttle::Counts::new(Arc::clone(&self.inner)))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { Ok(self.inner.router.ready(self.inner.deadline()).await?) })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn links(&self) -> Vec<StoreLink> {
        self.inner.router.links().iter().map(|link| link.state()).collect()
    }

    fn metrics(&self) -> Option<Arc<StoreMetrics>> {
        Some(Arc::clone(&self.inner.common.metrics))
    }

    fn watch(&self, watcher: Arc<dyn Watcher>) {
        if self.inner.common.watcher.set(watcher).is_err() {
            tracing::error!("the session store tells only one of changes");
        }
    }
}

/// A name for this process, which no other has.
fn node() -> Result<String, OpenError> {
    let number = random::<8>().map(u64::from_be_bytes).map_err(|error| OpenError::Failed {
        what: format!("the operating system gives no randomness: {error}"),
        remedy: "see to that first".to_owned(),
    })?;
    Ok(format!("{number:016x}"))
}

/// Several commands for one server.
fn pipeline(commands: Vec<redis::Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}
