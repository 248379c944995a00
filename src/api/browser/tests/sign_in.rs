//! Signing in and out.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;

#[tokio::test]
async fn the_login_page_names_where_it_leads() {
    let site = Site::new();
    let page = site.ask(get("/login")).await;
    assert!(page.status == StatusCode::OK && is_page(&page));
    assert!(text(&page).contains("action=\"/auth/login\""));
    let id = site.bounced("/reports?year=2026");
    let page = text(&site.ask(get(&format!("/login?next={id}"))).await);
    assert!(page.contains("app.example.com/reports<"), "{page}");
    assert!(page.contains(&format!("name=\"next\" value=\"{id}\"")));
    assert!(page.contains("This page is for signed-in users."));
    assert!(!page.contains("2026"), "the query may be private");
}

#[tokio::test]
async fn signing_in_leads_to_the_full_target() {
    let site = Site::new();
    for (next, fragment, wanted) in [
        (site.bounced("/a/b?c=d&e=%20"), "%23/view/1", "/a/b?c=d&e=%20#/view/1"),
        (site.bounced("/a"), "", "/a"),
        (site.bounced("/a"), "no-hash", "/a"),
        (site.bounced("/a"), "%23x%0d%0aSet-Cookie:+a=b", "/a"),
        ("%2Fpath%3Fq%3D1".to_owned(), "%23f", "/path?q=1#f"),
        ("/auth/account".to_owned(), "", "/auth/account"),
        (String::new(), "%23f", "/#f"),
        ("0123456789abcdef0123456789abcdef".to_owned(), "", "/"),
    ] {
        let form = format!("username=alice&password=alice&next={next}&fragment={fragment}");
        let reply = site.ask(post("/login", &form)).await;
        assert_eq!(location(&reply), wanted);
        assert!(reply.body.is_empty());
        let live = site.live(&issued(reply)).await.unwrap();
        assert_eq!(live.identity().user, "u1");
        assert_eq!(live.record().agent, AGENT);
    }
}

#[tokio::test]
async fn the_session_that_was_there_ends_at_sign_in() {
    let site = Site::new();
    let (old, token) = site.alice().await;
    let reply = site.ask(post("/login", "username=alice&password=alice").by(&old)).await;
    assert_ne!(issued(reply).id(), token.id());
    assert!(site.live(&token).await.is_none());
}

#[tokio::test]
async fn a_failure_keeps_what_was_typed_and_where_it_leads() {
    let site = Site::new();
    let id = site.bounced("/reports");
    let form = format!("username=ali%22ce&password=hunter2&next={id}&fragment=%23f1");
    let page = site.ask(post("/login", &form)).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    assert!(is_page(&page) && matches!(page.carrier, Carrier::Keep));
    assert_eq!(value(&page, "www-authenticate").as_deref(), Some("Bearer realm=\"portcullis\""));
    let page = text(&page);
    for kept in [id.as_str(), "ali&quot;ce", "#f1", "do not match"] {
        assert!(page.contains(kept), "{kept}: {page}");
    }
    assert!(!page.contains("hunter2"));
    // The same form works with the right password.
    let form = format!("username=alice&password=alice&next={id}&fragment=%23f1");
    assert_eq!(location(&site.ask(post("/login", &form)).await), "/reports#f1");
}

#[tokio::test]
async fn a_program_that_posts_the_form_gets_a_problem() {
    let site = Site::new();
    let form = post("/login", "username=alice&password=wrong").with("accept", "*/*");
    let reply = site.ask(form).await;
    let body = problem(&reply, 401, "invalid-credentials");
    assert_eq!(body["login_url"], "https://app.example.com/auth/login");
    assert!(value(&reply, "www-authenticate").is_some());
}

#[tokio::test]
async fn empty_fields_are_told() {
    let site = Site::new();
    for form in ["", "username=alice", "username=alice&password=", "password=x"] {
        let page = site.ask(post("/login", form)).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST);
        assert!(text(&page).contains("Enter both"));
    }
}

