//! Bodies of requests on their way to the app, and answers that do not wait for their end.

use std::time::Duration;

use super::{Edge, get};
use crate::support::h2raw::{self, DATA, END_HEADERS, H2Raw, HEADERS, RST_STREAM, block};
use crate::support::process::{PATIENCE, eventually};
use crate::support::{Reply, Upstream};

const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const POST: &str = "POST /public/x HTTP/1.1\r\nHost: {host}\r\n";

#[tokio::test]
async fn an_answer_and_the_rest_of_its_request_pass_each_other() {
    for (framing, rest) in [
        ("Content-Length: 10\r\n\r\nhello", "world"),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "5\r\nworld\r\n0\r\n\r\n"),
    ] {
        let upstream = Upstream::answering(|request| match request.method.as_str() {
            "POST" => {
                Reply::early(CHUNKS).chunk("begun").then_read().chunk("done").then("0\r\n\r\n")
            }
            _ => Reply::ok("next"),
        });
        let edge = Edge::with(upstream, |builder| builder);
        let mut raw = edge.open(format!("{POST}{framing}").as_bytes()).await;
        // The app has not seen the end of the request.
        raw.until("begun\r\n").await;
        raw.send(rest).await;
        raw.until("4\r\ndone\r\n0\r\n\r\n").await;
        assert_eq!(edge.upstream.last().body.data, b"helloworld");
        // Both are at their end: the connection is as good as any.
        let next = raw.get("/public/next", edge.gateway.authority(), "").await.expect(200);
        assert_eq!(next.text(), "next");
        assert_eq!(edge.upstream.connections(), 1);
    }
}

#[tokio::test]
async fn the_rest_of_a_request_goes_on_while_the_client_does_not_read() {
    let (early, late) = (vec![b'e'; 1 << 20], vec![b'l'; 1 << 20]);
    let length = early.len() + late.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let edge = Edge::replying(Reply::early(head).then(early).then_read().then(late));
    let upload = vec![b'u'; 8 << 20];
    let head = format!("{POST}Content-Length: {}\r\n\r\n", upload.len());
    let mut raw = edge.open(head.as_bytes()).await;
    let sent = tokio::time::timeout(PATIENCE, raw.send(&upload)).await;
    sent.expect("the upload waits for the client to read");
    let answer = raw.response().await.expect(200);
    assert!(!answer.truncated && answer.body.len() == length);
    assert_eq!(edge.upstream.last().body.data.len(), upload.len());
}

#[tokio::test]
async fn a_connection_with_half_a_request_is_not_used_again() {
    // Answered early and in full, on a connection that the app would keep.
    let early = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
    let upstream = Upstream::answering(move |request| match request.method.as_str() {
        "POST" => Reply::early(early).then_read(),
        _ => Reply::ok("next"),
    });
    let edge = Edge::with(upstream, |builder| builder);
    // The rest is a request, should the connection be used again.
    let hidden = "GET /public/hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    let (length, chunk) = (hidden.len() + 5, hidden.len());
    for (begin, end) in [
        (format!("Content-Length: {length}\r\n\r\nhello"), ""),
        (format!("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n{chunk:x}\r\n"), "\r\n0\r\n\r\n"),
    ] {
        let mut raw = edge.open(format!("{POST}{begin}").as_bytes()).await;
        assert_eq!(raw.response().await.expect(200).text(), "early");
        raw.send(format!("{hidden}{end}")).await;
        // On the same connection, so by the worker that has the half request.
        for _ in 0..3 {
            let next = raw.get("/public/next", edge.gateway.authority(), "").await.expect(200);
            assert_eq!(next.text(), "next");
        }
    }
    let seen = edge.upstream.requests();
    assert!(seen.iter().all(|request| request.target != "/public/hidden"), "{seen:?}");
    for (at, post) in seen.iter().enumerate().filter(|(_, request)| request.method == "POST") {
        let mut later = seen.iter().skip(at + 1);
        let used = later.find(|request| request.connection == post.connection);
        assert!(used.is_none(), "used after half a request: {used:?}");
    }
}

