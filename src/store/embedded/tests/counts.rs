//! Counts of failed logins in the file: what outlives an end, how long an answer waits, what is bounded.

use std::net::IpAddr;

use super::*;
use crate::session::{
    Count, CounterKey, Denied, Network, Person, Settled, Step as CountStep, Throttle,
};
use crate::store::counter_suite;

fn pair(person: &str) -> CounterKey {
    CounterKey::Pair(Network::V4([192, 0, 2]), Person::known(person))
}

async fn settle(store: &Embedded, key: &CounterKey, outcome: Settled) -> Result<(), StoreError> {
    let counters = store.counters();
    let (_, taken) = counters.apply(key, CountStep::Take).await?;
    counters.apply(key, CountStep::Settle { taken, outcome }).await.map(drop)
}

async fn failures(store: &Embedded, key: &CounterKey) -> u32 {
    let (count, now) = store.counters().read(key).await.unwrap();
    count.failures(key, now)
}

#[tokio::test]
async fn they_are_counted_as_in_every_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = settings(directory.path(), "").open(Clock::system()).unwrap();
    counter_suite::run(store.counters(), store.counters()).await;
}

#[tokio::test]
async fn a_failure_that_was_answered_outlives_a_power_cut() {
    let clock = Clock::manual(START);
    let tape = Tape::default();
    let store = tape.start(&clock, 100);
    for _ in 0..7 {
        settle(&store, &pair("u1"), Settled::Failed).await.unwrap();
    }
    settle(&store, &pair("u2"), Settled::Failed).await.unwrap();
    settle(&store, &pair("u2"), Settled::Succeeded).await.unwrap();
    // A place that is held while the machine goes down.
    store.counters().apply(&pair("u3"), CountStep::Take).await.unwrap();
    let (tape, commits) = (tape.after_power_cut(), store.health.commits());
    assert!(commits >= 8);
    clock.advance(Duration::from_secs(1));
    let again = tape.start(&clock, 100);
    assert_eq!(failures(&again, &pair("u1")).await, 7);
    let (count, now) = again.counters().read(&pair("u1")).await.unwrap();
    assert_eq!(count.wait(&pair("u1"), now), Duration::from_secs(3), "of 4 s");
    assert!(!count.is_held(&pair("u1"), now));
    assert_eq!(again.counters().read(&pair("u3")).await.unwrap().0, Count::default());
    assert!(failures(&again, &pair("u2")).await <= 1, "forgiving may be lost, not more");
    // After a clean end it is not.
    drop(store);
    drop(again);
    let closed = tape.start(&clock, 100);
    settle(&closed, &pair("u2"), Settled::Failed).await.unwrap();
    settle(&closed, &pair("u2"), Settled::Succeeded).await.unwrap();
    drop(closed);
    assert_eq!(failures(&tape.start(&clock, 100), &pair("u2")).await, 0);
}

#[tokio::test]
async fn a_clock_that_was_put_back_makes_no_wait_longer() {
    let tape = Tape::default();
    let store = tape.start(&Clock::manual(START.plus(Duration::from_secs(7200))), 100);
    for _ in 0..7 {
        settle(&store, &pair("u1"), Settled::Failed).await.unwrap();
    }
    drop(store);
    let clock = Clock::manual(START);
    let store = tape.start(&clock, 100);
    let wait = async || {
        let (count, now) = store.counters().read(&pair("u1")).await.unwrap();
        count.wait(&pair("u1"), now)
    };
    assert_eq!(wait().await, Duration::from_secs(4));
    clock.advance(Duration::from_secs(4));
    assert_eq!(wait().await, Duration::ZERO);
}

#[tokio::test]
async fn failures_that_come_together_share_a_commit_and_looks_take_none() {
    let clock = Clock::manual(START);
    let tape = Tape::default();
    let store = Arc::new(tape.start(&clock, 100));
    tape.stall(true);
    let mut tasks = Vec::new();
    for number in 0..200 {
        let store = Arc::clone(&store);
        let task = async move {
            settle(&store, &pair(&format!("u{number}")), Settled::Failed).await.unwrap();
        };
        tasks.push(tokio::spawn(task));
    }
    until("a commit waits", || tape.image().waiting).await;
    // Counted at once, for those who guess meanwhile.
    until("all are counted", || store.counts.len() == 200).await;
    tape.stall(false);
    for task in tasks {
        task.await.unwrap();
    }
    assert!(store.health.commits() <= 4, "{} commits", store.health.commits());
    let before = store.health.commits();
    for number in 0..100 {
        settle(&store, &pair("void"), Settled::Void).await.unwrap();
        settle(&store, &pair(&format!("right{number}")), Settled::Succeeded).await.unwrap();
    }
    assert_eq!(store.health.commits(), before);
}

