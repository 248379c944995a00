//! TLS over real sockets: names, versions, groups, resumption, reload, plain HTTP.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::section::Problems;

/// Stands at [`NOW`].
fn clock() -> Clock {
    Clock::manual(NOW)
}

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const TIMEOUT: Duration = Duration::from_secs(20);
const URL: &str = "https://gate.example";

/// A directory with pairs, and the settings that name them.
struct Pairs {
    dir: TempDir,
    settings: Settings,
}

impl Pairs {
    fn new(names: &[&[&str]]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut certificates = Vec::new();
        for (index, names) in names.iter().enumerate() {
            let files = PairFiles {
                cert: dir.path().join(format!("{index}.pem")),
                key: dir.path().join(format!("{index}.key")),
            };
            issue(&files, names, (1_700_000_000, 1_900_000_000));
            certificates.push(files);
        }
        let settings = Settings {
            certificates,
            self_signed: false,
            min_version: MinVersion::Tls12,
            handshake_timeout: TIMEOUT,
            ticket_secret: None,
        };
        Self { dir, settings }
    }

    fn load(&self) -> Tls {
        Tls::load(&self.settings, &[], &clock()).unwrap()
    }

    fn der(&self, index: usize) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.settings.certificates[index].cert).unwrap()
    }

    /// Trusts all pairs.
    fn client(&self) -> Arc<ClientConfig> {
        let all = self.dir.path().join("all.pem");
        let read = |files: &PairFiles| std::fs::read_to_string(&files.cert).unwrap();
        let text: String = self.settings.certificates.iter().map(read).collect();
        std::fs::write(&all, text).unwrap();
        let client = client_config(Some(&all), &[b"h2", b"http/1.1"]).unwrap();
        at(&client, 1_800_000_000)
    }
}

fn issue(files: &PairFiles, names: &[&str], span: (i64, i64)) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    let moment = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    (params.not_before, params.not_after) = (moment(span.0), moment(span.1));
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    chmod(&files.key, 0o600);
}

fn chmod(file: &Path, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[derive(Debug)]
struct Fixed(u64);

impl rustls::time_provider::TimeProvider for Fixed {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

/// `config`, but verifying at the time `seconds` and with an empty memory of sessions.
fn at(config: &ClientConfig, seconds: u64) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.time_provider = Arc::new(Fixed(seconds));
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    Arc::new(config)
}

/// What the server saw.
type Seen = Result<(bool, Option<String>), HandshakeError>;

/// Serves `tls`: says one byte on every connection, and tells how each handshake went.
async fn serve(tls: Arc<Tls>, timeout: Duration) -> (SocketAddr, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (config, sender) = (tls.server_config(), sender.clone());
            tokio::spawn(async move {
                let result = handshake(stream, config, timeout, URL).await;
                let told = result.map(|mut stream| {
                    let told = (stream.is_h2(), stream.sni());
                    tokio::spawn(async move {
                        let _ = stream.write_all(b"x").await;
                        let _ = stream.shutdown().await;
                    });
                    told
                });
                let _ = sender.send(told);
            });
        }
    });
    (address, seen)
}

async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
    // Tickets of TLS 1.3 come with the first data.
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await?;
    assert_eq!(text, b"x");
    Ok(stream)
}

#[tokio::test]
async fn the_certificate_follows_the_name() {
    let pairs = Pairs::new(&[&["a.example"], &["*.W.example", "b.example"], &["own.w.example"]]);
    let (address, mut seen) = serve(Arc::new(pairs.load()), TIMEOUT).await;
    let client = pairs.client();
    let cases = [
        ("a.example", 0),
        ("A.Example", 0),
        ("b.example", 1),
        ("any.w.example", 1),
        ("own.w.example", 2), // an exact name beats a wildcard,
    ];
    for (name, index) in cases {
        let stream = connect(address, &client, name).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert_eq!(shown, pairs.der(index), "{name}");
        let (h2, sni) = seen.recv().await.unwrap().unwrap();
        assert!(h2);
        assert_eq!(sni, Some(name.to_ascii_lowercase()));
    }
    // A wildcard covers one label; the default certificate does not name this host.
    assert!(connect(address, &client, "x.y.w.example").await.is_err());
    assert!(connect(address, &client, "elsewhere.test").await.is_err());
}

