//! The same over HTTP/2, where the bytes are frames (RFC 9113 section 8).

use super::Edge;
use crate::support::h2raw::{H2Raw, Outcome, get};
use crate::support::{Client, Upstream};

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
