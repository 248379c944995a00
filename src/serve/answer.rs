//! Answers on their way out: own ones, an app's, and faults as the dialect of their place words them.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::body::Body;
use super::carrier::sign_in;
use super::exchange::Exchange;
use super::own::strip;
use crate::api::{Carrier, Context, Dialect, Fault, Reply};
use crate::headers::{AnswerHead, Fields};
use crate::metrics::RequestKind;
use crate::session::Entry;

/// An answer on its way out.
pub(super) struct Response {
    pub(super) head: Box<AnswerHead>,
    pub(super) body: Body,
}

/// An app's answer, which lives as long as its session.
pub(super) fn app_response(
    answer: crate::upstream::Answer,
    mut exchange: Box<Exchange>,
) -> Response {
    let crate::upstream::Answer { mut head, body, .. } = answer;
    exchange.status = head.status.as_u16();
    let session = exchange.live.as_ref().filter(|_| exchange.kind == RequestKind::SignedIn);
    if session.is_some() {
        head.keep_private();
    }
    let entry = session.map(|live| exchange.connection().enter(live.pulse()));
    let late = entry.as_ref().is_some_and(Entry::is_over);
    if late && exchange.method.is_safe() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        // It ended just now: nothing is sent yet, and a cut would say less than a refusal.
        exchange.stale = true;
        return refusal(&sign_in(None), exchange);
    }
    Response { head, body: Body::app(body, entry, late, exchange) }
}

/// A fault as the dialect of its place words it.
pub(super) fn refusal(fault: &Fault, mut exchange: Box<Exchange>) -> Response {
    exchange.code = Some(fault.code);
    let reply = word(fault, &exchange);
    own_response(reply, exchange)
}

/// Makes an own answer a response: cookie, security headers, length.
pub(super) fn own_response(reply: Reply, mut exchange: Box<Exchange>) -> Response {
    let view = Rc::clone(&exchange.view);
    let site = &view.site;
    exchange.status = reply.status.as_u16();
    if exchange.code.is_some() {
        exchange.kind = RequestKind::Refused;
    } else if exchange.route.is_none() {
        exchange.kind = RequestKind::Own;
    }
    let mut headers = HeaderMap::new();
    headers.extend(reply.headers);
    let cookie = match &reply.carrier {
        Carrier::Issue(token) => site.cookie.issue(token, site.lifetime.as_secs()),
        Carrier::Keep => None,
        Carrier::Revoke => site.cookie.revoke(),
    };
    if let Some(cookie) = cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    if let Some(hsts) = &site.hsts {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    headers.insert("x-request-id", exchange.id.clone());
    if exchange.closes() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let body = if exchange.method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
        Bytes::new()
    } else {
        reply.body
    };
    let fields = Fields::Map(headers);
    let head = Box::new(AnswerHead { status: reply.status, reason: None, fields });
    Response { head, body: Body::own(body, exchange) }
}

/// Has a fault worded by the dialect that the request belongs to.
fn word(fault: &Fault, exchange: &Exchange) -> Reply {
    let mut hints = exchange.hints.clone();
    if exchange.wants_page {
        hints.insert(header::ACCEPT, HeaderValue::from_static("text/html"));
    }
    let context = Context {
        headers: &hints,
        method: &exchange.method,
        request: exchange.request_id(),
        identity: exchange.live.as_ref().map(|live| live.identity()),
        target: exchange.target(),
        host: exchange.host(),
        ip: Some(exchange.ip()),
        stale: exchange.stale,
        now: exchange.worker().clock.now().seconds(),
    };
    let site = &exchange.view.site;
    let (host, path) = (exchange.host_name(), exchange.uri.path());
    let is_page =
        strip(path, &site.mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match site.mounts.iter().find(|mount| !is_page && mount.covers(host, path)) {
        Some(mount) => mount.dialect.refuse(fault, &context),
        None => site.browser.refuse(fault, &context),
    }
}
