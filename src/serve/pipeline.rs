//! THE function: validate, route, session, policy, headers, upstream.
//!
//! The decision comes before any byte goes upstream and before the body is read.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode, Version};

use super::answer::{Response, app_response, own_response, refusal};
use super::carrier::{Seen, ask, look, sign_in, take_token};
use super::connection::Active;
use super::exchange::Exchange;
use super::forward::{self, Way};
use super::http1::Violation;
use super::interim::Interim;
use super::mount::{self, Claimed};
use super::own::Below;
use super::site::Site;
use super::upload::Upload;
use super::{caught, host, own, size};
use crate::api::browser::Browser;
use crate::api::{Dialect, Fault, Reply, is_cross_site, wants_page, worded_by};
use crate::audit::{Event, Origin};
use crate::metrics::RequestKind;
use crate::policy::{Decision, Facts, Permit, Rule};
use crate::route::{Found, HostRoutes, Route, Target};
use crate::session::{Live, Refusal};
use crate::upstream::Incoming;

/// What comes of a request: an answer, or a fault that is still to be worded.
pub(super) type Outcome = Result<Answer, Box<Fault>>;

/// An answer without its exchange.
#[derive(Debug)]
pub(super) enum Answer {
    Own(Box<Reply>),
    App(crate::upstream::Answer),
}

/// A request that has come in.
#[derive(Debug)]
pub(super) struct Begun {
    exchange: Box<Exchange>,
    parts: Box<Parts>,
    upload: Upload,
}

/// Begins with a request. Not part of [`handle`]: its future must not hold the whole request.
/// `refused`: its head must be refused, and `parts` only stand in for it.
pub(super) fn begin(
    active: Active,
    parts: Box<Parts>,
    body: Incoming,
    refused: Option<Violation>,
) -> Begun {
    let exchange = Box::new(Exchange::new(active, &parts, refused));
    Begun { exchange, parts, upload: Upload::new(body) }
}

