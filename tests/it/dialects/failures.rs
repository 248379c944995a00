//! Whatever fails under a mount is worded by its API, and nobody is sent to a page.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{By, kaltura, nuvla_login, over_both};
use crate::support::client::NAVIGATION;
use crate::support::gateway::Builder;
use crate::support::world::{ADMIN_SECRET, Held, Kept, PARTNER_KEY, SHOP, World, telling};
use crate::support::{Client, Response};

over_both!(failures_are_worded_by_the_api, floods_are_worded_by_the_api);

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[track_caller]
fn no_redirect(what: &str, answer: &Response) {
    let text = answer.text();
    assert!(!answer.is_redirect() && !answer.is_html(), "{what}: {} {text}", answer.status);
    assert!(answer.header("location").is_none(), "{what}: {:?}", answer.headers);
    assert!(answer.all("set-cookie").is_empty(), "{what}: {:?}", answer.headers);
}

#[track_caller]
fn nuvla(what: &str, answer: &Response, status: u16) {
    no_redirect(what, answer);
    assert_eq!(answer.status, status, "nuvla, {what}: {}", answer.text());
    let body = answer.json();
    assert_eq!(body["status"], status, "nuvla, {what}: {body}");
    assert!(body["message"].is_string(), "nuvla, {what}: {body}");
}

#[track_caller]
fn versal(what: &str, answer: &Response, status: u16) {
    no_redirect(what, answer);
    assert_eq!(answer.status, status, "versal, {what}: {}", answer.text());
    let body = answer.json();
    assert_eq!(body["error"], status, "versal, {what}: {body}");
    assert!(body["message"].is_string(), "versal, {what}: {body}");
}

/// The code of the error; its status is 200 whatever it is.
#[track_caller]
fn kaltura_code(what: &str, answer: &Response) -> String {
    no_redirect(what, answer);
    assert_eq!(answer.status, 200, "kaltura, {what}: {}", answer.text());
    let origin = answer.header("access-control-allow-origin");
    assert_eq!(origin.as_deref(), Some("*"), "{what}");
    let kind = answer.header("content-type").unwrap_or_default();
    if kind.starts_with("text/xml") {
        let text = answer.text();
        let document = roxmltree::Document::parse(&text).unwrap();
        let code = document.descendants().find(|node| node.has_tag_name("code"));
        return code.and_then(|code| code.text()).unwrap_or_default().to_owned();
    }
    assert!(kind.starts_with("application/json"), "kaltura, {what}: {kind}");
    let body = answer.json();
    assert_eq!(body["objectType"], "KalturaAPIException", "kaltura, {what}: {body}");
    assert!(body["message"].is_string(), "kaltura, {what}: {body}");
    body["code"].as_str().unwrap_or_default().to_owned()
}

fn settings(builder: Builder, app: std::net::SocketAddr) -> Builder {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut builder = builder.upstream("app", app).upstream("gone", gone).private("/app/", "app");
    for below in ["/api", "/api2", "/api_v3/service"] {
        builder = builder
            .private(&format!("{below}/media/"), "app")
            .private(&format!("{below}/gone/"), "gone")
            .route(
                &format!("{below}/readonly/"),
                "app",
                "\"authenticated\"",
                "methods = [\"GET\"]",
            );
    }
    builder
}

async fn post(client: &mut Client, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    client.request(Method::POST, path, headers, Bytes::from(body.to_owned())).await
}

async fn failures_are_worded_by_the_api(kept: Kept) {
    let app = telling();
    let world = World::with(kept, |builder| settings(builder, app.addr()));
    let held = By::Nuvla.opened(&world.a).await;
    let mut client = world.other().client();
    let sid = held.header();
    for more in [&[][..], NAVIGATION] {
        let signed = [&[sid], more].concat();
        // 404.
        nuvla("404", &client.get_with("/api/nothing", more).await, 404);
        nuvla("404", &client.get_with("/api/session/nothing/x/y", &signed).await, 404);
        versal("404", &client.get_with("/api2/nothing", more).await, 404);
        versal("404", &client.get_with("/api2/sessions/x", &signed).await, 404);
        for (path, code) in [
            ("/service/nothing/action/list?format=1", "SERVICE_DOES_NOT_EXISTS"),
            ("/service/nothing/action/list", "SERVICE_DOES_NOT_EXISTS"),
            ("/service/user/action/nothing?format=1", "ACTION_DOES_NOT_EXISTS"),
            ("/service/session?format=1", "ACTION_NOT_SPECIFIED"),
            ("/index.php?format=1", "SERVICE_NOT_SPECIFIED"),
        ] {
            let answer = client.get_with(&format!("/api_v3{path}"), more).await;
            assert_eq!(kaltura_code(path, &answer), code);
        }
        // 401: no page to sign in, either.
        nuvla("401", &client.get_with("/api/media/x", more).await, 401);
        versal("401", &client.get_with("/api2/media/x", more).await, 401);
        let answer = client.get_with("/api_v3/service/media/action/get?format=1", more).await;
        assert_eq!(kaltura_code("401", &answer), "MISSING_KS");
        // 405.
        let none = Bytes::new;
        let answer = client.request(Method::DELETE, "/api/session", &signed, none()).await;
        nuvla("405", &answer, 405);
        nuvla("405", &post(&mut client, "/api/readonly/x", &signed, "").await, 405);
        versal("405", &client.get_with("/api2/sessions", &signed).await, 405);
        versal("405", &post(&mut client, "/api2/readonly/x", &signed, "").await, 405);
        let path = "/api_v3/service/readonly/action/x?format=1";
        assert_ne!(kaltura_code("405", &post(&mut client, path, &signed, "").await), "");
        // 502.
        nuvla("502", &client.get_with("/api/gone/x", &signed).await, 502);
        versal("502", &client.get_with("/api2/gone/x", &signed).await, 502);
        let path = "/api_v3/service/gone/action/x?format=1";
        assert_ne!(kaltura_code("502", &client.get_with(path, &signed).await), "");
    }
    // 413: more than any call of a session API needs.
    let large = format!("{{\"template\": \"{}\"}}", "x".repeat(100 << 10));
    nuvla("413", &post(&mut world.a.client(), "/api/session", &[JSON], &large).await, 413);
    let key = [("sid", PARTNER_KEY.1), JSON];
    versal("413", &post(&mut world.a.client(), "/api2/sessions", &key, &large).await, 413);
    let path = "/api_v3/service/session/action/start?format=1";
    for kind in [JSON, FORM] {
        let answer = post(&mut world.a.client(), path, &[kind], &large).await;
        assert_ne!(kaltura_code("413", &answer), "");
    }
    unreadable(&mut client).await;
    if let Some(redis) = world.redis {
        let mut world = World { redis: None, ..world };
        without_store(&mut world, redis, &held).await;
    }
}

