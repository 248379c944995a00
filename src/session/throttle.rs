//! Counts failed logins and slows the next ones down, per person and network.
//!
//! An attempt holds a place until it is settled, so that many at once are not free. Counts halve as
//! time goes by, so that a steady trickle of mistakes does not add up to a lock. Every login door
//! shares it.
//!
//! A person is never locked out for good. An attacker's failures count against the attacker's
//! network. The limits over all networks only delay, and there are two of them: one for networks
//! that have failed with this person more than a few times, one for all others. So whoever guesses from
//! some hundreds of networks slows these down, but not the person elsewhere; only against thousands of
//! new networks are unknown ones delayed, too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use crate::clock::{Clock, UnixMs};

/// Failures of one person from one network that cost nothing.
const FREE_PAIR: u32 = 5;
/// Failures from one network, whoever is meant.
const FREE_NETWORK: u32 = 30;
/// Failures for one person from networks that fail with them: only a delay of seconds follows.
const FREE_PERSON: u32 = 100;
/// Failures for one person from networks that (almost) never failed with them: the same delay.
const FREE_NEWCOMERS: u32 = 1000;
/// Failures of one person from one network that make it one that fails with them.
const NEWCOMER: u32 = 3;
const LONGEST: Duration = Duration::from_secs(15 * 60);
const LONGEST_PERSON: Duration = Duration::from_secs(5);
/// How long it takes until half of the failures are forgotten. Long for one person from one network,
/// since this is what slows guessing; short where many people add up.
const HALF_LIFE_PAIR: Duration = Duration::from_secs(60 * 60);
const HALF_LIFE: Duration = Duration::from_secs(10 * 60);
/// Bound on counters; the oldest go first.
const LIMIT: usize = 65_536;
/// Attempts that wait for others to be settled.
const WAITING: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4([u8; 3]),
    V6([u16; 4]),
    Unknown,
}

impl From<Option<IpAddr>> for Network {
    fn from(ip: Option<IpAddr>) -> Self {
        match ip.map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::V6([a, b, c, d])
            }
            None => Self::Unknown,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Network(Network),
    Newcomers(String),
    Pair(String, Network),
    Person(String),
}

impl Key {
    fn wait(&self, failures: u32) -> Duration {
        let (free, longest) = match self {
            Self::Network(_) => (FREE_NETWORK, LONGEST),
            Self::Newcomers(_) => (FREE_NEWCOMERS, LONGEST_PERSON),
            Self::Pair(..) => (FREE_PAIR, LONGEST),
            Self::Person(_) => (FREE_PERSON, LONGEST_PERSON),
        };
        match failures.checked_sub(free) {
            None => Duration::ZERO,
            Some(over) => Duration::from_secs(1u64 << over.min(12)).min(longest),
        }
    }

    fn half_life(&self) -> Duration {
        if matches!(self, Self::Pair(..)) { HALF_LIFE_PAIR } else { HALF_LIFE }
    }
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    /// Attempts that are being checked: each may become a failure.
    pending: u32,
    /// The last failure.
    last: UnixMs,
    /// Up to when failures are halved.
    halved: UnixMs,
}

impl Count {
    fn new(now: UnixMs) -> Self {
        Self { failures: 0, pending: 0, last: now, halved: now }
    }

    fn halve(&mut self, half_life: Duration, now: UnixMs) {
        let times = now.since(self.halved).as_millis() / half_life.as_millis();
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.failures = self.failures.checked_shr(times).unwrap_or(0);
        self.halved = match self.failures {
            0 => now,
            _ => self.halved.plus(half_life.saturating_mul(times)),
        };
    }
}

/// Why an attempt may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Too many wait for their turn.
    Busy,
    /// Too many failures: wait this long.
    Wait(Duration),
}

/// The counters, shared by all workers.
#[derive(Debug)]
pub struct Throttle {
    clock: Clock,
    counts: Mutex<HashMap<Key, Count>>,
    /// Told whenever an attempt is settled.
    settled: Notify,
    waiting: Semaphore,
}

impl Throttle {
    /// Empty counters.
    pub fn new(clock: Clock) -> Self {
        let (settled, waiting) = (Notify::new(), Semaphore::new(WAITING));
        Self { clock, counts: Mutex::default(), settled, waiting }
    }

