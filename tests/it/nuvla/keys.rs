//! Logins by API key: of a person and of a group.

use http::Method;
use serde_json::{Value, json};

use super::{builder, failure, send, signed_in};
use crate::support::{Client, Upstream};

fn by_key(key: &str, secret: &str) -> Value {
    json!({ "template": { "href": "session-template/api-key", "key": key, "secret": secret } })
}

/// Makes a key under the active claim; its id with `credential/`, and its secret.
async fn make(client: &mut Client) -> (String, String) {
    let key = client.post_json("/auth/keys", &json!({ "name": "robot" })).await.expect(201).json();
    let text = |name: &str| key[name].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

#[tokio::test]
async fn a_key_opens_sessions_of_its_owner() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let (mut alice, id) = signed_in(&gateway, "alice").await;
    let (key, secret) = make(&mut alice).await;
    let bare = key.strip_prefix("credential/").unwrap();
    for (id, secret) in [(key.as_str(), secret.clone()), (bare, secret.replace('.', " "))] {
        let mut robot = gateway.client();
        let answer = robot.post_json("/api/session", &by_key(id, &secret)).await.expect(201);
        let own = answer.header("location").unwrap();
        let session = robot.get(&format!("/api/{own}")).await.expect(200).json();
        for (name, wanted) in [
            ("method", json!("api-key")),
            ("template", json!({ "href": "session-template/api-key" })),
            ("identifier", json!("user/f3a1")),
            ("user", json!("user/f3a1")),
            ("roles", json!(format!("user/f3a1 group/nuvla-user group/nuvla-anon {own}"))),
        ] {
            assert_eq!(session[name], wanted, "{name}");
        }
        robot.get("/x").await.expect(200);
        let told = upstream.last().header("nuvla-authn-info").unwrap();
        assert!(told.starts_with("user/f3a1 user/f3a1 user/f3a1 "), "{told}");
        assert!(!answer.text().contains(&secret));
    }
    // A key acts under the claim that it was made under.
    let switch = json!({ "claim": "group/eng" });
    send(&mut alice, "POST", &format!("/api/{id}/switch-group"), Some(&switch)).await.expect(200);
    let (key, secret) = make(&mut alice).await;
    let mut robot = gateway.client();
    let answer = robot.post_json("/api/session", &by_key(&key, &secret)).await.expect(201);
    let own = format!("/api/{}", answer.header("location").unwrap());
    let session = robot.get(&own).await.expect(200).json();
    assert_eq!(
        (&session["user"], &session["identifier"]),
        (&json!("group/eng"), &json!("group/eng"))
    );
    robot.get("/x").await.expect(200);
    let told = upstream.last().header("nuvla-authn-info").unwrap();
    assert!(told.starts_with("group/eng group/eng group/eng "), "{told}");
    for action in ["get-groups", "get-peers"] {
        send(&mut robot, "POST", &format!("{own}/{action}"), None).await.expect(200);
    }
    send(&mut robot, "DELETE", &own, None).await.expect(200);
}

#[tokio::test]
async fn wrong_keys_are_403() {
    let gateway = builder(&Upstream::start()).start();
    let (mut alice, _) = signed_in(&gateway, "alice").await;
    let (key, secret) = make(&mut alice).await;
    let (_, other) = make(&mut alice).await;
    let nobody = "credential/7d0a3f5e-5f5c-4bb6-8a0e-0d3d2b1c0a99";
    for (id, secret) in [(key.as_str(), other.as_str()), (nobody, &secret), (&key, "x")] {
        let answer = gateway.client().post_json("/api/session", &by_key(id, secret)).await;
        assert_eq!(failure(&answer, 403), format!("invalid credentials for '{id}'"));
        assert_eq!(answer.json()["resource-id"], id);
    }
    alice.delete(&format!("/auth/keys/{}", &key["credential/".len()..])).await.expect(204);
    let answer = gateway.client().post_json("/api/session", &by_key(&key, &secret)).await;
    failure(&answer, 403);
    let template = gateway.client().get("/api/session-template/api-key").await.expect(200).json();
    assert_eq!((&template["key"], &template["secret"]), (&json!("key"), &json!("secret")));
}

#[tokio::test]
async fn a_key_that_is_shown_itself_has_a_session_that_only_its_revocation_ends() {
    let gateway = builder(&Upstream::start()).start();
    let (mut alice, _) = signed_in(&gateway, "alice").await;
    let (_, secret) = make(&mut alice).await;
    let bearer = format!("Bearer {secret}");
    let bearer = [("authorization", bearer.as_str())];
    let mut robot = gateway.client();
    let found = robot.get_with("/api/session", &bearer).await.expect(200).json();
    let own = &found["resources"][0];
    assert!(own["expiry"].as_str().unwrap().ends_with(".000Z"), "{own}");
    let uri = format!("/api/{}", own["id"].as_str().unwrap());
    let answer = robot.request(Method::DELETE, &uri, &bearer, bytes::Bytes::new()).await;
    failure(&answer, 403);
    robot.get_with(&uri, &bearer).await.expect(200);
}
