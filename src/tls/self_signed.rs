//! Makes a self-signed certificate for a first try on one's own machine.
//!
//! Touches nothing that exists: it writes only when neither file is there, or a key of its own alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::PairFiles;
use super::pair::{about, read_file};
use crate::clock::UnixMs;
use crate::secret::random;
use crate::section::Problem;

/// Some programs refuse certificates that live longer.
const LIFETIME: Duration = Duration::days(397);
/// Programs in a container or on another machine may have a clock that is a little behind.
const LEEWAY: Duration = Duration::hours(1);
/// Names under which one's own machine is reached.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The first line of a key that was made here: a certificate may be made for it, and for no other.
const MARK: &str = "Made by Portcullis, for `self_signed = true`.\n";

/// Whether something of `files` is to be made: neither exists, or only a key that was made here.
pub(super) fn wanted(files: &PairFiles) -> bool {
    !files.cert.exists() && (!files.key.exists() || is_ours(&files.key))
}

fn is_ours(key: &Path) -> bool {
    read_file(key).is_ok_and(|(pem, _)| pem.starts_with(MARK.as_bytes()))
}

/// Makes what is missing of `files` for `hosts` (names or addresses) and the names of the own machine.
///
/// # Errors
/// When a name cannot stand in a certificate, or a file cannot be written.
pub(super) fn make(files: &PairFiles, hosts: &[String], now: UnixMs) -> Result<(), Problem> {
    let failed = |error: rcgen::Error| {
        let what = format!("cannot make a self-signed certificate for {hosts:?}: {error}");
        about(&files.cert, what, "correct the host in `server.public_url`")
    };
    let params = params(hosts, now).map_err(failed)?;
    if !files.key.exists() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let text =
            Zeroizing::new(format!("{MARK}{}", Zeroizing::new(key.serialize_pem()).as_str()));
        write(&files.key, &text, 0o600)?;
    }
    // The one that is there now: of starts at the same time, the first has made it, and whatever certificate stays
    // in the end belongs to it. After a crash in between, the next start goes on here.
    let key = read_own_key(&files.key)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    write(&files.cert, &certificate.pem(), 0o644)
}

fn read_own_key(file: &Path) -> Result<KeyPair, Problem> {
    let (pem, _) = read_file(file)?;
    let key = std::str::from_utf8(&pem).ok().and_then(|text| KeyPair::from_pem(text).ok());
    key.ok_or_else(|| {
        let remedy = format!("remove {} to have a new pair made", file.display());
        about(file, "no certificate can be made for this key", remedy)
    })
}

fn params(hosts: &[String], now: UnixMs) -> Result<CertificateParams, rcgen::Error> {
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
    Ok(params)
}

/// Writes `file` so that it is there as a whole or not at all. One that is there stays.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), Problem> {
    create(file, text, mode).map_err(|error| {
        let remedy = "make the directory writable for the gateway's user, or give own files";
        about(file, format!("cannot write the self-signed certificate: {error}"), remedy)
    })
}

fn create(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let name = file.file_name().ok_or(ErrorKind::InvalidInput)?.to_string_lossy();
    // In containers over one directory the process number is the same.
    let unique = u64::from_ne_bytes(random().map_err(io::Error::other)?);
    let draft = directory.join(format!(".{name}.{unique:016x}"));
    let result = (|| {
        let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        keep(&draft, file)?;
        File::open(directory)?.sync_all()
    })();
    // Best effort: it is there only when it did not become the file.
    let _ = fs::remove_file(&draft);
    result
}

/// Gives `draft` its name, unless somebody else was first.
fn keep(draft: &Path, file: &Path) -> io::Result<()> {
    match renameat_with(CWD, draft, CWD, file, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Ok(()),
        // Some file systems cannot refuse to replace; two first starts at once are rare there.
        Err(Errno::INVAL | Errno::NOSYS) if !file.exists() => fs::rename(draft, file),
        Err(Errno::INVAL | Errno::NOSYS) => Ok(()),
        done => Ok(done?),
    }
}
