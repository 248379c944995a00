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
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
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
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
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

/// A bearer token as its holder has it.
#[derive(Clone)]
pub struct Token {
    id: SessionId,
    secret: Zeroizing<[u8; 32]>,
    /// Of the secret: whoever has a token wants to know it.
    hash: SecretHash,
}

impl Token {
    /// A token with a fresh secret for the session `id`.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn issue(id: SessionId) -> Result<Self, getrandom::Error> {
        Ok(Self::new(id, Zeroizing::new(random()?)))
    }

    /// Reads a token; `None` for anything that [`Token::encode`] would not have written.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != TOKEN_LENGTH {
            return None;
        }
        let (id, rest) = text.split_at_checked(22)?;
        let (b'.', secret) = rest.split_first()? else { return None };
        let id = SessionId(Uuid::from_bytes(decode(id)?));
        Some(Self::new(id, Zeroizing::new(decode(secret)?)))
    }

    fn new(id: SessionId, secret: Zeroizing<[u8; 32]>) -> Self {
        let hash = SecretHash(sha256(secret.as_slice()));
        Self { id, secret, hash }
    }

    /// The session that the token claims to open.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The hash by which the record knows the secret.
    pub fn hash(&self) -> SecretHash {
        self.hash
    }

    /// The text to hand to the holder.
    pub fn encode(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_LENGTH));
        URL_SAFE_NO_PAD.encode_string(self.id.as_bytes(), &mut text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(self.secret.as_slice(), &mut text);
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
