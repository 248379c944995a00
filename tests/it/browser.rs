//! A real browser, driven as a person would use it.

use std::time::Duration;

use crate::support::gateway::password;
use crate::support::tools::{App, run_browser};
use crate::support::{Gateway, Reply, Upstream};

#[tokio::test]
async fn a_person_signs_in_switches_and_leaves() {
    let gateway = Gateway::whoami();
    let args = [gateway.origin(), "alice", &password("alice"), "group/eng"];
    let output = run_browser("flow.mjs", &args, Duration::from_secs(180)).success();
    // Every step says so; a script that ends early must not look like a success.
    for step in [
        "login page",
        "wrong password",
        "landed",
        "second tab",
        "claim switched",
        "logged out",
        "back button",
    ] {
        assert!(output.contains(&format!("ok {step}")), "no `{step}` in:\n{output}");
    }
}

/// An app with a page that names who looks at it; it says nothing about being kept.
fn app() -> Upstream {
    Upstream::answering(|request| {
        let user = request.header("x-auth-user").unwrap_or_else(|| "nobody".to_owned());
        let page = format!("<!doctype html><title>app</title><p>{user}");
        Reply::status("200 OK", "Content-Type: text/html; charset=utf-8\r\n", &page)
    })
}

#[tokio::test]
async fn other_sites_and_other_tabs_get_nothing() {
    let (app, sockets) = (app(), App::python("ws_echo.py"));
    let gateway = Gateway::builder()
        .set("server", "hosts", "[\"app.example.test\"]")
        .upstream("app", app.addr())
        .route("/forbidden/", "app", "{ groups = [\"nobody-is-in-it\"] }", "")
        .private("/app", "app")
        .upstream("sockets", sockets.addr())
        .private("/ws", "sockets")
        .private("/x", "app")
        .start();
    let port = gateway.addr().port().to_string();
    let certs = gateway.dir().join("certs");
    let [cert, key] = ["localhost.pem", "localhost.key"].map(|name| certs.join(name));
    let (of_alice, of_bob) = (password("alice"), password("bob"));
    let args =
        [&port, cert.to_str().unwrap(), key.to_str().unwrap(), "alice", &of_alice, "bob", &of_bob];
    let output = run_browser("attack.mjs", &args, Duration::from_secs(400)).success();
    println!("{output}");
    for step in [
        "no site signs in or out or changes anything",
        "no site opens a socket",
        "no site frames an own page",
        "a sibling's cookies change nobody",
        "a cookie bomb is no loop",
        "no sign-in leads away",
        "nothing is reflected as markup",
        "nothing is left after a logout",
        "a form is its user's own",
    ] {
        assert!(output.contains(&format!("ok {step}")), "no `{step}` in:\n{output}");
    }
    // What reached the app came from its own pages.
    let own = format!("https://app.example.test:{port}");
    for request in app.requests() {
        let origin = request.header("origin").unwrap_or_else(|| own.clone());
        assert_eq!(origin, own, "{} {}", request.method, request.target);
    }
}
