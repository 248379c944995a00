//! From a token to its live session, and the upkeep of what is cached.
//!
//! Both ends of life are checked at every use; a sweep only frees memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::authority::{Authority, unavailable};
use super::command::{Refusal, Worthless};
use super::counters::Network;
use super::follow::GRACE;
use super::identity::account_of;
use super::live::Live;
use super::ports::{BoxFuture, Lease, Leased};
use super::token::{Form, SessionId, Token};
use crate::audit::{Event, Origin};
use crate::clock::UnixMs;

/// What the cache knows of a token.
#[derive(Clone, Debug)]
pub enum Cached {
    /// Proven live.
    Live(Arc<Live>),
    /// The cache cannot tell: ask the store.
    Unknown,
    /// Proven not to open a session.
    Worthless,
}

/// Reads that lost a race with an invalidation are repeated this often.
pub(super) const ATTEMPTS: usize = 4;

/// How long a use waits before it is tried again, in ms.
const PAUSES: [u64; 6] = [1, 2, 5, 10, 20, 40];

impl Authority {
    /// The hot path: no store call, no allocation, no lock. The caller notes the use, if it is one.
    /// A session with limits is never found here: each of its uses is judged by [`Authority::used`].
    pub fn cached(&self, token: &Token, now: UnixMs) -> Cached {
        match self.peek(token, now) {
            Cached::Live(live) if live.record().limits.is_some() => Cached::Unknown,
            found => found,
        }
    }

    fn peek(&self, token: &Token, now: UnixMs) -> Cached {
        let Some(live) = self.cache.find(token.id()) else { return Cached::Unknown };
        if !live.is_trusted(now) || live.epoch() != self.directory.epoch() {
            return Cached::Unknown;
        }
        if !live.pulse().is_over(now) && live.opens(token, now) {
            return Cached::Live(live);
        }
        // Another node may know of a later use, or of a newer secret, and word of it is on its way. Why
        // a token of another form is worthless is a matter of its own.
        if self.shared || token.form() != Form::Own { Cached::Unknown } else { Cached::Worthless }
    }

    /// The live session that `token` opens, read from the store; `None` when it opens none. Limits are
    /// not looked at.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] when the store does not answer: that is not "no session".
    pub async fn load(self: &Arc<Self>, token: &Token) -> Result<Option<Arc<Live>>, Refusal> {
        self.find(token).await.map(Result::ok)
    }

    /// One use of the session that `token` opens, by a request from `ip` to `target` (path and query).
    ///
    /// # Errors
    /// `Ok(Err(_))`: it opens none, and why. `Err`: the store does not answer, or too many unknown tokens
    /// came from the same network.
    pub async fn used(
        self: &Arc<Self>,
        token: &Token,
        ip: Option<IpAddr>,
        target: &str,
    ) -> Result<Found, Refusal> {
        let found = self.use_in_turn(token, ip, target).await;
        if matches!(found, Ok(Err(Worthless::Invalid))) {
            self.guessed(token, ip)?;
        }
        found
    }

    /// Counts a token that opens nothing. Refused once its network has shown too many; only here, after
    /// the store was asked: whoever has a session gets in, whatever others in the same network do.
    fn guessed(&self, token: &Token, ip: Option<IpAddr>) -> Result<(), Refusal> {
        let (network, now) = (Network::from(ip), self.clock.now());
        if let Some(retry_after) = self.guesses.wait(network, now) {
            return Err(Refusal::Guessing { retry_after });
        }
        if self.guesses.note(network, token, now) {
            let event =
                Event::Guessing { network: &network.to_string(), tokens: self.settings.unknown };
            self.audit.record(&Origin { ip, request: String::new() }, &event);
        }
        Ok(())
    }

    async fn use_in_turn(
        self: &Arc<Self>,
        token: &Token,
        ip: Option<IpAddr>,
        target: &str,
    ) -> Result<Found, Refusal> {
        // Each counted use changes the session: with many at once on several nodes, a read can lose its
        // race again and again. Nothing is counted then.
        for pause in PAUSES {
            match self.use_once(token, ip, target).await {
                Err(Refusal::Conflict) => tokio::time::sleep(Duration::from_millis(pause)).await,
                done => return done,
            }
        }
        self.use_once(token, ip, target).await
    }

