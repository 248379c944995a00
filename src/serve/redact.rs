//! Secrets that clients put into paths, taken out before a path is logged.

use std::borrow::Cow;

use memchr::memmem;

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// `path` without the sessions of the Kaltura API that it carries: the segment after `ks`, and whatever
/// begins like a sealed session.
pub(super) fn without_ks(path: &str) -> Cow<'_, str> {
    let bytes = path.as_bytes();
    // Most paths have nothing that looks like either.
    let suspicious = memmem::find(bytes, SEALED.as_bytes()).is_some()
        || memchr::memchr2_iter(b's', b'S', bytes).any(|at| bytes.get(at + 1) == Some(&b'/'))
        || path.contains('%');
    if !suspicious {
        return Cow::Borrowed(path);
    }
    let mut hidden = false;
    let mut after_ks = false;
    let segments = path.split('/').map(|segment| {
        let hide = !segment.is_empty() && (after_ks || segment.contains(SEALED));
        hidden |= hide;
        after_ks = is_ks(segment);
        if hide { HIDDEN } else { segment }
    });
    let cleaned: Vec<_> = segments.collect();
    if hidden { Cow::Owned(cleaned.join("/")) } else { Cow::Borrowed(path) }
}

/// How base64 of `v2|` begins.
const SEALED: &str = "djJ8";

fn is_ks(segment: &str) -> bool {
    segment.len() <= 6
        && percent_encoding::percent_decode_str(segment).map(|b| b.to_ascii_lowercase()).eq(*b"ks")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_taken_out_of_paths() {
        for (path, logged) in [
            ("/", "/"),
            ("/news/items/1", "/news/items/1"),
            ("/books/ks", "/books/ks"),
            (
                "/api_v3/service/user/action/get/ks/djJ8MTAyfBMM==/id/1",
                "/api_v3/service/user/action/get/ks/***/id/1",
            ),
            ("/p/KS/abc", "/p/KS/***"),
            ("/p/%6b%73/abc/x", "/p/%6b%73/***/x"),
            ("/play/djJ8MTAyfBMM6nJrb9vR", "/play/***"),
        ] {
            assert_eq!(without_ks(path), logged, "{path}");
        }
    }
}
