//! Session ids and bearer tokens: `<public id>.<secret>`.
//!
//! Knows nothing of carriers (cookie, header, parameter) and nothing of records.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::secret::{random, same, sha256};

/// Length of an encoded token in bytes: 22 (id) + 1 + 43 (secret).
pub const TOKEN_LENGTH: usize = 66;

/// The public id of a session. Shown by APIs and logs; never enough to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Uuid);

impl SessionId {
    /// A fresh random id.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn issue() -> Result<Self, getrandom::Error> {
        Ok(Self(uuid::Builder::from_random_bytes(random()?).into_uuid()))
    }

    /// The 16 bytes of the id: a compact store key.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Whether it follows from something: see [`SessionId::derived`].
    pub(super) fn is_derived(&self) -> bool {
        self.0.get_version_num() == 8
    }

    /// The id that follows from `parts`, for what proves itself and is not made here. It tells nothing
    /// of them: a UUID of version 8 (RFC 9562 section 5.8) made of their SHA-256.
    pub fn derived(kind: Form, parts: &[&[u8]]) -> Self {
        let mut text = Zeroizing::new(vec![kind as u8]);
        for part in parts {
            text.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            text.extend_from_slice(part);
        }
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(sha256(&text)).for_each(|(byte, hashed)| *byte = hashed);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

/// What the store keeps of a token's secret: its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a secret.
    pub fn of(secret: &[u8]) -> Self {
        Self(sha256(secret))
    }

    /// The hash that was written as unpadded base64url.
    pub fn parse(text: &str) -> Option<Self> {
        decode(text.as_bytes()).map(Self)
    }

    /// The hash as unpadded base64url.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Whether `other` is the same hash, compared in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(***)")
    }
}

impl Serialize for SecretHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        decode(text.as_bytes())
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("not a base64url SHA-256"))
    }
}

/// The forms that a token can have. The numbers are part of derived ids: never change them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Form {
    /// `<public id>.<secret>`.
    #[default]
    Own = 0,
    /// A random UUID (Versal).
    Sid = 1,
    /// A sealed text that proves itself (Kaltura session).
    Ks = 2,
    /// The secret of a key: opens a session that no store keeps.
    Key = 3,
    /// No token: the common parent of sealed sessions (their `sessionid` group).
    Group = 4,
}

/// A bearer token as its holder has it.
#[derive(Clone)]
pub struct Token {
    id: SessionId,
    secret: Bearer,
    /// Of the secret: whoever has a token wants to know it.
    hash: SecretHash,
}

#[derive(Clone)]
enum Bearer {
    Own(Zeroizing<[u8; 32]>),
    /// In the form that its holder shows.
    Text(Form, Zeroizing<String>),
}

