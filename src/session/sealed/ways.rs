//! Sealed sessions by a secret of the partner, and by a password.

use std::sync::Arc;

use super::draft::{Draft, end};
use super::grants::Grants;
use crate::secret::Secret;
use crate::session::authority::{Authority, unavailable};
use crate::session::command::{Caller, KsTerms, Refusal};
use crate::session::counters::Person;
use crate::session::open::Shown;
use crate::session::ports::{Account, Credentials};
use crate::session::principal::{PARTNER, Partner};
use crate::session::reach::{SECRET, Subject, member};

/// The session that a secret of a partner is to open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The partner's id of the user; empty: itself.
    pub(super) user: &'a str,
    pub(super) admin: bool,
}

impl Authority {
    /// Whoever knows a secret of a partner opens sessions for its users. Nothing tells why one was
    /// refused.
    pub(super) async fn by_secret(
        &self,
        tenant: &str,
        secret: &Secret,
        asked: &Asked<'_>,
        terms: &KsTerms,
        caller: &Caller,
    ) -> Result<Draft, Refusal> {
        let typed = format!("{PARTNER}{tenant}");
        let attempt = self.attempt(&Person::typed(&typed), &typed, caller).await?;
        let partner = self.partner(tenant);
        let proven = partner.filter(|partner| knows(partner, secret, asked.admin));
        let Some(partner) = proven else {
            if let Err(error) = attempt.failed().await {
                self.note_failure(&typed, "store", caller);
                return Err(unavailable(&error));
            }
            self.note_failure(&typed, "invalid", caller);
            return Err(Refusal::InvalidCredentials);
        };
        attempt.succeeded().await;
        self.for_user(partner, asked, terms).ok_or_else(|| {
            self.note_failure(&typed, "invalid", caller);
            Refusal::InvalidCredentials
        })
    }

    fn for_user(&self, partner: Arc<Partner>, asked: &Asked<'_>, terms: &KsTerms) -> Option<Draft> {
        let grants = Grants::asked(&terms.privileges)?;
        let subject = Subject::find(&partner, asked.user, &*self.directory)?;
        let expires = end(terms.lifetime, &[partner.lifetime], self.clock.now())?;
        let draft = Draft {
            partner,
            subject: Some(subject),
            name: asked.user.to_owned(),
            admin: asked.admin,
            grants,
            method: SECRET,
            acts: true,
            expires,
        };
        draft.has_role().then_some(draft)
    }

    /// Somebody who is a member of a partner opens a session with their own password.
    pub(super) async fn by_password(
        self: &Arc<Self>,
        credentials: &Credentials,
        tenant: Option<&str>,
        by_alias: bool,
        terms: &KsTerms,
        caller: &Caller,
    ) -> Result<(Draft, Shown), Refusal> {
        let Credentials::Password { identifier, password } = credentials else {
            return Err(Refusal::Unsupported);
        };
        let identifier = match by_alias {
            false => identifier.clone(),
            // Nobody has an empty name: whoever is unknown costs as much as a wrong password.
            true => self.login_name(tenant, identifier).unwrap_or_default(),
        };
        let shown = Credentials::Password { identifier, password: password.clone() };
        let choose = |account: &Arc<Account>| {
            Some((self.of_member(account, tenant, terms)?, Arc::clone(account)))
        };
        let proven = self.prove(&shown, credentials.identifier(), caller, choose).await?;
        let (method, (draft, account)) = proven;
        Ok((Draft { method, ..draft }, Shown { credentials: shown, account }))
    }

    /// The login name of the member whom a partner calls `alias`.
    fn login_name(&self, tenant: Option<&str>, alias: &str) -> Option<String> {
        let partner = self.partner(tenant?)?;
        let account = member(&partner, alias, &*self.directory)?;
        Some(account.identifier.clone())
    }

    /// The session of somebody who has proven who they are. Without a tenant it is that of the only
    /// partner that lists them; when there are several, one that may only choose.
    fn of_member(
        &self,
        account: &Arc<Account>,
        tenant: Option<&str>,
        terms: &KsTerms,
    ) -> Option<Draft> {
        let mut partners = self.directory.partners_of(&account.id);
        partners.retain(|partner| !partner.disabled);
        let several = partners.len() > 1;
        let chosen = |partner: &Arc<Partner>| tenant.is_none_or(|tenant| partner.id == tenant);
        let partner = partners.into_iter().find(chosen)?;
        let listed = partner.members.get(&account.id)?;
        let confined = tenant.is_none() && several;
        let mut grants = if confined {
            Grants::choosing()
        } else {
            let asked = if terms.privileges.is_empty() { "*" } else { &terms.privileges };
            Grants::asked(listed.privileges.as_deref().unwrap_or(asked))?
        };
        // A role that the member did not get from the partner is not theirs to choose.
        let chosen = |role: &String| listed.privileges.is_some() || *role == listed.role;
        if !grants.role.as_ref().is_none_or(chosen) {
            return None;
        }
        // Nor can a member end what others name alike.
        let group = grants.group.take();
        grants.group = group.map(|name| format!("{}\0{name}", account.id));
        let expires = end(terms.lifetime, &[partner.lifetime], self.clock.now())?;
        let draft = Draft {
            name: Subject::name(&partner, account),
            admin: listed.admin && !confined,
            subject: Some(Subject::person(&partner, account)),
            partner,
            grants,
            method: "password",
            acts: false,
            expires,
        };
        draft.has_role().then_some(draft)
    }
}

/// Whether `secret` opens sessions of the partner. All are compared, whichever is the right one.
fn knows(partner: &Partner, secret: &Secret, admin: bool) -> bool {
    let user = if admin { &[][..] } else { &partner.user_secrets };
    let all = partner.admin_secrets.iter().chain(user);
    all.fold(false, |found, known| (known == secret) | found)
}
