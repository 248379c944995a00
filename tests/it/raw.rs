//! Bytes that no client library would send, and what must become of them: refused before the
//! application sees anything, or handed on in the one way that cannot be misread.

mod bodies;
mod h2;
mod headers;
mod heads;
mod listeners;
mod regressions;
mod replies;
mod targets;
mod uploads;

use crate::support::gateway::Builder;
use crate::support::{Gateway, Raw, Reply, Response, Upstream};

/// A gateway with `/public/` open and the rest closed, before a recording upstream.
struct Edge {
    gateway: Gateway,
    upstream: Upstream,
}

impl Edge {
    fn start() -> Self {
        Self::with(Upstream::start(), |builder| builder)
    }

    /// With an upstream that always answers the same.
    fn replying(reply: Reply) -> Self {
        Self::with(Upstream::answering(move |_| reply.clone()), |builder| builder)
    }

    fn with(upstream: Upstream, configure: impl FnOnce(Builder) -> Builder) -> Self {
        let builder = Gateway::builder()
            .upstream("app", upstream.addr())
            .route("/public/", "app", "\"optional\"", "")
            .private("/", "app");
        Self { gateway: configure(builder).start(), upstream }
    }

    /// Sends the bytes on a connection of their own; `{host}` stands for the right `Host`.
    async fn open(&self, request: &[u8]) -> Raw {
        let mut raw = self.gateway.raw().await;
        raw.send(self.filled(request)).await;
        raw
    }

    fn filled(&self, request: &[u8]) -> Vec<u8> {
        let mut bytes = request.to_vec();
        while let Some(at) = crate::support::wire::find(&bytes, b"{host}") {
            bytes.splice(at..at + 6, self.gateway.authority().bytes());
        }
        bytes
    }

    /// Sends a request that must be handed on, and gives what the upstream saw.
    async fn passes(&self, request: &[u8]) -> crate::support::upstream::Recorded {
        self.upstream.forget();
        let answer = self.open(request).await.response().await;
        let shown = String::from_utf8_lossy(request);
        assert_eq!(answer.status, 200, "{shown}\n{:?}\n{}", answer.headers, answer.text());
        let seen = self.upstream.requests();
        assert_eq!(seen.len(), 1, "{shown}");
        seen.into_iter().next().unwrap()
    }

    /// Tries every request on a connection of its own. All must be refused with one of `statuses`
    /// (or by closing, when 0 is among them), must close the connection when `close`, and must not
    /// reach the upstream. Reports all that do not, not only the first.
    async fn refuses(&self, statuses: &[u16], close: bool, requests: &[(&str, Vec<u8>)]) {
        let mut problems = Vec::new();
        for (name, request) in requests {
            self.upstream.forget();
            let mut raw = self.open(request).await;
            let status = match raw.try_response().await {
                Ok(Response { status, .. }) => status,
                Err(_) => 0,
            };
            if !statuses.contains(&status) {
                problems.push(format!("{name:?}: answered {status}, not one of {statuses:?}"));
            }
            if close && !raw.closes_within(CLOSING).await {
                problems.push(format!("{name:?}: the connection stays open"));
            }
            if let Some(seen) = self.upstream.requests().first() {
                let bytes = String::from_utf8_lossy(&seen.bytes()).into_owned();
                problems.push(format!("{name:?}: reached the upstream as {bytes:?}"));
            }
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}

/// How long a connection may take to close after a refusal.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(5);

/// `GET /public/x` with further lines, each with its CRLF.
fn get(lines: &str) -> Vec<u8> {
    format!("GET /public/x HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n").into_bytes()
}

/// `POST /public/x` with further lines and exactly this body.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST /public/x HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n{body}").into_bytes()
}

/// Each text as a case that is its own name.
fn cases(texts: &[&'static str], make: impl Fn(&str) -> Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    texts.iter().map(|text| (*text, make(text))).collect()
}
