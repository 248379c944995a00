//! The account page and what it does: switch the claim, list and end sessions; the same by JSON.
//!
//! Shows only what belongs to the one who asks: the core sees to that.

use std::collections::HashSet;

use http::StatusCode;
use serde_json::json;

use super::form::{Form, SwitchBody};
use super::{Browser, Media, json, keys, shown, signed_in, unexpected};
use crate::api::{Ask, Carrier, Core, Fault, Reply};
use crate::pages::{AccountNotice, AccountPage, ClaimChoice, SessionRow};
use crate::session::{
    Command, GroupNode, Identity, Outcome, Record, Refusal, SessionId, group_claim, own_claim,
};

/// Sessions that the page lists.
const ROWS: usize = 50;
/// Claims that the page lists.
const CLAIMS: usize = 500;

/// A claim with its place in the tree.
#[derive(Debug)]
struct Claim {
    claim: String,
    label: String,
    parent: Option<String>,
    depth: u8,
}

impl Browser {
    /// GET `/account`.
    pub(super) async fn account(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let live = signed_in(ask)?;
        let query = Form::of_query(ask.query)?;
        let records = records(ask, core).await?;
        let outcome = core.execute(Command::Groups, &ask.caller).await;
        let Outcome::Groups(forest) = outcome.map_err(|refusal| Fault::from(&refusal))? else {
            return Err(unexpected());
        };
        let (identity, record) = (live.identity(), live.record());
        let claims = claims(identity, &forest, core);
        let text = Texts::of(&records, live.id());
        // Partners and the like have none: the page does without.
        let keys = keys::list(ask, core).await.unwrap_or_default();
        let page = AccountPage {
            now: seconds(ask.now),
            name: shown(identity),
            identifier: &identity.identifier,
            email: Some(identity.email.as_str()).filter(|email| !email.is_empty()),
            user_id: &identity.user,
            actor: identity.actor.as_deref(),
            groups: identity.groups.iter().map(String::as_str).collect(),
            active_claim: &identity.claim,
            claims: claims.iter().map(choice).collect(),
            sessions: text.0.iter().map(Text::row).collect(),
            sessions_left_out: records.len().saturating_sub(text.0.len()),
            keys: keys.iter().map(|key| keys::shown_row(key)).collect(),
            may_make_keys: identity.is_person(),
            expires: seconds(record.expires.seconds()),
            idle_limit: Some(record.idle_ms / 1000).filter(|limit| *limit > 0),
            notice: notice(query.text("notice")),
        };
        Ok(Reply::page(StatusCode::OK, self.pages.account(&page)))
    }

    pub(super) fn back(&self, notice: &str) -> Reply {
        Reply::see_other(&format!("{}/account?notice={notice}", self.mount))
    }

    /// POST `/switch` by form.
    pub(super) async fn switch_form(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        if Media::of(ask) != Media::Form {
            let wanted = "application/json or application/x-www-form-urlencoded";
            return Err(super::form::unsupported(wanted));
        }
        let form = Form::of_user(ask)?;
        let extended = matches!(form.text("extended"), "true" | "on" | "1");
        let command =
            Command::SwitchClaim { claim: form.text("claim").to_owned(), extended, renew: false };
        match core.execute(command, &ask.caller).await {
            Ok(Outcome::Switched(_, token)) => {
                let reply = match self.place(form.text("next"), ask.origin) {
                    Some(place) => Reply::see_other(&place.target),
                    None => self.back("switched"),
                };
                Ok(reply.carrying(Carrier::Issue(token)))
            }
            Ok(_) => Err(unexpected()),
            Err(Refusal::ClaimNotAllowed(_)) => Ok(self.back("not-allowed")),
            Err(refusal) => Err(Fault::from(&refusal)),
        }
    }

    /// POST `/switch` by JSON.
    pub(super) async fn switch_json(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let SwitchBody { claim, extended } = SwitchBody::read(ask)?;
        let outcome =
            core.execute(Command::SwitchClaim { claim, extended, renew: false }, &ask.caller).await;
        let Outcome::Switched(live, token) = outcome.map_err(|refusal| Fault::from(&refusal))?
        else {
            return Err(unexpected());
        };
        let body = json::session(&live, core, ask.now);
        Ok(Reply::json(StatusCode::OK, &body).carrying(Carrier::Issue(token)))
    }

    /// GET `/sessions`.
    pub(super) async fn sessions(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let live = signed_in(ask)?;
        let records = records(ask, core).await?;
        Ok(Reply::json(StatusCode::OK, &json::sessions(&records, live.id())))
    }

    /// POST `/sessions/end`.
    pub(super) async fn end_form(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let own = signed_in(ask)?.id();
        let form = Form::of_user(ask)?;
        match end(form.text("id"), ask, core).await {
            Ok(id) if id == own => {
                Ok(Reply::see_other(&self.at("/logged-out")).carrying(Carrier::Revoke))
            }
            Ok(_) => Ok(self.back("session-ended")),
            Err(Refusal::NotFound) => Ok(self.back("not-found")),
            Err(refusal) => Err(Fault::from(&refusal)),
        }
    }

    /// DELETE `/sessions/<id>`.
    pub(super) async fn end_json(
        &self,
        id: &str,
        ask: &Ask<'_>,
        core: Core<'_>,
    ) -> Result<Reply, Fault> {
        let own = signed_in(ask)?.id();
        let ended = end(id, ask, core).await.map_err(|refusal| Fault::from(&refusal))?;
        let carrier = if ended == own { Carrier::Revoke } else { Carrier::Keep };
        Ok(Reply::empty(StatusCode::NO_CONTENT).carrying(carrier))
    }