#[tokio::test]
async fn without_a_known_name_the_first_certificate_is_shown() {
    let pairs = Pairs::new(&[&["127.0.0.1", "a.example"], &["b.example"]]);
    let (address, mut seen) = serve(Arc::new(pairs.load()), TIMEOUT).await;
    // An address is never sent as SNI.
    connect(address, &pairs.client(), "127.0.0.1").await.unwrap();
    assert_eq!(seen.recv().await.unwrap().unwrap().1, None);
}

#[tokio::test]
async fn both_versions_the_hybrid_group_and_alpn_are_negotiated() {
    let pairs = Pairs::new(&[&["a.example"]]);
    let (address, mut seen) = serve(Arc::new(pairs.load()), TIMEOUT).await;
    let client = pairs.client();
    let stream = connect(address, &client, "a.example").await.unwrap();
    let connection = stream.get_ref().1;
    assert_eq!(connection.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = connection.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert!(seen.recv().await.unwrap().unwrap().0);

    let old = with_versions(&pairs, &rustls::version::TLS12, &[b"http/1.1"]);
    let stream = connect(address, &old, "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert!(!seen.recv().await.unwrap().unwrap().0);

    // No ALPN at all is HTTP/1.1; a foreign protocol is refused (RFC 7301 section 3.2).
    let none = with_versions(&pairs, &rustls::version::TLS13, &[]);
    connect(address, &none, "a.example").await.unwrap();
    assert!(!seen.recv().await.unwrap().unwrap().0);
    let foreign = with_versions(&pairs, &rustls::version::TLS13, &[b"imap"]);
    assert!(connect(address, &foreign, "a.example").await.is_err());
    assert!(matches!(seen.recv().await.unwrap(), Err(HandshakeError::Failed(_))));
}

/// A client that speaks only `version` and offers `alpn`.
fn with_versions(
    pairs: &Pairs,
    version: &'static rustls::SupportedProtocolVersion,
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for index in 0..pairs.settings.certificates.len() {
        roots.add(pairs.der(index)).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    at(&config, 1_800_000_000)
}

#[tokio::test]
async fn tls_1_2_can_be_switched_off_while_running() {
    let mut pairs = Pairs::new(&[&["a.example"]]);
    let tls = Arc::new(pairs.load());
    let (address, _seen) = serve(Arc::clone(&tls), TIMEOUT).await;
    let old = with_versions(&pairs, &rustls::version::TLS12, &[]);
    let new = with_versions(&pairs, &rustls::version::TLS13, &[]);
    connect(address, &old, "a.example").await.unwrap();
    connect(address, &new, "a.example").await.unwrap();
    pairs.settings.min_version = MinVersion::Tls13;
    assert_eq!(tls.reload(&pairs.settings, &[], NOW), Ok(Reload::Replaced(Vec::new())));
    assert!(connect(address, &at(&old, 1_800_000_000), "a.example").await.is_err());
    let stream = connect(address, &new, "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[tokio::test]
async fn sessions_resume_also_after_a_reload() {
    let pairs = Pairs::new(&[&["a.example"]]);
    let tls = Arc::new(pairs.load());
    let (address, _seen) = serve(Arc::clone(&tls), TIMEOUT).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = with_versions(&pairs, version, &[b"h2"]);
        let kind = async || {
            let stream = connect(address, &client, "a.example").await.unwrap();
            stream.get_ref().1.handshake_kind().unwrap()
        };
        assert_eq!(kind().await, HandshakeKind::Full);
        assert_eq!(kind().await, HandshakeKind::Resumed);
        let before = pairs.der(0);
        issue(&pairs.settings.certificates[0], &["a.example"], (1_700_000_000, 1_950_000_000));
        assert_ne!(before, pairs.der(0));
        assert_eq!(tls.reload(&pairs.settings, &[], NOW), Ok(Reload::Replaced(Vec::new())));
        assert_eq!(tls.certificates()[0].not_after, 1_950_000_000);
        assert_eq!(kind().await, HandshakeKind::Resumed);
        // A newcomer gets the new certificate.
        let newcomer = with_versions(&pairs, version, &[b"h2"]);
        let stream = connect(address, &newcomer, "a.example").await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], pairs.der(0));
    }
}

/// Settings that share the secret in `file`.
fn sharing(pairs: &Pairs, file: &Path) -> Settings {
    let problems = Problems::default();
    let text = format!("[tls]\nticket_secret = {{ file = {file:?} }}\n");
    let mut root = Section::parse(Path::new("c.toml"), text, &problems);
    let read = Settings::read(&mut root.table("tls"));
    drop(root);
    assert!(problems.is_empty(), "{:?}", problems.list());
    Settings { ticket_secret: read.ticket_secret, ..pairs.settings.clone() }
}

const BOTH: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];

async fn kind(address: SocketAddr, client: &Arc<ClientConfig>) -> HandshakeKind {
    let stream = connect(address, client, "a.example").await.unwrap();
    stream.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn nodes_with_one_secret_resume_each_others_sessions_for_two_epochs() {
    let pairs = Pairs::new(&[&["a.example"]]);
    let file = pairs.dir.path().join("ticket.secret");
    std::fs::write(&file, "a secret of more than thirty-two bytes\n").unwrap();
    let settings = sharing(&pairs, &file);
    let epoch = Duration::from_secs(6 * 3600);
    for version in BOTH {
        let clock = clock();
        let load = || Arc::new(Tls::load(&settings, &[], &clock).unwrap());
        let (a, _seen_a) = serve(load(), TIMEOUT).await;
        let (b, _seen_b) = serve(load(), TIMEOUT).await;
        let client = with_versions(&pairs, version, &[b"h2"]);
        assert_eq!(kind(a, &client).await, HandshakeKind::Full);
        assert_eq!(kind(b, &client).await, HandshakeKind::Resumed);
        clock.advance(epoch);
        assert_eq!(kind(a, &client).await, HandshakeKind::Resumed);
        // A node that starts now knows the ticket as well.
        let (c, _seen_c) = serve(load(), TIMEOUT).await;
        assert_eq!(kind(c, &client).await, HandshakeKind::Resumed);
        clock.advance(epoch * 2);
        assert_eq!(kind(a, &client).await, HandshakeKind::Full, "expired");
        assert_eq!(kind(b, &client).await, HandshakeKind::Resumed);
    }
}

#[tokio::test]
async fn a_new_ticket_secret_is_taken_up_at_reload() {
    let pairs = Pairs::new(&[&["a.example"]]);
    let file = pairs.dir.path().join("ticket.secret");
    std::fs::write(&file, "the first secret, more than thirty-two bytes").unwrap();
    chmod(&file, 0o644);
    let settings = sharing(&pairs, &file);
    let tls = Arc::new(Tls::load(&settings, &[], &clock()).unwrap());
    assert!(tls.warnings(&[], NOW)[0].what.contains("every user of the machine can read"));
    chmod(&file, 0o600);
    assert!(tls.warnings(&[], NOW).is_empty());
    let (address, _seen) = serve(Arc::clone(&tls), TIMEOUT).await;
    for version in BOTH {
        let client = with_versions(&pairs, version, &[b"h2"]);
        assert_eq!(kind(address, &client).await, HandshakeKind::Full);
        assert_eq!(tls.reload(&settings, &[], NOW), Ok(Reload::Unchanged));
        assert_eq!(kind(address, &client).await, HandshakeKind::Resumed);
        std::fs::write(&file, format!("another secret, more than thirty-two bytes {version:?}"))
            .unwrap();
        assert_eq!(tls.reload(&settings, &[], NOW), Ok(Reload::Replaced(Vec::new())));
        assert_eq!(kind(address, &client).await, HandshakeKind::Full);
        assert_eq!(kind(address, &client).await, HandshakeKind::Resumed);
        // Half a secret is refused, and the one before stays.
        std::fs::write(&file, "half a secret").unwrap();
        let problems = tls.reload(&settings, &[], NOW).unwrap_err();
        assert_eq!(problems[0].file, file);
        assert!(problems[0].what.contains("has 13 bytes, at least 32"), "{problems:?}");
        std::fs::remove_file(&file).unwrap();
        let problems = tls.reload(&settings, &[], NOW).unwrap_err();
        assert!(problems[0].remedy.contains("openssl rand"), "{problems:?}");
        assert_eq!(kind(address, &client).await, HandshakeKind::Resumed);
        std::fs::write(&file, format!("another secret, more than thirty-two bytes {version:?}"))
            .unwrap();
        chmod(&file, 0o600);
    }
    // From shared keys to own ones and back.
    assert_eq!(tls.reload(&pairs.settings, &[], NOW), Ok(Reload::Replaced(Vec::new())));
    assert_eq!(tls.reload(&pairs.settings, &[], NOW), Ok(Reload::Unchanged));
    assert_eq!(tls.reload(&settings, &[], NOW), Ok(Reload::Replaced(Vec::new())));
}

/// Issues tickets with one bit turned.
#[derive(Debug)]
struct Tampering(Arc<dyn ProducesTickets>, usize);

impl ProducesTickets for Tampering {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut ticket = self.0.encrypt(plain)?;
        let at = self.1 * (ticket.len() - 1) / 100;
        ticket[at] ^= 1;
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(ticket)
    }
}

#[tokio::test]
async fn a_tampered_ticket_costs_a_full_handshake_and_no_error() {
    let pairs = Pairs::new(&[&["a.example"]]);
    let file = pairs.dir.path().join("ticket.secret");
    std::fs::write(&file, "a secret of more than thirty-two bytes\n").unwrap();
    let tls = Arc::new(Tls::load(&sharing(&pairs, &file), &[], &clock()).unwrap());
    for percent in [0, 10, 20, 50, 100] {
        let built = tls.built.load();
        let mut config = ServerConfig::clone(&built.config);
        config.ticketer = Arc::new(Tampering(built.tickets.producer(), percent));
        let tampering = Built {
            min_version: built.min_version,
            ticket_secret: None,
            tickets: built.tickets.clone(),
            config: Arc::new(config),
        };
        let tampering = Arc::new(Tls {
            provider: provider(),
            resolver: Arc::clone(&tls.resolver),
            clock: clock(),
            built: ArcSwap::from_pointee(tampering),
        });
        let (first, _seen_first) = serve(tampering, TIMEOUT).await;
        let (second, _seen_second) = serve(Arc::clone(&tls), TIMEOUT).await;
        for version in BOTH {
            let client = with_versions(&pairs, version, &[b"h2"]);
            assert_eq!(kind(first, &client).await, HandshakeKind::Full);
            assert_eq!(kind(second, &client).await, HandshakeKind::Full, "{percent}");
            assert_eq!(kind(second, &client).await, HandshakeKind::Resumed);
        }
    }
}

#[tokio::test]
async fn early_data_is_never_accepted() {
    let pairs = Pairs::new(&[&["a.example"]]);
    let tls = Arc::new(pairs.load());
    // rustls has a second bar: never together with tickets.
    assert_eq!(tls.server_config().max_early_data_size, 0);
    let (address, _seen) = serve(tls, TIMEOUT).await;
    let mut config = ClientConfig::clone(&with_versions(&pairs, &rustls::version::TLS13, &[]));
    config.enable_early_data = true;
    let config = Arc::new(config);
    connect(address, &config, "a.example").await.unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    let mut connection = rustls::ClientConnection::new(config, name).unwrap();
    assert!(connection.early_data().is_none(), "the ticket allows early data");
}

#[test]
fn a_reload_to_a_bad_state_is_refused_and_the_old_one_stays() {
    let pairs = Pairs::new(&[&["a.example"], &["b.example"]]);
    let tls = pairs.load();
    assert_eq!(tls.reload(&pairs.settings, &[], NOW), Ok(Reload::Unchanged));
    let before = tls.certificates();
    let [a, b] = [&pairs.settings.certificates[0], &pairs.settings.certificates[1]];
    let key = std::fs::read(&a.key).unwrap();
    std::fs::copy(&b.key, &a.key).unwrap();
    let problems = tls.reload(&pairs.settings, &[], NOW).unwrap_err();
    assert_eq!(problems.len(), 1);
    let text = problems[0].to_string();
    assert!(text.contains("0.pem: the certificate does not belong to the key"), "{text}");
    assert!(text.contains("0.key"), "{text}");
    assert!(text.contains("fix: give the two files"), "{text}");
    assert_eq!(tls.certificates(), before);

    // Half written, gone: all of it is reported.
    std::fs::write(&a.key, &key[..key.len() / 2]).unwrap();
    std::fs::remove_file(&b.cert).unwrap();
    let problems = tls.reload(&pairs.settings, &[], NOW).unwrap_err();
    let files: Vec<_> = problems.iter().map(|problem| problem.file.clone()).collect();
    assert_eq!(files, [a.key.clone(), b.cert.clone()], "{problems:?}");
    assert_eq!(tls.certificates(), before);
}

#[test]
fn unusable_files_say_what_to_do() {
    let pairs = Pairs::new(&[&["a.example"]]);
    let files = &pairs.settings.certificates[0];
    let (cert, key) = (std::fs::read(&files.cert).unwrap(), std::fs::read(&files.key).unwrap());
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE \
                      KEY-----\n";
    let garbage = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let large = vec![b'\n'; (1 << 20) + 1];
    let cases: [(&[u8], &[u8], &str); 7] = [
        (&cert, encrypted, "encrypted with a passphrase"),
        (&cert, b"", "no private key"),
        (&cert, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "key cannot be"),
        (b"", &key, "no certificate in the file"),
        (b"-----BEGIN CERTIFICATE-----\n", &key, "not a PEM file"),
        (garbage, &key, "certificate cannot be used"),
        (&large, &key, "larger than 1 MiB"),
    ];
    for (cert, key, wanted) in cases {
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        let problems = Tls::load(&pairs.settings, &[], &clock()).unwrap_err();
        assert!(problems[0].what.contains(wanted), "{wanted}: {problems:?}");
        assert!(!problems[0].remedy.is_empty());
        assert_eq!(Tls::check(&pairs.settings, &[], NOW).unwrap_err(), problems);
    }
}

#[test]
fn what_visitors_stumble_over_is_a_warning() {
    let pairs = Pairs::new(&[&["a.example"]]);
    let files = &pairs.settings.certificates[0];
    let warnings = |span, hosts: &[&str]| -> Vec<String> {
        issue(files, &["a.example"], span);
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let tls = Tls::load(&pairs.settings, &hosts, &clock()).unwrap();
        let found = tls.warnings(&hosts, NOW);
        assert_eq!(Tls::check(&pairs.settings, &hosts, NOW).unwrap(), found);
        found.into_iter().map(|problem| problem.what).collect()
    };
    let good = (1_700_000_000, 1_900_000_000);
    assert!(warnings(good, &["a.example", "127.0.0.1", "[::1]"]).is_empty());
    let expired = warnings((1_700_000_000, 1_799_999_999), &[]);
    assert_eq!(expired, ["the certificate expired on 2027-01-15"]);
    let early = warnings((1_800_000_001, 1_900_000_000), &[]);
    assert_eq!(early, ["the certificate is not valid before 2027-01-15"]);
    let soon = warnings((1_700_000_000, 1_800_086_400), &[]);
    assert_eq!(soon, ["the certificate expires on 2027-01-16"]);
    assert!(warnings(good, &["b.example"])[0].contains("no certificate names the host b.example"));
    chmod(&files.key, 0o644);
    let tls = Tls::load(&pairs.settings, &[], &clock()).unwrap();
    assert!(tls.warnings(&[], NOW)[0].what.contains("every user of the machine can read the key"));
}

#[tokio::test]
async fn a_missing_pair_is_made_and_works() {
    let dir = tempfile::tempdir().unwrap();
    let files = PairFiles {
        cert: dir.path().join("certs/deep/localhost.pem"),
        key: dir.path().join("certs/deep/localhost.key"),
    };
    let settings = Settings {
        certificates: vec![files.clone()],
        self_signed: true,
        min_version: MinVersion::Tls12,
        handshake_timeout: TIMEOUT,
        ticket_secret: None,
    };
    let hosts = ["gate.example".to_owned(), "localhost".to_owned()];
    assert_eq!(Tls::check(&settings, &hosts, NOW), Ok(Vec::new()));
    assert!(!files.cert.exists(), "a check writes nothing");
    let tls = Tls::load(&settings, &hosts, &clock()).unwrap();
    assert!(tls.warnings(&hosts, NOW).is_empty());
    let mode = |file: &Path| file.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&files.key), 0o600);
    assert_eq!(files.cert.parent().unwrap().read_dir().unwrap().count(), 2, "no drafts are left");
    let info = &tls.certificates()[0];
    assert_eq!(info.names, ["gate.example", "localhost"]);
    assert_eq!(info.not_after, NOW.seconds() + 397 * 86_400 - 3_600);

    let (address, _seen) = serve(Arc::new(tls), TIMEOUT).await;
    let client = at(&client_config(Some(&files.cert), &[b"h2"]).unwrap(), NOW.seconds());
    for name in ["gate.example", "localhost", "127.0.0.1", "::1"] {
        connect(address, &client, name).await.unwrap();
    }
    let later = at(&client, NOW.seconds() + 397 * 86_400);
    assert!(connect(address, &later, "localhost").await.is_err());

    // It is kept.
    let made = std::fs::read(&files.cert).unwrap();
    Tls::load(&settings, &hosts, &clock()).unwrap();
    assert_eq!(std::fs::read(&files.cert).unwrap(), made);
}

