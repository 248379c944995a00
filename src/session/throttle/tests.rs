//! The rules over counters in memory. That every store keeps counts alike is tested with the stores.

use super::super::counters::{FREE_NETWORK, FREE_NEWCOMERS, FREE_PAIR, HALF_LIFE, LONGEST_PERSON};
use super::super::table::{CounterTable, LIMIT};
use super::*;
use crate::clock::Clock;

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// A throttle, its counts and its clock.
struct World {
    throttle: Arc<Throttle>,
    table: Arc<CounterTable>,
    clock: Clock,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(UnixMs(1_000_000));
        let table = Arc::new(CounterTable::new(clock.clone()));
        let throttle = Arc::new(Throttle::new(Arc::<CounterTable>::clone(&table)));
        Self { throttle, table, clock }
    }

    async fn reserve(&self, person: &str, ip: Option<IpAddr>) -> Result<Option<Attempt>, Denied> {
        self.throttle.reserve(&Person::known(person), Network::from(ip)).await
    }

    async fn attempt(&self, person: &str, ip: Option<IpAddr>) -> Result<Attempt, Denied> {
        self.throttle.attempt(&Person::known(person), ip).await
    }

    /// What `person` would be told now.
    async fn wait(&self, person: &str, ip: Option<IpAddr>) -> Option<Duration> {
        match self.reserve(person, ip).await {
            Ok(attempt) => {
                let attempt = attempt.expect("nothing is pending");
                attempt.settle(Settled::Void).await.unwrap();
                None
            }
            Err(Denied::Wait(wait)) => Some(wait),
            Err(denied) => panic!("{denied:?}"),
        }
    }

    /// A failure, once it is allowed to try.
    async fn fail(&self, person: &str, ip: Option<IpAddr>) {
        if let Some(wait) = self.wait(person, ip).await {
            self.clock.advance(wait);
        }
        self.reserve(person, ip).await.unwrap().unwrap().failed().await.unwrap();
    }

    async fn succeed(&self, person: &str, ip: Option<IpAddr>) {
        self.reserve(person, ip).await.unwrap().unwrap().succeeded().await;
    }
}

/// The address of one of many networks.
fn network(n: u32) -> Option<IpAddr> {
    Some(IpAddr::from((0x0a00_0000 | (n << 8)).to_be_bytes()))
}

/// Lets tasks that were spawned on the way do their work.
async fn settled() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn delays_grow_and_end() {
    let world = World::new();
    let home = ip("192.0.2.7");
    for _ in 0..FREE_PAIR - 1 {
        world.fail("alice", home).await;
        assert_eq!(world.wait("alice", home).await, None);
    }
    for seconds in [1, 2, 4] {
        world.fail("alice", home).await;
        assert_eq!(world.wait("alice", home).await, Some(Duration::from_secs(seconds)));
    }
    world.clock.advance(Duration::from_secs(4));
    assert_eq!(world.wait("alice", home).await, None);
    world.succeed("alice", home).await;
    world.fail("alice", home).await;
    assert_eq!(world.wait("alice", home).await, None, "begins anew");
}

#[tokio::test]
async fn an_app_with_a_dead_token_makes_only_itself_wait() {
    let world = World::new();
    let home = ip("192.0.2.7");
    let end = world.clock.now().plus(Duration::from_secs(24 * 60 * 60));
    let mut failures = 0;
    while world.clock.now() < end {
        // As soon as it may, for a day.
        world.fail("apptoken/gone", home).await;
        failures += 1;
        assert_eq!(world.wait("alice", home).await, None, "after {failures} failures");
        world.clock.advance(Duration::from_secs(1));
    }
    assert!(failures > FREE_NETWORK, "{failures}");
}

#[tokio::test]
async fn simultaneous_guesses_are_not_free() {
    let world = Arc::new(World::new());
    let guesses: Vec<_> = (0..60)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let attempt = world.attempt("alice", ip("192.0.2.7")).await?;
                // All have come before the first is checked.
                settled().await;
                attempt.failed().await.unwrap();
                Ok::<_, Denied>(())
            })
        })
        .collect();
    let mut checked = 0;
    for guess in guesses {
        match guess.await.unwrap() {
            Ok(()) => checked += 1,
            Err(denied) => assert_eq!(denied, Denied::Wait(Duration::from_secs(1))),
        }
    }
    assert_eq!(checked, FREE_PAIR);
}

