//! `execute(Command)`: the only place with session rules.
//!
//! Knows no HTTP: dialects decode requests into commands and word the outcomes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::timeout;

use super::cache::Cache;
use super::command::{Caller, Command, Opening, Outcome, Peer, Refusal};
use super::counters::Person;
use super::follow::Follower;
use super::guesses::Guesses;
use super::identity::{Identity, account_of, claimable, group_claim, own_claim};
use super::limits::Turns;
use super::live::Live;
use super::lookup::Flights;
use super::open::Shown;
use super::ports::{
    Account, Credentials, Directory, LoginError, Method, Proven, Store, StoreError,
};
use super::record::Record;
use super::sealed::Widgets;
use super::throttle::{Attempt, Denied, Throttle};
use super::token::{Form, SessionId};
use crate::audit::{Audit, Event, Origin};
use crate::clock::Clock;
use crate::threads::aside;

#[cfg(test)]
mod tests;

/// Bytes of a User-Agent that a record keeps.
pub(super) const AGENT_LENGTH: usize = 256;

/// How long the directory's file may take to be read.
const REFRESH: Duration = Duration::from_secs(2);

/// The rules' numbers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Absolute lifetime.
    pub lifetime: Duration,
    /// Idle lifetime.
    pub idle: Duration,
    /// Parallel sessions of one user; the oldest ends when there is one more.
    pub per_user: usize,
    /// Sessions that the cache keeps.
    pub cached: usize,
    /// Different tokens that open nothing, from one network in a minute, before further ones are not looked
    /// up; 0: no limit.
    pub unknown: usize,
}

/// The session core: store, directory, methods and cache under one set of rules.
#[derive(Debug)]
pub struct Authority {
    pub(super) settings: Settings,
    pub(super) store: Arc<dyn Store>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) cache: Arc<Cache>,
    /// Whether other nodes change the same sessions.
    pub(super) shared: bool,
    pub(super) follower: Arc<Follower>,
    /// Reads of the store that are under way.
    pub(super) flights: Flights,
    pub(super) turns: Turns,
    pub(super) widgets: Widgets,
    pub(super) clock: Clock,
    pub(super) audit: Arc<Audit>,
    /// When the last session was opened.
    pub(super) opened: AtomicU64,
    pub(super) methods: Vec<Box<dyn Method>>,
    throttle: Arc<Throttle>,
    pub(super) guesses: Guesses,
}

impl Authority {
    /// Puts the core together.
    pub fn new(
        settings: Settings,
        store: Arc<dyn Store>,
        directory: Arc<dyn Directory>,
        methods: Vec<Box<dyn Method>>,
        audit: Arc<Audit>,
        clock: Clock,
    ) -> Self {
        let (cache, shared) = (Arc::new(Cache::new(settings.cached)), store.is_shared());
        let follower = Arc::new(Follower::new(Arc::clone(&cache), clock.clone()));
        store.watch(Arc::<Follower>::clone(&follower));
        let (counters, guesses) = (store.counters(), Guesses::new(settings.unknown));
        Self {
            settings,
            store,
            directory,
            cache,
            shared,
            follower,
            flights: Flights::default(),
            turns: Turns::new(),
            widgets: Widgets::default(),
            throttle: Arc::new(Throttle::new(counters)),
            guesses,
            clock,
            audit,
            opened: AtomicU64::new(0),
            methods,
        }
    }