    async fn use_once(
        self: &Arc<Self>,
        token: &Token,
        ip: Option<IpAddr>,
        target: &str,
    ) -> Result<Found, Refusal> {
        let found = match self.peek(token, self.clock.now()) {
            Cached::Live(live) => Ok(live),
            Cached::Unknown | Cached::Worthless => self.find(token).await?,
        };
        match found {
            Ok(live) if live.record().limits.is_some() => self.spend(live, ip, target).await,
            found => Ok(found),
        }
    }

    async fn find(self: &Arc<Self>, token: &Token) -> Result<Found, Refusal> {
        match token.form() {
            Form::Own | Form::Sid => self.stored(token).await,
            Form::Ks => self.sealed(token).await,
            Form::Key => self.of_key(token.id(), &token.hash()),
            Form::Group => Ok(Err(Worthless::Invalid)),
        }
    }

    /// The session in the store that `token` opens.
    pub(super) async fn stored(self: &Arc<Self>, token: &Token) -> Result<Found, Refusal> {
        let (mut found, joined) = self.join(token.id()).await?;
        // A read that was joined may have begun before this secret was given out: one that begins now
        // tells for certain.
        if joined && found.as_ref().is_ok_and(|live| !self.is_opened(live, token)) {
            found = self.join(token.id()).await?.0;
        }
        let now = self.clock.now();
        Ok(found.and_then(|live| {
            if !live.opens(token, now) {
                Err(Worthless::Invalid)
            } else if now >= live.ends() {
                Err(Worthless::Expired)
            } else if live.pulse().is_over(now) {
                Err(Worthless::Ended)
            } else {
                Ok(live)
            }
        }))
    }

    /// A session that was found some time ago, as it is now; `None` when it is over.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] when the store does not answer.
    pub(super) async fn current(
        self: &Arc<Self>,
        live: &Arc<Live>,
    ) -> Result<Option<Arc<Live>>, Refusal> {
        let (id, now) = (live.id(), self.clock.now());
        let cached = self.cache.find(id).filter(|live| {
            let derived = live.epoch() == self.directory.epoch();
            derived && live.is_trusted(now) && !live.pulse().is_over(now)
        });
        let found = match cached {
            Some(live) => Ok(live),
            None if live.record().form == Form::Key => self.of_key(id, &live.record().secret)?,
            None => self.read(id).await?,
        };
        Ok(found.ok().filter(|live| !live.pulse().is_over(self.clock.now())))
    }

    /// Whether a session with this id is going on, whosever it is.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] when the store does not answer.
    pub async fn is_going_on(self: &Arc<Self>, id: SessionId) -> Result<bool, Refusal> {
        let now = self.clock.now();
        Ok(self.read(id).await?.is_ok_and(|live| !live.pulse().is_over(now)))
    }

    fn is_opened(&self, live: &Live, token: &Token) -> bool {
        let now = self.clock.now();
        !live.pulse().is_over(now) && live.opens(token, now)
    }

    /// Makes a session that was just written usable; `None` when it has ended since, or its user may
    /// not have one any more. Reads the store: what was written may be history already.
    pub(super) async fn admit(
        self: &Arc<Self>,
        token: &Token,
    ) -> Result<Option<Arc<Live>>, Refusal> {
        let found = self.fetch(token.id()).await?;
        Ok(found.ok().filter(|live| live.opens(token, self.clock.now())))
    }

    /// As [`Authority::fetch`]; of those who ask for the same session at once, one asks the store.
    pub(super) async fn read(self: &Arc<Self>, id: SessionId) -> Result<Found, Refusal> {
        self.join(id).await.map(|(found, _)| found)
    }

    /// The same, and whether it was somebody else who asked.
    async fn join(self: &Arc<Self>, id: SessionId) -> Result<(Found, bool), Refusal> {
        loop {
            let mut landed = match self.flights.join(id) {
                Flight::Passenger(landed) => landed,
                Flight::Pilot(flight) => {
                    let found = self.fetch(id).await;
                    flight.land(found.clone());
                    return found.map(|found| (found, false));
                }
            };
            // A pilot who leaves lands nowhere: the next one asks.
            if let Ok(found) = landed.wait_for(Option::is_some).await
                && let Some(found) = found.clone()
            {
                return found.map(|found| (found, true));
            }
        }
    }

