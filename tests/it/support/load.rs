//! Clients that ask for one path as fast as they are answered, and what they were told when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;

use super::Client;
use super::process::eventually;

/// One answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// When it was asked for.
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    /// 0 = none: the connection ended.
    pub(crate) status: u16,
}

/// All answers.
#[derive(Debug, Default)]
pub(crate) struct Answers(pub(crate) Vec<Answer>);

impl Answers {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many had this status.
    pub(crate) fn with(&self, status: u16) -> usize {
        self.0.iter().filter(|answer| answer.status == status).count()
    }

    /// Those that were asked for after `instant`.
    pub(crate) fn after(&self, instant: Instant) -> Self {
        Self(self.0.iter().filter(|answer| answer.at > instant).copied().collect())
    }

    /// The time within which this share of the answers came, such as 0.99.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut times: Vec<_> = self.0.iter().map(|answer| answer.took).collect();
        times.sort_unstable();
        let at = (times.len() as f64 * share) as usize;
        times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// When the last answer with this status was asked for, after `since`.
    pub(crate) fn last(&self, status: u16, since: Instant) -> Option<Duration> {
        let of_status = self.0.iter().filter(|answer| answer.status == status);
        of_status.filter_map(|answer| answer.at.checked_duration_since(since)).max()
    }

    /// When the first answer with this status that was asked for after `since` came.
    pub(crate) fn first(&self, status: u16, since: Instant) -> Option<Duration> {
        let of_status = self.0.iter().filter(|answer| answer.status == status);
        of_status
            .filter_map(|answer| Some(answer.at.checked_duration_since(since)? + answer.took))
            .min()
    }

    /// Each status with its count, for a report.
    pub(crate) fn tally(&self) -> String {
        let mut counts = std::collections::BTreeMap::new();
        for answer in &self.0 {
            *counts.entry(answer.status).or_insert(0) += 1;
        }
        let words: Vec<_> =
            counts.iter().map(|(status, count)| format!("{count} x {status}")).collect();
        words.join(", ")
    }
}

/// The running clients.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    tasks: JoinSet<Vec<Answer>>,
}

impl Load {
    /// `count` tabs of `client` that GET `path`. A refusal is followed by a short pause, so that the
    /// machine is left to others. An answer that sets or removes a cookie fails the test.
    pub(crate) fn of(client: &Client, path: &'static str, count: usize) -> Self {
        Self::paced(client, path, count, Duration::ZERO)
    }

    /// As [`Self::of`], with a pause after every answer.
    pub(crate) fn paced(
        client: &Client,
        path: &'static str,
        count: usize,
        pause: Duration,
    ) -> Self {
        Self::run(client, path, count, pause, false)
    }

    /// As [`Self::paced`], each time on a new connection.
    pub(crate) fn anew(client: &Client, path: &'static str, count: usize, pause: Duration) -> Self {
        Self::run(client, path, count, pause, true)
    }

    fn run(client: &Client, path: &'static str, count: usize, pause: Duration, anew: bool) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (mut client, stop, asked) = (client.tab(), Arc::clone(&stop), Arc::clone(&asked));
            tasks.spawn(async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if anew {
                        client.reconnect();
                    }
                    let at = Instant::now();
                    let answer = client.try_request(Method::GET, path, &[], Bytes::new()).await;
                    let status = answer.as_ref().map_or(0, |answer| answer.status);
                    if let Ok(answer) = answer {
                        assert!(answer.all("set-cookie").is_empty(), "{:?}", answer.headers);
                    }
                    answers.push(Answer { at, took: at.elapsed(), status });
                    asked.fetch_add(1, Ordering::Relaxed);
                    let rest = if status == 200 { pause } else { pause.max(REST) };
                    if !rest.is_zero() {
                        tokio::time::sleep(rest).await;
                    }
                }
                answers
            });
        }
        Self { stop, asked, tasks }
    }

    /// Number of answers so far.
    pub(crate) fn count(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits for so many further answers.
    pub(crate) async fn further(&self, count: usize) {
        let goal = self.count() + count;
        eventually(format!("{count} answers"), || (self.count() >= goal).then_some(())).await;
    }

    /// Stops the clients; all answers in order of asking.
    pub(crate) async fn end(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        let mut all: Vec<_> = self.tasks.join_all().await.into_iter().flatten().collect();
        all.sort_unstable_by_key(|answer| answer.at);
        Answers(all)
    }
}

const REST: Duration = Duration::from_millis(5);
