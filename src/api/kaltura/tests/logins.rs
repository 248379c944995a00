//! Actions that open sessions.

use super::*;

#[tokio::test]
async fn a_secret_starts_sessions_for_users_and_administrators() {
    let site = Site::new();
    let now = site.clock.now().seconds();
    for (secret, kind, good) in [
        (ADMIN, 0, true),
        (ADMIN, 2, true),
        (SECOND, 2, true),
        (USER, 0, true),
        (USER, 2, false),
        ("wrong", 0, false),
        (ADMIN, 1, false),
        (ADMIN, 7, false),
    ] {
        let params = json!({"partnerId": 102, "secret": secret, "userId": "b0b", "type": kind,
            "expiry": 60, "privileges": "list:*,setrole:PLAYBACK_BASE_ROLE"});
        let answer = site.call("session.start", params).await;
        if !good {
            let message = "Error while starting session for partner [102]";
            let args = error(&answer, "START_SESSION_ERROR", message);
            assert_eq!(args, json!({"PID": "102"}), "{secret} {kind}");
            continue;
        }
        let fields = opened(&text(&answer));
        assert_eq!((fields.kind as u8, &*fields.user), (kind, "b0b"));
        assert_eq!(fields.expires, now + 60);
        assert_eq!(fields.privileges, "list:*,setrole:PLAYBACK_BASE_ROLE");
    }
}

#[tokio::test]
async fn lives_are_asked_for_in_seconds_and_capped() {
    let site = Site::new();
    let now = site.clock.now().seconds();
    for (expiry, life) in [
        (json!(null), DAY),
        (json!(""), DAY),
        (json!(0), DAY),
        (json!("90"), 90),
        (json!(u64::from(u32::MAX)), 7 * DAY),
        (json!(i64::MAX), 7 * DAY),
    ] {
        let ks = site.start(json!({"expiry": expiry})).await;
        assert_eq!(opened(&ks).expires, now + life, "{expiry}");
    }
    for expiry in [json!(-1), json!("soon"), json!(1.5)] {
        let params = json!({"partnerId": 102, "secret": ADMIN, "expiry": expiry});
        assert_eq!(site.call("session.start", params).await["code"], "START_SESSION_ERROR");
    }
}

#[tokio::test]
async fn what_starts_no_session_is_one_error() {
    let site = Site::new();
    for (params, partner) in [
        (json!({"secret": ADMIN}), ""),
        (json!({"secret": ADMIN, "partnerId": 999}), "999"),
        (json!({"secret": ADMIN, "partnerId": 104}), "104"),
        (json!({"secret": ADMIN, "p": "x<y"}), "x<y"),
        (json!({"secret": ADMIN, "partnerId": 102, "privileges": "setrole:OTHER"}), "102"),
        (json!({"secret": ADMIN, "partnerId": 102, "privileges": "actionslimit:0"}), "102"),
        (json!({"secret": ADMIN, "partnerId": 102, "userId": "carol"}), "102"),
    ] {
        let answer = site.call("session.start", params.clone()).await;
        let message = format!("Error while starting session for partner [{partner}]");
        error(&answer, "START_SESSION_ERROR", &message);
    }
    let answer = site.call("session.start", json!({"partnerId": 102})).await;
    let args = error(&answer, "MISSING_MANDATORY_PARAMETER", "Missing parameter \"secret\"");
    assert_eq!(args, json!({"PARAM_NAME": "secret"}));
}

#[tokio::test]
async fn a_ks_that_rides_along_counts_for_nothing() {
    let site = Site::new();
    for ks in ["rubbish", "djJ8MTAyfBMM"] {
        assert!(!site.start(json!({"ks": ks})).await.is_empty());
        let login = json!({"ks": ks, "loginId": "alice", "password": "alice"});
        text(&site.call("user.loginByLoginId", login).await);
        let widget = json!({"ks": ks, "widgetId": "_102"});
        text(&site.call("session.startWidgetSession", widget).await["ks"]);
    }
}

