//! The masters of a Redis Cluster: who serves which slot, and a link to each.
//!
//! What was read by a link counts only under that link's lease; a node that serves no slot any more loses
//! its link, and with it the lease.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::{RedisError, Value, cmd, from_redis_value};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::common::Common;
use super::connect::Server;
use super::error::Failure;
use super::find::Finder;
use super::keys::SLOTS;
use super::link::{Lane, Link, Role, START};

/// How often the slots are asked for when nothing calls for it.
const REFRESH: Duration = Duration::from_secs(5);
/// The least time between two times of asking.
const APART: Duration = Duration::from_millis(50);
/// Limit on asking one node.
const ASK: Duration = Duration::from_millis(250);
/// Links at most.
const NODES: usize = 512;

/// The Cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    common: Arc<Common>,
    seeds: Vec<Server>,
    table: ArcSwap<Table>,
    nodes: Mutex<HashMap<Server, Node>>,
    /// The runtime of the links.
    runtime: OnceLock<Handle>,
    started: Instant,
    known: watch::Sender<bool>,
}

/// The link of each slot.
type Table = Vec<Option<Arc<Link>>>;

#[derive(Debug)]
struct Node {
    link: Arc<Link>,
    /// Whether it has been seen to serve slots.
    serves: bool,
}

/// A master and what it serves.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: Server,
    replicas: u32,
}

impl Cluster {
    pub(super) fn new(common: Arc<Common>, seeds: Vec<Server>) -> Arc<Self> {
        Arc::new(Self {
            common,
            seeds,
            table: ArcSwap::from_pointee(vec![None; SLOTS]),
            nodes: Mutex::default(),
            runtime: OnceLock::new(),
            started: Instant::now(),
            known: watch::Sender::new(false),
        })
    }

