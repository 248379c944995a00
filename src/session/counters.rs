//! Counters of failed logins: what is counted, under which names, and what a step does to a count.
//!
//! Pure: stores keep counts and apply steps, so that all of them judge alike. Who may try, and when, is
//! decided in `throttle`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::canonical;
use super::ports::{BoxFuture, StoreError};
use crate::clock::UnixMs;
use crate::secret::sha256;

/// Failures of one person from one network that cost nothing.
pub(super) const FREE_PAIR: u32 = 5;
/// Failures from one network, whoever is meant.
pub(super) const FREE_NETWORK: u32 = 30;
/// Failures for one person from networks that fail with them: only a delay of seconds follows.
pub(super) const FREE_PERSON: u32 = 100;
/// Failures for one person from networks that (almost) never failed with them: the same delay.
pub(super) const FREE_NEWCOMERS: u32 = 1000;
const LONGEST: Duration = Duration::from_secs(15 * 60);
pub(super) const LONGEST_PERSON: Duration = Duration::from_secs(5);
/// How long it takes until half of the failures are forgotten. Long for one person from one network,
/// since this is what slows guessing; short where many people add up.
const HALF_LIFE_PAIR: Duration = Duration::from_secs(60 * 60);
pub(super) const HALF_LIFE: Duration = Duration::from_secs(10 * 60);
/// Places are dropped at the end of the next such span: whoever held them has died, or they were lost on
/// the way. Longer than a check can take.
const SPAN: Duration = Duration::from_secs(60);
/// Bytes of a person's id in a name; a longer one is hashed.
const LONGEST_ID: usize = 128;

/// Keeps counts of failed logins, for all processes that share the store, over restarts.
///
/// Failures are durable when the future is done. Places are of use only while their processes live, and
/// need not be durable.
pub trait Counters: Send + Sync + fmt::Debug {
    /// The count under `key`, and the time by the clock that all who share the store go by. What is
    /// not there is [`Count::default`].
    fn read<'a>(
        &'a self,
        key: &'a CounterKey,
    ) -> BoxFuture<'a, Result<(Count, UnixMs), StoreError>>;

    /// Applies `step` by [`Count::after`], as one atomic operation; the count before, and the time. A
    /// count that [`Count::is_empty`] need not be kept.
    fn apply<'a>(
        &'a self,
        key: &'a CounterKey,
        step: Step,
    ) -> BoxFuture<'a, Result<(Count, UnixMs), StoreError>>;

    /// Counts that are kept, at most `limit`, in no order, and the time: for operators.
    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Counted, StoreError>>;

    /// Forgets the count under `key`; whether there was one. Durable when the future is done.
    fn forget<'a>(&'a self, key: &'a CounterKey) -> BoxFuture<'a, Result<bool, StoreError>>;
}

/// What [`Counters::list`] finds.
pub type Counted = (Vec<(CounterKey, Count)>, UnixMs);

/// Where logins come from: an IPv4 network of 24 bits, an IPv6 network of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// The first three bytes.
    V4([u8; 3]),
    /// The first four groups.
    V6([u16; 4]),
    /// The address is not known.
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

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4([a, b, c]) => write!(f, "{}/24", Ipv4Addr::new(a, b, c, 0)),
            Self::V6([a, b, c, d]) => write!(f, "{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl FromStr for Network {
    type Err = NotAName;

    /// Reads a network, or any address in it.
    fn from_str(text: &str) -> Result<Self, NotAName> {
        if text == "unknown" {
            return Ok(Self::Unknown);
        }
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let network = Self::from(Some(address.parse().map_err(|_| NotAName)?));
        match (network, bits) {
            (_, None) | (Self::V4(_), Some("24")) | (Self::V6(_), Some("64")) => Ok(network),
            _ => Err(NotAName),
        }
    }
}

/// Whom somebody tries to be. Carries no name that was typed: people type passwords there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Person(String);

impl Person {
    /// Somebody whom the directory knows, by stable id: spellings share a counter.
    pub fn known(id: &str) -> Self {
        if id.len() <= LONGEST_ID { Self(format!("id:{id}")) } else { Self::hashed("long", id) }
    }

    /// Nobody whom the directory knows, by the name as typed.
    pub fn typed(name: &str) -> Self {
        Self::hashed("typed", &canonical(name))
    }

