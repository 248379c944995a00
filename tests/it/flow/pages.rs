//! The pages as a browser without JavaScript uses them.

use crate::support::gateway::password;
use crate::support::html::{form_with, forms, unescape};
use crate::support::{Client, Gateway, Response};

/// Follows the redirect to the login; gives the page's path and its text.
async fn bounced(client: &mut Client, gateway: &Gateway, target: &str) -> (String, String) {
    let answer = client.navigate(target).await;
    assert!(answer.is_redirect(), "{}", answer.status);
    let page = local(gateway, &answer);
    let html = client.navigate(&page).await.expect(200);
    assert!(html.is_html());
    (page, html.text())
}

/// The path and query of a redirect, which must stay here.
fn local(gateway: &Gateway, answer: &Response) -> String {
    let location = answer.header("location").unwrap();
    let base = url::Url::parse(gateway.origin()).unwrap();
    let target = base.join(&location).unwrap();
    assert_eq!(target.origin(), base.origin(), "{location}");
    target[url::Position::BeforePath..url::Position::AfterQuery].to_owned()
}

/// Where an answer or, without a redirect, the page in it leads by itself.
fn onward(gateway: &Gateway, answer: &Response) -> String {
    if answer.is_redirect() {
        return local(gateway, answer);
    }
    let html = answer.text();
    let refresh =
        html.split("http-equiv=\"refresh\"").nth(1).and_then(|rest| rest.split('"').nth(1));
    let url = refresh.and_then(|content| content.split_once("url="));
    let (_, url) = url.unwrap_or_else(|| panic!("leads nowhere: {} {html}", answer.status));
    unescape(url).trim_start_matches(gateway.origin()).to_owned()
}

async fn log_in(
    client: &mut Client,
    page: &str,
    html: &str,
    user: &str,
    password: &str,
) -> Response {
    let form = form_with(html, "password").fill("username", user).fill("password", password);
    client.submit(page, &form).await
}

#[tokio::test]
async fn the_login_leads_back() {
    let gateway = Gateway::whoami();
    let mut client = gateway.client();
    let target = "/deep/page?x=1&y=a%20b&z=%26";
    let (page, html) = bounced(&mut client, &gateway, target).await;

    let wrong = log_in(&mut client, &page, &html, "alice", "wrong").await;
    assert!(matches!(wrong.status, 200 | 401 | 403 | 422), "{}", wrong.status);
    assert!(client.token().is_none());
    // The page stays usable: same target, name kept, password not.
    let html = wrong.text();
    let again = form_with(&html, "password");
    assert!(again.fields.contains(&("username".to_owned(), "alice".to_owned())), "{again:?}");
    assert!(again.fields.contains(&("password".to_owned(), String::new())), "{again:?}");

    let right = log_in(&mut client, &page, &html, "alice", &password("alice")).await;
    assert!(matches!(right.status, 302 | 303), "{} {}", right.status, right.text());
    let mut next = local(&gateway, &right);
    // A page of our own may stand between; it needs no script to go on.
    if next.starts_with("/auth/") {
        next = onward(&gateway, &client.navigate(&next).await);
    }
    assert_eq!(next, target);
    client.navigate(&next).await.expect(200);
}

#[tokio::test]
async fn several_tabs_can_log_in() {
    let gateway = Gateway::whoami();
    let mut client = gateway.client();
    let one = bounced(&mut client, &gateway, "/one").await;
    let two = bounced(&mut client, &gateway, "/two").await;
    let secret = password("alice");
    assert!(log_in(&mut client, &two.0, &two.1, "alice", &secret).await.is_redirect());
    assert!(log_in(&mut client, &one.0, &one.1, "alice", &secret).await.is_redirect());
    client.get("/auth/session").await.expect(200);
}

