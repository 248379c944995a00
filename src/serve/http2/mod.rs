//! HTTP/2 towards clients: h2 reads and writes the frames, all requests of a connection run in its own
//! task.
//!
//! A request begins when its head is there; its answer's head and the first piece of its body are
//! handed to h2 together; what all answers of one look at the connection have to say is written at once.

mod io;
mod keep_alive;
mod signals;
mod stream;
mod streams;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use h2::server::{Builder, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::{HeaderMap, Request, header};
use tokio::io::{AsyncRead, AsyncWrite};

use self::io::Io;
use self::keep_alive::KeepAlive;
use self::signals::{Part, Signals};
use self::streams::Streams;
use super::connection::{Connection, Graceful};
use super::http1::Violation;
use super::pipeline;
use super::site::Limits;
use super::size;
use crate::clock::UnixMs;
use crate::headers::frames::{self, Malformed};
use crate::timer::Deadline;
use crate::upstream::{Incoming, Piece, StreamBody};

/// Bytes of a request's body that may come before the app takes them.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same of all requests of a connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of an answer that are kept for a client that does not take them.
const SEND_BUFFER: usize = 64 << 10;
/// How long a client may go on to send after the end. Closed on that, the connection would be reset, and what the
/// client had not yet got of the last answer be lost.
const LINGER: Duration = Duration::from_secs(2);
/// Looks at a connection before others get their turn.
const LOOKS: u8 = 4;

/// Why a connection ended early, for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Protocol(#[from] h2::Error),
    #[error(transparent)]
    Write(#[from] std::io::Error),
    #[error("the client does not answer a PING")]
    Silent,
}

/// Serves a connection until it ends.
pub(super) fn serve<IO>(io: IO, connection: Rc<Connection>, limits: &Limits) -> Server<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let list = limits.heads.head.saturating_mul(size::READ);
    let signals = Signals::new();
    let io = Io::new(io, signals.waker(Part::INPUT), connection.worker.timer.clone());
    signals.raise(Part::INPUT);
    let handshake = Builder::new()
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // All that may be open: a page is left. How often is for `frames` to say.
        .max_pending_accept_reset_streams(usize::try_from(limits.streams).unwrap_or(usize::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(io.clone());
    Server {
        state: State::Handshake(handshake),
        streams: Streams::new(Arc::clone(&signals)),
        frames: signals.waker(Part::FRAMES),
        keeping: signals.waker(Part::KEEP_ALIVE),
        finishing: false,
        stuck: false,
        taken: 0,
        drained: UnixMs(0),
        signals,
        io,
        connection,
    }
}

/// A connection.
pub(super) struct Server<IO> {
    state: State<IO>,
    io: Io<IO>,
    streams: Streams,
    signals: Arc<Signals>,
    /// Wakes for frames.
    frames: Waker,
    /// Wakes for what keeps the connection alive.
    keeping: Waker,
    /// Whether the connection is to end after what it does.
    finishing: bool,
    /// Whether the socket takes no more for now.
    stuck: bool,
    /// What the socket had taken at the last look.
    taken: u64,
    /// When a full socket last took more: the client had taken something.
    drained: UnixMs,
    connection: Rc<Connection>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the large one is what a connection is for nearly all its life"
)]
enum State<IO> {
    Handshake(Handshake<Io<IO>, Piece>),
    Open {
        frames: h2::server::Connection<Io<IO>, Piece>,
        keep_alive: Option<KeepAlive>,
    },
    /// All is said and sent.
    Ended(Deadline),
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Graceful for Server<IO> {
    fn finish(mut self: Pin<&mut Self>) {
        self.finishing = true;
        self.signals.raise(Part::FRAMES);
        if let State::Open { frames, .. } = &mut self.state {
            frames.graceful_shutdown();
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for Server<IO> {
    type Output = Result<(), Ended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.signals.begin(cx.waker());
        for _ in 0..LOOKS {
            if let Poll::Ready(end) = this.look() {
                return Poll::Ready(end);
            }
            if this.signals.rest() {
                return Poll::Pending;
            }
        }
        this.signals.pause(cx.waker());
        Poll::Pending
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Server<IO> {
    /// Looks at what was woken. Streams first: what they have to say is among the frames.
    fn look(&mut self) -> Poll<Result<(), Ended>> {
        if self.signals.take(Part::STREAMS) {
            self.streams.poll_woken();
        }
        if self.signals.take(Part::INPUT) {
            self.io.set_readable();
            self.signals.raise(Part::FRAMES);
        }
        if self.signals.take(Part::KEEP_ALIVE) && self.poll_keep_alive().is_ready() {
            let _ = self.poll_frames();
            return Poll::Ready(Err(Ended::Silent));
        }
        if self.signals.take(Part::FRAMES)
            && let Poll::Ready(end) = self.poll_frames()
        {
            return Poll::Ready(end);
        }
        let sent = self.io.poll_send(&mut Context::from_waker(&self.frames));
        self.note(sent.is_pending());
        match sent {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            _ => Poll::Pending,
        }
    }

    /// Whether it is the client's turn to take what is written, for the limits on its time: an answer is over for
    /// those who made it while its last bytes still wait here.
    fn note(&mut self, stuck: bool) {
        let was_stuck = std::mem::replace(&mut self.stuck, stuck);
        if was_stuck != stuck {
            self.connection.hold(stuck);
        }
        let taken = self.io.taken();
        if self.taken != taken {
            self.taken = taken;
            self.connection.moved();
            if was_stuck {
                self.drained = self.connection.worker.timer.now();
            }
        }
    }

    /// Reads and writes frames, and begins with the requests that came. Ready at the end.
    fn poll_frames(&mut self) -> Poll<Result<(), Ended>> {
        loop {
            let mut cx = Context::from_waker(&self.frames);
            match &mut self.state {
                State::Handshake(handshake) => {
                    let opened = ready!(Pin::new(handshake).poll(&mut cx));
                    self.open(opened?);
                }
                State::Open { frames, .. } => match frames.poll_accept(&mut cx) {
                    Poll::Ready(Some(request)) => {
                        let (request, stream) = request?;
                        self.begin(request, stream);
                    }
                    Poll::Ready(None) => {
                        let timer = &self.connection.worker.timer;
                        self.state = State::Ended(timer.deadline(LINGER));
                    }
                    Poll::Pending if self.io.read_on() => {}
                    Poll::Pending => return Poll::Pending,
                },
                State::Ended(deadline) => {
                    if self.io.poll_drain(&mut cx).is_pending() {
                        ready!(deadline.poll(&cx));
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn open(&mut self, mut frames: h2::server::Connection<Io<IO>, Piece>) {
        if self.finishing {
            frames.graceful_shutdown();
        }
        let timer = self.connection.worker.timer.clone();
        let keep_alive = frames.ping_pong().map(|pings| KeepAlive::new(pings, timer));
        self.state = State::Open { frames, keep_alive };
        self.signals.raise(Part::KEEP_ALIVE);
    }

    /// Ready when the client has gone without a word.
    fn poll_keep_alive(&mut self) -> Poll<()> {
        let State::Open { frames, keep_alive: Some(keep_alive) } = &mut self.state else {
            return Poll::Pending;
        };
        let alive = self.io.last_read().max(self.drained);
        ready!(keep_alive.poll(&mut Context::from_waker(&self.keeping), alive));
        frames.abrupt_shutdown(Reason::NO_ERROR);
        Poll::Ready(())
    }

    fn begin(&mut self, request: Request<RecvStream>, stream: SendResponse<Piece>) {
        let (parts, body) = request.into_parts();
        let judged = judge(&parts);
        let mut unread = None;
        let body = if body.is_end_stream() {
            Incoming::Empty
        } else {
            let uploading = Box::new(Uploading::new(&self.connection, &self.signals));
            let length = judged.unwrap_or(None);
            let (body, rest) = StreamBody::new(body, length, expects(&parts.headers), uploading);
            unread = Some(rest);
            Incoming::Http2(body)
        };
        let begun = pipeline::begin(self.connection.begin(), Box::new(parts), body, judged.err());
        let answering = stream::answer(begun, unread, stream, Rc::clone(&self.connection));
        self.streams.start(Box::pin(answering));
    }
}

/// The length that a request gives its body, if nothing is wrong with its fields.
fn judge(parts: &Parts) -> Result<Option<u64>, Violation> {
    if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Violation::Target);
    }
    frames::judge(&parts.headers).map_err(|malformed| match malformed {
        Malformed::Edge => Violation::FieldEdge,
        Malformed::Length => Violation::ContentLength,
        Malformed::LengthRepeated => Violation::ContentLengthRepeated,
    })
}

/// Whether the client waits for leave to send its body (RFC 9110 section 10.1.1).
fn expects(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// A request's body for as long as somebody may read it: also behind its answer the connection is not idle.
#[derive(Debug)]
struct Uploading {
    connection: Rc<Connection>,
    signals: Arc<Signals>,
}

impl Uploading {
    fn new(connection: &Rc<Connection>, signals: &Arc<Signals>) -> Self {
        connection.upload(true);
        Self { connection: Rc::clone(connection), signals: Arc::clone(signals) }
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        self.connection.upload(false);
        // By whoever sends it to the app: the connection's task must see that there is nothing left to do.
        self.signals.raise(Part::FRAMES);
    }
}
