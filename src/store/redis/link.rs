//! The link to one master: two connections, the lease, the breaker, and coming back after a loss.
//!
//! By `read` everything is read, and on the same connection the server tells of every change to a
//! session (client tracking, broadcast): an answer there proves that all changes before it were told.
//! `write` carries changes, which may wait for replicas and must not hold up proofs. Both live and die
//! together. Knows no sessions.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, PushInfo, PushKind, RedisError, Value, cmd, from_redis_value};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use super::backoff::Backoff;
use super::connect::{Dialer, Driver, Server};
use super::error::Failure;
use super::find::Finder;
use super::keys::Keys;
use super::stats::Stats;
use crate::clock::{Clock, UnixMs, millis};
use crate::session::{Lease, Watcher};

/// How long what was read is trusted after a proof was asked for. Less than the second that is
/// promised: workers look at their open streams ten times a second.
const LEASE: Duration = Duration::from_millis(850);
/// How often proof is asked for.
const PROBE: Duration = Duration::from_millis(200);
/// A server that has not answered for so long is not asked by requests any more.
const DOUBT: Duration = Duration::from_millis(250);
/// A server that has not answered for so long is given up.
const HUNG: Duration = Duration::from_secs(1);
/// Time to connect, shake hands and sign in.
const CONNECT: Duration = Duration::from_millis(500);
/// How long requests wait for the first connection of all.
pub(super) const START: Duration = Duration::from_secs(1);
/// A link that held for so long was a good one.
const STEADY: Duration = Duration::from_secs(1);
/// Commands under way at once; with one more, they are refused.
const TOGETHER: usize = 4096;

