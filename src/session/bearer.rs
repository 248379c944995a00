//! Sessions of keys that are used as bearer tokens: no store keeps them, the directory tells of them.
//!
//! They are cached for as long as the directory does not change. A key that is gone is refused at once, and
//! what runs under it is cut when the change of the directory is followed.

use std::sync::Arc;

use serde_json::Map;

use super::authority::Authority;
use super::command::{Refusal, Worthless};
use super::live::Live;
use super::lookup::{ATTEMPTS, Found};
use super::ports::Lease;
use super::principal::{Key, Principal};
use super::record::{Kind, NO_IDLE_LIMIT, RECORD_VERSION, Record};
use super::token::{Form, SecretHash, SessionId};
use crate::clock::UnixMs;

impl Authority {
    /// The session of the key whose secret has this hash.
    pub(super) fn of_key(&self, id: SessionId, hash: &SecretHash) -> Result<Found, Refusal> {
        for _ in 0..ATTEMPTS {
            let (ticket, epoch) = (self.cache.before_read(id), self.directory.epoch());
            let found = self.derive_key(id, hash);
            let (record, identity) = match found {
                Ok(found) => found,
                Err(worthless) => {
                    self.cache.stop(id);
                    return Ok(Err(worthless));
                }
            };
            if self.cache.is_crowded() {
                self.cache.sweep(self.clock.now());
            }
            let (pulse, lease) = (self.cache.pulse(id), Lease::endless());
            let live = Arc::new(Live::new(record, identity, epoch, pulse, lease));
            // A directory that changed meanwhile may have been followed before this was in the cache.
            if self.cache.insert(&live, ticket) && self.directory.epoch() == epoch {
                live.pulse().prove(live.lease());
                return Ok(Ok(live));
            }
        }
        Err(Refusal::Conflict)
    }

    fn derive_key(
        &self,
        id: SessionId,
        hash: &SecretHash,
    ) -> Result<(Record, super::Identity), Worthless> {
        let key = self.directory.key_by_hash(hash).ok_or(Worthless::Invalid)?;
        if !key.is_live(self.clock.now()) {
            return Err(Worthless::Expired);
        }
        let record = session(&key, id, self.clock.now());
        let identity = self.identify(&record).ok_or(Worthless::Invalid)?;
        Ok((record, identity))
    }

    /// Cuts what runs under keys that are gone; how many there were.
    pub(super) fn reconcile_keys(&self) -> usize {
        let mut keys = Vec::new();
        self.cache.visit(|live| {
            if live.record().form == Form::Key {
                keys.push((live.id(), live.record().secret));
            }
        });
        let gone = keys.into_iter().filter(|(id, hash)| self.derive_key(*id, hash).is_err());
        gone.map(|(id, _)| self.cache.stop(id)).count()
    }
}

/// What the record of a key's session would be.
fn session(key: &Key, id: SessionId, now: UnixMs) -> Record {
    let (kind, tenant) = match &key.owner {
        Principal::Partner(partner) => (Kind::Partner, Some(partner.clone())),
        _ => (Kind::ApiKey, None),
    };
    Record {
        version: RECORD_VERSION,
        generation: 0,
        id,
        secret: key.hash,
        previous: None,
        form: Form::Key,
        kind,
        user: key.owner.record(),
        identifier: key.id.clone(),
        claim: key.owner.to_string(),
        extended: false,
        tenant,
        method: if kind == Kind::Partner { "partner-key" } else { "api-key" }.to_owned(),
        level: 1,
        authenticated: now,
        actor: None,
        key: Some(key.id.clone()),
        ip: None,
        agent: String::new(),
        created: key.created,
        seen: now,
        expires: key.expires.unwrap_or(UnixMs::NEVER),
        idle_ms: NO_IDLE_LIMIT,
        privileges: Vec::new(),
        parent: None,
        limits: None,
        sealed_by: None,
        role: None,
        scope: None,
        admin: false,
        over: false,
        other: Map::new(),
    }
}