/// Serves one request. `interim`: what the client is to be told ahead of the answer.
pub(super) async fn handle(begun: Begun, interim: &Interim) -> Response {
    let Begun { mut exchange, parts, upload } = begun;
    let outcome = {
        let mut outcome = pin!(outcome(&mut exchange, parts, upload, interim));
        poll_fn(|cx| caught::poll(outcome.as_mut(), cx)).await
    };
    let outcome = outcome.unwrap_or_else(|panicked| {
        panicked.log(Some(&exchange.id));
        exchange.panicked = true;
        let detail = "The gateway made a mistake.";
        Err(fault(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", detail))
    });
    if outcome.is_err() {
        interim.forget();
    }
    match outcome {
        Ok(Answer::App(answer)) => app_response(answer, exchange),
        Ok(Answer::Own(reply)) => own_response(*reply, exchange),
        Err(fault) => refusal(&fault, exchange),
    }
}

/// What comes of a request.
async fn outcome(
    exchange: &mut Exchange,
    mut parts: Box<Parts>,
    upload: Upload,
    interim: &Interim,
) -> Outcome {
    match admit(exchange, &mut parts, upload).await {
        Ok(Admitted::Answer(answer)) => Ok(answer),
        Ok(Admitted::Forward(upload, permit, websocket)) => {
            exchange.wants_page = wants_page(&parts.method, &parts.headers);
            keep_accept(exchange, &parts.headers);
            serve(exchange, parts, upload, permit, websocket, interim).await
        }
        Err(fault) => {
            exchange.hints = worded_by(&parts.method, &parts.headers);
            keep_accept(exchange, &parts.headers);
            Err(fault)
        }
    }
}

/// Keeps what a session API words its failures by.
fn keep_accept(exchange: &mut Exchange, headers: &HeaderMap) {
    if exchange.view.site.mounts.is_empty() {
        return;
    }
    let (host, path) = (exchange.host_name(), exchange.uri.path());
    let covered = exchange.view.site.mounts.iter().any(|mount| mount.covers(host, path));
    if let Some(accept) = headers.get(header::ACCEPT).filter(|_| covered) {
        exchange.hints.insert(header::ACCEPT, accept.clone());
    }
}

/// What the rules say to a request.
enum Admitted {
    Answer(Answer),
    Forward(Upload, Permit, bool),
}

/// Validates, finds the route and the session, asks the rule. The request's head stays with the
/// caller, who needs it to word a refusal.
async fn admit(
    exchange: &mut Exchange,
    parts: &mut Parts,
    mut upload: Upload,
) -> Result<Admitted, Box<Fault>> {
    let view = Rc::clone(&exchange.view);
    let site = &view.site;
    let host = validate(exchange, parts)?;
    if let Some(reply) = last_hop(parts) {
        return Ok(Admitted::Answer(Answer::Own(Box::new(reply))));
    }
    let path = exchange.uri.path_and_query().cloned();
    let host = exchange.host.insert(host).clone();
    let name = host.name();
    let target = Target::parse(path.as_ref().map_or("", PathAndQuery::as_str))
        .map_err(|error| target_fault(&error.to_string()))?;
    let Some(routes) = site.table.router.of_host(name) else {
        return Err(misdirected(name, &site.public_url));
    };
    if let Some(below) = own::below(&target, &site.mount) {
        let Below::Path(path) = below else {
            return Err(fault(StatusCode::NOT_FOUND, "no-route", "There is no such page."));
        };
        let browser: Arc<dyn Dialect> = Arc::<Browser>::clone(&site.browser);
        return Box::pin(answer(exchange, parts, upload, (browser, path))).await;
    }
    if let Some(place) = mount::find(&site.mounts, name, &target) {
        let claim = mount::claim(exchange, parts, &mut upload, place, &target, routes);
        if let Claimed::Own(dialect, path) = Box::pin(claim).await? {
            return Box::pin(answer(exchange, parts, upload, (dialect, path))).await;
        }
    }
    let route = find_route(site, routes, &target, &parts.method)?;
    exchange.route = Some(route.index);
    let rule = rule_of(site, route)?;
    if route.tells_methods_apart || rule.looks_at_method() {
        remove_overrides(&mut parts.headers);
    }
    let seen = if rule.looks_at_session() {
        look(exchange, &mut parts.headers, upload.looked_at())
    } else {
        let _ = take_token(exchange, &mut parts.headers, None);
        Seen::Known(None)
    };
    let session = match seen {
        Seen::Known(session) => session,
        // Boxed: the rare way must not make the future of every request large.
        Seen::Ask(token) => match Box::pin(ask(exchange, token)).await {
            // A store that does not answer must not close what is open.
            Err(_) if rule.is_open() => None,
            found => found?,
        },
    };
    let permit = permit(exchange, route, rule, session, &parts.method)?;
    let websocket = is_websocket(parts);
    if websocket && !route.cross_site_websocket {
        let origin = format!("https://{}", exchange.host());
        if is_cross_site(&parts.headers, &origin) {
            return Err(cross_site(exchange));
        }
    }
    Ok(Admitted::Forward(upload, permit, websocket))
}

/// Has a dialect answer a request that is its own.
async fn answer(
    exchange: &mut Exchange,
    parts: &mut Parts,
    upload: Upload,
    own: (Arc<dyn Dialect>, String),
) -> Result<Admitted, Box<Fault>> {
    let seen = if own.0.finds_sessions() {
        Seen::Known(None)
    } else {
        look(exchange, &mut parts.headers, None)
    };
    let carried = match seen {
        Seen::Known(session) => Ok(session),
        Seen::Ask(token) => ask(exchange, token).await,
    };
    own::answer(exchange, parts, upload, own, carried).await.map(Admitted::Answer)
}

/// Hands the request to the app.
async fn serve(
    exchange: &mut Exchange,
    parts: Box<Parts>,
    upload: Upload,
    permit: Permit,
    websocket: bool,
    interim: &Interim,
) -> Outcome {
    let prepared = match forward::prepare(exchange, parts, upload, permit, websocket)? {
        Way::App(prepared) => prepared,
        Way::Whoami(reply) => return Ok(Answer::Own(reply)),
    };
    let (stamped, sent) = prepared.split();
    let cookie = exchange.view.site.cookie.as_str();
    let mut early = |head| sent.pass_on(head, cookie, interim);
    let answer = sent.worker.client.send(stamped, &sent.upstream, &mut early).await;
    forward::receive(exchange, answer, sent)
}

/// The route, when it takes a target like this one.
fn find_route<'a>(
    site: &'a Site,
    routes: HostRoutes<'_>,
    target: &Target<'_>,
    method: &Method,
) -> Result<&'a Route, Box<Fault>> {
    let route = match site.table.router.find_among(routes, target, method) {
        Found::Route(route) => route,
        Found::WrongMethod(methods) => return Err(wrong_method(&methods)),
        Found::NoPath | Found::NoHost => {
            let detail = "Nothing is configured for this path.";
            return Err(fault(StatusCode::NOT_FOUND, "no-route", detail));
        }
    };
    let permitted = target.permitted_by(&route.leniency, &route.prefix);
    permitted.map_err(|error| target_fault(&error.to_string()))?;
    Ok(route)
}

