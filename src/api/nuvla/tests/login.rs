//! Templates and logins.

use super::*;

#[tokio::test]
async fn a_login_opens_a_session() {
    let site = Site::new();
    let form = "href=session-template%2Fpassword&username=alice&password=alice";
    for request in [
        call("POST", "/session").json(&alices()),
        call("POST", "/session").json(&alices()).gzip(),
        call("POST", "/session").form(form),
        call("POST", "/session")
            .json(&alices())
            .with("content-type", "application/json; charset=utf-8"),
    ] {
        let reply = site.ask(request).await;
        let answer = body(&reply, 201);
        let location = value(&reply, "location").unwrap();
        let token = issued(reply);
        assert_eq!(location, format!("session/{}", token.id()));
        assert_eq!(answer["resource-id"], location);
        assert_eq!(answer["message"], format!("{location} created"));
        assert_eq!(answer["status"], 201);
        assert!(site.live(&token).await.is_some());
    }
}

#[tokio::test]
async fn a_login_may_describe_what_it_makes() {
    let site = Site::new();
    let mut login = alices();
    login["name"] = json!("laptop");
    login["tags"] = json!(["a"]);
    login["template"]["redirect-url"] = Value::Null;
    login["template"]["order"] = json!(0);
    assert_eq!(site.ask(call("POST", "/session").json(&login)).await.status, 201);
}

#[tokio::test]
async fn bad_credentials_are_forbidden() {
    let site = Site::new();
    for (name, password) in [("alice", "wrong"), ("nobody", "nobody"), ("al'ice\n", "x")] {
        let mut login = alices();
        login["template"]["username"] = json!(name);
        login["template"]["password"] = json!(password);
        let reply = site.ask(call("POST", "/session").json(&login)).await;
        let wanted = format!("invalid credentials for '{name}'");
        assert_eq!(failure(&reply, 403), (wanted, Some(name.to_owned())));
        assert!(value(&reply, "location").is_none());
    }
}

#[tokio::test]
async fn a_login_is_read_strictly() {
    let site = Site::new();
    let password = "session-template/password";
    let template = |template: Value| json!({ "template": template });
    for login in [
        json!({}),
        json!([]),
        json!("x"),
        json!({ "template": "x" }),
        template(json!({ "href": password })),
        template(json!({ "username": "alice", "password": "alice" })),
        template(json!({ "href": password, "username": "alice" })),
        template(json!({ "href": password, "username": "", "password": "alice" })),
        template(json!({ "href": password, "username": "alice", "password": 7 })),
        template(json!({ "href": password, "username": "alice", "password": "alice", "key": "k" })),
        template(json!({ "href": password, "username": "alice", "password": "alice", "evil": 1 })),
        template(json!({ "href": password, "username": "alice", "password": "x".repeat(5000) })),
        json!({ "template": alices()["template"], "evil": 1 }),
    ] {
        let reply = site.ask(call("POST", "/session").json(&login)).await;
        let (message, _) = failure(&reply, 400);
        assert!(message.starts_with("resource does not satisfy defined schema"), "{login}");
        assert!(!message.contains("alice") && !message.contains("evil"), "{message}");
    }
    // The last one was signed in, where the other doors refuse.
    let twice = "{\"template\": {\"href\": \"session-template/password\", \"username\": \"bob\", \
                 \"username\": \"alice\", \"password\": \"alice\"}}";
    for text in ["{", "", "{\"template\":", "\u{1}", twice] {
        let request =
            Request { body: text.into(), ..call("POST", "/session") }.with(JSON.0, JSON.1);
        failure(&site.ask(request).await, 400);
    }
    for form in ["", "a=%ff", "href=a&href=a", "href=session-template/password&username=alice&x=1"]
    {
        failure(&site.ask(call("POST", "/session").form(form)).await, 400);
    }
    let plain = call("POST", "/session").json(&alices()).with("content-type", "text/plain");
    failure(&site.ask(plain).await, 415);
}

