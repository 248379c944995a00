//! The last step before the app and the first behind it: stamps the request, takes the answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Uri, Version};

use super::carrier::sign_in;
use super::exchange::Exchange;
use super::host::Host;
use super::interim::Interim;
use super::pipeline::{Answer, Outcome, fault, target_fault};
use super::upload::Upload;
use super::worker::Worker;
use super::{tunnel, whoami};
use crate::api::{Fault, Reply};
use crate::clock::Moment;
use crate::headers::{AnswerHead, Forwarding, Hop, Stamped};
use crate::metrics::{UpstreamMetrics, UpstreamOutcome};
use crate::policy::Permit;
use crate::session::Refusal;
use crate::upstream::{BodyFault, Error, Protocol, RequestBody, Upstream};

/// Where a stamped request goes.
pub(super) enum Way {
    App(Prepared),
    Whoami(Box<Reply>),
}

/// A request that is ready to be sent.
pub(super) struct Prepared {
    stamped: Stamped<RequestBody>,
    sent: Sent,
}

impl Prepared {
    pub(super) fn split(self) -> (Stamped<RequestBody>, Sent) {
        (self.stamped, self.sent)
    }
}

/// What is kept of a request while the app works on it.
pub(super) struct Sent {
    pub(super) worker: Rc<Worker>,
    pub(super) upstream: Arc<Upstream>,
    counts: Arc<UpstreamMetrics>,
    upgrade: bool,
    permit: Permit,
    at: Moment,
}

/// Stamps the request.
pub(super) fn prepare(
    exchange: &mut Exchange,
    mut parts: Box<Parts>,
    upload: Upload,
    permit: Permit,
    websocket: bool,
) -> Result<Way, Box<Fault>> {
    let view = Rc::clone(&exchange.view);
    let site = &view.site;
    let worker = Rc::clone(exchange.worker());
    let way =
        exchange.route.and_then(|index| site.table.ways.get(index)).copied().unwrap_or(usize::MAX);
    let (Some(upstream), Some(counts)) = (site.upstreams.get(way), view.upstreams.get(way)) else {
        return Err(fault(StatusCode::BAD_GATEWAY, "no-upstream", "The route leads nowhere."));
    };
    if websocket && upstream.settings.protocol == Protocol::Http2 {
        let detail = "The app is spoken to in HTTP/2, which carries no WebSockets here.";
        return Err(fault(StatusCode::NOT_IMPLEMENTED, "websocket-over-http2", detail));
    }
    // What was judged is byte for byte what the app gets.
    let path = exchange.uri.path_and_query().cloned();
    parts.uri = Uri::from(path.ok_or_else(|| target_fault("no path"))?);
    // gRPC streams for as long as it likes, in both directions.
    let streams = parts.version == Version::HTTP_2
        && parts.headers.get(header::CONTENT_TYPE).is_some_and(is_grpc);
    let rate = if streams { 0 } else { site.limits.body_rate };
    let idle = if streams { Duration::from_secs(24 * 3600) } else { site.limits.body_idle };
    let (ahead, rest) = upload.into_parts();
    let body = RequestBody::new(ahead, rest, &worker.timer, idle, rate).under(|| {
        let entry = worker.streams.enter(Arc::clone(permit.session()?.pulse()));
        Some(Box::new(entry))
    });
    let hop = Hop { forwarding: forwarding(exchange)?, id: exchange.id.clone(), websocket };
    let extras = upstream.settings.extras;
    let stamped = site.table.headers.stamp(&permit, parts, body, hop, extras);
    let stamped = stamped.map_err(|error| {
        tracing::warn!(%error, request = exchange.request_id(), "identity-too-large");
        let detail = "Your groups and roles do not fit into the request to the app.";
        fault(StatusCode::BAD_GATEWAY, "identity-too-large", detail)
    })?;
    if upstream.settings.whoami {
        let reply = whoami::answer(stamped, &permit, exchange);
        return Ok(Way::Whoami(Box::new(reply)));
    }
    let at = worker.clock.moment();
    let (upstream, counts) = (Arc::clone(upstream), Arc::clone(counts));
    Ok(Way::App(Prepared {
        stamped,
        sent: Sent { worker, upstream, counts, upgrade: websocket, permit, at },
    }))
}

/// What the app is told about the way of the request. Most connections have one client and one host.
fn forwarding(exchange: &Exchange) -> Result<Rc<Forwarding>, Box<Fault>> {
    let connection = exchange.connection();
    let host = exchange.host.as_ref().map(Host::value).ok_or_else(|| target_fault("no host"))?;
    let (client, version) = (&exchange.client, exchange.version);
    let tls = connection.arrival.tls.is_some();
    if !client.is_peer() {
        return Ok(Rc::new(Forwarding::new(client, client.value(), tls, host.clone(), version)));
    }
    let mut known = connection.forwarding.borrow_mut();
    if let Some(known) = known.as_ref().filter(|known| known.is_of(host, version)) {
        return Ok(Rc::clone(known));
    }
    let made = Rc::new(Forwarding::new(client, connection.ip.clone(), tls, host.clone(), version));
    *known = Some(Rc::clone(&made));
    Ok(made)
}