    /// Derives and caches a session from the store.
    pub(super) async fn fetch(self: &Arc<Self>, id: SessionId) -> Result<Found, Refusal> {
        // No store keeps the session of a key.
        if let Some(live) = self.cache.entry(id).filter(|live| live.record().form == Form::Key) {
            return self.of_key(id, &live.record().secret);
        }
        for _ in 0..ATTEMPTS {
            let (ticket, asked) = (self.cache.before_read(id), self.clock.now());
            let found = self.store.load(id).await.map_err(|error| unavailable(&error))?;
            let Some(Leased { record, lease }) = found else {
                // Whoever ended it may have been another node.
                self.cache.stop(id);
                return Ok(Err(Worthless::Invalid));
            };
            let parent = match (record.over, record.parent) {
                (true, _) => Err(Worthless::Ended),
                (false, None) => Ok(None),
                (false, Some(parent)) => self.parent(parent).await?.map(Some),
            };
            let Ok(parent) = parent else {
                self.cache.stop(id);
                return Ok(Err(Worthless::Ended));
            };
            let epoch = self.directory.epoch();
            let Some(identity) = self.identify(&record) else {
                self.end(id, "user-disabled", &Origin::default()).await?;
                return Ok(Err(Worthless::Ended));
            };
            if self.cache.is_crowded() {
                self.cache.sweep(self.clock.now());
            }
            let pulse = self.cache.pulse(id);
            let live = match parent {
                None => Live::new(record, identity, epoch, pulse, lease),
                Some(parent) => Live::under(parent, record, identity, epoch, pulse, lease),
            };
            let live = Arc::new(live);
            if self.cache.insert(&live, ticket) {
                if live.lease().covers(self.clock.now()) {
                    live.pulse().prove(live.lease());
                } else {
                    // What was just read is as good a proof, for as long as one lasts.
                    live.pulse().prove(&Lease::until(asked.plus(GRACE)));
                }
                return Ok(Ok(live));
            }
        }
        Err(Refusal::Conflict)
    }

    /// The session with which others end.
    fn parent(self: &Arc<Self>, id: SessionId) -> BoxFuture<'_, Result<Found, Refusal>> {
        Box::pin(async move {
            let now = self.clock.now();
            let cached = self.cache.find(id).filter(|live| live.is_trusted(now));
            let found = match cached {
                Some(live) => Ok(live),
                None => self.join(id).await?.0,
            };
            Ok(found.and_then(|live| match live.pulse().is_over(self.clock.now()) {
                true => Err(Worthless::Ended),
                false => Ok(live),
            }))
        })
    }

    /// After a change of the directory: sessions of people, groups and partners who may not have one any
    /// more end now, with their open streams, and so do those in use here whose key was revoked; the
    /// others are derived anew at their next request. `thorough`: what sessions are made with has changed,
    /// too, and those that are not in use must not come back with it.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] when the store does not answer; the sessions are refused all the same.
    pub async fn reconcile(self: &Arc<Self>, thorough: bool) -> Result<usize, Refusal> {
        let (mut over, mut unmade) = (Vec::new(), Vec::new());
        for user in self.store.users().await.map_err(|error| unavailable(&error))? {
            let gone = account_of(&user, &*self.directory).is_none();
            if !gone && !thorough {
                continue;
            }
            let all = self.store.of_user(&user).await.map_err(|error| unavailable(&error))?;
            if gone {
                over.extend(all.iter().map(|record| record.id));
            } else {
                let lost = all.iter().filter(|record| self.identify(record).is_none());
                unmade.extend(lost.map(|record| record.id));
            }
        }
        let keys = self.reconcile_keys();
        let ended = self.end_these(&over, "user-disabled", &Origin::default()).await?;
        self.cache.visit(|live| {
            if live.record().form != Form::Key && self.identify(live.record()).is_none() {
                unmade.push(live.id());
            }
        });
        Ok(keys + ended + self.end_these(&unmade, "maker-gone", &Origin::default()).await?)
    }

    /// Writes the uses that were noted since the last call, one batch for all sessions, and drops
    /// from memory what is over.
    pub async fn upkeep(&self) {
        let mut seen = Vec::new();
        let mut lives = Vec::new();
        let now = self.clock.now();
        self.cache.visit(|live| {
            if let Some(at) = live.pulse().unwritten(now, self.apart(live.pulse().idle())) {
                seen.push((live.id(), at));
                lives.push(Arc::clone(live));
            }
        });
        if !seen.is_empty()
            && let Err(error) = self.store.touch(seen).await
        {
            tracing::warn!(%error, "last uses are not written yet");
            lives.iter().for_each(|live| live.pulse().unwrite());
        }
        self.cache.sweep(self.clock.now());
    }

    /// How far apart the uses of one session are written. Those of a shared store each cost every node
    /// a read.
    fn apart(&self, idle: Duration) -> Duration {
        if self.shared { (idle / 20).min(Duration::from_secs(60)) } else { Duration::ZERO }
    }

    /// How often [`Authority::upkeep`] is due.
    pub(super) fn upkeep_period(&self) -> Duration {
        (self.settings.idle / 20).clamp(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// Drops what was rendered from identities: the configuration of headers has changed.
    pub fn forget_renderings(&self) {
        let mut ids = Vec::new();
        self.cache.visit(|live| ids.push(live.id()));
        ids.into_iter().for_each(|id| self.cache.change(id));
    }

    /// Whether other nodes use the same sessions.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Number of cached sessions.
    pub fn cached_sessions(&self) -> usize {
        self.cache.len()
    }
}

/// The session that was found, or why there is none.
pub(super) type Found = Result<Arc<Live>, Worthless>;
type Landing = Option<Result<Found, Refusal>>;

/// Reads of the store that are under way, by the session that they read.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<SessionId, watch::Receiver<Landing>>>);

enum Flight<'a> {
    /// Ask the store.
    Pilot(Pilot<'a>),
    /// Somebody does: wait for what they find.
    Passenger(watch::Receiver<Landing>),
}

struct Pilot<'a> {
    flights: &'a Flights,
    id: SessionId,
    landing: watch::Sender<Landing>,
}

