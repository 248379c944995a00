//! Where a ks is, and which texts are one.

use http::HeaderMap;
use memchr::memmem;
use percent_encoding::percent_decode_str;

use super::params::Params;
use super::{multi, read};
use crate::ks::Ks;
use crate::session::{Form, Token};

/// Longest query in which a ks is looked for, in bytes.
const QUERY: usize = 16 << 10;

/// The token that a text is: a KS, or a token of another form that can be told apart.
pub(super) fn token(text: &str) -> Option<Token> {
    // A `+` that was not encoded in a query.
    let text = text.trim().replace(' ', "+");
    if let Ok(ks) = Ks::parse(&text) {
        return Some(Token::of_text(Form::Ks, ks.identity(), text));
    }
    Token::parse(text.as_bytes()).or_else(|| Token::parse_sid(text.as_bytes()))
}

/// The token in a path: in the segment behind one that is `ks`.
pub(super) fn of_path(path: &str) -> Option<Token> {
    // Most paths have none.
    memmem::find(path.as_bytes(), b"/ks/")?;
    let mut segments = path.split('/');
    while let Some(segment) = segments.next() {
        if segment == "ks" {
            let value = percent_decode_str(segments.next()?).decode_utf8().ok()?;
            if let Some(token) = token(&value) {
                return Some(token);
            }
        }
    }
    None
}

/// The token in a query.
pub(super) fn of_query(query: Option<&str>) -> Option<Token> {
    let query = query.filter(|query| query.len() <= QUERY)?;
    memmem::find(query.as_bytes(), b"ks=")?;
    // The last one counts, as in the parameters of a call.
    let all = url::form_urlencoded::parse(query.as_bytes());
    token(&all.filter(|(name, _)| name == "ks").last()?.1)
}

/// The token in a body: that of the call, or of a multirequest the one that all its items have.
pub(super) fn of_body(headers: &HeaderMap, body: &[u8]) -> Option<Token> {
    let params = read::body(headers, body).ok()?;
    if let Some(text) = params.text("ks") {
        return token(&text);
    }
    let mut items = multi::items(&params).into_iter();
    let first = items.next()?;
    let text = first.text("ks")?;
    let same = |item: Params| item.text("ks").as_deref() == Some(&*text);
    if items.all(same) { token(&text) } else { None }
}
