//! Which route a request belongs to: host, then the longest path prefix, then the method.
//!
//! Decides on the canonical target only; never on query, headers or anything else a client adds.

mod lookup;
pub mod target;

use std::collections::{BTreeMap, HashMap};

use http::Method;

use self::lookup::Lookup;
use crate::section::Section;

pub use self::target::{Leniency, Prefix, Target, TargetError};

/// A route as far as finding it needs; rules and upstreams are kept beside, under the same index.
#[derive(Debug)]
pub struct Route {
    /// Index in the order of the configuration.
    pub index: usize,
    /// Host: exact, `*.` and one label more, or the gateway's own names when absent.
    pub host: Option<String>,
    /// Path prefix.
    pub prefix: Prefix,
    /// The prefix as written.
    pub path: String,
    /// Methods; all when empty.
    pub methods: Vec<Method>,
    /// Whether this route, or another for the same path, takes certain methods only: the method of a request then
    /// decides what it may do. [`Router::new`] finds out.
    pub tells_methods_apart: bool,
    /// Name of the upstream.
    pub upstream: String,
    /// What ambiguous targets the app needs.
    pub leniency: Leniency,
    /// Whether pages of other sites may open WebSockets.
    pub cross_site_websocket: bool,
    /// Whether requests leave the idle time of the session as it is: for polling.
    pub passive: bool,
}

impl Route {
    /// Reads one `[[route]]`, but for its rule.
    pub fn read(section: &mut Section, index: usize) -> Option<Self> {
        let path = section.required("path", "/");
        let host = section.text("host");
        let mut methods = Vec::new();
        let given = section.texts("methods");
        if given.is_empty() && section.has("methods") {
            let remedy = "name some, or remove `methods` for all of them";
            section.problem("methods", "a route without a method takes nothing", remedy);
        }
        for method in given {
            match Method::from_bytes(method.value.as_bytes()) {
                Ok(parsed) if method.value.bytes().all(|byte| byte.is_ascii_uppercase()) => {
                    methods.push(parsed);
                }
                _ => section.problem_at(
                    &method,
                    format!("\"{}\" is not a method", method.value),
                    "write it in capitals, such as \"GET\"",
                ),
            }
        }
        let upstream = section.required("upstream", "app").value;
        let leniency = Leniency {
            encoded_slash: section.flag("allow_encoded_slash", false),
            double_slash: section.flag("allow_double_slash", false),
            params: section.flag("allow_params", false),
        };
        let cross_site_websocket = section.flag("allow_cross_site_websocket", false);
        let passive = section.flag("passive", false);
        if let Some(host) = &host
            && let Err(what) = check_pattern(&host.value)
        {
            section.problem_at(host, what, "write \"app.example.com\" or \"*.example.com\"");
        }
        let host = host.map(|host| host.value.to_ascii_lowercase());
        let prefix = match Prefix::new(&path.value) {
            Ok(prefix) => prefix,
            Err(_) if path.value.is_empty() => return None,
            Err(what) => {
                section.problem_at(&path, what, "write a plain path such as \"/\" or \"/app/\"");
                return None;
            }
        };
        let path = path.value;
        Some(Self {
            index,
            host,
            prefix,
            path,
            tells_methods_apart: !methods.is_empty(),
            methods,
            upstream,
            leniency,
            cross_site_websocket,
            passive,
        })
    }

    fn is_lenient(&self) -> bool {
        let Leniency { encoded_slash, double_slash, params } = self.leniency;
        encoded_slash || double_slash || params
    }

    fn shares_host(&self, other: &Self) -> bool {
        share_host(self.host.as_ref(), other.host.as_ref())
    }
}

fn check_pattern(host: &str) -> Result<(), String> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if name.is_empty() || !name.chars().all(plain) || name.ends_with('.') || host == "*" {
        return Err(format!("\"{host}\" is not a host"));
    }
    if !name.starts_with('[') && name.contains(':') {
        return Err(format!("\"{host}\" must not have a port"));
    }
    Ok(())
}

/// What the table says.
#[derive(Debug)]
pub enum Found<'a> {
    /// This route.
    Route(&'a Route),
    /// Routes for the path exist, for these methods only.
    WrongMethod(Vec<&'a Method>),
    /// Nothing is configured for the path.
    NoPath,
    /// Nothing is configured for the host.
    NoHost,
}

/// The routes of one host; see [`Router::of_host`].
#[derive(Clone, Copy, Debug)]
pub struct HostRoutes<'a>(&'a Lookup);

/// All routes, by host, longest prefix first.
#[derive(Debug)]
pub struct Router {
    routes: Vec<Route>,
    // A tree: with the usual one or two names a look at each is faster than hashing one.
    exact: BTreeMap<String, Lookup>,
    wildcard: Vec<(String, Lookup)>,
}

