//! One request's context, and its line in the access log when it is over.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use super::caught;
use super::connection::Active;
use super::host::Host;
use super::http1::Violation;
use super::mount;
use super::redact::without_secrets;
use super::worker::{View, Worker};
use crate::clock::Moment;
use crate::headers::Client;
use crate::log::AccessEntry;
use crate::metrics::RequestKind;
use crate::session::{Live, Token, Worthless};

/// What is known of a request while it is served.
#[derive(Debug)]
pub(super) struct Exchange {
    active: Active,
    pub(super) view: Rc<View>,
    /// Why the head of the request must be refused.
    pub(super) refused: Option<Violation>,
    /// Whether a panic ended the handling of the request.
    pub(super) panicked: bool,
    pub(super) id: HeaderValue,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) host: Option<Host>,
    /// By what a refusal is worded, when there is one.
    pub(super) hints: HeaderMap,
    /// Whether a failure of the app is to be shown as a page.
    pub(super) wants_page: bool,
    pub(super) client: Client,
    pub(super) live: Option<Arc<Live>>,
    pub(super) stale: bool,
    /// Why the token that came opens no session.
    pub(super) worthless: Option<Worthless>,
    pub(super) by_cookie: bool,
    /// Who or what ended the answer before its end.
    pub(super) cut: Option<&'static str>,
    /// The token of a link, for the case that the cookie's opens nothing.
    pub(super) by_link: Option<Token>,
    pub(super) kind: RequestKind,
    pub(super) route: Option<usize>,
    pub(super) status: u16,
    pub(super) code: Option<&'static str>,
    pub(super) upstream_us: Option<u64>,
    pub(super) started: Moment,
    sent: u64,
    held: bool,
}

impl Exchange {
    pub(super) fn new(active: Active, parts: &Parts, refused: Option<Violation>) -> Self {
        let connection = active.connection();
        let worker = &connection.worker;
        let view = worker.view();
        let client = Client::find(connection.arrival.peer, &parts.headers, &view.site.trust);
        Self {
            refused,
            panicked: false,
            id: worker.request_id(),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            host: None,
            hints: HeaderMap::new(),
            wants_page: false,
            client,
            live: None,
            stale: false,
            worthless: None,
            by_cookie: false,
            by_link: None,
            kind: RequestKind::Refused,
            route: None,
            status: 0,
            code: None,
            upstream_us: None,
            started: worker.clock.moment(),
            sent: 0,
            cut: None,
            held: false,
            view,
            active,
        }
    }

    pub(super) fn worker(&self) -> &Rc<Worker> {
        &self.active.connection().worker
    }

    pub(super) fn connection(&self) -> &Rc<super::connection::Connection> {
        self.active.connection()
    }

    /// Request id as text.
    pub(super) fn request_id(&self) -> &str {
        self.id.to_str().unwrap_or("")
    }

    /// Path and query as asked for.
    pub(super) fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// The host as it goes upstream.
    pub(super) fn host(&self) -> &str {
        self.host.as_ref().map_or("", Host::full)
    }

    /// The host's name, in lower case, without a port.
    pub(super) fn host_name(&self) -> &str {
        self.host.as_ref().map_or("", Host::name)
    }

    /// The path as it may be written down.
    pub(super) fn logged_path(&self) -> Cow<'_, str> {
        without_secrets(self.uri.path(), mount::may_have_pairs(self))
    }

    /// The client's address.
    pub(super) fn ip(&self) -> IpAddr {
        self.client.ip
    }

    /// The connection moves: it has room for more of the answer.
    pub(super) fn asked_for_body(&self) {
        self.active.connection().moved();
    }

    /// Whether it is now the client's turn to take what it was given (and not the app's to give more).
    pub(super) fn client_holds(&mut self, holds: bool) {
        if self.held != holds {
            self.held = holds;
            self.active.connection().hold(holds);
        }
    }

    /// Whether nothing more may be asked for on an HTTP/1.1 connection behind the answer: where a head was refused, or
    /// a panic left the reading of a body off somewhere.
    pub(super) fn closes(&self) -> bool {
        self.version != Version::HTTP_2 && (self.refused.is_some() || self.panicked)
    }

    /// Counts bytes of the answer's body.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes.try_into().unwrap_or(u64::MAX));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if std::thread::panicking() {
            caught::note_lost(&self.id);
            self.status = if self.status == 0 { 500 } else { self.status };
        }
        self.client_holds(false);
        if self.status == 0 && self.worker().is_halted() {
            self.cut = Some("gateway");
        }
        let connection = self.active.connection();
        let worker = &connection.worker;
        let ended = worker.clock.moment();
        let duration_us = ended.micros_since(self.started);
        worker.metrics.request(self.kind, self.status, duration_us);
        worker.metrics.bytes(0, self.sent);
        let Ok(mut access) = worker.access.try_borrow_mut() else { return };
        if !access.is_on() {
            return;
        }
        let site = &self.view.site;
        let identity = self.live.as_ref().map(|live| live.identity());
        // The peer's address is text already; one that a proxy told is not.
        let told;
        let client = if self.client.is_peer() {
            connection.ip.to_str().ok()
        } else {
            told = self.client.ip.to_string();
            Some(told.as_str())
        };
        access.line(&AccessEntry {
            time: ended.unix,
            request: self.id.to_str().unwrap_or(""),
            client,
            method: self.method.as_str(),
            host: self.host(),
            path: &self.logged_path(),
            // A client that leaves before the answer has none: 499, as nginx writes it.
            status: match self.status {
                0 if self.cut.is_some() => 503,
                0 => 499,
                status => status,
            },
            bytes_sent: Some(self.sent),
            duration_us,
            user: identity.map(|identity| identity.user.as_str()),
            session: identity.map(|identity| identity.session.as_str()),
            place: self.route.and_then(|index| site.table.places.get(index)),
            upstream_us: self.upstream_us,
            protocol: if self.version == Version::HTTP_2 { "h2" } else { "h1" },
            tls: connection.arrival.tls,
            refusal: self.code,
            cut: self.cut,
        });
    }
}
