//! Resources as Nuvla shows them: sessions, collections, the entry point.
//!
//! Never a token: what opens a session is handed out by its carrier alone.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::template::API_KEY;
use crate::api::Reply;
use crate::clock::UnixMs;
use crate::session::{Live, group_claim};

/// When what is built in was made: times must be there, and these never change.
pub(super) const BUILT: &str = "2026-01-01T00:00:00.000Z";

const ADMIN: &str = "group/nuvla-admin";
const ANYBODY: &str = "group/nuvla-anon";
/// The actions of a session besides its deletion.
pub(super) const ACTIONS: [&str; 3] = ["get-peers", "get-groups", "switch-group"];

/// A session as its holder may see it.
pub(super) fn session(live: &Live) -> Value {
    let (record, identity) = (live.record(), live.identity());
    let words = identity.nuvla();
    let id = format!("session/{}", identity.session);
    let key = record.method == API_KEY;
    // A key has no login name: it is known by whom it acts as.
    let identifier = if key { &words.user } else { &identity.identifier };
    let groups: Vec<_> = identity.groups.iter().map(|name| group_claim(name)).collect();
    let changed = record.generation > 0;
    let updated = if changed { record.created.max(record.seen) } else { record.created };
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put("resource-type", json!("session"));
    put("method", json!(record.method));
    put("template", json!({ "href": format!("session-template/{}", record.method) }));
    put("identifier", json!(identifier));
    put("user", json!(words.user));
    put("active-claim", json!(words.active));
    put("roles", json!(words.claims.join(" ")));
    if !groups.is_empty() {
        put("groups", json!(groups.join(" ")));
    }
    put("expiry", json!(whole(record.expires)));
    if let Some(ip) = record.ip {
        put("client-ip", json!(ip.to_string()));
    }
    put("created", json!(record.created.rfc3339()));
    put("updated", json!(updated.rfc3339()));
    put("created-by", json!(ANYBODY));
    if changed {
        put("updated-by", json!(words.user));
    }
    put("acl", acl(&id));
    put("operations", operations(&id));
    put("id", json!(id));
    Value::Object(body)
}

/// A time in whole seconds, as cookies count.
fn whole(at: UnixMs) -> String {
    let text = at.rfc3339();
    format!("{}.000Z", text.split('.').next().unwrap_or(&text))
}

fn acl(owner: &str) -> Value {
    let rights = [
        "view-meta",
        "view-data",
        "view-acl",
        "edit-meta",
        "edit-data",
        "edit-acl",
        "manage",
        "delete",
    ];
    let mut acl: Map<String, Value> =
        rights.iter().map(|right| ((*right).to_owned(), json!([ADMIN]))).collect();
    acl.insert("owners".to_owned(), json!([owner]));
    Value::Object(acl)
}

fn operations(id: &str) -> Value {
    let mut all = vec![json!({ "rel": "delete", "href": id })];
    all.extend(ACTIONS.iter().map(|rel| json!({ "rel": rel, "href": format!("{id}/{rel}") })));
    Value::Array(all)
}

/// A collection of `kind`, to which those with the claim `adds` may add. `window` is where the search
/// begins (from 1) and ends; the count is that of all. `rels` are the operations that the caller has.
pub(super) fn collection(
    kind: &str,
    adds: &str,
    resources: Vec<Value>,
    (first, last): (usize, usize),
    rels: &[&str],
) -> Reply {
    let count = resources.len();
    let shown: Vec<_> = resources.into_iter().take(last).skip(first.saturating_sub(1)).collect();
    let mut body = json!({
        "id": kind,
        "resource-type": format!("{kind}-collection"),
        "acl": { "query": [ANYBODY], "add": [adds] },
        "count": count,
        "resources": shown,
    });
    if let (Value::Object(body), false) = (&mut body, rels.is_empty()) {
        let all: Vec<_> = rels.iter().map(|rel| json!({ "rel": rel, "href": kind })).collect();
        body.insert("operations".to_owned(), Value::Array(all));
    }
    Reply::json(StatusCode::OK, &body)
}

/// GET `/cloud-entry-point`.
pub(super) fn entry_point(origin: &str, prefix: &str) -> Reply {
    let body = json!({
        "id": "cloud-entry-point",
        "resource-type": "cloud-entry-point",
        "created": BUILT,
        "updated": BUILT,
        "created-by": "internal",
        "acl": {
            "owners": [ADMIN],
            "view-acl": [ANYBODY],
            "view-data": [ANYBODY],
            "view-meta": [ANYBODY],
        },
        "base-uri": format!("{origin}{prefix}/"),
        "collections": {
            "session": { "href": "session" },
            "session-template": { "href": "session-template" },
        },
    });
    Reply::json(StatusCode::OK, &body)
}
