//! The same over HTTP/2, where the bytes are frames (RFC 9113 section 8).

use super::Edge;
use crate::support::h2raw::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, H2Raw, HEADERS, Outcome, PING, RST_STREAM, block,
    get, number, post,
};
use crate::support::process::{PATIENCE, Proc};
use crate::support::{Client, Upstream};

/// Bytes of a DATA frame.
const PIECE: usize = 16 << 10;

/// Fields and body of one request.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a [u8]);

#[tokio::test]
async fn malformed_requests_are_refused() {
    let edge = Edge::start();
    let host = edge.gateway.authority();
    let with = |field: (&'static str, &'static str)| {
        let mut fields = get(host, "/public/x");
        fields.push(field);
        fields
    };
    let without = |name: &str| {
        let mut fields = get(host, "/public/x");
        fields.retain(|(field, _)| *field != name);
        fields
    };
    let path = |path: &'static str| get(host, path);
    let late = vec![
        (":method", "GET"),
        (":scheme", "https"),
        ("x-a", "b"),
        (":authority", host),
        (":path", "/public/x"),
    ];
    let cases: Vec<Case<'_>> = vec![
        ("connection", with(("connection", "x-a")), b""),
        ("keep-alive", with(("keep-alive", "5")), b""),
        ("proxy-connection", with(("proxy-connection", "keep-alive")), b""),
        ("transfer-encoding", with(("transfer-encoding", "chunked")), b""),
        ("upgrade", with(("upgrade", "websocket")), b""),
        ("te that is not trailers", with(("te", "gzip")), b""),
        ("upper case name", with(("X-Auth-User", "evil")), b""),
        ("space in a name", with(("x auth", "evil")), b""),
        ("colon in a name", with(("x:auth", "evil")), b""),
        ("empty name", with(("", "evil")), b""),
        ("LF in a value", with(("x-a", "a\nx-auth-user: evil")), b""),
        ("CR in a value", with(("x-a", "a\rb")), b""),
        ("NUL in a value", with(("x-a", "a\0b")), b""),
        ("another method", with((":method", "POST")), b""),
        ("another path", with((":path", "/private")), b""),
        ("unknown pseudo-header", with((":foo", "bar")), b""),
        ("response pseudo-header", with((":status", "200")), b""),
        ("protocol without leave", with((":protocol", "websocket")), b""),
        ("pseudo-header after a field", late, b""),
        ("no method", without(":method"), b""),
        ("no scheme", without(":scheme"), b""),
        ("no path", without(":path"), b""),
        ("no authority", without(":authority"), b""),
        ("empty path", path(""), b""),
        ("path without slash", path("public/x"), b""),
        ("other host", with(("host", "evil.example")), b""),
        ("other authority", get("evil.example", "/public/x"), b""),
        ("user in the authority", get("user@localhost", "/public/x"), b""),
        ("two hosts", [with(("host", "localhost")), vec![("host", "x")]].concat(), b""),
        ("too long", with(("content-length", "3")), b"hello"),
        ("too short", with(("content-length", "9")), b"hello"),
        (
            "two lengths",
            [with(("content-length", "5")), vec![("content-length", "6")]].concat(),
            b"hello",
        ),
        ("dot segments", path("/public/../private"), b""),
        ("encoded slash", path("/public/a%2fb"), b""),
        ("double slash", path("/public//x"), b""),
        ("space in the path", path("/public/x y"), b""),
        ("backslash", path("/public\\x"), b""),
    ];
    let mut problems = Vec::new();
    for (name, fields, body) in cases {
        let mut h2 = H2Raw::connect(&edge.gateway).await;
        if body.is_empty() {
            h2.request(1, &fields).await;
        } else {
            h2.request_with(1, &fields, body).await;
        }
        let outcome = h2.outcome(1).await;
        // A body that is too short or long is noticed only when it ends: the upstream may have
        // seen the head by then, but it answers whole requests only.
        let late = !body.is_empty() && matches!(outcome, Outcome::Status(502));
        if !outcome.refused() && !late {
            problems.push(format!("{name}: {outcome:?}"));
        }
        if body.is_empty() && !edge.upstream.requests().is_empty() {
            problems.push(format!("{name}: reached the upstream"));
        }
        edge.upstream.forget();
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test]
async fn tunnels_and_traces_are_refused() {
    let edge = Edge::start();
    let host = edge.gateway.authority();
    let mut h2 = H2Raw::connect(&edge.gateway).await;
    h2.request(1, &[(":method", "CONNECT"), (":authority", host)]).await;
    assert!(h2.outcome(1).await.refused());
    let mut trace = get(host, "/public/x");
    trace[0].1 = "TRACE";
    let mut h2 = H2Raw::connect(&edge.gateway).await;
    h2.request(1, &trace).await;
    assert!(h2.outcome(1).await.refused());
    assert!(edge.upstream.requests().is_empty());
}

