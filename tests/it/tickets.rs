//! TLS sessions that a client began with one gateway and goes on with at another.

use std::fs;
use std::io::{ErrorKind, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, SupportedProtocolVersion};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::support::process::PATIENCE;
use crate::support::tls::blind_to;
use crate::support::upstream::Gate;
use crate::support::{Gateway, Raw, Reply, Upstream};

const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

fn sharing(secret: &str) -> Gateway {
    Gateway::builder()
        .upstream_with("app", "builtin:whoami", "")
        .public("/", "app")
        .set("tls", "ticket_secret", "{ file = \"ticket.secret\" }")
        .written_with(&[("ticket.secret", secret)])
        .spawned()
}

/// Opens a connection and asks for a page: tickets of TLS 1.3 come with the first answer at the latest.
async fn visit(gateway: &Gateway, client: &Arc<ClientConfig>) -> HandshakeKind {
    let mut raw = Raw::tls(gateway.addr(), Arc::clone(client), "localhost").await;
    raw.get("/", gateway.authority(), "Connection: close\r\n").await.expect(200);
    raw.handshake.unwrap()
}

#[tokio::test]
async fn gateways_with_one_secret_resume_each_others_sessions() {
    let secret = "a secret of two gateways, thirty-two bytes and more\n";
    let (mut one, two) = (sharing(secret), sharing(secret));
    let stranger = sharing("a secret of another pair of gateways, just as long");
    for version in [TLS12, TLS13] {
        let client = blind_to(&[version], &["http/1.1"]);
        assert_eq!(visit(&one, &client).await, HandshakeKind::Full, "{version:?}");
        assert_eq!(visit(&two, &client).await, HandshakeKind::Resumed, "{version:?}");
        assert_eq!(visit(&one, &client).await, HandshakeKind::Resumed, "{version:?}");
        // A ticket that is not known there costs a full handshake, and no error.
        assert_eq!(visit(&stranger, &client).await, HandshakeKind::Full, "{version:?}");
        // Nor does a restart cost more.
        let client = blind_to(&[version], &["http/1.1"]);
        assert_eq!(visit(&two, &client).await, HandshakeKind::Full, "{version:?}");
        one = one.restart();
        assert_eq!(visit(&one, &client).await, HandshakeKind::Resumed, "{version:?}");
    }
}

/// A client that sends one thing after the other, as TCP does by itself (Nagle), asks only once its last
/// message is acknowledged. The ticket does that; held until the answer, each connection took 40 ms longer.
#[tokio::test]
async fn a_client_that_waits_with_its_request_gets_its_ticket() {
    let gateway = Gateway::builder()
        .upstream_with("app", "builtin:whoami", "")
        .public("/", "app")
        // At the end of a connection all goes out.
        .set("limits", "head_timeout", "\"5m\"")
        .start();
    for alpn in ["http/1.1", "h2"] {
        let client = TlsConnector::from(blind_to(&[TLS13], &[alpn]));
        let tcp = TcpStream::connect(gateway.addr()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = client.connect(name, tcp).await.unwrap();
        let said = timeout(PATIENCE, tls.get_ref().0.peek(&mut [0; 64])).await;
        assert!(said.expect("the gateway says nothing").unwrap() > 0, "{alpn}");
    }
}

/// A request that came in one with the end of the handshake was not seen as a question: the ticket went out
/// ahead of the answer, in a system call and a packet of its own, on nearly every connection.
#[tokio::test]
async fn a_request_right_behind_the_handshake_gets_its_ticket_with_the_answer() {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::answering(move |request| match &*request.target {
        "/held" => {
            Reply::raw("").wait(&held).then("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere")
        }
        _ => Reply::ok("now"),
    });
    let gateway = Gateway::builder()
        .upstream("app", upstream.addr())
        .public("/", "app")
        .set("server", "workers", "1")
        .start();
    let authority = gateway.authority();
    let request = format!("GET /held HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    let client = blind_to(&[TLS13], &["http/1.1"]);
    let connector = TlsConnector::from(Arc::clone(&client));
    let tcp = TcpStream::connect(gateway.addr()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let ask = |tls: &mut ClientConnection| tls.writer().write_all(request.as_bytes()).unwrap();
    let mut tls = connector.connect_with(name, tcp, ask).await.unwrap();
    upstream.received(1).await;
    // Twice through the only worker: it has looked at all of its sockets.
    let mut other = gateway.client();
    for _ in 0..2 {
        assert_eq!(other.get("/").await.status, 200);
    }
    let silent = tls.get_ref().0.try_read(&mut [0; 64]).unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::WouldBlock);
    gate.open();
    let mut answer = String::new();
    timeout(PATIENCE, tls.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.ends_with("\r\n\r\nhere"), "{answer}");
    assert_eq!(visit(&gateway, &client).await, HandshakeKind::Resumed);
}

#[tokio::test]
async fn a_new_secret_is_taken_up_while_it_serves() {
    let (first, second) = (
        "the first secret of a gateway, thirty-two bytes and more",
        "the second secret of a gateway, thirty-two bytes and more",
    );
    let (old, new) = (sharing(first), sharing(second));
    let replaced = "portcullis_reloads_total{what=\"certificates\",result=\"ok\"}";
    let before = old.metric(replaced).await;
    fs::write(old.dir().join("ticket.secret"), second).unwrap();
    old.reload();
    old.metric_is(replaced, |count| count > before).await;
    for version in [TLS12, TLS13] {
        let client = blind_to(&[version], &["http/1.1"]);
        assert_eq!(visit(&new, &client).await, HandshakeKind::Full, "{version:?}");
        assert_eq!(visit(&old, &client).await, HandshakeKind::Resumed, "{version:?}");
    }
    // A bad one is refused, and the one before stays.
    let refused = "portcullis_reloads_total{what=\"certificates\",result=\"refused\"}";
    fs::write(old.dir().join("ticket.secret"), "short").unwrap();
    old.reload();
    old.metric_is(refused, |count| count > 0.0).await;
    let client = blind_to(&[TLS13], &["http/1.1"]);
    assert_eq!(visit(&new, &client).await, HandshakeKind::Full);
    assert_eq!(visit(&old, &client).await, HandshakeKind::Resumed);
    assert!(!old.output().contains("short\n"), "{}", old.output());
}

#[test]
fn a_short_secret_is_refused_at_the_start() {
    let gateway = Gateway::builder()
        .upstream_with("app", "builtin:whoami", "")
        .public("/", "app")
        .set("tls", "ticket_secret", "{ file = \"ticket.secret\" }")
        .written_with(&[("ticket.secret", "hunter2")]);
    for command in [&["run"][..], &["check"]] {
        let done = gateway.cli(command);
        let text = done.text();
        assert!(matches!(done.code(), 1 | 64), "{text}");
        assert!(text.contains("`tls.ticket_secret` has 7 bytes, at least 32 are needed"), "{text}");
        assert!(text.contains("fix: make one with: openssl rand"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
