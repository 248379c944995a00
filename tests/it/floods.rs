//! HTTP/2 clients that ask for more work than they take: given up, while others are served.

use std::time::{Duration, Instant};

use crate::support::h2raw::{
    CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, H2Raw, HEADERS, Outcome, PING, RST_STREAM,
    SETTINGS, block, frame, get,
};
use crate::support::{Client, Gateway, Reply, Upstream};

/// How long a flood may last before the connection must have been given up.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends `next` pieces until the connection is given up, reading all the while; gives how many.
async fn flood(h2: &mut H2Raw, most: u32, mut next: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
    let begun = Instant::now();
    for number in 0..most {
        h2.send(&next(number)).await;
        if h2.ends_within(Duration::from_millis(1)).await {
            return Some(number);
        }
        assert!(begun.elapsed() < LIMIT, "{number} pieces in {LIMIT:?}");
    }
    h2.ends_within(Duration::from_secs(1)).await.then_some(most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rapid_reset_is_given_up() {
    let upstream = Upstream::answering(|request| {
        if request.target == "/public/x" { Reply::hang() } else { Reply::ok("hello") }
    });
    let gateway = Gateway::in_front_of(upstream.addr());
    let host = gateway.authority().to_owned();
    let mut other = Client::h2(&gateway);
    other.get("/public/honest").await.expect(200);
    let mut h2 = H2Raw::connect(&gateway).await;
    let fields = block(&get(&host, "/public/x"));
    // 100 requests at a time, each taken back at once (CVE-2023-44487): 5,000 in all.
    let given_up = flood(&mut h2, 50, |round| {
        let mut bytes = Vec::new();
        for number in 0..100 {
            let stream = (round * 100 + number) * 2 + 1;
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields));
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        bytes
    });
    let (given_up, ()) = tokio::join!(given_up, async {
        for _ in 0..20 {
            other.get("/public/honest").await.expect(200);
        }
    });
    assert!(given_up.is_some(), "5,000 requests taken back and the connection goes on");
    let reached = upstream.requests().iter().filter(|seen| seen.target == "/public/x").count();
    assert!(reached < 500, "{reached} requests reached the app");
    other.get("/public/honest").await.expect(200);
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
}

#[tokio::test]
async fn endless_headers_are_given_up() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let host = gateway.authority().to_owned();
    let mut h2 = H2Raw::connect(&gateway).await;
    let fields = block(&get(&host, "/public/x"));
    h2.send(&frame(HEADERS, END_STREAM, 1, &fields)).await;
    let filler = block(&[("x-filler", &"a".repeat(4000))]);
    let memory = gateway.resident();
    let given_up = flood(&mut h2, 2000, |_| frame(CONTINUATION, 0, 1, &filler)).await;
    assert!(given_up.is_some(), "8 MB of header fields and the connection goes on");
    assert!(gateway.resident() < memory + 8 * 1024, "{memory} then {}", gateway.resident());
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn pings_and_settings_without_end_cost_little() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut h2 = H2Raw::connect(&gateway).await;
    let memory = gateway.resident();
    // Nobody reads the answers meanwhile.
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
