//! Own routes: reads the bounded body and asks the dialect. Finds nothing out about sessions itself.

use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, header};

use super::exchange::Exchange;
use super::pipeline::{Answer, Outcome};
use super::upload::Upload;
use crate::api::{Ask, Core, Dialect, Fault, Head, UNKNOWN_TOKENS};
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

pub(super) fn strip<'a>(path: &'a str, mount: &str) -> Option<&'a str> {
    let (head, rest) = path.split_at_checked(mount.len())?;
    head.eq_ignore_ascii_case(mount).then_some(rest)
}

/// Asks the dialect. `carried` is what came of looking for the session: a store that does not answer
/// is a fault only where the session matters, which the dialect's own commands find out.
pub(super) async fn answer(
    exchange: &mut Exchange,
    parts: &Parts,
    upload: Upload,
    (dialect, path): (Arc<dyn Dialect>, String),
    carried: Result<Option<Arc<Live>>, Box<Fault>>,
) -> Outcome {
    let view = Rc::clone(&exchange.view);
    let site = &view.site;
    let worker = Rc::clone(exchange.worker());
    let (session, guessed) = match carried {
        Ok(session) => (session, None),
        // Style sheets and scripts need no session.
        Err(_) if path.starts_with("/static/") => (None, None),
        Err(fault) if fault.code == UNKNOWN_TOKENS => (None, Some(fault)),
        Err(fault) => return Err(fault),
    };
    // Asking for one's own state is no use of the session: pages poll it.
    if let Some(live) = &session
        && !(path == "/session" && matches!(parts.method, Method::GET | Method::PUT))
    {
        live.pulse().note(worker.clock.now());
    }
    let limits = &site.limits;
    let body = upload.read(parts, limits.own_body, limits.body_idle, exchange).await?;
    if let Some(fault) = guessed {
        let (method, headers, query) = (&parts.method, &parts.headers, exchange.uri.query());
        // Nobody must be kept from signing in by what others in their network guess.
        if !dialect.is_login(
            &Head { method, path: &path, query, headers, has_body: !body.is_empty() },
            &body,
        ) {
            return Err(fault);
        }
    }
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
        by_cookie: exchange.by_cookie,
        now: worker.clock.now().seconds(),
    };
    let reply = dialect.answer(ask, Core::new(&worker.authority)).await;
    Ok(Answer::Own(Box::new(reply)))
}
