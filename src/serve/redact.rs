//! Secrets that clients put into paths, taken out before a path is logged.

use std::borrow::Cow;

use memchr::memmem;
use percent_encoding::percent_decode_str;

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// How base64 of `v2|` begins.
const SEALED: &[u8] = b"djJ8";
/// What the Kaltura API takes as pairs of segments below `/action/` or `index.php`, and what of that is
/// secret: names that are one of the words, and those that have one of the parts.
const PAIRS: [&[u8]; 3] = [b"/action/", b"/service/", b"index.php"];
const WORDS: [&[u8]; 4] = [b"ks", b"otp", b"session", b"tokenhash"];
const PARTS: [&[u8]; 2] = [b"password", b"secret"];

/// `path` without the secrets of the Kaltura API that it carries: the segment after `ks`, after what else
/// is secret in a call, and whatever begins like a sealed session. `of_calls`: whether it lies where calls
/// do. Names count in every spelling: what only looks like a secret is better lost than a secret written.
pub(super) fn without_secrets(path: &str, of_calls: bool) -> Cow<'_, str> {
    if !of_calls && !may_hold_secret(path.as_bytes()) {
        return Cow::Borrowed(path);
    }
    let folded = folded(path);
    let has = |part: &[u8]| memmem::find(&folded, part).is_some();
    let pairs = of_calls || PAIRS.into_iter().any(has);
    // Most paths have nothing that looks like any of them.
    if !pairs && !has(b"djj8") && !has(b"ks/") && !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut hidden = false;
    let mut before = Before::Other;
    let segments = path.split('/').map(|segment| {
        let hide = before.hides(segment, pairs);
        hidden |= hide;
        if hide { HIDDEN } else { segment }
    });
    let cleaned: Vec<_> = segments.collect();
    if hidden { Cow::Owned(cleaned.join("/")) } else { Cow::Borrowed(path) }
}

/// A path as names in it are compared: decoded, in lower case.
pub(super) fn folded(path: &str) -> Vec<u8> {
    let mut folded = if path.contains('%') {
        percent_decode_str(path).collect()
    } else {
        path.as_bytes().to_vec()
    };
    folded.make_ascii_lowercase();
    folded
}

/// Whether two bytes stand side by side as in one of the words that are looked for: one pass without
/// early exit, so that it is vectorised; most paths have none.
fn may_hold_secret(path: &[u8]) -> bool {
    let behind = path.get(1..).unwrap_or_default();
    path.iter().zip(behind).fold(false, |found, (&a, &b)| {
        let (low, next) = (a | 0x20, b | 0x20);
        let action = (low == b'c') & (next == b't');
        let service = (low == b'v') & (next == b'i');
        let index = (low == b'x') & (b == b'.');
        let sealed = (a == b'd') & (b == b'j');
        let ks = (low == b'k') & (next == b's');
        found | action | service | index | sealed | ks | (a == b'%')
    })
}

/// What the segments so far say of the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// It is a secret.
    Secret,
    /// It is the name of a service or action, unless who reads pairs from elsewhere sees a name in it.
    Place,
    /// It is a secret, unless it is the word before the name of a service or action.
    Either,
    Other,
}

impl Before {
    /// Whether a segment is to be hidden; goes on to the next one.
    fn hides(&mut self, segment: &str, pairs: bool) -> bool {
        let decoded: Vec<u8> = percent_decode_str(segment).collect();
        let mut hide = memmem::find(&decoded, SEALED).is_some();
        // A coded slash is one for whoever decodes first.
        for name in decoded.to_ascii_lowercase().split(|byte| *byte == b'/') {
            // Whoever merges slashes sees the next segment as the one behind the name.
            if name.is_empty() {
                continue;
            }
            let says = Self::of_name(name, pairs);
            hide |= *self == Self::Secret || (*self == Self::Either && says != Self::Place);
            *self = match (*self, says) {
                (Self::Place, Self::Secret) => Self::Either,
                (Self::Place, _) => Self::Other,
                (_, says) => says,
            };
        }
        hide
    }

