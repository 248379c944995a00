//! Version 2: `v2|<partner>|<ciphertext>`, in URL-safe base64 with padding.
//!
//! The ciphertext is AES-128-CBC with a zero IV and NUL padding; the key is the front of the SHA-1 of
//! the secret. The plaintext is SHA-1 over the rest, 16 random bytes, and the fields as in a form.

use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;

use super::privileges::privileges;
use super::{Fields, KsError, KsKind, SHA1, check, hex, partner_id, sha1};
use crate::secret::Secret;

const BLOCK: usize = 16;
const RANDOM: usize = 16;
/// What stays as it is in a form, besides letters and digits, whoever encodes it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b' ');

/// Seals a KS of version 2 for a partner. `random` must be fresh: it makes every KS another one.
///
/// Privileges are written as [`privileges`] reads them; of more than
/// [`MAX_PRIVILEGES`](super::MAX_PRIVILEGES) the text is empty, as it is in the case that the library
/// for ciphers fails.
pub fn seal(partner: &str, fields: &Fields, secret: &Secret, random: [u8; RANDOM]) -> String {
    let sealed = encode(fields).and_then(|form| {
        let digest = sha1(&[&random, form.as_bytes()]);
        let mut bytes = Vec::with_capacity(SHA1 + RANDOM + form.len() + BLOCK);
        bytes.extend_from_slice(&digest);
        bytes.extend_from_slice(&random);
        bytes.extend_from_slice(form.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        encrypt(&mut bytes, secret)?;
        Some(bytes)
    });
    let Some(sealed) = sealed else { return String::new() };
    let mut whole = format!("v2|{partner}|").into_bytes();
    whole.extend(sealed);
    URL_SAFE.encode(whole)
}

/// The partner that it names, `rest` being what follows `v2|`.
pub(super) fn partner(rest: &[u8]) -> Option<&str> {
    let (partner, ciphertext) = split(rest)?;
    let whole = ciphertext.len().is_multiple_of(BLOCK) && ciphertext.len() > SHA1 + RANDOM;
    partner_id(partner).filter(|_| whole)
}

pub(super) fn open(bytes: &[u8], secret: &Secret) -> Result<Fields, KsError> {
    let plain = verified(bytes, secret)?;
    let form = plain.get(SHA1 + RANDOM..).ok_or(KsError::Malformed)?;
    let form = str::from_utf8(form).map_err(|_| KsError::Malformed)?;
    decode(form).ok_or(KsError::Malformed)
}

pub(super) fn revocation_key(bytes: &[u8], secret: &Secret) -> Result<String, KsError> {
    let plain = verified(bytes, secret)?;
    Ok(hex(plain.get(..SHA1).ok_or(KsError::Malformed)?))
}

/// The plaintext without its padding, when its digest is right.
fn verified(bytes: &[u8], secret: &Secret) -> Result<Vec<u8>, KsError> {
    let rest = bytes.strip_prefix(b"v2|").ok_or(KsError::Malformed)?;
    let (_, ciphertext) = split(rest).ok_or(KsError::Malformed)?;
    let mut plain = ciphertext.to_vec();
    decrypt(&mut plain, secret).ok_or(KsError::Unsound)?;
    let padding = plain.iter().rev().take_while(|byte| **byte == 0).count();
    plain.truncate(plain.len() - padding);
    let (claimed, rest) = plain.split_at_checked(SHA1).ok_or(KsError::Unsound)?;
    check(&sha1(&[rest]), claimed)?;
    // One plaintext has one ciphertext.
    if padding >= BLOCK {
        return Err(KsError::Malformed);
    }
    Ok(plain)
}

fn split(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let bar = memchr::memchr(b'|', rest)?;
    Some((rest.get(..bar)?, rest.get(bar + 1..)?))
}

fn key(secret: &Secret) -> Option<UnboundCipherKey> {
    let hash = sha1(&[secret.expose().as_bytes()]);
    UnboundCipherKey::new(&AES_128, hash.get(..16)?).ok()
}

fn encrypt(bytes: &mut [u8], secret: &Secret) -> Option<()> {
    let key = EncryptingKey::cbc(key(secret)?).ok()?;
    let iv = EncryptionContext::Iv128(FixedLength::from([0; BLOCK]));
    key.less_safe_encrypt(bytes, iv).ok().map(drop)
}

fn decrypt(bytes: &mut [u8], secret: &Secret) -> Option<()> {
    let key = DecryptingKey::cbc(key(secret)?).ok()?;
    let iv = DecryptionContext::Iv128(FixedLength::from([0; BLOCK]));
    key.decrypt(bytes, iv).ok().map(drop)
}

fn encode(fields: &Fields) -> Option<String> {
    let mut form = String::new();
    let mut put = |name: &str, value: &str| {
        if !form.is_empty() {
            form.push('&');
        }
        escape(name, &mut form);
        form.push('=');
        escape(value, &mut form);
    };
    for privilege in privileges(&fields.privileges).ok()? {
        put(privilege.name, privilege.value);
    }
    put("_e", &fields.expires.to_string());
    put("_t", &(fields.kind as u8).to_string());
    put("_u", &fields.user);
    for (name, value) in [("_m", &fields.master), ("_d", &fields.data)] {
        if let Some(value) = value {
            put(name, value);
        }
    }
    Some(form)
}

fn escape(text: &str, form: &mut String) {
    for piece in utf8_percent_encode(text, ENCODED) {
        form.extend(piece.chars().map(|letter| if letter == ' ' { '+' } else { letter }));
    }
}

fn decode(form: &str) -> Option<Fields> {
    let mut fields = Fields::default();
    let (mut expires, mut kind) = (None, None);
    let mut privileges: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(form.as_bytes()) {
        match &*name {
            "_e" => expires = Some(value.parse().ok()?),
            "_t" => kind = Some(KsKind::parse(&value)?),
            "_u" => fields.user = value.into_owned(),
            "_m" => fields.master = Some(value.into_owned()),
            "_d" => fields.data = Some(value.into_owned()),
            _ => privileges.push((name.into_owned(), value.into_owned())),
        }
    }
    let text = privileges.iter().map(|(name, value)| match value.as_str() {
        "" => name.clone(),
        value => format!("{name}:{value}"),
    });
    fields.privileges = text.collect::<Vec<_>>().join(",");
    fields.expires = expires?;
    fields.kind = kind?;
    Some(fields)
}