    /// Somebody by the text that [`fmt::Display`] gives.
    pub fn kept(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn hashed(kind: &str, text: &str) -> Self {
        let hash = sha256(text.as_bytes());
        let half = hash.first_chunk::<16>().copied().unwrap_or_default();
        Self(format!("{kind}:{:032x}", u128::from_be_bytes(half)))
    }

    /// The stable id, where it is known and not too long.
    pub fn id(&self) -> Option<&str> {
        self.0.strip_prefix("id:")
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is counted. As text it is the name in a store: under 200 bytes, no secret in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CounterKey {
    /// Failures from a network.
    Network(Network),
    /// Failures for a person from networks that (almost) never failed with them.
    Newcomers(Person),
    /// Failures for a person from one network.
    Pair(Network, Person),
    /// Failures for a person from networks that fail with them.
    Person(Person),
}

/// A text that names no counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a counter")]
pub struct NotAName;

impl fmt::Display for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "network|{network}"),
            Self::Newcomers(person) => write!(f, "newcomers|{person}"),
            Self::Pair(network, person) => write!(f, "pair|{network}|{person}"),
            Self::Person(person) => write!(f, "person|{person}"),
        }
    }
}

impl FromStr for CounterKey {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let (kind, rest) = text.split_once('|').ok_or(NotAName)?;
        let person = Person::kept;
        match kind {
            "network" => Ok(Self::Network(rest.parse()?)),
            "newcomers" => Ok(Self::Newcomers(person(rest))),
            "person" => Ok(Self::Person(person(rest))),
            "pair" => {
                let (network, rest) = rest.split_once('|').ok_or(NotAName)?;
                Ok(Self::Pair(network.parse()?, person(rest)))
            }
            _ => Err(NotAName),
        }
    }
}

impl CounterKey {
    /// How long after the last of so many failures nothing may be tried.
    pub fn delay(&self, failures: u32) -> Duration {
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

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Wrong credentials.
    Failed,
    /// The right password was given: forgets the failures of the person from this network, and one of
    /// the network's. Not all of these, or somebody with an account could guess at others for ever.
    Succeeded,
    /// It was not checked, or whoever asked has gone without an answer.
    Void,
}

/// A change to a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An attempt begins.
    Take,
    /// The attempt that began at `taken` ends.
    Settle {
        /// When it began, as the store said.
        taken: UnixMs,
        /// How it ends.
        outcome: Settled,
    },
}

impl Step {
    /// Whether it counts a failure.
    pub fn counts(self) -> bool {
        matches!(self, Self::Settle { outcome: Settled::Failed, .. })
    }
}

/// Failures, and attempts that are being checked: each may become a failure. A document in stores:
/// what an older version did not write has its default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Count {
    failures: u32,
    /// The last failure.
    last: UnixMs,
    /// Up to when failures are halved.
    halved: UnixMs,
    /// The span in which `places` were taken.
    #[serde(skip_serializing_if = "is_zero")]
    span: u64,
    #[serde(skip_serializing_if = "is_zero")]
    places: u64,
    /// Places that were taken in the span before.
    #[serde(skip_serializing_if = "is_zero")]
    older: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn span(at: UnixMs) -> u64 {
    at.seconds() / SPAN.as_secs()
}

impl Count {
    /// Failures that are not yet forgotten at `now`.
    pub fn failures(&self, key: &CounterKey, now: UnixMs) -> u32 {
        self.at(key, now).failures
    }

    /// When the last failure was.
    pub fn last(&self) -> UnixMs {
        self.last
    }

    /// How long nothing may be tried from `now` on.
    pub fn wait(&self, key: &CounterKey, now: UnixMs) -> Duration {
        // Never longer than the rule says, also when clocks disagree.
        key.delay(self.failures(key, now)).saturating_sub(now.since(self.last))
    }

    /// Whether the attempts that are being checked would use up what is free if they failed.
    pub fn is_crowded(&self, key: &CounterKey, now: UnixMs) -> bool {
        let count = self.at(key, now);
        let pending = count.pending();
        let feared = u64::from(count.failures).saturating_add(pending);
        pending > 0 && !key.delay(u32::try_from(feared).unwrap_or(u32::MAX)).is_zero()
    }

