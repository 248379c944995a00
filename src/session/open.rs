//! Opening a session for somebody who has proven who they are.
//!
//! Checks no credentials.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Map;

use super::authority::{AGENT_LENGTH, Authority, no_randomness, origin, shorten, unavailable};
use super::change::deliver;
use super::command::{Caller, Refusal, Terms};
use super::identity::{Identity, user_claim};
use super::live::Live;
use super::ports::Account;
use super::record::{Kind, RECORD_VERSION, Record};
use super::token::{Form, SessionId, Token};
use crate::audit::{Event, Origin};
use crate::clock::{UnixMs, millis};

impl Authority {
    /// Opens a session; the one that the request carried ends, its id is never adopted.
    pub(super) async fn open(
        self: &Arc<Self>,
        account: &Account,
        method: &'static str,
        terms: &Terms,
        caller: &Caller,
    ) -> Result<(Arc<Live>, Token), Refusal> {
        let token = match terms.form {
            Form::Sid => Token::issue_sid(),
            _ => SessionId::issue().and_then(Token::issue),
        };
        let token = token.map_err(no_randomness)?;
        let id = token.id();
        let now = self.clock.now();
        let record = Record {
            version: RECORD_VERSION,
            generation: 0,
            id,
            secret: token.hash(),
            previous: None,
            form: token.form(),
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
            created: self.moment(now),
            seen: now,
            expires: now.plus(terms.lifetime.unwrap_or(self.settings.lifetime)),
            idle_ms: millis(terms.idle.unwrap_or(self.settings.idle)),
            privileges: Vec::new(),
            parent: None,
            limits: None,
            role: None,
            scope: None,
            admin: false,
            over: false,
            other: Map::new(),
        };
        let (origin, former) = (origin(caller), caller.session.as_ref().map(|live| live.id()));
        let opening = {
            let (core, origin) = (Arc::clone(self), origin.clone());
            async move { core.establish(record, token, former, &origin).await }
        };
        let core = Arc::clone(self);
        deliver(opening, async move { core.abandon(id, &origin).await }).await
    }

    /// A time of creation that no other session of this process has: of the sessions of one moment it
    /// must be clear which is the oldest, and not the one just opened.
    fn moment(&self, now: UnixMs) -> UnixMs {
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
        origin: &Origin,
    ) -> Result<(Arc<Live>, Token), Refusal> {
        let id = record.id;
        self.store.create(record).await.map_err(|error| unavailable(&error))?;
        let settled = match self.make_room(&token, former, origin).await {
            Ok(live) => live,
            Err(refusal) => {
                self.abandon(id, origin).await;
                return Err(refusal);
            }
        };
        let Identity { user, identifier, session, method, .. } = settled.identity();
        self.audit.record(origin, &Event::Login { user, identifier, session, method });
        Ok((settled, token))
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
        let all = self.store.of_user(&live.identity().user).await;
        let all = all.map_err(|error| unavailable(&error))?;
        let stay = all.iter().map(|record| record.id).filter(|id| Some(*id) != former);
        let surplus: Vec<_> = stay.skip(self.settings.per_user).collect();
        self.end_these(&surplus, "too-many-sessions", origin).await?;
        if surplus.contains(&live.id()) {
            return Err(Refusal::Conflict);
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
