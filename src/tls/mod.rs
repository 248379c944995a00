//! TLS: certificates by name, the server's and the clients' configurations, the handshake.
//!
//! Knows neither HTTP nor listeners. The one cryptographic provider is handed to rustls here and never
//! installed for the whole process.

mod client;
mod handshake;
mod pair;
mod resolver;
mod self_signed;
mod socket;
mod stream;
mod tickets;
mod validity;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::version::{TLS12, TLS13};

pub use self::client::{ClientFiles, client_config, client_config_with};
pub use self::handshake::{HandshakeError, handshake};
use self::pair::{Pair, about};
use self::resolver::{Resolver, Table};
pub use self::stream::Stream;
pub use self::tickets::{SharedTickets, TicketSecret};
use crate::clock::{Clock, UnixMs};
use crate::secret::Secret;
use crate::section::{Problem, Section};

const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The oldest TLS version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 (with forward secrecy and authenticated encryption only) and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

/// The files of one certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFiles {
    /// PEM: the server's certificate, then those of its authorities.
    pub cert: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

/// What `[tls]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// At least one pair; the first serves clients that ask for no or an unknown name.
    pub certificates: Vec<PairFiles>,
    /// Make the first pair when both of its files are missing, or the certificate for a key that was made so.
    pub self_signed: bool,
    /// The oldest TLS version that is spoken.
    pub min_version: MinVersion,
    /// How long a client may take for the handshake.
    pub handshake_timeout: Duration,
    /// What session tickets are sealed with, for gateways that share it; without it each has random
    /// keys of its own, which end with the process.
    pub ticket_secret: Option<TicketSecret>,
}

impl Settings {
    /// Reads `[tls]`; problems go to the section.
    pub fn read(section: &mut Section) -> Self {
        let min_version = match section.text("min_version") {
            None => MinVersion::default(),
            Some(text) if text.value == "1.2" => MinVersion::Tls12,
            Some(text) if text.value == "1.3" => MinVersion::Tls13,
            Some(text) => {
                let what = format!("`tls.min_version`: there is no TLS \"{}\" here", text.value);
                section.problem_at(&text, what, "write \"1.2\" or \"1.3\"");
                MinVersion::default()
            }
        };
        let second = Duration::from_secs(1);
        Self {
            certificates: read_certificates(section),
            self_signed: section.flag("self_signed", false),
            min_version,
            handshake_timeout: section.duration(
                "handshake_timeout",
                10 * second,
                second..=60 * second,
            ),
            ticket_secret: TicketSecret::read(section),
        }
    }
}

fn read_certificates(section: &mut Section) -> Vec<PairFiles> {
    const CERT: &str = "certs/localhost.pem";
    const KEY: &str = "certs/localhost.key";
    let given = section.has("certificates");
    let mut pairs = Vec::new();
    for mut item in section.tables("certificates") {
        let (cert, key) = (item.required("cert", CERT).value, item.required("key", KEY).value);
        pairs.push(PairFiles { cert: item.base().join(cert), key: item.base().join(key) });
    }
    if pairs.is_empty() {
        if given {
            let remedy =
                format!("write [{{ cert = \"{CERT}\", key = \"{KEY}\" }}], or leave it out");
            section.problem("certificates", "`tls.certificates` names no certificate", remedy);
        }
        let base = section.base();
        pairs.push(PairFiles { cert: base.join(CERT), key: base.join(KEY) });
    }
    pairs
}

/// One certificate in use: for metrics and status pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The file it came from.
    pub file: PathBuf,
    /// Its DNS names, lower-case.
    pub names: Vec<String>,
    /// The last second in which it is valid, since the Unix epoch.
    pub not_after: u64,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// New certificates or settings are in use; with what is still worth a warning.
    Replaced(Vec<Problem>),
    /// The files are as before.
    Unchanged,
}

/// The certificates in use and the server's configuration over them.
///
/// A reload replaces certificates under the running configuration: handshakes under way finish with
/// what they began with, and session tickets stay good.
#[derive(Debug)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    resolver: Arc<Resolver>,
    clock: Clock,
    built: ArcSwap<Built>,
}

#[derive(Debug)]
struct Built {
    min_version: MinVersion,
    ticket_secret: Option<TicketSecret>,
    tickets: Tickets,
    config: Arc<ServerConfig>,
}

