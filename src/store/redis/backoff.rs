//! How long to wait before the next attempt: longer each time, and never the same for two nodes.

use std::time::Duration;

use crate::secret::random;

/// The first wait.
const FIRST: Duration = Duration::from_millis(20);
/// The longest: a store that is back must be noticed within a second.
const LONGEST: Duration = Duration::from_millis(300);

/// The waits between attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The last attempt was a good one.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Half to one and a half of a time that doubles.
    pub(super) fn next(&mut self) -> Duration {
        let current = self.next;
        self.next = (current * 2).min(LONGEST);
        let [chance] = random::<1>().unwrap_or([128]);
        current / 2 + current * u32::from(chance) / 256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        let (mut one, mut other) = (Backoff::new(), Backoff::new());
        let waits: Vec<_> = (0..40).map(|_| (one.next(), other.next())).collect();
        assert!(waits.iter().any(|(one, other)| one != other));
        assert!(waits[0].0 <= FIRST * 3 / 2);
        assert!(waits.iter().all(|(wait, _)| *wait <= LONGEST * 3 / 2 && *wait >= FIRST / 2));
        one.reset();
        assert!(one.next() <= FIRST * 3 / 2);
    }
}
