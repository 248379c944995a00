//! Tables of targets, and the property that no normalisation by an upstream changes the route.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

const ALL: Leniency = Leniency { encoded_slash: true, double_slash: true, params: true };

#[test]
fn dangerous_targets_are_refused() {
    use TargetError as E;
    let cases = [
        ("", E::NotAPath),
        ("*", E::NotAPath),
        ("a", E::NotAPath),
        ("?a", E::NotAPath),
        ("http://a/b", E::NotAPath),
        ("\\a", E::NotAPath),
        ("/a b", E::BadByte),
        ("/a\tb", E::BadByte),
        ("/a\0", E::BadByte),
        ("/a\x7f", E::BadByte),
        ("/a\r\nb", E::BadByte),
        ("/caf\u{e9}", E::BadByte),
        ("/a#b", E::BadByte),
        ("/public/#/../admin", E::BadByte),
        ("/a?b#c", E::BadByte),
        ("/a?b c", E::BadByte),
        ("/a?b\u{e9}", E::BadByte),
        ("/a?\0", E::BadByte),
        ("/a\\b", E::Backslash),
        ("/a/..\\b", E::Backslash),
        ("/a%5cb", E::Backslash),
        ("/a%5Cb", E::Backslash),
        ("/a%255cb", E::Backslash),
        ("/a%25255Cb", E::Backslash),
        ("/a%00", E::Control),
        ("/a%00.html", E::Control),
        ("/a%2500", E::Control),
        ("/a%0d%0ab", E::Control),
        ("/a%09", E::Control),
        ("/a%7f", E::Control),
        ("/a%C2%85", E::Control),
        ("/%", E::BadPercent),
        ("/%a", E::BadPercent),
        ("/%zz", E::BadPercent),
        ("/%2", E::BadPercent),
        ("/a%2/b", E::BadPercent),
        ("/%u002e", E::BadPercent),
        ("/%%35c", E::BadPercent),
        ("/%+1", E::BadPercent),
        ("/%25u0061dmin", E::BadPercent),
        ("/%2525U0061dmin", E::BadPercent),
        ("/%25%750061dmin", E::BadPercent),
        ("/%EF%BC%85u0061dmin", E::BadPercent),
        ("/public/%25u002e%25u002e/admin", E::BadPercent),
        ("/.", E::DotSegment),
        ("/..", E::DotSegment),
        ("/...", E::DotSegment),
        ("/./a", E::DotSegment),
        ("/a/../b", E::DotSegment),
        ("/a/..?q", E::DotSegment),
        ("/a/.../b", E::DotSegment),
        ("/a/%2e%2e/b", E::DotSegment),
        ("/a/.%2E/b", E::DotSegment),
        ("/a/%252e%252e/b", E::DotSegment),
        ("/a/%25252e%25252e/b", E::DotSegment),
        ("/a/%2e%252e", E::DotSegment),
        ("/a/..;/b", E::DotSegment),
        ("/a/..;x=y/b", E::DotSegment),
        ("/a/.;/b", E::DotSegment),
        ("/a/..%3b/b", E::DotSegment),
        ("/a/..%253bx/b", E::DotSegment),
        ("/a/..%20/b", E::DotSegment),
        ("/a/%20../b", E::DotSegment),
        ("/a/.%20./b", E::DotSegment),
        ("/a/..%20;x/b", E::DotSegment),
        ("/a/..%2fb", E::DotSegment),
        ("/a%2f..%2fb", E::DotSegment),
        ("/a%252f%252e%252e%252fb", E::DotSegment),
        ("/a/..%3fb", E::DotSegment),
        ("/a/..%23/b", E::DotSegment),
        ("/a/%20/b", E::DotSegment),
        ("/a/%E2%80%A8/b", E::DotSegment),
        ("/a/..%E1%9A%80/b", E::DotSegment),
        ("/a/..+/b", E::DotSegment),
        ("/a/+.%2b/b", E::DotSegment),
        ("/%c0%ae%c0%ae/a", E::NotUtf8),
        ("/%e0%80%ae/a", E::NotUtf8),
        ("/%c1%9c", E::NotUtf8),
        ("/%f5%80%80%80", E::NotUtf8),
        ("/%ed%a0%80", E::NotUtf8),
        ("/%ff", E::NotUtf8),
        ("/%e9t%e9", E::NotUtf8),
        ("/%25c0%25ae", E::NotUtf8),
        ("/%252525252541", E::TooDeep),
    ];
    for (target, error) in cases {
        assert_eq!(Target::parse(target).err(), Some(error), "{target:?}");
    }
    let codes: HashSet<&str> = cases.iter().map(|(_, e)| e.code()).collect();
    assert_eq!(codes.len(), 8, "every hard error has a case and a code of its own");
}

