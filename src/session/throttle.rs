//! Counts failed logins and slows the next ones down, per person and network.
//!
//! Every login door shares it. A person is never locked out for good: an attacker's failures count
//! against the attacker's network; the limit over all networks only delays.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, UnixMs};

/// Failures of one person from one network that cost nothing.
const FREE_PAIR: u32 = 5;
/// Failures from one network, whoever is meant.
const FREE_NETWORK: u32 = 30;
/// Failures for one person, wherever from: only a delay of seconds follows.
const FREE_PERSON: u32 = 100;
const LONGEST: Duration = Duration::from_secs(15 * 60);
const LONGEST_PERSON: Duration = Duration::from_secs(5);
/// A counter without failures for this long starts anew.
const FORGET: Duration = Duration::from_secs(60 * 60);
/// Bound on counters; the oldest go first.
const LIMIT: usize = 65_536;

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
    Pair(String, Network),
    Person(String),
}

impl Key {
    fn wait(&self, failures: u32) -> Duration {
        let (free, longest) = match self {
            Self::Network(_) => (FREE_NETWORK, LONGEST),
            Self::Pair(..) => (FREE_PAIR, LONGEST),
            Self::Person(_) => (FREE_PERSON, LONGEST_PERSON),
        };
        match failures.checked_sub(free) {
            None => Duration::ZERO,
            Some(over) => Duration::from_secs(1u64 << over.min(12)).min(longest),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    last: UnixMs,
}

/// The counters, shared by all workers.
#[derive(Debug)]
pub struct Throttle {
    clock: Clock,
    counts: Mutex<HashMap<Key, Count>>,
}

impl Throttle {
    /// Empty counters.
    pub fn new(clock: Clock) -> Self {
        Self { clock, counts: Mutex::default() }
    }

    /// How long `person` must wait before the next attempt from `ip`; `None` when not at all.
    ///
    /// `person` is the stable id where the typed name is known, so that spellings share a counter.
    pub fn wait(&self, person: &str, ip: Option<IpAddr>) -> Option<Duration> {
        let now = self.clock.now();
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        keys(person, ip)
            .iter()
            .filter_map(|key| {
                let count = counts.get(key)?;
                let free_at = count.last.plus(key.wait(count.failures));
                (free_at > now).then(|| free_at.since(now))
            })
            .max()
    }

    /// Counts a failure.
    pub fn failed(&self, person: &str, ip: Option<IpAddr>) {
        let now = self.clock.now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= LIMIT {
            shrink(&mut counts, now);
        }
        for key in keys(person, ip) {
            let count = counts.entry(key).or_insert(Count { failures: 0, last: now });
            if now.since(count.last) >= FORGET {
                count.failures = 0;
            }
            count.failures = count.failures.saturating_add(1);
            count.last = now;
        }
    }

    /// Forgets the failures of `person` from the network of `ip`: the right password was given.
    pub fn succeeded(&self, person: &str, ip: Option<IpAddr>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(&Key::Pair(person.to_owned(), ip.into()));
    }
}

fn keys(person: &str, ip: Option<IpAddr>) -> [Key; 3] {
    let network = Network::from(ip);
    [Key::Network(network), Key::Pair(person.to_owned(), network), Key::Person(person.to_owned())]
}

fn shrink(counts: &mut HashMap<Key, Count>, now: UnixMs) {
    counts.retain(|_, count| now.since(count.last) < FORGET);
    if counts.len() < LIMIT {
        return;
    }
    let mut ages: Vec<_> = counts.values().map(|count| count.last).collect();
    ages.sort_unstable();
    let middle = ages.get(ages.len() / 2).copied().unwrap_or(now);
    counts.retain(|_, count| count.last > middle);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn delays_grow_and_end() {
        let clock = Clock::manual(UnixMs(1_000_000));
        let throttle = Throttle::new(clock.clone());
        let home = ip("192.0.2.7");
        for _ in 0..FREE_PAIR - 1 {
            throttle.failed("alice", home);
            assert_eq!(throttle.wait("alice", home), None);
        }
        throttle.failed("alice", home);
        assert_eq!(throttle.wait("alice", home), Some(Duration::from_secs(1)));
        throttle.failed("alice", home);
        throttle.failed("alice", home);
        assert_eq!(throttle.wait("alice", home), Some(Duration::from_secs(4)));
        clock.advance(Duration::from_secs(4));
        assert_eq!(throttle.wait("alice", home), None);
    }

    #[test]
    fn the_victim_is_not_locked_out_from_another_network() {
        let clock = Clock::manual(UnixMs(1_000_000));
        let throttle = Throttle::new(clock.clone());
        for _ in 0..FREE_PERSON * 2 {
            throttle.failed("alice", ip("198.51.100.9"));
        }
        assert!(throttle.wait("alice", ip("198.51.100.200")).unwrap() > LONGEST_PERSON);
        assert!(throttle.wait("alice", ip("192.0.2.7")).unwrap() <= LONGEST_PERSON);
        clock.advance(LONGEST_PERSON);
        assert_eq!(throttle.wait("alice", ip("192.0.2.7")), None);
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
            throttle.failed(&format!("user{n}"), Some(IpAddr::from(n.to_be_bytes())));
        }
        assert!(throttle.counts.lock().unwrap().len() <= LIMIT + 3);
    }
}
