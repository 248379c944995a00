//! Slows logins down after failed ones, per person and network.
//!
//! An attempt holds a place until it is settled, so that many at once are not free. Counts halve as
//! time goes by, so that a steady trickle of mistakes does not add up to a lock. Every login door
//! shares it, and so does every process that shares the store.
//!
//! A person is never locked out for good. An attacker's failures count against the attacker's
//! network. The limits over all networks only delay, and there are two of them: one for networks
//! that have failed with this person more than a few times, one for all others. So whoever guesses from
//! some hundreds of networks slows these down, but not the person elsewhere; only against thousands of
//! new networks are unknown ones delayed, too.
//!
//! A counter is changed by one step at a time, and no two together. So an attempt first looks, which
//! is where almost all refusals are found, then takes a place in each of its three counters, then judges
//! by what stood in each before; when one says no, the places are given back. Attempts of two processes may
//! hinder each other that way for a moment, but they never both get the last place.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::time::{Instant, timeout};

use super::counters::{Count, CounterKey, Counters, Network, Person, Settled, Step};
use super::ports::StoreError;
use crate::clock::UnixMs;

#[cfg(test)]
mod tests;

/// Failures of one person from one network that make it one that fails with them.
const NEWCOMER: u32 = 3;
/// Attempts that wait for others to be settled.
const WAITING: usize = 256;
/// How long they wait. Places that nobody gives back are free by then.
const TURN: Duration = Duration::from_secs(60);
/// How often they look by themselves, also for what other processes have settled.
const LOOK: Duration = Duration::from_millis(150);
/// How long a step may take. A store that hangs must not pile up requests.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an attempt may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Too many wait for their turn.
    Busy,
    /// The store does not answer: whoever guesses could not be counted.
    Unavailable,
    /// Too many failures: wait this long.
    Wait(Duration),
}

/// The rules over the counters; shared by all workers.
#[derive(Debug)]
pub struct Throttle {
    counters: Arc<dyn Counters>,
    /// Held while places are taken: attempts of one process that come together must not hinder each
    /// other, of which there may be hundreds. It lasts as long as a store takes for one step or two.
    gate: Mutex<()>,
    /// Told whenever an attempt of this process is settled: one place is free, and one that waits may
    /// look. It may be one who waits for another place; who is passed over looks by themselves soon.
    settled: Notify,
    waiting: Semaphore,
}

/// What a look at the counters says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Go on.
    Free,
    /// Not before others are settled.
    Crowded,
    /// Not for so long.
    Wait(Duration),
}

impl Verdict {
    fn of(key: &CounterKey, count: &Count, now: UnixMs) -> Self {
        match count.wait(key, now) {
            Duration::ZERO if count.is_crowded(key, now) => Self::Crowded,
            Duration::ZERO => Self::Free,
            wait => Self::Wait(wait),
        }
    }

    /// The sterner of the two.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Wait(one), Self::Wait(two)) => Self::Wait(one.max(two)),
            (Self::Wait(wait), _) | (_, Self::Wait(wait)) => Self::Wait(wait),
            (Self::Crowded, _) | (_, Self::Crowded) => Self::Crowded,
            (Self::Free, Self::Free) => Self::Free,
        }
    }
}

impl Throttle {
    /// Rules over `counters`.
    pub fn new(counters: Arc<dyn Counters>) -> Self {
        let (gate, settled, waiting) = (Mutex::default(), Notify::new(), Semaphore::new(WAITING));
        Self { counters, gate, settled, waiting }
    }

    /// The counters, for operators.
    pub fn counters(&self) -> &dyn Counters {
        &*self.counters
    }

    /// A place for an attempt of `person` from `ip`. While attempts are being checked that would use
    /// up what is free if they failed, it waits for them: right passwords are never refused for
    /// coming at once.
    ///
    /// # Errors
    /// [`Denied`]; nothing is counted then.
    pub async fn attempt(
        self: &Arc<Self>,
        person: &Person,
        ip: Option<IpAddr>,
    ) -> Result<Attempt, Denied> {
        let network = Network::from(ip);
        let mut turn = pin!(self.settled.notified());
        let mut place = None;
        let end = Instant::now() + TURN;
        loop {
            // Before looking: a change after the look must not be missed.
            turn.as_mut().enable();
            match self.reserve(person, network).await {
                Ok(Some(attempt)) => return Ok(attempt),
                Ok(None) => {}
                Err(denied) => {
                    // The turn was for somebody who needs no place: it goes to the next.
                    if place.is_some() {
                        self.settled.notify_one();
                    }
                    return Err(denied);
                }
            }
            if place.is_none() {
                place = Some(self.waiting.try_acquire().map_err(|_| Denied::Busy)?);
            }
            if Instant::now() >= end {
                return Err(Denied::Busy);
            }
            if timeout(LOOK, turn.as_mut()).await.is_ok() {
                turn.set(self.settled.notified());
            }
        }
    }

    /// `None`: not before others are settled. On a task of its own: whoever asks may leave at any
    /// time, and then the places that were taken must be given back.
    async fn reserve(
        self: &Arc<Self>,
        person: &Person,
        network: Network,
    ) -> Result<Option<Attempt>, Denied> {
        let (throttle, person) = (Arc::clone(self), person.clone());
        let task = tokio::spawn(async move {
            let reserved = throttle.reserve_now(&person, network).await;
            reserved.map_err(|error| {
                tracing::debug!(%error, "a login cannot be counted");
                Denied::Unavailable
            })
        });
        // It panicked, the runtime ends, or it takes too long.
        timeout(PATIENCE, task)
            .await
            .ok()
            .and_then(Result::ok)
            .unwrap_or(Err(Denied::Unavailable))?
    }

