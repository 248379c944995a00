//! Where a request body ends (RFC 9112 sections 6 and 7): one way to read it, or none.

use super::{Edge, cases, post};
use crate::support::Upstream;

#[tokio::test]
async fn every_doubtful_framing_is_refused() {
    let lines = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 5\r\n",
    ];
    let edge = Edge::start();
    edge.refuses(&[400, 501], true, &cases(&lines, |l| post(l, "0\r\n\r\n"))).await;
    let old =
        "POST /public/x HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    edge.refuses(&[400, 501], true, &[("chunked in 1.0", old.as_bytes().to_vec())]).await;
}

#[tokio::test]
async fn a_hidden_second_request_stays_hidden() {
    let hidden = "GET /public/hidden HTTP/1.1\r\nHost: {host}\r\n\r\n";
    let lines = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
    ];
    let body = format!("0\r\n\r\n{hidden}");
    Edge::start().refuses(&[400, 501], true, &cases(&lines, |l| post(l, &body))).await;
}

/// The upstream answers 200 only when it has read the body to its end, so no 200 means that the
/// malformed body never looked complete to it.
#[tokio::test]
async fn malformed_chunks_never_make_a_whole_body() {
    let bodies = [
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "3\r\nabcde\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3\rX\nabc\r\n0\r\n\r\n",
    ];
    let edge = Edge::start();
    let mut problems = Vec::new();
    for body in bodies {
        let request = post("Transfer-Encoding: chunked\r\nConnection: close\r\n", body);
        let mut raw = edge.open(&request).await;
        if let Ok(answer) = raw.try_response().await
            && answer.status < 400
        {
            problems.push(format!("{body:?}: answered {}", answer.status));
        }
    }
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "e".repeat(64 * 1024));
    let mut raw = edge.open(&post("Transfer-Encoding: chunked\r\n", &long)).await;
    if raw.try_response().await.is_ok_and(|answer| answer.status < 400) {
        problems.push("64 KiB of chunk extension".to_owned());
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test]
async fn good_bodies_arrive_whole_and_without_trailers() {
    let edge = Edge::start();
    let sized = edge.passes(&post("Content-Length: 5\r\n", "hello")).await;
    assert_eq!(sized.body.data, b"hello");

    let chunks = "3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\nX-Auth-User: evil\r\nX-Late: 1\r\n\r\n";
    let trailer = "Trailer: X-Auth-User\r\n";
    for lines in ["", trailer, "TE: trailers\r\n"] {
        let lines = format!("Transfer-Encoding: chunked\r\n{lines}");
        let seen = edge.passes(&post(&lines, chunks)).await;
        assert_eq!(seen.body.data, b"hello");
        assert_eq!(seen.body.trailers, []);
        assert!(seen.aliases("x-auth-user").is_empty(), "{:?}", seen.head);
        assert!(seen.aliases("x-late").is_empty(), "{:?}", seen.head);
    }

    // GET and DELETE may have one too, and it must not become the next request.
    let seen = edge
        .passes(b"DELETE /public/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!(seen.body.data, b"hello");
}

#[tokio::test]
async fn a_refused_request_brings_no_body_upstream() {
    let edge = Edge::start();
    let body = "GET /public/hidden HTTP/1.1\r\nHost: {host}\r\n\r\n";
    let length = edge.filled(body.as_bytes()).len();
    let request = format!(
        "POST /private HTTP/1.1\r\nHost: {{host}}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut raw = edge.open(request.as_bytes()).await;
    assert_eq!(raw.response().await.status, 401);
    // The connection may live on; then the body was read and thrown away, not taken for a request.
    raw.send(
        edge.filled(b"GET /public/next HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    )
    .await;
    raw.rest().await;
    let targets: Vec<String> = edge.upstream.requests().into_iter().map(|r| r.target).collect();
    assert!(!targets.iter().any(|target| target.contains("hidden")), "{targets:?}");
}

#[tokio::test]
async fn expectations_are_met_before_the_body() {
    let edge = Edge::start();
    let head = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    let mut raw = edge.open(&post(head, "")).await;
    let interim = raw.until("\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
    raw.send("hello").await;
    raw.response().await.expect(200);
    assert_eq!(edge.upstream.last().body.data, b"hello");

    // A request that will be refused is refused before its body is asked for.
    let request = "POST /private HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\
                   Expect: 100-continue\r\n\r\n";
    let mut raw = edge.open(request.as_bytes()).await;
    let first = raw.until("\r\n").await;
    assert!(first.starts_with("HTTP/1.1 401"), "{first}");
}

#[tokio::test]
async fn own_routes_take_small_bodies_only() {
    let edge = Edge::with(Upstream::start(), |builder| builder);
    let body = format!("{{\"username\":\"{}\"}}", "x".repeat(2 << 20));
    let length = body.len();
    let request = format!(
        "POST /auth/session HTTP/1.1\r\nHost: {{host}}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    assert_eq!(edge.open(request.as_bytes()).await.response().await.status, 413);
    let chunked = format!(
        "POST /auth/session HTTP/1.1\r\nHost: {{host}}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
    );
    assert_eq!(edge.open(chunked.as_bytes()).await.response().await.status, 413);
}
