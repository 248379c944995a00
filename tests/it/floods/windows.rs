//! Clients that ask and take nothing: their windows are shut, and small heads unfold to large ones.

use std::time::{Duration, Instant};

use super::upstream;
use crate::support::h2raw::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, H2Raw, HEADERS, Outcome, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, get, number,
};
use crate::support::{Client, Gateway, Reply, Upstream};

/// What a client without room gets before it must be gone: its limit of a second, the worker's clockwork, and a
/// busy machine.
const CUT: Duration = Duration::from_secs(5);
/// The code of a stream that is given up.
const CANCEL: u32 = 8;
/// Streams of a connection, and KiB of a request's fields: the defaults.
const STREAMS: u32 = 128;
const HEAD: u64 = 32;
const CONNECTIONS: u64 = 10;

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::builder()
        .set("limits", "send_idle", "\"1s\"")
        .upstream("app", upstream.addr())
        .public("/", "app")
        .start()
}

/// A connection on which every answer waits for room.
async fn shut(gateway: &Gateway) -> H2Raw {
    let mut h2 = H2Raw::connect(gateway).await;
    h2.frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
    h2
}

/// A field of 3,900 bytes, and as many times more as `count` says, in one byte each (RFC 7541 section 6.1).
fn unfolding(host: &str, path: &str, count: usize) -> Vec<u8> {
    let mut head = block(&get(host, path));
    let field = block(&[("x-bomb", "a".repeat(3900).as_str())]);
    // The same field as `block` makes, with indexing: it is entry 62 from here on.
    head.push(0x40);
    head.extend(&field[1..]);
    head.extend(std::iter::repeat_n(0xbe, count));
    head
}

/// The same where the field is known already.
fn unfolded(host: &str, path: &str, count: usize) -> Vec<u8> {
    let mut head = block(&get(host, path));
    head.extend(std::iter::repeat_n(0xbe, count));
    head
}

/// Fills a connection with requests whose answers wait; `count` as in [`unfolding`].
pub(super) async fn bomb(gateway: &Gateway, path: &str, count: usize) -> H2Raw {
    let host = gateway.authority();
    let mut h2 = shut(gateway).await;
    let mut bytes = Vec::new();
    for stream in 0..STREAMS {
        let head = match stream {
            0 => unfolding(host, path, count),
            _ => unfolded(host, path, count),
        };
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &head));
    }
    h2.send(&bytes).await;
    h2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bomb_of_fields_with_shut_windows_holds_little_and_is_cut() {
    // Plain requests; then 27 KiB of fields out of 50 bytes, which each may have; then more than is allowed but still
    // read, more than that, and far more.
    let plain = held(0).await;
    // Each is read, and written to the app.
    let most = CONNECTIONS * u64::from(STREAMS) * HEAD * 2;
    assert!(plain < most, "{plain} KiB");
    for (count, most) in [(6, most), (30, 16 * 1024), (100, 16 * 1024), (4000, 16 * 1024)] {
        let grown = held(count).await;
        assert!(grown < plain + most, "{count}: {grown} KiB, {plain} KiB without the fields");
    }
}

/// KiB that connections with shut windows take of a gateway of their own, until they are cut.
async fn held(count: usize) -> u64 {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let mut other = Client::h2(&gateway);
    other.get("/public/honest").await.expect(200);
    let memory = gateway.resident();
    let begun = Instant::now();
    let mut bombs = Vec::new();
    for _ in 0..CONNECTIONS {
        bombs.push(bomb(&gateway, "/public/x", count).await);
    }
    if count <= 6 {
        gateway.metric_is("portcullis_requests_in_flight", |open| open >= 100.0).await;
    }
    let mut most = 0;
    for _ in 0..10 {
        other.get("/public/honest").await.expect(200);
        most = most.max(gateway.resident());
    }
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
    let grown = most.saturating_sub(memory);
    let each = grown as f64 / (CONNECTIONS * u64::from(STREAMS)) as f64;
    let took = begun.elapsed();
    println!("{count} times 3,900 bytes: {grown} KiB more, {each:.1} a stream, cut after {took:?}");
    // Thousands of requests are read and answered before they stand still.
    assert!(took < CUT * 5, "{took:?}");
    drop(bombs);
    gateway.metric_is("portcullis_connections_open", |open| open <= 1.0).await;
    grown
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let upstream = Upstream::answering(|request| match request.target.as_str() {
        "/pour" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n").pour(),
        _ => Reply::ok("hello"),
    });
    let gateway = gateway(&upstream);
    let host = gateway.authority().to_owned();
    let cut = async || {
        gateway.metric_is("portcullis_requests_in_flight", |open| open == 1.0).await;
        let begun = Instant::now();
        gateway.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
        assert!(begun.elapsed() < CUT, "{:?}", begun.elapsed());
    };
    // Shut from the beginning, and full after a while.
    let mut h2 = shut(&gateway).await;
    h2.request(1, &get(&host, "/hello")).await;
    assert_eq!(h2.outcome(1).await, Outcome::Status(200));
    cut().await;
    assert!(h2.ends_within(CUT).await);
    let mut h2 = H2Raw::connect(&gateway).await;
    h2.request(1, &get(&host, "/pour")).await;
    cut().await;
    assert!(h2.ends_within(CUT).await);
    assert_eq!(upstream.abandoned(), 1);
}

