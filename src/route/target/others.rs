//! Readings that make another path of one, where neither is coarser: each must lead to the same route.
//!
//! What all upstreams agree on, and what only makes a path coarser, belongs to `canonical`.

use super::TargetError;

/// So many readings are followed. Two kinds, each at two depths of decoding, make 8; more is an attack.
const MAX_READINGS: usize = 16;

/// `None`: that changes nothing.
type Reading = fn(&str) -> Result<Option<String>, TargetError>;

const READINGS: [Reading; 2] = [spaced, cookieless];

/// Adds to `others` what readings, one after the other, make of `text` and of them.
///
/// To be called before each step of decoding: an upstream may read so before or after any of them.
pub(super) fn spread(text: &str, others: &mut Vec<String>) -> Result<(), TargetError> {
    let mut at = 0;
    let mut next = read(text)?;
    loop {
        for form in next {
            if form != text && !others.contains(&form) {
                others.push(form);
            }
        }
        if others.len() > MAX_READINGS {
            return Err(TargetError::Ambiguous);
        }
        let Some(form) = others.get(at) else { return Ok(()) };
        next = read(form)?;
        at += 1;
    }
}

fn read(text: &str) -> Result<Vec<String>, TargetError> {
    READINGS.iter().filter_map(|reading| reading(text).transpose()).collect()
}

/// `+` as a space, as in forms: Sinatra does so, and whoever takes `URLDecoder` (Java) or `urldecode` (PHP) for
/// paths.
fn spaced(text: &str) -> Result<Option<String>, TargetError> {
    Ok(text.contains('+').then(|| text.replace('+', " ")))
}

/// Without what ASP.NET takes for a session or ticket, sent in the path for want of a cookie: `/(S(x))/admin` is
/// `/admin`. What follows in the same segment is joined with the one before (`/adm/(S(x))in`, CVE-2023-36899):
/// no link has that.
fn cookieless(text: &str) -> Result<Option<String>, TargetError> {
    let mut kept = String::new();
    let (mut rest, mut found) = (text, false);
    while let Some(start) = rest.find("/(") {
        let (before, from) = rest.split_at(start);
        kept.push_str(before);
        match behind_group(from) {
            Some(behind) if behind.is_empty() || behind.starts_with('/') => {
                (rest, found) = (behind, true);
            }
            Some(_) => return Err(TargetError::Ambiguous),
            None => {
                kept.push('/');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    kept.push_str(rest);
    Ok(found.then_some(kept))
}

/// What follows `/(A(x)B(y))`: one or more values, each with a letter before it.
fn behind_group(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix("/(")?;
    loop {
        let value = rest.strip_prefix(|c: char| c.is_ascii_alphabetic())?.strip_prefix('(')?;
        let (end, paren) = value.char_indices().find(|&(_, c)| matches!(c, '(' | ')'))?;
        rest = value.get(end + 1..).filter(|_| paren == ')')?;
        if let Some(behind) = rest.strip_prefix(')') {
            return Some(behind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_place_of_cookies_are_cut_out() {
        for (text, read) in [
            ("/(S(x))/admin", "/admin"),
            ("/(F(x)S(y))/admin/x", "/admin/x"),
            ("/app/(S(x))/admin", "/app/admin"),
            ("/adm/(A())/in", "/adm/in"),
            ("/(a(b/c))/d", "/d"),
            ("/(S(x))/(b)/(F(y))/c", "/(b)/c"),
            ("/(S(x))", ""),
        ] {
            assert_eq!(cookieless(text).unwrap().as_deref(), Some(read), "{text}");
        }
        for text in ["/(foo)", "/()", "/a(S(x))", "/(S(x)", "/(SS(x))", "/(S(x)y)", "/(S((x)))"] {
            assert_eq!(cookieless(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn nothing_follows_them_in_their_segment() {
        for text in ["/adm/(S(x))in", "/(S(x))admin", "/a/(S(x)).", "/a/(S(x))(S(x))/b"] {
            assert_eq!(cookieless(text), Err(TargetError::Ambiguous), "{text}");
        }
    }

    #[test]
    fn readings_are_combined_and_bounded() {
        let mut others = Vec::new();
        spread("/a/b", &mut others).unwrap();
        assert!(others.is_empty());
        spread("/(S(x))/a+b", &mut others).unwrap();
        assert_eq!(others, ["/(S(x))/a b", "/a+b", "/a b"]);
        let nested = format!("{}x{}", "/(S(/(S(".repeat(20), "))".repeat(40));
        assert_eq!(spread(&nested, &mut Vec::new()), Err(TargetError::Ambiguous));
    }
}
