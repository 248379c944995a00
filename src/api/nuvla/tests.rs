//! The dialect against a real core: every route, its answers and its refusals.

mod login;
mod sessions;

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::*;
use crate::api::{Carrier, Core};
use crate::session::testing::World;
use crate::session::{Caller, Token};

const ORIGIN: &str = "https://app.example.com";
const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

struct Site {
    world: World,
    nuvla: Nuvla,
}

/// A request to an own route; the session, if any, comes by cookie.
#[derive(Clone, Default)]
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: Vec<u8>,
    session: Option<Arc<Live>>,
}

fn call<'a>(method: &'a str, path: &'a str) -> Request<'a> {
    Request { method, path, ..Request::default() }
}

impl<'a> Request<'a> {
    fn json(self, body: &Value) -> Self {
        Self { body: body.to_string().into_bytes(), ..self }.with(JSON.0, JSON.1)
    }

    fn form(self, body: &str) -> Self {
        Self { body: body.into(), ..self }.with(FORM.0, FORM.1)
    }

    fn gzip(mut self) -> Self {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&self.body).unwrap();
        self.body = packed.finish().unwrap();
        self.with("content-encoding", "gzip")
    }

    fn by(mut self, session: &Arc<Live>) -> Self {
        self.session = Some(Arc::clone(session));
        self
    }

    fn with(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }
}

fn header_map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

impl Site {
    fn new() -> Self {
        let nuvla = Nuvla { prefix: "/api".to_owned(), renew_on_switch: false };
        Self { world: World::new(), nuvla }
    }

    async fn ask(&self, request: Request<'_>) -> Reply {
        let headers = header_map(&request.headers);
        let method = Method::from_bytes(request.method.as_bytes()).unwrap();
        let (path, query) = match request.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (request.path, None),
        };
        let caller = Caller {
            session: request.session,
            ip: "192.0.2.7".parse().ok(),
            agent: "nuvla-api".to_owned(),
            request: "req-1".to_owned(),
        };
        let ask = Ask {
            method: &method,
            path,
            query,
            headers: &headers,
            body: request.body.into(),
            caller,
            origin: ORIGIN,
            stale: false,
            by_cookie: true,
            now: self.world.clock.now().seconds(),
        };
        self.nuvla.answer(ask, Core::new(&self.world.authority)).await
    }

    /// Signs alice in; her session and token.
    async fn alice(&self) -> (Arc<Live>, Token) {
        let reply = self.ask(call("POST", "/session").json(&alices())).await;
        let token = issued(reply);
        (self.live(&token).await.unwrap(), token)
    }

    async fn live(&self, token: &Token) -> Option<Arc<Live>> {
        self.world.authority.load(token).await.unwrap()
    }
}

fn alices() -> Value {
    let href = "session-template/password";
    json!({ "template": { "href": href, "username": "alice", "password": "alice" } })
}

#[track_caller]
fn issued(reply: Reply) -> Token {
    let Carrier::Issue(token) = reply.carrier else { panic!("no token: {reply:?}") };
    token
}

fn value(reply: &Reply, name: &str) -> Option<String> {
    let mut found = reply.headers.iter().filter(|(known, _)| known == name);
    let value = found.next().map(|(_, value)| value.to_str().unwrap().to_owned());
    assert!(found.next().is_none(), "{name} twice");
    value
}

#[track_caller]
fn body(reply: &Reply, status: u16) -> Value {
    let text = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status.as_u16(), status, "{text}");
    assert_eq!(value(reply, "content-type").as_deref(), Some("application/json"));
    assert_eq!(value(reply, "cache-control").as_deref(), Some("no-store"));
    serde_json::from_slice(&reply.body).unwrap()
}

/// The message of a failure, and the resource that it is about.
#[track_caller]
fn failure(reply: &Reply, status: u16) -> (String, Option<String>) {
    let body = body(reply, status);
    assert_eq!(body["status"], status);
    assert!(matches!(reply.carrier, Carrier::Keep), "{reply:?}");
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    (text("message").unwrap(), text("resource-id"))
}
