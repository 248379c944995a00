//! What all links of a store share, and what servers tell without being asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use super::connect::Dialer;
use super::keys::Keys;
use crate::clock::Clock;
use crate::metrics::StoreMetrics;
use crate::session::Watcher;

/// Masters whose lag is measured at once.
const MASTERS: usize = 512;

/// What all links of a store share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) dialer: Dialer,
    pub(super) keys: Keys,
    pub(super) clock: Clock,
    /// Limit on an operation.
    pub(super) timeout: Duration,
    /// For how long after the last proof what is cached is served.
    pub(super) stale: Duration,
    pub(super) watcher: OnceLock<Arc<dyn Watcher>>,
    pub(super) metrics: Arc<StoreMetrics>,
    /// A link was lost, or a server said that it is not the one to ask.
    pub(super) astray: Notify,
    /// A link has come back.
    pub(super) back: Notify,
    /// When keys were changed to see how long it takes until that is told, in microseconds.
    pub(super) canaries: Mutex<HashMap<Vec<u8>, u64>>,
}

impl Common {
    /// Takes what the server told, before the answers that follow it.
    pub(super) fn told(&self, info: &PushInfo) {
        if info.kind != PushKind::Invalidate {
            return;
        }
        let Some(watcher) = self.watcher.get() else { return };
        match info.data.first() {
            Some(Value::Array(keys)) => {
                for key in keys {
                    let Value::BulkString(key) = key else { continue };
                    if let Some(id) = self.keys.session_of(key) {
                        self.metrics.invalidated();
                        watcher.changed(id);
                    } else {
                        self.canary_told(key);
                    }
                }
            }
            // Everything was emptied.
            _ => watcher.flushed(),
        }
    }

    /// A key holds a value of another type than ours: says so, and what comes of it.
    pub(super) fn mistyped(&self, key: &str, outcome: &str) {
        self.metrics.unreadable();
        tracing::error!(key, "a key in Redis holds a value of another type: {outcome}");
    }

    /// As [`Common::mistyped`], for one that is only read.
    pub(super) fn skipped(&self, key: &str) {
        self.mistyped(key, &format!("it counts as none; delete it (in redis-cli: DEL {key:?})"));
    }

    pub(super) fn canary_sent(&self, key: Vec<u8>) {
        let mut sent = self.canaries.lock().unwrap_or_else(PoisonError::into_inner);
        // One for each link; those of links that are gone must not add up.
        if sent.len() >= MASTERS {
            sent.clear();
        }
        sent.insert(key, self.clock.moment().micros);
    }

    fn canary_told(&self, key: &[u8]) {
        let mut sent = self.canaries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = sent.remove(key) {
            self.metrics.lagged(self.clock.moment().micros.saturating_sub(at));
        }
    }
}
