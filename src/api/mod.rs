//! Session APIs: each dialect decodes requests into commands and words the outcomes.
//!
//! Speaks [`Command`] only: cannot reach store, login methods or directory, so dialects cannot differ
//! in their rules. A dialect words every failure under its mount, also those that are not its own.

pub mod browser;
mod fault;
pub mod kaltura;
pub mod nuvla;
mod once;
pub mod versal;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

pub use self::fault::Fault;
use crate::section::Section;
use crate::session::{
    Authority, Caller, Command, Identity, Live, Outcome, Refusal, SessionId, Token, Worthless,
};

/// Code of the fault of a request whose cookies are too many or too large.
pub const COOKIES_TOO_LARGE: &str = "cookies-too-large";

/// Code of the fault that keeps a network from showing more unknown tokens for a while.
pub const UNKNOWN_TOKENS: &str = "too-many-unknown-tokens";

/// A future of this worker.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// The session core as dialects see it: commands, and nothing behind them.
#[derive(Clone, Copy, Debug)]
pub struct Core<'a>(&'a Arc<Authority>);

impl<'a> Core<'a> {
    /// The core behind `authority`.
    pub fn new(authority: &'a Arc<Authority>) -> Self {
        Self(authority)
    }

    /// The live session that `token` opens for a request from `ip` to `target` (path and query as sent).
    /// It is one use, of those that the session may be limited to.
    ///
    /// # Errors
    /// `Ok(Err(_))`: it opens none, and why. `Err`: nobody can tell now.
    pub async fn session(
        &self,
        token: &Token,
        ip: Option<IpAddr>,
        target: &str,
    ) -> Result<Result<Arc<Live>, Worthless>, Refusal> {
        self.0.used(token, ip, target).await
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has changed then.
    pub async fn execute(&self, command: Command, caller: &Caller) -> Result<Outcome, Refusal> {
        self.0.execute(command, caller).await
    }

    /// Whether a session with this id is going on, whosever it is.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] when the store does not answer.
    pub async fn is_going_on(&self, id: SessionId) -> Result<bool, Refusal> {
        self.0.is_going_on(id).await
    }

    /// The claims that somebody may switch to, themselves first.
    pub fn claims(&self, identity: &Identity) -> Vec<String> {
        self.0.claims(identity)
    }
}

/// The head of a request, by which a dialect tells its own requests from those to apps.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path below the mount, such as `/login`, `/` for the mount itself; the whole path when the request
    /// does not go to the dialect's mount.
    pub path: &'a str,
    /// Query without its `?`.
    pub query: Option<&'a str>,
    /// Headers as the client sent them.
    pub headers: &'a HeaderMap,
    /// Whether a body follows: over HTTP/2 no field need say so.
    pub has_body: bool,
}

/// Whose a request under a dialect's mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owns {
    /// The app's that the routes name.
    No,
    /// The dialect's, unless a route leads to this place under the mount.
    Unrouted,
    /// Only the body tells: see [`Dialect::owns_body`]. One that is too large to look at is refused.
    Told,
    /// The body may tell more: see [`Dialect::owns_body`]. One that is too large to look at is the app's.
    Unread,
    /// The dialect's.
    Yes,
}

/// A request to an own route, with its bounded body.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path below the mount, such as `/login`; `/` for the mount itself.
    pub path: &'a str,
    /// Query without its `?`.
    pub query: Option<&'a str>,
    /// Headers as the client sent them.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Who asks.
    pub caller: Caller,
    /// Origin that the client talks to, such as `https://app.example.com`, without a trailing slash.
    pub origin: &'a str,
    /// Whether the client carried a session cookie that opens nothing (any more).
    pub stale: bool,
    /// Whether the session came by cookie: then a page of another site may have sent the request.
    pub by_cookie: bool,
    /// Now, in whole seconds since the epoch.
    pub now: u64,
}

/// What happens to the session carrier (for browsers: the cookie) with an answer.
#[derive(Debug, Default)]
pub enum Carrier {
    /// Hand out this token.
    Issue(Token),
    /// Leave it.
    #[default]
    Keep,
    /// Take it back.
    Revoke,
}

