//! API keys by form and by JSON.

use super::*;

#[tokio::test]
async fn json_makes_lists_and_revokes_keys() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let make = r#"{"name":"nightly","expires":"90d"}"#;
    let reply = site.ask(call("POST", "/keys", make).by(&live)).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(value(&reply, "cache-control").as_deref(), Some("no-store"));
    let key = body(&reply);
    let (id, secret) = (key["id"].as_str().unwrap(), key["secret"].as_str().unwrap());
    assert!(id.starts_with("credential/") && secret.len() == 34, "{key}");
    assert_eq!((&key["name"], &key["owner"]), (&"nightly".into(), &"user/u1".into()));
    let life = key["expires_unix"].as_u64().unwrap() - key["created_unix"].as_u64().unwrap();
    assert_eq!(life, 90 * 86_400);
    let reply = site.ask(call("POST", "/keys", "{}").by(&live)).await;
    assert!(body(&reply).get("expires").is_none());
    let listed = site.ask(call("GET", "/keys", "").by(&live)).await;
    assert!(!text(&listed).contains(secret) && !text(&listed).contains("secret"));
    assert_eq!(body(&listed)["keys"].as_array().unwrap().len(), 2);
    let bare = id.strip_prefix("credential/").unwrap();
    let path = format!("/keys/{bare}");
    let reply = site.ask(call("DELETE", &path, "").by(&live)).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    problem(&site.ask(call("DELETE", &path, "").by(&live)).await, 404, "not-found");
    let listed = site.ask(call("GET", "/keys", "").by(&live)).await;
    assert_eq!(body(&listed)["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn forms_make_and_revoke_keys() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    let reply = site.ask(post("/keys/create", "name=%3Cb%3E&expires=").by(&live)).await;
    assert!(reply.status == StatusCode::OK && is_page(&reply));
    let page = text(&reply);
    let id = page.split("credential/").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let secret = page.split("<code>").nth(2).unwrap().split('<').next().unwrap().to_owned();
    assert_eq!(secret.split('.').count(), 5, "{page}");
    assert!(page.contains("&lt;b&gt;"));
    let account = text(&site.ask(get("/account").by(&live)).await);
    assert!(account.contains(&id) && !account.contains(&secret), "{account}");
    let revoke = post("/keys/revoke", &format!("id={id}")).by(&live);
    let reply = site.ask(revoke.clone()).await;
    assert_eq!(location(&reply), "/auth/account?notice=key-revoked");
    assert_eq!(location(&site.ask(revoke).await), "/auth/account?notice=key-not-found");
    let account = text(&site.ask(get("/account").by(&live)).await);
    assert!(!account.contains(&id), "{account}");
}

#[tokio::test]
async fn keys_need_a_person_and_a_sound_request() {
    let site = Site::new();
    let (live, _) = site.alice().await;
    for (method, path) in [("GET", "/keys"), ("DELETE", "/keys/x"), ("POST", "/keys")] {
        let sent = if method == "POST" { "{}" } else { "" };
        let reply = site.ask(call(method, path, sent).with("accept", HTML.1)).await;
        problem(&reply, 401, "not-signed-in");
    }
    for bad in ["soon", "0s", "9999999d", "-1d"] {
        let sent = format!("{{\"expires\":\"{bad}\"}}");
        problem(&site.ask(call("POST", "/keys", &sent).by(&live)).await, 400, "malformed-body");
    }
    for path in ["/keys/create", "/keys/revoke"] {
        let foreign = post(path, "id=x").by(&live).with("origin", "https://evil.example");
        assert_eq!(site.ask(foreign).await.status, StatusCode::FORBIDDEN, "{path}");
        let reply = site.ask(call("GET", path, "").by(&live)).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    let foreign = call("POST", "/keys", "{}").by(&live).with("origin", "https://evil.example");
    assert_eq!(site.ask(foreign).await.status, StatusCode::FORBIDDEN);
    assert!(
        body(&site.ask(call("GET", "/keys", "").by(&live)).await)["keys"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}
