//! What h2spec asks of a server, case by case under its numbers, over real connections: frames by hand in, and
//! the frames that come back. The cases are our own; see `docs/security.md` for where they differ.

mod case;
mod connection;
mod flow;
mod generic;
mod hpack;
mod messages;
mod streams;

use std::sync::Arc;

use tokio::task::JoinSet;

use self::case::{Case, Kit};
use crate::support::{Gateway, Upstream};

/// Connections at once.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_holds() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .set("limits", "streams", &case::STREAMS.to_string())
        .upstream("app", upstream.addr())
        .public("/public/", "app")
        .start();
    let gateway = Arc::new(gateway);
    let kit = Kit::new(gateway.authority());
    let mut cases = Vec::new();
    for subject in [generic::cases, connection::cases, streams::cases] {
        cases.extend(subject(&kit));
    }
    for subject in [flow::cases, messages::cases, hpack::cases] {
        cases.extend(subject(&kit));
    }
    let count = cases.len();
    let mut numbers: Vec<_> = cases.iter().map(|case| case.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "a number is there twice");

    let (mut cases, mut running, mut problems) = (cases.into_iter(), JoinSet::new(), Vec::new());
    loop {
        while running.len() < AT_ONCE
            && let Some(case) = cases.next()
        {
            let gateway = Arc::clone(&gateway);
            running.spawn(async move { judged(&gateway, case).await });
        }
        match running.join_next().await {
            Some(judged) => problems.extend(judged.unwrap().err()),
            None => break,
        }
    }
    problems.sort_unstable();
    println!("h2spec: {} of {count} cases hold", count - problems.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(count, 148, "a case is missing");
}

async fn judged(gateway: &Gateway, case: Case) -> Result<(), String> {
    let (number, what) = (case.number, case.what);
    case.run(gateway).await.map_err(|problem| format!("{number} {what}: {problem}"))
}
