//! Open streams end with their session: WebSockets, events and downloads, however the session ends.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;

use crate::support::h2raw::{DATA, END_HEADERS, H2Raw, HEADERS, Outcome, block, get};
use crate::support::open::{Open, SOON, cookie, upload, upstream};
use crate::support::process::{PATIENCE, eventually};
use crate::support::rest::Rest;
use crate::support::upstream::Gate;
use crate::support::{Gateway, Raw, Reply, Upstream};

#[tokio::test]
async fn another_session_ends_them() {
    let upstream = upstream();
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut here = gateway.signed_in("alice").await;
    let mut there = gateway.signed_in("alice").await;
    let mut bystander = Raw::websocket(&gateway, &here, "/ws").await;
    gateway.metric_is("portcullis_streams_open", |open| open == 1.0).await;
    let before = Rest::of(&gateway, &upstream).await;
    let own = there.get("/auth/session").await.expect(200).json();
    let open = Open::under(&gateway, &there).await;
    let path = format!("/auth/sessions/{}", own["id"].as_str().unwrap());
    here.delete(&path).await.expect(204);
    open.are_cut(Instant::now()).await;
    bystander.echo("still here").await;
    // Nothing of it is left behind.
    before.is_back(&gateway, &upstream).await;
    gateway.metric_is("portcullis_tunnels_open", |open| open == 1.0).await;
}

#[tokio::test]
async fn disabling_the_user_ends_them() {
    let upstream = upstream();
    let gateway = Gateway::in_front_of(upstream.addr());
    let client = gateway.signed_in("bob").await;
    let open = Open::under(&gateway, &client).await;
    gateway.cli(&["user", "disable", "bob"]).success();
    let begun = Instant::now();
    gateway.reload();
    open.are_cut(begun).await;
}

#[tokio::test]
async fn an_operator_ends_them() {
    let upstream = upstream();
    let gateway = Gateway::in_front_of(upstream.addr());
    let client = gateway.signed_in("bob").await;
    let open = Open::under(&gateway, &client).await;
    gateway.cli(&["session", "revoke", "--user", "bob"]).success();
    open.are_cut(Instant::now()).await;
}

#[tokio::test]
async fn expiry_ends_them_under_constant_use() {
    let upstream = upstream();
    let gateway = Gateway::builder()
        .set("session", "lifetime", "\"3s\"")
        .set("session", "idle", "\"3s\"")
        .upstream("app", upstream.addr())
        .private("/", "app")
        .start();
    let client = gateway.signed_in("alice").await;
    let expires = Instant::now() + Duration::from_secs(3);
    let open = Open::under(&gateway, &client).await;
    let mut user = client.tab();
    while Instant::now() < expires {
        user.get("/x").await;
    }
    open.are_cut(Instant::now()).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_nothing() {
    let upstream = upstream();
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut client = gateway.signed_in("alice").await;
    let (host, cookie) = (gateway.authority().to_owned(), cookie(&client));
    let mut stalled = gateway.raw().await;
    stalled.send(format!("GET /large HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n")).await;
    stalled.until("\r\n\r\nxxxx").await;
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 1.0).await;
    client.delete("/auth/session").await.expect(204);
    let begun = Instant::now();
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
    assert!(begun.elapsed() < 2 * SOON, "held for {:?}", begun.elapsed());
    assert_eq!(upstream.abandoned(), 1);
}

