//! Sessions: search, read, end, switch, groups, peers; other places under the mount.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_search_finds_the_own_session_or_none() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    for request in [
        call("PUT", "/session"),
        call("GET", "/session"),
        call("PUT", "/session").form("filter=id%3D%27session%2Fx%27&select=id"),
        call("GET", "/session?filter=created%3E0&orderby=created:desc"),
        call("PUT", "/session").with("origin", "https://evil.example"),
    ] {
        let found = body(&site.ask(request.clone().by(&live)).await, 200);
        assert_eq!((&found["count"], &found["id"]), (&json!(1), &json!("session")));
        assert_eq!(found["resource-type"], "session-collection");
        assert_eq!(found["resources"][0]["id"], format!("session/{}", live.id()));
        assert_eq!(found["operations"], json!([{ "rel": "add", "href": "session" }]));
        let acl = json!({ "query": ["group/nuvla-anon"], "add": ["group/nuvla-anon"] });
        assert_eq!(found["acl"], acl);
        let none = body(&site.ask(request).await, 200);
        assert_eq!((&none["count"], &none["resources"]), (&json!(0), &json!([])));
    }
    for request in [call("PUT", "/session").form("last=0"), call("GET", "/session?last=0")] {
        let counted = body(&site.ask(request.by(&live)).await, 200);
        assert_eq!((&counted["count"], &counted["resources"]), (&json!(1), &json!([])));
        assert!(counted["operations"].is_array());
    }
}

#[tokio::test]
async fn a_session_shows_all_of_itself() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let id = format!("session/{}", live.id());
    let shown = body(&site.ask(call("GET", &format!("/{id}")).by(&live)).await, 200);
    let rights = json!(["group/nuvla-admin"]);
    for (key, wanted) in [
        ("id", json!(id)),
        ("resource-type", json!("session")),
        ("method", json!("password")),
        ("template", json!({ "href": "session-template/password" })),
        ("identifier", json!("alice")),
        ("user", json!("user/u1")),
        ("active-claim", json!("user/u1")),
        ("roles", json!(format!("user/u1 group/nuvla-user group/nuvla-anon {id}"))),
        ("groups", json!("group/staff")),
        ("client-ip", json!("192.0.2.7")),
        ("created", json!("2027-01-15T08:00:00.000Z")),
        ("updated", json!("2027-01-15T08:00:00.000Z")),
        ("expiry", json!("2027-01-15T09:00:00.000Z")),
        ("created-by", json!("group/nuvla-anon")),
    ] {
        assert_eq!(shown[key], wanted, "{key}");
    }
    assert_eq!(shown["acl"]["owners"], json!([id]));
    assert_eq!((&shown["acl"]["delete"], &shown["acl"]["view-data"]), (&rights, &rights));
    let rels: Vec<_> =
        shown["operations"].as_array().unwrap().iter().map(|op| op["rel"].as_str()).collect();
    assert_eq!(rels, ["delete", "get-peers", "get-groups", "switch-group"].map(Some));
    assert_eq!(shown["operations"][3]["href"], format!("{id}/switch-group"));
}

#[tokio::test]
async fn other_sessions_are_there_or_not() {
    let site = Site::new();
    let (_, other) = site.alice().await;
    site.world.clock.advance(Duration::from_millis(1));
    let (live, _) = site.alice().await;
    let other = format!("session/{}", other.id());
    for (method, tail) in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/switch-group"),
        ("POST", "/get-groups"),
        ("GET", "/get-peers"),
    ] {
        let path = format!("/{other}{tail}");
        let foreign = site.ask(call(method, &path).by(&live)).await;
        let wanted = (format!("invalid credentials for '{other}'"), Some(other.clone()));
        assert_eq!(failure(&foreign, 403), wanted);
        assert_eq!(failure(&site.ask(call(method, &path)).await, 403), wanted);
        for nobody in
            ["00000000-0000-4000-8000-000000000000", "x", &live.id().to_string().to_uppercase()]
        {
            let id = format!("session/{nobody}");
            let path = format!("/{id}{tail}");
            let missing = site.ask(call(method, &path).by(&live)).await;
            assert_eq!(failure(&missing, 404), (format!("{id} not found"), Some(id)));
        }
    }
}

#[tokio::test]
async fn a_session_is_deleted_by_itself() {
    let site = Site::new();
    let (live, token) = site.alice().await;
    let id = format!("session/{}", live.id());
    let path = format!("/{id}");
    let foreign = call("DELETE", &path).by(&live).with("sec-fetch-site", "cross-site");
    failure(&site.ask(foreign).await, 403);
    assert!(site.live(&token).await.is_some());
    let reply = site.ask(call("DELETE", &path).by(&live)).await;
    let answer = body(&reply, 200);
    let wanted = json!({ "status": 200, "message": format!("{id} deleted"), "resource-id": id });
    assert_eq!(answer, wanted);
    assert!(matches!(reply.carrier, Carrier::Revoke));
    assert!(site.live(&token).await.is_none());
    assert_eq!(failure(&site.ask(call("GET", &path)).await, 404).0, format!("{id} not found"));
}

