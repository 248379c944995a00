//! `session.get`, `session.end`, and what becomes of a KS.

use super::*;

#[tokio::test]
async fn a_session_tells_about_itself() {
    let site = Site::new();
    let now = site.clock.now().seconds();
    let ks = site.start(json!({"type": 2, "privileges": "list:*", "expiry": 60})).await;
    let info = site.call("session.get", json!({"ks": ks})).await;
    assert_eq!(
        info,
        json!({
            "objectType": "KalturaSessionInfo", "sessionType": 2, "partnerId": 102, "userId": "b0b",
            "expiry": now + 60, "privileges": "list:*",
        })
    );
    let itself = site.call("session.get", json!({"ks": ks, "session": ks})).await;
    assert_eq!(itself, info);
    // The partner itself.
    let ks = site.start(json!({"type": 2, "userId": ""})).await;
    assert_eq!(site.call("session.get", json!({"ks": ks})).await["userId"], "");
}

#[tokio::test]
async fn administrators_see_other_sessions_of_their_partner() {
    let site = Site::new();
    let admin = site.start(json!({"type": 2})).await;
    let user = site.start(json!({"userId": "somebody"})).await;
    let shown = site.call("session.get", json!({"ks": admin, "session": user})).await;
    assert_eq!((&shown["userId"], &shown["sessionType"]), (&json!("somebody"), &json!(0)));
    let answer = site.call("session.get", json!({"ks": user, "session": admin})).await;
    error(&answer, "SERVICE_FORBIDDEN", "The access to service [session->get] is forbidden");
    let start = json!({"partnerId": 103, "secret": "103-secret", "userId": "bob"});
    let foreign = text(&site.call("session.start", start).await);
    let answer = site.call("session.get", json!({"ks": admin, "session": foreign})).await;
    let message = "Partner [102] cannot access partner [103]";
    let args = error(&answer, "PARTNER_ACCESS_FORBIDDEN", message);
    assert_eq!(args, json!({"ACCESSING_PID": "102", "ACCESSED_PID": "103"}));
    let answer = site.call("session.get", json!({"ks": admin, "session": "rubbish"})).await;
    invalid_ks(&answer, "INVALID_STR");
}

#[tokio::test]
async fn an_ended_session_is_over_for_good() {
    let site = Site::new();
    let ks = site.start(json!({})).await;
    assert_eq!(site.call("user.get", json!({"ks": ks})).await["id"], "b0b");
    assert_eq!(site.call("session.end", json!({"ks": ks})).await, json!(null));
    for name in ["session.end", "session.get", "user.get"] {
        let answer = site.call(name, json!({"ks": ks})).await;
        invalid_ks(&answer, "LOGOUT");
        assert_eq!(answer["message"], "Invalid KS \"LOGOUT\", Error \"-6,LOGOUT\"");
        assert!(!answer.to_string().contains(ks.split_at(20).0), "the token is repeated");
    }
    assert_eq!(site.call("session.end", json!({})).await, json!(null));
}

#[tokio::test]
async fn sessions_of_a_group_end_together() {
    let site = Site::new();
    let one = site.start(json!({"privileges": "sessionid:g1"})).await;
    let two = site.start(json!({"privileges": "sessionid:g1", "userId": "somebody"})).await;
    let other = site.start(json!({"privileges": "sessionid:g2"})).await;
    assert_eq!(site.call("session.end", json!({"ks": one})).await, json!(null));
    invalid_ks(&site.call("session.get", json!({"ks": two})).await, "LOGOUT");
    assert_eq!(site.call("session.get", json!({"ks": other})).await["partnerId"], 102);
}

#[tokio::test]
async fn limits_are_kept() {
    let site = Site::new();
    let ks = site.start(json!({"privileges": "actionslimit:2"})).await;
    for _ in 0..2 {
        assert_eq!(site.call("session.get", json!({"ks": ks})).await["partnerId"], 102);
    }
    invalid_ks(&site.call("session.get", json!({"ks": ks})).await, "EXCEEDED_ACTIONS_LIMIT");

    let ks = site.start(json!({"privileges": "iprestrict:192.0.2.7"})).await;
    let request = call("session.get", json!({"ks": ks}));
    assert_eq!(site.json(request.clone()).await["partnerId"], 102);
    let away = Request { ip: "192.0.2.8", ..request };
    invalid_ks(&site.json(away).await, "EXCEEDED_RESTRICTED_IP");

    let privileges = "urirestrict:/api_v3/service/session/*";
    let ks = site.start(json!({"privileges": privileges})).await;
    assert_eq!(site.call("session.get", json!({"ks": ks})).await["partnerId"], 102);
    invalid_ks(&site.call("user.get", json!({"ks": ks})).await, "EXCEEDED_RESTRICTED_URI");
}

#[tokio::test]
async fn an_expired_session_says_so() {
    let site = Site::new();
    let ks = site.start(json!({"expiry": 60})).await;
    site.clock.advance(Duration::from_secs(61));
    let answer = site.call("user.get", json!({"ks": ks})).await;
    invalid_ks(&answer, "EXPIRED");
    assert_eq!(answer["args"]["ERR_CODE"], "-5");
}

#[tokio::test]
async fn sessions_made_offline_are_taken_and_can_be_ended() {
    let site = Site::new();
    let fields = Fields { user: "somebody".to_owned(), ..unsealed(&site) };
    let ks = offline(&fields, SECOND);
    assert_eq!(site.call("user.get", json!({"ks": ks})).await["id"], "somebody");
    assert_eq!(site.call("session.end", json!({"ks": ks})).await, json!(null));
    invalid_ks(&site.call("user.get", json!({"ks": ks})).await, "LOGOUT");
    for forged in [offline(&fields, USER), offline(&fields, "other")] {
        invalid_ks(&site.call("user.get", json!({"ks": forged})).await, "INVALID_STR");
    }
    let past = Fields { expires: site.clock.now().seconds() - 1, ..fields };
    invalid_ks(&site.call("user.get", json!({"ks": offline(&past, ADMIN)})).await, "EXPIRED");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_end_of_a_session() {
    let site = Site::new();
    let fields = unsealed(&site);
    site.store.fail(true);
    for (name, params) in [
        ("user.get", json!({"ks": offline(&fields, ADMIN)})),
        ("session.start", json!({"partnerId": 102, "secret": ADMIN})),
        ("user.loginByLoginId", json!({"loginId": "alice", "password": "alice"})),
    ] {
        let reply = site.ask(call(name, params)).await;
        let answer = body(&reply);
        assert_eq!(answer["code"], "INTERNAL_SERVERL_ERROR", "{name} {answer}");
        assert!(answer["message"].as_str().unwrap().contains("store does not answer"));
        assert_eq!(value(&reply, "retry-after").as_deref(), Some("2"));
    }
}
