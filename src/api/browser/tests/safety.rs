//! What must hold for every route: cross-site requests, open redirects, leaks, methods.

use super::super::target::tests::EVIL;
use super::*;
use crate::clock::UnixMs;

/// Every request that changes something, with a body that would do it.
fn changes(other: &str) -> Vec<Request<'static>> {
    let form = |path, body: &str| post(path, body).without("origin");
    let path: &'static str = Box::leak(format!("/sessions/{other}").into_boxed_str());
    vec![
        form("/login", "username=alice&password=alice"),
        form("/logout", ""),
        form("/switch", "claim=group/staff"),
        form("/sessions/end", &format!("id={other}")),
        form("/sessions/end-others", ""),
        call("POST", "/session", r#"{"username":"alice","password":"alice"}"#),
        call("POST", "/switch", r#"{"claim":"group/staff"}"#),
        call("DELETE", "/session", ""),
        call("DELETE", "/sessions", ""),
        call("DELETE", path, ""),
    ]
}

#[tokio::test]
async fn other_sites_change_nothing() {
    let site = Site::new();
    let (_, other) = site.alice().await;
    let (live, own) = site.alice().await;
    for request in changes(&other.id().to_string()) {
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://app.example.com"),
            ("origin", "https://app.example.com:8443"),
            ("origin", "https://sub.app.example.com"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("referer", "https://evil.example/https://app.example.com/"),
        ] {
            for request in [request.clone().by(&live), request.clone()] {
                let (method, path) = (request.method, request.path);
                let reply = site.ask(request.with(name, value)).await;
                assert_eq!(reply.status, StatusCode::FORBIDDEN, "{method} {path} {value}");
                assert!(matches!(reply.carrier, Carrier::Keep));
                assert!(value_is_absent(&reply, "clear-site-data"));
                assert!(value_is_absent(&reply, "location"));
            }
        }
    }
    assert_eq!(site.world.store.len(), 2, "nothing was made or ended");
    assert!(site.live(&other).await.is_some());
    assert_eq!(site.live(&own).await.unwrap().record().generation, 0, "nothing was switched");
}

fn value_is_absent(reply: &Reply, name: &str) -> bool {
    value(reply, name).is_none()
}

#[tokio::test]
async fn the_own_site_and_programs_change_things() {
    for (name, value) in [
        ("origin", ORIGIN),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "none"),
        ("referer", "https://app.example.com/auth/account"),
        ("x-nothing", "a program"),
    ] {
        for n in 0..10 {
            let site = Site::new();
            let (_, other) = site.alice().await;
            let (live, _) = site.alice().await;
            let request = changes(&other.id().to_string()).swap_remove(n);
            let (method, path) = (request.method, request.path);
            let reply = site.ask(request.by(&live).with(name, value)).await;
            assert!(reply.status.as_u16() < 400, "{method} {path} {name}: {}", reply.status);
        }
    }
}

#[tokio::test]
async fn a_cross_site_login_shows_the_form_and_nothing_of_what_came() {
    let site = Site::new();
    let id = site.bounced("/reports");
    let form = format!("username=mallory&password=pw&next={id}");
    let page = site.ask(post("/login", &form).with("origin", "https://evil.example")).await;
    assert!(page.status == StatusCode::FORBIDDEN && is_page(&page));
    let page = text(&page);
    assert!(page.contains("sent from another site"));
    assert!(!page.contains("mallory") && !page.contains(&id));
    let program = call("POST", "/session", "{}").with("origin", "null");
    problem(&site.ask(program).await, 403, "cross-site-request");
}

#[tokio::test]
async fn nothing_leads_to_another_origin() {
    let site = Site::new();
    let doors = ["/auth/login", "/auth/logout", "/auth/login?next=/auth/login", "/auth/switch"];
    for next in EVIL.iter().chain(&doors) {
        let mut encoder = url::form_urlencoded::Serializer::new(String::new());
        let next = encoder.append_pair("next", next).finish();
        let page = text(&site.ask(get(&format!("/login?{next}"))).await);
        assert!(!page.contains("evil.example"), "{next}");
        let (live, _) = site.alice().await;
        let page = text(&site.ask(get(&format!("/login?{next}")).by(&live)).await);
        assert!(page.contains("href=\"/\" data-fragment") && !page.contains("evil.example"));
        let page = text(&site.ask(get(&format!("/logout?{next}")).by(&live)).await);
        assert!(page.contains("name=\"next\" value=\"\""));
        assert_eq!(location(&site.ask(get(&format!("/continue?{next}"))).await), "/");
        let switch = format!("claim=group/staff&{next}");
        let reply = site.ask(post("/switch", &switch).by(&live)).await;
        assert_eq!(location(&reply), "/auth/account?notice=switched", "{next}");
        let login = format!("username=alice&password=alice&{next}");
        assert_eq!(location(&site.ask(post("/login", &login)).await), "/", "{next}");
        assert_eq!(location(&site.ask(post("/logout", &next)).await), "/auth/logged-out");
    }
}

