//! What may have reached the application of one connection, by what a strict reader reads in its bytes.

use std::collections::BTreeSet;

use super::corpus::{Filling, Who};
use super::strict::{self, End, Message, Reading};
use crate::support::upstream::{Recorded, normal};

/// What is wrong with a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The application saw what it should not have seen.
    Unsafe(String),
    /// The application took the client for somebody else, or could have.
    Identity(String),
    /// What is right did not get through.
    FalseRefusal(String),
    /// No answer, or a connection that stays open behind a malformed message.
    Hangs(String),
}

/// Names that say who the client is, and the classes that say where a request came from.
const IDENTITY: &[&str] = &[
    "x-auth-user",
    "x-auth-identifier",
    "x-auth-name",
    "x-auth-email",
    "x-auth-groups",
    "x-auth-roles",
    "x-auth-active-claim",
    "x-auth-session",
    "x-auth-method",
    "x-auth-actor",
    "x-auth-tenant",
    "x-auth-privileges",
    "x-auth-assertion",
    "nuvla-authn-info",
    "x-remote-user",
    "remote-user",
];

/// Whether an application reads a header of this name as something that only a gateway says.
fn is_ours(name: &str) -> bool {
    let name = normal(name);
    IDENTITY.contains(&name.as_str())
        || name.starts_with("x-forwarded-")
        || name == "x-forwarded"
        || name.starts_with("x-original-")
        || matches!(name.as_str(), "forwarded" | "x-real-ip" | "x-rewrite-url" | "proxy")
}

/// Whether a request must, may or must not be handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Must,
    May,
    Never,
}

fn right(message: &Message, filling: &Filling, who: Who) -> Right {
    let authority = filling.host.to_ascii_lowercase();
    let name = authority.split(':').next().unwrap_or_default().to_owned();
    let mut right = if message.doubtful { Right::May } else { Right::Must };
    if message.all("host").len() != 1 {
        return Right::Never;
    }
    for host in message.all("host").into_iter().chain(message.authority()) {
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        let (host, port) = host.split_once(':').unwrap_or((&host, "1"));
        // Which port a client names is its own business, but it has to be one.
        let number = port.parse().is_ok_and(|port: u16| port > 0)
            && port.bytes().all(|byte| byte.is_ascii_digit());
        if host.strip_suffix('.').unwrap_or(host) != name || !number {
            return Right::Never;
        }
        if format!("{host}:{port}") != authority {
            right = Right::May;
        }
    }
    let path = message.path();
    let path = path.split(|&byte| byte == b'?').next().unwrap_or(path);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(byte);
    match message.method.as_slice() {
        b"TRACE" | b"CONNECT" => return Right::Never,
        b"GET" | b"HEAD" | b"POST" | b"PUT" | b"PATCH" | b"DELETE" | b"OPTIONS" => {}
        _ => right = Right::May,
    }
    let open = path.to_ascii_lowercase().starts_with(b"/public/");
    match (open, who) {
        (false, Who::Nobody) => return Right::Never,
        (false, Who::Alice) => right = Right::May,
        (true, _) if !path.iter().all(plain) || ambiguous(path) => right = Right::May,
        (true, _) => {}
    }
    let size: usize = message.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    let odd =
        ["upgrade", "expect", "max-forwards"].iter().any(|name| !message.all(name).is_empty());
    if odd || message.fields.len() > 100 || size > 12_000 || message.target.len() > 8_000 {
        right = Right::May;
    }
    right
}

/// Whether a plain path has segments that may be refused: that is for the tests of paths to judge.
fn ambiguous(path: &[u8]) -> bool {
    let mut segments = path.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if (segment.is_empty() && !last)
            || segment.iter().all(|&byte| byte == b'.') && !segment.is_empty()
        {
            return true;
        }
    }
    false
}

/// What the client got: the text of each answer, in their order, and how it ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    pub(super) list: Vec<(u16, String)>,
    pub(super) stalled: bool,
    pub(super) closed: bool,
}

/// Judges one connection. `whole`: everything that is right must have been served.
pub(super) fn judge(
    reading: &Reading,
    seen: &[Recorded],
    answers: &Answers,
    filling: &Filling,
    who: Who,
    whole: bool,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (mut missed, mut cut) = (false, false);
    let mut next = 0;
    for recorded in seen {
        let bytes = recorded.bytes();
        let read = strict::read(&bytes);
        let (message, complete) = match (&read.messages[..], &read.broken, read.end) {
            ([one], None, End::Clean | End::Closed) => (one, true),
            ([], Some(one), End::Incomplete) => (one, false),
            _ => {
                let shown = String::from_utf8_lossy(&bytes).into_owned();
                faults.push(Fault::Unsafe(format!("malformed upstream ({:?}): {shown}", read.end)));
                continue;
            }
        };
        faults.extend(fields(message, filling, who));
        let same = |known: &Message| {
            let body = match complete {
                true => known.body == message.body,
                false => known.body.starts_with(&message.body),
            };
            known.method == message.method && known.path() == message.target && body
        };
        let at = (next..reading.messages.len()).find(|&at| same(&reading.messages[at]));
        let broken = reading.broken.as_ref().is_some_and(|broken| !complete && same(broken));
        let Some(at) = at else {
            if !broken {
                let shown = String::from_utf8_lossy(&bytes).into_owned();
                faults.push(Fault::Unsafe(format!("a strict reader has no such request: {shown}")));
            }
            continue;
        };
        let right = right(&reading.messages[at], filling, who);
        // What is cut off ends the connection: nothing behind it is missed.
        missed |= !complete && right == Right::Must;
        cut |= !complete;
        if right == Right::Never {
            let shown = String::from_utf8_lossy(&message.target).into_owned();
            faults.push(Fault::Unsafe(format!("may not reach the application: {shown}")));
        }
        missed |= lost(&reading.messages[next..at], filling, who);
        next = at + 1;
    }
    missed |= !cut && lost(reading.messages.get(next..).unwrap_or_default(), filling, who);
    if missed && whole {
        let shown: Vec<u16> = answers.list.iter().map(|(status, _)| *status).collect();
        faults.push(Fault::FalseRefusal(format!("answered {shown:?}")));
    }
    faults.extend(answered(reading, answers));
    faults
}

