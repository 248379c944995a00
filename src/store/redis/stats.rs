//! Counts what happens towards Redis.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{Failure, Trouble};

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Stats {
    troubles: [AtomicU64; Trouble::ALL.len()],
    told: AtomicU64,
    unreadable: AtomicU64,
}

impl Stats {
    /// Something went wrong.
    pub(super) fn failed(&self, failure: &Failure) {
        let trouble = Trouble::of(failure);
        if let Some(index) = Trouble::ALL.iter().position(|known| *known == trouble)
            && let Some(count) = self.troubles.get(index)
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The server told of a change.
    pub(super) fn told(&self) {
        self.told.fetch_add(1, Ordering::Relaxed);
    }

    /// A value was no record.
    pub(super) fn unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }
}