/// Bodies that are none.
async fn unreadable(client: &mut Client) {
    for body in ["", "{", "[]", "null", "\u{0}", "{\"template\": 1}"] {
        nuvla("400", &post(client, "/api/session", &[JSON], body).await, 400);
        let key = [("sid", PARTNER_KEY.1), JSON];
        versal("400", &post(client, "/api2/sessions", &key, body).await, 400);
        let path = "/api_v3/service/session/action/start?format=1";
        assert_ne!(kaltura_code("400", &post(client, path, &[JSON], body).await), "", "{body}");
    }
}

/// 503, and the sessions are there again with their store.
async fn without_store(world: &mut World, mut redis: crate::support::redis::Server, held: &Held) {
    let sid = held.header();
    redis.kill();
    tokio::time::sleep(crate::support::open::SOON * 2).await;
    for more in [&[][..], NAVIGATION] {
        let signed = [&[sid], more].concat();
        let mut client = world.a.client().impatient();
        let after = |answer: &Response| {
            assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
        };
        for path in ["/api/session", "/api/media/x"] {
            let answer = client.get_with(path, &signed).await;
            nuvla("503", &answer, 503);
            after(&answer);
        }
        for path in ["/api2/session", "/api2/user", "/api2/media/x"] {
            let answer = client.get_with(path, &signed).await;
            versal("503", &answer, 503);
            after(&answer);
        }
        for path in ["user/action/get", "media/action/get", "session/action/end"] {
            let path = format!("/api_v3/service/{path}?format=1&ks={}", held.text());
            let answer = client.get_with(&path, more).await;
            let code = kaltura_code("503", &answer);
            assert!(!["", "INVALID_KS", "MISSING_KS"].contains(&code.as_str()), "{path}: {code}");
            after(&answer);
        }
    }
    let mut client = world.a.client().impatient();
    nuvla("503", &client.post_json("/api/session", &nuvla_login("bob")).await, 503);
    let act = [("sid", PARTNER_KEY.1)];
    let wanted = json!({ "userId": "1002" });
    versal("503", &client.post_json_with("/api2/sessions", &wanted, &act).await, 503);
    let start = json!({ "secret": ADMIN_SECRET, "userId": "bob", "partnerId": SHOP });
    let answer = kaltura(&mut client, "session", "start", &start).await;
    // Not a wrong secret: nothing was said about that.
    assert!(!["", "START_SESSION_ERROR"].contains(&answer.code()), "{answer:?}");
}

/// Tries until the answer is of a flood; an error before it is a wrong password.
async fn floods_are_worded_by_the_api(kept: Kept) {
    const TRIES: usize = 12;
    let app = telling();
    let world = World::with(kept, |builder| settings(builder, app.addr()));
    let mut client = world.a.client();
    let mut found = None;
    for _ in 0..TRIES {
        let mut login = nuvla_login("flooded-1");
        login["template"]["password"] = json!("wrong");
        let answer = client.post_json("/api/session", &login).await;
        if answer.status == 429 {
            found = Some(answer);
            break;
        }
        nuvla("login", &answer, 403);
        let said = answer.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(said, "invalid credentials for 'flooded-1'");
    }
    let answer = found.expect("no flood in nuvla");
    nuvla("429", &answer, 429);
    assert!(answer.header("retry-after").is_some());

    let mut found = None;
    for _ in 0..TRIES {
        let body = json!({ "email": "flooded-2", "password": "wrong" });
        let answer = client.post_json("/api2/signin", &body).await;
        if answer.status == 429 {
            found = Some(answer);
            break;
        }
        versal("signin", &answer, 401);
    }
    let answer = found.expect("no flood in versal");
    versal("429", &answer, 429);
    assert!(answer.header("retry-after").is_some());

    let mut codes: Vec<Value> = Vec::new();
    for _ in 0..TRIES {
        let body = json!({ "loginId": "flooded-3", "password": "wrong" });
        let answer = kaltura(&mut client, "user", "loginByLoginId", &body).await;
        codes.push(json!(answer.code()));
    }
    assert_eq!(codes[0], "USER_WRONG_PASSWORD", "{codes:?}");
    assert!(codes.contains(&json!("ACTION_BLOCKED")), "{codes:?}");
}
