//! Request lines and field lines (RFC 9112 sections 2, 3 and 5).

use std::time::Duration;

use super::{Edge, cases, get};
use crate::support::client::NAVIGATION;
use crate::support::process::PATIENCE;
use crate::support::{Client, Gateway, Raw, Upstream, tls};

#[tokio::test]
async fn malformed_field_lines_are_refused() {
    let lines = [
        "X-A : b\r\n",
        "X-A\t: b\r\n",
        " X-A: b\r\n",
        "X-A: a\r\n folded\r\n",
        "X-A: a\r\n\tfolded\r\n",
        "X-A: a\rb\r\n",
        "X-A: a\0b\r\n",
        "X-\0A: b\r\n",
        "X-A: a\nX-B: b\r\n",
        "no colon\r\n",
        ": no name\r\n",
        "X(A: b\r\n",
        "X\u{e4}: b\r\n",
        "X-A: a\x01b\r\n",
        "X-A: a\x7fb\r\n",
    ];
    Edge::start().refuses(&[400], true, &cases(&lines, get)).await;
}

#[tokio::test]
async fn malformed_request_lines_are_refused() {
    let heads = [
        "GET /public/x HTTP/1.1\nHost: {host}\n\n",
        "GET /public/x HTTP/1.1\r\nHost: {host}\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: {host}\r\n\n",
        "GET  /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET\t/public/x\tHTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET /public/x  HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET /public/x HTTP/1.1 \r\nHost: {host}\r\n\r\n",
        " GET /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET /public/x http/1.1\r\nHost: {host}\r\n\r\n",
        "GET /public/x HTTP/1.2\r\nHost: {host}\r\n\r\n",
        "GET /public/x HTTP/9.1\r\nHost: {host}\r\n\r\n",
        "GET /public/x HTTP/1.01\r\nHost: {host}\r\n\r\n",
        "GET /public/x\r\n\r\n",
        "GE(T /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "G\0T /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let cases = cases(&heads, |head| head.as_bytes().to_vec());
    Edge::start().refuses(&[400, 501, 505], true, &cases).await;
}

#[tokio::test]
async fn tunnels_and_traces_are_refused() {
    let heads = [
        "TRACE /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "CONNECT /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    ];
    let cases = cases(&heads, |head| head.as_bytes().to_vec());
    Edge::start().refuses(&[400, 405, 501], false, &cases).await;
}

#[tokio::test]
async fn there_is_one_valid_host() {
    let heads = [
        "GET /public/x HTTP/1.1\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: user@{host}\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: localhost:99999\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: localhost:80x\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: {host}/public\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: {host}?x\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: {host}#x\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: {host}, evil.example\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: {host} evil.example\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: local%68ost\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET https://evil.example/public/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET https://{host}/public/x HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET https://user@{host}/public/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET ftp://{host}/public/x HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET /public/x HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    ];
    let cases = cases(&heads, |head| head.as_bytes().to_vec());
    Edge::start().refuses(&[400, 421], false, &cases).await;
}

#[tokio::test]
async fn the_absolute_form_is_one_name_for_the_same_thing() {
    let edge = Edge::start();
    let seen = edge.passes(b"GET https://{host}/public/x?y HTTP/1.1\r\nHost: {host}\r\n\r\n").await;
    assert_eq!(seen.target, "/public/x?y");
    assert_eq!(seen.aliases("host").len(), 1);
    // Without a path it is that of `/`.
    let mut raw = edge.gateway.raw().await;
    let host = edge.gateway.authority();
    raw.send(format!("GET https://{host}?a=%3f HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(raw.response().await.status, 401, "the page is for those who are signed in");
    // A name is the same name in any case.
    let upper = edge.gateway.authority().to_uppercase();
    let request = format!("GET /public/x HTTP/1.1\r\nHost: {upper}\r\n\r\n");
    edge.passes(request.as_bytes()).await;
}

#[tokio::test]
async fn a_name_other_than_the_handshakes_is_misdirected() {
    let edge = Edge::start();
    let connected = Raw::try_tls(edge.gateway.addr(), tls::blind(&["http/1.1"]), "other.example");
    // Refusing the handshake for a name without certificate is as good.
    if let Ok(mut raw) = connected.await {
        let answer = raw.get("/public/x", edge.gateway.authority(), "").await;
        assert_eq!(answer.status, 421);
    }
    assert!(edge.upstream.requests().is_empty());
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let long = "x".repeat(70_000);
    let many: String = (0..2_000).map(|n| format!("X-{n}: 1\r\n")).collect();
    let crumbs: String = (0..2_000).map(|n| format!("Cookie: c{n}=1\r\n")).collect();
    let target = format!("GET /public/{long} HTTP/1.1\r\nHost: {{host}}\r\n\r\n");
    let method = format!("{long} /public/x HTTP/1.1\r\nHost: {{host}}\r\n\r\n");
    let requests = [
        ("long target", target.into_bytes()),
        ("long method", method.into_bytes()),
        ("long field", get(&format!("X-A: {long}\r\n"))),
        ("many fields", get(&many)),
        ("many cookie lines", get(&crumbs)),
    ];
    Edge::start().refuses(&[400, 414, 431, 501], true, &requests).await;
}

#[tokio::test]
async fn every_slow_way_to_begin_is_cut() {
    let edge = Edge::start();
    let limit = Duration::from_secs(15);
    let silent = async {
        let mut raw = Raw::plain(edge.gateway.addr()).await;
        raw.closes_within(limit).await
    };
    let no_request = async { edge.gateway.raw().await.closes_within(limit).await };
    let half = async {
        let mut raw = edge.open(b"GET /public/x HTTP/1.1\r\nHost: {host}\r\nX-A: ").await;
        raw.closes_within(limit).await
    };
    let trickle = async {
        let mut raw = edge.open(b"GET /public/x HTTP/1.1\r\nHost: {host}\r\nX-A: ").await;
        for _ in 0..15 {
            if raw.closes_within(Duration::from_secs(1)).await {
                return true;
            }
            raw.send("x").await;
        }
        false
    };
    let cut = tokio::join!(silent, no_request, half, trickle);
    assert_eq!(cut, (true, true, true, true), "silent, no request, half a head, trickle");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::answering(|request| crate::support::Reply::ok(&request.target));
    let edge = Edge::with(upstream, |builder| builder);
    let one = "GET /public/1 HTTP/1.1\r\nHost: {host}\r\n\r\n";
    let two = "GET /public/2 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n";
    let mut raw = edge.open(format!("{one}{two}").as_bytes()).await;
    assert_eq!(raw.response().await.expect(200).text(), "/public/1");
    assert_eq!(raw.response().await.expect(200).text(), "/public/2");
    assert!(raw.closes_within(PATIENCE).await);
}

#[tokio::test]
async fn who_has_too_many_cookies_is_freed_of_them() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    // Somewhat more than 32 KiB, and nearly four times that: two cookies of 4 KB from each of 15 neighbours.
    for (client, size) in [
        (Client::new as fn(&Gateway) -> Client, 40_000),
        (Client::new, 120_000),
        (Client::h2, 40_000),
        (Client::h2, 120_000),
    ] {
        let bomb = format!("a={}", "x".repeat(size));
        let cookie = [("cookie", bomb.as_str())];
        let page = client(&gateway).get_with("/x", &[NAVIGATION, &cookie].concat()).await;
        let page = page.expect(431);
        assert!(page.is_html() && page.text().contains("cookies"), "{}", page.text());
        assert_eq!(page.header("clear-site-data").as_deref(), Some("\"cookies\""));
        let told = client(&gateway).get_with("/x", &cookie).await.expect(431);
        assert_eq!(told.json()["code"], "cookies-too-large", "{}", told.text());
        assert_eq!(told.header("clear-site-data").as_deref(), Some("\"cookies\""));
        // What is not the cookies' fault clears nothing.
        let large = "x".repeat(40_000);
        let other = client(&gateway).get_with("/x", &[("x-a", &large), ("cookie", "a=b")]).await;
        assert_eq!(other.expect(431).header("clear-site-data"), None);
    }
    assert!(upstream.requests().is_empty());
}
