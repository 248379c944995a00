//! The API among apps: what it leaves to them, what they are told, and failures on the way.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{answered, builder, call, invalid_ks, start};
use crate::support::client::COOKIE;
use crate::support::h2raw::{DATA, END_HEADERS, END_STREAM, H2Raw, HEADERS, block, get};
use crate::support::{Reply, Upstream};

const LIST: &str = "/api_v3/service/media/action/list";

#[tokio::test]
async fn an_app_is_told_whose_session_a_ks_is() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut client = gateway.client();
    let ks = start(&mut client, "b0b", 0, "list:*,setrole:PLAYBACK_BASE_ROLE").await;
    let body = json!({"ks": ks, "format": 1, "filter": {"idIn": "1"}});
    let form = format!("format=1&ks={}", ks.replace('=', "%3D"));
    let query = format!("{LIST}?ks={ks}");
    let path = format!("/api_v3/service/media/action/get/ks/{ks}/entryId/1");
    let outside = format!("/p/102/playManifest/ks/{ks}/a.m3u8");
    let many = json!({"1": {"service": "media", "action": "list", "ks": ks}});
    let json_kind = "application/json";
    let form_kind = "application/x-www-form-urlencoded";
    for (method, target, kind, body) in [
        (Method::GET, &*query, "", String::new()),
        (Method::GET, &*path, "", String::new()),
        (Method::GET, &*outside, "", String::new()),
        (Method::POST, LIST, json_kind, body.to_string()),
        (Method::POST, LIST, form_kind, form),
        (Method::POST, "/api_v3/service/multirequest", json_kind, many.to_string()),
    ] {
        let headers = [("content-type", kind), ("x-auth-user", "u-alice")];
        let headers = if kind.is_empty() { &headers[1..] } else { &headers[..] };
        let sent = Bytes::from(body.clone());
        client.request(method, target, headers, sent).await.expect(200);
        let got = upstream.last();
        assert_eq!(got.target, target);
        assert_eq!(got.body.data, body.as_bytes(), "the body is another one");
        let header = |name: &str| got.header(name).unwrap_or_default();
        assert_eq!(header("x-auth-user"), "u-bob", "{target}");
        assert_eq!(
            (header("x-auth-tenant"), header("x-auth-actor")),
            ("102".to_owned(), "partner/102".to_owned())
        );
        assert!(header("x-auth-roles").contains("role/PLAYBACK_BASE_ROLE"));
        assert!(header("x-auth-privileges").contains("list:*"));
    }
    call(&mut client, "session.end", json!({"ks": ks})).await;
    upstream.forget();
    let headers = [("content-type", json_kind), ("accept", "application/json")];
    let sent = Bytes::from(body.to_string());
    let answer = client.request(Method::POST, LIST, &headers, sent).await;
    invalid_ks(&answered(&answer), "LOGOUT");
    assert!(upstream.requests().is_empty());
}

/// Regression: the app was told of the cookie's user, and got the token of another one.
#[tokio::test]
async fn a_ks_under_an_encoded_name_or_in_items_outranks_the_cookie() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut alice = gateway.signed_in("alice").await;
    let ks = start(&mut gateway.client(), "b0b", 0, "").await;
    let other = start(&mut gateway.client(), "b0b", 0, "list:*").await;
    let (ks, other) = (ks.replace('=', "%3D"), other.replace('=', "%3D"));
    let items = |second: &str| {
        format!(
            "/api_v3/service/multirequest?1:service=media&1:action=list&1:ks={ks}\
             &2:service=media&2:action=get&2:ks={second}"
        )
    };
    let targets = [
        format!("{LIST}?%6bs={ks}"),
        format!("{LIST}?k%73={ks}"),
        format!("{LIST}/%6Bs/{ks}"),
        items(&ks),
    ];
    for target in &targets {
        alice.get(target).await.expect(200);
        let got = upstream.last();
        assert_eq!(got.header("x-auth-user").as_deref(), Some("u-bob"), "{target}");
    }
    upstream.forget();
    // Whose it is cannot be told.
    let answer = alice.get(&items(&other)).await;
    assert!(answer.text().contains("MISSING_KS"), "{answer:?}");
    // Nor does one that has ended count as none.
    call(&mut gateway.client(), "session.end", json!({"ks": ks.replace("%3D", "=")})).await;
    for target in &targets {
        let answer = alice.get(target).await;
        assert!(answer.text().contains("INVALID_KS"), "{target}: {answer:?}");
    }
    assert!(upstream.requests().is_empty());
}

