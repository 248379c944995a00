//! The one thread that changes sessions: it judges each change, writes a batch in one commit, makes
//! the batch visible, and only then answers.
//!
//! A failed commit changes nothing in memory. Since redb cannot say whether it is in the file, its
//! sessions are *owed*: once the file can be written again, each is written as memory has it, before
//! any new change. Uses (touches) are owed the same way, in good times too.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot::Sender;

use super::disk::{Change, Disk, DiskError};
use super::memory::{Memory, lock};
use crate::clock::{Clock, UnixMs};
use crate::session::{Record, Replaced, SessionId, StoreError};

/// How often the writer looks after owed and expired sessions, and after a failed disk.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// How long uses may be owed while other requests keep the writer busy.
const FLUSH: Duration = Duration::from_secs(1);
/// Changes in one commit: bounds what one answer waits for.
const BATCH: usize = 1024;
/// Owed sessions written along with one commit.
const OWED_STEP: usize = 1024;
/// Expired sessions removed along with one commit.
const SWEEP_STEP: usize = 256;
/// How long an expired session is kept: its last use may be noted, but not yet written.
const SWEEP_GRACE: Duration = Duration::from_secs(60);

type Ack<T> = Sender<Result<T, StoreError>>;

/// A change that somebody asks for.
#[derive(Debug)]
pub(super) enum Op {
    Create(Box<Record>, Ack<()>),
    End(SessionId, Ack<Option<Record>>),
    Replace(Box<Record>, Ack<Replaced>),
    Touched(Vec<SessionId>),
}

/// How the disk is, and how much was asked of it.
#[derive(Debug, Default)]
pub(super) struct Health {
    failure: Mutex<Option<String>>,
    commits: AtomicU64,
}

impl Health {
    /// Whether changes can be written.
    pub(super) fn state(&self) -> Result<(), StoreError> {
        match &*lock(&self.failure) {
            Some(why) => Err(StoreError::Unavailable(why.clone())),
            None => Ok(()),
        }
    }

    /// Commits so far.
    #[cfg(test)]
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }
}

/// The thread's state.
#[derive(Debug)]
pub(super) struct Writer {
    disk: Disk,
    memory: Arc<Memory>,
    health: Arc<Health>,
    clock: Clock,
    max_sessions: u64,
    /// Sessions whose state on the disk is not known to be that of memory.
    owed: HashSet<SessionId>,
    /// When owed sessions were last written.
    flushed: UnixMs,
    /// When a failed disk was last tried.
    tried: UnixMs,
}

/// Changes that are judged but not written.
#[derive(Debug, Default)]
struct Batch {
    /// The state of each session after the batch.
    after: HashMap<SessionId, Option<Arc<Record>>>,
    writes: HashMap<SessionId, Option<Vec<u8>>>,
    answers: Vec<Answer>,
    added: usize,
    removed: usize,
    /// Whether expired sessions were looked for because the store is full.
    made_room: bool,
}

/// What to tell whom when the batch is written.
#[derive(Debug)]
enum Answer {
    Created(SessionId, Ack<()>),
    Ended(SessionId, Ack<Option<Record>>, Option<Arc<Record>>),
    Replaced(Ack<Replaced>, Replaced),
}

impl Writer {
    pub(super) fn new(
        disk: Disk,
        memory: Arc<Memory>,
        health: Arc<Health>,
        clock: Clock,
        max_sessions: u64,
    ) -> Self {
        let (flushed, tried) = (clock.now(), clock.now());
        let owed = HashSet::new();
        Self { disk, memory, health, clock, max_sessions, owed, flushed, tried }
    }

