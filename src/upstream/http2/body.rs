//! The body of an answer.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::connection::STREAM_WINDOW;
use crate::headers::frames::trailers;
use crate::upstream::body::{BodyError, Turn};

/// The body of an answer.
#[derive(Debug)]
pub(in crate::upstream) struct ResponseBody {
    stream: RecvStream,
    /// Bytes to come, as the head says.
    left: Option<u64>,
    /// Whether only trailers may follow.
    read: bool,
    /// How far the request's body has come, if it has one.
    turn: Option<Turn>,
    /// What came while the client took nothing.
    kept: BytesMut,
    /// Dropped with this: whoever sends the rest of the request is told that the answer is over.
    _answering: Option<oneshot::Sender<()>>,
}

impl ResponseBody {
    pub(super) fn new(
        stream: RecvStream,
        left: Option<u64>,
        turn: Option<Turn>,
        answering: Option<oneshot::Sender<()>>,
    ) -> Self {
        let kept = BytesMut::new();
        Self { stream, left, read: false, turn, kept, _answering: answering }
    }

    /// Takes what has come, for a client that takes nothing, and has the task woken when more does: at most what the
    /// app may send on this stream. Left with h2, many small pieces (events) would use up what the connection may hold
    /// of them, and end it for all others.
    pub(in crate::upstream) fn prefetch(&mut self, cx: &mut Context<'_>) {
        while !self.read && self.kept.len() < STREAM_WINDOW as usize {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => self.kept.extend_from_slice(&data),
                // Told again to whoever reads.
                Poll::Ready(Some(Err(_)) | None) | Poll::Pending => return,
            }
        }
    }

    /// Hands on what the app has sent: it may send as much again.
    fn give(&mut self, data: Bytes) -> Frame<Bytes> {
        // Fails when the stream is gone, which is told next.
        let _ = self.stream.flow_control().release_capacity(data.len());
        let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.left = self.left.map(|left| left.saturating_sub(count));
        Frame::data(data)
    }

    pub(in crate::upstream) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.kept.is_empty() {
            let data = self.kept.split().freeze();
            return Poll::Ready(Some(Ok(self.give(data))));
        }
        if !self.read {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(self.give(data)))),
                Some(Err(error)) => return Poll::Ready(self.broken(error)),
                None => self.read = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(given) => Poll::Ready(given.map(|given| Ok(Frame::trailers(trailers(given))))),
            Err(error) => Poll::Ready(self.broken(error)),
        }
    }

    /// What a reset makes of the body. By one without an error an app says that it needs no more of a request behind
    /// its whole answer (RFC 9113 section 8.1): not of one that it has all of.
    fn broken(&self, error: h2::Error) -> Option<Result<Frame<Bytes>, BodyError>> {
        if error.reason() != Some(Reason::NO_ERROR) {
            return Some(Err(BodyError::Stream(error)));
        }
        let is_whole = match self.left {
            Some(left) => left == 0,
            None => self.turn.as_ref().is_some_and(|turn| !turn.has_ended()),
        };
        (!is_whole).then_some(Err(BodyError::Withdrawn))
    }

    pub(in crate::upstream) fn is_end_stream(&self) -> bool {
        self.kept.is_empty() && self.stream.is_end_stream()
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        self.left.map_or(SizeHint::default(), SizeHint::with_exact)
    }
}
