//! How a request carries its session: cookie or bearer token.
//!
//! Finds the token and asks the core; decides nothing.

use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use super::cookie::Carried;
use super::exchange::Exchange;
use super::pipeline::origin;
use crate::api::Fault;
use crate::audit::Event;
use crate::metrics::Lookup;
use crate::session::{Cached, Live, Token};

/// What a look at a request and into the cache tells.
pub(super) enum Seen {
    /// All that there is to know.
    Known(Option<Arc<Live>>),
    /// The store must be asked about this token.
    Ask(Token),
}

/// The session that a request carries, as far as the cache knows. Whatever is ours leaves the headers.
pub(super) fn look(exchange: &mut Exchange, headers: &mut HeaderMap) -> Seen {
    let Some(token) = take_token(exchange, headers) else { return Seen::Known(None) };
    let worker = exchange.worker();
    match worker.authority.cached(&token, exchange.started.unix) {
        Cached::Live(live) => {
            worker.metrics.lookup(Lookup::Hit);
            exchange.live = Some(Arc::clone(&live));
            Seen::Known(Some(live))
        }
        Cached::Worthless => {
            worker.metrics.lookup(Lookup::Worthless);
            exchange.stale = true;
            Seen::Known(None)
        }
        Cached::Unknown => Seen::Ask(token),
    }
}

/// Asks the store.
pub(super) async fn ask(
    exchange: &mut Exchange,
    token: Token,
) -> Result<Option<Arc<Live>>, Box<Fault>> {
    let worker = Rc::clone(exchange.worker());
    worker.metrics.lookup(Lookup::Miss);
    let found = worker.authority.load(&token).await;
    let found = found.map_err(|refusal| Box::new(Fault::from(&refusal)))?;
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
    let name = &exchange.view.site.cookie;
    let cookie = name.take(headers, &mut exchange.connection().recall.borrow_mut());
    if let Some(token) = take_bearer(headers) {
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

/// A bearer token of our form, taken out of the headers; any other `Authorization` is the app's.
fn take_bearer(headers: &mut HeaderMap) -> Option<Token> {
    let found = headers.get_all(header::AUTHORIZATION).iter().find_map(bearer)?;
    let others: Vec<_> = headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .filter(|value| bearer(value).is_none())
        .cloned()
        .collect();
    headers.remove(header::AUTHORIZATION);
    for value in others {
        headers.append(header::AUTHORIZATION, value);
    }
    Some(found)
}

fn bearer(value: &HeaderValue) -> Option<Token> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    Token::parse(token.trim_ascii())
}
