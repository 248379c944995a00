//! Requests to a session API whose answers are JSON, and what must hold for each.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use portcullis::api::{Ask, Carrier, Core, Dialect, Head, KINDS, Reply, Shown};
use portcullis::section::{Problems, Section};
use portcullis::session::Caller;

use crate::core;

const ORIGIN: &str = "https://app.example.com";
/// What words of targets give as a password that nobody has.
const CANARY: &str = "fuzz-canary";

/// Reads `data` as `METHOD path?query`, header lines, an empty line and a body, and has the dialect of this
/// name answer it. The header `signed-in` stands for a session that came by a cookie.
pub(crate) fn run(name: &'static str, data: &[u8]) {
    let (head, body) = match data.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &data[data.len()..]),
    };
    let (line, lines) = match head.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&head[..at], &head[at + 1..]),
        None => (head, &head[head.len()..]),
    };
    let line = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' '));
    let Some((method, target)) = line else { return };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let headers = crate::lines::headers(lines);
    let problems = Problems::default();
    let mut section = Section::parse("fuzz.toml".as_ref(), String::new(), &problems);
    let kind = KINDS.iter().find(|kind| kind.name == name).expect("a kind has this name");
    let dialect = (kind.read)(&mut section.table(name));
    let has_body = !body.is_empty();
    let asked = Head { method: &method, path, query, headers: &headers, has_body };
    let _ = dialect.owns(&asked);
    if let Shown::Token(token) = dialect.token(&asked, Some(body)) {
        assert!(!token.encode().is_empty());
    }
    let reply = answer(&*dialect, &asked, body);
    check(&reply, &method, &headers, data);
}

fn answer(dialect: &dyn Dialect, asked: &Head<'_>, body: &[u8]) -> Reply {
    let clock = core::clock();
    let authority = core::authority(&clock);
    core::run(async {
        let by_cookie = asked.headers.contains_key("signed-in");
        let session = if by_cookie { Some(core::sign_in(&authority).await) } else { None };
        let caller = Caller { session, ip: "192.0.2.1".parse().ok(), ..Caller::default() };
        let ask = Ask {
            method: asked.method,
            path: asked.path,
            query: asked.query,
            headers: asked.headers,
            body: Bytes::copy_from_slice(body),
            caller,
            origin: ORIGIN,
            stale: false,
            by_cookie,
            now: clock.now().seconds(),
        };
        dialect.answer(ask, Core::new(&authority)).await
    })
}

fn check(reply: &Reply, method: &Method, headers: &HeaderMap, data: &[u8]) {
    let status = reply.status;
    assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{:?}", reply.body);
    assert!(!status.is_redirection(), "an API leads nobody to a page: {status}");
    if !status.is_success() {
        assert!(matches!(reply.carrier, Carrier::Keep), "{status} changes the cookie");
    }
    let origins: Vec<_> = headers.get_all(header::ORIGIN).iter().map(|it| it.as_bytes()).collect();
    if headers.contains_key("signed-in")
        && !matches!(*method, Method::GET | Method::HEAD)
        && !origins.iter().all(|origin| origin.eq_ignore_ascii_case(ORIGIN.as_bytes()))
    {
        assert!(matches!(reply.carrier, Carrier::Keep), "another site changed the session");
    }
    let text = String::from_utf8(reply.body.to_vec()).expect("answers are UTF-8");
    for word in [CANARY, core::PASSWORD] {
        assert!(!is_secret(word, data) || !text.contains(word), "a password comes back");
    }
    if !text.is_empty() {
        let kind = reply.headers.iter().find(|(name, _)| *name == header::CONTENT_TYPE);
        let kind = kind.and_then(|(_, kind)| kind.to_str().ok()).unwrap_or_default();
        assert!(kind.starts_with("application/json"), "{kind:?}");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    }
}

/// Whether `word` is in the body `data` as a password or secret, and in nothing else that was asked:
/// names come back as they were given.
fn is_secret(word: &str, data: &[u8]) -> bool {
    let Some(at) = data.windows(2).position(|two| two == b"\n\n") else { return false };
    let (head, body) = (String::from_utf8_lossy(&data[..at]), &data[at + 2..]);
    let rest = match serde_json::from_slice(body) {
        Ok(mut value) => {
            forget_secrets(&mut value);
            value.to_string()
        }
        Err(_) => url::form_urlencoded::parse(body)
            .filter(|(name, _)| !matches!(&**name, "password" | "secret"))
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect(),
    };
    !head.contains(word) && !rest.contains(word)
}

fn forget_secrets(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(all) => all.iter_mut().for_each(forget_secrets),
        serde_json::Value::Object(all) => {
            all.retain(|name, _| !matches!(&**name, "password" | "secret"));
            all.values_mut().for_each(forget_secrets);
        }
        _ => {}
    }
}