    /// Works until the other end of `ops` is dropped and everything owed is written.
    pub(super) fn run(mut self, ops: &Receiver<Op>, tick: Duration) {
        let mut more = false;
        loop {
            let wait = if more { Duration::ZERO } else { tick };
            let first = match ops.recv_timeout(wait) {
                Ok(op) => Some(op),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let idle = first.is_none();
            let asked = first.into_iter().chain(ops.try_iter()).take(BATCH).collect();
            more = self.turn(asked, idle);
        }
        while !self.owed.is_empty() {
            self.turn(Vec::new(), true);
            if self.health.state().is_err() {
                break;
            }
        }
        if !self.owed.is_empty() {
            tracing::error!(sessions = self.owed.len(), "stopped before the disk could be written");
        }
    }

    /// One round: heal if need be, judge, write, answer. Whether more work is at hand. `idle`: nobody
    /// asks for anything, so it is time for upkeep.
    fn turn(&mut self, asked: Vec<Op>, idle: bool) -> bool {
        let now = self.clock.now();
        if self.health.state().is_err() && !((idle || now.since(self.tried) >= TICK) && self.heal())
        {
            asked.into_iter().for_each(|op| self.refuse(op));
            return false;
        }
        let mut batch = Batch::default();
        for op in asked {
            self.judge(op, &mut batch, now);
        }
        let mut swept = 0;
        if idle || !batch.writes.is_empty() {
            swept = self.sweep(&mut batch, now, SWEEP_GRACE, SWEEP_STEP);
        }
        let flush = !self.owed.is_empty() && (idle || now.since(self.flushed) >= FLUSH);
        if flush || !batch.writes.is_empty() || !batch.answers.is_empty() {
            self.write(batch, now);
        }
        self.health.state().is_ok() && (swept == SWEEP_STEP || (flush && !self.owed.is_empty()))
    }

    fn judge(&mut self, op: Op, batch: &mut Batch, now: UnixMs) {
        match op {
            Op::Touched(ids) => self.owed.extend(ids),
            // Whoever does not wait any more was told, or will find, that nothing has changed.
            Op::Create(_, ack) if ack.is_closed() => {}
            Op::Replace(_, ack) if ack.is_closed() => {}
            Op::Create(record, ack) => match self.judge_create(*record, batch, now) {
                Ok(id) => batch.answers.push(Answer::Created(id, ack)),
                Err(error) => tell(ack, Err(error)),
            },
            Op::Replace(record, ack) => match self.judge_replace(*record, batch, now) {
                Ok(done) => batch.answers.push(Answer::Replaced(ack, done)),
                Err(error) => tell(ack, Err(error)),
            },
            Op::End(id, ack) => {
                let ended = self.current(id, batch);
                if ended.is_some() {
                    batch.remove(id);
                }
                batch.answers.push(Answer::Ended(id, ack, ended));
            }
        }
    }

    fn judge_create(
        &self,
        record: Record,
        batch: &mut Batch,
        now: UnixMs,
    ) -> Result<SessionId, StoreError> {
        let id = record.id;
        if self.current(id, batch).is_some() {
            return Err(StoreError::Unavailable("the session id is in use".to_owned()));
        }
        if self.is_full(batch) && !batch.made_room {
            // Once is enough: there are not more creations in a batch.
            batch.made_room = true;
            self.sweep(batch, now, Duration::ZERO, BATCH);
        }
        if self.is_full(batch) {
            return Err(StoreError::Full { limit: self.max_sessions });
        }
        batch.put(record)?;
        batch.added += 1;
        Ok(id)
    }

    fn judge_replace(
        &self,
        record: Record,
        batch: &mut Batch,
        now: UnixMs,
    ) -> Result<Replaced, StoreError> {
        let Some(current) = self.current(record.id, batch).filter(|found| found.expires > now)
        else {
            return Ok(Replaced::Gone);
        };
        if current.generation.checked_add(1) != Some(record.generation) {
            return Ok(Replaced::Conflict);
        }
        batch.put(record)?;
        Ok(Replaced::Done)
    }

    fn is_full(&self, batch: &Batch) -> bool {
        let count = (self.memory.len() + batch.added).saturating_sub(batch.removed);
        u64::try_from(count).unwrap_or(u64::MAX) >= self.max_sessions
    }

    /// The record as it is after what was judged so far.
    fn current(&self, id: SessionId, batch: &Batch) -> Option<Arc<Record>> {
        match batch.after.get(&id) {
            Some(after) => after.clone(),
            None => self.memory.get(id),
        }
    }

    /// Adds the removal of expired sessions to the batch; how many were found.
    fn sweep(&self, batch: &mut Batch, now: UnixMs, grace: Duration, limit: usize) -> usize {
        let expired = self.memory.expired(now, grace, limit);
        for id in &expired {
            // What the batch has just replaced may live on.
            if !batch.after.contains_key(id) {
                batch.remove(*id);
            }
        }
        expired.len()
    }

    fn write(&mut self, batch: Batch, now: UnixMs) {
        let Batch { after, writes, answers, .. } = batch;
        let mut changes: Vec<_> = writes.into_iter().collect();
        let owed: Vec<_> = self
            .owed
            .iter()
            .filter(|id| !after.contains_key(id))
            .take(OWED_STEP)
            .copied()
            .collect();
        changes.extend(owed.iter().filter_map(|id| self.as_in_memory(*id)));
        if !changes.is_empty()
            && let Err(error) = self.commit(&changes)
        {
            self.fail(&error, now);
            self.owed.extend(changes.iter().map(|(id, _)| *id));
            let why = error.to_string();
            answers.into_iter().for_each(|answer| self.revoke(answer, &why));
            return;
        }
        for id in changes.iter().map(|(id, _)| id).chain(&owed) {
            self.owed.remove(id);
        }
        self.flushed = now;
        for (id, record) in after {
            self.show(id, record);
        }
        answers.into_iter().for_each(|answer| self.answer(answer));
    }

    /// Makes what was just written visible.
    fn show(&mut self, id: SessionId, record: Option<Arc<Record>>) {
        let seen = self.memory.get(id).map(|former| former.seen);
        match record {
            Some(record) => {
                if seen.is_some_and(|seen| seen > record.seen) {
                    self.owed.insert(id);
                }
                self.memory.put(Arc::unwrap_or_clone(record));
            }
            None => self.memory.remove(id),
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Created(id, ack) => {
                // Whoever asked has gone, and nobody else has the token: no such session, then.
                if ack.send(Ok(())).is_err() {
                    self.memory.remove(id);
                    self.owed.insert(id);
                }
            }
            Answer::Ended(_, ack, record) => tell(ack, Ok(record.map(Arc::unwrap_or_clone))),
            Answer::Replaced(ack, done) => tell(ack, Ok(done)),
        }
    }

    /// Takes back what was judged: it could not be written.
    fn revoke(&self, answer: Answer, why: &str) {
        let error = StoreError::Unavailable(why.to_owned());
        match answer {
            Answer::Created(_, ack) => tell(ack, Err(error)),
            Answer::Ended(id, ack, _) => {
                self.memory.unhide(id);
                tell(ack, Err(error));
            }
            Answer::Replaced(ack, _) => tell(ack, Err(error)),
        }
    }

    /// Answers without judging: the disk has failed.
    fn refuse(&mut self, op: Op) {
        let error = self.health.state().err();
        let error = error.unwrap_or_else(|| StoreError::Unavailable("it has failed".to_owned()));
        match op {
            Op::Create(_, ack) => tell(ack, Err(error)),
            Op::End(id, ack) => {
                self.memory.unhide(id);
                tell(ack, Err(error));
            }
            Op::Replace(_, ack) => tell(ack, Err(error)),
            Op::Touched(ids) => self.owed.extend(ids),
        }
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), DiskError> {
        self.disk.commit(changes)?;
        self.health.commits.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn fail(&mut self, error: &DiskError, now: UnixMs) {
        self.tried = now;
        tracing::error!(
            %error,
            "session store cannot write: logins and logouts are refused until it can"
        );
        *lock(&self.health.failure) = Some(error.to_string());
    }

    /// Tries to open the file again and to bring it up to memory; whether that went well.
    fn heal(&mut self) -> bool {
        self.tried = self.clock.now();
        if let Err(error) = self.disk.heal() {
            *lock(&self.health.failure) = Some(error.to_string());
            return false;
        }
        while !self.owed.is_empty() {
            let step: Vec<_> = self.owed.iter().take(OWED_STEP).copied().collect();
            let changes: Vec<_> = step.iter().filter_map(|id| self.as_in_memory(*id)).collect();
            if let Err(error) = self.commit(&changes) {
                *lock(&self.health.failure) = Some(error.to_string());
                return false;
            }
            step.iter().for_each(|id| {
                self.owed.remove(id);
            });
        }
        tracing::info!("session store can write again");
        *lock(&self.health.failure) = None;
        true
    }

    /// The change that brings the disk up to memory.
    fn as_in_memory(&self, id: SessionId) -> Option<Change> {
        let Some(record) = self.memory.get(id) else { return Some((id, None)) };
        match serde_json::to_vec(&*record) {
            Ok(document) => Some((id, Some(document))),
            // Cannot happen: it was a document before it came into memory.
            Err(error) => {
                tracing::error!(session = %id, %error, "session cannot be written");
                None
            }
        }
    }
}

impl Batch {
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
fn tell<T>(ack: Ack<T>, answer: Result<T, StoreError>) {
    let _ = ack.send(answer);
}
