//! Bodies of answers: own ones, and an app's, which is cut when its session ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::caught::caught;
use super::exchange::Exchange;
use crate::session::Entry;
use crate::upstream::{BodyError, Ending, ResponseBody};

/// The body of an answer; the request is over when it is dropped.
#[derive(Debug)]
pub(super) struct Body {
    source: Source,
    exchange: Box<Exchange>,
}

#[derive(Debug)]
enum Source {
    Own(Option<Bytes>),
    App { body: Box<ResponseBody>, session: Option<Entry>, late: bool },
}

impl Body {
    /// Own text.
    pub(super) fn own(bytes: Bytes, exchange: Box<Exchange>) -> Self {
        let exchange = unasked(exchange);
        Self { source: Source::Own(Some(bytes).filter(|bytes| !bytes.is_empty())), exchange }
    }

    /// An app's answer that lives as long as `session`, or, when it came too `late`, is cut.
    pub(super) fn app(
        body: Box<ResponseBody>,
        session: Option<Entry>,
        late: bool,
        exchange: Box<Exchange>,
    ) -> Self {
        let exchange = unasked(exchange);
        Self { source: Source::App { body, session, late }, exchange }
    }

    /// Takes what the app has sent and must not wait, for a client that takes nothing.
    pub(super) fn prefetch(&mut self, cx: &mut Context<'_>) {
        self.exchange.client_holds(true);
        if let Source::App { body, .. } = &mut self.source {
            body.prefetch(cx);
        }
    }

    /// Ready once the session is over under which more of it would come; has the task woken then. For
    /// whoever does not ask for more, since the client takes nothing.
    pub(super) fn poll_over(&mut self, cx: &Context<'_>) -> Poll<()> {
        match &mut self.source {
            Source::App { body, session: Some(entry), late } if *late || !body.is_end_stream() => {
                entry.poll_over(cx, true)
            }
            _ => Poll::Pending,
        }
    }
}

/// What is not at its end when it is let go was not taken.
impl Drop for Body {
    fn drop(&mut self) {
        if self.exchange.cut.is_none() && !self.is_end_stream() {
            let is_halted = self.exchange.worker().is_halted();
            self.exchange.cut = Some(if is_halted { "gateway" } else { "client" });
        }
    }
}

/// Who or what ended an answer, for the log.
fn cut_by(error: &BodyError) -> &'static str {
    match error {
        BodyError::Idle | BodyError::Slow(_) => "time",
        BodyError::Panicked => "gateway",
        BodyError::SessionOver => "session",
        BodyError::App(_) | BodyError::Read(_) | BodyError::Stream(_) | BodyError::Withdrawn => {
            "app"
        }
    }
}

/// Until the body is asked for, it is the client that has no room for it: an HTTP/2 client whose window was never
/// open.
fn unasked(mut exchange: Box<Exchange>) -> Box<Exchange> {
    exchange.client_holds(true);
    exchange
}

/// A request's body goes on as long as its session.
impl Ending for Entry {
    fn poll_over(&mut self, cx: &Context<'_>, waits: bool) -> Poll<()> {
        Self::poll_over(self, cx, waits)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = caught(|| this.poll_source(cx)).unwrap_or_else(|panicked| {
            panicked.log(Some(&this.exchange.id));
            Poll::Ready(Some(Err(BodyError::Panicked)))
        });
        if let Poll::Ready(Some(Err(error))) = &polled {
            this.exchange.cut = Some(cut_by(error));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.is_none(),
            Source::App { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(length.try_into().unwrap_or(u64::MAX))
            }
            Source::App { body, .. } => body.size_hint(),
        }
    }
}

impl Body {
    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.exchange.asked_for_body();
        let polled = match &mut self.source {
            Source::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::App { body, session, late } => {
                let polled = Pin::new(&mut *body).poll_frame(cx);
                // A session that was good at the head is good for what came with it.
                let whole = matches!(polled, Poll::Ready(None))
                    || (!*late && polled.is_ready() && body.is_end_stream());
                match session {
                    // Asked for every frame: a stream that never pauses must end too.
                    Some(entry) if !whole => {
                        if entry.poll_over(cx, polled.is_pending()).is_ready() {
                            return Poll::Ready(Some(Err(BodyError::SessionOver)));
                        }
                        polled
                    }
                    _ => polled,
                }
            }
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.exchange.sent(data.len());
        }
        self.exchange.client_holds(polled.is_ready());
        polled
    }
}
