//! Which address of an upstream is asked, and whether it is the one that it should be.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::process::{PATIENCE, eventually, free_port};
use crate::support::upstream::Gate;
use crate::support::wire::Reader;
use crate::support::{Client, Gateway, Raw, Reply, Upstream};

fn balanced(addresses: &[SocketAddr], more: &str) -> Gateway {
    let urls: Vec<String> = addresses.iter().map(|addr| format!("\"http://{addr}\"")).collect();
    Gateway::builder()
        .block(&format!("[[upstream]]\nname = \"app\"\nurls = [{}]\n{more}\n", urls.join(", ")))
        .public("/", "app")
        .start()
}

async fn statuses(client: &mut Client, count: usize) -> Vec<u16> {
    let mut seen = Vec::new();
    for _ in 0..count {
        seen.push(client.get("/x").await.status);
    }
    seen
}

#[tokio::test]
async fn every_address_has_its_share() {
    let apps = [Upstream::start(), Upstream::start(), Upstream::start()];
    let addresses: Vec<SocketAddr> = apps.iter().map(Upstream::addr).collect();
    let gateway = balanced(&addresses, "");
    // Many connections, so that all workers take part.
    for _ in 0..10 {
        assert_eq!(statuses(&mut gateway.client(), 6).await, [200; 6]);
    }
    for app in &apps {
        let share = app.requests().len();
        assert!(share >= 5, "{share} of 60");
    }
}

#[tokio::test]
async fn a_dead_address_is_left_out() {
    let app = Upstream::start();
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let gateway = balanced(&[dead, app.addr()], "");
    let mut client = gateway.client();
    // Before it is known to be dead, some may fail.
    statuses(&mut client, 20).await;
    assert_eq!(statuses(&mut client, 20).await, [200; 20]);
}

#[tokio::test]
async fn an_address_that_says_it_is_ill_is_left_out_until_it_is_well() {
    let well = Arc::new(AtomicBool::new(false));
    let patient = {
        let well = well.clone();
        Upstream::answering(move |request| {
            if request.target == "/healthz" && !well.load(Ordering::SeqCst) {
                Reply::status("503 Service Unavailable", "", "")
            } else {
                Reply::ok("patient")
            }
        })
    };
    let other = Upstream::answering(|_| Reply::ok("other"));
    let health = "health = { path = \"/healthz\", interval = \"100ms\", timeout = \"1s\" }";
    let gateway = balanced(&[patient.addr(), other.addr()], health);
    let checks = |app: &Upstream| app.requests().iter().filter(|r| r.target == "/healthz").count();
    let visits = |app: &Upstream| app.requests().iter().filter(|r| r.target == "/x").count();
    eventually("some health checks", || (checks(&patient) >= 5).then_some(())).await;
    patient.forget();
    assert_eq!(statuses(&mut gateway.client(), 20).await, [200; 20]);
    assert_eq!(visits(&patient), 0, "asked although it is ill");
    well.store(true, Ordering::SeqCst);
    let end = std::time::Instant::now() + crate::support::process::PATIENCE;
    while visits(&patient) == 0 {
        assert!(std::time::Instant::now() < end, "never asked again");
        statuses(&mut gateway.client(), 4).await;
    }
}

/// A TLS server for `name`; gives its address and writes its certificate. `serve` gets each
/// connection with its number.
async fn tls_server<F>(
    name: &str,
    certificate: &Path,
    serve: impl Fn(TlsStream<TcpStream>, usize) -> F + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    fs::write(certificate, pair.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![pair.cert.der().clone()];
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((tcp, _)) = listener.accept().await {
            // What is written is sent, before anything that is written later elsewhere.
            tcp.set_nodelay(true).unwrap();
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            tokio::spawn(serve(tls, number));
            number += 1;
        }
    });
    addr
}

/// A TLS server for `name` in front of `app`.
async fn tls_in_front_of(app: SocketAddr, name: &str, certificate: &Path) -> SocketAddr {
    tls_server(name, certificate, move |mut tls, _| async move {
        let mut plain = TcpStream::connect(app).await?;
        tokio::io::copy_bidirectional(&mut tls, &mut plain).await.map(drop)
    })
    .await
}

