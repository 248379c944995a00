//! Starts the gateway as a user would: a folder with two files, one command.
//! Everything it writes stays in that folder, which goes away with the value.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use rustix::process::Signal;
use rustls::ClientConfig;
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::process::{Finished, PATIENCE, Proc, free_port, wait_at_most};
use super::raw::Raw;
use super::redis::sentinel::MASTER;
use super::redis::{Cluster, Sentinel};
use super::tls;

/// The password of every test user is its id with this behind it.
const PASSWORD_TAIL: &str = "-likes-long-passwords";

pub(crate) fn password(user: &str) -> String {
    format!("{user}{PASSWORD_TAIL}")
}

/// A PHC string with the cheapest cost that argon2id has: a debug build must not spend its time
/// hashing. The gateway takes the cost from the string.
pub(crate) fn cheap_hash(password: &str) -> String {
    let params = Params::new(8, 1, 1, None).unwrap();
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let salt = b"salt of the tests";
    let hash: PasswordHash = hasher.hash_password_with_salt(password.as_bytes(), salt).unwrap();
    hash.to_string()
}

/// alice is in `staff` and `eng` (which has a sub-group), bob in `staff`, carol is disabled, dave
/// is in nothing and has a name that is not ASCII.
static USERS: LazyLock<String> = LazyLock::new(|| {
    let mut file = String::new();
    let mut user = |id: &str, name: &str, groups: &str, more: &str| {
        let hash = cheap_hash(&password(id));
        write!(
            file,
            "[[user]]\nid = \"u-{id}\"\nname = \"{id}\"\nemail = \"{id}@example.org\"\n\
             display_name = \"{name}\"\npassword = \"{hash}\"\ngroups = [{groups}]\n{more}\n"
        )
        .unwrap();
    };
    user("alice", "Alice Example", "\"staff\", \"eng\"", "");
    user("bob", "Bob Example", "\"staff\"", "");
    user("carol", "Carol Example", "\"staff\"", "disabled = true\n");
    user("dave", "Dävid Ünïcode", "", "");
    for (name, parents) in [("staff", ""), ("eng", ""), ("eng-core", "\"eng\"")] {
        write!(file, "[[group]]\nname = \"{name}\"\nparents = [{parents}]\n\n").unwrap();
    }
    file
});

/// What the gateway is started with. Every setter takes TOML, so that a test shows what a user
/// would write.
#[derive(Debug)]
pub(crate) struct Builder {
    keys: BTreeMap<&'static str, BTreeMap<String, String>>,
    blocks: String,
    users: Option<String>,
    env: Vec<(String, String)>,
    under: Vec<String>,
    patient: bool,
    origin: Option<String>,
    certificate: Option<PathBuf>,
}