impl Token {
    /// A token with a fresh secret for the session `id`.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn issue(id: SessionId) -> Result<Self, getrandom::Error> {
        Ok(Self::new(id, Zeroizing::new(random()?)))
    }

    /// Reads a token of our own form; `None` for anything that [`Token::encode`] would not have written.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != TOKEN_LENGTH {
            return None;
        }
        let (id, rest) = text.split_at_checked(22)?;
        let (b'.', secret) = rest.split_first()? else { return None };
        let id = SessionId(Uuid::from_bytes(decode(id)?));
        Some(Self::new(id, Zeroizing::new(decode(secret)?)))
    }

    /// A fresh token in the form of a UUID of version 4, for a session whose id follows from it.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn issue_sid() -> Result<Self, getrandom::Error> {
        Ok(Self::of_sid(uuid::Builder::from_random_bytes(random()?).into_uuid()))
    }

    /// Reads a UUID of version 4 as it is usually written: 36 characters, upper or lower case.
    pub fn parse_sid(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok().filter(|text| text.len() == 36)?;
        let sid = Uuid::try_parse(text).ok()?;
        (sid.get_version_num() == 4).then(|| Self::of_sid(sid))
    }

    fn of_sid(sid: Uuid) -> Self {
        Self::of_text(Form::Sid, sid.as_bytes(), sid.as_hyphenated().to_string())
    }

    /// A token of the form `form` that proves itself: `identity` are the bytes that tell it from every
    /// other whatever the spelling, `text` is what its holder shows.
    pub fn of_text(form: Form, identity: &[u8], text: String) -> Self {
        let hash = SecretHash::of(identity);
        let id = SessionId::derived(form, &[identity]);
        Self { id, secret: Bearer::Text(form, Zeroizing::new(text)), hash }
    }

    fn new(id: SessionId, secret: Zeroizing<[u8; 32]>) -> Self {
        let hash = SecretHash::of(secret.as_slice());
        Self { id, secret: Bearer::Own(secret), hash }
    }

    /// The session that the token claims to open.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Its form.
    pub fn form(&self) -> Form {
        match &self.secret {
            Bearer::Own(_) => Form::Own,
            Bearer::Text(form, _) => *form,
        }
    }

    /// The hash by which the record knows the secret.
    pub fn hash(&self) -> SecretHash {
        self.hash
    }

    /// The text to hand to the holder.
    pub fn encode(&self) -> Zeroizing<String> {
        let secret = match &self.secret {
            Bearer::Own(secret) => secret,
            Bearer::Text(_, text) => return text.clone(),
        };
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_LENGTH));
        URL_SAFE_NO_PAD.encode_string(self.id.as_bytes(), &mut text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(secret.as_slice(), &mut text);
        text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.***)", self.id)
    }
}

/// Decodes exactly `N` bytes of unpadded base64url, without allocation; non-canonical text is refused.
fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // The decoder asks for room in whole groups of three bytes.
    let mut room = [0; 48];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut room).ok()?;
    if length != N {
        return None;
    }
    bytes.copy_from_slice(room.get(..N)?);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_survive_the_way_out_and_back() {
        let token = Token::issue(SessionId::issue().unwrap()).unwrap();
        let text = token.encode();
        assert_eq!(text.len(), TOKEN_LENGTH);
        let back = Token::parse(text.as_bytes()).unwrap();
        assert_eq!(back.id(), token.id());
        assert!(back.hash().matches(&token.hash()));
    }

    #[test]
    fn debug_and_stored_forms_show_no_secret() {
        let token = Token::issue(SessionId::issue().unwrap()).unwrap();
        let text = token.encode();
        let secret = text.split_once('.').unwrap().1;
        assert!(!format!("{token:?}").contains(secret));
        assert!(!serde_json::to_string(&token.hash()).unwrap().contains(secret));
    }

    #[test]
    fn ids_are_uuids_of_version_4() {
        let id = SessionId::issue().unwrap();
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
        assert_eq!(id.to_string().as_bytes()[14], b'4');
    }

    #[test]
    fn sids_are_random_uuids_and_their_ids_do_not_show_them() {
        let sid = Token::issue_sid().unwrap();
        let text = sid.encode();
        let back = Token::parse_sid(text.to_uppercase().as_bytes()).unwrap();
        assert_eq!((back.id(), back.form()), (sid.id(), Form::Sid));
        assert!(back.hash().matches(&sid.hash()));
        assert_ne!(sid.id().to_string(), *text);
        for other in ["", "00000000-0000-0000-0000-000000000000", &sid.id().to_string()] {
            assert!(Token::parse_sid(other.as_bytes()).is_none(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn only_canonical_texts_are_read(text in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(token) = Token::parse(&text) {
                let encoded = token.encode();
                prop_assert_eq!(encoded.as_bytes(), &text[..]);
            }
        }

        #[test]
        fn one_changed_byte_never_gives_the_same_token(at in 0..TOKEN_LENGTH, byte: u8) {
            let token = Token::issue(SessionId::issue().unwrap()).unwrap();
            let mut text = token.encode().as_bytes().to_vec();
            prop_assume!(text[at] != byte);
            text[at] = byte;
            if let Some(other) = Token::parse(&text) {
                prop_assert!(other.id() != token.id() || !other.hash().matches(&token.hash()));
            }
        }
    }
}
