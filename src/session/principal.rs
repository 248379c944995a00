//! Who can have a session besides people: groups and partners, their keys and app tokens.
//!
//! Plain data; what each may do is in `authority` and its neighbours.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::identity::{GROUP, USER};
use super::ports::Account;
use super::token::SecretHash;
use crate::clock::UnixMs;
use crate::secret::Secret;

/// Prefix of the claim of a partner, and of the ids of users that only a partner knows.
pub const PARTNER: &str = "partner/";

/// Whom a session or a key belongs to.
///
/// Its text is `user/<id>`, `group/<name>`, `partner/<id>` or `partner/<id>/<user>`. A record keeps a
/// user as the bare id: ids of users have no `/`, so the forms cannot be mistaken for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A group: what an API key of a group acts as.
    Group(String),
    /// Somebody whom only a partner knows, by its word.
    Guest {
        /// Id of the partner.
        partner: String,
        /// The partner's id of the user.
        user: String,
    },
    /// A partner itself.
    Partner(String),
    /// A person, by stable id.
    User(String),
}

impl Principal {
    /// The text that a record keeps as its user.
    pub fn record(&self) -> String {
        match self {
            Self::User(id) => id.clone(),
            other => other.to_string(),
        }
    }

    /// Reads what [`Principal::record`] wrote.
    pub fn of_record(text: &str) -> Self {
        if !text.contains('/') {
            return Self::User(text.to_owned());
        }
        text.parse().unwrap_or_else(|NoPrincipal| Self::User(text.to_owned()))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => write!(f, "{GROUP}{name}"),
            Self::Guest { partner, user } => write!(f, "{PARTNER}{partner}/{user}"),
            Self::Partner(id) => write!(f, "{PARTNER}{id}"),
            Self::User(id) => write!(f, "{USER}{id}"),
        }
    }
}

/// The text names no principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write user/<id>, group/<name> or partner/<id>")]
pub struct NoPrincipal;

impl FromStr for Principal {
    type Err = NoPrincipal;

    fn from_str(text: &str) -> Result<Self, NoPrincipal> {
        let some = |name: &str| (!name.is_empty()).then(|| name.to_owned()).ok_or(NoPrincipal);
        if let Some(id) = text.strip_prefix(USER) {
            some(id).map(Self::User)
        } else if let Some(name) = text.strip_prefix(GROUP) {
            some(name).map(Self::Group)
        } else if let Some(rest) = text.strip_prefix(PARTNER) {
            match rest.split_once('/') {
                None => some(rest).map(Self::Partner),
                Some((partner, user)) => {
                    Ok(Self::Guest { partner: some(partner)?, user: some(user)? })
                }
            }
        } else {
            Err(NoPrincipal)
        }
    }
}

/// An API key or partner key. The secret is shown once, when the key is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Public id, a UUID.
    pub id: String,
    /// What it is for, for people; may be empty.
    pub name: String,
    /// Whom it acts as: a user, a group or a partner.
    pub owner: Principal,
    /// SHA-256 of the secret in its canonical form (see [`super::KeySecret`]).
    pub hash: SecretHash,
    /// When it was made.
    pub created: UnixMs,
    /// When it ends, if ever.
    pub expires: Option<UnixMs>,
}

impl Key {
    /// Whether the key may be used at `now`.
    pub fn is_live(&self, now: UnixMs) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

/// A partner (tenant): an organisation that makes sessions for its users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partner {
    /// Stable id; for the Kaltura dialect a positive decimal number.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// E-mail address of its administrator, may be empty.
    pub email: String,
    /// Web site, may be empty.
    pub website: String,
    /// Whether it may not be used.
    pub disabled: bool,
    /// Secrets that start user and admin sessions; the first one seals new KS. Several are active while
    /// one replaces the other.
    pub admin_secrets: Vec<Secret>,
    /// Secrets that start user sessions only.
    pub user_secrets: Vec<Secret>,
    /// Its users, by stable id.
    pub members: BTreeMap<String, Member>,
    /// Roles that `setrole` may name, besides the member's own: system names or ids.
    pub roles: Vec<String>,
    /// Whom it may make sessions for.
    pub reach: Reach,
    /// Longest life of a session that it makes.
    pub lifetime: Duration,
    /// Whether sessions that it sealed without asking the gateway (offline KS) are accepted.
    pub offline: bool,
    /// Whether KS version 1 is accepted (never issued).
    pub ks_v1: bool,
    /// Whether anonymous widget sessions may be started.
    pub widgets: bool,
    /// Its app tokens, by id.
    pub app_tokens: BTreeMap<String, AppToken>,
}

/// Whom a partner may make sessions for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Everybody in the directory.
    Everybody,
    /// Its members, and names that the directory does not know: those become guests.
    Guests,
    /// Its members.
    #[default]
    Members,
}

/// A user of a partner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The partner's id of the user; empty: the user's alias for the dialect, or the login name.
    pub alias: String,
    /// Role within the partner, may be empty.
    pub role: String,
    /// Whether the user administrates the partner.
    pub admin: bool,
    /// Privileges that take the place of those that a login asks for; `None`: those asked for.
    pub privileges: Option<String>,
}

impl Member {
    /// What the partner calls this member, whose account is `account` (Kaltura: the puser id).
    pub fn puser<'a>(&'a self, account: &'a Account) -> &'a str {
        if self.alias.is_empty() { account.puser() } else { &self.alias }
    }
}

/// How the hash of an app token is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashKind {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// A secret of a partner for its apps: they prove to have it by a hash over it and their session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppToken {
    /// Public id.
    pub id: String,
    /// The secret.
    pub token: Secret,
    /// How the hash is made.
    pub hash: HashKind,
    /// Stable id of the user that its sessions are for; empty: whom the app names.
    pub user: String,
    /// Whether its sessions are admin sessions.
    pub admin: bool,
    /// Privileges of its sessions, as of a KS.
    pub privileges: String,
    /// Longest life of its sessions.
    pub lifetime: Duration,
    /// When it ends, if ever.
    pub expires: Option<UnixMs>,
    /// Whether it may not be used.
    pub disabled: bool,
}
