//! The link to one master: two connections, the lease, the breaker, and coming back after a loss.
//!
//! By `read` everything is read, and on the same connection the server tells of every change to a
//! session (client tracking, broadcast): an answer there proves that all changes before it were told.
//! `write` carries changes, which may wait for replicas and must not hold up proofs. Both live and die
//! together. Knows no sessions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisError, Value, cmd};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::backoff::Backoff;
use super::common::Common;
use super::connect::{Driver, Server};
use super::error::Failure;
use super::find::Finder;
use crate::clock::{UnixMs, millis};
use crate::session::{Lease, StoreLink};

/// Time to find the server, and to connect, shake hands and sign in.
const CONNECT: Duration = Duration::from_secs(2);
/// How long requests wait for the first connection of all.
pub(super) const START: Duration = Duration::from_secs(1);
/// A link that held for so long was a good one.
const STEADY: Duration = Duration::from_secs(1);
/// Commands under way at once; with one more, they are refused.
const TOGETHER: usize = 4096;

/// What a server must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Whatever it is: there is no other.
    Any,
    /// A master, or the sentinels are asked for another.
    Master,
    /// A node of a Cluster that serves slots.
    Node,
}

/// A link that works.
pub(super) struct Up {
    pub(super) read: MultiplexedConnection,
    pub(super) write: MultiplexedConnection,
    pub(super) server: Server,
    pub(super) lease: Lease,
    /// By how much the server's clock is ahead of ours, in ms.
    pub(super) ahead: i64,
    /// It is slow to answer a probe: the breaker.
    pub(super) suspect: AtomicBool,
    /// Ends the connections.
    kick: Notify,
}

impl fmt::Debug for Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Up").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Which connection carries a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Read,
    Write,
}

/// The link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) common: Arc<Common>,
    pub(super) role: Role,
    up: watch::Sender<Option<Arc<Up>>>,
    /// How long requests wait for a connection, in ms since `started`.
    patience: AtomicU64,
    started: Instant,
    permits: Semaphore,
    /// The key that is probed: in a Cluster one that only this node answers for.
    pub(super) probe: ArcSwap<String>,
    retired: AtomicBool,
    /// Whether the server's settings were looked at.
    checked: AtomicBool,
    /// Replicas that the node is known to have.
    pub(super) replicas: AtomicU32,
    /// When the last probe that was answered was sent.
    pub(super) proven: AtomicU64,
    /// The server that was last tried.
    place: ArcSwapOption<Server>,
}

impl Link {
    pub(super) fn new(common: Arc<Common>, role: Role) -> Arc<Self> {
        let probe = ArcSwap::from_pointee(common.keys.sessions().to_owned());
        Arc::new(Self {
            common,
            role,
            up: watch::Sender::new(None),
            patience: AtomicU64::new(millis(START)),
            started: Instant::now(),
            permits: Semaphore::new(TOGETHER),
            probe,
            retired: AtomicBool::new(false),
            checked: AtomicBool::new(false),
            replicas: AtomicU32::new(0),
            proven: AtomicU64::new(0),
            place: ArcSwapOption::empty(),
        })
    }

    /// The connections, if they work.
    pub(super) fn now(&self) -> Result<Arc<Up>, Failure> {
        match &*self.up.borrow() {
            Some(up) if up.suspect.load(Ordering::Relaxed) => {
                Err(Failure::Down("Redis does not answer"))
            }
            Some(up) => Ok(Arc::clone(up)),
            None => Err(Failure::Down("there is no connection to Redis")),
        }
    }

    /// The connections. After a loss there is a moment in which it is worth waiting for them.
    pub(super) async fn wait(&self, deadline: Instant) -> Result<Arc<Up>, Failure> {
        let known = self.now();
        if known.is_ok() || self.up.borrow().is_some() {
            return known;
        }
        let patience = Duration::from_millis(self.patience.load(Ordering::Relaxed));
        let until = (self.started + patience).min(deadline);
        if until > Instant::now() {
            let mut seen = self.up.subscribe();
            let _ = timeout_at(until, seen.wait_for(Option::is_some)).await;
        }
        self.now()
    }

