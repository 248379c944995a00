//! Parents: the sessions with which the sealed ones of one `sessionid` end.
//!
//! Nobody holds a token of a parent. It lives as long as the child that lives longest.

use serde_json::Map;

use crate::clock::UnixMs;
use crate::secret::random;
use crate::session::authority::{Authority, no_randomness, unavailable};
use crate::session::command::{Refusal, Worthless};
use crate::session::principal::Principal;
use crate::session::record::{Kind, NO_IDLE_LIMIT, RECORD_VERSION, Record};
use crate::session::token::{Form, SecretHash, SessionId};

/// How often it is tried to join when others change the parent at the same moment.
const ATTEMPTS: usize = 16;

impl Authority {
    /// The parent of a session that ends at `expires`, made or prolonged if need be.
    pub(super) async fn join_group(
        &self,
        partner: &str,
        name: &str,
        expires: UnixMs,
    ) -> Result<Result<SessionId, Worthless>, Refusal> {
        let id = SessionId::derived(Form::Group, &[partner.as_bytes(), name.as_bytes()]);
        let mut refused = Refusal::Conflict;
        for _ in 0..ATTEMPTS {
            let now = self.clock.now();
            let found = self.store.load(id).await.map_err(|error| unavailable(&error))?;
            let found = found.map(|found| found.record).filter(|record| record.ends() > now);
            let done = match found {
                Some(record) if record.over => return Ok(Err(Worthless::Ended)),
                Some(record) if record.expires >= expires => Ok(()),
                Some(mut record) => {
                    record.expires = expires;
                    record.generation = record.generation.saturating_add(1);
                    self.replace_now(record).await
                }
                None => {
                    let record = parent(id, partner, name, expires, now)?;
                    self.store.create(record).await.map_err(|error| unavailable(&error))
                }
            };
            match done {
                Ok(()) => return Ok(Ok(id)),
                // Somebody else was first, or it has just expired: look again.
                Err(refusal) => refused = refusal,
            }
        }
        Err(refused)
    }
}

fn parent(
    id: SessionId,
    partner: &str,
    name: &str,
    expires: UnixMs,
    now: UnixMs,
) -> Result<Record, Refusal> {
    let nobodys = random::<32>().map_err(no_randomness)?;
    let owner = Principal::Partner(partner.to_owned());
    Ok(Record {
        version: RECORD_VERSION,
        generation: 0,
        id,
        secret: SecretHash::of(&nobodys),
        previous: None,
        form: Form::Group,
        kind: Kind::Partner,
        user: owner.record(),
        identifier: name.to_owned(),
        claim: owner.to_string(),
        extended: false,
        tenant: Some(partner.to_owned()),
        method: "group".to_owned(),
        level: 1,
        authenticated: now,
        actor: None,
        key: None,
        ip: None,
        agent: String::new(),
        created: now,
        seen: now,
        expires,
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
    })
}
