//! A page navigation is sent to the login, a program is told; decided by what the request says
//! about itself.

use super::problem;
use crate::support::client::NAVIGATION;
use crate::support::{Client, Gateway};

const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

#[tokio::test]
async fn navigations_go_to_the_login() {
    let gateway = Gateway::whoami();
    let requests: [&[(&str, &str)]; 3] = [
        NAVIGATION,
        // A browser or proxy that sends no Sec-Fetch headers.
        &[HTML],
        &[
            HTML,
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-site", "cross-site"),
        ],
    ];
    for headers in requests {
        for mut client in [gateway.client(), Client::h2(&gateway)] {
            let answer = client.get_with("/deep/page?x=1", headers).await;
            assert!(matches!(answer.status, 302 | 303), "{headers:?}: {}", answer.status);
            let location = answer.header("location").unwrap();
            let path = location.strip_prefix(gateway.origin()).unwrap_or(&location);
            assert!(path.starts_with("/auth/login"), "{location}");
        }
    }
}

#[tokio::test]
async fn programs_are_told() {
    let gateway = Gateway::whoami();
    let requests: [&[(&str, &str)]; 10] = [
        &[],
        &[("accept", "*/*")],
        &[("accept", "application/json")],
        &[HTML, ("x-requested-with", "XMLHttpRequest")],
        &[HTML, ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
        &[HTML, ("sec-fetch-mode", "same-origin"), ("sec-fetch-dest", "empty")],
        &[("accept", "image/*"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
        &[("accept", "text/event-stream"), ("sec-fetch-mode", "cors")],
        &[("accept", "application/json, text/plain, */*")],
        &[
            HTML,
            ("user-agent", "Mozilla/5.0"),
            ("sec-fetch-mode", "no-cors"),
            ("sec-fetch-dest", "script"),
        ],
    ];
    for headers in requests {
        for mut client in [gateway.client(), Client::h2(&gateway)] {
            let answer = client.get_with("/deep/page?x=1", headers).await;
            let document = problem(&answer, 401);
            let login = document["login_url"].as_str().unwrap_or_default();
            let path = login.strip_prefix(gateway.origin()).unwrap_or(login);
            assert!(path.starts_with("/auth/login"), "{headers:?}: {document}");
        }
    }
}

#[tokio::test]
async fn a_body_is_never_asked_for_again_elsewhere() {
    let gateway = Gateway::whoami();
    let mut client = gateway.client();
    let body = bytes::Bytes::from_static(b"{}");
    let json = [("content-type", "application/json"), ("accept", "application/json")];
    for method in [http::Method::POST, http::Method::PUT, http::Method::DELETE, http::Method::PATCH]
    {
        problem(&client.request(method, "/x", &json, body.clone()).await, 401);
    }
    // A form sent by a page may go to the login, but its body must not follow it there.
    let answer = client.post_form("/x", &[("a", "b")]).await;
    assert!(!matches!(answer.status, 307 | 308), "{}", answer.status);
    assert!(answer.status == 401 || answer.status == 303, "{}", answer.status);
}

#[tokio::test]
async fn who_lacks_a_group_is_told_which() {
    let gateway = Gateway::builder()
        .upstream_with("app", "builtin:whoami", "")
        .route("/eng/", "app", "{ groups = [\"eng\"] }", "")
        .route("/bob/", "app", "{ users = [\"u-bob\"] }", "")
        .private("/", "app")
        .start();
    let mut bob = gateway.signed_in("bob").await;
    let mut alice = gateway.signed_in("alice").await;
    alice.get("/eng/").await.expect(200);
    bob.get("/bob/").await.expect(200);
    problem(&bob.get("/eng/").await, 403);
    problem(&alice.get("/bob/x").await, 403);
    // A person reads why, as whom, and what to do: never a loop through the login.
    let page = bob.navigate("/eng/x").await.expect(403);
    assert!(page.is_html());
    assert!(page.text().contains("bob"), "{}", page.text());
    // Who is not signed in at all is asked to.
    problem(&gateway.client().get("/eng/").await, 401);
}

#[tokio::test]
async fn what_no_route_names_is_refused() {
    let gateway = Gateway::builder()
        .upstream_with("app", "builtin:whoami", "")
        .public("/public/", "app")
        .start();
    let mut client = gateway.signed_in("alice").await;
    client.get("/public/x").await.expect(200);
    for path in ["/", "/x", "/publi", "/publicx"] {
        assert!(matches!(client.get(path).await.status, 403 | 404), "{path}");
    }
}

#[tokio::test]
async fn operation_is_on_its_own_listener() {
    let gateway = Gateway::whoami();
    assert_eq!(gateway.admin_get("/livez").await.status, 200);
    assert_eq!(gateway.admin_get("/readyz").await.status, 200);
    let metrics = gateway.metrics().await;
    assert!(metrics.trim_end().ends_with("# EOF"), "{metrics}");
    for path in ["/livez", "/readyz", "/metrics"] {
        problem(&gateway.client().get(path).await, 401);
    }
}
