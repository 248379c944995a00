//! The session cookie: found, removed from what goes upstream, set and taken back.
//!
//! Reads names byte for byte as issued: other spellings are other cookies.

use std::fmt;

use http::header::{self, HeaderMap, HeaderValue};
use memchr::memmem;
use zeroize::Zeroizing;

use crate::secret::same;
use crate::session::Token;

/// The cookie's name with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName(String);

/// What a request carries under our name.
#[derive(Debug)]
pub enum Carried {
    /// One cookie that reads as a token.
    Token(Token),
    /// Nothing.
    Nothing,
    /// One cookie that is no token of ours.
    Unreadable,
    /// Several: somebody may have planted one, so none counts.
    Several,
}

impl CookieName {
    /// A cookie of this name. With `__Host-` a browser accepts it only from this very host, over TLS.
    pub fn new(name: String) -> Self {
        Self(name)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Joins cookie crumbs (RFC 9113 section 8.2.3), removes our cookies and those below our name
    /// (`<name>-...`), and leaves the app's byte for byte. `recall` is the connection's.
    pub fn take(&self, headers: &mut HeaderMap, recall: &mut Option<Recall>) -> Carried {
        // Looked up again where it is changed: an entry to be changed would make room for one more.
        let lines = headers.get_all(header::COOKIE);
        let mut lines = lines.iter();
        let Some(first) = lines.next() else { return Carried::Nothing };
        let single = lines.next().is_none();
        let known = recall.as_ref().filter(|known| single && known.is_of(self, first.as_bytes()));
        if let Some(known) = known {
            put(headers, known.rest.clone(), single);
            return Carried::Token(known.token.clone());
        }
        if single && memmem::find(first.as_bytes(), self.0.as_bytes()).is_none() {
            return Carried::Nothing;
        }
        let mut carried = Carried::Nothing;
        let (mut rest, mut removed) = (Vec::new(), false);
        for line in headers.get_all(header::COOKIE) {
            for pair in line.as_bytes().split(|byte| *byte == b';') {
                let own = self.value(pair);
                removed |= own.is_some();
                match own {
                    Some(Own::Session(value)) => {
                        carried = match carried {
                            Carried::Nothing => {
                                Token::parse(value).map_or(Carried::Unreadable, Carried::Token)
                            }
                            _ => Carried::Several,
                        };
                    }
                    Some(Own::Other) => {}
                    None => join(&mut rest, pair),
                }
            }
        }
        if single && !removed {
            return carried;
        }
        let rest = HeaderValue::from_bytes(&rest).ok().filter(|rest| !rest.is_empty());
        let rest = rest.map(|mut rest| {
            rest.set_sensitive(true);
            rest
        });
        if single && let Carried::Token(token) = &carried {
            *recall = Recall::new(self, first.as_bytes(), token, rest.as_ref());
        }
        put(headers, rest, single);
        carried
    }

    fn value<'a>(&self, pair: &'a [u8]) -> Option<Own<'a>> {
        let rest = pair.trim_ascii().strip_prefix(self.0.as_bytes())?;
        match rest.split_first() {
            Some((b'=', value)) => Some(Own::Session(value)),
            Some((b'-', _)) => Some(Own::Other),
            _ => None,
        }
    }

    /// `Set-Cookie` that hands out `token` for `max_age` seconds.
    pub fn issue(&self, token: &Token, max_age: u64) -> Option<HeaderValue> {
        let mut cookie = cookie::Cookie::new(self.0.as_str(), token.encode().as_str().to_owned());
        harden(&mut cookie);
        let max_age = i64::try_from(max_age).unwrap_or(i64::MAX);
        cookie.set_max_age(cookie::time::Duration::seconds(max_age));
        sensitive(&cookie)
    }

    /// `Set-Cookie` that takes the cookie back.
    pub fn revoke(&self) -> Option<HeaderValue> {
        let mut cookie = cookie::Cookie::new(self.0.as_str(), "");
        harden(&mut cookie);
        cookie.set_max_age(cookie::time::Duration::ZERO);
        sensitive(&cookie)
    }
}

/// Puts one cookie line, or none, in the place of those that there are: a `single` one or more.
fn put(headers: &mut HeaderMap, line: Option<HeaderValue>, single: bool) {
    match (headers.get_mut(header::COOKIE), line) {
        (Some(first), Some(line)) if single => *first = line,
        (_, Some(line)) => drop(headers.insert(header::COOKIE, line)),
        (_, None) => drop(headers.remove(header::COOKIE)),
    }
}

fn harden(cookie: &mut cookie::Cookie<'_>) {
    cookie.set_path("/");
    cookie.set_secure(true);
    cookie.set_http_only(true);
    cookie.set_same_site(cookie::SameSite::Lax);
}