#[tokio::test]
async fn a_client_that_still_sends_sees_the_early_answer() {
    let early = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge";
    for reply in [Reply::early(early), Reply::early(early).then_close()] {
        let refusing = reply.clone();
        let upstream = Upstream::answering(move |request| match request.method.as_str() {
            "POST" => refusing.clone(),
            _ => Reply::ok("next"),
        });
        let edge = Edge::with(upstream, |builder| builder);
        for size in [10_000, 1 << 20, 32 << 20] {
            let head = format!("{POST}Content-Length: {size}\r\n\r\n");
            let mut raw = edge.open(head.as_bytes()).await;
            edge.upstream.received(1).await;
            // As curl and browsers do: all of it first, then the answer.
            raw.send(vec![b'x'; size]).await;
            let answer = raw.response().await.expect(413);
            assert_eq!(answer.text(), "large", "{size} bytes, {reply:?}");
            // Nothing was reset: the connection serves on.
            let next = raw.get("/public/next", edge.gateway.authority(), "").await.expect(200);
            assert_eq!(next.text(), "next", "{size} bytes, {reply:?}");
            edge.upstream.forget();
        }
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_broken_for_the_app() {
    for framing in
        ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
    {
        let edge = Edge::start();
        let raw = edge.open(format!("{POST}{framing}").as_bytes()).await;
        edge.upstream.received(1).await;
        drop(raw);
        let body = eventually("the app to see the end", || {
            Some(edge.upstream.last().body).filter(|body| body.truncated)
        });
        assert!(body.await.data.starts_with(b"hello"));
        edge.open(&get("")).await.response().await.expect(200);
        assert_ne!(edge.upstream.last().connection, 0);
    }
}

/// Also with NO_ERROR: half a body was committed as a whole one.
#[tokio::test]
async fn an_http2_upload_that_is_taken_back_is_broken_for_the_app() {
    const NO_ERROR: [u8; 4] = [0; 4];
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    for code in [NO_ERROR, CANCEL] {
        let edge = Edge::start();
        let mut h2 = H2Raw::connect(&edge.gateway).await;
        let mut head = h2raw::get(edge.gateway.authority(), "/public/x");
        head[0].1 = "POST";
        h2.frame(HEADERS, END_HEADERS, 1, &block(&head)).await;
        h2.frame(DATA, 0, 1, b"hello").await;
        edge.upstream.received(1).await;
        h2.frame(RST_STREAM, 0, 1, &code).await;
        let body = eventually("the app to see the end", || {
            Some(edge.upstream.last().body).filter(|body| body.truncated)
        });
        assert!(body.await.data.starts_with(b"hello"));
    }
}

#[tokio::test]
async fn large_bodies_pass_in_little_memory() {
    const SIZE: usize = 100 << 20;
    const PIECE: usize = 1 << 20;
    let upstream = Upstream::answering(|request| match request.method.as_str() {
        "POST" => Reply::ok("stored"),
        _ => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            (0..SIZE / PIECE).fold(Reply::raw(head), |reply, _| reply.then(vec![b'x'; PIECE]))
        }
    });
    let edge = Edge::with(upstream, |builder| builder);
    edge.open(&get("")).await.until("\r\n\r\nxxxx").await;
    edge.gateway.forget_peak();
    let before = edge.gateway.peak();
    let mut raw = edge.open(&get("")).await;
    raw.until("\r\n\r\n").await;
    let mut count = 0;
    while count < SIZE {
        count += raw.reader.take_buffer().len();
        if count < SIZE {
            let more = tokio::time::timeout(PATIENCE, raw.reader.fill()).await;
            assert!(more.unwrap(), "cut after {count} bytes");
        }
    }
    assert_eq!(count, SIZE);
    let mut raw = edge.open(format!("{POST}Content-Length: {SIZE}\r\n\r\n").as_bytes()).await;
    for _ in 0..SIZE / PIECE {
        raw.send(vec![b'x'; PIECE]).await;
    }
    raw.response().await.expect(200);
    assert_eq!(edge.upstream.last().body.data.len(), SIZE);
    let grown = edge.gateway.peak().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB for bodies on their way");
}

#[tokio::test]
async fn a_slow_upload_is_the_clients_time_and_a_silent_app_its_own() {
    let upstream = Upstream::answering(|request| match request.target.as_str() {
        "/slow/taken" => Reply::ok("stored"),
        _ => Reply::hang(),
    });
    let addr = upstream.addr();
    let edge = Edge::with(upstream, |builder| {
        builder
            .upstream_with("slow", &format!("http://{addr}"), "first_byte_timeout = \"500ms\"")
            .public("/slow/", "slow")
    });
    for (path, status) in [("/slow/taken", 200), ("/slow/hangs", 504)] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: 10\r\n\r\n");
        let mut raw = edge.open(head.as_bytes()).await;
        for _ in 0..10 {
            // Twice the app's limit in all.
            tokio::time::sleep(Duration::from_millis(100)).await;
            raw.send("x").await;
        }
        raw.response().await.expect(status);
    }
}