/// Regression: whoever followed a link with `?ks=` acted as the one who had written it, though signed in.
#[tokio::test]
async fn a_link_does_not_outrank_the_session_of_the_browser_that_follows_it() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut browser = gateway.client();
    browser.sign_in("alice").await;
    let ks = start(&mut gateway.client(), "b0b", 0, "").await;
    let links = [format!("/private/x?ks={ks}"), format!("/p/102/ks/{ks}/x")];
    for link in &links {
        browser.get(link).await.expect(200);
        assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("u-alice"), "{link}");
        gateway.client().get(link).await.expect(200);
        assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("u-bob"), "{link}");
    }
    // Nor does a second cookie help the link: of two none counts, and so nothing that would give way to one.
    let twice = format!("__Host-portcullis={0}; __Host-portcullis=x", browser.token().unwrap());
    for link in &links {
        let refused = gateway.client().get_with(link, &[("cookie", &*twice)]).await;
        assert_eq!(refused.status, 401, "{link}");
    }
    // A request to the API is made on purpose.
    browser.get(&format!("{LIST}?ks={ks}")).await.expect(200);
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("u-bob"));
    // A cookie that is worth nothing does not stand in the way.
    let token = browser.token().unwrap().to_owned();
    call(&mut gateway.client(), "session.end", json!({"ks": token})).await;
    let cookie = [("cookie", &*format!("__Host-portcullis={token}"))];
    assert_eq!(gateway.client().get_with("/private/x", &cookie).await.status, 401);
    for link in &links {
        gateway.client().get_with(link, &cookie).await.expect(200);
        assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("u-bob"), "{link}");
    }
}

/// Regression: a bearer token counted before the `ks` beside it, which the app got all the same: that of somebody else, or
/// one that was over.
#[tokio::test]
async fn two_sessions_in_one_request_are_nobodys() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).block("[api.versal]\nprefix = \"/api2\"").start();
    let mut client = gateway.client();
    let bob = start(&mut client, "b0b", 0, "").await;
    let alice = gateway.signed_in("alice").await.token().unwrap().to_owned();
    let bearer = format!("Bearer {alice}");
    let headers = [("accept", "application/json"), ("authorization", &*bearer)];
    let target = |ks: &str| format!("{LIST}?ks={ks}");
    let sid = [("accept", "application/json"), ("sid", &*alice)];
    for headers in [headers, sid] {
        let answer = client.get_with(&target(&bob), &headers).await;
        assert_eq!(answered(&answer)["code"], "MISSING_KS", "{headers:?}");
    }
    // Apps may read as a session what is none here.
    let odd = format!("%0a{}%0a{}", &bob[..9], &bob[9..]);
    let mut browser = gateway.signed_in("alice").await;
    let answer = browser.get_with(&target(&odd), &headers[..1]).await;
    assert_eq!(answered(&answer)["code"], "MISSING_KS");
    assert!(upstream.requests().is_empty());
    // The same one twice is one.
    client.get_with(&target(&alice), &headers).await.expect(200);
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("u-alice"));
}

/// Regression: over HTTP/2 no field need say that there is a body, and the `ks` in that of a GET was not looked at.
#[tokio::test]
async fn a_body_that_no_field_announces_is_looked_at() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut client = gateway.client();
    let over = start(&mut client, "b0b", 0, "").await;
    call(&mut client, "session.end", json!({"ks": over})).await;
    let alice = gateway.signed_in("alice").await.token().unwrap().to_owned();
    let cookie = format!("{COOKIE}={alice}");
    let mut h2 = H2Raw::connect(&gateway).await;
    let target = format!("{LIST}?format=1");
    let mut head = get(gateway.authority(), &target);
    head.extend([("content-type", "application/json"), ("cookie", &*cookie)]);
    h2.frame(HEADERS, END_HEADERS, 1, &block(&head)).await;
    h2.frame(DATA, END_STREAM, 1, json!({"ks": over}).to_string().as_bytes()).await;
    loop {
        let (kind, _, _, payload) = h2.next().await.expect("closed");
        if kind == DATA && !payload.is_empty() {
            let said = String::from_utf8(payload).unwrap();
            assert!(said.contains("INVALID_KS"), "{said}");
            break;
        }
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn guests_and_partners_are_nobody_of_the_directory() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut client = gateway.client();
    for (user, id) in [("visitor 7", "partner/102/visitor 7"), ("", "partner/102")] {
        let ks = start(&mut client, user, 2, "").await;
        client.get(&format!("{LIST}?ks={ks}")).await.expect(200);
        assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some(id));
    }
    // A widget is anonymous: what needs a session refuses it, what is open does not.
    let widget = call(&mut client, "session.startWidgetSession", json!({"widgetId": "_102"})).await;
    let ks = widget["ks"].as_str().unwrap();
    let refused = client.get(&format!("{LIST}?format=1&ks={ks}")).await;
    assert_eq!(answered(&refused)["code"], "SERVICE_FORBIDDEN");
    client.get(&format!("/public/x?ks={ks}")).await.expect(200);
    assert!(upstream.last().header("x-auth-user").is_none());
}