fn sensitive(cookie: &cookie::Cookie<'_>) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&cookie.to_string()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The cookie line of a connection's last request, and what was found in it: clients send the same
/// one with every request.
pub struct Recall {
    name: CookieName,
    line: Zeroizing<Box<[u8]>>,
    token: Token,
    rest: Option<HeaderValue>,
}

/// Longer cookie lines are not worth the memory of a connection.
const RECALLED: usize = 2048;

impl Recall {
    fn new(
        name: &CookieName,
        line: &[u8],
        token: &Token,
        rest: Option<&HeaderValue>,
    ) -> Option<Self> {
        (line.len() <= RECALLED).then(|| Self {
            name: name.clone(),
            line: Zeroizing::new(line.into()),
            token: token.clone(),
            rest: rest.cloned(),
        })
    }

    /// In constant time: behind a proxy, people may share a connection.
    fn is_of(&self, name: &CookieName, line: &[u8]) -> bool {
        same(&self.line, line) && self.name == *name
    }
}

/// Shows nothing: the line has the token in it.
impl fmt::Debug for Recall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recall").finish_non_exhaustive()
    }
}

enum Own<'a> {
    Session(&'a [u8]),
    Other,
}

fn join(rest: &mut Vec<u8>, pair: &[u8]) {
    let pair = pair.trim_ascii();
    if pair.is_empty() {
        return;
    }
    if !rest.is_empty() {
        rest.extend(b"; ");
    }
    rest.extend(pair);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::SessionId;

    fn take(lines: &[&str]) -> (Carried, Vec<String>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
        }
        let (name, mut recall) = (CookieName::new("__Host-portcullis".to_owned()), None);
        let mut again = headers.clone();
        let carried = name.take(&mut headers, &mut recall);
        // The next request of the connection finds the same.
        let repeated = name.take(&mut again, &mut recall);
        assert_eq!(format!("{carried:?}"), format!("{repeated:?}"));
        assert_eq!(headers, again);
        let left = headers.get_all(header::COOKIE).iter();
        (carried, left.map(|value| value.to_str().unwrap().to_owned()).collect())
    }

    fn token() -> String {
        Token::issue(SessionId::issue().unwrap()).unwrap().encode().to_string()
    }

    #[test]
    fn what_a_connection_recalls_is_not_shown() {
        let (token, mut recall) = (token(), None);
        let mut headers = HeaderMap::new();
        let line = format!("theme=dark; __Host-portcullis={token}");
        headers.append(header::COOKIE, HeaderValue::from_str(&line).unwrap());
        CookieName::new("__Host-portcullis".to_owned()).take(&mut headers, &mut recall);
        assert_eq!(format!("{:?}", recall.unwrap()), "Recall { .. }");
    }

    #[test]
    fn our_cookie_is_found_and_removed() {
        let token = token();
        let ours = format!("__Host-portcullis={token}");
        for (lines, left) in [
            (vec![ours.clone()], vec![]),
            (vec![format!("a=1; {ours}; b=\"x y\"")], vec!["a=1; b=\"x y\""]),
            (vec!["a=1".to_owned(), ours.clone(), "b=2".to_owned()], vec!["a=1; b=2"]),
            (vec![format!("{ours};__Host-portcullis-next=1")], vec![]),
        ] {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let (carried, rest) = take(&lines);
            assert!(matches!(carried, Carried::Token(_)), "{lines:?}");
            assert_eq!(rest, left);
        }
    }

    #[test]
    fn other_spellings_and_several_never_count() {
        let token = token();
        for line in [
            format!("__host-portcullis={token}"),
            format!("$Version=1; x__Host-portcullis={token}"),
            format!("=__Host-portcullis={token}"),
            format!("%5F%5FHost-portcullis={token}"),
            format!("__Host-portcullis =\"{token}\""),
            "__Host-portcullis".to_owned(),
        ] {
            let (carried, rest) = take(&[&line]);
            assert!(matches!(carried, Carried::Nothing), "{line}: {carried:?}");
            assert_eq!(rest, [line]);
        }
        let twice = format!("__Host-portcullis={token}; a=1; __Host-portcullis={token}");
        let (carried, rest) = take(&[&twice]);
        assert!(matches!(carried, Carried::Several));
        assert_eq!(rest, ["a=1"]);
        let (carried, _) = take(&[&format!("__Host-portcullis=\"{token}\"")]);
        assert!(matches!(carried, Carried::Unreadable));
    }

    #[test]
    fn our_name_inside_an_apps_cookie_changes_nothing() {
        for line in
            ["a=1;;  b=__Host-portcullis=2 ;c", " x__Host-portcullis-y=1;", "__Host-portcullis"]
        {
            let (carried, rest) = take(&[line]);
            assert!(matches!(carried, Carried::Nothing), "{line}: {carried:?}");
            assert_eq!(rest, [line]);
        }
    }

    #[test]
    fn the_cookie_is_hardened() {
        let name = CookieName::new("__Host-portcullis".to_owned());
        let token = Token::issue(SessionId::issue().unwrap()).unwrap();
        let issued = name.issue(&token, 60).unwrap();
        let text = issued.to_str().unwrap();
        for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/", "Max-Age=60"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("Domain"));
        assert!(issued.is_sensitive());
        assert!(name.revoke().unwrap().to_str().unwrap().contains("Max-Age=0"));
    }

    proptest! {
        #[test]
        fn the_apps_cookies_survive(line in "[ -~]{0,80}") {
            prop_assume!(!line.contains("__Host-portcullis"));
            let (carried, rest) = take(&[&line]);
            prop_assert!(matches!(carried, Carried::Nothing));
            prop_assert_eq!(rest, [line]);
        }
    }
}
