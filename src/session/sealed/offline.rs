//! Sealed sessions (KS) as they are used: those that are known, and those that a partner made without
//! asking, whose record is made at first sight.
//!
//! Garbage costs no store call, and no cryptography unless it names a partner.

use std::sync::Arc;

use super::draft::{Draft, Place};
use super::grants::Grants;
use crate::audit::Origin;
use crate::clock::UnixMs;
use crate::ks::{Fields, Ks, KsKind, Version};
use crate::session::authority::Authority;
use crate::session::command::{Refusal, Worthless};
use crate::session::lookup::Found;
use crate::session::principal::Partner;
use crate::session::reach::Subject;
use crate::session::token::{Form, Token};

/// The name of the login method of sessions that were made without asking.
const METHOD: &str = "offline";

impl Authority {
    /// The session that a KS opens.
    pub(in crate::session) async fn sealed(
        self: &Arc<Self>,
        token: &Token,
    ) -> Result<Found, Refusal> {
        let Some((ks, partner)) = self.read_ks(token) else { return Ok(Err(Worthless::Invalid)) };
        let found = self.stored(token).await?;
        let mut opened = partner.admin_secrets.iter().map(|secret| ks.open(secret));
        // Also of one that is known: a secret that was taken back takes its sessions along.
        let Some(fields) = opened.find_map(Result::ok) else {
            return Ok(Err(Worthless::Invalid));
        };
        match found {
            // Not in the store.
            Err(Worthless::Invalid) => {}
            found => return Ok(found),
        }
        if UnixMs(fields.expires.saturating_mul(1000)) <= self.clock.now() {
            return Ok(Err(Worthless::Expired));
        }
        if !partner.offline {
            return Ok(Err(Worthless::Invalid));
        }
        match self.drafted(partner, fields) {
            Some(draft) => self.adopt(token, &draft).await,
            None => Ok(Err(Worthless::Invalid)),
        }
    }

    /// The KS that a token is, and its partner, as far as that may be one.
    fn read_ks(&self, token: &Token) -> Option<(Ks, Arc<Partner>)> {
        let text = token.encode();
        let ks = Ks::parse(&text).ok()?;
        let same = Token::of_text(Form::Ks, ks.identity(), String::new()).id() == token.id();
        let partner = self.partner(ks.partner()).filter(|_| same)?;
        (ks.version() != Version::V1 || partner.ks_v1).then_some((ks, partner))
    }

    /// What the partner has sealed, if it may have.
    fn drafted(&self, partner: Arc<Partner>, fields: Fields) -> Option<Draft> {
        let grants = Grants::sealed(&fields.privileges)?;
        let anonymous = fields.user.is_empty() || fields.user == "0";
        let subject = if fields.kind == KsKind::Widget || grants.widget && anonymous {
            if !partner.widgets || !anonymous {
                return None;
            }
            None
        } else {
            Some(Subject::find(&partner, &fields.user, &*self.directory)?)
        };
        let admin = fields.kind == KsKind::Admin && subject.is_some();
        let expires = UnixMs(fields.expires.saturating_mul(1000));
        let name = if subject.is_some() { fields.user } else { String::new() };
        let draft =
            Draft { partner, subject, name, admin, grants, method: METHOD, acts: true, expires };
        draft.has_role().then_some(draft)
    }

    /// Makes the record of a KS that was never seen. Of nodes that see it at once, one makes it.
    async fn adopt(self: &Arc<Self>, token: &Token, draft: &Draft) -> Result<Found, Refusal> {
        let parent = match &draft.grants.group {
            None => None,
            Some(name) => match self.join_group(&draft.partner.id, name, draft.expires).await? {
                Ok(parent) => Some(parent),
                Err(worthless) => return Ok(Err(worthless)),
            },
        };
        let now = self.clock.now();
        let place = Place { now, created: self.moment(now), ip: None, agent: "" };
        let created = self.store.create(draft.record(token, parent, place)).await;
        let found = self.fetch(token.id()).await?;
        match (&found, created) {
            (Ok(live), Ok(())) => self.note_login(live, &Origin::default()),
            // It is not there since it could not be written.
            (Err(Worthless::Invalid), Err(error)) => {
                return Err(crate::session::authority::unavailable(&error));
            }
            _ => {}
        }
        Ok(found)
    }
}
