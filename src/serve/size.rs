//! Heads that are too large: which, and whether it is cookies that make them so.
//!
//! A sibling domain can plant cookies in a browser until no request fits; whoever is hit needs a way out
//! that a bare status does not give.

use http::StatusCode;
use http::Version;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;

use super::http1::HeadLimits;
use crate::api::{COOKIES_TOO_LARGE, Fault};

/// What a field counts besides its name and value (RFC 9113 section 10.5.1).
const OVERHEAD: usize = 32;

/// How much larger than allowed a list of HTTP/2 fields is still read, so that a page can be answered. What is
/// larger yet gets a bare 431, and a connection error at four times that.
pub(super) const READ: usize = 4;

/// The fault of a head with too many fields, or (HTTP/2) with too large ones. Bytes of HTTP/1.1 were
/// counted while they came.
pub(super) fn judge(parts: &Parts, limits: &HeadLimits) -> Result<(), Box<Fault>> {
    let headers = &parts.headers;
    let many = headers.len() > limits.fields;
    if !many && parts.version != Version::HTTP_2 {
        return Ok(());
    }
    let size =
        |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + OVERHEAD;
    let whole: usize = headers.iter().map(size).sum();
    let large = whole > limits.head;
    if !many && !large {
        return Ok(());
    }
    let cookies = || headers.get_all(header::COOKIE).iter();
    let of_cookies: usize = cookies().map(|value| size((&header::COOKIE, value))).sum();
    let (code, detail) = if cookies().count() > headers.len() / 2 || of_cookies > whole / 2 {
        (COOKIES_TOO_LARGE, "The cookies of this request are too many, or too large together.")
    } else if many {
        ("too-many-fields", "The request has too many header fields.")
    } else {
        ("head-too-large", "The header fields of the request are too large together.")
    };
    Err(Box::new(Fault::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, code, detail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(version: Version, fields: &[(&str, usize, usize)]) -> Option<&'static str> {
        let mut request = http::Request::builder().version(version);
        for (name, length, count) in fields {
            for _ in 0..*count {
                request = request.header(*name, "a".repeat(*length));
            }
        }
        let limits = HeadLimits { head: 1000, fields: 10, request_line: 100 };
        let (parts, ()) = request.body(()).unwrap().into_parts();
        judge(&parts, &limits).err().map(|fault| fault.code)
    }

    #[test]
    fn cookies_are_told_from_other_fields() {
        let h2 = Version::HTTP_2;
        assert_eq!(code(h2, &[("cookie", 800, 1), ("x-a", 10, 3)]), None);
        assert_eq!(code(h2, &[("cookie", 900, 1), ("x-a", 10, 3)]), Some(COOKIES_TOO_LARGE));
        assert_eq!(code(h2, &[("cookie", 3, 10), ("x-a", 1, 1)]), Some(COOKIES_TOO_LARGE));
        assert_eq!(code(h2, &[("cookie", 10, 1), ("x-a", 950, 1)]), Some("head-too-large"));
        assert_eq!(code(h2, &[("cookie", 1, 3), ("x-a", 1, 8)]), Some("too-many-fields"));
        assert_eq!(code(Version::HTTP_11, &[("x-a", 1, 11)]), Some("too-many-fields"));
        assert_eq!(code(Version::HTTP_11, &[("x-a", 2000, 1)]), None, "counted already");
    }
}