#[test]
fn ordinary_targets_have_a_canonical_form() {
    let cases = [
        ("/", "/"),
        ("/?", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/A/b.C", "/a/b.c"),
        ("/a?/../b;%2f\\%zz//", "/a"),
        ("/a??b", "/a"),
        ("/.well-known/acme", "/.well-known/acme"),
        ("/a..b/..c/d.e", "/a..b/..c/d.e"),
        ("/a./b", "/a/b"),
        ("/a...", "/a"),
        ("/a%20", "/a"),
        ("/a.%20./b", "/a/b"),
        ("/a%20b", "/a b"),
        ("/%61%2562", "/ab"),
        ("/caf%C3%A9", "/caf\u{e9}"),
        ("/CAF%C3%89", "/caf\u{e9}"),
        ("/%E2%84%AAey/%C5%BFub", "/key/sub"),
        ("/100%25", "/100%"),
        ("/100%25%20off", "/100% off"),
        ("/what%3F", "/what"),
        ("/c%23/x", "/c/x"),
        ("/a/%3fb/c", "/a/c"),
        ("/@scope/a+b~c_d-e!$&'()*,=:|^{}\"`[]", "/@scope/a+b~c_d-e!$&'()*,=:|^{}\"`[]"),
    ];
    let root = Prefix::new("/").unwrap();
    for (raw, canonical) in cases {
        let target = Target::parse(raw).unwrap();
        assert_eq!(target.canonical(), canonical, "{raw:?}");
        assert_eq!(target.raw(), raw);
        assert_eq!(target.permitted_by(&Leniency::default(), &root), Ok(()), "{raw:?}");
    }
    let target = Target::parse("/a/B?c=d?e").unwrap();
    assert_eq!((target.path(), target.query()), ("/a/B", Some("c=d?e")));
    assert_eq!(Target::parse("/a").unwrap().query(), None);
    assert_eq!(Target::parse("/a?").unwrap().query(), Some(""));
}

/// Found by the hostile corpus: an app that maps Unicode to plain forms, or does not see invisible characters,
/// read `/admin` in what went to the route of `/`.
#[test]
fn other_forms_of_letters_are_the_same_letters() {
    for (raw, canonical) in [
        ("/%EF%BD%81dmin", "/admin"),
        ("/%EF%BC%A1%EF%BC%A4%EF%BC%AD%EF%BC%A9%EF%BC%AE/x", "/admin/x"),
        ("/%E2%93%90dmin", "/admin"),
        ("/adm%E2%80%8Bin", "/admin"),
        ("/%C2%ADadmin%EF%B8%8F", "/admin"),
        ("/admin%C2%A0", "/admin"),
        ("/cafe%CC%81", "/caf\u{e9}"),
        ("/%EF%BC%85%36%31dmin", "/admin"),
        ("/%EF%AC%81le", "/file"),
        ("/wait%E2%80%A6.pdf", "/wait....pdf"),
        ("/%E3%82%AB%E3%82%99%E3%82%A4", "/\u{30ac}\u{30a4}"),
    ] {
        let target = Target::parse(raw).unwrap();
        assert_eq!((target.canonical().as_ref(), target.raw()), (canonical, raw));
    }
    use TargetError as E;
    for (raw, error) in [
        ("/a/%EF%BC%8E%EF%BC%8E/b", E::DotSegment),
        ("/a/%E2%80%A5/b", E::DotSegment),
        ("/a/.%E2%80%8B./b", E::DotSegment),
        ("/a%EF%BC%BCb", E::Backslash),
        ("/a/..%EF%BC%8Fb", E::DotSegment),
        ("/%EF%BC%85%EF%BC%850%EF%BC%90", E::Control),
    ] {
        assert_eq!(Target::parse(raw).err(), Some(error), "{raw:?}");
    }
    assert!(Target::parse("/a%EF%BC%8Fb").unwrap().encoded_slash);
    assert!(Target::parse("/a/%E2%80%8B/b").unwrap().double_slash);
    assert!(Target::parse("/a%EF%BC%9Bb").unwrap().params);
}

/// Found by an outside attacker: `/adm%C4%B0n/` went to the route of `/`, and is `/admin/` for all that map
/// characters one to one; likewise for letters whose capital is of several characters.
#[test]
fn letters_that_meet_in_some_case_are_the_same() {
    let canonical = |path: &str| {
        let encoded: String = path.bytes().map(|byte| format!("%{byte:02X}")).collect();
        Target::parse(&format!("/{encoded}")).unwrap().canonical().into_owned()
    };
    for (path, configured) in [
        ("adm\u{130}n/x", "/admin"),
        ("admi\u{307}n/x", "/admin"),
        ("ADMI\u{307}N/x", "/admin"),
        ("adm\u{131}n", "/admin"),
        ("stra\u{1e9e}e/x", "/stra\u{df}e/"),
        ("STRASSE", "/stra\u{df}e/"),
        ("stra\u{df}e", "/strasse/"),
        (
            "\u{39c}\u{391}\u{399}\u{308}\u{301}\u{39f}\u{3a5}/X",
            "/\u{3bc}\u{3b1}\u{390}\u{3bf}\u{3c5}/",
        ),
        ("\u{39c}\u{391}\u{3aa}\u{301}\u{39f}\u{3a5}/x", "/\u{3bc}\u{3b1}\u{390}\u{3bf}\u{3c5}/"),
        ("\u{391}\u{342}\u{399}", "/\u{1fb7}"),
    ] {
        let (path, prefix) = (canonical(path), Prefix::new(configured).unwrap());
        let rest = path.strip_prefix(prefix.stem());
        let below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        assert!(below, "{path} {configured}");
    }
    let target = Target::parse("/stra%C3%9Fe/x").unwrap();
    let prefix = Prefix::new("/stra\u{df}e/").unwrap();
    assert_eq!(target.permitted_by(&Leniency::default(), &prefix), Ok(()));
    let target = Target::parse("/adm%C4%B0n/x").unwrap();
    let prefix = Prefix::new("/admin/").unwrap();
    assert_eq!(target.permitted_by(&ALL, &prefix), Err(TargetError::Ambiguous));
}

/// Found by an outside attacker: on Windows, these name the folder `admin`, and went to the route of `/`.
#[test]
fn names_of_streams_are_the_name_of_their_file() {
    for (raw, canonical) in [
        ("/admin::$INDEX_ALLOCATION/x", "/admin/x"),
        ("/admin:$i30:$INDEX_ALLOCATION/x", "/admin/x"),
        ("/admin%3a%3a$INDEX_ALLOCATION/x", "/admin/x"),
        ("/admin::%24Index_Allocation/x", "/admin/x"),
        ("/admin:%2524i30:%2524INDEX_ALLOCATION", "/admin"),
        ("/ADMIN.::$DATA", "/admin"),
        ("/admin:s:$DATA/x", "/admin/x"),
        ("/admin%EF%BC%9A$DATA/x", "/admin/x"),
    ] {
        let target = Target::parse(raw).unwrap();
        assert_eq!(target.canonical(), canonical, "{raw}");
        let prefix = Prefix::new("/admin/").unwrap();
        assert_eq!(target.permitted_by(&ALL, &prefix), Err(TargetError::Ambiguous), "{raw}");
    }
    for raw in ["/v1/things:batchget", "/a:b", "/a:b$c", "/a$:b", "/$metadata", "/a:", "/a:/$b"] {
        let target = Target::parse(raw).unwrap();
        assert_eq!(target.canonical(), raw);
        let prefix = Prefix::new("/").unwrap();
        assert_eq!(target.permitted_by(&Leniency::default(), &prefix), Ok(()), "{raw}");
    }
    for raw in ["/a/::$INDEX_ALLOCATION/b", "/a/..::$INDEX_ALLOCATION/b", "/:$DATA"] {
        assert_eq!(Target::parse(raw).err(), Some(TargetError::DotSegment), "{raw}");
    }
}

/// The prefix of the routes that is chosen, if its route takes the target.
fn route_of(routes: &[&'static str], raw: &str) -> Result<&'static str, TargetError> {
    let target = Target::parse(raw)?;
    let prefixes: Vec<Prefix> = routes.iter().map(|path| Prefix::new(path).unwrap()).collect();
    let covering = (0..routes.len()).filter(|&at| prefixes[at].covers(&target));
    let at = covering.min_by_key(|&at| crate::route::lookup::rank(&prefixes[at])).unwrap();
    target.permitted_by(&Leniency::default(), &prefixes[at]).map(|()| routes[at])
}

/// Found by an outside attacker, as are the three below: some trim more than the space at ends of segments.
#[test]
fn white_space_at_the_end_of_a_segment_is_trimmed() {
    let mut trimmed = 0;
    for c in '\0'..=char::MAX {
        if !c.is_whitespace() && !"\u{feff}\u{180e}\u{200b}".contains(c) {
            continue;
        }
        let encoded: String = c.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
        for raw in [format!("/admin{encoded}"), format!("/admin{encoded}.%20{encoded}/x")] {
            match Target::parse(&raw) {
                Err(error) => assert!(error == TargetError::Control && c.is_control(), "{raw}"),
                Ok(target) => {
                    let canonical = target.canonical().into_owned();
                    assert!(matches!(canonical.as_str(), "/admin" | "/admin/x"), "{raw}");
                    trimmed += 1;
                }
            }
        }
    }
    assert!(trimmed > 40, "{trimmed}");
}

#[test]
fn what_stands_for_cookies_in_a_path_is_looked_behind() {
    let routes = ["/", "/admin", "/app/admin", "/wiki", "/my files"];
    for raw in [
        "/(S(x))/admin",
        "/(F(x)S(y))/admin/x",
        "/app/(S(x))/admin",
        "/(A(x))/(S(x))/ADMIN./x",
        "/%28S%28x%29%29/admin",
        "/(S(a%23b))/admin",
        "/(S(a%253fb))/admin",
        "/(S(x%2528y))/admin",
        "/(S(%EF%BC%88x))/admin",
        "/adm/(S(x))in/y",
        "/(S(x))admin",
        "/wiki/(S(x))s",
        "/wiki/(S(x))..",
        "/(S(x))../admin",
        "/(S(x))/my+files",
    ] {
        assert_eq!(route_of(&routes, raw), Err(TargetError::Ambiguous), "{raw}");
    }
    for (raw, route) in [
        ("/wiki/(foo)", "/wiki"),
        ("/wiki/(S(x))", "/wiki"),
        ("/wiki/(S(x))/b", "/wiki"),
        ("/a/(S(x))/b", "/"),
        ("/(foo)/admin", "/"),
        ("/x(S(x))/admin", "/"),
        ("/wiki/Rust_(language)", "/wiki"),
        ("/admin/(S(x))/y", "/admin"),
    ] {
        assert_eq!(route_of(&routes, raw), Ok(route), "{raw}");
    }
}

#[test]
fn a_plus_may_be_a_space() {
    let routes = ["/", "/admin", "/my files", "/a b+c"];
    for raw in [
        "/my+files/x",
        "/MY%2Bfiles/x",
        "/my%252bfiles/x",
        "/my%EF%BC%8Bfiles",
        "/admin+",
        "/admin%2b/x",
        "/admin.+/x",
        "/+/admin",
        "/a+b%2Bc",
    ] {
        assert_eq!(route_of(&routes, raw), Err(TargetError::Ambiguous), "{raw}");
    }
    for (raw, route) in [
        ("/c++/docs", "/"),
        ("/a+b", "/"),
        ("/repo/+/refs", "/"),
        ("/~user/+archive", "/"),
        ("/my%20files/a+b", "/my files"),
        ("/admin/C%2B%2B", "/admin"),
        ("/a%20b+c", "/a b+c"),
        ("/a%20b%2Bc/x+y", "/a b+c"),
    ] {
        assert_eq!(route_of(&routes, raw), Ok(route), "{raw}");
    }
    let routes = ["/", "/a+b", "/c++", "/c"];
    for (raw, route) in [
        ("/a+b/x", "/a+b"),
        ("/a%2Bb/x", "/a+b"),
        ("/a%2bB", "/a+b"),
        ("/a%20b", "/"),
        ("/c++/x+y", "/c++"),
        ("/c%2B%2b", "/c++"),
        ("/c/x", "/c"),
    ] {
        assert_eq!(route_of(&routes, raw), Ok(route), "{raw}");
    }
    for raw in ["/a%252bb", "/c+/x", "/%61+b"] {
        assert_eq!(route_of(&routes, raw), Err(TargetError::Ambiguous), "{raw}");
    }
    // Whoever has both gets no request for the one that may be the other.
    assert_eq!(route_of(&["/a+b", "/a b"], "/a+b"), Err(TargetError::Ambiguous));
    assert_eq!(route_of(&["/a+b", "/a b"], "/a%20b"), Ok("/a b"));
}

#[test]
fn a_short_name_may_be_a_long_one() {
    let routes = ["/", "/administrator", "/my files", "/admin", "/app/long folder/x"];
    for raw in [
        "/ADMINI~1/x",
        "/admini~2",
        "/adm%69ni%7E1",
        "/ADMINI~1.::$DATA",
        "/MYFILE~1/x",
        "/app/LONGFO~1/x/y",
        "/AD3F2C~1",
        "/admin~1",
    ] {
        assert_eq!(route_of(&routes, raw), Err(TargetError::Ambiguous), "{raw}");
    }
    for (raw, route) in [
        ("/~user/", "/"),
        ("/~1", "/"),
        ("/file~1", "/"),
        ("/app/LONGFO~1/y", "/"),
        ("/admin/ADMINI~1", "/admin"),
        ("/administrator/ADMINI~1", "/administrator"),
        ("/ADMINI~1.html", "/"),
    ] {
        assert_eq!(route_of(&routes, raw), Ok(route), "{raw}");
    }
}

/// Normalised in every way, and as it stands.
fn normalised(text: &str) -> [String; 5] {
    use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
    [
        text.to_owned(),
        ComposingNormalizerBorrowed::new_nfc().normalize(text).into_owned(),
        DecomposingNormalizerBorrowed::new_nfd().normalize(text).into_owned(),
        ComposingNormalizerBorrowed::new_nfkc().normalize(text).into_owned(),
        DecomposingNormalizerBorrowed::new_nfkd().normalize(text).into_owned(),
    ]
}

/// In every case, whole and letter by letter.
fn cased(text: &str) -> [String; 8] {
    let upper = text.to_uppercase();
    // Those that map one character to one leave what has a longer mapping.
    let single = |c: char, mapped: String| match mapped.chars().count() {
        1 => mapped,
        _ => c.to_string(),
    };
    let title = upper.chars().take(1).chain(upper.chars().skip(1).flat_map(char::to_lowercase));
    [
        text.to_lowercase(),
        upper.to_lowercase(),
        text.to_lowercase().to_uppercase(),
        title.collect(),
        text.chars().map(|c| single(c, c.to_lowercase().collect())).collect(),
        text.chars().map(|c| single(c, c.to_uppercase().collect())).collect(),
        text.replace('\u{130}', "i"),
        upper,
    ]
}

#[test]
fn all_cases_of_every_character_are_folded_to_the_same() {
    let fold = |text: &str| {
        let mut folded = String::new();
        canonical::fold(text, &mut folded);
        folded
    };
    let mut looked_at = 0;
    // Nothing above has cases.
    for c in '\0'..='\u{1ffff}' {
        let alone = c.to_string();
        let changes = normalised(&alone).iter().chain(&cased(&alone)).any(|form| *form != alone);
        // Syllables of Hangul have parts, but no cases.
        if !changes || ('\u{ac00}'..='\u{d7a3}').contains(&c) {
            continue;
        }
        looked_at += 1;
        // An iota below becomes a letter beside: a mark behind it then stands on that. No word has such.
        let iota = normalised(&alone).iter().any(|form| form.contains('\u{345}'));
        let texts = [alone, format!("x{c}y"), format!("{c}\u{301}"), format!("{c}\u{323}")];
        for text in texts.iter().take(if iota { 2 } else { 4 }) {
            let folded = fold(text);
            assert_eq!(fold(&folded), folded, "{text:?} is not final");
            let forms: BTreeSet<String> = normalised(text)
                .iter()
                .flat_map(|text| cased(text))
                .flat_map(|form| normalised(&form))
                .collect();
            for form in forms {
                assert_eq!(fold(&form), folded, "{text:?} as {form:?}");
            }
        }
    }
    assert!(looked_at > 5000, "{looked_at}");
}

#[test]
fn an_ordinary_path_is_not_copied() {
    let target = Target::parse("/api/Session/1.json?x=%zz").unwrap();
    assert!(target.readings.is_none());
    let target = Target::parse("/api/session/1.json").unwrap();
    assert!(matches!(target.canonical(), Cow::Borrowed("/api/session/1.json")));
}

#[test]
fn oddities_need_their_leniency() {
    use TargetError as E;
    let only =
        |encoded_slash, double_slash, params| Leniency { encoded_slash, double_slash, params };
    let cases = [
        ("/f/a%2fb", "/f/a/b", only(true, false, false), E::EncodedSlash),
        ("/f/a%252Fb", "/f/a/b", only(true, false, false), E::EncodedSlash),
        ("/f/a//b", "/f/a/b", only(false, true, false), E::DoubleSlash),
        ("/f/a//", "/f/a/", only(false, true, false), E::DoubleSlash),
        ("/f/a;v=1/b", "/f/a/b", only(false, false, true), E::Params),
        ("/f/;/b", "/f/b", only(false, false, true), E::Params),
        ("/f/a%3bb", "/f/a", only(false, false, true), E::Params),
        ("/f/a%253Bb", "/f/a", only(false, false, true), E::Params),
        ("/f/a%2f%2fb;c", "/f/a/b", ALL, E::EncodedSlash),
        ("/f/a/%2fb", "/f/a/b", only(true, true, false), E::EncodedSlash),
    ];
    let prefix = Prefix::new("/f").unwrap();
    for (raw, canonical, needed, error) in cases {
        let target = Target::parse(raw).unwrap();
        assert_eq!(target.canonical(), canonical, "{raw}");
        let found = only(target.encoded_slash, target.double_slash, target.params);
        assert_eq!(found, needed, "{raw}");
        assert_eq!(target.permitted_by(&Leniency::default(), &prefix), Err(error), "{raw}");
        assert_eq!(target.permitted_by(&needed, &prefix), Ok(()), "{raw}");
    }
}

#[test]
fn a_prefix_must_be_meant_literally() {
    for raw in [
        "/%61dmin/x",
        "/%2561dmin",
        "//admin",
        "/admin;x/y",
        "/admin%2fx",
        "/admin./x",
        "/admin%20/x",
        "/admin%3fx",
        "/admin%23",
        "/;/admin",
        "/%2fadmin",
    ] {
        let target = Target::parse(raw).unwrap();
        let prefix = Prefix::new("/admin/").unwrap();
        assert!(prefix.covers(&target), "{raw}");
        assert_eq!(target.permitted_by(&ALL, &prefix), Err(TargetError::Ambiguous), "{raw}");
    }
    let target = Target::parse("/other").unwrap();
    let prefix = Prefix::new("/admin/").unwrap();
    assert_eq!(target.permitted_by(&ALL, &prefix), Err(TargetError::Ambiguous));
}

#[test]
fn a_prefix_covers_whole_segments() {
    let covers = |prefix: &str, raw: &str| {
        let target = Target::parse(raw).unwrap();
        let prefix = Prefix::new(prefix).unwrap();
        let covers = prefix.covers(&target);
        assert_eq!(covers, target.permitted_by(&ALL, &prefix).is_ok(), "{raw}");
        covers
    };
    for prefix in ["/api", "/api/", "/API/"] {
        for inside in ["/api", "/api/", "/api/x", "/API", "/Api/X", "/api?x", "/api/x%20y"] {
            assert!(covers(prefix, inside), "{prefix} {inside}");
        }
        for outside in ["/", "/ap", "/apix", "/apix/y", "/x/api", "/api.json", "/api-v2/", "/ap/i"]
        {
            assert!(!covers(prefix, outside), "{prefix} {outside}");
        }
    }
    for any in ["/", "/x", "/x/", "/x//y"] {
        assert!(covers("/", any));
    }
    assert!(covers("/my docs", "/my%20docs/x"));
    assert!(covers("/c++/a+b", "/C%2B%2b/a%2bb/x"));
    assert!(covers("/my%20docs/", "/MY%20docs"));
    assert!(covers("/caf\u{e9}/", "/caf%c3%a9"));
    assert!(covers("/CAF\u{c9}/", "/Caf%C3%A9/x"));
    assert!(covers("/stra\u{df}e", "/stra%C3%9Fe/x"));
    assert!(covers("/a/b.c/d", "/a/b.c/d/e"));
    assert_eq!(Prefix::new("/Public/").unwrap().stem(), "/public");
    assert_eq!(Prefix::new("/").unwrap().stem(), "");
}

#[test]
fn a_bad_prefix_is_explained() {
    for bad in [
        "",
        "api",
        "*",
        "/a?b",
        "/a#b",
        "/a\\b",
        "//",
        "/a//b",
        "/a/../b",
        "/./",
        "/a;b",
        "/a%2fb",
        "/%61",
        "/a.",
        "/a%20",
        "/a ",
        "/100%25",
        "/100%",
        "/%zz",
        "/a\n",
        "/{id}",
        "/<x>",
        "/%2561",
        "/a%3fb",
        "/a*b|c",
        "/\u{ff41}",
        "/cafe\u{301}",
        "/a\u{ad}b",
        "/a\u{2028}",
        "/a/(S(x))",
        "/(S(x))/a+b",
    ] {
        let message = Prefix::new(bad).expect_err(bad);
        assert!(message.contains(&format!("{bad:?}")) && message.len() > 20, "{message}");
    }
    assert!(Prefix::new("/A/b.").unwrap_err().contains("write \"/a/b\""));
}

type Normalisation = fn(&[u8]) -> Vec<u8>;

/// Ways in which upstreams are known to read a path: an independent model, on bytes.
const NORMALISATIONS: [Normalisation; 16] = [
    percent_decode,
    |p| percent_decode(&percent_decode(p)),
    remove_dot_segments,
    |p| {
        let mut out: Vec<u8> = Vec::new();
        for &b in p {
            if !(b == b'/' && out.last() == Some(&b'/')) {
                out.push(b);
            }
        }
        out
    },
    |p| p.iter().map(|&b| if b == b'\\' { b'/' } else { b }).collect(),
    |p| each_segment(p, |s| s.split(|&b| b == b';').next().unwrap().to_vec()),
    |p| cut(p, b";"),
    |p| p.to_ascii_lowercase(),
    |p| p.to_ascii_uppercase(),
    |p| String::from_utf8_lossy(p).to_lowercase().into_bytes(),
    |p| String::from_utf8_lossy(p).to_uppercase().into_bytes(),
    |p| {
        each_segment(p, |s| {
            let end = s.iter().rposition(|b| !b". ".contains(b)).map_or(0, |at| at + 1);
            s[..end].to_vec()
        })
    },
    |p| cut(p, b"\0"),
    |p| cut(p, b"?#"),
    |p| p.iter().map(|&b| if b == b'+' { b' ' } else { b }).collect(),
    without_session,
];

/// Without the first `/(S(...))`.
fn without_session(path: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(path).into_owned();
    let Some((before, (value, behind))) =
        text.split_once("/(S(").and_then(|(before, rest)| Some((before, rest.split_once("))")?)))
    else {
        return path.to_vec();
    };
    match value.contains(['(', ')']) {
        true => path.to_vec(),
        false => format!("/{}", format!("{before}{behind}").trim_start_matches('/')).into_bytes(),
    }
}

fn percent_decode(path: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(path).collect()
}

fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path.split(|&b| b == b'/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        match *segment {
            b"." | b".." => {
                if *segment == b".." {
                    kept.pop();
                }
                if last {
                    kept.push(b"");
                }
            }
            other => kept.push(other),
        }
    }
    kept.iter().flat_map(|s| [b"/", *s].concat()).collect()
}

fn each_segment(path: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let segments: Vec<Vec<u8>> = path.split(|&b| b == b'/').map(change).collect();
    segments.join(&b'/')
}

fn cut(path: &[u8], at: &[u8]) -> Vec<u8> {
    path.split(|b| at.contains(b)).next().unwrap().to_vec()
}

/// Every form that up to three normalisations in any order make of `path`, itself included.
fn forms(path: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::from([path.to_vec()]);
    let mut newest = all.clone();
    for _ in 0..3 {
        let next = newest.iter().flat_map(|p| NORMALISATIONS.iter().map(|n| n(p)));
        newest = next.filter(|p| !all.contains(p)).collect();
        all.extend(newest.iter().cloned());
    }
    all
}

type Table = Vec<(&'static str, Leniency)>;

fn tables() -> Vec<Table> {
    let strict = Leniency::default();
    let slashes = Leniency { encoded_slash: true, ..strict };
    vec![
        vec![("/public/", strict), ("/", strict)],
        vec![("/", strict), ("/admin", strict)],
        vec![("/", strict), ("/public", strict), ("/public/admin/", strict)],
        vec![("/", strict), ("/admin/", strict), ("/admin/public", strict), ("/a", strict)],
        vec![("/", strict), ("/files/", ALL), ("/admin", strict), ("/a/b", slashes)],
        vec![("/", strict), ("/a/", strict), ("/a/files", ALL), ("/public", ALL)],
        vec![("/", ALL)],
        vec![("/public/", strict), ("/files", ALL), ("/caf\u{e9}", strict)],
        vec![("/", strict), ("/a b", strict), ("/public", strict)],
    ]
}

/// The gateway's choice; `None`: it answers 4xx.
fn choose(table: &Table, target: &str) -> Option<usize> {
    let target = Target::parse(target).ok()?;
    let prefixes: Vec<Prefix> = table.iter().map(|(p, _)| Prefix::new(p).unwrap()).collect();
    let covering = (0..table.len()).filter(|&at| prefixes[at].covers(&target));
    let at = covering.max_by_key(|&at| prefixes[at].stem().len())?;
    let permitted = target.permitted_by(&table[at].1, &prefixes[at]);
    permitted.ok().map(|()| at)
}

/// What an upstream that takes `path` as it is would call the longest prefix. Model: no decoding
/// (but for the prefix that cannot be sent otherwise), whole segments, case aside.
fn literal(table: &Table, path: &[u8]) -> Option<usize> {
    let path = String::from_utf8_lossy(path).to_uppercase();
    let inside = |prefix: &str| {
        let below = path.strip_prefix(prefix.trim_end_matches('/').to_uppercase().as_str());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let sent = |prefix: &str| prefix.replace('\u{e9}', "%c3%a9").replace(' ', "%20");
    let found = (0..table.len()).filter(|&at| inside(table[at].0) || inside(&sent(table[at].0)));
    found.max_by_key(|&at| table[at].0.trim_end_matches('/').len())
}

/// How many tables chose a route, after checking all of them.
fn check(target: &str) -> Result<usize, String> {
    let chosen: Vec<(Table, usize)> = tables()
        .into_iter()
        .filter_map(|table| choose(&table, target).map(|at| (table, at)))
        .collect();
    if chosen.is_empty() {
        return Ok(0);
    }
    let path = target.split('?').next().unwrap();
    for form in forms(path.as_bytes()) {
        for (table, at) in &chosen {
            let read = literal(table, &form);
            if read != Some(*at) {
                let form = String::from_utf8_lossy(&form);
                return Err(format!(
                    "{target:?} went to {:?}, read as {form:?}: {read:?}",
                    table[*at].0
                ));
            }
        }
    }
    Ok(chosen.len())
}

const TOKENS: &[&str] = &[
    "/",
    "/",
    "/",
    "//",
    "public",
    "PUBLIC",
    "admin",
    "aDmin",
    "files",
    "a",
    "b",
    "x",
    ".",
    "..",
    "...",
    "%2e",
    "%252E",
    "%2f",
    "%252F",
    "%25252f",
    "\\",
    "%5c",
    "%255c",
    ";",
    ";x",
    "%3b",
    "%253b",
    "%20",
    "%2520",
    "+",
    "%2b",
    "/(S(x))",
    "%00",
    "%2500",
    "%3f",
    "%253F",
    "%23",
    "?",
    "#",
    "%",
    "%2",
    "5c",
    "2f",
    "%25",
    "%61",
    "%2561",
    "%2525",
    "%c0%ae",
    "%ef%bc%8e",
    "%e2%84%aa",
    "caf%c3%a9",
    "caf%C3%89",
    "%c5%bf",
    " ",
    "\0",
    "dmin",
    "%41DMIN",
    "ublic",
    "/public/",
    "/admin/",
    "/files/",
    "/a/b/",
];

#[test]
fn short_targets_keep_their_route() {
    let mut permitted = 0;
    for first in TOKENS {
        for second in TOKENS {
            for third in
                ["", "/", "admin", "/admin", "..", "/x", "%2e", "%2f", ";", "a", "//b", "b"]
            {
                permitted += check(&format!("/{first}{second}{third}")).unwrap();
                permitted += check(&format!("{first}{second}{third}")).unwrap();
            }
        }
    }
    // The check is worth nothing if nearly everything is refused.
    assert!(permitted > 95_000, "{permitted}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_target_keeps_its_route(tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..9)) {
        check(&format!("/{}", tokens.concat())).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn calm_targets_keep_their_route(
        prefix in prop::sample::select(vec!["/", "/public/", "/files/", "/a/files/", "/caf%c3%a9/", "/a/b/"]),
        tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..4),
    ) {
        check(&format!("{prefix}{}", tokens.concat())).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn any_text_is_parsed_without_panic(text in "(/|[%/.;\\\\a-f0-9]){0,3}\\PC{0,20}") {
        check(&text).map_err(TestCaseError::fail)?;
        if let Ok(target) = Target::parse(&text) {
            prop_assert_eq!(target.raw(), &text);
            // The canonical form is final: nothing is left that another reading could change.
            let canonical = target.canonical().into_owned();
            prop_assert!(canonical.starts_with('/') && !canonical.contains("//"));
            prop_assert!(!canonical.contains([';', '\\', '?', '#', '\0']));
        }
    }
}
