//! Guesses at tokens: how many different ones that open nothing a network may show within a minute.
//!
//! Guessing one is hopeless, but whoever tries is to be told off, and deserves a line in the audit log.
//! Tokens are looked up all the same: a session opens whatever others in its network do. The same token
//! again does not count: that is a browser or a program which has not noticed the end of its session. Kept
//! in memory, per process: a restart hands out nothing that is worth having.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::counters::Network;
use super::token::{SecretHash, SessionId, Token};
use crate::clock::UnixMs;

/// How long guesses add up, and with them the longest wait.
const WINDOW: Duration = Duration::from_secs(60);
/// Networks that are watched at once. With more of them, each has less to try; the oldest are forgotten.
const NETWORKS: usize = 4096;

/// Guesses of one network since the first of them.
#[derive(Debug)]
struct Window {
    began: UnixMs,
    /// Keyed hashes of what was shown, at most as many as are allowed.
    shown: HashSet<u64>,
}

impl Window {
    fn is_open(&self, now: UnixMs) -> bool {
        // A clock that was put back must not keep it open.
        now >= self.began && now.since(self.began) < WINDOW
    }

    fn rest(&self, now: UnixMs) -> Duration {
        WINDOW.saturating_sub(now.since(self.began))
    }
}

/// A network whose unknown tokens are refused for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guessing {
    /// From where.
    pub network: Network,
    /// Different tokens that opened nothing.
    pub tokens: usize,
    /// When the first of them came.
    pub since: UnixMs,
    /// How long it lasts.
    pub wait: Duration,
}

/// Guesses at tokens, by network; shared by all workers.
#[derive(Debug)]
pub struct Guesses {
    /// Different tokens that a network may show in a minute; 0: as many as it likes.
    limit: usize,
    /// Nobody outside may find tokens that look like one here.
    marks: RandomState,
    windows: Mutex<HashMap<Network, Window>>,
}

