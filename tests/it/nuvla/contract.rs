//! Logging in, and what is refused, row by row.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{builder, failure, login, send, signed_in};
use crate::support::client::{COOKIE, NAVIGATION};
use crate::support::gateway::password;
use crate::support::{Gateway, Upstream};

#[tokio::test]
async fn templates_are_there_for_everybody() {
    let gateway = builder(&Upstream::start()).start();
    let mut anybody = gateway.client();
    for method in ["GET", "PUT"] {
        let all =
            send(&mut anybody, method, "/api/session-template", None).await.expect(200).json();
        let ids: Vec<_> =
            all["resources"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
        assert!(ids.contains(&json!("session-template/password")), "{all}");
        assert_eq!(all["count"], ids.len());
    }
    let one = anybody.get("/api/session-template/password").await.expect(200).json();
    assert_eq!((&one["method"], &one["order"]), (&json!("password"), &json!(0)));
    let missing = anybody.get("/api/session-template/github").await;
    assert_eq!(failure(&missing, 404), "session-template/github not found");
}

#[tokio::test]
async fn a_login_gives_location_cookie_and_body() {
    let gateway = builder(&Upstream::start()).start();
    let mut client = gateway.client();
    let answer = client.post_json("/api/session", &login("alice")).await.expect(201);
    let id = answer.header("location").unwrap();
    let uuid = id.strip_prefix("session/").unwrap();
    assert_eq!(uuid.len(), 36);
    let wanted = json!({ "status": 201, "message": format!("{id} created"), "resource-id": id });
    assert_eq!(answer.json(), wanted);
    let cookie = answer.header("set-cookie").unwrap();
    for part in [COOKIE, "Secure", "HttpOnly", "Path=/", "SameSite=Lax"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let token = client.token().unwrap();
    assert!(!answer.text().contains(token));

    let form = [
        ("href", "session-template/password"),
        ("username", "bob"),
        ("password", &password("bob")),
    ];
    let answer = gateway.client().post_form("/api/session", &form).await.expect(201);
    assert!(answer.json()["resource-id"].as_str().unwrap().starts_with("session/"));
}

#[tokio::test]
async fn bad_credentials_are_403_and_all_the_same() {
    let gateway = builder(&Upstream::start()).start();
    for (name, secret) in
        [("alice", "wrong".to_owned()), ("carol", password("carol")), ("nobody", "x".to_owned())]
    {
        let mut body = login("alice");
        body["template"]["username"] = json!(name);
        body["template"]["password"] = json!(secret);
        let mut client = gateway.client();
        let answer = client.post_json("/api/session", &body).await;
        let wanted = format!("invalid credentials for '{name}'");
        assert_eq!(failure(&answer, 403), wanted);
        assert_eq!(answer.json()["resource-id"], name);
        assert!(client.token().is_none());
    }
}

#[tokio::test]
async fn what_is_no_login_is_400() {
    let gateway = builder(&Upstream::start()).start();
    let mut client = gateway.client();
    let json = [("content-type", "application/json")];
    let malformed = client
        .request(Method::POST, "/api/session", &json, Bytes::from_static(b"{\"template\":"))
        .await;
    assert_eq!(failure(&malformed, 400), "Malformed JSON in request body.");
    let mut extra = login("alice");
    extra["template"]["admin"] = json!(true);
    let mut nothing = login("alice");
    nothing["template"] = json!({});
    for body in [extra, nothing, json!({}), Value::Null] {
        let answer = client.post_json("/api/session", &body).await;
        assert!(failure(&answer, 400).starts_with("resource does not satisfy"), "{body}");
    }
    let mut unknown = login("alice");
    unknown["template"]["href"] = json!("session-template/github");
    let answer = client.post_json("/api/session", &unknown).await;
    assert_eq!(failure(&answer, 404), "session-template/github not found");
    // Refused by its announced length.
    let host = gateway.authority();
    let head =
        format!("POST /api/session HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\n");
    let mut raw = gateway.raw().await;
    raw.send(head).await;
    failure(&raw.response().await, 413);
}

#[tokio::test]
async fn guesses_are_slowed_down() {
    let gateway = builder(&Upstream::start()).start();
    let mut body = login("bob");
    body["template"]["password"] = json!("wrong");
    let mut client = gateway.client();
    for _ in 0..40 {
        let answer = client.post_json("/api/session", &body).await;
        if answer.status == 429 {
            failure(&answer, 429);
            assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
            return;
        }
        failure(&answer, 403);
    }
    panic!("never slowed down");
}

#[tokio::test]
async fn methods_and_places_that_are_not_there() {
    let gateway = builder(&Upstream::start()).start();
    let (mut client, id) = signed_in(&gateway, "alice").await;
    let uri = format!("/api/{id}");
    for (method, path) in [
        ("PUT", uri.as_str()),
        ("POST", uri.as_str()),
        ("DELETE", "/api/session"),
        ("PATCH", "/api/session"),
        ("DELETE", "/api/session-template/password"),
    ] {
        let answer = send(&mut client, method, path, None).await;
        let wanted = format!("invalid method ({}) for {path}", method.to_lowercase());
        assert_eq!(failure(&answer, 405), wanted);
        assert!(answer.header("allow").is_some());
    }
    let action = format!("{uri}/activate");
    let undefined = send(&mut client, "POST", &action, None).await;
    assert!(failure(&undefined, 404).starts_with("undefined action (post, activate) for /api/"));
    for path in ["/api/session/", "/api/session/a/b/c"] {
        let answer = client.get(path).await;
        assert_eq!(failure(&answer, 404), "unknown resource");
        assert_eq!(answer.json()["resource-id"], path);
    }
    for path in ["/api/session", "/api/session-template", &uri, &action] {
        let answer = send(&mut client, "OPTIONS", path, None).await.expect(204);
        assert!(answer.body.is_empty());
    }
    // The gateway's own refusals too are JSON, whoever asks.
    let spelt = client.get_with("/api/%73ession", NAVIGATION).await;
    assert_eq!(failure(&spelt, 404), "unknown resource");
    failure(&client.get_with("/api/a%2fb", NAVIGATION).await, 400);
    failure(&send(&mut client, "TRACE", "/api/session", None).await, 405);
}

#[tokio::test]
async fn another_site_changes_nothing() {
    let gateway = builder(&Upstream::start()).start();
    let (mut client, id) = signed_in(&gateway, "alice").await;
    let uri = format!("/api/{id}");
    let evil = ("origin", "https://evil.example");
    let json = ("content-type", "application/json");
    let switch = json!({ "claim": "group/staff" }).to_string();
    let form =
        format!("href=session-template%2Fpassword&username=bob&password={}", password("bob"));
    let form_type = ("content-type", "application/x-www-form-urlencoded");
    let switching = format!("{uri}/switch-group");
    for (method, path, headers, body) in [
        (Method::DELETE, uri.as_str(), vec![evil], String::new()),
        (Method::DELETE, uri.as_str(), vec![("sec-fetch-site", "cross-site")], String::new()),
        (Method::POST, switching.as_str(), vec![evil, json], switch.clone()),
        (Method::POST, "/api/session", vec![evil, form_type], form),
    ] {
        failure(&client.request(method, path, &headers, body.into()).await, 403);
    }
    // A read by PUT is a read.
    let found = client.request(Method::PUT, "/api/session", &[evil], Bytes::new()).await;
    assert_eq!(found.expect(200).json()["resources"][0]["active-claim"], "user/f3a1");
    // No page can send a bearer token of another site.
    let bearer = format!("Bearer {}", client.token().unwrap());
    let bearer = ("authorization", bearer.as_str());
    let headers = [evil, json, bearer, ("cookie", "x=y")];
    let answer = gateway.client().request(Method::POST, &switching, &headers, switch.into()).await;
    answer.expect(200);
}

#[tokio::test]
async fn a_mount_may_have_another_prefix() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .users(&super::users())
        .block("[api.nuvla]\nprefix = \"/nuvla/api\"")
        .upstream("app", upstream.addr())
        .private("/", "app")
        .start();
    let mut client = gateway.client();
    client.post_json("/nuvla/api/session", &login("bob")).await.expect(201);
    let found = send(&mut client, "PUT", "/nuvla/api/session", None).await.expect(200).json();
    assert_eq!(
        (&found["count"], &found["resources"][0]["user"]),
        (&json!(1), &json!("user/u-bob"))
    );
    let entry = client.get("/nuvla/api/cloud-entry-point").await.expect(200).json();
    assert_eq!(entry["base-uri"], format!("{}/nuvla/api/", gateway.origin()));
    assert_eq!(client.get("/api/session").await.expect(200).text(), "hello");
}
