//! Redis throws clients out, again and again.

use std::time::{Duration, Instant};

use super::Traffic;
use crate::support::open::SOON;
use crate::support::site::{Node, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_are_opened_anew_without_a_herd() {
    const ROUNDS: usize = 20;
    let node = Node::start();
    let mut client = node.gateway.signed_in("alice").await;
    let traffic = Traffic::of(&node, &client).await;
    let (before, opened) = (node.weight(), node.link.connections());
    let fault = Instant::now();
    for _ in 0..ROUNDS {
        node.redis.kill_clients();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let healed = Instant::now();
    let back = until(&mut client, "/x", 200).await;
    tokio::time::sleep_until((healed + SOON).into()).await;
    let answers = traffic.report("CLIENT KILL", fault).await;
    let opened = node.link.connections() - opened;
    let calm = answers.after(healed + SOON / 2);
    println!(
        "CLIENT KILL x {ROUNDS}: {opened} connections opened; served again after {back:?}; KiB and \
         threads {before:?}, then {:?}",
        node.weight()
    );
    assert!(opened <= 6 * ROUNDS, "{opened} connections for {ROUNDS} rounds");
    assert!(back <= SOON, "{back:?}");
    assert_eq!(answers.with(200) + answers.with(503), answers.len(), "{}", answers.tally());
    assert_eq!(calm.with(200), calm.len(), "{}", calm.tally());
}

/// No command is answered for a while, but connections stay: short of the lease nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_pause_is_not_noticed() {
    let node = Node::start();
    let client = node.gateway.signed_in("alice").await;
    let traffic = Traffic::of(&node, &client).await;
    let fault = Instant::now();
    for _ in 0..5 {
        node.redis.pause(Duration::from_millis(150));
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    let answers = traffic.report("CLIENT PAUSE 150 ms", fault).await;
    assert_eq!(answers.with(200), answers.len(), "{}", answers.tally());
}
