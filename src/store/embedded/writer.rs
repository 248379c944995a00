//! The one thread that changes sessions: it has changes judged (see `batch`), writes them in one
//! commit, makes them visible, and only then answers.
//!
//! A failed commit changes nothing in memory. Since redb cannot say whether it is in the file, its
//! sessions are *owed*: once the file can be written again, each is written as memory has it, before
//! any new change. Uses (touches) are owed the same way, in good times too.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::batch::{Answer, BATCH, Batch, Bench, Op, tell};
use super::disk::{Change, CountChange, Disk, DiskError};
use super::memory::{Memory, lock};
use crate::clock::{Clock, UnixMs};
use crate::session::{CounterTable, Record, SessionId, StoreError};

/// How often the writer looks after owed and expired sessions, and after a failed disk.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// How long uses may be owed while other requests keep the writer busy.
const FLUSH: Duration = Duration::from_secs(1);
/// Owed sessions written along with one commit.
const OWED_STEP: usize = 1024;
/// Expired sessions removed along with one commit.
const SWEEP_STEP: usize = 256;
/// How often forgotten counts of failed logins are removed.
const SWEEP_COUNTS: Duration = Duration::from_secs(60);
/// How long an expired session is kept: its last use may be noted, but not yet written.
const SWEEP_GRACE: Duration = Duration::from_secs(60);

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
    counts: Arc<CounterTable>,
    health: Arc<Health>,
    clock: Clock,
    max_sessions: u64,
    /// Sessions whose state on the disk is not known to be that of memory.
    owed: HashSet<SessionId>,
    /// When owed sessions were last written.
    flushed: UnixMs,
    /// When a failed disk was last tried.
    tried: UnixMs,
    /// When it may be tried again: a try that took long is not repeated at once.
    not_before: Instant,
    /// When forgotten counts were last removed.
    swept: UnixMs,
}