/// A gateway before a TLS server that `serve` is.
async fn before_tls<F>(
    serve: impl Fn(TlsStream<TcpStream>, usize) -> F + Send + 'static,
) -> (Gateway, tempfile::TempDir)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("app.pem");
    let addr = tls_server("app.internal", &pem, serve).await;
    let keys = format!("ca = \"{}\"\nserver_name = \"app.internal\"", pem.display());
    let builder = Gateway::builder()
        .upstream_with("app", &format!("https://{addr}"), &keys)
        .public("/", "app");
    (started(builder).await, dir)
}

/// The gateway starts in its own process while this test's runtime must go on serving TLS.
async fn started(builder: crate::support::gateway::Builder) -> Gateway {
    tokio::task::spawn_blocking(|| builder.start()).await.unwrap()
}

#[tokio::test]
async fn a_tls_upstream_must_prove_its_name() {
    let app = Upstream::start();
    let dir = tempfile::tempdir().unwrap();
    let pem = |name: &str| -> PathBuf { dir.path().join(format!("{name}.pem")) };
    let addr = tls_in_front_of(app.addr(), "app.internal", &pem("right")).await;
    tls_in_front_of(app.addr(), "app.internal", &pem("other")).await;
    let keys =
        |ca: &str, name: &str| format!("ca = \"{}\"\nserver_name = \"{name}\"", pem(ca).display());
    let url = format!("https://{addr}");
    let gateway = started(
        Gateway::builder()
            .upstream_with("right", &url, &keys("right", "app.internal"))
            .upstream_with("name", &url, &keys("right", "other.internal"))
            .upstream_with("ca", &url, &keys("other", "app.internal"))
            .upstream_with("public", &url, "server_name = \"app.internal\"")
            .public("/right/", "right")
            .public("/name/", "name")
            .public("/ca/", "ca")
            .public("/public/", "public"),
    )
    .await;
    let mut client = gateway.client();
    client.get("/right/x").await.expect(200);
    assert_eq!(app.requests().len(), 1);
    for path in ["/name/x", "/ca/x", "/public/x"] {
        client.get(path).await.expect(502);
    }
    assert_eq!(app.requests().len(), 1, "a request went to an unproved server");
}

