//! What the upstream sends, correct or not, and what the client may see of it.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Edge, get, post};
use crate::support::h2raw::{self, H2Raw};
use crate::support::open::cookie;
use crate::support::process::{PATIENCE, eventually};
use crate::support::upstream::Gate;
use crate::support::{Client, Reply, Upstream};

#[tokio::test]
async fn malformed_replies_become_502() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let replies = [
        format!("{ok}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        format!("{ok}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        format!("{ok}Content-Length: 5, 5\r\n\r\nhello"),
        format!("{ok}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{ok}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!("{ok}Transfer-Encoding: gzip\r\n\r\nhello"),
        "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(50) + ok + "Content-Length: 0\r\n\r\n",
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
    for before in [
        interim.to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
        interim.repeat(3),
        interim.repeat(16),
    ] {
        let edge = Edge::replying(Reply::raw(format!("{before}{last}")));
        let answer = edge.open(&get("")).await.response().await.expect(200);
        assert_eq!(answer.text(), "hello");
    }
}

/// What an app says ahead of its answer, with what is not the client's to see.
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nContent-Length: 9\r\n\
     Connection: x-hop\r\nX-Hop: 1\r\nSet-Cookie: __Host-portcullis=evil\r\n\r\n";
const DONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// RFC 9110 section 15.2: a proxy passes on what it has not asked for itself. At once: hints are of use before
/// the answer only.
#[tokio::test]
async fn interim_replies_are_passed_on_at_once_and_cleaned() {
    let gate = Gate::closed();
    let replies = Reply::raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
        .then(HINTS)
        .wait(&gate)
        .then(DONE);
    let edge = Edge::replying(replies);
    let mut raw = edge.open(&get("")).await;
    assert_eq!(raw.until("\r\n\r\n").await, "HTTP/1.1 102 Processing\r\n\r\n");
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n";
    assert_eq!(raw.until("\r\n\r\n").await, hints);
    gate.open();
    assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(raw.until("hello").await, "hello");
}

#[tokio::test]
async fn interim_replies_reach_http2_too() {
    let gate = Gate::closed();
    let edge = Edge::replying(Reply::raw(HINTS).wait(&gate).then(DONE));
    let mut h2 = H2Raw::connect(&edge.gateway).await;
    h2.request(1, &h2raw::get(edge.gateway.authority(), "/public/x")).await;
    let mut seen = Vec::new();
    while let Some((kind, flags, stream, payload)) = h2.next().await {
        if (kind, stream) == (1, 1) {
            seen.push((h2raw::status(&payload), flags & 1));
            match seen.len() {
                1 => gate.open(),
                _ => break,
            }
        }
    }
    assert_eq!(seen, [(103, 0), (200, 0)]);
}

#[tokio::test]
async fn clients_of_http_1_0_know_no_interim_replies() {
    let edge = Edge::replying(Reply::raw(format!("{HINTS}{DONE}")));
    let mut raw = edge.gateway.raw().await;
    raw.send(format!("GET /public/x HTTP/1.0\r\nHost: {}\r\n\r\n", edge.gateway.authority())).await;
    assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.0 200 OK\r\n"));
}

/// Nothing of the app's stands ahead of a refusal, which is the gateway's own.
#[tokio::test]
async fn interim_replies_of_a_reply_that_is_refused_are_not_passed_on() {
    let edge = Edge::replying(Reply::raw(format!("{HINTS}HTTP/1.1 2000 OK\r\n\r\n")).then_close());
    let mut raw = edge.open(&get("")).await;
    assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn interim_replies_end_with_the_session() {
    let [over, said, done] = [Gate::closed(), Gate::closed(), Gate::closed()];
    let reply = Reply::raw("HTTP/1.1 102 Processing\r\n\r\n")
        .wait(&over)
        .then(HINTS)
        .open(&said)
        .wait(&done)
        .then(DONE);
    let edge = Edge::replying(reply);
    let mut client = edge.gateway.signed_in("alice").await;
    let mut raw = edge.gateway.raw().await;
    let host = edge.gateway.authority();
    raw.send(format!("GET /private HTTP/1.1\r\nHost: {host}\r\n{}\r\n", cookie(&client))).await;
    assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 102 "));
    client.delete("/auth/session").await.expect(204);
    over.open();
    said.passed().await;
    // Both workers have turned since: what was to be passed on is under way.
    for _ in 0..20 {
        edge.gateway.client().get("/auth/session").await.expect(401);
    }
    done.open();
    let answer = raw.until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

#[tokio::test]
async fn bytes_behind_a_reply_are_nobodys_answer() {
    let five = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (method, status, first) in [
        ("GET", 200, format!("{five}hello")),
        ("GET", 200, chunks.to_owned()),
        ("GET", 204, "HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
        ("GET", 204, "HTTP/1.1 204 No Content\r\nContent-Length: 51\r\n\r\n".to_owned()),
        ("GET", 304, "HTTP/1.1 304 Not Modified\r\nContent-Length: 51\r\n\r\n".to_owned()),
        ("HEAD", 200, five.to_owned()),
    ] {
        let reply = Reply::raw(format!("{first}{EVIL}"));
        let upstream = Upstream::answering(move |request| match request.target.as_str() {
            "/public/first" => reply.clone(),
            _ => Reply::ok("right"),
        });
        let edge = Edge::with(upstream, |builder| builder);
        let mut raw = edge.gateway.raw().await;
        let host = edge.gateway.authority();
        let line = format!("{method} /public/first HTTP/1.1\r\nHost: {host}\r\n\r\n");
        raw.send(line).await;
        let answer =
            if method == "HEAD" { raw.head_response().await } else { raw.response().await };
        assert!(answer.expect(status).text().len() <= 5);
        for _ in 0..3 {
            let next = raw.get("/public/next", host, "").await.expect(200);
            assert_eq!(next.text(), "right", "{method} {first:?}");
        }
    }
}

#[tokio::test]
async fn what_an_idle_connection_receives_is_nobodys_answer() {
    for evil in [EVIL, "\r\n", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"] {
        let (go, sent) = (Gate::closed(), Gate::closed());
        let first = Reply::ok("first").wait(&go).then(evil).open(&sent).then_hang();
        let upstream = Upstream::answering(move |request| match request.target.as_str() {
            "/public/first" => first.clone(),
            _ => Reply::ok("right"),
        });
        let edge = Edge::with(upstream, |builder| builder);
        let mut raw = edge.gateway.raw().await;
        let host = edge.gateway.authority();
        assert_eq!(raw.get("/public/first", host, "").await.expect(200).text(), "first");
        go.open();
        sent.passed().await;
        for _ in 0..3 {
            assert_eq!(raw.get("/public/next", host, "").await.expect(200).text(), "right");
        }
        eventually("the connection to be closed", || {
            (edge.upstream.abandoned() == 1).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_post_on_a_connection_that_the_app_has_closed_is_sent_once_on_a_new_one() {
    let (go, closed) = (Gate::closed(), Gate::closed());
    let first = Reply::ok("first").wait(&go).then_shut().open(&closed).then_hang();
    let upstream = Upstream::answering(move |request| match request.method.as_str() {
        "GET" => first.clone(),
        _ => Reply::ok("stored"),
    });
    let edge = Edge::with(upstream, |builder| builder);
    let mut raw = edge.gateway.raw().await;
    raw.get("/public/first", edge.gateway.authority(), "").await.expect(200);
    go.open();
    closed.passed().await;
    for lines in ["", "Expect: 100-continue\r\n"] {
        let length = format!("Content-Length: 5\r\n{lines}");
        raw.send(edge.filled(&post(&length, "hello"))).await;
        assert_eq!(raw.response().await.expect(200).text(), "stored");
    }
    let posts = edge.upstream.requests();
    let posts: Vec<_> = posts.iter().filter(|request| request.method == "POST").collect();
    assert_eq!(posts.len(), 2);
    assert!(posts.iter().all(|post| post.connection == 1 && post.body.data == b"hello"));
}

#[tokio::test]
async fn a_reply_may_end_with_its_connection() {
    for version in ["1.0", "1.1"] {
        let head = format!("HTTP/{version} 200 OK\r\n\r\n");
        let edge = Edge::replying(Reply::raw(format!("{head}hel")).then("lo").then_close());
        let mut raw = edge.gateway.raw().await;
        for _ in 0..2 {
            let answer = raw.get("/public/x", edge.gateway.authority(), "").await.expect(200);
            assert!(answer.text() == "hello" && !answer.truncated, "{version}: {answer:?}");
        }
        assert_eq!(edge.upstream.connections(), 2);
        let mut h2 = Client::h2(&edge.gateway);
        let answer = h2.get("/public/x").await.expect(200);
        assert!(answer.text() == "hello" && !answer.truncated, "{version}: {answer:?}");
        // A reset is no end.
        let edge = Edge::replying(Reply::raw(format!("{head}hello")).then_reset());
        let answer = edge.open(&get("")).await.response().await;
        assert!(answer.truncated || answer.status == 502, "{version}: {answer:?}");
    }
}

#[tokio::test]
async fn an_app_that_speaks_http_1_0_gets_a_connection_for_each_request() {
    let edge = Edge::replying(Reply::raw(
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
    ));
    let mut raw = edge.gateway.raw().await;
    for _ in 0..3 {
        let answer = raw.get("/public/x", edge.gateway.authority(), "").await.expect(200);
        assert_eq!(answer.text(), "hello");
    }
    assert_eq!(edge.upstream.connections(), 3);
}

#[tokio::test]
async fn trailers_reach_http_2_clients_without_what_may_not_trail() {
    let edge = Edge::replying(
        Reply::raw("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n")
            .chunk("hello")
            .then(
                "0\r\nX-Sum: 1\r\nConnection: x\r\nUpgrade: x\r\nContent-Length: 1\r\n\
                 Set-Cookie: __Host-portcullis=evil\r\n\r\n",
            ),
    );
    let mut h2 = Client::h2(&edge.gateway);
    for _ in 0..2 {
        let answer = h2.get("/public/x").await.expect(200);
        assert!(answer.text() == "hello" && !answer.truncated, "{answer:?}");
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    }
    assert_eq!(edge.upstream.connections(), 1);
    let answer = edge.open(&get("TE: trailers\r\n")).await.response().await.expect(200);
    assert!(answer.text() == "hello" && !answer.truncated, "{answer:?}");
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

/// A client that says it has a body which the app does not care for, and leaves.
#[tokio::test]
async fn a_client_that_leaves_within_its_body_takes_the_answer_with_it() {
    let reply = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
    let edge = Edge::replying(Reply::early(reply).then_hang());
    let mut raw =
        edge.open(b"GET /public/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\n").await;
    raw.head_response().await.expect(200);
    drop(raw);
    eventually("the answer to be given up", || (edge.upstream.abandoned() == 1).then_some(()))
        .await;
}

/// More pieces at once than a task may write in one turn: TLS keeps the rest, and nobody else moves.
#[tokio::test]
async fn a_burst_of_small_pieces_does_not_wait_for_the_next_one() {
    const PIECES: usize = 400;
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    let edge = Edge::replying(Reply::raw(head + &"1\r\nx\r\n".repeat(PIECES)).then_hang());
    let mut raw = edge.open(&get("")).await;
    raw.head_response().await.expect(200);
    let all = "1\r\nx\r\n".repeat(PIECES);
    let came = tokio::time::timeout(PATIENCE, raw.reader.exactly(all.len())).await;
    assert_eq!(came.expect("all pieces").as_deref(), Some(all.as_bytes()));
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
    async fn counts_among_the_connections() {
        let app = Upstream::answering(Reply::websocket);
        let edge = Edge::with(app, |builder| builder.set("server", "max_connections", "1"));
        let mut raw = edge.open(&request("/public/ws", "")).await;
        raw.response().await.expect(101);
        let plain = super::get("");
        let mut other = std::pin::pin!(edge.open(&plain));
        let echo = b"\x81\x85\0\0\0\0hello";
        let echoes = async {
            for _ in 0..200 {
                raw.send(echo).await;
                assert!(raw.reader.exactly(echo.len()).await.is_some());
            }
        };
        tokio::select! {
            () = echoes => {}
            _ = &mut other => panic!("it got in"),
        }
        drop(raw);
        other.await.response().await;
    }

    #[tokio::test]
    async fn what_comes_with_the_101_is_the_first_of_the_tunnel() {
        let edge = Edge::replying(
            Reply::raw(
                "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\
                 Upgrade: websocket\r\nConnection: upgrade\r\n\r\n\x01\x05hello",
            )
            .then("\x02\x05world")
            .then_hang(),
        );
        let mut raw = edge.open(&request("/public/ws", "")).await;
        raw.response().await.expect(101);
        let want = b"\x01\x05hello\x02\x05world";
        assert_eq!(raw.reader.exactly(want.len()).await.as_deref(), Some(&want[..]));
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
