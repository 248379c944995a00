//! Adds up the workers' cells and writes them as metric families.
//!
//! Reads only; what a metric means is said here once, in its help text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::State;
use super::cells::{Durations, Table};
use super::label::{
    HandshakeFailure, Label, Lookup, OpenKind, Reload, RequestKind, StatusClass, UpstreamOutcome,
    Watch,
};
use super::process;
use super::worker::WorkerMetrics;

type Labels<'a> = &'a [(&'a str, &'a str)];

/// The families that every process has, under the names that dashboards expect.
#[derive(Debug)]
pub(super) struct Process(pub(super) Arc<State>);

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        let cpu = process::cpu_seconds();
        page.counter("process_cpu_seconds", "CPU time used", cpu)?;
        if let Some(bytes) = process::resident_bytes() {
            let name = "process_resident_memory";
            page.gauge(name, Some(&Unit::Bytes), "Memory in use", bytes)?;
        }
        if let Some(open) = process::open_descriptors() {
            page.gauge("process_open_fds", None, "Open file descriptors", open)?;
        }
        if let Some(most) = process::max_descriptors() {
            page.gauge("process_max_fds", None, "Limit of open file descriptors", most)?;
        }
        let started = self.0.started.seconds();
        let name = "process_start_time";
        page.gauge(name, Some(&Unit::Seconds), "When the process started", started)
    }
}

/// The families of the gateway itself.
#[derive(Debug)]
pub(super) struct Gateway(pub(super) Arc<State>);

impl Collector for Gateway {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        let workers = self.0.workers();
        page.info("build", "Version of the gateway", &[("version", self.0.version)])?;
        let uptime = self.0.clock.now().since(self.0.started).as_secs();
        page.gauge("uptime", Some(&Unit::Seconds), "Time since the start", uptime)?;
        requests(&mut page, &workers)?;
        open(&mut page, &workers)?;
        connections(&mut page, &workers)?;
        failures(&mut page, &workers)?;
        upstreams(&mut page, &workers)?;
        reloads(&mut page, &self.0)?;
        store(&mut page, &self.0)?;
        Watch::ALL.iter().try_for_each(|what| watched(&mut page, &self.0, *what))
    }
}

