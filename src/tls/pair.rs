//! Reads one certificate with its key and checks that the two can be served.
//!
//! What cannot be served is refused; what will trouble visitors is a warning. Writes nothing.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;
use zeroize::Zeroizing;

use super::PairFiles;
use super::validity::{Validity, validity};
use crate::clock::UnixMs;
use crate::secret::sha256;
use crate::section::{Problem, open_file};

/// A certificate file is a few KiB; a bigger one is some other file.
const MAX_FILE: u64 = 1 << 20;
/// A certificate with less time than this left is worth a warning: 7 days in seconds.
const SOON: u64 = 7 * 86_400;

/// A usable certificate with its key.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) files: PairFiles,
    pub(super) key: Arc<CertifiedKey>,
    /// The DNS names in the certificate, lower-case; wildcards as `*.example.com`.
    pub(super) names: Vec<String>,
    pub(super) validity: Validity,
    /// Tells whether the files have changed.
    pub(super) digest: [[u8; 32]; 2],
    key_is_public: bool,
}

impl Pair {
    /// Reads and checks `files`.
    ///
    /// # Errors
    /// The one thing that is wrong with them.
    pub(super) fn read(files: &PairFiles, provider: &CryptoProvider) -> Result<Self, Problem> {
        let (cert, key) = (&files.cert, &files.key);
        let (chain_pem, _) = read_file(cert).map_err(|problem| beside(problem, cert, key))?;
        let (key_pem, mode) = read_file(key).map_err(|problem| beside(problem, key, cert))?;
        let chain = read_chain(&files.cert, &chain_pem)?;
        let key = read_key(&files.key, &key_pem)?;
        let (names, validity) = read_leaf(&files.cert, &chain)?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => about(
                &files.cert,
                format!("the certificate does not belong to the key {}", files.key.display()),
                "give the two files that were issued together; in the certificate file the \
                 server's own certificate comes first",
            ),
            error => about(
                &files.key,
                format!("the key cannot be used: {error}"),
                "use an ECDSA (P-256, P-384), Ed25519 or RSA (2048 bit and more) key",
            ),
        })?;
        Ok(Self {
            files: files.clone(),
            key: Arc::new(key),
            names,
            validity,
            digest: [sha256(&chain_pem), sha256(&key_pem)],
            key_is_public: mode & 0o004 != 0,
        })
    }

    /// What visitors or attackers will notice, although the pair can be served.
    pub(super) fn warnings(&self, now: UnixMs) -> Vec<Problem> {
        let mut found = Vec::new();
        let Validity { not_before, not_after } = self.validity;
        let seconds = now.seconds();
        let renew =
            "renew it and put the new files in the same place; they are picked up at reload";
        if seconds > not_after {
            let what = format!("the certificate expired on {}", day(not_after));
            found.push(about(&self.files.cert, what, renew));
        } else if seconds < not_before {
            let what = format!("the certificate is not valid before {}", day(not_before));
            let remedy = "check the machine's clock, or use a certificate that is valid now";
            found.push(about(&self.files.cert, what, remedy));
        } else if not_after - seconds < SOON {
            let what = format!("the certificate expires on {}", day(not_after));
            found.push(about(&self.files.cert, what, renew));
        }
        if self.names.is_empty() {
            found.push(about(
                &self.files.cert,
                "the certificate names no host (no DNS name among its alternative names)",
                "issue it with the host name as a subject alternative name",
            ));
        }
        if self.key_is_public {
            let remedy = format!("run: chmod 600 {}", self.files.key.display());
            found.push(about(
                &self.files.key,
                "every user of the machine can read the key",
                remedy,
            ));
        }
        found
    }
}

/// A problem with a whole file.
pub(super) fn about(file: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { file: file.to_owned(), line: 0, column: 0, what: what.into(), remedy: remedy.into() }
}

/// The same problem; where only `file` of two is missing, no pair is made until `other` has gone, too.
fn beside(problem: Problem, file: &Path, other: &Path) -> Problem {
    if file.exists() || !other.exists() {
        return problem;
    }
    let remedy = format!(
        "put it there; or remove {}, too, and a new pair is made by `self_signed = true` in [tls]",
        other.display()
    );
    Problem { remedy, ..problem }
}

/// The content of `file` and its permission bits.
pub(super) fn read_file(file: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), Problem> {
    let read = || -> io::Result<(Zeroizing<Vec<u8>>, u32)> {
        let opened = open_file(file)?;
        let mode = opened.metadata()?.mode();
        let mut bytes = Zeroizing::new(Vec::new());
        opened.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        Ok((bytes, mode))
    };
    let (bytes, mode) = read().map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "correct the path, or set `self_signed = true` in [tls] to have a pair made for \
                 trying things out"
            }
            _ => "make the file readable for the gateway's user",
        };
        about(file, format!("cannot read the file: {error}"), remedy)
    })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(about(file, "the file is larger than 1 MiB", "name a PEM file here"));
    }
    Ok((bytes, mode))
}

/// The certificates in `pem`, at least one.
pub(super) fn read_chain(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let chain: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(pem).collect();
    let remedy = "name a PEM file with -----BEGIN CERTIFICATE----- lines";
    match chain {
        Ok(chain) if chain.is_empty() => Err(about(file, "no certificate in the file", remedy)),
        Ok(chain) => Ok(chain),
        Err(error) => Err(about(file, format!("not a PEM file: {error}"), remedy)),
    }
}

pub(super) fn read_key(file: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        // PKCS #8 names the block so; the older form has a `Proc-Type: 4,ENCRYPTED` line.
        if pem.windows(9).any(|window| window == b"ENCRYPTED") {
            let remedy = "decrypt it: openssl pkey -in encrypted.key -out plain.key";
            return about(file, "the key is encrypted with a passphrase", remedy);
        }
        let what = match error {
            PemError::NoItemsFound => "no private key in the file".to_owned(),
            error => format!("not a PEM file: {error}"),
        };
        about(file, what, "name a PEM file with -----BEGIN PRIVATE KEY----- lines")
    })
}

fn read_leaf(
    file: &Path,
    chain: &[CertificateDer<'static>],
) -> Result<(Vec<String>, Validity), Problem> {
    let leaf = chain.first().ok_or_else(|| about(file, "no certificate in the file", ""))?;
    let unusable = |why: String| {
        let what = format!("the certificate cannot be used: {why}");
        about(file, what, "use an X.509 version 3 server certificate")
    };
    let parsed = EndEntityCert::try_from(leaf).map_err(|error| unusable(error.to_string()))?;
    let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
    let validity = validity(leaf).ok_or_else(|| unusable("it has no dates".to_owned()))?;
    Ok((names, validity))
}

/// The date of a Unix time in seconds, such as `2026-01-02`.
fn day(seconds: u64) -> String {
    let text = UnixMs(seconds.saturating_mul(1000)).rfc3339();
    text.split('T').next().unwrap_or_default().to_owned()
}
