//! One site on two nodes: two gateways over one Redis, each by a proxy that can cut it off, in front
//! of one application that notes when it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::gateway::Builder;
use super::open::stream;
use super::process::PATIENCE;
use super::redis::Server;
use super::upstream::{Gate, Recorded};
use super::{Client, Gateway, Proxy, Reply, Response, Upstream};

/// The identity headers that the application hands back at `/who`.
const IDENTITY: &[&str] = &["user", "active-claim", "roles", "session", "all"];

/// When the application was asked for what.
type Asked = Arc<Mutex<Vec<(String, Instant)>>>;

/// An application: `/ws`, `/events` and `/large` stream, `/who` tells the identity headers, `/held`
/// waits for the gate, anything else is `hello`.
#[derive(Debug)]
pub(crate) struct App {
    upstream: Upstream,
    asked: Asked,
    pub(crate) gate: Gate,
}

impl App {
    pub(crate) fn start() -> Self {
        let (asked, gate) = (Asked::default(), Gate::closed());
        let (log, held) = (Arc::clone(&asked), gate.clone());
        let upstream = Upstream::answering(move |request| {
            log.lock().unwrap().push((request.target.clone(), Instant::now()));
            match request.target.as_str() {
                "/held" => {
                    let late = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";
                    Reply::raw("").wait(&held).then(late)
                }
                "/who" => Reply::ok(&who(request).to_string()),
                _ => stream(request).unwrap_or_else(|| Reply::ok("hello")),
            }
        });
        Self { upstream, asked, gate }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.upstream.addr()
    }

    /// How many requests came so far.
    pub(crate) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// When requests for `target` came, as a time after `since`; those before it are left out.
    pub(crate) fn asked_after(&self, target: &str, since: Instant) -> Vec<Duration> {
        let log = self.asked.lock().unwrap();
        let of_target = log.iter().filter(|(asked, _)| asked == target);
        of_target.filter_map(|(_, at)| at.checked_duration_since(since)).collect()
    }
}

fn who(request: &Recorded) -> Value {
    let field = |name: &&str| (name.to_string(), request.header(&format!("x-auth-{name}")));
    IDENTITY.iter().map(field).map(|(name, value)| (name, json!(value))).collect()
}

/// What every gateway in front of an [`App`] is configured with.
pub(crate) fn routes(builder: Builder, app: &App) -> Builder {
    builder.upstream("app", app.addr()).public("/public/", "app").private("/", "app").set(
        "headers.templates",
        "X-Auth-All",
        "\"{user} {active_claim} {roles}\"",
    )
}

/// The whole site. Both nodes serve the same URL with the same users file.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) a: Gateway,
    pub(crate) b: Gateway,
    /// Between `a` and Redis.
    pub(crate) link_a: Proxy,
    /// Between `b` and Redis.
    pub(crate) link_b: Proxy,
    pub(crate) redis: Server,
    pub(crate) app: App,
}

impl Site {
    /// Its clients wait for a store that is slow, since the machine is busy.
    pub(crate) fn start() -> Self {
        Self::with(Builder::patient)
    }

    /// Its clients take every answer: for tests in which the store does not answer.
    pub(crate) fn impatient() -> Self {
        Self::with(|builder| builder)
    }

    /// With further settings on both nodes.
    pub(crate) fn with(settings: impl Fn(Builder) -> Builder) -> Self {
        let redis = Server::start();
        let app = App::start();
        let (link_a, link_b) = (Proxy::to(redis.addr()), Proxy::to(redis.addr()));
        let node = |link: &Proxy| {
            let builder = Gateway::builder().redis(&format!("redis://{}/0", link.addr()));
            settings(routes(builder, &app))
        };
        let a = node(&link_a).start();
        let b = node(&link_b).beside(&a).start();
        Self { a, b, link_a, link_b, redis, app }
    }

    /// `user` signed in at `a`, and the same user agent at `b`, where the session has been used.
    pub(crate) async fn signed_in(&self, user: &str) -> (Client, Client) {
        let at_a = self.a.signed_in(user).await;
        let mut at_b = at_a.at(&self.b);
        until(&mut at_b, "/x", 200).await;
        (at_a, at_b)
    }
}

/// The public id of the session of `client`.
pub(crate) async fn session_id(client: &mut Client) -> String {
    client.get("/auth/session").await.expect(200).json()["id"].as_str().unwrap().to_owned()
}

/// Asks for `path` until the status is `status`; how long that took.
pub(crate) async fn until(client: &mut Client, path: &str, status: u16) -> Duration {
    let begun = Instant::now();
    loop {
        let found = client.get(path).await.status;
        if found == status {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "never {status}, but {found}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Fails the test unless the answer is a refusal for want of the store that keeps the cookie and says when to come back.
pub(crate) fn refused(answer: &Response) {
    assert_eq!(answer.status, 503, "{:?}\n{}", answer.headers, answer.text());
    let after = answer.header("retry-after").expect("no Retry-After");
    assert!(after.parse::<u64>().is_ok(), "{after}");
    assert!(answer.all("set-cookie").is_empty(), "{:?}", answer.headers);
    assert!(answer.header("clear-site-data").is_none(), "{:?}", answer.headers);
}

/// One gateway over one Redis, by a proxy, in front of an [`App`].
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) gateway: Gateway,
    pub(crate) link: Proxy,
    pub(crate) redis: Server,
    pub(crate) app: App,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::over(Server::start())
    }

    pub(crate) fn over(redis: Server) -> Self {
        let (app, link) = (App::start(), Proxy::to(redis.addr()));
        let builder = Gateway::builder().redis(&format!("redis://{}/0", link.addr()));
        Self { gateway: routes(builder, &app).start(), link, redis, app }
    }

    /// Resident KiB and threads of the gateway.
    pub(crate) fn weight(&self) -> (u64, usize) {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.gateway.pid())).unwrap();
        (self.gateway.resident(), tasks.count())
    }

    /// Waits until `/readyz` has this status; how long that took.
    pub(crate) async fn readiness(&self, status: u16) -> Duration {
        let begun = Instant::now();
        while self.gateway.admin_get("/readyz").await.status != status {
            assert!(begun.elapsed() < PATIENCE, "readiness is never {status}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }
}
