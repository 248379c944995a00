//! Sealed sessions by an app token: an app proves that it has the token by a hash over it and its KS.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512};
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use super::draft::{Draft, end};
use super::grants::Grants;
use crate::ks::Ks;
use crate::secret::{Secret, same};
use crate::session::authority::{Authority, shorten, unavailable};
use crate::session::command::{Caller, KsTerms, Refusal};
use crate::session::counters::Person;
use crate::session::principal::{AppToken, HashKind, Partner};
use crate::session::reach::{APP, Subject};
use crate::session::token::{Form, Token};

/// Bytes of an app token's id that are counted.
const ID: usize = 128;

/// What an app shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    /// Id of the app token.
    pub(super) id: &'a str,
    /// Hex of the hash.
    pub(super) hash: &'a str,
    /// The partner's id of the user.
    pub(super) user: &'a str,
    /// The caller's KS as it was sent.
    pub(super) ks: &'a Secret,
}

impl Authority {
    /// The session that an app token opens. The token's own user, privileges and whether it is an admin's
    /// count before what is asked for; what is asked for counts where the token says nothing.
    pub(super) async fn by_app_token(
        &self,
        shown: &Shown<'_>,
        terms: &KsTerms,
        caller: &Caller,
    ) -> Result<Draft, Refusal> {
        let person = Person::typed(&format!("apptoken/{}", shorten(shown.id, ID)));
        let said = self.sayable(shown.id, caller);
        let attempt = self.attempt(&person, &said, caller).await?;
        let found = self.app_token(shown, caller);
        let (partner, token) = match found.and_then(|(partner, token)| {
            is_hash(&token, shown).then_some((partner, token)).ok_or(Refusal::AppTokenHash)
        }) {
            Ok(found) => found,
            // Ids are guessed at like hashes.
            Err(refusal @ (Refusal::AppTokenHash | Refusal::Missing(_))) => {
                if let Err(error) = attempt.failed().await {
                    return Err(unavailable(&error));
                }
                self.note_failure(&said, "invalid", caller);
                return Err(refusal);
            }
            Err(refusal) => return Err(refusal),
        };
        attempt.succeeded().await;
        self.of_app(partner, &token, shown.user, terms).ok_or(Refusal::Forbidden)
    }

    /// What the log may say of an app token's id: one that nobody has may be a secret in the wrong field.
    fn sayable(&self, id: &str, caller: &Caller) -> String {
        let tenant = caller.session.as_ref().and_then(|live| live.record().tenant.as_deref());
        let partner = tenant.and_then(|tenant| self.partner(tenant));
        let known = partner.is_some_and(|partner| partner.app_tokens.contains_key(id));
        format!("apptoken/{}", if known { id } else { "unknown" })
    }

    /// The app token that is named, and its partner: that of the caller's KS.
    fn app_token(
        &self,
        shown: &Shown<'_>,
        caller: &Caller,
    ) -> Result<(Arc<Partner>, AppToken), Refusal> {
        let live = caller.session.as_ref().ok_or(Refusal::NotSignedIn)?;
        let record = live.record();
        if record.form != Form::Ks || live.may_only_choose() {
            return Err(Refusal::Forbidden);
        }
        let partner = record.tenant.as_deref().and_then(|tenant| self.partner(tenant));
        let partner = partner.ok_or(Refusal::Forbidden)?;
        let missing = Refusal::Missing("app token");
        let token = partner.app_tokens.get(shown.id).cloned().ok_or(missing)?;
        if token.disabled {
            return Err(Refusal::AppTokenDisabled);
        }
        if token.expires.is_some_and(|end| end <= self.clock.now()) {
            return Err(Refusal::AppTokenExpired);
        }
        // The hash must be over the KS that was verified, and no other.
        let ks = Ks::parse(shown.ks.expose()).map_err(|_| Refusal::AppTokenHash)?;
        let asks = Token::of_text(Form::Ks, ks.identity(), String::new());
        if asks.id() != live.id() {
            return Err(Refusal::AppTokenHash);
        }
        Ok((partner, token))
    }

    fn of_app(
        &self,
        partner: Arc<Partner>,
        token: &AppToken,
        user: &str,
        terms: &KsTerms,
    ) -> Option<Draft> {
        let (subject, name) = match token.user.as_str() {
            "" => (Subject::find(&partner, user, &*self.directory)?, user.to_owned()),
            id => {
                let account = self.directory.by_id(id)?;
                let name = Subject::name(&partner, &account);
                (Subject::by_id(&partner, id, &*self.directory)?, name)
            }
        };
        let asked = if token.privileges.is_empty() { &terms.privileges } else { &token.privileges };
        let grants = Grants::asked(asked)?.of_app_token(&token.id);
        let now = self.clock.now();
        let left = token.expires.map_or(Duration::MAX, |end| end.since(now));
        let expires = end(terms.lifetime, &[token.lifetime, partner.lifetime, left], now)?;
        let draft = Draft {
            subject: Some(subject),
            name,
            partner,
            admin: token.admin,
            grants,
            method: APP,
            acts: true,
            expires,
        };
        draft.has_role().then_some(draft)
    }
}

/// Whether an app has shown the hash over its KS and the token; the case of the letters counts not.
fn is_hash(token: &AppToken, shown: &Shown<'_>) -> bool {
    let text = Zeroizing::new([shown.ks.expose(), token.token.expose()].concat());
    let made = hash(token.hash, text.as_bytes());
    same(made.as_bytes(), shown.hash.to_ascii_lowercase().as_bytes())
}

/// Hex of a hash.
fn hash(kind: HashKind, text: &[u8]) -> String {
    let of = |algorithm| digest::digest(algorithm, text).as_ref().to_vec();
    let bytes = match kind {
        HashKind::Md5 => Md5::digest(text).to_vec(),
        HashKind::Sha1 => of(&SHA1_FOR_LEGACY_USE_ONLY),
        HashKind::Sha256 => of(&SHA256),
        HashKind::Sha512 => of(&SHA512),
    };
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1321 section A.5; FIPS 180-4 examples.
    #[test]
    fn hashes_are_those_of_their_standards() {
        let sha512 = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                      2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        for (kind, text, hex) in [
            (HashKind::Md5, "", "d41d8cd98f00b204e9800998ecf8427e"),
            (HashKind::Md5, "abc", "900150983cd24fb0d6963f7d28e17f72"),
            (HashKind::Md5, "message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            (HashKind::Sha1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                HashKind::Sha256,
                "abc",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (HashKind::Sha512, "abc", sha512),
        ] {
            assert_eq!(hash(kind, text.as_bytes()), hex, "{kind:?}");
        }
    }
}
