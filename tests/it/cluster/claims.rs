//! Claims switched on both nodes at once never mix, and a switch is seen by the next request.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::client::COOKIE;
use crate::support::process::PATIENCE;
use crate::support::site::session_id;
use crate::support::{Client, Site};

/// Claims of alice, and the roles that follow.
const CLAIMS: &[(&str, bool, &str)] = &[
    ("user/u-alice", false, "user/u-alice"),
    ("group/staff", false, "group/staff"),
    ("group/eng", false, "group/eng"),
    ("group/eng", true, "group/eng,group/eng-core"),
    ("group/eng-core", false, "group/eng-core"),
];

/// Fails the test when the identity that the application saw is not of one claim.
fn consistent(seen: &Value, session: &str) {
    assert_eq!(seen["user"], "u-alice", "{seen}");
    assert_eq!(seen["session"], session, "{seen}");
    let text = |name: &str| seen[name].as_str().unwrap_or_else(|| panic!("no {name}: {seen}"));
    let (claim, roles) = (text("active-claim"), text("roles"));
    let known = CLAIMS.iter().any(|(name, _, of)| *name == claim && *of == roles);
    assert!(known, "claims are mixed: {seen}");
    assert_eq!(text("all"), format!("u-alice {claim} {}", roles.replace(',', " ")), "{seen}");
}

#[tokio::test]
async fn a_switch_is_seen_by_the_next_request_on_the_other_node() {
    let site = Site::start();
    let (mut at_a, mut at_b) = site.signed_in("alice").await;
    let session = session_id(&mut at_a).await;
    for round in 0..50 {
        let (claim, extended, _) = CLAIMS[round % CLAIMS.len()];
        // On both nodes by turns, and each time the other has the session in memory.
        let (switching, asking) =
            if round % 2 == 0 { (&mut at_a, &mut at_b) } else { (&mut at_b, &mut at_a) };
        let body = json!({ "claim": claim, "extended": extended });
        let old = asking.tab();
        switching.post_json("/auth/switch", &body).await.expect(200);
        asking.set_cookie(COOKIE, switching.token().unwrap());
        let seen = asking.get("/who").await.expect(200).json();
        consistent(&seen, &session);
        assert_eq!(seen["active-claim"], claim, "round {round}");
        // A request that was on its way with the old token passes, with the new claim.
        let mut old = old;
        let seen = old.get("/who").await.expect(200).json();
        assert_eq!(seen["active-claim"], claim, "round {round}: the old token");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switches_on_both_nodes_at_once_never_mix() {
    let site = Site::start();
    let (mut at_a, _) = site.signed_in("alice").await;
    let session = session_id(&mut at_a).await;
    let newest = Arc::new(Mutex::new(at_a.token().unwrap().to_owned()));
    let stop = Arc::new(AtomicBool::new(false));

    let mut readers = JoinSet::new();
    for node in [&site.a, &site.b, &site.a, &site.b] {
        let mut client = at_a.at(node);
        let (newest, stop, session) = (Arc::clone(&newest), Arc::clone(&stop), session.clone());
        readers.spawn(async move {
            let (mut seen, mut reads, mut refused) = (BTreeSet::new(), 0_u32, 0_u32);
            while !stop.load(Ordering::Relaxed) {
                client.set_cookie(COOKIE, &newest.lock().unwrap().clone());
                let answer = client.get("/who").await;
                match answer.status {
                    // The token may be two switches old by now.
                    401 => continue,
                    // It changes faster than it can be read.
                    409 => {
                        refused += 1;
                        continue;
                    }
                    _ => {}
                }
                let answer = answer.expect(200).json();
                consistent(&answer, &session);
                seen.insert(answer["active-claim"].as_str().unwrap().to_owned());
                reads += 1;
            }
            (seen, reads, refused)
        });
    }
    let mut writers = JoinSet::new();
    for (offset, node) in [&site.a, &site.b].into_iter().enumerate() {
        let mut client = at_a.at(node);
        let newest = Arc::clone(&newest);
        writers.spawn(async move {
            let (mut done, mut lost) = (0, 0);
            let end = Instant::now() + PATIENCE;
            for round in 0.. {
                if done >= 75 && done + lost >= 150 {
                    break;
                }
                assert!(Instant::now() < end, "{done} switches, {lost} lost the race");
                let (claim, extended, _) = CLAIMS[(round + 2 * offset) % CLAIMS.len()];
                client.set_cookie(COOKIE, &newest.lock().unwrap().clone());
                let body = json!({ "claim": claim, "extended": extended });
                let answer = client.post_json("/auth/switch", &body).await;
                match answer.status {
                    200 => {
                        newest.lock().unwrap().clone_from(&client.token().unwrap().to_owned());
                        done += 1;
                    }
                    // Somebody was faster: with a newer token, or in the same moment.
                    401 | 409 => lost += 1,
                    other => panic!("{other} {}", answer.text()),
                }
            }
            (done, lost)
        });
    }
    let switched = writers.join_all().await;
    stop.store(true, Ordering::Relaxed);
    let read = readers.join_all().await;
    let done: u32 = switched.iter().map(|(done, _)| done).sum();
    let lost: u32 = switched.iter().map(|(_, lost)| lost).sum();
    let reads: u32 = read.iter().map(|(_, reads, _)| reads).sum();
    let refused: u32 = read.iter().map(|(_, _, refused)| refused).sum();
    println!(
        "{done} switches, {lost} lost the race, {reads} consistent reads, 0 mixed, {refused} refused \
         for changing too fast"
    );
    assert!(read.iter().all(|(seen, _, _)| seen.len() >= 3), "{read:?}");
    assert!(refused * 20 < reads, "{refused} of {reads} reads refused");

    // When all is quiet both nodes agree, within the second that an invalidation may take.
    let token = newest.lock().unwrap().clone();
    agree(&site, &at_a, &token).await;
}

async fn agree(site: &Site, like: &Client, token: &str) {
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.clear();
        for node in [&site.a, &site.b] {
            let mut client = like.at(node);
            client.set_cookie(COOKIE, token);
            let answer = client.get("/who").await;
            seen.push((answer.status, answer.text()));
        }
        if seen[0] == seen[1] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the nodes do not agree: {seen:?}");
}