#[tokio::test]
async fn templates_that_are_not_there_are_not_found() {
    let site = Site::new();
    for href in ["session-template/github", "session-template/api-key"] {
        let login = json!({ "template": { "href": href, "key": "a", "secret": "b" } });
        let reply = site.ask(call("POST", "/session").json(&login)).await;
        assert_eq!(failure(&reply, 404), (format!("{href} not found"), Some(href.to_owned())));
    }
    for href in ["", "password", "session-template/", "session-template/../x", "x<script>"] {
        let login = json!({ "template": { "href": href, "key": "a", "secret": "b" } });
        let reply = site.ask(call("POST", "/session").json(&login)).await;
        assert_eq!(failure(&reply, 404).0, "session-template not found");
    }
}

#[tokio::test]
async fn another_site_signs_nobody_in() {
    let site = Site::new();
    let foreign = call("POST", "/session").json(&alices()).with("origin", "https://evil.example");
    failure(&site.ask(foreign).await, 403);
    let own = call("POST", "/session").json(&alices()).with("origin", ORIGIN);
    assert_eq!(site.ask(own).await.status, 201);
}

#[tokio::test]
async fn only_enabled_methods_are_shown() {
    let site = Site::new();
    for request in [
        call("GET", "/session-template"),
        call("PUT", "/session-template"),
        call("PUT", "/session-template").form("orderby=order&last=10"),
    ] {
        let all = body(&site.ask(request).await, 200);
        assert_eq!(all["count"], 1);
        assert_eq!(all["id"], "session-template");
        assert_eq!(all["resource-type"], "session-template-collection");
        assert_eq!(all["acl"]["query"], json!(["group/nuvla-anon"]));
        assert_eq!(all["resources"][0]["id"], "session-template/password");
        assert!(all.get("operations").is_none());
    }
    let none = body(&site.ask(call("PUT", "/session-template").form("last=0")).await, 200);
    assert_eq!((&none["count"], &none["resources"]), (&json!(1), &json!([])));
    for method in ["GET", "HEAD", "PUT"] {
        let one = body(&site.ask(call(method, "/session-template/password")).await, 200);
        assert_eq!((&one["method"], &one["username"]), (&json!("password"), &json!("username")));
        assert_eq!(one["resource-metadata"], "resource-metadata/session-template-password");
    }
    let edit = call("PUT", "/session-template/password").json(&json!({ "name": "x" }));
    failure(&site.ask(edit).await, 405);
    let missing = site.ask(call("GET", "/session-template/api-key")).await;
    assert_eq!(failure(&missing, 404).0, "session-template/api-key not found");
}

#[tokio::test]
async fn packed_bodies_are_bounded() {
    let site = Site::new();
    let bomb = Request { body: vec![b' '; 1 << 20], ..call("POST", "/session") };
    failure(&site.ask(bomb.with(JSON.0, JSON.1).gzip()).await, 413);
    let broken = call("POST", "/session").json(&alices()).with("content-encoding", "gzip");
    failure(&site.ask(broken).await, 400);
    let other = call("POST", "/session").json(&alices()).with("content-encoding", "br");
    failure(&site.ask(other).await, 415);
}

#[tokio::test]
async fn throttled_and_busy_logins_say_when_to_try_again() {
    let site = Site::new();
    site.world.busy.store(true, std::sync::atomic::Ordering::SeqCst);
    let reply = site.ask(call("POST", "/session").json(&alices())).await;
    failure(&reply, 503);
    assert!(value(&reply, "retry-after").is_some());
    site.world.busy.store(false, std::sync::atomic::Ordering::SeqCst);
    let mut login = alices();
    login["template"]["password"] = json!("wrong");
    let mut last = 403;
    for _ in 0..50 {
        let reply = site.ask(call("POST", "/session").json(&login)).await;
        last = reply.status.as_u16();
        if last == 429 {
            assert!(value(&reply, "retry-after").is_some());
            failure(&reply, 429);
            break;
        }
    }
    assert_eq!(last, 429);
}
