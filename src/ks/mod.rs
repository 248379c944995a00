//! Kaltura sessions (KS): texts that prove themselves by a secret of a partner.
//!
//! Pure: bytes to fields and back. Knows no clock, no store and no partner; whether a KS may be used
//! is the session core's to say. Version 2 is written and read, version 1 is only read: its digest is
//! SHA-1 over secret and message, which whoever has one KS can extend.

mod privileges;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::secret::{Secret, same};

pub use self::privileges::{MAX_PRIVILEGES, Privilege, TooManyPrivileges, privileges};
pub use self::v2::seal;

/// Longest text that is read as a KS, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// Most digits of a partner id.
const MAX_PARTNER: usize = 18;
/// Bytes of a SHA-1.
const SHA1: usize = 20;

/// Why a text opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KsError {
    /// The text is not a KS, or a sound KS says what cannot be.
    #[error("this is not a Kaltura session")]
    Malformed,
    /// The text was not sealed with this secret, or was changed since.
    #[error("this Kaltura session was not sealed with this secret")]
    Unsound,
}

/// Version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Signed only.
    V1,
    /// Signed and encrypted.
    V2,
}

/// What a KS is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KsKind {
    /// A user of the partner.
    #[default]
    User = 0,
    /// An anonymous widget. Written by some tools; usually a user KS with the privilege `widget`.
    Widget = 1,
    /// An administrator of the partner.
    Admin = 2,
}

impl KsKind {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "0" => Some(Self::User),
            "1" => Some(Self::Widget),
            "2" => Some(Self::Admin),
            _ => None,
        }
    }
}

/// What a KS says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// When it ends, in seconds since the epoch.
    pub expires: u64,
    /// What it is for.
    pub kind: KsKind,
    /// The partner's id of the user, may be empty.
    pub user: String,
    /// Privileges, comma-separated `name[:value]`: see [`privileges`].
    pub privileges: String,
    /// Id of the partner on whose behalf the session is.
    pub master: Option<String>,
    /// Data that the issuer added.
    pub data: Option<String>,
}

/// A text that has the form of a KS; nothing in it is verified.
#[derive(Clone)]
pub struct Ks {
    bytes: Vec<u8>,
    version: Version,
    partner: String,
}

impl Ks {
    /// Reads a KS: base64 in either alphabet, with or without padding, at most [`MAX_LENGTH`] bytes.
    ///
    /// # Errors
    /// [`KsError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, KsError> {
        if text.len() > MAX_LENGTH {
            return Err(KsError::Malformed);
        }
        let text: String = text
            .chars()
            .map(|letter| match letter {
                '+' => '-',
                '/' => '_',
                other => other,
            })
            .collect();
        let bytes = READ.decode(text).map_err(|_| KsError::Malformed)?;
        let (version, partner) = match bytes.strip_prefix(b"v2|") {
            Some(rest) => (Version::V2, v2::partner(rest)),
            None => (Version::V1, v1::partner(&bytes)),
        };
        let partner = partner.ok_or(KsError::Malformed)?.to_owned();
        Ok(Self { bytes, version, partner })
    }

    /// Id of the partner that it claims to be of: decimal, without leading zeros.
    pub fn partner(&self) -> &str {
        &self.partner
    }

    /// Version of its format.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What tells it from every other KS, however its base64 is spelled.
    pub fn identity(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says, when it was sealed with `secret`.
    ///
    /// # Errors
    /// [`KsError::Unsound`] when it was not; [`KsError::Malformed`] when it was, but makes no sense.
    pub fn open(&self, secret: &Secret) -> Result<Fields, KsError> {
        match self.version {
            Version::V1 => v1::open(&self.bytes, secret),
            Version::V2 => v2::open(&self.bytes, secret),
        }
    }

    /// By what Kaltura's servers know an ended KS: hex of its SHA-1.
    ///
    /// # Errors
    /// As [`Ks::open`].
    pub fn revocation_key(&self, secret: &Secret) -> Result<String, KsError> {
        match self.version {
            Version::V1 => v1::revocation_key(&self.bytes, secret),
            Version::V2 => v2::revocation_key(&self.bytes, secret),
        }
    }
}

impl fmt::Debug for Ks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ks({:?} of partner {}, ***)", self.version, self.partner)
    }
}

/// Padding may be left out; bits that mean nothing must be zero.
const READ: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `bytes` as the id of a partner: a positive decimal number in its only spelling.
fn partner_id(bytes: &[u8]) -> Option<&str> {
    let digits = bytes.iter().all(u8::is_ascii_digit);
    let canonical = bytes.first().is_some_and(|first| *first != b'0');
    if !digits || !canonical || bytes.len() > MAX_PARTNER {
        return None;
    }
    str::from_utf8(bytes).ok()
}

fn sha1(parts: &[&[u8]]) -> [u8; SHA1] {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; SHA1];
    hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(nibble.into(), 16));
        }
        text
    })
}

fn check(computed: &[u8], claimed: &[u8]) -> Result<(), KsError> {
    same(computed, claimed).then_some(()).ok_or(KsError::Unsound)
}