#[tokio::test]
async fn people_log_in_by_login_name_and_by_the_partners_name() {
    let site = Site::new();
    for (action, params, user, kind) in [
        ("loginByLoginId", json!({"loginId": "alice"}), "alice.k", KsKind::Admin),
        ("loginByLoginId", json!({"loginId": "alice", "partnerId": 102}), "alice.k", KsKind::Admin),
        ("loginByLoginId", json!({"loginId": "bob", "partnerId": 102}), "b0b", KsKind::User),
        ("login", json!({"userId": "b0b", "partnerId": "102"}), "b0b", KsKind::User),
        ("login", json!({"userId": "alice.k", "partnerId": 102}), "alice.k", KsKind::Admin),
    ] {
        let mut params = params;
        params["password"] = json!(if user == "b0b" { "bob" } else { "alice" });
        let answer = site.call(&format!("user.{action}"), params.clone()).await;
        let fields = opened(&text(&answer));
        assert_eq!((&*fields.user, fields.kind), (user, kind), "{params}");
        assert_eq!(fields.privileges, "all:*");
    }
}

#[tokio::test]
async fn no_failure_of_a_login_tells_who_there_is() {
    let site = Site::new();
    let long = "a".repeat(2000);
    for (action, params) in [
        ("loginByLoginId", json!({"loginId": "alice", "password": "wrong"})),
        ("loginByLoginId", json!({"loginId": "nobody", "password": "x"})),
        ("loginByLoginId", json!({"loginId": "carol", "password": "carol"})),
        ("loginByLoginId", json!({"loginId": "dave", "password": "dave"})),
        ("loginByLoginId", json!({"loginId": "alice", "password": "alice", "partnerId": 103})),
        ("loginByLoginId", json!({"loginId": "alice", "password": "alice", "partnerId": 104})),
        ("loginByLoginId", json!({"loginId": long, "password": "alice"})),
        ("login", json!({"userId": "nobody", "password": "x", "partnerId": 102})),
        ("login", json!({"userId": "alice", "password": "alice", "partnerId": 102})),
        ("login", json!({"userId": "b0b", "password": "b0b", "partnerId": 999})),
    ] {
        let answer = site.call(&format!("user.{action}"), params.clone()).await;
        let args = error(&answer, "USER_WRONG_PASSWORD", "Wrong password supplied");
        assert_eq!(args, json!({}), "{params}");
    }
    for (action, params, missing) in [
        ("loginByLoginId", json!({"password": "x"}), "loginId"),
        ("loginByLoginId", json!({"loginId": "alice"}), "password"),
        ("login", json!({"userId": "b0b", "password": "x"}), "partnerId"),
        ("login", json!({"partnerId": 102, "password": "x"}), "userId"),
        ("login", json!({"partnerId": 102, "userId": "b0b", "password": ""}), "password"),
    ] {
        let answer = site.call(&format!("user.{action}"), params).await;
        let message = format!("Missing parameter \"{missing}\"");
        error(&answer, "MISSING_MANDATORY_PARAMETER", &message);
    }
}

#[tokio::test]
async fn too_many_failures_are_a_blocked_action() {
    let site = Site::new();
    let wrong = json!({"loginId": "alice", "password": "wrong"});
    for _ in 0..50 {
        let reply = site.ask(call("user.loginByLoginId", wrong.clone())).await;
        let answer = body(&reply);
        if answer["code"] == "ACTION_BLOCKED" {
            let message = "Action \"loginbyloginid\" in service \"user\" is blocked";
            error(&answer, "ACTION_BLOCKED", message);
            assert!(value(&reply, "retry-after").unwrap().parse::<u64>().unwrap() > 0);
            return;
        }
    }
    panic!("guesses are not held up");
}