/// Settings that ask for a pair in `dir`, and its files.
fn to_be_made(dir: &TempDir) -> (Settings, PairFiles) {
    let (cert, key) = (dir.path().join("localhost.pem"), dir.path().join("localhost.key"));
    let files = PairFiles { cert, key };
    let settings = Settings {
        certificates: vec![files.clone()],
        self_signed: true,
        min_version: MinVersion::Tls12,
        handshake_timeout: TIMEOUT,
        ticket_secret: None,
    };
    (settings, files)
}

#[test]
fn first_starts_at_the_same_time_agree_on_one_pair() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let (settings, _) = to_be_made(&dir);
        let together = std::sync::Barrier::new(4);
        let start = || {
            together.wait();
            Tls::load(&settings, &[], &clock()).map(drop)
        };
        std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            for start in starts {
                assert_eq!(start.join().unwrap(), Ok(()));
            }
        });
        assert_eq!(Tls::check(&settings, &[], NOW), Ok(Vec::new()));
        assert_eq!(dir.path().read_dir().unwrap().count(), 2, "no drafts are left");
    }
}

#[test]
fn half_a_pair_is_made_whole_where_it_was_made_here() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, files) = to_be_made(&dir);
    Tls::load(&settings, &[], &clock()).unwrap();
    let key = std::fs::read(&files.key).unwrap();
    // What a crash between the two leaves.
    std::fs::remove_file(&files.cert).unwrap();
    assert_eq!(Tls::check(&settings, &[], NOW), Ok(Vec::new()));
    Tls::load(&settings, &[], &clock()).unwrap();
    assert_eq!(std::fs::read(&files.key).unwrap(), key);

    // A certificate alone, and a key of somebody else's, stay: what is to be removed is said.
    std::fs::remove_file(&files.key).unwrap();
    let problems = Tls::load(&settings, &[], &clock()).unwrap_err();
    assert_eq!(problems[0].file, files.key);
    let remedy = format!("remove {}, too", files.cert.display());
    assert!(problems[0].remedy.contains(&remedy), "{problems:?}");
    issue(&files, &["a.example"], (1_700_000_000, 1_900_000_000));
    std::fs::remove_file(&files.cert).unwrap();
    let key = std::fs::read(&files.key).unwrap();
    let problems = Tls::load(&settings, &[], &clock()).unwrap_err();
    assert_eq!(problems[0].file, files.cert);
    let remedy = format!("remove {}, too", files.key.display());
    assert!(problems[0].remedy.contains(&remedy), "{problems:?}");
    assert_eq!(std::fs::read(&files.key).unwrap(), key);
    assert!(!files.cert.exists());
}

