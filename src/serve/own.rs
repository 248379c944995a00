//! Own routes: reads the bounded body and asks the dialect.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::exchange::Exchange;
use super::pipeline::{Answer, Outcome};
use crate::api::{Ask, Core, Dialect, Fault};
use crate::route::Target;
use crate::session::{Caller, Live};

/// The part of the path below the mount, when the request belongs to it.
pub(super) fn below(target: &Target<'_>, mount: &str) -> Option<Below> {
    let canonical = target.canonical();
    let rest = strip(&canonical, mount)?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    // Own routes have plain paths: any other spelling of one is nobody's.
    let exact = strip(target.path(), mount).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    Some(match exact {
        Some("") => Below::Path("/".to_owned()),
        Some(rest) => Below::Path(rest.to_owned()),
        None => Below::Disguised,
    })
}

/// Where under the mount a request goes.
#[derive(Debug)]
pub(super) enum Below {
    /// This path, starting with `/`.
    Path(String),
    /// A path that only reads as one of ours after decoding.
    Disguised,
}

fn strip<'a>(path: &'a str, mount: &str) -> Option<&'a str> {
    let (head, rest) = path.split_at_checked(mount.len())?;
    head.eq_ignore_ascii_case(mount).then_some(rest)
}

/// Asks the dialect. `carried` is what came of looking for the session: a store that does not answer
/// is a fault only where the session matters, which the dialect's own commands find out.
pub(super) async fn answer(
    exchange: &mut Exchange,
    parts: &Parts,
    incoming: Incoming,
    below: Below,
    carried: Result<Option<Arc<Live>>, Box<Fault>>,
) -> Outcome {
    let Below::Path(path) = below else {
        let fault = Fault::new(StatusCode::NOT_FOUND, "no-route", "There is no such page.");
        return Err(Box::new(fault));
    };
    let view = Rc::clone(&exchange.view);
    let site = &view.site;
    let worker = Rc::clone(exchange.worker());
    let session = match carried {
        Ok(session) => session,
        // Style sheets and scripts need no session.
        Err(_) if path.starts_with("/static/") => None,
        Err(fault) => return Err(fault),
    };
    // Asking for one's own state is no use of the session: pages poll it.
    if let Some(live) = &session
        && !(path == "/session" && parts.method == Method::GET)
    {
        live.pulse().note(worker.clock.now());
    }
    let body = read(incoming, parts, site.limits.own_body, site.limits.body_idle, exchange).await?;
    let agent = parts.headers.get(header::USER_AGENT);
    let caller = Caller {
        session,
        ip: Some(exchange.ip()),
        agent: agent
            .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned())
            .unwrap_or_default(),
        request: exchange.request_id().to_owned(),
    };
    let origin = format!("https://{}", exchange.host());
    let ask = Ask {
        method: &parts.method,
        path: &path,
        query: exchange.uri.query(),
        headers: &parts.headers,
        body,
        caller,
        origin: &origin,
        stale: exchange.stale,
        now: worker.clock.now().seconds(),
    };
    let reply = site.browser.answer(ask, Core::new(&worker.authority)).await;
    Ok(Answer::Own(reply))
}

/// Reads a body of at most `limit` bytes.
async fn read(
    mut incoming: Incoming,
    parts: &Parts,
    limit: usize,
    time: Duration,
    exchange: &Exchange,
) -> Result<Bytes, Box<Fault>> {
    let too_large = || {
        let detail = format!("The request's body is larger than {limit} bytes.");
        Box::new(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail))
    };
    let announced = parts.headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut deadline = exchange.worker().timer.deadline(time);
    let collect = async {
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|_| {
                let detail = "The request's body broke off or is not valid.";
                Box::new(Fault::new(StatusCode::BAD_REQUEST, "bad-body", detail))
            })?;
            if let Ok(data) = frame.into_data() {
                if body.len() + data.len() > limit {
                    return Err(too_large());
                }
                body.extend_from_slice(&data);
            }
        }
        Ok(body.freeze())
    };
    deadline.limit(collect).await.unwrap_or_else(|| {
        let detail = "The request's body took too long.";
        Err(Box::new(Fault::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", detail)))
    })
}
