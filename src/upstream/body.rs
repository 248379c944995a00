//! Bodies on their way: streamed, bounded in silence and slowness, without request trailers.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::incoming::Incoming;
use super::pool::Lease;
use super::{http1, http2};
use crate::clock::UnixMs;
use crate::timer::{Deadline, Timer};

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The app's answer broke off.
    #[error(transparent)]
    App(#[from] http1::Broken),
    /// The app took back what was still to come of its answer, and called that no error.
    #[error("the app ended its answer early")]
    Withdrawn,
    /// The same on an HTTP/1.1 connection.
    #[error(transparent)]
    Read(io::Error),
    /// The same on a stream of an HTTP/2 connection.
    #[error("{0}")]
    Stream(#[source] h2::Error),
    /// The sender was silent for too long.
    #[error("the body was silent for too long")]
    Idle,
    /// The sender was slower than the minimum rate.
    #[error("the body came slower than {0} bytes a second")]
    Slow(u64),
    /// A mistake of the gateway.
    #[error("a panic")]
    Panicked,
    /// The session under which it went ended.
    #[error("the session ended")]
    SessionOver,
}

/// Why an app did not get the whole of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// The client broke it off, or what it sent is not valid.
    Broken,
    /// It came too slowly.
    Late,
    /// The session under which it went ended, or can no longer be proved.
    SessionOver,
}

impl BodyError {
    /// What a client is told of it.
    pub(super) fn fault(&self) -> BodyFault {
        match self {
            Self::Idle | Self::Slow(_) => BodyFault::Late,
            Self::SessionOver => BodyFault::SessionOver,
            Self::App(_) | Self::Panicked | Self::Read(_) | Self::Stream(_) | Self::Withdrawn => {
                BodyFault::Broken
            }
        }
    }
}

/// What may end before a body does.
pub trait Ending: fmt::Debug {
    /// Ready once it is over. Has the task woken then when the body `waits`.
    fn poll_over(&mut self, cx: &Context<'_>, waits: bool) -> Poll<()>;
}

/// The body of a request. Trailers are dropped: an app must not take them for our headers.
#[derive(Debug)]
pub struct RequestBody {
    /// What was read before it was known that it goes to an app.
    ahead: Option<Bytes>,
    incoming: Option<Incoming>,
    pace: Option<Box<Pace>>,
    /// What it is sent under.
    ending: Option<Box<dyn Ending>>,
    /// `None` without a body: it is the app's turn from the start.
    turn: Option<Turn>,
}

/// Whose turn it is while a request body goes through; shared with whoever waits for the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn(Rc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    whose: Cell<Whose>,
    ended: Cell<bool>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Whose {
    /// The app has what there is since then, or from the start.
    App(Option<UnixMs>),
    /// The client's: the body's own limits hold.
    #[default]
    Client,
}

impl Turn {
    pub(super) fn whose(&self) -> Whose {
        self.0.whose.get()
    }

    /// Whether the app has all of the body.
    pub(super) fn has_ended(&self) -> bool {
        self.0.ended.get()
    }
}

/// The minimum pace of a request body.
#[derive(Debug)]
struct Pace {
    silence: Deadline,
    timer: Timer,
    since: UnixMs,
    bytes: u64,
    rate: u64,
}

/// How long a body may be slower than its minimum rate.
const PATIENCE: Duration = Duration::from_secs(10);

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self { ahead: None, incoming: None, pace: None, ending: None, turn: None }
    }

    pub(super) fn turn(&self) -> Option<Turn> {
        self.turn.clone()
    }

    /// A body of which `ahead` was read already, that may be silent for `idle` and must reach `rate` bytes a second over each 10 s;
    /// 0 switches the rate off, for requests that stream as long as they like (gRPC).
    pub fn new(ahead: Bytes, incoming: Incoming, timer: &Timer, idle: Duration, rate: u64) -> Self {
        let ahead = Some(ahead).filter(|ahead| !ahead.is_empty());
        if incoming.is_end_stream() {
            let turn = ahead.is_some().then(Turn::default);
            return Self { ahead, turn, ..Self::empty() };
        }
        let (silence, timer) = (timer.deadline(idle), timer.clone());
        let pace = Box::new(Pace { since: timer.now(), silence, timer, bytes: 0, rate });
        let turn = Some(Turn::default());
        Self { ahead, incoming: Some(incoming), pace: Some(pace), ending: None, turn }
    }

    /// The same, broken off when what it is sent under ends.
    pub fn under(self, ending: impl FnOnce() -> Option<Box<dyn Ending>>) -> Self {
        // What is here already needs no watching.
        let ending = self.incoming.as_ref().and_then(|_| ending());
        Self { ending, ..self }
    }

    /// Whether there is no body.
    pub fn is_empty(&self) -> bool {
        self.incoming.is_none() && self.ahead.is_none()
    }
}

