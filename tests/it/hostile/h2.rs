//! The same over HTTP/2: cases from a file, and one-byte mutations of every field that says where a request
//! goes, how long it is or who sent it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use tokio::task::JoinSet;

use super::Tally;
use super::corpus::{Want, Who, unescaped};
use super::judge::{Fault, fields};
use super::stand::{Stand, case_of, id};
use super::strict::{self, End};
use crate::support::h2raw::{DATA, END_HEADERS, END_STREAM, H2Raw, HEADERS, Outcome, block};
use crate::support::upstream::Recorded;

const AT_ONCE: usize = 8;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    source: String,
    #[serde(default = "Entry::get")]
    method: String,
    #[serde(default = "Entry::public")]
    path: String,
    #[serde(default = "Entry::host")]
    authority: String,
    #[serde(default = "Entry::https")]
    scheme: String,
    #[serde(default)]
    before: Vec<Vec<String>>,
    #[serde(default)]
    fields: Vec<Vec<String>>,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    trailers: Vec<Vec<String>>,
    #[serde(default)]
    each: Vec<String>,
    #[serde(default)]
    want: Want,
    #[serde(default)]
    who: Who,
}

impl Entry {
    fn get() -> String {
        "GET".to_owned()
    }
    fn public() -> String {
        "/public/{id}".to_owned()
    }
    fn host() -> String {
        "{host}".to_owned()
    }
    fn https() -> String {
        "https".to_owned()
    }
}

#[derive(Debug, Deserialize)]
struct File {
    case: Vec<Entry>,
}

type Field = (Vec<u8>, Vec<u8>);

#[derive(Clone, Debug)]
struct Case {
    name: String,
    fields: Vec<Field>,
    body: Vec<u8>,
    trailers: Vec<Field>,
    want: Want,
    who: Who,
}

/// A pair, or one text that is split at its first `=`.
fn field(parts: &[String], each: &str) -> Field {
    let parts: Vec<String> = parts.iter().map(|part| part.replace("{each}", each)).collect();
    let (name, value) = match &parts[..] {
        [one] => one.split_once('=').unwrap_or_else(|| panic!("{one:?} is no field")),
        [name, value] => (name.as_str(), value.as_str()),
        other => panic!("{other:?} is no field"),
    };
    (unescaped(name), unescaped(value))
}