impl Router {
    /// A table of `routes`; those without a host serve `own_hosts`.
    ///
    /// # Errors
    /// Pairs of a route's index and what is wrong with it.
    pub fn new(mut routes: Vec<Route>, own_hosts: &[String]) -> Result<Self, Vec<(usize, String)>> {
        let mut problems = Vec::new();
        check_pairs(&routes, &mut problems);
        mark_shared_paths(&mut routes);
        let mut exact: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut wildcard: Vec<(String, Vec<usize>)> = Vec::new();
        for own in own_hosts {
            exact.entry(own.clone()).or_default();
        }
        for (position, route) in routes.iter().enumerate() {
            match route.host.as_deref() {
                None => {
                    for own in own_hosts {
                        exact.entry(own.clone()).or_default().push(position);
                    }
                }
                Some(host) => match host.strip_prefix('*') {
                    Some(suffix) => match wildcard.iter_mut().find(|(known, _)| known == suffix) {
                        Some((_, list)) => list.push(position),
                        None => wildcard.push((suffix.to_owned(), vec![position])),
                    },
                    None => exact.entry(host.to_owned()).or_default().push(position),
                },
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let rank = |position: &usize| {
            let route = routes.get(*position);
            route.map(|route| {
                (lookup::rank(&route.prefix), route.methods.is_empty(), route.host.is_none())
            })
        };
        let lookup = |mut list: Vec<usize>| {
            list.sort_by_key(rank);
            Lookup::new(list, &routes)
        };
        let exact = exact.into_iter().map(|(host, list)| (host, lookup(list))).collect();
        let wildcard = wildcard.into_iter().map(|(suffix, list)| (suffix, lookup(list))).collect();
        Ok(Self { routes, exact, wildcard })
    }

    /// Finds the route of a request. `host` is lower-case, without port and trailing dot.
    pub fn find(&self, host: &str, target: &Target<'_>, method: &Method) -> Found<'_> {
        match self.of_host(host) {
            Some(routes) => self.find_among(routes, target, method),
            None => Found::NoHost,
        }
    }

    /// Finds the route of a request among those of its host.
    pub fn find_among(
        &self,
        HostRoutes(lookup): HostRoutes<'_>,
        target: &Target<'_>,
        method: &Method,
    ) -> Found<'_> {
        let mut others = Vec::new();
        // All have the same prefix: a shorter one never takes over what a longer one refuses by method.
        for route in lookup.longest(target, &self.routes) {
            if route.methods.is_empty() || route.methods.contains(method) {
                return Found::Route(route);
            }
            // HEAD is GET without the body.
            if *method == Method::HEAD && route.methods.contains(&Method::GET) {
                return Found::Route(route);
            }
            others.extend(&route.methods);
        }
        if others.is_empty() { Found::NoPath } else { Found::WrongMethod(others) }
    }

    /// Whether anything is served under this host.
    pub fn knows(&self, host: &str) -> bool {
        self.of_host(host).is_some()
    }

    /// The routes of a host, if anything is served under it.
    pub fn of_host(&self, host: &str) -> Option<HostRoutes<'_>> {
        if let Some(list) = self.exact.get(host) {
            return Some(HostRoutes(list));
        }
        let label = host.find('.')?;
        let suffix = host.get(label..)?;
        let found = self.wildcard.iter().find(|(known, _)| known == suffix);
        found.map(|(_, list)| HostRoutes(list))
    }

    /// All routes, in the order of the configuration.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

/// Has every route know of others for its path that take certain methods only.
fn mark_shared_paths(routes: &mut [Route]) {
    let mut limited: HashMap<Box<str>, Vec<Option<String>>> = HashMap::new();
    for route in routes.iter().filter(|route| !route.methods.is_empty()) {
        limited.entry(route.prefix.stem().into()).or_default().push(route.host.clone());
    }
    for route in routes {
        let hosts = limited.get(route.prefix.stem()).map_or(&[][..], Vec::as_slice);
        let mut hosts = hosts.iter();
        route.tells_methods_apart |=
            hosts.any(|host| share_host(host.as_ref(), route.host.as_ref()));
    }
}

fn share_host(one: Option<&String>, other: Option<&String>) -> bool {
    one == other || one.is_none() || other.is_none()
}

/// No two routes for the same requests, and nothing more special below a lenient one: an app that
/// reads `%2F` as `/` must not be led from one rule to another.
fn check_pairs(routes: &[Route], problems: &mut Vec<(usize, String)>) {
    for (position, route) in routes.iter().enumerate() {
        for other in routes.iter().skip(position + 1) {
            let overlap = route.methods.is_empty() && other.methods.is_empty()
                || route.methods.iter().any(|method| other.methods.contains(method));
            let same = route.prefix.stem() == other.prefix.stem();
            if route.host == other.host && same && overlap {
                problems.push((
                    other.index,
                    format!("is hidden by another one for {}, which comes before", other.path),
                ));
            }
        }
        if !route.is_lenient() {
            continue;
        }
        let below = |other: &&Route| {
            other.index != route.index
                && route.shares_host(other)
                && other.prefix.stem().starts_with(route.prefix.stem())
        };
        if let Some(other) = routes.iter().find(below) {
            let what = format!(
                "allows ambiguous targets, but the route {} below it has a rule of its own",
                other.path
            );
            problems.push((route.index, what));
        }
    }
}