    /// Keeps the table and the links until the future is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let _ = self.runtime.set(Handle::current());
        let mut told = false;
        loop {
            match self.ask().await {
                Some(ranges) => {
                    told = false;
                    self.adopt(&ranges);
                }
                None if !told => {
                    told = true;
                    tracing::warn!("no node of the Cluster tells who serves which slot");
                }
                None => {}
            }
            sleep(APART).await;
            let pause = if told { APART * 4 } else { REFRESH };
            let _ = timeout(pause, self.common.astray.notified()).await;
        }
    }

    /// The link of a slot.
    pub(super) async fn link(&self, slot: u16, deadline: Instant) -> Result<Arc<Link>, Failure> {
        let find = || self.table.load().get(usize::from(slot)).cloned().flatten();
        if let Some(link) = find() {
            return Ok(link);
        }
        if !*self.known.borrow() {
            let until = deadline.min(self.started + START);
            let mut known = self.known.subscribe();
            let _ = timeout_at(until, known.wait_for(|known| *known)).await;
        }
        find().ok_or(Failure::Down("nobody is known to serve this part of the Cluster"))
    }

    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.lock().values().filter(|node| node.serves).map(|node| Arc::clone(&node.link)).collect()
    }

    pub(super) async fn ready(&self, deadline: Instant) -> Result<(), Failure> {
        self.link(0, deadline).await?;
        if self.table.load().iter().any(Option::is_none) {
            return Err(Failure::Down("some slots of the Cluster are served by nobody"));
        }
        for link in self.links() {
            link.wait(deadline).await?;
        }
        Ok(())
    }

    /// The link to the node that a `MOVED` or `ASK` from `from` names.
    pub(super) fn named(&self, error: &RedisError, from: &Link) -> Option<Arc<Link>> {
        let (address, _) = error.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let server = match (host, from.server()) {
            ("", Some(Server::Tcp(host, _))) => Server::Tcp(host, port),
            _ => Server::Tcp(host.to_owned(), port),
        };
        self.link_to(server, false)
    }

    /// As [`Cluster::named`]; the slot stays there.
    pub(super) fn moved(&self, error: &RedisError, from: &Link) -> Option<Arc<Link>> {
        self.common.astray.notify_one();
        let link = self.named(error, from)?;
        let (_, slot) = error.redirect_node()?;
        let known = self.table.load().get(usize::from(slot)).cloned().flatten();
        if known.is_some_and(|known| Arc::ptr_eq(&known, &link)) {
            return Some(link);
        }
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            if let Some(entry) = table.get_mut(usize::from(slot)) {
                *entry = Some(Arc::clone(&link));
            }
            table
        });
        Some(link)
    }

    /// The link to a node, made when there is none.
    fn link_to(&self, server: Server, serves: bool) -> Option<Arc<Link>> {
        let mut nodes = self.lock();
        if let Some(node) = nodes.get_mut(&server) {
            node.serves |= serves;
            return Some(Arc::clone(&node.link));
        }
        if nodes.len() >= NODES {
            return None;
        }
        let link = Link::new(Arc::clone(&self.common), Role::Node);
        let run = Arc::clone(&link).run(Finder::Fixed(server.clone()));
        self.runtime.get()?.spawn(run);
        nodes.insert(server, Node { link: Arc::clone(&link), serves });
        Some(link)
    }

    /// Takes over who serves what.
    fn adopt(&self, ranges: &[Range]) {
        let mut table = vec![None; SLOTS];
        for range in ranges {
            let Some(link) = self.link_to(range.master.clone(), true) else { continue };
            link.replicas.store(range.replicas, Ordering::Relaxed);
            let own = || ranges.iter().filter(|other| other.master == range.master);
            let longest = own().max_by_key(|own| own.last - own.first);
            if longest.is_some_and(|longest| longest.first == range.first) {
                let serves = |slot| own().any(|own| (own.first..=own.last).contains(&slot));
                // A reshard takes slots from an end.
                link.probe_slot(range.first + (range.last - range.first) / 2, serves);
            }
            let slots = usize::from(range.first)..=usize::from(range.last);
            for entry in table.get_mut(slots).into_iter().flatten() {
                *entry = Some(Arc::clone(&link));
            }
        }
        self.table.store(Arc::new(table));
        self.known.send_replace(true);
        self.lock().retain(|server, node| {
            let stays = !node.serves || ranges.iter().any(|range| range.master == *server);
            if !stays {
                tracing::info!(%server, "a node of the Cluster serves nothing any more");
                node.link.retire();
            }
            stays
        });
    }

    /// What the first node says that can be asked.
    async fn ask(&self) -> Option<Vec<Range>> {
        let mut question = cmd("CLUSTER");
        question.arg("SLOTS");
        for link in self.links() {
            let Ok(up) = link.now() else { continue };
            let deadline = Instant::now() + ASK;
            let answer = link.ask(&up, Lane::Read, &question, deadline).await;
            if let Some(found) = answer.ok().and_then(|answer| read(answer, &up.server)) {
                return Some(found);
            }
        }
        let known: Vec<_> = self.lock().keys().cloned().collect();
        for server in self.seeds.iter().chain(&known) {
            let asked = async {
                let (mut connection, driver) =
                    self.common.dialer.dial(server, None).await.map_err(Failure::from)?;
                tokio::select! {
                    answer = question.query_async(&mut connection) => answer.map_err(Failure::from),
                    () = driver => Err(Failure::Late),
                }
            };
            match timeout(ASK * 2, asked).await.unwrap_or(Err(Failure::Late)) {
                Ok(answer) => {
                    if let Some(found) = read(answer, server) {
                        return Some(found);
                    }
                }
                Err(failure) => {
                    self.common.metrics.failed(failure.kind());
                    tracing::debug!(%failure, %server, "a node of the Cluster does not tell");
                }
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Server, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to `CLUSTER SLOTS` that `asked` gave; `None` when nobody serves anything.
fn read(answer: Value, asked: &Server) -> Option<Vec<Range>> {
    let rows: Vec<Vec<Value>> = from_redis_value(answer).ok()?;
    let ranges: Vec<_> = rows.into_iter().filter_map(|row| range(row, asked)).collect();
    (!ranges.is_empty()).then_some(ranges)
}

fn range(row: Vec<Value>, asked: &Server) -> Option<Range> {
    let mut row = row.into_iter();
    let first = from_redis_value(row.next()?).ok()?;
    let last = from_redis_value(row.next()?).ok()?;
    let master: Vec<Value> = from_redis_value(row.next()?).ok()?;
    let mut master = master.into_iter();
    let host: Option<String> = from_redis_value(master.next()?).ok()?;
    let port = from_redis_value(master.next()?).ok()?;
    let host = match (host.as_deref(), asked) {
        // It does not know its own name.
        (None | Some("" | "?"), Server::Tcp(host, _)) => host.clone(),
        (Some(host), _) => host.to_owned(),
        (None, Server::Unix(_)) => return None,
    };
    let replicas = u32::try_from(row.count()).ok()?;
    let sound = first <= last && usize::from(last) < SLOTS;
    sound.then_some(Range { first, last, master: Server::Tcp(host, port), replicas })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn ranges_are_read_and_odd_ones_left_out() {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let row = |first, last, nodes: Vec<Value>| {
            let ends = [Value::Int(first), Value::Int(last)];
            Value::Array(ends.into_iter().chain(nodes).collect())
        };
        let answer = Value::Array(vec![
            row(0, 99, vec![node(text("10.0.0.1"), 6379), node(text("10.0.0.9"), 6379)]),
            row(100, 200, vec![node(text(""), 6380)]),
            row(300, 200, vec![node(text("a"), 1)]),
            row(0, 16_384, vec![node(text("a"), 1)]),
            row(-1, 3, vec![node(text("a"), 1)]),
            row(0, 3, vec![]),
        ]);
        let asked = Server::Tcp("seed".to_owned(), 7000);
        let range = |first, last, host: &str, port, replicas| Range {
            first,
            last,
            master: Server::Tcp(host.to_owned(), port),
            replicas,
        };
        let expected = [range(0, 99, "10.0.0.1", 6379, 1), range(100, 200, "seed", 6380, 0)];
        assert_eq!(read(answer, &asked).unwrap(), expected);
        assert_eq!(read(Value::Array(Vec::new()), &asked), None);
        assert_eq!(read(Value::Nil, &asked), None);
    }
}