    /// A place for an attempt of `person` from `ip`. While attempts are being checked that would use
    /// up what is free if they failed, it waits for them: right passwords are never refused for
    /// coming at once.
    ///
    /// `person` is the stable id where the typed name is known, so that spellings share a counter.
    ///
    /// # Errors
    /// [`Denied`]; nothing is counted then.
    pub async fn attempt(&self, person: &str, ip: Option<IpAddr>) -> Result<Attempt<'_>, Denied> {
        let mut turn = pin!(self.settled.notified());
        let mut place = None;
        loop {
            // Before looking: a change after the look must not be missed.
            turn.as_mut().enable();
            if let Some(attempt) = self.reserve(person, ip)? {
                return Ok(attempt);
            }
            if place.is_none() {
                place = Some(self.waiting.try_acquire().map_err(|_| Denied::Busy)?);
            }
            turn.as_mut().await;
            turn.set(self.settled.notified());
        }
    }

    /// `None`: not before others are settled.
    fn reserve(&self, person: &str, ip: Option<IpAddr>) -> Result<Option<Attempt<'_>>, Denied> {
        let now = self.clock.now();
        let mut counts = self.counts();
        if counts.len() >= LIMIT {
            shrink(&mut counts, now);
        }
        let keys = keys(&mut counts, person, ip, now);
        let (mut wait, mut is_crowded) = (Duration::ZERO, false);
        for key in &keys {
            let Some(count) = counts.get_mut(key) else { continue };
            count.halve(key.half_life(), now);
            let free_at = count.last.plus(key.wait(count.failures));
            wait = wait.max(free_at.since(now));
            let feared = count.failures.saturating_add(count.pending);
            is_crowded |= count.pending > 0 && !key.wait(feared).is_zero();
        }
        if !wait.is_zero() {
            return Err(Denied::Wait(wait));
        }
        if is_crowded {
            return Ok(None);
        }
        for key in &keys {
            let count = counts.entry(key.clone()).or_insert(Count::new(now));
            count.pending = count.pending.saturating_add(1);
        }
        Ok(Some(Attempt { throttle: self, keys, outcome: Settled::Void }))
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Key, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Failed,
    Succeeded,
    /// It was not checked, or whoever asked has gone without an answer.
    Void,
}

/// An attempt under way. Dropped without a word, it does not count.
#[derive(Debug)]
#[must_use = "dropped, the attempt does not count"]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    keys: [Key; 3],
    outcome: Settled,
}

impl Attempt<'_> {
    /// Counts a failure.
    pub fn failed(mut self) {
        self.outcome = Settled::Failed;
    }

    /// The right password was given: forgets the failures of the person from this network, and one of
    /// the network's. Not all of these, or somebody with an account could guess at others for ever.
    pub fn succeeded(mut self) {
        self.outcome = Settled::Succeeded;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let now = self.throttle.clock.now();
        let mut counts = self.throttle.counts();
        for key in &self.keys {
            let Some(count) = counts.get_mut(key) else { continue };
            count.pending = count.pending.saturating_sub(1);
            match (self.outcome, key) {
                (Settled::Failed, _) => {
                    count.halve(key.half_life(), now);
                    count.failures = count.failures.saturating_add(1);
                    count.last = now;
                }
                (Settled::Succeeded, Key::Pair(..)) => count.failures = 0,
                (Settled::Succeeded, Key::Network(_)) => {
                    count.failures = count.failures.saturating_sub(1);
                }
                (Settled::Succeeded | Settled::Void, _) => {}
            }
            if count.failures == 0 && count.pending == 0 {
                counts.remove(key);
            }
        }
        drop(counts);
        self.throttle.settled.notify_waiters();
    }
}

fn keys(
    counts: &mut HashMap<Key, Count>,
    person: &str,
    ip: Option<IpAddr>,
    now: UnixMs,
) -> [Key; 3] {
    let network = Network::from(ip);
    let pair = Key::Pair(person.to_owned(), network);
    let failures = counts.get_mut(&pair).map_or(0, |count| {
        count.halve(pair.half_life(), now);
        count.failures
    });
    let everywhere = if failures < NEWCOMER { Key::Newcomers } else { Key::Person };
    [Key::Network(network), pair, everywhere(person.to_owned())]
}