#[tokio::test]
async fn a_switch_answers_the_session_and_a_new_secret() {
    let site = Site::new();
    let (mut live, old) = site.alice().await;
    let path = format!("/session/{}/switch-group", live.id());
    let end = live.record().expires;
    for (switch, active, roles) in [
        (json!({ "claim": "group/staff" }), "group/staff", "group/staff"),
        (json!({ "claim": "group/ops", "extended": false }), "group/ops", "group/ops"),
        (
            json!({ "claim": "group/staff", "extended": true }),
            "group/staff",
            "group/staff group/night group/ops",
        ),
        (json!({ "claim": "user/u1" }), "user/u1", "user/u1"),
    ] {
        site.world.clock.advance(Duration::from_secs(60));
        let reply = site.ask(call("POST", &path).json(&switch).gzip().by(&live)).await;
        let shown = body(&reply, 200);
        assert_eq!(shown["active-claim"], active);
        let tail = format!("group/nuvla-user group/nuvla-anon session/{}", live.id());
        assert_eq!(shown["roles"], format!("{roles} {tail}"));
        assert_eq!((&shown["user"], &shown["updated-by"]), (&json!("user/u1"), &json!("user/u1")));
        let token = issued(reply);
        assert_eq!(token.id(), old.id());
        assert!(!token.hash().matches(&live.record().secret));
        live = site.live(&token).await.unwrap();
        assert_eq!(live.record().expires, end, "a switch is no renewal");
    }
    let form = call("POST", &path).form("claim=group%2Fstaff&extended=true").by(&live);
    assert_eq!(body(&site.ask(form).await, 200)["active-claim"], "group/staff");
}

#[tokio::test]
async fn a_switch_renews_the_session_when_it_is_told_to() {
    let mut site = Site::new();
    site.nuvla.renew_on_switch = true;
    let (live, _) = site.alice().await;
    site.world.clock.advance(Duration::from_secs(60));
    let path = format!("/session/{}/switch-group", live.id());
    let switch = json!({ "claim": "group/staff" });
    let shown = body(&site.ask(call("POST", &path).json(&switch).by(&live)).await, 200);
    assert_eq!(shown["expiry"], "2027-01-15T09:01:00.000Z");
}

#[tokio::test]
async fn a_switch_is_refused() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let path = format!("/session/{}/switch-group", live.id());
    for claim in ["group/board", "group/none", "user/u2", "staff", "group/nuvla-admin"] {
        let switch = call("POST", &path).json(&json!({ "claim": claim })).by(&live);
        let (message, _) = failure(&site.ask(switch).await, 403);
        assert_eq!(message, format!("Switch group cannot be done to requested group: {claim}!"));
    }
    for wrong in [json!({}), json!(null), json!([]), json!({ "claim": 1 }), json!({ "claim": "" })]
    {
        failure(&site.ask(call("POST", &path).json(&wrong).by(&live)).await, 400);
    }
    failure(&site.ask(call("POST", &path).by(&live)).await, 400);
    let switch = json!({ "claim": "group/staff" });
    let foreign =
        call("POST", &path).json(&switch).by(&live).with("origin", "https://evil.example");
    failure(&site.ask(foreign).await, 403);
    assert_eq!(live.identity().claim, "user/u1");
}

#[tokio::test]
async fn an_alias_is_what_the_user_is_called() {
    let site = Site::new();
    site.world.people.change(|account| {
        account.aliases.insert("nuvla".to_owned(), "5e6f".to_owned());
        account.email = "alice@example.org".to_owned();
    });
    let (live, _) = site.alice().await;
    let id = format!("/session/{}", live.id());
    let shown = body(&site.ask(call("GET", &id).by(&live)).await, 200);
    assert_eq!(
        (&shown["user"], &shown["active-claim"]),
        (&json!("user/5e6f"), &json!("user/5e6f"))
    );
    assert!(shown["roles"].as_str().unwrap().starts_with("user/5e6f "));
    let path = format!("{id}/switch-group");
    for claim in ["user/5e6f", "user/u1"] {
        let switch = call("POST", &path).json(&json!({ "claim": claim })).by(&live);
        // The session that asks is a generation old at the second switch.
        let status = site.ask(switch).await.status.as_u16();
        assert!(matches!(status, 200 | 409), "{claim}: {status}");
    }
    let peers = body(&site.ask(call("GET", &format!("{id}/get-peers")).by(&live)).await, 200);
    assert_eq!(peers, json!({ "user/5e6f": "alice@example.org" }));
}

