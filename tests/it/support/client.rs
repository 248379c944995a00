//! A small HTTP client with a cookie jar. It follows no redirect and repeats no request, but where the
//! test lets a store be slow.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::gateway::{Gateway, password};
use super::html::Form;
use super::process::PATIENCE;
use super::wire::Response;

/// The name of the session cookie.
pub(crate) const COOKIE: &str = "__Host-portcullis";

/// A page as a browser asks for it when somebody follows a link.
pub(crate) const NAVIGATION: &[(&str, &str)] = &[
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-site", "none"),
    ("sec-fetch-user", "?1"),
];

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

/// One user agent: one connection at a time, one cookie jar.
pub(crate) struct Client {
    addr: SocketAddr,
    origin: String,
    tls: Arc<ClientConfig>,
    h2: bool,
    patient: bool,
    sender: Option<Sender>,
    jar: BTreeMap<String, String>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("origin", &self.origin).field("jar", &self.jar).finish()
    }
}

impl Client {
    /// HTTP/1.1.
    pub(crate) fn new(gateway: &Gateway) -> Self {
        Self::with(gateway, false)
    }

    /// HTTP/2.
    pub(crate) fn h2(gateway: &Gateway) -> Self {
        Self::with(gateway, true)
    }

    fn with(gateway: &Gateway, h2: bool) -> Self {
        Self {
            addr: gateway.addr(),
            origin: gateway.origin().to_owned(),
            tls: gateway.tls(&[if h2 { "h2" } else { "http/1.1" }]),
            h2,
            patient: gateway.has_patient_clients(),
            sender: None,
            jar: BTreeMap::new(),
        }
    }

    /// Takes every answer; see [`super::gateway::Builder::patient`].
    pub(crate) fn impatient(self) -> Self {
        Self { patient: false, ..self }
    }

    /// Another user agent with the same cookies on its own connection: a second tab.
    pub(crate) fn tab(&self) -> Self {
        Self {
            addr: self.addr,
            origin: self.origin.clone(),
            tls: self.tls.clone(),
            h2: self.h2,
            patient: self.patient,
            sender: None,
            jar: self.jar.clone(),
        }
    }

    /// The same user agent at another node of the site.
    pub(crate) fn at(&self, node: &Gateway) -> Self {
        let tls = node.tls(&[if self.h2 { "h2" } else { "http/1.1" }]);
        Self { addr: node.addr(), tls, ..self.tab() }
    }

    /// Closes the connection; the next request opens one. For after a restart: an old connection
    /// that died unnoticed would fail the request.
    pub(crate) fn reconnect(&mut self) {
        self.sender = None;
    }

