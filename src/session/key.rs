//! Secrets of keys: how they are made and written, and what of them counts.
//!
//! Thirty random characters, written as five groups of six with dots between them; whoever types one
//! may leave out the dots, since everything outside the alphabet is skipped (Nuvla's API).

use std::fmt;

use zeroize::Zeroizing;

use super::token::{Form, SecretHash, Token};
use crate::secret::{Secret, random};

/// Characters of a new secret, dots not counted: more than 174 random bits.
pub const NEW_SECRET_LENGTH: usize = 30;
const GROUP: usize = 6;
/// Longest text that is looked at, in bytes.
const LONGEST: usize = 256;
/// Letters and digits without those that are hard to tell apart: `1 l I 0 o O`.
const ALPHABET: &[u8] = b"23456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ";

/// The secret of a key in its canonical form.
#[derive(Clone)]
pub struct KeySecret(Zeroizing<String>);

impl KeySecret {
    /// A fresh one.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn issue() -> Result<Self, getrandom::Error> {
        let mut text = Zeroizing::new(String::with_capacity(NEW_SECRET_LENGTH));
        // Bytes that would favour some characters are thrown away.
        let fair = 256 / ALPHABET.len() * ALPHABET.len();
        while text.len() < NEW_SECRET_LENGTH {
            let bytes = Zeroizing::new(random::<32>()?);
            let fair = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
            let letters = fair.filter_map(|byte| ALPHABET.get(byte % ALPHABET.len()));
            let room = NEW_SECRET_LENGTH - text.len();
            text.extend(letters.take(room).copied().map(char::from));
        }
        Ok(Self(text))
    }

    /// What counts of a text that somebody typed; `None` when that cannot be a secret.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let letters = text
            .chars()
            .filter(|letter| u8::try_from(*letter).is_ok_and(|letter| ALPHABET.contains(&letter)));
        let secret = Self(Zeroizing::new(letters.collect()));
        (secret.0.len() == NEW_SECRET_LENGTH).then_some(secret)
    }

    /// By what the directory knows it.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.0.as_bytes())
    }

    /// The secret as a token.
    pub fn token(&self) -> Token {
        Token::of_text(Form::Key, self.0.as_bytes(), self.0.to_string())
    }

    /// The secret as people see it: groups of six characters, dots between them.
    pub fn written(&self) -> Secret {
        let mut text = String::with_capacity(self.0.len() + self.0.len() / GROUP);
        for (place, letter) in self.0.chars().enumerate() {
            if place > 0 && place % GROUP == 0 {
                text.push('.');
            }
            text.push(letter);
        }
        Secret::new(text)
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_survive_being_written_and_typed() {
        let secret = KeySecret::issue().unwrap();
        let written = secret.written();
        let parts: Vec<_> = written.expose().split('.').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [6; 5]);
        let typed = format!(" {} 0l", written.expose().replace('.', ""));
        let back = KeySecret::parse(&typed).unwrap();
        assert!(back.hash().matches(&secret.hash()));
        assert_eq!(back.token().id(), secret.token().id());
        assert!(!format!("{secret:?}").contains(parts[0]));
    }

    #[test]
    fn what_is_too_short_or_too_long_is_no_secret() {
        let secret = KeySecret::issue().unwrap().written();
        let text = secret.expose();
        for bad in ["", text.split_at(1).1, &format!("{text}a"), &".".repeat(300)] {
            assert!(KeySecret::parse(bad).is_none(), "{bad}");
        }
    }
}
