//! Where connections come from: addresses, sockets, the accept loop, the PROXY protocol.
//!
//! Hands on a connected stream with its peer; knows neither TLS nor HTTP.

mod accept;
mod bind;
mod gate;
mod proxy;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

pub use self::accept::{Peer, accept_loop};
pub use self::bind::{bind, bind_all, raise_nofile};
pub use self::gate::{ConnectionGate, ConnectionPermit, Tally};
pub use self::proxy::ProxyRules;
use crate::section::{Placed, Section};

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TLS: the gateway proper.
    Https,
    /// Plain HTTP that only points to the HTTPS address.
    Redirect,
}

/// One address to listen on.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address; port 0 lets the system choose. `[::]` also takes IPv4.
    pub address: SocketAddr,
    /// What is spoken there.
    pub kind: Kind,
    /// Whether connections begin with a PROXY header, and from whom.
    pub proxy: Option<Arc<ProxyRules>>,
}

/// What the configuration says about listeners.
#[derive(Clone, Debug)]
pub struct Settings {
    /// At least one address.
    pub listeners: Vec<Listen>,
    /// How many client connections may be open at once, over all listeners and workers.
    pub max_connections: usize,
}

impl Settings {
    /// Reads `listen`, `http` and `max_connections` of `[server]`, and the tables `[[listener]]`,
    /// which have the keys `address`, `http` (a flag), `proxy_protocol` (a flag) and `trusted` (the
    /// networks of the load balancers).
    pub fn read(server: &mut Section, tables: Vec<Section>) -> Self {
        let mut listeners = Vec::new();
        for (key, kind) in [("listen", Kind::Https), ("http", Kind::Redirect)] {
            for address in server.parsed_list::<SocketAddr>(key, "127.0.0.1:8443") {
                add(&mut listeners, server, address, kind, None);
            }
        }
        for mut table in tables {
            read_table(&mut table, &mut listeners);
        }
        if !server.has("listen") && !listeners.iter().any(|listen| listen.kind == Kind::Https) {
            let address = SocketAddr::from(([127, 0, 0, 1], 8443));
            listeners.push(Listen { address, kind: Kind::Https, proxy: None });
        }
        if server.has("listen") && !listeners.iter().any(|listen| listen.kind == Kind::Https) {
            let remedy = "name an address: listen = [\"127.0.0.1:8443\"]";
            server.problem("listen", "nobody can reach a gateway that listens nowhere", remedy);
        }
        let max = server.count("max_connections", 10_000, 1..=10_000_000);
        Self { listeners, max_connections: usize::try_from(max).unwrap_or(usize::MAX) }
    }
}

fn read_table(table: &mut Section, listeners: &mut Vec<Listen>) {
    const EXAMPLE: &str = "0.0.0.0:8443";
    let kind = if table.flag("http", false) { Kind::Redirect } else { Kind::Https };
    let proxied = table.flag("proxy_protocol", false);
    let trusted: Vec<Placed<Network>> = table.parsed_list("trusted", "10.0.0.0/8");
    if proxied && trusted.is_empty() {
        table.problem(
            "proxy_protocol",
            "`proxy_protocol` without `trusted`: anyone could claim any client address",
            "name the load balancers: trusted = [\"10.0.0.0/8\"]",
        );
    } else if !proxied && !trusted.is_empty() {
        let remedy = "add `proxy_protocol = true`, or remove `trusted`";
        table.problem("trusted", "`trusted` has no effect without `proxy_protocol`", remedy);
    }
    let rules = || {
        let networks = trusted.iter().map(|network| network.value.0).collect();
        Arc::new(ProxyRules::new(networks))
    };
    let proxy = proxied.then(rules);
    if !table.has("address") {
        table.required("address", EXAMPLE);
    } else if let Some(address) = table.parsed::<SocketAddr>("address", EXAMPLE) {
        add(listeners, table, address, kind, proxy);
    }
}

fn add(
    listeners: &mut Vec<Listen>,
    section: &Section,
    address: Placed<SocketAddr>,
    kind: Kind,
    proxy: Option<Arc<ProxyRules>>,
) {
    let value = address.value;
    if value.port() != 0 && listeners.iter().any(|listen| listen.address == value) {
        let remedy = "listen on every address once";
        section.problem_at(&address, format!("the address {value} is used twice"), remedy);
        return;
    }
    listeners.push(Listen { address: value, kind, proxy });
}

/// A network, or a single address as the smallest one.
#[derive(Clone, Copy, Debug)]
struct Network(IpNet);

#[derive(Debug)]
struct NotANetwork;

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither an address nor a network")
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| single()).map(Self).map_err(|_| NotANetwork)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::section::Problems;

    fn read(text: &str) -> (Settings, Vec<String>) {
        let problems = Problems::default();
        let mut root = Section::parse(Path::new("c.toml"), text.to_owned(), &problems);
        let mut server = root.table("server");
        let tables = root.tables("listener");
        let settings = Settings::read(&mut server, tables);
        drop((server, root));
        (settings, problems.list().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn without_a_word_there_is_one_local_listener() {
        let (settings, problems) = read("");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(settings.listeners.len(), 1);
        assert_eq!(settings.listeners[0].address.to_string(), "127.0.0.1:8443");
        assert_eq!(settings.listeners[0].kind, Kind::Https);
    }

    #[test]
    fn all_forms_are_read() {
        let (settings, problems) = read(
            "[server]\nlisten = [\"[::1]:443\"]\nhttp = [\"127.0.0.1:80\"]\nmax_connections = 7\n\
             [[listener]]\naddress = \"0.0.0.0:444\"\nproxy_protocol = true\n\
             trusted = [\"10.0.0.0/8\", \"fd00::1\"]\n\
             [[listener]]\naddress = \"0.0.0.0:81\"\nhttp = true\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        let seen: Vec<_> = settings
            .listeners
            .iter()
            .map(|listen| (listen.address.port(), listen.kind, listen.proxy.is_some()))
            .collect();
        let (https, redirect) = (Kind::Https, Kind::Redirect);
        let wanted =
            [(443, https, false), (80, redirect, false), (444, https, true), (81, redirect, false)];
        assert_eq!(seen, wanted);
        assert_eq!(settings.max_connections, 7);
        let rules = settings.listeners[2].proxy.as_ref().unwrap();
        assert!(rules.trusts("10.1.2.3".parse().unwrap()));
        assert!(rules.trusts("::ffff:10.1.2.3".parse().unwrap()));
        assert!(rules.trusts("fd00::1".parse().unwrap()));
        assert!(!rules.trusts("fd00::2".parse().unwrap()));
    }

    #[test]
    fn mistakes_are_reported_with_their_place() {
        let (_, problems) = read(
            "[server]\nlisten = [\"localhost\", \"127.0.0.1:1\", \"127.0.0.1:1\"]\n\
             [[listener]]\nproxy_protocol = true\n\
             [[listener]]\naddress = \"127.0.0.1:2\"\ntrusted = [\"10.0.0.0/40\"]\nport = 3\n\
             [[listener]]\naddress = \"127.0.0.1:4\"\ntrusted = [\"10.0.0.0/8\"]\n",
        );
        let places: Vec<_> =
            problems.iter().map(|problem| problem.split(": ").next().unwrap().to_owned()).collect();
        let wanted = [
            "c.toml:2:11",
            "c.toml:2:39",
            "c.toml:3:1",
            "c.toml:4:1",
            "c.toml:7:12",
            "c.toml:8:1",
            "c.toml:11:1",
        ];
        assert_eq!(places, wanted, "{problems:#?}");
    }
}
