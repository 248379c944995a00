//! Sessions are the site's, not a node's: made, used, listed on any, and there after a restart.

use serde_json::{Value, json};

use crate::support::Site;
use crate::support::process::PATIENCE;
use crate::support::site::session_id;

#[tokio::test]
async fn what_one_node_opens_the_other_serves_at_once() {
    let site = Site::start();
    for _ in 0..20 {
        let mut client = site.a.signed_in("alice").await;
        client.at(&site.b).get("/x").await.expect(200);
        client.delete("/auth/session").await.expect(204);
        let mut back = site.b.signed_in("alice").await;
        back.at(&site.a).get("/x").await.expect(200);
        back.delete("/auth/session").await.expect(204);
    }
}

#[tokio::test]
async fn a_session_may_end_where_it_did_not_begin() {
    let site = Site::start();
    let (mut at_a, at_b) = site.signed_in("alice").await;
    let mut thief = at_b.tab();
    let mut leaver = at_b.tab();
    leaver.delete("/auth/session").await.expect(204);
    assert!(leaver.token().is_none());
    // Where it was ended it is dead at once.
    thief.get("/x").await.expect(401);
    crate::support::site::until(&mut at_a, "/x", 401).await;
}

#[tokio::test]
async fn the_list_shows_the_sessions_of_both() {
    let site = Site::start();
    let mut one = site.a.signed_in("alice").await;
    let mut two = site.b.signed_in("alice").await;
    let _other = site.b.signed_in("bob").await;
    let mut own = vec![session_id(&mut one).await, session_id(&mut two).await];
    own.sort_unstable();
    for client in [&mut one, &mut two] {
        let listed = client.get("/auth/sessions").await.expect(200).json();
        let rows = listed["sessions"].as_array().or_else(|| listed.as_array()).unwrap();
        let mut ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, own);
    }
    for node in [&site.a, &site.b] {
        let text = node.cli(&["session", "list", "--json"]).success();
        let rows: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 3, "{text}");
    }
}

#[tokio::test]
async fn a_node_that_restarts_keeps_the_sessions() {
    let mut site = Site::start();
    let (mut at_a, mut at_b) = site.signed_in("alice").await;
    at_a.post_json("/auth/switch", &json!({ "claim": "group/eng" })).await.expect(200);
    // The new token is good at the other node, and with the new claim.
    at_b.set_cookie(crate::support::client::COOKIE, at_a.token().unwrap());
    assert_eq!(at_b.get("/who").await.expect(200).json()["active-claim"], "group/eng");
    site.b.kill9();
    site.b = site.b.restart();
    at_b.reconnect();
    assert_eq!(at_b.get("/who").await.expect(200).json()["active-claim"], "group/eng");
    assert!(site.a.terminate(PATIENCE).success());
    site.a = site.a.restart();
    at_a.reconnect();
    assert_eq!(at_a.get("/who").await.expect(200).json()["active-claim"], "group/eng");
}

#[tokio::test]
async fn the_oldest_of_too_many_ends_everywhere() {
    let site = Site::with(|builder| builder.patient().set("session", "per_user", "3"));
    let mut clients = Vec::new();
    for n in 0..5 {
        let node = if n % 2 == 0 { &site.a } else { &site.b };
        clients.push(node.signed_in("alice").await);
        // Ages are told apart by milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let wanted = if n < 2 { 401 } else { 200 };
        for node in [&site.a, &site.b] {
            crate::support::site::until(&mut client.at(node), "/x", wanted).await;
        }
    }
}

/// A newer version on the other node has written a record with fields that this one does not know.
#[tokio::test]
async fn a_record_of_a_newer_version_is_used_and_kept() {
    let mut site = Site::start();
    let (mut at_a, mut at_b) = site.signed_in("alice").await;
    let id = session_id(&mut at_a).await;
    let keys = site.redis.keys(0, &format!("*{id}"));
    let [key] = keys.as_slice() else { panic!("{keys:?}") };
    let (head, mut record): (String, Value) = {
        let value = site.redis.command(&["GET", key]).text().to_owned();
        let (head, record) = value.split_once('\n').unwrap();
        (head.to_owned(), serde_json::from_str(record).unwrap())
    };
    record["v"] = 2.into();
    record["device_key"] = json!({ "alg": "ES256" });
    site.redis.command(&["SET", key, &format!("{head}\n{record}"), "KEEPTTL"]);
    // This node has it not in memory any more.
    site.b.kill9();
    site.b = site.b.restart();
    at_b.reconnect();
    at_b.get("/x").await.expect(200);
    at_b.post_json("/auth/switch", &json!({ "claim": "group/staff" })).await.expect(200);
    let value = site.redis.command(&["GET", key]).text().to_owned();
    let record: Value = serde_json::from_str(value.split_once('\n').unwrap().1).unwrap();
    assert_eq!(record["device_key"]["alg"], "ES256", "{record}");
    assert_eq!(record["claim"], "group/staff");
}
