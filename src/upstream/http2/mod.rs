//! HTTP/2 towards apps: h2 reads and writes the frames of a connection, and requests share connections.

mod body;
mod connection;
mod input;
mod outgoing;
mod pieces;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{Method, Request, Response, StatusCode, Uri, header, uri};

use self::outgoing::Outgoing;
use super::body::{Answering, RequestBody};
use super::connect::Link;
use super::http1::{HEAD, INTERIM};
use super::pool::Pool;
use super::{Answer, Client, Error, Failure, is_idempotent, lease};
use crate::headers::frames::{is_bodiless, tidy};
use crate::headers::{AnswerHead, Fields, Stamped};

pub(super) use self::body::ResponseBody;
pub(super) use self::connection::{Place, Seat, Shared};
pub use self::pieces::{Piece, Pieces};

impl Client {
    /// As [`Client::send`].
    pub(super) async fn send_http2(
        &self,
        stamped: Stamped<RequestBody>,
        pool: &Rc<Pool>,
        interim: &mut dyn FnMut(Box<AnswerHead>),
    ) -> Result<Answer, Error> {
        let upstream = pool.upstream();
        let mut request = stamped.into_request();
        adapt(&mut request)?;
        let (parts, mut body) = request.into_parts();
        let mut head = Box::new(Request::from_parts(parts, ()));
        let repeatable = is_idempotent(head.method()) && body.is_empty();
        let to_head = head.method() == Method::HEAD;
        let mut retried = false;
        loop {
            let (mut lease, link) = lease(pool, retried).await?;
            let Link::Http2(Seat { send, place }) = link else { return Err(Error::Reset) };
            lease.sit(Rc::clone(&place));
            let again = (!retried).then(|| head.clone());
            let turn = body.turn();
            let mut deadline = self.timer.deadline(upstream.settings.first_byte);
            let exchanged = match Exchange::begin(send, *head, body.is_empty()) {
                Ok(mut exchange) => {
                    let answer = poll_fn(|cx| exchange.poll(cx, &mut body, &mut *interim));
                    let answer = self.first_byte(answer, turn.as_ref(), upstream, &mut deadline);
                    let late = || {
                        place.doubt();
                        Err(Failure::late(upstream.settings.first_byte))
                    };
                    answer.await.unwrap_or_else(late).map(|begun| (begun, exchange.out))
                }
                Err(failure) => Err(failure),
            };
            let failure = match exchanged {
                Ok((Begun { head, left, stream }, out)) => {
                    let rest =
                        (!out.is_finished()).then(|| out.send_rest(body, place, &self.timer));
                    let answering = match to_head || is_bodiless(head.status) {
                        // What comes all the same is nobody's.
                        true => Answering::Nothing,
                        false => Answering::Http2(ResponseBody::new(stream, left, turn, rest)),
                    };
                    lease.worked();
                    deadline.reset(upstream.settings.idle);
                    let body = Box::new(super::ResponseBody::new(answering, lease, deadline));
                    return Ok(Answer { head, body, tunnel: None, retried });
                }
                Err(failure) => failure,
            };
            // What the app says that it has not begun with may go anywhere; what it left without a word, where the
            // connection may have been at its end before.
            let may = !failure.started && (failure.unsent || repeatable && lease.is_reused());
            let Some(again) = again.filter(|_| may) else {
                lease.failed_by(&failure.error);
                return Err(failure.error);
            };
            (head, retried) = (again, true);
        }
    }
}

/// The head of an answer, and what is needed for the rest.
struct Begun {
    head: Box<AnswerHead>,
    /// Bytes of its body, as it says.
    left: Option<u64>,
    stream: RecvStream,
}

/// A request on its way, and the wait for the head of its answer.
struct Exchange {
    answer: ResponseFuture,
    out: Outgoing,
    /// Interim answers so far, and the bytes of their fields.
    interim: (u32, usize),
}

impl Exchange {
    /// Sends the head; `whole`: there is no body.
    fn begin(
        mut send: SendRequest<Piece>,
        head: Request<()>,
        whole: bool,
    ) -> Result<Self, Failure> {
        match send.send_request(head, whole) {
            Ok((answer, stream)) => {
                Ok(Self { answer, out: Outgoing::new(stream, whole), interim: (0, 0) })
            }
            // Nothing was sent.
            Err(error) => Err(Failure { unsent: true, ..Failure::of_http2(&error, false) }),
        }
    }

    /// Sends the body, and reads the head of the answer from the start on: an app may refuse a request before it has
    /// all of it. What it says ahead of the answer goes to `interim`.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
        interim: &mut dyn FnMut(Box<AnswerHead>),
    ) -> Poll<Result<Begun, Failure>> {
        if let Poll::Ready(Err(error)) = self.out.poll(cx, body) {
            return Poll::Ready(Err(Failure::of_body(Some(&error))));
        }
        let failure = |this: &Self, error| Failure::of_http2(&error, this.has_begun());
        while let Poll::Ready(Some(early)) = self.answer.poll_informational(cx) {
            let early = early.map_err(|error| failure(self, error))?;
            self.pass_on(early, interim)?;
        }
        let response = ready!(Pin::new(&mut self.answer).poll(cx));
        let (parts, stream) = response.map_err(|error| failure(self, error))?.into_parts();
        let (head, left) = head(parts)?;
        Poll::Ready(Ok(Begun { head, left, stream }))
    }

    /// Whether the app may have begun with it, or it cannot be sent again.
    fn has_begun(&self) -> bool {
        self.out.has_begun() || self.interim.0 > 0
    }

    /// Passes on an interim answer, but for the 100: nobody has asked for it, since clients are told to go on as soon
    /// as their body is wanted.
    fn pass_on(
        &mut self,
        early: Response<()>,
        interim: &mut dyn FnMut(Box<AnswerHead>),
    ) -> Result<(), Failure> {
        let size = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
            name.as_str().len() + value.len()
        };
        let (count, bytes) = &mut self.interim;
        *count += 1;
        *bytes = early.headers().iter().map(size).fold(*bytes, usize::saturating_add);
        if *count > INTERIM || *bytes > HEAD {
            return Err(Failure::bad_response("too many interim answers"));
        }
        let (head, _) = head(early.into_parts().0)?;
        if head.status != StatusCode::CONTINUE {
            interim(head);
        }
        Ok(())
    }
}

/// A head that may be passed on, and the length that it gives its body.
fn head(mut parts: http::response::Parts) -> Result<(Box<AnswerHead>, Option<u64>), Failure> {
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::bad_response("101, which HTTP/2 does not have"));
    }
    let left = tidy(parts.status, &mut parts.headers)
        .map_err(|malformed| Failure::bad_response(&malformed.to_string()))?;
    let fields = Fields::Map(parts.headers);
    Ok((Box::new(AnswerHead { status: parts.status, reason: None, fields }), left))
}

impl Failure {
    /// What h2 says of a request of which nobody has more than its head, unless it has `begun`.
    fn of_http2(error: &h2::Error, begun: bool) -> Self {
        tracing::debug!(%error, "an app broke off");
        if error.is_library() {
            return Self::bad_response(&error.to_string());
        }
        // The app says that it has not begun with it (RFC 9113 section 8.7).
        let refused = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        // It has given it up by itself: another attempt would be a second one.
        let started = begun || error.is_reset() && error.is_remote() && !refused;
        Self { error: Error::Reset, unsent: refused && !begun, started }
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
