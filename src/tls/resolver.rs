//! Chooses the certificate for a handshake by the name that the client asks for (SNI, RFC 6066).
//!
//! Holds what was loaded and checked elsewhere; reads no file.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::Pair;

/// The pairs of one generation, by name.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) pairs: Vec<Pair>,
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By the part behind `*.`.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Table {
    pub(super) fn new(pairs: Vec<Pair>) -> Self {
        let mut table = Self::default();
        for pair in &pairs {
            for name in &pair.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut table.wildcard, parent),
                    None => (&mut table.exact, name.as_str()),
                };
                map.entry(name.to_owned()).or_default().push(Arc::clone(&pair.key));
            }
        }
        Self { pairs, ..table }
    }

    /// The pairs that name `host`, best first; an exact name beats a wildcard. `None`: no pair does.
    pub(super) fn named(&self, host: &str) -> Option<&[Arc<CertifiedKey>]> {
        // A wildcard stands for exactly one label (RFC 6125 section 6.4.3).
        let wildcard = || self.wildcard.get(host.split_once('.')?.1);
        self.exact.get(host).or_else(wildcard).map(Vec::as_slice)
    }
}

/// Where rustls asks; its table is replaced as a whole.
#[derive(Debug)]
pub(super) struct Resolver(ArcSwap<Table>);

impl Resolver {
    pub(super) fn new(table: Table) -> Self {
        Self(ArcSwap::from_pointee(table))
    }

    pub(super) fn table(&self) -> Arc<Table> {
        self.0.load_full()
    }

    pub(super) fn replace(&self, table: Table) {
        self.0.store(Arc::new(table));
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.0.load();
        // rustls has lower-cased the name. An unknown one still gets a certificate: the client then
        // sees which names there are, and the request is refused later by its Host.
        let named = hello.server_name().and_then(|host| table.named(host));
        let Some(named) = named else {
            return table.pairs.first().map(|pair| Arc::clone(&pair.key));
        };
        // Two pairs of one name differ in key type: an old client may know only RSA.
        let usable =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        named.iter().find(usable).or(named.first()).cloned()
    }
}
