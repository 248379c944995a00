//! What every dialect speaks: a command, its outcome, its refusal.
//!
//! No wording and no status codes: dialects choose those.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::identity::GroupNode;
use super::live::Live;
use super::ports::{Account, Credentials};
use super::principal::{Key, Member, Partner};
use super::record::Record;
use super::token::{Form, SessionId, Token};
use crate::secret::Secret;

/// Who asks, and from where.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The validated session that the request carries.
    pub session: Option<Arc<Live>>,
    /// Client address.
    pub ip: Option<IpAddr>,
    /// User-Agent as sent.
    pub agent: String,
    /// Request id.
    pub request: String,
}

/// How long a session lives and what its token looks like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Form of the token: [`Form::Own`] or [`Form::Sid`].
    pub form: Form,
    /// Absolute lifetime, when it is not the usual one.
    pub lifetime: Option<Duration>,
    /// Idle lifetime, when it is not the usual one.
    pub idle: Option<Duration>,
}

/// Whom a partner wants to act for.
#[derive(Clone, Debug)]
pub enum Whom {
    /// The person whom a dialect knows under this id.
    Alias {
        /// Name of the dialect.
        dialect: &'static str,
        /// Its id of the person.
        id: String,
    },
    /// The only person with this e-mail address.
    Email(String),
}

/// What is asked of a sealed session (KS).
#[derive(Clone, Debug, Default)]
pub struct KsTerms {
    /// Lifetime asked for; the partner's limit holds.
    pub lifetime: Option<Duration>,
    /// Privileges, comma-separated `name[:value]`.
    pub privileges: String,
}

/// By what right a sealed session (KS) is asked for.
#[derive(Clone, Debug)]
pub enum Seal {
    /// The secret of an app token; the caller's session is a KS of its partner.
    AppToken {
        /// Id of the app token.
        id: String,
        /// Hex of the hash over the caller's KS and the secret.
        hash: String,
        /// The partner's id of the user, empty for the token's or the caller's.
        user: String,
        /// Whether an admin session is asked for; `None`: what the token says.
        admin: Option<bool>,
        /// The caller's KS as it was sent: part of what is hashed.
        ks: Secret,
    },
    /// A password; `tenant` is chosen for the user when it is not given.
    Password {
        /// Login name, or the tenant's id of the user.
        credentials: Credentials,
        /// Id of the partner.
        tenant: Option<String>,
        /// Whether the identifier is the tenant's id of the user.
        by_alias: bool,
    },
    /// A secret of the partner.
    Secret {
        /// Id of the partner.
        tenant: String,
        /// Its admin or user secret.
        secret: Secret,
        /// The partner's id of the user; empty for the partner itself.
        user: String,
        /// Whether an admin session is asked for.
        admin: bool,
    },
    /// None: an anonymous widget of a partner.
    Widget {
        /// Id of the partner.
        tenant: String,
    },
}

/// A session that a login is to open.
#[derive(Clone, Debug)]
pub struct Opening {
    /// What is shown.
    pub credentials: Credentials,
    /// What is wanted.
    pub terms: Terms,
}

/// Something to be done with sessions.
#[derive(Clone, Debug)]
pub enum Command {
    /// Open a session for somebody else; the caller is a partner, or a key of that person.
    ActFor(Whom, Terms),
    /// Who a user of the caller's tenant is, by the tenant's id of them; the caller administrates it.
    Describe(String),
    /// End all of the caller's sessions but the one that asks.
    EndOthers,
    /// End one of the caller's sessions.
    EndSession(SessionId),
    /// The groups that the caller may act as.
    Groups,
    /// Who am I.
    Inspect,
    /// Make a key that acts under the caller's active claim.
    IssueKey {
        /// What it is for.
        name: String,
        /// How long it lives; `None`: until it is revoked.
        lifetime: Option<Duration>,
    },
    /// Make a key for the partner that the caller is, or administrates, in the name of one of its users.
    IssuePartnerKey(Whom),
    /// The keys that act under the caller's active claim.
    ListKeys,
    /// The names of the login methods.
    ListMethods,
    /// The caller's sessions.
    ListSessions,
    /// Prove who somebody is and open a session; the session that the request carried ends.
    Login(Opening),
    /// The same, of somebody whom a dialect knows by an id of its own. Of nobody it takes as long, and is
    /// refused in the same way.
    LoginAs {
        /// Who it is said to be.
        user: Whom,
        /// The password as typed.
        password: Secret,
        /// What is wanted.
        terms: Terms,
    },
    /// End the session that asks.
    Logout,
    /// People who share a group with the caller.
    Peers,
    /// Revoke a key that acts under the caller's active claim.
    RevokeKey(String),
    /// Revoke the keys that were made so in the name of this user.
    RevokePartnerKeys(Whom),
    /// The partners that the caller administrates.
    Scopes,
    /// Open a sealed session (KS). The session that the request carried goes on.
    StartSealed(Seal, KsTerms),
    /// Act under another claim.
    SwitchClaim {
        /// `user/<id>` or `group/<name>`.
        claim: String,
        /// Whether the roles include the groups below.
        extended: bool,
        /// Whether the session's absolute lifetime begins anew.
        renew: bool,
    },
}

