//! API keys of the one who asks: the section of the account page, and the same by JSON.
//!
//! The secret of a new key is in the one answer that made it, and nowhere else.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::form::{Form, KeyBody};
use super::{Browser, json, signed_in, unexpected};
use crate::api::{Ask, Core, Fault, Reply};
use crate::pages::{KeyPage, KeyRow};
use crate::section::parse_duration;
use crate::session::{CREDENTIAL, Command, Key, Outcome, Refusal};

/// Longest life of a key that a person may ask for.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

impl Browser {
    /// GET `/keys`.
    pub(super) async fn keys(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let keys = list(ask, core).await.map_err(|refusal| Fault::from(&refusal))?;
        let rows: Vec<_> = keys.iter().map(|key| Value::Object(row(key))).collect();
        Ok(Reply::json(StatusCode::OK, &json!({ "keys": rows })))
    }

    /// POST `/keys` by JSON.
    pub(super) async fn issue_json(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        signed_in(ask)?;
        let KeyBody { name, expires } = KeyBody::read(ask)?;
        let command = Command::IssueKey { name, lifetime: lifetime(expires.as_deref())? };
        let outcome = core.execute(command, &ask.caller).await;
        let Outcome::KeyIssued(key, secret) = outcome.map_err(|refusal| Fault::from(&refusal))?
        else {
            return Err(unexpected());
        };
        let mut body = row(&key);
        body.insert("secret".to_owned(), json!(secret.expose()));
        Ok(Reply::json(StatusCode::CREATED, &Value::Object(body)))
    }

    /// POST `/keys/create` by form.
    pub(super) async fn issue_form(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        signed_in(ask)?;
        let form = Form::of_user(ask)?;
        let expires = Some(form.text("expires")).filter(|text| !text.is_empty());
        let name = form.text("name").to_owned();
        let command = Command::IssueKey { name, lifetime: lifetime(expires)? };
        let (key, secret) = match core.execute(command, &ask.caller).await {
            Ok(Outcome::KeyIssued(key, secret)) => (key, secret),
            Ok(_) => return Err(unexpected()),
            Err(Refusal::TooMany(_)) => return Ok(self.back("too-many-keys")),
            Err(refusal) => return Err(Fault::from(&refusal)),
        };
        let page = KeyPage {
            id: &format!("{CREDENTIAL}{}", key.id),
            secret: secret.expose(),
            name: &key.name,
            owner: &key.owner.to_string(),
            expires: key.expires.map(|at| super::account::seconds(at.seconds())),
        };
        Ok(Reply::page(StatusCode::OK, self.pages.key(&page)))
    }

    /// DELETE `/keys/<id>`.
    pub(super) async fn revoke_json(
        &self,
        id: &str,
        ask: &Ask<'_>,
        core: Core<'_>,
    ) -> Result<Reply, Fault> {
        revoke(id, ask, core).await.map_err(|refusal| Fault::from(&refusal))?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    /// POST `/keys/revoke` by form.
    pub(super) async fn revoke_form(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        signed_in(ask)?;
        let form = Form::of_user(ask)?;
        match revoke(form.text("id"), ask, core).await {
            Ok(()) => Ok(self.back("key-revoked")),
            Err(Refusal::Missing(_)) => Ok(self.back("key-not-found")),
            Err(refusal) => Err(Fault::from(&refusal)),
        }
    }
}

/// The keys that act under the active claim, oldest first.
pub(super) async fn list(
    ask: &Ask<'_>,
    core: Core<'_>,
) -> Result<Vec<std::sync::Arc<Key>>, Refusal> {
    match core.execute(Command::ListKeys, &ask.caller).await? {
        Outcome::Keys(keys) => Ok(keys),
        _ => Ok(Vec::new()),
    }
}

async fn revoke(id: &str, ask: &Ask<'_>, core: Core<'_>) -> Result<(), Refusal> {
    match core.execute(Command::RevokeKey(id.to_owned()), &ask.caller).await? {
        Outcome::Ended(0) => Err(Refusal::Missing("key")),
        _ => Ok(()),
    }
}

/// How long a key is to live; `None`: until it is revoked.
fn lifetime(text: Option<&str>) -> Result<Option<Duration>, Fault> {
    let Some(text) = text else { return Ok(None) };
    let fits = |lifetime: &Duration| (Duration::from_secs(1)..=LONGEST).contains(lifetime);
    match parse_duration(text).filter(fits) {
        Some(lifetime) => Ok(Some(lifetime)),
        None => {
            let detail = "`expires` is a number and a unit up to ten years, such as 90d or 12h.";
            Err(Fault::new(StatusCode::BAD_REQUEST, "malformed-body", detail))
        }
    }
}

fn row(key: &Key) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("id".to_owned(), json!(format!("{CREDENTIAL}{}", key.id)));
    row.insert("name".to_owned(), json!(key.name));
    row.insert("owner".to_owned(), json!(key.owner.to_string()));
    json::moment(&mut row, "created", key.created);
    if let Some(expires) = key.expires {
        json::moment(&mut row, "expires", expires);
    }
    row
}

/// A row of the page.
pub(super) fn shown_row(key: &Key) -> KeyRow<'_> {
    KeyRow {
        id: &key.id,
        name: &key.name,
        created: super::account::seconds(key.created.seconds()),
        expires: key.expires.map(|at| super::account::seconds(at.seconds())),
    }
}
