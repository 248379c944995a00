//! What every store must do: one suite, run against each kind.
//!
//! Knows nothing of a kind; what only one kind promises is tested beside it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json, to_value};

use crate::clock::{Clock, UnixMs};
use crate::session::{Record, Replaced, SessionId, Store, StoreError, Token};

/// When the tests begin.
pub(crate) const START: UnixMs = UnixMs(1_800_000_000_000);

/// A session that lives for an hour, ten minutes when idle.
pub(crate) fn session(user: &str, now: UnixMs) -> Record {
    let token = Token::issue(SessionId::issue().unwrap()).unwrap();
    serde_json::from_value(json!({
        "v": 1, "generation": 0, "id": token.id(), "secret": token.hash(), "user": user,
        "identifier": user, "claim": format!("user/{user}"), "method": "password",
        "authenticated": now, "created": now, "seen": now,
        "expires": now.plus(Duration::from_secs(3600)), "idle_ms": 600_000,
    }))
    .unwrap()
}

/// The record as a document, for comparison.
pub(crate) fn document(record: &Record) -> Value {
    to_value(record).unwrap()
}

/// Runs the suite. `open` gives an empty store that follows the clock.
pub(crate) async fn run<F, S>(open: F)
where
    F: Fn(Clock) -> S,
    S: Future<Output = Arc<dyn Store>>,
{
    let clock = Clock::manual(START);
    let store = open(clock.clone()).await;
    store.ready().await.unwrap();
    what_is_created_is_loaded(&*store).await;
    what_a_newer_version_wrote_is_kept(&*store).await;
    replacing_compares_generations(&*store).await;
    of_two_replacements_one_wins(&store).await;
    ending_is_final_and_repeatable(&store).await;
    what_is_buried_stays_ended(&*store).await;
    touching_only_moves_forward(&*store).await;
    users_see_their_own_sessions_newest_first(&*store).await;
    let store = open(clock.clone()).await;
    a_list_is_bounded(&*store).await;
    let store = open(clock.clone()).await;
    what_has_expired_is_hidden(&*store, &clock).await;
    let store = open(clock.clone()).await;
    what_is_buried_is_kept_until_it_expires(&*store, &clock).await;
}

async fn what_is_created_is_loaded(store: &dyn Store) {
    let record = session("created", START);
    assert!(store.load(record.id).await.unwrap().is_none());
    store.create(record.clone()).await.unwrap();
    let loaded = store.load(record.id).await.unwrap().unwrap();
    assert_eq!(document(&loaded), document(&record));
    let mut thief = session("thief", START);
    thief.id = record.id;
    assert!(store.create(thief).await.is_err(), "an id in use is never taken over");
    assert_eq!(store.load(record.id).await.unwrap().unwrap().user, "created");
    assert!(store.of_user("thief").await.unwrap().is_empty());
}

async fn what_a_newer_version_wrote_is_kept(store: &dyn Store) {
    let mut newer = document(&session("newer", START));
    newer["v"] = 2.into();
    newer["device_key"] = json!({ "alg": "ES256" });
    let mut record: Record = serde_json::from_value(newer).unwrap();
    store.create(record.clone()).await.unwrap();
    record.generation = 1;
    assert_eq!(store.replace(record.clone()).await.unwrap(), Replaced::Done);
    let loaded = store.load(record.id).await.unwrap().unwrap();
    assert_eq!(document(&loaded)["device_key"]["alg"], "ES256");
}

async fn replacing_compares_generations(store: &dyn Store) {
    let mut record = session("replaced", START);
    record.generation = 1;
    assert_eq!(store.replace(record.clone()).await.unwrap(), Replaced::Gone, "never was");
    record.generation = 0;
    store.create(record.clone()).await.unwrap();
    for (generation, expected) in [
        (0, Replaced::Conflict),
        (2, Replaced::Conflict),
        (1, Replaced::Done),
        (1, Replaced::Conflict),
    ] {
        let mut next = record.clone();
        (next.generation, next.claim) = (generation, format!("group/{generation}"));
        assert_eq!(store.replace(next).await.unwrap(), expected, "generation {generation}");
    }
    let loaded = store.load(record.id).await.unwrap().unwrap();
    assert_eq!((loaded.generation, loaded.claim.as_str()), (1, "group/1"));
    let later = START.plus(Duration::from_secs(5));
    store.touch(vec![(record.id, later)]).await.unwrap();
    record.generation = 2;
    assert_eq!(store.replace(record.clone()).await.unwrap(), Replaced::Done);
    let loaded = store.load(record.id).await.unwrap().unwrap();
    assert_eq!(loaded.seen, later, "an older `seen` does not undo a use");
    store.end(record.id).await.unwrap();
    record.generation = 3;
    assert_eq!(store.replace(record.clone()).await.unwrap(), Replaced::Gone, "ended");
    assert!(store.load(record.id).await.unwrap().is_none(), "not brought back");
}

