//! The whole configuration file: each module reads its own table, all problems are gathered.
//!
//! Opens nothing but the file itself (and secrets that it names).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use url::{Host, Url};

use crate::headers::{Rules, Trust};
use crate::policy::Rule;
use crate::route::{Prefix, Route, Router};
use crate::section::{Problem, Problems, Section, closest, open_file};
use crate::serve::{CookieName, Limits, Mount, Table, sort_mounts};
use crate::{api, directory, listener, log, login, session, store, tls, upstream};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// `[server]`, but for its listeners.
#[derive(Clone, Debug)]
pub struct Server {
    /// The gateway's address for people, without a trailing slash.
    pub public_url: String,
    /// Names under which routes without a host are served, lower-case; the public one first.
    pub hosts: Vec<String>,
    /// Worker threads.
    pub workers: usize,
    /// Where operators look; nowhere when absent.
    pub admin: Option<SocketAddr>,
    /// Proxies whose forwarding headers are believed.
    pub trusted: Vec<IpNet>,
    /// Socket for orders of operators.
    pub control: PathBuf,
    /// How long requests in flight may go on after the sign to stop.
    pub drain: Duration,
    /// Life of `Strict-Transport-Security`; zero switches it off.
    pub hsts: Duration,
}

/// `[api.browser]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browser {
    /// Mount, without a trailing slash.
    pub mount: String,
    /// Name on the pages.
    pub brand: String,
}

/// A configuration without problems.
#[derive(Debug)]
pub struct Config {
    /// The file.
    pub file: PathBuf,
    /// `[server]`.
    pub server: Server,
    /// Addresses to listen on.
    pub listeners: listener::Settings,
    /// `[tls]`.
    pub tls: tls::Settings,
    /// `[store]`.
    pub store: store::Settings,
    /// `[session]`.
    pub session: session::Settings,
    /// The session cookie's name.
    pub cookie: CookieName,
    /// `[directory]`.
    pub directory: directory::Settings,
    /// `[login]`.
    pub login: login::Settings,
    /// `[log]`.
    pub log: log::Settings,
    /// `[limits]`.
    pub limits: Limits,
    /// `[api.browser]`.
    pub browser: Browser,
    /// The other tables of `[api]`.
    pub mounts: Vec<Mount>,
    /// `[[upstream]]`.
    pub upstreams: Vec<upstream::Settings>,
    /// `[[route]]` and `[headers]`.
    pub table: Arc<Table>,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// Everything that is wrong with it, with places and remedies.
    pub fn load(file: &Path) -> Result<Self, Vec<Problem>> {
        match open_file(file).and_then(std::io::read_to_string) {
            Ok(text) => Self::parse(file, text),
            Err(error) => Err(vec![Problem {
                file: file.to_owned(),
                line: 0,
                column: 0,
                what: format!("cannot read the configuration: {error}"),
                remedy: "name the file with --config FILE, or run in its directory".to_owned(),
            }]),
        }
    }

