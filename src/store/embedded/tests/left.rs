//! A file that is taken away, or replaced, under the running gateway.

use super::*;
use crate::session::{CounterKey, Network, Person, Settled, Step as CountStep};

#[tokio::test]
async fn a_file_that_is_taken_away_or_replaced_is_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(directory.path(), ""), Clock::manual(START));
    let file = directory.path().join("data").join(home::FILE);
    let older = directory.path().join("older");
    let (kept, ended, late) = (session("u1", START), session("u1", START), session("u1", START));
    let store = settings.open(clock.clone()).unwrap();
    store.create(kept.clone()).await.unwrap();
    store.create(ended.clone()).await.unwrap();
    drop(store);
    std::fs::copy(&file, &older).unwrap();

    let open = || settings.open(clock.clone()).unwrap();
    let counted = CounterKey::Pair(Network::V4([192, 0, 2]), Person::known("u1"));
    let store = open();
    store.end(ended.id).await.unwrap().unwrap();
    let (_, taken) = store.counters().apply(&counted, CountStep::Take).await.unwrap();
    let failed = CountStep::Settle { taken, outcome: Settled::Failed };
    store.counters().apply(&counted, failed).await.unwrap();
    std::fs::rename(&older, &file).unwrap();
    store.create(late.clone()).await.unwrap();
    let seen = content(&*store).await;
    assert_eq!(seen.len(), 2);
    drop(store);
    let store = open();
    assert_eq!(content(&*store).await, seen, "what has ended is back, or what is new is gone");
    let (count, now) = store.counters().read(&counted).await.unwrap();
    assert_eq!(count.failures(&counted, now), 1);

    // Nobody asks for anything.
    std::fs::remove_file(&file).unwrap();
    until("the file is back", || file.exists()).await;
    while store.ready().await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(content(&*store).await, seen);
    drop(store);
    assert_eq!(content(&*open()).await, seen);
    // With its directory: until somebody makes that anew.
    let store = open();
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    let refused = store.end(kept.id).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(content(&*store).await, seen);
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    while store.ready().await.is_err() {
        tokio::task::yield_now().await;
    }
    store.end(kept.id).await.unwrap().unwrap();
    drop(store);
    assert_eq!(content(&*open()).await.len(), 1);
}

/// What a full disk leaves of a file is not the library's to read.
#[tokio::test]
async fn what_is_found_in_the_place_of_the_file_does_not_matter() {
    let directory = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(directory.path(), ""), Clock::manual(START));
    let file = directory.path().join("data").join(home::FILE);
    let one = session("u1", START);
    let store = settings.open(clock.clone()).unwrap();
    store.create(one.clone()).await.unwrap();
    let broken = directory.path().join("broken");
    std::fs::write(&broken, vec![7; 73_728]).unwrap();
    std::fs::rename(&broken, &file).unwrap();
    until("it is written anew", || std::fs::read(&file).is_ok_and(|now| now[0] != 7)).await;
    // Nothing can be put there; then something can.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    std::fs::write(file.join("x"), "").unwrap();
    let refused = store.create(session("u1", START)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(store.ready().await.is_err());
    assert_eq!(content(&*store).await.len(), 1);
    std::fs::remove_dir_all(&file).unwrap();
    while store.ready().await.is_err() {
        tokio::task::yield_now().await;
    }
    // And at the very end.
    std::fs::remove_file(&file).unwrap();
    drop(store);
    let store = settings.open(clock).unwrap();
    assert_eq!(content(&*store).await.len(), 1);
    let files = std::fs::read_dir(file.parent().unwrap()).unwrap();
    assert_eq!(files.count(), 2, "a draft was left");
}

/// Two would take the file from each other without end.
#[tokio::test]
async fn a_directory_that_another_has_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (settings, clock) = (settings(directory.path(), ""), Clock::manual(START));
    let first = settings.open(clock.clone()).unwrap();
    first.create(session("u1", START)).await.unwrap();
    std::fs::rename(directory.path().join("data"), directory.path().join("aside")).unwrap();
    let second = settings.open(clock.clone()).unwrap();
    let refused = first.create(session("u1", START)).await.unwrap_err();
    assert!(refused.to_string().contains("another Portcullis"), "{refused}");
    second.create(session("u2", START)).await.unwrap();
    let others = content(&*second).await;
    drop(second);
    // Nor when that one is started anew.
    assert!(first.create(session("u1", START)).await.is_err());
    assert_eq!(content(&*first).await.len(), 1);
    assert_eq!(content(&*settings.open(clock.clone()).unwrap()).await, others);
}