/// Removes the headers by which apps let a client put another method in place of the one that is judged.
fn remove_overrides(headers: &mut HeaderMap) {
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        headers.remove(name);
    }
}

fn rule_of<'a>(site: &'a Site, route: &Route) -> Result<&'a Rule, Box<Fault>> {
    let missing = || fault(StatusCode::INTERNAL_SERVER_ERROR, "no-rule", "The route has no rule.");
    site.table.rules.get(route.index).ok_or_else(missing)
}

pub(super) fn fault(
    status: StatusCode,
    code: &'static str,
    detail: impl Into<String>,
) -> Box<Fault> {
    Box::new(Fault::new(status, code, detail))
}

pub(super) fn target_fault(detail: &str) -> Box<Fault> {
    fault(StatusCode::BAD_REQUEST, "bad-target", detail)
}

fn misdirected(name: &str, public_url: &str) -> Box<Fault> {
    let detail = format!(
        "The name {name} is not served here. Go to {public_url}, or (operator) give the name to a \
         [[route]] as `host` or to [server] `hosts`."
    );
    fault(StatusCode::MISDIRECTED_REQUEST, "unknown-host", detail)
}

fn wrong_method(methods: &[&Method]) -> Box<Fault> {
    let detail = "This path does not take this method.";
    let mut fault = Fault::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
    let names: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
    fault.allow = Some(names.join(", "));
    Box::new(fault)
}

/// What can be judged without knowing the route.
fn validate(exchange: &Exchange, parts: &Parts) -> Result<host::Host, Box<Fault>> {
    let connection = exchange.connection();
    if let Some(violation) = exchange.refused {
        exchange.worker().metrics.violation(violation.code());
        let status = StatusCode::from_u16(violation.status()).unwrap_or(StatusCode::BAD_REQUEST);
        return Err(fault(status, violation.code(), violation.to_string()));
    }
    if matches!(parts.method, Method::TRACE | Method::CONNECT) {
        let detail = format!("{} is not served.", parts.method);
        let mut fault = Fault::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
        fault.allow = Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned());
        return Err(Box::new(fault));
    }
    let limits = &exchange.view.site.limits.heads;
    if exchange.uri.path_and_query().map_or(0, |path| path.as_str().len()) > limits.request_line {
        let detail = "The request's target is too long.";
        return Err(fault(StatusCode::URI_TOO_LONG, "uri-too-long", detail));
    }
    size::judge(parts, limits)?;
    let host = host::find(parts, connection.host.borrow().as_ref()).map_err(Box::new)?;
    if connection.host.borrow().as_ref() != Some(&host) {
        *connection.host.borrow_mut() = Some(host.clone());
    }
    if let Some(sni) = &connection.arrival.sni
        && host.name() != sni
    {
        let detail = format!(
            "The connection was made for {sni} and cannot carry requests for {}: connect anew.",
            host.name()
        );
        return Err(fault(StatusCode::MISDIRECTED_REQUEST, "wrong-connection", detail));
    }
    Ok(host)
}