#[tokio::test]
async fn groups_are_a_tree_and_peers_a_map() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let groups = format!("/session/{}/get-groups", live.id());
    let peers = format!("/session/{}/get-peers", live.id());
    for method in ["POST", "GET", "PUT", "DELETE"] {
        for request in [call(method, &groups), call(method, &groups).json(&Value::Null)] {
            let tree = body(&site.ask(request.by(&live)).await, 200);
            assert_eq!(tree[0]["id"], "group/staff");
            assert_eq!(tree[0]["children"][0]["id"], "group/ops");
            assert!(tree[0].get("description").is_none());
        }
        let map = body(&site.ask(call(method, &peers).by(&live)).await, 200);
        assert_eq!(map, json!({}), "nobody has an e-mail address");
    }
}

#[tokio::test]
async fn whatever_else_is_asked_for_is_refused() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let id = format!("/session/{}", live.id());
    let action = format!("{id}/activate");
    let (message, about) = failure(&site.ask(call("POST", &action).by(&live)).await, 404);
    assert_eq!(message, format!("undefined action (post, activate) for /api{action}"));
    assert_eq!(about, Some(format!("/api{action}")));
    for (method, path) in [
        ("PUT", id.as_str()),
        ("POST", id.as_str()),
        ("PATCH", id.as_str()),
        ("DELETE", "/session"),
        ("PATCH", "/session"),
        ("POST", "/session-template"),
        ("DELETE", "/session-template/password"),
        ("POST", "/cloud-entry-point"),
    ] {
        let reply = site.ask(call(method, path).by(&live)).await;
        let wanted = format!("invalid method ({}) for /api{path}", method.to_lowercase());
        assert_eq!(failure(&reply, 405), (wanted, Some(format!("/api{path}"))));
        assert!(value(&reply, "allow").unwrap().contains("OPTIONS"));
    }
    for path in ["/session/", "/session/a/b/c", "/session-template/", "/session-template/a/b"] {
        let (message, about) = failure(&site.ask(call("GET", path)).await, 404);
        assert_eq!((message.as_str(), about), ("unknown resource", Some(format!("/api{path}"))));
    }
    for path in ["/session", &id, &action, "/session-template", "/cloud-entry-point"] {
        let reply = site.ask(call("OPTIONS", path)).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_not_no_session() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    site.world.store.fail(true);
    let id = format!("/session/{}", live.id());
    let reply = site.ask(call("DELETE", &id).by(&live)).await;
    failure(&reply, 503);
    assert!(value(&reply, "retry-after").is_some());
    let other = "/session/00000000-0000-4000-8000-000000000000";
    failure(&site.ask(call("GET", other).by(&live)).await, 503);
}

#[tokio::test]
async fn the_entry_point_names_what_there_is() {
    let site = Site::new();
    let entry = body(&site.ask(call("GET", "/cloud-entry-point")).await, 200);
    assert_eq!(entry["base-uri"], "https://app.example.com/api/");
    assert_eq!(entry["collections"]["session"], json!({ "href": "session" }));
}

#[test]
fn only_sessions_and_templates_are_owned() {
    let site = Site::new();
    let headers = HeaderMap::new();
    let owns = |path| {
        let head =
            Head { method: &Method::GET, path, query: None, headers: &headers, has_body: false };
        site.nuvla.owns(&head)
    };
    for path in
        ["/session", "/session/x", "/session/x/y/z", "/session-template", "/session-template/x"]
    {
        assert_eq!(owns(path), Owns::Yes, "{path}");
    }
    assert_eq!(owns("/cloud-entry-point"), Owns::Unrouted);
    for path in
        ["/", "/sessions", "/user", "/credential/session", "/cloud-entry-point/x", "/session-x"]
    {
        assert_eq!(owns(path), Owns::No, "{path}");
    }
}

#[test]
fn every_failure_of_the_gateway_is_worded() {
    let site = Site::new();
    let headers = header_map(&[("accept", "text/html"), ("sec-fetch-mode", "navigate")]);
    let context = Context {
        headers: &headers,
        method: &Method::GET,
        request: "req-1",
        identity: None,
        target: "/api/user?x=1",
        host: "app.example.com",
        ip: None,
        stale: true,
        now: 0,
    };
    for (status, code) in [
        (400, "bad-target"),
        (401, "not-signed-in"),
        (403, "not-allowed"),
        (404, "no-route"),
        (405, "method-not-allowed"),
        (413, "body-too-large"),
        (429, "login-throttled"),
        (502, "bad-gateway"),
        (503, "session-store-unavailable"),
        (504, "timeout"),
    ] {
        let mut fault = Fault::new(StatusCode::from_u16(status).unwrap(), code, "Because.");
        fault.sign_in = status == 401;
        fault.retry_after = (status == 429).then(|| Duration::from_secs(7));
        let reply = site.nuvla.refuse(&fault, &context);
        let (message, about) = failure(&reply, status);
        match status {
            404 => assert_eq!(
                (message.as_str(), about.as_deref()),
                ("unknown resource", Some("/api/user"))
            ),
            405 => assert_eq!(message, "invalid method (get) for /api/user"),
            _ => assert_eq!((message.as_str(), about), ("Because.", None)),
        }
        assert!(value(&reply, "location").is_none());
        assert_eq!(value(&reply, "retry-after").is_some(), status == 429);
    }
}
