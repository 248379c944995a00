//! Session templates: the ways to log in that are enabled, for everybody to see.

use http::StatusCode;
use serde_json::{Value, json};

use super::body::Body;
use super::refuse::Failure;
use super::resource::{BUILT, collection};
use crate::api::{Ask, Core, Reply};
use crate::session::{Caller, Command, Outcome};

/// Name of the method of API keys.
pub(super) const API_KEY: &str = "api-key";
/// Prefix of the id of a template.
const TEMPLATE: &str = "session-template/";

/// A way to log in.
#[derive(Debug)]
pub(super) struct Template {
    /// Name of the core's method; with a prefix the template's id.
    pub(super) method: &'static str,
    /// Names of the two credentials: who, and the secret.
    pub(super) credentials: [&'static str; 2],
    name: &'static str,
    description: &'static str,
    group: &'static str,
    icon: &'static str,
}

/// In the order in which they are shown.
const TEMPLATES: [Template; 2] = [
    Template {
        method: "password",
        credentials: ["username", "password"],
        name: "Password",
        description: "Password Authentication via Username/Password",
        group: "Login with Username/Password",
        icon: "user",
    },
    Template {
        method: API_KEY,
        credentials: ["key", "secret"],
        name: "API Key",
        description: "Authentication with API Key and Secret",
        group: "Login with API key/secret",
        icon: "key",
    },
];

impl Template {
    fn resource(&self, order: usize) -> Value {
        let [name, secret] = self.credentials;
        json!({
            "id": format!("{TEMPLATE}{}", self.method),
            "resource-type": "session-template",
            "resource-metadata": format!("resource-metadata/session-template-{}", self.method),
            "method": self.method,
            "instance": self.method,
            "name": self.name,
            "description": self.description,
            "group": self.group,
            "icon": self.icon,
            "order": order,
            name: name,
            secret: secret,
            "created": BUILT,
            "updated": BUILT,
            "created-by": "internal",
            "acl": {
                "owners": ["group/nuvla-admin"],
                "view-acl": ["group/nuvla-anon"],
                "view-data": ["group/nuvla-anon"],
                "view-meta": ["group/nuvla-anon"],
            },
        })
    }
}

/// The templates whose methods are enabled, with their places.
async fn enabled(core: Core<'_>) -> Result<Vec<(usize, &'static Template)>, Failure> {
    let outcome = core.execute(Command::ListMethods, &Caller::default()).await?;
    let Outcome::Methods(methods) = outcome else { return Err(Failure::unexpected()) };
    let all = TEMPLATES.iter().enumerate();
    Ok(all.filter(|(_, template)| methods.contains(&template.method)).collect())
}

/// The enabled template that a login names.
pub(super) async fn find(href: &str, core: Core<'_>) -> Result<&'static Template, Failure> {
    let id = href.strip_prefix(TEMPLATE).unwrap_or_default();
    let found = enabled(core).await?.into_iter().find(|(_, template)| template.method == id);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    match found {
        Some((_, template)) => Ok(template),
        // Only a name that can be one is repeated.
        None if id.len() <= 64 && !id.is_empty() && id.bytes().all(plain) => {
            Err(Failure::not_found(href))
        }
        None => Err(Failure::not_found("session-template")),
    }
}

/// GET `/session-template/<id>`.
pub(super) async fn one(id: &str, core: Core<'_>) -> Result<Reply, Failure> {
    let found = enabled(core).await?.into_iter().find(|(_, template)| template.method == id);
    let (order, template) = found.ok_or_else(|| Failure::not_found(&format!("{TEMPLATE}{id}")))?;
    Ok(Reply::json(StatusCode::OK, &template.resource(order)))
}

/// GET and PUT `/session-template`.
pub(super) async fn all(ask: &Ask<'_>, body: &Body, core: Core<'_>) -> Result<Reply, Failure> {
    let window = body.window(ask.query);
    let resources = enabled(core).await?;
    let resources: Vec<_> =
        resources.into_iter().map(|(order, template)| template.resource(order)).collect();
    Ok(collection("session-template", "group/nuvla-admin", resources, window, &[]))
}