pub(super) fn origin(exchange: &Exchange) -> Origin {
    Origin { ip: Some(exchange.ip()), request: exchange.request_id().to_owned() }
}

/// `OPTIONS *`, and `OPTIONS` that may not go further (RFC 9110 section 7.6.2), are answered here.
fn last_hop(parts: &mut Parts) -> Option<Reply> {
    if parts.method != Method::OPTIONS {
        return None;
    }
    let left = parts.headers.get(header::MAX_FORWARDS);
    let left = left.and_then(|left| left.to_str().ok()?.parse::<u32>().ok());
    if left != Some(0) && parts.uri.path() != "*" {
        if let Some(left) = left {
            parts.headers.insert(header::MAX_FORWARDS, HeaderValue::from(left - 1));
        }
        return None;
    }
    let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    Some(Reply::empty(StatusCode::NO_CONTENT).with(header::ALLOW, allow))
}

/// What the route's rule says.
fn permit(
    exchange: &mut Exchange,
    route: &Route,
    rule: &Rule,
    session: Option<Arc<Live>>,
    method: &Method,
) -> Result<Permit, Box<Fault>> {
    let (method, ip) = (method.as_str(), exchange.ip());
    let decision = rule.decide(&Facts { session: session.as_ref(), method, ip });
    match decision {
        Decision::Permit(permit) => {
            if let Some(live) = permit.session() {
                exchange.kind = RequestKind::SignedIn;
                if !route.passive {
                    live.pulse().note(exchange.started.unix);
                }
            } else {
                exchange.kind = RequestKind::Public;
            }
            Ok(permit)
        }
        Decision::SignIn => Err(sign_in(exchange.worthless)),
        Decision::Refuse(requirement) => {
            let user = session.as_ref().map_or("", |live| live.identity().user.as_str());
            let event = Event::Refusal { user, code: "not-allowed", path: &exchange.logged_path() };
            exchange.worker().authority.audit().record(&origin(exchange), &event);
            let detail = "You are signed in, but not allowed to open this.";
            let mut fault = Fault::new(StatusCode::FORBIDDEN, "not-allowed", detail);
            fault.requirement = Some(requirement);
            Err(Box::new(fault))
        }
    }
}

fn cross_site(exchange: &Exchange) -> Box<Fault> {
    let user = exchange.live.as_ref().map_or("", |live| live.identity().user.as_str());
    let event =
        Event::Refusal { user, code: "cross-site-websocket", path: &exchange.logged_path() };
    exchange.worker().authority.audit().record(&origin(exchange), &event);
    let detail = "A page of another site may not open a WebSocket here.";
    fault(StatusCode::FORBIDDEN, "cross-site-websocket", detail)
}

/// A WebSocket handshake (RFC 6455 section 4.1); HTTP/2 has none here.
fn is_websocket(parts: &Parts) -> bool {
    let has = |name: header::HeaderName, token: &str| {
        parts.headers.get_all(name).iter().any(|value| {
            let value = value.to_str().unwrap_or("");
            value.split(',').any(|word| word.trim().eq_ignore_ascii_case(token))
        })
    };
    parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && parts.headers.contains_key(header::UPGRADE)
        && has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
}

/// A refusal of the core as a fault.
impl From<Refusal> for Box<Fault> {
    fn from(refusal: Refusal) -> Self {
        Self::new(Fault::from(&refusal))
    }
}
