//! HTTP/2 towards apps: requests share one connection, which hyper runs.

use std::rc::Rc;

use http::{Request, Uri, header, uri};

use super::body::{Answering, RequestBody, ResponseBody};
use super::connect::{Link, send_http2};
use super::pool::Pool;
use super::{Answer, Client, Error, Failure, is_idempotent, lease};
use crate::headers::{AnswerHead, Fields, Stamped};

impl Client {
    /// As [`Client::send`].
    pub(super) async fn send_http2(
        &self,
        stamped: Stamped<RequestBody>,
        pool: &Rc<Pool>,
    ) -> Result<Answer, Error> {
        let upstream = pool.upstream();
        let mut request = stamped.into_request();
        adapt(&mut request)?;
        let repeatable = is_idempotent(request.method()) && request.body().is_empty();
        let mut retried = false;
        loop {
            let (lease, link) = lease(pool, retried).await?;
            let Link::Http2(send) = link else { return Err(Error::Reset) };
            let copy = (repeatable && lease.is_reused() && !retried).then(|| copy(&request));
            let turn = request.body().turn();
            let mut deadline = self.timer.deadline(upstream.settings.first_byte);
            let sending = Box::pin(send_http2(send, *request));
            let sent = self.first_byte(sending, turn.as_ref(), upstream, &mut deadline).await;
            let (failure, unsent) = match sent {
                Some(Ok(response)) => {
                    deadline.reset(upstream.settings.idle);
                    lease.worked();
                    let (parts, body) = response.into_parts();
                    let fields = Fields::Map(parts.headers);
                    let head = AnswerHead { status: parts.status, reason: None, fields };
                    let body = ResponseBody::new(Answering::Http2(body), lease, deadline);
                    let (head, body) = (Box::new(head), Box::new(body));
                    return Ok(Answer { head, body, tunnel: None, retried });
                }
                Some(Err((failure, unsent))) => (failure, unsent.map(Box::new)),
                None => (Failure::late(upstream.settings.first_byte), None),
            };
            let stale = lease.is_reused() && !retried && !failure.started;
            // Nothing of a request that comes back was sent.
            match unsent.or(copy.filter(|_| stale)) {
                Some(again) if stale => request = again,
                _ => {
                    lease.failed_by(&failure.error);
                    return Err(failure.error);
                }
            }
            retried = true;
        }
    }
}

/// HTTP/2 says the host in `:authority` (RFC 9113 section 8.3.1); path and query stay as they are.
fn adapt(request: &mut Request<RequestBody>) -> Result<(), Error> {
    *request.version_mut() = http::Version::HTTP_2;
    if request.uri().authority().is_some() {
        return Ok(());
    }
    let Some(host) = request.headers_mut().remove(header::HOST) else { return Ok(()) };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = uri::Authority::try_from(host.as_bytes()).ok();
    *request.uri_mut() = Uri::from_parts(parts)
        .map_err(|error| Error::Connect(format!("HTTP/2 cannot say this target: {error}")))?;
    Ok(())
}

fn copy(request: &Request<RequestBody>) -> Box<Request<RequestBody>> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Box::new(copy)
}