/// Reads `length` bytes, more slowly than they come.
async fn read_slowly(tls: &mut TlsStream<TcpStream>, mut length: usize) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    while length > 0 {
        let most = length.min(buffer.len());
        length -= tls.read(&mut buffer[..most]).await?.max(1);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_kept_tls_connection_serves_many_requests_whatever_tls_says_meanwhile() {
    let connections = Arc::new(AtomicUsize::new(0));
    let said = Gate::closed();
    let (seen, say) = (connections.clone(), said.clone());
    let (gateway, _dir) = before_tls(move |tls, _| {
        seen.fetch_add(1, Ordering::SeqCst);
        let say = say.clone();
        async move {
            let mut reader = Reader::new(tls);
            while reader.head().await.is_some() {
                let tls = &mut reader.stream;
                tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await?;
                tls.flush().await?;
                // While the connection is idle: as a session ticket, nothing of HTTP.
                tls.get_mut().1.refresh_traffic_keys().map_err(io::Error::other)?;
                tls.flush().await?;
                say.open();
            }
            Ok(())
        }
    })
    .await;
    let mut raw = gateway.raw().await;
    for _ in 0..20 {
        let answer = raw.get("/x", gateway.authority(), "").await.expect(200);
        assert_eq!(answer.text(), "hello");
        said.passed().await;
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn unsolicited_bytes_on_an_idle_tls_connection_reach_nobody() {
    let (go, sent) = (Gate::closed(), Gate::closed());
    let gates = (go.clone(), sent.clone());
    let (gateway, _dir) = before_tls(move |tls, number| {
        let (go, sent) = gates.clone();
        async move {
            let mut reader = Reader::new(tls);
            while reader.head().await.is_some() {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright";
                reader.stream.write_all(answer).await?;
                reader.stream.flush().await?;
                if number == 0 {
                    go.passed().await;
                    let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
                    reader.stream.write_all(evil).await?;
                    reader.stream.flush().await?;
                    sent.open();
                    return reader.stream.read_u8().await.map(drop);
                }
            }
            Ok(())
        }
    })
    .await;
    let mut raw = gateway.raw().await;
    assert_eq!(raw.get("/x", gateway.authority(), "").await.expect(200).text(), "right");
    go.open();
    sent.passed().await;
    for _ in 0..20 {
        assert_eq!(raw.get("/x", gateway.authority(), "").await.expect(200).text(), "right");
    }
}

#[tokio::test]
async fn an_answer_that_ends_without_close_notify_is_cut() {
    let (gateway, _dir) = before_tls(|tls, number| async move {
        let mut reader = Reader::new(tls);
        reader.head().await;
        let tls = &mut reader.stream;
        tls.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await?;
        tls.flush().await?;
        if number == 0 {
            // Only TCP ends: whoever is on the way can do that.
            return tls.get_mut().0.shutdown().await;
        }
        tls.shutdown().await
    })
    .await;
    let mut client = Client::h2(&gateway);
    let cut = client.get("/x").await;
    assert!(cut.truncated || cut.status == 502, "{cut:?}");
    let whole = client.get("/x").await.expect(200);
    assert!(whole.text() == "hello" && !whole.truncated, "{whole:?}");
}

#[tokio::test]
async fn the_end_of_an_upload_reaches_a_tls_app_that_reads_slowly() {
    const SIZE: usize = 12 << 20;
    let (gateway, _dir) = before_tls(|tls, _| async move {
        let mut reader = Reader::new(tls);
        while let Some(head) = reader.head().await {
            if head.first_line.contains("early") {
                let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n";
                reader.stream.write_all(begun.as_bytes()).await?;
                reader.stream.flush().await?;
            }
            let come = reader.take_buffer().len();
            read_slowly(&mut reader.stream, SIZE - come).await?;
            let end = if head.first_line.contains("early") {
                "0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            };
            reader.stream.write_all(end.as_bytes()).await?;
            reader.stream.flush().await?;
        }
        Ok(())
    })
    .await;
    let host = gateway.authority();
    for path in ["/late", "/early", "/late"] {
        let mut raw = gateway.raw().await;
        raw.send(format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {SIZE}\r\n\r\n"))
            .await;
        raw.send(vec![b'x'; SIZE]).await;
        assert!(!raw.response().await.expect(200).truncated, "{path}");
    }
}

#[tokio::test]
async fn the_end_of_a_message_reaches_a_tls_app_that_reads_slowly() {
    const SIZE: usize = 12 << 20;
    let (gateway, _dir) = before_tls(|tls, _| async move {
        let mut reader = Reader::new(tls);
        reader.head().await;
        let agreed = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                      Connection: upgrade\r\n\r\n";
        reader.stream.write_all(agreed.as_bytes()).await?;
        reader.stream.flush().await?;
        let come = reader.take_buffer().len();
        read_slowly(&mut reader.stream, SIZE - come).await?;
        reader.stream.write_all(b"\x81\x04done").await?;
        reader.stream.flush().await?;
        reader.stream.read_u8().await.map(drop)
    })
    .await;
    let mut raw = Raw::websocket(&gateway, &gateway.client(), "/ws").await;
    raw.send(vec![b'x'; SIZE]).await;
    raw.until("done").await;
}

#[tokio::test]
async fn requests_are_counted_until_their_answers_end_however_they_end() {
    let upstream = Upstream::answering(|request| match request.target.as_str() {
        "/hang" => Reply::hang(),
        "/cut" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").then_close(),
        "/bad" => Reply::raw("nonsense\r\n\r\n"),
        "/reset" => Reply::reset(),
        "/stream" => Reply::sse().event("first").then_hang(),
        "/early" => Reply::early("HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno"),
        _ => Reply::ok("hello"),
    });
    let gateway = balanced(&[upstream.addr()], "max_requests = 1\nmax_failures = 1000");
    let host = gateway.authority();
    // Both workers may get to serve; each has one place.
    for round in 0..6 {
        for path in ["/cut", "/bad", "/reset", "/hang", "/stream", "/early", "/ok"] {
            let mut raw = gateway.raw().await;
            let upload = if path == "/early" { "Content-Length: 100\r\n" } else { "" };
            let method = if path == "/early" { "POST" } else { "GET" };
            upstream.forget();
            raw.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{upload}\r\n")).await;
            match path {
                "/hang" => drop(upstream.received(1).await),
                "/stream" => drop(raw.until("first\n\n").await),
                _ => {
                    let status = raw.response().await.status;
                    assert!(status != 503, "{path} in round {round}: a place is taken");
                }
            }
            drop(raw);
            gateway.metric_is("portcullis_requests_in_flight", |open| open == 0.0).await;
        }
    }
    tokio::time::timeout(PATIENCE, gateway.client().get("/ok")).await.unwrap().expect(200);
}
