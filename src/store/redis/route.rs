//! Brings a command to the server that has its key, and follows where a Cluster sends it.
//!
//! Knows keys and answers, no sessions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd, from_redis_value};
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::common::Common;
use super::error::{Failure, is_wrong_type};
use super::find::{Finder, Sentinels};
use super::keys::slot;
use super::link::{Lane, Link, Role, Up};
use super::settings::{Place, Settings};
use super::{pipeline, script};

/// How often a command is sent on, or sent again, before it is given up.
const TRIES: usize = 8;
/// How long to wait when a Cluster asks for patience.
const PAUSE: Duration = Duration::from_millis(15);
/// How long a change waits for replicas.
const REPLICAS: Duration = Duration::from_millis(100);
/// Keys that one step of a scan looks at.
const SCANNED: u32 = 1000;

/// The links, and which one has which key.
#[derive(Debug)]
pub(super) struct Router {
    common: Arc<Common>,
    way: Way,
    /// Replicas that must have a change before it is answered.
    replicas: u32,
}

#[derive(Debug)]
enum Way {
    One(Arc<Link>, Finder),
    Cluster(Arc<Cluster>),
}

/// An answer, and the connections by which it came.
pub(super) type Answer = (Value, Arc<Up>);

impl Router {
    pub(super) fn new(
        common: &Arc<Common>,
        settings: &Settings,
        sentinels: Option<Arc<Sentinels>>,
    ) -> Self {
        let link = |role| Link::new(Arc::clone(common), role);
        let way = match (&settings.place, sentinels) {
            (Place::Single(server), _) => Way::One(link(Role::Any), Finder::Fixed(server.clone())),
            (_, Some(sentinels)) => Way::One(link(Role::Master), Finder::Sentinels(sentinels)),
            (Place::Cluster(seeds) | Place::Sentinels { servers: seeds, .. }, None) => {
                Way::Cluster(Cluster::new(Arc::clone(common), seeds.clone()))
            }
        };
        Self { common: Arc::clone(common), way, replicas: settings.replicas }
    }

    /// Keeps the links until the future is dropped.
    pub(super) async fn run(&self) {
        match &self.way {
            Way::One(link, finder) => Arc::clone(link).run(finder.clone()).await,
            Way::Cluster(cluster) => Arc::clone(cluster).run().await,
        }
    }

    /// Whether every key can be asked for.
    pub(super) async fn ready(&self, deadline: Instant) -> Result<(), Failure> {
        match &self.way {
            Way::One(link, _) => link.wait(deadline).await.map(drop),
            Way::Cluster(cluster) => cluster.ready(deadline).await,
        }
    }

    /// All links.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        match &self.way {
            Way::One(link, _) => vec![Arc::clone(link)],
            Way::Cluster(cluster) => cluster.links(),
        }
    }

    async fn link(&self, key: &str, deadline: Instant) -> Result<Arc<Link>, Failure> {
        match &self.way {
            Way::One(link, _) => Ok(Arc::clone(link)),
            Way::Cluster(cluster) => cluster.link(slot(key.as_bytes()), deadline).await,
        }
    }

    /// Carries out one command, which `build` makes for the connections that it is to take.
    pub(super) async fn ask(
        &self,
        key: &str,
        lane: Lane,
        deadline: Instant,
        build: impl Fn(&Up) -> Cmd,
    ) -> Result<Answer, Failure> {
        // What only reads may be done twice; so may a touch.
        let again = lane == Lane::Read;
        self.send(key, lane, deadline, again, 0, &build).await
    }

    /// As [`Router::ask`] by the connection for changes, of a text: a value of another type is deleted and
    /// counts as none.
    pub(super) async fn ask_text(
        &self,
        key: &str,
        deadline: Instant,
        build: impl Fn(&Up) -> Cmd,
    ) -> Result<Answer, Failure> {
        self.send_text(key, deadline, false, 0, build).await
    }

    /// As [`Router::ask_text`], answered when replicas have it, too.
    pub(super) async fn change(
        &self,
        key: &str,
        again: bool,
        deadline: Instant,
        build: impl Fn(&Up) -> Cmd,
    ) -> Result<Answer, Failure> {
        self.send_text(key, deadline, again, self.replicas, build).await
    }

    async fn send_text(
        &self,
        key: &str,
        deadline: Instant,
        again: bool,
        replicas: u32,
        build: impl Fn(&Up) -> Cmd,
    ) -> Result<Answer, Failure> {
        match self.send(key, Lane::Write, deadline, again, replicas, &build).await {
            Err(Failure::WrongType(_)) => {}
            outcome => return outcome,
        }
        self.common.mistyped(key, "it is deleted");
        let clear = |_: &Up| script::clear(key);
        self.send(key, Lane::Write, deadline, true, replicas, &clear).await?;
        self.send(key, Lane::Write, deadline, again, replicas, &build).await
    }

    async fn send(
        &self,
        key: &str,
        lane: Lane,
        deadline: Instant,
        again: bool,
        replicas: u32,
        build: &impl Fn(&Up) -> Cmd,
    ) -> Result<Answer, Failure> {
        let mut link = self.link(key, deadline).await?;
        let mut asking = false;
        let mut failure = Failure::Nonsense;
        for _ in 0..TRIES {
            let up = link.wait(deadline).await?;
            let replicas = match &self.way {
                Way::One(..) => replicas,
                Way::Cluster(_) => replicas.min(link.replicas.load(Ordering::Relaxed)),
            };
            let command = build(&up);
            failure = match carry(&link, &up, lane, asking, replicas, command, deadline).await {
                Ok(value) => return Ok((value, up)),
                Err(failure) => failure,
            };
            asking = false;
            let Failure::Redis(error) = &failure else { return Err(failure) };
            match (&self.way, step(error)) {
                (Way::Cluster(cluster), Step::Moved) => {
                    link = cluster.moved(error, &link).ok_or(Failure::Nonsense)?;
                }
                (Way::Cluster(cluster), Step::Ask) => {
                    link = cluster.named(error, &link).ok_or(Failure::Nonsense)?;
                    asking = true;
                }
                (Way::Cluster(_), Step::Wait) => {
                    sleep(PAUSE).await;
                    link = self.link(key, deadline).await?;
                }
                (_, Step::Lost) if again => {
                    // The link notices the loss on its own; it must not be asked before it has.
                    sleep(PAUSE / 5).await;
                    link = self.link(key, deadline).await?;
                }
                _ if is_wrong_type(error) => return Err(Failure::WrongType(key.to_owned())),
                _ => return Err(failure),
            }
        }
        Err(failure)
    }

    /// Carries out a command for each key, those for one server together. An error of one is the error
    /// of all, but a value of another type counts as none.
    pub(super) async fn ask_each(
        &self,
        keys: &[String],
        lane: Lane,
        deadline: Instant,
        build: impl Fn(&Up, usize) -> Option<Cmd>,
    ) -> Result<Vec<Answer>, Failure> {
        let mut groups: Vec<(Arc<Link>, Vec<usize>)> = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let link = self.link(key, deadline).await?;
            match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &link)) {
                Some((_, group)) => group.push(index),
                None => groups.push((link, vec![index])),
            }
        }
        let mut answers: Vec<(usize, Answer)> = Vec::with_capacity(keys.len());
        for (link, group) in groups {
            let up = link.wait(deadline).await?;
            let commands = group.iter().filter_map(|index| build(&up, *index)).collect();
            let values = link.ask_all(&up, lane, &pipeline(commands), deadline).await?;
            for (index, value) in group.into_iter().zip(values) {
                let key = keys.get(index).ok_or(Failure::Nonsense)?;
                let outcome = match value.extract_error() {
                    Ok(value) => Ok((value, Arc::clone(&up))),
                    Err(error) if is_wrong_type(&error) => Err(Failure::WrongType(key.clone())),
                    Err(error) if step(&error) != Step::Stop => {
                        let one = |up: &Up| build(up, index).unwrap_or_default();
                        Box::pin(self.ask(key, lane, deadline, one)).await
                    }
                    Err(error) => Err(error.into()),
                };
                let answer = match outcome {
                    Err(Failure::WrongType(key)) => {
                        self.common.skipped(&key);
                        (Value::Nil, Arc::clone(&up))
                    }
                    outcome => outcome?,
                };
                answers.push((index, answer));
            }
        }
        answers.sort_unstable_by_key(|(index, _)| *index);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    /// Walks over all keys that match.
    pub(super) fn scan(&self, pattern: String) -> Scan {
        Scan { pattern, links: self.links(), cursor: None }
    }
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Moved,
    Ask,
    Wait,
    Lost,
    Stop,
}