#[tokio::test]
async fn what_is_passive_is_no_use_of_the_session() {
    let upstream = upstream();
    let gateway = Gateway::builder()
        .set("session", "idle", "\"2s\"")
        .upstream("app", upstream.addr())
        .route("/passive/", "app", "\"authenticated\"", "passive = true")
        .private("/", "app")
        .start();
    let (mut idle, mut used) = (gateway.signed_in("alice").await, gateway.signed_in("bob").await);
    let mut socket = Raw::websocket(&gateway, &idle, "/passive/ws").await;
    let mut active = Raw::websocket(&gateway, &used, "/ws").await;
    let end = Instant::now() + PATIENCE;
    // Polling keeps nobody signed in; a person who types does.
    while idle.get("/passive/x").await.status == 200 {
        assert!(Instant::now() < end, "polling keeps the session alive");
        socket.say("heartbeat").await;
        active.echo("typed").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(socket.close_code(SOON).await, Some(4401));
    active.echo("still here").await;
    used.get("/x").await.expect(200);
}

#[tokio::test]
async fn an_answer_that_comes_after_the_end_is_not_handed_on() {
    let gate = Gate::closed();
    let upstream = {
        let gate = gate.clone();
        Upstream::answering(move |_| {
            let late = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";
            Reply::raw("").wait(&gate).then(late)
        })
    };
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut client = gateway.signed_in("alice").await;
    let (mut reads, mut writes) = (client.tab(), client.tab());
    let write = [("origin", gateway.origin())];
    let ((read, written), ()) = tokio::join!(
        async {
            tokio::join!(
                reads.get("/x"),
                writes.try_request(Method::POST, "/x", &write, Bytes::from_static(b"hello")),
            )
        },
        async {
            upstream.received(2).await;
            client.delete("/auth/session").await.expect(204);
            gate.open();
        }
    );
    assert_eq!(read.expect(401).json()["code"], "not-signed-in");
    // What the app has done must not look as if it had not been done: the connection is cut.
    assert!(!written.is_ok_and(|answer| answer.text().contains("secret")), "handed on");
}

/// Uploads went on for as long as they liked, in the name of somebody who had signed out.
#[tokio::test]
async fn an_upload_ends_with_its_session() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut client = gateway.signed_in("alice").await;
    let (host, cookie) = (gateway.authority().to_owned(), cookie(&client));
    let mut raw = upload(&gateway, &client).await;
    let mut h2 = H2Raw::connect(&gateway).await;
    let (_, value) = cookie.trim_end().split_once(": ").unwrap();
    let mut head = get(&host, "/y");
    head[0].1 = "POST";
    head.push(("cookie", value));
    h2.frame(HEADERS, END_HEADERS, 1, &block(&head)).await;
    h2.frame(DATA, 0, 1, b"hello").await;
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 2.0).await;
    client.delete("/auth/session").await.expect(204);
    let begun = Instant::now();
    let refused = tokio::time::timeout(PATIENCE, raw.until("HTTP/1.1 401 ")).await;
    refused.expect("an upload goes on");
    assert_eq!(h2.outcome(1).await, Outcome::Status(401));
    assert!(begun.elapsed() < 2 * SOON, "went on for {:?}", begun.elapsed());
    // Neither app took half of it for the whole.
    gateway.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
    eventually("both uploads to break off", || {
        let cut = upstream.requests().iter().filter(|request| request.body.truncated).count();
        (cut == 2).then_some(())
    })
    .await;
}

/// The same behind an answer that came early.
#[tokio::test]
async fn an_upload_behind_its_answer_ends_with_its_session() {
    let early = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
    let upstream = Upstream::answering(move |_| Reply::early(early).then_read());
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut client = gateway.signed_in("alice").await;
    let mut raw = upload(&gateway, &client).await;
    raw.until("\r\n\r\nearly").await;
    client.delete("/auth/session").await.expect(204);
    assert!(raw.closes_within(2 * SOON).await, "an upload goes on");
}

/// A client that took nothing of it had kept it open, or lost with it those of other people.
#[tokio::test]
async fn a_stalled_http2_stream_ends_with_its_session_and_with_it_no_other() {
    let upstream = upstream();
    let gateway = Gateway::in_front_of(upstream.addr());
    let (mut alice, mut bob) = (gateway.signed_in("alice").await, gateway.signed_in("bob").await);
    let host = gateway.authority().to_owned();
    let mut h2 = H2Raw::connect(&gateway).await;
    for (stream, path, client) in [(1, "/events", &bob), (3, "/large", &alice)] {
        let cookie = cookie(client);
        let mut head = get(&host, path);
        head.push(("cookie", cookie.trim_end().split_once(": ").unwrap().1));
        h2.request(stream, &head).await;
        assert_eq!(h2.outcome(stream).await, Outcome::Status(200));
    }
    alice.delete("/auth/session").await.expect(204);
    let begun = Instant::now();
    assert_eq!(h2.outcome(3).await, Outcome::Reset(2));
    bob.delete("/auth/session").await.expect(204);
    assert_eq!(h2.outcome(1).await, Outcome::Reset(2));
    assert!(begun.elapsed() < 3 * SOON, "held for {:?}", begun.elapsed());
}
