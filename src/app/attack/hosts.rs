//! What routes tell apart and an app may not: hosts, and methods.

use http::Method;

use super::report::{Finding, Report};
use super::{Stand, is_open, paths, served, takes_get};
use crate::route::{Found, Target};

pub(super) fn attack(stand: &mut Stand<'_>, report: &mut Report) -> Result<(), String> {
    other_hosts(stand, report)?;
    other_methods(stand, report)
}

/// A path that is closed on one host and open on another, both before the same app.
fn other_hosts(stand: &mut Stand<'_>, report: &mut Report) -> Result<(), String> {
    let config = stand.config;
    let sites = served(config);
    for closed_site in &sites {
        for closed in closed_site.routes.iter().filter(|route| !is_open(config, route)) {
            let Ok(target) = Target::parse(&closed.path) else { continue };
            for site in sites.iter().filter(|site| site.host != closed_site.host) {
                let found = config.table.router.find(&site.host, &target, &Method::GET);
                let Found::Route(open) = found else { continue };
                if !is_open(config, open) || open.upstream != closed.upstream {
                    continue;
                }
                let request = [(closed.path.clone(), String::new())];
                let seen = stand.send(&site.host, request, report)?;
                if !seen.iter().any(|seen| seen.host == site.host) {
                    continue;
                }
                report.findings.push(Finding {
                    code: "host-confusion",
                    what: format!(
                        "an app that does not look at Host serves {} of {} ({}) on {}, where it is open ({})",
                        closed.path,
                        closed_site.host,
                        paths::describe(closed),
                        site.host,
                        paths::describe(open),
                    ),
                    example: format!("GET https://{}{}", site.host, closed.path),
                    fix: "close the path on both hosts, or make sure that the app tells them apart".to_owned(),
                });
            }
        }
    }
    Ok(())
}

const OVERRIDES: [&str; 3] = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"];

/// An open route for some methods: apps let a header name another one.
fn other_methods(stand: &mut Stand<'_>, report: &mut Report) -> Result<(), String> {
    let config = stand.config;
    for site in served(config) {
        for open in &site.routes {
            let limited = !open.methods.is_empty() && !open.methods.contains(&Method::DELETE);
            if !limited || !is_open(config, open) || !takes_get(open) {
                continue;
            }
            let lines: String =
                OVERRIDES.iter().map(|name| format!("{name}: DELETE\r\n")).collect();
            let seen = stand.send(&site.host, [(open.path.clone(), lines)], report)?;
            let passed =
                seen.iter().any(|seen| seen.fields.iter().any(|(_, value)| value == "DELETE"));
            if passed {
                report.findings.push(Finding {
                    code: "method-confusion",
                    what: format!(
                        "an app that honours {} takes any method at {}, which is open for {:?} only",
                        OVERRIDES.join(", "),
                        paths::describe(open),
                        open.methods.iter().map(Method::as_str).collect::<Vec<_>>(),
                    ),
                    example: format!(
                        "GET https://{}{} with {}: DELETE",
                        site.host,
                        open.path,
                        OVERRIDES.first().unwrap_or(&"")
                    ),
                    fix: "this is a fault of the gateway: see SECURITY.md".to_owned(),
                });
            }
        }
    }
    Ok(())
}
