//! Limits of a session: from where, for what and how often it may be used.
//!
//! Judged at every use, whatever carries the token. Uses are counted in the record, by compare-and-set, so
//! that the nodes together allow no more than one of them would.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::authority::{Authority, unavailable};
use super::command::{Refusal, Worthless};
use super::live::Live;
use super::lookup::Found;
use super::record::Limits;
use super::token::SessionId;

/// How often a use is counted anew when another node counts one at the same moment.
const ATTEMPTS: usize = 16;
/// Locks over the sessions whose uses are counted.
const TURNS: usize = 64;

/// Uses of one session take turns in this process, so that only other nodes are in their way.
#[derive(Debug)]
pub(super) struct Turns(Box<[Mutex<()>]>);

impl Turns {
    pub(super) fn new() -> Self {
        Self((0..TURNS).map(|_| Mutex::default()).collect())
    }

    fn of(&self, id: SessionId) -> &Mutex<()> {
        let [.., low] = *id.as_bytes();
        #[expect(clippy::indexing_slicing, reason = "TURNS locks, index taken modulo TURNS")]
        &self.0[usize::from(low) % TURNS]
    }
}

impl Limits {
    /// Whether a client at `ip` may use the session; one whose address is not known only if all may.
    fn admits(&self, ip: Option<IpAddr>) -> bool {
        let listed = |ip: IpAddr| self.ips.iter().any(|at| at.to_canonical() == ip.to_canonical());
        self.ips.is_empty() || ip.is_some_and(listed)
    }

    /// Whether the session may be used for `target`, path and query as sent.
    fn covers(&self, target: &str) -> bool {
        let matches = |uri: &String| match uri.strip_suffix('*') {
            Some(start) => target.starts_with(start),
            None => target == uri,
        };
        self.uris.is_empty() || self.uris.iter().any(matches)
    }
}

impl Authority {
    /// One use of a session that has limits.
    pub(super) async fn spend(
        self: &Arc<Self>,
        live: Arc<Live>,
        ip: Option<IpAddr>,
        target: &str,
    ) -> Result<Found, Refusal> {
        let Some(limits) = &live.record().limits else { return Ok(Ok(live)) };
        if !limits.admits(ip) {
            return Ok(Err(Worthless::WrongAddress));
        }
        if !limits.covers(target) {
            return Ok(Err(Worthless::WrongUri));
        }
        if limits.actions.is_none() {
            return Ok(Ok(live));
        }
        let _turn = self.turns.of(live.id()).lock().await;
        for _ in 0..ATTEMPTS {
            match self.count(live.id()).await {
                Ok(Ok(())) => return Ok(Ok(live)),
                Ok(Err(worthless)) => return Ok(Err(worthless)),
                Err(Refusal::Conflict) => {}
                Err(Refusal::NotSignedIn) => return Ok(Err(Worthless::Ended)),
                Err(refusal) => return Err(refusal),
            }
        }
        Err(Refusal::Conflict)
    }

    /// Counts a use in the record.
    async fn count(&self, id: SessionId) -> Result<Result<(), Worthless>, Refusal> {
        let found = self.store.load(id).await.map_err(|error| unavailable(&error))?;
        let Some(mut record) = found.map(|found| found.record).filter(|record| !record.over) else {
            return Ok(Err(Worthless::Ended));
        };
        if let Some(limits) = &mut record.limits {
            if limits.actions.is_some_and(|most| limits.used >= most) {
                return Ok(Err(Worthless::ActionsExceeded));
            }
            limits.used = limits.used.saturating_add(1);
        }
        record.generation = record.generation.saturating_add(1);
        record.seen = self.clock.now();
        self.replace_now(record).await.map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_in_their_usual_form() {
        let ip = |text: &str| text.parse::<IpAddr>().ok();
        let limits = Limits { ips: ip("192.0.2.1").into_iter().collect(), ..Limits::default() };
        assert!(limits.admits(ip("192.0.2.1")) && limits.admits(ip("::ffff:192.0.2.1")));
        assert!(!limits.admits(ip("192.0.2.2")) && !limits.admits(None));
        assert!(Limits::default().admits(None));
    }

    #[test]
    fn paths_are_compared_exactly_or_by_their_start() {
        let uris = vec!["/a?x=1".to_owned(), "/b/*".to_owned()];
        let limits = Limits { uris, ..Limits::default() };
        for (target, covered) in [
            ("/a?x=1", true),
            ("/a", false),
            ("/a?x=12", false),
            ("/b/", true),
            ("/b/c?d", true),
            ("/b", false),
            ("/B/", false),
        ] {
            assert_eq!(limits.covers(target), covered, "{target}");
        }
    }
}
