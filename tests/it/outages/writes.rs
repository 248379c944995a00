//! Redis answers but refuses to write: full, read-only, or at odds with its disk.

use std::time::Instant;

use serde_json::json;

use crate::support::gateway::password;
use crate::support::process::PATIENCE;
use crate::support::redis::Server;
use crate::support::site::{Node, refused, until};

async fn refusing(name: &str, break_it: fn(&Server), mend: fn(&Server)) {
    let mut node = Node::start();
    let mut cached = node.gateway.signed_in("alice").await;
    let mut leaving = node.gateway.signed_in("bob").await;
    let mut ended = node.gateway.signed_in("bob").await;
    ended.tab().delete("/auth/session").await.expect(204);
    break_it(&node.redis);
    cached.get("/x").await.expect(200);
    // Nothing is in memory any more: reads go to Redis.
    node.gateway = node.gateway.restart();
    for client in [&mut cached, &mut leaving, &mut ended] {
        client.reconnect();
    }
    let served = until(&mut cached, "/x", 200).await;
    ended.get("/x").await.expect(401);
    let mut false_goodbyes = 0;
    for _ in 0..5 {
        refused(&node.gateway.client().try_sign_in("alice", &password("alice")).await);
        refused(&cached.post_json("/auth/switch", &json!({ "claim": "group/staff" })).await);
        if leaving.token().is_none() {
            continue;
        }
        let mut thief = leaving.tab();
        let answer = leaving.delete("/auth/session").await;
        let alive = thief.get("/x").await.status;
        match answer.status {
            // Ending needs no room, so it may have been done.
            204 => false_goodbyes += usize::from(alive != 401),
            500.. => {
                assert!(answer.all("set-cookie").is_empty(), "{:?}", answer.headers);
                assert_eq!(alive, 200, "what was refused was done");
            }
            other => panic!("a logout was answered with {other}"),
        }
        assert_eq!(cached.get("/who").await.expect(200).json()["active-claim"], "user/u-alice");
    }
    mend(&node.redis);
    // The one who could not leave does so by trying again.
    let begun = Instant::now();
    let mut thief = leaving.tab();
    while leaving.token().is_some() {
        leaving.delete("/auth/session").await;
        assert!(begun.elapsed() < PATIENCE, "never signed out");
    }
    let back = begun.elapsed();
    thief.get("/x").await.expect(401);
    node.gateway.signed_in("alice").await.get("/x").await.expect(200);
    println!(
        "{name}: false \"logged out\" {false_goodbyes}; reads after {served:?}; writes again after \
         {back:?}"
    );
    assert_eq!(false_goodbyes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_memory() {
    refusing("OOM", Server::fill, Server::make_room).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_only() {
    refusing("READONLY", Server::make_read_only, Server::make_master).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_odds_with_its_disk() {
    refusing("MISCONF", Server::distrust_disk, Server::trust_disk).await;
}
