//! What hostile applications answer: cases from a file, and one-byte mutations of every line that frames an
//! answer. The client reads strictly: it gets one well-formed answer to each of its requests, nothing of what
//! stands behind an answer, and no cookie of ours.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Tally;
use super::answers::{self, Answer, Whole};
use super::corpus::{Filling, Want, unescaped};
use super::judge::Fault;
use super::stand::{AT_ONCE, Stand, case_of, echo, id};
use crate::support::gateway::Builder;
use crate::support::{Reply, Upstream};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    source: String,
    /// Whole bytes; or the parts below.
    send: Option<String>,
    #[serde(default = "Entry::ok")]
    line: String,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    each: Vec<String>,
    #[serde(default)]
    want: Want,
    /// The application closes the connection behind its answer.
    #[serde(default)]
    closes: bool,
}

impl Entry {
    fn ok() -> String {
        "HTTP/1.1 200 OK".to_owned()
    }
}

#[derive(Debug, Deserialize)]
struct File {
    case: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Case {
    name: String,
    reply: Vec<u8>,
    want: Want,
    closes: bool,
}

fn cases() -> Vec<Case> {
    let file: File = toml::from_str(include_str!("../../hostile/replies.toml")).unwrap();
    let mut cases = Vec::new();
    for entry in file.case {
        assert!(!entry.source.is_empty(), "{}: no source", entry.name);
        let fields: String = entry.fields.iter().map(|field| format!(r"{field}\r\n")).collect();
        let text = entry
            .send
            .clone()
            .unwrap_or_else(|| format!(r"{}\r\n{fields}\r\n{}", entry.line, entry.body));
        for each in &entry.each {
            let (name, text) = (format!("{} {each}", entry.name), text.replace("{each}", each));
            let (reply, want, closes) = (unescaped(&text), entry.want, entry.closes);
            cases.push(Case { name, reply, want, closes });
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_answer_for_one_request() {
    attack(cases()).await.report("replies");
}

/// An answer that nobody asked for.
const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

const BYTES: &[u8] = b"\0\t\n\r ,:;05x\xff";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_an_answer_makes_it_two() {
    let bases = [
        ("status", "", "HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\n\r\nhello"),
        ("length", "HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\n", "\r\nhello"),
        (
            "coding",
            "HTTP/1.1 200 OK\r\n",
            "Transfer-Encoding: chunked\r\n",
            "\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "coding beside a length",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\n",
            "\r\n0\r\n\r\n",
        ),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "",
        ),
        (
            "cookie",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
            "Set-Cookie: __Host-portcullis=evil\r\n",
            "\r\nhello",
        ),
    ];
    let mut cases = Vec::new();
    for (name, before, line, behind) in bases {
        for at in 0..line.len() {
            let (start, rest) = line.as_bytes().split_at(at);
            let changed = BYTES.iter().map(|byte| [start, &[*byte], &rest[1..]].concat());
            for changed in changed.chain([[start, &rest[1..]].concat()]) {
                let parts = [before.as_bytes(), &changed, behind.as_bytes(), EVIL.as_bytes()];
                cases.push(Case {
                    name: format!("{name} {at}"),
                    reply: parts.concat(),
                    want: Want::Safe,
                    closes: false,
                });
            }
        }
    }
    attack(cases).await.report("reply mutations");
}

async fn attack(cases: Vec<Case>) -> Tally {
    let filling = Filling { host: String::new(), token: "?".to_owned() };
    let fill =
        |(at, case): (usize, Case)| Case { reply: filling.fill(&case.reply, &id(at)), ..case };
    let cases: Arc<Vec<Case>> = Arc::new(cases.into_iter().enumerate().map(fill).collect());
    let known = Arc::clone(&cases);
    let upstream = Upstream::answering(move |request| {
        let case = case_of(&request.head.raw).filter(|_| !request.target.ends_with("-last"));
        match case.and_then(|at| known.get(at)) {
            Some(case) if case.closes => Reply::raw(case.reply.clone()).then_close(),
            Some(case) => Reply::raw(case.reply.clone()),
            None => echo(request),
        }
    });
    let url = format!("http://{}", upstream.addr());
    let routes = |builder: Builder| {
        let limits = "first_byte_timeout = \"1s\"\nidle_timeout = \"1s\"\nmax_failures = 1000";
        builder.upstream_with("hostile", &url, limits).public("/public/", "hostile")
    };
    let stand = Stand::with(routes).await;
    let (next, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(BTreeMap::new())));
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (stand, count) = (Arc::clone(&stand), cases.len());
        let (next, done) = (Arc::clone(&next), Arc::clone(&done));
        tasks.spawn(async move {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return;
                }
                let got = ask(&stand, &id(at)).await;
                done.lock().unwrap().insert(at, got);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let done = std::mem::take(&mut *done.lock().unwrap());
    let mut tally = Tally::default();
    for (at, got) in done {
        let faults = judge(&cases[at], got.as_deref(), &id(at));
        tally.add(&cases[at].name, &cases[at].reply, faults);
    }
    tally
}

/// Asks for the hostile answer and then for another on the same connection; all bytes that came. `None`: it
/// did not end.
async fn ask(stand: &Stand, id: &str) -> Option<Vec<u8>> {
    let host = stand.gateway.authority();
    let mut raw = stand.connect().await;
    raw.send(format!(
        "GET /public/{id} HTTP/1.1\r\nHost: {host}\r\n\r\n\
         GET /public/{id}-last HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    ))
    .await;
    timeout(Duration::from_secs(15), raw.reader.rest()).await.ok()
}

fn judge(case: &Case, got: Option<&[u8]>, id: &str) -> Vec<Fault> {
    let Some(got) = got else { return vec![Fault::Hangs("no end".to_owned())] };
    let mut faults = Vec::new();
    let mut bad = |what: String| faults.push(Fault::Unsafe(what));
    let read = match answers::read(got) {
        Ok(read) => read,
        Err(what) => {
            bad(format!("malformed for the client ({what}): {}", got.escape_ascii()));
            return faults;
        }
    };
    let (sent, sent_behind) = answers::first(&case.reply, case.closes);
    let Some(first) = read.first() else {
        bad("no answer".to_owned());
        return faults;
    };
    let refused = matches!(first.status, 502 | 504);
    match &sent {
        Some(sent) if !refused => {
            let body = match first.whole {
                Whole::Yes => first.body == sent.body && sent.whole == Whole::Yes,
                Whole::No => sent.body.starts_with(&first.body),
            };
            if first.status != sent.status || !body {
                bad(format!("{} {}", first.status, first.body.escape_ascii()));
            }
        }
        None if !refused && first.whole == Whole::Yes && case.want == Want::Refuse => {
            bad(format!("answered {} {}", first.status, first.body.escape_ascii()));
        }
        _ => {}
    }
    for answer in &read {
        for cookie in answer.all("set-cookie").into_iter().filter(|cookie| is_ours(cookie)) {
            bad(format!("Set-Cookie: {}", cookie.escape_ascii()));
        }
        let hop = ["connection", "keep-alive", "proxy-connection", "upgrade", "te", "trailer"];
        for name in hop.into_iter().filter(|name| answer.all(name).iter().any(|v| *v != b"close")) {
            bad(format!("hop-by-hop {name}"));
        }
    }
    match read.get(1..).unwrap_or_default() {
        [] if first.whole == Whole::No || read.len() == 1 && closes(first) => {}
        [last] if last.status == 200 && last.body == format!("/public/{id}-last").as_bytes() => {}
        others => bad(format!("behind it: {others:?}")),
    }
    match case.want {
        Want::Refuse if !refused && first.whole == Whole::Yes => {
            bad(format!("answered {}", first.status));
        }
        Want::Pass if refused || first.whole == Whole::No => {
            faults.push(Fault::FalseRefusal(format!("answered {}", first.status)));
        }
        Want::Safe
            if refused && sent.is_some_and(|sent| sent.whole == Whole::Yes && !sent.doubtful) =>
        {
            faults.push(Fault::FalseRefusal(format!("answered {}", first.status)));
        }
        _ => {}
    }
    let _ = sent_behind;
    faults
}

fn closes(answer: &Answer) -> bool {
    answer.all("connection").contains(&&b"close"[..])
}

/// Whether a browser would keep this as our cookie, or send it back as if it were (RFC 6265bis 5.6).
fn is_ours(cookie: &[u8]) -> bool {
    let pair = cookie.split(|&byte| byte == b';').next().unwrap_or_default();
    // Control characters make a browser throw the cookie away.
    if pair.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return false;
    }
    let text = String::from_utf8_lossy(pair).into_owned();
    let trim = |text: &str| text.trim_matches([' ', '\t']).to_ascii_lowercase();
    match text.split_once('=') {
        Some((name, value)) if trim(name).is_empty() => {
            trim(value).starts_with("__host-portcullis=") || trim(value) == "__host-portcullis"
        }
        Some((name, _)) => trim(name) == "__host-portcullis",
        None => trim(&text) == "__host-portcullis",
    }
}
