//! What one node is told of the other, and what befalls servers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::redis::{Sentinel, Server};
use super::{open, prefix};
use crate::clock::{Clock, UnixMs};
use crate::session::{Replaced, SessionId, Store, StoreError, Watcher};
use crate::store::suite::{document, session};

/// What a store has told.
#[derive(Debug, Default)]
struct Told {
    changed: Mutex<Vec<SessionId>>,
    flushed: AtomicBool,
    reconnected: AtomicUsize,
}

impl Told {
    fn of(&self, id: SessionId) -> usize {
        self.changed.lock().unwrap().iter().filter(|told| **told == id).count()
    }
}

impl Watcher for Told {
    fn changed(&self, id: SessionId) {
        self.changed.lock().unwrap().push(id);
    }

    fn flushed(&self) {
        self.flushed.store(true, Ordering::SeqCst);
    }

    fn reconnected(&self) {
        self.reconnected.fetch_add(1, Ordering::SeqCst);
    }
}

/// A node: a store and what it was told.
fn node(settings: &str, clock: Clock) -> (Arc<dyn Store>, Arc<Told>) {
    let (store, told) = (open(settings, clock), Arc::new(Told::default()));
    store.watch(Arc::<Told>::clone(&told));
    (store, told)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

/// A command at `at` makes an answer there prove that all before it was told.
async fn barrier(store: &dyn Store) {
    let _ = store.load(SessionId::issue().unwrap()).await.unwrap();
}

#[tokio::test]
async fn changes_are_told_to_the_other_node_before_the_next_answer() {
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::system();
    let (one, told_one) = node(&settings, clock.clone());
    let (other, told) = node(&settings, clock.clone());
    barrier(&*other).await;
    let mut record = session("u1", clock.now());
    one.create(record.clone()).await.unwrap();
    barrier(&*other).await;
    assert_eq!(told.of(record.id), 1);
    record.generation = 1;
    assert_eq!(one.replace(record.clone()).await.unwrap(), Replaced::Done);
    barrier(&*other).await;
    assert_eq!(told.of(record.id), 2);
    // A use is told to all, once.
    barrier(&*one).await;
    let own = told_one.of(record.id);
    let later = clock.now().plus(Duration::from_secs(1));
    one.touch(vec![(record.id, later)]).await.unwrap();
    barrier(&*other).await;
    assert_eq!(told.of(record.id), 3);
    let seen = other.load(record.id).await.unwrap().unwrap().seen;
    assert!(seen.0.abs_diff(later.0) < 100, "{seen:?}");
    barrier(&*one).await;
    assert_eq!(told_one.of(record.id), own + 1);
    assert!(one.end(record.id).await.unwrap().is_some());
    barrier(&*other).await;
    assert_eq!(told.of(record.id), 4);
    assert!(other.load(record.id).await.unwrap().is_none());
    server.flush();
    until("told of the flush", || told.flushed.load(Ordering::SeqCst)).await;
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_server_answers_and_lapses_with_the_connection() {
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::system();
    let (store, told) = node(&settings, clock.clone());
    let record = session("u1", clock.now());
    store.create(record.clone()).await.unwrap();
    let first = store.load(record.id).await.unwrap().unwrap().lease;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(first.holds(clock.now()), "renewed");
    server.stop();
    until("the lease ends", || !first.holds(clock.now())).await;
    let begun = std::time::Instant::now();
    let refused = store.load(record.id).await.unwrap_err();
    assert!(matches!(refused, StoreError::Down(_)), "{refused}");
    assert!(begun.elapsed() < Duration::from_millis(200), "the breaker is open");
    let before = told.reconnected.load(Ordering::SeqCst);
    server.cont();
    until("it comes back", || told.reconnected.load(Ordering::SeqCst) > before).await;
    until("it answers", || store.links().iter().all(|link| link.ready)).await;
    let next = store.load(record.id).await.unwrap().unwrap().lease;
    assert!(next.holds(clock.now()));
    server.kill_clients();
    until("lapsed", || !next.holds(clock.now())).await;
    assert!(next.covers(clock.now()), "streams may go on while it is read again");
    until("it comes back", || store.links().iter().all(|link| link.ready)).await;
    assert!(store.load(record.id).await.unwrap().is_some());
    assert!(store.links()[0].lease_age.is_some());
}

#[tokio::test]
async fn cached_sessions_outlast_an_outage_where_the_operator_wants_that() {
    let mut server = Server::start();
    let outage = "on_outage = \"serve-cached\"\nserve_cached_for = \"2s\"\n";
    let settings = format!("url = \"{}\"\n{outage}{}", server.url(0), prefix());
    let clock = Clock::system();
    let (store, _) = node(&settings, clock.clone());
    let record = session("u1", clock.now());
    store.create(record.clone()).await.unwrap();
    let lease = store.load(record.id).await.unwrap().unwrap().lease;
    server.kill();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(lease.holds(clock.now()) && lease.covers(clock.now()));
    assert!(store.load(record.id).await.is_err());
    assert!(store.end(record.id).await.is_err(), "never a false goodbye");
    until("the bound", || !lease.holds(clock.now()) && !lease.covers(clock.now())).await;
}

#[tokio::test]
async fn nodes_with_different_clocks_agree() {
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let now = Clock::system().now();
    let ahead = Clock::manual(now.plus(Duration::from_secs(7200)));
    let behind = Clock::manual(UnixMs(now.0 - 300_000));
    let (one, _) = node(&settings, ahead.clone());
    let (other, _) = node(&settings, behind.clone());
    let record = session("u1", ahead.now());
    one.create(record.clone()).await.unwrap();
    let read = other.load(record.id).await.unwrap().unwrap();
    let left = |ends: UnixMs, clock: &Clock| ends.0 - clock.now().0;
    assert!(left(read.ends(), &behind).abs_diff(left(record.ends(), &ahead)) < 200);
    assert!(left(read.expires, &behind).abs_diff(left(record.expires, &ahead)) < 200);
    for clock in [&ahead, &behind] {
        clock.advance(Duration::from_secs(599));
    }
    assert_eq!(one.of_user("u1").await.unwrap().len(), 1);
    assert_eq!(other.of_user("u1").await.unwrap().len(), 1);
    for clock in [&ahead, &behind] {
        clock.advance(Duration::from_secs(2));
    }
    assert!(one.of_user("u1").await.unwrap().is_empty());
    assert!(other.of_user("u1").await.unwrap().is_empty());
}

#[tokio::test]
async fn sessions_expire_in_redis_and_with_them_their_keys() {
    let server = Server::start();
    let prefix = prefix();
    let settings = format!("url = \"{}\"\n{prefix}", server.url(0));
    let clock = Clock::system();
    let (store, told) = node(&settings, clock.clone());
    let mut record = session("u1", clock.now());
    (record.idle_ms, record.expires) = (300, clock.now().plus(Duration::from_millis(900)));
    store.create(record.clone()).await.unwrap();
    let before = told.of(record.id);
    until("expired", || server.keys(0, "*s:????????-*").is_empty()).await;
    until("told", || told.of(record.id) > before).await;
    assert!(store.load(record.id).await.unwrap().is_none());
    until("the index goes, too", || server.keys(0, "*u:*").is_empty()).await;
}

#[tokio::test]
async fn what_is_no_record_counts_as_none_and_can_be_ended() {
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::system();
    let (store, _) = node(&settings, clock.clone());
    let record = session("u1", clock.now());
    store.create(record.clone()).await.unwrap();
    let key = &server.keys(0, "*s:????????-*")[0];
    for value in ["", "nonsense", "1 1 1 1 1\n{}", "2 9 9 9 9\n{}"] {
        server.command(&["SET", key, value]);
        assert!(store.load(record.id).await.unwrap().is_none(), "{value}");
        assert!(store.of_user("u1").await.unwrap().is_empty());
        let mut next = record.clone();
        next.generation = 1;
        assert_eq!(store.replace(next).await.unwrap(), Replaced::Gone, "{value}");
        store.touch(vec![(record.id, clock.now())]).await.unwrap();
    }
    server.command(&["DEL", key]);
    server.command(&["LPUSH", key, "another type"]);
    assert!(store.load(record.id).await.unwrap().is_none(), "another type");
    assert!(store.of_user("u1").await.unwrap().is_empty());
    store.touch(vec![(record.id, clock.now())]).await.unwrap();
    assert!(store.end(record.id).await.unwrap().is_none());
    assert!(server.keys(0, "*s:????????-*").is_empty(), "an end leaves nothing");
}

#[tokio::test]
async fn another_record_under_a_key_is_refused() {
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::system();
    let (store, _) = node(&settings, clock.clone());
    let (mine, theirs) = (session("u1", clock.now()), session("u2", clock.now()));
    for record in [&mine, &theirs] {
        store.create(record.clone()).await.unwrap();
    }
    let key = |id: SessionId| server.keys(0, &format!("*{id}"))[0].clone();
    let value = server.command(&["GET", &key(theirs.id)]).text().to_owned();
    server.command(&["SET", &key(mine.id), &value]);
    assert!(store.load(mine.id).await.unwrap().is_none());
    let read = store.load(theirs.id).await.unwrap().unwrap();
    assert_eq!(document(&read), document(&theirs));
}

/// The one that was lost with the old master is ended anew at the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_answered_when_a_replica_has_it() {
    let set = Sentinel::start();
    let urls: Vec<_> = set.addrs().iter().map(|addr| format!("\"redis://{addr}\"")).collect();
    let urls = urls.join(", ");
    let settings = format!("sentinels = [{urls}]\nmaster = \"sessions\"\n{}", prefix());
    let clock = Clock::system();
    let (store, _) = node(&settings, clock.clone());
    let (one, two) = (session("u1", clock.now()), session("u1", clock.now()));
    for record in [&one, &two] {
        store.create(record.clone()).await.unwrap();
    }
    assert!(store.end(one.id).await.unwrap().is_some());
    // No replica says that it has it.
    let replicas = set.master().command(&["CLIENT", "KILL", "TYPE", "replica"]).int();
    assert_eq!(replicas, 2);
    let outcome = store.end(two.id).await;
    // They may be back already; if not, it is not answered as done.
    if let Err(refused) = &outcome {
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    }
    assert!(store.load(two.id).await.unwrap().is_none(), "refused here in any case");
}

/// As after a failover to a replica that did not have it yet.
#[tokio::test]
async fn what_was_buried_is_put_back_when_it_is_lost() {
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::system();
    let (store, _) = node(&settings, clock.clone());
    let record = session("u1", clock.now());
    store.create(record.clone()).await.unwrap();
    let mut tombstone = record.clone();
    (tombstone.generation, tombstone.over, tombstone.idle_ms) = (u64::MAX, true, u64::MAX);
    store.bury(tombstone).await.unwrap();
    let pattern = format!("*{}", record.id);
    let key = server.keys(0, &pattern)[0].clone();
    server.command(&["DEL", &key]);
    let found = store.load(record.id).await.unwrap();
    assert!(found.is_some_and(|found| found.over), "ended here whatever the server has");
    assert!(store.create(record.clone()).await.is_err());
    server.kill_clients();
    until("it is put back", || !server.keys(0, &pattern).is_empty()).await;
    let (other, _) = node(&settings, clock);
    assert!(other.load(record.id).await.unwrap().is_some_and(|found| found.over));
    assert!(other.create(record).await.is_err());
}
