//! `explain`: which route and rule decide about a request, and why.
//!
//! Asks the configuration and the users file, not the running gateway.

use std::net::IpAddr;
use std::path::Path;

use clap::Args;
use http::{HeaderMap, Method};
use url::Url;

use super::Error;
use super::out::say;
use crate::api::{Head, Owns};
use crate::config::Config;
use crate::directory::Users;
use crate::route::{Found, Target};
use crate::session::{Directory, Identity, user_claim};

/// A request that somebody might make.
#[derive(Args, Debug)]
pub(super) struct Question {
    /// Login name; without it, nobody is signed in.
    #[arg(long)]
    user: Option<String>,
    /// Active claim, such as group/ops.
    #[arg(long)]
    claim: Option<String>,
    /// Request method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// Client address.
    #[arg(long, default_value = "127.0.0.1")]
    ip: IpAddr,
    /// URL, or a path on the public host.
    url: String,
}

pub(super) fn explain(file: &Path, question: &Question) -> Result<(), Error> {
    let config = Config::load(file)?;
    let method = Method::from_bytes(question.method.to_ascii_uppercase().as_bytes());
    let method = method.map_err(|_| Error::usage("that is not a method"))?;
    let (host, path) = place(&config, &question.url)?;
    say(format!("request   {method} https://{host}{path}"))?;
    let target = match Target::parse(&path) {
        Ok(target) => target,
        Err(error) => return conclude("400", &format!("refused before any route: {error}")),
    };
    let mount = &config.browser.mount;
    let canonical = target.canonical();
    let own = canonical.strip_prefix(mount.as_str());
    if own.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return conclude("own", &format!("the gateway's own pages at {mount}: everybody"));
    }
    if let Some(mount) = config.mounts.iter().find(|mount| mount.covers(&host, &canonical)) {
        let (api, at) = (mount.dialect.name(), &mount.prefix);
        let rest = canonical.strip_prefix(at.as_str()).filter(|rest| !rest.is_empty());
        let (path, query) = (rest.unwrap_or("/"), path.split_once('?').map(|(_, query)| query));
        let (headers, has_body) = (&HeaderMap::new(), !method.is_safe());
        let head = Head { method: &method, path, query, headers, has_body };
        match mount.dialect.owns(&head) {
            Owns::Yes => {
                return conclude("own", &format!("the gateway answers it: API {api} at {at}"));
            }
            Owns::No => {}
            Owns::Unrouted => {
                say(format!("api       {api} at {at}, unless a route leads below that"))?
            }
            Owns::Told | Owns::Unread => {
                say(format!("api       {api} at {at}, where the body asks for a call of it"))?;
            }
        }
    }
    let route = match config.table.router.find(&host, &target, &method) {
        Found::Route(route) => route,
        Found::WrongMethod(methods) => {
            return conclude("405", &format!("the routes for this path take {methods:?} only"));
        }
        Found::NoPath => return conclude("404", "no route covers this path"),
        Found::NoHost => return conclude("421", &format!("the host {host} is not served")),
    };
    let host = route.host.as_deref().unwrap_or("(any own name)");
    let number = route.index + 1;
    say(format!("route     [[route]] number {number}: host {host}, path {}", route.path))?;
    if let Err(error) = target.permitted_by(&route.leniency, &route.prefix) {
        return conclude("400", &error.to_string());
    }
    let Some(rule) = config.table.rules.get(route.index) else { return Ok(()) };
    say(format!("rule      {}", rule.describe()))?;
    if rule.is_open() && (question.user.is_none() || !rule.looks_at_session()) {
        return conclude("pass", &format!("to {}, without identity", route.upstream));
    }
    let Some(user) = &question.user else {
        return conclude(
            "401",
            "nobody is signed in: pages go to the sign-in page, programs get 401",
        );
    };
    let identity = identity(&config, user, question.claim.as_deref())?;
    say(format!(
        "identity  {} ({}), groups {:?}, acting as {}",
        identity.identifier, identity.user, identity.groups, identity.claim
    ))?;
    match rule.missing(&identity, method.as_str(), question.ip) {
        Some(requirement) => conclude("403", &format!("{user} does not meet: must {requirement}")),
        None => conclude("pass", &format!("to {}, as {}", route.upstream, identity.claim)),
    }
}

fn conclude(verdict: &str, why: &str) -> Result<(), Error> {
    say(format!("verdict   {verdict}: {why}"))
}

/// Host and target of the URL. The target is kept as written: a URL parser would tidy it up first.
fn place(config: &Config, text: &str) -> Result<(String, String), Error> {
    let own = config.server.hosts.first().cloned().unwrap_or_default();
    if text.starts_with('/') {
        return Ok((own, text.to_owned()));
    }
    let url = Url::parse(text)
        .map_err(|error| Error::usage(format!("\"{text}\" is not a URL: {error}")))?;
    let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let path = rest.find('/').and_then(|start| rest.get(start..)).unwrap_or("/");
    Ok((host, path.split('#').next().unwrap_or(path).to_owned()))
}

fn identity(config: &Config, user: &str, claim: Option<&str>) -> Result<Identity, Error> {
    if !config.directory.file.exists() {
        let file = config.directory.file.display();
        return Err(Error::new(format!("{file} does not exist yet: start the gateway once")));
    }
    let (users, _) = Users::open(&config.directory, &config.login.costs()).map_err(Error::new)?;
    let account = users.by_login(user);
    let account = account.ok_or_else(|| Error::new(format!("there is no user \"{user}\"")))?;
    if account.disabled {
        return Err(Error::new(format!(
            "{user} is disabled: every request is answered as anonymous"
        )));
    }
    let claim = claim.map_or_else(|| user_claim(&account.id), str::to_owned);
    if !crate::session::may_claim(&account, &claim, &users) {
        return Err(Error::new(format!("{user} may not act as {claim}")));
    }
    Ok(Identity {
        user: account.id.clone(),
        identifier: account.identifier.clone(),
        name: account.name.clone(),
        email: account.email.clone(),
        groups: account.groups.clone(),
        roles: vec![claim.clone()],
        claim,
        ..Identity::default()
    })
}
