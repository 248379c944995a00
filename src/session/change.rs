//! Changes that go on when whoever asked for them has gone: ends, and what hands out a token.
//!
//! A request is dropped when its client leaves, and answered when the store is too slow, but the
//! store makes the change all the same. Each runs on a task of its own, so that cache, streams and
//! audit log always follow. Holds no rule about who may change what.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::authority::{Authority, unavailable};
use super::command::Refusal;
use super::ports::Replaced;
use super::record::Record;
use super::token::{Form, SessionId};
use crate::audit::{Event, Origin};

/// How long a request waits for a change. A disk that hangs must not pile up requests.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the parent of sessions is kept at least once it has ended.
const BURIED: Duration = Duration::from_secs(24 * 3600);
/// Ends under way at once: they share commits of the store.
const TOGETHER: usize = 256;

impl Authority {
    /// Ends a session everywhere: first in the store, then in this process, then it is answered.
    /// Whether there was one. It goes on when the future is dropped.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] when the store refuses, or does not answer in time: the session then
    /// ends as soon as the store can.
    pub async fn end(
        self: &Arc<Self>,
        id: SessionId,
        reason: &'static str,
        origin: &Origin,
    ) -> Result<bool, Refusal> {
        answer(self.start_end(id, reason, origin)).await
    }

    /// Ends these sessions, many at once; how many there were.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] at the first one that is not ended: others may have been.
    pub async fn end_these(
        self: &Arc<Self>,
        ids: &[SessionId],
        reason: &'static str,
        origin: &Origin,
    ) -> Result<usize, Refusal> {
        let mut count = 0;
        for some in ids.chunks(TOGETHER) {
            let ends: Vec<_> = some.iter().map(|id| self.start_end(*id, reason, origin)).collect();
            for end in ends {
                count += usize::from(answer(end).await?);
            }
        }
        Ok(count)
    }

    /// Ends all sessions of a user; how many there were.
    ///
    /// # Errors
    /// As [`Authority::end_these`].
    pub async fn end_all(
        self: &Arc<Self>,
        user: &str,
        reason: &'static str,
        origin: &Origin,
    ) -> Result<usize, Refusal> {
        let all = self.store.of_user(user).await.map_err(|error| unavailable(&error))?;
        let ids: Vec<_> = all.iter().map(|record| record.id).collect();
        self.end_these(&ids, reason, origin).await
    }

    fn start_end(
        self: &Arc<Self>,
        id: SessionId,
        reason: &'static str,
        origin: &Origin,
    ) -> JoinHandle<Result<bool, Refusal>> {
        let (core, origin) = (Arc::clone(self), origin.clone());
        tokio::spawn(async move { core.end_now(id, reason, &origin).await })
    }

    /// Ends a session: for tasks that are not dropped with a request.
    pub(super) async fn end_now(
        &self,
        id: SessionId,
        reason: &'static str,
        origin: &Origin,
    ) -> Result<bool, Refusal> {
        // When the store refuses, the session and its streams stay, and it is read again.
        let _doubt = self.cache.doubt(id);
        let ended = self.put_down(id).await?;
        self.cache.stop(id);
        let Some(record) = ended else { return Ok(false) };
        let session = &id.to_string();
        self.audit.record(origin, &Event::SessionEnd { user: &record.user, session, reason });
        Ok(true)
    }

    /// Ends a session in the store.
    async fn put_down(&self, id: SessionId) -> Result<Option<Record>, Refusal> {
        let refused = |error| unavailable(&error);
        if id.is_derived() {
            let found = self.store.load(id).await.map_err(refused)?.map(|found| found.record);
            let known = || self.cache.entry(id).map(|live| live.record().clone());
            if let Some(record) = found.or_else(known).filter(Record::is_sealed) {
                return self.bury(record).await;
            }
        }
        self.store.end(id).await.map_err(refused)
    }

    /// Ends a session whose record must stay: its token, or that of a session which ends with it, would
    /// open it again.
    async fn bury(&self, record: Record) -> Result<Option<Record>, Refusal> {
        if record.over {
            return Ok(None);
        }
        let least = match record.form {
            Form::Group => self.clock.now().plus(BURIED),
            _ => record.expires,
        };
        let (mut tombstone, mut ended) = (record.tombstone(least), false);
        loop {
            let former = self.store.bury(tombstone.clone()).await;
            let former = former.map_err(|error| unavailable(&error))?;
            ended |= former.as_ref().is_none_or(|former| !former.over);
            match former.filter(|former| former.expires > tombstone.expires) {
                None => return Ok(ended.then_some(record)),
                // It was prolonged meanwhile.
                Some(former) => tombstone = former.tombstone(tombstone.expires),
            }
        }
    }

    /// Writes a record over its former generation: for tasks that are not dropped with a request.
    pub(super) async fn replace_now(&self, record: Record) -> Result<(), Refusal> {
        let _doubt = self.cache.doubt(record.id);
        match self.store.replace(record).await.map_err(|error| unavailable(&error))? {
            Replaced::Done => Ok(()),
            Replaced::Conflict => Err(Refusal::Conflict),
            Replaced::Gone => Err(Refusal::NotSignedIn),
        }
    }
}

async fn answer<T>(task: JoinHandle<Result<T, Refusal>>) -> Result<T, Refusal> {
    match timeout(PATIENCE, task).await {
        Ok(Ok(result)) => result,
        // It panicked, or the runtime ends.
        Ok(Err(_)) => Err(Refusal::Unavailable),
        Err(_) => Err(late()),
    }
}

fn late() -> Refusal {
    tracing::warn!("the session store does not answer in time");
    Refusal::Unavailable
}

/// Carries `change` through. When what it hands out reaches nobody any more, since the caller has
/// gone or was told that the store is too slow, `undo` is carried through as well.
pub(super) async fn deliver<T: Send + 'static>(
    change: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    undo: impl Future<Output = ()> + Send + 'static,
) -> Result<T, Refusal> {
    let (hand, handed) = oneshot::channel();
    tokio::spawn(async move {
        let result = change.await;
        let changed = result.is_ok();
        // A caller may also leave while the result is on its way: only a receipt counts.
        let (receipt, received) = oneshot::channel::<()>();
        let taken = hand.send((result, receipt)).is_ok() && received.await.is_ok();
        if changed && !taken {
            undo.await;
        }
    });
    match timeout(PATIENCE, handed).await {
        Ok(Ok((result, receipt))) => {
            let _ = receipt.send(());
            result
        }
        Ok(Err(_)) => Err(Refusal::Unavailable),
        Err(_) => Err(late()),
    }
}
