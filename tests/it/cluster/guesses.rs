//! Failed logins count for the site, not for a node: guesses at one are guesses at the other.

use serde_json::Value;

use crate::support::gateway::password;
use crate::support::process::PATIENCE;
use crate::support::site::routes;
use crate::support::{Gateway, Site};

/// Wrong passwords for alice, at the nodes in turn, until one says that she must wait.
async fn guess(nodes: [&Gateway; 2]) -> usize {
    for number in 0..20 {
        let answer = nodes[number % 2].client().try_sign_in("alice", "wrong").await;
        if answer.status == 429 {
            return number;
        }
        answer.expect(401);
    }
    panic!("nobody says that it is enough")
}

#[tokio::test]
async fn guesses_at_two_nodes_share_their_limit_also_after_a_restart() {
    let mut site = Site::start();
    let mut live = site.a.signed_in("alice").await;
    assert_eq!(guess([&site.a, &site.b]).await, 5);
    // Until it grows to more than a restart takes.
    for _ in 0..4 {
        let begun = std::time::Instant::now();
        while site.b.client().try_sign_in("alice", "wrong").await.status == 429 {
            assert!(begun.elapsed() < PATIENCE, "never allowed again");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    site.a.kill9();
    site.b.kill9();
    site.a = site.a.restart();
    site.b = site.b.restart();
    for node in [&site.a, &site.b] {
        let answer = node.client().try_sign_in("alice", &password("alice")).await.expect(429);
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=16).contains(&wait), "{wait}");
        node.client().sign_in("bob").await;
    }
    live.reconnect();
    live.get("/x").await.expect(200);
    // What was typed is in no key; people type passwords as names.
    site.a.client().try_sign_in("a-password-as-a-name", "wrong").await.expect(401);
    let keys = site.redis.keys(0, "*");
    assert!(keys.iter().any(|key| key.contains("t:pair|127.0.0.0/24|id:u-alice")), "{keys:?}");
    assert!(!keys.iter().any(|key| key.contains("a-password")), "{keys:?}");
}

#[tokio::test]
async fn right_passwords_at_two_nodes_at_once_all_pass() {
    let site = Site::start();
    let mut logins = tokio::task::JoinSet::new();
    for number in 0..20 {
        let mut client = if number % 2 == 0 { site.a.client() } else { site.b.client() };
        logins.spawn(async move { client.try_sign_in("alice", &password("alice")).await.status });
    }
    let answers = logins.join_all().await;
    assert!(answers.iter().all(|status| *status == 201), "{answers:?}");
}

#[tokio::test]
async fn without_redis_nobody_learns_whether_a_password_was_right() {
    let site = Site::impatient();
    site.link_a.cut();
    let right = site.a.client().try_sign_in("alice", &password("alice")).await;
    let wrong = site.a.client().try_sign_in("alice", "wrong").await;
    assert_eq!((right.status, wrong.status), (503, 503));
    let [right, wrong] = [right, wrong].map(|answer| {
        let mut said = answer.json();
        said["request_id"].take();
        said
    });
    assert_eq!(right, wrong);
}

/// Lines of JSON.
fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn an_operator_works_where_no_gateway_runs() {
    let site = Site::start();
    let mut alice = site.a.signed_in("alice").await;
    let mut bob = site.b.signed_in("bob").await;
    assert_eq!(guess([&site.a, &site.b]).await, 5);
    // A machine with a configuration, but neither a gateway nor users.
    let url = format!("redis://{}/0", site.redis.addr());
    let desk = routes(Gateway::builder().redis(&url), &site.app).without_users().written();
    let listed = rows(&desk.cli(&["session", "list", "--json"]).success());
    assert_eq!(listed.len(), 2, "{listed:?}");
    let listed = rows(&desk.cli(&["session", "list", "--json", "--user", "u-bob"]).success());
    let id = listed[0]["id"].as_str().unwrap();
    let shown = desk.cli(&["session", "show", id, "--json"]).success();
    assert_eq!(rows(&shown)[0]["identifier"], "bob");
    desk.cli(&["session", "revoke", id]).success();
    crate::support::site::until(&mut bob, "/x", 401).await;
    alice.get("/x").await.expect(200);
    assert_eq!(desk.cli(&["session", "revoke", "--user", "nobody"]).code(), 1);
    desk.cli(&["session", "revoke", "--user", "u-alice"]).success();
    crate::support::site::until(&mut alice, "/x", 401).await;

    desk.cli(&["ban", "lift", "--user", "u-alice"]).success();
    site.a.client().sign_in("alice").await;
    assert!(!desk.dir().join("users.toml").exists(), "a command of an operator makes no users");
}
