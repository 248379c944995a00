//! Secrets that clients put into paths, taken out before a path is logged.

use std::borrow::Cow;

use memchr::memmem;
use percent_encoding::percent_decode_str;

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// How base64 of `v2|` begins.
const SEALED: &str = "djJ8";
/// Segments by which the Kaltura API takes a path as pairs, and what of those is secret.
const PAIRS: [&[u8]; 3] = [b"action", b"service", b"index.php"];
const SECRET: [&[u8]; 3] = [b"otp", b"tokenhash", b"session"];
/// The same wherever it stands in a name.
const WITHIN: [&[u8]; 2] = [b"secret", b"password"];
/// Longest name that is looked at, in bytes: every character coded.
const NAME: usize = 64;

/// `path` without the secrets of the Kaltura API that it carries: the segment after `ks`, after what else
/// is secret in a call, and whatever begins like a sealed session.
pub(super) fn without_secrets(path: &str) -> Cow<'_, str> {
    let bytes = path.as_bytes();
    if !may_hold_secret(bytes) {
        return Cow::Borrowed(path);
    }
    let pairs = path.split('/').any(|segment| PAIRS.contains(&&*plain(segment)));
    // Most paths have nothing that looks like any of them.
    let suspicious = pairs
        || memmem::find(bytes, SEALED.as_bytes()).is_some()
        || bytes.windows(3).any(|part| part.eq_ignore_ascii_case(b"ks/"))
        || path.contains('%');
    if !suspicious {
        return Cow::Borrowed(path);
    }
    let mut hidden = false;
    let mut after = Before::Other;
    let segments = path.split('/').map(|segment| {
        let hide = !segment.is_empty() && (after == Before::Secret || segment.contains(SEALED));
        hidden |= hide;
        after = Before::next(&after, segment, pairs);
        if hide { HIDDEN } else { segment }
    });
    let cleaned: Vec<_> = segments.collect();
    if hidden { Cow::Owned(cleaned.join("/")) } else { Cow::Borrowed(path) }
}

/// Whether two bytes stand side by side as in one of the words that are looked for: one pass without
/// early exit, so that it is vectorised; most paths have none.
fn may_hold_secret(path: &[u8]) -> bool {
    let behind = path.get(1..).unwrap_or_default();
    path.iter().zip(behind).fold(false, |found, (&a, &b)| {
        let action = (a | 0x20 == b'c') & (b | 0x20 == b't');
        let service = (a | 0x20 == b'v') & (b | 0x20 == b'i');
        let index = (a | 0x20 == b'x') & (b == b'.');
        let sealed = (a == b'd') & (b == b'j');
        let ks = (a | 0x20 == b'k') & (b | 0x20 == b's');
        found | action | service | index | sealed | ks | (a == b'%')
    })
}

/// A segment as it may be read: decoded, in lower case, without white space around it.
fn plain(segment: &str) -> Vec<u8> {
    let short = segment.get(..NAME).unwrap_or(segment);
    let decoded: Vec<u8> = percent_decode_str(short).collect();
    decoded.trim_ascii().to_ascii_lowercase()
}

fn is_secret(name: &[u8]) -> bool {
    SECRET.contains(&name) || WITHIN.iter().any(|part| memmem::find(name, part).is_some())
}

/// What a segment says of the next one.
#[derive(PartialEq, Eq)]
enum Before {
    /// It is a secret.
    Secret,
    /// It is the name of a service or action, whatever it looks like.
    Place,
    Other,
}

impl Before {
    fn next(&self, segment: &str, pairs: bool) -> Self {
        // Whoever merges slashes sees the next segment as the one behind the name.
        if segment.is_empty() && *self == Self::Secret {
            return Self::Secret;
        }
        if segment.len() > NAME || *self == Self::Place {
            return Self::Other;
        }
        let name = plain(segment);
        // Of an item of a multirequest: `1:ks`.
        match name.rsplit(|byte| *byte == b':').next().unwrap_or_default().trim_ascii() {
            b"ks" => Self::Secret,
            b"service" | b"action" if pairs => Self::Place,
            name if pairs && is_secret(name) => Self::Secret,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_paths() {
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
            (
                "/api_v3/service/session/action/start/secret/s3cret/userId/a",
                "/api_v3/service/session/action/start/secret/***/userId/a",
            ),
            (
                "/api_v3/service/session/action/get/session/Nm4xY2Y=/%73ecret/x",
                "/api_v3/service/session/action/get/session/***/%73ecret/***",
            ),
            (
                "/api_v3/index.php/service/multirequest/1:Secret/x/1:service/session",
                "/api_v3/index.php/service/multirequest/1:Secret/***/1:service/session",
            ),
            (
                "/api_v3/service/user/action/login/password//CANARY",
                "/api_v3/service/user/action/login/password//***",
            ),
            ("/p/ks///CANARY/x", "/p/ks///***/x"),
            ("/p/ks//", "/p/ks//"),
            (
                "/api_v3/service/user/action//password/CANARY",
                "/api_v3/service/user/action//password/***",
            ),
            (
                "/api_v3/ser%76ice/user/%61ction/login/partnerId/102/password/CANARY/format/1",
                "/api_v3/ser%76ice/user/%61ction/login/partnerId/102/password/***/format/1",
            ),
            (
                "/API_V3/Service/session/ACTION/start/secret/CANARY/x",
                "/API_V3/Service/session/ACTION/start/secret/***/x",
            ),
            (
                "/api_v3/INDEX.PHP/userId/a/PassWord/CANARY",
                "/api_v3/INDEX.PHP/userId/a/PassWord/***",
            ),
            (
                "/api_v3/service/user/action/login/%20password%20/CANARY",
                "/api_v3/service/user/action/login/%20password%20/***",
            ),
            (
                "/api_v3/service/user/action/updatePassword/newPassword/CANARY/x",
                "/api_v3/service/user/action/updatePassword/newPassword/***/x",
            ),
            ("/account/password/reset", "/account/password/reset"),
            ("/api/session/6f1c/switch-group", "/api/session/6f1c/switch-group"),
        ] {
            assert_eq!(without_secrets(path), logged, "{path}");
        }
    }

    #[test]
    fn every_word_that_is_looked_for_is_found_at_first_sight() {
        let pairs = PAIRS.map(|word| str::from_utf8(word).unwrap());
        let loud = pairs.map(str::to_ascii_uppercase);
        let words = pairs.into_iter().chain(loud.iter().map(String::as_str));
        for word in words.chain([SEALED, "ks/", "KS/", "kS/", "%6bs/"]) {
            assert!(may_hold_secret(word.as_bytes()), "{word}");
            assert!(may_hold_secret(format!("/a{word}b").as_bytes()), "{word}");
        }
        assert!(!may_hold_secret(b"/news/items/1"));
    }
}
