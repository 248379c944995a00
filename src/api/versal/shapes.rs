//! What Versal clients read: sessions, users, keys and errors as JSON. Fields without a value are left out.

use http::header::{self, HeaderValue};
use serde_json::{Map, Value, json};

use super::NAME;
use crate::api::{Fault, Reply};
use crate::secret::Secret;
use crate::session::{Identity, Kind};

/// A user's id in this API: a signed 64-bit integer as text; the stable id of somebody who has none.
fn id(identity: &Identity) -> &str {
    identity.aliases.get(NAME).unwrap_or(&identity.user)
}

fn is_person(identity: &Identity) -> bool {
    identity.kind == Kind::User && !identity.user.contains('/')
}

/// The answer to a new session.
pub(super) fn opened(identity: &Identity, sid: &str) -> Value {
    json!({ "sessionId": sid, "user": user(identity) })
}

/// A person; `None` for keys, partners and widgets.
pub(super) fn user(identity: &Identity) -> Option<Value> {
    if !is_person(identity) {
        return None;
    }
    let mut body = Map::new();
    let mut put = |key: &str, text: &str| {
        if !text.is_empty() {
            body.insert(key.to_owned(), json!(text));
        }
    };
    put("id", id(identity));
    put("username", &identity.identifier);
    put("email", &identity.email);
    let (first, last) = identity.name.split_once(' ').unwrap_or((&identity.name, ""));
    put("firstname", first);
    put("lastname", last.trim());
    put("fullname", &identity.name);
    let shown = if identity.name.is_empty() { &identity.identifier } else { &identity.name };
    put("displayname", shown);
    put("displayName", shown);
    body.insert("orgs".to_owned(), json!([]));
    body.insert("subscriptions".to_owned(), json!([]));
    Some(Value::Object(body))
}

/// What kind of session the caller has.
pub(super) fn session(identity: &Identity) -> Value {
    let kind = match identity.kind {
        Kind::Partner => "PartnerKey",
        Kind::ApiKey => "LegacyAuthenticator",
        Kind::User | Kind::Widget => "PlainUserSession",
    };
    let mut body = json!({ "sessionType": kind });
    if let (true, Value::Object(body)) = (!identity.user.contains('/'), &mut body) {
        body.insert("userId".to_owned(), json!(id(identity)));
    }
    body
}

/// A new partner key: shown this once.
pub(super) fn key(secret: &Secret) -> Value {
    json!({ "key": secret.expose() })
}

/// Any failure.
pub(super) fn error(fault: &Fault) -> Reply {
    let body = json!({ "error": fault.status.as_u16(), "message": fault.detail });
    let mut reply = Reply::json(fault.status, &body);
    if let Some(wait) = fault.retry_after {
        reply = reply.with(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    }
    if let Some(allow) = &fault.allow
        && let Ok(allow) = HeaderValue::from_str(allow)
    {
        reply = reply.with(header::ALLOW, allow);
    }
    reply
}
