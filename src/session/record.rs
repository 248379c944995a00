//! The record of a session as the store keeps it: one JSON document with a version number.
//!
//! Holds facts; the rules are in `authority` and `lookup`. Fields that a newer version wrote are
//! kept when an older one writes the record back.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::token::{Form, SecretHash, SessionId};
use crate::clock::UnixMs;

/// The idle limit of sessions that have none, in ms.
pub(super) const NO_IDLE_LIMIT: u64 = u64::MAX;
/// The scope of a session that may only choose a tenant (partner).
pub const CHOOSE_TENANT: &str = "choose-tenant";
/// The version that this program writes.
pub const RECORD_VERSION: u32 = 1;

/// What kind of principal a session belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A key that acts by itself.
    ApiKey,
    /// A partner (tenant) that acts for its users.
    Partner,
    /// A person.
    #[default]
    User,
    /// An anonymous widget.
    Widget,
}

/// The secret that was valid until the last claim switch, honoured for requests in flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Previous {
    /// Its hash.
    pub hash: SecretHash,
    /// The end of its grace, in ms since the epoch.
    pub until: UnixMs,
}

/// What a session may be used for, besides its time: each is enforced at every use, whatever carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Number of uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<u32>,
    /// Uses so far, of those that `actions` counts.
    #[serde(default)]
    pub used: u32,
    /// Client addresses; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpAddr>,
    /// Path and query, exactly, or by what comes before a final `*`; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
}

/// A session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Version of the document, [`RECORD_VERSION`].
    #[serde(rename = "v")]
    pub version: u32,
    /// Grows by one with every change but a touch: the guard of compare-and-set.
    pub generation: u64,
    /// Public id, the store's key.
    pub id: SessionId,
    /// SHA-256 of the current secret.
    pub secret: SecretHash,
    /// The secret before the last claim switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// Form of its token.
    #[serde(default, skip_serializing_if = "is_own")]
    pub form: Form,
    /// Kind of principal.
    #[serde(default)]
    pub kind: Kind,
    /// Stable id of the user.
    pub user: String,
    /// Login name that was used.
    pub identifier: String,
    /// Active claim, `user/<id>` or `group/<name>`.
    pub claim: String,
    /// Whether the roles include the sub-groups of the active claim.
    #[serde(default)]
    pub extended: bool,
    /// Tenant (partner), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Login method, such as `password`.
    pub method: String,
    /// Authentication level, 1 = one factor.
    #[serde(default = "one")]
    pub level: u8,
    /// When the holder last proved who they are.
    pub authenticated: UnixMs,
    /// Who acts for the user, if somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Id of the key that it was made with: it ends with that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Address at login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// User-Agent at login, cut to 256 bytes.
    #[serde(default)]
    pub agent: String,
    /// Creation time.
    pub created: UnixMs,
    /// Last use that was written; the exact one is in [`super::Pulse`].
    pub seen: UnixMs,
    /// Absolute end.
    pub expires: UnixMs,
    /// Idle limit in ms.
    pub idle_ms: u64,
    /// Privileges of dialects, verbatim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub privileges: Vec<String>,
    /// The session that this one ends with: for a KS, that of its `sessionid` group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
    /// What it may be used for; `None`: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// By what the secret is known that sealed it: a hash of it and its partner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_by: Option<SecretHash>,
    /// Role within the tenant, if one was asked for and granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What it is confined to, such as [`CHOOSE_TENANT`]; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Whether it administrates its tenant.
    #[serde(default, skip_serializing_if = "is_false")]
    pub admin: bool,
    /// The session has ended, and is kept so that its token, which proves itself, opens no new one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub over: bool,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_own(form: &Form) -> bool {
    *form == Form::Own
}

fn one() -> u8 {
    1
}

impl Record {
    /// When the session ends if nobody uses it from now on: the nearer of idle and absolute end.
    pub fn ends(&self) -> UnixMs {
        self.expires.min(self.seen.plus(Duration::from_millis(self.idle_ms)))
    }

