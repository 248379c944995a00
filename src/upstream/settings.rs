//! `[[upstream]]`: what can be configured of an app.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::headers::Extras;
use crate::section::Section;

/// How to speak with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, over TLS where the address is `https://`.
    Http1,
    /// HTTP/2: with prior knowledge over plain TCP, by ALPN over TLS.
    Http2,
}

/// One place where the app listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Path that answers 2xx or 3xx while the app is well.
    pub path: String,
    /// Time between checks.
    pub interval: Duration,
    /// Time limit of a check.
    pub timeout: Duration,
}

/// Settings of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name that routes refer to.
    pub name: String,
    /// Whether this is the built-in page that shows what an app would receive.
    pub whoami: bool,
    /// Where the app listens; empty for built-ins.
    pub addresses: Vec<Target>,
    /// Protocol towards the app.
    pub protocol: Protocol,
    /// Certificate authority for `https://` addresses; the system's when absent.
    pub ca: Option<PathBuf>,
    /// Name that the app's certificate must have; the address's host when absent.
    pub server_name: Option<String>,
    /// Limit on connecting, TLS included.
    pub connect: Duration,
    /// Limit from the request to the head of the answer.
    pub first_byte: Duration,
    /// Limit on silence within a body.
    pub idle: Duration,
    /// Limit on silence of a tunnel (WebSocket) in both directions.
    pub tunnel_idle: Duration,
    /// Idle connections that a worker keeps per address.
    pub keep: usize,
    /// Requests that a worker has under way at once.
    pub max_requests: usize,
    /// How long an idle connection is kept.
    pub keep_for: Duration,
    /// Failures in a row after which an address is left out for a while.
    pub max_failures: u32,
    /// How long it is left out before one request may try again.
    pub eject_for: Duration,
    /// Active health check.
    pub health: Option<Health>,
    /// What it is told besides the usual identity headers.
    pub extras: Extras,
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

impl Settings {
    /// Reads one `[[upstream]]`.
    pub fn read(section: &mut Section) -> Self {
        let name = section.required("name", "app").value;
        let url = section.text("url");
        let more = section.texts("urls");
        let mut settings = Self {
            name,
            whoami: false,
            addresses: Vec::new(),
            protocol: Protocol::Http1,
            ca: section.path("ca"),
            server_name: section.text("server_name").map(|name| name.value),
            connect: section.duration("connect_timeout", 2 * SECOND, SECOND / 100..=60 * SECOND),
            first_byte: section.duration("first_byte_timeout", 60 * SECOND, SECOND / 10..=HOUR),
            idle: section.duration("idle_timeout", 300 * SECOND, SECOND / 10..=24 * HOUR),
            tunnel_idle: section.duration("tunnel_idle_timeout", HOUR, SECOND..=240 * HOUR),
            keep: usize::try_from(section.count("keep", 128, 0..=10_000)).unwrap_or(128),
            max_requests: usize::try_from(section.count("max_requests", 1024, 1..=1_000_000))
                .unwrap_or(1024),
            keep_for: section.duration("keep_for", 30 * SECOND, SECOND..=HOUR),
            max_failures: u32::try_from(section.count("max_failures", 3, 1..=1000)).unwrap_or(3),
            eject_for: section.duration("eject_for", 10 * SECOND, SECOND / 10..=HOUR),
            health: None,
            extras: Extras::read(section),
        };
        if let Some(text) = section.text("protocol") {
            settings.protocol = match text.value.as_str() {
                "http1" => Protocol::Http1,
                "http2" | "h2c" => Protocol::Http2,
                other => {
                    let what = format!("`protocol` cannot be \"{other}\"");
                    section.problem_at(&text, what, "use \"http1\" or \"http2\" (h2c, gRPC)");
                    Protocol::Http1
                }
            };
        }
        for text in url.iter().chain(&more) {
            match text.value.as_str() {
                "builtin:whoami" => settings.whoami = true,
                other => match target(other) {
                    Ok(target) => settings.addresses.push(target),
                    Err(what) => section.problem_at(text, what, URL_REMEDY),
                },
            }
        }
        if url.is_none() && more.is_empty() {
            section.problem("url", "the upstream has no address: `url` is missing", URL_REMEDY);
        }
        if settings.whoami && !settings.addresses.is_empty() {
            section.problem("url", "builtin:whoami cannot be mixed with addresses", URL_REMEDY);
        }
        let mut health = section.table("health");
        if health.is_present() {
            let path = health.required("path", "/healthz");
            let visible = |byte: u8| byte.is_ascii_graphic();
            if !path.value.starts_with('/') || !path.value.bytes().all(visible) {
                let what = "`health.path` must start with / and have no blanks or other characters that URLs lack";
                health.problem_at(&path, what, "write \"/healthz\"");
            }
            settings.health = Some(Health {
                path: path.value,
                interval: health.duration("interval", 5 * SECOND, SECOND / 10..=HOUR),
                timeout: health.duration("timeout", 2 * SECOND, SECOND / 10..=60 * SECOND),
            });
        }
        settings
    }

