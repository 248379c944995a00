//! Lines handed to a thread that writes them.
//!
//! Handing over never waits for a disk or a reader: what cannot be taken or written is dropped and
//! counted, and the gateway goes on.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::clock::{Clock, UnixMs};
use crate::threads;

/// Buffers that may wait to be written; as many again may be on their way. Small pieces share a
/// buffer, so this bounds the memory: 8 MiB, unless single lines are longer than a buffer.
const QUEUE: usize = 256;

/// The size of a buffer.
pub(super) const BUFFER: usize = 64 << 10;

/// A buffer that a long line has made larger than this is not used again.
const LARGEST: usize = 64 << 10;

/// Empty buffers that are kept for the next lines.
const SPARES: usize = 32;

/// How often the same trouble is reported.
const REPORT: Duration = Duration::from_secs(60);

/// How long and how often to wait for a reader that shares a non-blocking pipe with us.
const RETRY: (Duration, u32) = (Duration::from_millis(20), 50);

/// Takes whole lines and never blocks; cheap to clone. When the last clone is dropped, what was
/// taken is still written.
#[derive(Clone)]
pub struct LineWriter(Arc<Handle>);

impl LineWriter {
    /// Appends to the file at `path`, which is made with mode 0640 when it is missing. `name` is
    /// shown in reports about the log itself.
    ///
    /// # Errors
    /// When the file cannot be opened, or no thread can be started.
    pub fn file(name: &'static str, path: &Path, clock: Clock) -> io::Result<Self> {
        let out = Box::new(append(path)?);
        Self::start(name, Sink { out, path: Some(path.to_owned()), torn: false }, clock)
    }

    /// Writes to `out`, which may block.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn stream(
        name: &'static str,
        out: impl Write + Send + 'static,
        clock: Clock,
    ) -> io::Result<Self> {
        Self::start(name, Sink { out: Box::new(out), path: None, torn: false }, clock)
    }

    fn start(name: &'static str, sink: Sink, clock: Clock) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let worker =
            Worker { name, sink, clock, shared: Arc::clone(&shared), reported: UnixMs(0), lost: 0 };
        threads::start(format!("log-{name}"), move || worker.run())?;
        Ok(Self(Arc::new(Handle { shared })))
    }

    /// Takes whole lines by copying them.
    pub fn append(&self, lines: &[u8]) {
        let shared = &self.0.shared;
        let mut state = shared.lock();
        if !state.join_last(lines) {
            let Some(mut buffer) = state.empty_buffer() else {
                drop(state);
                return shared.count_dropped(lines);
            };
            buffer.extend_from_slice(lines);
            state.queue.push(buffer);
        }
        shared.wake(state);
    }

    /// Takes the whole lines in `lines` and leaves an empty buffer in their place.
    pub fn hand_over(&self, lines: &mut Vec<u8>) {
        if lines.is_empty() {
            return;
        }
        let shared = &self.0.shared;
        let mut state = shared.lock();
        if !state.join_last(lines) {
            let Some(buffer) = state.empty_buffer() else {
                drop(state);
                shared.count_dropped(lines);
                return lines.clear();
            };
            state.queue.push(mem::replace(lines, buffer));
        }
        shared.wake(state);
        lines.clear();
    }

    /// Opens the file anew before the next line is written: for rotation. Nothing happens to a
    /// stream. When the path cannot be opened, the old file stays in use and the log says so.
    pub fn reopen(&self) {
        let mut state = self.0.shared.lock();
        state.reopen = true;
        self.0.shared.wake(state);
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything taken so far is written or dropped; false when `timeout` came first.
    /// Blocks: not for a worker.
    pub fn drain(&self, timeout: Duration) -> bool {
        let shared = &self.0.shared;
        let (state, result) = shared
            .idle
            .wait_timeout_while(shared.lock(), timeout, |state| state.busy || state.has_work())
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        !result.timed_out()
    }
}

/// Each call must hand over whole lines.
impl Write for LineWriter {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.append(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for LineWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineWriter").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.wake(state);
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    idle: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    queue: Vec<Vec<u8>>,
    spares: Vec<Vec<u8>>,
    reopen: bool,
    closed: bool,
    busy: bool,
}

impl State {
    fn has_work(&self) -> bool {
        self.reopen || !self.queue.is_empty()
    }

    /// Copies `lines` behind the last ones when they fit into the same buffer.
    fn join_last(&mut self, lines: &[u8]) -> bool {
        match self.queue.last_mut() {
            Some(last) if last.capacity() - last.len() >= lines.len() => {
                last.extend_from_slice(lines);
                true
            }
            _ => false,
        }
    }

