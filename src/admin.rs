//! The admin listener: `/livez`, `/readyz` and `/metrics` over plain HTTP/1.1.
//!
//! Shows figures and changes nothing. It asks for no credentials, so it must be bound where only
//! operators can connect; a browser that was led here by a foreign name is turned away.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::metrics::{self, Metrics};

/// Connections at a time; for one more the oldest is closed.
const CONNECTIONS: usize = 64;

/// Until the head of the request is complete.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Until the answer is taken; a connection carries one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// Until a check counts as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// After a failure to accept, such as no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OPENMETRICS: HeaderValue = HeaderValue::from_static(metrics::CONTENT_TYPE);

/// What a check found: an error is shown to operators, so it must hold no secret.
pub type Checked = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

type Check = Box<dyn Fn() -> Checked + Send + Sync>;

/// Whether the gateway should get traffic.
#[derive(Default)]
pub struct Readiness {
    draining: AtomicBool,
    checks: Vec<(&'static str, Check)>,
}

impl Readiness {
    /// Ready as long as every check passes; `run` starts a check, which is given one second.
    #[must_use]
    pub fn with_check(
        mut self,
        name: &'static str,
        run: impl Fn() -> Checked + Send + Sync + 'static,
    ) -> Self {
        self.checks.push((name, Box::new(run)));
        self
    }

    /// From now on not ready: the gateway finishes what it has and takes nothing new.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether [`Readiness::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Why the gateway is not ready; empty when it is.
    async fn reasons(&self) -> Vec<Reason> {
        if self.is_draining() {
            let reason = "the gateway is shutting down".to_owned();
            return vec![Reason { check: "draining", reason }];
        }
        let mut reasons = Vec::new();
        for (check, run) in &self.checks {
            let result = tokio::time::timeout(CHECK_TIMEOUT, run()).await;
            match result {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => reasons.push(Reason { check, reason }),
                Err(_) => {
                    let reason = format!("no answer within {CHECK_TIMEOUT:?}");
                    reasons.push(Reason { check, reason });
                }
            }
        }
        reasons
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks: Vec<_> = self.checks.iter().map(|(name, _)| name).collect();
        f.debug_struct("Readiness")
            .field("draining", &self.is_draining())
            .field("checks", &checks)
            .finish()
    }
}

#[derive(Debug, Serialize)]
struct Reason {
    check: &'static str,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Report {
    ready: bool,
    reasons: Vec<Reason>,
}

/// What the admin listener shows.
#[derive(Debug)]
pub struct Admin {
    metrics: Metrics,
    readiness: Arc<Readiness>,
    names: Vec<String>,
}

impl Admin {
    /// Answers requests for an IP address, for `localhost` and for `names`.
    pub fn new(metrics: Metrics, readiness: Arc<Readiness>, names: Vec<String>) -> Self {
        Self { metrics, readiness, names }
    }

    async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if let Err((status, text)) = self.check_host(request) {
            return respond(status, TEXT, text);
        }
        let path = request.uri().path();
        if !matches!(path, "/livez" | "/readyz" | "/metrics") {
            let text = "not found: there are /livez, /readyz and /metrics\n";
            return respond(StatusCode::NOT_FOUND, TEXT, text);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let text = "only GET and HEAD are answered\n";
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/metrics" => self.figures(),
            "/readyz" => self.ready().await,
            _ => respond(StatusCode::OK, TEXT, "ok\n"),
        }
    }

    fn figures(&self) -> Response<Full<Bytes>> {
        match self.metrics.render() {
            Ok(text) => respond(StatusCode::OK, OPENMETRICS, text),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                let text = "the metrics cannot be written\n";
                respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
            }
        }
    }

    async fn ready(&self) -> Response<Full<Bytes>> {
        let reasons = self.readiness.reasons().await;
        let ready = reasons.is_empty();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        // Strings and a flag always become JSON; the status says the same.
        let body = serde_json::to_vec(&Report { ready, reasons }).unwrap_or_default();
        respond(status, JSON, body)
    }

    /// A page of a foreign site can point its own name at this address and then read the answers as
    /// its own: so only names that nobody else can hold are answered.
    fn check_host<B>(&self, request: &Request<B>) -> Result<(), (StatusCode, &'static str)> {
        let bad = |text| Err((StatusCode::BAD_REQUEST, text));
        let mut hosts = request.headers().get_all(HOST).iter();
        let (host, second) = (hosts.next(), hosts.next());
        if second.is_some() {
            return bad("more than one Host\n");
        }
        let parsed: Option<Option<Authority>> = host.map(|host| host.as_bytes().try_into().ok());
        let host = match parsed {
            Some(Some(host)) => Some(host),
            Some(None) => return bad("the Host is not valid\n"),
            // Probes of the older protocol send none; browsers always do.
            None if request.version() == Version::HTTP_10 => None,
            None => return bad("no Host\n"),
        };
        let target = request.uri().authority();
        if host.iter().chain(target).all(|authority| self.is_own(authority)) {
            return Ok(());
        }
        let text = "this listener answers to an IP address, localhost and its configured names\n";
        Err((StatusCode::MISDIRECTED_REQUEST, text))
    }

    fn is_own(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if literal.unwrap_or(host).parse::<IpAddr>().is_ok() {
            return true;
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        name.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

fn respond(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Answers on `listener` until `shutdown`; what is open then is dropped. Of too many connections the oldest gives way:
/// whoever opens some and says nothing must not keep a probe waiting.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    let mut failing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(ended) = connections.join_next() => report_panic(ended),
            accepted = listener.accept() => {
                if let Some(stream) = take(accepted, &mut failing) {
                    by_age.retain(|open| !open.is_finished());
                    if by_age.len() >= CONNECTIONS
                        && let Some(oldest) = by_age.pop_front()
                    {
                        oldest.abort();
                    }
                    by_age.push_back(connections.spawn(converse(stream, Arc::clone(&admin))));
                } else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The accepted connection; a failure is logged once until one succeeds.
fn take(
    accepted: std::io::Result<(TcpStream, SocketAddr)>,
    failing: &mut bool,
) -> Option<TcpStream> {
    match accepted {
        Ok((stream, _)) => {
            *failing = false;
            Some(stream)
        }
        Err(error) => {
            if !*failing {
                tracing::warn!(%error, "the admin listener cannot accept connections");
            }
            *failing = true;
            None
        }
    }
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "an admin request failed");
    }
}

async fn converse(stream: TcpStream, admin: Arc<Admin>) {
    let service = service_fn(|request| {
        let admin = &admin;
        async move { Ok::<_, Infallible>(admin.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(16 << 10)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection broke"),
        Err(_) => tracing::debug!("an admin connection took too long"),
    }
}

#[cfg(test)]
mod tests;
