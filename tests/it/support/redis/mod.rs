//! Real Redis or Valkey servers on free ports, each in a folder of its own that goes away with it,
//! and what can befall them: killed, stopped, full, read-only, emptied, failed over, resharded.
//!
//! Of the crate's own only the standard library, `rustix`, `rcgen` and `tempfile` are used: the unit
//! tests of the store include this folder by its path, next to `process.rs`.

pub(crate) mod cluster;
pub(crate) mod sentinel;
pub(crate) mod tls;
pub(crate) mod wire;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use self::tls::Certificates;
use self::wire::{Connection, Value};
use super::process::{PATIENCE, Proc, free_port, wait_at_most, wait_for};

pub(crate) use self::cluster::Cluster;
pub(crate) use self::sentinel::Sentinel;

/// How often a server is started on another port because somebody took the one that was free.
const TRIES: usize = 5;
/// The name and the password of the user that [`Builder::user`] makes.
pub(crate) const USER: &str = "portcullis";
pub(crate) const PASSWORD: &str = "correct horse/battery:staple@%";
/// The password of `default` where [`Builder::user`] was used: nobody else gets in without one.
const ADMIN: &str = "of the tests only";

/// The server program: what `PORTCULLIS_TEST_REDIS` names, the one on the `PATH` under either name,
/// or the one that `tests/run.sh` put into the target folder.
pub(crate) fn program() -> PathBuf {
    if let Some(named) = env::var_os("PORTCULLIS_TEST_REDIS") {
        return named.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let names = ["redis-server", "valkey-server"];
    let on_path = env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    let this = env::current_exe().unwrap();
    let installed = this.ancestors().map(|dir| dir.join("test-env/redis/redis-server"));
    on_path.chain(installed).find(|path| path.exists()).unwrap_or_else(|| {
        panic!("no redis-server: run `tests/run.sh --setup` (or set PORTCULLIS_TEST_REDIS)")
    })
}

/// What a server is started with.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    config: String,
    tls: bool,
    user: Option<String>,
}

impl Builder {
    /// A line of the configuration file.
    pub(crate) fn config(mut self, line: &str) -> Self {
        self.config.push_str(line);
        self.config.push('\n');
        self
    }

    /// What was acknowledged outlives a kill. Not `everysec`, which puts a write off while the one
    /// before is on its way to the disk.
    pub(crate) fn durable(self) -> Self {
        self.config("appendonly yes").config("appendfsync always")
    }

    /// TLS only, with a certificate asked of clients.
    pub(crate) fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Only [`USER`] gets in, with [`PASSWORD`] and these rights, such as `~p:* &p:* +@all`.
    pub(crate) fn user(mut self, rights: &str) -> Self {
        self.user = Some(rights.to_owned());
        self
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(self) -> Server {
        self.mode("")
    }

    /// As [`Self::start`], with lines that depend on the server's own port; `{port}` is that.
    fn mode(self, lines: &str) -> Server {
        let dir = tempfile::Builder::new().prefix("redis").tempdir().unwrap();
        let certificates = self.tls.then(|| Certificates::make(dir.path()));
        let mut server =
            Server { proc: None, dir, port: 0, certificates, admin: self.user.is_some() };
        for left in (0..TRIES).rev() {
            server.port = free_port();
            server.configure(&self, &lines.replace("{port}", &server.port.to_string()));
            match server.launch() {
                Ok(()) => return server,
                Err(report) => assert!(left > 0 && report.contains("in use"), "{report}"),
            }
        }
        unreachable!("the last try has failed the test")
    }
}

/// A running server. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub(crate) struct Server {
    // Before `dir`: the process must be gone before its folder is removed.
    proc: Option<Proc>,
    dir: TempDir,
    port: u16,
    certificates: Option<Certificates>,
    admin: bool,
}

impl Server {
    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    /// In memory only, open to everybody on this machine.
    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    /// A replica of `master`, in sync with it.
    pub(crate) fn replica_of(master: &Self) -> Self {
        let replica = Self::builder()
            .config(&format!("replicaof 127.0.0.1 {}", master.port))
            .config("repl-diskless-sync-delay 0")
            .start();
        replica.wait_in_sync();
        replica
    }

