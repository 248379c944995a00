//! Mounts of session APIs: whose a request under one is, before anybody answers it.
//!
//! Words nothing: that is for the dialect.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use memchr::memmem;

use super::exchange::Exchange;
use super::own::{Below, below, strip};
use super::pipeline::fault;
use super::redact::folded;
use super::upload::Upload;
use crate::api::{Dialect, Fault, Head, Owns, Shown};
use crate::route::{Found, HostRoutes, Route, Target};
use crate::session::Token;

/// Where a dialect answers.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The one host; `None`: every host of the gateway.
    pub host: Option<String>,
    /// Path prefix without a trailing slash; empty for the whole host.
    pub prefix: String,
    /// Who answers.
    pub dialect: Arc<dyn Dialect>,
}

impl Mount {
    /// Whether requests to `host` may carry this dialect's tokens.
    pub fn serves(&self, host: &str) -> bool {
        self.host.as_deref().is_none_or(|own| own == host)
    }

    /// Whether `path` as it was sent lies under the mount, so that failures are worded by its dialect.
    pub fn covers(&self, host: &str, path: &str) -> bool {
        let rest = strip(path, &self.prefix);
        self.serves(host) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether `path` is the mount's for anybody, however it is spelled, and has parameters in it. A host that
    /// could not be read may be any.
    fn may_have_pairs(&self, host: &str, path: &str) -> bool {
        if !self.dialect.has_pairs() || !(host.is_empty() || self.serves(host)) {
            return false;
        }
        let is_odd = |byte: u8| byte == b'%' || byte.is_ascii_uppercase();
        let inside = |path: &[u8], prefix: &str| memmem::find(path, prefix.as_bytes()).is_some();
        strip(path, &self.prefix).is_some()
            || inside(path.as_bytes(), &self.prefix)
            || (path.bytes().any(is_odd)
                && inside(&folded(path), &self.prefix.to_ascii_lowercase()))
    }
}

/// Sorts mounts: the first that covers a path is the one that counts.
pub fn sort_mounts(mounts: &mut [Mount]) {
    mounts.sort_by_key(|mount| (mount.host.is_none(), std::cmp::Reverse(mount.prefix.len())));
}

/// A request to a mount, told apart.
pub(super) enum Claimed {
    /// The dialect's, at this path below the mount.
    Own(Arc<dyn Dialect>, String),
    /// An app's.
    App,
}

/// The mount that a target lies under, and where below it.
pub(super) fn find<'a>(
    mounts: &'a [Mount],
    host: &str,
    target: &Target<'_>,
) -> Option<(&'a Mount, Below)> {
    let mut serving = mounts.iter().filter(|mount| mount.serves(host));
    serving.find_map(|mount| Some((mount, below(target, &mount.prefix)?)))
}

/// Whose the request is. Looks at the body only when the dialect asks for it.
pub(super) async fn claim(
    exchange: &Exchange,
    parts: &Parts,
    upload: &mut Upload,
    (mount, below): (&Mount, Below),
    target: &Target<'_>,
    routes: HostRoutes<'_>,
) -> Result<Claimed, Box<Fault>> {
    let nobodys = || fault(StatusCode::NOT_FOUND, "no-route", "There is no such resource.");
    let Below::Path(path) = below else { return Err(nobodys()) };
    let dialect = &mount.dialect;
    let has_body = upload.has_body();
    let head = |path| Head {
        has_body,
        method: &parts.method,
        path,
        query: exchange.uri.query(),
        headers: &parts.headers,
    };
    let owns = dialect.owns(&head(&path));
    // A place of the dialect that is spelled so that only an app would recognise it is nobody's.
    let canonical = target.canonical();
    let plain = strip(&canonical, &mount.prefix).filter(|rest| !rest.is_empty()).unwrap_or("/");
    let as_read = dialect.owns(&head(plain));
    if as_read != owns && as_read != Owns::No {
        return Err(nobodys());
    }
    let own = match owns {
        Owns::No => false,
        Owns::Yes => true,
        Owns::Unrouted => !is_routed(exchange, target, routes, parts, &mount.prefix),
        Owns::Unread => {
            let site = &exchange.view.site;
            let (limit, time) = (site.limits.own_body, site.limits.body_idle);
            let read = may_hold_parameters(&parts.headers);
            match if read { upload.look(parts, limit, time, exchange).await? } else { None } {
                Some(body) => dialect.owns_body(&head(&path), &body),
                None => false,
            }
        }
        Owns::Told => {
            let site = &exchange.view.site;
            let (limit, time) = (site.limits.own_body, site.limits.body_idle);
            let Some(body) = upload.look(parts, limit, time, exchange).await? else {
                let detail = format!("The request's body is larger than {limit} bytes.");
                return Err(fault(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail));
            };
            dialect.owns_body(&head(&path), &body)
        }
    };
    Ok(if own { Claimed::Own(Arc::clone(dialect), path) } else { Claimed::App })
}

