//! The gateway's failures, for people and for programs.

use std::time::Duration;

use super::*;
use crate::api::worded_by;
use crate::session::Identity;

/// A request to an app that is refused.
struct Refused<'a> {
    method: &'a str,
    target: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    identity: Option<Identity>,
    stale: bool,
}

fn navigation(target: &str) -> Refused<'_> {
    let headers = vec![HTML, ("user-agent", AGENT)];
    Refused { method: "GET", target, headers, identity: None, stale: false }
}

impl Site {
    fn refuse(&self, fault: &Fault, request: &Refused<'_>) -> Reply {
        let method = Method::from_bytes(request.method.as_bytes()).unwrap();
        // As the server does it: the request is gone by then.
        let headers = worded_by(&method, &header_map(&request.headers));
        let context = Context {
            headers: &headers,
            method: &method,
            request: "req-1",
            identity: request.identity.as_ref(),
            target: request.target,
            host: "app.example.com",
            ip: "192.0.2.7".parse().ok(),
            stale: request.stale,
            now: self.world.clock.now().seconds(),
        };
        self.browser.refuse(fault, &context)
    }

    fn led_to(&self, reply: &Reply) -> Option<Place> {
        let location = location(reply);
        let id = location.strip_prefix("/auth/login?next=")?;
        self.browser.place(id, ORIGIN)
    }
}

fn sign_in() -> Fault {
    let mut fault = Fault::new(StatusCode::UNAUTHORIZED, "not-signed-in", "Sign in to go on.");
    fault.sign_in = true;
    fault
}

#[tokio::test]
async fn a_navigation_goes_to_sign_in_and_comes_back() {
    let site = Site::new();
    let target = "/reports?from=2026-01-01&x=%2F%2F";
    let mut request = navigation(target);
    for method in ["GET", "HEAD"] {
        request.method = method;
        let reply = site.refuse(&sign_in(), &request);
        assert_eq!(site.led_to(&reply).unwrap().target, target);
        assert!(matches!(reply.carrier, Carrier::Keep));
        assert_eq!(value(&reply, "cache-control").as_deref(), Some("no-store"));
    }
    request.stale = true;
    let url = location(&site.refuse(&sign_in(), &request));
    assert!(!url.contains("reports"), "the target stays on the server");
    let page = text(&site.ask(get(url.strip_prefix("/auth").unwrap())).await);
    assert!(page.contains("Your session ended."));
}

#[test]
fn each_refused_tab_has_its_own_state() {
    let site = Site::new();
    let replies: Vec<_> =
        (0..3).map(|_| location(&site.refuse(&sign_in(), &navigation("/same")))).collect();
    assert!(replies[0] != replies[1] && replies[1] != replies[2]);
}

#[test]
fn targets_that_could_lead_elsewhere_are_not_kept() {
    let site = Site::new();
    let long = format!("/{}", "a".repeat(9000));
    for target in ["//evil.example/x", "/%2f/evil.example", "/auth/logout", long.as_str()] {
        assert_eq!(location(&site.refuse(&sign_in(), &navigation(target))), "/auth/login");
    }
}

#[test]
fn programs_are_never_redirected() {
    let site = Site::new();
    for headers in [
        vec![],
        vec![("accept", "*/*")],
        vec![("accept", "application/json")],
        vec![HTML, ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
        vec![HTML, ("x-requested-with", "XMLHttpRequest")],
        vec![HTML, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "image")],
    ] {
        let request = Refused { headers, ..navigation("/api/x") };
        let reply = site.refuse(&sign_in(), &request);
        let body = problem(&reply, 401, "not-signed-in");
        assert_eq!(body["login_url"], "https://app.example.com/auth/login");
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["title"], "Unauthorized");
        let challenge = value(&reply, "www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer") && value(&reply, "location").is_none());
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = Refused { method, ..navigation("/x") };
        problem(&site.refuse(&sign_in(), &request), 401, "not-signed-in");
    }
    for target in ["/auth/session", "/auth/sessions?x", "/auth/sessions/abc"] {
        problem(&site.refuse(&sign_in(), &navigation(target)), 401, "not-signed-in");
    }
}

#[tokio::test]
async fn a_lost_form_is_told_and_leads_back_to_its_page() {
    let site = Site::new();
    for (referer, wanted) in [
        (None, "/orders/new"),
        (Some("https://app.example.com/orders?draft=1"), "/orders?draft=1"),
        (Some("https://evil.example/orders"), "/orders/new"),
        (Some("https://app.example.com//evil.example"), "/orders/new"),
    ] {
        let mut request = Refused { method: "POST", ..navigation("/orders/new") };
        request.headers.extend(referer.map(|referer| ("referer", referer)));
        let reply = site.refuse(&sign_in(), &request);
        assert_eq!(site.led_to(&reply).unwrap().target, wanted);
        let url = location(&reply);
        let page = text(&site.ask(get(url.strip_prefix("/auth").unwrap())).await);
        assert!(page.contains("This form was open for too long."));
        let next = url.split_once("next=").unwrap().1;
        let form = format!("username=alice&password=alice&next={next}");
        let way = location(&site.ask(post("/login", &form)).await);
        assert_eq!(way, format!("/auth/continue?next={next}"));
        let page = site.ask(get(way.strip_prefix("/auth").unwrap())).await;
        assert!(is_page(&page));
        assert!(text(&page).contains("Your form was not sent"));
        assert!(text(&page).contains(&format!("href=\"https://app.example.com{wanted}\"")));
    }
}

