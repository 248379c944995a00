//! `portcullis attack`: tries the project's hostile corpus on an operator's own rules, and says which apps could
//! be misled behind them.
//!
//! A second gateway is started on a loopback port with the operator's routes, hosts, headers and limits; every
//! app is replaced by an echo. Store, users, certificates and logs are not touched. Only when an upstream is
//! named are requests sent to a real app: few, slowly, and with GET only.

mod client;
mod direct;
mod echo;
mod headers;
mod hosts;
mod paths;
mod readings;
mod report;
mod sandbox;
mod targets;

use std::path::Path;

use self::client::Gate;
use self::echo::Echo;
pub(super) use self::report::Report;
use self::sandbox::Sandbox;
use crate::config::Config;
use crate::route::Route;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Options {
    /// The app to which direct requests go, too.
    pub(super) upstream: Option<String>,
    /// Whom forged headers name.
    pub(super) user: String,
}

/// The second gateway, and what the attacks need to know.
struct Stand<'a> {
    config: &'a Config,
    gate: Gate,
    echo: Echo,
    _sandbox: Sandbox,
}

/// Attacks the rules of the configuration in `file`.
///
/// # Errors
/// Why nothing could be tried, in words.
pub(super) fn attack(file: &Path, options: &Options) -> Result<Report, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let config = Config::parse(file, text.clone()).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let named = options.upstream.as_ref().map(|name| {
        let found = config.upstreams.iter().find(|upstream| upstream.name == *name);
        found.ok_or_else(|| format!("no [[upstream]] is named \"{name}\""))
    });
    let named = named.transpose()?;
    let echo = Echo::start().map_err(|error| format!("no echo: {error}"))?;
    let sandbox = Sandbox::start(&text, echo.address())?;
    let gate = Gate::new(sandbox.address(), sandbox.certificate())?;
    let mut stand = Stand { config: &config, gate, echo, _sandbox: sandbox };
    let mut report = Report::new(file);
    paths::attack(&mut stand, &mut report)?;
    hosts::attack(&mut stand, &mut report)?;
    headers::attack(&mut stand, &mut report)?;
    if let Some(upstream) = named {
        direct::attack(&config, upstream, &options.user, &mut report)?;
    }
    Ok(report)
}

/// A host as a client names it, and the routes that serve it.
struct Served<'a> {
    host: String,
    routes: Vec<&'a Route>,
}

/// Every host of the configuration.
fn served(config: &Config) -> Vec<Served<'_>> {
    let routes = config.table.router.routes();
    let own = config.server.hosts.first().cloned().unwrap_or_default();
    let mut all: Vec<Served<'_>> = vec![Served { host: own, routes: Vec::new() }];
    for host in routes.iter().filter_map(|route| route.host.as_deref()) {
        let host = host.strip_prefix("*.").map_or(host.to_owned(), |rest| format!("attack.{rest}"));
        if !all.iter().any(|served| served.host == host) {
            all.push(Served { host, routes: Vec::new() });
        }
    }
    for served in &mut all {
        served.routes = routes.iter().filter(|route| serves(config, route, &served.host)).collect();
    }
    all.retain(|served| !served.routes.is_empty());
    all
}

fn serves(config: &Config, route: &Route, host: &str) -> bool {
    match route.host.as_deref() {
        None => config.server.hosts.iter().any(|own| own == host),
        Some(pattern) => match pattern.strip_prefix('*') {
            Some(suffix) => host.strip_suffix(suffix).is_some_and(|label| !label.contains('.')),
            None => pattern == host,
        },
    }
}

/// Whether the route's rule lets everybody in.
fn is_open(config: &Config, route: &Route) -> bool {
    config.table.rules.get(route.index).is_some_and(crate::policy::Rule::is_open)
}

/// Whether the route takes GET.
fn takes_get(route: &Route) -> bool {
    route.methods.is_empty() || route.methods.contains(&http::Method::GET)
}

impl Stand<'_> {
    /// Sends GETs and gives what of them reached the echo.
    fn send(
        &mut self,
        host: &str,
        requests: impl IntoIterator<Item = (String, String)>,
        report: &mut Report,
    ) -> Result<Vec<echo::Seen>, String> {
        self.echo.take();
        for (target, lines) in requests {
            let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n");
            report.requests += 1;
            self.gate.ask(&head).map_err(|error| format!("the second gateway: {error}"))?;
        }
        let seen = self.echo.take();
        report.reached += seen.len();
        Ok(seen)
    }
}
