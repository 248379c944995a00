//! The machine fails the gateway: no descriptors, no disk for the log, nobody who reads it.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::gateway::Builder;
use crate::support::process::eventually;
use crate::support::{Gateway, Raw, Reply, Upstream};

fn builder(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .upstream("app", upstream.addr())
        .public("/public/", "app")
        .private("/", "app")
}

/// As many descriptors for the test itself as it may have.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_lives_through_a_lack_of_descriptors() {
    let upstream = Upstream::start();
    let mut gateway = builder(&upstream).under(&["prlimit", "--nofile=256"]).start();
    let host = gateway.authority().to_owned();
    let mut live = gateway.signed_in("alice").await;
    live.get("/x").await.expect(200);
    let before = gateway.descriptors();
    // More connections than it could have descriptors for, all silent.
    let mut held = Vec::new();
    for _ in 0..400 {
        held.push(tokio::net::TcpStream::connect(gateway.addr()).await.unwrap());
    }
    eventually("as many as it takes", || (gateway.descriptors() >= before + 80).then_some(()))
        .await;
    // Who is connected is served, also on a new connection to the app, and health is told at once.
    let begun = Instant::now();
    for _ in 0..20 {
        live.get("/x").await.expect(200);
    }
    gateway.admin_get("/livez").await.expect(200);
    gateway.admin_get("/readyz").await.expect(200);
    gateway.cli(&["session", "list"]).success();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(held);
    // Who comes after it is served too.
    for _ in 0..20 {
        gateway.raw().await.get("/public/x", &host, "").await.expect(200);
    }
    gateway.signed_in("bob").await.get("/x").await.expect(200);
    eventually("the descriptors to be given back", || {
        (gateway.descriptors() <= before + 8).then_some(())
    })
    .await;
    let output = gateway.output();
    assert!(output.contains("limit of open files"), "{output}");
    assert!(!output.contains("cannot accept connections"), "{output}");
    assert!(gateway.terminate(Duration::from_secs(10)).success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_cost_little() {
    const IDLE: usize = 2000;
    const SOCKETS: usize = 500;
    raise_limit();
    let upstream = Upstream::answering(|request| match request.header("upgrade") {
        Some(_) => Reply::websocket(request),
        None => Reply::ok("hello"),
    });
    let gateway = builder(&upstream).start();
    let host = gateway.authority().to_owned();
    let client = gateway.signed_in("alice").await;
    client.tab().get("/x").await.expect(200);
    let (descriptors, empty) = (gateway.descriptors(), gateway.resident());
    let mut idle = Vec::with_capacity(IDLE);
    let tls = gateway.tls(&["http/1.1"]);
    for _ in 0..IDLE {
        let mut raw = Raw::tls(gateway.addr(), tls.clone(), "localhost").await;
        raw.get("/public/x", &host, "").await.expect(200);
        idle.push(raw);
    }
    let after_idle = gateway.resident();
    let mut sockets = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS {
        sockets.push(Raw::websocket(&gateway, &client, "/ws").await);
    }
    let after_sockets = gateway.resident();
    let each = after_idle.saturating_sub(empty) / IDLE as u64;
    let each_socket = after_sockets.saturating_sub(after_idle) / SOCKETS as u64;
    println!("KiB per idle connection: {each}, per WebSocket: {each_socket}");
    assert!(each < 200, "{each} KiB per idle connection");
    assert!(each_socket < 200, "{each_socket} KiB per WebSocket");
    assert_eq!(gateway.metric("portcullis_tunnels_open").await, SOCKETS as f64);
    for socket in sockets.iter_mut().step_by(50) {
        socket.echo("hello").await;
    }
    drop((idle, sockets));
    eventually("the descriptors to be given back", || {
        (gateway.descriptors() <= descriptors + 4).then_some(())
    })
    .await;
    gateway.metric_is("portcullis_tunnels_open", |open| open == 0.0).await;
    client.tab().get("/x").await.expect(200);
}

/// Requests, logins and their ends go on whatever becomes of the lines about them, and what is lost
/// is counted.
async fn works_without_log(gateway: &Gateway) {
    let counted = "portcullis_log_lines_dropped_total";
    let dropped = gateway.metric(counted).await;
    let mut client = gateway.client();
    for _ in 0..20 {
        client.sign_in("alice").await;
        for _ in 0..10 {
            client.get("/x").await.expect(200);
        }
        client.delete("/auth/session").await.expect(204);
        client.get("/x").await.expect(401);
    }
    gateway.metric_is(counted, |count| count >= dropped + 200.0).await;
    gateway.admin_get("/readyz").await.expect(200);
}

#[tokio::test]
async fn a_full_disk_for_the_log_stops_nobody() {
    let upstream = Upstream::start();
    let mut gateway = builder(&upstream)
        .set("log", "access", "\"/dev/full\"")
        .set("log", "audit", "\"/dev/full\"")
        .start();
    works_without_log(&gateway).await;
    // It says so where it still can, but not for every line.
    let said = gateway.output();
    let lines = said.lines().filter(|line| line.contains("log")).count();
    assert!((1..20).contains(&lines), "{said}");
    assert!(gateway.terminate(Duration::from_secs(10)).success());
}

#[tokio::test]
async fn outputs_on_a_full_disk_stop_nobody() {
    let upstream = Upstream::start();
    for outputs in ["exec \"$@\" >/dev/full", "exec \"$@\" >/dev/full 2>&1", "exec \"$@\" >&- 2>&-"]
    {
        let mut gateway = builder(&upstream).under(&["sh", "-c", outputs, "sh"]).start();
        if outputs.contains("full") {
            works_without_log(&gateway).await;
        } else {
            gateway.signed_in("alice").await.get("/x").await.expect(200);
        }
        assert!(gateway.terminate(Duration::from_secs(10)).success(), "{outputs}");
    }
}

#[tokio::test]
async fn a_reader_of_the_log_that_goes_away_stops_nobody() {
    let upstream = Upstream::start();
    // The reader takes three lines: the two at the start and one more.
    let piped = ["bash", "-c", "exec \"$@\" > >(head -n 3 >/dev/null)", "bash"];
    let mut gateway = builder(&upstream).under(&piped).start();
    works_without_log(&gateway).await;
    assert!(gateway.terminate(Duration::from_secs(10)).success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_the_log_that_stops_reading_stops_nobody() {
    let upstream = Upstream::start();
    // The reader sleeps: the pipe fills up, then the queue.
    let piped = ["bash", "-c", "exec \"$@\" > >(exec sleep 1000)", "bash"];
    let gateway = builder(&upstream).under(&piped).start();
    let host = gateway.authority().to_owned();
    let counted = "portcullis_log_lines_dropped_total";
    // Long lines, so that few requests fill the 8 MiB that may wait.
    let long = format!("/public/{}", "x".repeat(14_000));
    let mut raw = gateway.raw().await;
    let mut sent = 0;
    while gateway.metric(counted).await == 0.0 {
        for _ in 0..100 {
            raw.get(&long, &host, "").await.expect(200);
        }
        sent += 100;
        assert!(sent <= 5000, "nothing is dropped, nothing is written: where is it?");
    }
    raw.get("/public/x", &host, "").await.expect(200);
}
