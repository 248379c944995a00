//! Names in other spellings, and sessions in other places: gateway, app and log see the same.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{ADMIN, answered, builder, call, invalid_ks, start};
use crate::support::gateway::password;
use crate::support::process::eventually;
use crate::support::{Client, Upstream};

const LIST: &str = "/api_v3/service/media/action/list";
const MANY: &str = "/api_v3/service/multirequest";

/// Whom the app was told to have before it, or the error of who refused.
async fn who(
    client: &mut Client,
    upstream: &Upstream,
    target: &str,
    body: Option<&Value>,
) -> String {
    upstream.forget();
    let headers = [("accept", "application/json"), ("content-type", "application/json")];
    let answer = match body {
        None => client.get_with(target, &headers[..1]).await,
        Some(body) => {
            let body = Bytes::from(body.to_string());
            client.request(Method::POST, target, &headers, body).await
        }
    };
    if upstream.requests().is_empty() {
        return answered(&answer)["code"].as_str().unwrap_or_default().to_owned();
    }
    upstream.last().header("x-auth-user").unwrap_or_default()
}

/// Regression: `?%6bs=` was no `ks` for the gateway, which told the app whom the cookie named, and passed on
/// sessions that were over; for the app and for the gateway's own actions it was one.
#[tokio::test]
async fn a_ks_under_a_coded_name_is_a_ks() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut browser = gateway.client();
    browser.sign_in("alice").await;
    let mut stranger = gateway.client();
    let ks = start(&mut stranger, "b0b", 0, "").await;
    let targets: Vec<_> =
        ["?ks=", "?%6bs=", "?k%73=", "?a=%20&%6B%73=", "/ks/", "/%6bs/", "/k%73/"]
            .into_iter()
            .map(|name| format!("{LIST}{name}{ks}"))
            .collect();
    for target in &targets {
        for client in [&mut browser, &mut stranger] {
            assert_eq!(who(client, &upstream, target, None).await, "u-bob", "{target}");
            // A body does not change it.
            let body = json!({"format": 1});
            assert_eq!(who(client, &upstream, target, Some(&body)).await, "u-bob", "{target}");
        }
    }
    let own = format!("/api_v3/service/session/action/get?format=1&%6bs={ks}");
    assert_eq!(answered(&browser.get(&own).await)["userId"], "b0b");
    call(&mut stranger, "session.end", json!({"ks": ks})).await;
    upstream.forget();
    for target in &targets {
        let answer = browser.get_with(target, &[("accept", "application/json")]).await;
        invalid_ks(&answered(&answer), "LOGOUT");
    }
    assert!(upstream.requests().is_empty());
}

/// Regression: of a multirequest to an app the items counted in the body only; in the query they were whose
/// cookie came along, and so were items with different sessions, wherever.
#[tokio::test]
async fn a_multirequest_is_whose_all_its_items_are() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut browser = gateway.client();
    browser.sign_in("alice").await;
    let mut stranger = gateway.client();
    let bob = start(&mut stranger, "b0b", 0, "").await;
    let guest = start(&mut stranger, "guest", 0, "").await;
    for (first, second, whose) in [
        (&*bob, &*bob, "u-bob"),
        (&*bob, &*guest, "MISSING_KS"),
        (&*bob, "", "MISSING_KS"),
        ("", &*bob, "MISSING_KS"),
    ] {
        let calls = "1:service=media&1:action=list&2:service=media&2:action=get";
        let query = format!("{MANY}?{calls}&1:ks={first}&2:ks={second}");
        let coded = format!("{MANY}?{calls}&1%3a%6bs={first}&%32:k%73={second}");
        let json = json!({"1": {"service": "media", "action": "list", "ks": first},
            "2": {"service": "media", "action": "get", "ks": second}});
        let half = json!({"2:ks": second});
        let halves = format!("{MANY}?{calls}&1:ks={first}");
        for client in [&mut browser, &mut stranger] {
            for (target, body) in [
                (&*query, None),
                (&*coded, None),
                (MANY, Some(&json)),
                (&*query, Some(&json!({}))),
                (&*halves, Some(&half)),
            ] {
                let told = who(client, &upstream, target, body).await;
                assert_eq!(told, whose, "{target} {body:?}");
            }
        }
    }
    // Without any it is the cookie's.
    let none = format!("{MANY}?1:service=media&1:action=list");
    assert_eq!(who(&mut browser, &upstream, &none, None).await, "u-alice");
}

