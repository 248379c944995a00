//! The Kaltura dialect: path, query, form, JSON and multipart from anyone. Every answer has status 200 and
//! can be read, and no cookie is set.

use bytes::Bytes;
use http::{Method, StatusCode, header};
use portcullis::api::kaltura::Kaltura;
use portcullis::api::{Ask, Carrier, Core, Dialect, Head, Shown};
use portcullis::session::Caller;

use crate::core;

/// Words of calls.
pub const WORDS: &[&str] = &[
    "GET /service/user/action/get?",
    "POST /service/multirequest\n",
    "POST /\n",
    "OPTIONS /\n",
    "/ks/",
    "/index.php",
    "/service/session/action/",
    "service=",
    "&",
    "=",
    "1:service=user&1:action=get",
    "{1:result}",
    "{1:result:objects:0:id}",
    "__null",
    ":-",
    "format=1",
    "format=2",
    "format=9&callback=a.b",
    "secret=fuzz-canary",
    "loginId=alice",
    "password=fuzz-canary",
    "partnerId=102",
    "widgetId=_102",
    "djJ8MTAyf",
    "\ncontent-type: application/json\n",
    "\ncontent-type: multipart/form-data; boundary=b\n",
    "\ncontent-type: application/x-www-form-urlencoded\n",
    "\n\n",
    "--b\r\n",
    "--b--",
    "Content-Disposition: form-data; name=\"json\"\r\n\r\n",
    "{\"1\":{\"service\":\"user\"}}",
    "{",
    "}",
    "\"",
    ":",
    "%00",
    "<",
    "&lt;",
    "session",
    "user",
    "start",
    "get",
    "end",
    "loginByLoginId",
    "login",
    "startWidgetSession",
    "partner",
    "listPartnersForUser",
    "apptoken",
    "startSession",
];

/// Reads `data` as `METHOD path?query`, header lines, an empty line and a body.
pub fn run(data: &[u8]) {
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
    let dialect = Kaltura::new("/api_v3");
    let has_body = !body.is_empty();
    let asked = Head { method: &method, path, query, headers: &headers, has_body };
    let _ = (dialect.owns(&asked), dialect.owns_body(&asked, body));
    if let Shown::Token(token) = dialect.token(&asked, Some(body)) {
        assert!(!token.encode().is_empty());
    }
    let clock = core::clock();
    let authority = core::authority(&clock);
    let reply = core::run(async {
        let caller = Caller { ip: "192.0.2.1".parse().ok(), ..Caller::default() };
        let ask = Ask {
            method: &method,
            path,
            query,
            headers: &headers,
            body: Bytes::copy_from_slice(body),
            caller,
            origin: "https://app.example.com",
            stale: false,
            by_cookie: false,
            now: clock.now().seconds(),
        };
        dialect.answer(ask, Core::new(&authority)).await
    });
    assert_eq!(reply.status, StatusCode::OK);
    assert!(matches!(reply.carrier, Carrier::Keep));
    let text = String::from_utf8(reply.body.to_vec()).expect("answers are UTF-8");
    let kind = reply.headers.iter().find(|(name, _)| *name == header::CONTENT_TYPE);
    match kind.map(|(_, kind)| kind.as_bytes()) {
        None => assert_eq!(method, Method::OPTIONS),
        Some(b"application/json") => {
            let _: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        }
        Some(b"text/xml") => {
            roxmltree::Document::parse(&text).expect("XML");
        }
        Some(_) => assert!(text.ends_with(");"), "{text}"),
    }
}
