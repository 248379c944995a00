//! The head of an app's answer, and how it is made fit for the client.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::lines::{Kind, Lines};
use super::private::{self, PRIVATE};
use super::{is_hop_by_hop, nominated, remove};

/// The head of an answer.
#[derive(Debug)]
pub struct AnswerHead {
    /// The status.
    pub status: StatusCode,
    /// The app's own words for the status; `None` for the usual ones.
    pub reason: Option<Bytes>,
    /// The header fields.
    pub fields: Fields,
}

/// The header fields of an answer.
#[derive(Clone, Debug)]
pub enum Fields {
    /// Own answers, and those of apps that speak HTTP/2.
    Map(HeaderMap),
    /// An app's answer over HTTP/1.1.
    Lines(Lines),
}

impl AnswerHead {
    /// Makes it fit for the client: hop-by-hop headers go, and cookies with our name.
    pub fn clean(&mut self, own_cookie: &str) {
        match &mut self.fields {
            Fields::Map(map) => clean_answer(map, own_cookie),
            Fields::Lines(lines) => clean_lines(lines, own_cookie),
        }
    }

    /// As [`Self::clean`], for an interim answer: there is no body that it could say the length of.
    pub fn clean_interim(&mut self, own_cookie: &str) {
        self.clean(own_cookie);
        match &mut self.fields {
            Fields::Map(map) => {
                map.remove(header::CONTENT_LENGTH);
            }
            Fields::Lines(lines) => lines.retain(|kind, _, _| kind != Kind::ContentLength),
        }
    }

    /// Says that an answer made for one person must not be kept for others, also where the app does not know that it
    /// is: it may have no notion of logins.
    pub fn keep_private(&mut self) {
        match &mut self.fields {
            Fields::Map(map) => {
                let targeted = |name: &&HeaderName| {
                    Kind::of(name.as_str().as_bytes()) == Kind::TargetedCacheControl
                };
                let names: Vec<HeaderName> = map.keys().filter(targeted).cloned().collect();
                names.iter().for_each(|name| drop(map.remove(name)));
                let values = map.get_all(header::CACHE_CONTROL).iter();
                if let Some(value) = private::in_place_of(values.map(HeaderValue::as_bytes)) {
                    map.insert(header::CACHE_CONTROL, value);
                }
            }
            Fields::Lines(lines) => {
                if lines.has(Kind::TargetedCacheControl) {
                    lines.retain(|kind, _, _| kind != Kind::TargetedCacheControl);
                }
                if !lines.has(Kind::CacheControl) {
                    return lines.add("cache-control", PRIVATE);
                }
                let values = lines.iter().filter(|(kind, ..)| *kind == Kind::CacheControl);
                if let Some(value) = private::in_place_of(values.map(|(_, _, value)| value)) {
                    lines.retain(|kind, _, _| kind != Kind::CacheControl);
                    lines.add("cache-control", value);
                }
            }
        }
    }

    /// The same as the http crate has it; without the reason, which HTTP/2 cannot say.
    pub fn into_response(self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.fields.into_map();
        response
    }
}

impl Fields {
    /// All of them in a map.
    pub fn into_map(self) -> HeaderMap {
        match self {
            Self::Map(map) => map,
            Self::Lines(lines) => lines.into_map(),
        }
    }
}

fn clean_lines(lines: &mut Lines, own_cookie: &str) {
    // One look over the kinds: most answers have nothing that goes.
    if !lines.iter().any(|(kind, ..)| kind.is_hop_by_hop() || kind == Kind::SetCookie) {
        return;
    }
    let connection = lines.iter().filter(|(kind, ..)| *kind == Kind::Connection);
    let nominated = nominated(connection.map(|(_, _, value)| value));
    lines.retain(|kind, name, value| match kind {
        _ if kind.is_hop_by_hop() => false,
        Kind::SetCookie if sets_cookie(value, own_cookie.as_bytes()) => false,
        _ => !nominated.iter().any(|gone| name.eq_ignore_ascii_case(gone.as_str().as_bytes())),
    });
}

/// As [`AnswerHead::clean`], for headers in a map.
pub fn clean_answer(headers: &mut HeaderMap, own_cookie: &str) {
    // One look over the names: most answers have none of either.
    let (mut hops, mut cookies) = (false, false);
    for name in headers.keys() {
        hops |= is_hop_by_hop(name.as_str());
        cookies |= *name == header::SET_COOKIE;
    }
    if hops {
        remove(headers, is_hop_by_hop);
    }
    if !cookies {
        return;
    }
    let is_ours = |value: &HeaderValue| sets_cookie(value.as_bytes(), own_cookie.as_bytes());
    if headers.get_all(header::SET_COOKIE).iter().any(is_ours) {
        let kept: Vec<_> = headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter(|value| !is_ours(value))
            .cloned()
            .collect();
        headers.remove(header::SET_COOKIE);
        for value in kept {
            headers.append(header::SET_COOKIE, value);
        }
    }
}

