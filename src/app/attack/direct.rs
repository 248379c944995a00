//! Requests straight to a configured app: whether it takes traffic that skips the gateway, and how it reads
//! paths. Only GET, one at a time, slowly.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::client::{Answer, connect, exchange};
use super::paths;
use super::report::{Finding, Report};
use crate::config::Config;
use crate::route::{Route, Target};
use crate::tls::client_config;
use crate::upstream::{Protocol, Settings};

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(25);
/// So many routes are tried.
const ROUTES: usize = 12;

type Form = fn(&str) -> String;

/// Other ways to write `/NAME/REST`, which the gateway may let pass, with what an app does that answers alike.
const FORMS: &[(&str, Form)] = &[
    ("ignores the case of letters", str::to_ascii_uppercase),
    ("ignores a slash at the end", |path| format!("{}/", path.trim_end_matches('/'))),
    ("cuts parameters off", |path| format!("{};x=y", path.trim_end_matches('/'))),
    ("merges slashes", |path| path.replacen('/', "//", 1)),
    ("cuts dots at the end", |path| format!("{}.", path.trim_end_matches('/'))),
    ("decodes letters", |path| encoded(path, "%")),
    ("decodes letters twice", |path| encoded(path, "%25")),
    ("resolves encoded dot segments", |path| format!("/attack/%2e%2e{path}")),
    ("decodes %2f before it resolves dot segments", |path| {
        format!("/attack/..%2f{}", path.trim_start_matches('/'))
    }),
    ("takes a backslash for a slash", |path| {
        format!("/attack/..\\{}", path.trim_start_matches('/'))
    }),
    ("cuts the path at %00", |path| format!("{}%00", path.trim_end_matches('/'))),
    ("decodes overlong UTF-8", |path| format!("/attack/%c0%ae%c0%ae{path}")),
];

