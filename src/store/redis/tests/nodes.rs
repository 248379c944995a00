//! The session core of two nodes over one server.

use std::sync::Arc;
use std::time::Duration;

use super::redis::Server;
use super::{open, prefix};
use crate::audit::Origin;
use crate::clock::Clock;
use crate::secret::Secret;
use crate::session::testing::{People, authority_over, authority_with};
use crate::session::{
    Authority, Cached, Caller, Command, Credentials, Entry, KsTerms, Live, Member, Outcome, Seal,
    Streams, Token, Worthless,
};

fn node(settings: &str, clock: &Clock) -> Arc<Authority> {
    let (authority, _) = authority_over(open(settings, clock.clone()), clock);
    tokio::spawn(Arc::clone(&authority).tend());
    authority
}

async fn login(node: &Arc<Authority>) -> (Arc<Live>, Token) {
    let password = Secret::new("alice".to_owned());
    let alice = Credentials::Password { identifier: "alice".to_owned(), password };
    match node.execute(Command::login(alice), &Caller::default()).await.unwrap() {
        Outcome::Opened(live, token) => (live, token),
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

fn is_cached(node: &Authority, token: &Token, clock: &Clock) -> bool {
    matches!(node.cached(token, clock.now()), Cached::Live(_))
}

/// Whether the stream is cut at the next sweep.
fn is_cut(streams: &Streams, entry: &Entry, clock: &Clock) -> bool {
    streams.sweep(clock.now());
    entry.is_over()
}

#[tokio::test]
async fn what_one_ends_the_other_forgets_and_cuts() {
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::system();
    let (a, b) = (node(&settings, &clock), node(&settings, &clock));
    let (live, token) = login(&a).await;
    let there = b.load(&token).await.unwrap().unwrap();
    assert!(is_cached(&b, &token, &clock));
    let streams = Streams::new(clock.now());
    let entry = streams.enter(Arc::clone(there.pulse()));
    drop(there);
    assert!(a.end(live.id(), "logout", &Origin::default()).await.unwrap());
    assert!(!is_cached(&a, &token, &clock), "at once");
    until("forgotten", || !is_cached(&b, &token, &clock)).await;
    until("cut", || is_cut(&streams, &entry, &clock)).await;
    assert!(b.load(&token).await.unwrap().is_none());
}

/// Two nodes with partner 1, whose member alice is, and a KS of hers with these privileges.
async fn sealed(server: &Server, privileges: &str) -> ([Arc<Authority>; 2], Clock, Token) {
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let (clock, people) = (Clock::system(), Arc::new(People::new()));
    let secret = Secret::new("an admin secret".to_owned());
    people.partner("1", |partner| {
        partner.admin_secrets.push(secret.clone());
        partner.lifetime = Duration::from_secs(3600);
        partner.members.insert("u1".to_owned(), Member::default());
    });
    let nodes = [(); 2].map(|()| {
        let store = open(&settings, clock.clone());
        let (authority, _) = authority_with(store, Arc::clone(&people), &clock);
        tokio::spawn(Arc::clone(&authority).tend());
        authority
    });
    let (tenant, user) = ("1".to_owned(), "alice".to_owned());
    let seal = Seal::Secret { tenant, secret, user, admin: false };
    let terms = KsTerms { lifetime: None, privileges: privileges.to_owned() };
    let start = Command::StartSealed(seal, terms);
    match nodes[0].execute(start, &Caller::default()).await.unwrap() {
        Outcome::Opened(_, token) => (nodes, clock, token),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_sealed_session_that_one_ends_stays_ended_on_the_other() {
    let server = Server::start();
    let ([a, b], clock, token) = sealed(&server, "sessionid:s").await;
    let there = b.used(&token, None, "/").await.unwrap().unwrap();
    assert!(is_cached(&b, &token, &clock));
    let streams = Streams::new(clock.now());
    let entry = streams.enter(Arc::clone(there.pulse()));
    drop(there);
    let live = a.load(&token).await.unwrap().unwrap();
    let caller = Caller { session: Some(live), ..Caller::default() };
    let ended = a.execute(Command::Logout, &caller).await.unwrap();
    assert!(matches!(ended, Outcome::Ended(2)), "with its parent: {ended:?}");
    assert!(!is_cached(&a, &token, &clock), "at once");
    until("forgotten", || !is_cached(&b, &token, &clock)).await;
    until("cut", || is_cut(&streams, &entry, &clock)).await;
    for node in [&a, &b] {
        assert_eq!(node.used(&token, None, "/").await.unwrap().unwrap_err(), Worthless::Ended);
        assert!(node.store().of_user("u1").await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_allow_no_more_uses_than_there_are() {
    let server = Server::start();
    let (nodes, clock, token) = sealed(&server, "actionslimit:9").await;
    assert!(nodes.iter().all(|node| !is_cached(node, &token, &clock)));
    let uses: Vec<_> = (0..20)
        .map(|number: usize| {
            let (node, token) = (Arc::clone(&nodes[number % 2]), token.clone());
            tokio::spawn(async move { node.used(&token, None, "/").await })
        })
        .collect();
    let mut good = 0;
    for one in uses {
        match one.await.unwrap() {
            Ok(Ok(_)) => good += 1,
            Ok(Err(worthless)) => assert_eq!(worthless, Worthless::ActionsExceeded),
            Err(refusal) => panic!("{refusal}"),
        }
    }
    assert_eq!(good, 9);
}

#[tokio::test]
async fn a_claim_that_one_switches_is_the_others_claim() {
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::system();
    let (a, b) = (node(&settings, &clock), node(&settings, &clock));
    let (live, token) = login(&a).await;
    let there = b.load(&token).await.unwrap().unwrap();
    let streams = Streams::new(clock.now());
    let entry = streams.enter(Arc::clone(there.pulse()));
    let caller = Caller { session: Some(live), ..Caller::default() };
    let switch =
        Command::SwitchClaim { claim: "group/staff".to_owned(), extended: false, renew: false };
    let Outcome::Switched(_, new) = a.execute(switch, &caller).await.unwrap() else { panic!() };
    // The new secret is good there at once, whatever has been told.
    let found = match b.cached(&new, clock.now()) {
        Cached::Live(live) => live,
        Cached::Unknown => b.load(&new).await.unwrap().unwrap(),
        Cached::Worthless => panic!("refused from memory"),
    };
    assert_eq!(found.identity().claim, "group/staff");
    until("the old one shows the new claim", || match b.cached(&token, clock.now()) {
        Cached::Live(live) => live.identity().claim == "group/staff",
        _ => false,
    })
    .await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert!(!is_cut(&streams, &entry, &clock), "its streams go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_ask_for_a_session_one_asks_redis() {
    const TOGETHER: usize = 200;
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::system();
    let (a, b) = (node(&settings, &clock), node(&settings, &clock));
    let (live, token) = login(&a).await;
    let forged = Token::issue(live.id()).unwrap();
    b.store().ready().await.unwrap();
    // What scripts call counts, too: the login's counters do.
    server.forget_calls();
    server.pause(Duration::from_millis(100));
    let ask = |token: &Token| {
        let (b, token) = (Arc::clone(&b), token.clone());
        tokio::spawn(async move { b.load(&token).await.unwrap().is_some() })
    };
    let asked: Vec<_> = (0..TOGETHER).map(|n| ask([&token, &forged][n % 2])).collect();
    let mut opened = 0;
    for one in asked {
        opened += usize::from(one.await.unwrap());
    }
    assert_eq!(opened, TOGETHER / 2, "each secret is judged by itself");
    let calls = server.calls();
    let gets = calls.iter().find(|(name, _)| name == "get").map_or(0, |(_, count)| *count);
    assert!(gets < 10, "{calls:?}");
}

#[tokio::test]
async fn streams_outlast_a_connection_that_breaks_for_a_moment() {
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::system();
    let a = node(&settings, &clock);
    let (live, token) = login(&a).await;
    let streams = Streams::new(clock.now());
    let entry = streams.enter(Arc::clone(live.pulse()));
    drop(live);
    for _ in 0..3 {
        server.kill_clients();
        until("asked again", || !is_cached(&a, &token, &clock)).await;
        until("read again", || is_cached(&a, &token, &clock)).await;
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(!is_cut(&streams, &entry, &clock));
    server.stop();
    until("cut for want of a proof", || is_cut(&streams, &entry, &clock)).await;
    server.cont();
    until("the session is as it was", || is_cached(&a, &token, &clock)).await;
}

#[tokio::test]
async fn uses_are_written_seldom_but_all_the_same() {
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::manual(crate::store::suite::START);
    let a = authority_over(open(&settings, clock.clone()), &clock).0;
    let (live, _) = login(&a).await;
    server.forget_calls();
    for _ in 0..60 {
        clock.advance(Duration::from_secs(1));
        live.pulse().note(clock.now());
        a.upkeep().await;
    }
    let last = clock.now();
    let evals = || {
        let calls = server.calls();
        calls.iter().find(|(name, _)| name == "eval").map_or(0, |(_, count)| *count)
    };
    // Ten minutes of idle time: every 30 s.
    assert_eq!(evals(), 2);
    clock.advance(Duration::from_secs(40));
    a.upkeep().await;
    let written = a.store().load(live.id()).await.unwrap().unwrap().seen;
    assert_eq!(written, last, "the last one, too");
    a.upkeep().await;
    assert!(evals() <= 3);
}
