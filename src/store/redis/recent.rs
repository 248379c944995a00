//! Sessions that this node has ended lately: refused here whatever Redis says, and ended again when a
//! connection was lost.
//!
//! Replication is asynchronous: a failover, or a restart from an older snapshot, can bring back what was
//! ended just before it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::session::{Record, SessionId};

/// How long an end is remembered: longer than a failover takes.
const MEMORY: Duration = Duration::from_secs(300);
/// How many are remembered.
const MOST: usize = 20_000;

/// Ends, newest last.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Ends>);

#[derive(Debug, Default)]
struct Ends {
    order: VecDeque<(Instant, SessionId)>,
    /// With the record that must be there, if one must.
    ids: HashMap<SessionId, Option<Arc<Record>>>,
    /// Those of which it is not known that they are on enough servers.
    unsure: HashSet<SessionId>,
}

impl Recent {
    /// This session was ended for `sure`, or may have been.
    pub(super) fn add(&self, id: SessionId, sure: bool) {
        self.remember(id, None, sure);
    }

    /// As [`Recent::add`], for a session whose record must stay.
    pub(super) fn bury(&self, record: &Arc<Record>, sure: bool) {
        self.remember(record.id, Some(Arc::clone(record)), sure);
    }

    fn remember(&self, id: SessionId, tombstone: Option<Arc<Record>>, sure: bool) {
        let mut ends = self.lock();
        if sure {
            ends.unsure.remove(&id);
        } else {
            ends.unsure.insert(id);
        }
        let now = Instant::now();
        while ends.order.len() >= MOST
            || ends.order.front().is_some_and(|(at, _)| now.duration_since(*at) > MEMORY)
        {
            let Some((_, old)) = ends.order.pop_front() else { break };
            ends.ids.remove(&old);
            ends.unsure.remove(&old);
        }
        if ends.ids.insert(id, tombstone).is_none() {
            ends.order.push_back((now, id));
        }
    }

    /// Whether the session was ended here.
    pub(super) fn contains(&self, id: SessionId) -> bool {
        self.lock().ids.contains_key(&id)
    }

    /// The record that must be there of a session that was ended here, if one must.
    pub(super) fn tombstone(&self, id: SessionId) -> Option<Arc<Record>> {
        self.lock().ids.get(&id).cloned().flatten()
    }

    /// Whether a failover might bring the session back that was, or may have been, ended here.
    pub(super) fn is_unsure(&self, id: SessionId) -> bool {
        self.lock().unsure.contains(&id)
    }

    /// All that are remembered.
    pub(super) fn all(&self) -> Vec<SessionId> {
        self.lock().order.iter().map(|(_, id)| *id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_are_remembered_for_a_while() {
        let recent = Recent::default();
        let id = SessionId::issue().unwrap();
        recent.add(id, false);
        assert!(recent.is_unsure(id));
        recent.add(id, true);
        assert!(!recent.is_unsure(id));
        assert_eq!(recent.all(), [id]);
        tokio::time::advance(MEMORY + Duration::from_secs(1)).await;
        let next = SessionId::issue().unwrap();
        recent.add(next, true);
        assert!(!recent.contains(id) && recent.contains(next));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let recent = Recent::default();
        for _ in 0..MOST + 10 {
            recent.add(SessionId::issue().unwrap(), false);
        }
        assert_eq!(recent.all().len(), MOST);
        assert_eq!(recent.lock().unsure.len(), MOST);
    }
}
