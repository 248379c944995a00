//! The Versal session API over real sockets: SID as a carrier, partners, keys, wordings.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::support::clients::VersalSdk;
use crate::support::gateway::{cheap_hash, password};
use crate::support::process::{PATIENCE, wait_at_most};
use crate::support::wire::Response;
use crate::support::{Client, Gateway, Reply, Upstream};

/// A partner's key, thirty characters, and the SHA-256 of it.
const KEY: &str = "abcdef.ghijkm.npqrst.uvwxyz.234567";
const KEY_HASH: &str = "kabJCpFH7rAzy-WrgS4Ly1FSOwq9mFTK4AmVqZSMlEI";

fn users() -> String {
    let user = |id: &str, more: &str| {
        let hash = cheap_hash(&password(id));
        format!(
            "[[user]]\nid = \"u-{id}\"\nname = \"{id}\"\nemail = \"{id}@example.org\"\n\
             display_name = \"{id} Example\"\npassword = \"{hash}\"\n{more}\n"
        )
    };
    user("alice", "aliases = { versal = \"-7\" }")
        + &user("bob", "aliases = { versal = \"8\" }")
        + &user("root", "aliases = { versal = \"1\" }")
        + &format!(
            "[[partner]]\nid = \"acme\"\nname = \"Acme\"\n\
             admin_secrets = [\"0123456789abcdef0123456789abcdef\"]\n\
             [[partner.member]]\nuser = \"alice\"\n\
             [[partner.member]]\nuser = \"root\"\nadmin = true\n\
             [[key]]\nid = \"6fd1d3a0-3a53-4c1e-8a6d-0f2a35b2f001\"\nname = \"launcher\"\n\
             owner = \"partner/acme\"\nhash = \"{KEY_HASH}\"\ncreated = \"2026-01-01T00:00:00Z\"\n"
        )
}

fn gateway(app: &Upstream) -> Gateway {
    Gateway::builder()
        .users(&users())
        .set("api.versal", "prefix", "\"/api2\"")
        .set("api.versal", "legacy_headers", "true")
        .upstream("app", app.addr())
        .public("/public/", "app")
        .private("/", "app")
        .start()
}

async fn ask(client: &mut Client, method: &str, path: &str, sid: &str, body: &str) -> Response {
    let sid = [("sid", sid)];
    // As curl sends what is given with -d.
    let form = [("content-type", "application/x-www-form-urlencoded"), sid[0]];
    let headers = if body.is_empty() { &sid[..] } else { &form[..] };
    let headers = if sid[0].1.is_empty() { &headers[..headers.len() - 1] } else { headers };
    send(client, method, path, headers, body).await
}

async fn send(
    client: &mut Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    client.request(method, path, headers, Bytes::copy_from_slice(body.as_bytes())).await
}

fn error(answer: &Response, status: u16, message: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.json(), json!({ "error": status, "message": message }));
    assert!(answer.header("location").is_none());
}

