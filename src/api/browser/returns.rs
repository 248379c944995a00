//! Where browsers that were sent to the sign-in page come back to, and whether they go in circles.
//!
//! Kept in this process and bounded; judges no target. Losing an entry costs the way back to the page
//! only: sign-in then leads to `/`.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, UnixMs};
use crate::pages::LoginReason;
use crate::secret::random;

/// Bound on places.
const PLACES: usize = 10_000;
/// Bound on the bytes of all places.
const BYTES: usize = 16 << 20;
/// How long a place is kept.
const KEEP: Duration = Duration::from_secs(60 * 60);
/// Bound on remembered sign-ins.
const MARKS: usize = 1_000;
/// A request without a session this soon after a sign-in is a return.
const RETURN_WITHIN: Duration = Duration::from_secs(10);
/// Sign-ins this far apart are not one loop.
const FORGET: Duration = Duration::from_secs(5 * 60);
/// Returns that make a loop.
const RETURNS: u8 = 3;

/// Where a sign-in leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Path and query of the own origin, judged.
    pub(super) target: String,
    /// Why the browser was sent to sign in; none when a link named the place.
    pub(super) reason: Option<LoginReason>,
}

#[derive(Debug)]
struct Kept {
    host: String,
    place: Place,
    until: UnixMs,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.host.len() + self.place.target.len()
    }
}

type Id = [u8; 16];

#[derive(Debug, Default)]
struct Places {
    by_id: HashMap<Id, Kept>,
    /// Oldest first; all are kept equally long.
    order: VecDeque<Id>,
    bytes: usize,
}

impl Places {
    /// Drops what is too old, and the oldest ones until `more` bytes fit.
    fn make_room(&mut self, now: UnixMs, more: usize) {
        while let Some(id) = self.order.front() {
            let old = self.by_id.get(id).is_none_or(|kept| kept.until <= now);
            if !old && self.order.len() < PLACES && self.bytes + more <= BYTES {
                return;
            }
            if let Some(kept) = self.by_id.remove(id) {
                self.bytes -= kept.bytes();
            }
            self.order.pop_front();
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    signed_in: UnixMs,
    returns: u8,
}

/// Who was led where.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Visit<'a> {
    /// Client address.
    pub(super) ip: Option<IpAddr>,
    /// User-Agent as sent.
    pub(super) agent: &'a str,
    /// Host with its port.
    pub(super) host: &'a str,
    /// Path and query.
    pub(super) target: &'a str,
}

/// The tables, shared by all workers; none is on the way of a request that passes.
#[derive(Debug)]
pub(super) struct Returns {
    clock: Clock,
    places: Mutex<Places>,
    marks: Mutex<HashMap<u64, Mark>>,
    hasher: RandomState,
}

impl Returns {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            places: Mutex::default(),
            marks: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Keeps a judged place for an hour; the id that names it on `host`. `None` without randomness.
    pub(super) fn keep(&self, host: &str, place: Place) -> Option<String> {
        let id: Id = random().ok()?;
        let now = self.clock.now();
        let kept = Kept { host: host.to_ascii_lowercase(), place, until: now.plus(KEEP) };
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.make_room(now, kept.bytes());
        places.bytes += kept.bytes();
        places.order.push_back(id);
        places.by_id.insert(id, kept);
        Some(format!("{:032x}", u128::from_be_bytes(id)))
    }

    /// The place that `id` names, if it was kept for `host` and is not too old.
    pub(super) fn find(&self, host: &str, id: &str) -> Option<Place> {
        // No sign, no upper case: one spelling per id.
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if id.len() != 32 || !id.bytes().all(hex) {
            return None;
        }
        let id = u128::from_str_radix(id, 16).ok()?.to_be_bytes();
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = places.by_id.get(&id)?;
        let good = kept.until > self.clock.now() && kept.host.eq_ignore_ascii_case(host);
        good.then(|| kept.place.clone())
    }

    /// Remembers that somebody signed in and was led to a place.
    pub(super) fn signed_in(&self, visit: Visit<'_>) {
        let now = self.clock.now();
        let key = self.hasher.hash_one(visit);
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.len() >= MARKS {
            marks.retain(|_, mark| now.since(mark.signed_in) < RETURN_WITHIN);
        }
        if marks.len() >= MARKS {
            // More sign-ins within seconds than are remembered: a loop is then found a little later.
            marks.clear();
        }
        let mark = marks.entry(key).or_insert(Mark { signed_in: now, returns: 0 });
        if now.since(mark.signed_in) >= FORGET {
            mark.returns = 0;
        }
        mark.signed_in = now;
    }