impl Sent {
    /// Passes on what the app says ahead of its answer, to a client that still has its session.
    pub(super) fn pass_on(&self, mut head: Box<AnswerHead>, own_cookie: &str, interim: &Interim) {
        let now = self.worker.clock.now();
        if self.permit.session().is_some_and(|live| live.pulse().is_over(now)) {
            return;
        }
        head.clean_interim(own_cookie);
        interim.add(head);
    }
}

/// Takes the app's answer, or what came instead.
pub(super) fn receive(
    exchange: &mut Exchange,
    answer: Result<crate::upstream::Answer, Error>,
    sent: Sent,
) -> Outcome {
    let Sent { worker, upstream, counts, upgrade, permit, at } = sent;
    let now = worker.clock.moment();
    let is_over = permit.session().is_some_and(|live| live.pulse().is_over(now.unix));
    let mut answer = answer.map_err(|error| {
        counts.outcome(outcome(&error));
        if is_over && matches!(error, Error::ClientBody(_)) {
            // It was broken off for that.
            exchange.stale = true;
            return sign_in(None);
        }
        unanswered(exchange, &error)
    })?;
    let waited = now.micros_since(at);
    exchange.upstream_us = Some(waited);
    counts.answered(waited);
    if answer.retried {
        counts.outcome(UpstreamOutcome::Retried);
    }
    if answer.head.status == StatusCode::SWITCHING_PROTOCOLS {
        let Some(tunnel) = answer.tunnel.take().filter(|_| upgrade) else {
            return Err(unanswered(exchange, &Error::BadResponse("unasked 101".to_owned())));
        };
        return tunnel::open(exchange, answer, tunnel, &upstream, &permit);
    }
    if exchange.method.is_safe() && is_over {
        // It ended while the app was at work. Nothing was changed there: asking again is safe.
        exchange.stale = true;
        return Err(sign_in(None));
    }
    answer.head.clean(exchange.view.site.cookie.as_str());
    Ok(Answer::App(answer))
}

fn is_grpc(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().starts_with(b"application/grpc")
}

fn outcome(error: &Error) -> UpstreamOutcome {
    match error {
        Error::BadResponse(_) => UpstreamOutcome::BadResponse,
        Error::Busy | Error::Connect(_) | Error::Exhausted => UpstreamOutcome::ConnectError,
        Error::ClientBody(_) => UpstreamOutcome::ClientBody,
        Error::Reset => UpstreamOutcome::Reset,
        Error::Timeout(_) => UpstreamOutcome::Timeout,
    }
}

/// An app that gave no answer.
fn unanswered(exchange: &Exchange, error: &Error) -> Box<Fault> {
    // A lack is told of where it is found, and not for every request.
    if !matches!(error, Error::ClientBody(_) | Error::Exhausted) {
        let (request, path) = (exchange.request_id(), exchange.logged_path());
        tracing::warn!(%error, request, %path, "upstream");
    }
    let (status, code, detail) = match error {
        Error::BadResponse(_) => {
            (StatusCode::BAD_GATEWAY, "bad-upstream-response", "The app's answer is not valid.")
        }
        Error::Busy => {
            let detail = "Too many requests to the app are under way.";
            let fault = Fault::new(StatusCode::SERVICE_UNAVAILABLE, "upstream-busy", detail);
            return Box::new(fault.after(Duration::from_secs(1)));
        }
        Error::ClientBody(BodyFault::Broken) => {
            (StatusCode::BAD_REQUEST, "bad-body", "The request's body broke off or is not valid.")
        }
        Error::ClientBody(BodyFault::Late) => {
            (StatusCode::REQUEST_TIMEOUT, "body-timeout", "The request's body took too long.")
        }
        // It has not ended: the store is down for longer than sessions are believed without it.
        Error::ClientBody(BodyFault::SessionOver) => {
            return Box::new((&Refusal::Unavailable).into());
        }
        Error::Connect(_) => {
            (StatusCode::BAD_GATEWAY, "upstream-unreachable", "The app cannot be reached.")
        }
        Error::Exhausted => {
            let detail = "The gateway cannot open another connection to the app now.";
            let fault = Fault::new(StatusCode::SERVICE_UNAVAILABLE, "gateway-busy", detail);
            return Box::new(fault.after(Duration::from_secs(1)));
        }
        Error::Reset => {
            (StatusCode::BAD_GATEWAY, "upstream-reset", "The app closed the connection.")
        }
        Error::Timeout(_) => {
            (StatusCode::GATEWAY_TIMEOUT, "upstream-timeout", "The app did not answer in time.")
        }
    };
    fault(status, code, detail)
}
