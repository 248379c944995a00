//! A sealed session before it is made: what its KS says and what its record holds are written here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Map;

use super::grants::Grants;
use crate::clock::UnixMs;
use crate::ks::{Fields, KsKind};
use crate::session::principal::{Partner, Principal};
use crate::session::reach::Subject;
use crate::session::record::{CHOOSE_TENANT, Kind, NO_IDLE_LIMIT, RECORD_VERSION, Record};
use crate::session::token::{SecretHash, SessionId, Token};

/// How long a session lives when nobody says.
pub(super) const USUAL: Duration = Duration::from_secs(24 * 3600);

/// A sealed session before it is made.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) partner: Arc<Partner>,
    /// Whose it is; `None`: a widget's.
    pub(super) subject: Option<Subject>,
    /// What the partner calls them.
    pub(super) name: String,
    pub(super) admin: bool,
    pub(super) grants: Grants,
    /// By what it was proven.
    pub(super) method: &'static str,
    /// Whether the partner acts for the user.
    pub(super) acts: bool,
    /// In whole seconds.
    pub(super) expires: UnixMs,
}

/// Where a session is opened from, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place<'a> {
    pub(super) now: UnixMs,
    /// See [`Record::created`].
    pub(super) created: UnixMs,
    pub(super) ip: Option<IpAddr>,
    pub(super) agent: &'a str,
    /// See [`Record::sealed_by`].
    pub(super) sealed_by: Option<SecretHash>,
}

impl Draft {
    /// What the KS says.
    pub(super) fn fields(&self) -> Fields {
        Fields {
            expires: self.expires.seconds(),
            kind: if self.admin { KsKind::Admin } else { KsKind::User },
            user: self.name.clone(),
            privileges: self.grants.text(),
            master: None,
            data: None,
        }
    }

    /// The record of the session that `token` opens and that ends with `parent`.
    pub(super) fn record(
        &self,
        token: &Token,
        parent: Option<SessionId>,
        place: Place<'_>,
    ) -> Record {
        let partner = Principal::Partner(self.partner.id.clone());
        let owner = self.subject.as_ref().map_or(&partner, |subject| &subject.principal);
        let (kind, claim) = match (&self.subject, owner) {
            (None, _) => (Kind::Widget, String::new()),
            (_, Principal::Partner(_)) => (Kind::Partner, owner.to_string()),
            _ => (Kind::User, owner.to_string()),
        };
        let identifier = if self.name.is_empty() { &claim } else { &self.name };
        Record {
            version: RECORD_VERSION,
            generation: 0,
            id: token.id(),
            secret: token.hash(),
            previous: None,
            form: token.form(),
            kind,
            user: owner.record(),
            identifier: identifier.clone(),
            claim,
            extended: false,
            tenant: Some(self.partner.id.clone()),
            method: self.method.to_owned(),
            level: 1,
            authenticated: place.now,
            actor: (self.acts && kind == Kind::User).then(|| partner.to_string()),
            key: None,
            ip: place.ip,
            agent: place.agent.to_owned(),
            created: place.created,
            seen: place.now,
            expires: self.expires,
            idle_ms: NO_IDLE_LIMIT,
            privileges: self.grants.listed.clone(),
            parent,
            limits: self.grants.limits.clone(),
            sealed_by: place.sealed_by,
            role: self.grants.role.clone(),
            scope: self.grants.choose.then(|| CHOOSE_TENANT.to_owned()),
            admin: self.admin,
            over: false,
            other: Map::new(),
        }
    }

    /// Whether the role that is asked for, if one is, may be had.
    pub(super) fn has_role(&self) -> bool {
        let member = self.subject.as_ref().and_then(|subject| subject.member.as_ref());
        let role = self.grants.role.as_deref();
        role.is_none_or(|role| self.subject.is_some() && self.partner.grants(role, member))
    }
}

/// The end of a session that lives so long from `now`, in whole seconds; `None` when it would not live.
pub(super) fn end(asked: Option<Duration>, limits: &[Duration], now: UnixMs) -> Option<UnixMs> {
    let asked = asked.unwrap_or(USUAL);
    let life = limits.iter().fold(asked, |life, limit| life.min(*limit));
    let end = now.seconds().saturating_add(life.as_secs());
    (life.as_secs() > 0).then_some(UnixMs(end.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_capped_and_end_at_a_whole_second() {
        let hour = Duration::from_secs(3600);
        let now = UnixMs(1_000_500);
        assert_eq!(end(None, &[hour], now), Some(UnixMs(4_600_000)));
        assert_eq!(end(Some(Duration::from_secs(60)), &[hour], now), Some(UnixMs(1_060_000)));
        assert_eq!(end(Some(Duration::from_millis(900)), &[hour], now), None);
        assert_eq!(end(None, &[hour, Duration::ZERO], now), None);
        assert_eq!(end(None, &[], now), Some(UnixMs(87_400_000)));
        assert!(end(Some(Duration::MAX), &[], now).is_some());
    }
}
