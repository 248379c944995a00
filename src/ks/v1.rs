//! Version 1: `<hex of SHA-1 over secret and info>|<info>`, in base64. Never written.
//!
//! Info is `partner;partner;expiry;type;random[;user[;privileges[;master[;data]]]]`.

use super::{Fields, KsError, KsKind, SHA1, check, hex, partner_id, sha1};
use crate::secret::Secret;

/// Fields that every KS has, and most that one can have.
const FIELDS: std::ops::RangeInclusive<usize> = 5..=9;

/// The partner that it names.
pub(super) fn partner(bytes: &[u8]) -> Option<&str> {
    let (_, info) = split(bytes)?;
    let mut fields = info.split(|byte| *byte == b';');
    let partner = partner_id(fields.next()?)?;
    // The second one says of which partners content may be used: all of them is none of ours.
    (fields.next()? == partner.as_bytes()).then_some(partner)
}

pub(super) fn open(bytes: &[u8], secret: &Secret) -> Result<Fields, KsError> {
    let info = verified(bytes, secret)?;
    let info = str::from_utf8(info).map_err(|_| KsError::Malformed)?;
    let fields: Vec<&str> = info.split(';').collect();
    if !FIELDS.contains(&fields.len()) {
        return Err(KsError::Malformed);
    }
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    let some = |at: usize| Some(field(at).to_owned()).filter(|text| !text.is_empty());
    Ok(Fields {
        expires: field(2).parse().map_err(|_| KsError::Malformed)?,
        kind: KsKind::parse(field(3)).ok_or(KsError::Malformed)?,
        user: field(5).to_owned(),
        privileges: field(6).to_owned(),
        master: some(7),
        data: some(8),
    })
}

pub(super) fn revocation_key(bytes: &[u8], secret: &Secret) -> Result<String, KsError> {
    let info = verified(bytes, secret)?;
    Ok(hex(&sha1(&[secret.expose().as_bytes(), info])))
}

fn verified<'a>(bytes: &'a [u8], secret: &Secret) -> Result<&'a [u8], KsError> {
    let (claimed, info) = split(bytes).ok_or(KsError::Malformed)?;
    let computed = hex(&sha1(&[secret.expose().as_bytes(), info]));
    check(computed.as_bytes(), claimed)?;
    Ok(info)
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (digest, rest) = bytes.split_at_checked(2 * SHA1)?;
    Some((digest, rest.strip_prefix(b"|")?))
}
