//! Acting under another claim: a new secret for the same session.

use std::sync::Arc;
use std::time::Duration;

use super::authority::{Authority, no_randomness, origin, signed_in};
use super::change::deliver;
use super::command::{Caller, Outcome, Refusal};
use super::identity::may_claim;
use super::record::{Previous, Record};
use super::token::{Form, Token};
use crate::audit::Event;

/// How long the secret before a claim switch is honoured, for requests in flight.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How often, and how far apart, a claim switch of which nothing is known is taken back.
const UNDO_TRIES: usize = 60;
const UNDO_PAUSE: Duration = Duration::from_millis(500);

impl Authority {
    /// New claim, new secret, same absolute end. Compare-and-set: two switches never mix.
    pub(super) async fn switch_claim(
        self: &Arc<Self>,
        claim: String,
        extended: bool,
        renew: bool,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let live = signed_in(caller)?;
        // The new token is of our own form, which the carriers of others cannot hand out.
        if live.record().form != Form::Own {
            return Err(Refusal::Forbidden);
        }
        let account = self.account(live)?;
        if !may_claim(&account, &claim, &*self.directory) {
            return Err(Refusal::ClaimNotAllowed(claim));
        }
        let token = Token::issue(live.id()).map_err(no_randomness)?;
        let former = live.record().clone();
        let mut record = former.clone();
        let until = self.clock.now().plus(GRACE);
        record.previous = Some(Previous { hash: record.secret, until });
        record.secret = token.hash();
        record.generation += 1;
        record.seen = live.pulse().seen();
        record.extended = extended;
        record.claim = claim;
        if renew {
            let end = former.expires.max(self.clock.now().plus(self.settings.lifetime));
            record.expires = self.with_key(&record, end);
        }
        // Who never got the new secret must be able to go on with the one they have.
        let mut back = former.clone();
        back.generation = record.generation + 1;
        let again = back.clone();
        let (core, origin) = (Arc::clone(self), origin(caller));
        let change = async move {
            if let Err(refusal) = core.replace_now(record).await {
                if refusal == Refusal::Unavailable {
                    core.switch_back_later(again);
                }
                return Err(refusal);
            }
            let live = match core.admit(&token).await {
                Ok(live) => live.ok_or(Refusal::NotSignedIn)?,
                Err(refusal) => {
                    core.switch_back(again).await;
                    return Err(refusal);
                }
            };
            let event = Event::ClaimSwitch {
                user: &live.identity().user,
                session: &live.identity().session,
                from: &former.claim,
                to: &live.record().claim,
            };
            core.audit.record(&origin, &event);
            Ok((live, token))
        };
        let core = Arc::clone(self);
        let undo = async move { core.switch_back(back).await };
        deliver(change, undo).await.map(|(live, token)| Outcome::Switched(live, token))
    }

    /// Whether a switch was made is not known: if it was, who asked for it must not be left with a
    /// secret that has just ended.
    fn switch_back_later(self: &Arc<Self>, back: Record) {
        let core = Arc::clone(self);
        tokio::spawn(async move {
            for _ in 0..UNDO_TRIES {
                tokio::time::sleep(UNDO_PAUSE).await;
                if core.replace_now(back.clone()).await != Err(Refusal::Unavailable) {
                    return;
                }
            }
            tracing::warn!(session = %back.id, "a claim switch may have ended a session");
        });
    }

    async fn switch_back(&self, back: Record) {
        if let Err(refusal) = self.replace_now(back).await {
            tracing::debug!(%refusal, "a claim switch that reached nobody is not taken back");
        }
    }
}