    /// Carries out `command` for `caller`.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has changed then.
    pub async fn execute(
        self: &Arc<Self>,
        command: Command,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let caller = &self.now(caller).await?;
        if let Some(live) = &caller.session
            && !live.is_signed_in()
            && !command.needs_nobody()
        {
            return Err(Refusal::Forbidden);
        }
        match command {
            Command::ActFor(whom, terms) => self.act_for(&whom, &terms, caller).await,
            Command::Describe(id) => self.describe(&id, caller),
            Command::EndOthers => self.end_others(caller).await,
            Command::EndSession(id) => self.end_one(id, caller).await,
            Command::Groups => {
                let account = self.account(signed_in(caller)?)?;
                Ok(Outcome::Groups(claimable(&account, &*self.directory)))
            }
            Command::IssueKey { name, lifetime } => self.issue_key(&name, lifetime, caller).await,
            Command::Inspect => Ok(Outcome::Session(Arc::clone(signed_in(caller)?))),
            Command::ListKeys => self.list_keys(caller),
            Command::ListMethods => {
                Ok(Outcome::Methods(self.methods.iter().map(|method| method.name()).collect()))
            }
            Command::ListSessions => self.list(signed_in(caller)?).await.map(Outcome::Sessions),
            Command::Login(opening) => self.login(&opening, caller).await,
            Command::IssuePartnerKey(whom) => self.issue_partner_key(&whom, caller).await,
            Command::LoginAs { user, password, terms } => {
                self.login(&self.login_of(&user, password, terms), caller).await
            }
            Command::Logout => self.logout(caller).await,
            Command::Peers => self.peers(signed_in(caller)?),
            Command::RevokeKey(id) => self.revoke_key(&id, caller).await,
            Command::RevokePartnerKeys(whom) => self.revoke_partner_keys(&whom, caller).await,
            Command::SwitchClaim { claim, extended, renew } => {
                self.switch_claim(claim, extended, renew, caller).await
            }
            Command::Scopes => self.scopes(caller),
            Command::StartSealed(seal, terms) => self.start_sealed(&seal, &terms, caller).await,
        }
    }

    /// The caller as they are now. The session was found by the head of a request, whose body may take long to come: it
    /// may have ended since, or its user have lost a group.
    async fn now(self: &Arc<Self>, caller: &Caller) -> Result<Caller, Refusal> {
        let session = match &caller.session {
            Some(live) => self.current(live).await?,
            None => None,
        };
        Ok(Caller { session, ..caller.clone() })
    }

    async fn login(
        self: &Arc<Self>,
        opening: &Opening,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        if matches!(opening.credentials, Credentials::ApiKey { .. }) {
            return self.login_by_key(opening, caller).await;
        }
        let Opening { credentials, terms } = opening;
        let typed = credentials.identifier();
        let proven = |account: &Arc<Account>| Some(Arc::clone(account));
        let (method, account) = self.prove(credentials, typed, caller, proven).await?;
        let shown = Shown { credentials: credentials.clone(), account };
        match self.open(shown, method, terms, caller).await {
            Ok((live, token)) => Ok(Outcome::Opened(live, token)),
            Err(refusal) => {
                self.note_failure(typed, "store", caller);
                Err(refusal)
            }
        }
    }

    /// A place for an attempt to prove to be `person`, who was named `typed`.
    pub(super) async fn attempt(
        &self,
        person: &Person,
        typed: &str,
        caller: &Caller,
    ) -> Result<Attempt, Refusal> {
        let denied = match self.throttle.attempt(person, caller.ip).await {
            Ok(attempt) => return Ok(attempt),
            Err(denied) => denied,
        };
        let (reason, refusal) = match denied {
            Denied::Wait(retry_after) => ("throttled", Refusal::Throttled { retry_after }),
            Denied::Busy => ("busy", Refusal::Busy),
            Denied::Unavailable => ("store", Refusal::Unavailable),
        };
        self.note_failure(typed, reason, caller);
        Err(refusal)
    }

    /// By which method `credentials` prove somebody, and what `accept` makes of them; whoever it does not
    /// accept has proven nothing.
    pub(super) async fn prove<T>(
        &self,
        credentials: &Credentials,
        typed: &str,
        caller: &Caller,
        accept: impl FnOnce(&Arc<Account>) -> Option<T>,
    ) -> Result<(&'static str, T), Refusal> {
        let known = self.directory.by_login(credentials.identifier());
        let person = known
            .as_ref()
            .map_or_else(|| Person::typed(typed), |account| Person::known(&account.id));
        // What nobody is called may be a password in the wrong field: no log shows it, only what bans call it.
        let typed = &known.map_or_else(|| person.to_string(), |_| typed.to_owned());
        let attempt = self.attempt(&person, typed, caller).await?;
        let proof = self.verify(credentials).await.and_then(|(method, account)| {
            accept(&account).map(|accepted| (method, accepted)).ok_or(LoginError::Invalid)
        });
        self.settle(attempt, proof, typed, caller).await
    }

