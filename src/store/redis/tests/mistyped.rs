//! Keys that hold a value of another type than the gateway's.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::redis::Server;
use super::{open, prefix};
use crate::clock::Clock;
use crate::session::{Count, CounterKey, Person, Replaced, SessionId, Settled, Step, Store};
use crate::store::suite::session;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Stores of two nodes, and the server's keys of three sessions of `u1`.
async fn three_sessions(server: &Server) -> ([Arc<dyn Store>; 2], Vec<(SessionId, String)>) {
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::system();
    let stores = [(); 2].map(|()| open(&settings, clock.clone()));
    let mut made = Vec::new();
    for _ in 0..3 {
        let record = session("u1", clock.now());
        stores[0].create(record.clone()).await.unwrap();
        let key = server.keys(0, &format!("*{}", record.id))[0].clone();
        made.push((record.id, key));
    }
    (stores, made)
}

/// Puts a list in the place of a key.
fn mistype(server: &Server, key: &str) {
    server.command(&["DEL", key]);
    server.command(&["LPUSH", key, "x"]);
}

async fn ids_of(store: &dyn Store, user: &str) -> Vec<SessionId> {
    let mut ids: Vec<_> = store.of_user(user).await.unwrap().iter().map(|one| one.id).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_session_of_another_type_is_in_nobodys_way() {
    let server = Server::start();
    let ([one, other], made) = three_sessions(&server).await;
    let (lost, key) = &made[0];
    mistype(&server, key);
    let log = Memory::default();
    let writer = {
        let log = log.clone();
        move || log.clone()
    };
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let mut left: Vec<_> = made[1..].iter().map(|(id, _)| *id).collect();
    left.sort_unstable();
    let listed: Vec<_> = one.list(9).await.unwrap().iter().map(|record| record.id).collect();
    assert_eq!(listed, left);
    assert_eq!(ids_of(&*one, "u1").await, left);
    assert!(one.load(*lost).await.unwrap().is_none());
    let told = log.text();
    let remedy = format!("DEL {key:?}");
    assert_eq!(told.lines().filter(|line| line.contains(&remedy)).count(), 3, "{told}");
    let counted = format!("{:?}", one.metrics().unwrap());
    assert!(counted.contains("unreadable: 3"), "{counted}");
    let mut next = session("u1", Clock::system().now());
    (next.id, next.generation) = (*lost, 1);
    assert_eq!(one.replace(next.clone()).await.unwrap(), Replaced::Gone);
    mistype(&server, key);
    (next.generation, next.over) = (u64::MAX, true);
    assert!(one.bury(next).await.unwrap().is_none());
    assert!(other.load(*lost).await.unwrap().is_some_and(|found| found.over), "it is buried");
}

#[tokio::test]
async fn an_index_of_another_type_is_made_anew_with_all_sessions() {
    let server = Server::start();
    let ([one, other], made) = three_sessions(&server).await;
    let mut ids: Vec<_> = made.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    let clock = Clock::system();
    let stranger = session("u2", clock.now());
    one.create(stranger.clone()).await.unwrap();
    let index = &server.keys(0, "*u:u1")[0];
    // Whoever reads it makes it anew.
    mistype(&server, index);
    assert_eq!(ids_of(&*one, "u1").await, ids);
    let left = server.command(&["PTTL", index]).int();
    assert!(left > 60_000, "as long as the longest: {left}");
    // So does whoever adds to it; what is in the way of a session in it, too, does not matter.
    mistype(&server, index);
    mistype(&server, &made[0].1);
    ids.retain(|id| *id != made[0].0);
    let added = session("u1", clock.now());
    other.create(added.clone()).await.unwrap();
    ids.push(added.id);
    ids.sort_unstable();
    assert_eq!(server.command(&["TYPE", index]).text(), "zset");
    assert_eq!(ids_of(&*one, "u1").await, ids);
    assert_eq!(ids_of(&*one, "u2").await, [stranger.id]);
    // Nobody has sessions any more.
    for id in ids {
        one.end(id).await.unwrap();
    }
    mistype(&server, index);
    assert!(ids_of(&*other, "u1").await.is_empty());
    assert!(server.keys(0, "*u:u1").is_empty());
}

#[tokio::test]
async fn a_count_of_another_type_counts_as_nothing() {
    let server = Server::start();
    let settings = format!("url = \"{}\"\n{}", server.url(0), prefix());
    let clock = Clock::system();
    let store = open(&settings, clock.clone());
    let counters = store.counters();
    let [bad, good] = ["bad", "good"].map(|name| CounterKey::Person(Person::typed(name)));
    let failed = Step::Settle { taken: clock.now(), outcome: Settled::Failed };
    for key in [&bad, &good] {
        counters.apply(key, failed).await.unwrap();
    }
    let name = &server.keys(0, &format!("*t:{bad}"))[0];
    mistype(&server, name);
    let (listed, _) = counters.list(9).await.unwrap();
    assert_eq!(listed.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&good]);
    assert_eq!(counters.read(&bad).await.unwrap().0, Count::default());
    mistype(&server, name);
    assert_eq!(counters.apply(&bad, failed).await.unwrap().0, Count::default());
    assert_eq!(counters.list(9).await.unwrap().0.len(), 2, "it is counted anew");
    mistype(&server, name);
    counters.forget(&bad).await.unwrap();
    assert!(server.keys(0, &format!("*t:{bad}")).is_empty());
}
