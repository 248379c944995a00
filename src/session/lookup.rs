//! From a token to its live session, and the upkeep of what is cached.
//!
//! Both ends of life are checked at every use; a sweep only frees memory.

use std::sync::Arc;

use super::authority::{Authority, unavailable};
use super::command::Refusal;
use super::identity::Identity;
use super::live::Live;
use super::token::{SessionId, Token};
use crate::audit::Origin;
use crate::clock::UnixMs;

/// What the cache knows of a token.
#[derive(Clone, Debug)]
pub enum Cached {
    /// Proven live.
    Live(Arc<Live>),
    /// The cache cannot tell: ask the store.
    Unknown,
    /// Proven not to open a session.
    Worthless,
}

/// Reads that lost a race with an invalidation are repeated this often.
const ATTEMPTS: usize = 4;

impl Authority {
    /// The hot path: no store call, no allocation, no lock. The caller notes the use, if it is one.
    pub fn cached(&self, token: &Token, now: UnixMs) -> Cached {
        if !self.lease.holds(now) {
            return Cached::Unknown;
        }
        let Some(live) = self.cache.find(token.id()) else { return Cached::Unknown };
        if live.epoch() != self.directory.epoch() {
            return Cached::Unknown;
        }
        if live.pulse().is_over(now) || !live.opens(token, now) {
            return Cached::Worthless;
        }
        Cached::Live(live)
    }

    /// The live session that `token` opens, read from the store; `None` when it opens none.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] when the store does not answer: that is not "no session".
    pub async fn load(self: &Arc<Self>, token: &Token) -> Result<Option<Arc<Live>>, Refusal> {
        let Some(live) = self.fetch(token.id()).await? else { return Ok(None) };
        let now = self.clock.now();
        if live.pulse().is_over(now) || !live.opens(token, now) {
            return Ok(None);
        }
        Ok(Some(live))
    }

    /// Makes a session that was just written usable; `None` when it has ended since, or its user may
    /// not have one any more. Reads the store: what was written may be history already.
    pub(super) async fn admit(
        self: &Arc<Self>,
        token: &Token,
    ) -> Result<Option<Arc<Live>>, Refusal> {
        let live = self.fetch(token.id()).await?;
        Ok(live.filter(|live| live.opens(token, self.clock.now())))
    }

    /// Derives and caches a session from the store.
    async fn fetch(self: &Arc<Self>, id: SessionId) -> Result<Option<Arc<Live>>, Refusal> {
        for _ in 0..ATTEMPTS {
            let ticket = self.cache.before_read(id);
            let record = self.store.load(id).await.map_err(|error| unavailable(&error))?;
            let Some(record) = record else { return Ok(None) };
            let epoch = self.directory.epoch();
            let Some(identity) = Identity::derive(&record, &*self.directory) else {
                self.end(id, "user-disabled", &Origin::default()).await?;
                return Ok(None);
            };
            if self.cache.is_crowded() {
                self.cache.sweep(self.clock.now());
            }
            let live = Arc::new(Live::new(record, identity, epoch, self.cache.pulse(id)));
            if self.cache.insert(&live, ticket) {
                return Ok(Some(live));
            }
        }
        Err(Refusal::Conflict)
    }

    /// After a change of the directory: sessions of people who may not have one any more end now,
    /// with their open streams; the others are derived anew at their next request.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] when the store does not answer; the sessions are refused all the same.
    pub async fn reconcile(self: &Arc<Self>) -> Result<usize, Refusal> {
        let mut over = Vec::new();
        for user in self.store.users().await.map_err(|error| unavailable(&error))? {
            if self.directory.by_id(&user).is_some_and(|account| !account.disabled) {
                continue;
            }
            let all = self.store.of_user(&user).await.map_err(|error| unavailable(&error))?;
            over.extend(all.iter().map(|record| record.id));
        }
        self.end_these(&over, "user-disabled", &Origin::default()).await
    }

    /// Writes the uses that were noted since the last call, one batch for all sessions, and drops
    /// from memory what is over.
    pub async fn upkeep(&self) {
        let mut seen = Vec::new();
        let mut lives = Vec::new();
        self.cache.visit(|live| {
            if let Some(at) = live.pulse().unwritten() {
                seen.push((live.id(), at));
                lives.push(Arc::clone(live));
            }
        });
        if !seen.is_empty()
            && let Err(error) = self.store.touch(seen).await
        {
            tracing::warn!(%error, "last uses are not written yet");
            lives.iter().for_each(|live| live.pulse().unwrite());
        }
        self.cache.sweep(self.clock.now());
    }

    /// Drops what was rendered from identities: the configuration of headers has changed.
    pub fn forget_renderings(&self) {
        let mut ids = Vec::new();
        self.cache.visit(|live| ids.push(live.id()));
        ids.into_iter().for_each(|id| self.cache.change(id));
    }

    /// Number of cached sessions.
    pub fn cached_sessions(&self) -> usize {
        self.cache.len()
    }
}