#[tokio::test]
async fn upstreams_are_verified_against_the_given_authority_only() {
    let (ours, theirs) = (Pairs::new(&[&["up.example"]]), Pairs::new(&[&["up.example"]]));
    let (address, _seen) = serve(Arc::new(ours.load()), TIMEOUT).await;
    connect(address, &ours.client(), "up.example").await.unwrap();
    assert!(connect(address, &theirs.client(), "up.example").await.is_err(), "wrong authority");
    assert!(connect(address, &ours.client(), "other.example").await.is_err(), "wrong name");
    let late = at(&ours.client(), 1_900_000_001);
    assert!(connect(address, &late, "up.example").await.is_err(), "expired");

    let problem = client_config(Some(&ours.dir.path().join("none.pem")), &[]).unwrap_err();
    assert!(problem.what.contains("cannot read the file"), "{problem}");
    let problem = client_config(Some(&ours.settings.certificates[0].key), &[]).unwrap_err();
    assert!(problem.what.contains("no certificate in the file"), "{problem}");
}

#[tokio::test]
async fn a_slow_handshake_is_cut() {
    let pairs = Pairs::new(&[&["a.example"]]);
    let (address, mut seen) = serve(Arc::new(pairs.load()), Duration::from_millis(30)).await;
    for begun in [b"".as_slice(), b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(begun).await.unwrap();
        let end = tokio::time::timeout(TIMEOUT, client.read(&mut [0])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)));
        assert!(matches!(seen.recv().await.unwrap(), Err(HandshakeError::Timeout)));
    }
}