#[tokio::test]
async fn no_answer_shows_a_token_or_a_password() {
    let site = Site::new();
    let (live, token) = site.alice().await;
    let (other, second) = site.alice().await;
    let hash = serde_json::to_value(other.record()).unwrap()["secret"].as_str().unwrap().to_owned();
    let mut secrets = vec![hash];
    secrets.extend(
        [&token, &second].map(|token| token.encode().split_once('.').unwrap().1.to_owned()),
    );
    let mut requests = vec![
        post("/login", "username=alice&password=c4nary-pw"),
        post("/login", "username=alice&password=c4nary-pw&password=c4nary-pw"),
        post("/login", "username=alice&password=c4nary-pw%ff"),
        call("POST", "/session", r#"{"username":"alice","password":"c4nary-pw"}"#),
        call("POST", "/session", r#"{"username":"alice","password":{"c4nary-pw":1}}"#),
        post("/nothing", "password=c4nary-pw"),
        call("POST", "/switch", r#"{"claim":"group/staff"}"#).by(&live),
        post("/switch", "claim=user/u1").by(&live),
    ];
    let paths = ["/", "/account", "/continue", "/login", "/logout", "/session", "/sessions"];
    requests.extend(paths.map(|path| get(path).by(&other)));
    requests.extend(changes(&token.id().to_string()).into_iter().map(|change| change.by(&other)));
    for request in requests {
        let (method, path) = (request.method, request.path);
        let reply = site.ask(request).await;
        if let Carrier::Issue(token) = &reply.carrier {
            secrets.push(token.encode().split_once('.').unwrap().1.to_owned());
        }
        let mut seen = text(&reply);
        for (name, value) in &reply.headers {
            seen.push_str(&format!("\n{name}: {}", value.to_str().unwrap()));
        }
        assert!(!seen.contains("c4nary-pw"), "{method} {path}: {seen}");
        for secret in &secrets {
            assert!(!seen.contains(secret.as_str()), "{method} {path}: {seen}");
        }
    }
    assert!(secrets.len() > 5, "tokens were issued meanwhile");
}

#[tokio::test]
async fn head_is_answered_like_get() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let style = format!("/static/{}.css", pages::stylesheet().0);
    for path in [
        "/account",
        "/login",
        "/logout",
        "/logged-out",
        "/session",
        "/sessions",
        "/continue",
        "/",
        style.as_str(),
        "/nothing",
    ] {
        for session in [Some(Arc::clone(&live)), None] {
            let request = Request { session, ..get(path) };
            let full = site.ask(request.clone()).await;
            let head = site.ask(Request { method: "HEAD", ..request }).await;
            assert_eq!(full.status, head.status, "{path}");
            let names = |reply: &Reply| {
                reply.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
            };
            assert_eq!(names(&full), names(&head), "{path}");
            assert_eq!(full.body.len(), head.body.len(), "the server drops it: {path}");
        }
    }
}

#[tokio::test]
async fn methods_are_refused_with_those_that_are_taken() {
    let site = Site::new();
    let (live, token) = site.alice().await;
    for (path, allow) in [
        ("/", "GET, HEAD"),
        ("/account", "GET, HEAD"),
        ("/continue", "GET, HEAD"),
        ("/logged-out", "GET, HEAD"),
        ("/login", "GET, HEAD, POST"),
        ("/logout", "GET, HEAD, POST"),
        ("/session", "GET, HEAD, POST, DELETE"),
        ("/keys", "GET, HEAD, POST"),
        ("/keys/x", "DELETE"),
        ("/keys/create", "POST"),
        ("/keys/revoke", "POST"),
        ("/sessions", "GET, HEAD, DELETE"),
        ("/sessions/x", "DELETE"),
        ("/sessions/end", "POST"),
        ("/sessions/end-others", "POST"),
        ("/switch", "POST"),
        ("/static/x.css", "GET, HEAD"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "X"] {
            if allow.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let reply = site.ask(call(method, path, "").by(&live)).await;
            problem(&reply, 405, "method-not-allowed");
            assert_eq!(value(&reply, "allow").as_deref(), Some(allow), "{method} {path}");
        }
    }
    assert!(site.live(&token).await.is_some());
    for path in ["/nothing", "/login/", "/Login", "/static", "/session/", "/static/x.css/y"] {
        assert_eq!(site.ask(get(path)).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn assets_are_cached_for_good_under_their_hash_only() {
    let site = Site::new();
    let (style, script) = (pages::stylesheet(), pages::script());
    for (name, kind, content) in [
        (format!("{}.css", style.0), "text/css; charset=utf-8", style.1),
        (format!("{}.js", script.0), "text/javascript; charset=utf-8", script.1),
    ] {
        let reply = site.ask(get(&format!("/static/{name}"))).await;
        assert_eq!(value(&reply, "content-type").as_deref(), Some(kind));
        let cache = value(&reply, "cache-control").unwrap();
        assert_eq!(cache, "public, max-age=31536000, immutable");
        assert_eq!(value(&reply, "x-content-type-options").as_deref(), Some("nosniff"));
        assert_eq!(text(&reply), content);
    }
    for wrong in [
        format!("{}.js", style.0),
        "0000000000000000.css".to_owned(),
        "..".to_owned(),
        style.0.to_owned(),
        String::new(),
    ] {
        let reply = site.ask(get(&format!("/static/{wrong}"))).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert_eq!(value(&reply, "cache-control").as_deref(), Some("no-store"));
    }
    let page = text(&site.ask(get("/login")).await);
    assert!(page.contains(&format!("/auth/static/{}.css", style.0)));
}

#[test]
fn mounts_are_plain_paths() {
    let new = |mount: &str| {
        let settings = BrowserSettings { mount: mount.to_owned(), name: String::new() };
        Browser::new(settings, Clock::manual(UnixMs(0)))
    };
    assert_eq!(new("/auth/").unwrap().mount(), "/auth");
    assert_eq!(new("/a/b").unwrap().login_url(""), "/a/b/login");
    for bad in ["auth", "//evil.example", "/a b", "/a\"", "/../x"] {
        assert!(new(bad).is_err(), "{bad}");
    }
}