impl Writer {
    pub(super) fn new(
        disk: Disk,
        memory: Arc<Memory>,
        counts: Arc<CounterTable>,
        health: Arc<Health>,
        clock: Clock,
        max_sessions: u64,
    ) -> Self {
        let now = clock.now();
        let (flushed, tried, swept) = (now, now, now);
        let owed = HashSet::new();
        let not_before = Instant::now();
        Self {
            disk,
            memory,
            counts,
            health,
            clock,
            max_sessions,
            owed,
            flushed,
            tried,
            not_before,
            swept,
        }
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
        // Once more: what is in nobody's file is gone when this returns.
        if self.health.state().is_ok() && self.disk.is_left() {
            self.leave();
        }
        if self.health.state().is_err() && !self.heal() {
            tracing::error!("stopped before the disk could be written: its last changes are lost");
            return;
        }
        while !self.owed.is_empty() || self.counts.has_changes() {
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
        let left = self.health.state().is_ok() && self.disk.is_left();
        if left {
            self.leave();
        }
        let due =
            left || (idle || now.since(self.tried) >= TICK) && Instant::now() >= self.not_before;
        if self.health.state().is_err() && !(due && self.heal()) {
            asked.into_iter().for_each(|op| self.refuse(op));
            return false;
        }
        let mut batch = Batch::default();
        let by = Bench { memory: &self.memory, max_sessions: self.max_sessions, now };
        for op in asked {
            match op {
                Op::Touched(ids) => self.owed.extend(ids),
                op => batch.judge(op, by),
            }
        }
        let mut swept = 0;
        if idle || !batch.writes.is_empty() {
            swept = batch.sweep(by, SWEEP_GRACE, SWEEP_STEP);
        }
        if idle && now.since(self.swept) >= SWEEP_COUNTS {
            self.swept = now;
            self.counts.sweep();
        }
        let owes = !self.owed.is_empty() || self.counts.has_changes();
        let flush = owes && (idle || now.since(self.flushed) >= FLUSH);
        if flush || !batch.writes.is_empty() || !batch.answers.is_empty() {
            self.write(batch, now);
        }
        self.health.state().is_ok() && (swept == SWEEP_STEP || (flush && !self.owed.is_empty()))
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
        changes.extend(owed.iter().filter_map(|id| change(&self.memory, *id)));
        // All of them, and as they are now: whoever waits for one finds it among them.
        let counts = self.counts.changes();
        if !(changes.is_empty() && counts.is_empty())
            && let Err(error) = self.commit(&changes, &counts)
        {
            self.fail(&error, now);
            self.counts.again(counts.into_iter().map(|(key, _)| key));
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
            Answer::Counted(ack) => tell(ack, Ok(())),
            Answer::Created(id, ack) => {
                // Whoever asked has gone, and nobody else has the token: no such session, then.
                if ack.send(Ok(())).is_err() {
                    self.memory.remove(id);
                    self.owed.insert(id);
                }
            }
            Answer::Buried(ack, record) | Answer::Ended(_, ack, record) => {
                tell(ack, Ok(record.map(Arc::unwrap_or_clone)));
            }
            Answer::Replaced(ack, done) => tell(ack, Ok(done)),
        }
    }

    /// Takes back what was judged: it could not be written.
    fn revoke(&self, answer: Answer, why: &str) {
        let error = StoreError::Unavailable(why.to_owned());
        match answer {
            Answer::Counted(ack) | Answer::Created(_, ack) => tell(ack, Err(error)),
            Answer::Buried(ack, _) => tell(ack, Err(error)),
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
            Op::Counted(ack) | Op::Create(_, ack) => tell(ack, Err(error)),
            Op::Bury(_, ack) => tell(ack, Err(error)),
            Op::End(id, ack) => {
                self.memory.unhide(id);
                tell(ack, Err(error));
            }
            Op::Replace(_, ack) => tell(ack, Err(error)),
            Op::Touched(ids) => self.owed.extend(ids),
        }
    }

    fn commit(&mut self, changes: &[Change], counts: &[CountChange]) -> Result<(), DiskError> {
        self.disk.commit(changes, counts)?;
        self.health.commits.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn fail(&mut self, error: &DiskError, now: UnixMs) {
        self.tried = now;
        told(&error.to_string());
        *lock(&self.health.failure) = Some(error.to_string());
    }

    /// The file is no longer where it was: what it would be given would be gone with the next start.
    fn leave(&mut self) {
        let why = "its file was removed or replaced";
        tracing::warn!("session store: {why}: a new one is written with all sessions");
        *lock(&self.health.failure) = Some(why.to_owned());
    }

    /// Tries to open the file again and to bring it up to memory; whether that went well.
    fn heal(&mut self) -> bool {
        self.tried = self.clock.now();
        let begun = Instant::now();
        let failure = self.try_to_heal().err().map(|error| error.to_string());
        self.not_before = Instant::now() + 10 * begun.elapsed();
        let former = std::mem::replace(&mut *lock(&self.health.failure), failure.clone());
        match failure {
            None => tracing::info!("session store can write again"),
            // Told once.
            Some(error) if former.as_ref() != Some(&error) => told(&error),
            Some(_) => return false,
        }
        self.health.state().is_ok()
    }

    fn try_to_heal(&mut self) -> Result<(), DiskError> {
        if self.disk.is_left() {
            return self.write_all();
        }
        self.disk.heal()?;
        while !self.owed.is_empty() {
            let step: Vec<_> = self.owed.iter().take(OWED_STEP).copied().collect();
            let changes: Vec<_> = step.iter().filter_map(|id| change(&self.memory, *id)).collect();
            self.commit(&changes, &[])?;
            step.iter().for_each(|id| {
                self.owed.remove(id);
            });
        }
        Ok(())
    }

    /// Puts all of memory into a new file, in place of whatever is there.
    fn write_all(&mut self) -> Result<(), DiskError> {
        self.counts.all_again();
        let counts = self.counts.changes();
        let memory = Arc::clone(&self.memory);
        let sessions = memory.ids().into_iter().filter_map(|id| change(&memory, id));
        let written = self.disk.replace(sessions, &counts);
        if written.is_err() {
            self.counts.again(counts.into_iter().map(|(key, _)| key));
        } else {
            self.owed.clear();
        }
        written
    }
}

/// The change that brings the disk up to memory.
fn change(memory: &Memory, id: SessionId) -> Option<Change> {
    let Some(record) = memory.get(id) else { return Some((id, None)) };
    match serde_json::to_vec(&*record) {
        Ok(document) => Some((id, Some(document))),
        // Cannot happen: it was a document before it came into memory.
        Err(error) => {
            tracing::error!(session = %id, %error, "session cannot be written");
            None
        }
    }
}

/// Tells why nothing can be written.
fn told(error: &str) {
    tracing::error!(
        %error,
        "session store cannot write: logins and logouts are refused until it can"
    );
}
