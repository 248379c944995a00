//! Where a ks is, and which texts are one.

use memchr::memmem;
use percent_encoding::percent_decode_str;

use super::params::Params;
use super::{multi, read};
use crate::api::{Head, Shown};
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

/// The token that a request shows: in its path, its query, or its body, in this order.
pub(super) fn of(head: &Head<'_>, body: Option<&[u8]>) -> Shown {
    if let Some(token) = of_path(head.path).or_else(|| of_query(head.query)) {
        return Shown::Token(token);
    }
    let items_in_query = || head.query.is_some_and(|query| query.len() <= QUERY && may_name(query));
    match body {
        Some(body) => {
            let params = read::whole(read::head(head.path, head.query), head.headers, body);
            params.map_or(Shown::Nothing, |params| of_params(&params))
        }
        None if items_in_query() => of_params(&read::head(head.path, head.query).params),
        None => Shown::Nothing,
    }
}

/// Whether a name in a path or query may be `ks`: it is, or it is encoded. Most have neither.
fn may_name(text: &str) -> bool {
    memmem::find(text.as_bytes(), b"ks").is_some() || text.contains('%')
}

/// The token in a path: in the segment behind one that is `ks`.
fn of_path(path: &str) -> Option<Token> {
    if !may_name(path) {
        return None;
    }
    let mut segments = path.split('/');
    while let Some(segment) = segments.next() {
        // As the parameters of a call are read: an app decodes names, too.
        if percent_decode_str(segment).eq(b"ks".iter().copied()) {
            let value = percent_decode_str(segments.next()?).decode_utf8().ok()?;
            if let Some(token) = token(&value) {
                return Some(token);
            }
        }
    }
    None
}

/// The token in a query.
fn of_query(query: Option<&str>) -> Option<Token> {
    let query = query.filter(|query| query.len() <= QUERY && may_name(query))?;
    // The last one counts, as in the parameters of a call.
    let all = url::form_urlencoded::parse(query.as_bytes());
    token(&all.filter(|(name, _)| name == "ks").last()?.1)
}

/// The token of a call, or of a multirequest the one that all its items have.
fn of_params(params: &Params) -> Shown {
    let items = multi::items(params);
    if items.is_empty() {
        return params
            .text("ks")
            .and_then(|text| token(&text))
            .map_or(Shown::Nothing, Shown::Token);
    }
    let texts = || items.iter().map(|item| item.text("ks"));
    let Some(token) = texts().flatten().find_map(|text| token(&text)) else {
        return Shown::Nothing;
    };
    // An app does each item in the name of its own.
    let first = texts().next().flatten();
    if texts().all(|text| text == first) { Shown::Token(token) } else { Shown::Several }
}
