//! The machine fails the gateway: no descriptors, no disk for the log, nobody who reads it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::net::TcpStream;

use crate::support::client::COOKIE;
use crate::support::gateway::Builder;
use crate::support::process::{PATIENCE, eventually};
use crate::support::rest::Rest;
use crate::support::{Gateway, Raw, Reply, Upstream};

fn builder(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .upstream("app", upstream.addr())
        .public("/public/", "app")
        .private("/", "app")
}

/// Regression: a password that could not be checked for want of memory was a wrong one, and counted as such.
#[tokio::test]
async fn a_lack_of_memory_makes_no_password_wrong() {
    let upstream = Upstream::start();
    let gateway = builder(&upstream)
        .set("login.password", "m_cost", "1048576")
        .under(&["prlimit", "--as=900000000"])
        .start();
    let mut client = gateway.client();
    // Nobody's password is checked at full costs.
    for _ in 0..8 {
        let answer = client.try_sign_in("nobody", "word").await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    let log = gateway.log();
    let failures = log.iter().filter(|line| line["event"] == "login-failure");
    assert!(failures.into_iter().all(|line| line["reason"] == "busy"), "{log:?}");
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
async fn descriptors_run_out_and_come_back() {
    let upstream = Upstream::answering(|request| match request.header("upgrade") {
        Some(_) => Reply::websocket(request),
        None => Reply::ok("hello"),
    });
    let url = format!("http://{}", upstream.addr());
    let gateway = Gateway::builder()
        // Who fills it up must not be cut before the test has seen all.
        .set("tls", "handshake_timeout", "\"60s\"")
        .upstream_with("kept", &url, "")
        .upstream_with("anew", &url, "keep = 0")
        .public("/public/", "kept")
        .route("/anew/", "anew", "\"authenticated\"", "")
        .private("/", "kept")
        .start();
    let mut live = gateway.signed_in("alice").await;
    live.get("/x").await.expect(200);
    live.get("/anew/x").await.expect(200);
    let mut socket = Raw::websocket(&gateway, &live, "/ws").await;
    let mut other = gateway.client();
    other.get("/public/x").await.expect(200);
    gateway.metric_is("portcullis_streams_open", |open| open == 1.0).await;
    let rest = Rest::of(&gateway, &upstream).await;
    let limit = gateway.descriptors() as u64 + 10;
    let whole = limit_files(&gateway, limit);
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(TcpStream::connect(gateway.addr()).await.unwrap());
    }
    let full = || (gateway.descriptors() as u64 >= limit).then_some(());
    eventually("the descriptors to run out", full).await;
    let begun = Instant::now();
    // What is open goes on.
    for _ in 0..20 {
        live.get("/x").await.expect(200);
        socket.echo("still here").await;
    }
    // What needs one more is told to come back. Now and then there may be one, which files are read by.
    let mut refused = 0;
    while refused < 20 {
        assert!(begun.elapsed() < PATIENCE, "{refused} refused");
        let answer = live.get("/anew/x").await;
        if answer.status == 200 {
            continue;
        }
        let answer = answer.expect(503);
        refused += 1;
        assert_eq!(answer.json()["code"], "gateway-busy", "{}", answer.text());
        assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
        assert!(answer.all("set-cookie").is_empty());
    }
    // Sessions begin and end.
    other.sign_in("bob").await;
    other.get("/x").await.expect(200);
    let ended = other.token().unwrap().to_owned();
    other.delete("/auth/session").await.expect(204);
    other.sign_in("bob").await;
    // It says so, but not for every connection and request.
    let most = 2 * (begun.elapsed().as_secs() as usize + 2);
    for said in ["cannot accept connections", "no connection to an app can be opened"] {
        let lines = gateway.output().lines().filter(|line| line.contains(said)).count();
        assert!((1..=most).contains(&lines), "{lines} times {said:?}\n{}", gateway.output());
    }
    limit_files(&gateway, whole);
    // The app is not blamed for it: no pause, no trial.
    live.get("/anew/x").await.expect(200);
    let healthy = "portcullis_upstream_healthy_addresses{upstream=\"anew\"}";
    assert_eq!(gateway.metric(healthy).await, 1.0);
    // Those who waited come in, and somebody new behind them.
    gateway.signed_in("dave").await.get("/x").await.expect(200);
    drop(held);
    rest.is_back(&gateway, &upstream).await;
    // And what was written then is there.
    let gateway = gateway.restart();
    for client in [&mut live, &mut other] {
        client.reconnect();
        client.get("/x").await.expect(200);
    }
    other.set_cookie(COOKIE, &ended);
    other.get("/x").await.expect(401);
    assert!(!gateway.output().contains("panicked"), "{}", gateway.output());
}

/// Sets how many files the gateway may have open from now on; how many that were before.
fn limit_files(gateway: &Gateway, files: u64) -> u64 {
    let pid = Pid::from_raw(gateway.pid().try_into().unwrap());
    let limit = getrlimit(Resource::Nofile);
    let new = Rlimit { current: Some(files), maximum: limit.maximum };
    prlimit(pid, Resource::Nofile, new).unwrap().current.unwrap()
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