/// Whether a route leads below the mount, not just past it: only then an app owns its places.
fn is_routed(
    exchange: &Exchange,
    target: &Target<'_>,
    routes: HostRoutes<'_>,
    parts: &Parts,
    prefix: &str,
) -> bool {
    let lies_below = |route: &Route| strip(&route.path, prefix).is_some();
    match exchange.view.site.table.router.find_among(routes, target, &parts.method) {
        Found::Route(route) => lies_below(route),
        Found::WrongMethod(_) => true,
        Found::NoPath | Found::NoHost => false,
    }
}

/// Whether a body may hold parameters of a call, and not a file.
fn may_hold_parameters(headers: &HeaderMap) -> bool {
    const KNOWN: [&[u8]; 3] =
        [b"application/json", b"application/x-www-form-urlencoded", b"multipart/form-data"];
    let is_known = |kind: &HeaderValue| {
        let starts = |known: &&[u8]| {
            kind.as_bytes().get(..known.len()).is_some_and(|head| head.eq_ignore_ascii_case(known))
        };
        KNOWN.iter().any(starts)
    };
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter().peekable();
    kinds.peek().is_none() || kinds.any(is_known)
}

/// A token that was found in the carrier of a dialect.
pub(super) enum Handed {
    /// By a client that speaks the dialect.
    OnPurpose(Token),
    /// In the path or query of something else: by whoever wrote the link.
    ByLink(Token),
    /// Several that differ, by a client that speaks the dialect.
    Several,
}

/// Whether the path of a request may hold parameters of a call.
pub(super) fn may_have_pairs(exchange: &Exchange) -> bool {
    let (host, path) = (exchange.host_name(), exchange.uri.path());
    exchange.view.site.mounts.iter().any(|mount| mount.may_have_pairs(host, path))
}

/// The token that a request carries in the carrier of a dialect; whatever carries one leaves the headers.
pub(super) fn take_token(
    exchange: &Exchange,
    headers: &mut HeaderMap,
    body: Option<&Bytes>,
) -> Option<Handed> {
    let mounts = &exchange.view.site.mounts;
    if mounts.is_empty() {
        return None;
    }
    let (host, path) = (exchange.host_name(), exchange.uri.path());
    let mut found = None;
    for mount in mounts.iter().filter(|mount| mount.serves(host)) {
        let under = mount.covers(host, path);
        let below = if under { strip(path, &mount.prefix).unwrap_or(path) } else { path };
        let head = Head {
            method: &exchange.method,
            path: below,
            query: exchange.uri.query(),
            headers,
            has_body: body.is_some(),
        };
        let body = body.filter(|_| under).map(|body| &**body);
        let on_purpose = under || !mount.dialect.takes_links();
        found = match (mount.dialect.token(&head, body), found) {
            (Shown::Several, _) if on_purpose => Some(Handed::Several),
            (Shown::Token(token), Some(Handed::OnPurpose(other)))
                if on_purpose && other.id() != token.id() =>
            {
                Some(Handed::Several)
            }
            (Shown::Token(_), Some(Handed::Several)) => Some(Handed::Several),
            (Shown::Token(token), _) if on_purpose => Some(Handed::OnPurpose(token)),
            (Shown::Token(token), None) => Some(Handed::ByLink(token)),
            (_, found) => found,
        };
    }
    for mount in mounts.iter().filter(|mount| mount.serves(host)) {
        mount.dialect.carriers().iter().for_each(|name| drop(headers.remove(name)));
    }
    found
}
