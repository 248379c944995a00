//! What one worker counts.
//!
//! Each worker has its own cells on its own cache lines: counting never waits for another core, and
//! never allocates. Nobody but a scrape reads them from elsewhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::cells::{Codes, Histogram, Table};
use super::label::{
    HandshakeFailure, Label, Lookup, OpenKind, RequestKind, StatusClass, UpstreamOutcome,
};

/// Names of upstreams beyond this number share the cells of [`OVERFLOW`].
const UPSTREAMS: usize = 1024;

const OVERFLOW: &str = "other";

/// The cells of one kind of request.
#[derive(Debug, Default)]
pub(super) struct KindCells {
    pub(super) statuses: Table<StatusClass, { StatusClass::COUNT }>,
    pub(super) durations: Histogram,
}

/// The counters of one worker. 128 bytes are two cache lines: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    kinds: [KindCells; RequestKind::COUNT],
    pub(super) lookups: Table<Lookup, { Lookup::COUNT }>,
    pub(super) open: Table<OpenKind, { OpenKind::COUNT }>,
    pub(super) received_bytes: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) over_cap: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) handshakes: Table<HandshakeFailure, { HandshakeFailure::COUNT }>,
    pub(super) violations: Codes,
    upstreams: Mutex<BTreeMap<Box<str>, Arc<UpstreamMetrics>>>,
}

impl WorkerMetrics {
    /// A request was answered: its status and how long it took until the answer was complete, or
    /// until the tunnel was open, in microseconds.
    pub fn request(&self, kind: RequestKind, status: u16, micros: u64) {
        if let Some(cells) = self.kinds.get(kind.index()) {
            cells.statuses.add(StatusClass::of(status));
            cells.durations.observe(micros);
        }
    }

    /// Bytes of request and response bodies that went through.
    pub fn bytes(&self, received: u64, sent: u64) {
        self.received_bytes.fetch_add(received, Ordering::Relaxed);
        self.sent_bytes.fetch_add(sent, Ordering::Relaxed);
    }

    /// A session was looked for.
    pub fn lookup(&self, result: Lookup) {
        self.lookups.add(result);
    }

    /// Something is open until the returned value is dropped.
    pub fn open(self: &Arc<Self>, kind: OpenKind) -> Open {
        self.open.add(kind);
        Open { worker: Arc::clone(self), kind }
    }

    /// How much is open of a kind that the worker counts itself, without [`Self::open`].
    pub fn now_open(&self, kind: OpenKind, count: usize) {
        self.open.set(kind, count as u64);
    }

    /// A connection was accepted; it counts as open until the returned value is dropped.
    pub fn accepted(self: &Arc<Self>) -> Open {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open(OpenKind::Connection)
    }

    /// An idle connection was closed because others waited to be let in.
    pub fn over_cap(&self) {
        self.over_cap.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection ended before its first request.
    pub fn handshake_failed(&self, reason: HandshakeFailure) {
        self.handshakes.add(reason);
    }

    /// A client broke a rule of the protocol; `code` is the refusal's stable code.
    pub fn violation(&self, code: &'static str) {
        self.violations.add(code);
    }

    /// There was a panic; it ended one request, or at worst one connection.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// The cells of the upstream `name`, a name of the configuration. Takes a lock: keep the result
    /// with the upstream's pool. The same name gives the same cells, so counts outlive a reload.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        let full = upstreams.len() >= UPSTREAMS;
        let name = if full && !upstreams.contains_key(name) { OVERFLOW } else { name };
        Arc::clone(upstreams.entry(name.into()).or_default())
    }

    pub(super) fn kind(&self, kind: RequestKind) -> Option<&KindCells> {
        self.kinds.get(kind.index())
    }

    pub(super) fn visit_upstreams(&self, mut visit: impl FnMut(&str, &UpstreamMetrics)) {
        let upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, cells) in upstreams.iter() {
            visit(name, cells);
        }
    }
}

/// What one worker counts of one upstream.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct UpstreamMetrics {
    pub(super) outcomes: Table<UpstreamOutcome, { UpstreamOutcome::COUNT }>,
    pub(super) waits: Histogram,
}

impl UpstreamMetrics {
    /// An attempt ended with `outcome`.
    pub fn outcome(&self, outcome: UpstreamOutcome) {
        self.outcomes.add(outcome);
    }

    /// A response head arrived this many microseconds after its request was sent.
    pub fn answered(&self, micros: u64) {
        self.outcomes.add(UpstreamOutcome::Ok);
        self.waits.observe(micros);
    }
}

/// Counts as open until dropped, so that a cancelled request and a panic are counted down too.
#[derive(Debug)]
#[must_use = "counts as open only while it is kept"]
pub struct Open {
    worker: Arc<WorkerMetrics>,
    kind: OpenKind,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.open.subtract(self.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_upstreams_share_no_cache_line() {
        assert_eq!(align_of::<WorkerMetrics>(), 128);
        assert_eq!(size_of::<WorkerMetrics>() % 128, 0);
        assert_eq!(align_of::<UpstreamMetrics>(), 128);
        assert_eq!(size_of::<UpstreamMetrics>() % 128, 0);
    }

    #[test]
    fn what_is_open_is_counted_down_when_dropped() {
        let worker = Arc::new(WorkerMetrics::default());
        let first = worker.accepted();
        let second = worker.accepted();
        let tunnel = worker.open(OpenKind::Tunnel);
        assert_eq!(worker.open.read(OpenKind::Connection), 2);
        assert_eq!(worker.open.read(OpenKind::Tunnel), 1);
        drop((first, tunnel));
        assert_eq!(worker.open.read(OpenKind::Connection), 1);
        assert_eq!(worker.open.read(OpenKind::Tunnel), 0);
        drop(second);
        assert_eq!(worker.open.read(OpenKind::Connection), 0);
        assert_eq!(worker.accepted.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn names_of_upstreams_are_bounded() {
        let worker = WorkerMetrics::default();
        let first = worker.upstream("app-0");
        for n in 0..UPSTREAMS + 10 {
            worker.upstream(&format!("app-{n}")).outcome(UpstreamOutcome::Reset);
        }
        assert!(Arc::ptr_eq(&first, &worker.upstream("app-0")));
        let mut count = 0;
        let mut rest = 0;
        worker.visit_upstreams(|name, cells| {
            count += 1;
            if name == OVERFLOW {
                rest = cells.outcomes.read(UpstreamOutcome::Reset);
            }
        });
        assert_eq!((count, rest), (UPSTREAMS + 1, 10));
    }
}
