//! What was answered holds, however the process ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::process::{PATIENCE, eventually};
use crate::support::{Client, Gateway, Reply, Upstream};

/// What was answered before the end, and nothing else.
struct Answered {
    /// Logins answered with 201 whose logout was never asked for.
    alive: Vec<Client>,
    /// Logouts answered with 204.
    dead: Vec<Client>,
}

/// Works until the gateway is gone; counts finished rounds in `done`.
async fn work(gateway: &Gateway, done: &AtomicUsize) -> Answered {
    let mut answered = Answered { alive: Vec::new(), dead: Vec::new() };
    for round in 0.. {
        let mut client = gateway.client();
        let body = bytes::Bytes::from(
            serde_json::json!({
                "username": "alice",
                "password": crate::support::gateway::password("alice"),
            })
            .to_string(),
        );
        let headers = [("content-type", "application/json")];
        let login = client.try_request(http::Method::POST, "/auth/session", &headers, body).await;
        if !login.is_ok_and(|answer| answer.status == 201) {
            break;
        }
        done.fetch_add(1, Ordering::SeqCst);
        if round % 2 == 0 {
            answered.alive.push(client);
            continue;
        }
        // The cookie jar forgets the token at logout; the tab keeps it.
        let tab = client.tab();
        let origin = [("origin", gateway.origin())];
        let empty = bytes::Bytes::new();
        let logout =
            client.try_request(http::Method::DELETE, "/auth/session", &origin, empty).await;
        if !logout.is_ok_and(|answer| answer.status == 204) {
            // Asked for but not answered: it may be either.
            break;
        }
        answered.dead.push(tab);
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_no_login_and_revives_no_logout() {
    let mut gateway = Gateway::whoami();
    for _ in 0..3 {
        let pid = gateway.pid();
        let done = AtomicUsize::new(0);
        let (one, two, ()) = tokio::join!(work(&gateway, &done), work(&gateway, &done), async {
            // In the middle of the work, which ends when answers do.
            let enough = || (done.load(Ordering::SeqCst) >= 20).then_some(());
            eventually("twenty logins", enough).await;
            gateway.signal(Signal::KILL);
        });
        gateway = gateway.restart();
        assert_ne!(gateway.pid(), pid);
        let (mut alive, mut dead) = (one.alive, one.dead);
        alive.extend(two.alive);
        dead.extend(two.dead);
        assert!(!alive.is_empty() && !dead.is_empty(), "{} and {}", alive.len(), dead.len());
        for client in &mut alive {
            client.reconnect();
            client.get("/auth/session").await.expect(200);
        }
        for client in &mut dead {
            client.reconnect();
            client.get("/auth/session").await.expect(401);
        }
    }
}

#[tokio::test]
async fn kill_9_gives_out_no_fresh_guesses() {
    let mut gateway = Gateway::whoami();
    let mut wrong = 0;
    for round in 0..4 {
        // Until it is told to wait, however often the gateway dies in between.
        let answer = gateway.client().try_sign_in("alice", "wrong").await;
        if answer.status == 429 {
            break;
        }
        answer.expect(401);
        wrong += 1;
        if round % 2 == 1 {
            gateway.kill9();
            gateway = gateway.restart();
        }
    }
    assert_eq!(wrong, 4);
    gateway.client().try_sign_in("alice", "wrong").await.expect(401);
    gateway.client().try_sign_in("alice", "wrong").await.expect(429);
    // The delay doubles from failure to failure: with some of them it outlasts a restart.
    for _ in 0..4 {
        let end = Instant::now() + PATIENCE;
        while gateway.client().try_sign_in("alice", "wrong").await.status == 429 {
            assert!(Instant::now() < end, "never allowed again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    gateway.kill9();
    let gateway = gateway.restart();
    let right = crate::support::gateway::password("alice");
    let answer = gateway.client().try_sign_in("alice", &right).await.expect(429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=16).contains(&wait), "{wait}");
    // Others are not in it.
    gateway.client().sign_in("bob").await;
    // What was typed is not in the file; people type passwords as names.
    let typed = "a-password-as-a-name";
    gateway.client().try_sign_in(typed, "wrong").await.expect(401);
    let file = std::fs::read(gateway.dir().join("data/sessions.redb")).unwrap();
    assert!(file.windows(8).any(|bytes| bytes == b"id:u-ali"), "no count in the file");
    assert!(!file.windows(typed.len()).any(|bytes| bytes == typed.as_bytes()));
}

#[tokio::test]
async fn a_session_outlives_a_restart_with_its_claim() {
    let mut gateway = Gateway::whoami();
    let mut client = gateway.signed_in("alice").await;
    let claim = serde_json::json!({ "claim": "group/eng" });
    client.post_json("/auth/switch", &claim).await.expect(200);
    gateway.kill9();
    let gateway = gateway.restart();
    client.reconnect();
    let json = [("accept", "application/json")];
    let seen = client.get_with("/x", &json).await.expect(200).text();
    assert!(seen.contains("group/eng"), "{seen}");
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_finishes_what_is_in_flight() {
    let gate = crate::support::upstream::Gate::closed();
    let upstream = {
        let gate = gate.clone();
        Upstream::answering(move |_| {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").wait(&gate).then("hello")
        })
    };
    let mut gateway = Gateway::in_front_of(upstream.addr());
    let mut raw = gateway.raw().await;
    let host = gateway.authority().to_owned();
    raw.send(format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    upstream.received(1).await;
    gateway.signal(Signal::TERM);
    // Draining is said before anything is closed.
    eventually("readiness to end", || {
        let admin = gateway.admin();
        let ready = std::net::TcpStream::connect(admin).ok().and_then(|mut tcp| {
            use std::io::{Read, Write};
            let timeout = Some(Duration::from_secs(1));
            tcp.set_read_timeout(timeout).ok()?;
            tcp.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .ok()?;
            let mut text = String::new();
            tcp.read_to_string(&mut text).ok()?;
            Some(text)
        });
        ready.filter(|text| text.starts_with("HTTP/1.1 503")).map(|_| ())
    })
    .await;
    gate.open();
    assert_eq!(raw.response().await.expect(200).text(), "hello");
    let status = gateway.wait(Duration::from_secs(20));
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let upstream = Upstream::answering(|_| Reply::hang());
    let mut gateway = Gateway::in_front_of(upstream.addr());
    let mut raw = gateway.raw().await;
    let host = gateway.authority().to_owned();
    raw.send(format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    upstream.received(1).await;
    gateway.signal(Signal::TERM);
    // The first must have been taken, or the two become one.
    eventually("new connections to be refused or readiness to end", || {
        let output = gateway.output().to_lowercase();
        (output.contains("drain") || output.contains("shut")).then_some(())
    })
    .await;
    gateway.signal(Signal::TERM);
    gateway.wait(Duration::from_secs(3));
}

/// It was noticed at the next start only, which failed.
#[tokio::test]
async fn a_configuration_that_is_gone_is_told() {
    let gateway = Gateway::whoami();
    let config = gateway.config();
    let count =
        |result: &str| format!("portcullis_reloads_total{{what=\"config\",result=\"{result}\"}}");
    std::fs::remove_file(gateway.dir().join("config.toml")).unwrap();
    gateway.metric_is(&count("refused"), |refused| refused == 1.0).await;
    gateway.client().get("/x").await.expect(401);
    gateway.write_config(&config);
    gateway.metric_is(&count("ok"), |taken| taken == 2.0).await;
    assert!(gateway.output().contains("the configuration cannot be read: put it back"));
}

#[tokio::test]
async fn a_reload_cuts_nothing_and_a_bad_one_changes_nothing() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut raw = gateway.raw().await;
    let host = gateway.authority().to_owned();
    raw.get("/public/x", &host, "").await.expect(200);
    raw.get("/new/x", &host, "").await.expect(401);

    let config = gateway.config();
    let more = "[[route]]\npath = \"/new/\"\nupstream = \"app\"\nallow = \"anyone\"\n";
    gateway.write_config(&format!("{config}\n{more}"));
    gateway.reload();
    let end = std::time::Instant::now() + crate::support::process::PATIENCE;
    // On the same connection all the time.
    while raw.get("/new/x", &host, "").await.status != 200 {
        assert!(std::time::Instant::now() < end, "the new route is not in force");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let lines = gateway.output().lines().count();
    gateway.write_config(&format!("{config}\n[sessoin]\nlifetime = 5\n"));
    gateway.reload();
    eventually("a word about the bad configuration", || {
        let output = gateway.output();
        let said = output.lines().skip(lines).any(|line| line.contains("sessoin"));
        said.then_some(())
    })
    .await;
    raw.get("/new/x", &host, "").await.expect(200);
}
