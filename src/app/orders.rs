//! What operators ask for, and what comes of it: at the running gateway's socket, or right at the store.
//!
//! Orders and answers are what goes over the socket, one JSON line each.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bans::{self, BanRow};
use crate::audit::Origin;
use crate::clock::{Clock, UnixMs};
use crate::pages::device_name;
use crate::session::{Authority, Directory, Kind, Record, Refusal, SessionId};

/// Sessions that one answer lists.
const LISTED: usize = 10_000;
/// Sessions that are looked at together when all are to end.
const PAGE: usize = 4096;

/// What an operator asks for.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", tag = "order")]
pub(super) enum Order {
    /// Who is slowed down after failed logins.
    Bans,
    /// Take up that a user was disabled, and end their sessions.
    Disabled {
        /// Login name.
        user: String,
    },
    /// Let somebody try again at once: who both match, where both are given; else all.
    LiftBans {
        /// Login name, or what a listing shows as `person`.
        user: Option<String>,
        /// A network, or any address in it.
        network: Option<String>,
    },
    /// Sessions, of one user or of all.
    List {
        /// Login name or stable id.
        user: Option<String>,
    },
    /// End all sessions.
    RevokeAll,
    /// Revoke a key, and end the sessions that were made with it.
    RevokeKey {
        /// Id, with or without `credential/`.
        id: String,
    },
    /// End one session.
    RevokeOne {
        /// Public id.
        id: String,
    },
    /// End all sessions of a user.
    RevokeUser {
        /// Login name or stable id.
        user: String,
    },
    /// All that may be seen of one session.
    Show {
        /// Public id.
        id: String,
    },
}

/// What came of it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub(super) enum Answer {
    /// Who is slowed down, the longest wait first.
    Bans {
        /// At most 10,000.
        bans: Vec<BanRow>,
    },
    /// Nothing, for this reason.
    Failed {
        /// What happened and what to do.
        text: String,
    },
    /// Counts of failed logins were forgotten.
    Lifted {
        /// How many.
        count: usize,
    },
    /// Sessions were ended.
    Revoked {
        /// How many.
        count: usize,
    },
    /// One session.
    Session {
        /// All of it.
        session: Box<Details>,
    },
    /// Sessions, newest first.
    Sessions {
        /// At most 10,000.
        sessions: Vec<Row>,
        /// Whether there may be others.
        #[serde(default)]
        more: bool,
    },
}

/// A session as operators see it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) identifier: String,
    pub(super) claim: String,
    pub(super) method: String,
    pub(super) created: String,
    pub(super) seen: String,
    pub(super) ends: String,
    pub(super) ip: String,
    pub(super) device: String,
}

impl From<&Record> for Row {
    fn from(record: &Record) -> Self {
        Self {
            id: record.id.to_string(),
            user: record.user.clone(),
            identifier: record.identifier.clone(),
            claim: record.claim.clone(),
            method: record.method.clone(),
            created: record.created.rfc3339(),
            seen: record.seen.rfc3339(),
            ends: record.ends().rfc3339(),
            ip: record.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            device: device_name(&record.agent),
        }
    }
}

/// All of a session but the hashes of its secrets, and what a newer version keeps there.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Details {
    #[serde(flatten)]
    pub(super) row: Row,
    pub(super) kind: Kind,
    pub(super) extended: bool,
    pub(super) tenant: Option<String>,
    pub(super) level: u8,
    pub(super) authenticated: String,
    pub(super) actor: Option<String>,
    /// Id of the key that it was made with.
    pub(super) key: Option<String>,
    pub(super) agent: String,
    /// The absolute end; `ends` is the nearer of this and the idle end.
    pub(super) expires: String,
    /// None where only `expires` ends it.
    pub(super) idle_seconds: Option<u64>,
    pub(super) privileges: Vec<String>,
    pub(super) parent: Option<String>,
    /// Changes of secret or claim so far.
    pub(super) generation: u64,
    pub(super) version: u32,
}

impl From<&Record> for Details {
    fn from(record: &Record) -> Self {
        Self {
            row: Row::from(record),
            kind: record.kind,
            extended: record.extended,
            tenant: record.tenant.clone(),
            level: record.level,
            authenticated: record.authenticated.rfc3339(),
            actor: record.actor.clone(),
            key: record.key.clone(),
            agent: record.agent.clone(),
            expires: record.expires.rfc3339(),
            idle_seconds: record.idle().map(|limit| limit.as_secs()),
            privileges: record.privileges.clone(),
            parent: record.parent.map(|id| id.to_string()),
            generation: record.generation,
            version: record.version,
        }
    }
}

/// Carries out an order.
pub(super) async fn carry_out(
    order: &Order,
    authority: &Arc<Authority>,
    users: &dyn Directory,
    clock: &Clock,
) -> Answer {
    match obey(order, authority, users, clock).await {
        Ok(answer) => answer,
        Err(text) => Answer::Failed { text },
    }
}