fn cases() -> Vec<Case> {
    let file: File = toml::from_str(include_str!("../../hostile/h2.toml")).unwrap();
    let mut cases = Vec::new();
    for entry in file.case {
        assert!(!entry.source.is_empty(), "{}: no source", entry.name);
        for each in &entry.each {
            let list = |fields: &[Vec<String>]| -> Vec<Field> {
                fields.iter().map(|parts| field(parts, each)).collect()
            };
            let dropped: Vec<String> =
                entry.drop.iter().map(|name| name.replace("{each}", each)).collect();
            let first = [
                (":method", &entry.method),
                (":scheme", &entry.scheme),
                (":authority", &entry.authority),
                (":path", &entry.path),
            ];
            let first = first.into_iter().filter(|(name, _)| !dropped.iter().any(|d| d == name));
            let first = first.map(|(name, value)| {
                (name.as_bytes().to_vec(), unescaped(&value.replace("{each}", each)))
            });
            cases.push(Case {
                name: format!("{} {each}", entry.name),
                fields: [list(&entry.before), first.collect(), list(&entry.fields)].concat(),
                body: unescaped(&entry.body),
                trailers: list(&entry.trailers),
                want: entry.want,
                who: entry.who,
            });
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_say_no_more_than_lines() {
    let stand = Stand::start().await;
    attack(&stand, cases()).await.report("h2");
}

/// Bytes that end a name, a value or a line for somebody, and others that may not stand there.
const BYTES: &[u8] = b"\0\t\n\r :A_,;%/@\x7f\x80\xff";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_a_field_makes_it_another() {
    let stand = Stand::start().await;
    let base = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "{host}"),
        (":path", "/public/{id}"),
        ("content-length", "5"),
        ("x-auth-user", "evil"),
        ("x-forwarded-for", "evil"),
        ("te", "trailers"),
        ("host", "{host}"),
    ];
    let fill = |text: &str| match text {
        "{host}" => stand.filling.host.clone().into_bytes(),
        text => text.as_bytes().to_vec(),
    };
    let base: Vec<Field> = base.iter().map(|(name, value)| (fill(name), fill(value))).collect();
    let mut cases = Vec::new();
    for at in 0..base.len() {
        let (name, value) = base[at].clone();
        let names = changes(&name).into_iter().map(|name| (name, value.clone()));
        // The id of the case stands in the path: what is before it is changed.
        let kept = if name == b":path" { b"{id}".to_vec() } else { Vec::new() };
        let changing = &value[..value.len() - kept.len()];
        let values = changes(changing)
            .into_iter()
            .map(|value| (name.clone(), [value, kept.clone()].concat()));
        for changed in names.chain(values) {
            let mut fields = base.clone();
            let shown = format!("{}: {}", changed.0.escape_ascii(), changed.1.escape_ascii());
            fields[at] = changed;
            cases.push(Case {
                name: shown,
                fields,
                body: b"hello".to_vec(),
                trailers: Vec::new(),
                want: Want::Safe,
                who: Who::Nobody,
            });
        }
    }
    attack(&stand, cases).await.report("h2 mutations");
}

/// Every replacement, insertion and deletion of one byte.
fn changes(text: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for at in 0..=text.len() {
        let (before, behind) = text.split_at(at);
        if let Some((_, rest)) = behind.split_first() {
            all.push([before, rest].concat());
            all.extend(BYTES.iter().map(|byte| [before, &[*byte], rest].concat()));
        }
        if at == 0 || at == text.len() || super::is_thorough() {
            all.extend(BYTES.iter().map(|byte| [before, &[*byte], behind].concat()));
        }
    }
    all
}

async fn attack(stand: &Arc<Stand>, cases: Vec<Case>) -> Tally {
    stand.upstream.forget();
    let (cases, next) = (Arc::new(cases), Arc::new(AtomicUsize::new(0)));
    let outcomes = Arc::new(Mutex::new(BTreeMap::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (stand, cases) = (Arc::clone(stand), Arc::clone(&cases));
        let (next, outcomes) = (Arc::clone(&next), Arc::clone(&outcomes));
        tasks.spawn(async move {
            let mut open = None;
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(case) = cases.get(at) else { return };
                let outcome = send(&stand, &mut open, case, &id(at)).await;
                outcomes.lock().unwrap().insert(at, outcome);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let mut seen: BTreeMap<usize, Vec<Recorded>> = BTreeMap::new();
    let mut tally = Tally::default();
    for recorded in stand.upstream.requests() {
        match case_of(&recorded.head.raw) {
            Some(at) => seen.entry(at).or_default().push(recorded),
            None => {
                let shown = String::from_utf8_lossy(&recorded.bytes()).into_owned();
                tally.add("(of no case)", &[], vec![Fault::Unsafe(shown)]);
            }
        }
    }
    let outcomes = std::mem::take(&mut *outcomes.lock().unwrap());
    for (at, (sent, outcome)) in outcomes {
        let seen = seen.remove(&at).unwrap_or_default();
        let faults = judge(&cases[at], &sent, &seen, &outcome, stand);
        tally.add(&cases[at].name, &shown(&sent), faults);
    }
    tally
}

/// Sends a case on the open connection, or on a new one, and gives what was sent and what became of it.
async fn send(
    stand: &Stand,
    open: &mut Option<(H2Raw, u32)>,
    case: &Case,
    id: &str,
) -> (Vec<Field>, Outcome) {
    let fill = |fields: &[Field]| -> Vec<Field> {
        let one =
            |field: &Field| (stand.filling.fill(&field.0, id), stand.filling.fill(&field.1, id));
        fields.iter().map(one).collect()
    };
    let (fields, trailers) = (fill(&case.fields), fill(&case.trailers));
    let body = stand.filling.fill(&case.body, id);
    loop {
        let (mut h2, stream) = match open.take() {
            Some(open) => open,
            None => (H2Raw::connect(&stand.gateway).await, 1),
        };
        let ends = |last: bool| if last { END_STREAM } else { 0 };
        let (bare, plain) = (trailers.is_empty() && body.is_empty(), trailers.is_empty());
        h2.frame(HEADERS, END_HEADERS | ends(bare), stream, &block(&fields)).await;
        if !body.is_empty() {
            h2.frame(DATA, ends(plain), stream, &body).await;
        }
        if !plain {
            h2.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&trailers)).await;
        }
        let outcome = h2.outcome(stream).await;
        let ended = matches!(outcome, Outcome::GoAway(_) | Outcome::Closed);
        if ended && stream > 1 {
            // It may have ended for what came before.
            continue;
        }
        *open = Some((h2, stream + 2)).filter(|_| !ended && stream < 100);
        return (fields, outcome);
    }
}

/// The path without a fragment: the library that reads the frames cuts it off.
fn path<'a>(all: &[&'a [u8]]) -> Option<&'a [u8]> {
    let [path] = all else { return None };
    path.split(|&byte| byte == b'#').next()
}

