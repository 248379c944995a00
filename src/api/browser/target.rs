//! Where a sign-in may lead: paths of the own origin, judged as browsers would read them.
//!
//! Knows no state. Anything that could lead elsewhere is refused, never repaired.

use percent_encoding::percent_decode;
use url::Url;

/// Longest target, in bytes.
pub(super) const LONGEST: usize = 8 << 10;
/// Longest fragment, in bytes with its `#`.
pub(super) const LONGEST_FRAGMENT: usize = 2 << 10;

/// Own routes that a sign-in never leads to: they would sign out again, loop or show no page.
const DOORS: [&str; 8] =
    ["continue", "logged-out", "login", "logout", "session", "sessions", "static", "switch"];

/// `text` when it is a path of `origin`, with or without a query; `None` for everything else.
///
/// `origin` is such as `https://app.example.com`, `mount` has no trailing slash.
pub(super) fn own_path<'a>(text: &'a str, origin: &str, mount: &str) -> Option<&'a str> {
    // Browsers drop tabs and line ends, read `\` as `/`, and cut spaces: none of them is needed.
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#');
    if text.len() > LONGEST || !text.starts_with('/') || !text.bytes().all(plain) {
        return None;
    }
    let path = text.split('?').next()?;
    if hides_a_host(path) {
        return None;
    }
    let base = Url::parse(origin).ok()?;
    let url = base.join(text).ok()?;
    let own = url.origin() == base.origin()
        && url.username().is_empty()
        && url.password().is_none()
        && !url.path().starts_with("//");
    (own && !is_door(url.path(), mount)).then_some(text)
}

/// Whether something that decodes this path (an app that builds a link from it, say) could take its
/// start for a host: `//h`, `/%2f/h`, `/%09/h`, `/%255ch`.
fn hides_a_host(path: &str) -> bool {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..3 {
        let mut rest = bytes.iter().skip(1).skip_while(|byte| **byte <= b' ');
        if matches!(rest.next(), Some(b'/' | b'\\')) {
            return true;
        }
        bytes = percent_decode(&bytes).collect();
    }
    false
}

fn is_door(path: &str, mount: &str) -> bool {
    let path = percent_decode(path.as_bytes()).decode_utf8_lossy().to_ascii_lowercase();
    let below = path.strip_prefix(&mount.to_ascii_lowercase());
    let first = below.and_then(|below| below.strip_prefix('/')?.split('/').next());
    first.is_some_and(|first| DOORS.contains(&first))
}

/// `text` when it is a fragment that a browser can have sent, with its `#`. None with a backslash, which no
/// URI holds (RFC 3986 section 3.5) and some readers take for `/`.
pub(super) fn fragment(text: &str) -> Option<&str> {
    let good = text.len() > 1
        && text.len() <= LONGEST_FRAGMENT
        && text.starts_with('#')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    good.then_some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const ORIGIN: &str = "https://app.example.com";

    /// What must not be followed.
    pub(crate) const EVIL: [&str; 44] = [
        "",
        "//evil.example",
        "///evil.example",
        "////evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "/\\/evil.example",
        "https:evil.example",
        "https:/evil.example",
        "https://evil.example",
        "HTTPS://evil.example/",
        "https://app.example.com@evil.example/",
        "https://app.example.com.evil.example/",
        "http://app.example.com/",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "%09//evil.example",
        "\t//evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "/\r\n/evil.example",
        "/%09/evil.example",
        "/%0a/evil.example",
        "/%0d%0a/evil.example",
        "/%2f/evil.example",
        "/%2F%2Fevil.example",
        "/%2fevil.example",
        "/%5cevil.example",
        "/%255cevil.example",
        "/%252f/evil.example",
        "/.//evil.example",
        "/..//evil.example",
        "/%2e//evil.example",
        "/%2e%2e//evil.example",
        "/a\r\nSet-Cookie: x=1",
        " //evil.example",
        "/ /evil.example",
        "/\u{0}/evil.example",
        "/\u{ff0f}evil.example",
        "evil.example",
        "?next=//evil.example",
    ];

    #[test]
    fn only_own_paths_are_followed() {
        for evil in EVIL {
            assert_eq!(own_path(evil, ORIGIN, "/auth"), None, "{evil:?}");
        }
        let long = format!("/{}", "a".repeat(LONGEST));
        assert_eq!(own_path(&long, ORIGIN, "/auth"), None);
        for good in [
            "/",
            "/reports?from=1&to=//x#y".split('#').next().unwrap(),
            "/a%2fb/c%20d?q=%0a",
            "/:80/@user",
            "/auth/account?notice=switched",
            "/authors/login",
            "/a//b",
            "/?next=https://evil.example/",
        ] {
            assert_eq!(own_path(good, ORIGIN, "/auth"), Some(good));
        }
    }

    #[test]
    fn sign_in_never_leads_to_a_door() {
        for door in [
            "/auth/login",
            "/auth/login?next=/",
            "/auth/logout",
            "/AUTH/Logout",
            "/auth/%6cogout",
            "/x/../auth/logout",
            "/auth/./logged-out",
            "/auth/sessions/end",
            "/auth/static/x.css",
        ] {
            assert_eq!(own_path(door, ORIGIN, "/auth"), None, "{door}");
        }
    }

    #[test]
    fn fragments_are_bounded_and_plain() {
        for good in ["#a", "#/route?x=1", "#%C3%A9", "##"] {
            assert_eq!(fragment(good), Some(good));
        }
        let long = format!("#{}", "a".repeat(LONGEST_FRAGMENT));
        for bad in ["", "#", "a", "#a b", "#a\r\nX: y", "#é", "#\u{0}", "#a\\b", long.as_str()] {
            assert_eq!(fragment(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_passes_stays_on_the_origin(
            text in prop_oneof![
                "\\PC{0,40}",
                "[/\\\\%.:@?#a-f0-9 \t\r\n]{0,24}",
                "/[/\\\\%.:@?2f5ce09 ]{0,16}evil\\.example",
            ],
        ) {
            for origin in [ORIGIN, "https://localhost:8443", "https://[::1]:8443"] {
                let Some(path) = own_path(&text, origin, "/auth") else { continue };
                let base = Url::parse(origin).unwrap();
                let url = base.join(path).unwrap();
                prop_assert_eq!(url.origin(), base.origin());
                prop_assert!(HeaderValue::from_str(path).is_ok());
                prop_assert!(!path.starts_with("//") && !path.contains('\\'));
                // As a browser resolves it on our own login page.
                let page = Url::parse(&format!("{origin}/auth/login?next=x")).unwrap();
                prop_assert_eq!(page.join(path).unwrap().origin(), base.origin());
            }
        }
    }
}