/// Who makes session tickets.
#[derive(Clone, Debug)]
enum Tickets {
    /// This process, with random keys that change every 6 h.
    Own(Arc<dyn ProducesTickets>),
    /// All gateways with the same secret.
    Shared(Arc<SharedTickets>),
}

impl Tickets {
    /// As `secret` says; those of `former` when they are the same.
    fn new(
        secret: Option<&Secret>,
        former: Option<&Self>,
        clock: &Clock,
    ) -> Result<Self, rustls::Error> {
        Ok(match (secret, former) {
            (None, Some(Self::Own(own))) => Self::Own(Arc::clone(own)),
            (None, _) => Self::Own(aws_lc_rs::Ticketer::new()?),
            (Some(secret), Some(Self::Shared(shared))) if shared.is_under(secret) => {
                Self::Shared(Arc::clone(shared))
            }
            (Some(secret), _) => Self::Shared(Arc::new(SharedTickets::new(secret, clock.clone())?)),
        })
    }

    fn producer(&self) -> Arc<dyn ProducesTickets> {
        match self {
            Self::Own(own) => Arc::clone(own),
            Self::Shared(shared) => Arc::<SharedTickets>::clone(shared),
        }
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.producer(), &other.producer())
    }
}

impl Tls {
    /// Reads the certificates, after making the first pair when the settings ask for it. `hosts` are
    /// the names under which the gateway is reached.
    ///
    /// # Errors
    /// Everything that keeps a certificate from being served.
    pub fn load(
        settings: &Settings,
        hosts: &[String],
        clock: &Clock,
    ) -> Result<Self, Vec<Problem>> {
        if let Some(files) = settings.to_make() {
            self_signed::make(files, hosts, clock.now()).map_err(|problem| vec![problem])?;
            tracing::info!(cert = %files.cert.display(), "made a self-signed certificate");
        }
        let provider = provider();
        let (pairs, secret) = settings.contents(&settings.certificates, &provider)?;
        let failed = |error: rustls::Error| {
            vec![about(&settings.first().cert, format!("cannot set up TLS: {error}"), "")]
        };
        let resolver = Arc::new(Resolver::new(Table::new(pairs)));
        let tickets = Tickets::new(secret.as_ref(), None, clock).map_err(failed)?;
        let built = build(settings, &provider, &resolver, tickets).map_err(failed)?;
        let (built, clock) = (ArcSwap::from_pointee(built), clock.clone());
        Ok(Self { provider, resolver, clock, built })
    }

    /// Whether [`Tls::load`] would succeed, without writing anything; gives the warnings.
    ///
    /// # Errors
    /// Everything that keeps a certificate from being served.
    pub fn check(
        settings: &Settings,
        hosts: &[String],
        now: UnixMs,
    ) -> Result<Vec<Problem>, Vec<Problem>> {
        let to_make = settings.to_make();
        let skip = usize::from(to_make.is_some());
        let files = settings.certificates.get(skip..).unwrap_or_default();
        let (pairs, _) = settings.contents(files, &provider())?;
        let table = Table::new(pairs);
        // The pair that is still to be made will name every host.
        let mut found = warnings(&table, if to_make.is_some() { &[] } else { hosts }, now);
        found.extend(settings.ticket_secret.as_ref().and_then(TicketSecret::warning));
        Ok(found)
    }

    /// Reads the certificates and the ticket secret again and puts them to use. `settings` may be newer
    /// than those at the start; nothing is made anew.
    ///
    /// # Errors
    /// Everything that is wrong with the new state; the old one stays in use.
    pub fn reload(
        &self,
        settings: &Settings,
        hosts: &[String],
        now: UnixMs,
    ) -> Result<Reload, Vec<Problem>> {
        let (pairs, secret) = settings.contents(&settings.certificates, &self.provider)?;
        let failed =
            |error: rustls::Error| vec![about(&settings.first().cert, error.to_string(), "")];
        let built = self.built.load();
        let tickets = Tickets::new(secret.as_ref(), Some(&built.tickets), &self.clock);
        let tickets = tickets.map_err(failed)?;
        let same_config = built.min_version == settings.min_version && built.tickets.is(&tickets);
        let old = self.resolver.table();
        let same = |(a, b): (&Pair, &Pair)| a.files == b.files && a.digest == b.digest;
        let same_pairs = old.pairs.len() == pairs.len() && old.pairs.iter().zip(&pairs).all(same);
        if same_config && same_pairs {
            return Ok(Reload::Unchanged);
        }
        if !same_config {
            let built = build(settings, &self.provider, &self.resolver, tickets);
            let built = built.map_err(failed)?;
            self.built.store(Arc::new(built));
        }
        self.resolver.replace(Table::new(pairs));
        Ok(Reload::Replaced(self.warnings(hosts, now)))
    }