    /// Whether nothing is lost if the count is.
    pub fn is_empty(&self, key: &CounterKey, now: UnixMs) -> bool {
        let count = self.at(key, now);
        count.failures == 0 && count.pending() == 0
    }

    /// Whether attempts are being checked.
    pub fn is_held(&self, key: &CounterKey, now: UnixMs) -> bool {
        self.at(key, now).pending() > 0
    }

    /// The count without places: what outlives the processes that hold them.
    pub fn without_places(self) -> Self {
        Self { span: 0, places: 0, older: 0, ..self }
    }

    /// The count with no time after `now`: the clock has been put back while nobody looked.
    pub fn not_after(self, now: UnixMs) -> Self {
        Self { last: self.last.min(now), halved: self.halved.min(now), ..self }
    }

    /// After how long the count [`Count::is_empty`], if nothing happens until then; rounded up.
    pub fn expires_in(&self, key: &CounterKey, now: UnixMs) -> Duration {
        let count = self.at(key, now);
        let halvings = u32::BITS - count.failures.leading_zeros();
        (key.half_life() * halvings).max(SPAN * 2)
    }

    /// The count after `step`.
    #[must_use]
    pub fn after(&self, step: Step, key: &CounterKey, now: UnixMs) -> Self {
        let mut count = self.at(key, now);
        match step {
            Step::Take => count.places = count.places.saturating_add(1),
            Step::Settle { taken, outcome } => {
                count.leave(taken);
                count.settle(outcome, key, now);
            }
        }
        count
    }

    fn settle(&mut self, outcome: Settled, key: &CounterKey, now: UnixMs) {
        match (outcome, key) {
            (Settled::Failed, _) => {
                self.failures = self.failures.saturating_add(1);
                self.last = now;
            }
            (Settled::Succeeded, CounterKey::Pair(..)) => self.failures = 0,
            (Settled::Succeeded, CounterKey::Network(_)) => {
                self.failures = self.failures.saturating_sub(1);
            }
            (Settled::Succeeded | Settled::Void, _) => {}
        }
    }

    /// Gives back a place that was taken at `taken`; it may have been dropped.
    fn leave(&mut self, taken: UnixMs) {
        let held = match self.span.checked_sub(span(taken)) {
            Some(0) => &mut self.places,
            Some(1) => &mut self.older,
            _ => return,
        };
        *held = held.saturating_sub(1);
    }

    fn pending(&self) -> u64 {
        self.places.saturating_add(self.older)
    }

