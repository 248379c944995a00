//! Threads, started with words for a person where the machine has none left.

use std::fmt;
use std::io::{self, ErrorKind};
use std::thread::{Builder, JoinHandle};

use tokio::sync::{Semaphore, oneshot};

/// What to do when no thread can be started.
pub const REMEDY: &str = "raise the limit of processes and threads (`ulimit -u`, TasksMax=, a container's limit of \
                          pids) or of memory (`ulimit -v`, MemoryMax=)";

/// Works that block at the same time; more wait, whoever asks for them.
const ASIDE: usize = 16;
static PLACES: Semaphore = Semaphore::const_new(ASIDE);

/// Whether a system call failed for want of threads or memory.
pub fn is_want(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::OutOfMemory)
}

/// A thread that could not be started. As an [`io::Error`] it says what to do, too.
#[derive(Debug)]
pub struct NoThread {
    name: String,
    source: io::Error,
}

impl fmt::Display for NoThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the thread \"{}\" cannot be started: {}", self.name, self.source)
    }
}

impl std::error::Error for NoThread {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<NoThread> for io::Error {
    fn from(error: NoThread) -> Self {
        Self::new(error.source.kind(), format!("{error}\n    fix: {REMEDY}"))
    }
}

/// Starts a thread.
///
/// # Errors
/// When the machine has none left.
pub fn start(
    name: impl Into<String>,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, NoThread> {
    let name = name.into();
    let started = Builder::new().name(name.clone()).spawn(work);
    started.map_err(|source| NoThread { name, source })
}

/// Does work that blocks on a thread of its own. Tokio's own panics where there is none.
///
/// # Errors
/// When there is no thread to do it, or it panicked.
pub async fn aside<T: Send + 'static>(
    name: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let place = PLACES.acquire().await.map_err(io::Error::other)?;
    let (done, result) = oneshot::channel();
    start(name, move || {
        let _place = place;
        // Whoever does not wait any more does not need it.
        let _ = done.send(work());
    })?;
    result.await.map_err(|_| io::Error::other("it panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No machine has the room for two of them.
    const HUGE: usize = 1 << 60;

    #[test]
    fn a_thread_that_cannot_be_started_is_named_with_a_remedy() {
        let source = Builder::new().stack_size(HUGE).spawn(|| {}).unwrap_err();
        let error = io::Error::from(NoThread { name: "worker-3".to_owned(), source });
        assert!(is_want(error.kind()), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("the thread \"worker-3\" cannot be started: "), "{text}");
        assert!(text.contains("\n    fix: raise the limit of processes and threads"), "{text}");
    }

    #[tokio::test]
    async fn work_is_done_aside_and_its_panic_is_an_error() {
        assert_eq!(aside("sum", || 1 + 1).await.unwrap(), 2);
        let panicked = aside("panic", || panic!("on purpose")).await;
        assert_eq!(panicked.unwrap_err().to_string(), "it panicked");
    }
}