#[tokio::test]
async fn cookie_crumbs_are_one_cookie_upstream() {
    let edge = Edge::start();
    let client = edge.gateway.signed_in("alice").await;
    let ours = format!("__Host-portcullis={}", client.token().unwrap());
    let mut fields = get(edge.gateway.authority(), "/private");
    fields.extend([("cookie", "a=1"), ("cookie", ours.as_str()), ("cookie", "b=2; c=3")]);
    let mut h2 = H2Raw::connect(&edge.gateway).await;
    h2.request(1, &fields).await;
    assert_eq!(h2.outcome(1).await, Outcome::Status(200));
    let seen = edge.upstream.last();
    assert_eq!(seen.aliases("cookie").len(), 1);
    assert_eq!(seen.header("cookie").as_deref(), Some("a=1; b=2; c=3"));
    assert_eq!(seen.header("x-auth-user").as_deref(), Some("u-alice"));
    assert_eq!(seen.header("host").as_deref(), Some(edge.gateway.authority()));
}

#[tokio::test]
async fn two_session_cookies_are_none() {
    let edge = Edge::start();
    let client = edge.gateway.signed_in("alice").await;
    let ours = format!("__Host-portcullis={}", client.token().unwrap());
    let mut fields = get(edge.gateway.authority(), "/private");
    fields.extend([("cookie", ours.as_str()), ("cookie", "__Host-portcullis=x.y")]);
    let mut h2 = H2Raw::connect(&edge.gateway).await;
    h2.request(1, &fields).await;
    assert!(h2.outcome(1).await.refused());
    assert!(edge.upstream.requests().is_empty());
}

#[tokio::test]
async fn both_protocols_have_the_same_view_upstream() {
    let edge = Edge::with(Upstream::start(), |builder| builder);
    let mut one = edge.gateway.client();
    one.sign_in("alice").await;
    let mut two = Client::h2(&edge.gateway);
    two.set_cookie("__Host-portcullis", one.token().unwrap());
    let headers = [("x-a", "1"), ("te", "trailers"), ("x-auth-user", "evil")];
    let body = bytes::Bytes::from_static(b"hello");
    one.request(http::Method::POST, "/x?y", &headers, body.clone()).await.expect(200);
    two.request(http::Method::POST, "/x?y", &headers, body).await.expect(200);
    let [first, second]: [_; 2] = edge.upstream.requests().try_into().unwrap();
    let fields = |seen: &crate::support::upstream::Recorded| {
        // Via names the protocol in which the request came; request ids differ; framing may.
        let differ = ["via", "x-request-id", "traceparent", "content-length", "transfer-encoding"];
        let mut fields: Vec<(String, String)> = seen
            .head
            .headers
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value.clone()))
            .filter(|(name, _)| !differ.contains(&name.as_str()))
            .collect();
        fields.sort();
        fields
    };
    assert_eq!(fields(&first), fields(&second));
    assert_eq!((&first.target, &first.body.data), (&second.target, &second.body.data));
}

