//! Counters, gauges and histograms of the process, in OpenMetrics text.
//!
//! Counting is lock-free, allocation-free and local to a worker; adding up happens at the scrape.
//! Label values are the program's or the configuration's, never a client's.

mod cells;
mod collect;
mod label;
mod process;
mod store;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use self::cells::Table;
use self::collect::{Gateway, Process};
use self::label::Label;
pub use self::label::{
    HandshakeFailure, Lookup, OpenKind, Reload, RequestKind, StoreFailure, UpstreamOutcome, Watch,
};
pub use self::store::StoreMetrics;
pub use self::worker::{Open, UpstreamMetrics, WorkerMetrics};
use crate::clock::{Clock, UnixMs};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of the process; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    state: Arc<State>,
    registry: Arc<Registry>,
}

impl Metrics {
    /// Metrics that start at zero now; `version` is shown as build information.
    pub fn new(clock: Clock, version: &'static str) -> Self {
        let state = Arc::new(State::new(clock, version));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process(Arc::clone(&state))));
        registry
            .sub_registry_with_prefix("portcullis")
            .register_collector(Box::new(Gateway(Arc::clone(&state))));
        Self { state, registry: Arc::new(registry) }
    }

    /// Cells for one more worker. They are added up for as long as the process lives.
    pub fn worker(&self) -> Arc<WorkerMetrics> {
        let worker = Arc::new(WorkerMetrics::default());
        let mut workers = self.state.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push(Arc::clone(&worker));
        worker
    }

    /// Asks `read` at each scrape for pairs of label value and value, or for one pair with an empty
    /// label. A second call for the same `what` replaces the first. `read` must be quick, must not
    /// block, and must not call back into these metrics. Of several values with the same label, the
    /// smallest is shown.
    pub fn watch(
        &self,
        what: Watch,
        read: impl Fn() -> Vec<(String, u64)> + Send + Sync + 'static,
    ) {
        let mut watches = self.state.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = watches.get_mut(what.index()) {
            *watch = Some(Box::new(read));
        }
    }

    /// Like [`Metrics::watch`], for a value without a label.
    pub fn watch_value(&self, what: Watch, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.watch(what, move || vec![(String::new(), read())]);
    }

    /// Shows what this store counts.
    pub fn store(&self, store: Arc<StoreMetrics>) {
        *self.state.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
    }

    /// Something was read (the first time, or again) and is in use since now.
    pub fn reload_accepted(&self, what: Reload) {
        self.state.accepted.add(what);
        if let Some(last) = self.state.last_accepted.get(what.index()) {
            last.store(self.state.clock.now().0, Ordering::Relaxed);
        }
    }

    /// A new state was refused; the old one stays in use.
    pub fn reload_refused(&self, what: Reload) {
        self.state.refused.add(what);
    }

    /// The whole exposition, ending with `# EOF`.
    ///
    /// # Errors
    /// When a metric cannot be written as text: a mistake in this module.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 << 10);
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

type Read = Box<dyn Fn() -> Vec<(String, u64)> + Send + Sync>;

/// What the collectors read.
struct State {
    clock: Clock,
    version: &'static str,
    started: UnixMs,
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
    watches: Mutex<[Option<Read>; Watch::COUNT]>,
    store: Mutex<Option<Arc<StoreMetrics>>>,
    accepted: Table<Reload, { Reload::COUNT }>,
    refused: Table<Reload, { Reload::COUNT }>,
    /// In milliseconds since the epoch; 0 is never.
    last_accepted: [AtomicU64; Reload::COUNT],
}

impl State {
    fn new(clock: Clock, version: &'static str) -> Self {
        Self {
            started: clock.now(),
            clock,
            version,
            workers: Mutex::default(),
            watches: Mutex::default(),
            store: Mutex::default(),
            accepted: Table::default(),
            refused: Table::default(),
            last_accepted: Default::default(),
        }
    }

    fn workers(&self) -> Vec<Arc<WorkerMetrics>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When `what` was last accepted; `None` when it never was.
    fn last_accepted(&self, what: Reload) -> Option<UnixMs> {
        let at = self.last_accepted.get(what.index())?.load(Ordering::Relaxed);
        (at > 0).then_some(UnixMs(at))
    }

    /// The values of `what` by label; `None` when nobody gives them.
    fn watched(&self, what: Watch) -> Option<BTreeMap<String, u64>> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let read = watches.get(what.index())?.as_ref()?;
        let mut values = BTreeMap::new();
        for (label, value) in read() {
            let kept = values.entry(label).or_insert(value);
            *kept = value.min(*kept);
        }
        Some(values)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("started", &self.started).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
