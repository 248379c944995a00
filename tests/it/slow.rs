//! Clients that are slow or silent: each is cut in its time and hurts nobody else.

mod attacks;
mod many;

use std::fmt::Display;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::gateway::Builder;
use crate::support::process::{eventually, open_to};
use crate::support::{Client, Gateway, Raw, Reply, Upstream};

/// What the test gives a connection before it must be gone: its limit of a second, the worker's
/// clockwork, and a busy machine.
const CUT: Duration = Duration::from_secs(4);

fn gateway(upstream: &Upstream) -> Gateway {
    builder(upstream).start()
}

fn builder(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .set("tls", "handshake_timeout", "\"1s\"")
        .set("limits", "head_timeout", "\"1s\"")
        .set("limits", "keep_alive", "\"2s\"")
        .set("limits", "body_idle", "\"1s\"")
        .set("limits", "body_rate", "1000")
        .set("limits", "send_idle", "\"1s\"")
        .upstream("app", upstream.addr())
        .public("/public/", "app")
        .private("/", "app")
}

/// Waits for the end of the connection while sending a byte now and then; how long it took, and what
/// came back.
async fn trickle(raw: &mut Raw, byte: &str) -> (Duration, String) {
    let begun = Instant::now();
    loop {
        let pause = Duration::from_millis(100);
        if let Ok(rest) = tokio::time::timeout(pause, raw.reader.rest()).await {
            return (begun.elapsed(), String::from_utf8_lossy(&rest).into_owned());
        }
        assert!(begun.elapsed() < 4 * CUT, "still open after {:?}", begun.elapsed());
        raw.send(byte).await;
    }
}

#[track_caller]
fn within(what: impl Display, took: Duration, least: u64, most: Duration) {
    assert!(took >= Duration::from_millis(least), "{what}: cut after {took:?}, too early");
    assert!(took <= most, "{what}: cut after {took:?}, too late");
}

#[tokio::test]
async fn each_is_cut_in_its_time() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let host = gateway.authority().to_owned();
    let opened = gateway.descriptors();

    let plain = async |bytes: &'static [u8], byte| {
        let mut raw = Raw::plain(gateway.addr()).await;
        raw.send(bytes).await;
        let (took, _) = trickle(&mut raw, byte).await;
        within(format!("{} bytes in place of a handshake", bytes.len()), took, 500, CUT);
    };
    let tls = async |text: String, byte| {
        let mut raw = gateway.raw().await;
        raw.send(&text).await;
        let (took, _) = trickle(&mut raw, byte).await;
        within(format!("{text:?}, then {byte:?}"), took, 500, CUT);
    };
    let second = async |byte| {
        let mut raw = gateway.raw().await;
        raw.get("/public/x", &host, "").await.expect(200);
        raw.send("GET /public/x HT").await;
        within("a second head", trickle(&mut raw, byte).await.0, 500, CUT);
    };
    let idle = async {
        let mut raw = gateway.raw().await;
        raw.get("/public/x", &host, "").await.expect(200);
        within("no second head", trickle(&mut raw, "").await.0, 1500, CUT);
    };
    let half = format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\nX-A: ");
    tokio::join!(
        plain(b"", ""),
        // The beginning of a ClientHello that says it has 512 bytes.
        plain(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\0"),
        tls(String::new(), ""),
        tls("G".to_owned(), ""),
        tls(half.clone(), ""),
        tls(half, "a"),
        second(""),
        second("a"),
        idle,
        h2_idle(&gateway),
        // Somebody honest all the while.
        honest(&gateway, Duration::from_secs(2)),
    );
    assert_eq!(upstream.requests().iter().filter(|seen| seen.target == "/public/x").count(), 3);
    // Nothing of it is left but the connections to the app.
    gateway.metric_is("portcullis_connections_open", |open| open == 0.0).await;
    eventually("the descriptors to be given back", || {
        let kept = open_to(upstream.addr().port());
        (gateway.descriptors() <= opened + kept + 1).then_some(())
    })
    .await;
}

async fn h2_idle(gateway: &Gateway) {
    use crate::support::h2raw::{GOAWAY, H2Raw};
    let mut h2 = H2Raw::connect(gateway).await;
    let begun = Instant::now();
    let mut goaway = false;
    while let Some((kind, ..)) = h2.next().await {
        goaway |= kind == GOAWAY;
    }
    within("HTTP/2 without a request", begun.elapsed(), 500, CUT + Duration::from_secs(6));
    let _ = goaway;
}

async fn honest(gateway: &Gateway, time: Duration) {
    let begun = Instant::now();
    let (mut one, mut two) = (gateway.client(), Client::h2(gateway));
    while begun.elapsed() < time {
        one.get("/public/honest").await.expect(200);
        two.get("/public/honest").await.expect(200);
    }
}

