//! Sends stamped requests to apps: addresses, connections, time-outs, retries.
//!
//! Takes only [`Stamped`] requests; sees neither tokens nor rules.

mod address;
mod body;
mod connect;
mod http1;
mod http2;
mod incoming;
mod pool;
mod settings;
mod upgrade;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::headers::{AnswerHead, Stamped};
use crate::timer::{Deadline, Timer};

pub use self::address::{Address, check_health};
pub use self::body::{BodyError, BodyFault, Ending, RequestBody, ResponseBody};
pub use self::http1::Broken;
pub use self::http2::{Piece, Pieces};
pub use self::incoming::{ClientBody, Incoming, StreamBody, Unread};
pub use self::settings::{Health, Protocol, Settings};
pub use self::upgrade::{Cut, Duplex, Upgraded, tunnel};

use self::body::{Answering, Turn, Whose};
use self::connect::Link;
use self::http1::{Begun, Connection};
use self::pool::{Lease, Pool};

/// An app behind the gateway, shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    /// What was configured.
    pub settings: Settings,
    /// Its addresses and how they do.
    pub addresses: Vec<Address>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Upstream {
    /// An app as configured; `tls` is needed where an address is `https://`.
    pub fn new(settings: Settings, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let addresses = settings.addresses.iter().cloned().map(Address::new).collect();
        Self { settings, addresses, tls }
    }
}

/// Why an app gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The app's answer is not valid HTTP, or not one to this request.
    #[error("the app sent an invalid answer: {0}")]
    BadResponse(String),
    /// As many requests are under way as may be.
    #[error("too many requests to the app are under way")]
    Busy,
    /// No connection could be made.
    #[error("cannot connect to the app: {0}")]
    Connect(String),
    /// The request's body did not come to its end: not the app's doing.
    #[error("the request's body broke off")]
    ClientBody(BodyFault),
    /// The app closed the connection before it answered.
    #[error("the app closed the connection before it answered")]
    Reset,
    /// This machine has nothing left to open a connection with: no descriptors, no memory for a socket.
    #[error("no connection to the app can be opened now: too many are open")]
    Exhausted,
    /// The app did not answer in time.
    #[error("the app did not answer within {0:?}")]
    Timeout(Duration),
}

/// An answer and how it was got.
#[derive(Debug)]
pub struct Answer {
    /// Its head; hop-by-hop headers are still in it.
    pub head: Box<AnswerHead>,
    /// Its body.
    pub body: Box<ResponseBody>,
    /// What became of the connection when the answer is a 101.
    pub tunnel: Option<Upgraded>,
    /// Whether a second attempt was needed.
    pub retried: bool,
}

/// One worker's side of all apps.
#[derive(Debug)]
pub struct Client {
    timer: Timer,
    pools: std::cell::RefCell<Vec<Rc<Pool>>>,
}

