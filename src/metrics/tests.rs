use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use super::*;

fn metrics() -> (Metrics, Clock) {
    let clock = Clock::manual(UnixMs(1_700_000_000_000));
    (Metrics::new(clock.clone(), "1.2.3"), clock)
}

/// The value of the sample `name`, with its labels as they are written.
fn sample(text: &str, name: &str) -> Option<String> {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.map(str::to_owned)
}

#[track_caller]
fn expect(metrics: &Metrics, samples: &[(&str, &str)]) {
    let text = metrics.render().unwrap();
    for (name, value) in samples {
        assert_eq!(sample(&text, name).as_deref(), Some(*value), "{name} in\n{text}");
    }
}

/// What OpenMetrics asks of a text: every family declared once, its samples together and after the
/// declaration, no sample twice, `# EOF` last.
fn check_form(text: &str) {
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let mut families = BTreeSet::new();
    let mut samples = BTreeSet::new();
    let mut family = String::new();
    for line in text.lines().take_while(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} is declared twice");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&family), "{line} stands under {family}");
            assert!(samples.insert(name.to_owned()), "{name} stands twice");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}

#[test]
fn requests_are_added_up_over_workers() {
    let (metrics, _clock) = metrics();
    let (first, second) = (metrics.worker(), metrics.worker());
    first.request(RequestKind::SignedIn, 200, 800);
    second.request(RequestKind::SignedIn, 204, 200);
    second.request(RequestKind::Refused, 403, 10);
    second.request(RequestKind::Refused, 999, 10);
    second.bytes(7, 11);
    first.bytes(1, 1);
    let in_flight = first.open(OpenKind::Request);
    expect(
        &metrics,
        &[
            ("portcullis_requests_total{kind=\"signed-in\",status=\"2xx\"}", "2"),
            ("portcullis_requests_total{kind=\"refused\",status=\"4xx\"}", "1"),
            ("portcullis_requests_total{kind=\"refused\",status=\"other\"}", "1"),
            ("portcullis_requests_total{kind=\"own\",status=\"5xx\"}", "0"),
            ("portcullis_request_duration_seconds_count{kind=\"signed-in\"}", "2"),
            ("portcullis_request_duration_seconds_sum{kind=\"signed-in\"}", "0.001"),
            ("portcullis_request_duration_seconds_bucket{le=\"0.00025\",kind=\"signed-in\"}", "1"),
            ("portcullis_request_duration_seconds_bucket{le=\"0.001\",kind=\"signed-in\"}", "2"),
            ("portcullis_request_duration_seconds_bucket{le=\"+Inf\",kind=\"signed-in\"}", "2"),
            ("portcullis_request_body_bytes_total", "8"),
            ("portcullis_response_body_bytes_total", "12"),
            ("portcullis_requests_in_flight", "1"),
        ],
    );
    drop(in_flight);
    expect(&metrics, &[("portcullis_requests_in_flight", "0")]);
}

#[test]
fn every_event_reaches_the_text() {
    let (metrics, clock) = metrics();
    let worker = metrics.worker();
    worker.lookup(Lookup::Worthless);
    let _open = worker.accepted();
    worker.over_cap();
    worker.handshake_failed(HandshakeFailure::UnknownName);
    worker.violation("ambiguous-target");
    metrics.worker().violation("ambiguous-target");
    worker.panicked();
    worker.upstream("app").answered(1_000_000);
    worker.upstream("app").outcome(UpstreamOutcome::Retried);
    clock.advance(Duration::from_secs(90));
    metrics.reload_accepted(Reload::Directory);
    metrics.reload_refused(Reload::Config);
    expect(
        &metrics,
        &[
            ("portcullis_build_info{version=\"1.2.3\"}", "1"),
            ("portcullis_uptime_seconds", "90"),
            ("process_start_time_seconds", "1700000000"),
            ("portcullis_session_lookups_total{result=\"worthless\"}", "1"),
            ("portcullis_session_lookups_total{result=\"hit\"}", "0"),
            ("portcullis_connections_accepted_total", "1"),
            ("portcullis_connections_open", "1"),
            ("portcullis_connections_over_cap_total", "1"),
            ("portcullis_handshake_failures_total{reason=\"unknown-name\"}", "1"),
            ("portcullis_violations_total{code=\"ambiguous-target\"}", "2"),
            ("portcullis_panics_total", "1"),
            ("portcullis_upstream_requests_total{upstream=\"app\",outcome=\"ok\"}", "1"),
            ("portcullis_upstream_requests_total{upstream=\"app\",outcome=\"retried\"}", "1"),
            ("portcullis_upstream_wait_seconds_sum{upstream=\"app\"}", "1.0"),
            ("portcullis_reloads_total{what=\"directory\",result=\"ok\"}", "1"),
            ("portcullis_reloads_total{what=\"config\",result=\"refused\"}", "1"),
            ("portcullis_reload_last_success_timestamp_seconds{what=\"directory\"}", "1700000090"),
        ],
    );
    let text = metrics.render().unwrap();
    assert!(!text.contains("last_success_timestamp_seconds{what=\"config\"}"), "{text}");
    check_form(&text);
}

#[test]
fn watched_values_are_read_at_each_scrape() {
    let (metrics, _clock) = metrics();
    assert!(!metrics.render().unwrap().contains("sessions_cached"));
    let cached = Arc::new(AtomicU64::new(5));
    let read = Arc::clone(&cached);
    metrics.watch_value(Watch::CachedSessions, move || read.load(Ordering::Relaxed));
    metrics.watch_value(Watch::StoreReady, || 1);
    metrics
        .watch(Watch::LogLinesDropped, || vec![("access".to_owned(), 3), ("audit".to_owned(), 0)]);
    metrics.watch(Watch::CertificateExpiry, || {
        vec![("a.example".to_owned(), 20), ("a.example".to_owned(), 10), ("x\"\\\n".to_owned(), 1)]
    });
    metrics.watch(Watch::UpstreamHealthy, || vec![("app".to_owned(), 2)]);
    expect(
        &metrics,
        &[
            ("portcullis_sessions_cached", "5"),
            ("portcullis_session_store_ready", "1"),
            ("portcullis_log_lines_dropped_total{log=\"access\"}", "3"),
            ("portcullis_certificate_expiry_timestamp_seconds{certificate=\"a.example\"}", "10"),
            ("portcullis_certificate_expiry_timestamp_seconds{certificate=\"x\\\"\\\\\\n\"}", "1"),
            ("portcullis_upstream_healthy_addresses{upstream=\"app\"}", "2"),
        ],
    );
    cached.store(6, Ordering::Relaxed);
    expect(&metrics, &[("portcullis_sessions_cached", "6")]);
    check_form(&metrics.render().unwrap());
}

#[test]
fn nothing_is_lost_when_threads_count_during_scrapes() {
    let (metrics, _clock) = metrics();
    thread::scope(|scope| {
        for _ in 0..4 {
            let worker = metrics.worker();
            scope.spawn(move || {
                for _ in 0..5_000 {
                    let _open = worker.open(OpenKind::Request);
                    worker.request(RequestKind::Public, 200, 100);
                }
            });
        }
        for _ in 0..20 {
            check_form(&metrics.render().unwrap());
        }
    });
    expect(
        &metrics,
        &[
            ("portcullis_requests_total{kind=\"public\",status=\"2xx\"}", "20000"),
            ("portcullis_request_duration_seconds_count{kind=\"public\"}", "20000"),
            ("portcullis_requests_in_flight", "0"),
        ],
    );
}
