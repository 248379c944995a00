//! What programs read: sessions and problems (RFC 9457) as JSON.
//!
//! Never a token: what opens a session is handed out by its carrier alone.

use http::header::{self, HeaderValue};
use serde_json::{Map, Value, json};

use crate::api::{Context, Core, Fault, Reply};
use crate::clock::UnixMs;
use crate::pages::device_name;
use crate::session::{Live, Record, SessionId};

/// A session as its holder may see it. Times in RFC 3339 and, as `..._unix`, in seconds.
pub(super) fn session(live: &Live, core: Core<'_>, now: u64) -> Value {
    let (record, identity) = (live.record(), live.identity());
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put("id", json!(identity.session));
    put("user", json!(identity.user));
    put("identifier", json!(identity.identifier));
    put("name", json!(identity.name));
    put("email", json!(identity.email));
    put("groups", json!(identity.groups));
    put("roles", json!(identity.roles));
    put("active_claim", json!(identity.claim));
    put("extended", json!(record.extended));
    put("claims", json!(core.claims(identity)));
    put("method", json!(identity.method));
    put("level", json!(record.level));
    if let Some(actor) = &identity.actor {
        put("actor", json!(actor));
    }
    if let Some(tenant) = &identity.tenant {
        put("tenant", json!(tenant));
    }
    let times = [
        ("authenticated", record.authenticated),
        ("created", record.created),
        ("expires", record.expires),
        ("idle_expires", live.ends()),
        ("now", UnixMs(now.saturating_mul(1000))),
    ];
    for (key, at) in times {
        moment(&mut body, key, at);
    }
    Value::Object(body)
}

/// The sessions of the one who asks.
pub(super) fn sessions(records: &[Record], current: SessionId) -> Value {
    let rows: Vec<_> = records.iter().map(|record| row(record, current)).collect();
    json!({ "sessions": rows })
}

fn row(record: &Record, current: SessionId) -> Value {
    let row = json!({
        "id": record.id.to_string(),
        "current": record.id == current,
        "device": device_name(&record.agent),
        "user_agent": record.agent,
        "ip": record.ip,
        "method": record.method,
        "active_claim": record.claim,
    });
    let Value::Object(mut row) = row else { return row };
    let times = [("created", record.created), ("seen", record.seen), ("expires", record.expires)];
    for (key, at) in times {
        moment(&mut row, key, at);
    }
    Value::Object(row)
}

pub(super) fn moment(body: &mut Map<String, Value>, key: &str, at: UnixMs) {
    body.insert(key.to_owned(), json!(at.rfc3339()));
    body.insert(format!("{key}_unix"), json!(at.seconds()));
}

/// A fault as problem+json. `type` is `about:blank`: `code` tells programs what it is.
pub(super) fn problem(fault: &Fault, context: &Context<'_>, mount: &str) -> Reply {
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put("type", json!("about:blank"));
    put("title", json!(fault.status.canonical_reason().unwrap_or("Error")));
    put("status", json!(fault.status.as_u16()));
    put("detail", json!(fault.detail));
    put("code", json!(fault.code));
    put("request_id", json!(context.request));
    if let Some(requirement) = &fault.requirement {
        put("requirement", json!(requirement));
    }
    if let Some(wait) = fault.retry_after {
        put("retry_after", json!(wait.as_secs()));
    }
    if fault.status == http::StatusCode::UNAUTHORIZED {
        put("login_url", json!(format!("https://{}{mount}/login", context.host)));
    }
    let mut reply = Reply::json(fault.status, &Value::Object(body));
    for (name, value) in &mut reply.headers {
        if *name == header::CONTENT_TYPE {
            *value = HeaderValue::from_static("application/problem+json");
        }
    }
    reply
}