    /// The configuration for the next handshake; ask anew for each.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.built.load().config)
    }

    /// The certificates in use, in the order of the settings.
    pub fn certificates(&self) -> Vec<CertificateInfo> {
        let table = self.resolver.table();
        let info = |pair: &Pair| CertificateInfo {
            file: pair.files.cert.clone(),
            names: pair.names.clone(),
            not_after: pair.validity.not_after,
        };
        table.pairs.iter().map(info).collect()
    }

    /// What visitors will stumble over: expired certificates, `hosts` that none of them names, keys
    /// and secrets that every user of the machine can read.
    pub fn warnings(&self, hosts: &[String], now: UnixMs) -> Vec<Problem> {
        let mut found = warnings(&self.resolver.table(), hosts, now);
        found.extend(self.built.load().ticket_secret.as_ref().and_then(TicketSecret::warning));
        found
    }
}

impl Settings {
    fn to_make(&self) -> Option<&PairFiles> {
        self.certificates.first().filter(|files| self.self_signed && self_signed::wanted(files))
    }

    /// What the files hold now: `pairs` and the ticket secret; all that is wrong with them.
    fn contents(
        &self,
        pairs: &[PairFiles],
        provider: &CryptoProvider,
    ) -> Result<(Vec<Pair>, Option<Secret>), Vec<Problem>> {
        let secret = self.ticket_secret.as_ref().map(TicketSecret::current).transpose();
        match (read_pairs(pairs, provider), secret) {
            (Ok(pairs), Ok(secret)) => Ok((pairs, secret)),
            (Err(problems), Ok(_)) => Err(problems),
            (Ok(_), Err(problem)) => Err(vec![problem]),
            (Err(mut problems), Err(problem)) => {
                problems.push(problem);
                Err(problems)
            }
        }
    }

    /// The first pair, for problems that concern none in particular.
    fn first(&self) -> PairFiles {
        let none = || PairFiles { cert: PathBuf::from("tls"), key: PathBuf::new() };
        self.certificates.first().cloned().unwrap_or_else(none)
    }
}

fn read_pairs(files: &[PairFiles], provider: &CryptoProvider) -> Result<Vec<Pair>, Vec<Problem>> {
    let mut pairs = Vec::with_capacity(files.len());
    let mut problems = Vec::new();
    for files in files {
        match Pair::read(files, provider) {
            Ok(pair) => pairs.push(pair),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(pairs) } else { Err(problems) }
}

fn warnings(table: &Table, hosts: &[String], now: UnixMs) -> Vec<Problem> {
    let mut found: Vec<_> = table.pairs.iter().flat_map(|pair| pair.warnings(now)).collect();
    let Some(first) = table.pairs.first() else {
        return found;
    };
    for host in hosts {
        // Addresses come without SNI and get the first certificate.
        let is_address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        if !is_address && table.named(&host.to_ascii_lowercase()).is_none() {
            found.push(about(
                &first.files.cert,
                format!("no certificate names the host {host}: browsers will warn"),
                "add a certificate for it to `tls.certificates`, or correct `server.public_url`",
            ));
        }
    }
    found
}

/// The one provider: key exchange with the hybrid X25519MLKEM768 first, then X25519, P-256, P-384;
/// AEAD suites with forward secrecy only.
fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    Arc::new(CryptoProvider {
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    })
}

fn build(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
    resolver: &Arc<Resolver>,
    tickets: Tickets,
) -> Result<Built, rustls::Error> {
    let versions: &[_] = match settings.min_version {
        MinVersion::Tls12 => &[&TLS13, &TLS12],
        MinVersion::Tls13 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(resolver) as _);
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    config.ticketer = tickets.producer();
    // Browsers use one; each costs a record and an encryption per connection.
    config.send_tls13_tickets = 1;
    // Tickets carry the state: nothing to keep per client.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Early data can be replayed: a login or a payment twice (RFC 8446 section 8).
    config.max_early_data_size = 0;
    Ok(Built {
        min_version: settings.min_version,
        ticket_secret: settings.ticket_secret.clone(),
        tickets,
        config: Arc::new(config),
    })
}
