//! Opening a session for somebody who has proven who they are.
//!
//! Checks no credentials.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Map;

use super::authority::{AGENT_LENGTH, Authority, no_randomness, origin, shorten, unavailable};
use super::change::deliver;
use super::command::{Caller, Refusal, Terms};
use super::identity::{Identity, own_claim};
use super::live::Live;
use super::lookup::ATTEMPTS;
use super::ports::{Account, Credentials, LoginError};
use super::record::{Kind, RECORD_VERSION, Record};
use super::token::{Form, SessionId, Token};
use crate::audit::{Event, Origin};
use crate::clock::{UnixMs, millis};

/// Whether a session is one of those of which a user may have so many: not those that others make, nor
/// those of partners and widgets.
fn counts(record: &Record) -> bool {
    let own = |actor: &str| actor == own_claim(&record.user);
    record.actor.as_deref().is_none_or(own) && !matches!(record.kind, Kind::Partner | Kind::Widget)
}

/// The session that a login takes the place of: not that of a key, which ends with the key.
pub(super) fn former(caller: &Caller) -> Option<SessionId> {
    let live = caller.session.as_ref().filter(|live| live.record().form != Form::Key)?;
    Some(live.id())
}

/// What somebody has proven who they are with, and who that is. Proving takes a while: see
/// [`Authority::is_still_right`].
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) credentials: Credentials,
    pub(super) account: Arc<Account>,
}

impl Authority {
    /// Opens a session; the one that the request carried ends, its id is never adopted.
    pub(super) async fn open(
        self: &Arc<Self>,
        shown: Shown,
        method: &str,
        terms: &Terms,
        caller: &Caller,
    ) -> Result<(Arc<Live>, Token), Refusal> {
        let (record, token) = self.draft(&shown.account, method, terms, caller)?;
        self.hand_out(record, token, former(caller), Some(shown), caller).await
    }

    /// The record of a new session, and the token that opens it.
    pub(super) fn draft(
        &self,
        account: &Account,
        method: &str,
        terms: &Terms,
        caller: &Caller,
    ) -> Result<(Record, Token), Refusal> {
        let token = match terms.form {
            Form::Sid => Token::issue_sid(),
            _ => SessionId::issue().and_then(Token::issue),
        };
        let token = token.map_err(no_randomness)?;
        let now = self.clock.now();
        let record = Record {
            version: RECORD_VERSION,
            generation: 0,
            id: token.id(),
            secret: token.hash(),
            previous: None,
            form: token.form(),
            kind: Kind::User,
            user: account.id.clone(),
            identifier: account.identifier.clone(),
            claim: own_claim(&account.id),
            extended: false,
            tenant: None,
            method: method.to_owned(),
            level: 1,
            authenticated: now,
            actor: None,
            key: None,
            ip: caller.ip,
            agent: shorten(&caller.agent, AGENT_LENGTH).to_owned(),
            created: self.moment(now),
            seen: now,
            expires: now.plus(terms.lifetime.unwrap_or(self.settings.lifetime)),
            idle_ms: millis(terms.idle.unwrap_or(self.settings.idle)),
            privileges: Vec::new(),
            parent: None,
            limits: None,
            sealed_by: None,
            role: None,
            scope: None,
            admin: false,
            over: false,
            other: Map::new(),
        };
        Ok((record, token))
    }

    /// Opens the session of `record` in place of `former`, and gives `token` out for it.
    pub(super) async fn hand_out(
        self: &Arc<Self>,
        record: Record,
        token: Token,
        former: Option<SessionId>,
        shown: Option<Shown>,
        caller: &Caller,
    ) -> Result<(Arc<Live>, Token), Refusal> {
        let (origin, id) = (origin(caller), record.id);
        let opening = {
            let (core, origin) = (Arc::clone(self), origin.clone());
            async move { core.establish(record, token, former, shown, &origin).await }
        };
        let core = Arc::clone(self);
        deliver(opening, async move { core.abandon(id, &origin).await }).await
    }

