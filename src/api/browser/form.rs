//! Bodies of own routes: forms and JSON, read strictly.
//!
//! No answer repeats what a body held: it may have been a password.

use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderMap};
use percent_encoding::percent_decode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::target;
use crate::api::{Ask, Fault};
use crate::secret::Secret;
use crate::session::Live;

/// Bound on fields of a form.
const FIELDS: usize = 16;
/// Bound on a field, in bytes.
const FIELD: usize = 1 << 10;
/// Bound on a password, in bytes: what 1,024 characters of the page's field can be.
const PASSWORD: usize = 4 << 10;

/// What a body says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Form,
    Json,
    Other,
}

impl Media {
    /// By Content-Type. An empty body without one is an empty form.
    pub(super) fn of(ask: &Ask<'_>) -> Self {
        match essence(ask.headers).as_deref() {
            Some("application/json") => Self::Json,
            Some("application/x-www-form-urlencoded") => Self::Form,
            None if ask.body.is_empty() => Self::Form,
            _ => Self::Other,
        }
    }
}

fn essence(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return Some(String::new());
    }
    let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("");
    Some(essence.trim().to_ascii_lowercase())
}

/// The fault for a body of another kind than `wanted`.
pub(super) fn unsupported(wanted: &str) -> Fault {
    let detail = format!("Send the body as {wanted}, and say so in Content-Type.");
    Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
}

fn malformed(detail: impl Into<String>) -> Fault {
    Fault::new(StatusCode::BAD_REQUEST, "malformed-body", detail)
}

/// The fields of a form. Any may be secret.
#[derive(Debug)]
pub(super) struct Form(Vec<(String, Secret)>);

impl Form {
    /// Reads `application/x-www-form-urlencoded`.
    pub(super) fn read(ask: &Ask<'_>) -> Result<Self, Fault> {
        if Media::of(ask) != Media::Form {
            return Err(unsupported("application/x-www-form-urlencoded"));
        }
        Self::parse(&ask.body)
    }

    /// Reads a form of a page that was made for one user, and is nobody else's to send: two people may use
    /// one browser, and a page of the first may still be open. A form that names nobody is anybody's.
    pub(super) fn of_user(ask: &Ask<'_>) -> Result<Self, Fault> {
        let form = Self::read(ask)?;
        let meant = form.text("user");
        let is_other = |live: &Arc<Live>| live.identity().user != meant;
        if !meant.is_empty() && ask.caller.session.as_ref().is_some_and(is_other) {
            let detail = "This page was opened when somebody else was signed in here. You are signed in as \
                          somebody else now, so nothing was changed.";
            return Err(Fault::new(StatusCode::CONFLICT, "form-of-another-user", detail));
        }
        Ok(form)
    }

    /// Reads a query.
    pub(super) fn of_query(query: Option<&str>) -> Result<Self, Fault> {
        Self::parse(query.unwrap_or("").as_bytes())
    }

    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut fields: Vec<(String, Secret)> = Vec::new();
        for pair in bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if fields.len() >= FIELDS {
                return Err(malformed(format!("The form has more than {FIELDS} fields.")));
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            bounded(&name, FIELD, "the name of a field")?;
            bounded(&value, longest(&name), "a field")?;
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(malformed("A field of the form is given twice."));
            }
            fields.push((name, Secret::new(value)));
        }
        Ok(Self(fields))
    }

    /// A field; empty when it is missing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.expose())
    }

    /// A field that must not be seen; empty when it is missing.
    pub(super) fn secret(&self, name: &str) -> Secret {
        Secret::new(self.text(name).to_owned())
    }
}

fn longest(name: &str) -> usize {
    match name {
        "fragment" => target::LONGEST_FRAGMENT,
        "next" => target::LONGEST,
        "password" => PASSWORD,
        _ => FIELD,
    }
}

fn bounded(text: &str, limit: usize, what: &str) -> Result<(), Fault> {
    if text.len() <= limit {
        return Ok(());
    }
    Err(malformed(format!("The value of {what} is longer than {limit} bytes.")))
}