struct App {
    address: SocketAddr,
    host: String,
    /// What the gateway would put into `Host`.
    site: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

pub(super) fn attack(
    config: &Config,
    upstream: &Settings,
    user: &str,
    report: &mut Report,
) -> Result<(), String> {
    if upstream.protocol == Protocol::Http2 || upstream.whoami {
        report.notes.push(format!("{} is not asked: only HTTP/1.1 apps are", upstream.name));
        return Ok(());
    }
    let app = App::find(config, upstream)?;
    let routes = config.table.router.routes().iter();
    let routes: Vec<&Route> = routes.filter(|route| route.upstream == upstream.name).collect();
    if routes.len() > ROUTES {
        report.notes.push(format!("{} routes were not tried directly", routes.len() - ROUTES));
    }
    for route in routes.iter().take(ROUTES) {
        skipping(config, &app, route, user, report)?;
    }
    let first = routes.iter().find(|route| route.path.trim_matches('/').len() > 1);
    match first {
        Some(route) => normalising(&app, route, report),
        None => {
            let name = &upstream.name;
            report.notes.push(format!("how {name} reads paths cannot be told: its only path is /"));
            Ok(())
        }
    }
}

/// Whether the app takes somebody for `user` because a header says so.
fn skipping(
    config: &Config,
    app: &App,
    route: &Route,
    user: &str,
    report: &mut Report,
) -> Result<(), String> {
    let names = config.table.headers.identity_names();
    let forged: String = names.map(|name| format!("{name}: {user}\r\n")).collect();
    let (path, host) = (&route.path, &app.host);
    let first = app.get(path, "", report)?;
    let second = app.get(path, "", report)?;
    let third = app.get(path, &forged, report)?;
    let steady = first == second;
    let same = (first.status, &first.location) == (third.status, &third.location)
        && (!steady || first.body == third.body);
    if !same {
        report.findings.push(Finding {
            code: "skips-the-gateway",
            what: format!(
                "{} answers at {host} without the gateway, and differently to who says that they are {user} \
                 ({} before, {} with identity headers): whoever reaches that address can be anybody",
                paths::describe(route),
                first.status,
                third.status,
            ),
            example: format!("GET http://{host}{path} with the identity headers of {user}"),
            fix: "let only the gateway reach the app: a firewall, a private network, or a socket of its own"
                .to_owned(),
        });
    } else if matches!(first.status, 200..=299) && !super::is_open(config, route) {
        report.findings.push(Finding {
            code: "open-without-the-gateway",
            what: format!(
                "{} is closed here, and {host} answers it with {} to everybody who reaches it",
                paths::describe(route),
                first.status,
            ),
            example: format!("GET http://{host}{path}"),
            fix: "let only the gateway reach the app: a firewall, a private network, or a socket of its own"
                .to_owned(),
        });
    }
    Ok(())
}

/// How the app reads paths: which other forms it answers as the plain one.
fn normalising(app: &App, route: &Route, report: &mut Report) -> Result<(), String> {
    let path = route.path.trim_end_matches('/');
    let plain = app.get(path, "", report)?;
    let nothing = app.get("/portcullis-attack-nothing", "", report)?;
    if plain.status == nothing.status && plain.body.len() == nothing.body.len() {
        let text =
            format!("how it reads paths cannot be told: {path} and what is not there look alike");
        report.notes.push(text);
        return Ok(());
    }
    for (what, form) in FORMS {
        let target = form(path);
        let answer = app.get(&target, "", report)?;
        if answer.status == plain.status && answer.body == plain.body {
            let gateway = match Target::parse(&target) {
                Ok(parsed) if parsed.permitted_by(&route.leniency, &route.prefix).is_ok() => {
                    "the gateway lets it pass on the same route"
                }
                _ => "the gateway refuses it",
            };
            report.notes.push(format!("the app {what}: {target} is {path} ({gateway})"));
        }
    }
    Ok(())
}

fn encoded(path: &str, with: &str) -> String {
    let letter = path.char_indices().find(|(_, c)| c.is_ascii_alphabetic());
    let Some((at, c)) = letter else { return path.to_owned() };
    let (before, behind) = path.split_at(at);
    format!("{before}{with}{:02x}{}", u32::from(c), behind.get(1..).unwrap_or_default())
}

impl App {
    fn find(config: &Config, upstream: &Settings) -> Result<Self, String> {
        let target = upstream.addresses.first().ok_or("the upstream has no address")?;
        let host = format!("{}:{}", target.host, target.port);
        let mut found = (target.host.as_str(), target.port)
            .to_socket_addrs()
            .map_err(|error| format!("{host}: {error}"))?;
        let address = found.next().ok_or_else(|| format!("{host} has no address"))?;
        let tls = if target.tls {
            let settings = client_config(upstream.ca.as_deref(), &[b"http/1.1"]);
            let settings = settings.map_err(|problem| problem.to_string())?;
            let name = upstream.server_name.clone().unwrap_or_else(|| target.host.clone());
            let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
            Some((settings, name))
        } else {
            None
        };
        let site = config.server.hosts.first().cloned().unwrap_or_default();
        Ok(Self { address, host, site, tls })
    }

    fn get(&self, target: &str, lines: &str, report: &mut Report) -> Result<Answer, String> {
        thread::sleep(PAUSE);
        report.requests += 1;
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: portcullis-attack\r\nAccept: */*\r\n{lines}\
             Connection: close\r\n\r\n",
            self.site
        );
        self.exchange(&head).map_err(|error| format!("{}: {error}", self.host))
    }

    fn exchange(&self, head: &str) -> io::Result<Answer> {
        let mut tcp = connect(self.address)?;
        let Some((settings, name)) = &self.tls else { return exchange(&mut tcp, head) };
        let connection = ClientConnection::new(Arc::clone(settings), name.clone());
        exchange(&mut StreamOwned::new(connection.map_err(io::Error::other)?, tcp), head)
    }
}
