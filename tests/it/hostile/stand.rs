//! The gateway under attack, before an application that notes every request and answers with its target.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Tally;
use super::corpus::{Case, Filling, Want};
use super::judge::{Answers, Fault, judge};
use super::strict::{self, End, Reading};
use crate::support::gateway::Builder;
use crate::support::upstream::Recorded;
use crate::support::{Gateway, Raw, Reply, Upstream};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How many connections are attacked at once.
pub(super) const AT_ONCE: usize = 12;

pub(super) struct Stand {
    pub(super) gateway: Gateway,
    pub(super) upstream: Upstream,
    pub(super) filling: Filling,
    tls: Arc<ClientConfig>,
}

/// Answers with the target; opens WebSockets at `/public/...-ws` only.
pub(super) fn echo(request: &Recorded) -> Reply {
    if request.target.ends_with("-ws") && request.header("upgrade").is_some() {
        return Reply::websocket(request);
    }
    match request.method.as_str() {
        "HEAD" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        _ => Reply::ok(&request.target),
    }
}

impl Stand {
    /// `/public/` is open (and tells who is signed in), the rest is closed.
    pub(super) async fn start() -> Arc<Self> {
        Self::with(|builder| {
            builder.route("/public/", "app", "\"optional\"", "").private("/", "app")
        })
        .await
    }

    pub(super) async fn with(routes: impl FnOnce(Builder) -> Builder) -> Arc<Self> {
        let upstream = Upstream::answering(echo);
        let gateway = routes(Gateway::builder().upstream("app", upstream.addr())).start();
        let client = gateway.signed_in("alice").await;
        let token = client.token().unwrap().to_owned();
        let filling = Filling { host: gateway.authority().to_owned(), token };
        let tls = gateway.tls(&["http/1.1"]);
        Arc::new(Self { gateway, upstream, filling, tls })
    }

    pub(super) async fn connect(&self) -> Raw {
        Raw::tls(self.gateway.addr(), Arc::clone(&self.tls), "localhost").await
    }

    /// Attacks with every case on a connection of its own, and judges all of them.
    pub(super) async fn attack(self: &Arc<Self>, cases: Vec<Case>) -> Tally {
        self.upstream.forget();
        let cases = Arc::new(cases);
        let (next, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (stand, cases) = (Arc::clone(self), Arc::clone(&cases));
            let (next, done) = (Arc::clone(&next), Arc::clone(&done));
            tasks.spawn(async move {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { return };
                    let result = stand.one(case, &id(at)).await;
                    done.lock().unwrap().push((at, result));
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let mut seen: BTreeMap<usize, Vec<Recorded>> = BTreeMap::new();
        let mut tally = Tally::default();
        for recorded in self.upstream.requests() {
            match case_of(&recorded.head.raw) {
                Some(at) => seen.entry(at).or_default().push(recorded),
                None => {
                    let shown = String::from_utf8_lossy(&recorded.bytes()).into_owned();
                    tally.add("(of no case)", &[], vec![Fault::Unsafe(shown)]);
                }
            }
        }
        let done = std::mem::take(&mut *done.lock().unwrap());
        for (at, (bytes, reading, answers)) in done {
            let case = &cases[at];
            let seen = seen.remove(&at).unwrap_or_default();
            let whole = case.want != Want::Refuse;
            let mut faults = judge(&reading, &seen, &answers, &self.filling, case.who, whole);
            let first = answers.list.first().map_or(0, |(status, _)| *status);
            match case.want {
                Want::Pass if seen.is_empty() => {
                    faults.push(Fault::FalseRefusal(format!("answered {first}")));
                }
                Want::Refuse if seen.iter().any(|seen| !seen.target.ends_with("-last")) => {
                    faults.push(Fault::Unsafe("reached the application".to_owned()));
                }
                Want::Refuse if first != 0 && !(400..=505).contains(&first) => {
                    faults.push(Fault::Unsafe(format!("answered {first}")));
                }
                _ => {}
            }
            tally.add(&case.name, &bytes, faults);
        }
        tally
    }

    async fn one(&self, case: &Case, id: &str) -> (Vec<u8>, Reading, Answers) {
        let mut bytes = self.filling.fill(&case.send, id);
        if strict::read(&bytes).end == End::Clean {
            // Answers come in order: when this one is there, all that came before was done.
            let last = format!(
                "GET /public/{id}-last HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.filling.host
            );
            bytes.extend_from_slice(last.as_bytes());
        }
        let reading = strict::read(&bytes);
        let mut raw = self.connect().await;
        let piece = if case.slowly { 7.max(bytes.len() / 40) } else { bytes.len() };
        for piece in bytes.chunks(piece.max(1)) {
            raw.send(piece).await;
            tokio::task::yield_now().await;
        }
        let answers = receive(&mut raw, &reading).await;
        (bytes, reading, answers)
    }
}

/// Reads the answers to what was sent, and then the end of the connection.
async fn receive(raw: &mut Raw, reading: &Reading) -> Answers {
    let mut answers = Answers::default();
    let more = usize::from(matches!(reading.end, End::Malformed(_)));
    for at in 0..reading.messages.len() + more {
        let head = reading.messages.get(at).is_some_and(|message| message.method == b"HEAD");
        match timeout(ANSWER, raw.reader.response(head)).await {
            Ok(Ok(answer)) => {
                let tunnel = answer.status == 101;
                answers.list.push((answer.status, answer.text()));
                if tunnel {
                    break;
                }
            }
            Ok(Err(_)) => {
                answers.closed = true;
                return answers;
            }
            Err(_) => {
                answers.stalled = true;
                break;
            }
        }
    }
    if !matches!(reading.end, End::Malformed(_)) {
        let _ = raw.reader.stream.shutdown().await;
    }
    answers.closed = raw.closes_within(ANSWER).await;
    answers
}

pub(super) fn id(at: usize) -> String {
    format!("q{at:05}z")
}

/// The case that a request is of: its id stands in the target.
pub(super) fn case_of(head: &[u8]) -> Option<usize> {
    head.windows(7).find_map(|window| match window {
        [b'q', digits @ .., b'z'] => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    })
}