#[tokio::test]
async fn busy_throttled_and_unavailable_say_when_to_come_back() {
    let site = Site::new();
    let login = post("/login", "username=alice&password=alice");
    site.world.busy.store(true, Ordering::SeqCst);
    let page = site.ask(login.clone()).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(value(&page, "retry-after").as_deref(), Some("2"));
    assert!(text(&page).contains("Nothing is wrong with your password"));
    site.world.busy.store(false, Ordering::SeqCst);
    site.world.store.fail(true);
    let page = site.ask(login.clone()).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text(&page).contains("not working for the moment"));
    assert!(matches!(page.carrier, Carrier::Keep));
    site.world.store.fail(false);
    for _ in 0..7 {
        site.ask(post("/login", "username=alice&password=wrong")).await;
    }
    let page = site.ask(login.clone()).await;
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = value(&page, "retry-after").unwrap().parse().unwrap();
    assert!(wait >= 1 && is_page(&page));
    let reply = site.ask(call("POST", "/session", r#"{"username":"alice","password":"alice"}"#));
    let body = problem(&reply.await, 429, "login-throttled");
    assert_eq!(body["retry_after"], wait);
    site.world.clock.advance(Duration::from_secs(wait));
    assert_eq!(site.ask(login).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn somebody_signed_in_may_continue_or_change() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let id = site.bounced("/reports?a=b");
    let page = text(&site.ask(get(&format!("/login?next={id}")).by(&live)).await);
    assert!(page.contains("Continue as"));
    assert!(page.contains("href=\"/reports?a=b\" data-fragment"), "{page}");
    assert!(page.contains("Or sign in as someone else"));
}

#[tokio::test]
async fn several_tabs_keep_their_places() {
    let site = Site::new();
    let ids: Vec<_> = (0..5).map(|n| site.bounced(&format!("/tab/{n}"))).collect();
    for (n, id) in ids.iter().enumerate().rev() {
        let form = format!("username=alice&password=alice&next={id}");
        let reply = site.ask(post("/login", &form)).await;
        assert_eq!(location(&reply), format!("/tab/{n}"));
    }
    let renewed = site
        .browser
        .renewed(BrowserSettings { mount: "/auth".to_owned(), name: "New".to_owned() })
        .unwrap();
    assert!(renewed.place(&ids[0], ORIGIN).is_some(), "a reload of the configuration keeps them");
    assert!(renewed.place(&ids[0], "https://other.example.com").is_none());
}

#[tokio::test]
async fn asking_to_sign_out_changes_nothing() {
    let site = Site::new();
    let (live, token) = site.alice().await;
    let page = site.ask(get("/logout").by(&live)).await;
    assert!(page.status == StatusCode::OK && is_page(&page));
    assert!(text(&page).contains("action=\"/auth/logout\""));
    assert!(site.live(&token).await.is_some());
    assert_eq!(location(&site.ask(get("/logout")).await), "/auth/logged-out");
    assert_eq!(location(&site.ask(get("/logged-out").by(&live)).await), "/auth/account");
    let page = site.ask(get("/logged-out")).await;
    assert!(is_page(&page) && text(&page).contains("You are signed out"));
}

#[tokio::test]
async fn signing_out_ends_the_session_and_clears_the_cache() {
    let site = Site::new();
    let (live, token) = site.alice().await;
    let reply = site.ask(post("/logout", "next=").by(&live)).await;
    assert_eq!(location(&reply), "/auth/logged-out");
    assert_eq!(value(&reply, "clear-site-data").as_deref(), Some("\"cache\""));
    assert!(matches!(reply.carrier, Carrier::Revoke));
    assert!(site.live(&token).await.is_none());
    assert_eq!(site.world.store.len(), 0);
    let again = site.ask(post("/logout", "")).await;
    assert!(matches!(again.carrier, Carrier::Revoke), "repeatable");
}

#[tokio::test]
async fn switching_the_account_comes_back() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let id = site.bounced("/finance");
    let reply = site.ask(post("/logout", &format!("next={id}")).by(&live)).await;
    assert_eq!(location(&reply), format!("/auth/login?next={id}"));
    let (live, _) = site.alice().await;
    let reply = site.ask(post("/logout", "next=%2F%2Fevil.example").by(&live)).await;
    assert_eq!(location(&reply), "/auth/logged-out");
    let reply = site.ask(post("/logout", "next=/a%3Fb%3D1%26c")).await;
    assert_eq!(location(&reply), "/auth/login?next=%2Fa%3Fb%3D1%26c");
}

#[tokio::test]
async fn without_the_store_nobody_is_told_to_be_signed_out() {
    let site = Site::new();
    let (live, token) = site.alice().await;
    site.world.store.fail(true);
    let page = site.ask(post("/logout", "").by(&live)).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(is_page(&page) && matches!(page.carrier, Carrier::Keep));
    assert!(text(&page).contains("You are not signed out yet"));
    assert!(text(&page).contains("href=\"/auth/logout\""));
    assert!(value(&page, "retry-after").is_some() && value(&page, "clear-site-data").is_none());
    let reply = site.ask(call("DELETE", "/session", "").by(&live)).await;
    problem(&reply, 503, "session-store-unavailable");
    assert!(matches!(reply.carrier, Carrier::Keep));
    site.world.store.fail(false);
    assert!(site.live(&token).await.is_some());
}

#[tokio::test]
async fn programs_sign_in_and_out() {
    let site = Site::new();
    let login = r#"{"username":"alice","password":"alice","client":"x"}"#;
    let reply = site.ask(call("POST", "/session", login)).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(value(&reply, "location").as_deref(), Some("/auth/session"));
    assert_eq!(value(&reply, "cache-control").as_deref(), Some("no-store"));
    let made = body(&reply);
    let live = site.live(&issued(reply)).await.unwrap();
    let reply = site.ask(call("GET", "/session", "").by(&live)).await;
    assert_eq!(reply.status, StatusCode::OK);
    let session = body(&reply);
    assert_eq!(session, made);
    assert_eq!(session["id"], live.id().to_string());
    assert_eq!((&session["user"], &session["identifier"]), (&"u1".into(), &"alice".into()));
    assert_eq!(session["active_claim"], "user/u1");
    assert_eq!(session["claims"][1], "group/staff");
    assert_eq!(session["expires"], "2027-01-15T09:00:00.000Z");
    assert_eq!(session["expires_unix"], 1_800_003_600);
    assert_eq!(session["idle_expires_unix"], 1_800_000_600);
    let reply = site.ask(call("DELETE", "/session", "").by(&live)).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    assert!(reply.body.is_empty() && matches!(reply.carrier, Carrier::Revoke));
    assert!(live.pulse().is_over(site.world.clock.now()));
    let reply = site.ask(call("DELETE", "/session", "")).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    problem(&site.ask(call("GET", "/session", "")).await, 401, "not-signed-in");
}

#[tokio::test]
async fn bodies_are_judged_by_kind_and_shape() {
    let site = Site::new();
    let login = r#"{"username":"alice","password":"alice"}"#;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let reply = site.ask(call("POST", "/session", login).with("content-type", kind)).await;
        problem(&reply, 415, "unsupported-media-type");
    }
    problem(&site.ask(call("POST", "/session", "")).await, 415, "unsupported-media-type");
    for bad in [
        "{",
        "[]",
        "[\"alice\", \"s3cret\"]",
        "\"s3cret\"",
        r#"{"username":"alice"}"#,
        r#"{"username":"alice","password":31337}"#,
        r#"{"username":"alice","password":["s3cret"]}"#,
        r#"{"username":"alice","password":"s3cret","password":"s3cret"}"#,
        r#"{"username":"alice","password":"s3cret"} x"#,
    ] {
        let reply = site.ask(call("POST", "/session", bad)).await;
        problem(&reply, 400, "malformed-body");
        assert!(!text(&reply).contains("s3cret") && !text(&reply).contains("31337"), "{bad}");
    }
    let long = format!(r#"{{"username":"{}","password":"x"}}"#, "a".repeat(1025));
    problem(&site.ask(call("POST", "/session", &long)).await, 400, "malformed-body");
    for kind in ["text/plain", "multipart/form-data; boundary=x", "application/json"] {
        let form = post("/login", "username=alice&password=alice").with("content-type", kind);
        assert_eq!(site.ask(form).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    for bad in ["username=alice&username=bob&password=x", "username=%ff&password=x"] {
        let page = site.ask(post("/login", bad)).await;
        assert!(page.status == StatusCode::BAD_REQUEST && is_page(&page));
    }
    assert_eq!(site.world.store.len(), 0);
}
