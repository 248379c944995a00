//! The life of a session by JSON: made, shown, used, listed, ended.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use super::{mentions, problem};
use crate::support::client::COOKIE;
use crate::support::gateway::password;
use crate::support::process::PATIENCE;
use crate::support::{Client, Gateway, Raw, Reply, Upstream};

#[tokio::test]
async fn login_makes_a_session_and_logout_ends_it() {
    let gateway = Gateway::whoami();
    let mut client = gateway.client();
    problem(&client.get("/auth/session").await, 401);

    let answer = client.sign_in("alice").await;
    assert_eq!(answer.all("set-cookie").len(), 1);
    let session = client.get("/auth/session").await.expect(200).json();
    assert!(mentions(&session, "u-alice"), "{session}");
    assert!(mentions(&session, "user/u-alice"), "{session}");

    let old = client.tab();
    let answer = client.delete("/auth/session").await.expect(204);
    assert!(client.token().is_none(), "cookie kept: {:?}", answer.headers);
    // The cookie alone is not what counts.
    let mut thief = old;
    problem(&thief.get("/auth/session").await, 401);
    problem(&thief.get("/anything").await, 401);
}

#[tokio::test]
async fn the_cookie_is_as_strict_as_can_be() {
    let gateway = Gateway::whoami();
    let mut client = gateway.client();
    let answer = client.sign_in("alice").await;
    let line = answer.all("set-cookie")[0].to_owned();
    let token = client.token().unwrap().to_owned();
    assert!(line.starts_with(&format!("{COOKIE}={token}")), "{line}");
    assert!(token.len() < 100, "{} bytes", token.len());
    let attributes: HashSet<String> =
        line.split(';').skip(1).map(|part| part.trim().to_lowercase()).collect();
    for wanted in ["secure", "httponly", "samesite=lax", "path=/"] {
        assert!(attributes.contains(wanted), "no {wanted} in {line}");
    }
    assert!(!attributes.iter().any(|a| a.starts_with("domain")), "{line}");
    let (id, secret) = token.split_once('.').expect("<public id>.<secret>");
    assert!(id.len() >= 22 && secret.len() >= 43, "{token}");
    // The secret is for the cookie jar only.
    let text = answer.text() + &client.get("/auth/session").await.text();
    assert!(!text.contains(secret), "{text}");
}

#[tokio::test]
async fn every_login_has_a_new_token_and_adopts_none() {
    let gateway = Gateway::whoami();
    let mut seen = HashSet::new();
    let mut client = gateway.client();
    for _ in 0..5 {
        let before = client.tab();
        client.sign_in("alice").await;
        assert!(seen.insert(client.token().unwrap().to_owned()));
        if before.token().is_some() {
            // Logging in again ends the session that the browser brought.
            let mut before = before;
            problem(&before.get("/auth/session").await, 401);
        }
    }
    for planted in ["planted", "AAAAAAAAAAAAAAAAAAAAAA.BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"]
    {
        let mut victim = gateway.client();
        victim.set_cookie(COOKIE, planted);
        victim.sign_in("bob").await;
        assert_ne!(victim.token(), Some(planted));
    }
}

