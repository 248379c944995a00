//! The access log: one JSON line for each request.
//!
//! A worker formats into its own buffer and hands over in batches; a line costs no allocation and no
//! lock. Queries are never written: they may hold secrets.

use memchr::memchr;

use super::json::{Members, Object, key};
use super::writer::{BUFFER, LineWriter};
use crate::clock::UnixMs;

/// Lines are handed over when they make up this many bytes.
const BATCH: usize = BUFFER / 2;

/// What is known of a request when its answer is complete. Absent values leave no trace.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessEntry<'a> {
    /// When the answer was complete.
    pub time: UnixMs,
    /// Request id.
    pub request: &'a str,
    /// Client address.
    pub client: Option<&'a str>,
    /// Method.
    pub method: &'a str,
    /// Host that the client asked for.
    pub host: &'a str,
    /// Path; what follows a `?` is not written.
    pub path: &'a str,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes_sent: Option<u64>,
    /// From the head of the request to the end of the answer, in microseconds.
    pub duration_us: u64,
    /// Stable id of the user.
    pub user: Option<&'a str>,
    /// Public id of the session.
    pub session: Option<&'a str>,
    /// The route and where it leads.
    pub place: Option<&'a Place>,
    /// Time until the upstream's response head, in microseconds.
    pub upstream_us: Option<u64>,
    /// `h1` or `h2`.
    pub protocol: &'static str,
    /// TLS version.
    pub tls: Option<&'static str>,
    /// Stable code of the refusal.
    pub refusal: Option<&'static str>,
    /// Who or what ended the answer before its end: `app`, `client`, `gateway`, `session`, `time`.
    pub cut: Option<&'static str>,
}

/// A route as lines name it, written once for all requests that it takes.
#[derive(Clone, Debug)]
pub struct Place(Members);

impl Place {
    /// The route's path and the name of its upstream.
    pub fn new(route: &str, upstream: &str) -> Self {
        Self(Members::new([(key!("route"), route), (key!("upstream"), upstream)]))
    }
}

/// One worker's access log.
#[derive(Debug)]
pub struct AccessLog {
    out: Option<LineWriter>,
    buffer: Vec<u8>,
    stamp: Stamp,
}

impl AccessLog {
    /// An access log that writes to `out`, or nothing without it.
    pub fn new(out: Option<LineWriter>) -> Self {
        let capacity = if out.is_some() { BUFFER } else { 0 };
        Self { out, buffer: Vec::with_capacity(capacity), stamp: Stamp::default() }
    }

    /// Whether lines go anywhere: when not, an entry need not be put together.
    pub fn is_on(&self) -> bool {
        self.out.is_some()
    }

    /// Writes one request.
    pub fn line(&mut self, entry: &AccessEntry<'_>) {
        let Some(out) = &self.out else { return };
        let mut line = Object::open(&mut self.buffer);
        line.text(key!("time"), self.stamp.at(entry.time));
        line.text(key!("request"), entry.request);
        line.text_if(key!("ip"), entry.client);
        line.text(key!("method"), entry.method);
        line.text(key!("host"), entry.host);
        line.text(key!("path"), without_query(entry.path));
        line.number(key!("status"), entry.status.into());
        line.number_if(key!("bytes_sent"), entry.bytes_sent);
        line.number(key!("duration_us"), entry.duration_us);
        line.text_if(key!("user"), entry.user);
        line.text_if(key!("session"), entry.session);
        if let Some(Place(members)) = entry.place {
            line.ready(members);
        }
        line.number_if(key!("upstream_us"), entry.upstream_us);
        line.fixed(key!("protocol"), entry.protocol);
        if let Some(tls) = entry.tls {
            line.fixed(key!("tls"), tls);
        }
        if let Some(refusal) = entry.refusal {
            line.fixed(key!("refusal"), refusal);
        }
        if let Some(cut) = entry.cut {
            line.fixed(key!("cut"), cut);
        }
        line.close();
        self.buffer.push(b'\n');
        if self.buffer.len() >= BATCH {
            out.hand_over(&mut self.buffer);
        }
    }

    /// Hands over what has gathered. To be called a few times each second.
    pub fn flush(&mut self) {
        if let Some(out) = &self.out {
            out.hand_over(&mut self.buffer);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

fn without_query(path: &str) -> &str {
    let end = memchr(b'?', path.as_bytes());
    end.and_then(|end| path.get(..end)).unwrap_or(path)
}

/// The text of a time; only the milliseconds are written anew within a second.
#[derive(Debug, Default)]
struct Stamp {
    second: Option<u64>,
    text: String,
}

impl Stamp {
    fn at(&mut self, time: UnixMs) -> &str {
        if self.second != Some(time.seconds()) {
            self.second = Some(time.seconds());
            self.text = time.rfc3339();
        }
        // The text ends with three digits and "Z".
        self.text.truncate(self.text.len().saturating_sub(4));
        let millis = time.0 % 1000;
        for digit in [millis / 100, millis / 10 % 10, millis % 10] {
            self.text.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
        }
        self.text.push('Z');
        &self.text
    }
}

#[cfg(test)]
mod tests;