fn shrink(counts: &mut HashMap<Key, Count>, now: UnixMs) {
    counts.retain(|key, count| {
        count.halve(key.half_life(), now);
        count.pending > 0 || count.failures > 0
    });
    if counts.len() < LIMIT {
        return;
    }
    let mut ages: Vec<_> = counts.values().map(|count| count.last).collect();
    ages.sort_unstable();
    let middle = ages.get(ages.len() / 2).copied().unwrap_or(now);
    counts.retain(|_, count| count.pending > 0 || count.last > middle);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    impl Throttle {
        /// What `person` would be told now.
        fn wait(&self, person: &str, ip: Option<IpAddr>) -> Option<Duration> {
            match self.reserve(person, ip) {
                Ok(attempt) => {
                    assert!(attempt.is_some(), "nothing is pending");
                    None
                }
                Err(Denied::Wait(wait)) => Some(wait),
                Err(Denied::Busy) => panic!("nobody waits"),
            }
        }

        /// A failure, once it is allowed to try.
        fn fail(&self, person: &str, ip: Option<IpAddr>) {
            if let Some(wait) = self.wait(person, ip) {
                self.clock.advance(wait);
            }
            self.reserve(person, ip).unwrap().unwrap().failed();
        }
    }

    #[test]
    fn delays_grow_and_end() {
        let clock = Clock::manual(UnixMs(1_000_000));
        let throttle = Throttle::new(clock.clone());
        let home = ip("192.0.2.7");
        for _ in 0..FREE_PAIR - 1 {
            throttle.fail("alice", home);
            assert_eq!(throttle.wait("alice", home), None);
        }
        for seconds in [1, 2, 4] {
            throttle.fail("alice", home);
            assert_eq!(throttle.wait("alice", home), Some(Duration::from_secs(seconds)));
        }
        clock.advance(Duration::from_secs(4));
        assert_eq!(throttle.wait("alice", home), None);
        throttle.reserve("alice", home).unwrap().unwrap().succeeded();
        throttle.fail("alice", home);
        assert_eq!(throttle.wait("alice", home), None, "begins anew");
    }

    #[tokio::test]
    async fn simultaneous_guesses_are_not_free() {
        let clock = Clock::manual(UnixMs(1_000_000));
        let throttle = std::sync::Arc::new(Throttle::new(clock));
        let guesses: Vec<_> = (0..60)
            .map(|_| {
                let throttle = std::sync::Arc::clone(&throttle);
                tokio::spawn(async move {
                    let attempt = throttle.attempt("alice", ip("192.0.2.7")).await?;
                    // All have come before the first is checked.
                    tokio::task::yield_now().await;
                    attempt.failed();
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
        let throttle = Throttle::new(Clock::manual(UnixMs(1_000_000)));
        let throttle = std::sync::Arc::new(throttle);
        let logins: Vec<_> = (0..60)
            .map(|_| {
                let throttle = std::sync::Arc::clone(&throttle);
                tokio::spawn(async move {
                    let attempt = throttle.attempt("alice", ip("192.0.2.7")).await.unwrap();
                    tokio::task::yield_now().await;
                    attempt.succeeded();
                })
            })
            .collect();
        for login in logins {
            login.await.unwrap();
        }
        assert!(throttle.counts().is_empty());
    }

    #[tokio::test]
    async fn an_attempt_that_is_not_checked_does_not_count() {
        let throttle = Throttle::new(Clock::manual(UnixMs(1_000_000)));
        for _ in 0..FREE_PAIR * 2 {
            drop(throttle.attempt("alice", ip("192.0.2.7")).await.unwrap());
        }
        assert!(throttle.counts().is_empty());
    }

    #[tokio::test]
    async fn those_who_wait_for_their_turn_are_bounded() {
        let throttle = Throttle::new(Clock::manual(UnixMs(1_000_000)));
        let home = ip("192.0.2.7");
        let held: Vec<_> =
            (0..FREE_PAIR).map(|_| throttle.reserve("alice", home).unwrap().unwrap()).collect();
        let mut waiting = Vec::new();
        for _ in 0..WAITING {
            let mut attempt = Box::pin(throttle.attempt("alice", home));
            let first =
                std::future::poll_fn(|cx| std::task::Poll::Ready(attempt.as_mut().poll(cx)));
            assert!(first.await.is_pending());
            waiting.push(attempt);
        }
        assert_eq!(throttle.attempt("alice", home).await.unwrap_err(), Denied::Busy);
        assert!(throttle.attempt("bob", home).await.is_ok(), "others are not in it");
        drop(held);
        for attempt in waiting {
            drop(attempt.await.unwrap());
        }
    }

    /// The address of one of many networks.
    fn network(n: u32) -> Option<IpAddr> {
        Some(IpAddr::from((0x0a00_0000 | (n << 8)).to_be_bytes()))
    }

    #[test]
    fn a_person_whom_many_networks_guess_at_gets_in_from_elsewhere_at_once() {
        let throttle = Throttle::new(Clock::manual(UnixMs(1_000_000)));
        for n in 0..75 * FREE_PAIR {
            throttle.fail("alice", network(n % 75));
        }
        assert_eq!(throttle.wait("alice", ip("192.0.2.7")), None);
        // One mistake is no guessing.
        throttle.fail("alice", ip("192.0.2.7"));
        assert_eq!(throttle.wait("alice", ip("192.0.2.7")), None);
        // Those who guess are delayed as if they were one.
        for n in 0..75 {
            assert_eq!(throttle.wait("alice", network(n)), Some(LONGEST_PERSON), "{n}");
        }
    }

    #[test]
    fn thousands_of_new_networks_only_delay() {
        let clock = Clock::manual(UnixMs(1_000_000));
        let throttle = Throttle::new(clock.clone());
        for n in 0..FREE_NEWCOMERS + 10 {
            throttle.fail("alice", network(n));
        }
        assert_eq!(throttle.wait("alice", ip("192.0.2.7")), Some(LONGEST_PERSON));
        clock.advance(LONGEST_PERSON);
        assert_eq!(throttle.wait("alice", ip("192.0.2.7")), None);
    }

    #[test]
    fn a_steady_trickle_of_mistakes_does_not_add_up() {
        let clock = Clock::manual(UnixMs(1_000_000));
        let throttle = Throttle::new(clock.clone());
        let office = ip("192.0.2.7");
        for n in 0..500 {
            clock.advance(Duration::from_secs(60));
            assert_eq!(throttle.wait(&format!("user{n}"), office), None, "{n}");
            throttle.fail(&format!("user{n}"), office);
        }
        clock.advance(HALF_LIFE * 5);
        assert!(throttle.wait("alice", office).is_none());
        assert!(!throttle.counts().contains_key(&Key::Network(Network::from(office))), "forgotten");
    }

    #[test]
    fn those_who_sign_in_make_up_for_mistakes_in_their_network() {
        let throttle = Throttle::new(Clock::manual(UnixMs(1_000_000)));
        let office = ip("192.0.2.7");
        for n in 0..FREE_NETWORK * 10 {
            throttle.fail(&format!("user{n}"), office);
            assert_eq!(throttle.wait("somebody", office), None, "{n}");
            throttle.reserve(&format!("user{n}"), office).unwrap().unwrap().succeeded();
        }
    }

    #[test]
    fn mapped_addresses_and_neighbours_share_a_counter() {
        assert_eq!(Network::from(ip("::ffff:192.0.2.1")), Network::from(ip("192.0.2.250")));
        assert_eq!(Network::from(ip("2001:db8::1")), Network::from(ip("2001:db8::ffff:2")));
        assert_ne!(Network::from(ip("2001:db8::1")), Network::from(ip("2001:db8:0:1::1")));
    }

    #[test]
    fn counters_are_bounded() {
        let clock = Clock::manual(UnixMs(1_000_000));
        let throttle = Throttle::new(clock.clone());
        for n in 0..60_000u32 {
            clock.advance(Duration::from_millis(1));
            throttle.fail(&format!("user{n}"), Some(IpAddr::from(n.to_be_bytes())));
        }
        assert!(throttle.counts().len() <= LIMIT + 3);
    }
}
