//! The dialect against a real core: every route, who may use it, and what an answer gives away.

mod account;
mod keys;
mod refusals;
mod safety;
mod sign_in;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::api::{Carrier, Core};
use crate::session::testing::World;
use crate::session::{Caller, Token};

const ORIGIN: &str = "https://app.example.com";
const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0";

/// The dialect, the core behind it, and one client.
struct Site {
    world: World,
    browser: Browser,
}

/// A request to an own route.
#[derive(Clone, Default)]
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: String,
    session: Option<Arc<Live>>,
    stale: bool,
}

fn get(path: &str) -> Request<'_> {
    Request { method: "GET", path, headers: vec![HTML], ..Request::default() }
}

fn post<'a>(path: &'a str, body: &str) -> Request<'a> {
    let headers = vec![HTML, FORM, ("origin", ORIGIN)];
    Request { method: "POST", path, headers, body: body.to_owned(), ..Request::default() }
}

fn call<'a>(method: &'a str, path: &'a str, body: &str) -> Request<'a> {
    let headers = if body.is_empty() { vec![] } else { vec![JSON] };
    Request { method, path, headers, body: body.to_owned(), ..Request::default() }
}

impl<'a> Request<'a> {
    fn by(mut self, session: &Arc<Live>) -> Self {
        self.session = Some(Arc::clone(session));
        self
    }

    fn with(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
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
        let world = World::new();
        let settings = BrowserSettings { mount: "/auth/".to_owned(), name: "Acme".to_owned() };
        let browser = Browser::new(settings, world.clock.clone()).unwrap();
        Self { world, browser }
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
            agent: AGENT.to_owned(),
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
            stale: request.stale,
            by_cookie: true,
            now: self.world.clock.now().seconds(),
        };
        self.browser.answer(ask, Core::new(&self.world.authority)).await
    }

    /// Signs alice in; her session and token.
    async fn alice(&self) -> (Arc<Live>, Token) {
        // Of two sessions of one moment, either could be the oldest one that must go.
        self.world.clock.advance(std::time::Duration::from_millis(1));
        let login = r#"{"username":"alice","password":"alice"}"#;
        let reply = self.ask(call("POST", "/session", login)).await;
        let token = issued(reply);
        (self.live(&token).await.unwrap(), token)
    }

    async fn live(&self, token: &Token) -> Option<Arc<Live>> {
        self.world.authority.load(token).await.unwrap()
    }

    /// A place as a refused navigation leaves it.
    fn bounced(&self, target: &str) -> String {
        let place =
            Place { target: target.to_owned(), reason: Some(crate::pages::LoginReason::Required) };
        self.browser.returns.keep("app.example.com", place).unwrap()
    }
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

fn location(reply: &Reply) -> String {
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    value(reply, "location").unwrap()
}

/// The body; the templates' escape for a slash is undone, so that paths can be looked for.
fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.to_vec()).unwrap().replace("&#x2f;", "/")
}

fn body(reply: &Reply) -> serde_json::Value {
    serde_json::from_slice(&reply.body).unwrap()
}

fn is_page(reply: &Reply) -> bool {
    let page = value(reply, "content-type").is_some_and(|kind| kind.starts_with("text/html"));
    if page {
        for (name, wanted) in page_headers() {
            assert_eq!(value(reply, name.as_str()).as_deref(), wanted.to_str().ok(), "{name}");
        }
    }
    page
}

/// The problem of an answer, with its code.
#[track_caller]
fn problem(reply: &Reply, status: u16, code: &str) -> serde_json::Value {
    assert_eq!(value(reply, "content-type").as_deref(), Some("application/problem+json"));
    let body = body(reply);
    assert_eq!((reply.status.as_u16(), body["status"].as_u64()), (status, Some(status.into())));
    assert_eq!(body["code"], code);
    assert_eq!(body["request_id"], "req-1");
    assert_eq!(value(reply, "cache-control").as_deref(), Some("no-store"));
    assert_eq!(value(reply, "x-content-type-options").as_deref(), Some("nosniff"));
    body
}