/// Strict: what is not UTF-8 would otherwise be changed, and a password with it.
fn decode(text: &[u8]) -> Result<String, Fault> {
    let spaced: Vec<u8> =
        text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded = percent_decode(&spaced).decode_utf8();
    decoded.map(Into::into).map_err(|_| malformed("The form is not UTF-8."))
}

/// A login by JSON.
#[derive(Deserialize)]
pub(super) struct LoginBody {
    username: String,
    password: String,
}

impl LoginBody {
    /// Reads `{"username": ..., "password": ...}`; further keys are left alone.
    pub(super) fn read(ask: &Ask<'_>) -> Result<(String, Secret), Fault> {
        let body: Self = json(ask, "an object with the strings `username` and `password`")?;
        let password = Secret::new(body.password);
        bounded(&body.username, FIELD, "`username`")?;
        bounded(password.expose(), PASSWORD, "`password`")?;
        Ok((body.username, password))
    }
}

/// A claim switch by JSON.
#[derive(Deserialize)]
pub(super) struct SwitchBody {
    /// `user/<id>` or `group/<name>`.
    pub(super) claim: String,
    /// Whether the roles include the groups below.
    #[serde(default)]
    pub(super) extended: bool,
}

impl SwitchBody {
    /// Reads `{"claim": ..., "extended": ...}`; further keys are left alone.
    pub(super) fn read(ask: &Ask<'_>) -> Result<Self, Fault> {
        let body: Self = json(ask, "an object with the string `claim` and, if wanted, `extended`")?;
        bounded(&body.claim, FIELD, "`claim`")?;
        Ok(body)
    }
}

/// A key to make, by JSON.
#[derive(Deserialize)]
pub(super) struct KeyBody {
    /// What it is for.
    #[serde(default)]
    pub(super) name: String,
    /// How long it lives, such as `90d`.
    #[serde(default)]
    pub(super) expires: Option<String>,
}

impl KeyBody {
    /// Reads `{"name": ..., "expires": ...}`; further keys are left alone.
    pub(super) fn read(ask: &Ask<'_>) -> Result<Self, Fault> {
        let body: Self = json(ask, "an object with, if wanted, the strings `name` and `expires`")?;
        bounded(&body.name, FIELD, "`name`")?;
        Ok(body)
    }
}

fn json<T: DeserializeOwned>(ask: &Ask<'_>, shape: &str) -> Result<T, Fault> {
    if Media::of(ask) != Media::Json {
        return Err(unsupported("application/json"));
    }
    // Lists pass for objects, too: values in the order of their names.
    let first = ask.body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|first| *first != b'{') {
        return Err(malformed(format!("The body is not {shape} (line 1, column 1).")));
    }
    serde_json::from_slice(&ask.body).map_err(|error| {
        // The parser's own words can hold the value that it stumbled over.
        let (line, column) = (error.line(), error.column());
        malformed(format!("The body is not {shape} (line {line}, column {column})."))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_are_decoded() {
        let form =
            Form::parse(b"username=J%C3%BCrgen+M&password=a%2Bb%26%3D&&empty=&bare").unwrap();
        assert_eq!(form.text("username"), "Jürgen M");
        assert_eq!(form.secret("password").expose(), "a+b&=");
        assert_eq!((form.text("empty"), form.text("bare"), form.text("missing")), ("", "", ""));
        assert!(!format!("{form:?}").contains("a+b"));
    }

    #[test]
    fn forms_are_strict_and_bounded() {
        let long = format!("username={}", "a".repeat(FIELD + 1));
        let many: String = (0..=FIELDS).map(|n| format!("a{n}=&")).collect();
        for bad in ["a=%ff", "%ff=a", "a=1&a=2", "a=1&%61=2", long.as_str(), many.as_str()] {
            assert_eq!(Form::parse(bad.as_bytes()).unwrap_err().status, StatusCode::BAD_REQUEST);
        }
        let password = format!("password={}", "%F0%9F%94%91".repeat(1024));
        assert!(Form::parse(password.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn what_a_browser_encodes_comes_back(name in "[a-z]{1,9}", value in "\\PC{0,200}") {
            let text: String =
                url::form_urlencoded::Serializer::new(String::new()).append_pair(&name, &value).finish();
            let form = Form::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(form.text(&name), value);
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::parse(&bytes);
        }
    }
}
