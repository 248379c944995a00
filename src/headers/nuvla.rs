//! `nuvla-authn-info`: who somebody is, as Nuvla's services believe it from inside their network.
//!
//! `<user> <active claim> <claim> ...`, rendered once per session. Never believed from a client.

use http::header::{HeaderName, HeaderValue};

use super::identity::word;
use super::stamped::lines;
use crate::section::Section;
use crate::session::Identity;

/// Name of the header.
pub(super) const NAME: &str = "nuvla-authn-info";

/// What an app asks for besides the usual identity headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// `nuvla-authn-info`.
    pub nuvla_authn_info: bool,
}

impl Extras {
    /// Reads its keys of `[[upstream]]`.
    pub fn read(section: &mut Section) -> Self {
        Self { nuvla_authn_info: section.flag("nuvla_authn_info", false) }
    }
}

/// The header of one session.
#[derive(Debug)]
pub(super) struct AuthnInfo {
    pub(super) header: (HeaderName, HeaderValue),
    /// The same as a line of HTTP/1.1.
    pub(super) line: Vec<u8>,
}

impl AuthnInfo {
    pub(super) fn render(identity: &Identity) -> Option<Self> {
        // Of an anonymous widget there is nobody to tell.
        if identity.user.is_empty() {
            return None;
        }
        let words = identity.nuvla();
        let all = [&words.user, &words.active].into_iter().chain(&words.claims);
        let coded: Vec<_> = all.map(|text| word(text)).collect();
        let header = (HeaderName::from_static(NAME), HeaderValue::from_str(&coded.join(" ")).ok()?);
        let line = lines([&header]);
        Some(Self { header, line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_looks_like_two_claims() {
        let identity = Identity {
            user: "partner/102/bob group/nuvla-admin".to_owned(),
            claim: "partner/102/bob group/nuvla-admin".to_owned(),
            roles: vec!["group/a\tb".to_owned(), "group/ä%20".to_owned()],
            session: "s1".to_owned(),
            ..Identity::default()
        };
        let info = AuthnInfo::render(&identity).unwrap();
        let bob = "partner/102/bob%20group/nuvla-admin";
        let wanted = format!(
            "{bob} {bob} group/a%09b group/%C3%A4%2520 group/nuvla-user group/nuvla-anon session/s1"
        );
        assert_eq!(info.header.1, wanted);
        assert_eq!(info.line, format!("{NAME}: {wanted}\r\n").into_bytes());
    }
}
