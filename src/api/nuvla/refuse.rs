//! Failures in Nuvla's words: `{status, message[, resource-id]}`, never a page or a redirect.
//!
//! Decides nothing: what failed and with which status has been said.

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::api::{Context, Fault, Reply};
use crate::session::Refusal;

/// The message for a place that nobody has.
pub(super) const UNKNOWN: &str = "unknown resource";

/// A failure, and the resource that it is about. The fault's detail is the message.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) fault: Box<Fault>,
    resource: Option<String>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { fault: Box::new(Fault::new(status, code, message)), resource: None }
    }

    /// The same about a resource, or whatever stands for one.
    pub(super) fn about(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// A resource that is not there.
    pub(super) fn not_found(resource: &str) -> Self {
        let message = format!("{resource} not found");
        Self::new(StatusCode::NOT_FOUND, "not-found", message).about(resource)
    }

    /// Whoever `name` is said to be is not.
    pub(super) fn invalid_credentials(name: &str) -> Self {
        let message = format!("invalid credentials for '{name}'");
        Self::new(StatusCode::FORBIDDEN, "invalid-credentials", message).about(name)
    }

    /// A body that is not what it has to be. `why` repeats nothing of it: it may hold a password.
    pub(super) fn schema(why: &str) -> Self {
        let message = format!("resource does not satisfy defined schema: {why}");
        Self::new(StatusCode::BAD_REQUEST, "malformed-body", message)
    }

    /// An outcome that its command never has.
    pub(super) fn unexpected() -> Self {
        let message = "Unexpected exception thrown: no such outcome";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", message)
    }

    pub(super) fn reply(&self) -> Reply {
        let fault = &self.fault;
        let mut body = Map::new();
        body.insert("status".to_owned(), json!(fault.status.as_u16()));
        body.insert("message".to_owned(), json!(fault.detail));
        if let Some(resource) = &self.resource {
            body.insert("resource-id".to_owned(), json!(resource));
        }
        let mut reply = Reply::json(fault.status, &Value::Object(body));
        if let Some(wait) = fault.retry_after {
            reply = reply.with(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        let allow = fault.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok());
        if let Some(allow) = allow {
            reply = reply.with(header::ALLOW, allow);
        }
        if fault.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 15.5.2 wants a challenge; Basic would make browsers ask for a password.
            let challenge = HeaderValue::from_static("Bearer realm=\"portcullis\"");
            reply = reply.with(header::WWW_AUTHENTICATE, challenge);
        }
        reply
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { fault: Box::new(Fault::from(&refusal)), resource: None }
    }
}

/// A failure of the gateway under the mount.
pub(super) fn word(fault: &Fault, context: &Context<'_>) -> Reply {
    let path = context.target.split('?').next().unwrap_or_default();
    let mut failure = Failure { fault: Box::new(fault.clone()), resource: None };
    match fault.code {
        "no-route" => {
            failure.fault.detail = UNKNOWN.to_owned();
            failure = failure.about(path);
        }
        "method-not-allowed" => {
            failure.fault.detail = invalid_method(context.method, path);
            failure = failure.about(path);
        }
        _ => {}
    }
    failure.reply()
}

/// The message for a method that a place does not take.
pub(super) fn invalid_method(method: &Method, uri: &str) -> String {
    format!("invalid method ({}) for {uri}", method.as_str().to_ascii_lowercase())
}