fn judge(
    case: &Case,
    sent: &[Field],
    seen: &[Recorded],
    outcome: &Outcome,
    stand: &Stand,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let all = |name: &str| -> Vec<&[u8]> {
        let same = sent.iter().filter(|(n, _)| n == name.as_bytes());
        same.map(|(_, value)| value.as_slice()).collect()
    };
    if seen.len() > 1 {
        faults.push(Fault::Unsafe(format!("{} requests", seen.len())));
    }
    let mut whole = false;
    for recorded in seen {
        let bytes = recorded.bytes();
        let read = strict::read(&bytes);
        let message = match (&read.messages[..], &read.broken, read.end) {
            ([one], None, End::Clean | End::Closed) => {
                whole = true;
                one
            }
            // Whether a body is as long as it says is known at its end.
            ([], Some(one), End::Incomplete) => one,
            _ => {
                let shown = String::from_utf8_lossy(&bytes).into_owned();
                faults.push(Fault::Unsafe(format!("malformed upstream: {shown}")));
                continue;
            }
        };
        faults.extend(fields(message, &stand.filling, case.who));
        let same = all(":method") == [message.method.as_slice()]
            && path(&all(":path")) == Some(message.target.as_slice())
            && message.target.starts_with(b"/public/");
        if !same {
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            faults.push(Fault::Unsafe(format!("another request: {shown}")));
        }
        let authority = all(":authority").concat();
        let name = |host: &[u8]| -> Vec<u8> {
            let host = host.split(|&byte| byte == b':').next().unwrap_or_default();
            host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase()
        };
        if name(&authority) != name(stand.filling.host.as_bytes()) {
            faults.push(Fault::Unsafe("another authority".to_owned()));
        }
    }
    match case.want {
        Want::Refuse if whole => faults.push(Fault::Unsafe("reached the application".to_owned())),
        Want::Refuse if *outcome == Outcome::Status(200) => {
            faults.push(Fault::Unsafe("answered 200".to_owned()));
        }
        Want::Pass if !whole || *outcome != Outcome::Status(200) => {
            faults.push(Fault::FalseRefusal(format!("{outcome:?}")));
        }
        _ => {}
    }
    if *outcome == Outcome::Status(500) {
        faults.push(Fault::Unsafe("answered 500".to_owned()));
    }
    faults
}

fn shown(fields: &[Field]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [name, &b"="[..], value, b"; "].concat()).collect()
}
