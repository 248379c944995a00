//! One master, two replicas, three sentinels.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use super::super::process::{PATIENCE, Proc, free_port, wait_at_most, wait_for};
use super::wire::{Connection, Value};
use super::{Server, TRIES, program};

/// The name under which the sentinels watch the master.
pub(crate) const MASTER: &str = "sessions";
/// After how many milliseconds of silence a server counts as down.
const DOWN_AFTER: u16 = 1000;

#[derive(Debug)]
struct Watcher {
    // Before `_dir`: the process must be gone before its folder is removed.
    _proc: Proc,
    addr: SocketAddr,
    _dir: TempDir,
}

impl Watcher {
    fn start(master: u16) -> Self {
        for left in (0..TRIES).rev() {
            let dir = tempfile::Builder::new().prefix("sentinel").tempdir().unwrap();
            let port = free_port();
            let file = dir.path().join("sentinel.conf");
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nlogfile \"\"\nprotected-mode no\n\
                 sentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
                 sentinel down-after-milliseconds {MASTER} {DOWN_AFTER}\n\
                 sentinel failover-timeout {MASTER} 6000\n",
                dir.path().display()
            );
            fs::write(&file, text).unwrap();
            let mut command = Command::new(program());
            command.current_dir(dir.path()).arg(&file).arg("--sentinel");
            let mut proc = Proc::start("sentinel", dir.path(), command);
            let addr = SocketAddr::from(([127, 0, 0, 1], port));
            let up = wait_at_most(PATIENCE, || {
                if proc.ended().is_some() {
                    return Some(false);
                }
                ask(addr, &["PING"]).map(|pong| pong == Value::Text("PONG".to_owned()))
            });
            if up == Some(true) {
                return Self { _proc: proc, addr, _dir: dir };
            }
            let report = proc.report();
            assert!(left > 0 && report.contains("in use"), "{report}");
        }
        unreachable!("the last try has failed the test")
    }
}

fn ask(addr: SocketAddr, words: &[&str]) -> Option<Value> {
    Connection::tcp(addr, PATIENCE).ok()?.ask(words).ok()
}

/// The whole set. Dropping it kills all of it.
#[derive(Debug)]
pub(crate) struct Sentinel {
    /// The first is the master at the start.
    servers: Vec<Server>,
    watchers: Vec<Watcher>,
}

impl Sentinel {
    /// Starts everything and waits until the sentinels know the replicas and each other.
    pub(crate) fn start() -> Self {
        let master = Server::start();
        let replicas = [Server::replica_of(&master), Server::replica_of(&master)];
        let watchers = (0..3).map(|_| Watcher::start(master.port())).collect();
        let servers = [master].into_iter().chain(replicas).collect();
        let set = Self { servers, watchers };
        set.wait_whole();
        set
    }

    /// Waits until every sentinel sees two replicas and two others.
    pub(crate) fn wait_whole(&self) {
        for watcher in &self.watchers {
            wait_for("the sentinels to find each other", || {
                let known = |field: &str| -> Option<u32> {
                    let answer = ask(watcher.addr, &["SENTINEL", "MASTER", MASTER])?;
                    let Value::List(_) = answer else { return None };
                    let texts = answer.texts();
                    let at = texts.iter().position(|text| text == field)?;
                    texts.get(at + 1)?.parse().ok()
                };
                (known("num-slaves")? == 2 && known("num-other-sentinels")? == 2).then_some(())
            });
        }
    }

    /// Addresses of the sentinels.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.watchers.iter().map(|watcher| watcher.addr).collect()
    }

    /// The port of the master as the first sentinel knows it.
    pub(crate) fn master_port(&self) -> u16 {
        let answer = ask(self.watchers[0].addr, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
        answer.expect("the sentinel does not answer").texts()[1].parse().unwrap()
    }

    /// The master as the first sentinel knows it.
    pub(crate) fn master(&self) -> &Server {
        let port = self.master_port();
        self.servers.iter().find(|server| server.port() == port).unwrap()
    }

    /// kill -9 to the master; gives its port.
    pub(crate) fn kill_master(&mut self) -> u16 {
        let port = self.master_port();
        self.servers.iter_mut().find(|server| server.port() == port).unwrap().kill();
        port
    }

    /// SIGSTOP to the master; gives its port.
    pub(crate) fn stop_master(&self) -> u16 {
        self.master().stop();
        self.master_port()
    }

    /// SIGSTOP to the server with this port.
    pub(crate) fn stop(&self, port: u16) {
        self.server(port).stop();
    }

    /// The ports of the servers that are not the master.
    pub(crate) fn replica_ports(&self) -> Vec<u16> {
        let master = self.master_port();
        self.servers.iter().map(Server::port).filter(|port| *port != master).collect()
    }

    /// SIGCONT to the server with this port.
    pub(crate) fn cont(&self, port: u16) {
        self.server(port).cont();
    }

    /// Starts the killed server with this port again, empty. The sentinels make it a replica.
    pub(crate) fn revive(&mut self, port: u16) {
        self.servers.iter_mut().find(|server| server.port() == port).unwrap().restart_empty();
    }

    pub(crate) fn server(&self, port: u16) -> &Server {
        self.servers.iter().find(|server| server.port() == port).unwrap()
    }

    /// Waits until another server than the one with port `old` is the master and takes writes.
    pub(crate) fn wait_failover(&self, old: u16) {
        wait_for("a new master", || {
            let port = self.master_port();
            let new = (port != old).then(|| self.server(port))?;
            (new.info("role") == "master").then_some(())
        });
    }

    /// Asks for a failover while everything is well.
    pub(crate) fn fail_over(&self) {
        let old = self.master_port();
        wait_for("the sentinel to agree to a failover", || {
            let answer = ask(self.watchers[0].addr, &["SENTINEL", "FAILOVER", MASTER])?;
            (answer == Value::Text("OK".to_owned())).then_some(())
        });
        self.wait_failover(old);
    }
}