    /// A buffer for one more entry of the queue; `None` when the queue is full.
    fn empty_buffer(&mut self) -> Option<Vec<u8>> {
        if self.queue.len() >= QUEUE {
            return None;
        }
        Some(self.spares.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER)))
    }
}

impl Shared {
    /// Held for a push or a swap only, never while writing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        let asleep = !state.busy;
        drop(state);
        // A busy thread looks again before it sleeps: no system call for it.
        if asleep {
            self.work.notify_one();
        }
    }

    fn count_dropped(&self, lines: &[u8]) {
        self.dropped.fetch_add(count_lines(lines), Ordering::Relaxed);
    }

    /// Gives back the buffers of `batch` and fills it with the next ones; `None` at the end,
    /// otherwise whether to reopen first.
    fn next(&self, batch: &mut Vec<Vec<u8>>) -> Option<bool> {
        let mut state = self.lock();
        for mut buffer in batch.drain(..) {
            if state.spares.len() < SPARES && (BUFFER..=LARGEST).contains(&buffer.capacity()) {
                buffer.clear();
                state.spares.push(buffer);
            }
        }
        state.busy = false;
        if !state.has_work() {
            self.idle.notify_all();
        }
        let mut state = self
            .work
            .wait_while(state, |state| !state.has_work() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if !state.has_work() {
            return None;
        }
        state.busy = true;
        mem::swap(&mut state.queue, batch);
        Some(mem::take(&mut state.reopen))
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u64::MAX)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// The thread's side.
struct Worker {
    name: &'static str,
    sink: Sink,
    clock: Clock,
    shared: Arc<Shared>,
    /// When trouble was last reported; zero when all is well.
    reported: UnixMs,
    /// Lines lost since then.
    lost: u64,
}

impl Worker {
    fn run(mut self) {
        let mut batch = Vec::new();
        while let Some(reopen) = self.shared.next(&mut batch) {
            if reopen && let Err(error) = self.sink.reopen() {
                let log = self.name;
                tracing::error!(log, %error, "the log file cannot be reopened; the old one stays");
            }
            for lines in &batch {
                match self.sink.write_lines(lines) {
                    Ok(()) => self.recovered(),
                    Err((error, lost)) => self.failed(&error, lost),
                }
            }
        }
    }

    fn failed(&mut self, error: &io::Error, lost: u64) {
        self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
        self.lost = self.lost.saturating_add(lost);
        let now = self.clock.now();
        if self.reported == UnixMs(0) || now.since(self.reported) >= REPORT {
            self.reported = now;
            let (log, lost) = (self.name, self.lost);
            // This may come back to this very log, and be lost: hence not at every failure.
            tracing::error!(log, lost, %error, "log lines cannot be written and are dropped");
        }
    }

    fn recovered(&mut self) {
        if self.reported != UnixMs(0) {
            self.reported = UnixMs(0);
            let (log, lost) = (self.name, mem::take(&mut self.lost));
            tracing::warn!(log, lost, "the log is written again");
        }
    }
}

/// Where lines end up.
struct Sink {
    out: Box<dyn Write + Send>,
    path: Option<PathBuf>,
    /// The last byte written was not the end of a line.
    torn: bool,
}

impl Sink {
    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.out = Box::new(append(path)?);
        }
        Ok(())
    }

    /// Writes `lines`, or says how many of them are lost.
    fn write_lines(&mut self, lines: &[u8]) -> Result<(), (io::Error, u64)> {
        if self.torn {
            // After half a line the next one must not be glued to it.
            self.write_all(b"\n").map_err(|(error, _)| (error, count_lines(lines)))?;
        }
        self.write_all(lines).map_err(|(error, rest)| (error, count_lines(rest)))
    }

    fn write_all<'a>(&mut self, bytes: &'a [u8]) -> Result<(), (io::Error, &'a [u8])> {
        let (pause, mut patience) = RETRY;
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err((ErrorKind::WriteZero.into(), rest)),
                Ok(count) => {
                    let (written, left) = rest.split_at_checked(count).unwrap_or((rest, &[]));
                    self.torn = written.last() != Some(&b'\n');
                    rest = left;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && patience > 0 => {
                    patience -= 1;
                    thread::sleep(pause);
                }
                Err(error) => return Err((error, rest)),
            }
        }
        self.out.flush().map_err(|error| (error, rest))
    }
}

#[cfg(test)]
mod tests;
