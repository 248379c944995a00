//! The browser dialect: forms, queries and `next` from anyone. No answer leads away from the
//! origin, shows what came as markup, or tells a password; no foreign page signs anybody in or out.

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use portcullis::api::browser::{Browser, BrowserSettings};
use portcullis::api::{Ask, Carrier, Core, Dialect, Reply};
use portcullis::session::Caller;
use url::Url;

use crate::core;

/// Words of requests to own routes.
pub const WORDS: &[&str] = &[
    "GET /login?next=",
    "POST /login\n",
    "GET /continue?next=",
    "POST /logout\n",
    "POST /switch\n",
    "GET /account\n",
    "POST /session\n",
    "DELETE /sessions/",
    "GET /static/",
    "next=",
    "&",
    "=",
    "+",
    "username=alice",
    "password=correct-horse-canary",
    "fragment=%23",
    "claim=group/staff",
    "extended=true",
    "\nsigned-in: 1\n",
    "\norigin: https://app.example.com\n",
    "\norigin: https://evil.example\n",
    "\nsec-fetch-site: cross-site\n",
    "\naccept: text/html\n",
    "\ncontent-type: application/json\n",
    "\ncontent-type: application/x-www-form-urlencoded\n",
    "\n\n",
    "//evil.example",
    "/%2f",
    "%5c",
    "/..",
    "%2e",
    "%09",
    "%00",
    "https://",
    "@",
    ":",
    "\\",
    "%3Cfuzz%3E",
    "<fuzz>",
    "x%22fuzz",
    "x\"fuzz",
    "{\"username\":\"alice\",\"password\":\"\"}",
    "/",
];

const ORIGIN: &str = "https://app.example.com";

/// Reads `data` as `METHOD path?query`, header lines, an empty line and a body. The header
/// `signed-in` stands for a session.
pub fn run(data: &[u8]) {
    let (head, body) = match data.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &data[data.len()..]),
    };
    let (line, lines) = match head.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&head[..at], &head[at + 1..]),
        None => (head, &head[head.len()..]),
    };
    let Some((method, target)) =
        std::str::from_utf8(line).ok().and_then(|line| line.split_once(' '))
    else {
        return;
    };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let headers = crate::lines::headers(lines);
    let reply = answer(&method, path, query, &headers, body);
    check(&reply, &headers);
}

fn answer(
    method: &Method,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
) -> Reply {
    thread_local! {
        // Its templates are read once.
        static BROWSER: Browser = {
            let settings = BrowserSettings { mount: "/auth".to_owned(), name: "Fuzz".to_owned() };
            Browser::new(settings, core::clock()).unwrap()
        };
    }
    let clock = core::clock();
    let authority = core::authority(&clock);
    BROWSER.with(|browser| {
        core::run(async {
            let session = match headers.contains_key("signed-in") {
                true => Some(core::sign_in(&authority).await),
                false => None,
            };
            let agent = headers.get(header::USER_AGENT).map(|agent| agent.as_bytes().to_vec());
            let agent = String::from_utf8_lossy(&agent.unwrap_or_default()).into_owned();
            let ip = "192.0.2.1".parse().ok();
            let caller = Caller { session, ip, agent, request: "r1".to_owned() };
            let body = bytes::Bytes::copy_from_slice(body);
            let now = clock.now().seconds();
            let (origin, stale) = (ORIGIN, headers.contains_key("stale"));
            let by_cookie = true;
            let ask =
                Ask { method, path, query, headers, body, caller, origin, stale, by_cookie, now };
            browser.answer(ask, Core::new(&authority)).await
        })
    })
}

fn check(reply: &Reply, headers: &HeaderMap) {
    let of = |name| reply.headers.iter().filter(move |(known, _)| *known == name);
    for (_, location) in of(header::LOCATION) {
        let location = location.to_str().expect("a location is plain text");
        let page = Url::parse(&format!("{ORIGIN}/auth/login")).unwrap();
        let target = page.join(location).expect("a location can be followed");
        assert_eq!(target.origin(), page.origin(), "it leads away: {location:?}");
        assert!(location.starts_with('/') && !location.contains('\\'), "{location:?}");
        assert!(!target.path().starts_with("//"), "{location:?}");
    }
    let own = |name: &str, value: &[u8]| headers.get(name).is_none_or(|it| it.as_bytes() == value);
    if headers.contains_key(header::ORIGIN) && !own("origin", ORIGIN.as_bytes()) {
        // Compared without case: nothing in the host distinguishes it.
        let text = headers.get(header::ORIGIN).map(|origin| origin.as_bytes());
        if !text.is_some_and(|text| text.eq_ignore_ascii_case(ORIGIN.as_bytes())) {
            assert!(matches!(reply.carrier, Carrier::Keep), "another site changed the session");
        }
    }
    assert!(reply.status != StatusCode::INTERNAL_SERVER_ERROR, "{:?}", reply.body);
    let body = String::from_utf8(reply.body.to_vec()).expect("answers are UTF-8");
    let html = of(header::CONTENT_TYPE).any(|(_, kind)| kind.as_bytes().starts_with(b"text/html"));
    if html {
        assert_eq!(of(header::CONTENT_SECURITY_POLICY).count(), 1);
        for mark in ["<fuzz", "x\"fuzz", "<b>Alice"] {
            assert!(!body.contains(mark), "{mark:?} is not escaped");
        }
    }
    if let Carrier::Issue(token) = &reply.carrier {
        assert!(!body.contains(token.encode().as_str()), "the token is in the body");
        assert!(!body.contains(core::PASSWORD), "the password is in the body");
    }
}
