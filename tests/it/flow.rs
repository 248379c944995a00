//! What a user does: sign in, be known to the application, switch claims, sign out. By pages and
//! by JSON, over real sockets.

mod claims;
mod csrf;
mod logging;
mod pages;
mod refusals;
mod sessions;

use serde_json::Value;

use crate::support::Response;

/// Whether a string with exactly this value stands anywhere in the document.
fn mentions(json: &Value, text: &str) -> bool {
    match json {
        Value::String(value) => value == text,
        Value::Array(items) => items.iter().any(|item| mentions(item, text)),
        Value::Object(fields) => fields.values().any(|value| mentions(value, text)),
        _ => false,
    }
}

/// Checks an error meant for a program (RFC 9457) and gives its document.
#[track_caller]
fn problem(answer: &Response, status: u16) -> Value {
    assert_eq!(answer.status, status, "{:?}\n{}", answer.headers, answer.text());
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/problem+json"), "{kind}\n{}", answer.text());
    assert!(answer.header("location").is_none());
    let document = answer.json();
    for member in ["type", "title", "detail", "code", "request_id"] {
        let text = document[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "no `{member}` in {document}");
    }
    assert_eq!(document["status"], status, "{document}");
    document
}