impl Flights {
    fn join(&self, id: SessionId) -> Flight<'_> {
        match self.lock().entry(id) {
            Entry::Occupied(flight) => Flight::Passenger(flight.get().clone()),
            Entry::Vacant(none) => {
                let (landing, landed) = watch::channel(None);
                none.insert(landed);
                Flight::Pilot(Pilot { flights: self, id, landing })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, watch::Receiver<Landing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pilot<'_> {
    fn land(self, found: Result<Found, Refusal>) {
        self.landing.send_replace(Some(found));
    }
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::session::identity::Identity;
    use crate::session::record::tests::sample;
    use crate::session::testing::{Shelf, authority_over};

    /// Why no unknown tokens are remembered: the same one again and again costs no more than one read at a
    /// time, and who guesses shows another one each time.
    #[tokio::test]
    async fn of_an_unknown_token_that_comes_often_there_is_one_read_at_a_time() {
        let clock = Clock::manual(UnixMs(1_000));
        let store = Arc::new(Shelf::new(&clock));
        let core = authority_over(Arc::<Shelf>::clone(&store), &clock).0;
        let token = sample("u1", clock.now()).1;
        // A read is under way; any other would fail.
        let Flight::Pilot(flight) = core.flights.join(token.id()) else { panic!() };
        store.fail(true);
        let uses: Vec<_> = (0..100)
            .map(|_| {
                let (core, text) = (Arc::clone(&core), token.encode());
                tokio::spawn(async move {
                    let token = Token::parse(text.as_bytes()).unwrap();
                    core.used(&token, None, "/").await
                })
            })
            .collect();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        flight.land(Ok(Err(Worthless::Invalid)));
        for found in uses {
            assert!(matches!(found.await.unwrap(), Ok(Err(Worthless::Invalid))));
        }
    }

    #[tokio::test]
    async fn a_secret_younger_than_the_read_that_was_joined_opens_its_session() {
        let clock = Clock::manual(UnixMs(1_000));
        let store: Arc<dyn crate::session::Store> = Arc::new(Shelf::new(&clock));
        let core = authority_over(Arc::clone(&store), &clock).0;
        let (record, token) = sample("u1", clock.now());
        store.create(record.clone()).await.unwrap();
        let mut former = record;
        former.secret = Token::issue(former.id).unwrap().hash();
        let former = Live::new(former, Identity::default(), 0, None, Lease::endless());
        let Flight::Pilot(flight) = core.flights.join(token.id()) else { panic!() };
        let (found, ()) = tokio::join!(core.load(&token), async {
            tokio::task::yield_now().await;
            flight.land(Ok(Ok(Arc::new(former))));
        });
        assert!(found.unwrap().is_some());
    }
}
