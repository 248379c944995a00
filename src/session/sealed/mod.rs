//! Sealed sessions (KS): by what right one is opened, what it says and holds, and how one that was never
//! seen becomes a session.
//!
//! The text is sealed and read by `ks`. Every KS that is given out here has its record from the start.

mod app_token;
mod draft;
mod grants;
mod group;
mod offline;
#[cfg(test)]
mod tests;
mod ways;
mod widget;

use std::sync::Arc;

use self::draft::{Draft, Place};
pub(super) use self::widget::Widgets;
use super::authority::{AGENT_LENGTH, Authority, no_randomness, shorten};
use super::command::{Caller, KsTerms, Outcome, Refusal, Seal};
use super::open::Shown;
use super::token::{Form, Token};
use crate::ks::{Ks, seal};
use crate::secret::random;

impl Authority {
    /// Opens a sealed session. The session that the request carries goes on.
    pub(super) async fn start_sealed(
        self: &Arc<Self>,
        seal: &Seal,
        terms: &KsTerms,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let mut shown = None;
        let draft = match seal {
            Seal::AppToken { id, hash, user, admin: _, ks } => {
                let app = app_token::Shown { id, hash, user, ks };
                self.by_app_token(&app, terms, caller).await?
            }
            Seal::Password { credentials, tenant, by_alias } => {
                let tenant = tenant.as_deref();
                let proven = self.by_password(credentials, tenant, *by_alias, terms, caller);
                let (draft, by) = proven.await?;
                shown = Some(by);
                draft
            }
            Seal::Secret { tenant, secret, user, admin } => {
                let asked = ways::Asked { user, admin: *admin };
                self.by_secret(tenant, secret, &asked, terms, caller).await?
            }
            Seal::Widget { tenant } => self.by_widget(tenant, terms, caller)?,
        };
        self.give(&draft, shown, caller).await
    }

    /// Seals the KS of a draft and opens its session.
    async fn give(
        self: &Arc<Self>,
        draft: &Draft,
        shown: Option<Shown>,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let partner = &draft.partner;
        // Nobody can prove a KS of a partner without one.
        let secret = partner.admin_secrets.first().ok_or(Refusal::InvalidCredentials)?;
        let random = random().map_err(no_randomness)?;
        let text = seal(&partner.id, &draft.fields(), secret, random);
        // Unreadable: what was asked for is too long.
        let ks = Ks::parse(&text).ok().filter(|ks| ks.partner() == partner.id);
        let ks = ks.ok_or(Refusal::InvalidCredentials)?;
        let token = Token::of_text(Form::Ks, ks.identity(), text);
        let parent = match &draft.grants.group {
            None => None,
            Some(name) => {
                let joined = self.join_group(&partner.id, name, draft.expires).await?;
                Some(joined.map_err(|_| Refusal::Forbidden)?)
            }
        };
        let now = self.clock.now();
        let agent = shorten(&caller.agent, AGENT_LENGTH);
        let sealed_by = Some(partner.seal_of(secret));
        let place = Place { now, created: self.moment(now), ip: caller.ip, agent, sealed_by };
        let record = draft.record(&token, parent, place);
        let (live, token) = self.hand_out(record, token, None, shown, caller).await?;
        Ok(Outcome::Opened(live, token))
    }
}
