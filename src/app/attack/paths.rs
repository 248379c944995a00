//! Paths that pass an open route and that an app may read as a closed one.

use std::collections::BTreeMap;

use http::Method;

use super::readings::{forms, is_below};
use super::report::{Finding, Report};
use super::targets::Pieces;
use super::{Served, Stand, is_open, served, takes_get};
use crate::config::Config;
use crate::route::{Found, Route, Target};

/// So many pairs of an open and a closed path are tried, and so many requests sent for all of them.
const PAIRS: usize = 16;
const COMBINED: usize = 6000;
/// So many combinations of two tricks there are for a pair.
const COMBINATIONS: usize = 33_000;

pub(super) fn attack(stand: &mut Stand<'_>, report: &mut Report) -> Result<(), String> {
    let pieces = Pieces::read().map_err(|error| error.to_string())?;
    let config = stand.config;
    let sites = served(config);
    let mut all: Vec<(usize, String, String)> = Vec::new();
    for (at, site) in sites.iter().enumerate() {
        all.extend(pairs(config, site).into_iter().map(|(open, closed)| (at, open, closed)));
    }
    if all.len() > PAIRS {
        let left = all.len() - PAIRS;
        report.notes.push(format!("{left} pairs of an open and a closed path were not tried"));
        all.truncate(PAIRS);
    }
    let mut scripts =
        all.iter().filter_map(|(at, open, closed)| script(config, sites.get(*at)?, open, closed));
    report.notes.extend(scripts.next());
    let step = COMBINATIONS * all.len().max(1) / COMBINED;
    let mut worst: BTreeMap<(usize, Option<usize>), Confusion> = BTreeMap::new();
    for (at, open, closed) in all {
        let Some(site) = sites.get(at) else { continue };
        let targets = pieces.targets(&open, &closed, step);
        let requests = targets.into_iter().map(|target| (target, String::new()));
        for seen in stand.send(&site.host, requests, report)? {
            let Some(found) = judge(config, site, &seen.target) else { continue };
            let entry = worst.entry((found.open, found.closed));
            let kept = entry.or_insert_with(|| found.clone());
            if found.readings.len() < kept.readings.len() {
                *kept = found;
            }
        }
    }
    for confusion in worst.into_values() {
        report.findings.push(confusion.finding(config));
    }
    Ok(())
}

/// An open path and a closed one of the same app, as they begin; a path that no route serves is closed, too.
fn pairs(config: &Config, site: &Served<'_>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let open = site.routes.iter().filter(|route| is_open(config, route) && takes_get(route));
    for open in open {
        let stem = open.prefix.stem().to_owned();
        let closed = site.routes.iter().filter(|route| {
            !is_open(config, route)
                && route.upstream == open.upstream
                && route.prefix != open.prefix
        });
        let before = all.len();
        all.extend(closed.map(|route| (stem.clone(), route.prefix.stem().to_owned())));
        let whole = site.routes.iter().any(|route| route.prefix.stem().is_empty());
        if all.len() == before && !whole {
            all.push((stem, "/admin".to_owned()));
        }
    }
    all.sort();
    all.dedup();
    // The root has no name of its own to ask for.
    let name = |(open, closed): (String, String)| match closed.is_empty() {
        true => (open, "/admin".to_owned()),
        false => (open, closed),
    };
    all.into_iter().map(name).collect()
}

/// A note on scripts, such as front controllers in PHP, that an open route lets pass with a closed path behind
/// their name. No finding: whether there are any, only the operator knows.
fn script(config: &Config, site: &Served<'_>, open: &str, closed: &str) -> Option<String> {
    let path = format!("{open}/index.php{}", closed.strip_prefix(open)?);
    let target = Target::parse(&path).ok()?;
    match config.table.router.find(&site.host, &target, &Method::GET) {
        Found::Route(route) if is_open(config, route) => Some(format!(
            "{path} passes: an app that takes what follows a script's name for the path (PATH_INFO) reads \
             {closed}; if there is one, put a route on {path} too"
        )),
        _ => None,
    }
}

#[derive(Clone, Debug)]
struct Confusion {
    host: String,
    target: String,
    form: String,
    readings: Vec<&'static str>,
    open: usize,
    closed: Option<usize>,
}

