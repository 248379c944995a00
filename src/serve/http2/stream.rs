//! One stream: waits for the answer to its request and sends it as the client takes it.

use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use http_body::{Body as _, Frame};

use crate::serve::answer::Response;
use crate::serve::body::Body;
use crate::serve::caught;
use crate::serve::connection::Connection;
use crate::serve::interim::Interim;
use crate::serve::pipeline::{self, Begun};
use crate::timer::Deadline;
use crate::upstream::{BodyError, Piece, Pieces, Unread};

/// How much longer than a whole connection one stream may stand still: a video that is paused.
const STALLED: u32 = 2;

/// How long a client may go on to send a body that nobody reads, behind the answer. Told at once to stop, without an
/// error (RFC 9113 section 8.1), some clients forget the answer.
const LINGER: Duration = Duration::from_secs(2);

/// Answers a request. Ends early when the client resets the stream, and with it all that is done for it; a panic that
/// nobody else has caught ends it, too, and no other stream. `unread`: the body of the request, if it has one.
pub(super) async fn answer(
    begun: Begun,
    unread: Option<Unread>,
    mut stream: SendResponse<Piece>,
    connection: Rc<Connection>,
) {
    let unread = unread.as_ref();
    let ended = {
        let mut sending = pin!(send(begun, unread, &mut stream, &connection));
        poll_fn(|cx| {
            let ended = caught::poll(sending.as_mut(), cx);
            // Not at its end only: until then it would take up room that other streams need.
            if let Some(unread) = unread.filter(|_| ended.is_pending()) {
                let _ = unread.poll_discard(cx);
            }
            ended
        })
        .await
    };
    if let Err(panicked) = ended {
        panicked.log(None);
        stream.send_reset(Reason::INTERNAL_ERROR);
    }
    if let Some(unread) = unread {
        let mut deadline = connection.worker.timer.deadline(LINGER);
        deadline.limit(poll_fn(|cx| unread.poll_discard(cx))).await;
    }
}

/// Waits for the answer and sends it.
async fn send(
    begun: Begun,
    unread: Option<&Unread>,
    stream: &mut SendResponse<Piece>,
    connection: &Connection,
) {
    let Some(Response { head, body }) = wait(begun, unread, stream).await else { return };
    let mut head = head.into_response();
    let ended = body.is_end_stream();
    complete(head.headers_mut(), (!ended).then_some(&body), connection);
    let out = match stream.send_response(head, ended) {
        Ok(out) => out,
        Err(error) => {
            tracing::debug!(%error, "an answer's head could not be sent");
            return stream.send_reset(Reason::INTERNAL_ERROR);
        }
    };
    if ended {
        return;
    }
    let mut sending = Sending { out, body, pieces: Pieces::default(), end: None, stalled: None };
    poll_fn(|cx| sending.poll(cx, connection)).await;
}

/// The answer; `None` when the client resets the stream before there is one. What comes ahead of it goes out at once.
async fn wait(
    begun: Begun,
    unread: Option<&Unread>,
    stream: &mut SendResponse<Piece>,
) -> Option<Response> {
    let interim = Interim::default();
    let mut answering = pin!(pipeline::handle(begun, &interim));
    poll_fn(|cx| {
        let response = answering.as_mut().poll(cx);
        while let Some(head) = interim.take() {
            tell(stream, head.into_response());
        }
        if let Poll::Ready(response) = response {
            return Poll::Ready(Some(response));
        }
        if unread.is_some_and(|unread| unread.is_wanted(cx)) {
            let mut head = http::Response::new(());
            *head.status_mut() = StatusCode::CONTINUE;
            tell(stream, head);
        }
        stream.poll_reset(cx).map(|_| None)
    })
    .await
}

/// Sends an interim answer.
fn tell(stream: &mut SendResponse<Piece>, head: http::Response<()>) {
    if let Err(error) = stream.send_informational(head) {
        tracing::debug!(%error, "an interim answer could not be sent");
    }
}

/// Adds what an answer's head must say: when it was made, and how long its `body` is, if it has one.
fn complete(headers: &mut HeaderMap, body: Option<&Body>, connection: &Connection) {
    // One look over the names in place of a search for each.
    let (mut dated, mut sized) = (false, false);
    for name in headers.keys() {
        dated |= *name == header::DATE;
        sized |= *name == header::CONTENT_LENGTH;
    }
    if !dated {
        headers.insert(header::DATE, connection.worker.date());
    }
    let length = body.filter(|_| !sized).and_then(|body| body.size_hint().exact());
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// An answer's body on its way.
struct Sending {
    out: SendStream<Piece>,
    body: Body,
    pieces: Pieces,
    /// What comes behind them, once the body is at its end.
    end: Option<End>,
    /// The end of what the client may take to make room, while there is none.
    stalled: Option<Deadline>,
}

/// The end of a body.
enum End {
    Bare,
    Trailers(HeaderMap),
}

/// What is left to do for a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    More,
    Nothing,
}

