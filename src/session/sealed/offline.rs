//! Sealed sessions (KS) as they are used: those that are known, and those that a partner made without
//! asking, whose record is made at first sight.
//!
//! Garbage costs no store call, and no cryptography unless it names a partner.

use std::sync::Arc;
use std::time::Duration;

use super::draft::{Draft, Place};
use super::grants::Grants;
use crate::audit::Origin;
use crate::clock::UnixMs;
use crate::ks::{Fields, Ks, KsKind, Version};
use crate::session::authority::Authority;
use crate::session::command::{Refusal, Worthless};
use crate::session::lookup::Found;
use crate::session::principal::Partner;
use crate::session::reach::{OFFLINE, Subject};
use crate::session::token::{Form, SecretHash, Token};

/// How far ahead of ours a partner's clock may be: the KS that it seals for its whole `lifetime` seems to
/// last longer by that.
const CLOCKS_APART: Duration = Duration::from_secs(60);

impl Authority {
    /// The session that a KS opens.
    pub(in crate::session) async fn sealed(
        self: &Arc<Self>,
        token: &Token,
    ) -> Result<Found, Refusal> {
        let Some((ks, partner)) = self.read_ks(token) else { return Ok(Err(Worthless::Invalid)) };
        // Also of one that is known: a secret that was taken back takes its sessions along.
        let opened = partner.admin_secrets.iter().find_map(|secret| {
            ks.open(secret).ok().map(|fields| (fields, partner.seal_of(secret)))
        });
        let Some((fields, sealed_by)) = opened else { return Ok(Err(Worthless::Invalid)) };
        let too_long = self.outlasts(&partner, &fields);
        match self.stored(token).await? {
            // Not in the store.
            Err(Worthless::Invalid) => {}
            // Of a time when the partner's sessions might last longer.
            Ok(live) if too_long && live.record().method == OFFLINE => {
                return Ok(Err(Worthless::Invalid));
            }
            found => return Ok(found),
        }
        if UnixMs(fields.expires.saturating_mul(1000)) <= self.clock.now() {
            return Ok(Err(Worthless::Expired));
        }
        if !partner.offline || too_long {
            return Ok(Err(Worthless::Invalid));
        }
        match self.drafted(partner, fields) {
            Some(draft) => self.adopt(token, &draft, sealed_by).await,
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

    /// Whether a KS would go on for longer than the partner's sessions may. It does not say when it was
    /// made, so what counts is how long it has left. To cut it at its first use would not do: once its
    /// record is gone, the next use would be a first one again.
    fn outlasts(&self, partner: &Partner, fields: &Fields) -> bool {
        let latest = self.clock.now().plus(partner.lifetime).plus(CLOCKS_APART);
        UnixMs(fields.expires.saturating_mul(1000)) > latest
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
            Draft { partner, subject, name, admin, grants, method: OFFLINE, acts: true, expires };
        draft.has_role().then_some(draft)
    }

    /// Makes the record of a KS that was never seen. Of nodes that see it at once, one makes it.
    async fn adopt(
        self: &Arc<Self>,
        token: &Token,
        draft: &Draft,
        sealed_by: SecretHash,
    ) -> Result<Found, Refusal> {
        let parent = match &draft.grants.group {
            None => None,
            Some(name) => match self.join_group(&draft.partner.id, name, draft.expires).await? {
                Ok(parent) => Some(parent),
                Err(worthless) => return Ok(Err(worthless)),
            },
        };
        let now = self.clock.now();
        let sealed_by = Some(sealed_by);
        let place = Place { now, created: self.moment(now), ip: None, agent: "", sealed_by };
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
