//! Header fields: what the application reads as ours is ours, and nothing that the client says
//! about the connection or about itself gets through.

use super::{Edge, get, post};
use crate::support::upstream::Recorded;
use crate::support::{Reply, Upstream};

/// Every identity header of the default set.
const IDENTITY: &[&str] = &[
    "x-auth-user",
    "x-auth-identifier",
    "x-auth-name",
    "x-auth-email",
    "x-auth-groups",
    "x-auth-roles",
    "x-auth-active-claim",
    "x-auth-session",
    "x-auth-method",
    "x-auth-actor",
];

/// Ways to write a name that an application may read as the same.
fn spellings(name: &str) -> Vec<String> {
    let camel: Vec<String> =
        name.split('-').map(|part| part[..1].to_uppercase() + &part[1..]).collect();
    vec![
        name.to_owned(),
        camel.join("-"),
        name.to_uppercase(),
        name.replace('-', "_"),
        name.replace('-', "_").to_uppercase(),
        name.replacen('-', "_", 1),
        name.replace('-', "."),
        name.replace('-', "+"),
        name.replace('-', "!"),
        name.replace('-', "'"),
        name.replace('-', "~"),
    ]
}

/// All spellings of all identity headers as field lines.
fn spoofed() -> String {
    let names = IDENTITY.iter().flat_map(|name| spellings(name));
    names.map(|name| format!("{name}: evil\r\n")).collect()
}

fn no_evil(seen: &Recorded) {
    for (name, value) in &seen.head.headers {
        assert!(!value.contains("evil"), "{name}: {value}");
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        assert!(plain, "the name {name} reached the upstream");
    }
}

/// Fewer fields than the bound on their number, so that the refusal of many does not hide a hole.
fn few_at_a_time(lines: &str) -> Vec<String> {
    let lines: Vec<&str> = lines.split_inclusive("\r\n").collect();
    lines.chunks(40).map(|chunk| chunk.concat()).collect()
}

#[tokio::test]
async fn nobody_can_say_who_they_are_on_a_public_route() {
    let edge = Edge::start();
    for lines in few_at_a_time(&spoofed()) {
        let seen = edge.passes(&get(&lines)).await;
        no_evil(&seen);
        for name in IDENTITY {
            assert!(seen.aliases(name).is_empty(), "{name}: {:?}", seen.head.headers);
        }
    }
}

#[tokio::test]
async fn the_session_says_who_somebody_is() {
    let edge = Edge::start();
    let client = edge.gateway.signed_in("alice").await;
    let cookie = format!("Cookie: __Host-portcullis={}\r\n", client.token().unwrap());
    let hops = [
        "",
        "Connection: X-Auth-User, x-auth-groups\r\n",
        "Connection: close\r\nConnection: x-auth-user\r\nconnection: X-AUTH-ACTIVE-CLAIM\r\n",
    ];
    for lines in few_at_a_time(&spoofed()) {
        for hop in hops {
            let seen = edge.passes(&get(&format!("{cookie}{hop}{lines}"))).await;
            no_evil(&seen);
            let is = |name: &str, want: &str| {
                let found: Vec<&str> =
                    seen.aliases(name).iter().map(|(_, value)| value.as_str()).collect();
                assert_eq!(found, [want], "{name}");
            };
            is("x-auth-user", "u-alice");
            is("x-auth-identifier", "alice");
            is("x-auth-email", "alice@example.org");
            is("x-auth-active-claim", "user/u-alice");
            let groups = seen.header("x-auth-groups").unwrap();
            assert!(groups.contains("staff") && groups.contains("eng"), "{groups}");
            assert!(seen.aliases("x-auth-actor").is_empty());
        }
    }
}

#[tokio::test]
async fn values_are_always_ascii() {
    let edge = Edge::start();
    let client = edge.gateway.signed_in("dave").await;
    let cookie = format!("Cookie: __Host-portcullis={}\r\n", client.token().unwrap());
    let seen = edge.passes(&get(&cookie)).await;
    let name = seen.header("x-auth-name").unwrap();
    assert!(name.is_ascii(), "{name}");
    let decoded = percent_encoding::percent_decode_str(&name).decode_utf8().unwrap();
    assert_eq!(decoded, "Dävid Ünïcode");
}

#[tokio::test]
async fn forwarding_headers_are_made_anew() {
    let edge = Edge::start();
    let names = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Forwarded-User",
        "X-Forwarded-Anything-Else",
        "X-Forwarded",
        "Forwarded",
        "X-Real-IP",
        "X-Original-URL",
        "X-Original-URI",
        "X-Original-Host",
        "X-Original-Anything",
        "X_Forwarded_For",
        "X_Real_IP",
        "x.forwarded.for",
    ];
    let lines: String = names.iter().map(|name| format!("{name}: evil\r\n")).collect();
    let seen = edge.passes(&get(&lines)).await;
    no_evil(&seen);
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(seen.header("x-forwarded-host").as_deref(), Some(edge.gateway.authority()));
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let edge = Edge::with(Upstream::start(), |builder| {
        builder.set("server", "trusted_proxies", "[\"127.0.0.0/8\"]")
    });
    // The rightmost address that is not a trusted proxy's is the client.
    let seen = edge.passes(&get("X-Forwarded-For: 6.6.6.6, 203.0.113.7, 127.0.0.9\r\n")).await;
    let chain = seen.header("x-forwarded-for").unwrap();
    assert!(chain.contains("203.0.113.7"), "{chain}");
}

