//! From a permitted request to a [`Stamped`] one: removes what clients may not send, adds identity.
//!
//! The only maker of `Stamped`. Order matters: hop-by-hop names go first, ours are added last, so
//! nothing that a client nominates can remove them.

mod forwarded;
mod identity;
mod nuvla;
mod stamped;

use http::Response;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use crate::policy::Permit;
use crate::section::Section;

pub use self::forwarded::{Client, Forwarding, Hop, Trust};
pub use self::identity::{IdentityHeaders, Oversize};
pub use self::nuvla::Extras;
pub use self::stamped::Stamped;

/// What is removed and what is added.
#[derive(Debug)]
pub struct Rules {
    identity: IdentityHeaders,
    guarded: NameSet,
}

impl Rules {
    /// Reads `[headers]`.
    pub fn read(section: &mut Section) -> Self {
        let identity = IdentityHeaders::read(section);
        let guarded = NameSet::new(identity.guarded());
        Self { identity, guarded }
    }

    /// Makes the request fit for the app behind, which asks for `extras`: see the module's text.
    ///
    /// # Errors
    /// When the identity does not fit into the bound on its headers.
    pub fn stamp<B>(
        &self,
        permit: &Permit,
        mut parts: Box<Parts>,
        body: B,
        hop: Hop,
        extras: Extras,
    ) -> Result<Stamped<B>, Oversize> {
        self.clean(&mut parts.headers);
        let identity = permit.session().map(|live| self.identity.rendered(live, extras));
        Ok(Stamped::new(parts, body, hop, identity.transpose()?, extras))
    }

    /// Removes what ends here and what a client may not send.
    fn clean(&self, headers: &mut HeaderMap) {
        if remove(headers, |name| self.ends_here(name)) {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }

    fn ends_here(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        // Any name may be that of an identity header.
        self.guarded.contains(text) || !is_usual(name) && (is_hop_by_hop(name) || is_forged(text))
    }

    /// The names of the identity headers in use, for pages that explain them.
    pub fn identity_names(&self) -> impl Iterator<Item = &str> {
        self.identity.names()
    }
}

/// Names that most requests have: neither hop-by-hop nor forged, which need not be found out each time.
fn is_usual(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::ACCEPT
            | header::ACCEPT_ENCODING
            | header::ACCEPT_LANGUAGE
            | header::CACHE_CONTROL
            | header::CONTENT_LENGTH
            | header::CONTENT_TYPE
            | header::COOKIE
            | header::HOST
            | header::IF_MODIFIED_SINCE
            | header::IF_NONE_MATCH
            | header::ORIGIN
            | header::RANGE
            | header::REFERER
            | header::USER_AGENT
    )
}

/// Whether a client's header of this name means another thing to an app than the client may say.
fn is_forged(name: &str) -> bool {
    !is_plain(name) || forwarded::is_class(name)
}

/// Whether a (lower-case) header name is made of letters, digits and `-` only. Others are dropped:
/// an app that reads `_` or `.` as `-` would take `x_auth_user` for ours.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Hop-by-hop headers (RFC 9110 section 7.6.1) and `Expect`, which we answer ourselves.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "expect"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Removes the headers that `goes` says, and those that `Connection` nominates when it is one of them. Whether
/// `TE` asked for trailers: gRPC needs that it goes on, while any other transfer coding concerns one hop only.
fn remove(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) -> bool {
    let mut trailers = false;
    // One look over the names in place of a probe for each: most messages have one of them or none.
    while let Some(name) = headers.keys().find(|name| goes(name)).cloned() {
        match name {
            header::CONNECTION => remove_nominated(headers),
            header::TE => trailers = headers.get_all(header::TE).iter().any(asks_for_trailers),
            _ => {}
        }
        headers.remove(name);
    }
    trailers
}

fn asks_for_trailers(value: &HeaderValue) -> bool {
    tokens(value).any(|token| token.eq_ignore_ascii_case("trailers"))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    // Split before it is read: a token that is no text must not hide the others.
    let parts = value.as_bytes().split(|byte| *byte == b',');
    parts.filter_map(|part| str::from_utf8(part.trim_ascii()).ok()).filter(|part| !part.is_empty())
}

fn remove_nominated(headers: &mut HeaderMap) {
    let mut nominated = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case("keep-alive") || token.eq_ignore_ascii_case("close") {
                continue;
            }
            let Ok(name) = HeaderName::from_bytes(token.as_bytes()) else { continue };
            // Framing, routing and the session do not depend on a client's nomination.
            if ![header::HOST, header::CONTENT_LENGTH, header::COOKIE, header::TE].contains(&name) {
                nominated.push(name);
            }
        }
    }
    for name in nominated {
        headers.remove(name);
    }
}

/// Makes an app's answer fit for the client: hop-by-hop headers go, and cookies with our names.
pub fn clean_response<B>(response: &mut Response<B>, own_cookie: &str) {
    let headers = response.headers_mut();
    // One look over the names: most answers have none of either.
    let (mut hops, mut cookies) = (false, false);
    for name in headers.keys() {
        hops |= is_hop_by_hop(name);
        cookies |= *name == header::SET_COOKIE;
    }
    if hops {
        remove(headers, is_hop_by_hop);
    }
    if !cookies {
        return;
    }
    let is_ours = |value: &HeaderValue| sets_cookie(value.as_bytes(), own_cookie.as_bytes());
    if headers.get_all(header::SET_COOKIE).iter().any(is_ours) {
        let kept: Vec<_> = headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter(|value| !is_ours(value))
            .cloned()
            .collect();
        headers.remove(header::SET_COOKIE);
        for value in kept {
            headers.append(header::SET_COOKIE, value);
        }
    }
}

/// Whether a `Set-Cookie` value sets a cookie of our name or below it, in any case and with any
/// white space, also as a nameless cookie (`=name=value`), which browsers send back like ours.
fn sets_cookie(value: &[u8], own: &[u8]) -> bool {
    let pair = value.split(|byte| *byte == b';').next().unwrap_or(value);
    let pair = pair.trim_ascii();
    let pair = pair.strip_prefix(b"=").unwrap_or(pair);
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or(pair).trim_ascii();
    let Some((head, tail)) = name.split_at_checked(own.len()) else { return false };
    head.eq_ignore_ascii_case(own) && (tail.is_empty() || tail.starts_with(b"-"))
}

/// A small set of lower-case names: most lookups end at the length.
#[derive(Debug)]
struct NameSet {
    lengths: u64,
    names: Vec<String>,
}

impl NameSet {
    fn new(names: Vec<String>) -> Self {
        let lengths = names.iter().fold(0, |mask, name| mask | bit(name.len()));
        Self { lengths, names }
    }

    fn contains(&self, name: &str) -> bool {
        self.lengths & bit(name.len()) != 0 && self.names.iter().any(|known| known == name)
    }
}

fn bit(length: usize) -> u64 {
    1 << length.min(63)
}

#[cfg(test)]
mod tests;
