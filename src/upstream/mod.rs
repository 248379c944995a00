//! Sends stamped requests to apps: addresses, connections, time-outs, retries.
//!
//! Takes only [`Stamped`] requests; sees neither tokens nor rules.

mod address;
mod body;
mod connect;
mod pool;
mod settings;
mod upgrade;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, Uri, Version};

use crate::headers::Stamped;
use crate::timer::Timer;

pub use self::address::{Address, check_health};
pub use self::body::{BodyError, RequestBody, ResponseBody};
pub use self::settings::{Health, Protocol, Settings};
pub use self::upgrade::{Cut, tunnel};

use self::body::{Turn, Whose};
use self::connect::Link;
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
#[derive(Debug, thiserror::Error)]
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
    /// The client broke the request's body off, or sent it too slowly: not the app's doing.
    #[error("the request's body broke off")]
    ClientBody {
        /// Whether it came too slowly.
        late: bool,
    },
    /// The app closed the connection before it answered.
    #[error("the app closed the connection before it answered")]
    Reset,
    /// The app did not answer in time.
    #[error("the app did not answer within {0:?}")]
    Timeout(Duration),
}

/// An answer and how it was got.
#[derive(Debug)]
pub struct Answer {
    /// The response; hop-by-hop headers are still in it.
    pub response: Response<ResponseBody>,
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
    /// # Errors
    /// When there is no answer to hand on; see [`Error`].
    pub async fn send(
        &self,
        stamped: Stamped<RequestBody>,
        upstream: &Arc<Upstream>,
    ) -> Result<Answer, Error> {
        let (mut request, _) = stamped.into_parts();
        let pool = self.pool(upstream);
        let upgrade = request.headers().contains_key(http::header::UPGRADE);
        let repeatable = is_idempotent(request.method()) && request.body().is_empty();
        let mut retried = false;
        loop {
            let fresh = upgrade || retried;
            if pool.is_full() {
                return Err(Error::Busy);
            }
            let ready = if fresh { None } else { pool.ready() };
            let mut lease = match ready {
                Some(lease) => lease,
                // Boxed: connecting must not make the future of every request large.
                None => Box::pin(pool.lease(fresh)).await?,
            };
            adapt(&mut request, lease.version())?;
            let copy = (repeatable && lease.is_reused() && !retried).then(|| copy(&request));
            let turn = request.body().turn();
            let sending = lease.send(*request);
            let Some(sent) = self.first_byte(sending, &turn, upstream).await else {
                lease.failed();
                return Err(Error::Timeout(upstream.settings.first_byte));
            };
            let failure = match sent {
                Ok(response) => {
                    let response = receive(response, lease, upgrade, &self.timer)?;
                    return Ok(Answer { response, retried });
                }
                Err(failure) => failure,
            };
            let stale = lease.is_reused() && !retried && !failure.started;
            // Nothing of a request that comes back was sent.
            match failure.unsent.or(copy.filter(|_| stale)) {
                Some(again) if stale => request = again,
                _ => {
                    if !matches!(failure.error, Error::ClientBody { .. }) {
                        lease.failed();
                    }
                    return Err(failure.error);
                }
            }
            retried = true;
        }
    }

    /// The answer's head, or `None` when the app took too long. The time that the client takes for
    /// its body is not the app's.
    async fn first_byte<F: Future + Unpin>(
        &self,
        mut sending: F,
        turn: &Turn,
        upstream: &Upstream,
    ) -> Option<F::Output> {
        let limit = upstream.settings.first_byte;
        let mut deadline = self.timer.deadline(limit);
        loop {
            if let Some(sent) = deadline.limit(&mut sending).await {
                return Some(sent);
            }
            let since = match turn.whose() {
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

/// Why an attempt failed, and what of it can be used again.
#[derive(Debug)]
struct Failure {
    error: Error,
    /// The request, when nothing of it was sent.
    unsent: Option<Box<Request<RequestBody>>>,
    /// Whether bytes of an answer had come.
    started: bool,
}

fn receive(
    response: Response<hyper::body::Incoming>,
    lease: Lease,
    upgrade: bool,
    timer: &Timer,
) -> Result<Response<ResponseBody>, Error> {
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS && !upgrade {
        return Err(Error::BadResponse("101 that nobody asked for".to_owned()));
    }
    let headers = response.headers();
    // Two framings: which one the app meant is a guess, and a wrong guess splits answers.
    if headers.contains_key(http::header::TRANSFER_ENCODING)
        && headers.contains_key(http::header::CONTENT_LENGTH)
    {
        return Err(Error::BadResponse("Content-Length with Transfer-Encoding".to_owned()));
    }
    let idle = timer.deadline(lease.upstream().settings.idle);
    lease.worked();
    Ok(response.map(|incoming| ResponseBody::new(incoming, lease, idle)))
}

/// Puts the request into the form of the connection's protocol. HTTP/2 says the host in `:authority`
/// (RFC 9113 section 8.3.1); path and query stay as they are.
fn adapt(request: &mut Request<RequestBody>, version: Version) -> Result<(), Error> {
    *request.version_mut() = version;
    if version != Version::HTTP_2 {
        // Without either, hyper takes a GET for one without a body.
        let headers = request.headers();
        let framed = headers.contains_key(http::header::CONTENT_LENGTH);
        if !framed && !request.body().is_empty() {
            let chunked = http::HeaderValue::from_static("chunked");
            request.headers_mut().insert(http::header::TRANSFER_ENCODING, chunked);
        }
        return Ok(());
    }
    if request.uri().authority().is_some() {
        return Ok(());
    }
    let Some(host) = request.headers_mut().remove(http::header::HOST) else { return Ok(()) };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.authority = http::uri::Authority::try_from(host.as_bytes()).ok();
    *request.uri_mut() = Uri::from_parts(parts)
        .map_err(|error| Error::Connect(format!("HTTP/2 cannot say this target: {error}")))?;
    Ok(())
}

fn copy(request: &Request<RequestBody>) -> Box<Request<RequestBody>> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Box::new(copy)
}

/// Methods that may be repeated (RFC 9110 section 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}