impl Sending {
    /// Ready when h2 has all of it, or nobody wants it any more.
    fn poll(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Poll<()> {
        loop {
            if self.end.is_none() && self.pieces.want_more() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(Some(Err(error))) => {
                        tracing::debug!(%error, "an answer broke off");
                        self.out.send_reset(reason(&error));
                        return Poll::Ready(());
                    }
                    Poll::Ready(next) => self.take(next.and_then(Result::ok)),
                    Poll::Pending if self.out.poll_reset(cx).is_ready() => return Poll::Ready(()),
                    Poll::Pending if self.pieces.is_empty() => return Poll::Pending,
                    Poll::Pending => {
                        self.pieces.wait(cx);
                        return self.poll_stalled(cx, connection);
                    }
                }
                continue;
            }
            let Poll::Ready(left) = self.poll_pieces(cx) else {
                return self.poll_stalled(cx, connection);
            };
            connection.moved();
            self.stalled = None;
            match left {
                Ok(Left::More) => {}
                Ok(Left::Nothing) => return Poll::Ready(()),
                Err(error) => {
                    tracing::debug!(%error, "an answer could not be sent");
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Takes what the body gave.
    fn take(&mut self, next: Option<Frame<Bytes>>) {
        match next.map(Frame::into_data) {
            Some(Ok(data)) => {
                self.pieces.put(data);
                self.end = self.body.is_end_stream().then_some(End::Bare);
            }
            Some(Err(frame)) => self.end = frame.into_trailers().ok().map(End::Trailers),
            None => self.end = Some(End::Bare),
        }
    }

    /// Ready when the client has made no room for too long: it goes on with other streams, or the connection would
    /// have been cut. Or when its session is over.
    fn poll_stalled(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Poll<()> {
        if self.body.poll_over(cx).is_ready() {
            self.out.send_reset(Reason::INTERNAL_ERROR);
            return Poll::Ready(());
        }
        self.body.prefetch(cx);
        let stalled = self.stalled.get_or_insert_with(|| {
            let limit = connection.worker.view().site.limits.send_idle;
            connection.worker.timer.deadline(limit.saturating_mul(STALLED))
        });
        ready!(stalled.poll(cx));
        self.out.send_reset(Reason::CANCEL);
        Poll::Ready(())
    }

    /// Hands over as much as there is room for, and what comes behind it: h2 keeps what the client does not take.
    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> Poll<Result<Left, h2::Error>> {
        if self.pieces.is_empty() {
            match self.end.take() {
                Some(End::Trailers(trailers)) => {
                    self.out.reserve_capacity(0);
                    self.out.send_trailers(trailers)?;
                }
                _ => self.out.send_data(Piece::end(), true)?,
            }
            return Poll::Ready(Ok(Left::Nothing));
        }
        self.out.reserve_capacity(self.pieces.len());
        let mut room = self.out.capacity();
        while room == 0 {
            room = match ready!(self.out.poll_capacity(cx)) {
                Some(room) => room?,
                // The client has reset the stream.
                None => return Poll::Ready(Ok(Left::Nothing)),
            };
        }
        let piece = self.pieces.take(room, self.end.is_some());
        let ends = self.pieces.is_empty() && matches!(self.end, Some(End::Bare));
        self.out.send_data(piece, ends)?;
        Poll::Ready(Ok(if ends { Left::Nothing } else { Left::More }))
    }
}

/// What a client is told about an answer that broke off: what the app said, when it speaks HTTP/2 too.
fn reason(error: &BodyError) -> Reason {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(reason) = error.downcast_ref().and_then(h2::Error::reason) {
            return reason;
        }
        source = error.source();
    }
    Reason::INTERNAL_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_an_app_goes_on_and_any_other_is_our_own() {
        let cancel = BodyError::Stream(Reason::CANCEL.into());
        assert_eq!(reason(&cancel), Reason::CANCEL);
        assert_eq!(reason(&BodyError::Idle), Reason::INTERNAL_ERROR);
        let read = BodyError::Read(std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(reason(&read), Reason::INTERNAL_ERROR);
    }
}
