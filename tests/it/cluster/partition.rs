//! A node that Redis cannot be reached from refuses within a second, says so, and comes back by
//! itself. The other one serves on.

use std::time::{Duration, Instant};

use super::revocation::last_admitted;
use crate::support::Site;
use crate::support::load::{Answers, Load};
use crate::support::open::{Open, SOON};
use crate::support::process::PATIENCE;
use crate::support::site::{refused, until};

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Connections stay and say nothing.
    Blackhole,
    /// Connections end, and new ones, too.
    Cut,
}

async fn cut_off(fault: Fault) {
    let site = Site::impatient();
    let (mut at_a, at_b) = site.signed_in("alice").await;
    let (mut live_a, mut live_b) = site.signed_in("bob").await;
    let open = Open::under(&site.b, &at_b).await;
    let load = Load::of(&at_b, "/loop", 4);
    let public = Load::paced(&site.b.client(), "/public/x", 1, Duration::from_millis(1));
    load.further(100).await;
    public.further(100).await;
    let fault_at = Instant::now();

    match fault {
        Fault::Blackhole => site.link_b.blackhole(),
        Fault::Cut => site.link_b.cut(),
    }
    at_a.delete("/auth/session").await.expect(204);
    let ended = Instant::now();
    // Whose session it was cannot be known to this node: the streams end as if it were over.
    let code = open.end_within(ended, SOON + Duration::from_millis(250)).await;
    assert_eq!(code, Some(1013), "a fault must not look like a sign-out");
    tokio::time::sleep_until((ended + SOON).into()).await;
    load.further(50).await;
    // Everybody is refused there who must be known, and keeps the cookie.
    refused(&live_b.get("/x").await);
    refused(
        &live_b.post_json("/auth/switch", &serde_json::json!({ "claim": "group/staff" })).await,
    );
    refused(&site.b.client().try_sign_in("bob", &crate::support::gateway::password("bob")).await);
    let token = live_b.token().unwrap().to_owned();
    let logout = live_b.delete("/auth/session").await;
    assert!(logout.status >= 500, "{} {}", logout.status, logout.text());
    assert_eq!(live_b.token(), Some(token.as_str()), "{:?}", logout.headers);
    site.b.admin_get("/livez").await.expect(200);
    site.b.admin_get("/readyz").await.expect(503);
    // The other node does not care.
    live_a.get("/x").await.expect(200);
    site.a.signed_in("alice").await.get("/x").await.expect(200);
    site.a.admin_get("/readyz").await.expect(200);

    let answers = load.end().await;
    let last = last_admitted(&site, ended);
    let late = answers.after(ended + SOON);
    assert!(late.len() >= 50 && late.with(503) == late.len(), "{}", late.tally());

    site.link_b.forward();
    let back = until(&mut live_b, "/x", 200).await;
    at_b.tab().get("/x").await.expect(401);
    live_a.get("/x").await.expect(200);
    let begun = Instant::now();
    while site.b.admin_get("/readyz").await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "never ready again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let public = public.end().await;
    assert_eq!(public.with(200), public.len(), "{}", public.tally());
    let (before, during): (Vec<_>, Vec<_>) =
        public.0.iter().partition(|answer| answer.at < fault_at);
    println!(
        "{fault:?}: wrong admissions 0 of {}, last one after {last:?}; WebSocket closed with \
         {code:?}; served again after {back:?}; p99 of the public route {:?}, before {:?}",
        answers.len(),
        Answers(during).quantile(0.99),
        Answers(before).quantile(0.99),
    );
    assert!(back <= SOON, "served again only after {back:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_packets_vanish_refuses_within_a_second() {
    cut_off(Fault::Blackhole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_connections_break_refuses_within_a_second() {
    cut_off(Fault::Cut).await;
}

/// Too short to end the lease: nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hiccup_refuses_nobody() {
    let site = Site::impatient();
    let (_, at_b) = site.signed_in("alice").await;
    let load = Load::of(&at_b, "/loop", 2);
    for _ in 0..5 {
        load.further(20).await;
        site.link_b.blackhole();
        tokio::time::sleep(Duration::from_millis(100)).await;
        site.link_b.forward();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let answers = load.end().await;
    println!("hiccups of 100 ms: {}", answers.tally());
    assert_eq!(answers.with(200), answers.len());
}

/// A connection that broke may have lost an invalidation: what was cached before is not believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_while_cut_off_is_not_believed_after() {
    let site = Site::impatient();
    for _ in 0..10 {
        let (mut at_a, mut at_b) = site.signed_in("alice").await;
        site.link_b.cut();
        at_a.delete("/auth/session").await.expect(204);
        site.link_b.forward();
        let ended = Instant::now();
        // Whichever it is at once, within a second it is refused for good.
        while ended.elapsed() < SOON {
            at_b.get("/loop").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        last_admitted(&site, ended);
        until(&mut at_b, "/x", 401).await;
    }
}
