//! The library that people use, PyPI's `nuvla-api`, unmodified.

use serde_json::{Value, json};

use super::{builder, signed_in};
use crate::support::clients::NuvlaClient;
use crate::support::gateway::password;
use crate::support::{Reply, Upstream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_from_login_to_logout() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    // What services inside say of themselves counts for nothing from outside.
    let options =
        json!({ "authn_header": "group/nuvla-admin group/nuvla-admin", "compress": true });
    let mut client = NuvlaClient::with(&gateway, &options);
    assert_eq!(client.current_session(), None);
    let refused = client.login_password("alice", "wrong");
    assert_eq!(refused["status"], 403);
    assert_eq!(refused["body"]["message"], "invalid credentials for 'alice'");
    assert_eq!(client.driver().done("is_authenticated", &json!([])), false);

    let opened = client.login_password("alice", &password("alice"));
    assert_eq!(opened["status"], 201, "{opened}");
    let id = opened["headers"]["location"].as_str().unwrap().to_owned();
    assert_eq!(opened["body"]["resource-id"], id);
    assert_eq!(client.driver().done("is_authenticated", &json!([])), true);
    assert_eq!(client.current_session().as_deref(), Some(id.as_str()));
    let session = client.get(&id).unwrap();
    assert_eq!((&session["user"], &session["method"]), (&json!("user/f3a1"), &json!("password")));
    let found = client.search("session", &json!({ "filter": "id!=null", "last": 10 })).unwrap();
    assert_eq!((&found["count"], &found["ids"]), (&json!(1), &json!([id])));
    let templates = client.search("session-template", &json!({ "orderby": "order" })).unwrap();
    assert_eq!(templates["ids"][0], "session-template/password");

    let before = client.cookies();
    let data = json!({ "claim": "group/eng", "extended": true });
    let switched = client.operation(&id, "switch-group", &data).unwrap();
    assert_eq!(switched["active-claim"], "group/eng");
    assert_ne!(client.cookies(), before);
    let groups = client.operation(&id, "get-peers", &Value::Null).unwrap();
    assert_eq!(groups["user/u-bob"], "bob@example.org");
    let refused = client.operation(&id, "switch-group", &json!({ "claim": "group/board" }));
    let refused = refused.unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("group/board!"), "{refused}");
    // The library adds its header to headers that are there.
    let user = json!(["GET", "/api/user", {}]);
    assert_eq!(client.driver().done("request", &user)["status"], 200);
    let told = upstream.last().header("nuvla-authn-info").unwrap();
    assert_eq!(
        told,
        format!(
            "user/f3a1 group/eng group/eng group/eng-core group/nuvla-user group/nuvla-anon {id}"
        )
    );

    client.logout();
    assert_eq!(client.current_session(), None);
    assert_eq!(client.cookies(), json!({}));
    assert_eq!(client.driver().done("request", &user)["status"], 401);
    let entry = client.driver().done("entry_point", &json!([]));
    assert_eq!(entry["base-uri"], format!("{}/api/", gateway.origin()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_logs_in_by_its_key_and_again_by_itself() {
    let upstream = Upstream::answering(|_| {
        Reply::status("200 OK", "Content-Type: application/json\r\n", "{\"id\":\"user/x\"}")
    });
    let gateway = builder(&upstream).start();
    let (mut alice, _) = signed_in(&gateway, "alice").await;
    let key = alice.post_json("/auth/keys", &json!({ "name": "robot" })).await.expect(201).json();
    let (id, secret) = (key["id"].as_str().unwrap(), key["secret"].as_str().unwrap());
    let mut client = NuvlaClient::with(&gateway, &json!({ "reauthenticate": true }));
    assert_eq!(client.login_apikey(id, "wrong")["status"], 403);
    assert_eq!(client.login_apikey(id, secret)["status"], 201);
    let own = client.current_session().unwrap();
    assert_eq!(client.get(&own).unwrap()["identifier"], "user/f3a1");
    assert_eq!(client.get("user/x").unwrap()["id"], "user/x");
    // Ended from elsewhere: at the next refusal it logs in anew and asks again.
    gateway.cli(&["session", "revoke", own.strip_prefix("session/").unwrap()]).success();
    assert_eq!(client.get("user/x").unwrap()["id"], "user/x");
    let next = client.current_session().unwrap();
    assert_ne!(next, own);
    assert!(upstream.last().header("nuvla-authn-info").unwrap().ends_with(&next));
}