impl Client {
    /// A client without connections.
    pub fn new(timer: Timer) -> Self {
        Self { timer, pools: std::cell::RefCell::default() }
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// A request is repeated once, on a new connection, when the app closed a kept connection before
    /// any byte of an answer and either nothing was sent or the request is idempotent without a body.
    ///
    /// `interim` is given what the app says ahead of its answer (1xx, RFC 9110 section 15.2) as it comes, uncleaned:
    /// 16 heads at most, together no larger than one may be.
    ///
    /// # Errors
    /// When there is no answer to hand on; see [`Error`].
    pub async fn send(
        &self,
        mut stamped: Stamped<RequestBody>,
        upstream: &Arc<Upstream>,
        interim: &mut dyn FnMut(Box<AnswerHead>),
    ) -> Result<Answer, Error> {
        let pool = self.pool(upstream);
        if upstream.settings.protocol == Protocol::Http2 {
            // Boxed, like all that is rare: it must not make the future of every request large.
            return Box::pin(self.send_http2(stamped, &pool, interim)).await;
        }
        let repeatable = is_idempotent(stamped.method()) && stamped.body().is_empty();
        let mut retried = false;
        loop {
            let (lease, link) = lease(&pool, stamped.is_upgrade() || retried).await?;
            let Link::Http1(mut connection) = link else { return Err(Error::Reset) };
            connection.begin(&stamped);
            let exchanged = self.exchange(&mut connection, &mut stamped, upstream, interim).await;
            let failure = match exchanged {
                Ok((begun, deadline)) => {
                    let answer = self.receive(connection, begun, stamped, lease, deadline)?;
                    return Ok(Answer { retried, ..answer });
                }
                Err(failure) => failure,
            };
            let stale = lease.is_reused() && !retried && !failure.started;
            if !stale || !(failure.unsent || repeatable) {
                lease.failed_by(&failure.error);
                return Err(failure.error);
            }
            retried = true;
        }
    }

    /// Sends the request and waits for the head of the answer, as long as the app may take.
    async fn exchange(
        &self,
        connection: &mut Connection,
        stamped: &mut Stamped<RequestBody>,
        upstream: &Upstream,
        interim: &mut dyn FnMut(Box<AnswerHead>),
    ) -> Result<(Begun, Deadline), Failure> {
        let turn = stamped.body().turn();
        let method = stamped.method().clone();
        let mut deadline = self.timer.deadline(upstream.settings.first_byte);
        let answer =
            poll_fn(|cx| connection.poll_answer(cx, stamped.body_mut(), &method, &mut *interim));
        match self.first_byte(answer, turn.as_ref(), upstream, &mut deadline).await {
            Some(answer) => answer.map(|begun| (begun, deadline)),
            None => Err(Failure::late(upstream.settings.first_byte)),
        }
    }

    /// What `waiting` gives, or `None` when the app took too long. The time that the client takes for
    /// its body is not the app's.
    async fn first_byte<F: Future + Unpin>(
        &self,
        mut waiting: F,
        turn: Option<&Turn>,
        upstream: &Upstream,
        deadline: &mut Deadline,
    ) -> Option<F::Output> {
        let limit = upstream.settings.first_byte;
        loop {
            if let Some(answer) = deadline.limit(&mut waiting).await {
                return Some(answer);
            }
            let since = match turn.map_or(Whose::App(None), Turn::whose) {
                Whose::App(None) => return None,
                Whose::App(Some(since)) => since,
                Whose::Client => self.timer.now(),
            };
            let waited = self.timer.now().since(since);
            if waited >= limit {
                return None;
            }
            deadline.reset(limit.saturating_sub(waited));
        }
    }

    /// Makes an answer of a head, if it is one to this request.
    fn receive(
        &self,
        connection: Box<Connection>,
        begun: Begun,
        mut stamped: Stamped<RequestBody>,
        lease: Lease,
        mut silence: Deadline,
    ) -> Result<Answer, Error> {
        if begun.answer.status == StatusCode::SWITCHING_PROTOCOLS {
            if !stamped.is_upgrade() {
                let what = "101 that nobody asked for";
                lease.failed();
                return Err(Error::BadResponse(what.to_owned()));
            }
            lease.worked();
            let (head, tunnel) = connection.into_tunnel(begun).ok_or(Error::Reset)?;
            let body = Box::new(ResponseBody::empty(silence));
            return Ok(Answer { head, body, tunnel: Some(tunnel), retried: false });
        }
        lease.worked();
        silence.reset(lease.upstream().settings.idle);
        let request = std::mem::replace(stamped.body_mut(), RequestBody::empty());
        let (head, body) = connection.into_body(begun, request);
        let body = Box::new(ResponseBody::new(Answering::Http1(body), lease, silence));
        Ok(Answer { head, body, tunnel: None, retried: false })
    }

    fn pool(&self, upstream: &Arc<Upstream>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.iter().find(|pool| Arc::ptr_eq(pool.upstream(), upstream)) {
            return Rc::clone(pool);
        }
        let pool = Rc::new(Pool::new(Arc::clone(upstream), self.timer.clone()));
        pools.push(Rc::clone(&pool));
        pool
    }

    /// Closes connections that were idle for too long, and those of apps that are not `in_use` any
    /// more. To be called about once a second.
    pub fn sweep(&self, in_use: &[Arc<Upstream>]) {
        self.pools.borrow_mut().retain(|pool| {
            pool.sweep();
            in_use.iter().any(|upstream| Arc::ptr_eq(pool.upstream(), upstream))
        });
    }
}

/// A connection to one of the app's addresses; a new one when `fresh`.
async fn lease(pool: &Rc<Pool>, fresh: bool) -> Result<(Lease, Link), Error> {
    if pool.is_full() {
        return Err(Error::Busy);
    }
    let ready = if fresh { None } else { pool.ready() };
    match ready {
        Some(ready) => Ok(ready),
        // Boxed: connecting must not make the future of every request large.
        None => Box::pin(pool.lease(fresh)).await,
    }
}

/// Why an attempt failed, and whether another one may be made.
#[derive(Debug)]
struct Failure {
    error: Error,
    /// Whether nothing of the request was sent.
    unsent: bool,
    /// Whether bytes of an answer had come, or the failure is not the connection's.
    started: bool,
}

impl Failure {
    fn reset(started: bool, unsent: bool) -> Self {
        Self { error: Error::Reset, unsent, started }
    }

    fn bad_response(what: &str) -> Self {
        Self { error: Error::BadResponse(what.to_owned()), unsent: false, started: true }
    }

    fn of_body(error: Option<&BodyError>) -> Self {
        let fault = error.map_or(BodyFault::Broken, BodyError::fault);
        Self { error: Error::ClientBody(fault), unsent: false, started: true }
    }

    fn late(limit: Duration) -> Self {
        Self { error: Error::Timeout(limit), unsent: false, started: true }
    }
}

/// Methods that may be repeated (RFC 9110 section 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}
