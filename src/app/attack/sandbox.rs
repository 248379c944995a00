//! A second gateway with the operator's rules, in a folder of its own: a child process of the same program.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use toml::{Table, Value};

use crate::secret::random;

/// How long the second gateway may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// The tables that are rules; everything else is the operator's and stays untouched.
const RULES: [&str; 4] = ["headers", "limits", "api", "route"];

/// The running gateway. Dropping it ends the process and removes the folder.
#[derive(Debug)]
pub(super) struct Sandbox {
    folder: PathBuf,
    child: Option<Child>,
    address: SocketAddr,
}

#[derive(Deserialize)]
struct Ready {
    listen: Vec<SocketAddr>,
}

impl Sandbox {
    /// Starts a gateway with the rules of the configuration `text`, all of whose apps are at `app`.
    pub(super) fn start(text: &str, app: SocketAddr) -> Result<Self, String> {
        let name: [u8; 8] = random().map_err(|error| error.to_string())?;
        let name = format!("portcullis-attack-{:016x}", u64::from_be_bytes(name));
        let folder = std::env::temp_dir().join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut sandbox = Self { folder, child: None, address: app };
        sandbox.write("config.toml", &derived(text, app)?)?;
        sandbox.write("users.toml", "")?;
        sandbox.run()?;
        Ok(sandbox)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join("attack.pem")
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let file = self.folder.join(name);
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
    }

    fn run(&mut self) -> Result<(), String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let (ready, errors) = (self.folder.join("ready.json"), self.folder.join("errors.txt"));
        let stderr = fs::File::create(&errors).map_err(|error| error.to_string())?;
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(self.folder.join("config.toml"))
            .args(["--parent", &std::process::id().to_string()])
            // What the operator's variables hold is not for a gateway that is attacked.
            .env_clear()
            .env("PORTCULLIS_READY_FILE", &ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn();
        let mut child = child.map_err(|error| format!("cannot start a second gateway: {error}"))?;
        let end = Instant::now() + PATIENCE;
        let said = loop {
            if let Ok(text) = fs::read_to_string(&ready) {
                break Some(text);
            }
            if Instant::now() > end || child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break None;
            }
            thread::sleep(Duration::from_millis(20));
        };
        self.child = Some(child);
        let listening = said.and_then(|text| serde_json::from_str::<Ready>(&text).ok());
        let listening = listening.and_then(|ready| ready.listen.first().copied());
        match listening {
            Some(address) => self.address = address,
            None => {
                let why = fs::read_to_string(&errors).unwrap_or_default();
                return Err(format!("the second gateway does not start:\n{why}"));
            }
        }
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The operator's rules, with everything else for a gateway of its own.
fn derived(text: &str, app: SocketAddr) -> Result<String, String> {
    let mut given: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let mut root: Table = r#"
        [server]
        listen = ["127.0.0.1:0"]
        workers = 1
        [tls]
        certificates = [{ cert = "attack.pem", key = "attack.key" }]
        self_signed = true
        [store]
        kind = "embedded"
        path = "data"
        [directory]
        file = "users.toml"
        [log]
        access = "off"
        audit = "off"
    "#
    .parse()
    .map_err(|error: toml::de::Error| error.to_string())?;
    for (table, key) in [("server", "public_url"), ("server", "hosts"), ("session", "cookie")] {
        let value = given.get(table).and_then(|table| table.get(key)).cloned();
        if let (Some(value), Some(into)) =
            (value, root.entry(table).or_insert_with(|| Value::Table(Table::new())).as_table_mut())
        {
            into.insert(key.to_owned(), value);
        }
    }
    for name in RULES {
        if let Some(table) = given.remove(name) {
            root.insert(name.to_owned(), table);
        }
    }
    let named = given.get("upstream").and_then(Value::as_array).into_iter().flatten();
    let upstreams = named.filter_map(|upstream| upstream.get("name")?.as_str()).map(|name| {
        Value::Table(Table::from_iter([
            ("name".to_owned(), Value::from(name)),
            ("url".to_owned(), Value::from(format!("http://{app}"))),
        ]))
    });
    root.insert("upstream".to_owned(), Value::Array(upstreams.collect()));
    toml::to_string(&root).map_err(|error| error.to_string())
}

/// The file that a client may trust.
pub(super) fn certificate(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rules_are_the_operators() {
        let text = r#"
            [server]
            public_url = "https://dash.example.com"
            listen = ["0.0.0.0:443"]
            http = ["0.0.0.0:80"]
            admin = "127.0.0.1:9643"
            trusted_proxies = ["127.0.0.0/8"]
            [tls]
            certificates = [{ cert = "certs/dash.pem", key = "certs/dash.key" }]
            [store]
            kind = "redis"
            url = "redis://:secret@10.0.0.1"
            [headers]
            user = "X-Person"
            [[upstream]]
            name = "app"
            url = "https://10.0.0.5"
            [upstream.health]
            path = "/healthz"
            [[route]]
            path = "/"
            upstream = "app"
            allow = { groups = ["ops"] }
        "#;
        let text = derived(text, "127.0.0.1:7".parse().unwrap()).unwrap();
        for gone in
            ["443", ":80", "9643", "dash.pem", "redis", "secret", "10.0.0", "healthz", "trusted"]
        {
            assert!(!text.contains(gone), "{gone} in\n{text}");
        }
        for kept in ["https://dash.example.com", "X-Person", "http://127.0.0.1:7", "ops"] {
            assert!(text.contains(kept), "no {kept} in\n{text}");
        }
        let config = crate::config::Config::parse(Path::new("c.toml"), text);
        assert!(config.is_ok(), "{:?}", config.err());
    }
}