#[tokio::test]
async fn widgets_are_anonymous() {
    let site = Site::new();
    let widget = site.call("session.startWidgetSession", json!({"widgetId": "_102"})).await;
    assert_eq!(widget["objectType"], "KalturaStartWidgetSessionResponse");
    assert_eq!((&widget["partnerId"], &widget["userId"]), (&json!(102), &json!("0")));
    let ks = text(&widget["ks"]);
    assert_eq!(opened(&ks).privileges, "view:*,widget:1");
    let info = site.call("session.get", json!({"ks": ks})).await;
    assert_eq!((&info["sessionType"], &info["userId"]), (&json!(1), &json!("0")));
    for name in ["user.get", "partner.listPartnersForUser"] {
        assert_eq!(site.call(name, json!({"ks": ks})).await["code"], "SERVICE_FORBIDDEN");
    }
    for widget in ["102", "_103", "_104", "_999", "_", "x"] {
        let answer = site.call("session.startWidgetSession", json!({"widgetId": widget})).await;
        let message = format!("Unknown widget [{widget}]");
        let args = error(&answer, "INVALID_WIDGET_ID", &message);
        assert_eq!(args, json!({"WIDGET_ID": widget}));
    }
    let answer = site.call("session.startWidgetSession", json!({})).await;
    error(&answer, "MISSING_MANDATORY_PARAMETER", "Missing parameter \"widgetId\"");
}

fn hash(ks: &str) -> String {
    let digest = crate::secret::sha256(format!("{ks}app-secret").as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn app_tokens_start_sessions() {
    let site = Site::new();
    let widget = site.call("session.startWidgetSession", json!({"widgetId": "_102"})).await;
    let ks = text(&widget["ks"]);
    let start = |mut params: Json| {
        params["ks"] = json!(ks);
        site.call("appToken.startSession", params)
    };
    let info = start(json!({"id": "plain", "tokenHash": hash(&ks), "userId": "b0b"})).await;
    assert_eq!(info["objectType"], "KalturaSessionInfo");
    assert_eq!((&info["userId"], &info["partnerId"]), (&json!("b0b"), &json!(102)));
    assert_eq!(info["privileges"], "sessionid:plain,apptoken:plain");
    assert_eq!(opened(&text(&info["ks"])).user, "b0b");
    let user = site.call("user.get", json!({"ks": info["ks"]})).await;
    assert_eq!(user["id"], "b0b");
    // What the token says counts before what is asked for.
    let own = json!({"id": "own", "tokenHash": hash(&ks), "userId": "somebody", "type": 0,
        "expiry": 2 * DAY, "sessionPrivileges": "list:*"});
    let info = start(own).await;
    assert_eq!((&info["userId"], &info["sessionType"]), (&json!("b0b"), &json!(2)));
    assert_eq!(info["privileges"], "view:*,sessionid:own,apptoken:own");
    assert_eq!(info["expiry"], site.clock.now().seconds() + 3600);
    // Without a word about the case of the letters.
    let upper = json!({"id": "plain", "tokenHash": hash(&ks).to_uppercase()});
    assert_eq!(start(upper).await["objectType"], "KalturaSessionInfo");
    for (params, code, message) in [
        (
            json!({"id": "none", "tokenHash": "00"}),
            "APP_TOKEN_ID_NOT_FOUND",
            "Application token id \"none\" not found",
        ),
        (
            json!({"id": "off", "tokenHash": hash(&ks)}),
            "APP_TOKEN_NOT_ACTIVE",
            "Application token id \"off\" not active",
        ),
        (
            json!({"id": "old", "tokenHash": hash(&ks)}),
            "APP_TOKEN_EXPIRED",
            "Application token id \"old\" expired",
        ),
        (
            json!({"id": "plain", "tokenHash": hash("other")}),
            "INVALID_APP_TOKEN_HASH",
            "Invalid application token hash",
        ),
        (
            json!({"id": "md5", "tokenHash": hash(&ks)}),
            "INVALID_APP_TOKEN_HASH",
            "Invalid application token hash",
        ),
        (json!({"tokenHash": "00"}), "MISSING_MANDATORY_PARAMETER", "Missing parameter \"id\""),
        (json!({"id": "plain"}), "MISSING_MANDATORY_PARAMETER", "Missing parameter \"tokenHash\""),
    ] {
        error(&start(params).await, code, message);
    }
    let none = site.call("appToken.startSession", json!({"id": "plain", "tokenHash": "00"})).await;
    error(&none, "MISSING_KS", "Missing KS, session not established");
}