async fn of_two_replacements_one_wins(store: &Arc<dyn Store>) {
    for round in 0..20 {
        let record = session("contended", START);
        store.create(record.clone()).await.unwrap();
        let attempt = |claim: String| {
            let (store, mut next) = (Arc::clone(store), record.clone());
            (next.generation, next.claim) = (1, claim);
            tokio::spawn(async move { store.replace(next).await.unwrap() })
        };
        let (one, two) = (attempt("group/one".to_owned()), attempt("group/two".to_owned()));
        let (one, two) = (one.await.unwrap(), two.await.unwrap());
        let winner = match (one, two) {
            (Replaced::Done, Replaced::Conflict) => "group/one",
            (Replaced::Conflict, Replaced::Done) => "group/two",
            other => panic!("round {round}: {other:?}"),
        };
        assert_eq!(store.load(record.id).await.unwrap().unwrap().claim, winner);
    }
}

async fn ending_is_final_and_repeatable(store: &Arc<dyn Store>) {
    let record = session("ended", START);
    assert!(store.end(record.id).await.unwrap().is_none());
    store.create(record.clone()).await.unwrap();
    let attempt = || {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.end(record.id).await.unwrap() })
    };
    let (one, two) = (attempt(), attempt());
    let found: Vec<_> = [one.await.unwrap(), two.await.unwrap()].into_iter().flatten().collect();
    assert_eq!(found.len(), 1, "one of two gets the record");
    assert_eq!(found[0].user, "ended");
    assert!(store.load(record.id).await.unwrap().is_none());
    assert!(store.of_user("ended").await.unwrap().is_empty());
    assert!(store.end(record.id).await.unwrap().is_none());
}

/// The record of a session that has ended and must be kept.
fn tombstone(record: &Record) -> Record {
    let mut tombstone = record.clone();
    (tombstone.generation, tombstone.over, tombstone.idle_ms) = (u64::MAX, true, u64::MAX);
    tombstone
}

async fn what_is_buried_stays_ended(store: &dyn Store) {
    let record = session("buried", START);
    store.create(record.clone()).await.unwrap();
    let mut changed = record.clone();
    changed.generation = 1;
    assert_eq!(store.replace(changed.clone()).await.unwrap(), Replaced::Done);
    let former = store.bury(tombstone(&record)).await.unwrap();
    assert_eq!(former.map(|former| (former.generation, former.over)), Some((1, false)));
    for generation in [0, 1, 2, u64::MAX] {
        changed.generation = generation;
        let replaced = store.replace(changed.clone()).await.unwrap();
        assert_ne!(replaced, Replaced::Done, "generation {generation}");
    }
    assert!(store.create(record.clone()).await.is_err(), "its id is in use");
    let found = store.load(record.id).await.unwrap().unwrap();
    assert_eq!((found.over, found.generation), (true, u64::MAX));
    assert!(store.of_user("buried").await.unwrap().is_empty());
    let listed = store.list(usize::MAX).await.unwrap();
    assert!(listed.iter().all(|listed| listed.id != record.id));
    let again = store.bury(tombstone(&record)).await.unwrap();
    assert!(again.is_some_and(|former| former.over), "it was there");
    let unknown = tombstone(&session("buried", START));
    assert!(store.bury(unknown.clone()).await.unwrap().is_none());
    assert!(store.create(unknown).await.is_err());
}

/// Moves the clock.
async fn what_is_buried_is_kept_until_it_expires(store: &dyn Store, clock: &Clock) {
    let record = session("kept", clock.now());
    store.create(record.clone()).await.unwrap();
    store.bury(tombstone(&record)).await.unwrap();
    // Far beyond the idle limit that the session had.
    clock.advance(Duration::from_secs(3500));
    assert!(store.load(record.id).await.unwrap().is_some_and(|found| found.over));
    assert!(store.create(record).await.is_err());
}