    fn configure(&self, with: &Builder, lines: &str) {
        let (dir, port) = (self.dir.path(), self.port);
        let mut text = format!(
            "bind 127.0.0.1\nunixsocket {}\nunixsocketperm 700\ndir {}\nsave \"\"\nlogfile \"\"\n\
             daemonize no\nprotected-mode no\nrepl-diskless-sync-delay 0\n",
            self.socket().display(),
            dir.display(),
        );
        match &self.certificates {
            None => writeln!(text, "port {port}").unwrap(),
            Some(made) => write!(
                text,
                "port 0\ntls-port {port}\ntls-cert-file {}\ntls-key-file {}\n\
                 tls-ca-cert-file {}\ntls-auth-clients yes\n",
                made.server.display(),
                made.server_key.display(),
                made.ca.display(),
            )
            .unwrap(),
        }
        if let Some(rights) = &with.user {
            let quoted = |word: &str| format!("\"{word}\"");
            writeln!(text, "user default on {} ~* &* +@all", quoted(&format!(">{ADMIN}"))).unwrap();
            writeln!(text, "user {USER} on {} {rights}", quoted(&format!(">{PASSWORD}"))).unwrap();
        }
        text.push_str(&with.config);
        text.push_str(lines);
        fs::write(self.config_file(), text).unwrap();
    }

    fn config_file(&self) -> PathBuf {
        self.dir.path().join("redis.conf")
    }

    /// Starts the process; the report of why it has ended if it does.
    fn launch(&mut self) -> Result<(), String> {
        let mut command = Command::new(program());
        command.current_dir(self.dir.path()).arg(self.config_file());
        let mut proc = Proc::start("redis", self.dir.path(), command);
        let up = wait_at_most(PATIENCE, || {
            if proc.ended().is_some() {
                return Some(false);
            }
            let pong = self.try_command(&["PING"]).ok()?;
            (pong == Value::Text("PONG".to_owned())).then_some(true)
        });
        if up != Some(true) {
            return Err(proc.report());
        }
        self.proc = Some(proc);
        Ok(())
    }

    fn proc(&self) -> &Proc {
        self.proc.as_ref().expect("this server is down")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// `redis://127.0.0.1:PORT/DB`.
    pub(crate) fn url(&self, db: u8) -> String {
        format!("redis://{}/{db}", self.addr())
    }

    /// The Unix socket; TLS and the rights of users do not depend on it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// The certificates of a server with TLS.
    pub(crate) fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("this server has no TLS")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.proc().id()
    }

    /// What the server has printed.
    pub(crate) fn output(&self) -> String {
        self.proc().stdout()
    }

    /// A connection with all rights.
    pub(crate) fn connect(&self) -> io::Result<Connection> {
        let mut connection = Connection::unix(&self.socket(), PATIENCE)?;
        if self.admin {
            connection.ask(&["AUTH", "default", ADMIN])?;
        }
        Ok(connection)
    }

    /// Sends one command with all rights.
    pub(crate) fn try_command(&self, words: &[&str]) -> io::Result<Value> {
        self.connect()?.ask(words)
    }

    /// Sends one command with all rights; fails the test when the server refuses it.
    #[track_caller]
    pub(crate) fn command(&self, words: &[&str]) -> Value {
        match self.try_command(words) {
            Ok(Value::Error(refused)) => panic!("{words:?}: {refused}"),
            Ok(value) => value,
            Err(error) => panic!("{words:?}: {error}"),
        }
    }

    /// A field of `INFO`. Asks again when the connection is cut: Sentinel kills all connections of
    /// a server whose role it changes.
    pub(crate) fn info(&self, field: &str) -> String {
        let asked = wait_for("an answer to INFO", || {
            use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
            match self.try_command(&["INFO", "everything"]) {
                Err(cut) if [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&cut.kind()) => {
                    None
                }
                asked => Some(asked.unwrap()),
            }
        });
        let text = asked.text().to_owned();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {field} in\n{text}")).to_owned()
    }

    /// How often each command was called since the last [`Self::forget_calls`]; those of the test
    /// itself (`INFO`, `CONFIG`, `PING`, `AUTH`) are among them.
    pub(crate) fn calls(&self) -> Vec<(String, u64)> {
        let text = self.command(&["INFO", "commandstats"]).text().to_owned();
        let call = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        text.lines().filter_map(call).collect()
    }

