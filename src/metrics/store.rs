//! Cells of a session store that others share.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cells::{Durations, Histogram, Table};
use super::label::{Label, StoreFailure};

/// What a store counts; shown once [`super::Metrics::store`] knows of it.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    waits: Histogram,
    lags: Histogram,
    failures: Table<StoreFailure, { StoreFailure::COUNT }>,
    invalidations: AtomicU64,
    unreadable: AtomicU64,
}

impl StoreMetrics {
    /// An operation took this many microseconds, however it ended.
    pub fn waited(&self, micros: u64) {
        self.waits.observe(micros);
    }

    /// It took this many microseconds until the store told of a change.
    pub fn lagged(&self, micros: u64) {
        self.lags.observe(micros);
    }

    /// Something went wrong.
    pub fn failed(&self, failure: StoreFailure) {
        self.failures.add(failure);
    }

    /// The store told of a change to a session.
    pub fn invalidated(&self) {
        self.invalidations.fetch_add(1, Ordering::Relaxed);
    }

    /// A stored session could not be read.
    pub fn unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn waits(&self) -> Durations {
        total(&self.waits)
    }

    pub(super) fn lags(&self) -> Durations {
        total(&self.lags)
    }

    pub(super) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        StoreFailure::ALL.iter().map(|failure| (failure.text(), self.failures.read(*failure)))
    }

    pub(super) fn invalidations(&self) -> u64 {
        self.invalidations.load(Ordering::Relaxed)
    }

    pub(super) fn unreadable_count(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }
}

fn total(histogram: &Histogram) -> Durations {
    let mut total = Durations::default();
    total.add(histogram);
    total
}
