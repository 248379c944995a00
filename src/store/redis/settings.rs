//! Reads the `[store]` table of `kind = "redis"`.
//!
//! Addresses may carry a user and a password; neither is ever shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use url::{Host, Url};

use super::connect::{Account, Dialer, Server};
use super::find::Sentinels;
use crate::secret::Secret;
use crate::section::{Placed, Problem, Section};
use crate::tls::{ClientFiles, client_config_with};

/// The default of `prefix`.
const PREFIX: &str = "portcullis:";
/// Limit on a store operation.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Which servers there are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Single(Server),
    Sentinels { master: String, servers: Vec<Server>, account: Account },
    Cluster(Vec<Server>),
}

/// The settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) place: Place,
    pub(super) account: Account,
    pub(super) database: i64,
    tls: Option<Tls>,
    pub(super) prefix: String,
    pub(super) timeout: Duration,
    /// For how long cached sessions are served without a proof; zero is never.
    pub(super) stale: Duration,
    /// Replicas that must have a change before it is answered.
    pub(super) replicas: u32,
}

#[derive(Clone, Debug, Default)]
struct Tls {
    ca: Option<PathBuf>,
    client: Option<ClientFiles>,
    server_name: Option<String>,
}

/// One address as it is written.
#[derive(Default)]
struct Address {
    server: Option<Server>,
    tls: bool,
    database: Option<i64>,
    account: Account,
}

impl Settings {
    pub(super) fn read(section: &mut Section) -> Self {
        let single = section.text("url");
        let (sentinels, cluster) = (section.texts("sentinels"), section.texts("cluster"));
        let given = [single.is_some(), !sentinels.is_empty(), !cluster.is_empty()];
        if given.iter().filter(|given| **given).count() != 1 {
            let what = "the store needs one of `url`, `sentinels` and `cluster`";
            section.problem("kind", what, "add `url = \"redis://127.0.0.1:6379/0\"`");
        }
        let texts: Vec<_> = single.iter().chain(&sentinels).chain(&cluster).collect();
        let addresses: Vec<_> = texts.iter().map(|text| address(section, text)).collect();
        let database = database(section, &texts, &addresses, !cluster.is_empty());
        let tls = tls(section, &texts, &addresses);
        let account = account(section, "user", "password");
        let first = addresses.first().map(|first| first.account.clone()).unwrap_or_default();
        let servers: Vec<_> = addresses.into_iter().filter_map(|one| one.server).collect();
        let master = section.text("master").map(|master| master.value);
        let (own, place) = if !sentinels.is_empty() {
            if master.is_none() {
                let what = "`master` is missing: the name that the sentinels know the master by";
                section.problem("sentinels", what, "add `master = \"mymaster\"`");
            }
            let mut other = self::account(section, "sentinel_user", "sentinel_password");
            other.user = other.user.or(first.user);
            other.password = other.password.or(first.password);
            let master = master.unwrap_or_default();
            (Account::default(), Place::Sentinels { master, servers, account: other })
        } else {
            for key in ["master", "sentinel_user", "sentinel_password"] {
                section.refuse(key, &format!("`{key}` needs `sentinels`"), "leave it out");
            }
            let nowhere = Server::Tcp(String::new(), 0);
            let place = match cluster.is_empty() {
                true => Place::Single(servers.into_iter().next().unwrap_or(nowhere)),
                false => Place::Cluster(servers),
            };
            (first, place)
        };
        let account = Account {
            user: account.user.or(own.user),
            password: account.password.or(own.password),
        };
        if account.user.is_some() && account.password.is_none() {
            section.problem(
                "user",
                "`user` needs `password`",
                "add `password = { file = \"...\" }`",
            );
        }
        let replicas = section.count("replicas", u64::from(single.is_none()), 0..=16);
        Self {
            place,
            account,
            database,
            tls,
            prefix: prefix(section),
            timeout: section.duration("timeout", TIMEOUT, Duration::from_millis(10)..=TIMEOUT),
            stale: stale(section),
            replicas: u32::try_from(replicas).unwrap_or(1),
        }
    }

    /// How servers are connected to, and how sentinels.
    ///
    /// # Errors
    /// A certificate file that cannot be used.
    pub(super) fn dialer(&self) -> Result<Dialer, Problem> {
        Ok(Dialer {
            account: self.account.clone(),
            database: self.database,
            tls: self.tls.as_ref().map(Tls::config).transpose()?,
            server_name: self.tls.as_ref().and_then(|tls| tls.server_name.clone()),
        })
    }

    /// The sentinels, reached by connections like those of `dialer`.
    pub(super) fn sentinels(&self, dialer: &Dialer) -> Option<Arc<Sentinels>> {
        let Place::Sentinels { master, servers, account } = &self.place else { return None };
        let (master, servers) = (master.clone(), servers.clone());
        let dialer = Dialer { account: account.clone(), database: 0, ..dialer.clone() };
        Some(Arc::new(Sentinels { master, servers, dialer }))
    }
}

impl Tls {
    fn config(&self) -> Result<Arc<ClientConfig>, Problem> {
        client_config_with(self.ca.as_deref(), self.client.as_ref(), &[])
    }
}