    /// Notes that somebody came without a session. Whether they go in circles: this was the third time
    /// that it happened right after they had signed in.
    pub(super) fn came_back(&self, visit: Visit<'_>) -> bool {
        let key = self.hasher.hash_one(visit);
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mark) = marks.get_mut(&key) else { return false };
        if self.clock.now().since(mark.signed_in) > RETURN_WITHIN {
            return false;
        }
        mark.returns += 1;
        let circles = mark.returns >= RETURNS;
        if circles {
            // The page that tells of it offers another try, which starts from nothing.
            marks.remove(&key);
        }
        circles
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place(target: impl Into<String>) -> Place {
        Place { target: target.into(), reason: Some(LoginReason::Required) }
    }

    fn returns() -> (Returns, Clock) {
        let clock = Clock::manual(UnixMs(1_000_000));
        (Returns::new(clock.clone()), clock)
    }

    #[test]
    fn each_tab_has_its_own_place() {
        let (returns, _) = returns();
        let ids: Vec<_> =
            (0..50).map(|n| returns.keep("h", place(format!("/{n}"))).unwrap()).collect();
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(returns.find("h", id).unwrap().target, format!("/{n}"));
        }
    }

    #[test]
    fn a_place_is_bound_to_its_host_and_ends() {
        let (returns, clock) = returns();
        let id = returns.keep("App.example.com:8443", place("/a")).unwrap();
        assert!(returns.find("app.EXAMPLE.com:8443", &id).is_some());
        for other in ["app.example.com", "evil.example", ""] {
            assert!(returns.find(other, &id).is_none());
        }
        for id in
            [id.to_uppercase(), id.replacen(|_: char| true, "+", 1), String::new(), "0".repeat(32)]
        {
            assert!(returns.find("app.example.com:8443", &id).is_none(), "{id}");
        }
        clock.advance(KEEP);
        assert!(returns.find("app.example.com:8443", &id).is_none());
    }

    #[test]
    fn places_are_bounded_in_number_and_bytes_and_the_oldest_goes() {
        let (returns, clock) = returns();
        let first = returns.keep("h", place("/first")).unwrap();
        let mut last = String::new();
        for _ in 0..PLACES {
            last = returns.keep("h", place("/x")).unwrap();
        }
        assert!(returns.find("h", &first).is_none());
        assert!(returns.find("h", &last).is_some());
        for _ in 0..3_000 {
            last = returns.keep("h", place("x".repeat(8 << 10))).unwrap();
        }
        assert!(returns.find("h", &last).is_some());
        {
            let places = returns.places.lock().unwrap();
            assert!(places.bytes <= BYTES && places.order.len() == places.by_id.len());
            assert_eq!(places.bytes, places.by_id.values().map(Kept::bytes).sum::<usize>());
        }
        clock.advance(KEEP);
        returns.keep("h", place("/x")).unwrap();
        assert_eq!(returns.places.lock().unwrap().by_id.len(), 1);
    }

    #[test]
    fn three_returns_right_after_signing_in_are_a_loop() {
        let (returns, clock) = returns();
        let visit = Visit { ip: None, agent: "a", host: "h", target: "/x" };
        for _ in 0..5 {
            assert!(!returns.came_back(visit), "never signed in");
        }
        for expected in [false, false, true, false] {
            returns.signed_in(visit);
            clock.advance(Duration::from_secs(2));
            assert!(!returns.came_back(Visit { agent: "b", ..visit }), "somebody else");
            assert!(!returns.came_back(Visit { target: "/y", ..visit }), "another page");
            assert_eq!(returns.came_back(visit), expected);
            clock.advance(Duration::from_secs(20));
        }
    }

    #[test]
    fn a_session_that_ended_later_is_no_loop() {
        let (returns, clock) = returns();
        let visit = Visit { ip: None, agent: "a", host: "h", target: "/x" };
        for _ in 0..5 {
            returns.signed_in(visit);
            clock.advance(RETURN_WITHIN + Duration::from_millis(1));
            assert!(!returns.came_back(visit));
        }
        for _ in 0..5 {
            returns.signed_in(visit);
            assert!(!returns.came_back(visit), "far apart");
            clock.advance(FORGET);
        }
        for n in 0..5_000u32 {
            returns.signed_in(Visit { ip: Some(IpAddr::from(n.to_be_bytes())), ..visit });
        }
        assert!(returns.marks.lock().unwrap().len() <= MARKS);
    }
}