/// Whether a way to read the target leads from the open route that it passed to a closed one of the same app.
fn judge(config: &Config, site: &Served<'_>, target: &str) -> Option<Confusion> {
    let parsed = Target::parse(target).ok()?;
    let Found::Route(passed) = config.table.router.find(&site.host, &parsed, &Method::GET) else {
        return None;
    };
    let path = parsed.path();
    let depth = if path.len() <= 40 { 3 } else { 2 };
    let closed = |form: &[u8]| -> Option<Option<usize>> {
        let routes = site.routes.iter().filter(|route| is_below(form, route.prefix.stem()));
        match routes.max_by_key(|route| route.prefix.stem().len()) {
            None => Some(None),
            Some(route) if is_open(config, route) || route.upstream != passed.upstream => None,
            Some(route) => Some(Some(route.index)),
        }
    };
    let forms = forms(path.as_bytes(), depth);
    let found = forms.iter().filter_map(|(form, names)| Some((closed(form)?, form, names)));
    let (closed, form, names) = found.min_by_key(|(_, _, names)| names.len())?;
    Some(Confusion {
        host: site.host.clone(),
        target: target.to_owned(),
        form: form.escape_ascii().to_string(),
        readings: names.clone(),
        open: passed.index,
        closed,
    })
}

impl Confusion {
    fn finding(&self, config: &Config) -> Finding {
        let route = |index: usize| config.table.router.routes().iter().find(|r| r.index == index);
        let named = |index: usize| route(index).map_or_else(String::new, describe);
        let closed = match self.closed {
            Some(index) => named(index),
            None => "what no route serves".to_owned(),
        };
        let how = self.readings.join(", then ");
        let open = named(self.open);
        Finding {
            code: "path-confusion",
            what: format!(
                "an app that {how} reads {} in what {open} lets pass: {closed}",
                self.form
            ),
            example: format!("GET https://{}{}", self.host, self.target),
            fix: "close the open route too, or take what it allows (`allow_...`) away".to_owned(),
        }
    }
}

/// A route in words.
pub(super) fn describe(route: &Route) -> String {
    let leniency = route.leniency;
    let allows = [
        (leniency.encoded_slash, "allow_encoded_slash"),
        (leniency.double_slash, "allow_double_slash"),
        (leniency.params, "allow_params"),
    ];
    let allows: Vec<&str> = allows.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let allows =
        if allows.is_empty() { String::new() } else { format!(" ({})", allows.join(", ")) };
    let host = route.host.as_deref().unwrap_or("");
    format!("[[route]] number {}, {host}{}{allows}", route.index + 1, route.path)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::app::attack::served;

    #[test]
    fn a_reading_that_leads_to_a_closed_route_is_found() {
        let text = r#"
            [server]
            public_url = "https://localhost"
            listen = ["127.0.0.1:0"]
            [tls]
            certificates = [{ cert = "c.pem", key = "c.key" }]
            self_signed = true
            [[upstream]]
            name = "app"
            url = "http://127.0.0.1:9"
            [[route]]
            path = "/public/"
            upstream = "app"
            allow = "anyone"
            [[route]]
            path = "/public/inner/"
            upstream = "app"
            allow = "authenticated"
        "#;
        let config = Config::parse(Path::new("c.toml"), text.to_owned()).unwrap();
        let sites = served(&config);
        let judge = |target: &str| judge(&config, &sites[0], target);
        assert!(judge("/public/x").is_none() && judge("/public/inner-x/y.z").is_none());
        // As if these had reached an app: they do not.
        let found = judge("/public/%69nner/x").unwrap();
        assert_eq!((found.closed, &found.readings[..]), (Some(1), &["decodes percent codes"][..]));
        let found = judge("/public/inner;x/y").unwrap();
        assert_eq!((found.closed, found.readings.len()), (Some(1), 1));
        let note = script(&config, &sites[0], "/public", "/public/inner").unwrap();
        assert!(note.starts_with("/public/index.php/inner passes"), "{note}");
        assert_eq!(script(&config, &sites[0], "/public", "/private"), None);
        assert_eq!(pairs(&config, &sites[0]), [("/public".to_owned(), "/public/inner".to_owned())]);
    }
}