    /// A time of creation that no other session of this process has: of the sessions of one moment it
    /// must be clear which is the oldest, and not the one just opened.
    pub(super) fn moment(&self, now: UnixMs) -> UnixMs {
        let next = |last: u64| last.saturating_add(1).max(now.0);
        let last =
            self.opened.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| Some(next(at)));
        UnixMs(last.map_or(now.0, next))
    }

    /// Writes a new session, makes room for it, and gives it out.
    async fn establish(
        self: &Arc<Self>,
        record: Record,
        token: Token,
        former: Option<SessionId>,
        shown: Option<Shown>,
        origin: &Origin,
    ) -> Result<(Arc<Live>, Token), Refusal> {
        let id = record.id;
        self.store.create(record).await.map_err(|error| unavailable(&error))?;
        let settled = match self.is_still_right(shown).await {
            Ok(()) => self.make_room(&token, former, origin).await,
            Err(refusal) => Err(refusal),
        };
        let settled = match settled {
            Ok(live) => live,
            Err(refusal) => {
                self.abandon(id, origin).await;
                return Err(refusal);
            }
        };
        self.note_login(&settled, origin);
        Ok((settled, token))
    }

    /// Whether what was shown still proves somebody, once whoever ends their sessions ends the new one, too: a password
    /// that was changed since opens nothing any more. A hash may also have been renewed.
    async fn is_still_right(&self, shown: Option<Shown>) -> Result<(), Refusal> {
        let Some(Shown { credentials, mut account }) = shown else { return Ok(()) };
        for _ in 0..ATTEMPTS {
            let now = self.directory.by_id(&account.id);
            if now.is_some_and(|now| now.password == account.password) {
                return Ok(());
            }
            account = match self.verify(&credentials).await {
                Ok((_, again)) if again.id == account.id => again,
                Err(LoginError::Busy) => return Err(Refusal::Busy),
                _ => return Err(Refusal::InvalidCredentials),
            };
        }
        Err(Refusal::Conflict)
    }

    pub(super) fn note_login(&self, live: &Live, origin: &Origin) {
        let Identity { user, identifier, session, method, actor, .. } = live.identity();
        let actor = actor.as_deref().unwrap_or_default();
        self.audit.record(origin, &Event::Login { user, identifier, session, method, actor });
    }

    /// Makes the session usable and ends those that must go for it.
    async fn make_room(
        self: &Arc<Self>,
        token: &Token,
        former: Option<SessionId>,
        origin: &Origin,
    ) -> Result<Arc<Live>, Refusal> {
        // Ended by a login that came at the same time, when it is not there.
        let live = self.admit(token).await?.ok_or(Refusal::Conflict)?;
        if counts(live.record()) {
            let all = self.store.of_user(&live.record().user).await;
            let all = all.map_err(|error| unavailable(&error))?;
            // A program with a key does not push a person out, nor the other way round.
            let by_key = |record: &Record| record.actor.is_some() || record.kind == Kind::ApiKey;
            let alike =
                |record: &&Record| counts(record) && by_key(record) == by_key(live.record());
            let own = all.iter().filter(alike).map(|record| record.id);
            let stay = own.filter(|id| Some(*id) != former);
            let surplus: Vec<_> = stay.skip(self.settings.per_user).collect();
            self.end_these(&surplus, "too-many-sessions", origin).await?;
            if surplus.contains(&live.id()) {
                return Err(Refusal::Conflict);
            }
        }
        // Last, so that a login that fails costs nobody the session they have.
        if let Some(former) = former {
            self.end(former, "new-login", origin).await?;
        }
        Ok(live)
    }

    /// Ends a session whose token reaches nobody.
    async fn abandon(&self, id: SessionId, origin: &Origin) {
        if self.end_now(id, "abandoned", origin).await.is_err() {
            tracing::warn!(session = %id, "a session that nobody holds could not be ended");
        }
    }
}