#[tokio::test]
async fn while_the_disk_fails_nobody_guesses_and_no_failure_is_lost() {
    let clock = Clock::manual(START);
    let tape = Tape::default();
    let store = Arc::new(tape.start(&clock, 100));
    let throttle = Arc::new(Throttle::new(store.counters()));
    let home = Some(IpAddr::from([192, 0, 2, 7]));
    let (alice, key) = (Person::known("u1"), pair("u1"));
    let attempt = throttle.attempt(&alice, home).await.unwrap();
    tape.fail(Fault::Sync);
    assert!(attempt.failed().await.is_err());
    let denied = throttle.attempt(&alice, home).await.unwrap_err();
    assert_eq!(denied, Denied::Unavailable);
    tape.fail(Fault::None);
    until("the disk heals", || healthy(&store)).await;
    assert_eq!(failures(&store, &key).await, 1, "the one that was not answered counts");
    until("it is written", || !store.counts.has_changes()).await;
    settle(&store, &pair("u2"), Settled::Failed).await.unwrap();
    let again = tape.after_power_cut().start(&clock, 100);
    assert_eq!(failures(&again, &key).await, 1);
}

/// Names in the file.
fn written(tape: &Tape) -> usize {
    const COUNTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("throttle");
    let database = disk::builder().create_with_backend(tape.after_power_cut()).unwrap();
    let read = database.begin_read().unwrap();
    read.open_table(COUNTS).map_or(0, |table| table.iter().unwrap().count())
}

#[tokio::test]
async fn forgotten_counts_leave_memory_and_file() {
    let clock = Clock::manual(START);
    let tape = Tape::default();
    let store = tape.start(&clock, 100);
    for number in 0..300 {
        let key = pair(&format!("u{number}"));
        let step = CountStep::Settle { taken: START, outcome: Settled::Failed };
        store.counts.step(&key, step);
    }
    settle(&store, &pair("u0"), Settled::Failed).await.unwrap();
    assert_eq!(written(&tape), 300);
    clock.advance(Duration::from_secs(3 * 3600));
    until("they are swept", || store.counts.is_empty()).await;
    until("the file, too", || written(&tape) == 0).await;
    // Those that were forgotten while it was closed, too.
    settle(&store, &pair("u1"), Settled::Failed).await.unwrap();
    drop(store);
    clock.advance(Duration::from_secs(3 * 3600));
    let store = tape.start(&clock, 100);
    assert!(store.counts.is_empty());
    until("they leave the file", || written(&tape) == 0).await;
}

#[tokio::test]
async fn counts_that_cannot_be_read_are_no_obstacle() {
    const COUNTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("throttle");
    let clock = Clock::manual(START);
    let tape = Tape::default();
    let store = tape.start(&clock, 100);
    settle(&store, &pair("u1"), Settled::Failed).await.unwrap();
    drop(store);
    let database = disk::builder().create_with_backend(tape.clone()).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(COUNTS).unwrap();
        table.insert("nonsense", &b"{}"[..]).unwrap();
        table.insert("person|id:u2", &b"nonsense"[..]).unwrap();
        let newer = format!("{{\"failures\":3,\"last\":{0},\"halved\":{0},\"why\":1}}", START.0);
        table.insert("person|id:u3", newer.as_bytes()).unwrap();
    }
    write.commit().unwrap();
    drop(database);
    let store = tape.start(&clock, 100);
    assert_eq!(failures(&store, &pair("u1")).await, 1);
    assert_eq!(failures(&store, &CounterKey::Person(Person::known("u2"))).await, 0);
    assert_eq!(failures(&store, &CounterKey::Person(Person::known("u3"))).await, 3);
}