impl Builder {
    /// `key = value` in `[section]`; `value` is TOML, so a string needs its quotes.
    pub(crate) fn set(mut self, section: &'static str, key: &str, value: &str) -> Self {
        self.keys.entry(section).or_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// An upstream that speaks HTTP/1.1 in plain text.
    pub(crate) fn upstream(self, name: &str, addr: SocketAddr) -> Self {
        self.upstream_with(name, &format!("http://{addr}"), "")
    }

    /// An upstream with further keys, one a line.
    pub(crate) fn upstream_with(self, name: &str, url: &str, more: &str) -> Self {
        self.block(&format!("[[upstream]]\nname = \"{name}\"\nurl = \"{url}\"\n{more}\n"))
    }

    /// A route open to everybody.
    pub(crate) fn public(self, path: &str, upstream: &str) -> Self {
        self.route(path, upstream, "\"anyone\"", "")
    }

    /// A route for whoever is signed in.
    pub(crate) fn private(self, path: &str, upstream: &str) -> Self {
        self.route(path, upstream, "\"authenticated\"", "")
    }

    /// A route; `allow` is TOML, `more` holds further keys, one a line.
    pub(crate) fn route(self, path: &str, upstream: &str, allow: &str, more: &str) -> Self {
        self.block(&format!(
            "[[route]]\npath = \"{path}\"\nupstream = \"{upstream}\"\nallow = {allow}\n{more}\n"
        ))
    }

    /// Any further tables.
    pub(crate) fn block(mut self, toml: &str) -> Self {
        self.blocks.push_str(toml);
        self.blocks.push('\n');
        self
    }

    /// Replaces the whole users file.
    pub(crate) fn users(mut self, toml: &str) -> Self {
        self.users = Some(toml.to_owned());
        self
    }

    /// Leaves the users file to the gateway, as at the very first start.
    pub(crate) fn without_users(mut self) -> Self {
        self.users = None;
        self
    }

    /// Writes the files without starting anything: for commands and for starts that must fail.
    pub(crate) fn written(self) -> Gateway {
        let dir = tempfile::Builder::new().prefix("gateway").tempdir().unwrap();
        self.prepare(dir)
    }

    /// As [`Self::written`], with further files: names and contents.
    pub(crate) fn written_with(self, files: &[(&str, &str)]) -> Gateway {
        let gateway = self.written();
        for (name, text) in files {
            fs::write(gateway.dir().join(name), text).unwrap();
        }
        gateway
    }

    /// Clients ask again where they are told that the store was slow: for tests that are not about that.
    pub(crate) fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// Sessions in Redis at this URL.
    pub(crate) fn redis(self, url: &str) -> Self {
        self.set("store", "kind", "\"redis\"").set("store", "url", &format!("\"{url}\""))
    }

    /// Sessions in the Redis that these sentinels watch.
    pub(crate) fn sentinel(self, set: &Sentinel) -> Self {
        let urls: Vec<String> =
            set.addrs().iter().map(|addr| format!("\"redis://{addr}\"")).collect();
        self.set("store", "kind", "\"redis\"")
            .set("store", "sentinels", &format!("[{}]", urls.join(", ")))
            .set("store", "master", &format!("\"{MASTER}\""))
    }

    /// Sessions in this Redis Cluster.
    pub(crate) fn cluster(self, cluster: &Cluster) -> Self {
        let urls: Vec<String> =
            cluster.addrs().iter().map(|addr| format!("\"redis://{addr}\"")).collect();
        self.set("store", "kind", "\"redis\"").set(
            "store",
            "cluster",
            &format!("[{}]", urls.join(", ")),
        )
    }

    /// A further node of the site that `first` serves: the same public URL, certificate and users
    /// file. The store must be shared, too.
    pub(crate) fn beside(mut self, first: &Gateway) -> Self {
        self.origin = Some(first.origin.clone());
        self.certificate = Some(first.dir().join("certs"));
        let users = format!("{:?}", first.dir().join("users.toml"));
        self.users = None;
        self.set("directory", "file", &users)
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the gateway by this command, which must `exec` the arguments that follow: for limits
    /// and outputs that a shell sets.
    pub(crate) fn under(mut self, command: &[&str]) -> Self {
        self.under = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Writes the files, starts the gateway and waits until it serves.
    pub(crate) fn start(self) -> Gateway {
        self.written().spawned()
    }

    fn prepare(mut self, dir: TempDir) -> Gateway {
        let port = free_port();
        let origin = self.origin.take().unwrap_or_else(|| format!("https://localhost:{port}"));
        let defaults = [
            ("server", "public_url", format!("\"{origin}\"")),
            ("server", "listen", format!("[\"127.0.0.1:{port}\"]")),
            ("server", "admin", format!("\"127.0.0.1:{}\"", free_port())),
            (
                "tls",
                "certificates",
                "[{ cert = \"certs/localhost.pem\", key = \"certs/localhost.key\" }]".to_owned(),
            ),
            ("tls", "self_signed", "true".to_owned()),
            ("store", "kind", "\"embedded\"".to_owned()),
            ("store", "path", "\"data\"".to_owned()),
            ("session", "lifetime", "\"12h\"".to_owned()),
            ("session", "idle", "\"1h\"".to_owned()),
            ("directory", "file", "\"users.toml\"".to_owned()),
        ];
        for (section, key, value) in defaults {
            self.keys.entry(section).or_default().entry(key.to_owned()).or_insert(value);
        }
        // Both kinds of store refuse the keys of the other.
        if self.keys["store"]["kind"] != "\"embedded\"" {
            self.keys.entry("store").or_default().remove("path");
        }
        if let Some(from) = &self.certificate {
            fs::create_dir(dir.path().join("certs")).unwrap();
            for name in ["localhost.pem", "localhost.key"] {
                fs::copy(from.join(name), dir.path().join("certs").join(name)).unwrap();
            }
        }
        let mut config = String::new();
        for (section, keys) in &self.keys {
            writeln!(config, "[{section}]").unwrap();
            for (key, value) in keys {
                writeln!(config, "{key} = {value}").unwrap();
            }
            config.push('\n');
        }
        config.push_str(&self.blocks);
        fs::write(dir.path().join("config.toml"), config).unwrap();
        if let Some(users) = &self.users {
            fs::write(dir.path().join("users.toml"), users).unwrap();
        }
        let (env, under, patient) = (self.env, self.under, self.patient);
        Gateway { dir, origin, env, under, patient, proc: None, ready: Ready::default() }
    }
}

/// What the gateway says once it serves.
#[derive(Debug, Default)]
struct Ready {
    listen: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// A running gateway. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub(crate) struct Gateway {
    // Before `dir`: the process must be gone before its folder is removed.
    proc: Option<Proc>,
    dir: TempDir,
    origin: String,
    env: Vec<(String, String)>,
    under: Vec<String>,
    patient: bool,
    ready: Ready,
}

impl Gateway {
    pub(crate) fn builder() -> Builder {
        Builder {
            keys: BTreeMap::new(),
            blocks: String::new(),
            users: Some(USERS.clone()),
            env: Vec::new(),
            under: Vec::new(),
            patient: false,
            origin: None,
            certificate: None,
        }
    }

    /// The shipped use: everything behind the login, the built-in page as the application.
    pub(crate) fn whoami() -> Self {
        Self::builder()
            .upstream_with("app", "builtin:whoami", "")
            .public("/public/", "app")
            .private("/", "app")
            .start()
    }

    /// `/public/` is open and `/` needs a login; both go to `upstream`.
    pub(crate) fn in_front_of(upstream: SocketAddr) -> Self {
        Self::builder()
            .upstream("app", upstream)
            .public("/public/", "app")
            .private("/", "app")
            .start()
    }

    /// Runs `portcullis ARGS` in this gateway's folder, to its end.
    pub(crate) fn cli(&self, args: &[&str]) -> Finished {
        let output = tempfile::tempdir().unwrap();
        let command = command(self.dir.path(), &[], args);
        Proc::start("portcullis", output.path(), command).finish(PATIENCE)
    }

    /// As [`Self::cli`], where nothing can be written to its standard output.
    pub(crate) fn cli_unheard(&self, args: &[&str]) -> Finished {
        let output = tempfile::tempdir().unwrap();
        let under = ["sh", "-c", "exec \"$0\" \"$@\" >/dev/full"].map(str::to_owned);
        let command = command(self.dir.path(), &under, args);
        Proc::start("portcullis", output.path(), command).finish(PATIENCE)
    }

    /// Starts `portcullis ARGS` in this gateway's folder; what it prints goes to `output`.
    pub(crate) fn cli_started(&self, args: &[&str], output: &Path) -> Proc {
        Proc::start("portcullis", output, command(self.dir.path(), &[], args))
    }

    /// As [`Self::cli`], with `input` on its standard input.
    pub(crate) fn cli_fed(&self, args: &[&str], input: &str) -> Finished {
        let output = tempfile::tempdir().unwrap();
        let command = command(self.dir.path(), &[], args);
        Proc::fed("portcullis", output.path(), command, input).finish(PATIENCE)
    }

    /// Starts what was written, and waits until it serves.
    pub(crate) fn spawned(mut self) -> Self {
        let ready_file = self.dir.path().join("ready.json");
        let _ = fs::remove_file(&ready_file);
        let mut command =
            command(self.dir.path(), &self.under, &["run", "--config", "config.toml"]);
        command.env("PORTCULLIS_READY_FILE", &ready_file);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let mut proc = Proc::start("gateway", self.dir.path(), command);
        let ready = wait_at_most(PATIENCE, || {
            if let Some(status) = proc.ended() {
                panic!("the gateway ended with {status}\n{}\n{}", proc.report(), self.config());
            }
            fs::read(&ready_file).ok()
        });
        let Some(ready) = ready else {
            panic!("the gateway is not ready\n{}\n{}", proc.report(), self.config())
        };
        let ready: Value = serde_json::from_slice(&ready).unwrap();
        assert_eq!(ready["pid"], proc.id(), "ready file of another process: {ready}");
        let addresses = |name: &str| -> Vec<SocketAddr> {
            let list = ready[name].as_array().cloned().unwrap_or_default();
            list.iter().map(|addr| addr.as_str().unwrap().parse().unwrap()).collect()
        };
        self.ready = Ready {
            listen: addresses("listen"),
            http: addresses("http"),
            admin: ready["admin"].as_str().map(|addr| addr.parse().unwrap()),
        };
        self.proc = Some(proc);
        self
    }

    fn proc(&self) -> &Proc {
        self.proc.as_ref().unwrap()
    }

    /// The first TLS listener.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.ready.listen[0]
    }

    pub(crate) fn listeners(&self) -> &[SocketAddr] {
        &self.ready.listen
    }

    /// The listeners that speak plain HTTP.
    pub(crate) fn http(&self) -> &[SocketAddr] {
        &self.ready.http
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.ready.admin.expect("this gateway has no admin listener")
    }

    /// `https://localhost:PORT`, as in the configuration.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// `localhost:PORT`, what a browser puts into `Host`.
    pub(crate) fn authority(&self) -> &str {
        self.origin.trim_start_matches("https://")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("certs/localhost.pem")
    }

    pub(crate) fn tls(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        tls::trusting(&self.certificate(), alpn)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.proc().id()
    }

    pub(crate) fn config(&self) -> String {
        fs::read_to_string(self.dir.path().join("config.toml")).unwrap()
    }

    pub(crate) fn write_config(&self, toml: &str) {
        replace(&self.dir.path().join("config.toml"), toml);
    }

    pub(crate) fn users(&self) -> String {
        fs::read_to_string(self.dir.path().join("users.toml")).unwrap()
    }

    pub(crate) fn write_users(&self, toml: &str) {
        replace(&self.dir.path().join("users.toml"), toml);
    }

    /// Whether its clients ask again; see [`Builder::patient`].
    pub(crate) fn has_patient_clients(&self) -> bool {
        self.patient
    }

    /// A client with an empty cookie jar, HTTP/1.1.
    pub(crate) fn client(&self) -> Client {
        Client::new(self)
    }

    /// A client that `user` has signed in with the JSON call.
    pub(crate) async fn signed_in(&self, user: &str) -> Client {
        let mut client = self.client();
        client.sign_in(user).await;
        client
    }

    /// A TLS connection on which the test writes its own bytes.
    pub(crate) async fn raw(&self) -> Raw {
        Raw::tls(self.addr(), self.tls(&["http/1.1"]), "localhost").await
    }

    /// Everything that the gateway has printed, both outputs.
    pub(crate) fn output(&self) -> String {
        format!("{}\n{}", self.proc().stdout(), self.proc().stderr())
    }

    /// The printed lines that are JSON: the access log, the audit log and the program's own.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The metrics as text.
    pub(crate) async fn metrics(&self) -> String {
        self.admin_get("/metrics").await.expect(200).text()
    }

    /// GET on the admin listener.
    pub(crate) async fn admin_get(&self, path: &str) -> super::Response {
        let host = self.admin();
        let mut raw = Raw::plain(host).await;
        raw.get(path, &host.to_string(), "Connection: close\r\n").await
    }

    /// The sum of the samples in the metrics that begin with `prefix`: a family's name, with the
    /// first labels where they matter.
    pub(crate) async fn metric(&self, prefix: &str) -> f64 {
        let text = self.metrics().await;
        let sample = |line: &str| line.strip_prefix(prefix)?.rsplit(' ').next()?.parse().ok();
        let samples: Vec<f64> = text.lines().filter_map(sample).collect();
        assert!(!samples.is_empty(), "no {prefix} in\n{text}");
        samples.iter().sum()
    }

    /// Waits until [`Self::metric`] is as `wanted` says.
    pub(crate) async fn metric_is(&self, prefix: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        let end = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(prefix).await;
            if wanted(value) {
                return value;
            }
            assert!(Instant::now() < end, "{prefix} stays at {value}\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many descriptors the process has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Resident memory in KiB, now.
    pub(crate) fn resident(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The highest resident memory in KiB since [`Self::forget_peak`].
    pub(crate) fn peak(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    pub(crate) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.proc().signal(signal);
    }

    /// SIGHUP. It says nothing about when the new state is in force: wait for an effect.
    pub(crate) fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGTERM and the exit status; fails the test when it takes longer than `limit`.
    pub(crate) fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let proc = self.proc.as_mut().unwrap();
        let Some(status) = proc.wait(limit) else {
            panic!("the gateway did not end within {limit:?}\n{}", proc.report())
        };
        status
    }

    /// kill -9: nothing that was not written yet will be.
    pub(crate) fn kill9(&mut self) {
        self.proc.as_mut().unwrap().kill();
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.proc.as_mut().is_none_or(|proc| proc.ended().is_some())
    }

    /// Starts it again in the same folder, on the same port; kills it first when it still runs.
    pub(crate) fn restart(mut self) -> Self {
        drop(self.proc.take());
        self.spawned()
    }
}

/// The program under test. `PORTCULLIS_TEST_BIN` names another build of it.
fn command(dir: &Path, under: &[String], args: &[&str]) -> Command {
    let built = env!("CARGO_BIN_EXE_portcullis");
    let program = std::env::var("PORTCULLIS_TEST_BIN").unwrap_or_else(|_| built.to_owned());
    let mut command = match under {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command.current_dir(dir).args(args);
    command
}

/// Replaces a file at once, so that a watcher never sees half of it.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}