    /// What a name says of the segment behind it.
    fn of_name(name: &[u8], pairs: bool) -> Self {
        let is_mark = |byte: &u8| !byte.is_ascii_alphanumeric();
        if !pairs {
            // Of an item of a multirequest: `1:ks`.
            let own = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
            let mut words = own.split(is_mark).filter(|word| !word.is_empty());
            let only = words.next().filter(|_| words.next().is_none());
            return if only == Some(b"ks") { Self::Secret } else { Self::Other };
        }
        let mut words = name.split(is_mark);
        let has = |part: &&[u8]| memmem::find(name, part).is_some();
        if PARTS.iter().any(has) || words.clone().any(|word| WORDS.contains(&word)) {
            return Self::Secret;
        }
        let is_place = words.any(|word| word == b"service" || word == b"action");
        if is_place { Self::Place } else { Self::Other }
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
            ("/account/password/reset", "/account/password/reset"),
            ("/api/session/6f1c/switch-group", "/api/session/6f1c/switch-group"),
        ] {
            assert_eq!(without_secrets(path, false), logged, "{path}");
        }
    }

    /// Regression: names were compared as they were sent, though the reader decodes them.
    #[test]
    fn secrets_of_calls_are_taken_out_however_their_names_are_spelled() {
        for path in [
            "/api_v3/ser%76ice/user/%61ction/login/userId/bob/password/CANARY/format/1",
            "/API_V3/ser%76ice/session/%61ction/start/secret/CANARY/partnerId/102",
            "/api_v3/SERVICE/user/ACTION/login/PASSWORD/CANARY",
            "/api_v3/INDEX.PHP/userId/bob/password/CANARY/format/1",
            "/api_v3/%69ndex.php/p%61ssword/CANARY",
            "/api_v3/service/user/action/login/password%20/CANARY",
            "/api_v3/service/user/action/login/%20password/CANARY",
            "/api_v3/service/user/action/login/1%3Apassword/CANARY",
            "/api_v3/service/user/action/login%2Fpassword%2FCANARY",
            "/api_v3/service/user/action/login/password%2FCANARY",
            "/api_v3/service/user/action/setPassword/newPassword/CANARY",
            "/api_v3/service/user/action/login/userId/action/password/CANARY",
            "/api_v3/service/user/action/login/x/service/password/CANARY",
            "/api_v3/ser%76ice/session/%61ction/get/session/CANARY",
            "/p/k%53/CANARY",
            "/p/ks%20/CANARY",
            "/play/%64jJ8CANARY",
        ] {
            let logged = without_secrets(path, false);
            assert!(!logged.contains("CANARY") && logged.contains(HIDDEN), "{logged}");
        }
        let padded = format!("/service/a/action/{}password/CANARY", "%20".repeat(40));
        assert!(!without_secrets(&padded, false).contains("CANARY"));
        // Where calls are nothing in the path need say so.
        let call = "/api_v3/partnerId/102/password/CANARY";
        assert_eq!(without_secrets(call, true), "/api_v3/partnerId/102/password/***");
        for plain in [
            "/api_v3/service/session/action/get/id/1",
            "/api_v3/service/media/action/list/filter:idIn/1",
            "/api_v3/service/1:session/1:action/start",
            "/a%20file/Products/CONTACT",
        ] {
            assert_eq!(without_secrets(plain, true), plain);
        }
    }

    #[test]
    fn every_word_that_is_looked_for_is_found_at_first_sight() {
        let more: [&[u8]; 5] = [SEALED, b"ks/", b"KS/", b"kS/", b"%6bs/"];
        for word in PAIRS.into_iter().chain(more) {
            assert!(may_hold_secret(word), "{word:?}");
            assert!(may_hold_secret(&[b"/a", word, b"b"].concat()), "{word:?}");
        }
        for word in PAIRS {
            assert!(may_hold_secret(&word.to_ascii_uppercase()), "{word:?}");
        }
        assert!(!may_hold_secret(b"/news/items/1"));
    }
}
