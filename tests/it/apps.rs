//! Real applications behind the gateway, none of them adapted, with their own client libraries.

use std::time::Duration;

use serde_json::Value;

use crate::support::client::COOKIE;
use crate::support::process::eventually;
use crate::support::tools::{App, run_python};
use crate::support::{Client, Gateway};

const LIMIT: Duration = Duration::from_secs(60);

/// The session cookie as a `Cookie` header has it.
fn cookie(client: &Client) -> String {
    format!("{COOKIE}={}", client.token().unwrap())
}

#[tokio::test]
async fn wsgi() {
    let app = App::wsgi("wsgi_echo");
    let gateway = Gateway::in_front_of(app.addr());
    let mut client = gateway.signed_in("alice").await;
    let spoofed = [
        ("x-auth-user", "evil"),
        ("x_auth_user", "evil"),
        ("X_Auth_Groups", "evil"),
        ("x.auth.email", "evil"),
        ("x_forwarded_for", "evil"),
        ("x-forwarded-for", "evil"),
    ];
    let seen = client.get_with("/a/b?q=1", &spoofed).await.expect(200).json();
    assert!(!seen.to_string().contains("evil"), "{seen}");
    assert_eq!(seen["HTTP_X_AUTH_USER"], "u-alice");
    assert_eq!(seen["HTTP_X_AUTH_EMAIL"], "alice@example.org");
    assert_eq!(seen["HTTP_X_FORWARDED_FOR"], "127.0.0.1");
    assert_eq!(seen["HTTP_X_FORWARDED_PROTO"], "https");
    assert_eq!(seen["PATH_INFO"], "/a/b");
    assert_eq!(seen["QUERY_STRING"], "q=1");
    assert!(seen.get("HTTP_COOKIE").is_none_or(|cookie| cookie == ""), "{seen}");

    let public = gateway.client().get_with("/public/x", &spoofed).await.expect(200).json();
    let identity = |document: &Value| {
        let fields = document.as_object().unwrap();
        fields.keys().filter(|name| name.starts_with("HTTP_X_AUTH")).count()
    };
    assert_eq!(identity(&public), 0, "{public}");

    let posted = client.post_form("/form", &[("a", "1 2"), ("b", "ä")]).await.expect(200).json();
    assert_eq!(posted["body"], "a=1+2&b=%C3%A4");
}

#[tokio::test]
async fn websocket() {
    let app = App::python("ws_echo.py");
    let gateway = Gateway::in_front_of(app.addr());
    let client = gateway.signed_in("alice").await;
    let url = gateway.origin().replace("https://", "wss://") + "/ws";
    let certificate = gateway.certificate();
    let certificate = certificate.to_str().unwrap();
    let args = [&url, certificate, &cookie(&client), gateway.origin(), "u-alice"];
    assert_eq!(run_python("ws_client.py", &args, LIMIT).success().trim(), "ok");
}

#[tokio::test]
async fn server_sent_events() {
    let app = App::python("sse.py");
    let gateway = Gateway::in_front_of(app.addr());
    let mut client = gateway.signed_in("alice").await;
    let mut raw = gateway.raw().await;
    let host = gateway.authority().to_owned();
    let cookie = cookie(&client);
    raw.send(format!("GET /events HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n")).await;
    raw.until("data: user u-alice\n\n").await;
    // The next is said only when the one before has come: nothing may be held back.
    for number in 0..20 {
        let event = format!("event {number}");
        let body = bytes::Bytes::from(event.clone());
        client.request(http::Method::POST, "/say", &[], body).await.expect(204);
        raw.until(&format!("data: {event}\n\n")).await;
    }
}

#[tokio::test]
async fn grpc() {
    let app = App::python("grpc_echo.py");
    let gateway = Gateway::builder()
        .upstream_with("app", &format!("http://{}", app.addr()), "protocol = \"h2c\"")
        .private("/", "app")
        .start();
    let client = gateway.signed_in("alice").await;
    let certificate = gateway.certificate();
    let args =
        [gateway.authority(), certificate.to_str().unwrap(), client.token().unwrap(), "u-alice"];
    assert_eq!(run_python("grpc_client.py", &args, LIMIT).success().trim(), "ok");
}

/// The largest rise of the gateway's memory while a file passes, in KiB.
const MAX_RISE: u64 = 16 * 1024;
const GIB: &str = "1073741824";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_files_need_no_memory() {
    let app = App::python("bigfile.py");
    let gateway = Gateway::in_front_of(app.addr());
    let client = gateway.signed_in("alice").await;
    let (host, port) = gateway.authority().split_once(':').unwrap();
    let certificate = gateway.certificate();
    let certificate = certificate.to_str().unwrap();
    let cookie = cookie(&client);
    let run = |direction: &str, size: &str| {
        let args = [direction, host, port, certificate, &cookie, size];
        let limit = Duration::from_secs(300);
        assert_eq!(run_python("bigfile_client.py", &args, limit).success().trim(), "ok");
    };
    for direction in ["upload", "download"] {
        // Buffers and thread stacks that are made once are no leak.
        run(direction, "1048576");
        gateway.forget_peak();
        let before = gateway.resident();
        run(direction, GIB);
        let rise = gateway.peak().saturating_sub(before);
        assert!(rise <= MAX_RISE, "{direction}: {before} KiB before, {rise} KiB more at the peak");
    }
    // And nothing is left open.
    eventually("the connections to close", || {
        let sockets = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
        (sockets < 200).then_some(())
    })
    .await;
}