impl Command {
    /// A login with the usual terms.
    pub fn login(credentials: Credentials) -> Self {
        Self::Login(Opening { credentials, terms: Terms::default() })
    }

    /// Whether a session that counts as nobody's may ask for it: an anonymous one, or one that may only
    /// choose a tenant.
    pub(super) fn needs_nobody(&self) -> bool {
        match self {
            Self::Inspect
            | Self::ListMethods
            | Self::Login(_)
            | Self::LoginAs { .. }
            | Self::Logout
            | Self::Scopes
            | Self::StartSealed(..) => true,
            Self::ActFor(..)
            | Self::Describe(_)
            | Self::EndOthers
            | Self::EndSession(_)
            | Self::Groups
            | Self::IssueKey { .. }
            | Self::IssuePartnerKey(_)
            | Self::ListKeys
            | Self::ListSessions
            | Self::Peers
            | Self::RevokeKey(_)
            | Self::RevokePartnerKeys(_)
            | Self::SwitchClaim { .. } => false,
        }
    }
}

/// Somebody who shares a group with the caller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Stable id.
    pub user: String,
    /// E-mail address, may be empty.
    pub email: String,
    /// What other APIs call them: dialect to id.
    pub aliases: BTreeMap<String, String>,
}

/// What came of a command.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A person, and what they are within the caller's tenant.
    Account(Arc<Account>, Box<Member>),
    /// This many sessions or keys ended.
    Ended(usize),
    /// The forest of groups.
    Groups(Vec<GroupNode>),
    /// A key was made; the secret is shown this once.
    KeyIssued(Arc<Key>, Secret),
    /// Keys, oldest first.
    Keys(Vec<Arc<Key>>),
    /// Names of login methods.
    Methods(Vec<&'static str>),
    /// A session was opened; the token is shown this once.
    Opened(Arc<Live>, Token),
    /// People, each once.
    Peers(Vec<Peer>),
    /// Partners.
    Scopes(Vec<Arc<Partner>>),
    /// The session that asks.
    Session(Arc<Live>),
    /// Records of the caller's live sessions, newest first.
    Sessions(Vec<Record>),
    /// The claim was switched; the token replaces the former one.
    Switched(Arc<Live>, Token),
}

/// Why a token opens no session, as far as its holder may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Worthless {
    /// It was used as often as it may be.
    #[error("the session was used as often as it may be")]
    ActionsExceeded,
    /// It was ended before its time.
    #[error("the session has ended")]
    Ended,
    /// Its time is over.
    #[error("the session has expired")]
    Expired,
    /// It is not, and never was, a token of a session here.
    #[error("this is not the token of a session")]
    Invalid,
    /// It may not be used from this address.
    #[error("the session may not be used from this address")]
    WrongAddress,
    /// It may not be used for this path.
    #[error("the session may not be used for this path")]
    WrongUri,
}

/// Why a command was not carried out. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too much work is queued.
    #[error("too many logins are being checked; try again in a few seconds")]
    Busy,
    /// The claim is not one of the caller's.
    #[error("the claim {0} is not one that you may act under")]
    ClaimNotAllowed(String),
    /// Somebody changed the session at the same moment.
    #[error("the session was changed by another request; try again")]
    Conflict,
    /// The app token has ended.
    #[error("the app token has expired")]
    AppTokenExpired,
    /// The app token may not be used.
    #[error("the app token is disabled")]
    AppTokenDisabled,
    /// The hash of an app token is wrong.
    #[error("the hash does not match the app token")]
    AppTokenHash,
    /// The caller may not do this.
    #[error("you may not do this")]
    Forbidden,
    /// Too many different tokens that open nothing came from the caller's network.
    #[error(
        "too many unknown sessions came from this network; wait {} s, or sign in anew",
        retry_after.as_millis().div_ceil(1000)
    )]
    Guessing {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Wrong user name or password.
    #[error("that user name and password do not match")]
    InvalidCredentials,
    /// Something that was named is not there: the text says what.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// No such session among the caller's.
    #[error("no such session")]
    NotFound,
    /// The command needs a session.
    #[error("sign in first")]
    NotSignedIn,
    /// There are as many of something as there may be: the text says of what.
    #[error("there are too many {0}: remove one first")]
    TooMany(&'static str),
    /// Too many failures.
    #[error("too many failed attempts; wait {} s", retry_after.as_millis().div_ceil(1000))]
    Throttled {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The store does not answer: nobody is logged out by that.
    #[error("the session store does not answer; try again")]
    Unavailable,
    /// This kind of login is not enabled.
    #[error("this kind of login is not enabled")]
    Unsupported,
}