    /// Reads a configuration from `text`; `file` is its name, relative paths are meant from there.
    ///
    /// # Errors
    /// Everything that is wrong with it, with places and remedies.
    pub fn parse(file: &Path, text: String) -> Result<Self, Vec<Problem>> {
        let problems = Problems::default();
        let mut root = Section::parse(file, text, &problems);
        let mut server_table = root.table("server");
        let server = server(&mut server_table);
        let listeners = listener::Settings::read(&mut server_table, root.tables("listener"));
        let meets_admin = |admin: SocketAddr| {
            let mut addresses = listeners.listeners.iter().map(|listen| listen.address);
            admin.port() != 0 && addresses.any(|address| address == admin)
        };
        if server.admin.is_some_and(meets_admin) {
            let what = "the admin pages cannot have an address that clients are served on";
            server_table.problem(
                "admin",
                what,
                "give `admin` a port of its own, for this machine alone",
            );
        }
        drop(server_table);
        let tls = tls::Settings::read(&mut root.table("tls"));
        let store = store::Settings::read(&mut root.table("store"));
        let (session, cookie) = session(&mut root.table("session"));
        let directory = directory::Settings::read(&mut root.table("directory"));
        let login = login::Settings::read(&mut root.table("login"));
        let mut log_table = root.table("log");
        let log = log::Settings::read(&mut log_table);
        let pairs = tls.certificates.iter().flat_map(|pair| [&pair.cert, &pair.key]);
        let files: Vec<_> = pairs
            .chain([&server.control, &directory.file])
            .map(PathBuf::as_path)
            .chain([file])
            .collect();
        for (key, log) in [("access", &log.access), ("audit", &log.audit)] {
            if matches!(log, log::Destination::File(log) if files.iter().any(|file| is_same(file, log)))
            {
                let what = format!("`log.{key}` is a file that the gateway reads");
                log_table.problem(key, what, format!("name another, such as \"logs/{key}.log\""));
            }
        }
        drop(log_table);
        let limits = Limits::read(&mut root.table("limits"));
        let headers = Rules::read(&mut root.table("headers"));
        let (browser, mounts) = apis(&mut root.table("api"));
        let mut server = server;
        for host in mounts.iter().filter_map(|mount| mount.host.as_ref()) {
            if !server.hosts.contains(host) {
                server.hosts.push(host.clone());
            }
        }
        let upstreams = upstreams(&mut root);
        let table = routes(&mut root, &server.hosts, &upstreams, &browser.mount, headers);
        drop(root);
        match table {
            Some(table) if problems.is_empty() => Ok(Self {
                file: file.to_owned(),
                server,
                listeners,
                tls,
                store,
                session,
                cookie,
                directory,
                login,
                log,
                limits,
                browser,
                mounts,
                upstreams,
                table: Arc::new(table),
            }),
            _ => Err(problems.list()),
        }
    }

    /// Whose forwarding headers are believed.
    pub fn trust(&self) -> Trust {
        Trust(self.server.trusted.clone())
    }

    /// `Strict-Transport-Security`; never for names that only this machine knows, where it would
    /// reach every other service on them.
    pub fn hsts(&self) -> Option<HeaderValue> {
        let host = self.server.hosts.first()?;
        let local =
            host == "localhost" || !host.contains('.') || host.parse::<std::net::IpAddr>().is_ok();
        if local || host.starts_with('[') || self.server.hsts.is_zero() {
            return None;
        }
        HeaderValue::from_str(&format!("max-age={}", self.server.hsts.as_secs())).ok()
    }
}

/// Whether two paths name one file, as far as their words tell.
fn is_same(one: &Path, other: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute(one).components().eq(absolute(other).components())
}

