//! TLS towards upstreams: whom we trust there.
//!
//! Makes configurations; opens no connection.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::pair::{about, read_chain, read_file};
use super::provider;
use crate::section::Problem;

/// A client configuration that trusts exactly the certificates in `ca`, or the machine's own set
/// when there is none. `alpn` lists the protocols to offer, best first.
///
/// # Errors
/// When nothing could be trusted: a missing or broken file, or a machine without certificates. It
/// never falls back from one to the other.
pub fn client_config(ca: Option<&Path>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, Problem> {
    let roots = match ca {
        Some(file) => file_roots(file)?,
        None => native_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| about(Path::new("tls"), error.to_string(), ""))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn file_roots(file: &Path) -> Result<RootCertStore, Problem> {
    let (pem, _) = read_file(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(file, &pem)? {
        roots.add(certificate).map_err(|error| {
            let what = format!("a certificate in the file cannot be a trust anchor: {error}");
            about(file, what, "give the certificate of the authority that signed the upstream's")
        })?;
    }
    Ok(roots)
}

fn native_roots() -> Result<RootCertStore, Problem> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the machine's trusted certificates cannot be read");
    }
    let mut roots = RootCertStore::empty();
    // Sets of real machines hold a few odd certificates; they are left out.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err(about(
            Path::new("/etc/ssl/certs"),
            "the machine has no trusted certificates",
            "install the package ca-certificates, or name the upstream's authority with `ca`",
        ));
    }
    Ok(roots)
}
