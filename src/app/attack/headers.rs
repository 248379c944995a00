//! What a client may tell an app about itself.

use super::report::{Finding, Report};
use super::{Stand, is_open, served, takes_get};

/// Names by which apps behind other gateways are told who somebody is.
const TRUSTED: &[&str] = &[
    "X-WEBAUTH-USER",
    "X-Authenticated-User",
    "X-Authenticated-UserId",
    "X-Auth-Username",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-User",
    "X-User-Id",
    "X-Username",
    "X-Authentik-Username",
    "X-Pomerium-Claim-Email",
    "X-Vouch-User",
    "X-Token-Subject",
    "X-Goog-Authenticated-User-Email",
    "X-MS-Client-Principal-Name",
    "X-Amzn-Oidc-Identity",
    "Cf-Access-Authenticated-User-Email",
    "Tailscale-User-Login",
    "Auth-User",
    "User",
    "SSL-Client-S-DN",
    "X-SSL-Client-S-DN",
    "X-Client-Cert",
];

/// What forged headers say.
const MARK: &str = "portcullis-attack";

pub(super) fn attack(stand: &mut Stand<'_>, report: &mut Report) -> Result<(), String> {
    let config = stand.config;
    let names: Vec<String> = config.table.headers.identity_names().map(str::to_owned).collect();
    let mut passed: Vec<&str> = Vec::new();
    let mut tried = false;
    for site in served(config) {
        let open = site.routes.iter().find(|route| is_open(config, route) && takes_get(route));
        let Some(open) = open else { continue };
        tried = true;
        let forged = names.iter().flat_map(|name| spellings(name));
        let nominated =
            names.iter().map(|name| format!("Connection: {name}\r\n{name}: {MARK}\r\n"));
        let forged = forged.map(|name| format!("{name}: {MARK}\r\n"));
        let lines: Vec<String> = forged.chain(nominated).collect();
        let requests = lines.into_iter().map(|lines| (open.path.clone(), lines));
        for seen in stand.send(&site.host, requests, report)? {
            let found = seen.fields.iter().find(|(name, value)| {
                value.contains(MARK) && names.iter().any(|ours| plain(ours) == plain(name))
            });
            if let Some((name, _)) = found {
                report.findings.push(Finding {
                    code: "forged-identity",
                    what: format!("the app gets {name} as a client wrote it"),
                    example: format!("GET https://{}{} with {name}", site.host, open.path),
                    fix: "this is a fault of the gateway: see SECURITY.md".to_owned(),
                });
            }
        }
        let lines: String = TRUSTED.iter().map(|name| format!("{name}: {MARK}\r\n")).collect();
        for seen in stand.send(&site.host, [(open.path.clone(), lines)], report)? {
            passed.extend(TRUSTED.iter().filter(|trusted| {
                seen.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(trusted))
            }));
        }
    }
    if !tried {
        report.notes.push("no route is open: forged headers were not tried".to_owned());
    }
    passed.sort_unstable();
    passed.dedup();
    if !passed.is_empty() {
        let names = passed.join(", ");
        report.notes.push(format!(
            "apps get these as clients write them; name one in [headers] if an app trusts it: {names}"
        ));
    }
    Ok(())
}

/// The name as it is, and as some apps fold it.
fn spellings(name: &str) -> Vec<String> {
    let other = |c: &str| name.replace('-', c);
    vec![
        name.to_owned(),
        name.to_uppercase(),
        other("_"),
        other("_").to_uppercase(),
        other("."),
        other("+"),
    ]
}

fn plain(name: &str) -> String {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(fold).collect()
}
