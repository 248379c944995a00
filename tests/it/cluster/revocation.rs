//! What ends on one node is over on the other within a second, with its open streams.

use std::time::{Duration, Instant};

use crate::support::load::Load;
use crate::support::open::{Open, SOON};
use crate::support::process::eventually;
use crate::support::site::{session_id, until};
use crate::support::{Client, Site};

/// Fails the test when the application was asked for `/loop` later than a second after `ended`;
/// gives the last time.
pub(super) fn last_admitted(site: &Site, ended: Instant) -> Duration {
    let last = site.app.asked_after("/loop", ended).into_iter().max().unwrap_or_default();
    assert!(last <= SOON, "admitted {last:?} after the answer");
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_admitted_a_second_after_a_logout_elsewhere() {
    let site = Site::start();
    let (mut lags, mut asked) = (Vec::new(), 0);
    for _ in 0..10 {
        let (mut at_a, at_b) = site.signed_in("alice").await;
        let load = Load::of(&at_b, "/loop", 8);
        load.further(100).await;
        at_a.delete("/auth/session").await.expect(204);
        let ended = Instant::now();
        load.further(100).await;
        let answers = load.end().await;
        asked += answers.len();
        lags.push(last_admitted(&site, ended));
        assert_eq!(answers.with(200) + answers.with(401), answers.len(), "{}", answers.tally());
        assert!(answers.last(200, ended).is_none_or(|at| at <= SOON));
    }
    lags.sort_unstable();
    println!(
        "wrong admissions later than 1 s: 0 of {asked}; last admission after the answer: \
         median {:?}, max {:?}",
        lags[lags.len() / 2],
        lags[lags.len() - 1]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_in_flight_hand_nothing_on() {
    const CONNECTIONS: usize = 10;
    const EACH: usize = 100;
    let site = Site::start();
    let (mut at_a, _) = site.signed_in("alice").await;
    let before = site.app.count();
    let mut flights = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::h2(&site.b);
        client.set_cookie(crate::support::client::COOKIE, at_a.token().unwrap());
        flights.push(client.at_once("/held", EACH).await);
        clients.push(client);
    }
    let here = || site.app.count() - before;
    let all =
        std::fmt::from_fn(|f| write!(f, "all requests at the application, {} of them", here()));
    eventually(all, || {
        // Nothing may end yet, and what does is told.
        for flight in &mut flights {
            let early = flight.try_join_next().map(|answer| answer.unwrap());
            let early = early.map(|answer| answer.map(|answer| (answer.status, answer.text())));
            assert!(early.is_none(), "answered before its time: {early:?}");
        }
        (here() >= CONNECTIONS * EACH).then_some(())
    })
    .await;
    at_a.delete("/auth/session").await.expect(204);
    let ended = Instant::now();
    tokio::time::sleep_until((ended + SOON).into()).await;
    site.app.gate.open();
    let (mut refused, mut broken) = (0, 0);
    for flight in flights {
        for answer in flight.join_all().await {
            match answer {
                Ok(answer) if answer.status == 401 => refused += 1,
                Ok(answer) => {
                    assert!(answer.truncated, "{} {}", answer.status, answer.text());
                    broken += 1;
                }
                Err(_) => broken += 1,
            }
        }
    }
    println!("1,000 in flight: 0 handed on, {refused} refused, {broken} cut");
    site.b.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_streams_are_cut_on_the_other_node() {
    let site = Site::start();
    let (mut at_a, at_b) = site.signed_in("alice").await;
    let (_, bystander) = site.signed_in("bob").await;
    let mut other = crate::support::Raw::websocket(&site.b, &bystander, "/ws").await;
    let open = Open::under(&site.b, &at_b).await;
    at_a.delete("/auth/session").await.expect(204);
    open.are_cut(Instant::now()).await;
    other.echo("still here").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ending_one_and_all_others_reaches_the_other_node() {
    let site = Site::start();
    let mut here = site.a.signed_in("alice").await;
    let (mut first_a, first_b) = site.signed_in("alice").await;
    let open = Open::under(&site.b, &first_b).await;
    let id = session_id(&mut first_a).await;
    here.delete(&format!("/auth/sessions/{id}")).await.expect(204);
    open.are_cut(Instant::now()).await;
    first_b.tab().get("/x").await.expect(401);

    let (_, second) = site.signed_in("alice").await;
    let third = site.b.signed_in("alice").await;
    let (_, of_bob) = site.signed_in("bob").await;
    let open = Open::under(&site.b, &second).await;
    let ended = here.delete("/auth/sessions").await.expect(200).json();
    let at = Instant::now();
    assert_eq!(ended["ended"], 2, "{ended}");
    open.are_cut(at).await;
    second.tab().get("/x").await.expect(401);
    third.tab().get("/x").await.expect(401);
    of_bob.tab().get("/x").await.expect(200);
    here.at(&site.b).get("/x").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_on_one_node_ends_sessions_on_both() {
    let site = Site::start();
    let (mut at_a, mut at_b) = site.signed_in("bob").await;
    let open = Open::under(&site.b, &at_b).await;
    let id = session_id(&mut at_a).await;
    site.a.cli(&["session", "revoke", &id]).success();
    open.are_cut(Instant::now()).await;
    at_b.get("/x").await.expect(401);

    let (_, mut at_b) = site.signed_in("bob").await;
    let open = Open::under(&site.b, &at_b).await;
    site.a.cli(&["session", "revoke", "--user", "bob"]).success();
    open.are_cut(Instant::now()).await;
    at_b.get("/x").await.expect(401);
}

/// The other node need not have read the users file again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disabling_a_user_on_one_node_ends_their_sessions_on_both() {
    let site = Site::start();
    let (mut at_a, mut at_b) = site.signed_in("bob").await;
    let (_, mut of_alice) = site.signed_in("alice").await;
    let open = Open::under(&site.b, &at_b).await;
    site.a.cli(&["user", "disable", "bob"]).success();
    let begun = Instant::now();
    site.a.reload();
    open.are_cut(begun).await;
    at_b.get("/x").await.expect(401);
    until(&mut at_a, "/x", 401).await;
    of_alice.get("/x").await.expect(200);
}

/// What was ended stays ended also for a node that comes back, and for one that starts anew.
#[tokio::test]
async fn a_logout_holds_for_nodes_that_were_away() {
    let mut site = Site::start();
    let (mut at_a, mut at_b) = site.signed_in("alice").await;
    site.b.kill9();
    at_a.delete("/auth/session").await.expect(204);
    site.b = site.b.restart();
    at_b.reconnect();
    at_b.get("/x").await.expect(401);
}