/// Answers that the gateway gave without the request's body were followed at once by a reset without an error, which
/// curl 7.88 and others take for a failure: they forgot the answer.
#[tokio::test]
async fn a_body_that_nobody_reads_may_come_to_its_end() {
    let edge = Edge::start();
    let origin = edge.gateway.origin().to_owned();
    // More than the window of the whole connection: what is taken makes room again.
    let pieces = 14;
    let mut h2 = H2Raw::connect(&edge.gateway).await;
    let paths = ["/private", "/nowhere", "/auth/nowhere", "/auth/login", "/public/../private"];
    for (stream, path) in (1..).step_by(2).zip(paths.iter().cycle().take(10)) {
        let mut head = post(edge.gateway.authority(), path);
        head.extend([("content-type", "application/json"), ("origin", &origin)]);
        let declared = (pieces * PIECE).to_string();
        head.push(("content-length", &declared));
        h2.frame(HEADERS, END_HEADERS, stream, &block(&head)).await;
        let Outcome::Status(status) = h2.outcome(stream).await else { panic!("{path}") };
        assert!((400..500).contains(&status), "{path}: {status}");
        for left in (0..pieces).rev() {
            let flags = if left == 0 { END_STREAM } else { 0 };
            h2.frame(DATA, flags, stream, &[b'x'; PIECE]).await;
        }
        h2.frame(PING, 0, 0, b"still on").await;
        loop {
            let (kind, flags, _, payload) = h2.next().await.expect("closed");
            assert!(kind != RST_STREAM && kind != GOAWAY, "{path}: {kind} {payload:?}");
            if kind == PING && flags & ACK == ACK {
                break;
            }
        }
    }
}

/// Clients whose answer came without their body: as often as any body of theirs is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_sees_an_answer_that_does_not_wait_for_its_body() {
    let edge = Edge::start();
    let dir = tempfile::tempdir().unwrap();
    let body = dir.path().join("body");
    let origin = edge.gateway.origin();
    for (size, path, status) in [(3, "/private", "401"), (300 << 10, "/private", "401")].repeat(8) {
        std::fs::write(&body, vec![b'x'; size]).unwrap();
        let mut command = std::process::Command::new("curl");
        command
            .args(["-sS", "--http2", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}"])
            .arg("--cacert")
            .arg(edge.gateway.certificate())
            .arg("--data-binary")
            .arg(format!("@{}", body.display()))
            .arg(format!("{origin}{path}"));
        let output = tempfile::tempdir().unwrap();
        let text = Proc::start("curl", output.path(), command).finish(PATIENCE).success();
        assert_eq!(text, status, "{size} bytes to {path}");
    }
}

/// The patience with it has an end, in bytes and in time.
#[tokio::test]
async fn a_body_that_nobody_reads_does_not_go_on_for_ever() {
    let edge = Edge::start();
    let mut h2 = H2Raw::connect(&edge.gateway).await;
    let head = block(&post(edge.gateway.authority(), "/private"));
    h2.frame(HEADERS, END_HEADERS, 1, &head).await;
    assert_eq!(h2.outcome(1).await, Outcome::Status(401));
    assert_eq!(h2.outcome(1).await, Outcome::Reset(0), "in time");
    h2.frame(HEADERS, END_HEADERS, 3, &head).await;
    assert_eq!(h2.outcome(3).await, Outcome::Status(401));
    let mut sent = 0;
    let reset = loop {
        // No more than the window of the stream has room for.
        for _ in 0..8 {
            h2.frame(DATA, 0, 3, &[b'x'; PIECE]).await;
            sent += PIECE;
        }
        h2.frame(PING, 0, 0, b"still on").await;
        let mut reset = None;
        loop {
            let (kind, flags, stream, payload) = h2.next().await.expect("closed");
            assert_ne!(kind, GOAWAY, "{payload:?}");
            if kind == RST_STREAM && stream == 3 {
                reset = Some(number(&payload));
            }
            if kind == PING && flags & ACK == ACK {
                break;
            }
        }
        if let Some(reset) = reset {
            break reset;
        }
    };
    assert_eq!(reset, 0);
    assert!((1 << 20..3 << 19).contains(&sent), "{sent} bytes");
    // The connection goes on.
    h2.request(5, &get(edge.gateway.authority(), "/public/x")).await;
    assert_eq!(h2.outcome(5).await, Outcome::Status(200));
}