#[tokio::test]
async fn the_login_page_helps_password_managers_and_lets_nothing_in() {
    let gateway = Gateway::whoami();
    let mut client = gateway.client();
    let page = client.navigate("/auth/login?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").await;
    let html = page.text();
    assert!(html.contains("autocomplete=\"username\""), "{html}");
    assert!(html.contains("autocomplete=\"current-password\""), "{html}");
    assert!(!html.contains("<script>alert"), "{html}");
    let policy = page.header("content-security-policy").expect("no CSP");
    assert!(
        policy.contains("default-src 'none'") || policy.contains("default-src 'self'"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe-inline"), "{policy}");
    assert_eq!(page.header("x-content-type-options").as_deref(), Some("nosniff"));
    assert!(page.header("referrer-policy").is_some());
    // Not for localhost: it would reach every other service on that name.
    assert!(page.header("strict-transport-security").is_none());
}

#[tokio::test]
async fn a_name_is_text_wherever_it_is_shown() {
    let gateway = Gateway::whoami();
    let mut client = gateway.client();
    let html = client.navigate("/auth/login").await.expect(200).text();
    let name = "\"><img src=x onerror=alert(1)>";
    let answer = log_in(&mut client, "/auth/login", &html, name, "wrong").await;
    assert!(!answer.text().contains("<img src=x"), "{}", answer.text());
}

#[tokio::test]
async fn logging_out_asks_first() {
    let gateway = Gateway::whoami();
    let mut client = gateway.signed_in("alice").await;
    let page = client.navigate("/auth/logout").await.expect(200).text();
    client.get("/auth/session").await.expect(200);
    let form = forms(&page)
        .into_iter()
        .find(|form| {
            form.method == "post" && (form.action.contains("logout") || form.action.is_empty())
        })
        .unwrap_or_else(|| panic!("no form to log out with:\n{page}"));
    let mut old = client.tab();
    let answer = client.submit("/auth/logout", &form).await;
    assert!(answer.status == 200 || answer.is_redirect(), "{}", answer.status);
    assert!(client.token().is_none());
    assert_eq!(old.get("/auth/session").await.status, 401);
}

#[tokio::test]
async fn the_account_page_shows_and_does() {
    let gateway = Gateway::whoami();
    let mut client = gateway.signed_in("alice").await;
    let mut elsewhere = gateway.signed_in("alice").await;
    let page = client.navigate("/auth/account").await.expect(200).text();
    assert!(page.contains("Alice Example"), "{page}");
    let claim = forms(&page)
        .into_iter()
        .find(|form| form.fields.contains(&("claim".to_owned(), "group/eng".to_owned())))
        .unwrap_or_else(|| panic!("no one-click switch to group/eng:\n{page}"));
    assert_eq!(claim.fields.iter().filter(|(name, _)| name == "claim").count(), 1, "{claim:?}");
    let answer = client.submit("/auth/account", &claim).await;
    assert!(answer.is_redirect() || answer.status == 200, "{}", answer.status);
    let session = client.get("/auth/session").await.expect(200).json();
    assert!(super::mentions(&session, "group/eng"), "{session}");
    elsewhere.get("/auth/session").await.expect(200);
    // Nothing of it for who is not signed in.
    let answer = gateway.client().navigate("/auth/account").await;
    assert!(answer.is_redirect(), "{}", answer.status);
}

/// A port where nobody listens.
fn nobody() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn no_page_of_ours_can_be_framed_or_kept() {
    let gateway = Gateway::builder()
        .upstream_with("app", "builtin:whoami", "")
        .upstream("gone", nobody())
        .public("/gone/", "gone")
        .route("/forbidden/", "app", "{ groups = [\"nobody-is-in-it\"] }", "")
        .route("/read/", "app", "\"anyone\"", "methods = [\"GET\"]")
        .private("/in/", "app")
        .start();
    let mut anybody = gateway.client();
    let mut alice = gateway.signed_in("alice").await;
    let mut seen = Vec::new();
    for (client, paths) in [
        (
            &mut anybody,
            &[
                "/auth/login",
                "/auth/login?next=%2Fx",
                "/auth/logged-out",
                "/auth/continue?next=%2Fx",
                "/auth/nothing",
                "/auth/static/nothing.css",
                "/gone/x",
                "/nothing",
                "/in/a//b",
                "/in/%2e%2e/x",
            ][..],
        ),
        (&mut alice, &["/auth/account", "/auth/logout", "/auth/login", "/forbidden/x", "/in/x"]),
    ] {
        for path in paths {
            seen.push((*path, client.navigate(path).await));
        }
    }
    let fields = [("username", "alice"), ("password", "wrong")];
    seen.push(("wrong", anybody.post_form("/auth/login", &fields).await.expect(401)));
    seen.push(("post", anybody.post_form("/read/x", &[]).await.expect(405)));
    seen.push(("switch", alice.post_form("/auth/switch", &[("claim", "x")]).await));
    let mut statuses = std::collections::BTreeSet::new();
    for (what, answer) in seen {
        statuses.insert(answer.status);
        if answer.is_redirect() {
            continue;
        }
        assert!(answer.is_html(), "{what}: {} {}", answer.status, answer.text());
        let of = |name: &str| answer.header(name).unwrap_or_default();
        assert_eq!(of("x-frame-options"), "DENY", "{what}");
        assert_eq!(of("x-content-type-options"), "nosniff", "{what}");
        let policy = of("content-security-policy");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{what}: no {part} in {policy}");
        }
        assert!(policy.contains("form-action 'self'"), "{what}: {policy}");
        assert!(!policy.contains("unsafe"), "{what}: {policy}");
        assert!(of("cache-control").contains("no-store"), "{what}: {}", of("cache-control"));
    }
    for status in [200, 400, 401, 403, 404, 405, 502] {
        assert!(statuses.contains(&status), "no page with {status}: {statuses:?}");
    }
}