async fn obey(
    order: &Order,
    authority: &Arc<Authority>,
    users: &dyn Directory,
    clock: &Clock,
) -> Result<Answer, String> {
    let words = |refusal: Refusal| refusal.to_string();
    let origin = Origin::default();
    match order {
        Order::Bans => bans::list(authority, users, clock).await.map(|bans| Answer::Bans { bans }),
        Order::RevokeKey { id } => match authority.revoke(id).await.map_err(words)? {
            true => Ok(Answer::Revoked { count: 1 }),
            false => Err(format!("there is no key \"{id}\": see portcullis key list")),
        },
        Order::Disabled { user } => {
            // First: whoever logs in meanwhile must not stay.
            authority.refresh_directory().await?;
            let id = id_of(user, authority, users).await?;
            let count = authority.end_all(&id, "user-disabled", &origin).await;
            Ok(Answer::Revoked { count: count.map_err(words)? })
        }
        Order::LiftBans { user, network } => {
            let whom = (user.as_deref(), network.as_deref());
            let lifted = bans::lift(authority, users, clock, whom).await;
            lifted.map(|count| Answer::Lifted { count })
        }
        Order::List { user } => {
            let store = authority.store();
            let (found, bound) = match user {
                Some(name) => {
                    (store.of_user(&id_of(name, authority, users).await?).await, usize::MAX)
                }
                None => (store.list(LISTED).await, LISTED),
            };
            Ok(listed(found.map_err(|error| error.to_string())?, bound, clock.now()))
        }
        Order::RevokeOne { id } => {
            catch_up(authority).await;
            match authority.end(session(id)?, "ended-by-operator", &origin).await.map_err(words)? {
                true => Ok(Answer::Revoked { count: 1 }),
                false => Err(NO_SESSION.to_owned()),
            }
        }
        Order::RevokeUser { user } => {
            catch_up(authority).await;
            let id = id_of(user, authority, users).await?;
            let count = authority.end_all(&id, "ended-by-operator", &origin).await;
            Ok(Answer::Revoked { count: count.map_err(words)? })
        }
        Order::Show { id } => {
            let found = authority.store().load(session(id)?).await;
            let found = found.map_err(|error| error.to_string())?;
            match found.filter(|record| record.ends() > clock.now()) {
                Some(record) => Ok(Answer::Session { session: Box::new(Details::from(&*record)) }),
                None => Err(NO_SESSION.to_owned()),
            }
        }
        Order::RevokeAll => {
            catch_up(authority).await;
            let mut count = 0;
            loop {
                let page = authority.store().list(PAGE).await.map_err(|error| error.to_string())?;
                let ids: Vec<_> = page.iter().map(|record| record.id).collect();
                let ended = authority.end_these(&ids, "ended-by-operator", &origin).await;
                match ended.map_err(words)? {
                    0 => return Ok(Answer::Revoked { count }),
                    ended => count += ended,
                }
            }
        }
    }
}

/// Takes up a new password before sessions end, or the old one would open others at once. Those end also where the file
/// is broken, which is told of elsewhere, or cannot be read.
async fn catch_up(authority: &Authority) {
    if let Err(error) = authority.refresh_directory().await {
        tracing::warn!(error, "the users cannot be read again before sessions are revoked");
    }
}

/// The live ones, newest first; of as many as `bound` there may be others.
fn listed(mut records: Vec<Record>, bound: usize, now: UnixMs) -> Answer {
    let more = records.len() >= bound;
    records.retain(|record| record.ends() > now);
    records.sort_by_key(|record| std::cmp::Reverse(record.created));
    Answer::Sessions { sessions: records.iter().map(Row::from).collect(), more }
}

const NO_SESSION: &str = "there is no such session";

fn session(id: &str) -> Result<SessionId, String> {
    let id = id.strip_prefix("session/").unwrap_or(id);
    id.parse().map_err(|_| format!("\"{id}\" is not the id of a session"))
}

/// The stable id of a user whom the directory knows, or who has sessions all the same: people are
/// removed from it, and a shared store may be looked at from a machine that has no directory.
async fn id_of(name: &str, authority: &Authority, users: &dyn Directory) -> Result<String, String> {
    if let Some(account) = users.by_login(name).or_else(|| users.by_id(name)) {
        return Ok(account.id.clone());
    }
    let sessions = authority.store().of_user(name).await.map_err(|error| error.to_string())?;
    match sessions.is_empty() {
        true => Err(format!("there is no user \"{name}\"")),
        false => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::sample;

    #[test]
    fn a_list_that_may_not_be_whole_says_so() {
        let now = UnixMs(1_000_000);
        let records = || {
            vec![sample("u1", now).0, sample("u2", now.plus(std::time::Duration::from_secs(1))).0]
        };
        for (bound, more) in [(usize::MAX, false), (3, false), (2, true)] {
            let Answer::Sessions { sessions, more: said } = listed(records(), bound, now) else {
                panic!("no list");
            };
            assert_eq!((sessions.len(), said), (2, more));
            assert_eq!(sessions[0].user, "u2", "the newest first");
        }
    }
}