    /// Counts how an attempt ended.
    pub(super) async fn settle<T>(
        &self,
        attempt: Attempt,
        proof: Result<T, LoginError>,
        typed: &str,
        caller: &Caller,
    ) -> Result<T, Refusal> {
        match proof {
            Ok(proof) => {
                attempt.succeeded().await;
                Ok(proof)
            }
            Err(LoginError::Busy) => {
                self.note_failure(typed, "busy", caller);
                Err(Refusal::Busy)
            }
            Err(LoginError::Unsupported) => Err(Refusal::Unsupported),
            Err(LoginError::Invalid) => {
                if let Err(error) = attempt.failed().await {
                    self.note_failure(typed, "store", caller);
                    return Err(unavailable(&error));
                }
                self.note_failure(typed, "invalid", caller);
                Err(Refusal::InvalidCredentials)
            }
        }
    }

    pub(super) async fn verify(
        &self,
        credentials: &Credentials,
    ) -> Result<(&'static str, Arc<Account>), LoginError> {
        for method in &self.methods {
            match method.verify(credentials).await {
                Err(LoginError::Unsupported) => {}
                Err(error) => return Err(error),
                Ok(Proven::Account(account)) if account.disabled => {
                    return Err(LoginError::Invalid);
                }
                Ok(Proven::Account(account)) => return Ok((method.name(), account)),
                Ok(Proven::Key(_)) => return Err(LoginError::Unsupported),
            }
        }
        Err(LoginError::Unsupported)
    }

    /// Ends the session that asks, and with it those that share its parent.
    async fn logout(self: &Arc<Self>, caller: &Caller) -> Result<Outcome, Refusal> {
        let ids = match &caller.session {
            // Nothing ends a key but its revocation.
            Some(live) if live.record().form == Form::Key => Vec::new(),
            Some(live) => live.record().parent.into_iter().chain([live.id()]).collect(),
            None => Vec::new(),
        };
        self.end_these(&ids, "logout", &origin(caller)).await.map(Outcome::Ended)
    }

    async fn end_one(self: &Arc<Self>, id: SessionId, caller: &Caller) -> Result<Outcome, Refusal> {
        let live = signed_in(caller)?;
        let found = self.store.load(id).await.map_err(|error| unavailable(&error))?;
        let found = found.filter(|_| id == live.id() || live.identity().is_person());
        // Somebody else's session is answered like one that never was.
        if found.is_none_or(|record| record.user != live.identity().user) {
            return Err(Refusal::NotFound);
        }
        let ended = self.end(id, "ended-by-user", &origin(caller)).await?;
        Ok(Outcome::Ended(usize::from(ended)))
    }

    async fn end_others(self: &Arc<Self>, caller: &Caller) -> Result<Outcome, Refusal> {
        let live = signed_in(caller)?;
        if !live.identity().is_person() {
            return Err(Refusal::Forbidden);
        }
        let all = self.store.of_user(&live.identity().user).await;
        let all = all.map_err(|error| unavailable(&error))?;
        let ids: Vec<_> =
            all.iter().map(|record| record.id).filter(|id| *id != live.id()).collect();
        self.end_these(&ids, "ended-by-user", &origin(caller)).await.map(Outcome::Ended)
    }

