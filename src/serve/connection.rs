//! One connection: HTTP/1.1 or HTTP/2 as agreed in the handshake, bounded in time.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::cookie::Recall;
use super::frames::Metered;
use super::host::Host;
use super::site::Limits;
use super::stop::Member;
use super::worker::Worker;
use super::{http1, http2};
use crate::clock::UnixMs;
use crate::headers::Forwarding;
use crate::session::{Entry, Pulse};
use crate::timer::Deadline;
use crate::upstream::Upgraded;

/// How long an idle HTTP/2 connection stays open after its GOAWAY.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often a connection whose client takes nothing is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// How a connection came in.
#[derive(Debug)]
pub struct Arrival {
    /// The client, after PROXY protocol.
    pub peer: IpAddr,
    /// The name that the client asked for in the handshake, lower-case.
    pub sni: Option<String>,
    /// Whether HTTP/2 was agreed on.
    pub h2: bool,
    /// TLS version, for the log.
    pub tls: Option<&'static str>,
    /// Its place among those that may be open; given back with the last of what runs on it, a tunnel
    /// too.
    pub place: Box<dyn fmt::Debug>,
}

/// What the requests of a connection share.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) worker: Rc<Worker>,
    pub(super) arrival: Arrival,
    pub(super) ip: HeaderValue,
    /// The host that was last asked for.
    pub(super) host: RefCell<Option<Host>>,
    /// What an app was last told about the way of a request from the peer itself.
    pub(super) forwarding: RefCell<Option<Rc<Forwarding>>>,
    /// The cookies that were last sent.
    pub(super) recall: RefCell<Option<Recall>>,
    requests: Cell<u64>,
    active: Cell<u32>,
    /// Answers whose next piece waits for the client to take the last one.
    held: Cell<u32>,
    moves: Cell<u64>,
    /// Bodies of HTTP/2 requests that may still be read, also behind their answers: they have limits of their own.
    uploads: Cell<u32>,
    /// Whether part of an HTTP/1.1 head has come and the rest has not: what a slow client is timed by.
    in_head: Cell<bool>,
    /// Whether no further request is wanted.
    closing: Cell<bool>,
    /// Whether an HTTP/1.1 answer is out and the rest of its request is not in, or the connection is being
    /// closed: both have limits of their own.
    ending: Cell<bool>,
    /// Who gets the bytes behind an answer that switches protocols.
    switch: RefCell<Option<oneshot::Sender<Upgraded>>>,
    /// The session of the last signed-in answer: with it the connection may end, too.
    session: RefCell<Option<Arc<Pulse>>>,
}

impl Connection {
    /// An answer goes out under this session.
    pub(super) fn enter(&self, pulse: &Arc<Pulse>) -> Entry {
        let mut session = self.session.borrow_mut();
        if !session.as_ref().is_some_and(|known| Arc::ptr_eq(known, pulse)) {
            *session = Some(Arc::clone(pulse));
        }
        self.worker.streams.enter(Arc::clone(pulse))
    }

    fn session_is_over(&self) -> bool {
        let now = self.worker.clock.now();
        self.session.borrow().as_ref().is_some_and(|pulse| pulse.is_cut(now))
    }

    /// Something moves towards the client.
    pub(super) fn moved(&self) {
        self.moves.set(self.moves.get().wrapping_add(1));
    }

    /// One more answer, or one less, waits for the client.
    pub(super) fn hold(&self, holds: bool) {
        let held = self.held.get();
        self.held.set(if holds { held + 1 } else { held.saturating_sub(1) });
    }

