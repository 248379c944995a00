//! What a session is and does.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{builder, failure, send, signed_in};
use crate::support::{Client, Upstream};

async fn search(client: &mut Client) -> Value {
    send(client, "PUT", "/api/session", None).await.expect(200).json()
}

#[tokio::test]
async fn a_search_finds_ones_own_or_nothing() {
    let gateway = builder(&Upstream::start()).start();
    let (mut client, id) = signed_in(&gateway, "alice").await;
    let _other = signed_in(&gateway, "bob").await;
    for path in ["/api/session", "/api/session?filter=id%3D%27session%2Fx%27&last=5"] {
        for method in ["GET", "PUT"] {
            let found = send(&mut client, method, path, None).await.expect(200).json();
            assert_eq!((&found["count"], &found["resources"][0]["id"]), (&json!(1), &json!(id)));
            assert_eq!(found["operations"], json!([{ "rel": "add", "href": "session" }]));
        }
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = Bytes::from_static(b"last=0");
    let counted = client.request(Method::PUT, "/api/session", &form, body).await.expect(200).json();
    assert_eq!((&counted["count"], &counted["resources"]), (&json!(1), &json!([])));
    let mut anybody = gateway.client();
    let mut stale = gateway.client();
    stale.set_cookie("__Host-portcullis", "AAAA");
    for client in [&mut anybody, &mut stale] {
        let none = search(client).await;
        assert_eq!((&none["count"], &none["resources"]), (&json!(0), &json!([])));
    }
}

#[tokio::test]
async fn a_session_has_all_its_attributes() {
    let gateway = builder(&Upstream::start()).start();
    let (mut client, id) = signed_in(&gateway, "alice").await;
    let own = client.get("/auth/session").await.expect(200).json();
    let session = client.get(&format!("/api/{id}")).await.expect(200).json();
    assert_eq!(search(&mut client).await["resources"][0], session);
    for (key, wanted) in [
        ("id", json!(id)),
        ("resource-type", json!("session")),
        ("method", json!("password")),
        ("template", json!({ "href": "session-template/password" })),
        ("identifier", json!("alice")),
        ("user", json!("user/f3a1")),
        ("active-claim", json!("user/f3a1")),
        ("roles", json!(format!("user/f3a1 group/nuvla-user group/nuvla-anon {id}"))),
        ("groups", json!("group/eng group/staff")),
        ("client-ip", json!("127.0.0.1")),
        ("created-by", json!("group/nuvla-anon")),
    ] {
        assert_eq!(session[key], wanted, "{key}");
    }
    for key in ["created", "updated", "expiry"] {
        let text = session[key].as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z'), "{key}: {text}");
    }
    let expiry = session["expiry"].as_str().unwrap();
    assert!(expiry.ends_with(".000Z"));
    assert_eq!(expiry.split('.').next(), own["expires"].as_str().unwrap().split('.').next());
    assert_eq!(session["acl"]["owners"], json!([id]));
    assert_eq!(session["operations"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn sessions_of_others_are_closed() {
    let gateway = builder(&Upstream::start()).start();
    let (mut alice, own) = signed_in(&gateway, "alice").await;
    let (mut bob, _) = signed_in(&gateway, "bob").await;
    let uri = format!("/api/{own}");
    for (method, tail) in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/get-groups"),
        ("POST", "/get-peers"),
        ("POST", "/switch-group"),
    ] {
        let body = (tail == "/switch-group").then(|| json!({ "claim": "group/staff" }));
        let foreign = send(&mut bob, method, &format!("{uri}{tail}"), body.as_ref()).await;
        assert_eq!(failure(&foreign, 403), format!("invalid credentials for '{own}'"));
        let nobody = "session/7d0a3f5e-5f5c-4bb6-8a0e-0d3d2b1c0a99";
        let missing = send(&mut bob, method, &format!("/api/{nobody}{tail}"), body.as_ref()).await;
        assert_eq!(failure(&missing, 404), format!("{nobody} not found"));
    }
    assert_eq!(search(&mut alice).await["count"], 1);
}

#[tokio::test]
async fn a_deleted_session_is_over_everywhere() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let (mut client, id) = signed_in(&gateway, "alice").await;
    let mut tab = client.tab();
    tab.get("/x").await.expect(200);
    let uri = format!("/api/{id}");
    let answer = send(&mut client, "DELETE", &uri, None).await.expect(200);
    let wanted = json!({ "status": 200, "message": format!("{id} deleted"), "resource-id": id });
    assert_eq!(answer.json(), wanted);
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(client.token().is_none());
    assert_eq!(search(&mut tab).await["count"], 0);
    tab.get("/x").await.expect(401);
    tab.get("/auth/session").await.expect(401);
    assert_eq!(failure(&tab.get(&uri).await, 404), format!("{id} not found"));
}

/// Acts under a claim; the whole session as it is answered.
async fn switch(client: &mut Client, id: &str, body: Value) -> Value {
    let uri = format!("/api/{id}/switch-group");
    send(client, "POST", &uri, Some(&body)).await.expect(200).json()
}

#[tokio::test]
async fn a_switch_answers_the_session_and_a_new_cookie() {
    let gateway = builder(&Upstream::start()).start();
    let (mut client, id) = signed_in(&gateway, "alice").await;
    let expiry = search(&mut client).await["resources"][0]["expiry"].clone();
    let tail = format!("group/nuvla-user group/nuvla-anon {id}");
    for (body, active, roles) in [
        (json!({ "claim": "group/staff" }), "group/staff", "group/staff"),
        (json!({ "claim": "group/eng" }), "group/eng", "group/eng"),
        (json!({ "claim": "group/eng-core" }), "group/eng-core", "group/eng-core"),
        (
            json!({ "claim": "group/eng", "extended": true }),
            "group/eng",
            "group/eng group/eng-core",
        ),
        (json!({ "claim": "user/f3a1" }), "user/f3a1", "user/f3a1"),
    ] {
        let before = client.token().unwrap().to_owned();
        let session = switch(&mut client, &id, body).await;
        assert_ne!(client.token().unwrap(), before, "a new secret");
        assert_eq!((&session["id"], &session["active-claim"]), (&json!(id), &json!(active)));
        assert_eq!(session["roles"], format!("{roles} {tail}"));
        assert_eq!((&session["user"], &session["expiry"]), (&json!("user/f3a1"), &expiry));
        assert_eq!(search(&mut client).await["resources"][0], session);
    }
    let uri = format!("/api/{id}/switch-group");
    for claim in ["group/board", "group/none", "user/u-bob", "group/nuvla-admin", "eng"] {
        let answer = send(&mut client, "POST", &uri, Some(&json!({ "claim": claim }))).await;
        let wanted = format!("Switch group cannot be done to requested group: {claim}!");
        assert_eq!(failure(&answer, 403), wanted);
    }
    failure(&send(&mut client, "POST", &uri, Some(&json!({}))).await, 400);
    failure(&send(&mut client, "POST", &uri, None).await, 400);
}

#[tokio::test]
async fn a_switch_renews_only_when_it_is_told_to() {
    let gateway = builder(&Upstream::start()).set("session", "lifetime", "\"1h\"").start();
    let (mut client, id) = signed_in(&gateway, "alice").await;
    let before = search(&mut client).await["resources"][0]["expiry"].clone();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let after = switch(&mut client, &id, json!({ "claim": "group/eng" })).await["expiry"].clone();
    assert_eq!(before, after);

    let config = gateway.config().replace("[api.nuvla]", "[api.nuvla]\nrenew_on_switch = true");
    gateway.write_config(&config);
    gateway.reload();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let now = switch(&mut client, &id, json!({ "claim": "user/f3a1" })).await["expiry"].clone();
        if now != before {
            return;
        }
        assert!(std::time::Instant::now() < end, "never renewed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn groups_and_peers_are_shown() {
    let gateway = builder(&Upstream::start()).start();
    let (mut client, id) = signed_in(&gateway, "alice").await;
    let tree = json!([
        { "id": "group/eng", "name": "eng", "children": [{ "id": "group/eng-core", "name": "eng-core" }] },
        { "id": "group/staff", "name": "staff", "description": "All of us" },
    ]);
    let peers = json!({ "user/f3a1": "alice@example.org", "user/u-bob": "bob@example.org" });
    for (action, wanted) in [("get-groups", tree), ("get-peers", peers)] {
        let uri = format!("/api/{id}/{action}");
        for (method, body) in [("POST", None), ("POST", Some(Value::Null)), ("GET", None)] {
            let answer = send(&mut client, method, &uri, body.as_ref()).await;
            assert_eq!(answer.expect(200).json(), wanted, "{action}");
        }
    }
}

#[tokio::test]
async fn one_session_in_every_api() {
    let gateway = builder(&Upstream::start()).start();
    // Signed in by the pages' API, seen and ended by Nuvla's.
    let mut client = gateway.signed_in("alice").await;
    let own = client.get("/auth/session").await.expect(200).json();
    let found = search(&mut client).await;
    let id = found["resources"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(id, format!("session/{}", own["id"].as_str().unwrap()));
    switch(&mut client, &id, json!({ "claim": "group/eng" })).await;
    let own = client.get("/auth/session").await.expect(200).json();
    assert_eq!(own["active_claim"], "group/eng");
    let tab = client.tab();
    send(&mut client, "DELETE", &format!("/api/{id}"), None).await.expect(200);
    tab.tab().get("/auth/session").await.expect(401);
}

#[tokio::test]
async fn a_lost_group_is_lost_at_once() {
    let gateway = builder(&Upstream::start()).start();
    let (mut client, id) = signed_in(&gateway, "alice").await;
    switch(&mut client, &id, json!({ "claim": "group/eng" })).await;
    let users = gateway.users().replace("groups = [\"staff\", \"eng\"]", "groups = [\"staff\"]");
    gateway.write_users(&users);
    let mut fallen = false;
    for _ in 0..100 {
        fallen = search(&mut client).await["resources"][0]["active-claim"] == "user/f3a1";
        if fallen {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(fallen, "the claim goes on");
}