/// A client that says goodbye gets an answer to it; one that just closes gets none.
#[tokio::test]
async fn close_notify_goes_to_clients_that_wait_for_it() {
    for farewell in [true, false] {
        let pairs = Pairs::new(&[&["a.example"]]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = pairs.load().server_config();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = handshake(stream, config, TIMEOUT, URL).await.unwrap();
            let end = stream.read(&mut [0]).await;
            stream.write_all(b"late").await.unwrap();
            stream.shutdown().await.unwrap();
            end.map_err(|error| error.kind())
        });
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("a.example").unwrap();
        let mut stream = TlsConnector::from(pairs.client()).connect(name, stream).await.unwrap();
        if farewell {
            stream.shutdown().await.unwrap();
        } else {
            // The socket's direction only: nothing of it is known to TLS.
            stream.get_mut().0.shutdown().await.unwrap();
        }
        // What the server wrote arrives in both cases, and the connection ends.
        let mut text = Vec::new();
        let end = stream.read_to_end(&mut text).await.map_err(|error| error.kind());
        assert_eq!(text, b"late");
        let eof = std::io::ErrorKind::UnexpectedEof;
        assert_eq!(end.map(drop), if farewell { Ok(()) } else { Err(eof) });
        assert_eq!(server.await.unwrap().map(drop), if farewell { Ok(()) } else { Err(eof) });
    }
}

