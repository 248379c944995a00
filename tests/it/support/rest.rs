//! What a gateway holds, and how long others wait: an attack must leave nothing of itself behind, and hurt
//! nobody while it lasts.

use std::fs;
use std::time::{Duration, Instant};

use super::load::{Answers, Load};
use super::process::{PATIENCE, eventually, open_to};
use super::{Gateway, Upstream};

/// What is open, as the metrics count it.
const OPEN: [&str; 5] = [
    "portcullis_connections_open",
    "portcullis_requests_in_flight",
    "portcullis_streams_open",
    "portcullis_tunnels_open",
    "portcullis_worker_tasks",
];
/// Each of the two probes asks this often.
const PACE: Duration = Duration::from_millis(20);
/// Answers on new connections that make a figure.
const ANSWERS: usize = 50;

/// What a gateway holds while nothing is asked of it.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Without the connections that it keeps to the app, which are bounded and reused.
    descriptors: usize,
    threads: usize,
    open: [f64; OPEN.len()],
}

impl Rest {
    /// What it holds now. Connections of the test that are open stay so until [`Rest::is_back`]; of requests,
    /// streams and tasks the metrics must have told already, which they do ten times a second.
    pub(crate) async fn of(gateway: &Gateway, upstream: &Upstream) -> Self {
        let mut last = 0;
        // Connections that were closed a moment ago may not be seen as closed yet.
        let descriptors = eventually("descriptors to stay as they are", || {
            let now = descriptors(gateway, upstream);
            (std::mem::replace(&mut last, now) == now).then_some(now)
        })
        .await;
        Self { descriptors, threads: threads(gateway), open: open(gateway).await }
    }

    /// Waits until the gateway holds no more than it did. Asks anew for what differs only, so that a
    /// failure says what that is.
    pub(crate) async fn is_back(&self, gateway: &Gateway, upstream: &Upstream) {
        for (name, before) in OPEN.into_iter().zip(self.open) {
            gateway.metric_is(name, |now| now <= before).await;
        }
        let begun = Instant::now();
        loop {
            let now = (descriptors(gateway, upstream), threads(gateway));
            // The thread that reads files again comes and goes.
            if now.0 <= self.descriptors && now.1 <= self.threads + 1 {
                return;
            }
            let what = "descriptors and threads";
            assert!(begun.elapsed() < PATIENCE, "{what}: {now:?}, before {self:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn open(gateway: &Gateway) -> [f64; OPEN.len()] {
    let text = gateway.metrics().await;
    OPEN.map(|name| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    })
}

fn descriptors(gateway: &Gateway, upstream: &Upstream) -> usize {
    gateway.descriptors().saturating_sub(open_to(upstream.addr().port()))
}

fn threads(gateway: &Gateway) -> usize {
    fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap().count()
}

/// Somebody who asks all the while, on a connection that is kept and on ever new ones.
#[derive(Debug)]
pub(crate) struct Probe {
    kept: Load,
    fresh: Load,
}

impl Probe {
    /// Asks for `path`, which needs no session.
    pub(crate) fn start(gateway: &Gateway, path: &'static str) -> Self {
        let client = gateway.client();
        Self {
            kept: Load::paced(&client, path, 1, PACE),
            fresh: Load::anew(&client, path, 1, PACE),
        }
    }

    /// As [`Self::start`], until there are answers enough for a figure.
    pub(crate) async fn run(gateway: &Gateway, path: &'static str) -> Waits {
        let probe = Self::start(gateway, path);
        probe.fresh.further(ANSWERS).await;
        probe.end().await
    }

    /// Ends; every request must have been answered well. How long that took.
    pub(crate) async fn end(self) -> Waits {
        let all = tokio::join!(self.kept.end(), self.fresh.end());
        for (how, answers) in [("a kept connection", &all.0), ("new connections", &all.1)] {
            assert_eq!(answers.with(200), answers.len(), "{how}: {}", answers.tally());
            assert!(answers.len() > 0, "nobody asked on {how}");
        }
        Waits { kept: all.0, fresh: all.1 }
    }
}

/// How long answers took.
#[derive(Debug)]
pub(crate) struct Waits {
    kept: Answers,
    fresh: Answers,
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (how, answers) in [("kept", &self.kept), ("new", &self.fresh)] {
            let ms = |share| answers.quantile(share).as_secs_f64() * 1e3;
            let (middle, high, count) = (ms(0.5), ms(0.99), answers.len());
            write!(f, "{how} connection p50 {middle:.1} p99 {high:.1} ms ({count}); ")?;
        }
        Ok(())
    }
}

/// Runs `attack` twice, with the number of the round. All the while others are answered; after each round
/// all is given back, and after the second the memory that the first has taken suffices: allocators keep
/// what they once had, but a leak grows. Prints the figures.
pub(crate) async fn leaves_nothing(
    what: &str,
    gateway: &Gateway,
    upstream: &Upstream,
    path: &'static str,
    mut attack: impl AsyncFnMut(usize),
) {
    println!("{what}: alone, {}", Probe::run(gateway, path).await);
    let (rest, empty) = (Rest::of(gateway, upstream).await, gateway.resident());
    let mut first = 0;
    for round in 0..2 {
        let probe = Probe::start(gateway, path);
        attack(round).await;
        let waits = probe.end().await;
        rest.is_back(gateway, upstream).await;
        if round == 0 {
            first = gateway.resident();
        } else {
            memory_is_back(what, gateway, path, first).await;
        }
        let resident = gateway.resident();
        println!("{what}: in round {round}, {waits}memory {empty}, then {resident} KiB");
    }
}

/// Waits until the resident memory is at most a tenth above `before`, in KiB: each worker has memory of its
/// own, so that the same load, spread over them in another way, takes more for a moment. What was freed
/// goes back to the system while there is something to do: requests for `path`, which needs no session.
pub(crate) async fn memory_is_back(what: &str, gateway: &Gateway, path: &str, before: u64) {
    let begun = Instant::now();
    while gateway.resident() > before + before / 10 {
        let now = gateway.resident();
        assert!(begun.elapsed() < PATIENCE, "{what}: memory grows from {before} to {now} KiB");
        gateway.client().get(path).await.expect(200);
    }
}
