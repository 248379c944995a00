//! Which address of an upstream is asked, and whether it is the one that it should be.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::process::{eventually, free_port};
use crate::support::{Client, Gateway, Reply, Upstream};

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

/// A TLS server for `name` in front of `app`; gives its address and writes its certificate.
async fn tls_in_front_of(app: SocketAddr, name: &str, certificate: &Path) -> SocketAddr {
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
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut plain = TcpStream::connect(app).await?;
                let mut tls = acceptor.accept(tcp).await?;
                tokio::io::copy_bidirectional(&mut tls, &mut plain).await
            });
        }
    });
    addr
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
