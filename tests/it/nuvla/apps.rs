//! The API among apps: what it leaves to them, what they are told, and failures on the way.

use serde_json::json;

use super::{builder, failure, send, signed_in};
use crate::support::client::NAVIGATION;
use crate::support::{Gateway, Reply, Upstream};

#[tokio::test]
async fn other_places_are_the_apps() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let (mut client, _) = signed_in(&gateway, "alice").await;
    for path in ["/api/user", "/api/credential/x", "/api/sessions", "/api/", "/api"] {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            let answer = send(&mut client, method, path, None).await.expect(200);
            assert_eq!(answer.text(), "hello");
            assert_eq!(
                (upstream.last().method, upstream.last().target),
                (method.into(), path.into())
            );
        }
    }
    // Without a session a program is told so, and nobody is sent to a page.
    for headers in [&[][..], NAVIGATION] {
        let refused = gateway.client().get_with("/api/user", headers).await;
        failure(&refused, 401);
        assert!(refused.header("www-authenticate").is_some());
    }
    assert_eq!(gateway.client().navigate("/elsewhere").await.status, 303);
}

#[tokio::test]
async fn an_entry_point_is_there_when_no_app_has_one() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let entry = gateway.client().get("/api/cloud-entry-point").await.expect(200).json();
    assert_eq!(entry["base-uri"], format!("{}/api/", gateway.origin()));
    assert_eq!(entry["collections"]["session"], json!({ "href": "session" }));
    assert!(upstream.requests().is_empty());

    for route in ["/api/", "/api/cloud-entry-point"] {
        let gateway = builder(&upstream).public(route, "app").start();
        let theirs = gateway.client().get("/api/cloud-entry-point").await.expect(200);
        assert_eq!(theirs.text(), "hello", "{route}");
    }
    let gateway = builder(&upstream).public("/api/", "app").start();
    // Sessions stay the gateway's.
    assert_eq!(gateway.client().get("/api/session").await.expect(200).json()["count"], 0);
}

#[tokio::test]
async fn an_app_that_asks_is_told_user_and_claims() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream).start();
    let (mut client, id) = signed_in(&gateway, "alice").await;
    let forged = [
        ("nuvla-authn-info", "group/nuvla-admin group/nuvla-admin group/nuvla-admin"),
        ("Nuvla_Authn_Info", "group/nuvla-admin"),
        ("connection", "nuvla-authn-info"),
    ];
    let tail = format!("group/nuvla-user group/nuvla-anon {id}");
    client.get_with("/x", &forged).await.expect(200);
    let told = upstream.last().header("nuvla-authn-info").unwrap();
    assert_eq!(told, format!("user/f3a1 user/f3a1 user/f3a1 {tail}"));
    assert_eq!(upstream.last().aliases("nuvla-authn-info").len(), 1);
    let switch = json!({ "claim": "group/eng", "extended": true });
    let uri = format!("/api/{id}/switch-group");
    send(&mut client, "POST", &uri, Some(&switch)).await.expect(200);
    for _ in 0..2 {
        client.get_with("/x", &forged).await.expect(200);
        let told = upstream.last().header("nuvla-authn-info").unwrap();
        assert_eq!(told, format!("user/f3a1 group/eng group/eng group/eng-core {tail}"));
    }
    assert_eq!(upstream.last().header("x-auth-active-claim").as_deref(), Some("group/eng"));
    // Nobody else is told, and no client tells it.
    client.get_with("/plain/x", &forged).await.expect(200);
    assert!(upstream.last().aliases("nuvla-authn-info").is_empty());
    gateway.client().get_with("/public/x", &forged).await.expect(200);
    assert!(upstream.last().aliases("nuvla-authn-info").is_empty());
}

#[tokio::test]
async fn failures_of_apps_are_json() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let slow = Upstream::answering(|_| Reply::hang());
    let upstream = Upstream::start();
    let gateway = builder(&upstream)
        .upstream("gone", gone)
        .upstream_with("slow", &format!("http://{}", slow.addr()), "first_byte_timeout = \"300ms\"")
        .private("/api/gone/", "gone")
        .private("/api/slow/", "slow")
        .route("/api/board/", "app", "{ groups = [\"board\"] }", "")
        .route("/api/get/", "app", "\"authenticated\"", "methods = [\"GET\"]")
        .start();
    let (mut client, _) = signed_in(&gateway, "alice").await;
    failure(&client.get_with("/api/gone/x", NAVIGATION).await, 502);
    failure(&client.get_with("/api/slow/x", NAVIGATION).await, 504);
    failure(&client.get_with("/api/board/x", NAVIGATION).await, 403);
    let answer = send(&mut client, "POST", "/api/get/x", None).await;
    assert_eq!(failure(&answer, 405), "invalid method (post) for /api/get/x");
}

#[tokio::test]
async fn a_place_that_no_route_has_is_unknown() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .users(&super::users())
        .block("[api.nuvla]")
        .upstream("app", upstream.addr())
        .private("/app/", "app")
        .start();
    let answer = gateway.client().get_with("/api/user?x=1", NAVIGATION).await;
    assert_eq!(failure(&answer, 404), "unknown resource");
    assert_eq!(answer.json()["resource-id"], "/api/user");
}
