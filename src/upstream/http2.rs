//! HTTP/2 towards apps: requests share connections, which hyper runs.

use std::cell::Cell;
use std::error::Error as _;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http::{Method, Request, Response, Uri, header, uri};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;

use super::body::{Answering, BodyError, RequestBody, Turn};
use super::connect::Link;
use super::pool::Pool;
use super::{Answer, Client, Error, Failure, is_idempotent, lease};
use crate::headers::frames::{is_bodiless, tidy, trailers};
use crate::headers::{AnswerHead, Fields, Stamped};

/// Bytes of an answer that may come before the client takes them.
pub(super) const STREAM_WINDOW: u32 = 64 << 10;
/// Requests on one connection at a time; an app may want fewer.
pub(super) const STREAMS: u32 = 256;

/// A connection that is shared by requests.
#[derive(Clone)]
pub(super) struct Shared {
    send: http2::SendRequest<RequestBody>,
    open: Rc<Cell<usize>>,
    /// Asks the connection how many requests the app takes at a time.
    most: Rc<dyn Fn() -> usize>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("open", &self.open).finish_non_exhaustive()
    }
}

/// The right to send one request on a connection.
#[derive(Debug)]
pub(super) struct Seat {
    send: http2::SendRequest<RequestBody>,
    place: Place,
}

/// One of the requests on a connection, until its answer was read.
#[derive(Debug)]
pub(super) struct Place(Rc<Cell<usize>>);

impl Shared {
    pub(super) fn new(
        send: http2::SendRequest<RequestBody>,
        most: impl Fn() -> usize + 'static,
    ) -> Self {
        Self { send, open: Rc::default(), most: Rc::new(most) }
    }

    /// The right to send one more request, as long as the app takes one: what is beyond its limit would wait for others
    /// to end, for as long as they like.
    pub(super) fn seat(&self) -> Option<Seat> {
        if !self.send.is_ready() || self.open.get() >= (self.most)().clamp(1, STREAMS as usize) {
            return None;
        }
        self.open.set(self.open.get() + 1);
        Some(Seat { send: self.send.clone(), place: Place(Rc::clone(&self.open)) })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.send.is_closed()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.get() == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

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
        let to_head = request.method() == Method::HEAD;
        let mut retried = false;
        loop {
            let (mut lease, link) = lease(pool, retried).await?;
            let Link::Http2(Seat { send, place }) = link else { return Err(Error::Reset) };
            lease.sit(place);
            let copy = (repeatable && lease.is_reused() && !retried).then(|| copy(&request));
            let turn = request.body().turn();
            let mut deadline = self.timer.deadline(upstream.settings.first_byte);
            let sending = Box::pin(send_request(send, *request));
            let sent = self.first_byte(sending, turn.as_ref(), upstream, &mut deadline).await;
            let (failure, unsent) = match sent {
                Some(Ok(response)) => {
                    deadline.reset(upstream.settings.idle);
                    let (head, body) = match answer(response, to_head, turn) {
                        Ok(answer) => answer,
                        Err(error) => {
                            lease.failed();
                            return Err(error);
                        }
                    };
                    lease.worked();
                    let body = Box::new(super::ResponseBody::new(body, lease, deadline));
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

/// The head and the body of an answer that may be passed on.
fn answer(
    response: Response<Incoming>,
    to_head: bool,
    turn: Option<Turn>,
) -> Result<(Box<AnswerHead>, Answering), Error> {
    let (mut parts, incoming) = response.into_parts();
    let left = tidy(parts.status, &mut parts.headers)
        .map_err(|malformed| Error::BadResponse(malformed.to_string()))?;
    let body = match to_head || is_bodiless(parts.status) {
        // What comes all the same is nobody's.
        true => Answering::Nothing,
        false => Answering::Http2(ResponseBody { incoming, left, turn }),
    };
    let fields = Fields::Map(parts.headers);
    let head = Box::new(AnswerHead { status: parts.status, reason: None, fields });
    Ok((head, body))
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct ResponseBody {
    incoming: Incoming,
    /// Bytes to come, as the head says.
    left: Option<u64>,
    /// How far the request's body has come, if it has one.
    turn: Option<Turn>,
}

impl ResponseBody {
    pub(super) fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(frame) = ready!(Pin::new(&mut this.incoming).poll_frame(cx)) else {
            return Poll::Ready((!this.is_whole()).then_some(Err(BodyError::Withdrawn)));
        };
        let frame = match frame?.into_data() {
            Ok(data) => {
                let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
                this.left = this.left.map(|left| left.saturating_sub(count));
                Frame::data(data)
            }
            Err(frame) => Frame::trailers(trailers(frame.into_trailers().unwrap_or_default())),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    /// Whether what hyper takes for the end is one. It takes a reset without an error for one, too, by which an app
    /// says that it needs no more of a request behind its whole answer (RFC 9113 section 8.1): not one to a request
    /// that it has all of.
    fn is_whole(&self) -> bool {
        match self.left {
            Some(left) => left == 0,
            None => {
                let sends = self.turn.as_ref().is_some_and(|turn| !turn.has_ended());
                self.incoming.is_end_stream() || sends
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Sends a request on a connection. The request comes back when nothing of it was sent.
async fn send_request(
    mut send: http2::SendRequest<RequestBody>,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, (Failure, Option<Request<RequestBody>>)> {
    let mut error = match send.try_send_request(request).await {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    let unsent = error.take_message();
    let error = error.into_error();
    let started = error.is_parse() || error.is_user() || is_answer(&error);
    let error = match () {
        () if error.is_parse() => Error::BadResponse(error.to_string()),
        () if error.is_user() => of_user(&error),
        () => Error::Reset,
    };
    Err((Failure { error, unsent: unsent.is_some(), started }, unsent))
}

/// Whether the app has given up the request by itself: another attempt would be a second one. Not when it says that it
/// has not begun with it (RFC 9113 section 8.7).
fn is_answer(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        error.is_reset() && error.is_remote() && error.reason() != Some(Reason::REFUSED_STREAM)
    })
}

/// What hyper says of its user: the request's body, or a request that it does not take.
fn of_user(error: &hyper::Error) -> Error {
    match error.source().and_then(|source| source.downcast_ref::<BodyError>()) {
        Some(body) => Error::ClientBody(body.fault()),
        None => Error::BadResponse(error.to_string()),
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
