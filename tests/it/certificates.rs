//! Changed files while requests flow: certificates, users, configuration.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use crate::support::gateway::password;
use crate::support::process::{PATIENCE, eventually};
use crate::support::{Client, Gateway, Raw, Upstream};

/// A new pair for `localhost` as PEM: certificate and key.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Puts a file in place of the old one at once.
fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
}

/// The certificate that a new handshake shows.
async fn shown(gateway: &Gateway) -> Vec<u8> {
    let config = crate::support::tls::blind(&["http/1.1"]);
    let tcp = tokio::net::TcpStream::connect(gateway.addr()).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap();
    tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// Requests on old and new connections until `done`; each must be answered with 200.
async fn load(gateway: &Gateway, done: &AtomicBool, served: &AtomicUsize) {
    let blind = crate::support::tls::blind(&["http/1.1"]);
    let host = gateway.authority();
    let mut old = gateway.raw().await;
    while !done.load(Ordering::Relaxed) {
        old.get("/public/x", host, "").await.expect(200);
        let mut new = Raw::tls(gateway.addr(), blind.clone(), "localhost").await;
        new.get("/public/x", host, "").await.expect(200);
        served.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_under_load() {
    let upstream = Upstream::answering(|request| {
        if request.header("upgrade").is_some() {
            crate::support::Reply::websocket(request)
        } else {
            crate::support::Reply::ok("hello")
        }
    });
    let gateway = Gateway::in_front_of(upstream.addr());
    let (cert, key) = (gateway.certificate(), gateway.dir().join("certs/localhost.key"));
    let first = der(&fs::read_to_string(&cert).unwrap());
    assert_eq!(shown(&gateway).await, first);
    let mut socket = Raw::websocket(&gateway, &gateway.client(), "/public/ws").await;
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let change = async {
        let ok = "portcullis_reloads_total{what=\"certificates\",result=\"ok\"}";
        let refused = "portcullis_reloads_total{what=\"certificates\",result=\"refused\"}";
        let (before, refusals) = (gateway.metric(ok).await, gateway.metric(refused).await);
        let (new, new_key) = pair();
        // The certificate first, its key a moment later: a state that must not be taken.
        replace(&cert, &new);
        gateway.reload();
        gateway.metric_is(refused, |count| count > refusals).await;
        assert_eq!(shown(&gateway).await, first, "a certificate without its key is shown");
        assert_eq!(gateway.metric(ok).await, before);
        eventually("a word about it", || gateway.output().contains("localhost.pem").then_some(()))
            .await;
        replace(&key, &new_key);
        gateway.reload();
        gateway.metric_is(ok, |count| count > before).await;
        assert_eq!(shown(&gateway).await, der(&new));
        // Rubbish is refused, a missing file too.
        let refusals = gateway.metric(refused).await;
        replace(&cert, "rubbish");
        gateway.reload();
        gateway.metric_is(refused, |count| count > refusals).await;
        let refusals = gateway.metric(refused).await;
        fs::remove_file(&cert).unwrap();
        gateway.reload();
        gateway.metric_is(refused, |count| count > refusals).await;
        assert_eq!(shown(&gateway).await, der(&new));
        replace(&cert, &new);
        let enough = served.load(Ordering::Relaxed) + 5;
        let more = || (served.load(Ordering::Relaxed) >= enough).then_some(());
        eventually("requests after it", more).await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(load(&gateway, &done, &served), load(&gateway, &done, &served), change);
    socket.echo("on the old certificate").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_changes_under_load() {
    let upstream = Upstream::answering(|request| {
        if request.header("upgrade").is_some() {
            crate::support::Reply::websocket(request)
        } else {
            crate::support::Reply::ok("hello")
        }
    });
    let gateway = Gateway::in_front_of(upstream.addr());
    let config = gateway.config();
    let mut alice = gateway.signed_in("alice").await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(Raw::websocket(&gateway, &alice, "/ws").await);
    }
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let change = async {
        let prefix = "portcullis_reloads_total{what=\"config\",result=";
        for round in 0..10 {
            let bad = round % 3 == 2;
            let result = if bad { "\"refused\"" } else { "\"ok\"" };
            let sample = format!("{prefix}{result}");
            let before = gateway.metric(&sample).await;
            let more = if bad {
                format!("[nonsense]\nround = {round}\n")
            } else {
                // The same app under another name is another app, with connections of its own.
                format!(
                    "[[upstream]]\nname = \"app{round}\"\nurl = \"http://{}\"\n\
                     [[route]]\npath = \"/round{round}/\"\nupstream = \"app{round}\"\n\
                     allow = \"anyone\"\n",
                    upstream.addr()
                )
            };
            gateway.write_config(&format!("{config}\n{more}"));
            gateway.reload();
            gateway.metric_is(&sample, |count| count > before).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(load(&gateway, &done, &served), load(&gateway, &done, &served), change);
    for mut socket in sockets {
        socket.echo("uncut").await;
    }
    alice.get("/x").await.expect(200);
}

/// A first login gives its user a hash with the configured costs, a moment after the answer: waits
/// until that is in the file, so that the test does not write over it.
async fn settled(gateway: &Gateway) {
    let dear = || (gateway.users().matches("m=8,").count() == 3).then_some(());
    eventually("the new hash", dear).await;
}

/// Asks as `client` until the status is `status`.
async fn until(client: &mut Client, path: &str, status: u16) {
    let end = Instant::now() + PATIENCE;
    while client.get(path).await.status != status {
        assert!(Instant::now() < end, "{path} never gives {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn bad_users_are_refused_and_reported() {
    let gateway = Gateway::whoami();
    let mut alice = gateway.signed_in("alice").await;
    let ok = "portcullis_reloads_total{what=\"directory\",result=\"ok\"}";
    let refused = "portcullis_reloads_total{what=\"directory\",result=\"refused\"}";
    settled(&gateway).await;
    let users = gateway.users();
    for bad in [
        "[[user]\n",
        "",
        "[[user]]\nid = \"u-alice\"\nname = \"alice\"\npasword = \"x\"\n",
        &format!("{users}\n[[user]]\nid = \"u-alice\"\nname = \"other\"\n"),
        &format!("{users}\n[[user]]\nid = \"u-x\"\nname = \"x\"\ngroups = [\"nowhere\"]\n"),
    ] {
        let (before, said) = (gateway.metric(refused).await, gateway.output().lines().count());
        gateway.write_users(bad);
        gateway.reload();
        gateway.metric_is(refused, |count| count > before).await;
        eventually("a word about the users", || {
            let output = gateway.output();
            let place = output.lines().skip(said).any(|line| line.contains("users.toml:"));
            place.then_some(())
        })
        .await;
        alice.get("/x").await.expect(200);
        gateway.client().sign_in("bob").await;
    }
    let before = gateway.metric(ok).await;
    gateway.write_users(&users.replace("Alice Example", "Alice Renamed"));
    gateway.reload();
    gateway.metric_is(ok, |count| count > before).await;
    let json = [("accept", "application/json")];
    let seen = alice.get_with("/x", &json).await.expect(200).text();
    assert!(seen.contains("Alice Renamed"), "{seen}");
}

#[tokio::test]
async fn a_lost_group_is_lost_at_the_next_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .upstream("app", upstream.addr())
        .route("/eng/", "app", "{ groups = [\"eng\"] }", "")
        .route("/claim/", "app", "{ claims = [\"group/eng-core\"] }", "")
        .private("/", "app")
        .start();
    let ok = "portcullis_reloads_total{what=\"directory\",result=\"ok\"}";
    let mut alice = gateway.signed_in("alice").await;
    settled(&gateway).await;
    let claim = json!({ "claim": "group/eng-core" });
    alice.post_json("/auth/switch", &claim).await.expect(200);
    alice.get("/eng/x").await.expect(200);
    alice.get("/claim/x").await.expect(200);
    assert_eq!(upstream.last().header("x-auth-active-claim").as_deref(), Some("group/eng-core"));

    let users = gateway.users();
    let without = users.replace("\"staff\", \"eng\"", "\"staff\"");
    assert_ne!(users, without);
    let before = gateway.metric(ok).await;
    gateway.write_users(&without);
    gateway.reload();
    gateway.metric_is(ok, |count| count > before).await;
    alice.get("/eng/x").await.expect(403);
    alice.get("/claim/x").await.expect(403);
    alice.get("/x").await.expect(200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-auth-active-claim").as_deref(), Some("user/u-alice"));
    assert_eq!(seen.header("x-auth-groups").as_deref(), Some("staff"));
    let session = alice.get("/auth/session").await.expect(200).json();
    assert!(!session.to_string().contains("eng"), "{session}");
    alice.post_json("/auth/switch", &claim).await.expect(403);

    // And back: the group is there again, the claim has to be chosen anew or holds again.
    gateway.write_users(&users);
    gateway.reload();
    until(&mut alice, "/eng/x", 200).await;
    alice.post_json("/auth/switch", &claim).await.expect(200);
    alice.get("/claim/x").await.expect(200);
    gateway.client().try_sign_in("alice", &password("alice")).await.expect(201);
}
