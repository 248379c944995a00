//! Changes as they are asked for, judged one after the other, and gathered for one commit.
//!
//! Decides whether a change may be made; neither writes nor shows it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot::Sender;

use super::memory::Memory;
use crate::clock::UnixMs;
use crate::session::{Record, Replaced, SessionId, StoreError};

/// Changes in one commit: bounds what one answer waits for.
pub(super) const BATCH: usize = 1024;

pub(super) type Ack<T> = Sender<Result<T, StoreError>>;

/// A change that somebody asks for.
#[derive(Debug)]
pub(super) enum Op {
    Bury(Box<Record>, Ack<Option<Record>>),
    /// Counts of failed logins have changed: tell when they are written.
    Counted(Ack<()>),
    Create(Box<Record>, Ack<()>),
    End(SessionId, Ack<Option<Record>>),
    Replace(Box<Record>, Ack<Replaced>),
    Touched(Vec<SessionId>),
}

/// What to tell whom when the batch is written.
#[derive(Debug)]
pub(super) enum Answer {
    Buried(Ack<Option<Record>>, Option<Arc<Record>>),
    Counted(Ack<()>),
    Created(SessionId, Ack<()>),
    Ended(SessionId, Ack<Option<Record>>, Option<Arc<Record>>),
    Replaced(Ack<Replaced>, Replaced),
}

/// Changes that are judged but not written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The state of each session after the batch.
    pub(super) after: HashMap<SessionId, Option<Arc<Record>>>,
    /// The same for the disk.
    pub(super) writes: HashMap<SessionId, Option<Vec<u8>>>,
    pub(super) answers: Vec<Answer>,
    added: usize,
    removed: usize,
    /// Whether expired sessions were looked for because the store is full.
    made_room: bool,
}

/// What changes are judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bench<'a> {
    pub(super) memory: &'a Memory,
    pub(super) max_sessions: u64,
    pub(super) now: UnixMs,
}

impl Batch {
    /// Judges a change by what memory holds and what was judged before; uses and counts are none of its business.
    pub(super) fn judge(&mut self, op: Op, by: Bench<'_>) {
        match op {
            Op::Touched(_) => {}
            Op::Counted(ack) => self.answers.push(Answer::Counted(ack)),
            // Whoever does not wait any more was told, or will find, that nothing has changed.
            Op::Create(_, ack) if ack.is_closed() => {}
            Op::Replace(_, ack) if ack.is_closed() => {}
            Op::Create(record, ack) => match self.create(*record, by) {
                Ok(id) => self.answers.push(Answer::Created(id, ack)),
                Err(error) => tell(ack, Err(error)),
            },
            Op::Replace(record, ack) => match self.replace(*record, by) {
                Ok(done) => self.answers.push(Answer::Replaced(ack, done)),
                Err(error) => tell(ack, Err(error)),
            },
            Op::Bury(record, ack) => {
                let former = self.current(record.id, by.memory);
                match self.put(*record) {
                    Ok(()) => {
                        self.added += usize::from(former.is_none());
                        self.answers.push(Answer::Buried(ack, former));
                    }
                    Err(error) => tell(ack, Err(error)),
                }
            }
            Op::End(id, ack) => {
                let ended = self.current(id, by.memory);
                if ended.is_some() {
                    self.remove(id);
                }
                self.answers.push(Answer::Ended(id, ack, ended));
            }
        }
    }

    fn create(&mut self, record: Record, by: Bench<'_>) -> Result<SessionId, StoreError> {
        let id = record.id;
        let former = self.current(id, by.memory);
        // One that has expired may still be there, for it is swept later.
        if former.as_ref().is_some_and(|former| former.ends() > by.now) {
            return Err(StoreError::Unavailable("the session id is in use".to_owned()));
        }
        if self.is_full(by) && !self.made_room {
            // Once is enough: there are not more creations in a batch.
            self.made_room = true;
            self.sweep(by, Duration::ZERO, BATCH);
        }
        if former.is_none() && self.is_full(by) {
            return Err(StoreError::Full { limit: by.max_sessions });
        }
        self.put(record)?;
        self.added += usize::from(former.is_none());
        Ok(id)
    }

    fn replace(&mut self, record: Record, by: Bench<'_>) -> Result<Replaced, StoreError> {
        let current = self.current(record.id, by.memory);
        let Some(current) = current.filter(|found| found.expires > by.now) else {
            return Ok(Replaced::Gone);
        };
        if current.generation.checked_add(1) != Some(record.generation) {
            return Ok(Replaced::Conflict);
        }
        self.put(record)?;
        Ok(Replaced::Done)
    }

    /// Adds the removal of sessions that expired `grace` ago; how many were found.
    pub(super) fn sweep(&mut self, by: Bench<'_>, grace: Duration, limit: usize) -> usize {
        let expired = by.memory.expired(by.now, grace, limit);
        for id in &expired {
            // What the batch has just replaced may live on.
            if !self.after.contains_key(id) {
                self.remove(*id);
            }
        }
        expired.len()
    }

    fn is_full(&self, by: Bench<'_>) -> bool {
        let count = (by.memory.len() + self.added).saturating_sub(self.removed);
        u64::try_from(count).unwrap_or(u64::MAX) >= by.max_sessions
    }

    /// The record as it is after what was judged so far.
    fn current(&self, id: SessionId, memory: &Memory) -> Option<Arc<Record>> {
        match self.after.get(&id) {
            Some(after) => after.clone(),
            None => memory.get(id),
        }
    }

    fn put(&mut self, record: Record) -> Result<(), StoreError> {
        let document =
            serde_json::to_vec(&record).map_err(|e| StoreError::Unavailable(e.to_string()))?;
        self.writes.insert(record.id, Some(document));
        self.after.insert(record.id, Some(Arc::new(record)));
        Ok(())
    }

    fn remove(&mut self, id: SessionId) {
        self.removed += 1;
        self.writes.insert(id, None);
        self.after.insert(id, None);
    }
}

/// Answers; whoever has stopped waiting does not need the answer.
pub(super) fn tell<T>(ack: Ack<T>, answer: Result<T, StoreError>) {
    let _ = ack.send(answer);
}
