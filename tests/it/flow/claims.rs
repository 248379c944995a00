//! Switching the active claim, and what the application sees of it at the next request.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{mentions, problem};
use crate::support::process::PATIENCE;
use crate::support::{Client, Gateway, Upstream};

async fn active(client: &mut Client, upstream: &Upstream) -> String {
    client.get("/x").await.expect(200);
    upstream.last().header("x-auth-active-claim").expect("no active claim")
}

async fn switch(client: &mut Client, claim: &str) -> u16 {
    client.post_json("/auth/switch", &json!({ "claim": claim })).await.status
}

#[tokio::test]
async fn a_switch_is_seen_at_the_next_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut client = gateway.signed_in("alice").await;
    assert_eq!(active(&mut client, &upstream).await, "user/u-alice");
    for claim in ["group/staff", "group/eng", "group/eng-core", "user/u-alice"] {
        assert_eq!(switch(&mut client, claim).await, 200, "{claim}");
        assert_eq!(active(&mut client, &upstream).await, claim);
        let session = client.get("/auth/session").await.expect(200).json();
        assert!(mentions(&session, claim), "{session}");
    }
}

#[tokio::test]
async fn a_claim_must_be_ones_own() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut bob = gateway.signed_in("bob").await;
    let foreign = [
        "group/eng",
        "group/eng-core",
        "group/none",
        "user/u-alice",
        "staff",
        "group/",
        "",
        "group/staff,group/eng",
    ];
    for claim in foreign {
        let status = switch(&mut bob, claim).await;
        assert!(matches!(status, 400 | 403), "{claim}: {status}");
        assert_eq!(active(&mut bob, &upstream).await, "user/u-bob");
    }
    let claim = json!({ "claim": "group/staff" });
    problem(&gateway.client().post_json("/auth/switch", &claim).await, 401);
}

#[tokio::test]
async fn a_switch_changes_the_token_and_the_old_one_dies() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut client = gateway.signed_in("alice").await;
    let mut old = client.tab();
    assert_eq!(switch(&mut client, "group/eng").await, 200);
    let [before, after] =
        [&old, &client].map(|c| c.token().unwrap().split_once('.').unwrap().to_owned());
    assert_eq!(before.0, after.0, "the session is the same");
    assert_ne!(before.1, after.1, "the secret is not");
    // Requests in flight still pass for a moment, but never with the old claim.
    let end = Instant::now() + PATIENCE;
    loop {
        upstream.forget();
        if old.get("/x").await.status == 401 {
            break;
        }
        let seen = upstream.last().header("x-auth-active-claim");
        assert_eq!(seen.as_deref(), Some("group/eng"));
        assert!(Instant::now() < end, "the old secret lives on");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(active(&mut client, &upstream).await, "group/eng");
}

#[tokio::test]
async fn switches_at_the_same_time_never_mix() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let client = gateway.signed_in("alice").await;
    let mut tabs = [client.tab(), client.tab()];
    let [one, two] = &mut tabs;
    let both = tokio::join!(switch(one, "group/eng"), switch(two, "group/staff"));
    // One may lose, but then it must not have had an effect.
    for (tab, status, claim) in [(one, both.0, "group/eng"), (two, both.1, "group/staff")] {
        if status == 200 {
            let seen = active(tab, &upstream).await;
            assert!(["group/eng", "group/staff"].contains(&seen.as_str()), "{claim}: {seen}");
        }
    }
    assert!(both.0 == 200 || both.1 == 200, "{both:?}");
}
