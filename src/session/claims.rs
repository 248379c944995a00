//! What another API calls the user of a session, and the claims of a session as Nuvla lists them.
//!
//! Words only: who may act under which claim is decided elsewhere.

use super::identity::{Identity, USER, group_claim, user_claim};
use super::record::Kind;

/// Name of the API whose claims these are, as in a user's aliases.
pub const NUVLA: &str = "nuvla";

/// What everybody is, signed in or not.
const ANYBODY: &str = "nuvla-anon";
/// What everybody is who has signed in.
const SOMEBODY: &str = "nuvla-user";

/// A session in Nuvla's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NuvlaClaims {
    /// Whose session it is: `user/<id>`, or what else the session belongs to.
    pub user: String,
    /// Under which claim it acts.
    pub active: String,
    /// All that it may act with: the active claim, sub-groups when it is extended, what everybody is,
    /// and the session itself.
    pub claims: Vec<String>,
}

/// The claim of the user `id` as `dialect` knows it: by its alias, where there is one. What is no
/// person (a group, a partner, a partner's guest) has one name everywhere.
pub fn user_claim_in<'a>(
    dialect: &str,
    id: &str,
    aliases: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> String {
    if id.contains('/') {
        return id.to_owned();
    }
    match aliases.into_iter().find(|(known, _)| *known == dialect) {
        Some((_, alias)) => user_claim(alias.strip_prefix(USER).unwrap_or(alias)),
        None => user_claim(id),
    }
}

impl Identity {
    /// The user's own claim as `dialect` knows it.
    pub fn user_claim_in(&self, dialect: &str) -> String {
        user_claim_in(dialect, &self.user, &self.aliases)
    }

    /// A claim of this session as `dialect` knows it.
    pub fn claim_in(&self, dialect: &str, claim: &str) -> String {
        match claim.strip_prefix(USER) {
            Some(id) if id == self.user => self.user_claim_in(dialect),
            _ => claim.to_owned(),
        }
    }

    /// The session in Nuvla's words.
    pub fn nuvla(&self) -> NuvlaClaims {
        let mut claims: Vec<String> = Vec::new();
        let mut add = |claim: String| {
            if !claims.contains(&claim) {
                claims.push(claim);
            }
        };
        self.roles.iter().for_each(|role| add(self.claim_in(NUVLA, role)));
        // Who is behind an anonymous widget nobody knows.
        if self.kind != Kind::Widget {
            add(group_claim(SOMEBODY));
        }
        add(group_claim(ANYBODY));
        add(format!("session/{}", self.session));
        let active = self.claim_in(NUVLA, &self.claim);
        NuvlaClaims { user: self.user_claim_in(NUVLA), active, claims }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Identity {
        Identity {
            user: "u1".to_owned(),
            claim: "user/u1".to_owned(),
            roles: vec!["user/u1".to_owned()],
            session: "s1".to_owned(),
            ..Identity::default()
        }
    }

    #[test]
    fn a_session_begins_with_its_own_user() {
        let words = alice().nuvla();
        assert_eq!((words.user.as_str(), words.active.as_str()), ("user/u1", "user/u1"));
        assert_eq!(words.claims, ["user/u1", "group/nuvla-user", "group/nuvla-anon", "session/s1"]);
    }

    #[test]
    fn after_a_switch_the_user_is_no_claim_any_more() {
        let mut alice = alice();
        alice.claim = "group/staff".to_owned();
        alice.roles = vec!["group/staff".to_owned(), "group/ops".to_owned()];
        let words = alice.nuvla();
        assert_eq!((words.user.as_str(), words.active.as_str()), ("user/u1", "group/staff"));
        let wanted =
            ["group/staff", "group/ops", "group/nuvla-user", "group/nuvla-anon", "session/s1"];
        assert_eq!(words.claims, wanted);
    }

    #[test]
    fn an_alias_takes_the_place_of_the_id() {
        for alias in ["b3f1", "user/b3f1"] {
            let mut alice = alice();
            alice.aliases.insert(NUVLA.to_owned(), alias.to_owned());
            let words = alice.nuvla();
            assert_eq!((words.user.as_str(), words.active.as_str()), ("user/b3f1", "user/b3f1"));
            assert_eq!(words.claims.first().map(String::as_str), Some("user/b3f1"));
            assert_eq!(alice.claim_in(NUVLA, "user/u2"), "user/u2");
        }
    }

    #[test]
    fn groups_and_partners_have_one_name() {
        for user in ["group/ops", "partner/102", "partner/102/bob"] {
            let identity = Identity { user: user.to_owned(), ..alice() };
            assert_eq!(identity.user_claim_in(NUVLA), user);
        }
    }
}
