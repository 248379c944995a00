//! Many slow or silent clients at once, one kind at a time: each is cut in its time, others do not notice,
//! and nothing of them is left.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{CUT, builder, gateway, trickle, within};
use crate::support::h2raw::{END_STREAM, HEADERS, SETTINGS, block, frame, get};
use crate::support::process::eventually;
use crate::support::raw::Door;
use crate::support::rest::leaves_nothing;
use crate::support::{Gateway, Raw, Reply, Upstream};

/// Clients of a kind.
const MANY: usize = 150;
/// How long so many may take to be cut where other tests run, too; [`super::each_is_cut_in_its_time`] is strict.
const ALL_CUT: Duration = Duration::from_secs(3 * CUT.as_secs());
const PROBE: &str = "/public/probe";

/// An app that waits for bodies, and answers one request without end.
fn app() -> Upstream {
    Upstream::answering(|request| match request.target.as_str() {
        "/public/large" => {
            let length = 1_u64 << 40;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            Reply::raw(head).pour()
        }
        "/public/body" => Reply::hang(),
        _ => Reply::ok("hello"),
    })
}

/// Has [`MANY`] clients do the same at once; `client` gives how long it was until the cut.
async fn crowd<F>(what: &str, (least, most): (u64, Duration), client: impl Fn(usize) -> F)
where
    F: Future<Output = Duration> + Send + 'static,
{
    let mut clients = JoinSet::new();
    for number in 0..MANY {
        clients.spawn(client(number));
    }
    for took in clients.join_all().await {
        within(what, took, least, most);
    }
}

/// Each client connects, sends `text`, and then a `byte` now and then.
async fn attack(what: &str, text: impl Fn(&Gateway) -> String, byte: &'static str) {
    let upstream = app();
    let gateway = gateway(&upstream);
    let (door, text) = (Door::of(&gateway), text(&gateway).into_bytes());
    of_clients(what, &gateway, &upstream, &door, &text, byte).await;
}

/// The same over HTTP/2; `frames` follow the client's settings.
async fn attack_h2(what: &str, frames: &[u8]) {
    let upstream = app();
    let gateway = gateway(&upstream);
    let door = Door::speaking(&gateway, "h2");
    let text = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(SETTINGS, 0, 0, &[]), frames].concat();
    of_clients(what, &gateway, &upstream, &door, &text, "").await;
}

async fn of_clients(
    what: &str,
    gateway: &Gateway,
    upstream: &Upstream,
    door: &Door,
    text: &[u8],
    byte: &'static str,
) {
    leaves_nothing(what, gateway, upstream, PROBE, async |_| {
        crowd(what, (500, ALL_CUT), |_| {
            let (door, text) = (door.clone(), text.to_owned());
            async move {
                let mut raw = door.raw().await;
                raw.send(&text).await;
                trickle(&mut raw, byte).await.0
            }
        })
        .await;
    })
    .await;
}

fn half_a_head(gateway: &Gateway) -> String {
    format!("GET /public/x HTTP/1.1\r\nHost: {}\r\nX-A: ", gateway.authority())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_handshake() {
    let upstream = app();
    let gateway = gateway(&upstream);
    let addr = gateway.addr();
    leaves_nothing("no handshake", &gateway, &upstream, PROBE, async |_| {
        crowd("no handshake", (500, ALL_CUT), |number| async move {
            let mut raw = Raw::plain(addr).await;
            // Nothing, a beginning, or a beginning that goes on.
            let (begin, byte): (&[u8], _) = match number % 3 {
                0 => (b"", ""),
                1 => (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ""),
                _ => (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\0"),
            };
            raw.send(begin).await;
            trickle(&mut raw, byte).await.0
        })
        .await;
    })
    .await;
    let timeouts = "portcullis_handshake_failures_total{reason=\"timeout\"";
    gateway.metric_is(timeouts, |count| count >= 2.0 * MANY as f64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_and_nothing_else() {
    attack("idle TLS", |_| String::new(), "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_half_a_head() {
    attack("half a head", half_a_head, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_head_that_trickles() {
    attack("a trickled head", half_a_head, "a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_http2_and_no_request() {
    attack_h2("idle HTTP/2", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_half_a_head_over_http2() {
    let fields = block(&get("localhost", "/public/x"));
    attack_h2("half a head over HTTP/2", &frame(HEADERS, END_STREAM, 1, &fields)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_body_that_trickles() {
    let upstream = app();
    // So many clients on a busy machine may be silent for a second without meaning it.
    let gateway = builder(&upstream).set("limits", "body_idle", "\"3s\"").start();
    let door = Door::of(&gateway);
    leaves_nothing("a trickled body", &gateway, &upstream, PROBE, async |round| {
        // The rate holds for each ten seconds: one round of that will do, the other one is silent.
        let (byte, bounds) = match round {
            0 => ("", (500, ALL_CUT)),
            _ => ("a", (2_500, Duration::from_secs(10) + ALL_CUT)),
        };
        crowd("a trickled body", bounds, |_| {
            let door = door.clone();
            async move {
                let mut raw = door.raw().await;
                let host = &door.host;
                raw.send(format!(
                    "POST /public/body HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\n"
                ))
                .await;
                let (took, answer) = trickle(&mut raw, byte).await;
                assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
                took
            }
        })
        .await;
    })
    .await;
    // The app is not blamed.
    let healthy = "portcullis_upstream_healthy_addresses{upstream=\"app\"}";
    assert_eq!(gateway.metric(healthy).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_read_nothing() {
    let upstream = app();
    let gateway = gateway(&upstream);
    let door = Door::of(&gateway);
    leaves_nothing("a slow reader", &gateway, &upstream, PROBE, async |round| {
        let mut held = Vec::new();
        for _ in 0..MANY / 3 {
            let mut raw = door.raw().await;
            let host = &door.host;
            raw.send(format!("GET /public/large HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            held.push(raw);
        }
        // The clients are still there: it is the gateway that has enough of them.
        let left = (round + 1) * held.len();
        let gone = || (upstream.abandoned() >= left).then_some(());
        eventually("the app to be left alone", gone).await;
    })
    .await;
}