/// Whether a `Set-Cookie` value sets a cookie of our name or below it, in any case and with any
/// white space, also as a nameless cookie (`=name=value`), which browsers send back like ours.
fn sets_cookie(value: &[u8], own: &[u8]) -> bool {
    let pair = value.split(|byte| *byte == b';').next().unwrap_or(value);
    let pair = pair.trim_ascii();
    let pair = pair.strip_prefix(b"=").unwrap_or(pair);
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or(pair).trim_ascii();
    let Some((head, tail)) = name.split_at_checked(own.len()) else { return false };
    head.eq_ignore_ascii_case(own) && (tail.is_empty() || tail.starts_with(b"-"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "__Host-portcullis";

    fn lines(fields: &[(&str, &str)]) -> Lines {
        let text: String = fields.iter().flat_map(|(name, value)| [*name, *value]).collect();
        let (text, mut start) = (Bytes::from(text), 0);
        let mut lines = Lines::new(text.clone(), fields.len());
        for (name, value) in fields {
            let middle = start + name.len();
            let end = middle + value.len();
            let (name, value) = (&text[start..middle], &text[middle..end]);
            assert!(lines.push(Kind::of(name), name, value));
            start = end;
        }
        lines
    }

    /// What is left of the fields for a signed-in client: the same from lines as from a map.
    fn cleaned(fields: &[(&str, &str)]) -> HeaderMap {
        let all = lines(fields);
        let [map, lines] =
            [Fields::Map(all.clone().into_map()), Fields::Lines(all)].map(|fields| {
                let mut head = AnswerHead { status: StatusCode::OK, reason: None, fields };
                head.clean(OWN);
                head.keep_private();
                head.into_response().into_parts().0.headers
            });
        assert_eq!(map, lines);
        lines
    }

    #[test]
    fn own_cookies_of_the_app_are_removed() {
        for (value, ours) in [
            ("__Host-portcullis=x; Path=/", true),
            ("__host-portcullis=x; Domain=example.com", true),
            (" __Host-portcullis =x", true),
            ("=__Host-portcullis=x", true),
            ("__Host-portcullis-next=x", true),
            ("__Host-portcullis", true),
            ("__Host-portcullisx=1", false),
            ("sid=__Host-portcullis=1", false),
            ("", false),
        ] {
            assert_eq!(sets_cookie(value.as_bytes(), OWN.as_bytes()), ours, "{value}");
        }
        let cookies = ["a=1", "__Host-portcullis=evil", "b=2"];
        let left = cleaned(&cookies.map(|value| ("Set-Cookie", value)));
        let left: Vec<_> = left.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(left, ["a=1", "b=2"]);
    }

    #[test]
    fn what_concerns_the_connection_ends_here() {
        let left = cleaned(&[
            ("Connection", "close, X-One"),
            ("x-ONE", "1"),
            ("X-Two", "2"),
            ("KEEP-ALIVE", "timeout=5"),
            ("Upgrade", "h2c"),
            ("Content-Type", "text/plain"),
        ]);
        let left: Vec<_> = left.keys().map(|name| name.as_str()).collect();
        assert_eq!(left, ["x-two", "content-type", "cache-control"]);
    }

    #[test]
    fn an_answer_for_one_person_is_private_unless_the_app_says_more() {
        assert_eq!(cleaned(&[])[header::CACHE_CONTROL], "private");
        assert_eq!(cleaned(&[("CACHE-control", "no-store")])[header::CACHE_CONTROL], "no-store");
    }

    #[test]
    fn a_field_must_be_of_the_head() {
        let mut lines = Lines::new(Bytes::from_static(b"name: value"), 1);
        assert!(!lines.push(Kind::Other, b"other", b"field"));
        assert!(lines.into_map().is_empty());
    }

    proptest! {
        #[test]
        fn lines_and_maps_are_cleaned_alike(
            fields in prop::collection::vec(
                (
                    prop::sample::select(&["Connection", "TE", "Keep-Alive", "Set-Cookie", "X-One",
                        "x-two", "Content-Length", "Transfer-Encoding", "Date", "Trailer", "cookie"][..]),
                    prop::sample::select(&["x-one", "X-TWO, close", "content-length", "te, set-cookie",
                        "__Host-portcullis=1", " = ", "cookie", "", "\u{e9}, x-two", "trailers"][..]),
                ),
                0..9,
            ),
        ) {
            cleaned(&fields);
        }
    }
}