fn step(error: &RedisError) -> Step {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved) => Step::Moved,
        ErrorKind::Server(ServerErrorKind::Ask) => Step::Ask,
        ErrorKind::Server(ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown) => Step::Wait,
        _ if error.is_io_error() || error.is_unrecoverable_error() => Step::Lost,
        _ => Step::Stop,
    }
}

/// Sends a command with what belongs to it.
async fn carry(
    link: &Link,
    up: &Up,
    lane: Lane,
    asking: bool,
    replicas: u32,
    command: Cmd,
    deadline: Instant,
) -> Result<Value, Failure> {
    if !asking && replicas == 0 {
        return link.ask(up, lane, &command, deadline).await;
    }
    let mut commands = Vec::with_capacity(3);
    if asking {
        commands.push(cmd("ASKING"));
    }
    commands.push(command);
    if replicas > 0 {
        let mut wait = cmd("WAIT");
        wait.arg(replicas).arg(u64::try_from(REPLICAS.as_millis()).unwrap_or(100));
        commands.push(wait);
    }
    let answers = link.ask_all(up, lane, &pipeline(commands), deadline).await?;
    let mut answers = answers.into_iter().skip(usize::from(asking));
    let value = answers.next().ok_or(Failure::Nonsense)?.extract_error()?;
    if replicas > 0 {
        let waited = answers.next().ok_or(Failure::Nonsense)?.extract_error()?;
        let have: u32 = from_redis_value(waited).map_err(|_| Failure::Nonsense)?;
        if have < replicas {
            return Err(Failure::Unconfirmed);
        }
    }
    Ok(value)
}

/// A walk over the keys of all servers.
#[derive(Debug)]
pub(super) struct Scan {
    pattern: String,
    links: Vec<Arc<Link>>,
    /// Where the last link in the list stands.
    cursor: Option<u64>,
}

impl Scan {
    /// The next keys; `None` at the end.
    pub(super) async fn next(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Vec<Vec<u8>>>, Failure> {
        let Some(link) = self.links.last() else { return Ok(None) };
        let deadline = Instant::now() + timeout;
        let up = link.wait(deadline).await?;
        let mut step = cmd("SCAN");
        step.arg(self.cursor.unwrap_or(0)).arg("MATCH").arg(&self.pattern);
        step.arg("COUNT").arg(SCANNED);
        let answer = link.ask(&up, Lane::Write, &step, deadline).await?;
        let (cursor, keys): (u64, Vec<Vec<u8>>) =
            from_redis_value(answer).map_err(|_| Failure::Nonsense)?;
        if cursor == 0 {
            self.links.pop();
            self.cursor = None;
        } else {
            self.cursor = Some(cursor);
        }
        Ok(Some(keys))
    }
}