#[tokio::test]
async fn a_login_that_fails_says_nothing_about_why() {
    let gateway = Gateway::whoami();
    let mut texts = HashSet::new();
    let right = password("alice");
    for (user, password) in [
        ("alice", "wrong password"),
        ("alice", ""),
        ("nobody", "wrong password"),
        ("nobody", right.as_str()),
        ("ALICE\u{0}", right.as_str()),
        ("carol", password("carol").as_str()),
    ] {
        let mut client = gateway.client();
        let answer = client.try_sign_in(user, password).await;
        let document = problem(&answer, 401);
        assert!(answer.all("set-cookie").is_empty(), "{user}: {:?}", answer.headers);
        texts.insert(
            [&document["code"], &document["title"], &document["detail"]].map(|v| v.to_string()),
        );
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[tokio::test]
async fn malformed_logins_are_told_so() {
    let gateway = Gateway::whoami();
    let mut client = gateway.client();
    for body in
        [json!({}), json!({"username": "alice"}), json!([]), json!({"username": 1, "password": 2})]
    {
        problem(&client.post_json("/auth/session", &body).await, 400);
    }
    let body = bytes::Bytes::from_static(b"{\"username\":");
    let headers = [("content-type", "application/json")];
    let answer = client.request(http::Method::POST, "/auth/session", &headers, body).await;
    problem(&answer, 400);
    let answer = client.request(http::Method::PUT, "/auth/session", &[], bytes::Bytes::new()).await;
    problem(&answer, 405);
    assert!(answer.header("allow").is_some(), "{:?}", answer.headers);
}

#[tokio::test]
async fn the_application_hears_who_it_is() {
    let gateway = Gateway::whoami();
    let mut client = gateway.signed_in("alice").await;
    let json = [("accept", "application/json")];
    let seen = client.get_with("/some/where?x=1", &json).await.expect(200);
    let document = seen.json();
    for value in ["u-alice", "alice", "alice@example.org", "user/u-alice"] {
        assert!(mentions(&document, value), "no {value} in {document}");
    }
    let text = seen.text().to_lowercase();
    assert!(text.contains("x-auth-user") && text.contains("x-auth-active-claim"), "{text}");
    assert!(!text.contains(&client.token().unwrap().to_lowercase()));
    // A route for anyone has no identity, also for those who have one.
    let public = client.get_with("/public/x", &json).await.expect(200).json();
    assert!(!mentions(&public, "u-alice"), "{public}");
    let nobody = gateway.client().get_with("/public/x", &json).await.expect(200).json();
    assert!(!mentions(&nobody, "u-alice"), "{nobody}");
    // A browser gets a page.
    assert!(client.navigate("/some/where").await.expect(200).is_html());
}

#[tokio::test]
async fn answers_with_an_identity_are_kept_by_nobody() {
    let gateway = Gateway::whoami();
    let mut client = gateway.client();
    for path in ["/auth/login", "/auth/session", "/anything"] {
        let answer = client.navigate(path).await;
        let control = answer.header("cache-control").unwrap_or_default();
        assert!(control.contains("no-store"), "{path}: {} {control}", answer.status);
    }
    let answer = client.sign_in("alice").await;
    assert!(answer.header("cache-control").unwrap_or_default().contains("no-store"));
    for path in ["/auth/session", "/auth/account", "/auth/logout"] {
        let answer = client.navigate(path).await.expect(200);
        let control = answer.header("cache-control").unwrap_or_default();
        assert!(control.contains("no-store"), "{path}: {control}");
    }
}

/// An app that knows nothing of logins says of its pages that everybody's cache may keep them.
#[tokio::test]
async fn answers_of_apps_to_somebody_are_for_them_alone() {
    let upstream = Upstream::answering(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: public, max-age=60\r\n\
             Surrogate-Control: max-age=60\r\nX-LiteSpeed-Cache-Control: public\r\n\
             edge-control: cache-maxage=60\r\nX-Varnish-TTL: 60\r\n\
             Cloudflare-CDN-Cache-Control: max-age=60\r\nFastly-Surrogate-Control: a\r\n\r\nok",
        )
    });
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut client = gateway.signed_in("alice").await;
    for path in ["/x", "/public/x"] {
        let mut answers = vec![client.get(path).await];
        let mut h2 = Client::h2(&gateway);
        let cookie = format!("{COOKIE}={}", client.token().unwrap());
        answers.push(h2.get_with(path, &[("cookie", &cookie)]).await);
        for answer in answers {
            let signed_in = answer.expect(200);
            let control = signed_in.header("cache-control");
            match path {
                "/x" => {
                    assert_eq!(control.as_deref(), Some("private, max-age=60"));
                    for name in [
                        "surrogate-control",
                        "x-litespeed-cache-control",
                        "edge-control",
                        "x-varnish-ttl",
                        "cloudflare-cdn-cache-control",
                        "fastly-surrogate-control",
                    ] {
                        assert_eq!(signed_in.header(name), None, "{name}");
                    }
                }
                _ => assert_eq!(control.as_deref(), Some("public, max-age=60"), "for nobody"),
            }
        }
    }
}