impl Guesses {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, marks: RandomState::new(), windows: Mutex::default() }
    }

    /// How long unknown tokens from `network` are refused; `None`: they are not.
    pub(super) fn wait(&self, network: Network, now: UnixMs) -> Option<Duration> {
        let windows = self.lock();
        let window = windows.get(&network)?;
        (window.is_open(now) && window.shown.len() >= self.limit).then(|| window.rest(now))
    }

    /// Counts a token that opens nothing; whether `network` has reached its limit by that.
    pub(super) fn note(&self, network: Network, token: &Token, now: UnixMs) -> bool {
        self.note_shown(network, (token.id(), token.hash()), now)
    }

    fn note_shown(&self, network: Network, shown: (SessionId, SecretHash), now: UnixMs) -> bool {
        if self.limit == 0 {
            return false;
        }
        let mark = self.marks.hash_one(shown);
        let mut windows = self.lock();
        if windows.len() >= NETWORKS && !windows.contains_key(&network) {
            make_room(&mut windows, now);
        }
        let fresh = || Window { began: now, shown: HashSet::new() };
        let window = windows.entry(network).or_insert_with(fresh);
        if !window.is_open(now) {
            *window = fresh();
        }
        // Requests that were under way when it was reached change nothing.
        window.shown.len() < self.limit
            && window.shown.insert(mark)
            && window.shown.len() == self.limit
    }

    /// Networks that have reached their limit, for operators.
    pub fn list(&self, now: UnixMs) -> Vec<Guessing> {
        let windows = self.lock();
        let reached = |window: &Window| window.is_open(now) && window.shown.len() >= self.limit;
        let guessing = |(network, window): (&Network, &Window)| Guessing {
            network: *network,
            tokens: window.shown.len(),
            since: window.began,
            wait: window.rest(now),
        };
        windows.iter().filter(|(_, window)| reached(window)).map(guessing).collect()
    }

    /// Forgets the guesses of `network`, or of all; how many networks had reached their limit.
    pub fn forget(&self, network: Option<Network>, now: UnixMs) -> usize {
        let wanted = |one: &Network| network.is_none_or(|network| network == *one);
        let lifted = self.list(now).iter().filter(|found| wanted(&found.network)).count();
        self.lock().retain(|one, _| !wanted(one));
        lifted
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Network, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what is over; when that is nothing, the older half.
fn make_room(windows: &mut HashMap<Network, Window>, now: UnixMs) {
    windows.retain(|_, window| window.is_open(now));
    if windows.len() < NETWORKS {
        return;
    }
    let mut began: Vec<_> = windows.values().map(|window| window.began).collect();
    let half = began.len() / 2;
    let (_, middle, _) = began.select_nth_unstable(half);
    let middle = *middle;
    windows.retain(|_, window| window.began > middle);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::token::Form;

    const START: UnixMs = UnixMs(1_800_000_000_000);

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    /// The same secret for all, under other ids.
    fn token(number: u32) -> (SessionId, SecretHash) {
        let id = SessionId::derived(Form::Own, &[&number.to_be_bytes()]);
        (id, SecretHash::of(b"the same"))
    }

    #[test]
    fn different_tokens_reach_the_limit_and_the_same_one_does_not() {
        let guesses = Guesses::new(3);
        let here = network("192.0.2.1");
        for _ in 0..100 {
            assert!(!guesses.note_shown(here, token(0), START));
        }
        assert!(!guesses.note_shown(here, token(1), START));
        assert_eq!(guesses.wait(here, START), None);
        assert!(guesses.note_shown(here, token(2), START), "the third");
        assert!(!guesses.note_shown(here, token(3), START), "told once");
        let later = START.plus(Duration::from_secs(20));
        assert_eq!(guesses.wait(here, later), Some(Duration::from_secs(40)));
        assert_eq!(guesses.wait(network("192.0.2.250"), later), Some(Duration::from_secs(40)));
        assert_eq!(guesses.wait(network("192.0.3.1"), later), None, "the neighbours");
        let guessing =
            Guessing { network: here, tokens: 3, since: START, wait: Duration::from_secs(40) };
        assert_eq!(guesses.list(later), [guessing]);
        let over = START.plus(WINDOW);
        assert_eq!(guesses.wait(here, over), None);
        assert!(guesses.list(over).is_empty());
        assert!(!guesses.note_shown(here, token(9), over), "counted from the start again");
        assert_eq!(guesses.wait(here, UnixMs(START.0 - 5000)), None, "a clock that was put back");
    }

    #[test]
    fn operators_forget_one_or_all() {
        let guesses = Guesses::new(1);
        let [one, two] = ["192.0.2.1", "2001:db8::1"].map(network);
        assert!(
            guesses.note_shown(one, token(1), START) && guesses.note_shown(two, token(1), START)
        );
        assert_eq!(guesses.forget(Some(network("198.51.100.1")), START), 0);
        assert_eq!(guesses.forget(Some(two), START), 1);
        assert_eq!(guesses.wait(two, START), None);
        assert!(guesses.wait(one, START).is_some());
        assert_eq!(guesses.forget(None, START), 1);
        assert_eq!(guesses.forget(None, START), 0);
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let guesses = Guesses::new(0);
        let here = network("192.0.2.1");
        for number in 0..1000 {
            assert!(!guesses.note_shown(here, token(number), START));
        }
        assert_eq!(guesses.wait(here, START), None);
        assert!(guesses.lock().is_empty());
    }

    #[test]
    fn many_networks_take_bounded_room() {
        let guesses = Guesses::new(1);
        for number in 0..3 * NETWORKS as u64 {
            let group = |shift: u64| (number >> shift) as u16;
            let network = Network::V6([0x2001, 0xdb8, group(16), group(0)]);
            assert!(guesses.note_shown(
                network,
                token(1),
                START.plus(Duration::from_millis(number))
            ));
            assert!(guesses.lock().len() <= NETWORKS);
        }
        assert!(guesses.lock().len() >= NETWORKS / 2);
        // All at one moment, too: then everything goes.
        let guesses = Guesses::new(1);
        for number in 0..=NETWORKS as u16 {
            assert!(guesses.note_shown(Network::V6([1, 2, 3, number]), token(1), START));
        }
        assert!(guesses.lock().len() <= NETWORKS);
    }
}