#[tokio::test]
async fn limits_hold_on_requests_to_apps() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut client = gateway.client();
    let ks = start(&mut client, "b0b", 0, "actionslimit:2").await;
    let target = format!("{LIST}?format=1&ks={ks}");
    for _ in 0..2 {
        client.get(&target).await.expect(200);
    }
    invalid_ks(&answered(&client.get(&target).await), "EXCEEDED_ACTIONS_LIMIT");
    assert_eq!(upstream.requests().len(), 2);
    let ks = start(&mut client, "b0b", 0, &format!("urirestrict:{LIST}*")).await;
    client.get(&format!("{LIST}?ks={ks}")).await.expect(200);
    let other = client.get(&format!("/api_v3/service/media/action/get?format=1&ks={ks}")).await;
    invalid_ks(&answered(&other), "EXCEEDED_RESTRICTED_URI");
}

#[tokio::test]
async fn failures_have_the_words_of_the_api() {
    let upstream = Upstream::start();
    let hanging = Upstream::answering(|_| Reply::hang());
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let slow = format!("http://{}", hanging.addr());
    let gateway = builder(&upstream)
        .upstream("gone", gone)
        .upstream_with("slow", &slow, "first_byte_timeout = \"300ms\"")
        .public("/api_v3/service/gone/", "gone")
        .public("/api_v3/service/slow/", "slow")
        .route("/api_v3/service/admin/", "app", "{ users = [\"nobody\"] }", "")
        .start();
    let mut client = gateway.client();
    let ks = start(&mut client, "b0b", 0, "").await;
    let long = "x".repeat(70_000);
    for (target, code) in [
        ("/api_v3/service/gone/action/x", "INTERNAL_SERVERL_ERROR"),
        ("/api_v3/service/slow/action/x", "INTERNAL_SERVERL_ERROR"),
        ("/api_v3/service/admin/action/x", "SERVICE_FORBIDDEN"),
        ("/api_v3/service/media/action/list", "MISSING_KS"),
        ("/api_v3/service/media%00/action/list", "BAD_TARGET"),
    ] {
        let with = if code == "SERVICE_FORBIDDEN" { format!("?ks={ks}") } else { String::new() };
        let target = format!("{target}{with}");
        let json = client.get_with(&target, &[("accept", "application/json")]).await;
        assert_eq!(answered(&json)["code"], code, "{target}");
        let xml = client.get_with(&target, &[("accept", "text/html")]).await.expect(200);
        assert_eq!(xml.header("content-type").as_deref(), Some("text/xml"));
        assert!(xml.text().contains(&format!("<error><code>{code}</code>")), "{}", xml.text());
    }
    let body = json!({"format": 1, "secret": long, "partnerId": 102});
    let path = "/api_v3/service/session/action/start";
    let answer = client.post_json_with(path, &body, &[("accept", "application/json")]).await;
    assert_eq!(answered(&answer)["code"], "BODY_TOO_LARGE");
}

#[tokio::test]
async fn what_nobody_has_is_named() {
    let upstream = Upstream::start();
    let gateway = crate::support::Gateway::builder()
        .users(&super::users())
        .block("[api.kaltura]")
        .upstream("app", upstream.addr())
        .private("/app/", "app")
        .start();
    let mut client = gateway.client();
    for (target, code) in [
        ("/api_v3/service/media/action/list?format=1", "SERVICE_DOES_NOT_EXISTS"),
        ("/api_v3/service/session/action/impersonate?format=1", "ACTION_DOES_NOT_EXISTS"),
        ("/api_v3/service/session?format=1", "ACTION_NOT_SPECIFIED"),
        ("/api_v3/?format=1", "SERVICE_NOT_SPECIFIED"),
    ] {
        assert_eq!(answered(&client.get(target).await)["code"], code, "{target}");
    }
}

#[tokio::test]
async fn a_session_of_the_browser_is_one_by_ks_too() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut browser = gateway.client();
    browser.sign_in("alice").await;
    let token = browser.token().unwrap().to_owned();
    let mut client = gateway.client();
    let user = call(&mut client, "user.get", json!({"ks": token})).await;
    assert_eq!(user["id"], "alice.k");
    assert_eq!(call(&mut client, "session.end", json!({"ks": token})).await, Value::Null);
    invalid_ks(&call(&mut client, "user.get", json!({"ks": token})).await, "INVALID_STR");
    assert_eq!(browser.get("/auth/session").await.status, 401);
    // No page may use a cookie here.
    browser.sign_in("alice").await;
    let none = answered(&browser.get("/api_v3/service/user/action/get?format=1").await);
    assert_eq!(none["code"], "MISSING_KS");
}