    pub(crate) fn forget_calls(&self) {
        self.command(&["CONFIG", "RESETSTAT"]);
    }

    /// How many connections were ever accepted, without those of this support.
    pub(crate) fn accepted(&self) -> u64 {
        self.info("total_connections_received").parse().unwrap()
    }

    /// The names of all keys of a database that match.
    pub(crate) fn keys(&self, db: u8, pattern: &str) -> Vec<String> {
        let mut connection = self.connect().unwrap();
        connection.ask(&["SELECT", &db.to_string()]).unwrap();
        connection.ask(&["KEYS", pattern]).unwrap().texts()
    }

    /// Waits until this replica has all that its master has.
    pub(crate) fn wait_in_sync(&self) {
        wait_for("the replica's link", || (self.info("master_link_status") == "up").then_some(()));
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.proc.as_mut().expect("this server is down").kill();
        self.proc = None;
    }

    /// Starts it again on the same port, with the data that it keeps on disk; kills it first when it
    /// still runs.
    pub(crate) fn restart(&mut self) {
        drop(self.proc.take());
        // The port of a killed server may be busy for a moment.
        for left in (0..TRIES).rev() {
            match self.launch() {
                Ok(()) => return,
                Err(report) => assert!(left > 0 && report.contains("in use"), "{report}"),
            }
        }
    }

    /// As [`Self::restart`], with nothing.
    pub(crate) fn restart_empty(&mut self) {
        drop(self.proc.take());
        for name in ["dump.rdb", "appendonly.aof", "appendonlydir"] {
            let path = self.dir.path().join(name);
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        self.restart();
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub(crate) fn stop(&self) {
        self.proc().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn cont(&self) {
        self.proc().signal(Signal::CONT);
    }

    /// No command is answered for this long.
    pub(crate) fn pause(&self, time: Duration) {
        self.command(&["CLIENT", "PAUSE", &time.as_millis().to_string(), "ALL"]);
    }

    /// No write is carried out for this long; then those that wait are, whoever still wants them.
    pub(crate) fn pause_writes(&self, time: Duration) {
        self.command(&["CLIENT", "PAUSE", &time.as_millis().to_string(), "WRITE"]);
    }

    /// Every further write is refused with OOM, until [`Self::make_room`].
    pub(crate) fn fill(&self) {
        self.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        self.command(&["CONFIG", "SET", "maxmemory", "1"]);
    }

    pub(crate) fn make_room(&self) {
        self.command(&["CONFIG", "SET", "maxmemory", "0"]);
    }

    /// Every write is refused with READONLY, until [`Self::make_master`]. The data stays: nobody
    /// listens where its new master should be.
    pub(crate) fn make_read_only(&self) {
        self.command(&["REPLICAOF", "127.0.0.1", "1"]);
        self.command(&["CONFIG", "SET", "replica-serve-stale-data", "yes"]);
    }

    pub(crate) fn make_master(&self) {
        self.command(&["REPLICAOF", "NO", "ONE"]);
    }

    /// Every write is refused with MISCONF, as after a snapshot that could not be written, until
    /// [`Self::trust_disk`].
    pub(crate) fn distrust_disk(&self) {
        self.command(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "yes"]);
        self.command(&["CONFIG", "SET", "save", "3600 1"]);
        // A folder where the snapshot should be.
        fs::create_dir_all(self.dir.path().join("dump.rdb")).unwrap();
        self.command(&["BGSAVE"]);
        wait_for("the snapshot to fail", || {
            (self.info("rdb_last_bgsave_status") == "err").then_some(())
        });
    }

    pub(crate) fn trust_disk(&self) {
        let _ = fs::remove_dir(self.dir.path().join("dump.rdb"));
        self.command(&["CONFIG", "SET", "save", ""]);
    }

    /// Closes all connections but this support's.
    pub(crate) fn kill_clients(&self) -> i64 {
        let mut connection = self.connect().unwrap();
        let killed = |connection: &mut Connection, kind: &str| {
            connection.ask(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).unwrap().int()
        };
        killed(&mut connection, "normal") + killed(&mut connection, "pubsub")
    }

    pub(crate) fn flush(&self) {
        self.command(&["FLUSHALL"]);
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}
