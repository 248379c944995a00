//! The headers that an app gets: none that a client may not send, ours exactly once, and
//! everything else as it came.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Version};
use portcullis::headers::{Client, Extras, Forwarding, Hop, Rules, Trust};
use portcullis::policy::{Decision, Facts, Permit, Rule};
use portcullis::section::{Problems, Section};
use portcullis::session::Live;

use crate::core;

/// Words of header blocks.
pub const WORDS: &[&str] = &[
    "Connection: ",
    "connection: close, x-auth-user\n",
    "X-Auth-User: root\n",
    "x_auth_user: root\n",
    "X-Forwarded-For: 1.2.3.4\n",
    "X-Forwarded-Host: evil\n",
    "Forwarded: for=1\n",
    "Host: evil\n",
    "X-Real-IP: 1\n",
    "X-Original-URL: /\n",
    "X-Host: evil\n",
    "WL-Proxy-Client-IP: 1\n",
    "TE: trailers\n",
    "TE: gzip\n",
    "Upgrade: h2c\n",
    "Keep-Alive: 1\n",
    "Cookie: a=1\n",
    "Via: 1.1 x\n",
    "X-Request-Id: 1\n",
    "Nuvla-Authn-Info: x\n",
    "X-App: 1\n",
    "Content-Length: 5\n",
    ", ",
    ":",
    "\n",
    "_",
    ".",
    "\u{e9}",
    "\t",
    "x-app",
    "host",
    "Expect: 100-continue\n",
    "Trailer: x-app\n",
    "Proxy-Connection: x-app\n",
    "x-auth-assertion: a\n",
];

const CONFIG: &str =
    "user = \"Remote-User\"\n[templates]\nnuvla-authn-info = \"{user_claim} {roles}\"";

/// Names that a client may not send, but for the classes.
const GUARDED: &[&str] = &[
    "remote-user",
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
    "x-auth-assertion",
    "nuvla-authn-info",
];

/// Names of one hop; `te` and `connection` have their own rules.
const HOP: &[&str] = &[
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "trailer",
    "transfer-encoding",
    "expect",
    "http2-settings",
];

/// What no nomination removes.
const KEPT: &[&str] = &["host", "content-length", "cookie", "te", "keep-alive", "close"];

/// Reads `data` as the header lines of a request, for a stranger and for somebody signed in.
pub fn run(data: &[u8]) {
    let given = crate::lines::headers(data);
    let clock = core::clock();
    let authority = core::authority(&clock);
    let live = core::run(core::sign_in(&authority));
    let problems = Problems::default();
    let mut section = Section::parse(Path::new("c.toml"), CONFIG.to_owned(), &problems);
    let rules = Rules::read(&mut section);
    drop(section);
    assert!(problems.is_empty(), "{:?}", problems.list());
    for websocket in [false, true] {
        let out = stamp(&rules, &given, &permit(&Rule::Anyone, None), websocket);
        check(&given, &out, websocket);
        assert!(GUARDED.iter().all(|name| !out.contains_key(*name)), "{out:?}");
        let out = stamp(&rules, &given, &permit(&Rule::Authenticated, Some(&live)), websocket);
        check(&given, &out, websocket);
        for (name, value) in [
            ("remote-user", "u1"),
            ("x-auth-name", "<b>Alice %C3%A9"),
            ("x-auth-active-claim", "user/u1"),
            ("x-auth-groups", "staff"),
        ] {
            assert_eq!(values(&out, name), [value.as_bytes()], "{name}");
        }
        assert!(
            values(&out, "x-auth-user").is_empty() && values(&out, "x-auth-assertion").is_empty()
        );
    }
}

