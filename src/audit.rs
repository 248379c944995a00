//! Security events as one enum, written as JSON lines.
//!
//! Events are plain data: no HTTP type, no dialect, and by construction no token or password.

use std::fmt;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Mutex;

use serde::Serialize;

use crate::clock::Clock;

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// A session switched its active claim.
    ClaimSwitch {
        /// Stable id of the user.
        user: &'a str,
        /// Public id of the session.
        session: &'a str,
        /// Claim before.
        from: &'a str,
        /// Claim after.
        to: &'a str,
    },
    /// An operator let somebody try to log in again at once.
    DelaysLifted {
        /// Whom the operator named, empty for everybody.
        person: &'a str,
        /// The network that was named, empty for all.
        network: &'a str,
        /// Counters that were forgotten.
        counters: usize,
    },
    /// More than one cookie of the session cookie's name arrived: treated as none.
    DuplicateSessionCookie,
    /// A network has shown so many different unknown tokens that no more are looked up for a while.
    Guessing {
        /// The network.
        network: &'a str,
        /// How many, within a minute.
        tokens: usize,
    },
    /// A key was made.
    KeyIssued {
        /// Public id of the key.
        key: &'a str,
        /// Whom it acts as, such as `user/<id>`.
        owner: &'a str,
    },
    /// A key was revoked.
    KeyRevoked {
        /// Public id of the key.
        key: &'a str,
        /// Whom it acted as.
        owner: &'a str,
    },
    /// A login was accepted.
    Login {
        /// Stable id of the user.
        user: &'a str,
        /// Login name of the account.
        identifier: &'a str,
        /// Public id of the new session.
        session: &'a str,
        /// Login method.
        method: &'a str,
        /// Who acts for the user, if somebody else: `partner/<id>`, or the owner of a key.
        #[serde(skip_serializing_if = "str::is_empty")]
        actor: &'a str,
    },
    /// A login was not accepted.
    LoginFailure {
        /// The name as typed, cut to 128 characters. Of one that nobody has no more than a hash, which is what
        /// `portcullis ban list` shows, and of a key or an app token that nobody has no more than that: people and
        /// programs put secrets there.
        identifier: &'a str,
        /// Why: `invalid`, `throttled`, `busy`, `store`.
        reason: &'a str,
    },
    /// A request was refused by policy or as a forgery.
    Refusal {
        /// Stable id of the user, empty when anonymous.
        user: &'a str,
        /// Stable code of the refusal.
        code: &'a str,
        /// Path without its query.
        path: &'a str,
    },
    /// A session ended before its time.
    SessionEnd {
        /// Stable id of the user.
        user: &'a str,
        /// Public id of the session.
        session: &'a str,
        /// Why: `logout`, `ended-by-user`, `ended-by-operator`, `new-login`, `user-disabled`,
        /// `key-revoked`, `maker-gone` (its key or partner is gone),
        /// `too-many-sessions`, `abandoned` (whoever signed in had gone).
        reason: &'a str,
    },
}

/// Where a request came from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Client address.
    pub ip: Option<IpAddr>,
    /// Request id, empty when there is none.
    pub request: String,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request: &'a str,
}

/// The audit log. One JSON object a line; control characters in values are escaped.
pub struct Audit {
    clock: Clock,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Audit {
    /// An audit log that writes to `out`, which must not block.
    pub fn new(clock: Clock, out: Box<dyn Write + Send>) -> Self {
        Self { clock, out: Mutex::new(out) }
    }

    /// An audit log that keeps nothing: for tools.
    pub fn silent(clock: Clock) -> Self {
        Self::new(clock, Box::new(std::io::sink()))
    }

    /// Writes one event.
    pub fn record(&self, origin: &Origin, event: &Event<'_>) {
        let line = Line {
            time: self.clock.now().rfc3339(),
            event,
            ip: origin.ip,
            request: &origin.request,
        };
        let Ok(mut text) = serde_json::to_vec(&line) else { return };
        text.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The writer counts what it drops; a full disk must not stop traffic.
        let _ = out.write_all(&text);
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Audit")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::UnixMs;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_hostile_name_stays_within_its_line() {
        let sink = Sink::default();
        let audit = Audit::new(Clock::manual(UnixMs(0)), Box::new(sink.clone()));
        let identifier = "eve\r\n{\"event\":\"login\"}\u{1b}[2J";
        let origin = Origin { ip: "192.0.2.1".parse().ok(), request: "r1".to_owned() };
        audit.record(&origin, &Event::LoginFailure { identifier, reason: "invalid" });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains('\u{1b}'));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["event"], "login-failure");
        assert_eq!(line["identifier"], identifier);
        assert_eq!(line["time"], "1970-01-01T00:00:00.000Z");
    }
}