async fn sign_in(client: &mut Client, user: &str) -> String {
    let body = json!({ "email": format!("{user}@example.org"), "password": password(user) });
    let answer = ask(client, "POST", "/api2/signin", "", &body.to_string()).await.expect(200);
    assert!(answer.all("set-cookie").is_empty());
    let sid = answer.json()["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("session_id").as_deref(), Some(&*sid));
    sid
}

#[tokio::test]
async fn a_sid_opens_what_is_behind_the_gateway_and_stays_there() {
    let app = Upstream::start();
    let gateway = gateway(&app);
    for mut client in [gateway.client(), Client::h2(&gateway)] {
        let sid = sign_in(&mut client, "alice").await;
        for (name, path) in
            [("sid", "/anything"), ("session_id", "/api2/gadgets"), ("authsid", "/")]
        {
            app.forget();
            client.get_with(path, &[(name, &sid)]).await.expect(200);
            let seen = app.last();
            assert_eq!(seen.header("x-auth-user").as_deref(), Some("u-alice"), "{name}");
            assert_eq!(seen.header("x-auth-method").as_deref(), Some("password"));
            let bytes = String::from_utf8_lossy(&seen.bytes()).into_owned();
            assert!(!bytes.contains(&sid), "{bytes}");
        }
        // On a public route, too, it goes no further.
        client.get_with("/public/x", &[("sid", &sid)]).await.expect(200);
        assert!(!String::from_utf8_lossy(&app.last().bytes()).contains(&sid));
        ask(&mut client, "POST", "/api2/signout", &sid, "").await.expect(204);
        let answer = ask(&mut client, "GET", "/api2/gadgets", &sid, "").await;
        error(&answer, 401, "Invalid credentials");
        assert_eq!(client.get_with("/", &[("sid", &sid)]).await.status, 401);
    }
}

#[tokio::test]
async fn what_is_no_sid_opens_nothing() {
    let app = Upstream::start();
    let gateway = gateway(&app);
    let mut client = gateway.client();
    let sid = sign_in(&mut client, "alice").await;
    let session = ask(&mut client, "GET", "/api2/session", &sid, "").await.expect(200).json();
    assert_eq!(session, json!({ "sessionType": "PlainUserSession", "userId": "-7" }));
    client.get_with("/x", &[("sid", &sid)]).await.expect(200);
    let public = app.last().header("x-auth-session").unwrap();
    assert_ne!(public, sid);
    let upper = sid.to_uppercase();
    ask(&mut client, "GET", "/api2/user", &upper, "").await.expect(200);
    let mut wrong = sid.clone();
    wrong.replace_range(..1, if wrong.starts_with('0') { "1" } else { "0" });
    let braced = format!("{{{sid}}}");
    let bare = sid.replace('-', "");
    for other in [&public, &wrong, &braced, &bare, "null", "KEY"] {
        let answer = ask(&mut client, "GET", "/api2/user", other, "").await;
        error(&answer, 401, "Invalid credentials");
        assert_eq!(client.get_with("/x", &[("sid", other)]).await.status, 401);
    }
    let two = [("sid", &*sid), ("session_id", &*wrong)];
    assert_eq!(client.get_with("/x", &two).await.status, 401);
}

#[tokio::test]
async fn a_partner_acts_for_its_users_and_is_named() {
    let app = Upstream::start();
    let gateway = gateway(&app);
    let mut client = gateway.client();
    for body in [r#"{"userId":"-7","expiresIn":60000}"#, r#"{"email":"alice@example.org"}"#] {
        let answer = ask(&mut client, "POST", "/api2/sessions", KEY, body).await.expect(201).json();
        assert_eq!(answer["user"]["id"], "-7");
        let sid = answer["sessionId"].as_str().unwrap();
        client.get_with("/x", &[("sid", sid)]).await.expect(200);
        let seen = app.last();
        assert_eq!(seen.header("x-auth-user").as_deref(), Some("u-alice"));
        assert_eq!(seen.header("x-auth-actor").as_deref(), Some("partner/acme"));
        assert_eq!(seen.header("x-auth-active-claim").as_deref(), Some("user/u-alice"));
    }
    for (key, body, status, message) in [
        (KEY, r#"{"userId":"99"}"#, 404, "User '99' not found"),
        (KEY, r#"{"userId":"8"}"#, 404, "User '8' not found"),
        (KEY, r#"{"email":"x@example.org"}"#, 400, "User 'x@example.org' not found"),
        (KEY, "{}", 400, "Missing field: userId or email"),
        ("", r#"{"userId":"-7"}"#, 401, "Invalid credentials"),
        ("abcdef.ghijkm.npqrst.uvwxyz.234568", r#"{"userId":"-7"}"#, 401, "Invalid credentials"),
    ] {
        let answer = ask(&mut client, "POST", "/api2/sessions", key, body).await;
        error(&answer, status, message);
    }
    let sid = sign_in(&mut client, "alice").await;
    let answer = ask(&mut client, "POST", "/api2/sessions", &sid, r#"{"userId":"8"}"#).await;
    error(&answer, 403, "Insufficient permissions (must be a partner)");
    let session = ask(&mut client, "GET", "/api2/session", KEY, "").await.expect(200).json();
    assert_eq!(session, json!({ "sessionType": "PartnerKey" }));
    error(&ask(&mut client, "GET", "/api2/user", KEY, "").await, 401, "Invalid credentials");
    let signed = ask(&mut client, "POST", "/api2/signin/-7", KEY, "").await.expect(200).json();
    assert_eq!(signed["user"]["username"], "alice");
    let by_partner = |line: &&Value| line["event"] == "login" && line["actor"] == "partner/acme";
    wait_at_most(PATIENCE, || (gateway.log().iter().filter(by_partner).count() == 3).then_some(()));
    assert!(!gateway.output().contains("abcdef"));
}

#[tokio::test]
async fn a_key_itself_is_the_partner_to_apps() {
    let app = Upstream::start();
    let gateway = gateway(&app);
    let mut client = gateway.client();
    let bearer = format!("Bearer {KEY}");
    for header in [("sid", KEY), ("authorization", &*bearer)] {
        client.get_with("/x", &[header]).await.expect(200);
        let seen = app.last();
        assert_eq!(seen.header("x-auth-user").as_deref(), Some("partner/acme"));
        assert!(!String::from_utf8_lossy(&seen.bytes()).contains("abcdef"));
    }
}

#[tokio::test]
async fn partner_keys_are_shown_once_and_end_at_once() {
    let app = Upstream::start();
    let gateway = gateway(&app);
    let mut client = gateway.client();
    let root = sign_in(&mut client, "root").await;
    let answer = ask(&mut client, "POST", "/api2/user/1/partnerkey", &root, "").await.expect(201);
    let key = answer.json()["key"].as_str().unwrap().to_owned();
    assert!(!gateway.users().contains(&key) && !gateway.users().contains(&key.replace('.', "")));
    ask(&mut client, "POST", "/api2/sessions", &key, r#"{"userId":"-7"}"#).await.expect(201);
    let second = ask(&mut client, "POST", "/api2/user/1/partnerkey", KEY, "").await.expect(201);
    assert_ne!(second.json()["key"], key);
    for (sid, path, status, message) in [
        (&*root, "/api2/user/-7/partnerkey", 403, "Insufficient permissions (must be a partner)"),
        (KEY, "/api2/user/99/partnerkey", 404, "User '99' not found"),
        (KEY, "/api2/user/8/partnerkey", 404, "User '8' not found"),
    ] {
        error(&ask(&mut client, "POST", path, sid, "").await, status, message);
    }
    let alice = sign_in(&mut client, "alice").await;
    let answer = ask(&mut client, "POST", "/api2/user/-7/partnerkey", &alice, "").await;
    error(&answer, 403, "Insufficient permissions (must be a partner)");
    ask(&mut client, "DELETE", "/api2/users/1/partnerkey", &root, "").await.expect(204);
    let answer = ask(&mut client, "POST", "/api2/sessions", &key, r#"{"userId":"-7"}"#).await;
    error(&answer, 401, "Invalid credentials");
    ask(&mut client, "GET", "/api2/session", KEY, "").await.expect(200);
}

#[tokio::test]
async fn failures_under_the_mount_are_json() {
    let app = Upstream::start();
    let gateway = gateway(&app);
    let mut client = gateway.client();
    let page = [("accept", "text/html"), ("sec-fetch-mode", "navigate")];
    for (method, path) in [("GET", "/api2/gadgets"), ("POST", "/api2/gadgets"), ("GET", "/api2")] {
        let answer = send(&mut client, method, path, &page, "").await;
        error(&answer, 401, "Invalid credentials");
    }
    let sid = sign_in(&mut client, "alice").await;
    let answer = ask(&mut client, "PATCH", "/api2/session", &sid, "").await;
    error(&answer, 405, "PATCH is not served here; use GET.");
    let large = "x".repeat(70_000);
    let answer = ask(&mut client, "POST", "/api2/signin", "", &large).await;
    assert_eq!((answer.status, &answer.json()["error"]), (413, &json!(413)));
    for odd in ["/api2/%73ession", "/api2/session;x=1", "/api2//session"] {
        let answer = ask(&mut client, "GET", odd, &sid, "").await;
        assert!(matches!(answer.status, 400 | 404), "{odd}: {}", answer.status);
        assert_eq!(answer.json()["error"], answer.status, "{odd}");
    }
    let body = json!({ "email": "alice", "password": "wrong" }).to_string();
    let mut last = ask(&mut client, "POST", "/api2/signin", "", &body).await;
    for _ in 0..8 {
        last = ask(&mut client, "POST", "/api2/signin", "", &body).await;
    }
    assert_eq!((last.status, &last.json()["error"]), (429, &json!(429)));
    assert!(last.header("retry-after").is_some());
}

/// The modules of the API's own client, unmodified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_apis_own_client_signs_in_and_reaches_the_app() {
    let app = Upstream::answering(|_| {
        Reply::status("200 OK", "Content-Type: application/json\r\n", "{\"catalog\":[]}")
    });
    let gateway = gateway(&app);
    let mut sdk = VersalSdk::of(&gateway);
    let sid = sdk.signin("alice@example.org", &password("alice")).unwrap();
    let sid = sid.as_str().unwrap();
    let user = sdk.user(sid).unwrap();
    assert_eq!((&user["id"], &user["email"]), (&json!("-7"), &json!("alice@example.org")));
    assert_eq!(sdk.gadgets("sandbox", sid).unwrap(), json!({ "catalog": [] }));
    let seen = app.last();
    assert_eq!(seen.target, "/api2/gadgets?catalog=sandbox&user=me");
    assert_eq!(seen.header("x-auth-user").as_deref(), Some("u-alice"));
    assert!(seen.header("sid").is_none());
    assert!(sdk.signin("alice@example.org", "wrong").is_err());
    assert!(sdk.user("00000000-0000-4000-8000-000000000000").is_err());
}
