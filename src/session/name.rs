//! The one form in which names of people are compared, however they were typed.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

/// A login name or e-mail address as it is compared: without spaces around it, in lower case, and the same
/// for all ways in which Unicode writes a letter (Unicode's NFKC), without what nobody sees (soft hyphens, joiners,
/// fillers): what Unicode calls `NFKC_Casefold`.
///
/// Through upper case, since some letters meet only there (`ß` and `ss`, `ς` and `σ`), and through lower case before,
/// where others do (`ẞ` and `ß`).
pub fn canonical(name: &str) -> Cow<'_, str> {
    let name = name.trim();
    if name.is_ascii() {
        return match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
    }
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let unseen = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let plain = nfkc.normalize(name);
    // Most letters are looked up in no table.
    let is_unseen = |c: char| c == '\u{ad}' || c >= '\u{34f}' && unseen.contains(c);
    let seen = plain.chars().filter(|c| !is_unseen(*c));
    let upper = seen.flat_map(char::to_lowercase).flat_map(char::to_uppercase);
    let lower: String = upper.flat_map(char::to_lowercase).collect();
    // Upper case may come in parts, and spaces behind what is not seen.
    Cow::Owned(nfkc.normalize(lower.trim()).into_owned())
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
            ("straße", "STRAẞE"),
            ("ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ"),
            ("ada", "ａｄａ"),
            ("finn", "ﬁnn"),
            ("ǰan", "ǰAN"),
            ("ada", "a\u{ad}da"),
            ("ada", "\u{feff}a\u{200b}d\u{200d}a\u{fe0f}"),
            ("ada", "ada\u{3164}"),
            ("zoë", "zoe\u{34f}\u{308}"),
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
        for name in ["Zoë", "Straße", "İlker", "ὈΔΥΣΣΕΎΣ", "ﬁnn", "q\u{ad}\u{323}\u{307}"]
        {
            let once = canonical(name).into_owned();
            assert_eq!(canonical(&once), once);
        }
    }

    #[test]
    fn one_form_of_every_letter_is_enough() {
        for c in (char::MIN..=char::MAX).map(String::from) {
            let once = canonical(&c).into_owned();
            assert_eq!(canonical(&once), once, "{c:?}");
            for other in [c.to_uppercase(), c.to_lowercase(), c.to_lowercase().to_uppercase()] {
                assert_eq!(canonical(&other), once, "{c:?} and {other:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn one_form_of_any_name_is_enough(name in "\\PC{0,12}|[a-eß\u{ad}\u{34f}\u{301}\u{323}\u{200d}İς ]{0,8}") {
            let once = canonical(&name).into_owned();
            proptest::prop_assert_eq!(&*canonical(&once), &*once);
        }
    }
}
