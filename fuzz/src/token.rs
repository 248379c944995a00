//! Session tokens: whatever is read is exactly what would have been written.

use portcullis::session::{SessionId, TOKEN_LENGTH, Token};

/// Words of tokens.
pub const WORDS: &[&str] = &[".", "-", "_", "=", "AAAAAAAAAAAAAAAAAAAAAA", "A", "/", "+", " "];

/// Reads `data` as a token and as a public id.
pub fn run(data: &[u8]) {
    if let Some(token) = Token::parse(data) {
        assert_eq!(data.len(), TOKEN_LENGTH);
        assert_eq!(token.encode().as_bytes(), data, "two texts would be one token");
        let secret = std::str::from_utf8(data).unwrap().split_once('.').unwrap().1;
        assert!(!format!("{token:?}").contains(secret), "Debug shows the secret");
        let id = SessionId::from_bytes(*token.id().as_bytes());
        assert_eq!(id, token.id());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<SessionId>() {
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
    }
}