#[tokio::test]
async fn what_concerns_one_hop_stays_on_it() {
    let edge = Edge::start();
    let lines = "Connection: keep-alive, X-Custom\r\nConnection: x-other\r\nKeep-Alive: timeout=5\r\n\
                 Proxy-Connection: keep-alive\r\nProxy-Authorization: evil\r\nTE: gzip\r\n\
                 Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Custom: 1\r\nX-Other: 1\r\n\
                 X-Kept: 1\r\n";
    let seen = edge.passes(&get(lines)).await;
    let gone = [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "http2-settings",
        "x-custom",
        "x-other",
    ];
    for name in gone {
        assert!(seen.aliases(name).is_empty(), "{name}: {:?}", seen.head.headers);
    }
    assert_eq!(seen.header("x-kept").as_deref(), Some("1"));
    let via = seen.header("via").expect("no Via");
    assert!(via.starts_with("1.1 "), "{via}");
}

#[tokio::test]
async fn nominating_what_is_needed_does_not_remove_it() {
    let edge = Edge::start();
    let lines = "Connection: Host, Content-Length, Cookie, X-Forwarded-For, Via\r\n\
                 Cookie: a=1\r\nContent-Length: 5\r\n";
    let seen = edge.passes(&post(lines, "hello")).await;
    assert_eq!(seen.body.data, b"hello");
    assert_eq!(seen.header("cookie").as_deref(), Some("a=1"));
    assert_eq!(seen.aliases("host").len(), 1);
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert!(seen.header("via").is_some());
}

#[tokio::test]
async fn the_applications_cookies_stay_as_they_are_and_ours_goes() {
    let edge = Edge::start();
    let client = edge.gateway.signed_in("alice").await;
    let token = client.token().unwrap();
    let theirs = "a=1; b=\"x y\"; c=; d=%3D==; a=2; __Host-other=1";
    let orders = [
        format!("Cookie: {theirs}; __Host-portcullis={token}\r\n"),
        format!("Cookie: __Host-portcullis={token}; {theirs}\r\n"),
        format!("Cookie: __Host-portcullis={token}\r\nCookie: {theirs}\r\n"),
    ];
    for lines in orders {
        let seen = edge.passes(&get(&lines)).await;
        assert_eq!(seen.header("cookie").as_deref(), Some(theirs), "{lines}");
        assert_eq!(seen.aliases("cookie").len(), 1);
        assert_eq!(seen.header("x-auth-user").as_deref(), Some("u-alice"));
        let head = String::from_utf8_lossy(&seen.head.raw).into_owned();
        assert!(!head.contains(token), "the token reached the upstream");
    }
}

#[tokio::test]
async fn only_one_exact_cookie_is_a_session() {
    let edge = Edge::start();
    let client = edge.gateway.signed_in("alice").await;
    let token = client.token().unwrap();
    let cookies = [
        format!("__Host-portcullis={token}; __Host-portcullis={token}"),
        format!("__Host-portcullis={token}; __Host-portcullis=other"),
        format!("__Host-portcullis=other; __Host-portcullis={token}"),
        format!("__host-portcullis={token}"),
        format!("__HOST-PORTCULLIS={token}"),
        format!("=__Host-portcullis={token}"),
        format!("$Version=1; $__Host-portcullis={token}"),
        format!("__Host%2Dportcullis={token}"),
        format!("portcullis={token}"),
        format!("__Host-portcullis=x{token}"),
        format!("__Host-portcullis={token}x"),
        format!("__Host-portcullis={}", &token[..token.len() - 1]),
        format!("__Host-portcullis={}", token.split('.').next().unwrap()),
        "__Host-portcullis=".to_owned(),
        "__Host-portcullis=.".to_owned(),
        "__Host-portcullis=\0".replace('\0', "%00"),
        format!("__Host-portcullis={}", "A".repeat(4_000)),
    ];
    let mut problems = Vec::new();
    for cookie in cookies {
        let request =
            format!("GET /private HTTP/1.1\r\nHost: {{host}}\r\nCookie: {cookie}\r\n\r\n");
        let status = edge.open(request.as_bytes()).await.response().await.status;
        if !matches!(status, 400 | 401) {
            problems.push(format!("{status} for {cookie}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(edge.upstream.requests().is_empty());
    // And the right one still is, so the above was refused for its form.
    let right = format!("Cookie: __Host-portcullis={token}\r\n");
    edge.passes(&get(&right)).await;
}

#[tokio::test]
async fn the_application_cannot_set_our_cookie() {
    let edge = Edge::replying(Reply::status(
        "200 OK",
        "Set-Cookie: __Host-portcullis=evil; Path=/; Secure\r\nSet-Cookie: own=1; Path=/x\r\n\
         Set-Cookie: __Host-portcullis =evil\r\nset-cookie: __Host-portcullis=; Max-Age=0\r\n\
         Set-Cookie: other=2\r\n",
        "",
    ));
    let answer = edge.open(&get("")).await.response().await.expect(200);
    assert_eq!(answer.all("set-cookie"), ["own=1; Path=/x", "other=2"]);
}

#[tokio::test]
async fn the_last_hop_answers_for_itself() {
    let edge = Edge::start();
    let request = "OPTIONS /public/x HTTP/1.1\r\nHost: {host}\r\nMax-Forwards: 0\r\n\r\n";
    let answer = edge.open(request.as_bytes()).await.response().await;
    assert!(answer.status < 300, "{answer:?}");
    assert!(edge.upstream.requests().is_empty());
    let request = "OPTIONS /public/x HTTP/1.1\r\nHost: {host}\r\nMax-Forwards: 3\r\n\r\n";
    let seen = edge.passes(request.as_bytes()).await;
    assert_eq!(seen.header("max-forwards").as_deref(), Some("2"));
}
