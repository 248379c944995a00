//! POST `/session`: a login by a template, as JSON or as a form.

use http::StatusCode;
use http::header::{self, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::body::Body;
use super::refuse::Failure;
use super::template::{self, Template};
use super::{Nuvla, same_site};
use crate::api::once::Once;
use crate::api::{Ask, Carrier, Core, Reply};
use crate::secret::Secret;
use crate::session::{Command, Credentials, Outcome, Refusal};

/// Bound on a name, in bytes.
const NAME: usize = 1 << 10;
/// Bound on a secret, in bytes.
const SECRET: usize = 4 << 10;
/// Prefix of the id of an API key.
const CREDENTIAL: &str = "credential/";
/// What a template may hold besides the two credentials.
const COMMON: [&str; 19] = [
    "acl",
    "created",
    "created-by",
    "description",
    "group",
    "hidden",
    "icon",
    "id",
    "name",
    "operations",
    "order",
    "parent",
    "properties",
    "redirect-url",
    "resource-metadata",
    "resource-type",
    "tags",
    "updated",
    "updated-by",
];
const WANTED: &str = "`template` takes `href` and the two credentials that it names, as text; no \
                      keys that a session template does not have";

/// What a login shows, before it is known to be complete.
#[derive(Debug, Default)]
struct Attempt {
    href: Option<String>,
    /// The credentials by their names in the template.
    shown: Vec<(String, Secret)>,
}

/// A login by JSON. What describes the session that is made is read over: the gateway names sessions
/// after devices.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "known keys, so that all others can be refused")]
struct Create {
    template: Once,
    acl: Option<IgnoredAny>,
    created: Option<IgnoredAny>,
    created_by: Option<IgnoredAny>,
    description: Option<String>,
    id: Option<IgnoredAny>,
    name: Option<String>,
    operations: Option<IgnoredAny>,
    parent: Option<IgnoredAny>,
    properties: Option<IgnoredAny>,
    redirect_url: Option<String>,
    resource_metadata: Option<IgnoredAny>,
    resource_type: Option<IgnoredAny>,
    tags: Option<Vec<String>>,
    updated: Option<IgnoredAny>,
    updated_by: Option<IgnoredAny>,
}

impl Attempt {
    fn read(body: &Body) -> Result<Self, Failure> {
        let mut attempt = Self::default();
        if body.is_form() {
            for (name, value) in body.fields()?.0 {
                attempt.take(name, Some(value))?;
            }
            return Ok(attempt);
        }
        let Once(Value::Object(template)) = body.json::<Create>(WANTED)?.template else {
            return Err(Failure::schema(WANTED));
        };
        for (name, value) in template {
            let value = match value {
                Value::String(text) => Some(Secret::new(text)),
                _ => None,
            };
            attempt.take(name, value)?;
        }
        Ok(attempt)
    }

    fn take(&mut self, name: String, value: Option<Secret>) -> Result<(), Failure> {
        if COMMON.contains(&name.as_str()) {
            return Ok(());
        }
        let value = value.ok_or_else(|| Failure::schema(WANTED))?;
        if name == "href" {
            self.href = Some(value.expose().to_owned());
        } else {
            self.shown.push((name, value));
        }
        Ok(())
    }

    /// The values of exactly these two credentials.
    fn two(self, template: &Template) -> Result<(String, Secret), Failure> {
        let [name, secret] = template.credentials;
        let (mut names, mut secrets) = (None, None);
        for (key, value) in self.shown {
            match key {
                key if key == name => names = Some(value),
                key if key == secret => secrets = Some(value),
                _ => return Err(Failure::schema(WANTED)),
            }
        }
        let (Some(name), Some(secret)) = (names, secrets) else {
            return Err(Failure::schema(WANTED));
        };
        let name = name.expose().to_owned();
        if name.is_empty() || name.len() > NAME || secret.expose().len() > SECRET {
            return Err(Failure::schema("a credential is empty or too long"));
        }
        Ok((name, secret))
    }
}

impl Nuvla {
    /// Opens a session. The one that came with the request ends.
    pub(super) async fn login(
        &self,
        ask: &Ask<'_>,
        body: &Body,
        core: Core<'_>,
    ) -> Result<Reply, Failure> {
        // Somebody who is signed in by another site's page would work in another's name.
        same_site(ask)?;
        let attempt = Attempt::read(body)?;
        let href = attempt.href.as_deref().ok_or_else(|| Failure::schema(WANTED))?;
        let template = template::find(href, core).await?;
        let is_key = template.method == template::API_KEY;
        let (name, secret) = attempt.two(template)?;
        let (shown, credentials) = if is_key {
            let id = name.strip_prefix(CREDENTIAL).unwrap_or(&name).to_owned();
            (format!("{CREDENTIAL}{id}"), Credentials::ApiKey { id, secret })
        } else {
            (name.clone(), Credentials::Password { identifier: name, password: secret })
        };
        match core.execute(Command::login(credentials), &ask.caller).await {
            Ok(Outcome::Opened(live, token)) => {
                let id = format!("session/{}", live.identity().session);
                let location = HeaderValue::from_str(&id).map_err(|_| Failure::unexpected())?;
                let status = StatusCode::CREATED;
                let message = format!("{id} created");
                let body =
                    json!({ "status": status.as_u16(), "message": message, "resource-id": id });
                let reply = Reply::json(status, &body).with(header::LOCATION, location);
                Ok(reply.carrying(Carrier::Issue(token)))
            }
            Ok(_) => Err(Failure::unexpected()),
            Err(Refusal::InvalidCredentials) => Err(Failure::invalid_credentials(&shown)),
            Err(refusal) => Err(refusal.into()),
        }
    }
}