#[tokio::test]
async fn plain_http_is_told_where_to_go() {
    let pairs = Pairs::new(&[&["a.example"]]);
    let (address, mut seen) = serve(Arc::new(pairs.load()), TIMEOUT).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert_eq!(body, "This port speaks HTTPS. Go to https://gate.example\n");
    assert!(matches!(seen.recv().await.unwrap(), Err(HandshakeError::PlainHttp)));

    for (bytes, closed) in [(b"".as_slice(), true), (b"\x15\x03\x03\x00\x02\x02\x28", false)] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let result = seen.recv().await.unwrap();
        match result {
            Err(HandshakeError::Closed) => assert!(closed),
            Err(HandshakeError::Failed(_)) => assert!(!closed),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn settings_are_read_relative_to_their_file() {
    let read = |text: &str| {
        let problems = Problems::default();
        let mut root =
            Section::parse(Path::new("/etc/gate/config.toml"), text.to_owned(), &problems);
        let mut section = root.table("tls");
        let settings = Settings::read(&mut section);
        drop((section, root));
        let problems: Vec<_> = problems.list().iter().map(ToString::to_string).collect();
        (settings, problems)
    };
    let (settings, problems) = read("");
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(settings.certificates[0].cert, Path::new("/etc/gate/certs/localhost.pem"));
    assert_eq!(settings.min_version, MinVersion::Tls12);
    assert!(!settings.self_signed);

    let (settings, problems) = read(
        "[tls]\ncertificates = [{ cert = \"a.pem\", key = \"/k/a.key\" }]\nself_signed = true\n\
         min_version = \"1.3\"\nhandshake_timeout = \"5s\"\n",
    );
    assert!(problems.is_empty(), "{problems:?}");
    let wanted = Settings {
        certificates: vec![PairFiles { cert: "/etc/gate/a.pem".into(), key: "/k/a.key".into() }],
        self_signed: true,
        min_version: MinVersion::Tls13,
        handshake_timeout: Duration::from_secs(5),
        ticket_secret: None,
    };
    assert_eq!(settings, wanted);

    let (_, problems) = read("[tls]\ncertificates = [{ cert = \"a\" }]\nmin_version = \"1.1\"\n");
    assert_eq!(problems.len(), 2, "{problems:?}");
    let (settings, problems) =
        read("[tls]\nmin_version = \"1.2\"\nticket_secret = \"thirty-one bytes, one too few..\"\n");
    assert!(settings.ticket_secret.is_some());
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("config.toml:3:"), "{problems:?}");
    assert!(problems[0].contains("has 31 bytes, at least 32 are needed"), "{problems:?}");
    assert!(problems[0].contains("openssl rand -base64 32"), "{problems:?}");
    let (_, problems) = read("[tls]\ncertificates = []\n");
    assert!(problems[0].contains("names no certificate"), "{problems:?}");
}