#[tokio::test]
async fn simultaneous_right_passwords_all_pass() {
    let world = Arc::new(World::new());
    let logins: Vec<_> = (0..60)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let attempt = world.attempt("alice", ip("192.0.2.7")).await.unwrap();
                tokio::task::yield_now().await;
                attempt.succeeded().await;
            })
        })
        .collect();
    for login in logins {
        login.await.unwrap();
    }
    assert!(world.table.is_empty());
}

#[tokio::test]
async fn an_attempt_that_is_not_checked_does_not_count() {
    let world = World::new();
    for _ in 0..FREE_PAIR * 2 {
        drop(world.attempt("alice", ip("192.0.2.7")).await.unwrap());
    }
    settled().await;
    assert!(world.table.is_empty());
}

#[tokio::test]
async fn whoever_leaves_on_the_way_keeps_no_place_but_a_failure_counts() {
    let world = World::new();
    let home = ip("192.0.2.7");
    for polls in 0..8 {
        let mut attempt = Box::pin(world.attempt("alice", home));
        for _ in 0..polls {
            let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(attempt.as_mut().poll(cx)));
            if poll.await.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(attempt);
        settled().await;
        assert!(world.table.is_empty(), "{polls}");
    }
    for _ in 0..FREE_PAIR {
        let attempt = world.attempt("alice", home).await.unwrap();
        let mut failed = Box::pin(attempt.failed());
        let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(failed.as_mut().poll(cx)));
        let _ = poll.await;
        drop(failed);
        settled().await;
    }
    assert_eq!(world.wait("alice", home).await, Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn those_who_wait_for_their_turn_are_bounded() {
    let world = World::new();
    let home = ip("192.0.2.7");
    let mut held = Vec::new();
    for _ in 0..FREE_PAIR {
        held.push(world.reserve("alice", home).await.unwrap().unwrap());
    }
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        let throttle = Arc::clone(&world.throttle);
        waiting.push(tokio::spawn(async move {
            throttle.attempt(&Person::known("alice"), home).await.map(drop)
        }));
    }
    while world.throttle.waiting.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.attempt("alice", home).await.unwrap_err(), Denied::Busy);
    assert!(world.attempt("bob", home).await.is_ok(), "others are not in it");
    drop(held);
    for attempt in waiting {
        attempt.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn places_that_another_process_gives_back_are_seen() {
    let world = World::new();
    let home = ip("192.0.2.7");
    let other = Arc::new(Throttle::new(Arc::<CounterTable>::clone(&world.table)));
    let mut held = Vec::new();
    for _ in 0..FREE_PAIR {
        held.push(other.attempt(&Person::known("alice"), home).await.unwrap());
    }
    let throttle = Arc::clone(&world.throttle);
    let waits =
        tokio::spawn(
            async move { throttle.attempt(&Person::known("alice"), home).await.map(drop) },
        );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waits.is_finished());
    held.pop().unwrap().succeeded().await;
    waits.await.unwrap().unwrap();
    // Places that nobody gives back: the wait has an end.
    held.push(other.attempt(&Person::known("alice"), home).await.unwrap());
    assert_eq!(world.attempt("alice", home).await.unwrap_err(), Denied::Busy);
}

#[tokio::test]
async fn a_person_whom_many_networks_guess_at_gets_in_from_elsewhere_at_once() {
    let world = World::new();
    for n in 0..75 * FREE_PAIR {
        world.fail("alice", network(n % 75)).await;
    }
    assert_eq!(world.wait("alice", ip("192.0.2.7")).await, None);
    // One mistake is no guessing.
    world.fail("alice", ip("192.0.2.7")).await;
    assert_eq!(world.wait("alice", ip("192.0.2.7")).await, None);
    // Those who guess are delayed as if they were one.
    for n in 0..75 {
        assert_eq!(world.wait("alice", network(n)).await, Some(LONGEST_PERSON), "{n}");
    }
}

