//! What every dialect speaks: a command, its outcome, its refusal.
//!
//! No wording and no status codes: dialects choose those.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::identity::GroupNode;
use super::live::Live;
use super::ports::Credentials;
use super::record::Record;
use super::token::{SessionId, Token};

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

/// Something to be done with sessions.
#[derive(Clone, Debug)]
pub enum Command {
    /// End all of the caller's sessions but the one that asks.
    EndOthers,
    /// End one of the caller's sessions.
    EndSession(SessionId),
    /// The groups that the caller may act as.
    Groups,
    /// Who am I.
    Inspect,
    /// The names of the login methods.
    ListMethods,
    /// The caller's sessions.
    ListSessions,
    /// Prove who somebody is and open a session; the session that the request carried ends.
    Login(Credentials),
    /// End the session that asks.
    Logout,
    /// People who share a group with the caller.
    Peers,
    /// Act under another claim.
    SwitchClaim {
        /// `user/<id>` or `group/<name>`.
        claim: String,
        /// Whether the roles include the groups below.
        extended: bool,
    },
}

/// What came of a command.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// This many sessions ended.
    Ended(usize),
    /// The forest of groups.
    Groups(Vec<GroupNode>),
    /// Names of login methods.
    Methods(Vec<&'static str>),
    /// A session was opened; the token is shown this once.
    Opened(Arc<Live>, Token),
    /// Claims of people and their e-mail addresses.
    Peers(Vec<(String, String)>),
    /// The session that asks.
    Session(Arc<Live>),
    /// Records of the caller's live sessions, newest first.
    Sessions(Vec<Record>),
    /// The claim was switched; the token replaces the former one.
    Switched(Arc<Live>, Token),
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
    /// Wrong user name or password.
    #[error("that user name and password do not match")]
    InvalidCredentials,
    /// No such session among the caller's.
    #[error("no such session")]
    NotFound,
    /// The command needs a session.
    #[error("sign in first")]
    NotSignedIn,
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
