//! Kaltura's own client libraries, unmodified: PyPI's speaks XML, npm's JSON.

use serde_json::json;

use super::{ADMIN, APP, USER, builder};
use crate::support::clients::KalturaClient;
use crate::support::gateway::password;
use crate::support::{Gateway, Upstream};

/// Both libraries, as clients of a gateway.
fn both(gateway: &Gateway) -> [KalturaClient; 2] {
    [KalturaClient::python(gateway), KalturaClient::node(gateway)]
}

fn started(client: &mut KalturaClient, secret: &str, user: &str, kind: u8) -> String {
    let args = [json!(secret), json!(user), json!(kind), json!(102), json!(600), json!("list:*")];
    client.text("session", "start", &args)
}

#[tokio::test]
async fn sessions_live_and_end() {
    let gateway = builder(&Upstream::start()).start();
    for mut client in both(&gateway) {
        let ks = started(&mut client, USER, "b0b", 0);
        client.set_ks(&ks);
        let user = client.call("user", "get", &[]).unwrap();
        assert_eq!((&user["objectType"], &user["id"]), (&json!("KalturaUser"), &json!("b0b")));
        let info = client.call("session", "get", &[]).unwrap();
        assert_eq!((&info["userId"], &info["partnerId"]), (&json!("b0b"), &json!(102)));
        assert_eq!(info["privileges"], "list:*");
        let ended = client.call("session", "end", &[]).unwrap_or_default();
        assert!(ended.is_null() || ended == "", "{ended}");
        let error = client.call("user", "get", &[]).unwrap_err();
        assert_eq!(error["code"], "INVALID_KS", "{error}");
        // A dead session does not stand in the way of a new one.
        let admin = started(&mut client, ADMIN, "alice.k", 2);
        client.set_ks(&admin);
        let other = client.call("user", "get", &[json!("b0b")]).unwrap();
        assert_eq!(other["id"], "b0b");
        let error = client.call("user", "get", &[json!("nobody")]).unwrap_err();
        assert_eq!(error["code"], "INVALID_USER_ID", "{error}");
        let wrong = [json!("wrong"), json!("b0b"), json!(0), json!(102)];
        let error = client.call("session", "start", &wrong).unwrap_err();
        assert_eq!(error["code"], "START_SESSION_ERROR", "{error}");
        assert_eq!(error["message"], "Error while starting session for partner [102]");
    }
}

#[tokio::test]
async fn people_log_in_and_choose_a_partner() {
    let gateway = builder(&Upstream::start()).start();
    for mut client in both(&gateway) {
        let first = [json!("bob"), json!(password("bob"))];
        let ks = client.text("user", "loginByLoginId", &first);
        client.set_ks(&ks);
        let list = client.call("partner", "listPartnersForUser", &[]).unwrap();
        let partner = list["objects"][0]["id"].clone();
        assert_eq!((&partner, &list["totalCount"]), (&json!(103), &json!(1)));
        let second = [json!("bob"), json!(password("bob")), partner];
        let ks = client.text("user", "loginByLoginId", &second);
        client.set_ks(&ks);
        let user = client.call("user", "get", &[]).unwrap();
        assert_eq!((&user["id"], &user["partnerId"]), (&json!("bob"), &json!(103)));
        let by_id = [json!(102), json!("b0b"), json!(password("bob"))];
        assert!(client.text("user", "login", &by_id).starts_with("djJ8"));
        let error = client.call("user", "loginByLoginId", &[json!("bob"), json!("x")]);
        assert_eq!(error.unwrap_err()["code"], "USER_WRONG_PASSWORD");
    }
}

#[tokio::test]
async fn several_calls_go_in_one_request() {
    let gateway = builder(&Upstream::start()).start();
    for mut client in both(&gateway) {
        let start = json!(["session", "start", USER, "b0b", 0, 102]);
        let ks = started(&mut client, USER, "b0b", 0);
        client.set_ks(&ks);
        let calls = json!([start, ["user", "get"], ["session", "get", {"ref": "1:result"}],
            ["user", "get", "alice.k"]]);
        let answers = client.multi(&calls).unwrap();
        assert!(answers[0].as_str().is_some_and(|ks| ks.starts_with("djJ8")), "{answers}");
        assert_eq!(answers[1]["id"], "b0b");
        let text = answers[3].to_string();
        assert!(text.contains("CANNOT_RETRIEVE_ANOTHER_USER_USING_NON_ADMIN_SESSION"), "{text}");
    }
}

#[tokio::test]
async fn apps_show_their_tokens() {
    let gateway = builder(&Upstream::start()).start();
    let mut client = KalturaClient::python(&gateway);
    let widget = client.call("session", "startWidgetSession", &[json!("_102")]).unwrap();
    let ks = widget["ks"].as_str().unwrap().to_owned();
    client.set_ks(&ks);
    let hash = client.driver().done("hash", &json!(["sha256", format!("{ks}{APP}")]));
    let info = client.call("appToken", "startSession", &[json!("1_app"), hash, json!("b0b")]);
    let info = info.unwrap();
    client.set_ks(info["ks"].as_str().unwrap());
    assert_eq!(client.call("user", "get", &[]).unwrap()["id"], "b0b");
    let error = client.call("appToken", "startSession", &[json!("1_app"), json!("00")]);
    assert_eq!(error.unwrap_err()["code"], "INVALID_APP_TOKEN_HASH");
    let error = client.call("appToken", "startSession", &[json!("none"), json!("00")]);
    assert_eq!(error.unwrap_err()["code"], "APP_TOKEN_ID_NOT_FOUND");
}

#[tokio::test]
async fn sessions_are_made_offline() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut client = KalturaClient::python(&gateway);
    let ks = client.sealed((102, ADMIN), ("b0b", 0), 600, "list:*");
    client.set_ks(&ks);
    assert_eq!(client.call("user", "get", &[]).unwrap()["id"], "b0b");
    gateway.client().get(&format!("/p/102/ks/{ks}/x")).await.expect(200);
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("u-bob"));
    client.call("session", "end", &[]).unwrap_or_default();
    assert_eq!(client.call("user", "get", &[]).unwrap_err()["code"], "INVALID_KS");
    // Partner 103 takes none.
    let foreign = client.sealed((103, super::OTHER), ("bob", 0), 600, "");
    client.set_ks(&foreign);
    assert_eq!(client.call("user", "get", &[]).unwrap_err()["code"], "INVALID_KS");
    let old = json!([ADMIN, "b0b", 0, 102, 600, "", 1]);
    let old = client.driver().done("seal", &old);
    client.set_ks(old.as_str().unwrap());
    assert_eq!(client.call("user", "get", &[]).unwrap_err()["code"], "INVALID_KS");
}
