//! What an answer for one person says to caches (RFC 9111 section 5.2.2).

use http::header::HeaderValue;

/// For one person.
pub(super) const PRIVATE: HeaderValue = HeaderValue::from_static("private");

/// What is to stand in place of an app's values of `Cache-Control`; `None` when they let no shared cache keep the
/// answer.
pub(super) fn in_place_of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<HeaderValue> {
    let mut kept = PRIVATE.as_bytes().to_vec();
    for directive in values.flat_map(directives) {
        let name = directive.split(|byte| *byte == b'=').next().unwrap_or(directive);
        let is = |known: &str| name.trim_ascii_end().eq_ignore_ascii_case(known.as_bytes());
        match () {
            // With names of fields it concerns those alone.
            () if (is("private") || is("no-store")) && name.len() == directive.len() => {
                return None;
            }
            () if ["public", "s-maxage", "proxy-revalidate", ""].into_iter().any(is) => {}
            () => kept.extend([b", ", directive].concat()),
        }
    }
    // A part of a value is a value.
    Some(HeaderValue::from_maybe_shared(bytes::Bytes::from(kept)).unwrap_or(PRIVATE))
}

/// The directives of a value; those of one whose quotes do not match are not known.
fn directives(value: &[u8]) -> Vec<&[u8]> {
    let mut quoted = false;
    let found: Vec<_> = value
        .split(|byte| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        })
        .map(<[u8]>::trim_ascii)
        .collect();
    if quoted { Vec::new() } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shared_cache_is_let_keep_what_is_for_one() {
        for (given, wanted) in [
            (&[][..], Some("private")),
            (&[""], Some("private")),
            (&["max-age=60"], Some("private, max-age=60")),
            (&["public, max-age=60, immutable"], Some("private, max-age=60, immutable")),
            (&["PUBLIC", "S-MaxAge=3600 , no-cache"], Some("private, no-cache")),
            (&["no-cache=\"a, private\""], Some("private, no-cache=\"a, private\"")),
            (&["private=\"set-cookie\""], Some("private, private=\"set-cookie\"")),
            (&["no-cache=\"private"], Some("private")),
            (&["max-age=60,Private"], None),
            (&["public", "no-store"], None),
        ] {
            let found = in_place_of(given.iter().map(|value| value.as_bytes()));
            assert_eq!(found.as_ref().map(HeaderValue::as_bytes), wanted.map(str::as_bytes));
        }
    }
}