    /// One more body of an HTTP/2 request, or one less, may be read.
    pub(super) fn upload(&self, begins: bool) {
        let uploads = self.uploads.get();
        self.uploads.set(if begins { uploads + 1 } else { uploads.saturating_sub(1) });
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether no further request is read. A first one, on its way when the gateway was told to stop, is: clients repeat
    /// of their own only what was lost on a connection that they had used before.
    pub(super) fn takes_no_more(&self) -> bool {
        self.closing.get() && !(self.requests.get() == 0 && self.worker.stop.is_stopping())
    }

    pub(super) fn set_in_head(&self, in_head: bool) {
        self.in_head.set(in_head);
    }

    pub(super) fn set_ending(&self, ending: bool) {
        self.ending.set(ending);
    }

    /// The HTTP/1.1 connection behind the answer to the current request, which switches protocols.
    pub(super) fn switch(&self) -> oneshot::Receiver<Upgraded> {
        let (sender, receiver) = oneshot::channel();
        *self.switch.borrow_mut() = Some(sender);
        receiver
    }

    pub(super) fn take_switch(&self) -> Option<oneshot::Sender<Upgraded>> {
        self.switch.borrow_mut().take()
    }

    /// A request is in progress until the returned value is dropped.
    pub(super) fn begin(self: &Rc<Self>) -> Active {
        self.requests.set(self.requests.get() + 1);
        self.active.set(self.active.get() + 1);
        self.worker.in_flight.set(self.worker.in_flight.get() + 1);
        Active(Rc::clone(self))
    }

    /// Whether all that is under way waits for the client: beside one stream that stands still, others may upload or
    /// wait for an app, which have limits of their own.
    fn is_at_rest(&self) -> bool {
        self.held.get() >= self.active.get()
    }

    fn phase(&self) -> Phase {
        if self.held.get() > 0 {
            Phase::Stalled(self.moves.get())
        } else if self.active.get() > 0 || self.uploads.get() > 0 || self.ending.get() {
            Phase::Busy
        } else if self.requests.get() == 0 || self.in_head.get() {
            Phase::Head
        } else {
            Phase::Idle
        }
    }
}

/// A request in progress.
#[derive(Debug)]
pub(super) struct Active(Rc<Connection>);

impl Active {
    pub(super) fn connection(&self) -> &Rc<Connection> {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        let in_flight = &self.0.worker.in_flight;
        in_flight.set(in_flight.get().saturating_sub(1));
    }
}

/// Serves a connection until it ends.
pub async fn serve<IO>(worker: Rc<Worker>, io: IO, arrival: Arrival)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let view = worker.view();
    let limits = view.site.limits;
    let ip = HeaderValue::from_str(&arrival.peer.to_string());
    let ip = ip.unwrap_or(HeaderValue::from_static("unknown"));
    let h2 = arrival.h2;
    let _open = worker.metrics.accepted();
    let connection = Rc::new(Connection {
        worker,
        arrival,
        ip,
        host: RefCell::default(),
        forwarding: RefCell::default(),
        recall: RefCell::default(),
        requests: Cell::default(),
        active: Cell::default(),
        held: Cell::default(),
        moves: Cell::default(),
        uploads: Cell::default(),
        in_head: Cell::default(),
        closing: Cell::default(),
        ending: Cell::default(),
        switch: RefCell::default(),
        session: RefCell::default(),
    });
    drop(view);
    if h2 {
        let io = Metered::new(io, &connection.worker, connection.arrival.peer, limits.streams);
        let serving = http2::serve(io, Rc::clone(&connection), &limits);
        // Boxed, or every HTTP/1.1 connection would keep room for the state of HTTP/2.
        Box::pin(run(serving, &connection, limits)).await;
    } else {
        let serving = Box::pin(http1::serve(io, Rc::clone(&connection), limits.heads));
        let serving = Http1 { serving, connection: Rc::clone(&connection) };
        run(serving, &connection, limits).await;
    }
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// An answer, or an end: they have limits of their own.
    Busy,
    /// The rest of a head, or the first request.
    Head,
    /// A client that does not take its answer; changes with everything that moves.
    Stalled(u64),
    /// The next request.
    Idle,
}

impl Phase {
    /// Whether nothing is done for the client. Also while it has asked for nothing yet: whoever holds connections open
    /// by silence must not keep others out.
    fn is_idle(self) -> bool {
        matches!(self, Self::Head | Self::Idle)
    }
}

/// A connection that can be asked to end after what it does.
pub(super) trait Graceful: Future {
    fn finish(self: Pin<&mut Self>);
}

/// An HTTP/1.1 connection.
struct Http1<F> {
    serving: Pin<Box<F>>,
    connection: Rc<Connection>,
}

impl<F: Future> Future for Http1<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.serving.as_mut().poll(cx)
    }
}

