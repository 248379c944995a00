//! HTTP/2 clients that ask for more work than they take: given up, while others are served.

mod honest;
mod kinds;
mod long;
mod windows;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::h2raw::{
    CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, H2Raw, HEADERS, Outcome, PING, RST_STREAM,
    SETTINGS, block, frame, get,
};
use crate::support::{Client, Gateway, Reply, Upstream};

/// An app that answers nobody who asks for something below `/hang/`.
fn upstream() -> Upstream {
    Upstream::answering(|request| {
        if request.target.starts_with("/hang/") { Reply::hang() } else { Reply::ok("hello") }
    })
}

/// In front of the app that is flooded, and of another one for somebody honest.
fn gateway(upstream: &Upstream, calm: &Upstream) -> Gateway {
    Gateway::builder()
        .upstream("app", upstream.addr())
        .upstream("calm", calm.addr())
        .public("/", "app")
        .public("/public/", "calm")
        .start()
}

/// Somebody honest, until told to stop: how often they were answered, and how long it took at most.
async fn honest(gateway: &Gateway, stop: &AtomicBool) -> (usize, Duration) {
    let (mut client, mut answers, mut longest) = (Client::h2(gateway), 0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        client.get("/public/honest").await.expect(200);
        longest = longest.max(begun.elapsed());
        answers += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (answers, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_given_up_and_hurts_nobody_else() {
    let (upstream, calm) = (upstream(), Upstream::start());
    let gateway = gateway(&upstream, &calm);
    let stop = AtomicBool::new(false);
    let flooding = async {
        let mut problems = Vec::new();
        for flood in kinds::all(gateway.authority()) {
            let memory = gateway.resident();
            let end = flood.run(&gateway).await;
            let seen = upstream.requests();
            let reached = seen.iter().filter(|seen| seen.target == flood.path).count();
            upstream.forget();
            let grown = gateway.resident().saturating_sub(memory);
            println!("{}: {end}, {reached} reached the app, {grown} KiB more", flood.name);
            // Whoever opens a stream has work done for it: as often as it may be taken back.
            if !end.is_in_bounds() || reached > 1000 || grown > 16 * 1024 {
                problems.push(format!("{}: {end}, {reached} reached the app", flood.name));
            }
        }
        stop.store(true, Ordering::Relaxed);
        problems
    };
    let (problems, (answers, longest)) = tokio::join!(flooding, honest(&gateway, &stop));
    println!("meanwhile {answers} answers, the slowest in {longest:?}");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
    for code in ["control-frame-flood", "stream-reset-flood"] {
        let metric = format!("portcullis_violations_total{{code=\"{code}\"}}");
        assert!(gateway.metric(&metric).await >= 1.0, "{code}");
    }
    let output = gateway.output();
    let told = output.lines().find(|line| line.contains("at last PING")).unwrap_or_default();
    assert!(told.contains("127.0.0.1"), "{output}");
}

#[tokio::test]
async fn answers_that_nobody_reads_are_not_kept() {
    let (upstream, calm) = (upstream(), Upstream::start());
    let gateway = gateway(&upstream, &calm);
    let mut h2 = H2Raw::connect(&gateway).await;
    let memory = gateway.resident();
    let mut bytes = Vec::new();
    for _ in 0..1000 {
        bytes.extend(frame(PING, 0, 0, &[0; 8]));
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
    }
    let pour = async {
        for _ in 0..200 {
            h2.send(&bytes).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(3), pour).await;
    assert!(gateway.resident() < memory + 16 * 1024, "{memory} then {}", gateway.resident());
    let mut other = Client::h2(&gateway);
    other.get("/public/honest").await.expect(200);
}

#[tokio::test]
async fn fields_are_counted_with_every_crumb() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let host = gateway.authority().to_owned();
    let outcome = async |name: &str, value: &str, count: usize| {
        upstream.forget();
        let mut fields = get(&host, "/public/x");
        fields.extend(std::iter::repeat_n((name, value), count));
        let mut h2 = H2Raw::connect(&gateway).await;
        let fields = block(&fields);
        let mut rest = fields.chunks(16_000).peekable();
        let first = rest.next().unwrap();
        let end = if rest.peek().is_none() { END_HEADERS } else { 0 };
        h2.frame(HEADERS, END_STREAM | end, 1, first).await;
        while let Some(chunk) = rest.next() {
            let end = if rest.peek().is_none() { END_HEADERS } else { 0 };
            h2.frame(CONTINUATION, end, 1, chunk).await;
        }
        let outcome = h2.outcome(1).await;
        assert_eq!(upstream.requests().len(), usize::from(outcome == Outcome::Status(200)));
        outcome
    };
    assert_eq!(outcome("cookie", "a=1", 100).await, Outcome::Status(200));
    assert_eq!(outcome("cookie", "a=1", 200).await, Outcome::Status(431));
    assert_eq!(outcome("x-a", "1", 100).await, Outcome::Status(200));
    assert_eq!(outcome("x-a", "1", 200).await, Outcome::Status(431));
    // The list as a whole, whatever the count (RFC 9113 section 10.5.1).
    let long = "a".repeat(4000);
    assert_eq!(outcome("x-a", &long, 5).await, Outcome::Status(200));
    assert_eq!(outcome("x-a", &long, 12).await, Outcome::Status(431));
    // Three thousand crumbs, as after an attack by a neighbouring site.
    let bomb = outcome("cookie", "a=1", 3000).await;
    assert!(bomb.refused(), "{bomb:?}");
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused() {
    let upstream = Upstream::answering(|_| Reply::hang());
    let gateway = Gateway::builder()
        .set("limits", "streams", "10")
        .upstream("app", upstream.addr())
        .public("/public/", "app")
        .start();
    let host = gateway.authority().to_owned();
    let mut h2 = H2Raw::connect(&gateway).await;
    for stream in (1..=39).step_by(2) {
        h2.request(stream, &get(&host, "/public/x")).await;
    }
    let mut refused = 0;
    while refused < 10 {
        let (kind, ..) = h2.next().await.expect("closed");
        assert_ne!(kind, HEADERS);
        if kind == GOAWAY {
            break;
        }
        refused += usize::from(kind == RST_STREAM);
    }
    assert!(upstream.received(10).await.len() == 10, "{}", upstream.requests().len());
}