fn requests(page: &mut Page<'_>, workers: &[Arc<WorkerMetrics>]) -> fmt::Result {
    let mut family = page.family(
        "requests",
        None,
        "Requests answered, by how they were treated and status",
        MetricType::Counter,
    )?;
    for kind in RequestKind::ALL {
        for class in StatusClass::ALL {
            let count: u64 = workers
                .iter()
                .filter_map(|worker| worker.kind(*kind))
                .map(|cells| cells.statuses.read(*class))
                .sum();
            let labels: Labels<'_> = &[("kind", kind.text()), ("status", class.text())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
    }
    let mut family = page.family(
        "request_duration",
        Some(&Unit::Seconds),
        "Time from a request's head to the end of its answer",
        MetricType::Histogram,
    )?;
    for kind in RequestKind::ALL {
        let mut total = Durations::default();
        let cells = workers.iter().filter_map(|worker| worker.kind(*kind));
        cells.for_each(|cells| total.add(&cells.durations));
        histogram(&mut family, &[("kind", kind.text())], &total)?;
    }
    let lookups = sums::<Lookup, _>(workers, |worker| &worker.lookups);
    page.counters("session_lookups", "Sessions looked for", "result", lookups)?;
    let received = cells(workers, |worker| &worker.received_bytes);
    page.counter("request_body_bytes", "Bytes of request bodies", received)?;
    let sent = cells(workers, |worker| &worker.sent_bytes);
    page.counter("response_body_bytes", "Bytes of response bodies", sent)
}

fn open(page: &mut Page<'_>, workers: &[Arc<WorkerMetrics>]) -> fmt::Result {
    for (name, help, kind) in [
        ("requests_in_flight", "Requests whose answer is not complete", OpenKind::Request),
        ("connections_open", "Client connections", OpenKind::Connection),
        ("streams_open", "Open answers and tunnels bound to a session", OpenKind::Stream),
        ("tunnels_open", "Upgraded connections such as WebSockets", OpenKind::Tunnel),
        ("worker_tasks", "Tasks of the workers that have not ended", OpenKind::Task),
    ] {
        let count: u64 = workers.iter().map(|worker| worker.open.read(kind)).sum();
        page.gauge(name, None, help, count)?;
    }
    Ok(())
}

fn connections(page: &mut Page<'_>, workers: &[Arc<WorkerMetrics>]) -> fmt::Result {
    let accepted = cells(workers, |worker| &worker.accepted);
    page.counter("connections_accepted", "Connections accepted", accepted)?;
    let over = cells(workers, |worker| &worker.over_cap);
    let help = "Idle connections closed because others waited to be let in";
    page.counter("connections_over_cap", help, over)?;
    let failed = sums::<HandshakeFailure, _>(workers, |worker| &worker.handshakes);
    let help = "Connections that ended before their first request";
    page.counters("handshake_failures", help, "reason", failed)
}

fn failures(page: &mut Page<'_>, workers: &[Arc<WorkerMetrics>]) -> fmt::Result {
    let mut codes: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (code, count) in workers.iter().flat_map(|worker| worker.violations.read()) {
        *codes.entry(code).or_default() += count;
    }
    let help = "Requests that broke a rule of the protocol";
    page.counters("violations", help, "code", codes)?;
    let panics = cells(workers, |worker| &worker.panics);
    page.counter("panics", "Panics caught; each is a mistake to report", panics)
}

fn upstreams(page: &mut Page<'_>, workers: &[Arc<WorkerMetrics>]) -> fmt::Result {
    let mut totals: BTreeMap<String, ([u64; UpstreamOutcome::COUNT], Durations)> = BTreeMap::new();
    for worker in workers {
        worker.visit_upstreams(|name, cells| {
            let (outcomes, waits) = totals.entry(name.to_owned()).or_default();
            for (total, outcome) in outcomes.iter_mut().zip(UpstreamOutcome::ALL) {
                *total += cells.outcomes.read(*outcome);
            }
            waits.add(&cells.waits);
        });
    }
    let help = "Attempts to have a request answered by an upstream";
    let mut family = page.family("upstream_requests", None, help, MetricType::Counter)?;
    for (name, (outcomes, _)) in &totals {
        for (count, outcome) in outcomes.iter().zip(UpstreamOutcome::ALL) {
            let labels: Labels<'_> = &[("upstream", name), ("outcome", outcome.text())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
    }
    let help = "Time until an upstream's response head";
    let unit = Some(&Unit::Seconds);
    let mut family = page.family("upstream_wait", unit, help, MetricType::Histogram)?;
    for (name, (_, waits)) in &totals {
        histogram(&mut family, &[("upstream", name)], waits)?;
    }
    Ok(())
}

fn store(page: &mut Page<'_>, state: &State) -> fmt::Result {
    let store = state.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(store) = store else { return Ok(()) };
    for (name, help, total) in [
        ("session_store_wait", "Time that operations of the session store took", store.waits()),
        (
            "session_store_invalidation_lag",
            "Time from a change in the session store until it was told of",
            store.lags(),
        ),
    ] {
        let unit = Some(&Unit::Seconds);
        let mut family = page.family(name, unit, help, MetricType::Histogram)?;
        histogram(&mut family, &[], &total)?;
    }
    let help = "Operations of the session store that failed, and losses of connections";
    page.counters("session_store_failures", help, "reason", store.failures())?;
    let help = "Changes to sessions that the store told of";
    page.counter("session_store_invalidations", help, store.invalidations())?;
    let help = "Stored sessions that could not be read and count as none";
    page.counter("session_store_unreadable", help, store.unreadable_count())
}

fn reloads(page: &mut Page<'_>, state: &State) -> fmt::Result {
    let help = "New states read while running, by result";
    let mut family = page.family("reloads", None, help, MetricType::Counter)?;
    for what in Reload::ALL {
        for (result, table) in [("ok", &state.accepted), ("refused", &state.refused)] {
            let labels: Labels<'_> = &[("what", what.text()), ("result", result)];
            let count = table.read(*what);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
    }
    let name = "reload_last_success_timestamp";
    let help = "When the state in use was read";
    let mut family = page.family(name, Some(&Unit::Seconds), help, MetricType::Gauge)?;
    for what in Reload::ALL {
        if let Some(at) = state.last_accepted(*what) {
            let labels: Labels<'_> = &[("what", what.text())];
            family.encode_family(&labels)?.encode_gauge(&at.seconds())?;
        }
    }
    Ok(())
}

fn watched(page: &mut Page<'_>, state: &State, what: Watch) -> fmt::Result {
    let Some(values) = state.watched(what) else { return Ok(()) };
    match what {
        Watch::CachedSessions => {
            page.gauges("sessions_cached", None, "Sessions in the cache", "", &values)
        }
        Watch::StoreReady => {
            let help = "Whether the session store answers";
            page.gauges("session_store_ready", None, help, "server", &values)
        }
        Watch::StoreLeaseAge => {
            let name = "session_store_lease_age_milliseconds";
            let help = "How long ago the store has last proven that it tells of every change";
            page.gauges(name, None, help, "server", &values)
        }
        Watch::LogLinesDropped => {
            page.counters("log_lines_dropped", "Log lines given up", "log", values)
        }
        Watch::CertificateExpiry => {
            let name = "certificate_expiry_timestamp";
            let help = "When a certificate ends";
            page.gauges(name, Some(&Unit::Seconds), help, "certificate", &values)
        }
        Watch::UpstreamHealthy => {
            let help = "Addresses of an upstream that take requests";
            page.gauges("upstream_healthy_addresses", None, help, "upstream", &values)
        }
    }
}

/// The sum of one cell over all workers.
fn cells(workers: &[Arc<WorkerMetrics>], cell: impl Fn(&WorkerMetrics) -> &AtomicU64) -> u64 {
    workers.iter().map(|worker| cell(worker).load(Ordering::Relaxed)).sum()
}

/// The sums of one table over all workers, by label.
fn sums<L: Label, const N: usize>(
    workers: &[Arc<WorkerMetrics>],
    table: impl Fn(&WorkerMetrics) -> &Table<L, N>,
) -> impl Iterator<Item = (&'static str, u64)> {
    L::ALL.iter().map(move |label| {
        (label.text(), workers.iter().map(|worker| table(worker).read(*label)).sum())
    })
}

fn histogram(family: &mut MetricEncoder<'_>, labels: Labels<'_>, total: &Durations) -> fmt::Result {
    family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
        total.sum_seconds(),
        total.count(),
        &total.buckets(),
        None,
    )
}

/// Writes families.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        unit: Option<&'s Unit>,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn info(&mut self, name: &str, help: &str, labels: Labels<'_>) -> fmt::Result {
        self.family(name, None, help, MetricType::Info)?.encode_info(&labels)
    }

    /// A counter without labels.
    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        let mut family = self.family(name, None, help, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// A counter with one label.
    fn counters<L: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, None, help, MetricType::Counter)?;
        for (text, value) in samples {
            let labels: Labels<'_> = &[(label, text.as_ref())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A gauge without labels.
    fn gauge(&mut self, name: &str, unit: Option<&Unit>, help: &str, value: u64) -> fmt::Result {
        self.family(name, unit, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// A gauge with one label; without one where the label's text is empty.
    fn gauges(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        label: &str,
        samples: &BTreeMap<String, u64>,
    ) -> fmt::Result {
        let mut family = self.family(name, unit, help, MetricType::Gauge)?;
        for (text, value) in samples {
            if text.is_empty() {
                family.encode_gauge(value)?;
            } else {
                let labels: Labels<'_> = &[(label, text)];
                family.encode_family(&labels)?.encode_gauge(value)?;
            }
        }
        Ok(())
    }
}