    /// Carries out one command.
    pub(super) async fn ask(
        &self,
        up: &Up,
        lane: Lane,
        command: &Cmd,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let _permit = self.permits.try_acquire().map_err(|_| Failure::Busy)?;
        let mut connection = up.lane(lane);
        let answer = connection.send_packed_command(command);
        let answer = timeout_at(deadline, answer).await.map_err(|_| Failure::Late)?;
        self.judge(up, answer.and_then(Value::extract_error))
    }

    /// Carries out several commands, one behind the other; an error of one is its answer.
    pub(super) async fn ask_all(
        &self,
        up: &Up,
        lane: Lane,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Value>, Failure> {
        let _permit = self.permits.try_acquire().map_err(|_| Failure::Busy)?;
        let mut connection = up.lane(lane);
        let answer = connection.req_packed_commands(commands, 0, commands.len());
        let answer = timeout_at(deadline, answer).await.map_err(|_| Failure::Late)?;
        self.judge(up, answer)
    }

    /// Notes what an error says of the server.
    fn judge<T>(&self, up: &Up, answer: Result<T, RedisError>) -> Result<T, Failure> {
        answer.map_err(|error| {
            let failure = Failure::from(error);
            if self.role == Role::Master && failure.is_read_only() {
                up.kick.notify_one();
            }
            failure
        })
    }

    /// Ends the connections: another server is to be asked.
    pub(super) fn kick(&self) {
        if let Some(up) = &*self.up.borrow() {
            up.kick.notify_one();
        }
    }

    /// Ends the link for good.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.kick();
    }

    /// The node serves this slot: only who serves it answers the probe. One that is probed already
    /// stays for as long as the node `serves` it.
    pub(super) fn probe_slot(&self, slot: u16, serves: impl Fn(u16) -> bool) {
        let known = super::keys::slot(self.probe.load().as_bytes());
        if !serves(known)
            && let Some(key) = self.common.keys.in_slot(slot)
        {
            self.probe.store(Arc::new(key));
        }
    }

    /// The server, while the link works.
    pub(super) fn server(&self) -> Option<Server> {
        self.up.borrow().as_ref().map(|up| up.server.clone())
    }

    /// How the link is: for metrics.
    pub(super) fn state(&self) -> StoreLink {
        let at = self.proven.load(Ordering::Relaxed);
        let age = || millis(self.common.clock.now().since(UnixMs(at)));
        StoreLink {
            server: self.place.load().as_ref().map(ToString::to_string).unwrap_or_default(),
            ready: self.now().is_ok(),
            lease_age: (at > 0).then(age),
        }
    }

    /// Connects, and again whenever the connection is lost, until the future is dropped. `finder` tells
    /// where the server is.
    pub(super) async fn run(self: Arc<Self>, finder: Finder) {
        let mut backoff = Backoff::new();
        let mut told = String::new();
        let mut former: Option<Lease> = None;
        while !self.retired.load(Ordering::Acquire) {
            let failure = match self.establish(&finder).await {
                Ok((up, drivers)) => {
                    // Nothing that was read by another connection counts any more.
                    if let Some(former) = former.replace(up.lease.clone()) {
                        former.lapse();
                    }
                    told.clear();
                    tracing::info!(server = %up.server, "connected to the session store");
                    let begun = Instant::now();
                    let why = self.serve(&up, drivers, &finder).await;
                    if begun.elapsed() > STEADY {
                        backoff.reset();
                    }
                    tracing::warn!(server = %up.server, "the session store is lost: {why}");
                    None
                }
                Err((server, failure)) => Some((server, failure)),
            };
            if let Some((server, failure)) = failure {
                self.common.metrics.failed(failure.kind());
                let place = server.map(|server| server.to_string()).unwrap_or_default();
                let text = format!("cannot reach the session store {place}: {failure}");
                if text != told {
                    tracing::warn!("{text} (it is tried again and again)");
                    told = text;
                }
            }
            self.common.astray.notify_one();
            sleep(backoff.next()).await;
        }
        if let Some(former) = former {
            former.lapse();
        }
    }