fn account(section: &mut Section, user: &'static str, password: &'static str) -> Account {
    Account { user: section.text(user).map(|user| user.value), password: section.secret(password) }
}

fn prefix(section: &mut Section) -> String {
    let Some(text) = section.text("prefix") else { return PREFIX.to_owned() };
    if text.value.is_empty() || text.value.len() > 64 || text.value.contains(['{', '}', '\0']) {
        let what = "`prefix` must have 1 to 64 bytes and no braces";
        section.problem_at(&text, what, format!("write it like \"{PREFIX}\""));
        return PREFIX.to_owned();
    }
    text.value
}

fn stale(section: &mut Section) -> Duration {
    let bound = Duration::from_secs(1)..=Duration::from_secs(3600);
    let wanted = section.has("serve_cached_for");
    let limit = section.duration("serve_cached_for", Duration::from_secs(60), bound);
    let serves = match section.text("on_outage") {
        None => false,
        Some(text) => match text.value.as_str() {
            "refuse" => false,
            "serve-cached" => true,
            other => {
                let what = format!("`on_outage` cannot be \"{other}\"");
                section.problem_at(&text, what, "use \"refuse\" or \"serve-cached\"");
                false
            }
        },
    };
    if wanted && !serves {
        let what = "`serve_cached_for` has no effect without `on_outage = \"serve-cached\"`";
        section.problem("serve_cached_for", what, "add that, or leave this out");
    }
    if serves { limit } else { Duration::ZERO }
}

fn database(
    section: &mut Section,
    texts: &[&Placed<String>],
    addresses: &[Address],
    cluster: bool,
) -> i64 {
    let own = section.has("database");
    let number = section.count("database", 0, 0..=1_000_000);
    let in_url = texts.iter().zip(addresses).find(|(_, address)| address.database.is_some());
    if cluster {
        let what = "a Redis Cluster has only database 0";
        let remedy = "leave the number out, and use `prefix` to keep apart what shares the Cluster";
        if number != 0 {
            section.problem("database", what, remedy);
        }
        if let Some((text, address)) = in_url
            && address.database != Some(0)
        {
            section.problem_at(text, what, remedy);
        }
        return 0;
    }
    match in_url.and_then(|(_, address)| address.database) {
        Some(_) if own => {
            section.problem("database", "the database is in the address already", "leave one out");
            0
        }
        Some(number) => number,
        None => i64::try_from(number).unwrap_or(0),
    }
}

fn tls(section: &mut Section, texts: &[&Placed<String>], addresses: &[Address]) -> Option<Tls> {
    let wanted = addresses.iter().any(|address| address.tls);
    if let Some((text, _)) =
        texts.iter().zip(addresses).find(|(_, one)| one.tls != wanted && one.server.is_some())
    {
        let what = "some addresses have TLS and others have not";
        section.problem_at(text, what, "write \"rediss://\" in all of them");
    }
    if !wanted {
        for key in ["ca", "client_cert", "client_key", "server_name"] {
            section.refuse(key, &format!("`{key}` needs TLS"), "write the address with rediss://");
        }
        return None;
    }
    let ca = section.path("ca");
    let client = match (section.path("client_cert"), section.path("client_key")) {
        (Some(cert), Some(key)) => Some(ClientFiles { cert, key }),
        (None, None) => None,
        _ => {
            let what = "`client_cert` and `client_key` belong together";
            section.problem("client_cert", what, "give both or none");
            None
        }
    };
    Some(Tls { ca, client, server_name: section.text("server_name").map(|name| name.value) })
}

fn address(section: &Section, text: &Placed<String>) -> Address {
    match parse(&text.value, section.base()) {
        Ok(address) => address,
        Err(what) => {
            // The text itself may hold a password.
            let remedy = "write \"redis://host:6379/0\", \"rediss://host:6379\" or \
                          \"unix:///run/redis.sock\"";
            section.problem_at(text, what, remedy);
            Address::default()
        }
    }
}