fn server(section: &mut Section) -> Server {
    const URL: &str = "https://localhost:8443";
    let mut hosts = Vec::new();
    let mut public_url = URL.to_owned();
    match section.parsed::<Url>("public_url", URL) {
        Some(url) => {
            let has_user = !url.value.username().is_empty() || url.value.password().is_some();
            let plain = url.value.path() == "/" && url.value.query().is_none() && !has_user;
            match url.value.host() {
                Some(host) if url.value.scheme() == "https" && plain => {
                    hosts.push(name_of(&host));
                    public_url = url.value.as_str().trim_end_matches('/').to_owned();
                }
                _ => section.problem_at(
                    &url,
                    "`server.public_url` must be https:// and a host, without a path or a password",
                    format!("write it like \"{URL}\""),
                ),
            }
        }
        None if section.has("public_url") => {}
        None => hosts.push("localhost".to_owned()),
    }
    for host in section.texts("hosts") {
        match Host::parse(&host.value) {
            Ok(parsed) => {
                let name = name_of(&parsed);
                if !hosts.contains(&name) {
                    hosts.push(name);
                }
            }
            Err(_) => section.problem_at(
                &host,
                format!("\"{}\" is not a host name", host.value),
                "write \"app.example.com\", without scheme and port",
            ),
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = u64::try_from(cores).unwrap_or(1);
    let admin = section.parsed::<SocketAddr>("admin", "127.0.0.1:9643").map(|admin| admin.value);
    let trusted = section.parsed_list::<IpNet>("trusted_proxies", "10.0.0.0/8");
    Server {
        public_url,
        hosts,
        workers: usize::try_from(section.count("workers", cores, 1..=1024)).unwrap_or(1),
        admin,
        trusted: trusted.into_iter().map(|network| network.value).collect(),
        control: section
            .path("control")
            .unwrap_or_else(|| section.base().join("data/control.sock")),
        drain: section.duration("drain", 30 * SECOND, Duration::ZERO..=DAY),
        hsts: section.duration("hsts", 365 * DAY, Duration::ZERO..=3650 * DAY),
    }
}

fn name_of<S: AsRef<str>>(host: &Host<S>) -> String {
    match host {
        Host::Domain(name) => name.as_ref().trim_end_matches('.').to_ascii_lowercase(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => format!("[{ip}]"),
    }
}

fn session(section: &mut Section) -> (session::Settings, CookieName) {
    let year = 366 * DAY;
    let lifetime = section.duration("lifetime", DAY / 2, SECOND..=year);
    let idle = section.duration("idle", lifetime.min(3600 * SECOND), SECOND..=year);
    if idle > lifetime {
        let what = "`session.idle` is longer than `session.lifetime`: it would have no effect";
        section.problem("idle", what, "make it shorter, or lengthen `lifetime`");
    }
    let per_user = section.count("per_user", 50, 1..=10_000);
    let cached = section.count("cache", 1_000_000, 100..=100_000_000);
    let unknown = section.count("unknown_per_minute", 300, 0..=10_000);
    let name = section.text("cookie");
    let cookie = name.as_ref().map_or("__Host-portcullis", |name| name.value.as_str());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let bare = cookie.strip_prefix("__Host-").unwrap_or("");
    if let Some(name) = &name
        && (bare.is_empty() || bare.len() > 64 || !bare.bytes().all(plain))
    {
        let what = format!("\"{cookie}\" cannot be the session cookie's name");
        let remedy =
            "begin with \"__Host-\" (so that no other host can plant it), then letters and digits";
        section.problem_at(name, what, remedy);
    }
    let settings = session::Settings {
        lifetime,
        idle,
        per_user: usize::try_from(per_user).unwrap_or(50),
        cached: usize::try_from(cached).unwrap_or(usize::MAX),
        unknown: usize::try_from(unknown).unwrap_or(usize::MAX),
    };
    (settings, CookieName::new(cookie.to_owned()))
}

/// The session APIs.
fn apis(section: &mut Section) -> (Browser, Vec<Mount>) {
    let mut table = section.table("browser");
    let mount = prefix(&mut table, "browser").unwrap_or_else(|| "/auth".to_owned());
    let brand = table.text("name").map_or("Portcullis".to_owned(), |name| name.value);
    drop(table);
    let mut mounts: Vec<Mount> = Vec::new();
    for kind in api::KINDS {
        let mut table = section.table(kind.name);
        if table.is_present() {
            let new = self::mount(&mut table, kind);
            let clash = |other: &&Mount| other.host == new.host && other.prefix == new.prefix;
            if let Some(other) = mounts.iter().find(clash) {
                let what = format!("[api.{}] answers at the same place", other.dialect.name());
                table.problem("prefix", what, "give each session API its own `prefix` or `host`");
            }
            if new.prefix == mount {
                let what = format!("the gateway's own pages are at {mount}");
                table.problem("prefix", what, "give it another `prefix`, or move [api.browser]");
            }
            mounts.push(new);
        }
    }
    sort_mounts(&mut mounts);
    (Browser { mount, brand }, mounts)
}

fn mount(table: &mut Section, kind: &api::Kind) -> Mount {
    let host = table.text("host");
    if let Some(name) = &host
        && !matches!(Host::parse(&name.value), Ok(Host::Domain(_)))
    {
        let what = format!("\"{}\" is not a host name", name.value);
        table.problem_at(name, what, "write \"api.example.com\", without scheme and port");
    }
    let host = host.map(|host| host.value.to_ascii_lowercase());
    let given = prefix(table, kind.name);
    if given.is_none() && host.is_none() && kind.prefix.is_none() {
        let what = format!("[api.{}] does not say where it answers", kind.name);
        table.problem("", what, "add prefix = \"/api2\", or host = \"api.example.com\"");
    }
    // A host of its own may be the API's from its root on.
    let prefix = given.or_else(|| kind.prefix.map(str::to_owned)).unwrap_or_default();
    Mount { host, prefix, dialect: (kind.read)(table) }
}

/// A path prefix without a slash at its end.
fn prefix(table: &mut Section, api: &str) -> Option<String> {
    let prefix = table.text("prefix")?;
    let mount = prefix.value.trim_end_matches('/');
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/-_".contains(&byte);
    let sound = mount.starts_with('/') && mount.len() > 1 && !mount.contains("//");
    if !(sound && mount.bytes().all(plain)) {
        let what = format!("`api.{api}.prefix` cannot be \"{}\"", prefix.value);
        table.problem_at(&prefix, what, "write a plain path such as \"/auth\"");
    }
    Some(mount.to_owned())
}

fn upstreams(root: &mut Section) -> Vec<upstream::Settings> {
    let mut all: Vec<upstream::Settings> = Vec::new();
    for mut table in root.tables("upstream") {
        let settings = upstream::Settings::read(&mut table);
        if all.iter().any(|known| known.name == settings.name) {
            let what = format!("there are two upstreams named \"{}\"", settings.name);
            table.problem("name", what, "give each its own name");
        }
        all.push(settings);
    }
    all
}

fn routes(
    root: &mut Section,
    hosts: &[String],
    upstreams: &[upstream::Settings],
    mount: &str,
    headers: Rules,
) -> Option<Table> {
    let names: Vec<&str> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    let (mut routes, mut rules) = (Vec::new(), Vec::new());
    let (mut ways, mut places) = (Vec::new(), Vec::new());
    let mut tables = root.tables("route");
    if tables.is_empty() {
        let remedy = "add [[route]] with path = \"/\", upstream and allow";
        root.problem("route", "there is no route: nothing would be served", remedy);
    }
    let own = Prefix::new(mount).ok();
    for (index, table) in tables.iter_mut().enumerate() {
        rules.push(Rule::read(table));
        let Some(route) = Route::read(table, index) else { continue };
        let stem = route.prefix.stem();
        if own
            .as_ref()
            .is_some_and(|own| stem == own.stem() || stem.starts_with(&format!("{}/", own.stem())))
        {
            let what =
                format!("`{}` lies under {mount}, where the gateway's own pages are", route.path);
            table.problem(
                "path",
                what,
                "choose another path, or move the pages: [api.browser] prefix",
            );
        }
        match names.iter().position(|name| *name == route.upstream) {
            Some(way) => ways.push(way),
            None if route.upstream.is_empty() => {}
            None => {
                let what = format!("there is no upstream named \"{}\"", route.upstream);
                let remedy = match closest(&route.upstream, &names) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("add [[upstream]] with name = \"{}\"", route.upstream),
                };
                table.problem("upstream", what, remedy);
            }
        }
        places.push(log::Place::new(&route.path, &route.upstream));
        routes.push(route);
    }
    match Router::new(routes, hosts) {
        Ok(router) => Some(Table { router, rules, ways, places, headers }),
        Err(problems) => {
            for (index, what) in problems {
                if let Some(table) = tables.get(index) {
                    let remedy = "change one of the two routes";
                    table.problem("path", format!("this route {what}"), remedy);
                }
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
[server]
public_url = "https://localhost:8443"
listen = ["127.0.0.1:8443"]
[[upstream]]
name = "app"
url = "http://127.0.0.1:3000"
[[route]]
path = "/"
upstream = "app"
allow = "authenticated"
"#;

    fn problems(text: &str) -> String {
        match Config::parse(Path::new("config.toml"), text.to_owned()) {
            Ok(_) => String::new(),
            Err(list) => list.iter().map(|problem| format!("{problem}\n")).collect(),
        }
    }

    #[test]
    fn the_shipped_file_and_a_minimal_one_are_sound() {
        assert_eq!(problems(MINIMAL), "");
        assert_eq!(problems(include_str!("../config.toml")), "");
    }

    #[test]
    fn a_log_is_none_of_the_gateways_other_files() {
        for file in ["config.toml", "./users.toml", "certs/../users.toml"] {
            let text = format!("{MINIMAL}[log]\naccess = \"{file}\"");
            let refused = problems(&text).contains("`log.access` is a file that the gateway reads");
            assert_eq!(refused, !file.contains(".."), "{file}: only words are looked at");
        }
        let text = format!("{MINIMAL}[log]\naudit = \"certs/localhost.key\"");
        assert!(problems(&text).contains("`log.audit`"), "{}", problems(&text));
        assert_eq!(problems(&format!("{MINIMAL}[log]\naudit = \"users.log\"")), "");
    }

    #[test]
    fn the_shipped_file_shows_every_key_with_a_value_that_works() {
        let shipped = include_str!("../config.toml");
        let (before, rest) = shipped.split_once("# Or, for any number of gateways").unwrap();
        let (redis, after) = rest.split_once("\n\n").unwrap();
        assert_eq!(problems(&opened(&format!("{before}\n{after}"))), "");
        // The other store has the place of the embedded one, and is reached in one of three ways, with
        // every option.
        let before = before.split_once("kind = \"embedded\"").unwrap().0;
        let redis =
            redis.replace("redis://", "rediss://").replace("= \"refuse\"", "= \"serve-cached\"");
        for left_out in [
            &["sentinel", "master", "cluster", "database"][..],
            &["url", "cluster", "sentinel_password"],
            &["url", "sentinel", "master"],
        ] {
            let stays =
                |line: &&str| !left_out.iter().any(|key| line.starts_with(&format!("# {key}")));
            let block: Vec<_> = redis.lines().skip(1).filter(stays).collect();
            let block = block.join("\n").replace("{ file = \"/run/secrets/redis\" }", "\"secret\"");
            assert_eq!(problems(&opened(&format!("{before}\n{block}\n{after}"))), "");
        }
    }

    /// The text with every commented key made one. A commented key is `# key = value`; prose comments
    /// have no `=` after their first word.
    fn opened(text: &str) -> String {
        let open = |line: &str| {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let first = bare.split_whitespace().nth(1);
            let is_key = bare.starts_with('[') || first == Some("=");
            format!("{}\n", if is_key { bare } else { line })
        };
        let opened: String = text.lines().map(open).collect();
        // No such file here.
        opened.replace(
            "{ file = \"certs/ticket.secret\" }",
            "\"a secret of thirty-two bytes and more\"",
        )
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let text = MINIMAL
            .replace("public_url", "public_ulr")
            .replace("upstream = \"app\"", "upstream = \"ap\"")
            .replace("\"authenticated\"", "\"all\"");
        let found = problems(&text);
        for part in [
            "config.toml:3:1: unknown key `server.public_ulr`",
            "did you mean `public_url`?",
            "did you mean \"app\"?",
            "`allow` cannot be \"all\"",
        ] {
            assert!(found.contains(part), "{part} is not in\n{found}");
        }
    }

    #[test]
    fn routes_that_cannot_be_meant_are_refused() {
        let route = |lines: &str| {
            format!("{MINIMAL}[[route]]\nupstream = \"app\"\nallow = \"anyone\"\n{lines}")
        };
        for (lines, what) in [
            ("path = \"/\"", "this route is hidden by another one"),
            ("path = \"/auth/x\"", "own pages"),
            ("path = \"/Auth\"", "own pages"),
            ("path = \"x\"", "path"),
            ("path = \"/a\"\nhost = \"a b\"", "not a host"),
            ("path = \"/a\"\nmethods = [\"get\"]", "not a method"),
            ("path = \"/a\"\nmethods = []", "without a method"),
        ] {
            let found = problems(&route(lines));
            assert!(found.contains(what), "{lines}: {found}");
        }
        let listen = "listen = [\"127.0.0.1:8443\"]";
        let shared = MINIMAL.replace(listen, &format!("{listen}\nadmin = \"127.0.0.1:8443\""));
        assert!(problems(&shared).contains("admin pages"), "{}", problems(&shared));
        let secret = MINIMAL.replace("//localhost", "//user:pass@localhost");
        assert!(
            problems(&secret).contains("without a path or a password"),
            "{}",
            problems(&secret)
        );
        let nowhere = MINIMAL.replace("[\"127.0.0.1:8443\"]", "[]");
        assert!(problems(&nowhere).contains("listens nowhere"), "{}", problems(&nowhere));
        let lenient = MINIMAL.replace("path = \"/\"", "path = \"/\"\nallow_encoded_slash = true");
        assert_eq!(problems(&lenient), "");
        let below = format!(
            "{lenient}[[route]]\npath = \"/admin\"\nupstream = \"app\"\nallow = \"anyone\"\n"
        );
        assert!(problems(&below).contains("allows ambiguous targets"), "{}", problems(&below));
    }
}