#[tokio::test]
async fn thousands_of_new_networks_only_delay() {
    let world = World::new();
    for n in 0..FREE_NEWCOMERS + 10 {
        world.fail("alice", network(n)).await;
    }
    assert_eq!(world.wait("alice", ip("192.0.2.7")).await, Some(LONGEST_PERSON));
    world.clock.advance(LONGEST_PERSON);
    assert_eq!(world.wait("alice", ip("192.0.2.7")).await, None);
}

#[tokio::test]
async fn a_steady_trickle_of_mistakes_does_not_add_up() {
    let world = World::new();
    let office = ip("192.0.2.7");
    for n in 0..500 {
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(world.wait(&format!("user{n}"), office).await, None, "{n}");
        world.fail(&format!("user{n}"), office).await;
    }
    world.clock.advance(HALF_LIFE * 5);
    assert!(world.wait("alice", office).await.is_none());
    let key = CounterKey::Network(Network::from(office));
    assert_eq!(world.table.get(&key).0, Count::default(), "forgotten");
}

#[tokio::test]
async fn those_who_sign_in_make_up_for_mistakes_in_their_network() {
    let world = World::new();
    let office = ip("192.0.2.7");
    for n in 0..FREE_NETWORK * 10 {
        world.fail(&format!("user{n}"), office).await;
        assert_eq!(world.wait("somebody", office).await, None, "{n}");
        world.succeed(&format!("user{n}"), office).await;
    }
}

#[tokio::test]
async fn counters_are_bounded() {
    let world = World::new();
    for n in 0..60_000u32 {
        world.clock.advance(Duration::from_millis(1));
        let (person, ip) =
            (Person::known(&format!("user{n}")), Some(IpAddr::from(n.to_be_bytes())));
        let network = Network::from(ip);
        let step = Step::Settle { taken: world.clock.now(), outcome: Settled::Failed };
        for key in [
            CounterKey::Network(network),
            CounterKey::Pair(network, person.clone()),
            CounterKey::Newcomers(person),
        ] {
            world.table.step(&key, step);
        }
    }
    assert!(world.table.len() <= LIMIT);
}

/// Counters of a store that is down, or goes down on the way.
#[derive(Debug)]
struct Failing {
    table: CounterTable,
    good: std::sync::atomic::AtomicI32,
}

impl Failing {
    fn check(&self) -> Result<(), StoreError> {
        let left = self.good.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
        if left > 0 { Ok(()) } else { Err(StoreError::Unavailable("down".to_owned())) }
    }
}

impl Counters for Failing {
    fn read<'a>(
        &'a self,
        key: &'a CounterKey,
    ) -> crate::session::BoxFuture<'a, Result<(Count, UnixMs), StoreError>> {
        Box::pin(async { self.check().map(|()| self.table.get(key)) })
    }

    fn apply<'a>(
        &'a self,
        key: &'a CounterKey,
        step: Step,
    ) -> crate::session::BoxFuture<'a, Result<(Count, UnixMs), StoreError>> {
        Box::pin(async move {
            self.check()?;
            self.table.apply(key, step).await
        })
    }

    fn list(
        &self,
        limit: usize,
    ) -> crate::session::BoxFuture<'_, Result<super::super::counters::Counted, StoreError>> {
        self.table.list(limit)
    }

    fn forget<'a>(
        &'a self,
        key: &'a CounterKey,
    ) -> crate::session::BoxFuture<'a, Result<bool, StoreError>> {
        self.table.forget(key)
    }
}

#[tokio::test]
async fn without_counters_nobody_learns_whether_a_password_was_right() {
    // Four looks, three places, three failures: wherever the store goes down.
    for good in 0..10 {
        let table = CounterTable::new(Clock::manual(UnixMs(1_000_000)));
        let counters = Failing { table, good: good.into() };
        let throttle = Arc::new(Throttle::new(Arc::new(counters)));
        match throttle.attempt(&Person::known("alice"), ip("192.0.2.7")).await {
            Ok(attempt) => {
                assert!(good >= 7);
                assert!(attempt.failed().await.is_err());
            }
            Err(denied) => {
                assert!(good < 7);
                assert_eq!(denied, Denied::Unavailable);
            }
        }
    }
}