    async fn list(&self, live: &Live) -> Result<Vec<Record>, Refusal> {
        let now = self.clock.now();
        let all = self.store.of_user(&live.identity().user).await;
        let mut all = all.map_err(|error| unavailable(&error))?;
        for record in &mut all {
            if let Some(pulse) = self.cache.pulse(record.id) {
                record.seen = record.seen.max(pulse.seen());
            }
        }
        // Whoever acts for somebody sees what they do themselves.
        let sees = |record: &Record| record.id == live.id() || live.identity().is_person();
        all.retain(|record| record.ends() > now && sees(record));
        Ok(all)
    }

    fn peers(&self, live: &Live) -> Result<Outcome, Refusal> {
        let account = self.account(live)?;
        // A session that a partner made tells its apps nothing of people whom it does not reach.
        let record = live.record();
        let maker = record.actor.as_ref().and(record.tenant.as_deref());
        let maker = maker.and_then(|tenant| self.partner(tenant));
        let is_shown = |peer: &Arc<Account>| maker.as_ref().is_none_or(|maker| maker.reaches(peer));
        let mut peers: Vec<_> = account
            .groups
            .iter()
            .flat_map(|group| self.directory.members(group))
            .filter(is_shown)
            .map(|peer| Peer {
                user: peer.id.clone(),
                email: peer.email.clone(),
                aliases: peer.aliases.clone(),
            })
            .collect();
        peers.sort_unstable();
        peers.dedup();
        Ok(Outcome::Peers(peers))
    }

    pub(super) fn account(&self, live: &Live) -> Result<Arc<Account>, Refusal> {
        account_of(&live.identity().user, &*self.directory).ok_or(Refusal::NotSignedIn)
    }

    pub(super) fn note_failure(&self, identifier: &str, reason: &str, caller: &Caller) {
        let identifier = shorten(identifier, 128);
        self.audit.record(&origin(caller), &Event::LoginFailure { identifier, reason });
    }

    /// The claims that the holder of `identity` may switch to, themselves first.
    pub fn claims(&self, identity: &Identity) -> Vec<String> {
        let mut claims = vec![own_claim(&identity.user)];
        let mut add = |name: &String| {
            let claim = group_claim(name);
            if self.directory.group(name).is_some() && !claims.contains(&claim) {
                claims.push(claim);
            }
        };
        for group in &identity.groups {
            add(group);
            self.directory.below(group).iter().for_each(&mut add);
        }
        claims
    }

    /// Takes up what the directory was changed to. A file system that does not answer holds nothing up.
    ///
    /// # Errors
    /// A sentence for the log.
    pub async fn refresh_directory(&self) -> Result<(), String> {
        let directory = Arc::clone(&self.directory);
        let refreshed = aside("refresh-users", move || directory.refresh());
        match timeout(REFRESH, refreshed).await {
            Ok(done) => done.map_err(|error| error.to_string())?,
            Err(_) => Err(format!("it was not read within {REFRESH:?}")),
        }
    }

    /// The audit log, for refusals that are not the core's.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Who is slowed down after failed logins, for operators.
    pub fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// Who is slowed down after showing unknown tokens, for operators.
    pub fn guesses(&self) -> &Guesses {
        &self.guesses
    }

    /// The store, for readiness and operators.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }
}

pub(super) fn signed_in(caller: &Caller) -> Result<&Arc<Live>, Refusal> {
    caller.session.as_ref().ok_or(Refusal::NotSignedIn)
}

pub(super) fn origin(caller: &Caller) -> Origin {
    Origin { ip: caller.ip, request: caller.request.clone() }
}

pub(super) fn unavailable(error: &StoreError) -> Refusal {
    match error {
        // Of an outage the log tells once, not at every request.
        StoreError::Down(_) => tracing::debug!(%error, "session store"),
        StoreError::Full { .. } | StoreError::Unavailable(_) => {
            tracing::warn!(%error, "session store");
        }
    }
    Refusal::Unavailable
}

pub(super) fn no_randomness(error: getrandom::Error) -> Refusal {
    tracing::error!(%error, "the operating system gives no randomness: nothing is issued");
    Refusal::Unavailable
}

/// The first `limit` bytes of `text`, cut at a character.
pub fn shorten(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}