/// An answer of an own route.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers besides the length, the carrier and the security headers that every own answer gets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body.
    pub body: Bytes,
    /// What happens to the carrier.
    pub carrier: Carrier,
}

impl Reply {
    /// An answer with a body of the given content type.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers: vec![content_type], body: body.into(), carrier: Carrier::Keep }
    }

    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), carrier: Carrier::Keep }
    }

    /// JSON.
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self::new(status, "application/json", value.to_string())
    }

    /// An HTML page.
    pub fn page(status: StatusCode, html: String) -> Self {
        Self::new(status, "text/html; charset=utf-8", html)
    }

    /// 303 See Other. `location` must have been judged; a value that no header can hold becomes `/`.
    pub fn see_other(location: &str) -> Self {
        let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
        Self::empty(StatusCode::SEE_OTHER).with(header::LOCATION, location)
    }

    /// The same with one more header.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same with another carrier.
    pub fn carrying(mut self, carrier: Carrier) -> Self {
        self.carrier = carrier;
        self
    }
}

/// The request that a fault answers, as far as wording it needs.
#[derive(Debug)]
pub struct Context<'a> {
    /// Request headers; at least those that [`worded_by`] keeps.
    pub headers: &'a HeaderMap,
    /// Method.
    pub method: &'a Method,
    /// Request id.
    pub request: &'a str,
    /// The session, if there is one.
    pub identity: Option<&'a Identity>,
    /// Path and query as asked for: where a sign-in comes back to.
    pub target: &'a str,
    /// Host as asked for, with its port.
    pub host: &'a str,
    /// Client address.
    pub ip: Option<IpAddr>,
    /// Whether the client carried a session cookie that opens nothing (any more).
    pub stale: bool,
    /// Now, in whole seconds since the epoch.
    pub now: u64,
}

/// A kind of dialect that a configuration can mount, besides [`browser`].
#[derive(Debug)]
pub struct Kind {
    /// Name in configuration (`[api.<name>]`) and logs.
    pub name: &'static str,
    /// Where it is mounted when the configuration names neither `prefix` nor `host`; `None`: it must.
    pub prefix: Option<&'static str>,
    /// Reads what the dialect's table holds besides `prefix` and `host`.
    pub read: fn(&mut Section) -> Arc<dyn Dialect>,
}

/// All kinds.
pub static KINDS: &[&Kind] = &[&kaltura::KIND, &nuvla::KIND, &versal::KIND];

/// What the carrier of a dialect shows.
#[derive(Debug)]
pub enum Shown {
    /// Nothing that is a token.
    Nothing,
    /// One token.
    Token(Token),
    /// Several that differ: whose request it is cannot be told.
    Several,
}

/// One session API.
pub trait Dialect: fmt::Debug + Send + Sync {
    /// Name in configuration and logs.
    fn name(&self) -> &'static str;

    /// Whose this request under the mount is, by its head.
    fn owns(&self, head: &Head<'_>) -> Owns {
        let _ = head;
        Owns::Yes
    }

    /// Whether a request under the mount is the dialect's, by its head and whole body.
    fn owns_body(&self, head: &Head<'_>, body: &[u8]) -> bool {
        let _ = (head, body);
        true
    }

    /// The token in this dialect's own carrier, looked for in every request to the dialect's host; the
    /// body is there when the mount's requests were asked for it.
    fn token(&self, head: &Head<'_>, body: Option<&[u8]>) -> Shown {
        let _ = (head, body);
        Shown::Nothing
    }

    /// Whether [`Dialect::token`] finds tokens in paths and queries.
    fn takes_links(&self) -> bool {
        false
    }

    /// Whether paths under the mount may hold parameters of calls, secret ones too.
    fn has_pairs(&self) -> bool {
        false
    }

    /// Whether it finds the sessions of its own requests itself, by [`Core::session`].
    fn finds_sessions(&self) -> bool {
        false
    }

    /// Whether a request of its own asks for a session by what it shows in its body, whatever other session
    /// it carries. A page that asks for that is one, too.
    fn is_login(&self, head: &Head<'_>, body: &[u8]) -> bool {
        let _ = (head, body);
        false
    }

