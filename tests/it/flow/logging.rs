//! What is written down: enough to follow what happened, and no secret.

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use crate::support::client::COOKIE;
use crate::support::gateway::password;
use crate::support::process::eventually;
use crate::support::{Gateway, Reply, Upstream};

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut client = gateway.signed_in("alice").await;
    let first = client.token().unwrap().to_owned();
    client.get("/x?token=canary-in-a-query").await.expect(200);
    client.try_sign_in("bob", "canary-wrong-password").await.expect(401);
    let bearer = [("authorization", "Bearer canary.bearer"), ("cookie", "app=canary-app-cookie")];
    client.get_with("/x", &bearer).await;
    let mut forger = gateway.client();
    forger.set_cookie(COOKIE, "AAAAAAAAAAAAAAAAAAAAAA.canary-forged-secret");
    forger.get("/x").await.expect(401);
    client.delete("/auth/session").await;
    let metrics = gateway.metrics().await;
    // The log is written off the request path: wait for the last thing that was done.
    eventually("the log lines", || (gateway.log().len() > 5).then_some(())).await;
    let written = gateway.output() + &metrics;
    let secret = first.split('.').nth(1).unwrap();
    for canary in [
        secret,
        &password("alice"),
        "canary-wrong-password",
        "canary.bearer",
        "canary-app-cookie",
        "canary-forged-secret",
    ] {
        assert!(!written.contains(canary), "{canary} was written");
    }
    // Nor does a file on disk hold it in a form that can be used.
    let mut folders = vec![gateway.dir().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if !path.is_file() {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let found = crate::support::wire::find(&bytes, secret.as_bytes());
            assert!(found.is_none(), "the secret is in {}", path.display());
        }
    }
}

/// An answer that was cut looked like a whole one.
#[tokio::test]
async fn whoever_ended_an_answer_early_is_told() {
    let upstream = Upstream::answering(|request| match request.target.as_str() {
        "/whole" => Reply::ok("whole"),
        "/half" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").then_close(),
        _ => Reply::sse().event("first").then_hang(),
    });
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut client = gateway.signed_in("alice").await;
    client.get("/whole").await.expect(200);
    assert!(client.try_request(Method::HEAD, "/whole", &[], Bytes::new()).await.is_ok());
    let _ = client.try_request(Method::GET, "/half", &[], Bytes::new()).await;
    let cookie = format!("Cookie: {COOKIE}={}\r\n", client.token().unwrap());
    for path in ["/left", "/ended"] {
        let mut raw = gateway.raw().await;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{cookie}\r\n", gateway.authority());
        raw.send(head).await;
        raw.until("first").await;
        match path {
            "/left" => drop(raw),
            _ => {
                client.delete("/auth/session").await;
                let _ = raw.reader.rest().await;
            }
        }
    }
    let cut = |path: &str| {
        let log = gateway.log();
        log.iter()
            .find(|line| line["path"] == path && line["status"] == 200)
            .map(|line| line["cut"].clone())
    };
    for (path, wanted) in [
        ("/whole", Value::Null),
        ("/half", "app".into()),
        ("/left", "client".into()),
        ("/ended", "session".into()),
    ] {
        let found = eventually(path, || cut(path)).await;
        assert_eq!(found, wanted, "{path}");
    }
    assert!(gateway.log().iter().all(|line| line["path"] != "/whole" || line["cut"].is_null()));
}

#[tokio::test]
async fn what_happened_can_be_followed() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut client = gateway.client();
    let refused = client.get("/x").await;
    let id = super::problem(&refused, 401)["request_id"].as_str().unwrap().to_owned();
    // A name that tries to write lines of its own.
    client.try_sign_in("evil\r\n{\"forged\":true}\u{1b}[31m", "x").await.expect(401);
    client.sign_in("alice").await;
    client.get("/seen").await.expect(200);
    let seen = upstream.last().header("x-request-id").expect("no request id upstream");
    let log = eventually("both requests in the log", || {
        let log = gateway.log();
        let has = |id: &str| log.iter().any(|line| super::mentions(line, id));
        (has(&id) && has(&seen)).then_some(log.clone())
    })
    .await;
    assert!(!log.iter().any(|line| line["forged"] == Value::Bool(true)));
    assert!(!gateway.output().contains('\u{1b}'), "escape sequences in the log");
}