    /// `https://localhost:PORT`, the site that it talks to.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.jar.get(name).map(String::as_str)
    }

    /// The value of the session cookie.
    pub(crate) fn token(&self) -> Option<&str> {
        self.cookie(COOKIE)
    }

    pub(crate) fn set_cookie(&mut self, name: &str, value: &str) {
        self.jar.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn forget_cookies(&mut self) {
        self.jar.clear();
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response {
        self.request(Method::GET, path, &[], Bytes::new()).await
    }

    pub(crate) async fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.request(Method::GET, path, headers, Bytes::new()).await
    }

    /// GET as a browser that follows a link.
    pub(crate) async fn navigate(&mut self, path: &str) -> Response {
        self.get_with(path, NAVIGATION).await
    }

    pub(crate) async fn delete(&mut self, path: &str) -> Response {
        let origin = self.origin.clone();
        self.request(Method::DELETE, path, &[("origin", &origin)], Bytes::new()).await
    }

    /// POST of a form from a page of our own origin, as a browser sends it.
    pub(crate) async fn post_form(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        let body = body.extend_pairs(fields).finish();
        self.post_page(path, body).await
    }

    /// Sends a form that was read from one of our pages to where it wants to go.
    pub(crate) async fn submit(&mut self, page: &str, form: &Form) -> Response {
        let base = url::Url::parse(&self.origin).unwrap().join(page).unwrap();
        let target = base.join(&form.action).unwrap();
        assert_eq!(target.origin().ascii_serialization(), self.origin, "a form leaves our origin");
        assert_eq!(form.method, "post", "{form:?}");
        let path = target[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
        self.post_page(&path, form.encoded()).await
    }

    async fn post_page(&mut self, path: &str, body: String) -> Response {
        let origin = self.origin.clone();
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("origin", origin.as_str()),
            ("accept", "text/html,*/*;q=0.8"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        self.request(Method::POST, path, &headers, Bytes::from(body)).await
    }

    /// POST of JSON as a program that is no browser.
    pub(crate) async fn post_json(&mut self, path: &str, body: &Value) -> Response {
        self.post_json_with(path, body, &[]).await
    }

    pub(crate) async fn post_json_with(
        &mut self,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut all = vec![("content-type", "application/json"), ("accept", "application/json")];
        all.extend_from_slice(headers);
        self.request(Method::POST, path, &all, Bytes::from(body.to_string())).await
    }

    /// Signs a test user in; fails the test when that is refused. A store that is not there for a
    /// moment, since the machine is busy or it has just come back, is asked again.
    pub(crate) async fn sign_in(&mut self, user: &str) -> Response {
        let patient = std::mem::replace(&mut self.patient, true);
        let answer = self.try_sign_in(user, &password(user)).await.expect(201);
        self.patient = patient;
        assert!(self.token().is_some(), "no session cookie: {:?}", answer.headers);
        answer
    }

    pub(crate) async fn try_sign_in(&mut self, user: &str, password: &str) -> Response {
        let body = json!({ "username": user, "password": password });
        self.post_json("/auth/session", &body).await
    }

    /// Any request; fails the test when no answer comes.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Response {
        let what = format!("{method} {path}");
        let answer = self.try_request(method, path, headers, body).await;
        answer.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// Any request, with the error of the connection when there is no answer. A patient client asks
    /// again where the store was slower than is waited for, as on a busy machine, and nothing else.
    pub(crate) async fn try_request(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Response> {
        let begun = Instant::now();
        loop {
            let answer = self.exchange(method.clone(), path, headers, body.clone()).await?;
            if !self.patient || !is_store_slow(&answer) || begun.elapsed() > PATIENCE {
                return Ok(answer);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Response> {
        let exchange = async {
            let request = self.build(method, path, headers, body)?;
            let mut sender = self.sender().await?;
            let answer = match &mut sender {
                Sender::H1(sender) => sender.send_request(request).await?,
                Sender::H2(sender) => sender.send_request(request).await?,
            };
            let answer = collect(answer).await;
            self.sender = Some(sender);
            anyhow::Ok(answer)
        };
        let answer = timeout(PATIENCE, exchange).await??;
        self.remember(&answer);
        Ok(answer)
    }

    /// Sends `count` GETs at once over this HTTP/2 connection; fails the test when the connection
    /// cannot take them. What becomes of each is told by its task.
    pub(crate) async fn at_once(
        &mut self,
        path: &str,
        count: usize,
    ) -> JoinSet<anyhow::Result<Response>> {
        let Sender::H2(sender) = self.sender().await.unwrap() else { panic!("not HTTP/2") };
        let mut all = JoinSet::new();
        for _ in 0..count {
            let request = self.build(Method::GET, path, &[], Bytes::new()).unwrap();
            let mut sender = sender.clone();
            all.spawn(async move {
                sender.ready().await?;
                Ok(collect(sender.send_request(request).await?).await)
            });
        }
        self.sender = Some(Sender::H2(sender));
        all
    }

    fn build(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        // HTTP/2 takes :scheme and :authority from the URI; HTTP/1.1 must have the path alone.
        let target = if self.h2 { format!("{}{path}", self.origin) } else { path.to_owned() };
        let mut request = Request::builder().method(method).uri(target.parse::<Uri>()?);
        let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !self.h2 && !has("host") {
            request = request.header("host", self.origin.trim_start_matches("https://"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !self.jar.is_empty() && !has("cookie") {
            let pairs: Vec<String> =
                self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", pairs.join("; "));
        }
        Ok(request.body(Full::new(body))?)
    }

    /// The open connection if it still can take a request, else a new one.
    async fn sender(&mut self) -> anyhow::Result<Sender> {
        if let Some(mut sender) = self.sender.take() {
            let ready = match &mut sender {
                Sender::H1(sender) => sender.ready().await,
                Sender::H2(sender) => sender.ready().await,
            };
            if ready.is_ok() {
                return Ok(sender);
            }
        }
        let tcp = TcpStream::connect(self.addr).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let tls = TlsConnector::from(self.tls.clone()).connect(name, tcp).await?;
        let io = TokioIo::new(tls);
        Ok(if self.h2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            sender.ready().await?;
            Sender::H2(sender)
        } else {
            let (mut sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            sender.ready().await?;
            Sender::H1(sender)
        })
    }

    /// Keeps and drops cookies as the answer says. Paths and domains are not looked at: ours are
    /// `__Host-` cookies, and a test that needs more looks at `set-cookie` itself.
    fn remember(&mut self, answer: &Response) {
        for line in answer.all("set-cookie") {
            let mut parts = line.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            let gone = parts.any(|part| {
                let part = part.to_lowercase();
                part == "max-age=0" || part.starts_with("expires=thu, 01 jan 1970")
            });
            if gone {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

/// In the words of any API.
fn is_store_slow(answer: &Response) -> bool {
    let said = ["session-store-unavailable", "session store does not answer"];
    let text = answer.text();
    answer.header("retry-after").is_some() && said.iter().any(|said| text.contains(said))
}

async fn collect(answer: http::Response<Incoming>) -> Response {
    let (parts, mut body) = answer.into_parts();
    let mut response = Response {
        status: parts.status.as_u16(),
        headers: pairs(&parts.headers),
        ..Response::default()
    };
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            response.truncated = true;
            break;
        };
        match frame.into_data() {
            Ok(data) => response.body.extend_from_slice(&data),
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    response.trailers = pairs(&trailers);
                }
            }
        }
    }
    response
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let value = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, v)| (name.as_str().to_owned(), value(v))).collect()
}
