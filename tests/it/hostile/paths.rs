//! Paths that mean one thing to the gateway and another to an application, in both shapes of a policy: a closed
//! subtree in an open site, and an open subtree in a closed one. What reached the application without a session
//! must be open in every way that an application may read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use super::Tally;
use super::judge::Fault;
use super::readings::{forms, is_below};
use super::stand::Stand;
use super::targets::Pieces;
use crate::support::Raw;
use crate::support::h2raw::{H2Raw, Outcome, get};

const AT_ONCE: usize = 8;

/// So many pairs of tricks are passed over, each time, but in a thorough run.
const STEP_H1: usize = 29;
const STEP_H2: usize = 97;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reading_of_an_open_path_lies_in_a_closed_subtree() {
    let stand = Stand::with(|builder| {
        builder
            .public("/", "app")
            .private("/admin/", "app")
            .private("/a/b", "app")
            .private("/caf\u{e9}/", "app")
            .route(
                "/files/",
                "app",
                "\"anyone\"",
                "allow_encoded_slash = true\nallow_double_slash = true\nallow_params = true",
            )
    })
    .await;
    let closed = ["/admin", "/a/b", "/caf\u{e9}", "/caf%c3%a9"];
    let is_closed = move |form: &[u8]| closed.iter().any(|stem| is_below(form, stem));
    let pairs = [("", "/admin"), ("/files", "/a/b"), ("/x", "/caf%c3%a9")];
    shape("open site, closed subtree", stand, &pairs, is_closed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reading_of_an_open_path_lies_in_a_closed_site() {
    let stand = Stand::with(|builder| {
        builder
            .private("/", "app")
            .public("/public/", "app")
            .private("/public/inner/", "app")
            .route(
                "/assets/",
                "app",
                "\"anyone\"",
                "allow_encoded_slash = true\nallow_double_slash = true\nallow_params = true",
            )
    })
    .await;
    let is_closed = |form: &[u8]| {
        let open = is_below(form, "/public") || is_below(form, "/assets");
        !open || is_below(form, "/public/inner")
    };
    let pairs = [("/public", "/private"), ("/public", "/inner"), ("/assets", "/public/inner")];
    shape("closed site, open subtree", stand, &pairs, is_closed).await;
}

async fn shape(
    name: &str,
    stand: Arc<Stand>,
    pairs: &[(&str, &str)],
    is_closed: impl Fn(&[u8]) -> bool,
) {
    let pieces = Pieces::read().unwrap();
    let of = |step| -> BTreeSet<String> {
        let step = if super::is_thorough() { 1 } else { step };
        pairs.iter().flat_map(|(o, c)| pieces.targets(o, c, step)).collect()
    };
    let plain: Vec<String> = pairs.iter().flat_map(|(o, c)| plain(o, c)).collect();
    let (one, two) = (of(STEP_H1), of(STEP_H2));
    let mut tally = Tally::default();
    for (protocol, targets) in [(Protocol::One, one), (Protocol::Two, two)] {
        let all: Vec<String> = targets.iter().cloned().chain(plain.iter().cloned()).collect();
        stand.upstream.forget();
        send(&stand, protocol, all.clone()).await;
        let seen: BTreeSet<Vec<u8>> =
            stand.upstream.requests().iter().map(|seen| target(&seen.head.raw)).collect();
        let sent: BTreeSet<&[u8]> = all.iter().map(String::as_bytes).collect();
        tally.cases += all.len();
        for target in &seen {
            let faults = judge(target, &sent, &is_closed);
            tally.cases -= 1;
            tally.add(&format!("{name}, {protocol:?}"), target, faults);
        }
        for target in plain.iter().filter(|target| !seen.contains(target.as_bytes())) {
            let fault = Fault::FalseRefusal(format!("{protocol:?}"));
            tally.faults.push((name.to_owned(), target.as_bytes().to_vec(), fault));
        }
        println!("{name}, {protocol:?}: sent {}, passed {}", all.len(), seen.len());
    }
    tally.report(name);
}

/// Targets below an open path that are what they seem to be.
fn plain(open: &str, closed: &str) -> Vec<String> {
    let file: toml::Table = include_str!("../../hostile/paths.toml").parse().unwrap();
    let plain = file["plain"].as_array().unwrap().iter().map(|target| target.as_str().unwrap());
    plain.map(|target| target.replace("{o}", open).replace("{c}", closed)).collect()
}

fn judge(target: &[u8], sent: &BTreeSet<&[u8]>, is_closed: impl Fn(&[u8]) -> bool) -> Vec<Fault> {
    if !sent.contains(target) {
        return vec![Fault::Unsafe("not byte for byte what was sent".to_owned())];
    }
    let path = target.split(|&byte| byte == b'?').next().unwrap_or(target);
    let depth = if path.len() <= 40 { 3 } else { 2 };
    let all: BTreeMap<Vec<u8>, Vec<&str>> = forms(path, depth);
    let found = all.iter().filter(|(form, _)| is_closed(form)).min_by_key(|(_, names)| names.len());
    let fault = |(form, names): (&Vec<u8>, &Vec<&str>)| {
        Fault::Unsafe(format!("closed path {} for one that {names:?}", form.escape_ascii()))
    };
    found.map(fault).into_iter().collect()
}

/// The target of a request that reached the application.
fn target(head: &[u8]) -> Vec<u8> {
    head.split(|&byte| byte == b' ').nth(1).unwrap_or_default().to_vec()
}

#[derive(Clone, Copy, Debug)]
enum Protocol {
    One,
    Two,
}

async fn send(stand: &Arc<Stand>, protocol: Protocol, targets: Vec<String>) {
    let (targets, next) = (Arc::new(targets), Arc::new(AtomicUsize::new(0)));
    let silent = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (stand, targets) = (Arc::clone(stand), Arc::clone(&targets));
        let (next, silent) = (Arc::clone(&next), Arc::clone(&silent));
        tasks.spawn(async move {
            let mut sender = Sender { stand: &stand, one: None, two: None };
            while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answered = match protocol {
                    Protocol::One => sender.one(target).await,
                    Protocol::Two => sender.two(target).await,
                };
                if !answered {
                    silent.lock().unwrap().push(target.clone());
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let silent = silent.lock().unwrap();
    assert!(silent.is_empty(), "no answer to {silent:?}");
}

/// Sends one request after the other, on one connection as long as it lives.
struct Sender<'a> {
    stand: &'a Stand,
    one: Option<Raw>,
    two: Option<(H2Raw, u32)>,
}

impl Sender<'_> {
    async fn one(&mut self, target: &str) -> bool {
        // A connection may have ended with the answer before.
        for _ in 0..2 {
            let mut raw = match self.one.take() {
                Some(raw) => raw,
                None => self.stand.connect().await,
            };
            let host = self.stand.gateway.authority();
            raw.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            if let Ok(answer) = raw.try_response().await {
                let ends = answer.header("connection").is_some_and(|value| value == "close");
                self.one = Some(raw).filter(|_| !ends);
                return true;
            }
        }
        false
    }

    async fn two(&mut self, target: &str) -> bool {
        for _ in 0..2 {
            let (mut h2, stream) = match self.two.take() {
                Some(open) => open,
                None => (H2Raw::connect(&self.stand.gateway).await, 1),
            };
            h2.request(stream, &get(self.stand.gateway.authority(), target)).await;
            let outcome = h2.outcome(stream).await;
            let ended = matches!(outcome, Outcome::GoAway(_) | Outcome::Closed);
            // What a connection may send without more leave is bounded.
            self.two = Some((h2, stream + 2)).filter(|_| !ended && stream < 200);
            if !(ended && stream > 1) {
                return true;
            }
        }
        false
    }
}
