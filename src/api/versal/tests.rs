//! The dialect over a real core with in-memory doubles: places, bodies, wordings.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Versal;
use super::ask::Place;
use crate::api::{Ask, Carrier, Context, Core, Dialect, Fault, Head, Owns, Reply, Shown};
use crate::session::testing::World;
use crate::session::{Cached, Caller, Live, Token};

const ORIGIN: &str = "https://app.example.com";

const SIGN_IN: &str = r#"{"email":"alice","password":"alice"}"#;

struct Site {
    world: World,
    versal: Versal,
}

impl Site {
    fn new() -> Self {
        let world = World::new();
        world.people.change(|account| {
            account.email = "alice@example.org".to_owned();
            account.name = "Alice von Example".to_owned();
            account.aliases.insert("versal".to_owned(), "-42".to_owned());
        });
        let day = Duration::from_secs(86_400);
        Self { world, versal: Versal::new(90 * day, 30 * day, false, false) }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value, Reply) {
        self.ask_as(None, method, path, body).await
    }

    async fn ask_as(
        &self,
        session: Option<&Arc<Live>>,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, Value, Reply) {
        let headers = HeaderMap::new();
        let ask = Ask {
            method: &Method::from_bytes(method.as_bytes()).unwrap(),
            path,
            query: None,
            headers: &headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            caller: Caller { session: session.cloned(), ..Caller::default() },
            origin: ORIGIN,
            stale: false,
            by_cookie: false,
            now: self.world.clock.now().seconds(),
        };
        let reply = self.versal.answer(ask, Core::new(&self.world.authority)).await;
        assert!(matches!(reply.carrier, Carrier::Keep), "no cookie in this API");
        let body = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        (reply.status.as_u16(), body, reply)
    }

