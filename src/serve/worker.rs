//! What one worker thread owns: its connections to apps, its streams, its counters.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::runtime::Handle;

use super::date::Date;
use super::site::Site;
use super::stop::{Member, Stop};
use crate::clock::{Clock, UnixMs, millis};
use crate::log::AccessLog;
use crate::metrics::{HandshakeFailure, OpenKind, UpstreamMetrics, WorkerMetrics};
use crate::secret::random;
use crate::session::{Authority, Streams};
use crate::timer::{TICK, Timer};
use crate::upstream::Client;

/// What all workers share, and what each gets for itself.
#[derive(Debug)]
pub struct Parts {
    /// The configuration in force.
    pub site: Arc<ArcSwap<Site>>,
    /// The session core.
    pub authority: Arc<Authority>,
    /// Time.
    pub clock: Clock,
    /// This worker's access log.
    pub access: AccessLog,
    /// This worker's counters.
    pub metrics: Arc<WorkerMetrics>,
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<ArcSwap<Site>>,
    view: RefCell<Rc<View>>,
    pub(super) authority: Arc<Authority>,
    pub(super) clock: Clock,
    pub(super) timer: Timer,
    pub(super) streams: Streams,
    pub(super) client: Client,
    pub(super) access: RefCell<AccessLog>,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) stop: Stop,
    /// Requests whose answer is not complete.
    pub(super) in_flight: Cell<usize>,
    date: Date,
    ids: Ids,
    ticks: Cell<u64>,
}

/// The configuration as this worker sees it, with the counters of each app.
#[derive(Debug)]
pub(super) struct View {
    pub(super) site: Arc<Site>,
    pub(super) upstreams: Vec<Arc<UpstreamMetrics>>,
}

impl Worker {
    /// A worker without connections. To be made on the thread that it works on.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(parts: Parts) -> Result<Rc<Self>, getrandom::Error> {
        let timer = Timer::new(parts.clock.clone());
        let view = RefCell::new(Rc::new(view(parts.site.load_full(), &parts.metrics)));
        Ok(Rc::new(Self {
            shared: parts.site,
            view,
            authority: parts.authority,
            streams: Streams::new(parts.clock.now()),
            client: Client::new(timer.clone()),
            timer,
            clock: parts.clock,
            access: RefCell::new(parts.access),
            metrics: parts.metrics,
            stop: Stop::default(),
            in_flight: Cell::new(0),
            date: Date::default(),
            ids: Ids::new()?,
            ticks: Cell::new(0),
        }))
    }

    /// Does what is due; to be called at each of its [`Ticks`](crate::timer::Ticks).
    pub fn tick(&self) {
        self.timer.tick();
        self.streams.sweep(self.clock.now());
        self.metrics.now_open(OpenKind::Request, self.in_flight.get());
        self.metrics.now_open(OpenKind::Stream, self.streams.len());
        self.metrics.now_open(OpenKind::Task, Handle::current().metrics().num_alive_tasks());
        let current = self.shared.load();
        if !Arc::ptr_eq(&current, &self.view.borrow().site) {
            let view = Rc::new(view(Arc::clone(&current), &self.metrics));
            *self.view.borrow_mut() = view;
        }
        let count = self.ticks.get() + 1;
        self.ticks.set(count);
        if count.is_multiple_of(2) {
            self.access.borrow_mut().flush();
        }
        if count.is_multiple_of(1000 / millis(TICK).max(1)) {
            self.client.sweep(&current.upstreams);
        }
    }

    pub(super) fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// A connection that counts as open until the returned value is dropped.
    pub fn enter(&self) -> Member {
        self.stop.enter()
    }

    /// The time of the last tick.
    pub fn now(&self) -> UnixMs {
        self.timer.now()
    }

    /// Tells every connection to finish what it does and end.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// What is still open is about to be cut.
    pub fn halt(&self) {
        self.stop.halt();
    }

    /// Whether what is open is being cut.
    pub(super) fn is_halted(&self) -> bool {
        self.stop.is_halted()
    }

    /// Closes up to `most` connections, those that have been idle longest: others wait to be let in.
    pub fn make_room(&self, most: usize) {
        for _ in 0..self.stop.shed(most, self.timer.now()) {
            self.metrics.over_cap();
        }
    }

    /// Connections and tunnels that are still open.
    pub fn open(&self) -> usize {
        self.stop.open()
    }

    /// A connection came to nothing before its first request.
    pub fn handshake_failed(&self, reason: HandshakeFailure) {
        self.metrics.handshake_failed(reason);
    }

    /// Hands over what is left in the access log.
    pub fn flush(&self) {
        self.access.borrow_mut().flush();
    }

    /// The value of `Date`, at most a tick late.
    pub(super) fn date(&self) -> HeaderValue {
        self.date.at(self.timer.now().seconds())
    }

    pub(super) fn request_id(&self) -> HeaderValue {
        self.ids.next()
    }
}

fn view(site: Arc<Site>, metrics: &WorkerMetrics) -> View {
    let name =
        |upstream: &Arc<crate::upstream::Upstream>| metrics.upstream(&upstream.settings.name);
    let upstreams = site.upstreams.iter().map(name).collect();
    View { site, upstreams }
}

/// Request ids: unique over workers and restarts, without asking for randomness each time.
#[derive(Debug)]
struct Ids {
    /// 16 hexadecimal digits of this worker and run; 8 of the count follow.
    prefix: [u8; 16],
    next: Cell<u32>,
}

impl Ids {
    fn new() -> Result<Self, getrandom::Error> {
        let random: [u8; 8] = random()?;
        let mut prefix = [0; 16];
        for (pair, byte) in prefix.as_chunks_mut::<2>().0.iter_mut().zip(random) {
            *pair = hex(byte);
        }
        Ok(Self { prefix, next: Cell::new(0) })
    }

    fn next(&self) -> HeaderValue {
        let count = self.next.get();
        self.next.set(count.wrapping_add(1));
        let mut text = [0; 24];
        let (head, tail) = text.split_at_mut(16);
        head.copy_from_slice(&self.prefix);
        for (pair, byte) in tail.as_chunks_mut::<2>().0.iter_mut().zip(count.to_be_bytes()) {
            *pair = hex(byte);
        }
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("none"))
    }
}

fn hex(byte: u8) -> [u8; 2] {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) };
    [digit(byte >> 4), digit(byte & 0xf)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_hexadecimal_and_differ() {
        let ids = Ids { prefix: *b"0123456789abcdef", next: Cell::new(0x00ff_1a2b) };
        assert_eq!(ids.next(), "0123456789abcdef00ff1a2b");
        assert_eq!(ids.next(), "0123456789abcdef00ff1a2c");
        assert_ne!(Ids::new().unwrap().next(), Ids::new().unwrap().next());
    }
}
