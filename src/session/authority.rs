//! `execute(Command)`: the only place with session rules.
//!
//! Knows no HTTP: dialects decode requests into commands and word the outcomes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Map;

use super::cache::Cache;
use super::command::{Caller, Command, Outcome, Refusal};
use super::identity::{Identity, claimable, group_claim, may_claim, user_claim};
use super::live::Live;
use super::ports::{Account, Credentials, Directory, Lease, LoginError, Method, Replaced, Store};
use super::record::{Kind, Previous, RECORD_VERSION, Record};
use super::throttle::Throttle;
use super::token::{SessionId, Token};
use crate::audit::{Audit, Event, Origin};
use crate::clock::{Clock, millis};

#[cfg(test)]
mod tests;

/// How long the secret before a claim switch is honoured, for requests in flight.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes of a User-Agent that a record keeps.
const AGENT_LENGTH: usize = 256;

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
}

/// The session core: store, directory, methods and cache under one set of rules.
#[derive(Debug)]
pub struct Authority {
    pub(super) settings: Settings,
    pub(super) store: Arc<dyn Store>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) cache: Cache,
    pub(super) lease: Lease,
    pub(super) clock: Clock,
    pub(super) audit: Arc<Audit>,
    methods: Vec<Box<dyn Method>>,
    throttle: Throttle,
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
        let (cache, lease) = (Cache::new(settings.cached), store.lease());
        let throttle = Throttle::new(clock.clone());
        Self { settings, store, directory, cache, lease, clock, audit, methods, throttle }
    }

    /// Carries out `command` for `caller`.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has changed then.
    pub async fn execute(&self, command: Command, caller: &Caller) -> Result<Outcome, Refusal> {
        match command {
            Command::EndOthers => self.end_others(caller).await,
            Command::EndSession(id) => self.end_one(id, caller).await,
            Command::Groups => {
                let account = self.account(signed_in(caller)?)?;
                Ok(Outcome::Groups(claimable(&account, &*self.directory)))
            }
            Command::Inspect => Ok(Outcome::Session(Arc::clone(signed_in(caller)?))),
            Command::ListMethods => {
                Ok(Outcome::Methods(self.methods.iter().map(|method| method.name()).collect()))
            }
            Command::ListSessions => self.list(signed_in(caller)?).await.map(Outcome::Sessions),
            Command::Login(credentials) => self.login(&credentials, caller).await,
            Command::Logout => match &caller.session {
                Some(live) => {
                    let ended = self.end(live.id(), "logout", &origin(caller)).await?;
                    Ok(Outcome::Ended(usize::from(ended)))
                }
                None => Ok(Outcome::Ended(0)),
            },
            Command::Peers => self.peers(signed_in(caller)?),
            Command::SwitchClaim { claim, extended } => {
                self.switch_claim(claim, extended, caller).await
            }
        }
    }

    async fn login(&self, credentials: &Credentials, caller: &Caller) -> Result<Outcome, Refusal> {
        let typed = credentials.identifier();
        let person = match self.directory.by_login(typed) {
            Some(account) => account.id.clone(),
            // Prefixed, so that a typed name cannot share a counter with somebody's id.
            None => format!("?{}", shorten(typed, 128).to_lowercase()),
        };
        if let Some(retry_after) = self.throttle.wait(&person, caller.ip) {
            self.note_failure(typed, "throttled", caller);
            return Err(Refusal::Throttled { retry_after });
        }
        let (method, account) = match self.verify(credentials).await {
            Ok(proof) => proof,
            Err(LoginError::Busy) => {
                self.note_failure(typed, "busy", caller);
                return Err(Refusal::Busy);
            }
            Err(LoginError::Unsupported) => return Err(Refusal::Unsupported),
            Err(LoginError::Invalid) => {
                self.throttle.failed(&person, caller.ip);
                self.note_failure(typed, "invalid", caller);
                return Err(Refusal::InvalidCredentials);
            }
        };
        self.throttle.succeeded(&person, caller.ip);
        match self.open(&account, method, caller).await {
            Ok((live, token)) => Ok(Outcome::Opened(live, token)),
            Err(refusal) => {
                self.note_failure(typed, "store", caller);
                Err(refusal)
            }
        }
    }

    async fn verify(
        &self,
        credentials: &Credentials,
    ) -> Result<(&'static str, Arc<Account>), LoginError> {
        for method in &self.methods {
            match method.verify(credentials).await {
                Err(LoginError::Unsupported) => {}
                Err(error) => return Err(error),
                Ok(account) if account.disabled => return Err(LoginError::Invalid),
                Ok(account) => return Ok((method.name(), account)),
            }
        }
        Err(LoginError::Unsupported)
    }

    /// Opens a session; the one that the request carried ends, its id is never adopted.
    async fn open(
        &self,
        account: &Account,
        method: &str,
        caller: &Caller,
    ) -> Result<(Arc<Live>, Token), Refusal> {
        let id = SessionId::issue().map_err(no_randomness)?;
        let token = Token::issue(id).map_err(no_randomness)?;
        let now = self.clock.now();
        let record = Record {
            version: RECORD_VERSION,
            generation: 0,
            id,
            secret: token.hash(),
            previous: None,
            kind: Kind::User,
            user: account.id.clone(),
            identifier: account.identifier.clone(),
            claim: user_claim(&account.id),
            extended: false,
            tenant: None,
            method: method.to_owned(),
            level: 1,
            authenticated: now,
            actor: None,
            ip: caller.ip,
            agent: shorten(&caller.agent, AGENT_LENGTH).to_owned(),
            created: now,
            seen: now,
            expires: now.plus(self.settings.lifetime),
            idle_ms: millis(self.settings.idle),
            privileges: Vec::new(),
            parent: None,
            other: Map::new(),
        };
        self.store.create(record).await.map_err(|error| unavailable(&error))?;
        let origin = origin(caller);
        if let Some(former) = &caller.session {
            self.end(former.id(), "new-login", &origin).await?;
        }
        self.trim(&account.id, &origin).await?;
        // Ended by a login that came at the same time.
        let live = self.admit(&token).await?.ok_or(Refusal::Conflict)?;
        let session = &id.to_string();
        let (user, identifier) = (account.id.as_str(), account.identifier.as_str());
        self.audit.record(&origin, &Event::Login { user, identifier, session, method });
        Ok((live, token))
    }

    /// Ends the oldest sessions of a user who has more than allowed.
    async fn trim(&self, user: &str, origin: &Origin) -> Result<(), Refusal> {
        let all = self.store.of_user(user).await.map_err(|error| unavailable(&error))?;
        for surplus in all.iter().skip(self.settings.per_user) {
            self.end(surplus.id, "too-many-sessions", origin).await?;
        }
        Ok(())
    }

    /// Ends a session everywhere: first in the store, then in this process, then it is answered.
    pub async fn end(&self, id: SessionId, reason: &str, origin: &Origin) -> Result<bool, Refusal> {
        let ended = self.store.end(id).await.map_err(|error| unavailable(&error))?;
        self.cache.stop(id);
        let Some(record) = ended else { return Ok(false) };
        let session = &id.to_string();
        self.audit.record(origin, &Event::SessionEnd { user: &record.user, session, reason });
        Ok(true)
    }

    /// Ends all sessions of a user; how many there were.
    pub async fn end_all(
        &self,
        user: &str,
        reason: &str,
        origin: &Origin,
    ) -> Result<usize, Refusal> {
        let all = self.store.of_user(user).await.map_err(|error| unavailable(&error))?;
        let mut count = 0;
        for record in all {
            count += usize::from(self.end(record.id, reason, origin).await?);
        }
        Ok(count)
    }

    async fn end_one(&self, id: SessionId, caller: &Caller) -> Result<Outcome, Refusal> {
        let live = signed_in(caller)?;
        let found = self.store.load(id).await.map_err(|error| unavailable(&error))?;
        // Somebody else's session is answered like one that never was.
        if found.is_none_or(|record| record.user != live.identity().user) {
            return Err(Refusal::NotFound);
        }
        let ended = self.end(id, "ended-by-user", &origin(caller)).await?;
        Ok(Outcome::Ended(usize::from(ended)))
    }

    async fn end_others(&self, caller: &Caller) -> Result<Outcome, Refusal> {
        let live = signed_in(caller)?;
        let all = self.store.of_user(&live.identity().user).await;
        let mut count = 0;
        for record in all.map_err(|error| unavailable(&error))? {
            if record.id != live.id() {
                count += usize::from(self.end(record.id, "ended-by-user", &origin(caller)).await?);
            }
        }
        Ok(Outcome::Ended(count))
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
        all.retain(|record| record.ends() > now);
        Ok(all)
    }

    fn peers(&self, live: &Live) -> Result<Outcome, Refusal> {
        let account = self.account(live)?;
        let mut peers: Vec<_> = account
            .groups
            .iter()
            .flat_map(|group| self.directory.members(group))
            .map(|peer| (user_claim(&peer.id), peer.email.clone()))
            .collect();
        peers.sort_unstable();
        peers.dedup();
        Ok(Outcome::Peers(peers))
    }

    /// New claim, new secret, same absolute end. Compare-and-set: two switches never mix.
    async fn switch_claim(
        &self,
        claim: String,
        extended: bool,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let live = signed_in(caller)?;
        let account = self.account(live)?;
        if !may_claim(&account, &claim, &*self.directory) {
            return Err(Refusal::ClaimNotAllowed(claim));
        }
        let token = Token::issue(live.id()).map_err(no_randomness)?;
        let mut record = live.record().clone();
        let until = self.clock.now().plus(GRACE);
        record.previous = Some(Previous { hash: record.secret, until });
        record.secret = token.hash();
        record.generation += 1;
        record.seen = live.pulse().seen();
        record.extended = extended;
        let from = std::mem::replace(&mut record.claim, claim);
        let (id, to) = (record.id, record.claim.clone());
        let replaced = self.store.replace(record).await;
        match replaced.map_err(|error| unavailable(&error))? {
            Replaced::Done => {}
            Replaced::Conflict => return Err(Refusal::Conflict),
            Replaced::Gone => return Err(Refusal::NotSignedIn),
        }
        self.cache.change(id);
        let live = self.admit(&token).await?.ok_or(Refusal::NotSignedIn)?;
        let event = Event::ClaimSwitch {
            user: &live.identity().user,
            session: &live.identity().session,
            from: &from,
            to: &to,
        };
        self.audit.record(&origin(caller), &event);
        Ok(Outcome::Switched(live, token))
    }

    fn account(&self, live: &Live) -> Result<Arc<Account>, Refusal> {
        self.directory.by_id(&live.identity().user).ok_or(Refusal::NotSignedIn)
    }

    fn note_failure(&self, identifier: &str, reason: &str, caller: &Caller) {
        let identifier = shorten(identifier, 128);
        self.audit.record(&origin(caller), &Event::LoginFailure { identifier, reason });
    }

    /// The claims that the holder of `identity` may switch to, themselves first.
    pub fn claims(&self, identity: &Identity) -> Vec<String> {
        let mut claims = vec![user_claim(&identity.user)];
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

    /// The audit log, for refusals that are not the core's.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The store, for readiness and operators.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }
}

fn signed_in(caller: &Caller) -> Result<&Arc<Live>, Refusal> {
    caller.session.as_ref().ok_or(Refusal::NotSignedIn)
}

fn origin(caller: &Caller) -> Origin {
    Origin { ip: caller.ip, request: caller.request.clone() }
}

pub(super) fn unavailable(error: &super::ports::StoreError) -> Refusal {
    tracing::warn!(%error, "session store");
    Refusal::Unavailable
}

fn no_randomness(error: getrandom::Error) -> Refusal {
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
