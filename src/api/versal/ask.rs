//! What Versal clients ask for: places and bodies.
//!
//! Bodies are JSON whatever their Content-Type says: the API's own examples send it as a form.

use http::{Method, StatusCode};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::{NAME, Whom};
use crate::api::once::Once;
use crate::api::{Ask, Fault};
use crate::secret::Secret;
use crate::session::Credentials;

/// Bound on an id or address, in bytes.
const NAME_LENGTH: usize = 512;

/// A place of this API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// `/user/<id>/partnerkey`.
    NewPartnerKey(&'a str),
    /// `/users/<id>/partnerkey`.
    PartnerKeys(&'a str),
    /// `/session`.
    Session,
    /// `/sessions`.
    Sessions,
    /// `/signin` or `/signin/<id>`.
    SignIn(Option<&'a str>),
    /// `/signout`.
    SignOut,
    /// `/user`.
    User,
}

impl<'a> Place<'a> {
    /// The place at a path below the mount.
    pub(super) fn find(path: &'a str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let place = match (segments.next()?, segments.next(), segments.next()) {
            ("session", None, None) => Self::Session,
            ("sessions", None, None) => Self::Sessions,
            ("signin", None, None) => Self::SignIn(None),
            ("signin", Some(id), None) if !id.is_empty() => Self::SignIn(Some(id)),
            ("signout", None, None) => Self::SignOut,
            ("user", None, None) => Self::User,
            ("user", Some(id), Some("partnerkey")) if !id.is_empty() => Self::NewPartnerKey(id),
            ("users", Some(id), Some("partnerkey")) if !id.is_empty() => Self::PartnerKeys(id),
            _ => return None,
        };
        segments.next().is_none().then_some(place)
    }

    /// The one method that it takes.
    pub(super) fn method(self) -> Method {
        match self {
            Self::Session | Self::User => Method::GET,
            Self::NewPartnerKey(_) | Self::Sessions | Self::SignIn(_) | Self::SignOut => {
                Method::POST
            }
            Self::PartnerKeys(_) => Method::DELETE,
        }
    }
}

/// By what right somebody signs in.
pub(super) enum SignIn {
    /// The user's password.
    Password(Secret),
    /// The key that came as `SID`.
    Partner,
}

fn bad(code: &'static str, detail: impl Into<String>) -> Fault {
    Fault::new(StatusCode::BAD_REQUEST, code, detail)
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_slice(body) {
        Ok(Once(Value::Object(fields))) => Ok(fields),
        // The parser's words would quote what may be a secret.
        _ => Err(bad("malformed-body", "The body must be a JSON object")),
    }
}

/// Whom POST `/sessions` is about. `expiresIn` is looked at and has no effect.
pub(super) fn target(body: &[u8]) -> Result<Whom, Fault> {
    let fields = object(body)?;
    if let Some(wanted) = fields.get("expiresIn")
        && wanted.as_f64().is_none_or(|wanted| wanted < 0.0)
    {
        return Err(bad("bad-field", "Field must have type number: expiresIn"));
    }
    if let Some(id) = fields.get("userId").filter(|id| !id.is_null()) {
        let id = match id {
            Value::String(id) => id.clone(),
            Value::Number(id) if id.is_i64() => id.to_string(),
            _ => return Err(bad("bad-field", "Field must have type string: userId")),
        };
        return Ok(Whom::Alias { dialect: NAME, id: bounded(id, "userId")? });
    }
    match fields.get("email").filter(|email| !email.is_null()) {
        Some(Value::String(email)) => Ok(Whom::Email(bounded(email.clone(), "email")?)),
        Some(_) => Err(bad("bad-field", "Field must have type string: email")),
        None => Err(bad("missing-field", "Missing field: userId or email")),
    }
}

fn bounded(text: String, field: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(bad("missing-field", "Missing field: userId or email"));
    }
    if text.len() > NAME_LENGTH || text.contains(char::is_control) {
        return Err(bad("bad-field", format!("Field is not valid: {field}")));
    }
    Ok(text)
}

/// E-mail address (or login name) and password: JSON, or a form as the oldest clients send it.
pub(super) fn credentials(ask: &Ask<'_>) -> Result<Credentials, Fault> {
    let mut fields = match object(&ask.body) {
        Ok(fields) => fields,
        Err(_) if is_form(&ask.body) => form_urlencoded::parse(&ask.body)
            .take(16)
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect(),
        Err(fault) => return Err(fault),
    };
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        _ => Err(bad("missing-field", "Missing field: email or password")),
    };
    let (identifier, password) = (text("email")?, Secret::new(text("password")?));
    Ok(Credentials::Password { identifier: bounded(identifier, "email")?, password })
}

fn is_form(body: &[u8]) -> bool {
    body.contains(&b'=') && !body.trim_ascii_start().starts_with(b"{")
}

/// What POST `/signin/<id>` rests on.
pub(super) fn password(body: &[u8]) -> Result<SignIn, Fault> {
    if body.trim_ascii().is_empty() {
        return Ok(SignIn::Partner);
    }
    match object(body)?.remove("password") {
        None | Some(Value::Null) => Ok(SignIn::Partner),
        Some(Value::String(password)) => Ok(SignIn::Password(Secret::new(password))),
        Some(_) => Err(bad("bad-field", "Field must have type string: password")),
    }
}