/// Regression: items under what PHP takes for a number, or for an array, were no items for the gateway: one with a session
/// that is over went to the app beside one whose session is not.
#[tokio::test]
async fn no_item_of_a_multirequest_is_hidden() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut client = gateway.client();
    let live = start(&mut client, "guest", 0, "").await;
    let over = start(&mut client, "b0b", 2, "").await;
    call(&mut client, "session.end", json!({"ks": over})).await;
    let first = format!("ks={live}&1:service=media&1:action=list");
    for name in [
        "2[ks]",
        "1[ks]",
        "2e0:ks",
        "1e0:ks",
        "-1:ks",
        "%2b2:ks",
        "%202:ks",
        "02:ks",
        "2.0:ks",
        "0x2:ks",
        "1:-",
        "1__null",
        "ks__null",
        "1:ks__null",
        "1",
    ] {
        let form = format!("{name}={over}");
        let target = format!("{MANY}?{first}&{form}");
        assert_eq!(who(&mut client, &upstream, &target, None).await, "MALFORMED_REQUEST", "{form}");
        let body = Bytes::from(format!("{first}&{form}"));
        let headers =
            [("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded")];
        let answer = client.request(Method::POST, MANY, &headers, body).await;
        assert_eq!(answered(&answer)["code"], "MALFORMED_REQUEST", "{form}");
        let target = format!("{MANY}/{name}/{over}?{first}");
        let told = who(&mut client, &upstream, &target, None).await;
        assert!(["MALFORMED_REQUEST", ""].contains(&&*told), "{target}: {told}");
        assert!(upstream.requests().is_empty(), "{target}");
    }
    let item = json!({"service": "media", "action": "list"});
    let hidden = json!({"service": "media", "action": "delete", "ks": over});
    for name in ["2e0", "-1", "+2", " 2", "2 ", "02", "2.0", "2.", "0x2", "2[ks]"] {
        let mut body = json!({"ks": live, "1": item});
        body[name] = hidden.clone();
        let told = who(&mut client, &upstream, MANY, Some(&body)).await;
        assert_eq!(told, "MALFORMED_REQUEST", "{body}");
    }
    // The order of names would decide, and the gateway does not keep it.
    let body =
        json!({"ks": live, "1": hidden, "1:ks": live, "1:service": "media", "1:action": "list"});
    assert_eq!(who(&mut client, &upstream, MANY, Some(&body)).await, "MALFORMED_REQUEST");
    let mixed = format!("{MANY}?{first}&1:ks={live}");
    let body = json!({"1": hidden});
    assert_eq!(who(&mut client, &upstream, &mixed, Some(&body)).await, "MALFORMED_REQUEST");
    // Braces alone make no reference: base64 may be read without them.
    let braced = json!({"ks": live, "1": item,
        "2": {"service": "media", "action": "delete", "ks": format!("{{{over}}}")}});
    assert_eq!(who(&mut client, &upstream, MANY, Some(&braced)).await, "MISSING_KS");
    upstream.forget();
    // What nobody can take for an item is a parameter like others.
    for name in ["3dModel", "e1", "a2:ks", "-", "x[1]", "Infinity", "nan"] {
        let body = json!({"ks": live, "1": item, name: "x"});
        assert_eq!(
            who(&mut client, &upstream, MANY, Some(&body)).await,
            "partner/102/guest",
            "{name}"
        );
    }
}

/// Regression: what is secret was known by names in one spelling only, and below `/service/` only.
#[tokio::test]
async fn no_spelling_of_a_name_gets_a_secret_into_the_log() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let mut client = gateway.client();
    let ks = start(&mut client, "b0b", 2, "").await;
    let word: String = url::form_urlencoded::byte_serialize(password("bob").as_bytes()).collect();
    let login = "partnerId/102/userId/bob/format/1";
    let (user, session) = ("/api_v3/ser%76ice/user/%61ction", "/API_V3/ser%76ice/session/%61ction");
    for target in [
        format!("{user}/login/{login}/password/{word}"),
        format!("{user}/login/{login}/p%61ssword/{word}"),
        format!("{user}/login/{login}/PASSWORD/{word}"),
        format!("{user}/login/{login}/password%20/{word}"),
        format!("{user}/login/{login}/%20password/{word}"),
        format!("{user}/login/{login}/x/action/password/{word}"),
        format!("{user}/login/{login}%2Fpassword%2F{word}"),
        format!("/api_v3/INDEX.PHP/{login}/password/{word}?service=user&action=login"),
        format!("/api_v3/{login}/password/{word}?service=user&action=login"),
        format!("/%61pi_v3/{login}/password/{word}?service=user&action=login"),
        format!("//api_v3/{login}/p%61ssword/{word}"),
        format!("/api_v3/service/multirequest/1%3Aaction/login/1%3Apassword/{word}"),
        format!("{session}/start/secret/{ADMIN}/partnerId/102/format/1"),
        format!("{session}/start/SECRET/{ADMIN}/partnerId/102/format/1"),
        format!("{session}/get/session/{ks}/format/1"),
        format!("{session}/get/%6bs/{ks}/format/1"),
        format!("/p/102/k%53/{ks}/x"),
        format!("{user}/login?format=1&partnerId=102&userId=bob&p%61ssword={word}"),
        format!("{user}/login?format=1&partnerId=102&userId=bob&PASSWORD={word}"),
        format!("{user}/login?format=1&partnerId=102&userId=bob&%20password={word}"),
        format!("{session}/start?partnerId=102&s%65cret={ADMIN}"),
        format!("{LIST}?%6bs={ks}"),
    ] {
        client.get(&target).await;
    }
    let mark = "/public/the-last-request";
    client.get(mark).await.expect(200);
    eventually("the last line of the log", || gateway.output().contains(mark).then_some(())).await;
    let written = gateway.output();
    let decoded = percent_encoding::percent_decode_str(&written).decode_utf8_lossy();
    for secret in [&*word, &password("bob"), ADMIN, &ks] {
        for text in [&*written, &decoded] {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} was written: {line:?}");
        }
    }
}