impl<F: Future> Graceful for Http1<F> {
    fn finish(self: Pin<&mut Self>) {
        self.connection.closing.set(true);
    }
}

async fn run<C>(serving: C, connection: &Rc<Connection>, limits: Limits)
where
    C: Graceful,
    C::Output: LogEnd,
{
    let mut serving = std::pin::pin!(serving);
    let worker = &connection.worker;
    let now = worker.timer.now();
    let mut guard = Guard {
        member: worker.stop.enter(),
        deadline: worker.timer.deadline(limits.head),
        phase: Phase::Head,
        served: 0,
        stalled: now,
        asked: false,
    };
    guard.member.set_idle(Some(now));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(end) = serving.as_mut().poll(cx) {
            end.log();
            return Poll::Ready(());
        }
        match guard.judge(connection, &limits, cx) {
            Verdict::GoOn => Poll::Pending,
            Verdict::Finish => {
                serving.as_mut().finish();
                serving.as_mut().poll(cx).map(|_| ())
            }
            Verdict::Cut => Poll::Ready(()),
        }
    })
    .await;
}

/// Keeps the time of a connection and listens for the sign to stop.
struct Guard {
    member: Member,
    deadline: Deadline,
    phase: Phase,
    served: u64,
    /// Since when the client has taken nothing.
    stalled: UnixMs,
    asked: bool,
}

enum Verdict {
    GoOn,
    Finish,
    Cut,
}

impl Guard {
    fn judge(&mut self, connection: &Connection, limits: &Limits, cx: &Context<'_>) -> Verdict {
        if !self.asked && self.member.poll(cx).is_ready() {
            self.asked = true;
            // A client that does not confirm the GOAWAY, or never asks, must not hold up the end.
            let is_silent = self.phase == Phase::Head && !connection.in_head.get();
            if self.phase == Phase::Idle || connection.arrival.h2 || is_silent {
                self.deadline.reset(FAREWELL);
                let _ = self.deadline.poll(cx);
            }
            return Verdict::Finish;
        }
        let (phase, served) = (connection.phase(), connection.requests.get());
        if (phase, served) != (self.phase, self.served) {
            (self.phase, self.served) = (phase, served);
            let is_idle = phase.is_idle() && !self.asked;
            self.member.set_idle(is_idle.then(|| connection.worker.timer.now()));
            match phase {
                Phase::Busy => self.deadline.disarm(),
                Phase::Head => self.deadline.reset(limits.head),
                Phase::Idle if self.asked => self.deadline.reset(FAREWELL),
                Phase::Idle => self.deadline.reset(limits.keep_alive),
                Phase::Stalled(_) => {
                    self.stalled = connection.worker.timer.now();
                    self.deadline.reset(LOOK);
                }
            }
        }
        let unwanted = self.member.gives_way() && phase.is_idle();
        if phase == Phase::Busy || self.deadline.poll(cx).is_pending() && !unwanted {
            return Verdict::GoOn;
        }
        if matches!(phase, Phase::Stalled(_)) {
            // A body that is not asked for more does not notice that its session is over.
            let stalled = connection.worker.timer.now().since(self.stalled);
            let idle = stalled >= limits.send_idle && connection.is_at_rest();
            // Each stream of HTTP/2 sees to that itself: there may be others, of other sessions.
            if idle || !connection.arrival.h2 && connection.session_is_over() {
                return Verdict::Cut;
            }
            self.deadline.reset(LOOK);
            let _ = self.deadline.poll(cx);
            return Verdict::GoOn;
        }
        let is_between = match connection.arrival.h2 {
            true => phase == Phase::Idle,
            false => !connection.in_head.get(),
        };
        if is_between && !self.asked {
            // GOAWAY or the end of TLS first, so that the client knows which requests it may repeat.
            self.asked = true;
            self.member.ends_anyway();
            self.deadline.reset(FAREWELL);
            let _ = self.deadline.poll(cx);
            return Verdict::Finish;
        }
        Verdict::Cut
    }
}

/// The end of a connection, for the log.
trait LogEnd {
    fn log(&self);
}

impl<E: std::fmt::Display> LogEnd for Result<(), E> {
    fn log(&self) {
        if let Err(error) = self {
            tracing::debug!(%error, "connection");
        }
    }
}