    /// POST `/sessions/end-others`.
    pub(super) async fn end_others_form(
        &self,
        ask: &Ask<'_>,
        core: Core<'_>,
    ) -> Result<Reply, Fault> {
        Form::of_user(ask)?;
        end_others(ask, core).await?;
        Ok(self.back("others-ended"))
    }

    /// DELETE `/sessions`: all but the one that asks.
    pub(super) async fn end_others_json(
        &self,
        ask: &Ask<'_>,
        core: Core<'_>,
    ) -> Result<Reply, Fault> {
        let ended = end_others(ask, core).await?;
        Ok(Reply::json(StatusCode::OK, &json!({ "ended": ended })))
    }
}

async fn records(ask: &Ask<'_>, core: Core<'_>) -> Result<Vec<Record>, Fault> {
    let outcome = core.execute(Command::ListSessions, &ask.caller).await;
    match outcome.map_err(|refusal| Fault::from(&refusal))? {
        Outcome::Sessions(records) => Ok(records),
        _ => Err(unexpected()),
    }
}

/// Ends the session that `id` names. One that is over already, like one of somebody else, is not found.
async fn end(id: &str, ask: &Ask<'_>, core: Core<'_>) -> Result<SessionId, Refusal> {
    let id: SessionId = id.parse().map_err(|_| Refusal::NotFound)?;
    match core.execute(Command::EndSession(id), &ask.caller).await? {
        Outcome::Ended(0) => Err(Refusal::NotFound),
        _ => Ok(id),
    }
}

async fn end_others(ask: &Ask<'_>, core: Core<'_>) -> Result<usize, Fault> {
    let outcome = core.execute(Command::EndOthers, &ask.caller).await;
    match outcome.map_err(|refusal| Fault::from(&refusal))? {
        Outcome::Ended(count) => Ok(count),
        _ => Err(unexpected()),
    }
}

fn notice(name: &str) -> Option<AccountNotice> {
    Some(match name {
        "key-not-found" => AccountNotice::KeyNotFound,
        "key-revoked" => AccountNotice::KeyRevoked,
        "not-allowed" => AccountNotice::NotAllowed,
        "not-found" => AccountNotice::NotFound,
        "others-ended" => AccountNotice::OthersEnded,
        "session-ended" => AccountNotice::SessionEnded,
        "switched" => AccountNotice::Switched,
        "too-many-keys" => AccountNotice::TooManyKeys,
        _ => return None,
    })
}

/// Page times are signed.
pub(super) fn seconds(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// What to choose from, in the order of the tree; a group that is reached twice is listed once.
fn claims(identity: &Identity, forest: &[GroupNode], core: Core<'_>) -> Vec<Claim> {
    let own = own_claim(&identity.user);
    let label = shown(identity).to_owned();
    let mut list = vec![Claim { claim: own.clone(), label, parent: None, depth: 0 }];
    let mut known = HashSet::from([own]);
    let mut waiting: Vec<_> = forest.iter().rev().map(|node| (node, None, 0)).collect();
    while let Some((node, parent, depth)) = waiting.pop() {
        let claim = group_claim(&node.name);
        let label = label_of(node);
        let below = node.children.iter().rev();
        waiting.extend(below.map(|child| (child, Some(label.clone()), depth + 1)));
        if known.insert(claim.clone()) {
            list.push(Claim { claim, label, parent, depth });
        }
    }
    // The core's word on what may be chosen is the last one.
    let allowed = core.claims(identity);
    list.retain(|choice| allowed.contains(&choice.claim));
    for claim in allowed {
        if !known.contains(&claim) {
            list.push(Claim { label: claim.clone(), claim, parent: None, depth: 0 });
        }
    }
    list.truncate(CLAIMS);
    list
}

fn label_of(node: &GroupNode) -> String {
    if node.description.is_empty() { node.name.clone() } else { node.description.clone() }
}

fn choice(claim: &Claim) -> ClaimChoice<'_> {
    ClaimChoice {
        claim: &claim.claim,
        label: &claim.label,
        parent: claim.parent.as_deref(),
        depth: claim.depth,
    }
}

/// The texts of the rows, which the page borrows. The own session comes first.
#[derive(Debug)]
struct Texts<'a>(Vec<Text<'a>>);

#[derive(Debug)]
struct Text<'a> {
    record: &'a Record,
    id: String,
    ip: String,
    current: bool,
}

impl<'a> Texts<'a> {
    fn of(records: &'a [Record], current: SessionId) -> Self {
        let mut records: Vec<_> = records.iter().collect();
        // Stable: the others stay newest first.
        records.sort_by_key(|record| record.id != current);
        let text = |record: &'a Record| Text {
            record,
            id: record.id.to_string(),
            ip: record.ip.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string()),
            current: record.id == current,
        };
        Self(records.into_iter().take(ROWS).map(text).collect())
    }
}

impl Text<'_> {
    fn row(&self) -> SessionRow<'_> {
        SessionRow {
            id: &self.id,
            user_agent: &self.record.agent,
            ip: &self.ip,
            created: seconds(self.record.created.seconds()),
            last_seen: seconds(self.record.seen.seconds()),
            current: self.current,
        }
    }
}
