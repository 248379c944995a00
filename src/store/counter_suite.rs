//! What every store must do with counts of failed logins: one suite, run against each kind.
//!
//! Goes by the store's own clock, which for a shared store is not ours: nothing here waits for time to
//! pass but a second at most.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock::UnixMs;
use crate::session::{
    Count, CounterKey, Counters, Denied, Network, Person, Settled, Step, Throttle,
};

const HOME: Network = Network::V4([192, 0, 2]);

fn home() -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, 7]))
}

/// Runs the suite. `one` and `two` are empty, and of the same store; two processes have them if it
/// is shared.
pub(crate) async fn run(one: Arc<dyn Counters>, two: Arc<dyn Counters>) {
    counts_are_kept_under_every_name(&*one, &*two).await;
    no_failure_is_lost_when_many_come_at_once(&one, &two).await;
    places_are_taken_and_given_back(&*one, &*two).await;
    a_right_password_forgets_what_it_should(&*one, &*two).await;
    counts_are_listed_and_forgotten(&*one, &*two).await;
    guesses_at_two_doors_share_their_limit(&one, &two).await;
    right_passwords_at_two_doors_all_pass(&one, &two).await;
}

async fn step(counters: &dyn Counters, key: &CounterKey, step: Step) -> (Count, UnixMs) {
    counters.apply(key, step).await.unwrap()
}

async fn attempt(counters: &dyn Counters, key: &CounterKey, outcome: Settled) {
    let (_, taken) = step(counters, key, Step::Take).await;
    step(counters, key, Step::Settle { taken, outcome }).await;
}

async fn failures(counters: &dyn Counters, key: &CounterKey) -> u32 {
    let (count, now) = counters.read(key).await.unwrap();
    count.failures(key, now)
}

async fn counts_are_kept_under_every_name(one: &dyn Counters, two: &dyn Counters) {
    let odd = Person::known("ü {x} * [a] \n|1|");
    for key in [
        CounterKey::Network("2001:db8::1".parse().unwrap()),
        CounterKey::Newcomers(odd.clone()),
        CounterKey::Pair(Network::Unknown, odd.clone()),
        CounterKey::Person(odd),
        CounterKey::Person(Person::typed(&"x".repeat(9999))),
    ] {
        assert_eq!(one.read(&key).await.unwrap().0, Count::default(), "{key}");
        attempt(one, &key, Settled::Failed).await;
        attempt(two, &key, Settled::Failed).await;
        assert_eq!((failures(one, &key).await, failures(two, &key).await), (2, 2), "{key}");
    }
}

async fn no_failure_is_lost_when_many_come_at_once(
    one: &Arc<dyn Counters>,
    two: &Arc<dyn Counters>,
) {
    let key = CounterKey::Newcomers(Person::known("wanted"));
    let mut attempts = JoinSet::new();
    for number in 0..60 {
        let counters = Arc::clone(if number % 2 == 0 { one } else { two });
        let key = key.clone();
        attempts.spawn(async move { attempt(&*counters, &key, Settled::Failed).await });
    }
    attempts.join_all().await;
    assert_eq!(failures(&**one, &key).await, 60);
    let (count, now) = two.read(&key).await.unwrap();
    assert!(!count.is_held(&key, now), "a place is left");
}

async fn places_are_taken_and_given_back(one: &dyn Counters, two: &dyn Counters) {
    let key = CounterKey::Pair(HOME, Person::known("placed"));
    let mut taken = Vec::new();
    while {
        let (count, now) = two.read(&key).await.unwrap();
        !count.is_crowded(&key, now)
    } {
        let (before, at) = step(one, &key, Step::Take).await;
        assert_eq!(before.is_held(&key, at), !taken.is_empty());
        taken.push(at);
    }
    assert_eq!(taken.len(), 5);
    for taken in taken {
        step(two, &key, Step::Settle { taken, outcome: Settled::Void }).await;
    }
    let (count, now) = one.read(&key).await.unwrap();
    assert!(count.is_empty(&key, now));
}

async fn a_right_password_forgets_what_it_should(one: &dyn Counters, two: &dyn Counters) {
    let person = Person::known("forgiven");
    let network = "198.51.100.0/24".parse().unwrap();
    for (key, left) in [
        (CounterKey::Network(network), 2),
        (CounterKey::Newcomers(person.clone()), 3),
        (CounterKey::Pair(network, person.clone()), 0),
        (CounterKey::Person(person), 3),
    ] {
        for _ in 0..3 {
            attempt(one, &key, Settled::Failed).await;
        }
        attempt(two, &key, Settled::Succeeded).await;
        assert_eq!(failures(one, &key).await, left, "{key}");
    }
}

async fn counts_are_listed_and_forgotten(one: &dyn Counters, two: &dyn Counters) {
    let key = CounterKey::Pair(HOME, Person::known("listed"));
    attempt(one, &key, Settled::Failed).await;
    let (all, now) = two.list(10_000).await.unwrap();
    let of_key: Vec<_> = all.iter().filter(|(listed, _)| *listed == key).collect();
    assert_eq!(of_key.len(), 1, "{all:?}");
    assert_eq!(of_key[0].1.failures(&key, now), 1);
    assert!(all.len() > 3);
    assert_eq!(two.list(3).await.unwrap().0.len(), 3);
    assert!(two.forget(&key).await.unwrap());
    assert!(!one.forget(&key).await.unwrap());
    assert_eq!(failures(one, &key).await, 0);
}

async fn guesses_at_two_doors_share_their_limit(one: &Arc<dyn Counters>, two: &Arc<dyn Counters>) {
    let doors = [one, two].map(|counters| Arc::new(Throttle::new(Arc::clone(counters))));
    let mut guesses = JoinSet::new();
    for number in 0..40 {
        let door = Arc::clone(&doors[number % 2]);
        guesses.spawn(async move {
            let attempt = door.attempt(&Person::known("guessed"), home()).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
            attempt.failed().await.unwrap();
            Ok::<_, Denied>(())
        });
    }
    let answers = guesses.join_all().await;
    let checked = answers.iter().filter(|answer| answer.is_ok()).count();
    let delayed = |answer: &&Result<(), Denied>| matches!(answer, Err(Denied::Wait(_)));
    assert_eq!(answers.iter().filter(delayed).count(), 40 - checked, "{answers:?}");
    // Five are free; a sixth may come when the delay of the fifth, a second, is over.
    assert!((5..=6).contains(&checked), "{checked} guesses were checked");
}

async fn right_passwords_at_two_doors_all_pass(one: &Arc<dyn Counters>, two: &Arc<dyn Counters>) {
    let doors = [one, two].map(|counters| Arc::new(Throttle::new(Arc::clone(counters))));
    let mut logins = JoinSet::new();
    for number in 0..40 {
        let door = Arc::clone(&doors[number % 2]);
        logins.spawn(async move {
            door.attempt(&Person::known("busy"), home()).await.unwrap().succeeded().await;
        });
    }
    logins.join_all().await;
    let key = CounterKey::Pair(HOME, Person::known("busy"));
    let (count, now) = one.read(&key).await.unwrap();
    assert!(count.is_empty(&key, now), "{count:?}");
}
