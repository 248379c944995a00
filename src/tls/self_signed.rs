//! Makes a self-signed certificate for a first try on one's own machine.
//!
//! Touches nothing that exists: it writes only when neither file is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::PairFiles;
use super::pair::about;
use crate::clock::UnixMs;
use crate::section::Problem;

/// Some programs refuse certificates that live longer.
const LIFETIME: Duration = Duration::days(397);
/// Programs in a container or on another machine may have a clock that is a little behind.
const LEEWAY: Duration = Duration::hours(1);
/// Names under which one's own machine is reached.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Whether `files` are to be made: neither exists.
pub(super) fn wanted(files: &PairFiles) -> bool {
    !files.cert.exists() && !files.key.exists()
}

/// Makes `files` for `hosts` (names or addresses) and the names of the own machine.
///
/// # Errors
/// When a name cannot stand in a certificate, or a file cannot be written.
pub(super) fn make(files: &PairFiles, hosts: &[String], now: UnixMs) -> Result<(), Problem> {
    let (cert, key) = issue(hosts, now).map_err(|error| {
        let what = format!("cannot make a self-signed certificate for {hosts:?}: {error}");
        about(&files.cert, what, "correct the host in `server.public_url`")
    })?;
    // The key first: after a crash in between, the next start says that the certificate is missing
    // and does not serve half a pair.
    for (file, text, mode) in [(&files.key, key.as_str(), 0o600), (&files.cert, &cert, 0o644)] {
        write(file, text, mode).map_err(|error| {
            let remedy = "make the directory writable for the gateway's user, or give own files";
            about(file, format!("cannot write the self-signed certificate: {error}"), remedy)
        })?;
    }
    Ok(())
}

fn issue(hosts: &[String], now: UnixMs) -> Result<(String, Zeroizing<String>), rcgen::Error> {
    let mut names: Vec<String> = Vec::new();
    for host in hosts.iter().map(String::as_str).chain(LOCAL) {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if !names.contains(&host) {
            names.push(host);
        }
    }
    let common = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common);
    let seconds = i64::try_from(now.seconds()).unwrap_or(i64::MAX);
    let now = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| rcgen::Error::Time)?;
    params.not_before = now.checked_sub(LEEWAY).ok_or(rcgen::Error::Time)?;
    params.not_after = params.not_before.checked_add(LIFETIME).ok_or(rcgen::Error::Time)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

/// Writes `file` so that it is there as a whole or not at all.
fn write(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let draft = directory.join(format!(".{name}.{}", std::process::id()));
    // Left by a crash: in a container the process number is always the same.
    let _ = fs::remove_file(&draft);
    let result = (|| {
        let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&draft, file)?;
        File::open(directory)?.sync_all()
    })();
    if result.is_err() {
        // Best effort: the error that matters is the one above.
        let _ = fs::remove_file(&draft);
    }
    result
}
