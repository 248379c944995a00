//! The account page, claims, and the list of sessions.

use super::*;
use crate::session::Store;
use crate::session::testing::sample;

#[tokio::test]
async fn the_account_shows_who_claims_and_sessions() {
    let site = Site::new();
    site.world.people.change(|account| {
        account.name = "Alice <b>".to_owned();
        account.email = "alice@example.com".to_owned();
    });
    let (_, _) = site.alice().await;
    let (live, _) = site.alice().await;
    let page = site.ask(get("/account?notice=others-ended").by(&live)).await;
    assert!(page.status == StatusCode::OK && is_page(&page));
    let page = text(&page);
    for part in [
        "Alice &lt;b&gt;",
        "alice@example.com",
        "name=\"claim\" value=\"group/staff\"",
        "name=\"claim\" value=\"group/ops\"",
        "part of <bdi>ops</bdi>",
        "Firefox on Linux",
        "192.0.2.7",
        "This device",
        "End all others",
        "All your other sessions have ended.",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(page.matches("value=\"group/staff\"").count(), 1, "groups in a loop come once");
    assert_eq!(location(&site.ask(get("/")).await), "/auth/account");
}

#[tokio::test]
async fn the_account_needs_a_session_and_comes_back() {
    let site = Site::new();
    let place = |reply: &Reply| {
        let location = location(reply);
        let id = location.strip_prefix("/auth/login?next=").unwrap();
        site.browser.place(id, ORIGIN).unwrap().target
    };
    let reply = site.ask(get("/account?notice=switched")).await;
    assert_eq!(place(&reply), "/auth/account?notice=switched");
    for path in ["/switch", "/sessions/end", "/sessions/end-others", "/keys/create", "/keys/revoke"]
    {
        let reply = site.ask(post(path, "claim=group/staff&id=x")).await;
        assert_eq!(place(&reply), "/auth/account", "{path}");
    }
    problem(&site.ask(get("/account").without("accept")).await, 401, "not-signed-in");
}

#[tokio::test]
async fn a_form_is_its_users_own() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let page = text(&site.ask(get("/account").by(&live)).await);
    let forms = page.matches("<form method=\"post\"").count();
    let named = page.matches("name=\"user\" value=\"u1\"").count();
    assert!(forms > 2 && named == forms, "{named} of {forms} forms name their user: {page}");
    for path in ["/switch", "/sessions/end", "/sessions/end-others", "/keys/create", "/keys/revoke"]
    {
        let form = "claim=group/staff&id=x&user=u2";
        let reply = site.ask(post(path, form).by(&live)).await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{path}");
        assert!(matches!(reply.carrier, Carrier::Keep), "{path}");
        assert!(text(&reply).contains("nothing was changed"), "{path}");
    }
    let reply = site.ask(post("/switch", "claim=group/staff&user=u1").by(&live)).await;
    assert_eq!(location(&reply), "/auth/account?notice=switched");
}

#[tokio::test]
async fn a_form_switches_the_claim() {
    let site = Site::new();
    let (live, old) = site.alice().await;
    let reply = site.ask(post("/switch", "claim=group/staff").by(&live)).await;
    assert_eq!(location(&reply), "/auth/account?notice=switched");
    let token = issued(reply);
    assert_eq!(token.id(), old.id());
    let live = site.live(&token).await.unwrap();
    assert_eq!(live.identity().claim, "group/staff");
    let page = text(&site.ask(get("/account?notice=switched").by(&live)).await);
    assert!(page.contains("You now act as <bdi>group/staff"));
    let reply = site.ask(post("/switch", "claim=group/board").by(&live)).await;
    assert_eq!(location(&reply), "/auth/account?notice=not-allowed");
    assert!(matches!(reply.carrier, Carrier::Keep));
    let back = post("/switch", "claim=user/u1&next=/app%3Fa").by(&live);
    assert_eq!(location(&site.ask(back).await), "/app?a");
}

#[tokio::test]
async fn json_switches_the_claim() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let switch = r#"{"claim":"group/staff","extended":true}"#;
    let reply = site.ask(call("POST", "/switch", switch).by(&live)).await;
    assert_eq!(reply.status, StatusCode::OK);
    let session = body(&reply);
    assert_eq!(
        (&session["active_claim"], &session["extended"]),
        (&"group/staff".into(), &true.into())
    );
    assert_eq!(session["roles"].as_array().unwrap().len(), 3);
    let live = site.live(&issued(reply)).await.unwrap();
    assert!(live.record().extended);
    let foreign = call("POST", "/switch", r#"{"claim":"group/board"}"#).by(&live);
    problem(&site.ask(foreign.with("accept", HTML.1)).await, 403, "claim-not-allowed");
    let nobody = call("POST", "/switch", switch).with("accept", HTML.1);
    problem(&site.ask(nobody).await, 401, "not-signed-in");
    for bad in ["{}", "[]", r#"{"claim":1}"#, r#"{"claim":"a","claim":"b"}"#] {
        let reply = site.ask(call("POST", "/switch", bad).by(&live)).await;
        problem(&reply, 400, "malformed-body");
    }
    let plain = call("POST", "/switch", switch).by(&live).with("content-type", "text/plain");
    problem(&site.ask(plain).await, 415, "unsupported-media-type");
}

