//! TLS towards apps and the store: whom we trust there.
//!
//! Makes configurations; opens no connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::pair::{about, read_chain, read_file, read_key};
use super::provider;
use crate::section::Problem;

/// A client configuration that trusts exactly the certificates in `ca`, or the machine's own set
/// when there is none. `alpn` lists the protocols to offer, best first.
///
/// # Errors
/// When nothing could be trusted: a missing or broken file, or a machine without certificates. It
/// never falls back from one to the other.
pub fn client_config(ca: Option<&Path>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, Problem> {
    client_config_with(ca, None, alpn)
}

/// A certificate to show to servers, with its key; both PEM.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    /// Certificate, and the intermediates behind it.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// As [`client_config`], with a certificate to show to servers that ask for one.
///
/// # Errors
/// As [`client_config`], and when certificate and key cannot be used.
pub fn client_config_with(
    ca: Option<&Path>,
    client: Option<&ClientFiles>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, Problem> {
    let roots = match ca {
        Some(file) => file_roots(file)?,
        None => native_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| about(Path::new("tls"), error.to_string(), ""))?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = (read_file(&files.cert)?.0, read_file(&files.key)?.0);
            let (chain, key) = (read_chain(&files.cert, &chain)?, read_key(&files.key, &key)?);
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let what = format!("the certificate cannot be shown to servers: {error}");
                about(&files.cert, what, "give a certificate and the key that belongs to it")
            })?
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn file_roots(file: &Path) -> Result<RootCertStore, Problem> {
    let (pem, _) = read_file(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(file, &pem)? {
        roots.add(certificate).map_err(|error| {
            let what = format!("a certificate in the file cannot be a trust anchor: {error}");
            about(file, what, "give the certificate of the authority that signed the server's")
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
            "install the package ca-certificates, or name the server's authority with `ca`",
        ));
    }
    Ok(roots)
}