#[tokio::test]
async fn a_stream_that_nobody_takes_is_reset_while_others_go_on() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let host = gateway.authority().to_owned();
    let mut h2 = shut(&gateway).await;
    h2.request(1, &get(&host, "/public/x")).await;
    assert_eq!(h2.outcome(1).await, Outcome::Status(200));
    let begun = Instant::now();
    let mut head = get(&host, "/public/x");
    head[0].1 = "HEAD";
    for stream in (3..).step_by(2) {
        h2.request(stream, &head).await;
        let (mut answered, mut reset) = (false, false);
        while !answered && !reset {
            let (kind, _, id, payload) = h2.next().await.expect("closed");
            assert_ne!(kind, GOAWAY);
            answered |= kind == HEADERS && id == stream;
            reset |= kind == RST_STREAM && id == 1 && number(&payload) == CANCEL;
        }
        if reset {
            break;
        }
        assert!(begun.elapsed() < CUT * 2, "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
}

#[tokio::test]
async fn one_stream_that_stands_still_ends_no_other() {
    let upstream = Upstream::answering(|request| match request.target.as_str() {
        "/wait" => Reply::hang(),
        _ => Reply::ok("hello"),
    });
    let gateway = gateway(&upstream);
    let host = gateway.authority().to_owned();
    let mut h2 = shut(&gateway).await;
    h2.request(1, &get(&host, "/hello")).await;
    assert_eq!(h2.outcome(1).await, Outcome::Status(200));
    h2.request(3, &get(&host, "/wait")).await;
    assert_eq!(h2.outcome(1).await, Outcome::Reset(CANCEL));
    let mut head = get(&host, "/hello");
    head[0].1 = "HEAD";
    h2.request(5, &head).await;
    assert_eq!(h2.outcome(5).await, Outcome::Status(200));
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 1.0).await;
}

/// An answer was over for the gateway when its last bytes were written down to be sent: whoever was slow to take them
/// lost them as an idle client.
#[tokio::test]
async fn who_is_slow_to_take_the_last_bytes_is_not_idle() {
    const EACH: usize = 60 << 10;
    let page = "x".repeat(EACH);
    let upstream = Upstream::answering(move |_| Reply::ok(&page));
    let gateway = Gateway::builder()
        .set("limits", "keep_alive", "\"1s\"")
        .upstream("app", upstream.addr())
        .public("/", "app")
        .start();
    let host = gateway.authority().to_owned();
    let mut h2 = H2Raw::connect(&gateway).await;
    // Room for all, more than the sockets between hold.
    h2.frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).await;
    h2.frame(WINDOW_UPDATE, 0, 0, &[0x40, 0, 0, 0]).await;
    let streams = 0..STREAMS;
    for stream in streams.clone() {
        h2.request(stream * 2 + 1, &get(&host, "/x")).await;
    }
    upstream.received(STREAMS as usize).await;
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
    // As idle it would be told to go after one second and cut after two more.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (mut got, mut ended) = (0, 0);
    while ended < streams.len() {
        let (kind, flags, _, payload) = h2.next().await.expect("cut");
        if kind == DATA {
            got += payload.len();
            ended += usize::from(flags & END_STREAM != 0);
        }
    }
    assert_eq!(got, EACH * streams.len());
}

/// Fields of 33 bytes, as they are counted, in one byte each; kept they take several times that. All requests that had
/// come were unpacked before the first was looked at.
#[tokio::test]
async fn small_fields_are_unpacked_for_few_requests_at_a_time() {
    // Nearly four times `[limits] head`: read, and answered as any other request.
    const FIELDS: usize = 3700;
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let host = gateway.authority();
    let mut h2 = H2Raw::connect(&gateway).await;
    h2.request(1, &get(host, "/public/x")).await;
    assert_eq!(h2.outcome(1).await, Outcome::Status(200));
    let mut bytes = Vec::new();
    for stream in 1..=STREAMS {
        let mut head = block(&get(host, "/public/x"));
        if stream == 1 {
            head.extend(b"\x40\x01a\x00");
        }
        head.extend(std::iter::repeat_n(0xbe, FIELDS));
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &head));
    }
    let memory = gateway.resident();
    gateway.forget_peak();
    h2.send(&bytes).await;
    for stream in 1..=STREAMS {
        let outcome = h2.outcome(2 * stream + 1).await;
        assert_eq!(outcome, Outcome::Status(431), "{stream}");
    }
    let grown = gateway.peak().saturating_sub(memory);
    println!("{FIELDS} fields in each of {STREAMS} heads: {grown} KiB more");
    assert!(grown < 16 * 1024, "{grown} KiB");
}
