//! The style sheet, the one script, and the policy that allows no other.
//!
//! It must not hold anything that depends on a request.

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

const STYLE_HASH: [u8; 16] = hex(fnv1a(STYLE.as_bytes()));
const SCRIPT_HASH: [u8; 16] = hex(fnv1a(SCRIPT.as_bytes()));

/// Value of `Content-Security-Policy` for every page of this module.
///
/// `form-action 'self'` also rules the redirect that answers a form (Chromium): a login that ends
/// on another origin must go through the `continue` page. `data:` is for the icon alone.
pub const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; \
form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The style sheet, to be served at `{mount}/static/{hash}.css` with an unlimited cache life.
///
/// Returns the hash of the content, as 16 hex digits, and the content.
#[must_use]
pub const fn stylesheet() -> (&'static str, &'static str) {
    (text(&STYLE_HASH), STYLE)
}

/// The script, to be served at `{mount}/static/{hash}.js` with an unlimited cache life.
///
/// Returns the hash of the content, as 16 hex digits, and the content.
#[must_use]
pub const fn script() -> (&'static str, &'static str) {
    (text(&SCRIPT_HASH), SCRIPT)
}

/// 64-bit FNV-1a. It names a version of our own file; nothing is trusted because of it.
const fn fnv1a(mut bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    while let Some((byte, rest)) = bytes.split_first() {
        hash = (hash ^ *byte as u64).wrapping_mul(0x0100_0000_01b3);
        bytes = rest;
    }
    hash
}

/// Lower-case hex, most significant digit first.
const fn hex(mut value: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    let mut left: &mut [u8] = &mut digits;
    while let Some((last, rest)) = left.split_last_mut() {
        let digit = (value & 0xf) as u8;
        *last = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        value >>= 4;
        left = rest;
    }
    digits
}

/// Hex digits are always UTF-8; the other arm cannot be reached.
const fn text(digits: &'static [u8; 16]) -> &'static str {
    match std::str::from_utf8(digits) {
        Ok(text) => text,
        Err(_) => "0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a_in_hex() {
        assert_eq!(hex(fnv1a(b"")), *b"cbf29ce484222325");
        assert_eq!(hex(fnv1a(b"a")), *b"af63dc4c8601ec8c");
        assert_eq!(hex(fnv1a(b"foobar")), *b"85944171f73967e8");
    }

    #[test]
    fn assets_are_small_and_load_nothing() {
        let (style_hash, style) = stylesheet();
        let (script_hash, script) = script();
        assert_eq!((style_hash.len(), script_hash.len()), (16, 16));
        assert_ne!(style_hash, script_hash);
        assert!(style.len() < 20_000 && script.len() < 4_000);
        for forbidden in ["@import", "url(", "expression(", "//"] {
            assert!(!style.contains(forbidden), "{forbidden}");
        }
        for forbidden in ["eval(", "innerHTML", "fetch(", "XMLHttp", "import", "document.write"] {
            assert!(!script.contains(forbidden), "{forbidden}");
        }
    }
}
