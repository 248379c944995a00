//! How a request carries its session: cookie, bearer token, or the carrier of a dialect.
//!
//! Finds the token and asks the core; decides nothing.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use super::cookie::Carried;
use super::exchange::Exchange;
use super::mount::{self, Handed};
use super::pipeline::origin;
use crate::api::{Fault, UNKNOWN_TOKENS};
use crate::audit::Event;
use crate::metrics::Lookup;
use crate::session::{Cached, KeySecret, Live, Refusal, Token, Worthless};

/// What a look at a request and into the cache tells.
pub(super) enum Seen {
    /// All that there is to know.
    Known(Option<Arc<Live>>),
    /// The store must be asked about this token.
    Ask(Token),
}

/// The session that a request carries, as far as the cache knows. Whatever is ours leaves the headers.
pub(super) fn look(exchange: &mut Exchange, headers: &mut HeaderMap, body: Option<&Bytes>) -> Seen {
    let Some(token) = take_token(exchange, headers, body) else { return Seen::Known(None) };
    let worker = exchange.worker();
    match worker.authority.cached(&token, exchange.started.unix) {
        Cached::Live(live) => {
            worker.metrics.lookup(Lookup::Hit);
            exchange.live = Some(Arc::clone(&live));
            Seen::Known(Some(live))
        }
        // A wrong secret for a known session is a guess like any other: it is counted where it is asked for.
        Cached::Worthless | Cached::Unknown => Seen::Ask(token),
    }
}

/// Asks the store.
pub(super) async fn ask(
    exchange: &mut Exchange,
    token: Token,
) -> Result<Option<Arc<Live>>, Box<Fault>> {
    let found = ask_about(exchange, token).await;
    // One of another carrier counts when the cookie's is worth nothing; a store that is away says nothing.
    let worthless = match &found {
        Ok(live) => live.is_none(),
        Err(fault) => fault.code == UNKNOWN_TOKENS,
    };
    match exchange.by_link.take() {
        Some(token) if worthless => {
            exchange.by_cookie = false;
            ask_about(exchange, token).await
        }
        _ => found,
    }
}

async fn ask_about(exchange: &mut Exchange, token: Token) -> Result<Option<Arc<Live>>, Box<Fault>> {
    let worker = Rc::clone(exchange.worker());
    worker.metrics.lookup(Lookup::Miss);
    let (ip, target) = (exchange.ip(), exchange.target());
    let found = worker.authority.used(&token, Some(ip), target).await;
    let found = found.map_err(|refusal| {
        exchange.stale |= matches!(refusal, Refusal::Guessing { .. });
        Box::new(Fault::from(&refusal))
    })?;
    match found {
        Ok(live) => {
            exchange.live = Some(Arc::clone(&live));
            Ok(Some(live))
        }
        Err(worthless) => {
            worker.metrics.lookup(Lookup::Worthless);
            exchange.stale = true;
            exchange.worthless = Some(worthless);
            Ok(None)
        }
    }
}

/// The refusal of a request that needs a session and has none.
pub(super) fn sign_in(worthless: Option<Worthless>) -> Box<Fault> {
    let status = StatusCode::UNAUTHORIZED;
    let mut fault = Fault::new(status, "not-signed-in", "Sign in to go on.");
    fault.sign_in = true;
    fault.worthless = worthless;
    Box::new(fault)
}

/// Takes what is ours out of the headers; the token, if there is exactly one. What a client puts there on
/// purpose (bearer token, carrier of a dialect) counts before a cookie. A link is no purpose: whoever wrote
/// it would make the browser that follows it act as somebody else.
pub(super) fn take_token(
    exchange: &mut Exchange,
    headers: &mut HeaderMap,
    body: Option<&Bytes>,
) -> Option<Token> {
    let name = &exchange.view.site.cookie;
    let cookie = name.take(headers, &mut exchange.connection().recall.borrow_mut());
    let bearer = take_bearer(headers);
    let carried = mount::take_token(exchange, headers, body);
    if matches!(carried, Some(Handed::Several)) {
        return None;
    }
    match (bearer, &carried) {
        // Whose request it is cannot be told: it is nobody's.
        (Carried::Several, _) => return None,
        (Carried::Token(token), Some(Handed::OnPurpose(other))) if token.id() != other.id() => {
            return None;
        }
        (Carried::Token(token), _) => return Some(token),
        (Carried::Nothing | Carried::Unreadable, _) => {}
    }
    let by_link = match carried {
        Some(Handed::OnPurpose(token)) => return Some(token),
        Some(Handed::ByLink(token)) => Some(token),
        Some(Handed::Several) | None => None,
    };
    match cookie {
        Carried::Token(token) => {
            exchange.by_cookie = true;
            exchange.by_link = by_link;
            Some(token)
        }
        Carried::Nothing => by_link,
        Carried::Unreadable => {
            exchange.stale = true;
            by_link
        }
        Carried::Several => {
            exchange.stale = true;
            let worker = exchange.worker();
            worker.authority.audit().record(&origin(exchange), &Event::DuplicateSessionCookie);
            // One of them may well be worth something: a link is not for it to give way to.
            None
        }
    }
}

/// Bearer tokens of our form, taken out of the headers; any other `Authorization` is the app's.
fn take_bearer(headers: &mut HeaderMap) -> Carried {
    let mut tokens = headers.get_all(header::AUTHORIZATION).iter().filter_map(bearer);
    let found = match (tokens.next(), tokens.next()) {
        (None, _) => return Carried::Nothing,
        (Some(token), None) => Carried::Token(token),
        (Some(_), Some(_)) => Carried::Several,
    };
    drop(tokens);
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
    found
}

fn bearer(value: &HeaderValue) -> Option<Token> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    let token = token.trim_ascii();
    Token::parse(token).or_else(|| {
        // The secret of a key, exactly as it was shown: anything else may be a token of the app's.
        let text = str::from_utf8(token).ok()?;
        let secret = KeySecret::parse(text)?;
        (secret.written().expose() == text).then(|| secret.token())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;

    fn taken(values: &[&str]) -> (Carried, Vec<String>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let carried = take_bearer(&mut headers);
        let left = headers.get_all(header::AUTHORIZATION).iter();
        (carried, left.map(|value| value.to_str().unwrap().to_owned()).collect())
    }

    /// The first won, whereas of two session cookies none counts.
    #[test]
    fn of_two_bearer_tokens_none_counts() {
        let bearer = |byte: u8| {
            let token = Token::issue(SessionId::from_bytes([byte; 16])).unwrap();
            format!("Bearer {}", token.encode().as_str())
        };
        let (one, other) = (bearer(1), bearer(2));
        let (carried, left) = taken(&[&one, "Basic eDp5", "Bearer of-the-app", &other]);
        assert!(matches!(carried, Carried::Several), "{carried:?}");
        assert_eq!(left, ["Basic eDp5", "Bearer of-the-app"]);
        let (carried, left) = taken(&["Basic eDp5", &one]);
        assert!(matches!(carried, Carried::Token(_)), "{carried:?}");
        assert_eq!(left, ["Basic eDp5"]);
        let (carried, left) = taken(&["Bearer of-the-app"]);
        assert!(matches!(carried, Carried::Nothing), "{carried:?}");
        assert_eq!(left, ["Bearer of-the-app"]);
    }
}