fn permit(rule: &Rule, session: Option<&Arc<Live>>) -> Permit {
    let facts = Facts { session, method: "GET", ip: "192.0.2.1".parse().unwrap() };
    match rule.decide(&facts) {
        Decision::Permit(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn stamp(rules: &Rules, given: &HeaderMap, permit: &Permit, websocket: bool) -> HeaderMap {
    let mut request = Request::new(());
    *request.headers_mut() = given.clone();
    let client = Client::find("192.0.2.1".parse().unwrap(), given, &Trust::default());
    let host = HeaderValue::from_static("app.example.com");
    let forwarding = Forwarding::new(&client, client.value(), true, host, Version::HTTP_11);
    let id = HeaderValue::from_static("r1");
    let hop = Hop { forwarding: Rc::new(forwarding), id, websocket };
    let parts = Box::new(request.into_parts().0);
    let stamped =
        rules.stamp(permit, parts, (), hop, Extras::default()).expect("the identity is small");
    let mut lines = Vec::new();
    stamped.write_fields(&mut lines);
    let map = stamped.into_request().headers().clone();
    assert_eq!(sorted(&read(&lines)), sorted(&map), "HTTP/1.1 and HTTP/2 get the same fields");
    map
}

/// The fields of a head, as an app would read them.
fn read(lines: &[u8]) -> HeaderMap {
    let mut lines = lines.to_vec();
    lines.extend_from_slice(b"\r\n");
    let mut fields = vec![httparse::EMPTY_HEADER; 4096];
    let Ok(httparse::Status::Complete((length, fields))) =
        httparse::parse_headers(&lines, &mut fields)
    else {
        panic!("no head: {lines:?}");
    };
    assert_eq!(length, lines.len(), "an empty line within the head");
    let field = |field: &httparse::Header<'_>| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).expect("a name");
        (name, HeaderValue::from_bytes(field.value).expect("a value"))
    };
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        map.append(name, value);
    }
    map
}

/// All fields but `Content-Length`, which is for who writes the body.
fn sorted(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    let mut all: Vec<_> = headers
        .iter()
        .filter(|(name, _)| *name != header::CONTENT_LENGTH)
        .map(|(name, value)| (name.as_str(), value.as_bytes().trim_ascii()))
        .collect();
    all.sort_unstable();
    all
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

fn check(given: &HeaderMap, out: &HeaderMap, websocket: bool) {
    for name in out.keys().map(HeaderName::as_str) {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(name.bytes().all(plain), "{name} may be read as another name");
        assert!(!HOP.contains(&name), "{name} is for one hop");
    }
    for (name, value) in [
        ("host", "app.example.com"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "app.example.com"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "192.0.2.1"),
        ("x-request-id", "r1"),
    ] {
        assert_eq!(values(out, name), [value.as_bytes()], "{name}");
    }
    let (connection, upgrade) = (values(out, "connection"), values(out, "upgrade"));
    match websocket {
        true => assert!(connection == [b"upgrade"] && upgrade == [b"websocket"]),
        false => assert!(connection.is_empty() && upgrade.is_empty()),
    }
    assert!(values(out, "te").iter().all(|te| te == b"trailers") && values(out, "te").len() <= 1);
    for name in REMOVED.into_iter().filter(|name| !GUARDED.contains(name)) {
        assert!(!out.contains_key(name), "{name} passes");
    }
    let nominated = nominated(given);
    for name in given.keys() {
        let name = name.as_str();
        if nominated.iter().any(|nominee| nominee == name) && !ours(name) {
            // `Via` is continued, so our own entry stands there.
            assert!(name == "via" || !out.contains_key(name), "{name} was nominated");
        } else if is_free(name) {
            assert_eq!(values(out, name), values(given, name), "{name} was changed");
        }
    }
}

/// Whether a client's header of this name goes to the app as it is.
fn is_free(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.bytes().all(plain) && !ours(name) && !HOP.contains(&name) && name != "via"
}

/// Names under which an app may be told lies about the client or the request.
const REMOVED: [&str; 27] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-ip",
    "fastly-client-ip",
    "forwarded-for",
    "forwarded-host",
    "http-client-ip",
    "proxy",
    "proxy-client-ip",
    "remote-addr",
    "remote-user",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-envoy-original-path",
    "x-host",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-remote-user",
    "x-rewrite-uri",
    "x-rewrite-url",
];

fn ours(name: &str) -> bool {
    GUARDED.contains(&name)
        || REMOVED.contains(&name)
        || name.starts_with("x-forwarded")
        || name.starts_with("x-original-")
        || ["forwarded", "x-real-ip", "x-request-id", "host", "connection", "upgrade", "te"]
            .contains(&name)
}

fn nominated(given: &HeaderMap) -> Vec<String> {
    let lines = given.get_all(header::CONNECTION);
    let tokens = lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    tokens
        .map(|token| String::from_utf8_lossy(token.trim_ascii()).to_ascii_lowercase())
        .filter(|token| !KEPT.contains(&token.as_str()))
        .collect()
}
