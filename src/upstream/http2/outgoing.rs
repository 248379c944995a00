//! The body of a request on its way to the app.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Reason, SendStream};
use http_body::Body as _;
use tokio::sync::oneshot;

use super::connection::Place;
use super::pieces::{Piece, Pieces};
use crate::timer::Timer;
use crate::upstream::body::{BodyError, RequestBody};

/// How long an app may leave the rest of a request, behind the end of its answer or of the client. It need not tell that
/// it wants no more (RFC 9113 section 8.1).
const LINGER: Duration = Duration::from_secs(2);

/// Sends a request's body as the app takes it.
#[derive(Debug)]
pub(super) struct Outgoing {
    stream: SendStream<Piece>,
    pieces: Pieces,
    /// Whether nothing comes behind them.
    last: bool,
    /// Whether anything of the body was taken: it cannot be sent again.
    begun: bool,
    /// Whether the app has taken something since that was looked at last.
    moved: bool,
    /// Whether there is nothing more to send, or nobody who takes it.
    finished: bool,
}

impl Outgoing {
    /// `finished`: there is no body.
    pub(super) fn new(stream: SendStream<Piece>, finished: bool) -> Self {
        let pieces = Pieces::default();
        Self { stream, pieces, last: false, begun: false, moved: false, finished }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Ready when h2 has all of the body, or the app wants no more of it.
    ///
    /// # Errors
    /// When the body breaks off: the app is told so.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
    ) -> Poll<Result<(), BodyError>> {
        while !self.finished {
            if self.last || !self.pieces.want_more() {
                if let Err(error) = ready!(self.poll_pieces(cx)) {
                    self.stop(&error);
                }
                continue;
            }
            let Poll::Ready(next) = Pin::new(&mut *body).poll_frame(cx) else {
                self.pieces.wait(cx);
                // The app may want no more before there is more.
                match ready!(self.stream.poll_reset(cx)) {
                    Ok(reason) => self.stop(&reason.into()),
                    Err(error) => self.stop(&error),
                }
                continue;
            };
            match next {
                Some(Ok(frame)) => {
                    self.begun = true;
                    self.pieces.put(frame.into_data().unwrap_or_default());
                    self.last = body.is_end_stream();
                }
                Some(Err(error)) => {
                    self.finished = true;
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(error));
                }
                None => self.last = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands over as much of the body as there is room for.
    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if self.pieces.is_empty() {
            self.finished = true;
            return Poll::Ready(self.stream.send_data(Piece::end(), true));
        }
        self.stream.reserve_capacity(self.pieces.len());
        let mut room = self.stream.capacity();
        while room == 0 {
            room = match ready!(self.stream.poll_capacity(cx)) {
                Some(room) => room?,
                None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
            };
        }
        let piece = self.pieces.take(room, self.last);
        self.moved = true;
        self.finished = self.last && self.pieces.is_empty();
        Poll::Ready(self.stream.send_data(piece, self.finished))
    }

    /// The app takes no more. It may have answered all the same.
    fn stop(&mut self, error: &h2::Error) {
        tracing::debug!(%error, "an app takes no request");
        self.finished = true;
    }

    /// Sends the rest on a task of its own, while the answer is already being read: for as long as that takes, and
    /// behind it as long as the app goes on to take it. What is lost then is the sender.
    pub(super) fn send_rest(
        mut self,
        mut body: RequestBody,
        place: Rc<Place>,
        timer: &Timer,
    ) -> oneshot::Sender<()> {
        let (answering, mut answered) = oneshot::channel();
        let mut left = timer.deadline(LINGER);
        tokio::task::spawn_local(async move {
            let (mut is_over, mut waited) = (false, false);
            poll_fn(|cx| {
                if let Poll::Ready(sent) = self.poll(cx, &mut body) {
                    if let Err(error) = sent {
                        tracing::debug!(%error, "the rest of a request");
                    }
                    return Poll::Ready(());
                }
                let ends = !is_over && Pin::new(&mut answered).poll(cx).is_ready();
                is_over |= ends;
                let waits = !self.pieces.is_empty();
                let begins = !std::mem::replace(&mut waited, waits) && waits;
                if ends || begins || std::mem::take(&mut self.moved) {
                    left.push_back();
                }
                // Without a piece it is the client's turn, whose silence is bounded.
                if !is_over || !waits {
                    return Poll::Pending;
                }
                ready!(left.poll(cx));
                self.stream.send_reset(Reason::CANCEL);
                Poll::Ready(())
            })
            .await;
            drop(place);
        });
        answering
    }
}