    /// Whether any address is `https://`.
    pub fn uses_tls(&self) -> bool {
        self.addresses.iter().any(|target| target.tls)
    }
}

const URL_REMEDY: &str =
    "write \"http://127.0.0.1:3000\", \"https://app.internal:8443\" or \"builtin:whoami\"";

fn target(text: &str) -> Result<Target, String> {
    let parsed = url::Url::parse(text);
    // What stands before it may be a password.
    let text =
        text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("...@{host}"));
    let url = parsed.map_err(|error| format!("\"{text}\" is not a URL: {error}"))?;
    let tls = match url.scheme() {
        "http" => false,
        "https" => true,
        other => return Err(format!("the scheme {other}: of \"{text}\" is not supported")),
    };
    let extra = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
    if extra || !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "\"{text}\" must be scheme, host and port only: paths are kept as sent"
        ));
    }
    let host = match url.host() {
        Some(url::Host::Domain(name)) => name.to_owned(),
        Some(url::Host::Ipv4(ip)) => IpAddr::from(ip).to_string(),
        Some(url::Host::Ipv6(ip)) => IpAddr::from(ip).to_string(),
        None => return Err(format!("\"{text}\" names no host")),
    };
    let port = url.port_or_known_default().unwrap_or(80);
    Ok(Target { host, port, tls })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::section::Problems;

    fn read(text: &str) -> (Settings, String) {
        let problems = Problems::default();
        let mut section = Section::parse(Path::new("c.toml"), text.to_owned(), &problems);
        let settings = Settings::read(&mut section);
        drop(section);
        let words: Vec<_> = problems.list().iter().map(ToString::to_string).collect();
        (settings, words.join("\n"))
    }

    #[test]
    fn addresses_are_read() {
        let (settings, problems) =
            read("name = \"a\"\nurls = [\"http://[::1]:3000\", \"https://app.internal\"]");
        assert_eq!(problems, "");
        assert_eq!(settings.addresses[0].host, "::1");
        assert_eq!(settings.addresses[1].port, 443);
        assert!(settings.uses_tls());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, what) in [
            ("name = \"a\"", "has no address"),
            ("name = \"a\"\nurl = \"127.0.0.1:3000\"", "is not"),
            ("name = \"a\"\nurl = \"ftp://h\"", "not supported"),
            ("name = \"a\"\nurl = \"http://h/base\"", "scheme, host and port only"),
            ("name = \"a\"\nurl = \"http://me:canary@h\"", "\"...@h\" must be"),
            ("name = \"a\"\nurl = \"http://me:canary@h:x\"", "\"...@h:x\" is not a URL"),
            (
                "name = \"a\"\nurl = \"http://h\"\nhealth = { path = \"/x\\r\\ny\" }",
                "must start with",
            ),
            ("url = \"http://h\"", "`name` is missing"),
            ("name = \"a\"\nurl = \"http://h\"\nprotocol = \"h3\"", "cannot be"),
            ("name = \"a\"\nurl = \"http://h\"\nconect_timeout = \"1s\"", "connect_timeout"),
        ] {
            let (_, problems) = read(text);
            assert!(problems.contains(what), "{text}: {problems}");
            assert!(!problems.contains("canary"), "{problems}");
        }
    }
}
