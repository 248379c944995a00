//! Redis is not there, dies, or says nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Traffic, none_unproved};
use crate::support::Gateway;
use crate::support::gateway::password;
use crate::support::open::{SOON, upload};
use crate::support::redis::Server;
use crate::support::site::{Node, refused, until};

/// How long after Redis is back a signed-in request may still be refused.
const HEALED: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_without_redis_and_is_ready_when_that_comes() {
    let mut node = Node::over(Server::builder().durable().start());
    let mut client = node.gateway.signed_in("alice").await;
    node.redis.kill();
    // It must serve, or this never ends.
    node.gateway = node.gateway.restart();
    client.reconnect();
    node.gateway.admin_get("/livez").await.expect(200);
    node.gateway.admin_get("/readyz").await.expect(503);
    node.gateway.client().get("/public/x").await.expect(200);
    client.get("/public/x").await.expect(200);
    refused(&client.get("/x").await);
    // Not to the sign-in page, which could not help.
    refused(&client.navigate("/x").await);
    refused(&client.get("/auth/session").await);
    refused(&node.gateway.client().try_sign_in("alice", &password("alice")).await);
    // Who has no session is told so: that needs no store.
    node.gateway.client().get("/x").await.expect(401);

    node.redis.restart();
    let (served, ready) = tokio::join!(until(&mut client, "/x", 200), node.readiness(200));
    println!("down at start: served {served:?}, ready {ready:?} after Redis was");
    assert!(served <= HEALED, "{served:?}");
    assert!(ready <= HEALED, "{ready:?}");
    node.gateway.signed_in("bob").await.get("/x").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_flight() {
    let mut node = Node::over(Server::builder().durable().start());
    let mut client = node.gateway.signed_in("alice").await;
    let traffic = Traffic::of(&node, &client).await;
    let before = node.weight();
    node.redis.kill();
    let fault = Instant::now();
    tokio::time::sleep_until((fault + SOON * 2).into()).await;
    refused(&client.get("/x").await);
    let healed = Instant::now();
    node.redis.restart();
    let back = until(&mut client, "/x", 200).await;
    let after = node.weight();
    let answers = traffic.report("kill -9", fault).await;
    let last = none_unproved(&node, fault, healed);
    let during = answers.after(fault);
    println!(
        "kill -9: wrong admissions 0, the last one after {last:?}; slowest refusal {:?}; served \
         again after {back:?}; KiB and threads {before:?}, then {after:?}",
        during.quantile(1.0)
    );
    assert_eq!(during.with(200) + during.with(503), during.len(), "{}", during.tally());
    assert!(back <= HEALED, "{back:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hung() {
    let node = Node::start();
    let mut client = node.gateway.signed_in("alice").await;
    let traffic = Traffic::of(&node, &client).await;
    let before = node.weight();
    node.redis.stop();
    let fault = Instant::now();
    tokio::time::sleep_until((fault + SOON * 3).into()).await;
    refused(&client.get("/x").await);
    let during = node.weight();
    let healed = Instant::now();
    node.redis.cont();
    let back = until(&mut client, "/x", 200).await;
    let answers = traffic.report("SIGSTOP", fault).await;
    let last = none_unproved(&node, fault, healed);
    let late = answers.after(fault + SOON * 2).0;
    let late: Vec<_> = late.into_iter().filter(|answer| answer.at + answer.took < healed).collect();
    let late = crate::support::load::Answers(late);
    println!(
        "SIGSTOP: wrong admissions 0, the last one after {last:?}; refusals once that is known: \
         median {:?}, p99 {:?}; served again after {back:?}; KiB and threads {before:?}, \
         meanwhile {during:?}",
        late.quantile(0.5),
        late.quantile(0.99),
    );
    assert!(back <= HEALED, "{back:?}");
    assert_eq!(late.with(503), late.len(), "{}", late.tally());
    // The breaker answers at once; half of them, since probes and a busy machine are slower.
    assert!(late.quantile(0.5) < Duration::from_millis(100), "{:?}", late.quantile(0.5));
    assert!(during.0 < before.0 + 20 * 1024, "{during:?}");
}

/// An upload is cut once its session cannot be proved any more. It was called the client's mistake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_nobody_can_vouch_for_is_told_of_the_store() {
    let mut node = Node::start();
    let client = node.gateway.signed_in("alice").await;
    let mut upload = upload(&node.gateway, &client).await;
    node.gateway.metric_is("portcullis_requests_in_flight", |open| open == 1.0).await;
    node.redis.kill();
    let told = upload.until("\"session-store-unavailable\"").await;
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    assert!(told.to_lowercase().contains("retry-after:"), "{told}");
}

/// A change that was refused for want of an answer, and is carried out when Redis wakes up, must not
/// change the secret: the one that nobody was told would sign the user out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_nobody_was_told_of_signs_nobody_out() {
    let node = Node::start();
    let mut client = node.gateway.signed_in("alice").await;
    client.get("/x").await.expect(200);
    // Just after its start a gateway is more patient.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    node.redis.pause_writes(Duration::from_millis(600));
    refused(&client.post_json("/auth/switch", &json!({ "claim": "group/eng" })).await);
    tokio::time::sleep(Duration::from_millis(600)).await;
    until(&mut client, "/x", 200).await;
    // Longer than the old secret is honoured after a switch.
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        client.get("/x").await.expect(200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.post_json("/auth/switch", &json!({ "claim": "group/eng" })).await.expect(200);
}

/// The embedded store is not asked for, and wrong addresses are told in words.
#[tokio::test]
async fn an_address_of_nobody_is_told_without_its_password() {
    let port = crate::support::process::free_port();
    let url = format!("redis://portcullis:s3cr3t-canary@127.0.0.1:{port}/0");
    let gateway = Gateway::builder()
        .redis(&url)
        .upstream_with("app", "builtin:whoami", "")
        .public("/public/", "app")
        .private("/", "app")
        .start();
    gateway.client().get("/public/x").await.expect(200);
    gateway.admin_get("/readyz").await.expect(503);
    refused(&gateway.client().try_sign_in("alice", &password("alice")).await);
    let said = gateway.output();
    assert!(said.contains(&port.to_string()), "which server? {said}");
    assert!(!said.contains("s3cr3t-canary"), "{said}");
}