#[tokio::test]
async fn sessions_are_listed_and_ended_one_by_one() {
    let site = Site::new();
    let (_, other) = site.alice().await;
    let (live, own) = site.alice().await;
    let listed = body(&site.ask(call("GET", "/sessions", "").by(&live)).await);
    let rows = listed["sessions"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let current: Vec<_> = rows.iter().filter(|row| row["current"] == true).collect();
    assert_eq!(current.len(), 1);
    assert_eq!(current[0]["id"], own.id().to_string());
    assert_eq!(current[0]["device"], "Firefox on Linux");
    let path = format!("/sessions/{}", other.id());
    let reply = site.ask(call("DELETE", &path, "").by(&live)).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    assert!(matches!(reply.carrier, Carrier::Keep));
    assert!(site.live(&other).await.is_none());
    problem(&site.ask(call("DELETE", &path, "").by(&live)).await, 404, "session-not-found");
    let own = format!("/sessions/{}", own.id());
    problem(&site.ask(call("DELETE", &own, "")).await, 401, "not-signed-in");
    let reply = site.ask(call("DELETE", &own, "").by(&live)).await;
    assert!(matches!(reply.carrier, Carrier::Revoke));
    assert_eq!(site.world.store.len(), 0);
}

#[tokio::test]
async fn sessions_of_others_look_like_none() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let foreign = sample("u2", site.world.clock.now()).0;
    site.world.store.create(foreign.clone()).await.unwrap();
    for id in [foreign.id.to_string(), "nonsense".to_owned(), "..".to_owned(), String::new()] {
        let reply = site.ask(call("DELETE", &format!("/sessions/{id}"), "").by(&live)).await;
        problem(&reply, 404, "session-not-found");
        let reply = site.ask(post("/sessions/end", &format!("id={id}")).by(&live)).await;
        assert_eq!(location(&reply), "/auth/account?notice=not-found");
    }
    assert!(site.world.store.load(foreign.id).await.unwrap().is_some());
}

#[tokio::test]
async fn forms_end_sessions() {
    let site = Site::new();
    let (_, first) = site.alice().await;
    let (_, second) = site.alice().await;
    let (_, third) = site.alice().await;
    let (live, own) = site.alice().await;
    let reply = site.ask(post("/sessions/end", &format!("id={}", first.id())).by(&live)).await;
    assert_eq!(location(&reply), "/auth/account?notice=session-ended");
    assert!(site.live(&first).await.is_none() && site.live(&second).await.is_some());
    let reply = site.ask(post("/sessions/end-others", "").by(&live)).await;
    assert_eq!(location(&reply), "/auth/account?notice=others-ended");
    assert!(site.live(&second).await.is_none() && site.live(&third).await.is_none());
    assert!(site.live(&own).await.is_some());
    let reply = site.ask(post("/sessions/end", &format!("id={}", own.id())).by(&live)).await;
    assert_eq!(location(&reply), "/auth/logged-out");
    assert!(matches!(reply.carrier, Carrier::Revoke));
}

#[tokio::test]
async fn deleting_the_list_ends_all_others() {
    let site = Site::new();
    let (_, other) = site.alice().await;
    let (live, own) = site.alice().await;
    let reply = site.ask(call("DELETE", "/sessions", "").by(&live)).await;
    assert_eq!((reply.status, body(&reply)["ended"].as_u64()), (StatusCode::OK, Some(1)));
    assert!(site.live(&other).await.is_none() && site.live(&own).await.is_some());
    problem(&site.ask(call("DELETE", "/sessions", "")).await, 401, "not-signed-in");
}

#[tokio::test]
async fn the_list_on_the_page_is_bounded() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    for _ in 0..60 {
        let record = sample("u1", site.world.clock.now()).0;
        site.world.store.create(record).await.unwrap();
    }
    let page = text(&site.ask(get("/account").by(&live)).await);
    assert!(page.contains("11 older sessions are not shown"), "{page}");
    assert!(page.contains("This device"));
}
