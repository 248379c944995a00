//! One worker's connections to one app.
//!
//! A link is leased to one request at a time (HTTP/1.1) or shared (HTTP/2), and comes back only when
//! the answer has been read to its end.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::connect::{self, Link, is_lack};
use super::http1::Connection;
use super::http2::{self, Seat, Shared};
use super::settings::Protocol;
use super::{Address, Error, Upstream};
use crate::clock::UnixMs;
use crate::timer::Timer;

/// Addresses that one request tries.
const ATTEMPTS: usize = 3;
/// A lack of descriptors is logged at most this often.
const TELL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pool {
    upstream: Arc<Upstream>,
    timer: Timer,
    next: Cell<usize>,
    leased: Cell<usize>,
    /// When it was last said that there is nothing to connect with.
    told: Cell<Option<UnixMs>>,
    slots: Vec<RefCell<Slot>>,
}

/// What a worker keeps for one address.
#[derive(Debug, Default)]
struct Slot {
    /// Connections without a request, the last used one at the end.
    idle: Vec<(Box<Connection>, UnixMs)>,
    /// Connections that take more than one request, the first ones first.
    shared: Vec<Shared>,
    /// The next one of them.
    opening: Option<watch::Receiver<Opened>>,
}

/// What became of a connection for all who wait for it; `None` for now.
type Opened = Option<Result<(), Error>>;

impl Slot {
    fn take(&mut self) -> Option<Link> {
        if let Some(seat) = self.shared.iter().find_map(Shared::seat) {
            return Some(Link::Http2(seat));
        }
        while let Some((connection, _)) = self.idle.pop() {
            if connection.is_quiet() {
                return Some(Link::Http1(connection));
            }
        }
        None
    }
}

impl Pool {
    pub(super) fn new(upstream: Arc<Upstream>, timer: Timer) -> Self {
        let slots = upstream.addresses.iter().map(|_| RefCell::default()).collect();
        Self {
            upstream,
            timer,
            next: Cell::new(0),
            leased: Cell::new(0),
            told: Cell::new(None),
            slots,
        }
    }

    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// A kept link that is ready now: the usual case.
    pub(super) fn ready(self: &Rc<Self>) -> Option<(Lease, Link)> {
        let addresses = &self.upstream.addresses;
        let index = self.next.get() % addresses.len().max(1);
        if !addresses.get(index)?.is_sound() {
            return None;
        }
        let link = self.slots.get(index)?.borrow_mut().take()?;
        self.next.set(index.wrapping_add(1));
        Some((Lease { place: Place::take(self), seat: None, index, reused: true }, link))
    }

    /// Whether as many requests are under way as may be.
    pub(super) fn is_full(&self) -> bool {
        self.leased.get() >= self.upstream.settings.max_requests
    }

    /// A link to one of the app's addresses; a new one when `fresh`.
    pub(super) async fn lease(self: &Rc<Self>, fresh: bool) -> Result<(Lease, Link), Error> {
        // Counted from here: those who wait for a connection are under way, too.
        let place = Place::take(self);
        let mut error = Error::Connect("the app has no address".to_owned());
        for _ in 0..self.upstream.addresses.len().min(ATTEMPTS) {
            let Some((index, address)) = self.pick() else { break };
            if !fresh && let Some(link) = self.kept(index) {
                return Ok((Lease { place, seat: None, index, reused: true }, link));
            }
            match self.connect(index, address).await {
                Ok(link) => return Ok((Lease { place, seat: None, index, reused: false }, link)),
                // No other address would fare better, and this one is not to blame.
                Err(Error::Exhausted) => return Err(Error::Exhausted),
                Err(failure) => {
                    self.failed(index);
                    error = failure;
                }
            }
        }
        Err(error)
    }

    /// The next available address in turn; when none is, the next one all the same: an app that is
    /// said to be down may be up, and refusing would be certain.
    fn pick(&self) -> Option<(usize, &Address)> {
        let addresses = &self.upstream.addresses;
        let (now, pause) = (self.timer.now(), self.upstream.settings.eject_for);
        let start = self.next.get();
        self.next.set(start.wrapping_add(1));
        let turn = |step: usize| {
            let index = start.wrapping_add(step) % addresses.len().max(1);
            Some((index, addresses.get(index)?))
        };
        (0..addresses.len())
            .filter_map(turn)
            .find(|(_, address)| address.is_available(now) && address.claim(now, pause))
            .or_else(|| turn(0))
    }

    fn kept(&self, index: usize) -> Option<Link> {
        self.slots.get(index)?.borrow_mut().take()
    }

    async fn connect(self: &Rc<Self>, index: usize, address: &Address) -> Result<Link, Error> {
        if self.upstream.settings.protocol == Protocol::Http2 {
            let seat = Box::pin(self.seat(index));
            return self.limit(async { io::Result::Ok(seat.await) }).await?.map(Link::Http2);
        }
        let stream = self.limit(connect::open(&self.upstream, &address.target)).await?;
        Ok(Link::Http1(Box::new(Connection::new(stream))))
    }

