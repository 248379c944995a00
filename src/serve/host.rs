//! The one host that a request is for: `Host`, `:authority` and an absolute target must agree.

use std::rc::Rc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Version};

use crate::api::Fault;

/// The host of a request. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// As it goes upstream and into origins: lower-case, with the port as sent.
    text: Rc<str>,
    /// The same as a header's value.
    value: HeaderValue,
    /// Length of the name without port; the name has no trailing dot.
    name: usize,
}

impl Host {
    /// With the port as sent.
    pub(super) fn full(&self) -> &str {
        &self.text
    }

    /// The name alone.
    pub(super) fn name(&self) -> &str {
        self.full().get(..self.name).unwrap_or_default()
    }

    /// As a header's value.
    pub(super) fn value(&self) -> &HeaderValue {
        &self.value
    }
}

fn bad(detail: &str) -> Fault {
    Fault::new(StatusCode::BAD_REQUEST, "bad-host", detail)
}

/// Finds the host (RFC 9112 section 3.2, RFC 9113 section 8.3.1). `known` is one that was found
/// before: a request for the same need not be read anew.
pub(super) fn find(parts: &Parts, known: Option<&Host>) -> Result<Host, Fault> {
    let mut lines = parts.headers.get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(bad("The request has more than one Host header."));
    }
    // What a host is written as is read as that host.
    let is_known = |host: &[u8], known: &&Host| known.text.as_bytes() == host;
    if let (None, Some(line)) = (parts.uri.authority(), line)
        && let Some(known) = known.filter(|known| is_known(line.as_bytes(), known))
    {
        return Ok(known.clone());
    }
    let line = match line {
        Some(line) => Some(line.to_str().map_err(|_| bad("The Host header is not a host."))?),
        None => None,
    };
    let host = match (parts.uri.authority(), line) {
        (None, None) => return Err(bad("The request has no Host header.")),
        (None, Some(line)) => line,
        (Some(authority), line) => {
            if parts.version < Version::HTTP_2 && line.is_none() {
                return Err(bad("The request has no Host header."));
            }
            if line.is_some_and(|line| !line.eq_ignore_ascii_case(authority.as_str())) {
                return Err(bad("The Host header and the request's target name different hosts."));
            }
            authority.as_str()
        }
    };
    if let Some(known) = known.filter(|known| is_known(host.as_bytes(), known)) {
        return Ok(known.clone());
    }
    parse(host).ok_or_else(|| bad("The Host header is not a host with an optional port."))
}

/// Reads `name`, `name:port`, `1.2.3.4:port` or `[v6]:port`; nothing else.
///
/// Takes nothing over from the request: a connection keeps its host, and with a part of a head it would
/// keep the memory of all of it.
pub(super) fn parse(text: &str) -> Option<Host> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, tail) = rest.split_once(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            let name = text.get(..inner.len() + 2)?;
            (name, if tail.is_empty() { None } else { Some(tail.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    if let Some(port) = port {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || port.is_empty() || port.len() > 5 || port.parse::<u16>().ok()? == 0 {
            return None;
        }
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'[' | b']' | b':')
    };
    let bracketed = name.starts_with('[');
    let labels = bracketed || name.split('.').all(|label| !label.is_empty() && label.len() <= 63);
    if name.is_empty() || name.len() > 253 || !labels || !name.bytes().all(plain) {
        return None;
    }
    if !bracketed && name.contains(['[', ']']) {
        return None;
    }
    let length = name.len();
    let mut full = name.to_ascii_lowercase();
    if let Some(port) = port {
        full.push(':');
        full.push_str(port);
    }
    let value = HeaderValue::from_str(&full).ok()?;
    Some(Host { text: full.into(), value, name: length })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn hosts_are_read_strictly() {
        for (text, name, full) in [
            ("Example.COM", "example.com", "example.com"),
            ("example.com.:8443", "example.com", "example.com:8443"),
            ("127.0.0.1:1", "127.0.0.1", "127.0.0.1:1"),
            ("[::1]:443", "[::1]", "[::1]:443"),
            ("a_b.local", "a_b.local", "a_b.local"),
        ] {
            let host = parse(text).unwrap();
            assert_eq!((host.name(), host.full()), (name, full));
        }
        for text in [
            "",
            ".",
            "a..b",
            "user@host",
            "host:99999",
            "host:",
            "host:0",
            "host:+1",
            "a b",
            "a/b",
            "[::1",
            "[::1]x",
            "[nonsense]",
            "a,b",
            "a#b",
            "a?b",
            "a\\b",
            "h:80:80",
            "ä.de",
            ":80",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_three_places_must_agree() {
        let find = |uri: &str, hosts: &[&str], version: Version| {
            let mut request = Request::builder().uri(uri).version(version);
            for host in hosts {
                request = request.header("host", *host);
            }
            let parts = request.body(()).unwrap().into_parts().0;
            let found = super::find(&parts, None).map(|host| host.full().to_owned());
            // As on a connection that has asked for it before.
            let known = found.as_deref().ok().and_then(parse);
            let again = super::find(&parts, known.as_ref()).map(|host| host.full().to_owned());
            assert_eq!(found.as_ref().ok(), again.as_ref().ok());
            found
        };
        let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(find("/", &["a.b"], h1).unwrap(), "a.b");
        assert_eq!(find("http://A.b/", &["a.B"], h1).unwrap(), "a.b");
        assert_eq!(find("https://a.b/", &[], h2).unwrap(), "a.b");
        assert!(find("/", &[], h1).is_err());
        assert!(find("/", &["a", "a"], h1).is_err());
        assert!(find("http://a/", &["b"], h1).is_err());
        assert!(find("http://a/", &[], h1).is_err());
        assert!(find("https://a/", &["b"], h2).is_err());
        assert!(find("https://user@a/", &["user@a"], h2).is_err());
    }
}
