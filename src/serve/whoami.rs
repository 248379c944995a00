//! The built-in app: shows what an app behind the gateway receives.
//!
//! Takes a stamped request like any app, so what it shows is what an app would get.

use http::StatusCode;
use serde_json::json;

use super::exchange::Exchange;
use crate::api::browser::page_headers;
use crate::api::{Reply, wants_page};
use crate::headers::Stamped;
use crate::pages::{HeaderRow, WhoamiPage, header_meaning};
use crate::policy::Permit;
use crate::upstream::RequestBody;

/// Answers as a page to browsers, as JSON to programs.
pub(super) fn answer(stamped: Stamped<RequestBody>, permit: &Permit, exchange: &Exchange) -> Reply {
    let request = stamped.into_request();
    let signed_in = permit.session().is_some();
    let site = &exchange.view.site;
    let identity: Vec<&str> = site.table.headers.identity_names().collect();
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let target = request.uri().to_string();
    let client = exchange.ip().to_string();
    if !wants_page(request.method(), request.headers()) {
        let mut map = serde_json::Map::new();
        for (name, value) in &headers {
            let entry = map.entry(name.clone()).or_insert_with(|| json!([]));
            if let Some(list) = entry.as_array_mut() {
                list.push(json!(value));
            }
        }
        let body = json!({
            "method": request.method().as_str(),
            "target": target,
            "client": client,
            "signed_in": signed_in,
            "headers": map,
        });
        return Reply::json(StatusCode::OK, &body).with(http::header::CACHE_CONTROL, NO_STORE);
    }
    let rows = headers
        .iter()
        .map(|(name, value)| HeaderRow {
            name,
            value,
            identity: identity.contains(&name.as_str()),
            meaning: header_meaning(name),
        })
        .collect();
    let page = site.browser.pages().whoami(&WhoamiPage {
        method: request.method().as_str(),
        target: &target,
        version: "HTTP/1.1",
        client: &client,
        signed_in,
        headers: rows,
    });
    let page = Reply::page(StatusCode::OK, page);
    page_headers().iter().fold(page, |page, (name, value)| page.with(name.clone(), value.clone()))
}

const NO_STORE: http::HeaderValue = http::HeaderValue::from_static("no-store");
