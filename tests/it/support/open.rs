//! One open stream of each kind under a session, and how they end.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::client::COOKIE;
use super::upstream::Recorded;
use super::{Client, Gateway, Raw, Reply, Upstream};

/// What the design promises.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// An application with one stream of each kind.
pub(crate) fn upstream() -> Upstream {
    Upstream::answering(|request| stream(request).unwrap_or_else(|| Reply::ok("hello")))
}

/// The stream that the request asks for, if it asks for one.
pub(crate) fn stream(request: &Recorded) -> Option<Reply> {
    match request.target.split('?').next().unwrap_or_default() {
        "/ws" | "/passive/ws" => Some(Reply::websocket(request)),
        "/events" | "/passive/events" => Some(Reply::sse().event("first").then_hang()),
        "/large" => {
            let length = 1_u64 << 40;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            Some(Reply::raw(head).pour())
        }
        _ => None,
    }
}

/// The session of `client` as a header line.
pub(crate) fn cookie(client: &Client) -> String {
    format!("Cookie: {COOKIE}={}\r\n", client.token().unwrap())
}

/// One stream of each kind under the session of `client`.
#[derive(Debug)]
pub(crate) struct Open {
    socket: Raw,
    events: Raw,
    download: JoinHandle<()>,
}

impl Open {
    pub(crate) async fn under(gateway: &Gateway, client: &Client) -> Self {
        let (host, cookie) = (gateway.authority(), cookie(client));
        let mut socket = Raw::websocket(gateway, client, "/ws").await;
        socket.echo("hello").await;
        let mut events = gateway.raw().await;
        events.send(format!("GET /events HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n")).await;
        events.until("data: first\n\n").await;
        let mut download = gateway.raw().await;
        download.send(format!("GET /large HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n")).await;
        download.until("\r\n\r\nxxxx").await;
        // As fast as it comes: bytes that lie somewhere on the way would count as going on.
        let download = tokio::spawn(async move {
            while download.reader.fill().await {
                download.reader.take_buffer();
            }
        });
        Self { socket, events, download }
    }

    /// Each must end within [`SOON`] of `since`, as streams of a session that is over do: the
    /// WebSocket with a word, and none looking complete.
    pub(crate) async fn are_cut(self, since: Instant) {
        assert_eq!(self.end_within(since, SOON).await, Some(4401));
    }

    /// Each must end within `limit` of `since`, and must not look complete. Gives the code with
    /// which the WebSocket was closed.
    pub(crate) async fn end_within(mut self, since: Instant, limit: Duration) -> Option<u16> {
        let left = || (since + limit).saturating_duration_since(Instant::now());
        let socket = self.socket.close_code(left());
        let events = tokio::time::timeout(left(), self.events.reader.rest());
        let download = tokio::time::timeout(left(), self.download);
        let (code, events, download) = tokio::join!(socket, events, download);
        let events = events.expect("events still flow");
        assert!(!events.ends_with(b"0\r\n\r\n"), "a cut stream must not look complete");
        download.expect("the download goes on").unwrap();
        code
    }
}

/// An upload in chunks that has begun, under the session of `client`.
pub(crate) async fn upload(gateway: &Gateway, client: &Client) -> Raw {
    let (host, cookie) = (gateway.authority(), cookie(client));
    let mut raw = gateway.raw().await;
    let head =
        format!("POST /x HTTP/1.1\r\nHost: {host}\r\n{cookie}Transfer-Encoding: chunked\r\n\r\n");
    raw.send(format!("{head}5\r\nhello\r\n")).await;
    raw
}
