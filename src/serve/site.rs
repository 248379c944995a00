//! One configuration, ready for use; never changed, replaced as a whole at a reload.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::cookie::CookieName;
use super::http1::HeadLimits;
use super::mount::Mount;
use crate::api::browser::Browser;
use crate::headers::{Rules, Trust};
use crate::log::Place;
use crate::policy::Rule;
use crate::route::Router;
use crate::section::Section;
use crate::upstream::Upstream;

/// What requests are judged by.
#[derive(Debug)]
pub struct Table {
    /// Where requests go.
    pub router: Router,
    /// Who may pass, by the route's index.
    pub rules: Vec<Rule>,
    /// The upstream's index, by the route's index.
    pub ways: Vec<usize>,
    /// The names that the access log has for a route, by the route's index.
    pub places: Vec<Place>,
    /// What is removed and added.
    pub headers: Rules,
}

/// What a request is judged and served by.
#[derive(Debug)]
pub struct Site {
    /// Routes and rules.
    pub table: Arc<Table>,
    /// The apps.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Whose forwarding headers are believed.
    pub trust: Trust,
    /// The dialect for people; also words the gateway's own failures.
    pub browser: Arc<Browser>,
    /// The other dialects, sorted.
    pub mounts: Vec<Mount>,
    /// Where the browser dialect is mounted, without a trailing slash: `/auth`.
    pub mount: String,
    /// The session cookie.
    pub cookie: CookieName,
    /// Absolute lifetime of sessions: the cookie's.
    pub lifetime: Duration,
    /// Value of `Strict-Transport-Security` on own answers.
    pub hsts: Option<HeaderValue>,
    /// Bounds.
    pub limits: Limits,
    /// The gateway's address for people, without a trailing slash.
    pub public_url: String,
}

/// Bounds on what a client may send and how slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Heads of HTTP/1.1 requests.
    pub heads: HeadLimits,
    /// Body of own routes, in bytes.
    pub own_body: usize,
    /// Silence within a request body.
    pub body_idle: Duration,
    /// Bytes a second that a request body must reach; 0 = no minimum.
    pub body_rate: u64,
    /// From the handshake to the first request, and from the first byte of a head to its end.
    pub head: Duration,
    /// Between requests of a connection.
    pub keep_alive: Duration,
    /// How long a client may take nothing of an answer.
    pub send_idle: Duration,
    /// HTTP/2 streams of a connection.
    pub streams: u32,
}

impl Limits {
    /// Reads `[limits]`.
    pub fn read(section: &mut Section) -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        let hour = 3600 * SECOND;
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Self {
            heads: HeadLimits {
                request_line: size(section.size("uri", 16 << 10, 256..=65_000)),
                head: size(section.size("head", 32 << 10, 1024..=(256 << 10))),
                fields: size(section.count("fields", 128, 16..=1000)),
            },
            own_body: size(section.size("own_body", 64 << 10, 1024..=(16 << 20))),
            body_idle: section.duration("body_idle", 30 * SECOND, SECOND..=hour),
            body_rate: section.size("body_rate", 100, 0..=(1 << 30)),
            head: section.duration("head_timeout", 10 * SECOND, SECOND..=hour),
            keep_alive: section.duration("keep_alive", 75 * SECOND, SECOND..=hour),
            send_idle: section.duration("send_idle", 60 * SECOND, SECOND..=hour),
            streams: u32::try_from(section.count("streams", 128, 1..=10_000)).unwrap_or(128),
        }
    }
}
