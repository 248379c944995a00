//! Redis has lost sessions: what is not there any more is over, within a second.

use std::time::{Duration, Instant};

use super::Traffic;
use crate::support::Gateway;
use crate::support::open::{Open, SOON};
use crate::support::redis::Server;
use crate::support::site::{Node, routes, session_id, until};

/// The application must not have been asked later than a second after `fault`.
fn last_stale(node: &Node, fault: Instant) -> Duration {
    let last = node.app.asked_after("/loop", fault).into_iter().max().unwrap_or_default();
    assert!(last <= SOON, "a lost session was admitted after {last:?}");
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed() {
    let node = Node::start();
    let mut client = node.gateway.signed_in("alice").await;
    let open = Open::under(&node.gateway, &client).await;
    let traffic = Traffic::of(&node, &client).await;
    node.redis.flush();
    let fault = Instant::now();
    open.are_cut(fault).await;
    until(&mut client, "/x", 401).await;
    tokio::time::sleep_until((fault + SOON).into()).await;
    traffic.signed_in.further(20).await;
    traffic.report("FLUSHALL", fault).await;
    println!("FLUSHALL: last stale admission after {:?}", last_stale(&node, fault));
    client.sign_in("alice").await;
    client.get("/x").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_empty() {
    let mut node = Node::start();
    let mut client = node.gateway.signed_in("alice").await;
    let traffic = Traffic::of(&node, &client).await;
    node.redis.kill();
    let fault = Instant::now();
    node.redis.restart_empty();
    let known = until(&mut client, "/x", 401).await;
    tokio::time::sleep_until((fault + SOON).into()).await;
    traffic.signed_in.further(20).await;
    traffic.report("restarted empty", fault).await;
    println!(
        "restarted empty: last stale admission after {:?}; 401 after {known:?}",
        last_stale(&node, fault)
    );
    client.sign_in("alice").await;
    client.get("/x").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evicted() {
    const SESSIONS: usize = 30;
    let redis = Server::builder().config("maxmemory-policy allkeys-random").start();
    let node = Node::over(redis);
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        let mut client = node.gateway.signed_in("alice").await;
        let id = session_id(&mut client).await;
        clients.push((client, id));
    }
    let used: u64 = node.redis.info("used_memory").parse().unwrap();
    node.redis.command(&["CONFIG", "SET", "maxmemory", &(used + 400_000).to_string()]);
    let filler = "x".repeat(10_000);
    let mut left = node.redis.keys(0, "*").len();
    for n in 0..2000 {
        node.redis.command(&["SET", &format!("filler:{n}"), &filler]);
        let evicted: u64 = node.redis.info("evicted_keys").parse().unwrap();
        left = node.redis.keys(0, "*").iter().filter(|key| !key.starts_with("filler:")).count();
        if evicted > 0 && left <= SESSIONS / 2 {
            break;
        }
    }
    let fault = Instant::now();
    tokio::time::sleep_until((fault + SOON).into()).await;
    let keys = node.redis.keys(0, "*").join("\n").replace('-', "");
    let (mut gone, mut wrong) = (0, 0);
    for (client, id) in &mut clients {
        let there = keys.contains(&*id) || keys.contains(&id.replace('-', ""));
        let status = client.get("/x").await.status;
        if !there {
            gone += 1;
            wrong += usize::from(status == 200);
            assert!(matches!(status, 200 | 401), "{status}");
        }
    }
    println!(
        "eviction: {gone} of {SESSIONS} sessions evicted ({left} keys left), {wrong} admitted"
    );
    assert!(gone > 0, "nothing was evicted");
    assert_eq!(wrong, 0);
}

/// A policy that may drop live sessions is warned of; one that may not is not.
#[tokio::test]
async fn a_policy_that_evicts_sessions_is_warned_of() {
    for (policy, warned) in [("allkeys-lru", true), ("volatile-lru", true), ("noeviction", false)] {
        let config = format!("maxmemory-policy {policy}");
        let redis = Server::builder().config(&config).config("maxmemory 100mb").start();
        let app = crate::support::site::App::start();
        let gateway = routes(Gateway::builder().redis(&redis.url(0)), &app).start();
        gateway.signed_in("alice").await.get("/x").await.expect(200);
        let begun = Instant::now();
        while !gateway.output().contains(policy)
            && begun.elapsed() < SOON * if warned { 10 } else { 1 }
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(gateway.output().contains(policy), warned, "{}", gateway.output());
    }
}
