//! The gateway's own actions, as they are on the wire.

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::{OTHER, USER, answered, builder, call, invalid_ks, start};
use crate::support::Upstream;
use crate::support::gateway::password;

#[tokio::test]
async fn sessions_are_started_shown_and_ended() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut client = gateway.client();
    let ks = start(&mut client, "b0b", 2, "list:*").await;
    assert!(ks.starts_with("djJ8MTAyf"));
    let info = call(&mut client, "session.get", json!({"ks": ks})).await;
    assert_eq!((&info["userId"], &info["sessionType"]), (&json!("b0b"), &json!(2)));
    assert_eq!((&info["partnerId"], &info["privileges"]), (&json!(102), &json!("list:*")));
    let user = call(&mut client, "user.get", json!({"ks": ks, "userId": "alice.k"})).await;
    assert_eq!((&user["id"], &user["isAdmin"]), (&json!("alice.k"), &json!(true)));
    assert_eq!(call(&mut client, "session.end", json!({"ks": ks})).await, json!(null));
    invalid_ks(&call(&mut client, "session.end", json!({"ks": ks})).await, "LOGOUT");
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn people_log_in_in_two_steps() {
    let gateway = builder(&Upstream::start()).start();
    let mut client = gateway.client();
    let login = json!({"loginId": "bob", "password": password("bob")});
    let first = call(&mut client, "user.loginByLoginId", login.clone()).await;
    let list = call(&mut client, "partner.listPartnersForUser", json!({"ks": first})).await;
    assert_eq!((&list["totalCount"], &list["objects"][0]["id"]), (&json!(1), &json!(103)));
    let mut second = login;
    second["partnerId"] = list["objects"][0]["id"].clone();
    let ks = call(&mut client, "user.loginByLoginId", second).await;
    let user = call(&mut client, "user.get", json!({"ks": ks})).await;
    assert_eq!((&user["id"], &user["partnerId"]), (&json!("bob"), &json!(103)));
    let by_id = json!({"partnerId": 102, "userId": "b0b", "password": password("bob")});
    assert!(call(&mut client, "user.login", by_id).await.is_string());
    for (name, params, code) in [
        ("user.loginByLoginId", json!({"loginId": "bob", "password": "x"}), "USER_WRONG_PASSWORD"),
        ("user.loginByLoginId", json!({"loginId": "none", "password": "x"}), "USER_WRONG_PASSWORD"),
        ("session.start", json!({"partnerId": 102, "secret": OTHER}), "START_SESSION_ERROR"),
        (
            "session.start",
            json!({"partnerId": 102, "secret": USER, "type": 2}),
            "START_SESSION_ERROR",
        ),
        ("session.start", json!({"partnerId": 102}), "MISSING_MANDATORY_PARAMETER"),
        ("session.startWidgetSession", json!({"widgetId": "_103"}), "INVALID_WIDGET_ID"),
        ("user.get", json!({}), "MISSING_KS"),
        ("user.get", json!({"partnerId": 102}), "SERVICE_FORBIDDEN"),
    ] {
        assert_eq!(call(&mut client, name, params).await["code"], code, "{name}");
    }
}

#[tokio::test]
async fn recipes_for_curl_work() {
    let gateway = builder(&Upstream::start()).start();
    let mut client = gateway.client();
    let base = "/api_v3/service/session/action/start";
    let query = format!("partnerId=102&secret={USER}&userId=b0b&type=0&expiry=60");
    let xml = client.get(&format!("{base}?{query}&format=2")).await.expect(200);
    assert_eq!(xml.header("content-type").as_deref(), Some("text/xml"));
    let text = xml.text();
    let begin = "<?xml version=\"1.0\" encoding=\"utf-8\"?><xml><result>djJ8";
    assert!(text.starts_with(begin) && text.ends_with("</result></xml>"), "{text}");
    let ks = text.split("<result>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let path = format!("/api_v3/service/user/action/get/ks/{ks}/format/1");
    assert_eq!(answered(&client.get(&path).await)["id"], "b0b");
    let form = [("service", "user"), ("action", "get"), ("ks", &*ks), ("format", "1")];
    assert_eq!(answered(&client.post_form("/api_v3/index.php", &form).await)["id"], "b0b");
    let jsonp = format!("/api_v3/?service=user&action=get&format=9&callback=a.b&ks={ks}");
    let jsonp = client.get(&jsonp).await.expect(200);
    assert!(jsonp.text().starts_with("a.b({"), "{}", jsonp.text());
    let before = client.request(Method::OPTIONS, base, &[], Bytes::new()).await.expect(200);
    assert_eq!(before.header("access-control-max-age").as_deref(), Some("86400"));
}

#[tokio::test]
async fn several_actions_go_in_one_request() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut client = gateway.client();
    let start = json!({"service": "session", "action": "start", "secret": USER, "userId": "b0b"});
    let who = json!({"service": "user", "action": "get", "ks": "{1:result}"});
    let all = json!({"format": 1, "partnerId": 102, "0": start, "1": who});
    let answers = answered(&client.post_json("/api_v3/service/multirequest", &all).await);
    assert_eq!(answers[1]["id"], "b0b");
    let list = json!({"service": "media", "action": "list"});
    let mixed = json!({"format": 1, "1": start, "2": list});
    let refused = answered(&client.post_json("/api_v3/service/multirequest", &mixed).await);
    assert_eq!(refused["code"], "MULTIREQUEST_MIXED");
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn limits_hold_from_one_request_to_the_next() {
    let gateway = builder(&Upstream::start()).start();
    let mut client = gateway.client();
    let ks = start(&mut client, "b0b", 0, "actionslimit:1").await;
    assert_eq!(call(&mut client, "user.get", json!({"ks": ks})).await["id"], "b0b");
    let answer = call(&mut client, "user.get", json!({"ks": ks})).await;
    invalid_ks(&answer, "EXCEEDED_ACTIONS_LIMIT");
    let ks = start(&mut client, "b0b", 0, "iprestrict:192.0.2.1").await;
    let answer = call(&mut client, "user.get", json!({"ks": ks})).await;
    invalid_ks(&answer, "EXCEEDED_RESTRICTED_IP");
    let ks = start(&mut client, "b0b", 0, "urirestrict:/api_v3/service/user/action/get").await;
    assert_eq!(call(&mut client, "user.get", json!({"ks": ks})).await["id"], "b0b");
    let answer = call(&mut client, "session.get", json!({"ks": ks})).await;
    invalid_ks(&answer, "EXCEEDED_RESTRICTED_URI");
}