#[tokio::test]
async fn a_loop_is_stopped_and_explained() {
    for (stale, words) in
        [(false, "did not send our cookie back"), (true, "a cookie that we do not know")]
    {
        let site = Site::new();
        let mut request = Refused { stale, ..navigation("/app") };
        request.headers.push(("referer", "https://app.example.com/auth/login?next=x"));
        let mut reply = site.refuse(&sign_in(), &request);
        for _ in 0..3 {
            let url = location(&reply);
            let next = url.split_once("next=").unwrap().1.to_owned();
            let form = format!("username=alice&password=alice&next={next}");
            assert_eq!(location(&site.ask(post("/login", &form)).await), "/app");
            site.world.clock.advance(Duration::from_secs(1));
            reply = site.refuse(&sign_in(), &request);
        }
        assert!(reply.status == StatusCode::UNAUTHORIZED && is_page(&reply));
        assert!(text(&reply).contains(words));
        assert!(text(&reply).contains("Allow cookies for") || stale);
        assert!(text(&reply).contains("/auth/login?next="));
        assert_eq!(site.refuse(&sign_in(), &request).status, StatusCode::SEE_OTHER, "tries anew");
    }
}

#[tokio::test]
async fn others_behind_the_same_address_are_not_in_the_loop() {
    let site = Site::new();
    for line in [
        ("sec-fetch-site", "none"),
        ("sec-fetch-site", "cross-site"),
        ("referer", "https://app.example.com/start"),
        ("user-agent", "another"),
    ] {
        for _ in 0..5 {
            let form = "username=alice&password=alice&next=/app";
            assert_eq!(location(&site.ask(post("/login", form)).await), "/app");
            let mut request = navigation("/app");
            request.headers.retain(|(name, _)| *name != line.0);
            request.headers.push(line);
            assert_eq!(site.refuse(&sign_in(), &request).status, StatusCode::SEE_OTHER);
        }
    }
}

#[test]
fn a_403_says_who_what_and_how_to_go_on() {
    let site = Site::new();
    let detail = "You are signed in, but not allowed to open this.";
    let mut fault = Fault::new(StatusCode::FORBIDDEN, "not-allowed", detail);
    fault.requirement = Some("be in one of the groups ops or <b>".to_owned());
    let identity = Identity {
        name: "Alice".to_owned(),
        identifier: "alice".to_owned(),
        claim: "group/staff".to_owned(),
        ..Identity::default()
    };
    let request = Refused { identity: Some(identity), ..navigation("/finance?x=1") };
    let reply = site.refuse(&fault, &request);
    assert!(reply.status == StatusCode::FORBIDDEN && is_page(&reply));
    let page = text(&reply);
    for part in [
        "Alice (alice)",
        "group/staff",
        "be in one of the groups ops or &lt;b&gt;",
        "Switch account",
        "/auth/account",
        "req-1",
        detail,
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let next = page.split("name=\"next\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(site.browser.place(next, ORIGIN).unwrap().target, "/finance?x=1");
    let program = Refused { headers: vec![], ..request };
    let body = problem(&site.refuse(&fault, &program), 403, "not-allowed");
    assert_eq!(body["requirement"], "be in one of the groups ops or <b>");
    assert!(body.get("login_url").is_none());
}

#[test]
fn every_status_has_a_page_and_a_problem() {
    let site = Site::new();
    for status in [400, 401, 403, 404, 405, 408, 413, 414, 421, 429, 431, 500, 502, 503, 504] {
        let status = StatusCode::from_u16(status).unwrap();
        let fault =
            Fault::new(status, "some-code", "the app said <no>").after(Duration::from_secs(7));
        let page = site.refuse(&fault, &navigation("/x?y=1"));
        assert!(page.status == status && is_page(&page));
        assert!(text(&page).contains("The app said &lt;no&gt;."), "{}", text(&page));
        assert_eq!(value(&page, "retry-after").as_deref(), Some("7"));
        let program = Refused { headers: vec![], ..navigation("/x") };
        let reply = site.refuse(&fault, &program);
        problem(&reply, status.as_u16(), "some-code");
        assert_eq!(value(&reply, "retry-after").as_deref(), Some("7"));
        assert_eq!(value(&reply, "www-authenticate").is_some(), status.as_u16() == 401);
    }
}

#[test]
fn trying_again_is_offered_where_it_is_safe() {
    let site = Site::new();
    let fault = Fault::new(StatusCode::BAD_GATEWAY, "upstream-reset", "The app is gone.");
    let again = "href=\"/x?y=1\"";
    assert!(text(&site.refuse(&fault, &navigation("/x?y=1"))).contains(again));
    let posted = Refused { method: "POST", ..navigation("/x?y=1") };
    assert!(!text(&site.refuse(&fault, &posted)).contains(again));
    let page = text(&site.refuse(&fault, &navigation("//evil.example/x")));
    assert!(!page.contains("evil.example"));
    let mut fault = Fault::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "No.");
    fault.allow = Some("GET, POST".to_owned());
    let reply = site.refuse(&fault, &navigation("/x"));
    assert_eq!(value(&reply, "allow").as_deref(), Some("GET, POST"));
}

#[test]
fn hostile_requests_are_worded_too() {
    let site = Site::new();
    let fault = Fault::new(StatusCode::BAD_REQUEST, "bad-target", "");
    for target in ["", "*", "/\u{1f511}", "/auth", "/auth/", "/auth/%ff", "?"] {
        let page = site.refuse(&fault, &navigation(target));
        assert!(page.status == StatusCode::BAD_REQUEST && is_page(&page));
        assert!(text(&page).contains("Something in the request is not valid"));
        assert_eq!(site.refuse(&sign_in(), &navigation(target)).status, StatusCode::SEE_OTHER);
    }
}