    async fn live(&self, sid: &Value) -> Option<Arc<Live>> {
        let token = Token::parse_sid(sid.as_str().unwrap().as_bytes()).unwrap();
        match self.world.authority.cached(&token, self.world.clock.now()) {
            Cached::Live(live) => Some(live),
            _ => self.world.authority.load(&token).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn people_sign_in_with_their_address_in_json_and_as_a_form() {
    let site = Site::new();
    let json = r#"{"email":"alice","password":"alice","_":[],"$0":"versal"}"#;
    for body in [json, "email=alice&password=alice&verbose=1"] {
        let (status, answer, reply) = site.ask("POST", "/signin", body).await;
        assert_eq!(status, 200, "{answer}");
        let header = reply.headers.iter().find(|(name, _)| name == "session_id").unwrap();
        assert_eq!(header.1.to_str().unwrap(), answer["sessionId"]);
        assert_eq!(answer["user"]["id"], "-42");
        let live = site.live(&answer["sessionId"]).await.unwrap();
        let day = 86_400_000;
        assert_eq!(live.record().expires.since(live.record().authenticated).as_millis(), 90 * day);
        assert_eq!(u128::from(live.record().idle_ms), 30 * day);
        let (status, who, _) = site.ask_as(Some(&live), "GET", "/session", "").await;
        assert_eq!(status, 200);
        assert_eq!(who, json!({ "sessionType": "PlainUserSession", "userId": "-42" }));
        let (_, user, _) = site.ask_as(Some(&live), "GET", "/user", "").await;
        assert_eq!(user, answer["user"]);
        let names = ["firstname", "lastname", "fullname", "email", "username"];
        let names = names.map(|name| user[name].as_str().unwrap());
        assert_eq!(
            names,
            ["Alice", "von Example", "Alice von Example", "alice@example.org", "alice"]
        );
        assert_eq!((&user["orgs"], &user["subscriptions"]), (&json!([]), &json!([])));
        let (status, _, reply) = site.ask_as(Some(&live), "POST", "/signout", "").await;
        assert_eq!((status, reply.body.len()), (204, 0));
        assert!(site.live(&answer["sessionId"]).await.is_none());
    }
}

fn headers(reply: &Reply, name: &str) -> Vec<String> {
    let found = reply.headers.iter().filter(|(own, _)| own == name);
    found.map(|(_, value)| value.to_str().unwrap().to_owned()).collect()
}

fn context<'a>(method: &'a Method, headers: &'a HeaderMap) -> Context<'a> {
    Context {
        headers,
        method,
        request: "r1",
        identity: None,
        target: "/api2/gadgets",
        host: "app.example.com",
        ip: None,
        stale: false,
        now: 0,
    }
}

/// Regression: who one is was kept by caches, and no answer forbade browsers to guess its type.
#[tokio::test]
async fn every_answer_is_kept_by_nobody_and_is_what_it_says() {
    let site = Site::new();
    let (_, answer, signed_in) = site.ask("POST", "/signin", SIGN_IN).await;
    let live = site.live(&answer["sessionId"]).await.unwrap();
    let mut replies = vec![signed_in];
    for (method, path) in [
        ("GET", "/user"),
        ("HEAD", "/user"),
        ("GET", "/session"),
        ("OPTIONS", "/user"),
        ("DELETE", "/user"),
        ("GET", "/nowhere"),
        ("POST", "/signin"),
        ("POST", "/signout"),
    ] {
        replies.push(site.ask_as(Some(&live), method, path, "").await.2);
    }
    let (method, none) = (Method::GET, HeaderMap::new());
    for sign_in in [true, false] {
        let mut fault = Fault::new(StatusCode::UNAUTHORIZED, "x", "x");
        fault.sign_in = sign_in;
        replies.push(site.versal.refuse(&fault, &context(&method, &none)));
    }
    for reply in replies {
        assert_eq!(headers(&reply, "cache-control"), ["no-store"], "{reply:?}");
        assert_eq!(headers(&reply, "x-content-type-options"), ["nosniff"], "{reply:?}");
    }
}

#[tokio::test]
async fn people_sign_in_by_the_id_that_the_api_gives_them() {
    let site = Site::new();
    let (status, answer, _) = site.ask("POST", "/signin/-42", r#"{"password":"alice"}"#).await;
    assert_eq!((status, &answer["user"]["username"]), (200, &json!("alice")), "{answer}");
    for (path, body) in
        [("/signin/-42", r#"{"password":"wrong"}"#), ("/signin/43", r#"{"password":"alice"}"#)]
    {
        let (status, answer, _) = site.ask("POST", path, body).await;
        assert_eq!(status, 401, "{path}");
        assert_eq!(answer, json!({ "error": 401, "message": "Invalid credentials" }));
    }
    // Each cost an attempt under the name that was meant.
    let names = site.world.audit.of("login-failure", "identifier");
    assert!(names[0] == "alice" && names[1].starts_with("typed:") && names.len() == 2, "{names:?}");
}

#[tokio::test]
async fn every_failure_is_worded_as_the_api_does() {
    let site = Site::new();
    let too_long = format!(r#"{{"email":"{}"}}"#, "a".repeat(600));
    for (method, path, body, status, message) in [
        ("POST", "/sessions", "{}", 400, "Missing field: userId or email"),
        ("POST", "/sessions", r#"{"userId":""}"#, 400, "Missing field: userId or email"),
        ("POST", "/sessions", r#"{"email":7}"#, 400, "Field must have type string: email"),
        ("POST", "/sessions", r#"{"userId":[]}"#, 400, "Field must have type string: userId"),
        ("POST", "/sessions", r#"{"expiresIn":-1}"#, 400, "Field must have type number: expiresIn"),
        (
            "POST",
            "/sessions",
            r#"{"expiresIn":"1"}"#,
            400,
            "Field must have type number: expiresIn",
        ),
        ("POST", "/sessions", "userId=1", 400, "The body must be a JSON object"),
        (
            "POST",
            "/sessions",
            "{\"userId\": \"1\", \"userId\": \"2\"}",
            400,
            "The body must be a JSON object",
        ),
        ("POST", "/sessions", "[]", 400, "The body must be a JSON object"),
        ("POST", "/sessions", "{", 400, "The body must be a JSON object"),
        ("POST", "/sessions", &too_long, 400, "Field is not valid: email"),
        ("POST", "/signin", "{}", 400, "Missing field: email or password"),
        ("POST", "/signin", r#"{"email":"alice","password":"no"}"#, 401, "Invalid credentials"),
        ("GET", "/session", "", 401, "Invalid credentials"),
        ("GET", "/user", "", 401, "Invalid credentials"),
        ("POST", "/user/1/partnerkey", "", 401, "Invalid credentials"),
        ("DELETE", "/users/1/partnerkey", "", 401, "Invalid credentials"),
        ("GET", "/sessions", "", 405, "GET is not served here; use POST."),
        ("PUT", "/session", "", 405, "PUT is not served here; use GET."),
        ("GET", "/nothing", "", 404, "There is no such resource."),
    ] {
        let (found, answer, reply) = site.ask(method, path, body).await;
        assert_eq!(
            answer,
            json!({ "error": status, "message": message }),
            "{method} {path} {body}"
        );
        assert_eq!(found, status, "{method} {path}");
        assert_eq!(reply.headers.iter().any(|(name, _)| name == "allow"), status == 405);
    }
    assert_eq!(site.ask("POST", "/signout", "").await.0, 204, "nobody to sign out");
    assert_eq!(site.ask("OPTIONS", "/sessions", "").await.0, 204);
}

#[test]
fn failures_of_the_gateway_are_json_and_never_a_redirect() {
    let versal = Versal::new(Duration::from_secs(9), Duration::from_secs(9), false, false);
    let headers = HeaderMap::new();
    let context = context(&Method::GET, &headers);
    let mut fault = Fault::new(StatusCode::UNAUTHORIZED, "not-signed-in", "Sign in to go on.");
    fault.sign_in = true;
    let body = |reply: &Reply| serde_json::from_slice::<Value>(&reply.body).unwrap();
    let reply = versal.refuse(&fault, &context);
    assert_eq!(body(&reply), json!({ "error": 401, "message": "Invalid credentials" }));
    for status in [400, 403, 404, 413, 429, 502, 503, 504] {
        let status = StatusCode::from_u16(status).unwrap();
        let fault = Fault::new(status, "code", "What happened.").after(Duration::from_secs(7));
        let reply = versal.refuse(&fault, &context);
        assert_eq!(reply.status, status);
        assert_eq!(body(&reply), json!({ "error": status.as_u16(), "message": "What happened." }));
        assert!(reply.headers.iter().any(|(n, value)| n == "retry-after" && value == "7"));
        assert!(
            reply
                .headers
                .iter()
                .any(|(n, value)| n == "content-type" && value == "application/json")
        );
    }
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_by_cookie() {
    let site = Site::new();
    let (_, answer, _) =
        site.ask("POST", "/signin", r#"{"email":"alice","password":"alice"}"#).await;
    let live = site.live(&answer["sessionId"]).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("origin", HeaderValue::from_static("https://evil.example"));
    for (by_cookie, status) in [(true, 403), (false, 204)] {
        let ask = Ask {
            method: &Method::POST,
            path: "/signout",
            query: None,
            headers: &headers,
            body: Bytes::new(),
            caller: Caller { session: Some(Arc::clone(&live)), ..Caller::default() },
            origin: ORIGIN,
            stale: false,
            by_cookie,
            now: 0,
        };
        let reply = site.versal.answer(ask, Core::new(&site.world.authority)).await;
        assert_eq!(reply.status.as_u16(), status);
    }
}

#[test]
fn the_carrier_is_one_header_or_three() {
    let token = Token::issue_sid().unwrap();
    let sid = token.encode();
    let method = Method::GET;
    let found = |legacy: bool, lines: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let versal = Versal::new(Duration::from_secs(9), Duration::from_secs(9), legacy, false);
        let head =
            Head { method: &method, path: "/x", query: None, headers: &headers, has_body: false };
        match versal.token(&head, None) {
            Shown::Token(token) => Some(token.id()),
            Shown::Nothing | Shown::Several => None,
        }
    };
    let own = Token::issue(token.id()).unwrap().encode();
    assert_eq!(found(false, &[("sid", &sid)]), Some(token.id()));
    assert_eq!(found(false, &[("sid", &sid), ("sid", &sid)]), Some(token.id()));
    assert_eq!(found(false, &[("sid", &own)]), Some(token.id()), "the form of other APIs");
    assert_eq!(found(false, &[("sid", &sid), ("sid", "other")]), None);
    assert_eq!(found(false, &[("session_id", &sid)]), None);
    assert_eq!(found(true, &[("session_id", &sid)]), Some(token.id()));
    assert_eq!(found(true, &[("AUTHSID", &sid)]), Some(token.id()));
    assert_eq!(found(true, &[("sid", &sid), ("authsid", "other")]), None);
    assert_eq!(found(false, &[("sid", "00000000-0000-0000-0000-000000000000")]), None);
}

#[test]
fn only_listed_places_are_the_dialects() {
    let versal = Versal::new(Duration::from_secs(9), Duration::from_secs(9), false, false);
    let (method, headers) = (Method::GET, HeaderMap::new());
    let owns = |path| {
        let head = Head { method: &method, path, query: None, headers: &headers, has_body: false };
        versal.owns(&head) == Owns::Yes
    };
    for own in ["/session", "/sessions", "/signin", "/signin/7", "/signout", "/user"] {
        assert!(owns(own), "{own}");
    }
    assert!(owns("/user/7/partnerkey") && owns("/users/7/partnerkey"));
    for app in [
        "/",
        "/sessions/7",
        "/user/7",
        "/users",
        "/users/7",
        "/user//partnerkey",
        "/signin/",
        "/gadgets",
    ] {
        assert!(!owns(app), "{app}");
    }
}

proptest! {
    #[test]
    fn no_path_and_no_body_panics(path in "/\\PC{0,40}", body in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Place::find(&path);
        let _ = super::ask::target(&body);
    }
}
