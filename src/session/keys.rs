//! API keys: who may make, see and revoke them, and the sessions that they open.
//!
//! A key acts under the claim that was active when it was made.

use std::sync::Arc;
use std::time::Duration;

use super::authority::{Authority, no_randomness, origin, shorten, signed_in};
use super::command::{Caller, Opening, Outcome, Refusal};
use super::counters::Person;
use super::identity::{account_of, may_claim};
use super::key::KeySecret;
use super::live::Live;
use super::open::former;
use super::ports::{Credentials, LoginError, Proven};
use super::principal::{Key, Principal};
use super::record::{Kind, Record};
use super::token::SessionId;
use crate::clock::UnixMs;

/// Keys that one user or group may have.
pub const KEYS: usize = 100;
/// What ids of keys may begin with (Nuvla).
pub const CREDENTIAL: &str = "credential/";
/// Longest name of a key, in bytes.
const NAME: usize = 128;
/// Shortest life of a key.
const SHORTEST: Duration = Duration::from_secs(1);

/// The bare id.
fn bare(id: &str) -> &str {
    id.strip_prefix(CREDENTIAL).unwrap_or(id)
}

impl Authority {
    /// A session of whomever a key belongs to.
    pub(super) async fn login_by_key(
        self: &Arc<Self>,
        opening: &Opening,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let Opening { credentials, terms } = opening;
        let id = bare(credentials.identifier());
        let person = Person::typed(&format!("{CREDENTIAL}{}", shorten(id, NAME)));
        // What is no id may be a secret in the wrong field.
        let is_id = self.directory.key(id).is_some() || uuid::Uuid::try_parse(id).is_ok();
        let typed = format!("{CREDENTIAL}{}", if is_id { id } else { "unknown" });
        let attempt = self.attempt(&person, &typed, caller).await?;
        let proof = self.prove_key(credentials).await.and_then(|(method, key)| {
            let account = account_of(&key.owner.record(), &*self.directory);
            account.map(|account| (method, key, account)).ok_or(LoginError::Invalid)
        });
        let (method, key, account) = self.settle(attempt, proof, &typed, caller).await?;
        let (mut record, token) = self.draft(&account, method, terms, caller)?;
        record.kind = Kind::ApiKey;
        if let Principal::Partner(id) = &key.owner {
            (record.kind, record.tenant) = (Kind::Partner, Some(id.clone()));
        }
        record.key = Some(key.id.clone());
        record.expires = record.expires.min(key.expires.unwrap_or(UnixMs::NEVER));
        match self.hand_out(record, token, former(caller), None, caller).await {
            Ok((live, token)) => Ok(Outcome::Opened(live, token)),
            Err(refusal) => {
                self.note_failure(&typed, "store", caller);
                Err(refusal)
            }
        }
    }

    async fn prove_key(
        &self,
        credentials: &Credentials,
    ) -> Result<(&'static str, Arc<Key>), LoginError> {
        for method in &self.methods {
            match method.verify(credentials).await {
                Err(LoginError::Unsupported) | Ok(Proven::Account(_)) => {}
                Err(error) => return Err(error),
                Ok(Proven::Key(key)) => return Ok((method.name(), key)),
            }
        }
        Err(LoginError::Unsupported)
    }

    /// `end`, or the end of the key that the session was made with when that is earlier.
    pub(super) fn with_key(&self, record: &Record, end: UnixMs) -> UnixMs {
        let key = record.key.as_deref().and_then(|id| self.directory.key(id));
        end.min(key.and_then(|key| key.expires).unwrap_or(UnixMs::NEVER))
    }

    /// A new key that acts under the caller's active claim.
    pub(super) async fn issue_key(
        &self,
        name: &str,
        lifetime: Option<Duration>,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let owner = issuer(signed_in(caller)?)?;
        if self.directory.keys_of(&owner).len() >= KEYS {
            return Err(Refusal::TooMany("keys"));
        }
        let name: String = name.trim().chars().filter(|letter| !letter.is_control()).collect();
        let secret = KeySecret::issue().map_err(no_randomness)?;
        let id = SessionId::issue().map_err(no_randomness)?.to_string();
        let created = self.clock.now();
        let expires = lifetime.map(|lifetime| created.plus(lifetime.max(SHORTEST)));
        let name = shorten(&name, NAME).to_owned();
        let key = Key { id, name, owner, hash: secret.hash(), created, expires };
        self.write_key(key, secret, caller).await
    }

    /// The keys that act under the caller's active claim: not to be seen by whoever acts for somebody.
    pub(super) fn list_keys(&self, caller: &Caller) -> Result<Outcome, Refusal> {
        let live = signed_in(caller)?;
        if live.identity().actor.is_some() || live.identity().tenant.is_some() {
            return Err(Refusal::Forbidden);
        }
        let owner = owner_of(live).ok_or(Refusal::Forbidden)?;
        Ok(Outcome::Keys(self.directory.keys_of(&owner)))
    }

    /// Revokes a key of somebody whom the caller may act as. Others are answered like ones that never were.
    pub(super) async fn revoke_key(
        self: &Arc<Self>,
        id: &str,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let live = signed_in(caller)?;
        issuer(live)?;
        let account = self.account(live)?;
        let key = self.directory.key(bare(id)).filter(|key| {
            let claim = key.owner.to_string();
            may_claim(&account, &claim, &*self.directory)
        });
        let key = key.ok_or(Refusal::Missing("key"))?;
        let removed = self.drop_key(&key, caller).await?;
        Ok(Outcome::Ended(usize::from(removed)))
    }

    /// Revokes a key for an operator; whether there was one.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] when the directory cannot be written, or sessions cannot be ended now: those
    /// of a key that is gone are refused all the same.
    pub async fn revoke(self: &Arc<Self>, id: &str) -> Result<bool, Refusal> {
        match self.directory.key(bare(id)) {
            Some(key) => self.drop_key(&key, &Caller::default()).await,
            None => Ok(false),
        }
    }

    /// Ends the sessions that were made with a key: its owner's, and what else is in use here.
    pub(super) async fn end_made_with(
        self: &Arc<Self>,
        key: &Key,
        caller: &Caller,
    ) -> Result<(), Refusal> {
        let made = |record: &Record| record.key.as_deref() == Some(key.id.as_str());
        let of_owner = self.store.of_user(&key.owner.record()).await;
        let of_owner = of_owner.map_err(|error| super::authority::unavailable(&error))?;
        let mut over: Vec<_> =
            of_owner.iter().filter(|record| made(record)).map(|record| record.id).collect();
        self.cache.visit(|live| over.extend(made(live.record()).then(|| live.id())));
        over.sort_unstable();
        over.dedup();
        self.end_these(&over, "key-revoked", &origin(caller)).await.map(drop)
    }
}

/// Whose keys a session makes: those of the claim under which it acts. Only a person makes keys: a key
/// that made others would live on after it was revoked, and so would whoever acts for somebody.
fn issuer(live: &Live) -> Result<Principal, Refusal> {
    if !live.identity().is_person() {
        return Err(Refusal::Forbidden);
    }
    owner_of(live).ok_or(Refusal::Forbidden)
}

fn owner_of(live: &Live) -> Option<Principal> {
    let owner = live.identity().claim.parse().ok();
    owner.filter(|owner| matches!(owner, Principal::User(_) | Principal::Group(_)))
}

#[cfg(test)]
mod tests;