#[tokio::test]
async fn one_session_can_end_another() {
    let gateway = Gateway::whoami();
    let mut here = gateway.signed_in("alice").await;
    let mut there = gateway.signed_in("alice").await;
    let mut other = gateway.signed_in("bob").await;
    let own = there.get("/auth/session").await.expect(200).json();
    let id = own["id"].as_str().unwrap().to_owned();

    let list = here.get("/auth/sessions").await.expect(200);
    assert!(list.text().contains(&id), "{}", list.text());
    let foreign = other.get("/auth/sessions").await.expect(200);
    assert!(!foreign.text().contains(&id), "{}", foreign.text());

    // Nobody else's, and not even whether it exists.
    let path = format!("/auth/sessions/{id}");
    assert!(matches!(other.delete(&path).await.status, 403 | 404));
    there.get("/auth/session").await.expect(200);

    here.delete(&path).await.expect(204);
    problem(&there.get("/auth/session").await, 401);
    here.get("/auth/session").await.expect(200);
    // The public id is no token.
    let mut thief = gateway.client();
    thief.set_cookie(COOKIE, &id);
    problem(&thief.get("/auth/session").await, 401);
}

#[tokio::test]
async fn lifetimes_end_sessions() {
    let gateway = Gateway::builder()
        .set("session", "lifetime", "\"3s\"")
        .set("session", "idle", "\"3s\"")
        .upstream_with("app", "builtin:whoami", "")
        .private("/", "app")
        .start();
    let mut client = gateway.signed_in("alice").await;
    // Constant use does not keep it alive.
    let end = std::time::Instant::now() + PATIENCE;
    while client.get("/x").await.status == 200 {
        assert!(std::time::Instant::now() < end, "still alive after its lifetime");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    problem(&client.get("/x").await, 401);
}

#[tokio::test]
async fn a_disabled_user_is_out_at_once() {
    let gateway = Gateway::whoami();
    let mut client = gateway.signed_in("bob").await;
    let mut bystander = gateway.signed_in("alice").await;
    let marker = "name = \"bob\"\n";
    let users = gateway.users();
    assert!(users.contains(marker), "{users}");
    gateway.write_users(&users.replace(marker, &format!("{marker}disabled = true\n")));
    gateway.reload();
    let end = std::time::Instant::now() + PATIENCE;
    while client.get("/x").await.status == 200 {
        assert!(std::time::Instant::now() < end, "a disabled user is still in");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    problem(&client.get("/x").await, 401);
    problem(&client.try_sign_in("bob", &password("bob")).await, 401);
    bystander.get("/x").await.expect(200);
}

#[tokio::test]
async fn open_streams_end_with_their_session() {
    let upstream = Upstream::answering(|request| {
        if request.header("upgrade").is_some() {
            Reply::websocket(request)
        } else {
            Reply::sse().event("first").then_hang()
        }
    });
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut client = gateway.signed_in("alice").await;
    let cookie = format!("Cookie: {COOKIE}={}\r\n", client.token().unwrap());
    let host = gateway.authority().to_owned();

    let mut socket: Raw = gateway.raw().await;
    let handshake = format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nOrigin: {}\r\n{cookie}Connection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        gateway.origin()
    );
    socket.send(&handshake).await;
    socket.response().await.expect(101);
    let mut events: Raw = gateway.raw().await;
    events.send(format!("GET /events HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n")).await;
    events.until("data: first\n\n").await;

    client.delete("/auth/session").await.expect(204);
    let limit = Duration::from_secs(2);
    let frames =
        tokio::time::timeout(limit, socket.reader.rest()).await.expect("WebSocket is open");
    // A close frame with the code 4401 in network order.
    assert_eq!(frames.first(), Some(&0x88), "{frames:02x?}");
    assert_eq!(frames.get(2..4), Some(&4401_u16.to_be_bytes()[..]), "{frames:02x?}");
    let rest = tokio::time::timeout(limit, events.reader.rest()).await.expect("events still flow");
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a cut stream must not look complete");
}
