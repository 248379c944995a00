//! Sessions and their actions: search, read, delete, switch the claim, groups and peers.
//!
//! A session is its own owner: nobody sees or changes another one, not even one of their own. To others
//! it is there (403) or not (404), as in Nuvla; an id tells nothing, and opens nothing.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use super::body::Body;
use super::claim::{SwitchBody, group_tree};
use super::refuse::Failure;
use super::resource::{ACTIONS, collection, session};
use super::{Nuvla, named, own_change};
use crate::api::{Ask, Carrier, Core, Reply};
use crate::session::{Command, Form, NUVLA, Outcome, Refusal, SessionId, user_claim_in};

impl Nuvla {
    /// GET and PUT `/session`: whatever is asked for, it is the own session.
    pub(super) fn search(&self, ask: &Ask<'_>, body: &Body) -> Result<Reply, Failure> {
        let window = body.window(ask.query);
        let own = ask.caller.session.iter().map(|live| session(live)).collect();
        Ok(collection("session", "group/nuvla-anon", own, window, &["add"]))
    }

    /// GET `/session/<uuid>`.
    pub(super) async fn show(
        &self,
        id: &str,
        ask: &Ask<'_>,
        core: Core<'_>,
    ) -> Result<Reply, Failure> {
        match named(ask, id) {
            Some(live) => Ok(Reply::json(StatusCode::OK, &session(live))),
            None => Err(not_mine(id, core).await),
        }
    }

    /// DELETE `/session/<uuid>`. The cookie is taken back only when the session has ended.
    pub(super) async fn delete(
        &self,
        id: &str,
        ask: &Ask<'_>,
        core: Core<'_>,
    ) -> Result<Reply, Failure> {
        let Some(live) = named(ask, id) else { return Err(not_mine(id, core).await) };
        own_change(ask)?;
        let id = format!("session/{id}");
        if live.record().form == Form::Key {
            let message = "the session of a key ends when the key is revoked";
            return Err(Failure::new(StatusCode::FORBIDDEN, "not-allowed", message).about(id));
        }
        core.execute(Command::Logout, &ask.caller).await?;
        let message = format!("{id} deleted");
        let body = json!({ "status": 200, "message": message, "resource-id": id });
        Ok(Reply::json(StatusCode::OK, &body).carrying(Carrier::Revoke))
    }

    /// An action of a session, by any method.
    pub(super) async fn act(
        &self,
        id: &str,
        action: &str,
        ask: &Ask<'_>,
        body: &Body,
        core: Core<'_>,
    ) -> Result<Reply, Failure> {
        if !ACTIONS.contains(&action) {
            let uri = self.uri(ask);
            let method = ask.method.as_str().to_ascii_lowercase();
            let message = format!("undefined action ({method}, {action}) for {uri}");
            return Err(Failure::new(StatusCode::NOT_FOUND, "no-action", message).about(uri));
        }
        if named(ask, id).is_none() {
            return Err(not_mine(id, core).await);
        }
        match action {
            "get-groups" => {
                let outcome = core.execute(Command::Groups, &ask.caller).await?;
                let Outcome::Groups(forest) = outcome else { return Err(Failure::unexpected()) };
                Ok(Reply::json(StatusCode::OK, &Value::Array(group_tree(&forest))))
            }
            "get-peers" => {
                let outcome = core.execute(Command::Peers, &ask.caller).await?;
                let Outcome::Peers(peers) = outcome else { return Err(Failure::unexpected()) };
                let peers: BTreeMap<_, _> = peers
                    .into_iter()
                    .filter(|peer| !peer.email.is_empty())
                    .map(|peer| (user_claim_in(NUVLA, &peer.user, &peer.aliases), peer.email))
                    .collect();
                Ok(Reply::json(StatusCode::OK, &json!(peers)))
            }
            _ => self.switch_group(ask, body, core).await,
        }
    }

    /// The whole session under its new claim, and a new secret for it.
    async fn switch_group(
        &self,
        ask: &Ask<'_>,
        body: &Body,
        core: Core<'_>,
    ) -> Result<Reply, Failure> {
        own_change(ask)?;
        let SwitchBody { claim, extended } = SwitchBody::read(body)?;
        let identity = ask.caller.session.as_ref().map(|live| live.identity());
        let meant = identity.map_or_else(|| claim.clone(), |own| super::claim::meant(own, &claim));
        let command = Command::SwitchClaim { claim: meant, extended, renew: self.renew_on_switch };
        match core.execute(command, &ask.caller).await {
            Ok(Outcome::Switched(live, token)) => {
                let reply = Reply::json(StatusCode::OK, &session(&live));
                Ok(reply.carrying(Carrier::Issue(token)))
            }
            Ok(_) => Err(Failure::unexpected()),
            Err(Refusal::ClaimNotAllowed(_)) => {
                let message = format!("Switch group cannot be done to requested group: {claim}!");
                Err(Failure::new(StatusCode::FORBIDDEN, "claim-not-allowed", message))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }
}

/// The failure for a session that is not the one that came with the request.
async fn not_mine(id: &str, core: Core<'_>) -> Failure {
    let resource = format!("session/{id}");
    // One spelling per id: any other names nothing.
    let Some(known) = id.parse::<SessionId>().ok().filter(|known| known.to_string() == id) else {
        return Failure::not_found(&resource);
    };
    match core.is_going_on(known).await {
        Ok(true) => Failure::invalid_credentials(&resource),
        Ok(false) => Failure::not_found(&resource),
        Err(refusal) => refusal.into(),
    }
}
