//! Where a ks is, and which texts are one.

use memchr::{memchr, memmem};
use percent_encoding::{percent_decode, percent_decode_str};

use super::call::Call;
use super::params::Params;
use super::read::{HeadParams, Place};
use super::{multi, read};
use crate::api::Head;
use crate::ks::Ks;
use crate::session::{Form, Token};

/// The items of a multirequest have different sessions, or which ones cannot be told: it is nobody's.
#[derive(Debug)]
pub(super) struct Several;

/// The text of a token as it was meant: with the `+` that was not encoded in a query.
fn unspaced(text: &str) -> String {
    text.trim().replace(' ', "+")
}

/// The token that a text is: a KS, or a token of another form that can be told apart.
pub(super) fn token(text: &str) -> Option<Token> {
    let text = unspaced(text);
    if let Ok(ks) = Ks::parse(&text) {
        return Some(Token::of_text(Form::Ks, ks.identity(), text));
    }
    Token::parse(text.as_bytes()).or_else(|| Token::parse_sid(text.as_bytes()))
}

/// The token that a request carries. Under the mount the parameters are read as those of a call are, in
/// whatever spelling; what is no call may be a link, with `ks` anywhere in its path or in its query.
///
/// # Errors
/// Its items have different ones.
pub(super) fn find(head: &Head<'_>, body: Option<&[u8]>) -> Result<Option<Token>, Several> {
    let named = names_ks(head);
    if !named && body.is_none() {
        return Ok(None);
    }
    let found = match params(head, body) {
        Some(params) => of_call(&params)?,
        None => None,
    };
    let of_link = || of_path(head.path).or_else(|| of_query(head.query?));
    Ok(if named { found.or_else(of_link) } else { found })
}

/// The parameters of a call, with those of the body that was looked at.
fn params(head: &Head<'_>, body: Option<&[u8]>) -> Option<Params> {
    let HeadParams { place, params: over, malformed } = read::head(head.path, head.query);
    if place == Place::Elsewhere || malformed.is_some() {
        return None;
    }
    let mut params = match body {
        Some(body) => read::body(head.headers, body).ok()?,
        None => Params::default(),
    };
    params.overlay(over);
    Some(params)
}

/// The token of a call; of a multirequest that of the whole, or the one that all its items have.
fn of_call(params: &Params) -> Result<Option<Token>, Several> {
    let own = |params: &Params| params.text("ks").map(|text| unspaced(&text));
    let whole = own(params);
    // Apps may read what is no session here: base64 with blanks in it.
    if whole.as_deref().is_some_and(|text| token(text).is_none()) {
        return Err(Several);
    }
    if !Call::of(params).is_some_and(|call| call.is_multirequest()) {
        return Ok(whole.as_deref().and_then(token));
    }
    let items: Vec<_> = multi::items(params).iter().map(own).collect();
    let common = whole.as_ref().or_else(|| items.first()?.as_ref());
    let mut others = items.iter().map(Option::as_ref).filter(|text| *text != common).peekable();
    let shared = whole.is_some() || others.peek().is_none();
    // The app acts by each of them: whoever the gateway named would be wrong for some.
    // What refers to another answer is for the app to find.
    let is_given = |text: &String| multi::reference(text).is_none();
    if others.any(|text| text.is_some_and(is_given)) || (!shared && common.is_some_and(is_given)) {
        return Err(Several);
    }
    match common.filter(|_| shared).filter(|text| is_given(text)) {
        Some(text) => token(text).map(Some).ok_or(Several),
        None => Ok(None),
    }
}

/// Whether path or query have a parameter `ks`, or an item with one.
fn names_ks(head: &Head<'_>) -> bool {
    let path = head.path.as_bytes();
    let query = head.query.unwrap_or_default().as_bytes();
    // Most requests have neither the name nor anything that could be one in another spelling.
    let in_path = memmem::find(path, b"ks/").is_some() || memchr(b'%', path).is_some();
    let in_query = memmem::find(query, b"ks=").is_some() || memchr(b'%', query).is_some();
    in_path && path.split(|byte| *byte == b'/').any(|segment| is_ks(segment, true))
        || in_query && query.split(|byte| *byte == b'&').any(|pair| is_ks(name(pair), true))
}

/// The name in a pair of a query, as it was sent.
fn name(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// Whether a name that was sent reads as `ks`, or as that of an item.
fn is_ks(name: &[u8], of_items: bool) -> bool {
    let mut last = [b':'; 3];
    let mut length = 0;
    for byte in percent_decode(name) {
        last = [last[1], last[2], byte];
        length += 1;
    }
    last == *b":ks" && (of_items || length == 2)
}

/// The token in a path: in the segment behind one that is `ks`. The last one counts, as in the
/// parameters of a call.
fn of_path(path: &str) -> Option<Token> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let mut found = None;
    while let Some(segment) = segments.next() {
        if is_ks(segment.as_bytes(), false) {
            let value = percent_decode_str(segments.next()?).decode_utf8().ok();
            found = value.and_then(|value| token(&value)).or(found);
        }
    }
    found
}

/// The token in a query. The last one counts, too.
fn of_query(query: &str) -> Option<Token> {
    let mut pairs = query.as_bytes().rsplit(|byte| *byte == b'&');
    let last = pairs.find(|pair| is_ks(name(pair), false))?;
    token(&url::form_urlencoded::parse(last).next()?.1)
}
