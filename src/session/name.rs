//! The one form in which names of people are compared, however they were typed.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// A login name or e-mail address as it is compared: without spaces around it, in lower case, and the same
/// for all ways in which Unicode writes a letter (Unicode's NFKC).
///
/// Through upper case, since some letters meet only there (`ß` and `ss`, `ς` and `σ`): what has one upper
/// case is one name.
pub fn canonical(name: &str) -> Cow<'_, str> {
    let name = name.trim();
    if name.is_ascii() {
        return match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
    }
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let plain = nfkc.normalize(name);
    let upper = plain.chars().flat_map(char::to_uppercase);
    let lower: String = upper.flat_map(char::to_lowercase).collect();
    // Upper case may come in parts.
    Cow::Owned(nfkc.normalize(&lower).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_write_a_name_are_one() {
        for (one, other) in [
            ("ada", " ADA "),
            ("zoë", "ZOË"),
            ("zoë", "zoe\u{308}"),
            ("zoë", "ZOE\u{308}"),
            ("straße", "STRASSE"),
            ("ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ"),
            ("ada", "ａｄａ"),
            ("finn", "ﬁnn"),
            ("ǰan", "ǰAN"),
        ] {
            assert_eq!(canonical(one), canonical(other), "{one} {other}");
        }
        for (one, other) in [("zoe", "zoë"), ("ada", "аda"), ("a da", "ada")] {
            assert_ne!(canonical(one), canonical(other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_canonical_is_left_alone() {
        assert!(matches!(canonical("ada@example.org"), Cow::Borrowed("ada@example.org")));
        for name in ["Zoë", "Straße", "İlker", "ὈΔΥΣΣΕΎΣ", "ﬁnn"] {
            let once = canonical(name).into_owned();
            assert_eq!(canonical(&once), once);
        }
    }
}
