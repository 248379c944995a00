//! What goes wrong with a request, before it is worded for whoever asked.

use std::time::Duration;

use http::StatusCode;

use super::UNKNOWN_TOKENS;
use crate::session::{Refusal, Worthless};

/// A request that is not served, before anybody words it.
#[derive(Clone, Debug)]
pub struct Fault {
    /// HTTP status, where the dialect has no convention of its own.
    pub status: StatusCode,
    /// Stable code for programs, in kebab-case.
    pub code: &'static str,
    /// What happened, for people.
    pub detail: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Whether signing in would help.
    pub sign_in: bool,
    /// The requirement that was not met (403).
    pub requirement: Option<String>,
    /// For 405.
    pub allow: Option<String>,
    /// Why the token that came opens no session.
    pub worthless: Option<Worthless>,
}

impl Fault {
    /// A fault with this status, code and text.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after: None,
            sign_in: false,
            requirement: None,
            allow: None,
            worthless: None,
        }
    }

    /// The same with a time to wait.
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<&Refusal> for Fault {
    fn from(refusal: &Refusal) -> Self {
        let (status, code) = match refusal {
            Refusal::AppTokenDisabled | Refusal::AppTokenExpired | Refusal::AppTokenHash => {
                (StatusCode::FORBIDDEN, "app-token-refused")
            }
            Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, "login-busy"),
            Refusal::ClaimNotAllowed(_) => (StatusCode::FORBIDDEN, "claim-not-allowed"),
            Refusal::Conflict => (StatusCode::CONFLICT, "session-conflict"),
            Refusal::Forbidden => (StatusCode::FORBIDDEN, "not-allowed"),
            Refusal::Guessing { .. } => (StatusCode::TOO_MANY_REQUESTS, UNKNOWN_TOKENS),
            Refusal::Missing(_) => (StatusCode::NOT_FOUND, "not-found"),
            Refusal::InvalidCredentials => (StatusCode::UNAUTHORIZED, "invalid-credentials"),
            Refusal::NotFound => (StatusCode::NOT_FOUND, "session-not-found"),
            Refusal::NotSignedIn => (StatusCode::UNAUTHORIZED, "not-signed-in"),
            Refusal::Throttled { .. } => (StatusCode::TOO_MANY_REQUESTS, "login-throttled"),
            Refusal::TooMany(_) => (StatusCode::CONFLICT, "too-many"),
            Refusal::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "session-store-unavailable"),
            Refusal::Unsupported => (StatusCode::BAD_REQUEST, "login-method-not-enabled"),
        };
        let mut fault = Self::new(status, code, refusal.to_string());
        fault.sign_in = matches!(refusal, Refusal::NotSignedIn);
        fault.retry_after = match refusal {
            Refusal::Busy | Refusal::Unavailable => Some(Duration::from_secs(2)),
            // Rounded up: a client that comes back too early would only be refused again.
            Refusal::Guessing { retry_after } | Refusal::Throttled { retry_after } => Some(
                Duration::from_secs(retry_after.as_millis().div_ceil(1000).try_into().unwrap_or(1)),
            ),
            _ => None,
        };
        fault
    }
}
