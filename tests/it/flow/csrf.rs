//! Other origins can neither sign somebody in nor out nor change anything, and no login leads
//! away from here.

use serde_json::json;

use crate::support::client::COOKIE;
use crate::support::gateway::password;
use crate::support::html::form_with;
use crate::support::{Client, Gateway, Response};

/// Ways in which a browser says that a request comes from elsewhere.
const FOREIGN: &[&[(&str, &str)]] = &[
    &[("origin", "https://evil.example")],
    &[("origin", "null")],
    &[("sec-fetch-site", "cross-site")],
    &[("sec-fetch-site", "same-site")],
    &[("origin", "https://localhost.evil.example"), ("sec-fetch-site", "cross-site")],
];

async fn form(client: &mut Client, path: &str, body: &str, more: &[(&str, &str)]) -> Response {
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    headers.extend_from_slice(more);
    let body = bytes::Bytes::from(body.to_owned());
    client.request(http::Method::POST, path, &headers, body).await
}

#[tokio::test]
async fn nobody_is_signed_in_from_elsewhere() {
    let gateway = Gateway::whoami();
    let mut client = gateway.client();
    let body = format!("username=alice&password={}", password("alice"));
    let document = json!({ "username": "alice", "password": password("alice") });
    for foreign in FOREIGN {
        let answer = form(&mut client, "/auth/login", &body, foreign).await;
        assert_eq!(answer.status, 403, "{foreign:?}");
        assert!(!answer.all("set-cookie").iter().any(|c| c.starts_with(COOKIE)), "{foreign:?}");
        let answer = client.post_json_with("/auth/session", &document, foreign).await;
        assert_eq!(answer.status, 403, "{foreign:?}");
        assert!(client.token().is_none());
    }
    // JSON in disguise, which a form on another page could send.
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let body = bytes::Bytes::from(document.to_string());
        let headers = [("content-type", kind)];
        let answer = client.request(http::Method::POST, "/auth/session", &headers, body).await;
        assert_eq!(answer.status, 415, "{kind}");
    }
}

#[tokio::test]
async fn nothing_is_changed_from_elsewhere() {
    let gateway = Gateway::whoami();
    let mut client = gateway.signed_in("alice").await;
    let token = client.token().unwrap().to_owned();
    for foreign in FOREIGN {
        let empty = bytes::Bytes::new();
        let answer = client.request(http::Method::DELETE, "/auth/session", foreign, empty).await;
        assert_eq!(answer.status, 403, "{foreign:?}");
        let answer = form(&mut client, "/auth/logout", "", foreign).await;
        assert_eq!(answer.status, 403, "{foreign:?}");
        let claim = json!({ "claim": "group/eng" });
        let answer = client.post_json_with("/auth/switch", &claim, foreign).await;
        assert_eq!(answer.status, 403, "{foreign:?}");
    }
    // Reading changes nothing, whoever asks.
    for path in ["/auth/logout", "/auth/switch?claim=group/eng", "/auth/account"] {
        client.navigate(path).await;
    }
    assert_eq!(client.token(), Some(token.as_str()));
    let session = client.get("/auth/session").await.expect(200).json();
    assert!(super::mentions(&session, "user/u-alice"), "{session}");
}

#[tokio::test]
async fn a_login_never_leads_away() {
    let gateway = Gateway::whoami();
    let targets = [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "\\\\evil.example/",
        "/\t/evil.example/",
        "\t//evil.example/",
        "https:evil.example",
        "https:/evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "/%2f/evil.example",
        "/%5cevil.example",
        "http://localhost:1/",
        "https://user@evil.example/",
        "/x\r\nSet-Cookie: evil=1",
        "/x%0d%0aSet-Cookie:%20evil=1",
        "//localhost@evil.example",
        "https://localhost.evil.example/",
        ".evil.example",
        "@evil.example",
        " https://evil.example",
        "/.//evil.example",
        "/..//evil.example",
        "",
    ];
    for target in targets {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("next", target)
            .finish();
        let mut client = gateway.client();
        let page = format!("/auth/login?{query}");
        let html = client.navigate(&page).await.expect(200).text();
        let mut login = form_with(&html, "password")
            .fill("username", "alice")
            .fill("password", &password("alice"));
        let answer = if login.has("next") {
            login = login.fill("next", target);
            client.submit(&page, &login).await
        } else {
            client.submit(&page, &login).await
        };
        // Refusing such a target is as good as dropping it.
        if answer.status == 400 {
            continue;
        }
        assert!(answer.is_redirect(), "{target:?}: {} {}", answer.status, answer.text());
        let location = answer.header("location").unwrap();
        let base = url::Url::parse(gateway.origin()).unwrap();
        let landed = base.join(&location).unwrap();
        assert_eq!(landed.origin(), base.origin(), "{target:?} led to {location:?}");
        assert!(!answer.all("set-cookie").iter().any(|c| c.starts_with("evil")), "{target:?}");
    }
}