    /// How long it may stay unused, if that is limited.
    pub fn idle(&self) -> Option<Duration> {
        (self.idle_ms != NO_IDLE_LIMIT).then(|| Duration::from_millis(self.idle_ms))
    }

    /// Whether it would open again at the next use if its record were gone: when it ends, the record
    /// must stay. So is the parent of such sessions.
    pub fn is_sealed(&self) -> bool {
        matches!(self.form, Form::Ks | Form::Group)
    }

    /// Whether it is a session that somebody has: not one that is over, nor the parent of others.
    pub fn is_listed(&self) -> bool {
        !self.over && self.form != Form::Group
    }

    /// What is kept of it once it has ended, until `expires`. No change follows it: its generation is
    /// the last one.
    pub(super) fn tombstone(&self, expires: UnixMs) -> Self {
        Self {
            generation: u64::MAX,
            previous: None,
            identifier: String::new(),
            agent: String::new(),
            expires: self.expires.max(expires),
            idle_ms: NO_IDLE_LIMIT,
            privileges: Vec::new(),
            limits: None,
            over: true,
            ..self.clone()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::session::Token;

    /// A record that lives for an hour from `now`, and the token that opens it.
    pub(crate) fn sample(user: &str, now: UnixMs) -> (Record, Token) {
        let token = Token::issue(SessionId::issue().unwrap()).unwrap();
        let record = Record {
            version: RECORD_VERSION,
            generation: 0,
            id: token.id(),
            secret: token.hash(),
            previous: None,
            form: Form::Own,
            kind: Kind::User,
            user: user.to_owned(),
            identifier: user.to_owned(),
            claim: format!("user/{user}"),
            extended: false,
            tenant: None,
            method: "password".to_owned(),
            level: 1,
            authenticated: now,
            actor: None,
            key: None,
            ip: None,
            agent: String::new(),
            created: now,
            seen: now,
            expires: now.plus(Duration::from_secs(3600)),
            idle_ms: 600_000,
            privileges: Vec::new(),
            parent: None,
            limits: None,
            sealed_by: None,
            role: None,
            scope: None,
            admin: false,
            over: false,
            other: Map::new(),
        };
        (record, token)
    }

    #[test]
    fn fields_of_a_newer_version_survive_an_older_writer() {
        let (record, _) = sample("u1", UnixMs(1));
        let mut json = serde_json::to_value(&record).unwrap();
        json["v"] = 2.into();
        json["device_key"] = "abc".into();
        let old: Record = serde_json::from_value(json).unwrap();
        let back = serde_json::to_value(&old).unwrap();
        assert_eq!(back["device_key"], "abc");
        assert_eq!(back["v"], 2);
    }

    #[test]
    fn numbers_of_a_newer_version_do_not_drift() {
        let (record, _) = sample("u1", UnixMs(1));
        for number in [123_456_789.123_456_78, 0.1, 1e-7, 5e-324, f64::MAX] {
            let mut json = serde_json::to_value(&record).unwrap();
            json["score"] = number.into();
            for _ in 0..3 {
                let text = json.to_string();
                let read: Record = serde_json::from_str(&text).unwrap();
                json = serde_json::to_value(&read).unwrap();
                assert_eq!(json["score"].as_f64(), Some(number), "{text}");
            }
        }
    }

    #[test]
    fn a_record_without_optional_fields_is_read() {
        let (record, _) = sample("u1", UnixMs(1));
        let mut json = serde_json::to_value(&record).unwrap();
        let fields = json.as_object_mut().unwrap();
        for optional in ["kind", "extended", "level", "agent"] {
            fields.remove(optional);
        }
        let read: Record = serde_json::from_value(json).unwrap();
        assert_eq!(read.level, 1);
        assert_eq!(read.kind, Kind::User);
    }

    #[test]
    fn the_nearer_end_counts() {
        let (mut record, _) = sample("u1", UnixMs(0));
        assert_eq!(record.ends(), UnixMs(600_000));
        record.seen = UnixMs(3_590_000);
        assert_eq!(record.ends(), UnixMs(3_600_000));
    }
}