impl Pace {
    fn moved(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.silence.push_back();
        self.bytes = self.bytes.saturating_add(bytes.try_into().unwrap_or(u64::MAX));
        let now = self.timer.now();
        let passed = now.since(self.since);
        if passed < PATIENCE {
            return Ok(());
        }
        let due = self.rate.saturating_mul(passed.as_secs());
        if self.bytes < due {
            return Err(BodyError::Slow(self.rate));
        }
        (self.since, self.bytes) = (now, 0);
        Ok(())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let apps = Whose::App(this.pace.as_ref().map(|pace| pace.timer.now()));
        let turn = |whose, ended| {
            if let Some(turn) = &this.turn {
                turn.0.whose.set(whose);
                turn.0.ended.set(ended);
            }
        };
        if let Some(ahead) = this.ahead.take() {
            turn(apps, this.incoming.is_none());
            return Poll::Ready(Some(Ok(Frame::data(ahead))));
        }
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        loop {
            let polled = Pin::new(&mut *incoming).poll_frame(cx);
            // Asked for every piece: a body that never pauses must end too.
            if let Some(ending) = &mut this.ending
                && ending.poll_over(cx, polled.is_pending()).is_ready()
            {
                return Poll::Ready(Some(Err(BodyError::SessionOver)));
            }
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if let Some(pace) = &mut this.pace {
                        pace.moved(data.len())?;
                    }
                    turn(apps, incoming.is_end_stream());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    turn(apps, true);
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    turn(Whose::Client, false);
                    let Some(pace) = &mut this.pace else { return Poll::Pending };
                    return pace.silence.poll(cx).map(|()| Some(Err(BodyError::Idle)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint);
        let Some(ahead) = &self.ahead else { return rest };
        let ahead = u64::try_from(ahead.len()).unwrap_or(u64::MAX);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

/// The body of an app's answer; gives its connection back when it has been read to the end.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Answering,
    lease: Option<Lease>,
    silence: Deadline,
    /// Why it broke off, until that is told.
    broken: Option<BodyError>,
}

/// The body as its protocol reads it.
#[derive(Debug)]
pub(super) enum Answering {
    Http1(http1::ResponseBody),
    Http2(http2::ResponseBody),
    /// There is none: the status says so, or the connection became a tunnel.
    Nothing,
}

impl ResponseBody {
    /// `silence` is the limit on pauses, started with the head.
    pub(super) fn new(incoming: Answering, lease: Lease, silence: Deadline) -> Self {
        let mut body = Self { incoming, lease: Some(lease), silence, broken: None };
        body.finish_at_end();
        body
    }

    /// No body.
    pub(super) fn empty(silence: Deadline) -> Self {
        Self { incoming: Answering::Nothing, lease: None, silence, broken: None }
    }

    /// Takes what has come where that must not wait for a client that takes nothing.
    pub fn prefetch(&mut self, cx: &mut Context<'_>) {
        if let Answering::Http2(body) = &mut self.incoming {
            body.prefetch(cx);
        }
    }

    /// Gives the connection back as soon as nothing of the answer is left to read.
    fn finish_at_end(&mut self) {
        if !self.is_end_stream() {
            return;
        }
        let Some(lease) = self.lease.take() else { return };
        if let Answering::Http1(body) = &mut self.incoming
            && let Some(connection) = body.reusable()
        {
            lease.finish(connection);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = match &mut self.incoming {
            Answering::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Answering::Http2(body) => body.poll_frame(cx),
            Answering::Nothing => Poll::Ready(None),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.silence.push_back();
                self.finish_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                // Broken off: the link must not carry another request.
                self.lease = None;
                // Told a turn later: h2 drops what it has not yet written when a stream is reset, and the
                // client would not even see the head.
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.finish_at_end();
                Poll::Ready(None)
            }
            Poll::Pending => self.silence.poll(cx).map(|()| Some(Err(BodyError::Idle))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.incoming {
            Answering::Http1(body) => body.is_end_stream(),
            Answering::Http2(body) => body.is_end_stream(),
            Answering::Nothing => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Answering::Http1(body) => body.size_hint(),
            Answering::Http2(body) => body.size_hint(),
            Answering::Nothing => SizeHint::with_exact(0),
        }
    }
}
