//! Counts of failed logins: in memory, and in the file beside the sessions.
//!
//! Memory leads, so that guesses which come while the disk works are counted. A failure is answered when
//! it is on the disk; what makes a count smaller is written with the next change, or within about a second.
//! Places are not written: those who hold them end with the process.

use std::sync::Arc;

use super::Queue;
use super::batch::Op;
use super::writer::Health;
use crate::clock::UnixMs;
use crate::session::{
    BoxFuture, Count, Counted, CounterKey, CounterTable, Counters, Step, Stepped, StoreError,
};

/// The counters of the embedded store.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) table: Arc<CounterTable>,
    pub(super) queue: Arc<Queue>,
    pub(super) health: Arc<Health>,
}

impl Counters for Counts {
    /// Refused while the disk is: whoever guesses could not be counted.
    fn read<'a>(
        &'a self,
        key: &'a CounterKey,
    ) -> BoxFuture<'a, Result<(Count, UnixMs), StoreError>> {
        Box::pin(async { self.health.state().map(|()| self.table.get(key)) })
    }

    fn apply<'a>(
        &'a self,
        key: &'a CounterKey,
        step: Step,
    ) -> BoxFuture<'a, Result<(Count, UnixMs), StoreError>> {
        Box::pin(async move {
            let Stepped { before, now } = self.table.step(key, step);
            if step.counts() {
                self.queue.change(Op::Counted).await?;
            }
            Ok((before, now))
        })
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Counted, StoreError>> {
        self.table.list(limit)
    }

    fn forget<'a>(&'a self, key: &'a CounterKey) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let found = self.table.remove(key);
            if found {
                self.queue.change(Op::Counted).await?;
            }
            Ok(found)
        })
    }
}