    async fn establish(
        &self,
        finder: &Finder,
    ) -> Result<(Arc<Up>, Drivers), (Option<Server>, Failure)> {
        let found = timeout(CONNECT, finder.find()).await.unwrap_or(Err(Failure::Late));
        let server = found.map_err(|failure| (None, failure))?;
        self.place.store(Some(Arc::new(server.clone())));
        let connected = timeout(CONNECT, self.connect(&server)).await;
        connected.unwrap_or(Err(Failure::Late)).map_err(|failure| (Some(server), failure))
    }

    async fn connect(&self, server: &Server) -> Result<(Arc<Up>, Drivers), Failure> {
        let common = Arc::clone(&self.common);
        let push = Box::new(move |info| common.told(&info));
        let dialer = &self.common.dialer;
        let both = tokio::try_join!(dialer.dial(server, Some(push)), dialer.dial(server, None));
        let ((mut read, reader), (write, writer)) = both?;
        let (reader, writer) = (Task::spawn(reader), Task::spawn(writer));
        // Without NOLOOP: of two changes of a key at once only the last one's author is kept, so with it a
        // use that we write would hide from us what another node has changed just before.
        let mut tracking = cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX");
        tracking.arg(self.common.keys.sessions());
        tracking.query_async::<()>(&mut read).await?;
        let ahead = self.measure(&mut read).await?;
        if !self.checked.swap(true, Ordering::Relaxed) {
            tokio::spawn(super::checkup::warn_of_eviction(write.clone(), server.clone()));
        }
        let up = Up {
            read,
            write,
            server: server.clone(),
            lease: Lease::ended(),
            ahead,
            suspect: AtomicBool::new(false),
            kick: Notify::new(),
        };
        self.prove(&up).await?;
        Ok((Arc::new(up), Drivers { reader, writer }))
    }

    /// Watches over a working link until it is lost; tells why.
    async fn serve(&self, up: &Arc<Up>, mut drivers: Drivers, finder: &Finder) -> String {
        self.up.send_replace(Some(Arc::clone(up)));
        self.common.back.notify_one();
        if let Some(watcher) = self.common.watcher.get() {
            watcher.reconnected();
        }
        let why = tokio::select! {
            () = drivers.reader.ended() => "the connection has ended".to_owned(),
            () = drivers.writer.ended() => "the connection for changes has ended".to_owned(),
            () = up.kick.notified() => "it is not the one to ask".to_owned(),
            () = finder.elsewhere(&up.server) => "the sentinels name another master".to_owned(),
            why = self.keep_proving(up) => why,
        };
        // Unless the operator has chosen to go on without a proof.
        if self.common.stale.is_zero() {
            up.lease.lapse();
        }
        self.up.send_replace(None);
        let patience = self.started.elapsed() + self.common.timeout;
        self.patience.store(millis(patience), Ordering::Relaxed);
        why
    }
}

impl Up {
    fn lane(&self, lane: Lane) -> MultiplexedConnection {
        match lane {
            Lane::Read => self.read.clone(),
            Lane::Write => self.write.clone(),
        }
    }

    /// The time of the server's clock.
    pub(super) fn theirs(&self, ours: UnixMs) -> UnixMs {
        super::value::moved(ours, self.ahead)
    }
}

/// What runs the two connections.
#[derive(Debug)]
struct Drivers {
    reader: Task,
    writer: Task,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Task {
    fn spawn(driver: Driver) -> Self {
        Self(tokio::spawn(driver))
    }

    async fn ended(&mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
