//! How a request carries its session: cookie or bearer token.
//!
//! Finds the token and asks the core; decides nothing.

use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderMap};

use super::cookie::Carried;
use super::exchange::Exchange;
use super::pipeline::origin;
use crate::api::Fault;
use crate::audit::Event;
use crate::metrics::Lookup;
use crate::session::{Cached, Live, Token};

/// The session that a request carries. Whatever is ours leaves the headers.
pub(super) async fn find_session(
    exchange: &mut Exchange,
    headers: &mut HeaderMap,
) -> Result<Option<Arc<Live>>, Box<Fault>> {
    let Some(token) = take_token(exchange, headers) else { return Ok(None) };
    let worker = Rc::clone(exchange.worker());
    let found = match worker.authority.cached(&token, worker.clock.now()) {
        Cached::Live(live) => {
            worker.metrics.lookup(Lookup::Hit);
            Some(live)
        }
        Cached::Worthless => None,
        Cached::Unknown => {
            worker.metrics.lookup(Lookup::Miss);
            let loaded = worker.authority.load(&token).await;
            loaded.map_err(|refusal| Box::new(Fault::from(&refusal)))?
        }
    };
    if found.is_none() {
        worker.metrics.lookup(Lookup::Worthless);
        exchange.stale = true;
    }
    exchange.live.clone_from(&found);
    Ok(found)
}

/// The refusal of a request that needs a session and has none.
pub(super) fn sign_in() -> Box<Fault> {
    let status = StatusCode::UNAUTHORIZED;
    let mut fault = Fault::new(status, "not-signed-in", "Sign in to go on.");
    fault.sign_in = true;
    Box::new(fault)
}

/// Takes what is ours out of the headers; the token, if there is exactly one.
pub(super) fn take_token(exchange: &mut Exchange, headers: &mut HeaderMap) -> Option<Token> {
    let cookie = exchange.view.site.cookie.take(headers);
    if let Some(token) = bearer(headers) {
        headers.remove(header::AUTHORIZATION);
        return Some(token);
    }
    match cookie {
        Carried::Token(token) => Some(token),
        Carried::Nothing => None,
        Carried::Unreadable => {
            exchange.stale = true;
            None
        }
        Carried::Several => {
            exchange.stale = true;
            let worker = exchange.worker();
            worker.authority.audit().record(&origin(exchange), &Event::DuplicateSessionCookie);
            None
        }
    }
}

/// A bearer token of our form; any other `Authorization` is the app's.
fn bearer(headers: &HeaderMap) -> Option<Token> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    Token::parse(token.trim_ascii())
}