    /// The count as it stands at `now`.
    fn at(&self, key: &CounterKey, now: UnixMs) -> Self {
        let mut count = *self;
        let half_life = key.half_life();
        let times = now.since(count.halved).as_millis() / half_life.as_millis();
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        count.failures = count.failures.checked_shr(times).unwrap_or(0);
        count.halved = match count.failures {
            0 => now,
            _ => count.halved.plus(half_life.saturating_mul(times)),
        };
        let current = span(now);
        match current.checked_sub(count.span) {
            // Also when the clock has gone back.
            None | Some(0) => {}
            Some(1) => (count.older, count.places, count.span) = (count.places, 0, current),
            Some(_) => (count.older, count.places, count.span) = (0, 0, current),
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    const START: UnixMs = UnixMs(1_800_000_000_000);
    const FAIL: Step = Step::Settle { taken: START, outcome: Settled::Failed };

    #[test]
    fn mapped_addresses_and_neighbours_share_a_counter() {
        assert_eq!(Network::from(ip("::ffff:192.0.2.1")), Network::from(ip("192.0.2.250")));
        assert_eq!(Network::from(ip("2001:db8::1")), Network::from(ip("2001:db8::ffff:2")));
        assert_ne!(Network::from(ip("2001:db8::1")), Network::from(ip("2001:db8:0:1::1")));
    }

    #[test]
    fn names_are_read_back_and_bounded() {
        let long = "ü".repeat(5000);
        for network in [ip("192.0.2.7"), ip("2001:db8:ffff:ffff::1"), None] {
            let network = Network::from(network);
            for person in [
                Person::known("u|1:|"),
                Person::known(&long),
                Person::typed("hunter2"),
                Person::typed(&long),
            ] {
                for key in [
                    CounterKey::Network(network),
                    CounterKey::Newcomers(person.clone()),
                    CounterKey::Pair(network, person.clone()),
                    CounterKey::Person(person.clone()),
                ] {
                    let name = key.to_string();
                    assert!(name.len() < 200, "{name}");
                    assert_eq!(name.parse(), Ok(key));
                    assert!(!name.contains("hunter2"));
                }
            }
        }
        assert_eq!(Person::typed("Nobody"), Person::typed("nobody"));
        assert_eq!(Person::typed("ZOË"), Person::typed("zoe\u{308}"), "no name has more tries");
        assert_ne!(Person::typed("u1"), Person::known("u1"));
        for bad in ["", "network", "network|x", "network|192.0.2.0/8", "pair|unknown", "x|y"] {
            assert_eq!(bad.parse::<CounterKey>(), Err(NotAName), "{bad}");
        }
        assert_eq!("192.0.2.9".parse(), Ok(Network::V4([192, 0, 2])));
    }

    #[test]
    fn places_of_those_who_died_are_dropped_in_two_spans() {
        let key = CounterKey::Pair(Network::Unknown, Person::known("u1"));
        let mut count = Count::default();
        for _ in 0..FREE_PAIR {
            assert!(!count.is_crowded(&key, START));
            count = count.after(Step::Take, &key, START);
        }
        assert!(count.is_crowded(&key, START));
        assert!(count.is_crowded(&key, START.plus(SPAN)));
        assert!(!count.is_crowded(&key, START.plus(SPAN * 2)));
        assert!(count.is_empty(&key, START.plus(SPAN * 2)));
        // Taken in one span, given back in the next; never those of others.
        let later = START.plus(SPAN);
        let count = count.after(Step::Take, &key, later);
        let void = |taken| Step::Settle { taken, outcome: Settled::Void };
        let count = (0..FREE_PAIR * 2).fold(count, |c, _| c.after(void(START), &key, later));
        assert_eq!((count.places, count.older), (1, 0));
        let count = count.after(void(later), &key, later.plus(SPAN));
        assert_eq!((count.places, count.older), (0, 0));
        let much_later = later.plus(SPAN * 10);
        let count = count.after(Step::Take, &key, much_later).after(void(START), &key, much_later);
        assert_eq!(count.pending(), 1);
    }

    #[test]
    fn clocks_that_disagree_never_make_the_wait_longer() {
        let key = CounterKey::Pair(Network::Unknown, Person::known("u1"));
        let late = START.plus(Duration::from_secs(7200));
        let count = (0..7).fold(Count::default(), |count, _| count.after(FAIL, &key, late));
        assert_eq!(count.wait(&key, late), Duration::from_secs(4));
        assert_eq!(count.wait(&key, START), Duration::from_secs(4));
        let restarted = count.not_after(START);
        assert_eq!(restarted.wait(&key, START.plus(Duration::from_secs(4))), Duration::ZERO);
        assert_eq!(restarted.failures(&key, START.plus(HALF_LIFE_PAIR)), 3);
    }

    #[test]
    fn a_count_expires_when_it_is_empty() {
        for key in [
            CounterKey::Pair(Network::Unknown, Person::known("u1")),
            CounterKey::Network(Network::Unknown),
        ] {
            for failures in [0, 1, 2, 3, 5, 31, 1000] {
                let count = (0..failures).fold(Count::default(), |c, _| c.after(FAIL, &key, START));
                let count = count.after(Step::Take, &key, START);
                let after = count.expires_in(&key, START);
                assert!(count.is_empty(&key, START.plus(after)), "{failures}");
                assert!(after <= Duration::from_secs(12 * 3600));
            }
        }
    }

    #[test]
    fn documents_of_other_versions_are_read() {
        let key = CounterKey::Network(Network::Unknown);
        let count = Count::default().after(FAIL, &key, START);
        let text = serde_json::to_string(&count).unwrap();
        assert_eq!(serde_json::from_str::<Count>(&text).unwrap(), count);
        assert!(text.len() < 120, "{text}");
        let newer = r#"{"failures":3,"last":1,"halved":1,"why":"x"}"#;
        assert_eq!(serde_json::from_str::<Count>(newer).unwrap().failures, 3);
        assert_eq!(serde_json::from_str::<Count>("{}").unwrap(), Count::default());
    }
}
