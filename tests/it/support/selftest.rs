//! The tools tried on each other: a tool that records or reports wrongly would make the tests lie.

mod clients;
mod redis;

use std::time::Duration;

use super::html::form_with;
use super::process::eventually;
use super::upstream::Gate;
use super::{Raw, Reply, Upstream};

#[tokio::test]
async fn the_upstream_records_exact_bytes() {
    let upstream = Upstream::start();
    let mut raw = Raw::plain(upstream.addr()).await;
    let bytes = "POST /x HTTP/1.1\r\nhOsT: a\r\nX_Auth-User: 1\r\nx.auth.user:2\r\n\
                 Transfer-Encoding: chunked\r\n\r\n5;e=1\r\nhello\r\n0\r\nX-T: 1\r\n\r\n";
    raw.send(bytes).await;
    assert_eq!(raw.response().await.expect(200).text(), "hello");
    let seen = upstream.last();
    assert_eq!(seen.bytes(), bytes.as_bytes());
    assert_eq!(seen.body.data, b"hello");
    assert_eq!(seen.body.trailers, [("X-T".to_owned(), "1".to_owned())]);
    assert_eq!(seen.aliases("x-auth-user").len(), 2);
    // The connection is kept, and the next request has its own record.
    let second = raw.get("/y", "a", "").await.expect(200);
    assert_eq!(second.header("content-type").as_deref(), Some("text/plain"));
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_short_body_is_seen_to_be_short() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let replies = [
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").then_close(),
        Reply::raw(chunked).chunk("hello").then_close(),
        Reply::raw(chunked).chunk("hel").then("5\r\nlo").then_reset(),
        Reply::raw(chunked).chunk("hello").then("0\r\n").then_close(),
    ];
    for reply in replies {
        let upstream = Upstream::answering(move |_| reply.clone());
        let answer = Raw::plain(upstream.addr()).await.get("/", "a", "").await;
        assert!(answer.truncated, "{answer:?}");
    }
    let upstream =
        Upstream::answering(move |_| Reply::raw(chunked).chunk("hello").then("0\r\n\r\n"));
    let answer = Raw::plain(upstream.addr()).await.get("/", "a", "").await;
    assert!(!answer.truncated && answer.body == b"hello", "{answer:?}");
}

#[tokio::test]
async fn replies_wait_hang_and_end_as_told() {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::answering(move |request| match request.target.as_str() {
        "/held" => {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").wait(&held).then("ok")
        }
        "/hang" => Reply::hang(),
        _ => Reply::reset(),
    });
    let mut raw = Raw::plain(upstream.addr()).await;
    raw.send("GET /held HTTP/1.1\r\n\r\n").await;
    raw.until("\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(50), raw.reader.exactly(1)).await;
    assert!(early.is_err(), "the gate is open");
    gate.open();
    assert_eq!(raw.reader.exactly(2).await.as_deref(), Some(&b"ok"[..]));

    let mut hanging = Raw::plain(upstream.addr()).await;
    hanging.send("GET /hang HTTP/1.1\r\n\r\n").await;
    upstream.received(2).await;
    assert_eq!(upstream.abandoned(), 0);
    drop(hanging);
    eventually("the hang to end", || (upstream.abandoned() == 1).then_some(())).await;

    let mut reset = Raw::plain(upstream.addr()).await;
    reset.send("GET /reset HTTP/1.1\r\n\r\n").await;
    assert!(reset.try_response().await.is_err());
}

#[test]
fn forms_are_read_as_a_browser_reads_them() {
    let page = r#"<form action="/search"><input name="q"></form>
        <form method="POST" action="/auth/login?a=1&amp;b=2">
        <input type="hidden" name="state" value="&quot;x&#x27;"><input name="username">
        <input type="password" name="password" required><button>In</button></form>"#;
    let form = form_with(page, "password").fill("username", "a b");
    assert_eq!((form.method.as_str(), form.action.as_str()), ("post", "/auth/login?a=1&b=2"));
    assert_eq!(form.encoded(), "state=%22x%27&username=a+b&password=");
}