    async fn reserve_now(
        self: &Arc<Self>,
        person: &Person,
        network: Network,
    ) -> Result<Result<Option<Attempt>, Denied>, StoreError> {
        let (keys, verdict) = self.look(person, network).await?;
        match verdict {
            Verdict::Wait(wait) => return Ok(Err(Denied::Wait(wait))),
            Verdict::Crowded => return Ok(Ok(None)),
            Verdict::Free => {}
        }
        let _gate = self.gate.lock().await;
        let [one, two, three] = &keys;
        let take = |key| self.counters.apply(key, Step::Take);
        let (one, two, three) = tokio::join!(take(one), take(two), take(three));
        let mut attempt = Attempt { throttle: Arc::clone(self), places: Vec::with_capacity(3) };
        let (mut verdict, mut failed) = (Verdict::Free, None);
        for (key, taken) in keys.into_iter().zip([one, two, three]) {
            match taken {
                Ok((before, now)) => {
                    verdict = verdict.and(Verdict::of(&key, &before, now));
                    attempt.places.push((key, now));
                }
                Err(error) => failed = Some(error),
            }
        }
        if failed.is_none() && verdict == Verdict::Free {
            return Ok(Ok(Some(attempt)));
        }
        attempt.settle(Settled::Void).await?;
        match (failed, verdict) {
            (Some(error), _) => Err(error),
            (None, Verdict::Wait(wait)) => Ok(Err(Denied::Wait(wait))),
            (None, _) => Ok(Ok(None)),
        }
    }

    /// The counters that an attempt belongs to, and what they say.
    async fn look(
        &self,
        person: &Person,
        network: Network,
    ) -> Result<([CounterKey; 3], Verdict), StoreError> {
        let own = CounterKey::Network(network);
        let pair = CounterKey::Pair(network, person.clone());
        let (few, many) =
            (CounterKey::Newcomers(person.clone()), CounterKey::Person(person.clone()));
        let read = |key| self.counters.read(key);
        let (of_own, of_pair, of_few, of_many) =
            tokio::try_join!(read(&own), read(&pair), read(&few), read(&many))?;
        let is_newcomer = of_pair.0.failures(&pair, of_pair.1) < NEWCOMER;
        let (everywhere, of_all) = if is_newcomer { (few, of_few) } else { (many, of_many) };
        let keys = [own, pair, everywhere];
        let mut verdict = Verdict::Free;
        for (key, (count, now)) in keys.iter().zip([of_own, of_pair, of_all]) {
            verdict = verdict.and(Verdict::of(key, &count, now));
        }
        Ok((keys, verdict))
    }

    async fn settle_now(
        &self,
        places: Vec<(CounterKey, UnixMs)>,
        outcome: Settled,
    ) -> Result<(), StoreError> {
        let mut result = Ok(());
        let step = |taken| Step::Settle { taken, outcome };
        // Three at once at most: they share one write where the store can.
        let mut steps = places.iter().map(|(key, taken)| self.counters.apply(key, step(*taken)));
        let (one, two, three) = (steps.next(), steps.next(), steps.next());
        let done = tokio::join!(maybe(one), maybe(two), maybe(three));
        for done in [done.0, done.1, done.2] {
            result = result.and(done);
        }
        self.settled.notify_one();
        result
    }
}

async fn maybe<T>(
    step: Option<impl Future<Output = Result<T, StoreError>>>,
) -> Result<(), StoreError> {
    match step {
        Some(step) => step.await.map(drop),
        None => Ok(()),
    }
}

/// An attempt under way. Dropped without a word, it does not count.
#[derive(Debug)]
#[must_use = "dropped, the attempt does not count"]
pub struct Attempt {
    throttle: Arc<Throttle>,
    /// Counters in which a place is held, and since when.
    places: Vec<(CounterKey, UnixMs)>,
}

impl Attempt {
    /// Counts a failure: durable when this is done. It goes on when the future is dropped.
    ///
    /// # Errors
    /// When it could not be counted: whoever tried must not learn that they were wrong.
    pub async fn failed(self) -> Result<(), StoreError> {
        self.settle(Settled::Failed).await
    }

    /// The right password was given: see [`Settled::Succeeded`].
    pub async fn succeeded(self) {
        if let Err(error) = self.settle(Settled::Succeeded).await {
            tracing::debug!(%error, "failures before a login are not forgotten");
        }
    }

    async fn settle(mut self, outcome: Settled) -> Result<(), StoreError> {
        let (throttle, places) = (Arc::clone(&self.throttle), std::mem::take(&mut self.places));
        let task = tokio::spawn(async move { throttle.settle_now(places, outcome).await });
        match timeout(PATIENCE, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Unavailable("a failed login is not counted".to_owned())),
            Err(_) => Err(StoreError::Unavailable("it does not answer in time".to_owned())),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let places = std::mem::take(&mut self.places);
        // Without a runtime the process ends, and its places with it.
        if !places.is_empty()
            && let Ok(runtime) = Handle::try_current()
        {
            let throttle = Arc::clone(&self.throttle);
            runtime.spawn(async move { throttle.settle_now(places, Settled::Void).await });
        }
    }
}