async fn touching_only_moves_forward(store: &dyn Store) {
    let record = session("touched", START);
    store.create(record.clone()).await.unwrap();
    let unknown = SessionId::issue().unwrap();
    for (at, expected) in [(9_000, 9_000), (5_000, 9_000), (10_000, 10_000)] {
        let at = UnixMs(START.0 + at);
        store.touch(vec![(unknown, at), (record.id, at)]).await.unwrap();
        let loaded = store.load(record.id).await.unwrap().unwrap();
        assert_eq!(loaded.seen, UnixMs(START.0 + expected));
        assert_eq!(loaded.generation, 0, "a use is not a change");
    }
    assert!(store.load(unknown).await.unwrap().is_none());
}

async fn users_see_their_own_sessions_newest_first(store: &dyn Store) {
    let mut ids = Vec::new();
    // One name is the beginning of another, and one sorts before all: neighbours in an index.
    for (user, age) in [("amy", 3), ("amy2", 2), ("amy", 1), ("amy", 2), ("Amy", 0), ("am", 0)] {
        let now = START.plus(Duration::from_secs(10 - age));
        let record = session(user, now);
        if user == "amy" {
            ids.push((record.created, record.id));
        }
        store.create(record).await.unwrap();
    }
    ids.sort_unstable();
    let newest_first: Vec<_> = ids.iter().rev().map(|(_, id)| *id).collect();
    let listed = async || -> Vec<_> {
        store.of_user("amy").await.unwrap().into_iter().map(|record| record.id).collect()
    };
    assert_eq!(listed().await, newest_first);
    assert!(store.of_user("nobody").await.unwrap().is_empty());
    let mut users = store.users().await.unwrap();
    users.sort_unstable();
    users.retain(|user| user.to_lowercase().starts_with("am"));
    assert_eq!(users, ["Amy", "am", "amy", "amy2"]);
    store.end(newest_first[0]).await.unwrap();
    assert_eq!(listed().await, newest_first[1..]);
}

async fn a_list_is_bounded(store: &dyn Store) {
    for number in 0..7 {
        store.create(session(&format!("listed{number}"), START)).await.unwrap();
    }
    assert_eq!(store.list(3).await.unwrap().len(), 3);
    assert_eq!(store.list(0).await.unwrap().len(), 0);
    let mut users: Vec<_> =
        store.list(usize::MAX).await.unwrap().into_iter().map(|record| record.user).collect();
    users.sort_unstable();
    users.dedup();
    assert_eq!(users.len(), 7);
}

/// Moves the clock.
async fn what_has_expired_is_hidden(store: &dyn Store, clock: &Clock) {
    let (idle, used) = (session("ends", START), session("ends", START));
    store.create(idle.clone()).await.unwrap();
    store.create(used.clone()).await.unwrap();
    clock.advance(Duration::from_secs(599));
    store.touch(vec![(used.id, clock.now())]).await.unwrap();
    assert_eq!(store.of_user("ends").await.unwrap().len(), 2);
    clock.advance(Duration::from_secs(1));
    let left = store.of_user("ends").await.unwrap();
    assert_eq!(left.iter().map(|record| record.id).collect::<Vec<_>>(), [used.id]);
    assert_eq!(store.list(9).await.unwrap().len(), 1);
    clock.advance(Duration::from_secs(3000));
    assert!(store.list(9).await.unwrap().is_empty(), "the absolute end counts, too");
    let mut revived = used;
    (revived.generation, revived.seen) = (1, clock.now());
    revived.expires = clock.now().plus(Duration::from_secs(3600));
    assert_eq!(store.replace(revived).await.unwrap(), Replaced::Gone, "not brought back");
}

/// For stores with a bound: `store` takes `limit` sessions, is empty, and follows the clock.
pub(crate) async fn bounded(store: &dyn Store, limit: u64, clock: &Clock) {
    let mut all = Vec::new();
    for _ in 0..limit {
        all.push(session("many", clock.now()));
        store.create(all.last().unwrap().clone()).await.unwrap();
    }
    let refused = store.create(session("many", clock.now())).await;
    assert!(
        matches!(refused, Err(StoreError::Full { limit: told }) if told == limit),
        "{refused:?}"
    );
    assert_eq!(store.of_user("many").await.unwrap().len(), all.len());
    let mut changed = all[0].clone();
    changed.generation = 1;
    assert_eq!(store.replace(changed).await.unwrap(), Replaced::Done, "needs no room");
    store.end(all[0].id).await.unwrap();
    store.create(session("many", clock.now())).await.unwrap();
    assert!(store.create(session("many", clock.now())).await.is_err());
    // Not long enough for a sweep: only the need for room removes them.
    clock.advance(Duration::from_secs(601));
    for _ in 0..limit {
        store.create(session("new", clock.now())).await.unwrap();
    }
    assert!(store.create(session("new", clock.now())).await.is_err());
}
