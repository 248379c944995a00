//! Child processes that cannot outlive a test, free ports, and waiting for conditions.

use std::fmt::Display;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, kill_process_group, setrlimit,
};

/// How long anything on this machine may take before the test calls it hung. Generous: CI has two
/// cores and runs a browser beside a debug build.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A port on which nobody listens, below the range from which the system takes ports for outgoing
/// connections: else a client's socket could take it before the server binds it, and a restarted
/// server could not have it back.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const LAST: u16 = 32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Several test processes may run at once; start each elsewhere.
    let spread = (std::process::id() % 220) as u16 * 100;
    for _ in FIRST..LAST {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(spread);
        let port = FIRST + step % (LAST - FIRST);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}

/// Asks `probe` until it answers, at most [`PATIENCE`] long; `what` goes into the failure.
pub(crate) fn wait_for<T>(what: impl Display, probe: impl FnMut() -> Option<T>) -> T {
    let Some(value) = wait_at_most(PATIENCE, probe) else {
        panic!("waited {PATIENCE:?} in vain for {what}")
    };
    value
}

/// Asks `probe` until it answers or `limit` has passed.
pub(crate) fn wait_at_most<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// As [`wait_for`], on a runtime whose other tasks must go on meanwhile.
pub(crate) async fn eventually<T>(what: impl Display, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether every combination and the largest numbers are wanted, which takes minutes.
pub(crate) fn is_thorough() -> bool {
    std::env::var_os("PORTCULLIS_TEST_THOROUGH").is_some()
}

/// So many of `wanted` connections as fit: each takes `each` descriptors of this process, which gets as
/// many as it may have, and two of the gateway's. Says so when that is fewer.
pub(crate) fn fitting(wanted: usize, each: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let Some(limit) = limit.maximum.and_then(|limit| usize::try_from(limit).ok()) else {
        return wanted;
    };
    // What is left is for tests that run at the same time, and for the gateway's own files.
    let fit = (limit - limit / 4) / each.max(2) - 64;
    if fit < wanted {
        println!("{fit} connections and not {wanted}: the hard limit of open files is {limit}");
    }
    wanted.min(fit)
}

/// How many established connections lead to this port of this machine.
pub(crate) fn open_to(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    let is_open = |line: &&str| {
        let mut words = line.split_whitespace().skip(2);
        words.next().is_some_and(|word| word.ends_with(&remote)) && words.next() == Some("01")
    };
    table.lines().filter(is_open).count()
}

/// Bytes that have come for this port of this machine and that nobody has read yet.
pub(crate) fn unread_at(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let unread = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (_, received) = words.get(4)?.split_once(':')?;
        (words[1].ends_with(&local) && words[3] == "01")
            .then(|| u64::from_str_radix(received, 16).unwrap())
    };
    table.lines().filter_map(unread).sum()
}

/// Notes when nothing of this process ran: what has a time limit of its own may then have missed it.
#[derive(Debug)]
pub(crate) struct Stalls {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Stalls {
    pub(crate) fn watch() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !ended.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(Duration::from_millis(5));
                longest = longest.max(begun.elapsed());
            }
            longest
        });
        Self { stop, thread }
    }

    /// The longest time that passed where 5 ms should have.
    pub(crate) fn longest(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A program in its own process group with its output in files. Dropping it kills the group.
#[derive(Debug)]
pub(crate) struct Proc {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Proc {
    /// Starts `command`; its output is appended to `<dir>/<name>.out` and `.err`.
    pub(crate) fn start(name: &str, dir: &Path, command: Command) -> Self {
        Self::launch(name, dir, command, Stdio::null(), None)
    }

    /// As [`Self::start`], to be talked to: gives the ends of its standard input and output.
    pub(crate) fn talking(
        name: &str,
        dir: &Path,
        command: Command,
    ) -> (Self, ChildStdin, ChildStdout) {
        let mut proc = Self::launch(name, dir, command, Stdio::piped(), Some(Stdio::piped()));
        let (input, output) = (proc.child.stdin.take(), proc.child.stdout.take());
        (proc, input.unwrap(), output.unwrap())
    }

    /// As [`Self::start`], with `input` on its standard input.
    pub(crate) fn fed(name: &str, dir: &Path, command: Command, input: &str) -> Self {
        let file = dir.join(format!("{name}.in"));
        fs::write(&file, input).unwrap();
        Self::launch(name, dir, command, File::open(file).unwrap().into(), None)
    }

    fn launch(
        name: &str,
        dir: &Path,
        mut command: Command,
        input: Stdio,
        output: Option<Stdio>,
    ) -> Self {
        let stdout = dir.join(format!("{name}.out"));
        let stderr = dir.join(format!("{name}.err"));
        let open = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        let output = output.unwrap_or_else(|| open(&stdout).into());
        command.stdin(input).stdout(output).stderr(open(&stderr)).process_group(0);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status if the program has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends `signal` to the program alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the program to end by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait_at_most(limit, || self.ended())
    }

    /// SIGKILL to the program and all that it started, and waits for its end.
    pub(crate) fn kill(&mut self) {
        // The group may be gone already; both are what we want.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }

    pub(crate) fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Both outputs, for a failure message.
    pub(crate) fn report(&self) -> String {
        format!(
            "--- {0} stdout\n{1}\n--- {0} stderr\n{2}\n---",
            self.name,
            tail(&self.stdout()),
            tail(&self.stderr())
        )
    }

    /// Waits until `addr` accepts connections; fails at once when the program ends before.
    pub(crate) fn wait_listening(&mut self, addr: SocketAddr) {
        let up = wait_at_most(PATIENCE, || {
            if let Some(status) = self.ended() {
                panic!("{} ended with {status}\n{}", self.name, self.report());
            }
            TcpStream::connect(addr).ok()
        });
        assert!(up.is_some(), "{} does not listen on {addr}\n{}", self.name, self.report());
    }

    /// Waits for `limit` at most; the program is killed when it is not done by then.
    pub(crate) fn finish(mut self, limit: Duration) -> Finished {
        let status = self.wait(limit);
        self.kill();
        Finished { status, stdout: self.stdout(), stderr: self.stderr(), name: self.name.clone() }
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}

/// A program that has ended, or was killed for taking too long (`status` = `None`).
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) name: String,
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The exit code; fails the test when the program took too long or was killed.
    pub(crate) fn code(&self) -> i32 {
        let code = self.status.and_then(|status| status.code());
        code.unwrap_or_else(|| panic!("{} did not end by itself\n{}", self.name, self.text()))
    }

    /// Both outputs.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// Fails the test unless the program ended with 0; gives its standard output.
    pub(crate) fn success(self) -> String {
        assert!(
            self.status.is_some_and(|status| status.success()),
            "{}: {}\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.name,
            self.status.map_or_else(|| "killed, took too long".to_owned(), |s| s.to_string()),
            tail(&self.stdout),
            tail(&self.stderr),
        );
        self.stdout
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The last lines: a failure report must stay readable.
fn tail(text: &str) -> String {
    const LINES: usize = 80;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