/// Whether something that must be served is among these, before anything that may end the connection.
fn lost(messages: &[Message], filling: &Filling, who: Who) -> bool {
    let first = messages.first();
    first.is_some_and(|message| right(message, filling, who) == Right::Must)
}

/// Each answer belongs to the request in its place: the application answers with the target.
fn answered(reading: &Reading, answers: &Answers) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, (status, text)) in answers.list.iter().enumerate() {
        let target = reading.messages.get(at).or(reading.broken.as_ref());
        let target = target.map(|message| String::from_utf8_lossy(message.path()).into_owned());
        let head = reading.messages.get(at).is_some_and(|message| message.method == b"HEAD");
        if *status == 200 && !head && target.as_deref() != Some(text) {
            faults.push(Fault::Unsafe(format!("answer {at} is that of {text:?}")));
        }
    }
    if answers.stalled {
        faults.push(Fault::Hangs("no answer".to_owned()));
    }
    if matches!(reading.end, End::Malformed(_)) && !answers.closed {
        faults.push(Fault::Hangs("stays open behind a malformed message".to_owned()));
    }
    faults
}

/// The header fields of a request that reached the application.
pub(super) fn fields(message: &Message, filling: &Filling, who: Who) -> Vec<Fault> {
    // What is sent behind a case carries nothing.
    let alone = [&b"-last"[..], b"-hidden"].iter().any(|tail| message.target.ends_with(tail));
    let who = if alone { Who::Nobody } else { who };
    let mut faults = Vec::new();
    let mut names = BTreeSet::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for (name, value) in &message.fields {
        let (name, value) = (text(name), text(value));
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            faults.push(Fault::Unsafe(format!("header name {name:?}")));
        }
        let once = is_ours(&name)
            || matches!(
                normal(&name).as_str(),
                "host" | "content-length" | "transfer-encoding" | "cookie"
            );
        if once && !names.insert(normal(&name)) {
            faults.push(Fault::Unsafe(format!("{name} is there twice")));
        }
        if is_ours(&name) && value.contains("evil") {
            faults.push(Fault::Identity(format!("{name}: {value}")));
        }
        // A client may tell the application its own token; the session's carrier must not.
        let mut pairs = value.split(';').filter_map(|pair| pair.split_once('='));
        let carried = name.eq_ignore_ascii_case("cookie")
            && pairs.any(|(name, _)| name.trim_start_matches(' ') == "__Host-portcullis");
        if carried || (who == Who::Alice && value.contains(&filling.token)) {
            faults.push(Fault::Unsafe(format!("the session is in {name}")));
        }
        let hop = matches!(
            normal(&name).as_str(),
            "keep-alive"
                | "proxy-connection"
                | "proxy-authorization"
                | "trailer"
                | "http2-settings"
        );
        let upgrade = matches!(normal(&name).as_str(), "upgrade" | "connection");
        let te = normal(&name) == "te" && !value.eq_ignore_ascii_case("trailers");
        if hop || te || (upgrade && !matches!(value.as_str(), "upgrade" | "websocket")) {
            faults.push(Fault::Unsafe(format!("hop-by-hop {name}: {value}")));
        }
    }
    let host = message.all("host");
    let host = String::from_utf8_lossy(host.first().copied().unwrap_or_default()).into_owned();
    let name = |host: &str| host.split(':').next().unwrap_or_default().to_owned();
    if name(&host) != name(&filling.host) {
        faults.push(Fault::Unsafe(format!("Host {host:?}")));
    }
    let user: Vec<String> = message.all("x-auth-user").into_iter().map(text).collect();
    let right = match who {
        Who::Nobody => user.is_empty(),
        Who::Alice => user == ["u-alice"],
    };
    if !right {
        faults.push(Fault::Identity(format!("taken for {user:?}, not {who:?}")));
    }
    let peer: Vec<String> = message.all("x-forwarded-for").into_iter().map(text).collect();
    if peer != ["127.0.0.1"] {
        faults.push(Fault::Identity(format!("X-Forwarded-For {peer:?}")));
    }
    faults
}