/// What all links of a store share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) dialer: Dialer,
    pub(super) keys: Keys,
    pub(super) clock: Clock,
    /// Limit on an operation.
    pub(super) timeout: Duration,
    /// For how long after the last proof what is cached is served.
    pub(super) stale: Duration,
    pub(super) watcher: OnceLock<Arc<dyn Watcher>>,
    pub(super) stats: Stats,
    /// A link was lost, or a server said that it is not the one to ask.
    pub(super) astray: Notify,
    /// A link has come back.
    pub(super) back: Notify,
}

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
    read: MultiplexedConnection,
    write: MultiplexedConnection,
    pub(super) server: Server,
    pub(super) lease: Lease,
    /// By how much the server's clock is ahead of ours, in ms.
    pub(super) ahead: i64,
    /// It is slow to answer a probe: the breaker.
    suspect: AtomicBool,
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
    common: Arc<Common>,
    role: Role,
    up: watch::Sender<Option<Arc<Up>>>,
    /// How long requests wait for a connection, in ms since `started`.
    patience: AtomicU64,
    started: Instant,
    permits: Semaphore,
    /// The key that is probed: in a Cluster one that only this node answers for.
    probe: ArcSwap<String>,
    retired: AtomicBool,
    /// Whether the server's settings were looked at.
    checked: AtomicBool,
    /// Replicas that the node is known to have.
    pub(super) replicas: AtomicU32,
    /// When the last probe that was answered was sent.
    proven: AtomicU64,
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

    /// The node serves this slot: only who serves it answers the probe.
    pub(super) fn probe_slot(&self, slot: u16) {
        let known = self.probe.load();
        if super::keys::slot(known.as_bytes()) != slot
            && let Some(key) = self.common.keys.in_slot(slot)
        {
            self.probe.store(Arc::new(key));
        }
    }

    /// The server, while the link works.
    pub(super) fn server(&self) -> Option<Server> {
        self.up.borrow().as_ref().map(|up| up.server.clone())
    }

    /// How long ago the last proof was asked for, in ms; `None` without one.
    pub(super) fn age(&self) -> Option<u64> {
        let at = self.proven.load(Ordering::Relaxed);
        (at > 0).then(|| millis(self.common.clock.now().since(UnixMs(at))))
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
                self.common.stats.failed(&failure);
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
        let connected = timeout(CONNECT, self.connect(&server)).await;
        connected.unwrap_or(Err(Failure::Late)).map_err(|failure| (Some(server), failure))
    }

    async fn connect(&self, server: &Server) -> Result<(Arc<Up>, Drivers), Failure> {
        let common = Arc::clone(&self.common);
        let push = Box::new(move |info| common.told(&info));
        let dialer = &self.common.dialer;
        let (mut read, driver) = dialer.dial(server, Some(push)).await?;
        let reader = Task::spawn(driver);
        let (write, driver) = dialer.dial(server, None).await?;
        let writer = Task::spawn(driver);
        let mut tracking = cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX");
        tracking.arg(self.common.keys.sessions()).arg("NOLOOP");
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

    /// By how much the server's clock is ahead of ours. Fixed for the life of a connection, so that
    /// what is read is what was written.
    async fn measure(&self, read: &mut MultiplexedConnection) -> Result<i64, Failure> {
        let asked = self.common.clock.now();
        let (seconds, micros): (u64, u64) = cmd("TIME").query_async(read).await?;
        let answered = self.common.clock.now();
        let ours = asked.0 / 2 + answered.0 / 2;
        let theirs = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        i64::try_from(i128::from(theirs) - i128::from(ours)).map_err(|_| Failure::Nonsense)
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

    async fn keep_proving(&self, up: &Up) -> String {
        let mut ticks = interval(PROBE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let probe = self.prove(up);
            tokio::pin!(probe);
            let outcome = match timeout(DOUBT, &mut probe).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    up.suspect.store(true, Ordering::Relaxed);
                    match timeout(HUNG.saturating_sub(DOUBT), probe).await {
                        Ok(outcome) => outcome,
                        Err(_) => return format!("it has not answered for {HUNG:?}"),
                    }
                }
            };
            match outcome {
                Ok(()) => up.suspect.store(false, Ordering::Relaxed),
                Err(failure) => {
                    self.common.stats.failed(&failure);
                    return failure.to_string();
                }
            }
        }
    }

    /// Asks for an answer, and renews the lease from when it was asked for.
    async fn prove(&self, up: &Up) -> Result<(), Failure> {
        let asked = self.common.clock.now();
        let mut read = up.read.clone();
        match self.role {
            Role::Any | Role::Node => {
                // Not PING, which is refused with all writes when the disk is full.
                let mut probe = cmd("EXISTS");
                probe.arg(self.probe.load().as_str());
                match probe.query_async::<u32>(&mut read).await {
                    Ok(_) => {}
                    // The slot has moved: without a proof the lease ends, until another slot is known.
                    Err(error) if error.redirect_node().is_some() => {
                        self.common.astray.notify_one();
                        return Ok(());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Role::Master => {
                let role: Vec<Value> = match cmd("ROLE").query_async(&mut read).await {
                    Ok(role) => role,
                    // Not allowed to know: writes will tell.
                    Err(error) if Failure::from(error.clone()).is_denied() => Vec::new(),
                    Err(error) => return Err(error.into()),
                };
                let role = role.into_iter().next().map(from_redis_value::<String>).transpose();
                if role.is_ok_and(|role| role.is_some_and(|role| role != "master")) {
                    return Err(Failure::Down("it is not the master any more"));
                }
            }
        }
        up.lease.renew(asked.plus(LEASE).plus(self.common.stale));
        self.proven.store(asked.0, Ordering::Relaxed);
        Ok(())
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

impl Common {
    /// Takes what the server told, before the answers that follow it.
    fn told(&self, info: &PushInfo) {
        if info.kind != PushKind::Invalidate {
            return;
        }
        let Some(watcher) = self.watcher.get() else { return };
        match info.data.first() {
            Some(Value::Array(keys)) => {
                for key in keys {
                    if let Value::BulkString(key) = key
                        && let Some(id) = self.keys.session_of(key)
                    {
                        self.stats.told();
                        watcher.changed(id);
                    }
                }
            }
            // Everything was emptied.
            _ => watcher.flushed(),
        }
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
