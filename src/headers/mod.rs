//! From a permitted request to a [`Stamped`] one: removes what clients may not send, adds identity.
//!
//! The only maker of `Stamped`. Order matters: hop-by-hop names go first, ours are added last, so
//! nothing that a client nominates can remove them.

mod answer;
mod forwarded;
pub mod frames;
mod identity;
mod lines;
mod nuvla;
mod private;
mod stamped;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use crate::policy::Permit;
use crate::section::Section;

pub use self::answer::{AnswerHead, Fields, clean_answer};
pub use self::forwarded::{Client, Forwarding, Hop, Trust};
pub use self::identity::{IdentityHeaders, Oversize};
pub use self::lines::{Kind, Lines};
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
        // Most requests have nothing that goes.
        let goes = |name: &str| is_hop_by_hop(name) || self.is_forged(name);
        let stays = |name: &HeaderName| {
            // Any name may be that of an identity header.
            if is_usual(name) {
                !self.guarded.contains(name.as_str())
            } else {
                !goes(name.as_str())
            }
        };
        if headers.keys().all(stays) {
            return;
        }
        if remove(headers, goes) {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }

    /// Whether a client's header of this name means another thing to an app than the client may say.
    fn is_forged(&self, name: &str) -> bool {
        !is_plain(name) || forwarded::is_class(name) || self.guarded.contains(name)
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

/// Whether a (lower-case) header name is made of letters, digits and `-` only. Others are dropped:
/// an app that reads `_` or `.` as `-` would take `x_auth_user` for ours.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn is_hop_by_hop(name: &str) -> bool {
    Kind::of(name.as_bytes()).is_hop_by_hop()
}

/// Removes the headers that `goes` says, and those that `Connection` nominates when it is one of them. Whether
/// `TE` asked for trailers: gRPC needs that it goes on, while any other transfer coding concerns one hop only.
fn remove(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) -> bool {
    let mut trailers = false;
    // One look over the names in place of a probe for each: most messages have one of them or none.
    while let Some(name) = headers.keys().find(|name| goes(name.as_str())).cloned() {
        match name {
            header::CONNECTION => {
                let values = headers.get_all(header::CONNECTION).iter().map(HeaderValue::as_bytes);
                for name in nominated(values) {
                    headers.remove(name);
                }
            }
            header::TE => trailers = headers.get_all(header::TE).iter().any(asks_for_trailers),
            _ => {}
        }
        headers.remove(name);
    }
    trailers
}

fn asks_for_trailers(value: &HeaderValue) -> bool {
    tokens(value.as_bytes()).any(|token| token.eq_ignore_ascii_case("trailers"))
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &str> {
    // Split before it is read: a token that is no text must not hide the others.
    let parts = value.split(|byte| *byte == b',');
    parts.filter_map(|part| str::from_utf8(part.trim_ascii()).ok()).filter(|part| !part.is_empty())
}

/// The names that the values of `Connection` nominate, of those that may be nominated.
fn nominated<'a>(connection: impl Iterator<Item = &'a [u8]>) -> Vec<HeaderName> {
    let mut nominated = Vec::new();
    for token in connection.flat_map(tokens) {
        if token.eq_ignore_ascii_case("keep-alive") || token.eq_ignore_ascii_case("close") {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(token.as_bytes()) else { continue };
        // Framing, routing and the session do not depend on a client's nomination.
        if ![header::HOST, header::CONTENT_LENGTH, header::COOKIE, header::TE].contains(&name) {
            nominated.push(name);
        }
    }
    nominated
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