fn parse(text: &str, base: &Path) -> Result<Address, &'static str> {
    let url = Url::parse(text).map_err(|_| "the address of the store is not a URL")?;
    let (tls, unix) = match url.scheme() {
        "redis" | "valkey" => (false, false),
        "rediss" | "valkeys" => (true, false),
        "unix" | "redis+unix" => (false, true),
        _ => return Err("the address of the store is of an unknown kind"),
    };
    if url.fragment().is_some() || (url.query().is_some() && !unix) {
        return Err("the address of the store has settings in it that are not known");
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(String::from);
    let unsound = "the user or the password in the store's address is not sound";
    let user = Some(url.username()).filter(|user| !user.is_empty());
    let user = user.map(|user| decoded(user).ok_or(unsound)).transpose()?;
    let password = url.password().map(|word| decoded(word).ok_or(unsound)).transpose()?;
    let account = Account { user, password: password.map(Secret::new) };
    if unix {
        let path = decoded(url.path()).ok_or("the path of the socket is not sound")?;
        if path.is_empty() || path == "/" {
            return Err("the address of the store names no socket");
        }
        let database = url.query_pairs().find(|(key, _)| key == "db").map(|(_, db)| db.parse());
        let database = database.transpose().map_err(|_| "the database is not a number")?;
        let server = Some(Server::Unix(base.join(path)));
        return Ok(Address { server, tls, database, account });
    }
    let host = match url.host().ok_or("the address of the store names no host")? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
    };
    if host.is_empty() {
        return Err("the address of the store names no host");
    }
    let database = match url.path().trim_matches('/') {
        "" => None,
        number => Some(number.parse::<u32>().map_err(|_| "the database is not a number")?),
    };
    let server = Some(Server::Tcp(host, url.port().unwrap_or(6379)));
    Ok(Address { server, tls, database: database.map(i64::from), account })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Problems;

    fn read(text: &str) -> (Settings, Vec<String>) {
        let problems = Problems::default();
        let file = Path::new("/etc/portcullis/c.toml");
        let mut root = Section::parse(file, format!("[store]\n{text}"), &problems);
        let mut table = root.table("store");
        let _ = table.text("kind");
        let settings = Settings::read(&mut table);
        drop((table, root));
        (settings, problems.list().iter().map(ToString::to_string).collect())
    }

    fn sound(text: &str) -> Settings {
        let (settings, problems) = read(text);
        assert!(problems.is_empty(), "{text}: {problems:#?}");
        settings
    }

    #[test]
    fn an_address_carries_user_password_and_database() {
        let read = sound("url = \"redis://gate%40:p%2Fw%3A@[::1]:7000/9\"");
        assert_eq!(read.account.user.as_deref(), Some("gate@"));
        assert_eq!(read.account.password.as_ref().map(Secret::expose), Some("p/w:"));
        assert_eq!(read.database, 9);
        let Place::Single(server) = &read.place else { panic!() };
        assert_eq!(server.to_string(), "[::1]:7000");
        assert!(!format!("{read:?}").contains("p/w"), "{read:?}");
        let read = sound("url = \"unix:///run/r.sock?db=2\"");
        assert_eq!(read.database, 2);
        let Place::Single(server) = &read.place else { panic!() };
        assert_eq!(server.to_string(), "/run/r.sock");
        assert_eq!((read.replicas, read.stale), (0, Duration::ZERO));
    }

    #[test]
    fn sentinels_have_an_account_of_their_own() {
        let read = sound(
            "sentinels = [\"redis://:sp@s1:26379\", \"redis://s2:26379\"]\nmaster = \"m\"\n\
             user = \"u\"\npassword = \"p\"\non_outage = \"serve-cached\"\n",
        );
        assert_eq!(read.account.password.as_ref().map(Secret::expose), Some("p"));
        let Place::Sentinels { master, servers, account } = &read.place else { panic!() };
        assert_eq!((master.as_str(), servers.len()), ("m", 2));
        assert_eq!(account.password.as_ref().map(Secret::expose), Some("sp"));
        assert_eq!((read.replicas, read.stale), (1, Duration::from_secs(60)));
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_its_place_and_no_password() {
        for (text, what) in [
            ("", "one of `url`, `sentinels` and `cluster`"),
            ("url = \"redis://a\"\ncluster = [\"redis://b\"]", "one of `url`"),
            ("url = \"http://u:s3cret@a\"", "of an unknown kind"),
            ("url = \"s3cret@a:6379\"", "not a URL"),
            ("url = \"redis://u:s3cret@a/x\"", "database is not a number"),
            ("url = \"redis://u:s3cret@a?protocol=2\"", "settings in it"),
            ("url = \"redis://u@a\"", "`user` needs `password`"),
            ("url = \"redis://a/1\"\ndatabase = 2", "in the address already"),
            ("cluster = [\"redis://a\"]\ndatabase = 2", "only database 0"),
            ("cluster = [\"redis://a/2\"]", "only database 0"),
            ("cluster = [\"redis://a\", \"rediss://b\"]", "some addresses have TLS"),
            ("sentinels = [\"redis://a\"]", "`master` is missing"),
            ("url = \"redis://a\"\nmaster = \"m\"", "needs `sentinels`"),
            ("url = \"redis://a\"\nca = \"x.pem\"", "needs TLS"),
            ("url = \"rediss://a\"\nclient_cert = \"x.pem\"", "belong together"),
            ("url = \"redis://a\"\nprefix = \"{x}\"", "no braces"),
            ("url = \"redis://a\"\ntimeout = \"2s\"", "out of range"),
            ("url = \"redis://a\"\non_outage = \"serve\"", "cannot be"),
            ("url = \"redis://a\"\nserve_cached_for = \"5s\"", "no effect"),
            ("url = \"redis://a\"\npath = \"data\"", "unknown key"),
        ] {
            let (_, problems) = read(text);
            assert!(problems.iter().any(|one| one.contains(what)), "{text}: {problems:#?}");
            assert!(!problems.concat().contains("s3cret"), "{problems:#?}");
            assert!(problems.iter().all(|one| one.contains("c.toml:") && one.contains("fix:")));
        }
    }
}
