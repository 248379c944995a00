//! WebSockets: hands a connection over to a tunnel that lives as long as its session.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::{HeaderValue, StatusCode, header};

use super::exchange::Exchange;
use super::pipeline::{Answer, Outcome};
use crate::api::Fault;
use crate::headers::{AnswerHead, Fields, clean_answer};
use crate::metrics::OpenKind;
use crate::policy::Permit;
use crate::upstream::{self, Cut, Upgraded, Upstream};

/// The app has agreed: answers 101 and lets the bytes flow.
pub(super) fn open(
    exchange: &Exchange,
    app: upstream::Answer,
    tunnel: Upgraded,
    upstream: &Arc<Upstream>,
    permit: &Permit,
) -> Outcome {
    let routes = exchange.view.site.table.router.routes();
    let passive = exchange.route.and_then(|index| routes.iter().find(|route| route.index == index));
    let passive = passive.is_some_and(|route| route.passive);
    let AnswerHead { status, reason, fields } = *app.head;
    let mut headers = fields.into_map();
    let agreed = headers.get(header::UPGRADE);
    if !agreed.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        let detail = "The app switched to another protocol than the one asked for.";
        let fault = Fault::new(StatusCode::BAD_GATEWAY, "bad-upstream-response", detail);
        return Err(Box::new(fault));
    }
    let client = exchange.connection().switch();
    let worker = Rc::clone(exchange.worker());
    // With the connection's place: a tunnel is one of those that may be open.
    let connection = Rc::clone(exchange.connection());
    let session = permit.session().map(|live| worker.streams.enter(Arc::clone(live.pulse())));
    let idle = upstream.settings.tunnel_idle;
    tokio::task::spawn_local(async move {
        let _open = worker.metrics.open(OpenKind::Tunnel);
        let mut member = worker.stop.enter();
        let client = match client.await {
            Ok(client) => client,
            Err(error) => {
                tracing::debug!(%error, "a tunnel did not come about");
                return;
            }
        };
        let session = std::cell::RefCell::new(session);
        let cut = poll_fn(|cx| {
            if let Some(entry) = session.borrow_mut().as_mut()
                && entry.poll_over(cx, true).is_ready()
            {
                let cut = if entry.has_ended() { Cut::SESSION_OVER } else { Cut::UNPROVEN };
                return Poll::Ready(cut);
            }
            member.poll(cx).map(|()| Cut::GOING_AWAY)
        });
        // What the person sends is use of the session; what the app pushes is not.
        let sent = || {
            if let Some(entry) = session.borrow().as_ref().filter(|_| !passive) {
                entry.note();
            }
        };
        if let Err(error) = upstream::tunnel(client, tunnel, cut, sent, &worker.timer, idle).await {
            tracing::debug!(%error, "a tunnel broke off");
        }
        drop(connection);
    });
    clean_answer(&mut headers, exchange.view.site.cookie.as_str());
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let head = Box::new(AnswerHead { status, reason, fields: Fields::Map(headers) });
    Ok(Answer::App(upstream::Answer { head, ..app }))
}
