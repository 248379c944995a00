//! Partners that open sessions for their users, and the partners that somebody administrates.

use std::sync::Arc;

use super::authority::{Authority, signed_in};
use super::command::{Caller, Outcome, Refusal, Terms, Whom};
use super::live::Live;
use super::principal::{Partner, Principal};
use super::record::Kind;
use super::token::Form;

/// By whose right a session is opened for somebody.
#[derive(Debug)]
enum By {
    /// A partner, for whom it reaches.
    Partner(Arc<Partner>),
    /// Somebody by a key, for themselves.
    User(String),
}

impl Authority {
    /// Opens a session for somebody else. The caller's goes on.
    pub(super) async fn act_for(
        self: &Arc<Self>,
        whom: &Whom,
        terms: &Terms,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let live = signed_in(caller)?;
        let by = self.by(live)?;
        let account = self.whom(whom);
        let account = match &by {
            By::Partner(partner) => {
                let reached = account.filter(|account| partner.reaches(account));
                reached.ok_or(Refusal::Missing("user"))?
            }
            By::User(id) => {
                account.filter(|account| account.id == *id).ok_or(Refusal::Forbidden)?
            }
        };
        let method = live.record().method.clone();
        let (mut record, token) = self.draft(&account, &method, terms, caller)?;
        match by {
            By::Partner(partner) => {
                record.actor = Some(Principal::Partner(partner.id.clone()).to_string());
                record.tenant = Some(partner.id.clone());
            }
            By::User(id) => {
                record.actor = Some(Principal::User(id).to_string());
                // It ends with the key.
                record.key = Some(live.record().identifier.clone());
                record.expires = self.with_key(&record, record.expires);
            }
        }
        // It ends with the key that it was made with.
        record.key.clone_from(&live.record().key);
        record.expires = self.with_key(&record, record.expires);
        let (live, token) = self.hand_out(record, token, None, None, caller).await?;
        Ok(Outcome::Opened(live, token))
    }

    fn by(&self, live: &Live) -> Result<By, Refusal> {
        let record = live.record();
        match Principal::of_record(&record.user) {
            // What a KS may do is said by its privileges and limits: a session made by it has none.
            Principal::Partner(id) if record.kind == Kind::Partner && record.form != Form::Ks => {
                self.partner(&id).map(By::Partner).ok_or(Refusal::Forbidden)
            }
            // A session that could make others would have no end.
            Principal::User(id) if record.form == Form::Key => Ok(By::User(id)),
            _ => Err(Refusal::Forbidden),
        }
    }

    /// The partners in which the caller is a member who administrates it, sorted by id.
    pub(super) fn scopes(&self, caller: &Caller) -> Result<Outcome, Refusal> {
        let live = signed_in(caller)?;
        let id = match Principal::of_record(&live.record().user) {
            Principal::User(id) => id,
            Principal::Partner(own) | Principal::Guest { partner: own, .. } => {
                return Ok(Outcome::Scopes(self.partner(&own).into_iter().collect()));
            }
            Principal::Group(_) => return Ok(Outcome::Scopes(Vec::new())),
        };
        let mut partners = self.directory.partners_of(&id);
        let administrates = |partner: &Arc<Partner>| {
            !partner.disabled && partner.members.get(&id).is_some_and(|member| member.admin)
        };
        // A session that a partner made tells its apps nothing of other partners.
        let within = |partner: &Arc<Partner>| match &live.record().actor {
            Some(_) => live.record().tenant.as_deref() == Some(&partner.id),
            None => true,
        };
        partners.retain(|partner| administrates(partner) && within(partner));
        Ok(Outcome::Scopes(partners))
    }
}