    /// A place on a new connection. Requests that come together wait for one connection, and for another when that is
    /// full: each with its own, a burst would open hundreds.
    async fn seat(self: &Rc<Self>, index: usize) -> Result<Seat, Error> {
        let closed = || Error::Connect("the app closed the connection at once".to_owned());
        loop {
            let mut opening = self.opening(index).ok_or_else(closed)?;
            let opened = opening.wait_for(Option::is_some).await;
            opened.ok().and_then(|opened| opened.clone()).ok_or_else(closed)??;
            let slot = self.slots.get(index).ok_or_else(closed)?.borrow();
            // The new one first: a request that is sent again must not go where it failed.
            if let Some(seat) = slot.shared.iter().rev().find_map(Shared::seat) {
                return Ok(seat);
            }
            if slot.shared.last().is_none_or(Shared::is_closed) {
                return Err(closed());
            }
        }
    }

    /// The connection that is being opened; begins with one if none is. It goes on without who began with it.
    fn opening(self: &Rc<Self>, index: usize) -> Option<watch::Receiver<Opened>> {
        let mut slot = self.slots.get(index)?.borrow_mut();
        let under_way = slot.opening.as_ref().filter(|opening| opening.has_changed().is_ok());
        if let Some(opening) = under_way.filter(|opening| opening.borrow().is_none()) {
            return Some(opening.clone());
        }
        let (opened, opening) = watch::channel(None);
        slot.opening = Some(opening.clone());
        let pool = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let outcome = pool.open(index).await;
            let _ = opened.send(Some(outcome));
        });
        Some(opening)
    }

    /// Opens a connection that requests can share.
    async fn open(&self, index: usize) -> Result<(), Error> {
        let address = self.upstream.addresses.get(index);
        let (Some(address), Some(slot)) = (address, self.slots.get(index)) else { return Ok(()) };
        let open =
            async { Shared::open(connect::open(&self.upstream, &address.target).await?).await };
        let shared = self.limit(open).await?;
        slot.borrow_mut().shared.push(shared);
        Ok(())
    }

    /// Connecting must come to its end in time.
    async fn limit<T>(&self, connecting: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
        let limit = self.upstream.settings.connect;
        match self.timer.deadline(limit).limit(connecting).await {
            Some(Ok(connected)) => Ok(connected),
            Some(Err(error)) if is_lack(&error) => {
                self.tell_of_lack(&error);
                Err(Error::Exhausted)
            }
            Some(Err(error)) => Err(Error::Connect(error.to_string())),
            None => Err(Error::Connect(format!("no answer within {limit:?}"))),
        }
    }

    /// Says that the machine has nothing left to connect with; not for every request.
    fn tell_of_lack(&self, error: &io::Error) {
        let now = self.timer.now();
        if self.told.get().is_none_or(|told| now.since(told) >= TELL) {
            self.told.set(Some(now));
            let upstream = &self.upstream.settings.name;
            tracing::error!(%error, upstream, "no connection to an app can be opened now");
        }
    }

    fn failed(&self, index: usize) {
        let Some(address) = self.upstream.addresses.get(index) else { return };
        let settings = &self.upstream.settings;
        address.failed(self.timer.now(), settings.max_failures, settings.eject_for);
    }

    fn give_back(&self, index: usize, connection: Box<Connection>) {
        let Some(slot) = self.slots.get(index) else { return };
        let mut slot = slot.borrow_mut();
        if slot.idle.len() < self.upstream.settings.keep {
            slot.idle.push((connection, self.timer.now()));
        }
    }

    pub(super) fn sweep(&self) {
        let (now, keep_for) = (self.timer.now(), self.upstream.settings.keep_for);
        for slot in &self.slots {
            let mut slot = slot.borrow_mut();
            slot.idle.retain(|(link, since)| now.since(*since) < keep_for && link.is_quiet());
            // Requests crowd onto the first ones: of those that were needed for a while, one is kept.
            let mut spare = false;
            slot.shared.retain(|shared| {
                if shared.is_closed() {
                    return false;
                }
                !shared.is_idle() || !std::mem::replace(&mut spare, true)
            });
        }
    }
}

/// One of the requests that may be under way.
#[derive(Debug)]
struct Place(Rc<Pool>);

impl Place {
    fn take(pool: &Rc<Pool>) -> Self {
        pool.leased.set(pool.leased.get() + 1);
        Self(Rc::clone(pool))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leased.set(self.0.leased.get().saturating_sub(1));
    }
}

/// The right to a link, held by one request until its answer was read.
#[derive(Debug)]
pub(super) struct Lease {
    place: Place,
    /// Its place on a shared connection.
    seat: Option<Rc<http2::Place>>,
    index: usize,
    reused: bool,
}

impl Lease {
    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        &self.place.0.upstream
    }

    /// Keeps the place on a shared connection until the answer was read.
    pub(super) fn sit(&mut self, place: Rc<http2::Place>) {
        self.seat = Some(place);
    }

    /// Whether the connection had carried requests before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The address gave no usable answer.
    pub(super) fn failed(&self) {
        self.place.0.failed(self.index);
    }

    /// The same, unless it was the client's doing.
    pub(super) fn failed_by(&self, error: &Error) {
        if !matches!(error, Error::ClientBody(_)) {
            self.failed();
        }
    }

    /// The address answered.
    pub(super) fn worked(&self) {
        if let Some(address) = self.place.0.upstream.addresses.get(self.index) {
            address.worked();
        }
    }

    /// The answer was read to its end: the connection may carry the next request.
    pub(super) fn finish(self, connection: Box<Connection>) {
        self.place.0.give_back(self.index, connection);
    }
}