    /// Names of the headers that carry a token of this dialect: they do not go to apps.
    fn carriers(&self) -> &[HeaderName] {
        &[]
    }

    /// Answers a request to one of its routes. The carrier's session, if any, is validated.
    fn answer<'a>(&'a self, ask: Ask<'a>, core: Core<'a>) -> LocalFuture<'a, Reply>;

    /// Words a failure under its mount.
    fn refuse(&self, fault: &Fault, context: &Context<'_>) -> Reply;
}

/// Whether a state-changing request may have been made by another site's page.
///
/// `Origin` decides; without it `Sec-Fetch-Site`; without that, `Referer`. A request with none of the
/// three does not come from a current browser.
pub fn is_cross_site(headers: &HeaderMap, origin: &str) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    if let Some(value) = origins.next() {
        let same = value.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
        return !same || origins.next().is_some();
    }
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    match headers.get(header::REFERER) {
        None => false,
        Some(referer) => {
            let rest = referer.as_bytes().strip_prefix(origin.as_bytes());
            !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        }
    }
}

/// Whether the client is a browser that shows the answer as a page: then a login page or an HTML
/// error helps; anything else gets a status and problem+json, never a redirect.
pub fn wants_page(method: &Method, headers: &HeaderMap) -> bool {
    if !matches!(*method, Method::GET | Method::HEAD | Method::POST) {
        return false;
    }
    // One pass over the names: this is asked for every request that goes to an app.
    let mut accepts_html = false;
    for (name, value) in headers {
        match name.as_str() {
            "accept" => accepts_html |= contains_html(value.as_bytes()),
            "sec-fetch-dest" if !matches!(value.as_bytes(), b"document" | b"iframe" | b"frame") => {
                return false;
            }
            "sec-fetch-mode" if !value.as_bytes().eq_ignore_ascii_case(b"navigate") => {
                return false;
            }
            "x-requested-with" => return false,
            _ => {}
        }
    }
    accepts_html
}

fn contains_html(accept: &[u8]) -> bool {
    const HTML: &[u8] = b"text/html";
    // Browsers say it first.
    accept.windows(HTML.len()).any(|part| part.eq_ignore_ascii_case(HTML))
}

/// The headers by which a fault is worded, for keeping them when the request is gone: none for a
/// program, so that only navigations pay for it.
pub fn worded_by(method: &Method, headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    if wants_page(method, headers) {
        kept.insert(header::ACCEPT, HeaderValue::from_static("text/html"));
        let site = HeaderName::from_static("sec-fetch-site");
        for name in [header::REFERER, header::USER_AGENT, site] {
            if let Some(value) = headers.get(&name) {
                kept.insert(name, value.clone());
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_navigations_want_a_page() {
        let html = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        for (lines, page) in [
            (&[html][..], true),
            (&[html, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")], true),
            (&[html, ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")], false),
            (&[html, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "image")], false),
            (&[html, ("x-requested-with", "XMLHttpRequest")], false),
            (&[("accept", "*/*")], false),
            (&[("accept", "application/json")], false),
            (&[], false),
        ] {
            assert_eq!(wants_page(&Method::GET, &headers(lines)), page, "{lines:?}");
        }
        assert!(!wants_page(&Method::DELETE, &headers(&[html])));
    }

    #[test]
    fn other_sites_are_recognised() {
        let origin = "https://app.example.com";
        for (lines, cross) in [
            (&[][..], false),
            (&[("origin", "https://app.example.com")], false),
            (&[("origin", "https://APP.example.com")], false),
            (&[("origin", "https://app.example.com:444")], true),
            (&[("origin", "http://app.example.com")], true),
            (&[("origin", "null")], true),
            (&[("origin", "https://app.example.com.evil.org")], true),
            (&[("origin", "https://app.example.com"), ("origin", "https://evil.org")], true),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("origin", "https://evil.org"), ("sec-fetch-site", "same-origin")], true),
            (&[("referer", "https://app.example.com/auth/login")], false),
            (&[("referer", "https://app.example.com.evil.org/")], true),
            (&[("referer", "https://evil.org/https://app.example.com/")], true),
        ] {
            assert_eq!(is_cross_site(&headers(lines), origin), cross, "{lines:?}");
        }
    }
}