#[tokio::test]
async fn silent_and_slow_bodies_are_cut() {
    let upstream = Upstream::answering(|_| Reply::hang());
    let gateway = gateway(&upstream);
    let host = gateway.authority().to_owned();
    let send = async |path: &str, byte| {
        let mut raw = gateway.raw().await;
        raw.send(format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: 10000\r\n\r\n{{"
        ))
        .await;
        let (took, answer) = trickle(&mut raw, byte).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{path}: {answer}");
        took
    };
    let (silent, own, slow) = tokio::join!(
        async {
            // One after another: as many failures of an app would count as its illness.
            let mut longest = Duration::ZERO;
            for _ in 0..4 {
                longest = longest.max(send("/public/silent", "").await);
            }
            longest
        },
        send("/auth/session", ""),
        send("/public/slow", "a"),
    );
    within("a silent body", silent, 500, CUT);
    within("a silent body of an own route", own, 500, CUT);
    // The rate holds for each ten seconds.
    within("a slow body", slow, 5_000, Duration::from_secs(10) + CUT);
    // The app is let go, and is not blamed.
    eventually("the app to be left alone", || {
        (upstream.requests().len() == 5 && open_to(upstream.addr().port()) == 0).then_some(())
    })
    .await;
    assert_eq!(
        gateway.metric("portcullis_upstream_healthy_addresses{upstream=\"app\"}").await,
        1.0
    );
    let outcome =
        |name| format!("portcullis_upstream_requests_total{{upstream=\"app\",outcome=\"{name}\"}}");
    assert_eq!(gateway.metric(&outcome("client-body")).await, 5.0);
    assert_eq!(gateway.metric(&outcome("bad-response")).await, 0.0);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut() {
    let upstream = Upstream::answering(|_| {
        let length = 1_u64 << 40;
        Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).pour()
    });
    let gateway = gateway(&upstream);
    let host = gateway.authority().to_owned();
    let mut raw = gateway.raw().await;
    raw.send(format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    raw.until("\r\n\r\nxxxx").await;
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 1.0).await;
    let begun = Instant::now();
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
    within("a client that reads nothing", begun.elapsed(), 0, CUT);
    assert_eq!(upstream.abandoned(), 1);
}

#[tokio::test]
async fn an_upload_may_take_longer_than_the_app_may() {
    let upstream = Upstream::answering(|request| {
        if request.target == "/public/never" { Reply::hang() } else { Reply::ok("hello") }
    });
    let gateway = Gateway::builder()
        .upstream_with("app", &format!("http://{}", upstream.addr()), "first_byte_timeout = \"1s\"")
        .public("/public/", "app")
        .start();
    let host = gateway.authority().to_owned();
    let upload = async |path: &str| {
        let mut raw = gateway.raw().await;
        let length = 25;
        raw.send(format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
        for _ in 0..length {
            tokio::time::sleep(Duration::from_millis(100)).await;
            raw.send("x").await;
        }
        let sent = Instant::now();
        (raw.response().await.status, sent.elapsed())
    };
    let (good, never) = tokio::join!(upload("/public/good"), upload("/public/never"));
    assert_eq!(good.0, 200);
    // The app's own time runs from the end of the body.
    assert_eq!(never.0, 504);
    within("an app that does not answer", never.1, 700, CUT);
}

#[tokio::test]
async fn who_has_nothing_to_say_is_told_of_the_end() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let host = gateway.authority().to_owned();
    let end = async |used: bool| {
        let mut raw = gateway.raw().await;
        if used {
            raw.get("/public/x", &host, "").await.expect(200);
        }
        // Cut off without a word, it would be an error (RFC 8446 section 6.1).
        let mut byte = [0];
        let read = raw.reader.stream.read(&mut byte);
        timeout(2 * CUT, read).await.unwrap_or_else(|_| panic!("used: {used}: still open"))
    };
    let (used, unused) = tokio::join!(end(true), end(false));
    assert_eq!((used.unwrap(), unused.unwrap()), (0, 0));
}

#[tokio::test]
async fn who_sends_on_after_a_refusal_can_read_it() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .set("limits", "keep_alive", "\"1s\"")
        .upstream("app", upstream.addr())
        .public("/", "app")
        .start();
    let host = gateway.authority();
    let mut raw = gateway.raw().await;
    raw.send(format!(
        "POST /auth/session HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: 10000000\r\n\r\n"
    ))
    .await;
    raw.response().await.expect(413);
    // A client that sends all before it reads: what it sends must be taken, also when that is longer than
    // an idle connection may last. Closed, the connection would be reset and the answer lost.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let sent = raw.reader.stream.write_all(&[b'x'; 1000]).await;
        sent.unwrap_or_else(|error| panic!("cut after {:?}: {error}", begun.elapsed()));
        raw.reader.stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn who_sends_on_behind_an_early_answer_is_served_on() {
    let upstream = Upstream::answering(|request| match request.method.as_str() {
        "POST" => Reply::early("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").then_read(),
        _ => Reply::ok("next"),
    });
    let gateway = Gateway::builder()
        .set("limits", "keep_alive", "\"1s\"")
        .upstream("app", upstream.addr())
        .public("/", "app")
        .start();
    let host = gateway.authority();
    let mut raw = gateway.raw().await;
    raw.send(format!("POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 30\r\n\r\n")).await;
    assert_eq!(raw.response().await.expect(200).text(), "early");
    // Longer than a connection may be idle, which it is not.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        raw.send("x").await;
    }
    assert_eq!(raw.get("/x", host, "").await.expect(200).text(), "next");
}
