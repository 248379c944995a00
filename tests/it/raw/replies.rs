//! What the upstream sends, correct or not, and what the client may see of it.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Edge, get, post};
use crate::support::process::eventually;
use crate::support::{Client, Reply, Upstream};

#[tokio::test]
async fn malformed_replies_become_502() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let replies = [
        format!("{ok}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        format!("{ok}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{ok}Content-Length: +5\r\n\r\nhello"),
        format!("{ok}Content-Length: x\r\n\r\nhello"),
        format!("{ok}X-A : b\r\nContent-Length: 0\r\n\r\n"),
        format!("{ok}X-A: a\0b\r\nContent-Length: 0\r\n\r\n"),
        format!("{ok}X-A: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(1 << 20)),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_owned(),
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 abc\r\n\r\n".to_owned(),
        "HTTP/4.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
        "\r\n\r\n\r\n".to_owned(),
        String::new(),
    ];
    let mut problems = Vec::new();
    for reply in replies {
        let shown: String = reply.chars().take(80).collect();
        let edge = Edge::replying(Reply::raw(reply).then_close());
        let answer = edge.open(&get("")).await.response().await;
        if answer.status != 502 {
            problems.push(format!("{shown:?}: {}", answer.status));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test]
async fn a_reply_cut_short_is_short_for_the_client_too() {
    let cut = [
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello").then_close(),
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello").then_reset(),
        Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .chunk("hello")
            .then_close(),
        Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .chunk("hello")
            .then("ffff\r\nhalf")
            .then_reset(),
        Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .chunk("hello")
            .then("xyz\r\n")
            .then_close(),
    ];
    for reply in cut {
        let edge = Edge::replying(reply.clone());
        // A cut so early that no byte of the body was seen may be a 502.
        let first = edge.open(&get("")).await.response().await;
        assert!(first.truncated || first.status == 502, "{reply:?}: {first:?}");
        let mut h2 = Client::h2(&edge.gateway);
        let second = h2.try_request(http::Method::GET, "/public/x", &[], bytes::Bytes::new());
        if let Ok(second) = second.await {
            assert!(second.truncated || second.status == 502, "{reply:?}: {second:?}");
        }
    }
}

#[tokio::test]
async fn interim_replies_are_not_the_answer() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    for before in
        [interim.to_owned(), "HTTP/1.1 100 Continue\r\n\r\n".to_owned(), interim.repeat(3)]
    {
        let edge = Edge::replying(Reply::raw(format!("{before}{last}")));
        let answer = edge.open(&get("")).await.response().await.expect(200);
        assert_eq!(answer.text(), "hello");
    }
}

#[tokio::test]
async fn bytes_behind_a_reply_are_nobodys_answer() {
    let first = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let upstream = Upstream::answering(move |request| match request.target.as_str() {
        "/public/first" => Reply::raw(format!("{first}{evil}")),
        _ => Reply::ok("right"),
    });
    let edge = Edge::with(upstream, |builder| builder);
    let mut raw = edge.gateway.raw().await;
    let host = edge.gateway.authority();
    assert_eq!(raw.get("/public/first", host, "").await.expect(200).text(), "hello");
    for _ in 0..3 {
        assert_eq!(raw.get("/public/next", host, "").await.expect(200).text(), "right");
    }
}

#[tokio::test]
async fn a_dead_upstream_is_502_at_once() {
    let edge = Edge::replying(Reply::reset());
    let start = Instant::now();
    let answer = edge.open(&post("Content-Length: 0\r\n", "")).await.response().await;
    assert_eq!(answer.status, 502);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(edge.upstream.requests().len(), 1, "a POST must not be repeated");
}

#[tokio::test]
async fn a_pooled_connection_that_went_stale_is_no_error() {
    // Every connection answers once and is reset by its second request.
    let used = Mutex::new(HashSet::new());
    let upstream = Upstream::answering(move |request| {
        if used.lock().unwrap().insert(request.connection) {
            Reply::ok("hello")
        } else {
            Reply::reset()
        }
    });
    let edge = Edge::with(upstream, |builder| builder);
    let mut raw = edge.gateway.raw().await;
    let host = edge.gateway.authority();
    for _ in 0..20 {
        raw.get("/public/x", host, "").await.expect(200);
    }
    // What is not idempotent is sent once, whatever becomes of it.
    edge.upstream.forget();
    raw.send(edge.filled(&post("Content-Length: 2\r\n", "hi"))).await;
    raw.response().await;
    let posts = edge.upstream.requests().into_iter().filter(|r| r.method == "POST").count();
    assert!(posts <= 1, "the POST was sent {posts} times");
}

#[tokio::test]
async fn a_hanging_upstream_is_504() {
    let upstream = Upstream::answering(|_| Reply::hang());
    let addr = upstream.addr();
    let edge = Edge::with(upstream, |builder| {
        builder
            .upstream_with("slow", &format!("http://{addr}"), "first_byte_timeout = \"500ms\"")
            .public("/slow/", "slow")
    });
    let request = b"GET /slow/x HTTP/1.1\r\nHost: {host}\r\n\r\n";
    let answer = edge.open(request).await.response().await;
    assert_eq!(answer.status, 504);
    eventually("the request to be given up", || (edge.upstream.abandoned() == 1).then_some(()))
        .await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let edge = Edge::replying(Reply::hang());
    let raw = edge.open(&get("")).await;
    edge.upstream.received(1).await;
    drop(raw);
    eventually("the request to be given up", || (edge.upstream.abandoned() == 1).then_some(()))
        .await;
}

#[tokio::test]
async fn an_early_reply_needs_no_body() {
    let edge = Edge::replying(
        Reply::early(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )
        .then_close(),
    );
    let mut raw = edge.open(&post("Content-Length: 1000000\r\n", "begin")).await;
    assert_eq!(raw.response().await.status, 413);
}

#[tokio::test]
async fn a_reply_without_body_has_none() {
    let upstream = Upstream::answering(|request| match request.target.as_str() {
        "/public/204" => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        "/public/304" => Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
        _ => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    });
    let edge = Edge::with(upstream, |builder| builder);
    let mut raw = edge.gateway.raw().await;
    let host = edge.gateway.authority();
    raw.get("/public/204", host, "").await.expect(204);
    raw.get("/public/304", host, "").await.expect(304);
    raw.send(edge.filled(b"HEAD /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(raw.head_response().await.header("content-length").as_deref(), Some("5"));
    raw.get("/public/204", host, "").await.expect(204);
}

mod websocket {
    //! Tunnels open after the upstream's 101 and for nothing but WebSocket.

    use super::{Edge, Reply, Upstream};

    const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
                             Sec-WebSocket-Version: 13\r\n\
                             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn request(path: &str, lines: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nHost: {{host}}\r\n{HANDSHAKE}{lines}\r\n").into_bytes()
    }

    #[tokio::test]
    async fn carries_bytes_both_ways() {
        let edge = Edge::with(Upstream::answering(Reply::websocket), |builder| builder);
        let mut raw = edge.open(&request("/public/ws", "")).await;
        let answer = raw.response().await.expect(101);
        let accept = answer.header("sec-websocket-accept");
        assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for bytes in [&b"\x81\x85\0\0\0\0hello"[..], &[0x82, 0x80, 1, 2, 3, 4]] {
            raw.send(bytes).await;
            assert_eq!(raw.reader.exactly(bytes.len()).await.as_deref(), Some(bytes));
        }
    }

    #[tokio::test]
    async fn opens_only_after_the_upstream_agreed() {
        let edge = Edge::replying(Reply::ok("no"));
        let hidden = edge.filled(b"GET /public/hidden HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut bytes = request("/public/ws", "");
        bytes.extend_from_slice(&hidden);
        let mut raw = edge.open(&bytes).await;
        assert_eq!(raw.response().await.status, 200);
        let first = &edge.upstream.requests()[0];
        assert_eq!(first.target, "/public/ws");
        assert!(first.body.data.is_empty(), "{first:?}");
        // The bytes behind are a request of their own, judged like any other.
        for seen in edge.upstream.requests().iter().skip(1) {
            assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
        }
    }

    #[tokio::test]
    async fn other_protocols_get_no_tunnel() {
        let edge = Edge::start();
        for protocol in ["h2c", "tls/1.2", "websocket2", "foo"] {
            let request = format!(
                "GET /public/x HTTP/1.1\r\nHost: {{host}}\r\nConnection: Upgrade\r\n\
                 Upgrade: {protocol}\r\n\r\n"
            );
            let seen = edge.passes(request.as_bytes()).await;
            assert!(seen.header("upgrade").is_none(), "{:?}", seen.head.headers);
        }
    }

    #[tokio::test]
    async fn needs_a_session_and_our_own_origin() {
        let edge = Edge::with(Upstream::answering(Reply::websocket), |builder| builder);
        let answer = edge.open(&request("/ws", "")).await.response().await;
        assert_eq!(answer.status, 401);
        let client = edge.gateway.signed_in("alice").await;
        let cookie = format!("Cookie: __Host-portcullis={}\r\n", client.token().unwrap());
        let foreign = [
            "Origin: https://evil.example\r\n",
            "Origin: null\r\n",
            "Origin: http://{host}\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
        ];
        for origin in foreign {
            let lines = format!("{cookie}{origin}");
            let answer = edge.open(&request("/ws", &lines)).await.response().await;
            assert_eq!(answer.status, 403, "{origin}");
        }
        assert!(edge.upstream.requests().is_empty());
        let lines = format!("{cookie}Origin: https://{{host}}\r\n");
        edge.open(&request("/ws", &lines)).await.response().await.expect(101);
        assert_eq!(edge.upstream.last().header("x-auth-user").as_deref(), Some("u-alice"));
    }

    #[tokio::test]
    async fn a_route_may_be_open_to_other_origins() {
        let edge = Edge::with(Upstream::answering(Reply::websocket), |builder| {
            builder.route("/open/", "app", "\"authenticated\"", "allow_cross_site_websocket = true")
        });
        let client = edge.gateway.signed_in("alice").await;
        let cookie = format!("Cookie: __Host-portcullis={}\r\n", client.token().unwrap());
        let lines = format!("{cookie}Origin: https://elsewhere.example\r\n");
        edge.open(&request("/open/ws", &lines)).await.response().await.expect(101);
        edge.open(&request("/ws", &lines)).await.response().await.expect(403);
    }
}
