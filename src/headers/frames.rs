//! What messages may say of their bodies and behind them, and what HTTP/2 forbids in fields though the library that
//! reads its frames lets it through.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

/// Why a list of fields is malformed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// White space around a value (RFC 9113 section 8.2.1): whoever trims it reads another value.
    #[error("a field value begins or ends with white space")]
    Edge,
    /// `Content-Length` is not one decimal number (RFC 9110 section 8.6).
    #[error("Content-Length is not one decimal number")]
    Length,
    /// More than one `Content-Length`, equal or not.
    #[error("Content-Length is given more than once")]
    LengthRepeated,
}

/// The length that a request's fields give its body; an intermediary must not pass on malformed ones (RFC 9113
/// section 8.1.1).
///
/// # Errors
/// What is wrong with the fields.
pub fn judge(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    if headers.values().any(has_edge) {
        return Err(Malformed::Edge);
    }
    length(headers)
}

/// Makes the head of an app's answer one that may be passed on: white space around values goes, as over HTTP/1.1. The
/// length that it says.
///
/// # Errors
/// When it does not say one length.
pub fn tidy(status: StatusCode, headers: &mut HeaderMap) -> Result<Option<u64>, Malformed> {
    for value in headers.values_mut().filter(|value| has_edge(value)) {
        // A part of a value is a value.
        let trimmed = HeaderValue::from_bytes(value.as_bytes().trim_ascii());
        *value = trimmed.unwrap_or(HeaderValue::from_static(""));
    }
    let length = length(headers)?;
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
    }
    Ok(length)
}

/// Whether an answer with this status has no body (RFC 9110 section 6.4.1).
pub fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether a field may stand behind a body: not what frames or routes a message or concerns one hop
/// (RFC 9110 section 6.5.1), and no cookie, which is looked at in heads only.
pub fn may_trail(name: &HeaderName) -> bool {
    let refused = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    !refused.contains(&name.as_str())
}

/// The trailers of an app's answer without those that may not trail.
pub fn trailers(given: HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(given.len());
    let mut last = None;
    for (name, value) in given {
        // A name comes with its first value only.
        last = name.or(last);
        if let Some(name) = last.as_ref().filter(|name| may_trail(name) && !has_edge(&value)) {
            kept.append(name, value);
        }
    }
    kept
}

fn has_edge(value: &HeaderValue) -> bool {
    matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Malformed::LengthRepeated);
    }
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or(Malformed::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn lengths(values: &[&'static str]) -> Result<Option<u64>, Malformed> {
        judge(&map(&values.iter().map(|value| ("content-length", *value)).collect::<Vec<_>>()))
    }

    #[test]
    fn only_one_plain_number_is_a_length() {
        assert_eq!(lengths(&[]), Ok(None));
        assert_eq!(lengths(&["0"]), Ok(Some(0)));
        assert_eq!(lengths(&["18446744073709551615"]), Ok(Some(u64::MAX)));
        for odd in ["", "+1", "-1", "1,1", "0x1", "18446744073709551616"] {
            assert_eq!(lengths(&[odd]), Err(Malformed::Length), "{odd:?}");
        }
        for twice in [["5", "5"], ["0", ""], ["", "5"], ["31", "031"]] {
            assert_eq!(lengths(&twice), Err(Malformed::LengthRepeated), "{twice:?}");
        }
        assert_eq!(lengths(&["1 "]), Err(Malformed::Edge));
    }

    #[test]
    fn white_space_around_a_value_is_malformed() {
        for odd in [" a", "a ", "\ta", "a\t", " ", "\t"] {
            assert_eq!(judge(&map(&[("x-a", "b"), ("x-b", odd)])), Err(Malformed::Edge), "{odd:?}");
            let mut answer = map(&[("x-a", "b"), ("x-b", odd)]);
            assert_eq!(tidy(StatusCode::OK, &mut answer), Ok(None));
            assert_eq!(answer, map(&[("x-a", "b"), ("x-b", odd.trim())]));
        }
        for plain in ["", "a", "a b", "a\tb"] {
            assert_eq!(judge(&map(&[("x-a", plain)])), Ok(None), "{plain:?}");
        }
    }

    #[test]
    fn what_an_answer_says_of_its_length_is_one_number_or_nothing() {
        for (status, kept) in [(200, true), (304, true), (204, false)] {
            let mut headers = map(&[("content-length", "5")]);
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(tidy(status, &mut headers), Ok(Some(5)), "{status}");
            assert_eq!(headers.contains_key("content-length"), kept, "{status}");
        }
        let mut twice = map(&[("content-length", "5"), ("content-length", "5")]);
        assert_eq!(tidy(StatusCode::OK, &mut twice), Err(Malformed::LengthRepeated));
    }

    #[test]
    fn what_may_not_trail_does_not() {
        let given = map(&[
            ("grpc-status", "0"),
            ("set-cookie", "a=b"),
            ("content-length", "3"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("trailer", "x"),
            ("x-b", " c"),
        ]);
        assert_eq!(trailers(given), map(&[("grpc-status", "0"), ("x-a", "1"), ("x-a", "2")]));
    }
}
